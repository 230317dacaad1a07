"""The forward and backward pass of N multilayer perceptrons at once, written out.

A stack of perceptrons is a chain of batched matrix products, so its gradient needs no machinery: one product more for
each layer on the way back. A step takes a fraction of the time that autograd under vmap does. The tests hold it equal
to the ordinary loop, and other networks do not come here.
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


def activations(model: nn.Module) -> list[type]:
    """The activation after each linear layer, where the model is a plain chain of those alone; else an empty list."""
    found: list[type] = []
    for layer in model if isinstance(model, nn.Sequential) else [None]:
        if type(layer) is nn.Linear and layer.bias is not None:
            found.append(nn.Identity)
        elif type(layer) in ACTIVATIONS and found and found[-1] is nn.Identity:
            found[-1] = type(layer)
        elif not (type(layer) is nn.Flatten and not found):
            return []
    return found if found and found[-1] is nn.Identity else []


def forward(x: Tensor, values: list[Tensor], acts: list[type]) -> list[Tensor]:
    """The outputs (N, batch, units) of all layers for x (N, batch, features): x itself first, the logits last.

    `values` are the parameters of N perceptrons: weight (N, out, in) and bias (N, out) of the first layer, ...
    """
    hidden = [x]
    for weight, bias, act in zip(values[::2], values[1::2], acts, strict=True):
        z = blas.product(hidden[-1], weight.mT).add_(bias.unsqueeze(1))
        hidden.append(ACTIVATIONS[act][0](z))
    return hidden


def backward(d: Tensor, hidden: list[Tensor], values: list[Tensor], grads: list[Tensor], acts: list[type]) -> None:
    """Write the gradients into `grads` (laid out as `values`), from that of the logits, d (N, batch, classes)."""
    for k in reversed(range(len(acts))):
        blas.product(d.mT, hidden[k], grads[2 * k])
        torch.sum(d, 1, out=grads[2 * k + 1])
        if k:
            d = ACTIVATIONS[acts[k - 1]][1](blas.product(d, values[2 * k]), hidden[k])


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
    def forward(ctx, x: Tensor, flat: Tensor, values: list[Tensor], split, acts: list[type]) -> Tensor:
        *ctx.hidden, logits = forward(x, values, acts)
        ctx.values, ctx.split, ctx.acts, ctx.shape = values, split, acts, flat.shape
        return logits

    @staticmethod
    def backward(ctx, d: Tensor):
        flat = d.new_empty(ctx.shape)
        backward(d, ctx.hidden, ctx.values, ctx.split(flat), ctx.acts)
        return None, flat, None, None, None
