import math

import pytest
import torch

from helpers import losses


def test_cross_entropy_by_hand():
    value = losses.cross_entropy(torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([1]))
    assert value.item() == pytest.approx(-math.log(0.75))


def test_smoothing_by_hand():
    # target (0.05, 0.95) for two classes and a smoothing of 0.1
    value = losses.cross_entropy(torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([1]), 0.1)
    assert value.item() == pytest.approx(-0.05 * math.log(0.25) - 0.95 * math.log(0.75))


def test_squared_error_by_hand():
    z, y = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 1.0]]), torch.tensor([1, 2])
    assert losses.squared_error(z, y).item() == pytest.approx((1 + 1 + 0 + 0) / 2)
    assert losses.squared_error(z, y, 0.3).item() == pytest.approx((0.81 + 1.44 + 0.01 + 0.01 + 0.01 + 0.04) / 2)


def test_binary_cross_entropy_by_hand():
    # sigmoid(0) = 1/2 for the right class, sigmoid(log 3) = 3/4 for the wrong one
    value = losses.binary_cross_entropy(torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([0]))
    assert value.item() == pytest.approx(-math.log(0.5) - math.log(0.25))


def test_binary_cross_entropy_is_torch_s_summed_over_classes():
    z, y = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 1, 0])
    q = torch.nn.functional.one_hot(y, 3).float() * 0.9 + 0.1 / 3
    assert losses.binary_cross_entropy(z, y, 0.1).item() == pytest.approx(
        torch.nn.BCEWithLogitsLoss(reduction="sum")(z, q).item() / 5
    )


def test_focal_by_hand():
    z, y = torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([1])  # the right class has p = 3/4
    assert losses.focal(z, y, gamma=2.0).item() == pytest.approx(-(0.25**2) * math.log(0.75))
    assert losses.focal(z, y, gamma=0.0).item() == pytest.approx(losses.cross_entropy(z, y).item())


def test_make_fills_in_the_settings_of_a_recipe():
    from helpers.recipe import Recipe

    z, y = torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([1])
    focal = losses.make(Recipe(loss="focal", focal_gamma=1.0))
    assert focal(z, y).item() == pytest.approx(-0.25 * math.log(0.75))
    smooth = losses.make(Recipe(label_smoothing=0.1))
    assert smooth(z, y).item() == pytest.approx(losses.cross_entropy(z, y, 0.1).item())


def test_unknown_loss():
    with pytest.raises(ValueError, match="loss='crossentropy' is not known; .* Did you mean 'cross_entropy'"):
        losses.loss("crossentropy")
