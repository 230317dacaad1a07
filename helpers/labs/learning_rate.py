"""Chapter 7, the learning rate: policies, a noisy bowl, the range test, warm-up. Tables in, tables out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_digits
from torch.func import vmap
from torch.optim import lr_scheduler

from helpers import checks, losses, optim, owndata, schedules, stacks, streams, training
from helpers.claims import above, exact, shows
from helpers.recipe import Recipe

# name: (what the chapter prints, torch's own scheduler over n steps with the settings of helpers.schedules)
TORCH = {
    "constant": ("1", lambda o, n: lr_scheduler.ConstantLR(o, factor=1.0)),
    "step": ("0.1 ^ floor(3 p)", lambda o, n: lr_scheduler.StepLR(o, step_size=n // 3, gamma=0.1)),
    "multi_step": (
        "1, then 0.1 from p = 1/2, 0.01 from p = 3/4",
        lambda o, n: lr_scheduler.MultiStepLR(o, milestones=[n // 2, 3 * n // 4], gamma=0.1),
    ),
    "exponential": ("0.01 ^ p", lambda o, n: lr_scheduler.ExponentialLR(o, gamma=0.01 ** (1 / n))),
    "inverse_time": ("1 / (1 + 9 p)", lambda o, n: lr_scheduler.LambdaLR(o, lambda t: 1 / (1 + 9 * t / n))),
    "linear": ("1 - p", lambda o, n: lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=n)),
    "cosine": ("(1 + cos(pi p)) / 2", lambda o, n: lr_scheduler.CosineAnnealingLR(o, T_max=n)),
    "restarts": ("cosine of the fraction of 3 p", lambda o, n: lr_scheduler.CosineAnnealingWarmRestarts(o, n // 3)),
    "one_cycle": (
        "up to 1 at p = 0.3, down to 0",
        lambda o, n: lr_scheduler.OneCycleLR(
            o, 1.0, total_steps=n + 1, pct_start=(0.3 * n + 1) / (n + 1), final_div_factor=1e15, cycle_momentum=False
        ),
    ),
}


def _rates(make, n: int) -> list[float]:
    """The rates that a torch scheduler sets, from a base rate of 1: before step 0, 1, ... n - 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, seen = make(optimizer), []
    for _ in range(n):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def policies(warmups: Sequence[float] = (0.0,), points: int = 40) -> pd.DataFrame:
    """The factor on the learning rate by progress, for every policy: rows policy, warmup, progress, factor."""
    return pd.DataFrame(
        [
            {"policy": name, "warmup": w, "progress": p, "factor": schedules.lr_factor(name, w, p)}
            for w in warmups
            for name in schedules.SCHEDULES
            for p in np.linspace(0, 1, points + 1).tolist()
        ]
    )


def formulas(n: int = 60) -> pd.DataFrame:
    """Each policy's formula, torch's scheduler for it, and the largest difference between both over n steps."""
    rows = []
    for name, (formula, make) in TORCH.items():
        theirs = _rates(lambda o, make=make: make(o, n), n)
        ours = [schedules.lr_factor(name, 0.0, t / n) for t in range(n)]
        kind = type(make(torch.optim.SGD([torch.zeros(1)], lr=1.0), n)).__name__
        gap = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
        rows.append({"policy": name, "factor at progress p": formula, "in torch": kind, "largest difference": gap})
    return pd.DataFrame(rows)


def warm_up_gap(n: int = 60, ramp: int = 15) -> dict:
    """torch's LinearLR, then cosine, against `lr_factor("cosine", warmup)`: the largest difference; steps below 1."""

    def chained(o):
        up = lr_scheduler.LinearLR(o, start_factor=1e-15, total_iters=ramp)
        return lr_scheduler.SequentialLR(o, [up, lr_scheduler.CosineAnnealingLR(o, n - ramp)], milestones=[ramp])

    theirs, ours = _rates(chained, n), [schedules.lr_factor("cosine", ramp / n, t / n) for t in range(n)]
    gap = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    return {"gap": gap, "asked": ramp, "ramp": next(t for t, rate in enumerate(theirs) if rate >= 1 - 1e-12)}


def step_lr(n: int = 9, period: int = 3, **gamma) -> list[float]:
    """The rates of torch's StepLR from 1, with torch's own gamma unless one is given."""
    return _rates(lambda o: lr_scheduler.StepLR(o, step_size=period, **gamma), n)


