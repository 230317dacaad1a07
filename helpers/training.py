"""The training loop, in view. `fit` is the definition of every result in this book."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from helpers import init, losses, models, optim, schedules
from helpers.recipe import Recipe


def fit(model, loss, optimizer, batches, lr_at, clip=None) -> Iterator[tuple[Tensor, Tensor]]:
    """The training loop: one gradient step per batch. Yields the loss and the accuracy on each batch, before the step.

    `model(x)` gives logits (batch, classes) and `loss(logits, y)` a number; with a stack of N models (see
    `helpers.engine`) both have a leading axis N, and nothing else changes. `lr_at(step)` sets the learning rate.
    """
    for step, (x, y) in enumerate(batches):
        lr_at(step)
        model.train()
        logits = model(x)
        losses = loss(logits, y)
        optimizer.zero_grad()
        losses.sum().backward()
        if clip is not None:
            clip()
        optimizer.step()
        yield losses.detach(), (logits.detach().argmax(-1) == y).float().mean(-1)


def batch_order(seed: int, n: int, batch_size: int | None, epoch: int) -> Tensor:
    """Which examples go into which step of this epoch: indices (steps, batch). A fresh permutation for every epoch."""
    size = n if batch_size is None else min(batch_size, n)
    generator = torch.Generator().manual_seed(_stream(seed, 1 + epoch))
    return torch.randperm(n, generator=generator)[: n // size * size].view(-1, size)


def _stream(seed: int, k: int) -> int:
    # independent streams for the weights (k = 0) and for each epoch's order
    return (seed * 1_000_003 + k) % (2**62)


def fresh_model(recipe: Recipe, data, dtype=torch.float32) -> nn.Module:
    """The model of this recipe with its first weights, on the CPU (so that they are the same on every device)."""
    shape = tuple(data.x_train.shape[1:])
    options = {k: getattr(recipe, k) for k in ("depth", "width", "activation", "norm")}
    model = models.build(recipe.model, shape, data.n_classes, **options)
    x = data.x_train.float()
    init.initialize(model, recipe.init, scale=recipe.init_scale, seed=_stream(recipe.seed, 0), x=x)
    return model.to(dtype)


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


def train_one(recipe: Recipe, data, *, device="cpu", dtype=torch.float32, test: str = ""):
    """Train one ordinary `nn.Module` with one torch.optim optimizer: what the engine must equal.

    Returns (model, curve), the curve a list with one dict per epoch: epoch, step, seconds, train_loss and
    train_accuracy (means over the epoch's batches, before each step), val_loss, val_accuracy. With a reason in `test`
    the last dict also has test_loss and test_accuracy, and the reading is logged in the data set's seal.
    """
    data = prepared(recipe, data).to(device, dtype)
    model = fresh_model(recipe, data, dtype).to(device)

    def loss(logits, y):
        return losses.loss(recipe.loss)(logits, y, recipe.label_smoothing)

    optimizer = optim.make(recipe.optimizer, model.parameters(), recipe)
    per_epoch = steps_per_epoch(recipe, data.n_train)

    def lr_at(step):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * lr_factor_at(recipe, step, per_epoch)

    def batches():
        for epoch in range(recipe.epochs):
            for i in batch_order(recipe.seed, data.n_train, recipe.batch_size, epoch).to(device):
                yield data.x_train[i], data.y_train[i]

    def clip():
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)

    curve, seen, started = [], [], time.perf_counter()
    for step, pair in enumerate(fit(model, loss, optimizer, batches(), lr_at, clip if recipe.clip_norm else None), 1):
        seen.append(torch.stack(pair))
        if step % per_epoch == 0:
            row = {"epoch": step // per_epoch, "step": step, "seconds": time.perf_counter() - started}
            row["train_loss"], row["train_accuracy"] = torch.stack(seen).mean(0).tolist()
            row["val_loss"], row["val_accuracy"] = map(float, evaluate(model, loss, data.x_val, data.y_val))
            curve.append(row)
            seen = []
    if test:
        curve[-1]["test_loss"], curve[-1]["test_accuracy"] = map(float, evaluate(model, loss, *data.open_test(test)))
    return model, curve


def lr_factor_at(recipe: Recipe, step: int, per_epoch: int) -> float:
    """The factor on the learning rate at this step of the run (0 is the first): the schedule at the step's middle."""
    return schedules.lr_factor(recipe.schedule, recipe.warmup, (step + 0.5) / (recipe.epochs * per_epoch))
