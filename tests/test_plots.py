import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import data, plots, show
from helpers.compare import compare
from helpers.recipe import Recipe
from helpers.training import fit


@pytest.fixture(scope="module")
def result():
    base = Recipe(width=8, epochs=2, n_train=100)
    return compare(base, arms={"init": ["he", "zero", "xavier"]}, data=data.load("digits"), seeds=3)


def test_lines_are_the_means_of_the_table(result):
    ax = plots.plot_curves(result.runs, color="init")
    frame = result.runs.frame()
    assert [line.get_label() for line in ax.lines] == ["he", "zero", "xavier"]
    for line in ax.lines:
        mean = 100 * frame[frame["init"] == line.get_label()].groupby("epoch")["val_accuracy"].mean()
        assert line.get_ydata() == pytest.approx(mean.to_numpy())
    assert (
        len({str(line.get_linestyle()) + str(line._dash_pattern) for line in ax.lines}) == 3
    )  # colour is not the only sign


def test_differences_show_every_seed_and_the_interval(result):
    ax = plots.plot_differences(result)
    dots, bar, mean, *_ = ax.lines
    i = result.interval("he", "zero")
    assert dots.get_xdata() == pytest.approx(100 * (result.scores["he"] - result.scores["zero"]).to_numpy())
    assert bar.get_xdata() == pytest.approx([100 * i.low, 100 * i.high]) and mean.get_xdata() == pytest.approx(
        [100 * i.mean]
    )


def test_picture_carries_its_finding_and_takes_the_pages_ink(result):
    pair = plots.figure(2)
    for ax in pair:
        plots.plot_curves(result.runs, color="init", ax=ax)
    bundle = plots.picture(pair, 'He wins & "zero" <does> not learn.', "n = 3")._repr_mimebundle_()
    text = bundle["text/html"]
    assert text.count("<svg") == 2 and text.count('role="img"') == 1 and text.count('aria-hidden="true"') == 1
    assert 'aria-label="He wins &amp; &quot;zero&quot; &lt;does&gt; not learn."' in text
    assert "currentColor" in text and plots.INK not in text and plots.RULE not in text
    assert "<script" not in text and "http://" not in text.replace("http://www.w3.org", "")


def test_what_was_added_to_a_figure_is_readable_on_a_dark_page():
    ax = plots.figure()
    ax.plot([0, 1], label="a line")
    plain = plots.picture(ax, "A line that goes up from 0 to 1.")._repr_mimebundle_()["text/html"]
    ax.legend(title="its name")
    ax.annotate("the end", (1, 1))
    drawn = plots.picture(ax, "A line that goes up from 0 to 1.")._repr_mimebundle_()["text/html"]
    words = [part.split("</text>")[0] for part in drawn.split("<text")[1:]]
    assert {"a line", "its name", "the end"} <= {word.split(">")[1].strip() for word in words}
    assert all("currentColor" in word for word in words)
    assert drawn.count("#ffffff") == plain.count("#ffffff")  # no box behind the legend


def test_picture_is_the_same_each_time(result):
    def draw():
        ax = plots.plot_curves(result.runs, color="init")
        return plots.picture(ax, "He wins over zero initialization.")._repr_mimebundle_()

    assert draw() == draw()


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2: from 1 to 21."""
    values = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in (one, other)])
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    low, high = np.sort(linear @ [0.2126, 0.7152, 0.0722])
    return (high + 0.05) / (low + 0.05)


def test_every_colour_stands_out_on_light_and_dark():
    assert contrast("#ffffff", "#000000") == pytest.approx(21) and contrast("#56B4E9", "#ffffff") < 3
    assert len(set(plots.PALETTE)) == len(set(plots.DASHES)) == 7
    *colours, last = plots.PALETTE
    assert last == plots.INK  # becomes the colour of the page's text
    for colour in colours:
        assert contrast(colour, "#ffffff") >= 3 and contrast(colour, "#121212") >= 3, colour


def test_picture_wants_a_finding(result):
    with pytest.raises(ValueError, match="finding='Figure 1' is not allowed: say in a sentence what the figure shows"):
        plots.picture(plots.figure(), "Figure 1")


def test_background_fits_its_window():
    back = plots.surface_background("ravine")
    assert back["extent"] == (-10, 4, -3, 3) and Image.open(io.BytesIO(back["png"])).size == (384, 256)


def test_unknown_columns_are_named(result):
    with pytest.raises(TypeError, match="'val_acc' is not a column; .* Did you mean 'val_accuracy'"):
        plots.plot_lines(result.runs, x="epoch", y="val_acc")
    with pytest.raises(TypeError, match="'group' is not a column"):
        plots.plot_lines(pd.DataFrame({"x": [1], "y": [2]}), x="x", y="y", color="group")


def test_source_is_the_code_that_runs():
    shown = show.source(fit).text
    assert "losses.sum().backward()" in shown and '"""' not in shown
    assert '"""' in show.source(fit, whole=True).text
    compile(shown, "shown", "exec")
    with pytest.raises(TypeError, match="3 has no Python source to show"):
        show.source(3)


def test_say_shows_markdown_and_glues(capsys):
    assert show.say("**3.1** points")._repr_mimebundle_()["text/markdown"] == "**3.1** points"


def test_the_alternative_text_keeps_its_numbers():
    ax = plots.figure()
    ax.plot([0.12345, 1], [0, 1])
    shown = plots.picture(ax, "The best of the learning rates is 0.0012345, the worst 1.5.")
    assert 'aria-label="The best of the learning rates is 0.0012345, the worst 1.5."' in shown.svg()
