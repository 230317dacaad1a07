"""Convolutions whose outputs are averaged in 2x2 squares, as matrix products.

LeNet-5 is made of them. As products many networks of one size are one operation, as perceptrons are in `helpers.dense`.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers import blas, dense


class Averaged(dense.Full):
    """A convolution (k x k, k odd, stride 1), an activation, the mean of 2x2 squares.

    It reads blocks (N, batch, up, across, c) of pixels with their channels side by side: of 2x2 pixels, and in a first
    layer single ones. A row is a window of them, and the matrix gives all the outputs that depend on it alone: the four
    of a square, in a first layer those of 2x2 squares, whose means are a block of the next layer. So a pixel is copied
    much less often than for each output by itself. For finite numbers it is what torch gives: in a run that has
    diverged, what is infinite in one output becomes NaN in others.
    """

    at_once = 128, 32

    def __init__(self, at: int, conv: nn.Conv2d, act: type, before: Averaged | None):
        super().__init__(at, act)
        self.k, self.padding, self.outputs = conv.kernel_size[0], conv.padding[0], conv.out_channels
        self.block, self.next = 2 if before else 1, None  # pixels across a block; the layer that reads the means
        if before:
            before.next = self

    def read(self, x: Tensor) -> Tensor:
        n, batch = x.shape[:2]
        images = (x[:1] if x.stride(0) == 0 else x).flatten(0, 1)  # one batch that all models read is copied once
        return self._blocks(images.movedim(1, -1)).unflatten(0, (-1, batch)).expand(n, -1, -1, -1, -1)

    def _margins(self, height: int, width: int) -> list[int]:
        """What to add to images on all sides, as F.pad takes it: their padding, less what no square reads."""
        read = ((side + 2 * self.padding - self.k + 1) // 2 * 2 + self.k - 1 for side in (width, height))
        ends = (total - side - self.padding for total, side in zip(read, (width, height), strict=True))
        return [0, 0, *(margin for end in ends for margin in (self.padding, end))]

    def _blocks(self, images: Tensor) -> Tensor:
        """Images (m, h, w, c) as the blocks (m, up, across, c) that this layer reads."""
        images = F.pad(images, self._margins(*images.shape[1:3])).contiguous()
        m, height, width, c = images.shape
        if self.block == 1:
            return images
        squares = images.view(m, height // 2, 2, width // 2, 2, c).transpose(2, 3)
        return squares.reshape(m, height // 2, width // 2, 4 * c)

    def _blocks_backward(self, d: Tensor, height: int, width: int) -> Tensor:
        m, up, across, wide = d.shape
        images = d.view(m, up, across, 2, 2, wide // 4).transpose(2, 3).reshape(m, 2 * up, 2 * across, wide // 4)
        return F.pad(images, [-margin for margin in self._margins(height, width)])

    def _squares(self, h: Tensor) -> tuple[int, int, int]:
        """How many squares there are, up and across; and how many of each in a window."""
        y, x = ((blocks * self.block - self.k + 1) // 2 for blocks in h.shape[2:4])
        return y, x, 2 if self.block == 1 and y % 2 == x % 2 == 0 else 1

    def rows(self, h: Tensor) -> Tensor:
        n, (y, x, s) = len(h), self._squares(h)
        h = h[:1] if h.stride(0) == 0 else h
        (model, image, line, block, _), step = h.stride(), 2 * s // self.block
        side = step + (self.k - 1) // self.block
        shape = *h.shape[:2], y // s, x // s, side, side * h.shape[-1]
        windows = h.as_strided(shape, (model, image, step * line, step * block, line, 1))
        return windows.reshape(len(h), -1, side * shape[-1]).expand(n, -1, -1)

    def rows_backward(self, d: Tensor, h: Tensor) -> Tensor:
        n, batch, up, across, wide = h.shape
        (y, x, _), side = self._squares(h), self.k // 2 + 1
        windows, blocks = d.view(n * batch, y, x, side, side, wide), d.new_zeros(n * batch, up, across, wide)
        for i in range(side):
            for j in range(side):
                blocks[:, i : i + y, j : j + x] += windows[:, :, :, i, j]
        return blocks.view(h.shape)

    def matrix(self, weight: Tensor, bias: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        n, outputs, c, k, _ = weight.shape
        side = 2 * self._squares(h)[2]
        which, _ = _places(outputs, c, k, side, self.block, weight.device)
        entries = torch.cat([weight.flatten(1), weight.new_zeros(n, 1)], 1).index_select(1, which)
        return entries.view(n, side**2 * outputs, -1), bias.repeat(1, side**2)

    def matrix_backward(self, d: Tensor, rows: Tensor, weight_grad: Tensor, bias_grad: Tensor) -> None:
        n, outputs, c, k, _ = weight_grad.shape
        _, places = _places(outputs, c, k, math.isqrt(d.shape[2] // outputs), self.block, d.device)
        entries = blas.product(d.mT, rows).flatten(1).index_select(1, places)
        torch.sum(entries.view(n, -1, *weight_grad.shape[1:]), 1, out=weight_grad)
        torch.sum(d.sum(1).view(n, -1, outputs), 1, out=bias_grad)

    def pooled(self, out: Tensor, h: Tensor) -> Tensor:
        n, batch, (y, x, s) = *h.shape[:2], self._squares(h)
        one, two, three, four = out.unflatten(2, (4, -1)).unbind(2)
        mean = (one + two).add_(three).add_(four).div_(4).view(n, batch, y // s, x // s, s, s, self.outputs)
        if self._gives_blocks(s):
            return mean.flatten(4)
        images = mean.transpose(3, 4).reshape(n * batch, y, x, self.outputs)
        if self.next:
            return self.next._blocks(images).unflatten(0, (n, batch))
        return images.view(n, batch, -1, self.outputs).mT.flatten(2)  # channel after channel, as nn.Flatten puts them

    def pooled_backward(self, d: Tensor, h: Tensor) -> Tensor:
        n, batch, (y, x, s) = *h.shape[:2], self._squares(h)
        if not self._gives_blocks(s):
            if self.next:
                d = self.next._blocks_backward(d.flatten(0, 1), y, x)
            else:
                d = d.view(n, batch, self.outputs, -1).mT
            d = d.reshape(n, batch, y // s, s, x // s, s, self.outputs).transpose(3, 4)
        return (d.reshape(n, -1, s * s * self.outputs) / 4).repeat(1, 1, 4)

    def _gives_blocks(self, s: int) -> bool:
        """Whether the means of a window are a block of the next layer, as they are."""
        return s == 2 and self.next is not None and not self.next.padding


@functools.lru_cache
def _places(outputs: int, c: int, k: int, side: int, block: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Which weight stands where in a matrix for side x side positions: for each entry, and for each weight, position by
    position. Both count from 0; an entry that is always 0 is "weight" outputs * c * k * k.
    """
    pixels = side + k - 1
    window = torch.arange(pixels**2 * c, device=device).view(*[pixels // block] * 2, block, block, c)
    window = window.transpose(1, 2).reshape(pixels, pixels, c).unfold(0, k, 1).unfold(1, k, 1)  # (y, x, c, k, k)
    # what is averaged stands a quarter of the lines apart: the first corners of all squares, then the second, ...
    lines = torch.arange(side**2 * outputs, device=device).view(2, 2, side // 2, side // 2, outputs)
    lines = lines.permute(2, 0, 3, 1, 4).reshape(side, side, outputs, 1, 1, 1)
    places = (lines * pixels**2 * c + window.unsqueeze(2)).flatten()
    weights = outputs * c * k * k
    which = torch.full((side**2 * outputs * pixels**2 * c,), weights, device=device)
    which[places] = torch.arange(weights, device=device).repeat(side**2)
    return which, places
