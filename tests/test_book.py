"""The built pages, in a real browser that may talk to nobody: run `make book` first."""

import functools
import gzip
import html
import html.parser
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import urllib.parse

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))
sys.path.insert(0, str(ROOT))
from bench import browser as timing  # noqa: E402

execute = pytest.importorskip("execute", reason="the tools that build the book are not installed")

BUILT = ROOT / "_build" / "html"
PAGES = [p.relative_to(BUILT).as_posix() for p in sorted(BUILT.rglob("*.html")) if "_static" not in p.parts]
HEAVIEST = 1_500_000  # bytes that a page may load in all
LONGEST = 45  # seconds that a chapter may take at book scale
SLOWER = 1.4  # times as long on a machine that is slower, or shared, than the one the chapters were timed on

built = pytest.mark.skipif(not PAGES, reason="_build/html is absent: run `make book` first")
every_page = pytest.mark.parametrize("name", PAGES or [pytest.param("none", marks=built)])
EXPLORER = re.compile(r"<(\w+-explorer-[0-9a-f]{8})\b")  # the custom element of helpers.explorer
with_explorers = [p for p in PAGES if EXPLORER.search((BUILT / p).read_text(encoding="utf-8"))]
every_explorer = pytest.mark.parametrize(
    "name", with_explorers or [pytest.param("none", marks=pytest.mark.skip(reason="no built page has an explorer"))]
)


@pytest.fixture(scope="module")
def site(serve):
    return serve(BUILT)


def visit(page, address):
    """Open a page; return the list that collects its errors."""
    errors = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("requestfailed", lambda request: errors.append(f"not loaded: {request.url}"))
    page.goto(address, wait_until="load")
    page.wait_for_function(timing.DRAWN)
    page.wait_for_timeout(150)
    return errors


def wide(page):
    """What makes the page wider than the window, and the two widths; None where nothing does."""
    return page.evaluate(
        """() => {
          const room = document.documentElement.clientWidth, have = document.documentElement.scrollWidth;
          if (have <= room) return null;
          const hides = (e) => /auto|scroll|hidden/.test(getComputedStyle(e).overflowX);
          const scrolls = (e) => e && (hides(e) || scrolls(e.parentElement));
          const out = [...document.body.querySelectorAll("*")].filter((e) =>
            e.getBoundingClientRect().right > room + 1 && !scrolls(e.parentElement));
          return [have, room, out.slice(0, 3).map((e) => e.outerHTML.slice(0, 120))];
        }"""
    )


# ---- every page ----


@every_page
def test_over_http_nothing_outside_no_error_not_heavy_not_wide(name, site, guarded):
    page, outside = guarded(viewport={"width": 1280, "height": 900})
    loaded = []
    page.on("requestfinished", lambda request: loaded.append(request))
    errors = visit(page, site + name)
    assert (outside, errors) == ([], [])
    sizes = {request.url: request.sizes()["responseBodySize"] for request in loaded}
    heaviest = sorted(sizes.items(), key=lambda pair: -pair[1])[:5]
    assert sum(sizes.values()) < HEAVIEST, heaviest
    assert wide(page) is None
    page.set_viewport_size({"width": 320, "height": 640})
    page.wait_for_timeout(150)
    assert wide(page) is None


@every_page
def test_from_a_file_nothing_outside_and_no_error(name, guarded):
    page, outside = guarded()
    errors = visit(page, (BUILT / name).as_uri())
    assert (outside, errors) == ([], [])


@every_page
def test_the_page_says_what_it_is(name):
    text = (BUILT / name).read_text(encoding="utf-8")
    if 'http-equiv="Refresh"' in text:
        return
    assert len(re.search(r'<meta name="description" content="([^"]+)"', text)[1]) >= 20
    assert 'rel="icon"' in text and re.search(r"<html[^>]* lang=", text)
    assert "fontawesome.js" not in text and "unpkg.com" not in text


