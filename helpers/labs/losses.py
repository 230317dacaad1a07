"""Chapter 4, losses: gradients by hand, calibration, distances, generation. Tables in, tables out."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
import inspect
import io
import json
import math
import string
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn import datasets
from sklearn.utils import all_estimators
from torch import Tensor, nn

from helpers import checks, claims, losses, owndata, stacks, training
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


def letters(*, n_train: int = 1300, n_val: int = 520, n_test: int = 1300):
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
        hit = torch.randperm(300, generator=torch.Generator().manual_seed(seed))[: round(300 * share)]
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
        draws = [torch.Generator().manual_seed(1000 + s) for s in seeds]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for a, b in zip(sizes, sizes[1:], strict=False):
            drawn = torch.stack([torch.randn(a, b, generator=g) for g in draws])
            self.weights.append(nn.Parameter(drawn * math.sqrt((2 if b != sizes[-1] else 1) / a)))
            self.biases.append(nn.Parameter(torch.zeros(len(draws), 1, b)))

    def forward(self, x: Tensor) -> Tensor:
        for k, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(b, x.relu() if k else x, w)
        return x


# --- distances


def triplet(e: Tensor, y: Tensor, margin: float = 1.0) -> Tensor:
    """Triplet loss (Schroff et al. 2015), batch-hard (Hermans et al. 2017): e (n, d) embeddings, y (n,) labels.

    For every anchor: max(0, d(farthest of its class) - d(nearest of another class) + margin), and the mean of these.
    """
    d, same = torch.cdist(e, e, compute_mode="donot_use_mm_for_euclid_dist"), y[:, None] == y[None]
    far = d.masked_fill(~same, -torch.inf).amax(1)
    near = d.masked_fill(same, torch.inf).amin(1)
    return (far - near + margin).relu().mean()


def contrastive(e: Tensor, y: Tensor, margin: float = 1.0) -> Tensor:
    """Contrastive loss (Hadsell et al. 2006): d² for a pair of one class, max(0, margin - d)² for another pair.

    The mean over all pairs of different rows of e (n, d) with the labels y (n,).
    """
    a, b = torch.triu_indices(len(y), len(y), 1)
    d = ((e[a] - e[b]).square().sum(1) + 1e-12).sqrt()
    return torch.where(y[a] == y[b], d.square(), (margin - d).relu().square()).mean()


def encode(data, loss: str, *, seeds: int, dim: int = 16, epochs: int = 20, lr: float = 0.003, known=range(5)):
    """Train encoders (64 hidden units, `dim` outputs) on the images of the known classes alone: one `stacks.Stack`.

    loss: "triplet", "contrastive", "cross-entropy" (a linear layer on top, dropped afterwards) or "none" (untrained).
    Returns f(x (n, ...)) -> embeddings (seeds, n, dim).
    """
    checks.one_of("loss", loss, ("triplet", "contrastive", "cross-entropy", "none"))
    rows = torch.isin(data.y_train, torch.tensor(list(known)))
    x, y = data.x_train[rows].flatten(1), data.y_train[rows]
    nets = Nets([x.shape[1], 64, dim], range(seeds))
    head = Nets([dim, len(known)], range(seeds)) if loss == "cross-entropy" else nn.Identity()
    f = {"triplet": triplet, "contrastive": contrastive}.get(loss, F.cross_entropy)
    optimizer = torch.optim.Adam([*nets.parameters(), *head.parameters()], lr)

    def batches():
        for epoch in range(epochs if loss != "none" else 0):
            for i in torch.stack([training.batch_order(s, len(y), 50, epoch) for s in range(seeds)], 1):
                yield x[i], y[i]

    model = nn.Sequential(nets, head)
    for _ in training.fit(model, torch.func.vmap(f), optimizer, batches(), lambda step: None):
        pass
    return lambda x: nets(x.flatten(1).expand(seeds, -1, -1)).detach()


def unseen(data, known=range(5)) -> dict[str, tuple[Tensor, Tensor]]:
    """Images that no encoder was trained on: of the known classes (validation), and of the others (400 rows)."""
    x, y = torch.cat([data.x_val, data.x_train]), torch.cat([data.y_val, data.y_train])
    old, new = torch.isin(data.y_val, torch.tensor(list(known))), ~torch.isin(y, torch.tensor(list(known)))
    return {"known": (data.x_val[old], data.y_val[old]), "new": (x[new][:400], y[new][:400])}


def relations(e: Tensor, y: Tensor, query: Tensor | None = None) -> dict[str, float]:
    """What distances tell. `ordered`: the share of triplets with d(anchor, same class) < d(anchor, other class), every
    fifth row being an anchor. `recall`: the share of rows whose nearest other row has their class (recall@1).

    e (n, d), y (n,); `query` (n, d): other embeddings of the same rows, such as of noisy images, to search with.
    """
    d, same = torch.cdist(e if query is None else query, e), y[:, None] == y[None]
    own = torch.eye(len(y), dtype=torch.bool)
    nearest = d.masked_fill(own, torch.inf).argmin(1)
    shares = []
    for row, mates, me in zip(d[::5], same[::5], own[::5], strict=True):  # every fifth row is enough for a mean
        others = row[~mates].sort().values
        shares.append(1 - torch.searchsorted(others, row[mates & ~me], right=True).double() / len(others))
    return {"ordered": torch.cat(shares).mean().item(), "recall": (y[nearest] == y).double().mean().item()}


def distances(data, *, seeds: int, noise: float = 1.0, **settings) -> pd.DataFrame:
    """`relations` of several encoders and of the pixels themselves.

    Rows: loss, seed, classes ("known", "new"), ordered, recall, noisy (recall with Gaussian noise of this standard
    deviation, in those of the pixels, on the images that are searched with).
    """
    rows, places = [], unseen(data)

    def pixels(x):
        return x.flatten(1)[None]

    for loss in ("triplet", "contrastive", "cross-entropy", "none", "pixels"):
        f = pixels if loss == "pixels" else encode(data, loss, seeds=seeds, **settings)
        for classes, (x, y) in places.items():
            hurt = x + noise * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
            found = [
                {**relations(clean, y), "noisy": relations(clean, y, noisy)["recall"]}
                for clean, noisy in zip(f(x), f(hurt), strict=True)
            ]
            rows += [{"loss": loss, "seed": s, "classes": classes, **found[s % len(found)]} for s in range(seeds)]
    return pd.DataFrame(rows)


# --- contrastive divergence


def rbm(x: Tensor, y: Tensor | None = None, *, hidden=32, epochs=10, lr=0.3, batch=50, seed=0):
    """A restricted Boltzmann machine trained by contrastive divergence with one Gibbs step (CD-1, Hinton 2002).

    x (n, d) in 0..1. The labels y are accepted and not used: CD has no place for them. Returns (errors, weights): the
    mean squared reconstruction error of each epoch, and W (d, hidden).
    """
    g = torch.Generator().manual_seed(seed)
    w = 0.01 * torch.randn(x.shape[1], hidden, generator=g)
    a, b, errors = torch.zeros(x.shape[1]), torch.zeros(hidden), []
    for _ in range(epochs):
        total = 0.0
        for i in torch.randperm(len(x), generator=g).split(batch):
            v0 = x[i]
            h0 = (v0 @ w + b).sigmoid()
            v1 = (torch.bernoulli(h0, generator=g) @ w.T + a).sigmoid()  # the machine's answer
            h1 = (v1 @ w + b).sigmoid()
            w += lr * (v0.T @ h0 - v1.T @ h1) / len(i)
            a += lr * (v0 - v1).mean(0)
            b += lr * (h0 - h1).mean(0)
            total += (v0 - v1).square().mean().item() * len(i)
        errors.append(total / len(x))
    return errors, w


def exact_names(data, *, seeds: int) -> dict[str, Evidence]:
    """What triplet loss is combined with (R3). Siamese: three embeddings of one encoder give torch's own triplet loss.
    Contrastive divergence: does it hear which images belong together? Shuffled labels must then change its weights."""
    x, y = data.x_train[:60].flatten(1).double(), data.y_train[:60]
    e = x @ torch.randn(x.shape[1], 4, generator=torch.Generator().manual_seed(0)).double()
    d, alike = torch.cdist(e, e), y[:, None] == y[None]
    mates, others = d.masked_fill(~alike, -1).argmax(1), d.masked_fill(alike, torch.inf).argmin(1)
    gap = triplet(e, y) - nn.TripletMarginLoss(margin=1.0, eps=0)(e, e[mates], e[others])
    moved = shuffled_labels(data, seeds=seeds).max()
    words = (
        f"Labels shuffled, {seeds} seeds: weights trained by contrastive divergence move by "
        f"{moved['contrastive divergence']:.2g}, the gradient of the contrastive loss by up to "
        f"{moved['contrastive loss']:.2g}."
    )
    heard = bool(moved["contrastive divergence"] > 0)
    return {"siamese_network": nearly(gap, 1e-8), "contrastive_divergence": claims.exact(words, heard, n=seeds)}


def shuffled_labels(data, *, seeds: int) -> pd.DataFrame:
    """Train twice, with the labels and with the same labels shuffled: largest change of any weight, per seed.

    Rows: seed, "contrastive divergence", "contrastive loss".
    """
    x, y = data.x_train.flatten(1), data.y_train
    low = x.min()
    x01, rows = (x - low) / (x.max() - low), []
    for seed in range(seeds):
        g = torch.Generator().manual_seed(seed)
        labels, w0 = (y, y[torch.randperm(len(y), generator=g)]), torch.randn(x.shape[1], 8, generator=g) / 8
        cd = [rbm(x01, t, epochs=2, seed=seed)[1] for t in labels]
        pulls = [torch.func.grad(lambda w, t=t: contrastive(x[:100] @ w, t[:100]))(w0) for t in labels]
        gap = {k: (a - b).abs().max().item() for k, (a, b) in (("divergence", cd), ("loss", pulls))}
        rows.append({"seed": seed, "contrastive divergence": gap["divergence"], "contrastive loss": gap["loss"]})
    return pd.DataFrame(rows)


# --- the variational auto-encoder, and a generative adversarial network beside it


def kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, 1)) summed over the last axis (Kingma & Welling 2014, appendix B)."""
    return (mu.square() + logvar.exp() - 1 - logvar).sum(-1) / 2


