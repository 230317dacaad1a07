"""helpers.glyphs: same arguments same pixels, readable letters, bad input ends in one sentence."""

import time
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from helpers import glyphs


def test_shapes_and_types():
    images, labels, fonts = glyphs.make(7)
    assert images.shape == (7, 28, 28) and images.dtype == np.uint8
    assert labels.shape == fonts.shape == (7,) and labels.dtype == fonts.dtype == np.int64
    assert set(np.unique(glyphs.make(600)[1])) == set(range(10))


@pytest.mark.parametrize("level", glyphs.LEVELS)
def test_the_seed_fixes_the_pixels(level):
    a, b, c = (glyphs.make(40, seed=s, level=level)[0] for s in (5, 5, 6))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_a_longer_set_begins_with_the_shorter_one():
    short, long = glyphs.make(30), glyphs.make(700)
    for a, b in zip(short, long, strict=True):
        assert np.array_equal(a, b[:30])
    assert not np.array_equal(long[0][:200], long[0][500:])  # batches differ


def test_the_fonts_ship_with_matplotlib_and_belong_to_five_families():
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    assert len(glyphs.FONTS) == 22 and all((folder / f"{font}.ttf").is_file() for font in glyphs.FONTS)
    assert set(glyphs.FONT_FAMILY) == set(glyphs.FONTS) and len(set(glyphs.FONT_FAMILY.values())) == 5


def test_the_letters_of_two_fonts_differ_and_fonts_are_kept_to():
    everything = glyphs._templates("0123456789", glyphs.FONTS)
    flat = everything.reshape(10 * 22 * 2, -1)
    assert flat.min() == 0 and 0.9 < flat.max() <= 1
    assert len({row.tobytes() for row in flat}) == len(flat)
    chosen = ("cmr10", "STIXGeneral")
    images, labels, fonts = glyphs.make(300, level="easy", fonts=chosen)
    assert set(fonts) == {0, 1}
    own = glyphs._templates("0123456789", chosen)
    still = own[:, :, 0, 1:57:2, 1:57:2]  # thin letters, upright, at image size
    match = [np.corrcoef(still[k, f].ravel(), i.ravel())[0, 1] for i, k, f in zip(images, labels, fonts, strict=True)]
    assert np.mean(match) > 0.6


def test_a_linear_model_reads_them_and_harder_levels_are_harder():
    score = {}
    for level in ("easy", "standard", "clutter"):
        x, y, _ = glyphs.make(1500, seed=1, level=level)
        x = x.reshape(len(x), -1) / 255
        score[level] = RidgeClassifier(100).fit(x[:1000], y[:1000]).score(x[1000:], y[1000:])
    assert score["easy"] > 0.95 > 0.85 > score["standard"] > 0.55 > score["clutter"] > 0.2


def test_clutter_puts_ink_on_the_border(monkeypatch):
    def bright():
        image = glyphs.make(200, level="clutter")[0]
        image[:, 3:-3, 3:-3] = 0
        return (image > 170).sum()

    cluttered = bright()
    monkeypatch.setitem(glyphs.LEVELS, "clutter", {**glyphs.LEVELS["clutter"], "clutter": 0})
    assert cluttered > 3 * bright()


def test_class_shares_shape_the_labels():
    _, labels, _ = glyphs.make(2000, characters="abc", class_shares=[0.9, 0.1, 0.0])
    counts = np.bincount(labels, minlength=3)
    assert counts[2] == 0 and 1740 < counts[0] < 1860


def test_fast_enough_to_draw_in_a_notebook():
    glyphs.make(1)
    start = time.process_time()
    glyphs.make(2000)
    assert time.process_time() - start < 2  # about 0.1 s on an idle core


SENTENCES = [
    (dict(n=0), "n=0 is not allowed: n must be a whole number, at least 1, at most 1000000."),
    (dict(n=5, level="hard"), "level='hard' is not known; choose one of 'easy', 'standard', 'medium', 'clutter'. "
     "Did you mean 'standard'?"),
    (dict(n=5, fonts=["cmr11"]), "fonts='cmr11' is not known; choose one of " + ", ".join(map(repr, glyphs.FONTS))
     + ". Did you mean 'cmr10'?"),
    (dict(n=5, fonts=[]), "fonts=[] is not allowed: give at least one entry, and each of them once."),
    (dict(n=5, characters="00"), "characters='00' is not allowed: give at least one entry, and each of them "
     "once."),
    (dict(n=5, characters="01", class_shares=[0.5, 0.6]), "class_shares=[0.5, 0.6] is not allowed: give 2 shares, one "
     "for each character, none negative, that sum to 1."),
]  # fmt: skip


@pytest.mark.parametrize("arguments, sentence", SENTENCES)
def test_make_says_what_is_wrong(arguments, sentence):
    with pytest.raises(ValueError) as caught:
        glyphs.make(**arguments)
    assert str(caught.value) == sentence


def test_a_character_without_a_drawing_is_refused():
    with pytest.raises(ValueError, match="^characters='aé' holds 'é', which is not known; choose from 0, 1, "):
        glyphs.make(5, characters="aé")
