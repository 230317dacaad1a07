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


def test_unknown_loss():
    with pytest.raises(ValueError, match="loss='crossentropy' is not known; .* Did you mean 'cross_entropy'"):
        losses.loss("crossentropy")