class Links(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.ids, self.links = set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids |= {attributes[key] for key in ("id", "name") if attributes.get(key)}
        self.links |= {attributes[key] for key in ("href", "src") if attributes.get(key)}


@functools.cache
def links(path):
    return Links(path.read_text(encoding="utf-8"))


@every_page
def test_every_internal_link_leads_somewhere(name):
    here, broken = BUILT / name, []
    for link in links(here).links:
        parts = urllib.parse.urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        there = (here.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else here
        if there.is_dir():
            there /= "index.html"
        target = urllib.parse.unquote(parts.fragment)
        if not there.is_file() or (target and there.suffix == ".html" and target not in links(there).ids):
            broken.append(link)
    assert broken == []


# ---- the explorers ----

PICTURE = "e => [...e.querySelectorAll('svg[role=img]')].map(s => s.innerHTML).join('|')"


def tags(name):
    """The names of the explorers' elements on a page, one for each explorer."""
    return EXPLORER.findall((BUILT / name).read_text(encoding="utf-8"))


def states(page, control):
    """Press the control's keys through all its states; yield each state's value."""
    control.focus()
    assert control.evaluate("e => document.activeElement === e"), "the keyboard does not reach this control"
    if control.evaluate("e => e.localName") == "select":
        wanted = control.evaluate("e => [...e.options].map(o => o.value)")
    else:
        steps = "{length: (e.max - e.min) / e.step + 1}, (_, i) => String(+e.min + i * e.step)"
        wanted = control.evaluate(f"e => Array.from({steps})")
    page.keyboard.press("Home")
    for at, value in enumerate(wanted):
        if at:
            page.keyboard.press("ArrowDown" if control.evaluate("e => e.localName") == "select" else "ArrowRight")
        assert control.input_value() == value
        yield value


@every_explorer
def test_every_state_of_every_control_is_reached_by_keyboard_and_redraws(name, site, guarded):
    page, outside = guarded(viewport={"width": 1000, "height": 900}, reduced_motion="reduce")
    errors = visit(page, site + name)
    found = [element for tag in sorted(set(tags(name))) for element in page.query_selector_all(tag)]
    assert len(found) == len(tags(name))
    for explorer in found:
        controls = explorer.query_selector_all("input[type=range], select")
        boxes = explorer.query_selector_all("input[type=checkbox]")
        assert controls or boxes, "an explorer without anything to explore"
        for control in controls:
            label = control.evaluate("e => (e.labels[0] || e).textContent")
            drawn = []
            for _ in states(page, control):
                page.wait_for_timeout(30)
                drawn.append(explorer.evaluate(PICTURE))
            assert len(drawn) > 1 and all(drawn), label
            same = [at for at in range(1, len(drawn)) if drawn[at] == drawn[at - 1]]
            assert same == [], f"{label}: the picture does not change at the states {same}"
        for box in boxes:
            if not box.is_enabled():
                continue
            before = explorer.evaluate(PICTURE)
            box.focus()
            page.keyboard.press("Space")
            page.wait_for_timeout(30)
            assert explorer.evaluate(PICTURE) != before, box.evaluate("e => (e.labels[0] || e).textContent")
            page.keyboard.press("Space")
    assert (errors, outside) == ([], [])


@every_explorer
def test_without_javascript_a_picture_stands_there(name, guarded):
    page, _ = guarded(java_script_enabled=False)
    page.goto((BUILT / name).as_uri())
    pictures = [image for tag in sorted(set(tags(name))) for image in page.query_selector_all(f"{tag} figure img[alt]")]
    assert len(pictures) == len(tags(name))
    for image in pictures:
        assert len(image.get_attribute("alt")) >= 40
        assert image.is_visible() and image.bounding_box()["width"] > 200


@every_explorer
def test_a_move_of_a_slider_fits_into_a_frame(name, site, guarded):
    page, _ = guarded(viewport={"width": 1280, "height": 900})
    visit(page, site + name)
    for moves in timing.measure(page, least=10):
        assert statistics.median(moves) < timing.FRAME


HOSTILE = ['"><img src=x onerror=window.pwned=1>', "<script>window.pwned=1</script>", "1e9", "-7.7e-7", "0;drop"]


@every_explorer
def test_a_link_to_a_setting_opens_it_and_a_hostile_one_is_nothing(name, site, guarded):
    page, outside = guarded(viewport={"width": 1280, "height": 900})
    errors = visit(page, site + name)
    read = """() => [...document.querySelectorAll(".rx")].map((root) =>
      [root.id, [...root.querySelectorAll("[data-column]")].map((c) => [c.dataset.column, c.value,
        c.localName === "select" ? c.options.length - 1 : +c.max])])"""
    start = page.evaluate(read)
    assert all(identity for identity, _ in start)
    want = {identity: [top if value != str(top) else 0 for _, value, top in controls] for identity, controls in start}

    def fragment(values):
        quote = urllib.parse.quote
        parts = {i: [f"{quote(c, safe='')}:{v}" for (c, _, _), v in zip(cs, values(i), strict=True)] for i, cs in start}
        return "#" + "&".join(f"{identity}={','.join(items)}" for identity, items in parts.items() if items)

    errors += visit(page, "about:blank") + visit(page, site + name + fragment(lambda identity: want[identity]))
    found = {identity: [int(value) for _, value, _ in controls] for identity, controls in page.evaluate(read)}
    assert found == want
    for text in HOSTILE:
        bad = fragment(lambda identity, text=text: [urllib.parse.quote(text)] * len(want[identity]))
        page.evaluate("(hash) => { location.hash = hash; }", bad)
        page.wait_for_function("(hash) => location.hash === hash", arg=bad)
        page.wait_for_timeout(30)
        assert page.evaluate(read) == start, text
        assert text not in page.inner_text("body") and page.evaluate("window.pwned") is None
    page.go_back()
    assert (outside, errors) == ([], [])


# ---- quick, and nothing moves ----

BEFORE_PAINT = 45_000  # bytes, compressed, of the one style sheet that a page waits for
PAGE = 160_000  # bytes, compressed, of a page itself
SHIFT = 0.01  # of the window, times the distance: a tenth of what counts as good


@every_page
def test_a_page_waits_for_one_style_sheet_and_for_no_script(name):
    text = (BUILT / name).read_text(encoding="utf-8")
    sheets = re.findall(r'<link\b[^>]*rel="stylesheet"[^>]*>', text)
    assert len(sheets) == 1 and "_static/all.css?v=" in sheets[0]
    assert [script for script in re.findall(r"<script\b[^>]*\bsrc=[^>]*>", text) if " defer" not in script] == []
    assert text.index("<meta charset") < 1000 - 100 and text.count('name="viewport"') == 1
    assert len(gzip.compress((BUILT / "_static" / "all.css").read_bytes())) < BEFORE_PAINT
    assert len(gzip.compress(text.encode())) < PAGE
    large = re.findall(r'<img[^>]*src="data:image/png;base64,[^"]{1400}', text)
    assert large == [] and not re.search(r'<img src="[^"]*_images/', text), "a picture that does not wait"


def loaded(page, address):
    """Open a page and wait until it is quiet; return what moved meanwhile, as Chromium measures layout shifts."""
    page.add_init_script(
        """window.shifts = []; new PerformanceObserver((list) => list.getEntries().forEach((e) => shifts.push(
          [e.value, ...e.sources.map((s) => s.node?.className || s.node?.nodeName)])))
          .observe({ type: "layout-shift", buffered: true })"""
    )
    visit(page, address)
    page.wait_for_timeout(300)
    return page.evaluate("shifts")


@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize("name", sorted({"index.html", "book/claims.html", *with_explorers}) if PAGES else [])
def test_nothing_shifts_while_a_page_loads_or_a_slider_moves(name, width, site, guarded):
    page, _ = guarded(viewport={"width": width, "height": 850})
    moved = loaded(page, site + name)
    assert sum(value for value, *_ in moved) < SHIFT, moved
    for control in page.query_selector_all(".rx .rx-control:first-child :is(input[type=range], select)"):
        control.evaluate("e => e.closest('.rx').scrollIntoView({ block: 'center' })")
        control.focus()
        page.wait_for_timeout(200)
        page.evaluate("shifts.length = 0")
        for key in ("End", "Home"):
            page.keyboard.press(key)
            page.wait_for_timeout(80)
        moved = page.evaluate("shifts")
        assert sum(value for value, *_ in moved) < SHIFT, moved


SIGHT = """(sheets) => {
  const names = ["display", "position", "color", "background-color", "font-size", "font-weight", "font-family", "width",
    "height", "margin-top", "padding-left", "border-top-color", "border-left-width", "visibility", "opacity"];
  return [...document.querySelectorAll("body *:not(svg *, math *, pre *)")].map((e) => {
    const style = getComputedStyle(e);
    return [e.localName + "." + e.getAttribute("class"), ...names.map((name) => style[name])].join(" ");
  });
}"""


@built
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["index.html", "chapters/02_initialization.html", "book/claims.html", "search.html"])
def test_the_one_style_sheet_shows_what_all_of_them_showed(name, theme, site, guarded):
    lighten = pytest.importorskip("lighten")
    whole = [p.relative_to(BUILT).as_posix() for p in lighten.sources(BUILT / "_static", lighten.STYLES)]
    page, _ = guarded(viewport={"width": 1100, "height": 800}, color_scheme=theme, reduced_motion="reduce")
    visit(page, site + name)
    page.add_style_tag(content=".bd-article section { content-visibility: visible !important; }")
    page.wait_for_timeout(400)
    small = page.evaluate(SIGHT)
    page.evaluate(
        """async (sheets) => {
          const one = document.querySelector("link[rel=stylesheet]");
          const make = (href) => Object.assign(document.createElement("link"), { rel: "stylesheet", href });
          const links = sheets.map(make);
          const done = links.map((link) => new Promise((ok, no) => { link.onload = ok; link.onerror = no; }));
          one.before(...links);
          await Promise.all(done);
          one.remove();
        }""",
        [site + path for path in whole],
    )
    page.wait_for_timeout(400)
    large = page.evaluate(SIGHT)
    assert len(small) > 100 and [pair for pair in zip(small, large, strict=True) if pair[0] != pair[1]][:3] == []


def test_a_rule_goes_when_no_page_can_match_it():
    purge = pytest.importorskip("purge")
    css = (
        ":root{--a:1px;--b:2px}.used,.gone{margin:var(--a)}p.gone>b{color:red}#here:hover{color:blue}table td{top:0}"
        "@media print{.gone{top:0}.used{top:1px}}@keyframes spin{from{top:0}}@keyframes idle{to{top:0}}"
        "[data-x] .used:not(.gone){animation:spin 1s}"
    )
    known = purge.names(['<p class="used x"><b id=here></b>']) | purge.words(["el.className = 'made'"])
    assert {"used", "x", "here", "p", "b", "made"} <= known and "gone" not in known
    told = purge.purge(css + ".made::after{content:'a;b}'}", known)
    assert told == (
        ":root{--a:1px;}.used{margin:var(--a)}#here:hover{color:blue}@media print{.used{top:1px}}"
        '[data-x] .used:not(.gone){animation:spin 1s}.made::after{content:"a;b}"}@keyframes spin{from{top:0}}'
    )


def test_a_style_sheet_is_read_with_its_imports_and_addresses(tmp_path):
    purge = pytest.importorskip("purge")
    (tmp_path / "sub").mkdir()
    (tmp_path / "base.css").write_text("a{background:url(pic.png)}")
    (tmp_path / "sub" / "top.css").write_text('@import "../base.css";b{background:url("../f/x.woff2") url(data:,x)}')
    assert purge.read(tmp_path / "sub" / "top.css", tmp_path) == (
        'a{background:url("pic.png")}b{background:url("f/x.woff2") url(data:,x)}'
    )


def test_a_page_of_a_folder_becomes_the_first_page_of_the_site():
    lighten = pytest.importorskip("lighten")
    page = (
        '<html data-content_root="../"><meta content="a b"><a href="01.html#x">1</a><a href="#top">t</a>'
        '<a href="../book/b.html">b</a><a href="https://a.org">o</a><img src="../_images/p.png">'
        "<x data-spec=\"{&quot;href&quot;: &quot;../_images/q.png&quot;}\">"
    )
    assert lighten.as_index(page, "chapters") == (
        '<html data-content_root="./"><meta content="a b"><a href="chapters/01.html#x">1</a><a href="#top">t</a>'
        '<a href="book/b.html">b</a><a href="https://a.org">o</a><img src="_images/p.png">'
        "<x data-spec=\"{&quot;href&quot;: &quot;_images/q.png&quot;}\">"
    )


@built
def test_the_math_font_has_every_character_of_the_formulas():
    sys.path.insert(0, str(ROOT / "book" / "tools"))
    fonts = pytest.importorskip("subset_fonts", reason="fonttools is not installed")
    have = set(fonts.codes(fonts.MATH))
    for name in PAGES:
        for math in re.findall(r"<math .*?</math>", (BUILT / name).read_text(encoding="utf-8"), re.S):
            text = html.unescape(re.sub(r"<mtext>.*?</mtext>|<[^>]*>", "", math))
            assert {c for c in text if ord(c) not in have and not c.isspace()} == set(), name


def test_lighthouse_scores_are_medians_and_its_server_is_that_of_a_static_host(tmp_path):
    import urllib.request

    lighthouse = pytest.importorskip("lighthouse")
    reports = [{"categories": {c: {"score": score} for c in lighthouse.CATEGORIES}} for score in (0.9, 1, 0.97)]
    assert set(lighthouse.scores(reports).values()) == {97}
    (tmp_path / "index.html").write_text("<p>hello</p>" * 100)
    server = lighthouse.serve(tmp_path)
    try:
        address = f"http://127.0.0.1:{server.server_port}/"
        with urllib.request.urlopen(urllib.request.Request(address, headers={"Accept-Encoding": "gzip"})) as answer:
            assert answer.headers["Content-Encoding"] == "gzip" and answer.headers["Cache-Control"] == "max-age=600"
            assert gzip.decompress(answer.read()).startswith(b"<p>hello")
        with pytest.raises(OSError):
            urllib.request.urlopen(address + "nothing.html")
    finally:
        server.shutdown()


# ---- what the theme's own controls do ----


@built
@pytest.mark.parametrize("width", [375, 1280])
def test_sidebar_theme_launch_buttons_and_search_work(width, site, guarded):
    page, outside = guarded(viewport={"width": width, "height": 850}, color_scheme="light")
    errors = visit(page, site + "chapters/02_initialization.html")
    theme = "document.documentElement.dataset.theme"
    assert page.evaluate(theme) == "light"
    for _ in range(3):
        page.locator(".theme-switch-button:visible").first.click()
        if page.evaluate(theme) == "dark":
            break
    page.reload()
    assert page.evaluate(theme) == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 25)"
    links = page.locator(".bd-sidebar-primary a:visible, #pst-primary-sidebar-modal a:visible")
    seen = links.count()
    for shown in (seen == 0, seen > 0):
        if shown or seen:
            page.locator(".primary-toggle:visible").first.press("Enter")
        else:
            page.keyboard.press("Escape")
        page.wait_for_timeout(600)
        assert (links.count() > 0) == shown
    page.locator(".dropdown-launch-buttons button:visible").first.click()
    icon = page.locator(".dropdown-launch-buttons .dropdown-menu img").first
    icon.wait_for(state="visible")
    page.wait_for_function("() => document.querySelector('.dropdown-launch-buttons img').naturalWidth > 0")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    page.locator("#pst-search-dialog input").fill("momentum")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results ul.search li a")
    assert (outside, errors) == ([], [])


