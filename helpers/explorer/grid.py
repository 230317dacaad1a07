"""The grid: where each row of the table stands among settings, lines, replicates and points along x."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from helpers.explorer import columns, wording
from helpers.explorer.columns import Roles

LIMIT_LINES = 12


@dataclass(frozen=True)
class Grid:
    """`levels` holds the values of each control and of the colour; `where` the place of each row in `shape`.

    The axes of `shape` are the controls, the lines, the replicates and the points. `names` are the words along x, if
    it has words. `keyed`: a point stands for one value of x; else points are counted.
    """

    levels: dict
    where: tuple[np.ndarray, ...]
    shape: list[int]
    names: list[str] | None
    keyed: bool

    def spread(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the values at their places in the grid, and where there is a row at all."""
        full, there = np.full(self.shape, np.nan), np.zeros(self.shape, bool)
        full[self.where], there[self.where] = values, True
        return full, there

    def by_point(self, column: pd.Series) -> list | None:
        """The value of a column at each point when it depends on the point alone (epoch), else None (seconds)."""
        groups = column.groupby(self.where[-1])
        if not self.keyed or column.isna().any() or groups.nunique().max() > 1:
            return None
        scale = 100 if columns.fraction(column, column.name) else 1
        return [columns.plain(v) * scale for v in groups.first()]


def place(table: pd.DataFrame, roles: Roles) -> Grid:
    """Find the place of every row. Raises ValueError for too many lines, empty cells, and two rows at one place."""
    kind, color, first = roles.kind, roles.color, roles.xs[0]
    found = {c: columns.levels(table[c]) for c in roles.coded}
    levels = {c: values for c, (_, values) in found.items()}
    if color is not None and len(levels[color]) > LIMIT_LINES:
        raise ValueError(
            f"color={color!r} has {len(levels[color])} values, and at most {LIMIT_LINES} lines can be told apart; "
            f"keep {LIMIT_LINES} of them or put {color!r} into sliders=."
        )
    for column in [*roles.replicates, *([first] if kind != "path" else [])]:
        empty = int(table[column].isna().sum())
        if empty:
            raise ValueError(f"column {column!r} is empty in {empty} rows: fill it in or drop these rows first.")
    nothing = np.zeros(len(table), int)
    where = [codes for codes, _ in found.values()] + ([nothing] if color is None else [])
    keys = [pd.Series(codes) for codes in where]
    replicate = nothing
    if roles.band is not None:
        replicate = table[roles.band].groupby(keys).rank(method="dense").to_numpy(int) - 1
    runs = table.groupby([*keys, pd.Series(replicate)], sort=False)
    names, keyed = None, kind != "path"
    if kind == "path":
        _one_run_each(table, roles, runs)
        point = runs.cumcount().to_numpy()
    else:
        _one_row_each(table, roles)
        point, values = columns.levels(table[first])
        if not pd.api.types.is_numeric_dtype(table[first]):
            names = [wording.name(v) for v in values]
        elif kind == "line" and len(values) > 2 * runs.size().max():  # every run has its own x (seconds): count instead
            keyed = False
            point = runs[first].rank(method="first").to_numpy(int) - 1
    shape = [len(v) for v in levels.values()] + ([1] if color is None else [])
    shape += [int(replicate.max()) + 1, int(point.max()) + 1]
    return Grid(levels, (*where, replicate, point), shape, names, keyed)


def _one_row_each(table, roles) -> None:
    key = [*roles.coded, *roles.replicates, roles.xs[0]]
    twice = table[key].duplicated(keep=False)
    if not twice.any():
        return
    row = table[twice].iloc[0]
    same = table[(table[key].isna() & row[key].isna() | (table[key] == row[key])).all(axis=1)]
    shown = ", ".join(f"{c}={columns.plain(row[c])!r}" for c in key)
    results = {*key, *roles.xs, *roles.ys, "step", "seconds"}
    differ = [c for c in table.columns if c not in results and not str(c).endswith(("_loss", "_accuracy"))]
    differ = [c for c in differ if len({str(v) for v in same[c]}) > 1]
    differ.sort(key=lambda c: c == "run")
    hint = "nothing else tells them apart: drop one with table.drop_duplicates(), or average them."
    if differ:
        hint = f"they differ in {differ[0]!r}: add it to sliders=, selects= or color=, or keep one of its values."
    raise ValueError(f"table has {len(same)} rows for {shown}, and a figure needs one; {hint}")


def _one_run_each(table, roles, runs) -> None:
    """A path takes its points in the order of the rows, so two runs in one path must be noticed by other columns."""
    for column in ("run", "seed"):
        used = column in [*roles.coded, *roles.replicates]
        if column in table.columns and not used and runs[column].nunique().max() > 1:
            raise ValueError(
                f"table has several values of {column!r} in one path, and a path needs one; "
                f"add {column!r} to sliders=, selects=, color= or band=, or keep one of its values."
            )
