"""Code on the built pages: what a folded cell is called, which fold together, and how long lines go on."""

from __future__ import annotations

import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))
codecells = pytest.importorskip("codecells", reason="the tools that build the book are not installed")
nodes = pytest.importorskip("docutils.nodes")


def cell(code: str, *outputs, fold: bool = True):
    source = nodes.container("", nodes.literal_block(code, code), nb_element="cell_code_source")
    shown = [nodes.container("", *outputs, nb_element="cell_code_output")] if outputs else []
    attributes = {"hide_mode": "input"} if fold else {}
    return nodes.container("", source, *shown, nb_element="cell_code", **attributes)


def folded(*cells) -> list[tuple[str, list[str]]]:
    document = nodes.document("", None)
    document += list(cells)
    codecells.fold(document)
    blocks = [[block.astext() for block in each.findall(nodes.literal_block)] for each in document.children]
    return [(each.get("prompt_show"), code) for each, code in zip(document.children, blocks, strict=True)]


def test_folded_cells_without_output_fold_into_the_next_one():
    nothing, picture = nodes.container(""), nodes.raw("", "<figure></figure>", format="html")
    assert folded(cell("a"), cell("b", nothing), cell("c", picture), cell("d")) == [
        ("Show the code", ["a", "b", "c"]),
        ("Show the code", ["d"]),
    ]
    apart = [("Show the code", ["a"]), (None, ["b"]), ("Show the code", ["c"])]
    assert folded(cell("a"), cell("b", fold=False), cell("c")) == apart
    text = folded(cell("a"), nodes.paragraph("", "words"), cell("b"))
    assert text == [("Show the code", ["a"]), (None, []), ("Show the code", ["b"])]


def test_a_folded_cell_names_the_claims_that_it_decides():
    one = 'ledger.add("RES-01", x)'
    more = 'ledger.add(\n    "RES-02",\n)\nledger.add("OPT-11", y)\nledger.add("RES-02", z)'
    assert folded(cell(one), nodes.paragraph("", "-"), cell(more))[::2] == [
        ("Show how RES-01 is decided", [one]),
        ("Show how OPT-11 and RES-02 are decided", [more]),
    ]
    assert folded(cell(one), cell(more))[0][0] == "Show how OPT-11, RES-01 and RES-02 are decided"


def test_the_solution_of_an_exercise_is_called_so():
    solution = cell("a", nodes.container("", nodes.paragraph("", "42")))
    solution["hide_mode"] = "all"
    assert folded(solution) == [("Show the solution", ["a"])]


def test_a_long_line_knows_how_deep_it_begins():
    long = '        <span class="n">x</span> = ' + "&lt;" * 40
    page = f'<div class="highlight"><pre><span></span>short = 1\n\n{long}\n</pre></div><pre>{long}\n</pre>'
    kept = f'<div class="highlight"><pre><span></span>short = 1\n\n<span class="tt-row" style="--in:8">{long}\n</span>'
    assert codecells.BLOCK.sub(codecells.hang, page) == f"{kept}</pre></div><pre>{long}\n</pre>"
    whole = re.sub(r"<[^>]*>", "", codecells.BLOCK.sub(codecells.hang, page))
    assert whole == re.sub(r"<[^>]*>", "", page)  # what is copied is the code as it was
