"""Your own data as a `Dataset`: arrays, an .npz file, a CSV file, or a folder of images.

Everything is checked before anything is trained. Malformed input ends in one sentence that names
the rows, so that you can repair them.
"""

from __future__ import annotations

import inspect
import warnings
import zipfile
from pathlib import Path

import numpy as np

from helpers import checks, splits
from helpers.data import Dataset, build

MOST_BYTES = 4 << 30  # of a file, unpacked; what is larger is a mistake or a trap, and would fill the memory
IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")  # Pillow knows more, and starts programs for some
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")


def _features(name: str, x) -> np.ndarray:
    """x as numbers (n, d) or (n, c, h, w); images without a channel axis get one."""
    x = splits.array(name, x)
    if x.dtype.kind not in "fiub":
        raise TypeError(
            f"{name} has dtype {x.dtype}, not numbers; turn every entry into a number, and check that all rows have "
            f"the same length."
        )
    if x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise ValueError(
            f"{name} has shape {x.shape}; give (rows, features) for a table, (rows, height, width) or "
            f"(rows, channels, height, width) for images, with no side 0."
        )
    if x.ndim == 4 and x.shape[1] not in (1, 2, 3, 4) and x.shape[3] in (1, 3, 4):
        raise ValueError(
            f"{name} has shape {x.shape}, with the channels last; put them second: {name}.transpose(0, 3, 1, 2)."
        )
    bad = np.flatnonzero(~(np.abs(x.astype(np.float64)) <= 1e30).all(axis=tuple(range(1, x.ndim))))
    if len(bad):
        raise ValueError(
            f"{name} holds NaN, infinite or huge numbers (above 1e30) in {len(bad)} of {len(x)} rows "
            f"(rows {_few(bad)}); fill or drop these rows."
        )
    return x[:, None] if x.ndim == 3 else x


def _few(rows) -> str:
    rows = [str(r) for r in rows]
    return ", ".join(rows[:5]) + (", …" if len(rows) > 5 else "")


def _labels(name: str, y, n: int) -> np.ndarray:
    """y as a clean 1-D array of names or whole numbers, one for each of n rows."""
    y = splits.column(name, y, n)
    if y.dtype.kind == "f":
        rows = np.flatnonzero(y != np.round(y))
        if len(rows):
            raise ValueError(
                f"{name} holds {y[rows[0]].item()} in row {rows[0]}, but a label names a class; give whole numbers or "
                f"names, or cut a measured quantity into classes first."
            )
        y = y.astype(np.int64)
    if y.dtype.kind in "OUS" and not all(isinstance(v, str) for v in y):
        raise TypeError(f"{name} holds labels of type {type(y[0]).__name__}; make every label a str or a whole number.")
    if y.dtype.kind not in "OUiub":
        raise TypeError(f"{name} has dtype {y.dtype}; make every label a str or a whole number.")
    return y.astype(str) if y.dtype.kind == "O" else y


def _coded(name: str, y, classes) -> np.ndarray:
    strangers = sorted(set(y.tolist()) - set(classes.tolist()))
    if strangers:
        raise ValueError(
            f"{name} holds the class {strangers[0]!r}, which no row of y has; the model could never learn it, "
            f"so drop these rows or add training rows."
        )
    return np.searchsorted(classes, y)


