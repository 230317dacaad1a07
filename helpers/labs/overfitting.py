"""Chapter 5, over-fitting: training followed epoch by epoch, stopping rules, augmentation and what it protects from.

Tables in, tables out. Accuracies are fractions.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import vmap

from helpers import augment, checks, claims, losses, splits, stacks, streams, training
from helpers.claims import Evidence
from helpers.compare import Interval
from helpers.recipe import STACKED_TOGETHER, Recipe

NEVER = 10**6  # a patience that no run outlasts


# --- data


def more_test_rows(data, n: int):
    """The data set with `n` of its training rows as its sealed test set, in place of the old one, which stays unread.

    A training set that is made small on purpose leaves rows over; they make a sharper judge.
    """
    checks.integer("n", n, low=data.n_classes, high=data.n_train - data.n_classes, try_="400")
    train, _, test = splits.split(data.y_train.numpy(), how="stratified", test=n)
    return dataclasses.replace(
        data,
        x_train=data.x_train[train],
        y_train=data.y_train[train],
        groups=None if data.groups is None else data.groups[train],
        provenance=f"{data.provenance}; {n} training rows became test rows",
        _test=(data.x_train[test], data.y_train[test]),
        _readings=[],
    ).subset(len(train))


def half_size(data):
    """The same images at half their height and width: the mean of each 2x2 square of pixels."""
    if data.image_shape is None or data.image_shape[1] % 2 or data.image_shape[2] % 2:
        raise ValueError(f"image_shape={data.image_shape!r} is not allowed: give images of even height and width.")
    shape = (data.image_shape[0], data.image_shape[1] // 2, data.image_shape[2] // 2)
    pool = nn.AvgPool2d(2)
    test = None if data._test is None else (pool(data._test[0]), data._test[1])
    return dataclasses.replace(
        data, x_train=pool(data.x_train), x_val=pool(data.x_val), image_shape=shape, _test=test, _readings=[]
    ).subset(data.n_train)


# --- training, looked at from outside


def chain(x: Tensor, operations: Sequence[tuple[str, float]], seed: int = 0) -> Tensor:
    """Several augmentations one after the other, each with a draw of its own: [("shift", 1.0), ("noise", 0.5)]."""
    for k, (name, strength) in enumerate(operations):
        x = augment.augment(name, x, strength=strength, seed=seed + 7_919 * k)
    return x


def follow(recipes: Sequence[Recipe], data, *, chains=None, test: str = "", every: int = 1):
    """Train runs of one architecture at once and look at them every so many epochs.

    The loop is `training.fit`, as everywhere. Two things differ from `h.train`: with a reason in `test` the test rows
    are read at every look, and runs with equal augmentation draw it together, a whole epoch at a time, so that a step
    costs little more with it than without. `chains` has the operations of each recipe (see `chain`); without it the
    recipe's own.

    Returns (models, table); rows of the table: run (number in `recipes`), seed, epoch, train_accuracy, val_loss,
    val_accuracy and, with a reason, test_accuracy.
    """
    recipes = list(recipes)
    chains = [((r.augment, r.augment_strength),) for r in recipes] if chains is None else [tuple(c) for c in chains]
    if not recipes or len(chains) != len(recipes):
        raise ValueError(f"{len(chains)} chains for {len(recipes)} recipes; give at least one recipe and a chain each.")
    first = recipes[0]
    for r in recipes:
        apart = [k for k in STACKED_TOGETHER if getattr(r, k) != getattr(first, k)]
        apart += ["dropout"] * ((r.dropout > 0) != (first.dropout > 0)) + ["patience"] * (r.patience is not None)
        if apart:
            raise ValueError(
                f"{apart[0]}={getattr(r, apart[0])!r} is not allowed here: runs that are followed together have one "
                "architecture, one training set and no patience; call follow for each, and see replay."
            )
    data = training.prepared(first, data)
    judged = data.open_test(test) if test else None
    members, rows = [], []
    for a in range(0, len(recipes), stacks.STACK):
        part = slice(a, a + stacks.STACK)
        stack, seen = _follow_stack(recipes[part], chains[part], data, judged, every)
        members += [stack.unstack(i).eval() for i in range(stack.n)]
        rows += [{**row, "run": row["run"] + a} for row in seen]
    return members, pd.DataFrame(rows)


def _follow_stack(recipes, chains, data, judged, every):
    first = recipes[0]
    stack = stacks.Stack([training.fresh_model(r, data) for r in recipes])
    optimizer, each = stacks.StackedOptimizer(stack, recipes), vmap(losses.make(first))
    per_epoch = training.steps_per_epoch(first, data.n_train)
    alike = [list(g) for _, g in itertools.groupby(range(len(recipes)), key=chains.__getitem__)]
    rows, right = [], []

    def loss(logits, y):
        return each(logits, y.expand(logits.shape[:2]))

    def batches():
        for epoch in range(first.epochs):
            order = [training.batch_order(r.seed, data.n_train, first.batch_size, epoch) for r in recipes]
            order = torch.stack(order)  # (models, steps, batch)
            x = data.x_train[order]
            parts = [x[g[0] : g[-1] + 1] for g in alike]
            parts = [chain(p.flatten(0, 2), chains[g[0]], epoch).view_as(p) for p, g in zip(parts, alike, strict=True)]
            yield from zip(torch.cat(parts).transpose(0, 1), data.y_train[order].transpose(0, 1), strict=True)

    loop = training.fit(stack, loss, optimizer, batches(), lambda step: optimizer.set_lr(step, per_epoch))
    for step, (_, accuracy) in enumerate(loop, 1):
        right.append(accuracy)
        epoch, left = divmod(step, per_epoch)
        if left == 0 and (epoch % every == 0 or epoch == first.epochs):
            scores = {"train_accuracy": torch.stack(right[-per_epoch:]).mean(0)}
            scores["val_loss"], scores["val_accuracy"] = training.evaluate(stack, loss, data.x_val, data.y_val)
            if judged is not None:
                scores["test_accuracy"] = training.evaluate(stack, loss, *judged)[1]
            values = {k: v.tolist() for k, v in scores.items()}
            for i, r in enumerate(recipes):
                rows.append({"run": i, "seed": r.seed, "epoch": epoch, **{k: v[i] for k, v in values.items()}})
    return stack, rows


def study(settings: dict[str, Recipe], data, *, seeds: int, chains: dict | None = None, **how):
    """`follow` for named recipes, `seeds` runs each, in one table with a column "setting"; also {name: models}.

    `chains` gives operations to some of the names, see `chain`; the others use what their recipe says.
    """
    checks.known("setting", chains or {}, settings)
    pairs = [(name, r.but(seed=s)) for name, r in settings.items() for s in range(seeds)]
    operations = [(chains or {}).get(name, ((r.augment, r.augment_strength),)) for name, r in pairs]
    members, table = follow([r for _, r in pairs], data, chains=operations, **how)
    models = {name: members[k * seeds : (k + 1) * seeds] for k, name in enumerate(settings)}
    return models, table.assign(setting=[pairs[i][0] for i in table["run"]])


def paired(table: pd.DataFrame, column: str, score: str = "test_accuracy") -> pd.DataFrame:
    """One row per seed, one column for each value of `column`: the form in which arms are subtracted."""
    return table.pivot(index="seed", columns=column, values=score)


# --- when to stop


def replay(table: pd.DataFrame, patiences: Sequence[int]) -> pd.DataFrame:
    """What each patience would have made of runs that were trained to the end, by `training.EarlyStop` itself.

    `table` needs run, seed, epoch, val_loss, test_accuracy, one row per epoch. Rows: run, seed, patience, keep ("best"
    or "last" weights), stopped (epoch at which training ends), epoch (of the weights kept), test_accuracy.
    """
    checks.known("column", ["run", "seed", "epoch", "val_loss", "test_accuracy"], table.columns)
    rows = []
    for (run, seed), curve in table.groupby(["run", "seed"]):
        for patience in patiences:
            rule = training.EarlyStop(patience)
            for row in curve.sort_values("epoch").to_dict("records"):
                if rule.see(row, lambda: None):
                    break
            about = {"run": run, "seed": seed, "patience": patience, "stopped": row["epoch"]}
            for keep, kept in (("best", rule.row), ("last", row)):
                rows.append({**about, "keep": keep, "epoch": kept["epoch"], "test_accuracy": kept["test_accuracy"]})
    return pd.DataFrame(rows)


def checkpoints(table: pd.DataFrame) -> pd.DataFrame:
    """The weights saved whenever validation accuracy improves (a tie does not count), beside the last ones.

    Index seed; columns: epoch, best and last (test accuracy), optimism (validation minus test accuracy of the best).
    """
    rows = []
    for seed, curve in table.groupby("seed"):
        best = curve.loc[curve["val_accuracy"].idxmax()]  # the first of equals
        last = curve.loc[curve["epoch"].idxmax(), "test_accuracy"]
        told = {"epoch": int(best["epoch"]), "best": best["test_accuracy"], "last": last}
        rows.append({"seed": seed, **told, "optimism": best["val_accuracy"] - best["test_accuracy"]})
    return pd.DataFrame(rows).set_index("seed")


def first_epoch(frame: pd.DataFrame, by: Sequence[str], target: float, score: str = "val_accuracy") -> pd.Series:
    """The first epoch at which a score reaches `target`, for each value of `by`; infinite where it never does."""
    reached = frame[frame[score] >= target].groupby(list(by))["epoch"].min()
    return reached.reindex(frame.groupby(list(by)).size().index).fillna(math.inf)


def peak_epoch(frame: pd.DataFrame, by: Sequence[str], score: str = "val_accuracy", smooth: int = 3) -> pd.Series:
    """The epoch at which a score, averaged over `smooth` neighbouring epochs, is highest, for each value of `by`."""

    def peak(rows):
        rows = rows.sort_values("epoch")
        return rows["epoch"].iloc[int(rows[score].rolling(smooth, center=True, min_periods=1).mean().argmax())]

    return frame.groupby(list(by)).apply(peak, include_groups=False)


def epoch_seconds(recipe: Recipe, data, epochs: Sequence[int], *, repeats: int = 8) -> pd.DataFrame:
    """Processor time of whole trainings of different length, in turn (R7). Rows: repeat, epochs, seconds, steps."""
    rows = []
    for repeat in range(-1, repeats):  # the first round warms up
        for e in epochs:
            started = time.process_time()
            _, curve = training.train_one(recipe.but(epochs=e), data)
            spent = time.process_time() - started
            rows.append({"repeat": repeat, "epochs": e, "seconds": spent, "steps": curve[-1]["step"]})
    table = pd.DataFrame(rows)
    return table[table["repeat"] >= 0].reset_index(drop=True)


# --- what augmentation protects from


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of rows of which the model names the right class, in evaluation mode."""
    return (model.eval()(x).argmax(-1) == y).float().mean().item()


