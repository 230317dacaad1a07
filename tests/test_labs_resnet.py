"""The measurements of the chapter on residual networks, held to closed forms, to torch, and to the training loop."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import helpers as h
from helpers import blocks, training
from helpers.labs import resnet as lab

SMALL = h.Recipe(width=8, optimizer="momentum", batch_size=50, epochs=2)


@pytest.fixture(scope="module")
def digits():
    return h.load("digits", n_train=100)


@pytest.fixture(scope="module")
def raced(digits):
    entrants = lab.arms(SMALL, "plain", "residual, zero start")
    return lab.race(entrants, digits, depth=[3, 5], lr=[0.01, 0.05], seeds=2, tuning_seeds=1, test="verdict in a test")


def test_arms_differ_in_the_block_alone():
    made = lab.arms(SMALL, *lab.BLOCKS)
    assert made["plain"] == SMALL
    assert made["residual"].differs(SMALL) == ("shortcut",)
    assert set(made["residual, zero start"].differs(SMALL)) == {"shortcut", "branch_scale"}
    with pytest.raises(ValueError, match="block='resdual' is not known; .* Did you mean 'residual'"):
        lab.arms(SMALL, "resdual")


@pytest.mark.parametrize("block", ["plain", "residual, zero start"])
def test_a_race_trains_as_the_loop_does(raced, digits, block):
    rate = raced.rates[block, 5]
    recipe = lab.arms(SMALL, block)[block].but(depth=5, lr=rate, seed=1)
    model, curve = h.train_one(recipe, digits)
    row = raced.ends[(raced.ends["block"] == block) & (raced.ends["depth"] == 5) & (raced.ends["seed"] == 1)].iloc[0]
    assert row["train_loss"] == pytest.approx(curve[-1]["train_loss"], rel=1e-4)
    mine = raced.models[block, 5][1]
    assert torch.allclose(mine(digits.x_val), model(digits.x_val), atol=1e-4)


def test_the_rate_is_the_best_on_validation_images_of_seeds_that_do_not_compare(raced):
    c = raced.curves
    spare = c[(c["seed"] >= 10_000) & (c["epoch"] == 2) & (c["block"] == "plain") & (c["depth"] == 3)]
    assert len(spare) == 2 and spare.loc[spare["val_accuracy"].idxmax(), "lr"] == raced.rates["plain", 3]
    assert set(raced.ends["seed"]) == {0, 1} and len(raced.ends) == 8


def test_the_test_set_is_read_by_final_models_only(raced, digits):
    x, y = digits.open_test("a test")
    right = (raced.models["plain", 3][0](x).argmax(1) == y).float().mean().item()
    assert raced.scores("test_accuracy", "plain", 3)[0] == pytest.approx(right)
    assert not any(k.startswith("test") for k in raced.curves)


def test_pairs_and_sums_of_races(raced, digits):
    pair = raced.pair("plain", "residual, zero start", 5, score="train_loss")
    by_hand = raced.scores("train_loss", "residual, zero start", 5) - raced.scores("train_loss", "plain", 5)
    assert pair.interval().mean == pytest.approx(by_hand.mean())  # less is better, so the sign is turned
    more = raced + lab.race(lab.arms(SMALL, "projection"), digits, depth=[3], lr=[0.01], seeds=2, tuning_seeds=1)
    assert len(more.ends) == len(raced.ends) + 2 and ("projection", 3) in more.models
    with pytest.raises(ValueError, match="block='projection' at depth=5 did not run; choose one of: plain at depth 3"):
        raced.scores("train_loss", "projection", 5)
    with pytest.raises(ValueError, match="give at least one of each"):
        lab.race(lab.arms(SMALL, "plain"), digits, depth=[], lr=[0.1], seeds=2)


def test_rises_compares_the_deepest_with_the_shallowest():
    ends = pd.DataFrame(
        [{"block": "plain", "depth": d, "seed": s, "train_loss": d + 0.1 * s} for d in (3, 9) for s in range(3)]
    )
    made = lab.Race(pd.DataFrame(), ends, {("plain", 3): 0.1, ("plain", 9): 0.1}, (0.1,), {})
    assert lab.rises("loss", made, "plain", margin=0.05).sentence.startswith("loss: mean 6,")


def test_dissociation_puts_ratio_and_success_side_by_side(raced):
    flow = pd.DataFrame([{"block": b, "depth": d, "seed": 0, "layer": 1, "gradient": 0.01} for b, d in raced.rates])
    table = lab.dissociation(raced, flow)
    assert table["ratio"].tolist() == pytest.approx([-2] * 4)
    assert table["train_accuracy"].max() <= 1


def test_gradient_flow_of_an_empty_branch_is_that_of_the_shallow_network(digits):
    flow = lab.gradient_flow(lab.arms(SMALL, "plain", "residual, zero start"), digits, depth=[3, 9], seeds=2)
    zero = flow[(flow["block"] == "residual, zero start") & (flow["depth"] == 9)]
    assert zero["layer"].unique().tolist() == [1, 3, 5, 7, 9]
    inner = zero[zero["layer"] > 1].groupby("seed")["gradient"]
    assert (inner.max() / inner.min()).max() == pytest.approx(1)  # nothing is changed on the way
    scales = h.layer_scales(SMALL.but(depth=3), digits, seeds=1, n=128).set_index("layer")["gradient"]
    plain = flow[(flow["block"] == "plain") & (flow["depth"] == 3) & (flow["seed"] == 0)].set_index("layer")["gradient"]
    assert plain[1] == pytest.approx(scales[1] / scales[4]) and plain[3] == pytest.approx(scales[3] / scales[4])
    with pytest.raises(ValueError, match="block='projection' is not allowed here"):
        lab.gradient_flow(lab.arms(SMALL, "projection"), digits, depth=[3], seeds=1)


def test_milder_counts_decades_in_both_directions():
    def flow(plain, residual):
        rows = [("plain", s, plain * (1 + 0.01 * s)) for s in range(3)]
        rows += [("residual", s, residual * (1 + 0.01 * s)) for s in range(3)]
        return pd.DataFrame([{"block": b, "depth": 5, "seed": s, "layer": 1, "gradient": g} for b, s, g in rows])

    assert lab.milder(flow(1e-6, 0.1), 5).holds is True
    assert lab.milder(flow(1e5, 10.0), 5).holds is True
    assert lab.milder(flow(1.0, 1e3), 5).holds is False


def test_a_linear_network_does_not_shatter(digits):
    straight = SMALL.but(activation="linear")
    table = lab.shattering(lab.arms(straight, "plain"), digits, depth=[9], seeds=2, points=9)
    assert len(table) == 18 and table["alike"].min() > 0.9999
    assert (table["slope"].abs() - 1).abs().max() < 1e-3


def test_relu_networks_shatter_with_depth(digits):
    table = lab.shattering(lab.arms(SMALL.but(norm="batch", width=24), "plain"), digits, depth=[1, 25], seeds=4)
    alike = table.groupby("depth")["alike"].mean()
    assert alike[1] > 0.8 and alike[25] < 0.5


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("block", ["plain", "residual", "pre-activation"])
def test_without_takes_a_pair_of_layers_out(digits, norm, block):
    model = training.fresh_model(lab.arms(SMALL.but(norm=norm), block)[block].but(depth=5), digits).eval()
    x, cut = digits.x_val[:5], lab.without(model, [1])
    if block == "plain":
        body = [m for m in model if isinstance(m, nn.Linear)]
        seen = []
        handles = [layer.register_forward_hook(lambda m, a, o: seen.append(m)) for layer in body]
        cut(x)
        [handle.remove() for handle in handles]
        assert seen == [body[0], body[1], body[2], body[5]]
    else:
        parts = [m for m in model if isinstance(m, blocks.Residual)]
        parts[1].branch[-1].weight.data.zero_()
        parts[1].branch[-1].bias.data.zero_()
        assert torch.allclose(cut(x), model(x), atol=1e-6)
    assert torch.equal(lab.without(model, [])(x), model(x))


def test_without_leaves_the_model_whole_and_names_the_pairs(digits):
    model = training.fresh_model(lab.arms(SMALL, "residual")["residual"].but(depth=5), digits).eval()
    before = model(digits.x_val[:5])
    lab.without(model, [0, 1])
    assert torch.equal(model(digits.x_val[:5]), before)
    with pytest.raises(ValueError, match=r"deleted=\[2\] is not allowed: the network has the pairs 0 to 1"):
        lab.without(model, [2])


def test_lesions_begin_with_the_whole_network(raced, digits):
    table = lab.lesions(raced, digits, ["plain", "residual, zero start"], depth=[5])
    whole = table[table["deleted"] == 0].set_index(["block", "seed"])["val_accuracy"]
    assert whole["plain", 0] == pytest.approx(raced.scores("val_accuracy", "plain", 5)[0])
    assert sorted(table["deleted"].unique()) == [0, 1, 2]
    by_hand = table[(table["block"] == "plain") & (table["seed"] == 1)].set_index("deleted")["val_accuracy"]
    assert lab.lost(table, "plain", 5)[1] == pytest.approx(by_hand[0] - (by_hand[1] + by_hand[2]) / 2)


def test_a_direction_has_the_length_of_each_filter():
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))
    step = lab.direction(model, 0)
    for name, p in model.named_parameters():
        if p.dim() > 1:
            assert torch.allclose(step[name].flatten(1).norm(dim=1), p.detach().flatten(1).norm(dim=1), rtol=1e-5)
        else:
            assert (step[name] == 0).all()
    assert not torch.equal(step["0.weight"], lab.direction(model, 1)["0.weight"])


def test_losses_along_equal_a_moved_model(digits):
    model = training.fresh_model(SMALL.but(norm="batch", depth=3), digits)
    steps, x, y = [lab.direction(model, 0), lab.direction(model, 1)], digits.x_train, digits.y_train
    found = lab.losses_along(model, steps, torch.tensor([[0.0, 0.0], [0.5, -0.25]]), x, y)
    model.eval()
    assert found[0].item() == pytest.approx(nn.functional.cross_entropy(model(x), y).item(), rel=1e-5)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p += 0.5 * steps[0][name] - 0.25 * steps[1][name]
    assert found[1].item() == pytest.approx(nn.functional.cross_entropy(model(x), y).item(), rel=1e-5)


def test_surface_and_rays_start_at_the_trained_weights(raced, digits):
    land = lab.surface(raced, digits, ["plain"], depth=[3], points=5, n=100)
    assert len(land) == 25
    centre = land[(land["first"] == 0) & (land["second"] == 0)]["loss"].item()
    model = raced.models["plain", 3][0].eval()
    assert centre == pytest.approx(nn.functional.cross_entropy(model(digits.x_train), digits.y_train).item(), rel=1e-4)
    shape = lab.rays(raced, digits, ["plain"], depth=[3], directions=2, points=5, n=100)
    assert len(shape) == 2 and shape["roughness"].between(0, 1).all() and (shape["steepness"] > 0).all()


def test_roles_of_branch_and_shortcut(digits):
    role = lab.roles(digits)
    assert (role["sum"], role["no_branch"], role["no_shortcut"]) == pytest.approx((0, 0, 0), abs=1e-6)
    assert role["weights_shortcut"] == 0 and role["weights_branch"] == 2 * (9 * 16 * 16 + 16)
    assert role["projection_shape"] == 1


def test_price_counts_the_weights_of_the_projections(digits):
    cnn = h.Recipe(model="cnn", depth=8, width=4, batch_size=10)
    table = lab.price(lab.arms(cnn, "plain", "residual", "projection"), digits, repeats=2, warm_up=1)
    count = table.groupby("block")["parameters"].first()
    widened = (4 * 8 + 8) + (8 * 16 + 16)
    assert count["residual"] - count["plain"] == widened
    assert count["projection"] - count["plain"] == widened + (4 * 4 + 4)
    assert len(table) == 6 and (table["seconds"] > 0).all()


def test_lost_is_zero_when_nothing_is_lost():
    rows = [{"block": "b", "depth": 3, "seed": s, "deleted": k, "val_accuracy": 0.9} for s in (0, 1) for k in (0, 1)]
    assert np.allclose(lab.lost(pd.DataFrame(rows), "b", 3), 0)
