"""Chapter 2, initialization: signal scales, symmetry, restarts, steepness. Tables in, tables out."""

from __future__ import annotations

import dataclasses
import inspect
import math
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import vmap

from helpers import claims, init, losses, models, optim, probe, stacks, streams, training
from helpers.claims import Evidence
from helpers.compare import Interval
from helpers.recipe import Recipe

HIDDEN = 0  # the first layer among `models.weight_layers`


def inside(sentence: str, values: Iterable[float], *, margin: float, centre: float = 0.0) -> Evidence:
    """Evidence that a quantity, one value per seed, equals `centre` up to ±margin (R2).

    Holds when the 95 % t-interval lies inside the margin, fails when it lies outside, else the data do not decide.
    """
    i = Interval.of(values)
    low, high = centre - margin, centre + margin
    holds = True if low <= i.low and i.high <= high else False if i.low > high or i.high < low else None
    told = f"{sentence}: mean {i.mean:.3g}, 95 % CI [{i.low:.3g}, {i.high:.3g}], n = {i.n}."
    return Evidence(holds, told, i.n, None, {True: "no detectable effect", False: "differs", None: "undecided"}[holds])


def gains(comparison, a, b) -> Evidence:
    """Evidence that A gains at least the comparison's margin over B, one-sided.

    Holds as in `shows`; fails when the 95 % interval excludes a gain as large as the margin, whether A loses or not.
    """
    found, i = claims.shows(comparison, "helps", a, b), comparison.interval(a, b)
    if found.holds is None and i.high < comparison.margin:
        return dataclasses.replace(found, holds=False, p=None, outcome="no gain")
    return found


# --- scale of signals and gradients before training


def scheme_scales(
    data, schemes: dict[str, Recipe], *, factors: Sequence[float], seeds: int = 3, n: int = 64, **grid
) -> pd.DataFrame:
    """`probe.layer_scales` for named schemes: over a grid of fields, with all weights multiplied by each factor.

    Rows: scheme, factor, the fields of the grid, seed, layer, signal, gradient, weight_sd.
    """
    rows, x, y = [], data.x_train[:n], data.y_train[:n]
    for name, base in schemes.items():
        for recipe in base.vary(**grid, seed=list(range(seeds))):
            about = {"scheme": name, "seed": recipe.seed} | {k: getattr(recipe, k) for k in grid}
            model, now = training.fresh_model(recipe, data), 1.0
            for factor in factors:  # biases are zero, so a factor on the scheme is a factor on the weights
                for layer in models.weight_layers(model):
                    layer.weight.data *= factor / now
                now = factor
                scales = probe.model_scales(model, x, y, losses.loss(recipe.loss))
                rows += [{**about, "factor": factor, **row} for row in scales]
    return pd.DataFrame(rows)


def named(runs, schemes: dict[str, Recipe]) -> pd.DataFrame:
    """`runs.frame()` with a column "scheme": the name whose recipe has the same init and init_scale."""
    names = {(r.init, r.init_scale): name for name, r in schemes.items()}
    frame = runs.frame()
    return frame.assign(scheme=[names[key] for key in zip(frame["init"], frame["init_scale"], strict=True)])


def early(runs, epoch: int, by: str, score: str = "val_accuracy") -> pd.DataFrame:
    """A score after `epoch` epochs: one row per seed, one column for each value of the field `by`."""
    frame = runs.frame()
    return frame[frame["epoch"] == epoch].pivot(index="seed", columns=by, values=score)


def per_layer_slope(table: pd.DataFrame, column: str = "signal") -> pd.Series:
    """Change of ln(column squared) per layer, one number for each seed: 0 = kept, -0.69 = halved in each layer.

    The first and last layers are left out: their numbers of inputs or outputs differ from the hidden ones.
    """

    def slope(rows):
        inner = rows[(rows["layer"] > 1) & (rows["layer"] < rows["layer"].max())]
        return np.polyfit(inner["layer"], 2 * np.log(inner[column]), 1)[0]

    return table.groupby("seed").apply(slope, include_groups=False)


def gradient_ratio(table: pd.DataFrame) -> pd.Series:
    """log10 of (gradient in layer 1 / gradient in the last layer), per seed: -3 = a thousandth arrives, 0 = all."""
    first = table[table["layer"] == 1].set_index("seed")["gradient"]
    last = table[table["layer"] == table["layer"].max()].set_index("seed")["gradient"]
    return np.log10((first / last).clip(lower=1e-45))


