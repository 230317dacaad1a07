"""The Train panel: train new models at any setting you pick, drawn over the recorded curves while they train.

It trains in a thread of its own, so that the buttons answer meanwhile. A published page shows a plain box instead.
"""

from __future__ import annotations

import math
import numbers
import threading
import time
from types import SimpleNamespace

import anywidget
import ipywidgets as W
import matplotlib
import numpy as np
from IPython import get_ipython

from helpers import checks, engine, plots
from helpers.data import Dataset
from helpers.recipe import FIELDS, Recipe
from helpers.runs import Runs

KEEP, EVERY = 4, 0.25  # trained settings that stay in the chart; seconds between two drawings
SCORES = ("val_accuracy", "val_loss", "train_accuracy", "train_loss")


def train_panel(base, data, *, fields, recorded=None, y="val_accuracy", seeds=8, title="Train") -> TrainPanel:
    """A panel that trains `base` with the fields the reader sets, and draws the curves as they come.

    base : Recipe; data : Dataset; fields : {"lr": [0.01, 0.1], "init": ["he", "zero"]}, the fields offered and their
    choices; recorded : Runs to lay below, those nearest to the setting are drawn; y : the score drawn, one of SCORES
    (accuracies in percent); seeds : runs for each training, 1 to 64; title : the heading.
    Raises TypeError or ValueError with one sentence for bad input.
    """
    kinds = (("base", base, Recipe, "Recipe"), ("data", data, Dataset, "load"), ("recorded", recorded, Runs, "train"))
    for name, value, kind, maker in kinds:
        if not isinstance(value, kind) and not (name == "recorded" and value is None):
            raise TypeError(f"{name} must be {kind.__name__}, got {type(value).__name__}; {maker}(...) makes it.")
    checks.one_of("y", y, SCORES), checks.text("title", title, empty=False)
    checks.integer("seeds", seeds, low=1, high=64, try_="8")
    if not isinstance(fields, dict) or not fields or "seed" in fields:
        told = f"fields={checks.show(fields)} is not allowed"
        raise ValueError(f"{told}: give fields but seed, such as {{'lr': [0.1, 1.0]}}.")
    fields = {name: list(v) if isinstance(v, list | tuple | range) else [v] for name, v in fields.items()}
    checks.known("field of Recipe", fields, FIELDS)
    for name, values in fields.items():
        checks.once(f"fields[{name!r}]", values)
    base.vary(**fields)  # a Recipe says what is wrong with a field, a value, or two values together
    return TrainPanel(base, data, fields, recorded if recorded is not None and len(recorded) else None, y, seeds, title)


