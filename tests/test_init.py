import math

import pytest
import torch

from helpers import data, init, models


def big_layer(name, scale=1.0, fan_in=400, fan_out=600):
    net = models.mlp((fan_in,), fan_out, depth=0)
    return init.initialize(net, name, scale=scale)[1].weight.detach()


@pytest.mark.parametrize(
    ("name", "sd"),
    [
        ("zero", 0.0),
        ("normal", 1.0),
        ("uniform", 1 / math.sqrt(3)),
        ("truncated_normal", 0.8796),  # sd of a standard normal cut at ±2
        ("xavier", math.sqrt(2 / 1000)),
        ("xavier_uniform", math.sqrt(2 / 1000)),
        ("he", math.sqrt(2 / 400)),
        ("he_uniform", math.sqrt(2 / 400)),
        ("torch", 1 / math.sqrt(3 * 400)),
    ],
)
def test_spread_is_the_published_one(name, sd):
    w = big_layer(name)
    assert w.std().item() == pytest.approx(sd, rel=0.01, abs=1e-12)
    assert abs(w.mean().item()) <= 0.01 * max(sd, 1e-9) + 1e-12


def test_truncated_normal_never_passes_two_sd():
    assert big_layer("truncated_normal").abs().max() <= 2


def test_constant_and_scale():
    assert (big_layer("constant", scale=0.3) == 0.3).all()
    torch.testing.assert_close(big_layer("he", scale=3.0), 3 * big_layer("he"))


def test_orthogonal_keeps_lengths():
    w = big_layer("orthogonal", fan_in=64, fan_out=64)
    torch.testing.assert_close(w @ w.T, torch.eye(64), atol=1e-5, rtol=0)


def test_pca_looks_along_principal_axes_with_he_norms():
    digits = data.load("digits")
    net = init.initialize(models.mlp((1, 8, 8), 10, depth=1, width=16), "pca", x=digits.x_train)
    w = models.weight_layers(net)[0].weight.detach()
    unit = w / w.norm(dim=1, keepdim=True)
    torch.testing.assert_close(unit @ unit.T, torch.eye(16), atol=1e-4, rtol=0)  # principal axes are orthogonal
    x = digits.x_train[: init.BATCH].flatten(1)
    spread = ((x - x.mean(0)) @ unit.T).var(0)
    assert (spread[:-1] >= spread[1:] - 1e-4).all()  # in order of variance
    assert w.norm(dim=1).mean().item() == pytest.approx(math.sqrt(2), rel=0.15)


def test_lsuv_gives_every_layer_unit_variance():
    digits = data.load("digits")
    net = init.initialize(models.mlp((1, 8, 8), 10, depth=6, activation="tanh"), "lsuv", x=digits.x_train)
    for layer in models.weight_layers(net):
        assert init._output(net, layer, digits.x_train[: init.BATCH]).std().item() == pytest.approx(1, abs=0.02)


def test_biases_start_at_zero_and_seeds_repeat():
    first = init.initialize(models.mlp((4,), 3), "he", seed=5)
    again = init.initialize(models.mlp((4,), 3), "he", seed=5)
    other = init.initialize(models.mlp((4,), 3), "he", seed=6)
    weights = [torch.cat([p.flatten() for p in net.parameters()]) for net in (first, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert all((layer.bias == 0).all() for layer in models.weight_layers(first))


def test_prior_bias_says_how_common_each_class_is():
    net, labels = models.mlp((4,), 3, depth=1), torch.tensor([0] * 70 + [1] * 20 + [2] * 10)
    torch.nn.init.zeros_(models.weight_layers(net)[-1].weight)
    share = torch.tensor([70.5, 20.5, 10.5]) / 101.5  # half an example for each class, so that no share is 0
    init.prior_bias(net, labels, 3, odds=False)
    torch.testing.assert_close(net(torch.randn(1, 4)).softmax(-1)[0], share)
    init.prior_bias(net, labels, 3, odds=True)
    torch.testing.assert_close(net(torch.randn(1, 4)).sigmoid()[0], share)


def test_bad_input():
    with pytest.raises(ValueError, match="init='xaver' is not known; .* Did you mean 'xavier'"):
        init.initialize(models.mlp((4,), 3), "xaver")
    with pytest.raises(ValueError, match="init='pca' looks at data: pass x, a tensor of training inputs"):
        init.initialize(models.mlp((4,), 3), "pca")
