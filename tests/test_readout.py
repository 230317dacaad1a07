import base64
import io
import re

import numpy as np
import pandas as pd

from helpers import plots, readout


def test_lines_points_and_bars_are_read_back():
    ax = plots.figure()
    ax.plot([1, 2, 3], [0.5, 0.25, 0.125], label="he")
    ax.scatter([1, 2], [7, 8], label="dots")
    ax.axhline(0.3)
    ax.axvspan(1, 2)
    ax.set(xlabel="epoch", ylabel="loss")
    table = readout.numbers([ax.figure])
    assert list(table) == ["series", "epoch", "loss"]
    assert table[table["series"] == "he"][["epoch", "loss"]].to_numpy().tolist() == [[1, 0.5], [2, 0.25], [3, 0.125]]
    assert table[table["series"] == "dots"]["loss"].tolist() == [7, 8]
    assert len(table) == 5  # neither the guide nor the shading


def test_names_along_an_axis_and_several_figures():
    up, across = plots.figure(2)
    up.bar(["a", "b"], [3, 4])
    up.set_title("left one")
    across.barh([0, 1], [5, 6])
    across.set_yticks([0, 1], ["sgd", "adam"])
    table = readout.numbers([up.figure, across.figure])
    assert table["figure"].unique().tolist() == ["left one", "2"]
    assert table[table["figure"] == "2"]["y"].tolist() == ["sgd", "adam"]
    assert table[table["figure"] == "2"]["x"].tolist() == [5, 6]
    assert table[table["figure"] == "left one"]["y"].tolist() == [3, 4]


def test_a_picture_brings_its_table_and_the_whole_file():
    ax = plots.figure()
    x = np.linspace(0, 1, 300)
    ax.plot(x, x**2, label="<b>")
    text = plots.picture(ax, "The square of x rises from 0 to 1.")._repr_mimebundle_()["text/html"]
    assert "<b>" not in text and "&lt;b&gt;" in text and "24 of 300 rows" in text
    code = re.search(r'href="data:text/csv;base64,([^"]+)"', text)[1]
    file = pd.read_csv(io.BytesIO(base64.b64decode(code)))
    assert len(file) == 300 and abs(file["y"].iloc[-1] - 1) < 1e-9 and text.count("<tr>") == 25


def test_an_image_has_no_table():
    ax = plots.plot_images(np.zeros((2, 4, 4)))
    assert not len(readout.numbers([ax.figure]))
    assert "<details" not in plots.picture(ax, "Two black images side by side.")._repr_mimebundle_()["text/html"]
