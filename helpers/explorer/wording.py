"""Words: labels, number formats, and the sentences for readers who hear the figure."""

from __future__ import annotations

import math
import numbers
import re

import pandas as pd

from helpers import checks, plots

LABELS = plots.LABELS | {
    "step": "update step",
    "seconds": "seconds of training",
    "test_loss": "test loss",
    "test_accuracy": "test accuracy (%)",
    "init": "initialization",
}


def label(column, labels: dict) -> str:
    """The words for a column: the label given, else its name made readable."""
    if column in labels:
        return checks.visible(labels[column])
    text = checks.visible(column)
    return LABELS.get(text) or text.replace("_", " ") + (" (%)" if text.endswith("accuracy") else "")


def name(value) -> str:
    """A setting in words: none, on, 0.1, 1e-5, he."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return re.sub(r"e([+-])0*(\d)", lambda m: "e" + m[1].replace("+", "") + m[2], f"{value:g}")
    return checks.visible(value)


def number(value, digits: int | None) -> str:
    """A number as a reader wants it: `digits` decimals, or three significant ones for None."""
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return str(int(value))
    if not math.isfinite(value):
        return "–"
    return f"{value:z.{digits}f}" if digits is not None else name(float(f"{value:z.3g}"))


def legend(title: str, values: list) -> dict:
    """The lines: short names, and names that stand alone in a sentence ("batch size 32", not "32")."""
    names = [name(v) for v in values]
    said = [n if isinstance(v, str) else f"{title} {n}" for v, n in zip(values, names, strict=True)]
    return {"label": title, "names": names, "said": said}


def heading(spec: dict, axis: dict, text: str) -> str:
    """A column of the table that belongs to one y: "lowest", or "validation loss, lowest" where there are several."""
    return f"{axis['label']}, {text}" if len(spec["y"]) > 1 else text


def settings(spec: dict) -> str:
    """The controls at the start: learning rate 0.1, batch size 32."""
    return ", ".join(f"{c['label']} {c['names'][i]}" for c, i in zip(spec["controls"], spec["start"], strict=True))


def alt(spec: dict, finding: str) -> str:
    """The alternative text: title, finding, settings, axes, lines."""
    shown = f" Shown: {settings(spec)}." if spec["controls"] else ""
    y, color = ", ".join(a["label"] for a in spec["y"]), spec["color"]
    lines = f" {checks.capital(color['label'])}: {', '.join(color['names'])}." if color else ""
    return f"{spec['title']}. {finding}{shown} Axes: {y} against {spec['x'][0]['label']}.{lines}"


def sentence(spec: dict, frame: pd.DataFrame) -> str:
    """The finding in one sentence; `frame` is what the figure shows, with every x."""
    if frame.empty:
        return "There is no run at this setting."
    y, x = spec["y"][0]["label"], spec["x"][0]
    text = checks.capital(y)
    ends, lost = _ends(spec, frame)
    if not ends:
        return "Every run diverged at this setting."

    def where(row):
        value = row[x["label"]]
        return value if isinstance(value, str) else number(value, x.get("digits"))

    if spec["kind"] == "path":
        lasts = (f"{n or 'the path'} ends at ({where(r)}, {_value(spec, r)})" for n, r in ends[:4])
        said = checks.capital("; ".join(lasts))
    elif spec["kind"] == "bar":
        tops = [f"{f'for {n} ' if n else ''}at {where(r)}, with {_value(spec, r)}" for n, r in ends[:4]]
        said = f"{text} is largest " + "; ".join(tops)
    elif len(ends) == 1:
        who, row = ends[0]
        verb = "is" if spec["kind"] == "dot" else "ends at"
        said = f"{f'{who}: ' if who else ''}{text} {verb} {_value(spec, row)}"
    else:
        ends.sort(key=lambda end: end[1][y])
        (worst, low), (best, high) = ends[0], ends[-1]
        shared = spec["kind"] == "line" and "values" in x and len({row[x["label"]] for _, row in ends}) == 1
        at = f" at {x['label']} {where(low)}" if shared else ""
        said = f"{text}{at}: {best} is highest with {_value(spec, high)}, {worst} is lowest with {_value(spec, low)}"
    return said + (f"; every run of {', '.join(lost)} diverged." if lost else ".")


def _ends(spec, frame):
    """Return [(name, the row that speaks for it)] and the names of lines without any finite value."""
    y, x, color = spec["y"][0]["label"], spec["x"][0]["label"], spec["color"]
    lines = zip(color["names"], color["said"], strict=True) if color else [(None, None)]
    ends, lost = [], []
    for key, said in lines:
        part = frame if key is None else frame[frame[color["label"]] == key]
        good = part[part[y].notna()]
        if good.empty:
            lost += [said] if len(part) else []
        elif spec["kind"] == "dot":
            for _, row in good.iterrows():
                place = name(row[x]) if spec["points"] > 1 else None
                ends.append((" at ".join(t for t in (said, place) if t), row))
        else:
            ends.append((said, good.loc[good[y].idxmax()] if spec["kind"] == "bar" else good.iloc[-1]))
    return ends, lost


def _value(spec, row) -> str:
    """A mean with its range: 93.4 (92.1 to 94.0, n = 8)."""
    a = spec["y"][0]
    text = number(row[a["label"]], a["digits"])
    if not spec["band"] or spec["kind"] == "path":
        return text
    low, high = (number(row[heading(spec, a, c)], a["digits"]) for c in ("lowest", "highest"))
    n = int(row[heading(spec, a, spec["band"]["label"] + "s")])
    return f"{text} ({low} to {high}, n = {n})" if n > 1 else f"{text} (n = {n})"
