"""What a large sweep would cost, from what this project measured and from assumptions that the reader can change.

    ```{sweep-cost}
    ```

Without its script the page shows the table and the sum for these values; with it, each value is a field.
"""

from __future__ import annotations

import html
import json
import math
import pathlib
import zipfile

from docutils import nodes
from ledger import Evidence
from sphinx.util import logging

log = logging.getLogger(__name__)
RECORD = "chapters/records/lenet_mnist.zip"
# key, what it is, a usual value (None = measured), unit, where it comes from
INPUTS = (
    ("runs", "Runs in the sweep", 1_000_000, "", "your plan"),
    ("seconds", "Seconds for one run here", None, "s", "measured"),
    ("faster", "How many times as fast one GPU is", 20, "×", "assumption: measure it on yours"),
    ("gpus", "GPUs", 1_000, "", "your plan"),
    ("start", "Minutes until a machine is ready", 5, "min", "assumption"),
    ("lost", "Work that is lost and done again", 2, "%", "assumption"),
    ("price", "Price of one GPU for an hour", 2.5, "$", "assumption: look at your provider's list"),
)


def recorded(root: pathlib.Path) -> tuple[float, str]:
    """The mean seconds of a LeNet-5 of today's form in the committed record, and how they were measured."""
    with zipfile.ZipFile(root / RECORD) as archive:
        table = json.loads(archive.read("table.json"))
    chosen = [i for i, model in enumerate(table["model"]) if model == "lenet5"]
    epochs, device = table["epochs"][chosen[0]], table["device"][chosen[0]]
    seconds = sum(table["seconds"][i] for i in chosen) / len(chosen)
    return seconds, f"measured: LeNet-5 on MNIST, {epochs} epochs, n = {len(chosen)}, on one {device.upper()}"


def cost(runs, seconds, faster, gpus, start, lost, price) -> tuple[float, float, float]:
    """(minutes until the last run is done, GPU-hours paid for, price): every GPU is paid until the last is done."""
    each = math.ceil(runs * (1 + lost / 100) / gpus)
    minutes = start + each * seconds / faster / 60
    hours = gpus * minutes / 60
    return minutes, hours, hours * price


def told(values: dict) -> str:
    """The result as a sentence; cost.js says the same."""
    minutes, hours, price = (math.floor(x + 0.5) for x in cost(**values))  # a half goes up, as in a browser
    return f"Done after {minutes:,} minutes. It takes {hours:,} GPU-hours and costs ${price:,}."


class SweepCost(Evidence):
    def run(self) -> list[nodes.Node]:
        root = pathlib.Path(self.env.srcdir)
        self.env.note_dependency(str(root / RECORD))
        self.env.metadata[self.env.docname]["tt_cost"] = "yes"
        try:
            seconds, source = recorded(root)
        except (OSError, KeyError, IndexError, ValueError, zipfile.BadZipFile) as error:
            log.warning("%s: %s", RECORD, error, location=self.get_location(), type="costs")
            return []
        values, rows = {}, []
        for key, name, usual, unit, where in INPUTS:
            values[key] = round(seconds, 1) if usual is None else usual
            cell = f'<td data-label="Value" data-key="{key}" data-value="{values[key]}">{values[key]:,} {unit}</td>'
            note = html.escape(source if usual is None else where)
            rows.append(f'<tr><th scope="row">{html.escape(name)}</th>{cell}<td data-label="From">{note}</td></tr>')
        heads = "".join(f'<th scope="col">{text}</th>' for text in ("", "Value", "From"))
        return [
            self.raw(
                f'<div class="tt-cost"><table class="tt-claims tt-times"><thead><tr>{heads}</tr></thead>'
                f'<tbody>{"".join(rows)}</tbody></table><p class="tt-total" role="status">{told(values)}</p></div>'
            )
        ]


def add_script(app, pagename, templatename, context, doctree) -> None:
    if app.env.metadata.get(pagename, {}).get("tt_cost"):
        app.add_js_file("cost.js", loading_method="defer")


def setup(app) -> dict:
    app.add_directive("sweep-cost", SweepCost)
    app.connect("html-page-context", add_script)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
