"""Arrays as text: 16 bit numbers in base64, and what they say about the replicates at each point."""

from __future__ import annotations

import base64
import math

import numpy as np

LIMIT_BYTES = 600_000
STEPS = 65533  # levels of a 16 bit number, less two codes: no row, and a row without a finite value


def encode(values: np.ndarray, there: np.ndarray, log: bool) -> dict:
    """Pack an array: 16 bit steps between the lowest and the highest value, or float32 when a few giants
    would leave no steps for the rest. One code says "no row", one says "a row, but no finite value"."""
    if log:
        there = there & ~(values <= 0)
        with np.errstate(all="ignore"):
            values = np.log10(values)
    good = there & np.isfinite(values)
    low, high = (float(values[good].min()), float(values[good].max())) if good.any() else (0.0, 0.0)
    step = (high - low) / STEPS
    kind, log = "i2", bool(log)
    wide = not log and high > low and math.isfinite(step)
    if wide and step > np.subtract(*np.percentile(values[good], [95, 5])) / 2000:
        kind, low, step = "f4", 0.0, 1.0
        packed = np.where(good, values, np.where(there, np.inf, np.nan)).astype("<f4")
    else:
        packed = np.where(there, -32767, -32768).astype("<i2")
        packed[good] = np.rint((values[good] - low) / step).astype(int) - 32766 if step else -32766
    return {"type": kind, "log": log, "low": low, "step": step, "data": base64.b64encode(packed.tobytes()).decode()}


def decode(field: dict, shape) -> np.ndarray:
    """Unpack as the page does: NaN = no row, inf = a row without a finite value."""
    packed = np.frombuffer(base64.b64decode(field["data"]), "<" + field["type"]).reshape(shape).astype(float)
    if field["type"] == "f4":
        return packed
    values = field["low"] + (packed + 32766) * field["step"]
    if field["log"]:
        values = 10.0**values
    return np.where(packed == -32768, np.nan, np.where(packed == -32767, np.inf, values))


def summary(values: np.ndarray) -> dict[str, np.ndarray]:
    """The replicates (first axis) in numbers: mean, lowest, highest (NaN without a finite value), n, diverged."""
    good = np.isfinite(values)
    n = good.sum(0)
    some = np.where(n, 1.0, np.nan)
    return {
        "mean": np.where(good, values, 0).sum(0) / (n * some),
        "lowest": np.where(good, values, np.inf).min(0) * some,
        "highest": np.where(good, values, -np.inf).max(0) * some,
        "n": n,
        "diverged": np.isinf(values).sum(0),
    }


def along(axis: dict, decoded: list[np.ndarray], at: tuple) -> np.ndarray:
    """The numbers of an x axis at every point of one line."""
    return np.array(axis["values"]) if "values" in axis else summary(decoded[axis["field"]][at])["mean"]


def fits(size: float, x) -> None:
    """Raise ValueError when a figure is too big for a page. `size` in bytes."""
    if size > LIMIT_BYTES:
        raise ValueError(
            f"the figure would hold {size / 1000:.0f} kB of data, and a page carries at most {LIMIT_BYTES // 1000} kB: "
            f"thin the table (keep every k-th value of {x!r}), or use fewer settings, lines or backgrounds."
        )
