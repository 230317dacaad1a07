"""The measurements of the LeNet-5 chapter, held to closed forms, to torch, and to a browser."""

from __future__ import annotations

import base64
import pathlib

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import helpers as h
from helpers import models, training
from helpers.labs import lenet5 as lab

ROOT = pathlib.Path(__file__).resolve().parent.parent
SMALL = h.Recipe(model="lenet5", optimizer="adam", lr=0.003, batch_size=20, epochs=1)


@pytest.fixture(scope="module")
def glyphs():
    return h.load("glyphs", n_train=80, n_val=40, n_test=60)


@pytest.fixture(scope="module")
def reader():
    data = lab.reading_data(drawn=60, written=60)
    return training.train_one(SMALL, data)[0], data


def test_every_layer_has_the_paper_s_parameters_and_connections():
    table = lab.beside_the_paper()
    rows = [r for r in table.index if r != "output"]
    for what in ("parameters", "connections"):
        assert table.loc[rows, f"{what} (1998)"].tolist() == table.loc[rows, f"{what} (paper)"].tolist()
    assert table.loc["all", "parameters (modern)"] == 61_706
    assert lab.shown(table).loc[["output", "C5"], ("parameters", "paper")].tolist() == ["", "48,120"]
    assert table["output"].tolist()[:6] == ["6×28×28", "6×14×14", "16×10×10", "16×5×5", "120×1×1", "84"]


def test_structure_gives_the_known_answers():
    found = {claim: [e.holds for e in parts.values()] for claim, parts in lab.structure().items()}
    assert found == {
        "LENET-04": [True, False], "LENET-05": [False, False], "LENET-06": [False], "LENET-07": [False],
        "LENET-08": [True], "LENET-14": [False, False],
    }  # fmt: skip


def test_drop_connect_drops_weights_in_training_only():
    linear = nn.Linear(200, 100)
    layer, x = lab.DropConnect(linear, 0.25), torch.ones(4, 200)
    assert torch.equal(layer.eval()(x), linear(x)) and not torch.equal(layer.train()(x), linear(x))
    assert 1 - layer.mask().float().mean().item() == pytest.approx(0.25, abs=0.02)
    mean = torch.stack([layer(x) for _ in range(200)]).mean(0)
    assert (mean - linear(x)).abs().mean() < 0.1  # the rest is scaled up to make up for it
    with pytest.raises(ValueError, match="p=1.0 is not allowed: p must be a finite number, at least 0, below 1"):
        lab.drop_connected(1.0)


def test_what_a_change_gives_is_trained(glyphs):
    recipe, seeds = SMALL.but(epochs=2, seed=3), []

    def change(model, seed):
        seeds.append(seed)
        return lab.deeper(model, seed)

    model, curve = lab.train_changed(recipe, glyphs, change, "verdict of a test")
    other, same = training.train_one(recipe, glyphs, test="verdict of a test")
    assert seeds == [3] and len(list(model.parameters())) == len(list(other.parameters())) + 2
    assert len(curve) == len(same) == 2 and curve[-1]["train_loss"] != same[-1]["train_loss"]
    start = lab.deeper(training.fresh_model(recipe, glyphs), 3)
    assert all((a != b).any() for a, b in zip(model.parameters(), start.parameters(), strict=True))


def test_changes_of_the_network(glyphs):
    fresh = training.fresh_model(SMALL, glyphs)
    count = sum(p.numel() for p in fresh.parameters())
    more = lab.deeper(training.fresh_model(SMALL, glyphs), 0)
    assert sum(p.numel() for p in more.parameters()) == count + 16 * 16 * 9 + 16
    assert more(glyphs.x_val).shape == (40, 10)
    dropped = lab.drop_connected(0.3)(training.fresh_model(SMALL, glyphs), 0)
    assert sum(isinstance(m, lab.DropConnect) for m in dropped) == 2
    torch.testing.assert_close(dropped.eval()(glyphs.x_val), fresh.eval()(glyphs.x_val))


