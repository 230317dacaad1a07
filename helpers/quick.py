"""Convolutional networks on a CPU: the same layers, through kernels of torch that are faster there.

Average pooling is a matrix product with a constant, a strided 1x1 convolution is a plain one on thinned images, and
images with many channels keep them side by side in memory. The tests hold each of them equal to torch's own layer, for
finite numbers: in a run that has diverged, the product turns one infinite pixel into a row of NaN.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROWS = 128  # images that are evaluated at once: of more, what a layer gives does not stay in the cache


class Sequential(nn.Sequential):
    """Evaluates few images at a time."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training or len(x) <= ROWS:
            return super().forward(x)
        return torch.cat([super(Sequential, self).forward(part) for part in x.split(ROWS)])


class AvgPool2d(nn.AvgPool2d):
    """The mean of 2x2 squares: a product, because torch's own loop over pixels takes four times as long."""

    def forward(self, x: Tensor) -> Tensor:
        *outer, height, width = x.shape
        told = self.kernel_size, self.stride, self.padding, self.divisor_override
        if told != (2, 2, 0, None) or height % 2 or width % 2:
            return super().forward(x)
        rows = x.reshape(-1, 2 * width) @ _squares(width, x.dtype, x.device)
        return rows.view(*outer, height // 2, width // 2)


@functools.lru_cache
def _squares(width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(2 width, width / 2): from two rows of an image, one after the other, to the means of their 2x2 squares."""
    with torch.inference_mode(False):  # it is kept, and may meet autograd later
        return torch.eye(width // 2, dtype=dtype, device=device).repeat_interleave(2, 0).repeat(2, 1) / 4


class Conv2d(nn.Conv2d):
    """With the channels side by side in memory where that is faster; a strided 1x1 convolution on thinned images."""

    channels_last = False

    def forward(self, x: Tensor) -> Tensor:
        if self.channels_last:
            x = channels_last(x)
        if self.kernel_size == (1, 1) and self.padding == (0, 0) and self.stride != (1, 1):
            # the gradient of the others is nothing, and torch's kernel works for it
            return F.conv2d(F.avg_pool2d(x, 1, self.stride), self.weight, self.bias)
        return super().forward(x)


def channels_last(x: Tensor) -> Tensor:
    """Images (n, c, h, w) with their channels side by side in memory; what is computed from them is laid out alike."""
    n, c, h, w = x.shape
    if c == 1:  # torch takes these for both layouts, and would go on with the other one
        return x.contiguous().as_strided(x.shape, (h * w, 1, w, 1))
    return x.contiguous(memory_format=torch.channels_last)


QUICK = {nn.AvgPool2d: AvgPool2d, nn.Conv2d: Conv2d}


def quicken(model: nn.Module) -> nn.Module:
    """Let the layers of a convolutional network compute as above, in place; names and parameters stay."""
    layers = list(model.modules())
    if any(type(layer) is nn.Conv2d for layer in layers):
        for layer in layers:
            layer.__class__ = QUICK.get(type(layer), type(layer))
            if type(layer) is Conv2d:  # the product that pools takes rows of pixels
                layer.channels_last = not any(type(other) in (nn.AvgPool2d, AvgPool2d) for other in layers)
        if type(model) is nn.Sequential:
            model.__class__ = Sequential
    return model
