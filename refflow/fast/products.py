r"""Products of matrices as stacks of small ones.

    W [A_1, ..., A_q] = [W A_1, ..., W A_q]                                         (1)
    (G H^T)_ij = G_i H_j^T,   G_i and H_j blocks of rows                            (2)
OpenBLAS copies both factors of a product before it multiplies them.  Where the processor has AVX-512 it multiplies small
ones, of at most 10^6 multiplications, in place, without copying: for networks of 128 units that saves a tenth of the time.
Elsewhere small products are slower, and there is one block.
"""

from __future__ import annotations

import functools

import numpy as np

SMALL = 10**6
NARROW, WIDE = 32, 64                       # columns of a block, WIDE excluded
LINE = 64                                   # bytes of a register and of a cache's line
AVX512 = {"X86_V4", "AVX512_SKX"}           # its names in the releases of NumPy


@functools.cache
def in_place():
    """Are small products multiplied without copying?  Not decided by timing, so that a machine always gives the same bits."""
    config = np.show_config(mode="dicts")
    blas = config.get("Build Dependencies", {}).get("blas", {}).get("name", "")
    return "openblas" in blas and not AVX512.isdisjoint(config.get("SIMD Extensions", {}).get("found", ()))


def column_block(n, dtype):
    """The number of columns of the A_i of (1), for A of n columns that may be padded with columns of zeros."""
    if not in_place():
        return n
    step = LINE // dtype.itemsize
    if n <= NARROW:
        return -(-n // step) * step
    return min(range(NARROW, WIDE, step), key=lambda block: -(-n // block) * block)


def row_block(size):
    """The number of rows of the blocks of (2), for a factor of `size` rows: all rows if no number near 32 divides them."""
    if size <= NARROW:
        return max(size, 1)
    block = max(divisor for divisor in range(1, NARROW + 1) if size % divisor == 0)
    return block if block >= NARROW // 4 else size


def row_blocks(M, N, n):
    """The numbers of rows of the G_i and the H_j of (2), for G (M, n) and H (N, n)."""
    rows = row_block(M), row_block(N)
    return rows if in_place() and rows[0] * rows[1] * n <= SMALL else (max(M, 1), max(N, 1))


def zeros(rows, columns, dtype):
    """A matrix of zeros that begins at a cache line: a register is then read from one line, not two."""
    held = np.zeros(rows * columns * dtype.itemsize + LINE, np.uint8)
    start = -held.ctypes.data % LINE
    return held[start:start + rows * columns * dtype.itemsize].view(dtype).reshape(rows, columns)


def columns(A, block):
    """(q, len(A), block): the A_i of (1)."""
    return A.reshape(len(A), A.shape[1] // block, block).swapaxes(0, 1)


def left(G, rows):
    """(M / rows, 1, rows, n): the G_i of (2)."""
    return G.reshape(len(G) // rows, 1, rows, G.shape[1])


def right(H, rows):
    """(1, N / rows, n, rows): the H_j^T of (2)."""
    return H.reshape(1, len(H) // rows, rows, H.shape[1]).swapaxes(2, 3)


def blocks(product, M, N):
    """The blocks (M, N) of a matrix, as in (2)."""
    return product.reshape(len(product) // M, M, product.shape[1] // N, N).swapaxes(1, 2)
