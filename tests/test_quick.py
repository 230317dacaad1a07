"""The faster layers of convolutional networks, against torch's own: outputs, gradients, and whole trainings."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import helpers as h
from helpers import models, quick, training


def both(layer: nn.Module, shape, layout=torch.contiguous_format):
    """Output, gradient of the input, gradients of the parameters: of the layer itself and of the quick one."""
    found = []
    for one in (layer, quick.quicken(nn.Sequential(copy.deepcopy(layer), nn.Conv2d(1, 1, 1)))[0]):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        x = x.contiguous(memory_format=layout).requires_grad_()
        one.zero_grad()
        out = one(x)
        out.cos().sum().backward()
        found.append([out, x.grad, *(p.grad for p in one.parameters())])
    assert type(one) is not type(layer)
    return found


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("sides", [(28, 28), (10, 10), (2, 6), (7, 10), (11, 5), (1, 8)])
@pytest.mark.parametrize(
    "layer",
    [
        nn.AvgPool2d(2), nn.AvgPool2d(2, divisor_override=3), nn.AvgPool2d(3, 2), nn.AvgPool2d(2, padding=1),
        nn.Conv2d(3, 4, 1, stride=2), nn.Conv2d(3, 4, 1, stride=3), nn.Conv2d(3, 4, 3, padding=1),
        nn.Conv2d(3, 4, 1, stride=2, padding=1), nn.Conv2d(3, 4, 1, stride=(1, 2)),
    ],
    ids=str,
)  # fmt: skip
def test_a_layer_gives_what_torch_gives(layer, sides, layout):
    shape = (5, 3, *sides)
    try:
        layer.double()(torch.zeros(shape, dtype=torch.float64))
    except RuntimeError:
        pytest.skip("the images are too small for this layer")
    for ours, theirs in zip(*both(layer, shape, layout), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_side_by_side_are_the_same_numbers(channels):
    x = torch.randn(2, channels, 4, 5)
    for given in (x, x.transpose(2, 3).contiguous().transpose(2, 3), x[:, :, ::1]):
        out = quick.channels_last(given)
        assert torch.equal(out, given) and out.stride() == (20 * channels, 1, 5 * channels, channels)
        assert nn.Conv2d(channels, 8, 3)(out).is_contiguous(memory_format=torch.channels_last)


def test_images_stay_in_rows_where_they_are_averaged_in_squares():
    layouts = {}
    for name, model in {"lenet5": models.lenet5((1, 28, 28), 10), "cnn": models.cnn((1, 28, 28), 10)}.items():
        layouts[name] = {m.channels_last for m in quick.quicken(model).modules() if isinstance(m, nn.Conv2d)}
    assert layouts == {"lenet5": {False}, "cnn": {True}}


def test_a_model_keeps_its_names_and_may_be_quickened_twice():
    model = models.lenet5((1, 28, 28), 10)
    names = list(model.state_dict())
    x = torch.rand(3, 1, 28, 28)
    before = model(x)
    assert quick.quicken(quick.quicken(model)) is model and list(model.state_dict()) == names
    torch.testing.assert_close(model(x), before)
    torch.testing.assert_close(copy.deepcopy(model)(x), before)


def test_other_models_are_left_alone():
    model = models.mlp((5,), 4)
    kinds = [type(m) for m in model.modules()]
    assert [type(m) for m in quick.quicken(model).modules()] == kinds


def test_many_images_are_evaluated_in_parts_and_trained_on_at_once():
    model, seen = quick.quicken(models.cnn((1, 8, 8), 10, norm="batch", width=4)), []
    model[0].register_forward_pre_hook(lambda _, x: seen.append(len(x[0])))
    x = torch.rand(quick.ROWS + 5, 1, 8, 8)
    assert model.eval()(x).shape == (len(x), 10) and seen == [quick.ROWS, 5]
    assert model.train()(x).shape == (len(x), 10) and seen == [quick.ROWS, 5, len(x)]


def test_a_constant_made_in_inference_mode_meets_autograd_later():
    pool = quick.quicken(nn.Sequential(nn.Conv2d(1, 1, 1), nn.AvgPool2d(2)))
    quick._squares.cache_clear()
    with torch.inference_mode():
        pool(torch.rand(2, 1, 6, 6))
    pool(torch.rand(2, 1, 6, 6)).sum().backward()
    assert pool[0].weight.grad.item() > 0


RECIPES = [
    h.Recipe(model="lenet5"), h.Recipe(model="lenet5", pool="max", norm="batch", dropout=0.2),
    h.Recipe(model="lenet5_1998", lr=0.01), h.Recipe(model="cnn", depth=8, width=4),
    h.Recipe(model="cnn", depth=8, width=8, norm="batch", shortcut="identity"),
    h.Recipe(model="cnn", depth=8, width=8, norm="group", shortcut="projection"),
    h.Recipe(model="cnn", depth=8, width=4, norm="batch", shortcut="preactivation", optimizer="adam", lr=1e-3),
]  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: f"{r.model}-{r.pool}-{r.norm}-{r.shortcut}")
def test_a_training_is_the_same(recipe):
    digits = h.load("glyphs", n_train=96, n_val=150, n_test=10)
    recipe = recipe.but(epochs=2, batch_size=32)
    runs = [training.train_one(recipe, digits, dtype=torch.float64, prepare=f) for f in (lambda m: m, quick.quicken)]
    (plain, slow), (quickened, fast) = runs
    for a, b in zip(slow, fast, strict=True):
        for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
            assert a[name] == pytest.approx(b[name], abs=1e-9)
    for (name, p), (other, q) in zip(plain.state_dict().items(), quickened.state_dict().items(), strict=True):
        assert name == other
        torch.testing.assert_close(p, q, atol=1e-8, rtol=0)
