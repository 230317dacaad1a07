"""The file of runs: additions cost what they add, torn lines are passed over, what was added last counts."""

from __future__ import annotations

import json
import zipfile

import pytest

from helpers import store


def tables(*runs, **columns):
    column = {k: [v] * len(runs) for k, v in columns.items()}
    return {"table": {"run": list(runs), "seed": [0] * len(runs), **column}, "curves": {"run": list(runs)}}


def test_an_addition_costs_what_it_adds(tmp_path):
    file, journal = tmp_path / "runs.zip", tmp_path / "runs.zip.journal"
    store.write(file, tables(*map(str, range(5000))))
    before, sizes = file.stat(), []
    for i in range(20):
        store.append(file, tables(f"new {i:02}"))
        sizes.append(journal.stat().st_size)
    steps = {b - a for a, b in zip(sizes, sizes[1:], strict=False)}
    assert steps == {sizes[0]} and sizes[0] < 200  # one line each
    after = file.stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)
    assert len(store.read(file)["table"]["run"]) == 5020


def test_settling_leaves_one_file_with_everything(tmp_path):
    file = tmp_path / "deep" / "runs.zip"
    store.append(file, tables("a", "b", lr=0.1))
    store.append(file, tables("c"))
    before = store.read(file)
    assert before["table"] == {"run": ["a", "b", "c"], "seed": [0, 0, 0], "lr": [0.1, 0.1, None]}
    store.settle(file)
    assert store.read(file) == before and [p.name for p in file.parent.iterdir()] == ["runs.zip"]
    store.settle(file)
    assert zipfile.ZipFile(file).namelist() == ["table.json", "curves.json"]


def test_what_was_added_last_counts(tmp_path):
    file = tmp_path / "runs.zip"
    store.write(file, tables("a", "b", score=1))
    store.append(file, tables("b", score=2, test=3))
    assert store.read(file) == {
        "table": {"run": ["a", "b"], "seed": [0, 0], "score": [1, 2], "test": [None, 3]},
        "curves": {"run": ["a", "b"]},
    }
    store.write(file, tables("z"))
    assert store.read(file)["table"]["run"] == ["z"]


@pytest.mark.parametrize("kept", range(0, 64, 3))
def test_a_line_cut_short_at_any_place_is_passed_over(tmp_path, kept):
    file, journal = tmp_path / "runs.zip", tmp_path / "runs.zip.journal"
    store.append(file, tables("a"))
    whole = journal.read_bytes()
    line = json.dumps(tables("b")).encode()
    assert 0 <= kept < len(line)
    journal.write_bytes(whole + line[:kept])
    assert store.read(file)["table"]["run"] == ["a"]
    store.append(file, tables("c"))
    assert store.read(file)["table"]["run"] == ["a", "c"]
    store.settle(file)
    assert store.read(file)["table"]["run"] == ["a", "c"]


def test_a_part_left_by_a_dead_process_goes(tmp_path):
    file = tmp_path / "runs.zip"
    (tmp_path / "runs.zip.part").write_bytes(b"half of a")
    store.append(file, tables("a"))
    store.settle(file)
    assert [p.name for p in tmp_path.iterdir()] == ["runs.zip"]


def test_nothing_saved_is_nothing(tmp_path):
    file = tmp_path / "runs.zip"
    assert store.read(file) is None
    store.check(file)
    assert store.read(file) is None
    store.settle(file)
    assert store.read(file) is None
