import pytest

from helpers import blocks, losses, show, training


def test_an_answer_names_the_choice_and_escapes():
    bundle = show.answer([1, 3], "Because 2 < 3.")._repr_mimebundle_()
    assert bundle["text/html"] == (
        '<p class="tt-answer" data-right="1,3"><strong>The prediction: 1 or 3.</strong> Because 2 &lt; 3.</p>'
    )
    assert bundle["text/plain"] == "The prediction: 1 or 3. Because 2 < 3."
    nothing = show.answer([], "So.")._repr_mimebundle_()["text/html"]
    assert 'data-right=""><strong>The prediction: none of them.' in nothing


def test_bad_answers():
    with pytest.raises(ValueError, match="right=0 is not allowed: right must be a whole number, at least 1"):
        show.answer(0, "So.")
    with pytest.raises(ValueError, match="because=' ' is not allowed: say in a sentence what was measured"):
        show.answer(1, " ")


def test_source_is_what_runs_without_docstrings_and_checks():
    shown = show.source(losses.focal, blocks.Residual)
    assert '"""' not in shown.text and "checks." not in shown.text and "_check" not in shown.text
    assert "def focal(" in shown.text and "class Residual(nn.Module):\n    def __init__(" in shown.text
    compile(shown.text, "shown", "exec")
    assert "Not shown: the checks of the arguments." in shown._repr_mimebundle_()["text/html"]
    assert shown._repr_mimebundle_()["text/plain"].endswith("\n# Not shown: the checks of the arguments.\n")
    whole = show.source(losses.focal, whole=True)
    assert '"""' in whole.text and "checks.number" in whole.text and whole.note == ""
    assert show.source(blocks.block).note and not show.source(training.EarlyStop).note
    with pytest.raises(TypeError, match="3 has no Python source to show"):
        show.source(3)


CHECKED = """def f(x, many):
    checks.one(x), checks.other(x)
    n = checks.number(x)
    if n < 0:
        raise ValueError("n")
    if n > 5:
        raise ValueError("n")
    else:
        n = 5
    for each in many:
        checks.kind(each)
    with a:
        if n is None:
            checks.kind(n)
            raise ValueError("n")
        return g(checks.done(n))


def only(x):
    checks.one(x)
"""


def test_what_counts_as_a_check():
    left = """def f(x, many):
    n = checks.number(x)
    if n > 5:
        raise ValueError("n")
    else:
        n = 5
    with a:
        return g(checks.done(n))


def only(x):
    checks.one(x)
"""
    assert show._without(show._is_check, CHECKED) == left
