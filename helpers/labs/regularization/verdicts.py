"""The chapter on regularization: from tables to evidence. The rules stand in the chapter, before each call."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch

from helpers import optim
from helpers.claims import Ledger, above, below, exact
from helpers.labs.regularization import extra_gradient, gap
from helpers.labs.regularization.masks import Masks
from helpers.recipe import Recipe
from helpers.runs import Runs


def same(sentence: str, difference: float, tolerance: float = 1e-6):
    """Evidence of an equality (R3): the sentence gets the largest difference appended."""
    return exact(f"{sentence}: largest difference {difference:.0e}.", bool(difference < tolerance))


def settle_linear(ledger: Ledger, f: dict, df: pd.DataFrame, elastic: pd.DataFrame) -> None:
    """REG-04, 05, 06, 08 (first part), 10, 11, 02 and 27 (first parts) from `linear_facts` and the two tables."""
    hit = [abs(size / t - 1) < 1e-6 for t, size in f["free"]]
    told = ", ".join(f"{size:.2f} for {t:.2f}" for t, size in f["free"])
    one, two = f["sizes"]
    ledger.add(
        "REG-04",
        as_a_penalty=exact(f"The same strength leaves {one:.3f} on one half of the rows and {two:.3f} on the other; "
                           "no threshold is set anywhere.", abs(one - two) < 1e-6),
        as_a_constraint=exact(f"Sum of squares for four thresholds: {told}. Equal in {sum(hit)} of {len(hit)}.",
                              all(hit)),
    )  # fmt: skip
    ledger.add(
        "REG-05",
        absolute_values=same("Lasso against least squares within the same sum of |w|", f["l1_constraint"]),
        squares=same("Ridge against least squares within the same sum of w²", f["l2_constraint"]),
    )
    ledger.add(
        "REG-06",
        soft_threshold=same("Lasso with orthonormal columns against the soft threshold", f["soft"]),
        one_value_or_zero=exact(f"{f['soft_zeros']} weights are 0; the others have {f['distinct']} different sizes.",
                                f["distinct"] <= 1),
    )  # fmt: skip
    ledger.ill_posed("REG-06")
    ledger.add("REG-08", linear_model=same("Lasso from 20 random starts", f["starts"]))
    ledger.add(
        "REG-10",
        both_penalties=same("scikit-learn's elastic net against proximal steps on the formula", f["elastic"]),
        l1_is_one_end=same("Elastic net with all weight on L1 against the lasso", f["elastic_l1"]),
    )
    ledger.add("REG-02", changes_the_minimum=exact(
        f"Ridge by descent with and without momentum ends at the same weights (difference {f['momentum']:.0e}).",
        bool(f["momentum"] > 1e-6)))  # fmt: skip
    falls, wrong = (df["df"].diff().dropna() < 0).all(), (df["df"] - df["trace"]).abs().max()
    ledger.add("REG-27", complexity=exact(
        f"Effective degrees of freedom fall from {df['df'].iloc[0]:.1f} to {df['df'].iloc[-1]:.1f} as the strength "
        f"grows; formula and trace agree within {wrong:.0e}.", bool(falls and wrong < 1e-6)))  # fmt: skip
    wide = elastic.pivot(index="repeat", columns="penalty", values=["overlap", "distance", "r2"])
    net, lasso, ridge = ({k: wide[k][p] for k in ("overlap", "distance", "r2")} for p in
                         ("elastic net", "L1 (lasso)", "L2 (ridge)"))  # fmt: skip
    told = "Elastic net minus {}, {}"
    ledger.add(
        "REG-11",
        stabler_choice_than_lasso=above(told.format("lasso", "overlap of chosen columns"),
                                        net["overlap"] - lasso["overlap"], margin=0.05),
        stabler_weights_than_ridge=below(told.format("ridge", "distance of the weights"),
                                         net["distance"] - ridge["distance"], margin=0.1),
        predicts_better_than_lasso=above(told.format("lasso", "R² on new rows"), net["r2"] - lasso["r2"], margin=0.02),
        predicts_better_than_ridge=above(told.format("ridge", "R² on new rows"), net["r2"] - ridge["r2"], margin=0.02),
    )  # fmt: skip


def settle_terms(ledger: Ledger, data) -> pd.DataFrame:
    """REG-26, REG-28 and two parts of REG-03 from gradients; returns the table of what each method adds."""
    base = Recipe(depth=2, width=32)
    methods = {"L1": base.but(l1=0.01), "L2": base.but(weight_decay=0.1), "dropout": base.but(dropout=0.5)}
    methods |= {"batch normalization": base.but(norm="batch")}
    varies = {name: extra_gradient(r, data) for name, r in methods.items()}
    for name, size in varies.items():
        told = f"What {name} adds to the gradient differs between two batches by up to {size:.0e}."
        ledger.add("REG-26", **{name.replace(" ", "_"): exact(told, size < 1e-9)})
    for name, gap_ in penalty_gaps().items():
        told = f"torch's step against the gradient of the penalty, {name}"
        ledger.add("REG-28", **{name.replace(" ", "_"): same(told, gap_)})
    ledger.add("REG-03", L2=same("One SGD step with an L2 penalty against shrinking the weights by the factor "
                                 "1 - lr x strength, then the step", decay_gap()))  # fmt: skip
    return pd.DataFrame({"adds the same on every batch": {k: "yes" if v < 1e-9 else "no" for k, v in varies.items()}})


def penalty_gaps(strength: float = 0.1, lr: float = 0.5) -> dict[str, float]:
    """One step of torch's SGD under L1 and L2 as this book applies them, against autograd of the written-out loss."""
    start = torch.tensor([1.5, -0.7, 0.2], dtype=torch.float64)
    written = {"L1, sum of absolute values": lambda w: strength * w.abs().sum()}
    written |= {"L2, half the sum of squares": lambda w: strength / 2 * w.square().sum()}
    gaps = {}
    for (name, penalty), field in zip(written.items(), ("l1", "weight_decay"), strict=True):
        p, w = (start.clone().requires_grad_() for _ in range(2))
        optimizer = optim.make("sgd", [p], Recipe(lr=lr, **{field: strength}))
        (3 * p).sum().backward()
        optimizer.step()
        ((3 * w).sum() + penalty(w)).backward()
        gaps[name] = (p - (w - lr * w.grad)).abs().max().item()
    return gaps


