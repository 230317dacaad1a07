"""Chapter 6, regularization: what penalties and dropout leave of a network, and what they cost. Tables in and out."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import checks, engine, losses, models, streams, training
from helpers.recipe import Recipe
from helpers.runs import Runs

# --- networks: many at once, kept for a look inside


def trained(recipes: Iterable[Recipe], data, *, seeds: int, test: str = "") -> tuple[Runs, dict[Recipe, nn.Module]]:
    """`helpers.train` on the CPU that also returns the networks: (runs, {recipe: network in evaluation mode})."""
    recipes = [r.but(seed=s) for r in recipes for s in range(checks.integer("seeds", seeds, low=1, try_="8"))]
    found = engine.train_networks(recipes, data, test=test)
    runs = Runs.from_curves(list(found), [curve for _, curve in found.values()], data, "cpu")
    return runs, {r: network for r, (network, _) in found.items()}


def all_weights(model: nn.Module) -> Tensor:
    """The weights of all layers in one vector, biases left out."""
    return torch.cat([layer.weight.detach().flatten() for layer in models.weight_layers(model)])


def roughness(filters: Tensor) -> float:
    """Mean squared difference of neighbouring weights of filters (units, h, w), over the mean square of a weight.

    0 for constant filters, 2 for weights drawn independently.
    """
    down, right = filters.diff(dim=1).square(), filters.diff(dim=2).square()
    size = filters.square().mean()
    return float(torch.cat([down.flatten(), right.flatten()]).mean() / size) if size > 0 else math.nan


@torch.no_grad()
def portraits(networks: dict[Recipe, nn.Module], data, *, noise: float = 1.0) -> pd.DataFrame:
    """What is in each trained network: a row for each, with the recipe's fields and

    size (sum of squared weights), zero (share of weights that are exactly 0), tiny (share below 0.001), norms (product
    of the layers' largest singular values), roughness of the first layer, accuracy and noisy_accuracy: on validation
    images without and with normal noise of this sd (the images have sd 1).
    """
    shake = noise * torch.randn(data.x_val.shape, generator=torch.Generator().manual_seed(streams.seed(0)))
    rows, views = [], {}  # the validation images as a network knows them: scaled by its own training images
    for recipe, model in networks.items():
        if recipe.n_train not in views:
            views[recipe.n_train] = training.prepared(Recipe(n_train=recipe.n_train), data).x_val
        seen = views[recipe.n_train]
        w, layers = all_weights(model), models.weight_layers(model)
        norms = math.prod(torch.linalg.matrix_norm(k.weight, 2).item() for k in layers)
        row = {"size": w.square().sum().item(), "zero": (w == 0).float().mean().item(), "norms": norms}
        row |= {"tiny": (w.abs() < 1e-3).float().mean().item()}
        row |= {"roughness": roughness(layers[0].weight.view(-1, *data.x_train.shape[-2:]))}
        for name, x in (("accuracy", seen), ("noisy_accuracy", seen + shake)):
            row[name] = (model(x).argmax(-1) == data.y_val).float().mean().item()
        rows.append({**recipe.fields(), **row})
    return pd.DataFrame(rows)


def histogram(networks: dict[Recipe, nn.Module], named: dict, edges: np.ndarray) -> pd.DataFrame:
    """How the weights are spread: share of the weights in each bin, rows arm, strength, weight (bin centre), share.

    `named` maps (optimizer, l1_step, l1 > 0) to the name of an arm; |weights| beyond the last edge count in it.
    """
    rows, centres = [], (edges[1:] + edges[:-1]) / 2
    for recipe, model in networks.items():
        counts = np.histogram(np.clip(all_weights(model).numpy(), edges[0], edges[-1]), edges)[0]
        about = {"arm": named[recipe.optimizer, recipe.l1_step], "strength": recipe.l1, "seed": recipe.seed}
        rows += [{**about, "weight": c, "share": n / counts.sum()} for c, n in zip(centres, counts, strict=True)]
    return pd.DataFrame(rows)


def gap(table: pd.DataFrame, score: str, field: str, a, b, **where) -> np.ndarray:
    """score(a) - score(b) for each seed, where `field` is a or b and the other columns are as in `where`."""
    for name, value in where.items():
        table = table[table[name] == value]
    by = table.pivot(index="seed", columns=field, values=score)
    checks.known(field, [str(k) for k in (a, b)], [str(k) for k in by.columns])
    return (by[a] - by[b]).to_numpy()


def at_equal_loss(runs: Runs, field: str, target: float, score: str = "val_accuracy") -> pd.DataFrame:
    """A score at the first epoch at which the training loss is at most `target`: seed by value of `field`."""
    frame = runs.frame()
    hit = frame[frame["train_loss"] <= target].sort_values("epoch").groupby([field, "seed"]).first()
    return hit[score].unstack(field)


def extra_gradient(recipe: Recipe, data, *, batches: int = 2, size: int = 50) -> float:
    """How far what a regularizer adds to the gradient differs between batches: the largest difference of any entry.

    A term in the loss that reads the weights alone adds the same on every batch (0 up to rounding).
    """
    plain = recipe.but(l1=0.0, weight_decay=0.0, dropout=0.0, norm="none")
    added = []
    for k in range(batches):
        x, y = (part[k * size : (k + 1) * size] for part in (data.x_train, data.y_train))
        grads = []
        for r in (recipe, plain):
            model = training.fresh_model(r, data, torch.float64)
            layers = models.weight_layers(model)
            model.train()
            loss = losses.make(r)(model(x.double()), y)
            w = [k.weight for k in layers]
            loss = loss + r.l1 * sum(k.abs().sum() for k in w) + r.weight_decay / 2 * sum(k.square().sum() for k in w)
            grads.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, w)]))
        added.append(grads[0] - grads[1])
    return max((a - added[0]).abs().max().item() for a in added)


@torch.no_grad()
def midpoint_bulge(networks: Sequence[nn.Module], recipe: Recipe, data) -> list[float]:
    """Penalised training loss half-way between two networks minus the mean of theirs, for the disjoint pairs.

    A convex function never lies above the mean: a positive value shows that the loss is not convex.
    """
    data, loss, out = training.prepared(recipe, data), losses.make(recipe), []

    def value(model):
        return (loss(model(data.x_train), data.y_train) + recipe.l1 * all_weights(model).abs().sum()).item()

    for a, b in zip(networks[0::2], networks[1::2], strict=False):
        middle = copy.deepcopy(a)
        for m, p, q in zip(middle.parameters(), a.parameters(), b.parameters(), strict=True):
            m.copy_((p + q) / 2)
        out.append(value(middle) - (value(a) + value(b)) / 2)
    return out


@torch.no_grad()
def node_check(data, *, width: int = 32, p: float = 0.5) -> dict:
    """What dropout does, as numbers: values that `torch.nn.Dropout` gives for ones, whether two passes and two rows
    share a mask, and the largest difference between a hidden unit's output at 0 and its outgoing weights at 0."""
    model = training.fresh_model(Recipe(depth=1, width=width), data)
    layer, ones, x = nn.Dropout(p), torch.ones(400, width), data.x_val
    first, second = layer(ones), layer(ones)
    body, last = model[:-1], model[-1]
    hidden = body(x)
    off = copy.deepcopy(last)
    off.weight[:, 0] = 0
    hidden[:, 0] = 0
    values = sorted(set(first.flatten().tolist()))
    rows = len({tuple(r) for r in first.tolist()})
    return {"values": values, "passes_differ": bool((first != second).any()), "different_rows": rows, "rows": len(ones),
            "unit_or_weights": (last(hidden) - off(body(x))).abs().max().item()}  # fmt: skip


# --- cost


class _Counter(TorchDispatchMode):
    """Counts the calls that torch makes, by name, and the numbers that they produce."""

    def __init__(self):
        super().__init__()
        self.calls, self.numbers = {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.calls[str(func)] = self.calls.get(str(func), 0) + 1
        self.numbers += out.numel() if isinstance(out, Tensor) else 0
        return out


def step_cost(width: int, shares: Sequence[float], *, layer=nn.Dropout, batch: int = 64, repeats: int = 20, warm_up=5):
    """One forward and backward pass of a 64-width-width-10 network for each share p of dropout (None = no layer).

    Returns (counts, times): counts has a row for each p with calls and numbers (counted, the same on every machine);
    times has p, repeat, seconds, taken in turn (R7).
    """
    counts, times, nets = [], [], {}
    x, y = torch.randn(batch, 64), torch.zeros(batch, dtype=torch.long)
    for p in shares:
        drop = [] if p is None else [layer(p)]
        inner = [nn.Linear(64, width), nn.ReLU(), *drop, nn.Linear(width, width), nn.ReLU(), *drop]
        nets[p] = nn.Sequential(*inner, nn.Linear(width, 10)).train()

    def one(net):
        nn.functional.cross_entropy(net(x), y).backward()

    for p, net in nets.items():
        one(net)  # the first pass makes the gradients' memory
        with _Counter() as counter:
            one(net)
        counts.append({"p": p, "calls": sum(counter.calls.values()), "numbers": counter.numbers})
    for repeat in range(-warm_up, repeats):
        for p, net in nets.items():
            started = time.perf_counter()
            one(net)
            times.append({"p": str(p), "repeat": repeat, "seconds": time.perf_counter() - started})
    times = pd.DataFrame(times)
    return pd.DataFrame(counts), times[times["repeat"] >= 0].reset_index(drop=True)
