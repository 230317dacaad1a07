"""Pages that show at once: one style sheet, one script that waits, and no picture before it is looked at.

The theme brings nine style sheets and ten scripts, of which a page uses a tenth, and a browser shows nothing before it
has them. When the build is done, this module writes `_static/all.css` (what some page uses) and `_static/all.js`, names
them in every page in place of the others, and moves the pictures that stand in for figures into files of their own.
The site's first address becomes the first page itself instead of a page that leads there.
"""

from __future__ import annotations

import base64
import hashlib
import pathlib
import re
import shutil
import struct

import purge
from sphinx.util import logging

log = logging.getLogger(__name__)
STYLES = (  # in their order on a page: later ones win
    "styles/theme.css", "styles/pydata-sphinx-theme.css", "pygments.css", "styles/sphinx-book-theme.css",
    "togglebutton.css", "copybutton.css", "mystnb.*.css", "sphinx-design.min.css", "book.css",
)  # fmt: skip
SCRIPTS = (
    "doctools.js", "sphinx_highlight.js", "clipboard.min.js", "copybutton.js", "scripts/sphinx-book-theme.js",
    "togglebutton.js", "scripts/bootstrap.js", "scripts/pydata-sphinx-theme.js", "page.js",
)  # fmt: skip
QUIET = ("clipboard.min.js", "scripts/bootstrap.js")  # their words are no sign that a page uses a class
BOOTSTRAP = set(
    "collapse collapsing collapsed show showing fade active disabled dropdown dropup dropdown-menu dropdown-item "
    "tooltip tooltip-inner tooltip-arrow bs-tooltip-auto".split()
)
ASSETS = pathlib.Path(__file__).resolve().parent.parent / "assets"
UNUSED = ("scripts/fontawesome.js", "sphinx-thebe.css", "sphinx-thebe.js", "locales", "webpack-macros.html",
          "sbt-webpack-macros.html")  # fmt: skip

STYLE = re.compile(r'[ \t]*<link\b[^>]*\bhref="[^"]*_static/([^"?]+\.css)(?:\?[^"]*)?"[^>]*>\n?')
SCRIPT = re.compile(r'[ \t]*<script\b[^>]*\bsrc="[^"]*_static/([^"?]+\.js)(?:\?[^"]*)?"[^>]*></script>\n?')
WAITING = re.compile(r"<script\b(?![^>]*\bdefer\b)(?=[^>]*\bsrc=)")
VIEWPORT = re.compile(r'\s*<meta name="viewport"[^>]*>')
THEME = re.compile(r'<script data-cfasync="false">.*?</script>', re.S)
PICTURE = re.compile(r'<img src="data:image/png;base64,([A-Za-z0-9+/=]{1000,})"')
LAYER = re.compile(r"(?<=&quot;)data:image/png;base64,([A-Za-z0-9+/=]{1000,})(?=&quot;)")
# The theme's watch over boxes that scroll; page.js does the same without a layout for each box at each change.
WATCH = re.compile(r'"complete"===document\.readyState\?(\w+)\(\):window\.addEventListener\("load",\1\)')
HANDLERS = {'onclick="window.print()"': 'data-does="print"', 'onclick="toggleFullScreen()"': 'data-does="full-screen"'}
ADDRESS = re.compile(r'\b(href|src|action|data-content_root|content)="(?![a-z]+:|#|/)([^"]*)"')
# Light or dark is settled before the first stroke; the theme asks later and finds the same answer. A browser refuses to
# fetch a font ahead for a page that is a file.
SETTLE = """<script data-cfasync="false">(() => {
  const root = document.documentElement;
  let mode = null;
  try { mode = localStorage.getItem("mode"); } catch { /* no storage: as the system has it */ }
  const dark = mode === "dark" || (mode !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  root.dataset.mode = mode || "auto";
  root.dataset.theme = dark ? "dark" : "light";
  if (location.protocol === "file:") { root.dataset.from = "file"; return; }
  for (const name of ["book-sans", "book-serif"]) {  // every page begins with both: fetched beside the style sheet
    const href = `${root.dataset.content_root}_static/fonts/${name}.woff2`;
    const font = { rel: "preload", as: "font", type: "font/woff2", crossOrigin: "anonymous", href };
    document.head.append(Object.assign(document.createElement("link"), font));
  }
})();</script>"""