def weight_gradients(recipe: Recipe, data, *, n: int = 256) -> pd.Series:
    """Largest absolute entry of the gradient of each layer's weights before training; index = layer, 1 is first."""
    model = training.fresh_model(recipe, data)
    losses.loss(recipe.loss)(model(data.x_train[:n]), data.y_train[:n]).backward()
    layers = models.weight_layers(model)
    return pd.Series([w.weight.grad.abs().max().item() for w in layers], range(1, len(layers) + 1), name="gradient")


def formulas(fan_in: int, fan_out: int) -> pd.DataFrame:
    """Standard deviation of the weights that torch draws for one layer, beside the two published formulas.

    Xavier: Glorot & Bengio 2010, eq. 12 and 16. He: He et al. 2015, eq. 10.
    """
    weight = torch.empty(fan_out, fan_in)
    rows = []
    for name in ("xavier", "xavier_uniform", "he", "he_uniform", "normal", "truncated_normal", "torch"):
        init.LAYERWISE[name](weight, torch.Generator().manual_seed(0))
        rows.append({"scheme": name, "torch draws": weight.std().item(), "largest": weight.abs().max().item()})
    xavier, he = math.sqrt(2 / (fan_in + fan_out)), math.sqrt(2 / fan_in)
    told = pd.DataFrame(rows)
    return told.assign(**{"sqrt(2/(fan_in+fan_out))": xavier, "sqrt(2/fan_in)": he}).set_index("scheme")


def schemes_of_torch() -> list[str]:
    """Names of the schemes in torch.nn.init: those that change a tensor in place."""
    return [n for n in dir(nn.init) if n.endswith("_") and not n.startswith("_")]


def inspect_default(layer: type[nn.Module]) -> str:
    """The scheme of torch.nn.init that torch itself calls for the weights of this layer, read from its source."""
    source = inspect.getsource(layer.reset_parameters if "reset_parameters" in vars(layer) else layer.__mro__[1])
    used = [n for n in schemes_of_torch() if f"init.{n}(self.weight" in source.replace("\n", "").replace(" ", "")]
    return used[0] if used else "nothing"


def dependence(recipe: Recipe, data, *, seeds: int, n: int = 512) -> pd.DataFrame:
    """How far the outputs z = Wx of a first layer depend on its inputs x, per seed (the weights W drawn by the recipe).

    r2: share of the variance of z that a linear fit on x explains, for the W at hand. over_draws: correlation, over
    examples, of |x|² with the mean of z² over units and 20 draws of W: 0 if inputs and outputs were independent.
    """
    x = data.x_train[:n].flatten(1)
    x = x - x.mean(0)
    rows = []
    for seed in range(seeds):
        drawn = [training.fresh_model(recipe.but(seed=seed * 20 + k), data) for k in range(20)]
        z = torch.stack([x @ models.weight_layers(m)[HIDDEN].weight.T for m in drawn]).detach()
        left = z[0] - x @ torch.linalg.pinv(x) @ z[0]
        both = torch.stack([x.square().sum(1), z.square().mean((0, 2))])
        r2 = 1 - left.square().sum() / z[0].square().sum()
        rows.append({"seed": seed, "r2": r2.item(), "over_draws": torch.corrcoef(both)[0, 1].item()})
    return pd.DataFrame(rows)


def one_step(recipe: Recipe, data, *, seeds: int) -> pd.DataFrame:
    """Loss on all training rows: before, after one step of size lr along minus the gradient, and one along plus it."""
    rows = []
    for seed in range(seeds):
        row = {"seed": seed}
        for name, sign in (("against the gradient", -1), ("along the gradient", 1)):
            model = training.fresh_model(recipe.but(seed=seed), data)
            value = losses.loss(recipe.loss)(model(data.x_train), data.y_train)
            grads = torch.autograd.grad(value, list(model.parameters()))
            with torch.no_grad():
                for p, g in zip(model.parameters(), grads, strict=True):
                    p += sign * recipe.lr * g
                row |= {"before": value.item()}
                row[name] = losses.loss(recipe.loss)(model(data.x_train), data.y_train).item()
        rows.append(row)
    return pd.DataFrame(rows)


# --- training from weights of our own choice


def members(recipe: Recipe, data, seeds: int) -> list[nn.Module]:
    """Fresh models of this recipe with the seeds 0, 1, ..."""
    return [training.fresh_model(recipe.but(seed=s), data) for s in range(seeds)]


