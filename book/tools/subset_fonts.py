"""Make the fonts in book/assets small again: run after an update of the theme or of the math font.

    pip install fonttools brotli
    python book/tools/subset_fonts.py --math stix-two-math-latin-400-normal.woff2 --theme .../site-packages
    python book/tools/subset_fonts.py --text folder/of/fontsource/files

- The text is set in Source Sans 3, the headings in Source Serif 4 (npm packages @fontsource-variable/source-sans-3 and
  @fontsource/source-serif-4, the files of the Latin script).
- The math font is STIX Two Math (npm package @fontsource/stix-two-math), cut down to the characters of formulas. Its
  MATH table stays: browsers need it to place hats, roots and limits. A test holds the formulas to what is there.
- The icons are those of Font Awesome that the theme's pages name. The theme's own files weigh 300 kB, these 10 kB.
  `icons.txt` lists what is there; a test holds the pages to it.
"""

import argparse
import pathlib
import re

from fontTools import subset
from fontTools.ttLib import TTFont

ASSETS = pathlib.Path(__file__).resolve().parents[1] / "assets"
MATH = """0020-007E 00AC 00AF 00B1 00B7 00D7 0131 0237 02C6 02C7 02DC 0300-0304 0307-0308 030C 0332 0338 0394 0398 039B
03A3 03A6 03A8 03A9 03B1-03C9 03D1 03D5 03F5 2010-2016 2026 2032-2033 2061-2064 20D7 210E 2112 2113 2115 211D 2124
2190-2192 21A6 21D2 2200 2202-2203 2205-2208 220F-2212 2218 221A 221D-221E 2223 2225 2229-222B 223C 2248 2260 2264-2265
226A-226B 2286 2295 2297 2299 22C5 22EE-22EF 2308-230B 27E8-27E9 1D400-1D467 1D49C-1D4B5 1D538-1D550 1D6A4-1D6A5
1D6E2-1D71B"""
TEXT = """0020-007E 00A0-00FF 0131 0152-0153 02C6 02DA 02DC 2002-200B 2010-2015 2018-201E 2020-2022 2026 2032-2033
2190-2193 2212 2215 221E 2248 2260 2264-2265"""
MORE_ICONS = ("github", "book", "book-open", "check", "xmark", "circle-question", "flask", "chart-line", "clock")


def codes(text: str) -> list[int]:
    """The code points of ranges such as "0020-007E 0131"."""
    found = []
    for part in text.split():
        first, _, last = part.partition("-")
        found += range(int(first, 16), int(last or first, 16) + 1)
    return found


def shrink(source: pathlib.Path, target: pathlib.Path, unicodes: list[int], name: str = "") -> set[int]:
    """Write a subset as woff2; return the code points that it holds."""
    options = subset.Options(flavor="woff2", hinting=False, desubroutinize=True, name_IDs=[0, 1, 2, 13, 14])
    options.layout_features = ["ssty", "dtls", "flac", "kern", "mark", "mkmk", "ccmp", "liga", "tnum", "lnum"]
    font = TTFont(source)
    cut = subset.Subsetter(options)
    cut.populate(unicodes=unicodes)
    cut.subset(font)
    if name:  # "Font Awesome" is a reserved name: a changed font carries another
        font["name"].setName(name, 1, 3, 1, 0x409)
    target.parent.mkdir(parents=True, exist_ok=True)
    subset.save_font(font, target, options)
    print(f"{target.relative_to(ASSETS)}: {target.stat().st_size / 1000:.0f} kB")
    return set(font.getBestCmap())


def icons(packages: pathlib.Path) -> dict[str, int]:
    """The icons that the theme's templates, code and style sheet use: {name: code point}."""
    folders = [packages / "pydata_sphinx_theme", packages / "sphinx_book_theme"]
    css = (folders[0] / "theme/pydata_sphinx_theme/static/styles/pydata-sphinx-theme.css").read_text(encoding="utf-8")
    code = {name: int(hexa, 16) for name, hexa in re.findall(r'\.fa-([\w-]+):before\{content:"\\([0-9a-f]+)"', css)}
    grouped = re.findall(r'((?:\.fa-[\w-]+:before,?)+)\{content:"\\([0-9a-f]+)"', css)
    code |= {name: int(hexa, 16) for names, hexa in grouped for name in re.findall(r"fa-([\w-]+)", names)}
    used = set(MORE_ICONS)
    for path in (p for folder in folders for p in folder.rglob("*") if p.suffix in (".html", ".py")):
        used |= set(re.findall(r"\bfa-([a-z][\w-]+)", path.read_text(encoding="utf-8")))
    wanted = {name: code[name] for name in sorted(used & set(code))}
    own = set(re.findall("[\ue000-\uf8ff]", css)) | set(re.findall(r'--pst-icon-[\w-]+:\s*"\\?([0-9a-f]+)"', css))
    wanted |= {f"theme-{ord(c):x}" if len(c) == 1 else f"theme-{c}": ord(c) if len(c) == 1 else int(c, 16) for c in own}
    return wanted | {"theme-f107": 0xF107}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--math", type=pathlib.Path, help="the whole math font")
    parser.add_argument("--text", type=pathlib.Path, help="a folder with the whole text fonts")
    parser.add_argument("--theme", type=pathlib.Path, help="the site-packages folder that holds the theme")
    given = parser.parse_args()
    if given.math:
        shrink(given.math, ASSETS / "fonts" / "stix-two-math.woff2", codes(MATH))
    if given.text:
        for source, target, name in (  # "Source" is a reserved name, too
            ("source-sans-3-latin-wght-normal", "book-sans", "Book Sans"),
            ("source-serif-4-latin-600-normal", "book-serif", "Book Serif"),
        ):
            shrink(given.text / f"{source}.woff2", ASSETS / "fonts" / f"{target}.woff2", codes(TEXT), name)
    if given.theme:
        wanted, have = icons(given.theme), set()
        for name in ("fa-solid-900", "fa-regular-400", "fa-brands-400"):
            where = f"vendor/fontawesome/webfonts/{name}.woff2"
            source = given.theme / "pydata_sphinx_theme/theme/pydata_sphinx_theme/static" / where
            have |= shrink(source, ASSETS / where, list(wanted.values()), f"Book Icons {name[3:]}")
        lines = [name for name, code in wanted.items() if code in have]
        (ASSETS / "fonts" / "icons.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