def made(name: str, accuracies) -> lab.Trained:
    table = pd.DataFrame({"seed": range(len(accuracies)), "test_accuracy": accuracies})
    return lab.Trained(name, SMALL, [], h.Runs(table, pd.DataFrame()))


def test_gap_changes_and_differences_by_hand():
    a, b = made("a", [0.80, 0.81, 0.82]), made("b", [0.70, 0.70, 0.73])
    assert lab.gap("a over b", a, b, margin=0.05).holds is True
    assert lab.gap("b over a", b, a, margin=0.05).holds is False
    assert lab.gap("a over a", a, made("c", [0.81, 0.80, 0.82]), margin=0.05).holds is False
    assert lab.changes("any", b, a, margin=0.05).holds is True
    assert lab.changes("any", a, made("c", [0.81, 0.80, 0.82]), margin=0.05).holds is False
    assert lab.changes("any", a, made("c", [0.6, 0.99, 0.8]), margin=0.05).holds is None
    row = lab.differences(b, [a]).iloc[0]
    assert row["mean"] == pytest.approx(0.10) and row["low"] < 0.10 < row["high"] and row["n"] == 3
    shorter = made("d", [0.80, 0.90])  # two seeds are paired with the first two
    assert lab.differences(a, [shorter]).iloc[0]["n"] == 2


def test_reaches_and_its_opposite():
    good = lab.reaches("accuracy", [0.90, 0.91, 0.92], 0.8)
    assert good.holds is True and "91.0 %" in good.sentence and lab.opposite(good).holds is False
    assert lab.reaches("accuracy", [0.70, 0.71, 0.72], 0.8).holds is False
    assert lab.opposite(lab.reaches("accuracy", [0.6, 0.99], 0.8)).holds is None


def test_moved_turns_and_shifts():
    x = torch.zeros(1, 1, 28, 28)
    x[0, 0, 10, 5] = 1.0
    assert torch.equal(lab.moved(x).round(decimals=4), x)
    right = lab.moved(x, shift=3)
    assert right[0, 0].argmax().item() == 10 * 28 + 8
    about = lab.moved(x, angle=90)[0, 0].argmax().item()
    assert about in (22 * 28 + 10, 5 * 28 + 17)  # a quarter turn, one way or the other
    # first turned, then moved: along the row, not along the turned axis
    both, turned = (lab.moved(x, angle=90, shift=s)[0, 0].argmax().item() for s in (3, 0))
    assert both == turned + 3


def test_moved_accuracy_and_windows_have_a_row_for_each_cell(glyphs):
    group = lab.trained("small", SMALL, glyphs, seeds=2)
    table = lab.moved_accuracy([group], glyphs, shifts=[0, 3], angles=[0], n=30)
    assert len(table) == 4 and table["accuracy"].between(0, 1).all()
    x, y = glyphs.open_test("verdict of a test")
    at_home = table[(table["shift"] == 0) & (table["seed"] == 1)]["accuracy"].item()
    assert at_home == pytest.approx(lab.accuracy(group.models[1], x[:30], y[:30]))
    windows = lab.window_accuracy(group, glyphs, offsets=[0, 14], n=60)
    middle = lab.accuracy(group.models[0], x[1:60:3], y[1:60:3])
    assert windows[(windows["offset"] == 0) & (windows["seed"] == 0)]["accuracy"].item() == pytest.approx(middle)
    with pytest.raises(ValueError, match="offset=15 is not allowed"):
        lab.window_accuracy(group, glyphs, offsets=[15])


