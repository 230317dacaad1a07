"""Run the chapters: several at once, none twice, and say plainly which cell failed.

    python book/_ext/execute.py            every chapter that is not in the cache
    python book/_ext/execute.py 03         the chapters whose name starts with 03

The executed notebooks go to two places:

- `_build/cache/<key>/`: the jupyter-cache that MyST-NB reads. The key is a hash of `helpers/`, the claims, the
  installed versions, Python, the scale and the first seed: a change in any of them runs the chapters again.
  jupyter-cache itself looks only at the code in the notebook.
- `_build/executed/<chapter>.ipynb`: the same as plain notebooks, for tests and for the evidence pages (`executed`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import re
import shutil
import signal
import sys
import time

import filelock
import joblib
import kernels
import nbclient
import nbclient.exceptions
import nbformat
import psutil
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn

META = "training_tricks"  # where a notebook's metadata say how it was executed
MATTER = ("torch", "numpy", "scipy", "scikit-learn", "pandas", "matplotlib", "pillow", "joblib", "kornia")
TIMEOUT = 300  # seconds a single cell may take
KEEP = 8  # caches of older keys that are kept, so that going back to a branch costs nothing


def versions() -> dict[str, str]:
    """The installed versions of the packages that can change a result, and Python's own."""
    found = {"python": platform.python_version()}
    for name in MATTER:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def scale() -> str:
    """The scale in force, as `helpers.scale` reads it."""
    return os.environ.get("TRICKS_SCALE") or "book"


def first_seed() -> str:
    """The number from which the seeds are counted, as `helpers.streams` reads it."""
    return os.environ.get("TRICKS_FIRST_SEED") or "0"


