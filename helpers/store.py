"""The file that keeps runs: nothing in it is ever half written, and several processes may add to it at once.

The file is a .zip of JSON. What a sweep adds goes first into a journal beside it (`<file>.journal`), one line for each
addition, so that saving costs the same however much is there already; `settle` moves the journal into the .zip. A line
that was cut short by a kill is no JSON, and reading passes it over. Whoever writes holds `<file>.lock`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
import zipfile

import filelock

from helpers import checks

TABLES = ("table", "curves")
MOST_BYTES = 1 << 30  # of a file, unpacked: some 250,000 runs; what is larger would fill the memory
PATIENCE = 120  # seconds to wait for another process that is writing


def beside(path: pathlib.Path, kind: str) -> pathlib.Path:
    """The companion of a file: `runs.zip` -> `runs.zip.journal`."""
    return path.with_name(f"{path.name}.{kind}")


@contextlib.contextmanager
def _alone(path: pathlib.Path, leave: bool = False):
    """Hold the file against other writers; with `leave` the lock's file goes too. OSErrors become one sentence."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(beside(path, "lock"), timeout=PATIENCE):
            try:
                yield
            finally:
                if leave:
                    with contextlib.suppress(OSError):  # Windows keeps a file that is open
                        beside(path, "lock").unlink()
    except OSError as error:
        why = error.strerror or f"another process has held it for {PATIENCE} seconds"
        raise OSError(
            f"save={str(path)!r} could not be written: {why}; nothing changed there. Make room or give another place, "
            f"and run it again: what was saved before is kept."
        ) from error


def check(path) -> None:
    """Raise OSError with one sentence if nothing can be saved there: better before the training than after it."""
    path = pathlib.Path(path)
    with _alone(path), open(beside(path, "journal"), "ab"):
        pass


def append(path, tables: dict) -> None:
    """Add rows to both tables ({name: {column: list}}); when this returns they are on the disk."""
    path = pathlib.Path(path)
    with _alone(path), open(beside(path, "journal"), "a+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        torn = file.read(1) not in (b"", b"\n")  # a process died while it wrote its last line
        line = memoryview(b"\n" * torn + json.dumps(tables).encode() + b"\n")
        try:
            while line:
                line = line[file.write(line) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(size)
            raise


def write(path, tables: dict) -> None:
    """Make these tables the content of the file."""
    path = pathlib.Path(path)
    with _alone(path, leave=True):
        _replace(path, tables)


def settle(path) -> None:
    """Move the journal, if there is one, into the .zip."""
    path = pathlib.Path(path)
    if beside(path, "journal").exists():
        with _alone(path, leave=True):
            if tables := read(path):
                _replace(path, tables)


def _replace(path: pathlib.Path, tables: dict) -> None:
    """Whole or not at all. One name for the new file is enough: the lock is held, and a dead writer's file goes."""
    buffer, part = io.BytesIO(), beside(path, "part")
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in TABLES:
            archive.writestr(f"{name}.json", json.dumps(tables[name]))
    try:
        with open(part, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    beside(path, "journal").unlink(missing_ok=True)


def read(path) -> dict | None:
    """Both tables, or None where nothing was saved. Of a run that was added twice, the last addition counts.

    Raises OSError, or an error that says in the words of JSON or zipfile why this is something else.
    """
    path = pathlib.Path(path)
    added = list(_journal(path))  # before the .zip: `settle` may move it there meanwhile
    if path.exists():
        with zipfile.ZipFile(path) as archive:
            checks.members(archive, MOST_BYTES)
            added.insert(0, _checked({name: json.loads(archive.read(f"{name}.json")) for name in TABLES}))
    return _merged(added) if len(added) > 1 else added[0] if added else None


def _journal(path: pathlib.Path):
    journal = beside(path, "journal")
    try:
        if (size := journal.stat().st_size) > MOST_BYTES:
            raise ValueError(f"the journal has {size:,} bytes, but at most {MOST_BYTES:,} are read.")
        lines = journal.read_bytes().split(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        return
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError, UnicodeDecodeError):  # an empty line, or one that was cut short
            yield _checked(json.loads(line))


def _checked(tables: dict) -> dict:
    for columns in (tables[name] for name in TABLES):
        if any(not isinstance(v, list) or len(v) != len(columns["run"]) for v in columns.values()):
            raise ValueError("the columns of a table are lists, equally long")
    if not set(tables["curves"]["run"]) <= set(tables["table"]["run"]):
        raise ValueError("each curve belongs to a run")
    return tables


def _merged(additions: list[dict]) -> dict:
    """One after the other, as {name: {column: list}}; a column that an addition lacks is None there."""
    last = {run: i for i, tables in enumerate(additions) for run in tables["table"]["run"]}
    merged = {name: {} for name in TABLES}
    for i, tables in enumerate(additions):
        for name, into in merged.items():
            rows = [k for k, run in enumerate(tables[name]["run"]) if last.get(run) == i]
            size = len(into.get("run", ()))
            for column in {**into, **tables[name]}:
                values = tables[name].get(column)
                new = [None] * len(rows) if values is None else [values[k] for k in rows]
                into.setdefault(column, [None] * size).extend(new)
    return merged
