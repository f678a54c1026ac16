"""Small shared words of the pages: cases, logarithms, scaled events, substitution."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy


@dataclass(frozen=True)
class Case:
    """A named input that is hard, and the reason it exists.

    `z` are events of `forward`, `x` events of `inverse` (lists of scalars for scalar pages, of events otherwise);
    `params` are fields that differ from the ones drawn.
    """

    name: str
    reason: str
    z: list = field(default_factory=list)
    x: list = field(default_factory=list)
    params: dict = field(default_factory=dict)


def case(name, reason, z=(), x=(), **params) -> Case:
    """A hard case of a page: `case("Tiny", "log-det is -z^2", z=[1e-9, 1e-160])`."""
    return Case(name, reason, list(z), list(x), params)


def log_2(like):
    """log 2 in the dtype of `like`, so that float32 events stay float32."""
    return like.dtype.type(np.log(2.0))


def halves(array, axis=-1):
    """The first and the second half along an axis."""
    return np.split(array, 2, axis)


def join(*arrays, axis=-1):
    """Concatenate along the last axis."""
    return np.concatenate(arrays, axis)


def log_abs_product(values):
    """log|v_1 v_2 ... v_D| over the last axis, without the digits that a sum of logarithms loses.

    With v_j = m_j 2^(e_j) exactly, 1/2 <= |m_j| < 1,
        log|prod v_j| = log|prod m_j| + log(2) sum e_j.
    The exponents add exactly; the mantissas' product cannot underflow for D <= 1000, and is renormalised in chunks.
    Where the whole product is near 1 both terms nearly cancel, so there the product itself is taken: when sum e_j is
    small, prod m_j 2^(sum e_j) is a float near 1 and its logarithm is accurate.
    """
    mantissa, exponent = np.frexp(values)
    total = exponent.sum(-1)
    product = np.ones(values.shape[:-1], values.dtype)
    for start in range(0, values.shape[-1], 64):
        product, carry = np.frexp(product * mantissa[..., start:start + 64].prod(-1))
        total = total + carry
    near = np.abs(total) <= 2
    far = np.log(np.abs(product)) + total.astype(values.dtype) * log_2(values)
    return np.where(near, np.log(np.abs(np.ldexp(product, np.where(near, total, 0)))), far)


# -- scaled events ----------------------------------------------------------------------------------------------------
#
# A scaled event is a pair (y, e), y (*batch, D) and e (*batch, 1) integers, that stands for 2^e y.  It overflows nowhere.
# e is the int 0 where all events are of moderate size, as they nearly always are: nothing is scaled then.

def moderate(y):
    """Is the norm of every event so far from both ends of the floats that products with it need no scaling?

    It lies in 2^-16 .. 2^16 in float32, in 2^-128 .. 2^128 in float64.
    """
    limits = np.finfo(y.dtype)
    squares = np.einsum("...i,...i->...", y, y)
    return bool(np.all((squares >= limits.tiny**0.25) & (squares <= limits.max**0.25)))


def scaled(y, e):
    """2^e y."""
    return y if type(e) is int and e == 0 else np.ldexp(y, e)


def unit_scaled(y, e=0):
    """The scaled event (y, e) with the largest |y_i| of each event in [1/2, 1), exactly; all 0 stays 0, and moderate
    events with e = 0 stay as they are.

    A linear map applied to it cannot overflow on its way to a result that does not, and meets no subnormal number that
    matters: what underflows beside the largest entry is far below the normwise unit of error.
    """
    if type(e) is int and e == 0 and moderate(y):
        return y, 0
    _, k = np.frexp(np.abs(y).max(-1, keepdims=True))
    return np.ldexp(y, -k), e + k


def solve_lower(L, b, e=0, unit=False):
    """The unit scaled (y, e') with L 2^e' y = 2^e b, by forward substitution: y_i = (b_i - sum_{j<i} L_ij y_j) / L_ii.

    L (*batch, D, D), of which the lower triangle alone is read (with `unit` the diagonal is 1 and not read); b and e as
    in a scaled event of the full batch.  An event that outgrows the root of the largest float is scaled down on the way.
    """
    y, e = unit_scaled(b, e)
    if L.ndim == 2 and type(e) is int:
        solved = scipy.linalg.solve_triangular(L, y.reshape(-1, y.shape[-1]).T, lower=True, unit_diagonal=unit,
                                               check_finite=False)
        solved = np.ascontiguousarray(solved.T).reshape(y.shape)
        if moderate(solved):
            return solved, 0
    root = np.sqrt(np.finfo(y.dtype).max)
    single = L.ndim == 2
    L = L if single else np.moveaxis(np.broadcast_to(L, y.shape + y.shape[-1:]), (-2, -1), (0, 1))
    y = np.array(np.moveaxis(y, -1, 0), order="C")                  # entry i of all events lies together in memory
    for i in range(len(y)):
        y[i] -= np.tensordot(L[i, :i], y[:i], 1) if single else (L[i, :i] * y[:i]).sum(0)
        if not unit:
            y[i] /= L[i, i]
        if np.any(np.abs(y[i]) > root):
            smaller, e = unit_scaled(np.moveaxis(y, 0, -1), e)
            y = np.moveaxis(smaller, -1, 0)
    return unit_scaled(np.moveaxis(y, 0, -1), e)


def solve_upper(U, b, e=0, unit=False):
    """The same for U y = b by back substitution, from the last row to the first."""
    y, e = solve_lower(U[..., ::-1, ::-1], b[..., ::-1], e, unit)
    return np.ascontiguousarray(y[..., ::-1]), e
