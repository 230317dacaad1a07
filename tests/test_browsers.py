"""The built pages in other engines than Chromium: WebKit, which is Safari's, and Firefox where its driver is installed.

WebDriver is four requests in JSON, so no library stands between.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from bench import browser as timing  # noqa: E402

BUILT = timing.BUILT
PAGES = [p.relative_to(BUILT).as_posix() for p in sorted(BUILT.rglob("*.html")) if "_static" not in p.parts]
DRIVERS = {
    "webkit": ("WebKitWebDriver", ["--port={}"], {}),
    "firefox": ("geckodriver", ["--port", "{}"], {"moz:firefoxOptions": {"args": ["-headless"]}}),
}
SIZES = {"desktop": (1280, 900), "phone": (420, 800)}
# Opens what is folded, moves every control to each end and back, and tells what came of it.
LOOK = """
const done = arguments[arguments.length - 1], pause = (ms) => new Promise((go) => setTimeout(go, ms));
const errors = [], drawn = DRAWN;
addEventListener("error", (e) => errors.push(e.message));
addEventListener("unhandledrejection", (e) => errors.push(String(e.reason)));
(async () => {
  for (let i = 0; i < 100 && !drawn(); i++) await pause(100);
  document.querySelectorAll("details").forEach((e) => { e.open = true; });
  const still = [];
  for (const control of document.querySelectorAll("[data-spec] input[type=range], [data-spec] select")) {
    if (control.disabled) continue;
    const host = control.closest("[data-spec]"), home = control.value, before = host.innerHTML;
    const values = control.options ? [...control.options].map((o) => o.value) : [control.min, control.max];
    let changed = false;
    for (const value of [...values, home]) {
      control.value = value;
      control.dispatchEvent(new Event("input", { bubbles: true }));
      changed ||= host.innerHTML !== before;
    }
    if (!changed && host.localName.startsWith("run-explorer-")) still.push(control.outerHTML);
  }
  for (const box of document.querySelectorAll("article input[type=checkbox]:not(:disabled)")) box.click();
  await pause(400);  // until the link to the setting is written: WebKit's driver takes that for the next page's arrival
  const page = document.documentElement, loaded = performance.getEntriesByType("resource").map((entry) => entry.name);
  done({ errors, still, drawn: drawn(), sideways: Math.max(page.scrollWidth - page.clientWidth, 0),
    outside: loaded.filter((name) => !/^(file|data|blob):/.test(name)) });
})().catch((error) => done({ errors: [String(error)] }));
""".replace("DRAWN", timing.DRAWN)


class Session:
    """A window of a browser, driven through its WebDriver."""

    def __init__(self, address: str, capabilities: dict):
        self.address = address + "/session"
        made = self.post("", {"capabilities": {"alwaysMatch": capabilities}})
        self.address += "/" + made["sessionId"]
        self.post("/timeouts", {"script": 60_000})

    def post(self, path: str, body: dict):
        request = urllib.request.Request(self.address + path, json.dumps(body).encode(), method="POST")
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def open(self, address: str, size) -> dict:
        self.post("/window/rect", dict(zip(("width", "height"), size, strict=True)))
        self.post("/url", {"url": address})
        return self.post("/execute/async", {"script": LOOK, "args": []})

    def close(self) -> None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(urllib.request.Request(self.address, method="DELETE"), timeout=30).close()


def screen(stack: contextlib.ExitStack) -> str:
    """Start a screen that nobody sees; its name, as DISPLAY has it."""
    if not shutil.which("Xvfb"):
        pytest.skip("WebKit needs a screen, and Xvfb is not installed")
    ready, told = os.pipe()
    start(stack, ["Xvfb", "-displayfd", str(told), "-screen", "0", "1400x1000x24", "-nolisten", "tcp"], pass_fds=[told])
    os.close(told)
    with open(ready) as number:
        return ":" + number.readline().strip()


def start(stack: contextlib.ExitStack, command: list[str], **options) -> None:
    """Run a program until the stack closes."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    stack.callback(process.wait)
    stack.callback(process.terminate)


@pytest.fixture(scope="module", params=DRIVERS)
def window(request):
    """A window of each engine; skips with a reason where its driver or a screen is missing, or it does not start."""
    program, arguments, capabilities = DRIVERS[request.param]
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    with contextlib.ExitStack() as stack:
        environment = dict(os.environ)
        if request.param == "webkit" and "DISPLAY" not in environment:
            environment["DISPLAY"] = screen(stack)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        start(stack, [program, *(part.format(port) for part in arguments)], env=environment)
        for _ in range(100):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.1)
        try:
            session = Session(f"http://127.0.0.1:{port}", capabilities)
        except OSError as error:
            pytest.skip(f"{request.param} does not start here: {error}")
        stack.callback(session.close)
        yield session


@pytest.mark.skipif(not PAGES, reason="_build/html is absent: run `make book` first")
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("name", PAGES)
def test_every_page_works_from_a_file_in_other_engines(window, name, size):
    found = window.open((BUILT / name).as_uri(), size)
    assert found == {"errors": [], "still": [], "drawn": True, "sideways": 0, "outside": []}