def negative_elbo(x: Tensor, decoded: Tensor, mu: Tensor, logvar: Tensor, beta=1.0, sd: float = 0.2) -> Tensor:
    """The VAE's loss for each example: reconstruction (a Gaussian around `decoded`, up to a constant) + beta KL."""
    return (x - decoded).square().sum(-1) / (2 * sd**2) + beta * kl(mu, logvar)


def exact_kl(draws: int = 100_000) -> tuple[dict[str, Evidence], float]:
    """The VAE's loss, checked (R3): closed-form KL against torch.distributions and against the mean of log q - log p
    over draws; and the largest difference of its gradients mu and (exp(logvar) - 1) / 2 to autograd."""
    g = torch.Generator().manual_seed(0)
    mu, logvar = torch.randn(2, 4, generator=g).double()
    sd = (logvar / 2).exp()
    q, prior = (torch.distributions.Normal(m, s) for m, s in ((mu, sd), (torch.zeros(4).double(), 1.0)))
    z = mu + sd * torch.randn(draws, 4, generator=g).double()
    each, closed = (q.log_prob(z) - prior.log_prob(z)).sum(1), kl(mu, logvar)
    error = each.std() / draws**0.5
    x = torch.rand(4, generator=g).double()
    two = negative_elbo(x, mu, mu, logvar, beta=2.0) - negative_elbo(x, mu, mu, logvar, beta=1.0)
    words = f"Closed form {closed:.4f}; mean of {draws:,} draws {each.mean():.4f}, standard error {error:.4f}."
    parts = {
        "closed_form": nearly(closed - torch.distributions.kl_divergence(q, prior).sum()),
        "by_drawing": claims.exact(words, bool(abs(each.mean() - closed) < 4 * error)),
        "two_terms": nearly(two - closed),
    }
    pulls = torch.func.grad(kl, (0, 1))(mu, logvar)
    gap = torch.stack([pulls[0] - mu, pulls[1] - (logvar.exp() - 1) / 2]).abs().max().item()
    return parts, gap


