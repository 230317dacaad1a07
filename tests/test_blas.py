"""Products of stacks of matrices through NumPy."""

from __future__ import annotations

import threading
import warnings

import pytest
import torch

from helpers import blas


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("layout", ["plain", "transposed", "shared"])
def test_it_is_the_product(threads, dtype, layout):
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(3, 5, 4, generator=generator, dtype=torch.float64)
    b = torch.randn(3, 4, 6, generator=generator, dtype=torch.float64)
    if layout == "transposed":
        b = torch.randn(3, 6, 4, generator=generator, dtype=torch.float64).mT
    if layout == "shared":  # one batch that all models read
        a = a[:1].expand(3, -1, -1)
    want = torch.stack([x @ y for x, y in zip(a, b, strict=True)])
    close = {"atol": 0.1, "rtol": 0} if dtype == torch.bfloat16 else {}
    out = torch.empty(3, 5, 6, dtype=dtype)
    given = blas.product(a.to(dtype), b.to(dtype), out)
    assert given.data_ptr() == out.data_ptr()
    torch.testing.assert_close(out, want.to(dtype), **close)
    torch.testing.assert_close(blas.product(a.to(dtype), b.to(dtype)), want.to(dtype), **close)


def test_on_one_thread_numpy_multiplies_and_on_several_torch_does(threads, monkeypatch):
    called = []
    monkeypatch.setattr(blas.torch, "bmm", lambda a, b, out=None: called.append(1) or a @ b)
    blas.product(torch.ones(1, 2, 2), torch.ones(1, 2, 2))
    assert bool(called) == (threads > 1)


def test_an_overflow_is_no_warning():
    large = torch.full((1, 2, 2), 1e30)
    with warnings.catch_warnings(), blas.quiet():
        warnings.simplefilter("error")
        assert blas.product(large, large).isinf().all()


def numbers():
    return {library["num_threads"] for library in blas._library().info()}


def test_the_limit_holds_in_every_thread_and_is_lifted():
    before, seen = numbers(), []

    def other():
        with blas.one_thread():
            seen.append(numbers())

    with blas.one_thread():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert numbers() == {1}
    assert (seen, numbers()) == ([{1}], before)


def test_the_limit_is_lifted_after_an_error():
    before = numbers()
    with pytest.raises(ZeroDivisionError), blas.one_thread():
        raise ZeroDivisionError
    assert numbers() == before