def from_arrays(
    x, y, *, x_test=None, y_test=None, how="stratified", validation=0.2, test=0.2, groups=None, times=None, seed=0,
    name="your data", provenance="arrays given by you",
) -> Dataset:  # fmt: skip
    """Make a Dataset from arrays, or torch tensors, or data frames of numbers.

    x                features (n, d), or images (n, h, w) or (n, c, h, w); any range, it is standardised
    y                labels (n,): whole numbers or names; sorted, they become the classes
    x_test, y_test   your own test rows; without them `test` of the rows become the test set
    how, validation, test, groups, times, seed   see `splits.split`

    Raises ValueError or TypeError with one sentence: NaN, infinite or huge numbers (which rows), shapes and
    lengths that do not fit, a single class, a class without a training row.
    """
    checks.text("name", name, empty=False), checks.text("provenance", provenance)
    x = _features("x", x)
    y = _labels("y", y, len(x))
    classes = np.unique(y)
    if len(classes) < 2:
        raise ValueError(
            f"y holds the class {classes[0].item()!r} alone; a classifier needs rows of at least 2 classes."
        )
    if (x_test is None) != (y_test is None):
        missing = "y_test" if y_test is None else "x_test"
        raise ValueError(f"{missing} is missing; give x_test and y_test together, or neither.")
    checks.number("validation", validation, above=0, try_="0.2")
    parts = splits.split(
        y, how=how, validation=validation, test=test if x_test is None else 0, groups=groups, times=times, seed=seed
    )
    codes = _coded("y", y, classes)
    absent = splits.missing_classes(y, parts.train)
    if absent:
        raise ValueError(
            f"Class {absent[0]!r} has no training row after the split with how={how!r}; use how='stratified', another "
            f"seed, or more rows of this class."
        )
    rows = [(x[part], codes[part]) for part in parts if len(part)]
    if x_test is not None:
        x_test = _features("x_test", x_test)
        if x_test.shape[1:] != x.shape[1:]:
            raise ValueError(
                f"x_test has rows of shape {x_test.shape[1:]} but x has {x.shape[1:]}; bring both to one shape."
            )
        rows.append((x_test, _coded("y_test", _labels("y_test", y_test, len(x_test)), classes)))
    return build(
        name,
        rows,
        classes.tolist(),
        image_shape=x.shape[1:] if x.ndim == 4 else None,
        groups=None if groups is None else np.asarray(groups)[parts.train],
        provenance=provenance,
    )


def _file(path, what: str) -> Path:
    path = checks.path("path", path)
    if not path.is_file():
        raise ValueError(f"path={str(path)!r} is not a file; give the path of {what}.")
    _small(path, path.stat().st_size)
    return path


def _small(path: Path, size: int) -> None:
    if size > MOST_BYTES:
        raise ValueError(
            f"{checks.place(path)} holds {size:,} bytes, but at most {MOST_BYTES:,} are read; keep fewer rows in it."
        )


