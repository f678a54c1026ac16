"""Arithmetic with the exponent kept apart, so that a product overflows or vanishes only if its result does; exact sums."""

from __future__ import annotations

import functools

import numpy as np
import scipy

from .words import log_2

FEW = 4                         # factors that are multiplied one by one, faster than along a short axis


def times(a, *factors) -> np.ndarray:
    """a times the factors; 0 where a is 0, even if they are infinite."""
    product = a
    for factor in factors:
        product = product * factor
    return np.where(a == 0, a, product)


def quotient(bar, a) -> np.ndarray:
    """bar / a; 0 where bar is 0, even if a is 0."""
    return np.where(bar == 0, bar, bar / a)


def product_apart(values):
    """(m, e) with v_1 v_2 ... v_D = m 2^e, over the last axis or a tuple of arrays, with 1/2 <= |m| < 1; nothing overflows.

    With v_j = m_j 2^(e_j) exactly, the exponents add exactly; the mantissas' product is renormalised in chunks.
    """
    if isinstance(values, tuple) or 0 < values.shape[-1] <= FEW:
        mantissas, exponents = zip(*map(np.frexp, values if isinstance(values, tuple) else np.moveaxis(values, -1, 0)))
        product, carry = np.frexp(functools.reduce(np.multiply, mantissas))
        return product, functools.reduce(np.add, exponents, carry.astype(np.int64))
    mantissa, exponent = np.frexp(values)
    total = exponent.sum(-1)
    product = np.ones(values.shape[:-1], values.dtype)
    for start in range(0, values.shape[-1], 64):
        product, carry = np.frexp(product * mantissa[..., start:start + 64].prod(-1))
        total = total + carry
    return product, total


def ratio(numerators, denominators=(1.0,)):
    """The quotient of two products that leaves the floats only if it must; 0 where the first factor is 0."""
    (m, e), (n, k) = product_apart(numerators), product_apart(denominators)
    return np.where(numerators[0] == 0, 0, np.ldexp(m / n, e - k)).astype(m.dtype)


def log_abs_product(values) -> np.ndarray:
    """log|v_1 v_2 ... v_D|, over the last axis or a tuple of arrays, without the digits that a sum of logarithms loses.

    With the product as m 2^e, it is log|m| + e log 2.  Where the whole product is near 1, these terms nearly cancel; there
    the product itself is a float near 1, and its logarithm is accurate.
    """
    product, total = product_apart(values)
    near = np.abs(total) <= 2
    far = np.log(np.abs(product)) + total.astype(product.dtype) * log_2(product)
    return np.where(near, np.log(np.abs(np.ldexp(product, np.where(near, total, 0)))), far)


# -- sums and products without rounding ------------------------------------------------------------------------------

