"""The chapter on data splits: sentences and pictures whose numbers come from the tables."""

from __future__ import annotations

import numpy as np
import pandas as pd

from helpers import plots
from helpers.labs.data_splits import look_alikes, rows_needed
from helpers.show import Sentence, say

LABELS = {
    "error": "test score minus truth (points)",
    "share": "share of draws (%)",
    "how": "drawn",
    "n": "rows you own",
    "missing": "classes lost",
    "scheme": "scheme",
    "candidates": "models tried",
    "optimism": "too high by (points)",
    "test_rows": "test rows",
    "chosen_on": "winner chosen on",
    "leaked": "share of the test rows that leaked (%)",
    "accuracy": "accuracy (%)",
    "block": "block of rows in file order",
    "speed": "drift (degrees a year)",
    "level": "confidence (%)",
    "true": "true accuracy",
    "n_test": "test rows",
    "w": "half-width of the interval (points)",
}


def note(table, replicate: str, about: str = "1,797 digits of scikit-learn") -> str:
    """The line of provenance under a figure: what the rows are and how often it was drawn."""
    return f"{about} · {table[replicate].nunique()} {replicate}s at each setting · CPU · NumPy {np.__version__}"


def told_errors(draws, n: int) -> str:
    """What the first explorer shows at n rows."""
    said = []
    for how, error in draws[(draws["n"] == n) & draws["possible"]].groupby("how")["error"]:
        low, high = error.quantile(0.05), error.quantile(0.95)
        said.append(f"{how}: nine in ten test scores lie between {low:+.0f} and {high:+.0f} points of the truth")
    return f"With {n:,} rows, a fifth of them for testing, {'; '.join(said)}."


def told_nonsense(leaked) -> Sentence:
    """Training score and fresh score of a memorizer on random labels."""
    at = leaked[(leaked["labels"] == "random labels") & (leaked["leaked"] == 100)]
    on = 100 * at.groupby("scored on")["accuracy"].mean()
    return say(f"Scored on rows that it has seen, nearest neighbour is right {on['the test set']:.0f} % of the time. "
               f"On rows that it has not seen: {on['unused rows']:.0f} %, which is guessing.")  # fmt: skip


def ratios(draws, n_least: int = 100) -> np.ndarray:
    """Distance of the two mean images, stratified over random, for each draw (median over the sizes)."""
    kept = draws[draws["possible"] & (draws["n"] >= n_least)]
    wide = kept.pivot(index=["draw", "n"], columns="how", values="feature_distance").dropna()
    return (wide["stratified"] / wide["random"]).groupby("draw").median().to_numpy()


def plot_distances(draws, axes) -> None:
    """Distance of the labels (left) and of the mean images (right) between the parts, against n, both axes log."""
    shown = draws[draws["possible"] & (draws["n"] >= 50)].rename(columns={"how": "drawn"})
    titles = {"label_distance": "Labels: total variation", "feature_distance": "Images: distance of the means"}
    for ax, (value, title) in zip(axes, titles.items(), strict=True):
        plots.plot_lines(shown, x="n", y=value, color="drawn", logx=True, logy=True, ax=ax)
        ax.set(title=title, xlabel="rows you own (n)", ylabel="distance")


def plot_leaks(leaked, axes) -> None:
    """Accuracy on the test set and on unused rows against the share leaked, one panel for each kind of labels."""
    for ax, (kind, rows) in zip(axes, leaked.groupby("labels", sort=False), strict=True):
        plots.plot_lines(rows, x="leaked", y="accuracy", color="scored on", ax=ax)
        ax.set(title=kind.capitalize(), xlabel="test rows leaked (%)", ylabel="accuracy (%)")


def told_distances(draws) -> str:
    """What the two panels on distances show."""
    kept = draws[draws["possible"]]
    mean = kept.groupby(["how", "n"])[["label_distance", "feature_distance"]].mean()
    small, large = (mean.loc[("random", n), "label_distance"] for n in (50, 1000))
    left = 100 * np.median(ratios(draws))
    return (f"Random splits: the label distance is {small:.2f} at 50 rows and {large:.2f} at 1,000. Stratified "
            f"splits end near 0, but the distance of the mean images keeps {left:.0f} % of its size.")  # fmt: skip


def counted(draws, value: str, most: int) -> pd.DataFrame:
    """Share of draws (%) at each whole number 0..most of `value`, for each n and way."""
    rows = []
    for (n, how), group in draws[draws["possible"]].groupby(["n", "how"], sort=False):
        share = 100 * np.bincount(np.minimum(group[value].astype(int), most), minlength=most + 1) / len(group)
        rows += [{"n": n, "how": how, value: k, "share": v} for k, v in enumerate(share)]
    return pd.DataFrame(rows)


