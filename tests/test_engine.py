"""Which runs are stacked or go to other processes, how a sweep resumes, and that none of it changes a number."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import pandas as pd
import pytest
import torch

from helpers import data, engine, stacks, training
from helpers.recipe import STACKED_TOGETHER, Recipe
from helpers.runs import Runs, run_id

BASE = Recipe(depth=2, width=16, lr=0.05, epochs=3, batch_size=32, n_train=160)
SCORES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def glyphs():
    return data.load("glyphs", n_train=200, n_val=100, n_test=100)


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
        assert len(chunk) <= stacks.STACK
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
    monkeypatch.setattr(stacks, "STACK", 2)
    recipes, file = BASE.but(epochs=2).vary(seed=range(6)), tmp_path / "runs.zip"
    calls = []

    def stop_early(event):
        calls.append(event["done"])
        return event["done"] < 6

    part = engine.train(recipes, digits, save=file, watch=stop_early)
    assert 0 < len(part) < 6 and len(Runs.load(file)) == len(part)
    assert calls == sorted(calls) and calls[0] == 2  # one epoch of a stack of two
    trained = []
    original = stacks.train_stack
    monkeypatch.setattr(stacks, "train_stack", lambda r, *a, **k: trained.extend(r) or original(r, *a, **k))
    whole = engine.train(recipes, digits, save=file)
    assert len(whole) == 6 and len(trained) == 6 - len(part)
    fresh = engine.train(recipes, digits)
    pd.testing.assert_frame_equal(
        whole.table[["run", "seed", *SCORES]], fresh.table[["run", "seed", *SCORES]], check_exact=False
    )


def test_killed_sweep_leaves_whole_files(tmp_path):
    script = (
        "import sys; from helpers import data, engine, stacks; from helpers.recipe import Recipe\n"
        "stacks.STACK = 1\n"
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
        (lambda d: engine.train(BASE, d, seeds=0), ValueError, "seeds=0 is not allowed: .* at least 1, .*try seeds=8"),
        (lambda d: engine.train(BASE, d, jobs=0), ValueError, "jobs=0 is not allowed"),
        (lambda d: engine.train(BASE, d, device="gpu"), ValueError, "device='gpu' is not known; .*'cuda'"),
        (lambda d: engine.train(BASE.but(n_train=5000), d), ValueError, "n=5000 is not allowed"),
    ],
)
def test_bad_input(digits, call, kind, sentence):
    with pytest.raises(kind, match=sentence):
        call(digits)
