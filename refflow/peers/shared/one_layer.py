"""Couplings and autoregressive maps whose network is one layer, h = W a + b, with the same numbers in refflow and in a library.

Every number is a small multiple of 1/8, exact in float32.  A spline's numbers do not depend on the event, W = 0: at an event of
1000 they would be so uneven that nobody's knots, which are sums of bins, keep a digit.
"""

from __future__ import annotations

import functools

import numpy as np

from ...core import Chain
from ...maps.autoregressive import Autoregressive
from ...maps.conditioners import Dense, MaskedDense
from ...maps.coupling import Coupling

PASSES = np.array([True, False, False])


def numbers(*shape):
    return np.random.default_rng(len(shape) + sum(shape)).integers(-8, 9, shape) / 8


def coupling(family, layout="interleaved", weights=True):
    """The last two of three entries, transformed given the first."""
    outputs = 2 * family.size
    return Coupling(PASSES, Dense(weights * numbers(outputs, 1), numbers(outputs)), family, layout)


def autoregressive(family, weights=True):
    """Each of three entries transformed given those before it; the numbers of an entry are neighbours."""
    entry = np.repeat(np.arange(3), family.size)
    layer = MaskedDense(weights * numbers(entry.size, 3), entry[:, None] > np.arange(3), numbers(entry.size))
    return Autoregressive(layer, family, "interleaved")


def layer(net, units=None):
    """The layer as a function of its input; with `units`, of (*batch, units, numbers)."""
    def outputs(a):
        h = a @ net["W"].T + net["b"]
        return h if units is None else h.reshape(*h.shape[:-1], units, -1)

    return outputs


def alone(page):
    """A page as a composite, so that it is asked at its own fields."""
    return page if page.components() else Chain([page])


def of_stage(build):
    """As `declare` wants it for a page `alone`, from build(its fields)."""
    @functools.wraps(build)                             # of the library's module, by which its adapters are found
    def of_fields(params):
        return build(params["stages"]["0"])

    return of_fields
