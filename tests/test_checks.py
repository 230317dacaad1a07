import pathlib

import numpy as np
import pytest

from helpers import checks
from helpers.scale import scale


def test_one_of_names_the_argument_the_value_the_choices_and_the_nearest():
    with pytest.raises(ValueError) as error:
        checks.one_of("init", "hee", ["he", "xavier", "zero"])
    assert str(error.value) == "init='hee' is not known; choose one of 'he', 'xavier', 'zero'. Did you mean 'he'?"
    assert checks.one_of("init", "he", ["he", "xavier"]) == "he"


def test_one_of_refuses_other_types_without_a_wrong_guess():
    with pytest.raises(ValueError, match=r"^init=7 is not known; choose one of 'he'\.$"):
        checks.one_of("init", 7, ["he"])


def test_known_names_the_kind():
    with pytest.raises(TypeError) as error:
        checks.known("field of Recipe", ["learning_rate"], ["lr", "epochs", "learning"])
    told = "'learning_rate' is not a field of Recipe; choose from lr, epochs, learning. Did you mean 'learning'?"
    assert str(error.value) == told
    checks.known("column", ["lr"], ["lr"])


@pytest.mark.parametrize(
    ("value", "kind", "sentence"),
    [
        (-1, ValueError, "lr=-1 is not allowed: lr must be a finite number, above 0; try lr=0.1."),
        (float("nan"), ValueError, "lr=nan is not allowed: lr must be a finite number, above 0; try lr=0.1."),
        (float("inf"), ValueError, "lr=inf is not allowed: lr must be a finite number, above 0; try lr=0.1."),
        ("fast", TypeError, "lr='fast' is not allowed: lr must be a finite number, above 0; try lr=0.1."),
        (True, TypeError, "lr=True is not allowed: lr must be a finite number, above 0; try lr=0.1."),
    ],
)
def test_number(value, kind, sentence):
    with pytest.raises(kind) as error:
        checks.number("lr", value, above=0, try_="0.1")
    assert str(error.value) == sentence


def test_number_bounds_are_closed_or_open_as_named():
    assert checks.number("q", 0, low=0, high=1) == 0 and checks.number("q", 1, low=0, high=1) == 1
    for bad in ({"above": 0}, {"below": 0}):
        with pytest.raises(ValueError):
            checks.number("q", 0, **bad)


@pytest.mark.parametrize(("value", "kind"), [(0, ValueError), (1.5, TypeError), ("3", TypeError), (True, TypeError)])
def test_integer(value, kind):
    with pytest.raises(
        kind, match="epochs=.* is not allowed: epochs must be a whole number, at least 1; try epochs=10"
    ):
        checks.integer("epochs", value, low=1, try_="10")


def test_scale_follows_the_environment(monkeypatch):
    for name, size in (("smoke", 2), ("book", 8), ("full", 30)):
        monkeypatch.setenv("TRICKS_SCALE", name)
        assert scale(smoke=2, book=8, full=30) == size
    assert scale(smoke=2, book=8) == 8
    monkeypatch.delenv("TRICKS_SCALE")
    assert scale(smoke=2, book=8, full=30) == 8
    monkeypatch.setenv("TRICKS_SCALE", "bok")
    with pytest.raises(ValueError, match="TRICKS_SCALE='bok' is not known; .* Did you mean 'book'"):
        scale(smoke=2, book=8)


def test_show_is_one_short_line():
    class Odd:
        def __repr__(self):
            raise RuntimeError

    assert checks.show("he") == "'he'" and checks.show(Odd()) == "a Odd"
    assert checks.show(np.zeros((2, 3))) == "ndarray of shape (2, 3)"
    assert checks.show("a\nb" * 99) == "'" + "a\\nb" * 14 + "a\\…" and len(checks.show("x" * 99)) == 60
    assert checks.listed(map(str, range(70))).endswith("58, 59, …")


def test_numbers_beyond_a_float_are_refused():
    assert checks.number("q", np.float32(0.5)) == 0.5 and checks.integer("n", np.int64(3), low=1) == 3
    with pytest.raises(ValueError, match="^q=1000.*… is not allowed: q must be a finite number"):
        checks.number("q", 10**400)


def test_what_acts_unseen_becomes_a_sign():
    assert checks.visible("a\u202eb\x00c\ud800\n") == "a\ufffdb\ufffdc\ufffd\n"
    assert checks.visible("Zoë 日本 👩\u200d💻") == "Zoë 日本 👩\u200d💻"
    assert checks.escaped("<b>\u202e&'\"") == "&lt;b&gt;\ufffd&amp;&#x27;&quot;"


def test_a_formula_of_a_spreadsheet_is_inert():
    assert [checks.inert(v) for v in ("=1", " =1", "-x", "-1", "1e-5", "he", -1.5, None)] == [
        "'=1", "' =1", "'-x", "-1", "1e-5", "he", -1.5, None
    ]  # fmt: skip


def test_several_and_once():
    assert checks.several("n", range(2), "[1]") == [0, 1] and checks.once("n", [1, None, "1"]) == [1, None, "1"]
    for bad in ("ab", {"a": 1}, 5, np.array(3)):
        with pytest.raises(TypeError, match="^n=.* is not allowed: n must be a list, such as "):
            checks.several("n", bad, "[1]")
    with pytest.raises(ValueError, match=r"^n=\[\] is empty: give at least one entry, such as \[1\]\.$"):
        checks.several("n", [], "[1]")
    with pytest.raises(ValueError, match="^n holds 1.0 twice; give each entry once"):
        checks.once("n", [1, 1.0])
    with pytest.raises(TypeError, match=r"^n holds \[1\], but each entry must be one value"):
        checks.once("n", [[1]])


def test_a_sentence_begins_with_a_capital_and_an_abbreviation_keeps_its_own():
    told = {"he beats": "He beats", "sgd ends": "SGD ends", "pca": "PCA", "rnns differ": "Rnns differ", "": ""}
    assert {text: checks.capital(text) for text in told} == told


def test_the_page_knows_the_same_abbreviations():
    script = (pathlib.Path(checks.__file__).parent / "explorer" / "explorer.js").read_text(encoding="utf-8")
    assert f"text.replace(/^({'|'.join(checks.SHORT)})\\b|^./" in script