def cache_key(root: pathlib.Path) -> str:
    """Sixteen hex digits, of `helpers/`, the claims on the cards, the versions that matter, scale and first seed."""
    digest = hashlib.sha256(repr((sorted(versions().items()), scale(), first_seed())).encode())
    root = pathlib.Path(root)
    read = [p for p in (root / "helpers").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    for path in sorted([*read, *root.glob("book/claims.yml")]):
        digest.update(f"\0{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def cache_folder(root: pathlib.Path) -> pathlib.Path:
    """The jupyter-cache that belongs to the present key."""
    return pathlib.Path(root) / "_build" / "cache" / f"{scale()}-{cache_key(root)}"


def chapters(root: pathlib.Path) -> list[pathlib.Path]:
    """The notebooks `chapters/NN_name.ipynb` in reading order."""
    return sorted((pathlib.Path(root) / "chapters").glob("[0-9][0-9]_*.ipynb"))


def executed(root: pathlib.Path) -> dict[str, nbformat.NotebookNode]:
    """Return {chapter name: executed notebook} of the last run; chapters that were not run are missing."""
    folder = pathlib.Path(root) / "_build" / "executed"
    return {path.stem: nbformat.read(path, as_version=4) for path in sorted(folder.glob("*.ipynb"))}


def device() -> str:
    """The name of the processor, as the system gives it."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
        return re.search(r"model name\s*:\s*(.+)", text)[1].strip()
    except (OSError, TypeError):
        return platform.processor() or platform.machine()


class Chapter:
    """One notebook on its way through the kernel."""

    def __init__(self, path: pathlib.Path, cache):
        self.path, self.name, self.cache = path, path.stem, cache
        self.notebook = nbformat.read(path, as_version=4)
        self.at = 0  # the cell that is running
        self.seconds: float | None = None
        # of the kernel with its imports: what the chapter costs, however busy the machine
        self.cpu_seconds: float | None = None

    def find(self) -> bool:
        """Take the outputs of an earlier run of the same code, if there is one."""
        try:
            record = self.cache.match_cache_notebook(self.notebook)
            kept = self.cache.get_cache_bundle(record.pk).nb
        except KeyError:
            return False
        if META not in kept.metadata:  # executed by something else than this module: not known how
            return False
        fresh = [cell for cell in self.notebook.cells if cell.cell_type == "code"]
        for cell, old in zip(fresh, kept.cells, strict=True):
            cell.outputs, cell.execution_count = old.outputs, old.execution_count
        self.notebook.metadata.update({key: kept.metadata[key] for key in (META, "language_info")})
        return True

    def keep(self, about: dict) -> None:
        """Put the finished run into the cache."""
        self.notebook.metadata[META] = about
        bundle = CacheBundleIn(self.notebook, str(self.path), data={"execution_seconds": about["seconds"]})
        self.cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)

    async def run(self, environment: dict[str, str], nursery: kernels.Nursery | None) -> str:
        """Run every cell in a fresh kernel; return what went wrong, or an empty string."""

        def started(cell, cell_index):
            self.at = cell_index

        def finished(cell, cell_index, execute_reply):
            kernel = psutil.Process(client.km.provisioner.pid)
            self.cpu_seconds = round(sum(kernel.cpu_times()[:4]) + (nursery.seconds if nursery else 0), 1)

        client = nbclient.NotebookClient(
            self.notebook,
            timeout=TIMEOUT,
            kernel_name="python3",
            record_timing=False,
            extra_arguments=["--log-level=CRITICAL"],
            resources={"metadata": {"path": str(self.path.parent)}},
            on_cell_start=started,
            on_cell_executed=finished,
            **({"kernel_manager_class": kernels.manager(nursery)} if nursery else {}),
        )
        begin = time.perf_counter()
        try:
            await client.async_execute(env=environment)
        except nbclient.exceptions.CellExecutionError as error:
            trace = re.sub(r"\x1b\[[0-9;]*m", "", error.traceback).strip().splitlines()
            return self._failed(f"{error.ename}: {error.evalue}", trace[-12:])
        except nbclient.exceptions.CellTimeoutError:
            return self._failed(f"the cell did not finish within {TIMEOUT} seconds")
        except nbclient.exceptions.DeadKernelError:
            if asyncio.current_task().cancelling():  # nbclient takes the end that was asked for as a death
                raise asyncio.CancelledError from None
            return self._failed("the kernel died, often for want of memory")
        finally:
            self.seconds = round(time.perf_counter() - begin, 1)
        return ""

    def _failed(self, why: str, trace: list[str] = ()) -> str:
        source = self.notebook.cells[self.at].source.strip()
        first = source.splitlines()[0] if source else "(an empty cell)"
        where = f"chapters/{self.path.name}, cell {self.at + 1} of {len(self.notebook.cells)}: {first}"
        return "\n".join([f"FAILED {where}", f"       {why}", *(f"       | {line}" for line in trace)])


def say(name: str, text: str) -> None:
    print(f"  {name:<24} {text}", flush=True)


def stop_at_a_signal() -> None:
    """Ctrl-C ends this task with all its chapters. nbclient would take it for one chapter, so it may not ask for it."""
    if sys.platform != "win32":  # there, asyncio knows no signals
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        for sign in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(sign, task.cancel)
        loop.add_signal_handler = loop.remove_signal_handler = lambda *_: None


async def run_all(waiting: list[Chapter], cores: int) -> list[str]:
    """Run the chapters, as many at once as there are cores; return the failures."""
    together = min(cores, len(waiting))
    environment = {**os.environ, "TRICKS_SCALE": scale(), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    # One thread each: these networks are too small for more, and on a busy machine two threads that wait for each other
    # take many times as long as one.
    environment.update(OMP_NUM_THREADS="1", TRICKS_JOBS="1")
    gate, failures = asyncio.Semaphore(together), []
    about = {"scale": scale(), "first_seed": first_seed(), "device": device(), "cores": cores, "together": together}
    about["versions"] = versions()

    async def one(chapter: Chapter) -> None:
        async with gate:
            say(chapter.name, "running")
            failure = await chapter.run(environment, nursery)
        say(chapter.name, f"{'FAILED after' if failure else 'done in'} {chapter.seconds:.1f} s")
        if failure:
            failures.append(failure)
        else:
            today = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
            chapter.keep({"seconds": chapter.seconds, "cpu_seconds": chapter.cpu_seconds, "date": today, **about})

    stop_at_a_signal()
    # a nursery for one chapter on each core would import as often as they do
    with kernels.nursery(environment) if len(waiting) > together else contextlib.nullcontext() as nursery:
        async with asyncio.TaskGroup() as group:
            for chapter in reversed(waiting):  # the later ones take longer: with the short ones last, no core is idle
                group.create_task(one(chapter))
    return failures


def publish(root: pathlib.Path, done: list[Chapter]) -> None:
    """Write `_build/executed/`: whole files or none, and only where something changed."""
    folder = pathlib.Path(root) / "_build" / "executed"
    folder.mkdir(parents=True, exist_ok=True)
    for chapter in done:
        target, text = folder / chapter.path.name, nbformat.writes(chapter.notebook)
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            half = target.with_suffix(".part")
            half.write_text(text, encoding="utf-8")
            os.replace(half, target)
    known = {path.name for path in chapters(root)}
    for path in folder.glob("*.ipynb"):
        if path.name not in known:
            path.unlink()


def prune(root: pathlib.Path) -> None:
    folders = sorted((pathlib.Path(root) / "_build" / "cache").iterdir(), key=lambda p: p.stat().st_mtime)
    for folder in folders[:-KEEP]:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def alone(folder: pathlib.Path, what: str):
    """Hold `<folder>/<what>.lock`: a second build says that it waits, and then finds the work done."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / f"{what}.lock")
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        print(f"  Another build of this folder is busy with the {what}; waiting for it.", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def execute(root: pathlib.Path, only: str = "") -> int:
    """Run the chapters whose name starts with `only`; return 0, or 1 when a cell failed."""
    root = pathlib.Path(root).resolve()
    paths = [path for path in chapters(root) if path.stem.startswith(only)]
    if not paths:
        names = ", ".join(path.stem for path in chapters(root)) or "none"
        print(f"No chapter starts with {only!r}; the chapters are: {names}.", file=sys.stderr)
        return 1
    with alone(root / "_build", "chapters"):
        return run_missing(root, paths)


def run_missing(root: pathlib.Path, paths: list[pathlib.Path]) -> int:
    """Run those of these chapters that the cache does not have; return 0, or 1 when a cell failed."""
    folder = cache_folder(root)  # once: the files that make its name may change while the chapters run
    cache = get_cache(folder)
    done, waiting = [], []
    for chapter in (Chapter(path, cache) for path in paths):
        (done if chapter.find() else waiting).append(chapter)
    for chapter in done:
        say(chapter.name, "unchanged")
    failures = []
    if waiting:
        os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # the kernel of this environment, no other
        cores = int(os.environ.get("TRICKS_JOBS") or joblib.cpu_count())
        failures = asyncio.run(run_all(waiting, cores))
        done += [chapter for chapter in waiting if META in chapter.notebook.metadata]
    folder.touch()
    publish(root, done)
    prune(root)
    for failure in failures:
        print(f"\n{failure}", file=sys.stderr)
    return 1 if failures else 0


def main(arguments: list[str] | None = None) -> int:
    here = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="?", default="", help="the beginning of a chapter's name, such as 03")
    parser.add_argument("--root", type=pathlib.Path, default=here, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    try:
        return execute(given.root, given.only)
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("\nStopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
