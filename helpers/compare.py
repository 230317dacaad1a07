"""A against B: arms that differ in one declared field, each tuned on equal terms, paired seeds, an interval."""

from __future__ import annotations

import itertools
import math
import numbers
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from helpers import checks, engine, training
from helpers.recipe import FIELDS, Recipe
from helpers.runs import Runs

SCORES = (*(f"{part}_{s}" for part in ("test", "val", "train") for s in ("accuracy", "loss")), "seconds")
TUNING_SEED = 10_000  # tuning uses the seeds from here on, which no comparison uses


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % t-interval. `p` is two-sided, for the mean being zero."""

    mean: float
    low: float
    high: float
    sd: float
    n: int
    p: float

    def __post_init__(self):
        for name in ("mean", "low", "high", "sd", "p"):
            checks.number(name, getattr(self, name))
        checks.integer("n", self.n, low=2)
        if not self.low <= self.mean <= self.high:
            raise ValueError(
                f"low={self.low} and high={self.high} do not lie around mean={self.mean}; use Interval.of(values)."
            )

    @classmethod
    def of(cls, values: Iterable[float], level: float = 0.95) -> Interval:
        """From independent values, such as one paired difference per seed. Raises ValueError for fewer than two."""
        values = checks.several("values", values, "[0.1, 0.2]")
        for value in values:
            if isinstance(value, bool) or not isinstance(value, numbers.Real):
                raise TypeError(f"values holds {checks.show(value)}, which is no number; give one number a seed.")
        if len(values) < 2 or not all(map(checks.is_finite, values)):
            told = checks.show([float(v) if isinstance(v, float) else v for v in values])
            raise ValueError(f"values={told} is not allowed: an interval needs at least two finite values.")
        v, level = np.asarray(values, dtype=float), checks.number("level", level, above=0, below=1, try_="0.95")
        mean, sd = v.mean(), v.std(ddof=1)
        half = stats.t.ppf(0.5 + level / 2, len(v) - 1) * sd / math.sqrt(len(v))
        p = 2 * stats.t.sf(abs(mean) / (sd / math.sqrt(len(v))), len(v) - 1) if sd > 0 else float(mean == 0)
        return cls(float(mean), float(mean - half), float(mean + half), float(sd), len(v), float(p))

    def outcome(self, margin: float) -> str:
        """ "helps", "hurts", "no detectable effect" (the interval lies inside ±margin) or "undecided"."""
        checks.number("margin", margin, low=0, try_="0.005")
        if self.low >= -margin and self.high <= margin:
            return "no detectable effect"
        if self.low > 0 and self.mean >= margin:
            return "helps"
        if self.high < 0 and self.mean <= -margin:
            return "hurts"
        return "undecided"


@dataclass(frozen=True)
class Comparison:
    """What `compare` found. `arms` are the values of `field`, the first one is A.

    chosen : the tuned values of each arm; at_edge : arms whose best value stood at the edge of its grid
    runs : the final runs of all arms, tuning : those used to choose
    scores : DataFrame, index = seed, one column per arm, the declared score of each final run
    """

    field: str
    arms: tuple
    chosen: dict
    at_edge: tuple
    runs: Runs
    tuning: Runs
    scores: pd.DataFrame
    score: str
    margin: float
    higher_is_better: bool = True

    def __post_init__(self):
        checks.kind("scores", self.scores, pd.DataFrame, "a pandas DataFrame with one column for each arm")
        arms = checks.once("arms", checks.several("arms", self.arms, "('he', 'zero')"))
        if len(arms) < 2 or list(self.scores.columns) != arms:
            raise ValueError(f"arms={checks.show(self.arms)} is not allowed: give two or more, the columns of scores.")
        checks.number("margin", self.margin, low=0), checks.flag("higher_is_better", self.higher_is_better)
        checks.text("field", self.field, empty=False), checks.text("score", self.score, empty=False)

    def interval(self, a=None, b=None) -> Interval:
        """The paired difference A - B over seeds, as an interval; by default the first two arms.

        For a score of which less is better the sign is turned, so that above zero always means: A is better.
        """
        a, b = self.arms[0] if a is None else a, self.arms[1] if b is None else b
        for name, arm in (("a", a), ("b", b)):
            if not isinstance(arm, Hashable) or arm not in self.arms:
                raise ValueError(
                    f"{name}={checks.show(arm)} is not an arm; the arms are {', '.join(map(repr, self.arms))}."
                )
        sign = 1 if self.higher_is_better else -1
        return Interval.of(sign * (self.scores[a] - self.scores[b]))

    def outcome(self, a=None, b=None) -> str:
        """ "helps", "hurts", "no detectable effect" or "undecided", for A against B."""
        return self.interval(a, b).outcome(self.margin)

    def table(self) -> pd.DataFrame:
        """One row per arm: the tuned values, mean, sd, n, diverged, and the difference of the first arm to it."""
        rows = []
        for arm in self.arms:
            runs, values = self.runs.where(**{self.field: arm}), self.scores[arm]
            row = {self.field: arm, **self.chosen[arm], "mean": values.mean(), "sd": values.std(), "n": len(values)}
            row["diverged"] = int(runs.table["diverged"].sum())
            if arm != self.arms[0]:
                i = self.interval(self.arms[0], arm)
                row |= {"first minus this": i.mean, "low": i.low, "high": i.high}
                row["verdict"] = i.outcome(self.margin)
            rows.append(row)
        return pd.DataFrame(rows)

    def sentence(self, a=None, b=None) -> str:
        """The finding in one sentence, with interval and n."""
        a, b = self.arms[0] if a is None else a, self.arms[1] if b is None else b
        i, share = self.interval(a, b), self.score.endswith("accuracy")
        unit, k = (" points", 100) if share else ("", 1)
        what = {"helps": "beats", "hurts": "loses to"}.get(i.outcome(self.margin))
        size = f"95 % CI [{i.low * k:.1f}, {i.high * k:.1f}], n = {i.n}"
        score = self.score.replace("_", " ")
        if what:
            return f"{a} {what} {b} by {abs(i.mean) * k:.1f}{unit} of {score} ({size})."
        if i.outcome(self.margin) == "undecided":
            return f"{a} against {b}: undecided, {i.mean * k:+.1f}{unit} of {score} ({size})."
        return f"{a} against {b}: no effect beyond {self.margin * k:g}{unit} of {score} ({i.mean * k:+.1f}, {size})."

    def _repr_html_(self) -> str:
        """The table for the eye: the verdict before the rest, an accuracy in percent, no column of zeros."""
        table, share = self.table(), self.score.endswith("accuracy")
        shown, name = table[[self.field, *self.chosen[self.arms[0]]]].copy(), self.score.replace("_", " ")

        def told(value: float, sign: str = "") -> str:
            text = f"{100 * value:{sign}.2f}" if share else f"{value:{sign}.3g}"
            return "" if math.isnan(value) else text.replace("-", "\N{MINUS SIGN}")

        shown[f"{name} (%)" if share else name] = table["mean"].map(told)
        shown["first minus this"] = [told(v, "+") for v in table["first minus this"]]
        ends = [f"[{told(a)},\N{NO-BREAK SPACE}{told(b)}]" for a, b in table[["low", "high"]].to_numpy()]
        shown["95 % CI"] = ["", *ends[1:]]
        shown["verdict"], shown["sd"], shown["n"] = table["verdict"], table["sd"].map(told), table["n"]
        if table["diverged"].any():
            shown["diverged"] = table["diverged"]
        return checks.visible(shown.to_html(index=False, na_rep="", border=0, float_format="{:.4g}".format))


def compare(
    base: Recipe,
    *,
    arms: dict[str, list],
    data,
    tune: dict[str, list] | None = None,
    seeds: int = 8,
    tuning_seeds: int = 2,
    score: str = "test_accuracy",
    measure: Callable[[Runs], pd.Series] | None = None,
    higher_is_better: bool = True,
    margin: float = 0.005,
    jobs: int | str = "auto",
) -> Comparison:
    """Compare arms that differ in one field, each at its own best setting of the nuisance fields.

    Parameters
    ----------
    base : the fixed fields; arms : {field: [A, B, ...]}, the one scientific field
    tune : {field: values}, the nuisance fields. Every arm is tried at every combination with `tuning_seeds` seeds that
        the comparison does not use; the best mean validation accuracy is chosen. Equal budget for all arms.
    seeds : paired seeds 0, 1, ...: the same order of the data in every arm, and the same weights where shapes allow
    score : the column of `Runs.table` to compare. A test score opens the seal, once for this verdict.
    measure : a function of Runs giving a number per run, in its place, when the score is not a column
    jobs : as `train` takes it
    margin : differences smaller than this count as none; declare it before you look (0.005 = half a point)

    Raises ValueError or TypeError with one sentence for bad input.
    """
    training.given(base, data)
    if not isinstance(arms, dict) or len(arms) != 1:
        raise ValueError(
            f"arms={checks.show(arms)} is not allowed: name one field and its values, such as "
            f"{{'init': ['he', 'zero']}}."
        )
    if not isinstance(tune, dict | None):
        raise TypeError(f"tune={checks.show(tune)} is not allowed: name fields and values, as {{'lr': [0.1, 0.3]}}.")
    (field, values), tune = next(iter(arms.items())), tune or {}
    checks.known("field of Recipe", [field, *tune], FIELDS)
    if not isinstance(values, list | tuple) or len(values) < 2 or len(set(map(repr, values))) < len(values):
        raise ValueError(f"arms={checks.show(arms)} is not allowed: {field} needs at least two different values.")
    checks.once(f"arms[{field!r}]", list(values))
    if field in tune:
        raise ValueError(
            f"tune={field!r} is not allowed: {field} is what the arms differ in, so it cannot be tuned too."
        )
    tune = {k: checks.once(f"tune[{k!r}]", checks.several(f"tune[{k!r}]", v, "[0.1, 0.3]")) for k, v in tune.items()}
    checks.integer("seeds", seeds, low=2, high=TUNING_SEED, try_="8")
    checks.integer("tuning_seeds", tuning_seeds, low=1, high=TUNING_SEED, try_="2")
    checks.flag("higher_is_better", higher_is_better)
    if measure is None:
        checks.known("score", [score], SCORES)
    else:
        checks.function("measure", measure, "lambda runs: runs.table['seconds']")
        checks.text("score", score, empty=False)
    checks.number("margin", margin, low=0, try_="0.005")

    settings = [dict(zip(tune, v, strict=True)) for v in itertools.product(*tune.values())]
    grid = [base.but(**{field: arm}, **s) for arm in values for s in settings]  # all are checked before the first run
    if tune:
        tuning = engine.train([r.but(seed=TUNING_SEED + s) for r in grid for s in range(tuning_seeds)], data, jobs=jobs)
        means = tuning.table["val_accuracy"].to_numpy().reshape(len(values), len(settings), tuning_seeds).mean(-1)
        chosen = {arm: settings[i] for arm, i in zip(values, means.argmax(1), strict=True)}
    else:
        tuning, chosen = Runs.empty(), {arm: {} for arm in values}
    edge = tuple(arm for arm in values if any(_at_edge(tune[k], v) for k, v in chosen[arm].items()))

    final = [base.but(**{field: arm}, **chosen[arm], seed=s) for arm in values for s in range(seeds)]
    allowed = {field, "seed", *tune}
    for r in final:
        if extra := set(r.differs(base)) - allowed:
            raise ValueError(f"{', '.join(extra)} differs between the arms; only {field} may.")
    about = f"verdict on {field}: {', '.join(map(str, values))}"
    runs = engine.train(final, data, jobs=jobs, test=about if score.startswith("test_") else "")
    if measure is None:
        column = runs.table[score]
    else:
        column = pd.Series(checks.several("measure(runs)", measure(runs), "runs.table['seconds']"))
        if len(column) != len(runs) or column.dtype.kind not in "fiub":
            raise ValueError(
                f"measure gave {len(column)} values of dtype {column.dtype}; give one number for each of "
                f"the {len(runs)} runs."
            )
    by_arm = column.to_numpy(dtype=float).reshape(len(values), seeds)
    scores = pd.DataFrame(by_arm.T, index=pd.RangeIndex(seeds, name="seed"), columns=pd.Index(values, dtype=object))
    return Comparison(field, tuple(values), chosen, edge, runs, tuning, scores, score, margin, higher_is_better)


def _at_edge(grid, value) -> bool:
    ordered = sorted(v for v in grid if isinstance(v, numbers.Real))  # names have no edge, and "off" is none
    return len(ordered) > 2 and value in (ordered[0], ordered[-1])
