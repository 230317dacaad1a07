"""Ways to divide rows into training, validation and test parts, and ways to see what a division did.

The dividing itself is scikit-learn's. This module adds checks, one name for each way, and the
measures that the chapter on splits plots. Every part is an array of row numbers, so one split
serves images, tables and text alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import GroupKFold, GroupShuffleSplit, KFold, StratifiedKFold, TimeSeriesSplit
from sklearn.model_selection import train_test_split as _divide
from sklearn.neighbors import NearestNeighbors

from helpers import checks

WAYS = ("random", "stratified", "group", "time", "ordered")


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers (int64) of three parts that share no row; a part that was not asked for is empty.

    It unpacks: `train, validation, test = split(y)`. Raises ValueError if two parts share a row.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    def __post_init__(self):
        for part in ("train", "validation", "test"):
            object.__setattr__(self, part, rows(part, getattr(self, part)))
        every = np.concatenate(list(self))
        if len(np.unique(every)) < len(every):
            raise ValueError("A split has a row in two parts; build it from index arrays that do not overlap.")

    def __iter__(self):
        return iter((self.train, self.validation, self.test))

    def __repr__(self):
        return f"Split(train: {len(self.train):,} rows, validation: {len(self.validation):,}, test: {len(self.test):,})"


@dataclass(frozen=True, eq=False)
class Fold:
    """Row numbers (int64) of one fold. It unpacks: `for train, test in folds(y)`."""

    train: np.ndarray
    test: np.ndarray

    def __post_init__(self):
        for part in ("train", "test"):
            object.__setattr__(self, part, rows(part, getattr(self, part)))

    def __iter__(self):
        return iter((self.train, self.test))

    def __repr__(self):
        return f"Fold(train: {len(self.train):,} rows, test: {len(self.test):,})"


def array(name: str, values) -> np.ndarray:
    """`values` as an array; rows of different lengths end in one clear sentence."""
    if isinstance(values, str | bytes | dict | set):
        raise TypeError(f"{name}={checks.show(values)} is not allowed: {name} must be an array or a list.")
    try:
        found = np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"{name} is no array: its rows have different lengths or types; make them alike.") from error
    if found.ndim == 0:
        raise TypeError(f"{name}={checks.show(values)} is not allowed: {name} must be an array or a list.")
    if found.dtype.kind in "US" and isinstance(values, list | tuple):  # numpy writes 1 as "1" beside a word
        kinds = sorted({type(v).__name__ for v in values} - {"list", "tuple", "ndarray", "str_", "bytes_"})
        if len(kinds) > 1:
            raise TypeError(f"{name} mixes entries of type {', '.join(kinds)}; make all of them one type, such as str.")
    return found


def rows(name: str, index, n: int = 2**62) -> np.ndarray:
    """`index` as a new array of row numbers (int64), each within 0..n - 1; else one clear sentence."""
    index = array(name, index)
    if index.ndim != 1 or (len(index) and index.dtype.kind not in "iu"):
        hint = f"try np.flatnonzero({name})" if index.dtype.kind == "b" else "give whole numbers, one for each row"
        raise TypeError(f"{name} has dtype {index.dtype} and shape {index.shape}; it must list row numbers: {hint}.")
    if len(index) and not (0 <= index.min() and index.max() < n):
        wrong = index[(index < 0) | (index >= n)][0]
        raise ValueError(f"{name} holds row {wrong}, which is not there; row numbers go from 0 to {n - 1}.")
    return index.astype(np.int64)


def column(name: str, values, n: int | None = None) -> np.ndarray:
    """`values` as a 1-D array without gaps, of length `n` where that is given; else one clear sentence."""
    values = array(name, values)
    if values.ndim != 1:
        raise ValueError(
            f"{name} has shape {values.shape}; it must be one-dimensional, one entry for each row: try {name}.ravel()."
        )
    gaps = np.flatnonzero(pd.isna(values))
    if len(gaps):
        raise ValueError(
            f"{name} has no value in {len(gaps)} of {len(values)} rows (the first is row {gaps[0]}); "
            f"fill these rows or drop them before you split."
        )
    if n is not None and len(values) != n:
        raise ValueError(f"{name} has {len(values)} entries but there are {n} rows; give one entry for each row.")
    if values.dtype.kind == "O":  # dates sort; a mixture does not
        kinds = sorted({type(v).__name__ for v in values})
        if len(kinds) > 1:
            raise TypeError(f"{name} mixes entries of type {', '.join(kinds)}; make all of them one type, such as str.")
        if kinds and kinds[0] in ("list", "dict", "set", "ndarray", "Tensor"):
            raise TypeError(f"{name} holds entries of type {kinds[0]}; give one name or number for each row.")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError(f"{name} holds an infinite number in row {np.flatnonzero(~np.isfinite(values))[0]}; mend it.")
    return values


def _rows(y_or_n, how: str, groups, times):
    """Return (n, labels or None, groups or None, times or None), all checked."""
    checks.one_of("how", how, WAYS)
    if not hasattr(y_or_n, "__len__"):
        n, y = checks.integer("y_or_n", y_or_n, low=2), None
    else:
        y = column("y_or_n", y_or_n)
        n = checks.integer("len(y_or_n)", len(y), low=2)
    if how == "stratified" and y is None:
        raise ValueError(f"how='stratified' needs the labels, but y_or_n={n} is a number; give the label of each row.")
    for name, value, way in (("groups", groups, "group"), ("times", times, "time")):
        if how == way and value is None:
            raise ValueError(f"how={way!r} needs {name}=, one entry for each row; {name} is None.")
    return (
        n,
        y,
        None if groups is None else column("groups", groups, n),
        (None if times is None else column("times", times, n)),
    )


def _size(part: str, value, n: int) -> int:
    """Rows that `value` (a share below 1, or a whole number of rows) means out of n."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return checks.integer(part, value, low=0, high=n - 1)
    checks.number(part, value, low=0, below=1, try_="0.2")
    size = int(np.floor(value * n + 0.5))
    if value and not 0 < size < n:
        left = "no row for it" if size == 0 else "no row for training"
        raise ValueError(
            f"{part}={value} of {n} rows leaves {left}; choose a share between {1 / n:.2g} and {(n - 1) / n:.2g}."
        )
    return size


