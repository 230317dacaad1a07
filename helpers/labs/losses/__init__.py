"""Chapter 4, losses: gradients by hand, calibration, regression. Tables in, tables out."""

from __future__ import annotations

import dataclasses
import inspect
import math
import string
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn import datasets
from sklearn.utils import all_estimators
from torch import Tensor, nn

from helpers import checks, claims, losses, owndata, stacks, streams, training
from helpers.claims import Evidence
from helpers.compare import Interval
from helpers.data import load
from helpers.recipe import Recipe

# --- data


def few_digits():
    """scikit-learn's digits with 539 images to learn from and more than that to judge by: 719 and 539 (sealed)."""
    raw = datasets.load_digits()
    return owndata.from_arrays(raw.images[:, None], raw.target, validation=0.4, test=0.3, name="digits")


def thinned(data, share: float, classes: Sequence[int]):
    """The data set with only this share of the training rows of some classes. Validation and test stay balanced."""
    checks.number("share", share, above=0, high=1, try_="0.1")
    keep = torch.ones(data.n_train, dtype=torch.bool)
    for c in classes:
        rows = (data.y_train == c).nonzero().flatten()
        keep[rows[max(1, round(share * len(rows))) :]] = False
    groups = None if data.groups is None else data.groups[keep.numpy()]
    return dataclasses.replace(data, x_train=data.x_train[keep], y_train=data.y_train[keep], groups=groups)


def letters(n_train: int = 1300, n_val: int = 520, n_test: int = 1300):
    """The 26 capital letters in many fonts, as drawn by "glyphs", shrunk to 14x14 pixels (means of 2x2)."""
    data = load("glyphs", n_train=n_train, n_val=n_val, n_test=n_test, characters=string.ascii_uppercase)
    x_test, y_test = data._test
    small = {k: F.avg_pool2d(getattr(data, k), 2) for k in ("x_train", "x_val")}
    return dataclasses.replace(data, **small, image_shape=(1, 14, 14), _test=(F.avg_pool2d(x_test, 2), y_test))


def unit(data) -> tuple[Tensor, Tensor]:
    """Training and validation images as rows (n, pixels) with values from 0 to 1."""
    low, high = data.x_train.min(), data.x_train.max()
    return tuple(((x - low) / (high - low)).clamp(0, 1).flatten(1) for x in (data.x_train, data.x_val))


# --- evidence


def gains(sentence: str, values, margin: float) -> Evidence:
    """Evidence that A gains at least `margin` over B: values are A - B, one for each seed (accuracies as fractions).

    Holds when the 95 % interval lies above zero and the mean reaches the margin; fails when the interval excludes a
    gain as large as the margin, whether A loses or not; else the data do not decide.
    """
    i = Interval.of(values)
    holds = True if i.low > 0 and i.mean >= margin else False if i.high < margin else None
    told = f"{sentence}: {100 * i.mean:+.1f} points, 95 % CI [{100 * i.low:.1f}, {100 * i.high:.1f}], n = {i.n}."
    outcome = {True: "helps", False: "no gain", None: "undecided"}[holds]
    return Evidence(holds, told, i.n, i.p if holds else None, outcome)


def inside(sentence: str, values, *, margin: float) -> Evidence:
    """Evidence that a quantity, one value per seed, is zero up to ±margin (R2): holds or fails with its interval."""
    i = Interval.of(values)
    holds = True if -margin <= i.low and i.high <= margin else False if i.low > margin or i.high < -margin else None
    told = f"{sentence}: mean {i.mean:+.3g}, 95 % CI [{i.low:.3g}, {i.high:.3g}], n = {i.n}."
    return Evidence(holds, told, i.n, None, {True: "no detectable effect", False: "differs", None: "undecided"}[holds])


def plain(evidence: Evidence) -> Evidence:
    """The same evidence with the names of arms in plain words: "binary cross entropy" for binary_cross_entropy."""
    told = evidence.sentence.replace("_", " ")
    return dataclasses.replace(evidence, sentence=checks.capital(told))


def told(comparison, a=None, b=None) -> str:
    """What a comparison found, in plain words: of A against B, or of the first arm against each other one."""
    others = comparison.arms[1:] if b is None else (b,)
    return " ".join(plain(claims.exact(comparison.sentence(a, other), True)).sentence for other in others)


def defaults_of_regressors() -> pd.Series:
    """The loss that each regressor of scikit-learn has as its default, where it has a choice; index = its name."""
    found = {}
    for name, kind in all_estimators(type_filter="regressor"):
        taken = inspect.signature(kind.__init__).parameters
        for option in ("criterion", "loss"):  # boosting has both; its loss is the second
            if option in taken and isinstance(taken[option].default, str):
                found[name] = taken[option].default
    return pd.Series(found, name="default loss")


