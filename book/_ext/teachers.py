"""The page for teachers: a plan of every chapter, made from the notebooks themselves.

    ```{teachers-plan}
    ```

Minutes and prerequisites come from the chapter's promise, the questions from its predictions and exercises, the seconds
from its last execution.
"""

from __future__ import annotations

import html
import re

import execute
import plain
from docutils import nodes
from ledger import Evidence

PROMISE = re.compile(r":::\{div\} promise\n(.*?)\n:::", re.S)
TIME = re.compile(r"About (\d+) minutes\. (.*)", re.S)
PREDICTION = re.compile(r":class: predict\n(.*?)\n:::", re.S)
EXERCISE = re.compile(r"(?m)^\*\*(\d[^*]*)\*\*\s*(.+)$")


def plan(notebook) -> dict:
    """What a teacher wants to know of a chapter: promise, minutes, need, predictions (question, choices), exercises.

    Raises ValueError where the promise does not say how long the chapter takes.
    """
    text = "\n\n".join(plain.to_myst(cell.source) for cell in notebook.cells if cell.cell_type == "markdown")
    promise = PROMISE.search(text)
    time = TIME.search(promise[1]) if promise else None
    if not time:
        raise ValueError("the promise does not say 'About N minutes. You need ...'.")
    predictions = []
    for box in PREDICTION.findall(text):
        question, *choices = re.split(r"(?m)^\d\. ", box)
        if choices:
            choices[-1] = choices[-1].split("\n\n")[0]
            predictions.append((question.strip(), [" ".join(choice.split()) for choice in choices]))
    return {
        "promise": promise[1][: time.start()].strip(),
        "minutes": int(time[1]),
        "need": " ".join(time[2].split()),
        "predictions": predictions,
        "exercises": [(name.strip(" ."), " ".join(task.split())) for name, task in EXERCISE.findall(text)],
    }


class TeachersPlan(Evidence):
    def inline(self, text: str) -> nodes.inline:
        """Text of a chapter, with its links to other chapters as seen from this page."""
        return super().inline(re.sub(r"\]\((\d\d_\w+\.ipynb)", r"](../chapters/\1", str(text)))

    def run(self) -> list[nodes.Node]:
        out = []
        for name, notebook in self.notebooks().items():
            if name == "00_start":
                continue
            about = plan(notebook)
            title = self.title(name)
            section = nodes.section("", nodes.title("", title), ids=[nodes.make_id(f"plan-{name}")], names=[])
            run = notebook.metadata.get(execute.META, {})
            seconds = f" Running all of it took {run['seconds']:.0f} seconds in this build." if run else ""
            links = (
                f"{self.link(name, '', 'Read')} · <a href=\"../chapters/{name}.html?slides\">Present as slides</a> · "
                f'<a href="../chapters/{name}.ipynb" download>Notebook</a>'
            )
            section += self.raw(f"<p>{links}</p>")
            section += nodes.paragraph("", "", self.inline(f"{about['minutes']} minutes.{seconds} {about['need']}"))
            section += nodes.paragraph("", "", self.inline(about["promise"]))
            for question, choices in about["predictions"]:
                section += self.raw('<p class="tt-ask"><strong>Ask before you show:</strong> ')
                section += self.inline(question)
                section += self.raw("</p><ol>")
                for choice in choices:
                    section += [self.raw("<li>"), self.inline(choice), self.raw("</li>")]
                section += self.raw("</ol>")
            if about["exercises"]:
                count = f"{len(about['exercises'])} exercises, with solutions"
                section += self.raw(f"<details><summary>{count}</summary><ul>")
                for label, task in about["exercises"]:
                    section += [self.raw(f"<li><strong>{html.escape(label)}.</strong> "), self.inline(task)]
                    section += self.raw("</li>")
                section += self.raw("</ul></details>")
            out.append(section)
        return out


def setup(app) -> dict:
    app.add_directive("teachers-plan", TeachersPlan)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
