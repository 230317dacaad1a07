"""The explorer: what it packs, what it refuses, and what a browser shows of it."""

from __future__ import annotations

import csv
import html
import io
import itertools
import json
import math
import re
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from helpers import plots
from helpers.explorer import explore, host, packing, wording

LRS, BATCHES, INITS, SEEDS, EPOCHS = (0.01, 0.1, 1.0), (32, 128), ("zero", "he"), 3, 30


def runs(missing=True, diverged=True) -> pd.DataFrame:
    """A small grid of runs; (1.0, 128) was never run, and one seed of (1.0, 32, he) diverges at epoch 10."""
    rng, rows = np.random.default_rng(0), []
    for lr, batch, init, seed in itertools.product(LRS, BATCHES, INITS, range(SEEDS)):
        if missing and (lr, batch) == (1.0, 128):
            continue
        pace = rng.uniform(0.1, 0.2)
        for epoch in range(1, EPOCHS + 1):
            accuracy = 0.1 + (0.8 if init == "he" else 0.02) * (1 - math.exp(-lr * epoch)) + rng.uniform(0, 0.05)
            loss = 2.3 * math.exp(-accuracy * epoch / 10)
            if diverged and (lr, batch, init, seed) == (1.0, 32, "he", 0) and epoch >= 10:
                accuracy = loss = math.nan
            row = dict(lr=lr, batch_size=batch, init=init, seed=seed, epoch=epoch, seconds=pace * epoch)
            rows.append(row | dict(val_accuracy=accuracy, val_loss=loss))
    return pd.DataFrame(rows)


def curves(**more):
    options = dict(x=["epoch", "seconds"], sliders=["lr"], selects=["batch_size"], color="init", title="Starts & rates")
    return explore(runs(), **(options | more))


def mean(table, column="val_accuracy", **where):
    for key, value in where.items():
        table = table[table[key] == value]
    return table[column].mean()


# ---- what is packed ----


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_packing_keeps_a_value_to_half_a_step_of_its_range(scale):
    values = np.exp(np.random.default_rng(1).normal(0, 1.5, 500))
    field = packing.encode(values, np.ones(500, bool), scale == "log")
    back = packing.decode(field, (500,))
    shown, wanted = (np.log10(back), np.log10(values)) if scale == "log" else (back, values)
    assert field["type"] == "i2"
    assert np.abs(shown - wanted).max() <= np.ptp(wanted) / 65533 / 2 * (1 + 1e-6)
    assert np.abs(shown - wanted).max() > 0


def test_packing_tells_a_missing_row_from_a_diverged_one():
    values, there = np.array([0.5, np.nan, np.inf, np.nan, 1.5]), np.array([True, True, True, False, True])
    back = packing.decode(packing.encode(values, there, False), (5,))
    assert back[0] == 0.5 and back[4] == 1.5
    assert np.isinf(back[[1, 2]]).all() and np.isnan(back[3])


def test_a_few_giants_do_not_flatten_the_rest():
    values = np.append(np.linspace(0.1, 2.3, 200), 1e12)
    field = packing.encode(values, np.ones(201, bool), False)
    assert field["type"] == "f4"
    assert packing.decode(field, (201,)) == pytest.approx(values, rel=1e-6)


def test_log_leaves_out_what_is_not_positive():
    table = pd.DataFrame({"epoch": [1, 2, 3], "val_loss": [1.0, 0.0, 0.01]})
    e = explore(table, y="val_loss", yscale="log", band=None)
    assert list(e.at()["epoch"]) == [1, 3]
    assert e.spec["y"][0]["log"] and e.spec["y"][0]["lim"][0] > 0
    assert not e.spec["diverged"]


def test_fractions_of_accuracy_are_shown_in_percent():
    e = curves(ylim=(0, 1))
    assert e.spec["y"][0]["label"] == "validation accuracy (%)"
    assert e.spec["y"][0]["lim"] == [0, 100]
    wanted = 100 * mean(runs(), lr=0.1, batch_size=32, init="he", epoch=30)
    last = e.at(lr=0.1).query("epoch == 30 and initialization == 'he'")
    assert last["validation accuracy (%)"].item() == pytest.approx(wanted, abs=100 / 65533)


def test_at_gives_mean_range_seeds_and_the_diverged():
    row = curves().at(lr=1.0).query("epoch == 30 and initialization == 'he'").iloc[0]
    alive = runs().query("lr == 1 and batch_size == 32 and init == 'he' and epoch == 30")["val_accuracy"].dropna() * 100
    assert (row["seeds"], row["diverged"]) == (2, 1)
    found = row[["validation accuracy (%)", "lowest", "highest"]].astype(float)
    assert found.tolist() == pytest.approx([alive.mean(), alive.min(), alive.max()], abs=100 / 65533)


