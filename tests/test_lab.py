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
    """run_all(name) -> the page of this notebook, all cells run; fails on an error in an output or on the page."""
    kept = []

    def start(name: str):
        page, outside = guarded(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(60_000)
        broken: list[str] = []
        page.on("pageerror", lambda error: broken.append(str(error)))
        kept.append((page, outside, broken))
        page.goto(f"{lab}doc/tree/{name}")
        page.wait_for_function("window.jupyterapp?.shell.currentWidget?.content?.widgets?.length > 0")
        page.evaluate("""() => Promise.race([
            window.jupyterapp.shell.currentWidget.sessionContext.ready
                .then(() => window.jupyterapp.commands.execute("notebook:run-all-cells")),
            new Promise((_, no) => setTimeout(() => no(new Error("the cells ran longer than 2 minutes")), 120000)),
        ])""")
        no_errors(page)
        prompts = page.locator(".jp-Notebook .jp-CodeCell .jp-InputPrompt").all_inner_texts()
        assert prompts and all(re.fullmatch(r"\[\d+\]:", p.strip()) for p in prompts), f"a cell did not run: {prompts}"
        return page

    yield start
    for kernel in ask(lab + "api/kernels"):
        ask(lab + f"api/kernels/{kernel['id']}", "DELETE")
    for _, outside, broken in kept:
        assert not broken, f"errors on the page: {broken}"
        assert not outside, f"asked for other places: {outside}"


def no_errors(page) -> None:
    errors = page.evaluate("""() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells
        .flatMap(cell => cell.outputs ?? []).filter(output => output.output_type === "error")
        .map(output => output.ename + ": " + output.evalue)""")
    assert not errors, f"a cell ended with an error: {errors}"


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
    no_errors(page)
