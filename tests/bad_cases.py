"""For each public function of helpers a valid call, and bad values for each of its arguments: see `test_bad_input`."""

from __future__ import annotations

import atexit
import functools
import gzip
import hashlib
import math
import pathlib
import shutil
import struct
import tempfile
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from unittest import mock

import numpy as np
import pandas as pd
import torch
from bad_values import (
    FLAGS,
    NAN,
    NUMBERS,
    PATHS,
    WORDS,
    Kind,
    columns_of,
    integers,
    labels_of,
    names,
    only,
    reals,
    rows_of,
    tensors,
    texts,
    things,
)
from PIL import Image
from torch import nn

import helpers as h
from helpers import (
    augment,
    blocks,
    claims,
    data,
    download,
    engine,
    glyphs,
    init,
    losses,
    models,
    optim,
    plots,
    probe,
    recipe,
    schedules,
    splits,
    streams,
    surfaces,
)

FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="bad-input-"))  # what the valid calls read
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
SMALL = h.Recipe(epochs=1, width=4, n_train=100)


@dataclass
class Case:
    """A valid call `f(**good)`, and bad values for its arguments, alone (`bad`) and several at once (`together`).

    free: arguments for which every value means something. says: words that the sentence may use for an argument
    instead of its name.
    """

    f: Callable
    good: dict = field(default_factory=dict)
    bad: dict = field(default_factory=dict)
    free: tuple = ()
    says: dict = field(default_factory=dict)
    together: tuple = ()

    def values(self):
        """Yield (argument, what the sentence may call it, {argument: bad value})."""
        for name, kind in self.bad.items():
            for value in kind.listed:
                yield name, self.says.get(name, (name,)), {name: value}
        for several in self.together:
            yield "+".join(several), (), several


# ---- what the valid calls use ----


@functools.cache
def digits():
    return h.load("digits")


@functools.cache
def trained():
    return h.train(SMALL.vary(lr=[0.1, 0.3]), digits(), seeds=2)


@functools.cache
def compared():
    return h.compare(SMALL, arms={"init": ["he", "zero"]}, data=digits(), seeds=2, score="val_accuracy")


def model():
    return models.build("mlp", (4,), 3, depth=1, width=5)


def curves(**more):
    rows = [dict(lr=a, init=i, seed=s, epoch=e, val_accuracy=0.1 * e) for a in (0.1, 1.0) for i in ("he", "zero")
            for s in (0, 1) for e in (1, 2, 3)]  # fmt: skip
    return pd.DataFrame(rows).assign(**more)


def drawn():
    return h.explore(curves(), sliders=["lr"], color="init")


def written(name: str, make: Callable) -> str:
    path = FOLDER / name
    if not path.exists():
        make(path)
    return str(path)


X, Y = np.random.default_rng(0).normal(size=(30, 4)), np.arange(30) % 3
XT, YT = torch.from_numpy(X).float(), torch.from_numpy(Y)
RECIPES = things(h.Recipe, [1], ["mlp"], {"lr": 0.1})
DATA = things("digits", X, h.Dataset)
SETTINGS = {  # of owndata and splits
    "how": names(*splits.WAYS),
    "validation": reals(above=0, below=1).plus(0, 0.0, 1.0, 30, 1000),
    "test": reals(low=0, below=1).plus(1.0, 30, -1),
    "seed": integers(0, 2**32 - 1),
}
FIELDS = {
    "model": names(*models.MODELS), "depth": integers(0, 200), "width": integers(1, 8192),
    "activation": names(*models.ACTIVATIONS), "norm": names(*blocks.NORMS), "norm_place": names("before", "after"),
    "dropout": reals(low=0, below=1), "shortcut": names(*blocks.SHORTCUTS), "branch_scale": reals(low=0),
    "pool": names(*models.POOLS), "widen": reals(above=0), "init": names(*init.INITS), "init_scale": reals(low=0),
    "output_bias": names("zero", "prior"), "loss": names(*losses.LOSSES), "label_smoothing": reals(low=0, below=1),
    "focal_gamma": reals(low=0), "optimizer": names(*optim.OPTIMIZERS), "lr": reals(above=0),
    "momentum": reals(low=0, below=1), "beta1": reals(low=0, below=1), "beta2": reals(low=0, below=1),
    "weight_decay": reals(low=0), "l1": reals(low=0), "l1_step": names("gradient", "proximal"),
    "schedule": names(*schedules.SCHEDULES), "warmup": reals(low=0, high=1), "clip_norm": reals(above=0).but(None),
    "clip_value": reals(above=0).but(None), "batch_size": integers(1).but(None), "epochs": integers(1),
    "patience": integers(1).but(None), "n_train": integers(1).but(None), "label_noise": reals(low=0, high=1),
    "augment": names(*augment.AUGMENTS), "augment_strength": reals(low=0, high=augment.MOST), "seed": integers(0),
}  # fmt: skip
NO_FIELDS = only({"learning_rate": 0.1}, {"Lr": 0.1}, {"": 1}, {"lr": []}, {"lr": ["fast"]}, {"init": ["he", "hee"]})
UNKNOWN = only({"nme": "x"}, {"Seed": 0}, {"x": X}, {"rows": 5})


def own(f, good: dict, bad: dict, **more) -> Case:
    """A case of the readers of files, whose further settings go to `from_arrays`."""
    return Case(lambda settings=None, **k: f(**k, **(settings or {})), good, {**bad, "settings": UNKNOWN},
                says={"path": ("path",), "settings": ("setting",)} | more)  # fmt: skip


def bounds(at_least, at_most) -> dict:
    """The bounds of `share`: one of them, or both as a pair."""
    if isinstance(at_least, tuple):
        return dict(zip(("at_least", "at_most"), at_least, strict=True))
    return {"at_least": at_least} if at_most is None else {"at_most": at_most}


