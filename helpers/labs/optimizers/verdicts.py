"""The chapter on optimizers: what its tables show, in words, and the evidence that they are."""

from __future__ import annotations

import numpy as np
import pandas as pd

from helpers.claims import above, below, exact, share, shows
from helpers.labs.optimizers import (
    about,
    at_best_rate,
    cost_of_far_rate,
    difference,
    first_step_ratio,
    held_out_gain,
    largest_gap,
    log_gain,
    mean_text,
)

# --- sentences: what the tables show, in words


def _ranked(values: pd.Series, text: str = "{name} {value:.2g}") -> str:
    return ", ".join(text.format(name=name, value=value) for name, value in values.items())


def tell_walks(t: pd.DataFrame) -> str:
    """Which walk ends lowest at this setting, and which left the picture."""
    last = t[t["step"] == t["step"].max()].set_index("optimizer")["loss"]
    left, here = last[last.isna()].index.tolist(), last.dropna().sort_values()
    where = f"On the {t['surface'].iloc[0]} at the rate {t['lr'].iloc[0]:g}, after {t['step'].max()} steps"
    gone = f"; {', '.join(left)} left the picture" if left else ""
    return (
        f"{where}, {here.index[0]} is lowest (loss {here.iloc[0]:.2g}) and {here.index[-1]} highest "
        f"({here.iloc[-1]:.2g}){gone}."
    )


def tell_rises(t: pd.DataFrame) -> str:
    """Mean share of rising steps by batch size, at the start setting (already in percent)."""
    means = t.groupby("batch_size", sort=False)["rises"].mean()
    told = _ranked(means, "{value:.0f} % with {name}").replace("with all", "with all examples")
    return f"At the rate {t['lr'].iloc[0]:g} the share of steps that raise the full loss is {told} in a batch."


def tell_curves(t: pd.DataFrame) -> str:
    """Best and worst optimizer at the start rate."""
    means = t[t["epoch"] == t["epoch"].max()].groupby("optimizer")["val_accuracy"].mean().sort_values()
    return (
        f"At the rate {t['lr'].iloc[0]:g} {means.index[-1]} ends at {means.iloc[-1]:.1%} and {means.index[0]} at "
        f"{means.iloc[0]:.1%}; at another rate the order is another."
    )


def tell_valley(widths: pd.DataFrame) -> str:
    """Width of the good stretch of rates, optimizers from narrow to wide."""
    means = widths.groupby("optimizer")["decades"].mean().sort_values()
    n = widths["seed"].nunique()
    return (
        f"Rates within one point of the best, in decades (mean of {n} seeds): {_ranked(means, '{name} {value:.2f}')}."
    )


def tell_race(race) -> str:
    """Spread of the arms' means, and how many differ from the first arm."""
    means = 100 * race.scores.mean().sort_values()
    words = [race.outcome(race.arms[0], arm) for arm in race.arms[1:]]
    return (
        f"Tuned on equal terms, the means lie between {means.iloc[0]:.1f} % ({means.index[0]}) and "
        f"{means.iloc[-1]:.1f} % "
        f"({means.index[-1]}); {race.arms[0]} beats {words.count('helps')} of its {len(words)} rivals "
        f"by half a point or more, "
        f"n = {len(race.scores)} seeds."
    )


def tell_winners(winners: pd.DataFrame) -> str:
    """How the crown moves from seed to seed."""
    total, top = winners["wins"].sum(), winners.sort_values("wins", ascending=False)
    crowned = int((winners["wins"] > 0).sum())
    first = top.iloc[0]
    return (
        f"Over {total:.0f} single seeds, **{crowned} of {len(winners)}** optimizers would have been "
        f"crowned at least once. "
        f"The most frequent winner, {first['optimizer']}, wins {first['wins'] / total:.0%} of them, "
        f"and its place ranges from "
        f"{first['best rank']:.0f} to {first['worst rank']:.0f}."
    )


def tell_effective(named: pd.DataFrame) -> str:
    """Momentum against SGD at the same rate and at the same effective rate, after two epochs."""
    means = named[named["epoch"] == 2].groupby("run", sort=False)["val_accuracy"].mean()
    return (
        f"After two epochs: {_ranked(means, '{name} {value:.1%}')}. Equal effective rates are 0.03 "
        f"with momentum and 0.3 without."
    )


