"""Everything the project does, by name: `python tasks.py book`. `make book` is the same.

    book          environment, every chapter executed, the pages in _build/html
    test          lint, unit tests, every chapter, the pages in a browser; extra arguments go to pytest
    lab           JupyterLab at the chapters
    bench         the benchmarks beside their rivals
    chapter 03    one chapter, executed and built
    pdf           the built pages as one PDF (needs Chromium)
    publish       the pages with the PDF and an offline archive, in _build/site
    replicate     every chapter again from other seeds, and a record of which verdicts stand
    lighthouse    the scores of the first page and the heaviest chapter (needs Node.js and Chromium)
    audit         known vulnerabilities in the installed packages (needs a network)
    repository U  name another repository, https://host/owner/name, wherever the book names its own
    clean         remove _build

Needs nothing but Python: the environment in .venv is made, and made again when a requirement changed.
The environment variables TRICKS_SCALE (smoke, book, full) and TRICKS_FIRST_SEED go through to the chapters.
"""

import difflib
import glob
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile

OLDEST = (3, 11)
NAME = "training-tricks"  # of the PDF and the archive
ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
BIN = os.path.join(VENV, "Scripts" if os.name == "nt" else "bin")
PYTHON = os.path.join(BIN, "python.exe" if os.name == "nt" else "python")
STAMP = os.path.join(VENV, "requirements.sha256")
PINS = ("requirements.txt", "pyproject.toml")
COMMANDS = ("book", "test", "lab", "bench", "chapter", "pdf", "publish", "replicate", "lighthouse", "audit")
COMMANDS += ("repository", "clean")


class Stop(Exception):
    """Ends a task with one sentence, or with nothing where the sentence was printed before."""

    def __init__(self, sentence="", code=1):
        super().__init__(sentence)
        self.code = code


def old_python(version):
    """The sentence for a Python that is too old, or an empty string."""
    if tuple(version[:2]) >= OLDEST:
        return ""
    have, need = (".".join(str(part) for part in pair[:2]) for pair in (version, OLDEST))
    return f"This is Python {have}, and the book needs {need} or newer; try `make book PYTHON=python3.12`."


def unknown_command(name):
    """The sentence for a command that does not exist."""
    hit = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.4)
    hint = f" Did you mean {hit[0]!r}?" if hit else ""
    return f"{name!r} is not a command; the commands are {', '.join(COMMANDS)}.{hint}"


def say(text):
    print(text, flush=True)


def run(*command, **environment):
    """Run a program in the repository; Stop with its exit code when it fails."""
    code = subprocess.call(command, cwd=ROOT, env=dict(os.environ, **environment))
    if code:
        raise Stop(code=code)


def python(*arguments, **environment):
    run(PYTHON, *arguments, **environment)


def wanted():
    """A hash of what the environment should hold."""
    digest = hashlib.sha256()
    for name in PINS:
        try:
            with open(os.path.join(ROOT, name), "rb") as file:
                digest.update(file.read())
        except OSError:
            raise Stop(f"{name} is missing: run this in a complete copy of the repository.") from None
    return digest.hexdigest()


def stamped():
    """The hash of what the environment does hold; empty where an install did not finish."""
    try:
        with open(STAMP) as file:
            return file.read().strip()
    except OSError:
        return ""


def quietly(sentence, *command):
    """Run a long command behind one line; show all that it said when it fails."""
    say(sentence)
    begin = time.time()
    result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if result.returncode:
        sys.stdout.write(result.stdout.decode(errors="replace"))
        raise Stop(f"This failed: {' '.join(command)}")
    say(f"  done in {time.time() - begin:.0f} s")


