"""Chapter 8, batch normalization: by hand, in training and evaluation, over small batches and over two processes."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import itertools
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.func import vmap

from helpers import blocks, checks, engine, losses, models, probe, stacks, training
from helpers.claims import Evidence, above, below, exact
from helpers.compare import TUNING_SEED
from helpers.recipe import Recipe

BN = (nn.BatchNorm1d, nn.BatchNorm2d)
MODES = ("stored statistics", "the test batch", "batches of two", "no normalization", "no layer at all")
ARMS = {"none": "no normalization", "batch": "batch norm", "layer": "layer norm", "group": "group norm"}


# --- the layer by hand


def batch_norm(x: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
    """Batch normalization in training (Ioffe & Szegedy 2015): x (batch, features) or (batch, channels, h, w)."""
    over = [d for d in range(x.dim()) if d != 1]  # the batch, and the pixels of an image
    mean = x.mean(over, keepdim=True)
    var = x.var(over, correction=0, keepdim=True)
    shape = mean.shape
    return gamma.view(shape) * (x - mean) / (var + eps).sqrt() + beta.view(shape)


def remember(old: Tensor, new: Tensor, momentum: float = 0.1) -> Tensor:
    """The running statistic after one more batch. `momentum` is the weight of the new value, as in torch."""
    return (1 - momentum) * old + momentum * new


def fold(layer: nn.Module, norm: nn.Module) -> nn.Module:
    """A copy of a linear or convolutional layer that also does what `norm` does after it in evaluation."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    folded = copy.deepcopy(layer)
    folded.weight.data = layer.weight * scale.view(-1, *[1] * (layer.weight.dim() - 1))
    folded.bias.data = (layer.bias - norm.running_mean) * scale + norm.bias
    return folded


class GhostBatchNorm(nn.Module):
    """Batch normalization in which every `size` neighbours have statistics of their own (Hoffer et al. 2017).

    So it is on several cards without synchronization. The stored statistics are the mean over the groups.
    """

    def __init__(self, features: int, size: int, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__()
        self.size, self.eps, self.momentum = checks.integer("size", size, low=2, try_="2"), eps, momentum
        self.weight, self.bias = nn.Parameter(torch.ones(features)), nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        shape = (1, -1, *[1] * (x.dim() - 2))
        if not self.training:
            scale = self.weight / (self.running_var + self.eps).sqrt()
            return x * scale.view(shape) + (self.bias - self.running_mean * scale).view(shape)
        groups = x.reshape(-1, self.size, *x.shape[1:])
        over = [1, *range(3, groups.dim())]
        mean, var = groups.mean(over, keepdim=True), groups.var(over, correction=0, keepdim=True)
        n = groups[0].numel() // groups.shape[2]
        for old, new in ((self.running_mean, mean), (self.running_var, var * n / (n - 1))):
            old.mul_(1 - self.momentum).add_(self.momentum * new.detach().flatten(1).mean(0))
        y = ((groups - mean) / (var + self.eps).sqrt()).reshape(x.shape)
        return y * self.weight.view(shape) + self.bias.view(shape)


class ShakenBatchNorm(nn.BatchNorm1d):
    """Batch normalization followed, in training, by noise that changes in every step (after Santurkar et al. 2018).

    Each unit is multiplied by a factor from U(1 - strength, 1 + strength) and shifted by U(-strength, strength), for
    the whole batch at once: the next layer sees another distribution at every step.
    """

    def __init__(self, features: int, strength: float, key: int):
        super().__init__(features)
        self.strength = strength
        self.register_buffer("key", torch.tensor(key))

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        if not self.training:
            return y
        places = torch.arange(2 * y.shape[1])
        drawn = blocks.hashed(places + blocks.hashed(self.key + blocks.hashed(self.num_batches_tracked)))
        u = (2 * self.strength * (drawn.to(y.dtype) / 2**32 - 0.5)).view(2, 1, -1)
        return y * (1 + u[0]) + u[1]


def replaced(model: nn.Module, make: Callable[[nn.Module, int], nn.Module]) -> nn.Module:
    """A copy of the model in which `make(layer, i)` stands in the place of the i-th batch normalization."""
    model, count = copy.deepcopy(model), itertools.count()
    for part in list(model.modules()):
        for name, child in list(part.named_children()):
            if isinstance(child, (*BN, GhostBatchNorm)):
                setattr(part, name, make(child, next(count)))
    return model


def ghosts(model: nn.Module, size: int) -> nn.Module:
    """A copy whose normalizations see `size` examples at a time, with the same parameters and statistics."""

    def make(layer, i):
        new = GhostBatchNorm(layer.num_features, size, layer.eps, layer.momentum).to(layer.weight)
        new.load_state_dict({k: v for k, v in layer.state_dict().items() if k != "num_batches_tracked"})
        return new

    return replaced(model, make)


def folded(model: nn.Module) -> nn.Module:
    """A copy without normalization layers that computes the same in evaluation: each is folded into the layer before.

    Raises ValueError where a normalization does not follow a linear or convolutional layer.
    """
    model = copy.deepcopy(model).eval()
    for part in [m for m in model.modules() if isinstance(m, nn.Sequential)]:
        for i, child in enumerate(part):
            if isinstance(child, BN):
                if i == 0 or not isinstance(part[i - 1], nn.Linear | nn.Conv2d):
                    before = type(part[i - 1]).__name__ if i else "nothing"
                    raise ValueError(
                        f"model={type(model).__name__} cannot be folded: a {type(child).__name__} follows "
                        f"{before}; it must follow a Linear or Conv2d."
                    )
                part[i - 1], part[i] = fold(part[i - 1], child), nn.Identity()
    return model


@torch.no_grad()
def again(model: nn.Module, x: Tensor) -> nn.Module:
    """Estimate the stored statistics again, in place, from one pass over all of `x` (Wu & Johnson 2021).

    `model` is a network or an `stacks.Stack`, whose members all read the same x.
    """
    skeleton = getattr(model, "skeleton", model)
    norms = [m for m in skeleton.modules() if isinstance(m, BN)]
    kept = [m.momentum for m in norms]
    for m in norms:
        m.momentum = 1.0
    model.train()
    model(x.expand(model.n, *x.shape) if skeleton is not model else x)
    for m, old in zip(norms, kept, strict=True):
        m.momentum = old
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor):
    """Share of right answers in evaluation: a number, or one for each member of a stack."""
    model.eval()
    return (model(x).argmax(-1) == y).float().mean(-1)


