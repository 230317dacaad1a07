"""`make bench`: the engine beside its rivals, in one process, in turn; ratios of medians, written to _build/bench.json.

Every contender trains the same N models on the same data for the same number of gradient steps. The reference of
every ratio is the ordinary PyTorch loop with a DataLoader; above 1 is faster than that.
"""

from __future__ import annotations

import json
import os
import pathlib
import platform
import statistics
import time
import warnings

import torch
import torch.nn.functional as F
from sklearn.neural_network import MLPClassifier
from torch.utils.data import DataLoader, TensorDataset

from helpers import checks, engine, training
from helpers.data import load
from helpers.recipe import Recipe

OUT = pathlib.Path(__file__).resolve().parent.parent / "_build" / "bench.json"
DIGITS = load("digits")
MODELS = {
    "mlp": Recipe(depth=2, width=128, optimizer="adam", lr=1e-3, epochs=2),
    "deep-mlp": Recipe(depth=20, width=64, lr=0.03, epochs=2),
}


def dataloader_loop(recipes):
    """The loop that tutorials show: a DataLoader with shuffling, an ordinary optimizer."""
    for r in recipes:
        model = training.fresh_model(r, DIGITS)
        kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[r.optimizer]
        optimizer = kind(model.parameters(), lr=r.lr)
        loader = DataLoader(
            TensorDataset(DIGITS.x_train, DIGITS.y_train), batch_size=r.batch_size, shuffle=True, drop_last=True
        )
        for _ in range(r.epochs):
            for x, y in loader:
                loss = F.cross_entropy(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()


def one_at_a_time(recipes):
    """The book's own loop, one model after another, on preloaded tensors with fused optimizers."""
    for r in recipes:
        training.train_one(r, DIGITS)


def stacked(recipes):
    """The engine."""
    engine.train(recipes, DIGITS)


def scikit_learn(recipes):
    """scikit-learn's MLPClassifier, same layers, batch size, rate and number of epochs."""
    x, y = DIGITS.x_train.flatten(1).numpy(), DIGITS.y_train.numpy()
    for r in recipes:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has not converged: that is as it should be
            MLPClassifier(
                (r.width,) * r.depth, solver=r.optimizer, learning_rate_init=r.lr, batch_size=r.batch_size,
                max_iter=r.epochs, tol=0, n_iter_no_change=r.epochs + 1, random_state=r.seed,
            ).fit(x, y)  # fmt: skip


CONTENDERS = {"engine": stacked, "loop": one_at_a_time, "scikit-learn": scikit_learn}


def seconds(contender, recipes) -> float:
    begin = time.perf_counter()
    contender(recipes)
    return time.perf_counter() - begin


def main(rounds: int = 5, sizes=(1, 8, 32)) -> list[dict]:
    """Time all contenders in turn, `rounds` times, for each model and N; print and return the ratios."""
    checks.integer("rounds", rounds, low=1, try_="5")
    results = []
    for model, recipe in MODELS.items():
        for n in sizes:
            recipes = [recipe.but(seed=s) for s in range(n)]
            for contender in (dataloader_loop, *CONTENDERS.values()):
                contender(recipes[:1] if n == 1 else recipes[:2])  # warm up
            times = {name: [] for name in ("reference", *CONTENDERS)}
            for _ in range(rounds):
                times["reference"].append(seconds(dataloader_loop, recipes))
                for name, contender in CONTENDERS.items():
                    times[name].append(seconds(contender, recipes))
            base = statistics.median(times["reference"])
            steps = n * recipe.epochs * training.steps_per_epoch(recipe, DIGITS.n_train)
            for name in CONTENDERS:
                ratios = [a / b for a, b in zip(times["reference"], times[name], strict=True)]
                row = {
                    "bench": f"{model}-n{n}-{name}", "ratio": round(statistics.median(ratios), 2),
                    "lowest": round(min(ratios), 2), "highest": round(max(ratios), 2),
                    "model_steps_per_second": round(steps / statistics.median(times[name])),
                    "reference_steps_per_second": round(steps / base),
                }  # fmt: skip
                results.append(row)
                print(f"bench {row['bench']}: ratio {row['ratio']:.2f}", flush=True)
    return results


if __name__ == "__main__":
    found = main()
    about = {
        "torch": torch.__version__, "threads": torch.get_num_threads(), "cores": os.cpu_count(),
        "python": platform.python_version(), "machine": platform.processor() or platform.machine(),
    }  # fmt: skip
    OUT.parent.mkdir(exist_ok=True)
    part = OUT.with_suffix(".part")
    part.write_text(json.dumps({"about": about, "results": found}, indent=1), encoding="utf-8")
    part.replace(OUT)
    print(f"written to {OUT.relative_to(OUT.parent.parent)}")
