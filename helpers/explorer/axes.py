"""Axes: scale, limits over the whole grid, decimals, and the packed numbers that lie along them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from helpers import checks
from helpers.explorer import columns, packing
from helpers.explorer.columns import Roles
from helpers.explorer.grid import Grid


class Axes:
    """The axes of a figure (`x` and `y`, dicts for the page), their packed `fields`, and these `decoded` again."""

    def __init__(self, table: pd.DataFrame, roles: Roles, grid: Grid, named: dict, scales: dict, limits: dict):
        self.table, self.grid, self.named, self.kind = table, grid, named, roles.kind
        self.fields: list[dict] = []
        self.decoded: list[np.ndarray] = []
        self.x = [self._x(c, grid.names if i == 0 else None, scales["x"], limits["x"]) for i, c in enumerate(roles.xs)]
        self.y = [self._y(c, scales["y"], limits["y"]) for c in roles.ys]

    def _x(self, column, names, scale, limits) -> dict:
        a, limits = self._axis("x", column, scale, limits)
        if names is not None:
            return a | {"names": names, "values": list(range(len(names))), "lim": [-0.5, len(names) - 0.5]}
        exact = self.grid.by_point(self.table[column])
        if exact is None:
            numbers = self._pack(a, column)
        else:
            a["values"], numbers = exact, np.asarray(exact, float)
        return a | {"lim": limits or span(numbers, a["log"], self.kind, "x")}

    def _y(self, column, scale, limits) -> dict:
        a, limits = self._axis("y", column, scale, limits)
        percent = columns.fraction(self.table[column], column) or "(%)" in a["label"]
        numbers = self._pack(a, column)
        return a | {"lim": limits or span(numbers, a["log"], self.kind, "y", percent)}

    def _axis(self, role, column, scale, limits) -> tuple[dict, list | None]:
        scale = scale.get(column, "linear") if isinstance(scale, dict) else scale
        log = checks.one_of(f"{role}scale", scale, ("linear", "log")) == "log"
        limits = limits.get(column) if isinstance(limits, dict) else limits
        if limits is not None:
            if not isinstance(limits, tuple | list) or len(limits) != 2:
                raise TypeError(f"{role}lim={checks.show(limits)} is not a range: give (low, high), or a dict of them.")
            low, high = (float(checks.number(f"{role}lim", v)) for v in limits)
            if not -math.inf < low < high < math.inf or (log and low <= 0):
                raise ValueError(f"{role}lim={limits!r} is not a range: give low < high, both above 0 on log.")
            percent = columns.fraction(self.table[column], column) and 0 <= low and high <= 1
            limits = [low * 100, high * 100] if percent else [low, high]
        return {"column": checks.visible(column), "label": self.named[column], "log": log}, limits

    def _pack(self, a: dict, column) -> np.ndarray:
        values = self.table[column]
        shown = values.to_numpy(float) * (100.0 if columns.fraction(values, column) else 1.0)
        field = packing.encode(*self.grid.spread(shown), a["log"])
        numbers = packing.decode(field, self.grid.shape)
        a |= {"field": len(self.fields), "digits": digits(numbers, a["log"])}
        self.fields.append(field)
        self.decoded.append(numbers)
        return numbers


def span(values, log, kind, role, percent=False) -> list[float]:
    """The limits over the whole grid of settings, so that moving a slider never rescales an axis."""
    good = values[np.isfinite(values)]
    if not len(good):
        return [1.0, 10.0] if log else [0.0, 1.0]
    low, high = float(good.min()), float(good.max())
    if log:
        pad = (high / low) ** 0.05 if high > low else 2.0
        return [low, high] if role == "x" and kind == "line" and high > low else [low / pad, high * pad]
    if high == low:
        pad = abs(low) * 0.1 or 0.5
        return [low - pad, high + pad]
    reach = high - low
    if role == "x" and kind == "line":
        return [0.0 if 0 <= low < 0.1 * reach else low, high]
    if role == "x" and kind == "bar":
        half = float(np.diff(np.unique(good)).min()) / 2
        return [low - half, high + half]
    bottom = 0.0 if role == "y" and low >= 0 and (kind == "bar" or low < 0.25 * reach) else low - 0.05 * reach
    return [bottom, 100.0 if percent and 90 < high <= 100 else high + 0.05 * reach]


def digits(values, log) -> int | None:
    """Decimals that show about a 250th of the range; None = three significant digits."""
    good = values[np.isfinite(values)]
    if log or len(good) < 2:
        return None
    reach = float(np.subtract(*np.percentile(good, [95, 5]))) or float(np.ptp(good))
    if not math.isfinite(reach) or reach < 1e-4:
        return None
    return int(np.clip(math.ceil(-math.log10(reach / 250)), 0, 6))
