"""Files that want to do harm, or are badly broken: each is refused in one sentence, and nothing in it is ever run."""

from __future__ import annotations

import ast
import io
import json
import math
import os
import pathlib
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import data, engine, owndata, runs, store
from helpers.recipe import Recipe

HELPERS = pathlib.Path(runs.__file__).parent
X, Y = np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 3


def refused(call, *arguments, **settings) -> str:
    """The sentence with which this ends."""
    with pytest.raises((ValueError, OSError)) as caught:
        call(*arguments, **settings)
    told = str(caught.value)
    assert len(told.splitlines()) == 1 and told.endswith(".") and len(told) < 600, told[:600]
    return told


@pytest.fixture
def memory():
    """memory() -> the most bytes that Python has held since the test began."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


def test_no_module_unpickles_or_evaluates():
    """Of all ways to run what a file says, helpers takes none."""
    for path in HELPERS.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        modules = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        modules |= {n.module.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
        assert not modules & {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}, path.name
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func)
            assert name not in ("eval", "exec", "compile", "__import__", "yaml.load", "os.system"), path.name
            assert name not in ("pd.read_pickle", "joblib.load", "np.fromregex"), path.name
            assert name != "torch.load" or "weights_only=True" in ast.unparse(call), path.name
            assert name != "np.load" or "allow_pickle=False" in ast.unparse(call), path.name
            assert "allow_pickle=True" not in ast.unparse(call), path.name


# ---- saved runs ----


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """What a file of two runs says: {"table": columns, "curves": columns}."""
    recipes = Recipe(epochs=2, width=4, n_train=100).vary(seed=[0, 1])
    path = tmp_path_factory.mktemp("runs") / "runs.zip"
    engine.train(recipes, data.load("digits")).save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: json.loads(archive.read(f"{name}.json")) for name in ("table", "curves")}


def packed(path: pathlib.Path, tables: dict, **texts) -> pathlib.Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, columns in tables.items():
            archive.writestr(f"{name}.json", texts.get(name) or json.dumps(columns))
    return path


def test_the_good_file_is_read(good, tmp_path):
    assert len(runs.Runs.load(packed(tmp_path / "r.zip", good))) == 2


WRONG_CELLS = {
    "nested": ("table", "lr", [[0.1], 0.1]),
    "a dict": ("table", "lr", {"0": 0.1, "1": 0.1}),
    "a mapping in a cell": ("curves", "val_loss", [{"__reduce__": "os.system"}] * 4),
    "text for a number": ("curves", "val_loss", ["<img src=x onerror=alert(1)>"] * 4),
    "text for a field": ("table", "lr", ["0.1", "x"]),
    "text for a whole number": ("table", "depth", ["2", "2"]),
    "a number for text": ("table", "init", [7, "he"]),
    "a number for the data": ("table", "data", [7, 7]),
    "nothing for the data": ("table", "torch", [None, "2"]),
    "a huge whole number": ("table", "depth", [10**40, 2]),
    "a huge seed": ("table", "seed", [1e300, 0]),
    "a fraction of a unit": ("table", "width", [4.5, 4]),
    "a negative seed": ("table", "seed", [-1, 0]),
    "an infinite size": ("table", "epochs", [math.inf, 2]),
    "a missing size": ("table", "epochs", [None, 2]),
    "a run twice": ("table", "run", ["a", "a"]),
    "a run that is no name": ("table", "run", [1, 2]),
    "a curve of no run": ("curves", "run", ["a"] * 4),
    "columns of different length": ("curves", "epoch", [1, 2, 3]),
    "a column that is no list": ("curves", "epoch", "1111"),
    "a column of nothing": ("table", "run", None),
}


@pytest.mark.parametrize("what", WRONG_CELLS)
def test_wrong_columns_of_saved_runs_are_refused(good, tmp_path, what):
    name, column, values = WRONG_CELLS[what]
    path = packed(tmp_path / "r.zip", {**good, name: {**good[name], column: values}})
    told = f"path={str(path)!r} is not a file of runs; delete it, or give one that Runs.save wrote."
    assert refused(runs.Runs.load, path) == told


@pytest.mark.parametrize("beside_a_good_file", [True, False])
@pytest.mark.parametrize("what", WRONG_CELLS)
def test_wrong_columns_in_a_journal_are_refused(good, tmp_path, what, beside_a_good_file):
    name, column, values = WRONG_CELLS[what]
    path, wrong = tmp_path / "r.zip", {**good, name: {**good[name], column: values}}
    if beside_a_good_file:
        packed(path, good)
    store.beside(path, "journal").write_text(json.dumps(wrong) + "\n")
    assert "is not a file of runs" in refused(runs.Runs.load, path)


@pytest.mark.parametrize("line", ["7", "[1]", "{}", '{"table": {}, "curves": {}}', '"a"', "null", "[" * 100_000])
def test_what_is_no_table_in_a_journal_is_refused(tmp_path, line):
    path = tmp_path / "r.zip"
    store.beside(path, "journal").write_text(line + "\n")
    assert "is not a file of runs" in refused(runs.Runs.load, path)


def test_a_journal_of_too_many_bytes_is_not_read(good, tmp_path, memory, monkeypatch):
    monkeypatch.setattr(store, "MOST_BYTES", 100 << 20)
    with store.beside(tmp_path / "r.zip", "journal").open("wb") as file:
        file.truncate(120 << 20)
    assert "is not a file of runs" in refused(runs.Runs.load, tmp_path / "r.zip")
    assert memory() < 50 << 20


WRONG_TEXTS = {
    "no JSON": "{run: 1}",
    "a list": "[1, 2]",
    "a number": "7",
    "deep nesting": "[" * 200_000,
    "deep nesting of objects": '{"a":' * 100_000,
    "a number of a million digits": '{"run": [' + "9" * 1_000_000 + "]}",
    "half of it": '{"run": ["a", "b"',
    "no text at all": "\0\1\2",
    "a pickle": "\x80\x04\x95cos\nsystem\n(S'touch /tmp/pwned'\ntR.",
}


@pytest.mark.parametrize("what", WRONG_TEXTS)
def test_what_is_no_table_in_saved_runs_is_refused(good, tmp_path, what):
    for name in ("table", "curves"):
        path = packed(tmp_path / "r.zip", good, **{name: WRONG_TEXTS[what]})
        assert "is not a file of runs; delete it, or give one that Runs.save wrote." in refused(runs.Runs.load, path)


def zeros(name: str, size: int) -> bytes:
    """A .zip with one member of `size` zeros, a thousandth as long."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body, crc, block = [], 0, bytes(1 << 20)
    for _ in range(size >> 20):
        body.append(packer.compress(block))
        crc = zlib.crc32(block, crc)
    body = b"".join([*body, packer.flush()])
    sizes = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, crc, len(body), size, len(name), 0)
    local = b"PK\3\4" + sizes + name.encode() + body
    central = b"PK\1\2" + struct.pack("<H", 20) + sizes + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name.encode()
    return local + central + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)


