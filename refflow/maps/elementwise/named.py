r"""Maps of numbers that have a name of their own and are compositions of pages; each function returns the bijector.

Inverses need no function: a quantile function is `Inverse` of the distribution function.  The stages of a composition hold its
parameters, and gradients go to these: where a name's parameter stands in two stages, its cotangent is the sum of both cotangents.

`python -m validation.named` measures each against the equation of the whole in 50 digits, in units of `u kappa` of the whole,
which counts what cancels between the stages.  All digits are there (at most 4 units) unless a docstring says where they are not.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Chain, Inverse
from ..constrained import HalfLine
from ..splines import LinearSpline
from .affine import Affine
from .box_cox import BoxCox
from .exp import Exp
from .expm1 import Expm1
from .exponential_cdf import ExponentialCDF
from .gompertz_cdf import GompertzCDF
from .gumbel_cdf import GumbelCDF
from .normal_cdf import NormalCDF
from .rayleigh_cdf import RayleighCDF
from .sigmoid import Sigmoid
from .softplus import Softplus
from .softsign import Softsign

__all__ = ["beta_stretch", "erfc", "exponential_cdf", "frechet_cdf", "generalised_extreme_value_cdf", "generalised_pareto_cdf",
           "gompertz_cdf", "log_normal_cdf", "moyal_cdf", "rayleigh_cdf", "softclip", "softplus_clip"]


# -- distribution functions -------------------------------------------------------------------------------------------

def exponential_cdf(rate=1.0) -> ExponentialCDF:
    """x = 1 - exp(-rate z), from (0, inf) to (0, 1), for rate > 0: the page `ExponentialCDF`.

    Source: definition.
    """
    return ExponentialCDF(rate)


def rayleigh_cdf(scale=1.0) -> RayleighCDF:
    """x = 1 - exp(-(z/scale)^2/2), from (0, inf) to (0, 1), for scale > 0: the page `RayleighCDF`.

    Source: definition.
    """
    return RayleighCDF(scale)


def frechet_cdf(loc=0.0, scale=1.0, concentration=1.0) -> Chain:
    """x = exp(-((z - loc)/scale)^-concentration), from (loc, inf) to (0, 1), for scale > 0 and concentration > 0.

    Source: Frechet 1927.
    """
    return Chain([Inverse(HalfLine(loc, scale)), GumbelCDF(scale=1 / np.asarray(concentration))])


def log_normal_cdf(loc=0.0, scale=1.0) -> Chain:
    """x = Phi((log z - loc)/scale), from (0, inf) to (0, 1), for scale > 0.

    Source: definition.
    """
    return Chain([Inverse(Exp()), NormalCDF(loc, scale)])


def moyal_cdf(loc=0.0, scale=1.0) -> Chain:
    """x = erfc(exp(-(z - loc)/(2 scale))/sqrt(2)) = 2 Phi(-exp(-(z - loc)/(2 scale))), from R to (0, 1), for scale > 0.

    x loses 4.7 units at z = -0.3.  The gradient of the log-det is 0 at z = loc, and loses all digits at z = loc - 1e-18.
    The inverse of the last stage halves x, which rounds a subnormal x: 5e-324 has no inverse, and 1.5e-323 that of another x.
    With t = (z - loc)/scale, the slope is 0 above t = 1490, where exp(-t/2) underflows, even if the true slope, which a small scale
    makes larger, is not 0.

    Source: Moyal 1955.
    """
    half = 0.5 / np.asarray(scale)
    return Chain([Affine(half * loc, -half), Exp(), Affine(scale=-1.0), NormalCDF(), twice(0.5)])


def gompertz_cdf(rate=1.0, concentration=1.0) -> Chain:
    """x = 1 - exp(-concentration (exp(rate z) - 1)), from (0, inf) to (0, 1), for rate > 0 and concentration > 0.

    The first stage is defined on R: a z <= 0 is refused by the last one.  Where log(rate) and the log-det of the last stage cancel,
    as for the rate 1e-18 and the concentration 1e18, the log-det loses 43 units.

    Source: Gompertz 1825.
    """
    return Chain([Affine(scale=rate), GompertzCDF(concentration)])


def generalised_pareto_cdf(loc=0.0, scale=1.0, concentration=0.0) -> Chain:
    """x = 1 - (1 + c (z - loc)/scale)^(-1/c), and 1 - exp(-(z - loc)/scale) for c = 0, to (0, 1), for scale > 0.

    c is the concentration, one number.  The domain is (loc, inf), or (loc, loc - scale/c) for c < 0; other events are refused by
    the second stage or the last.  With t = log(1 + c (z - loc)/scale)/c, x = 1 - exp(-t).  The first stage has log|c| in its
    log-det and the third takes it out: for c = 1e-15 the log-det loses 10 units at z = 1e-301, and the inverse's log-det 22
    at x = 0.00015.

    Source: Pickands 1975.
    """
    c, scale = float(concentration), np.asarray(scale)
    if c == 0:
        return Chain([Affine(-loc / scale, 1 / scale), ExponentialCDF()])
    return Chain([Affine(-loc * c / scale, c / scale), Inverse(Expm1()), Affine(scale=1 / c), ExponentialCDF()])


def generalised_extreme_value_cdf(loc=0.0, scale=1.0, concentration=0.0) -> Chain:
    """x = exp(-(1 + c (z - loc)/scale)^(-1/c)), and exp(-exp(-(z - loc)/scale)) for c = 0, to (0, 1), for scale > 0.

    c is the concentration; it may be 0 or negative, and near 0 no digit is lost.  The domain is where 1 + c (z - loc)/scale > 0;
    other events are refused by the second stage.  The gradient of the log-det is 0 at the mode, and loses all digits at 1e-18 from it.
    Far from the mode, where (1 + c (z - loc)/scale)^(1/c) overflows, so does the log-det.

    Source: Jenkinson 1955.
    """
    scale = np.asarray(scale)
    return Chain([Affine(-loc / scale, 1 / scale), Inverse(BoxCox(concentration)), Inverse(Exp()), GumbelCDF()])


# -- maps of R and of intervals ---------------------------------------------------------------------------------------

def erfc() -> Chain:
    """x = erfc z = 1 - erf z = 2 Phi(-sqrt(2) z), from R to (0, 2), decreasing, with all digits of the tail where x is near 0.

    The log-det loses 7 units near z = 0, where it is log(2/sqrt(pi)).

    Source: NIST DLMF 7.2.
    """
    return Chain([Affine(scale=-1.0), NormalCDF(scale=math.sqrt(0.5)), twice(1.0)])


def twice(end) -> LinearSpline:
    """x = 2 z, from (0, end) to (0, 2 end)."""
    return LinearSpline([0.0, end], [0.0, 2 * end], "none")


def beta_stretch(power=1.0) -> Chain:
    """x = z^power/(z^power + (1 - z)^power), from (0, 1) to (0, 1), for power > 0.

    The slope of the logit outgrows the slopes after it: at z = 1e-301, power = 2, the slope has lost all digits.

    Source: bijx, BetaStretch.
    """
    return Chain([Inverse(Sigmoid()), Affine(scale=power), Sigmoid()])


def softclip(bound=1.0) -> Chain:
    """x = z/(1 + |z|/bound), from R to (-bound, bound), for one number bound > 0.

    The log-det is small near z = 0, and loses all digits there, at z = 1e-18, unless the bound is a power of 2.

    Source: FrEIA, soft clamping by z/(1 + |z|).
    """
    return Chain([Affine(scale=1 / bound), Softsign(), LinearSpline([-1.0, 0.0, 1.0], [-bound, 0.0, bound], "none")])


def softplus_clip(low=-1.0, high=1.0) -> Chain:
    """x = high - softplus(w - softplus(z - low)) w/softplus(w) with w = high - low, from R to (low, high), low < high.

    x loses 4.4 units where it passes through 0.

    Source: TensorFlow Probability, SoftClip.
    """
    w = high - low
    end = float(Softplus().forward(w))
    return Chain([Affine(shift=-low), Softplus(), Affine(w, -1.0), Softplus(), Affine(scale=-1.0),
                  LinearSpline([-end, 0.0], [low, high], "none")])
