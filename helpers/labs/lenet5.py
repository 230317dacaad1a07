"""Chapter 10, LeNet-5: its layers, its knobs, what it can read, a copy of it for the page. Tables in, tables out."""

from __future__ import annotations

import base64
import copy
import hashlib
import html
import json
import pathlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers import checks, claims, engine, glyphs, init, lenet, models, splits, streams, training
from helpers import data as _data
from helpers.claims import Evidence
from helpers.compare import Interval
from helpers.recipe import Recipe
from helpers.runs import Runs

# --- the layers

LAYERS = ("C1", "S2", "C3", "S4", "C5", "F6", "output")
# What the paper states (LeCun et al. 1998, section II.B): trainable parameters and connections of each layer.
PAPER = {
    "C1": (156, 122_304), "S2": (12, 5_880), "C3": (1_516, 151_600), "S4": (32, 2_000), "C5": (48_120, 48_120),
    "F6": (10_164, 10_164), "all": (60_000, 340_908),
}  # fmt: skip
POOLING = (lenet.SubSampling, nn.AvgPool2d, nn.MaxPool2d)
COUNTED = (nn.Conv2d, nn.Linear, lenet.PartialConvolution, lenet.Distances, *POOLING)


def layer_table(model: nn.Module, shape: Sequence[int]) -> pd.DataFrame:
    """One row per layer of either form of LeNet-5: its kind, the shape of what it gives, parameters, connections.

    A connection is one multiplication or one bias, counted once for every place of an image, as the paper counts.
    Activations do not count as layers. The index is C1, S2, C3, S4, C5, F6, output, all.
    """
    rows, x = [], torch.zeros(1, *shape)
    for module in model.eval():
        x = module(x)
        if isinstance(module, COUNTED):
            parameters, places = sum(p.numel() for p in module.parameters()), x[0, 0].numel() if x.dim() == 4 else 1
            if isinstance(module, POOLING):
                connections = x[0].numel() * (4 + bool(parameters))  # four inputs, and a bias where it has one
            else:
                connections = (parameters or getattr(module, "codes", torch.empty(0)).numel()) * places
            made = "×".join(map(str, x.shape[1:]))
            kind = type(module).__name__
            rows.append({"kind": kind, "output": made, "parameters": parameters, "connections": connections})
    table = pd.DataFrame(rows, index=LAYERS)
    total = table[["parameters", "connections"]].sum()
    return pd.concat([table, pd.DataFrame([{"kind": "", "output": "", **total}], index=["all"])])


