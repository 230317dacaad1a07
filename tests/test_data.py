"""helpers.data: sizes, scale from training rows alone, the sealed test set, subsets and label noise."""

import copy
import pickle

import numpy as np
import pytest
import torch

from helpers import data, download

DIGITS = data.load("digits")


@pytest.mark.parametrize(
    "name, sizes, shape, classes",
    [
        ("digits", (1000, 397, 400), (1, 8, 8), 10),
        ("glyphs", (3000, 1000, 2000), (1, 28, 28), 10),
        ("breast_cancer", (341, 114, 114), None, 2),
        ("wine", (106, 36, 36), None, 3),
        ("iris", (90, 30, 30), None, 3),
    ],
)
def test_embedded_sets(name, sizes, shape, classes):
    d = data.load(name)
    x_test, y_test = d.open_test("test of the sizes")
    assert (d.n_train, len(d.y_val), len(y_test)) == sizes
    assert d.image_shape == shape and d.n_classes == classes == len(set(d.y_train.tolist()))
    assert {t.dtype for t in (d.x_train, d.x_val, x_test)} == {torch.float32}
    assert {t.dtype for t in (d.y_train, d.y_val, y_test)} == {torch.int64}
    assert d.x_train.shape[1:] == (shape or (d.n_features,)) == d.x_val.shape[1:] == x_test.shape[1:]
    assert d.provenance and "training rows alone" in d.scale
    axes = None if shape else 0  # images: one scalar; tables: each column
    mean, sd = d.x_train.double().numpy().mean(axes), d.x_train.double().numpy().std(axes)
    assert np.allclose(mean, 0, atol=1e-5) and np.allclose(sd, 1, atol=1e-4)
    assert abs(float(d.x_val.double().mean(0).flatten()[0])) > 1e-4 or shape  # validation is not centred by itself


def test_digits_hold_every_row_of_the_source_once():
    from sklearn.datasets import load_digits

    d = data.load("digits", seed=4)
    x = torch.cat([d.x_train, d.x_val, d.open_test("count")[0]]).flatten(1).numpy()
    source = load_digits().data
    raw = np.rint(x * source_scale(d)[1] + source_scale(d)[0])
    assert sorted(map(bytes, raw.astype(np.uint8))) == sorted(map(bytes, source.astype(np.uint8)))


def source_scale(d):
    words = d.scale.replace(",", "").split()
    return float(words[1]), float(words[3])


def test_the_seed_moves_rows_and_nothing_else_does():
    a, b, c = data.load("digits"), data.load("digits"), data.load("digits", seed=1)
    assert a.fingerprint == b.fingerprint != c.fingerprint and len(a.fingerprint) == 12
    assert a.x_train.data_ptr() != b.x_train.data_ptr()
    a.x_train.zero_()  # a slip in one place must not reach the next load
    assert data.load("digits").x_train.std() > 0.9


def test_repr_shows_sizes_and_readings():
    d = data.load("digits")
    d.open_test("once")
    assert repr(d) == (
        "digits: 1,000 training rows, 397 validation rows, 400 test rows (sealed, readings: 1); "
        "10 classes, 1×8×8 images"
    )


@pytest.mark.parametrize("name", ["x_test", "y_test"])
def test_the_test_set_is_sealed(name):
    with pytest.raises(AttributeError) as caught:
        getattr(DIGITS, name)
    assert str(caught.value) == (
        f"{name} is sealed: a test set that helps you choose no longer tells how good the choice is; choose with x_val "
        f'and y_val, then call open_test("your reason") once.'
    )


def test_readings_are_counted_and_shared_by_copies_but_not_by_loads():
    d = data.load("digits")
    d.open_test("a ")
    d.to("cpu").open_test("b")
    d.subset(200).open_test("c")
    d.with_label_noise(0.1).open_test("d")
    assert d.test_readings == ["a", "b", "c", "d"]
    d.test_readings.clear()
    assert len(d.test_readings) == 4
    assert data.load("digits").test_readings == []
    for reason in ("", "  ", None):
        with pytest.raises(ValueError) as caught:
            d.open_test(reason)
        assert str(caught.value) == (
            f"reason={reason!r} is not allowed: say in a few words why you read it, such as 'final verdict'."
        )
    assert len(d.test_readings) == 4