class VAEs(nn.Module):
    """N variational auto-encoders side by side. Input (N, batch, d + k): examples, and the draws of their k codes.

    Output (N, batch, d + 2 k): the decoded example, mu and logvar.
    """

    def __init__(self, d: int, k: int, hidden: Sequence[int], seeds: Sequence[int], squash: bool):
        super().__init__()
        self.d, self.k, self.squash = d, k, squash
        self.encoder = Nets([d, *hidden, 2 * k], seeds)
        self.decoder = Nets([k, *reversed(hidden), d], seeds)

    def decode(self, z: Tensor) -> Tensor:
        """Codes (N, n, k) -> examples (N, n, d)."""
        return self.decoder(z).sigmoid() if self.squash else self.decoder(z)

    def forward(self, both: Tensor) -> Tensor:
        x, noise = both[..., : self.d], both[..., self.d :]
        mu, logvar = self.encoder(x).chunk(2, -1)
        return torch.cat([self.decode(mu + (logvar / 2).exp() * noise), mu, logvar], -1)


def train_vaes(
    x: Tensor, *, betas: Sequence[float], seeds: int, k: int = 2, hidden=(64,), epochs: int = 50, lr: float = 0.003,
    sd: float = 0.2, squash: bool = True, batch: int = 100,
) -> VAEs:  # fmt: skip
    """Train one VAE for each beta and seed (beta changes slowest) on x (n, d); `sd` is that of the decoder's Gaussian.

    `squash`: decoded values pass a sigmoid, for x in 0..1.
    """
    for beta in betas:
        checks.number("beta", beta, low=0, try_="1.0")
    cells = [(beta, seed) for beta in betas for seed in range(seeds)]
    model = VAEs(x.shape[1], k, hidden, [seed for _, seed in cells], squash)
    weight, g = torch.tensor([[beta] for beta, _ in cells]), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr)

    def batches():
        for epoch in range(epochs):
            orders = [training.batch_order(seed, len(x), batch, epoch) for seed in range(seeds)]
            for i in torch.stack(orders, 1).repeat(1, len(betas), 1):
                draws = torch.randn(seeds, i.shape[1], k, generator=g).repeat(len(betas), 1, 1)
                yield torch.cat([x[i], draws], -1), i

    def loss(out, i):
        decoded, mu, logvar = out.split([x.shape[1], k, k], -1)
        return negative_elbo(x[i], decoded, mu, logvar, weight, sd).mean(1)

    for _ in training.fit(model, loss, optimizer, batches(), lambda step: None):
        pass
    return model


