"""Chapter 7, batch size, gradient accumulation, clipping and freezing. Tables in, tables out."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from helpers import checks, losses, models, optim, owndata, stacks, streams, training
from helpers.claims import above, below, exact, shows, worded
from helpers.recipe import Recipe

# --- batch size


def seconds_per_epoch(recipe: Recipe, data, batch_sizes, *, repeats: int = 20, warm_up: int = 5) -> pd.DataFrame:
    """Time of one pass over the data: rows repeat, one column for each batch size, in seconds.

    Steps are timed one by one, the batch sizes in turn, so that a busy moment hits all of them alike (rule R7).
    """
    model, loss = training.fresh_model(recipe, data), losses.make(recipe)
    optimizer, rows = optim.make(recipe.optimizer, model.parameters(), recipe), []
    for repeat in range(warm_up + repeats):
        row = {"repeat": repeat - warm_up}
        for size in batch_sizes:
            x, y = data.x_train[:size], data.y_train[:size]
            started = time.perf_counter()
            for _ in training.fit(model, loss, optimizer, [(x, y)], lambda step: None):
                pass
            row[size] = (time.perf_counter() - started) * data.n_train / len(y)
        rows += [row] if repeat >= warm_up else []
    return pd.DataFrame(rows).set_index("repeat")


def log_ratio(times: pd.DataFrame, a, b) -> list[float]:
    """log10 of time a over time b, for the medians of eight groups of repeats: robust to single interruptions."""
    groups = np.array_split(np.arange(len(times)), min(8, len(times)))
    return [float(np.log10(times[a].iloc[g].median() / times[b].iloc[g].median())) for g in groups]


def gradient_noise(recipe: Recipe, data, batch_sizes, *, seeds: int, draws: int = 1000) -> pd.DataFrame:
    """The gradient of a random batch around the gradient of all examples, before training.

    Rows seed, batch_size, variance (mean squared distance), expected (that of one example / B, corrected for drawing
    without replacement: (n - B) / (n - 1)), bias (distance of the mean gradient of a whole epoch, relative).
    """
    rows, n = [], data.n_train
    for seed in range(seeds):
        model = training.fresh_model(recipe.but(seed=seed), data).double()
        state = {k: v.detach() for k, v in model.named_parameters()}

        def value(params, x, y, model=model):
            return losses.make(recipe)(functional_call(model, params, (x[None],)), y[None])

        each = vmap(grad(value), in_dims=(None, 0, 0))(state, data.x_train.double(), data.y_train)
        g = torch.cat([v.flatten(1) for v in each.values()], 1)
        mean, pick = g.mean(0), torch.Generator().manual_seed(streams.seed(seed))
        one = (g - mean).square().sum(1).mean().item()
        for size in batch_sizes:
            weights = torch.zeros(draws, n, dtype=g.dtype)
            chosen = torch.rand(draws, n, generator=pick).argsort(1)[:, :size]
            weights.scatter_(1, chosen, 1 / size)
            found = (weights @ (g - mean)).square().sum(1).mean().item()
            epoch = torch.randperm(n, generator=pick)[: n // size * size].view(-1, size)
            bias = ((g[epoch].mean(1).mean(0) - mean).norm() / mean.norm()).item() if n % size == 0 else np.nan
            expected = one / size * (n - size) / (n - 1)
            rows.append({"seed": seed, "batch_size": size, "variance": found, "expected": expected, "bias": bias})
    return pd.DataFrame(rows)


# --- memory and accumulation


def saved_bytes(model: nn.Module, x: Tensor, y: Tensor) -> int:
    """Bytes that autograd keeps between the forward and the backward pass, parameters left out."""
    own, kept = {p.data_ptr() for p in model.parameters()}, {}

    def keep(t: Tensor):
        if t.data_ptr() not in own:
            kept[t.data_ptr()] = max(kept.get(t.data_ptr(), 0), t.numel() * t.element_size())
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        held = losses.cross_entropy(model(x), y)
    del held
    return sum(kept.values())


def memory(recipe: Recipe, data, batch_sizes) -> pd.DataFrame:
    """Rows batch_size, activations (bytes that autograd keeps), parameters (bytes)."""
    model = training.fresh_model(recipe, data)
    parameters = sum(p.numel() * p.element_size() for p in model.parameters())
    found = [saved_bytes(model, data.x_train[:b], data.y_train[:b]) for b in batch_sizes]
    return pd.DataFrame({"batch_size": list(batch_sizes), "activations": found, "parameters": parameters})


def accumulate(model, loss, optimizer, parts) -> None:
    """One optimizer step with the mean gradient of k equal parts of a batch."""
    optimizer.zero_grad()
    for x, y in parts:
        (loss(model(x), y) / len(parts)).backward()  # .backward() adds to what is there
    optimizer.step()


def one_at_a_time(model, loss, optimizer, parts) -> None:
    """An optimizer step for every part."""
    for part in parts:
        accumulate(model, loss, optimizer, [part])


def accumulation(recipe: Recipe, data, *, batch: int, k: int, repeats: int = 20, warm_up: int = 5) -> pd.DataFrame:
    """A batch in one piece, accumulated from k parts, and as k small steps. Rows by "way".

    gap: largest difference of the weights to the one big batch after one step, float64. backward, steps: how often
    backward ran and the weights changed. saved: most bytes kept for a backward pass. Columns t0, t1, ...: seconds.
    """
    x, y = data.x_train[:batch].double(), data.y_train[:batch]
    whole, pieces = [(x, y)], list(zip(x.split(batch // k), y.split(batch // k), strict=True))
    ways = {
        "one big batch": (accumulate, whole),
        f"{k} parts, accumulated": (accumulate, pieces),
        f"{k} small steps": (one_at_a_time, pieces),
    }
    start, rows, loss = training.fresh_model(recipe, data).double(), {}, losses.make(recipe)
    for name, (act, parts) in ways.items():
        model, counted = copy.deepcopy(start), {"backward": 0, "steps": 0}
        optimizer = optim.make(recipe.optimizer, model.parameters(), recipe)
        optimizer.register_step_post_hook(lambda *_, c=counted: c.update(steps=c["steps"] + 1))
        last = models.weight_layers(model)[-1]
        handle = last.register_full_backward_hook(lambda *_, c=counted: c.update(backward=c["backward"] + 1))
        act(model, loss, optimizer, parts)
        handle.remove()
        weights = nn.utils.parameters_to_vector(model.parameters()).detach()
        rows[name] = {"weights": weights, **counted, "saved": max(saved_bytes(model, *p) for p in parts)}
    for name in rows:
        rows[name]["gap"] = (rows[name]["weights"] - rows["one big batch"]["weights"]).abs().max().item()
    for repeat in range(-warm_up, repeats):
        for name, (act, parts) in ways.items():
            model = copy.deepcopy(start)
            optimizer, started = optim.make(recipe.optimizer, model.parameters(), recipe), time.perf_counter()
            act(model, loss, optimizer, parts)
            if repeat >= 0:
                rows[name][f"t{repeat}"] = time.perf_counter() - started
    return pd.DataFrame(rows).T.drop(columns="weights").rename_axis("way")


def told_ways(ways: pd.DataFrame) -> pd.DataFrame:
    """The table of `accumulation` for reading: counts, bytes, the gap, and the median time in milliseconds."""
    seconds = ways[[c for c in ways if c.startswith("t")]].astype(float).median(axis=1)
    told = {"backward passes": ways["backward"], "optimizer steps": ways["steps"], "bytes kept": ways["saved"]}
    told["gap to the big batch"] = ways["gap"].map("{:.0e}".format)
    return pd.DataFrame({**told, "milliseconds": (1000 * seconds).round(2)})


def without_division(recipe: Recipe, data, *, batch: int, k: int, decay: float = 0.1) -> dict:
    """Two ways to get accumulation wrong: the sum of the parts' gradients over the mean, and decay at every part.

    Returns the ratio of gradient norms, and the weights' norm after one rate-1 decay with factor 1 - decay, once and
    k times, as shares.
    """
    model, loss = training.fresh_model(recipe, data).double(), losses.make(recipe)
    x, y = data.x_train[:batch].double(), data.y_train[:batch]
    params = list(model.parameters())
    mean = torch.cat([g.flatten() for g in torch.autograd.grad(loss(model(x), y), params)])
    parts = zip(x.split(batch // k), y.split(batch // k), strict=True)
    total = sum(torch.cat([g.flatten() for g in torch.autograd.grad(loss(model(a), b), params)]) for a, b in parts)
    return {"ratio": (total.norm() / mean.norm()).item(), "once": 1 - decay, "each": (1 - decay) ** k}


# --- clipping


def clip_one_sided(grads: Sequence[Tensor], c: float) -> None:
    """The rule as one source has it: an entry above c becomes c. An entry below -c stays."""
    for g in grads:
        g.clamp_(max=c)


def clip_by_value(grads: Sequence[Tensor], c: float) -> None:
    """Each entry into [-c, c]; the same as torch's clip_grad_value_."""
    for g in grads:
        g.clamp_(-c, c)