# ---- the book as a whole ----


def toc():
    found = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [found["root"], *(entry["file"] for part in found["parts"] for entry in part["chapters"])]


def test_every_chapter_is_in_the_table_of_contents_and_the_other_way_round():
    listed = [name.removeprefix("chapters/") for name in toc() if name.startswith("chapters/")]
    assert listed == [path.stem for path in execute.chapters(ROOT)]


def test_the_repository_is_named_in_one_place():
    address = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
    ours = [ROOT / "tasks.py", ROOT / "Makefile", *(ROOT / "book").rglob("*.py"), *(ROOT / "book").rglob("*.html")]
    assert [path.name for path in ours if address in path.read_text(encoding="utf-8")] == []


@built
def test_every_chapter_was_executed_within_its_budget():
    notebooks = execute.executed(ROOT)
    assert list(notebooks) == [path.stem for path in execute.chapters(ROOT)]
    about = {name: notebook.metadata[execute.META] for name, notebook in notebooks.items()}
    # the kernel's own seconds: with a core to itself they are the seconds on the clock, and a busy machine adds none
    took = {name: row["cpu_seconds"] for name, row in about.items() if row["scale"] == "book"}
    assert {name: seconds for name, seconds in took.items() if seconds > SLOWER * LONGEST} == {}


