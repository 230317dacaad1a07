"""Results as two tidy tables: a row per run, and a row per run and epoch. Saved whole or not at all."""

from __future__ import annotations

import dataclasses
import errno
import functools
import hashlib
import math
import pathlib
import platform
import zipfile
import zlib
from collections.abc import Iterable, Sequence

import pandas as pd
import torch

from helpers import checks, store, streams
from helpers.data import Dataset
from helpers.recipe import DEFAULTS, FIELDS, Recipe

DEFINING = (
    "streams", "augment", "blocks", "lenet", "models", "init", "losses", "schedules", "optim", "recipe", "training",
    "blas", "dense", "normed", "squares", "written", "quick", "stacks", "engine",
)  # fmt: skip


@functools.cache
def _code_hash() -> str:
    # a run belongs to the code and the torch that made it: older results must not pass for newer ones
    here = pathlib.Path(__file__).parent
    text = b"".join((here / f"{name}.py").read_bytes() for name in DEFINING)
    return hashlib.sha256(text + torch.__version__.encode()).hexdigest()


def run_id(recipe: Recipe, data) -> str:
    """A short name for this run: a hash of recipe, data, code, torch version and the first seed."""
    text = f"{tuple(recipe.fields().values())}|{data.fingerprint}|{_code_hash()}|{streams.first()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class Runs:
    """Training runs as tidy tables.

    Attributes
    ----------
    table : DataFrame, one row per run: `run` (its id), every field of Recipe, data, device, torch, n_train,
        `diverged` (a loss was not finite), and the last epoch's scores (accuracies are fractions; seconds per run).
        With a test set read: test_loss, test_accuracy. With a patience: best_epoch, whose weights were kept; the
        scores are theirs.
    curves : DataFrame, one row per run and epoch: run, epoch, step, seconds, train_loss, train_accuracy, val_loss,
        val_accuracy.
    """

    table: pd.DataFrame
    curves: pd.DataFrame

    def __post_init__(self):
        for name in ("table", "curves"):
            checks.kind(name, getattr(self, name), pd.DataFrame, "a pandas DataFrame, as train(...) makes it")

    @classmethod
    def empty(cls) -> Runs:
        return cls(pd.DataFrame(), pd.DataFrame())

    @classmethod
    def from_curves(cls, recipes: Sequence[Recipe], curves: Sequence[list[dict]], data, device: str) -> Runs:
        """Tables from what the training functions return: one list of epoch rows for each recipe."""
        curves = checks.several("curves", curves, "the second value of train_stack")
        for recipe in checks.several("recipes", recipes, "[Recipe()]"):
            checks.kind("recipes", recipe, Recipe, "a list of Recipes")
        rows = [c[-1] if isinstance(c, list) and c else None for c in curves]
        if len(curves) != len(recipes) or not all(isinstance(r, dict) and "train_loss" in r for r in rows):
            raise ValueError(f"curves={checks.show(curves)} is not allowed: give the epochs' rows of each of recipes.")
        checks.kind("data", data, Dataset, "a Dataset"), checks.text("device", device, empty=False)
        rows, points = [], []
        for recipe, curve in zip(recipes, curves, strict=True):
            name = run_id(recipe, data)
            fields = recipe.fields()
            about = {"data": data.name, "device": device, "torch": torch.__version__}
            diverged = not all(math.isfinite(p["train_loss"]) for p in curve)
            rows.append({"run": name, **fields, **about, "diverged": diverged, **curve[-1]})
            hidden = ("test_", "best_")  # of the run, not of an epoch
            points += [{"run": name, **{k: v for k, v in p.items() if not k.startswith(hidden)}} for p in curve]
        return cls(_clean(pd.DataFrame(rows)), pd.DataFrame(points))

    def __len__(self) -> int:
        return len(self.table)

    def __add__(self, other: Runs) -> Runs:
        return Runs.union([self, checks.kind("other", other, Runs, "Runs, as train(...) returns them")])

    @classmethod
    def union(cls, parts: Iterable[Runs]) -> Runs:
        """All runs of the parts, in their order; of a run that several have, the first is taken."""
        known, new = set(), []
        for part in checks.several("parts", parts, "[runs, more]", empty=True):
            if len(checks.kind("parts", part, Runs, "Runs, as train(...) returns them")):
                fresh = [r for r in part.table["run"] if r not in known]
                new.append(part if len(fresh) == len(part) else part.select(fresh))
                known |= set(fresh)
        if not new:
            return cls.empty()
        if len(new) == 1:
            return new[0]
        tables = (pd.concat([getattr(part, name) for part in new], ignore_index=True) for name in store.TABLES)
        return cls(_clean(next(tables)), next(tables))

    def select(self, ids: Iterable[str]) -> Runs:
        """The runs with these ids, in this order; ids that are not there are left out."""
        ids = checks.several("ids", ids, "runs.table['run']", empty=True)
        for i in ids:
            checks.text("ids", i)
        if not len(self):
            return self
        at = {name: i for i, name in enumerate(self.table["run"])}
        ids = [i for i in ids if i in at]
        if ids == list(at):
            return self
        table = self.table.iloc[[at[i] for i in ids]].reset_index(drop=True)
        place = {name: i for i, name in enumerate(ids)}
        curves = self.curves[self.curves["run"].isin(place)]
        curves = curves.sort_values("run", key=lambda c: c.map(place), kind="stable")
        return Runs(table, curves.reset_index(drop=True))

    def where(self, **fields) -> Runs:
        """The runs whose columns have these values: `runs.where(init="he", lr=0.1)`."""
        checks.known("column of runs", fields, self.table.columns)
        keep = pd.Series(True, index=self.table.index)
        for name, value in fields.items():
            column = self.table[name]
            values = checks.once(name, list(value) if isinstance(value, list | tuple) else [value])
            keep &= column.isna() if value is None else column.isin(values)
        return self.select(self.table["run"][keep])

    def _some(self) -> None:
        if not len(self):
            raise ValueError("There are no runs here; train some, or check the filter that left none.")

    def frame(self) -> pd.DataFrame:
        """The curves joined with the recipe fields of their runs: the form that plots and explorers take."""
        self._some()
        return self.curves.merge(self.table[["run", *FIELDS, "diverged"]], on="run", how="left", validate="many_to_one")

    def varied(self) -> list[str]:
        """The recipe fields that differ among these runs, the seed left out."""
        self._some()
        return [f for f in FIELDS if f != "seed" and self.table[f].nunique(dropna=False) > 1]

    def summary(self, score: str = "val_accuracy") -> pd.DataFrame:
        """Mean, sd and n of a score for each setting, and how many of its runs diverged."""
        checks.known("column of runs", [score], self.table.columns)
        checks.known("column of numbers", [score], self.table.select_dtypes("number").columns)
        by = self.varied()
        groups = self.table.groupby(by, sort=False, dropna=False) if by else self.table.groupby(lambda _: "all runs")
        out = groups.agg(mean=(score, "mean"), sd=(score, "std"), n=(score, "size"), diverged=("diverged", "sum"))
        return out.reset_index() if by else out

    def epochs_to(self, score: str, target: float) -> pd.Series:
        """For each run the first epoch at which the score is at least the target; infinite when it never is."""
        checks.known("column of curves", [score], self.curves.select_dtypes("number").columns)
        checks.number("target", target)
        hit = self.curves[self.curves[score] >= target].groupby("run")["epoch"].min()
        return self.table["run"].map(hit).fillna(math.inf)

    def provenance(self) -> str:
        """One line: data, n, device, seconds, versions."""
        if not len(self):
            return "no runs"
        t = self.table
        seeds = t["seed"].nunique()
        return (
            f"{', '.join(t['data'].unique())} · {len(t)} runs, {seeds} seeds · {', '.join(t['device'].unique())} · "
            f"{t['seconds'].sum():.0f} s of training · torch {t['torch'].iloc[0]}, Python {platform.python_version()}"
        )

    def tables(self) -> dict:
        """Both tables as plain lists: {"table": {column: list}, "curves": {column: list}}."""
        return {name: getattr(self, name).to_dict("list") for name in store.TABLES}

    def save(self, path) -> None:
        """Write both tables into one .zip of JSON (a list per column, exact floats). It appears whole or not at all.

        Raises OSError with one sentence when that cannot be done.
        """
        store.write(checks.path("path", path), self.tables())

    @classmethod
    def load(cls, path, *, missing_ok: bool = False) -> Runs:
        """Read what `save` wrote, or what a sweep has saved so far. Raises OSError or ValueError with one sentence."""
        path = checks.path("path", path)
        checks.flag("missing_ok", missing_ok)
        try:
            tables = store.read(path)
            if tables is not None:
                return cls(*_sound([tables[name] for name in store.TABLES]))
        except UNSOUND as error:
            if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which a false offset in the file gives
                raise OSError(f"path={str(path)!r} could not be read: {error.strerror or error}.") from error
            raise ValueError(
                f"path={str(path)!r} is not a file of runs; delete it, or give one that Runs.save wrote."
            ) from error
        if missing_ok:
            return cls.empty()
        raise FileNotFoundError(f"path={str(path)!r} does not exist; give a file that Runs.save wrote.")


