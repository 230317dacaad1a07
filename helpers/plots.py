"""Pictures: a table in, matplotlib Axes out. `picture` turns them into an output with its finding as alt text.

Lines differ by colour *and* dash, so that colour is never the only sign. The pictures are SVG whose text and axes take
the colour of the page, so that they are readable on light and dark.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from PIL import Image

from helpers import checks, readout, splits, surfaces
from helpers.compare import Comparison

INK, RULE = "#101213", "#d0d7d1"  # stand for the page's text and line colours, see _themed
# The hues of Okabe & Ito (2008); three are darker, so that each reaches 3:1 on a white page and on a dark one.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#C970A1", "#1C95D9", "#BC8200", INK)
DASHES = ("-", *((0, d) for d in ((7, 3), (2, 2.5), (9, 3, 2, 3), (5, 2, 2, 2, 2, 2), (12, 4), (1, 2, 5, 2))))
STYLE = {
    "font.size": 12,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "svg.fonttype": "none",
    "svg.hashsalt": "training-tricks",
}
LABELS = {
    "epoch": "epoch",
    "val_accuracy": "validation accuracy (%)",
    "train_accuracy": "training accuracy (%)",
    "val_loss": "validation loss",
    "train_loss": "training loss",
    "lr": "learning rate",
    "signal": "signal: root mean square",
    "gradient": "gradient: root mean square",
    "layer": "layer",
}


def figure(panels: int = 1, *, width: float | None = None, height: float = 3.2) -> Axes | tuple[Axes, ...]:
    """Empty Axes in the style of the book; with several panels a tuple, each Axes in a figure of its own.

    `picture` sets panels side by side where there is room and under one another on a phone. Sizes in inches.
    """
    checks.integer("panels", panels, low=1, high=6, try_="2")
    for name, inches in (("width", width), ("height", height)):
        if inches is not None or name == "height":
            checks.number(name, inches, low=0.5, high=50, try_="4.0")
    with matplotlib.rc_context(STYLE):
        size = (width or (5.2 if panels == 1 else 4.0), height)
        axes = tuple(Figure(figsize=size, layout="constrained").subplots() for _ in range(panels))
    return axes if panels > 1 else axes[0]


def _frame(table) -> pd.DataFrame:
    table = table.frame() if callable(getattr(table, "frame", None)) else table
    return checks.kind("table", table, pd.DataFrame, "Runs or a pandas DataFrame")


def _axes(name: str, ax) -> Axes:
    return checks.kind(name, ax, Axes, "matplotlib Axes; h.figure() makes them")


def plot_lines(
    table, *, x: str, y: str, color: str | None = None, ax: Axes | None = None, logx=False, logy=False, legend=True
) -> Axes:
    """Mean over seeds of y against x with the range of the seeds, one line for each value of `color`.

    `table` is Runs or a DataFrame with the columns named; accuracies are drawn in percent. Raises TypeError for a
    column that is not there.
    """
    frame, ax = _frame(table), figure() if ax is None else _axes("ax", ax)
    checks.known("column", [x, y, *([] if color is None else [color])], frame.columns)
    checks.known("column of numbers", [y], frame.select_dtypes(["number", "bool"]).columns)
    for name, value in (("logx", logx), ("logy", logy), ("legend", legend)):
        checks.flag(name, value)
    if not len(frame):
        raise ValueError("table has 0 rows: there is nothing to draw; check the filter that made it.")
    k = 100 if y.endswith("accuracy") else 1
    groups = [("", frame)] if color is None else frame.groupby(color, sort=False, dropna=False)
    with matplotlib.rc_context(STYLE):
        for i, (name, group) in enumerate(groups):
            by = group.groupby(x)[y]
            mean, low, high = k * by.mean(), k * by.min(), k * by.max()
            ax.fill_between(mean.index, low, high, color=PALETTE[i % 7], alpha=0.18, linewidth=0)
            ax.plot(mean.index, mean, color=PALETTE[i % 7], linestyle=DASHES[i % 7], label=checks.visible(name))
        ax.set_xlabel(LABELS.get(x, x.replace("_", " ")), parse_math=False)
        ax.set_ylabel(LABELS.get(y, y.replace("_", " ")), parse_math=False)
        if logx:
            ax.set_xscale("log")
        if logy:
            ax.set_yscale("log")
        if color is not None and legend:
            add_legend(ax, title=LABELS.get(color, color.replace("_", " ")))
    return ax


def add_legend(ax: Axes, **look) -> None:
    """The legend of these Axes, its words as they are: a $ in a name begins no formula."""
    box = _axes("ax", ax).legend(**look)
    for text in (*box.get_texts(), box.get_title()):
        text.set_parse_math(False)


def plot_curves(runs, *, y: str = "val_accuracy", color: str | None = None, ax: Axes | None = None) -> Axes:
    """Training curves: y by epoch, mean and range over seeds, one line for each value of `color`."""
    return plot_lines(runs, x="epoch", y=y, color=color, ax=ax)


def plot_differences(comparison, *, ax: Axes | None = None) -> Axes:
    """The first arm minus each other: a dot for every seed, a bar for the 95 % interval, a diamond for the mean."""
    checks.kind("comparison", comparison, Comparison, "a Comparison, as compare(...) returns it")
    ax = figure(height=0.6 + 0.55 * len(comparison.arms)) if ax is None else _axes("ax", ax)
    first, others = comparison.arms[0], comparison.arms[1:]
    share = comparison.score.endswith("accuracy")
    k, sign = (100 if share else 1), (1 if comparison.higher_is_better else -1)
    with matplotlib.rc_context(STYLE):
        for row, arm in enumerate(others):
            i = comparison.interval(first, arm)
            each = sign * k * (comparison.scores[first] - comparison.scores[arm])
            ax.plot(each, np.full(len(each), row), "o", color=PALETTE[row % 7], alpha=0.35, markersize=5)
            ax.plot([k * i.low, k * i.high], [row, row], color=PALETTE[row % 7], linewidth=4, solid_capstyle="butt")
            ax.plot([k * i.mean], [row], "D", color=INK, markersize=6)
        ax.axvspan(-k * comparison.margin, k * comparison.margin, color=RULE, alpha=0.6, linewidth=0)
        ax.axvline(0, color=INK, linewidth=1)
        ax.set_yticks(range(len(others)), [f"{first} − {arm}" for arm in others], parse_math=False)
        ax.set(
            ylim=(len(others) - 0.5, -0.5),
            xlabel=f"difference in {comparison.score.replace('_', ' ')}" + " (points)" * share,
        )
    return ax


def plot_images(images, titles: Sequence[str] = (), *, columns: int = 8) -> Axes:
    """A sheet of grey images (n, h, w) or (n, 1, h, w), with a title over each when given. Returns the last Axes."""
    images = splits.array("images", images)
    images = images[:, 0] if images.ndim == 4 and images.shape[1] == 1 else images
    checks.integer("columns", columns, low=1, high=64, try_="8")
    titles = checks.several("titles", titles, "['a', 'b']", empty=True)
    if images.ndim != 3 or 0 in images.shape or images.dtype.kind not in "fiub":
        told = f"images has shape {images.shape} and dtype {images.dtype}"
        raise ValueError(f"{told}; give grey images, numbers of shape (n, height, width).")
    if not np.isfinite(images).all():
        raise ValueError("images holds NaN or infinite numbers; mend them before you draw.")
    if titles and len(titles) != len(images):
        raise ValueError(f"titles has {len(titles)} entries for {len(images)} images; give one for each, or none.")
    rows = -(-len(images) // columns)
    fig = Figure(figsize=(5.2, rows * (5.2 / columns + 0.22 * bool(len(titles)))), layout="constrained")
    for i, image in enumerate(images):
        ax = fig.add_subplot(rows, columns, i + 1)
        ax.imshow(image, cmap="gray", interpolation="nearest")
        ax.axis("off")
        if len(titles):
            ax.set_title(str(titles[i]), fontsize=9, color=INK, parse_math=False)
    return ax


def surface_background(name: str) -> dict:
    """Contours of log f of a surface, for the explorer of paths: {"png": bytes, "extent": (x0, x1, y0, y1)}."""
    place = surfaces.SURFACES[checks.one_of("surface", name, surfaces.SURFACES)]
    x0, x1, y0, y1 = place.window
    xs, ys = np.meshgrid(np.linspace(x0, x1, 240), np.linspace(y0, y1, 160))
    z = place.f(xs, ys)
    z = np.log10(z - z.min() + 10**-1.5)
    fig = Figure(figsize=(6, 4), dpi=64)
    ax = fig.add_axes((0, 0, 1, 1))
    ax.contourf(xs, ys, z, levels=14, cmap="Greys_r", alpha=0.55)
    ax.contour(xs, ys, z, levels=14, colors="#555555", linewidths=0.5)
    if place.lowest:
        ax.plot(*place.lowest, "*", color=PALETTE[5], markersize=16, markeredgecolor="black")
    ax.axis("off")
    out = io.BytesIO()
    fig.savefig(out, format="png", transparent=True)
    return {"png": out.getvalue(), "extent": (x0, x1, y0, y1)}


@dataclass(frozen=True)
class Picture:
    """One or more figures with the finding that they show (alt text and caption) and a line of provenance."""

    figures: tuple[Figure, ...]
    finding: str
    note: str = ""

    def svg(self) -> str:
        """The figures as inline SVG that takes its ink from the page. The first one carries the alt text."""
        drawn = []
        for fig in self.figures:
            out = io.StringIO()
            with matplotlib.rc_context(STYLE):
                fig.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
            fig.set_layout_engine("none")  # it is laid out now; the PNG need not do it again
            drawn.append(_themed(out.getvalue(), "" if drawn else self.finding))
        return "".join(drawn)

    def png(self) -> bytes:
        """All figures in one PNG on white, side by side: for print and for hosts that show no HTML."""
        images = []
        for fig in self.figures:
            out = io.BytesIO()
            fig.savefig(out, format="png", dpi=90, facecolor="white")
            images.append(Image.open(out).convert("RGB"))
        sheet = Image.new("RGB", (sum(i.width for i in images), max(i.height for i in images)), "white")
        for k, image in enumerate(images):
            sheet.paste(image, (sum(i.width for i in images[:k]), 0))
        out = io.BytesIO()
        sheet.quantize(64).save(out, "png", optimize=True)
        return out.getvalue()

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        note = f'<p class="tt-note">{checks.escaped(self.note)}</p>' if self.note else ""
        body = f'<div class="tt-panels">{self.svg()}</div><figcaption>{checks.escaped(self.finding)}</figcaption>'
        table = readout.fold(readout.numbers(self.figures), "the numbers of this figure")
        return {
            "text/html": f'<figure class="tt-picture">{body}{note}{table}</figure>',
            "image/png": base64.b64encode(self.png()).decode(),
            "text/plain": self.finding,
        }


def picture(axes: Axes | Sequence[Axes], finding: str, note: str = "") -> Picture:
    """The last word of a cell: `picture(ax, "He keeps its scale; Xavier loses a third per layer.", runs.provenance())`.

    `finding` is one sentence that says what can be seen, with its numbers. Raises ValueError when it is too short.
    """
    if not isinstance(finding, str) or len(finding.strip()) < 20:
        raise ValueError(
            f"finding={checks.show(finding)} is not allowed: say in a sentence what the figure shows; it is its alt "
            f"text."
        )
    axes = checks.several("axes", [axes] if isinstance(axes, Axes) else axes, "h.figure(2)")
    figures = dict.fromkeys(_axes("axes", ax).figure for ax in axes)
    for fig in figures:
        _restyle(fig)
    return Picture(tuple(figures), finding.strip(), checks.text("note", note))


def _restyle(fig: Figure) -> None:
    """What was added to the figure since it was made, such as a legend, in colours that a dark page can turn round."""
    for box in fig.findobj(Legend):
        box.set_frame_on(False)
    for text in fig.findobj(lambda artist: isinstance(artist, Text) and artist.get_color() == "black"):
        text.set_color(INK)


def _themed(svg: str, alt: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    width, height = (float(v) for v in re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups())
    role = f'role="img" aria-label="{checks.escaped(alt)}"' if alt else 'aria-hidden="true"'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{role} viewBox="0 0 {width:g} {height:g}" '
        f'style="width:100%;max-width:{width:.0f}pt;height:auto">'
    )
    svg = re.sub(r"<[^>]*>", _retouched, svg[svg.index(">") + 1 :])  # tags alone: the words stay as they are
    return checks.visible(head + svg)


def _retouched(tag: re.Match) -> str:
    tag = re.sub(r"font: ([^;\"]*?)'[^\"]*?'[^;\"]*", r"font: \1system-ui, sans-serif", tag[0])
    tag = re.sub(r"(\d\.\d\d)\d+", r"\1", tag)
    # in the course of a line a tenth of a point is finer than any screen
    tag = re.sub(r'\bd="[^"]*"', lambda path: re.sub(r"(\d)\.(\d)\d+", r"\1.\2", path[0]).replace(".0 ", " "), tag)
    return tag.replace(INK, "currentColor").replace(RULE, "color-mix(in srgb, currentColor 22%, transparent)")
