"""The engine is never a second definition: every field of Recipe gives the same run stacked and alone.

`SETTINGS` has one entry for each field: recipes in which this field
differs from its value in `BASE`, and must change the run for it. A
field without an entry fails the first test, so a new trick is covered by being listed.
"""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys

import pandas as pd
import pytest
import torch

from helpers import data, engine, training
from helpers.augment import AUGMENTS
from helpers.recipe import FIELDS, STACKED_TOGETHER, Recipe
from helpers.runs import Runs, run_id
from helpers.schedules import SCHEDULES

BASE = Recipe(depth=2, width=16, lr=0.05, epochs=3, batch_size=32, n_train=160)
ADAM = BASE.but(optimizer="adam", lr=0.01)
SETTINGS = {
    "model": [BASE.but(model="lenet5", epochs=1, n_train=64), BASE.but(model="rnn"),
              BASE.but(model="cnn", depth=8, width=4, epochs=1, n_train=64),
              BASE.but(model="lenet5_1998", epochs=1, n_train=64, lr=0.01)],
    "depth": [BASE.but(depth=0), BASE.but(depth=5)],
    "width": [BASE.but(width=24)],
    "activation": [BASE.but(activation=a) for a in ("tanh", "sigmoid", "leaky_relu", "elu", "softsign", "linear")],
    "norm": [BASE.but(norm=n) for n in ("batch", "layer", "group")],
    "norm_place": [BASE.but(norm="batch", norm_place="after")],
    "dropout": [BASE.but(dropout=0.3)],
    "shortcut": [BASE.but(depth=5, shortcut=s) for s in ("identity", "projection", "preactivation")],
    "branch_scale": [BASE.but(depth=5, shortcut="identity", branch_scale=0.0)],
    "pool": [BASE.but(model="lenet5", epochs=1, n_train=64, pool="max")],
    "widen": [BASE.but(model="lenet5", epochs=1, n_train=64, widen=0.5)],
    "init": [BASE.but(init=i) for i in ("xavier", "orthogonal", "pca", "lsuv", "zero", "torch", "lecun_1998")],
    "init_scale": [BASE.but(init_scale=0.5)],
    "output_bias": [BASE.but(output_bias="prior", loss=x, lr=0.01) for x in ("cross_entropy", "binary_cross_entropy")],
    "loss": [BASE.but(loss=x, lr=0.01) for x in ("squared_error", "binary_cross_entropy", "focal", "map_criterion")],
    "label_smoothing": [BASE.but(label_smoothing=0.2)],
    "focal_gamma": [BASE.but(loss="focal", focal_gamma=1.0)],
    "optimizer": [BASE.but(optimizer=o, lr=0.01) for o in ("momentum", "nesterov", "adagrad", "rmsprop", "adam")]
    + [BASE.but(optimizer="adamw", lr=0.01, weight_decay=0.3)],
    "lr": [BASE.but(lr=0.2)],
    "momentum": [BASE.but(optimizer="momentum", momentum=0.5)],
    "beta1": [ADAM.but(beta1=0.5)],
    "beta2": [ADAM.but(beta2=0.9)],
    "weight_decay": [BASE.but(weight_decay=0.1), ADAM.but(weight_decay=0.1)],
    "l1": [BASE.but(l1=0.01), BASE.but(l1=0.01, l1_step="proximal")],
    "l1_step": [BASE.but(l1=0.01, l1_step="proximal")],
    "schedule": [BASE.but(schedule=s) for s in SCHEDULES if s != "constant"],
    "warmup": [BASE.but(warmup=0.5), BASE.but(warmup=0.2, schedule="cosine")],
    "clip_norm": [BASE.but(clip_norm=0.3)],
    "clip_value": [BASE.but(clip_value=0.01)],
    "batch_size": [BASE.but(batch_size=16), BASE.but(batch_size=None)],
    "epochs": [BASE.but(epochs=5)],
    "patience": [ADAM.but(epochs=15, label_noise=0.5, patience=2)],
    "n_train": [BASE.but(n_train=96), BASE.but(n_train=None)],
    "label_noise": [BASE.but(label_noise=0.5)],
    "augment": [BASE.but(augment=a, epochs=1) for a in AUGMENTS if a != "none"],
    "augment_strength": [BASE.but(augment="shift", augment_strength=2.0)],
    "seed": [BASE.but(seed=7)],
}
FIELD_CASES = [pytest.param(name, r, id=f"{name}-{i}") for name, rs in SETTINGS.items() for i, r in enumerate(rs)]
CASES = [pytest.param(r, id=f"{name}-{i}") for name, rs in SETTINGS.items() for i, r in enumerate(rs)]
SCORES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def glyphs():
    return data.load("glyphs", n_train=200, n_val=100, n_test=100)


@pytest.fixture
def data_for(digits, glyphs):
    return lambda recipe: glyphs if recipe.model.startswith("lenet5") else digits


def scores(curve):
    return [[p[k] for k in SCORES] for p in curve]