def beside_the_paper(shape: Sequence[int] = (1, 28, 28)) -> pd.DataFrame:
    """Both forms layer by layer, beside the numbers that the paper states; index as in `layer_table`."""
    old, new = (layer_table(models.build(name, shape, 10), shape) for name in ("lenet5_1998", "lenet5"))
    told = pd.DataFrame(PAPER, index=["parameters", "connections"]).T.astype("Int64")
    return pd.DataFrame(
        {
            "output": old["output"],
            "parameters (paper)": told["parameters"],
            "parameters (1998)": old["parameters"],
            "parameters (modern)": new["parameters"],
            "connections (paper)": told["connections"],
            "connections (1998)": old["connections"],
        }
    ).reindex(old.index)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The same table for the eye: two rows of headings, thousands apart, nothing where the paper states nothing."""
    told = table.map(lambda v: v if isinstance(v, str) else "" if pd.isna(v) else f"{v:,.0f}")
    heads = [tuple(name.removesuffix(")").split(" (")) for name in table]
    return told.set_axis(pd.MultiIndex.from_tuples([h if len(h) == 2 else ("", *h) for h in heads]), axis=1)


# --- training, with the models kept and with parts that are no field of a recipe


class DropConnect(nn.Module):
    """A linear layer in which, in each training pass, every weight is 0 with probability p (Wan et al. 2013)."""

    def __init__(self, layer: nn.Linear, p: float, seed: int = 0):
        super().__init__()
        self.layer, self.p, self.generator = layer, p, torch.Generator().manual_seed(streams.seed(seed))

    def mask(self) -> Tensor:
        """Which weights are kept in this pass."""
        return torch.rand(self.layer.weight.shape, generator=self.generator) >= self.p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.layer(x)
        return F.linear(x, self.layer.weight * self.mask() / (1 - self.p), self.layer.bias)


def drop_connected(p: float) -> Callable[[nn.Module, int], nn.Module]:
    """A change of the modern LeNet-5: its two hidden linear layers lose weights at random in training."""
    checks.number("p", p, low=0, below=1, try_="0.3")

    def change(model: nn.Sequential, seed: int) -> nn.Module:
        places = [i for i, layer in enumerate(model) if isinstance(layer, nn.Linear)][:-1]
        for i in places:
            model[i] = DropConnect(model[i], p, seed)
        return model

    return change


def deeper(model: nn.Sequential, seed: int) -> nn.Module:
    """A change of the modern LeNet-5: one more 3x3 convolution with ReLU after C3, as wide as C3."""
    place = [i for i, layer in enumerate(model) if isinstance(layer, nn.Conv2d)][-1] + 2
    width = model[place - 2].out_channels
    extra = nn.Conv2d(width, width, 3, padding=1)
    init.LAYERWISE["he"](extra.weight, torch.Generator().manual_seed(streams.seed(seed)))
    nn.init.zeros_(extra.bias)
    return nn.Sequential(*model[:place], extra, nn.ReLU(), *model[place:])


def train_changed(recipe: Recipe, data, change, test: str = "") -> tuple[nn.Module, list[dict]]:
    """`training.train_one` for a model that a recipe cannot say: change(fresh model, seed) is trained."""
    return training.train_one(recipe, data, test=test, prepare=lambda model: change(model, recipe.seed))


@dataclass(frozen=True)
class Trained:
    """Models and their runs under one name, seeds 0, 1, ..."""

    name: str
    recipe: Recipe
    models: list[nn.Module]
    runs: Runs

    @property
    def test(self) -> pd.Series:
        """Test accuracy of each seed, fractions."""
        return self.runs.table.set_index("seed")["test_accuracy"]


def trained(name: str, recipe: Recipe, data, *, seeds: int, change=None) -> Trained:
    """Train with the seeds 0, 1, ... and keep the models; the test set is read for a verdict on `name`."""
    recipes, about = recipe.vary(seed=range(seeds)), f"verdict on {name}"
    if change is None:
        pairs = engine.train_networks(recipes, data, test=about).values()
    else:
        pairs = [train_changed(r, data, change, about) for r in recipes]
    return Trained(name, recipe, [m for m, _ in pairs], Runs.from_curves(recipes, [c for _, c in pairs], data, "cpu"))


def differences(base: Trained, others: Iterable[Trained]) -> pd.DataFrame:
    """Paired differences in test accuracy, other minus base, seed by seed: setting, n, mean, low, high (95 %)."""
    rows = []
    for other in others:
        both = (other.test - base.test).dropna()
        i = Interval.of(both)
        rows.append({"setting": other.name, "n": i.n, "mean": i.mean, "low": i.low, "high": i.high})
    return pd.DataFrame(rows)


def provenance(trained: Iterable[Trained]) -> str:
    """The line of `Runs.provenance` for all their runs. Changed networks have the recipe of others, and count, too."""
    tables, curves = zip(*((t.runs.table, t.runs.curves) for t in trained), strict=True)
    return Runs(pd.concat(tables, ignore_index=True), pd.concat(curves, ignore_index=True)).provenance()


def gap(sentence: str, a: Trained, b: Trained, *, margin: float) -> Evidence:
    """Evidence that A's test accuracy is above B's by at least `margin`, paired over the seeds that both have."""
    both = (a.test - b.test).dropna()
    found, i = claims.above(sentence, both, margin=margin), Interval.of(both)
    told = f"{sentence}: {100 * i.mean:+.1f} points, 95 % CI [{100 * i.low:.1f}, {100 * i.high:.1f}], n = {i.n}."
    holds, p = found.holds, found.p
    if holds is None and i.high < margin:  # one-sided: a gain as large as the margin is excluded
        holds, p = False, None
    return Evidence(holds, told, i.n, p, found.outcome if holds == found.holds else "no gain")


def reaches(sentence: str, accuracy: Iterable[float], floor: float) -> Evidence:
    """Evidence that an accuracy lies above `floor`, told in percent."""
    found, i = claims.above(sentence, accuracy, zero=floor), Interval.of(accuracy)
    told = f"{sentence}: {100 * i.mean:.1f} %, 95 % CI [{100 * i.low:.1f}, {100 * i.high:.1f}], n = {i.n}."
    return Evidence(found.holds, told, found.n, found.p, found.outcome)


def opposite(evidence: Evidence) -> Evidence:
    """The same measurement as evidence for the contrary sentence."""
    return Evidence(None if evidence.holds is None else not evidence.holds, evidence.sentence, evidence.n, evidence.p)


def curves(base: Trained, others: dict[str, Trained]) -> pd.DataFrame:
    """Curves for an explorer: knob, setting ("as it is" or "changed"), seed, epoch and the accuracies."""
    parts = []
    for name, other in others.items():
        for word, t in (("as it is", base), ("changed", other)):
            frame = t.runs.frame()[["seed", "epoch", "train_accuracy", "val_accuracy"]]
            parts.append(frame.assign(knob=name, setting=word))
    return pd.concat(parts, ignore_index=True)


def stopped(runs: Runs, patience: int) -> pd.DataFrame:
    """Where early stopping would have ended each run: epoch kept, epoch of the end, validation loss kept and last.

    Its rule (`training.EarlyStop`) is applied to the recorded curves, so nothing is trained again.
    """
    rows = []
    for run, curve in runs.curves.groupby("run", sort=False):
        stop, ended = training.EarlyStop(patience), len(curve)
        for row in curve.to_dict("records"):
            if stop.see(row, lambda: None):
                ended = row["epoch"]
                break
        row = {"run": run, "kept": stop.row["epoch"], "ended": ended, "kept_loss": stop.row["val_loss"]}
        rows.append(row | {"last_loss": curve.iloc[-1]["val_loss"]})
    return pd.DataFrame(rows)


# --- what it can read


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of right answers in evaluation mode."""
    model.eval()
    return (model(x).argmax(-1) == y).float().mean().item()


