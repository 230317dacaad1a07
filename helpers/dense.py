"""The forward and backward pass of N networks at once, written out.

A stack of perceptrons is a chain of batched matrix products, so its gradient needs no machinery: one product more for
each layer on the way back. A step takes a fraction of the time that autograd under vmap does. The tests hold it equal
to the ordinary loop. `helpers.squares` says which networks are written out.
"""

from __future__ import annotations

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


class Full:
    """A fully connected layer: out = act(rows @ matrix.T + bias), for rows (N, batch, in)."""

    at_once = 1024, 64  # rows of all models that are evaluated together, to stay in the cache, and at least of each

    def __init__(self, act: type):
        self.act, self.act_backward = ACTIVATIONS[act]

    def first(self, x: Tensor) -> Tensor:
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
def forward(x: Tensor, values: list[Tensor], layers: list[Full]) -> tuple[Tensor, list]:
    """The logits (N, batch, classes) for x (N, batch, features) or (N, batch, c, h, w), and what `backward` needs.

    `values` are the parameters of N networks: weight (N, out, in) and bias (N, out) of the first layer, ...
    """
    h, kept = layers[0].first(x), []
    for weight, bias, layer in zip(values[::2], values[1::2], layers, strict=True):
        rows, (matrix, shift) = layer.rows(h), layer.matrix(weight, bias, h)
        out = layer.act(blas.product(rows, matrix.mT).add_(shift.unsqueeze(1)))
        kept.append((h, rows, matrix, out))
        h = layer.pooled(out, h)
    return h, kept


@blas.quiet()
def backward(d: Tensor, kept: list, grads: list[Tensor], layers: list[Full]) -> None:
    """Write the gradients into `grads` (laid out as the parameters), from that of the logits, d (N, batch, classes)."""
    for i in reversed(range(len(layers))):
        layer, (h, rows, matrix, out) = layers[i], kept[i]
        d = layer.act_backward(layer.pooled_backward(d, h), out)
        layer.matrix_backward(d, rows, *grads[2 * i : 2 * i + 2])
        if i:
            d = layer.rows_backward(blas.product(d, matrix), h)


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
    """The same for autograd: logits from x and `flat`, the one tensor that holds all parameters.

    `values` are views of it, and `split` gives such views of its gradient.
    """

    @staticmethod
    def forward(ctx, x: Tensor, flat: Tensor, values: list[Tensor], split, layers: list[Full]) -> Tensor:
        logits, ctx.kept = forward(x, values, layers)
        ctx.split, ctx.layers, ctx.shape = split, layers, flat.shape
        return logits

    @staticmethod
    def backward(ctx, d: Tensor):
        flat = d.new_empty(ctx.shape)
        backward(d, ctx.kept, ctx.split(flat), ctx.layers)
        return None, flat, None, None, None
