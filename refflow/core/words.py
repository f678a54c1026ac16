"""Small shared words of the pages."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


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