UNSOUND = (
    OSError, zipfile.BadZipFile, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError,
    NotImplementedError, RuntimeError, zlib.error, EOFError,
)  # fmt: skip


def _sound(tables: Sequence[dict]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables from what a file says; raises one of UNSOUND where that cannot be runs, whoever wrote it."""
    for values in (values for columns in tables for values in columns.values()):
        if not isinstance(values, list) or not all(v is None or type(v) in (str, bool, int, float) for v in values):
            raise TypeError("a column is a list of single values")
    table, curves = map(pd.DataFrame, tables)
    if any(table[f].dtype.kind != "i" for f in FIELDS if type(DEFAULTS[f]) is int and f != "batch_size" and f in table):
        raise TypeError("sizes and seeds are whole numbers")
    texts = {"run", "data", "device", "torch", *(f for f in FIELDS if type(DEFAULTS[f]) is str)}
    for frame in (table, curves):
        for name in frame:
            if name in texts and not frame[name].map(lambda v: isinstance(v, str)).all():
                raise TypeError(f"{name} holds texts")
            if name not in texts and frame[name].dtype.kind not in "fiub" and frame[name].notna().any():
                raise TypeError(f"{name} holds numbers")
    if not table["run"].is_unique or table["seed"].min() < 0 or not curves["run"].isin(table["run"]).all():
        raise ValueError("a run is there once, and each curve belongs to one")
    return _clean(table), curves


def _clean(table: pd.DataFrame) -> pd.DataFrame:
    # fields that may be None are floats with NaN in a table; numbers and flags keep the type of their default
    dtypes = table.dtypes.to_dict()
    for name in FIELDS:
        kind = float if DEFAULTS[name] is None or name == "batch_size" else type(DEFAULTS[name])
        if name in dtypes and kind is not str and dtypes[name] != kind:
            table[name] = table[name].astype(kind)
    return table