@torch.no_grad()
def modes(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, float]:
    """Accuracy of a trained network with batch normalization in five ways of using it (names: `MODES`)."""
    n = len(x) // 2 * 2
    x, y = x[:n], y[:n]

    def bare(layer, i):  # keeps gamma and beta, drops the statistics
        new = copy.deepcopy(layer)
        new.running_mean.zero_()
        new.running_var.fill_(1.0)
        return new

    ways = {
        "stored statistics": copy.deepcopy(model).eval(),
        "the test batch": copy.deepcopy(model).train(),
        "batches of two": ghosts(model, 2).train(),
        "no normalization": replaced(model, bare).eval(),
        "no layer at all": replaced(model, lambda layer, i: nn.Identity()).eval(),
    }
    return {name: (m(x).argmax(-1) == y).float().mean().item() for name, m in ways.items()}


# --- training with a look inside


def members(recipes: Sequence[Recipe], data, change: Callable[[nn.Module], nn.Module] = lambda m: m) -> list:
    """Fresh models of these recipes, each changed by `change`."""
    return [change(training.fresh_model(r, data)) for r in recipes]


def train_from(start: Sequence[nn.Module], recipes: Sequence[Recipe], data) -> Iterator[tuple]:
    """Train models of our own making, all at once, in the loop of the book; model i by recipe i.

    The recipes differ in seed and in settings of the optimizer alone. Yields (epochs so far, stack, training loss of
    each model in the last epoch), before training too.
    """
    first, data = recipes[0], training.prepared(recipes[0], data)
    stack = stacks.Stack(start)
    optimizer, each = stacks.StackedOptimizer(stack, recipes), vmap(losses.make(first))
    per_epoch = training.steps_per_epoch(first, data.n_train)

    def batches():
        for epoch in range(first.epochs):
            order = [training.batch_order(r.seed, data.n_train, first.batch_size, epoch) for r in recipes]
            for i in torch.stack(order, 1):
                yield data.x_train[i], data.y_train[i]

    yield 0, stack, torch.full((stack.n,), torch.nan)
    loop, seen = training.fit(stack, each, optimizer, batches(), lambda s: optimizer.set_lr(s, per_epoch)), []
    for step, (loss, _) in enumerate(loop, 1):
        seen.append(loss)
        if step % per_epoch == 0:
            yield step // per_epoch, stack, torch.stack(seen).mean(0)
            seen = []


def scaled(model: nn.Module, factor: float) -> nn.Module:
    """The same model with the weights of every layer but the last multiplied by `factor`, in place."""
    for layer in models.weight_layers(model)[:-1]:
        layer.weight.data *= factor
    return model


def sweep(base: Recipe, data, *, factors: Sequence[float], rates, seeds: int, tuning: int = 2, keep=lambda r, f: False):
    """Train with and without batch normalization over a grid of first weights and rates. Returns (table, models).

    Rows: norm, factor (on the first weights of all layers but the last), lr, seed, train_loss (last epoch),
    val_accuracy and test_accuracy as trained, val_again: with the stored statistics estimated again from the training
    rows. Seeds: 0, 1, ... and `tuning` more from 10,000 on. `models` has the trained network of every (recipe, factor)
    for which `keep(recipe, factor)` is true.
    """
    rows, kept, prepared = [], {}, training.prepared(base, data)
    test = data.open_test("verdict on norm, by factor and lr")
    seeds = [*range(seeds), *range(TUNING_SEED, TUNING_SEED + tuning)]
    for norm in ("none", "batch"):
        cells = [(r, f) for f in factors for r in base.but(norm=norm).vary(lr=list(rates), seed=seeds)]
        for k in range(0, len(cells), stacks.STACK):
            chunk = cells[k : k + stacks.STACK]
            start = [scaled(training.fresh_model(r, data), f) for r, f in chunk]
            *_, (_, stack, loss) = train_from(start, [r for r, _ in chunk], data)
            table = {"train_loss": loss, "val_accuracy": accuracy(stack, data.x_val, data.y_val)}
            table["test_accuracy"] = accuracy(stack, *test)
            kept |= {cell: stack.unstack(i) for i, cell in enumerate(chunk) if keep(*cell)}
            table["val_again"] = accuracy(again(stack, prepared.x_train), data.x_val, data.y_val)
            about = [{"norm": norm, "factor": f, "lr": r.lr, "seed": r.seed} for r, f in chunk]
            rows.append(pd.DataFrame(about).assign(**{k: v.tolist() for k, v in table.items()}))
    return pd.concat(rows, ignore_index=True), kept