class TrainPanel:
    """What `train_panel` returns. `history` has the trainings drawn, `runs` the last completed one's Runs, `running`
    says whether one goes on, `error` is the exception that ended the last one, or None."""

    def __init__(self, base, data, fields, recorded, y, seeds, title):
        self.base, self.data, self.recorded, self.y, self.title = base, data, recorded, y, title
        self.fields = {name: list(dict.fromkeys(values)) for name, values in fields.items()}
        self.history, self.runs, self.error = [], None, None
        self._lock, self._pen, self._halt, self._thread = threading.Lock(), threading.Lock(), threading.Event(), None
        self.controls, style = {}, {"description_width": "initial"}
        for name, values in self.fields.items():
            kind = W.SelectionSlider if all(isinstance(v, numbers.Real) for v in values) else W.Dropdown
            at = values.index(getattr(base, name)) if getattr(base, name) in values else 0
            options = [_text(name, v) for v in values]
            control = self.controls[name] = kind(options=options, index=at, description=_label(name), style=style)
            control.observe(lambda _: self._draw(), "index")
        self.seeds = W.BoundedIntText(seeds, min=1, max=64, description="seeds", style=style, layout={"width": "8rem"})
        self.buttons = {name: W.Button(description=name) for name in ("Train", "Stop", "Clear")}
        for button, act in zip(self.buttons.values(), (self.train, self.stop, self.clear), strict=True):
            button.on_click(lambda _, act=act: act())
        self.buttons["Train"].button_style = "primary"
        self.bar, self.count, self.chart, self.result = W.IntProgress(max=1), W.HTML(), W.HTML(), W.HTML()
        rows = [*self.controls.values(), self.seeds], [*self.buttons.values(), self.bar, self.count, Attendant()]
        rows = [W.Box(row, layout={"flex_flow": "row wrap", "align_items": "center"}) for row in rows]
        self.view = W.VBox([W.HTML(f"<b>{checks.escaped(title)}</b>"), *rows, self.chart, self.result])
        self.view.add_class("tt-live")
        self._run(False)
        self._draw()

    def train(self) -> None:
        """Train at the setting of the controls. Returns at once; while a training runs a second call does nothing."""
        with self._lock:
            if self.running:
                return
            self._run(True)
        self.error, self.result.value = None, ""
        self._halt.clear()
        # a daemon: closing the notebook does not wait for it
        self._thread = threading.Thread(target=self._work, args=(self._recipe(), self.seeds.value), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the training after its present step; the epochs that it has so far stay in the chart."""
        self._halt.set()

    def wait(self, timeout: float | None = None) -> Runs | None:
        """Wait for the end of the training, at most `timeout` seconds. Returns the last completed Runs, or None."""
        if self._thread is not None:
            self._thread.join(timeout)
        return self.runs

    def clear(self) -> None:
        """Take the trained curves out of the chart; the recorded ones stay."""
        if not self.running:
            self.history, self.bar.value, self.count.value, self.result.value = [], 0, "", ""
            self._draw()

    def _work(self, recipe: Recipe, seeds: int) -> None:
        started, chunks, again = time.perf_counter(), {}, 0.0
        try:
            others = [t for t in self.history if t.recipe != recipe][1 - KEEP :]  # the same setting replaces itself
            name = ", ".join(f"{_label(f)} {_text(f, getattr(recipe, f))}" for f in self.fields)
            slot, total = min(set(range(KEEP)) - {t.slot for t in others}), recipe.epochs * seeds
            mine = SimpleNamespace(recipe=recipe, name=name, slot=slot, runs=Runs.empty())
            self.history, self.bar.value, self.bar.max = [*others, mine], 0, total

            def show():
                nonlocal again
                seconds, curves = time.perf_counter() - started, sum(chunks.values(), [])
                recipes = [recipe.but(seed=i) for i in range(len(curves))]
                mine.runs = Runs.from_curves(recipes, curves, self.data, engine.pick_device("auto"))
                done = self.bar.value = len(mine.runs.curves)
                left = f", about {seconds * (total / done - 1):.0f} s left" if done < total else ""
                self.count.value = f"{done} of {total} epochs ({seeds} runs), {seconds:.1f} s{left}"
                self._draw()
                now = time.perf_counter() - started
                again = now + max(EVERY, 2 * (now - seconds))  # a busy machine draws less often

            def watch(now):
                # `curves` are those of the stack in hand; what was done before it tells the stacks apart
                chunks[now["done"] - sum(map(len, now["curves"]))] = now["curves"]
                if time.perf_counter() - started > again or now["done"] == total:
                    show()

            runs = engine.train(recipe, self.data, seeds=seeds, watch=watch, stop=self._halt.is_set)
            if len(runs) < seeds:
                show()  # stopped: with the epochs since the last drawing
            self.runs = runs if len(runs) == seeds else self.runs
            said = checks.escaped(_outcome(mine, total, self.y, time.perf_counter() - started))
            self.result.value = f'<p role="status">{said}</p>'
        except Exception as error:  # a thread has no cell to show it in: the panel shows it and keeps it
            self.error, self.history = error, [t for t in self.history if len(t.runs)]
            kind = "" if isinstance(error, TypeError | ValueError) else f"{type(error).__name__}: "
            text = checks.escaped(kind + str(error).strip().partition("\n")[0])
            self.result.value = f'<p role="alert"><b>The training ended with an error.</b> {text}</p>'
        finally:
            self._run(False)

    def _run(self, running: bool) -> None:
        self.running = running
        for name, button in self.buttons.items():
            button.disabled = running != (name == "Stop")

    def _recipe(self) -> Recipe:
        return self.base.but(**{name: values[self.controls[name].index] for name, values in self.fields.items()})

    def _draw(self) -> None:
        with self._pen, matplotlib.rc_context(plots.STYLE):  # the training thread and the controls both draw
            lines, k, label = [], 100 if self.y.endswith("accuracy") else 1, plots.LABELS[self.y]
            if self.recorded is not None:
                near, apart = nearest_recorded(self.recorded, self._recipe())
                name = f"recorded, nearest: {', '.join(apart)}" if apart else "recorded"
                lines.append((name, near.curves, "#7f7f7f", (0, (4, 3))))
            trained = [t for t in self.history if len(t.runs)]
            lines += [(t.name, t.runs.curves, plots.PALETTE[t.slot], plots.DASHES[t.slot]) for t in trained]
            ax, told, last = plots.figure(width=6.4, height=2.8 + 0.24 * len(lines)), [], max(2, self.base.epochs)
            for name, rows, color, dash in lines:
                by = (k * rows[self.y].where(np.isfinite(rows[self.y]))).groupby(rows["epoch"])
                mean, end = by.mean(), rows["epoch"].max()
                ax.fill_between(mean.index, by.min(), by.max(), color=color, alpha=0.18, linewidth=0)
                ax.plot(mean.index, mean, color=color, linestyle=dash, marker="o", markersize=3, label=name)
                told, last = [*told, f"{name}: {mean.loc[end]:.3g} at epoch {end}"], max(last, end)
            ax.xaxis.get_major_locator().set_params(integer=True)
            ax.set(xlabel="epoch", ylabel=label, xlim=(1, last))
            if lines:
                plots.add_legend(ax, loc="upper left", bbox_to_anchor=(0, -0.22), fontsize=11)
            finding = f"{label.capitalize()} by epoch, mean over seeds. {'; '.join(told) or 'Nothing is trained yet'}."
            self.chart.value = plots.picture(ax, finding).svg()

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        items = [f"{_label(f)}: {', '.join(_text(f, v) for v in values)}" for f, values in self.fields.items()]
        items = [f"<li>{checks.escaped(item)}</li>" for item in items]
        text = f"""<div class="tt-train" style="border:1px solid currentColor;border-radius:6px;padding:.2rem 1.1rem">
<p><b>{checks.escaped(self.title)}.</b> In Jupyter or Colab, a panel here trains new models at any setting you pick, and
draws their curves while they train. It offers:</p><ul>{"".join(items)}<li>seeds: 1 to 64</li></ul>
<p>To use it, open this chapter with the launch button at the top of the page, and run its cells.</p></div>"""
        bundle = {"text/html": text, "text/plain": f"<TrainPanel: {self.title}>"}
        live = getattr(get_ipython(), "kernel", None) is not None
        return self.view._repr_mimebundle_() | bundle if live else bundle


class Attendant(anywidget.AnyWidget):
    """Unseen: names the sliders for screen readers, and keeps JupyterLab from taking the arrow keys of the choices."""

    _esm = """export default { render: ({ el }) => {
      const timer = setInterval(() => {
        for (const e of el.closest(".tt-live")?.querySelectorAll("input, select, button, [role=slider]") ?? []) {
          e.setAttribute("data-lm-suppress-shortcuts", "true");
          const row = e.closest(".widget-hslider");
          row && e.setAttribute("aria-label", row.querySelector("label").textContent);
          row && e.setAttribute("aria-valuetext", row.querySelector(".widget-readout").textContent);
        }
      }, 200);
      return () => clearInterval(timer);
    } };"""


def nearest_recorded(runs: Runs, recipe: Recipe) -> tuple[Runs, list[str]]:
    """The runs at the recorded setting closest to `recipe`, and what differs there, such as ["learning rate 0.1"].

    Names count before numbers; numbers are compared by their ratio where both are above 0.
    """
    names = [f for f in FIELDS if f != "seed"]

    def gap(row, f):
        a, b = row[f], getattr(recipe, f)
        if isinstance(b, str) or a is None or b is None:
            return 1000.0 * (a != b)
        return abs(math.log(a / b)) if a > 0 and b > 0 else abs(a - b)

    rows = runs.table[names].drop_duplicates().astype(object).replace({np.nan: None}).to_dict("records")
    best = min(rows, key=lambda row: sum(gap(row, f) for f in names))
    return runs.where(**best), [f"{_label(f)} {_text(f, best[f])}" for f in names if gap(best, f)]


def _outcome(t, total: int, y: str, seconds: float) -> str:
    """The result of a training in plain words."""
    k, sign = (100, " %") if y.endswith("accuracy") else (1, "")
    score, done = t.runs.summary(y).iloc[0], len(t.runs.curves)
    n, lost, what = int(score["n"]), int(score["diverged"]), plots.LABELS[y].removesuffix(" (%)")
    spread = f"± {k * score['sd']:.2g} (mean ± sd, n = {n})" if n > 1 else "(n = 1)"
    when = f"after {t.recipe.epochs} epochs" if done == total else f"stopped after {done} of {total} epochs"
    mean = f"{what} {k * score['mean']:.3g}{sign} {spread}" if math.isfinite(score["mean"]) else f"no finite {what}"
    return f"{t.name}: {mean}, {when}; {lost} of {n} runs diverged; {seconds:.1f} s."


def _label(field: str) -> str:
    return plots.LABELS.get(field, field.replace("_", " "))


def _text(field: str, value) -> str:
    if value is None:
        return {"clip_norm": "off"}.get(field, "all")
    return value if isinstance(value, str) else f"{value:g}"
