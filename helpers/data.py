"""Data sets: one value that holds the parts, their scale and a sealed test set.

`load(name)` gives the sets of the book. `helpers.owndata` makes the same value from your own data.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from helpers import checks, download, glyphs
from helpers import splits as _splits

EMBEDDED = ("digits", "glyphs", "breast_cancer", "wine", "iris")
NAMES = (*EMBEDDED, *download.NAMES)


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Training, validation and (sealed) test rows of one data set.

    x_train, x_val   float32 (n, c, h, w) for images or (n, d) for tables, standardised with the
                     mean and sd of the training rows alone
    y_train, y_val   int64 (n,), positions in `classes`
    classes          names of the classes
    image_shape      (c, h, w), or None for a table
    groups           numpy (n_train,): the group of each training row (writer, font, ...), or None
    provenance       where the rows come from
    scale            what was subtracted and divided

    The test rows come from `open_test(reason)` only, and each reading is counted in `test_readings`:
    a test set that is looked at while choosing is a validation set (Dwork et al. 2015, Science 349).
    """

    name: str
    x_train: torch.Tensor
    y_train: torch.Tensor
    x_val: torch.Tensor
    y_val: torch.Tensor
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int] | None = None
    groups: np.ndarray | None = None
    provenance: str = ""
    scale: str = ""
    _test: tuple[torch.Tensor, torch.Tensor] | None = None
    _readings: list[str] = field(default_factory=list)

    def __post_init__(self):
        checks.text("name", self.name, empty=False), checks.text("provenance", self.provenance)
        classes = checks.once("classes", checks.several("classes", self.classes, "('cat', 'dog')"))
        x_test, y_test = self._test or (self.x_val, self.y_val)
        parts = ("train", self.x_train, self.y_train), ("val", self.x_val, self.y_val), ("test", x_test, y_test)
        for part, x, y in parts:
            checks.finite(f"x_{part}", checks.tensor(f"x_{part}", x, low=2))
            if x.shape[1:] != self.x_train.shape[1:]:
                raise ValueError(
                    f"x_{part} has rows of shape {tuple(x.shape[1:])} but x_train has "
                    f"{tuple(self.x_train.shape[1:])}; bring both to one shape."
                )
            checks.labels(f"y_{part}", y, len(x), len(classes))
        if self.image_shape is not None and tuple(self.image_shape) != tuple(self.x_train.shape[1:]):
            raise ValueError(
                f"image_shape={checks.show(self.image_shape)} is not the shape of a row of x_train, "
                f"{tuple(self.x_train.shape[1:])}; give that, or None for a table."
            )
        if self.groups is not None:
            _splits.column("groups", self.groups, len(self.y_train))

    def __getattr__(self, name):
        if name in ("x_test", "y_test"):
            raise AttributeError(
                f"{name} is sealed: a test set that helps you choose no longer tells how good the choice is; "
                f'choose with x_val and y_val, then call open_test("your reason") once.'
            )
        known = [k for k in (*self.__dataclass_fields__, *dir(type(self))) if not k.startswith("_")]
        raise AttributeError(f"{name!r} is not an attribute of Dataset.{checks.nearest(name, known)}")

    @property
    def n_train(self) -> int:
        """Number of training rows."""
        return len(self.y_train)

    @property
    def n_features(self) -> int:
        """Numbers in one row: d, or c·h·w."""
        return self.x_train[0].numel()

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def test_readings(self) -> list[str]:
        """The reasons given to `open_test` so far, in order (a copy)."""
        return list(self._readings)

    @functools.cached_property
    def fingerprint(self) -> str:
        """12 hex digits of the SHA-256 of all parts, their shapes and the class names; the same on every device."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for part in (self.x_train, self.y_train, self.x_val, self.y_val, *(self._test or ())):
            array = part.detach().cpu().contiguous().numpy()
            digest.update(repr((array.shape, array.dtype.str)).encode())
            digest.update(array.data)
        return digest.hexdigest()[:12]

    def open_test(self, reason: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (x_test, y_test) and note the reason. Raises ValueError for an empty reason or without a test set."""
        if not isinstance(reason, str) or not reason.strip():
            raise ValueError(
                f"reason={reason!r} is not allowed: say in a few words why you read it, such as 'final verdict'."
            )
        if self._test is None:
            raise ValueError(f"{self.name!r} has no test set; make one with test=0.2 when you build the data set.")
        self._readings.append(reason.strip())
        return self._test

    def to(self, device, dtype=torch.float32) -> Dataset:
        """The same data set with its tensors on `device`, x as `dtype`. Both share one list of test readings.

        Raises ValueError for a device that is not there, TypeError for a dtype that is no float.
        """
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise TypeError(f"dtype={checks.show(dtype)} is not allowed: give a float type, such as torch.float32.")
        try:
            torch.empty(0, device=device)
        except (RuntimeError, TypeError, AssertionError) as error:
            raise ValueError(f"device={checks.show(device)} is not available here; use 'cpu', or 'cuda'.") from error
        test = None if self._test is None else (self._test[0].to(device, dtype), self._test[1].to(device))
        x = {k: getattr(self, k).to(device, dtype) for k in ("x_train", "x_val")}
        y = {k: getattr(self, k).to(device) for k in ("y_train", "y_val")}
        return replace(self, _test=test, **x, **y)

    def subset(self, n: int, *, seed: int = 0) -> Dataset:
        """The data set with n training rows, drawn so that each class keeps its share.

        Validation and test rows stay. Everything is standardised again with the n rows alone, because
        the scale of the larger set would tell something about rows that this model must not know.
        Raises ValueError if n is above `n_train` or leaves a class without a row.
        """
        labels = self.y_train.cpu().numpy()
        keep = _pick(labels, n, "n", seed)
        lost = _splits.missing_classes(labels, keep)
        if lost:
            raise ValueError(
                f"n={n} training rows of {self.n_train} leave class {self.classes[lost[0]]!r} without a row; "
                f"choose a larger n."
            )
        rows = torch.as_tensor(keep, device=self.y_train.device)
        parts = [self.x_train[rows], self.x_val, *(self._test[:1] if self._test else ())]
        (x_train, x_val, *x_test), note = _standardise(parts, self.image_shape is not None)
        return replace(
            self,
            x_train=x_train,
            y_train=self.y_train[rows],
            x_val=x_val,
            groups=None if self.groups is None else self.groups[keep],
            scale=f"{self.scale}; again on {len(keep):,} rows: {note}",
            _test=(x_test[0], self._test[1]) if self._test else None,
        )

    def with_label_noise(self, q: float, *, seed: int = 0) -> Dataset:
        """The data set with a share q of the training labels replaced by labels drawn uniformly from all classes.

        A drawn label can be the true one, so about q·(1 - 1/classes) of the labels end up wrong
        (Zhang et al. 2017, ICLR). Validation and test labels stay clean.
        """
        checks.number("q", q, low=0, high=1)
        rng = np.random.default_rng(checks.integer("seed", seed))
        hit = rng.permutation(self.n_train)[: round(q * self.n_train)]
        labels = self.y_train.clone()
        labels[torch.as_tensor(hit, device=labels.device)] = torch.as_tensor(
            rng.integers(0, self.n_classes, len(hit)), device=labels.device
        )
        return replace(self, y_train=labels)

    def __repr__(self):
        shape = "×".join(map(str, self.image_shape)) + " images" if self.image_shape else f"{self.n_features} features"
        read = len(self._readings)
        test = "no test set" if self._test is None else f"{len(self._test[1]):,} test rows (sealed, readings: {read})"
        return (
            f"{self.name}: {self.n_train:,} training rows, {len(self.y_val):,} validation rows, {test}; "
            f"{self.n_classes} classes, {shape}"
        )


