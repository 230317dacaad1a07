"""The hosts of the front end: a custom element in `text/html`, and anywidget."""

from __future__ import annotations

import functools
import hashlib
import json
import pathlib
import re

from helpers import checks, plots
from helpers.explorer import wording
from helpers.explorer.spec import as_json

WAITING = "TAG:not([data-live=no])>figure{display:none}TAG:not([data-live]){display:block;min-height:38rem}"
# The element's "model" is the JSON in its own attribute. One classic script: no import and no look-up of
# neighbours (Colab may run scripts apart from them); it works from file:// and twice on a page. The picture
# is hidden, not removed: a parser that has met the script before adds the picture after the element has started.
# A figure in view is drawn at once; the others wait until they come near, or until the page has nothing else to do,
# so that a page with many figures shows and answers early. A link into the page, or paper, needs all of them.
HOST = """(() => {
if (customElements.get("%(tag)s")) return;
%(js)s
const sheet = document.createElement("style"); sheet.textContent = %(css)s; document.head.append(sheet);
let met = false;
const waiting = new Set(), near = typeof IntersectionObserver === "function" && new IntersectionObserver(
  (seen) => seen.forEach((e) => e.isIntersecting && e.target.draw()), { rootMargin: "100%% 0%%" });
const idle = window.requestIdleCallback ?? ((f) => setTimeout(f, 60));
const later = () => idle(() => { for (const e of waiting) { e.draw(); break; } if (waiting.size) later(); });
const all = () => waiting.forEach((e) => e.draw());
addEventListener("beforeprint", all);
addEventListener("hashchange", all);
customElements.define("%(tag)s", class extends HTMLElement {
  connectedCallback() {
    if (this.place) return;
    this.prepend(this.place = document.createElement("div"));
    let whole = !near;
    try { whole ||= location.hash.length > 1; } catch { /* a sandboxed frame */ }
    const first = !met;  // asking for its place costs a layout: only the first figure of a page can stand in view
    met = true;
    if (whole || (first && this.getBoundingClientRect().top < innerHeight)) { this.draw(); return; }
    if (!waiting.size) later();
    waiting.add(this);
    near.observe(this);
  }
  draw() {
    waiting.delete(this);
    if (near) near.unobserve(this);
    if ("live" in this.dataset) return;
    try {
      const spec = JSON.parse(this.dataset.spec);
      render({ model: { get: (k) => (k === "spec" ? spec : undefined), set() {}, save_changes() {}, on() {}, off() {} },
        el: this.place, page: true });
      this.dataset.live = "";
    } catch (error) { console.error(error); this.dataset.live = "no"; }
  }
});
})();"""


@functools.cache
def code() -> str:
    """The front end as it is: a module whose default export is anywidget's."""
    return pathlib.Path(__file__).with_name("explorer.js").read_text(encoding="utf-8")


@functools.cache
def style() -> str:
    """The style sheet, after the colours of the book (the sheet itself holds their variants on dark)."""
    colours = " ".join(f"--rx-{i}: {colour.lower()};" for i, colour in enumerate(plots.PALETTE))
    return f".rx {{ {colours} }}\n" + pathlib.Path(__file__).with_name("explorer.css").read_text(encoding="utf-8")


@functools.cache
def element() -> tuple[str, str]:
    """The name of the custom element and the script that defines it.

    The name carries a hash of the code: saved outputs never meet newer code.
    """
    tag = "run-explorer-" + hashlib.sha256((HOST + WAITING + code() + style()).encode()).hexdigest()[:8]
    js = code().replace("export default { render };", "")
    js = "\n".join(line for line in js.splitlines() if line.strip() and not line.lstrip().startswith("//"))
    css = re.sub(r"/\*.*?\*/\n?", "", style(), flags=re.S) + WAITING.replace("TAG", tag)
    return tag, HOST % {"tag": tag, "js": js, "css": json.dumps(css).replace("<", "\\u003c")}


def page(spec: dict, finding: str, png: str) -> str:
    """The figure as HTML that stands alone; `png` (base64) is what stands there without JavaScript."""
    caption = f"{finding} The controls need JavaScript; in a notebook, run the cell. {spec['note']}".strip()
    tag, script = element()
    return (
        f'<{tag} data-spec="{checks.escaped(as_json(spec))}"><figure style="margin:0">'
        f'<img src="data:image/png;base64,{png}" alt="{checks.escaped(wording.alt(spec, finding))}" '
        f'style="max-width:100%;height:auto"><figcaption>{checks.escaped(caption)}</figcaption></figure></{tag}>\n'
        f"<script>{script}</script>"
    )


def widget(spec: dict):
    """Return an anywidget with the traits `spec` and `choice`. Raises ImportError without anywidget."""
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise ImportError("widget() needs anywidget: install it with `pip install anywidget`.") from error

    class ExplorerWidget(anywidget.AnyWidget):
        _esm = code()
        _css = style()
        spec = traitlets.Dict().tag(sync=True)
        choice = traitlets.Dict().tag(sync=True)

    choice = {c["column"]: c["values"][i] for c, i in zip(spec["controls"], spec["start"], strict=True)}
    return ExplorerWidget(spec=spec, choice=choice)
