"""What a notebook shows besides pictures: the library's own source, and sentences with measured numbers."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from helpers import checks

CHECKS = re.compile(r"checks\.\w+|_check")  # how functions that look at arguments are named


@dataclass(frozen=True)
class Source:
    """Python source, shown with its colours; what is shown is what runs. `note` tells what is left out."""

    text: str
    note: str = ""

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        from IPython.display import Code

        shown = Code(self.text, language="python")._repr_html_()
        note = f'<p class="tt-note">{checks.escaped(self.note)}</p>' if self.note else ""
        return {"text/html": shown + note, "text/plain": self.text + (f"# {self.note}\n" if self.note else "")}


def source(*functions, whole: bool = False) -> Source:
    """The source of these functions or classes; without docstrings and checks of arguments unless `whole` is true.

    A check is a statement that calls nothing but `helpers.checks` or the `_check` of its module, or can only raise.
    Raises TypeError for something that has no Python source.
    """
    checks.several("functions", functions, "source(helpers.fit)"), checks.flag("whole", whole)
    texts, checked = [], False
    for f in functions:
        try:
            text = textwrap.dedent(inspect.getsource(f))
        except (TypeError, OSError):
            raise TypeError(
                f"{checks.show(f)} has no Python source to show; give a function or class of helpers."
            ) from None
        if not whole:
            text = _without(_is_docstring, text)
            text, before = _without(_is_check, text), text
            checked = checked or text != before
        texts.append(text)
    note = "Not shown: the checks of the arguments." if checked else ""
    return Source("\n".join(texts).rstrip() + "\n", note)


def _without(idle: Callable[[ast.stmt], bool], text: str) -> str:
    """The source without these statements; one that has a body to itself stays."""
    lines, out = text.splitlines(keepends=True), set()
    for node in ast.walk(ast.parse(text)):
        for part in ("body", "orelse"):
            statements = getattr(node, part, None)
            if not isinstance(statements, list) or all(map(idle, statements)):
                continue
            for statement in filter(idle, statements):
                end = statement.end_lineno
                while statement is statements[0] and not lines[end].strip():
                    end += 1  # what is left begins without a gap
                out.update(range(statement.lineno, end + 1))
    return "".join(line for number, line in enumerate(lines, 1) if number not in out)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_check(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr):
        calls = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
        return all(isinstance(c, ast.Call) and CHECKS.fullmatch(ast.unparse(c.func)) for c in calls)
    if isinstance(node, ast.If | ast.For):
        return not node.orelse and all(isinstance(n, ast.Raise) or _is_check(n) for n in node.body)
    return False


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