def decay_gap(strength: float = 0.1, lr: float = 0.5) -> float:
    """One step of torch's SGD with an L2 penalty against: shrink all weights by 1 - lr strength, then step."""
    start, slope = torch.tensor([1.5, -0.7, 0.2], dtype=torch.float64), torch.tensor([3.0, -1.0, 0.5])
    p = start.clone().requires_grad_()
    optimizer = optim.make("sgd", [p], Recipe(lr=lr, weight_decay=strength))
    (slope * p).sum().backward()
    optimizer.step()
    return (p - (start * (1 - lr * strength) - lr * slope)).abs().max().item()


def chosen(runs: Runs, field: str, **where) -> float:
    """The value of a field with the best mean validation accuracy."""
    return runs.where(**where).table.groupby(field)["val_accuracy"].mean().idxmax()


def settle_strength(ledger: Ledger, runs: Runs, looks: pd.DataFrame, best: float, strong: float) -> None:
    """REG-01, 09 and the rest of 27 from the grid of strengths: at validation's choice, and at far too much."""
    t, noisy = runs.table, {"label_noise": 0.2}
    told = "Test accuracy, strength {:g} minus none, {}"
    small = np.log(looks.pivot(index="seed", columns=["label_noise", "weight_decay"], values="size"))[0.2]
    ledger.add(
        "REG-01",
        limits_the_weights=below("ln of the sum of squares, with the penalty minus without", small[best] - small[0.0]),
        noisy_labels=above(told.format(best, "a fifth of the labels wrong"),
                           gap(t, "test_accuracy", "weight_decay", best, 0.0, **noisy), margin=0.005),
        clean_labels=above(told.format(best, "clean labels"),
                           gap(t, "test_accuracy", "weight_decay", best, 0.0, label_noise=0.0), margin=0.005),
        increased_tenfold=above(told.format(strong, "a fifth of the labels wrong"),
                                gap(t, "test_accuracy", "weight_decay", strong, 0.0, **noisy), margin=0.005),
    )  # fmt: skip
    looks = looks.assign(lognorms=np.log(looks["norms"]))
    at = {"field": "weight_decay", "b": 0.0, **noisy}
    robust = above("Accuracy on images with noise, moderate strength minus none",
                   gap(looks, "noisy_accuracy", a=best, **at), margin=0.005)  # fmt: skip
    broken = above(f"Accuracy on images with noise, strength {strong:g} minus none",
                   gap(looks, "noisy_accuracy", a=strong, **at), margin=0.005)  # fmt: skip
    ledger.add(
        "REG-09",
        smoother=below("Roughness of the first layer (2 = independent weights), with the penalty minus without",
                       gap(looks, "roughness", a=best, **at), margin=0.2),
        lower_complexity=below("ln of the product of the layers' norms, with the penalty minus without",
                               gap(looks, "lognorms", a=best, **at)),
        more_robust=robust, more_robust_at_ten_times_the_strength=broken,
    )  # fmt: skip
    ledger.add("REG-27", more_robust=robust, more_robust_at_ten_times_the_strength=broken)


