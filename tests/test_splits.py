"""helpers.splits: partitions are legal, each way keeps its promise, bad input ends in one sentence."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from helpers import splits

RNG = np.random.default_rng(0)
Y = RNG.permutation(np.repeat([0, 1, 2], [60, 30, 10]))
GROUPS = np.repeat(np.arange(20), 5)
TIMES = RNG.permutation(100) // 4  # four rows share each moment


@pytest.mark.parametrize("how", splits.WAYS)
@pytest.mark.parametrize("validation", [0.0, 0.25])
def test_the_parts_are_disjoint_and_hold_every_row(how, validation):
    done = splits.split(Y, how=how, test=0.2, validation=validation, groups=GROUPS, times=TIMES, seed=3)
    rows = np.concatenate(list(done))
    assert sorted(rows) == list(range(100))
    if how == "time":  # ties move whole moments into the later part
        assert 20 <= len(done.test) < 24 and len(done.validation) in range(int(100 * validation), 30)
    else:
        assert (len(done.test), len(done.validation)) == (20, int(100 * validation))
    assert done.train.dtype == np.int64


def test_the_seed_fixes_the_split_and_another_seed_moves_it():
    a, b, c = (splits.split(100, seed=s).test.tolist() for s in (1, 1, 2))
    assert a == b != c


def test_a_whole_number_means_rows():
    done = splits.split(Y, how="stratified", test=30, validation=13)
    assert [len(p) for p in done] == [57, 13, 30]
    assert repr(done) == "Split(train: 57 rows, validation: 13, test: 30)"


def test_stratified_keeps_the_shares_and_random_does_not():
    y = load_digits().target
    apart = {how: splits.split(y[:100], how=how, test=0.2) for how in ("random", "stratified")}
    distance = {how: splits.label_distance(y[:100], s.train, s.test) for how, s in apart.items()}
    assert distance["stratified"] < 0.08 < 0.15 < distance["random"]
    assert splits.class_counts(Y, splits.split(Y, how="stratified", test=0.2).test) == {0: 12, 1: 6, 2: 2}


def test_groups_never_stand_on_two_sides():
    done = splits.split(100, how="group", groups=GROUPS, test=0.2, validation=0.2)
    sides = [set(GROUPS[p]) for p in done]
    assert [len(s) for s in sides] == [12, 4, 4]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])


def test_time_trains_on_the_past_and_keeps_a_moment_together():
    done = splits.split(100, how="time", times=TIMES, test=0.21, validation=0.2)
    assert TIMES[done.train].max() < TIMES[done.validation].min()
    assert TIMES[done.validation].max() < TIMES[done.test].min()
    assert len(done.test) == 24  # 21 rows asked for; the moment at the edge moves as a whole


def test_ordered_takes_the_last_rows():
    train, validation, test = splits.split(10, how="ordered", test=0.2, validation=0.3)
    assert (train.tolist(), validation.tolist(), test.tolist()) == ([0, 1, 2, 3, 4], [5, 6, 7], [8, 9])


def test_a_split_refuses_parts_that_overlap():
    with pytest.raises(ValueError, match="^A split has a row in two parts; build it from index arrays that do not"):
        splits.Split([0, 1], [], [1])


@pytest.mark.parametrize("how", ["random", "stratified", "group", "ordered"])
def test_folds_test_every_row_once(how):
    done = splits.folds(Y, how=how, k=5, groups=GROUPS)
    assert sorted(np.concatenate([f.test for f in done])) == list(range(100))
    for train, test in done:
        assert sorted([*train, *test]) == list(range(100))
        if how == "group":
            assert not set(GROUPS[train]) & set(GROUPS[test])
        if how == "stratified":
            assert splits.class_counts(Y, test) == {0: 12, 1: 6, 2: 2}


def test_ordered_folds_are_blocks_and_random_folds_are_not():
    assert splits.folds(10, how="ordered", k=5)[0].test.tolist() == [0, 1]
    assert splits.folds(50, k=5)[0].test.tolist() != list(range(10))
    assert repr(splits.folds(10, k=5)[0]) == "Fold(train: 8 rows, test: 2)"


def test_time_folds_look_back_only():
    done = splits.folds(100, how="time", times=TIMES, k=6)
    assert len(done) == 6
    for train, test in done:
        assert TIMES[train].max() < TIMES[test].min()


def test_measures_of_a_split():
    y = np.array(["a", "a", "b", "b", "c"])
    assert splits.class_counts(y, [0, 1, 2]) == {"a": 2, "b": 1, "c": 0}
    assert splits.missing_classes(y, [0, 1, 2]) == ["c"]
    assert splits.label_distance(y, [0, 1], [2, 3]) == 1.0
    assert splits.label_distance(y, [0, 2], [1, 3]) == 0.0
    assert splits.label_distance(y, [0, 1, 2, 3], [0, 1]) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="^a has no rows, so its label shares are not defined; give at least one"):
        splits.label_distance(y, [], [1])


def test_leak_check_counts_copies_and_near_copies():
    x = RNG.normal(size=(20, 3, 2))
    x[15], x[16], x[17] = x[0], x[0] + 1e-3, x[1]
    assert splits.leak_check(x, range(15), range(15, 20)) == 2
    assert splits.leak_check(x, range(15), range(15, 20), near=0.01) == 3
    assert splits.leak_check(x, range(5, 15), range(15, 20)) == 0
    assert splits.leak_check(np.array([[0.0], [-0.0]]), [0], [1]) == 1  # equal numbers, other bytes
    assert splits.leak_check(x, [], range(5)) == 0


SENTENCES = [
    (dict(y_or_n=Y, how="stratfied"), "how='stratfied' is not known; choose one of 'random', 'stratified', 'group', "
     "'time', 'ordered'. Did you mean 'stratified'?"),
    (dict(y_or_n=50, how="stratified"), "how='stratified' needs the labels, but y_or_n=50 is a number; give the label "
     "of each row."),
    (dict(y_or_n=50, how="group"), "how='group' needs groups=, one entry for each row; groups is None."),
    (dict(y_or_n=50, how="time"), "how='time' needs times=, one entry for each row; times is None."),
    (dict(y_or_n=50, how="group", groups=[1, 2]), "groups has 2 entries but there are 50 rows; give one entry for each "
     "row."),
    (dict(y_or_n=[0.0, float("nan"), 1.0]), "y_or_n has no value in 1 of 3 rows (the first is row 1); fill these rows "
     "or drop them before you split."),
    (dict(y_or_n=["a", None, "b"]), "y_or_n has no value in 1 of 3 rows (the first is row 1); fill these rows or drop "
     "them before you split."),
    (dict(y_or_n=np.zeros((4, 2))), "y_or_n has shape (4, 2); it must be one-dimensional, one entry for each row: try "
     "y_or_n.ravel()."),
    (dict(y_or_n=1), "y_or_n=1 is not allowed: y_or_n must be a whole number, at least 2."),
    (dict(y_or_n=20, test=0.01), "test=0.01 of 20 rows leaves no row for it; choose a share between 0.05 and 0.95."),
    (dict(y_or_n=20, test=0.99), "test=0.99 of 20 rows leaves no row for training; choose a share between 0.05 and "
     "0.95."),
    (dict(y_or_n=20, test=1.5), "test=1.5 is not allowed: test must be a finite number, at least 0, below 1; try "
     "test=0.2."),
    (dict(y_or_n=20, test=20), "test=20 is not allowed: test must be a whole number, at least 0, at most 19."),
    (dict(y_or_n=20, test=0.5, validation=0.5), "test=0.5 and validation=0.5 of 20 rows must leave rows for training "
     "and at least one row for another part; try test=0.2, validation=0.2."),
    (dict(y_or_n=["a"] * 9 + ["b"], how="stratified"), "Class 'b' has 1 row to divide, but how='stratified' needs at "
     "least 2 of each class; merge the class with another, collect more rows, or use how='random'."),
    (dict(y_or_n=np.arange(20) // 2, how="stratified", test=0.2), "test asks for 4 of 20 rows, but with 10 classes "
     "how='stratified' needs at least 10 rows on each side; choose another test or use how='random'."),
    (dict(y_or_n=10, how="group", groups=[0] * 10), "test=0.2 of 1 groups does not leave a group on each side; choose "
     "another share or define more groups."),
    (dict(y_or_n=10, how="group", groups=range(10), test=3), "test=3 is not allowed under how='group'; give the share "
     "of the groups, such as 0.2."),
    (dict(y_or_n=10, how="time", times=[7] * 10), "test would take every row because they share one time; give times "
     "that differ or use how='random'."),
]  # fmt: skip


@pytest.mark.parametrize("arguments, sentence", SENTENCES)
def test_split_says_what_is_wrong(arguments, sentence):
    with pytest.raises(ValueError) as caught:
        splits.split(**arguments)
    assert str(caught.value) == sentence


FOLD_SENTENCES = [
    (dict(y_or_n=4, k=5), "k=5 is more than the 4 rows; choose k of at most 4."),
    (dict(y_or_n=100, how="group", groups=GROUPS, k=21), "k=21 is more than the 20 groups; choose k of at most 20."),
    (dict(y_or_n=5, how="time", times=range(5), k=5), "k=5 is more than the 4 rows less one; choose k of at most 4."),
    (dict(y_or_n=Y, how="stratified", k=11), "k=11 is more than the 10 rows of class 2; choose a smaller k, merge the "
     "class, or use how='random'."),
    (dict(y_or_n=6, how="time", times=[1] * 6, k=2), "k=2 leaves a fold with no row before its test block, because "
     "rows share one time; choose a smaller k or give times that differ."),
    (dict(y_or_n=6, k=1), "k=1 is not allowed: k must be a whole number, at least 2."),
]  # fmt: skip


@pytest.mark.parametrize("arguments, sentence", FOLD_SENTENCES)
def test_folds_say_what_is_wrong(arguments, sentence):
    with pytest.raises(ValueError) as caught:
        splits.folds(**arguments)
    assert str(caught.value) == sentence
