"""Products as stacks of small ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refflow.fast import products

decided = products.in_place
DTYPES = st.sampled_from((np.dtype(np.float32), np.dtype(np.float64)))


@pytest.fixture(params=(True, False), ids=("in place", "copied"), autouse=True, scope="module")
def in_place(request):
    patch = pytest.MonkeyPatch()
    patch.setattr(products, "in_place", lambda: request.param)
    yield request.param
    patch.undo()


@given(n=st.integers(1, 5000), dtype=DTYPES)
def test_blocks_of_columns(in_place, n, dtype):
    block = products.column_block(n, dtype)
    filled = -(-n // block) * block
    if not in_place:
        assert block == n
        return
    assert block * dtype.itemsize % products.LINE == 0 and block < products.WIDE
    assert filled - n < products.WIDE and (n <= products.NARROW or filled <= -(-n // products.NARROW) * products.NARROW)


@given(M=st.integers(0, 300), N=st.integers(0, 300), n=st.integers(1, 600))
def test_blocks_of_rows(in_place, M, N, n):
    m, k = products.row_blocks(M, N, n)
    assert M % m == 0 and N % k == 0
    if (m, k) != (max(M, 1), max(N, 1)):
        assert in_place and m * k * n <= products.SMALL


@given(M=st.sampled_from((1, 6, 37, 64, 100)), N=st.sampled_from((0, 3, 32, 96)), n=st.integers(1, 80), dtype=DTYPES,
       seed=st.integers(0, 100))
def test_products_are_those_of_the_whole(M, N, n, dtype, seed):
    """Products of small integers, whose sums are exact."""
    rng = np.random.default_rng(seed)
    W, A, G = (rng.integers(-9, 10, shape).astype(dtype) for shape in ((M, N), (N, n), (M, n)))
    block = products.column_block(n, dtype)
    width = -(-n // block) * block
    filled, product = products.zeros(N, width, dtype), products.zeros(M, width, dtype)
    filled[:, :n] = A
    np.matmul(W, products.columns(filled, block), out=products.columns(product, block))
    assert np.array_equal(product[:, :n], W @ A) and not product[:, n:].any()
    rows, outer = products.row_blocks(M, N, n), np.empty((M, N), dtype)
    np.matmul(products.left(G, rows[0]), products.right(A, rows[1]), out=products.blocks(outer, *rows))
    assert np.array_equal(outer, G @ A.T)


@given(rows=st.integers(1, 9), columns=st.integers(1, 40), dtype=DTYPES)
def test_zeros_begin_with_a_line(rows, columns, dtype):
    array = products.zeros(rows, columns, dtype)
    assert array.shape == (rows, columns) and array.dtype == dtype and array.flags.c_contiguous
    assert array.ctypes.data % products.LINE == 0 and not array.any()
    assert array.ctypes.data % 64 == 0


@pytest.mark.parametrize("blas, found, expected", [
    ("scipy-openblas", ["SSE3", "X86_V3", "X86_V4"], True), ("openblas64", ["AVX512F", "AVX512_SKX"], True),
    ("scipy-openblas", ["SSE3", "X86_V3"], False), ("mkl", ["X86_V4"], False), ("accelerate", [], False)])
def test_products_are_in_place_with_openblas_and_avx_512(monkeypatch, blas, found, expected):
    config = {"Build Dependencies": {"blas": {"name": blas}}, "SIMD Extensions": {"found": found}}
    monkeypatch.setattr(np, "show_config", lambda mode: config)
    assert decided.__wrapped__() is expected
    monkeypatch.setattr(np, "show_config", lambda mode: {})
    assert decided.__wrapped__() is False


@pytest.mark.parametrize("n", [1, 15, 16, 20, 31, 32])
def test_few_columns_are_one_block_of_whole_registers(in_place, n):
    for itemsize, dtype in ((4, np.dtype(np.float32)), (8, np.dtype(np.float64))):
        block = products.column_block(n, dtype)
        assert n <= block < n + 64 // itemsize and (block * itemsize % 64 == 0 or not in_place)


@pytest.mark.parametrize("size, block", [(0, 1), (5, 5), (32, 32), (64, 32), (99, 11), (8 * 37, 8), (7 * 37, 7 * 37), (37, 37)])
def test_rows_are_in_blocks_of_8_to_32_if_such_a_number_divides_them(size, block):
    assert products.row_block(size) == block


def test_a_product_of_a_million_multiplications_is_the_largest_in_blocks(in_place):
    """There are 32^2 976 of them at most, and with one event more there are more than 10^6."""
    assert products.row_blocks(64, 96, 976) == ((32, 32) if in_place else (64, 96))
    assert products.row_blocks(64, 96, 977) == (64, 96)
