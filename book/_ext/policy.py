"""A content-security policy on every page: it may load only what the book itself brings along.

The policy stands in the page (`<meta http-equiv>`), so it holds from any server and from a file. Scripts inside a page
are allowed by their hash, one by one, and scripts in attributes not at all: text that somebody smuggles into a page
does not run.
"""

from __future__ import annotations

import base64
import hashlib
import pathlib
import re

INLINE = re.compile(r"<script(?![^>]*\bsrc=)([^>]*)>(.*?)</script>", re.S | re.I)
DATA = re.compile(r"""\btype=["']?(application/(?:\w+\+)?json|text/plain)\b""")  # holds data, never runs
META = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>\n?')


def digest(script: str) -> str:
    """How a policy names one script."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() + "'"


def policy(page: str) -> str:
    """The policy for this page: nothing from outside, and of its own scripts exactly those that it holds now."""
    hashes = {digest(text) for about, text in INLINE.findall(page) if not DATA.search(about)}
    rules = {
        "default-src": "'none'",
        "script-src": " ".join(["'self'", *sorted(hashes)]),
        "style-src": "'self' 'unsafe-inline'",  # sizes and colours of figures are style attributes
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'self'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def with_policy(page: str) -> str:
    """The page with its policy first in its head, so that nothing comes before it; an older policy is replaced.

    Only the encoding stands before it: browsers look for that in the first kilobyte of a page.
    """
    page = META.sub("", page)
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy(page)}">\n'
    start = re.search(r"<head[^>]*>\n?(\s*<meta charset[^>]*>\n?)?", page)
    return page[: start.end()] + meta + page[start.end() :] if start else meta + page


def write_policies(app, error) -> None:
    if error is None and app.builder.name == "html":
        for path in pathlib.Path(app.outdir).rglob("*.html"):
            old = path.read_text(encoding="utf-8")
            new = with_policy(old)
            if new != old:
                path.write_text(new, encoding="utf-8")


def setup(app) -> dict:
    app.connect("build-finished", write_policies, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