def _why(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _settings(settings: dict, *taken: str) -> None:
    allowed = inspect.signature(from_arrays).parameters
    checks.known("setting", settings, [k for k in allowed if k not in ("x", "y", *taken)])


def from_npz(path, **settings) -> Dataset:
    """Make a Dataset from an .npz file with the arrays x and y, and if you like x_test, y_test, groups, times.

    Other settings go to `from_arrays`. Pickled objects are never loaded. Raises ValueError with one sentence.
    """
    _settings(settings)
    path = _file(path, "an .npz file")
    try:
        with zipfile.ZipFile(path) as archive:
            checks.members(archive, MOST_BYTES)
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
            if not all(isinstance(array, np.ndarray) for array in arrays.values()):
                raise ValueError("a member is no array")
    except Exception as error:  # zipfile, zlib and numpy each raise their own kinds
        raise ValueError(
            f"{checks.place(path)} cannot be read as an .npz file of plain arrays ({_why(error)}); "
            f"write it with np.savez(path, x=..., y=...) and no dtype=object."
        ) from error
    for key in ("x", "y"):
        if key not in arrays:
            raise ValueError(
                f"{checks.place(path)} has no array {key!r} (it has {checks.place(', '.join(arrays) or 'none')}); "
                f"use np.savez(path, x=..., y=...)."
            )
    extra = {key: arrays[key] for key in ("x_test", "y_test", "groups", "times") if key in arrays}
    given = {"name": path.stem, "provenance": f"file {path.name}", **extra, **settings}
    return from_arrays(arrays["x"], arrays["y"], **given)


def from_csv(path, *, label, drop=(), groups=None, times=None, **settings) -> Dataset:
    """Make a Dataset from a CSV file with a header line.

    label          the column with the classes
    groups, times  columns for how="group" or how="time"; they are no features
    drop           columns to leave out, such as an identifier

    All other columns must hold numbers. Other settings go to `from_arrays`. Raises ValueError with one sentence.
    """
    import pandas as pd

    _settings(settings)
    path = _file(path, "a CSV file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            names = pd.read_csv(path, header=None, nrows=1, dtype=str, compression=None).iloc[0]
            table = pd.read_csv(path, index_col=False, compression=None)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, pd.errors.ParserWarning, ValueError) as error:
        raise ValueError(
            f"{checks.place(path)} cannot be read as CSV ({_why(error)}); write one header line and one line a row."
        ) from error
    if not len(table):
        raise ValueError(f"{checks.place(path)} holds a header line and no rows; write one line a row below it.")
    if names.duplicated().any() or names.isna().any():
        wrong = names[names.duplicated() | names.isna()].iloc[0]
        told = "a column without a name" if pd.isna(wrong) else f"two columns named {wrong!r}"
        raise ValueError(f"{checks.place(path)} has {told}; give each column its own name in the header line.")
    drop = [drop] if isinstance(drop, str) else checks.several("drop", drop, "['id']", empty=True)
    for role, column in (("label", label), ("groups", groups), ("times", times), *(("drop", c) for c in drop)):
        if column is not None or role == "label":
            checks.one_of(role, column, table.columns)
    features = table.drop(columns={c for c in (label, groups, times, *drop) if c is not None})
    text = [c for c in features.columns if features[c].dtype.kind not in "fiub"]
    if text:
        raise ValueError(
            f"Column {text[0]!r} of {checks.place(path)} holds text (such as "
            f"{checks.show(features[text[0]].dropna().iloc[0])}); turn it into numbers, or leave it out with "
            f"drop={text!r}."
        )
    given = {"name": path.stem, "provenance": f"file {path.name}", **settings}
    for role, column in (("groups", groups), ("times", times)):
        given |= {role: table[column].to_numpy()} if column is not None else {}
    return from_arrays(features.to_numpy(), table[label].to_numpy(), **given)


def from_folder(path, *, size=(28, 28), gray=True, **settings) -> Dataset:
    """Make a Dataset from a folder that has one folder of images for each class.

    size   (height, width) in pixels that every image is resized to
    gray   one channel if True, else red, green and blue

    Other settings go to `from_arrays`. Hidden files and files without an image ending are passed over.
    Raises ValueError with one sentence for an empty class or an image that cannot be read (its name).
    """
    from PIL import Image

    _settings(settings)
    path, gray = checks.path("path", path), checks.flag("gray", gray)
    if not path.is_dir():
        raise ValueError(f"path={str(path)!r} is not a folder; give a folder that holds one folder for each class.")
    if not isinstance(size, tuple | list) or len(size) != 2:
        raise ValueError(f"size={checks.show(size)} is not allowed: give (height, width) in pixels, such as (28, 28).")
    height, width = (checks.integer("size", side, low=1, high=4096) for side in size)
    names = sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(names) < 2:
        told = f"{checks.place(path)} holds {len(names)} class folders"
        raise ValueError(f"{told}; make one folder for each class, at least 2.")
    x, y = [], []
    for name in names:
        files = sorted(p for p in Path(path, name).iterdir() if p.suffix.lower() in IMAGE_ENDINGS and p.name[0] != ".")
        if not files:
            raise ValueError(
                f"Class folder {name!r} of {checks.place(path)} holds no image; add images or remove the folder."
            )
        for file in files:
            try:
                if not file.is_file():  # a pipe would be waited for
                    raise OSError("not a file")
                with (
                    warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning),
                    Image.open(file, formats=IMAGE_FORMATS) as image,
                ):
                    image = image.convert("L" if gray else "RGB").resize((width, height), Image.Resampling.BILINEAR)
            except Exception as error:  # Pillow's decoders raise many kinds
                raise ValueError(
                    f"{checks.place(file)} cannot be read as an image ({_why(error)}); repair or remove it."
                ) from error
            pixels = np.asarray(image)
            x.append(pixels[None] if gray else pixels.transpose(2, 0, 1))
            y.append(name)
    given = {"name": path.name, "provenance": f"folder {path.name}, {len(y):,} images", **settings}
    return from_arrays(np.stack(x), y, **given)
