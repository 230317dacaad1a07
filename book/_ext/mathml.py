"""Formulas as native MathML, written at build time.

No script, no network and no node: latex2mathml turns TeX into MathML, and this module brings the result into the
form that browsers draw (MathML Core): letters of other alphabets as Unicode, column alignment as CSS. A formula that
cannot be read, or that holds an unknown command, is a Sphinx warning, and warnings are errors in `make book`.
"""

from __future__ import annotations

import functools
import html
import re
import unicodedata
from xml.etree import ElementTree

from docutils import nodes
from latex2mathml.converter import convert_to_element
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

log = logging.getLogger(__name__)
BARS = ("&#x02016;", "&#x02223;", "&#x02225;", "&#x0007C;", "‖", "∣", "∥", "|")
LIMITS = re.compile(r"[∏∐∑⋀-⋃⨀-⨆]|(arg\W?)?(max|min)|lim(\W?(sup|inf))?|sup|inf|plim")
UNDER = {"msub": "munder", "msup": "mover", "msubsup": "munderover"}
PARTS = {"mfrac": 2, "msub": 2, "msup": 2, "mover": 2, "munder": 2, "mroot": 2, "msubsup": 3, "munderover": 3}
ACCENTS = {"^": "\u02c6", "~": "\u02dc"}  # the accents proper; latex2mathml takes the keys of a typewriter
WIDE = {"^": "\u0302", "~": "\u0303"}  # over more than one letter
LETTERS = "∞∅⊤∂∇ℓ"  # category "Sm" or an operator to latex2mathml, and yet set like letters
NAME = re.compile(r"[A-Za-z]{2,}")  # of a function: latex2mathml gives letters one by one
CLOSING = (")", "]", "}", "⟩", "⌉", "⌋", "!", "′", *BARS)  # a minus after one of them has a left side
THIN = "0.167em"
LONG = 24  # symbols: a longer inline formula may scroll inside itself on a phone
PIECES = {"LATIN CAPITAL LETTER": "CAPITAL", "LATIN SMALL LETTER": "SMALL"}
PIECES |= {"GREEK CAPITAL LETTER": "CAPITAL", "GREEK SMALL LETTER": "SMALL"}


def alphabet(text: str, variant: str) -> str:
    """Return `text` in the letters of a `mathvariant`, such as "double-struck"; others stay as they are."""
    style, out = re.sub(r"(BOLD|SERIF)-", r"\1 ", variant.upper()), []
    for char in text:
        name = unicodedata.name(char, "")
        for long, short in PIECES.items():
            name = name.replace(long, short)
        for full in (f"MATHEMATICAL {style} {name}", f"{style} {name}".replace("FRAKTUR", "BLACK-LETTER")):
            try:
                out.append(unicodedata.lookup(full))
                break
            except KeyError:
                continue
        else:
            out.append(char)
    return "".join(out)


def core(math: ElementTree.Element) -> None:
    """Bring latex2mathml's tree into MathML Core, in place."""
    for element in math.iter():
        if element.text:
            text = html.unescape(element.text)
            element.text = re.sub(r"\\([_%#&${}])", r"\1", text) if element.tag == "mtext" else text
        variant = element.get("mathvariant")
        if variant and variant != "normal":
            del element.attrib["mathvariant"]
            element.text = alphabet(element.text or "", variant)
        elif variant == "normal" and element.tag != "mi":  # only <mi> is slanted by itself
            del element.attrib["mathvariant"]
        if element.tag == "mtd" and "columnalign" in element.attrib:
            element.set("class", f"tt-{element.attrib.pop('columnalign')}")
        if element.tag == "mi" and len(element.text or "") == 1 and unicodedata.category(element.text) == "Sm":
            element.tag, element.text = "mo", "∼" if element.text == "~" else element.text
        if element.tag == "mo" and element.text in tuple(LETTERS):
            element.tag = "mi"
        if element.tag == "mover" and len(element) == 2 and html.unescape(element[1].text or "") in ACCENTS:
            accent = html.unescape(element[1].text)
            element[1].text = (WIDE if sum(not len(e) for e in element[0].iter()) > 1 else ACCENTS)[accent]
            element[1].attrib.pop("stretchy", None)
        if element.tag in UNDER and LIMITS.fullmatch(html.unescape(element[0].text or "")):
            element.tag, element[0].tag = UNDER[element.tag], "mo"  # beside it in a line of text, below it in a display
            element[0].set("movablelimits", "true")
        for at, child in enumerate(element):
            beside = [other.tag for other in (*element[max(at - 1, 0) : at], *element[at + 1 : at + 2])]
            if child.tag == "mo" and child.text in BARS and "mtable" not in beside:
                child.attrib.setdefault("stretchy", "false")  # a norm keeps its height beside a tall neighbour
        spaced(element)
        for name in ("columnspacing", "rowspacing", "columnlines", "rowlines", "columnalign"):
            element.attrib.pop(name, None)


