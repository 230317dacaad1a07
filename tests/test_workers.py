"""Threads first, and processes when they are measured to pay."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import joblib
import pytest
from conftest import ROOT

from helpers import workers


def where(i, seconds=0.0):
    """Wait, as work does that waits for Python's lock: the cores stay idle."""
    time.sleep(seconds)
    return i, os.getpid(), threading.get_ident()


@pytest.mark.parametrize("said", [None, "1"])
def test_torch_has_one_thread_for_an_operation_and_the_others_are_known(said):
    code = (
        "import torch; own = torch.get_num_threads(); import helpers; from helpers import workers\n"
        "print(own, workers.CORES, torch.get_num_threads())"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    environment |= {"OMP_NUM_THREADS": said} if said else {}
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    own, cores, left = map(int, told.stdout.split())
    assert cores == own and left == 1 and (said is None or own == int(said))


def test_short_work_stays_in_threads():
    results = list(workers.spread(where, [(i, 0.01) for i in range(8)], [1] * 8, 2))
    assert sorted(i for i, *_ in results) == list(range(8))
    assert {pid for _, pid, _ in results} == {os.getpid()}
    assert 1 <= len({thread for *_, thread in results} - {threading.get_ident()}) <= 2


def test_a_long_rest_goes_to_processes_when_the_cores_are_idle(monkeypatch):
    monkeypatch.setattr(workers, "START", 0.5)
    monkeypatch.setattr(workers, "GLANCE", 0.1)
    results = list(workers.spread(where, [(i, 0.1) for i in range(30)], [1] * 30, 2))
    assert sorted(i for i, *_ in results) == list(range(30))
    here = sum(pid == os.getpid() for _, pid, _ in results)
    assert 2 <= here < 30  # the others took some, and what the threads had was not done twice


def test_busy_threads_keep_their_work(monkeypatch):
    monkeypatch.setattr(workers, "GLANCE", 0.0)
    monkeypatch.setattr(workers.time, "process_time", lambda: 2 * time.perf_counter())  # two cores, all of the time
    monkeypatch.setattr(workers, "START", 1e-3)
    results = list(workers.spread(where, [(i, 0.02) for i in range(10)], [1] * 10, 2))
    assert {pid for _, pid, _ in results} == {os.getpid()}


def test_an_error_in_a_thread_comes_out():
    with pytest.raises(ZeroDivisionError):
        list(workers.spread(lambda i: 1 // i, [(1,), (0,), (2,)], [1] * 3, 2))


def test_a_named_place_is_noticed():
    assert not workers.named()
    with joblib.parallel_config("threading"):
        assert workers.named()
    with joblib.parallel_config(n_jobs=2):
        assert workers.named()
