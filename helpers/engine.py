"""Many runs at once: which are stacked, which go to other processes, and how an interrupted sweep resumes.

The definition of a run is `training.train_one`; whatever happens here gives the same numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import torch

from helpers import checks, models, stacks, training
from helpers.data import Dataset
from helpers.recipe import STACKED_TOGETHER, Recipe
from helpers.runs import Runs, run_id


def _train_chunk(recipes, data, device, test, watch=None, threads=None):
    if threads:
        torch.set_num_threads(threads)
    if len(recipes) == 1 and watch is None and recipes[0].model != "mlp":
        return [training.train_one(recipes[0], data, device=device, test=test)[1]]
    result = stacks.train_stack(recipes, data, device=device, test=test, watch=watch)
    return None if result is None else result[1]


def plan(recipes: Iterable[Recipe], device: str = "cpu") -> list[list[Recipe]]:
    """Chunks of recipes that train together: same architecture and sizes, neighbours with equal optimizers.

    Models with and without dropout are built differently, so they are apart too. Convolutions under vmap are slower
    on a CPU than one model at a time, so there a CNN is a chunk of its own.
    """
    groups = defaultdict(list)
    for r in recipes:
        groups[(*(getattr(r, k) for k in STACKED_TOGETHER), r.dropout > 0)].append(r)
    chunks = []
    for group in groups.values():
        size = 1 if group[0].model in models.CONVOLUTIONAL and device == "cpu" else stacks.STACK
        # same settings side by side, so that they share one optimizer object
        group.sort(key=stacks.settings)
        chunks += [group[i : i + size] for i in range(0, len(group), size)]
    return chunks


def train(
    recipes: Recipe | Iterable[Recipe],
    data,
    *,
    seeds: int | Iterable[int] | None = None,
    save=None,
    jobs: int = 1,
    device: str = "auto",
    test: str = "",
    watch: Callable[[dict], bool | None] | None = None,
) -> Runs:
    """Train every recipe with every seed and return the runs as tidy tables.

    Parameters
    ----------
    recipes : one Recipe or several, as `Recipe.vary` gives them
    data : a `helpers.data.Dataset`
    seeds : 8 means the seeds 0..7; None keeps each recipe's own seed
    save : a file (.zip). Finished runs are written there as they come, whole or not at all, and runs that the file
        already has are not trained again: an interrupted sweep resumes.
    jobs : processes, one thread each; with 1 all runs share this process and its threads
    device : "auto" (a GPU when there is one), "cpu", "cuda"
    test : the reason for reading the sealed test set; without one the runs have validation scores alone
    watch : called with {"done", "total", "curves"} (in model-epochs) while training; return False to stop, and the
        finished runs are returned. Works with jobs=1.

    Raises TypeError or ValueError with one sentence for bad input.
    """
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
    checks.integer("jobs", jobs, low=1, try_="1"), checks.text("test", test)
    save = None if save is None else checks.path("save", save)
    if watch is not None:
        checks.function("watch", watch, "print")
    device = pick_device(device)
    unique = list(dict.fromkeys(recipes))

    done = Runs.load(save, missing_ok=True) if save else Runs.empty()
    if test and len(done) and done.table.get("test_accuracy") is None:
        done = Runs.empty()  # these runs lack the score that is asked for now
    finished = set(done.table["run"]) if len(done) else set()
    chunks = plan([r for r in unique if run_id(r, data) not in finished], device)
    epochs_total, epochs_done = sum(r.epochs for c in chunks for r in c), 0

    def keep(chunk, curves):
        nonlocal done, epochs_done
        done = done + Runs.from_curves(chunk, curves, data, device)
        epochs_done += sum(r.epochs for r in chunk)
        if save:
            done.save(save)

    def tell(curves):
        epochs = sum(len(c) for c in curves)
        return watch({"done": epochs_done + epochs, "total": epochs_total, "curves": curves})

    if jobs == 1:
        for chunk in chunks:
            curves = _train_chunk(chunk, data, device, test, tell if watch else None)
            if curves is None:
                break
            keep(chunk, curves)
    else:
        from joblib import Parallel, delayed

        def work(i, chunk):
            return i, _train_chunk(chunk, data, device, test, threads=1)

        results = Parallel(n_jobs=jobs, return_as="generator_unordered")(delayed(work)(*c) for c in enumerate(chunks))
        for i, curves in results:
            keep(chunks[i], curves)
    return done.select([run_id(r, data) for r in unique])


def pick_device(device: str) -> str:
    """ "auto" -> "cuda" where there is a GPU, else "cpu". Raises ValueError when CUDA is asked for and absent."""
    checks.one_of("device", device, ("auto", "cpu", "cuda"))
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda' is not available here: no CUDA GPU was found; use device='auto' or 'cpu'.")
    return device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
