"""The build tool and the runner of the chapters, on notebooks of a few lines."""

import hashlib
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "book" / "_ext")]

execute = pytest.importorskip("execute", reason="the tools that build the book are not installed")
import tasks  # noqa: E402


@pytest.fixture
def book(tmp_path):
    """A repository in small: one module of helpers, and a function that writes chapters."""
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers" / "numbers.py").write_text("ANSWER = 42\n")
    (tmp_path / "chapters").mkdir()

    def write(name, *sources):
        cells = [nbformat.v4.new_markdown_cell("# A chapter"), *map(nbformat.v4.new_code_cell, sources)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "chapters" / f"{name}.ipynb")

    return tmp_path, write


def test_an_old_python_gets_one_sentence():
    assert tasks.old_python((3, 8, 1)) == (
        "This is Python 3.8, and the book needs 3.11 or newer; try `make book PYTHON=python3.12`."
    )
    assert tasks.old_python((3, 11)) == tasks.old_python((4, 0)) == ""


def test_a_real_old_python_gets_the_sentence():
    found = [shutil.which(f"python3.{minor}") for minor in (6, 7, 8, 9, 10)]
    roots = pathlib.Path(os.environ.get("PYENV_ROOT", pathlib.Path.home() / ".pyenv")) / "versions"
    found += [str(path) for path in roots.glob("3.[6-9].*/bin/python")]
    for program in filter(None, found):
        if subprocess.run([program, "-c", ""], capture_output=True).returncode == 0:
            ran = subprocess.run([program, "tasks.py", "book"], cwd=ROOT, capture_output=True, text=True)
            assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
            assert ran.stderr.startswith("This is Python 3.")
            return
    pytest.skip("no Python older than 3.11 on this machine")


def texts(root) -> dict[pathlib.Path, str]:
    """{path: text} of every file of text in the repository; what is built or installed there is left out."""
    skip, found = {".git", ".venv", "_build", "__pycache__", ".pytest_cache", ".ruff_cache"}, {}
    for folder, inside, names in os.walk(root):
        inside[:] = [name for name in inside if name not in skip and not name.endswith(".egg-info")]
        for path in (pathlib.Path(folder, name) for name in names):
            try:
                found[path.relative_to(root)] = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
    return found


def test_another_repository_is_named_everywhere_by_one_command(tmp_path, monkeypatch, capsys):
    old = re.search(r"(?m)^  url: (\S+)", (ROOT / "_config.yml").read_text(encoding="utf-8"))[1]
    owner = old.split("/")[-2]  # in whatever form: an address, a badge, a link to a launcher
    before = {path: text for path, text in texts(ROOT).items() if owner in text}
    for path, text in before.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    monkeypatch.setattr(tasks, "ROOT", str(tmp_path))
    assert len(before) > 4 and tasks.main(["repository", "https://example.org/me/mine"]) == 0
    after = texts(tmp_path)
    assert after == {path: text.replace(old, "https://example.org/me/mine") for path, text in before.items()}
    assert [str(path) for path, text in after.items() if owner in text] == []
    for wrong in ("", "me/mine", "https://example.org/me", "https://a/b/c d"):
        assert tasks.main(["repository", wrong]) == 1
        assert capsys.readouterr().err.endswith("give one such as https://github.com/you/book.\n")


def test_an_unknown_command_is_answered_with_the_nearest(capsys):
    assert tasks.main(["boook"]) == 2
    assert capsys.readouterr().err == (
        "'boook' is not a command; the commands are book, test, lab, bench, chapter, pdf, publish, replicate, "
        "lighthouse, audit, repository, clean. "
        "Did you mean 'book'?\n"
    )


def test_a_command_takes_no_leftovers(capsys):
    assert tasks.main(["book", "03"]) == 2
    assert capsys.readouterr().err == "'book' takes nothing after its name, and it was given 03.\n"
    assert tasks.main(["chapter"]) == 1
    assert capsys.readouterr().err == "Which chapter? For instance: make chapter C=03\n"


def test_missing_requirements_are_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tasks, "ROOT", str(tmp_path))
    assert tasks.main(["book"]) == 1
    assert capsys.readouterr().err == "requirements.txt is missing: run this in a complete copy of the repository.\n"


def test_the_environment_is_made_again_when_a_requirement_changed(tmp_path, monkeypatch):
    done = []
    (tmp_path / "requirements.txt").write_text("numpy\n")
    (tmp_path / "pyproject.toml").write_text("")
    monkeypatch.setattr(tasks, "ROOT", str(tmp_path))
    monkeypatch.setattr(tasks, "PYTHON", sys.executable)
    monkeypatch.setattr(tasks, "VENV", str(tmp_path))
    monkeypatch.setattr(tasks, "STAMP", str(tmp_path / "stamp"))
    monkeypatch.setattr(tasks, "quietly", lambda sentence, *command: done.append(command))
    tasks.environment()
    tasks.environment()
    assert len(done) == 1 and done[0][-2:] == ("-r", "requirements.txt")
    (tmp_path / "requirements.txt").write_text("numpy\ntorch\n")

    def broken(sentence, *command):
        raise tasks.Stop("no space left")

    monkeypatch.setattr(tasks, "quietly", broken)
    with pytest.raises(tasks.Stop):
        tasks.environment()
    assert tasks.stamped() == ""  # a half-finished install is not taken for a whole one