def corruption_matrix(models: dict[str, list], data, corruptions: Sequence[str], *, strength: float, test: str):
    """Each model on the test images as they are and changed by each corruption, the same change for all models.

    Rows: trained_with, tested_on ("none" = unchanged), seed (place in the list), test_accuracy.
    """
    x, y = data.open_test(test)
    changed = {"none": x} | {
        c: augment.augment(c, x, strength=strength, seed=streams.seed(1)) for c in corruptions if c != "none"
    }
    return pd.DataFrame(
        {"trained_with": name, "tested_on": c, "seed": seed, "test_accuracy": accuracy(model, x_, y)}
        for name, members in models.items()
        for seed, model in enumerate(members)
        for c, x_ in changed.items()
    )


def dimmed(x: Tensor, factor: float) -> Tensor:
    """Images in `factor` times the light: every pixel's distance from black, the smallest value of x, is multiplied."""
    checks.number("factor", factor, low=0, try_="0.5")
    return x.min() + (x - x.min()) * factor


def light_test(models: dict[str, list], data, factors: Sequence[float], *, test: str) -> pd.DataFrame:
    """Test accuracy in less light. Rows: trained_with, light (the factor), seed, test_accuracy."""
    x, y = data.open_test(test)
    return pd.DataFrame(
        {"trained_with": name, "light": f, "seed": seed, "test_accuracy": accuracy(model, dimmed(x, f), y)}
        for name, members in models.items()
        for seed, model in enumerate(members)
        for f in factors
    )