@built
def test_no_cell_shows_the_name_of_an_object():
    for name, notebook in execute.executed(ROOT).items():
        for number, cell in enumerate(notebook.cells):
            for data in (output.get("data", {}) for output in cell.get("outputs", ())):
                bare = set(data) == {"text/plain"} and data["text/plain"].startswith("<")
                assert not bare, f"{name}, cell {number}: {data['text/plain'][:80]}"


@built
def test_no_executed_cell_ended_in_an_error():
    for name, notebook in execute.executed(ROOT).items():
        for cell in notebook.cells:
            kinds = [output.output_type for output in cell.get("outputs", ())]
            assert "error" not in kinds or "raises-exception" in cell.metadata.get("tags", ()), (name, cell.source)


@built
def test_every_icon_is_in_the_small_fonts():
    kept = set((ROOT / "book" / "assets" / "fonts" / "icons.txt").read_text(encoding="utf-8").split())
    sizes = {"lg", "solid", "regular", "brands", "fw"}
    for name in PAGES:
        text = (BUILT / name).read_text(encoding="utf-8")
        classes = " ".join(re.findall(r'class="([^"]*\bfa[bsr]? fa-[^"]*)"', text))
        assert set(re.findall(r"\bfa-([\w-]+)", classes)) - sizes <= kept, name


