"""The Train panel without a browser: what it trains, shows, refuses, and survives."""

from __future__ import annotations

import html
import threading
import time

import numpy as np
import pytest
import torch

from helpers import live
from helpers.data import load
from helpers.engine import train
from helpers.live import nearest_recorded, train_panel
from helpers.owndata import from_arrays
from helpers.recipe import Recipe

BASE = Recipe(epochs=4, width=16)
FIELDS = {"lr": [0.01, 0.1, 1.0], "init": ["he", "zero"]}


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(scope="module")
def recorded(digits):
    return train(BASE.vary(lr=[0.01, 0.1], init=["he", "zero"]), digits, seeds=2)


@pytest.fixture
def panel(digits, recorded):
    made = train_panel(BASE, digits, fields=FIELDS, recorded=recorded, seeds=2)
    yield made
    made.stop()
    made.wait(30)


def choose(panel, **setting) -> None:
    for name, value in setting.items():
        panel.controls[name].index = panel.fields[name].index(value)


def enabled(panel) -> list[str]:
    return [name for name, button in panel.buttons.items() if not button.disabled]


def wait_for(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this did not happen in time"
        time.sleep(0.01)


def test_it_trains_what_the_engine_trains(panel, digits):
    choose(panel, lr=1.0, init="zero")
    panel.train()
    runs = panel.wait(60)
    expected = train(BASE.but(lr=1.0, init="zero"), digits, seeds=2)
    assert runs.table["run"].tolist() == expected.table["run"].tolist()
    assert runs.curves["val_accuracy"].tolist() == pytest.approx(expected.curves["val_accuracy"].tolist(), abs=0.01)
    assert panel.error is None and not panel.running


def test_the_result_is_said_in_plain_words(panel):
    choose(panel, init="zero")
    panel.train()
    score = panel.wait(60).summary().iloc[0]
    said = html.unescape(panel.result.value)
    assert said.startswith('<p role="status">learning rate 0.1, init zero: validation accuracy ')
    expected = f"{100 * score['mean']:.3g} % ± {100 * score['sd']:.2g} (mean ± sd, n = 2), after 4 epochs; 0 of 2 runs"
    assert expected in said
    assert panel.bar.value == panel.bar.max == 8
    assert panel.count.value.startswith("8 of 8 epochs (2 runs), ")


def test_diverged_runs_are_counted(digits):
    panel = train_panel(BASE, digits, fields={"lr": [1e30]}, y="val_loss", seeds=2)
    panel.train()
    panel.wait(60)
    assert panel.error is None and panel.runs.table["diverged"].all()
    assert "no finite validation loss, after 4 epochs; 2 of 2 runs diverged; " in panel.result.value


def test_the_controls_start_at_the_base_recipe(panel):
    assert panel.controls["lr"].value == "0.1" and panel.controls["init"].value == "he"
    assert panel.controls["lr"].description == "learning rate"
    assert type(panel.controls["lr"]).__name__ == "SelectionSlider"
    assert type(panel.controls["init"]).__name__ == "Dropdown"


def test_a_none_has_a_name(digits):
    panel = train_panel(BASE, digits, fields={"clip_norm": [None, 1.0], "batch_size": [64, None]})
    assert panel.controls["clip_norm"].options == ("off", "1")
    assert panel.controls["batch_size"].options == ("64", "all")
    assert panel._recipe() == BASE


def test_buttons_follow_the_training(panel):
    assert enabled(panel) == ["Train", "Clear"]
    panel.seeds.value = 64
    panel.train()
    assert enabled(panel) == ["Stop"]
    panel.stop()
    panel.wait(60)
    assert enabled(panel) == ["Train", "Clear"]


def test_a_second_press_while_training_does_nothing(panel, monkeypatch):
    gate, calls = threading.Event(), []

    def slow(*args, **options):
        calls.append(args[0])
        gate.wait(30)
        return train(*args, **options)

    monkeypatch.setattr(live.engine, "train", slow)
    panel.train()
    panel.buttons["Train"].click()
    panel.train()
    panel.clear()  # has no effect either
    gate.set()
    panel.wait(60)
    assert len(calls) == 1 and len(panel.history) == 1


def test_stop_ends_after_the_present_epoch(digits):
    panel = train_panel(BASE.but(epochs=5000), digits, fields=FIELDS, seeds=2)
    panel.buttons["Train"].click()
    wait_for(lambda: panel.bar.value >= 4)
    assert "s left" in panel.count.value
    pressed = time.monotonic()
    panel.buttons["Stop"].click()
    panel.wait(30)
    assert time.monotonic() - pressed < 5  # 0.3 s on a quiet machine
    assert "stopped after " in panel.result.value and " of 10000 epochs" in panel.result.value
    assert panel.runs is None and panel.error is None
    assert 2 <= len(panel.history[0].runs.curves) < 10000
    assert "init he" in panel.chart.value  # what it has so far stays


def test_stop_reaches_models_that_train_one_after_another():
    rng = np.random.default_rng(0)
    images = from_arrays(rng.random((80, 12, 12), dtype=np.float32), np.arange(80) % 4)
    recipe = Recipe(model="cnn", depth=8, width=4, epochs=1, batch_size=16)
    panel = train_panel(recipe, images, fields={"lr": [0.1]}, seeds=3)
    panel.chart.observe(lambda _: panel.stop(), "value")
    panel.train()
    panel.wait(60)
    assert "stopped after 1 of 3 epochs" in panel.result.value
    panel.chart.unobserve_all()
    panel.train()
    panel.wait(60)
    assert panel.runs.table["seed"].tolist() == [0, 1, 2]
    assert panel.history[0].runs.table["val_loss"].tolist() == pytest.approx(panel.runs.table["val_loss"].tolist())


def test_the_chart_grows_while_it_trains(digits):
    panel, seen = train_panel(BASE.but(epochs=3000), digits, fields=FIELDS, seeds=2), []
    panel.chart.observe(lambda change: seen.append((time.monotonic(), change["new"])), "value")
    started = time.monotonic()
    panel.train()
    wait_for(lambda: len(seen) > 3)
    panel.stop()
    panel.wait(30)
    assert seen[0][0] - started < 5  # 0.5 s on a quiet machine
    assert len({drawing for _, drawing in seen}) > 3
    gaps = [b[0] - a[0] for a, b in zip(seen[:3], seen[1:], strict=False)]
    assert min(gaps) > 0.2, "drawn more often than four times a second"


def test_trainings_stay_with_a_colour_each_and_the_oldest_leaves(panel):
    panel.seeds.value = 1
    for lr, init in ((0.01, "he"), (0.1, "he"), (1.0, "he"), (0.01, "zero"), (0.1, "zero")):
        choose(panel, lr=lr, init=init)
        panel.train()
        panel.wait(60)
    assert [t.name for t in panel.history] == [
        "learning rate 0.1, init he",
        "learning rate 1, init he",
        "learning rate 0.01, init zero",
        "learning rate 0.1, init zero",
    ]
    assert [t.slot for t in panel.history] == [1, 2, 3, 0]  # the newest takes the free colour, the others keep theirs
    assert all(t.name in panel.chart.value for t in panel.history)
    assert "learning rate 0.01, init he<" not in panel.chart.value
    panel.train()  # the same setting again takes its own place
    panel.wait(60)
    assert len(panel.history) == 4
    panel.buttons["Clear"].click()
    assert panel.history == [] and panel.result.value == "" and "init zero<" not in panel.chart.value


def test_the_recorded_curves_follow_the_controls(panel):
    assert ">recorded<" in panel.chart.value
    choose(panel, lr=1.0)
    assert ">recorded, nearest: learning rate 0.1<" in panel.chart.value


def test_the_chart_has_alternative_text(panel):
    panel.train()
    panel.wait(60)
    assert 'role="img" aria-label="Validation accuracy (%) by epoch, mean over seeds. recorded: ' in panel.chart.value
    assert "; learning rate 0.1, init he: " in panel.chart.value


def test_a_panel_without_records_starts_empty(digits, recorded):
    for none in (None, recorded.select([])):
        panel = train_panel(BASE, digits, fields=FIELDS, recorded=none)
        assert "Nothing is trained yet." in panel.chart.value and "recorded" not in panel.chart.value


@pytest.mark.parametrize(
    ("wanted", "found", "apart"),
    [
        ({"lr": 0.1, "init": "zero"}, {"lr": 0.1, "init": "zero"}, []),
        ({"lr": 0.04, "init": "he"}, {"lr": 0.1, "init": "he"}, ["learning rate 0.1"]),
        ({"lr": 0.02, "init": "zero"}, {"lr": 0.01, "init": "zero"}, ["learning rate 0.01"]),
        ({"lr": 0.1, "clip_norm": 1.0}, {"lr": 0.1, "init": "he"}, ["clip norm off"]),
        ({"lr": 0.1, "epochs": 9}, {"lr": 0.1, "init": "he"}, ["epochs 4"]),
    ],
)
def test_nearest_recorded_setting(recorded, wanted, found, apart):
    near, other = nearest_recorded(recorded, BASE.but(**wanted))
    assert other == apart
    assert {name: near.table[name].unique().tolist() for name in found} == {k: [v] for k, v in found.items()}
    assert near.table["seed"].tolist() == [0, 1]


def test_nearest_recorded_setting_survives_a_file(recorded, tmp_path):
    recorded.save(tmp_path / "runs.zip")
    loaded = type(recorded).load(tmp_path / "runs.zip")
    near, other = nearest_recorded(loaded, BASE.but(lr=0.01))
    assert other == [] and len(near) == 2


def test_an_error_is_shown_kept_and_survived(panel, monkeypatch):
    def fail(*args, **options):
        raise RuntimeError("no memory <left>\nwith a long\ntail")

    monkeypatch.setattr(live.engine, "train", fail)
    panel.train()
    panel.wait(30)
    assert isinstance(panel.error, RuntimeError)
    assert panel.result.value == (
        '<p role="alert"><b>The training ended with an error.</b> RuntimeError: no memory &lt;left&gt;</p>'
    )
    assert enabled(panel) == ["Train", "Clear"] and panel.history == []
    monkeypatch.undo()
    panel.train()
    panel.wait(60)
    assert panel.error is None and 'role="status"' in panel.result.value


def test_a_model_that_does_not_fit_the_data_is_one_sentence(digits):
    panel = train_panel(BASE.but(model="lenet5"), digits, fields={"lr": [0.1]})
    panel.train()
    panel.wait(30)
    assert isinstance(panel.error, ValueError)
    assert 'role="alert"' in panel.result.value and html.escape(str(panel.error)) in panel.result.value


def test_the_number_of_threads_is_given_back(panel):
    before = torch.get_num_threads()
    panel.train()
    panel.wait(60)
    seen = []
    other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert torch.get_num_threads() == before and seen == [before]


def test_the_page_without_a_kernel_gets_a_plain_box(panel, digits):
    bundle = panel._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    box = bundle["text/html"]
    assert box.startswith('<div class="tt-train"') and "<script" not in box and "<svg" not in box
    assert "In Jupyter or Colab, a panel here trains new models" in box and "open this chapter" in box
    assert "<li>learning rate: 0.01, 0.1, 1</li><li>init: he, zero</li>" in box
    again = train_panel(BASE, digits, fields=FIELDS, seeds=2)
    assert again._repr_mimebundle_() == bundle, "the page differs from one execution to the next"


def test_a_live_kernel_gets_the_widget_and_the_box(panel, monkeypatch):
    monkeypatch.setattr(live, "get_ipython", lambda: type("Shell", (), {"kernel": object()})())
    bundle = panel._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == panel.view.model_id
    assert 'class="tt-train"' in bundle["text/html"] and bundle["text/plain"] == "<TrainPanel: Train>"


def test_text_is_escaped(digits):
    panel = train_panel(BASE, digits, fields=FIELDS, title="<b>&")
    assert "&lt;b&gt;&amp;" in panel._repr_mimebundle_()["text/html"]
    assert "&lt;b&gt;&amp;" in panel.view.children[0].value


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"base": {"lr": 0.1}}, TypeError, "base must be Recipe, got dict; Recipe(...) makes it."),
        ({"data": [1]}, TypeError, "data must be Dataset, got list; load(...) makes it."),
        ({"recorded": "runs.zip"}, TypeError, "recorded must be Runs, got str; train(...) makes it."),
        (
            {"y": "accuracy"},
            ValueError,
            "y='accuracy' is not known; choose one of 'val_accuracy', 'val_loss', 'train_accuracy', 'train_loss'. "
            "Did you mean 'val_accuracy'?",
        ),
        (
            {"seeds": 0},
            ValueError,
            "seeds=0 is not allowed: seeds must be a whole number, at least 1, at most 64; try seeds=8.",
        ),
        ({"fields": {}}, ValueError, "fields={} is not allowed: give fields but seed, such as {'lr': [0.1, 1.0]}."),
        (
            {"fields": {"seed": [1]}},
            ValueError,
            "fields={'seed': [1]} is not allowed: give fields but seed, such as {'lr': [0.1, 1.0]}.",
        ),
        ({"fields": {"lr": []}}, ValueError, "lr=[] is empty: give at least one value to vary, such as [lr]."),
        (
            {"fields": {"lr": [0.1, -1]}},
            ValueError,
            "lr=-1 is not allowed: lr must be a finite number, above 0; try lr=0.1.",
        ),
    ],
)
def test_bad_input_gets_one_sentence(digits, change, error, sentence):
    good = {"base": BASE, "data": digits, "fields": FIELDS} | change
    with pytest.raises(error) as caught:
        train_panel(good.pop("base"), good.pop("data"), **good)
    assert str(caught.value) == sentence


def test_an_unknown_field_is_named(digits):
    with pytest.raises(TypeError, match=r"^'learning_rate' is not a field of Recipe; choose from model, depth, "):
        train_panel(BASE, digits, fields={"learning_rate": [0.1]})


def test_settings_that_do_not_go_together_are_refused_at_once(digits):
    with pytest.raises(ValueError, match=r"^beta1=0.5 would do nothing: optimizer='sgd' does not read it; "):
        train_panel(BASE, digits, fields={"optimizer": ["adam", "sgd"], "beta1": [0.5, 0.9]})
