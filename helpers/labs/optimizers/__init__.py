"""The measurements of the chapter on optimizers: each function takes settings and gives a tidy table."""

from __future__ import annotations

import functools
import importlib
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

from helpers import engine, losses, optim, owndata, plots, splits, stacks, streams, training
from helpers.compare import Interval
from helpers.labs.optimizers.bowls import DOUBLE, at_best_rate
from helpers.optim import UPDATES
from helpers.recipe import DEFAULTS, Recipe


def _options(**changes) -> SimpleNamespace:
    return SimpleNamespace(**{**DEFAULTS, **changes})


# --- equal to torch.optim


def gap_to_torch(steps: int = 50, lr: float = 0.01) -> pd.DataFrame:
    """Each written-out update against its torch.optim twin on the same random gradients: the largest difference."""
    torch.manual_seed(0)
    start, gradients = torch.randn(40, **DOUBLE), torch.randn(steps, 40, **DOUBLE)
    rows = []
    for name, update in UPDATES.items():
        p = start.clone().requires_grad_()
        theirs, ours, memory = optim.make(name, [p], _options(lr=lr, weight_decay=0.01 * (name == "adamw"))), start, {}
        for g in gradients:
            p.grad = g.clone()
            theirs.step()
            ours = update(ours, g, memory, lr)
        held = sum(t.numel() for s in theirs.state.values() for t in s.values() if torch.is_tensor(t) and t.dim())
        rows.append({"optimizer": name, "largest difference": (p.detach() - ours).abs().max().item()})
        rows[-1]["numbers kept per weight"] = held // len(start)
    return pd.DataFrame(rows)


def largest_gap(
    first: str, second: str, *, steps: int = 20, one: dict | None = None, memory: dict | None = None
) -> float:
    """Largest difference between two updates on the same random gradients.

    `one` : options of the first; `memory` : what the first remembers at the start, such as {"t": 10**6} for an Adam
    whose correction for the start has worn off.
    """
    torch.manual_seed(1)
    a = b = torch.randn(40, **DOUBLE)
    memory_a, memory_b, gap = dict(memory or {}), {}, 0.0
    for g in torch.randn(steps, 40, **DOUBLE):
        a = UPDATES[first](a, g, memory_a, 0.01, **(one or {}))
        b = UPDATES[second](b, g, memory_b, 0.01)
        gap = max(gap, (a - b).abs().max().item())
    return gap


def decay_gaps(data, *, strength: float = 0.01, steps: int = 50) -> dict[str, float]:
    """Weight decay against a penalty in the loss, for SGD and for Adam against AdamW (Loshchilov & Hutter 2019).

    Three pairs of runs on the same batches; the largest difference between the weights at the end of each pair.
    """

    def weights(optimizer, decay, penalty):
        recipe = Recipe(depth=1, width=16, optimizer=optimizer, lr=0.01, weight_decay=decay)
        model = training.fresh_model(recipe, data).double()
        stepper, parameters = optim.make(optimizer, model.parameters(), recipe), list(model.parameters())

        def loss(logits, y):
            return losses.cross_entropy(logits, y) + penalty / 2 * sum(p.square().sum() for p in parameters)

        order = _first_batches(recipe, data, steps)
        batches = ((data.x_train[i].double(), data.y_train[i]) for i in order)
        for _ in training.fit(model, loss, stepper, batches, lambda step: None):
            pass
        return torch.cat([p.detach().flatten() for p in parameters])

    def gap(a, b):
        return (weights(*a) - weights(*b)).abs().max().item()

    return {
        "sgd": gap(("sgd", strength, 0), ("sgd", 0, strength)),
        "adam": gap(("adam", strength, 0), ("adam", 0, strength)),
        "adamw": gap(("adamw", strength, 0), ("adam", 0, strength)),
    }


# --- inside the accumulators