def test_no_zero_has_a_sign():
    assert [wording.number(v, 3) for v in (-0.0, -1e-9, -0.5)] == ["0.000", "0.000", "-0.500"]
    assert [wording.number(v, None) for v in (-0.0, -0.25)] == ["0", "-0.25"]


def test_at_thins_the_table_and_full_does_not():
    e = curves()
    assert e.at()["epoch"].nunique() == 25 and {1, 30} <= set(e.at()["epoch"])
    assert e.full()["epoch"].nunique() == 30
    assert e.values.equals(e.full())


def test_another_axis_is_the_mean_over_the_seeds():
    frame = curves().at(lr=0.1, x="seconds")
    wanted = mean(runs(), "seconds", lr=0.1, batch_size=32, init="zero", epoch=30)
    assert frame.query("initialization == 'zero'")["seconds of training"].iloc[-1] == pytest.approx(wanted, abs=1e-3)


def test_a_missing_combination_is_empty():
    assert curves().at(lr=1.0, batch_size=128).empty
    e = curves(start={"lr": 1.0, "batch_size": 128})
    assert e.state == {"lr": 1.0, "batch_size": 128}
    assert "There is no run at this setting." in e._repr_mimebundle_()["text/html"]


def test_axes_are_fixed_over_the_whole_grid():
    a, b = curves(start={"lr": 0.01}), curves(start={"lr": 1.0})
    assert a.spec["y"][0]["lim"] == b.spec["y"][0]["lim"]
    assert a.spec["x"][0]["lim"] == [0, 30]


def test_the_start_is_the_middle_of_a_slider_and_the_first_of_a_select():
    assert curves().state == {"lr": 0.1, "batch_size": 32}


def test_values_are_sorted_when_numbers_and_none_comes_first():
    table = pd.DataFrame({"clip": [1.0, None, 0.1], "act": ["tanh", "relu", "gelu"], "epoch": 1, "val_loss": 1.0})
    e = explore(table, y="val_loss", sliders=["clip"], selects=["act"])
    assert e.spec["controls"][0]["names"] == ["none", "0.1", "1"]
    assert e.spec["controls"][1]["names"] == ["tanh", "relu", "gelu"]
    assert len(e.at(clip=None, act="relu")) == 1


def test_an_object_with_a_frame_will_do():
    class Runs:
        def frame(self):
            return runs()

    assert explore(Runs(), sliders=["lr"], selects=["batch_size"], color="init").at(lr=0.1).equals(curves().at(lr=0.1))


def test_one_run_per_x_is_counted_when_every_run_has_its_own_seconds():
    e = curves(x="seconds")
    assert e.spec["points"] == EPOCHS
    assert len(e.full(lr=0.1)) == 2 * EPOCHS


def test_names_along_x_and_bars():
    last = runs(missing=False, diverged=False).query("epoch == 30")
    dot = explore(last, x="init", kind="dot", sliders=["lr"], selects=["batch_size"])
    assert dot.spec["x"][0]["names"] == ["zero", "he"]
    assert "he is highest" in dot._sentence() and "zero is lowest" in dot._sentence()
    bins = pd.DataFrame({"bin": [0.5, 1.5, 2.5], "height": [1, 4, 2]})
    bar = explore(bins, x="bin", y="height", kind="bar")
    assert bar.spec["x"][0]["lim"] == [0, 3] and bar.spec["y"][0]["lim"][0] == 0
    assert bar._sentence() == "Height is largest at 1.5, with 4.00."


def png() -> bytes:
    out = io.BytesIO()
    Figure(figsize=(0.2, 0.2)).savefig(out, format="png")
    return out.getvalue()


def paths(**more):
    rows = [dict(surface=s, x=k * 0.5 - 1, y=1 - 0.2 * k) for s in ("bowl", "valley") for k in range(5)]
    backs = {"bowl": {"png": png(), "extent": (-2, 2, -3, 3)}}
    return explore(pd.DataFrame(rows), x="x", y="y", kind="path", selects=["surface"], background=backs, **more)


def test_a_path_keeps_the_order_of_its_rows():
    frame = paths().full(surface="valley")
    assert list(frame["point"]) == [1, 2, 3, 4, 5]
    assert frame["x"].tolist() == pytest.approx([-1, -0.5, 0, 0.5, 1], abs=1e-4)
    assert paths()._sentence() == "The path ends at (1.000, 0.200)."


# ---- words and bytes ----


