"""The training loop, in view. `fit` is the definition of every result in this book."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from helpers import augment, blocks, checks, init, losses, models, optim, schedules, streams
from helpers.data import Dataset
from helpers.recipe import Recipe


def fit(model, loss, optimizer, batches, lr_at, clip=lambda: None) -> Iterator[tuple[Tensor, Tensor]]:
    """The training loop: one gradient step per batch. Yields the loss and the accuracy on each batch, before the step.

    `model(x)` gives logits (batch, classes) and `loss(logits, y)` a number; with a stack of N models (see
    `helpers.engine`) both have a leading axis N, and nothing else changes. `lr_at(step)` sets the learning rate.
    """
    _check(model, loss, optimizer, batches, lr_at, clip)
    for step, (x, y) in enumerate(batches):
        lr_at(step)
        model.train()
        logits = model(x)
        losses = loss(logits, y)
        optimizer.zero_grad()
        losses.sum().backward()
        clip()
        optimizer.step()
        yield losses.detach(), (logits.detach().argmax(-1) == y).float().mean(-1)


def _check(model, loss, optimizer, batches, lr_at, clip) -> None:
    """Raise TypeError with one sentence where the loop could not begin."""
    checks.kind("model", model, nn.Module, "an nn.Module, such as fresh_model(recipe, data)")
    checks.kind("batches", batches, Iterable, "pairs (x, y) to loop over")
    if not callable(getattr(optimizer, "step", None)):
        raise TypeError(f"optimizer={checks.show(optimizer)} is not allowed: give one that optim.make(...) made.")
    checks.function("loss", loss, "losses.cross_entropy")
    checks.function("lr_at", lr_at, "lambda step: None"), checks.function("clip", clip, "lambda: None")


def given(recipe: Recipe, data) -> None:
    """Raise TypeError with one sentence where `recipe` is no Recipe or `data` no Dataset."""
    checks.kind("recipe", recipe, Recipe, "a Recipe, such as Recipe(lr=0.1)")
    checks.kind("data", data, Dataset, "a Dataset; make one with load() or from_arrays()")


def batch_order(seed: int, n: int, batch_size: int | None, epoch: int) -> Tensor:
    """Which examples go into which step of this epoch: indices (steps, batch). A fresh permutation for every epoch."""
    size = n if batch_size is None else min(batch_size, n)
    generator = torch.Generator().manual_seed(streams.stream(seed, 1 + epoch))
    return torch.randperm(n, generator=generator)[: n // size * size].view(-1, size)


def fresh_model(recipe: Recipe, data, dtype=torch.float32) -> nn.Module:
    """The model of this recipe with its first weights, on the CPU (so that they are the same on every device)."""
    shape = tuple(data.x_train.shape[1:])
    options = {k: getattr(recipe, k) for k in models.OPTIONS[recipe.model]}
    model = models.build(recipe.model, shape, data.n_classes, **options)
    x = data.x_train.float()
    init.initialize(model, recipe.init, scale=recipe.init_scale, seed=streams.stream(recipe.seed, 0), x=x)
    if recipe.output_bias == "prior":
        init.prior_bias(model, data.y_train, data.n_classes, odds=recipe.loss == "binary_cross_entropy")
    if recipe.branch_scale != 1:
        blocks.scale_branches(model, recipe.branch_scale)
    for k, layer in enumerate(m for m in model.modules() if isinstance(m, blocks.Dropout)):
        layer.key.fill_(streams.stream(recipe.seed, 10**9 + k) % 2**32)
    return model.to(dtype)


def augmented(recipe: Recipe, x: Tensor, step: int) -> Tensor:
    """The inputs of this step, changed at random where the recipe says so."""
    if recipe.augment == "none":
        return x
    seed = streams.stream(recipe.seed, 10**6 + step)
    return augment.augment(recipe.augment, x, strength=recipe.augment_strength, seed=seed)


def prepared(recipe: Recipe, data):
    """The training data that this recipe asks for: a subset, and labels with noise."""
    if recipe.n_train is not None:
        data = data.subset(recipe.n_train)
    return data.with_label_noise(recipe.label_noise) if recipe.label_noise else data


def steps_per_epoch(recipe: Recipe, n: int) -> int:
    """Gradient steps in one pass over n examples."""
    return n // (n if recipe.batch_size is None else min(recipe.batch_size, n))


@torch.no_grad()
def evaluate(model, loss, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean loss and accuracy (a fraction) in evaluation mode; with a stack, N of each."""
    model.eval()
    logits = model(x)
    return loss(logits, y), (logits.argmax(-1) == y).float().mean(-1)


