"""The book on paper: links as footnotes, and one PDF."""

from __future__ import annotations

import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))
printing = pytest.importorskip("printing", reason="the tools that build the book are not installed")
BUILT = ROOT / "_build" / "html"
built = pytest.mark.skipif(not (BUILT / "book").is_dir(), reason="_build/html is absent: run `make book` first")


def link(address, text="text"):
    return f'<a class="reference external" href="{address}">{text}</a>'


def test_links_get_numbers_and_one_list_of_addresses():
    body = f"<p>{link('https://a.org/?x=1&amp;y=2')} {link('https://b.org')} {link('https://a.org/?x=1&amp;y=2')}</p>"
    told = printing.footnotes(body)
    numbers = [part.split("</sup>")[0] for part in told.split('<sup class="tt-printed">')[1:]]
    assert numbers == ["1", "2", "1"]
    assert told.endswith("<ol><li>https://a.org/?x=1&amp;y=2</li><li>https://b.org</li></ol></div>")
    assert printing.footnotes('<a class="reference internal" href="b.html">b</a>').count("tt-printed") == 0


@built
def test_the_footnotes_show_on_paper_only(guarded):
    page, _ = guarded()
    page.goto((BUILT / "book" / "how_to_read.html").as_uri(), wait_until="load")
    notes = printing.footnotes(f"<p>{link('https://a.org')}</p>")
    page.evaluate("(notes) => document.querySelector('.bd-article').insertAdjacentHTML('beforeend', notes)", notes)
    assert not page.locator("div.tt-printed").is_visible()
    page.emulate_media(media="print")
    assert page.locator("div.tt-printed").is_visible() and not page.locator(".bd-sidebar-primary").is_visible()


@built
def test_the_pages_become_one_pdf_with_bookmarks(tmp_path, monkeypatch):
    pypdf = pytest.importorskip("pypdf", reason="pypdf is not installed")
    if not printing.chromium():
        pytest.skip("no Chromium on this machine")
    names = ["book/how_to_read", "book/glossary"]
    script = (
        "import pathlib, sys\n"
        f"sys.path.insert(0, {str(ROOT / 'book' / '_ext')!r})\n"
        "import printing\n"
        f"printing.contents = lambda root: {names!r}\n"
        f"print(printing.write_pdf(pathlib.Path({str(ROOT)!r}), pathlib.Path({str(tmp_path / 'book.pdf')!r})))\n"
    )
    import subprocess  # its own process: the browser of the other tests keeps an event loop running in this one

    ran = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    book = pypdf.PdfReader(tmp_path / "book.pdf")
    assert len(book.pages) == int(ran.stdout.split()[-1]) > 3
    assert [mark.title for mark in book.outline] == ["How to read this book", "Glossary"]
    assert "Notation" in "".join(page.extract_text() for page in book.pages)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["book.pdf"]


def test_the_order_is_that_of_the_table_of_contents():
    pages = printing.contents(ROOT)
    assert pages[0] == "chapters/00_start" and pages.index("chapters/01_data_splits") < pages.index("book/claims")
