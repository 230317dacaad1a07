"""Convolutions that are averaged in squares, written out as products: against torch."""

from __future__ import annotations

import pytest
import torch
from test_dense import same_as_alone
from torch import nn

from helpers import dense, squares, stacks

LENETS = [
    # (channels, height, width), then kernel, padding and outputs of each convolution
    ((1, 12, 12), (5, 2, 3), (5, 0, 2)), ((3, 9, 14), (3, 0, 4)), ((2, 7, 8), (3, 2, 2), (3, 1, 3), (1, 0, 2)),
    ((1, 8, 6), (5, 1, 2)), ((4, 6, 7), (1, 1, 3)),
]  # fmt: skip


def lenet(shape, *convolutions, act=nn.ReLU):
    parts, x = [], torch.zeros(1, *shape)
    for kernel, padding, outputs in convolutions:
        parts += [nn.Conv2d(x.shape[1], outputs, kernel, padding=padding), act(), nn.AvgPool2d(2)]
        x = nn.Sequential(*parts[-3:])(x)
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(x.numel(), 5), act(), nn.Linear(5, 4)).double()


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Softsign])
@pytest.mark.parametrize("shape", LENETS, ids=str)
def test_convolutions_that_are_averaged_are_those_of_torch(shape, activation):
    torch.manual_seed(0)
    models_ = [lenet(*shape, act=activation) for _ in range(3)]
    x, y = torch.randn(3, 6, *shape[0], dtype=torch.float64), torch.randint(0, 4, (3, 6))
    stack = same_as_alone(models_, x, y)
    assert [type(layer) for layer in stack.chain] == [squares.Averaged] * len(shape[1:]) + [dense.Full] * 2
    stack.eval()  # all read one batch, of more images than are evaluated at once
    many = torch.randn(150, *shape[0], dtype=torch.float64)
    torch.testing.assert_close(stack(many), torch.stack([m(many) for m in models_]), atol=1e-13, rtol=0)


def test_a_network_without_numbers_left_leaves_its_neighbours_alone():
    torch.manual_seed(1)
    stack = stacks.Stack([lenet(*LENETS[0]) for _ in range(3)])
    with torch.no_grad():
        stack.views()[0][1] = torch.inf
    direct = stacks.Direct(stack, 0.0)
    direct.train()
    found = direct.loss(direct(torch.randn(3, 6, 1, 12, 12, dtype=torch.float64)), torch.randint(0, 4, (3, 6)))
    found.sum().backward()
    assert found.detach().isfinite().tolist() == [True, False, True]
    for grad in stack.split(stack.flat.grad):
        assert grad[[0, 2]].isfinite().all() and grad[[0, 2]].any()


def test_what_one_training_keeps_serves_another_under_autograd():
    squares._places.cache_clear()
    models_ = [lenet(*LENETS[0]) for _ in range(2)]
    x, y = torch.randn(2, 6, 1, 12, 12, dtype=torch.float64), torch.randint(0, 4, (2, 6))
    with torch.inference_mode():  # as a stack trains under cross-entropy
        stacks.Stack(models_).train()(x)
    same_as_alone(models_, x, y)