def _stratified(index, y, size: int, part: str, seed: int):
    classes, counts = np.unique(y[index], return_counts=True)
    rarest = counts.argmin()
    if counts[rarest] < 2:
        raise ValueError(
            f"Class {classes[rarest].item()!r} has {counts[rarest]} row to divide, but how='stratified' needs at least "
            f"2 of each class; merge the class with another, collect more rows, or use how='random'."
        )
    if min(size, len(index) - size) < len(classes):
        raise ValueError(
            f"{part} asks for {size} of {len(index)} rows, but with {len(classes)} classes how='stratified' needs at "
            f"least {len(classes)} rows on each side; choose another {part} or use how='random'."
        )
    return _divide(index, test_size=size, stratify=y[index], random_state=seed)


def _grouped(index, groups, share, part: str, seed: int):
    names = np.unique(groups[index])
    if isinstance(share, (int, np.integer)):
        raise ValueError(f"{part}={share} is not allowed under how='group'; give the share of the groups, such as 0.2.")
    checks.number(part, share, above=0, below=1, try_="0.2")
    if not 0 < round(share * len(names)) < len(names):
        raise ValueError(
            f"{part}={share} of {len(names)} groups does not leave a group on each side; "
            f"choose another share or define more groups."
        )
    splitter = GroupShuffleSplit(1, test_size=round(share * len(names)), random_state=seed)
    rest, taken = next(splitter.split(index, groups=groups[index]))
    return index[rest], index[taken]


def _tail(index, size: int, times, part: str):
    start = len(index) - size
    if times is not None:  # rows of one moment stay together, else the future leaks into training
        start = int(np.searchsorted(times[index], times[index[start]], side="left"))
    if start == 0:
        raise ValueError(
            f"{part} would take every row because they share one time; give times that differ or use how='random'."
        )
    return index[:start], index[start:]


def split(y_or_n, *, how="random", test=0.2, validation=0.0, groups=None, times=None, seed=0) -> Split:
    """Divide n rows into training, validation and test rows.

    y_or_n      the labels (n,), or the number n where the labels play no part
    how         "random"      shuffled: right when rows are independent
                "stratified"  shuffled, and each class keeps its share (Kohavi 1995, IJCAI)
                "group"       whole groups move together (writer, patient, font)
                "time"        oldest rows train, newest test; rows of one moment stay together
                "ordered"     file order, last rows test: no shuffling
    test, validation   a share of the rows, or a whole number of rows; under "group" a share of the groups.
                       0 means: no such part. Both are shares of all n rows (or groups).
    seed        fixes the shuffling; "time" and "ordered" do not use it

    The parts are disjoint and together hold every row. Raises ValueError or TypeError with one
    sentence when that cannot be done.
    """
    n, y, groups, times = _rows(y_or_n, how, groups, times)
    seed = checks.integer("seed", seed, high=2**32 - 1)
    sizes = {"test": _size("test", test, n), "validation": _size("validation", validation, n)}
    if not 0 < sum(sizes.values()) < n:
        raise ValueError(
            f"test={test} and validation={validation} of {n} rows must leave rows for training and at least one row "
            f"for another part; try test=0.2, validation=0.2."
        )
    rest = np.argsort(times, kind="stable") if how == "time" else np.arange(n)
    parts = {"test": rest[:0], "validation": rest[:0]}
    for part, value in (("test", test), ("validation", validation)):
        if not value:
            continue
        if how == "random":
            rest, parts[part] = _divide(rest, test_size=sizes[part], random_state=seed)
        elif how == "stratified":
            rest, parts[part] = _stratified(rest, y, sizes[part], part, seed)
        elif how == "group":
            left = len(np.unique(groups[rest])) / len(np.unique(groups))
            share = value / left if isinstance(value, float) else value
            rest, parts[part] = _grouped(rest, groups, share, part, seed)
        else:
            rest, parts[part] = _tail(rest, sizes[part], times if how == "time" else None, part)
    done = Split(*(p if how == "time" else np.sort(p) for p in (rest, parts["validation"], parts["test"])))
    if sum(len(p) for p in done) != n:
        raise RuntimeError("The parts of a split do not add up to the rows that were given.")
    return done