def a_table(path):
    pd.DataFrame(X, columns=list("abcd")).assign(kind=Y, word="w").to_csv(path, index=False)


def idx_files(path):
    (path / "mnist").mkdir(parents=True)
    for name in download.IDX:
        array = np.zeros((9, 28, 28) if "images" in name else 9, np.uint8)
        head = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        (path / "mnist" / name).write_bytes(gzip.compress(head + array.tobytes()))


def fetched(name, folder, mirrors):
    files = [FOLDER / "data" / "mnist" / file for file in download.IDX]
    sums = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    with mock.patch.dict(download.SHA256, mnist=sums):
        return download.fetch(name, folder=folder, mirrors=mirrors)


def images(path):
    for name in ("red", "green"):
        (path / name).mkdir(parents=True)
        for i in range(6):
            Image.new("RGB", (5, 4), name).save(path / name / f"{i}.png")


def splitting(f, more: dict, **good) -> Case:
    how, seed = SETTINGS["how"], SETTINGS["seed"]
    columns = columns_of(30)
    bad = {
        "y_or_n": columns.but([0] * 29, [0] * 31).plus(1, 0, -3, 1.5, True, None, [], [1]),
        "how": how,
        "seed": seed,
        **more,
    }
    together = (
        dict(how="group"), dict(how="time"), dict(how="stratified", y_or_n=30), dict(how="group", groups=[0] * 30),
        dict(how="time", times=[1] * 30), dict(how="stratified", y_or_n=[0] * 29 + [1]),
        *(dict(groups=v) for v in columns.listed), *(dict(times=v) for v in columns.listed),
    )  # fmt: skip
    return Case(f, {"y_or_n": Y, **good}, bad, ("groups", "times"), {"y_or_n": ("y_or_n",)}, together)


