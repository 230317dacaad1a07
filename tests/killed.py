"""A program for test_unbreakable.py: it has imported everything, forks sweeps, and kills them.

    python tests/killed.py FOLDER

It writes FOLDER/report.json. Each sweep notes in FOLDER/log what it begins to train and what `store.append` reported
as saved: those notes survive a kill, so the log says whether anything was lost or trained again.
"""

from __future__ import annotations

import json
import os
import pathlib
import random
import signal
import sys
import time

from helpers import data, engine, stacks, store
from helpers.recipe import Recipe
from helpers.runs import Runs, run_id

CHUNKS, KILLS, AIMED = 240, 100, 30
BASE = Recipe(depth=1, width=4, epochs=1, n_train=64, batch_size=32)
DIGITS = data.load("digits")
RECIPES = BASE.vary(lr=[0.1, 0.2], seed=range(CHUNKS))
ENDS = ("part", "before replace", "after replace") * 2  # the moments at which `settle` can be struck


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def aim(moment: str, countdown: int = 1) -> None:
    """Make this process kill itself in the middle of a write, or at another moment of saving."""
    plain, replace, fsync = open, os.replace, os.fsync

    def opened(path, mode="r", **options):
        file = plain(path, mode, **options)
        return Half(file) if moment in str(path).rsplit(".", 1)[-1] else file

    class Half:
        """A file that takes half of the last write, and then the process is gone."""

        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, text):
            nonlocal countdown
            countdown -= 1
            if countdown:
                return self.file.write(text)
            self.file.write(bytes(text)[: len(text) // 2])
            self.file.flush()
            die()

    def synced(number):
        nonlocal countdown
        countdown -= moment == "fsync"
        if moment == "fsync" and not countdown:
            die()
        fsync(number)

    def replaced(*names):
        if moment == "before replace":
            die()
        replace(*names)
        if moment == "after replace":
            die()

    store.open, os.replace, os.fsync = opened, replaced, synced


def sweep(folder: pathlib.Path, recipes) -> Runs:
    """One sweep, with its notes."""
    train, append = stacks.train_stack, store.append
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(word, ids):
        os.write(log, f"{word} {' '.join(ids)}\n".encode())

    def noted_train(chunk, *rest, **options):
        note("train", [run_id(r, DIGITS) for r in chunk])
        return train(chunk, *rest, **options)

    def noted_append(path, tables):
        append(path, tables)
        note("saved", tables["table"]["run"])

    stacks.STACK, stacks.train_stack, store.append = 2, noted_train, noted_append
    note("go", [])
    return engine.train(recipes, DIGITS, save=folder / "runs.zip", jobs=1)


def fork(work) -> int:
    """Start `work()` in a child that ends with it."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
        os._exit(0)
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)


def ended(pid: int) -> bool:
    """Whether the child is over, without taking its exit status."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def notes(folder: pathlib.Path, since: int = 0) -> list[list[str]]:
    """The lines of the log, split, from a size on."""
    try:
        return [line.split() for line in (folder / "log").read_bytes()[since:].decode().splitlines()]
    except FileNotFoundError:
        return []


def saved(folder: pathlib.Path) -> int:
    return sum(word == "saved" for word, *_ in notes(folder))


def kill_at_random(folder: pathlib.Path, chance: random.Random) -> int:
    """Kill the sweep KILLS times, the moments spread over its whole length; return how often.

    One in five is struck while it starts and reads what is there, the others at any moment from its first training on.
    """
    kills, tries, pace = 0, 0, 0.02  # pace: seconds that a chunk takes, as far as is known
    while kills < KILLS and tries < 4 * KILLS:
        tries += 1
        mark, before = chance.choice(["go"] + 4 * ["train"]), saved(folder)
        since = (folder / "log").stat().st_size if before else 0
        pid = fork(lambda: sweep(folder, RECIPES))
        while not any(word == mark for word, *_ in notes(folder, since)) and not ended(pid):
            time.sleep(0.002)
        begin, chunks = time.perf_counter(), max(0.5, (0.6 * CHUNKS - before) / (KILLS - kills))
        time.sleep(chance.uniform(0, 2 if mark == "train" else 1) * pace * chunks)
        os.kill(pid, signal.SIGKILL)  # one that has just ended is still there to be waited for
        kills += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        if done := saved(folder) - before:
            pace = 0.7 * pace + 0.3 * (time.perf_counter() - begin) / done
    return kills


def kill_aimed(folder: pathlib.Path, moment: str, countdown: int) -> int:
    def work():
        aim(moment, countdown)
        sweep(folder, RECIPES)

    return int(os.WIFSIGNALED(os.waitpid(fork(work), 0)[1]))


def main(folder: pathlib.Path) -> None:
    """Everything in turn; what is to be seen of it is in the report, the logs and the files."""
    stacks.train_stack(RECIPES[:2], DIGITS)  # the first call of torch is slow: not in every child
    chance, report = random.Random(0), {}
    report["random"] = kill_at_random(folder, chance)
    torn = [kill_aimed(folder, chance.choice(["journal", "fsync"]), chance.randint(1, 3)) for _ in range(AIMED)]
    report["aimed"], report["before the end"] = sum(torn), saved(folder)

    def unsettled():
        store.settle = lambda path: die()  # all is trained and nothing is in the .zip
        sweep(folder, RECIPES)

    report["unsettled"] = int(os.WIFSIGNALED(os.waitpid(fork(unsettled), 0)[1]))
    report["ends"] = sum(kill_aimed(folder, moment, 1) for moment in ENDS)
    report["last"] = os.waitpid(fork(lambda: sweep(folder, RECIPES)), 0)[1]
    report["files"] = sorted(p.name for p in folder.iterdir())
    (folder / "calm").mkdir()
    report["calm"] = os.waitpid(fork(lambda: sweep(folder / "calm", RECIPES)), 0)[1]
    (folder / "both").mkdir()
    pair = [fork(lambda part=part: sweep(folder / "both", part)) for part in (RECIPES[:120], RECIPES[80:200])]
    report["both"] = [os.waitpid(pid, 0)[1] for pid in pair]
    (folder / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
