"""Models: functions that return a fresh `nn.Module`, with torch's default weights.

Weights are set afterwards by `helpers.init`, so that a model and its initialization are two choices.
"""

from __future__ import annotations

import torch
from torch import nn

from helpers import checks

ACTIVATIONS = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softsign": nn.Softsign,
    "linear": nn.Identity,
}
NORMS = ("none", "batch")


def mlp(
    shape, classes: int, *, depth: int = 2, width: int = 64, activation: str = "relu", norm: str = "none"
) -> nn.Module:
    """A multilayer perceptron: `depth` hidden layers of `width` units, then one linear layer to the classes.

    Input (n, *shape), flattened; output (n, classes): logits. `depth=0` is softmax regression. With
    `norm="batch"` each hidden linear layer is followed by batch normalization (Ioffe & Szegedy 2015).
    """
    act = ACTIVATIONS[checks.one_of("activation", activation, ACTIVATIONS)]
    checks.one_of("norm", norm, NORMS)
    inputs = int(torch.Size(shape).numel())
    layers: list[nn.Module] = [nn.Flatten()]
    for i in range(checks.integer("depth", depth, low=0, high=200, try_="2")):
        layers.append(nn.Linear(inputs if i == 0 else width, checks.integer("width", width, low=1, try_="64")))
        if norm == "batch":
            layers.append(nn.BatchNorm1d(width))
        layers.append(act())
    layers.append(nn.Linear(width if depth else inputs, classes))
    return nn.Sequential(*layers)


def lenet5(shape, classes: int, *, depth=None, width=None, activation: str = "relu", norm: str = "none") -> nn.Module:
    """LeNet-5 in its modern form (after LeCun et al. 1998): two 5x5 convolutions with pooling, three linear layers.

    Input (n, c, h, w) with h = w >= 12, zero-padded by 2 as MNIST is in the paper; output (n, classes): logits.
    28x28x1 inputs and 10 classes give 61,706 parameters. `depth` and `width` are fixed by the paper and ignored.
    """
    act = ACTIVATIONS[checks.one_of("activation", activation, ACTIVATIONS)]
    checks.one_of("norm", norm, NORMS)
    if len(shape) != 3 or min(shape[1:]) < 12:
        raise ValueError(
            f"model='lenet5' needs images of shape (channels, height, width) of at least 12x12 pixels, "
            f"got {tuple(shape)}; use model='mlp' for such data."
        )

    def conv(inputs, outputs, padding):
        steps = [nn.Conv2d(inputs, outputs, 5, padding=padding)]
        steps += [nn.BatchNorm2d(outputs)] if norm == "batch" else []
        return [*steps, act(), nn.AvgPool2d(2)]

    after = [(side // 2 - 4) // 2 for side in shape[1:]]
    return nn.Sequential(
        *conv(shape[0], 6, 2), *conv(6, 16, 0), nn.Flatten(),
        nn.Linear(16 * after[0] * after[1], 120), act(), nn.Linear(120, 84), act(), nn.Linear(84, classes),
    )  # fmt: skip


MODELS = {"mlp": mlp, "lenet5": lenet5}


def build(name: str, shape, classes: int, **options) -> nn.Module:
    """A fresh model by name; see `MODELS`. Raises ValueError for an unknown name."""
    return MODELS[checks.one_of("model", name, MODELS)](tuple(shape), classes, **options)


def weight_layers(model: nn.Module) -> list[nn.Module]:
    """The linear and convolutional layers in order of depth: those that an initialization sets."""
    return [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
