"""The explorer: one table of runs as a figure with sliders that needs no kernel and no network.

`explore(table, ...)` checks the table (`columns`), places its rows in a grid (`grid`), packs it into 16 bit numbers
(`axes`, `packing`, `spec`) and returns an `Explorer`. The same front end (`explorer.js`, `explorer.css`) has two hosts
(`host`): a custom element in `text/html` for published pages, JupyterLab, VS Code and Colab, and anywidget where
Python wants to read or set the choice. Without JavaScript a `picture` with alternative text (`wording`) stands there.
"""

from __future__ import annotations

import base64

import numpy as np
import pandas as pd

from helpers import checks
from helpers.explorer import columns, grid, host, packing, picture, spec, wording

__all__ = ["Explorer", "explore"]


def explore(
    table,
    *,
    x="epoch",
    y="val_accuracy",
    sliders=(),
    selects=(),
    color=None,
    band="seed",
    kind="line",
    title="",
    labels=None,
    start=None,
    xscale="linear",
    yscale="linear",
    xlim=None,
    ylim=None,
    background=None,
    finding=None,
    note="",
) -> Explorer:
    """Return the figure in which a reader moves through a table of runs.

    Args:
        table: a pandas DataFrame, or an object whose `.frame()` returns one (`Runs`).
        x: a column, or a list of columns between which the reader switches.
        y: a column, or a list of columns: one panel each.
        sliders, selects: columns that become sliders and choice boxes. Combinations may be missing.
        color: the column whose values are drawn together as lines (at most 12), or None.
        band: the column of replicates, or None; a table without a column "seed" may keep the default.
            The line is the mean over replicates, the band reaches from the lowest to the highest.
        kind: "line"; "bar" (a histogram: x is the bin centre, y its height); "path" (x and y are the
            coordinates of a trajectory, in the order of the rows); "dot" (x may be text).
        title, note: the heading, and one line of provenance under the figure.
        labels: {column: label with unit}.
        start: {column: value} at which the controls stand first; else the middle of each slider and
            the first entry of each select.
        xscale, yscale: "linear" or "log", or {column: scale}. On "log", values <= 0 are left out.
        xlim, ylim: (low, high) in the units shown, or {column: (low, high)}; else the range over all settings.
        background: for "path", {value of the first select, or None for all: {"png": bytes,
            "extent": (x0, x1, y0, y1)}}: a picture under the path, which also sets the axes.
        finding: a function(rows of the start state) -> the sentence that opens the alternative text.

    Columns that end in "accuracy" and hold fractions are shown in percent (limits within 0..1 follow).
    Values are kept to 1/65533 of the range of their column.

    Raises ValueError or TypeError, one sentence each: an unknown column, an empty table, text where
    numbers are needed, a column used twice, several rows for one point, too many lines or numbers.
    """
    for name, value in (("title", title), ("note", note)):
        checks.text(name, value)
    for name, value in (("labels", labels), ("start", start), ("background", background)):
        checks.kind(name, value, dict | None, "a dict, or None")
    if finding is not None:
        checks.function("finding", finding, "lambda rows: 'He is highest.'")
    table, roles = columns.read(table, kind=kind, x=x, y=y, sliders=sliders, selects=selects, color=color, band=band)
    placed = grid.place(table, roles)
    made, decoded = spec.make(
        table,
        roles,
        placed,
        title=title,
        labels=labels or {},
        start=start or {},
        scales={"x": xscale, "y": yscale},
        limits={"x": xlim, "y": ylim},
        background=background,
        note=note,
    )
    levels = {c: placed.levels[c] for c in roles.controls}
    return Explorer(made, decoded, levels, spec.start_rows(table, roles, placed, made["start"]), finding)


class Explorer:
    """A figure with controls. Show it as the last line of a cell; `explore` makes it.

    Attributes:
        spec: the dict that the page reads (JSON): controls, axes, packed numbers.
        state: {control column: value} at which the figure starts.
        values: what the figure shows at the start, a DataFrame with every x.
    """

    def __init__(self, spec: dict, decoded: list[np.ndarray], levels: dict, start_rows: pd.DataFrame, finding):
        self.spec = spec
        self.state = {c: values[i] for (c, values), i in zip(levels.items(), spec["start"], strict=True)}
        self._decoded, self._levels, self._start_rows, self._finding = decoded, levels, start_rows, finding

    def at(self, **state) -> pd.DataFrame:
        """Return what the table of the page shows at a state: `at(lr=0.1, init="he")`.

        Controls that are not named stay where they start; `x="seconds"` switches the axis. A row per x
        (about 25 of them) and line; the mean, lowest and highest value and the number of replicates.
        Raises TypeError for an unknown control, ValueError for a value that the table does not have.
        """
        return self._frame(state, self.spec["rows"])

    def full(self, **state) -> pd.DataFrame:
        """Return what the page's "Download CSV" holds at a state: as `at`, with every x."""
        return self._frame(state, range(self.spec["points"]))

    @property
    def values(self) -> pd.DataFrame:
        return self.full()

    def widget(self):
        """Return the same figure as an anywidget with the traits `spec` and `choice` ({column: value}).

        `choice` follows the controls, and setting it moves them. Raises ImportError without anywidget.
        """
        return host.widget(self.spec)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        png = base64.b64encode(picture.png(self.spec, self._decoded)).decode()
        finding = self._sentence()
        setting = f" ({wording.settings(self.spec)})" if self.state else ""
        plain = f"<Explorer: {self.spec['title']}{setting}. {finding}>"
        return {"text/html": host.page(self.spec, finding, png), "image/png": png, "text/plain": plain}

    def _sentence(self) -> str:
        if self._finding is not None:
            return checks.text("finding(rows)", self._finding(self._start_rows), empty=False)
        return wording.sentence(self.spec, self.values)

    def _select(self, state: dict) -> tuple[tuple[int, ...], dict]:
        """Return (index of each control, the x axis) of a state given by name."""
        state, axes = dict(state), {a["column"]: a for a in self.spec["x"]}
        axis = self.spec["x"][0]
        if "x" in state and "x" not in self._levels:
            axis = axes[checks.one_of("x", state.pop("x"), axes)]
        checks.known("control", [c for c in state if c not in self._levels], self._levels)
        full = self.state | state
        return tuple(columns.index(c, full[c], values, "state") for c, values in self._levels.items()), axis

    def _frame(self, state: dict, points) -> pd.DataFrame:
        cell, x = self._select(state)
        spec = self.spec
        color, band, path = spec["color"], spec["band"], spec["kind"] == "path"
        parts = []
        for line, name in enumerate(color["names"] if color else [None]):
            at = (*cell, line)
            part = {"point": np.arange(1, spec["points"] + 1)} if path else {}
            part[x["label"]] = x["names"] if "names" in x else packing.along(x, self._decoded, at)
            if color:
                part[color["label"]] = name
            ran = np.zeros(spec["points"], bool)
            for y in spec["y"]:
                values = self._decoded[y["field"]][at]
                ran |= ~np.isnan(values).all(0)
                stats = packing.summary(values)
                part[y["label"]] = stats["mean"]
                shown = ["lowest", "highest"] if band and not path else []
                for key in [*shown, *(["n"] if band else []), *(["diverged"] if spec["diverged"] else [])]:
                    heading = f"{band['label']}s" if key == "n" else key
                    part[wording.heading(spec, y, heading)] = stats[key]
            parts.append(pd.DataFrame(part)[ran])
        frame = pd.concat(parts)
        return frame[frame.index.isin(points)].sort_index(kind="stable").reset_index(drop=True)