def test_stopped_replays_the_rule():
    losses = {"a": [3.0, 2.0, 2.5, 2.4, 2.6, 1.0], "b": [3.0, 2.0, 1.0, 0.9, 0.8, 0.7]}
    rows = [{"run": r, "epoch": i, "val_loss": v, "val_accuracy": 0.5} for r, vs in losses.items()
            for i, v in enumerate(vs, 1)]  # fmt: skip
    table = lab.stopped(h.Runs(pd.DataFrame(), pd.DataFrame(rows)), patience=3).set_index("run")
    assert table.loc["a"].tolist() == [2, 5, 2.0, 1.0] and table.loc["b"].tolist() == [6, 6, 0.7, 0.7]


def test_curves_and_feature_maps(glyphs):
    a, b = (lab.trained(n, SMALL.but(pool=p), glyphs, seeds=2) for n, p in (("a", "average"), ("b", "max")))
    table = lab.curves(a, {"pooling": b})
    assert len(table) == 4 and set(table["setting"]) == {"as it is", "changed"}
    maps = lab.feature_maps(a.models[0], glyphs.x_val[0])
    assert {k: tuple(v.shape) for k, v in maps.items()} == {
        "C1": (6, 28, 28), "S2": (6, 14, 14), "C3": (16, 10, 10), "S4": (16, 5, 5),
    }  # fmt: skip
    assert maps["C1"].min() >= 0


def test_a_record_is_made_and_goes_on(tmp_path, glyphs):
    runs = lab.mnist_record(tmp_path / "r.zip", glyphs, seeds=1)
    again = lab.mnist_record(tmp_path / "r.zip", glyphs, seeds=1)
    assert runs.table["model"].tolist() == ["lenet5", "lenet5_1998"] and len(glyphs.test_readings) >= 2
    assert again.table["seconds"].tolist() == runs.table["seconds"].tolist()  # read, not trained again
    table = lab.record_table(tmp_path / "r.zip")
    assert table["n"].tolist() == [1, 1]
    told = lab.told_record(table)
    assert f": {table['mean'][0]:.2f} % in the modern form (n = 1," in told
    assert f"and {table['mean'][1]:.2f} % in the form of 1998 (n = 1," in told
    assert table["mean"].tolist() == pytest.approx(100 * (1 - runs.table["test_accuracy"]))


def test_as_drawn_is_the_scale_of_the_reader(reader):
    x, y = lab.as_drawn(reader[1], reader[1])
    torch.testing.assert_close(x, reader[1].x_val, atol=1e-3, rtol=0)
    assert torch.equal(y, reader[1].y_val)


def test_the_record_is_shown_with_its_n_and_device(tmp_path):
    assert lab.record_table(tmp_path / "none.zip") is None
    table = lab.record_table(ROOT / "chapters" / "records" / "lenet_mnist.zip").set_index("form")
    assert (table["n"] >= 8).all() and (table["device"] == "cpu").all()
    assert (table["mean"].between(0.3, 3) & (table["lowest"] <= table["mean"])).all()


def test_upscaled_keeps_the_place_and_the_range():
    image = np.zeros((1, 8, 8))
    image[0, 2, 5] = 16
    big = lab.upscaled(image)
    assert big.shape == (1, 28, 28) and big.dtype == np.uint8
    row, col = divmod(big[0].argmax(), 28)
    assert abs(row - (4 + 2.5 * 2.5)) <= 1 and abs(col - (4 + 5.5 * 2.5)) <= 1
    assert lab.upscaled(np.full((1, 8, 8), 16))[0, 4:24, 4:24].min() == 255


def test_bytes_stand_for_the_weights(reader):
    model, data = reader
    told, small = lab.quantised(model)
    assert [layer["shape"] for layer in told] == [[6, 1, 5, 5], [16, 6, 5, 5], [120, 400], [84, 120], [10, 84]]
    for layer, before, after in zip(told, models.weight_layers(model), models.weight_layers(small), strict=True):
        q = np.frombuffer(base64.b64decode(layer["weight"]), dtype=np.int8).reshape(len(layer["bias"]), -1)
        np.testing.assert_allclose(q * np.array(layer["scale"])[:, None], after.weight.detach().flatten(1), atol=1e-6)
        step = before.weight.abs().flatten(1).amax(1) / 127
        assert ((before.weight - after.weight).abs().flatten(1).amax(1) <= 0.51 * step).all()
    raw, _ = lab.handwriting()[1]
    mean, sd = lab.scale_of(data, raw)
    torch.testing.assert_close(torch.as_tensor((raw[:, None] - mean) / sd).float(), data.x_val, atol=1e-4, rtol=0)