def _standardise(parts, images: bool):
    """Subtract the mean and divide by the sd of parts[0]: one scalar each for images, one per column for tables.

    Returns (new parts as float32, note). A constant column is only centred. Sums run in float64, on
    the CPU (some accelerators have no float64), so that the result does not depend on the device.
    """
    device = parts[0].device
    parts = [part.cpu() for part in parts]
    axes = tuple(range(parts[0].ndim)) if images else (0,)
    mean = parts[0].mean(axes, dtype=torch.float64)
    sd = (parts[0] - mean).square_().mean(axes, dtype=torch.float64).sqrt()
    sd = torch.where(sd > 1e-7 * (1e-30 + mean.abs()), sd, torch.ones_like(sd))
    note = f"minus {mean.item():.4g}, over {sd.item():.4g}" if images else "each column minus its mean, over its sd"
    return [((part - mean) / sd).float().to(device) for part in parts], note


def _pick(labels: np.ndarray, n, name: str, seed: int) -> np.ndarray:
    """Numbers of n rows in which each class keeps its share; a smaller n gives a part of a larger n.

    scikit-learn's stratified draws are not nested; learning curves want nested sets.
    """
    n, seed = checks.integer(name, n, low=1, high=len(labels)), checks.integer("seed", seed)
    order = np.random.default_rng(seed).permutation(len(labels))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    return np.sort(order[np.argsort(place[order], kind="stable")[:n]])


