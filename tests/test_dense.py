"""The passes written out for stacks of perceptrons, against autograd on ordinary modules."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers import blocks, dense, losses, models, squares, stacks


def members(activation="tanh", n=3, depth=2):
    torch.manual_seed(0)
    return [models.mlp((5,), 4, depth=depth, width=6, activation=activation).double() for _ in range(n)]


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 7, 5, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, 4, (3, 7), generator=generator)


def test_every_activation_of_the_book_has_its_derivative():
    assert set(dense.ACTIVATIONS) == set(models.ACTIVATIONS.values())


def test_which_models_are_plain_chains():
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


@pytest.mark.parametrize("activation", models.ACTIVATIONS)
def test_logits_and_gradients_are_those_of_autograd(activation, batch):
    x, y = batch
    models_ = members(activation)
    stack = stacks.Stack(models_)
    stack.train()
    logits = stack(x)
    losses.cross_entropy(logits, y).sum().backward()
    for i, model in enumerate(models_):
        alone = model(x[i])
        torch.testing.assert_close(logits[i], alone, atol=1e-13, rtol=0)
        losses.cross_entropy(alone, y[i]).backward()
        for ours, p in zip(stack.split(stack.flat.grad), model.parameters(), strict=True):
            torch.testing.assert_close(ours[i], p.grad, atol=1e-13, rtol=0)


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
    stack = stacks.Stack(models_)
    assert [type(layer) for layer in stack.chain] == [squares.Averaged] * len(shape[1:]) + [dense.Full] * 2
    stack.train()
    logits = stack(x)
    losses.cross_entropy(logits, y).sum().backward()
    for i, model in enumerate(models_):
        alone = model(x[i])
        torch.testing.assert_close(logits[i], alone, atol=1e-13, rtol=0)
        losses.cross_entropy(alone, y[i]).backward()
        for ours, p in zip(stack.split(stack.flat.grad), model.parameters(), strict=True):
            torch.testing.assert_close(ours[i], p.grad, atol=1e-13, rtol=0)
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
