"""`make bench`: training speed beside rivals, the Train panel, the sliders of the book; kept in _build/bench.json."""

from __future__ import annotations

import json
import os
import pathlib
import platform

import torch

from bench import browser, panel, speed
from helpers import workers

OUT = pathlib.Path(__file__).resolve().parent.parent / "_build" / "bench.json"


def about() -> dict:
    """What the figures were measured with."""
    return {
        "torch": torch.__version__, "threads": workers.CORES, "cores": os.cpu_count(),
        "python": platform.python_version(), "machine": platform.processor() or platform.machine(),
    }  # fmt: skip


def main() -> None:
    results = [*panel.main(), *browser.main()]
    torch.set_num_threads(workers.CORES)  # as torch has them by itself, for the rivals
    results += speed.main()
    OUT.parent.mkdir(exist_ok=True)
    part = OUT.with_suffix(".part")
    part.write_text(json.dumps({"about": about(), "results": results}, indent=1), encoding="utf-8")
    part.replace(OUT)
    print(f"written to {OUT.relative_to(OUT.parent.parent)}")


if __name__ == "__main__":
    main()
