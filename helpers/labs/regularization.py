"""Chapter 6, regularization: penalties in closed form, what they leave of a network, and dropout taken apart."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.linear_model import ElasticNet, ElasticNetCV, Lasso, LassoCV, Ridge, RidgeCV
from torch import Tensor, nn
from torch.func import vmap
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import checks, engine, losses, models, optim, stacks, training
from helpers.claims import Ledger, above, below, exact
from helpers.recipe import Recipe
from helpers.runs import Runs

# --- penalties in linear regression, where everything can be solved


def diabetes(*, copies: int = 0, noise: float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's diabetes table: x (442, 10 (1 + copies)) standardised, y (442,) with mean 0 and sd 1.

    Each copy repeats all ten columns with normal noise of this sd added, and is standardised again.
    """
    checks.integer("copies", copies, low=0, high=20)
    x, y = load_diabetes(return_X_y=True)
    rng = np.random.default_rng(seed)
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
    rng = np.random.default_rng(seed)
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
        order = np.random.default_rng(repeat).permutation(len(y))
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
    shake = noise * torch.randn(data.x_val.shape, generator=torch.Generator().manual_seed(0))
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
        rows.append({**dataclasses.asdict(recipe), **row})
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


# --- dropout taken apart: when the mask is drawn, where it acts, whether it is rescaled


