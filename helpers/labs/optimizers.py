"""The measurements of the chapter on optimizers: each function takes settings and gives a tidy table."""

from __future__ import annotations

import functools
import importlib
import io
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from PIL import Image

from helpers import engine, losses, optim, owndata, plots, splits, stacks, training
from helpers.claims import above, below, exact, share, shows
from helpers.compare import Interval
from helpers.optim import UPDATES
from helpers.recipe import DEFAULTS, Recipe
from helpers.surfaces import SURFACES

DOUBLE = {"dtype": torch.float64}


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


# --- surfaces and quadratics


def walks(surfaces, optimizers, rates, steps: int = 60) -> pd.DataFrame:
    """Trajectories over `helpers.surfaces`, all rates at once: rows surface, optimizer, lr, step, x, y, loss.

    The same as `helpers.walk`, made with the written-out updates. A walk that leaves three times the window is cut.
    """
    rows = []
    for surface in surfaces:
        place = SURFACES[surface]
        for name in optimizers:
            w = torch.tensor([place.start] * len(rates), **DOUBLE).requires_grad_()
            memory, lr = {}, torch.tensor(rates, **DOUBLE)[:, None]
            for step in range(steps + 1):
                loss = place.f(*w.T)
                rows += [
                    (surface, name, r, step, *xy, v) for r, xy, v in zip(rates, w.tolist(), loss.tolist(), strict=True)
                ]
                (g,) = torch.autograd.grad(loss.sum(), w)
                w = UPDATES[name](w.detach(), g, memory, lr).requires_grad_()
    table = pd.DataFrame(rows, columns=["surface", "optimizer", "lr", "step", "x", "y", "loss"])
    reach = table["surface"].map({s: 3 * max(map(abs, SURFACES[s].window)) for s in surfaces})
    return table.mask((table["x"].abs() > reach) | (table["y"].abs() > reach) | table["x"].isna(), other=np.nan).assign(
        **table[["surface", "optimizer", "lr", "step"]]
    )


def scenery(surfaces) -> dict:
    """The backgrounds of `helpers.surface_background` by surface, with 24 colours, so that they are small on a page."""
    drawn = {}
    for name in surfaces:
        place, small = plots.surface_background(name), io.BytesIO()
        picture = Image.open(io.BytesIO(place["png"])).quantize(24, method=2)
        picture.save(small, "png", optimize=True)
        drawn[name] = {**place, "png": small.getvalue()}
    return drawn


def quadratic_iterations(kappa: float = 1000.0, target: float = 1e-6, starts: int = 16) -> pd.DataFrame:
    """Steps until the distance to the minimum of a quadratic has shrunk to `target`, at each method's best settings.

    Curvatures from 1 to kappa; random starts. `theory` is ln(1/target) / -ln(rate), with the rates of Polyak 1964
    (gradient descent, heavy ball) and Lessard, Recht & Packard 2016 (Nesterov).
    """
    torch.manual_seed(0)
    curvature, root = torch.logspace(0, float(np.log10(kappa)), 32, **DOUBLE), kappa**0.5
    ahead = (3 * kappa + 1) ** 0.5
    settings = {
        "sgd": (2 / (1 + kappa), {}, (kappa - 1) / (kappa + 1)),
        "momentum": (4 / (1 + root) ** 2, {"mu": ((root - 1) / (root + 1)) ** 2}, (root - 1) / (root + 1)),
        "nesterov": (4 / (3 * kappa + 1), {"mu": (ahead - 2) / (ahead + 2)}, 1 - 2 / ahead),
    }
    start, rows = torch.randn(starts, 32, **DOUBLE), []
    for name, (lr, options, rate) in settings.items():
        w, memory, taken, limit = start, {}, torch.zeros(starts), int(20 * kappa)
        for step in range(1, limit):
            w = UPDATES[name](w, curvature * w, memory, lr, **options)
            away = w.norm(dim=1) > target * start.norm(dim=1)
            taken[away] = step + 1
            if not away.any():
                break
        theory = np.log(1 / target) / -np.log(rate)
        rows += [{"optimizer": name, "start": i, "steps": int(t), "theory": theory} for i, t in enumerate(taken)]
    return pd.DataFrame(rows)


