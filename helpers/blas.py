"""Products of many pairs of matrices at once: on one thread of a CPU through NumPy, which is faster there than torch.

torch multiplies with Intel's MKL, which uses AVX-512 on Intel's own processors alone. NumPy's OpenBLAS uses it on every
processor that has it, and keeps up elsewhere. On several threads torch shares the pairs out, and NumPy does not.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

FLOATS = (torch.float32, torch.float64)  # those that NumPy has, too


def product(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """The products (N, m, n) of N pairs of matrices, a (N, m, k) and b (N, k, n); without a gradient."""
    if not a.is_cpu or a.dtype not in FLOATS or torch.get_num_threads() > 1:
        return torch.bmm(a, b, out=out)
    if out is None:
        out = a.new_empty(a.shape[0], a.shape[1], b.shape[2])
    np.matmul(a.numpy(), b.numpy(), out=out.numpy())
    return out


def quiet():
    """NumPy tells nothing of an overflow in here, or in the function below: a run that diverges is a result."""
    return np.errstate(over="ignore", invalid="ignore")


@functools.cache
def _library() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


def one_thread():
    """NumPy multiplies on one thread in here: a second one would wait for torch's, and take many times as long."""
    return _library().limit(limits=1)
