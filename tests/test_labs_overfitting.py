"""The measurements of the chapter on over-fitting, against values worked out by hand and other libraries."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn

import helpers as h
from helpers import stacks, training
from helpers.labs import overfitting as lab


@pytest.fixture(scope="module")
def digits():
    return h.load("digits")


@pytest.fixture(scope="module")
def small(digits):
    return lab.more_test_rows(digits, 900)


TINY = h.Recipe(depth=1, width=8, batch_size=25, epochs=3, optimizer="adam", lr=0.01)


def test_more_test_rows_takes_training_rows_and_leaves_the_test_set_unread(digits, small):
    before = len(digits.test_readings)
    x, y = small.open_test("verdict in a test")
    assert (small.n_train, len(y), len(digits.test_readings)) == (100, 900, before)
    assert torch.bincount(small.y_train).min() >= 8  # stratified
    assert small.x_train.mean().abs() < 1e-5 and small.x_train.std().item() == pytest.approx(1, abs=1e-3)
    rows = torch.cat([small.x_train, x]).flatten(1)
    centred, source = (v - v.mean(1, keepdim=True) for v in (rows, digits.x_train.flatten(1)))
    scale = (source.std() / centred.std()).item()  # the same images on another scale
    assert torch.allclose((centred * scale).norm(dim=1).sort()[0], source.norm(dim=1).sort()[0], rtol=1e-3)


def test_half_size_is_the_mean_of_four_pixels(digits):
    half = lab.half_size(digits)
    assert half.image_shape == (1, 4, 4) and half.x_train.shape == (1000, 1, 4, 4)
    square = digits.x_train[:, 0, :2, :2].mean((1, 2))
    assert np.corrcoef(square, half.x_train[:, 0, 0, 0])[0, 1] == pytest.approx(1, abs=1e-5)


def test_follow_equals_the_loop_without_augmentation(small):
    recipes = TINY.vary(seed=[0, 3], label_noise=0.2)
    models, table = lab.follow(recipes, small)
    for i, recipe in enumerate(recipes):
        model, curve = training.train_one(recipe, small)
        for a, b in zip(models[i].parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
        ours, loop = table[table["run"] == i], pd.DataFrame(curve)
        for column in ("train_accuracy", "val_accuracy", "val_loss"):
            np.testing.assert_allclose(ours[column], loop[column], atol=2e-3)
    assert "test_accuracy" not in table


def test_follow_goes_over_the_bounds_of_a_stack(small):
    n = stacks.STACK + 2
    models, table = lab.follow([TINY.but(seed=s, epochs=1) for s in range(n)], small)
    assert len(models) == n and table["run"].tolist() == list(range(n)) == table["seed"].tolist()


def test_each_run_trains_on_its_own_augmentation_with_the_labels_kept(small, monkeypatch):
    seen = []
    monkeypatch.setattr(
        lab.augment, "augment", lambda name, x, **how: (seen.append((name, len(x), how["strength"])), x)[1]
    )
    recipes = [TINY.but(augment=a, epochs=1, seed=s) for a in ("none", "flip") for s in (0, 1)]
    plain, _ = lab.follow([r.but(augment="none") for r in recipes], small)
    seen.clear()
    same, _ = lab.follow(recipes, small, chains=[()] * 2 + [(("rotate", 2.0), ("noise", 0.5))] * 2)
    assert seen == [("rotate", 200, 2.0), ("noise", 200, 0.5)]  # two runs of 100 images, in one call each
    for a, b in zip(plain, same, strict=True):  # nothing was changed, so order and labels must be in place
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            torch.testing.assert_close(p, q)


def test_chain_applies_in_order_with_own_draws(small):
    x = small.x_train[:5]
    both = lab.chain(x, [("flip", 2.0), ("flip_vertical", 2.0)], seed=0)
    torch.testing.assert_close(both, x.flip(2, 3))
    once, twice = (lab.chain(x, [("noise", 1.0)] * k, seed=0) for k in (1, 2))
    both = torch.stack([(once - x).flatten(), (twice - once).flatten()])
    assert abs(torch.corrcoef(both)[0, 1].item()) < 0.25  # one draw used twice would make it 1
    assert lab.chain(x, []) is x


def curve(losses, accuracies=None, run=0):
    told = accuracies or [1 - v / 10 for v in losses]
    rows = [
        {"run": run, "seed": run, "epoch": e, "val_loss": v, "val_accuracy": a, "test_accuracy": a - 0.01 * e}
        for e, (v, a) in enumerate(zip(losses, told, strict=True), 1)
    ]
    return pd.DataFrame(rows)


def test_replay_by_hand():
    table = lab.replay(curve([5.0, 3.0, 4.0, 2.0, 2.5, 2.6]), [1, 2, lab.NEVER]).set_index(["patience", "keep"])
    assert table.loc[(1, "best"), ["stopped", "epoch"]].tolist() == [3, 2]
    assert table.loc[(1, "last"), ["stopped", "epoch"]].tolist() == [3, 3]
    assert table.loc[(2, "best"), ["stopped", "epoch"]].tolist() == [6, 4]
    assert table.loc[(lab.NEVER, "last"), "test_accuracy"] == pytest.approx(1 - 0.26 - 0.06)


def test_replay_equals_a_run_that_stops(small):
    recipe = TINY.but(epochs=25, lr=0.05, label_noise=0.5)
    _, whole = lab.follow([recipe], small, test="verdict in a test")
    stopped = h.train(recipe.but(patience=2), small, test="verdict in a test").table.iloc[0]
    rule = lab.replay(whole, [2]).set_index("keep").loc["best"]
    assert (rule["stopped"], rule["epoch"]) == (stopped["epoch"], stopped["best_epoch"])
    assert rule["test_accuracy"] == pytest.approx(stopped["test_accuracy"], abs=2e-3)


def test_checkpoints_keep_the_first_of_equals():
    row = lab.checkpoints(curve([1.0] * 4, [0.5, 0.9, 0.9, 0.7])).loc[0]
    assert row["epoch"] == 2 and row["best"] == pytest.approx(0.88) and row["last"] == pytest.approx(0.66)
    assert row["optimism"] == pytest.approx(0.02)


def test_first_and_peak_epoch():
    frame = pd.concat([curve([1.0] * 5, a, run=k) for k, a in enumerate([[0.1, 0.6, 0.9, 0.8, 0.7], [0.1] * 5])])
    assert lab.first_epoch(frame, ["seed"], 0.6).tolist() == [2, np.inf]
    assert lab.peak_epoch(frame, ["seed"], smooth=1).loc[0] == 3
    assert lab.peak_epoch(frame, ["seed"]).loc[0] == 4  # (0.9 + 0.8 + 0.7) / 3 is the largest mean of three


def test_paired_puts_seeds_in_rows():
    table = pd.DataFrame({"seed": [0, 1, 0, 1], "setting": list("aabb"), "test_accuracy": [0.1, 0.2, 0.3, 0.5]})
    wide = lab.paired(table, "setting")
    assert (wide["b"] - wide["a"]).tolist() == pytest.approx([0.2, 0.3])


def test_time_by_the_steps(small):
    table = lab.epoch_seconds(TINY, small, [2, 4], repeats=2)
    assert table.groupby("epochs")["steps"].first().to_dict() == {2: 8, 4: 16} and len(table) == 4
    rows = pd.DataFrame({"epochs": [1, 2, 4], "seconds": [3.0, 12.0, 48.0]})
    assert lab.power(rows) == pytest.approx(2)


def test_corruption_matrix_gives_all_models_the_same_images(small):
    models, _ = lab.study({"a": TINY, "b": TINY}, small, seeds=1)
    table = lab.corruption_matrix(models, small, ["noise", "shift"], strength=1.0, test="verdict in a test")
    wide = table.pivot(index="tested_on", columns="trained_with", values="test_accuracy")
    assert (wide["a"] == wide["b"]).all() and set(wide.index) == {"none", "noise", "shift"}
    x, y = small.open_test("verdict in a test")
    assert wide.loc["none", "a"] == pytest.approx((models["a"][0](x).argmax(1) == y).float().mean().item())
    shown = lab.beside_none(table.replace({"b": "none"}))
    assert shown["augmentation"].unique().tolist() == ["a"] and set(shown["network"]) == {"with it", "without"}


def test_dimmed_multiplies_the_distance_from_black():
    x = torch.tensor([-1.0, 0.0, 3.0])
    assert lab.dimmed(x, 0.5).tolist() == [-1.0, -0.5, 1.0] and torch.equal(lab.dimmed(x, 1.0), x)


def test_distinct_views(digits):
    assert lab.distinct_views(digits, "none", epochs=3, n=10) == 10
    assert lab.distinct_views(digits, "rotate", epochs=3, n=10) == 30


def test_gallery_starts_with_the_image_itself(digits):
    sheet = lab.gallery(digits, ["flip"], label="2", strength=2.0)
    assert sheet.shape == (2, 8, 8) and torch.allclose(sheet[1], sheet[0].flip(1))


def test_ensemble_is_the_mean_of_probabilities():
    class Fixed(nn.Module):
        def __init__(self, p):
            super().__init__()
            self.p = torch.tensor(p)

        def forward(self, x):
            return self.p.log().expand(len(x), -1)

    members = [Fixed([0.9, 0.1]), Fixed([0.4, 0.6]), Fixed([0.4, 0.6])]  # the vote says 1, the mean 0
    assert lab.ensemble_accuracy(members, torch.zeros(4, 1), torch.tensor([0, 0, 0, 1])) == 0.75


def test_folds_judge_each_model_by_rows_that_it_did_not_see(small):
    recipe = TINY.but(epochs=40, label_noise=1.0)  # labels that say nothing: nobody can guess the held-out ones
    scores = lab.by_folds(recipe, small, "weight_decay", [0.0, 0.1], k=3)
    assert scores.index.tolist() == [0.0, 0.1] and scores.max() < 0.4


def test_six_strategies_is_paired_and_complete(small):
    how = {"augment": "affine", "dropout": 0.5, "l2": 0.01, "l1": 0.001, "l2_grid": [0.0]}
    table, chosen = lab.six_strategies(TINY, small, seeds=2, strength=how, members=2, test="verdict in a test")
    assert chosen == 0.0 and table.groupby("strategy").size().eq(2).all() and table["strategy"].nunique() == 7
    assert (table.loc[table["strategy"] == "cross-validation", "gain"] == 0).all()  # it chose what there was
    rows = table[table["strategy"] != "ensemble"]
    assert rows.groupby("seed")["without"].nunique().eq(1).all()
    np.testing.assert_allclose(table["gain"], table["with_it"] - table["without"])


def test_random_features_equal_ridge_regression(small):
    table = lab.random_features(small, [40], noises=[0.0], ridges=[0.05], seeds=1)
    x, held = (v.flatten(1).double() for v in (small.x_train, small.x_val))
    w = torch.randn(64, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 8
    target = nn.functional.one_hot(small.y_train, 10)
    fit = Ridge(alpha=0.05 * len(x), fit_intercept=False).fit(torch.relu(x @ w), target)
    right = fit.predict(torch.relu(held @ w)).argmax(1) == small.y_val.numpy()
    assert table["val_accuracy"].item() == pytest.approx(right.mean(), abs=1e-6)


def test_random_features_fit_every_label_once_there_are_enough(small):
    table = lab.random_features(small, [20, 200], noises=[0.4], ridges=[0.0], seeds=2)
    train = table.groupby("width")["train_accuracy"].min()
    assert train[200] == 1.0 and train[20] < 0.9


def test_families(digits):
    table = lab.families(digits, n=100, seeds=1).set_index("model")
    assert len(table) == 8 and table.loc["1 nearest neighbour", "train_accuracy"] == 1.0
    np.testing.assert_allclose(table["gap"], table["train_accuracy"] - table["val_accuracy"])


def test_costs_count_what_autograd_keeps(small):
    wide = {"plain": TINY, "wide": TINY.but(width=16), "again": TINY}
    table = lab.costs(wide, small, repeats=2, warm_up=1, balanced=["again"])
    kept = table.groupby("setting")["bytes"].first()
    assert kept["wide"] > kept["plain"] == kept["again"] and len(table) == 6 and (table["seconds"] > 0).all()


def test_evidence():
    assert lab.gains("x", [0.05, 0.06, 0.055]).holds is True
    assert lab.gains("x", [0.001, 0.002, 0.001]).holds is False  # excludes a gain of half a point
    assert lab.gains("x", [-0.05, -0.06, -0.05]).holds is False
    assert lab.gains("x", [-0.05, 0.06, 0.05]).holds is None
    assert lab.no_loss("x", [0.05, 0.06, 0.05], margin=0.01).holds is True
    assert lab.no_loss("x", [-0.001, 0.0, -0.001], margin=0.01).holds is True
    assert lab.no_loss("x", [-0.05, -0.06, -0.05], margin=0.01).holds is False
    assert lab.no_loss("x", [-0.05, 0.06, 0.0], margin=0.01).holds is None
    wide = pd.DataFrame({"none": [0.5, 0.5], "a": [0.6, 0.601]})
    assert lab.gains_over(wide, "none", {"part": "a"}, "Test")["part"].sentence.startswith("Test, a minus none, points")


def test_signs():
    table = pd.DataFrame({"strategy": ["up"] * 3 + ["down"] * 3, "gain": [0.1, 0.11, 0.1, -0.1, -0.11, -0.1]})
    shown = lab.signs({"here": table}, margin=0.01)["here"]
    assert shown["up"] == "+ (+10.3)" and shown["down"] == "− (-10.3)"


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda d: lab.more_test_rows(d, 5), ValueError, "at least 10"),
        (lambda d: lab.half_size(h.load("wine")), ValueError, "even height"),
        (lambda d: lab.follow([], d), ValueError, "at least one recipe"),
        (lambda d: lab.follow([TINY], d, chains=[(), ()]), ValueError, "2 chains for 1 recipes"),
        (lambda d: lab.follow(TINY.vary(width=[8, 16]), d), ValueError, "width=16"),
        (lambda d: lab.follow([TINY.but(patience=3)], d), ValueError, "patience=3"),
        (lambda d: lab.study({"a": TINY}, d, seeds=1, chains={"b": ()}), TypeError, "'b' is not a setting"),
        (lambda d: lab.replay(pd.DataFrame({"run": [1]}), [1]), TypeError, "is not a column"),
        (lambda d: lab.gallery(d, ["flip"], label="x"), ValueError, "label='x'"),
        (lambda d: lab.dimmed(d.x_val, -1), ValueError, "at least 0"),
        (lambda d: lab.six_strategies(TINY, d, seeds=2, strength={"l3": 1}, test="v"), TypeError, "'l3' is not"),
    ],
)
def test_bad_input(call, error, told, digits):
    with pytest.raises(error, match=told):
        call(digits)
