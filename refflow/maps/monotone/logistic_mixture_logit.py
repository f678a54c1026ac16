r"""Logit of the distribution function of a mixture of logistic distributions, `R -> R` (Flow++, before its affine map).

With weights `w_k > 0, W = sum_k w_k`, loc `m_k`, scale `s_k > 0`, the logistic function `S(u) = 1/(1 + exp(-u))` and its
inverse `logit`,
    x = logit(sum_k w_k S(u_k) / W),   u_k = (z - m_k)/s_k                          (1)
`W` is 1 up to rounding; after division by it, the mean is exactly a mean.  `mixture` and `sigmoid_mixture` say how `x`, its
derivatives and the root `z` are computed from `u_k` and their rates
    a_k = 1/s_k                                                                     (2)
with all digits in either tail, where the composition of `LogisticMixtureCDF` and a logit has none: the distribution function is
1 to within rounding from `u_k = 37` on, and underflows from -745 on.  The arguments around `m_j` are
    u_k = a_k d + e_k,   e_k = (m_j - m_k)/s_k,   z = m_j + d                       (3)

The reverse rule, too, is that of `mixture` and `sigmoid_mixture`.

Certified where events and parameters are moderate, `2^-4` to `2^4`, and at the hard cases.

Source: Ho, Chen, Srinivas, Duan and Abbeel, Flow++, arXiv:1902.00275, on improved coupling layers.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, positive, real, simplex
from ...core.arrays import doubled, rounded
from .mixture import SIZES, RootProblem, flattened, loc_scale_bars, with_unit_weights
from .sigmoid_mixture import SigmoidMixture


@bijector(source="arXiv:1902.00275", domain=real, codomain=real, increasing=True, solver=True, moderate=True)
class LogisticMixtureLogit(Bijector):
    """x = logit(sum_k weights_k sigmoid((z - loc_k)/scale_k)); the inverse uses a bracketing solver."""

    weights: Array = simplex("K")
    loc: Array = real("K")
    scale: Array = positive("K")
    event_ndim = (0, 0)
    terms = property(lambda self: self.weights.shape[-1])           # in its sums

    def cast(self, dtype):
        """Its fields in another precision."""
        return with_unit_weights(super().cast(dtype))

    @staticmethod
    def definition(m, z, weights, loc, scale):
        mean = 0
        for w, m_k, s in zip(weights, loc, scale):
            mean = mean + w / (1 + m.exp(-(z - m_k) / s))                           # (1)
        mean = mean / sum(weights)                                                  # (1)
        return m.log(mean / (1 - mean))                                             # (1)

    # -- forward ------------------------------------------------------------------------------------------------------

    def mixture(self, z):
        w, loc, scale, z = doubled(self.weights, self.loc, self.scale, z)
        return SigmoidMixture(w, 1 / scale, (z[..., None] - loc) / scale)           # (1) (2)

    def forward(self, z):
        return self.mixture(z).image().astype(z.dtype)

    def log_det(self, z):
        return self.mixture(z).log_slope().astype(z.dtype)

    def forward_and_log_det(self, z):
        v = self.mixture(z)
        return rounded((v.image(), v.log_slope()), z.dtype)

    def slope(self, z):
        return self.mixture(z).slope().astype(z.dtype)

    # -- inverse ------------------------------------------------------------------------------------------------------

    def root(self, x):
        """(z, the mixture there)."""
        flat, w, loc, scale = flattened(*doubled(x, self.weights, self.loc, self.scale))

        def offsets(j):
            return (np.take_along_axis(loc, j[:, None], -1) - loc) / scale          # (3)

        def excess(u, i):
            return SigmoidMixture(w[i], 1 / scale[i], u).image() - flat[i]

        j, d, u = RootProblem(flat, 1 / scale, loc, offsets, excess).solved()       # (2)
        z = np.take_along_axis(loc, j[:, None], -1)[:, 0] + d                       # (3)
        return z.reshape(x.shape), SigmoidMixture(*(v.reshape(x.shape + v.shape[-1:]) for v in (w, 1 / scale, u)))

    def inverse(self, x):
        return self.root(x)[0].astype(x.dtype)

    def inverse_and_log_det(self, x):
        z, v = self.root(x)
        return rounded((z, -v.log_slope()), x.dtype)

    # -- reverse ------------------------------------------------------------------------------------------------------

    def vjp(self, z):
        v = self.mixture(z).add_derivatives()

        def pullback(x_bar, log_det_bar):
            z_bar, *bars = v.pulled_back(x_bar, log_det_bar)
            return rounded((z_bar, {"weights": v.weights_bar(x_bar, log_det_bar)} | loc_scale_bars(v, *bars)), z.dtype)

        return rounded((v.image(), v.log_slope()), z.dtype), pullback

    def inverse_vjp(self, x):
        z, v = self.root(x)
        v.add_derivatives()

        def pullback(z_bar, log_det_bar):
            x_bar, *bars = v.inverse_pulled_back(z_bar, log_det_bar)
            return rounded((x_bar, {"weights": v.weights_bar(-x_bar, -log_det_bar)} | loc_scale_bars(v, *bars)), x.dtype)

        return rounded((z, -v.log_slope()), x.dtype), pullback

    @classmethod
    def examples(cls, source):
        K = source.choice(SIZES)
        return cls(simplex.draw(source, (K,)), real.draw(source, (K,)), positive.draw(source, (K,))), ()

    hard_cases = (
        case("One", "a single logistic makes an affine map: the log-det is constant, and no cotangent reaches its weight",
             z=[1.0, -300.0, 1e6 + 1], x=[1e-12, 300.0], weights=[1.0], loc=[1e6], scale=[2.0]),
        case("FarLoc", "z has lost the digits of u", z=[-1e12, 3.0], x=[0.25, -1.0], weights=[0.5, 0.5], loc=[-1e12, 0.0],
             scale=[1.0, 0.5]),
        case("Equal", "two components that are one", z=[0.5, -3.0], x=[0.5, 0.9], weights=[0.25, 0.75], loc=[1.0, 1.0],
             scale=[2.0, 2.0]),
        case("Tails", "either mean underflows, its logarithm does not", z=[-1000.0, 1000.0, -40.0, 40.0],
             x=[-80.0, 80.0, -40.0, 40.0], weights=[0.25, 0.75], loc=[-1.0, 1.0], scale=[1.0, 0.5]),
        case("Plateau", "between far components x is nearly the logit of a weight", z=[0.5, 3.0], x=[-0.25, 0.3],
             weights=[0.5, 0.5], loc=[-30.0, 15.0], scale=[1.0, 0.5]),
        case("Zero", "x passes through 0, where the quotient of both means rounds to 1", z=[0.0, 1e-12, -1e-9],
             x=[1e-12, -1e-9], weights=[0.5, 0.5], loc=[1.0, -1.0], scale=[1.0, 1.0]),
        case("Needle", "a narrow component on a wide one: a step inside a bracket of the wide one's width",
             z=[0.5, 0.5 + 1e-6], x=[0.5, 0.3, 0.7], weights=[0.5, 0.5], loc=[0.5, -3.0], scale=[1e-6, 1e3]),
    )