def accumulators(data, steps: int = 60) -> dict[str, float]:
    """What Adagrad and RMSprop keep, against the formulas, on the gradients of a real run (largest relative gaps).

    adagrad_sum, adagrad_mean: torch's Adagrad state against the sum of squares and against their moving mean;
    rmsprop_mean, rmsprop_quotient: torch's RMSprop state against the moving mean and against "mean over step size";
    adagrad_up, rmsprop_up: share of (weight, step) pairs in which the effective rate lr / sqrt(state) rises;
    adagrad_down: in which it falls; shapes: share of state tensors with the shape of their weights.
    """
    out, shapes = {}, []
    for name, key in (("adagrad", "sum"), ("rmsprop", "square_avg")):
        recipe = Recipe(depth=1, width=32, optimizer=name, lr=0.01)
        model = training.fresh_model(recipe, data).double()
        weight, total, mean, before = model[1].weight, 0.0, 0.0, None
        stepper, up, down = optim.make(name, model.parameters(), recipe), 0, 0
        order = _first_batches(recipe, data, steps)
        batches = ((data.x_train[i].double(), data.y_train[i]) for i in order)
        for _ in training.fit(model, losses.cross_entropy, stepper, batches, lambda step: None):
            total, mean = total + weight.grad**2, 0.99 * mean + 0.01 * weight.grad**2
            now = stepper.state[weight][key].clone()
            if before is not None:
                up, down = up + (now < before).double().mean().item(), down + (now > before).double().mean().item()
            before = now
        shapes += [stepper.state[p][key].shape == p.shape for p in model.parameters()]
        size = now.max()
        out |= {f"{name}_sum": ((now - total).abs().max() / size).item()}
        out |= {f"{name}_mean": ((now - mean).abs().max() / size).item()}
        out |= {f"{name}_quotient": ((now - mean / recipe.lr).abs().max() / size).item()}
        out |= {f"{name}_up": up / (steps - 1), f"{name}_down": down / (steps - 1)}
    return {**out, "shapes": float(np.mean(shapes)), "weights": weight.numel(), "pairs": weight.numel() * (steps - 1)}


def adam_settings_after(data, steps: int = 100) -> dict:
    """The settings of torch's Adam after a real run of `steps` steps: lr and betas, and how its step sizes spread.

    `spread` is the ratio of the 95th to the 5th percentile of the effective rate lr / sqrt(v) over the weights.
    """
    recipe = Recipe(depth=1, width=32, optimizer="adam", lr=0.01)
    model = training.fresh_model(recipe, data)
    stepper = optim.make("adam", model.parameters(), recipe)
    order = _first_batches(recipe, data, steps)
    batches = ((data.x_train[i], data.y_train[i]) for i in order)
    for _ in training.fit(model, losses.cross_entropy, stepper, batches, lambda step: None):
        pass
    v = torch.cat([s["exp_avg_sq"].flatten() for s in stepper.state.values()])
    low, high = (v[v > 0].rsqrt()).quantile(torch.tensor([0.05, 0.95])).tolist()
    return {"lr": stepper.param_groups[0]["lr"], "betas": stepper.param_groups[0]["betas"], "spread": high / low}


# --- training


def loss_rises(recipe: Recipe, data, *, batch_sizes, rates, seeds: int, steps: int) -> pd.DataFrame:
    """Steps in a hundred that raise the loss on the whole training set: rows batch_size, lr, seed, rises, last_loss.

    `steps` steps a run, whatever the batch size (None = the whole set). The same as the differences of
    `helpers.full_loss_trace`, for all runs of one batch size at once.
    """
    rows = []
    for size in batch_sizes:
        recipes = recipe.vary(batch_size=size, lr=list(rates), seed=range(seeds))
        stack = stacks.Stack([training.fresh_model(r, data) for r in recipes])
        each = torch.vmap(losses.cross_entropy)
        order = [_first_batches(r, data, steps) for r in recipes]
        batches = ((data.x_train[i], data.y_train[i]) for i in torch.stack(order, 1))
        stepper, trace = stacks.StackedOptimizer(stack, recipes), []

        def loss(logits, y, each=each):
            return each(logits, y.expand(logits.shape[:2]))

        def whole(stack=stack, loss=loss):
            return training.evaluate(stack, loss, data.x_train, data.y_train)[0]

        trace.append(whole())
        for _ in training.fit(stack, loss, stepper, batches, lambda step: None):
            trace.append(whole())
        rises = (100.0 * (torch.stack(trace).diff(dim=0) > 0)).mean(0).tolist()
        label = "all" if size is None else str(size)
        rows += [(label, r.lr, r.seed, up, v) for r, up, v in zip(recipes, rises, trace[-1].tolist(), strict=True)]
    return pd.DataFrame(rows, columns=["batch_size", "lr", "seed", "rises", "last_loss"])