def settle_zeros(ledger: Ledger, looks: pd.DataFrame, runs: Runs, strength: float, middle: float, bulge) -> None:
    """REG-07 and the rest of REG-08 from the grid of L1: zeros at `strength`, their price at the strength `middle`."""
    arms = {"L2": looks[looks["weight_decay"] > 0]}
    for name, how, step in (("L1_gradient_SGD", "sgd", "gradient"), ("L1_gradient_Adam", "adam", "gradient"),
                            ("L1_proximal", "sgd", "proximal")):  # fmt: skip
        arms[name] = looks[(looks["optimizer"] == how) & (looks["l1_step"] == step) & (looks["l1"] == strength)]
    for name, rows in arms.items():
        told = f"Exact zeros among the weights: {100 * rows['zero'].mean():.1f} % on average (smaller than 0.001: "
        told += f"{100 * rows['tiny'].mean():.0f} %)."
        ledger.add("REG-07", **{name: exact(told, bool((rows["zero"] > 0.1).all()), n=len(rows))})
    t = runs.table.assign(kind=runs.table["l1"].astype(str) + runs.table["l1_step"])[runs.table["weight_decay"] == 0]
    lost = gap(t[t["optimizer"] == "sgd"], "test_accuracy", "kind", f"{middle}proximal", "0.0gradient")
    ledger.add("REG-07", without_loss=above("Test accuracy, proximal L1 minus none (a loss of 2 points is allowed)",
                                            lost, zero=-0.02))  # fmt: skip
    ledger.add("REG-08", network=exact(
        f"Half-way between two trained networks the penalised loss lies above the mean of theirs in "
        f"{sum(b > 0 for b in bulge)} of {len(bulge)} pairs (by {np.mean(bulge):.2f} on average): not convex.",
        bool(max(bulge) <= 0), n=len(bulge)))  # fmt: skip


def settle_momentum(ledger: Ledger, equal: pd.DataFrame) -> None:
    """The rest of REG-02: validation accuracy at equal training loss, momentum minus plain, margin 2 points."""
    told = "Validation accuracy at the same training loss, momentum minus plain gradient descent"
    ledger.add("REG-02", less_over_fitting=above(told, (equal["momentum"] - equal["sgd"]).dropna(), margin=0.02))


def best_share(runs: Runs, score: str = "test_accuracy") -> pd.DataFrame:
    """The share of dropout with the best score, for each seed and label noise (rows) and width (columns)."""
    by = runs.table.pivot(index=["label_noise", "seed", "width"], columns="dropout", values=score)
    return by.idxmax(axis=1).unstack("width")


def size_ranks(best: pd.DataFrame) -> list[float]:
    """Spearman's rank correlation of width and best share, per seed, over the widths and all label noises."""
    out = []
    for _, rows in best.groupby("seed"):
        long = rows.melt(var_name="width", value_name="share")
        out.append(long["width"].corr(long["share"], method="spearman") if long["share"].nunique() > 1 else 0.0)
    return out


def settle_sizes(ledger: Ledger, runs: Runs, small: int, large: int) -> None:
    """REG-12, 14, 15 and 20 from the grid of width, share and label noise, on test accuracy."""
    t, noisy = runs.table, {"label_noise": 0.2}

    def differ(width, a, b, **where):
        told = f"Test accuracy, {width} units, dropout {a:g} minus {b:g}"
        told += ", clean labels" if where.get("label_noise") == 0 else ", a fifth of the labels wrong"
        return told, gap(t, "test_accuracy", "dropout", a, b, width=width, **where)

    ranks, clean = size_ranks(best_share(runs)), {"label_noise": 0.0}
    ledger.add("REG-12", large_network=above(*differ(large, 0.5, 0.0, **noisy), margin=0.005),
               small_network=above(*differ(small, 0.7, 0.0, **clean), margin=0.005))  # fmt: skip
    told = "Rank correlation of the width with the share of dropout that does best"
    ledger.add("REG-14", small_network_more_dropout=above(*differ(small, 0.7, 0.2, **clean), margin=0.005),
               best_share_falls_with_size=below(told, ranks))  # fmt: skip
    ledger.add("REG-15", large_network_less_dropout=above(*differ(large, 0.2, 0.7, **noisy), margin=0.005),
               best_share_falls_with_size=below(told, ranks))  # fmt: skip
    ledger.add("REG-20", small_network=below(*differ(small, 0.7, 0.0, **clean), margin=0.005))


