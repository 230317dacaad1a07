"""Names, titles and sentences with HTML, scripts, formulas or Markdown in them stand in the page as text."""

from __future__ import annotations

import base64
import csv
import html
import io
import pathlib
import re
import subprocess
import sys

import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from nbformat import v4
from PIL import Image

import helpers as h
from helpers import checks, engine, readout
from helpers.explorer import explore
from helpers.live import train_panel

pytestmark = pytest.mark.filterwarnings("ignore:constrained_layout not applied")  # the names are long
ROOT = pathlib.Path(__file__).resolve().parent.parent
EVIL = (
    "<img src=x onerror=window.pwned=1>",
    "</script><script>window.pwned=2</script>",
    '"><svg onload=window.pwned=3>',
    "' autofocus onfocus='window.pwned=4' x='",
    "&lt;b&gt; &amp; &#60;",
    "$x^{$ and $y$",
    "*md* _md_ `code` {math}`x`",
    "</figcaption></title></style><iframe srcdoc='<script>parent.pwned=5</script>'>",
    "<!-- never closed",
    '=cmd|"/C calc"!A0',
    "left \u202e right",
)
TAGS = EVIL[0] + EVIL[2]


def shown(text: str) -> str:
    """What a browser gives back for this text: without the turn of direction, blanks as one."""
    return " ".join(checks.visible(text).split())


def runs() -> pd.DataFrame:
    rows = [
        {"how <b>": how, "optimizer": name, "seed": seed, "epoch": epoch, "val_loss": epoch / (i + 1) + seed}
        for how in EVIL for i, name in enumerate(EVIL) for seed in (0, 1) for epoch in (1, 2, 3)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def figure():
    return explore(
        runs(), y="val_loss", selects=["how <b>"], color="optimizer", title=f"T {TAGS}", note=f"N {TAGS}",
        labels={"val_loss": f"L {TAGS}", "epoch": f"X {TAGS}", "optimizer": f"O {TAGS}"},
        finding=lambda rows: f"F {TAGS}",
    )  # fmt: skip


def dots():
    table = pd.DataFrame({"class": EVIL, "height": range(len(EVIL))})
    return explore(table, x="class", y="height", kind="dot", title=EVIL[1], band=None)


def drawing():
    ax = h.figure()
    table = pd.DataFrame({"$x^{$": [1, 2] * len(EVIL), "<i>": 0.123456, "c": np.repeat(EVIL, 2)})
    h.plot_lines(table, x="$x^{$", y="<i>", color="c", ax=ax)
    ax.set_title("P < 0.123456 #101213 & <img src=x onerror=window.pwned=6>")
    return h.picture(ax, f"What can be seen here: {TAGS}", f"M {TAGS}")


def bars():
    ax = h.figure()
    ax.barh([name.replace("$", "") for name in EVIL], range(len(EVIL)))  # matplotlib's own call takes $ for a formula
    return h.picture(ax, "The classes by their names.")


def compared() -> h.Comparison:
    scores = pd.DataFrame({name: np.arange(4.0) + i for i, name in enumerate(EVIL)})
    table = pd.DataFrame({"how": np.repeat(EVIL, 4), "diverged": False, "run": [str(i) for i in range(4 * len(EVIL))]})
    return h.Comparison(
        "how",
        EVIL,
        {name: {} for name in EVIL},
        (),
        h.Runs(table, pd.DataFrame({"run": []})),
        None,
        scores,
        "val_loss",
        0.0,
    )


def cards() -> h.Ledger:
    ledger = h.Ledger()
    for i, name in enumerate(EVIL):
        ledger.add(
            f"X-{i:02}", **{name: h.exact(f"S {name}", True), "other": h.shows(compared(), "helps", EVIL[1], name)}
        )
    return ledger


@pytest.fixture(scope="module")
def said():
    """Everything that helpers shows, with hostile words in it: {name: its MIME bundle}."""
    bundles = {
        "explorer": figure(), "dots": dots(), "drawing": drawing(), "bars": bars(), "ledger": cards(),
        "verdict": h.verdict("X-99", h.exact(TAGS, False)),
        "differences": h.picture(h.plot_differences(compared()), TAGS),
        **{f"say{i}": h.say(f"W {text} {i}.") for i, text in enumerate(EVIL)},
        **{f"answer{i}": h.answer(1, f"B {text}") for i, text in enumerate(EVIL)},
    }  # fmt: skip
    bundles = {name: thing._repr_mimebundle_() for name, thing in bundles.items()}
    return bundles | {"compared": {"text/html": compared()._repr_html_(), "text/plain": "compared"}}


def test_labels_with_dollars_are_drawn_as_they_are(said):
    """A $ begins no formula, and half a formula ends nothing: the pictures exist."""
    for name in ("explorer", "dots", "drawing", "differences"):
        picture = Image.open(io.BytesIO(base64.b64decode(said[name]["image/png"])))
        assert np.asarray(picture.convert("L")).std() > 5
    for name in ("drawing", "differences"):
        texts = re.findall(r"<text[^>]*>(.*?)</text>", said[name]["text/html"], re.S)
        found = {" ".join(html.unescape(t).split()) for t in texts}
        want = EVIL if name == "drawing" else [f"{EVIL[0]} − {other}" for other in EVIL[1:]]
        assert {shown(t) for t in want} <= found


def test_numbers_and_colours_in_words_are_not_retouched(said):
    text = html.unescape(re.sub(r"<[^>]*>", " ", said["drawing"]["text/html"]))
    assert "P < 0.123456 #101213 & <img src=x onerror=window.pwned=6>" in text


def cells_of(uri: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(base64.b64decode(uri.split(",", 1)[1]).decode())))


