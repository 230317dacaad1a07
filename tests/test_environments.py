"""The package in clean environments: a chapter as on Colab with the newest versions, the unit tests with the lowest.

Each environment is made from nothing, outside the checkout, and has no path to it: the package is installed from a copy
of the repository. Only torch is not installed again, which would take gigabytes where the registry's build is the one
for GPUs. Links to the files of the torch that runs these tests stand in a folder of their own, so that nothing else of
this environment is seen; what torch asks for besides is installed anew.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import venv

import pytest
import yaml
from conftest import ROOT

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(not shutil.which("git"), reason="git is not installed"),
    pytest.mark.skipif(os.name == "nt", reason="an environment shares torch through symbolic links"),
]
CHAPTERS = ("00_start", "05_overfitting")  # between them: the figures, the Train panel, the letters, kornia
SLOW = {"stacks"}  # minutes that are spent in torch alone
BOUND = re.compile(r"([\w-]+)>=([\d.]+)")


def bounds() -> dict[str, str]:
    """{package: its lowest version} of pyproject.toml."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    return dict(BOUND.fullmatch(line).groups() for line in told)


def run(*command, cwd, **variables) -> str:
    """What a program says; the test fails with it when the program does."""
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "JUPYTER_PATH", "JUPYTER_DATA_DIR", "PYTEST_ADDOPTS")
    env = {key: value for key, value in os.environ.items() if key not in hidden}
    env |= {"TRICKS_SCALE": "smoke", "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "JUPYTER_PREFER_ENV_PATH": "1"}
    done = subprocess.run(
        command, cwd=cwd, env=env | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-6000:]}"
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def registry(tmp_path_factory):
    """Skips where pip reaches no registry: asks for one small package of ours, past the cache."""
    ask = [sys.executable, "-m", "pip", "download", "--no-cache-dir", "--no-deps", "--retries=1", "--timeout=15", "-q"]
    ask += ["--dest", str(tmp_path_factory.mktemp("asked")), f"pooch=={bounds()['pooch']}"]
    asked = subprocess.run(ask, capture_output=True, text=True)
    if asked.returncode:
        told = f"no package registry answers: {(asked.stderr.strip().splitlines() or ['no answer'])[-1]}"
        pytest.fail(told) if os.environ.get("TRICKS_ONLINE") else pytest.skip(told)


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> pathlib.Path:
    """The files of the checkout as they are now, committed to a repository of their own."""
    copy = tmp_path_factory.mktemp("repository") / "book"
    shutil.copytree(
        ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "_build", "*.egg-info", "__pycache__", ".*_cache")
    )
    git = ("git", "-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    run("git", "init", "-q", cwd=copy)
    run("git", "add", "-A", cwd=copy)
    run(*git, "commit", "-q", "-m", "the book", cwd=copy)
    return copy


def shared_torch(folder: pathlib.Path) -> pathlib.Path:
    """Fill `folder` with links to torch, and to the GPU libraries that its build brings; nothing else."""
    folder.mkdir()
    waiting, seen = ["torch"], set()
    while waiting:
        name = waiting.pop()
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # a requirement of another platform
        seen.add(name)
        for top in {file.parts[0] for file in found.files} - {".."}:
            if not (folder / top).exists():
                (folder / top).symlink_to(found.locate_file(top))
        needs = {re.match(r"[\w.-]+", line)[0] for line in found.requires or ()}
        waiting += [need for need in needs - seen if need.startswith(("nvidia", "cuda", "triton"))]
    return folder


@pytest.fixture
def clean(tmp_path):
    """The Python of a new environment that has torch and pip."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    site = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    (site / "torch.pth").write_text(str(shared_torch(tmp_path / "torch")))
    return python


def pip(python, *arguments, cwd):
    return run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *arguments, cwd=cwd)


def installed(python, cwd) -> dict[str, str]:
    rows = json.loads(run(python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check", cwd=cwd))
    return {row["name"].lower(): row["version"] for row in rows}


def test_the_newest_versions_run_chapters_as_colab_does(clean, repository, tmp_path):
    pip(clean, "ipykernel", "nbclient", cwd=tmp_path)
    assert "training-tricks" not in installed(clean, tmp_path)
    address = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
    # git reads the book's address and finds the copy: the first cell of the chapter runs as it is
    away = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf"}
    away |= {"GIT_CONFIG_VALUE_0": address}
    for name in CHAPTERS:
        place = tmp_path / name  # one notebook in an empty folder
        place.mkdir()
        shutil.copy(ROOT / "chapters" / f"{name}.ipynb", place)
        run(clean.with_name("jupyter-execute"), "--inplace", "--timeout=300", f"{name}.ipynb", cwd=place, **away)
        cells = json.loads((place / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
        outputs = [out for cell in cells if cell["cell_type"] == "code" for out in cell["outputs"]]
        assert len(outputs) > 3 and not [out for out in outputs if out["output_type"] == "error"]
    have = installed(clean, tmp_path)
    assert set(bounds()) | {"training-tricks"} <= set(have)
    where = run(clean, "-c", "import helpers; print(helpers.__file__)", cwd=tmp_path).strip()
    assert pathlib.Path(where).is_relative_to(tmp_path / "env")


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the lowest versions belong to the oldest Python, 3.11")
def test_the_lowest_versions_pass_the_unit_tests(clean, repository, tmp_path):
    lowest = {name: version for name, version in bounds().items() if name != "torch"}
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in lowest.items()))
    pip(clean, "-c", str(constraints), "--prefer-binary", "pytest", "hypothesis", str(repository), cwd=tmp_path)
    have = installed(clean, tmp_path)
    wrong = {name: have.get(name) for name, low in lowest.items() if not same_release(have.get(name, ""), low)}
    assert wrong == {}
    shutil.copytree(repository, tmp_path / "book")
    shutil.rmtree(tmp_path / "book" / "helpers")  # the installed package is tested, with the files that it ships
    modules = {path.stem for path in (ROOT / "helpers").glob("*.py")} | {"explorer"}
    tests = [f"tests/test_{name}.py" for name in sorted(modules - SLOW)]
    tests += [f"tests/{path.name}" for path in sorted((ROOT / "tests").glob("test_labs_*.py"))]
    tests = [name for name in tests if (ROOT / name).exists()]
    options = ("-W", "ignore", "-p", "no:cacheprovider", "-k", "not kill", "-m", "not network")
    told = run(clean, "-m", "pytest", *options, *tests, cwd=tmp_path / "book")
    assert int(re.search(r"(\d+) passed", told)[1]) > 500, told[-500:]


def same_release(have: str, bound: str) -> bool:
    """Whether `have` is the very release that `bound` names: 2.2.0 is 2.2."""
    numbers = [tuple(map(int, re.match(r"[\d.]*\d|$", text)[0].split(".") if text else ())) for text in (have, bound)]
    width = max(map(len, numbers))
    return bool(have) and len({pair + (0,) * (width - len(pair)) for pair in numbers}) == 1
