import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers import data
from helpers.compare import TUNING_SEED, Interval, compare
from helpers.recipe import Recipe

BASE = Recipe(width=16, epochs=3, n_train=200, batch_size=32)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def result(digits):
    return compare(BASE, arms={"init": ["he", "zero"]}, tune={"lr": [0.01, 0.1, 0.3]}, data=digits, seeds=4)


def test_interval_is_the_t_interval():
    v = [0.1, 0.3, 0.2, 0.5, 0.15]
    i, reference = Interval.of(v), stats.ttest_1samp(v, 0)
    low, high = reference.confidence_interval(0.95)
    assert (i.mean, i.low, i.high) == pytest.approx((np.mean(v), low, high)) and i.n == 5
    assert i.p == pytest.approx(reference.pvalue) and i.sd == pytest.approx(np.std(v, ddof=1))


def test_interval_covers_the_truth_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(0.3, 1.0, (2000, 8))
    hit = np.mean([i.low <= 0.3 <= i.high for i in map(Interval.of, draws)])
    assert 0.935 < hit < 0.965


def test_interval_without_spread():
    assert Interval.of([0.25, 0.25, 0.25]).p == 0 and Interval.of([0, 0, 0]).p == 1
    with pytest.raises(ValueError, match="an interval needs at least two finite values"):
        Interval.of([0.1])
    with pytest.raises(ValueError, match="an interval needs at least two finite values"):
        Interval.of([0.1, float("nan")])


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [(0.01, 0.03, "helps"), (-0.03, -0.01, "hurts"), (-0.004, 0.004, "no detectable effect"),
     (0.001, 0.004, "no detectable effect"), (-0.01, 0.02, "undecided"), (0.0005, 0.0085, "undecided")],
)  # fmt: skip
def test_outcome_by_interval_and_margin(low, high, outcome):
    assert Interval((low + high) / 2, low, high, 0.01, 8, 0.01).outcome(0.005) == outcome


def test_a_real_effect_is_found(result):
    assert result.outcome() == "helps" and result.outcome("zero", "he") == "hurts"
    assert result.sentence().startswith("he beats zero by ") and "95 % CI [" in result.sentence()
    assert list(result.scores.columns) == ["he", "zero"] and result.scores.index.tolist() == [0, 1, 2, 3]
    by_hand = result.runs.where(init="he").table.set_index("seed")["test_accuracy"]
    assert (by_hand == result.scores["he"]).all()


def test_no_effect_is_called_none(digits):
    # the same thing under two names: batch_size 200 is the full batch of 200
    same = compare(BASE, arms={"batch_size": [200, None]}, data=digits, seeds=3)
    assert same.outcome() == "no detectable effect"
    assert "no effect beyond 0.5 points" in same.sentence()


def test_arms_are_tuned_alike_on_other_seeds_and_validation_only(digits):
    sealed = data.load("digits")
    result = compare(BASE, arms={"optimizer": ["sgd", "adam"]}, tune={"lr": [0.001, 0.01, 0.1]}, data=sealed, seeds=2)
    tuning = result.tuning.table
    assert "test_accuracy" not in tuning and tuning.groupby("optimizer").size().tolist() == [6, 6]
    assert set(tuning["seed"]) == {TUNING_SEED, TUNING_SEED + 1}
    for arm, best in result.chosen.items():
        means = tuning[tuning["optimizer"] == arm].groupby("lr")["val_accuracy"].mean()
        assert means[best["lr"]] == means.max()
    assert set(sealed.test_readings) == {"verdict on optimizer: sgd, adam"}


def test_arms_are_paired(result):
    table = result.runs.table
    he, zero = (table[table["init"] == a].set_index("seed") for a in ("he", "zero"))
    assert he.index.tolist() == zero.index.tolist()
    fields = set(BASE.differs(BASE.but(init="zero", lr=9, seed=9)))
    assert fields == {"init", "lr", "seed"}


def test_edge_of_the_grid_is_told(digits):
    result = compare(BASE, arms={"init": ["he", "xavier"]}, tune={"lr": [1e-5, 1e-4, 1e-3]}, data=digits, seeds=2)
    assert set(result.at_edge) == {"he", "xavier"}


