r"""The law of scales: their products with numbers, which other maps use, agree with their own values and cotangents.

With `d(log sigma)/ds = n exp(q)` and the pullback `sigma*`, for numbers `z`, cotangents `g` of `sigma` and `l` of its logarithm,
    (z sigma)/z = sigma,   z n exp(q) = sigma*(0, z)                                (1)
    g d(sigma)/ds + l n exp(q) = sigma*(g, l)                                       (2)
The certificate holds the right sides.
"""

from __future__ import annotations

import numpy as np

from ..core import RandomSource
from .law import distance, expect, law

LAWS: dict = {}
COUNT, SPREAD = 32, 4               # of numbers, 2^-4 to 2^4
ROOM = 32                           # units of rounding of the terms


@law("products with a scale agree with its values", LAWS)
def products(scale, _):
    """(1) and (2); of an elementwise scale."""
    if scale.gains is not None:
        return
    source = RandomSource(np.random.default_rng(0))
    s = scale.domain.draw(source, (COUNT,), np.float64, SPREAD)
    z, g, l = (source.signed((COUNT,), -SPREAD, SPREAD) for _ in range(3))
    f = scale.astype(np.float64)
    (sigma, _), pullback = f.vjp(s)
    by_sigma, by_log = pullback(g, 0 * l)[0], pullback(0 * g, l)[0]
    with np.errstate(all="ignore"):             # as within a map that uses them
        view = f.unchecked(s.dtype).at_values(s)
        given = view.times(z), view.log_slope_times(l), view.slope_times(g), view.cotangents(np.ones(COUNT), g, l)[0]
    terms = np.abs(by_sigma) + np.abs(by_log)
    near("z sigma", given[0], z * sigma, scale)
    near("z d(log sigma)/ds", given[1], by_log, scale)
    near("z d(sigma)/ds", given[2], by_sigma, scale)
    near("s_bar", given[3], by_sigma + by_log, scale, terms)


def near(what, given, wanted, scale, size=None):
    off = ~(distance(given, wanted) <= ROOM * np.finfo(np.float64).eps * (np.abs(wanted) if size is None else size))
    expect(not off.any(), f"{what} is {given[off][:1].tolist()}, not {wanted[off][:1].tolist()}; {scale!r}")
