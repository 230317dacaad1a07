"""Other seeds for everything: the number from which they are counted, and the record of what came out."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import nbformat
import pytest
import torch

from helpers import engine, runs, streams, training
from helpers.data import load
from helpers.recipe import Recipe

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))
BASE = Recipe(depth=1, width=8, epochs=2, augment="noise", augment_strength=0.1)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def seen(found):
    return found.table[["train_loss", "val_loss"]].to_numpy()


def test_the_seeds_are_counted_from_the_first(digits, monkeypatch):
    monkeypatch.delenv(streams.VARIABLE, raising=False)
    plain = engine.train(BASE, digits, seeds=range(5, 8), jobs=1)
    assert (streams.first(), streams.seed(3)) == (0, 3)
    monkeypatch.setenv(streams.VARIABLE, "5")
    assert (streams.first(), streams.seed(3)) == (5, 8)
    moved = engine.train(BASE, digits, seeds=3, jobs=1)
    assert (seen(moved) == seen(plain)).all()  # weights, orders and augmentation: all of them
    assert set(moved.table["run"]).isdisjoint(plain.table["run"])  # and no saved run passes for another
    assert runs.run_id(BASE, digits) not in set(plain.table["run"])


def test_every_process_counts_from_the_same_first(digits, monkeypatch):
    monkeypatch.delenv(streams.VARIABLE, raising=False)
    engine.train(BASE, digits, seeds=2, jobs=2)  # the processes stay, with the number they began with
    monkeypatch.setenv(streams.VARIABLE, "5")
    recipes = BASE.vary(width=[8, 9])  # two chunks
    assert (seen(engine.train(recipes, digits, jobs=2)) == seen(engine.train(recipes, digits, jobs=1))).all()


def test_other_weights_and_the_same_data(digits, monkeypatch):
    before = torch.cat([p.flatten() for p in training.fresh_model(BASE, digits).parameters()])
    monkeypatch.setenv(streams.VARIABLE, "1000")
    after = torch.cat([p.flatten() for p in training.fresh_model(BASE, digits).parameters()])
    assert not torch.equal(before, after)


@pytest.mark.parametrize("text", ["-1", "1.5", "many", "1000001"])
def test_another_first_seed_is_refused(text, monkeypatch):
    monkeypatch.setenv(streams.VARIABLE, text)
    with pytest.raises(ValueError, match=f"TRICKS_FIRST_SEED={text!r} is not allowed: give a whole number"):
        streams.first()


CHAPTER = """import os
from IPython.display import display
first = int(os.environ.get("TRICKS_FIRST_SEED") or 0)
kind = "application/vnd.training-tricks.verdict+json"
said = [{"id": "A-1", "verdict": "TRUE"}, {"id": "A-2", "verdict": "TRUE" if first < 2000 else "UNDECIDED"}]
display({kind: {"verdicts": said}}, raw=True)
"""


def test_a_record_tells_which_verdicts_hang_on_the_seeds(tmp_path):
    ledger = pytest.importorskip("ledger", reason="the tools that build the book are not installed")
    for folder in ("helpers", "chapters", "book"):
        (tmp_path / folder).mkdir()
    cells = [nbformat.v4.new_markdown_cell("# A"), nbformat.v4.new_code_cell(CHAPTER)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "chapters" / "01_a.ipynb")
    command = [sys.executable, ROOT / "book" / "_ext" / "replicate.py", "--root", tmp_path, "1000", "2000"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TRICKS_FIRST_SEED": "7"})
    assert done.returncode == 0, done.stderr
    assert "1 of 2 verdicts are the same with all 3 sets of seeds.\n  A-2: TRUE, TRUE, UNDECIDED\n" in done.stdout
    record = ledger.replications(tmp_path)
    assert record["sets"] == [0, 1000, 2000]
    assert record["verdicts"] == {"A-1": ["TRUE"] * 3, "A-2": ["TRUE", "TRUE", "UNDECIDED"]}
    here = json.loads((tmp_path / "_build" / "executed" / "01_a.ipynb").read_text())
    assert here["metadata"]["training_tricks"]["first_seed"] == "0"  # the published chapters are back


def test_the_ledger_names_a_verdict_that_hangs_on_the_seeds():
    ledger = pytest.importorskip("ledger", reason="the tools that build the book are not installed")
    page = ledger.ClaimsLedger.__new__(ledger.ClaimsLedger)
    page.raw, page.others = str, {"A-1": ["TRUE"] * 3, "A-2": ["TRUE", "TRUE", "UNDECIDED"]}
    claims = [{"id": f"A-{k}", "verdict": "TRUE", "measured": "yes"} for k in (1, 2, 3)]
    result = {"verdict": "TRUE", "sentence": "It does."}
    hangs = '<strong class="tt-differs">The verdict hangs on the seeds: true with 2 of 3 sets of seeds.</strong>'
    assert [page.measure(claim, result) for claim in claims] == ["It does.", f"It does. {hangs}", "It does."]
    (note,) = page.again(claims, {"sets": [0, 1, 2], "date": "2026-11-29", "versions": {"torch": "2.13.0"}})
    assert "from 2 other sets of seeds (2026-11-29, torch 2.13.0): 1 of 2 measured verdicts were the same" in note
    assert page.again(claims[2:], {}) == []


def test_a_slip_in_the_sets_ends_in_one_sentence(tmp_path):
    command = [sys.executable, ROOT / "book" / "_ext" / "replicate.py", "--root", tmp_path, "-1000"]
    done = subprocess.run([*command[:-1], "many"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.endswith("'many' is not allowed: give whole numbers from 1 to 1000000, such as 4000\n")


def test_the_record_is_of_the_claims_that_the_book_measures():
    ledger = pytest.importorskip("ledger", reason="the tools that build the book are not installed")
    execute = pytest.importorskip("execute")
    record = ledger.replications(ROOT)
    if not record:
        pytest.skip("no record is committed: `make replicate` writes one")
    assert len(record["sets"]) >= 4 and record["sets"][0] == 0 and record["scale"] == "book"
    assert all(len(row) == len(record["sets"]) for row in record["verdicts"].values())
    books = execute.executed(ROOT)
    if not books or any(book.metadata[execute.META]["scale"] != "book" for book in books.values()):
        pytest.skip("the chapters have not been executed at book scale: run `make book` first")
    measured = {name for name, verdict in ledger.measured(books).items() if verdict.get("verdict")}
    assert measured == set(record["verdicts"])