def test_the_finding_names_the_best_and_the_worst_with_n():
    assert re.fullmatch(
        r"Validation accuracy \(%\) at epoch 30: he is highest with \d\d\.\d \(\d\d\.\d to \d\d\.\d, n = 3\), "
        r"zero is lowest with \d\d\.\d \(.*, n = 3\)\.",
        curves()._sentence(),
    )


def test_your_own_finding_opens_the_alternative_text():
    seen = []
    e = curves(finding=lambda rows: seen.append(rows) or "He wins.", title="T", start={"lr": 1.0})
    alt = re.search(r'alt="([^"]*)"', e._repr_mimebundle_()["text/html"])[1]
    assert alt.startswith("T. He wins. Shown: learning rate 1, batch size 32.")
    assert set(seen[0]["lr"]) == {1.0} and set(seen[0]["batch_size"]) == {32}


def test_the_same_input_gives_the_same_bytes():
    assert curves()._repr_mimebundle_() == curves()._repr_mimebundle_()
    assert curves().spec["id"] != curves(note="other").spec["id"]
    assert curves().spec["id"].startswith("starts-rates-")


def test_text_from_python_is_escaped():
    evil = '<script>alert("1")</script>'
    table = runs().assign(init=lambda t: t["init"] + evil)
    e = explore(table, sliders=["lr"], selects=["batch_size"], color="init", title=evil, note=evil, labels={"lr": evil})
    page = e._repr_mimebundle_()["text/html"]
    assert page.count("<script>") == 1 == page.count("</script>")
    assert "<!--" not in page
    spec = json.loads(html.unescape(re.search(r'data-spec="([^"]*)"', page)[1]))
    assert spec["title"] == evil and spec["note"] == evil


def test_the_bundle_holds_a_picture_and_text():
    bundle = curves()._repr_mimebundle_()
    assert set(bundle) == {"text/html", "image/png", "text/plain"}
    assert bundle["image/png"].startswith("iVBOR")
    assert bundle["text/plain"].startswith("<Explorer: Starts & rates (learning rate 0.1, batch size 32). Validation")


def test_the_page_and_the_picture_share_their_colours():
    for i, colour in enumerate(plots.PALETTE):
        assert f"--rx-{i}: {colour.lower()};" in host.style()
    js = re.search(r'const DASHES = \["", (.*)\];', host.code())[1]
    for dash, wanted in zip(re.findall('"(.*?)"', js), plots.DASHES[1:], strict=True):
        assert len(dash.split()) == len(wanted[1])


def test_the_page_asks_no_network_and_evaluates_no_text():
    js = host.code()
    for word in ("eval(", "innerHTML", "outerHTML", "fetch(", "XMLHttp", "import(", "new Function", "document.write"):
        assert word not in js


def test_the_widget_shares_spec_and_choice():
    pytest.importorskip("anywidget")
    widget = curves().widget()
    assert widget.choice == {"lr": 0.1, "batch_size": 32}
    assert widget.spec["title"] == "Starts & rates"


def test_the_widget_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(ImportError, match=r"^widget\(\) needs anywidget: install it with `pip install anywidget`\.$"):
        curves().widget()


# ---- refusals: one sentence each ----

