"""The evidence pages: every claim with its verdict, and what each chapter took to run.

    ```{claims-ledger}
    ```
    ```{chapter-times}
    ```

`book/claims.yml` holds what the book says; the executed notebooks hold what was measured. Both stand in one table.
"""

from __future__ import annotations

import collections
import html
import json
import pathlib
import re

import execute
import yaml
from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.osutil import relative_uri

log = logging.getLogger(__name__)
MIME = "application/vnd.training-tricks.verdict+json"
SIGNS = {"TRUE": "✓", "FALSE": "✗", "DEPENDS": "±", "ILL-POSED": "∅", "UNDECIDED": "?"}
WORDS = {"TRUE": "true", "FALSE": "false", "DEPENDS": "depends", "ILL-POSED": "ill-posed", "UNDECIDED": "undecided"}
RECORD = pathlib.Path("book", "replications.json")  # what `replicate` found with other seeds
FIELDS = ("id", "chapter", "source", "claim", "kind", "verdict", "says", "measured")


def read_claims(path: pathlib.Path) -> list[dict]:
    """Read claims.yml; raises ValueError naming the entry and the field that is missing or not allowed."""
    claims = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    seen = set()
    for number, claim in enumerate(claims, start=1):
        name = f"{path.name}, entry {number} ({claim.get('id', 'no id')})"
        missing = [field for field in FIELDS if claim.get(field) is None]
        if missing:
            raise ValueError(f"{name}: {', '.join(missing)} missing.")
        claim["verdict"] = {True: "TRUE", False: "FALSE"}.get(claim["verdict"], claim["verdict"])  # YAML's own reading
        if claim["verdict"] not in SIGNS:
            raise ValueError(f"{name}: verdict={claim['verdict']!r} is not known; choose one of {', '.join(SIGNS)}.")
        if claim["id"] in seen:
            raise ValueError(f"{name}: this id stands twice.")
        seen.add(claim["id"])
    return claims


def measured(notebooks: dict) -> dict[str, dict]:
    """Collect {claim id: verdict} from the outputs of the executed notebooks."""
    found = {}
    for notebook in notebooks.values():
        for cell in notebook.cells:
            for output in cell.get("outputs", ()):
                shown = output.get("data", {}).get(MIME) or {}
                for verdict in shown.get("verdicts", [shown] if shown else []):
                    found[verdict["id"]] = verdict
    return found


def replications(root: pathlib.Path) -> dict:
    """The record: date, device, versions, sets (the first seeds) and verdicts (one for each set); empty without one."""
    path = pathlib.Path(root) / RECORD
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def anchors(notebook) -> set[str]:
    """The anchors `claim-…` that a chapter's page has: in its outputs, or as targets in its text."""
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    for cell in notebook.cells:
        texts += ["".join(out.get("data", {}).get("text/html", "")) for out in cell.get("outputs", ())]
    return {a or b for text in texts for a, b in re.findall(r'id="(claim-[\w-]+)"|^\((claim-[\w-]+)\)=', text, re.M)}


class Evidence(SphinxDirective):
    """What the two directives share: the executed notebooks, and HTML around parsed text."""

    def notebooks(self) -> dict:
        root = pathlib.Path(self.env.srcdir)
        for path in execute.chapters(root):
            self.env.note_dependency(str(root / "_build" / "executed" / path.name))
        return execute.executed(root)

    @staticmethod
    def raw(text: str) -> nodes.raw:
        return nodes.raw("", text, format="html")

    def inline(self, text: str) -> nodes.inline:
        """Text with the markup of the pages: code, formulas, citations. HTML in it is no markup but words."""
        children, messages = self.state.inline_text(str(text).strip(), self.lineno)
        parsed = nodes.inline("", "", *children, *messages)
        for raw in list(parsed.findall(nodes.raw)):
            raw.replace_self(nodes.Text(raw.astext()))
        return parsed

    def title(self, chapter: str) -> str:
        """The first heading of a chapter, from its source."""
        path = pathlib.Path(self.env.srcdir) / "chapters" / f"{chapter}.ipynb"
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"] if path.exists() else []
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        found = re.search(r"^# (.+)$", text, re.M)
        return found[1].strip() if found else chapter

    def link(self, chapter: str, anchor: str, text: str) -> str:
        here = f"{self.env.docname}.html"
        uri = relative_uri(here, f"chapters/{chapter}.html") + (f"#{anchor}" if anchor else "")
        return f'<a class="reference internal" href="{html.escape(uri)}">{html.escape(text)}</a>'