def clip_by_norm(grads: Sequence[Tensor], c: float) -> None:
    """The whole gradient, shortened to length c when it is longer; as torch's clip_grad_norm_."""
    norm = torch.stack([g.norm() for g in grads]).norm()
    for g in grads:
        g.mul_((c / (norm + 1e-6)).clamp(max=1.0))


CLIPS: dict[str, Callable] = {"by norm": clip_by_norm, "by value": clip_by_value, "one-sided": clip_one_sided}


def clipped(vector: Sequence[float], c: float) -> pd.DataFrame:
    """A gradient and what each kind of clipping makes of it, with the cosine to the gradient. Rows by "clipping"."""
    g, rows = torch.tensor(list(vector), dtype=torch.float64), {}
    for name, clip in {"none": lambda grads, c: None, **CLIPS}.items():
        out = g.clone()
        clip([out], c)
        rows[name] = [*out.tolist(), torch.cosine_similarity(g, out, dim=0).item()]
    return pd.DataFrame(rows, index=[*(f"g{i + 1}" for i in range(len(g))), "cosine"]).T.rename_axis("clipping")


def cosines(recipe: Recipe, data, bounds: Sequence[float], *, seeds: int, n: int = 50) -> pd.DataFrame:
    """Cosine between the clipped and the true gradient of a fresh network.

    The bound is a share of the gradient's norm (by norm) or of its largest entry (by value, one-sided).
    Rows clipping, seed, bound, cosine, longer: largest ratio of the clipped to the true gradient of a layer.
    """
    rows = []
    for seed in range(seeds):
        model = training.fresh_model(recipe.but(seed=seed), data).double()
        loss = losses.make(recipe)(model(data.x_train[:n].double()), data.y_train[:n])
        grads = torch.autograd.grad(loss, list(model.parameters()))
        flat = torch.cat([g.flatten() for g in grads])
        for name, clip in CLIPS.items():
            for bound in bounds:
                ours = [g.clone() for g in grads]
                clip(ours, bound * (flat.norm() if name == "by norm" else flat.abs().max()).item())
                after = torch.cat([g.flatten() for g in ours])
                longer = max((a.norm() / g.norm()).item() for a, g in zip(ours, grads, strict=True) if g.norm() > 0)
                rows.append({"clipping": name, "seed": seed, "bound": bound, "longer": longer})
                rows[-1]["cosine"] = torch.cosine_similarity(flat, after, dim=0).item()
    return pd.DataFrame(rows)