CASES: dict[str, Callable[[], Case]] = {
    # data
    "load": lambda: Case(
        lambda name, glyph_settings=None, **k: h.load(name, **k, **(glyph_settings or {})),
        dict(name="iris", seed=1),
        {
            "name": names(*data.NAMES),
            "seed": SETTINGS["seed"],
            "n_train": integers(1, 90).but(None),
            "n_val": integers(1, 30).but(None),
            "n_test": integers(1, 30).but(None),
            "glyph_settings": only({"level": "easy"}, {"lvel": "easy"}, {"fonts": None}),
        },
        says={"glyph_settings": ("setting",)},
        together=tuple(
            dict(name="glyphs", n_train=20, glyph_settings={k: v})
            for k, v in [
                ("level", "esy"),
                ("level", 7),
                ("level", ["easy"]),
                ("characters", 5),
                ("characters", ""),
                ("characters", "11"),
                ("characters", "é"),
                ("characters", ["1", ["2"]]),
                ("characters", {}),
                ("fonts", 7),
                ("fonts", "Arial"),
                ("fonts", []),
                ("fonts", [["DejaVuSans"]]),
                ("class_shares", "x"),
                ("class_shares", [0.5]),
                ("class_shares", [0.1] * 9 + [NAN]),
                ("class_shares", [0.2] * 10),
                ("class_shares", 1.0),
                ("class_shares", [-0.1, 0.2] + [0.1] * 8 + [0.1]),
            ]
        )
        + (dict(name="glyphs", n_train=10**9),),
    ),
    "Dataset": lambda: Case(
        lambda x_train=XT, y_train=YT, x_val=XT, y_val=YT, name="mine", classes=("a", "b", "c"), **k: h.Dataset(
            name, x_train, y_train, x_val, y_val, classes, **k
        ),
        {},
        {
            "name": texts(empty=False),
            "x_train": tensors((30, 4), axes="finite"),
            "x_val": tensors((30, 4), axes="finite").plus(XT[:, :3], XT[:9]),
            "y_train": labels_of(30, 3),
            "y_val": labels_of(30, 3),
            "classes": things("abc", ["a"], ["a", "b", "b"], 3, [["a"], "b", "c"]),
            "image_shape": only((1, 2, 2), (4, 1), [], 5).but(5),
            "groups": columns_of(30),
            "provenance": texts(),
        },
        ("scale", "_test", "_readings"),
        {"classes": ("classes", "y_train"), "x_val": ("x_val", "y_val"), "x_train": ("x_train", "y_train")},
    ),
    "Dataset.open_test": lambda: Case(digits().open_test, dict(reason="a test"), dict(reason=texts(empty=False))),
    "Dataset.to": lambda: Case(
        digits().to,
        dict(device="cpu"),
        {
            "device": only("gpu", "cpu:x", "", "tpu", 1.5, [], {}, "cuda:99"),
            "dtype": only(None, "float32", float, 32, torch.int64, torch.bool, np.float32, []),
        },
    ),
    "Dataset.subset": lambda: Case(
        digits().subset, dict(n=100), dict(n=integers(1, 1000).plus(1, 9), seed=integers(0))
    ),
    "Dataset.with_label_noise": lambda: Case(
        digits().with_label_noise, dict(q=0.5), dict(q=reals(low=0, high=1), seed=integers(0))
    ),
    "from_arrays": lambda: Case(
        lambda **k: h.from_arrays(**{"x": X, "y": Y, **k}),
        {},
        {
            "x": things(
                X[:, 0], X[:, :0], X[:29], X * NAN, X * 1e300, X.astype(str), X + 1j, [[1, 2], [3]] * 15, [[]], 0.5
            ),
            "y": columns_of(30).plus(
                Y + 0.5,
                Y[:, None],
                Y * 0,
                ["a"] * 30,
                Y.astype("datetime64[D]"),
                Y + 1j,
                None,
                7,
                [b"a", b"b"] * 15,
                [("a",)] * 30,
                [0] * 29 + [1],
            ),
            "name": texts(empty=False),
            "provenance": texts(),
            **SETTINGS,
        },
        ("groups", "times"),
        {"x": ("x", "y has"), "y": ("y", "Class")},
        (
            *(dict(x_test=v, y_test=Y) for v in (X[:, :2], X * NAN, "x", X[:0], X[:9])),
            *(dict(x_test=X, y_test=v) for v in (Y[:9], Y + 9, Y + 0.5, "y", [[0]] * 30)),
            dict(x_test=X),
            dict(y_test=Y),
            dict(how="group"),
            dict(how="time"),
            dict(how="group", groups=[0] * 30),
            dict(how="group", groups=Y[:9]),
            dict(how="ordered", y=[0] * 29 + [1]),
            dict(validation=0.6, test=0.6),
            dict(validation=1e-9),
        ),
    ),
    "from_npz": lambda: own(
        h.from_npz,
        dict(path=written("d.npz", lambda p: np.savez(p, x=X, y=Y))),
        dict(path=PATHS.plus("nowhere.npz", ".")),
    ),
    "from_csv": lambda: own(
        h.from_csv,
        dict(path=written("d.csv", a_table), label="kind", drop="word"),
        {
            "path": PATHS.plus("nowhere.csv", "."),
            "label": names("kind", "a", "b", "c", "d").plus("word ", "Kind"),
            "drop": things("e", ["word", "f"], [["word"]], "", ["word", 7]).but([], {}, None),
            "groups": names("a", "b", "c", "d", "kind", "word").but(None),
            "times": names("a", "b", "c", "d", "kind", "word").but(None),
        },
    ),
    "from_folder": lambda: own(
        h.from_folder,
        dict(path=written("pictures", images)),
        {
            "path": PATHS.plus("nowhere", "/dev/null"),
            "gray": FLAGS,
            "size": only(
                28, (28,), (28, 28, 3), "28", (0, 28), (-1, 28), (28.0, 28), (28, 5000), (True, 28), None, {}, []
            ),
        },
    ),
    # streams
    "streams.seed": lambda: Case(streams.seed, dict(seed=3), {"seed": integers(0)}),
    "streams.stream": lambda: Case(
        streams.stream, dict(seed=3, number=1), {"seed": integers(0), "number": integers(0)}
    ),
    "streams.begin": lambda: Case(streams.begin, dict(first=0), {"first": integers(0, 1_000_000)}),
    # splits
    "split": lambda: splitting(h.split, {"test": SETTINGS["test"], "validation": SETTINGS["test"]}),
    "folds": lambda: splitting(h.folds, {"k": integers(2, 30)}),
    "label_distance": lambda: Case(
        h.label_distance,
        dict(y=Y, a=[0, 1], b=[2]),
        dict(y=columns_of(30).but([0] * 29, [0] * 31), a=rows_of(30).plus([]), b=rows_of(30).plus([])),
    ),
    "missing_classes": lambda: Case(
        h.missing_classes, dict(y=Y, index=[0]), dict(y=columns_of(30).but([0] * 29, [0] * 31), index=rows_of(30))
    ),
    "class_counts": lambda: Case(
        splits.class_counts, dict(y=Y, index=[0]), dict(y=columns_of(30).but([0] * 29, [0] * 31), index=rows_of(30))
    ),
    "leak_check": lambda: Case(
        h.leak_check,
        dict(X=X, a=[0, 1], b=[2]),
        {
            "X": only(7, "x", None, {}, X.astype(object), [[1], [2, 3]], object),
            "a": rows_of(30),
            "b": rows_of(30),
            "near": reals(low=0),
        },
        together=(dict(X=X * NAN, near=0.1), dict(X=X.astype(str), near=0.1)),
    ),
    "Split": lambda: Case(
        splits.Split,
        dict(train=[0], validation=[1], test=[2]),
        {
            k: only([0.5], ["a"], [[0], [1, 2]], [-1], [True, False], {}, "1", [0, 1, 2], 1.5)
            for k in ("train", "validation", "test")
        },
        says={k: (k, "two parts") for k in ("train", "validation", "test")},
    ),
    "Fold": lambda: Case(
        splits.Fold,
        dict(train=[0], test=[2]),
        {k: only([0.5], ["a"], [[0], [1, 2]], [-1], [True, False], {}, "1", 1.5) for k in ("train", "test")},
    ),
    "glyphs.make": lambda: Case(
        glyphs.make,
        dict(n=2),
        {
            "n": integers(1, 1_000_000),
            "seed": integers(0),
            "level": names(*glyphs.LEVELS),
            "characters": things("", "00", "é", ["0", "10"], [["0"]]).but("nonsense"),
            "fonts": things("Arial", [["DejaVuSans"]]).but(None),
            "class_shares": things([0.5, 0.5], [0.1] * 9 + [NAN], [0.2] * 10, "0.1", [-0.1] + [0.1] * 8 + [0.3]).but(
                None
            ),
        },
    ),
    "download.fetch": lambda: Case(
        fetched,
        dict(name="mnist", folder=written("data", idx_files), mirrors=()),
        {"name": names(*download.NAMES)},
        ("folder", "mirrors"),
        together=(
            dict(name="mnist", folder=7),
            dict(name="mnist", folder=""),
            dict(name="mnist", mirrors="http://a"),
            dict(name="mnist", mirrors=[7]),
            dict(name="mnist", mirrors=5),
            dict(name="mnist", mirrors=["ftp://a"]),
        ),
    ),
}
PNG = b"\x89PNG\r\n\x1a\n"
NOT_ARMS = only(None, 7, "init", [], {}, ["he"], {"init": "he"}, {"init": ["he"]}, {"init": ["he", "he"]}, {7: [1, 2]},
                {"inits": ["he", "zero"]}, {"init": ["he", 7]}, {"init": [["he"], ["zero"]]}, {"lr": [1, 1.0]},
                {"init": ["he", "zero"], "lr": [1, 2]}, {"init": None}, {"lr": [0.1, NAN]})  # fmt: skip
