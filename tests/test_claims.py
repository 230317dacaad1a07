"""Verdicts: how they are computed; and that the book says what its executed chapters measured."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import pytest
import yaml

import helpers as h
from helpers import claims
from helpers.claims import MIME, VERDICTS, Evidence, Ledger, above, below, decide, exact, holm, share, verdict

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXECUTED = ROOT / "_build" / "executed"
COUNTS = {  # the claims of the sources on the subjects of the chapters
    "SPLIT": 22, "INIT": 23, "OPT": 22, "LOSS": 15, "STOP": 7, "AUG": 9, "REG": 28, "LR": 11, "BATCH": 10, "CLIP": 6,
    "BN": 16, "RES": 6, "LENET": 16,
}  # fmt: skip
ROWS = yaml.safe_load((ROOT / "book" / "claims.yml").read_text(encoding="utf-8"))

YES, NO, OPEN = (Evidence(h, "s", 8) for h in (True, False, None))


@pytest.mark.parametrize(
    ("parts", "expected"),
    [([YES], "TRUE"), ([YES, YES], "TRUE"), ([NO], "FALSE"), ([NO, NO], "FALSE"), ([YES, NO], "DEPENDS"),
     ([YES, NO, OPEN], "DEPENDS"), ([OPEN], "UNDECIDED"), ([YES, OPEN], "UNDECIDED"), ([NO, OPEN], "UNDECIDED")],
)  # fmt: skip
def test_parts_decide_together(parts, expected):
    named = {str(i): p for i, p in enumerate(parts)}
    assert decide(named) == expected
    assert decide(named, ill_posed=True) == "ILL-POSED"


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_turns_a_weak_finding_into_undecided_in_company():
    alone, crowd = Ledger(), Ledger()
    weak = Evidence(True, "weak.", 8, p=0.03, outcome="helps")
    alone.add("A-01", weak=weak)
    crowd.add("A-01", weak=weak)
    for i in range(2, 6):
        crowd.add(f"A-0{i}", other=Evidence(True, "also weak.", 8, p=0.04, outcome="helps"))
    assert [v.verdict for v in alone.verdicts()] == ["TRUE"]
    assert {v.verdict for v in crowd.verdicts()} == {"UNDECIDED"}
    assert "Holm" in crowd.verdicts()[0].sentence


def test_above_and_below():
    assert above("it is", [1.0, 1.1, 0.9]).holds is True
    assert above("it is", [-1.0, -1.1, -0.9]).holds is False
    assert above("it is", [-1.0, 1.1, 0.1]).holds is None
    assert above("it is", [0.001, -0.001, 0.0], margin=0.1).holds is False
    assert above("it is", [5.0, 5.1, 4.9], zero=6).holds is False
    assert below("it is", [5.0, 5.1, 4.9], zero=6).holds is True
    assert below("it is", [5.0, 5.1, 4.9], zero=6).sentence.startswith("it is: mean 5, 95 % CI [4.75, 5.25], n = 3")


def test_share_uses_the_wilson_interval():
    e = share("hits", 99, 100, at_least=0.9)
    assert e.holds is True and "99 of 100 (99.0 %, 95 % CI [94.6, 99.8])" in e.sentence
    assert share("hits", 99, 100, at_most=0.9).holds is False
    assert share("hits", 9, 10, at_least=0.9).holds is None
    with pytest.raises(ValueError, match="share needs one bound"):
        share("hits", 1, 2)


def test_exact_takes_a_truth_value():
    assert exact("equal", 1 == 1).holds is True and exact("equal", False).outcome == "fails"
    with pytest.raises(TypeError, match="holds=0.3 is not allowed: holds must be True or False"):
        exact("equal", 0.3)


def test_cards_escape_and_carry_json():
    v = verdict("X-01", exact("<script>alert(1)</script>", True))
    bundle = v._repr_mimebundle_()
    assert "<script>" not in bundle["text/html"] and 'id="claim-x-01"' in bundle["text/html"]
    told = {"id": "X-01", "verdict": "TRUE", "outcome": "holds", "sentence": "<script>alert(1)</script>", "n": 1}
    told["parts"] = [{"name": "measured", "holds": True, "sentence": told["sentence"], "n": 1}]
    assert bundle[MIME] == told
    ledger = Ledger()
    ledger.add("X-02", a=exact("a", True), b=exact("b", False))
    assert ledger._repr_mimebundle_()[MIME]["verdicts"][0]["verdict"] == "DEPENDS"


def test_bad_evidence():
    ledger = Ledger()
    with pytest.raises(TypeError, match="gap=0.3 is not evidence; make it with shows, above, below, share or exact"):
        ledger.add("X-01", gap=0.3)
    ledger.add("X-01", gap=YES)
    with pytest.raises(ValueError, match="'gap' has been added to X-01 before"):
        ledger.add("X-01", gap=YES)


def test_ill_posed_is_said_not_measured():
    assert verdict("X-01", exact("a", True), ill_posed=True).verdict == "ILL-POSED"


# --- the book's own claims


def test_claims_file_is_complete():
    ids = [row["id"] for row in ROWS]
    assert len(set(ids)) == len(ids)
    for prefix, n in COUNTS.items():
        assert sorted(i for i in ids if i.startswith(prefix + "-")) == [f"{prefix}-{k:02d}" for k in range(1, n + 1)]
    assert len(ids) == sum(COUNTS.values())
    for row in ROWS:
        assert row["verdict"] in VERDICTS and row["expectation"] in VERDICTS, row["id"]
        assert all(isinstance(row[k], str) and row[k].strip() for k in ("claim", "says", "source", "chapter")), row[
            "id"
        ]
        assert (ROOT / "chapters" / f"{row['chapter']}.ipynb").is_file(), row["id"]


def measured() -> dict[str, dict]:
    found = {}
    for path in sorted(EXECUTED.glob("[0-9]*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            for output in cell.get("outputs", []):
                told = output.get("data", {}).get(MIME)
                for v in told.get("verdicts", [told]) if told else []:
                    found[v["id"]] = v | {"chapter": path.stem}
    return found


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_the_book_says_what_was_measured(row):
    if not EXECUTED.is_dir():
        pytest.skip("the chapters have not been executed here: run `make book` first")
    if not row["measured"]:
        assert row["kind"] in ("historical", "definitional") and row["reference"], (
            "an unmeasured claim cites its source"
        )
        return
    told = measured().get(row["id"])
    assert told, f"{row['id']} is in claims.yml, but no executed chapter holds its verdict"
    assert told["verdict"] == row["verdict"], f"measured: {told['verdict']}. {told['sentence']}"
    assert told["chapter"] == row["chapter"]


def test_nothing_measured_is_missing_from_the_book():
    if not EXECUTED.is_dir():
        pytest.skip("the chapters have not been executed here: run `make book` first")
    assert set(measured()) <= {row["id"] for row in ROWS}


def test_claims_are_found_from_inside_the_book_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert claims._claims_file() == {}
    monkeypatch.chdir(ROOT / "chapters")
    assert len(claims._claims_file()) == len(ROWS)


def test_arms_are_called_by_a_name_once_and_nothing_else_changes():
    evidence = h.exact("identity beats none: identity.", True)
    told = h.worded(evidence, {"identity": "residual", "none": "plain"})
    assert told == dataclasses.replace(evidence, sentence="Residual beats plain: identity.")
    evidence = h.exact("1.0 against None: no effect.", False)
    assert h.worded(evidence, {1.0: "clipping at 1", None: "no clipping"}).sentence == (
        "Clipping at 1 against no clipping: no effect."
    )
