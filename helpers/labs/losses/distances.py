"""Losses on distances: triplets and pairs; and contrastive divergence, which shares a word with them and no more."""

from __future__ import annotations

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers import checks, claims, streams, training
from helpers.claims import Evidence
from helpers.labs.losses import Nets, nearly

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
            hurt = x + noise * torch.randn(x.shape, generator=torch.Generator().manual_seed(streams.seed(1)))
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
    g = torch.Generator().manual_seed(streams.seed(seed))
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
        g = torch.Generator().manual_seed(streams.seed(seed))
        labels, w0 = (y, y[torch.randperm(len(y), generator=g)]), torch.randn(x.shape[1], 8, generator=g) / 8
        cd = [rbm(x01, t, epochs=2, seed=seed)[1] for t in labels]
        pulls = [torch.func.grad(lambda w, t=t: contrastive(x[:100] @ w, t[:100]))(w0) for t in labels]
        gap = {k: (a - b).abs().max().item() for k, (a, b) in (("divergence", cd), ("loss", pulls))}
        rows.append({"seed": seed, "contrastive divergence": gap["divergence"], "contrastive loss": gap["loss"]})
    return pd.DataFrame(rows)