def test_a_file_for_a_spreadsheet_holds_no_formula():
    names = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "-x", "|x", "1e5", "-0.5", "he", '=HYPERLINK("a","b")']
    table = pd.DataFrame({"=name": names, "value": -1.5})
    cells = cells_of(re.search(r'href="(data:text/csv[^"]*)"', readout.fold(table, "t"))[1])
    assert cells[0] == ["'=name", "value"]
    assert [row[0] for row in cells[1:]] == [
        "'=1+1", "+1", "-1", "'@SUM(A1)", "'\t=1", "'-x", "'|x", "1e5", "-0.5", "he", "'=HYPERLINK(\"a\",\"b\")"
    ]  # fmt: skip
    assert {row[1] for row in cells[1:]} == {"-1.5"}


def notebook(said) -> nbformat.NotebookNode:
    cells = [v4.new_markdown_cell("# Evil")]
    for name, bundle in said.items():
        out = v4.new_output("display_data", data={k: v for k, v in bundle.items() if k != "image/png"})
        cells += [v4.new_markdown_cell(f"## {name}"), v4.new_code_cell(f"{name!r}", outputs=[out])]
    return v4.new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "p", "language": "python"}}
    )


CONFIG = f"""
import sys
sys.path.insert(0, {str(ROOT / "book" / "_ext")!r})
extensions = ["myst_nb", "ledger", "mathml", "which_trick"]
smartquotes = False
nb_execution_mode = "off"
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath", "substitution"]
exclude_patterns = ["_build"]
html_theme = "basic"
html_math_renderer = "mathml"
"""