# --- gradients, by hand beside autograd


GRADIENTS = {
    "cross_entropy": "p - q",
    "squared_error": "2 (z - q)",
    "binary_cross_entropy": "s - q",
    "focal": "weight(p) (p - q)",
}


def by_hand(name: str, z: Tensor, y: Tensor, gamma: float = 2.0) -> Tensor:
    """dL/dz of each example's loss by the formula on paper, (n, classes); z logits (n, classes), y labels (n,)."""
    checks.one_of("name", name, GRADIENTS)
    q, p = F.one_hot(y, z.shape[1]).to(z.dtype), z.softmax(1)
    if name == "cross_entropy":
        return p - q
    if name == "squared_error":
        return 2 * (z - q)
    if name == "binary_cross_entropy":
        return z.sigmoid() - q
    return focal_weight((p * q).sum(1, keepdim=True), gamma) * (p - q)


def focal_weight(p, gamma: float):
    """The focal loss's gradient as a multiple of cross-entropy's, for an example whose right class has probability p.

    (1 - p)^gamma - gamma p (1 - p)^(gamma - 1) log p: differentiate (1 - p)^gamma log p (Lin et al. 2017).
    """
    checks.number("gamma", gamma, low=0, try_="2.0")
    log = torch.log(p) if isinstance(p, Tensor) else np.log(p)
    return (1 - p) ** gamma - (gamma * p * (1 - p) ** (gamma - 1) * log if gamma else 0)


def hand_table(n: int = 64, classes: int = 10) -> pd.DataFrame:
    """Largest difference between `by_hand` and autograd for every loss, on random logits, in float64."""
    g = torch.Generator().manual_seed(0)
    z = 3 * torch.randn(n, classes, generator=g, dtype=torch.float64)
    y = torch.randint(classes, (n,), generator=g)
    rows = []
    for name in GRADIENTS:
        auto = torch.func.grad(lambda z, name=name: losses.LOSSES[name](z, y))(z) * n
        gap = (auto - by_hand(name, z, y)).abs().max().item()
        about = {"loss": name, "gradient by hand": GRADIENTS[name]}
        rows.append({**about, "largest difference to autograd": f"{gap:.0e}"})
    return pd.DataFrame(rows)


def exact_checks() -> tuple[dict[str, dict[str, Evidence]], dict[str, float]]:
    """Equalities that need no training (R3): {claim: {part: evidence}}, and the overflow example {"naive", "safe"}."""
    z, y = 3 * torch.randn(64, 10, generator=torch.Generator().manual_seed(0)).double(), torch.arange(64) % 10
    each, half = F.cross_entropy(z, y, reduction="none"), (1 - z.softmax(1)[range(64), y]) ** 2
    one, hot = z[:, 0], (y % 2).double()
    binary = F.binary_cross_entropy_with_logits
    gaps = {
        "LOSS-06": {
            "gamma_0_is_cross_entropy": losses.focal(z, y, gamma=0.0) - each.mean(),
            "gamma_2_is_a_factor_on_it": losses.focal(z, y, gamma=2.0) - (half * each).mean(),
        },
        "LOSS-15": {
            "softmax_for_ten_classes": F.nll_loss(z.softmax(1).log(), y) - F.cross_entropy(z, y),
            "sigmoid_for_yes_or_no": F.binary_cross_entropy(one.sigmoid(), hot) - binary(one, hot),
            "two_classes_either_way": F.cross_entropy(z[:, :2], y % 2) - binary(z[:, 1] - z[:, 0], hot),
        },
    }
    p = torch.linspace(0.01, 1, 100)
    falls = bool((-p.log()).diff().lt(0).all()) and -p[-1].log().item() == 0
    weight = {k: float(focal_weight(k, 2.0)) for k in (0.01, 0.1, 0.5, 0.9, 0.99)}
    told = ", ".join(f"{v:.2g} at p = {k:g}" for k, v in weight.items())
    found = {claim: {k: nearly(v) for k, v in parts.items()} for claim, parts in gaps.items()}
    found["LOSS-03"] = {"measures_the_gap": claims.exact("It is 0 for p = 1 and falls strictly as p grows.", falls)}
    words = f"Gradient as a multiple of cross-entropy's, gamma 2: {told}."
    found["LOSS-05"] = {"the_weights": claims.exact(words, weight[0.1] < weight[0.99])}
    far = torch.tensor([200.0])
    safe = binary(far, torch.zeros(1)).item()
    return found, {"naive": -torch.log(1 - far.sigmoid()).item(), "safe": safe}


