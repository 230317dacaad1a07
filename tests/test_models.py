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


def count(net) -> int:
    return sum(p.numel() for p in net.parameters())


def shapes_of(net) -> list[tuple]:
    return [tuple(layer.weight.shape) for layer in models.weight_layers(net)]


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_plain_and_residual_mlps_have_the_same_weight_layers(norm):
    plain, residual = (models.mlp((64,), 10, depth=7, width=16, norm=norm, shortcut=s) for s in ("none", "identity"))
    assert shapes_of(plain) == shapes_of(residual) and count(plain) == count(residual)
    assert count(models.mlp((64,), 10, depth=7, width=16)) == 65 * 16 + 6 * 17 * 16 + 17 * 10
    projected = models.mlp((64,), 10, depth=7, width=16, shortcut="projection")
    assert count(projected) - count(models.mlp((64,), 10, depth=7, width=16)) == 3 * 17 * 16


def test_plain_and_residual_cnns_have_the_same_weight_layers_apart_from_projections():
    plain, residual = (models.cnn((1, 8, 8), 10, depth=14, width=4, shortcut=s) for s in ("none", "identity"))
    extra = [s for s in shapes_of(residual) if s[2:] == (1, 1)]
    assert [s for s in shapes_of(residual) if s[2:] != (1, 1)] == shapes_of(plain)
    assert extra == [(8, 4, 1, 1), (16, 8, 1, 1)] and len(shapes_of(plain)) == 14


@pytest.mark.parametrize("shortcut", ["none", "identity", "projection", "preactivation"])
@pytest.mark.parametrize("norm", ["none", "batch", "layer", "group"])
def test_cnns_of_every_kind_run(shortcut, norm):
    net = models.cnn((3, 9, 8), 5, depth=8, width=4, norm=norm, shortcut=shortcut)
    assert net(torch.zeros(2, 3, 9, 8)).shape == (2, 5)


def test_parameters_of_the_smallest_cnn_by_hand():
    first, last = 9 * 4 + 4, 17 * 10
    stages = 2 * (9 * 16 + 4) + (9 * 32 + 8) + (9 * 64 + 8) + (9 * 128 + 16) + (9 * 256 + 16)
    assert count(models.cnn((1, 8, 8), 10, depth=8, width=4)) == first + stages + last


def test_the_residual_block_equals_the_basic_block_of_torchvision():
    torch.manual_seed(0)
    net = models.cnn((1, 8, 8), 10, depth=8, width=4, norm="batch", shortcut="identity").eval()
    x = torch.rand(3, 4, 8, 8)
    for block in (net[3], net[4]):  # the first block of stage one keeps the shape; that of stage two changes it
        conv1, bn1, _, conv2, bn2 = block.branch
        assert conv1.stride == ((1, 1) if block is net[3] else (2, 2))
        out = bn2(conv2(torch.relu(bn1(conv1(x)))))
        if len(block.shortcut):
            conv, bn = block.shortcut
            expected = torch.relu(out + bn(conv(x)))
        else:
            expected = torch.relu(out + x)
        assert torch.equal(block(x), expected)
        x = block(x)


def test_the_preactivation_block_leaves_its_shortcut_untouched():
    torch.manual_seed(0)
    block = models.mlp((6,), 2, depth=3, width=6, norm="batch", shortcut="preactivation").eval()[2]
    x, (bn1, _, first, bn2, _, second) = torch.randn(5, 6), block.branch
    assert torch.equal(block(x), x + second(torch.relu(bn2(first(torch.relu(bn1(x)))))))


def test_the_recurrent_network_by_hand():
    net = models.rnn((3, 4), 2, width=5)
    assert count(net) == 5 * 4 + 5 + 5 * 5 + 2 * 5 + 2
    x, state = torch.randn(2, 3, 4), torch.zeros(2, 5)
    for t in range(3):
        state = torch.tanh(net.input(x[:, t]) + net.back(state))
    assert torch.allclose(net(x), net.output(state))
    images = models.rnn((2, 7, 3), 4)  # seven rows, each with two channels of three values
    assert images.input.in_features == 6 and images(torch.zeros(5, 2, 7, 3)).shape == (5, 4)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: models.mlp((4,), 2, depth=4, shortcut="identity"), "depth=4 is not .* an odd number .* try depth=5"),
        (lambda: models.cnn((1, 8, 8), 2, depth=9), "depth=9 is not allowed .* 8, 14, 20, .* try depth=8"),
        (lambda: models.cnn((1, 8, 8), 2, depth=20 + 5), "try depth=26"),
        (lambda: models.cnn((64,), 2), "model='cnn' needs images"),
        (lambda: models.rnn((64,), 2), "model='rnn' needs sequences"),
        (lambda: models.mlp((4,), 2, depth=3, shortcut="skip"), "shortcut='skip' is not known"),
    ],
)
def test_what_residual_and_recurrent_networks_refuse(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