@torch.no_grad()
def codes(model: VAEs, x: Tensor) -> tuple[Tensor, Tensor]:
    """mu and logvar (N, n, k) of the examples x (n, d)."""
    mu, logvar = model.encoder(x.expand(len(model.encoder.weights[0]), -1, -1)).chunk(2, -1)
    return mu, logvar


def use_of_codes(model: VAEs, x: Tensor, betas: Sequence[float], seeds: int) -> pd.DataFrame:
    """How much each code tells about the examples x: its mean KL, in nats, the most telling code first.

    Rows: beta, seed, code, nats, error (root mean square of x minus what its mean code decodes to).
    """
    mu, logvar = codes(model, x)
    with torch.no_grad():
        error = (model.decode(mu) - x).square().mean((1, 2)).sqrt()
    told = ((mu.square() + logvar.exp() - 1 - logvar) / 2).mean(1).sort(1, descending=True).values
    rows = []
    for i, (beta, seed) in enumerate((b, s) for b in betas for s in range(seeds)):
        about = {"beta": beta, "seed": seed, "error": error[i].item()}
        rows += [{**about, "code": c + 1, "nats": v} for c, v in enumerate(told[i].tolist())]
    return pd.DataFrame(rows)


SPREAD = 0.2  # of the points around each place on the ring
MODES = 2 * torch.tensor([[math.cos(t), math.sin(t)] for t in torch.arange(8) * math.pi / 4])


def ring(n: int, seed: int, sd: float = SPREAD) -> Tensor:
    """n points (n, 2) around eight places on a circle of radius 2, with this standard deviation."""
    g = torch.Generator().manual_seed(seed)
    return MODES[torch.randint(8, (n,), generator=g)] + sd * torch.randn(n, 2, generator=g)


def coverage(samples: Tensor, sd: float = SPREAD) -> dict[str, float]:
    """`modes`: how many of the eight places have at least 1 % of the samples (n, 2) within 3 sd; `on`: the share of
    samples that lie within 3 sd of any."""
    near = torch.cdist(samples, MODES) < 3 * sd
    return {"modes": int((near.double().mean(0) >= 0.01).sum()), "on": near.any(1).double().mean().item()}


def ring_vaes(*, seeds: int, epochs: int, n: int = 1000) -> Tensor:
    """Samples (seeds, n, 2) of VAEs trained on `ring` (n points): codes from the prior, decoded, with its noise."""
    model = train_vaes(ring(n, 0), betas=[1.0], seeds=seeds, hidden=(32, 32), epochs=epochs, sd=SPREAD, squash=False)
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        clean = model.decode(torch.randn(seeds, n, 2, generator=g))
    return clean + SPREAD * torch.randn(clean.shape, generator=g)


