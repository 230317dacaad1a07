"""How long a slider takes: each explorer of the built book, moved through its states in Chromium.

A move is the input event of a control. Its time goes from just before the event until the page is laid out again, which
asking for a height forces, by the page's own clock: script, style and layout, all that the page's thread does before it
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import statistics

FRAME = 1000 / 60  # milliseconds
MOVES = 40  # at least, for each explorer
BUILT = pathlib.Path(__file__).resolve().parent.parent / "_build" / "html"
EXPLORER = re.compile(r"<(run-explorer-[0-9a-f]{8})\b")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
# Whether every explorer of the page is drawn: those out of view wait until the page has nothing else to do.
DRAWN = """() => [...document.querySelectorAll("[data-spec]")]
  .every((e) => !e.localName.startsWith("run-explorer-") || e.dataset.live === "")"""
# Moves every slider and list of one explorer (or its ticks, where it has neither) through its states and back to where
# it stood; the milliseconds of each move.
MEASURE = """async (root, least) => {
  const pause = () => new Promise((done) => setTimeout(done, 0)), times = [];
  root.scrollIntoView({ block: "center" });
  await pause();
  const controls = [...root.querySelectorAll("input[type=range], select")].filter((c) => !c.disabled);
  const boxes = controls.length ? [] : [...root.querySelectorAll(".rx-legend input, .rx-each-box")];
  const timed = async (move) => {
    const begin = performance.now();
    move();
    document.documentElement.getBoundingClientRect();
    times.push(performance.now() - begin);
    await pause();
  };
  for (let round = 0; round < 20 && times.length < least && boxes.length; round++)
    for (const box of [...boxes, ...boxes]) await timed(() => box.click());
  for (let round = 0; round < 20 && times.length < least && controls.length; round++) for (const control of controls) {
    const home = control.value;
    const count = (control.max - control.min) / control.step + 1;
    const states = control.localName === "select" ? [...control.options].map((o) => o.value)
      : Array.from({ length: count }, (_, i) => String(+control.min + i * control.step));
    for (const state of [...states, home]) {
      if (state === control.value) continue;
      control.value = state;
      await timed(() => control.dispatchEvent(new Event("input", { bubbles: true })));
    }
  }
  return times;
}"""


def chromium() -> str:
    """The path of a Chromium, or an empty string."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), "")


def measure(page, least: int = MOVES) -> list[list[float]]:
    """The milliseconds of every move, one list for each explorer of an open page."""
    page.wait_for_function(DRAWN)
    found = page.query_selector_all(".rx")
    return [element.evaluate(MEASURE, least) for element in found]


def main() -> list[dict]:
    """One row for each chapter with an explorer: its name, the median and the worst move, the ratio."""
    pages = [p for p in sorted((BUILT / "chapters").glob("*.html")) if EXPLORER.search(p.read_text(encoding="utf-8"))]
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    if not pages or sync_playwright is None or not chromium():
        lack = "the built book" if not pages else "playwright" if sync_playwright is None else "Chromium"
        print(f"bench slider-redraw: left out, it needs {lack}.")
        return []
    rows = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(), args=FLAGS)
        for path in pages:
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(path.as_uri(), wait_until="load")
            times = [time for moves in measure(page) for time in moves]
            page.close()
            median, worst = statistics.median(times), max(times)
            name, ratio = f"slider-redraw-{path.stem}", FRAME / median
            rows.append({"bench": name, "ratio": ratio, "median_ms": median, "worst_ms": worst, "moves": len(times)})
            print(f"bench {name}: ratio {ratio:.2f} ({median:.1f} ms)", flush=True)
        browser.close()
    return rows


if __name__ == "__main__":
    main()
