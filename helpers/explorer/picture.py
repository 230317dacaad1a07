"""The start of an explorer as a PNG, for readers without JavaScript. The same bytes each time: no date, no version."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from PIL import Image

from helpers import plots
from helpers.explorer import packing, wording

MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # as in explorer.js; the dashes there are those of plots


def png(spec: dict, decoded: list[np.ndarray]) -> bytes:
    """Draw every panel at the start of the controls."""
    panels = len(spec["y"])
    columns = min(panels, 2)
    rows = math.ceil(panels / columns)
    fig = Figure(figsize=(7.6, 4.2 if panels == 1 else 3.2 * rows), layout="constrained")
    grid = fig.subplots(rows, columns, squeeze=False).ravel()
    handles: dict = {}
    for a, ax in zip(spec["y"], grid, strict=False):
        handles |= _panel(ax, spec, decoded, a)
    for ax in grid[panels:]:
        ax.set_visible(False)
    if spec["color"] and handles:
        look = dict(loc="outside right upper", frameon=False, handlelength=3.2)
        box = fig.legend(handles.values(), handles.keys(), title=spec["color"]["label"], **look)
        for text in (*box.get_texts(), box.get_title()):
            text.set_parse_math(False)
    fig.suptitle(spec["title"], x=0.01, ha="left", fontsize=12, fontweight="bold", parse_math=False)
    out, small = io.BytesIO(), io.BytesIO()
    fig.savefig(out, format="png", dpi=120)
    Image.open(out).convert("RGB").quantize(64).save(small, "png", optimize=True)
    return small.getvalue()


def _panel(ax, spec, decoded, y) -> dict:
    """Draw one y and return {name of a line: what the legend shows for it}."""
    x, handles = spec["x"][0], {}
    extent = _background(ax, spec)
    for line, name in enumerate(spec["color"]["names"] if spec["color"] else [None]):
        at = (*spec["start"], line)
        stats = packing.summary(decoded[y["field"]][at])
        if stats["n"].any():
            handles[name] = _line(ax, spec, line, packing.along(x, decoded, at).astype(float), stats)
    ax.set_title(y["label"], loc="left", fontsize=10, parse_math=False)
    ax.set_xlabel(x["label"], fontsize=10, parse_math=False)
    for a, which in ((x, "x"), (y, "y")):
        if a["log"]:
            getattr(ax, f"set_{which}scale")("log")
            ruler = getattr(ax, f"{which}axis")
            ruler.set_major_locator(LogLocator(subs=(1, 2, 5) if a["lim"][1] < 200 * a["lim"][0] else (1,)))
            ruler.set_major_formatter(lambda value, _: wording.number(float(value), None))
            ruler.set_minor_formatter(NullFormatter())
    ax.set_xlim(*(extent[:2] if extent else x["lim"]))
    ax.set_ylim(*(extent[2:] if extent else y["lim"]))
    if "names" in x:
        ax.set_xticks(x["values"], x["names"], rotation=30 if sum(map(len, x["names"])) > 50 else 0, parse_math=False)
    ax.grid(True, color="#e3e3e3", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    return handles


def _line(ax, spec, line, x, stats):
    mean, low, high = stats["mean"], stats["lowest"], stats["highest"]
    colour, marker = plots.PALETTE[line % 7], MARKERS[(line + line // 7) % 7]
    style = dict(color=colour, linestyle=plots.DASHES[(line + line // 7 * 3) % 7], linewidth=2)
    if spec["kind"] == "dot":
        lines = spec["shape"][-3]
        x = x + (line - (lines - 1) / 2) * 0.06 * ("names" in spec["x"][0])
        ax.vlines(x, low, high, color=colour, linewidth=1.6)
        return ax.plot(x, mean, marker, color=colour, markersize=7)[0]
    if spec["kind"] == "path":
        ax.plot(x, mean, color="white", linewidth=4, alpha=0.8)
        (handle,) = ax.plot(x, mean, **style)
        good = np.flatnonzero(np.isfinite(mean) & np.isfinite(x))
        if len(good):
            ax.plot(x[good[0]], mean[good[0]], "o", color=colour, markerfacecolor="white", markersize=8)
            ax.plot(x[good[-1]], mean[good[-1]], marker, color=colour, markersize=8)
        return handle
    if spec["kind"] == "bar":
        ax.fill_between(x, 0, mean, step="mid", color=colour, alpha=0.14, linewidth=0)
        return ax.step(x, mean, where="mid", **style)[0]
    ax.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0)
    return ax.plot(x, mean, marker=marker, markevery=max(1, len(x) // 6), markersize=5, **style)[0]


def _background(ax, spec):
    """Lay the picture of the setting under the path and return its extent; None where there is none."""
    there = spec["background"]
    if not there:
        return None
    i = "all" if there["control"] is None else str(spec["start"][there["control"]])
    picture = there["pictures"].get(i) or there["pictures"].get("all")
    if not picture:
        return None
    image = Image.open(io.BytesIO(base64.b64decode(picture["href"].split(",", 1)[1]))).convert("RGBA")
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image)
    ax.imshow(np.asarray(page.convert("RGB")), extent=picture["extent"], aspect="auto", origin="upper")
    return picture["extent"]