def lessard_cycle(steps: int = 200) -> pd.DataFrame:
    """Heavy ball on a convex function on which it never arrives (Lessard, Recht & Packard 2016, section 4.6).

    The slope is 25 x, x + 24, 25 x - 24 on three pieces; rate 1/9 and momentum 4/9 are best for quadratics of that
    curvature. Rows: step, optimizer, distance to the minimum at 0.
    """

    def slope(x):
        return torch.where(x < 1, 25 * x, torch.where(x < 2, x + 24, 25 * x - 24))

    settings = {"momentum": (1 / 9, 4 / 9), "nesterov": (1 / 25, 2 / 3), "sgd": (1 / 13, None)}
    rows = []
    for name, (lr, mu) in settings.items():
        w, memory = torch.tensor([3.3], **DOUBLE), {}
        for step in range(steps + 1):
            rows.append({"step": step, "optimizer": name, "distance": abs(w.item())})
            w = UPDATES[name](w, slope(w), memory, lr, **({} if mu is None else {"mu": mu}))
    return pd.DataFrame(rows)


def ravine(optimizers, rates, *, kappa=100.0, degrees=0.0, starts: int = 16, steps: int = 100) -> pd.DataFrame:
    """Walks into the ravine (u^2 + kappa v^2)/2 from random directions, each optimizer at its own best rate.

    u, v are the coordinates turned by `degrees`; 0 means that the ravine lies along an axis. The rate with the lowest
    mean log loss over 16 other starts is taken. Rows: optimizer, lr, start, flips = share of steps in which the walk
    turns round in the steep direction v, log_loss = log10 of the last loss, at least -12.
    """
    torch.manual_seed(0)
    a = torch.tensor(np.deg2rad(degrees), **DOUBLE)
    turn = torch.stack([torch.stack([a.cos(), a.sin()]), torch.stack([-a.sin(), a.cos()])])
    curvature = turn.T @ torch.diag(torch.tensor([1.0, kappa], **DOUBLE)) @ turn
    angle = torch.rand(starts + 16, **DOUBLE) * 2 * torch.pi
    start, lr = torch.stack([angle.cos(), angle.sin()], 1), torch.tensor(rates, **DOUBLE)[:, None, None]
    rows = []
    for name in optimizers:
        path, memory = [start.expand(len(rates), -1, -1)], {}
        for _ in range(steps):
            path.append(UPDATES[name](path[-1], path[-1] @ curvature, memory, lr))
        moved = (torch.stack(path) @ turn[1]).diff(dim=0)
        flips = (moved[1:] * moved[:-1] < 0).double().mean(0)
        end = (path[-1] * (path[-1] @ curvature)).sum(-1).div(2).clamp(min=1e-12).log10()
        end = end.nan_to_num(nan=99.0, posinf=99.0)
        best = end[:, starts:].mean(1).argmin()
        for i in range(starts):
            row = {"optimizer": name, "lr": rates[best], "start": i, "flips": flips[best, i].item()}
            rows.append({**row, "log_loss": end[best, i].item()})
    return pd.DataFrame(rows)


