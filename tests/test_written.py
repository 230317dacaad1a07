"""Which networks are written out: those that are, layer for layer, and those that only look alike."""

from __future__ import annotations

import pytest
from torch import nn

from helpers import blocks, dense, models, normed, written


def kinds(layers):
    return [type(layer) for layer in layers]


def test_perceptrons_and_lenets_that_average_are_written_out():
    for model, acts in (
        (models.mlp((5,), 4, depth=2, activation="elu"), [nn.ELU, nn.ELU, nn.Identity]),
        (models.mlp((1, 8, 8), 10, depth=0), [nn.Identity]),
        (models.lenet5((1, 28, 28), 10, activation="tanh"), [nn.Tanh] * 4 + [nn.Identity]),
    ):
        found = [(layer.act, layer.act_backward) for layer in written.layers(model)]
        assert found == [dense.ACTIVATIONS[a] for a in acts]


@pytest.mark.parametrize("norm", blocks.NORMS)
@pytest.mark.parametrize("shortcut", blocks.SHORTCUTS)
def test_so_is_every_perceptron_of_the_book(norm, shortcut):
    model = models.mlp((5,), 4, depth=3, width=6, norm=norm, shortcut=shortcut, dropout=0.1)
    layers = written.layers(model)
    assert layers and type(layers[-1]) is dense.Full
    assert (normed.Added in kinds(layers)) == (shortcut != "none")


def test_a_layer_knows_its_place_among_the_parameters():
    linear, batch, full = written.layers(models.mlp((5,), 4, depth=1, norm="batch"))
    assert (linear.at, batch.at, batch.buffer, full.at) == (0, 2, 0, 4)


def test_other_networks_are_left_to_torch():
    twice = nn.Linear(5, 5)
    others = [
        models.lenet5((1, 28, 28), 10, pool="max"), models.lenet5((1, 28, 28), 10, norm="batch"),
        models.cnn((1, 8, 8), 10), models.rnn((5, 3), 2), nn.Flatten(), nn.Sequential(),
        nn.Sequential(nn.Linear(5, 4), nn.PReLU(), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(5, 5), twice, nn.ReLU(), twice, nn.Linear(5, 2)),
        nn.Sequential(nn.Linear(5, 4, bias=False)), nn.Sequential(nn.Linear(5, 4), nn.ReLU()),
        nn.Sequential(nn.ReLU(), nn.Linear(5, 4)), nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.5), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(5, 4), nn.LayerNorm((3, 4)), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4, bias=False), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, momentum=None), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(5, 5), blocks.Residual(nn.GELU(), nn.Sequential(), nn.ReLU()), nn.Linear(5, 2)),
        nn.Sequential(nn.Linear(5, 5), blocks.Residual(nn.Linear(5, 5), nn.Identity(), nn.GELU()), nn.Linear(5, 2)),
    ]  # fmt: skip
    assert [written.layers(m) for m in others] == [[]] * len(others)


def test_a_network_that_only_looks_like_a_lenet_is_left_to_torch():
    def net(conv=None, pool=None, between=(), end=None):
        conv, pool = conv or nn.Conv2d(1, 2, 3), pool or nn.AvgPool2d(2)
        return nn.Sequential(conv, nn.ReLU(), *between, pool, *(end or [nn.Flatten(), nn.Linear(18, 4)]))

    assert len(written.layers(net())) == 2
    for other in (
        net(nn.Conv2d(1, 2, 2)), net(nn.Conv2d(1, 2, (3, 5))), net(nn.Conv2d(1, 2, 3, stride=2)),
        net(nn.Conv2d(1, 2, 3, padding=(1, 0))), net(nn.Conv2d(1, 2, 3, dilation=2)), net(nn.Conv2d(2, 2, 3, groups=2)),
        net(nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect")), net(nn.Conv2d(1, 2, 3, bias=False)),
        net(nn.Conv2d(1, 2, 3, padding="same")), net(pool=nn.AvgPool2d(3)), net(pool=nn.AvgPool2d(2, stride=1)),
        net(pool=nn.AvgPool2d(2, padding=1)), net(pool=nn.AvgPool2d(2, ceil_mode=True)), net(pool=nn.MaxPool2d(2)),
        net(pool=nn.AvgPool2d(2, count_include_pad=False, padding=1)), net(pool=nn.AvgPool2d(2, divisor_override=3)),
        net(between=[nn.BatchNorm2d(2)]), net(end=[nn.Linear(3, 4)]), net(end=[nn.Flatten()]),
        net(end=[nn.Flatten(0), nn.Linear(18, 4)]), net(end=[nn.Flatten(), nn.Dropout(), nn.Linear(18, 4)]),
    ):  # fmt: skip
        assert written.layers(other) == [], other
