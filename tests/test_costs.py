"""The page on sweeps over many machines: its arithmetic by hand, its measured number, its fields in a browser."""

from __future__ import annotations

import importlib
import json
import pathlib
import statistics
import sys

import pytest

from helpers.runs import Runs

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = "book/beyond_one_machine.html"
BUILT = ROOT / "_build" / "html"


@pytest.fixture
def costs(monkeypatch):
    pytest.importorskip("sphinx")
    monkeypatch.setattr(sys, "path", [str(ROOT / "book" / "_ext"), *sys.path])
    return importlib.import_module("costs")


def test_the_cost_by_hand(costs):
    # 1,000 runs and 10 % again on 100 GPUs: 11 each, of 120 / 4 = 30 s: 5.5 min, and 4.5 until they are ready
    values = {"runs": 1000, "seconds": 120, "faster": 4, "gpus": 100, "start": 4.5, "lost": 10, "price": 3}
    assert costs.cost(**values) == pytest.approx((10, 100 * 10 / 60, 50))
    assert costs.told(values) == "Done after 10 minutes. It takes 17 GPU-hours and costs $50."
    assert costs.cost(**{**values, "runs": 1, "lost": 0}) == pytest.approx((5, 100 * 5 / 60, 25))  # one has work


def test_the_seconds_are_those_of_the_record(costs):
    table = Runs.load(ROOT / costs.RECORD).table
    modern = table[table["model"] == "lenet5"]
    seconds, told = costs.recorded(ROOT)
    assert seconds == pytest.approx(statistics.mean(modern["seconds"]))
    assert told == f"measured: LeNet-5 on MNIST, {modern['epochs'].iloc[0]} epochs, n = {len(modern)}, on one CPU"
    assert {key for key, *_ in costs.INPUTS} == set(costs.cost.__code__.co_varnames[: costs.cost.__code__.co_argcount])


def test_the_readers_own_numbers(costs, serve, guarded):
    if not (BUILT / PAGE).exists():
        pytest.skip("the page is absent: run `make book` first")
    page, outside = guarded(viewport={"width": 375, "height": 800})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(serve(BUILT) + PAGE)
    usual = {k: v if v is not None else round(costs.recorded(ROOT)[0], 1) for k, _, v, *_ in costs.INPUTS}
    fields = {key: page.locator(f"[aria-labelledby=tt-cost-{key}]") for key in usual}
    assert {key: float(field.input_value()) for key, field in fields.items()} == usual
    total = page.locator(".tt-cost .tt-total")
    assert total.text_content() == costs.told(usual)
    for change in ({"gpus": 8}, {"seconds": 3.5, "faster": 1}, {"runs": 12345, "lost": 0}, {"start": 0, "price": 0.4}):
        for key, value in change.items():
            fields[key].fill(json.dumps(value))
            usual[key] = value
        assert total.text_content() == costs.told(usual)
    for wrong in ("", "-3", "0"):
        fields["gpus"].fill(wrong)
        assert total.text_content() == "Give a number above zero in each field."
    assert (outside, errors) == ([], [])