def noisy_bowl(optimizers, rates, *, seeds: int = 16, steps: int = 600, drift: float = 0.0) -> pd.DataFrame:
    """A bowl f = |w - w*|^2 / 2 with noisy gradients (sd 1), 20 weights; w* starts at 3 and moves by `drift` a step.

    Rows: optimizer, lr, seed, error = root mean square distance to w* over the last half of the steps, wobble = root
    mean square change per step there, flips = share of steps there in which a weight turns round.
    """
    generator = torch.Generator().manual_seed(0)
    lr, rows = torch.tensor(rates, **DOUBLE)[:, None, None], []
    noise = torch.randn(steps, 1, seeds, 20, generator=generator, **DOUBLE)
    for name in optimizers:
        w, memory, path, away = torch.zeros(len(rates), seeds, 20, **DOUBLE), {}, [], []
        for t in range(steps):
            target = 3 + drift * t
            w = UPDATES[name](w, w - target + noise[t], memory, lr)
            path.append(w)
            away.append(w - target)
        half = torch.stack(path)[steps // 2 :].diff(dim=0)
        wobble, error = half.square().mean((0, 3)).sqrt(), torch.stack(away[steps // 2 :]).square().mean((0, 3)).sqrt()
        flips = (half[1:] * half[:-1] < 0).double().mean((0, 3))
        for i, r in enumerate(rates):
            numbers = zip(error[i].tolist(), wobble[i].tolist(), flips[i].tolist(), strict=True)
            rows += [(name, r, seed, *n) for seed, n in enumerate(numbers)]
    return pd.DataFrame(rows, columns=["optimizer", "lr", "seed", "error", "wobble", "flips"])


def at_best_rate(table: pd.DataFrame, score: str, choosing: int | None = None) -> pd.DataFrame:
    """The rows of each optimizer at the rate with the lowest mean score over the last `choosing` seeds (None: half).

    Only the other seeds are given back, so that the seeds that chose do not also judge.
    """
    n = table["seed"].max() + 1
    judges = n - (n // 2 if choosing is None else choosing)
    means = table[table["seed"] >= judges].groupby(["optimizer", "lr"])[score].mean()
    best = {name: means[name].idxmin() for name in means.index.unique(0)}
    keep = (table["seed"] < judges) & (table["lr"] == table["optimizer"].map(best))
    return table[keep].reset_index(drop=True)


def reddi(steps: int = 3000, slope: float = 3.0, lr: float = 0.1) -> pd.DataFrame:
    """The convex problem on which Adam walks to the worst point (Reddi, Kale & Kumar 2018, theorem 1).

    x in [-1, 1]; the loss is `slope` * x at every third step and -x at the two others, so that on average smaller x is
    better. beta1 = 0, beta2 = 1/(1 + slope^2), rate lr / sqrt(t), as in the theorem. Rows: step, optimizer, x.
    """
    betas, rows = (0.0, 1 / (1 + slope**2)), []
    makers = {
        "adam": lambda p: torch.optim.Adam(p, lr, betas),
        "adam, slow memory (0.999)": lambda p: torch.optim.Adam(p, lr, (0.0, 0.999)),
        "AMSGrad": lambda p: torch.optim.Adam(p, lr, betas, amsgrad=True),
        "sgd": lambda p: torch.optim.SGD(p, lr),
    }
    for name, make in makers.items():
        x = torch.zeros(1, requires_grad=True, **DOUBLE)
        stepper = make([x])
        for t in range(1, steps + 1):
            stepper.param_groups[0]["lr"] = lr / t**0.5
            x.grad = torch.full_like(x, slope if t % 3 == 1 else -1.0)
            stepper.step()
            with torch.no_grad():
                x.clamp_(-1, 1)
            if t % 100 == 0:
                rows.append({"step": t, "optimizer": name, "x": x.item()})
    return pd.DataFrame(rows)


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
        generator, w = torch.Generator().manual_seed(0), torch.zeros(seeds, x.shape[1], y.shape[1], **DOUBLE)
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
        return self.to_html(index=False, border=0, classes="tt-table", float_format=self.fmt.format)


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


def ravines(optimizers, degrees, *, starts: int = 16) -> pd.DataFrame:
    """`ravine` for several angles, with a fine common grid of 18 rates; rows also have `degrees`."""
    rates = np.geomspace(0.0003, 1.0, 18).tolist()
    return pd.concat(
        [ravine(optimizers, rates, degrees=d, starts=starts).assign(degrees=d) for d in degrees], ignore_index=True
    )


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


def reddi_memory(slopes, betas, *, steps: int = 1500, lr: float = 0.1) -> pd.DataFrame:
    """Where Adam ends on Reddi's problem for each spike and memory: rows slope, beta2, x (below 0 is right)."""
    rows = []
    for slope in slopes:
        for beta2 in betas:
            x, memory = torch.zeros(1, **DOUBLE), {}
            for t in range(1, steps + 1):
                g = torch.full_like(x, slope if t % 3 == 1 else -1.0)
                x = UPDATES["adam"](x, g, memory, lr / t**0.5, beta1=0.0, beta2=beta2).clamp(-1, 1)
            rows.append((slope, beta2, x.item()))
    return pd.DataFrame(rows, columns=["slope", "beta2", "x"])


# --- sentences: what the tables show, in words


def _ranked(values: pd.Series, text: str = "{name} {value:.2g}") -> str:
    return ", ".join(text.format(name=name, value=value) for name, value in values.items())


def tell_walks(t: pd.DataFrame) -> str:
    """Which walk ends lowest at this setting, and which left the picture."""
    last = t[t["step"] == t["step"].max()].set_index("optimizer")["loss"]
    left, here = last[last.isna()].index.tolist(), last.dropna().sort_values()
    where = f"On the {t['surface'].iloc[0]} at the rate {t['lr'].iloc[0]:g}, after {t['step'].max()} steps"
    gone = f"; {', '.join(left)} left the picture" if left else ""
    return (
        f"{where}, {here.index[0]} is lowest (loss {here.iloc[0]:.2g}) and {here.index[-1]} highest "
        f"({here.iloc[-1]:.2g}){gone}."
    )


def tell_rises(t: pd.DataFrame) -> str:
    """Mean share of rising steps by batch size, at the start setting (already in percent)."""
    means = t.groupby("batch_size", sort=False)["rises"].mean()
    told = _ranked(means, "{value:.0f} % with {name}").replace("with all", "with all examples")
    return f"At the rate {t['lr'].iloc[0]:g} the share of steps that raise the full loss is {told} in a batch."


def tell_curves(t: pd.DataFrame) -> str:
    """Best and worst optimizer at the start rate."""
    means = t[t["epoch"] == t["epoch"].max()].groupby("optimizer")["val_accuracy"].mean().sort_values()
    return (
        f"At the rate {t['lr'].iloc[0]:g} {means.index[-1]} ends at {means.iloc[-1]:.1%} and {means.index[0]} at "
        f"{means.iloc[0]:.1%}; at another rate the order is another."
    )


def tell_valley(widths: pd.DataFrame) -> str:
    """Width of the good stretch of rates, optimizers from narrow to wide."""
    means = widths.groupby("optimizer")["decades"].mean().sort_values()
    n = widths["seed"].nunique()
    return (
        f"Rates within one point of the best, in decades (mean of {n} seeds): {_ranked(means, '{name} {value:.2f}')}."
    )


def tell_race(race) -> str:
    """Spread of the arms' means, and how many differ from the first arm."""
    means = 100 * race.scores.mean().sort_values()
    words = [race.outcome(race.arms[0], arm) for arm in race.arms[1:]]
    return (
        f"Tuned on equal terms, the means lie between {means.iloc[0]:.1f} % ({means.index[0]}) and "
        f"{means.iloc[-1]:.1f} % "
        f"({means.index[-1]}); {race.arms[0]} beats {words.count('helps')} of its {len(words)} rivals "
        f"by half a point or more, "
        f"n = {len(race.scores)} seeds."
    )


def tell_winners(winners: pd.DataFrame) -> str:
    """How the crown moves from seed to seed."""
    total, top = winners["wins"].sum(), winners.sort_values("wins", ascending=False)
    crowned = int((winners["wins"] > 0).sum())
    first = top.iloc[0]
    return (
        f"Over {total:.0f} single seeds, **{crowned} of {len(winners)}** optimizers would have been "
        f"crowned at least once. "
        f"The most frequent winner, {first['optimizer']}, wins {first['wins'] / total:.0%} of them, "
        f"and its place ranges from "
        f"{first['best rank']:.0f} to {first['worst rank']:.0f}."
    )


def tell_effective(named: pd.DataFrame) -> str:
    """Momentum against SGD at the same rate and at the same effective rate, after two epochs."""
    means = named[named["epoch"] == 2].groupby("run", sort=False)["val_accuracy"].mean()
    return (
        f"After two epochs: {_ranked(means, '{name} {value:.1%}')}. Equal effective rates are 0.03 "
        f"with momentum and 0.3 without."
    )


def tell_ravines(t: pd.DataFrame) -> str:
    """Turning steps by optimizer, along an axis."""
    means = t[t["degrees"] == 0].groupby("optimizer", sort=False)["flips"].mean()
    return f"Share of steps that turn round in a ravine along an axis: {_ranked(means, '{name} {value:.0%}')}."


def tell_tilt(t: pd.DataFrame) -> str:
    """What turning the ravine does to the final loss of the adaptive optimizers."""
    means = t.groupby(["optimizer", "degrees"])["log_loss"].mean().unstack()
    told = [
        f"{n} from {10 ** means.loc[n, 0]:.0e} to {10 ** means.loc[n, 45]:.0e}" for n in ("rmsprop", "adagrad", "adam")
    ]
    return (
        f"Turn the ravine by 45 degrees and the typical last loss of the adaptive optimizers changes: "
        f"{', '.join(told)}. "
        f"Momentum, which treats all directions alike, goes from {10 ** means.loc['momentum', 0]:.0e} to "
        f"{10 ** means.loc['momentum', 45]:.0e}. Adaptive steps know axes, not directions."
    )


def tell_floor(t: pd.DataFrame) -> str:
    """Where the fixed and the falling rate end above the optimum."""
    means = t[t["step"] == t["step"].max()].groupby("schedule")["excess"].mean()
    return (
        f"After {t['step'].max()} steps the fixed rate is {means['constant']:.1e} above the optimum, "
        f"the falling rate {means['falling']:.1e}."
    )


def tell_sparse(data, fits: dict) -> str:
    """Sparsity, the gain in training loss on sparse and dense data, and the accuracy on texts held out."""
    zero = (data.x_train == 0).double().mean().item()
    gain = {name: 10 ** -np.mean(log_gain(t, "adagrad", "sgd")) for name, t in fits.items()}
    told = _ranked(pd.Series(gain), "{value:.1f} times lower on {name}")
    new = [100 * v for v in held_out_gain(fits[data.name], "adagrad", "sgd")]
    return (
        f"In the texts {zero:.0%} of all entries are zero. With Adagrad the training loss is {told}. "
        f"On texts held out it is {mean_text(new, 1)} points of accuracy better than SGD (95 % "
        f"interval, n = {len(new)})."
    )


def tell_bowl(t: pd.DataFrame) -> str:
    """Smallest distance that each optimizer reaches over the rates, for the start setting."""
    best = t.groupby(["optimizer", "lr"])["error"].mean().groupby("optimizer").min()
    return (
        f"With the minimum {t['minimum'].iloc[0]}, the smallest distance over all rates is "
        f"{_ranked(best, '{name} {value:.2f}')}."
    )


def tell_wine(untreated, treated) -> str:
    """Accuracies of the 2 x 2: optimizer by scaling."""
    rows = (("raw inputs", untreated), ("standardized inputs", treated))
    told = "; ".join(
        f"{name}: Adam {c.scores['adam'].mean():.1%}, SGD {c.scores['sgd'].mean():.1%}" for name, c in rows
    )
    return f"Validation accuracy with tuned rates. {told}. On raw inputs, {untreated.sentence()}"


def tell_deep(sunk, shallow, scales: pd.DataFrame) -> str:
    """Deep sigmoid network by optimizer, the shallow one, and the gradient's shrinkage at the start."""
    ends = scales.groupby("layer")["gradient"].mean()
    return (
        f"Six sigmoid layers: {_ranked(sunk.scores.mean(), '{name} {value:.1%}')}. One sigmoid layer with Adagrad: "
        f"{shallow.table['val_accuracy'].mean():.1%}. Before training the first layer's gradient is "
        f"{ends.iloc[0] / ends.iloc[-1]:.0e} "
        f"of the last one's, whatever the optimizer: it rescales steps, it does not change gradients."
    )


def tell_decay(decays: dict) -> str:
    """The three comparisons of weight decay in words."""
    told = [
        f"{name.replace('_', ' ')}: {100 * c.interval().mean:+.1f} points "
        f"[{100 * c.interval().low:.1f}, {100 * c.interval().high:.1f}]"
        for name, c in decays.items()
    ]
    n = len(next(iter(decays.values())).scores)
    return (
        f"Weight decay against none, validation accuracy with tuned rates. {'; '.join(told)} (95 % intervals, n = {n})."
    )


def tell_gaps(gaps: dict) -> str:
    """What `decay_gaps` found."""
    return (
        f"Largest difference between the weights after 50 steps. SGD's `weight_decay` against an L2 penalty: "
        f"{gaps['sgd']:.0e}. Adam's `weight_decay` against an L2 penalty: {gaps['adam']:.0e}. AdamW's decay against "
        f"Adam with that penalty: **{gaps['adamw']:.2f}**."
    )


def tell_cycle(last: pd.Series) -> str:
    """Where the three methods stand at the end of `lessard_cycle`."""
    return (
        f"On one convex function the heavy ball never settles: after 200 steps it is {last['momentum']:.1f} away, "
        f"gradient descent {last['sgd']:.0e}, Nesterov at most {max(last['nesterov'], 1e-12):.0e}."
    )


def tell_reddi(end: pd.Series) -> str:
    """Where the walks of `reddi` end."""
    return (
        f"Adam ends at x = {end['adam']:+.2f}, AMSGrad at {end['AMSGrad']:+.2f}, SGD at "
        f"{end['sgd']:+.2f}, and Adam with "
        f"a slow memory at {end['adam, slow memory (0.999)']:+.2f}; +1 is the worst point and -1 the best."
    )


# --- evidence: each function writes the evidence of one experiment into the ledger; the rule is in its docstring


def judge_formulas(ledger, twins: pd.DataFrame, state: dict) -> str:
    """Exact checks (R3) in float64: equal means a difference of at most 1e-12 (of 1e-6 where a claim is tested)."""
    same, third = twins["largest difference"].max() < 1e-12, largest_gap("momentum", "nesterov")
    as_rmsprop = largest_gap("adam", "rmsprop", one={"beta1": 0.0, "beta2": 0.99}, memory={"t": 10**6})
    told = f"heavy-ball momentum, as torch has it, is a third kind: it differs from Nesterov by up to {third:.2g}."
    ledger.add("OPT-06", two_kinds=exact(told, not (same and third > 1e-6)))
    told = f"torch's Adagrad state equals the sum of squares (relative gap {state['adagrad_sum']:.0e}); "
    told += f"from their moving mean it is {state['adagrad_mean']:.0%} away."
    ledger.add("OPT-13", moving_mean=exact(told, state["adagrad_mean"] < 1e-6))
    told = f"both keep one number for each of {state['weights']} weights: Adagrad the sum of squares "
    told += f"(gap {state['adagrad_sum']:.0e}), RMSprop their moving mean (gap {state['rmsprop_mean']:.0e})."
    holds = state["shapes"] == 1 and max(state["adagrad_sum"], state["rmsprop_mean"]) < 1e-12
    ledger.add("OPT-16", second_moment_per_weight=exact(told, holds))
    told = f"torch's RMSprop state equals the moving mean (gap {state['rmsprop_mean']:.0e}); "
    told += f"from mean over step size it is {state['rmsprop_quotient']:.0f} times its own size away."
    ledger.add("OPT-17", divided_by_step_size=exact(told, state["rmsprop_quotient"] < 1e-6))
    told = (
        f"over {state['pairs']} pairs of weight and step Adagrad's rate rose in {state['adagrad_up']:.0%} and fell in "
    )
    told += f"{state['adagrad_down']:.0%}; RMSprop's rose in {state['rmsprop_up']:.0%}."
    ledger.add("OPT-14", does_not_decrease=exact(told, state["adagrad_down"] == 0))
    told = f"without momentum and start correction Adam is RMSprop: largest difference {as_rmsprop:.0e}."
    ledger.add("OPT-11", formula=exact(told, as_rmsprop < 1e-12))
    return (
        f"The written-out rules and torch's agree to rounding. In a real run Adagrad's effective rate, lr/√G, rose in "
        f"{state['adagrad_up']:.0%} of all pairs of weight and step and fell in "
        f"{state['adagrad_down']:.0%}; in the rest "
        f"it stood still. RMSprop's rate rose in {state['rmsprop_up']:.0%}: its mean can forget."
    )


def judge_steps(ledger, steps: pd.DataFrame) -> str:
    """R1 per seed, rate 0.1: fewer than one step in a hundred raises the loss. Full batch is the control, not SGD."""
    at = steps[steps["lr"] == 0.1].groupby("batch_size")["rises"]
    for size, name in (("1", "one_example"), ("8", "batch_of_8"), ("64", "batch_of_64")):
        told = f"steps in a hundred that raise the whole training loss, batch of {size}, rate 0.1"
        ledger.add("OPT-02", **{name: below(told, at.get_group(size), zero=1)})
    return (
        f"With all examples in every step and the rate 0.1, {at.get_group('all').mean():.0f} % of the "
        f"steps went up. The "
        "promise belongs to *gradient descent with a small rate*. For SGD it holds on average, not "
        "step by step: the loss "
        "of the minibatch goes down, that of all the others need not."
    )


def judge_widths(ledger, runs, widths: pd.DataFrame) -> str:
    """R1 on paired seeds: Adam's good stretch of rates is wider than SGD's, than momentum's; Adam at about 30 times
    its best rate loses less than one point (no rate to choose)."""
    over_sgd, far = difference(widths, "decades", "adam", "sgd"), cost_of_far_rate(runs, "adam", factor=30)
    wider = above("good stretch of rates, Adam minus SGD", over_sgd, unit=" decades")
    told = "accuracy that Adam loses at 30 times its best rate"
    ledger.add("OPT-08", less_sensitive_than_sgd=wider, no_rate_to_choose=below(told, far, zero=0.01))
    over_momentum = difference(widths, "decades", "adam", "momentum")
    wider_too = above("good stretch of rates, Adam minus momentum", over_momentum, unit=" decades")
    ledger.add("OPT-10", robust_to_the_rate_against_sgd=wider, robust_to_the_rate_against_momentum=wider_too)
    return (
        f"Adam minus SGD: {mean_text(over_sgd)} decades; Adam minus momentum: "
        f"{mean_text(over_momentum)}. At thirty times "
        f"its best rate Adam loses {100 * np.mean(far):.0f} points of accuracy. It still wants a rate from you."
    )


def judge_race(ledger, race, end: pd.Series) -> str:
    """R1 and R2 with a margin of half a point, test accuracy; on Reddi's problem Adam must end on the right side."""
    told = (
        f"where -1 is best, Adam ends at {end['adam']:+.2f}, SGD at {end['sgd']:+.2f}, AMSGrad at "
        f"{end['AMSGrad']:+.2f}."
    )
    ledger.add("OPT-10", beats_tuned_momentum=shows(race, "helps", "adam", "momentum"))
    ledger.add("OPT-10", safe_on_a_convex_problem=exact(told, end["adam"] < 0))
    ledger.add("OPT-19", digits_network=shows(race, "helps", "rmsprop", "adagrad"))
    return " ".join(race.sentence(*p) for p in (("adam", "momentum"), ("adam", "sgd"), ("rmsprop", "adagrad")))


def judge_momentum(ledger, bowl: pd.DataFrame, sprint, race, cycle: pd.Series) -> str:
    """OPT-05: momentum faster than SGD, both tuned: fewer steps on the quadratic, higher accuracy after two epochs.
    OPT-07: Nesterov better than heavy ball: steps on the quadratic, Lessard's function, short and finished training."""
    saved = difference(bowl, "steps", "momentum", "sgd")
    quadratic = below("steps of momentum minus steps of gradient descent, curvature ratio 1000", saved)
    ledger.add("OPT-05", ill_conditioned_quadratic=quadratic, network=shows(sprint, "helps", "momentum", "sgd"))
    more = below("steps of Nesterov minus steps of heavy ball", difference(bowl, "steps", "nesterov", "momentum"))
    told = f"after 200 steps the heavy ball is {cycle['momentum']:.1f} from the minimum, Nesterov at most "
    told += f"{max(cycle['nesterov'], 1e-12):.0e}."
    arrives = exact(told, cycle["nesterov"] < 1e-6 < cycle["momentum"])
    ledger.add("OPT-07", fewer_steps_on_a_quadratic=more, arrives_where_heavy_ball_circles=arrives)
    ledger.add("OPT-07", short_training=shows(sprint, "helps", "nesterov", "momentum"))
    ledger.add("OPT-07", finished_network=shows(race, "helps", "nesterov", "momentum"))
    return sprint.sentence("momentum", "sgd") + " " + sprint.sentence("nesterov", "momentum")


def judge_ravines(ledger, turned: pd.DataFrame) -> str:
    """OPT-11: Adam turns round less often than SGD, own best rates. OPT-03: SGD turns in more than half its steps."""
    for degrees, name in ((0, "ravine_along_an_axis"), (45, "ravine_turned_by_45_degrees")):
        fewer = difference(turned[turned["degrees"] == degrees], "flips", "adam", "sgd")
        ledger.add("OPT-11", **{name: below("share of turning steps, Adam minus SGD", fewer)})
    flips = turned[(turned["degrees"] == 45) & (turned["optimizer"] == "sgd")]["flips"]
    ledger.add("OPT-03", oscillates_in_a_ravine=above("share of SGD's steps that turn round", flips, zero=0.5))
    return tell_tilt(turned)


def judge_stuck(ledger, ends: pd.DataFrame) -> str:
    """R4, bound one run in ten: SGD often stuck with 3 and with 32 hidden units; Adam seldom stuck with 3."""
    at = {(r.width, r.optimizer): (int(r.stuck), int(r.n)) for r in ends.itertuples()}
    for width in (3, 32):
        told = f"SGD runs stuck with {width} hidden units"
        ledger.add("OPT-03", **{f"stuck_with_{width}_units": share(told, *at[width, "sgd"], at_least=0.1)})
    ledger.add("OPT-08", avoids_local_minima=share("Adam runs stuck, 3 hidden units", *at[3, "adam"], at_most=0.1))
    told = {k: f"{stuck} of {n}" for k, (stuck, n) in at.items()}
    return (
        f"Width decides. With 3 hidden units {told[3, 'sgd']} SGD runs and {told[3, 'adam']} Adam runs ended above the "
        f"best; with 32 units {told[32, 'sgd']} SGD runs did."
    )


def judge_optimum(ledger, softmax: pd.DataFrame, pairs: pd.DataFrame) -> str:
    """OPT-21: within 0.001 of the optimal loss; and two trained networks answer differently on under 1 % of images."""
    last = softmax[softmax["step"] == softmax["step"].max()].groupby("schedule")["excess"]
    for schedule in ("falling", "constant"):
        told = f"training loss above the L-BFGS optimum, {schedule} rate"
        ledger.add("OPT-21", **{f"convex_{schedule}_rate": below(told, last.get_group(schedule), zero=0.001)})
    ledger.add(
        "OPT-21", one_solution_for_a_network=below("share of images with two answers", pairs["differ"], zero=0.01)
    )
    return (
        f"Two networks that differ in the seed alone end with a training loss of at most "
        f"{pairs['train_loss'].max():.2g}, "
        f"and yet give different answers on {pairs['differ'].mean():.1%} of the validation images. "
        f"There is no *the* optimum."
    )


def judge_sparse(ledger, sparse: pd.DataFrame, dense: pd.DataFrame) -> None:
    """OPT-12: Adagrad fits sparse data faster than SGD (log10 training loss, own best rates); gains more there than on
    dense data; and predicts texts held out better by half a point."""
    gain, control = log_gain(sparse, "adagrad", "sgd"), log_gain(dense, "adagrad", "sgd")
    more, new = [a - b for a, b in zip(gain, control, strict=True)], held_out_gain(sparse, "adagrad", "sgd")
    ledger.add("OPT-12", fits_faster=below("log10 of the training loss, Adagrad minus SGD, sparse words", gain))
    ledger.add("OPT-12", gains_more_than_on_dense_data=below("the same, words minus digits", more))
    better = above("accuracy on texts held out, Adagrad minus SGD", new, margin=0.005)
    ledger.add("OPT-12", predicts_new_texts_better=better)


def judge_bowls(ledger, still: pd.DataFrame, moving: pd.DataFrame) -> None:
    """OPT-18: RMSprop wobbles less than Adagrad, at one rate and at own best rates. OPT-19: it is closer to a minimum
    that rests, and to one that moves, own best rates."""
    wobble = difference(still[still["lr"] == 0.1], "wobble", "rmsprop", "adagrad")
    own = difference(at_best_rate(still, "error"), "wobble", "rmsprop", "adagrad")
    ledger.add("OPT-18", same_rate=below("wobble near the minimum, RMSprop minus Adagrad, rate 0.1", wobble))
    ledger.add("OPT-18", own_best_rates=below("the same, each at its best rate", own))
    for name, table in (("minimum_at_rest", still), ("moving_minimum", moving)):
        gap = difference(at_best_rate(table, "error"), "error", "rmsprop", "adagrad")
        ledger.add("OPT-19", **{name: below("distance to the minimum, RMSprop minus Adagrad, own best rates", gap)})


def judge_wine(ledger, untreated, treated) -> None:
    """OPT-22: Adam beats SGD on raw inputs; and there comes within one point of SGD on standardized inputs."""
    gap = untreated.scores["adam"] - treated.scores["sgd"]
    fixed = above("accuracy of Adam on raw inputs minus SGD on standardized inputs", gap, zero=-0.01)
    ledger.add("OPT-22", helps_on_raw_inputs=shows(untreated, "helps", "adam", "sgd"), as_good_as_fixing_inputs=fixed)


def judge_deep(ledger, sunk, shallow) -> None:
    """OPT-15: Adagrad gets further than SGD; and to within five points of a shallow network (solves it)."""
    gap = sunk.scores["adagrad"].to_numpy() - shallow.table["val_accuracy"].to_numpy()
    solves = above("accuracy of Adagrad, deep net minus shallow net", gap, zero=-0.05)
    ledger.add("OPT-15", gets_further_than_sgd=shows(sunk, "helps", "adagrad", "sgd"), solves_it=solves)


def judge_words(ledger, after: dict) -> None:
    """OPT-09, OPT-20: exact checks. OPT-01 is historical: cited, not measured."""
    told = (
        f"after 100 real steps the betas are still {after['betas']} and the rate {after['lr']}; "
        f"what varies is the step "
    )
    told += f"of each weight (1/sqrt(v), 95th over 5th percentile: {after['spread']:.0f})."
    ledger.add("OPT-09", rate_and_momentum_adjusted=exact(told, after["betas"] != (0.9, 0.999)))
    ratio, plain = first_step_ratio("adagrad"), first_step_ratio("sgd")
    told = f"for gradients 1000 and 1 Adagrad's first steps have the ratio {ratio:.3f}, SGD's {plain:.0f}."
    ledger.add("OPT-20", one_step_size_per_weight=exact(told, abs(ratio - 1) < 1e-6))
    ledger.ill_posed("OPT-20")
    told = "cited, not measured: residual networks were trained by SGD with momentum (He et al. 2016)."
    ledger.add("OPT-01", image_networks_of_the_2010s=exact(told, True, n=0))
    told = "cited, not measured: BERT was trained by Adam with weight decay (Devlin et al. 2019)."
    ledger.add("OPT-01", language_models=exact(told, False, n=0))


def judge_decay(ledger, gaps: dict, decays: dict) -> None:
    """OPT-04: for SGD decay is an L2 penalty (R3); it helps by half a point or more in each situation (R1)."""
    told = f"SGD with decay equals SGD with an L2 penalty (difference {gaps['sgd']:.0e})."
    ledger.add("OPT-04", same_as_an_l2_penalty=exact(told, gaps["sgd"] < 1e-12))
    for name, comparison in decays.items():
        ledger.add("OPT-04", **{name: about("weight decay 0.03 against none", shows(comparison, "helps"))})
