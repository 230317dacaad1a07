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