T = runs()
WRONG = [
    (lambda: explore([1]), TypeError, "table=list is not a table: give a pandas DataFrame, or runs from train(...)."),
    (lambda: explore(T[:0]), ValueError, "table has 0 rows: there is nothing to draw; check the filter that made it."),
    (
        lambda: explore(T[["epoch", "val_loss", "lr"]], y="val_los"),
        ValueError,
        "'val_los' is not a column of the table; the columns are epoch, val_loss, lr. Did you mean 'val_loss'?",
    ),
    (
        lambda: curves(kind="lines"),
        ValueError,
        "kind='lines' is not known; choose one of 'line', 'bar', 'path', 'dot'. Did you mean 'line'?",
    ),
    (
        lambda: curves(selects=["batch_size", "lr"]),
        ValueError,
        "selects='lr' is already used by sliders; give each column one use.",
    ),
    (lambda: curves(y="init"), TypeError, "y='init' holds text, not numbers: give a numeric column for y."),
    (
        lambda: explore(T, x="init"),
        TypeError,
        "x='init' holds text, not numbers: give a numeric column for x; for names along x use kind='dot'.",
    ),
    (
        lambda: curves(start={"lrr": 1}),
        TypeError,
        "'lrr' is not a control; choose from lr, batch_size. Did you mean 'lr'?",
    ),
    (lambda: curves(start={"lr": 0.2}), ValueError, "start: lr=0.2 is not in the table; choose one of 0.01, 0.1, 1.0."),
    (lambda: curves().at(lr=7), ValueError, "state: lr=7 is not in the table; choose one of 0.01, 0.1, 1.0."),
    (
        lambda: explore(T, sliders=["lr"], color="init"),
        ValueError,
        "table has 2 rows for lr=0.01, init='zero', seed=0, epoch=1, and a figure needs one; "
        "they differ in 'batch_size': add it to sliders=, selects= or color=, or keep one of its values.",
    ),
    (
        lambda: explore(pd.concat([T, T]), sliders=["lr"], selects=["batch_size"], color="init"),
        ValueError,
        "table has 2 rows for lr=0.01, batch_size=32, init='zero', seed=0, epoch=1, and a figure needs one; "
        "nothing else tells them apart: drop one with table.drop_duplicates(), or average them.",
    ),
    (
        lambda: explore(pd.DataFrame({"k": range(13), "epoch": 1, "val_loss": 1.0}), y="val_loss", color="k"),
        ValueError,
        "color='k' has 13 values, and at most 12 lines can be told apart; keep 12 of them or put 'k' into sliders=.",
    ),
    (
        lambda: explore(pd.DataFrame({"epoch": range(300_000), "val_loss": 1.0}), y="val_loss"),
        ValueError,
        "the figure would hold 1600 kB of data, and a page carries at most 600 kB: thin the table (keep every k-th "
        "value of 'epoch'), or use fewer settings, lines or backgrounds.",
    ),
    (
        lambda: curves(ylim=(2, 1)),
        ValueError,
        "ylim=(2, 1) is not a range: give low < high, both above 0 on log.",
    ),
    (
        lambda: curves(xscale="ln"),
        ValueError,
        "xscale='ln' is not known; choose one of 'linear', 'log'. Did you mean 'linear'?",
    ),
    (
        lambda: explore(T.assign(epoch=math.nan), sliders=["lr"], selects=["batch_size"], color="init"),
        ValueError,
        f"column 'epoch' is empty in {len(T)} rows: fill it in or drop these rows first.",
    ),
    (
        lambda: curves(kind="path", x=["epoch", "seconds"]),
        ValueError,
        "kind='path' takes one column for x and one for y, got x=['epoch', 'seconds'] and y='val_accuracy'; "
        "choose one each.",
    ),
    (
        lambda: explore(T, x="epoch", y="val_loss", kind="path", band=None, sliders=["lr"]),
        ValueError,
        "table has several values of 'seed' in one path, and a path needs one; "
        "add 'seed' to sliders=, selects=, color= or band=, or keep one of its values.",
    ),
    (
        lambda: curves(background={None: {"png": b"", "extent": (0, 1, 0, 1)}}),
        ValueError,
        "background= goes with kind='path' only, not kind='line'; leave it out.",
    ),
]


@pytest.mark.parametrize(("call", "kind", "sentence"), WRONG, ids=range(len(WRONG)))
def test_a_slip_ends_in_one_sentence(call, kind, sentence):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == sentence


# ---- in a browser ----


@pytest.fixture(scope="module")
def book(tmp_path_factory, serve):
    """The places ({"http": …, "file": …}) of a page with two explorers, and the two."""
    folder = tmp_path_factory.mktemp("book")
    first, second = curves(note="synthetic"), curves(x="epoch", y=["val_accuracy", "val_loss"], title="Two panels",
                                                     yscale={"val_loss": "log"})  # fmt: skip
    body = "".join(e._repr_mimebundle_()["text/html"] for e in (first, second))
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    page = f"{head}<title>t</title><body>{body}</body></html>"
    (folder / "page.html").write_text(page, encoding="utf-8")
    sandboxed = (
        f'{head}<title>t</title><iframe sandbox="allow-scripts" width="700" height="900" srcdoc="{html.escape(page)}">'
    )
    (folder / "framed.html").write_text(sandboxed + "</iframe></html>", encoding="utf-8")
    return {"http": serve(folder), "file": folder.as_uri() + "/"}, first, second


@pytest.fixture
def opened(guarded, book):
    """opened(how="http") -> (page, complaints): the page with two explorers; outside requests are complaints."""

    def visit(how="http", name="page.html", fragment="", **options):
        page, complaints = guarded(**options)
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: complaints.append(str(e)))
        page.goto(book[0][how] + name + fragment)
        return page, complaints

    return visit


def number(text: str) -> float:
    return math.nan if text == "–" else float(text.replace("−", "-"))


