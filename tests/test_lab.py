"""The notebooks in a real JupyterLab: every cell runs, sliders answer to the keyboard, the Train panel trains."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
from conftest import ROOT

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("jupyterlab"), reason="jupyterlab is not installed")
CHAPTERS = sorted(path.name for path in (ROOT / "chapters").glob("[0-9]*.ipynb"))
SMALL = [
    "import helpers as h\ndigits = h.load('digits')\nbase = h.Recipe(epochs=5)",
    "runs = h.train(base.vary(lr=[0.003, 0.03, 0.3], init=['he', 'zero']), digits, seeds=2)",
    "h.explore(runs, sliders=['lr'], color='init')",
    "h.train_panel(base, digits, fields={'epochs': [5, 3000], 'init': ['he', 'zero']}, recorded=runs, seeds=4)",
]
# Each of these fails after its cell is done, where no output of a cell shows it. `press` works them.
BROKEN = {
    "a button": """import ipywidgets as W
button = W.Button(description="Go")
button.on_click(lambda _: 1 / 0)
button""",
    "a choice": """import ipywidgets as W
choice = W.ToggleButton(description="Go")
choice.observe(lambda _: 1 / 0, "value")
choice""",
    "a thread": """import threading
import ipywidgets as W
button = W.Button(description="Go")
button.on_click(lambda _: threading.Thread(target=lambda: 1 / 0).start())
button""",
    "a message": """import anywidget
class Messenger(anywidget.AnyWidget):
    _esm = '''export default { render({ model, el }) {
      el.innerHTML = "<button>Go</button>";
      el.firstChild.onclick = () => model.send({});
    } };'''
messenger = Messenger()
messenger.on_msg(lambda *_: 1 / 0)
messenger""",
    "a script": """import anywidget
class Script(anywidget.AnyWidget):
    _esm = '''export default { render({ el }) {
      el.innerHTML = "<button>Go</button>";
      el.firstChild.onclick = () => { throw new Error("ZeroDivisionError in a script"); };
    } };'''
Script()""",
    "a promise": """import anywidget
class Script(anywidget.AnyWidget):
    _esm = '''export default { render({ el }) {
      el.innerHTML = "<button>Go</button>";
      el.firstChild.onclick = async () => { throw new Error("ZeroDivisionError in a promise"); };
    } };'''