def _first_batches(recipe: Recipe, data, steps: int) -> torch.Tensor:
    per_epoch = training.steps_per_epoch(recipe, data.n_train)
    epochs = range(-(-steps // per_epoch))
    return torch.cat([training.batch_order(recipe.seed, data.n_train, recipe.batch_size, e) for e in epochs])[:steps]


def sensitivity(runs, *, within: float = 0.01, score: str = "val_accuracy") -> pd.DataFrame:
    """Width, in factors of ten, of the learning rates within `within` of the best: rows optimizer, seed, decades.

    Between the rates of the grid the score is drawn as a straight line over log10 of the rate.
    """
    rows = []
    for (name, seed), group in runs.table.groupby(["optimizer", "seed"], sort=False):
        group = group.sort_values("lr")
        at = np.log10(group["lr"].to_numpy())
        fine = np.linspace(at[0], at[-1], 2001)
        values = np.interp(fine, at, group[score].to_numpy())
        rows.append((name, seed, (values >= values.max() - within).mean() * (at[-1] - at[0])))
    return pd.DataFrame(rows, columns=["optimizer", "seed", "decades"])


def plot_valley(runs, ax):
    """Last validation accuracy against the rate, one line for each optimizer, its legend beside the plot."""
    ax.figure.set_size_inches(6.0, 3.8)
    plots.plot_lines(runs.table, x="lr", y="val_accuracy", color="optimizer", ax=ax, logx=True, legend=False)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), handlelength=2.6, fontsize=10)
    return ax


def plot_widths(widths: pd.DataFrame, ax):
    """The table of `sensitivity` as a picture: every seed a dot, the mean a diamond, narrow below and wide above."""
    means = widths.groupby("optimizer")["decades"].mean().sort_values()
    for row, (name, mean) in enumerate(means.items()):
        each = widths[widths["optimizer"] == name]["decades"]
        ax.plot(each, [row] * len(each), "o", color=plots.PALETTE[0], alpha=0.35)
        ax.plot(mean, row, "D", color=plots.PALETTE[1])
    ax.set(yticks=range(len(means)), yticklabels=means.index, xlim=(0, None))
    ax.set_xlabel("width of the good stretch (decades)")
    return ax


def one_seed_winners(comparison) -> pd.DataFrame:
    """How often each arm comes first when one looks at a single seed: rows arm, wins (ties share), mean rank."""
    ranks = comparison.scores.rank(axis=1, ascending=not comparison.higher_is_better)
    best = ranks.eq(ranks.min(axis=1), axis=0)
    wins = best.div(best.sum(axis=1), axis=0).sum()
    table = pd.DataFrame({"wins": wins, "mean rank": ranks.mean(), "best rank": ranks.min(), "worst rank": ranks.max()})
    return table.rename_axis(comparison.field).reset_index()


def stuck(runs, *, slack: float = 0.05) -> pd.DataFrame:
    """Runs that end clearly above the best training loss found with their width, by any optimizer or seed.

    Rows: width, optimizer, stuck (runs whose last training loss is more than `slack` above the lowest), n, spread.
    """
    table = runs.table
    best = table.groupby("width")["train_loss"].transform("min")
    high = table.assign(stuck=table["train_loss"] > best + slack)
    groups = high.groupby(["width", "optimizer"], sort=False)
    return groups.agg(
        stuck=("stuck", "sum"), n=("stuck", "size"), lowest=("train_loss", "min"), highest=("train_loss", "max")
    ).reset_index()


