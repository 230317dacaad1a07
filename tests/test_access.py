"""Every page can be read by everybody and from anywhere: axe-core, the content-security policy, the search."""

from __future__ import annotations

import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))
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
    page = '<html><head><title>t</title></head><body><script>run()</script><button onclick="go(&quot;a&quot;)">'
    told = policy.with_policy(page)
    assert policy.digest("run()") in told and policy.digest('go("a")') in told and "'unsafe-hashes'" in told
    assert "unsafe-eval" not in told and "http" not in told.replace("http-equiv", "")
    assert told.index("Content-Security-Policy") < told.index("<title>")
    assert policy.with_policy(told) == told
    changed = policy.with_policy(told.replace("run()", "other()"))
    assert policy.digest("other()") in changed and policy.digest("run()") not in changed
    assert "unsafe-hashes" not in policy.with_policy("<html><head></head><script type='application/json'>{}</script>")


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
