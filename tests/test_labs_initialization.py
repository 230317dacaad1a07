"""The measurements of the initialization chapter, held to closed forms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import helpers as h
from helpers import models
from helpers.labs import initialization as lab


@pytest.fixture(scope="module")
def digits():
    return h.load("digits", n_train=200)


SMALL = h.Recipe(depth=2, width=16, batch_size=50, epochs=2, optimizer="sgd")


def test_inside_holds_fails_and_stays_open():
    assert lab.inside("x", [0.01, 0.02, 0.01], margin=0.1).holds is True
    assert lab.inside("x", [1.01, 1.02, 1.01], margin=0.1).holds is False
    assert lab.inside("x", [-1.0, 1.0], margin=0.1).holds is None
    assert lab.inside("x", [1.01, 1.02, 1.01], margin=0.1, centre=1).holds is True


def test_gains_is_refuted_by_an_interval_below_the_margin(digits):
    scores = pd.DataFrame({"a": [0.900, 0.902, 0.901, 0.899], "b": [0.907, 0.906, 0.9075, 0.906]})
    made = h.Comparison("init", ("a", "b"), {}, (), None, None, scores, "test_accuracy", 0.008)
    assert h.shows(made, "helps").holds is None and lab.gains(made, "a", "b").holds is False
    assert lab.gains(made, "b", "a").holds is None
    assert h.worded(lab.gains(made, "a", "b"), {"a ": "ours "}).sentence.startswith("Ours against b")


def test_formulas_equal_the_published_standard_deviations():
    f = lab.formulas(400, 1200)
    assert f.loc["xavier", "torch draws"] == pytest.approx((2 / 1600) ** 0.5, rel=0.01)
    assert f.loc["he", "torch draws"] == pytest.approx((2 / 400) ** 0.5, rel=0.01)
    assert f.loc["xavier_uniform", "largest"] == pytest.approx((6 / 1600) ** 0.5, rel=0.01)
    assert f.loc["torch", "largest"] == pytest.approx(400**-0.5, rel=0.01)
    assert f.loc["truncated_normal", "largest"] <= 2


def test_scheme_scales_multiplies_the_scheme_s_own_scale(digits):
    schemes = {"n": SMALL.but(init="normal", init_scale=0.1)}
    table = lab.scheme_scales(digits, schemes, seeds=1, factors=[1.0, 2.0], depth=[2])
    direct = h.layer_scales(SMALL.but(init="normal", init_scale=0.2), digits, seeds=1, n=64)
    assert table[table["factor"] == 2]["gradient"].tolist() == pytest.approx(direct["gradient"].tolist(), rel=1e-4)
    signal = table[table["layer"] == 1].set_index("factor")["signal"]
    assert signal[2.0] == pytest.approx(2 * signal[1.0], rel=1e-5)


def test_slope_and_ratio_of_a_made_up_network():
    layers = np.arange(1, 8)
    table = pd.DataFrame({"seed": 0, "layer": layers, "signal": 0.5**layers, "gradient": 10.0**layers})
    assert lab.per_layer_slope(table)[0] == pytest.approx(2 * np.log(0.5))
    assert lab.gradient_ratio(table)[0] == pytest.approx(-6)


def test_he_keeps_and_xavier_halves_the_signal_of_relu_layers(digits):
    slopes = [
        lab.per_layer_slope(h.layer_scales(h.Recipe(depth=12, width=256, init=i), digits, seeds=3, n=64)).mean()
        for i in ("he", "xavier")
    ]
    assert slopes[0] == pytest.approx(0, abs=0.1)
    assert slopes[1] == pytest.approx(np.log(0.5), abs=0.1)


def test_zero_weights_get_no_gradient_except_behind_a_sigmoid(digits):
    assert (lab.weight_gradients(SMALL.but(init="zero"), digits) == 0).all()
    behind = lab.weight_gradients(SMALL.but(init="zero", activation="sigmoid"), digits)
    assert (behind[:-1] == 0).all() and behind.iloc[-1] > 0


def test_train_from_equals_the_training_loop(digits):
    recipe = SMALL.but(optimizer="momentum")
    table, trained = lab.curves(lab.members(recipe, digits, 2), recipe, digits, epochs=2)
    for seed in (0, 1):
        model, curve = h.train_one(recipe.but(seed=seed), digits)
        assert lab.largest_difference([trained[seed]], [model]) < 1e-5
        mine = table[(table["seed"] == seed) & (table["epoch"] == 2)]["val_accuracy"].item()
        assert mine == pytest.approx(curve[-1]["val_accuracy"], abs=0.003)


def test_restarting_is_going_on(digits):
    _, three = lab.restarts(SMALL.but(epochs=1), digits, rounds=3, seeds=2)
    table, one = lab.restarts(SMALL.but(epochs=3), digits, rounds=1, seeds=2)
    assert lab.largest_difference(three, one) == 0
    assert sorted(table["epoch"].unique()) == [0, 1, 2, 3]


def test_equal_starts_stay_equal_and_noise_breaks_the_tie(digits):
    table = lab.noisy_constant(SMALL.but(init_scale=0.05), digits, noises=[0, 1.0], seeds=2)
    assert table[table["noise"] == 0]["units"].tolist() == [1, 1]
    assert table[table["noise"] == 1]["units"].tolist() == [16, 16]


def test_shuffled_units_are_other_parameters_of_the_same_function(digits):
    model = lab.members(SMALL, digits, 1)[0].double()
    twin, x = lab.shuffled_units(model), digits.x_val.double()
    assert lab.largest_difference([twin], [model]) > 0.1
    assert (twin(x) - model(x)).abs().max() < 1e-12


def test_outputs_are_a_linear_function_of_inputs(digits):
    d = lab.dependence(SMALL, digits, seeds=2, n=150)
    assert d["r2"].min() > 0.999 and d["over_draws"].min() > 0.5


def test_one_step_lowers_or_raises_the_loss(digits):
    step = lab.one_step(SMALL.but(lr=0.01), digits, seeds=2)
    assert (step["against the gradient"] < step["before"]).all() and (step["along the gradient"] > step["before"]).all()


def test_steepness_of_a_linear_model_is_the_norm_of_its_rows(digits):
    linear = SMALL.but(depth=0)
    start = lab.steepness(linear, digits, epochs=[0, 1], seeds=1)
    weight = models.weight_layers(lab.members(linear, digits, 1)[0])[0].weight.detach()
    first = start[start["epoch"] == 0].iloc[0]
    assert first["norms"] == pytest.approx(torch.linalg.matrix_norm(weight, 2).item(), rel=1e-5)
    assert first["input_gradient"] == pytest.approx(weight[digits.y_val[:200]].norm(dim=1).mean().item(), rel=1e-5)


def test_same_order_differs_in_the_weights_alone(digits):
    zero = lab.same_order(SMALL.but(init="zero"), digits, seeds=3)
    assert zero.groupby("epoch")["val_accuracy"].nunique().max() == 1
    assert lab.same_order(SMALL, digits, seeds=3).groupby("epoch")["val_accuracy"].nunique().max() > 1


def test_late_ratios_has_both_ends(digits):
    table = lab.late_ratios(SMALL.but(lr=1e6), digits, epochs=2, seeds=2)
    assert table["epoch"].tolist() == [0, 0, 2, 2] and np.isfinite(table["ratio"]).all()


def test_shuffled_pixels_keep_each_image_s_values(digits):
    other = lab.shuffled_pixels(digits)
    assert not torch.equal(other.x_train, digits.x_train)
    assert torch.equal(other.x_train.flatten(1).sort(1).values, digits.x_train.flatten(1).sort(1).values)


def test_starved_never_leaves_chance_from_zero(digits):
    table = lab.starved(SMALL, digits, rounds=2, seeds=2, batch_size=[20, 100])
    assert set(table["condition"]) == {"batch_size=20", "batch_size=100"}
    assert table["zero"].max() < 0.2 < table["he"].max()


def test_pair_gaps_early_named_and_times(digits):
    assert lab.pair_gaps([1, 4, 2, 2, 9]).tolist() == [3, 0]
    runs = h.train(SMALL.vary(init=["he", "zero"]), digits, seeds=2)
    soon = lab.early(runs, 1, "init")
    assert soon.shape == (2, 2) and soon["he"].min() > soon["zero"].max()
    frame = lab.named(runs, {"good": SMALL, "bad": SMALL.but(init="zero")})
    assert frame.groupby("init")["scheme"].unique().map(list).to_dict() == {"he": ["good"], "zero": ["bad"]}
    times = lab.seconds(SMALL, digits, ["he", "pca"], repeats=3, warm_up=1)
    assert len(times) == 6 and (times["seconds"] > 0).all()


def test_torch_s_defaults_are_read_from_its_source():
    assert lab.inspect_default(torch.nn.Linear) == "kaiming_uniform_" == lab.inspect_default(torch.nn.Conv2d)
    assert "xavier_normal_" in lab.schemes_of_torch() and "calculate_gain" not in lab.schemes_of_torch()


def test_first_weights_are_images_and_equal_from_a_constant(digits):
    images = lab.first_weights(SMALL.but(init="constant", init_scale=0.05), digits, units=3)
    assert images.shape == (3, 8, 8) and torch.allclose(images[0], images[2])
