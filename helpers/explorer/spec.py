"""The spec: all that the page reads, as one dict that JSON can hold."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re

import numpy as np
import pandas as pd

from helpers import checks
from helpers.explorer import columns, packing, wording
from helpers.explorer.axes import Axes
from helpers.explorer.columns import Roles
from helpers.explorer.grid import Grid

TABLE_ROWS = 25


def make(table, roles: Roles, grid: Grid, *, title, labels, start, scales, limits, background, note):
    """Return (the spec, the decoded fields). Raises the refusals of `explore` that concern settings and size."""
    first = roles.xs[0]
    packing.fits(math.prod(grid.shape) * (len(roles.ys) + 1) * 8 / 3, first)
    named = {c: wording.label(c, labels) for c in table.columns}
    axes = Axes(table, roles, grid, named, scales, limits)
    title = checks.visible(title) or f"{checks.capital(axes.y[0]['label'])} by {axes.x[0]['label']}"
    *_, replicates, points = grid.shape
    spec = {
        "title": title,
        "kind": roles.kind,
        "controls": [_control(c, named[c], c in roles.sliders, grid.levels[c]) for c in roles.controls],
        "color": None if roles.color is None else wording.legend(named[roles.color], grid.levels[roles.color]),
        "band": None if roles.band is None else {"label": named[roles.band], "n": replicates},
        "x": axes.x,
        "y": axes.y,
        "points": points,
        "rows": sorted({round(i) for i in np.linspace(0, points - 1, min(points, TABLE_ROWS))}),
        "diverged": any(np.isinf(axes.decoded[a["field"]]).any() for a in axes.y),
        "shape": grid.shape,
        "fields": axes.fields,
        "start": _start(roles, grid, start),
        "background": _backgrounds(roles, grid, background),
        "note": checks.visible(note),
    }
    text = as_json(spec)
    packing.fits(len(text), first)
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:32].strip("-") or "figure"
    spec["id"] = f"{slug}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
    return spec, axes.decoded


def as_json(spec: dict) -> str:
    """The spec as the page reads it: JSON without spaces."""
    return json.dumps(spec, separators=(",", ":"), ensure_ascii=False)


def start_rows(table: pd.DataFrame, roles: Roles, grid: Grid, start: list[int]) -> pd.DataFrame:
    """The rows of the table at the setting where the figure starts."""
    there = np.ones(len(table), bool)
    for codes, i in zip(grid.where, start, strict=False):  # the controls come first in `where`
        there &= codes == i
    return table[there].reset_index(drop=True)


def _control(column, label, slides, levels) -> dict:
    return {
        "column": checks.visible(column),
        "label": label,
        "type": "range" if slides else "select",
        "values": [v if isinstance(v, (int, float, type(None))) else checks.visible(v) for v in levels],
        "names": [wording.name(v) for v in levels],
    }


def _start(roles, grid, start) -> list[int]:
    """The level of each control at first: as told, else the middle of a slider, the first entry of a select."""
    checks.known("control", [c for c in start if c not in roles.controls], roles.controls)
    found = {c: (len(grid.levels[c]) - 1) // 2 for c in roles.sliders} | dict.fromkeys(roles.selects, 0)
    return [columns.index(c, start[c], grid.levels[c], "start") if c in start else i for c, i in found.items()]


def _backgrounds(roles, grid, background) -> dict | None:
    if not background:
        return None
    if roles.kind != "path":
        raise ValueError(f"background= goes with kind='path' only, not kind={roles.kind!r}; leave it out.")
    first = roles.selects[0] if roles.selects else None
    found = {}
    for value, picture in background.items():
        if not isinstance(picture, dict) or not {"png", "extent"} <= set(picture):
            raise ValueError(
                f"background[{value!r}] is not a picture: give {{'png': bytes, 'extent': (x0, x1, y0, y1)}}."
            )
        extent = checks.several("extent", picture["extent"], "(-2, 2, -1, 1)")
        for side in extent:
            checks.number("extent", side)
        if len(extent) != 4 or not (extent[0] < extent[1] and extent[2] < extent[3]):
            raise ValueError(f"extent={extent!r} of background[{value!r}] is no window: give (x0, x1, y0, y1).")
        if not isinstance(picture["png"], bytes) or picture["png"][:8] != b"\x89PNG\r\n\x1a\n":
            raise ValueError(f"background[{value!r}]['png'] is not the bytes of a PNG; surface_background makes them.")
        if value is not None and first is None:
            raise ValueError(f"background={value!r}: there are no selects to choose by; use the key None for all.")
        i = "all" if value is None else str(columns.index(first, value, grid.levels[first], "background"))
        href = "data:image/png;base64," + base64.b64encode(picture["png"]).decode()
        found[i] = {"href": href, "extent": [float(v) for v in picture["extent"]]}
    return {"control": None if first is None else roles.controls.index(first), "pictures": found}
