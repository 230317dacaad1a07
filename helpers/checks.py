"""Error sentences: the argument, its value, what is allowed, what to do next.

Every public function of `helpers` checks its input with these few functions, so that a slip
of the reader ends in one sentence of the book instead of a traceback from the depths of torch.
"""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Iterable


def _show(value, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def nearest(value, allowed: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the closest allowed name, or an empty string."""
    hit = difflib.get_close_matches(str(value).lower(), [str(a) for a in allowed], n=1, cutoff=0.5)
    return f" Did you mean {hit[0]!r}?" if hit else ""


def one_of(name: str, value, allowed: Iterable[str]):
    """Return `value` if it is one of the allowed names; else raise ValueError naming them all."""
    allowed = list(allowed)
    if isinstance(value, str) and value in allowed:
        return value
    names = ", ".join(repr(a) for a in allowed)
    raise ValueError(f"{name}={_show(value)} is not known; choose one of {names}.{nearest(value, allowed)}")


def known(kind: str, names: Iterable[str], allowed: Iterable[str]) -> None:
    """Raise TypeError if one of `names` is not an allowed `kind` (a field, a column, a setting)."""
    allowed = list(allowed)
    for name in names:
        if name not in allowed:
            listed = ", ".join(allowed)
            raise TypeError(f"{name!r} is not a {kind}; choose from {listed}.{nearest(name, allowed)}")


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
        raise TypeError(f"{name}={_show(value)} is not allowed: {name} must be {want}{hint}.")
    if (
        not math.isfinite(value)
        or (low is not None and value < low)
        or (above is not None and value <= above)
        or (high is not None and value > high)
        or (below is not None and value >= below)
    ):
        raise ValueError(f"{name}={_show(value)} is not allowed: {name} must be {want}{hint}.")
    return value


def integer(name: str, value, *, low: int = 0, high: int | None = None, try_: str = "") -> int:
    """Return `value` as an int if it is a whole number with low <= value <= high."""
    want = f"a whole number, at least {low}" + (f", at most {high}" if high is not None else "")
    hint = f"; try {name}={try_}" if try_ else ""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}={_show(value)} is not allowed: {name} must be {want}{hint}.")
    if value < low or (high is not None and value > high):
        raise ValueError(f"{name}={_show(value)} is not allowed: {name} must be {want}{hint}.")
    return int(value)