class ClaimsLedger(Evidence):
    def run(self) -> list[nodes.Node]:
        root = pathlib.Path(self.env.srcdir)
        path = root / "book" / "claims.yml"
        for read in (path, root / RECORD):
            self.env.note_dependency(str(read))
        self.env.metadata[self.env.docname]["tt_ledger"] = "yes"
        try:
            claims = read_claims(path)
        except (OSError, ValueError) as error:
            log.warning("%s", error, location=self.get_location(), type="ledger")
            return []
        notebooks, record = self.notebooks(), replications(root)
        results, groups = measured(notebooks), collections.defaultdict(list)
        self.others = record.get("verdicts", {})
        for claim in claims:
            groups[claim["chapter"]].append(claim)
        out = [*self.counts(claims, notebooks, results), *self.again(claims, record)]
        for chapter in sorted(groups):
            known = anchors(notebooks[chapter]) if chapter in notebooks else set()
            out += self.group(chapter, groups[chapter], results, known)
        return [nodes.container("", *out, classes=["tt-ledger"])]

    def counts(self, claims: list[dict], notebooks: dict, results: dict) -> list[nodes.Node]:
        count = collections.Counter(claim["verdict"] for claim in claims)
        tiles = "".join(
            f'<li data-verdict="{verdict}"><b>{count[verdict]}</b> {WORDS[verdict]}</li>'
            for verdict in SIGNS
            if count[verdict]
        )
        here = sum(claim["id"] in results for claim in claims)
        rest = "; the others rest on a proof or a source" if here < len(claims) else ""
        text = f"Of {len(claims)} claims, {here} were measured in this build{rest}."
        firsts = {book.metadata.get(execute.META, {}).get("first_seed", "0") for book in notebooks.values()} - {"0"}
        if firsts:
            text += f" Its seeds are counted from {', '.join(sorted(firsts))}."
        return [self.raw(f'<ul class="tt-counts">{tiles}</ul><p class="tt-count" role="status">{text}</p>')]

    def again(self, claims: list[dict], record: dict) -> list[nodes.Node]:
        """Whether the verdicts stood when everything was drawn and trained from other seeds."""
        rows = [(claim, self.others[claim["id"]]) for claim in claims if claim["id"] in self.others]
        if not rows:
            return []
        stood = sum(set(row) == {claim["verdict"]} for claim, row in rows)
        text = (
            f"All chapters were also run from {len(record['sets']) - 1} other sets of seeds ({record['date']}, torch "
            f"{record['versions']['torch']}): {stood} of {len(rows)} measured verdicts were the same every time."
        )
        return [self.raw(f'<p class="tt-note">{html.escape(text)}</p>')]

    def group(self, chapter: str, claims: list[dict], results: dict, known: set[str]) -> list[nodes.Node]:
        title = self.link(chapter, "", self.title(chapter))
        head = "".join(f'<th scope="col">{text}</th>' for text in ("Claim", "Verdict", "What holds", "Measured"))
        out = [
            self.raw(
                f'<section class="tt-group"><p class="tt-group-title" role="heading" aria-level="2">{title}</p>'
                f'<table class="tt-claims"><thead><tr>{head}</tr></thead><tbody>'
            )
        ]
        for claim in claims:
            out += self.row(chapter, claim, results.get(claim["id"]), known)
        return [*out, self.raw("</tbody></table></section>")]

    def row(self, chapter: str, claim: dict, result: dict | None, known: set[str]) -> list[nodes.Node]:
        verdict, identity = claim["verdict"], str(claim["id"])
        anchor = f"claim-{identity.lower()}"
        name = self.link(chapter, anchor if anchor in known else "", identity)
        badge = f'<span class="tt-badge" data-verdict="{verdict}">{SIGNS[verdict]} {WORDS[verdict]}</span>'
        source = html.escape(f"{claim['source']} · {claim['kind']}")
        out = [
            self.raw(
                f'<tr id="{html.escape(anchor)}" data-verdict="{verdict}">'
                f'<td data-label="Claim"><span class="tt-id">{name}</span> '
            ),
            self.inline(claim["claim"]),
            self.raw(
                f'<span class="tt-source">{source}</span></td><td data-label="Verdict">{badge}</td>'
                '<td data-label="What holds">'
            ),
            self.inline(claim["says"]),
        ]
        if claim.get("reference"):
            out += [self.raw(" "), self.inline(f"{{cite}}`{claim['reference']}`")]
        out.append(self.raw(f'</td><td data-label="Measured">{self.measure(claim, result)}</td></tr>'))
        return out

    def measure(self, claim: dict, result: dict | None) -> str:
        if result is None:
            return "not in this build" if claim["measured"] in (True, "yes") else "not measured here"
        text = html.escape(str(result.get("sentence") or result.get("outcome", "")))
        if result.get("verdict") and result["verdict"] != claim["verdict"]:
            word = WORDS.get(result["verdict"], result["verdict"])
            text += f' <strong class="tt-differs">This run says: {html.escape(word)}.</strong>'
        row = self.others.get(claim["id"], [claim["verdict"]])
        if set(row) != {claim["verdict"]}:
            here = f"{WORDS[claim['verdict']]} with {row.count(claim['verdict'])} of {len(row)} sets of seeds"
            text += f' <strong class="tt-differs">The verdict hangs on the seeds: {here}.</strong>'
        return text