def test_it_survives_copying_and_pickling_and_refuses_misspelled_names():
    for twin in (copy.deepcopy(DIGITS), pickle.loads(pickle.dumps(DIGITS))):
        assert twin.fingerprint == DIGITS.fingerprint
    with pytest.raises(AttributeError, match="^'x_trian' is not an attribute of Dataset. Did you mean 'x_train'\\?$"):
        _ = DIGITS.x_trian
    with pytest.raises(AttributeError):
        DIGITS.name = "other"
    assert not hasattr(DIGITS, "x_test")


def test_to_moves_every_tensor_and_keeps_the_fingerprint():
    moved = DIGITS.to("meta")
    assert {getattr(moved, k).device.type for k in ("x_train", "y_train", "x_val", "y_val")} == {"meta"}
    assert moved._test[0].device.type == "meta" and DIGITS.x_train.device.type == "cpu"
    assert DIGITS.to("cpu").fingerprint == DIGITS.fingerprint


def test_a_subset_keeps_shares_is_nested_and_is_scaled_again():
    small, large = DIGITS.subset(100), DIGITS.subset(300)
    assert small.n_train == 100 and 9 <= min(np.bincount(small.y_train)) <= max(np.bincount(small.y_train)) <= 11
    assert abs(small.x_train.mean()) < 1e-5 and abs(small.x_train.std() - 1) < 1e-2
    assert torch.equal(small.y_val, DIGITS.y_val) and small.x_val.shape == DIGITS.x_val.shape

    def rows(d):  # undo the scale of each subset
        x = d.x_train.flatten(1)
        return {tuple(((r - x.min()) / (x.max() - x.min())).mul(16).round().int().tolist()) for r in x}

    assert rows(small) < rows(large)
    assert rows(DIGITS.subset(100, seed=1)) != rows(small)
    direct = data.load("digits", n_train=100)
    assert torch.equal(direct.y_train, small.y_train)
    torch.testing.assert_close(direct.x_train, small.x_train, atol=1e-5, rtol=0)
    torch.testing.assert_close(direct.open_test("check")[0], small.open_test("check")[0], atol=1e-5, rtol=0)


def test_label_noise_touches_training_labels_alone():
    noisy = DIGITS.with_label_noise(0.4, seed=2)
    wrong = (noisy.y_train != DIGITS.y_train).float().mean()
    assert 0.32 < wrong < 0.40  # 0.4 * (1 - 1/10) = 0.36
    assert torch.equal(noisy.y_val, DIGITS.y_val) and torch.equal(noisy.x_train, DIGITS.x_train)
    assert torch.equal(noisy.y_train, DIGITS.with_label_noise(0.4, seed=2).y_train)
    assert not torch.equal(noisy.y_train, DIGITS.with_label_noise(0.4, seed=3).y_train)
    assert torch.equal(DIGITS.with_label_noise(0).y_train, DIGITS.y_train)
    assert noisy.fingerprint != DIGITS.fingerprint


def test_glyphs_take_sizes_levels_fonts_and_letters():
    d = data.load("glyphs", n_train=120, n_val=50, n_test=60, level="easy", characters="abc", fonts=["cmr10", "cmb10"])
    assert (d.n_train, len(d.y_val), len(d.open_test("size")[1])) == (120, 50, 60)
    assert d.classes == ("a", "b", "c") and set(d.groups) == {0, 1} and len(d.groups) == 120
    assert d.provenance == "drawn from 2 fonts of matplotlib, level 'easy'"
    fonts = ["cmr10", "cmb10"]
    longer = data.load("glyphs", n_train=150, n_val=50, n_test=60, level="easy", characters="abc", fonts=fonts)
    assert torch.equal(longer.y_train[:120], d.y_train)
    assert torch.equal(longer.open_test("a")[1], d.open_test("a")[1])
    assert len(d.subset(60).groups) == 60