def train_one_sided(recipe: Recipe, data, c: float, *, seeds: int, two_sided: bool = False) -> pd.DataFrame:
    """The recipe at a constant rate with one-sided clipping, all seeds as one stack on top of `training.fit`.

    Rows seed, epoch, val_accuracy, train_loss. `two_sided` clips at both ends, as Recipe's clip_value does.
    """
    recipes, data = [recipe.but(seed=s) for s in range(seeds)], training.prepared(recipe, data)
    stack = stacks.Stack([training.fresh_model(r, data) for r in recipes])
    optimizer, loss = stacks.StackedOptimizer(stack, recipes), vmap(losses.make(recipe))
    clip, rows = clip_by_value if two_sided else clip_one_sided, []

    def each(logits, y):
        return loss(logits, y.expand(logits.shape[:2]))

    for epoch in range(recipe.epochs):
        order = torch.stack([training.batch_order(s, data.n_train, recipe.batch_size, epoch) for s in range(seeds)], 1)
        batches = ((data.x_train[i], data.y_train[i]) for i in order)
        grads = lambda: clip([p.grad for p in stack.parameters()], c)  # noqa: E731
        seen = [pair[0] for pair in training.fit(stack, each, optimizer, batches, lambda step: None, grads)]
        train_loss = torch.stack(seen).mean(0).tolist()
        accuracy = training.evaluate(stack, each, data.x_val, data.y_val)[1].tolist()
        about = zip(range(seeds), accuracy, train_loss, strict=True)
        rows += [{"seed": s, "epoch": epoch + 1, "val_accuracy": a, "train_loss": v} for s, a, v in about]
    return pd.DataFrame(rows)


