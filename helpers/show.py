"""What a notebook shows besides pictures: the library's own source, and sentences with measured numbers."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

from helpers import checks


@dataclass(frozen=True)
class Source:
    """Python source, shown with its colours; what is shown is what runs."""

    text: str

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        from IPython.display import Code

        shown = Code(self.text, language="python")
        return {"text/html": shown._repr_html_(), "text/plain": self.text}


def source(*functions, docs: bool = False) -> Source:
    """The source of these functions or classes; without their docstrings unless `docs` is true.

    Raises TypeError for something that has no Python source.
    """
    checks.several("functions", functions, "source(helpers.fit)"), checks.flag("docs", docs)
    texts = []
    for f in functions:
        try:
            text = textwrap.dedent(inspect.getsource(f))
        except (TypeError, OSError):
            raise TypeError(
                f"{checks.show(f)} has no Python source to show; give a function or class of helpers."
            ) from None
        texts.append(text if docs else _without_docstring(text))
    return Source("\n".join(texts).rstrip() + "\n")


def _without_docstring(text: str) -> str:
    node = ast.parse(text).body[0]
    first = node.body[0] if getattr(node, "body", None) else None
    if len(getattr(node, "body", ())) < 2 or not isinstance(first, ast.Expr):
        return text
    if not isinstance(getattr(first, "value", None), ast.Constant):
        return text
    lines = text.splitlines(keepends=True)
    return "".join(lines[: first.lineno - 1] + lines[first.end_lineno :])


@dataclass(frozen=True)
class Sentence:
    """A sentence whose numbers come from the run. It shows as Markdown; a tag of HTML in it stands there as text."""

    text: str

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        markdown = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", checks.visible(self.text))
        return {"text/markdown": markdown, "text/plain": self.text}


def say(text: str, **glued) -> Sentence:
    """A sentence for the reader, and numbers for other pages of the book.

    `say(f"He wins by {gap:.1f} points.", gap=gap)` shows the sentence here, in a notebook and on the page, and stores
    `gap` under its name, so that a page can quote it with MyST-NB's glue role. Names must be valid identifiers.
    """
    checks.text("text", text, empty=False)
    for name, value in glued.items():
        _glue(name, value)
    return Sentence(text)


@dataclass(frozen=True)
class Answer:
    """Which of the numbered choices of a prediction held, and why; the page compares it with the reader's guess."""

    right: tuple[int, ...]
    because: str

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        named = " or ".join(map(str, self.right)) or "none of them"
        numbers = ",".join(map(str, self.right))
        told = f"<strong>The prediction: {named}.</strong> {checks.escaped(self.because)}"
        return {
            "text/html": f'<p class="tt-answer" data-right="{numbers}">{told}</p>',
            "text/plain": f"The prediction: {named}. {self.because}",
        }


def answer(right: int | Iterable[int], because: str, **glued) -> Answer:
    """What came out for a prediction of the chapter; the first answer belongs to the first prediction, and so on.

    `right` is the number of the choice that held (1 is the first), several numbers, or an empty list. Compute it:
    `h.answer(1 if result.outcome() == "helps" else 2, result.sentence())`. Further numbers are stored for other pages,
    as `say` does it.
    """
    single = isinstance(right, str) or not isinstance(right, Iterable)
    numbers = [right] if single else checks.several("right", right, "[1, 2]", empty=True)
    for number in checks.once("right", numbers):
        checks.integer("right", number, low=1, high=9, try_="1")
    if not isinstance(because, str) or not because.strip():
        raise ValueError(f"because={checks.show(because)} is not allowed: say in a sentence what was measured.")
    for name, value in glued.items():
        _glue(name, value)
    return Answer(tuple(numbers), because.strip())


def _glue(name: str, value) -> None:
    """The output that MyST-NB's glue stores, made without it, so that a notebook runs where it is not installed."""
    from IPython.core.formatters import format_display_data
    from IPython.display import display

    data, metadata = format_display_data(value.item() if hasattr(value, "item") else value)  # a page can round a float
    prefix = "application/papermill.record/"
    metadata["scrapbook"] = {"name": name, "mime_prefix": prefix}
    display({prefix + k: v for k, v in data.items()}, raw=True, metadata=metadata)
