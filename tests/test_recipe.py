import copy
import dataclasses
import pickle

import pytest

from helpers.recipe import DEFAULTS, FIELDS, STACKED_TOGETHER, Recipe


def test_prints_what_differs_from_the_default():
    assert str(Recipe(lr=0.3, init="zero")) == "Recipe(init='zero', lr=0.3)"
    assert str(Recipe()) == "Recipe()"


def test_is_one_frozen_value():
    r = Recipe(lr=0.3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        r.lr = 1.0
    assert r == Recipe(lr=0.3) and hash(r) == hash(Recipe(lr=0.3)) and r != Recipe()
    assert pickle.loads(pickle.dumps(r)) == r == copy.deepcopy(r)


def test_vary_gives_every_combination_in_order():
    many = Recipe(epochs=3).vary(init=["he", "zero"], lr=[0.1, 0.3])
    assert [(r.init, r.lr, r.epochs) for r in many] == [
        ("he", 0.1, 3),
        ("he", 0.3, 3),
        ("zero", 0.1, 3),
        ("zero", 0.3, 3),
    ]
    assert Recipe().vary(lr=0.5) == [Recipe(lr=0.5)]


def test_differs_names_the_fields():
    assert Recipe().differs(Recipe(lr=0.3, seed=4)) == ("lr", "seed")


def test_stacking_fields_are_fields():
    assert set(STACKED_TOGETHER) <= set(FIELDS) == set(DEFAULTS)


@pytest.mark.parametrize(
    ("fields", "kind", "sentence"),
    [
        ({"learning_rate": 1}, TypeError, "'learning_rate' is not a field of Recipe; .*lr"),
        ({"epoch": 1}, TypeError, "'epoch' is not a field of Recipe; .* Did you mean 'epochs'"),
        ({"optimizer": "Adam"}, ValueError, "optimizer='Adam' is not known; .* Did you mean 'adam'"),
        ({"lr": 0}, ValueError, "lr=0 is not allowed: lr must be a finite number, above 0; try lr=0.1"),
        ({"lr": "0.1"}, TypeError, "lr='0.1' is not allowed"),
        ({"epochs": 2.5}, TypeError, "epochs=2.5 is not allowed: epochs must be a whole number, at least 1"),
        ({"label_noise": 1.5}, ValueError, "label_noise=1.5 is not allowed: .* at least 0, at most 1; try"),
        ({"batch_size": 0}, ValueError, "batch_size=0 is not allowed"),
        ({"clip_norm": -1}, ValueError, "clip_norm=-1 is not allowed: clip_norm must be a finite number, above 0"),
        ({"momentum": 1.0}, ValueError, "momentum=1.0 is not allowed: .* below 1"),
        ({"momentum": 0.5}, ValueError, "momentum=0.5 would do nothing: optimizer=.sgd. does not read "
         "it; leave it out, or choose optimizer='momentum' or 'nesterov'"),
        ({"dropout": 1.0}, ValueError, "dropout=1.0 is not allowed: .* at least 0, below 1; try dropout=0.5"),
        ({"dropout": 0.5, "model": "rnn"}, ValueError, "dropout=0.5 would do nothing: model='rnn' does not read it; "
         "leave it out, or choose model='mlp' or 'cnn' or 'lenet5'"),
        ({"shortcut": "skip"}, ValueError, "shortcut='skip' is not known; choose one of 'none', 'identity'"),
        ({"branch_scale": 0.0}, ValueError, "branch_scale=0.0 would do nothing: shortcut='none' does not read it"),
        ({"norm_place": "after"}, ValueError, "norm_place='after' would do nothing: norm='none' does not read it"),
        ({"focal_gamma": 1.0}, ValueError, "focal_gamma=1.0 would do nothing: loss='cross_entropy' does not read"),
        ({"output_bias": "prio"}, ValueError, "output_bias='prio' is not known; .* Did you mean 'prior'"),
        ({"l1": -1.0}, ValueError, "l1=-1.0 is not allowed: .* at least 0"),
        ({"l1_step": "prox"}, ValueError, "l1_step='prox' is not known; choose one of 'gradient', 'proximal'"),
        ({"clip_value": 0}, ValueError, "clip_value=0 is not allowed: .* above 0"),
        ({"patience": 0}, ValueError, "patience=0 is not allowed: .* at least 1; try patience=5"),
        ({"augment": "flips"}, ValueError, "augment='flips' is not known; .* Did you mean 'flip'"),
        ({"widen": 0}, ValueError, "widen=0 is not allowed"),
        ({"beta2": 0.9, "optimizer": "rmsprop"}, ValueError, "beta2=0.9 would do nothing: optimizer='rmsprop'"),
    ],
)  # fmt: skip
def test_bad_input(fields, kind, sentence):
    with pytest.raises(kind, match=sentence):
        Recipe(**fields)


def test_vary_refuses_unknown_fields_and_empty_lists():
    with pytest.raises(TypeError, match="'inits' is not a field of Recipe; .* Did you mean 'init'"):
        Recipe().vary(inits=["he"])
    with pytest.raises(ValueError, match=r"lr=\[\] is empty: give at least one value to vary"):
        Recipe().vary(lr=[])