def multi_step_lr(n: int, milestones: Sequence[int], gamma: float) -> list[float]:
    """The rates of torch's MultiStepLR from 1."""
    return _rates(lambda o: lr_scheduler.MultiStepLR(o, milestones=list(milestones), gamma=gamma), n)


def counters(steps: int = 5) -> pd.DataFrame:
    """The counter t inside torch's exponential and 1/t schedulers after each step: rows t, exponential, 1/t."""
    o = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    exponential, inverse = lr_scheduler.ExponentialLR(o, 0.9), lr_scheduler.LambdaLR(o, lambda t: 1 / (1 + t))
    rows = []
    for t in range(steps):
        rows.append({"t": t, "exponential": exponential.last_epoch, "1/t": inverse.last_epoch})
        o.step()
        exponential.step()
        inverse.step()
    return pd.DataFrame(rows)


# --- the size of a step


def step_lengths(recipe: Recipe, data, steps: int) -> pd.DataFrame:
    """Rows step, length, gradient: the length of each update and of its gradient, and the largest single change."""
    model, rows = training.fresh_model(recipe, data).double(), []
    optimizer = optim.make(recipe.optimizer, model.parameters(), recipe)
    order = training.batch_order(recipe.seed, data.n_train, recipe.batch_size, 0)
    batches = [(data.x_train[i].double(), data.y_train[i]) for i in order[:steps]]
    before = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    for step, _ in enumerate(training.fit(model, losses.make(recipe), optimizer, batches, lambda step: None)):
        now = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()
        g = torch.cat([p.grad.flatten() for p in model.parameters()])
        rows.append({"step": step, "length": (now - before).norm().item(), "gradient": g.norm().item()})
        rows[-1]["largest change"] = (now - before).abs().max().item()
        before = now
    return pd.DataFrame(rows)


# --- the noisy bowl


def noisy_bowl(rates, half_lives, *, start: float = 10.0, steps: int = 10_000, points: int = 40) -> pd.DataFrame:
    """Mean squared distance to the minimum of x^2/2 when each gradient is x plus noise of variance 1. Exact.

    m <- (1 - lr)^2 m + lr^2, from m = start^2. Every falling rate starts at `rate` and has halved after `half_life`
    steps: exponential rate 2^(-t/half_life), 1/t rate / (1 + t/half_life) (Robbins & Monro 1951).
    Rows policy, rate, half_life, step, distance2, travel (the sum of all rates so far).
    """
    rate, half = (v.ravel() for v in np.meshgrid(rates, half_lives, indexing="ij"))
    laws = {
        "constant": lambda t: rate,
        "exponential": lambda t: rate * 2.0 ** (-t / half),
        "1/t": lambda t: rate / (1 + t / half),
    }
    marks = set(np.unique(np.geomspace(1, steps, points).round().astype(int)).tolist())
    rows = []
    for name, law in laws.items():
        m, travel = np.full(rate.shape, start**2), np.zeros(rate.shape)
        for t in range(steps):
            lr = law(t)
            m, travel = (1 - lr) ** 2 * m + lr**2, travel + lr
            if t + 1 in marks:
                rows += [(name, *row[:2], t + 1, *row[2:]) for row in zip(rate, half, m, travel, strict=True)]
    return pd.DataFrame(rows, columns=["policy", "rate", "half_life", "step", "distance2", "travel"])


