"""Optimizers where nothing but the surface matters: bowls, ravines, and sums that make Adam fail."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import torch
from PIL import Image

from helpers import plots, streams
from helpers.optim import UPDATES
from helpers.surfaces import SURFACES

DOUBLE = {"dtype": torch.float64}


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
    torch.manual_seed(streams.seed(0))
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
    torch.manual_seed(streams.seed(0))
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
    generator = torch.Generator().manual_seed(streams.seed(0))
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


def ravines(optimizers, degrees, *, starts: int = 16) -> pd.DataFrame:
    """`ravine` for several angles, with a fine common grid of 18 rates; rows also have `degrees`."""
    rates = np.geomspace(0.0003, 1.0, 18).tolist()
    return pd.concat(
        [ravine(optimizers, rates, degrees=d, starts=starts).assign(degrees=d) for d in degrees], ignore_index=True
    )


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