TUNINGS = only(7, "lr", ["lr"], {"lr": []}, {"lr": 0.1}, {"lr": "ab"}, {"lrr": [0.1]}, {"init": ["he"]},
               {"lr": [-1, 1]}, {"lr": [0.1, 0.1]}, {7: [1]}, {"lr": [[0.1]]}, {"lr": None}, {"lr": [NAN]})  # fmt: skip
LINES = {
    "x": names("epoch", "lr").but(),
    "y": names("val_accuracy"),
    "color": names("init").but(None),
    "ax": things().but(None),
}
NO_SEEDS = Kind(integers(1, 100_000).but(None, [1]).listed, NUMBERS.filter(lambda v: not 1 <= v <= 100_000) | WORDS)
VALUES = Kind(
    (7, "nonsense", True, None, b"bytes", {}, 0.5, [], [0.1], "ab", [0.1, NAN], [0.1, math.inf], [0.1, "a"],
     [0.1, None], [True, False], [[0.1], [0.2]], [10**400, 1]),
    WORDS | NUMBERS,
)  # fmt: skip


def losing(name: str, **more) -> Case:
    bad = {"logits": tensors((30, 3), axes="").plus(XT[:9, :3], XT[:, 0]), "labels": labels_of(30, 4),
           "smoothing": reals(low=0, below=1), **more}  # fmt: skip
    return Case(
        getattr(losses, name), dict(logits=XT, labels=YT, smoothing=0.1), bad, (), {"logits": ("logits", "labels")}
    )