def farthest(curve, other):
    """Largest difference between two runs' curves, over epochs and scores."""
    assert [p["step"] for p in curve] == [p["step"] for p in other]
    return max(abs(a[k] - b[k]) for a, b in zip(curve, other, strict=True) for k in SCORES)


def test_every_field_has_an_entry():
    assert set(SETTINGS) == set(FIELDS)


@pytest.mark.parametrize("recipe", CASES)
def test_same_stacked_and_alone(recipe, data_for):
    # in float64 both ways agree to rounding; a neighbour with another seed and rate shares the stack
    neighbours = [recipe.but(seed=recipe.seed + 1, lr=recipe.lr * 2), recipe, recipe.but(seed=recipe.seed + 2)]
    stack, curves = engine.train_stack(neighbours, data_for(recipe), dtype=torch.float64)
    model, curve = training.train_one(recipe, data_for(recipe), dtype=torch.float64)
    assert farthest(curves[1], curve) < 1e-9
    inside = stack.unstack(1).state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(inside[name], value, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize(("field", "recipe"), FIELD_CASES)
def test_changes_the_run_and_repeats_by_seed(field, recipe, data_for):
    without = recipe.but(**{field: getattr(BASE, field)})
    assert recipe.differs(without) == (field,)
    one, again, control = (scores(training.train_one(r, data_for(recipe))[1]) for r in (recipe, recipe, without))
    assert one == again
    assert one != control


def test_float32_stays_close(digits):
    recipes = BASE.vary(seed=range(4), lr=[0.03, 0.1])
    _, curves = engine.train_stack(recipes, digits)
    alone = [training.train_one(r, digits)[1] for r in recipes]
    assert max(abs(a[-1]["train_loss"] - b[-1]["train_loss"]) for a, b in zip(curves, alone, strict=True)) < 1e-4


def test_per_model_clipping_in_one_stack(digits):
    recipes = [BASE.but(clip_norm=c, lr=0.3) for c in (None, 0.1, 1.0)]
    _, curves = engine.train_stack(recipes, digits, dtype=torch.float64)
    for recipe, curve in zip(recipes, curves, strict=True):
        assert farthest(curve, training.train_one(recipe, digits, dtype=torch.float64)[1]) < 1e-9


def test_what_models_of_one_stack_may_differ_in(digits):
    noisy = BASE.but(label_noise=0.4, dropout=0.2, epochs=6, optimizer="adam", lr=0.02)
    changes = ({}, {"dropout": 0.5}, {"clip_value": 0.01}, {"patience": 1}, {"augment": "shift"}, {"l1": 0.01},
               {"l1": 0.02, "l1_step": "proximal"}, {"output_bias": "prior"})  # fmt: skip
    recipes = [noisy.but(**change) for change in changes]
    assert len(engine.plan(recipes)) == 1
    _, curves = engine.train_stack(recipes, digits, dtype=torch.float64)
    for recipe, curve in zip(recipes, curves, strict=True):
        assert farthest(curve, training.train_one(recipe, digits, dtype=torch.float64)[1]) < 1e-9
    assert len(curves[3]) < noisy.epochs and "best_epoch" in curves[3][-1]


def test_a_stack_ends_when_all_of_its_models_have_stopped(digits):
    impatient = BASE.but(label_noise=0.5, optimizer="adam", lr=0.03, epochs=40, patience=1)
    stack, curves = engine.train_stack(impatient.vary(seed=range(3)), digits)
    assert max(len(c) for c in curves) < 40
    for i, curve in enumerate(curves):  # what is kept is the best epoch's model
        best = min(curve[:-1], key=lambda p: p["val_loss"])
        model = stack.unstack(i).eval()
        loss = torch.nn.functional.cross_entropy(model(digits.subset(160).x_val), digits.y_val).item()
        assert curve[-1]["best_epoch"] == best["epoch"] and loss == pytest.approx(best["val_loss"], rel=1e-4)
        assert curve[-1]["val_loss"] == best["val_loss"]


def test_a_diverged_run_is_a_row_and_spoils_no_neighbour(digits):
    wild = BASE.but(init="normal", init_scale=1e20)
    runs = engine.train([BASE, wild, BASE.but(seed=1)], digits)
    assert runs.table["diverged"].tolist() == [False, True, False]
    assert runs.table.loc[1, "val_accuracy"] < 0.3
    for i, recipe in ((0, BASE), (2, BASE.but(seed=1))):
        alone = training.train_one(recipe, digits)[1][-1]["val_loss"]
        assert runs.table.loc[i, "val_loss"] == pytest.approx(alone, abs=1e-4)


def test_plan_stacks_what_agrees_and_keeps_cnns_alone_on_a_cpu():
    mixed = BASE.vary(depth=[1, 2], lr=[0.1, 0.2]) + [BASE.but(model="lenet5", seed=s) for s in range(2)]
    assert sorted(len(c) for c in engine.plan(mixed)) == [1, 1, 2, 2]
    assert sorted(len(c) for c in engine.plan(mixed, "cuda")) == [2, 2, 2]
    for chunk in engine.plan(BASE.vary(lr=[0.1, 0.2], seed=range(40))):
        assert len(chunk) <= engine.STACK
        assert all(set(r.differs(chunk[0])).isdisjoint(STACKED_TOGETHER) for r in chunk)


def test_order_of_rows_is_the_order_asked_for(digits):
    recipes = BASE.but(epochs=1).vary(lr=[0.3, 0.1], depth=[2, 1])
    runs = engine.train(recipes, digits, seeds=2)
    asked = [(r.lr, r.depth, s) for r in recipes for s in range(2)]
    assert list(zip(runs.table["lr"], runs.table["depth"], runs.table["seed"], strict=True)) == asked


def test_processes_give_the_same_table(digits):
    recipes = BASE.but(epochs=1).vary(depth=[1, 2], seed=range(2))
    one, two = engine.train(recipes, digits), engine.train(recipes, digits, jobs=2)
    pd.testing.assert_frame_equal(one.table[list(SCORES)], two.table[list(SCORES)], rtol=1e-5)


def test_a_stopped_sweep_resumes_and_repeats_nothing(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "STACK", 2)
    recipes, file = BASE.but(epochs=2).vary(seed=range(6)), tmp_path / "runs.zip"
    calls = []

    def stop_early(event):
        calls.append(event["done"])
        return event["done"] < 6

    part = engine.train(recipes, digits, save=file, watch=stop_early)
    assert 0 < len(part) < 6 and len(Runs.load(file)) == len(part)
    assert calls == sorted(calls) and calls[0] == 2  # one epoch of a stack of two
    trained = []
    original = engine.train_stack
    monkeypatch.setattr(engine, "train_stack", lambda r, *a, **k: trained.extend(r) or original(r, *a, **k))
    whole = engine.train(recipes, digits, save=file)
    assert len(whole) == 6 and len(trained) == 6 - len(part)
    fresh = engine.train(recipes, digits)
    pd.testing.assert_frame_equal(
        whole.table[["run", "seed", *SCORES]], fresh.table[["run", "seed", *SCORES]], check_exact=False
    )


def test_killed_sweep_leaves_whole_files(tmp_path):
    script = (
        "import sys; from helpers import data, engine; from helpers.recipe import Recipe\n"
        "engine.STACK = 1\n"
        "print('go', flush=True)\n"
        f"engine.train(Recipe(epochs=1).vary(seed=range(500)), data.load('digits'), save=r'{tmp_path / 'runs.zip'}')\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    child.stdout.readline()
    try:
        child.wait(timeout=6)
    except subprocess.TimeoutExpired:
        child.kill()
    child.wait()
    kept = Runs.load(tmp_path / "runs.zip")
    assert 0 < len(kept) < 500 and kept.table["run"].is_unique
    assert set(kept.curves["run"]) == set(kept.table["run"])


def test_a_run_belongs_to_its_recipe_and_its_data(digits, glyphs):
    ids = {run_id(r, d) for r in (BASE, BASE.but(lr=0.3), BASE.but(seed=1)) for d in (digits, glyphs)}
    assert len(ids) == 6


def test_the_test_set_is_read_only_for_a_reason(digits):
    sealed = data.load("digits")
    runs = engine.train(BASE, sealed, seeds=2)
    assert "test_accuracy" not in runs.table and sealed.test_readings == []
    runs = engine.train(BASE, sealed, seeds=2, test="verdict")
    assert runs.table["test_accuracy"].between(0, 1).all() and sealed.test_readings == ["verdict"]


def test_cuda_gives_the_same_runs(digits):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU on this machine")
    recipes = BASE.vary(seed=range(3))
    cpu, gpu = (engine.train(recipes, digits, device=d).table for d in ("cpu", "cuda"))
    assert (cpu["val_loss"] - gpu["val_loss"]).abs().max() < 1e-3 and set(gpu["device"]) == {"cuda"}


def test_epochs_and_steps_are_counted(digits):
    _, curve = training.train_one(BASE, digits)
    assert [(p["epoch"], p["step"]) for p in curve] == [(1, 5), (2, 10), (3, 15)]
    assert all(math.isfinite(p["seconds"]) for p in curve)


@pytest.mark.parametrize(
    ("call", "kind", "sentence"),
    [
        (lambda d: engine.train([], d), TypeError, "recipes must be a Recipe or a list of them"),
        (
            lambda d: engine.train([dataclasses.asdict(BASE)], d),
            TypeError,
            "recipes must be a Recipe or a list of them",
        ),
        (lambda d: engine.train(BASE, d.x_train), TypeError, "data must be a Dataset, got Tensor; make one with load"),
        (lambda d: engine.train(BASE, d, seeds=0), ValueError, "seeds=0 is not allowed: .* at least 1; try seeds=8"),
        (lambda d: engine.train(BASE, d, jobs=0), ValueError, "jobs=0 is not allowed"),
        (lambda d: engine.train(BASE, d, device="gpu"), ValueError, "device='gpu' is not known; .*'cuda'"),
        (lambda d: engine.train(BASE.but(n_train=5000), d), ValueError, "n=5000 is not allowed"),
    ],
)
def test_bad_input(digits, call, kind, sentence):
    with pytest.raises(kind, match=sentence):
        call(digits)