def build(name, parts, classes, *, image_shape=None, groups=None, provenance="", pixels="") -> Dataset:
    """Make a Dataset from raw parts [(x, y) for training, validation, test]; the last may be missing.

    x is a numpy array, images (n, c, h, w) or a table (n, d). This is where the scale is set.
    """
    # A table keeps float64 until it is scaled: times and identifiers can need more than seven digits.
    kind = np.float64 if image_shape is None else np.float32
    tensors = [torch.from_numpy(np.array(x, dtype=kind)) for x, _ in parts]
    labels = [torch.from_numpy(np.array(y, dtype=np.int64)) for _, y in parts]
    tensors, note = _standardise(tensors, image_shape is not None)
    return Dataset(
        name,
        tensors[0],
        labels[0],
        tensors[1],
        labels[1],
        tuple(str(c) for c in classes),
        image_shape=image_shape,
        groups=groups,
        provenance=provenance,
        scale=f"{pixels}{note} (training rows alone)",
        _test=(tensors[2], labels[2]) if len(parts) > 2 else None,
    )


@functools.lru_cache(maxsize=2)
def _table(name: str):
    """Rows (n, d), labels (n,), class names and provenance of a set that ships with scikit-learn."""
    from sklearn import datasets

    source = getattr(datasets, f"load_{name}")()
    about = f"scikit-learn's load_{name}: {len(source.target):,} rows"
    return source.data, source.target, [str(c) for c in source.target_names], about


def _small(name: str, sizes, seed: int):
    x, y, classes, about = _table(name)
    n_val, n_test = (397, 400) if name == "digits" else (round(0.2 * len(y)), round(0.2 * len(y)))
    rows = _splits.split(y, how="stratified", validation=n_val, test=n_test, seed=seed)
    shape = None
    if name == "digits":
        x, shape, about = x.reshape(-1, 1, 8, 8), (1, 8, 8), about + ", real handwriting (Alpaydin and Kaynak 1998)"
    return [(x[r], y[r]) for r in rows], classes, shape, about, None, sizes


@functools.lru_cache(maxsize=4)
def _glyph_part(part: int, n: int, seed: int, level: str, characters: str, fonts, class_shares):
    # Each part has its own stream, so that asking for more training rows never moves the test rows.
    stream = int(np.random.SeedSequence([seed, part]).generate_state(1, np.uint64)[0])
    return glyphs.make(n, seed=stream, level=level, characters=characters, fonts=fonts, class_shares=class_shares)