def distinct_views(data, name: str, *, epochs: int, n: int = 50) -> int:
    """How many different pictures a network has seen after some epochs of the first n training images."""
    views = [augment.augment(name, data.x_train[:n], seed=e) for e in range(epochs)]
    return len(torch.unique(torch.cat(views).flatten(1), dim=0))


def beside_none(matrix: pd.DataFrame) -> pd.DataFrame:
    """A corruption matrix in the form of the explorer: each augmentation's rows, and beside them those of "none".

    Rows: augmentation, network ("with it", "without"), tested_on, seed, test_accuracy.
    """
    none = matrix[matrix["trained_with"] == "none"]
    parts = []
    for name, rows in matrix.groupby("trained_with", sort=False):
        if name != "none":
            parts.append(rows.assign(augmentation=name, network="with it"))
            parts.append(none.assign(augmentation=name, network="without"))
    return pd.concat(parts, ignore_index=True).drop(columns="trained_with")


def gallery(data, names: Sequence[str], *, label: str, strength: float = 1.0) -> Tensor:
    """The first training image of a class, as it is and changed by each augmentation: (1 + names, h, w)."""
    checks.one_of("label", label, data.classes)
    x = data.x_train[data.y_train == data.classes.index(label)][:1]
    return torch.cat([x] + [augment.augment(name, x, strength=strength, seed=streams.seed(3)) for name in names])[:, 0]