def drawn(page, e, line, panel=0, axis=0):
    """The mean line on the page, its pixels turned back into values of x and y; and half a pixel in units of y."""
    svg = page.locator(f"#{e.spec['id']} svg[role=img]").nth(panel)
    left, top, width, height = (float(v) for v in svg.get_attribute("data-plot").split())
    path = svg.locator(f"g[data-line='{line}']:not([data-pinned]) > .rx-mean")
    if not path.count():
        return np.zeros((0, 2)), 0
    d = re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path.get_attribute("d"))
    (x0, x1), a = e.spec["x"][axis]["lim"], e.spec["y"][panel]
    y0, y1 = np.log10(a["lim"]) if a["log"] else a["lim"]
    points = [(x0 + (float(u) - left) / width * (x1 - x0), y1 - (float(v) - top) / height * (y1 - y0)) for u, v in d]
    return np.array(points), 0.5 * (y1 - y0) / height


def check_state(page, e, state):
    """What is drawn, said and tabulated at a state equals what Python says."""
    full, at = e.full(**state), e.at(**state)
    for panel, axis in enumerate(e.spec["y"]):
        for line, name in enumerate(INITS):
            wanted = full[full["initialization"] == name] if len(full) else full
            points, half = drawn(page, e, line, panel)
            assert len(points) == len(wanted)
            if len(wanted):
                y = wanted[axis["label"]].to_numpy(float)
                assert np.abs(points[:, 1] - (np.log10(y) if axis["log"] else y)).max() <= half
                assert np.abs(points[:, 0] - wanted["epoch"]).max() <= 0.05
    script = "rows => rows.map(r => [...r.cells].map(c => c.textContent))"
    rows = page.locator(f"#{e.spec['id']} tbody tr").evaluate_all(script)
    assert len(rows) == len(at)
    for cells, (_, row) in zip(rows, at.iterrows(), strict=True):
        for cell, (column, value) in zip(cells, row.items(), strict=True):
            if isinstance(value, str):
                assert cell == value
            else:
                digits = len(cell.split(".")[1]) if "." in cell else 0
                wide = max(0.5 * 10**-digits, abs(value) * 0.005 if column != "epoch" else 0)
                assert number(cell) == pytest.approx(value, abs=wide * 1.001)


@pytest.mark.parametrize("how", ["http", "file"])
def test_every_setting_is_reached_by_keyboard_and_shows_what_python_says(opened, book, how):
    page, complaints = opened(how, viewport={"width": 900, "height": 800})
    for e in book[1:]:
        root = page.locator(f"#{e.spec['id']}")
        root.locator("summary").focus()
        page.keyboard.press("Enter")
        slider, select = root.locator("input[type=range]"), root.locator("select[data-column=batch_size]")
        for b, batch in enumerate(BATCHES):
            select.focus()
            page.keyboard.press("ArrowDown" if b else "Home")
            slider.focus()
            page.keyboard.press("Home")
            for i, lr in enumerate(LRS):
                if i:
                    page.keyboard.press("ArrowRight")
                assert slider.get_attribute("aria-valuetext") == f"{lr:g}"
                check_state(page, e, dict(lr=lr, batch_size=batch))
        assert root.locator("[role=status]").inner_text() == "No run at this setting (learning rate 1, batch size 128)."
    assert complaints == []


def test_moving_a_slider_never_rescales(opened, book):
    page, _ = opened()
    frame = page.locator(f"#{book[1].spec['id']} svg[role=img] > g[aria-hidden]").first
    before = frame.inner_html()
    page.locator("input[type=range]").first.press("End")
    assert frame.inner_html() == before and "<line" in before


def test_the_status_says_the_last_values_and_who_diverged(opened, book):
    page, _ = opened()
    root = page.locator(f"#{book[1].spec['id']}")
    root.locator("input[type=range]").press("End")
    assert re.fullmatch(
        r"Validation accuracy \(%\) at epoch 30: zero \d+\.\d \(\d+\.\d to \d+\.\d\); "
        r"he \d+\.\d \(\d+\.\d to \d+\.\d\), 1 of 3 seeds diverged\.",
        root.locator("[role=status]").inner_text(),
    )
    assert root.locator(".rx-caption").inner_text() == "Mean and range over 3 seeds. synthetic"


