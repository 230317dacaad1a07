"""The page "Which trick when" says what was measured, and each of its rows has its evidence."""

from __future__ import annotations

import importlib
import pathlib
import sys

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROWS = [
    (situation["situation"], row)
    for situation in yaml.safe_load((ROOT / "book" / "tricks.yml").read_text(encoding="utf-8"))
    for row in situation["tricks"]
]
CLAIMS = {c["id"]: c for c in yaml.safe_load((ROOT / "book" / "claims.yml").read_text(encoding="utf-8"))}


@pytest.fixture
def which_trick(monkeypatch):
    pytest.importorskip("sphinx")
    monkeypatch.setattr(sys, "path", [str(ROOT / "book" / "_ext"), *sys.path])
    return importlib.import_module("which_trick")


def row(**changes):
    base = {
        "trick": "t",
        "claim": "X-01",
        "part": "p",
        "holds": "helps",
        "fails": "no effect",
        "advice": "a",
        "costs": "c",
    }
    return {**base, **changes}


def found(holds):
    return {"X-01": {"parts": [{"name": "p", "holds": holds, "sentence": "s.", "n": 8}]}}


def test_the_effect_follows_the_measurement(which_trick):
    assert which_trick.effect(row(), found(True)) == ("helps", "s.")
    assert which_trick.effect(row(), found(False)) == ("no effect", "s.")
    assert which_trick.effect(row(), found(None)) == ("", "Undecided in this run. s.")
    assert which_trick.effect(row(), {}) == ("", "Not in this build.")
    with pytest.raises(ValueError, match="'t': X-01 has no part 'q'; its parts are 'p'"):
        which_trick.effect(row(part="q"), found(True))


def test_a_row_with_a_fault_is_named(which_trick, tmp_path):
    file = tmp_path / "tricks.yml"
    for change, sentence in (
        ({"holds": "good"}, "holds='good' is not known; choose one of helps"),
        ({"costs": ""}, "costs missing"),
    ):
        file.write_text(yaml.safe_dump([{"situation": "slow", "tricks": [row(**change)]}]))
        with pytest.raises(ValueError, match=sentence):
            which_trick.read_tricks(file)


@pytest.mark.parametrize(("situation", "given"), ROWS, ids=[f"{r['claim']}-{r['trick']}" for _, r in ROWS])
def test_each_trick_has_decided_evidence(situation, given, which_trick):
    assert given["claim"] in CLAIMS
    results = which_trick.measured(importlib.import_module("execute").executed(ROOT))
    if not results:
        pytest.skip("the chapters have not been executed here: run `make book` first")
    assert which_trick.effect(given, results)[0], "the evidence of a row on this page is decided"


def test_every_chapter_with_tricks_has_a_row():
    chapters = {c["chapter"] for c in CLAIMS.values()}
    assert {CLAIMS[r["claim"]]["chapter"] for _, r in ROWS} == chapters
