"""Losses: `f(logits (n, classes), labels (n,), smoothing) -> scalar`, the mean over the batch.

With a leading axis N on both (a stack of N models) they give N means.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from helpers import checks


def _check(logits: Tensor, labels: Tensor, smoothing: float) -> None:
    """Raise TypeError or ValueError with one sentence where the three cannot go together."""
    checks.tensor("logits", logits, low=2), checks.tensor("labels", labels, labels=True)
    checks.number("smoothing", smoothing, low=0, below=1, try_="0.1")
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"labels has shape {tuple(labels.shape)} but logits has {tuple(logits.shape)}; give one label for each row."
        )
    inside_vmap = torch._C._functorch.is_functorch_wrapped_tensor(labels)  # there, values cannot be looked at
    if labels.device.type == "cpu" and not inside_vmap:
        low, high = labels.aminmax()
        if low < 0 or high >= logits.shape[-1]:
            wrong = low.item() if low < 0 else high.item()
            raise ValueError(f"labels holds the label {wrong}; labels go from 0 to {logits.shape[-1] - 1} here.")


def target(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """One-hot labels with the share `smoothing` spread over all classes (Szegedy et al. 2016): (n, classes)."""
    _check(logits, labels, smoothing)
    classes = logits.shape[-1]
    return F.one_hot(labels, classes).to(logits.dtype) * (1 - smoothing) + smoothing / classes


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    r"""$-\sum_k q_k \log p_k$ with $p$ = softmax(logits) and $q$ the one-hot label, smoothed (Szegedy et al. 2016)."""
    _check(logits, labels, smoothing)
    if labels.dim() == 1:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)
    each = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), label_smoothing=smoothing, reduction="none")
    return each.view(labels.shape).mean(-1)


def squared_error(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    r"""$\sum_k (z_k - q_k)^2$ on the raw outputs $z$ against the (smoothed) one-hot label $q$ (Hui & Belkin 2021)."""
    return (logits - target(logits, labels, smoothing)).square().sum(-1).mean(-1)


def binary_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    r"""$-\sum_k q_k \log s_k + (1 - q_k) \log(1 - s_k)$ with $s$ = sigmoid(logits): one yes-or-no question a class."""
    every = F.binary_cross_entropy_with_logits(logits, target(logits, labels, smoothing), reduction="none")
    return every.sum(-1).mean(-1)


def focal(logits: Tensor, labels: Tensor, smoothing: float = 0.0, gamma: float = 2.0) -> Tensor:
    r"""$-\sum_k q_k (1 - p_k)^\gamma \log p_k$: cross-entropy with easy examples turned down (Lin et al. 2017)."""
    checks.number("gamma", gamma, low=0, try_="2.0")
    q, log_p = target(logits, labels, smoothing), F.log_softmax(logits, -1)
    return -(q * (1 - log_p.exp()) ** gamma * log_p).sum(-1).mean(-1)


def map_criterion(logits: Tensor, labels: Tensor, smoothing: float = 0.0, j: float = 0.1) -> Tensor:
    r"""$y_D + \log(e^{-j} + \sum_i e^{-y_i})$ on distances $y$ = minus the logits (LeCun et al. 1998, equation 9).

    The first term pulls the right class's code near, the second pushes the others away until they are farther than j.
    """
    checks.number("j", j, try_="0.1")
    right = -(target(logits, labels, smoothing) * logits).sum(-1)
    floor = torch.full_like(logits[..., :1], -j)
    return (right + torch.logsumexp(torch.cat([floor, logits], -1), -1)).mean(-1)


LOSSES = {f.__name__: f for f in (cross_entropy, squared_error, binary_cross_entropy, focal, map_criterion)}
# Fields that only some losses read.
READS = {"focal_gamma": ("focal",)}


def loss(name: str):
    """The loss function by name; see `LOSSES`. Raises ValueError for an unknown name."""
    return LOSSES[checks.one_of("loss", name, LOSSES)]


def make(options):
    """`f(logits, labels) -> scalar` with its settings filled in. `options` has loss, label_smoothing, focal_gamma."""
    checks.fields("options", options, ("loss", "label_smoothing", "focal_gamma"))
    more = {"gamma": options.focal_gamma} if options.loss == "focal" else {}
    return functools.partial(loss(options.loss), smoothing=options.label_smoothing, **more)
