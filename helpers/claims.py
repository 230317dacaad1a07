"""Verdicts on the sources' claims, computed from evidence; and the ledger that keeps them.

A claim has one or more *parts*, each with its own evidence. All parts hold: TRUE. None holds: FALSE. Some do and some
do not: DEPENDS. The data do not decide: UNDECIDED. A sentence without a testable meaning is ILL-POSED, which is said
beforehand, not measured. Within a chapter the p-values of all parts are corrected together (Holm 1979).
"""

from __future__ import annotations

import dataclasses
import numbers
import pathlib
from collections.abc import Iterable
from dataclasses import dataclass

import yaml
from scipy import stats

from helpers import checks
from helpers.compare import Comparison, Interval

MIME = "application/vnd.training-tricks.verdict+json"
VERDICTS = ("TRUE", "FALSE", "DEPENDS", "ILL-POSED", "UNDECIDED")
OUTCOMES = ("helps", "hurts", "no detectable effect")
ALPHA = 0.05


@dataclass(frozen=True)
class Evidence:
    """One measured part of a claim: what was expected of it, what came out, and in how many runs.

    holds : True or False, None where the data do not decide. p : two-sided p-value of the test behind it, None for an
    exact check (a count, an equality), which no correction touches.
    """

    holds: bool | None
    sentence: str
    n: int
    p: float | None = None
    outcome: str = ""

    def __post_init__(self):
        if self.holds is not None:
            checks.flag("holds", self.holds)
        checks.text("sentence", self.sentence, empty=False), checks.text("outcome", self.outcome)
        checks.integer("n", self.n, low=0)
        if self.p is not None:
            checks.number("p", self.p, low=0, high=1)


def exact(sentence: str, holds: bool, n: int = 1) -> Evidence:
    """Evidence from an exact check (rule R3): an equality within rounding, a count, a shape, an error raised."""
    return Evidence(checks.flag("holds", holds), sentence, n, None, "holds" if holds else "fails")


def shows(comparison: Comparison, expected: str, a=None, b=None) -> Evidence:
    """Evidence from a comparison (R1, R2): does A against B come out as the claim says?

    `expected` is "helps", "hurts" or "no detectable effect".
    """
    checks.kind("comparison", comparison, Comparison, "a Comparison, as compare(...) returns it")
    checks.one_of("expected", expected, OUTCOMES)
    interval, outcome = comparison.interval(a, b), comparison.outcome(a, b)
    holds = None if outcome == "undecided" else outcome == expected
    p = None if outcome == "no detectable effect" else interval.p
    return Evidence(holds, comparison.sentence(a, b), interval.n, p, outcome)


def above(
    sentence: str, values: Iterable[float], *, zero: float = 0.0, margin: float = 0.0, unit: str = ""
) -> Evidence:
    """Evidence that a quantity, one independent value per seed, lies above `zero` by at least `margin` (R1, R6).

    Holds when the 95 % t-interval lies above `zero` and the mean is `margin` above it; fails when the interval lies
    below `zero` or inside ±margin around it. `sentence` gets the interval appended.
    """
    checks.text("sentence", sentence, empty=False), checks.text("unit", unit)
    checks.number("zero", zero), checks.number("margin", margin, low=0)
    values = checks.several("values", values, "[0.1, 0.2]")
    numeric = [isinstance(v, numbers.Real) and not isinstance(v, bool) and checks.is_finite(v) for v in values]
    i = Interval.of([v - zero if good else v for v, good in zip(values, numeric, strict=True)])
    outcome = i.outcome(margin)
    holds = {"helps": True, "undecided": None}.get(outcome, False)
    told = f"{sentence}: mean {i.mean + zero:.3g}{unit}, 95 % CI [{i.low + zero:.3g}, {i.high + zero:.3g}], n = {i.n}."
    return Evidence(holds, told, i.n, None if outcome == "no detectable effect" else i.p, outcome)


def below(
    sentence: str, values: Iterable[float], *, zero: float = 0.0, margin: float = 0.0, unit: str = ""
) -> Evidence:
    """Evidence that a quantity lies below `zero` by at least `margin`: the mirror image of `above`."""
    values = checks.several("values", values, "[0.1, 0.2]")
    told = above(sentence, values, zero=zero, margin=margin, unit=unit).sentence
    mirrored = above(sentence, [2 * zero - v for v in values], zero=zero, margin=margin)
    return dataclasses.replace(mirrored, sentence=told)


