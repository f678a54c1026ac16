"""Maps of bijx: its scalar bijections, without the log-density that they usually carry."""

from __future__ import annotations

import bijx
from flax import nnx

from .entry import HALF_LINE, UNIT, normal, positive
from .in_jax import one


def both(bijection):
    def forward(z):
        x = bijection.fwd(z)
        return x, bijection.log_jac(z, x)

    def inverse(x):
        z = bijection.rev(x)
        return z, -bijection.log_jac(z, x)

    return forward, inverse


def given(value):
    return nnx.Param(value)


def maps():
    yield one("AffineLinear", lambda a, c: both(bijx.AffineLinear(given(c), given(a), transform_scale=None)), normal(), positive())
    yield one("Exponential", lambda: both(bijx.Exponential()), codomain=HALF_LINE)
    yield one("SoftPlus", lambda: both(bijx.SoftPlus()), codomain=HALF_LINE)
    yield one("Sigmoid", lambda: both(bijx.Sigmoid()), codomain=UNIT)
    yield one("Tanh", lambda: both(bijx.Tanh()), codomain=(-1, 1))
    yield one("GaussianCDF", lambda a, c: both(bijx.GaussianCDF(given(c), given(a), transform_scale=None)), normal(), positive(),
              codomain=UNIT)
    yield one("Sinh", lambda: both(bijx.Sinh()))
