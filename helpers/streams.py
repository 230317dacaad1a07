"""Where random numbers begin. One number moves all that a measurement draws, to see whether it hangs on its seeds.

The data sets stay as they are, and so do the draws on which an equality is checked.
"""

from __future__ import annotations

import os

from helpers import checks

VARIABLE = "TRICKS_FIRST_SEED"
HIGHEST = 1_000_000


def first() -> int:
    """The number from which all seeds are counted: the environment variable TRICKS_FIRST_SEED, 0 when it is not set.

    Raises ValueError for anything but a whole number from 0 to 1,000,000.
    """
    text = os.environ.get(VARIABLE) or "0"
    if not text.isdecimal() or int(text) > HIGHEST:
        raise ValueError(f"{VARIABLE}={checks.show(text)} is not allowed: give a whole number from 0 to {HIGHEST}.")
    return int(text)


def begin(first: int) -> None:
    """Count from this number from here on: a process that works for another one counts as that one does."""
    number = str(checks.integer("first", first, low=0, high=HIGHEST))
    if number != os.environ.get(VARIABLE, "0"):  # else nothing that others could see
        os.environ[VARIABLE] = number


def seed(seed: int) -> int:
    """This seed, counted from the first."""
    return first() + checks.integer("seed", seed)


def stream(seed: int, number: int) -> int:
    """The seed of one of the independent streams of a run: its weights (number 0), each epoch's order, each step's
    augmentation, each dropout layer."""
    return ((first() + checks.integer("seed", seed)) * 1_000_003 + checks.integer("number", number)) % (2**62)
