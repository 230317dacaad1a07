"""Nothing is lost when things go wrong: kills at any moment, full disks, read-only folders, two sweeps on one file."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import pathlib
import subprocess
import sys

import killed
import pandas as pd
import pytest

from helpers import data, engine, stacks, store
from helpers.runs import Runs, run_id

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
RECIPES = killed.BASE.vary(seed=range(60))


def same_runs(a: Runs, b: Runs) -> None:
    """To the bit, and in the same order, but for the seconds."""
    for x, y in ((a.table, b.table), (a.curves, b.curves)):
        pd.testing.assert_frame_equal(x.drop(columns="seconds"), y.drop(columns="seconds"), check_exact=True)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


# ---- kills


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory):
    """The folder in which tests/killed.py has killed a sweep again and again, and its report."""
    folder = tmp_path_factory.mktemp("killed")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, killed.__file__, folder], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return folder, json.loads((folder / "report.json").read_text())


@needs_fork
def test_a_hundred_kills_at_random_and_more_in_the_middle_of_a_write(aftermath):
    _, report = aftermath
    assert report["random"] == killed.KILLS == 100 and report["aimed"] == killed.AIMED
    assert report["unsettled"] == 1 and report["ends"] == len(killed.ENDS)
    assert report["last"] == report["calm"] == 0


@needs_fork
def test_no_saved_run_is_lost_or_trained_again(aftermath, digits):
    folder, _ = aftermath
    saved, trained = set(), collections.Counter()
    for word, *runs in killed.notes(folder):
        if word == "train":
            assert saved.isdisjoint(runs)
            trained.update(runs)
        elif word == "saved":
            assert saved.isdisjoint(runs)
            saved.update(runs)
    ids = {run_id(r, digits) for r in killed.RECIPES}
    # what is in the file was reported, but for a kill between the end of a write and its report
    assert saved <= ids == set(trained) == set(Runs.load(folder / "runs.zip").table["run"])
    assert sum(trained.values()) <= len(ids) + 2 * (killed.KILLS + killed.AIMED)  # a kill costs one chunk at most


@needs_fork
def test_the_table_is_that_of_an_undisturbed_sweep(aftermath, digits):
    folder, report = aftermath
    order = [run_id(r, digits) for r in killed.RECIPES]
    calm = Runs.load(folder / "calm" / "runs.zip")
    same_runs(Runs.load(folder / "runs.zip").select(order), calm.select(order))
    assert len(calm) == len(order) and report["files"] == ["log", "runs.zip"]  # and nothing lies about


@needs_fork
def test_two_sweeps_on_one_file_give_the_union(aftermath, digits):
    folder, report = aftermath
    both, calm = (Runs.load(folder / name / "runs.zip") for name in ("both", "calm"))
    order = [run_id(r, digits) for r in killed.RECIPES[:200]]
    assert report["both"] == [0, 0] and both.table["run"].is_unique
    same_runs(both.select(order), calm.select(order))
    assert len(both) == 200 and sorted(p.name for p in (folder / "both").iterdir()) == ["log", "runs.zip"]


# ---- full and read-only


@pytest.fixture
def small_disk(tmp_path):
    """small_disk(options) -> an empty folder on a small disk of its own; a second call changes the options."""
    made = []

    def make(options: str) -> pathlib.Path:
        how = f"remount,{options}" if made else options
        command = ["mount", "-t", "tmpfs", "-o", how, "tmpfs", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True) if os.name == "posix" else None
        if done is None or done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip() if done else os.name}")
        made.append(tmp_path)
        return tmp_path

    yield make
    if made:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.fixture
def two_at_a_time(monkeypatch):
    """Stacks of two, and a list of all that is trained."""
    trained, train = [], stacks.train_stack
    monkeypatch.setattr(stacks, "STACK", 2)
    monkeypatch.setattr(stacks, "train_stack", lambda r, *a, **k: trained.extend(r) or train(r, *a, **k))
    return trained


def fills_up(digits, file, trained, more_room) -> None:
    """A sweep that runs out of room says so, leaves a whole file, and goes on where it was once there is room."""
    with pytest.raises(OSError, match="could not be written: .*; nothing changed there. Make room or give another"):
        engine.train(RECIPES, digits, save=file, jobs=1)
    kept = Runs.load(file)
    assert 0 < len(kept) < len(RECIPES) and set(kept.curves["run"]) == set(kept.table["run"])
    more_room()
    trained.clear()
    whole = engine.train(RECIPES, digits, save=file, jobs=1)
    assert len(trained) == len(RECIPES) - len(kept)
    same_runs(whole, engine.train(RECIPES, digits, jobs=1))
    assert [p.name for p in file.parent.iterdir()] == ["runs.zip"]


def test_a_full_disk(digits, small_disk, two_at_a_time):
    fills_up(digits, small_disk("size=40k") / "runs.zip", two_at_a_time, lambda: small_disk("size=4m"))


def test_a_limit_on_the_size_of_files(digits, tmp_path, two_at_a_time):
    resource = pytest.importorskip("resource", reason="this system has no limit on the size of files")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def more_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
    try:
        fills_up(digits, tmp_path / "runs.zip", two_at_a_time, more_room)
    finally:
        more_room()


def test_a_disk_too_full_for_the_last_step(digits, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", lambda *names: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        runs = engine.train(RECIPES[:6], digits, save=tmp_path / "runs.zip")
    same_runs(Runs.load(tmp_path / "runs.zip").select(runs.table["run"]), runs)
    same_runs(engine.train(RECIPES[:6], digits, save=tmp_path / "runs.zip"), runs)
    assert [p.name for p in tmp_path.iterdir()] == ["runs.zip"]


def test_a_read_only_disk(digits, small_disk, two_at_a_time):
    folder = small_disk("size=1m")
    file = folder / "runs.zip"
    engine.train(RECIPES[:4], digits, save=file)
    before = file.read_bytes()
    small_disk("ro")
    read_only(digits, folder, two_at_a_time)
    assert file.read_bytes() == before


def test_a_folder_that_may_not_be_written(digits, tmp_path, two_at_a_time):
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        pytest.skip("this user may write everywhere")
    engine.train(RECIPES[:4], digits, save=tmp_path / "runs.zip")
    tmp_path.chmod(0o555)
    try:
        read_only(digits, tmp_path, two_at_a_time)
    finally:
        tmp_path.chmod(0o755)


def read_only(digits, folder, trained) -> None:
    """Reading goes on; what would have to be saved is refused before anything is trained."""
    trained.clear()
    assert len(engine.train(RECIPES[:4], digits, save=folder / "runs.zip")) == 4 == len(Runs.load(folder / "runs.zip"))
    for recipes, name in ((RECIPES[:6], "runs.zip"), (RECIPES[:2], "new.zip"), (RECIPES[:2], "deeper/new.zip")):
        with pytest.raises(OSError, match="^save=.* could not be written: (Read-only file system|Permission denied);"):
            engine.train(recipes, digits, save=folder / name)
    assert trained == [] and [p.name for p in folder.iterdir()] == ["runs.zip"]


def test_no_folder_can_be_made_there(digits, tmp_path, two_at_a_time):
    (tmp_path / "file").write_text("mine")
    for place in ("file/runs.zip", "file/deeper/runs.zip"):
        with pytest.raises(OSError, match="^save='.*runs.zip' could not be written: (Not a directory|File exists);"):
            engine.train(RECIPES, digits, save=tmp_path / place)
    (tmp_path / "folder.zip").mkdir()
    with pytest.raises(OSError, match="folder.zip' could not be read: Is a directory.$"):
        engine.train(RECIPES, digits, save=tmp_path / "folder.zip")
    assert two_at_a_time == [] and (tmp_path / "file").read_text() == "mine"


def test_another_process_that_never_lets_go(digits, tmp_path, monkeypatch):
    filelock = pytest.importorskip("filelock")
    monkeypatch.setattr(store, "PATIENCE", 0.2)
    with filelock.FileLock(tmp_path / "runs.zip.lock"), contextlib.suppress(KeyboardInterrupt):
        with pytest.raises(OSError, match="another process has held it for 0.2 seconds; nothing changed there"):
            engine.train(RECIPES[:2], digits, save=tmp_path / "runs.zip")