@dataclass(frozen=True)
class Masks:
    """One way to draw masks. p: share of zeros; every: only each k-th step has a mask; hold: steps that a mask is kept;
    rows: a mask for each example, else one for the whole batch; place: "hidden" or "inputs"; rescale: divide by 1 - p;
    anneal: p falls to 0 in a straight line over the training."""

    p: float = 0.5
    every: int = 1
    hold: int = 1
    rows: bool = True
    place: str = "hidden"
    rescale: bool = True
    anneal: bool = False

    def draw(self, step: int, steps: int, seed: int, widths: Sequence[int], batch: int) -> list[Tensor]:
        """The masks of this step: (batch, width) for each place, the inputs first."""
        generator = torch.Generator().manual_seed((seed * 1_000_003 + step // self.hold) % 2**62)
        p = self.p * (1 - step / steps) if self.anneal else self.p
        masks = []
        for k, width in enumerate(widths):
            u = torch.rand(batch if self.rows else 1, width, generator=generator)
            off = step % self.every or (k == 0) != (self.place == "inputs")
            masks.append(torch.ones(batch, width) if off else ((u >= p) / (1 - p * self.rescale)).expand(batch, width))
        return masks


class Masked(nn.Module):
    """Multiplies by a mask that is set from outside before each training step; in evaluation it changes nothing."""

    def __init__(self, batch: int, width: int):
        super().__init__()
        self.register_buffer("mask", torch.ones(batch, width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask if self.training else x


def with_masks(recipe: Recipe, data) -> nn.Module:
    """The recipe's plain network with a `Masked` before its first layer and after each hidden activation."""
    body = training.fresh_model(recipe, data)
    masked, width = [body[0], Masked(recipe.batch_size, data.n_features)], recipe.width
    for layer in body[1:]:
        masked += [layer, Masked(recipe.batch_size, width)] if isinstance(layer, nn.ReLU) else [layer]
    return nn.Sequential(*masked)


def train_masked(ways: dict[str, Masks], recipe: Recipe, data, *, seeds: int) -> dict[tuple[str, int], nn.Module]:
    """Train the recipe under each way of drawing masks, with paired seeds: same first weights, order and draws.

    The loop is `training.fit`, on a stack. Returns {(way, seed): network in evaluation mode}.
    """
    data, keys = training.prepared(recipe, data), [(way, seed) for way in ways for seed in range(seeds)]
    per_epoch, done = training.steps_per_epoch(recipe, data.n_train), {}
    steps = recipe.epochs * per_epoch
    widths = [data.n_features, *[recipe.width] * recipe.depth]
    for part in (keys[i : i + stacks.STACK] for i in range(0, len(keys), stacks.STACK)):
        stack = stacks.Stack([with_masks(recipe.but(seed=seed), data) for _, seed in part])
        slots = [getattr(stack, name.replace(".", "/")) for name in stack.buffer_names]
        optimizer = optim.make(recipe.optimizer, stack.parameters(), recipe)

        def batches(part=part, slots=slots):
            for step in range(steps):
                epoch, at = divmod(step, per_epoch)
                order = [training.batch_order(s, data.n_train, recipe.batch_size, epoch)[at] for _, s in part]
                drawn = [ways[w].draw(step, steps, s, widths, recipe.batch_size) for w, s in part]
                for slot, masks in zip(slots, zip(*drawn, strict=True), strict=True):
                    slot.copy_(torch.stack(masks))
                i = torch.stack(order)
                yield data.x_train[i], data.y_train[i]

        def lr_at(step, group=optimizer.param_groups[0]):
            group["lr"] = recipe.lr * training.lr_factor_at(recipe, step, per_epoch)

        for _ in training.fit(stack, vmap(losses.make(recipe)), optimizer, batches(), lr_at):
            pass
        done |= {key: stack.unstack(i).eval() for i, key in enumerate(part)}
    return done


def calibration_error(chance: Tensor, labels: Tensor, bins: int = 10) -> float:
    """Expected calibration error: |accuracy - mean confidence| in bins of confidence, weighted by their size
    (Guo et al. 2017). chance (n, classes), rows sum to 1."""
    sure, said = chance.max(-1)
    right, place = (said == labels).float(), (sure * bins).long().clamp(max=bins - 1)
    total = sum(abs((right - sure)[place == b].sum().item()) for b in range(bins))
    return total / len(labels)


@torch.no_grad()
def habits(networks: dict[tuple[str, int], nn.Module], data, *, delete: float = 0.5, draws: int = 5) -> pd.DataFrame:
    """How each network behaves on the validation images of the data that it was trained on, a row for each.

    Columns: accuracy, loss, ece (`calibration_error`), excess (mean confidence minus accuracy), size (sum of squared
    weights), correlation (mean |r| between the hidden units of the first layer that vary), without_hidden and
    without_inputs (accuracy with the share `delete` of hidden units, or of pixels, set to 0; mean over draws).
    """
    x, y, rows = data.x_val.flatten(1), data.y_val, []
    for (way, seed), model in networks.items():
        chance = model(data.x_val).softmax(-1)
        row = {"way": way, "seed": seed, "accuracy": (chance.argmax(-1) == y).float().mean().item()}
        row |= {"loss": -chance.gather(1, y[:, None]).clamp(min=1e-12).log().mean().item()}
        row |= {"ece": calibration_error(chance, y), "excess": chance.max(-1)[0].mean().item() - row["accuracy"]}
        row |= {"size": all_weights(model).square().sum().item()}
        w = models.weight_layers(model)[0]
        units = torch.relu(x @ w.weight.T + w.bias)
        r = torch.corrcoef(units[:, units.std(0) > 1e-6].T)
        row["correlation"] = ((r.abs().sum() - len(r)) / (len(r) * (len(r) - 1))).item()
        for place in ("hidden", "inputs"):
            lost = _masked_mean(model, data, Masks(p=delete, place=place, rescale=False), draws, average=False)
            row[f"without_{place}"] = (lost.argmax(-1) == y).float().mean().item()
        rows.append(row)
    return pd.DataFrame(rows)


@torch.no_grad()
def _masked_mean(model, data, way: Masks, draws: int, *, average: bool) -> Tensor:
    """Class probabilities of a `with_masks` network under `draws` masks: (draws, n, classes), or their mean."""
    layers = [m for m in model if isinstance(m, Masked)]
    n, keep, out = len(data.x_val), [m.mask for m in layers], []
    model.train()
    for k in range(draws):
        masks = way.draw(k, draws, 10_000, [m.mask.shape[-1] for m in layers], n)
        for layer, mask in zip(layers, masks, strict=True):
            layer.mask = mask
        out.append(model(data.x_val).softmax(-1))
    model.eval()
    for layer, mask in zip(layers, keep, strict=True):
        layer.mask = mask
    return torch.stack(out).mean(0) if average else torch.stack(out)


def ways_to_predict(networks: dict[tuple[str, int], nn.Module], data, way: Masks, *, masks: int) -> pd.DataFrame:
    """Accuracy and loss of networks trained with dropout, read in three ways: "all units" (weights scaled, the usual
    way), "one mask", and "mean of masks" (Monte Carlo). Rows: seed, reading, accuracy, loss."""
    rows, y = [], data.y_val
    for (_, seed), model in networks.items():
        one = _masked_mean(model, data, way, 1, average=True)
        many = _masked_mean(model, data, way, masks, average=True)
        for name, chance in (
            ("all units", model(data.x_val).detach().softmax(-1)),
            ("one mask", one),
            ("mean of masks", many),
        ):
            loss = -chance.gather(1, y[:, None]).clamp(min=1e-12).log().mean().item()
            accuracy = (chance.argmax(-1) == y).float().mean().item()
            rows.append({"seed": seed, "reading": name, "accuracy": accuracy, "loss": loss})
    return pd.DataFrame(rows)


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


# --- from tables to evidence; the rules stand in the chapter, before each call


def same(sentence: str, difference: float, tolerance: float = 1e-6):
    """Evidence of an equality (R3): the sentence gets the largest difference appended."""
    return exact(f"{sentence}: largest difference {difference:.0e}.", bool(difference < tolerance))


def settle_linear(ledger: Ledger, f: dict, df: pd.DataFrame, elastic: pd.DataFrame) -> None:
    """REG-04, 05, 06, 08 (first part), 10, 11, 02 and 27 (first parts) from `linear_facts` and the two tables."""
    hit = [abs(size / t - 1) < 1e-6 for t, size in f["free"]]
    told = ", ".join(f"{size:.2f} for {t:.2f}" for t, size in f["free"])
    one, two = f["sizes"]
    ledger.add(
        "REG-04",
        as_a_penalty=exact(f"The same strength leaves {one:.3f} on one half of the rows and {two:.3f} on the other; "
                           "no threshold is set anywhere.", abs(one - two) < 1e-6),
        as_a_constraint=exact(f"Sum of squares for four thresholds: {told}. Equal in {sum(hit)} of {len(hit)}.",
                              all(hit)),
    )  # fmt: skip
    ledger.add(
        "REG-05",
        absolute_values=same("Lasso against least squares within the same sum of |w|", f["l1_constraint"]),
        squares=same("Ridge against least squares within the same sum of w²", f["l2_constraint"]),
    )
    ledger.add(
        "REG-06",
        soft_threshold=same("Lasso with orthonormal columns against the soft threshold", f["soft"]),
        one_value_or_zero=exact(f"{f['soft_zeros']} weights are 0; the others have {f['distinct']} different sizes.",
                                f["distinct"] <= 1),
    )  # fmt: skip
    ledger.ill_posed("REG-06")
    ledger.add("REG-08", linear_model=same("Lasso from 20 random starts", f["starts"]))
    ledger.add(
        "REG-10",
        both_penalties=same("scikit-learn's elastic net against proximal steps on the formula", f["elastic"]),
        l1_is_one_end=same("Elastic net with all weight on L1 against the lasso", f["elastic_l1"]),
    )
    ledger.add("REG-02", changes_the_minimum=exact(
        f"Ridge by descent with and without momentum ends at the same weights (difference {f['momentum']:.0e}).",
        bool(f["momentum"] > 1e-6)))  # fmt: skip
    falls, wrong = (df["df"].diff().dropna() < 0).all(), (df["df"] - df["trace"]).abs().max()
    ledger.add("REG-27", complexity=exact(
        f"Effective degrees of freedom fall from {df['df'].iloc[0]:.1f} to {df['df'].iloc[-1]:.1f} as the strength "
        f"grows; formula and trace agree within {wrong:.0e}.", bool(falls and wrong < 1e-6)))  # fmt: skip
    wide = elastic.pivot(index="repeat", columns="penalty", values=["overlap", "distance", "r2"])
    net, lasso, ridge = ({k: wide[k][p] for k in ("overlap", "distance", "r2")} for p in
                         ("elastic net", "L1 (lasso)", "L2 (ridge)"))  # fmt: skip
    told = "Elastic net minus {}, {}"
    ledger.add(
        "REG-11",
        stabler_choice_than_lasso=above(told.format("lasso", "overlap of chosen columns"),
                                        net["overlap"] - lasso["overlap"], margin=0.05),
        stabler_weights_than_ridge=below(told.format("ridge", "distance of the weights"),
                                         net["distance"] - ridge["distance"], margin=0.1),
        predicts_better_than_lasso=above(told.format("lasso", "R² on new rows"), net["r2"] - lasso["r2"], margin=0.02),
        predicts_better_than_ridge=above(told.format("ridge", "R² on new rows"), net["r2"] - ridge["r2"], margin=0.02),
    )  # fmt: skip


def settle_terms(ledger: Ledger, data) -> pd.DataFrame:
    """REG-26, REG-28 and two parts of REG-03 from gradients; returns the table of what each method adds."""
    base = Recipe(depth=2, width=32)
    methods = {"L1": base.but(l1=0.01), "L2": base.but(weight_decay=0.1), "dropout": base.but(dropout=0.5)}
    methods |= {"batch normalization": base.but(norm="batch")}
    varies = {name: extra_gradient(r, data) for name, r in methods.items()}
    for name, size in varies.items():
        told = f"What {name} adds to the gradient differs between two batches by up to {size:.0e}."
        ledger.add("REG-26", **{name.replace(" ", "_"): exact(told, size < 1e-9)})
    for name, gap_ in penalty_gaps().items():
        told = f"torch's step against the gradient of the penalty, {name}"
        ledger.add("REG-28", **{name.replace(" ", "_"): same(told, gap_)})
    ledger.add("REG-03", L2=same("One SGD step with an L2 penalty against shrinking the weights by the factor "
                                 "1 - lr x strength, then the step", decay_gap()))  # fmt: skip
    return pd.DataFrame({"adds the same on every batch": {k: "yes" if v < 1e-9 else "no" for k, v in varies.items()}})


def penalty_gaps(strength: float = 0.1, lr: float = 0.5) -> dict[str, float]:
    """One step of torch's SGD under L1 and L2 as this book applies them, against autograd of the written-out loss."""
    start = torch.tensor([1.5, -0.7, 0.2], dtype=torch.float64)
    written = {"L1, sum of absolute values": lambda w: strength * w.abs().sum()}
    written |= {"L2, half the sum of squares": lambda w: strength / 2 * w.square().sum()}
    gaps = {}
    for (name, penalty), field in zip(written.items(), ("l1", "weight_decay"), strict=True):
        p, w = (start.clone().requires_grad_() for _ in range(2))
        optimizer = optim.make("sgd", [p], Recipe(lr=lr, **{field: strength}))
        (3 * p).sum().backward()
        optimizer.step()
        ((3 * w).sum() + penalty(w)).backward()
        gaps[name] = (p - (w - lr * w.grad)).abs().max().item()
    return gaps


def decay_gap(strength: float = 0.1, lr: float = 0.5) -> float:
    """One step of torch's SGD with an L2 penalty against: shrink all weights by 1 - lr strength, then step."""
    start, slope = torch.tensor([1.5, -0.7, 0.2], dtype=torch.float64), torch.tensor([3.0, -1.0, 0.5])
    p = start.clone().requires_grad_()
    optimizer = optim.make("sgd", [p], Recipe(lr=lr, weight_decay=strength))
    (slope * p).sum().backward()
    optimizer.step()
    return (p - (start * (1 - lr * strength) - lr * slope)).abs().max().item()


def chosen(runs: Runs, field: str, **where) -> float:
    """The value of a field with the best mean validation accuracy."""
    return runs.where(**where).table.groupby(field)["val_accuracy"].mean().idxmax()


def settle_strength(ledger: Ledger, runs: Runs, looks: pd.DataFrame, best: float, strong: float) -> None:
    """REG-01, 09 and the rest of 27 from the grid of strengths: at validation's choice, and at far too much."""
    t, noisy = runs.table, {"label_noise": 0.2}
    told = "Test accuracy, strength {:g} minus none, {}"
    small = np.log(looks.pivot(index="seed", columns=["label_noise", "weight_decay"], values="size"))[0.2]
    ledger.add(
        "REG-01",
        limits_the_weights=below("ln of the sum of squares, with the penalty minus without", small[best] - small[0.0]),
        noisy_labels=above(told.format(best, "a fifth of the labels wrong"),
                           gap(t, "test_accuracy", "weight_decay", best, 0.0, **noisy), margin=0.005),
        clean_labels=above(told.format(best, "clean labels"),
                           gap(t, "test_accuracy", "weight_decay", best, 0.0, label_noise=0.0), margin=0.005),
        increased_tenfold=above(told.format(strong, "a fifth of the labels wrong"),
                                gap(t, "test_accuracy", "weight_decay", strong, 0.0, **noisy), margin=0.005),
    )  # fmt: skip
    looks = looks.assign(lognorms=np.log(looks["norms"]))
    at = {"field": "weight_decay", "b": 0.0, **noisy}
    robust = above("Accuracy on images with noise, moderate strength minus none",
                   gap(looks, "noisy_accuracy", a=best, **at), margin=0.005)  # fmt: skip
    broken = above(f"Accuracy on images with noise, strength {strong:g} minus none",
                   gap(looks, "noisy_accuracy", a=strong, **at), margin=0.005)  # fmt: skip
    ledger.add(
        "REG-09",
        smoother=below("Roughness of the first layer (2 = independent weights), with the penalty minus without",
                       gap(looks, "roughness", a=best, **at), margin=0.2),
        lower_complexity=below("ln of the product of the layers' norms, with the penalty minus without",
                               gap(looks, "lognorms", a=best, **at)),
        more_robust=robust, more_robust_at_ten_times_the_strength=broken,
    )  # fmt: skip
    ledger.add("REG-27", more_robust=robust, more_robust_at_ten_times_the_strength=broken)


def settle_zeros(ledger: Ledger, looks: pd.DataFrame, runs: Runs, strength: float, middle: float, bulge) -> None:
    """REG-07 and the rest of REG-08 from the grid of L1: zeros at `strength`, their price at the strength `middle`."""
    arms = {"L2": looks[looks["weight_decay"] > 0]}
    for name, how, step in (("L1_gradient_SGD", "sgd", "gradient"), ("L1_gradient_Adam", "adam", "gradient"),
                            ("L1_proximal", "sgd", "proximal")):  # fmt: skip
        arms[name] = looks[(looks["optimizer"] == how) & (looks["l1_step"] == step) & (looks["l1"] == strength)]
    for name, rows in arms.items():
        told = f"Exact zeros among the weights: {100 * rows['zero'].mean():.1f} % on average (smaller than 0.001: "
        told += f"{100 * rows['tiny'].mean():.0f} %)."
        ledger.add("REG-07", **{name: exact(told, bool((rows["zero"] > 0.1).all()), n=len(rows))})
    t = runs.table.assign(kind=runs.table["l1"].astype(str) + runs.table["l1_step"])[runs.table["weight_decay"] == 0]
    lost = gap(t[t["optimizer"] == "sgd"], "test_accuracy", "kind", f"{middle}proximal", "0.0gradient")
    ledger.add("REG-07", without_loss=above("Test accuracy, proximal L1 minus none (a loss of 2 points is allowed)",
                                            lost, zero=-0.02))  # fmt: skip
    ledger.add("REG-08", network=exact(
        f"Half-way between two trained networks the penalised loss lies above the mean of theirs in "
        f"{sum(b > 0 for b in bulge)} of {len(bulge)} pairs (by {np.mean(bulge):.2f} on average): not convex.",
        bool(max(bulge) <= 0), n=len(bulge)))  # fmt: skip


def settle_momentum(ledger: Ledger, equal: pd.DataFrame) -> None:
    """The rest of REG-02: validation accuracy at equal training loss, momentum minus plain, margin 2 points."""
    told = "Validation accuracy at the same training loss, momentum minus plain gradient descent"
    ledger.add("REG-02", less_over_fitting=above(told, (equal["momentum"] - equal["sgd"]).dropna(), margin=0.02))


def best_share(runs: Runs, score: str = "test_accuracy") -> pd.DataFrame:
    """The share of dropout with the best score, for each seed and label noise (rows) and width (columns)."""
    by = runs.table.pivot(index=["label_noise", "seed", "width"], columns="dropout", values=score)
    return by.idxmax(axis=1).unstack("width")


def size_ranks(best: pd.DataFrame) -> list[float]:
    """Spearman's rank correlation of width and best share, per seed, over the widths and all label noises."""
    out = []
    for _, rows in best.groupby("seed"):
        long = rows.melt(var_name="width", value_name="share")
        out.append(long["width"].corr(long["share"], method="spearman") if long["share"].nunique() > 1 else 0.0)
    return out


def settle_sizes(ledger: Ledger, runs: Runs, small: int, large: int) -> None:
    """REG-12, 14, 15 and 20 from the grid of width, share and label noise, on test accuracy."""
    t, noisy = runs.table, {"label_noise": 0.2}

    def differ(width, a, b, **where):
        told = f"Test accuracy, {width} units, dropout {a:g} minus {b:g}"
        told += ", clean labels" if where.get("label_noise") == 0 else ", a fifth of the labels wrong"
        return told, gap(t, "test_accuracy", "dropout", a, b, width=width, **where)

    ranks, clean = size_ranks(best_share(runs)), {"label_noise": 0.0}
    ledger.add("REG-12", large_network=above(*differ(large, 0.5, 0.0, **noisy), margin=0.005),
               small_network=above(*differ(small, 0.7, 0.0, **clean), margin=0.005))  # fmt: skip
    told = "Rank correlation of the width with the share of dropout that does best"
    ledger.add("REG-14", small_network_more_dropout=above(*differ(small, 0.7, 0.2, **clean), margin=0.005),
               best_share_falls_with_size=below(told, ranks))  # fmt: skip
    ledger.add("REG-15", large_network_less_dropout=above(*differ(large, 0.2, 0.7, **noisy), margin=0.005),
               best_share_falls_with_size=below(told, ranks))  # fmt: skip
    ledger.add("REG-20", small_network=below(*differ(small, 0.7, 0.0, **clean), margin=0.005))


def settle_masks(ledger: Ledger, noisy: pd.DataFrame, clean: pd.DataFrame, node: dict, facts: dict) -> None:
    """REG-03 (rest), 13, 16, 17, 18, 19 and 21 from `habits` with noisy and with clean labels, and `node_check`."""
    looks = {
        "noisy": noisy.assign(units=noisy["without_hidden"] / noisy["accuracy"],
                              pixels=noisy["without_inputs"] / noisy["accuracy"], logsize=np.log(noisy["size"])),
        "clean": clean.assign(pixels=clean["without_inputs"] / clean["accuracy"], logsize=np.log(clean["size"])),
    }  # fmt: skip

    def differ(labels, column, a="every step", b="none"):
        return gap(looks[labels], column, "way", a, b)

    told = "ln of the network's sum of squares, dropout minus none, "
    ledger.add("REG-03", dropout_in_linear_regression=same(
        "Loss averaged over every mask against loss plus a weighted sum of squares", facts["dropout"]),
        dropout_in_a_network_clean_labels=below(told + "clean labels", differ("clean", "logsize")),
        dropout_in_a_network_noisy_labels=below(told + "noisy labels", differ("noisy", "logsize")))  # fmt: skip
    first, last = (Masks().draw(k, 1000, 0, [64, 1000], 100)[1].eq(0).float().mean().item() for k in (0, 999))
    ledger.add("REG-13",
               noise_falls=exact(f"Share of zeros in the first step {first:.3f}, in the last {last:.3f}.",
                                 last < first / 2),
               letting_it_fall_is_better=above("Validation accuracy, share falling to 0 minus constant",
                                               differ("noisy", "accuracy", "share falls to 0"
                                                      ) - differ("noisy", "accuracy"), margin=0.005))  # fmt: skip
    ledger.add("REG-16",
               torch_keeps_its_mask=exact(
                   f"Two passes of torch's layer have different masks; {node['rows']} examples have "
                   f"{node['different_rows']} different masks.", not node["passes_differ"]),
               every_fifth_step_is_as_good=above("Validation accuracy, a mask at every fifth step minus at every step",
                                                 differ("noisy", "accuracy", "every 5th step", "every step"),
                                                 margin=0.005))  # fmt: skip
    kept = "Share of the accuracy that is left without half of the {}, {} labels, dropout minus none"
    ledger.add("REG-17",
               hidden_units=above(kept.format("hidden units", "noisy"), differ("noisy", "units"), margin=0.05),
               pixels_noisy_labels=above(kept.format("pixels", "noisy"), differ("noisy", "pixels"), margin=0.05),
               pixels_clean_labels=above(kept.format("pixels", "clean"), differ("clean", "pixels"), margin=0.05),
               )  # fmt: skip
    ledger.add("REG-18", outputs_are_zero=exact(f"With p = 0.5, ones become {node['values']}.",
                                                node["values"] == [0.0, 2.0]),
               same_as_its_weights=same("A unit's output at 0 against its outgoing weights at 0",
                                        node["unit_or_weights"]))  # fmt: skip
    plain = noisy[noisy["way"] == "none"]["accuracy"]
    ledger.add("REG-19", without_dropout_nothing_is_learned=below(
        "Validation accuracy without dropout, the same data in every epoch, against guessing", plain,
        zero=0.1))  # fmt: skip
    ledger.add("REG-21", over_confident=above("Confidence minus accuracy, dropout minus none",
                                              differ("noisy", "excess"), margin=0.01))  # fmt: skip
    ledger.ill_posed("REG-19", "REG-21")


def log_epochs(runs: Runs, target: float, share: float) -> np.ndarray:
    """ln of the epochs to a validation accuracy with this share of dropout over those without, a value per seed.

    Runs that never get there count with all epochs that they had.
    """
    epochs = np.log(runs.epochs_to("val_accuracy", target).clip(upper=runs.table["epochs"].max()).to_numpy())
    return gap(runs.table.assign(needed=epochs), "needed", "dropout", share, 0.0)


def settle_cost(ledger: Ledger, counts: pd.DataFrame, epochs: Iterable[float]) -> None:
    """REG-22: the counted work of a step, and the epochs to a target (ln, dropout minus none, one value per seed)."""
    some = counts[counts["p"].notna() & (counts["p"] > 0)]
    told = f"A step makes {', '.join(str(v) for v in some['calls'])} calls and {some['numbers'].iloc[0]:,} numbers "
    ledger.add("REG-22", share_changes_the_cost_of_a_step=exact(
        told + f"for p = {', '.join(f'{p:g}' for p in some['p'])}.", some["numbers"].nunique() > 1),
        share_changes_the_epochs=above("ln of the epochs to the target, p = 0.7 minus none", epochs,
                                       margin=0.1))  # fmt: skip
