import pytest

pytest.importorskip("bench.__main__", reason="run from the project's root")


def test_bench_prints_a_ratio_for_each_contender(capsys):
    from bench.__main__ import CONTENDERS, MODELS, main

    rows = main(rounds=1, sizes=(2,))
    assert len(rows) == len(CONTENDERS) * len(MODELS) and all(r["ratio"] > 0 for r in rows)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(rows) and all(line.startswith("bench ") and ": ratio " in line for line in lines)
