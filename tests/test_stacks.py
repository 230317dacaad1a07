"""A stack is never a second definition: every field of Recipe gives the same run stacked and alone.

`SETTINGS` has one entry for each field: recipes in which this field
differs from its value in `BASE`, and must change the run for it. A
field without an entry fails the first test, so a new trick is covered by being listed.
"""

from __future__ import annotations

import math

import pytest
import torch

from helpers import data, engine, stacks, training
from helpers.augment import AUGMENTS
from helpers.recipe import FIELDS, Recipe
from helpers.schedules import SCHEDULES

BASE = Recipe(depth=2, width=16, lr=0.05, epochs=3, batch_size=32, n_train=160)
ADAM = BASE.but(optimizer="adam", lr=0.01)
SETTINGS = {
    "model": [BASE.but(model="lenet5", epochs=1, n_train=64), BASE.but(model="rnn"),
              BASE.but(model="cnn", depth=8, width=4, epochs=1, n_train=64),
              BASE.but(model="lenet5_1998", epochs=1, n_train=64, lr=0.01)],
    "depth": [BASE.but(depth=0), BASE.but(depth=5)],
    "width": [BASE.but(width=24)],
    "activation": [BASE.but(activation=a) for a in ("tanh", "sigmoid", "leaky_relu", "elu", "softsign", "linear")],
    "norm": [BASE.but(norm=n) for n in ("batch", "layer", "group")],
    "norm_place": [BASE.but(norm="batch", norm_place="after")],
    "dropout": [BASE.but(dropout=0.3)],
    "shortcut": [BASE.but(depth=5, shortcut=s) for s in ("identity", "projection", "preactivation")],
    "branch_scale": [BASE.but(depth=5, shortcut="identity", branch_scale=0.0)],
    "pool": [BASE.but(model="lenet5", epochs=1, n_train=64, pool="max")],
    "widen": [BASE.but(model="lenet5", epochs=1, n_train=64, widen=0.5)],
    "init": [BASE.but(init=i) for i in ("xavier", "orthogonal", "pca", "lsuv", "zero", "torch", "lecun_1998")],
    "init_scale": [BASE.but(init_scale=0.5)],
    "output_bias": [BASE.but(output_bias="prior", loss=x, lr=0.01) for x in ("cross_entropy", "binary_cross_entropy")],
    "loss": [BASE.but(loss=x, lr=0.01) for x in ("squared_error", "binary_cross_entropy", "focal", "map_criterion")],
    "label_smoothing": [BASE.but(label_smoothing=0.2)],
    "focal_gamma": [BASE.but(loss="focal", focal_gamma=1.0)],
    "optimizer": [BASE.but(optimizer=o, lr=0.01) for o in ("momentum", "nesterov", "adagrad", "rmsprop", "adam")]
    + [BASE.but(optimizer="adamw", lr=0.01, weight_decay=0.3)],
    "lr": [BASE.but(lr=0.2)],
    "momentum": [BASE.but(optimizer="momentum", momentum=0.5)],
    "beta1": [ADAM.but(beta1=0.5)],
    "beta2": [ADAM.but(beta2=0.9)],
    "weight_decay": [BASE.but(weight_decay=0.1), ADAM.but(weight_decay=0.1)],
    "l1": [BASE.but(l1=0.01), BASE.but(l1=0.01, l1_step="proximal")],
    "l1_step": [BASE.but(l1=0.01, l1_step="proximal")],
    "schedule": [BASE.but(schedule=s) for s in SCHEDULES if s != "constant"],
    "warmup": [BASE.but(warmup=0.5), BASE.but(warmup=0.2, schedule="cosine")],
    "clip_norm": [BASE.but(clip_norm=0.3)],
    "clip_value": [BASE.but(clip_value=0.01)],
    "batch_size": [BASE.but(batch_size=16), BASE.but(batch_size=None)],
    "epochs": [BASE.but(epochs=5)],
    "patience": [ADAM.but(epochs=15, label_noise=0.5, patience=2)],
    "n_train": [BASE.but(n_train=96), BASE.but(n_train=None)],
    "label_noise": [BASE.but(label_noise=0.5)],
    "augment": [BASE.but(augment=a, epochs=1) for a in AUGMENTS if a != "none"],
    "augment_strength": [BASE.but(augment="shift", augment_strength=2.0)],
    "seed": [BASE.but(seed=7)],
}
FIELD_CASES = [pytest.param(name, r, id=f"{name}-{i}") for name, rs in SETTINGS.items() for i, r in enumerate(rs)]
CASES = [pytest.param(r, id=f"{name}-{i}") for name, rs in SETTINGS.items() for i, r in enumerate(rs)]
SCORES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def glyphs():
    return data.load("glyphs", n_train=200, n_val=100, n_test=100)


@pytest.fixture
def data_for(digits, glyphs):
    return lambda recipe: glyphs if recipe.model.startswith("lenet5") else digits


def scores(curve):
    return [[p[k] for k in SCORES] for p in curve]


def farthest(curve, other):
    """Largest difference between two runs' curves, over epochs and scores."""
    assert [p["step"] for p in curve] == [p["step"] for p in other]
    return max(abs(a[k] - b[k]) for a, b in zip(curve, other, strict=True) for k in SCORES)


