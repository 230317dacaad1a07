"""One switch of scale. It changes sizes, never the path that the code takes."""

from __future__ import annotations

import os

from helpers import checks

SCALES = ("smoke", "book", "full")
VARIABLE = "TRICKS_SCALE"


def current() -> str:
    """The scale in force: the environment variable TRICKS_SCALE, "book" when it is not set.

    "smoke" takes the same path in seconds (tests), "book" is what is published, "full" is for
    patience or a GPU. Raises ValueError for another name.
    """
    return checks.one_of(VARIABLE, os.environ.get(VARIABLE) or "book", SCALES)


def scale(*, smoke, book, full=None):
    """Pick a size by the scale in force: `seeds = scale(smoke=2, book=8, full=30)`. `full` defaults to `book`."""
    for name, value in (("smoke", smoke), ("book", book)):
        if value is None:
            raise ValueError(f"{name}=None is not allowed: give a size for this scale, such as {name}=8.")
    return {"smoke": smoke, "book": book, "full": book if full is None else full}[current()]
