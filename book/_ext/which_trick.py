"""The page "Which trick when": what to try in which situation, with the measured effect of each.

    ```{which-trick}
    ```

`book/tricks.yml` says which part of which claim is the evidence for a trick, and what it means for the reader when that
part holds or fails. Whether it holds comes from the executed chapters, so a new measurement changes the page.
"""

from __future__ import annotations

import html
import pathlib

import yaml
from docutils import nodes
from ledger import Evidence, measured
from sphinx.util import logging

log = logging.getLogger(__name__)
EFFECTS = {"helps": "TRUE", "hurts": "FALSE", "no effect": "UNDECIDED", "depends": "DEPENDS"}  # and their colours
SIGNS = {"helps": "✓", "hurts": "✗", "no effect": "=", "depends": "±"}
FIELDS = ("trick", "claim", "part", "holds", "fails", "advice", "costs")


def read_tricks(path: pathlib.Path) -> list[dict]:
    """Read tricks.yml: a list of situations, each with its tricks. Raises ValueError naming what is wrong."""
    situations = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    for situation in situations:
        for row in situation["tricks"]:
            name = f"{path.name}, {situation['situation']!r}, {row.get('trick', 'a row without a trick')!r}"
            missing = [field for field in FIELDS if not row.get(field)]
            if missing:
                raise ValueError(f"{name}: {', '.join(missing)} missing.")
            for field in ("holds", "fails"):
                if row[field] not in EFFECTS:
                    raise ValueError(
                        f"{name}: {field}={row[field]!r} is not known; choose one of {', '.join(EFFECTS)}."
                    )
    return situations


def effect(row: dict, results: dict) -> tuple[str, str]:
    """What this build measured for a trick: ("helps", the sentence); ("", a remark) where it has no decision."""
    verdict = results.get(row["claim"])
    if verdict is None:
        return "", "Not in this build."
    part = next((p for p in verdict["parts"] if p["name"] == row["part"]), None)
    if part is None:
        names = ", ".join(repr(p["name"]) for p in verdict["parts"])
        raise ValueError(f"{row['trick']!r}: {row['claim']} has no part {row['part']!r}; its parts are {names}.")
    if part["holds"] is None:
        return "", f"Undecided in this run. {part['sentence']}"
    return row["holds" if part["holds"] else "fails"], part["sentence"]


class WhichTrick(Evidence):
    def run(self) -> list[nodes.Node]:
        root = pathlib.Path(self.env.srcdir) / "book"
        for name in ("tricks.yml", "claims.yml"):
            self.env.note_dependency(str(root / name))
        results, out = measured(self.notebooks()), []
        claims = {c["id"]: c for c in yaml.safe_load((root / "claims.yml").read_text(encoding="utf-8"))}
        try:
            for situation in read_tricks(root / "tricks.yml"):
                out.append(self.situation(situation, results, claims))
        except (OSError, ValueError) as error:
            log.warning("%s", error, location=self.get_location(), type="which-trick")
        return out

    def situation(self, situation: dict, results: dict, claims: dict) -> nodes.section:
        """One heading with its table."""
        title = situation["situation"]
        section = nodes.section("", nodes.title("", title), ids=[nodes.make_id(title)], names=[nodes.make_id(title)])
        if situation.get("about"):
            section += nodes.paragraph("", "", self.inline(situation["about"]))
        heads = "".join(f'<th scope="col">{text}</th>' for text in ("Try", "Here", "Measured", "Costs"))
        section += self.raw(f'<table class="tt-claims tt-tricks"><thead><tr>{heads}</tr></thead><tbody>')
        for row in situation["tricks"]:
            section += self.row(row, *effect(row, results), claims[row["claim"]]["chapter"])
        section += self.raw("</tbody></table>")
        return section

    def row(self, row: dict, word: str, sentence: str, chapter: str) -> list[nodes.Node]:
        colour, sign = EFFECTS.get(word, ""), SIGNS.get(word, "?")
        badge = f'<span class="tt-badge" data-verdict="{colour}">{sign} {word or "open"}</span>'
        told = html.escape(sentence[:1].upper() + sentence[1:])
        link = self.link(chapter, f"claim-{row['claim'].lower()}", row["claim"])
        return [
            self.raw('<tr><td data-label="Try"><strong>'),
            self.inline(row["trick"]),
            self.raw("</strong><br>"),
            self.inline(row["advice"]),
            self.raw(
                f'</td><td data-label="Here">{badge}</td><td data-label="Measured">{told} '
                f'<span class="tt-id">{link}</span></td><td data-label="Costs">'
            ),
            self.inline(row["costs"]),
            self.raw("</td></tr>"),
        ]


def setup(app) -> dict:
    app.add_directive("which-trick", WhichTrick)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
