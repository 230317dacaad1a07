"""How many models a second: the engine beside its rivals, in one process, in turn, as ratios of medians.

The reference of every ratio is the ordinary PyTorch loop with a DataLoader; above 1 is faster than that. Who trains one
model after another is timed on a few of them and told per model, and so is the engine where it gets one at a time. Each
contender uses one thread or all, whichever a trial shows to be faster for it.
"""

from __future__ import annotations

import gc
import statistics
import subprocess
import sys
import time

import torch

from bench import contenders
from helpers import models, training
from helpers.data import Dataset, load
from helpers.recipe import Recipe

# each model with its data and the numbers of models that are trained together
CNN_DATA = {"name": "glyphs", "n_train": 1000, "n_val": 400, "n_test": 100}
CASES = {
    "mlp": (Recipe(depth=2, width=128, optimizer="adam", lr=1e-3, epochs=10), {"name": "digits"}, (1, 8, 32, 128)),
    "deep-mlp": (Recipe(depth=20, width=64, lr=0.03, epochs=4), {"name": "digits"}, (1, 8, 32)),
    "lenet": (Recipe(model="lenet5", optimizer="adam", lr=1e-3, epochs=2), CNN_DATA, (1, 8, 32)),
    "resnet": (
        Recipe(model="cnn", depth=8, width=8, norm="batch", shortcut="identity", lr=0.05, epochs=1), CNN_DATA,
        (1, 8, 32),
    ),
}  # fmt: skip
ONE_BY_ONE = 4  # models on which a contender is timed that trains them one after another


def seconds(contender, recipes, data, threads: int) -> float:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        begin = time.perf_counter()
        contender(recipes, data)
        return time.perf_counter() - begin
    finally:
        torch.set_num_threads(before)


def flop(recipe: Recipe, data: Dataset) -> float:
    """Floating-point operations of one run's matrix products and convolutions: training steps and validation."""
    model, sizes = training.fresh_model(recipe, data), []

    def note(layer, _, out):
        ones = layer.weight[0].numel()  # products that make one output
        sizes.append(2 * ones * out[0].numel())

    for layer in models.weight_layers(model):
        layer.register_forward_hook(note)
    model.eval()(data.x_val[:1])
    steps = recipe.epochs * training.steps_per_epoch(recipe, data.n_train)
    # forward, gradient of the weights, and gradient of the inputs, which the first layer does not need
    return steps * recipe.batch_size * (3 * sum(sizes) - sizes[0]) + recipe.epochs * len(data.y_val) * sum(sizes)


def matmul_peak(n: int = 1024) -> float:
    """The rate of a large float32 matrix product, in operations a second: the best of ten in torch and in NumPy."""
    a, times = torch.rand(n, n), []
    for matrix in [a] * 10 + [a.numpy()] * 10:
        begin = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - begin)
    return 2 * n**3 / min(times)


def peak_memory(case: str, n: int, name: str) -> float:
    """What training N models needs at its peak beyond what a process holds that has trained one, in MiB (Linux)."""
    code = (
        "import pathlib, re; from bench import contenders, speed\n"
        "status = pathlib.Path('/proc/self/status')\n"
        "def kib(name): return int(re.search(name + r':\\s+(\\d+)', status.read_text())[1])\n"
        f"recipe, data, _ = speed.CASES[{case!r}]; data = speed.load(**data); run = contenders.ALL[{name!r}]\n"
        "run([recipe.but(epochs=1)], data); before = kib('VmRSS')\n"
        "pathlib.Path('/proc/self/clear_refs').write_text('5')\n"  # the peak counts from here
        f"run([recipe.but(epochs=1, seed=s) for s in range({n})], data); print((kib('VmHWM') - before) / 1024)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(told.stdout.split()[-1])


def rivals_of(case: str) -> dict:
    """The contenders that can train this model and are installed."""
    found = {}
    for name, contender in contenders.ALL.items():
        if name == "scikit_learn" and not case.endswith("mlp"):
            continue
        if name in contenders.MODULES and not contenders.installed(contenders.MODULES[name]):
            print(f"bench {case}-{name}: left out, {contenders.MODULES[name]} is not installed", flush=True)
            continue
        found[name] = contender
    return found


def run_case(case: str, sizes, rounds: int, peak: float, only=None) -> list[dict]:
    """The rows of one case; `only` names the contenders, the reference apart."""
    recipe, source, _ = CASES[case]
    data, rows = load(**source), []
    cores, field = torch.get_num_threads(), rivals_of(case)
    field = {k: v for k, v in field.items() if only is None or k in ("dataloader", *only)}
    threads = {}
    for name, contender in field.items():  # a warm-up, then the trial of the threads
        few = [recipe.but(seed=s) for s in range(2)]
        seconds(contender, few[:1], data, cores)
        allowed = {1} if name == "one_thread" else {1, cores}
        trial = {t: min(seconds(contender, few, data, t) for _ in range(3)) for t in allowed}
        threads[name] = min(trial, key=trial.get)
    gc.freeze()  # nobody's rounds are slowed by what the others have imported
    threads["engine"] = cores  # it chooses by itself
    for n in sizes:
        times = {name: [] for name in field}
        few = [[recipe.but(seed=s)] for s in range(ONE_BY_ONE)]
        whole = few if n == 1 else [[recipe.but(seed=s) for s in range(n)]]
        for _ in range(rounds):
            for name, contender in field.items():
                parts = whole if name == "engine" else few
                taken = [seconds(contender, part, data, threads[name]) for part in parts]
                times[name].append(sum(taken) / sum(map(len, parts)))
        work, base = flop(recipe, data), times.pop("dataloader")
        for name, taken in times.items():
            ratios = [a / b for a, b in zip(base, taken, strict=True)]
            row = {
                "bench": f"{case}-n{n}-{name}", "ratio": round(statistics.median(ratios), 2),
                "lowest": round(min(ratios), 2), "highest": round(max(ratios), 2),
                "threads": threads[name],
                "models_per_second": round(1 / statistics.median(taken), 2),
                "share_of_matmul_peak": round(work / statistics.median(taken) / peak, 3),
            }  # fmt: skip
            if name == "engine" and sys.platform == "linux":
                row["peak_memory_mib"] = round(peak_memory(case, n, name))
            rows.append(row)
            more = f", {row['peak_memory_mib']} MiB" if "peak_memory_mib" in row else ""
            share = f"{100 * row['share_of_matmul_peak']:.0f} % of the matmul peak"
            print(f"bench {row['bench']}: ratio {row['ratio']:.2f} ({share}{more})", flush=True)
    return rows


def main(rounds: int = 5, cases=None, sizes=None, only=None) -> list[dict]:
    """Time all contenders in turn, `rounds` times, for each model and N; print and return the ratios."""
    peak, rows = matmul_peak(), []
    print(f"matmul peak of this machine: {peak / 1e9:.0f} GFLOP/s in float32 on {torch.get_num_threads()} threads")
    for case in cases or CASES:
        rows += run_case(case, sizes or CASES[case][2], rounds, peak, only)
    return rows
