"""Every chapter again from other seeds: the record of the verdicts, and what the ledger says of it."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import nbformat
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))
ledger = pytest.importorskip("ledger", reason="the tools that build the book are not installed")
execute = pytest.importorskip("execute")

CHAPTER = """import os
from IPython.display import display
first = int(os.environ.get("TRICKS_FIRST_SEED") or 0)
kind = "application/vnd.training-tricks.verdict+json"
said = [{"id": "A-1", "verdict": "TRUE"}, {"id": "A-2", "verdict": "TRUE" if first < 2000 else "UNDECIDED"}]
display({kind: {"verdicts": said}}, raw=True)
"""


def test_a_record_tells_which_verdicts_hang_on_the_seeds(tmp_path):
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