def test_glyph_parts_are_drawn_apart_and_shares_bend_training_alone():
    d = data.load("glyphs", n_train=400, n_val=400, n_test=400, class_shares=[0.55] + [0.05] * 9)
    assert (d.y_train == 0).float().mean() > 0.45 and (d.y_val == 0).float().mean() < 0.2
    plain = data.load("glyphs", n_train=400, n_val=400, n_test=400)
    parts = [plain.y_train, plain.y_val, plain.open_test("compare")[1]]
    assert not any(torch.equal(parts[i], parts[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_a_constant_column_is_centred_and_not_divided_by_zero():
    x = np.array([[1.0, 5.0], [3.0, 5.0], [5.0, 5.0]])
    d = data.build("t", [(x, [0, 1, 0]), (x, [0, 1, 0])], ["a", "b"])
    assert torch.equal(d.x_train[:, 1], torch.zeros(3)) and torch.isfinite(d.x_train).all()


def test_a_set_without_test_rows_says_so():
    x = np.arange(6.0).reshape(3, 2)
    d = data.build("mine", [(x, [0, 1, 0]), (x, [0, 1, 0])], ["a", "b"])
    assert "no test set" in repr(d) and d.subset(2).n_train == 2 and d.to("cpu").fingerprint == d.fingerprint
    with pytest.raises(ValueError, match="^'mine' has no test set; make one with test=0.2 when you build the data"):
        d.open_test("final verdict")


def test_downloaded_sets_keep_their_own_test_rows(monkeypatch):
    rng = np.random.default_rng(0)
    raw = (
        rng.integers(0, 256, (200, 3, 32, 32), dtype=np.uint8),
        np.arange(200) % 10,
        rng.integers(0, 256, (50, 3, 32, 32), dtype=np.uint8),
        np.arange(50) % 10,
    )
    monkeypatch.setattr(download, "fetch", lambda name, folder: raw)
    data._fetched.cache_clear()
    d = data.load("cifar10", n_train=100, n_test=20)
    data._fetched.cache_clear()
    x_test, y_test = d.open_test("check")
    assert (d.n_train, len(d.y_val), len(y_test)) == (100, 40, 20) and d.image_shape == (3, 32, 32)
    assert np.bincount(y_test).tolist() == [2] * 10 and d.classes[0] == "airplane"
    mean, sd = source_scale(d)
    first = torch.from_numpy(raw[2]).float()
    assert any(torch.allclose(x_test[0] * sd + mean, picture, atol=0.1) for picture in first)


SENTENCES = [
    (ValueError, lambda: data.load("digit"), "name='digit' is not known; choose one of 'digits', 'glyphs', "
     "'breast_cancer', 'wine', 'iris', 'mnist', 'fashion_mnist', 'cifar10'. Did you mean 'digits'?"),
    (TypeError, lambda: data.load("digits", level="easy"), "'level' is a setting of 'glyphs' alone; leave it out for "
     "'digits'."),
    (TypeError, lambda: data.load("glyphs", levle="easy"), "'levle' is not a setting; choose from "
     "level, characters, fonts, class_shares. Did you mean 'level'?"),
    (ValueError, lambda: data.load("digits", n_train=1001), "n_train=1001 is not allowed: n_train must be a whole "
     "number, at least 1, at most 1000."),
    (ValueError, lambda: data.load("digits", n_train=5), "n_train=5 leaves class '0' without a row; choose a larger "
     "n_train."),
    (ValueError, lambda: data.load("glyphs", n_train=0), "n_train=0 is not allowed: n_train must be a whole number, at "
     "least 1, at most 1000000."),
    (ValueError, lambda: DIGITS.subset(1001), "n=1001 is not allowed: n must be a whole number, at least 1, at most "
     "1000."),
    (ValueError, lambda: DIGITS.subset(3), "n=3 training rows of 1000 leave class '0' without a row; choose a larger "
     "n."),
    (ValueError, lambda: DIGITS.with_label_noise(1.2), "q=1.2 is not allowed: q must be a finite number, at least 0, "
     "at most 1."),
]  # fmt: skip


@pytest.mark.parametrize("kind, call, sentence", SENTENCES)
def test_bad_input_is_one_sentence(kind, call, sentence):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == sentence
