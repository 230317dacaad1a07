import pytest

from helpers import show


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


def test_source_is_what_runs_without_its_docstring():
    text = show.source(show.answer).text
    assert text.startswith("def answer(") and '"""' not in text and "checks.integer" in text
    assert '"""' in show.source(show.answer, docs=True).text
    with pytest.raises(TypeError, match="3 has no Python source to show"):
        show.source(3)
