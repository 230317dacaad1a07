"""Kinds of bad values for `test_bad_input`, and what it means that a value is refused."""

from __future__ import annotations

import ast
import decimal
import functools
import math
import pathlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from hypothesis import strategies as st

import helpers

HELPERS = pathlib.Path(helpers.__file__).parent
NAN = math.nan


@dataclass(frozen=True)
class Kind:
    """Bad values by hand, and a strategy that draws more of them."""

    listed: tuple
    drawn: st.SearchStrategy
    good: type | None = None  # a numpy scalar of these types must be taken wherever Python's number is

    def but(self, *taken) -> Kind:
        """The same kind without these values, which the parameter takes."""

        def other(v):
            return not any(type(v) is type(t) and (v is t or v == t) for t in taken)

        return Kind(tuple(filter(other, self.listed)), self.drawn.filter(other), self.good)

    def plus(self, *more) -> Kind:
        """The same kind with further bad values."""
        return Kind((*self.listed, *more), self.drawn, self.good)


def only(*values) -> Kind:
    """A kind that these values make up."""
    return Kind(values, st.sampled_from(values))


THINGS = (None, [], {}, b"bytes", 1j, np.array([1.5, 2.5]), object, decimal.Decimal("0.5"))
WORDS = st.text(max_size=12)
NUMBERS = st.integers() | st.floats()


def integers(low=0, high=None) -> Kind:
    """What is no whole number from `low` to `high`."""
    out = [low - 1, -1, -(10**30)] + ([high + 1, 10**30] if high is not None else [])
    drawn = st.integers(max_value=low - 1) | st.floats() | WORDS | st.booleans() | st.lists(st.integers(), max_size=2)
    drawn = drawn | st.integers(min_value=high + 1) if high is not None else drawn
    wrong = (0.5, 2.0, NAN, math.inf, "3", True, np.float64(3), np.bool_(True), torch.tensor(2), [1])
    return Kind((*dict.fromkeys(v for v in out if v < low or v > (high or 0)), *wrong, *THINGS), drawn, np.integer)


def reals(low=None, high=None, above=None, below=None) -> Kind:
    """What is no finite number in the range."""
    ends = [(low, -1e-9), (high, 1e-9), (above, -0.0), (below, 0.0)]
    out = [v + step for v, step in ends if v is not None]
    out += [-1e300, -5] * (low is not None or above is not None) + [1e300] * (high is not None or below is not None)
    drawn = st.sampled_from([NAN, math.inf, -math.inf]) | WORDS | st.booleans() | st.lists(st.floats(), max_size=2)
    if low is not None or above is not None:
        drawn |= st.floats(max_value=low if low is not None else above, exclude_max=low is not None)
    if high is not None or below is not None:
        drawn |= st.floats(min_value=high if high is not None else below, exclude_min=high is not None)
    wrong = (NAN, math.inf, -math.inf, 10**400, "0.1", "", True, torch.tensor(0.1), [0.1])
    return Kind((*out, *wrong, *THINGS), drawn, np.floating)


def names(*allowed) -> Kind:
    """What is none of these names: misspelt, in capitals, another type."""
    wrong = tuple(v for a in allowed[:2] for v in (a[:-1], a + " ", a.upper(), [a]) if v not in allowed)
    drawn = WORDS.filter(lambda t: t not in allowed) | NUMBERS | st.booleans()
    return Kind((*wrong, "", "nonsense", "e\u0301", "<b>", 7, True, NAN, *THINGS), drawn)


def texts(empty=True) -> Kind:
    """What is no text; with empty=False also what is blank."""
    blank = () if empty else ("", "  ", "\n")
    drawn = NUMBERS | st.booleans() | st.lists(WORDS, max_size=2)
    drawn = drawn if empty else drawn | st.text(" \t\n", max_size=5)
    return Kind((*blank, 7, 1.5, NAN, True, ["a"], *THINGS), drawn)


