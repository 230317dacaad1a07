"""Error sentences: the argument, its value, what is allowed, what to do next.

Every public function of `helpers` checks its input with these few functions, so that a slip
of the reader ends in one sentence of the book instead of a traceback from the depths of torch.
"""

from __future__ import annotations

import difflib
import html
import math
import numbers
import os
import pathlib
import re
import zipfile
from collections.abc import Hashable, Iterable

import torch

UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


SHORT = ("sgd", "pca", "mlp", "cnn", "rnn")  # abbreviations that open a sentence


def show(value, limit: int = 60) -> str:
    """`value` on one short line; an array, a tensor or a table by its type and shape."""
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape:
        return f"{type(value).__name__} of shape {tuple(shape)}"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # whatever the object of a stranger raises
        text = f"a {type(value).__name__}"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def visible(text) -> str:
    """The text with a sign in place of what is not seen but acts: controls, overrides of direction, half characters."""
    return UNSEEN.sub("\ufffd", str(text))


def escaped(text) -> str:
    """The text for a page, in which it stands as it is: no tag, no script, no turn of direction comes of it."""
    return html.escape(visible(text))


def capital(text: str) -> str:
    """The text with a capital first letter, an abbreviation in capitals; the rest stays as it is."""
    first = re.match(r"\w*", text)[0]
    return (first.upper() if first in SHORT else first[:1].upper() + first[1:]) + text[len(first) :]


def inert(text):
    """A cell for a CSV file: a text that a spreadsheet would take for a formula gets an apostrophe before it."""
    if isinstance(text, str) and re.match(r"\s*[=+\-@|%]", text):
        try:
            float(text)
        except ValueError:
            return f"'{text}"
    return text


def place(path) -> str:
    """A path for a sentence: as it is, or quoted with escapes where a name has line breaks or unseen characters."""
    return str(path) if str(path).isprintable() else ascii(str(path))


