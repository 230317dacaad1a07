"""The style sheets of a book as one, without the rules that no page can use.

A rule stays when every class, id and element in one of its selectors occurs in a page or in a script. What cannot be
decided that way (attributes, states) stays, so the pages look as before; a test compares them.
"""

from __future__ import annotations

import pathlib
import posixpath
import re
from collections.abc import Iterable, Iterator

import tinycss2

ATTRIBUTE = re.compile(r"""\b(?:class|id)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]+))""")
TAG = re.compile(r"<([a-zA-Z][\w-]*)")
WORD = re.compile(r"[A-Za-z_][\w-]*")
IMPORT = re.compile(r"""@import\s+(?:url\()?["']?([^"')]+)["']?\)?\s*;""")
PLACE = re.compile(r"""url\(\s*(["']?)(?!data:|#)([^"')]+)\1\s*\)""")
VARIABLE = re.compile(r"var\(\s*(--[\w-]+)")
SET = re.compile(r"""(?<=[{;])(--[\w-]+):((?:[^;{}"']|"[^"]*"|'[^']*')*)(;|(?=\}))""")
NESTED = {"media", "supports", "layer", "container"}


def names(texts: Iterable[str]) -> set[str]:
    """The classes, ids and elements of pages: ".a", "#b", "div"."""
    found: set[str] = set()
    for text in texts:
        text = re.sub(r"<svg\b.*?</svg>", "<svg>", text, flags=re.S) if text.count("<svg") > 3 else text
        found |= {tag.lower() for tag in TAG.findall(text)}
        found.update(*(set("".join(match).split()) for match in ATTRIBUTE.findall(text)))
    return found


def words(scripts: Iterable[str]) -> set[str]:
    """Every word of a script: it may give it to an element as a class or an id."""
    return {word for text in scripts for word in WORD.findall(text)}


def read(path: pathlib.Path, root: pathlib.Path) -> str:
    """A style sheet with its imports in their places and its addresses as seen from `root`."""
    text = path.read_text(encoding="utf-8")
    here = path.parent.resolve().relative_to(root.resolve()).as_posix()

    def moved(match):
        return f'url("{posixpath.normpath(posixpath.join(here, match[2]))}")'

    parts = IMPORT.split(text)
    parts[::2] = (PLACE.sub(moved, t) for t in parts[::2])
    parts[1::2] = (read(path.parent / address.split("?")[0], root) for address in parts[1::2])
    return "".join(parts)


def _needs(tokens: list) -> Iterator[str]:
    """What a selector needs to match anything. The arguments of :not(), :is() and the like are not looked into."""
    before = ""
    for token in tokens:
        if token.type == "hash":
            yield token.value
        elif token.type == "ident" and before != ":":
            yield token.value if before == "." else token.value.lower()
        before = token.value if token.type == "literal" else ""


def _selectors(prelude: list) -> Iterator[list]:
    part: list = []
    for token in prelude:
        if token.type == "literal" and token.value == ",":
            yield part
            part = []
        else:
            part.append(token)
    yield part


def _rules(nodes: list, known: set[str]) -> Iterator[str]:
    for node in nodes:
        if node.type == "qualified-rule":
            kept = [part for part in _selectors(node.prelude) if all(need in known for need in _needs(part))]
            if kept and node.content:
                body = _declarations(node.content)
                if body:
                    heads = (tinycss2.serialize(part).replace("/**/", "").strip() for part in kept)
                    yield f"{','.join(heads)}{{{body}}}"
        elif node.type == "at-rule" and node.content is not None and node.lower_at_keyword in NESTED:
            inner = "".join(_rules(tinycss2.parse_rule_list(node.content, True, True), known))
            if inner:
                yield f"@{node.at_keyword}{tinycss2.serialize(node.prelude).rstrip()}{{{inner}}}"
        elif node.type == "at-rule" and node.lower_at_keyword != "charset":
            yield re.sub(r"\s+", " ", tinycss2.serialize([node])).strip()


def _declarations(content: list) -> str:
    text = re.sub(r"/\*.*?\*/", "", tinycss2.serialize(content), flags=re.S)
    quoted = re.split(r"""("[^"]*"|'[^']*'|url\([^)]*\))""", text)
    quoted[::2] = (re.sub(r"\s+", " ", part).replace("; ", ";").replace(": ", ":") for part in quoted[::2])
    return "".join(quoted).strip().rstrip(";")


def purge(css: str, known: set[str], elsewhere: str = "") -> str:
    """The rules of `css` that can match a page whose names are `known`.

    `elsewhere` is the text of pages and scripts: a variable, an animation or a font that is named there stays.
    """
    known = known | {"html", "body", "root", "from", "to"}
    rules = list(_rules(tinycss2.parse_stylesheet(css, True, True), known))
    frames = [rule for rule in rules if re.match(r"@(-webkit-)?keyframes", rule)]
    text = "".join(rule for rule in rules if rule not in frames)
    named = set(WORD.findall(" ".join(re.findall(r"animation(?:-name)?:([^;}]*)", text))))
    text += "".join(rule for rule in frames if re.search(r"keyframes ([\w-]+)", rule)[1] in named)
    while True:  # a variable that only unused variables name is unused as well
        fewer = _used(text, set(VARIABLE.findall(text)) | set(re.findall(r"--[\w-]+", elsewhere)))
        if fewer == text:
            return text
        text = fewer


def _used(css: str, variables: set[str]) -> str:
    css = SET.sub(lambda match: match[0] if match[1] in variables else "", css)
    return re.sub(r"[^{}]+\{\}", "", css)
