import ast
import math
import pathlib
import stat
import zipfile

import pandas as pd
import pytest

from helpers import data, engine, runs
from helpers.recipe import Recipe

BASE = Recipe(width=8, epochs=3, n_train=100, batch_size=50)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def some(digits):
    return engine.train(BASE.vary(lr=[0.01, 0.3], clip_norm=[None, 1.0]), digits, seeds=3)


def test_two_tidy_tables(some):
    assert len(some) == 12 and len(some.curves) == 36
    assert some.table["run"].is_unique and set(some.curves["run"]) == set(some.table["run"])
    frame = some.frame()
    assert len(frame) == 36 and {"lr", "seed", "epoch", "val_accuracy", "diverged"} <= set(frame.columns)
    assert some.varied() == ["lr", "clip_norm"]


def test_saved_and_read_back_to_the_bit(some, tmp_path):
    some.save(tmp_path / "deep" / "runs.zip")
    back = runs.Runs.load(tmp_path / "deep" / "runs.zip")
    pd.testing.assert_frame_equal(back.table, some.table)
    pd.testing.assert_frame_equal(back.curves, some.curves)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["runs.zip"]


def test_a_run_belongs_to_all_the_code_that_computes_it():
    beside = {"checks", "data", "runs", "store", "workers"}  # they compute no number; the data have a fingerprint
    for name in runs.DEFINING:
        tree = ast.parse((pathlib.Path(runs.__file__).parent / f"{name}.py").read_text(encoding="utf-8"))
        for node in (n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)):
            package, _, module = node.module.partition(".")
            if package == "helpers":
                used = {module} if module else {a.name for a in node.names}
                assert used <= {*runs.DEFINING, *beside}, f"{name}.py uses {used - beside}"


def test_infinite_and_missing_numbers_survive(digits, tmp_path):
    wild = engine.train(BASE.but(init="normal", init_scale=1e20), digits)
    wild.save(tmp_path / "w.zip")
    back = runs.Runs.load(tmp_path / "w.zip")
    assert back.table["diverged"].tolist() == [True]
    assert not math.isfinite(back.table["train_loss"][0])
    assert back.table["clip_norm"].isna().all()


def test_where_select_add(some):
    half = some.where(lr=0.3)
    assert len(half) == 6 and set(half.table["lr"]) == {0.3} and len(half.curves) == 18
    assert len(some.where(clip_norm=None)) == 6
    assert len(some.where(seed=[0, 2], lr=0.01)) == 4
    assert len(half + some) == 12 and len(some + some) == 12
    order = list(reversed(some.table["run"].tolist()))
    assert some.select(order).table["run"].tolist() == order
    assert some.select(order).curves["run"].drop_duplicates().tolist() == order


def test_summary_has_mean_sd_n(some):
    table = some.summary()
    assert table["n"].tolist() == [3] * 4 and table["diverged"].tolist() == [0] * 4
    first = some.where(lr=0.01, clip_norm=None).table["val_accuracy"]
    assert table["mean"][0] == pytest.approx(first.mean()) and table["sd"][0] == pytest.approx(first.std())


def test_epochs_to_a_target(some):
    never, at_once = some.epochs_to("val_accuracy", 1.01), some.epochs_to("val_accuracy", 0.0)
    assert all(math.isinf(v) for v in never) and (at_once == 1).all()


def test_provenance_names_data_n_device_and_version(some):
    assert some.provenance().startswith("digits · 12 runs, 3 seeds · cpu · ") and "torch 2" in some.provenance()


def test_bad_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist; give a file that Runs.save wrote"):
        runs.Runs.load(tmp_path / "none.zip")
    assert len(runs.Runs.load(tmp_path / "none.zip", missing_ok=True)) == 0
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 cut short")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("table.json", '{"a": [1]}')
        archive.writestr("curves.json", "[1, 2")
    for name in ("cut.zip", "other.zip"):
        with pytest.raises(ValueError, match="is not a file of runs; delete it, or give one that Runs.save wrote"):
            runs.Runs.load(tmp_path / name)


def test_a_failed_write_changes_nothing(some, tmp_path, monkeypatch):
    file = tmp_path / "runs.zip"
    some.where(lr=0.01).save(file)
    before = file.read_bytes()
    monkeypatch.setattr("os.replace", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="could not be written: No space left on device; nothing changed there"):
        some.save(file)
    assert file.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["runs.zip"]


def test_saved_files_can_be_shared(some, tmp_path):
    some.save(tmp_path / "runs.zip")
    assert (tmp_path / "runs.zip").stat().st_mode & stat.S_IRUSR


def test_unknown_columns(some):
    with pytest.raises(TypeError, match="'learning_rate' is not a column of runs; choose from"):
        some.where(learning_rate=0.1)
    with pytest.raises(TypeError, match="'val_acc' is not a column of runs; .* Did you mean 'val_accuracy'"):
        some.summary("val_acc")