@built
def test_the_formulas_are_mathml_and_nothing_is_left_unread():
    for name in PAGES:
        text = (BUILT / name).read_text(encoding="utf-8")
        assert "MathJax" not in text and "katex" not in text, name
        for math in re.findall(r"<math .*?</math>", text, re.S):
            assert "\\" not in re.sub(r'alttext="[^"]*"', "", math), (name, math)


@built
def test_the_ledger_shows_every_claim_and_its_filter_works(site, guarded):
    claims = pytest.importorskip("ledger").read_claims(ROOT / "book" / "claims.yml")
    page, _ = guarded(viewport={"width": 1280, "height": 900})
    visit(page, site + "book/claims.html")
    rows = page.locator(".tt-ledger tr[data-verdict]")
    assert rows.count() == len(claims)
    page.select_option("#tt-verdict-filter", "FALSE")
    wanted = sum(claim["verdict"] == "FALSE" for claim in claims)
    assert page.locator(".tt-ledger tr[data-verdict]:visible").count() == wanted
    page.select_option("#tt-verdict-filter", "")
    page.fill("#tt-text-filter", claims[-1]["id"])
    assert page.locator(".tt-ledger tr[data-verdict]:visible").count() >= 1
    assert page.locator(".tt-count").inner_text().endswith("claims shown.")
    page.fill("#tt-text-filter", "no such words at all")
    assert page.locator(".tt-ledger tr[data-verdict]:visible").count() == 0


