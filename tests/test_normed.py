"""Normalization, dropout and residual blocks written out for stacks, against autograd on ordinary modules."""

from __future__ import annotations

import pytest
import torch
from test_dense import same_as_alone
from torch import nn

from helpers import blocks, losses, models, stacks


def members(n=3, **options):
    torch.manual_seed(0)
    found = [models.mlp((5,), 4, depth=3, width=8, activation="tanh", **options).double() for _ in range(n)]
    for i, model in enumerate(found):
        for k, layer in enumerate(model.modules()):
            if isinstance(layer, blocks.Dropout):
                layer.key.fill_(100 * i + k)
            elif type(layer) in (nn.BatchNorm1d, nn.LayerNorm, nn.GroupNorm):
                with torch.no_grad():
                    layer.weight.uniform_(0.5, 2), layer.bias.normal_()
    return found


@pytest.mark.parametrize("norm", blocks.NORMS)
@pytest.mark.parametrize("shortcut", blocks.SHORTCUTS)
def test_logits_and_gradients_are_those_of_autograd(norm, shortcut, batch):
    # a group of two features has a spread near nothing in some rows, which makes rounding large
    same_as_alone(members(norm=norm, shortcut=shortcut), *batch, rtol=1e-9)


def test_normalization_after_the_activation(batch):
    same_as_alone(members(norm="batch", norm_place="after"), *batch)


@pytest.mark.parametrize("shortcut", ["none", "preactivation"])
def test_dropout_has_the_masks_of_each_network_in_every_pass(shortcut, batch):
    models_ = members(dropout=0.4, shortcut=shortcut)
    same_as_alone(models_, *batch)
    stack, x = stacks.Stack(models_).train(), batch[0]
    for _ in range(2):  # each pass counts, here and there
        torch.testing.assert_close(stack(x), torch.stack([m(part) for m, part in zip(models_, x, strict=True)]))


def test_running_statistics_follow_and_serve_evaluation(batch):
    x, models_ = batch[0], members(norm="batch")
    stack = stacks.Stack(models_)
    for step in range(3):
        stack.train()(x + step)
        for model, part in zip(models_, x, strict=True):
            model.train()(part + step)
    for i, model in enumerate(models_):
        for name, value in model.named_buffers():
            torch.testing.assert_close(stack.buffers_by_name()[name][i], value, atol=1e-12, rtol=0)
    many = torch.randn(500, 5, dtype=torch.float64)  # more rows than are evaluated at once
    before = stack.slice_of(0)
    torch.testing.assert_close(stack.eval()(many), torch.stack([m.eval()(many) for m in models_]), atol=1e-12, rtol=0)
    assert all(torch.equal(value, before[name]) for name, value in stack.slice_of(0).items())


@pytest.mark.parametrize("options", [{"norm": "batch"}, {"norm": "group"}, {"dropout": 0.4}], ids=str)
def test_gradients_in_evaluation_are_those_of_autograd(options, batch):
    x, y = batch[0][0], batch[1][0]
    models_ = members(**options)
    stack = stacks.Stack(models_)
    stack.train()(batch[0])
    for model, part in zip(models_, batch[0], strict=True):
        model.train()(part)
    losses.cross_entropy(stack.eval()(x), y.expand(3, -1)).sum().backward()
    for i, model in enumerate(models_):
        losses.cross_entropy(model.eval()(x), y).backward()
        for ours, p in zip(stack.split(stack.flat.grad), model.parameters(), strict=True):
            torch.testing.assert_close(ours[i], p.grad, atol=1e-13, rtol=0)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.ELU])
def test_blocks_whose_ways_end_with_an_activation(activation, batch):
    """Layers write into what they are given; two ways that read the same must not see each other's traces."""

    def net():
        ways = [nn.Sequential(nn.Linear(6, 6), activation()) for _ in range(2)]
        block = [blocks.Residual(*ways, activation()), blocks.Residual(activation(), nn.Identity(), nn.Identity())]
        return nn.Sequential(nn.Linear(5, 6), *block, activation(), nn.Linear(6, 4)).double()

    torch.manual_seed(2)
    stack = same_as_alone([net() for _ in range(3)], *batch)
    assert len(stack.chain) == 5


def test_a_network_without_numbers_left_leaves_its_neighbours_alone(batch):
    x, y = batch
    stack = stacks.Stack(members(norm="batch", shortcut="identity"))
    with torch.no_grad():
        stack.views()[0][1] = torch.nan
    direct = stacks.Direct(stack, 0.0)
    direct.train()
    found = direct.loss(direct(x), y)
    found.sum().backward()
    assert found.detach().isfinite().tolist() == [True, False, True]
    assert stack.flat.grad.isfinite().all(1).tolist() == [True, False, True]