def valleys(rates, policies, *, groups: int = 8, walkers: int = 250, steps: int = 400, noise: float = 2.0):
    """Walkers in f(x) = (x^2 - 1)^2 + 0.6 x, from the shallow valley at x = 1, with gradients that are noisy.

    Rows policy, rate, seed (a group of walkers), step, share: of walkers in the deep valley, x < 0. Gradients are cut
    at 20, far from both valleys.
    """
    checks.integer("groups", groups, low=2)
    base = np.asarray(rates, dtype=float)[:, None, None, None]
    draw, x = np.random.default_rng(streams.seed(0)), np.ones((len(rates), len(policies), groups, walkers))
    rows = []
    for t in range(steps + 1):
        if t % (steps // 10) == 0:
            share = (x < 0).mean(-1)
            rows += [
                (p, r, g, t, share[i, k, g])
                for i, r in enumerate(rates)
                for k, p in enumerate(policies)
                for g in range(groups)
            ]
        factor = [schedules.lr_factor(p, 0.0, min((t + 0.5) / steps, 1.0)) for p in policies]
        slope = 4 * x * (x**2 - 1) + 0.6 + noise * draw.standard_normal(x.shape)
        x = x - base * np.reshape(factor, (1, -1, 1, 1)) * slope.clip(-20, 20)
    return pd.DataFrame(rows, columns=["policy", "rate", "seed", "step", "share"])


# --- how large a rate may be


def edge_of_stability(curvatures: Sequence[float], rates: Sequence[float], *, steps: int = 100) -> pd.DataFrame:
    """Gradient descent on sum(c x^2)/2 from x = 1: rows lr, growth (last loss over first), edge (2 / largest c)."""
    c = torch.tensor(list(curvatures), dtype=torch.float64)
    ends = [(c * (1 - lr * c) ** (2 * steps)).sum().item() / c.sum().item() for lr in rates]
    return pd.DataFrame({"lr": list(rates), "growth": ends, "edge": 2 / c.max().item()})


def range_test(recipe: Recipe, data, *, low: float, high: float, steps: int, seeds: int) -> pd.DataFrame:
    """The learning-rate range test (Smith 2017): one short run in which the rate grows by one factor each step.

    Rows seed, step, lr, loss: the loss of the batch, smoothed as a running mean. A run ends at a loss that is not
    finite or above four times its lowest.
    """
    checks.number("low", low, above=0)
    checks.number("high", high, above=low)
    rates, rows = np.geomspace(low, high, steps).tolist(), []
    for seed in range(seeds):
        r = recipe.but(seed=seed)
        model = training.fresh_model(r, data)
        optimizer = optim.make(r.optimizer, model.parameters(), r)

        def lr_at(step, optimizer=optimizer):
            optimizer.param_groups[0]["lr"] = rates[step]

        epochs = range(-(-steps // training.steps_per_epoch(r, data.n_train)))
        order = torch.cat([training.batch_order(seed, data.n_train, r.batch_size, e) for e in epochs])[:steps]
        batches = ((data.x_train[i], data.y_train[i]) for i in order)
        mean, lowest = None, np.inf
        for step, (loss, _) in enumerate(training.fit(model, losses.make(r), optimizer, batches, lr_at)):
            mean = loss.item() if mean is None else 0.8 * mean + 0.2 * loss.item()
            lowest = min(lowest, mean)
            if not np.isfinite(mean) or mean > 4 * lowest:
                break
            rows.append({"seed": seed, "step": step, "lr": rates[step], "loss": mean})
    return pd.DataFrame(rows)


def at_rate(runs, lr: float, **fields) -> pd.Series:
    """Validation accuracy at one rate: index = seed."""
    return runs.where(lr=lr, **fields).table.set_index("seed")["val_accuracy"]


def carried_over(runs, other, *, choosing: int = 4) -> tuple[float, float, pd.Series]:
    """Is the best rate of `other` as good here? Both rates are chosen on the first seeds, the rest judge.

    Returns (own best rate, the other's, accuracy at the own rate minus that at the other's, one per judging seed).
    """
    best = [
        float(r.table[r.table["seed"] < choosing].groupby("lr")["val_accuracy"].mean().idxmax()) for r in (runs, other)
    ]
    here = [at_rate(runs, lr) for lr in best]
    return *best, (here[0] - here[1]).loc[choosing:]


def matched(recipe: Recipe, data, *, rates: Sequence[float], target: float, seeds: int) -> pd.DataFrame:
    """Train at each rate; look when the loss on all training rows is first at most `target`. One stack.

    Rows lr, seed, epoch, train_loss, val_accuracy; a run that never gets there has its last epoch.
    """
    recipes, data = recipe.vary(lr=list(rates), seed=list(range(seeds))), training.prepared(recipe, data)
    stack = stacks.Stack([training.fresh_model(r, data) for r in recipes])
    optimizer, one, found = stacks.StackedOptimizer(stack, recipes), vmap(losses.make(recipe)), {}

    def loss(logits, y):
        return one(logits, y.expand(logits.shape[:2]))

    per_epoch = training.steps_per_epoch(recipe, data.n_train)
    for epoch in range(recipe.epochs):
        order = [training.batch_order(r.seed, data.n_train, recipe.batch_size, epoch) for r in recipes]
        batches = ((data.x_train[i], data.y_train[i]) for i in torch.stack(order, 1))
        for _ in training.fit(stack, loss, optimizer, batches, lambda step: optimizer.set_lr(0, per_epoch)):
            pass
        train = training.evaluate(stack, loss, data.x_train, data.y_train)[0].tolist()
        val = training.evaluate(stack, loss, data.x_val, data.y_val)[1].tolist()
        for i, r in enumerate(recipes):
            if i not in found or found[i]["train_loss"] > target:
                about = {"lr": r.lr, "seed": r.seed, "epoch": epoch + 1}
                found[i] = {**about, "train_loss": train[i], "val_accuracy": val[i]}
        if all(row["train_loss"] <= target for row in found.values()):
            break
    return pd.DataFrame(found.values())


# --- a policy with a memory


def plateau(recipe: Recipe, data, *, seeds: int, factor: float = 0.3, patience: int = 1) -> pd.DataFrame:
    """torch's ReduceLROnPlateau on top of `training.fit`: the rate falls when the validation loss has not.

    Rows seed, epoch, lr, val_loss, val_accuracy. It reads what happened, so it is no function of progress.
    """
    data, rows = training.prepared(recipe, data), []
    for seed in range(seeds):
        r = recipe.but(seed=seed)
        model, loss = training.fresh_model(r, data), losses.make(r)
        optimizer = optim.make(r.optimizer, model.parameters(), r)
        scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, factor=factor, patience=patience)
        for epoch in range(r.epochs):
            order = training.batch_order(seed, data.n_train, r.batch_size, epoch)
            batches = ((data.x_train[i], data.y_train[i]) for i in order)
            for _ in training.fit(model, loss, optimizer, batches, lambda step: None):
                pass
            value, accuracy = map(float, training.evaluate(model, loss, data.x_val, data.y_val))
            lr = optimizer.param_groups[0]["lr"]
            rows.append({"seed": seed, "epoch": epoch + 1, "lr": lr, "val_loss": value, "val_accuracy": accuracy})
            scheduler.step(value)
    return pd.DataFrame(rows)


# --- warm-up, read literally


def trainings(recipe: Recipe, data, lengths: Sequence[int], *, seeds: int):
    """Several trainings in a row at the recipe's rate, of these many steps; each starts a new optimizer.

    Training goes on from the weights at hand, in one running order of the data. Returns (rows seed, val_accuracy;
    the models).
    """
    rows, models = [], []
    for seed in range(seeds):
        r = recipe.but(seed=seed)
        model, loss, total = training.fresh_model(r, data), losses.make(r), sum(lengths)
        epochs = range(-(-total // training.steps_per_epoch(r, data.n_train)))
        order = torch.cat([training.batch_order(seed, data.n_train, r.batch_size, e) for e in epochs])[:total]
        for part in order.split(list(lengths)):
            optimizer = optim.make(r.optimizer, model.parameters(), r)
            batches = ((data.x_train[i], data.y_train[i]) for i in part)
            for _ in training.fit(model, loss, optimizer, batches, lambda step: None):
                pass
        rows.append({"seed": seed, "val_accuracy": float(training.evaluate(model, loss, data.x_val, data.y_val)[1])})
        models.append(model)
    return pd.DataFrame(rows), models


def largest_gap(a, b) -> float:
    """Largest absolute difference between the weights of two lists of models."""
    pairs = zip(a, b, strict=True)
    return max(
        (p - q).abs().max().item() for m, n in pairs for p, q in zip(m.parameters(), n.parameters(), strict=True)
    )


def failed(runs, *, below: float = 0.5) -> pd.Series:
    """True for runs that diverged or read less than this share of the validation images."""
    return runs.table["diverged"] | (runs.table["val_accuracy"] < below)


# --- data


def large_digits(factor: int = 2, n: int | None = None):
    """The digits with each pixel repeated `factor` times in both directions (16x16), so that LeNet-5 can read them."""
    x, y = load_digits(return_X_y=True)
    images = np.kron(x.reshape(-1, 8, 8), np.ones((1, factor, factor)))[:, None]
    return owndata.from_arrays(images[:n], y[:n], name=f"digits, {8 * factor}x{8 * factor}")


# --- evidence: each function writes the evidence of one experiment into the ledger; the rule is in its docstring


def judge_policies(ledger, table: pd.DataFrame, ramp: dict) -> str:
    """Exact checks (R3). LR-03: our exponential decay is torch's and falls in every step. LR-04: the two counters
    differ. LR-06: torch's StepLR, left alone, halves. LR-07: MultiStepLR multiplies by gamma at each milestone."""
    gap = table.set_index("policy")["largest difference"]
    falls = np.diff([schedules.lr_factor("exponential", 0.0, p) for p in np.linspace(0, 1, 61)]).max() < 0
    told = f"equal to torch's ExponentialLR within {gap['exponential']:.0e}; the rate falls in each of 60 steps."
    ledger.add("LR-03", formula=exact(checks.capital(told), falls and gap["exponential"] < 1e-12))
    t = counters()
    same = (t["exponential"] == t["1/t"]).all() and (t["t"] == t["exponential"]).all()
    told = f"After {len(t) - 1} steps torch's counter is {t['exponential'].iloc[-1]} in both policies."
    ledger.add("LR-04", the_counter_differs=exact(told, not same))
    rates = step_lr()
    told = f"StepLR with its own settings: {', '.join(f'{r:g}' for r in rates[::3])} after each period of three epochs."
    ledger.add("LR-06", halves=exact(told, abs(rates[3] / rates[0] - 0.5) < 1e-12))
    found = multi_step_lr(8, [2, 5], 0.3)
    right = np.allclose(found, [1, 1, 0.3, 0.3, 0.3, 0.09, 0.09, 0.09], rtol=1e-12, atol=0)
    told = f"Milestones 2 and 5, gamma 0.3: {', '.join(f'{r:g}' for r in found)}."
    ledger.add("LR-07", formula=exact(told, right))
    return (
        f"Over 60 steps no policy differs from torch's scheduler by more than {gap.max():.0e}, a warm-up of "
        f"{ramp['ramp']} steps before a cosine by {ramp['gap']:.0e}. And StepLR does not halve: its gamma is "
        f"{rates[3] / rates[0]:g} unless you say otherwise, and it acts after *every* period, not once."
    )


def judge_steps(ledger, sgd: pd.DataFrame, adam: pd.DataFrame, lr: float) -> str:
    """R3, float64. LR-01: SGD's steps are lr times the gradient, Adam's first moves no weight further than lr.
    LR-02, first half: at a constant rate the longest step is the shortest, within 1 %."""
    off = (sgd["length"] / (lr * sgd["gradient"]) - 1).abs().max()
    first, ratio = adam["largest change"].iloc[0] / lr, sgd["length"].max() / sgd["length"].min()
    told = f"Over {len(sgd)} steps length / (rate x gradient) is 1 within {off:.0e}."
    ledger.add("LR-01", sgd=exact(told, off < 1e-9))
    told = f"In Adam's first step the largest change of a weight is {first:.4f} times the rate."
    ledger.add("LR-01", adam=exact(told, abs(first - 1) < 1e-3))
    told = f"At one constant rate the longest of {len(sgd)} steps is {ratio:.1f} times the shortest."
    ledger.add("LR-02", the_step_is_fixed=exact(told, ratio < 1.01))
    return f"At a fixed rate the step is not fixed: the longest of {len(sgd)} steps is {ratio:.0f} times the shortest."


def judge_sizes(ledger, pairs: dict) -> str:
    """LR-02, second half, margin two points: with a fifth of the data, the best rate of the full data set costs two
    points or more of validation accuracy against the own best rate."""
    for name, (own, other, loss) in pairs.items():
        told = (
            f"Best rate with 200 images {own:g}, with 1,000 images {other:g}; accuracy that the latter costs the former"
        )
        ledger.add("LR-02", **{f"rate_depends_on_n_{name}": above(told, loss, margin=0.02)})
    return " ".join(
        f"At {name.replace('_', ' ')}: {own:g} for 200 images, {other:g} for 1,000."
        for name, (own, other, _) in pairs.items()
    )


def judge_sweep(ledger, runs) -> str:
    """LR-11, R1, margin ten points: the best rate of the grid beats its smallest and its largest rate."""
    means = runs.summary().set_index("lr")["mean"]
    best, low, high = means.idxmax(), means.index.min(), means.index.max()
    for name, end in (("too_small", low), ("too_large", high)):
        gain = at_rate(runs, best) - at_rate(runs, end)
        ledger.add("LR-11", **{name: above(f"Validation accuracy, rate {best:g} minus rate {end:g}", gain, margin=0.1)})
    return f"The best rate of the grid is {best:g}."


def judge_policies_trained(ledger, clean, noisy, walks: pd.DataFrame) -> str:
    """LR-05, each policy at its own best rate: cosine beats the constant rate by half a point of test accuracy, on
    clean and on noisy labels. Two valleys: more walkers end in the deep one (R1, margin 0.05), at a small and at a
    large rate."""
    for name, found in (("clean_labels", clean), ("noisy_labels", noisy)):
        ledger.add("LR-05", **{name: shows(found, "helps", "cosine", "constant")})
    end = walks[walks["step"] == walks["step"].max()].pivot_table("share", "seed", ["rate", "policy"])
    rates = sorted({r for r, _ in end.columns})
    for name, r in (("local_minimum_small_rate", rates[1]), ("local_minimum_large_rate", rates[-1])):
        gain = end[r]["cosine"] - end[r]["constant"]
        told = f"Share of walkers in the deep valley, rate {r:g}, cosine minus constant"
        ledger.add("LR-05", **{name: above(told, gain, margin=0.05)})
    return " ".join(
        f"{name}: {found.sentence('cosine', 'constant')}" for name, found in (("Clean labels", clean), ("Noisy", noisy))
    )


def judge_warm_up(ledger, runs, literal: pd.DataFrame, gap: float, ramp: dict, *, safe: float, high: float) -> str:
    """LR-08, R1, margin two points: warm-up is ahead after two epochs at a safe rate; and at the end at a high rate.
    LR-09: a second SGD training differs from going on; the literal two trainings save the high rate as the ramp does
    (within five points); torch's warm-up steps are steps of a second run."""
    w = max(runs.table["warmup"])
    frame = runs.frame()
    soon = frame[(frame["epoch"] == 2) & (frame["lr"] == safe)].pivot(
        index="seed", columns="warmup", values="val_accuracy"
    )
    ends = {k: at_rate(runs, high, warmup=k) for k in (0.0, w)}
    told = f"Validation accuracy, warm-up minus none, after two epochs, rate {safe:g}"
    ledger.add("LR-08", at_a_safe_rate=above(told, soon[w] - soon[0.0], margin=0.02))
    told = f"Validation accuracy, warm-up minus none, at the end, rate {high:g}"
    ledger.add("LR-08", at_a_high_rate=above(told, ends[w] - ends[0.0], margin=0.02))
    told = f"Two SGD trainings in a row differ from one of the same length by {gap:g} in the weights."
    ledger.add("LR-09", a_second_training_is_something_new=exact(told, gap > 1e-12))
    told = f"torch's LinearLR with total_iters={ramp['asked']} holds the rate below its peak for the first "
    told += f"{ramp['ramp']} steps of one run."
    ledger.add("LR-09", warm_up_steps_are_a_second_run=exact(told, ramp["ramp"] != ramp["asked"]))
    told = f"Validation accuracy at rate {high:g}, two trainings minus one with a ramp"
    two = literal.set_index("seed")["val_accuracy"]
    ledger.add("LR-09", two_trainings_save_the_high_rate=above(told, two - ends[w], margin=0.0, zero=-0.05))
    return (
        f"At a rate of {high:g}, {int((ends[0.0] < 0.5).sum())} of {len(two)} runs without warm-up end below half, "
        f"with it {int((ends[w] < 0.5).sum())}, with two trainings {int((two < 0.5).sum())}. At {safe:g}, "
        f"after two epochs, the run with warm-up is {100 * (soon[0.0] - soon[w]).mean():.0f} points behind."
    )


def judge_lenet(ledger, lenet, equal: pd.DataFrame) -> str:
    """LR-10. LeNet-5, R1, margin two points: a smaller rate helps from a rate that is too high, and from a good one.
    Over-fitting: at equal training loss, noisy labels, the smaller rate reads fewer validation images (margin two
    points)."""
    low, good, high = sorted(lenet.table["lr"].unique())
    for name, small, large in (("from_a_high_rate", good, high), ("from_a_good_rate", low, good)):
        told = f"LeNet-5, validation accuracy, rate {small:g} minus rate {large:g}"
        ledger.add("LR-10", **{name: above(told, at_rate(lenet, small) - at_rate(lenet, large), margin=0.02)})
    by = equal.pivot(index="seed", columns="lr", values="val_accuracy")
    small, large = by.columns.min(), by.columns.max()
    told = f"Validation accuracy lost at equal training loss, rate {small:g} against {large:g}"
    ledger.add("LR-10", the_small_rate_over_fits_more=above(told, by[large] - by[small], margin=0.02))
    return (
        f"LeNet-5: {100 * at_rate(lenet, low).mean():.0f} % at {low:g}, {100 * at_rate(lenet, good).mean():.0f} % at "
        f"{good:g}, {100 * at_rate(lenet, high).mean():.0f} % at {high:g}. At equal training loss the rate {small:g} "
        f"is {100 * (by[small] - by[large]).mean():+.1f} points from the rate {large:g}."
    )