# --- six strategies in two regimes


def by_folds(base: Recipe, data, field: str, values: Sequence, *, k: int = 5) -> pd.Series:
    """Cross-validated accuracy for each value of a field: k models, each judged by the fold it did not see.

    The folds are parts of the training rows with the labels that the recipe gives them, wrong ones included.
    """
    data = training.prepared(base, data)
    clean = base.but(label_noise=0.0, n_train=None)
    scores = []
    for train, held_out in splits.folds(data.y_train.numpy(), how="stratified", k=k):
        fold = dataclasses.replace(
            data, x_train=data.x_train[train], y_train=data.y_train[train], groups=None,
            x_val=data.x_train[held_out], y_val=data.y_train[held_out],
        )  # fmt: skip
        _, table = follow(clean.vary(**{field: list(values)}), fold, every=base.epochs)
        scores.append(table.sort_values("run")["val_accuracy"].to_numpy())
    return pd.Series(np.mean(scores, 0), index=list(values))


@torch.no_grad()
def ensemble_accuracy(members: Sequence[nn.Module], x: Tensor, y: Tensor) -> float:
    """Accuracy of the mean of the members' probabilities."""
    mean = torch.stack([m.eval()(x).softmax(-1) for m in members]).mean(0)
    return (mean.argmax(-1) == y).float().mean().item()


def six_strategies(base: Recipe, data, *, seeds: int, strength: dict, members: int = 5, patience: int = 5, test: str):
    """Test accuracy of `base` without and with each of the sources' strategies, paired by seed.

    `strength` has augment, dropout, l2, l1 and the list l2_grid from which cross-validation chooses. The ensemble of
    seed s is made of runs that no other ensemble has; it is paired with the mean of its own members.
    Returns (table, chosen): rows strategy, seed, without, with_it; the weight decay that cross-validation chose.
    """
    checks.known("strength", strength, ("augment", "dropout", "l2", "l1", "l2_grid"))
    scored = by_folds(base, data, "weight_decay", strength["l2_grid"], k=3)
    chosen = scored.idxmax()
    plain, curves = follow([base.but(seed=s) for s in range(seeds)], data, test=test)
    others, ends = follow([base.but(seed=s) for s in range(seeds, seeds * members)], data, test=test, every=base.epochs)
    plain, curves = plain + others, pd.concat([curves, ends])
    x, y = training.prepared(base, data).open_test(test)
    last = curves[curves["epoch"] == base.epochs].set_index("seed")["test_accuracy"]
    rows = []
    stopped = replay(curves[curves["seed"] < seeds], [patience])
    best = stopped[stopped["keep"] == "best"].set_index("seed")["test_accuracy"]
    changes = {
        "augmentation": {"augment": strength["augment"]},
        "dropout": {"dropout": strength["dropout"]},
        "L2 penalty": {"weight_decay": strength["l2"]},
        "L1 penalty": {"l1": strength["l1"]},
        "cross-validation": {"weight_decay": chosen},
    }
    for name, score in _changed(base, data, changes, seeds, test).items():
        rows += [_row(name, s, last[s], v) for s, v in enumerate(score)]
    rows += [_row("early stopping", s, last[s], best[s]) for s in range(seeds)]
    for s in range(seeds):
        group = range(s, seeds * members, seeds)
        together = ensemble_accuracy([plain[i] for i in group], x, y)
        rows.append(_row("ensemble", s, np.mean([last[i] for i in group]), together))
    return pd.DataFrame(rows), chosen