def base(element: ElementTree.Element) -> ElementTree.Element:
    """What carries the indices, where there are any: its spaces are those of the whole."""
    while element.tag in (*UNDER, *UNDER.values(), "munderover") and len(element):
        element = element[0]
    return element


def spaced(row: ElementTree.Element) -> None:
    """The spaces of TeX around a function's name, and none after a minus that has no left side, in place.

    Chromium and WebKit set "log p" as "logp" otherwise, and all of them "= -p" as "= - p".
    """
    if row.tag not in ("math", "mrow", "mtd", "msqrt", "mstyle"):
        return
    bases = [base(child) for child in row]
    for at, (child, mine) in enumerate(zip(row, bases, strict=True)):
        before, after = bases[at - 1] if at else None, row[at + 1] if at + 1 < len(row) else None
        opens = before is None or before.tag == "mo" and html.unescape(before.text or "") not in CLOSING
        if child is mine and mine.tag == "mo" and html.unescape(mine.text or "") in ("−", "+", "±", "∓"):
            if opens and before is not None:  # the first of a row is a prefix anyway
                mine.set("form", "prefix")
        elif NAME.fullmatch(mine.text or "") and mine.tag in ("mi", "mo"):
            while after is not None and len(after):
                after = after[0]
            alone = after is None or after.tag in ("mo", "mspace") and not NAME.fullmatch(after.text or "")
            mine.tag = "mo"
            mine.attrib.update(form="prefix", lspace="0" if opens else THIN, rspace="0" if alone else THIN)


@functools.cache
def convert(tex: str, display: bool) -> tuple[str, int]:
    """Return (MathML of `tex`, how many symbols it has). Raises ValueError with a sentence for unreadable TeX."""
    try:
        math = convert_to_element(tex, display="block" if display else "inline")
    except Exception as error:  # latex2mathml raises a dozen kinds of its own, and plain ones on some input
        raise ValueError(f"this formula cannot be read ({type(error).__name__}): {tex}") from error
    core(math)
    if any(len(element) != PARTS.get(element.tag, len(element)) for element in math.iter()):
        raise ValueError(f"an argument is missing in this formula: {tex}")
    leaves = [element for element in math.iter() if element.text and not len(element)]
    unknown = sorted({word for leaf in leaves for word in re.findall(r"\\[A-Za-z]+\*?|\\.", leaf.text)})
    if unknown:
        raise ValueError(f"{', '.join(unknown)} is not known in this formula: {tex}")
    math.set("alttext", " ".join(tex.split()))
    return ElementTree.tostring(math, encoding="unicode"), len(leaves)


def render(self, node: nodes.Node, tex: str, display: bool) -> tuple[str, int]:
    try:
        return convert(tex, display)
    except ValueError as error:
        log.warning("%s", error, location=node, type="math")
        return f"<code>{html.escape(tex)}</code>", 0


class HoldPunctuation(SphinxPostTransform):
    """A comma after a formula belongs to its line: browsers may break between the two."""

    default_priority = 900

    def run(self, **options) -> None:
        for formula in list(self.document.findall(nodes.math)):
            after = formula.next_node(descend=False, siblings=True)
            mark = re.match(r"[.,;:!?)\]’”–-]+", after.astext()) if isinstance(after, nodes.Text) else None
            if mark:
                formula["mark"] = mark[0]
                after.parent.replace(after, nodes.Text(after.astext()[mark.end() :]))


def inline(self, node: nodes.math) -> None:
    text, symbols = render(self, node, node.astext(), False)
    span = self.starttag(node, "span", "", CLASS="math" + (" tt-long" if symbols > LONG else "")) + text + "</span>"
    if "mark" in node:
        span = f'<span class="tt-held">{span}{html.escape(node["mark"])}</span>'
    self.body.append(span)
    raise nodes.SkipNode


def whole(node: nodes.math_block) -> str:
    """The TeX of a display formula in one of the environments that latex2mathml reads."""
    tex = node.astext().strip()
    tex = re.sub(r"\\(begin|end)\{(equation|displaymath)\*?\}", "", tex)  # Sphinx gives the number
    tex = re.sub(r"\\(begin|end)\{(?:align|aligned|alignat|gather|split|eqnarray)\*?\}", r"\\\1{align*}", tex)
    if r"\\" in tex and r"\begin" not in tex:
        tex = rf"\begin{{align*}}{tex}\end{{align*}}"
    return re.sub(r"\\(label\{[^}]*\}|nonumber|notag)", "", tex).strip()


def block(self, node: nodes.math_block) -> None:
    text, _ = render(self, node, whole(node), True)
    self.body.append(self.starttag(node, "div", CLASS="math"))
    # a long formula scrolls on a small screen, so it must be within reach of the keyboard
    self.body.append(f'<div class="tt-formula" tabindex="0" role="group" aria-label="formula">{text}</div>')
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app) -> dict:
    app.add_post_transform(HoldPunctuation)
    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