def test_a_hidden_line_is_not_drawn_and_the_pin_stays(opened, book):
    page, complaints = opened()
    root = page.locator(f"#{book[1].spec['id']}")
    root.locator("input[data-line='0']").press("Space")
    assert root.locator("g[data-line='0']").count() == 0 and root.locator("g[data-line='1']").count() == 1
    root.locator(".rx-pin").press("Enter")
    kept = root.locator("g[data-pinned] .rx-mean").get_attribute("d")
    root.locator("input[type=range]").press("Home")
    assert root.locator("g[data-pinned] .rx-mean").get_attribute("d") == kept
    assert root.locator("g[data-line='1']:not([data-pinned]) .rx-mean").get_attribute("d") != kept
    assert root.locator(".rx-pinnote").inner_text() == "pinned: learning rate 0.1, batch size 32"
    assert "Pinned (learning rate 0.1, batch size 32): " in root.locator("[role=status]").inner_text()
    root.locator(".rx-pin").press("Enter")
    assert root.locator("g[data-pinned]").count() == 0
    assert complaints == []


def test_each_seed_and_the_other_axis(opened, book):
    page, complaints = opened()
    e = book[1]
    root = page.locator(f"#{e.spec['id']}")
    assert root.locator("g[data-line='1'] .rx-band").count() == 1
    root.locator(".rx-each-box").press("Space")
    assert root.locator("g[data-line='1'] .rx-seed").count() == SEEDS
    root.locator(".rx-axis").focus()
    page.keyboard.press("ArrowDown")
    points, _ = drawn(page, e, 1, axis=1)
    wanted = e.full(x="seconds").query("initialization == 'he'")
    assert np.abs(points[:, 0] - wanted["seconds of training"]).max() < 0.02
    assert root.locator(".rx-xname").text_content() == "seconds of training"
    assert complaints == []


def test_the_file_holds_the_whole_table(opened, book):
    page, _ = opened()
    e = book[1]
    root = page.locator(f"#{e.spec['id']}")
    root.locator("summary").press("Enter")
    with page.expect_download() as download:
        root.locator(".rx-save").press("Enter")
    rows = list(csv.DictReader(download.value.path().read_text(encoding="utf-8").splitlines()))
    full = e.full()
    assert len(rows) == len(full) == 2 * EPOCHS
    assert {r["learning rate"] for r in rows} == {"0.1"}
    for column in ("epoch", "validation accuracy (%)", "lowest", "highest", "seeds"):
        assert [float(r[column]) for r in rows] == pytest.approx(full[column].tolist(), rel=1e-6)


def test_the_address_holds_the_setting(opened, book):
    e, other = book[1], book[2]
    page, _ = opened()
    root = page.locator(f"#{e.spec['id']}")
    root.locator("input[type=range]").press("Home")
    root.locator("input[data-line='0']").press("Space")
    page.locator(f"#{other.spec['id']} input[type=range]").press("End")
    page.wait_for_function("location.hash.includes('&')")
    fragment = page.evaluate("location.hash")
    assert fragment == f"#{e.spec['id']}=lr:0,batch_size:0,.hide:0&{other.spec['id']}=lr:2,batch_size:0"
    page, complaints = opened(fragment=fragment)
    value = "id => document.querySelector('#' + id + ' input[type=range]').value"
    assert [page.evaluate(value, x.spec["id"]) for x in (e, other)] == ["0", "2"]
    assert not page.locator(f"#{e.spec['id']} input[data-line='0']").is_checked()
    page.evaluate("id => { location.hash = id + '=lr:2,batch_size:1'; }", e.spec["id"])
    page.wait_for_function(
        "id => document.querySelector('#' + id + ' input[type=range]').value === '2'", arg=e.spec["id"]
    )
    assert page.locator(f"#{e.spec['id']} select[data-column=batch_size]").input_value() == "1"
    assert complaints == []


def test_back_and_forward_go_through_the_settings(opened, book):
    e = book[1]
    page, complaints = opened()
    slider = page.locator(f"#{e.spec['id']} input[type=range]")
    slider.press("Home")
    page.wait_for_function("location.hash.includes('lr:0')")
    page.wait_for_timeout(1600)  # a pause: what follows is another move
    slider.press("End")
    page.wait_for_function("location.hash.includes('lr:2')")
    for step, value in (("go_back", "0"), ("go_back", "1"), ("go_forward", "0"), ("go_forward", "2")):
        getattr(page, step)()
        page.wait_for_function(
            "([id, value]) => document.querySelector('#' + id + ' input[type=range]').value === value",
            arg=[e.spec["id"], value],
        )
    assert complaints == []