def tell_ravines(t: pd.DataFrame) -> str:
    """Turning steps by optimizer, along an axis."""
    means = t[t["degrees"] == 0].groupby("optimizer", sort=False)["flips"].mean()
    return f"Share of steps that turn round in a ravine along an axis: {_ranked(means, '{name} {value:.0%}')}."


def tell_tilt(t: pd.DataFrame) -> str:
    """What turning the ravine does to the final loss of the adaptive optimizers."""
    means = t.groupby(["optimizer", "degrees"])["log_loss"].mean().unstack()
    told = [
        f"{n} from {10 ** means.loc[n, 0]:.0e} to {10 ** means.loc[n, 45]:.0e}" for n in ("rmsprop", "adagrad", "adam")
    ]
    return (
        f"Turn the ravine by 45 degrees and the typical last loss of the adaptive optimizers changes: "
        f"{', '.join(told)}. "
        f"Momentum, which treats all directions alike, goes from {10 ** means.loc['momentum', 0]:.0e} to "
        f"{10 ** means.loc['momentum', 45]:.0e}. Adaptive steps know axes, not directions."
    )


def tell_floor(t: pd.DataFrame) -> str:
    """Where the fixed and the falling rate end above the optimum."""
    means = t[t["step"] == t["step"].max()].groupby("schedule")["excess"].mean()
    return (
        f"After {t['step'].max()} steps the fixed rate is {means['constant']:.1e} above the optimum, "
        f"the falling rate {means['falling']:.1e}."
    )


def tell_sparse(data, fits: dict) -> str:
    """Sparsity, the gain in training loss on sparse and dense data, and the accuracy on texts held out."""
    zero = (data.x_train == 0).double().mean().item()
    gain = {name: 10 ** -np.mean(log_gain(t, "adagrad", "sgd")) for name, t in fits.items()}
    told = _ranked(pd.Series(gain), "{value:.1f} times lower on {name}")
    new = [100 * v for v in held_out_gain(fits[data.name], "adagrad", "sgd")]
    return (
        f"In the texts {zero:.0%} of all entries are zero. With Adagrad the training loss is {told}. "
        f"On texts held out it is {mean_text(new, 1)} points of accuracy better than SGD (95 % "
        f"interval, n = {len(new)})."
    )


def tell_bowl(t: pd.DataFrame) -> str:
    """Smallest distance that each optimizer reaches over the rates, for the start setting."""
    best = t.groupby(["optimizer", "lr"])["error"].mean().groupby("optimizer").min()
    return (
        f"With the minimum {t['minimum'].iloc[0]}, the smallest distance over all rates is "
        f"{_ranked(best, '{name} {value:.2f}')}."
    )


def tell_wine(untreated, treated) -> str:
    """Accuracies of the 2 x 2: optimizer by scaling."""
    rows = (("raw inputs", untreated), ("standardized inputs", treated))
    told = "; ".join(
        f"{name}: Adam {c.scores['adam'].mean():.1%}, SGD {c.scores['sgd'].mean():.1%}" for name, c in rows
    )
    return f"Validation accuracy with tuned rates. {told}. On raw inputs, {untreated.sentence()}"


def tell_deep(sunk, shallow, scales: pd.DataFrame) -> str:
    """Deep sigmoid network by optimizer, the shallow one, and the gradient's shrinkage at the start."""
    ends = scales.groupby("layer")["gradient"].mean()
    return (
        f"Six sigmoid layers: {_ranked(sunk.scores.mean(), '{name} {value:.1%}')}. One sigmoid layer with Adagrad: "
        f"{shallow.table['val_accuracy'].mean():.1%}. Before training the first layer's gradient is "
        f"{ends.iloc[0] / ends.iloc[-1]:.0e} "
        f"of the last one's, whatever the optimizer: it rescales steps, it does not change gradients."
    )


