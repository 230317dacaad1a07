"""Dropout, normalization and residual blocks, against what their papers say and against torch's own layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers import blocks

P = 0.3


def dropout(p=P, key=7):
    layer = blocks.Dropout(p).train()
    layer.key.fill_(key)
    return layer


def test_dropout_gives_zero_or_the_rescaled_entry():
    x = torch.randn(40, 25, dtype=torch.float64)
    out = dropout()(x)
    kept = out != 0
    torch.testing.assert_close(out[kept], (x / (1 - P))[kept])
    assert 0 < kept.sum() < x.numel()


def test_dropout_keeps_the_mean_and_drops_its_share():
    out = dropout()(torch.ones(1000, 100))  # 100,000 draws: the sd of the share is 0.0014
    assert (out == 0).double().mean().item() == pytest.approx(P, abs=0.01)
    assert out.mean().item() == pytest.approx(1, abs=0.015)


def test_dropout_masks_differ_between_calls_rows_and_keys_and_repeat_by_key():
    layer, twin, other, x = dropout(), dropout(), dropout(key=8), torch.ones(50, 40)
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    assert len({tuple(row) for row in first.tolist()}) == len(x)
    assert torch.equal(twin(x), first) and torch.equal(twin(x), second)
    assert not torch.equal(other(x), first)
    assert layer.calls.item() == 2


def test_dropout_masks_of_neighbours_are_uncorrelated():
    kept = (dropout(0.5)(torch.ones(2000, 50)) != 0).double()
    r = torch.corrcoef(kept.T)
    assert (r - torch.eye(50)).abs().max() < 0.12  # sd of one correlation 0.022, of 1,225 pairs
    both = torch.stack([kept[:-1].flatten(), kept[1:].flatten()])
    assert torch.corrcoef(both)[0, 1].abs() < 0.02


def test_dropout_does_nothing_in_evaluation_and_with_p_0():
    x = torch.randn(5, 4)
    assert torch.equal(dropout().eval()(x), x)
    assert torch.equal(dropout(0.0)(x), x)


def test_hashed_stays_in_range_looks_uniform_and_repeats():
    numbers = blocks.hashed(torch.arange(100_000))
    assert numbers.min() >= 0 and numbers.max() < 2**32
    assert len(numbers.unique()) == len(numbers)  # a bijection of 32 bits
    counts = torch.bincount((numbers >> 28).long(), minlength=16)
    expected = len(numbers) / 16
    assert ((counts - expected).square() / expected).sum() < 50  # chi-square with 15 degrees of freedom
    assert torch.equal(numbers, blocks.hashed(torch.arange(100_000)))


def test_hashed_of_one_by_hand():
    x = 1
    x = (x ^ (x >> 16)) * 0x7FEB352D % 2**32
    x = (x ^ (x >> 15)) * 0x846CA68B % 2**32
    assert blocks.hashed(torch.tensor(1)).item() == x ^ (x >> 16)


@pytest.mark.parametrize(
    ("norm", "dims", "same"),
    [("batch", 1, nn.BatchNorm1d(8)), ("batch", 2, nn.BatchNorm2d(8)), ("layer", 1, nn.LayerNorm(8)),
     ("layer", 2, nn.GroupNorm(1, 8)), ("group", 1, nn.GroupNorm(4, 8)), ("group", 2, nn.GroupNorm(4, 8))],
)  # fmt: skip
def test_normalization_is_torch_s(norm, dims, same):
    x = 3 + 2 * torch.randn((6, 8) if dims == 1 else (6, 8, 5, 5))
    (layer,) = blocks.normalization(norm, 8, dims)
    torch.testing.assert_close(layer.train()(x), same.train()(x))
    over = {"batch": (0, 2, 3)[: 2 * dims - 1], "layer": (1, 2, 3)[: 2 * dims - 1]}.get(norm)
    if over:
        torch.testing.assert_close(layer(x).mean(over), torch.zeros(8 if norm == "batch" else 6), atol=1e-5, rtol=0)


def test_normalization_off_odd_widths_and_unknown():
    assert blocks.normalization("none", 8, 1) == []
    assert blocks.normalization("group", 6, 2)[0].num_groups == 2  # as many of the 4 as divide 6
    with pytest.raises(ValueError, match="norm='bach' is not known; .* Did you mean 'batch'"):
        blocks.normalization("bach", 8, 1)


def linear(a, b, stride=1, size=3):
    return nn.Linear(a, b)


def conv(a, b, stride=1, size=3):
    return nn.Conv2d(a, b, size, stride=stride, padding=size // 2)


def make(shortcut, inputs=6, outputs=6, **more):
    return blocks.block(linear, inputs, outputs, act=nn.ReLU, norm="none", shortcut=shortcut, dims=1, **more)


@pytest.mark.parametrize("shortcut", blocks.SHORTCUTS)
@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(4, 4, 1), (4, 8, 2)])
def test_block_shapes(shortcut, inputs, outputs, stride):
    made = blocks.block(
        conv, inputs, outputs, act=nn.ReLU, norm="batch", shortcut=shortcut, dims=2, stride=stride,
        drop=[blocks.Dropout(0.5)],
    )  # fmt: skip
    assert made(torch.randn(3, inputs, 8, 8)).shape == (3, outputs, 8 // stride, 8 // stride)
    assert sum(isinstance(m, blocks.Dropout) for m in made.modules()) == 1
    assert isinstance(made, blocks.Residual) == (shortcut != "none")


def test_residual_adds_what_it_says():
    x = torch.randn(5, 6)
    made = blocks.Residual(nn.Linear(6, 6), nn.Linear(6, 6), nn.ReLU())
    torch.testing.assert_close(made(x), torch.relu(made.branch(x) + made.shortcut(x)))


def test_a_shortcut_is_the_identity_only_where_shapes_allow():
    assert len(make("identity").shortcut) == 0 and len(make("projection").shortcut) == 1
    assert len(make("identity", outputs=7).shortcut) == 1
    assert isinstance(make("preactivation").shortcut, nn.Identity)


@pytest.mark.parametrize("shortcut", ["identity", "preactivation"])
def test_a_branch_at_zero_leaves_the_shortcut(shortcut):
    made, x = make(shortcut), torch.randn(5, 6)
    for m in made.modules():
        if isinstance(m, nn.Linear):
            nn.init.zeros_(m.bias)
    assert not torch.allclose(made(x), x)
    blocks.scale_branches(made, 0.0)
    torch.testing.assert_close(made(x), torch.relu(x) if shortcut == "identity" else x)


def test_scale_branches_scales_the_last_normalization_and_nothing_else():
    made = blocks.block(linear, 6, 6, act=nn.ReLU, norm="batch", shortcut="identity", dims=1)
    before = {k: v.clone() for k, v in made.named_parameters()}
    blocks.scale_branches(made, 0.5)
    changed = [k for k, v in made.named_parameters() if not torch.equal(v, before[k])]
    assert changed == ["branch.4.weight"]  # linear, norm, act, linear, norm
    assert torch.equal(made.branch[4].weight, before["branch.4.weight"] * 0.5)


def test_unknown_shortcut():
    with pytest.raises(ValueError, match="shortcut='identiti' is not known; .* Did you mean 'identity'"):
        make("identiti")