def disagreement(recipe: Recipe, data, seeds: int) -> pd.DataFrame:
    """Networks that differ in the seed alone: pairs of neighbours, and how often the two say different things.

    Rows: pair, train_loss (the larger of the two, on the whole training set), differ = share of validation rows on
    which their answers differ.
    """
    stack, _ = stacks.train_stack([recipe.but(seed=s) for s in range(2 * seeds)], data)
    stack.eval()
    with torch.no_grad():
        answers = stack(data.x_val).argmax(-1)
        fitted = torch.stack([losses.cross_entropy(z, data.y_train) for z in stack(data.x_train)])
    differ = (answers[::2] != answers[1::2]).double().mean(1)
    worse = fitted.view(seeds, 2).max(1).values
    return pd.DataFrame({"pair": range(seeds), "train_loss": worse.tolist(), "differ": differ.tolist()})


def optimum_gap(data, *, seeds: int = 16, steps: int = 4000, penalty: float = 0.1, lr: float = 0.1) -> pd.DataFrame:
    """Softmax regression with an L2 penalty, a convex problem: how far above its optimum SGD ends.

    The optimum comes from SciPy's L-BFGS. Batches of 8; the rate stays at `lr`, or falls as lr / (1 + lr*penalty*t)
    (Bottou, Curtis & Nocedal 2018, theorem 4.7). Rows: schedule, seed, step, excess (loss above the optimum).
    """
    x = torch.cat([data.x_train.double().flatten(1), torch.ones(data.n_train, 1, **DOUBLE)], 1)
    y = torch.nn.functional.one_hot(data.y_train).double()
    lowest = _softmax_optimum(x, y, penalty)
    rows = []
    for schedule in ("constant", "falling"):
        generator = torch.Generator().manual_seed(streams.seed(0))
        w = torch.zeros(seeds, x.shape[1], y.shape[1], **DOUBLE)
        for t in range(steps + 1):
            if t in {round(steps ** (k / 12)) for k in range(13)}:
                rows += [(schedule, s, t, v - lowest) for s, v in enumerate(_softmax_loss(w, x, y, penalty).tolist())]
            i = torch.randint(len(x), (seeds, 8), generator=generator)
            g = x[i].mT @ ((x[i] @ w).softmax(-1) - y[i]) / 8 + penalty * w
            w = w - (lr if schedule == "constant" else lr / (1 + lr * penalty * t)) * g
    return pd.DataFrame(rows, columns=["schedule", "seed", "step", "excess"])


def _softmax_loss(w, x, y, penalty):
    z = x @ w
    fit = (z.logsumexp(-1) - (z * y).sum(-1)).mean(-1)
    return fit + penalty / 2 * w.square().sum((-2, -1))


def _softmax_optimum(x, y, penalty) -> float:
    from scipy.optimize import minimize

    def value_and_slope(flat):
        w = torch.tensor(flat.reshape(x.shape[1], -1), requires_grad=True)
        loss = _softmax_loss(w, x, y, penalty)
        loss.backward()
        return loss.item(), w.grad.numpy().ravel()

    start = np.zeros(x.shape[1] * y.shape[1])
    found = minimize(value_and_slope, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10})
    return float(found.fun)