def tell_decay(decays: dict) -> str:
    """The three comparisons of weight decay in words."""
    told = [
        f"{name.replace('_', ' ')}: {100 * c.interval().mean:+.1f} points "
        f"[{100 * c.interval().low:.1f}, {100 * c.interval().high:.1f}]"
        for name, c in decays.items()
    ]
    n = len(next(iter(decays.values())).scores)
    return (
        f"Weight decay against none, validation accuracy with tuned rates. {'; '.join(told)} (95 % intervals, n = {n})."
    )


def tell_gaps(gaps: dict) -> str:
    """What `decay_gaps` found."""
    return (
        f"Largest difference between the weights after 50 steps. SGD's `weight_decay` against an L2 penalty: "
        f"{gaps['sgd']:.0e}. Adam's `weight_decay` against an L2 penalty: {gaps['adam']:.0e}. AdamW's decay against "
        f"Adam with that penalty: **{gaps['adamw']:.2f}**."
    )


def tell_cycle(last: pd.Series) -> str:
    """Where the three methods stand at the end of `lessard_cycle`."""
    return (
        f"On one convex function the heavy ball never settles: after 200 steps it is {last['momentum']:.1f} away, "
        f"gradient descent {last['sgd']:.0e}, Nesterov at most {max(last['nesterov'], 1e-12):.0e}."
    )


def tell_reddi(end: pd.Series) -> str:
    """Where the walks of `reddi` end."""
    return (
        f"Adam ends at x = {end['adam']:+.2f}, AMSGrad at {end['AMSGrad']:+.2f}, SGD at "
        f"{end['sgd']:+.2f}, and Adam with "
        f"a slow memory at {end['adam, slow memory (0.999)']:+.2f}; +1 is the worst point and -1 the best."
    )


# --- evidence: each function writes the evidence of one experiment into the ledger; the rule is in its docstring


def judge_formulas(ledger, twins: pd.DataFrame, state: dict) -> str:
    """Exact checks (R3) in float64: equal means a difference of at most 1e-12 (of 1e-6 where a claim is tested)."""
    same, third = twins["largest difference"].max() < 1e-12, largest_gap("momentum", "nesterov")
    as_rmsprop = largest_gap("adam", "rmsprop", one={"beta1": 0.0, "beta2": 0.99}, memory={"t": 10**6})
    told = f"heavy-ball momentum, as torch has it, is a third kind: it differs from Nesterov by up to {third:.2g}."
    ledger.add("OPT-06", two_kinds=exact(told, not (same and third > 1e-6)))
    told = f"torch's Adagrad state equals the sum of squares (relative gap {state['adagrad_sum']:.0e}); "
    told += f"from their moving mean it is {state['adagrad_mean']:.0%} away."
    ledger.add("OPT-13", moving_mean=exact(told, state["adagrad_mean"] < 1e-6))
    told = f"both keep one number for each of {state['weights']} weights: Adagrad the sum of squares "
    told += f"(gap {state['adagrad_sum']:.0e}), RMSprop their moving mean (gap {state['rmsprop_mean']:.0e})."
    holds = state["shapes"] == 1 and max(state["adagrad_sum"], state["rmsprop_mean"]) < 1e-12
    ledger.add("OPT-16", second_moment_per_weight=exact(told, holds))
    told = f"torch's RMSprop state equals the moving mean (gap {state['rmsprop_mean']:.0e}); "
    told += f"from mean over step size it is {state['rmsprop_quotient']:.0f} times its own size away."
    ledger.add("OPT-17", divided_by_step_size=exact(told, state["rmsprop_quotient"] < 1e-6))
    told = (
        f"over {state['pairs']} pairs of weight and step Adagrad's rate rose in {state['adagrad_up']:.0%} and fell in "
    )
    told += f"{state['adagrad_down']:.0%}; RMSprop's rose in {state['rmsprop_up']:.0%}."
    ledger.add("OPT-14", does_not_decrease=exact(told, state["adagrad_down"] == 0))
    told = f"without momentum and start correction Adam is RMSprop: largest difference {as_rmsprop:.0e}."
    ledger.add("OPT-11", formula=exact(told, as_rmsprop < 1e-12))
    return (
        f"The written-out rules and torch's agree to rounding. In a real run Adagrad's effective rate, lr/√G, rose in "
        f"{state['adagrad_up']:.0%} of all pairs of weight and step and fell in "
        f"{state['adagrad_down']:.0%}; in the rest "
        f"it stood still. RMSprop's rate rose in {state['rmsprop_up']:.0%}: its mean can forget."
    )