@pytest.fixture(scope="module")
def site(said, tmp_path_factory):
    """The folder of a small book whose chapter and whose evidence pages hold these words."""
    root = tmp_path_factory.mktemp("evil")
    pages = {"ledger": "# Ledger\n\n```{claims-ledger}\n```\n", "which": "# Which\n\n```{which-trick}\n```\n"}
    pages["index"] = "# Book\n\n```{toctree}\nchapters/01_evil\nledger\nwhich\n```\n"
    for name, text in pages.items():
        (root / f"{name}.md").write_text(text, encoding="utf-8")
    for folder in ("chapters", "_build/executed"):
        (root / folder).mkdir(parents=True)
        nbformat.write(notebook(said), root / folder / "01_evil.ipynb")
    (root / "book").mkdir()
    claims = [
        dict(id=f"X-{i:02}", chapter="01_evil", source=f"R {text}", claim=f"C {text}", kind="empirical", verdict="TRUE",
             says=f"H {text}", measured="yes", reference="")
        for i, text in enumerate(EVIL)
    ]  # fmt: skip
    tricks = [
        dict(
            trick=f"K {text}",
            claim=f"X-{i:02}",
            part="other",
            holds="helps",
            fails="hurts",
            advice=f"A {text}",
            costs=f"Z {text}",
        )
        for i, text in enumerate(EVIL)
    ]
    situations = [{"situation": f"Q {EVIL[0]}", "about": f"U {EVIL[0]}", "tricks": tricks}]
    (root / "book" / "claims.yml").write_text(yaml.safe_dump(claims), encoding="utf-8")
    (root / "book" / "tricks.yml").write_text(yaml.safe_dump(situations), encoding="utf-8")
    (root / "conf.py").write_text(CONFIG, encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", str(root), str(root / "_build" / "html")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-2000:]
    return root / "_build" / "html"


@pytest.fixture
def visit(guarded):
    """visit(path) -> the page, opened; nothing in it may run, ask outside, or open a box."""
    opened = []

    def go(path: pathlib.Path):
        page, outside = guarded(viewport={"width": 1100, "height": 900})
        page.on("dialog", lambda box: outside.append(box.message))
        page.goto(path.as_uri())
        opened.append((page, outside))
        return page

    yield go
    for page, outside in opened:
        page.wait_for_timeout(200)
        assert page.evaluate("window.pwned") is None and outside == []
        assert page.locator("img[onerror], [onload], [onfocus], iframe").count() == 0


def words(locator) -> str:
    return " ".join(locator.text_content().split())


def section(page, name: str):
    return page.locator(f"section:has(> h2:text-is('{name}'))")


def test_a_chapter_shows_hostile_words_as_words(site, visit):
    page = visit(site / "chapters" / "01_evil.html")
    page.wait_for_function("document.querySelectorAll('.rx').length === 2")
    for text in EVIL:
        assert f"S {shown(text)}" in words(section(page, "ledger")) and shown(text) in words(section(page, "compared"))
    for i, text in enumerate(EVIL):
        assert f"B {shown(text)}" in words(section(page, f"answer{i}"))
        if text.startswith(("<", '"', "'")):  # the rest is Markdown, as it is meant to be
            assert f"W {shown(text)} {i}." in words(section(page, f"say{i}"))
    assert shown(f"What can be seen here: {TAGS}") in words(section(page, "drawing"))
    assert shown(f"M {TAGS}") in words(section(page, "drawing"))
    label = section(page, "drawing").locator("svg[role=img]").get_attribute("aria-label")
    assert shown(label) == shown(f"What can be seen here: {TAGS}")
    assert TAGS in words(section(page, "verdict"))
    section(page, "drawing").locator("details").evaluate("e => { e.open = true; }")
    for text in EVIL:
        assert shown(text) in words(section(page, "drawing").locator("table"))


def test_the_explorer_shows_hostile_words_as_words(site, visit, tmp_path):
    page = visit(site / "chapters" / "01_evil.html")
    page.wait_for_function("document.querySelectorAll('.rx').length === 2")
    root = section(page, "explorer").locator(".rx")
    names = [" ".join(t.split()) for t in root.locator("select").first.locator("option").all_text_contents()]
    assert names == [shown(t) for t in EVIL]
    for text in (f"T {TAGS}", f"O {TAGS}", f"N {TAGS}", f"L {TAGS}", f"X {TAGS}"):
        assert shown(text) in words(root)
    assert shown(root.get_attribute("aria-label")) == shown(f"T {TAGS}")
    alt = section(page, "explorer").locator("figure img").get_attribute("alt")
    assert shown(f"T {TAGS}. F {TAGS}") in shown(alt)
    root.locator("summary").click()
    for i, text in enumerate(EVIL):
        root.locator("select").first.select_option(str(i))
        assert shown(text) in words(root.locator("svg[role=img] title").first)
        assert shown(text) in words(root.locator("tbody"))
        assert shown(text) in words(root.locator(".rx-status"))
    root.locator(".rx-pin").click()
    root.locator("select").first.select_option("0")
    assert f"pinned: how <b> {shown(EVIL[-1])}" in words(root.locator(".rx-pinnote"))
    box = root.locator("svg[role=img]").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert shown(EVIL[0]) in words(root.locator(".rx-tip"))
    root.locator(".rx-link").click()
    root.locator(".rx-linknote:not(:empty)").wait_for()
    with page.expect_download() as download:
        root.locator(".rx-save").click()
    download.value.save_as(tmp_path / "figure.csv")
    cells = list(csv.reader(io.StringIO((tmp_path / "figure.csv").read_text(encoding="utf-8"))))
    assert {shown(row[0]) for row in cells[1:]} == {shown(EVIL[0]), shown(EVIL[-1])}
    assert "'" + EVIL[9] in {row[2] for row in cells[1:]}
    for cell in (cell for row in cells for cell in row):
        assert not re.match(r"\s*[=+\-@]", cell) or re.fullmatch(r"-?[\d.e+-]+", cell)


def test_names_along_an_axis_are_words(site, visit):
    page = visit(site / "chapters" / "01_evil.html")
    page.wait_for_function("document.querySelectorAll('.rx').length === 2")
    text = words(section(page, "dots").locator(".rx svg[role=img]"))
    assert all(shown(name) in text for name in EVIL)


@pytest.mark.parametrize(
    "fragment", ["<img src=x onerror=window.pwned=7>", "%3Cscript%3Ewindow.pwned=8%3C/script%3E:0", "__proto__:1"]
)
def test_a_hostile_address_changes_nothing(site, visit, fragment):
    page = visit(site / "chapters" / "01_evil.html")
    identity = section(page, "explorer").locator("[id]").last.evaluate("() => document.querySelector('.rx').id")
    page.goto(page.url.split("#")[0] + f"#{identity}={fragment}")
    page.reload()
    page.wait_for_function("document.querySelectorAll('.rx').length === 2")
    assert section(page, "explorer").locator("select").first.input_value() == "0"


@pytest.mark.parametrize("name", ["ledger", "which"])
def test_the_evidence_pages_show_hostile_words_as_words(site, visit, name):
    page = visit(site / f"{name}.html")
    text = words(page.locator("body"))
    for evil in EVIL:
        measured = next(part for v in cards().verdicts() for k, part in v.parts if evil in part.sentence).sentence
        assert shown(measured if name == "ledger" else evil) in text
        if evil.startswith(("<", '"')):  # the words of the book's own files are Markdown, but no HTML
            for mark in "RCH" if name == "ledger" else "KAZ":
                assert shown(f"{mark} {evil}") in text


def test_the_train_panel_shows_hostile_words_as_words(tmp_path, visit, monkeypatch):
    monkeypatch.setattr(engine, "train", lambda *a, **k: (_ for _ in ()).throw(ValueError(f"E {TAGS}")))
    panel = train_panel(h.Recipe(epochs=1), h.load("iris"), fields={"lr": [0.1]}, seeds=1, title=f"T {TAGS}")
    panel.train()
    panel.wait(30)
    live = [w.value for w in (panel.view.children[0], panel.chart, panel.count, panel.result)]
    static = panel._repr_mimebundle_()["text/html"]
    (tmp_path / "panel.html").write_text(
        f"<!doctype html><meta charset=utf-8>{''.join(live)}{static}", encoding="utf-8"
    )
    page = visit(tmp_path / "panel.html")
    text = words(page.locator("body"))
    assert text.count(shown(f"T {TAGS}")) == 2 and f"E {TAGS}" in text
