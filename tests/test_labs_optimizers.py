"""The measurements of the chapter on optimizers, against closed forms and library results."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_wine

import helpers as h
from helpers.labs import optimizers as lab
from helpers.labs.optimizers import bowls, verdicts


@pytest.fixture(scope="module")
def digits():
    return h.load("digits", n_train=200)


def test_written_out_updates_equal_torch_and_keep_the_memory_they_say():
    table = lab.gap_to_torch().set_index("optimizer")
    assert table["largest difference"].max() < 1e-12
    kept = table["numbers kept per weight"].to_dict()
    assert kept == {"sgd": 0, "momentum": 1, "nesterov": 1, "adagrad": 1, "rmsprop": 1, "adam": 2, "adamw": 2}


def test_adam_without_momentum_and_correction_is_rmsprop():
    options = {"beta1": 0.0, "beta2": 0.99}
    assert lab.largest_gap("adam", "rmsprop", one=options, memory={"t": 10**6}) < 1e-12
    assert lab.largest_gap("adam", "rmsprop", one=options) > 1e-3  # the correction for the start matters
    assert lab.largest_gap("momentum", "nesterov") > 1e-3


@pytest.mark.parametrize("surface, optimizer, lr", [("ravine", "nesterov", 0.01), ("two basins", "adam", 0.1)])
def test_walks_are_those_of_the_library(surface, optimizer, lr):
    ours = bowls.walks([surface], [optimizer], [0.001, lr], steps=30).query("lr == @lr")
    theirs = h.walk(surface, optimizer, lr=lr, steps=30)
    assert np.allclose(ours[["x", "y", "loss"]], theirs[["x", "y", "loss"]], atol=1e-9)


def test_a_walk_that_leaves_is_cut_and_keeps_its_names():
    table = bowls.walks(["ravine"], ["sgd"], [1.0], steps=30)
    assert table["x"].isna().any() and table["optimizer"].eq("sgd").all() and table["step"].max() == 30


def test_decay_is_a_penalty_for_sgd_and_adam_but_not_for_adamw(digits):
    gaps = lab.decay_gaps(digits, steps=10)
    assert gaps["sgd"] < 1e-12 and gaps["adam"] < 1e-12 and gaps["adamw"] > 1e-3


def test_quadratic_needs_the_steps_that_theory_says():
    means = bowls.quadratic_iterations(kappa=100, starts=4).groupby("optimizer")[["steps", "theory"]].mean()
    ratio = means["steps"] / means["theory"]
    assert ratio.between(0.5, 1.6).all()
    assert means["steps"]["momentum"] < means["steps"]["nesterov"] < means["steps"]["sgd"]


def test_the_heavy_ball_circles_where_the_others_arrive():
    last = bowls.lessard_cycle().groupby("optimizer")["distance"].last()
    assert last["momentum"] > 0.1 and last["nesterov"] < 1e-9 and last["sgd"] < 1e-5


def test_turning_the_ravine_leaves_sgd_and_momentum_as_they_are():
    # both treat all directions alike, so a turn of ravine and starts changes nothing on average
    rates = np.geomspace(0.001, 0.0195, 8).tolist()
    straight, turned = (bowls.ravine(["sgd", "rmsprop"], rates, degrees=d, starts=16) for d in (0, 90))
    a, b = (t.query("optimizer == 'sgd'")["log_loss"].mean() for t in (straight, turned))
    assert abs(a - b) < 0.5
    assert bowls.ravines(["sgd", "adam"], [0, 45], starts=2)["degrees"].nunique() == 2


def test_sgd_in_a_noisy_bowl_has_the_known_spread():
    # w <- (1 - lr) w + lr noise is an autoregression: its variance is lr / (2 - lr)
    table = bowls.noisy_bowl(["sgd"], [0.3], seeds=8, steps=600)
    assert table["error"].mean() == pytest.approx((0.3 / 1.7) ** 0.5, rel=0.05)


def test_best_rate_is_chosen_by_other_seeds_than_those_that_judge():
    rows = [("a", lr, seed, {0.1: 1.0, 1.0: 2.0}[lr] if seed >= 2 else 9.0) for lr in (0.1, 1.0) for seed in range(4)]
    best = bowls.at_best_rate(pd.DataFrame(rows, columns=["optimizer", "lr", "seed", "score"]), "score")
    assert best["lr"].eq(0.1).all() and sorted(best["seed"]) == [0, 1] and best["score"].eq(9.0).all()


def test_adam_walks_to_the_worst_point_and_amsgrad_does_not():
    end = bowls.reddi(1500).groupby("optimizer")["x"].last()
    assert end["adam"] > 0.9 and end["AMSGrad"] < -0.5 and end["sgd"] < -0.9
    memory = bowls.reddi_memory([3], [0.1, 0.99], steps=600).set_index("beta2")["x"]
    assert memory[0.1] > 0 > memory[0.99]


def test_accumulators_are_a_sum_and_a_mean(digits):
    found = lab.accumulators(digits, steps=20)
    assert found["adagrad_sum"] < 1e-12 and found["rmsprop_mean"] < 1e-12 and found["shapes"] == 1
    assert found["adagrad_mean"] > 0.5 and found["rmsprop_quotient"] > 1
    assert found["adagrad_up"] == 0 and found["rmsprop_up"] > 0.1


def test_adams_settings_stay(digits):
    after = lab.adam_settings_after(digits, steps=10)
    assert after["betas"] == (0.9, 0.999) and after["lr"] == 0.01 and after["spread"] > 2


def test_rising_steps_are_those_of_the_full_loss_trace(digits):
    recipe = h.Recipe(depth=1, width=8)
    table = lab.loss_rises(recipe, digits, batch_sizes=[8, None], rates=[0.1], seeds=2, steps=12)
    for row in table.itertuples():
        size = None if row.batch_size == "all" else int(row.batch_size)
        trace = h.full_loss_trace(recipe.but(batch_size=size, lr=row.lr, seed=row.seed), digits, 12)
        assert row.rises == pytest.approx(100 * (trace.diff() > 0).double().mean().item())
        assert row.last_loss == pytest.approx(trace[-1].item(), rel=1e-4)


def test_sensitivity_measures_the_width_in_decades():
    table = pd.DataFrame({"optimizer": "a", "seed": 0, "lr": [0.01, 0.1, 1.0], "val_accuracy": [0.8, 0.9, 0.9]})
    width = lab.sensitivity(type("R", (), {"table": table})(), within=0.01)["decades"].item()
    assert width == pytest.approx(1.1, abs=0.01)  # the whole upper decade and a tenth of the lower one


def test_stuck_counts_the_runs_above_the_best_of_their_width():
    table = pd.DataFrame({"width": [3, 3, 3, 8], "optimizer": ["sgd", "sgd", "adam", "sgd"]})
    found = lab.stuck(type("R", (), {"table": table.assign(train_loss=[0.5, 0.12, 0.1, 0.9])})())
    assert found["stuck"].tolist() == [1, 0, 0] and found["n"].tolist() == [2, 1, 1]


def test_softmax_regression_comes_closer_with_a_falling_rate():
    table = lab.optimum_gap(h.load("wine"), seeds=2, steps=800)
    last = table[table["step"] == 800].groupby("schedule")["excess"].mean()
    assert table["excess"].min() > -1e-9  # nothing lies below the optimum
    assert 0 < last["falling"] < last["constant"] < 0.05


def test_raw_gives_back_the_units_of_the_laboratory():
    wine, x = h.load("wine"), load_wine()
    raw = lab.raw(wine, x.data, x.target)
    again = (raw.x_train - raw.x_train.mean(0)) / raw.x_train.std(0, correction=0)
    assert torch.allclose(again, wine.x_train, atol=1e-4) and raw.x_train.max() > 1000
    with pytest.raises(ValueError, match="does not give back the split of 'wine'"):
        lab.raw(wine, x.data, x.target, seed=3)


def test_docstring_words_are_sparse_and_not_standardised():
    data = lab.docstring_words(40)
    assert set(data.x_train.unique().tolist()) == {0.0, 1.0} and data.n_classes == 4
    assert (data.x_train == 0).float().mean() > 0.8
    assert not torch.equal(lab.docstring_words(40, seed=1).x_train[:5], data.x_train[:5])


def test_step_cost_compares_with_the_first():
    table = lab.step_cost(h.load("digits", n_train=100), ["sgd", "adam"], repeats=5, warmup=2).set_index("optimizer")
    assert table.loc["sgd", "times sgd"] == 1 and table.loc["adam", "its part (µs)"] > 0


def test_first_steps():
    assert lab.first_step_ratio("adagrad") == pytest.approx(1) and lab.first_step_ratio("sgd") == pytest.approx(1000)


def test_differences_are_paired_over_seeds():
    table = pd.DataFrame({"optimizer": ["a", "b", "b", "a"], "seed": [0, 0, 1, 1], "score": [5.0, 1.0, 2.0, 9.0]})
    assert lab.difference(table, "score", "a", "b") == [4.0, 7.0]


def test_exact_evidence_says_what_the_source_claims():
    ledger = h.Ledger()
    verdicts.judge_words(ledger, {"betas": (0.9, 0.999), "lr": 0.01, "spread": 20.0})
    verdicts.judge_formulas(ledger, lab.gap_to_torch(5), lab.accumulators(h.load("digits", n_train=100), steps=10))
    found = {v.id: v.verdict for v in ledger.verdicts()}
    assert found["OPT-01"] == "DEPENDS" and found["OPT-20"] == "ILL-POSED" and found["OPT-16"] == "TRUE"
    assert {found[i] for i in ("OPT-06", "OPT-09", "OPT-13", "OPT-14", "OPT-17")} == {"FALSE"}