def _changed(base, data, changes, seeds, test) -> dict[str, np.ndarray]:
    """Test accuracies of `base` with each change of fields; dropout builds another network, so it is trained apart."""
    apart = [n for n, change in changes.items() if change.get("dropout", 0) > 0]
    scores = {}
    for names in (apart, [n for n in changes if n not in apart]):
        recipes = {n: base.but(**changes[n]) for n in names}
        if recipes:
            _, table = study(recipes, data, seeds=seeds, test=test, every=base.epochs)
            wide = paired(table, "setting")
            scores |= {n: wide[n].to_numpy() for n in names}
    return {n: scores[n] for n in changes}


def _row(strategy, seed, without, with_it):
    return {"strategy": strategy, "seed": seed, "without": without, "with_it": with_it, "gain": with_it - without}


# --- capacity


def random_features(data, widths: Sequence[int], *, noises: Sequence[float], ridges: Sequence[float], seeds: int):
    """A network with one hidden ReLU layer that stays random; the output weights are solved for, not trained.

    Least squares on one-hot labels; ridge 0 takes the smallest solution where there are many (Belkin et al. 2019).
    Rows: width, label_noise, ridge, seed, train_accuracy, val_accuracy.
    """
    x, held = (v.flatten(1).double() for v in (data.x_train, data.x_val))
    labels = {q: data.with_label_noise(q).y_train for q in noises}
    rows = []
    for width, seed in itertools.product(widths, range(seeds)):
        generator = torch.Generator().manual_seed(streams.seed(seed))
        weight = torch.randn(x.shape[1], width, generator=generator, dtype=torch.float64) / x.shape[1] ** 0.5
        f, g = torch.relu(x @ weight), torch.relu(held @ weight)
        u, s, v = torch.linalg.svd(f, full_matrices=False)
        for q, ridge in itertools.product(noises, ridges):
            target = nn.functional.one_hot(labels[q], data.n_classes).double()
            inverse = torch.where(s > 1e-9 * s[0], s / (s.square() + ridge * len(x)), 0.0)
            out = v.T @ (inverse[:, None] * (u.T @ target))
            scores = [((a @ out).argmax(1) == b).double().mean().item() for a, b in ((f, labels[q]), (g, data.y_val))]
            about = {"width": width, "label_noise": q, "ridge": ridge, "seed": seed}
            rows.append(about | dict(zip(("train_accuracy", "val_accuracy"), scores, strict=True)))
    return pd.DataFrame(rows)


def families(data, *, n: int, seeds: int) -> pd.DataFrame:
    """Eight kinds of model of scikit-learn, each on `seeds` draws of n training rows.

    Rows: model, seed, train_accuracy, val_accuracy, gap (the first minus the second).
    """
    from sklearn import ensemble, linear_model, naive_bayes, neighbors, svm, tree

    kinds = {
        "1 nearest neighbour": lambda s: neighbors.KNeighborsClassifier(1),
        "15 nearest neighbours": lambda s: neighbors.KNeighborsClassifier(15),
        "random forest": lambda s: ensemble.RandomForestClassifier(40, random_state=streams.seed(s)),
        "full tree": lambda s: tree.DecisionTreeClassifier(random_state=streams.seed(s)),
        "tree of depth 3": lambda s: tree.DecisionTreeClassifier(max_depth=3, random_state=streams.seed(s)),
        "naive Bayes": lambda s: naive_bayes.GaussianNB(var_smoothing=1e-2),
        "support vectors": lambda s: svm.SVC(),
        "ridge": lambda s: linear_model.RidgeClassifier(),
    }
    rows = []
    for seed in range(seeds):
        part = data.subset(n, seed=seed)
        (x, y), (a, b) = ((u.flatten(1).numpy(), v.numpy()) for u, v in
                          ((part.x_train, part.y_train), (part.x_val, part.y_val)))  # fmt: skip
        for name, make in kinds.items():
            model = make(seed).fit(x, y)
            train, val = float(model.score(x, y)), float(model.score(a, b))
            about = {"model": name, "seed": seed, "train_accuracy": train, "val_accuracy": val}
            rows.append(about | {"gap": train - val})
    return pd.DataFrame(rows)


