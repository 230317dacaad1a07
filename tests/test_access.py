"""Every page can be read by everybody and from anywhere: axe-core, the content-security policy, the search."""

from __future__ import annotations

import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "book" / "_ext"), str(ROOT)]
from bench import browser as timing  # noqa: E402

policy = pytest.importorskip("policy", reason="the tools that build the book are not installed")

BUILT = ROOT / "_build" / "html"
PAGES = [p.relative_to(BUILT).as_posix() for p in sorted(BUILT.rglob("*.html")) if "_static" not in p.parts]
built = pytest.mark.skipif(not PAGES, reason="_build/html is absent: run `make book` first")
every_page = pytest.mark.parametrize("name", PAGES or [pytest.param("none", marks=built)])
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
LOOKS = [(width, theme) for theme in ("light", "dark") for width in (320, 768, 1280)]


@pytest.fixture(scope="session")
def axe():
    """The source of axe-core, which a test runs inside a page."""
    package = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    return (pathlib.Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def faults(page, axe) -> list[str]:
    """What axe-core finds on this page as it stands: one line for each rule that is broken."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(axe)
    found = page.evaluate("(tags) => axe.run(document, { runOnly: tags, resultTypes: ['violations'] })", WCAG)
    return [f"{v['id']}: {v['help']} ({len(v['nodes'])}x, {v['nodes'][0]['html'][:200]})" for v in found["violations"]]


@every_page
def test_axe_finds_nothing(name, guarded, axe):
    page, _ = guarded(bypass_csp=True, reduced_motion="reduce")  # axe itself comes from outside the page
    page.goto((BUILT / name).as_uri(), wait_until="load")
    # what is far out of view is not laid out, and axe would take guessed places for real ones
    page.add_style_tag(content="section { content-visibility: visible !important; }")
    found = {}
    for width, theme in LOOKS:
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate("(theme) => { document.documentElement.dataset.theme = theme; }", theme)
        for _ in range(4):  # soon after a change of width the theme puts what scrolls now within reach of the keyboard
            page.wait_for_timeout(400)
            lines = faults(page, axe)
            if not lines:
                break
        if lines:
            found[width, theme] = lines
    assert found == {}


def test_axe_sees_a_fault(guarded, axe):
    page, _ = guarded()
    page.set_content("<html lang=en><title>t</title><main><h1>t</h1><input><p style='color:#ccc'>pale</p></main>")
    assert {line.split(":")[0] for line in faults(page, axe)} >= {"label", "color-contrast"}


# ---- the keyboard ----

# Where the focus is, and how strongly its mark stands out from what lies around it: the outline of the element or of a
# part around it. Contrast as in WCAG, 3 is needed.
FOCUS = """() => {
  const rgb = (c) => (c.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
  const linear = (x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
  const light = (c) => rgb(c).slice(0, 3).reduce((sum, x, i) => sum + [0.2126, 0.7152, 0.0722][i] * linear(x / 255), 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const e = document.activeElement;
  if (!e || e === document.body) return null;
  let mark = null;
  for (let up = e, k = 0; up && k < 3 && !mark; up = up.parentElement, k++) {
    const style = getComputedStyle(up);
    if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 1.5) continue;
    const [a, b] = [light(style.outlineColor), light(behind(up.parentElement))].sort((x, y) => y - x);
    mark = (a + 0.05) / (b + 0.05);
  }
  e.dataset.reached = "";
  return [e.outerHTML.slice(0, 90), mark];
}"""
MISSED = """(scope) => {
  const what = "a[href], button, input, select, summary, canvas[tabindex], [tabindex='0']";
  const group = (e) => e.type === "radio" && document.querySelector(`input[name="${e.name}"][data-reached]`);
  return [...document.querySelectorAll(scope)].flatMap((root) => [...root.querySelectorAll(what)]).filter((e) =>
    !("reached" in e.dataset) && !e.disabled && e.tabIndex >= 0 && e.checkVisibility({ visibilityProperty: true })
    && e.getClientRects().length && !group(e)).map((e) => e.outerHTML.slice(0, 120));
}"""


@built
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    ("name", "scope"),
    [
        ("chapters/02_initialization.html", "main"),  # figures, predictions, folded code
        ("chapters/04_losses.html", "main"),  # the walk through the codes
        ("chapters/10_lenet5.html", "main"),  # the drawing field
        ("chapters/03_optimizers.html?slides", ".tt-slide-bar, h1"),
        ("book/claims.html", ".tt-filter, .bd-sidebar-primary, .bd-header-article"),
        ("book/how_to_read.html", "body"),
    ],
)
def test_every_control_is_reached_by_tab_with_a_focus_that_stands_out(name, scope, theme, guarded, serve):
    page, outside = guarded(viewport={"width": 1280, "height": 900}, color_scheme=theme, reduced_motion="reduce")
    page.goto(serve(BUILT) + name, wait_until="load")
    page.wait_for_timeout(600)
    stops = []
    for _ in range(700):
        page.keyboard.press("Tab")
        where = page.evaluate(FOCUS)
        if where is None:  # once around
            break
        stops.append(where)
    assert [stop for stop in stops if not stop[1] or stop[1] < 3] == []
    assert page.evaluate(MISSED, scope) == []
    assert 5 < len(stops) < 700 and outside == []


# ---- figures, motion ----


@every_page
def test_every_figure_says_its_finding_and_has_its_numbers(name, guarded):
    page, _ = guarded(viewport={"width": 1280, "height": 900})
    page.goto((BUILT / name).as_uri(), wait_until="load")
    page.wait_for_function(timing.DRAWN)
    told = page.evaluate(
        """() => {
          const say = (e) => e?.textContent.trim() ?? "", all = (where) => [...document.querySelectorAll(where)];
          const drawn = all("figure.tt-picture").map((f) => ({
            alt: f.querySelector("svg")?.getAttribute("aria-label") ?? "", says: say(f.querySelector("figcaption")),
            named: [...f.querySelectorAll("svg")].slice(1).every((s) => s.getAttribute("aria-hidden") === "true"),
            numbers: !!f.querySelector(".tt-data a[download], image, g[id^=QuadContourSet]"),  // pictures have no rows
          }));
          const name = (s) => say(document.getElementById(s.getAttribute("aria-labelledby")));
          const live = all(".rx").map((r) => ({
            alt: say(r.querySelector("[role=status]")), says: say(r.querySelector("[role=status]")),
            named: [...r.querySelectorAll("svg[role=img]")].every((s) => name(s).length > 5),
            numbers: !!r.querySelector("details.rx-table .rx-save"),
          }));
          const show = (e) => e.outerHTML.slice(0, 100);
          const bare = all("main img").filter((i) => !i.hasAttribute("alt")).map(show);
          const loose = all("main svg").filter((s) => !s.closest("[aria-hidden=true], button")
            && !s.getAttribute("aria-label") && !s.getAttribute("aria-labelledby")).map(show);
          return { figures: [...drawn, ...live], bare, loose };
        }"""
    )
    assert told["bare"] == [] and told["loose"] == []
    for figure in told["figures"]:
        assert len(figure["alt"]) >= 30 and figure["alt"] == figure["says"], figure
        assert figure["named"] and figure["numbers"], figure


@built
@pytest.mark.parametrize("name", ["index.html", "chapters/02_initialization.html", "book/claims.html"])
def test_nothing_moves_for_a_reader_who_asked_for_that(name, guarded):
    page, _ = guarded(reduced_motion="reduce")
    page.goto((BUILT / name).as_uri(), wait_until="load")
    page.wait_for_function(timing.DRAWN)
    moving = page.evaluate(
        """() => [...document.querySelectorAll("*")].flatMap((e) => ["", "::before", "::after"].map((part) => {
          const s = getComputedStyle(e, part || undefined);
          const long = (times) => times.split(", ").some((t) => parseFloat(t) > 0.001);
          return long(s.transitionDuration) || (s.animationName !== "none" && long(s.animationDuration))
            || s.scrollBehavior === "smooth" ? e.outerHTML.slice(0, 80) : null;
        })).filter(Boolean)"""
    )
    assert moving == []


# ---- the policy ----


@every_page
def test_every_page_has_its_policy_and_a_smuggled_script_does_not_run(name, guarded):
    text = (BUILT / name).read_text(encoding="utf-8")
    assert policy.with_policy(text) == text and text.count("Content-Security-Policy") == 1
    if 'http-equiv="Refresh"' in text:
        return
    page, outside = guarded()
    page.goto((BUILT / name).as_uri(), wait_until="load")
    ran = page.evaluate(
        """async () => {
          const node = document.createElement("script");
          node.textContent = "window.smuggled = 1";
          document.body.append(node);
          let fetched = "yes";
          try { await fetch("https://example.org/"); } catch { fetched = "no"; }
          return [window.smuggled ?? 0, fetched];
        }"""
    )
    assert ran == [0, "no"] and outside == []


def test_a_policy_allows_what_the_page_holds_and_no_more():
    page = '<html><head><meta charset="utf-8"><title>t</title></head><script>run()</script><button onclick="go()">'
    told = policy.with_policy(page)
    assert policy.digest("run()") in told and policy.digest("go()") not in told
    assert "unsafe-hashes" not in told and "unsafe-eval" not in told and "http" not in told.replace("http-equiv", "")
    assert told.index("Content-Security-Policy") < told.index("<title>")
    assert policy.with_policy(told) == told
    changed = policy.with_policy(told.replace("run()", "other()"))
    assert policy.digest("other()") in changed and policy.digest("run()") not in changed
    data = policy.with_policy("<html><head></head><script type='application/json'>{}</script>")
    assert policy.digest("{}") not in data


@every_page
def test_no_script_stands_in_an_attribute(name):
    text = re.sub(r"<script\b.*?</script>", "", (BUILT / name).read_text(encoding="utf-8"), flags=re.S)
    assert re.findall(r"""<[a-z][^>]*?\son[a-z]+=["'][^>]*>""", re.sub(r'"[^"]*"', '""', text)) == []


# ---- the search ----


@built
@pytest.mark.parametrize("how", ["http", "file"])
def test_the_search_works_offline(how, guarded, serve):
    page, outside = guarded()
    errors = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((serve(BUILT) if how == "http" else BUILT.as_uri() + "/") + "search.html?q=momentum")
    page.wait_for_selector("#search-results ul.search li a", timeout=10_000)
    links = page.eval_on_selector_all("#search-results ul.search li a", "(all) => all.map((a) => a.href)")
    assert any(re.search(r"03_optimizers\.html", link) for link in links)
    page.wait_for_timeout(500)
    assert (outside, errors) == ([], [])
