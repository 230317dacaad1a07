"""Optimizers: each update written out in a few lines (`UPDATES`), and the torch.optim one that trains (`make`).

The written-out ones are for reading, for drawing trajectories, and for the test that holds both equal.
"""

from __future__ import annotations

import torch
from torch import Tensor

from helpers import checks

# --- the updates, written out: f(w, g, s, lr) -> new w. w: parameters, g: gradient (same shape), s: a dict that keeps
# the optimizer's memory between steps (empty at first). All arithmetic is element by element.


def sgd(w: Tensor, g: Tensor, s: dict, lr: float) -> Tensor:
    """Gradient descent (Robbins & Monro 1951); stochastic when g comes from a minibatch."""
    return w - lr * g


def momentum(w: Tensor, g: Tensor, s: dict, lr: float, mu: float = 0.9) -> Tensor:
    """Heavy ball (Polyak 1964): a running sum of gradients, forgetting at the rate mu."""
    s["v"] = mu * s.get("v", 0) + g
    return w - lr * s["v"]


def nesterov(w: Tensor, g: Tensor, s: dict, lr: float, mu: float = 0.9) -> Tensor:
    """Nesterov momentum (Nesterov 1983, in the form of Sutskever et al. 2013): one look ahead along the velocity."""
    s["v"] = mu * s.get("v", 0) + g
    return w - lr * (g + mu * s["v"])


def adagrad(w: Tensor, g: Tensor, s: dict, lr: float, eps: float = 1e-10) -> Tensor:
    """Adagrad (Duchi et al. 2011): divide by the root of the *sum* of all squared gradients so far."""
    s["G"] = s.get("G", 0) + g**2
    return w - lr * g / (s["G"] ** 0.5 + eps)


def rmsprop(w: Tensor, g: Tensor, s: dict, lr: float, rho: float = 0.99, eps: float = 1e-8) -> Tensor:
    """RMSprop (Tieleman & Hinton 2012): divide by the root of a *running mean* of squared gradients."""
    s["v"] = rho * s.get("v", 0) + (1 - rho) * g**2
    return w - lr * g / (s["v"] ** 0.5 + eps)


def adam(w: Tensor, g: Tensor, s: dict, lr: float, beta1=0.9, beta2=0.999, eps: float = 1e-8) -> Tensor:
    """Adam (Kingma & Ba 2015): running means of g and of g squared, both corrected for starting at zero."""
    s["t"] = s.get("t", 0) + 1
    s["m"] = beta1 * s.get("m", 0) + (1 - beta1) * g
    s["v"] = beta2 * s.get("v", 0) + (1 - beta2) * g**2
    m_hat, v_hat = s["m"] / (1 - beta1 ** s["t"]), s["v"] / (1 - beta2 ** s["t"])
    return w - lr * m_hat / (v_hat**0.5 + eps)


def adamw(w: Tensor, g: Tensor, s: dict, lr: float, weight_decay: float = 0.01, **betas) -> Tensor:
    """AdamW (Loshchilov & Hutter 2019): shrink the weights directly, then an Adam step on the pure gradient."""
    return adam(w * (1 - lr * weight_decay), g, s, lr, **betas)


UPDATES = {f.__name__: f for f in (sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw)}

# --- the ones that train: torch.optim. The fused kernels of four of them are one call a step instead of many.

OPTIMIZERS = {
    "sgd": lambda p, o: torch.optim.SGD(p, o.lr, weight_decay=o.weight_decay, fused=True),
    "momentum": lambda p, o: torch.optim.SGD(p, o.lr, momentum=o.momentum, weight_decay=o.weight_decay, fused=True),
    "nesterov": lambda p, o: torch.optim.SGD(
        p, o.lr, momentum=o.momentum, nesterov=o.momentum > 0, weight_decay=o.weight_decay, fused=True
    ),
    "adagrad": lambda p, o: torch.optim.Adagrad(p, o.lr, weight_decay=o.weight_decay, fused=p[0].device.type == "cpu"),
    "rmsprop": lambda p, o: torch.optim.RMSprop(p, o.lr, alpha=0.99, weight_decay=o.weight_decay),
    "adam": lambda p, o: torch.optim.Adam(p, o.lr, (o.beta1, o.beta2), weight_decay=o.weight_decay, fused=True),
    "adamw": lambda p, o: torch.optim.AdamW(p, o.lr, (o.beta1, o.beta2), weight_decay=o.weight_decay, fused=True),
}
# Which fields an optimizer reads; a recipe that sets another one would silently do nothing, so it is refused.
READS = {
    "momentum": ("momentum", "nesterov"),
    "beta1": ("adam", "adamw"),
    "beta2": ("adam", "adamw"),
}
L1_STEPS = ("gradient", "proximal")
# What `make` reads, and the bound that each stays below.
READ = {"lr": None, "momentum": 1, "beta1": 1, "beta2": 1, "weight_decay": None, "l1": None}


def soft_threshold(w: Tensor, amount: float) -> Tensor:
    """sign(w) max(|w| - amount, 0): the proximal step of an L1 penalty, which gives exact zeros (Donoho 1995)."""
    checks.tensor("w", w, low=0), checks.number("amount", amount, low=0, try_="0.1")
    return w.sign() * (w.abs() - amount).clamp(min=0)


def _with_l1(optimizer: torch.optim.Optimizer, penalty: float, step: str) -> None:
    """Add `penalty` times the sum of absolute values to the loss, by its (sub)gradient or after each step."""
    checks.one_of("l1_step", step, L1_STEPS)

    def every(change):
        def hook(optimizer, args, kwargs):
            with torch.no_grad():
                for group in optimizer.param_groups:
                    for p in group["params"]:
                        change(p, group["lr"])

        return hook

    if step == "gradient":
        optimizer.register_step_pre_hook(every(lambda p, lr: p.grad.add_(p.sign(), alpha=penalty)))
    else:
        optimizer.register_step_post_hook(every(lambda p, lr: p.copy_(soft_threshold(p, lr * penalty))))


def make(name: str, parameters, options) -> torch.optim.Optimizer:
    """The torch.optim optimizer by name. `options` has lr, momentum, beta1, beta2, weight_decay, l1 (a Recipe does).

    `weight_decay` is an L2 penalty added to the gradient, for "adamw" decoupled from it; `l1` a penalty on absolute
    values, by its subgradient or by a proximal step (`l1_step`). Raises ValueError for an unknown name.
    """
    checks.one_of("optimizer", name, OPTIMIZERS)
    parameters = checks.several("parameters", parameters, "model.parameters()")
    for p in parameters:
        checks.kind("parameters", p, torch.Tensor, "a list of tensors, such as model.parameters()")
    checks.fields("options", options, READ)
    for field, below in READ.items():
        checks.number(field, getattr(options, field), low=0, below=below)
    optimizer = OPTIMIZERS[name](parameters, options)
    if options.l1:
        _with_l1(optimizer, options.l1, getattr(options, "l1_step", "gradient"))
    return optimizer