def tuned(table: pd.DataFrame, by: list[str], *, rate: str = "lr", score: str = "test_accuracy") -> pd.DataFrame:
    """Each arm at the rate with the best mean validation accuracy on the tuning seeds: rows by, lr, seed, score,
    lowest and highest (rate of the arm's grid)."""
    spare = table["seed"] >= TUNING_SEED
    means = table[spare].groupby([*by, rate])["val_accuracy"].mean()
    best = means.groupby(by).idxmax().map(lambda key: key[-1]).rename(rate).reset_index()
    ends = table.groupby(by)[rate].agg(lowest="min", highest="max").reset_index()
    rows = table[~spare].merge(best, on=[*by, rate]).merge(ends, on=by)
    return rows[[*by, rate, "seed", score, "lowest", "highest"]]


def at_edge(scores: pd.DataFrame, by: list[str], *, rate: str = "lr") -> list[str]:
    """The arms of `tuned` whose best rate is the lowest or the highest of its grid, in words."""
    rows = scores[(scores[rate] == scores["lowest"]) | (scores[rate] == scores["highest"])]
    return [" ".join(f"{v:g}" if isinstance(v, float | int) else str(v) for v in key) for key, _ in rows.groupby(by)]


def pairs(scores: pd.DataFrame, a: dict, b: dict, score: str = "test_accuracy") -> np.ndarray:
    """a - b for each seed, where a and b name the values of columns, such as {"norm": "batch"}."""

    def one(where):
        rows = scores[np.logical_and.reduce([scores[k] == v for k, v in where.items()])]
        return rows.set_index("seed")[score].sort_index()

    return (one(a) - one(b)).dropna().to_numpy()


def small_batches(base: Recipe, data, *, rates: dict, norms, seeds: int, tuning: int, steps: int, passes: int):
    """Accuracy by batch size, kind of normalization and rate; at least `passes` passes and `steps` steps for each.

    `rates` has the rates to try for each batch size: small batches need small ones.

    Rows: batch_size, norm, lr, seed, epochs, train_accuracy, val_accuracy, test_accuracy.
    """
    rows = []
    for size, norm in itertools.product(rates, norms):
        per_epoch = training.steps_per_epoch(base.but(batch_size=size), base.n_train or data.n_train)
        shape = base.but(batch_size=size, norm=norm, epochs=max(passes, math.ceil(steps / per_epoch)))
        runs = engine.train(
            shape.vary(lr=list(rates[size])),
            data,
            seeds=[*range(seeds), *range(TUNING_SEED, TUNING_SEED + tuning)],
            test="verdict on norm and batch_size",
        )
        rows.append(runs.table.assign(norm=norm, batch_size=size))
    columns = ["batch_size", "norm", "lr", "seed", "epochs", "train_accuracy", "val_accuracy", "test_accuracy"]
    return pd.concat(rows, ignore_index=True)[columns]