class EarlyStop:
    """Early stopping with the best weights kept (Prechelt 1998): one run's memory of its lowest validation loss."""

    def __init__(self, patience: int):
        self.patience, self.row, self.state = patience, None, None

    def see(self, row: dict, state) -> bool:
        """Take in the row of an epoch; True when it is time to stop. `state()` gives copies of the weights."""
        if self.row is None or row["val_loss"] < self.row["val_loss"]:
            self.row, self.state = row, state()
        return row["epoch"] - self.row["epoch"] >= self.patience

    def settle(self, curve: list[dict]) -> dict:
        """Write the scores of the kept weights into the last row, with `best_epoch`; return those weights."""
        kept = {k: self.row[k] for k in ("val_loss", "val_accuracy")}
        curve[-1] = {**curve[-1], **kept, "best_epoch": self.row["epoch"]}
        return self.state


def train_one(recipe: Recipe, data, *, device="cpu", dtype=torch.float32, test: str = "", prepare=lambda model: model):
    """Train one ordinary `nn.Module` with one torch.optim optimizer: what the engine must equal.

    Returns (model, curve), the curve a list with one dict per epoch: epoch, step, seconds, train_loss and
    train_accuracy (means over the epoch's batches, before each step), val_loss, val_accuracy. With a reason in `test`
    the last dict also has test_loss and test_accuracy, and the reading is logged in the data set's seal. With a
    patience the curve ends where training stopped, and its last validation scores are those of the weights kept.
    `prepare(model)` gives what is trained: the fresh model itself, through quicker layers, or another one in its place.
    """
    given(recipe, data), checks.text("test", test), checks.function("prepare", prepare, "quick.quicken")
    data = prepared(recipe, data).to(device, dtype)
    model = prepare(fresh_model(recipe, data, dtype)).to(device)
    loss = losses.make(recipe)
    optimizer = optim.make(recipe.optimizer, model.parameters(), recipe)
    per_epoch = steps_per_epoch(recipe, data.n_train)

    def lr_at(step):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * lr_factor_at(recipe, step, per_epoch)

    def batches():
        for epoch in range(recipe.epochs):
            order = batch_order(recipe.seed, data.n_train, recipe.batch_size, epoch).to(device)
            for step, i in enumerate(order, epoch * per_epoch):
                yield augmented(recipe, data.x_train[i], step), data.y_train[i]

    def clip():
        if recipe.clip_value:
            nn.utils.clip_grad_value_(model.parameters(), recipe.clip_value)
        if recipe.clip_norm:
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)

    early = EarlyStop(recipe.patience) if recipe.patience else None
    curve, seen, started = [], [], time.perf_counter()
    for step, pair in enumerate(fit(model, loss, optimizer, batches(), lr_at, clip), 1):
        seen.append(pair)
        if step % per_epoch == 0:
            row = {"epoch": step // per_epoch, "step": step, "seconds": time.perf_counter() - started}
            row["train_loss"], row["train_accuracy"] = (
                float(torch.stack(part).mean()) for part in zip(*seen, strict=True)
            )
            row["val_loss"], row["val_accuracy"] = map(float, evaluate(model, loss, data.x_val, data.y_val))
            curve.append(row)
            seen = []
            if early and early.see(row, lambda: copy.deepcopy(model.state_dict())):
                break
    if early:
        model.load_state_dict(early.settle(curve))
    if test:
        curve[-1]["test_loss"], curve[-1]["test_accuracy"] = map(float, evaluate(model, loss, *data.open_test(test)))
    return model, curve


def lr_factor_at(recipe: Recipe, step: int, per_epoch: int) -> float:
    """The factor on the learning rate at this step of the run (0 is the first): the schedule at the step's middle."""
    if recipe.schedule == "constant" and not recipe.warmup:  # the usual one, in every step
        return 1.0
    return schedules.lr_factor(recipe.schedule, recipe.warmup, (step + 0.5) / (recipe.epochs * per_epoch))
