"""Random changes of images: what each may change, and what it must leave alone."""

from __future__ import annotations

import pytest
import torch

from helpers import augment

REAL = [name for name in augment.AUGMENTS if name != "none"]
GEOMETRIC = ["shift", "rotate", "scale", "shear", "affine"]


@pytest.fixture(scope="module")
def squares():
    """60 images of 16x16: a bright 4x4 square in the middle of a background that is not zero."""
    x = torch.full((60, 1, 16, 16), -1.0)
    x[:, :, 6:10, 6:10] = 3.0
    return x


@pytest.mark.parametrize("name", REAL)
def test_same_seed_same_draw_and_each_image_its_own(name, squares):
    state = torch.get_rng_state()
    once, again, other = (augment.augment(name, squares, seed=s) for s in (1, 1, 2))
    assert torch.equal(once, again) and once.shape == squares.shape and once.dtype == squares.dtype
    assert torch.equal(torch.get_rng_state(), state), "torch's own generator must not move"
    if name.startswith("flip"):  # the square is its own mirror image
        return
    assert not torch.equal(once, other)
    if name != "blur" or len(torch.unique(once, dim=0)) == 1:
        assert len(torch.unique(once, dim=0)) > 1


@pytest.mark.parametrize("name", REAL)
def test_strength_zero_and_none_change_nothing(name, squares):
    assert augment.augment(name, squares, strength=0) is squares
    assert augment.augment("none", squares, strength=3) is squares


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("strength", [0.1, 3.0, 30.0])
def test_every_strength_can_be_drawn(name, strength, squares):
    assert augment.augment(name, squares, strength=strength).isfinite().all()


@pytest.mark.parametrize("name", GEOMETRIC)
def test_moving_fills_with_background_and_makes_no_new_grey(name, squares):
    x = augment.augment(name, squares, strength=1.0)
    assert x.min() >= -1 - 1e-5 and x.max() <= 3 + 1e-5
    assert (x[:, :, 0] + 1).abs().max() < 1e-5, "the upper edge is background before and after"


def test_shift_moves_by_no_more_than_it_says(squares):
    x = (augment.augment("shift", squares) + 1) / 4
    place = torch.arange(16.0)
    down = (x.sum((1, 3)) * place).sum(1) / x.sum((1, 2, 3))
    assert (down - 7.5).abs().max() <= 0.12 * 16 + 1e-4 and (down - 7.5).abs().max() > 0.5
    assert torch.allclose(x.sum((1, 2, 3)), torch.tensor(16.0), atol=1e-3), "what moves is all there"


def test_scale_keeps_the_middle_and_changes_the_area_within_its_bounds(squares):
    x = (augment.augment("scale", squares) + 1) / 4
    area = x.sum((1, 2, 3)) / 16
    assert area.min() > 1 / 1.2**2 - 0.1 and area.max() < 1.2**2 + 0.1 and area.max() > 1.1 and area.min() < 0.9


@pytest.mark.parametrize(("name", "axis"), [("flip", 3), ("flip_vertical", 2)])
def test_a_flip_mirrors_half_of_the_images(name, axis):
    x = torch.rand(400, 1, 5, 5)
    y = augment.augment(name, x)
    mirrored = (y - x.flip(axis)).abs().amax((1, 2, 3)) < 1e-6
    kept = (y - x).abs().amax((1, 2, 3)) < 1e-6
    assert (mirrored ^ kept).all() and 150 < mirrored.sum() < 250
    assert torch.allclose(augment.augment(name, x, strength=2), x.flip(axis)), "strength 2 mirrors all"


def test_noise_has_the_size_it_says(squares):
    added = augment.augment("noise", squares, strength=2.0) - squares
    assert added.std().item() == pytest.approx(0.3 * 4, rel=0.03)  # 0.15 x strength x (white - black)
    assert abs(added.mean().item()) < 0.05


def test_salt_and_pepper_sets_its_share_of_pixels_to_black_or_white():
    x = torch.rand(200, 1, 16, 16) * 0.8 + 0.1
    x[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    y = augment.augment("salt_and_pepper", x)
    hit = y != x
    hit &= (y - x).abs() > 1e-6
    assert hit.float().mean().item() == pytest.approx(0.08, abs=0.01)
    assert ((y[hit] < 1e-6) | (y[hit] > 1 - 1e-6)).all()


def test_erase_blackens_one_box_of_the_size_it_says():
    x = torch.ones(200, 1, 20, 20)
    x[0, 0, 0, 0] = 0.0
    share = (augment.augment("erase", x)[1:] < 0.5).float().mean((1, 2, 3))
    assert 0.02 < share.min() and share.max() < 0.24 and share.std() > 0.02


def test_contrast_multiplies_and_brightness_adds():
    x = torch.linspace(0, 1, 64).view(1, 1, 8, 8).repeat(50, 1, 1, 1)
    factor = augment.augment("contrast", x)[:, 0] / x[:, 0].clamp(min=1e-9)
    inner = factor.flatten(1)[:, 1:45]  # the brightest may be cut off at white
    assert (inner.amax(1) - inner.amin(1)).max() < 1e-4 and 0.7 - 1e-4 <= inner.min() and inner.max() <= 1.3 + 1e-4
    added = (augment.augment("brightness", x) - x).flatten(1)[:, 20:44]
    assert (added.amax(1) - added.amin(1)).max() < 1e-4 and added.abs().max() <= 0.3 + 1e-4


def test_blur_leaves_a_flat_image_and_lowers_a_peak(squares):
    y = augment.augment("blur", squares)
    assert y.max() <= 3 + 1e-5 and (y[:, :, 5, 7] > -1).all(), "light runs over the edge of the square"
    flat = torch.cat([squares[:1], torch.full((1, 1, 16, 16), 2.0)])
    assert torch.allclose(augment.augment("blur", flat)[1], flat[1], atol=1e-4)


def test_a_batch_of_one_grey_stays_finite():
    assert torch.allclose(augment.augment("rotate", torch.full((3, 1, 8, 8), 0.5)), torch.tensor(0.5))


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda x: augment.augment("rotat", x), "Did you mean 'rotate'"),
        (lambda x: augment.augment("rotate", x, strength=-1), "at least 0"),
        (lambda x: augment.augment("rotate", x.flatten(1)), "needs images"),
    ],
)
def test_bad_input(call, told, squares):
    with pytest.raises(ValueError, match=told):
        call(squares)