def step_cost(data, optimizers, *, repeats: int = 40, warmup: int = 10) -> pd.DataFrame:
    """Time of one training step and of the optimizer's part in it: medians, and the ratio to SGD with its interval.

    Optimizers take turns, so that a busy machine disturbs all alike. `times SGD`, low, high: median ratio of the
    optimizer's part to SGD's in the same turn, with a 95 % bootstrap interval over turns.
    """
    steppers, models = {}, {}
    for name in optimizers:
        recipe = Recipe(optimizer=name, lr=1e-4, width=64)
        models[name] = training.fresh_model(recipe, data)
        steppers[name] = optim.make(name, models[name].parameters(), recipe)
    x, y, spent = data.x_train[:64], data.y_train[:64], {name: [] for name in optimizers}
    for _ in range(warmup + repeats):
        for name in optimizers:
            begun = time.perf_counter()
            models[name].zero_grad()
            losses.cross_entropy(models[name](x), y).backward()
            middle = time.perf_counter()
            steppers[name].step()
            spent[name].append((time.perf_counter() - begun, time.perf_counter() - middle))
    taken = {name: np.array(v[warmup:]) * 1e6 for name, v in spent.items()}
    pick = np.random.default_rng(0).integers(0, repeats, (1000, repeats))
    rows = []
    for name, t in taken.items():
        ratio = t[:, 1] / taken[optimizers[0]][:, 1]
        low, high = np.quantile(np.median(ratio[pick], axis=1), [0.025, 0.975])
        row = {"optimizer": name, "whole step (µs)": np.median(t[:, 0]), "its part (µs)": np.median(t[:, 1])}
        rows.append({**row, f"times {optimizers[0]}": np.median(ratio), "low": low, "high": high})
    return pd.DataFrame(rows)


# --- data


def raw(data, x, y, *, seed: int = 0):
    """The same rows as `data` in the units they were measured in: `x`, `y` are the set as it ships.

    The split is drawn again with the sizes and the seed of `load`. Raises ValueError when the rows do not match.
    """
    rows = tuple(splits.split(y, how="stratified", validation=len(data.y_val), test=len(data._test[1]), seed=seed))
    parts = [torch.tensor(np.asarray(x)[r], dtype=torch.float32) for r in rows]
    mean, sd = parts[0].double().mean(0), parts[0].double().std(0, correction=0)
    if parts[0].shape != data.x_train.shape or ((parts[0] - mean) / sd - data.x_train).abs().max() > 1e-3:
        raise ValueError(
            f"seed={seed!r} does not give back the split of {data.name!r}; use the seed it was loaded with."
        )
    return replace(
        data, name=f"{data.name}, raw units", x_train=parts[0], x_val=parts[1], _test=(parts[2], data._test[1]),
        scale="none", _readings=[],
    )  # fmt: skip


PACKAGES = ("numpy", "torch", "pandas", "scipy.stats")


@functools.cache
def _texts(n_per_class: int, least: int, words: int):
    from sklearn.feature_extraction.text import CountVectorizer

    texts, labels, rng = [], [], np.random.default_rng(0)
    for label, package in enumerate(PACKAGES):
        module = importlib.import_module(package)
        things = [getattr(module, name) for name in dir(module) if name[0] != "_"]
        docs = sorted({t.__doc__.strip() for t in things if callable(t) and isinstance(t.__doc__, str)})
        docs = [d for d in docs if len(d) > 150]
        chosen = [docs[i] for i in rng.permutation(len(docs))[:n_per_class]]
        texts += [" ".join(d.split()[:words]) for d in chosen]
        labels += [label] * len(chosen)
    names = ["numpy", "np", "torch", "pandas", "pd", "scipy", "stats"]
    vectors = CountVectorizer(binary=True, min_df=least, stop_words=names, token_pattern=r"[A-Za-z_]{2,}")
    return vectors.fit_transform(texts).toarray().astype(np.float32), np.array(labels)


def docstring_words(n_per_class: int = 200, *, least: int = 3, words: int = 60, seed: int = 0):
    """Documentation strings of four Python packages as a bag of words: which package does a text come from?

    Rows: the first `words` words of a docstring; columns: 1 where a word occurs, 0 elsewhere, for the words that occur
    in at least `least` texts. Package names are taken out. Most entries are 0, so most gradients of a word's weights
    are exactly 0 too. The columns are not standardised: that would fill the zeros. `seed` divides the texts.
    """
    x, y = _texts(n_per_class, least, words)
    sizes = {"validation": 0.4, "test": 0.1, "seed": seed}
    data = owndata.from_arrays(x, y, name="docstring words", **sizes)
    parts = [torch.tensor(x[r]) for r in splits.split(y, how="stratified", **sizes)]
    return replace(data, x_train=parts[0], x_val=parts[1], _test=(parts[2], data._test[1]), scale="none: 0 or 1")


