"""The page for teachers and the slides: made from the chapters, so they cannot fall behind them."""

from __future__ import annotations

import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))
teachers = pytest.importorskip("teachers", reason="the tools that build the book are not installed")
nbformat = pytest.importorskip("nbformat")

CHAPTERS = [p for p in sorted((ROOT / "chapters").glob("[0-9][0-9]_*.ipynb")) if p.stem != "00_start"]
BUILT = ROOT / "_build" / "html"
built = pytest.mark.skipif(not (BUILT / "chapters").is_dir(), reason="_build/html is absent: run `make book` first")


def notebook(*texts):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text) for text in texts])


def test_a_plan_by_hand():
    about = teachers.plan(
        notebook(
            "# T\n\n> You will know it.\n>\n> About 20 minutes. You need a pen.",
            "> **Predict.**\n>\n> Which?\n>\n> 1. this\n> 2. that\n>\n> Choose now.",
            "## Exercises\n\n**1 (easy).** Do it.\n\nAnd so on.",
        )
    )
    assert about == {
        "promise": "You will know it.",
        "minutes": 20,
        "need": "You need a pen.",
        "predictions": [("Which?", ["this", "that"])],
        "exercises": [("1 (easy)", "Do it.")],
    }


def test_a_promise_without_its_time_is_refused():
    with pytest.raises(ValueError, match="the promise does not say 'About N minutes"):
        teachers.plan(notebook("# T\n\n> Soon."))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_every_chapter_gives_a_plan(path):
    about = teachers.plan(nbformat.read(path, as_version=4))
    assert 15 <= about["minutes"] <= 90 and about["need"].startswith("You need")
    assert len(about["predictions"]) >= 1 and len(about["exercises"]) >= 3
    assert all(len(choices) >= 2 for _, choices in about["predictions"])


@built
def test_the_teachers_page_has_every_chapter_with_links_that_work():
    text = (BUILT / "book" / "teach.html").read_text(encoding="utf-8")
    for path in CHAPTERS:
        assert f"chapters/{path.stem}.html?slides" in text and (BUILT / "chapters" / path.name).is_file()


@built
def test_the_slides_go_forward_and_back_and_their_figures_work(guarded):
    page, outside = guarded(viewport={"width": 1280, "height": 800})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((BUILT / "chapters" / "02_initialization.html").as_uri() + "?slides", wait_until="load")
    count = page.locator(".tt-slide-count")
    total = int(count.inner_text().split()[-1])
    assert count.inner_text() == f"1 of {total}" and total > 8
    assert page.locator("article h1").is_visible() and not page.locator("article h2").first.is_visible()
    page.keyboard.press("ArrowRight")
    assert count.inner_text() == f"2 of {total}"
    assert not page.locator("article h1").is_visible() and page.locator("article h2").first.is_visible()
    page.keyboard.press("PageUp")
    assert page.locator("article h1").is_visible()
    for _ in range(total):
        slider = page.locator(".rx input[type=range]:visible")
        if slider.count():
            break
        page.keyboard.press("PageDown")
    place = count.inner_text()
    slider.first.press("Home")
    before = slider.first.input_value()
    slider.first.press("ArrowRight")
    assert count.inner_text() == place and slider.first.input_value() != before  # the slider keeps its keys
    assert slider.first.locator("xpath=ancestor::div[contains(@class, 'rx')][last()]").bounding_box()["width"] > 300
    page.keyboard.press("Tab")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Escape")
    page.wait_for_function("!location.search.includes('slides')")
    assert (outside, errors) == ([], [])
