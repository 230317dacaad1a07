"""Many runs at once: which are stacked, where they are trained, and how an interrupted sweep resumes.

The definition of a run is `training.train_one`; whatever happens here gives the same numbers.
"""

from __future__ import annotations

import contextlib
import math
import operator
import os
import platform
from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import nn

from helpers import blas, checks, models, quick, stacks, store, streams, training, workers
from helpers.data import Dataset
from helpers.recipe import STACKED_TOGETHER, Recipe
from helpers.runs import Runs, run_id

DEVICES = ("auto", "cpu", "cuda")
WORTH_A_THREAD = 800_000  # multiplications; below that, threads that wait for each other cost more than they bring
WORTH_A_CUT = 8  # models in each part of a stack that is cut; fewer leave the threads waiting for Python's lock
SMALL = 2**14  # numbers that the first layer of a CNN gives in a step; up to that, its arithmetic is less than the rest


def _train_chunk(i, recipes, data, device, test, first, threads, watch=None, stop=None):
    """Train one chunk, wherever this runs: its number, the place, the device, and the curves (None where stopped)."""
    device = pick_device(device)
    _begin(recipes, data, device, first, threads)
    if len(recipes) == 1 and watch is stop is None and device == "cpu" and _left_to_torch(recipes[0]):
        _, curve = training.train_one(recipes[0], data, device=device, test=test, prepare=quick.quicken)
        return i, _place(), device, [curve]
    with blas.one_thread():
        result = stacks.train_stack(recipes, data, device=device, test=test, watch=watch, stop=stop)
    return i, _place(), device, None if result is None else result[1]


def _begin(recipes, data, device, first, threads):
    """The seeds and the threads of one chunk, wherever this runs."""
    streams.begin(first)
    torch.set_num_threads(1 if device == "cpu" and _layer_work(recipes, data) < WORTH_A_THREAD else threads)


def _layer_work(recipes, data) -> float:
    """Multiplications in one layer for one step of a stack of perceptrons, on the average; of others, infinite."""
    first = recipes[0]
    if first.model != "mlp":
        return math.inf
    inputs, rows = math.prod(data.x_train.shape[1:]), min(first.batch_size or data.n_train, data.n_train)
    widths = [inputs, *[first.width] * first.depth, data.n_classes]
    return len(recipes) * rows * sum(map(operator.mul, widths, widths[1:])) / (first.depth + 1)


