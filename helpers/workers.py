"""Where the work of a sweep is done: in threads, in processes, or on the cluster that joblib has been told of.

Threads start at once and share the data, and torch lets go of Python's lock inside its kernels, so for convolutions and
large stacks they are as good as processes. Work that is mostly Python gains from processes alone, and those first have
to import torch. `spread` measures which it is.

Inside one operation threads do not pay: the networks of this book are small, and two threads that wait for each other
at every layer can take ten times as long as one. So torch is given one thread here; `engine` trains other models on the
others, and gives several to one model where its layers are large. `torch.set_num_threads(n)` undoes it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import torch
from joblib import Parallel, delayed
from joblib import parallel as joblib_parallel

CORES = torch.get_num_threads()  # torch's own choice, or what OMP_NUM_THREADS says
torch.set_num_threads(1)

START = 10.0  # seconds that processes must save before they are worth their start: importing torch takes two to five
GLANCE = 1.0  # seconds of work in threads before anything is concluded from it


def named() -> bool:
    """Whether a `joblib.parallel_config` around the call says where work goes: to a cluster, for instance."""
    backend, jobs = joblib_parallel.get_active_backend()
    return jobs is not None or type(backend) is not joblib_parallel.BACKENDS[joblib_parallel.DEFAULT_BACKEND]


def parallel(work: Callable, items, **options) -> Iterator:
    """Yield the result of `work(*item)` for each item, in the order in which they finish.

    Goes where a surrounding `joblib.parallel_config` says, else to `n_jobs` processes.
    """
    # one item at a time: joblib would bundle short ones, and a bundle is lost as a whole when a machine goes away
    pool = Parallel(return_as="generator_unordered", batch_size=1, **options)
    yield from pool(delayed(work)(*item) for item in items)


def spread(work: Callable, items: Sequence[tuple], sizes: Sequence[float], cores: int) -> Iterator:
    """The same in threads, as many as `cores`; what is left goes to processes when that is measured to pay.

    `sizes` says how much work each item is. When the threads leave cores idle, they wait for Python's lock; what is
    lost by that in the estimated rest is what processes would save.
    """
    waiting, left, leave = deque(zip(items, sizes, strict=True)), sum(sizes), False

    def next_ones():
        nonlocal left
        while waiting and not leave:
            item, size = waiting.popleft()
            left -= size
            yield item

    begin, cpu, total = time.perf_counter(), time.process_time(), sum(sizes)
    for result in parallel(work, next_ones(), n_jobs=cores, backend="threading", pre_dispatch="n_jobs"):
        yield result
        spent = time.perf_counter() - begin
        idle = 1 - (time.process_time() - cpu) / (spent * cores)
        # what is in the threads' hands counts as done: the rest is rather estimated too short
        leave = leave or (spent > GLANCE and idle * left * spent / (total - left) > START)
    yield from parallel(work, [item for item, _ in waiting], n_jobs=cores)