class ChapterTimes(Evidence):
    def run(self) -> list[nodes.Node]:
        about = {name: book.metadata.get(execute.META) for name, book in self.notebooks().items()}
        about = {name: row for name, row in about.items() if row}
        if not about:
            return [nodes.paragraph("", "No chapter was executed in this build.")]
        head = ("Chapter", "Seconds", "Scale", "Device", "Python", "torch", "numpy", "scikit-learn", "Date")
        rows = []
        for name, row in sorted(about.items()):
            have = row["versions"]
            device = f"{row['device']}, {row['cores']} cores"
            versions = (have.get(package, "–") for package in ("python", "torch", "numpy", "scikit-learn"))
            cells = (f"{row['seconds']:.1f}", row["scale"], device, *versions, row["date"])
            rest = "".join(
                f'<td data-label="{label}">{html.escape(str(cell))}</td>'
                for label, cell in zip(head[1:], cells, strict=True)
            )
            rows.append(f'<tr><th scope="row">{self.link(name, "", self.title(name))}</th>{rest}</tr>')
        total = sum(row["seconds"] for row in about.values())
        heads = "".join(f'<th scope="col">{text}</th>' for text in head)
        return [
            self.raw(
                f'<table class="tt-claims tt-times"><thead><tr>{heads}</tr></thead>'
                f"<tbody>{''.join(rows)}</tbody></table>"
                f'<p class="tt-note">All chapters together: {total:.1f} seconds of one machine.</p>'
            )
        ]


def add_script(app, pagename, templatename, context, doctree) -> None:
    if app.env.metadata.get(pagename, {}).get("tt_ledger"):
        app.add_js_file("ledger.js", loading_method="defer")


def setup(app) -> dict:
    app.add_directive("claims-ledger", ClaimsLedger)
    app.add_directive("chapter-times", ChapterTimes)
    app.connect("html-page-context", add_script)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