def train_from(
    start: Sequence[nn.Module], recipe: Recipe, data, *, epochs: int, first_epoch: int = 0, orders=None
) -> Iterator[tuple[int, stacks.Stack]]:
    """Train models from the weights that they have, all at once; yields (epochs so far, stack), before training too.

    The same loop as everywhere, `training.fit`, with a constant rate. Model i sees the data in the order of the seed
    `orders[i]`, by default i. `first_epoch` continues an earlier order.
    """
    data = training.prepared(recipe, data)
    stack, orders = stacks.Stack(start), range(len(start)) if orders is None else orders
    optimizer = optim.make(recipe.optimizer, stack.parameters(), recipe)
    each = vmap(losses.loss(recipe.loss))
    per_epoch = training.steps_per_epoch(recipe, data.n_train)

    def batches():
        for epoch in range(first_epoch, first_epoch + epochs):
            for i in torch.stack([training.batch_order(s, data.n_train, recipe.batch_size, epoch) for s in orders], 1):
                yield data.x_train[i], data.y_train[i]

    yield first_epoch, stack
    for step, _ in enumerate(training.fit(stack, each, optimizer, batches(), lambda step: None), 1):
        if step % per_epoch == 0:
            yield first_epoch + step // per_epoch, stack


@torch.no_grad()
def accuracies(stack: stacks.Stack, data) -> list[float]:
    """Validation accuracy of every model of the stack, fractions."""
    stack.eval()
    return (stack(data.x_val).argmax(-1) == data.y_val).float().mean(-1).tolist()


def curves(start, recipe: Recipe, data, *, epochs: int, **how) -> tuple[pd.DataFrame, list[nn.Module]]:
    """`train_from` as a table (seed, epoch, val_accuracy) and the trained models."""
    rows = []
    for epoch, stack in train_from(start, recipe, data, epochs=epochs, **how):
        rows += [{"seed": i, "epoch": epoch, "val_accuracy": a} for i, a in enumerate(accuracies(stack, data))]
    return pd.DataFrame(rows), [stack.unstack(i) for i in range(stack.n)]


def noisy_constant(recipe: Recipe, data, *, noises: Sequence[float], seeds: int) -> pd.DataFrame:
    """Train from `constant + noise`: every weight starts as constant x (1 + noise x N(0, 1)).

    The constant is `recipe.init_scale`, the scheme "constant". Rows: noise, seed, distinct units in the first hidden
    layer after training, val_accuracy.
    """
    start, cells = [], [(noise, seed) for noise in noises for seed in range(seeds)]
    for noise, seed in cells:
        model = training.fresh_model(recipe.but(init="constant"), data)
        generator = torch.Generator().manual_seed(streams.seed(seed))
        for layer in models.weight_layers(model):
            layer.weight.data *= 1 + noise * torch.randn(layer.weight.shape, generator=generator)
        start.append(model)
    table, trained = curves(start, recipe, data, epochs=recipe.epochs, orders=[seed for _, seed in cells])
    last = table[table["epoch"] == recipe.epochs].set_index("seed")["val_accuracy"]
    units = [probe.distinct_units(models.weight_layers(m)[HIDDEN], 1e-3) for m in trained]
    return pd.DataFrame(cells, columns=["noise", "seed"]).assign(units=units, val_accuracy=last)


def first_weights(recipe: Recipe, data, *, units: int = 8) -> Tensor:
    """First-layer weights after training, one image per unit: (units, h, w)."""
    _, (model,) = curves(members(recipe, data, 1), recipe, data, epochs=recipe.epochs)
    return models.weight_layers(model)[HIDDEN].weight.detach()[:units].view(-1, *data.x_train.shape[-2:])


def same_order(recipe: Recipe, data, *, seeds: int) -> pd.DataFrame:
    """Training that differs in the first weights alone: all models see the data in one order (Bouthillier et al. 2021).

    Rows: seed, epoch, val_accuracy.
    """
    return curves(members(recipe, data, seeds), recipe, data, epochs=recipe.epochs, orders=[0] * seeds)[0]


