"""Synchronized batch normalization over two processes."""

from __future__ import annotations

import inspect
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import pandas as pd
import torch
import torch.distributed as dist
from torch import Tensor, nn

from helpers import checks, streams
from helpers.labs.batch_normalization import batch_norm, largest_gap


class AllReduce(torch.autograd.Function):
    """The sum over all processes, forward and back: what a gradient needs to cross from one process to another."""

    @staticmethod
    def forward(ctx, x):
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient):
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def sync_batch_norm(x: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
    """Batch normalization with the mean and variance of all processes' rows (Peng et al. 2018): x (rows, features)."""
    rows = torch.full_like(x[:1, 0], len(x))
    total = AllReduce.apply(torch.cat([rows, x.sum(0), x.square().sum(0)]))
    n, sums, squares = total[0], *total[1:].chunk(2)
    mean = sums / n
    var = squares / n - mean**2
    return gamma * (x - mean) / (var + eps).sqrt() + beta


def _card(rank: int, cards: int, folder: str, warm_up: int, repeats: int) -> None:
    """What one process does: normalize its part of a batch together with the others, then time a layer."""
    torch.set_num_threads(1)
    if sys.platform.startswith("linux"):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    place = pathlib.Path(folder)
    meeting = (place / "meeting").as_uri()
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=cards)
    x, c, gamma, beta = torch.load(place / "input.pt", weights_only=True)
    part = slice(rank * len(x) // cards, (rank + 1) * len(x) // cards)
    found = {}
    for name, layer in (("sync", sync_batch_norm), ("local", batch_norm)):
        mine = x[part].clone().requires_grad_()
        out = layer(mine, gamma, beta)
        (out * c[part]).sum().backward()
        found[name] = {"out": out.detach(), "grad": mine.grad}
        alone = x[part].clone().requires_grad_()  # only the first process has a loss now
        (layer(alone, gamma, beta) * c[part] * (rank == 0)).sum().backward()
        found[name]["grad of the first card's loss"] = alone.grad
    try:
        nn.SyncBatchNorm(x.shape[1])(x[part].float())
        found["torch"] = "torch.nn.SyncBatchNorm took it."
    except (ValueError, RuntimeError) as error:
        found["torch"] = f"{type(error).__name__}: {error}"
    data, times = torch.randn(256, 64), {"sync": [], "local": []}
    ones, zeros = torch.ones(64, requires_grad=True), torch.zeros(64, requires_grad=True)
    for i in range(warm_up + repeats):
        for name, layer in (("sync", sync_batch_norm), ("local", batch_norm)):
            dist.barrier()
            started = time.perf_counter()
            layer(data.requires_grad_(), ones, zeros).square().sum().backward()
            if i >= warm_up:
                times[name].append(time.perf_counter() - started)
    torch.save(found | {"seconds": times}, place / f"card{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def _script() -> str:
    """The source of what a process needs, as a program of its own: it starts without the rest of the book."""
    head = "from __future__ import annotations\nimport os, pathlib, sys, time\nimport torch\n"
    head += "import torch.distributed as dist\nfrom torch import Tensor, nn\n\n"
    body = "\n\n".join(inspect.getsource(f) for f in (batch_norm, AllReduce, sync_batch_norm, _card))
    return head + body + "\n\n_card(int(sys.argv[1]), 2, sys.argv[2], 5, int(sys.argv[3]))\n"


def two_cards(*, rows: int = 32, features: int = 8, repeats: int = 30, seed: int = 0, timeout: float = 120) -> dict:
    """Run `sync_batch_norm` in two processes that talk through gloo, and compare with one process that has all rows.

    Returns {"reason": ""} with: sync, local (largest differences), crossing_sync, crossing_local (largest gradient of
    the first card's loss on the second card), torch (what nn.SyncBatchNorm says), seconds (DataFrame, one row per
    repeat). Where processes cannot talk, "reason" says why.
    """
    checks.integer("rows", rows, low=4, try_="32")
    checks.integer("repeats", repeats, low=2, try_="30")
    if not (dist.is_available() and dist.is_gloo_available()):
        return {"reason": "this build of torch has no torch.distributed with gloo, so the two processes are left out."}
    draw = torch.Generator().manual_seed(streams.seed(seed))
    x = torch.randn(rows // 2 * 2, features, generator=draw, dtype=torch.float64)
    x[rows // 2 :] += 2  # the two cards see different data
    c, gamma, beta = (torch.randn(s, generator=draw, dtype=torch.float64) for s in (x.shape, features, features))
    whole = x.clone().requires_grad_()
    out = batch_norm(whole, gamma, beta)
    (out * c).sum().backward()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        place, workers, quiet = pathlib.Path(folder), [], subprocess.DEVNULL
        torch.save((x, c, gamma, beta), place / "input.pt")
        (place / "card.py").write_text(_script(), encoding="utf-8")
        try:
            for rank in range(2):
                command = [sys.executable, str(place / "card.py"), str(rank), folder, str(repeats)]
                workers.append(subprocess.Popen(command, stdout=quiet, stderr=quiet))
            ended = [w.wait(timeout) for w in workers]
        except (OSError, subprocess.TimeoutExpired) as error:
            return {"reason": f"two processes could not work together here ({type(error).__name__})."}
        finally:
            for w in workers:
                w.kill()
                w.wait()
        if any(ended):
            return {"reason": "two processes could not meet here (gloo found no way between them)."}
        found = [torch.load(place / f"card{rank}.pt", weights_only=True) for rank in range(2)]
    told = {"reason": "", "torch": found[0]["torch"], "seconds": pd.DataFrame(found[0]["seconds"])}
    for name in ("sync", "local"):
        got = {k: torch.cat([f[name][k] for f in found]) for k in ("out", "grad")}
        told[name] = {"out": largest_gap(got["out"], out), "grad": largest_gap(got["grad"], whole.grad)}
        told[f"crossing_{name}"] = found[1][name]["grad of the first card's loss"].abs().max().item()
    return told
