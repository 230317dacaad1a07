"""What the book adds to Jupyter Book 1, and what it takes away from its pages."""

from __future__ import annotations

import contextlib
import pathlib
import re
import shutil

import execute
from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

log = logging.getLogger(__name__)
HELD: dict = {}  # the folders that this process holds against other builds, to its end
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
SCRIPT = re.compile(r"<script>.*?</script>", re.S)
UNUSED = ("sphinx-thebe",)  # a script that no page uses, and that names another host


class DeadWidgets(SphinxPostTransform):
    """Refuse a widget that needs a kernel: on a page its label moves and its picture does not."""

    default_priority = 3  # before MyST-NB picks one form of each output

    def run(self, **options) -> None:
        for node in self.document.findall(nodes.container):
            if node.get("nb_element") == "mime_bundle":
                forms = [child.get("mime_type") for child in node.children]
                if VIEW in forms and "text/html" not in forms:
                    log.warning(
                        "this output is a live widget without an HTML form: nothing would move on the page; "
                        "show it with helpers.explore, or give the cell the tag 'remove-output'",
                        location=node,
                        type="book",
                    )


def use_keyed_cache(app, config) -> None:
    """Let MyST-NB read the cache that belongs to the present helpers, versions and scale."""
    config.nb_execution_cache_path = str(execute.cache_folder(pathlib.Path(app.srcdir)))


def one_at_a_time(app, config) -> None:
    """Two builds never write to one folder of pages: the second waits here until the first process has ended."""
    folder = pathlib.Path(app.outdir).parent
    if folder not in HELD:
        HELD[folder] = contextlib.ExitStack()
        HELD[folder].enter_context(execute.alone(folder, "pages"))


def trim_scripts(app, pagename, templatename, context, doctree) -> None:
    """Drop what a page loads in vain: widget state, thebe, and the second copy of a script."""
    seen, kept = set(), []
    for script in context.get("script_files", []):
        attributes, name = getattr(script, "attributes", {}), str(getattr(script, "filename", "") or "")
        body = attributes.get("body") or ""
        if attributes.get("type") == STATE or "THEBE_JS_URL" in body or any(word in name for word in UNUSED):
            continue
        if (name, body) not in seen:
            seen.add((name, body))
            kept.append(script)
    context["script_files"] = kept


def trim_styles(app, pagename, templatename, context, doctree) -> None:
    """Leave the styles of cards and grids to the pages that have some."""
    if "sd-" not in context.get("body", ""):
        for kind in ("css_files", "script_files"):
            files = context.get(kind, [])
            named = ((file, str(getattr(file, "filename", file))) for file in files)
            context[kind] = [file for file, name in named if not re.search(r"sphinx-design|design-tabs", name)]


def describe(app, pagename, templatename, context, doctree) -> None:
    """Give each page a description: its own (`description` in the page's front matter) or its first paragraph."""
    meta = context.get("meta") or {}
    text = meta.get("description", "")
    if not text and doctree is not None:
        first = next((node for node in doctree.findall(nodes.paragraph) if len(node.astext()) > 40), None)
        text = first.astext() if first is not None else ""
    text = " ".join((text or f"{context.get('title', '')}: {app.config.html_title}").split())
    context["tt_description"] = text if len(text) <= 160 else text[:157].rsplit(" ", 1)[0] + "…"


FOR_SCREEN_READERS = {
    '<summary aria-label="Toggle hidden content">': "<summary>",  # the words on a folded cell are its name
    'role="doc-biblioentry"': 'role="listitem"',  # the older role is withdrawn, and its list needs items
}


def share_scripts(app, pagename, templatename, context, doctree) -> None:
    """Keep one copy of a script that several figures of a page bring along: each of them works for all."""
    seen = set()

    def first(match):
        new = match[0] not in seen
        seen.add(match[0])
        return match[0] if new else ""

    if "body" in context:
        context["body"] = SCRIPT.sub(first, context["body"])
        for old, new in FOR_SCREEN_READERS.items():
            context["body"] = context["body"].replace(old, new)


SETUP = re.compile(
    r'<div class="cell docutils container">\n(<div class="cell_input docutils container">\n'
    r'<div class="highlight-ipython3(?:(?!</pre>).)*?ModuleNotFoundError.*?</pre></div>\n</div>\n</div>\n)</div>',
    re.S,
)
FOLD = """<div class="cell docutils container"><details class="admonition hide above-input"><summary>
<p class="collapsed admonition-title">Show the set-up</p><p class="expanded admonition-title">Hide the set-up</p>
</summary>{}</details></div>"""
NUMBER = re.compile(r'(<h1><span class="section-number">)(\d+)\. (?=</span>)')


def open_chapters(app, pagename, templatename, context, doctree) -> None:
    """A chapter opens with its number over its title; the cell that finds the library is folded away."""
    if pagename.startswith("chapters/") and "body" in context:
        body = SETUP.sub(lambda match: FOLD.format(match[1]), context["body"], count=1)
        context["body"] = NUMBER.sub(r"\1Chapter \2 ", body)


def add_predictions(app, pagename, templatename, context, doctree) -> None:
    """The script of the predictions, on the pages that have one."""
    if doctree is not None and any("predict" in node["classes"] for node in doctree.findall(nodes.admonition)):
        app.add_js_file("predict.js", loading_method="defer")


def add_slides(app, pagename, templatename, context, doctree) -> None:
    """The script that shows a chapter as slides, and the notebook itself for the download of the teachers' page."""
    if pagename.startswith("chapters/"):
        app.add_js_file("slides.js", loading_method="defer")


def copy_notebooks(app, error) -> None:
    """Publish the notebooks beside their pages."""
    if error is None and app.builder.name == "html":
        for path in execute.chapters(pathlib.Path(app.srcdir)):
            if f"chapters/{path.stem}" in app.env.found_docs:
                shutil.copy(path, pathlib.Path(app.outdir) / "chapters" / path.name)


def drop_stale(app, error) -> None:
    """Remove the pages of chapters that are no longer there, so that nobody publishes them."""
    if error is None and app.builder.name == "html":
        for folder in ("chapters", "book"):
            for page in (pathlib.Path(app.outdir) / folder).glob("*.html"):
                if f"{folder}/{page.stem}" not in app.env.found_docs:
                    page.unlink()


def setup(app) -> dict:
    app.connect("config-inited", use_keyed_cache)
    app.connect("config-inited", one_at_a_time)  # before Sphinx reads what an earlier build has left
    app.add_post_transform(DeadWidgets)
    app.connect("html-page-context", trim_scripts, priority=900)
    app.connect("html-page-context", trim_styles, priority=900)
    app.connect("html-page-context", describe)
    app.connect("html-page-context", add_predictions)
    app.connect("html-page-context", share_scripts)
    app.connect("html-page-context", add_slides)
    app.connect("html-page-context", open_chapters)
    app.connect("build-finished", copy_notebooks)
    app.connect("build-finished", drop_stale)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