def words_race(recipe: Recipe, optimizers, rates, divisions: int) -> pd.DataFrame:
    """Every optimizer at every rate on several divisions of the texts: a row per run, `seed` = the division.

    The texts are divided anew for each seed, so that an interval over seeds also speaks of other texts of this kind.
    """
    runs = []
    for seed in range(divisions):
        grid = recipe.vary(optimizer=list(optimizers), lr=list(rates), seed=seed)
        runs.append(engine.train(grid, docstring_words(seed=seed)).table)
    return pd.concat(runs, ignore_index=True)


def difference(table: pd.DataFrame, column: str, first: str, second: str, by: str = "optimizer") -> list[float]:
    """Paired differences, first minus second, over the other index of the table ("seed", "start" or "pair")."""
    pair = next(c for c in ("seed", "start", "pair") if c in table)
    wide = table.pivot(index=pair, columns=by, values=column)
    return (wide[first] - wide[second]).tolist()


class Sheet(pd.DataFrame):
    """A table that shows without its index and with one format for its fractions."""

    _metadata = ["fmt"]

    def _repr_html_(self) -> str:
        return self.to_html(index=False, border=0, float_format=self.fmt.format)


def sheet(table: pd.DataFrame, fmt: str = "{:.2f}") -> Sheet:
    """The table for the eye: `sheet(t, "{:.1f}")`."""
    shown = Sheet(table.rename_axis(columns=None))
    object.__setattr__(shown, "fmt", fmt)
    return shown


def about(topic: str, evidence):
    """The same evidence, its sentence opened by what it is about."""
    return replace(evidence, sentence=f"{topic}: {evidence.sentence}")


def mean_text(values, digits: int = 2) -> str:
    """Mean and 95 % interval as text: "1.23 [1.10, 1.36]"."""
    i = Interval.of(values)
    return f"{i.mean:.{digits}f} [{i.low:.{digits}f}, {i.high:.{digits}f}]"


def labelled(column: str, tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Several tables under one another, with a new column that says which is which."""
    return pd.concat([t.assign(**{column: name}) for name, t in tables.items()], ignore_index=True)


def cost_of_far_rate(runs, optimizer: str, *, factor: float, score: str = "val_accuracy") -> list[float]:
    """What an optimizer loses, per seed, at about `factor` times the rate that is best on average over seeds."""
    wide = runs.where(optimizer=optimizer).table.pivot(index="seed", columns="lr", values=score)
    best = wide.mean().idxmax()
    far = min(wide.columns, key=lambda r: abs(np.log(r / (factor * best))))
    return (wide[best] - wide[far]).tolist()


def log_gain(table: pd.DataFrame, first: str, second: str) -> list[float]:
    """log10 of the training loss, first minus second, each at its best rate, per seed; a third of the seeds choose."""
    best = at_best_rate(table, "train_loss", table["seed"].nunique() // 3 or 1)
    return difference(best.assign(log_loss=np.log10(best["train_loss"])), "log_loss", first, second)


def held_out_gain(table: pd.DataFrame, first: str, second: str) -> list[float]:
    """Validation accuracy, first minus second, each at its rate of lowest validation loss, per seed; a third choose."""
    best = at_best_rate(table, "val_loss", table["seed"].nunique() // 3 or 1)
    return difference(best, "val_accuracy", first, second)


def first_step_ratio(name: str) -> float:
    """First step for a gradient of 1000 over the first step for a gradient of 1."""
    step = UPDATES[name](torch.zeros(2, **DOUBLE), torch.tensor([1000.0, 1.0], **DOUBLE), {}, 0.1)
    return (step[0] / step[1]).item()