def test_every_field_has_an_entry():
    assert set(SETTINGS) == set(FIELDS)


@pytest.mark.parametrize("recipe", CASES)
def test_same_stacked_and_alone(recipe, data_for):
    # in float64 both ways agree to rounding; a neighbour with another seed and rate shares the stack
    neighbours = [recipe.but(seed=recipe.seed + 1, lr=recipe.lr * 2), recipe, recipe.but(seed=recipe.seed + 2)]
    stack, curves = stacks.train_stack(neighbours, data_for(recipe), dtype=torch.float64)
    model, curve = training.train_one(recipe, data_for(recipe), dtype=torch.float64)
    assert farthest(curves[1], curve) < 1e-9
    inside = stack.unstack(1).state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(inside[name], value, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize(("field", "recipe"), FIELD_CASES)
def test_changes_the_run_and_repeats_by_seed(field, recipe, data_for):
    without = recipe.but(**{field: getattr(BASE, field)})
    assert recipe.differs(without) == (field,)
    one, again, control = (scores(training.train_one(r, data_for(recipe))[1]) for r in (recipe, recipe, without))
    assert one == again
    assert one != control


def test_float32_stays_close(digits):
    recipes = BASE.vary(seed=range(4), lr=[0.03, 0.1])
    _, curves = stacks.train_stack(recipes, digits)
    alone = [training.train_one(r, digits)[1] for r in recipes]
    assert max(abs(a[-1]["train_loss"] - b[-1]["train_loss"]) for a, b in zip(curves, alone, strict=True)) < 1e-4


def test_per_model_clipping_in_one_stack(digits):
    recipes = [BASE.but(clip_norm=c, lr=0.3) for c in (None, 0.1, 1.0)]
    _, curves = stacks.train_stack(recipes, digits, dtype=torch.float64)
    for recipe, curve in zip(recipes, curves, strict=True):
        assert farthest(curve, training.train_one(recipe, digits, dtype=torch.float64)[1]) < 1e-9


def test_what_models_of_one_stack_may_differ_in(digits):
    noisy = BASE.but(label_noise=0.4, dropout=0.2, epochs=6, optimizer="adam", lr=0.02)
    changes = ({}, {"dropout": 0.5}, {"clip_value": 0.01}, {"patience": 1}, {"augment": "shift"}, {"l1": 0.01},
               {"l1": 0.02, "l1_step": "proximal"}, {"output_bias": "prior"})  # fmt: skip
    recipes = [noisy.but(**change) for change in changes]
    assert len(engine.plan(recipes, digits)) == 1
    _, curves = stacks.train_stack(recipes, digits, dtype=torch.float64)
    for recipe, curve in zip(recipes, curves, strict=True):
        assert farthest(curve, training.train_one(recipe, digits, dtype=torch.float64)[1]) < 1e-9
    assert len(curves[3]) < noisy.epochs and "best_epoch" in curves[3][-1]


def test_a_stack_ends_when_all_of_its_models_have_stopped(digits):
    impatient = BASE.but(label_noise=0.5, optimizer="adam", lr=0.03, epochs=40, patience=1)
    stack, curves = stacks.train_stack(impatient.vary(seed=range(3)), digits)
    assert max(len(c) for c in curves) < 40
    for i, curve in enumerate(curves):  # what is kept is the best epoch's model
        best = min(curve[:-1], key=lambda p: p["val_loss"])
        model = stack.unstack(i).eval()
        loss = torch.nn.functional.cross_entropy(model(digits.subset(160).x_val), digits.y_val).item()
        assert curve[-1]["best_epoch"] == best["epoch"] and loss == pytest.approx(best["val_loss"], rel=1e-4)
        assert curve[-1]["val_loss"] == best["val_loss"]


def test_a_model_that_is_taken_out_stands_by_itself(digits):
    recipe = BASE.but(norm="batch", depth=3, shortcut="identity")
    stack, _ = stacks.train_stack([recipe, recipe.but(seed=1)], digits)
    one, other = stack.unstack(0), stack.unstack(0)
    before, names = stack.slice_of(0), [name for name, _ in one.named_modules()]
    assert names == [name for name, _ in training.fresh_model(recipe, digits).named_modules()]
    met = []
    one[1].register_forward_hook(lambda *about: met.append(about))
    torch.optim.SGD(one.parameters(), 0.1).zero_grad()
    one.train()(digits.x_val).sum().backward()  # moves the running statistics
    other.eval()(digits.x_val)
    assert len(met) == 1 and all(p.grad is not None for p in one.parameters())
    assert all(p.grad is None for p in other.parameters()) and one.training and not other.training
    for name, value in before.items():
        assert torch.equal(other.state_dict()[name], value) and torch.equal(stack.slice_of(0)[name], value)


def test_epochs_and_steps_are_counted(digits):
    _, curve = training.train_one(BASE, digits)
    assert [(p["epoch"], p["step"]) for p in curve] == [(1, 5), (2, 10), (3, 15)]
    assert all(math.isfinite(p["seconds"]) for p in curve)
