"""The documents and the notebooks as they are committed: clean, linked, named alike, and free of typed results."""

from __future__ import annotations

import ast
import json
import os
import pathlib
import re

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "chapters").glob("*.ipynb"))
PAGES = sorted((ROOT / "book").glob("*.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
TYPED = re.compile(r"(?<![\w{`$.])\d{1,3}\.\d+\s?%")  # a percentage with decimals was measured, not declared


def cells(path: pathlib.Path, kind: str) -> list[dict]:
    """The cells of one kind in a notebook; `source` is one string."""
    found = [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == kind]
    return [{**c, "source": "".join(c["source"])} for c in found]


def named(paths):
    return [pytest.param(p, id=p.name) for p in paths]


def links(text: str) -> list[str]:
    """Targets of Markdown links and pictures that are neither addresses nor anchors, without their `#part`."""
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [t.split("#")[0] for t in found if not re.match(r"[a-z]+:|#", t)]


def typed_results(text: str) -> list[str]:
    """Percentages with decimals in prose; code spans and formulas do not count."""
    return TYPED.findall(re.sub(r"`[^`]*`|\$[^$]*\$", "", text))


def terms(text: str) -> list[str]:
    """The terms of a MyST glossary, in order."""
    body = re.search(r"```\{glossary\}\n(.*?)```", text, re.S)[1]
    return re.findall(r"(?m)^(\S[^\n]*)\n  \S", body)


def alphabetical(term: str) -> str:
    return re.sub(r"[^a-z0-9 ]", "", term.lower().replace("-", " "))


# ---- notebooks ----


@pytest.mark.parametrize("path", named(NOTEBOOKS))
def test_a_notebook_is_committed_clean(path):
    dirty = [c["source"][:60] for c in cells(path, "code") if c["outputs"] or c["execution_count"] is not None]
    assert dirty == []
    assert json.loads(path.read_text(encoding="utf-8"))["metadata"]["kernelspec"]["name"] == "python3"


@pytest.mark.parametrize("path", named(NOTEBOOKS))
def test_the_first_cell_installs_from_the_repository_of_the_book(path):
    url = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
    first = cells(path, "code")[0]["source"]
    assert re.findall(r"git\+([^\"'\s]+)", first) == [url]
    assert first.count("    import helpers as h") == 2  # tried, and again once it is installed


@pytest.mark.parametrize("path", named(NOTEBOOKS))
def test_cells_are_short(path):
    lengths = [sum(bool(line.strip()) for line in c["source"].splitlines()) for c in cells(path, "code")]
    assert max(lengths) <= 15


@pytest.mark.parametrize("path", named([*NOTEBOOKS, *PAGES, *DOCUMENTS]))
def test_no_measured_percentage_is_typed_into_the_text(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n".join(c["source"] for c in cells(path, "markdown"))
    assert typed_results(text) == []


def test_typed_results_are_seen_and_declared_levels_are_not():
    assert typed_results("He wins by 3.4 % here, and by 12.25% there.") == ["3.4 %", "12.25%"]
    assert typed_results("A 95 % interval, `f'{x:.1f} %'`, $0.5 %$ and {glue:text}`gap`.") == []


def test_the_template_runs_at_smoke_scale(monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    book = nbformat.read(ROOT / "chapters" / "_template.ipynb", as_version=4)
    place = {"metadata": {"path": str(ROOT / "chapters")}}
    client = nbclient.NotebookClient(book, timeout=120, kernel_name="python3", resources=place)
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    client.execute(env={**os.environ, "TRICKS_SCALE": "smoke", "OMP_NUM_THREADS": "1", "PYTHONPATH": path})
    shown = {kind for c in book.cells for out in c.get("outputs", ()) for kind in out.get("data", {})}
    assert {"text/html", "application/vnd.training-tricks.verdict+json"} <= shown


def test_the_template_has_the_slots_of_a_chapter_in_order():
    text = "\n".join(c["source"] for c in cells(ROOT / "chapters" / "_template.ipynb", "markdown"))
    slots = ["promise", "goes wrong", "formula", "The code", "Predict", "Measure", "Explore", "Verdicts", "it fails",
             "Exercises", "References"]  # fmt: skip
    at = [text.index(slot) for slot in slots]
    assert at == sorted(at)


# ---- pages, README, CONTRIBUTING ----


@pytest.mark.parametrize("path", named([*DOCUMENTS, *PAGES]))
def test_every_local_link_leads_to_a_file(path):
    text = path.read_text(encoding="utf-8")
    lost = [t for t in links(text) if not (path.parent / t).exists()]
    assert lost == []


@pytest.mark.parametrize("path", named(NOTEBOOKS))
def test_every_local_link_of_a_notebook_leads_to_a_file(path):
    text = "\n".join(c["source"] for c in cells(path, "markdown"))
    assert [t for t in links(text) if not (path.parent / t).exists()] == []


def test_links_are_found_outside_code():
    text = "[a](b.md#c) ![d](e/f.png) [g](https://h.org) [i](#j)\n```\n[k](l.md)\n```"
    assert links(text) == ["b.md", "e/f.png"]


@pytest.mark.parametrize("path", named([*DOCUMENTS, ROOT / "book" / "how_to_read.md"]))
def test_the_commands_that_are_named_exist(path):
    text, makefile = path.read_text(encoding="utf-8"), (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.search(r"(?m)^\.PHONY: (.+)$", makefile)[1].split())
    tasks = ast.parse((ROOT / "tasks.py").read_text(encoding="utf-8"))
    commands = next(
        ast.literal_eval(n.value)
        for n in tasks.body
        if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "COMMANDS"
    )
    code = "\n".join(re.findall(r"`+[^`]+`+", text))
    made, asked = set(re.findall(r"\bmake ([a-z]+)", code)), set(re.findall(r"tasks\.py ([a-z]+)", code))
    assert made, "no command is named"
    assert made <= targets and asked <= set(commands)


def test_contributing_names_files_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    files = set(re.findall(r"`((?:tests|chapters|book|helpers)/[\w./]+\.\w+)`", text)) - {"tests/test_labs_name.py"}
    files |= {f"helpers/{name}" for name in re.findall(r"`(\w+\.py)`", text) if name not in ("tasks.py",)}
    assert len(files) > 10
    missing = [f for f in files if "NN_" not in f and "name.py" not in f and not (ROOT / f).exists()]
    assert missing == []


def test_the_ladder_is_told_whole_and_in_order():
    folders = [p.parent for p in (ROOT / "helpers").glob("*/__init__.py")]
    modules = {p.stem for p in [*(ROOT / "helpers").glob("*.py"), *folders]} - {"__init__"}
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    told = re.search(r"`(checks → [^`]+)`", text)[1].replace("\n", " ").split(" → ")
    told = [name.strip() for name in told]
    tests = ast.parse((ROOT / "tests" / "test_layers.py").read_text(encoding="utf-8"))
    ladder = next(n.value for n in tests.body if isinstance(n, ast.Assign) and n.targets[0].id == "LADDER")
    assert set(told) == modules
    assert told == ladder.func.value.value.split()


def test_dependencies_are_justified():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Dependencies")[1]
    asked = re.findall(r'(?m)^  "([a-z-]+)[><=]', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert len(asked) > 5 and [name for name in asked if name not in text] == []


def test_the_glossary_is_alphabetical_without_doubles():
    found = terms((ROOT / "book" / "glossary.md").read_text(encoding="utf-8"))
    assert len(found) > 40
    assert found == sorted(found, key=alphabetical)
    assert len({alphabetical(t) for t in found}) == len(found)


def test_the_licence_says_which_is_which():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert all(name in text for name in ("MIT License", "CC BY 4.0", "SIL Open Font License"))
    assert (ROOT / "book" / "assets" / "fonts" / "OFL.txt").is_file()


@pytest.mark.parametrize("path", named(NOTEBOOKS))
def test_the_test_set_is_opened_for_verdicts_only(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert "open_test(" not in code and "._test" not in code, "compare() or train(test='verdict on …') opens the seal"
    assert all(reason.startswith("verdict") for reason in re.findall(r'\btest="([^"]*)"', code))
