"""The documents and the notebooks as they are committed: clean, linked, named alike, and free of typed results."""

from __future__ import annotations

import ast
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

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
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)
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


# tag: what folds the same cell in JupyterLab; "cellView": "form" folds its code in Colab
FOLDED = {
    "hide-input": {"source_hidden": True},
    "remove-input": {"source_hidden": True},
    "hide-cell": {"outputs_hidden": True, "source_hidden": True},
}


@pytest.mark.parametrize("path", named(NOTEBOOKS))
def test_what_is_folded_on_the_page_is_folded_in_jupyter_and_colab(path):
    for cell in cells(path, "code"):
        tag = next((tag for tag in cell["metadata"].get("tags", ()) if tag in FOLDED), None)
        wanted = {"jupyter": FOLDED[tag], "cellView": "form"} if tag else {}
        found = {key: cell["metadata"][key] for key in ("jupyter", "cellView") if key in cell["metadata"]}
        assert found == wanted, f"{cell['id']}: with the tag {tag}, its metadata need {wanted}"


def test_the_template_has_the_slots_of_a_chapter_in_order():
    text = "\n".join(c["source"] for c in cells(ROOT / "chapters" / "_template.ipynb", "markdown"))
    slots = ["promise", "goes wrong", "formula", "The code", "Predict", "Measure", "Explore", "Verdicts", "it fails",
             "Exercises", "References"]  # fmt: skip
    at = [text.index(slot) for slot in slots]
    assert at == sorted(at)


CHAPTERS = [path for path in NOTEBOOKS if re.match(r"\d\d_(?!start)", path.name)]


@pytest.mark.parametrize("path", named(CHAPTERS))
def test_every_exercise_has_a_folded_solution_that_is_run(path):
    told = json.loads(path.read_text(encoding="utf-8"))["cells"]
    run = ROOT / "_build" / "executed" / path.name
    outputs = {c["id"]: c["outputs"] for c in cells(run, "code")} if run.exists() else {}
    name, folded, found = None, {}, False
    for cell in told:
        text = "".join(cell["source"])
        for line in text.splitlines() if cell["cell_type"] == "markdown" else ():
            found = line.startswith("## Exercises") if line.startswith("## ") else found
            task = re.match(r"\*\*(\d[^*]*)\*\*", line)
            if found and task:
                name = task[1]
                folded[name] = []
        if found and name and cell["cell_type"] == "code":
            assert "hide-cell" in cell["metadata"].get("tags", ()), f"the solution of {name} is open to see"
            folded[name].append(cell["id"])
    assert len(folded) >= 3 and [name for name, ids in folded.items() if not ids] == [], "an exercise without solution"
    if outputs and set(sum(folded.values(), [])) <= set(outputs):
        silent = [name for name, ids in folded.items() if not any(outputs[i] for i in ids)]
        assert silent == [], "a solution that shows nothing"


@pytest.mark.parametrize("path", named([p for p in NOTEBOOKS if p.name != "_template.ipynb"]))
def test_every_built_chapter_opens_in_colab_and_binder_and_gives_its_notebook(path):
    page = ROOT / "_build" / "html" / "chapters" / f"{path.stem}.html"
    if not page.exists():
        pytest.skip("_build/html is absent: run `make book` first")
    settings = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    where, branch = settings["repository"]["url"].removeprefix("https://github.com/"), settings["repository"]["branch"]
    text = page.read_text(encoding="utf-8").replace("&amp;", "&")
    assert f'"https://colab.research.google.com/github/{where}/blob/{branch}/chapters/{path.name}"' in text
    assert f'"https://mybinder.org/v2/gh/{where}/{branch}?urlpath=lab/tree/chapters/{path.name}"' in text
    assert page.with_suffix(".ipynb").is_file()


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


def packages(text: str) -> set[str]:
    """The names of the packages that a list of requirements asks for, as registries write them."""
    found = re.findall(r"(?m)^\s*(?:- )?([A-Za-z][\w.-]*)\s*(?:[><=~!]|$)", text)
    return {re.sub(r"[-_.]+", "-", name).lower() for name in found}