CASES |= {
    # recipes and runs
    "Recipe": lambda: Case(
        lambda fields=None, **k: h.Recipe(**k, **(fields or {})),
        {},
        FIELDS | {"fields": only({"learning_rate": 0.1}, {"Lr": 0.1}, {"": 1})},
        says={"fields": ("field",)},
        together=(
            dict(momentum=0.5),
            dict(beta1=0.5, optimizer="sgd"),
            dict(norm_place="after"),
            dict(branch_scale=0.0),
            dict(pool="max"),
            dict(model="rnn", dropout=0.5),
            dict(focal_gamma=1.0),
            dict(model="rnn", norm="batch"),
            dict(batch_size=1, norm="batch"),
        ),
    ),
    "Recipe.but": lambda: Case(
        lambda changes: h.Recipe().but(**changes),
        dict(changes={"lr": 1}),
        dict(changes=NO_FIELDS),
        says={"changes": ("field", "lr", "init")},
    ),
    "Recipe.vary": lambda: Case(
        lambda changes: h.Recipe().vary(**changes),
        dict(changes={"lr": [1]}),
        dict(changes=NO_FIELDS),
        says={"changes": ("field", "lr", "init")},
    ),
    "Recipe.fields": lambda: Case(h.Recipe().fields),
    "Recipe.differs": lambda: Case(h.Recipe().differs, dict(other=h.Recipe()), dict(other=RECIPES)),
    "Runs": lambda: Case(
        h.Runs,
        dict(table=pd.DataFrame(), curves=pd.DataFrame()),
        dict(table=things([{"run": 1}]), curves=things([{"run": 1}])),
    ),
    "Runs.empty": lambda: Case(h.Runs.empty),
    "Runs.from_curves": lambda: Case(
        h.Runs.from_curves,
        dict(recipes=[SMALL], curves=[[{"epoch": 1, "train_loss": 0.5}]], data=digits(), device="cpu"),
        {
            "recipes": RECIPES.plus([SMALL] * 2, []),
            "curves": things([], [[]], [[{}]], [{"epoch": 1}], [[7]]),
            "data": DATA,
            "device": texts(empty=False),
        },
        says={"recipes": ("recipes",), "curves": ("curves",)},
    ),
    "Runs.select": lambda: Case(
        trained().select, dict(ids=["a"]), dict(ids=things([7], [None], [["a"]], "abc").but([]))
    ),
    "Runs.union": lambda: Case(
        h.Runs.union, dict(parts=[trained()]), dict(parts=things([7], [None], [trained(), {}], trained().table).but([]))
    ),
    "Runs.tables": lambda: Case(trained().tables),
    "Runs.where": lambda: Case(
        lambda fields: trained().where(**fields),
        dict(fields={"lr": 0.1}),
        dict(
            fields=only({"learning_rate": 0.1}, {"lr": [[1]]}, {"lr": {}}, {"LR": 1}, {"lr": X}, {"": 0}, {"lr": [{}]})
        ),
        says={"fields": ("column", "lr")},
    ),
    "Runs.frame": lambda: Case(trained().frame),
    "Runs.varied": lambda: Case(trained().varied),
    "Runs.provenance": lambda: Case(trained().provenance),
    "Runs.summary": lambda: Case(
        trained().summary,
        {},
        dict(score=names("val_accuracy", "val_loss").plus("init", "run")),
        says={"score": ("column",)},
    ),
    "Runs.epochs_to": lambda: Case(
        trained().epochs_to,
        dict(score="val_accuracy", target=0.5),
        dict(score=names("val_accuracy").plus("run"), target=reals()),
        says={"score": ("column",), "target": ("target",)},
    ),
    "Runs.save": lambda: Case(
        trained().save,
        dict(path=f"{FOLDER}/r.zip"),
        dict(path=PATHS.plus("/proc/no/r.zip")),
        says={"path": ("path", "save")},
    ),
    "Runs.load": lambda: Case(
        h.Runs.load,
        dict(path=written("runs.zip", trained().save)),
        {"path": PATHS.plus("nowhere.zip", __file__, "."), "missing_ok": FLAGS},
        ("missing_ok",),
    ),
    "train": lambda: Case(
        lambda **k: h.train(**{"recipes": SMALL, "data": digits(), **k}),
        dict(seeds=1),
        {
            "recipes": RECIPES.plus([SMALL, None]),
            "data": DATA,
            "jobs": integers(1),
            "device": names("auto", "cpu", "cuda"),
            "seeds": NO_SEEDS.plus([], [0, 0], [1.5], ["a"], "8", [[1]], [-1], [None], {}),
            "save": PATHS.but(None).plus("/proc/no/r.zip", __file__),
            "test": texts(),
            "watch": things().but(None, object),
            "stop": things().but(None, object),
        },
        says={"seeds": ("seed",), "save": ("save", "path")},
    ),
    "pick_device": lambda: Case(engine.pick_device, dict(device="cpu"), dict(device=names("auto", "cpu", "cuda"))),
    "train_one": lambda: Case(
        lambda **k: h.train_one(**{"recipe": SMALL, "data": digits(), **k}),
        {},
        {
            "recipe": RECIPES,
            "data": DATA,
            "test": texts(),
            "device": only("gpu", "", 1.5, [], None, "cuda:99").but(None),
            "dtype": only(None, "float32", float, torch.int64, []),
            "prepare": things().but(object),
        },
    ),
    "fit": lambda: Case(
        lambda **k: h.fit(
            **{
                "model": model(),
                "loss": losses.cross_entropy,
                "batches": [(XT, YT)],
                "lr_at": lambda s: None,
                "optimizer": torch.optim.SGD(model().parameters()),
                **k,
            }
        ),
        {},
        {
            "model": things(),
            "loss": things().but(object),
            "optimizer": things(),
            "batches": only(7, None, 1.5, object),
            "lr_at": things().but(object),
            "clip": things().but(object),
        },
    ),
    # comparisons and claims
    "compare": lambda: Case(
        lambda **k: h.compare(
            **{
                "base": SMALL,
                "arms": {"init": ["he", "zero"]},
                "data": digits(),
                "seeds": 2,
                "score": "val_accuracy",
                **k,
            }
        ),
        {},
        {
            "base": RECIPES,
            "arms": NOT_ARMS,
            "data": DATA,
            "tune": TUNINGS,
            "seeds": integers(2, 10_000),
            "tuning_seeds": integers(1, 10_000),
            "higher_is_better": FLAGS,
            "margin": reals(low=0),
            "jobs": integers(1),
            "score": names("val_accuracy", "test_loss").plus("epoch", "diverged"),
            "measure": things(lambda r: None, lambda r: [1], lambda r: ["a"] * 4, lambda r: "abcd", lambda r: 4).but(
                None, object
            ),
        },
        says={
            "arms": ("arms", "init", "lr", "field"),
            "tune": ("tune", "lr", "field"),
            "base": ("base", "recipe"),
            "score": ("score",),
        },
    ),
    "Interval": lambda: Case(
        h.Interval,
        dict(mean=0.5, low=0.1, high=0.9, sd=0.2, n=8, p=0.01),
        {k: reals() for k in ("mean", "low", "high", "sd", "p")} | {"n": integers(2)},
        together=(dict(low=0.6), dict(high=0.4), dict(mean=2.0)),
    ),
    "Interval.of": lambda: Case(
        h.Interval.of, dict(values=[0.1, 0.2]), dict(values=VALUES, level=reals(above=0, below=1))
    ),
    "Interval.outcome": lambda: Case(h.Interval.of([0.1, 0.2]).outcome, dict(margin=0), dict(margin=reals(low=0))),
    "Comparison": lambda: Case(
        lambda **k: h.Comparison(
            **{
                "field": "init",
                "arms": ("he", "zero"),
                "chosen": {},
                "at_edge": (),
                "runs": None,
                "tuning": None,
                "scores": compared().scores,
                "score": "val_accuracy",
                "margin": 0.1,
                **k,
            }
        ),
        {},
        {
            "field": texts(empty=False),
            "arms": things(("he",), ("he", "he"), ("zero", "he"), "he", ()),
            "scores": things(),
            "score": texts(empty=False),
            "margin": reals(low=0),
            "higher_is_better": FLAGS,
        },
        ("chosen", "at_edge", "runs", "tuning"),
    ),
    **{
        f"Comparison.{name}": lambda name=name: Case(
            getattr(compared(), name), dict(a="he", b="zero"), {k: names("he", "zero").but(None) for k in "ab"}
        )
        for name in ("interval", "outcome", "sentence")
    },
    "Comparison.table": lambda: Case(compared().table),
    "Evidence": lambda: Case(
        h.Evidence,
        dict(holds=True, sentence="it is.", n=8),
        {
            "holds": FLAGS.but(None),
            "sentence": texts(empty=False),
            "n": integers(0),
            "p": reals(low=0, high=1).but(None),
            "outcome": texts(),
        },
    ),
    "exact": lambda: Case(
        h.exact, dict(sentence="equal", holds=True), {"sentence": texts(empty=False), "holds": FLAGS, "n": integers(0)}
    ),
    "shows": lambda: Case(
        lambda **k: h.shows(**{"comparison": compared(), "expected": "helps", **k}),
        {},
        {
            "comparison": things(),
            "expected": names(*claims.OUTCOMES),
            "a": names("he", "zero").but(None),
            "b": names("he", "zero").but(None),
        },
    ),
    **{
        name: lambda name=name: Case(
            getattr(h, name),
            dict(sentence="it is", values=[0.1, 0.2]),
            {
                "sentence": texts(empty=False),
                "values": VALUES,
                "zero": reals(),
                "margin": reals(low=0),
                "unit": texts(),
            },
        )
        for name in ("above", "below")
    },
    "share": lambda: Case(
        lambda at_most=None, at_least=0.5, **k: h.share(**k, **bounds(at_least, at_most)),
        dict(sentence="hits", hits=3, n=4),
        {
            "sentence": texts(empty=False),
            "hits": integers(0, 4),
            "n": integers(1),
            "at_least": reals(low=0, high=1).but(None),
            "at_most": reals(low=0, high=1).but(None),
        },
        together=(dict(at_least=None), dict(n=2), dict(at_least=(0.5, 0.5))),
    ),
    "holm": lambda: Case(
        claims.holm,
        dict(p_values=[0.1]),
        dict(p_values=things([-0.1], [1.1], [NAN], ["a"], [None], 0.5, [True], [[0.1]], {0.5: 1}).but([])),
    ),
    "worded": lambda: Case(
        claims.worded,
        dict(evidence=h.exact("a is b", True), names={"a": "this"}),
        {"evidence": things().but(None), "names": only(7, "nonsense", True, [("a", "b")], None)},
    ),
    "verdict": lambda: Case(
        h.verdict,
        dict(claim="X-01", evidence=h.exact("equal", True)),
        {
            "claim": texts(empty=False),
            "evidence": things({"a": 7}, [h.exact("e", True)], {7: h.exact("e", True)}, True),
            "ill_posed": FLAGS,
        },
        says={"evidence": ("evidence", "measured")},
    ),
    "Ledger": lambda: Case(h.Ledger),
    "Ledger.add": lambda: Case(
        lambda claim, parts=None: h.Ledger().add(claim, part=parts),
        dict(claim="X-01", parts=h.exact("equal", True)),
        {"claim": texts(empty=False), "parts": things(h.Evidence, True)},
        says={"parts": ("part",)},
    ),
    "Ledger.ill_posed": lambda: Case(
        lambda claims: h.Ledger().ill_posed(claims),
        dict(claims="X-01"),
        dict(claims=texts(empty=False)),
        says={"claims": ("claim",)},
    ),
    "Ledger.verdicts": lambda: Case(h.Ledger().verdicts),
    # pictures and words
    "figure": lambda: Case(
        h.figure,
        {},
        {"panels": integers(1, 6), "width": reals(low=0.5, high=50).but(None), "height": reals(low=0.5, high=50)},
    ),
    "picture": lambda: Case(
        lambda **k: h.picture(**{"axes": h.figure(), "finding": "What can be seen in this figure.", **k}),
        {},
        {"axes": things([7], [None], ()), "finding": texts(empty=False).plus("short"), "note": texts()},
    ),
    "plot_lines": lambda: Case(
        lambda **k: h.plot_lines(**{"table": curves(), "x": "epoch", "y": "val_accuracy", **k}),
        {},
        {
            "table": things(curves()[:0], curves().to_dict()),
            "logx": FLAGS,
            "logy": FLAGS,
            "legend": FLAGS,
            **LINES,
            "x": LINES["x"],
            "y": LINES["y"].plus("init", "val_acc"),
        },
        says={k: ("column",) for k in ("x", "y", "color")} | {"ax": ("ax",)},
    ),
    "plot_curves": lambda: Case(
        lambda **k: h.plot_curves(**{"runs": curves(), **k}),
        {},
        {"runs": things(curves()[:0]), **{k: v for k, v in LINES.items() if k != "x"}},
        says={"runs": ("table",), "y": ("column",), "color": ("column",)},
    ),
    "add_legend": lambda: Case(
        lambda **k: plots.add_legend(**{"ax": h.plot_lines(curves(), x="epoch", y="val_accuracy", color="init"), **k}),
        {},
        {"ax": things()},
        ("look",),
    ),
    "plot_differences": lambda: Case(
        lambda **k: h.plot_differences(**{"comparison": compared(), **k}),
        {},
        {"comparison": things(), "ax": things().but(None)},
    ),
    "plot_images": lambda: Case(
        h.plot_images,
        dict(images=np.zeros((2, 4, 4))),
        {
            "images": things(
                np.zeros((2, 4)), np.zeros((0, 4, 4)), np.zeros((2, 3, 4, 4)), np.zeros((2, 4, 4)) * NAN, [[1], [2, 3]]
            ),
            "titles": Kind((7, None, "ab", ["a"], ["a"] * 3, {}, object, True), WORDS | NUMBERS),
            "columns": integers(1, 64),
        },
    ),
    "surface_background": lambda: Case(
        h.surface_background, dict(name="ravine"), dict(name=names(*surfaces.SURFACES)), says={"name": ("surface",)}
    ),
    "explore": lambda: Case(
        lambda **k: h.explore(**{"table": curves(), "sliders": ["lr"], "color": "init", **k})._sentence(),
        {},
        {
            "table": things(
                curves()[:0],
                curves().to_dict(),
                pd.concat([curves(), curves()]),
                curves().set_axis(["lr", "lr", "seed", "epoch", "val_accuracy"], axis=1),
                curves(epoch=NAN),
            ),
            "x": names("epoch").plus([], ["epoch", "nonsense"], "init", ["epoch", "epoch"]).but(["epoch"]),
            "y": names("val_accuracy").plus([], "init", ["val_accuracy", "x"]).but(["val_accuracy"]),
            "sliders": names("lr").plus(["lr", "lr"], ["lr", "x"], "epoch").but(["lr"], []),
            "selects": names("lr").plus("lr", ["x"]).but([]),
            "color": names("init").but(None).plus("lr", "epoch", "lrr"),
            "band": names("seed").but(None).plus("lr", ["seed"]),
            "kind": names("line", "bar", "path", "dot"),
            "title": texts(),
            "note": texts(),
            "labels": things(["lr"]).but(None, {}),
            "start": things({"lrr": 1}, {"lr": 7}, {"lr": [1]}, {"init": "he"}).but(None, {}),
            "xscale": names("linear", "log").plus({"epoch": "lin"}).but({}),
            "yscale": names("linear", "log").but({}),
            "xlim": only(
                (2, 1),
                (1, 1),
                (1,),
                (1, 2, 3),
                5,
                "ab",
                (NAN, 1),
                (0, math.inf),
                ("a", "b"),
                (None, 1),
                [],
                {"epoch": 5},
            ),
            "ylim": only((2, 1), (1, 1), (1,), 5, "ab", (NAN, 1), ("a", "b"), {"val_accuracy": (1,)}),
            "background": things({None: 7}, {None: {"png": b""}}).but(None, {}),
            "finding": things(lambda rows: 7, lambda rows: "").but(None, object),
        },
        says={
            k: (k, "column", "table", "control")
            for k in ("x", "y", "sliders", "selects", "color", "band", "table", "start")
        },
        together=(
            dict(xscale="log", xlim=(0, 1)),
            dict(kind="path", x=["epoch", "lr"]),
            dict(color=None),
            dict(sliders=()),
            *(
                dict(table=curves(y=1.0), x="epoch", y="y", kind="path", background={None: v})
                for v in (
                    7,
                    {},
                    {"png": PNG, "extent": (0, 1)},
                    {"png": PNG, "extent": (1, 0, 0, 1)},
                    {"png": PNG, "extent": (0, 1, 0, NAN)},
                    {"png": b"GIF", "extent": (0, 1, 0, 1)},
                    {"png": "x", "extent": (0, 1, 0, 1)},
                    {"png": PNG, "extent": "abcd"},
                )
            ),
        ),
    ),
    **{
        f"Explorer.{name}": lambda name=name: Case(
            lambda state: getattr(drawn(), name)(**state),
            dict(state={"lr": 0.1}),
            dict(
                state=only(
                    {"lr": 7},
                    {"lr": "0.1"},
                    {"lrr": 0.1},
                    {"lr": None},
                    {"lr": [0.1]},
                    {"lr": True},
                    {"x": "seconds"},
                    {"lr": NAN},
                )
            ),
            says={"state": ("state", "control", "x=")},
        )
        for name in ("at", "full")
    },
    "Explorer.widget": lambda: Case(drawn().widget),
    "train_panel": lambda: Case(
        lambda **k: h.train_panel(**{"base": SMALL, "data": digits(), "fields": {"lr": [0.1]}, **k}),
        {},
        {
            "base": RECIPES,
            "data": DATA,
            "recorded": things(pd.DataFrame()).but(None),
            "y": names(*("val_accuracy", "train_loss")),
            "fields": things(
                {"lrr": [1]},
                {"lr": []},
                {"lr": [0]},
                {"seed": [1]},
                {7: [1]},
                {"lr": [[1]]},
                {"lr": [0.1, 0.1]},
                {"lr": NAN},
            ),
            "seeds": integers(1, 64),
            "title": texts(empty=False),
        },
        says={"fields": ("field", "lr")},
    ),
    "say": lambda: Case(h.say, dict(text="He wins."), dict(text=texts(empty=False)), ("glued",)),
    "answer": lambda: Case(
        h.answer,
        dict(right=1, because="He wins."),
        {"right": integers(1, 9).but([], [1], {}).plus([1, 1], [0], ["a"], [None]), "because": texts(empty=False)},
        ("glued",),
    ),
    "source": lambda: Case(
        lambda functions, whole=False: h.source(*functions, whole=whole),
        dict(functions=[h.fit]),
        {"functions": only((), (7,), (None,), ("fit",), (len,), (h.fit, 7), ([],), (math,)[:0]), "whole": FLAGS},
        says={"functions": ("functions", "source")},
    ),
    "scale": lambda: Case(h.scale, dict(smoke=1, book=2), dict(smoke=only(None), book=only(None)), ("full",)),
    # inside a network
    "layer_scales": lambda: Case(
        lambda **k: h.layer_scales(**{"recipes": SMALL, "data": digits(), "seeds": 1, "n": 8, **k}),
        {},
        {"recipes": RECIPES.plus([SMALL, None]), "data": DATA, "seeds": integers(1), "n": integers(1)},
        says={"recipes": ("recipe",)},
    ),
    "model_scales": lambda: Case(
        lambda **k: probe.model_scales(**{"model": model(), "x": XT, "y": YT, "loss": losses.cross_entropy, **k}),
        {},
        {"model": things(), "x": tensors((30, 4), axes="finite"), "y": labels_of(30, 3), "loss": things().but(object)},
    ),
    "distinct_units": lambda: Case(
        h.distinct_units,
        dict(layer=nn.Linear(2, 3)),
        {"layer": things(nn.ReLU(), nn.Linear), "tolerance": reals(low=0, below=1)},
    ),
    "input_gradient": lambda: Case(
        lambda **k: h.input_gradient(**{"model": model(), "x": XT, "y": YT, **k}),
        {},
        {"model": things(), "x": tensors((30, 4), axes="finite"), "y": labels_of(30, 3)},
    ),
    "full_loss_trace": lambda: Case(
        lambda **k: h.full_loss_trace(**{"recipe": SMALL, "data": digits(), "steps": 1, **k}),
        {},
        {"recipe": RECIPES, "data": DATA, "steps": integers(1, 1_000_000)},
    ),
    "walk": lambda: Case(
        h.walk,
        dict(surface="ravine", optimizer="sgd", lr=0.01, steps=2),
        {
            "surface": names(*surfaces.SURFACES),
            "optimizer": names(*optim.OPTIMIZERS),
            "lr": reals(above=0),
            "steps": integers(1, 100_000),
            "noise": reals(low=0),
            "seed": integers(0, 2**63 - 1),
        },
    ),
    # the parts that chapters show
    "lr_factor": lambda: Case(
        schedules.lr_factor,
        dict(schedule="cosine", warmup=0.1, progress=0.5),
        {"schedule": names(*schedules.SCHEDULES), "warmup": reals(low=0, high=1), "progress": reals(low=0, high=1)},
    ),
    **{
        name: lambda name=name: losing(name)
        for name in ("target", "cross_entropy", "squared_error", "binary_cross_entropy")
    },
    "focal": lambda: losing("focal", gamma=reals(low=0)),
    "map_criterion": lambda: losing("map_criterion", j=reals()),
    "loss": lambda: Case(losses.loss, dict(name="focal"), dict(name=names(*losses.LOSSES)), says={"name": ("loss",)}),
    "losses.make": lambda: Case(losses.make, dict(options=h.Recipe()), dict(options=RECIPES)),
    "optim.make": lambda: Case(
        lambda **k: optim.make(**{"name": "sgd", "parameters": model().parameters(), "options": h.Recipe(), **k}),
        {},
        {
            "name": names(*optim.OPTIMIZERS),
            "parameters": things([7], [None], "ab"),
            "options": RECIPES.plus(
                *(
                    types.SimpleNamespace(**{**recipe.DEFAULTS, k: v})
                    for k, v in [("lr", -1), ("lr", "a"), ("momentum", NAN), ("beta1", 1)]
                )
            ),
        },
        says={"name": ("optimizer",), "options": ("options", "lr", "momentum", "beta1")},
    ),
    "soft_threshold": lambda: Case(
        optim.soft_threshold, dict(w=XT, amount=0.1), dict(w=tensors((30, 4), axes=""), amount=reals(low=0))
    ),
    "build": lambda: Case(
        lambda options=None, **k: models.build(**{"name": "mlp", "shape": (4,), "classes": 3, **k, **(options or {})}),
        {},
        {
            "name": names(*models.MODELS),
            "shape": things((0,), (4.0,), (-1, 2), ("4",), 4, "4", (True,), (None,)),
            "classes": integers(1),
            "options": only(
                {"depth": -1},
                {"depth": 1.5},
                {"width": 0},
                {"width": "w"},
                {"activation": "rel"},
                {"norm": "btach"},
                {"dropout": 1},
                {"dropout": "a"},
                {"shortcut": "id"},
                {"norm_place": "in"},
                {"dpeth": 2},
                {"depth": True},
            ),
        },
        says={"name": ("model",), "options": ("depth", "width", "activation", "norm", "dropout", "shortcut")},
        together=(
            dict(name="cnn"),
            dict(name="lenet5"),
            dict(name="rnn"),
            dict(name="lenet5_1998"),
            dict(name="cnn", shape=(1, 8, 8), options={"depth": 9}),
            dict(name="lenet5_1998", shape=(1, 28, 28), classes=11),
            dict(options={"depth": 2, "shortcut": "identity"}),
        ),
    ),
    "weight_layers": lambda: Case(models.weight_layers, dict(model=model()), dict(model=things(nn.Linear))),
    "initialize": lambda: Case(
        lambda **k: init.initialize(**{"model": model(), "name": "he", **k}),
        {},
        {
            "model": things(nn.Linear),
            "name": names(*init.INITS).plus("pca"),
            "scale": reals(low=0),
            "seed": integers(0, 2**63 - 1),
            "x": tensors((30, 4)).but(None),
        },
        says={"name": ("init",)},
    ),
    "prior_bias": lambda: Case(
        lambda **k: init.prior_bias(**{"model": model(), "labels": YT, "classes": 3, "odds": False, **k}),
        {},
        {
            "model": things(),
            "labels": Kind(tuple(v for v in labels_of(30, 3).listed if getattr(v, "shape", 0) != (29,)), WORDS),
            "classes": integers(1).plus(2, 4),
            "odds": FLAGS,
        },
        says={"classes": ("classes", "labels")},
    ),
    "augment": lambda: Case(
        augment.augment,
        dict(name="noise", x=torch.rand(2, 1, 4, 4)),
        {
            "name": names(*augment.AUGMENTS),
            "x": tensors((2, 1, 4, 4), axes="finite").plus(torch.rand(2, 4)),
            "strength": reals(low=0, high=augment.MOST),
            "seed": integers(0, 2**63 - 1),
        },
        says={"name": ("augment",), "x": ("x", "images of shape"), "strength": ("augment_strength",)},
    ),
    "normalization": lambda: Case(
        blocks.normalization,
        dict(norm="batch", features=4, dims=1),
        {"norm": names(*blocks.NORMS), "features": integers(1), "dims": integers(1, 2)},
    ),
    "Dropout": lambda: Case(blocks.Dropout, dict(p=0.5), dict(p=reals(low=0, below=1))),
    "Residual": lambda: Case(
        blocks.Residual,
        dict(branch=nn.ReLU(), shortcut=nn.Identity(), after=nn.Identity()),
        {k: things(nn.ReLU) for k in ("branch", "shortcut", "after")},
    ),
    "block": lambda: Case(
        lambda **k: blocks.block(
            **{
                "layer": lambda a, b, stride, size: nn.Linear(a, b),
                "inputs": 4,
                "outputs": 4,
                "act": nn.ReLU,
                "norm": "none",
                "shortcut": "identity",
                "dims": 1,
                **k,
            }
        ),
        {},
        {
            "layer": things().but(object),
            "inputs": integers(1),
            "outputs": integers(1),
            "act": things().but(object),
            "norm": names(*blocks.NORMS),
            "shortcut": names(*blocks.SHORTCUTS),
            "dims": integers(1, 2),
            "stride": integers(1),
            "drop": things([7], [None]).but([]),
        },
    ),
    "scale_branches": lambda: Case(
        blocks.scale_branches, dict(model=model(), factor=0.0), dict(model=things(nn.Linear), factor=reals(low=0))
    ),
}
