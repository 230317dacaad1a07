import pytest
import torch

pytest.importorskip("bench.__main__", reason="run from the project's root")

from bench import contenders, panel, speed
from helpers import workers


@pytest.fixture
def one_thread(monkeypatch):
    """On a busy machine two threads wait for each other; the ratio of one thread to one thread is steady."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(workers, "CORES", 1)
    yield
    torch.set_num_threads(before)


def test_bench_prints_a_ratio_for_each_contender_and_the_engine_is_faster(capsys, one_thread):
    rows = speed.main(rounds=2, cases=["mlp"], sizes=(32,), only=("tensors", "scikit_learn", "engine"))
    found = {r["bench"]: r for r in rows}
    assert set(found) == {f"mlp-n32-{name}" for name in ("tensors", "scikit_learn", "engine")}
    assert all(r["ratio"] > 0 and 0 < r["share_of_matmul_peak"] < 1.5 for r in rows)
    lines = [line for line in capsys.readouterr().out.splitlines() if ": ratio " in line]
    assert len(lines) == len(rows) and all(line.startswith("bench mlp-n32-") for line in lines)
    # far below what a quiet machine shows, so that it fails when the engine is broken and not when the machine is busy
    assert found["mlp-n32-engine"]["ratio"] > 1.5


def test_the_operations_are_counted():
    recipe, source, _ = speed.CASES["mlp"]
    data = speed.load(**source)
    products = 64 * 128 + 128 * 128 + 128 * 10
    steps = 15 * recipe.epochs
    want = steps * 64 * (6 * products - 2 * 64 * 128) + recipe.epochs * 397 * 2 * products
    assert speed.flop(recipe, data) == want


def test_who_is_not_installed_is_left_out_with_a_word(capsys, monkeypatch):
    monkeypatch.setattr(contenders, "installed", lambda module: False)
    assert set(speed.rivals_of("lenet")) == {"dataloader", "one_thread", "tensors", "loop", "engine"}
    assert "bench lenet-skorch: left out, skorch is not installed" in capsys.readouterr().out


def test_the_train_panel_answers_at_once():
    rows = {r["bench"]: r for r in panel.main(rounds=3)}
    for name, target in panel.TARGETS.items():
        assert rows[f"panel-{name}"]["seconds"] <= target, name