def test_less_is_better_turns_the_sign(digits):
    result = compare(
        BASE, arms={"init": ["he", "zero"]}, data=digits, seeds=8, score="val_loss", higher_is_better=False, margin=0.01
    )
    assert result.outcome() == "helps" and (result.scores["he"] < result.scores["zero"]).all()


def test_own_measure(digits):
    result = compare(
        BASE, arms={"lr": [0.3, 0.01]}, data=digits, seeds=3, score="epochs to 30 %", higher_is_better=False, margin=0,
        measure=lambda runs: runs.epochs_to("val_accuracy", 0.3).clip(upper=99),
    )  # fmt: skip
    assert result.score == "epochs to 30 %" and (result.scores[0.3] <= result.scores[0.01]).all()


def test_table_has_a_row_per_arm(result):
    table = result.table()
    assert table["init"].tolist() == ["he", "zero"] and table["n"].tolist() == [4, 4]
    assert pd.isna(table["low"][0]) and table["low"][1] == pytest.approx(result.interval().low)


def cells(compared) -> list[list[str]]:
    rows = re.findall(r"<tr.*?</tr>", compared._repr_html_(), re.S)
    return [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in rows]


def test_the_table_for_the_eye_is_in_percent_and_has_the_verdict_before_the_rest(result):
    gap, (head, he, zero) = result.interval(), cells(result)
    assert head == ["init", "lr", "test accuracy (%)", "first minus this", "95 % CI", "verdict", "sd", "n"]
    assert he[0] == "he" and he[2] == f"{100 * result.scores['he'].mean():.2f}" and he[3:6] == ["", "", ""]
    told = [f"{100 * v:.2f}".replace("-", "\N{MINUS SIGN}") for v in (gap.low, gap.high)]
    between = "[{},\N{NO-BREAK SPACE}{}]".format(*told)
    assert zero[3:6] == [f"{100 * gap.mean:+.2f}", between, gap.outcome(result.margin)]
    turned = dataclasses.replace(result, arms=("zero", "he"), scores=result.scores[["zero", "he"]])
    assert cells(turned)[2][3] == f"\N{MINUS SIGN}{100 * gap.mean:.2f}"
    table = result.runs.table.assign(diverged=result.runs.table["init"] == "zero")
    lost = cells(dataclasses.replace(result, runs=dataclasses.replace(result.runs, table=table)))
    assert [row[-1] for row in lost] == ["diverged", "0", "4"]


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"arms": {"init": ["he"]}}, ValueError, "init needs at least two different values"),
        ({"arms": {"init": ["he", "he"]}}, ValueError, "init needs at least two different values"),
        ({"arms": {"init": ["he", "zero"], "lr": [1, 2]}}, ValueError, "name one field and its values"),
        ({"arms": ["he", "zero"]}, ValueError, "name one field and its values"),
        ({"arms": {"inits": ["he", "zero"]}}, TypeError, "'inits' is not a field of Recipe; .* Did you mean 'init'"),
        ({"arms": {"init": ["he", "xaver"]}}, ValueError, "init='xaver' is not known; .* Did you mean 'xavier'"),
        ({"tune": {"init": ["he", "zero"]}}, ValueError, "init is what the arms differ in, so it cannot be tuned too"),
        ({"seeds": 1}, ValueError, "seeds=1 is not allowed: .* at least 2"),
        ({"margin": -1}, ValueError, "margin=-1 is not allowed"),
        ({"score": "val_acc"}, TypeError, "'val_acc' is not a score; .* Did you mean 'val_accuracy'"),
    ],
)
def test_bad_input(digits, change, kind, sentence):
    call = {"arms": {"init": ["he", "zero"]}, "data": digits, "seeds": 2, **change}
    with pytest.raises(kind, match=sentence):
        compare(BASE.but(epochs=1), **call)


def test_unknown_arm(result):
    with pytest.raises(ValueError, match="a='xavier' is not an arm; the arms are 'he', 'zero'"):
        result.interval("xavier", "he")
