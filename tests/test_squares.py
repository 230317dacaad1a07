"""Convolutions that are averaged in squares, written out as products: against torch; and which networks are."""

from __future__ import annotations

import pytest
import torch
from test_dense import same_as_alone
from torch import nn

from helpers import blocks, dense, models, squares, stacks


def test_which_models_are_written_out():
    for model, acts in (
        (models.mlp((5,), 4, depth=2, activation="elu"), [nn.ELU, nn.ELU, nn.Identity]),
        (models.mlp((1, 8, 8), 10, depth=0), [nn.Identity]),
        (models.lenet5((1, 28, 28), 10, activation="tanh"), [nn.Tanh] * 4 + [nn.Identity]),
    ):
        found = [(layer.act, layer.act_backward) for layer in squares.layers(model)]
        assert found == [dense.ACTIVATIONS[a] for a in acts]
    others = [
        models.mlp((5,), 4, norm="batch"), models.mlp((5,), 4, dropout=0.1),
        models.mlp((5,), 4, depth=3, shortcut="identity"),
        models.lenet5((1, 28, 28), 10, pool="max"), models.lenet5((1, 28, 28), 10, norm="batch"),
        models.lenet5((1, 28, 28), 10, dropout=0.5), models.cnn((1, 8, 8), 10), models.rnn((5, 3), 2), nn.Linear(5, 4),
        nn.Sequential(nn.Linear(5, 4, bias=False)), nn.Sequential(nn.Linear(5, 4), nn.ReLU()),
        nn.Sequential(nn.ReLU(), nn.Linear(5, 4)), nn.Sequential(nn.Linear(5, 4), blocks.Dropout(0.5), nn.Linear(4, 2)),
    ]  # fmt: skip
    assert [squares.layers(m) for m in others] == [[]] * len(others)


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


def test_a_network_that_only_looks_like_a_lenet_is_left_to_torch():
    def net(conv=None, pool=None, between=(), end=None):
        conv, pool = conv or nn.Conv2d(1, 2, 3), pool or nn.AvgPool2d(2)
        return nn.Sequential(conv, nn.ReLU(), *between, pool, *(end or [nn.Flatten(), nn.Linear(18, 4)]))

    assert len(squares.layers(net())) == 2
    for other in (
        net(nn.Conv2d(1, 2, 2)), net(nn.Conv2d(1, 2, (3, 5))), net(nn.Conv2d(1, 2, 3, stride=2)),
        net(nn.Conv2d(1, 2, 3, padding=(1, 0))), net(nn.Conv2d(1, 2, 3, dilation=2)), net(nn.Conv2d(2, 2, 3, groups=2)),
        net(nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect")), net(nn.Conv2d(1, 2, 3, bias=False)),
        net(nn.Conv2d(1, 2, 3, padding="same")), net(pool=nn.AvgPool2d(3)), net(pool=nn.AvgPool2d(2, stride=1)),
        net(pool=nn.AvgPool2d(2, padding=1)), net(pool=nn.AvgPool2d(2, ceil_mode=True)), net(pool=nn.MaxPool2d(2)),
        net(pool=nn.AvgPool2d(2, count_include_pad=False, padding=1)), net(pool=nn.AvgPool2d(2, divisor_override=3)),
        net(between=[nn.BatchNorm2d(2)]), net(end=[nn.Linear(3, 4)]), net(end=[nn.Flatten()]),
        net(end=[nn.Flatten(0), nn.Linear(18, 4)]), net(end=[nn.Flatten(), nn.Dropout(), nn.Linear(18, 4)]),
    ):  # fmt: skip
        assert squares.layers(other) == [], other


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
