"""Convolutions whose outputs are averaged in 2x2 squares, as matrix products; and which networks are written out.

LeNet-5 is made of them. As products many networks of one size are one operation, as perceptrons are in `helpers.dense`.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers import blas, dense

FOUR = ((0, 0), (0, 1), (1, 0), (1, 1))  # the outputs in a square
SQUARES, FLATTEN = nn.AvgPool2d(2), nn.Flatten()


class Averaged(dense.Full):
    """A convolution (k x k, k odd, stride 1), an activation, the mean of 2x2 squares: for images (N, batch, h, w, c).

    One row for each square: the window of k + 1 by k + 1 pixels that its four outputs depend on. The matrix gives the
    four at once, so a pixel is copied a quarter as often as for each output by itself. For finite numbers it is what
    torch gives: in a run that has diverged, what is infinite in one output becomes NaN in its neighbours.
    """

    at_once = 128, 32

    def __init__(self, conv: nn.Conv2d, act: type, last: bool):
        super().__init__(act)
        self.k, self.padding, self.last, self.outputs = conv.kernel_size[0], conv.padding[0], last, conv.out_channels

    def first(self, x: Tensor) -> Tensor:
        return x.movedim(2, -1)

    def rows(self, h: Tensor) -> Tensor:
        n, shared = len(h), h.stride(0) == 0  # one batch that all models read is copied once
        images = (h[:1] if shared else h).flatten(0, 1)
        if self.padding:
            images = F.pad(images, (0, 0, *[self.padding] * 4))
        index = _windows(*images.shape[1:], self.k, images.device)
        rows = images.flatten(1).index_select(1, index.flatten())
        return rows.view(len(h[:1]) if shared else n, -1, index.shape[1]).expand(n, -1, -1)

    def rows_backward(self, d: Tensor, h: Tensor) -> Tensor:
        n, batch, height, width, c = h.shape
        half, (y, x) = (self.k + 1) // 2, self._squares(h)
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

    def matrix(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        n, outputs, c, k, _ = weight.shape
        matrix = weight.new_zeros(n, 2, 2, outputs, k + 1, k + 1, c)
        for y, x in FOUR:
            matrix[:, y, x, :, y : y + k, x : x + k] = weight.permute(0, 1, 3, 4, 2)
        return matrix.view(n, 4 * outputs, -1), bias.repeat(1, 4)

    def matrix_backward(self, d: Tensor, rows: Tensor, weight_grad: Tensor, bias_grad: Tensor) -> None:
        n, outputs, c, k, _ = weight_grad.shape
        four = blas.product(d.mT, rows).view(n, 2, 2, outputs, k + 1, k + 1, c)
        total = sum(four[:, y, x, :, y : y + k, x : x + k] for y, x in FOUR)
        weight_grad.copy_(total.permute(0, 1, 4, 2, 3))
        torch.sum(d.sum(1).view(n, 4, outputs), 1, out=bias_grad)

    def pooled(self, out: Tensor, h: Tensor) -> Tensor:
        n, batch = h.shape[:2]
        mean = blas.product(out, _mean(self.outputs, out.dtype, out.device).expand(n, -1, -1))
        if self.last:  # channel after channel, as nn.Flatten puts them
            return mean.view(n, batch, -1, self.outputs).mT.flatten(2)
        return mean.view(n, batch, *self._squares(h), self.outputs)

    def pooled_backward(self, d: Tensor) -> Tensor:
        n, batch = d.shape[:2]
        if self.last:
            d = d.view(n, batch, self.outputs, -1).mT
        d = d.reshape(n, -1, self.outputs)
        return blas.product(d, _mean(self.outputs, d.dtype, d.device).mT.expand(n, -1, -1))

    def _squares(self, h: Tensor) -> tuple[int, int]:
        return tuple((side + 2 * self.padding - self.k + 1) // 2 for side in h.shape[2:4])


@functools.lru_cache
def _windows(height: int, width: int, c: int, k: int, device: torch.device) -> Tensor:
    """Where the windows of the squares lie in an image (h, w, c): indices (squares, (k + 1) * (k + 1) * c)."""
    at = torch.arange(height * width * c, device=device).view(height, width, c)
    windows = at.unfold(0, k + 1, 2).unfold(1, k + 1, 2)  # (y, x, c, k + 1, k + 1)
    return windows.permute(0, 1, 3, 4, 2).flatten(2).flatten(0, 1).contiguous()


@functools.lru_cache
def _mean(outputs: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(1, 4 outputs, outputs): from the four outputs in a square to their mean."""
    with torch.inference_mode(False):  # it is kept, and may meet autograd later
        return torch.eye(outputs, dtype=dtype, device=device).repeat(4, 1).unsqueeze(0) / 4


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
        found.append(Averaged(conv, type(act), last=_same(parts[0], FLATTEN)))
    if found and not found[-1].last:
        return []
    parts = parts[1:] if parts and _same(parts[0], FLATTEN) else parts
    while parts and type(parts[0]) is nn.Linear and parts[0].bias is not None:
        told = len(parts) > 1 and type(parts[1]) in dense.ACTIVATIONS
        act, parts = type(parts[1]) if told else nn.Identity, parts[1 + told :]
        found.append(dense.Full(act))
    return found if found and not parts and type(found[-1]) is dense.Full and act is nn.Identity else []