def things(*more) -> Kind:
    """What is neither a model nor a table nor anything else that helpers makes: numbers, text, lists."""
    drawn = NUMBERS | WORDS | st.booleans() | st.lists(NUMBERS, min_size=1, max_size=2)
    return Kind((7, "nonsense", True, NAN, *THINGS, *more), drawn)


FLAGS = Kind((0, 1, "yes", "False", 0.0, NAN, np.array([True]), [True], None, [], {}), NUMBERS | WORDS | st.none())
PATHS = Kind(("", "a\0b", 7, 1.5, True, NAN, None, b"bytes", [], {}, ["a"]), NUMBERS | st.booleans() | st.none())


def rows_of(n: int) -> Kind:
    """What are no row numbers of n rows."""
    listed = ([n], [-1], [0.5], [True] * n, "0", ["0"], [[0]], [0, [1]], [None], [NAN], 3, None, {}, {0}, [2**70])
    drawn = st.lists(st.integers(min_value=n), min_size=1, max_size=3) | st.lists(st.floats(), min_size=1, max_size=3)
    return Kind(listed, drawn | st.lists(st.integers(max_value=-1), min_size=1, max_size=3) | WORDS)


def columns_of(n: int) -> Kind:
    """What is no column of n labels, groups or times."""
    listed = (
        [0] * (n - 1), [0] * (n + 1), [[0, 1]] * n, [None] * n, [NAN] * n, [math.inf] * n, "ab" * n,
        [0, "a"] * (n // 2), [[0], [0, 1]] * (n // 2), [{}] * n, 1.5, {}, {0, 1}, object,
    )  # fmt: skip
    return Kind(listed, st.lists(st.none() | st.just(NAN), min_size=n, max_size=n) | WORDS)


def tensors(shape, *, axes=True) -> Kind:
    """What is no float tensor of this shape."""
    bad = torch.zeros(shape)
    bad[(0,) * len(shape)] = NAN
    listed = (np.zeros(shape), torch.zeros(shape).long(), torch.zeros((0, *shape[1:])), [[0.5]], torch.tensor(True))
    more = (bad, bad / 0) if axes == "finite" else ()
    return things(*listed, *more, *([torch.zeros(shape[0])] if axes else []))


def labels_of(n: int, classes: int) -> Kind:
    """What are no labels of n rows."""
    ok = torch.zeros(n, dtype=torch.int64)
    listed = (
        ok.float(),
        ok.int(),
        ok[:-1],
        ok[None],
        ok - 1,
        ok - 100,
        ok + classes,
        ok.numpy(),
        ok.tolist(),
        ok.bool(),
    )
    return things(*listed)


@functools.cache
def _raises(path: pathlib.Path) -> frozenset[int]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    spans = ((node.lineno, node.end_lineno) for node in ast.walk(tree) if isinstance(node, ast.Raise))
    return frozenset(line for first, last in spans for line in range(first, last + 1))


def refusal(call, arguments: dict) -> Exception:
    """Call it, and return the error that says in one sentence of helpers' own what is wrong; fail for all else."""
    try:
        result = call(**arguments)
        result = list(result) if hasattr(result, "__next__") else result
    except (TypeError, ValueError, OSError) as error:
        told, frame = str(error), error.__traceback__
        while frame.tb_next:
            frame = frame.tb_next
        path = pathlib.Path(frame.tb_frame.f_code.co_filename)
        assert HELPERS in path.parents, f"not from helpers but from {path}, line {frame.tb_lineno}: {told}"
        assert frame.tb_lineno in _raises(path), f"not raised by {path.name}, line {frame.tb_lineno}: {told}"
        assert len(told.splitlines()) == 1 and told[-1] in ".?" and 25 < len(told) < 600, f"not one sentence: {told!r}"
        return error
    raise AssertionError(f"it was taken, and gave {str(result)[:200]}")


def key(value) -> str:
    """What tells bad values apart when they are counted."""
    shape = getattr(value, "shape", "")
    return f"{type(value).__name__} {shape} {value if isinstance(value, pd.DataFrame) else repr(value)}"[:300]
