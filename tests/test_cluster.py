"""A sweep on a cluster that loses a worker: the table is complete, and equal to that of one machine."""

from __future__ import annotations

import os
import signal

import joblib
import pytest
import torch

from helpers import data, engine, store
from helpers.recipe import Recipe

distributed = pytest.importorskip("distributed", reason="distributed is not installed")
RECIPES = Recipe(width=16, epochs=2, n_train=320).vary(depth=[1, 2, 3], lr=[0.1, 0.2], seed=range(48))
LOSSES = ["train_loss", "val_loss"]


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def calm(digits):
    return engine.train(RECIPES, digits, jobs=1)


@pytest.fixture(scope="module")
def client():
    """Two workers in processes of their own, on this machine alone, that keep the copies of data they were given."""
    import dask

    keep = {"distributed.scheduler.active-memory-manager.start": False}
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    with dask.config.set(keep), distributed.LocalCluster(host="127.0.0.1", **options) as cluster:
        with distributed.Client(cluster) as client:
            yield client


@pytest.fixture
def killing(client, monkeypatch):
    """killing(i): worker i is killed when the second chunk of a sweep is saved; returns what was saved until then."""
    append, saved = store.append, []

    def arm(i):
        client.wait_for_workers(2)
        victim = sorted(client.run(os.getpid).values())[i]

        def counted(path, tables):
            append(path, tables)
            saved.append(len(tables["table"]["run"]))
            if len(saved) == 2:
                os.kill(victim, signal.SIGKILL)

        monkeypatch.setattr(store, "append", counted)
        return saved

    return arm


@pytest.mark.skipif(os.name != "posix", reason="this system has no SIGKILL")
@pytest.mark.parametrize(("victim", "sent_once"), [(0, False), (1, True)])
def test_one_of_two_workers_is_killed(digits, calm, client, killing, tmp_path, victim, sent_once):
    saved = killing(victim)
    with joblib.parallel_config("dask", **({"scatter": [digits]} if sent_once else {})):
        runs = engine.train(RECIPES, digits, save=tmp_path / "runs.zip")
    assert len(saved) > 4 and sum(saved) == len(runs) == len(RECIPES)
    assert runs.table["run"].tolist() == calm.table["run"].tolist()
    assert (runs.curves[LOSSES] - calm.curves[LOSSES]).abs().max().max() < 1e-4
    assert [p.name for p in tmp_path.iterdir()] == ["runs.zip"]


def test_each_worker_looks_for_its_own_device(digits, client):
    with joblib.parallel_config("dask"):
        runs = engine.train(RECIPES[:1], digits)
        assert set(runs.table["device"]) == {"cuda" if torch.cuda.is_available() else "cpu"}
        if not torch.cuda.is_available():
            with pytest.raises(ValueError, match="device='cuda' is not available here"):
                engine.train(RECIPES[:1], digits, device="cuda")


def test_one_job_stays_here(digits, client, monkeypatch):
    monkeypatch.setattr(client, "submit", lambda *a, **k: pytest.fail("this was not to leave the process"))
    with joblib.parallel_config("dask"):
        assert len(engine.train(RECIPES[:2], digits, jobs=1)) == 2
        assert len(engine.train(RECIPES[:2], digits, watch=lambda event: True)) == 2
