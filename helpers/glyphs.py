"""A procedural image set: digits and letters drawn from 22 fonts, then bent, shifted and made noisy.

Nothing is downloaded: the fonts ship inside matplotlib. Images of one font look alike, so the
font is also a natural group for the chapter on splits.

The same seed gives the same pixels on one machine. Another version of Pillow or FreeType may
move single pixels, because they draw the letters.
"""

from __future__ import annotations

import functools
import string
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from helpers import checks

SIZE = 28  # side of an image, pixels
CHARACTERS = string.digits + string.ascii_letters
_CANVAS = 56  # side of a drawn letter; two canvas pixels are one image pixel
_BOX = 40  # longest side of the letter on that canvas
_BATCH = 500  # fixed: image i depends on the seed and on i alone, not on how many you ask for

_FAMILIES = {
    "dejavu sans": ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    "dejavu mono": ("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique"),
    "dejavu serif": ("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    "stix": ("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    "computer modern": ("cmr10", "cmb10", "cmss10", "cmti10", "cmtt10", "cmmi10"),
}
FONT_FAMILY = {font: family for family, fonts in _FAMILIES.items() for font in fonts}
# An allow-list: some other fonts of matplotlib claim to hold digits and draw symbols.
FONTS = tuple(FONT_FAMILY)

# rotate: degrees; shear: ratio; zoom: lowest and highest factor; shift, elastic: pixels (of 28);
# noise: sd of Gaussian noise on a 0..1 scale; contrast: lowest ink brightness; clutter: stray letters.
LEVELS = {
    "easy": dict(rotate=6, shear=0.10, zoom=(0.90, 1.05), shift=1.0, elastic=0.0, noise=0.03, contrast=0.9, clutter=0),
    "standard": dict(
        rotate=12, shear=0.20, zoom=(0.80, 1.10), shift=1.5, elastic=1.2, noise=0.08, contrast=0.6, clutter=0
    ),
    "medium": dict(
        rotate=15, shear=0.25, zoom=(0.80, 1.10), shift=2.0, elastic=1.0, noise=0.10, contrast=0.6, clutter=0
    ),
    "clutter": dict(
        rotate=20, shear=0.30, zoom=(0.75, 1.10), shift=2.5, elastic=1.3, noise=0.12, contrast=0.5, clutter=2
    ),
}


def _draw(character: str, font: str, stroke: int) -> np.ndarray:
    """One letter, centred, its longest side _BOX pixels: (_CANVAS, _CANVAS) uint8."""
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{font}.ttf")
    face = ImageFont.truetype(str(path), 96)
    left, top, right, bottom = face.getbbox(character, stroke_width=stroke)
    ink = Image.new("L", (right - left, bottom - top), 0)
    ImageDraw.Draw(ink).text((-left, -top), character, font=face, fill=255, stroke_width=stroke)
    factor = _BOX / max(ink.size)
    ink = ink.resize([max(1, round(side * factor)) for side in ink.size], Image.Resampling.LANCZOS)
    canvas = Image.new("L", (_CANVAS, _CANVAS), 0)
    canvas.paste(ink, ((_CANVAS - ink.width) // 2, (_CANVAS - ink.height) // 2))
    return np.asarray(canvas)


@functools.lru_cache(maxsize=8)
def _templates(characters: str, fonts: tuple[str, ...]) -> np.ndarray:
    """Every letter in every font, thin and bold: (characters, fonts, 2, side, side) float32 in 0..1, side = 59.

    A 2x2 box filter is applied here, once. It equals averaging four look-ups per image pixel later
    (bilinear look-ups at ±half a pixel), which keeps thin strokes from breaking up. One pixel of
    empty border stands on each side, so that a look-up outside finds paper.
    """
    letters = np.stack([[[_draw(c, f, s) for s in (0, 3)] for f in fonts] for c in characters]).astype(np.float32) / 255
    wide = np.pad(letters, [(0, 0)] * 3 + [(1, 1)] * 2)
    box = (wide[..., :-1, :-1] + wide[..., 1:, :-1] + wide[..., :-1, 1:] + wide[..., 1:, 1:]) / 4
    return np.pad(box, [(0, 0)] * 3 + [(1, 1)] * 2)


def _look_up(pictures: np.ndarray, row: np.ndarray, col: np.ndarray) -> np.ndarray:
    """Bilinear values of pictures (n, s, s) at fractional positions (n, 28, 28); outside is 0."""
    n, side, _ = pictures.shape
    row, col = np.clip(row, 0, side - 1.001), np.clip(col, 0, side - 1.001)
    top, left = row.astype(np.int32), col.astype(np.int32)
    down, across = row - top, col - left
    corner = (np.arange(n, dtype=np.int32) * side * side)[:, None, None] + top * side + left
    flat = pictures.ravel()
    above = flat[corner] * (1 - across) + flat[corner + 1] * across
    below = flat[corner + side] * (1 - across) + flat[corner + side + 1] * across
    return above * (1 - down) + below * down


def _elastic(rng, n: int, amount: float, grid: int = 4) -> np.ndarray:
    """Smooth random displacements (n, 2, 28, 28): a coarse grid of Gaussians, stretched."""
    coarse = rng.standard_normal((n, 2, grid, grid)).astype(np.float32) * amount
    at = np.linspace(0, grid - 1, SIZE, dtype=np.float32)
    cell = np.minimum(at.astype(int), grid - 2)
    stretch = np.zeros((SIZE, grid), np.float32)
    stretch[np.arange(SIZE), cell] = 1 - (at - cell)
    stretch[np.arange(SIZE), cell + 1] += at - cell
    return stretch @ coarse @ stretch.T


def _warp(rng, letters: np.ndarray, p: dict, push=(0.0, 0.0)) -> np.ndarray:
    """Letters (n, 2, side, side) seen through a random affine and elastic map: (n, 28, 28)."""
    n = len(letters)

    def uniform(low, high):
        return rng.uniform(low, high, n).astype(np.float32)[:, None, None]

    angle, shear = np.deg2rad(uniform(-p["rotate"], p["rotate"])), uniform(-p["shear"], p["shear"])
    wide = uniform(*p["zoom"])
    tall = wide * uniform(0.85, 1.15)
    right, down = uniform(-1, 1) * p["shift"] * 2 + push[0], uniform(-1, 1) * p["shift"] * 2 + push[1]
    axis = (np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2) * 2
    x, y = axis[None, None, :] - right, axis[None, :, None] - down
    if p["elastic"]:
        bend = _elastic(rng, n, p["elastic"] * 2)
        x, y = x + bend[:, 0], y + bend[:, 1]
    col = (np.cos(angle) * x + np.sin(angle) * y) / wide
    row = (-np.sin(angle) * x + np.cos(angle) * y) / tall
    col = col + shear * row
    bold = uniform(0, 1)
    middle = (letters.shape[-1] - 1) / 2
    return _look_up(letters[:, 0] * (1 - bold) + letters[:, 1] * bold, row + middle, col + middle)


def _batch(rng, templates: np.ndarray, p: dict, shares):
    """_BATCH images with their labels and fonts."""
    labels = rng.choice(len(templates), _BATCH, p=shares)
    fonts = rng.integers(0, templates.shape[1], _BATCH)
    image = _warp(rng, templates[labels, fonts], p)
    for _ in range(p["clutter"]):  # a part of another letter reaches in from the border
        around, far = rng.uniform(0, 2 * np.pi, _BATCH), rng.uniform(36, 44, _BATCH)
        push = [(far * f(around)).astype(np.float32)[:, None, None] for f in (np.cos, np.sin)]
        other = templates[rng.integers(0, len(templates), _BATCH), rng.integers(0, templates.shape[1], _BATCH)]
        image = np.maximum(image, _warp(rng, other, p, push))
    ink = rng.uniform(p["contrast"], 1, _BATCH).astype(np.float32)[:, None, None]
    paper = rng.uniform(0, 1 - p["contrast"], _BATCH).astype(np.float32)[:, None, None] / 2
    image = paper + (ink - paper) * image
    image += p["noise"] * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image * 255, 0, 255).astype(np.uint8), labels, fonts


def listed(name: str, given, allowed) -> tuple:
    """`given` as a tuple of distinct allowed entries (characters also as one string); else one sentence."""
    asked, given = given, [given] if isinstance(given, str) and name == "fonts" else given
    given = tuple(given if isinstance(given, str) else checks.several(name, given, repr(allowed[:2]), empty=True))
    for entry in given:
        if isinstance(asked, str) and len(asked) > 1 and entry not in allowed:
            told = f"{name}={checks.show(asked)} holds {entry!r}, which is not known"
            raise ValueError(f"{told}; choose from {checks.listed(allowed)}.{checks.nearest(entry, allowed)}")
        checks.one_of(name, entry, allowed)
    if not given or len(set(given)) < len(given):
        raise ValueError(f"{name}={checks.show(asked)} is not allowed: give at least one entry, and each of them once.")
    return given


def shares(class_shares, n: int) -> tuple:
    """`class_shares` as n numbers that sum to 1; else one sentence."""
    given = checks.several("class_shares", class_shares, "[0.5, 0.5]")
    for share in given:
        checks.number("class_shares", share, low=0, high=1)
    if len(given) != n or abs(sum(given) - 1) > 1e-6:
        raise ValueError(
            f"class_shares={checks.show(given)} is not allowed: give {n} shares, one for each character, none "
            f"negative, that sum to 1."
        )
    return tuple(float(share) / sum(given) for share in given)


def make(n: int, *, seed=0, level="standard", characters="0123456789", fonts=None, class_shares=None):
    """Draw n images; the same arguments give the same images.

    level         "easy", "standard", "medium" or "clutter" (see LEVELS)
    characters    the classes, a string of digits and letters such as "0123456789" or "abc"
    fonts         names from FONTS that may be used; all 22 if not given
    class_shares  the probability of each character, summing to 1; equal if not given

    Returns images (n, 28, 28) uint8, labels (n,) int64 as positions in `characters`, and fonts (n,)
    int64 as positions in `fonts`. The first images of a longer set are the images of a shorter one.
    About 10,000 images a second on one core. Raises ValueError for a name that is not known.
    """
    n, seed = checks.integer("n", n, low=1, high=1_000_000), checks.integer("seed", seed)
    settings = LEVELS[checks.one_of("level", level, LEVELS)]
    characters = "".join(listed("characters", characters, CHARACTERS))
    fonts = FONTS if fonts is None else listed("fonts", fonts, FONTS)
    class_shares = None if class_shares is None else shares(class_shares, len(characters))
    templates = _templates(characters, fonts)
    parts = [
        _batch(np.random.default_rng([seed, number]), templates, settings, class_shares)
        for number in range(-(-n // _BATCH))
    ]
    images, labels, which = (np.concatenate(part)[:n] for part in zip(*parts, strict=True))
    return images, labels.astype(np.int64), which.astype(np.int64)