def test_a_bomb_in_saved_runs_is_not_unpacked(tmp_path, memory, monkeypatch):
    monkeypatch.setattr(store, "MOST_BYTES", 100 << 20)
    (tmp_path / "r.zip").write_bytes(zeros("table.json", 120 << 20))
    assert (tmp_path / "r.zip").stat().st_size < 200_000
    assert "is not a file of runs" in refused(runs.Runs.load, tmp_path / "r.zip")
    assert memory() < 50 << 20


def test_a_name_that_stands_twice_in_saved_runs_is_refused(good, tmp_path):
    path = packed(tmp_path / "r.zip", good)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("table.json", json.dumps({"run": ["other"], "seed": [0]}))
    assert "is not a file of runs" in refused(runs.Runs.load, path)


@pytest.mark.parametrize("keep", [0, 1, 0.1, 0.5, 0.9, 0.999])
def test_saved_runs_that_are_cut_short_are_refused(good, tmp_path, keep):
    path = packed(tmp_path / "r.zip", good)
    raw = path.read_bytes()
    path.write_bytes(raw[: keep if keep in (0, 1) else int(keep * len(raw))])
    assert "is not a file of runs" in refused(runs.Runs.load, path)


def test_a_byte_of_saved_runs_that_turned_is_noticed(good, tmp_path):
    path, rng = packed(tmp_path / "r.zip", good), np.random.default_rng(0)
    raw, whole = path.read_bytes(), runs.Runs.load(path)
    for at in rng.integers(0, len(raw), 150):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 0x55]) + raw[at + 1 :])
        try:
            pd.testing.assert_frame_equal(runs.Runs.load(path).curves, whole.curves)  # it was in what nobody reads
        except ValueError as error:
            assert "is not a file of runs" in str(error)


