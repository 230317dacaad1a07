"""Learning-rate schedules: memoryless functions of progress.

`f(progress) -> factor on the learning rate`, where progress runs from 0 (first step) to 1 (end of training).
A schedule that does not remember can be drawn, tested and replayed.
"""

from __future__ import annotations

import math

from helpers import checks


def constant(progress: float) -> float:
    """1 from beginning to end."""
    return 1.0


def step(progress: float) -> float:
    """1, then a tenth of it after every third of the training: equal periods, as torch's StepLR."""
    return 0.1 ** math.floor(3 * progress + 1e-9) if progress < 1 else 0.01


def multi_step(progress: float) -> float:
    """1, then 1/10 from half of the training on, 1/100 from three quarters on (He et al. 2016)."""
    return 1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01


def exponential(progress: float) -> float:
    """Geometric decay from 1 to 1/100."""
    return 0.01**progress


def inverse_time(progress: float) -> float:
    """1 / (1 + 9 progress): from 1 to 1/10, the shape of Robbins & Monro 1951."""
    return 1 / (1 + 9 * progress)


def linear(progress: float) -> float:
    """A straight line from 1 to 0."""
    return 1 - progress


def cosine(progress: float) -> float:
    """Half a cosine wave from 1 to 0 (Loshchilov & Hutter 2017)."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def restarts(progress: float) -> float:
    """Three cosine waves from 1 to 0, of equal length: warm restarts (Loshchilov & Hutter 2017)."""
    return cosine(3 * progress % 1) if progress < 1 else 0.0


def one_cycle(progress: float) -> float:
    """Up a cosine from 1/25 to 1 over the first 30 %, down a cosine to 0 over the rest (Smith & Topin 2018).

    The learning rate alone; the original moves the momentum too, the other way round.
    """
    if progress < 0.3:
        return 1 / 25 + (1 - 1 / 25) * (1 - cosine(progress / 0.3))
    return cosine((progress - 0.3) / 0.7)


SCHEDULES = {
    f.__name__: f for f in (constant, step, multi_step, exponential, inverse_time, linear, cosine, restarts, one_cycle)
}


def lr_factor(schedule: str, warmup: float, progress: float) -> float:
    """The factor on the learning rate at this progress: a linear warm-up over the share `warmup`, then the schedule.

    The schedule covers what is left after the warm-up. Raises ValueError for an unknown schedule or a progress
    outside [0, 1].
    """
    checks.one_of("schedule", schedule, SCHEDULES)
    checks.number("warmup", warmup, low=0, high=1, try_="0.1")
    checks.number("progress", progress, low=0, high=1)
    if progress < warmup:
        return progress / warmup
    return SCHEDULES[schedule]((progress - warmup) / (1 - warmup) if warmup < 1 else 1.0)