def judge_steps(ledger, steps: pd.DataFrame) -> str:
    """R1 per seed, rate 0.1: fewer than one step in a hundred raises the loss. Full batch is the control, not SGD."""
    at = steps[steps["lr"] == 0.1].groupby("batch_size")["rises"]
    for size, name in (("1", "one_example"), ("8", "batch_of_8"), ("64", "batch_of_64")):
        told = f"steps in a hundred that raise the whole training loss, batch of {size}, rate 0.1"
        ledger.add("OPT-02", **{name: below(told, at.get_group(size), zero=1)})
    return (
        f"With all examples in every step and the rate 0.1, {at.get_group('all').mean():.0f} % of the "
        f"steps went up. The "
        "promise belongs to *gradient descent with a small rate*. For SGD it holds on average, not "
        "step by step: the loss "
        "of the minibatch goes down, that of all the others need not."
    )


def judge_widths(ledger, runs, widths: pd.DataFrame) -> str:
    """R1 on paired seeds: Adam's good stretch of rates is wider than SGD's, than momentum's; Adam at about 30 times
    its best rate loses less than one point (no rate to choose)."""
    over_sgd, far = difference(widths, "decades", "adam", "sgd"), cost_of_far_rate(runs, "adam", factor=30)
    wider = above("good stretch of rates, Adam minus SGD", over_sgd, unit=" decades")
    told = "accuracy that Adam loses at 30 times its best rate"
    ledger.add("OPT-08", less_sensitive_than_sgd=wider, no_rate_to_choose=below(told, far, zero=0.01))
    over_momentum = difference(widths, "decades", "adam", "momentum")
    wider_too = above("good stretch of rates, Adam minus momentum", over_momentum, unit=" decades")
    ledger.add("OPT-10", robust_to_the_rate_against_sgd=wider, robust_to_the_rate_against_momentum=wider_too)
    return (
        f"Adam minus SGD: {mean_text(over_sgd)} decades; Adam minus momentum: "
        f"{mean_text(over_momentum)}. At thirty times "
        f"its best rate Adam loses {100 * np.mean(far):.0f} points of accuracy. It still wants a rate from you."
    )


def judge_race(ledger, race, end: pd.Series) -> str:
    """R1 and R2 with a margin of half a point, test accuracy; on Reddi's problem Adam must end on the right side."""
    told = (
        f"where -1 is best, Adam ends at {end['adam']:+.2f}, SGD at {end['sgd']:+.2f}, AMSGrad at "
        f"{end['AMSGrad']:+.2f}."
    )
    ledger.add("OPT-10", beats_tuned_momentum=shows(race, "helps", "adam", "momentum"))
    ledger.add("OPT-10", safe_on_a_convex_problem=exact(told, end["adam"] < 0))
    ledger.add("OPT-19", digits_network=shows(race, "helps", "rmsprop", "adagrad"))
    return " ".join(race.sentence(*p) for p in (("adam", "momentum"), ("adam", "sgd"), ("rmsprop", "adagrad")))


def judge_momentum(ledger, bowl: pd.DataFrame, sprint, race, cycle: pd.Series) -> str:
    """OPT-05: momentum faster than SGD, both tuned: fewer steps on the quadratic, higher accuracy after two epochs.
    OPT-07: Nesterov better than heavy ball: steps on the quadratic, Lessard's function, short and finished training."""
    saved = difference(bowl, "steps", "momentum", "sgd")
    quadratic = below("steps of momentum minus steps of gradient descent, curvature ratio 1000", saved)
    ledger.add("OPT-05", ill_conditioned_quadratic=quadratic, network=shows(sprint, "helps", "momentum", "sgd"))
    more = below("steps of Nesterov minus steps of heavy ball", difference(bowl, "steps", "nesterov", "momentum"))
    told = f"after 200 steps the heavy ball is {cycle['momentum']:.1f} from the minimum, Nesterov at most "
    told += f"{max(cycle['nesterov'], 1e-12):.0e}."
    arrives = exact(told, cycle["nesterov"] < 1e-6 < cycle["momentum"])
    ledger.add("OPT-07", fewer_steps_on_a_quadratic=more, arrives_where_heavy_ball_circles=arrives)
    ledger.add("OPT-07", short_training=shows(sprint, "helps", "nesterov", "momentum"))
    ledger.add("OPT-07", finished_network=shows(race, "helps", "nesterov", "momentum"))
    return sprint.sentence("momentum", "sgd") + " " + sprint.sentence("nesterov", "momentum")


