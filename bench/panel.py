"""The Train panel as its user meets it: time to the first new curve, to the end of a training, and to a stop."""

from __future__ import annotations

import statistics
import time

from helpers.data import load
from helpers.live import train_panel
from helpers.recipe import Recipe

TARGETS = {"first-curve": 0.5, "training": 3.0, "stop": 0.3}  # seconds


def press(seconds_until_stop: float | None = None, epochs: int = 20) -> dict[str, float]:
    """Press Train on the digits MLP with 8 seeds; seconds to the first curve, and to the end or from Stop to it."""
    panel = train_panel(Recipe(), load("digits"), fields={"epochs": [epochs]}, seeds=8)
    before, begin = panel.chart.value, time.perf_counter()
    panel.train()
    while panel.chart.value == before and panel.running:
        time.sleep(0.001)
    found = {"first-curve": time.perf_counter() - begin}
    if seconds_until_stop is not None:
        time.sleep(seconds_until_stop)
        begin = time.perf_counter()
        panel.stop()
    panel.wait(60)
    found["training" if seconds_until_stop is None else "stop"] = time.perf_counter() - begin
    return found


def main(rounds: int = 5) -> list[dict]:
    """Press Train `rounds` times, to the end and with a Stop; print and return target over median."""
    press()  # a warm-up: the first drawing of matplotlib looks for its fonts
    times = [press() | {"stop": press(0.2, epochs=3000)["stop"]} for _ in range(rounds)]
    rows = []
    for name, target in TARGETS.items():
        median = statistics.median(t[name] for t in times)
        rows.append({"bench": f"panel-{name}", "ratio": round(target / median, 2), "seconds": round(median, 3)})
        print(f"bench panel-{name}: ratio {target / median:.2f} ({median:.3f} s, at most {target} s)", flush=True)
    return rows