def share(sentence: str, hits: int, n: int, *, at_least: float | None = None, at_most: float | None = None) -> Evidence:
    """Evidence on a proportion (R4): does its 95 % Wilson interval lie on the stated side of a bound?"""
    checks.text("sentence", sentence, empty=False)
    n = checks.integer("n", n, low=1)
    hits = checks.integer("hits", hits, low=0, high=n)
    if (at_least is None) == (at_most is None):
        raise ValueError("share needs one bound: give at_least=0.9 or at_most=0.1, not both and not none.")
    ci = stats.binomtest(hits, n).proportion_ci(method="wilson")
    side, bound = ("at_least", at_least) if at_most is None else ("at_most", at_most)
    checks.number(side, bound, low=0, high=1)
    over, under = bool(ci.low >= bound), bool(ci.high <= bound)
    holds = None if not (over or under) else over if at_most is None else under
    p = float(stats.binomtest(hits, n, bound).pvalue) if 0 < bound < 1 else None
    told = f"{sentence}: {hits} of {n} ({100 * hits / n:.1f} %, 95 % CI [{100 * ci.low:.1f}, {100 * ci.high:.1f}])."
    return Evidence(holds, told, n, p, {True: "holds", False: "fails", None: "undecided"}[holds])


def worded(evidence: Evidence, names: dict) -> Evidence:
    """The same evidence with arms called by a name: the first mention of each key in its sentence is replaced."""
    told = checks.kind("evidence", evidence, Evidence, "what shows(...) returns").sentence
    for arm, name in checks.kind("names", names, dict, 'a dict such as {"none": "plain"}').items():
        told = told.replace(str(arm), name, 1)
    return dataclasses.replace(evidence, sentence=checks.capital(told))


