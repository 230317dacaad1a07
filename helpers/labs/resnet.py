"""Chapter 9, residual networks: depth races, gradients through depth, lesions, loss surfaces. Tables in, tables out."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from helpers import blocks, checks, claims, engine, losses, optim, probe, streams, training
from helpers.claims import Evidence
from helpers.compare import TUNING_SEED, Comparison
from helpers.recipe import Recipe

# What stands around two weight layers, by the name that the chapter uses; each value is a change of a Recipe.
BLOCKS = {
    "plain": {"shortcut": "none"},
    "residual": {"shortcut": "identity"},
    "residual, zero start": {"shortcut": "identity", "branch_scale": 0.0},
    "projection": {"shortcut": "projection"},
    "pre-activation": {"shortcut": "preactivation"},
}
SCORES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")


def arms(base: Recipe, *names: str) -> dict[str, Recipe]:
    """Recipes by block name, which differ from `base` in the block alone: `arms(base, "plain", "residual")`."""
    return {name: base.but(**BLOCKS[checks.one_of("block", name, BLOCKS)]) for name in names}


# --- depth: the same training for every kind of block


@dataclass(frozen=True)
class Race:
    """What `race` found.

    curves : block, depth, lr, seed, epoch and the four scores of every epoch: all rates with the tuning seeds, and the
        tuned rate with the comparison seeds
    ends : one row per block, depth and seed at the rate tuned for this block and depth, after the last epoch, with
        test_loss and test_accuracy where the seal was opened
    rates : {(block, depth): lr}; rate_grid : the rates tried; models : {(block, depth): [trained model of each seed]}
    """

    curves: pd.DataFrame
    ends: pd.DataFrame
    rates: dict
    rate_grid: tuple
    models: dict

    def scores(self, score: str, block: str, depth: int) -> pd.Series:
        """One score of the final models of a block at a depth, by seed."""
        checks.known("score", [score], [c for c in self.ends if c.endswith(("loss", "accuracy"))])
        if (block, depth) not in self.rates:
            raced = ", ".join(f"{b} at depth {d}" for b, d in self.rates)
            raise ValueError(f"block={block!r} at depth={depth!r} did not run; choose one of: {raced}.")
        rows = self.ends[(self.ends["block"] == block) & (self.ends["depth"] == depth)]
        return rows.set_index("seed")[score]

    def pair(self, a: str, b: str, depth: int, *, score: str = "test_accuracy", margin: float = 0.005):
        """Block `a` against block `b` at one depth as a `Comparison`: paired seeds, each at its own tuned rate."""
        table = pd.DataFrame({name: self.scores(score, name, depth) for name in (a, b)})
        chosen = {name: {"lr": self.rates[name, depth]} for name in (a, b)}
        edge = tuple(n for n in (a, b) if self.at_edge(n, depth))
        better = score.endswith("accuracy")
        return Comparison("block", (a, b), chosen, edge, None, None, table, score, margin, better)

    def sentence(self, a: str, b: str, depth: int, *, margin: float = 0.005) -> str:
        """The finding of `pair` on test accuracy in one sentence."""
        told = self.pair(a, b, depth, margin=margin).sentence()
        return checks.capital(told)

    def __add__(self, other: Race) -> Race:
        tables = (pd.concat([getattr(self, k), getattr(other, k)], ignore_index=True) for k in ("curves", "ends"))
        return Race(*tables, self.rates | other.rates, self.rate_grid, self.models | other.models)

    def at_edge(self, block: str, depth: int) -> bool:
        """Whether the tuned rate is the smallest or largest of the rates tried."""
        return self.rates[block, depth] in (min(self.rate_grid), max(self.rate_grid))


def race(
    entrants: dict[str, Recipe], data, *, depth: Sequence[int], lr: Sequence[float], seeds: int, tuning_seeds=2, test=""
) -> Race:
    """Train every block at every depth and rate with the training loop of the book, many runs at once.

    The rate of each (block, depth) is the one with the best mean validation accuracy on `tuning_seeds` seeds that the
    comparison does not use, as in `compare`; equal budget for all. `test` is the reason for opening the sealed test
    set, which only the final models read. Raises ValueError for a plain mistake in the sizes.
    """
    checks.integer("seeds", seeds, low=2, high=TUNING_SEED, try_="8")
    checks.integer("tuning_seeds", tuning_seeds, low=1, try_="2")
    if not depth or not lr:
        raise ValueError(f"depth={list(depth)!r}, lr={list(lr)!r} is not allowed: give at least one of each.")
    cells = list(itertools.product(entrants, depth))
    spare = [TUNING_SEED + k for k in range(tuning_seeds)]
    tried = [(c, r) for c in cells for r in entrants[c[0]].vary(depth=c[1], lr=list(lr), seed=spare)]
    tuning, _ = _trained(tried, data)
    last = tuning[tuning["epoch"] == tuning["epoch"].max()]
    means = last.groupby(["block", "depth", "lr"])["val_accuracy"].mean()
    rates = {c: means[c].idxmax() for c in cells}
    final = [(c, r) for c in cells for r in entrants[c[0]].vary(depth=c[1], lr=rates[c], seed=list(range(seeds)))]
    curves, trained = _trained(final, data)
    found = {c: [m for (cell, _), m in zip(final, trained, strict=True) if cell == c] for c in cells}
    ends = curves[curves["epoch"] == curves["epoch"].max()]
    ends = ends.assign(**_tests(trained, data, test)).reset_index(drop=True)
    return Race(pd.concat([tuning, curves], ignore_index=True), ends, rates, tuple(lr), found)


def _trained(runs: Sequence[tuple], data) -> tuple[pd.DataFrame, list[nn.Module]]:
    """Curves and final models of [((block, depth), recipe), ...], in this order; one architecture in one stack."""
    at, rows, trained = {run: i for i, run in enumerate(runs)}, [], [None] * len(runs)
    cells = {}
    for cell, recipe in runs:
        cells.setdefault(recipe, []).append(cell)
    for recipe, (network, curve) in engine.train_networks(cells, data).items():
        for k, cell in enumerate(cells[recipe]):
            trained[at[cell, recipe]] = copy.deepcopy(network) if k else network
            about = {"run": at[cell, recipe], "block": cell[0], "depth": cell[1]}
            about |= {"lr": recipe.lr, "seed": recipe.seed}
            rows += [{**about, **{k: p[k] for k in ("epoch", *SCORES)}} for p in curve]
    return pd.DataFrame(rows).sort_values(["run", "epoch"], ignore_index=True).drop(columns="run"), trained


def _tests(trained: Sequence[nn.Module], data, reason: str) -> dict:
    if not reason:
        return {}
    x, y = data.open_test(reason)
    scores = [training.evaluate(m, nn.functional.cross_entropy, x, y) for m in trained]
    return {"test_loss": [float(v) for v, _ in scores], "test_accuracy": [float(a) for _, a in scores]}


def rises(sentence: str, found: Race, block: str, *, margin: float) -> Evidence:
    """Evidence that the training loss of a block is higher in the deepest networks than in the shallowest (R1)."""
    depths = sorted(d for b, d in found.rates if b == block)
    deep, shallow = (found.scores("train_loss", block, d) for d in (depths[-1], depths[0]))
    return claims.above(sentence, deep - shallow, margin=margin)


def dissociation(found: Race, flow: pd.DataFrame) -> pd.DataFrame:
    """Gradient before training, success after it: block, depth, ratio (log10, mean over seeds), train_accuracy."""
    rows = []
    for block, depth in found.rates:
        ratio = ratios(flow, block, depth).mean()
        score = found.scores("train_accuracy", block, depth).mean()
        rows.append({"block": block, "depth": depth, "ratio": ratio, "train_accuracy": score})
    return pd.DataFrame(rows)


# --- gradients on their way back, before training


def gradient_flow(entrants: dict[str, Recipe], data, *, depth: Sequence[int], seeds: int, n: int = 128) -> pd.DataFrame:
    """Gradient at the end of every block, before training, relative to the one at the output.

    Rows: block, depth, seed, layer (1, 3, 5, ..., depth), gradient (root mean square over a batch of `n`, over that of
    the output layer, which is layer depth + 1), signal. Only the layers at the end of a block are there, so that
    plain and residual networks have the same rows. For MLPs without projections, whose layers count otherwise.
    """
    tables = []
    for name, base in entrants.items():
        if base.shortcut == "projection" or base.model != "mlp":
            raise ValueError(f"block={name!r} is not allowed here: its layers count otherwise; use MLPs without one.")
        found = probe.layer_scales(base.vary(depth=list(depth)), data, seeds=seeds, n=n)
        last = found[found["layer"] > found["depth"]].set_index(["depth", "seed"])["gradient"]
        scale = last.loc[list(zip(found["depth"], found["seed"], strict=True))].to_numpy()
        found = found.assign(block=name, gradient=(found["gradient"] / scale).clip(lower=1e-45))
        found = found[(found["layer"] % 2 == 1) & (found["layer"] <= found["depth"])]
        tables.append(found[["block", "depth", "seed", "layer", "gradient", "signal"]])
    return pd.concat(tables, ignore_index=True)


def ratios(flow: pd.DataFrame, block: str, depth: int) -> pd.Series:
    """log10 of the gradient in layer 1 over that of the output layer, by seed: 0 = all of it arrives, -3 = 1/1000."""
    rows = flow[(flow["block"] == block) & (flow["depth"] == depth) & (flow["layer"] == 1)]
    return np.log10(rows.set_index("seed")["gradient"])


def milder(flow: pd.DataFrame, depth: int, *, plain="plain", residual="residual") -> Evidence:
    """Evidence that the residual network's gradient is closer to even than the plain one's, by a factor of ten (R1).

    Both ratios are taken as the distance of their log10 from 0, so that vanishing and exploding count alike.
    """
    a, b = ratios(flow, plain, depth), ratios(flow, residual, depth)
    told = f"{depth} layers, first layer over output: 10^{a.mean():.1f} {plain}, 10^{b.mean():.1f} {residual}; "
    return claims.above(told + "decades that the shortcut takes away", a.abs() - b.abs(), margin=1.0)


def shattering(
    entrants: dict[str, Recipe], data, *, depth: Sequence[int], seeds: int, points: int = 65, n: int = 128
) -> pd.DataFrame:
    """The gradient of one logit along a straight walk between two training images, before training.

    Rows: block, depth, seed, position (0 to 1), slope (the derivative along the walk, over its root mean square on the
    walk), alike (cosine between the input gradients here and one step on; NaN at the end). Neighbours with unlike
    gradients: shattered gradients (Balduzzi et al. 2017). `n` more training images keep the batch statistics ordinary.
    """
    checks.integer("points", points, low=3, try_="65")
    rows, t = [], torch.linspace(0, 1, points)
    for name, base in entrants.items():
        for recipe in base.vary(depth=list(depth), seed=list(range(seeds))):
            model = training.fresh_model(recipe, data).train()
            draw = torch.Generator().manual_seed(streams.seed(recipe.seed))
            pick = torch.randperm(data.n_train, generator=draw)[: n + 2]
            first, second, rest = data.x_train[pick[0]], data.x_train[pick[1]], data.x_train[pick[2:]]
            walk = torch.stack([torch.lerp(first, second, w) for w in t]).requires_grad_()
            model(torch.cat([walk, rest]))[:points, 0].sum().backward()
            g = walk.grad.flatten(1)
            along = g @ (second - first).flatten()
            along = along / along.square().mean().sqrt().clamp(min=1e-30)
            alike = [*nn.functional.cosine_similarity(g[1:], g[:-1], eps=1e-30).tolist(), float("nan")]
            about = {"block": name, "depth": recipe.depth, "seed": recipe.seed}
            for w, slope, c in zip(t.tolist(), along.tolist(), alike, strict=True):
                rows.append({**about, "position": w, "slope": slope, "alike": c})
    return pd.DataFrame(rows)


# --- taking a trained network apart


class Nothing(nn.Module):
    """A branch that adds nothing: zeros of the shape of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def without(model: nn.Sequential, deleted: Iterable[int]) -> nn.Sequential:
    """An MLP without some of its pairs of hidden layers; pair 0 is hidden layers 2 and 3.

    In a residual network the branch goes and the shortcut stays (Veit et al. 2016); in a plain network the layers
    with their normalizations and activations go and their input is passed on. The model itself stays whole; what is
    left of it is shared. Raises ValueError for a pair that is not there.
    """
    parts, deleted = list(model), set(deleted)
    spots = [i for i, part in enumerate(parts) if isinstance(part, blocks.Residual)]
    if spots:
        pairs = [[i] for i in spots]
    else:
        linear = [i for i, part in enumerate(parts) if isinstance(part, nn.Linear)]
        pairs = [list(range(a, b)) for a, b in zip(linear[1::2], linear[3::2], strict=False)]
    if not deleted <= set(range(len(pairs))):
        allowed = f"0 to {len(pairs) - 1}"
        raise ValueError(f"deleted={sorted(deleted)!r} is not allowed: the network has the pairs {allowed}.")
    for k in deleted:
        if spots:
            at = pairs[k][0]
            parts[at] = blocks.Residual(Nothing(), parts[at].shortcut, parts[at].after)
        else:
            for i in pairs[k]:
                parts[i] = nn.Identity()
    return nn.Sequential(*parts)


