import math

import pytest
import torch
from torch import nn

from helpers import data, losses, models, probe, surfaces, training
from helpers.recipe import Recipe


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def test_scales_of_a_linear_net_by_hand():
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        net[1].weight.copy_(torch.eye(2) * 3)
        net[2].weight.copy_(torch.eye(2) * 2)
    x, y = torch.tensor([[1.0, -1.0]]), torch.tensor([0])
    rows = probe.model_scales(net, x, y, losses.cross_entropy)
    p = math.exp(-6) / (math.exp(6) + math.exp(-6))  # probability of the wrong class; logits are (6, -6)
    assert [r["signal"] for r in rows] == pytest.approx([3, 6])
    assert [r["gradient"] for r in rows] == pytest.approx([2 * p, p], rel=1e-2)
    assert rows[0]["weight_sd"] == pytest.approx(math.sqrt(3))


def test_he_keeps_the_signal_and_small_weights_lose_it(digits):
    table = probe.layer_scales(Recipe(depth=20, width=256).vary(init_scale=[0.5, 1.0]), digits, seeds=3)
    last = table[table["layer"] == 20].groupby("init_scale")["signal"].mean()
    assert 0.2 < last[1.0] < 5 and last[0.5] < 1e-4
    assert table.groupby("layer").size().tolist() == [6] * 21


def test_zero_weights_give_zero_gradients(digits):
    table = probe.layer_scales(Recipe(depth=3, init="zero"), digits, seeds=1)
    assert table.loc[table["layer"] <= 3, "gradient"].eq(0).all()
    assert table.loc[table["layer"] == 4, "gradient"].gt(0).all()


def test_distinct_units():
    layer = nn.Linear(3, 4)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2, 3], [1, 2, 3], [1, 2, 4], [1, 2, 3]]))
        layer.bias.copy_(torch.tensor([0.0, 0, 0, 1]))
    assert probe.distinct_units(layer) == 3
    assert probe.distinct_units(models.mlp((4,), 5, depth=0)[1]) == 5


def test_input_gradient_of_a_linear_model():
    net = models.mlp((2,), 2, depth=0)
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
    assert probe.input_gradient(net, torch.zeros(4, 2), torch.tensor([0, 0, 1, 1])) == pytest.approx(3.0)


def test_full_loss_trace_follows_the_loop(digits):
    recipe = Recipe(width=8, batch_size=None, n_train=100, epochs=3)
    trace = probe.full_loss_trace(recipe, digits, 3)
    assert trace.shape == (4,)
    _, curve = training.train_one(recipe, digits)  # full batch: its training loss is the loss before each step
    assert trace[:3].tolist() == pytest.approx([p["train_loss"] for p in curve], rel=1e-5)


def test_walk_is_torch_optim_on_the_surface():
    path = surfaces.walk("ravine", "sgd", lr=0.01, steps=3)
    x, y = -9.0, 1.5
    for row in path.itertuples():
        assert (row.x, row.y) == pytest.approx((x, y))
        assert row.loss == pytest.approx(0.5 * (x * x + 50 * y * y))
        x, y = x - 0.01 * x, y - 0.01 * 50 * y


@pytest.mark.parametrize("name", surfaces.SURFACES)
def test_the_lowest_point_is_the_lowest(name):
    place = surfaces.SURFACES[name]
    if place.lowest is None:
        assert name == "saddle"
        return
    at = torch.tensor(place.lowest, dtype=torch.float64, requires_grad=True)
    place.f(*at).backward()
    assert at.grad.abs().max() < 0.2
    x0, x1, y0, y1 = place.window
    xs, ys = torch.meshgrid(torch.linspace(x0, x1, 200), torch.linspace(y0, y1, 200), indexing="ij")
    assert place.f(xs, ys).min() >= place.f(*at).item() - 1e-2
    assert x0 <= place.start[0] <= x1 and y0 <= place.start[1] <= y1


def test_noise_repeats_by_seed_and_walks_away_from_none():
    a, b, c = (surfaces.walk("saddle", "sgd", lr=0.1, noise=0.5, seed=s) for s in (1, 1, 2))
    assert a.equals(b) and not a.equals(c)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: surfaces.walk("canyon", "sgd", lr=0.1), "surface='canyon' is not known; choose one of 'ravine'"),
        (lambda: surfaces.walk("ravine", "sdg", lr=0.1), "optimizer='sdg' is not known; .* Did you mean 'sgd'"),
        (lambda: surfaces.walk("ravine", "sgd", lr=-1), "lr=-1 is not allowed"),
    ],
)
def test_bad_input(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
