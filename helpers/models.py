"""Models: functions that return a fresh `nn.Module`, with torch's default weights.

Weights are set afterwards by `helpers.init`, so that a model and its initialization are two choices.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from helpers import augment, blocks, checks, lenet
from helpers.blocks import NORMS as NORMS  # for the recipe

ACTIVATIONS = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softsign": nn.Softsign,
    "linear": nn.Identity,
}
NORM_PLACES = ("before", "after")
POOLS = {"average": nn.AvgPool2d, "max": nn.MaxPool2d}


def mlp(
    shape,
    classes: int,
    *,
    depth: int = 2,
    width: int = 64,
    activation: str = "relu",
    norm: str = "none",
    norm_place: str = "before",
    dropout: float = 0.0,
    shortcut: str = "none",
) -> nn.Module:
    """A multilayer perceptron: `depth` hidden layers of `width` units, then one linear layer to the classes.

    Input (n, *shape), flattened; output (n, classes): logits. `depth=0` is softmax regression. `norm` adds a
    normalization to each hidden layer, `norm_place` says on which side of its activation. `dropout` follows each
    hidden activation. With a `shortcut`, the first hidden layer is followed by residual blocks of two, so the depth
    is odd.
    """
    act = ACTIVATIONS[checks.one_of("activation", activation, ACTIVATIONS)]
    checks.integer("depth", depth, low=0, high=200, try_="2")
    checks.integer("width", width, low=1, try_="64")
    checks.one_of("norm_place", norm_place, NORM_PLACES)
    inputs = int(torch.Size(shape).numel())
    drop = [dropout] if dropout else []

    def linear(a, b, stride=1, size=3):
        return nn.Linear(a, b)

    def hidden(a):
        extra = blocks.normalization(norm, width, 1)
        inner = [*extra, act()] if norm_place == "before" else [act(), *extra]
        return [nn.Linear(a, width), *inner, *map(blocks.Dropout, drop)]

    if shortcut == "none":
        body = [layer for i in range(depth) for layer in hidden(inputs if i == 0 else width)]
    else:
        if depth % 2 == 0:
            raise ValueError(
                f"depth={depth!r} is not allowed with shortcut={shortcut!r}: one first layer and blocks of two need "
                f"an odd number of hidden layers; try depth={depth + 1}."
            )
        settings = {"act": act, "norm": norm, "shortcut": shortcut, "dims": 1}
        pre = shortcut == "preactivation"
        end = [*blocks.normalization(norm, width, 1), act()]
        body = [nn.Linear(inputs, width)] if pre else hidden(inputs)
        for _ in range(depth // 2):
            body.append(blocks.block(linear, width, width, **settings, drop=[*map(blocks.Dropout, drop)]))
        body += end if pre else []
    return nn.Sequential(nn.Flatten(), *body, nn.Linear(width if depth else inputs, classes))


def cnn(
    shape,
    classes: int,
    *,
    depth: int = 8,
    width: int = 16,
    activation: str = "relu",
    norm: str = "none",
    dropout: float = 0.0,
    shortcut: str = "none",
) -> nn.Module:
    """The small image network of He et al. 2016, plain or residual: depth = 6 k + 2 weight layers.

    A 3x3 convolution to `width` channels, three stages of k blocks (two 3x3 convolutions each) with width, 2 width
    and 4 width channels, the image halved at the start of the second and third, then the mean over the image and one
    linear layer. Input (n, c, h, w), output (n, classes): logits. With a `shortcut` a block adds its input; where
    the shape changes, a 1x1 convolution carries it.
    """
    act = ACTIVATIONS[checks.one_of("activation", activation, ACTIVATIONS)]
    checks.integer("width", width, low=1, try_="16")
    if depth % 6 != 2 or depth < 8:
        raise ValueError(
            f"depth={depth!r} is not allowed with model='cnn': three stages of blocks of two layers and two layers "
            f"around them make 8, 14, 20, ...; try depth={max(depth // 6, 1) * 6 + 2}."
        )
    if len(shape) != 3 or min(shape[1:]) < 4:
        raise ValueError(
            f"model='cnn' needs images of shape (channels, height, width) of at least 4x4 pixels, "
            f"got {tuple(shape)}; use model='mlp' for such data."
        )

    def conv(a, b, stride=1, size=3):
        return nn.Conv2d(a, b, size, stride=stride, padding=size // 2)

    pre = shortcut == "preactivation"
    body: list[nn.Module] = [conv(shape[0], width)]
    body += [] if pre else [*blocks.normalization(norm, width, 2), act()]
    settings, channels = {"act": act, "norm": norm, "shortcut": shortcut, "dims": 2}, width
    for stage in range(3):
        for i in range((depth - 2) // 6):
            wide, stride = width * 2**stage, 2 if stage and i == 0 else 1
            drop = [blocks.Dropout(dropout)] if dropout else []
            body.append(blocks.block(conv, channels, wide, **settings, stride=stride, drop=drop))
            channels = wide
    body += [*blocks.normalization(norm, channels, 2), act()] if pre else []
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def lenet5(
    shape,
    classes: int,
    *,
    activation: str = "relu",
    norm: str = "none",
    dropout: float = 0.0,
    pool: str = "average",
    widen: float = 1.0,
) -> nn.Module:
    """LeNet-5 in its modern form (after LeCun et al. 1998): two 5x5 convolutions with pooling, three linear layers.

    Input (n, c, h, w) with h = w >= 12, zero-padded by 2 as MNIST is in the paper; output (n, classes): logits.
    28x28x1 inputs and 10 classes give 61,706 parameters. `dropout` follows the two hidden linear layers; `widen` is a
    factor on the number of feature maps and hidden units (6, 16, 120 and 84 in the paper).
    """
    act = ACTIVATIONS[checks.one_of("activation", activation, ACTIVATIONS)]
    pooling = POOLS[checks.one_of("pool", pool, POOLS)]
    checks.number("widen", widen, above=0, try_="1.0")
    if len(shape) != 3 or min(shape[1:]) < 12:
        raise ValueError(
            f"model='lenet5' needs images of shape (channels, height, width) of at least 12x12 pixels, "
            f"got {tuple(shape)}; use model='mlp' for such data."
        )
    c1, c3, c5, f6 = (max(round(n * widen), 1) for n in (6, 16, 120, 84))

    def conv(inputs, outputs, padding):
        layer = nn.Conv2d(inputs, outputs, 5, padding=padding)
        return [layer, *blocks.normalization(norm, outputs, 2), act(), pooling(2)]

    def hidden(inputs, outputs):
        return [nn.Linear(inputs, outputs), act(), *([blocks.Dropout(dropout)] if dropout else [])]

    after = [(side // 2 - 4) // 2 for side in shape[1:]]
    return nn.Sequential(
        *conv(shape[0], c1, 2), *conv(c1, c3, 0), nn.Flatten(),
        *hidden(c3 * after[0] * after[1], c5), *hidden(c5, f6), nn.Linear(f6, classes),
    )  # fmt: skip


class Recurrent(nn.Module):
    """The plain recurrent network of Elman 1990: h <- act(W x + U h), read step by step; logits from the last h."""

    def __init__(self, features: int, classes: int, width: int, act: nn.Module):
        super().__init__()
        self.input, self.back = nn.Linear(features, width), nn.Linear(width, width, bias=False)
        self.act, self.output = act, nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        steps = x.movedim(1, -2).flatten(-2) if x.dim() == 4 else x  # an image is read row by row
        h = torch.zeros_like(self.input(steps[:, 0]))
        for t in range(steps.shape[1]):
            h = self.act(self.input(steps[:, t]) + self.back(h))
        return self.output(h)


def rnn(shape, classes: int, *, width: int = 32, activation: str = "tanh") -> nn.Module:
    """A recurrent network of `width` units. Input (n, steps, features), or images (n, c, h, w): h steps of c·w values.

    Output (n, classes): logits. Its gradient goes back through every step and so through as many layers.
    """
    if len(shape) not in (2, 3):
        raise ValueError(
            f"model='rnn' needs sequences of shape (steps, features) or images, got {tuple(shape)}; use model='mlp'."
        )
    act = ACTIVATIONS[checks.one_of("activation", activation, ACTIVATIONS)]
    features = shape[-1] if len(shape) == 2 else shape[0] * shape[2]
    return Recurrent(features, classes, checks.integer("width", width, low=1, try_="32"), act())


MODELS = {"mlp": mlp, "cnn": cnn, "lenet5": lenet5, "lenet5_1998": lenet.lenet5_1998, "rnn": rnn}
CONVOLUTIONAL = ("cnn", "lenet5", "lenet5_1998")
# Which options a model takes; a recipe that sets another one would silently do nothing, so it is refused.
READS = {
    "activation": ("mlp", "cnn", "lenet5", "rnn"),
    "norm": ("mlp", "cnn", "lenet5"),
    "norm_place": ("mlp",),
    "dropout": ("mlp", "cnn", "lenet5"),
    "shortcut": ("mlp", "cnn"),
    "branch_scale": ("mlp", "cnn"),
    "pool": ("lenet5",),
    "widen": ("lenet5",),
}
OPTIONS = {
    "mlp": ("depth", "width", "activation", "norm", "norm_place", "dropout", "shortcut"),
    "cnn": ("depth", "width", "activation", "norm", "dropout", "shortcut"),
    "lenet5": ("activation", "norm", "dropout", "pool", "widen"),
    "lenet5_1998": (),
    "rnn": ("width", "activation"),
}


def build(name: str, shape, classes: int, **options) -> nn.Module:
    """A fresh model by name; see `MODELS`. Options that it does not take are left out (`OPTIONS`).

    Raises ValueError for an unknown name or a value that the model cannot have.
    """
    checks.one_of("model", name, MODELS)
    for side in checks.several("shape", shape, "(1, 28, 28)"):
        checks.integer("shape", side, low=1, try_="(1, 28, 28)")
    checks.integer("classes", classes, low=1, try_="10")
    checks.number("dropout", options.get("dropout", 0), low=0, below=1, try_="0.5")
    checks.known("option of models", options, {k for taken in OPTIONS.values() for k in taken})
    taken = {k: v for k, v in options.items() if k in OPTIONS[name]}
    with augment.DRAWS:  # torch fills a new layer with random numbers
        return MODELS[name](tuple(shape), classes, **taken)


def weight_layers(model: nn.Module) -> list[nn.Module]:
    """The linear and convolutional layers in order of depth: those that an initialization sets."""
    checks.kind("model", model, nn.Module, "an nn.Module, such as models.build(...)")
    return [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