def told_missing(draws, n: int) -> str:
    """Share of splits of n rows whose test part lacks a class."""
    at = draws[(draws["n"] == n) & draws["possible"]]
    share = 100 * (at["missing"] > 0).groupby(at["how"]).mean()
    return (f"Of the splits of {n} rows, {share['random']:.0f} % of the random ones and "
            f"{share['stratified']:.0f} % of the stratified ones leave a class out of the test part.")  # fmt: skip


def told_rare(rare) -> Sentence:
    """Share of splits in which a rare class has no row in the test part."""
    share = 100 * rare.groupby(["rare_rows", "how"])["missed"].mean().unstack()
    said = [f"{n} rows: {r['random']:.0f} % against {r['stratified']:.0f} %" for n, r in share.iterrows()]
    return say(f"How often the rare class has no test row, random against stratified, by its size. {'; '.join(said)}. "
               f"A class whose share of the test part rounds to zero can be lost either way.")  # fmt: skip


def told_balance(kept) -> str:
    """The share of the rare class in the data and in the training parts."""
    low, high = kept["in_train"].min(), kept["in_train"].max()
    return f"Of 12 rare rows the 80 % for training hold {low} to {high} in every stratified split; its share gives 9.6."


def told_recall(twelve) -> Sentence:
    """Recall of the rare class and the spread of its rows, both ways."""
    at = twelve.groupby("how")
    mean, sd, rows = 100 * at["recall"].mean(), 100 * at["recall"].std(), at["in_train"].std()
    said = [f"{how}: recall {mean[how]:.0f} % with a standard deviation of {sd[how]:.0f} points, and {rows[how]:.1f} "
            f"rows of spread in the training part" for how in mean.index]  # fmt: skip
    return say("; ".join(said).capitalize() + ".")


def told_estimates(table, n: int) -> str:
    """Root mean square error of each scheme at n rows."""
    squared = table[table["n"] == n].assign(squared=lambda t: t["error"] ** 2)
    rms = (squared.groupby("scheme", sort=False)["squared"].mean() ** 0.5).to_dict()
    said = ", ".join(f"{name} {value:.1f}" for name, value in rms.items())
    return f"Typical error (root mean square, points) with {n} rows: {said}."


def told_refit(table) -> Sentence:
    """Accuracy lost by stopping at 90 % of the rows, by n."""
    said = [f"{-loss:.1f} points at {n} rows" for n, loss in table.groupby("n")["loss"].mean().items()]
    return say(f"What training once more on all rows gains over the model of 90 %: {', '.join(said)}.")


def told_winner(chosen, rows: int, candidates: int) -> str:
    """Optimism of the winner, by what it was chosen on."""
    at = chosen[(chosen["test_rows"] == rows) & (chosen["candidates"] == candidates)]
    mean = at.groupby("chosen_on")["optimism"].mean()
    return (f"With {rows} test rows and {candidates} models, the winner's test score is "
            f"{mean['the test set']:+.1f} points off when the test set chose it, and "
            f"{mean['a validation set']:+.1f} when a validation set did.")  # fmt: skip


def told_leak(leaked) -> str:
    """What a quarter of the test rows does when it leaks."""
    gap = leaked[leaked["leaked"] == 25].groupby("labels")["gap"].mean()
    return (f"With a quarter of the test rows leaked, the test set promises {gap['random labels']:.0f} points "
            f"too much on random labels and {gap['real labels']:.1f} on real ones.")  # fmt: skip


def told_look_alikes() -> Sentence:
    """How often the nearest look-alike stands close by in the file."""
    near, chance = look_alikes()
    return say(f"For {100 * near:.0f} % of the digits, the most similar image of the same class stands within 69 "
               f"rows in the file. In a shuffled file it would be {100 * chance:.0f} %.")  # fmt: skip


def plot_blocks(blocks, axes) -> None:
    """Accuracy by block of the file: one panel per model, circles for shuffled folds, squares for whole blocks."""
    for ax, (model, rows) in zip(axes, blocks.groupby("model", sort=False), strict=True):
        for i, (name, each) in enumerate(rows.groupby("folds", sort=False)):
            ax.plot(each["block"], 100 * each["accuracy"], "os"[i], linestyle=plots.DASHES[i], linewidth=1,
                    color=plots.PALETTE[i], label=name)  # fmt: skip
        ax.set(title=model.capitalize(), xlabel=LABELS["block"], ylabel="accuracy (%)", ylim=(78, 101))
        ax.legend()


