"""The forward and backward pass of N networks at once, written out.

A stack of perceptrons is a chain of batched matrix products, so its gradient needs no machinery: one product more for
each layer on the way back. A step takes a fraction of the time that autograd under vmap does. The tests hold it equal
to the ordinary loop. `helpers.written` says which networks are written out.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from helpers import blas

aten = torch.ops.aten
# Each activation as (in place on z, d times its derivative, in place on d), the derivative from the output h itself.
ACTIVATIONS = {
    nn.Identity: (lambda z: z, lambda d, h: d),
    nn.ReLU: (torch.relu_, lambda d, h: aten.threshold_backward.grad_input(d, h, 0, grad_input=d)),
    nn.LeakyReLU: (aten.leaky_relu_, lambda d, h: aten.leaky_relu_backward(d, h, 0.01, True)),
    nn.ELU: (aten.elu_, lambda d, h: aten.elu_backward(d, 1, 1, 1, True, h)),
    nn.Tanh: (torch.tanh_, lambda d, h: aten.tanh_backward.grad_input(d, h, grad_input=d)),
    nn.Sigmoid: (torch.sigmoid_, lambda d, h: aten.sigmoid_backward.grad_input(d, h, grad_input=d)),
    nn.Softsign: (lambda z: z.div_(z.abs() + 1), lambda d, h: d * (1 - h.abs()).square_()),
}


class State(NamedTuple):
    """What the layers of N networks read: parameters (N, ...) and buffers (N, ...) in a network's own order."""

    values: list[Tensor]
    buffers: list[Tensor]
    training: bool


class Full:
    """A fully connected layer: out = act(rows @ matrix.T + bias), for rows (N, batch, in).

    `at` is the place of its first parameter among all of a network's: weight (N, out, in), then bias (N, out).
    """

    at_once = 1024, 64  # rows of all models that are evaluated together, to stay in the cache, and at least of each

    def __init__(self, at: int, act: type):
        self.at, (self.act, self.act_backward) = at, ACTIVATIONS[act]

    def forward(self, h: Tensor, state: State) -> tuple[Tensor, tuple]:
        """The outputs for the inputs h, and what `backward` needs."""
        rows, (matrix, shift) = self.rows(h), self.matrix(*state.values[self.at : self.at + 2], h)
        out = self.act(blas.product(rows, matrix.mT).add_(shift.unsqueeze(1)))
        return self.pooled(out, h), (h, rows, matrix, out)

    def backward(self, d: Tensor, kept: tuple, grads: list[Tensor], first: bool) -> Tensor | None:
        """Write the parameters' gradients, from that of the outputs; return that of the inputs, unless `first`."""
        h, rows, matrix, out = kept
        d = self.act_backward(self.pooled_backward(d, h), out)
        self.matrix_backward(d, rows, *grads[self.at : self.at + 2])
        return None if first else self.rows_backward(blas.product(d, matrix), h)

    def read(self, x: Tensor) -> Tensor:
        """The data (N, batch, ...) as a first layer of this kind reads them."""
        return x.flatten(2)

    def rows(self, h: Tensor) -> Tensor:
        """What the matrix multiplies: the layer's inputs themselves."""
        return h

    def rows_backward(self, d: Tensor, h: Tensor) -> Tensor:
        return d

    def matrix(self, weight: Tensor, bias: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return weight, bias

    def matrix_backward(self, d: Tensor, rows: Tensor, weight_grad: Tensor, bias_grad: Tensor) -> None:
        blas.product(d.mT, rows, weight_grad)
        torch.sum(d, 1, out=bias_grad)

    def pooled(self, out: Tensor, h: Tensor) -> Tensor:
        """What the next layer reads."""
        return out

    def pooled_backward(self, d: Tensor, h: Tensor) -> Tensor:
        return d


@blas.quiet()
def forward(h: Tensor, state: State, layers: list) -> tuple[Tensor, list]:
    """What the last of some layers gives for the inputs h (N, batch, ...) of the first, and what `backward` needs."""
    kept = []
    for layer in layers:
        h, needed = layer.forward(h, state)
        kept.append(needed)
    return h, kept


@blas.quiet()
def backward(d: Tensor, kept: list, grads: list[Tensor], layers: list, first: bool = True) -> Tensor | None:
    """Write the gradients into `grads` (laid out as the parameters), from that of the last outputs, d (N, batch, ...).

    Returns that of the inputs, unless the layers are a network's first, which reads the data.
    """
    for i in reversed(range(len(layers))):
        d = layers[i].backward(d, kept[i], grads, first and i == 0)
    return d


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """The mean cross-entropy (N,) as `losses` has it, and its gradient (N, batch, classes): softmax minus label."""
    where, top = labels.unsqueeze(-1), logits.amax(-1, keepdim=True)
    d = (logits - top).exp_()
    total = d.sum(-1, keepdim=True)
    right = logits.gather(-1, where)
    if smoothing:
        right = (1 - smoothing) * right + smoothing * logits.mean(-1, keepdim=True)
    rows = labels.shape[-1]
    d /= total * rows
    if smoothing:
        d -= smoothing / (rows * logits.shape[-1])
    d.scatter_add_(-1, where, logits.new_full((), (smoothing - 1) / rows).expand(where.shape))
    return total.log_().add_(top).sub_(right).mean((-2, -1)), d


class Chain(torch.autograd.Function):
    """The same for autograd: logits from x (N, batch, ...) and `flat`, the one tensor that holds all parameters.

    The state's values are views of it, and `split` gives such views of its gradient.
    """

    @staticmethod
    def forward(ctx, x: Tensor, flat: Tensor, state: State, split, layers: list) -> Tensor:
        logits, ctx.kept = forward(layers[0].read(x), state, layers)
        ctx.split, ctx.layers, ctx.shape = split, layers, flat.shape
        return logits

    @staticmethod
    def backward(ctx, d: Tensor):
        flat = d.new_empty(ctx.shape)
        backward(d, ctx.kept, ctx.split(flat), ctx.layers)
        return None, flat, None, None, None
