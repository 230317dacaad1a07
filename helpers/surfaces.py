"""Functions of two variables, to watch an optimizer walk: small enough to see, hard enough to tell them apart."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pandas as pd
import torch

from helpers import checks, optim
from helpers.recipe import DEFAULTS


@dataclass(frozen=True)
class Surface:
    """f(x, y), where the walk starts, the window to draw (x0, x1, y0, y1), and the place of the lowest point."""

    f: object
    start: tuple[float, float]
    window: tuple[float, float, float, float]
    lowest: tuple[float, float] | None


SURFACES = {
    # a long valley, 50 times steeper across than along
    "ravine": Surface(lambda x, y: 0.5 * (x**2 + 50 * y**2), (-9.0, 1.5), (-10, 4, -3, 3), (0.0, 0.0)),
    # Rosenbrock 1960: a bent valley with an almost flat floor
    "banana": Surface(lambda x, y: (1 - x) ** 2 + 100 * (y - x**2) ** 2, (-1.2, 1.0), (-2, 2, -1, 3), (1.0, 1.0)),
    # almost flat along x where it starts; downhill on both sides of it
    "saddle": Surface(lambda x, y: 0.5 * y**2 - 0.5 * x**2 + 0.05 * x**4, (0.01, 2.5), (-5, 5, -3, 3), None),
    # a shallow basin at the start and a deeper one to the right
    "two basins": Surface(
        lambda x, y: 0.05 * (x**2 - 9) ** 2 - 0.8 * x + 0.5 * y**2, (-4.5, 2.0), (-6, 6, -3, 3), (3.22, 0.0)
    ),
}


def walk(
    surface: str, optimizer: str, *, lr: float, steps: int = 100, noise: float = 0.0, seed: int = 0
) -> pd.DataFrame:
    """The path of a torch.optim optimizer over a surface: rows step (0 is the start), x, y, loss.

    `noise` is the standard deviation of normal noise added to each gradient component (the stochastic part of
    stochastic gradient descent). A walk that leaves the range of numbers ends with NaN. Raises ValueError for
    unknown names or a rate that is not above 0.
    """
    place = SURFACES[checks.one_of("surface", surface, SURFACES)]
    checks.number("lr", lr, above=0, try_="0.01")
    checks.number("noise", noise, low=0, try_="0.0")
    checks.integer("steps", steps, low=1, high=100_000, try_="100")
    generator = torch.Generator().manual_seed(checks.integer("seed", seed, high=2**63 - 1))
    w = torch.tensor(place.start, dtype=torch.float64, requires_grad=True)
    mover = optim.make(optimizer, [w], SimpleNamespace(**{**DEFAULTS, "lr": lr}))
    rows = []
    for step in range(steps + 1):
        loss = place.f(*w)
        rows.append((step, *w.tolist(), loss.item()))
        mover.zero_grad()
        loss.backward()
        w.grad += noise * torch.randn(2, generator=generator, dtype=torch.float64)
        mover.step()
    return pd.DataFrame(rows, columns=["step", "x", "y", "loss"])
