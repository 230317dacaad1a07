"""The measurements of the batch normalization chapter, held to values by hand and to torch's own layers."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import helpers as h
from helpers import models
from helpers.labs import batch_normalization as lab
from helpers.labs.batch_normalization import sync, verdicts

SMALL = h.Recipe(depth=2, width=16, norm="batch", batch_size=20, epochs=2)


@pytest.fixture(scope="module")
def digits():
    return h.load("digits", n_train=200)


@pytest.fixture(scope="module")
def net(digits):
    return h.train_one(SMALL, digits)[0]


def gap(a, b):
    return (a - b).detach().abs().max().item()


def test_batch_norm_of_four_numbers():
    x = torch.tensor([[1.0], [3.0], [5.0], [7.0]], dtype=torch.float64)
    y = lab.batch_norm(x, torch.tensor([2.0]), torch.tensor([1.0]), eps=0.0)
    assert y[:, 0].tolist() == pytest.approx([1 + 2 * v / 5**0.5 for v in (-3, -1, 1, 3)])


@pytest.mark.parametrize("shape", [(12, 5), (6, 5, 3, 4)])
def test_batch_norm_and_its_memory_equal_torch(shape):
    draw = torch.Generator().manual_seed(0)
    layer = (nn.BatchNorm1d(5) if len(shape) == 2 else nn.BatchNorm2d(5)).double()
    layer.weight.data, layer.bias.data = (torch.randn(5, generator=draw, dtype=torch.float64) for _ in range(2))
    x = torch.randn(shape, generator=draw, dtype=torch.float64) * 3 + 1
    assert gap(lab.batch_norm(x, layer.weight, layer.bias), layer(x)) < 1e-12
    values = x.transpose(0, 1).flatten(1)
    assert gap(lab.remember(torch.zeros(5).double(), values.mean(1)), layer.running_mean) < 1e-12
    assert gap(lab.remember(torch.ones(5).double(), values.var(1, correction=1)), layer.running_var) < 1e-12


@pytest.mark.parametrize("recipe", [SMALL, h.Recipe(model="cnn", depth=8, width=4, norm="batch")])
def test_one_ghost_of_the_whole_batch_is_batch_norm(digits, recipe):
    model = h.training.fresh_model(recipe, digits).double().train()
    ghost = lab.ghosts(model, 20)
    x = digits.x_train[:20].double()
    for mode in (True, False):
        assert gap(model.train(mode)(x), ghost.train(mode)(x)) < 1e-10
    stored = [m.running_var for m in ghost.modules() if isinstance(m, lab.GhostBatchNorm)]
    assert stored and all(gap(m.running_var, v) < 1e-10 for m, v in zip(norms(model), stored, strict=True))


def norms(model):
    return [m for m in model.modules() if isinstance(m, lab.BN)]


def test_ghosts_are_separate_batches():
    layer, x = lab.GhostBatchNorm(3, 2), torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    apart = torch.cat([lab.batch_norm(part, torch.ones(3), torch.zeros(3)) for part in x.split(2)])
    assert gap(layer(x), apart) < 1e-6
    with pytest.raises(ValueError, match="size=1 is not allowed"):
        lab.GhostBatchNorm(3, 1)


def test_shaken_is_batch_norm_in_evaluation_and_another_layer_in_every_step():
    plain, shaken, x = nn.BatchNorm1d(4), lab.ShakenBatchNorm(4, 0.5, key=1), torch.randn(8, 4)
    first, second = shaken(x), shaken(x)
    assert gap(first, second) > 1e-3 and gap(first, plain(x)) > 1e-3
    assert first.mean(0).abs().max() <= 0.5 + 1e-5
    plain(x)
    assert gap(plain.eval()(x), shaken.eval()(x)) < 1e-6
    assert gap(lab.ShakenBatchNorm(4, 0.0, key=1)(x), nn.BatchNorm1d(4)(x)) < 1e-6


def test_folding_equals_torch_and_the_network(digits, net):
    mine = lab.fold(net[1], net[2])
    theirs = nn.utils.fusion.fuse_linear_bn_eval(net[1].eval(), net[2].eval())
    assert gap(mine.weight, theirs.weight) < 1e-6 and gap(mine.bias, theirs.bias) < 1e-6
    short = lab.folded(net)
    assert not norms(short) and gap(short(digits.x_val), net.eval()(digits.x_val)) < 1e-4
    cnn = h.training.fresh_model(h.Recipe(model="cnn", depth=8, width=4, norm="batch"), digits).double()
    lab.again(cnn, digits.x_train.double())
    assert gap(lab.folded(cnn)(digits.x_val.double()), cnn(digits.x_val.double())) < 1e-10
    after = h.training.fresh_model(SMALL.but(norm_place="after"), digits)
    with pytest.raises(ValueError, match="cannot be folded: a BatchNorm1d follows ReLU; it must follow a Linear"):
        lab.folded(after)


def test_statistics_again_make_evaluation_equal_to_one_large_batch(digits, net):
    model, x = copy.deepcopy(net).double(), digits.x_train.double()
    lab.again(model, x)
    assert norms(model)[0].momentum == 0.1 and not model.training
    n = len(x)
    first = model[1](x.flatten(1))
    assert gap(norms(model)[0].running_mean, first.mean(0)) < 1e-10
    assert gap(norms(model)[0].running_var, first.var(0)) < 1e-10
    assert gap(model.eval()(x), copy.deepcopy(model).train()(x)) < 20 / n  # they differ by the factor n / (n - 1)


def test_modes(digits, net):
    found = lab.modes(net, digits.x_val, digits.y_val)
    assert tuple(found) == lab.MODES
    n = len(digits.x_val) // 2 * 2
    assert found["stored statistics"] == pytest.approx(
        lab.accuracy(net, digits.x_val[:n], digits.y_val[:n]).item(), abs=1e-6
    )
    untrained = lab.replaced(net, lambda layer, i: nn.BatchNorm1d(layer.num_features))  # mean 0, variance 1
    assert lab.modes(untrained, digits.x_val, digits.y_val)["no layer at all"] == pytest.approx(
        found["no layer at all"], abs=1e-6
    )


def test_train_from_equals_the_training_loop(digits):
    recipes = [SMALL.but(lr=0.1), SMALL.but(lr=0.3, seed=1)]
    *_, (epoch, stack, loss) = lab.train_from(lab.members(recipes, digits), recipes, digits)
    assert epoch == 2
    for i, recipe in enumerate(recipes):
        model, curve = h.train_one(recipe, digits)
        assert loss[i].item() == pytest.approx(curve[-1]["train_loss"], rel=1e-3)
        assert gap(stack.unstack(i).eval()(digits.x_val), model.eval()(digits.x_val)) < 1e-2


def test_sweep_has_every_cell_and_the_scores_of_the_loop(digits):
    table, kept = lab.sweep(
        SMALL, digits, factors=[1.0, 10.0], rates=[0.1], seeds=2, tuning=1,
        keep=lambda r, f: r.norm == "batch" and f == 10 and r.seed == 1,
    )  # fmt: skip
    assert len(table) == 2 * 2 * 3 and table["seed"].max() == 10_000
    _, curve = h.train_one(SMALL.but(lr=0.1), digits)
    row = table[(table["norm"] == "batch") & (table["factor"] == 1) & (table["seed"] == 0)].iloc[0]
    assert row["val_accuracy"] == pytest.approx(curve[-1]["val_accuracy"], abs=0.01)
    ((recipe, factor), model), *rest = kept.items()
    assert (recipe.seed, factor, rest) == (1, 10.0, []) and isinstance(model, nn.Module)


def test_scaled_leaves_the_last_layer_alone(digits):
    start = h.training.fresh_model(SMALL, digits)
    wide = lab.scaled(copy.deepcopy(start), 3.0)
    ratios = [
        (b.weight / a.weight).mean().item()
        for a, b in zip(models.weight_layers(start), models.weight_layers(wide), strict=True)
    ]
    assert ratios == pytest.approx([3, 3, 1], rel=1e-4)


def made_up(**columns):
    return pd.DataFrame(columns)


def test_tuned_chooses_on_the_spare_seeds_alone():
    table = made_up(
        norm=["a"] * 4, lr=[0.1, 0.3, 0.1, 0.3], seed=[0, 0, 10_000, 10_000],
        val_accuracy=[0.9, 0.1, 0.2, 0.8], test_accuracy=[0.95, 0.15, 0.0, 0.0],
    )  # fmt: skip
    best = lab.tuned(table, ["norm"])
    assert best[["lr", "test_accuracy"]].values.tolist() == [[0.3, 0.15]]
    assert lab.at_edge(best, ["norm"]) == ["a"]
    assert lab.at_edge(best.assign(highest=1.0), ["norm"]) == []


def test_pairs_and_usable():
    scores = made_up(norm=["a", "a", "b", "b"], seed=[1, 0, 0, 1], test_accuracy=[0.5, 0.4, 0.1, 0.1])
    assert lab.pairs(scores, {"norm": "a"}, {"norm": "b"}).tolist() == pytest.approx([0.3, 0.4])
    table = made_up(
        norm=["batch"] * 4, factor=[1.0] * 4, seed=[0, 0, 1, 1], lr=[0.1, 1.0] * 2, train_loss=[0.5, 0.9, 3.0, np.nan]
    )
    assert verdicts.usable(table, "batch").tolist() == pytest.approx([0.0, -1.5])


def test_roughness_of_a_linear_loss_step_by_hand():
    model = nn.Linear(1, 2, bias=False)
    model.weight.data = torch.tensor([[0.0], [0.0]])
    x, y = torch.ones(1, 1), torch.tensor([0])
    # gradient (-1/2, 1/2); after a step of 0.4 the logits are (0.2, -0.2)
    ends = [np.log(1 + np.exp(-v)) for v in (0.0, 0.4)]
    assert lab.roughness(model, x, y) == pytest.approx(ends[0] - ends[1], rel=1e-5)
    assert gap(model.weight, torch.zeros(2, 1)) == 0


def test_watch_drifts_less_with_batch_norm(digits):
    plain, batch, shaken = (
        lab.watch(SMALL.but(norm=n), digits, seeds=2, n=50, shaken=s)
        for n, s in (("none", None), ("batch", None), ("batch", 0.5))
    )
    assert list(plain["epoch"]) == [0, 0, 1, 1, 2, 2] and plain["drift"].isna().sum() == 2
    assert batch["drift"].max() < plain["drift"].min() and batch["drift"].max() < shaken["drift"].min()


def test_decay_shortens_the_weights_and_raises_the_effective_rate(digits):
    table = lab.norms(SMALL, digits, decays=[0.0, 0.1], seeds=1)
    last = table[table["epoch"] == 2].set_index("weight_decay")
    assert last.loc[0.1, "length"] < last.loc[0.0, "length"]
    assert last.loc[0.1, "effective_rate"] == pytest.approx(SMALL.lr / last.loc[0.1, "length"] ** 2)


def test_gradients_with_batch_norm_do_not_depend_on_the_factor(digits):
    arms = {"bn": SMALL, "plain": SMALL.but(norm="none")}
    table = lab.gradients(digits, arms, depths=[4], factors=[1.0, 9.0], seeds=1)
    batch = [lab.imbalance(table, "bn", 4, f)[0] for f in (1.0, 9.0)]
    plain = [lab.imbalance(table, "plain", 4, f)[0] for f in (1.0, 9.0)]
    assert batch[0] == pytest.approx(batch[1], abs=0.02)
    assert plain[1] - plain[0] == pytest.approx(3 * np.log10(9), abs=0.3)  # three layers lie between


def test_dropout_makes_the_stored_variance_too_large(digits):
    base = SMALL.but(epochs=8, width=32)
    shift = lab.variance_shift(base, digits, shares=[0.0, 0.5], seeds=1).set_index("dropout")["shift"]
    assert shift[0.5] > 1.4 * shift[0.0]


def test_small_batches_and_cards_have_every_cell(digits):
    table = lab.small_batches(
        h.Recipe(depth=1, width=8, n_train=40), digits, rates={4: [0.1, 0.3], 20: [0.3, 1.0]},
        norms=["none", "batch"], seeds=2, tuning=1, steps=6, passes=1,
    )  # fmt: skip
    assert len(table) == 2 * 2 * 2 * 3
    assert table.groupby("batch_size")["epochs"].max().to_dict() == {4: 1, 20: 3}
    eight = lab.cards(
        SMALL.but(n_train=64), digits, per_card=[2, 8], n_cards=4, rates=[0.1], seeds=2, tuning=1, passes=1, steps=4
    )
    assert len(eight) == 2 * 2 * 3 and set(eight["statistics"]) == {"per card", "synchronized"}


def test_the_gradient_crosses_between_two_processes():
    found = sync.two_cards(repeats=3, rows=8, features=2, timeout=60)
    if found["reason"]:
        pytest.skip(found["reason"])
    assert max(found["sync"].values()) < 1e-12 < 0.1 < min(found["local"].values())
    assert found["crossing_sync"] > 1e-3 and found["crossing_local"] == 0
    assert len(found["seconds"]) == 3 and (found["seconds"] > 0).all().all()
    ledger = h.Ledger()
    verdicts.judge_cards(ledger, found)
    assert {v.id: v.verdict for v in ledger.verdicts() if v.id != "BN-15"} == {"BN-14": "TRUE", "BN-16": "FALSE"}


def test_where_processes_cannot_meet_the_chapter_says_so(monkeypatch):
    monkeypatch.setattr(sync.dist, "is_available", lambda: False)
    found, ledger = sync.two_cards(), h.Ledger()
    assert "torch.distributed" in found["reason"]
    assert verdicts.judge_cards(ledger, found).startswith("Not measured here") and ledger.verdicts() == []
    monkeypatch.undo()
    monkeypatch.setattr(sync, "_script", lambda: "raise SystemExit(3)")
    assert "could not meet" in sync.two_cards(repeats=2)["reason"]
    with pytest.raises(ValueError, match="rows=3 is not allowed"):
        sync.two_cards(rows=3)


def test_formulas_of_the_sources(digits):
    ledger = h.Ledger()
    verdicts.judge_formulas(ledger, digits)
    got = {v.id: v.verdict for v in ledger.verdicts()}
    assert got == {
        "BN-01": "DEPENDS", "BN-02": "FALSE", "BN-03": "TRUE", "BN-06": "TRUE", "BN-07": "FALSE", "BN-11": "TRUE",
        "BN-12": "TRUE", "BN-13": "FALSE",
    }  # fmt: skip


def test_a_gain_must_reach_the_margin():
    assert verdicts.gain("x", [0.03, 0.031, 0.032], least=0.02).holds is True
    assert verdicts.gain("x", [0.001, 0.0011, 0.0012], least=0.02).holds is False
    assert verdicts.no_loss("x", [-0.001, 0.001, 0.0]).holds is True
    assert verdicts.no_loss("x", [-0.1, -0.11, -0.12]).holds is False
    assert "mean 3.1 points" in verdicts.gain("x", [0.03, 0.031, 0.032]).sentence