def test_members_that_climb_out_are_never_written(good, tmp_path):
    (tmp_path / "a").mkdir()
    path = packed(tmp_path / "a" / "r.zip", {**good, "../../climbed": {}, "/tmp/climbed": {}})
    assert len(runs.Runs.load(path)) == 2
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "r.zip"]


def test_a_folder_for_saved_runs_is_one_sentence(tmp_path):
    assert refused(runs.Runs.load, tmp_path) == f"path={str(tmp_path)!r} could not be read: Is a directory."


# ---- .npz ----


def header(shape: str, kind: str = "<f8") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def npz(path: pathlib.Path, **members) -> pathlib.Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, raw in members.items():
            if not isinstance(raw, bytes):
                file = io.BytesIO()
                np.save(file, raw)
                raw = file.getvalue()
            archive.writestr(f"{name}.npy", raw)
    return path


NPZ = {
    "a huge shape": header("(1000000000000, 1000)"),
    "a large shape": header("(1000000000, 2)"),
    "a shape that overflows": header("(4611686018427387904, 4)"),
    "a negative shape": header("(-3, 2)"),
    "a shape that is code": header("__import__('os').system('touch pwned')"),
    "an object": header("(30,)", "|O") + b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.",
    "an unknown kind": header("(30,)", "<q99"),
    "a header of nonsense": b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535,
    "no array": b"hello",
    "nothing": b"",
}


@pytest.mark.parametrize("what", NPZ)
def test_a_hostile_array_is_refused(tmp_path, monkeypatch, memory, what):
    monkeypatch.chdir(tmp_path)
    told = refused(owndata.from_npz, npz(tmp_path / "a.npz", x=NPZ[what], y=Y))
    assert "a.npz cannot be read as an .npz file of plain arrays (" in told
    assert os.listdir(tmp_path) == ["a.npz"]


def test_a_bomb_in_an_npz_is_not_unpacked(tmp_path, monkeypatch, memory):
    monkeypatch.setattr(owndata, "MOST_BYTES", 100 << 20)
    (tmp_path / "a.npz").write_bytes(zeros("x.npy", 120 << 20))
    assert "unpacks to 125,829,120 bytes, but at most 104,857,600 are read" in refused(
        owndata.from_npz, tmp_path / "a.npz"
    )
    assert memory() < 50 << 20


def test_arrays_that_climb_out_are_never_written(tmp_path):
    (tmp_path / "a").mkdir()
    made = owndata.from_npz(npz(tmp_path / "a" / "a.npz", x=X, y=Y, **{"../../climbed": Y}))
    assert made.n_train == 18 and sorted(p.name for p in tmp_path.rglob("*")) == ["a", "a.npz"]


# ---- CSV ----

CSV = {
    "longer rows": ("a,b,kind\n1,2,x,9\n3,4,y,9\n", "cannot be read as CSV"),
    "one longer row": ("a,b,kind\n1,2,x\n3,4,y,9\n", "cannot be read as CSV"),
    "shorter rows": ("a,b,kind\n1,2,x\n3\n", "x holds NaN, infinite or huge numbers (above 1e30) in 1 of 2 rows"),
    "not UTF-8": (b"a,kind\n1,caf\xe9\n2,x\n", "cannot be read as CSV ('utf-8' codec can't decode byte 0xe9"),
    "UTF-16": ("a,kind\n1,x\n2,y\n".encode("utf-16"), "cannot be read as CSV ('utf-8' codec can't decode"),
    "gzip": (zlib.compress(b"a,kind\n1,x\n2,y\n"), "cannot be read as CSV"),
    "a formula": ("a,kind\n=cmd|' /C calc'!A0,x\n2,y\n", "Column 'a' of"),
    "a quote without end": ('a,kind\n"1,x\n2,y\n', "cannot be read as CSV"),
    "a column twice": ("a,a,kind\n1,2,x\n3,4,y\n", "has two columns named 'a'; give each column its own name"),
    "a column without a name": ("a,,kind\n1,2,x\n3,4,y\n", "has a column without a name; give each column its own"),
    "infinite": ("a,kind\n1e999,x\n2,y\n", "x holds NaN, infinite or huge numbers"),
    "no rows": ("a,kind\n", "holds a header line and no rows; write one line a row"),
    "blank": ("\n\n\n", "cannot be read as CSV (No columns to parse from file)"),
    "NULs": (b"a,kind\n\0\0,x\n\0,y\n", "Column 'a' of"),
}