def nearest(value, allowed: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the closest allowed name, or an empty string."""
    near = [str(a) for a in allowed if len(str(a)) <= 60]
    hit = difflib.get_close_matches(str(value)[:60].lower(), near, n=1, cutoff=0.5)
    return f" Did you mean {hit[0]!r}?" if hit else ""


def listed(names: Iterable, limit: int = 60) -> str:
    """The names for a sentence, separated by commas; not more than `limit`, and each of them short."""
    names = [name if len(name) <= 60 else f"{name[:59]}…" for name in names]
    return ", ".join(names[:limit]) + (", …" if len(names) > limit else "")


def one_of(name: str, value, allowed: Iterable[str]):
    """Return `value` if it is one of the allowed names; else raise ValueError naming them all."""
    allowed = list(allowed)
    if isinstance(value, str) and value in allowed:
        return value
    names = listed(map(repr, allowed))
    raise ValueError(f"{name}={show(value)} is not known; choose one of {names}.{nearest(value, allowed)}")


def known(kind: str, names: Iterable[str], allowed: Iterable[str]) -> None:
    """Raise TypeError if one of `names` is not an allowed `kind` (a field, a column, a setting)."""
    allowed = list(allowed)
    for name in names:
        if not isinstance(name, Hashable) or name not in allowed:
            others = f"choose from {listed(map(str, allowed))}" if allowed else "there are none"
            raise TypeError(f"{show(name)} is not a {kind}; {others}.{nearest(name, allowed)}")


def is_finite(value) -> bool:
    """Is this number finite, as a float?"""
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


def number(name: str, value, *, low=None, high=None, above=None, below=None, try_: str = ""):
    """Return `value` if it is a finite number in the range; bounds are low <= value <= high, above < value < below.

    Raises TypeError for something that is not a number, ValueError for one that is out of range.
    """
    limits = [
        f"at least {low}" if low is not None else "",
        f"above {above}" if above is not None else "",
        f"at most {high}" if high is not None else "",
        f"below {below}" if below is not None else "",
    ]
    want = "a finite number" + "".join(f", {t}" for t in limits if t)
    hint = f"; try {name}={try_}" if try_ else ""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}={show(value)} is not allowed: {name} must be {want}{hint}.")
    if (
        not is_finite(value)
        or (low is not None and value < low)
        or (above is not None and value <= above)
        or (high is not None and value > high)
        or (below is not None and value >= below)
    ):
        raise ValueError(f"{name}={show(value)} is not allowed: {name} must be {want}{hint}.")
    return value


def integer(name: str, value, *, low: int = 0, high: int | None = None, try_: str = "") -> int:
    """Return `value` as an int if it is a whole number with low <= value <= high."""
    want = f"a whole number, at least {low}" + (f", at most {high}" if high is not None else "")
    hint = f"; try {name}={try_}" if try_ else ""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}={show(value)} is not allowed: {name} must be {want}{hint}.")
    if value < low or (high is not None and value > high):
        raise ValueError(f"{name}={show(value)} is not allowed: {name} must be {want}{hint}.")
    return int(value)


def flag(name: str, value) -> bool:
    """Return `value` as a bool if it is one, Python's or numpy's; else raise TypeError."""
    if type(value).__name__ not in ("bool", "bool_"):  # numpy has its own, named bool_ before version 2
        raise TypeError(f"{name}={show(value)} is not allowed: {name} must be True or False.")
    return bool(value)


def text(name: str, value, *, empty: bool = True) -> str:
    """Return `value` if it is a string, not blank unless `empty`; else raise TypeError or ValueError."""
    if not isinstance(value, str):
        raise TypeError(f"{name}={show(value)} is not allowed: {name} must be text, a str.")
    if not empty and not value.strip():
        raise ValueError(f"{name}={value!r} is not allowed: say in a few words what it is.")
    return value


def kind(name: str, value, types, maker: str):
    """Return `value` if it is an instance of `types`; else raise TypeError. `maker` says what is wanted."""
    if not isinstance(value, types):
        raise TypeError(f"{name} must be {maker}; got {type(value).__name__}: {show(value)}.")
    return value


def fields(name: str, value, wanted: Iterable[str]) -> None:
    """Raise TypeError if `value` has not all of these attributes, as a Recipe has."""
    for field in wanted:
        if isinstance(value, type) or not hasattr(value, field):
            raise TypeError(f"{name}={show(value)} has no {field!r}; give a Recipe, such as Recipe(lr=0.1).")


def members(archive: zipfile.ZipFile, most: int) -> None:
    """Raise ValueError if a name comes twice in the archive, or if it unpacks to more than `most` bytes."""
    once("the archive", archive.namelist())
    size = sum(member.file_size for member in archive.infolist())  # zipfile never reads more than is announced
    if size > most:
        raise ValueError(f"the archive unpacks to {size:,} bytes, but at most {most:,} are read; keep less in it.")


def function(name: str, value, example: str):
    """Return `value` if it can be called; else raise TypeError."""
    if not callable(value):
        raise TypeError(f"{name}={show(value)} is not allowed: {name} must be a function, such as {example}.")
    return value


def several(name: str, value, example: str, *, empty: bool = False) -> list:
    """`value` as a list if it is no string or mapping and not empty; else TypeError or ValueError."""
    if isinstance(value, str | bytes | dict) or not isinstance(value, Iterable) or getattr(value, "shape", None) == ():
        raise TypeError(f"{name}={show(value)} is not allowed: {name} must be a list, such as {example}.")
    found = list(value)
    if not found and not empty:
        raise ValueError(f"{name}={show(value)} is empty: give at least one entry, such as {example}.")
    return found


def once(name: str, values: list) -> list:
    """Return `values` if no entry comes twice; else raise ValueError, TypeError for an entry that is itself a list."""
    for i, value in enumerate(values):
        if isinstance(value, list | dict | set) or getattr(value, "shape", ()) != ():
            raise TypeError(f"{name} holds {show(value)}, but each entry must be one value: a number, a name or None.")
        if value in values[:i]:
            raise ValueError(f"{name} holds {value!r} twice; give each entry once.")
    return values


def path(name: str, value) -> pathlib.Path:
    """`value` as a path, with ~ for your home; raises TypeError or ValueError for what names no place."""
    if not isinstance(value, str | os.PathLike) or isinstance(os.fspath(value), bytes):
        raise TypeError(f"{name}={show(value)} is not allowed: {name} must be a path, such as 'data/mine.csv'.")
    if not os.fspath(value) or "\0" in os.fspath(value):
        raise ValueError(f"{name}={os.fspath(value)!r} is not allowed: {name} must name a file or folder.")
    try:
        return pathlib.Path(value).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{name}={os.fspath(value)!r} is not allowed: there is no such user's home.") from error


def tensor(name: str, value, *, low: int = 1, high: int = 9, labels: bool = False) -> torch.Tensor:
    """Return `value` if it is a torch tensor of numbers with rows and `low` to `high` axes, labels whole numbers.

    Looks at its type and shape alone, never at its values, so that it costs nothing on a GPU. Raises TypeError or
    ValueError.
    """
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name}={show(value)} is not allowed: {name} must be a torch tensor; try torch.as_tensor.")
    good = value.dtype == torch.int64 if labels else value.is_floating_point()
    if not good:
        want = "whole numbers, int64: try .long()" if labels else "a float dtype: try .float()"
        raise TypeError(f"{name} has dtype {value.dtype}, but it must have {want}.")
    if not low <= value.dim() <= high or 0 in value.shape:
        axes = f"{low}" if low == high else f"{low} to {high}" if high < 9 else f"at least {low}"
        raise ValueError(f"{name} has shape {tuple(value.shape)}; it must have {axes} axes, with no side 0.")
    return value


def labels(name: str, value: torch.Tensor, n: int, classes: int) -> torch.Tensor:
    """Return `value` if it holds `n` labels (int64) within 0..classes - 1; else raise TypeError or ValueError."""
    tensor(name, value, high=1, labels=True)
    if len(value) != n:
        raise ValueError(f"{name} has {len(value)} entries but there are {n} rows; give one label for each row.")
    low, high = (0, 0) if value.is_meta else (value.min().item(), value.max().item())
    if low < 0 or high >= classes:
        raise ValueError(f"{name} holds the label {low if low < 0 else high}; labels go from 0 to {classes - 1} here.")
    return value


def finite(name: str, value: torch.Tensor) -> torch.Tensor:
    """Return `value` if each of its numbers is finite; else raise ValueError naming the first rows that are not."""
    if not value.is_meta and not torch.isfinite(value.sum()):  # one pass without memory; a sum may also overflow
        rows = (~torch.isfinite(value)).reshape(len(value), -1).any(1).nonzero().flatten().tolist()
        if rows:
            told = ", ".join(map(str, rows[:5])) + (", …" if len(rows) > 5 else "")
            raise ValueError(f"{name} holds NaN or infinite numbers (rows {told}); fill or drop these rows.")
    return value
