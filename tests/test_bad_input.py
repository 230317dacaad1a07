"""Bad input: every argument of every public function, given what it cannot be, ends in one sentence of helpers' own.

`CASES` has a valid call for each function, and for each of its arguments a kind of bad values (`bad_values`): those
listed there, and some that hypothesis draws. What is inside a batch, a stranger's model or a function that is handed
over is not looked at.
"""

from __future__ import annotations

import inspect
import types

import numpy as np
import pytest
from bad_cases import CASES, Case
from bad_values import Kind, key, refusal
from hypothesis import HealthCheck, given, settings
from torch import nn

import helpers as h
from helpers import (
    augment,
    blocks,
    checks,
    claims,
    compare,
    data,
    download,
    glyphs,
    init,
    losses,
    models,
    optim,
    owndata,
    plots,
    probe,
    recipe,
    runs,
    schedules,
    show,
    splits,
    surfaces,
)


def unexpected(name: str, case: Case, argument: str, words, arguments: dict) -> str:
    """What is wrong with the refusal of these arguments; nothing when it is as it should be."""
    try:
        told = str(refusal(case.f, {**case.good, **arguments}))
        assert not words or any(word in told for word in words), f"it does not name the argument: {told}"
        value = arguments.get(argument)
        if type(value) in (str, int, float, bool):
            seen = (checks.show(value), f"{value}", type(value).__name__)
            assert any(text in told for text in seen), f"it does not show {value!r}: {told}"
    except Exception as error:
        return f"{name}({', '.join(f'{k}={key(v)}' for k, v in arguments.items())}): {type(error).__name__}: {error}"
    return ""


def more(kind: Kind) -> list:
    """Bad values of a kind that hypothesis draws, the same each time."""
    found = []

    @settings(max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(kind.drawn)
    def collect(value):
        found.append(value)

    collect()
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_bad_value_is_refused_in_one_sentence(name):
    case = CASES[name]()
    case.f(**case.good)
    wrong = [unexpected(name, case, *row) for row in case.values()]
    for argument, kind in case.bad.items():
        words = case.says.get(argument, (argument,))
        wrong += [unexpected(name, case, argument, words, {argument: value}) for value in more(kind)]
    wrong = list(dict.fromkeys(filter(None, wrong)))
    assert not wrong, f"{len(wrong)} bad values:\n" + "\n".join(wrong[:60])


@pytest.mark.parametrize("name", CASES)
def test_numpys_numbers_are_taken_for_pythons(name):
    case = CASES[name]()
    for argument, kind in case.bad.items():
        value = case.good.get(argument)
        if kind.good and isinstance(value, int | float) and not isinstance(value, bool):
            case.f(**{**case.good, argument: np.int64(value) if kind.good is np.integer else np.float64(value)})


def test_there_are_many_different_bad_inputs():
    found = {
        (name, argument, key(sorted(given.items(), key=str)))
        for name in CASES
        for argument, _, given in CASES[name]().values()
    }
    assert len(found) >= 500
    print(f"{len(found)} different bad inputs of {len(CASES)} functions, and those that hypothesis draws")


FORMULA = "a formula that a chapter shows; what calls it has checked its input"
MADE = "made by a function that has checked its input"
MODULES = (augment, blocks, claims, compare, data, download, glyphs, init, losses, models, optim, owndata, plots, probe,
           recipe, runs, schedules, show, splits, surfaces)  # fmt: skip
OUTSIDE = {
    data.build: "takes what `load` and `from_arrays` have checked", download.get: "has tests of its own",
    download.read_idx: "has tests of its own", download.read_cifar: "has tests of its own",
    download.home: "no argument", download.TooLong: "an error",
    glyphs.listed: "a check itself", glyphs.shares: "a check itself",
    splits.column: "a check itself", splits.array: "a check itself", splits.rows: "a check itself",
    runs.run_id: "takes what `train` has checked", claims.decide: MADE, claims.Verdict: MADE, plots.Picture: MADE,
    show.Source: MADE, show.Sentence: MADE, show.Answer: MADE, surfaces.Surface: MADE, blocks.hashed: FORMULA,
    init.fan_in: FORMULA, init.pca: FORMULA, init.lsuv: FORMULA, models.Recurrent: MADE,
    **dict.fromkeys([models.mlp, models.cnn, models.lenet5, models.rnn], "`build` has checked its input"),
    **dict.fromkeys([*optim.UPDATES.values(), *schedules.SCHEDULES.values()], FORMULA),
}  # fmt: skip


def public(module) -> list:
    """The public functions and classes that are written in this module."""
    found = [v for k, v in vars(module).items() if not k.startswith("_") and inspect.isroutine(v) | inspect.isclass(v)]
    return [v for v in found if getattr(v, "__module__", "") == module.__name__]


def arguments(f) -> set[str]:
    return {k for k in inspect.signature(f).parameters if k not in ("self", "cls")}


def test_no_function_and_no_argument_is_left_out():
    """Each public function has a case, each of its arguments bad values; so has every method of a public class."""
    every = {v.__name__: v for v in (getattr(h, name) for name in h.__all__)}
    for module in MODULES:
        for v in public(module):
            if v not in OUTSIDE:
                every[f"{module.__name__.split('.')[-1]}.{v.__name__}"] = v
    for name, v in list(every.items()):
        if inspect.isclass(v) and not issubclass(v, nn.Module):
            every |= {f"{name}.{k}": getattr(v, k) for k, m in vars(v).items()
                      if not k.startswith("_") and isinstance(m, types.FunctionType | classmethod)}  # fmt: skip
    left = []
    for name, v in every.items():
        case = next((CASES[k]() for k in (name, name.split(".", 1)[-1]) if k in CASES), None)
        had = set() if case is None else {*case.bad, *case.free, *(k for row in case.together for k in row)}
        if case is None or arguments(v) - had:
            left.append(f"{name}: {sorted(arguments(v) - had) if case else 'no case'}")
    assert not left, "\n".join(left)
    assert set(recipe.FIELDS) <= set(CASES["Recipe"]().bad)
