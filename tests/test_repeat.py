"""Again gives the same: chapters that are executed twice, and two builds of one folder at once."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import nbformat
import pytest

from helpers.claims import MIME

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))
execute = pytest.importorskip("execute", reason="the tools that build the book are not installed")
QUICK = ("01_data_splits", "04_losses")


def started(root, **environment):
    """The program that executes the chapters of a folder."""
    return subprocess.Popen(
        [sys.executable, execute.__file__, "--root", str(root)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **environment},
    )  # fmt: skip


def verdicts(notebook) -> list:
    """What a chapter decided, with its numbers."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [v for output in outputs for v in output.get("data", {}).get(MIME, {}).get("verdicts", ())]


def test_a_chapter_that_is_executed_twice_gives_the_same_verdicts(tmp_path):
    roots = [tmp_path / "once", tmp_path / "twice"]
    for root in roots:
        (root / "chapters").mkdir(parents=True)
        for name in QUICK:
            (root / "chapters" / f"{name}.ipynb").write_bytes((ROOT / "chapters" / f"{name}.ipynb").read_bytes())
    programs = [started(root, TRICKS_SCALE="smoke", TRICKS_JOBS="1") for root in roots]
    told = [program.communicate()[0] for program in programs]
    assert [program.returncode for program in programs] == [0, 0], told
    once, twice = (execute.executed(root) for root in roots)
    assert set(once) == set(twice) == set(QUICK)
    for name in QUICK:
        assert len(verdicts(once[name])) > 2
        assert verdicts(once[name]) == verdicts(twice[name])


def test_two_builds_at_once_run_each_chapter_once(tmp_path):
    (tmp_path / "chapters").mkdir()
    for i in range(3):
        cells = [nbformat.v4.new_code_cell(f"import time; time.sleep(1); {i}")]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "chapters" / f"0{i}_x.ipynb")
    programs = [started(tmp_path), started(tmp_path)]
    told = sorted((program.communicate()[0] for program in programs), key=len)
    assert [program.returncode for program in programs] == [0, 0], told
    whole = "".join(told)
    assert whole.count("running") == whole.count("done in") == whole.count("unchanged") == 3
    assert list(execute.executed(tmp_path)) == ["00_x", "01_x", "02_x"]


def test_the_second_build_says_that_it_waits(tmp_path):
    hold = "with execute.alone(pathlib.Path(sys.argv[1]), 'pages'): print('held', flush=True); sys.stdin.read()"
    code = f"import pathlib, sys; sys.path.insert(0, {str(ROOT / 'book' / '_ext')!r}); import execute\n"
    command = [sys.executable, "-c", code + hold, str(tmp_path / "_build")]
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "held\n"
    second = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    wait = "  Another build of this folder is busy with the pages; waiting for it.\n"
    assert second.stdout.readline() == wait and second.poll() is None
    first.communicate("")
    assert second.communicate()[0] == "held\n" and first.returncode == second.returncode == 0


def test_the_pages_of_a_folder_are_held_to_the_end_of_the_process(tmp_path):
    hold = (
        "import pathlib, sys, types; sys.path.insert(0, sys.argv[2]); import book_ext\n"
        "app = types.SimpleNamespace(outdir=sys.argv[1])\n"
        "book_ext.one_at_a_time(app, None); book_ext.one_at_a_time(app, None)\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(tmp_path / "_build" / "html"), str(ROOT / "book" / "_ext")]
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "held\n"
    lock = execute.filelock.FileLock(tmp_path / "_build" / "pages.lock")
    with pytest.raises(execute.filelock.Timeout):
        lock.acquire(blocking=False)
    first.communicate("")
    with lock:
        assert first.returncode == 0