@torch.no_grad()
def _units(model: nn.Module, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Mean and sd, over the batch, of what each activation of a copy of the model reads in training."""
    model, seen = copy.deepcopy(model).train(), []
    for m in model.modules():
        if isinstance(m, nn.ReLU):
            m.register_forward_pre_hook(lambda m, args: seen.append((args[0].mean(0), args[0].std(0))))
    model(x)
    return seen


def watch(base: Recipe, data, *, seeds: int, shaken: float | None = None, n: int = 256) -> pd.DataFrame:
    """Training with a look at what the activations read. Rows: seed, epoch, train_loss, val_accuracy, val_again, drift,
    roughness.

    drift: how far the mean of a unit moves in one epoch, in its standard deviations (median over all units).
    roughness: highest minus lowest loss of one batch along steps of 0.05 to 0.4 against its gradient (Santurkar et al.
    2018). `shaken` puts noise of this strength after each batch normalization (`ShakenBatchNorm`).
    """
    recipes = base.vary(seed=list(range(seeds)))

    def change(model):
        if shaken is None:
            return model
        return replaced(model, lambda layer, i: ShakenBatchNorm(layer.num_features, shaken, key=i))

    x, y, rows, last = data.x_train[:n], data.y_train[:n], [], [None] * len(recipes)
    for epoch, stack, loss in train_from(members(recipes, data, change), recipes, data):
        for i, r in enumerate(recipes):
            model = stack.unstack(i)
            now, row = _units(model, x), {"seed": r.seed, "epoch": epoch, "train_loss": loss[i].item()}
            if last[i]:
                moved = [(a[0] - b[0]).abs() / (b[1] + 1e-6) for a, b in zip(now, last[i], strict=True)]
                row["drift"] = torch.cat(moved).median().item()
            last[i], row["roughness"] = now, roughness(model, x, y)
            row["val_accuracy"] = accuracy(model, data.x_val, data.y_val).item()
            row["val_again"] = accuracy(again(model, data.x_train), data.x_val, data.y_val).item()
            rows.append(row)
    return pd.DataFrame(rows)


def roughness(model: nn.Module, x: Tensor, y: Tensor, steps=(0.05, 0.1, 0.2, 0.4)) -> float:
    """Highest minus lowest loss of this batch at the weights and at these steps against the gradient."""
    model = copy.deepcopy(model).train()
    loss = nn.functional.cross_entropy
    start, params = loss(model(x), y), list(model.parameters())
    grads, seen, now = torch.autograd.grad(start, params), [start.item()], 0.0
    with torch.no_grad():
        for step in steps:
            for p, g in zip(params, grads, strict=True):
                p -= (step - now) * g
            now = step
            seen.append(loss(model(x), y).item())
    return max(seen) - min(seen)


def norms(base: Recipe, data, *, decays: Sequence[float], seeds: int) -> pd.DataFrame:
    """Length of the weights in training under several weight decays. Rows: weight_decay, seed, epoch, length,
    effective_rate = lr / length², val_accuracy. Length: root of the mean squared norm of the hidden layers' weights."""
    recipes, rows = base.vary(weight_decay=list(decays), seed=list(range(seeds))), []
    for epoch, stack, _ in train_from(members(recipes, data), recipes, data):
        scores = accuracy(stack, data.x_val, data.y_val).tolist()
        for i, r in enumerate(recipes):
            hidden = models.weight_layers(stack.unstack(i))[:-1]
            square = sum(w.weight.detach().square().sum().item() for w in hidden) / len(hidden)
            row = {"weight_decay": r.weight_decay, "seed": r.seed, "epoch": epoch, "length": math.sqrt(square)}
            rows.append(row | {"effective_rate": r.lr / square, "val_accuracy": scores[i]})
    return pd.DataFrame(rows)


def gradients(data, arms: dict[str, Recipe], *, depths, factors, seeds: int, n: int = 64) -> pd.DataFrame:
    """`probe.layer_scales` before training: rows arm, depth, factor (on the first weights), seed, layer, signal,
    gradient. Zeros (beyond the range of numbers) stay."""
    parts = []
    for name, base in arms.items():
        found = probe.layer_scales(base.vary(depth=list(depths), init_scale=list(factors)), data, seeds=seeds, n=n)
        parts.append(found.rename(columns={"init_scale": "factor"}).assign(arm=name))
    return pd.concat(parts, ignore_index=True)[["arm", "depth", "factor", "seed", "layer", "signal", "gradient"]]


def imbalance(table: pd.DataFrame, arm: str, depth: int, factor: float) -> pd.Series:
    """log10 of (gradient in layer 1 / gradient in the last hidden layer), per seed: 0 = equal, 4 = 10,000 times."""
    rows = table[(table["arm"] == arm) & (table["depth"] == depth) & (table["factor"] == factor)]
    ends = rows[rows["layer"].isin([1, depth])].pivot(index="seed", columns="layer", values="gradient")
    return np.log10(ends[1].clip(lower=1e-45) / ends[depth].clip(lower=1e-45))


def variance_shift(base: Recipe, data, *, shares: Sequence[float], seeds: int) -> pd.DataFrame:
    """Dropout before batch normalization (Li et al. 2019). Rows: dropout, seed, shift, running, again.

    shift: stored variance over the variance that the last normalization meets in evaluation (training rows, median
    over units); running and again: validation accuracy with the stored statistics, and with statistics taken anew in
    evaluation, without dropout."""
    rows = []
    for share in shares:
        recipes = base.vary(dropout=[share], seed=list(range(seeds)))
        *_, (_, stack, _) = train_from(members(recipes, data), recipes, data)
        for seed in range(seeds):
            model, met = stack.unstack(seed).eval(), []
            norm = [m for m in model.modules() if isinstance(m, BN)][-1]
            hook = norm.register_forward_pre_hook(lambda m, args, met=met: met.append(args[0].detach().var(0)))
            running = accuracy(model, data.x_val, data.y_val).item()
            accuracy(model, data.x_train, data.y_train)
            hook.remove()
            shift = (norm.running_var / met[-1].clamp(min=1e-8)).median().item()
            quiet = replaced_dropout(model)
            anew = accuracy(again(quiet, data.x_train), data.x_val, data.y_val).item()
            rows.append({"dropout": share, "seed": seed, "shift": shift, "running": running, "again": anew})
    return pd.DataFrame(rows)


def replaced_dropout(model: nn.Module) -> nn.Module:
    """A copy in which every dropout layer is gone."""
    model = copy.deepcopy(model)
    for part in list(model.modules()):
        for name, child in list(part.named_children()):
            if isinstance(child, blocks.Dropout):
                setattr(part, name, nn.Identity())
    return model


def cards(base: Recipe, data, *, per_card, n_cards: int, rates, seeds: int, tuning: int, passes: int, steps: int):
    """Training on `n_cards` cards, simulated in one process: statistics per card, or over all of them ("sync").

    Rows: per_card, statistics, lr, seed, val_accuracy (last epoch), test_accuracy. Both arms see the same batches of
    n_cards x per_card examples and take the same steps: `passes` over the data, and `steps` at least."""
    seeds = [*range(seeds), *range(TUNING_SEED, TUNING_SEED + tuning)]
    rows, test = [], data.open_test("verdict on synchronized statistics")
    for size, how in itertools.product(per_card, ("per card", "synchronized")):
        shape = base.but(batch_size=size * n_cards)
        long = math.ceil(steps / training.steps_per_epoch(shape, base.n_train or data.n_train))
        recipes = shape.but(epochs=max(passes, long)).vary(lr=list(rates), seed=seeds)
        group = size if how == "per card" else size * n_cards
        *_, (_, stack, _) = train_from(members(recipes, data, lambda m, g=group: ghosts(m, g)), recipes, data)
        scores = zip(accuracy(stack, data.x_val, data.y_val), accuracy(stack, *test), strict=True)
        for r, (val, final) in zip(recipes, scores, strict=True):
            about = {"per_card": size, "statistics": how, "lr": r.lr, "seed": r.seed}
            rows.append(about | {"val_accuracy": val.item(), "test_accuracy": final.item()})
    return pd.DataFrame(rows)


# --- synchronized batch normalization over two processes


class AllReduce(torch.autograd.Function):
    """The sum over all processes, forward and back: what a gradient needs to cross from one process to another."""

    @staticmethod
    def forward(ctx, x):
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient):
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def sync_batch_norm(x: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
    """Batch normalization with the mean and variance of all processes' rows (Peng et al. 2018): x (rows, features)."""
    rows = torch.full_like(x[:1, 0], len(x))
    total = AllReduce.apply(torch.cat([rows, x.sum(0), x.square().sum(0)]))
    n, sums, squares = total[0], *total[1:].chunk(2)
    mean = sums / n
    var = squares / n - mean**2
    return gamma * (x - mean) / (var + eps).sqrt() + beta


def _card(rank: int, cards: int, folder: str, warm_up: int, repeats: int) -> None:
    """What one process does: normalize its part of a batch together with the others, then time a layer."""
    torch.set_num_threads(1)
    if sys.platform.startswith("linux"):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    place = pathlib.Path(folder)
    meeting = (place / "meeting").as_uri()
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=cards)
    x, c, gamma, beta = torch.load(place / "input.pt", weights_only=True)
    part = slice(rank * len(x) // cards, (rank + 1) * len(x) // cards)
    found = {}
    for name, layer in (("sync", sync_batch_norm), ("local", batch_norm)):
        mine = x[part].clone().requires_grad_()
        out = layer(mine, gamma, beta)
        (out * c[part]).sum().backward()
        found[name] = {"out": out.detach(), "grad": mine.grad}
        alone = x[part].clone().requires_grad_()  # only the first process has a loss now
        (layer(alone, gamma, beta) * c[part] * (rank == 0)).sum().backward()
        found[name]["grad of the first card's loss"] = alone.grad
    try:
        nn.SyncBatchNorm(x.shape[1])(x[part].float())
        found["torch"] = "torch.nn.SyncBatchNorm took it."
    except (ValueError, RuntimeError) as error:
        found["torch"] = f"{type(error).__name__}: {error}"
    data, times = torch.randn(256, 64), {"sync": [], "local": []}
    ones, zeros = torch.ones(64, requires_grad=True), torch.zeros(64, requires_grad=True)
    for i in range(warm_up + repeats):
        for name, layer in (("sync", sync_batch_norm), ("local", batch_norm)):
            dist.barrier()
            started = time.perf_counter()
            layer(data.requires_grad_(), ones, zeros).square().sum().backward()
            if i >= warm_up:
                times[name].append(time.perf_counter() - started)
    torch.save(found | {"seconds": times}, place / f"card{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def _script() -> str:
    """The source of what a process needs, as a program of its own: it starts without the rest of the book."""
    head = "from __future__ import annotations\nimport os, pathlib, sys, time\nimport torch\n"
    head += "import torch.distributed as dist\nfrom torch import Tensor, nn\n\n"
    body = "\n\n".join(inspect.getsource(f) for f in (batch_norm, AllReduce, sync_batch_norm, _card))
    return head + body + "\n\n_card(int(sys.argv[1]), 2, sys.argv[2], 5, int(sys.argv[3]))\n"


def two_cards(*, rows: int = 32, features: int = 8, repeats: int = 30, seed: int = 0, timeout: float = 120) -> dict:
    """Run `sync_batch_norm` in two processes that talk through gloo, and compare with one process that has all rows.

    Returns {"reason": ""} with: sync, local (largest differences), crossing_sync, crossing_local (largest gradient of
    the first card's loss on the second card), torch (what nn.SyncBatchNorm says), seconds (DataFrame, one row per
    repeat). Where processes cannot talk, "reason" says why.
    """
    checks.integer("rows", rows, low=4, try_="32")
    checks.integer("repeats", repeats, low=2, try_="30")
    if not (dist.is_available() and dist.is_gloo_available()):
        return {"reason": "this build of torch has no torch.distributed with gloo, so the two processes are left out."}
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(rows // 2 * 2, features, generator=draw, dtype=torch.float64)
    x[rows // 2 :] += 2  # the two cards see different data
    c, gamma, beta = (torch.randn(s, generator=draw, dtype=torch.float64) for s in (x.shape, features, features))
    whole = x.clone().requires_grad_()
    out = batch_norm(whole, gamma, beta)
    (out * c).sum().backward()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        place, workers, quiet = pathlib.Path(folder), [], subprocess.DEVNULL
        torch.save((x, c, gamma, beta), place / "input.pt")
        (place / "card.py").write_text(_script(), encoding="utf-8")
        try:
            for rank in range(2):
                command = [sys.executable, str(place / "card.py"), str(rank), folder, str(repeats)]
                workers.append(subprocess.Popen(command, stdout=quiet, stderr=quiet))
            ended = [w.wait(timeout) for w in workers]
        except (OSError, subprocess.TimeoutExpired) as error:
            return {"reason": f"two processes could not work together here ({type(error).__name__})."}
        finally:
            for w in workers:
                w.kill()
                w.wait()
        if any(ended):
            return {"reason": "two processes could not meet here (gloo found no way between them)."}
        found = [torch.load(place / f"card{rank}.pt", weights_only=True) for rank in range(2)]
    told = {"reason": "", "torch": found[0]["torch"], "seconds": pd.DataFrame(found[0]["seconds"])}
    for name in ("sync", "local"):
        got = {k: torch.cat([f[name][k] for f in found]) for k in ("out", "grad")}
        told[name] = {"out": _gap(got["out"], out), "grad": _gap(got["grad"], whole.grad)}
        told[f"crossing_{name}"] = found[1][name]["grad of the first card's loss"].abs().max().item()
    return told


def _gap(a: Tensor, b: Tensor) -> float:
    return (a - b).detach().abs().max().item()


# --- evidence: each function writes the evidence of one experiment into the ledger; its docstring has the rule


def gain(sentence: str, values, *, least: float = 0.0) -> Evidence:
    """Evidence that differences of accuracy (fractions, one per seed) lie above zero by at least `least`; in points."""
    return above(sentence, [100 * v for v in values], margin=100 * least, unit=" points")


def no_loss(sentence: str, values, *, allowed: float = 0.005) -> Evidence:
    """Evidence that differences of accuracy lie above minus `allowed`: that nothing worth naming is lost; in points."""
    return above(sentence, [100 * v for v in values], zero=-100 * allowed, unit=" points")


def judge_formulas(ledger, data) -> None:
    """Exact checks (R3) in float64, on one batch: BN-01, 02, 03, 06, 07, 11, 12 and 13. Equal means within 1e-10."""
    draw = torch.Generator().manual_seed(0)
    rows = data.x_train.double()[:256]
    rows = rows + 0.1 * torch.randn(rows.shape, generator=draw, dtype=rows.dtype)  # no pixel is always the same
    x, image = rows[:32].flatten(1), rows[:32]
    ones, zeros = torch.ones(x.shape[1]).to(x), torch.zeros(x.shape[1]).to(x)
    layer, layer2 = nn.BatchNorm1d(x.shape[1]).double(), nn.BatchNorm2d(image.shape[1]).double()
    y = batch_norm(x, ones, zeros)
    gap = max(_gap(y, layer(x)), _gap(batch_norm(image, ones[:1], zeros[:1]), layer2(image)))
    off = max(y.mean(0).abs().max().item(), (y.var(0, correction=0) - 1).abs().max().item())
    row = y.mean(1).abs().max().item()
    try:
        layer(x[:1])
        alone = "is accepted"
    except ValueError:
        alone = "is refused (ValueError)"
    told = f"By hand and torch agree to {gap:.0e}, 1d and 2d; means are 0 and variances 1 within {off:.0e}."
    ledger.add("BN-01", each_feature_over_the_batch=exact(told, gap < 1e-10 and off < 1e-2))
    ledger.add("BN-12", batch_mean_and_variance=exact(told, gap < 1e-10))
    told = f"The mean of one normalized input is up to {row:.2f} from 0; in training a single input {alone}."
    ledger.add("BN-01", each_input_by_itself=exact(told, row < 1e-6))

    outside, wrong = ((y < 0) | (y > 1)).double().mean().item(), (x.mean(0) - rows.flatten(1).mean(0)).abs().max()
    told = f"{100 * outside:.0f} % of the normalized values lie outside 0 to 1; they reach from {y.min():.1f} to "
    ledger.add("BN-02", between_0_and_1=exact(told + f"{y.max():.1f}.", outside == 0))
    told = f"The mean of a batch of 32 is up to {wrong:.2f} away from that of {len(rows)} rows."
    ledger.add("BN-02", the_true_mean=exact(told, wrong.item() < 1e-6))
    told = f"Before the scale and shift every feature has mean 0 and variance 1, within {off:.0e}."
    ledger.add("BN-06", same_mean_and_variance=exact(told, off < 1e-2))

    _judge_weights(ledger, x, draw)
    _judge_statistics(ledger, rows, layer)


def _judge_weights(ledger, x: Tensor, draw) -> None:
    w = torch.randn(x.shape[1], 64, generator=draw, dtype=x.dtype)
    b, c = torch.zeros(64).to(x).requires_grad_(), torch.randn(32, 64, generator=draw, dtype=x.dtype)
    one, none, outs, grads = torch.ones(64).to(x), torch.zeros(64).to(x), {}, {}
    for factor in (1, 10):
        wide = (factor * w).requires_grad_()
        outs[factor] = batch_norm(x @ wide + b, one, none, eps=0.0)
        grads[factor], gb = torch.autograd.grad((outs[factor] * c).sum(), (wide, b))
    change, ratio = _gap(outs[10], outs[1]), (grads[1].norm() / grads[10].norm()).item()
    told = f"Weights times 10 change the output by {change:.0e}; their gradient is {ratio:.1f} times smaller."
    ledger.add("BN-03", the_output_of_the_layer=exact(told, change < 1e-10))
    plain = _gap(x @ (10 * w), x @ w)
    told = f"Weights times 10: the output changes by {plain:.0f} without the layer and by {change:.0e} with it."
    ledger.add("BN-07", the_same_function_of_the_weights=exact(told, (plain > 1e-6) == (change > 1e-6)))
    before = [type(a).__name__ for name in ("mlp", "cnn", "lenet5") for a in _before(name)]
    told = f"{len(before)} normalizations in our three networks, all behind {' or '.join(sorted(set(before)))}."
    ledger.add("BN-11", in_our_networks=exact(told, set(before) <= {"Linear", "Conv2d"}))
    largest = grads[1].abs().max()
    told = f"The gradient of a bias before the layer is {gb.abs().max():.0e}, of a weight up to {largest:.1f}."
    ledger.add("BN-11", the_bias_before_it_does_nothing=exact(told, gb.abs().max().item() < 1e-10))


def _judge_statistics(ledger, rows: Tensor, layer: nn.Module) -> None:
    x, draw = rows[:32].flatten(1), torch.Generator().manual_seed(1)
    other = torch.cat([x[:1], rows[32:63].flatten(1)])
    mates, still = _gap(layer(other)[0], layer(x)[0]), _gap(layer.eval()(other)[0], layer(x)[0])
    told = f"Other neighbours in the batch change an output by {mates:.2f} in training, by {still:.0f} in evaluation."
    ledger.add("BN-07", the_same_output_for_the_same_input=exact(told, mates < 1e-6))

    ones, zeros = torch.ones(x.shape[1]).to(x), torch.zeros(x.shape[1]).to(x)
    fresh, mean, var = nn.BatchNorm1d(x.shape[1]).double(), zeros, ones
    for part in rows[:96].flatten(1).split(32):
        fresh(part)
        mean, var = remember(mean, part.mean(0)), remember(var, part.var(0, correction=1))
    kept = max(_gap(mean, fresh.running_mean), _gap(var, fresh.running_var))
    told = f"After three batches the stored values equal 0.9 old + 0.1 new, the variance over n - 1, to {kept:.0e}."
    ledger.add("BN-12", a_running_average=exact(told, kept < 1e-10))
    fresh.weight.data, fresh.bias.data = (torch.randn(x.shape[1], generator=draw, dtype=x.dtype) for _ in range(2))
    gap = _gap(batch_norm(x, fresh.weight, fresh.bias), fresh(x))
    told = f"With a random scale and shift, by hand and torch agree to {gap:.0e}."
    ledger.add("BN-12", then_scale_and_shift=exact(told, gap < 1e-10))
    fresh.eval()
    hand = fresh.weight * (x - fresh.running_mean) / (fresh.running_var + fresh.eps).sqrt() + fresh.bias
    told = f"In evaluation torch normalizes with the stored values, to {_gap(hand, fresh(x)):.0e}."
    ledger.add("BN-13", no_normalization_in_evaluation=exact(told, _gap(hand, fresh(x)) > 1e-10))


def _before(name: str) -> list[nn.Module]:
    """The layer that stands before each batch normalization of this network."""
    model = models.build(name, (1, 28, 28), 10, depth=8, width=8, norm="batch")
    rows = [list(m) for m in model.modules() if isinstance(m, nn.Sequential)]
    return [a for row in rows for a, b in itertools.pairwise(row) if isinstance(b, BN)]


def usable(table: pd.DataFrame, norm: str, *, limit: float = 1.0) -> pd.Series:
    """log10 of the largest rate with a training loss below `limit` in the last epoch, per seed (first weights as
    published); half a decade below the grid where there is none."""
    rows = table[(table["norm"] == norm) & (table["factor"] == 1) & (table["seed"] < TUNING_SEED)]
    largest = rows[rows["train_loss"] < limit].groupby("seed")["lr"].max()
    return np.log10(largest.reindex(rows["seed"].unique(), fill_value=table["lr"].min() / 10**0.5)).sort_index()


def judge_sweep(ledger, table: pd.DataFrame) -> pd.DataFrame:
    """BN-03, 06 and 08 from `sweep`. Returns the scores at the tuned rates.

    BN-03: bad starts cost less: at a tenth and at ten times the weights, each arm at its best rate, batch norm is ahead
    by 2 points; training does not depend on the size: at one rate (0.1) ten times the weights lose at most 2 points.
    BN-06: ahead by 2 points at equal epochs. BN-08: the largest rate with a training loss below 1 is half a decade
    higher; and every rate of the grid is usable.
    """
    scores, (low, mid, high) = tuned(table, ["norm", "factor"]), sorted(table["factor"].unique())
    for name, factor in (("a_tenth_of_the_weights", low), ("ten_times_the_weights", high)):
        d = pairs(scores, {"norm": "batch", "factor": factor}, {"norm": "none", "factor": factor})
        told = f"First weights times {factor:g}, each at its best rate, batch norm minus none"
        ledger.add("BN-03", **{name: gain(told, d, least=0.02)})
    spare = table[(table["seed"] < TUNING_SEED) & (table["lr"] == 0.1)]
    d = pairs(spare, {"norm": "batch", "factor": high}, {"norm": "batch", "factor": mid}, "val_accuracy")
    told = f"With batch norm at one rate (0.1), first weights times {high:g} minus times {mid:g}"
    ledger.add("BN-03", training_at_one_rate=no_loss(told, d, allowed=0.02))
    d = pairs(scores, {"norm": "batch", "factor": mid}, {"norm": "none", "factor": mid})
    ledger.add("BN-06", efficiency=gain("Five layers, batches of 50, batch norm minus none", d, least=0.02))
    rates = {norm: usable(table, norm) for norm in ("batch", "none")}
    told = "log10 of the largest usable rate, batch norm minus none"
    ledger.add("BN-08", larger_rates=above(told, rates["batch"] - rates["none"], margin=0.5))
    told = f"log10 of the largest rate tried ({table['lr'].max():g}) over the largest usable one with batch norm"
    ledger.add("BN-08", any_rate=below(told, np.log10(table["lr"].max()) - rates["batch"], zero=0.1))
    return scores


def judge_small(ledger, scores: pd.DataFrame) -> None:
    """BN-06: with batches of two, batch norm is ahead of none by 2 points, each at its best rate."""
    small = int(scores["batch_size"].min())
    d = pairs(scores, {"norm": "batch", "batch_size": small}, {"norm": "none", "batch_size": small})
    ledger.add("BN-06", with_batches_of_two=gain("Batches of 2, batch norm minus none", d, least=0.02))


def judge_gradients(ledger, table: pd.DataFrame, *, deep: int, bad: tuple[int, float]) -> None:
    """BN-05: batch norm brings the gradient of layer 1 nearer to the last layer's, by at least one power of ten:
    with weights of the wrong size, and with weights of the published size in a deep network."""
    for name, (depth, factor) in {"first_weights_too_small": bad, "a_deep_network_well_started": (deep, 1.0)}.items():
        plain, batch = (imbalance(table, arm, depth, factor).abs() for arm in ("no normalization", "batch norm"))
        told = f"{depth} layers, weights times {factor:g}: powers of ten between the gradients of the first and last "
        told += f"layer, {plain.mean():.1f} without and {batch.mean():.1f} with batch norm; difference"
        ledger.add("BN-05", **{name: above(told, plain - batch, margin=1)})


def judge_watch(ledger, plain: pd.DataFrame, batch: pd.DataFrame, shaken: pd.DataFrame, gammas: list[Tensor]) -> None:
    """BN-04, 08 and 09 from `watch`, one rate per table.

    BN-09: scale and shift leave 1 and 0; the mean of a unit moves by at most half as much as without; and the
    stability is the reason: noise that moves it again costs at least half of batch norm's lead. BN-08: after one
    epoch the stored statistics score within 1 point of new ones. BN-04: two readings, shown only."""
    end = batch["epoch"].max()

    def of(table, column, epoch=None):
        rows = table[table["epoch"] > 0] if epoch is None else table[table["epoch"] == epoch]
        return rows.groupby("seed")[column].mean()

    moved = torch.cat([(g - 1).abs() for g in gammas]).mean().item()
    ledger.add("BN-09", scaled_and_shifted=exact(f"After training the scales are {moved:.2f} from 1.", moved > 1e-3))
    d = np.log10(of(batch, "drift")) - np.log10(of(plain, "drift"))
    ledger.add("BN-09", more_stable=below("log10 of the drift of the units' means, with over without", d, margin=0.3))
    a, b, c = (of(t, "val_accuracy", end) for t in (batch, shaken, plain))
    told = f"Noise after the layer (drift {of(shaken, 'drift').mean():.2f}, without any layer "
    told += f"{of(plain, 'drift').mean():.2f}) costs {100 * (a - b).mean():.1f} of the {100 * (a - c).mean():.1f} "
    told += "points that batch norm is ahead; that cost minus half of the lead"
    ledger.add("BN-09", stability_is_the_reason=gain(told, (a - b) - (a - c) / 2))
    d = of(batch, "val_accuracy", 1) - of(batch, "val_again", 1)
    told = "After one epoch, stored statistics minus new ones"
    ledger.add("BN-08", the_stored_statistics_keep_up=no_loss(told, d, allowed=0.01))
    d = np.log10(of(batch, "roughness")) - np.log10(of(plain, "roughness"))
    ledger.add("BN-04", the_loss_is_smoother=below("log10 of the range of the loss along a step, with over without", d))


def judge_spread(ledger, plain: Sequence[float], batch: Sequence[float]) -> None:
    """BN-04, another reading: two starts end at training losses that are closer together (disjoint pairs of seeds)."""
    gaps = [np.abs(np.subtract(v[0 : len(v) // 2 * 2 : 2], v[1::2])) for v in (np.asarray(batch), np.asarray(plain))]
    told = "Difference of the final training losses of two starts, with minus without"
    ledger.add("BN-04", starts_end_alike=below(told, gaps[0] - gaps[1]))


def judge_modes(ledger, name: str, table: pd.DataFrame) -> None:
    """BN-13: leaving out the normalization of a trained network loses at most half a point."""
    d = table["no normalization"] - table["stored statistics"]
    told = f"{name}, without normalization minus with stored statistics"
    ledger.add("BN-13", **{f"leaving_it_out_of_{name}": no_loss(told, d)})


def judge_cards(ledger, found: dict) -> str:
    """BN-14, 15 and 16 from `two_cards`; BN-15: a layer with synchronization takes less time (R7). What to say."""
    if found["reason"]:
        return f"Not measured here: {found['reason']}"
    s, o = found["sync"], found["local"]
    told = f"Two processes with common statistics equal one process with all rows: outputs to {s['out']:.0e}, input "
    told += f"gradients to {s['grad']:.0e}; with statistics of their own, {o['out']:.1f} and {o['grad']:.1f} off."
    same = max(s["out"], s["grad"]) < 1e-10 < min(o["out"], o["grad"])
    ledger.add("BN-14", the_statistics_of_all_cards=exact(told, same))
    ratio = np.log10(found["seconds"]["sync"] / found["seconds"]["local"])
    told = f"log10 of the time of a layer, forward and back, with over without ({10 ** ratio.median():.1f} times)"
    ledger.add("BN-15", time_of_a_layer=below(told, ratio))
    told = f"The loss of the first card has a gradient of up to {found['crossing_sync']:.2f} with respect to inputs on "
    told += f"the second card with common statistics, and of {found['crossing_local']:.0f} without."
    ledger.add("BN-16", cards_do_not_touch_each_other=exact(told, found["crossing_sync"] == 0))
    return f"`torch.nn.SyncBatchNorm` on a CPU tensor: {found['torch']}"


def judge_ghosts(ledger, scores: pd.DataFrame) -> None:
    """BN-15, in steps instead of seconds: after the same steps, common statistics are ahead by at least 2 points."""
    for size in sorted(scores["per_card"].unique()):
        a, b = ({"per_card": size, "statistics": how} for how in ("synchronized", "per card"))
        told = f"{size} examples a card, accuracy after the same steps, common minus own statistics"
        name = f"after_the_same_steps_with_{size}_examples_a_card"
        ledger.add("BN-15", **{name: gain(told, pairs(scores, a, b), least=0.02)})


def judge_overfit(ledger, compared: dict) -> None:
    """BN-10: batch norm gains at least the margin (1 point) of test accuracy where the training data is learned by
    heart. A part fails when the interval excludes such a gain."""
    for name, c in compared.items():
        i = c.interval("batch", "none")
        told = f"{name.replace('_', ' ').capitalize()}, batch norm minus none"
        found = gain(told, c.scores["batch"] - c.scores["none"], least=c.margin)
        if found.holds is None and i.high < c.margin:
            found = dataclasses.replace(found, holds=False, p=None, outcome="no gain")
        ledger.add("BN-10", **{name: found})
