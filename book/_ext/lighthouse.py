"""Lighthouse's four scores (mobile) of the landing page and the heaviest chapter, medians of several runs.

    python book/_ext/lighthouse.py [page ...]       needs Chromium and Node.js; fails where a score is below 95

The pages come from a server on loopback that compresses and caches as GitHub Pages does. npm fetches Lighthouse itself,
at one version, the first time.
"""

from __future__ import annotations

import functools
import gzip
import http.server
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading

from printing import FLAGS, chromium

LIGHTHOUSE = "lighthouse@12.8.2"  # the newest that runs on Node.js 20
CATEGORIES = ("performance", "accessibility", "best-practices", "seo")
LEAST = 95
RUNS = 5
PACKED = (".html", ".css", ".js", ".svg", ".json", ".txt")
ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILT = ROOT / "_build" / "html"


class Site(http.server.SimpleHTTPRequestHandler):
    """A folder as a static host serves it: HTTP/1.1, gzip, ten minutes in the cache."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        try:
            self.answer()
        except (BrokenPipeError, ConnectionResetError):
            pass  # the browser has gone away

    def answer(self) -> None:
        path = pathlib.Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() else path
        if not path.is_file():
            self.send_error(404)
            return
        body = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Cache-Control", "max-age=600")
        if path.suffix in PACKED and "gzip" in self.headers.get("Accept-Encoding", ""):
            body = packed(path, path.stat().st_mtime_ns)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Vary", "Accept-Encoding")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args) -> None:
        pass


@functools.lru_cache(256)
def packed(path: pathlib.Path, changed: int) -> bytes:
    return gzip.compress(path.read_bytes(), 6, mtime=0)


def serve(folder: pathlib.Path) -> http.server.ThreadingHTTPServer:
    """A running server of this folder on a free port of loopback; the caller shuts it down."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Site, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def heaviest(folder: pathlib.Path) -> str:
    """The chapter with the most bytes on the wire."""
    sizes = {path: len(gzip.compress(path.read_bytes())) for path in (folder / "chapters").glob("[0-9]*.html")}
    return max(sizes, key=sizes.get).relative_to(folder).as_posix()


def audit(address: str, report: pathlib.Path) -> dict:
    """One run of Lighthouse on one page: its report."""
    command = ["npx", "--yes", LIGHTHOUSE, address, "--quiet", "--output=json", f"--output-path={report}"]
    command += [f"--only-categories={','.join(CATEGORIES)}", f"--chrome-flags={' '.join(['--headless=new', *FLAGS])}"]
    environment = {**os.environ, "CHROME_PATH": chromium()}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    if ran.returncode or not report.exists():
        raise RuntimeError(f"Lighthouse failed on {address}: {ran.stderr.strip()[-400:]}")
    return json.loads(report.read_text(encoding="utf-8"))


def scores(reports: list[dict]) -> dict[str, int]:
    """The median score of each category, 0 to 100."""
    return {
        name: round(100 * statistics.median(report["categories"][name]["score"] for report in reports))
        for name in CATEGORIES
    }


def missing() -> str:
    """One sentence about what is not there; empty where everything is."""
    if not shutil.which("npx"):
        return "Lighthouse needs Node.js 20 or newer: install the packages `nodejs` and `npm`."
    if not chromium():
        return "Lighthouse needs Chromium: install the package `chromium`, or name it in CHROMIUM."
    if not (BUILT / "index.html").exists():
        return "The pages are not built: run `make book` first."
    return ""


def main(arguments: list[str]) -> int:
    if missing():
        sys.stderr.write(missing() + "\n")
        return 1
    pages = arguments or ["", heaviest(BUILT)]
    server, low = serve(BUILT), False
    try:
        for page in pages:
            with tempfile.TemporaryDirectory() as folder:
                address = f"http://127.0.0.1:{server.server_port}/{page}"
                reports = [audit(address, pathlib.Path(folder) / f"{k}.json") for k in range(RUNS)]
            found = scores(reports)
            each = sorted(round(100 * report["categories"]["performance"]["score"]) for report in reports)
            low = low or min(found.values()) < LEAST
            told = ", ".join(f"{name} {score}" for name, score in found.items())
            print(f"lighthouse {page or 'index.html'}: {told} (performance of each run: {each})", flush=True)
    finally:
        server.shutdown()
    if low:
        sys.stderr.write(f"A score is below {LEAST}.\n")
    return int(low)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