def holm(p_values: Iterable[float]) -> list[float]:
    """Holm's step-down adjustment (Holm 1979): adjusted p-values in the order given."""
    p = checks.several("p_values", p_values, "[0.01, 0.2]", empty=True)
    for value in p:
        checks.number("p_values", value, low=0, high=1)
    order, adjusted, worst = sorted(range(len(p)), key=p.__getitem__), [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = worst
    return adjusted


@dataclass(frozen=True)
class Verdict:
    """The computed verdict on one claim; in a notebook or page it shows as a card."""

    id: str
    verdict: str
    parts: tuple[tuple[str, Evidence], ...]
    claim: str = ""
    says: str = ""
    source: str = ""

    @property
    def sentence(self) -> str:
        """What was measured, part by part."""
        return " ".join(e.sentence for _, e in self.parts)

    def to_json(self) -> dict:
        """What the evidence pages and their tests read."""
        outcomes = {e.outcome for _, e in self.parts}
        n = min((e.n for _, e in self.parts), default=0)
        outcome = outcomes.pop() if len(outcomes) == 1 else "mixed"
        see = checks.visible
        parts = [{"name": see(k), "holds": e.holds, "sentence": see(e.sentence), "n": e.n} for k, e in self.parts]
        about = {"id": self.id, "verdict": self.verdict, "outcome": outcome, "sentence": see(self.sentence), "n": n}
        return about | {"parts": parts}

    def __str__(self) -> str:
        return f"{self.id}: {self.verdict}. {self.sentence}"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {"text/html": self._html(), "text/plain": str(self), MIME: self.to_json()}

    def _html(self) -> str:
        sign = {"TRUE": "✓", "FALSE": "✗", "DEPENDS": "±", "ILL-POSED": "∅", "UNDECIDED": "?"}[self.verdict]
        escape = checks.escaped
        parts = "".join(f"<li><strong>{escape(name)}</strong>: {escape(e.sentence)}</li>" for name, e in self.parts)
        source = f'<span class="tt-source">({escape(self.source)})</span>'
        claim = f'<p class="tt-claim">The claim: {escape(self.claim)} {source}</p>'
        says = f'<p class="tt-says">{escape(self.says)}</p>' if self.says else ""
        return (
            f'<div class="tt-verdict" id="claim-{escape(self.id.lower())}" data-verdict="{self.verdict}">'
            f'<p class="tt-head"><span class="tt-sign" aria-hidden="true">{sign}</span> '
            f'<strong>{self.verdict}</strong> <span class="tt-id">{escape(self.id)}</span></p>'
            f"{claim if self.claim else ''}<ul>{parts}</ul>{says}</div>"
        )


def decide(parts: dict[str, Evidence], *, ill_posed: bool = False) -> str:
    """The verdict that these parts give together (see the top of this module)."""
    if ill_posed:
        return "ILL-POSED"
    holds = {e.holds for e in parts.values()}
    if {True, False} <= holds:
        return "DEPENDS"
    return "UNDECIDED" if None in holds else "TRUE" if holds == {True} else "FALSE"


def verdict(claim: str, evidence: Evidence | dict[str, Evidence], *, ill_posed: bool = False) -> Verdict:
    """The verdict on one claim by itself: `verdict("INIT-05", shows(result, "helps"))`.

    A chapter collects its evidence in a `Ledger`, which also corrects for the number of tests.
    """
    ledger = Ledger()
    checks.flag("ill_posed", ill_posed)
    if isinstance(evidence, dict):
        for name in checks.several("evidence", list(evidence), "{'measured': exact(...)}"):
            checks.text("evidence", name, empty=False)
    ledger.add(claim, **(evidence if isinstance(evidence, dict) else {"measured": evidence}))
    if ill_posed:
        ledger.ill_posed(claim)
    return ledger.verdicts()[0]


class Ledger:
    """Collects a chapter's evidence, claim by claim, and decides all verdicts together.

    `ledger.add("INIT-08", right_scale=..., any_scale=...)`; the last expression of a cell, `ledger`, shows the cards.
    """

    def __init__(self):
        self._parts: dict[str, dict[str, Evidence]] = {}
        self._ill_posed: set[str] = set()

    def add(self, claim: str, **parts: Evidence) -> None:
        """Add evidence to a claim, part by part; the part's name says what it is about. A name comes once only."""
        checks.text("claim", claim, empty=False)
        for name, evidence in parts.items():
            if not isinstance(evidence, Evidence):
                raise TypeError(
                    f"{name}={checks.show(evidence)} is not evidence; make it with shows, above, below, share or exact."
                )
            if name in self._parts.get(claim, {}):
                raise ValueError(f"{name!r} has been added to {claim} before; give each part of a claim its own name.")
            self._parts.setdefault(claim, {})[name] = evidence

    def ill_posed(self, *claims: str) -> None:
        """Say that a claim has no testable meaning as it stands; its evidence is shown all the same."""
        for claim in claims:
            checks.text("claim", claim, empty=False)
            self._parts.setdefault(claim, {})
            self._ill_posed.add(claim)

    def verdicts(self) -> list[Verdict]:
        """All verdicts, in the order of the claims' ids, after Holm's correction over every p-value of the ledger."""
        tests = [(c, k) for c, parts in self._parts.items() for k, e in parts.items() if e.p is not None]
        adjusted = dict(zip(tests, holm(self._parts[c][k].p for c, k in tests), strict=True))
        rows, out = _claims_file(), []
        for claim in sorted(self._parts):
            parts = {k: _corrected(e, adjusted.get((claim, k))) for k, e in self._parts[claim].items()}
            row = rows.get(claim, {})
            words = {k: str(row.get(k, "")) for k in ("claim", "says", "source")}
            named = tuple((k.replace("_", " "), e) for k, e in parts.items())
            out.append(Verdict(claim, decide(parts, ill_posed=claim in self._ill_posed), named, **words))
        return out

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        cards = self.verdicts()
        return {
            "text/html": "".join(v._html() for v in cards),
            "text/plain": "\n".join(map(str, cards)),
            MIME: {"verdicts": [v.to_json() for v in cards]},
        }


def _corrected(evidence: Evidence, p: float | None) -> Evidence:
    if p is None or evidence.holds is None or p < ALPHA:
        return evidence
    told = evidence.sentence + f" (Not decided after Holm's correction, p = {p:.2f}.)"
    return dataclasses.replace(evidence, holds=None, outcome="undecided", sentence=told)


def _claims_file() -> dict[str, dict]:
    """The rows of book/claims.yml by id, where the notebook stands inside the book's folder; else nothing."""
    for folder in [pathlib.Path.cwd(), *pathlib.Path.cwd().parents]:
        path = folder / "book" / "claims.yml"
        if path.is_file():
            return {row["id"]: row for row in yaml.safe_load(path.read_text(encoding="utf-8")) or []}
    return {}
