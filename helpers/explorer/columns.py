"""What the columns of a table are for, and the values that a control or a line can take."""

from __future__ import annotations

import numbers
from dataclasses import dataclass

import numpy as np
import pandas as pd

from helpers import checks


@dataclass(frozen=True)
class Roles:
    """The use of each column; `kind` is the kind of figure."""

    kind: str
    xs: list
    ys: list
    sliders: list
    selects: list
    color: str | None
    band: str | None

    @property
    def controls(self) -> list:
        return [*self.sliders, *self.selects]

    @property
    def coded(self) -> list:
        """The columns of which each value is a setting or a line."""
        return [*self.controls, *([] if self.color is None else [self.color])]

    @property
    def replicates(self) -> list:
        return [] if self.band is None else [self.band]


def read(table, *, kind, x, y, sliders, selects, color, band) -> tuple[pd.DataFrame, Roles]:
    """Return the table and the roles of its columns. Raises the refusals of `explore` that concern columns."""
    if not isinstance(table, pd.DataFrame):
        if not callable(getattr(table, "frame", None)):
            raise TypeError(
                f"table={type(table).__name__} is not a table: give a pandas DataFrame, or runs from train(...)."
            )
        table = table.frame()
    checks.one_of("kind", kind, ("line", "bar", "path", "dot"))
    if not len(table):
        raise ValueError("table has 0 rows: there is nothing to draw; check the filter that made it.")
    names = [str(c) for c in table.columns]
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise ValueError(f"table has two columns named {twice!r}; rename one of them.")
    band = None if isinstance(band, str) and band == "seed" and "seed" not in table.columns else band
    roles = Roles(kind, *(_listed(c) for c in (x, y, sliders, selects)), color, band)
    for role, columns in (("x", roles.xs), ("y", roles.ys)):
        if not columns:
            raise ValueError(f"{role}={columns!r} is empty: name at least one column for {role}.")
    for column in [*roles.xs, *roles.ys, *roles.coded, *roles.replicates]:
        if not isinstance(column, str | int) or column not in table.columns:
            raise ValueError(
                f"{checks.show(column)} is not a column of the table; the columns are {', '.join(names)}."
                f"{checks.nearest(column, names)}"
            )
    used = dict(sliders=roles.sliders, selects=roles.selects, color=[color], band=[band], x=roles.xs)
    seen: dict = {}
    for role, column in ((role, column) for role, columns in used.items() for column in columns):
        if column is not None and column in seen:
            raise ValueError(f"{role}={column!r} is already used by {seen[column]}; give each column one use.")
        seen[column] = role
    if kind == "path" and (len(roles.xs) > 1 or len(roles.ys) > 1):
        raise ValueError(f"kind='path' takes one column for x and one for y, got x={x!r} and y={y!r}; choose one each.")
    for role, columns in (("x", roles.xs), ("y", roles.ys)):
        for column in columns:
            if not pd.api.types.is_numeric_dtype(table[column]) and not (role == "x" and kind == "dot"):
                hint = "; for names along x use kind='dot'" if role == "x" else ""
                raise TypeError(f"{role}={column!r} holds text, not numbers: give a numeric column for {role}{hint}.")
    return table.reset_index(drop=True), roles


def _listed(columns) -> list:
    return list(columns) if isinstance(columns, (list, tuple)) else [columns]


def fraction(values: pd.Series, column) -> bool:
    """Is this an accuracy given as a fraction, so that it is shown in percent?"""
    if not str(column).endswith("accuracy"):
        return False
    values = pd.to_numeric(values).to_numpy(float)
    values = values[np.isfinite(values)]
    return bool(len(values)) and bool(np.abs(values).max() <= 1)


def plain(value):
    """A numpy scalar, NaN or None as a plain Python value (None stands for an empty value)."""
    if value is None or (not isinstance(value, (str, bytes)) and pd.api.types.is_scalar(value) and pd.isna(value)):
        return None
    value = value.item() if isinstance(value, np.generic) else value
    try:
        hash(value)
    except TypeError:
        return str(value)
    return value


def levels(column: pd.Series) -> tuple[np.ndarray, list]:
    """Return (code of each row, values): numbers ascending, anything else in order of appearance, None first."""
    each = [plain(v) for v in column]
    values = [v for v in dict.fromkeys(each) if v is not None]
    if all(isinstance(v, numbers.Real) for v in values):
        values = sorted(values)
    values = ([None] if None in each else []) + values
    at = {v: i for i, v in enumerate(values)}
    return np.array([at[v] for v in each]), values


def index(column, value, values, name: str) -> int:
    """Return the place of a value among the levels of its column. Raises ValueError when it is not there."""
    value = plain(value)
    for i, v in enumerate(values):
        if v == value and isinstance(v, bool) == isinstance(value, bool):
            return i
    listed = ", ".join(repr(v) for v in values[:20]) + (", …" if len(values) > 20 else "")
    hint = checks.nearest(value, [v for v in values if isinstance(v, str)]) if isinstance(value, str) else ""
    raise ValueError(f"{name}: {column}={value!r} is not in the table; choose one of {listed}.{hint}")
