"""The chapter on batch normalization: the evidence of each experiment; each function has its rule in its docstring."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from helpers import models
from helpers.claims import Evidence, above, below, exact
from helpers.compare import TUNING_SEED
from helpers.labs.batch_normalization import BN, batch_norm, imbalance, largest_gap, pairs, remember, tuned


def gain(sentence: str, values, *, least: float = 0.0) -> Evidence:
    """Evidence that differences of accuracy (fractions, one per seed) lie above zero by at least `least`; in points."""
    return above(sentence, [100 * v for v in values], margin=100 * least, unit=" points")


def no_loss(sentence: str, values, *, allowed: float = 0.005) -> Evidence:
    """Evidence that differences of accuracy lie above minus `allowed`: that nothing worth naming is lost; in points."""
    return above(sentence, [100 * v for v in values], zero=-100 * allowed, unit=" points")


def judge_formulas(ledger, data) -> None:
    """Exact checks (R3) in float64, on one batch: BN-01, 02, 03, 06, 07, 11, 12 and 13. Equal means within 1e-10."""
    draw = torch.Generator().manual_seed(0)
    rows = data.x_train.double()[:256]
    rows = rows + 0.1 * torch.randn(rows.shape, generator=draw, dtype=rows.dtype)  # no pixel is always the same
    x, image = rows[:32].flatten(1), rows[:32]
    ones, zeros = torch.ones(x.shape[1]).to(x), torch.zeros(x.shape[1]).to(x)
    layer, layer2 = nn.BatchNorm1d(x.shape[1]).double(), nn.BatchNorm2d(image.shape[1]).double()
    y = batch_norm(x, ones, zeros)
    gap = max(largest_gap(y, layer(x)), largest_gap(batch_norm(image, ones[:1], zeros[:1]), layer2(image)))
    off = max(y.mean(0).abs().max().item(), (y.var(0, correction=0) - 1).abs().max().item())
    row = y.mean(1).abs().max().item()
    try:
        layer(x[:1])
        alone = "is accepted"
    except ValueError:
        alone = "is refused (ValueError)"
    told = f"By hand and torch agree to {gap:.0e}, 1d and 2d; means are 0 and variances 1 within {off:.0e}."
    ledger.add("BN-01", each_feature_over_the_batch=exact(told, gap < 1e-10 and off < 1e-2))
    ledger.add("BN-12", batch_mean_and_variance=exact(told, gap < 1e-10))
    told = f"The mean of one normalized input is up to {row:.2f} from 0; in training a single input {alone}."
    ledger.add("BN-01", each_input_by_itself=exact(told, row < 1e-6))

    outside, wrong = ((y < 0) | (y > 1)).double().mean().item(), (x.mean(0) - rows.flatten(1).mean(0)).abs().max()
    told = f"{100 * outside:.0f} % of the normalized values lie outside 0 to 1; they reach from {y.min():.1f} to "
    ledger.add("BN-02", between_0_and_1=exact(told + f"{y.max():.1f}.", outside == 0))
    told = f"The mean of a batch of 32 is up to {wrong:.2f} away from that of {len(rows)} rows."
    ledger.add("BN-02", the_true_mean=exact(told, wrong.item() < 1e-6))
    told = f"Before the scale and shift every feature has mean 0 and variance 1, within {off:.0e}."
    ledger.add("BN-06", same_mean_and_variance=exact(told, off < 1e-2))

    _judge_weights(ledger, x, draw)
    _judge_statistics(ledger, rows, layer)


def _judge_weights(ledger, x: Tensor, draw) -> None:
    w = torch.randn(x.shape[1], 64, generator=draw, dtype=x.dtype)
    b, c = torch.zeros(64).to(x).requires_grad_(), torch.randn(32, 64, generator=draw, dtype=x.dtype)
    one, none, outs, grads = torch.ones(64).to(x), torch.zeros(64).to(x), {}, {}
    for factor in (1, 10):
        wide = (factor * w).requires_grad_()
        outs[factor] = batch_norm(x @ wide + b, one, none, eps=0.0)
        grads[factor], gb = torch.autograd.grad((outs[factor] * c).sum(), (wide, b))
    change, ratio = largest_gap(outs[10], outs[1]), (grads[1].norm() / grads[10].norm()).item()
    told = f"Weights times 10 change the output by {change:.0e}; their gradient is {ratio:.1f} times smaller."
    ledger.add("BN-03", the_output_of_the_layer=exact(told, change < 1e-10))
    plain = largest_gap(x @ (10 * w), x @ w)
    told = f"Weights times 10: the output changes by {plain:.0f} without the layer and by {change:.0e} with it."
    ledger.add("BN-07", the_same_function_of_the_weights=exact(told, (plain > 1e-6) == (change > 1e-6)))
    before = [type(a).__name__ for name in ("mlp", "cnn", "lenet5") for a in _before(name)]
    told = f"{len(before)} normalizations in our three networks, all behind {' or '.join(sorted(set(before)))}."
    ledger.add("BN-11", in_our_networks=exact(told, set(before) <= {"Linear", "Conv2d"}))
    largest = grads[1].abs().max()
    told = f"The gradient of a bias before the layer is {gb.abs().max():.0e}, of a weight up to {largest:.1f}."
    ledger.add("BN-11", the_bias_before_it_does_nothing=exact(told, gb.abs().max().item() < 1e-10))


def _judge_statistics(ledger, rows: Tensor, layer: nn.Module) -> None:
    x, draw = rows[:32].flatten(1), torch.Generator().manual_seed(1)
    other = torch.cat([x[:1], rows[32:63].flatten(1)])
    mates, still = largest_gap(layer(other)[0], layer(x)[0]), largest_gap(layer.eval()(other)[0], layer(x)[0])
    told = f"Other neighbours in the batch change an output by {mates:.2f} in training, by {still:.0f} in evaluation."
    ledger.add("BN-07", the_same_output_for_the_same_input=exact(told, mates < 1e-6))

    ones, zeros = torch.ones(x.shape[1]).to(x), torch.zeros(x.shape[1]).to(x)
    fresh, mean, var = nn.BatchNorm1d(x.shape[1]).double(), zeros, ones
    for part in rows[:96].flatten(1).split(32):
        fresh(part)
        mean, var = remember(mean, part.mean(0)), remember(var, part.var(0, correction=1))
    kept = max(largest_gap(mean, fresh.running_mean), largest_gap(var, fresh.running_var))
    told = f"After three batches the stored values equal 0.9 old + 0.1 new, the variance over n - 1, to {kept:.0e}."
    ledger.add("BN-12", a_running_average=exact(told, kept < 1e-10))
    fresh.weight.data, fresh.bias.data = (torch.randn(x.shape[1], generator=draw, dtype=x.dtype) for _ in range(2))
    gap = largest_gap(batch_norm(x, fresh.weight, fresh.bias), fresh(x))
    told = f"With a random scale and shift, by hand and torch agree to {gap:.0e}."
    ledger.add("BN-12", then_scale_and_shift=exact(told, gap < 1e-10))
    fresh.eval()
    hand = fresh.weight * (x - fresh.running_mean) / (fresh.running_var + fresh.eps).sqrt() + fresh.bias
    told = f"In evaluation torch normalizes with the stored values, to {largest_gap(hand, fresh(x)):.0e}."
    ledger.add("BN-13", no_normalization_in_evaluation=exact(told, largest_gap(hand, fresh(x)) > 1e-10))


def _before(name: str) -> list[nn.Module]:
    """The layer that stands before each batch normalization of this network."""
    model = models.build(name, (1, 28, 28), 10, depth=8, width=8, norm="batch")
    rows = [list(m) for m in model.modules() if isinstance(m, nn.Sequential)]
    return [a for row in rows for a, b in itertools.pairwise(row) if isinstance(b, BN)]


def usable(table: pd.DataFrame, norm: str, *, limit: float = 1.0) -> pd.Series:
    """log10 of the largest rate with a training loss below `limit` in the last epoch, per seed (first weights as
    published); half a decade below the grid where there is none."""
    rows = table[(table["norm"] == norm) & (table["factor"] == 1) & (table["seed"] < TUNING_SEED)]
    largest = rows[rows["train_loss"] < limit].groupby("seed")["lr"].max()
    return np.log10(largest.reindex(rows["seed"].unique(), fill_value=table["lr"].min() / 10**0.5)).sort_index()


def judge_sweep(ledger, table: pd.DataFrame) -> pd.DataFrame:
    """BN-03, 06 and 08 from `sweep`. Returns the scores at the tuned rates.

    BN-03: bad starts cost less: at a tenth and at ten times the weights, each arm at its best rate, batch norm is ahead
    by 2 points; training does not depend on the size: at one rate (0.1) ten times the weights lose at most 2 points.
    BN-06: ahead by 2 points at equal epochs. BN-08: the largest rate with a training loss below 1 is half a decade
    higher; and every rate of the grid is usable.
    """
    scores, (low, mid, high) = tuned(table, ["norm", "factor"]), sorted(table["factor"].unique())
    for name, factor in (("a_tenth_of_the_weights", low), ("ten_times_the_weights", high)):
        d = pairs(scores, {"norm": "batch", "factor": factor}, {"norm": "none", "factor": factor})
        told = f"First weights times {factor:g}, each at its best rate, batch norm minus none"
        ledger.add("BN-03", **{name: gain(told, d, least=0.02)})
    spare = table[(table["seed"] < TUNING_SEED) & (table["lr"] == 0.1)]
    d = pairs(spare, {"norm": "batch", "factor": high}, {"norm": "batch", "factor": mid}, "val_accuracy")
    told = f"With batch norm at one rate (0.1), first weights times {high:g} minus times {mid:g}"
    ledger.add("BN-03", training_at_one_rate=no_loss(told, d, allowed=0.02))
    d = pairs(scores, {"norm": "batch", "factor": mid}, {"norm": "none", "factor": mid})
    ledger.add("BN-06", efficiency=gain("Five layers, batches of 50, batch norm minus none", d, least=0.02))
    rates = {norm: usable(table, norm) for norm in ("batch", "none")}
    told = "log10 of the largest usable rate, batch norm minus none"
    ledger.add("BN-08", larger_rates=above(told, rates["batch"] - rates["none"], margin=0.5))
    told = f"log10 of the largest rate tried ({table['lr'].max():g}) over the largest usable one with batch norm"
    ledger.add("BN-08", any_rate=below(told, np.log10(table["lr"].max()) - rates["batch"], zero=0.1))
    return scores


def judge_small(ledger, scores: pd.DataFrame) -> None:
    """BN-06: with batches of two, batch norm is ahead of none by 2 points, each at its best rate."""
    small = int(scores["batch_size"].min())
    d = pairs(scores, {"norm": "batch", "batch_size": small}, {"norm": "none", "batch_size": small})
    ledger.add("BN-06", with_batches_of_two=gain("Batches of 2, batch norm minus none", d, least=0.02))


def judge_gradients(ledger, table: pd.DataFrame, *, deep: int, bad: tuple[int, float]) -> None:
    """BN-05: batch norm brings the gradient of layer 1 nearer to the last layer's, by at least one power of ten:
    with weights of the wrong size, and with weights of the published size in a deep network."""
    for name, (depth, factor) in {"first_weights_too_small": bad, "a_deep_network_well_started": (deep, 1.0)}.items():
        plain, batch = (imbalance(table, arm, depth, factor).abs() for arm in ("no normalization", "batch norm"))
        told = f"{depth} layers, weights times {factor:g}: powers of ten between the gradients of the first and last "
        told += f"layer, {plain.mean():.1f} without and {batch.mean():.1f} with batch norm; difference"
        ledger.add("BN-05", **{name: above(told, plain - batch, margin=1)})


def judge_watch(ledger, plain: pd.DataFrame, batch: pd.DataFrame, shaken: pd.DataFrame, gammas: list[Tensor]) -> None:
    """BN-04, 08 and 09 from `watch`, one rate per table.

    BN-09: scale and shift leave 1 and 0; the mean of a unit moves by at most half as much as without; and the
    stability is the reason: noise that moves it again costs at least half of batch norm's lead. BN-08: after one
    epoch the stored statistics score within 1 point of new ones. BN-04: two readings, shown only."""
    end = batch["epoch"].max()

    def of(table, column, epoch=None):
        rows = table[table["epoch"] > 0] if epoch is None else table[table["epoch"] == epoch]
        return rows.groupby("seed")[column].mean()

    moved = torch.cat([(g - 1).abs() for g in gammas]).mean().item()
    ledger.add("BN-09", scaled_and_shifted=exact(f"After training the scales are {moved:.2f} from 1.", moved > 1e-3))
    d = np.log10(of(batch, "drift")) - np.log10(of(plain, "drift"))
    ledger.add("BN-09", more_stable=below("log10 of the drift of the units' means, with over without", d, margin=0.3))
    a, b, c = (of(t, "val_accuracy", end) for t in (batch, shaken, plain))
    told = f"Noise after the layer (drift {of(shaken, 'drift').mean():.2f}, without any layer "
    told += f"{of(plain, 'drift').mean():.2f}) costs {100 * (a - b).mean():.1f} of the {100 * (a - c).mean():.1f} "
    told += "points that batch norm is ahead; that cost minus half of the lead"
    ledger.add("BN-09", stability_is_the_reason=gain(told, (a - b) - (a - c) / 2))
    d = of(batch, "val_accuracy", 1) - of(batch, "val_again", 1)
    told = "After one epoch, stored statistics minus new ones"
    ledger.add("BN-08", the_stored_statistics_keep_up=no_loss(told, d, allowed=0.01))
    d = np.log10(of(batch, "roughness")) - np.log10(of(plain, "roughness"))
    ledger.add("BN-04", the_loss_is_smoother=below("log10 of the range of the loss along a step, with over without", d))


def judge_spread(ledger, plain: Sequence[float], batch: Sequence[float]) -> None:
    """BN-04, another reading: two starts end at training losses that are closer together (disjoint pairs of seeds)."""
    gaps = [np.abs(np.subtract(v[0 : len(v) // 2 * 2 : 2], v[1::2])) for v in (np.asarray(batch), np.asarray(plain))]
    told = "Difference of the final training losses of two starts, with minus without"
    ledger.add("BN-04", starts_end_alike=below(told, gaps[0] - gaps[1]))


def judge_modes(ledger, name: str, table: pd.DataFrame) -> None:
    """BN-13: leaving out the normalization of a trained network loses at most half a point."""
    d = table["no normalization"] - table["stored statistics"]
    told = f"{name}, without normalization minus with stored statistics"
    ledger.add("BN-13", **{f"leaving_it_out_of_{name}": no_loss(told, d)})


def judge_cards(ledger, found: dict) -> str:
    """BN-14, 15 and 16 from `two_cards`; BN-15: a layer with synchronization takes less time (R7). What to say."""
    if found["reason"]:
        return f"Not measured here: {found['reason']}"
    s, o = found["sync"], found["local"]
    told = f"Two processes with common statistics equal one process with all rows: outputs to {s['out']:.0e}, input "
    told += f"gradients to {s['grad']:.0e}; with statistics of their own, {o['out']:.1f} and {o['grad']:.1f} off."
    same = max(s["out"], s["grad"]) < 1e-10 < min(o["out"], o["grad"])
    ledger.add("BN-14", the_statistics_of_all_cards=exact(told, same))
    ratio = np.log10(found["seconds"]["sync"] / found["seconds"]["local"])
    told = f"log10 of the time of a layer, forward and back, with over without ({10 ** ratio.median():.1f} times)"
    ledger.add("BN-15", time_of_a_layer=below(told, ratio))
    told = f"The loss of the first card has a gradient of up to {found['crossing_sync']:.2f} with respect to inputs on "
    told += f"the second card with common statistics, and of {found['crossing_local']:.0f} without."
    ledger.add("BN-16", cards_do_not_touch_each_other=exact(told, found["crossing_sync"] == 0))
    return f"`torch.nn.SyncBatchNorm` on a CPU tensor: {found['torch']}"


def judge_ghosts(ledger, scores: pd.DataFrame) -> None:
    """BN-15, in steps instead of seconds: after the same steps, common statistics are ahead by at least 2 points."""
    for size in sorted(scores["per_card"].unique()):
        a, b = ({"per_card": size, "statistics": how} for how in ("synchronized", "per card"))
        told = f"{size} examples a card, accuracy after the same steps, common minus own statistics"
        name = f"after_the_same_steps_with_{size}_examples_a_card"
        ledger.add("BN-15", **{name: gain(told, pairs(scores, a, b), least=0.02)})


def judge_overfit(ledger, compared: dict) -> None:
    """BN-10: batch norm gains at least the margin (1 point) of test accuracy where the training data is learned by
    heart. A part fails when the interval excludes such a gain."""
    for name, c in compared.items():
        i = c.interval("batch", "none")
        told = f"{name.replace('_', ' ').capitalize()}, batch norm minus none"
        found = gain(told, c.scores["batch"] - c.scores["none"], least=c.margin)
        if found.holds is None and i.high < c.margin:
            found = dataclasses.replace(found, holds=False, p=None, outcome="no gain")
        ledger.add("BN-10", **{name: found})