def told_blocks(blocks) -> str:
    """Mean accuracy of both kinds of folds, by model."""
    mean = 100 * blocks.groupby(["model", "folds"], sort=False)["accuracy"].mean().unstack()
    said = [f"{model}: shuffled folds {row['shuffled']:.1f} %, whole blocks {row['whole blocks']:.1f} %"
            for model, row in mean.iterrows()]  # fmt: skip
    return "; ".join(said).capitalize() + "."


def told_fonts(fonts) -> Sentence:
    """Accuracy by font family, both kinds of folds."""
    mean = 100 * fonts.groupby("folds")["accuracy"].mean()
    gap = fonts.groupby(["family", "folds"])["accuracy"].mean().unstack()
    worst = (gap["random rows"] - gap["whole families"]).idxmax()
    return say(f"Glyphs: random rows promise {mean['random rows']:.1f} %, unseen font families deliver "
               f"{mean['whole families']:.1f} %. The gap is widest for the family {worst}.")  # fmt: skip


def told_drift(moved, speed: int = 90) -> str:
    """Optimism of both splits at one speed."""
    mean = moved[moved["speed"] == speed].groupby("how")["optimism"].mean()
    return (f"At {speed} degrees a year a random split promises {mean['random']:.1f} points too much, a time split "
            f"{mean['time']:+.1f}.")  # fmt: skip


def told_curves(curves) -> str:
    """Last accuracies of the network that is too free."""
    last = curves[(curves["regime"] == "too free") & (curves["epoch"] == curves["epoch"].max())]
    mean = 100 * last.groupby("part")["accuracy"].mean()
    return (
        f"Too free: training ends at {mean['training']:.0f} %, validation at {mean['validation']:.0f} %, "
        f"fresh rows at {mean['fresh rows']:.0f} %."
    )


def told_regimes(three, stopped, ends) -> Sentence:
    """Diagnoses and what the remedies give."""
    right = int((three["said"] == three["regime"]).sum())
    wider = (ends["about right"] - ends["too small"]).mean()
    return say(f"The rule names {right} of {len(three)} runs as they were designed. Where it says *too small*, a "
               f"wider network gains {wider:.0f} points on fresh rows. Where it says *too free*, stopping at the best "
               f"validation epoch changes the accuracy on fresh rows by {stopped.mean():+.1f} points.")  # fmt: skip


def plot_spread(varied, axes) -> None:
    """Every run's score as a dot, by what was varied: own test part on the left, common rows on the right."""
    names = list(varied["varied"].unique())
    low = 100 * varied[["own", "common"]].to_numpy().min() - 0.5
    high = 100 * varied[["own", "common"]].to_numpy().max() + 0.5
    for ax, (value, title) in zip(axes, {"own": "Own test part", "common": "600 common rows"}.items(), strict=True):
        for i, name in enumerate(names):
            each = 100 * varied.loc[varied["varied"] == name, value]
            across = i + 0.3 * (np.arange(len(each)) / len(each) - 0.5)
            ax.plot(across, each, "os^"[i], color=plots.PALETTE[i], alpha=0.55, markersize=5)
        ax.set(ylim=(low, high), ylabel="accuracy (%)", title=title)
        ax.set_xticks(range(len(names)), [n.replace(" of the ", "\nof the ") for n in names])


def told_spread(varied) -> str:
    """Standard deviations by source, for both scores."""
    sd = 100 * varied.groupby("varied", sort=False)[["own", "common"]].std()
    own, common = (", ".join(f"{name} {v:.2f}" for name, v in sd[c].items()) for c in ("own", "common"))
    return f"Standard deviation in points on the own test part: {own}. On the common rows: {common}."


def told_learning(runs, target: float = 0.95) -> str:
    """The first size whose mean validation accuracy reaches the target."""
    mean = runs.table.groupby("n_train")["val_accuracy"].mean()
    first = mean[mean >= target]
    reach = f"{100 * target:.0f} % is " + (f"reached at {first.index[0]:.0f} rows" if len(first) else "not reached")
    return (f"Validation accuracy rises from {100 * mean.iloc[0]:.1f} % with {mean.index[0]:.0f} training rows to "
            f"{100 * mean.iloc[-1]:.1f} % with {mean.index[-1]:.0f}; {reach}.")  # fmt: skip


def told_rows_needed() -> str:
    """The price of a narrow interval."""
    one, tenth = rows_needed(0.9, 0.01), rows_needed(0.9, 0.001)
    return f"At 90 % accuracy and 95 % confidence, ±1 point takes {one:,} test rows and ±0.1 point takes {tenth:,}."
