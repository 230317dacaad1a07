"""Initialization: one function per scheme, `f(weight, scale, generator)`, in place, from torch.nn.init.

All biases start at zero. `scale` is a factor on the weights that the scheme draws: with "normal" it is their
standard deviation, with "constant" their value, with "xavier" or "he" a factor on the published formula.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from helpers import checks, models


def fan_in(weight: Tensor) -> int:
    """Numbers that one unit of this layer reads."""
    return weight[0].numel()


LAYERWISE = {
    "zero": lambda w, g: nn.init.zeros_(w),
    "constant": lambda w, g: nn.init.ones_(w),
    "normal": lambda w, g: nn.init.normal_(w, generator=g),
    "uniform": lambda w, g: nn.init.uniform_(w, -1, 1, generator=g),
    "truncated_normal": lambda w, g: nn.init.trunc_normal_(w, 0, 1, -2, 2, generator=g),
    "xavier": lambda w, g: nn.init.xavier_normal_(w, generator=g),
    "xavier_uniform": lambda w, g: nn.init.xavier_uniform_(w, generator=g),
    "he": lambda w, g: nn.init.kaiming_normal_(w, nonlinearity="relu", generator=g),
    "he_uniform": lambda w, g: nn.init.kaiming_uniform_(w, nonlinearity="relu", generator=g),
    "orthogonal": lambda w, g: nn.init.orthogonal_(w, generator=g),
    "torch": lambda w, g: nn.init.kaiming_uniform_(w, a=5**0.5, generator=g),
    "lecun_1998": lambda w, g: nn.init.uniform_(w, -2.4 / fan_in(w), 2.4 / fan_in(w), generator=g),
}


def pca(model: nn.Module, x: Tensor, generator: torch.Generator) -> None:
    """First layer along the principal axes of `x` (n, d), norm-matched to He; the other layers by He.

    Unit i looks along the i-th principal axis, with a random sign; once the axes are used up, units stay
    random. A convolution takes the axes of the patches that its kernel sees, of the first 64 rows. The nearest
    published form is Seuret et al. 2017. Costs one singular value decomposition.
    """
    _he_everywhere(model, generator)
    first = models.weight_layers(model)[0].weight
    flat = first.data.flatten(1)
    if first.dim() == 4:
        x = nn.functional.unfold(x[:64], first.shape[-2:]).transpose(1, 2).flatten(0, 1)
    _, _, axes = torch.linalg.svd((x - x.mean(0)).flatten(1), full_matrices=False)
    k = min(len(flat), len(axes))
    signs = torch.randint(0, 2, (k, 1), generator=generator) * 2.0 - 1
    flat[:k] = signs * axes[:k] * flat[:k].norm(dim=1, keepdim=True)
    first.data.copy_(flat.view_as(first))


def lsuv(model: nn.Module, x: Tensor, generator: torch.Generator, rounds: int = 10, tolerance: float = 0.01) -> None:
    """Layer-sequential unit-variance (Mishkin & Matas 2016): orthogonal, then each layer's output scaled to variance 1.

    `x` is one batch (n, ...); each layer is rescaled by the standard deviation that this batch really gives.
    """
    for layer in models.weight_layers(model):
        nn.init.orthogonal_(layer.weight, generator=generator)
    for layer in models.weight_layers(model):
        for _ in range(rounds):
            std = _output(model, layer, x).std()
            if not torch.isfinite(std) or std < 1e-12 or abs(std - 1) < tolerance:
                break
            layer.weight.data /= std


def _he_everywhere(model: nn.Module, generator: torch.Generator) -> None:
    for layer in models.weight_layers(model):
        LAYERWISE["he"](layer.weight, generator)


def _output(model: nn.Module, layer: nn.Module, x: Tensor) -> Tensor:
    seen: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, args, out: seen.append(out))
    with torch.no_grad():
        model(x)
    handle.remove()
    return seen[0]


DATA_DEPENDENT = {"pca": pca, "lsuv": lsuv}
INITS = (*LAYERWISE, *DATA_DEPENDENT)
BATCH = 512  # examples that a data-dependent scheme may look at


OUTPUT_BIASES = ("zero", "prior")


def prior_bias(model: nn.Module, labels: Tensor, classes: int, *, odds: bool) -> None:
    """Start the last biases at the logs of the classes' shares, with `odds` at their log-odds, in place.

    The network then begins by saying how common each class is (Lin et al. 2017, section 4.1).
    """
    last = models.weight_layers(model)[-1].bias
    if checks.integer("classes", classes, low=1) != len(last):
        raise ValueError(f"classes={classes} is not allowed: the model has {len(last)} outputs; give that.")
    checks.tensor("labels", labels, high=1, labels=True), checks.flag("odds", odds)
    checks.labels("labels", labels, len(labels), classes)
    share = (torch.bincount(labels.cpu(), minlength=classes) + 0.5) / (len(labels) + 0.5 * classes)
    with torch.no_grad():
        last.copy_((share / (1 - share) if odds else share).log())


def initialize(model: nn.Module, name: str, *, scale: float = 1.0, seed: int = 0, x: Tensor | None = None) -> nn.Module:
    """Set all weights of `model` by the named scheme, in place, and its biases to zero; return the model.

    `x` is training input (n, ...), needed by "pca" and "lsuv" alone; they look at its first 512 rows.
    Raises ValueError for an unknown name, and when such a scheme gets no data.
    """
    checks.one_of("init", name, INITS)
    checks.number("scale", scale, low=0, try_="1.0")
    generator = torch.Generator().manual_seed(checks.integer("seed", seed, high=2**63 - 1))
    if x is not None:
        checks.tensor("x", x, low=2)
    with torch.no_grad():
        for layer in models.weight_layers(model):
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        if name in DATA_DEPENDENT:
            if x is None:
                raise ValueError(f"init={name!r} looks at data: pass x, a tensor of training inputs.")
            DATA_DEPENDENT[name](model, x[:BATCH].cpu(), generator)
        else:
            for layer in models.weight_layers(model):
                LAYERWISE[name](layer.weight, generator)
        if scale != 1:
            for layer in models.weight_layers(model):
                layer.weight.mul_(scale)
    return model
