"""The forward and backward pass of N multilayer perceptrons at once, written out.

A stack of perceptrons is a chain of batched matrix products, so its gradient needs no machinery: one product more for
each layer on the way back. A step takes a fraction of the time that autograd under vmap does. The tests hold it equal
to the ordinary loop, and other networks do not come here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

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


class Chain(torch.autograd.Function):
    """Logits (N, batch, classes) from x (N, batch, features) and a stack of N perceptrons.

    `flat` is the leaf that holds all parameters in one tensor. `values` and `grads` are views, of its values and of a
    tensor of the same layout: weight (N, out, in) and bias (N, out) of the first layer, of the second, ... The
    gradient is written straight into `grads`, which becomes `flat.grad`: a copy would cost more than the arithmetic.
    """

    @staticmethod
    def forward(ctx, x: Tensor, flat: Tensor, values: list[Tensor], grads: list[Tensor], acts: list[type]) -> Tensor:
        hidden = [x]
        for weight, bias, act in zip(values[::2], values[1::2], acts, strict=True):
            hidden.append(ACTIVATIONS[act][0](torch.baddbmm(bias.unsqueeze(1), hidden[-1], weight.mT)))
        ctx.hidden, ctx.flat, ctx.values, ctx.grads, ctx.acts = hidden[:-1], flat, values, grads, acts
        return hidden[-1]

    @staticmethod
    def backward(ctx, d: Tensor):
        old = None if ctx.flat.grad is None else ctx.flat.grad.clone()
        for k in reversed(range(len(ctx.acts))):
            torch.bmm(d.mT, ctx.hidden[k], out=ctx.grads[2 * k])
            torch.sum(d, 1, out=ctx.grads[2 * k + 1])
            if k:
                d = ACTIVATIONS[ctx.acts[k - 1]][1](torch.bmm(d, ctx.values[2 * k]), ctx.hidden[k])
        ctx.flat.grad = ctx.grads[0]._base
        if old is not None:
            ctx.flat.grad += old
        return None, None, None, None, None


class CrossEntropy(torch.autograd.Function):
    """The mean cross-entropy (N,) of logits (N, batch, classes) with smoothed labels (N, batch), as `losses` has it.

    Its gradient is softmax minus label, so it is there as soon as the loss is.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        where, top = labels.unsqueeze(-1), logits.amax(-1, keepdim=True)
        p = (logits - top).exp_()
        total = p.sum(-1, keepdim=True)
        right = logits.gather(-1, where)
        if smoothing:
            right = (1 - smoothing) * right + smoothing * logits.mean(-1, keepdim=True)
        if ctx.needs_input_grad[0]:
            ctx.d = p.div_(total)
            if smoothing:
                ctx.d -= smoothing / logits.shape[-1]
            ctx.d.scatter_add_(-1, where, logits.new_full((), smoothing - 1).expand(where.shape))
        return (total.log_().add_(top).sub_(right)).mean((-2, -1))

    @staticmethod
    def backward(ctx, scale: Tensor):
        return ctx.d.mul_((scale / ctx.d.shape[1])[:, None, None]), None, None
