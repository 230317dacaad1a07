"""Losses: `f(logits (n, classes), labels (n,), smoothing) -> scalar`, the mean over the batch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from helpers import checks


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    r"""$-\sum_k q_k \log p_k$ with $p$ = softmax(logits) and $q$ the one-hot label, smoothed (Szegedy et al. 2016)."""
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


def squared_error(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    r"""$\sum_k (z_k - q_k)^2$ on the raw outputs $z$ against the (smoothed) one-hot label $q$ (Hui & Belkin 2021)."""
    classes = logits.shape[-1]
    target = F.one_hot(labels, classes).to(logits.dtype) * (1 - smoothing) + smoothing / classes
    return (logits - target).square().sum(-1).mean()


LOSSES = {"cross_entropy": cross_entropy, "squared_error": squared_error}


def loss(name: str):
    """The loss function by name; see `LOSSES`. Raises ValueError for an unknown name."""
    return LOSSES[checks.one_of("loss", name, LOSSES)]
