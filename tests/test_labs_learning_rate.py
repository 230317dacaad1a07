"""The measurements of the chapter on rates, batches and clipping, against closed forms and torch."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import helpers as h
from helpers import losses, training
from helpers.labs import batch_and_clipping as bac
from helpers.labs import learning_rate as lab


@pytest.fixture(scope="module")
def digits():
    return h.load("digits", n_train=200)


# --- rates


def test_every_policy_is_torchs_scheduler():
    table = lab.formulas(60)
    assert table["largest difference"].max() < 1e-12 and len(table) == 9
    warm = lab.warm_up_gap(60, 15)
    assert warm["gap"] < 1e-12 and warm["ramp"] == warm["asked"] == 15


def test_step_and_multi_step_by_hand():
    assert lab.step_lr(7, 3) == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01])
    assert lab.step_lr(4, 2, gamma=0.5) == pytest.approx([1, 1, 0.5, 0.5])
    assert lab.multi_step_lr(5, [1, 3], 0.3) == pytest.approx([1, 0.3, 0.3, 0.09, 0.09])


def test_both_counters_count_steps():
    table = lab.counters(4)
    assert table["exponential"].tolist() == table["1/t"].tolist() == [0, 1, 2, 3]


def test_a_drawn_policy_has_its_warm_up():
    table = lab.policies([0.0, 0.5], points=4)
    ramp = table.query("policy == 'constant' and warmup == 0.5").sort_values("progress")["factor"]
    assert ramp.tolist() == [0, 0.5, 1, 1, 1]


def test_the_noisy_bowl_settles_at_the_known_floor_and_travels_the_known_way():
    table = lab.noisy_bowl([0.1], [7], steps=2000, points=10)
    end = table.groupby("policy").last()
    assert end.loc["constant", "distance2"] == pytest.approx(0.1 / 1.9, rel=1e-9)
    assert end.loc["constant", "travel"] == pytest.approx(200)
    assert end.loc["exponential", "travel"] == pytest.approx(0.1 / (1 - 2 ** (-1 / 7)), rel=1e-9)


def test_the_noisy_bowl_is_what_a_simulation_does():
    table = lab.noisy_bowl([0.3], [20], steps=40, points=5)
    x, draw = np.full(40_000, 10.0), np.random.default_rng(0)
    for t in range(40):
        x = x - 0.3 / (1 + t / 20) * (x + draw.standard_normal(x.shape))
    exact = table.query("policy == '1/t' and step == 40")["distance2"].item()
    assert (x**2).mean() == pytest.approx(exact, rel=0.05)


def test_walkers_stay_where_nothing_moves_and_leave_where_much_does():
    still = lab.valleys([1e-6], ["constant"], walkers=10, groups=2, steps=40)
    assert still["share"].eq(0).all() and sorted(still["seed"].unique()) == [0, 1]
    moved = lab.valleys([0.1], ["constant"], walkers=200, groups=2)
    assert moved[moved["step"] == 400]["share"].min() > 0.8
    with pytest.raises(ValueError, match="groups=1 is not allowed"):
        lab.valleys([0.1], ["constant"], groups=1)


def test_the_edge_is_two_over_the_largest_curvature():
    table = lab.edge_of_stability([1, 4], [0.49, 0.51])
    assert table["edge"].eq(0.5).all() and table["growth"].iloc[0] < 1 < table["growth"].iloc[1]
    assert table["growth"].iloc[0] == pytest.approx((0.51**200 + 4 * 0.96**200) / 5)


def test_step_lengths_of_sgd_and_adam(digits):
    sgd = lab.step_lengths(h.Recipe(width=8, lr=0.2, batch_size=20), digits, 5)
    assert np.allclose(sgd["length"], 0.2 * sgd["gradient"], rtol=1e-9)
    adam = lab.step_lengths(h.Recipe(width=8, lr=0.2, optimizer="adam"), digits, 1)
    assert adam["largest change"].iloc[0] == pytest.approx(0.2, rel=1e-3)


def test_the_range_test_ends_at_the_explosion(digits):
    recipe = h.Recipe(width=8, depth=1, batch_size=50)
    table = lab.range_test(recipe, digits, low=0.001, high=1000, steps=40, seeds=2)
    assert table["lr"].min() == pytest.approx(0.001) and table["lr"].max() < 1000
    assert np.isfinite(table["loss"]).all()
    with pytest.raises(ValueError, match="high=0.001 is not allowed"):
        lab.range_test(recipe, digits, low=0.1, high=0.001, steps=4, seeds=1)


def test_plateau_waits_for_its_patience(digits):
    # a rate of nothing: the loss does not fall, so the rate does, by the factor, after patience + 1 bad epochs
    table = lab.plateau(h.Recipe(width=8, lr=1e-12, epochs=6), digits, seeds=1, factor=0.5, patience=1)
    ratios = table["lr"] / 1e-12
    assert ratios.iloc[0] == 1 and set(ratios.round(6)) <= {1, 0.5, 0.25}


def test_two_sgd_trainings_are_one(digits):
    recipe = h.Recipe(width=8, batch_size=20)
    _, two = lab.trainings(recipe, digits, [7, 8], seeds=2)
    _, one = lab.trainings(recipe, digits, [15], seeds=2)
    assert lab.largest_gap(two, one) == 0
    _, forgot = lab.trainings(recipe.but(optimizer="adam"), digits, [7, 8], seeds=1)
    _, kept = lab.trainings(recipe.but(optimizer="adam"), digits, [15], seeds=1)
    assert lab.largest_gap(forgot, kept) > 1e-6


def test_one_training_of_whole_epochs_is_train_one(digits):
    recipe = h.Recipe(width=8, batch_size=20, epochs=2)
    _, (model,) = lab.trainings(recipe, digits, [20], seeds=1)
    assert lab.largest_gap([model], [training.train_one(recipe, digits)[0]]) == 0


def test_matched_stops_at_the_target(digits):
    recipe = h.Recipe(width=16, batch_size=20, epochs=20)
    table = lab.matched(recipe, digits, rates=[0.05, 0.2], target=1.0, seeds=2)
    assert len(table) == 4 and (table["train_loss"] <= 1.0).all()
    row = table.iloc[0]
    epochs = int(row["epoch"])
    model, curve = training.train_one(recipe.but(lr=row["lr"], seed=int(row["seed"]), epochs=epochs), digits)
    assert curve[-1]["val_accuracy"] == pytest.approx(row["val_accuracy"], abs=0.01)
    loss = training.evaluate(model, losses.make(recipe), digits.x_train, digits.y_train)[0].item()
    assert loss == pytest.approx(row["train_loss"], rel=1e-3)


def test_carried_over_chooses_on_the_first_seeds(digits):
    runs = h.train(h.Recipe(width=8, depth=1, epochs=1).vary(lr=[1e-6, 0.3]), digits, seeds=4)
    own, other, cost = lab.carried_over(runs, runs, choosing=2)
    assert own == other == 0.3 and cost.index.tolist() == [2, 3] and cost.eq(0).all()


def test_large_digits_repeat_pixels():
    data = lab.large_digits(2, n=200)
    assert data.x_train.shape[1:] == (1, 16, 16)
    assert torch.equal(data.x_train[:, :, ::2, ::2], data.x_train[:, :, 1::2, 1::2])


# --- batches


def test_ratios_of_times_are_logarithms():
    times = pd.DataFrame({4: [0.1] * 16, 64: [0.01] * 16})
    assert bac.log_ratio(times, 4, 64) == pytest.approx([1.0] * 8)


def test_seconds_per_epoch_has_a_row_per_repeat(digits):
    times = bac.seconds_per_epoch(h.Recipe(width=8), digits, [10, 100], repeats=3, warm_up=1)
    assert times.shape == (3, 2) and (times > 0).all().all()


def test_the_noise_of_a_batch_follows_the_formula(digits):
    table = bac.gradient_noise(h.Recipe(width=8, depth=1), digits, [1, 10, 200], seeds=1, draws=400)
    by = table.set_index("batch_size")
    assert by.loc[10, "variance"] == pytest.approx(by.loc[10, "expected"], rel=0.15)
    assert by.loc[200, "variance"] < 1e-12 * by.loc[1, "variance"] and by.loc[200, "expected"] == 0
    assert by["bias"].max() < 1e-12


def test_memory_by_hand(digits):
    # depth 1, width 8: autograd keeps x (64), the ReLU's output (8), and for the loss log-probabilities (10) and labels
    table = bac.memory(h.Recipe(width=8, depth=1), digits, [10, 20])
    assert table["parameters"].eq(4 * (64 * 8 + 8 + 8 * 10 + 10)).all()
    assert table["activations"].iloc[1] - table["activations"].iloc[0] >= 10 * 4 * (64 + 8 + 10)
    free, frozen = bac.bytes_with_frozen(h.Recipe(width=8, depth=2, batch_size=10), digits, 1)
    assert frozen < free


def test_accumulation_is_the_big_batch_but_not_with_batch_norm(digits):
    recipe = h.Recipe(width=8)
    ways = bac.accumulation(recipe, digits, batch=64, k=8, repeats=1, warm_up=0)
    big, parts, small = (ways.loc[name] for name in ways.index)
    assert parts["gap"] < 1e-12 < 1e-4 < small["gap"]
    assert (big["backward"], parts["backward"], small["backward"]) == (1, 8, 8)
    assert (big["steps"], parts["steps"], small["steps"]) == (1, 1, 8)
    assert parts["saved"] * 7 < big["saved"]
    normed = bac.accumulation(recipe.but(norm="batch"), digits, batch=64, k=8, repeats=1, warm_up=0)
    assert normed["gap"].iloc[1] > 1e-6
    wrong = bac.without_division(recipe, digits, batch=64, k=8)
    assert wrong["ratio"] == pytest.approx(8) and wrong["each"] == pytest.approx(0.9**8)


def test_seconds_to_target_by_hand():
    rows = [(10.0, 0, "a"), (np.nan, 0, "b")]
    table = pd.DataFrame([{"batch_size": b, "seed": s, "run": r, "epoch": 3} for b, s, r in rows])
    curves = pd.DataFrame([{"run": r, "epoch": e, "val_accuracy": v} for r, e, v in
                           (("a", 1, 0.5), ("a", 2, 0.9), ("b", 1, 0.1), ("b", 3, 0.2))])  # fmt: skip
    need = bac.seconds_to_target(h.Runs(table, curves), pd.DataFrame({10: [0.2], 100: [0.1]}), 0.8)
    assert need.loc[0].to_dict() == pytest.approx({10: 0.4, 100: 0.3})  # b never arrives: its three epochs


# --- clipping and freezing


def test_clips_by_hand_and_against_torch():
    table = bac.clipped([3, -4], c=1.0)
    assert table.loc["by norm", ["g1", "g2"]].tolist() == pytest.approx([0.6, -0.8], abs=1e-6)
    assert table.loc["by value", ["g1", "g2"]].tolist() == [1, -1]
    assert table.loc["one-sided", ["g1", "g2"]].tolist() == [1, -4]
    theirs = [torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2))]
    for ours, clip in ((bac.clip_by_norm, torch.nn.utils.clip_grad_norm_), (bac.clip_by_value,
                       torch.nn.utils.clip_grad_value_)):  # fmt: skip
        grads = [torch.tensor([1.0, -2.0, 3.0]), torch.tensor([0.1, -9.0])]
        for p, g in zip(theirs, grads, strict=True):
            p.grad = g.clone()
        clip(theirs, 0.5)
        ours(grads, 0.5)
        assert all(torch.allclose(p.grad, g) for p, g in zip(theirs, grads, strict=True))


def test_clipping_never_lengthens_and_by_norm_keeps_the_direction():
    strips = bac.strips(n=300)
    rnn = h.Recipe(model="rnn", width=8, activation="relu", init="orthogonal", init_scale=1.5)
    table = bac.cosines(rnn, strips, [0.1, 1.0], seeds=2)
    assert table["longer"].max() <= 1 + 1e-9
    assert table[table["clipping"] == "by norm"]["cosine"].min() > 1 - 1e-9
    assert table[table["clipping"] == "by value"]["cosine"].min() < 0.99
    with pytest.raises(ValueError, match="steps=5 is not allowed: it must divide the 64 pixels"):
        bac.strips(5)


def test_the_stack_with_both_sides_cut_is_the_engine_and_one_side_is_not():
    strips = bac.strips(n=300)
    rnn = h.Recipe(model="rnn", width=8, batch_size=50, epochs=1, lr=0.5)
    ours = bac.train_one_sided(rnn, strips, 0.01, seeds=2, two_sided=True)
    theirs = h.train(rnn.but(clip_value=0.01), strips, seeds=2).table
    assert np.allclose(ours["train_loss"], theirs["train_loss"], rtol=1e-4)
    one = bac.train_one_sided(rnn, strips, 0.01, seeds=2)
    assert not np.allclose(ours["train_loss"], one["train_loss"], rtol=1e-3)


def test_freezing_takes_gradients_away_and_leaves_the_others(digits):
    found = bac.frozen_gradients(h.Recipe(width=8), digits, scale=1000.0)
    assert found["first"] is False and found["change"] == 0 and found["largest"] > 1


def test_layer_changes_are_relative(digits):
    table = bac.layer_changes(h.Recipe(width=8, epochs=2, lr=1e-9), digits, seeds=1)
    assert len(table) == 3 * 2 and table["change"].between(0, 1e-6).all()
    assert bac.layer_changes(h.Recipe(width=8, epochs=1), digits, seeds=1)["change"].min() > 1e-3


def test_freezing_none_is_training_and_pretrained_layers_come_over(digits):
    recipe = h.Recipe(width=16, epochs=2, batch_size=20)
    free = bac.freezing(recipe, digits, frozen=[0], seeds=1)
    curve = training.train_one(recipe, digits)[1]
    assert free["val_accuracy"].tolist() == pytest.approx([row["val_accuracy"] for row in curve])
    taught = bac.freezing(recipe, digits, source=digits, source_epochs=5, frozen=[2], layers=2, seeds=1)
    assert taught["start"].eq("pretrained").all()
    assert taught["val_accuracy"].iloc[-1] > free["val_accuracy"].iloc[-1]


# --- evidence


def test_judges_follow_their_rules(digits):
    ledger = h.Ledger()
    lab.judge_policies(ledger, lab.formulas(), lab.warm_up_gap())
    sgd = lab.step_lengths(h.Recipe(width=8, lr=0.1, batch_size=10), digits, 10)
    adam = lab.step_lengths(h.Recipe(width=8, lr=0.1, optimizer="adam"), digits, 1)
    lab.judge_steps(ledger, sgd, adam, 0.1)
    seeds = pd.Index(range(8), name="seed")
    lab.judge_sizes(ledger, {"equal_steps": (0.1, 0.1, pd.Series(0.0, seeds))})
    table = pd.DataFrame({"seed": [0, 0, 1, 1], "batch_size": [1, 2, 1, 2], "variance": [2.0, 1.0, 2.0, 1.0],
                          "expected": [2.0, 1.0, 2.0, 1.5], "bias": 0.0})  # fmt: skip
    bac.judge_noise(ledger, table)
    found = {v.id: v.verdict for v in ledger.verdicts()}
    assert found == {"LR-01": "TRUE", "LR-02": "FALSE", "LR-03": "TRUE", "LR-04": "FALSE", "LR-06": "FALSE",
                     "LR-07": "TRUE", "BATCH-10": "DEPENDS"}  # fmt: skip
