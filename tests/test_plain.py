"""Chapters are plain Markdown, which Jupyter and Colab show as it is meant; the book makes boxes and cards of it."""

from __future__ import annotations

import codecs
import json
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))
import plain  # noqa: E402

NOTEBOOKS = sorted((ROOT / "chapters").glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


def text_of(path) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def test_a_quotation_becomes_the_promise_and_one_that_asks_becomes_a_prediction():
    told = plain.to_myst("# T\n\n> You will know it.\n>\n> About 20 minutes.\n\nText.")
    assert told == "# T\n\n:::{div} promise\nYou will know it.\n\nAbout 20 minutes.\n:::\n\nText."
    asked = "> **Predict: the end.**\n>\n> Which?\n>\n> 1. this\n>    one\n> 2. that"
    box = ":::{admonition} Predict: the end\n:class: predict\nWhich?\n\n1. this\n   one\n2. that\n:::\n"
    assert plain.to_myst(asked) == box
    assert plain.to_myst("Text.\n\n> Somebody's words.") == "Text.\n\n> Somebody's words."
    two = plain.to_myst(f"{asked}\n\n{asked}\n")
    assert two == f"{box}\n{box}"


def test_links_become_citations_and_numbers():
    text = "[He et al. 2015](../book/references.bib#he2015)'s, ([A 1](../book/references.bib#a-1)), [B](b.ipynb)"
    assert plain.to_myst(text) == "{cite:t}`he2015`'s, ({cite:t}`a-1`), [B](b.ipynb)"
    assert (
        plain.to_myst('to [?](08_x.ipynb "loss:+.1f"), [?](b.md)') == "to {glue:text}`08_x.ipynb::loss:+.1f`, [?](b.md)"
    )


def test_a_list_of_chapters_becomes_cards():
    one, two = "- **[1 · A](01_a.ipynb)** First.\n", "- **[2 · B](02_b.ipynb)** Second."
    card = ":::{{grid-item-card}} {} · {}\n:link: {}\n:link-type: doc\n\n{}\n:::\n"
    cards = card.format(1, "A", "01_a", "First.") + "\n" + card.format(2, "B", "02_b", "Second.")
    assert plain.to_myst(f"Before.\n\n{one}{two}\n\nAfter.") == (
        f"Before.\n\n::::{{grid}} 1 1 2 3\n:gutter: 3\n\n{cards}::::\n\nAfter."
    )
    assert plain.to_myst("- **bold** item\n- [link](a.ipynb)") == "- **bold** item\n- [link](a.ipynb)"


@every_notebook
def test_a_notebook_has_no_markup_that_jupyter_shows_raw(path):
    text = re.sub(r"`[^`]*`|\$[^$]*\$", lambda m: "`" if m[0][0] == "`" else "", text_of(path))
    assert re.findall(r"(?m)^:::.*|^\([\w-]+\)=$|\{[a-z][\w:+-]*\}`", text) == []


@every_notebook
def test_a_citation_has_the_names_and_the_year_of_its_work(path):
    database = pytest.importorskip("pybtex.database", reason="the tools that build the book are not installed")
    pytest.importorskip("latexcodec")  # names such as M{\\"u}ller
    works = database.parse_file(str(ROOT / "book" / "references.bib")).entries
    links = re.findall(r"\[([^\]]+)\]\(\.\./book/references\.bib#([^)]+)\)", text_of(path))
    assert path.stem == "00_start" or links
    for shown, key in links:
        people = works[key].persons.get("author") or works[key].persons["editor"]
        names = [" ".join([*person.prelast_names, *person.last_names]) for person in people]
        names = [re.sub(r"[{}]", "", codecs.decode(name, "ulatex")) for name in names]
        many = len(names) > 2 or names[-1] == "others"
        assert shown == f"{f'{names[0]} et al.' if many else ' and '.join(names)} {works[key].fields['year']}", key
