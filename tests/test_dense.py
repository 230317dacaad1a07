"""The passes written out for stacks of perceptrons, against autograd on ordinary modules."""

from __future__ import annotations

import pytest
import torch

from helpers import dense, losses, models, stacks


def members(activation="tanh", n=3, depth=2):
    torch.manual_seed(0)
    return [models.mlp((5,), 4, depth=depth, width=6, activation=activation).double() for _ in range(n)]


def same_as_alone(models_, x, y, rtol=0.0) -> stacks.Stack:
    """The stack of these models, whose logits and gradients are seen to be those of each by itself under autograd."""
    stack = stacks.Stack(models_)
    stack.train()
    logits = stack(x)
    losses.cross_entropy(logits, y).sum().backward()
    for i, model in enumerate(models_):
        alone = model(x[i])
        torch.testing.assert_close(logits[i], alone, atol=1e-13, rtol=rtol)
        losses.cross_entropy(alone, y[i]).backward()
        for ours, p in zip(stack.split(stack.flat.grad), model.parameters(), strict=True):
            torch.testing.assert_close(ours[i], p.grad, atol=1e-13, rtol=rtol)
    return stack


def test_every_activation_of_the_book_has_its_derivative():
    assert set(dense.ACTIVATIONS) == set(models.ACTIVATIONS.values())


@pytest.mark.parametrize("activation", models.ACTIVATIONS)
def test_logits_and_gradients_are_those_of_autograd(activation, batch):
    same_as_alone(members(activation), *batch)


def test_gradients_of_two_passes_add_up(batch):
    x, y = batch
    stack = stacks.Stack(members())
    stack.train()
    losses.cross_entropy(stack(x), y).sum().backward()
    once = stack.flat.grad.clone()
    losses.cross_entropy(stack(x), y).sum().backward()
    torch.testing.assert_close(stack.flat.grad, 2 * once)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_cross_entropy_and_its_gradient_are_those_of_autograd(smoothing):
    torch.manual_seed(2)
    logits = (30 * torch.randn(3, 7, 4, dtype=torch.float64)).requires_grad_()
    y = torch.randint(0, 4, (3, 7))
    want = losses.cross_entropy(logits, y, smoothing)
    want.sum().backward()
    values, d = dense.cross_entropy(logits.detach(), y, smoothing)
    torch.testing.assert_close(values, want.detach(), atol=1e-12, rtol=0)
    torch.testing.assert_close(d, logits.grad, atol=1e-13, rtol=0)


def test_a_model_without_numbers_left_leaves_its_neighbours_alone(batch):
    x, y = batch
    stack = stacks.Stack(members())
    with torch.no_grad():
        stack.views()[0][1] = torch.nan
    direct = stacks.Direct(stack, 0.0)
    direct.train()
    losses_ = direct.loss(direct(x), y)
    losses_.sum().backward()
    assert losses_.detach().isnan().tolist() == [False, True, False]
    for grad in stack.split(stack.flat.grad):
        assert grad[[0, 2]].isfinite().all()


def test_the_views_follow_when_a_stack_moves():
    stack = stacks.Stack(members())
    stack.views()
    stack.to(torch.float32)
    assert stack.views()[0].dtype == torch.float32
    assert stack.views()[0].data_ptr() == stack.flat.data_ptr()