def ring_gans(
    *, seeds: int, steps: int, lr_d: float = 2e-3, lr_g: float = 2e-3, each: int = 1, n: int = 1000
) -> Tensor:
    """Samples (seeds, n, 2) of generative adversarial networks (Goodfellow et al. 2014) trained on `ring` (n points).

    In each step the discriminator learns to tell 100 points from 100 made ones, then the generator learns to be taken
    for real (the loss that does not saturate), `each` times. `lr_d`, `lr_g`: their learning rates.
    """
    made, judge = Nets([2, 32, 32, 2], range(seeds)), Nets([2, 32, 32, 1], range(100, 100 + seeds))
    opt_g, opt_d = (torch.optim.Adam(m.parameters(), r, betas=(0.5, 0.9)) for m, r in ((made, lr_g), (judge, lr_d)))
    g, x = torch.Generator().manual_seed(0), ring(n, 0)
    for _ in range(steps):
        real = x[torch.randint(n, (seeds, 100), generator=g)]
        fake = made(torch.randn(seeds, 100, 2, generator=g)).detach()
        loss_d = (F.softplus(-judge(real)) + F.softplus(judge(fake))).mean(1).sum()
        opt_d.zero_grad()
        loss_d.backward()
        opt_d.step()
        for _ in range(each):
            loss_g = F.softplus(-judge(made(torch.randn(seeds, 100, 2, generator=g)))).mean(1).sum()
            opt_g.zero_grad()
            loss_g.backward()
            opt_g.step()
    with torch.no_grad():
        return made(torch.randn(seeds, n, 2, generator=g))


# --- a decoder that runs in the page

