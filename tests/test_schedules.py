import pytest

from helpers.schedules import SCHEDULES, lr_factor


@pytest.mark.parametrize("name", SCHEDULES)
def test_stays_between_zero_and_one_and_has_no_memory(name):
    grid = [i / 50 for i in range(51)]
    values = [lr_factor(name, 0.0, p) for p in grid]
    assert max(values) == pytest.approx(1) and min(values) >= 0
    if name not in ("restarts", "one_cycle"):  # the others start at the top and never rise
        assert values[0] == 1 and all(a >= b for a, b in zip(values, values[1:], strict=False))
    assert [lr_factor(name, 0.0, p) for p in reversed(grid)] == values[::-1]


@pytest.mark.parametrize(
    ("name", "progress", "value"),
    [("cosine", 0.5, 0.5), ("step", 0.3, 1), ("step", 0.34, 0.1), ("step", 0.9, 0.01),
     ("multi_step", 0.49, 1), ("multi_step", 0.5, 0.1), ("multi_step", 0.8, 0.01), ("restarts", 0.5, 0.5),
     ("restarts", 0.25, (1 - 2 ** -0.5) / 2), ("one_cycle", 0.0, 0.04), ("one_cycle", 0.3, 1), ("one_cycle", 0.65, 0.5),
     ("exponential", 0.5, 0.1),
     ("inverse_time", 1.0, 0.1), ("linear", 0.25, 0.75), ("constant", 0.7, 1.0)],
)  # fmt: skip
def test_values_by_hand(name, progress, value):
    assert lr_factor(name, 0.0, progress) == pytest.approx(value)


def test_warmup_is_a_straight_line_then_the_whole_schedule():
    assert lr_factor("cosine", 0.2, 0.1) == pytest.approx(0.5)
    assert lr_factor("cosine", 0.2, 0.2) == 1
    assert lr_factor("cosine", 0.2, 0.6) == pytest.approx(0.5)
    assert lr_factor("cosine", 0.2, 1.0) == pytest.approx(0, abs=1e-12)
    assert lr_factor("linear", 1.0, 0.5) == 0.5


def test_bad_input():
    with pytest.raises(ValueError, match="schedule='cosin' is not known; .* Did you mean 'cosine'"):
        lr_factor("cosin", 0.0, 0.5)
    with pytest.raises(ValueError, match="progress=1.2 is not allowed"):
        lr_factor("cosine", 0.0, 1.2)