# --- what it costs


def costs(settings: dict[str, Recipe], data, *, repeats: int = 20, warm_up: int = 5, balanced=()) -> pd.DataFrame:
    """Processor time and memory of one training step of each setting, in turn (R7).

    Memory is what autograd keeps from the forward to the backward pass, in bytes, weights included. The settings named
    in `balanced` draw their batches with the same number of rows of every class. Rows: setting, repeat, seconds, bytes.
    """
    runs = {}
    for name, recipe in settings.items():
        part = training.prepared(recipe, data)
        model = training.fresh_model(recipe, part)
        runs[name] = (recipe, part, model, torch.optim.SGD(model.parameters(), lr=0.01), losses.make(recipe))
    rows = []
    for repeat in range(-warm_up, repeats):
        for name, (recipe, part, model, optimizer, loss) in runs.items():
            kept, started = {}, time.process_time()
            if name in balanced:
                share = 1 / torch.bincount(part.y_train, minlength=part.n_classes)[part.y_train]
                i = torch.multinomial(share, recipe.batch_size, replacement=True)
            else:
                i = torch.randperm(part.n_train)[: recipe.batch_size]
            x = training.augmented(recipe, part.x_train[i], repeat + warm_up)

            def keep(t, kept=kept):
                kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
                return t

            with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
                value = loss(model.train()(x), part.y_train[i])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            spent = time.process_time() - started
            rows.append({"setting": name, "repeat": repeat, "seconds": spent, "bytes": sum(kept.values())})
    table = pd.DataFrame(rows)
    return table[table["repeat"] >= 0].reset_index(drop=True)


# --- evidence


def gains(sentence: str, values: Iterable[float], *, margin: float = 0.005) -> Evidence:
    """Evidence that paired differences gain at least `margin`, one-sided.

    Holds as in `claims.above`. Fails when the 95 % interval excludes a gain as large as the margin, loss or not.
    """
    values = list(values)
    found, i = claims.above(f"{sentence}, points", [100 * v for v in values], margin=100 * margin), Interval.of(values)
    if found.holds is None and i.high < margin:
        return dataclasses.replace(found, holds=False, p=None, outcome="no gain")
    return found


def no_loss(sentence: str, values: Iterable[float], *, margin: float) -> Evidence:
    """Evidence that paired differences lose less than `margin` (one-sided R2): the 95 % interval lies above -margin.

    Fails when the mean loss is at least the margin and the interval excludes zero.
    """
    values = list(values)
    i, told = Interval.of(values), claims.above(f"{sentence}, points", [100 * v for v in values]).sentence
    if i.low >= -margin:
        return Evidence(True, told, i.n, None, "no loss")
    holds = False if i.high < 0 and i.mean <= -margin else None
    return Evidence(holds, told, i.n, i.p, "hurts" if holds is False else "undecided")


def power(rows: pd.DataFrame) -> float:
    """The exponent b of seconds = a · epochs^b, by least squares on the logarithms: 1 = in proportion."""
    return float(np.polyfit(np.log(rows["epochs"]), np.log(rows["seconds"]), 1)[0])


def gains_over(wide: pd.DataFrame, without: str, names: dict, told: str, **how) -> dict[str, Evidence]:
    """`gains` of some columns of `paired` over the column `without`: {part: column} gives {part: Evidence}."""
    return {
        part: gains(f"{told}, {column} minus {without}", wide[column] - wide[without], **how)
        for part, column in names.items()
    }


def signs(tables: dict[str, pd.DataFrame], *, margin: float) -> pd.DataFrame:
    """A row per strategy, a column per regime: + (gains at least the margin), 0, - or ?, with the mean in points."""
    sign = {"helps": "+", "hurts": "−", "no detectable effect": "0", "undecided": "?"}

    def cell(values):
        i = Interval.of(values)
        return f"{sign[i.outcome(margin)]} ({100 * i.mean:+.1f})"

    names = list(dict.fromkeys(next(iter(tables.values()))["strategy"]))
    return pd.DataFrame(
        {regime: [cell(t.loc[t["strategy"] == name, "gain"]) for name in names] for regime, t in tables.items()},
        index=pd.Index(names, name="strategy"),
    )
