"""helpers.owndata: your own arrays and files become a Dataset, or end in one sentence."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from helpers import owndata

RNG = np.random.default_rng(0)
X = RNG.normal(3, 2, (60, 4))
Y = np.array(["cat", "dog", "eel"])[np.arange(60) % 3]


def test_arrays_become_a_standardised_stratified_data_set():
    d = owndata.from_arrays(X, Y)
    assert (d.n_train, len(d.y_val), len(d.open_test("size")[1])) == (36, 12, 12)
    assert d.classes == ("cat", "dog", "eel") and np.bincount(d.y_train).tolist() == [12, 12, 12]
    assert abs(d.x_train.mean()) < 1e-6 and d.image_shape is None and d.name == "your data"
    assert owndata.from_arrays(X, Y).fingerprint == d.fingerprint != owndata.from_arrays(X, Y, seed=1).fingerprint


def test_labels_stay_with_their_rows():
    x = np.arange(60.0)[:, None]
    d = owndata.from_arrays(x, x[:, 0].astype(int) // 20 * 7)
    back = d.x_train[:, 0] * x_of(d) + shift_of(d)
    assert d.classes == ("0", "7", "14") and torch.equal(d.y_train, (back.round() // 20).long())


def x_of(d):  # sd of the training rows, from the spacing of neighbouring values 0..59
    return 1 / torch.cat([d.x_train, d.x_val, d.open_test("undo")[0]])[:, 0].sort().values.diff().mean()


def shift_of(d):
    return -torch.cat([d.x_train, d.x_val, d.open_test("undo")[0]]).min() * x_of(d)


@pytest.mark.parametrize("shape, image", [((60, 5, 6), (1, 5, 6)), ((60, 3, 5, 6), (3, 5, 6))])
def test_images_get_a_channel_axis(shape, image):
    assert owndata.from_arrays(RNG.integers(0, 255, shape, dtype=np.uint8), Y).image_shape == image


def test_tensors_frames_and_whole_floats_are_taken():
    plain = owndata.from_arrays(X, np.arange(60) % 3)
    assert owndata.from_arrays(torch.tensor(X), torch.arange(60) % 3).fingerprint == plain.fingerprint
    assert owndata.from_arrays(pd.DataFrame(X), pd.Series(np.arange(60) % 3.0)).fingerprint == plain.fingerprint


def test_a_column_of_large_numbers_keeps_its_digits():
    x = np.c_[1.7e9 + np.arange(60.0), X]
    d = owndata.from_arrays(x, Y)
    assert len(torch.cat([d.x_train, d.x_val, d.open_test("all")[0]])[:, 0].unique()) == 60


def test_own_test_rows_and_no_test_rows():
    d = owndata.from_arrays(X, Y, x_test=X[:5], y_test=Y[:5])
    assert (d.n_train, len(d.y_val), d.open_test("check")[1].tolist()) == (48, 12, [0, 1, 2, 0, 1])
    assert "no test set" in repr(owndata.from_arrays(X, Y, test=0))


def test_groups_and_times_divide_as_in_splits():
    groups = np.arange(60) // 6
    d = owndata.from_arrays(X, Y, how="group", groups=groups)
    assert len(d.groups) == d.n_train == 36 and len(set(d.groups)) == 6
    old = owndata.from_arrays(np.arange(60.0)[:, None], Y, how="time", times=np.arange(60))
    assert old.x_train.max() < old.x_val.min() < old.x_val.max() < old.open_test("check")[0].min()


def broken(rows, value=np.nan):
    x = X.copy()
    x[rows, 1] = value
    return x


SENTENCES = [
    (ValueError, dict(x=broken([3, 7]), y=Y), "x holds NaN, infinite or huge numbers (above 1e30) in 2 of 60 rows "
     "(rows 3, 7); fill or drop these rows."),
    (ValueError, dict(x=broken(slice(8), 1e300), y=Y), "x holds NaN, infinite or huge numbers (above 1e30) in 8 of "
     "60 rows (rows 0, 1, 2, 3, 4, …); fill or drop these rows."),
    (ValueError, dict(x=X[:, 0], y=Y), "x has shape (60,); give (rows, features) for a table, (rows, height, width) or "
     "(rows, channels, height, width) for images, with no side 0."),
    (ValueError, dict(x=X[:, :0], y=Y), "x has shape (60, 0); give (rows, features) for a table, (rows, height, width) "
     "or (rows, channels, height, width) for images, with no side 0."),
    (ValueError, dict(x=np.zeros((60, 8, 8, 3)), y=Y), "x has shape (60, 8, 8, 3), with the channels last; put them "
     "second: x.transpose(0, 3, 1, 2)."),
    (TypeError, dict(x=np.array([[1, "a"]] * 60, dtype=object), y=Y), "x has dtype object, not numbers; turn every "
     "entry into a number, and check that all rows have the same length."),
    (ValueError, dict(x=X, y=Y[:59]), "y has 59 entries but there are 60 rows; give one entry for each row."),
    (ValueError, dict(x=X, y=np.eye(60)), "y has shape (60, 60); it must be one-dimensional, one entry for each row: "
     "try y.ravel()."),
    (ValueError, dict(x=X, y=[None, *Y[1:]]), "y has no value in 1 of 60 rows (the first is row 0); fill these rows or "
     "drop them before you split."),
    (ValueError, dict(x=X, y=np.arange(60) / 4), "y holds 0.25 in row 1, but a label names a class; give whole numbers "
     "or names, or cut a measured quantity into classes first."),
    (TypeError, dict(x=X, y=np.array([1, "a"] * 30, dtype=object)), "y mixes entries of type int, str; make all "
     "of them one type, such as str."),
    (ValueError, dict(x=X, y=["cat"] * 60), "y holds the class 'cat' alone; a classifier needs rows of at least 2 "
     "classes."),
    (ValueError, dict(x=X, y=["cat"] * 59 + ["dog"]), "Class 'dog' has 1 row to divide, but how='stratified' needs at "
     "least 2 of each class; merge the class with another, collect more rows, or use how='random'."),
    (ValueError, dict(x=X, y=["cat"] * 59 + ["dog"], how="ordered"), "Class 'dog' has no training row after the split "
     "with how='ordered'; use how='stratified', another seed, or more rows of this class."),
    (ValueError, dict(x=X, y=Y, x_test=X), "y_test is missing; give x_test and y_test together, or neither."),
    (ValueError, dict(x=X, y=Y, x_test=X[:, :2], y_test=Y), "x_test has rows of shape (2,) but x has (4,); bring both "
     "to one shape."),
    (ValueError, dict(x=X, y=Y, x_test=X, y_test=["fox", *Y[1:]]), "y_test holds the class 'fox', which no row of y "
     "has; the model could never learn it, so drop these rows or add training rows."),
    (ValueError, dict(x=X, y=Y, validation=0), "validation=0 is not allowed: validation must be a finite number, above "
     "0; try validation=0.2."),
]  # fmt: skip


@pytest.mark.parametrize("kind, arguments, sentence", SENTENCES)
def test_malformed_arrays_are_one_sentence(kind, arguments, sentence):
    with pytest.raises(kind) as caught:
        owndata.from_arrays(**arguments)
    assert str(caught.value) == sentence


def test_npz(tmp_path):
    np.savez(tmp_path / "mine.npz", x=X, y=Y, x_test=X[:3], y_test=Y[:3])
    d = owndata.from_npz(tmp_path / "mine.npz", seed=2)
    assert (d.name, d.provenance, d.n_train) == ("mine", "file mine.npz", 48)
    assert len(d.open_test("check")[1]) == 3


def test_npz_never_unpickles(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    np.savez(tmp_path / "o.npz", x=np.array([Bomb()] * 2, dtype=object), y=[0, 1])
    with pytest.raises(ValueError, match=r"o.npz cannot be read as an .npz file of plain arrays \(.*\); write it with"):
        owndata.from_npz(tmp_path / "o.npz")
    assert not (tmp_path / "exploded").exists()


def test_npz_says_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match="^path='.*no.npz' is not a file; give the path of an .npz file.$"):
        owndata.from_npz(tmp_path / "no.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(ValueError, match=r"text.npz cannot be read as an .npz file of plain arrays"):
        owndata.from_npz(tmp_path / "text.npz")
    np.savez(tmp_path / "half.npz", x=X, labels=Y)
    with pytest.raises(ValueError, match=r"half.npz has no array 'y' \(it has x, labels\); use np.savez\(path, x="):
        owndata.from_npz(tmp_path / "half.npz")


def table(path, **more):
    pd.DataFrame({"kind": Y, "a": X[:, 0], "b": X[:, 1], **more}).to_csv(path, index=False)
    return path


def test_csv(tmp_path):
    path = table(tmp_path / "pets.csv", farm=np.arange(60) // 6, town="Bern")
    d = owndata.from_csv(path, label="kind", groups="farm", how="group", drop="town")
    assert (d.name, d.n_features, d.classes) == ("pets", 2, ("cat", "dog", "eel")) and len(set(d.groups)) == 6


def test_csv_says_what_is_wrong(tmp_path):
    path = table(tmp_path / "pets.csv", town="Bern")
    with pytest.raises(ValueError) as caught:
        owndata.from_csv(path, label="kind")
    assert str(caught.value) == (
        f"Column 'town' of {path} holds text (such as 'Bern'); turn it into numbers, or leave it out with "
        f"drop=['town']."
    )
    with pytest.raises(ValueError, match="^label='Kind' is not known; choose one of 'kind', 'a', 'b', 'town'. Did you"):
        owndata.from_csv(path, label="Kind")
    with pytest.raises(ValueError, match="^drop='city' is not known; "):
        owndata.from_csv(path, label="kind", drop=["town", "city"])
    table(path, b=[np.nan, *X[1:, 1]])
    with pytest.raises(
        ValueError, match=r"^x holds NaN, infinite or huge numbers \(above 1e30\) in 1 of 60 rows \(rows 0\)"
    ):
        owndata.from_csv(path, label="kind")
    table(path, kind=[None, *Y[1:]])
    with pytest.raises(ValueError, match=r"^y has no value in 1 of 60 rows \(the first is row 0\);"):
        owndata.from_csv(path, label="kind")
    path.write_text("")
    with pytest.raises(ValueError, match=r"pets.csv cannot be read as CSV \(No columns to parse from file\); write"):
        owndata.from_csv(path, label="kind")


def pictures(root, n=10):
    for k, name in enumerate(("red", "green")):
        (root / name).mkdir(parents=True)
        for i in range(n):
            color = (250 - i, 0, 0) if k == 0 else (0, 250 - i, 0)
            Image.new("RGB", (12, 9), color).save(root / name / f"{i}.png")
    (root / "red" / "notes.txt").write_text("passed over")
    (root / ".cache").mkdir()
    return root


def test_folder(tmp_path):
    root = pictures(tmp_path / "colors")
    gray = owndata.from_folder(root, size=(4, 6))
    assert gray.image_shape == (1, 4, 6) and gray.classes == ("green", "red") and gray.n_train == 12
    color = owndata.from_folder(root, size=(4, 6), gray=False)
    assert color.image_shape == (3, 4, 6) and color.provenance == "folder colors, 20 images"
    red = color.x_train[color.y_train == 1].mean((0, 2, 3))
    assert red[0] > red[1] == red[2]


def test_folder_says_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="^path='.*nowhere' is not a folder; give a folder that holds one folder for"):
        owndata.from_folder(tmp_path / "nowhere")
    root = pictures(tmp_path / "colors")
    with pytest.raises(ValueError, match=r"^size=\(4,\) is not allowed: give \(height, width\) in pixels, such as"):
        owndata.from_folder(root, size=(4,))
    (root / "red" / "3.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"3.png cannot be read as an image \(.*\); repair or remove it.$"):
        owndata.from_folder(root)
    (root / "red" / "3.png").unlink()
    (root / "blue").mkdir()
    with pytest.raises(ValueError, match="^Class folder 'blue' of .*colors holds no image; add images or remove the"):
        owndata.from_folder(root)
    (tmp_path / "one" / "only").mkdir(parents=True)
    with pytest.raises(ValueError, match="one holds 1 class folders; make one folder for each class, at least 2.$"):
        owndata.from_folder(tmp_path / "one")
