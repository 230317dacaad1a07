"""Measurements of the chapter on data splits: tables over many divisions of one small world.

The world is scikit-learn's 1,797 handwritten digits. A sample of n rows plays the data that you have; the rows left
over play the future. Every function returns a tidy table, a row per draw.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pandas as pd
import torch
from scipy import stats
from sklearn.datasets import load_breast_cancer, load_digits, load_wine

from helpers import blas, glyphs, losses, splits, stacks, streams, training
from helpers import data as _data


@functools.lru_cache(maxsize=1)
def world() -> tuple[np.ndarray, np.ndarray]:
    """All 1,797 digits in file order: pixels (n, 64) in 0..1 and labels (n,) 0..9 (Alpaydin and Kaynak 1998)."""
    X, y = load_digits(return_X_y=True)
    return X / 16, y


def fit_linear(X, y, classes: int = 10, ridge: float = 1.0):
    """Least squares on ±1 targets with an L2 penalty: (weights (d, classes), offset). scikit-learn's RidgeClassifier.

    It takes a millisecond, which is why this chapter can afford thousands of splits.
    """
    targets = np.where(y[:, None] == np.arange(classes), 1.0, -1.0)
    x0, t0 = X.mean(0), targets.mean(0)
    centred = X - x0
    W = np.linalg.solve(centred.T @ centred + ridge * np.eye(X.shape[1]), centred.T @ (targets - t0))
    return W, t0 - x0 @ W


def score(model, X, y) -> float:
    """Accuracy (a fraction) of a linear model on these rows."""
    return float(((X @ model[0] + model[1]).argmax(1) == y).mean())


def recalls(model, X, y, classes: int = 10) -> np.ndarray:
    """Share of right answers within each class: (classes,)."""
    hits = (X @ model[0] + model[1]).argmax(1) == y
    return np.bincount(y, weights=hits, minlength=classes) / np.bincount(y, minlength=classes)


def nearest(X, y, Z) -> np.ndarray:
    """The label of the nearest row of X for each row of Z: 1-nearest-neighbour."""
    return y[((X**2).sum(1) - 2 * Z @ X.T).argmin(1)]


def tv(a, b, classes: int = 10) -> float:
    """Total variation distance of two label samples; `helpers.label_distance` without its checks."""
    p, q = (np.bincount(v, minlength=classes) / len(v) for v in (a, b))
    return float(np.abs(p - q).sum() / 2)


# ---- what one split does -----------------------------------------------------------------------------------------


def one_draw(n: int, how: str, seed: int, test: float = 0.2) -> dict:
    """Draw n rows of the world, split them, train on one part: what the test part says against the truth.

    truth : accuracy of that same model on all rows outside the sample. error : (test score - truth), in points.
    same_mix : the same with the truth re-weighted to the class shares of the test part.
    A draw that cannot be stratified gives possible = False and no scores.
    """
    X, y = world()
    order = np.random.default_rng([10, n, streams.seed(seed)]).permutation(len(y))
    own, rest = order[:n], order[n:]
    row = {"n": n, "how": how, "draw": seed, "possible": True}
    try:
        train, _, held = (own[part] for part in splits.split(y[own], how=how, test=test, seed=streams.seed(seed)))
    except ValueError:
        return row | {"possible": False}
    model = fit_linear(X[train], y[train])
    measured, truth = score(model, X[held], y[held]), score(model, X[rest], y[rest])
    row |= {"measured": measured, "truth": truth, "error": 100 * (measured - truth)}
    row["same_mix"] = 100 * (
        measured - recalls(model, X[rest], y[rest]) @ np.bincount(y[held], minlength=10) / len(held)
    )
    row["missing"] = len(np.setdiff1d(y[own], y[held]))  # classes that the data have and the test part lacks
    row["label_distance"] = tv(y[train], y[held])
    row["bound"] = 5 * (1 / len(train) + 1 / len(held))  # each class off by less than one row in each part
    row["feature_distance"] = float(np.linalg.norm(X[train].mean(0) - X[held].mean(0)))
    return row


def many_draws(sizes, draws: int, ways=("random", "stratified")) -> pd.DataFrame:
    """`one_draw` for every size, way and draw. Both ways divide the same sample, so they can be paired."""
    return pd.DataFrame([one_draw(n, how, s) for n in sizes for s in range(draws) for how in ways])


def histogram(table, value: str, by: list[str], *, width: float = 2, limit: float = 30) -> pd.DataFrame:
    """Share of draws (%) in each bin of `value` for each group of `by`; the bins are centred on multiples of width.

    Values beyond ±limit are counted in the outermost bins.
    """
    centres = np.arange(-limit, limit + width / 2, width)
    rows = []
    for key, group in table.dropna(subset=[value]).groupby(by, sort=False):
        at = np.clip(np.round((group[value].to_numpy() + limit) / width).astype(int), 0, len(centres) - 1)
        shares = 100 * np.bincount(at, minlength=len(centres)) / len(group)
        for centre, share in zip(centres, shares, strict=True):
            rows.append({**dict(zip(by, key, strict=True)), value: centre, "share": share})
    return pd.DataFrame(rows)


def paired(table, value: str, by: str, a, b, index=("draw",)) -> pd.Series:
    """value at by=a minus value at by=b, row by row of the same draw; draws without both are left out."""
    wide = table.pivot_table(index=list(index), columns=by, values=value)
    return (wide[a] - wide[b]).dropna()


def slopes(table, value: str) -> np.ndarray:
    """For each draw the slope of log(value) against log(n): -0.5 is the square-root law of sampling error."""
    wide = table.pivot(index="draw", columns="n", values=value).dropna()
    wide = wide[(wide > 0).all(axis=1)]
    return np.polyfit(np.log(wide.columns.to_numpy(float)), np.log(wide.to_numpy()).T, 1)[0]


def closeness(draws: int, blocks: int = 20, n: int = 150) -> np.ndarray:
    """Spearman's rank correlation, in each block of random splits, between label distance and true accuracy."""
    X, y = world()
    rows = []
    for seed in range(draws):
        order = np.random.default_rng([11, streams.seed(seed)]).permutation(len(y))
        held, train, rest = np.split(order, [n // 5, n])
        rows.append((tv(y[train], y[held]), score(fit_linear(X[train], y[train]), X[rest], y[rest])))
    return np.array([stats.spearmanr(*np.array(block).T)[0] for block in np.array_split(rows, blocks)])


def rare_class(counts, draws: int, others: int = 300) -> pd.DataFrame:
    """Class 9 cut to `count` rows beside `others` rows of the other digits, split both ways (test 20 %).

    rows in test and training, missed : the test part has no 9; recall : share of 9s found among those never used.
    """
    X, y = world()
    rows = []
    for count in counts:
        for seed in range(draws):
            order = np.random.default_rng([12, count, streams.seed(seed)]).permutation(len(y))
            nines, rest = order[y[order] == 9], order[y[order] != 9]
            own = np.concatenate([nines[:count], rest[:others]])
            for how in ("random", "stratified"):
                train, _, held = (own[p] for p in splits.split(y[own], how=how, test=0.2, seed=streams.seed(seed)))
                found = score(fit_linear(X[train], y[train]), X[nines[count:]], y[nines[count:]])
                row = {"rare_rows": count, "draw": seed, "how": how, "recall": found}
                row |= {"in_test": int((y[held] == 9).sum()), "in_train": int((y[train] == 9).sum())}
                rows.append(row | {"missed": float(row["in_test"] == 0), "n_train": len(train)})
    return pd.DataFrame(rows)


def class_counts(test: float = 0.2) -> pd.DataFrame:
    """Rows of each class that scikit-learn's stratified split puts into the test part, beside three formulas.

    equal_number : the same number from each class. source_formula : r = n/M·p with p = n/M.
    proportional : f·n_c, Cochran's (1977) proportional allocation.
    """
    rows = []
    for name, load in {"digits": load_digits, "breast_cancer": load_breast_cancer, "wine": load_wine}.items():
        y = load().target
        held, n = y[splits.split(y, how="stratified", test=test).test], np.bincount(y)
        for c, size in enumerate(n):
            row = {"data": name, "class": c, "rows": size, "drawn": int((held == c).sum())}
            row |= {"equal_number": len(held) / len(n), "source_formula": (size / len(y)) ** 2}
            rows.append(row | {"proportional": test * size})
    return pd.DataFrame(rows)


# ---- choosing, and estimating ------------------------------------------------------------------------------------


def race(seed: int, candidates: int) -> np.ndarray:
    """Train `candidates` models on 300 rows, each on its own 24 random pixels: hits (candidates, the other rows)."""
    X, y = world()
    rng = np.random.default_rng([13, streams.seed(seed)])
    order = rng.permutation(len(y))
    train, rest = order[:300], order[300:]
    pixels = [rng.choice(64, 24, replace=False) for _ in range(candidates)]
    models = [fit_linear(X[np.ix_(train, p)], y[train]) for p in pixels]
    return np.stack([(X[rest][:, p] @ W + b).argmax(1) == y[rest] for p, (W, b) in zip(pixels, models, strict=True)])


def winners(draws: int, candidates=(1, 2, 5, 10, 20, 50), sizes=(30, 60, 120, 240)) -> pd.DataFrame:
    """Choose the best of m models by test rows, or by as many validation rows; report its score on the test rows.

    reported : the score a paper would print; fresh : the winner's accuracy on 900 rows that nobody looked at.
    optimism : reported - fresh, in points (Cawley and Talbot 2010).
    """
    rows = []
    for seed in range(draws):
        hits = race(seed, max(candidates))
        fresh = hits[:, -900:].mean(1)
        for t in sizes:
            test, validation = hits[:, :t].mean(1), hits[:, t : 2 * t].mean(1)
            for m in candidates:
                for name, seen in {"the test set": test, "a validation set": validation}.items():
                    best = seen[:m].argmax()
                    row = {"draw": seed, "test_rows": t, "candidates": m, "chosen_on": name}
                    row |= {"reported_accuracy": test[best], "fresh_accuracy": fresh[best]}
                    rows.append(row | {"optimism": 100 * (test[best] - fresh[best])})
    return pd.DataFrame(rows)


def averaged(X, y, pairs) -> float:
    """Mean test score over (train, test) pairs: the number that cross-validation reports (Stone 1974)."""
    return float(np.mean([score(fit_linear(X[train], y[train]), X[test], y[test]) for train, test in pairs]))


def estimators(sizes, draws: int) -> pd.DataFrame:
    """Four ways to estimate the accuracy of a model trained on n rows, and what that accuracy is on unused rows.

    error : estimate - truth, in points. refit : the model of all n rows; ninety : the model of a random 90 % of them.
    """
    X, y = world()
    rows = []
    for n in sizes:
        for seed in range(draws):
            rng = np.random.default_rng([14, n, streams.seed(seed)])
            own, rest = np.split(rng.permutation(len(y)), [n])
            A, b = X[own], y[own]
            cuts = [rng.permutation(n) for _ in range(5)]
            halves = [(c[n // 5 :], c[: n // 5]) for c in cuts]
            ways = {"one hold-out": halves[:1], "5 hold-outs": halves}
            ways |= {f"{k}-fold": [tuple(f) for f in splits.folds(n, k=k, seed=streams.seed(seed))] for k in (5, 10)}
            truth, ninety = (score(fit_linear(A[:m], b[:m]), X[rest], y[rest]) for m in (n, round(0.9 * n)))
            for name, pairs in ways.items():
                row = {"n": n, "draw": seed, "scheme": name, "fits": len(pairs), "refit": truth, "ninety": ninety}
                rows.append(row | {"error": 100 * (averaged(A, b, pairs) - truth)})
    return pd.DataFrame(rows)


def drawing_rules(k: int = 4) -> pd.DataFrame:
    """Every drawing rule under every scheme on 120 rows with 2 classes, 12 groups and a time stamp: legal or not.

    legal : the parts share no row and hold every row ("time" folds never test the oldest block, by design).
    """
    y, groups, times = np.arange(120) % 2, np.repeat(np.arange(12), 10), np.arange(120.0)
    rows = []
    for how in splits.WAYS:
        asked = {"groups": groups if how == "group" else None, "times": times if how == "time" else None, "how": how}
        made = {
            "hold-out": [splits.split(y, test=0.25, **asked)],
            "three-way": [splits.split(y, test=0.25, validation=0.25, **asked)],
            "k-fold": splits.folds(y, k=k, **asked),
            "repeated k-fold": [f for s in range(3) for f in splits.folds(y, k=k, seed=streams.seed(s), **asked)],
        }
        for scheme, parts in made.items():
            each = [np.concatenate(list(p)) for p in parts]
            whole = all(len(r) == 120 or (how == "time" and "fold" in scheme) for r in each)
            disjoint = all(len(np.unique(r)) == len(r) for r in each)
            rows.append({"rule": how, "scheme": scheme, "parts": len(parts), "legal": whole and disjoint})
    return pd.DataFrame(rows)


# ---- rows that belong together -----------------------------------------------------------------------------------


def block_folds(blocks: int = 13, seeds: int = 4) -> pd.DataFrame:
    """Each block of neighbouring digits, tested by a model that never saw the block, and by models of shuffled folds.

    The file keeps no writer's name; that neighbours share a writer is inferred (13 writers wrote these rows).
    """
    X, y = world()

    def hits(train, test, model):
        guess = nearest(X[train], y[train], X[test]) if model == "nearest neighbour" else None
        if guess is None:
            W, b = fit_linear(X[train], y[train])
            guess = (X[test] @ W + b).argmax(1)
        return guess == y[test]

    cut = splits.folds(len(y), how="ordered", k=blocks)
    rows = []
    for model in ("linear", "nearest neighbour"):
        right = {name: np.zeros(len(y)) for name in ("shuffled", "whole blocks")}
        for train, test in cut:
            right["whole blocks"][test] = hits(train, test, model)
        for seed in range(seeds):
            for train, test in splits.folds(len(y), k=blocks, seed=streams.seed(seed)):
                right["shuffled"][test] += hits(train, test, model) / seeds
        for i, fold in enumerate(cut):
            for name, r in right.items():
                rows.append({"model": model, "block": i + 1, "folds": name, "accuracy": r[fold.test].mean()})
    return pd.DataFrame(rows)


def look_alikes(within: int = 69) -> tuple[float, float]:
    """Share of digits whose nearest look-alike of the same class stands within so many rows, and by chance."""
    X, y = world()
    distance = ((X[:, None] - X[None]) ** 2).sum(2) if len(X) < 500 else (X**2).sum(1) - 2 * X @ X.T
    distance = np.where((y[:, None] == y) & ~np.eye(len(y), dtype=bool), distance, np.inf)
    near = np.abs(distance.argmin(1) - np.arange(len(y))) <= within
    chance = [(np.abs(np.flatnonzero(y == c) - i) <= within).sum() - 1 for i, c in enumerate(y)]
    return float(near.mean()), float(np.mean(np.array(chance) / (np.bincount(y)[y] - 1)))


def font_folds(seeds: int, n: int = 1500) -> pd.DataFrame:
    """Glyph images: every font family tested by models that never saw the family, and by models of random folds.

    Each seed draws new images; the fonts stay. Nearest neighbour on 14x14 pixels.
    """
    families = np.array(list(glyphs.FONT_FAMILY.values()))
    rows = []
    for seed in range(seeds):
        images, y, font = glyphs.make(n, seed=streams.seed(2000 + seed))
        X = images.reshape(n, 14, 2, 14, 2).mean((2, 4)).reshape(n, -1) / 255
        family = families[font]
        ways = {"whole families": [(np.flatnonzero(family != f), np.flatnonzero(family == f)) for f in set(family)]}
        ways["random rows"] = splits.folds(n, k=len(ways["whole families"]), seed=streams.seed(seed))
        for name, pairs in ways.items():
            hits = np.zeros(n)
            for train, test in pairs:
                hits[test] = nearest(X[train], y[train], X[test]) == y[test]
            for f in dict.fromkeys(families):
                rows.append({"seed": seed, "family": f, "folds": name, "accuracy": hits[family == f].mean()})
    return pd.DataFrame(rows)


def drifting(n: int, start: float, stop: float, speed: float, rng) -> tuple:
    """A simulated process: two Gaussian clouds in the plane whose line between them turns by `speed` degrees a year."""
    times, y = np.sort(rng.uniform(start, stop, n)), rng.integers(0, 2, n)
    angle = np.deg2rad(speed) * times
    centre = np.where(y == 1, 1.0, -1.0)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return centre + 0.8 * rng.standard_normal((n, 2)), y, times


def drift(seeds: int, speeds=(0, 30, 60, 90, 120), n: int = 400) -> pd.DataFrame:
    """One simulated year, split at random or by time (test 25 %); then three months of use.

    told : accuracy on the test part. used : accuracy in the three months after the year, of a model trained on the
    newest nine months. optimism : told - used, in points.
    """
    rows = []
    for speed in speeds:
        for seed in range(seeds):
            rng = np.random.default_rng([15, streams.seed(seed)])
            X, y, times = drifting(n, 0, 1, speed, rng)
            Z, z, _ = drifting(2000, 1, 1.25, speed, rng)
            newest = times > 0.25
            used = score(fit_linear(X[newest], y[newest], classes=2), Z, z)
            for how in ("random", "time"):
                train, _, test = splits.split(y, how=how, times=times, test=0.25, seed=streams.seed(seed))
                told = score(fit_linear(X[train], y[train], classes=2), X[test], y[test])
                row = {"speed": speed, "seed": seed, "how": how, "told_accuracy": told, "used_accuracy": used}
                rows.append(row | {"optimism": 100 * (told - used)})
    return pd.DataFrame(rows)


def leaks(shares, draws: int, n: int = 300) -> pd.DataFrame:
    """Copy a share of the test rows into training: what the test set says then, and what unused rows say.

    Nearest neighbour, on the real labels and on labels drawn at random, where nothing can be learned.
    """
    X, y = world()
    rows = []
    for kind in ("real labels", "random labels"):
        for seed in range(draws):
            rng = np.random.default_rng([16, streams.seed(seed)])
            labels = y if kind == "real labels" else rng.permutation(y)
            test, train, rest = np.split(rng.permutation(len(y)), [n // 5, n])
            for share in shares:
                seen = np.concatenate([train, test[: round(share * len(test))]])
                told, honest = ((nearest(X[seen], labels[seen], X[p]) == labels[p]).mean() for p in (test, rest))
                row = {"labels": kind, "draw": seed, "leaked": 100 * share, "gap": 100 * (told - honest)}
                rows += [row | {"scored on": "the test set", "accuracy": told}]
                rows += [row | {"scored on": "unused rows", "accuracy": honest}]
    return pd.DataFrame(rows)


# ---- networks ----------------------------------------------------------------------------------------------------


def watched(recipes, datas, parts: dict, order_seeds=None, every: int = 1) -> pd.DataFrame:
    """Train networks of one size, each on its own data (as many rows for all); score each on several parts of its own.

    One stack, so each has what `training.train_one` gives it, up to rounding. parts : {name: [(x, y) of each network]}.
    `order_seeds` set the order of the data apart from the weights. Rows: run (its place), epoch, part, accuracy.
    """
    stack, first = stacks.Stack(list(map(training.fresh_model, recipes, datas))), recipes[0]
    x, y = (torch.stack([getattr(data, name) for data in datas]) for name in ("x_train", "y_train"))
    parts = {name: [torch.stack(values) for values in zip(*pairs, strict=True)] for name, pairs in parts.items()}
    per_epoch, own = training.steps_per_epoch(first, x.shape[1]), torch.arange(len(recipes)).unsqueeze(1)

    def batches():
        for epoch in range(first.epochs):
            seeds = order_seeds or [r.seed for r in recipes]
            orders = [training.batch_order(seed, x.shape[1], first.batch_size, epoch) for seed in seeds]
            for i in torch.stack(orders, 1):
                yield x[own, i], y[own, i]

    rows, optimizer = [], stacks.StackedOptimizer(stack, recipes)
    with blas.one_thread():
        for step, _ in enumerate(training.fit(stack, losses.make(first), optimizer, batches(), lambda step: None), 1):
            if step % (per_epoch * every):
                continue
            for name, (inputs, labels) in parts.items():
                with torch.no_grad():  # in training mode each reads its own inputs; no layer here is another one in it
                    hits = (stack(inputs).argmax(-1) == labels).float().mean(-1)
                rows += [(k, step // per_epoch, name, hit) for k, hit in enumerate(hits.tolist())]
    return pd.DataFrame(rows, columns=["run", "epoch", "part", "accuracy"])


def as_data(*rows, noise: float = 0.0, seed: int = 0) -> _data.Dataset:
    """A Dataset from row numbers of the world (training, validation, fresh); `noise` of the first two parts' labels.

    Training and validation labels are noisy alike, as they would be in life; the fresh ones are clean.
    """
    X, y = world()
    labels, rng = y.copy(), np.random.default_rng([17, streams.seed(seed)])
    own = np.unique(np.concatenate(rows[:2]))
    hit = rng.permutation(own)[: round(noise * len(own))]
    labels[hit] = rng.integers(0, 10, len(hit))
    labels[rows[2]] = y[rows[2]]
    parts = [(X[r].reshape(-1, 1, 8, 8), labels[r]) for r in rows]
    return _data.build("digits", parts, range(10), image_shape=(1, 8, 8))


REGIMES = {
    "too small": dict(width=2, noise=0.0),
    "about right": dict(width=64, noise=0.0),
    "too free": dict(width=256, noise=0.2),
    "too free, all rows": dict(width=256, noise=0.2),
}


def regimes(base, seeds: int) -> pd.DataFrame:
    """Networks in three regimes on 300 training and 100 validation rows, a new split for each seed; curves of 3 parts.

    "too free, all rows" trains on the validation rows too: the same 400 rows without any split.
    """
    _, y = world()
    sizes, tables = {"test": 300, "validation": 100}, []
    divided = [splits.split(y, how="stratified", **sizes, seed=streams.seed(500 + s)) for s in range(seeds)]
    for name, setting in REGIMES.items():
        recipes, datas = base.but(width=setting["width"]).vary(seed=range(seeds)), []
        for seed, (fresh, validation, train) in enumerate(divided):
            known = np.concatenate([train, validation]) if name.endswith("all rows") else train
            # every second fresh row is enough to score on
            datas.append(as_data(known, validation, fresh[::2], noise=setting["noise"], seed=seed))
        parts = {
            "training": [(data.x_train, data.y_train) for data in datas],
            "validation": [(data.x_val, data.y_val) for data in datas],
            "fresh rows": [data.open_test("the fresh rows of this experiment") for data in datas],
        }
        curves = watched(recipes, datas, parts, every=5).rename(columns={"run": "seed"})
        tables.append(curves.assign(regime=name))
    return pd.concat(tables, ignore_index=True)


def diagnose(curves, low: float = 0.8, gap: float = 0.15) -> pd.DataFrame:
    """Name each run's regime from its training and validation curves alone, by one rule; and what stopping would give.

    under-fit: training accuracy ends below `low`. over-fit: training ends more than `gap` above validation.
    stopped : fresh accuracy at the epoch of the best validation accuracy; last : at the last epoch.
    """
    rows = []
    for (regime, seed), run in curves.groupby(["regime", "seed"], sort=False):
        at = run.pivot(index="epoch", columns="part", values="accuracy")
        end = at.iloc[-1]
        over = end["training"] - end["validation"] > gap
        said = "too small" if end["training"] < low else "too free" if over else "about right"
        row = {"regime": regime, "seed": seed, "said": said, "last": end["fresh rows"]}
        row |= {"stopped": at.loc[at["validation"].idxmax(), "fresh rows"], "gap": end["training"] - end["validation"]}
        row["fall"] = at["validation"].max() - end["validation"]
        rows.append(row | {"best_epoch": at["validation"].idxmax()})
    return pd.DataFrame(rows)


def same_weights(a, b) -> bool:
    """Whether two models hold the same weights, bit for bit."""
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def untouched_by_validation(recipe, data, seeds: int) -> int:
    """In how many of `seeds` runs the weights are the same whether validation holds the real labels or nonsense."""
    nonsense, same = dataclasses.replace(data, x_val=-data.x_val, y_val=data.y_val.flip(0)), 0
    for seed in range(seeds):
        same += same_weights(*(training.train_one(recipe.but(seed=seed), d)[0] for d in (data, nonsense)))
    return same


def untouched_by_folds(recipe, data, seeds: int, k: int = 3) -> int:
    """In how many of `seeds` runs the final model has the same weights with and without a cross-validation before."""
    same = 0
    for seed in range(seeds):
        mine = recipe.but(seed=seed)
        plain, _ = training.train_one(mine, data)
        for train, test in splits.folds(data.y_train.numpy(), how="stratified", k=k, seed=streams.seed(seed)):
            part = _data.build("fold", [(data.x_train[r].numpy(), data.y_train[r].numpy()) for r in (train, test)],
                               data.classes, image_shape=data.image_shape)  # fmt: skip
            training.train_one(mine, part)
        same += same_weights(plain, training.train_one(mine, data)[0])
    return same


def sources_of_variance(recipe, seeds: int) -> pd.DataFrame:
    """Vary the split, the first weights or the order of the data, the other two fixed (Bouthillier et al. 2021).

    own : accuracy on the test part of the run's own split; common : accuracy on 600 rows that no split ever touches.
    """
    _, y = world()
    pool, _, common = splits.split(y, how="stratified", test=600, seed=streams.seed(2026))
    names = ("split", "first weights", "order of the data")
    about = [(varied, seed) for varied in names for seed in range(1, seeds + 1)]
    division, weights, orders = ([seed if varied == name else 0 for varied, seed in about] for name in names)
    datas = []
    for seed in division:
        train, _, own = (pool[p] for p in splits.split(y[pool], how="random", test=0.25, seed=streams.seed(seed)))
        datas.append(as_data(train, own, common))
    parts = {
        "own": [(data.x_val, data.y_val) for data in datas],
        "common": [data.open_test("the common rows") for data in datas],
    }
    recipes = [recipe.but(seed=seed) for seed in weights]
    table = watched(recipes, datas, parts, orders, every=recipe.epochs)
    ends = table.pivot(index="run", columns="part", values="accuracy").reset_index(drop=True)
    return pd.DataFrame(about, columns=["varied", "seed"]).join(ends)


def spread(table, value: str) -> pd.DataFrame:
    """Absolute deviations from the median of each source, in points: what Brown and Forsythe's (1974) test compares.

    more : the deviation under the split minus the mean of those under first weights and order.
    """
    wide = 100 * table.pivot(index="seed", columns="varied", values=value)
    wide = (wide - wide.median()).abs()
    return wide.assign(more=wide["split"] - wide[["first weights", "order of the data"]].mean(axis=1))


def learning_recipes(base, sizes, steps: int) -> list:
    """One recipe for each training size, with the same number of update steps: fewer rows, more passes."""
    return [base.but(n_train=n, epochs=max(1, steps * base.batch_size // (n // base.batch_size * base.batch_size)))
            for n in sizes]  # fmt: skip


# ---- how many test rows ------------------------------------------------------------------------------------------


def rows_needed(p: float, half_width: float, level: float = 0.95) -> int:
    """Test rows for an interval of ±half_width around an accuracy p: n = z²·p·(1 - p) / w², rounded up."""
    z = stats.norm.ppf(0.5 + level / 2)
    return int(np.ceil(z**2 * p * (1 - p) / half_width**2))


def outside(p: float, half_width: float, draws: int, seed: int = 0) -> tuple[int, int]:
    """Draw test sets of `rows_needed` rows from a model that is right with probability p: (rows, sets that are off).

    A set is off when its score lies more than `half_width` from p.
    """
    n = rows_needed(p, half_width)
    scores = np.random.default_rng(streams.seed(seed)).binomial(n, p, draws) / n
    return n, int((np.abs(scores - p) > half_width).sum())


def half_widths(accuracies=(0.5, 0.8, 0.9, 0.95, 0.99), levels=(80, 90, 95, 99)) -> pd.DataFrame:
    """Half-width of the interval of an accuracy, in points, by number of test rows, for several confidence levels."""
    n = np.unique(np.round(np.logspace(1, 6, 41)).astype(int))
    rows = []
    for level in levels:
        z = stats.norm.ppf(0.5 + level / 200)
        for p in accuracies:
            w = 100 * z * np.sqrt(p * (1 - p) / n)
            about = {"level": level, "true": f"{100 * p:.0f} %"}
            rows += [{**about, "n_test": a, "w": b} for a, b in zip(n, w, strict=True)]
    return pd.DataFrame(rows)


PUBLISHED = {  # rows for training and for testing, as published
    "MNIST": (60_000, 10_000),
    "Fashion-MNIST": (60_000, 10_000),
    "CIFAR-10": (50_000, 10_000),
    "ImageNet (test = the public validation set)": (1_281_167, 50_000),
    "IMDB reviews": (25_000, 25_000),
}


def part_sizes() -> pd.DataFrame:
    """Training and test rows of this book's sets, read from the loader, and of five published benchmarks."""
    rows = []
    for name in _data.EMBEDDED:
        d = _data.load(name)
        rows.append({"data": name, "train": d.n_train, "test": len(d._test[1])})
    rows += [{"data": name, "train": a, "test": b} for name, (a, b) in PUBLISHED.items()]
    return pd.DataFrame(rows).assign(ratio=lambda t: t["train"] / t["test"])
