"""Chapter 8, batch normalization: by hand, in training and evaluation, over small batches. Tables in, tables out."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import vmap

from helpers import blocks, checks, engine, losses, models, probe, stacks, training
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


def largest_gap(a: Tensor, b: Tensor) -> float:
    """The largest absolute difference of two tensors of one shape."""
    return (a - b).detach().abs().max().item()


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