def pair_gaps(values: Iterable[float]) -> np.ndarray:
    """|a - b| for the disjoint pairs (0, 1), (2, 3), ...: independent of one another, so that an interval is fair."""
    v = np.asarray(list(values), dtype=float)
    return np.abs(v[0 : len(v) // 2 * 2 : 2] - v[1::2])


def restarts(recipe: Recipe, data, *, rounds: int, seeds: int) -> tuple[pd.DataFrame, list[nn.Module]]:
    """The sources' procedure, word for word: train, keep the weights as first weights, train again, `rounds` times.

    Each round is `recipe.epochs` long and has a fresh optimizer. Rows: seed, epoch, val_accuracy.
    """
    now, parts = members(recipe, data, seeds), []
    for k in range(rounds):
        first = k * recipe.epochs
        table, now = curves(now, recipe, data, epochs=recipe.epochs, first_epoch=first)
        parts.append(table[table["epoch"] > first] if k else table)
    return pd.concat(parts, ignore_index=True), now


def starved(recipe: Recipe, data, *, rounds: int, seeds: int, **conditions: list) -> pd.DataFrame:
    """`restarts` from zero weights under several settings of one field: its best validation accuracy in any epoch.

    Rows: seed, zero, he (one round from He weights, for comparison), condition.
    """
    rows = []
    for recipe_ in recipe.vary(**conditions):
        zero, _ = restarts(recipe_.but(init="zero"), data, rounds=rounds, seeds=seeds)
        he, _ = restarts(recipe_.but(init="he"), data, rounds=1, seeds=seeds)
        name = ", ".join(f"{k}={getattr(recipe_, k)}" for k in conditions)
        best = pd.DataFrame({k: t.groupby("seed")["val_accuracy"].max() for k, t in (("zero", zero), ("he", he))})
        rows.append(best.assign(condition=name).reset_index())
    return pd.concat(rows, ignore_index=True)


def largest_difference(a: Sequence[nn.Module], b: Sequence[nn.Module]) -> float:
    """Largest absolute difference between any weights or biases of two lists of models of one architecture."""
    pairs = ((p, q) for m, n in zip(a, b, strict=True) for p, q in zip(m.parameters(), n.parameters(), strict=True))
    return max((p - q).abs().max().item() for p, q in pairs)


def shuffled_units(model: nn.Module, *, seed: int = 0) -> nn.Module:
    """The same function with other parameters: the first hidden layer's units in another order (a copy)."""
    twin = stacks.Stack([model]).unstack(0)
    first, second = models.weight_layers(twin)[:2]
    order = torch.randperm(len(first.weight), generator=torch.Generator().manual_seed(streams.seed(seed)))
    first.weight.data, first.bias.data = first.weight.data[order], first.bias.data[order]
    second.weight.data = second.weight.data[:, order]
    return twin


def shuffled_pixels(data, *, seed: int = 0):
    """The data set with every image's pixels in its own random order: inputs without any regularity, labels kept."""
    generator = torch.Generator().manual_seed(streams.seed(seed))

    def shuffle(x):
        flat = x.flatten(1)
        order = torch.rand(flat.shape, generator=generator).argsort(1)
        return flat.gather(1, order).view_as(x)

    return dataclasses.replace(data, x_train=shuffle(data.x_train), x_val=shuffle(data.x_val))


def steepness(recipe: Recipe, data, *, epochs: Sequence[int], seeds: int, n: int = 200) -> pd.DataFrame:
    """Steepness of the learned function at some epochs: `probe.input_gradient` on validation rows, and the product of
    the layers' spectral norms (a bound on it; Bartlett et al. 2017).

    Rows: seed, epoch, input_gradient, norms, val_accuracy.
    """
    rows = []
    for epoch, stack in train_from(members(recipe, data, seeds), recipe, data, epochs=max(epochs)):
        if epoch not in epochs:
            continue
        for seed, accuracy in enumerate(accuracies(stack, data)):
            model = stack.unstack(seed)
            norms = [torch.linalg.matrix_norm(w.weight.detach(), 2).item() for w in models.weight_layers(model)]
            steep = probe.input_gradient(model, data.x_val[:n], data.y_val[:n])
            row = {"seed": seed, "epoch": epoch, "input_gradient": steep, "norms": math.prod(norms)}
            rows.append(row | {"val_accuracy": accuracy})
    return pd.DataFrame(rows)


def late_ratios(recipe: Recipe, data, *, epochs: int, seeds: int, n: int = 256) -> pd.DataFrame:
    """`gradient_ratio` before and after `epochs` of training; where nothing
    finite is left it is -45. Rows: epoch, seed, ratio."""
    rows = []
    for epoch, stack in train_from(members(recipe, data, seeds), recipe, data, epochs=epochs):
        if epoch in (0, epochs):
            for seed in range(seeds):
                model = stack.unstack(seed)
                scales = probe.model_scales(model, data.x_train[:n], data.y_train[:n], losses.loss(recipe.loss))
                ratio = gradient_ratio(pd.DataFrame(scales).assign(seed=seed)).fillna(-45).item()
                rows.append({"epoch": epoch, "seed": seed, "ratio": ratio})
    return pd.DataFrame(rows)


def seconds(recipe: Recipe, data, names: Sequence[str], *, repeats: int = 20, warm_up: int = 5) -> pd.DataFrame:
    """Wall time of setting the first weights by each scheme, in turn (R7). Rows: scheme, repeat, seconds."""
    model = training.fresh_model(recipe, data)
    rows = []
    for repeat in range(-warm_up, repeats):
        for name in names:
            started = time.perf_counter()
            init.initialize(model, name, seed=abs(repeat), x=data.x_train)
            rows.append({"scheme": name, "repeat": repeat, "seconds": time.perf_counter() - started})
    table = pd.DataFrame(rows)
    return table[table["repeat"] >= 0].reset_index(drop=True)