def moved(x: Tensor, *, shift: float = 0.0, angle: float = 0.0) -> Tensor:
    """Images (n, 1, h, w) turned by `angle` degrees about their centre and moved right by `shift` pixels.

    Bilinear; what comes in from outside has the colour of the border.
    """
    turn = torch.deg2rad(torch.tensor(float(angle)))
    cos, sin = turn.cos().item(), turn.sin().item()
    right = 2 * shift / x.shape[-1]
    theta = torch.tensor([[cos, -sin, -right * cos], [sin, cos, -right * sin]]).expand(len(x), 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def moved_accuracy(groups: Iterable[Trained], data, *, shifts: Sequence, angles: Sequence, n: int = 300):
    """Accuracy on moved test images: rows training, seed, shift (pixels), angle (degrees), accuracy."""
    rows = []
    for group in groups:
        x, y = training.prepared(group.recipe, data).open_test(f"verdict on moved images, {group.name}")
        for shift in shifts:
            for angle in angles:
                there = moved(x[:n], shift=shift, angle=angle)
                for seed, model in enumerate(group.models):
                    row = {"training": group.name, "seed": seed, "shift": shift, "angle": angle}
                    rows.append(row | {"accuracy": accuracy(model, there, y[:n])})
    return pd.DataFrame(rows)


def window_accuracy(group: Trained, data, *, offsets: Sequence[int], n: int = 600) -> pd.DataFrame:
    """Reading a row of letters through a window that is `offset` pixels off: rows seed, offset, accuracy.

    Three test images stand side by side, so each letter has 28 pixels. Right is the letter whose centre is nearest to
    the centre of the window: at 14 pixels the window shows two halves.
    """
    x, y = training.prepared(group.recipe, data).open_test(f"verdict on words, {group.name}")
    n = min(n, len(y)) // 3 * 3
    x, y = x[:n], y[:n]
    words, middle = torch.cat([x[0::3], x[1::3], x[2::3]], -1), y[1::3]
    side, rows = x.shape[-1], []
    for offset in offsets:
        checks.integer("offset", offset, low=0, high=side // 2)
        seen = words[..., side + offset : 2 * side + offset]
        for seed, model in enumerate(group.models):
            rows.append({"seed": seed, "offset": offset, "accuracy": accuracy(model, seen, middle)})
    return pd.DataFrame(rows)


@torch.no_grad()
def feature_maps(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """What C1, S2, C3 and S4 of the modern form give for one image (1, h, w): {name: (maps, h, w)}, after ReLU."""
    x, found, names = image[None], {}, iter(LAYERS)
    model.eval()
    for module in model:
        x = module(x)
        if x.dim() == 4 and not isinstance(module, nn.Conv2d):
            found[next(names)] = x[0].clone()
    return found


# --- the record on MNIST

MODERN = Recipe(model="lenet5", pool="max", optimizer="adam", lr=0.002, schedule="cosine", batch_size=64, epochs=12)
ORIGINAL = Recipe(
    model="lenet5_1998", init="lecun_1998", loss="map_criterion", optimizer="adam", lr=0.001, schedule="cosine",
    batch_size=64, epochs=12,
)  # fmt: skip


def mnist_record(path, data, *, seeds: int = 8) -> Runs:
    """Train both forms on `data` and keep the runs, test scores too, in the file `path`; finished runs stay.

    The committed record was made by `mnist_record("chapters/records/lenet_mnist.zip", helpers.load("mnist"))`.
    """
    runs = engine.train(MODERN, data, seeds=seeds, save=path, test="verdict of the record: modern form")
    return runs + engine.train(ORIGINAL, data, seeds=seeds, save=path, test="verdict of the record: 1998 form")


def record_table(path) -> pd.DataFrame | None:
    """The record as a table: form, n, epochs, test error in percent (mean, lowest, highest), device, torch, minutes.

    None where the file is not there (an installed copy of `helpers` has no chapters).
    """
    runs = Runs.load(path, missing_ok=True)
    if not len(runs):
        return None
    t = runs.table.assign(error=100 * (1 - runs.table["test_accuracy"]), minutes=runs.table["seconds"] / 60)
    by = t.groupby(["model", "epochs", "device", "torch"], sort=False)
    told = by.agg(
        n=("seed", "size"), mean=("error", "mean"), lowest=("error", "min"), highest=("error", "max"),
        minutes=("minutes", "mean"),
    )  # fmt: skip
    return told.reset_index().rename(columns={"model": "form"})


def told_record(record: pd.DataFrame) -> str:
    """What the record says, form by form: errors, seeds, epochs, time."""
    forms = {"modern form": "lenet5", "form of 1998": "lenet5_1998"}
    rows = {name: r for name, form in forms.items() for _, r in record[record["form"] == form].iterrows()}
    errors = " and ".join(
        f"{r['mean']:.2f} % in the {name} (n = {r['n']}, {r['lowest']:.2f} to {r['highest']:.2f} %)"
        for name, r in rows.items()
    )
    times = " and ".join(f"{r['minutes']:.1f}" for r in rows.values())
    r = record.iloc[0]
    return (
        f"Errors on the 10,000 test images of MNIST: {errors}, after {r['epochs']} epochs or {times} minutes on one "
        f"core (torch {r['torch']})."
    )


# --- verdicts

MARK = 0.05  # "matters": five points of test accuracy, with 200 training images
FLOORS = {"digits": 0.85, "letters": 0.70}  # "does well": where guessing reads 10 % of digits and 4 % of letters


def structure() -> dict[str, dict[str, Evidence]]:
    """Evidence on the claims about shapes and counts (R3), from both forms as they are built here, for 32x32 input."""
    old, new = models.build("lenet5_1998", (1, 28, 28), 10), models.build("lenet5", (1, 28, 28), 10)
    table, modern = layer_table(old, (1, 28, 28)), layer_table(new, (1, 28, 28))
    kinds = {name: list(t["kind"].iloc[:-1]) for name, t in (("modern", modern), ("1998", table))}
    convolutions = {k: sum(x in ("Conv2d", "PartialConvolution") for x in v) for k, v in kinds.items()}
    linear = {k: v.count("Linear") for k, v in kinds.items()}
    shape, total = table["output"], {k: t.loc["all", "parameters"] for k, t in (("m", modern), ("o", table))}
    first, second = (int(shape[name].split("×")[0]) for name in ("C1", "C3"))
    after = {name: f"{name} gives {shape[a]}; after {b} it is {shape[b]}." for name, a, b in
             (("C1", "C1", "S2"), ("C3", "C3", "S4"))}  # fmt: skip
    drop, connect = _zeros()
    return {
        "LENET-04": {
            "the_modern_form": claims.exact(
                f"The modern form has {convolutions['modern']} convolutions and {linear['modern']} linear layers, "
                f"{total['m']:,} parameters.", (convolutions["modern"], linear["modern"]) == (2, 3),
            ),
            "the_form_of_1998": claims.exact(
                f"The form of 1998 has {convolutions['1998']} convolutions, {linear['1998']} linear layer, two "
                f"sub-sampling layers with weights and a layer of distances, {total['o']:,} trainable parameters.",
                (convolutions["1998"], linear["1998"]) == (2, 3),
            ),
        },
        "LENET-05": {
            "two_kernels": claims.exact(f"C1 has {first} kernels, C3 makes {second} maps.", first == second == 2),
            "max_pooling": claims.exact(
                f"S2 and S4 are of kind {kinds['1998'][1]}: a sum of four with a coefficient and a bias.",
                kinds["1998"][1] == "MaxPool2d",
            ),
        },
        "LENET-06": {"with_the_pooling": claims.exact(after["C1"], shape["S2"] == "6×28×28")},
        "LENET-07": {"with_the_pooling": claims.exact(after["C3"], shape["S4"] == "16×10×10")},
        "LENET-08": {
            "units": claims.exact(
                f"C5 gives {shape['C5'].split('×')[0]}, F6 gives {shape['F6']}, the output {shape['output']} values.",
                (shape["C5"].split("×")[0], shape["F6"], shape["output"]) == ("120", "84", "10"),
            )
        },
        "LENET-14": {
            "dropout_drops_weights": claims.exact(
                f"In one training pass dropout sets {100 * drop[0]:.0f} % of the units and {100 * drop[1]:.0f} % of "
                "the weights to zero.", drop[1] > 0,
            ),
            "dropconnect_is_dropout": claims.exact(
                f"DropConnect sets {100 * connect[1]:.0f} % of the weights and {100 * connect[0]:.0f} % of the units "
                "to zero.", connect[1] == 0,
            ),
        },
    }  # fmt: skip


def _zeros(p: float = 0.3) -> tuple[tuple[float, float], tuple[float, float]]:
    """(share of units, share of weights) at zero in one training pass of dropout, and of DropConnect."""
    linear = nn.Linear(400, 120)
    nn.init.ones_(linear.weight)  # so that none is zero by chance
    x = torch.ones(8, 400)
    unit = models.blocks.Dropout(p).train()
    connect = DropConnect(linear, p).train()
    dropped = (unit(linear(x)) == 0).float().mean().item(), (linear.weight == 0).float().mean().item()
    return dropped, ((connect(x) == 0).float().mean().item(), 1 - connect.mask().float().mean().item())


def measured(g: dict[str, Trained], letters: Trained, windows: pd.DataFrame, far: pd.DataFrame, data) -> dict:
    """Evidence on the claims that need training: {claim: {part: Evidence}}.

    `g` has the groups "many" and "base" and, by name, base with one change each; `windows` is a `window_accuracy`,
    `far` a `moved_accuracy` of base and "augmentation" at one shift and angle.
    """
    base, small = g["base"], training.prepared(g["base"].recipe, data)
    fit = [accuracy(m, small.x_train, small.y_train) for m in base.models]
    off = windows[windows["offset"] == windows["offset"].max()]["accuracy"]
    on = windows[windows["offset"] == 0]["accuracy"]
    apart = far.pivot(index="seed", columns="training", values="accuracy")
    names = {"learning_rate": "a tenth of the rate", "batch_size": "five times the batch",
             "weight_decay": "weight decay", "dropout": "dropout", "augmentation": "augmentation"}  # fmt: skip
    points = f"{100 * MARK:g} points or more of test accuracy"
    digits, alphabet = FLOORS["digits"], FLOORS["letters"]
    return {
        "LENET-09": {"digits_in_new_images": reaches("Test accuracy on digits", g["many"].test, digits)},
        "LENET-10": {
            "too_few_to_fit_the_training_images": opposite(reaches("Accuracy on its training images", fit, 0.95)),
            "more_images_do_not_help_it": opposite(
                gap("As many weights, ten times the images", g["many"], base, margin=MARK)
            ),
        },
        "LENET-11": {"digits": opposite(reaches("Test accuracy on digits", g["many"].test, digits)),
                     "letters": opposite(reaches("Test accuracy on the letters A to Z", letters.test, alphabet))},
        "LENET-12": {
            "single_characters": opposite(reaches("Test accuracy on the letters A to Z", letters.test, alphabet)),
            "letters_in_a_row_each_in_its_window": opposite(reaches("Middle letter of three", on, alphabet)),
            "letters_in_a_row_with_the_window_between_two": opposite(reaches("Middle letter of three", off, alphabet)),
        },
        "LENET-13": {
            "one_more_convolution_and_relu_gains": gap("One more layer", g["one more layer"], base, margin=MARK),
            "the_form_of_1998_has_few": claims.exact(
                f"It squashes {_squashes()} times on the way from the image to F6: after every layer.", _squashes() < 6
            ),
        },
        "LENET-15": {
            "on_moved_and_turned_images": claims.above(
                "Augmentation minus none, points of accuracy", 100 * (apart["augmentation"] - apart["base"]),
                margin=100 * MARK,
            ),
        },
        "LENET-16": {
            knob: changes(f"{checks.capital(word)}, a change of {points}", g[word], base, margin=MARK)
            for knob, word in names.items()
        },
    }  # fmt: skip


def changes(sentence: str, a: Trained, b: Trained, *, margin: float) -> Evidence:
    """Evidence that A differs from B in test accuracy by at least `margin`, in either direction, paired by seed."""
    both = (a.test - b.test).dropna()
    i = Interval.of(both)
    outcome = i.outcome(margin)
    holds = {"no detectable effect": False, "undecided": None}.get(outcome, True)
    told = f"{sentence}: {100 * i.mean:+.1f} points, 95 % CI [{100 * i.low:.1f}, {100 * i.high:.1f}], n = {i.n}."
    return Evidence(holds, told, i.n, None if holds is False else i.p, outcome)


def _squashes() -> int:
    return sum(isinstance(m, lenet.Squash) for m in models.build("lenet5_1998", (1, 28, 28), 10))


def settle(ledger, found: dict[str, dict[str, Evidence]]) -> None:
    """Put the evidence of `structure` or `measured` into the ledger."""
    for claim, parts in found.items():
        ledger.add(claim, **parts)


# --- a reader for the page

SIDE = 28


def upscaled(images: np.ndarray) -> np.ndarray:
    """Images (n, 8, 8) of 0..16 as (n, 28, 28) uint8: enlarged to 20x20, as in MNIST, in an empty frame."""
    x = torch.as_tensor(np.asarray(images), dtype=torch.float32)[:, None] / 16
    x = F.interpolate(x, size=(20, 20), mode="bilinear", align_corners=False)
    return (F.pad(x, (4, 4, 4, 4))[:, 0].clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def handwriting(*, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """scikit-learn's handwritten digits, upscaled: (images uint8, labels) of 1,000 training and 397 validation rows."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    rows = splits.split(y, how="stratified", validation=397, test=400, seed=seed)
    return [(upscaled(x[r].reshape(-1, 8, 8)), y[r]) for r in (rows.train, rows.validation)]


def reading_data(*, drawn: int, written: int, seed: int = 0):
    """A data set for a reader: `drawn` images of fonts and `written` handwritten ones; validation is handwritten."""
    checks.integer("written", written, low=0, high=1000, try_="1000")
    x, y, _ = glyphs.make(drawn, seed=seed)
    (hx, hy), held_out = handwriting(seed=seed)
    train = np.concatenate([x, hx[:written]])[:, None], np.concatenate([y, hy[:written]])
    parts = [train, (held_out[0][:, None], held_out[1])]
    name = "drawn and handwritten digits" if written else "drawn digits"
    return _data.build(name, parts, "0123456789", image_shape=(1, SIDE, SIDE))


def scale_of(data, raw: np.ndarray) -> tuple[float, float]:
    """(mean, sd) that turned the raw validation images `raw` (n, 28, 28) into `data.x_val`."""
    x, z = raw.astype(np.float64).ravel(), data.x_val.double().numpy().ravel()
    slope, start = np.polyfit(x, z, 1)
    return -start / slope, 1 / slope


def as_drawn(data, target) -> tuple[Tensor, Tensor]:
    """The validation images of `data` (28x28, whatever its scale) on the scale of `target`, and their labels."""
    raw, _ = handwriting()[1]
    mean, sd = scale_of(target, raw)
    x = data.x_val
    return ((x - x.min()) / (x.max() - x.min()) * 255 - mean) / sd, data.y_val


def quantised(model: nn.Module) -> tuple[list[dict], nn.Module]:
    """The weights of each layer as signed bytes with a scale for each unit, and the model that has these weights.

    Returns ([{"weight": base64 of int8, "scale": floats, "bias": floats, "shape": ints}, ...], model).
    """
    small, told = copy.deepcopy(model), []
    for layer in models.weight_layers(small):
        w = layer.weight.data.flatten(1)
        scale = w.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
        q = (w / scale).round().clamp(-127, 127)
        layer.weight.data = (q * scale).view_as(layer.weight)
        told.append(
            {
                "weight": base64.b64encode(q.to(torch.int8).numpy().tobytes()).decode(),
                "scale": [float(f"{v:.7g}") for v in scale.ravel().tolist()],
                "bias": [float(f"{v:.7g}") for v in layer.bias.tolist()],
                "shape": list(layer.weight.shape),
            }
        )
    return told, small


@dataclass(frozen=True)
class Canvas:
    """A field to draw a digit on, read in the page by a modern LeNet-5: no kernel, no network."""

    spec: dict

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {"text/html": self.page(), "text/plain": "A field to draw a digit on; it needs a page with JavaScript."}

    def page(self) -> str:
        """The field as HTML that stands alone."""
        script = pathlib.Path(__file__).with_name("lenet5.js").read_text(encoding="utf-8")
        tag = "digit-reader-" + hashlib.sha256(script.encode()).hexdigest()[:8]
        spec = html.escape(json.dumps(self.spec, separators=(",", ":")))
        fallback = "<p>The field to draw on needs JavaScript; in a notebook, run the cell.</p>"
        return f'<{tag} data-spec="{spec}">{fallback}</{tag}>\n<script>{script.replace("TAG", tag)}</script>'


def canvas(model: nn.Module, data, *, seed: int = 0) -> Canvas:
    """Put a modern LeNet-5 with ReLU and ten classes into the page, with a held-out handwritten example of each digit.

    `data` is what `reading_data` made and what the model was trained on. Raises ValueError for another network.
    """
    convolutions = [m for m in model if isinstance(m, nn.Conv2d)]
    pools = [type(m) for m in model if isinstance(m, POOLING)]
    known = len(convolutions) == 2 and len(pools) == 2 and any(isinstance(m, nn.ReLU) for m in model)
    if not known or len(models.weight_layers(model)) != 5:
        raise ValueError("model is not a modern LeNet-5 with ReLU: train one with Recipe(model='lenet5').")
    raw, labels = handwriting(seed=seed)[1]
    mean, sd = scale_of(data, raw)
    right = (model.eval()(data.x_val).argmax(-1) == data.y_val).numpy()
    chosen = [np.flatnonzero((labels == digit) & right) for digit in range(10)]
    picked = [raw[(rows if len(rows) else np.flatnonzero(labels == d))[0]] for d, rows in enumerate(chosen)]
    examples = [base64.b64encode(image.tobytes()).decode() for image in picked]
    layers, _ = quantised(model)
    pool = "max" if pools[0] is nn.MaxPool2d else "average"
    return Canvas({"layers": layers, "pool": pool, "mean": mean, "sd": sd, "examples": examples})
