"""Convolutions whose outputs are averaged in 2x2 squares, as matrix products; and which networks are written out.

LeNet-5 is made of them. As products many networks of one size are one operation, as perceptrons are in `helpers.dense`.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers import blas, dense

SQUARES, FLATTEN = nn.AvgPool2d(2), nn.Flatten()


class Averaged(dense.Full):
    """A convolution (k x k, k odd, stride 1), an activation, the mean of 2x2 squares: for images (N, batch, h, w, c).

    A row is a window of pixels, and the matrix gives all the outputs that depend on it alone: the four of a square, in
    a first layer those of 2x2 squares. So a pixel is copied much less often than for each output by itself. For finite
    numbers it is what torch gives: in a run that has diverged, what is infinite in one output becomes NaN in others.
    """

    at_once = 128, 32

    def __init__(self, conv: nn.Conv2d, act: type, first: bool, last: bool):
        super().__init__(act)
        self.k, self.padding, self.outputs = conv.kernel_size[0], conv.padding[0], conv.out_channels
        self.is_first, self.is_last = first, last

    def first(self, x: Tensor) -> Tensor:
        return x.movedim(2, -1)

    def _squares(self, h: Tensor) -> tuple[int, int, int]:
        """How many squares there are, up and across; and how many of each in a window."""
        y, x = ((side + 2 * self.padding - self.k + 1) // 2 for side in h.shape[2:4])
        return y, x, 2 if self.is_first and y % 2 == x % 2 == 0 else 1

    def rows(self, h: Tensor) -> Tensor:
        n, shared = len(h), h.stride(0) == 0  # one batch that all models read is copied once
        images = (h[:1] if shared else h).flatten(0, 1)
        if self.padding:
            images = F.pad(images, (0, 0, *[self.padding] * 4))
        index = _windows(*images.shape[1:], self.k, self._squares(h)[2], images.device)
        rows = images.flatten(1).index_select(1, index.flatten())
        return rows.view(1 if shared else n, -1, index.shape[1]).expand(n, -1, -1)

    def rows_backward(self, d: Tensor, h: Tensor) -> Tensor:
        n, batch, height, width, c = h.shape
        half, (y, x, _) = (self.k + 1) // 2, self._squares(h)
        # windows overlap in steps of two pixels: half by half blocks of 2x2 pixels, each added at its place
        blocks, wide = d.view(n * batch, y, x, half, 2, half, 2 * c), x + half - 1
        images = d.new_zeros(n * batch, y + half - 1, 2, wide, 2 * c)
        for i in range(half):
            for j in range(half):
                images[:, i : i + y, :, j : j + x] += blocks[:, :, :, i, :, j].transpose(2, 3)
        images = images.view(n * batch, -1, 2 * wide, c)
        low, beyond = self.padding, [side + self.padding for side in (height, width)]
        images = F.pad(images, (0, 0, -low, beyond[1] - images.shape[2], -low, beyond[0] - images.shape[1]))
        return images.view(h.shape)

    def matrix(self, weight: Tensor, bias: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        n, outputs, c, k, _ = weight.shape
        side = 2 * self._squares(h)[2]
        matrix = weight.new_zeros(n, side, side, outputs, k + side - 1, k + side - 1, c)
        self._placed(matrix).copy_(weight.permute(0, 1, 3, 4, 2)[:, None, None])
        return matrix.view(n, side**2 * outputs, -1), bias.repeat(1, side**2)

    def matrix_backward(self, d: Tensor, rows: Tensor, weight_grad: Tensor, bias_grad: Tensor) -> None:
        n, outputs, c, k, _ = weight_grad.shape
        side = math.isqrt(d.shape[2] // outputs)
        grads = blas.product(d.mT, rows).view(n, side, side, outputs, k + side - 1, k + side - 1, c)
        weight_grad.copy_(self._placed(grads).sum((1, 2)).permute(0, 1, 4, 2, 3))
        torch.sum(d.sum(1).view(n, -1, outputs), 1, out=bias_grad)

    def _placed(self, matrix: Tensor) -> Tensor:
        """The view (n, y, x, outputs, k, k, c) of the weights in a matrix: those of output (y, x) lie y, x further."""
        n, up, across, outputs, row, pixel, channel = matrix.stride()
        shape = (*matrix.shape[:4], self.k, self.k, matrix.shape[-1])
        return matrix.as_strided(shape, (n, up + row, across + pixel, outputs, row, pixel, channel))

    def pooled(self, out: Tensor, h: Tensor) -> Tensor:
        n, batch, (y, x, s) = *h.shape[:2], self._squares(h)
        mean = blas.product(out, _mean(self.outputs, s, out.dtype, out.device).expand(n, -1, -1))
        mean = mean.view(n, batch, y // s, x // s, s, s, self.outputs).transpose(3, 4)
        if self.is_last:  # channel after channel, as nn.Flatten puts them
            return mean.reshape(n, batch, y * x, self.outputs).mT.flatten(2)
        return mean.reshape(n, batch, y, x, self.outputs)

    def pooled_backward(self, d: Tensor, h: Tensor) -> Tensor:
        n, batch, (y, x, s) = *h.shape[:2], self._squares(h)
        if self.is_last:
            d = d.view(n, batch, self.outputs, y * x).mT
        d = d.reshape(n, batch, y // s, s, x // s, s, self.outputs).transpose(3, 4).reshape(n, -1, s * s * self.outputs)
        return blas.product(d, _mean(self.outputs, s, d.dtype, d.device).mT.expand(n, -1, -1))


@functools.lru_cache
def _windows(height: int, width: int, c: int, k: int, squares: int, device: torch.device) -> Tensor:
    """Where the windows lie in an image (h, w, c): indices (windows, pixels of a window * c)."""
    at, side = torch.arange(height * width * c, device=device).view(height, width, c), k - 1 + 2 * squares
    windows = at.unfold(0, side, 2 * squares).unfold(1, side, 2 * squares)  # (y, x, c, side, side)
    return windows.permute(0, 1, 3, 4, 2).flatten(2).flatten(0, 1).contiguous()


@functools.lru_cache
def _mean(outputs: int, squares: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(1, 4 means, means): from the outputs in a window to their means in squares."""
    means = torch.eye(squares**2 * outputs, dtype=dtype, device=device).view(squares, squares, outputs, -1) / 4
    return means.repeat_interleave(2, 0).repeat_interleave(2, 1).flatten(0, 2).unsqueeze(0)


