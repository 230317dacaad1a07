"""Recipe: one frozen, printable value that says everything about one training run, except the data set."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass

from helpers import augment, blocks, checks, init, losses, models, optim, schedules


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run. The default of a field is neutral: it means "off" or "the plain thing".

    Fields
    ------
    model, depth, width, activation : the network (`helpers.models`); depth = hidden layers, width = units (channels)
    norm, norm_place : normalization of each hidden layer, and on which side of its activation
    dropout : share of hidden units set to 0 in each training pass
    shortcut, branch_scale : residual blocks (`helpers.blocks`), and a factor on the last weights of each branch
    pool, widen : kind of pooling, and a factor on the widths of model="lenet5"
    init, init_scale : the scheme for the first weights and a factor on them (`helpers.init`)
    output_bias : "zero", or "prior": the last biases start at the classes' shares (their log, or log-odds)
    loss, label_smoothing : `helpers.losses`; smoothing is the share of probability spread over all classes
    focal_gamma : how much the focal loss turns easy examples down
    optimizer, lr, momentum, beta1, beta2, weight_decay : `helpers.optim`; lr = learning rate, per step
    l1, l1_step : penalty on absolute weights, by "gradient" or by a "proximal" step
    schedule, warmup : factor on lr by progress (`helpers.schedules`); warmup = share of training, 0 = none
    clip_norm : largest Euclidean norm of the whole gradient, None = no clipping
    clip_value : largest absolute value of each entry of the gradient, None = no clipping
    batch_size : examples a step, None = all of them (full batch)
    epochs : passes over the training data; the last, incomplete batch of a pass is left out
    patience : stop after this many epochs without a lower validation loss and go back to the weights of the best
        epoch; None = train to the end and keep the last weights
    n_train : training examples used, None = all; label_noise : share of training labels drawn at random
    augment, augment_strength : random changes of the training images, new in every step (`helpers.augment`)
    seed : of the first weights and of the order of the data

    Raises TypeError for an unknown field, ValueError for a value that is not allowed.
    """

    model: str = "mlp"
    depth: int = 2
    width: int = 64
    activation: str = "relu"
    norm: str = "none"
    norm_place: str = "before"
    dropout: float = 0.0
    shortcut: str = "none"
    branch_scale: float = 1.0
    pool: str = "average"
    widen: float = 1.0
    init: str = "he"
    init_scale: float = 1.0
    output_bias: str = "zero"
    loss: str = "cross_entropy"
    label_smoothing: float = 0.0
    focal_gamma: float = 2.0
    optimizer: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.0
    l1: float = 0.0
    l1_step: str = "gradient"
    schedule: str = "constant"
    warmup: float = 0.0
    clip_norm: float | None = None
    clip_value: float | None = None
    batch_size: int | None = 64
    epochs: int = 10
    patience: int | None = None
    n_train: int | None = None
    label_noise: float = 0.0
    augment: str = "none"
    augment_strength: float = 1.0
    seed: int = 0

    def __new__(cls, **fields):  # before dataclass's own __init__, which would not say which fields there are
        checks.known("field of Recipe", fields, FIELDS)
        return object.__new__(cls)

    def __post_init__(self):
        checks.one_of("model", self.model, models.MODELS)
        checks.integer("depth", self.depth, low=0, high=200, try_="2")
        checks.integer("width", self.width, low=1, high=8192, try_="64")
        checks.one_of("activation", self.activation, models.ACTIVATIONS)
        checks.one_of("norm", self.norm, models.NORMS)
        checks.one_of("norm_place", self.norm_place, models.NORM_PLACES)
        checks.number("dropout", self.dropout, low=0, below=1, try_="0.5")
        checks.one_of("shortcut", self.shortcut, blocks.SHORTCUTS)
        checks.number("branch_scale", self.branch_scale, low=0, try_="0.0")
        checks.one_of("pool", self.pool, models.POOLS)
        checks.number("widen", self.widen, above=0, try_="2.0")
        checks.one_of("init", self.init, init.INITS)
        checks.number("init_scale", self.init_scale, low=0, try_="1.0")
        checks.one_of("output_bias", self.output_bias, init.OUTPUT_BIASES)
        checks.one_of("loss", self.loss, losses.LOSSES)
        checks.number("focal_gamma", self.focal_gamma, low=0, try_="2.0")
        checks.number("label_smoothing", self.label_smoothing, low=0, below=1, try_="0.1")
        checks.one_of("optimizer", self.optimizer, optim.OPTIMIZERS)
        checks.number("lr", self.lr, above=0, try_="0.1")
        for name in ("momentum", "beta1", "beta2"):
            checks.number(name, getattr(self, name), low=0, below=1, try_="0.9")
        checks.number("weight_decay", self.weight_decay, low=0, try_="0.0001")
        checks.number("l1", self.l1, low=0, try_="0.0001")
        checks.one_of("l1_step", self.l1_step, optim.L1_STEPS)
        checks.one_of("schedule", self.schedule, schedules.SCHEDULES)
        checks.number("warmup", self.warmup, low=0, high=1, try_="0.1")
        checks.number("label_noise", self.label_noise, low=0, high=1, try_="0.2")
        checks.integer("epochs", self.epochs, low=1, try_="10")
        checks.integer("seed", self.seed, low=0, try_="0")
        checks.one_of("augment", self.augment, augment.AUGMENTS)
        checks.number("augment_strength", self.augment_strength, low=0, high=augment.MOST, try_="1.0")
        for name in ("clip_norm", "clip_value"):
            if getattr(self, name) is not None:
                checks.number(name, getattr(self, name), above=0, try_="1.0")
        for name, usual in (("batch_size", "64"), ("n_train", "64"), ("patience", "5")):
            if getattr(self, name) is not None:
                checks.integer(name, getattr(self, name), low=1, try_=usual)
        if self.norm == "batch" and self.batch_size == 1 and self.model == "mlp":
            told = "batch_size=1 is not allowed with norm='batch'"
            raise ValueError(f"{told}: one example has no spread; try batch_size=2, or norm='layer'.")
        for choice, table in READS.items():
            for name, readers in table.items():
                if getattr(self, name) != DEFAULTS[name] and getattr(self, choice) not in readers:
                    raise ValueError(
                        f"{name}={getattr(self, name)!r} would do nothing: {choice}={getattr(self, choice)!r} does "
                        f"not read it; leave it out, or choose {choice}={' or '.join(map(repr, readers))}."
                    )
        for field in dataclasses.fields(self):  # 1 for 1.0 and numpy's numbers are the same run as Python's own
            kind, value = {"f": float, "i": int, "s": str}[field.type[0]], getattr(self, field.name)
            object.__setattr__(self, field.name, value if value is None else kind(value))

    def fields(self) -> dict[str, float | int | str | None]:
        """Every field by its name."""
        return {name: getattr(self, name) for name in FIELDS}

    def but(self, **changes) -> Recipe:
        """The same recipe with some fields changed: `base.but(lr=0.3)`."""
        return Recipe(**{**self.fields(), **changes})

    def vary(self, **changes) -> list[Recipe]:
        """One recipe for every combination of the values given: `base.vary(init=["he", "zero"], lr=[0.1, 0.3])`."""
        checks.known("field of Recipe", changes, FIELDS)
        lists = [v if isinstance(v, list | tuple | range) else [v] for v in changes.values()]
        for name, values in zip(changes, lists, strict=True):
            if not len(values):
                raise ValueError(f"{name}={values!r} is empty: give at least one value to vary, such as [{name}].")
        return [self.but(**dict(zip(changes, combination, strict=True))) for combination in itertools.product(*lists)]

    def differs(self, other: Recipe) -> tuple[str, ...]:
        """The names of the fields in which two recipes differ."""
        checks.kind("other", other, Recipe, "a Recipe")
        return tuple(name for name in FIELDS if getattr(self, name) != getattr(other, name))

    def __str__(self) -> str:
        told = [f"{k}={v!r}" for k, v in self.fields().items() if v != DEFAULTS[k]]
        return f"Recipe({', '.join(told)})"


# Fields that only some choices read; a recipe that sets one for nothing is refused.
READS = {
    "optimizer": optim.READS,
    "model": models.READS,
    "loss": losses.READS,
    "norm": {"norm_place": tuple(n for n in models.NORMS if n != "none")},
    "shortcut": {"branch_scale": tuple(s for s in blocks.SHORTCUTS if s != "none")},
}
FIELDS = tuple(f.name for f in dataclasses.fields(Recipe))
DEFAULTS = {f.name: f.default for f in dataclasses.fields(Recipe)}
# Runs that agree in these fields are one computation with different numbers in it, so the engine may stack them.
STACKED_TOGETHER = (
    "model", "depth", "width", "activation", "norm", "norm_place", "shortcut", "pool", "widen", "loss",
    "label_smoothing", "focal_gamma", "batch_size", "epochs", "n_train", "label_noise",
)  # fmt: skip