def _glyphs(sizes, seed: int, level="standard", characters="0123456789", fonts=None, class_shares=None):
    checks.one_of("level", level, glyphs.LEVELS)
    characters = glyphs.listed("characters", characters, glyphs.CHARACTERS)
    fonts = None if fonts is None else glyphs.listed("fonts", fonts, glyphs.FONTS)
    shares = None if class_shares is None else glyphs.shares(class_shares, len(characters))
    drawn = []
    for part, (name, default) in enumerate({"n_train": 3000, "n_val": 1000, "n_test": 2000}.items()):
        n = checks.integer(name, default if sizes[name] is None else sizes[name], low=1, high=1_000_000)
        drawn.append(_glyph_part(part, n, seed, level, characters, fonts, None if part else shares))
    about = f"drawn from {len(fonts or glyphs.FONTS)} fonts of matplotlib, level {level!r}"
    parts = [(x[:, None], y) for x, y, _ in drawn]
    return parts, list(characters), (1, 28, 28), about, drawn[0][2], dict.fromkeys(sizes)


@functools.lru_cache(maxsize=1)
def _fetched(name: str, folder):
    return download.fetch(name, folder=folder)


def _downloaded(name: str, sizes, seed: int):
    x, y, x_test, y_test = _fetched(name, str(download.home()))
    rows = _splits.split(y, how="stratified", test=10_000 if len(y) > 20_000 else 0.2, seed=seed)
    parts = [(x[rows.train], y[rows.train]), (x[rows.test], y[rows.test]), (x_test, y_test)]
    return parts, download.CLASSES[name], x.shape[1:], download.ABOUT[name], None, sizes


def load(name: str, *, n_train=None, n_val=None, n_test=None, seed=0, **glyph_settings) -> Dataset:
    """Load a data set of the book.

    name     without a network: "digits" (1,000 + 397 + 400 rows of 1x8x8), "glyphs" (3,000 + 1,000 +
             2,000 images of 1x28x28), "breast_cancer", "wine", "iris" (60 % + 20 % + 20 %);
             downloaded once: "mnist", "fashion_mnist", "cifar10" (10,000 training rows become validation)
    n_train, n_val, n_test   fewer rows of a part, each class keeping its share; for "glyphs" any number
    seed     fixes which rows go where ("glyphs": what is drawn); the test rows of the downloaded sets are fixed
    level, characters, fonts, class_shares   for "glyphs" alone, see `glyphs.make`; class_shares shapes the
             training rows only, so validation and test stay balanced

    Every call returns a new Dataset with an unread test set; the raw rows are kept in memory between
    calls. Raises ValueError or TypeError with one sentence for a bad argument, OSError for a download
    that fails.
    """
    checks.one_of("name", name, NAMES)
    seed = checks.integer("seed", seed, high=2**32 - 1)
    checks.known("setting", glyph_settings, ("level", "characters", "fonts", "class_shares"))
    if glyph_settings and name != "glyphs":
        raise TypeError(f"{next(iter(glyph_settings))!r} is a setting of 'glyphs' alone; leave it out for {name!r}.")
    sizes = {"n_train": n_train, "n_val": n_val, "n_test": n_test}
    if name == "glyphs":
        made = _glyphs(sizes, seed, **glyph_settings)
    else:
        made = _downloaded(name, sizes, seed) if name in download.NAMES else _small(name, sizes, seed)
    parts, classes, shape, about, groups, wanted = made
    for i, (size, n) in enumerate(wanted.items()):
        if n is not None:
            x, y = parts[i]
            rows = _pick(y, n, size, seed)
            lost = _splits.missing_classes(y, rows) if size == "n_train" else []
            if lost:
                raise ValueError(
                    f"n_train={n} leaves class {classes[lost[0]]!r} without a row; choose a larger n_train."
                )
            parts[i] = (x[rows], y[rows])
    return build(name, parts, classes, image_shape=shape, groups=groups, provenance=about)
