"""Shared fixtures: a headless browser that may talk to nobody but the pages under test."""

from __future__ import annotations

import functools
import http.server
import os
import pathlib
import shutil
import threading

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def batch():
    """Seven examples of five features, and their labels, for each of three networks."""
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 7, 5, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, 4, (3, 7), generator=generator)


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium (playwright); skips with a reason where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine: install the package `chromium`, or name the program in CHROMIUM")
    with sync_api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="session")
def serve():
    """serve(folder) -> address of a web server on loopback that serves this folder."""
    running = []

    def start(folder: pathlib.Path) -> str:
        handler = functools.partial(Quiet, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in running:
        server.shutdown()


@pytest.fixture
def guarded(browser):
    """guarded(**options) -> (page, outside): requests to other places are refused and listed in `outside`."""
    contexts = []

    def open_page(**options):
        context = browser.new_context(**options)
        contexts.append(context)
        outside: list[str] = []

        def route(handler):
            url = handler.request.url
            if url.startswith(("http://127.0.0.1:", "file:", "data:", "blob:", "about:")):
                return handler.continue_()
            outside.append(url)
            return handler.abort()

        context.route("**/*", route)
        return context.new_page(), outside

    yield open_page
    for context in contexts:
        context.close()