@pytest.mark.parametrize("what", CSV)
def test_a_broken_csv_is_refused(tmp_path, what):
    text, sentence = CSV[what]
    path = tmp_path / "a.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert sentence in refused(owndata.from_csv, path, label="kind")


def test_a_gigantic_field_ends_in_a_short_sentence(tmp_path):
    (tmp_path / "a.csv").write_text("a,kind\n" + "x" * 20_000_000 + ",1\n2,2\n")
    assert "holds text (such as 'xxxx" in refused(owndata.from_csv, tmp_path / "a.csv", label="kind")
    (tmp_path / "a.csv").write_text("x" * 1_000_000 + ",kind\n1,1\n2,2\n")
    assert "is not known" in refused(owndata.from_csv, tmp_path / "a.csv", label="b")


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(owndata, "MOST_BYTES", 1000)
    (tmp_path / "a.csv").write_text("a,kind\n" + "1,x\n" * 400)
    assert "a.csv holds 1,607 bytes, but at most 1,000 are read" in refused(
        owndata.from_csv, tmp_path / "a.csv", label="kind"
    )


# ---- folders of images ----


@pytest.fixture
def pictures(tmp_path):
    for k, name in enumerate(("red", "green")):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(8):
            Image.new("RGB", (6, 5), (250 * k, 250 - i, 0)).save(tmp_path / "set" / name / f"{i}.png")
    return tmp_path / "set"


def bomb() -> bytes:
    """A PNG of 30,000 x 30,000 pixels in a few hundred bytes."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


IMAGES = {
    "text": b"no picture",
    "nothing": b"",
    "a bomb": bomb(),
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(touch pwned) run\n",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
}


@pytest.mark.parametrize("what", IMAGES)
def test_what_is_no_image_is_refused(pictures, memory, what):
    (pictures / "red" / "9.png").write_bytes(IMAGES[what])
    assert "9.png cannot be read as an image (" in refused(owndata.from_folder, pictures)
    assert memory() < 50 << 20


def test_an_image_that_is_cut_short_is_refused(pictures):
    file = pictures / "red" / "3.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[:800])
    assert "3.png cannot be read as an image (" in refused(owndata.from_folder, pictures)


def test_links_in_a_circle_and_pipes_end_in_one_sentence(pictures):
    (pictures / "red" / "9.png").symlink_to("9.png")
    assert "9.png cannot be read as an image (not a file)" in refused(owndata.from_folder, pictures)
    (pictures / "red" / "9.png").unlink()
    os.mkfifo(pictures / "red" / "9.png")  # to open it is to wait for a writer
    assert "9.png cannot be read as an image (not a file)" in refused(owndata.from_folder, pictures)
    (pictures / "red" / "9.png").unlink()
    (pictures / "loop").symlink_to(pictures / "loop")  # no folder, so it is no class
    assert owndata.from_folder(pictures).classes == ("green", "red")
    (pictures / "blue").symlink_to(pictures)  # a folder without an image of its own
    assert "Class folder 'blue'" in refused(owndata.from_folder, pictures)


def test_unseen_characters_of_a_name_are_shown(pictures):
    (pictures / "red" / "a\n\u202egnp.png").write_bytes(b"no picture")
    assert r"a\n\u202egnp.png' cannot be read as an image" in refused(owndata.from_folder, pictures)
