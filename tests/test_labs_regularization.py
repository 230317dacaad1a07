"""The measurements of the regularization chapter, held to closed forms, to scikit-learn and to torch."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import Lasso
from torch import nn

import helpers as h
from helpers.labs import regularization as lab
from helpers.labs.regularization import linear, masks, verdicts

SMALL = h.Recipe(depth=1, width=16, batch_size=50, n_train=200, epochs=2, lr=0.05)


@pytest.fixture(scope="module")
def digits():
    return h.load("digits")


@pytest.fixture(scope="module")
def table():
    return linear.diabetes()


# --- linear regression


def test_diabetes_is_standardised_with_copies_that_resemble(table):
    x, y = linear.diabetes(copies=2)
    assert x.shape == (442, 30) and y.mean() == pytest.approx(0, abs=1e-12) and y.std() == pytest.approx(1)
    assert np.allclose(x.mean(0), 0) and np.allclose(x.std(0), 1)
    r = np.corrcoef(x.T)
    assert all(r[j, j + 10] == pytest.approx(1 / math.sqrt(1.09), abs=0.03) for j in range(10))
    with pytest.raises(ValueError, match="copies=-1 is not allowed: copies must be a whole number, at least 0"):
        linear.diabetes(copies=-1)


def test_paths_by_hand_in_one_column():
    x = np.array([[1.0], [-1.0]] * 4)  # x'x / n = 1, so everything has a formula
    y = 0.5 * x[:, 0]
    at = linear.paths(x, y, [0.2], ["only"]).set_index("penalty")["coefficient"]
    assert at["L1 (lasso)"] == pytest.approx(0.3)
    assert at["L2 (ridge)"] == pytest.approx(0.5 / 1.2)
    assert at["elastic net"] == pytest.approx(0.4 / 1.1)


def test_projections_by_hand_and_as_nearest_points():
    assert linear.project_l1(np.array([3.0, -1.0]), 2.0).tolist() == [2.0, 0.0]
    assert linear.project_l1(np.array([0.5, -0.5]), 2.0).tolist() == [0.5, -0.5]
    assert linear.project_l2(np.array([3.0, 4.0]), 1.0) == pytest.approx([0.6, 0.8])
    w = 3 * np.random.default_rng(0).standard_normal(6)
    for radius in (0.5, 2.0):
        near = linear.project_l1(w, radius)
        assert np.abs(near).sum() == pytest.approx(radius)
        limit = {"type": "ineq", "fun": lambda v, r=radius: r - np.abs(v).sum()}
        found = minimize(lambda v: ((v - w) ** 2).sum(), near * 0.9, constraints=[limit], options={"maxiter": 500}).fun
        assert ((near - w) ** 2).sum() <= found + 1e-6


def test_the_exact_facts_hold(table):
    facts = linear.linear_facts(*table, starts=3)
    equal = ("lasso_kkt", "ridge_kkt", "l1_constraint", "l2_constraint", "starts", "elastic", "elastic_l1", "soft")
    assert max(facts[k] for k in (*equal, "dropout", "momentum")) < 1e-9
    assert facts["soft_zeros"] + facts["distinct"] == 10
    assert [size == pytest.approx(t) for t, size in facts["free"]] == [True, True, False, False]


def test_a_wrong_fit_would_be_seen(table):
    x, y = table
    other = linear.constrained(x, y, 0.5, linear.project_l1)
    assert np.abs(other - Lasso(0.05, fit_intercept=False).fit(x, y).coef_).max() > 0.01
    with pytest.raises(ValueError, match="radius=0 is not allowed: radius must be a finite number, above 0"):
        linear.constrained(x, y, 0, linear.project_l1)


def test_degrees_of_freedom_by_hand():
    x = np.diag([3.0, 1.0])  # d² = 9 and 1, n = 2
    out = linear.degrees_of_freedom(x, [0.0, 0.5, 4.5])
    assert out["df"].tolist() == pytest.approx([2, 9 / 10 + 1 / 2, 9 / 18 + 1 / 10])
    assert out["trace"].tolist() == pytest.approx(out["df"].tolist())


def test_dropout_in_linear_regression_by_hand():
    x, y, w = np.array([[1.0]]), np.array([1.0]), np.array([1.0])
    out = linear.dropout_regression(x, y, w, 0.5)  # prediction 0 or 2, each with chance 1/2: error 1 either way
    assert out == pytest.approx({"all masks": 1.0, "formula": 1.0, "plain": 0.0})
    assert linear.dropout_regression(x, y, w, 0.0)["all masks"] == 0


def test_overlap_by_hand():
    a, b = np.array([1.0, 0, 2, 0]), np.array([3.0, 1, 0, 0])
    assert linear.overlap(a, b) == pytest.approx(1 / 3)
    assert linear.overlap(a, a) == 1 and linear.overlap(np.zeros(4), np.zeros(4)) == 1


def test_look_alikes_have_the_population_s_correlations(table):
    x, y = linear.look_alikes(40_000, copies=1, seed=0)
    assert x.shape == (40_000, 20)
    assert np.abs(np.corrcoef(x[:, :10].T) - np.corrcoef(table[0].T)).max() < 0.03
    w = np.linalg.lstsq(*table, rcond=None)[0]
    assert np.abs(np.linalg.lstsq(x[:, :10], y, rcond=None)[0] - w).max() < 0.1
    assert np.corrcoef(x[:, 0], x[:, 10])[0, 1] == pytest.approx(1 / math.sqrt(1.09), abs=0.01)


def test_elastic_stability_keeps_all_columns_under_ridge():
    out = linear.elastic_stability(repeats=1, copies=1).set_index("penalty")
    assert out.loc["L2 (ridge)", "overlap"] == 1 and out.loc["L2 (ridge)", "columns"] == 20
    assert (out["distance"] < 1).all() and out["r2"].between(0.2, 0.7).all()


# --- networks


def test_trained_equals_the_engine(digits):
    recipes = SMALL.vary(weight_decay=[0.0, 0.1])
    runs, networks = lab.trained(recipes, digits, seeds=2)
    direct = h.train(recipes, digits, seeds=2)
    assert runs.table.sort_values("run")["val_accuracy"].tolist() == pytest.approx(
        direct.table.sort_values("run")["val_accuracy"].tolist()
    )
    looks = lab.portraits(networks, digits)
    both = looks.merge(runs.table[["weight_decay", "seed", "val_accuracy"]], on=["weight_decay", "seed"])
    assert both["accuracy"].tolist() == pytest.approx(both["val_accuracy"].tolist())
    smaller = lab.gap(looks, "size", "weight_decay", 0.1, 0.0)
    assert (smaller < 0).all()
    with pytest.raises(ValueError, match="seeds=0 is not allowed"):
        lab.trained(recipes, digits, seeds=0)


def test_portraits_of_a_network_made_by_hand(digits):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2), nn.ReLU(), nn.Linear(2, 10))
    nn.init.constant_(model[1].weight, 2.0)
    nn.init.zeros_(model[3].weight)
    row = lab.portraits({SMALL: model.eval()}, digits).iloc[0]
    assert row["size"] == 128 * 4 and row["zero"] == pytest.approx(20 / 148) and row["roughness"] == 0
    assert row["norms"] == 0 and row["seed"] == 0


def test_roughness_by_hand():
    assert lab.roughness(torch.ones(2, 3, 3)) == 0
    board = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])[None]
    assert lab.roughness(board) == 4  # every difference is 2, every square 1
    assert lab.roughness(torch.randn(200, 8, 8)) == pytest.approx(2, abs=0.1)
    assert math.isnan(lab.roughness(torch.zeros(1, 2, 2)))


def test_histogram_shares_sum_to_one(digits):
    _, networks = lab.trained([SMALL.but(l1=0.001)], digits, seeds=1)
    out = lab.histogram(networks, {("sgd", "gradient"): "a"}, np.linspace(-0.1, 0.1, 5))
    assert out["share"].sum() == pytest.approx(1) and out["weight"].tolist() == pytest.approx(
        [-0.075, -0.025, 0.025, 0.075]
    )


def test_gap_is_paired_by_seed():
    t = pd.DataFrame({"seed": [1, 0, 0, 1], "arm": list("aabb"), "s": [3.0, 1, 5, 9], "w": 4})
    assert lab.gap(t, "s", "arm", "a", "b", w=4).tolist() == [-4, -6]
    with pytest.raises(TypeError, match="'c' is not a arm; choose from a, b"):
        lab.gap(t, "s", "arm", "a", "c")


def test_at_equal_loss_takes_the_first_epoch_below(digits):
    runs = h.train(SMALL.but(epochs=4).vary(optimizer=["sgd", "adam"]), digits, seeds=1)
    target = runs.frame().query("optimizer == 'sgd'")["train_loss"].iloc[1]
    found = lab.at_equal_loss(runs, "optimizer", target)
    assert found["sgd"].item() == runs.frame().query("optimizer == 'sgd'")["val_accuracy"].iloc[1]


def test_penalties_add_the_same_on_every_batch_and_noise_does_not(digits):
    base = h.Recipe(depth=1, width=8)
    assert lab.extra_gradient(base.but(l1=0.1), digits) < 1e-12
    assert lab.extra_gradient(base.but(weight_decay=0.1), digits) < 1e-12
    assert lab.extra_gradient(base.but(dropout=0.5), digits) > 1e-3
    assert lab.extra_gradient(base.but(norm="batch"), digits) > 1e-3
    assert max(verdicts.penalty_gaps().values()) < 1e-12 and verdicts.decay_gap() < 1e-12


def test_midpoint_bulge_is_negative_for_a_convex_model_and_not_for_a_network(digits):
    flat = SMALL.but(depth=0, l1=0.001, epochs=5)
    _, convex = lab.trained([flat], digits, seeds=2)
    assert lab.midpoint_bulge(list(convex.values()), flat, digits)[0] <= 1e-6
    deep = SMALL.but(depth=2, width=32, epochs=30, lr=0.1)
    _, bent = lab.trained([deep], digits, seeds=2)
    assert lab.midpoint_bulge(list(bent.values()), deep, digits)[0] > 0.1


# --- dropout


def test_masks_are_drawn_when_they_should_be():
    def hidden(way, step, steps=100):
        return way.draw(step, steps, 0, [8, 500], 20)[1]

    plain = hidden(masks.Masks(), 0)
    assert set(plain.unique().tolist()) == {0.0, 2.0} and (masks.Masks().draw(0, 9, 0, [8, 5], 2)[0] == 1).all()
    assert not torch.equal(plain, hidden(masks.Masks(), 1)) and len(plain.unique(dim=0)) == 20
    fifth = masks.Masks(every=5)
    assert (hidden(fifth, 4) == 1).all() and torch.equal(hidden(fifth, 5), hidden(masks.Masks(), 5))
    kept = masks.Masks(hold=5)
    assert torch.equal(hidden(kept, 5), hidden(kept, 9)) and not torch.equal(hidden(kept, 4), hidden(kept, 5))
    assert len(hidden(masks.Masks(rows=False), 0).unique(dim=0)) == 1
    assert (hidden(masks.Masks(anneal=True), 99) == 0).float().mean() < 0.02
    assert set(hidden(masks.Masks(rescale=False), 0).unique().tolist()) == {0.0, 1.0}
    assert (masks.Masks(place="inputs").draw(0, 9, 0, [800, 5], 2)[0] == 0).any()


def test_without_masks_the_loop_equals_the_engine(digits):
    recipe, digits = SMALL.but(schedule="cosine", optimizer="momentum", n_train=None), digits.subset(200)
    made = masks.train_masked({"none": masks.Masks(p=0.0)}, recipe, digits, seeds=2)
    for seed in (0, 1):
        model, _ = h.train_one(recipe.but(seed=seed), digits)
        torch.testing.assert_close(made["none", seed](digits.x_val), model.eval()(digits.x_val), atol=1e-4, rtol=1e-4)


def test_calibration_error_by_hand():
    chance = torch.tensor([[0.95, 0.05], [0.95, 0.05], [0.65, 0.35], [0.35, 0.65]])
    # bin .9-1: right 1 of 2, confidence .95; bin .6-.7: right 1 of 2, confidence .65
    assert masks.calibration_error(chance, torch.tensor([0, 1, 0, 0])) == pytest.approx(0.5 * 0.45 + 0.5 * 0.15)
    assert masks.calibration_error(torch.eye(2), torch.tensor([0, 1])) == 0


def test_habits_and_readings_agree_where_they_must(digits):
    made = masks.train_masked({"every step": masks.Masks()}, SMALL, digits, seeds=1)
    whole = masks.habits(made, digits, delete=0.0, draws=1).iloc[0]
    assert whole["without_hidden"] == whole["without_inputs"] == pytest.approx(whole["accuracy"])
    readings = masks.ways_to_predict(made, digits, masks.Masks(p=0.0), masks=2)
    assert readings["accuracy"].nunique() == 1 and readings["loss"].std() < 1e-6
    half = masks.ways_to_predict(made, digits, masks.Masks(), masks=2).set_index("reading")["loss"]
    assert half["all units"] != half["one mask"]


def test_node_check_sees_two_values_and_fresh_masks(digits):
    out = lab.node_check(digits)
    assert out["values"] == [0.0, 2.0] and out["passes_differ"] and out["different_rows"] == out["rows"]
    assert out["unit_or_weights"] < 1e-5


def test_best_share_and_its_ranks_by_hand():
    rows = [
        {"label_noise": 0.0, "seed": s, "width": w, "dropout": p, "test_accuracy": 1.0 - abs(p - best)}
        for s in (0, 1) for w, best in ((4, 0.0), (16, 0.2), (64, 0.5)) for p in (0.0, 0.2, 0.5)
    ]  # fmt: skip
    runs = h.Runs(pd.DataFrame(rows), pd.DataFrame())
    best = verdicts.best_share(runs)
    assert best.loc[(0.0, 1)].tolist() == [0.0, 0.2, 0.5]
    assert verdicts.size_ranks(best) == pytest.approx([1.0, 1.0])


def test_the_count_of_a_step_does_not_depend_on_the_share():
    counts, times = lab.step_cost(16, [None, 0.1, 0.9], repeats=2, warm_up=1)
    by = counts.set_index(counts["p"].fillna(0))
    assert by.loc[0.1, "numbers"] == by.loc[0.9, "numbers"] > by.loc[0.0, "numbers"]
    assert by.loc[0.1, "calls"] == by.loc[0.9, "calls"] > by.loc[0.0, "calls"]
    assert len(times) == 6 and (times["seconds"] > 0).all()