def test_the_link_to_a_setting_is_copied_and_opens_it(opened, book):
    e = book[1]
    page, complaints = opened()
    root = page.locator(f"#{e.spec['id']}")
    root.locator("input[type=range]").press("End")
    page.evaluate("() => { navigator.clipboard.writeText = async (text) => { window.taken = text; }; }")
    root.locator(".rx-link").press("Enter")
    page.wait_for_function("window.taken")
    assert root.locator(".rx-linknote").inner_text() == "The link to this setting is copied."
    page.evaluate("() => { navigator.clipboard.writeText = async () => { throw new Error('refused'); }; }")
    root.locator(".rx-link").press("Enter")
    root.locator(".rx-linknote a").wait_for()
    link = page.evaluate("window.taken")
    assert root.locator(".rx-linknote a").get_attribute("href") == link
    other, _ = opened(fragment="#" + link.split("#")[1])
    assert other.locator(f"#{e.spec['id']} input[type=range]").input_value() == "2"
    assert complaints == []


@pytest.mark.parametrize(
    "nonsense", ["lr:99,batch_size:-1", "lr:1e0", "%%%,:,lr", "lr:<b>", "=lr:2", "lr:0:0,.x:7,.hide:a-9"]
)
def test_nonsense_in_the_address_falls_back_to_the_start(opened, book, nonsense):
    page, complaints = opened(fragment=f"#{book[1].spec['id']}={nonsense}")
    root = page.locator(f"#{book[1].spec['id']}")
    assert root.locator("input[type=range]").input_value() == "1"
    assert root.locator("select[data-column=batch_size]").input_value() == "0"
    assert root.locator("input[data-line]:checked").count() == 2
    assert complaints == []


def test_a_sandboxed_frame_works_too(opened, book):
    page, complaints = opened(name="framed.html")
    root = page.frame_locator("iframe").locator(f"#{book[1].spec['id']}")
    before = root.locator("g[data-line='1'] .rx-mean").get_attribute("d")
    root.locator("input[type=range]").press("Home")
    assert root.locator("g[data-line='1'] .rx-mean").get_attribute("d") != before
    assert complaints == []


def test_without_javascript_the_picture_and_its_words_remain(opened, book):
    page, complaints = opened(java_script_enabled=False)
    images = page.locator("img")
    assert images.count() == 2
    assert images.first.is_visible() and images.first.bounding_box()["height"] > 200
    assert images.first.get_attribute("alt").startswith("Starts & rates. Validation accuracy (%) at epoch 30: he is")
    assert "synthetic" in page.locator("figcaption").first.inner_text()
    assert complaints == []


def test_with_javascript_the_picture_gives_way_once(opened):
    page, _ = opened()
    assert page.locator("img:visible").count() == 0
    assert page.locator(".rx").count() == 2


