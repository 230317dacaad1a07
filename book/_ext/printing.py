"""Paper: the addresses behind a page's links as footnotes, and one PDF of the whole book.

    python book/_ext/printing.py        _build/html, printed by Chromium, to _build/training-tricks.pdf
"""

from __future__ import annotations

import html
import os
import pathlib
import re
import shutil
import sys

import yaml

OUTSIDE = re.compile(r'<a class="reference external" href="(https?://[^"]+)"[^>]*>.*?</a>', re.S)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
SIZE = {
    "format": "A4",
    "margin": {"top": "18mm", "bottom": "18mm", "left": "16mm", "right": "16mm"},
    "print_background": True,
    "scale": 0.8,
}


def footnotes(body: str) -> str:
    """The body of a page with a number after each link that leads out of the book, and their addresses at the end.

    Both show on paper only (class `tt-printed`); on the screen a link is enough.
    """
    found: dict[str, int] = {}

    def numbered(match):
        number = found.setdefault(match[1], len(found) + 1)
        return f'{match[0]}<sup class="tt-printed">{number}</sup>'

    body = OUTSIDE.sub(numbered, body)
    if not found:
        return body
    items = "".join(f"<li>{html.escape(html.unescape(address))}</li>" for address in found)
    return f'{body}<div class="tt-printed"><p><strong>Links</strong></p><ol>{items}</ol></div>'


def add_footnotes(app, pagename, templatename, context, doctree) -> None:
    if "body" in context and doctree is not None:
        context["body"] = footnotes(context["body"])


def contents(root: pathlib.Path) -> list[str]:
    """The pages of the book in reading order, as `_toc.yml` has them."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"], *(page["file"] for part in toc["parts"] for page in part["chapters"])]


def chromium() -> str:
    """The path of a Chromium, or an empty string."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), "")


def write_pdf(root: pathlib.Path, out: pathlib.Path) -> int:
    """Print every page to one PDF with bookmarks; return its number of pages. It appears whole or not at all."""
    from playwright.sync_api import sync_playwright
    from pypdf import PdfReader, PdfWriter

    book = PdfWriter()
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(), args=FLAGS)
        page = browser.new_page(viewport={"width": 900, "height": 1200}, color_scheme="light")
        for name in contents(root):
            page.goto((root / "_build" / "html" / f"{name}.html").as_uri(), wait_until="load")
            page.emulate_media(media="print")
            page.wait_for_timeout(300)
            part, title = out.with_suffix(".part"), page.title().split(" — ")[0]
            part.write_bytes(page.pdf(**SIZE))
            start = len(book.pages)
            book.append(PdfReader(part), import_outline=False)
            book.add_outline_item(title=title, page_number=start)
            part.unlink()
            print(f"  {title:<44} {len(book.pages) - start:>3} pages", flush=True)
        browser.close()
    book.add_metadata({"/Title": "Training Tricks, Tested"})
    part = out.with_suffix(".part")
    book.write(part)
    os.replace(part, out)
    return len(book.pages)


def main() -> int:
    root = pathlib.Path(__file__).resolve().parents[2]
    if not chromium():
        sys.stderr.write("The PDF is printed by Chromium: install the package `chromium`, or name it in CHROMIUM.\n")
        return 1
    missing = [name for name in contents(root) if not (root / "_build" / "html" / f"{name}.html").exists()]
    if missing:
        sys.stderr.write(f"{missing[0]} is not built: run `make book` first.\n")
        return 1
    out = root / "_build" / "training-tricks.pdf"
    print(f"{write_pdf(root, out)} pages, {out.stat().st_size / 1e6:.1f} MB: {out}")
    return 0


def setup(app) -> dict:
    app.connect("html-page-context", add_footnotes)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    sys.exit(main())
