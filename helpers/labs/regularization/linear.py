"""Penalties in linear regression, where everything can be solved. Tables in, tables out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.linear_model import ElasticNet, ElasticNetCV, Lasso, LassoCV, Ridge, RidgeCV

from helpers import checks, optim, streams


def diabetes(*, copies: int = 0, noise: float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's diabetes table: x (442, 10 (1 + copies)) standardised, y (442,) with mean 0 and sd 1.

    Each copy repeats all ten columns with normal noise of this sd added, and is standardised again.
    """
    checks.integer("copies", copies, low=0, high=20)
    x, y = load_diabetes(return_X_y=True)
    rng = np.random.default_rng(streams.seed(seed))
    x = (x - x.mean(0)) / x.std(0)
    x = np.hstack([x, *(x + noise * rng.standard_normal(x.shape) for _ in range(copies))])
    return (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()


def paths(x: np.ndarray, y: np.ndarray, strengths: Sequence[float], names: Sequence[str]) -> pd.DataFrame:
    """Coefficients along the strength, by scikit-learn, all for (1/2n)|y - xw|² plus strength times a penalty.

    L2: |w|²/2; L1: |w|_1; elastic net: half of each. Rows: penalty, strength, feature, coefficient.
    """
    rows = []
    for s in strengths:
        fits = {
            "L1 (lasso)": Lasso(alpha=s, fit_intercept=False, tol=1e-8, max_iter=100_000),
            "L2 (ridge)": Ridge(alpha=s * len(y), fit_intercept=False),
            "elastic net": ElasticNet(alpha=s, l1_ratio=0.5, fit_intercept=False, tol=1e-8, max_iter=100_000),
        }
        for penalty, fit in fits.items():
            w = fit.fit(x, y).coef_
            about = {"penalty": penalty, "strength": s}
            rows += [{**about, "feature": f, "coefficient": c + 0.0} for f, c in zip(names, w, strict=True)]  # no -0
    return pd.DataFrame(rows)


def project_l1(w: np.ndarray, radius: float) -> np.ndarray:
    """The nearest point with sum |w| <= radius (Duchi et al. 2008): a soft threshold whose amount is found."""
    if np.abs(w).sum() <= radius:
        return w
    sizes = np.sort(np.abs(w))[::-1]
    excess = (np.cumsum(sizes) - radius) / np.arange(1, len(w) + 1)
    return np.sign(w) * np.maximum(np.abs(w) - excess[sizes > excess][-1], 0)


def project_l2(w: np.ndarray, radius: float) -> np.ndarray:
    """The nearest point with sum w² <= radius."""
    return w * min(1.0, math.sqrt(radius / max((w**2).sum(), 1e-300)))


def constrained(x, y, radius: float, project, *, steps: int = 3000) -> np.ndarray:
    """min (1/2n)|y - xw|² subject to the constraint, by projected gradient descent with Nesterov's look ahead."""
    checks.number("radius", radius, above=0, try_="1.0")
    rate = len(y) / np.linalg.norm(x, 2) ** 2
    w = ahead = np.zeros(x.shape[1])
    for k in range(steps):
        new = project(ahead - rate * x.T @ (x @ ahead - y) / len(y), radius)
        w, ahead = new, new + k / (k + 3) * (new - w)
    return w


def lasso_by_steps(x, y, strength: float, start: np.ndarray, *, steps: int = 1500) -> np.ndarray:
    """The lasso by proximal steps from any start: a gradient step, then `optim.soft_threshold` (Parikh & Boyd 2014)."""
    rate = len(y) / np.linalg.norm(x, 2) ** 2
    w = ahead = np.asarray(start, float)
    for k in range(steps):
        step = torch.from_numpy(ahead - rate * x.T @ (x @ ahead - y) / len(y))
        new = optim.soft_threshold(step, rate * strength).numpy()
        w, ahead = new, new + k / (k + 3) * (new - w)
    return w


def degrees_of_freedom(x: np.ndarray, strengths: Sequence[float]) -> pd.DataFrame:
    """Effective degrees of freedom of ridge: sum of d²/(d² + n strength), and the trace of the matrix that maps y to
    the fitted values, which is what they mean (Hastie et al. 2009, 3.4.1). Rows: strength, df, trace."""
    d = np.linalg.svd(x, compute_uv=False)
    rows = []
    for s in strengths:
        hat = x @ np.linalg.solve(x.T @ x + s * len(x) * np.eye(x.shape[1]), x.T)
        rows.append({"strength": s, "df": (d**2 / (d**2 + s * len(x))).sum(), "trace": np.trace(hat)})
    return pd.DataFrame(rows)


def dropout_regression(x, y, w, p: float) -> dict[str, float]:
    """The squared error of linear regression with dropout on its inputs, averaged over *every* mask, beside the plain
    error plus p/(1-p) times the sum of w² times the mean of x²: a ridge that adapts to each input (Wager et al. 2013).
    """
    checks.number("p", p, low=0, below=1, try_="0.5")
    total = 0.0
    for mask in itertools.product([0, 1], repeat=x.shape[1]):
        kept = np.array(mask)
        chance = np.prod(np.where(kept, 1 - p, p))
        total += chance * np.mean((y - x @ (kept * w / (1 - p))) ** 2)
    plain = np.mean((y - x @ w) ** 2)
    return {"all masks": total, "formula": plain + p / (1 - p) * (w**2 * (x**2).mean(0)).sum(), "plain": plain}


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Jaccard index of the nonzero places of two vectors: shared / in either; 1 where both are empty."""
    either = ((a != 0) | (b != 0)).sum()
    return float(((a != 0) & (b != 0)).sum() / either) if either else 1.0


def look_alikes(n: int, *, copies: int, seed: int, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """n fresh rows from a population made like diabetes: normal columns with its correlations, y by its least-squares
    coefficients plus normal noise of its residuals' sd; then `copies` noisy copies of the columns, standardised."""
    x, y = diabetes()
    w = np.linalg.lstsq(x, y, rcond=None)[0]
    rng = np.random.default_rng(streams.seed(seed))
    new = rng.standard_normal((n, x.shape[1])) @ np.linalg.cholesky(np.corrcoef(x.T)).T
    answers = new @ w + (y - x @ w).std() * rng.standard_normal(n)
    new = np.hstack([new, *(new + noise * rng.standard_normal(new.shape) for _ in range(copies))])
    return new / np.sqrt(np.r_[np.ones(10), np.full(10 * copies, 1 + noise**2)]), answers


def elastic_stability(*, repeats: int, copies: int = 4, l1_ratio: float = 0.1, fresh: bool = True) -> pd.DataFrame:
    """Fit the lasso, the elastic net and ridge to two samples of 221 rows; strength by 3-fold cross-validation in each.

    fresh: both samples are new draws of `look_alikes`, so that repeats are independent; else they are random halves of
    diabetes itself. Rows: repeat, penalty, overlap of the columns chosen in the two samples, distance |w1 - w2| /
    (|w1| + |w2|), r2 on the other sample (mean of both), columns (how many are chosen in the first sample).
    """
    rows, half, settings = [], 221, {"cv": 3, "alphas": 20, "tol": 1e-3, "max_iter": 5000}
    for repeat in range(checks.integer("repeats", repeats, low=1, try_="8")):
        if fresh:
            x, y = look_alikes(2 * half, copies=copies, seed=repeat)
        else:
            x, y = diabetes(copies=copies, seed=repeat)
        order = np.random.default_rng(streams.seed(repeat)).permutation(len(y))
        samples = [(x[i], y[i]) for i in (order[:half], order[half:])]
        for penalty, model in {
            "L1 (lasso)": LassoCV(**settings),
            "elastic net": ElasticNetCV(l1_ratio=l1_ratio, **settings),
            "L2 (ridge)": RidgeCV(alphas=np.geomspace(1, 3e4, 20)),
        }.items():
            a, b = (clone(model).fit(*sample) for sample in samples)
            apart = np.linalg.norm(a.coef_ - b.coef_) / (np.linalg.norm(a.coef_) + np.linalg.norm(b.coef_))
            row = {"repeat": repeat, "penalty": penalty, "overlap": overlap(a.coef_, b.coef_), "distance": apart}
            row |= {"r2": (a.score(*samples[1]) + b.score(*samples[0])) / 2, "columns": int((a.coef_ != 0).sum())}
            rows.append(row)
    return pd.DataFrame(rows)


def elastic_net_by_steps(x, y, strength: float, l1_ratio: float, *, steps: int = 1500) -> np.ndarray:
    """(1/2n)|y - xw|² + strength (l1_ratio |w|_1 + (1 - l1_ratio)/2 |w|²) by proximal steps (Zou & Hastie 2005)."""
    ridge = np.sqrt(len(y) * strength * (1 - l1_ratio)) * np.eye(x.shape[1])  # the L2 part as extra rows
    n, rows = len(y), np.vstack([x, ridge])
    scale = len(rows) / n  # lasso_by_steps divides by its own number of rows
    answers = np.r_[y, np.zeros(x.shape[1])]
    return lasso_by_steps(rows, answers, strength * l1_ratio / scale, np.zeros(x.shape[1]), steps=steps)


def linear_facts(x: np.ndarray, y: np.ndarray, *, strength: float = 0.05, starts: int = 20) -> dict:
    """The exact checks of the chapter, as numbers: largest differences (0 up to rounding) and counts.

    lasso_kkt, ridge_kkt : violation of the optimality conditions of scikit-learn's fits; l1_constraint, l2_constraint :
    penalised fit against the fit constrained to the same sum; starts : between lassos from random starts; elastic :
    scikit-learn against `elastic_net_by_steps`; elastic_l1 : ElasticNet(l1_ratio=1) against Lasso; soft : lasso with
    orthonormal columns against the soft threshold, of `distinct` different nonzero sizes in `soft_zeros` zeros;
    dropout : all masks against the adaptive ridge; sizes : sum of squares of ridge on two halves of the rows;
    free : (threshold, sum of squares) of constrained fits; momentum : ridge by gradient descent with and without it.
    """
    n, d, rng, f = len(y), x.shape[1], np.random.default_rng(0), {}
    tight = {"fit_intercept": False, "tol": 1e-12, "max_iter": 1_000_000}
    lasso, ridge = Lasso(strength, **tight).fit(x, y).coef_, Ridge(n * strength, fit_intercept=False).fit(x, y).coef_
    pull = x.T @ (y - x @ lasso) / n
    on = lasso != 0
    f["lasso_kkt"] = max(np.abs(pull[on] - strength * np.sign(lasso[on])).max(), np.abs(pull).max() - strength)
    f["ridge_kkt"] = np.abs(x.T @ (y - x @ ridge) / n - strength * ridge).max()
    f["l1_constraint"] = np.abs(constrained(x, y, np.abs(lasso).sum(), project_l1) - lasso).max()
    f["l2_constraint"] = np.abs(constrained(x, y, (ridge**2).sum(), project_l2) - ridge).max()
    ends = [lasso_by_steps(x, y, strength, 10 * rng.standard_normal(d)) for _ in range(starts)]
    f["starts"] = max(np.abs(e - lasso).max() for e in ends)
    net = ElasticNet(strength, l1_ratio=0.5, **tight).fit(x, y).coef_
    f["elastic"] = np.abs(elastic_net_by_steps(x, y, strength, 0.5) - net).max()
    f["elastic_l1"] = np.abs(ElasticNet(strength, l1_ratio=1.0, **tight).fit(x, y).coef_ - lasso).max()
    q = np.linalg.qr(x)[0] * math.sqrt(n)  # orthonormal columns: q'q = n
    plain = torch.from_numpy(q.T @ y / n)
    soft = optim.soft_threshold(plain, strength).numpy()
    f["soft"] = np.abs(Lasso(strength, **tight).fit(q, y).coef_ - soft).max()
    f["distinct"], f["soft_zeros"] = len(set(np.abs(soft[soft != 0]).round(12))), int((soft == 0).sum())
    both = [dropout_regression(x, y, w, p) for p in (0.2, 0.5) for w in rng.standard_normal((2, d))]
    f["dropout"] = max(abs(b["all masks"] - b["formula"]) for b in both)
    halves = [Ridge(n / 2 * strength, fit_intercept=False).fit(x[i::2], y[i::2]).coef_ for i in (0, 1)]
    f["sizes"] = [float((w**2).sum()) for w in halves]
    least = (np.linalg.lstsq(x, y, rcond=None)[0] ** 2).sum()
    radii = [share * least for share in (0.25, 0.5, 2.0, 4.0)]
    f["free"] = [(t, float((constrained(x, y, t, project_l2, steps=6000) ** 2).sum())) for t in radii]
    f["momentum"] = max(np.abs(w - ridge).max() for w in (_descend(x, y, strength, mu) for mu in (0.0, 0.9)))
    return f


def _descend(x, y, strength: float, mu: float, *, steps: int = 4000) -> np.ndarray:
    """Ridge regression by `optim.momentum` (mu=0: plain gradient descent) from zero."""
    w, memory = torch.zeros(x.shape[1], dtype=torch.float64), {}
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    for _ in range(steps):
        w = optim.momentum(w, x.T @ (x @ w - y) / len(y) + strength * w, memory, 0.1, mu)
    return w.numpy()
