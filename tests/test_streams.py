"""One number moves every seed: weights, orders, augmentation, in whatever process."""

from __future__ import annotations

import pytest
import torch

from helpers import engine, runs, streams, training
from helpers.data import load
from helpers.recipe import Recipe

BASE = Recipe(depth=1, width=8, epochs=2, augment="noise", augment_strength=0.1)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def seen(found):
    return found.table[["train_loss", "val_loss"]].to_numpy()


def test_the_seeds_are_counted_from_the_first(digits, monkeypatch):
    monkeypatch.delenv(streams.VARIABLE, raising=False)
    plain = engine.train(BASE, digits, seeds=range(5, 8), jobs=1)
    assert (streams.first(), streams.seed(3)) == (0, 3)
    monkeypatch.setenv(streams.VARIABLE, "5")
    assert (streams.first(), streams.seed(3)) == (5, 8)
    moved = engine.train(BASE, digits, seeds=3, jobs=1)
    assert (seen(moved) == seen(plain)).all()  # weights, orders and augmentation: all of them
    assert set(moved.table["run"]).isdisjoint(plain.table["run"])  # and no saved run passes for another
    assert runs.run_id(BASE, digits) not in set(plain.table["run"])


def test_every_process_counts_from_the_same_first(digits, monkeypatch):
    monkeypatch.delenv(streams.VARIABLE, raising=False)
    engine.train(BASE, digits, seeds=2, jobs=2)  # the processes stay, with the number they began with
    monkeypatch.setenv(streams.VARIABLE, "5")
    recipes = BASE.vary(width=[8, 9])  # two chunks
    assert (seen(engine.train(recipes, digits, jobs=2)) == seen(engine.train(recipes, digits, jobs=1))).all()


def test_other_weights_and_the_same_data(digits, monkeypatch):
    before = torch.cat([p.flatten() for p in training.fresh_model(BASE, digits).parameters()])
    monkeypatch.setenv(streams.VARIABLE, "1000")
    after = torch.cat([p.flatten() for p in training.fresh_model(BASE, digits).parameters()])
    assert not torch.equal(before, after)


@pytest.mark.parametrize("text", ["-1", "1.5", "many", "1000001"])
def test_another_first_seed_is_refused(text, monkeypatch):
    monkeypatch.setenv(streams.VARIABLE, text)
    with pytest.raises(ValueError, match=f"TRICKS_FIRST_SEED={text!r} is not allowed: give a whole number"):
        streams.first()