def strips(steps: int = 16, n: int | None = None):
    """The digits as sequences: `steps` strips of 64/steps pixels each, in reading order."""
    from sklearn.datasets import load_digits

    if 64 % checks.integer("steps", steps, low=1, high=64):
        raise ValueError(f"steps={steps!r} is not allowed: it must divide the 64 pixels; try steps=16.")
    x, y = load_digits(return_X_y=True)
    return owndata.from_arrays(x[:n].reshape(-1, 1, steps, 64 // steps), y[:n], name=f"digits in {steps} strips")


# --- freezing


def frozen_gradients(recipe: Recipe, data, *, scale: float = 1e6, n: int = 50) -> dict:
    """Freeze the first layer of a network whose loss is multiplied by `scale`: what the gradients do.

    Returns "first": whether the frozen layer has a gradient, "change": how much the other layers' gradients differ
    from those without freezing, "largest": the largest entry that is left.
    """
    found = []
    for freeze in (False, True):
        model = training.fresh_model(recipe, data)
        layers = models.weight_layers(model)
        for p in layers[0].parameters():
            p.requires_grad_(not freeze)
        (scale * losses.make(recipe)(model(data.x_train[:n]), data.y_train[:n])).backward()
        found.append((layers[0].weight.grad, torch.cat([w.weight.grad.flatten() for w in layers[1:]])))
    change = (found[0][1] - found[1][1]).abs().max().item()
    return {"first": found[1][0] is not None, "change": change, "largest": found[1][1].abs().max().item()}


def layer_changes(recipe: Recipe, data, *, seeds: int) -> pd.DataFrame:
    """How far each layer's weights move in each epoch: the length of the change over the length of the weights.

    Rows seed, layer (1 is first), epoch, change.
    """
    rows = []
    for seed in range(seeds):
        r = recipe.but(seed=seed)
        model = training.fresh_model(r, data)
        loss, optimizer = losses.make(r), optim.make(r.optimizer, model.parameters(), r)
        steps, layers = training.steps_per_epoch(r, data.n_train), models.weight_layers(model)
        for epoch in range(r.epochs):
            before = [w.weight.detach().clone() for w in layers]
            order = training.batch_order(seed, data.n_train, r.batch_size, epoch)

            def lr_at(step, first=epoch * steps, optimizer=optimizer, r=r, steps=steps):
                optimizer.param_groups[0]["lr"] = r.lr * training.lr_factor_at(r, first + step, steps)

            for _ in training.fit(model, loss, optimizer, ((data.x_train[i], data.y_train[i]) for i in order), lr_at):
                pass
            for k, (old, w) in enumerate(zip(before, layers, strict=True), 1):
                change = ((w.weight.detach() - old).norm() / old.norm()).item()
                rows.append({"seed": seed, "layer": k, "epoch": epoch + 1, "change": change})
    return pd.DataFrame(rows)


def bytes_with_frozen(recipe: Recipe, data, layers: int) -> tuple[int, int]:
    """Bytes that autograd keeps for one batch: nothing frozen, and with the lower `layers` frozen."""
    model = training.fresh_model(recipe, data)
    x, y = data.x_train[: recipe.batch_size], data.y_train[: recipe.batch_size]
    free = saved_bytes(model, x, y)
    for w in models.weight_layers(model)[:layers]:
        w.requires_grad_(False)
    return free, saved_bytes(model, x, y)


def freezing(
    recipe: Recipe, data, *, source=None, source_epochs: int = 6, frozen: Sequence[int], layers: int = 1, seeds: int
) -> pd.DataFrame:
    """Train with the lower `layers` frozen for the first epochs, for several numbers of frozen epochs. Plain SGD.

    `source` : a Dataset; with one, the lower layers come from a network of the same recipe trained on it.
    Rows start ("random" or "pretrained"), frozen, seed, epoch, val_accuracy, train_loss.
    """
    rows, start = [], "random" if source is None else "pretrained"
    if source is not None:
        taught_by = [recipe.but(epochs=source_epochs, n_train=None, seed=s) for s in range(seeds)]
        stack = stacks.train_stack(taught_by, source)[0]
    for seed in range(seeds):
        r = recipe.but(seed=seed)
        taught = None if source is None else stack.unstack(seed)
        for hold in frozen:
            model = training.fresh_model(r, data)
            lower = models.weight_layers(model)[:layers]
            if taught is not None:
                for mine, theirs in zip(lower, models.weight_layers(taught), strict=False):
                    mine.load_state_dict(theirs.state_dict())
            loss, optimizer = losses.make(r), optim.make(r.optimizer, model.parameters(), r)
            for epoch in range(r.epochs):
                for p in (p for w in lower for p in w.parameters()):
                    p.requires_grad_(epoch >= hold)
                order = training.batch_order(seed, data.n_train, r.batch_size, epoch)
                batches = ((data.x_train[i], data.y_train[i]) for i in order)
                seen = [pair[0] for pair in training.fit(model, loss, optimizer, batches, lambda step: None)]
                accuracy = float(training.evaluate(model, loss, data.x_val, data.y_val)[1])
                about = {"start": start, "frozen": hold, "seed": seed, "epoch": epoch + 1}
                rows.append({**about, "val_accuracy": accuracy, "train_loss": torch.stack(seen).mean().item()})
    return pd.DataFrame(rows)


# --- evidence: each function writes the evidence of one experiment into the ledger; the rule is in its docstring


def seconds_to_target(runs, times: pd.DataFrame, score: float) -> pd.DataFrame:
    """Epochs until the validation accuracy is at least `score`, times the median seconds of an epoch.

    Index seed, a column for each batch size; a run that never gets there counts as its number of epochs.
    """
    table = runs.table.assign(hit=runs.epochs_to("val_accuracy", score).clip(upper=runs.table["epoch"]))
    size = table["batch_size"].fillna(max(times.columns)).astype(int)
    table = table.assign(size=size, seconds=table["hit"] * size.map(times.median()))
    return table.pivot(index="seed", columns="size", values="seconds")


def judge_times(ledger, small: pd.DataFrame, race) -> str:
    """R7, margin a factor of two in the median times. BATCH-01, BATCH-02: an epoch with batches of 4 takes longer than
    with 256. BATCH-03: so do batches of 16 in a small model. Result (R1, half a point of test accuracy, equal epochs,
    own best rates): batches of 32 and of 512 differ; the larger one is better."""
    longer = above("log10 of seconds per epoch, batch of 4 over batch of 256", log_ratio(small, 4, 256), margin=0.3)
    ledger.add("BATCH-01", training_speed=longer)
    ledger.add("BATCH-02", training_time=longer, result_at_equal_epochs=shows(race, "helps", 32, 512))
    told = "log10 of seconds per epoch, small model, batch of 16 over batch of 256"
    ledger.add("BATCH-03", fills_the_processor=above(told, log_ratio(small, 16, 256), margin=0.3))
    ledger.add("BATCH-03", better_at_equal_epochs=shows(race, "helps", 512, 32))
    t = 1000 * small.median()
    told = ", ".join(f"{t[b]:.1f} ms with batches of {b}" for b in t.index)
    return f"One pass over the data takes a small model {told}. And {race.sentence(32, 512)}"


def judge_large(ledger, times: pd.DataFrame, runs, score: float) -> str:
    """BATCH-04, R7: in a large model batches of 4 make epochs shorter than batches of 64; and the way to the target."""
    told = "log10 of seconds per epoch, large model, batch of 4 over batch of 64"
    ledger.add("BATCH-04", shorter_epochs=below(told, log_ratio(times, 4, 64), margin=0.1))
    need = seconds_to_target(runs, times, score)
    told = f"log10 of seconds to {100 * score:.0f} % validation accuracy, large model, batch of 4 over batch of 64"
    ledger.add("BATCH-04", shorter_training=below(told, np.log10(need[4] / need[64]), margin=0.1))
    return (
        f"The large model needs {need[4].median() / need[64].median():.1f} times as long with batches of 4 as with 64."
    )


def judge_lenet(ledger, times: pd.DataFrame, runs, score: float) -> str:
    """BATCH-05, R7: LeNet-5. A larger batch makes an epoch longer; and the way to the target (100 against all)."""
    full = max(times.columns)
    told = "LeNet-5, log10 of seconds per epoch, all images at once over batch of 16"
    ledger.add("BATCH-05", longer_epochs=above(told, log_ratio(times, full, 16), margin=0.1))
    need = seconds_to_target(runs, times, score)
    told = f"LeNet-5, log10 of seconds to {100 * score:.0f} %, all {full} images at once over batch of 100"
    ledger.add("BATCH-05", longer_training=above(told, np.log10(need[full] / need[100]), margin=0.1))
    return (
        f"LeNet-5 reaches {100 * score:.0f} % in {need[100].median():.2f} s with batches of 100 and in "
        f"{need[full].median():.2f} s with all {full} images in each step."
    )


def judge_accumulation(ledger, kept: pd.DataFrame, ways: pd.DataFrame, normed: pd.DataFrame, wrong: dict) -> str:
    """BATCH-06, R3: kept bytes grow with B, within 5 % of proportion; parameters do not. BATCH-07: less than half of
    the memory; less time (margin a quarter). BATCH-08: fewer backward passes than the same parts as small steps; less
    time than the big batch. BATCH-09 is ill-posed; two readings are shown."""
    per = kept["activations"] / kept["batch_size"]
    told = f"Bytes kept per example: {per.min():.0f} to {per.max():.0f} for batches of {kept['batch_size'].min()} to "
    told += f"{kept['batch_size'].max()}; parameters stay at {kept['parameters'].iloc[0]:,} bytes."
    holds = per.max() / per.min() < 1.05 and kept["parameters"].nunique() == 1
    ledger.add("BATCH-06", memory_follows_batch_size=exact(told, bool(holds)))
    big, parts, steps = (ways.loc[name] for name in ways.index)
    told = f"Kept for a backward pass: {parts['saved']:,} bytes in place of {big['saved']:,}."
    ledger.add("BATCH-07", memory=exact(told, bool(parts["saved"] < big["saved"] / 2)))
    seconds = ways[[c for c in ways if c.startswith("t")]].astype(float).T
    slower = log_ratio(seconds, ways.index[1], ways.index[0])
    time_saved = below("log10 of the time of an accumulated step over that of one big batch", slower, margin=0.1)
    ledger.add("BATCH-07", time=time_saved)
    told = f"{parts['backward']} backward passes accumulated, {steps['backward']} as small steps, {big['backward']} as "
    told += "one big batch."
    ledger.add("BATCH-08", fewer_backward_passes=exact(told, bool(parts["backward"] < steps["backward"])))
    ledger.add("BATCH-08", time=time_saved)
    told = (
        f"Without the division by k the gradient is {wrong['ratio']:.1f} times as long for {parts['backward']} parts."
    )
    ledger.add("BATCH-09", accumulate_without_dividing=exact(told, abs(wrong["ratio"] - 1) < 1e-6))
    told = f"Decay at every part shrinks the weights to {wrong['each']:.2g} of their size, decay at the step to "
    told += f"{wrong['once']:.2g}."
    ledger.add("BATCH-09", decay_at_every_part=exact(told, abs(wrong["each"] - wrong["once"]) < 1e-6))
    ledger.ill_posed("BATCH-09")
    return (
        f"Weights after the step: accumulated and big batch differ by {parts['gap']:.0e}, with batch normalization by "
        f"{normed['gap'].iloc[1]:.1e}. The same {parts['backward']} backward passes run with {steps['steps']} small "
        f"steps; what accumulation saves against those is {steps['steps'] - parts['steps']} optimizer steps."
    )


def judge_noise(ledger, table: pd.DataFrame) -> str:
    """BATCH-10, R3: the mean over an epoch's batches is the full gradient (relative 1e-10); the variance is that of one
    example over B, corrected for drawing without replacement, within 15 % in every run."""
    bias, off = table["bias"].max(), (table["variance"] / table["expected"] - 1).abs().max()
    told = f"The mean of an epoch's batch gradients is the full gradient within {bias:.0e} of its length."
    ledger.add("BATCH-10", unbiased=exact(told, bool(bias < 1e-10)))
    told = f"In all {len(table)} cases the variance is within {100 * off:.0f} % of the formula."
    ledger.add("BATCH-10", variance_falls_as_1_over_B=exact(told, bool(off < 0.15), n=table["seed"].nunique()))
    return told


def judge_clipping(ledger, ends: pd.DataFrame, example: pd.DataFrame, angles: pd.DataFrame, sigmoid) -> str:
    """RNN, R1, margin five points of validation accuracy: clipping by norm (CLIP-01) and by value (CLIP-02) beats none;
    one-sided comes within five points of both sides (CLIP-03). Deep sigmoid net: clipping helps by half a point of
    test accuracy. R3: a clipped gradient can be longer; by value keeps the direction; -1000 becomes -c."""
    gain = {k: ends[k] - ends["none"] for k in ("by norm", "by value")}
    told = "Validation accuracy of the RNN, clipping by norm minus none"
    ledger.add("CLIP-01", exploding=above(told, gain["by norm"], margin=0.05))
    named = {"1.0": "clipping at 1", "None": "no clipping"}
    ledger.add("CLIP-01", vanishing=worded(shows(sigmoid, "helps"), named))
    told = f"No clipping makes the gradient of any layer longer (largest ratio {angles['longer'].max():.3f})."
    ledger.add("CLIP-01", can_lengthen_a_gradient=exact(told, bool(angles["longer"].max() > 1 + 1e-9)))
    cosine = example["cosine"]
    told = f"Cosine with the true gradient: by value {cosine['by value']:.2f}, by norm {cosine['by norm']:.2f}."
    ledger.add("CLIP-02", keeps_the_direction=exact(told, bool(cosine["by value"] > 1 - 1e-6)))
    told = "Validation accuracy of the RNN, clipping by value minus none"
    ledger.add("CLIP-02", saves_the_rnn=above(told, gain["by value"], margin=0.05))
    left = example.loc["one-sided"].drop("cosine").min()
    ledger.add("CLIP-03", bounds_the_gradient=exact(f"Clipped at 1 as written, {left:g} stays {left:g}.", left >= -1))
    told = "Validation accuracy of the RNN, one-sided minus both sides"
    ledger.add("CLIP-03", as_good_as_both_sides=above(told, ends["one-sided"] - ends["by value"], zero=-0.05))
    lost = {k: f"{int((ends[k] < 0.3).sum())} of {len(ends)}" for k in ends}
    return (
        f"Runs that end below 30 %: {lost['none']} without clipping, {lost['by norm']} by norm, {lost['by value']} by "
        f"value, and {lost['one-sided']} with the one-sided rule."
    )


def judge_freezing(ledger, frozen: dict, changes: dict, held: pd.DataFrame, kept: tuple[int, int], hold: int) -> str:
    """CLIP-04, R3: freezing bounds the gradient. CLIP-05, R1: in the first fifth of the epochs the weights change less
    per epoch than in the last fifth. CLIP-06, R1, margin two points of validation accuracy, mean over the frozen
    epochs: freezing is ahead, from random and from pretrained layers; and it keeps fewer bytes (R3)."""
    told = f"With the first layer frozen, the others' gradients change by {frozen['change']:g}; their largest entry is "
    told += f"{frozen['largest']:.0e}."
    ledger.add("CLIP-04", bounds_the_gradient=exact(told, frozen["change"] > 0))
    said = {}
    for name, table in changes.items():
        n = table["epoch"].max() // 5
        early = table[table["epoch"] <= n].groupby("seed")["change"].mean()
        late = table[table["epoch"] > table["epoch"].max() - n].groupby("seed")["change"].mean()
        told = f"log10 of the relative change per epoch, first fifth over last fifth, {name.replace('_', ' ')}"
        ledger.add("CLIP-05", **{name: below(told, np.log10(early / late))})
        said[name] = (early / late).mean()
    soon = held[held["epoch"] <= hold].groupby(["start", "frozen", "seed"])["val_accuracy"].mean().unstack("frozen")
    for start in ("random", "pretrained"):
        gain = soon.loc[start][hold] - soon.loc[start][0]
        told = f"Validation accuracy over the first {hold} epochs, frozen minus free, {start} lower layers"
        ledger.add("CLIP-06", **{f"{start}_layers": above(told, gain, margin=0.02)})
    told = f"Kept for a backward pass: {kept[1]:,} bytes with the lower layers frozen, {kept[0]:,} without."
    ledger.add("CLIP-06", cheaper_step=exact(told, kept[1] < kept[0]))
    first, *_ = said.values()
    mean = soon.groupby("start").mean()
    return (
        f"In the first fifth of training weights change {first:.0f} times as much per epoch as in the last. Over the "
        f"first {hold} epochs, random lower layers: {100 * mean.loc['random', 0]:.0f} % free, "
        f"{100 * mean.loc['random', hold]:.0f} % frozen; pretrained: {100 * mean.loc['pretrained', 0]:.0f} % free, "
        f"{100 * mean.loc['pretrained', hold]:.0f} % frozen."
    )
