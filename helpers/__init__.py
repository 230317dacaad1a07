"""Training Tricks, Tested: the measurements behind the book.

    import helpers as h
    digits = h.load("digits")
    runs = h.train(h.Recipe(depth=6).vary(init=["he", "xavier"]), digits, seeds=8)

The modules form one ladder; each imports only from those before it:
checks, scale, splits, glyphs, download, data, owndata, augment, blocks, lenet, models, init, losses, schedules, optim,
recipe, surfaces, store, runs, training, probe, blas, dense, normed, squares, written, quick, stacks, workers, engine,
compare, claims, readout, plots, explorer, live, show.
"""

from helpers.claims import Evidence, Ledger, above, below, exact, share, shows, verdict, worded
from helpers.compare import Comparison, Interval, compare
from helpers.data import Dataset, load
from helpers.engine import train
from helpers.explorer import explore
from helpers.live import train_panel
from helpers.owndata import from_arrays, from_csv, from_folder, from_npz
from helpers.plots import (
    figure,
    picture,
    plot_curves,
    plot_differences,
    plot_images,
    plot_lines,
    surface_background,
)
from helpers.probe import distinct_units, full_loss_trace, input_gradient, layer_scales
from helpers.recipe import Recipe
from helpers.runs import Runs
from helpers.scale import scale
from helpers.show import answer, say, source
from helpers.splits import folds, label_distance, leak_check, missing_classes, split
from helpers.surfaces import walk
from helpers.training import fit, train_one

__all__ = [
    "Comparison", "Dataset", "Evidence", "Interval", "Ledger", "Recipe", "Runs", "above", "answer", "below", "compare",
    "distinct_units", "exact", "explore", "figure", "fit", "folds", "from_arrays", "from_csv", "from_folder",
    "from_npz", "full_loss_trace", "input_gradient", "label_distance", "layer_scales", "leak_check", "load",
    "missing_classes", "picture", "plot_curves", "plot_differences", "plot_images", "plot_lines", "say", "scale",
    "share", "shows", "source", "split", "surface_background", "train", "train_one", "train_panel",
    "verdict", "walk", "worded",
]  # fmt: skip