def nearly(gap: Tensor, at_most: float = 1e-10) -> Evidence:
    """Evidence that two ways to compute a number agree (R3): the difference is at most 1e-10, in float64."""
    return claims.exact(f"Largest difference: {float(abs(gap)):.0e}.", bool(abs(gap) <= at_most))


def focal_curves(gammas: Sequence[float], points: int = 99) -> pd.DataFrame:
    """Rows: gamma, p, loss ("cross-entropy" or "focal"), gradient: length of dL/dz for the right class."""
    p = np.linspace(0.01, 0.99, points)
    rows = []
    for gamma in gammas:
        for name, weight in (("cross-entropy", 1.0), ("focal", focal_weight(p, gamma))):
            rows.append(pd.DataFrame({"gamma": gamma, "p": p, "loss": name, "gradient": weight * (1 - p)}))
    return pd.concat(rows, ignore_index=True)


def hardest_share(recipe: Recipe, data, *, seeds: int, share: float = 0.1) -> pd.Series:
    """The part of the summed gradient lengths |dL/dz| that comes from the hardest tenth of the training images.

    Hard = the lowest probability for the label, under the network trained by this recipe. One value per seed.
    """
    checks.number("share", share, above=0, below=1, try_="0.1")
    stack, _ = stacks.train_stack([recipe.but(seed=s) for s in range(seeds)], data)
    data, found = training.prepared(recipe, data), []
    stack.eval()
    with torch.no_grad():
        for z in stack(data.x_train).double():
            size = by_hand(recipe.loss, z, data.y_train, recipe.focal_gamma).norm(dim=1)
            hard = z.softmax(1)[range(len(z)), data.y_train].argsort()[: round(share * len(z))]
            found.append((size[hard].sum() / size.sum()).item())
    return pd.Series(found, name="share")


def one_step(recipe: Recipe, data, *, seeds: int) -> pd.Series:
    """Loss over all training rows after one small step along minus its gradient, minus the loss before; per seed."""
    f, change = losses.make(recipe), []
    for seed in range(seeds):
        model = training.fresh_model(recipe.but(seed=seed), data)
        before = f(model(data.x_train), data.y_train)
        before.backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= recipe.lr * p.grad
            change.append((f(model(data.x_train), data.y_train) - before).item())
    return pd.Series(change, name="change")


def late_rise(runs) -> pd.DataFrame:
    """Per run: by how much validation loss and accuracy changed from the epoch of the lowest loss to the last."""

    def change(rows):
        best = rows.loc[rows["val_loss"].idxmin()]
        return rows.iloc[-1][["val_loss", "val_accuracy"]] - best[["val_loss", "val_accuracy"]]

    return runs.frame().groupby(["label_noise", "seed"]).apply(change, include_groups=False).reset_index()


# --- calibration


def ece(p: Tensor, y: Tensor, bins: int = 10) -> float:
    """Expected calibration error (Guo et al. 2017): mean |accuracy - confidence| over bins of the confidence.

    p (n, classes) probabilities, y (n,) labels; bins of equal width, each with the weight of its examples.
    """
    t = reliability(p, y, bins)
    return float((t["n"] * (t["accuracy"] - t["confidence"]).abs()).sum() / t["n"].sum())


def reliability(p: Tensor, y: Tensor, bins: int = 10) -> pd.DataFrame:
    """Rows, one for each bin of the confidence that is not empty: n, confidence (mean), accuracy (a fraction)."""
    checks.integer("bins", bins, low=1, try_="10")
    best, guess = p.max(1)
    rows = pd.DataFrame({"confidence": best.double(), "accuracy": (guess == y).double()})
    by = rows.groupby((rows["confidence"] * bins).clip(upper=bins - 1e-9).astype(int))
    return by.mean().assign(n=by.size()).rename_axis("bin").reset_index()


def temperature(z: Tensor, y: Tensor) -> float:
    """The T that gives softmax(z / T) the lowest cross-entropy: one number, fitted by bisection on its slope."""
    low, high = -4.0, 4.0  # of log2 of the scale 1 / T; the loss is convex in 1 / T
    z = z.double()
    for _ in range(40):
        middle = (low + high) / 2
        scale = 2.0**middle
        p = (scale * z).softmax(1)
        slope = ((p * z).sum(1) - z[range(len(y)), y]).mean()
        low, high = (low, middle) if slope > 0 else (middle, high)
    return 2.0**-low