def exact_product(a, b) -> tuple[np.ndarray, np.ndarray]:
    """(p, r) with a b = p + r exactly, where p is the rounded product; nothing may overflow or be subnormal (Dekker's product).

    Each factor is split into two numbers of half its digits; the products of such numbers are exact.
    """
    half = a.dtype.type(2 ** (np.finfo(a.dtype).nmant // 2 + 1) + 1)
    product, halves = a * b, []
    for v in (a, b):
        wide = v * half
        high = wide - (wide - v)
        halves += [high, v - high]
    a_1, a_2, b_1, b_2 = halves
    return product, a_2 * b_2 - (product - a_1 * b_1 - a_2 * b_1 - a_1 * b_2)


def split_sum(a, b):
    """(s, r) with a + b = s + r exactly, where s is the rounded sum (Knuth's sum)."""
    total = a + b
    added = total - a
    return total, (a - (total - added)) + (b - added)


def exact_sum(terms) -> np.ndarray:
    """The sum of a list of arrays to within one unit of its last digit, however much the terms cancel."""
    return expansion(terms)[-1]


def expansion(terms):
    """A list of arrays with exactly the same sum; the last array is that sum to within one unit of its last digit.

    Each pass replaces neighbours by their rounded sum and its error, which together equal the two numbers exactly;
    after n - 1 passes, mostly far earlier, each of the n terms is below the last digit of the next (Bohlender's theorem).
    """
    terms = list(terms)
    for _ in terms:
        moved = False
        for i in range(1, len(terms)):
            total, rest = split_sum(terms[i], terms[i - 1])
            moved |= bool(np.any(total != terms[i]))
            terms[i], terms[i - 1] = total, rest
        if not moved:
            break
    return terms


# -- numbers with the exponent apart ----------------------------------------------------------------------------------
#
# A pair (m, e) of a mantissa, 0 or 1/2 <= |m| < 1, and an integer stands for m 2^e, entry by entry; nothing overflows.

NOTHING = -2**40                # the exponent of 0 in a comparison: smaller than any other


def apart(values):
    """(m, e) with values = m 2^e."""
    m, e = np.frexp(values)
    return m, e.astype(np.int64)


def product_of_pairs(a, b):
    m, carry = np.frexp(a[0] * b[0])
    return m, a[1] + b[1] + carry


def sum_of_pairs(a, axis):
    """The sum along an axis; a term that is far below the largest one adds nothing."""
    m, e = a
    top = np.where(m == 0, NOTHING, e).max(axis, keepdims=True, initial=NOTHING)
    total, carry = np.frexp(np.ldexp(m, np.minimum(e - top, 0)).sum(axis))
    return total, np.where(total == 0, 0, np.squeeze(top, axis) + carry)


def difference_of_pairs(a, b):
    pairs = np.broadcast_arrays(a[0], -b[0]), np.broadcast_arrays(a[1], b[1])
    return sum_of_pairs(tuple(np.stack(part, -1) for part in pairs), -1)


def largest_pair(a):
    """The index of the largest number along the last axis, with that axis kept."""
    m, e = a
    order = np.sign(m).astype(np.int64) * (e - NOTHING)
    return np.where(order == order.max(-1, keepdims=True), m, -np.inf).argmax(-1)[..., None]


def at_pair(a, index):
    """The numbers at an index along the last axis, with that axis kept."""
    return tuple(np.take_along_axis(part, index, -1) for part in a)


# -- scaled events ----------------------------------------------------------------------------------------------------
#
# A scaled event is a pair (y, e), y (*batch, D) and e (*batch, 1) integers, that stands for 2^e y.  It never overflows.
# If all events are of moderate size, as they nearly always are, e is the int 0 and nothing is scaled.

def needs_no_scaling(y):
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
    matters: what underflows relative to the largest entry is far below the normwise unit of error.
    """
    if type(e) is int and e == 0 and needs_no_scaling(y):
        return y, 0
    _, k = np.frexp(np.abs(y).max(-1, keepdims=True))
    return np.ldexp(y, -k), e + k


def solve_lower(L, b, e=0, unit=False):
    """The unit scaled (y, e') with L 2^e' y = 2^e b, by forward substitution: y_i = (b_i - sum_{j<i} L_ij y_j) / L_ii.

    L is (*batch, D, D); only its lower triangle is read (with `unit` the diagonal is 1 and is not read).  b and e are as
    in a scaled event of the full batch.  An event that outgrows the root of the largest float is scaled down on the way.
    """
    y, e = unit_scaled(b, e)
    if L.ndim == 2 and type(e) is int:
        solved = scipy.linalg.solve_triangular(L, y.reshape(-1, y.shape[-1]).T, lower=True, unit_diagonal=unit,
                                               check_finite=False)
        solved = np.ascontiguousarray(solved.T).reshape(y.shape)
        if needs_no_scaling(solved):
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


# -- numbers near the ends of the floats ------------------------------------------------------------------------------

def is_normal(a):
    """Marks of the positive numbers that are finite and not subnormal."""
    return (a >= np.finfo(a.dtype).tiny) & np.isfinite(a)


def log_quotient(a, b):
    """log(a/b) for a, b > 0, also where a/b overflows or is subnormal."""
    fraction = a / b
    near = (fraction >= 0.5) & (fraction <= 2)
    far = np.where(is_normal(fraction), np.log(fraction), np.log(a) - np.log(b))
    return np.where(near, np.log1p((a - b) / b), far)


def factors_of_exp(exponent):
    """exp(exponent) as a product of two factors, which are not subnormal unless its root is."""
    whole, half = np.exp(exponent), np.exp(exponent / 2)
    return np.where(is_normal(whole), whole, half), np.where(is_normal(whole), 1, half)
