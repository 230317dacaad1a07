"""The chapter on splits: its measurements against closed forms and library results, at smoke sizes."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.neighbors import KNeighborsClassifier

import helpers as h
from helpers import training
from helpers.labs import data_splits as lab
from helpers.labs.data_splits import words

SMALL = h.Recipe(depth=1, width=8, lr=0.1, batch_size=50, epochs=3)


def test_the_linear_model_is_scikit_learns_ridge_classifier():
    X, y = lab.world()
    W, b = lab.fit_linear(X[:300], y[:300])
    theirs = RidgeClassifier(alpha=1.0).fit(X[:300], y[:300])
    assert np.allclose(X[300:] @ W + b, theirs.decision_function(X[300:]))
    assert lab.score((W, b), X[300:], y[300:]) == theirs.score(X[300:], y[300:])


def test_nearest_is_scikit_learns_nearest_neighbour():
    X, y = lab.world()
    theirs = KNeighborsClassifier(1, algorithm="brute").fit(X[:500], y[:500])
    assert (lab.nearest(X[:500], y[:500], X[500:900]) == theirs.predict(X[500:900])).mean() > 0.995  # ties may differ


def test_recalls_average_to_the_accuracy():
    X, y = lab.world()
    model = lab.fit_linear(X[:200], y[:200])
    shares = np.bincount(y[200:]) / len(y[200:])
    assert lab.recalls(model, X[200:], y[200:]) @ shares == pytest.approx(lab.score(model, X[200:], y[200:]))


def test_total_variation_agrees_with_the_library():
    y = np.array([0, 0, 1, 2, 2, 2, 1, 0])
    assert lab.tv(y[:4], y[4:], 3) == pytest.approx(h.label_distance(y, range(4), range(4, 8)))
    assert lab.tv(np.zeros(3, int), np.ones(3, int)) == 1


def test_one_draw_repeats_itself_and_says_when_it_cannot_be_stratified():
    assert lab.one_draw(100, "stratified", 3) == lab.one_draw(100, "stratified", 3)
    assert lab.one_draw(20, "stratified", 0)["possible"] is False  # 4 test rows cannot hold 10 classes
    row = lab.one_draw(200, "random", 1)
    assert row["error"] == pytest.approx(100 * (row["measured"] - row["truth"]))
    assert 0.6 < row["truth"] < 1


def test_stratified_draws_stay_within_the_rounding_bound_and_random_ones_do_not():
    draws = lab.many_draws([100], 12)
    over = draws["label_distance"] > draws["bound"] + 1e-9
    assert not over[draws["how"] == "stratified"].any()
    assert (
        draws[draws["how"] == "random"]["label_distance"].mean()
        > 2 * draws[draws["how"] == "stratified"]["label_distance"].mean()
    )


def test_the_histogram_holds_every_draw_once():
    table = pd.DataFrame({"n": 1, "how": "a", "error": [-99, -1.1, -0.9, 0, 0.2, 99, np.nan]})
    bins = lab.histogram(table, "error", ["n", "how"], width=2, limit=4)
    assert bins["error"].tolist() == [-4, -2, 0, 2, 4]
    assert bins["share"].tolist() == pytest.approx([100 / 6, 100 / 6, 50, 0, 100 / 6])


def test_paired_subtracts_draw_by_draw_and_slopes_find_the_square_root_law():
    table = pd.DataFrame({"draw": [0, 0, 1, 1, 2], "how": list("ababa"), "v": [3, 1, 5, 4, 9]})
    assert lab.paired(table, "v", "how", "a", "b").tolist() == [2, 1]  # draw 2 has no partner
    law = pd.DataFrame([{"draw": d, "n": n, "v": (d + 1) * n**-0.5} for d in range(3) for n in (10, 100, 1000)])
    assert lab.slopes(law, "v") == pytest.approx([-0.5] * 3)


def test_class_counts_are_those_of_scikit_learn_and_follow_proportional_allocation():
    counts = lab.class_counts()
    _, y = lab.world()
    theirs = np.bincount(train_test_split(y, test_size=359, stratify=y, random_state=0)[1])
    ours = counts[counts["data"] == "digits"]["drawn"].to_numpy()
    assert ours.sum() == theirs.sum() and np.abs(ours - theirs).max() <= 1
    assert (counts["drawn"] - counts["proportional"]).abs().max() < 1
    assert (counts["source_formula"] < 1).all()
    assert (counts["drawn"] - counts["equal_number"]).abs().max() > 10


def test_a_rare_class_keeps_its_share_in_stratified_splits_only():
    rare = lab.rare_class([12], 8)
    assert rare[rare["how"] == "stratified"]["in_test"].between(2, 3).all()
    assert (rare["in_test"] + rare["in_train"] == 12).all()
    assert rare[rare["how"] == "random"]["in_test"].nunique() > 2


def test_the_winner_of_one_model_is_the_same_on_both_sets_and_more_models_raise_the_reported_score():
    table = lab.winners(4, candidates=(1, 20), sizes=(60,))
    wide = table.pivot_table(index="draw", columns=["chosen_on", "candidates"], values="reported_accuracy")
    assert (wide[("the test set", 1)] == wide[("a validation set", 1)]).all()
    assert (wide[("the test set", 20)] >= wide[("the test set", 1)]).all()


def test_averaged_is_cross_val_score():
    X, y = lab.world()
    folds = h.folds(300, k=5)
    theirs = cross_val_score(RidgeClassifier(), X[:300], y[:300], cv=[tuple(f) for f in folds]).mean()
    assert lab.averaged(X[:300], y[:300], folds) == pytest.approx(theirs)


def test_estimators_count_their_fits():
    table = lab.estimators([60], 2)
    assert table.groupby("scheme")["fits"].first().to_dict() == {
        "one hold-out": 1, "5 hold-outs": 5, "5-fold": 5, "10-fold": 10
    }  # fmt: skip


def test_every_pair_of_drawing_rule_and_scheme_is_legal():
    rules = lab.drawing_rules()
    assert len(rules) == 20 and rules["legal"].all()


def test_block_folds_cover_every_block_and_blocks_are_harder():
    blocks = lab.block_folds(seeds=1)
    assert blocks.groupby(["model", "folds"]).size().eq(13).all()
    mean = blocks.groupby(["model", "folds"])["accuracy"].mean()
    assert mean["linear", "shuffled"] > mean["linear", "whole blocks"]
    near, chance = lab.look_alikes()
    assert near > 3 * chance


def test_the_drift_needs_a_speed():
    rng = np.random.default_rng(0)
    X, y, times = lab.drifting(500, 0, 1, 0, rng)
    assert (np.diff(times) >= 0).all() and X[y == 1, 0].mean() == pytest.approx(1, abs=0.2)
    fast = lab.drift(4, speeds=(120,)).groupby("how")["optimism"].mean()
    assert fast["random"] > fast["time"] + 3


def test_a_full_leak_lets_a_memorizer_recite_random_labels():
    table = lab.leaks([0, 1], 2)
    at = table[(table["labels"] == "random labels") & (table["scored on"] == "the test set")]
    assert (at[at["leaked"] == 100]["accuracy"] == 1).all()
    assert (at[at["leaked"] == 0]["accuracy"] < 0.3).all()


def test_watched_trains_each_network_on_its_own_data_as_train_one_does():
    datas = [h.load("digits", n_train=100, seed=s) for s in (0, 1)]
    recipes = [SMALL, SMALL.but(seed=5)]
    parts = {"validation": [(d.x_val, d.y_val) for d in datas], "training": [(d.x_train, d.y_train) for d in datas]}
    table = lab.watched(recipes, datas, parts)
    for k, (recipe, data) in enumerate(zip(recipes, datas, strict=True)):
        mine = table[(table["run"] == k) & (table["part"] == "validation")]
        theirs = [row["val_accuracy"] for row in training.train_one(recipe, data)[1]]
        assert mine["accuracy"].tolist() == pytest.approx(
            theirs, abs=1.1 / len(datas[0].y_val)
        )  # one image, by rounding
        assert mine["epoch"].tolist() == list(range(1, SMALL.epochs + 1))
    last = lab.watched(recipes, datas, parts, every=SMALL.epochs)
    assert last["accuracy"].tolist() == table[table["epoch"] == SMALL.epochs]["accuracy"].tolist()
    other = lab.watched(recipes, datas, parts, order_seeds=[9, 5])
    same = (other["accuracy"] == table["accuracy"]).groupby(table["run"]).all()
    assert same.tolist() == [False, True]


def test_validation_and_folds_leave_the_weights_alone():
    data = h.load("digits", n_train=100)
    assert lab.untouched_by_validation(SMALL, data, 2) == 2
    assert lab.untouched_by_folds(SMALL, data, 2) == 2


def test_noise_falls_on_training_and_validation_and_not_on_the_fresh_rows():
    _, y = lab.world()
    rows = np.arange(200), np.arange(200, 300), np.arange(300, 400)
    data = lab.as_data(*rows, noise=0.5, seed=1)
    wrong = [
        float((torch.as_tensor(y[r]) != part).float().mean())
        for r, part in zip(rows, (data.y_train, data.y_val), strict=False)
    ]
    assert all(0.3 < w < 0.6 for w in wrong)
    assert (data.open_test("test")[1].numpy() == y[300:400]).all()


def test_diagnose_reads_training_and_validation_alone():
    def run(regime, train, val):
        rows = [(1, "training", 0.5), (1, "validation", 0.6), (2, "training", train), (2, "validation", val)]
        rows += [(1, "fresh rows", 0.7), (2, "fresh rows", 0.4)]
        return pd.DataFrame(rows, columns=["epoch", "part", "accuracy"]).assign(regime=regime, seed=0)

    said = lab.diagnose(pd.concat([run("a", 0.5, 0.5), run("b", 0.99, 0.95), run("c", 0.99, 0.55)]))
    assert said["said"].tolist() == ["too small", "about right", "too free"]
    assert said["stopped"].tolist() == [0.7, 0.4, 0.7]  # the best validation epoch is the first in runs a and c


def test_spread_compares_the_split_with_the_mean_of_the_others():
    rows = [("split", [0.90, 0.92, 0.94]), ("first weights", [0.90, 0.91, 0.92]), ("order of the data", [0.91] * 3)]
    table = pd.DataFrame([{"varied": n, "seed": i, "own": v} for n, each in rows for i, v in enumerate(each)])
    assert lab.spread(table, "own")["more"].tolist() == pytest.approx([1.5, 0, 1.5])


def test_learning_recipes_take_about_the_same_number_of_steps():
    recipes = lab.learning_recipes(SMALL.but(batch_size=25), [50, 100, 1000], 80)
    assert [r.epochs * (r.n_train // 25) for r in recipes] == [80, 80, 80]


def test_rows_needed_and_half_widths_are_the_formula():
    assert lab.rows_needed(0.9, 0.01) == 3458
    assert lab.rows_needed(0.5, 0.05) == 385  # the textbook's example
    table = lab.half_widths(accuracies=(0.9,), levels=(95,))
    at = table[table["n_test"] == 100]["w"].item()
    assert at == pytest.approx(100 * stats.norm.ppf(0.975) * 0.03)
    n, off = lab.outside(0.9, 0.01, 2000)
    assert n == 3458 and stats.binomtest(off, 2000, 0.05).pvalue > 0.001


def test_part_sizes_read_the_loader_without_opening_a_test_set():
    sizes = lab.part_sizes().set_index("data")
    assert sizes.loc["digits", ["train", "test"]].tolist() == [1000, 400]
    assert sizes.loc["IMDB reviews", "ratio"] == 1


def test_the_sentences_carry_the_tables_numbers():
    assert "3,458" in words.told_rows_needed() and "345,732" in words.told_rows_needed()
    draws = pd.DataFrame({"n": 100, "how": ["random"] * 4 + ["stratified"] * 4, "possible": True,
                          "missing": [1, 0, 2, 1, 0, 0, 0, 0]})  # fmt: skip
    assert "75 % of the random ones and 0 % of the stratified" in words.told_missing(draws, 100)
    counted = words.counted(draws, "missing", 1)
    assert counted[counted["how"] == "random"]["share"].tolist() == [25, 75]