def asked() -> dict[str, str]:
    """{package: bound} of pyproject.toml, with those of its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *sum(project.get("optional-dependencies", {}).values(), [])]
    return dict(re.fullmatch(r"([\w.-]+?)(?:\[\w+\])?([><=~!].*)", line).groups() for line in lines)


def imported(*folders: str) -> set[str]:
    """The modules that Python files, and the code cells of notebooks, import from elsewhere, by their first name."""
    paths = [p for folder in folders for p in sorted((ROOT / folder).rglob("*.py"))]
    trees = [ast.parse(p.read_text(encoding="utf-8")) for p in paths]
    if "chapters" in folders:
        trees += [
            ast.parse(re.sub(r"(?m)^( *)%.*", r"\1pass", c["source"])) for p in NOTEBOOKS for c in cells(p, "code")
        ]
    names = set()
    for node in (n for tree in trees for n in ast.walk(tree)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split(".")[0])
    ours = {p.stem for folder in ("tests", "book/_ext", "bench") for p in (ROOT / folder).glob("*.py")}
    return names - set(sys.stdlib_module_names) - ours - {"helpers", "bench", "tasks"}


BRINGS = {  # module: the package that it is installed with
    "sklearn": "scikit-learn", "PIL": "pillow", "yaml": "pyyaml", "IPython": "ipywidgets", "traitlets": "ipywidgets",
    "dask": "distributed",
    "docutils": "sphinx", "jupyter_cache": "myst-nb", "nbclient": "myst-nb", "nbformat": "myst-nb",
    "ipykernel": "myst-nb", "jupyter_client": "myst-nb",
    "fontTools": "matplotlib", "axe_playwright_python": "axe-playwright-python",
}  # fmt: skip


def table() -> dict[str, str]:
    """{package: why} of CONTRIBUTING's section on dependencies."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Dependencies")[1].split("\n## ")[0]
    rows = re.findall(r"(?m)^\| ([^|]+) \| ([^|]+) \|$", text)[1:]
    names = {name: why.strip() for cell, why in rows for name in re.split(r",? with |,? and |, ", cell.strip())}
    return {name.lower(): why for name, why in names.items() if set(name) - {"-"}}


def test_every_dependency_is_justified_pinned_and_used():
    told, bound = table(), set(asked())
    assert len(bound) > 10 and bound - set(told) == set(), "in pyproject.toml, and not in CONTRIBUTING's table"
    assert all(why.count(" ") or why.startswith("`make") for why in told.values())
    pinned = packages((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    assert set(told) - pinned == set(), "in the table, and not in requirements.txt"
    library = {BRINGS.get(name, name) for name in imported("helpers", "chapters")}
    assert library - bound == set(), "imported by helpers or a chapter, and not in pyproject.toml"
    everywhere = library | {
        BRINGS.get(name, name) for name in imported("book", "tests")
    }  # the rivals of bench are optional
    assert bound - everywhere == set(), "in pyproject.toml, and imported nowhere"
    assert everywhere - set(told) == set(), "imported, and not in CONTRIBUTING's table"
    programs = {"jupyter-book", "jupyterlab", "nbval", "ruff"}  # run by name, not imported
    assert set(told) - everywhere - programs - set(BRINGS.values()) == set(), "in the table, and used nowhere"


def test_pinned_versions_keep_to_the_bounds_and_stand_in_order():
    lines = [li for li in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines() if "==" in li]
    assert len(lines) > 100 and all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in lines)
    names = [line.split("==")[0].lower() for line in lines]
    assert len(set(names)) == len(names)
    versions = {re.sub(r"[-_.]+", "-", name): line.split("==")[1] for name, line in zip(names, lines, strict=True)}

    def number(text):
        return [int(part) for part in re.findall(r"\d+", text)]

    for name, bound in asked().items():
        assert bound.startswith(">=") and number(versions[name]) >= number(bound), name


def test_binder_installs_what_the_package_asks_for():
    folder = ROOT / ".binder"
    told = yaml.safe_load((folder / "environment.yml").read_text(encoding="utf-8"))
    assert told["channels"] == ["conda-forge", "nodefaults"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    conda = {"torch": "pytorch-cpu", "matplotlib": "matplotlib-base"}
    needs = [re.sub(r"^[\w-]+", lambda m: conda.get(m[0], m[0]), line) for line in project["dependencies"]]
    assert [line for line in told["dependencies"] if line not in ("pip", "python=3.12")] == ["setuptools>=68", *needs]
    assert os.access(folder / "postBuild", os.X_OK) and (folder / "postBuild").read_text().startswith("#!")
    if shutil.which("bash"):
        subprocess.run(["bash", "-n", str(folder / "postBuild")], check=True)


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