def _same(layer: nn.Module, other: nn.Module) -> bool:
    """Whether two layers without parameters are of one kind and do the same."""
    return type(layer) is type(other) and all(getattr(layer, k) == getattr(other, k) for k in layer.__constants__)


def layers(model: nn.Module) -> list[dense.Full]:
    """The layers of a model that can be written out here: perceptrons, and LeNets that average; else an empty list."""
    parts, found = list(model) if isinstance(model, nn.Sequential) else [None], []
    while parts and type(parts[0]) is nn.Conv2d and len(parts) > 3:
        conv, act, pool, *parts = parts
        plain = (conv.stride, conv.dilation, conv.groups, conv.padding_mode) == ((1, 1), (1, 1), 1, "zeros")
        square = len({*conv.kernel_size}) == len({*conv.padding}) == conv.kernel_size[0] % 2 == 1
        if not (plain and square and conv.bias is not None and type(act) in dense.ACTIVATIONS and _same(pool, SQUARES)):
            return []
        found.append(Averaged(conv, type(act), first=not found, last=_same(parts[0], FLATTEN)))
    if found and not found[-1].is_last:
        return []
    parts = parts[1:] if parts and _same(parts[0], FLATTEN) else parts
    while parts and type(parts[0]) is nn.Linear and parts[0].bias is not None:
        told = len(parts) > 1 and type(parts[1]) in dense.ACTIVATIONS
        act, parts = type(parts[1]) if told else nn.Identity, parts[1 + told :]
        found.append(dense.Full(act))
    return found if found and not parts and type(found[-1]) is dense.Full and act is nn.Identity else []
