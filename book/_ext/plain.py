"""Chapters are plain Markdown, so that they read well in Jupyter and Colab; here they gain what only the book has.

- A quotation right after the title is the promise of the chapter.
- A quotation that begins with `**Predict.**` is a box with a choice.
- `[He et al. 2015](../book/references.bib#he2015)` is a citation.
- `[?](01_data_splits.ipynb "split_off:.0f")` is a number that another chapter has glued, and its format.
- Lines such as `- **[1 · Data splits](01_data_splits.ipynb)** ...`, one after the other, are cards.
"""

from __future__ import annotations

import json
import re

QUOTED = re.compile(r"(\A# .+\n\n)?((?:^>.*\n?)+)", re.M)
PREDICT = re.compile(r"\A\*\*(Predict\b[^*]*?)\.\*\*\n+")
CITED = re.compile(r"\[[^\[\]]+\]\(\.\./book/references\.bib#([\w-]+)\)")
GLUED = re.compile(r'\[\?\]\((\w+\.ipynb) "(\w+:[^"]*)"\)')
CARD = re.compile(r"^- \*\*\[([^\]]+)\]\((\w+)\.ipynb\)\*\* (.+)\n?", re.M)
CARDS = re.compile(f"(?:{CARD.pattern})+", re.M)


def to_myst(text: str) -> str:
    """The Markdown of a cell in the words of MyST."""
    text = QUOTED.sub(_box, CARDS.sub(_grid, text))
    return GLUED.sub(r"{glue:text}`\1::\2`", CITED.sub(r"{cite:t}`\1`", text))


def _box(quoted: re.Match) -> str:
    title, text = quoted[1] or "", re.sub(r"^> ?", "", quoted[2].rstrip("\n"), flags=re.M)
    predict = PREDICT.match(text)
    if not (title or predict):
        return quoted[0]
    opening = f":::{{admonition}} {predict[1]}\n:class: predict\n" if predict else ":::{div} promise\n"
    return f"{title}{opening}{PREDICT.sub('', text)}\n:::\n"


def _grid(lines: re.Match) -> str:
    cards = [
        f":::{{grid-item-card}} {title}\n:link: {page}\n:link-type: doc\n\n{text}\n:::\n"
        for title, page, text in CARD.findall(lines[0])
    ]
    return "::::{grid} 1 1 2 3\n:gutter: 3\n\n" + "\n".join(cards) + "::::\n"


def read(app, docname: str, source: list[str]) -> None:
    """What Sphinx reads of a notebook."""
    if str(app.env.doc2path(docname)).endswith(".ipynb"):
        notebook = json.loads(source[0])
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = to_myst("".join(cell["source"]))
        source[0] = json.dumps(notebook)


def setup(app) -> dict:
    app.connect("source-read", read)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
