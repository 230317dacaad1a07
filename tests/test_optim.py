"""The written-out updates are the torch.optim ones."""

from types import SimpleNamespace

import pytest
import torch

from helpers import optim
from helpers.recipe import DEFAULTS


@pytest.mark.parametrize("name", optim.UPDATES)
def test_written_out_equals_torch(name):
    torch.manual_seed(0)
    a = torch.randn(5, 5, dtype=torch.float64)
    decay = {"weight_decay": 0.1} if name == "adamw" else {}
    w, s = torch.randn(5, dtype=torch.float64), {}
    p = w.clone().requires_grad_()
    mover = optim.make(name, [p], SimpleNamespace(**{**DEFAULTS, "lr": 0.03, **decay}))
    for _ in range(50):
        mover.zero_grad()
        (0.5 * (a @ p - 1).square().sum()).backward()
        g = a.T @ (a @ w - 1)
        w = optim.UPDATES[name](w, g, s, 0.03, **decay)
        mover.step()
    torch.testing.assert_close(w, p.detach(), atol=1e-12, rtol=1e-10)


def test_every_written_out_update_trains_too():
    assert set(optim.UPDATES) == set(optim.OPTIMIZERS)


def test_weight_decay_is_l2_for_sgd_and_decoupled_for_adamw():
    def after(name, decay):
        p = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
        mover = optim.make(name, [p], SimpleNamespace(**{**DEFAULTS, "lr": 0.1, "weight_decay": decay}))
        (3 * p).sum().backward()
        mover.step()
        return p.item()

    assert after("sgd", 0.5) == pytest.approx(2 - 0.1 * (3 + 0.5 * 2))
    assert after("adamw", 0.5) == pytest.approx(2 * (1 - 0.1 * 0.5) - 0.1)
    assert after("adam", 0.5) == pytest.approx(2 - 0.1)  # the penalty disappears in the division


def test_unknown_optimizer():
    with pytest.raises(ValueError, match="optimizer='adamm' is not known; .* Did you mean 'adam"):
        optim.make("adamm", [torch.zeros(1, requires_grad=True)], SimpleNamespace())


def l1_options(step, lr=0.1, l1=0.5):
    return SimpleNamespace(**{**DEFAULTS, "lr": lr, "l1": l1, "l1_step": step})


def test_l1_by_gradient_is_the_autograd_of_the_penalty():
    start = torch.tensor([2.0, -1.0, 0.01], dtype=torch.float64)
    p, w = (start.clone().requires_grad_() for _ in range(2))
    mover = optim.make("sgd", [p], l1_options("gradient"))
    (p**2).sum().backward()
    mover.step()
    ((w**2).sum() + 0.5 * w.abs().sum()).backward()
    torch.testing.assert_close(p.detach(), start - 0.1 * w.grad)


def test_l1_by_proximal_step_is_the_soft_threshold_after_the_step():
    start = torch.tensor([2.0, -1.0, 0.04, -0.04], dtype=torch.float64)
    p = start.clone().requires_grad_()
    mover = optim.make("sgd", [p], l1_options("proximal"))
    (3 * p[0]).backward()
    mover.step()  # the gradient step moves the first to 1.7; then all go 0.05 towards zero
    torch.testing.assert_close(p.detach(), torch.tensor([1.65, -0.95, 0.0, 0.0], dtype=torch.float64))
    assert (p[2:] == 0).all()


def test_soft_threshold_by_hand():
    w = torch.tensor([-2.0, -0.5, 0.0, 0.3, 1.0])
    torch.testing.assert_close(optim.soft_threshold(w, 0.5), torch.tensor([-1.5, 0.0, 0.0, 0.0, 0.5]))
    assert torch.equal(optim.soft_threshold(w, 0.0), w)


def test_l1_steps_end_at_the_lasso_of_one_weight():
    for slope, end in ((3.0, 2.5), (0.4, 0.0)):  # min (w - slope)²/2 + 0.5 |w|: the soft threshold of the slope
        p = torch.tensor([5.0], dtype=torch.float64, requires_grad=True)
        mover = optim.make("sgd", [p], l1_options("proximal"))
        for _ in range(300):
            mover.zero_grad()
            (0.5 * (p - slope).square().sum()).backward()
            mover.step()
        assert p.item() == pytest.approx(end, abs=1e-9)


def test_unknown_l1_step():
    with pytest.raises(ValueError, match="l1_step='proximate' is not known; .* Did you mean 'proximal'"):
        optim.make("sgd", [torch.zeros(1, requires_grad=True)], l1_options("proximate"))