@pytest.mark.parametrize("width", [320, 375, 1280])
def test_it_fits_the_screen(opened, width):
    page, _ = opened(viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.evaluate(
        """() => [...document.querySelectorAll('.rx svg[role=img]')].map(s => {
            const k = s.getBoundingClientRect().width / s.viewBox.baseVal.width;
            const fonts = [...s.querySelectorAll('text')].map(t => parseFloat(getComputedStyle(t).fontSize) * k);
            return [s.getBoundingClientRect().height, ...fonts];
        })"""
    )
    for height, *fonts in sizes:
        assert height >= 220 and min(fonts) >= 11
    small = page.evaluate(
        """() => [...document.querySelectorAll('.rx :is(input[type=range], select, button, label.rx-chip, summary)')]
            .filter(e => e.getClientRects().length && e.getBoundingClientRect().height < 24).map(e => e.outerHTML)"""
    )
    assert small == []


def test_every_control_has_a_name_and_keeps_its_keys(opened):
    page, _ = opened()
    page.evaluate("window.heard = []; document.addEventListener('keydown', e => heard.push(e.key))")
    page.locator("input[type=range]").first.press("ArrowRight")
    assert page.evaluate("heard") == []
    page.keyboard.press("Control+a")
    assert "a" in page.evaluate("heard")
    bare = page.evaluate(
        """() => [...document.querySelectorAll('.rx :is(input, select, button, summary, [tabindex])')].filter(e => {
            const name = e.labels?.length || e.textContent.trim() || e.getAttribute('aria-label');
            return !name || !e.hasAttribute('data-lm-suppress-shortcuts');
        }).map(e => e.outerHTML)"""
    )
    assert bare == []


@pytest.mark.parametrize("theme", ["light", "dark", "dark by the page's button"])
def test_all_colours_and_text_stand_out(opened, theme):
    page, _ = opened(color_scheme="dark" if theme == "dark" else "light")
    if theme.endswith("button"):
        page.evaluate("document.documentElement.dataset.theme = 'dark'")
    ratios = page.evaluate(
        """() => {
            const linear = x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
            const lum = c => c.match(/[\\d.]+/g).slice(0, 3)
                .reduce((sum, x, i) => sum + [0.2126, 0.7152, 0.0722][i] * linear(x / 255), 0);
            const ratio = (a, b) => {
                const [h, l] = [lum(a), lum(b)].sort((x, y) => y - x);
                return (h + 0.05) / (l + 0.05);
            };
            const css = (s, p) => getComputedStyle(document.querySelector(s))[p], back = css('.rx', 'backgroundColor');
            const probe = document.querySelector('.rx').appendChild(document.createElement('p'));
            const colours = ['0', '1', '2', '3', '4', '5', '6', 'pinned'].map(i => {
                probe.className = i === 'pinned' ? 'rx-pinned' : `rx-c${i}`;
                probe.style.color = 'var(--c)';
                return getComputedStyle(probe).color;
            });
            return { back, text: ratio(css('.rx-status', 'color'), back),
                muted: ratio(css('.rx-caption', 'color'), back),
                tick: ratio(css('.rx svg[role=img] text', 'fill'), back),
                different: new Set(colours).size, lines: colours.map(c => ratio(c, back)) };
        }"""
    )
    assert ratios["back"] == ("rgb(255, 255, 255)" if theme == "light" else "rgb(18, 18, 18)")
    assert min(ratios["text"], ratios["muted"], ratios["tick"]) >= 4.5
    assert min(ratios["lines"]) >= 3 and ratios["different"] == 8


def test_a_path_lies_on_its_picture(guarded, tmp_path):
    e = paths()
    (tmp_path / "p.html").write_text(e._repr_mimebundle_()["text/html"], encoding="utf-8")
    page, outside = guarded()
    page.goto((tmp_path / "p.html").as_uri())
    svg = page.locator("svg[role=img]")
    left, top, width, height = (float(v) for v in svg.get_attribute("data-plot").split())
    box = [float(svg.locator("image").get_attribute(k)) for k in ("x", "y", "width", "height")]
    assert box == [left, top, width, height]
    d = re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", svg.locator("g[data-line] > .rx-mean").get_attribute("d"))
    assert float(d[0][0]) == pytest.approx(left + width * (-1 + 2) / 4, abs=0.5)  # the picture's extent sets the axes
    assert float(d[0][1]) == pytest.approx(top + height * (3 - 1) / 6, abs=0.5)
    page.locator("select").focus()
    page.keyboard.press("ArrowDown")
    assert svg.locator("image").count() == 0
    assert outside == []


def test_the_page_gives_no_zero_a_sign(guarded, tmp_path):
    rows = pd.DataFrame(
        {"seed": 0, "epoch": [1, 2, 1, 2], "lr": [0.1, 0.1, 1.0, 1.0], "gap": [-0.5, -0.0002, -0.2, -0.5]}
    )
    e = explore(rows, x="epoch", y="gap", sliders=["lr"])
    (tmp_path / "p.html").write_text(e._repr_mimebundle_()["text/html"], encoding="utf-8")
    page, _ = guarded()
    page.goto((tmp_path / "p.html").as_uri())
    page.locator("input[type=range]").press("Home")
    assert "0.000" in page.locator("[role=status]").inner_text()
    assert "\u2212" not in page.locator("[role=status]").inner_text()
    page.locator("input[type=range]").press("End")
    assert "\u22120.500" in page.locator("[role=status]").inner_text()


def test_a_redraw_is_quick(guarded, tmp_path):
    rng, rows = np.random.default_rng(0), []
    for line, lr, seed in itertools.product(range(12), range(3), range(8)):
        rows += [dict(line=line, lr=lr, seed=seed, epoch=t, val_loss=v) for t, v in enumerate(rng.random(40))]
    e = explore(pd.DataFrame(rows), y="val_loss", sliders=["lr"], color="line")
    (tmp_path / "q.html").write_text(e._repr_mimebundle_()["text/html"], encoding="utf-8")
    page, _ = guarded()
    page.goto((tmp_path / "q.html").as_uri())
    times = page.evaluate(
        """() => { const s = document.querySelector('input[type=range]'), out = [];
            for (let i = 0; i < 30; i++) {
                s.value = i % 3;
                const t = performance.now();
                s.dispatchEvent(new Event('input'));
                out.push(performance.now() - t);
            }
            return out.sort((a, b) => a - b); }"""
    )
    print(f"median redraw {times[15]:.1f} ms")
    assert times[15] < 16


def test_epochs_are_numbered_whole(opened):
    page, _ = opened(viewport={"width": 1280, "height": 800})
    labels = page.locator("svg[role=img]").first.locator("g[aria-hidden] text[text-anchor=middle]").all_text_contents()
    assert labels == ["0", "5", "10", "15", "20", "25", "30", "epoch"]