def test_the_key_changes_with_helpers_scale_and_versions(book, monkeypatch):
    root, _ = book
    monkeypatch.delenv("TRICKS_SCALE", raising=False)
    first = execute.cache_key(root)
    assert first == execute.cache_key(root) and len(first) == 16
    (root / "helpers" / "numbers.py").write_text("ANSWER = 43\n")
    second = execute.cache_key(root)
    (root / "helpers" / "more.js").write_text("")
    third = execute.cache_key(root)
    monkeypatch.setenv("TRICKS_SCALE", "smoke")
    fourth = execute.cache_key(root)
    monkeypatch.setattr(execute, "versions", lambda: {"torch": "99"})
    assert len({first, second, third, fourth, execute.cache_key(root)}) == 5
    assert execute.cache_folder(root).name.startswith("smoke-")


def run(root) -> tuple[int, str, str]:
    """The program itself, in a process of its own: here a browser test may have left an event loop running."""
    command, two = [sys.executable, execute.__file__, "--root", str(root)], {**os.environ, "TRICKS_JOBS": "2"}
    done = subprocess.run(command, capture_output=True, text=True, env=two)
    return done.returncode, done.stdout, done.stderr


def test_a_chapter_runs_once_and_is_kept_whole(book):
    root, write = book
    write("01_sum", "1 + 1", "import os; os.environ.get('TRICKS_SCALE')")
    write("02_time", "import time; time.sleep(0.01)")
    code, out, _ = run(root)
    assert code == 0 and out.count("done in") == 2
    kept = execute.executed(root)
    assert list(kept) == ["01_sum", "02_time"]
    assert kept["01_sum"].cells[0].cell_type == "markdown"  # the text is there too
    assert kept["01_sum"].cells[1].outputs[0].data["text/plain"] == "2"
    about = kept["01_sum"].metadata[execute.META]
    assert (
        about["versions"]["python"] == sys.version.split()[0]
        and about["seconds"] >= about["cpu_seconds"] / 2 > 0
        and about["cores"] >= 1
    )

    (root / "chapters" / "02_time.ipynb").unlink()
    code, out, _ = run(root)
    assert code == 0 and out.split() == ["01_sum", "unchanged"]
    assert execute.executed(root) == {"01_sum": kept["01_sum"]}


def test_new_prose_does_not_run_a_chapter_again_and_new_code_does(book):
    root, write = book
    write("01_sum", "1 + 1")
    run(root)
    path = root / "chapters" / "01_sum.ipynb"
    path.write_text(path.read_text().replace("# A chapter", "# Another title"))
    code, out, _ = run(root)
    assert code == 0 and out.split() == ["01_sum", "unchanged"]
    kept = execute.executed(root)["01_sum"]
    assert kept.cells[0].source == "# Another title" and kept.cells[1].outputs[0].data["text/plain"] == "2"
    write("01_sum", "1 + 2")
    assert run(root)[0] == 0
    assert execute.executed(root)["01_sum"].cells[1].outputs[0].data["text/plain"] == "3"


def test_a_change_in_helpers_runs_the_chapter_again(book):
    root, write = book
    write("01_sum", "1 + 1")
    run(root)
    (root / "helpers" / "numbers.py").write_text("ANSWER = 43\n")
    code, out, _ = run(root)
    assert code == 0 and "done in" in out


def test_a_failing_cell_is_named_and_is_not_kept(book):
    root, write = book
    write("03_broken", "x = 1", "# divide\nx / 0")
    code, _, told = run(root)
    assert code == 1
    assert "FAILED chapters/03_broken.ipynb, cell 3 of 3: # divide\n" in told
    assert "       ZeroDivisionError: division by zero\n" in told
    assert "\x1b" not in told
    assert execute.executed(root) == {}


