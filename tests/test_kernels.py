"""Kernels that are forks of one process: as fresh as others, gone when the work is done, and missed when they die."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "book" / "_ext")]

execute = pytest.importorskip("execute", reason="the tools that build the book are not installed")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forks on Linux alone")

LOOK = """import json, os, subprocess, sys
print(json.dumps({
    "pid": os.getpid(), "parent": os.getppid(), "ready": "torch._dynamo" in sys.modules, "cwd": os.getcwd(),
    "left": hasattr(sys, "left"), "tools": any(p.endswith("_ext") for p in sys.path),
    "scale": os.environ["TRICKS_SCALE"],
    "child": subprocess.run([sys.executable, "-c", ""]).returncode, "main": sys.modules["__main__"].__name__,
}))
sys.left = True"""


def built(root, *sources, stop=None, **more):
    """Run a chapter for each source, one at a time; (exit code, what was said, the printed text of each chapter)."""
    (root / "chapters").mkdir()
    for i, source in enumerate(sources):
        cells = [nbformat.v4.new_code_cell(source)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), root / "chapters" / f"{i:02}_x.ipynb")
    environment = {**os.environ, "TRICKS_JOBS": "1", "TRICKS_SCALE": "smoke", **more}
    program = subprocess.Popen(
        [sys.executable, execute.__file__, "--root", str(root)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
    )  # fmt: skip
    if stop:
        stop(program)
    told = program.communicate(timeout=60)[0]
    texts = {n: b.cells[0].outputs[0].text for n, b in execute.executed(root).items() if b.cells[0].outputs}
    return program.returncode, told, texts


def test_each_chapter_has_a_kernel_of_its_own_and_one_process_has_the_imports(tmp_path):
    code, told, texts = built(tmp_path, *[f"{LOOK}  # {i}" for i in range(3)])
    assert code == 0, told
    looks = [json.loads(text) for text in texts.values()]
    assert len({look["pid"] for look in looks}) == 3 and len({look["parent"] for look in looks}) == 1
    ours = {"ready": True, "left": False, "child": 0, "main": "__main__", "scale": "smoke", "tools": False}
    for look in looks:
        assert ours.items() <= look.items() and look["cwd"] == str(tmp_path / "chapters")
        assert not psutil.pid_exists(look["pid"]) and not psutil.pid_exists(look["parent"])
    abouts = [book.metadata[execute.META] for book in execute.executed(tmp_path).values()]
    assert min(about["cpu_seconds"] for about in abouts) > 1  # the imports are in the bill of every chapter


def test_a_kernel_that_dies_fails_its_own_chapter_alone(tmp_path):
    dies = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    code, told, texts = built(tmp_path, "print(1)", dies, "print(3)")
    assert code == 1 and "FAILED chapters/01_x.ipynb" in told and "the kernel died" in told
    assert texts == {"00_x": "1\n", "02_x": "3\n"}


def test_a_mistake_in_the_library_is_told_by_the_chapters_that_import_it(tmp_path):
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers" / "__init__.py").write_text("def f(:\n")
    code, told, texts = built(tmp_path, "import helpers", "print(2)", "print(3)", PYTHONPATH=str(tmp_path))
    assert code == 1 and told.count("FAILED chapters/00_x.ipynb") == 1 and "SyntaxError" in told
    assert texts == {"01_x": "2\n", "02_x": "3\n"}


@pytest.mark.parametrize("when", ["at the start", "in a cell"])
def test_one_stop_ends_all_chapters_and_leaves_nothing_running(tmp_path, when):
    seen, mark = [], tmp_path / "started"

    def stop(program):
        next(line for line in program.stdout if "running" in line)
        while when == "in a cell" and not mark.exists():
            time.sleep(0.05)
        seen.extend(psutil.Process(program.pid).children(recursive=True))
        program.send_signal(signal.SIGINT)

    wait = f"import pathlib, time; pathlib.Path({str(mark)!r}).touch(); time.sleep(90)"
    code, told, _ = built(tmp_path, *[f"{wait}  # {i}" for i in range(3)], stop=stop)
    assert (code, told) == (130, "\nStopped.\n")
    assert len(seen) > (when == "in a cell") and psutil.wait_procs(seen, timeout=10)[1] == []