def folds(y_or_n, *, how="random", k=5, groups=None, times=None, seed=0) -> list[Fold]:
    """Divide n rows into k folds for cross-validation (Stone 1974); see `split` for the ways.

    Each row is tested exactly once. The exception is "time": fold i trains on everything before
    its test block, so the oldest block is never tested (scikit-learn's TimeSeriesSplit).
    Raises ValueError when k is larger than the rows, the groups or the smallest class.
    """
    n, y, groups, times = _rows(y_or_n, how, groups, times)
    k, seed = checks.integer("k", k, low=2), checks.integer("seed", seed, high=2**32 - 1)
    most, of = (n - 1, "rows less one") if how == "time" else (n, "rows")
    if how == "group":
        most, of = len(np.unique(groups)), "groups"
    if k > most:
        raise ValueError(f"k={k} is more than the {most} {of}; choose k of at most {most}.")
    rows = np.arange(n)
    if how == "stratified":
        classes, counts = np.unique(y, return_counts=True)
        if k > counts.min():
            raise ValueError(
                f"k={k} is more than the {counts.min()} rows of class {classes[counts.argmin()].item()!r}; "
                f"choose a smaller k, merge the class, or use how='random'."
            )
        pairs = StratifiedKFold(k, shuffle=True, random_state=seed).split(rows, y)
    elif how == "group":
        pairs = GroupKFold(k, shuffle=True, random_state=seed).split(rows, groups=groups)
    elif how == "time":
        return _time_folds(np.argsort(times, kind="stable"), times, k)
    else:
        pairs = KFold(k, shuffle=how == "random", random_state=seed if how == "random" else None).split(rows)
    return [Fold(train, test) for train, test in pairs]


def _time_folds(order, times, k: int) -> list[Fold]:
    done = []
    for train, test in TimeSeriesSplit(k).split(order):
        train, test = order[train], order[test]
        train = train[times[train] < times[test[0]]]
        if not len(train):
            raise ValueError(
                f"k={k} leaves a fold with no row before its test block, because rows share one time; choose a smaller "
                f"k or give times that differ."
            )
        done.append(Fold(train, test))
    return done


def class_counts(y, index) -> dict:
    """How many rows of each class of y (n,) stand in `index`; a class without a row counts 0."""
    y = column("y", y)
    names = np.unique(y)
    counts = np.bincount(np.searchsorted(names, y[rows("index", index, len(y))]), minlength=len(names))
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def missing_classes(y, index) -> list:
    """The classes of y (n,) that have no row in `index`."""
    return [name for name, count in class_counts(y, index).items() if count == 0]


def label_distance(y, a, b) -> float:
    """Total variation distance between the label shares of rows a and rows b of y (n,).

    TV = 1/2 · Σ_c |p_a(c) - p_b(c)|, where p(c) is the share of class c. 0: equal shares.
    1: no class in common. Raises ValueError if a or b is empty.
    """
    shares, y = [], column("y", y)
    for name, index in (("a", a), ("b", b)):
        index = rows(name, index, len(y))
        counts = np.array(list(class_counts(y, index).values()), dtype=float)
        if not counts.sum():
            raise ValueError(f"{name} has no rows, so its label shares are not defined; give at least one row.")
        shares.append(counts / counts.sum())
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


def leak_check(X, a, b, *, near=0.0) -> int:
    """How many rows b of X (n, ...) also stand among the rows a: 0 is what a clean split gives.

    near=0 counts exact copies. near>0 also counts rows whose Euclidean distance to some row of a
    is at most `near`, in the units of X; it takes seconds for some thousand rows.
    """
    checks.number("near", near, low=0)
    X = array("X", X)
    if X.dtype.kind == "O":  # an object's bytes are its address
        raise TypeError(f"X has shape {X.shape} and dtype {X.dtype}; give an array of numbers with one entry a row.")
    a, b = rows("a", a, len(X)), rows("b", b, len(X))
    if not len(a) or not len(b):
        return 0
    flat = X.reshape(len(X), -1)
    if near:
        if flat.dtype.kind not in "fiub" or not np.isfinite(flat).all():
            raise ValueError(f"near={near} measures distances, but X holds other things than finite numbers; mend X.")
        distance, _ = NearestNeighbors(n_neighbors=1).fit(flat[a]).kneighbors(flat[b])
        return int((distance[:, 0] <= near).sum())
    flat = np.ascontiguousarray(flat + 0.0 if flat.dtype.kind == "f" else flat)  # + 0.0 makes -0.0 equal to 0.0
    seen = {row.tobytes() for row in flat[a]}
    return sum(row.tobytes() in seen for row in flat[b])