def accuracy(model: nn.Module, data) -> float:
    """Share of the validation images that a model reads, a fraction."""
    return float(training.evaluate(model, nn.functional.cross_entropy, data.x_val, data.y_val)[1])


def lesions(found: Race, data, names: Sequence[str], *, depth: Sequence[int]) -> pd.DataFrame:
    """Validation accuracy after deleting one pair of layers from each trained network, without training again.

    Rows: block, depth, seed, deleted (which pair, 1 is the first; 0 = none), val_accuracy.
    """
    rows = []
    for name, layers in itertools.product(names, depth):
        for seed, model in enumerate(found.models[name, layers]):
            for k in range(layers // 2 + 1):
                cut = without(model, [k - 1] if k else [])
                about = {"block": name, "depth": layers, "seed": seed, "deleted": k}
                rows.append({**about, "val_accuracy": accuracy(cut, data)})
    return pd.DataFrame(rows)


def lost(table: pd.DataFrame, block: str, depth: int) -> pd.Series:
    """Validation accuracy lost by deleting one pair, mean over the pairs, by seed (a fraction)."""
    by = table[(table["block"] == block) & (table["depth"] == depth)].pivot(
        index="seed", columns="deleted", values="val_accuracy"
    )
    return by[0] - by.drop(columns=0).mean(axis=1)


# --- the loss around a solution


def direction(model: nn.Module, seed: int) -> dict[str, Tensor]:
    """A random direction in weight space, filter-normalized (Li et al. 2018): {name of a parameter: step of length 1}.

    Each row of a weight matrix (each filter of a convolution) gets a normal draw with the length of that row itself;
    biases and the parameters of normalizations stay.
    """
    generator, out = torch.Generator().manual_seed(streams.seed(seed)), {}
    for name, p in model.named_parameters():
        draw = torch.randn(p.shape, generator=generator)
        rows = (len(p), *[1] * (p.dim() - 1))
        length = p.detach().flatten(1).norm(dim=1) if p.dim() > 1 else torch.zeros(len(p))
        out[name] = draw * (length / draw.view(len(p), -1).norm(dim=1)).view(rows)
    return out


@torch.no_grad()
def losses_along(model: nn.Module, steps: Sequence[dict], places: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy at `weights + places @ steps`: steps is a list of k directions, places (m, k); gives (m,)."""
    model.eval()
    at = {name: p.detach() for name, p in model.named_parameters()}
    buffers = dict(model.named_buffers())

    def one(place):
        moved = {name: p + sum(c * s[name] for c, s in zip(place, steps, strict=True)) for name, p in at.items()}
        return nn.functional.cross_entropy(functional_call(model, (moved, buffers), (x,)), y)

    return torch.cat([vmap(one)(part) for part in places.split(32)])


def surface(found: Race, data, names: Sequence[str], *, depth, points: int = 15, seed: int = 0, n=250) -> pd.DataFrame:
    """Training loss on a square around the end of training, over two random directions (Li et al. 2018).

    Rows: block, depth, first and second (both from -1 to 1; 1 = each filter moved by its own length), loss on `n`
    training images.
    """
    line, tables = torch.linspace(-1, 1, points), []
    for name, layers in itertools.product(names, depth):
        model = found.models[name, layers][seed]
        steps, places = [direction(model, k) for k in (0, 1)], torch.cartesian_prod(line, line)
        value = losses_along(model, steps, places, data.x_train[:n], data.y_train[:n])
        here = pd.DataFrame(places.numpy().round(4) + 0.0, columns=["first", "second"])
        tables.append(here.assign(block=name, depth=layers, loss=value.numpy()))
    return pd.concat(tables, ignore_index=True)


def rays(found: Race, data, names, *, depth, directions: int = 4, points: int = 11, n: int = 250) -> pd.DataFrame:
    """Two numbers for the shape of the loss around the end of training, from straight lines in random directions.

    Rows: block, depth, seed, steepness (log10 of the loss at distance 1 over that at the centre, mean over the lines),
    roughness (of all ups and downs of ln(loss) on the way out, the share that goes down: 0 for a bowl, 0.5 for noise).
    """
    rows = []
    for name, layers in itertools.product(names, depth):
        for seed, model in enumerate(found.models[name, layers]):
            up = down = rise = 0.0
            for k in range(directions):
                places = torch.linspace(0, 1, points)[:, None]
                value = losses_along(model, [direction(model, 100 + k)], places, data.x_train[:n], data.y_train[:n])
                change = value.log().diff()
                up, down = up + change.clamp(min=0).sum().item(), down - change.clamp(max=0).sum().item()
                rise += change.sum().item() / np.log(10) / directions
            about = {"block": name, "depth": layers, "seed": seed}
            rows.append({**about, "steepness": rise, "roughness": down / max(up + down, 1e-30)})
    return pd.DataFrame(rows)


# --- the block itself, and its price


@torch.no_grad()
def roles(data, width: int = 16) -> dict[str, float]:
    """Exact facts on one residual block of two convolutions, as largest absolute differences or counts.

    sum: block(x) - act(shortcut(x) + branch(x)), written out with torch's own functions. no_branch: block(x) - x when
    the branch's last weights are zero. no_shortcut: block(x) - act(branch(x)) when the shortcut gives zero.
    weights_shortcut, weights_branch: how many weights each part has. projection_shape: 1 when a block whose output has
    another shape adds a 1x1 convolution, else 0.
    """

    def conv(a, b, stride=1, size=3):
        return nn.Conv2d(a, b, size, stride=stride, padding=size // 2)

    made = {"act": nn.ReLU, "norm": "none", "dims": 2, "shortcut": "identity"}
    torch.manual_seed(0)
    x = nn.functional.relu(conv(data.x_train.shape[1], width)(data.x_train[:32]))
    block = blocks.block(conv, width, width, **made)
    first, _, second = block.branch
    inner = nn.functional.relu(nn.functional.conv2d(x, first.weight, first.bias, padding=1))
    branch = nn.functional.conv2d(inner, second.weight, second.bias, padding=1)
    cut = copy.deepcopy(block)
    cut.shortcut = Nothing()
    empty = copy.deepcopy(block)
    for p in empty.branch[-1].parameters():
        p.zero_()
    wider = blocks.block(conv, width, 2 * width, stride=2, **made)
    shape, kernel = wider(x).shape, wider.shortcut[0].kernel_size
    half = -(-x.shape[-1] // 2)
    return {
        "sum": (block(x) - nn.functional.relu(x + branch)).abs().max().item(),
        "no_branch": (empty(x) - x).abs().max().item(),
        "no_shortcut": (cut(x) - nn.functional.relu(branch)).abs().max().item(),
        "weights_shortcut": sum(p.numel() for p in block.shortcut.parameters()),
        "weights_branch": sum(p.numel() for p in block.branch.parameters()),
        "projection_shape": int(kernel == (1, 1) and tuple(shape[1:]) == (2 * width, half, half)),
    }


def price(entrants: dict[str, Recipe], data, *, repeats: int = 20, warm_up: int = 5) -> pd.DataFrame:
    """Parameters, and seconds of one training step, for every block in turn (R7).

    Rows: block, repeat, seconds, parameters.
    """
    made, rows = {}, []
    for name, recipe in entrants.items():
        model = training.fresh_model(recipe, data)
        made[name] = model, optim.make(recipe.optimizer, model.parameters(), recipe), losses.make(recipe)
    batch = [(data.x_train[: recipe.batch_size], data.y_train[: recipe.batch_size])]
    for repeat in range(-warm_up, repeats):
        for name, (model, optimizer, loss) in made.items():
            started = time.perf_counter()
            list(training.fit(model, loss, optimizer, batch, lambda step: None))
            seconds = time.perf_counter() - started
            count = sum(p.numel() for p in model.parameters())
            rows.append({"block": name, "repeat": repeat, "seconds": seconds, "parameters": count})
    table = pd.DataFrame(rows)
    return table[table["repeat"] >= 0].reset_index(drop=True)
