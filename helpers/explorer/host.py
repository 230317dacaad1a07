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

# The element's "model" is the JSON in its own attribute. One classic script: no import and no look-up of
# neighbours (Colab may run scripts apart from them); it works from file:// and twice on a page. The picture
# is hidden, not removed: a parser that has met the script before adds the picture after the element has started.
HOST = """(() => {
if (customElements.get("%(tag)s")) return;
%(js)s
const sheet = document.createElement("style"); sheet.textContent = %(css)s; document.head.append(sheet);
customElements.define("%(tag)s", class extends HTMLElement {
  connectedCallback() {
    if (this.started) return;
    this.started = true;
    try {
      const spec = JSON.parse(this.dataset.spec), place = document.createElement("div");
      this.prepend(place);
      const hide = document.createElement("style"); hide.textContent = "%(tag)s[data-live]>figure{display:none}";
      place.before(hide);
      render({ model: { get: (k) => (k === "spec" ? spec : undefined), set() {}, save_changes() {}, on() {}, off() {} },
        el: place, page: true });
      this.dataset.live = "";
    } catch (error) { console.error(error); }
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
    tag = "run-explorer-" + hashlib.sha256((HOST + code() + style()).encode()).hexdigest()[:8]
    js = code().replace("export default { render };", "")
    js = "\n".join(line for line in js.splitlines() if line.strip() and not line.lstrip().startswith("//"))
    css = re.sub(r"/\*.*?\*/\n?", "", style(), flags=re.S)
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