def settle_masks(ledger: Ledger, noisy: pd.DataFrame, clean: pd.DataFrame, node: dict, facts: dict) -> None:
    """REG-03 (rest), 13, 16, 17, 18, 19 and 21 from `habits` with noisy and with clean labels, and `node_check`."""
    looks = {
        "noisy": noisy.assign(units=noisy["without_hidden"] / noisy["accuracy"],
                              pixels=noisy["without_inputs"] / noisy["accuracy"], logsize=np.log(noisy["size"])),
        "clean": clean.assign(pixels=clean["without_inputs"] / clean["accuracy"], logsize=np.log(clean["size"])),
    }  # fmt: skip

    def differ(labels, column, a="every step", b="none"):
        return gap(looks[labels], column, "way", a, b)

    told = "ln of the network's sum of squares, dropout minus none, "
    ledger.add("REG-03", dropout_in_linear_regression=same(
        "Loss averaged over every mask against loss plus a weighted sum of squares", facts["dropout"]),
        dropout_in_a_network_clean_labels=below(told + "clean labels", differ("clean", "logsize")),
        dropout_in_a_network_noisy_labels=below(told + "noisy labels", differ("noisy", "logsize")))  # fmt: skip
    first, last = (Masks().draw(k, 1000, 0, [64, 1000], 100)[1].eq(0).float().mean().item() for k in (0, 999))
    ledger.add("REG-13",
               noise_falls=exact(f"Share of zeros in the first step {first:.3f}, in the last {last:.3f}.",
                                 last < first / 2),
               letting_it_fall_is_better=above("Validation accuracy, share falling to 0 minus constant",
                                               differ("noisy", "accuracy", "share falls to 0"
                                                      ) - differ("noisy", "accuracy"), margin=0.005))  # fmt: skip
    ledger.add("REG-16",
               torch_keeps_its_mask=exact(
                   f"Two passes of torch's layer have different masks; {node['rows']} examples have "
                   f"{node['different_rows']} different masks.", not node["passes_differ"]),
               every_fifth_step_is_as_good=above("Validation accuracy, a mask at every fifth step minus at every step",
                                                 differ("noisy", "accuracy", "every 5th step", "every step"),
                                                 margin=0.005))  # fmt: skip
    kept = "Share of the accuracy that is left without half of the {}, {} labels, dropout minus none"
    ledger.add("REG-17",
               hidden_units=above(kept.format("hidden units", "noisy"), differ("noisy", "units"), margin=0.05),
               pixels_noisy_labels=above(kept.format("pixels", "noisy"), differ("noisy", "pixels"), margin=0.05),
               pixels_clean_labels=above(kept.format("pixels", "clean"), differ("clean", "pixels"), margin=0.05),
               )  # fmt: skip
    ledger.add("REG-18", outputs_are_zero=exact(f"With p = 0.5, ones become {node['values']}.",
                                                node["values"] == [0.0, 2.0]),
               same_as_its_weights=same("A unit's output at 0 against its outgoing weights at 0",
                                        node["unit_or_weights"]))  # fmt: skip
    plain = noisy[noisy["way"] == "none"]["accuracy"]
    ledger.add("REG-19", without_dropout_nothing_is_learned=below(
        "Validation accuracy without dropout, the same data in every epoch, against guessing", plain,
        zero=0.1))  # fmt: skip
    ledger.add("REG-21", over_confident=above("Confidence minus accuracy, dropout minus none",
                                              differ("noisy", "excess"), margin=0.01))  # fmt: skip
    ledger.ill_posed("REG-19", "REG-21")


def log_epochs(runs: Runs, target: float, share: float) -> np.ndarray:
    """ln of the epochs to a validation accuracy with this share of dropout over those without, a value per seed.

    Runs that never get there count with all epochs that they had.
    """
    epochs = np.log(runs.epochs_to("val_accuracy", target).clip(upper=runs.table["epochs"].max()).to_numpy())
    return gap(runs.table.assign(needed=epochs), "needed", "dropout", share, 0.0)


def settle_cost(ledger: Ledger, counts: pd.DataFrame, epochs: Iterable[float]) -> None:
    """REG-22: the counted work of a step, and the epochs to a target (ln, dropout minus none, one value per seed)."""
    some = counts[counts["p"].notna() & (counts["p"] > 0)]
    told = f"A step makes {', '.join(str(v) for v in some['calls'])} calls and {some['numbers'].iloc[0]:,} numbers "
    ledger.add("REG-22", share_changes_the_cost_of_a_step=exact(
        told + f"for p = {', '.join(f'{p:g}' for p in some['p'])}.", some["numbers"].nunique() > 1),
        share_changes_the_epochs=above("ln of the epochs to the target, p = 0.7 minus none", epochs,
                                       margin=0.1))  # fmt: skip