def test_an_unknown_chapter_is_one_sentence(book, capsys):
    root, write = book
    write("01_sum", "1 + 1")
    assert execute.main(["09", "--root", str(root)]) == 1
    assert capsys.readouterr().err == "No chapter starts with '09'; the chapters are: 01_sum.\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """What `publish` makes of the built book; a PDF of one line stands for the printed one."""
    if not (ROOT / "_build" / "html" / "index.html").is_file():
        pytest.skip("_build/html is absent: run `make book` first")
    root = tmp_path_factory.mktemp("published")
    shutil.copytree(ROOT / "_build" / "html", root / "_build" / "html")
    shutil.copy(ROOT / "_toc.yml", root)
    (root / "_build" / f"{tasks.NAME}.pdf").write_bytes(b"%PDF-1.7\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "ROOT", str(root))
        patch.setattr(tasks, "pdf", lambda: None)
        tasks.publish()
    return root / "_build" / "site"


def test_the_first_page_of_the_published_book_offers_the_pdf_and_the_archive(site, serve, guarded):
    page, outside = guarded()
    for place in ("", "chapters/00_start.html"):
        page.goto(serve(site) + place, wait_until="load")
        links = page.locator(".tt-downloads a")
        assert links.all_inner_texts() == ["the whole book as a PDF", "the pages to read offline, as a zip"]
        for link, name in zip(links.all(), (f"{tasks.NAME}.pdf", f"{tasks.NAME}.zip"), strict=True):
            with page.expect_download() as loading:
                link.click()
            assert pathlib.Path(loading.value.path()).read_bytes() == (site / name).read_bytes()
    assert outside == []


def test_the_archive_works_from_a_folder_without_a_network(site, tmp_path, guarded):
    shutil.unpack_archive(site / f"{tasks.NAME}.zip", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [tasks.NAME]
    html, there = ROOT / "_build" / "html", tmp_path / tasks.NAME
    assert {p.relative_to(html) for p in html.rglob("*")} == {p.relative_to(there) for p in there.rglob("*")}
    page, outside = guarded(offline=True)
    broken = []
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.on("requestfailed", lambda request: broken.append(request.url))
    page.goto((there / "index.html").as_uri(), wait_until="load")
    assert page.locator(".tt-downloads").count() == 0  # those files do not stand beside these pages
    page.locator("nav a", has_text="Initialization").first.click()
    page.wait_for_url("**/chapters/02_initialization.html")
    slider, drawing = page.locator(".rx input[type=range]").first, page.locator(".rx .rx-panels").first
    before = drawing.inner_html()
    slider.press("ArrowLeft" if slider.evaluate("e => +e.value >= +e.max") else "ArrowRight")
    for _ in range(50):  # a figure is drawn when its turn comes
        if drawing.inner_html() != before:
            break
        page.wait_for_timeout(100)
    assert drawing.inner_html() != before
    assert (outside, broken) == ([], [])


def test_a_first_page_without_a_place_for_the_links_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "ROOT", str(tmp_path))
    (tmp_path / "_toc.yml").write_text("root: index\n")
    for name in ("training-tricks.pdf", "training-tricks.zip", "index.html"):
        (tmp_path / name).write_text("")
    with pytest.raises(tasks.Stop, match="^index.html has no article to put the links"):
        tasks.offer(str(tmp_path))


def test_the_audit_tells_what_is_known_and_when_nothing_is():
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    audit = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(audit)
    fine = {"name": "numpy", "version": "2.0", "vulns": []}
    hit = {"name": "requests", "version": "2.1", "vulns": [{"id": "CVE-1", "fix_versions": ["2.2"]}]}
    silent = [{"name": name, "skip_reason": "not found"} for name in ("a", "b", "c")]
    ours = {"name": "training-tricks", "skip_reason": "editable"}
    assert audit.verdict([fine, ours]) == (["1 packages looked up, 0 with known vulnerabilities."], 0)
    lines, code = audit.verdict([fine, hit, silent[0], ours])
    assert lines[0] == "requests 2.1: CVE-1, mended in 2.2" and lines[-1] == "Not looked up: a." and code == 1
    assert audit.verdict([fine, *silent])[1] == audit.verdict([])[1] == 2


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_a_workflow_runs_commands_that_exist(path):
    told = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", True, "permissions", "jobs"} <= set(told)  # YAML reads the key `on` as true
    for name, job in told["jobs"].items():
        assert job["runs-on"] == "ubuntu-latest" and set(job.get("needs", "").split()) <= set(told["jobs"])
        assert job.get("timeout-minutes") or name == "deploy"
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            if "uses" in step:
                assert re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"])
            elif step["run"] == ".ci/run":
                assert os.access(ROOT / ".ci" / "run", os.X_OK)
            else:
                assert step["run"].split()[0] == "make" and step["run"].split()[1] in tasks.COMMANDS


def test_the_pages_are_published_after_every_check():
    told = yaml.safe_load((ROOT / ".github" / "workflows" / "pages.yml").read_text(encoding="utf-8"))
    steps = told["jobs"]["build"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run", "make lighthouse", "make publish"]
    assert steps[-1]["with"] == {"path": "_build/site"} and told["jobs"]["deploy"]["needs"] == "build"


def test_make_is_a_thin_wrapper():
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    ran = subprocess.run(["make", "book", "PYTHON=python-of-nobody"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode != 0
    assert ran.stderr.splitlines()[0] == (
        "No Python 3.11 or newer was found under the name python-of-nobody; "
        "install one, or name yours: make book PYTHON=/path/to/python3"
    )
    ran = subprocess.run(["make", "help", f"PYTHON={sys.executable}"], cwd=ROOT, capture_output=True, text=True)
    assert all(f"    {name}" in ran.stdout for name in tasks.COMMANDS)


def test_the_stamp_is_a_hash_of_both_files(tmp_path, monkeypatch):
    (tmp_path / "requirements.txt").write_text("a")
    (tmp_path / "pyproject.toml").write_text("b")
    monkeypatch.setattr(tasks, "ROOT", str(tmp_path))
    assert tasks.wanted() == hashlib.sha256(b"ab").hexdigest()
