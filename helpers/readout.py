"""The numbers behind a drawn figure: what its lines, points and bars show, as a table and as a CSV file."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from helpers import checks

SHOWN = 24  # rows of the table on the page; the file has them all
KEPT = 400  # rows of the file


def numbers(figures: Iterable[Figure]) -> pd.DataFrame:
    """One row per drawn point: figure (its title or number, where there are several), series, and the two axes' values.

    Lines, scatters and bars are read from the Axes; shading, guides across the whole figure and images are left out.
    An axis with names instead of numbers gives the names. Empty where nothing can be read.
    """
    axes = [ax for fig in figures for ax in fig.axes]
    frames = []
    for k, ax in enumerate(axes, 1):
        x, y = (ax.get_xlabel() or "x"), (ax.get_ylabel() or "y")
        for name, points in _series(ax):
            frame = pd.DataFrame({x: _named(ax.xaxis, points[:, 0]), y: _named(ax.yaxis, points[:, 1])})
            frame.insert(0, "series", name)
            if len(axes) > 1:
                frame.insert(0, "figure", ax.get_title(loc="left") or ax.get_title() or f"{k}")
            frames.append(frame)
    if not frames:
        return pd.DataFrame()
    table = pd.concat(frames, ignore_index=True)
    return table.drop(columns="series") if (table["series"] == "").all() else table


def _series(ax: Axes) -> Iterator[tuple[str, np.ndarray]]:
    for line in ax.lines:
        points = np.column_stack([np.asarray(v, dtype=float) for v in line.get_data(orig=False)])
        if line.get_transform() == ax.transData and len(points):  # a guide such as axhline has another transform
            yield _label(line.get_label()), points
    for bars in (c for c in ax.containers if isinstance(c, BarContainer)):
        upright = getattr(bars, "orientation", "vertical") == "vertical"
        ends = [(b.get_x() + b.get_width() / 2, b.get_y() + b.get_height()) for b in bars]
        across = [(b.get_x() + b.get_width(), b.get_y() + b.get_height() / 2) for b in bars]
        yield _label(bars.get_label()), np.array(ends if upright else across, dtype=float)
    for dots in (c for c in ax.collections if isinstance(c, PathCollection)):
        yield _label(dots.get_label()), np.ma.filled(np.ma.asarray(dots.get_offsets(), dtype=float), np.nan)


def _label(text: str) -> str:
    return "" if text.startswith("_") else text


def _named(axis, values: np.ndarray) -> list:
    """The names that a categorical axis shows for these values, or the values with four figures."""
    places = axis.get_majorticklocs()
    texts = [str(text) for text in axis.get_major_formatter().format_ticks(places)]
    if any(text and "$" not in text and not _number(text) for text in texts):
        names = {round(float(at), 6): text for at, text in zip(places, texts, strict=False) if text}
        return [names.get(round(float(v), 6)) or f"{v:.4g}" for v in values]
    return [float(f"{v:.4g}") for v in values]


def _number(text: str) -> bool:
    try:
        float(text.replace("\N{MINUS SIGN}", "-").replace(",", ""))
    except ValueError:
        return False
    return True


def fold(table: pd.DataFrame, title: str) -> str:
    """A folded HTML table of these numbers with a link to all of them as CSV; needs no script. Empty for no rows."""
    if not len(table):
        return ""
    full = table.iloc[np.unique(np.linspace(0, len(table) - 1, min(len(table), KEPT)).round().astype(int))]
    shown = full.iloc[np.unique(np.linspace(0, len(full) - 1, min(len(full), SHOWN)).round().astype(int))]
    file = full.rename(columns=lambda name: checks.inert(checks.visible(name))).map(checks.inert)
    code = base64.b64encode(checks.visible(file.to_csv(index=False)).encode()).decode()
    less = f" {len(shown)} of {len(full)} rows are shown; the file has all of them." if len(shown) < len(full) else ""
    heads = "".join(f'<th scope="col">{checks.escaped(c)}</th>' for c in shown)
    rows = "".join(
        "<tr>" + "".join(f"<td>{checks.escaped(_cell(v))}</td>" for v in row) + "</tr>"
        for row in shown.itertuples(index=False)
    )
    return (
        '<details class="tt-data"><summary>Table</summary>'
        f'<p><a download="figure.csv" href="data:text/csv;base64,{code}">Download CSV</a>{less}</p>'
        f'<div class="tt-scroll" tabindex="0" role="region" aria-label="{checks.escaped(title)}">'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _cell(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