def judge_ravines(ledger, turned: pd.DataFrame) -> str:
    """OPT-11: Adam turns round less often than SGD, own best rates. OPT-03: SGD turns in more than half its steps."""
    for degrees, name in ((0, "ravine_along_an_axis"), (45, "ravine_turned_by_45_degrees")):
        fewer = difference(turned[turned["degrees"] == degrees], "flips", "adam", "sgd")
        ledger.add("OPT-11", **{name: below("share of turning steps, Adam minus SGD", fewer)})
    flips = turned[(turned["degrees"] == 45) & (turned["optimizer"] == "sgd")]["flips"]
    ledger.add("OPT-03", oscillates_in_a_ravine=above("share of SGD's steps that turn round", flips, zero=0.5))
    return tell_tilt(turned)


def judge_stuck(ledger, ends: pd.DataFrame) -> str:
    """R4, bound one run in ten: SGD often stuck with 3 and with 32 hidden units; Adam seldom stuck with 3."""
    at = {(r.width, r.optimizer): (int(r.stuck), int(r.n)) for r in ends.itertuples()}
    for width in (3, 32):
        told = f"SGD runs stuck with {width} hidden units"
        ledger.add("OPT-03", **{f"stuck_with_{width}_units": share(told, *at[width, "sgd"], at_least=0.1)})
    ledger.add("OPT-08", avoids_local_minima=share("Adam runs stuck, 3 hidden units", *at[3, "adam"], at_most=0.1))
    told = {k: f"{stuck} of {n}" for k, (stuck, n) in at.items()}
    return (
        f"Width decides. With 3 hidden units {told[3, 'sgd']} SGD runs and {told[3, 'adam']} Adam runs ended above the "
        f"best; with 32 units {told[32, 'sgd']} SGD runs did."
    )


def judge_optimum(ledger, softmax: pd.DataFrame, pairs: pd.DataFrame) -> str:
    """OPT-21: within 0.001 of the optimal loss; and two trained networks answer differently on under 1 % of images."""
    last = softmax[softmax["step"] == softmax["step"].max()].groupby("schedule")["excess"]
    for schedule in ("falling", "constant"):
        told = f"training loss above the L-BFGS optimum, {schedule} rate"
        ledger.add("OPT-21", **{f"convex_{schedule}_rate": below(told, last.get_group(schedule), zero=0.001)})
    ledger.add(
        "OPT-21", one_solution_for_a_network=below("share of images with two answers", pairs["differ"], zero=0.01)
    )
    return (
        f"Two networks that differ in the seed alone end with a training loss of at most "
        f"{pairs['train_loss'].max():.2g}, "
        f"and yet give different answers on {pairs['differ'].mean():.1%} of the validation images. "
        f"There is no *the* optimum."
    )


def judge_sparse(ledger, sparse: pd.DataFrame, dense: pd.DataFrame) -> None:
    """OPT-12: Adagrad fits sparse data faster than SGD (log10 training loss, own best rates); gains more there than on
    dense data; and predicts texts held out better by half a point."""
    gain, control = log_gain(sparse, "adagrad", "sgd"), log_gain(dense, "adagrad", "sgd")
    more, new = [a - b for a, b in zip(gain, control, strict=True)], held_out_gain(sparse, "adagrad", "sgd")
    ledger.add("OPT-12", fits_faster=below("log10 of the training loss, Adagrad minus SGD, sparse words", gain))
    ledger.add("OPT-12", gains_more_than_on_dense_data=below("the same, words minus digits", more))
    better = above("accuracy on texts held out, Adagrad minus SGD", new, margin=0.005)
    ledger.add("OPT-12", predicts_new_texts_better=better)


