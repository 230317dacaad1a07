"""Normalization, dropout and residual blocks of N perceptrons at once, written out as in `helpers.dense`.

Each has `forward` and `backward` as `dense.Full` has them. What comes in is left as it is: a shortcut may read it too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from helpers import dense
from helpers.blocks import hashed
from helpers.dense import State

native_layer_norm_backward = torch.ops.aten.native_layer_norm_backward


class Act:
    """An activation by itself."""

    def __init__(self, act: type):
        self.act, self.act_backward = dense.ACTIVATIONS[act]

    def forward(self, h: Tensor, state: State) -> tuple[Tensor, Tensor]:
        out = self.act(h.clone())
        return out, out

    def backward(self, d: Tensor, out: Tensor, grads: list[Tensor], first: bool) -> Tensor:
        return self.act_backward(d, out)


class Batch(Act):
    """Batch normalization of h (N, batch, features) over the batch, and an activation (Ioffe & Szegedy 2015).

    Its parameters are scale and shift (N, features); its buffers the running mean and variance, and how many batches.
    """

    def __init__(self, at: int, buffer: int, layer: nn.BatchNorm1d, act: type):
        super().__init__(act)
        self.at, self.buffer, self.eps, self.momentum = at, buffer, layer.eps, layer.momentum

    def forward(self, h: Tensor, state: State) -> tuple[Tensor, tuple]:
        scale, shift = (p.unsqueeze(1) for p in state.values[self.at : self.at + 2])
        running_mean, running_var, batches = state.buffers[self.buffer : self.buffer + 3]
        mean = h.mean(1) if state.training else running_mean
        h = h - mean.unsqueeze(1)
        var = h.square().mean(1) if state.training else running_var
        if state.training:
            rows = h.shape[1]
            running_mean.lerp_(mean, self.momentum)
            running_var.lerp_(var * (rows / max(rows - 1, 1)), self.momentum)  # unbiased, as torch keeps it
            batches.add_(1)
        inverse = (var + self.eps).rsqrt_().unsqueeze(1)
        h *= inverse
        out = self.act(torch.addcmul(shift, h, scale))
        return out, (h, inverse * scale, out, state.training)

    def backward(self, d: Tensor, kept: tuple, grads: list[Tensor], first: bool) -> Tensor:
        h, slope, out, training = kept
        d = self.act_backward(d, out)
        scale_grad, shift_grad = grads[self.at : self.at + 2]
        torch.sum(d * h, 1, out=scale_grad)
        torch.sum(d, 1, out=shift_grad)
        if not training:
            return d * slope
        # mean and variance depend on the batch: what they pass on is the gradient's mean, and its share along h
        rows = d.shape[1]
        along = torch.addcmul(d, h, scale_grad.unsqueeze(1), value=-1 / rows)
        return along.sub_(shift_grad.unsqueeze(1), alpha=1 / rows).mul_(slope)


class Groups(Act):
    """Normalization over groups of the features of each row, and an activation (Wu & He 2018).

    One group is layer normalization (Ba et al. 2016). Its parameters are scale and shift (N, features).
    """

    def __init__(self, at: int, layer: nn.LayerNorm | nn.GroupNorm, act: type):
        super().__init__(act)
        self.at, self.eps, self.groups = at, layer.eps, getattr(layer, "num_groups", 1)

    def forward(self, h: Tensor, state: State) -> tuple[Tensor, tuple]:
        scale, shift = (p.unsqueeze(1) for p in state.values[self.at : self.at + 2])
        groups = h.unflatten(-1, (self.groups, -1))
        even, mean, inverse = torch.native_layer_norm(groups, groups.shape[-1:], None, None, self.eps)
        even = even.flatten(-2)
        out = self.act(torch.addcmul(shift, even, scale))
        return out, (groups, mean, inverse, even, scale, out)

    def backward(self, d: Tensor, kept: tuple, grads: list[Tensor], first: bool) -> Tensor:
        groups, mean, inverse, even, scale, out = kept
        d = self.act_backward(d, out)
        torch.sum(d * even, 1, out=grads[self.at])
        torch.sum(d, 1, out=grads[self.at + 1])
        of_even, only = (d * scale).view(groups.shape), [True, False, False]
        shape = groups.shape[-1:]
        return native_layer_norm_backward(of_even, groups, shape, mean, inverse, None, None, only)[0].flatten(-2)


class Dropout:
    """`blocks.Dropout` of each network: the same masks, from its own share, key and number of calls."""

    def __init__(self, buffer: int):
        self.buffer = buffer

    def forward(self, h: Tensor, state: State) -> tuple[Tensor, Tensor | None]:
        if not state.training:
            return h, None
        p, key, calls = (b.view(-1, 1, 1) for b in state.buffers[self.buffer : self.buffer + 3])
        calls.add_(1)
        places = torch.arange(h[0].numel(), device=h.device).view(h.shape[1:])
        keep = hashed(places + hashed(key + hashed(calls))) >= (p * 2**32).long()
        factor = keep / (1 - p).to(h.dtype)
        return h * factor, factor

    def backward(self, d: Tensor, factor: Tensor, grads: list[Tensor], first: bool) -> Tensor:
        return d if factor is None else d * factor


class Added(Act):
    """A residual block: out = act(branch(h) + shortcut(h)), both of them lists of layers; an empty one is h itself."""

    def __init__(self, branch: list, shortcut: list, act: type):
        super().__init__(act)
        self.branch, self.shortcut = branch, shortcut

    def forward(self, h: Tensor, state: State) -> tuple[Tensor, tuple]:
        one, kept = dense.forward(h, state, self.branch)
        other, kept_too = dense.forward(h, state, self.shortcut)
        out = self.act(one + other)
        return out, (kept, kept_too, out)

    def backward(self, d: Tensor, kept: tuple, grads: list[Tensor], first: bool) -> Tensor:
        kept, kept_too, out = kept
        d = self.act_backward(d, out)
        one = dense.backward(d.clone(), kept, grads, self.branch, False)  # layers may write into what they are given
        return one + dense.backward(d, kept_too, grads, self.shortcut, False)