def environment():
    """Make .venv, or bring it up to date, unless its stamp says that it is."""
    want = wanted()
    alive = os.path.exists(PYTHON) and subprocess.call([PYTHON, "-c", "import pip"], stderr=subprocess.DEVNULL) == 0
    if alive and stamped() == want:
        return
    if not alive:
        try:
            quietly("Making the environment .venv ...", sys.executable, "-m", "venv", "--clear", VENV)
        except Stop:
            raise Stop("Python could not make .venv; on Debian or Ubuntu install the package python3-venv.") from None
    if os.path.exists(STAMP):
        os.remove(STAMP)
    # pip would compile on one core: half of its time. Afterwards all cores do it, and leave out what no one imports.
    install = (PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--no-compile", "-r", "requirements.txt")
    quietly("Installing the packages of requirements.txt (a few minutes the first time) ...", *install)
    compiling = (PYTHON, "-m", "compileall", "-q", "-j", "0", "-x", r"[/\\]tests?[/\\]", os.path.join(VENV, "lib"))
    subprocess.call(compiling, stdout=subprocess.DEVNULL)  # a file for another Python fails, and does not matter
    with open(STAMP, "w") as file:
        file.write(want)


def execute(*only):
    say(f"Executing the chapters (scale: {os.environ.get('TRICKS_SCALE') or 'book'}) ...")
    python(os.path.join("book", "_ext", "execute.py"), *only)


def times():
    """Print what each chapter took; `_build/executed` knows."""
    say("\nSeconds per chapter:")
    for path in sorted(glob.glob(os.path.join(ROOT, "_build", "executed", "*.ipynb"))):
        with open(path, encoding="utf-8") as file:
            about = json.load(file)["metadata"].get("training_tricks", {})
        name = os.path.splitext(os.path.basename(path))[0]
        say(f"  {name:<24} {about.get('seconds'):>6} s   (scale: {about.get('scale')}, run {about.get('date')})")


def pages(*arguments):
    say("Building the pages ...")
    run(os.path.join(BIN, "jupyter-book"), "build", ".", "-q", *arguments)


def book():
    environment()
    execute()
    pages("-W", "-n", "--keep-going")
    times()
    say(f"\nThe book is ready. Open {os.path.join(ROOT, '_build', 'html', 'index.html')}")


def test(*arguments):
    environment()
    say("Lint ...")
    python("-m", "ruff", "check", ".")
    book()
    say("\nTests ...")
    targets = () if any(os.path.exists(a.split("::")[0]) for a in arguments) else ("tests", "chapters")
    python("-m", "pytest", "--nbval-lax", *(targets + arguments), TRICKS_SCALE="smoke")


def lab():
    environment()
    python("-m", "jupyterlab", "--notebook-dir", "chapters")


def bench():
    environment()
    try:
        quietly("Installing the rivals ...", PYTHON, "-m", "pip", "install", "-q", "-r", "bench/requirements.txt")
    except Stop as stop:
        say(f"{stop} They are left out.")
    python("-m", "bench")


def chapter(number=""):
    """Execute one chapter and build it alone, beside the whole book and not in its place."""
    if not number:
        raise Stop("Which chapter? For instance: make chapter C=03")
    number = number.zfill(2) if number.isdigit() else number
    environment()
    execute(number)
    path = sorted(glob.glob(os.path.join(ROOT, "chapters", number + "*.ipynb")))[0]
    stem = os.path.splitext(os.path.basename(path))[0]
    folder = os.path.join(ROOT, "_build", "chapter")
    os.makedirs(folder, exist_ok=True)
    toc = os.path.join(folder, "_toc.yml")
    with open(toc, "w") as file:
        file.write(f"format: jb-book\nroot: chapters/{stem}\n")
    pages("--toc", toc, "--path-output", folder)
    times()
    where = os.path.join(folder, "_build", "html", "chapters", stem + ".html")
    say(f"\nLinks to other pages lead nowhere in this copy. Open {where}")


def pdf():
    book()
    say("\nPrinting ...")
    python(os.path.join("book", "_ext", "printing.py"))


def publish():
    """The folder that a web server needs: pages, notebooks, `training-tricks.pdf` and `training-tricks.zip`."""
    pdf()
    html, site = os.path.join(ROOT, "_build", "html"), os.path.join(ROOT, "_build", "site")
    shutil.rmtree(site, ignore_errors=True)
    shutil.copytree(html, site)
    shutil.copy(os.path.join(ROOT, "_build", f"{NAME}.pdf"), site)
    with zipfile.ZipFile(os.path.join(site, f"{NAME}.zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for folder, _, names in os.walk(html):
            for path in (os.path.join(folder, name) for name in sorted(names)):
                archive.write(path, os.path.join(NAME, os.path.relpath(path, html)))
    offer(site)
    say(f"\nTo publish: {site}")


def offer(site):
    """Put links to the PDF and the archive at the end of the first page: only there do those files stand beside it."""
    with open(os.path.join(ROOT, "_toc.yml"), encoding="utf-8") as file:
        root = re.search(r"(?m)^root: (\S+)", file.read())[1] + ".html"
    for page in {"index.html", root}:  # the same page, at the root of the site and at its own place
        links, there = [], os.path.relpath(".", os.path.dirname(page) or ".").replace(os.sep, "/")
        for kind, what in (("pdf", "the whole book as a PDF"), ("zip", "the pages to read offline, as a zip")):
            size = os.path.getsize(os.path.join(site, f"{NAME}.{kind}")) / 1e6
            links.append(f'<a href="{there}/{NAME}.{kind}" download>{what}</a> ({max(size, 0.1):.1f} MB)')
        with open(os.path.join(site, page), encoding="utf-8") as file:
            before, end, after = file.read().rpartition("</article>")
        if not end:
            raise Stop(f"{page} has no article to put the links to the PDF and the archive into.")
        with open(os.path.join(site, page), "w", encoding="utf-8") as file:
            file.write(f'{before}<p class="tt-downloads">To take with you: {" and ".join(links)}.</p>{end}{after}')


def replicate(*sets):
    environment()
    python(os.path.join("book", "_ext", "replicate.py"), *sets)


def lighthouse():
    book()
    python(os.path.join("book", "_ext", "lighthouse.py"))


def audit():
    environment()
    python(os.path.join(".ci", "audit.py"))


def repository(url=""):
    """Write another address of the repository into every file that names the present one."""
    if not re.fullmatch(r"https://[\w.-]+/[\w.-]+/[\w.-]+", url):
        raise Stop(f"{url!r} is not the address of a repository; give one such as https://github.com/you/book.")
    with open(os.path.join(ROOT, "_config.yml"), encoding="utf-8") as file:
        old = re.search(r"(?m)^  url: (\S+)", file.read())[1]
    paths = glob.glob(os.path.join(ROOT, "chapters", "*.ipynb"))
    for path in (*paths, os.path.join(ROOT, "_config.yml"), os.path.join(ROOT, "LICENSE")):
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
        if old in text:
            with open(path + ".part", "w", encoding="utf-8", newline="") as file:
                file.write(text.replace(old, url))
            os.replace(path + ".part", path)
            say(f"  {os.path.relpath(path, ROOT)}")


def clean():
    shutil.rmtree(os.path.join(ROOT, "_build"), ignore_errors=True)
    say("Removed _build. The environment .venv stays; remove that folder to start from nothing.")


def main(arguments):
    """Do one task; return the exit code."""
    sentence = old_python(sys.version_info)
    if sentence:
        sys.stderr.write(sentence + "\n")
        return 2
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(__doc__)
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        sys.stderr.write(unknown_command(name) + "\n")
        return 2
    if rest and name not in ("test", "chapter", "repository", "replicate"):
        sys.stderr.write(f"{name!r} takes nothing after its name, and it was given {' '.join(rest)}.\n")
        return 2
    try:
        globals()[name](*rest)
    except Stop as stop:
        if str(stop):
            sys.stderr.write(str(stop) + "\n")
        return stop.code
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped.\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