# One classic script without imports or look-ups outside its own element: it works from a file and twice on a page.
PAGE = """(() => {
if (customElements.get("%(tag)s")) return;
const NS = "http://www.w3.org/2000/svg";
const make = (name, attributes, ...inside) => {
  const svg = /^(svg|g|text|line|circle)$/.test(name);
  const e = svg ? document.createElementNS(NS, name) : document.createElement(name);
  for (const [k, v] of Object.entries(attributes || {})) e.setAttribute(k, v);
  e.append(...inside);
  return e;
};
const read = ({ data, rows, columns, scale }) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), view = new DataView(bytes.buffer);
  const at = (i, j) => scale * view.getInt16(2 * (i * columns + j), true);
  return Array.from({ length: rows }, (_, i) => Array.from({ length: columns }, (_, j) => at(i, j)));
};
const decode = (layers, z) => layers.reduce((x, w, k) => w[0].map((_, j) => {
  let sum = w[x.length][j];
  x.forEach((v, i) => { sum += (k ? Math.max(v, 0) : v) * w[i][j]; });
  return k === layers.length - 1 ? 1 / (1 + Math.exp(-sum)) : sum;
}), z);
let made = 0;
const told = (v) => v.toFixed(1).replace("-", "\\u2212");
const start = (host, spec) => {
  const layers = spec.layers.map(read), { reach, side, points } = spec, sliders = [], outputs = [];
  const form = make("form", { class: "vd-form" }), number = ++made;
  form.addEventListener("submit", (event) => event.preventDefault());
  ["z1", "z2"].forEach((name, i) => {
    const id = host.tagName.toLowerCase() + "-" + number + "-" + name;
    sliders[i] = make("input", { type: "range", id, min: -reach, max: reach, step: 0.1, value: spec.start[i] });
    outputs[i] = make("output", { for: id });
    const label = make("label", { for: id }, name + (i ? " (up)" : " (to the right)"));
    form.append(make("div", {}, make("span", { class: "vd-head" }, label, outputs[i]), sliders[i]));
  });
  const canvas = make("canvas", { width: side, height: side, role: "img" });
  const cross = [make("line"), make("line"), make("circle", { r: 0.14 })];
  const box = [-reach, -reach, 2 * reach, 2 * reach].join(" ");
  const map = make("svg", { viewBox: box, role: "img", "aria-label": spec.map });
  map.append(...points.map(([x, y, c]) => make("text", { x, y: -y, dy: "0.35em" }, spec.names[c])), ...cross);
  const status = make("p", { class: "vd-status", role: "status" });
  const panel = (e, caption) => make("figure", {}, e, make("figcaption", {}, caption));
  const stage = make("div", { class: "vd-stage" }, panel(map, spec.mapped), panel(canvas, "the decoded image"));
  const title = make("p", { class: "vd-title" }, spec.title), note = make("p", { class: "vd-note" }, spec.note);
  const place = make("div", { class: "vd" }, title, form, stage, status, note);
  const draw = () => {
    const z = sliders.map((s) => Number(s.value)), values = decode(layers, z), brush = canvas.getContext("2d");
    const image = brush.createImageData(side, side);
    values.forEach((v, i) => image.data.set([255 * v, 255 * v, 255 * v, 255], 4 * i));
    brush.putImageData(image, 0, 0);
    host.values = values;
    outputs.forEach((o, i) => { o.textContent = told(z[i]); sliders[i].setAttribute("aria-valuetext", told(z[i])); });
    const places = [{ x1: z[0], x2: z[0], y1: -reach, y2: reach }, { x1: -reach, x2: reach, y1: -z[1], y2: -z[1] }];
    [...places, { cx: z[0], cy: -z[1] }].forEach((place, i) => {
      Object.entries(place).forEach(([k, v]) => cross[i].setAttribute(k, v));
    });
    const [d, c] = points.map(([x, y, c]) => [Math.hypot(x - z[0], y - z[1]), c]).sort((a, b) => a[0] - b[0])[0];
    const near = "the nearest encoded image shows a " + spec.names[c] + ", at a distance of ";
    const code = z.map(told).join(", ");
    const what = (d > 0.5 ? "no encoded image is nearer than " : near) + d.toFixed(2) + ".";
    status.textContent = "Code (" + code + "): " + what;
    canvas.setAttribute("aria-label", "Image decoded from the code " + code + ".");
  };
  sliders.forEach((s) => s.addEventListener("input", draw));
  map.addEventListener("click", (event) => {
    const { left, top, width, height } = map.getBoundingClientRect();
    [(event.clientX - left) / width, 1 - (event.clientY - top) / height].forEach((v, i) => {
      sliders[i].value = (2 * v - 1) * reach;
    });
    draw();
  });
  draw();
  host.prepend(make("style", {}, spec.css), place);
};
customElements.define("%(tag)s", class extends HTMLElement {
  connectedCallback() {
    if (this.started) return;
    this.started = true;
    try { start(this, JSON.parse(this.dataset.spec)); this.dataset.live = ""; } catch (error) { console.error(error); }
  }
});
})();"""
SHEET = """%(tag)s[data-live] > figure { display: none }
.vd { color: inherit; font: 15px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 1rem 0 }
.vd p { margin: 0 0 .5rem } .vd-title { font-size: 1.15em; font-weight: 650 } .vd-note { font-size: .85em; opacity: .8 }
.vd-form, .vd-stage { display: grid; gap: .6rem 1.75rem; margin: 0 0 .6rem }
.vd-form, .vd-stage { grid-template-columns: repeat(auto-fit, minmax(min(100%%, 13rem), 1fr)) }
.vd-head { display: flex; justify-content: space-between }
.vd-head output { font-weight: 700; font-variant-numeric: tabular-nums }
.vd input { display: block; width: 100%%; height: 26px; margin: 2px 0; accent-color: #0072b2; cursor: pointer }
.vd input:focus-visible { outline: 2px solid currentColor; outline-offset: 1px }
.vd figure { margin: 0 } .vd figcaption { font: inherit; font-size: .85em; text-align: center }
.vd svg, .vd canvas { display: block; width: 100%%; aspect-ratio: 1; border: 1px solid #8c959f }
.vd svg { cursor: crosshair } .vd canvas { image-rendering: pixelated }
.vd svg text { font-size: .2px; text-anchor: middle; fill: currentColor }
.vd line { stroke: #d55e00; stroke-width: .02 } .vd circle { fill: none; stroke: #d55e00; stroke-width: .05 }
html[data-theme=dark] .bd-content div.cell_output .output.text_html:has(.vd) {
  background: none; color: inherit; padding: 0 }
html[data-theme=dark] .vd input { accent-color: #6cb8f0 }
@media (max-width: 30rem) { .vd canvas { max-width: 12rem; margin: 0 auto } }"""


