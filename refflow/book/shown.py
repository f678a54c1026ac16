"""The value that a leaf draws: the page's own example, or its fields at random; or, where that is dull, one named here.

Ten leaves have a picture that moves: a parameter, its values, and the picture at each.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from ..accuracy.drawing import drawn_fields, example, has_examples
from .. import pictures
from ..core import Chain, Independent, RandomSource
from ..maps.autoregressive import Autoregressive
from ..maps.conditioners import dense_network, masked_dense_network
from ..maps.coupling import AdditiveCoupling, AffineCoupling, Coupling, affine_family, masks
from ..maps.elementwise import (Affine, BoxCox, KumaraswamyCDF, LambertWTail, LeakyReLU, Power, RescaledTanhExpScale, SignedPower,
                                Sinh, SinhArcsinh, WeibullCDF)
from ..maps.linear import CayleyLinear, ExponentialLinear, HouseholderLinear, LowRankLinear, OrthogonalLinear, Permutation, PLULinear
from ..maps.splines import CircularShift, RationalQuadraticSpline
from ..maps.residual import PiecewisePlanar, Planar, Radial, Sylvester

SEEDS, ENTRIES = range(8), 8            # of examples, the first with events of two numbers is drawn, or one with about so many
SIZE = 2                                # entries of a vector, so that a plane can be drawn
UNDRAWN = ("Dirichlet", "Dropout", "LKJCholesky")               # they have more than two numbers, or do nothing when they are drawn
SPREAD = 1                              # fields lie between 1/2 and 2


@functools.cache
def shown(page):
    """(value, event shape of its z or None if the value knows it) for a page; (None, None) for one that cannot be drawn so."""
    if page.__name__ in UNDRAWN:
        return None, None
    if page.__name__ in NAMED:
        return NAMED[page.__name__](), None
    if not has_examples(page):
        source = RandomSource(np.random.default_rng(0))
        return page(**drawn_fields(page, source, np.float64, SPREAD, lambda letter: SIZE, optional=0)), None
    found = [example(page, RandomSource(np.random.default_rng(seed)), np.float64) for seed in SEEDS]
    return next((one for one in found if one[1] == (2,)), min(found, key=lambda one: abs(math.prod(one[1]) - ENTRIES)))


def net(outputs, scale=1.2):
    """A network of one entry, whose outputs bend."""
    made = dense_network(np.random.default_rng(3), (1, 16, outputs), "tanh", zero_last=False)
    return made.unravel(made.ravel() * scale)


def turned(degrees):
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


HALF, MATRIX = masks.halves(2), [[0.3, -0.9], [0.6, 0.2]]
SMOOTH = affine_family(RescaledTanhExpScale(1.0, 0.0))
NAMED = {
    "Chain": lambda: Chain([AffineCoupling(HALF, net(2)), AdditiveCoupling(~HALF, net(1))]),
    "Independent": lambda: Independent(Sinh(), 1),
    "BoxCox": lambda: BoxCox(0.5),
    "LambertWTail": lambda: LambertWTail(0.1),
    "Power": lambda: Power(2.0),
    "RescaledTanhExpScale": lambda: RescaledTanhExpScale(2.0, 0.5),
    "Affine": lambda: Affine(shift=0.5, scale=1.6),
    "CayleyLinear": lambda: CayleyLinear([[0.0, -0.6], [0.6, 0.0]]),
    "ExponentialLinear": lambda: ExponentialLinear([[0.3, -0.6], [0.6, -0.3]]),
    "HouseholderLinear": lambda: HouseholderLinear([[1.0, 0.4], [0.8, 1.0]]),
    "LowRankLinear": lambda: LowRankLinear([1.0, 1.0], [[0.6], [0.3]], [[0.5], [0.8]]),
    "OrthogonalLinear": lambda: OrthogonalLinear(turned(30)),
    "Permutation": lambda: Permutation([2, 0, 4, 1, 3]),
    "PLULinear": lambda: PLULinear([1, 0], [[0.0, 0.0], [0.5, 0.0]], [[0.0, 0.4], [0.0, 0.0]], [1.2, 0.8]),
    "AdditiveCoupling": lambda: AdditiveCoupling(HALF, net(1)),
    "AffineCoupling": lambda: AffineCoupling(HALF, net(2)),
    "Coupling": lambda: Coupling(HALF, net(2), SMOOTH),
    "Autoregressive": lambda: Autoregressive(masked_dense_network(
        np.random.default_rng(1), 2, (16,), 2, activation="tanh", zero_last=False), SMOOTH),
    "Planar": lambda: Planar([1.0, 0.5], 0.0, [0.5, 1.5], 3.0),
    "PiecewisePlanar": lambda: PiecewisePlanar([1.0, 0.5], 0.0, [0.3, 0.8], 2.0, 0.4),
    "Radial": lambda: Radial([0.5, 0.3], 0.5, 2.5),
    "Sylvester": lambda: Sylvester([[0.0, 0.7], [0.0, 0.0]], [[0.0, 0.6], [0.0, 0.0]], [1.0, 0.8], [0.2, -0.2], [0.4, 2.5]),
}


def bin_of(slope):
    """A spline of three bins whose middle knots have this slope."""
    return RationalQuadraticSpline([-2.5, -0.8, 0.8, 2.5], [-2.5, -0.8, 0.8, 2.5], [1.0, slope, slope, 1.0])


LINE = (-6.0, 6.0)
MOVING = {
    "Affine": ("scale", np.linspace(0.3, 2.3, 21), lambda a: pictures.numbers(Affine(shift=0.0, scale=a), image=LINE)),
    "BoxCox": ("power", np.linspace(0.2, 2.0, 21), lambda a: pictures.numbers(BoxCox(a), image=(-3.0, 6.0))),
    "CircularShift": ("turns", np.linspace(-0.5, 0.5, 21), lambda a: pictures.numbers(CircularShift([0.0, 1.0], a), image=(0.0, 1.0))),
    "KumaraswamyCDF": ("a", np.geomspace(0.4, 2.5, 21), lambda a: pictures.numbers(KumaraswamyCDF(a, 2.0), image=(0.0, 1.0))),
    "LambertWTail": ("tailweight", np.linspace(0.0, 0.3, 21), lambda a: pictures.numbers(LambertWTail(a), image=LINE)),
    "LeakyReLU": ("negative slope", np.linspace(0.1, 2.1, 21), lambda a: pictures.numbers(LeakyReLU(a), image=LINE)),
    "Power": ("exponent", np.geomspace(0.4, 2.5, 21), lambda a: pictures.numbers(Power(a), image=(0.0, 6.0))),
    "RationalQuadraticSpline": ("slope", np.geomspace(0.1, 2.0, 21), lambda a: pictures.numbers(bin_of(a), image=(-2.6, 2.6))),
    "SignedPower": ("exponent", np.geomspace(0.4, 2.0, 21), lambda a: pictures.numbers(SignedPower(a), image=LINE)),
    "SinhArcsinh": ("tailweight", np.linspace(0.5, 1.5, 21), lambda a: pictures.numbers(SinhArcsinh(0.0, a), image=LINE)),
    "WeibullCDF": ("concentration", np.geomspace(0.5, 3.0, 21), lambda a: pictures.numbers(WeibullCDF(1.0, a), image=(0.0, 1.0))),
}
