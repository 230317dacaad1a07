import pytest
import torch

from helpers import models


def test_mlp_has_the_layers_asked_for():
    net = models.mlp((1, 8, 8), 10, depth=3, width=16)
    shapes = [tuple(layer.weight.shape) for layer in models.weight_layers(net)]
    assert shapes == [(16, 64), (16, 16), (16, 16), (10, 16)]
    assert net(torch.zeros(5, 1, 8, 8)).shape == (5, 10)


def test_depth_zero_is_softmax_regression():
    net = models.mlp((7,), 3, depth=0)
    assert [tuple(p.shape) for p in net.parameters()] == [(3, 7), (3,)]


def test_batch_norm_is_there_only_when_asked_for():
    kinds = [type(m).__name__ for m in models.mlp((4,), 2, depth=2, norm="batch")]
    assert kinds.count("BatchNorm1d") == 2
    assert not any("BatchNorm" in type(m).__name__ for m in models.mlp((4,), 2, depth=2))


def test_lenet5_has_the_parameters_of_the_modern_form():
    net = models.lenet5((1, 28, 28), 10)
    assert sum(p.numel() for p in net.parameters()) == 61_706
    assert net(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: models.build("lenet", (1, 28, 28), 10), "model='lenet' is not known; .* Did you mean 'lenet5'"),
        (lambda: models.mlp((4,), 2, activation="rellu"), "activation='rellu' is not known; .* Did you mean 'relu'"),
        (lambda: models.mlp((4,), 2, norm="batchnorm"), "norm='batchnorm' is not known; choose one of 'none', 'batch'"),
        (lambda: models.lenet5((64,), 10), r"model='lenet5' needs images .* got \(64,\); use model='mlp'"),
        (lambda: models.mlp((4,), 2, depth=-1), "depth=-1 is not allowed: depth must be a whole number, at least 0"),
    ],
)
def test_bad_input(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