class LatentExplorer:
    """A decoder with two sliders, drawn by the page itself: no kernel, no network. Show it as a cell's last line."""

    def __init__(self, layers: list[dict], spec: dict, finding: str):
        self.layers, self.spec, self.finding = layers, spec, finding

    def decode(self, z) -> np.ndarray:
        """What the page draws for the codes z (n, 2): values in 0..1, (n, pixels), from the rounded weights."""
        x = np.atleast_2d(np.asarray(z, dtype=float))
        for k, layer in enumerate(self.layers):
            rounded = np.frombuffer(base64.b64decode(layer["data"]), "<i2").reshape(layer["rows"], layer["columns"])
            w = rounded * layer["scale"]
            x = (np.maximum(x, 0) if k else x) @ w[:-1] + w[-1]
        return 1 / (1 + np.exp(-x))

    def sheet(self, n: int = 9) -> np.ndarray:
        """All images on a grid of n x n codes as one picture, z2 upwards: (n (side + 1), same) values in 0..1."""
        at = np.linspace(-self.spec["reach"], self.spec["reach"], n)
        side = self.spec["side"]
        images = self.decode([(x, y) for y in at[::-1] for x in at]).reshape(n, n, side, side)
        framed = np.pad(images, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=0.4)
        return framed.swapaxes(1, 2).reshape(n * (side + 1), n * (side + 1))

    def _repr_png_(self) -> bytes:
        out = io.BytesIO()
        pixels = np.kron(np.round(255 * self.sheet()), np.ones((4, 4))).astype(np.uint8)
        Image.fromarray(pixels).quantize(16).save(out, "png", optimize=True)
        return out.getvalue()

    def _repr_html_(self) -> str:
        tag = "vae-decoder-" + hashlib.sha256((PAGE + SHEET).encode()).hexdigest()[:8]
        spec = json.dumps({**self.spec, "layers": self.layers, "css": SHEET % {"tag": tag}}, separators=(",", ":"))
        image = base64.b64encode(self._repr_png_()).decode()
        alt = f"A sheet of images decoded from codes on a grid, z1 to the right, z2 upwards. {self.finding}"
        says = f"{self.finding} The sliders need JavaScript; in a notebook, run the cell. {self.spec['note']}"
        return (
            f'<{tag} data-spec="{html.escape(spec)}"><figure style="margin:0"><img src="data:image/png;base64,{image}" '
            f'alt="{html.escape(alt)}" style="max-width:100%;height:auto"><figcaption>{html.escape(says)}</figcaption>'
            f"</figure></{tag}>\n<script>{PAGE % {'tag': tag}}</script>"
        )

    def __repr__(self) -> str:
        return f"<{self.spec['title']}. {self.finding}>"


def latent_explorer(
    model: VAEs, points: Tensor, labels: Tensor, names: Sequence[str], *, title: str, finding: str, note: str = "",
    reach: float = 3.0, start=(0.0, 0.0),
) -> LatentExplorer:  # fmt: skip
    """Two sliders through the plane of codes of a trained VAE, decoded in the page.

    model : `train_vaes` of one network with two codes, of square images; points (n, 2), labels (n,): codes of known
    images and their classes, drawn as the `names` of these; reach : the codes go from -reach to reach. The weights
    travel as 16 bit numbers, each layer with its biases as the last row. Raises ValueError for another model.
    """
    if model.k != 2 or len(model.decoder.weights[0]) != 1 or math.isqrt(model.d) ** 2 != model.d or not model.squash:
        raise ValueError("model must be one VAE with two codes for square images; train_vaes(x, betas=[1], seeds=1).")
    layers = []
    for w, b in zip(model.decoder.weights, model.decoder.biases, strict=True):
        both = torch.cat([w[0], b[0]]).detach().double().numpy()
        scale = float(np.abs(both).max() / 32767) or 1.0
        data = base64.b64encode(np.round(both / scale).astype("<i2").tobytes()).decode()
        layers.append({"data": data, "rows": both.shape[0], "columns": both.shape[1], "scale": scale})
    inside = points.abs().amax(1) < reach
    kept = zip(points[inside].tolist(), labels[inside].tolist(), strict=True)
    placed = [[round(x, 2), round(y, 2), c] for (x, y), c in kept]
    spec = {"reach": reach, "side": math.isqrt(model.d), "start": list(start), "title": title, "note": note}
    spec |= {"points": placed, "names": list(names)}
    spec["map"] = "The plane of codes, with the class of each encoded image at its place; the lines cross at your code."
    return LatentExplorer(layers, spec | {"mapped": "the codes of known images, by class"}, finding)