def stamp(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def sources(static: pathlib.Path, patterns: tuple[str, ...]) -> list[pathlib.Path]:
    """The files of these names that the build has made."""
    return [path for pattern in patterns for path in sorted(static.glob(pattern))]


def head(page: str, up: str, css: str, js: str, options: str) -> str:
    """The page with one style sheet and one script, whose stamps are `css` and `js`; `up` leads to the root."""
    style = f'<link rel="stylesheet" href="{up}_static/all.css?v={css}">\n'
    script = f'<script defer src="{up}_static/all.js?v={js}"></script>\n'
    ours = {"all.css", *STYLES}
    first = True

    def one_style(match):
        nonlocal first
        name = re.sub(r"^mystnb\..*\.css$", "mystnb.*.css", match[1])
        if name not in ours and name not in UNUSED:
            log.warning(f"the style sheet {match[1]} is not among STYLES in lighten.py: add it there.", type="book")
            return match[0]
        told, first = (style if first else ""), False
        return told

    page = STYLE.sub(one_style, page)
    first = True

    def one_script(match):
        nonlocal first
        if match[1] == "documentation_options.js":
            return f"<script>{options}</script>\n"
        if match[1] not in SCRIPTS and match[1] != "all.js":
            return match[0]
        told, first = (script if first else ""), False
        return told

    page = WAITING.sub("<script defer", SCRIPT.sub(one_script, page))
    page = THEME.sub(lambda _: SETTLE, page.replace(' data-theme="auto"', ' data-theme="light"', 1), count=1)
    for old, new in HANDLERS.items():
        page = page.replace(old, new)
    seen = VIEWPORT.search(page)
    return VIEWPORT.sub(lambda match: match[0] if match.start() == seen.start() else "", page) if seen else page


def pictures(page: str, up: str, folder: pathlib.Path) -> str:
    """The page with its larger pictures as files in `folder`, which a browser fetches when they come into view."""

    def file(code: str) -> tuple[str, bytes]:
        data = base64.b64decode(code)
        path = folder / f"{hashlib.sha256(data).hexdigest()[:16]}.png"
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(data)
        return f"{up}{folder.name}/{path.name}", data

    def image(match):
        address, data = file(match[1])
        width, height = struct.unpack(">II", data[16:24])
        return f'<img loading="lazy" width="{width}" height="{height}" src="{address}"'

    page = PICTURE.sub(image, page)
    page = re.sub(r'<img src="([^"]*_static/images/)', r'<img loading="lazy" src="\1', page)
    return LAYER.sub(lambda match: file(match[1])[0], page)


def as_index(page: str, folder: str) -> str:
    """A page of a folder as it stands at the root: its addresses lead to the same places."""

    def there(match):
        name, address = match[1], match[2]
        if name == "content":
            return match[0]
        address = address.removeprefix("../") if address.startswith("../") else f"{folder}/{address}"
        return f'{name}="{"./" if name == "data-content_root" else address}"'

    page = ADDRESS.sub(there, page)
    return page.replace("&quot;../_images/", "&quot;_images/")


def lighten(app, error) -> None:
    if error is not None or app.builder.name != "html":
        return
    out = pathlib.Path(app.outdir)
    static = out / "_static"
    shutil.copytree(ASSETS, static, dirs_exist_ok=True)  # Sphinx does it only when some page has changed as well
    pages = {path: path.read_text(encoding="utf-8") for path in out.rglob("*.html") if "_static" not in path.parts}
    root = out / f"{app.config.root_doc}.html"
    pages.pop(out / "index.html", None) if root != out / "index.html" else None
    scripts = {path: path.read_text(encoding="utf-8") for path in static.rglob("*.js")}
    quiet = {static / name for name in QUIET} | {static / "all.js", *(static / name for name in UNUSED)}
    talking = [text for path, text in scripts.items() if path not in quiet and "locales" not in path.parts]
    known = purge.names(pages.values()) | purge.words(talking) | BOOTSTRAP
    css = purge.purge("".join(purge.read(path, static) for path in sources(static, STYLES)), known, "".join(talking))
    js = "".join(f";{scripts[path]}\n" for path in sources(static, SCRIPTS))  # ";": "use strict" holds in one file only
    js, watches = WATCH.subn("0", js)
    if watches != 1:
        log.warning("the theme watches boxes that scroll in another way now: mend WATCH in lighten.py", type="book")
    (static / "all.css").write_text(css, encoding="utf-8")
    (static / "all.js").write_text(js, encoding="utf-8")
    options = " ".join((static / "documentation_options.js").read_text(encoding="utf-8").split())
    for path, page in pages.items():
        up = "../" * (len(path.relative_to(out).parts) - 1)
        new = pictures(head(page, up, stamp(css), stamp(js), options), up, out / "_images")
        pages[path] = new
        if new != page:
            path.write_text(new, encoding="utf-8")
    if root != out / "index.html" and root in pages:
        index = as_index(pages[root], root.parent.relative_to(out).as_posix())
        (out / "index.html").write_text(index, encoding="utf-8")
    for name in UNUSED:
        path = static / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def setup(app) -> dict:
    app.connect("build-finished", lighten, priority=800)  # after the pages are complete, before their policies
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