Script()""",
}
LISTEN = """() => {
    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    window.heard = [];
    window.stderr = "";
    kernel.iopubMessage.connect((_, message) => {
        const { ename, evalue, name, text } = message.content;
        if (message.header.msg_type === "error") window.heard.push(`${ename}: ${evalue}`);
        if (name === "stderr") window.stderr += text;  // a traceback comes in pieces
    });
}"""
CONFIG = {
    "ServerApp": {"open_browser": False, "allow_root": True, "port_retries": 0, "disable_check_xsrf": True},
    "IdentityProvider": {"token": ""},
    "PasswordIdentityProvider": {"hashed_password": "", "password_required": False},
    "LabApp": {
        "expose_app_in_browser": True,
        "extension_manager": "readonly",
        "news_url": None,
        "check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
    },
}
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # else a cell that is out of sight is not on the page
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


def ask(address: str, method: str = "GET"):
    request = urllib.request.Request(address, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read()
    return json.loads(text) if text else None


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab of its own, with copies of the chapters; it is shut down with its kernels."""
    here = tmp_path_factory.mktemp("lab")
    (here / "config").mkdir()
    (here / "config" / "jupyter_server_config.json").write_text(json.dumps(CONFIG))
    for name, setting in SETTINGS.items():
        path = here / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(setting))
    skip = shutil.ignore_patterns(".*", "_build")
    shutil.copytree(ROOT / "chapters", here / "notebooks", ignore=skip)
    for path in (here / "notebooks").glob("*.ipynb"):  # no dialog that asks for a kernel
        save(path, nbformat.read(path, as_version=4))
    cells = [nbformat.v4.new_code_cell(text) for text in SMALL]
    save(here / "notebooks" / "small.ipynb", nbformat.v4.new_notebook(cells=cells))
    for kind, source in BROKEN.items():
        cells = [nbformat.v4.new_code_cell(source)]
        save(here / "notebooks" / f"broken-{kind.replace(' ', '-')}.ipynb", nbformat.v4.new_notebook(cells=cells))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = {"JUPYTER_CONFIG_DIR": "config", "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "w"}
    places |= {"JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython"}
    env = os.environ | {name: str(here / folder) for name, folder in places.items()}
    env |= {"TRICKS_SCALE": "smoke", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={here / 'notebooks'}"]
    command += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"]
    log = (here / "log.txt").open("w")
    server = subprocess.Popen(command, env=env, cwd=here, stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(240):
            try:
                ask(address + "api/status")
                break
            except OSError:
                assert server.poll() is None, (here / "log.txt").read_text()[-2000:]
                time.sleep(0.5)
        else:
            pytest.fail("JupyterLab did not answer within two minutes:\n" + (here / "log.txt").read_text()[-2000:])
        yield address
    finally:
        try:
            for kernel in ask(address + "api/kernels"):
                ask(address + f"api/kernels/{kernel['id']}", "DELETE")
            ask(address + "api/shutdown", "POST")
            server.wait(15)
        except (OSError, subprocess.TimeoutExpired):
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(15)
        log.close()


def save(path, notebook) -> None:
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)


@pytest.fixture
def run_all(lab, guarded):
    """run_all(name) -> the page of this notebook, all cells run.

    Fails at its end on whatever went wrong meanwhile: in a cell, in a callback or a thread of the kernel, in a script.
    """
    kept = []

    def start(name: str):
        page, outside = guarded(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(60_000)
        broken = page.broken = []
        page.on("pageerror", lambda error: broken.append(str(error)))
        page.on("console", lambda said: broken.append(said.text) if said.type == "error" else None)
        kept.append((page, outside))
        page.goto(f"{lab}doc/tree/{name}")
        page.wait_for_function("window.jupyterapp?.shell.currentWidget?.content?.widgets?.length > 0")
        page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.ready")
        page.evaluate(LISTEN)
        page.evaluate("""() => Promise.race([
            window.jupyterapp.commands.execute("notebook:run-all-cells"),
            new Promise((_, no) => setTimeout(() => no(new Error("the cells ran longer than 2 minutes")), 120000)),
        ])""")
        counts = page.evaluate("""() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells
            .filter(cell => cell.cell_type === "code").map(cell => cell.execution_count)""")
        assert not errors(page)
        assert counts and all(counts), f"a cell did not run: {counts}"
        return page

    yield start
    for page, _ in kept:
        page.wait_for_timeout(300)  # what a callback has to say may still be on its way
    heard = [errors(page) for page, _ in kept]
    for kernel in ask(lab + "api/kernels"):
        ask(lab + f"api/kernels/{kernel['id']}", "DELETE")
    assert not any(heard), f"went wrong in a cell, a callback, a thread or a script: {heard}"
    for _, outside in kept:
        assert not outside, f"asked for other places: {outside}"


def errors(page) -> list[str]:
    """Everything that went wrong so far: in an output, in the kernel outside the cells, in a script of the page."""
    shown = page.evaluate("""() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells
        .flatMap(cell => cell.outputs ?? []).filter(output => output.output_type === "error")
        .map(output => output.ename + ": " + output.evalue)""")
    stderr = page.evaluate("window.stderr")
    return shown + page.evaluate("window.heard") + page.broken + ([stderr] if "Traceback" in stderr else [])


def move_slider(page, slider) -> None:
    """One step by keyboard, towards the side that has room."""
    slider.focus()
    at_end = slider.evaluate("e => +e.value >= +e.max")
    page.keyboard.press("ArrowLeft" if at_end else "ArrowRight")


def press(panel, name: str) -> None:
    """Press a button by keyboard, as soon as it is enabled."""
    button = panel.get_by_role("button", name=name, exact=True)
    button.and_(panel.locator("button:not([disabled])")).press("Enter")


def drawn_lines(panel, color: str) -> list[str]:
    """The paths of the lines in this colour: what the chart shows of one setting."""
    return panel.locator(f'svg path[style*="stroke: {color}" i]').evaluate_all("all => all.map(p => p.outerHTML)")


def test_explorer_answers_to_the_keyboard(run_all):
    page = run_all("small.ipynb")
    explorer = page.locator(".rx").first
    explorer.locator("path.rx-mean").first.wait_for(state="attached")
    script = "all => all.map(p => p.getAttribute('d')).join()"
    before = explorer.locator(".rx-panels path.rx-mean").evaluate_all(script)
    move_slider(page, explorer.locator("input[type=range]").first)
    page.wait_for_timeout(200)
    after = explorer.locator(".rx-panels path.rx-mean").evaluate_all(script)
    assert before and after and before != after, "the slider moved and the curves did not"


def test_train_panel_trains_and_stops(run_all):
    page = run_all("small.ipynb")
    panel = page.locator(".tt-live")
    panel.locator("svg[role=img]").wait_for()
    assert "recorded" in panel.locator("svg[role=img]").get_attribute("aria-label")
    assert drawn_lines(panel, "#7f7f7f") and not drawn_lines(panel, "#0072b2")

    press(panel, "Train")
    panel.locator("[role=status]").wait_for()
    said = panel.locator("[role=status]").inner_text()
    assert re.search(r"epochs 5, init he: validation accuracy [\d.]+ % ± .* n = 4\), after 5 epochs; 0 of 4 runs", said)
    assert drawn_lines(panel, "#0072b2"), "the new curve is not in the chart"

    choice = panel.get_by_role("combobox", name="init")
    choice.focus()
    page.keyboard.press("ArrowDown")  # the recorded curves follow, and JupyterLab does not take the key
    panel.locator('svg[aria-label*="recorded, nearest: learning rate 0.3: 10"]').wait_for()
    assert choice.input_value() == "zero"

    slider = panel.get_by_role("slider", name="epochs")
    slider.focus()
    page.keyboard.press("ArrowRight")
    panel.locator(".widget-readout", has_text="3000").wait_for()
    press(panel, "Train")
    panel.get_by_text(re.compile(r"\d+ of 12000 epochs .* left")).wait_for()
    pressed = time.monotonic()
    press(panel, "Stop")
    panel.get_by_text(re.compile(r"stopped after \d+ of 12000 epochs")).wait_for(timeout=20_000)
    assert time.monotonic() - pressed < 15, "Stop took too long"
    assert drawn_lines(panel, "#d55e00"), "what was trained before Stop is not in the chart"
    assert panel.get_by_role("button", name="Train", exact=True).is_enabled()


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_runs_and_answers(run_all, name):
    page = run_all(name)
    cells = json.loads((ROOT / "chapters" / name).read_text(encoding="utf-8"))["cells"]
    folded = sum("jupyter" in cell["metadata"] for cell in cells if cell["cell_type"] == "code")
    seen = "() => window.jupyterapp.shell.currentWidget.content.widgets.filter(cell => cell.inputHidden).length"
    assert folded and page.evaluate(seen) == folded
    sliders = page.locator(".rx input[type=range]")
    if sliders.count():
        drawing = page.locator(".rx", has=page.locator("input[type=range]")).first.locator(".rx-panels")
        before = drawing.inner_html()
        move_slider(page, sliders.first)
        page.wait_for_timeout(200)
        assert drawing.inner_html() != before, "the slider moved and the drawing did not"
    if page.locator(".tt-live").count():
        panel = page.locator(".tt-live").first
        press(panel, "Train")
        panel.locator("[role=status], [role=alert]").wait_for(timeout=90_000)
        assert not panel.locator("[role=alert]").count(), panel.locator("[role=alert]").inner_text()
        assert drawn_lines(panel, "#0072b2"), "the new curve is not in the chart"


@pytest.mark.parametrize("kind", BROKEN)
def test_an_error_after_the_cells_is_heard(run_all, kind):
    page = run_all("broken-" + kind.replace(" ", "-") + ".ipynb")
    page.get_by_role("button", name="Go", exact=True).press("Enter")
    for _ in range(50):
        if any("ZeroDivisionError" in told for told in errors(page)):
            break
        page.wait_for_timeout(100)
    told = errors(page)
    page.evaluate("() => { window.heard = []; window.stderr = ''; }")
    page.broken.clear()
    assert [text for text in told if "ZeroDivisionError" in text], f"nobody heard {kind} fail: {told}"