def test_the_canvas_refuses_another_network(reader):
    with pytest.raises(ValueError, match="model is not a modern LeNet-5 with ReLU"):
        lab.canvas(models.build("lenet5_1998", (1, 28, 28), 10), reader[1])


@pytest.fixture
def drawn(reader, guarded, tmp_path):
    """(page, requests to elsewhere, spec) with the canvas opened from a file."""
    field = lab.canvas(*reader)
    path = tmp_path / "page.html"
    path.write_text(f"<!doctype html><meta charset=utf-8><body>{field.page()}", encoding="utf-8")
    page, outside = guarded()
    page.goto(path.as_uri())
    return page, outside, field.spec


def test_the_page_computes_what_torch_computes(drawn, reader):
    page, outside, spec = drawn
    model = lab.quantised(reader[0])[1].eval()
    element = page.query_selector("[data-spec]")
    for text in spec["examples"]:
        pixels = np.frombuffer(base64.b64decode(text), dtype=np.uint8)
        x = (torch.tensor(pixels.reshape(1, 1, 28, 28).astype(np.float32)) - spec["mean"]) / spec["sd"]
        logits = element.evaluate("(e, p) => e.read(p).logits", pixels.tolist())
        assert logits == pytest.approx(model(x)[0].tolist(), abs=1e-2)
        maps = element.evaluate("(e, p) => Array.from(e.read(p).maps.S4[0])", pixels.tolist())
        assert maps == pytest.approx(lab.feature_maps(model, x[0])["S4"].flatten().tolist(), abs=1e-2)
    assert outside == []


def test_the_field_takes_mouse_keyboard_and_examples(drawn):
    page, _, _ = drawn
    said = page.locator("[role=status]")
    page.get_by_role("button", name="Clear").click()
    assert said.text_content() == "Draw a digit."
    pad = page.locator("canvas[role=application]")
    pad.focus()
    for key in ["ArrowUp"] * 5 + [" "] + ["ArrowDown"] * 10 + [" "]:
        page.keyboard.press(key)
    assert said.text_content().startswith("It reads")
    pixels = np.array(page.query_selector("[data-spec]").evaluate("e => Array.from(e.pixels)")).reshape(28, 28)
    rows, cols = np.nonzero(pixels > 60)
    assert rows.max() - rows.min() + 1 in (19, 20, 21)  # scaled to 20 pixels, as MNIST is
    mass = (pixels.sum(0) * (np.arange(28) + 0.5)).sum() / pixels.sum()
    assert mass == pytest.approx(14, abs=0.5)  # and its centre of mass in the middle
    page.keyboard.press("Delete")
    assert said.text_content() == "Draw a digit."
    box = pad.bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 200, steps=5)
    page.mouse.up()
    assert said.text_content().startswith("It reads")
    page.get_by_role("button", name="Draw an example of 3").click()
    assert page.locator("li.dr-best").count() == 1
    page.get_by_label("Show what layer").select_option("C3")
    assert page.locator("canvas.dr-maps").get_attribute("aria-label").startswith("C3: 16 maps of 10 by 10")


def test_what_dropout_and_dropconnect_set_to_zero_is_no_matter_of_luck(monkeypatch):
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda layer: [nn.init.zeros_(p) for p in layer.parameters()])
    (units, weights), (other_units, other_weights) = lab._zeros(0.3)
    assert weights == other_units == 0 and units == pytest.approx(0.3, abs=0.05) == other_weights