def plan(recipes: Iterable[Recipe], data, device: str = "cpu", pieces: int = 1, least: int = 1) -> list[list[Recipe]]:
    """Chunks of recipes that train together: same architecture and sizes, neighbours with equal optimizers.

    Models with and without dropout are built differently, so they are apart too. Where there are fewer chunks than
    `pieces`, they are cut: into parts of no fewer than `least` models, or as `_sizes` says. The chunks depend on which
    recipes there are, and not on their order.
    """
    groups = defaultdict(list)
    for r in sorted(recipes, key=repr):
        groups[(*(getattr(r, k) for k in STACKED_TOGETHER), r.dropout > 0)].append(r)
    chunks = []
    for group in groups.values():
        size, low = _sizes(group[0], data, len(group), device, least)
        # same settings side by side, so that they share one optimizer object
        group.sort(key=stacks.settings)
        chunks += [(group[i : i + size], low) for i in range(0, len(group), size)]
    parts = math.ceil(pieces / max(len(chunks), 1))
    cuts = [(c, math.ceil(len(c) / max(min(parts, len(c) // low), 1))) for c, low in chunks]
    return [c[i : i + cut] for c, cut in cuts for i in range(0, len(c), cut)]


def _left_to_torch(recipe: Recipe) -> bool:
    """Whether its convolutions are torch's own: all but those that `squares` writes out."""
    averaging = recipe.model == "lenet5" and (recipe.pool, recipe.norm) == ("average", "none")
    return recipe.model in models.CONVOLUTIONAL and not averaging


def _sizes(recipe: Recipe, data, n: int, device: str, least: int) -> tuple[int, int]:
    """How many of n such models train as one, and how many at least stay together where they are cut.

    Convolutions of torch's own are slower under vmap on a CPU than one model at a time, unless they are small and many.
    """
    if recipe.model not in models.CONVOLUTIONAL or device == "cuda":
        return stacks.STACK, least
    if not _left_to_torch(recipe):
        return stacks.LENETS, 1
    rows = min(recipe.batch_size or data.n_train, data.n_train)
    small = recipe.model == "cnn" and rows * math.prod(data.x_train.shape[2:]) * recipe.width <= SMALL
    return (stacks.CNNS, stacks.CNNS // 2) if small and n >= stacks.CNNS else (1, 1)


def train(
    recipes: Recipe | Iterable[Recipe],
    data,
    *,
    seeds: int | Iterable[int] | None = None,
    save=None,
    jobs: int | str = "auto",
    device: str = "auto",
    test: str = "",
    watch: Callable[[dict], bool | None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Runs:
    """Train every recipe with every seed and return the runs as tidy tables.

    Parameters
    ----------
    recipes : one Recipe or several, as `Recipe.vary` gives them
    data : a `helpers.data.Dataset`
    seeds : 8 means the seeds 0..7; None keeps each recipe's own seed
    save : a file (.zip). Finished runs are kept there as they come, and runs that the file already has are not trained
        again: an interrupted sweep resumes, however it was stopped. Several processes may save to one file.
    jobs : 1 = in this process, one stack after another; 2 or more = that many processes, one thread each; "auto" = as
        many threads as this machine has cores (`helpers.workers`), each training models of its own, and processes for
        a long rest where those are measured to pay. A large stack is cut for that, and one too small for two threads
        gets one. Inside `with joblib.parallel_config(...)`, "auto" goes where that says: to a cluster, say.
    device : "auto" (a GPU when there is one), "cpu", "cuda"; on a cluster each worker looks for itself
    test : the reason for reading the sealed test set; without one the runs have validation scores alone
    watch : called after every epoch with {"done", "total", "curves"} (in model-epochs); return False to stop, and the
        finished runs are returned. Everything is trained in this process then.
    stop : asked after every step; True stops in the same way, without waiting for the end of an epoch

    The same recipe, data, device, versions and first seed (`helpers.streams`) give the same run. To the bit: in a sweep
    of the same recipes, in whatever order they are given, in one go or resumed, with the same jobs and threads. Other
    neighbours in a stack, other jobs or another number of threads add up in another order: one step differs by the
    rounding of float32 (about 1e-7 of the loss), and the few epochs of the tests by less than 1e-4 in nearly every run.
    Where a unit stands just at the kink of its ReLU, or training at the edge of divergence, any rounding can grow.

    Raises TypeError or ValueError with one sentence for bad input, OSError when `save` cannot be written.
    """
    recipes = _asked(recipes, data, seeds)
    if not isinstance(jobs, str) or jobs != "auto":
        checks.integer("jobs", jobs, low=1, try_="'auto'")
    for name, asked, example in (("watch", watch, "print"), ("stop", stop, "threading.Event().is_set")):
        if asked is not None:
            checks.function(name, asked, example)
            if jobs not in ("auto", 1):
                raise ValueError(
                    f"jobs={jobs!r} is not allowed with {name}, which sees this process only; leave jobs out."
                )
    here = watch is not None or stop is not None
    checks.text("test", test)
    save = None if save is None else checks.path("save", save)
    away = workers.named() and jobs != 1 and not here  # the work goes where joblib has been told
    device = checks.one_of("device", device, DEVICES) if away else pick_device(device)
    ids = {r: run_id(r, data) for r in recipes}

    done = Runs.load(save, missing_ok=True) if save else Runs.empty()
    finished = _finished(done, test)
    # planned as a whole: a sweep that resumes has the same stacks as one that was never stopped
    cores = 1 if here or device == "cuda" else workers.CORES
    whole = plan(ids, data, device, cores, WORTH_A_CUT) if jobs == "auto" else plan(ids, data, device, jobs)
    chunks = [left for c in whole if (left := [r for r in c if ids[r] not in finished])]
    sizes = [sum(r.epochs for r in c) for c in chunks]
    epochs_done, parts = 0, [done.select(i for i in ids.values() if i in finished)]
    if save and chunks:
        store.check(save)

    def keep(i, place, device, curves):
        nonlocal epochs_done
        epochs_done += sizes[i]
        parts.append(Runs.from_curves(chunks[i], curves, data, device))
        if test and place != _place():
            data.open_test(test)  # read over there, counted here
        if save:
            store.append(save, parts[-1].tables())

    def tell(curves):
        epochs = sum(len(c) for c in curves)
        return watch({"done": epochs_done + epochs, "total": sum(sizes), "curves": curves})

    def results():
        items = [(i, c, data, device, test, streams.first()) for i, c in enumerate(chunks)]
        together = min(cores, len(whole))
        if away or jobs not in ("auto", 1):
            limit = {} if jobs == "auto" else {"n_jobs": jobs}
            return workers.parallel(_train_chunk, [(*item, 1) for item in items], **limit)
        if jobs == "auto" and together > 1:
            return workers.spread(_train_chunk, [(*item, cores // together) for item in items], sizes, together)
        return (_train_chunk(*item, workers.CORES, tell if watch else None, stop) for item in items)

    threads = torch.get_num_threads()
    try:
        with blas.one_thread():  # of all threads: those of a chunk may end before others do
            for i, place, used, curves in results():
                if curves is None:
                    break
                keep(i, place, used, curves)
    finally:
        torch.set_num_threads(threads)  # the threads beside this one have set it, too
    if save:
        with contextlib.suppress(OSError):  # no room for a second copy: the journal has all of it, and is read as well
            store.settle(save)
    return Runs.union(parts).select(ids.values())


def train_networks(recipes: Iterable[Recipe], data, *, test: str = "") -> dict[Recipe, tuple[nn.Module, list[dict]]]:
    """`train` in this process, on the CPU, with the networks kept, in evaluation mode.

    Returns {recipe: (network, curve)} in the order asked for, the curves as `training.train_one` gives them. A reason
    in `test` reads the sealed test set, once for each stack. Raises TypeError or ValueError for bad input, as `train`
    does.
    """
    recipes, found, threads = _asked(recipes, data, None), {}, torch.get_num_threads()
    checks.text("test", test)
    chunks = plan(recipes, data, "cpu", workers.CORES, WORTH_A_CUT)
    together = min(workers.CORES, len(chunks))
    items = [(chunk, data, test, streams.first(), workers.CORES // together) for chunk in chunks]
    try:
        with blas.one_thread():
            for part in workers.parallel(_train_kept, items, n_jobs=together, backend="threading"):
                found |= part
    finally:
        torch.set_num_threads(threads)
    return {r: found[r] for r in recipes}


def _train_kept(recipes, data, test, first, threads):
    """Train one chunk on the CPU: {recipe: (network, curve)}."""
    _begin(recipes, data, "cpu", first, threads)
    stack, curves = stacks.train_stack(recipes, data, test=test)
    return {r: (stack.unstack(i).eval(), curve) for i, (r, curve) in enumerate(zip(recipes, curves, strict=True))}


def _asked(recipes, data, seeds) -> list[Recipe]:
    """The recipes with their seeds, each once, in the order asked for."""
    given, recipes = recipes, [recipes] if isinstance(recipes, Recipe) else recipes
    recipes = list(recipes) if isinstance(recipes, Iterable) else []
    if not recipes or not all(isinstance(r, Recipe) for r in recipes):
        told = "recipes must be a Recipe or a list of them, such as Recipe().vary(lr=[0.1, 0.3])"
        raise TypeError(f"{told}; got {checks.show(given)}.")
    if not isinstance(data, Dataset):
        raise TypeError(f"data must be a Dataset, got {type(data).__name__}; make one with load() or from_arrays().")
    if seeds is not None:
        if isinstance(seeds, Iterable):
            seeds = checks.once("seeds", checks.several("seeds", seeds, "range(8)"))
        else:
            seeds = range(checks.integer("seeds", seeds, low=1, high=100_000, try_="8"))
        recipes = [r.but(seed=s) for r in recipes for s in seeds]
    return list(dict.fromkeys(recipes))


def _finished(done: Runs, test: str) -> set[str]:
    """The runs that need no training: those that lack a test score which is asked for now do."""
    if not len(done):
        return set()
    table = done.table if not test else done.table.reindex(columns=["run", "test_accuracy"]).dropna()
    return set(table["run"])


def _place() -> tuple[str, int]:
    return platform.node(), os.getpid()


def pick_device(device: str) -> str:
    """ "auto" -> "cuda" where there is a GPU, else "cpu". Raises ValueError when CUDA is asked for and absent."""
    checks.one_of("device", device, DEVICES)
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda' is not available here: no CUDA GPU was found; use device='auto' or 'cpu'.")
    return device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
