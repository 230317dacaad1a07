"""The ladder: each module of `helpers` imports only from modules on its left. No circles, no hidden back doors.

A rung is a file or a folder; the modules of a folder may also import from one another.
"""

from __future__ import annotations

import ast
import graphlib
import pathlib

import pytest

HELPERS = pathlib.Path(__file__).resolve().parent.parent / "helpers"
LADDER = (
    "checks scale streams splits glyphs download data owndata augment blocks lenet models init losses schedules "
    "optim recipe surfaces store runs training probe blas dense normed squares written quick stacks workers engine "
    "compare claims readout plots explorer live show labs"
).split()


def imported(path: pathlib.Path) -> set[str]:
    """The modules of `helpers` that this file imports, at the top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "helpers":
            inner = node.module.split(".")[1:]
            found |= {inner[0]} if inner else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("helpers.")}
    return found


def test_every_module_is_on_the_ladder():
    folders = [p.parent for p in HELPERS.glob("*/__init__.py")]
    here = [p.stem for p in [*HELPERS.glob("*.py"), *folders] if p.stem != "__init__"]
    assert sorted(here) == sorted(LADDER)


@pytest.mark.parametrize("name", LADDER)
def test_imports_go_left(name):
    folder = HELPERS / name
    allowed = set(LADDER[: LADDER.index(name)]) | ({name} if folder.is_dir() else set())
    for path in folder.rglob("*.py") if folder.is_dir() else [HELPERS / f"{name}.py"]:
        assert imported(path) <= allowed, path.name


def within(path: pathlib.Path, package: str) -> set[str]:
    """The modules of a package `helpers.….name` that this file imports; "__init__" is the package itself."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"{package}."):
            inner = (node.module + ".").removeprefix(f"{package}.").split(".")[0]
            here = [(HELPERS.parent / package.replace(".", "/") / f"{a.name}.py").exists() for a in node.names]
            names = {a.name if there else "__init__" for a, there in zip(node.names, here, strict=True)}
            found |= {inner} if inner else names
    return found


FOLDERS = [p.parent for p in sorted(HELPERS.glob("**/__init__.py")) if p.parent not in (HELPERS, HELPERS / "labs")]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_the_modules_of_a_folder_go_in_no_circle(folder):
    package = ".".join(folder.relative_to(HELPERS.parent).parts)
    needs = {p.stem: within(p, package) for p in folder.glob("*.py")}
    order = list(graphlib.TopologicalSorter(needs).static_order())  # raises CycleError
    assert set(order) == set(needs)
    if folder.name == "explorer":
        assert order.index("wording") < order.index("host")
    if folder.name == "optimizers":
        assert order.index("bowls") < order.index("__init__") < order.index("verdicts")


def test_labs_of_different_chapters_do_not_import_each_other():
    labs = HELPERS / "labs"
    for path in labs.rglob("*.py"):
        own = {path.parent.name} if path.parent != labs else set()
        assert within(path, "helpers.labs") <= own, path


def test_only_explorer_and_live_know_widgets():
    for path in HELPERS.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        place = path.relative_to(HELPERS).as_posix()
        if place != "live.py":
            assert "ipywidgets" not in text, path.name
        if place not in ("live.py", "explorer/host.py", "explorer/__init__.py"):
            assert "anywidget" not in text, path.name


def test_the_checker_sees_an_import_to_the_right(tmp_path):
    bad = tmp_path / "checks.py"
    bad.write_text(
        "def f():\n    from helpers import engine\n    import helpers.runs\n    from helpers.plots import picture\n"
    )
    assert imported(bad) == {"engine", "runs", "plots"}
