"""The predictions of a page: kept on the reader's device, compared with what was measured, summed up at the end."""

from __future__ import annotations

import pathlib

import pytest

from helpers import show

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRIPT = (ROOT / "book" / "assets" / "predict.js").read_text(encoding="utf-8")


@pytest.fixture
def address(tmp_path, serve):
    box = '<div class="admonition predict"><p>Which?</p><ol><li><p>one</p></li><li><p>two</p></li></ol></div>'
    answers = [show.answer(k, "It was measured.")._repr_mimebundle_()["text/html"] for k in (2, 1)]
    body = f"<article class=bd-article><h1>t</h1>{box}{answers[0]}{box}{answers[1]}</article>"
    (tmp_path / "page.html").write_text(
        f"<!doctype html><html lang=en><title>t</title><body>{body}<script>{SCRIPT}</script>", encoding="utf-8"
    )
    return serve(tmp_path) + "page.html"


def guess(page, k, choice, sure):
    box = page.locator(".predict").nth(k)
    box.get_by_role("radio").nth(choice - 1).check()
    box.get_by_role("combobox").select_option(str(sure))
    box.get_by_role("button").press("Enter")


def test_a_guess_is_kept_judged_and_summed_up(address, guarded):
    page, outside = guarded()
    page.goto(address)
    assert page.locator(".tt-calibration [role=status]").inner_text().startswith("Keep a prediction before you read on")
    page.locator(".predict").first.get_by_role("button").click()
    assert page.locator(".tt-kept").first.inner_text() == "Choose an answer first."
    guess(page, 0, 2, 0.8)
    guess(page, 1, 2, 0.6)
    results = page.locator(".tt-result").all_inner_texts()
    assert [r.strip() for r in results] == ["You chose 2, 80 % sure: right.", "You chose 2, 60 % sure: not this time."]
    told = "In this chapter: 1 of 2 right, and you were 70 % sure on average (Brier score 0.20; 0 is perfect)."
    assert page.locator(".tt-calibration [role=status]").inner_text().startswith(told)  # (0.2^2 + 0.6^2) / 2
    page.reload()
    assert page.locator(".tt-calibration [role=status]").inner_text().startswith(told)
    assert page.locator("input:checked").count() == 2 and page.locator("input:disabled").count() == 4
    page.get_by_role("button", name="Choose again").first.click()
    assert page.locator(".tt-calibration [role=status]").inner_text().startswith("In this chapter: 0 of 1 right")
    page.get_by_role("button", name="Forget all my predictions").click()
    assert page.locator("input:checked").count() == 0 and page.evaluate("localStorage.length") == 0
    assert outside == []


@pytest.mark.parametrize("stored", ['{"choice": 9, "sure": 0.5}', '"x"', "{", '{"choice": "<b>", "sure": 2}'])
def test_nonsense_in_the_store_is_no_guess(address, guarded, stored):
    page, _ = guarded()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    page.evaluate("(text) => localStorage.setItem('tt-guess:page:1', text)", stored)
    page.reload()
    assert page.locator("input:checked").count() == 0 and page.locator(".tt-result").first.inner_text() == ""
    assert errors == []


def test_each_prediction_of_a_chapter_has_its_answer():
    import json
    import re

    for path in sorted((ROOT / "chapters").glob("[0-9]*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        text = {k: "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == k) for k in ("markdown", "code")}
        boxes = re.findall(r"(?m)^> \*\*Predict\b[^*]*\.\*\*\n((?:>.*\n?)+)", text["markdown"])
        boxes = [box for box in boxes if re.search(r"(?m)^> 1\. ", box)]
        assert len(boxes) == len(re.findall(r"\bh\.answer\(", text["code"])), path.name