@built
def test_plain_sphinx_builds_the_same_pages(tmp_path):
    """The way out of Jupyter Book 1 stays open."""
    copy = tmp_path / "book"
    skip = shutil.ignore_patterns(".*", "_build", "__pycache__", "tests", "bench")
    shutil.copytree(ROOT, copy, ignore=skip)
    executed = execute.executed(ROOT)
    scale = next((book.metadata[execute.META]["scale"] for book in executed.values()), "book")
    environment = {**os.environ, "TRICKS_SCALE": scale, "PYTHONPATH": str(ROOT / "book" / "_ext")}
    shutil.copytree(ROOT / "_build" / "cache", copy / "_build" / "cache")
    shutil.copytree(ROOT / "_build" / "executed", copy / "_build" / "executed")
    for command in (
        ["-c", "from jupyter_book.cli.main import main; main()", "config", "sphinx", "."],
        ["-m", "sphinx", "-W", "-n", "--keep-going", "-q", "-b", "html", ".", "out"],
    ):
        ran = subprocess.run([sys.executable, *command], cwd=copy, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    for name in toc():
        assert (copy / "out" / f"{name}.html").exists(), name


# ---- the small Sphinx extensions ----


@pytest.mark.parametrize(
    ("tex", "parts"),
    [
        (r"\frac{\hat m_t}{\sqrt{v_t}+\epsilon}", ["<mfrac>", "<msqrt>", "<mover ", "ϵ"]),
        (r"\mathbb{E}[x] \in \mathcal{L}", ["𝔼", "ℒ", "∈"]),
        (r"\mathbf{w} \boldsymbol{\theta}", ["𝐰", "𝜽"]),
        (r"\begin{cases} x & x > 0 \\ 0 & \text{else} \end{cases}", ["<mtable", 'class="tt-left"', "&gt;"]),
        (r"\sqrt{\sum_{i} g_i^2}", ["<munder>", "movablelimits"]),
        (r"\hat{x} \pm \widehat{ab} \to \infty", ["<mo>ˆ</mo>", "<mo>±</mo>", "<mo>\u0302</mo>", "<mi>∞</mi>"]),
        (r"q_k \log s_k", ['<mo form="prefix" lspace="0.167em" rspace="0.167em">log</mo>']),
        (r"-\log(-x)", ['<mo form="prefix" lspace="0" rspace="0">log</mo>', "<mo>−</mo>"]),
        (r"\log^2 \frac{p}{q}", ['<msup><mo form="prefix" lspace="0" rspace="0.167em">log</mo>']),
        (r"y = -p, (x) - y", ['<mo form="prefix">−</mo><mi>p</mi>', "<mo>−</mo><mi>y</mi>"]),
        (r"\text{val\_loss} \sim \mathcal{N}", ["val_loss", "<mo>∼</mo>"]),
    ],
)
def test_formulas_become_what_browsers_draw(tex, parts):
    mathml = pytest.importorskip("mathml")
    text, symbols = mathml.convert(tex, True)
    assert symbols > 1
    for part in [*parts, 'display="block"']:
        assert part in text, text
    for gone in ("mathvariant", "columnalign", "columnspacing"):
        assert gone not in text


@pytest.mark.parametrize("tex", [r"\foo x", r"\frac{1}", r"\left( x", r"\begin{cases} x"])
def test_a_formula_that_cannot_be_read_is_refused(tex):
    mathml = pytest.importorskip("mathml")
    with pytest.raises(ValueError, match="formula"):
        mathml.convert(tex, False)


def test_a_claim_is_checked_before_it_is_shown(tmp_path):
    ledger = pytest.importorskip("ledger")
    good = dict.fromkeys(ledger.FIELDS, "x") | {"id": "A-1", "verdict": "TRUE", "measured": False}
    path = tmp_path / "claims.yml"

    def refused(*claims):
        path.write_text(yaml.safe_dump(list(claims)))
        with pytest.raises(ValueError) as caught:
            ledger.read_claims(path)
        return str(caught.value)

    assert refused(good, good) == "claims.yml, entry 2 (A-1): this id stands twice."
    assert refused(good | {"verdict": "MAYBE"}) == (
        "claims.yml, entry 1 (A-1): verdict='MAYBE' is not known; "
        "choose one of TRUE, FALSE, DEPENDS, ILL-POSED, UNDECIDED."
    )
    path.write_text(yaml.safe_dump([good | {"verdict": False}]))
    assert [claim["verdict"] for claim in ledger.read_claims(path)] == ["FALSE"]  # unquoted, YAML reads a bool
    assert refused({"id": "A-2"}).startswith("claims.yml, entry 1 (A-2): chapter, source, claim, kind, verdict")


def test_verdicts_are_found_alone_and_in_a_ledger():
    ledger = pytest.importorskip("ledger")
    outputs = [{"data": {ledger.MIME: {"id": "A"}}}, {"data": {ledger.MIME: {"verdicts": [{"id": "B"}, {"id": "C"}]}}}]
    cell = type("Cell", (dict,), {})(outputs=[*outputs, {"data": {"text/plain": "1"}}, {"output_type": "stream"}])
    notebook = type("Notebook", (), {"cells": [cell]})
    assert list(ledger.measured({"01": notebook})) == ["A", "B", "C"]