def calibration(recipes: Sequence[Recipe], data, *, seeds: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Calibration of trained networks on validation images: as they are, and after temperature scaling.

    The temperature is fitted on every second validation image; all else is measured on the others. Two tables: one
    with rows label_smoothing, seed, scaling ("none" or "temperature"), ece, confidence, accuracy, temperature; and the
    `reliability` of each, with the middle of each bin as `bin`.
    """
    rows, bins = [], []
    for recipe in recipes:
        stack, _ = stacks.train_stack([recipe.but(seed=s) for s in range(seeds)], data)
        stack.eval()
        with torch.no_grad():
            logits = stack(data.x_val)
        for seed, z in enumerate(logits):
            t = temperature(z[::2], data.y_val[::2])
            for name, by in (("none", 1.0), ("temperature", t)):
                p, y = (z[1::2] / by).softmax(1), data.y_val[1::2]
                about = {"label_smoothing": recipe.label_smoothing, "seed": seed, "scaling": name}
                right = {"accuracy": (p.argmax(1) == y).float().mean().item(), "temperature": t}
                rows.append({**about, "ece": ece(p, y), "confidence": p.max(1).values.mean().item(), **right})
                found = reliability(p, y)
                bins.append(found.assign(**about, bin=(found["bin"] + 0.5) / 10))
    return pd.DataFrame(rows), pd.concat(bins, ignore_index=True)


# --- regression


def regression(shares: Sequence[float], *, seeds: int, steps: int = 200, lr: float = 0.02) -> pd.DataFrame:
    """scikit-learn's diabetes data with a share of the training targets moved up by 5 standard deviations.

    A network of one hidden layer (16 units) learns with squared error, absolute error or Huber's loss (Huber 1964)
    and full batches; its weights and the rows that are moved depend on the seed. Rows: loss, outliers (the share),
    seed, error: the root mean square error on 142 clean held-out rows, in standard deviations of the target.
    """
    raw = datasets.load_diabetes()
    order = np.random.default_rng(0).permutation(len(raw.target))
    x, y = (torch.tensor(v[order], dtype=torch.float32) for v in (raw.data, raw.target))
    x, y = (x - x[:300].mean(0)) / x[:300].std(0), (y - y[:300].mean()) / y[:300].std()
    cells, targets = [(share, seed) for share in shares for seed in range(seeds)], []
    for share, seed in cells:
        checks.number("share", share, low=0, high=0.5, try_="0.1")
        hit = torch.randperm(300, generator=torch.Generator().manual_seed(streams.seed(seed)))[: round(300 * share)]
        targets.append(y[:300].clone().index_add_(0, hit, torch.full((len(hit),), 5.0)))
    t, rows = torch.stack(targets), []
    for name, f in {"squared": F.mse_loss, "absolute": F.l1_loss, "Huber": F.huber_loss}.items():
        nets = Nets([10, 16, 1], [seed for _, seed in cells])
        optimizer = torch.optim.Adam(nets.parameters(), lr, weight_decay=1e-3)
        batches = ((x[:300].expand(len(cells), -1, -1), t) for _ in range(steps))
        loss = lambda out, t, f=f: f(out[..., 0], t, reduction="none").mean(1)  # noqa: E731
        for _ in training.fit(nets, loss, optimizer, batches, lambda step: None):
            pass
        with torch.no_grad():
            off = (nets(x[300:].expand(len(cells), -1, -1))[..., 0] - y[300:]).square().mean(1).sqrt()
        pairs = zip(cells, off.tolist(), strict=True)
        rows += [{"loss": name, "outliers": share, "seed": seed, "error": e} for (share, seed), e in pairs]
    return pd.DataFrame(rows)


class Nets(nn.Module):
    """N small networks side by side, ReLU between their linear layers; input (N, batch, sizes[0]).

    He's first weights, drawn by each network's own seed; biases start at zero.
    """

    def __init__(self, sizes: Sequence[int], seeds: Sequence[int]):
        super().__init__()
        draws = [torch.Generator().manual_seed(streams.seed(1000 + s)) for s in seeds]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for a, b in zip(sizes, sizes[1:], strict=False):
            drawn = torch.stack([torch.randn(a, b, generator=g) for g in draws])
            self.weights.append(nn.Parameter(drawn * math.sqrt((2 if b != sizes[-1] else 1) / a)))
            self.biases.append(nn.Parameter(torch.zeros(len(draws), 1, b)))

    def forward(self, x: Tensor) -> Tensor:
        for k, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(b, x.relu() if k else x, w)
        return x