def judge_bowls(ledger, still: pd.DataFrame, moving: pd.DataFrame) -> None:
    """OPT-18: RMSprop wobbles less than Adagrad, at one rate and at own best rates. OPT-19: it is closer to a minimum
    that rests, and to one that moves, own best rates."""
    wobble = difference(still[still["lr"] == 0.1], "wobble", "rmsprop", "adagrad")
    own = difference(at_best_rate(still, "error"), "wobble", "rmsprop", "adagrad")
    ledger.add("OPT-18", same_rate=below("wobble near the minimum, RMSprop minus Adagrad, rate 0.1", wobble))
    ledger.add("OPT-18", own_best_rates=below("the same, each at its best rate", own))
    for name, table in (("minimum_at_rest", still), ("moving_minimum", moving)):
        gap = difference(at_best_rate(table, "error"), "error", "rmsprop", "adagrad")
        ledger.add("OPT-19", **{name: below("distance to the minimum, RMSprop minus Adagrad, own best rates", gap)})


def judge_wine(ledger, untreated, treated) -> None:
    """OPT-22: Adam beats SGD on raw inputs; and there comes within one point of SGD on standardized inputs."""
    gap = untreated.scores["adam"] - treated.scores["sgd"]
    fixed = above("accuracy of Adam on raw inputs minus SGD on standardized inputs", gap, zero=-0.01)
    ledger.add("OPT-22", helps_on_raw_inputs=shows(untreated, "helps", "adam", "sgd"), as_good_as_fixing_inputs=fixed)


def judge_deep(ledger, sunk, shallow) -> None:
    """OPT-15: Adagrad gets further than SGD; and to within five points of a shallow network (solves it)."""
    gap = sunk.scores["adagrad"].to_numpy() - shallow.table["val_accuracy"].to_numpy()
    solves = above("accuracy of Adagrad, deep net minus shallow net", gap, zero=-0.05)
    ledger.add("OPT-15", gets_further_than_sgd=shows(sunk, "helps", "adagrad", "sgd"), solves_it=solves)


def judge_words(ledger, after: dict) -> None:
    """OPT-09, OPT-20: exact checks. OPT-01 is historical: cited, not measured."""
    told = (
        f"after 100 real steps the betas are still {after['betas']} and the rate {after['lr']}; "
        f"what varies is the step "
    )
    told += f"of each weight (1/sqrt(v), 95th over 5th percentile: {after['spread']:.0f})."
    ledger.add("OPT-09", rate_and_momentum_adjusted=exact(told, after["betas"] != (0.9, 0.999)))
    ratio, plain = first_step_ratio("adagrad"), first_step_ratio("sgd")
    told = f"for gradients 1000 and 1 Adagrad's first steps have the ratio {ratio:.3f}, SGD's {plain:.0f}."
    ledger.add("OPT-20", one_step_size_per_weight=exact(told, abs(ratio - 1) < 1e-6))
    ledger.ill_posed("OPT-20")
    told = "cited, not measured: residual networks were trained by SGD with momentum (He et al. 2016)."
    ledger.add("OPT-01", image_networks_of_the_2010s=exact(told, True, n=0))
    told = "cited, not measured: BERT was trained by Adam with weight decay (Devlin et al. 2019)."
    ledger.add("OPT-01", language_models=exact(told, False, n=0))


def judge_decay(ledger, gaps: dict, decays: dict) -> None:
    """OPT-04: for SGD decay is an L2 penalty (R3); it helps by half a point or more in each situation (R1)."""
    told = f"SGD with decay equals SGD with an L2 penalty (difference {gaps['sgd']:.0e})."
    ledger.add("OPT-04", same_as_an_l2_penalty=exact(told, gaps["sgd"] < 1e-12))
    for name, comparison in decays.items():
        ledger.add("OPT-04", **{name: about("weight decay 0.03 against none", shows(comparison, "helps"))})
