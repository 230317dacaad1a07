"""The parts that networks are made of and that this book tests: dropout, normalization, residual blocks."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from helpers import checks

NORMS = ("none", "batch", "layer", "group")
SHORTCUTS = ("none", "identity", "projection", "preactivation")
GROUPS = 4  # of group normalization; fewer where the width is not a multiple of 4


def hashed(x: Tensor) -> Tensor:
    """Integers that look random, below 2**32, from integers (Wellons's `lowbias32`): same input, same output."""
    x = x & 0xFFFFFFFF
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return x ^ (x >> 16)


class Dropout(nn.Module):
    """Inverted dropout (Srivastava et al. 2014): in training each entry is 0 with probability p, else x / (1 - p).

    The mask is a hash of (key, call, position) and no draw from a shared generator, so that a model has the same
    masks alone and in a stack. `key` is set per model, `calls` counts the training passes.
    """

    def __init__(self, p: float):
        super().__init__()
        checks.number("p", p, low=0, below=1, try_="0.5")
        self.register_buffer("p", torch.tensor(float(p), dtype=torch.float64))
        self.register_buffer("key", torch.tensor(0))
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        self.calls.add_(1)
        places = torch.arange(x.numel(), device=x.device).view(x.shape)
        keep = hashed(places + hashed(self.key + hashed(self.calls))) >= (self.p * 2**32).long()
        return x * keep / (1 - self.p).to(x.dtype)


def normalization(norm: str, features: int, dims: int) -> list[nn.Module]:
    """The layer for (n, features) with dims=1 or (n, features, h, w) with dims=2, as a list; empty for "none".

    "batch": Ioffe & Szegedy 2015, over the batch. "layer": Ba et al. 2016 and "group": Wu & He 2018, over the
    features of one example.
    """
    checks.one_of("norm", norm, NORMS)
    checks.integer("features", features, low=1), checks.integer("dims", dims, low=1, high=2)
    if norm == "none":
        return []
    if norm == "batch":
        return [nn.BatchNorm1d(features) if dims == 1 else nn.BatchNorm2d(features)]
    if norm == "layer" and dims == 1:
        return [nn.LayerNorm(features)]
    return [nn.GroupNorm(1 if norm == "layer" else math.gcd(GROUPS, features), features)]


class Residual(nn.Module):
    """y = after(shortcut(x) + branch(x)) (He et al. 2016); `after` is the activation, or nothing (He et al. 2016b)."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module, after: nn.Module):
        super().__init__()
        for name, part in (("branch", branch), ("shortcut", shortcut), ("after", after)):
            checks.kind(name, part, nn.Module, "an nn.Module, such as nn.Identity()")
        self.branch, self.shortcut, self.after = branch, shortcut, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.shortcut(x) + self.branch(x))


def block(layer, inputs: int, outputs: int, *, act, norm: str, shortcut: str, dims: int, stride: int = 1, drop=()):
    """Two weight layers with the shortcut asked for around them; "none" gives the plain stack of the same layers.

    `layer(inputs, outputs, stride, size)` makes a weight layer, where size=1 is the projection of a shortcut.
    `drop` is a list with a dropout layer, or empty; it stands between the two.
    """
    checks.one_of("shortcut", shortcut, SHORTCUTS)
    checks.function("layer", layer, "nn.Linear"), checks.function("act", act, "nn.ReLU")
    for name, value in (("inputs", inputs), ("outputs", outputs), ("stride", stride)):
        checks.integer(name, value, low=1)
    for part in checks.several("drop", drop, "[Dropout(0.5)]", empty=True):
        checks.kind("drop", part, nn.Module, "a list of layers, such as [Dropout(0.5)]")
    first, second = layer(inputs, outputs, stride, 3), layer(outputs, outputs, 1, 3)
    if shortcut == "preactivation":
        before = [*normalization(norm, inputs, dims), act()]
        branch = [*before, first, *normalization(norm, outputs, dims), act(), *drop, second]
        same = inputs == outputs and stride == 1
        way = nn.Identity() if same else layer(inputs, outputs, stride, 1)
        return Residual(nn.Sequential(*branch), way, nn.Identity())
    branch = [first, *normalization(norm, outputs, dims), act(), *drop, second, *normalization(norm, outputs, dims)]
    if shortcut == "none":
        return nn.Sequential(*branch, act())
    same = shortcut == "identity" and inputs == outputs and stride == 1
    way = [] if same else [layer(inputs, outputs, stride, 1), *normalization(norm, outputs, dims)]
    return Residual(nn.Sequential(*branch), nn.Sequential(*way), act())


@torch.no_grad()
def scale_branches(model: nn.Module, factor: float) -> None:
    """Multiply the last weights of every residual branch, in place; 0 makes each block start as its shortcut.

    Those are the scale of the last normalization where the branch ends with one (Goyal et al. 2017), else the last
    weight layer (Zhang et al. 2019).
    """
    checks.kind("model", model, nn.Module, "an nn.Module, such as models.build(...)")
    checks.number("factor", factor, low=0, try_="0.0")
    for part in model.modules():
        if isinstance(part, Residual):
            [m for m in part.branch if getattr(m, "weight", None) is not None][-1].weight.mul_(factor)
