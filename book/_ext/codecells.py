"""Code on a page: a folded cell says what it holds, neighbours fold into one, and a long line goes on indented."""

from __future__ import annotations

import html
import re

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

CLAIM = re.compile(r'\bledger\.add\(\s*"([A-Z0-9]+-\d+)"')
BLOCK = re.compile(r'(<div class="highlight"><pre>)(.*?)(</pre>)', re.S)
TAG = re.compile(r"<[^>]*>")
COLOURS = re.compile(r"<style>pre \{ line-height: 125%; \}.*?</style>", re.S)  # IPython's; the page has its own
NARROW = 32  # letters that every phone has room for
VISIBLE = (nodes.raw, nodes.image, nodes.table, nodes.math_block)


class FoldedCells(SphinxPostTransform):
    """Name what is folded away, and fold a cell that shows nothing together with the folded one after it."""

    default_priority = 198  # just before MyST-NB wraps them
    formats = ("html",)

    def run(self, **options) -> None:
        fold(self.document)


def fold(document) -> None:
    for cell in document.findall(nodes.container):
        if cell.get("hide_mode") == "all":  # code and output: of the exercises
            cell["prompt_show"], cell["prompt_hide"] = "Show the solution", "Hide the solution"
    for cell in filter(folded, list(document.findall(nodes.container))):
        place = cell.parent.index(cell)
        before = cell.parent[place - 1] if place else None
        if folded(before) and silent(before):
            cell.parent.remove(before)
            cell[0].insert(0, before[0].children)
        about = told(CLAIM.findall(cell[0].astext()))
        cell["prompt_show"], cell["prompt_hide"] = f"Show {about}", f"Hide {about}"


def folded(node) -> bool:
    """Whether this is a code cell whose code a reader opens by a click."""
    return (
        isinstance(node, nodes.container)
        and node.get("hide_mode") == "input"
        and bool(node.children)
        and node[0].get("nb_element") == "cell_code_source"
    )


def silent(cell) -> bool:
    """Whether nothing stands below the code of this cell."""
    parts = [node for part in cell[1:] for node in part.findall()]
    return not any(isinstance(node, VISIBLE) or (isinstance(node, nodes.Text) and node.strip()) for node in parts)


def told(claims: list[str]) -> str:
    """What a folded cell holds, in the words of its line."""
    claims = sorted(set(claims), key=lambda name: (name.split("-")[0], int(name.split("-")[1])))
    if not claims:
        return "the code"
    listed = " and ".join(filter(None, [", ".join(claims[:-1]), claims[-1]]))
    return f"how {listed} {'is' if len(claims) == 1 else 'are'} decided"


def hang(block: re.Match) -> str:
    """The same block; of each line that may be too long the page knows how deep it begins."""

    def line(code: str) -> str:
        seen = html.unescape(TAG.sub("", code))
        if len(seen) <= NARROW:
            return code + "\n"
        return f'<span class="tt-row" style="--in:{len(seen) - len(seen.lstrip())}">{code}\n</span>'

    return block[1] + "".join(map(line, block[2].removesuffix("\n").split("\n"))) + block[3]


def mend(app, pagename, templatename, context, doctree) -> None:
    if "body" in context:
        context["body"] = BLOCK.sub(hang, COLOURS.sub("", context["body"]))


def setup(app) -> dict:
    app.add_post_transform(FoldedCells)
    app.connect("html-page-context", mend)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
