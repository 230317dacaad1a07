"""The 1998 form of LeNet-5, held to the paper's own numbers and to torch's layers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from helpers import init, lenet, losses, models


def test_the_table_is_the_paper_s_sixteen_maps():
    assert [len(seen) for seen in lenet.TABLE] == [3] * 6 + [4] * 9 + [6]
    assert len(set(lenet.TABLE)) == 16 and {i for seen in lenet.TABLE for i in seen} == set(range(6))
    uses = [sum(i in seen for seen in lenet.TABLE) for i in range(6)]
    assert uses == [10] * 6  # Table I: every map of S2 feeds ten maps of C3


def test_codes_are_ten_different_pictures_of_plus_and_minus_one():
    codes = lenet.codes()
    assert codes.shape == (10, 84) and set(codes.unique().tolist()) == {-1.0, 1.0}
    apart = (codes[:, None] != codes).sum(-1) + 84 * torch.eye(10)
    assert apart.min() >= 5
    one = codes[1].view(12, 7)
    assert one[:, 3].tolist() == [1.0] * 12 and one[6].tolist() == [-1, -1, -1, 1, -1, -1, -1]


def test_squash_passes_through_one_and_saturates():
    f = lenet.Squash()
    assert f(torch.tensor([1.0, -1.0])).tolist() == pytest.approx([1, -1], abs=1e-4)
    assert f(torch.tensor(50.0)).item() == pytest.approx(1.7159)


def test_sub_sampling_by_hand():
    layer = lenet.SubSampling(2)
    layer.coefficient.data[:, 0, 0] = torch.tensor([0.5, -1.0])
    layer.bias.data[:, 0, 0] = torch.tensor([1.0, 0.0])
    x = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[1.0, 0.0], [0.0, 1.0]]])[None]
    assert layer(x).flatten().tolist() == [0.5 * 10 + 1, -2.0]


def test_the_partial_convolution_is_sixteen_ordinary_ones():
    torch.manual_seed(0)
    layer, x = lenet.PartialConvolution().double(), torch.randn(3, 6, 14, 14, dtype=torch.float64)
    kernels = [k for part in layer.parts for k in part.weight]
    biases = torch.cat([part.bias for part in layer.parts])
    three = zip(lenet.TABLE, kernels, biases, strict=True)
    alone = [nn.functional.conv2d(x[:, seen], k[None], b[None]) for seen, k, b in three]
    torch.testing.assert_close(layer(x), torch.cat(alone, 1))
    layer(x)[:, 0].sum().backward()
    assert layer.parts[1].weight.grad.abs().max() == 0 < layer.parts[0].weight.grad[0].abs().max()


def test_distances_by_hand():
    layer = lenet.Distances(10)
    assert layer(lenet.codes()).diagonal().abs().max() == 0
    assert layer(torch.zeros(1, 84)).tolist() == [[-84.0] * 10]


def test_sixty_thousand_parameters_and_the_shapes():
    net = models.build("lenet5_1998", (1, 28, 28), 10)
    assert sum(p.numel() for p in net.parameters()) == 60_000
    assert net(torch.randn(2, 1, 28, 28)).shape == (2, 10)
    assert lenet.lenet5_1998((1, 32, 32), 7)(torch.randn(2, 1, 32, 32)).shape == (2, 7)


def test_the_frame_has_the_colour_of_the_border():
    x = torch.full((1, 1, 28, 28), -3.0)
    framed = lenet.Frame()(x)
    assert framed.shape == (1, 1, 32, 32) and (framed == -3).all()
    assert lenet.Frame()(framed) is framed


def test_map_criterion_by_hand():
    # distances 2 and 5, the right class is the first: 2 + log(exp(-0.1) + exp(-2) + exp(-5))
    value = losses.map_criterion(torch.tensor([[-2.0, -5.0]]), torch.tensor([0]))
    assert value.item() == pytest.approx(2 + math.log(math.exp(-0.1) + math.exp(-2) + math.exp(-5)))
    # without the floor (j -> infinity) it is the cross-entropy of minus the distances
    z, y = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0, 1])
    assert losses.map_criterion(z, y, j=1e4).item() == pytest.approx(losses.cross_entropy(z, y).item(), abs=1e-6)


def test_the_first_weights_of_1998_lie_within_their_bound():
    net = init.initialize(models.build("lenet5_1998", (1, 28, 28), 10), "lecun_1998")
    layers = models.weight_layers(net)
    assert [init.fan_in(layer.weight) for layer in layers] == [25, 75, 100, 150, 400, 120]
    for layer in layers:
        bound = 2.4 / init.fan_in(layer.weight)
        assert 0.9 * bound < layer.weight.abs().max() <= bound and layer.bias.abs().max() == 0


def test_pca_sets_a_convolution_along_the_axes_of_its_patches():
    x = torch.randn(70, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    x[:, :, :, 1:] += 2 * x[:, :, :, :-1]  # neighbours agree, so that the axes are well apart
    net = init.initialize(models.lenet5((1, 12, 12), 10), "pca", x=x)
    rows = models.weight_layers(net)[0].weight.detach().flatten(1)
    patches = nn.functional.unfold(x[:64], 5).transpose(1, 2).flatten(0, 1)
    wanted = torch.linalg.eigh(torch.cov(patches.T))[1].flip(1)[:, :6].T
    along = (nn.functional.normalize(rows) * wanted).sum(1).abs()
    torch.testing.assert_close(along, torch.ones(6), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("shape", "classes", "message"),
    [
        ((1, 28, 28), 26, "has codes for ten digits and got 26 classes; use model='lenet5'"),
        ((3, 32, 32), 10, r"needs images of shape \(1, 28, 28\) or \(1, 32, 32\), got \(3, 32, 32\)"),
        ((64,), 10, r"got \(64,\); use model='lenet5' for other images"),
    ],
)
def test_what_it_refuses(shape, classes, message):
    with pytest.raises(ValueError, match=message):
        models.build("lenet5_1998", shape, classes)
