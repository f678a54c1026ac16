r"""Deep sigmoidal flow, `R -> R`: the logit of a weighted mean of sigmoids.

With weights `w_k > 0, W = sum_k w_k`, rates `a_k > 0` and biases `c_k`, the logistic function `S(u) = 1/(1 + exp(-u))` and its
inverse `logit`,
    x = logit(sum_k w_k S(u_k) / W),   u_k = a_k z + c_k                            (1)
`W` is 1 up to rounding; after division by it, the mean is exactly a mean.  `mixture` and `sigmoid_mixture` say how `x`, its
derivatives and the root `z` are computed from `u_k` and their rates `a_k` with all digits in either tail: the logit of a
rounded mean would have none near its end 1, and none near 0 where the mean underflows.  Around the zero of `u_j`, they are
    u_k = a_k d + e_k,   e_k = c_k - a_k c_j/a_j   for k != j,   e_j = 0            (2)
    z = d - c_j/a_j                                                                 (3)
and `u_k = 0` at `z = -c_k/a_k`.

Reverse rule, from (1), with `l_bar = log_det_bar`, the cotangents `u_k_bar` of `mixture`, and its derivative `r_k/a_k` of the
log-det with respect to `a_k` for constant `u_k`:
    c_k_bar = u_k_bar                                                               (4)
    a_k_bar = u_k_bar z + l_bar r_k/a_k                                             (5)
The inverse map has the same rule with its own `u_k_bar` and `-l_bar`, because its log-det is `-l`.

Certified where events and parameters are moderate, `2^-4` to `2^4`, and at the hard cases.

Source: Huang, Krueger, Lacoste and Courville, Neural Autoregressive Flows, arXiv:1804.00779, deep sigmoidal flow.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, positive, real, simplex
from ...core.arrays import doubled, rounded
from .mixture import SCALE, SIZES, RootProblem, flattened, with_unit_weights
from .sigmoid_mixture import SigmoidMixture


@bijector(source="arXiv:1804.00779", domain=real, codomain=real, increasing=True, solver=True, moderate=True)
class DeepSigmoid(Bijector):
    """x = logit(sum_k weights_k sigmoid(rate_k z + bias_k)); the inverse uses a bracketing solver."""

    weights: Array = simplex("K")
    rate: Array = positive("K")
    bias: Array = real("K")
    event_ndim = (0, 0)
    terms = property(lambda self: self.weights.shape[-1])           # in its sums

    def cast(self, dtype):
        """Its fields in another precision."""
        return with_unit_weights(super().cast(dtype))

    @staticmethod
    def definition(m, z, weights, rate, bias):
        mean = 0
        for w, a, c in zip(weights, rate, bias):
            mean = mean + w / (1 + m.exp(-(a * z + c)))                             # (1)
        mean = mean / sum(weights)                                                  # (1)
        return m.log(mean / (1 - mean))                                             # (1)

    # -- forward ------------------------------------------------------------------------------------------------------

    def mixture(self, z):
        w, a, c, z = doubled(self.weights, self.rate, self.bias, z)
        return SigmoidMixture(w, a, a * z[..., None] + c)                           # (1)

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
        flat, w, a, c = flattened(*doubled(x, self.weights, self.rate, self.bias))

        def offsets(j):
            a_j, c_j = (np.take_along_axis(v, j[:, None], -1) for v in (a, c))
            return np.where(np.arange(c.shape[-1]) == j[:, None], 0, c - a * c_j / a_j)         # (2)

        def excess(u, i):
            return SigmoidMixture(w[i], a[i], u).image() - flat[i]

        j, d, u = RootProblem(flat, a, -c / a, offsets, excess).solved()
        zero = np.take_along_axis(-c / a, j[:, None], -1)[:, 0]
        v = SigmoidMixture(*(v.reshape(x.shape + v.shape[-1:]) for v in (w, a, u)))
        return (d + zero).reshape(x.shape), v                                       # (3)

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
            return rounded((z_bar, {"weights": v.weights_bar(x_bar, log_det_bar)} | self.bars(z, *bars)), z.dtype)

        return rounded((v.image(), v.log_slope()), z.dtype), pullback

    def inverse_vjp(self, x):
        z, v = self.root(x)
        v.add_derivatives()

        def pullback(z_bar, log_det_bar):
            x_bar, *bars = v.inverse_pulled_back(z_bar, log_det_bar)
            return rounded((x_bar, {"weights": v.weights_bar(-x_bar, -log_det_bar)} | self.bars(z, *bars)), x.dtype)

        return rounded((z, -v.log_slope()), x.dtype), pullback

    def bars(self, z, u_bar, a_bar):
        """The cotangents of the other fields."""
        return {"rate": (u_bar * z[..., None] + a_bar) / SCALE, "bias": u_bar / SCALE}          # (4) (5)

    @classmethod
    def examples(cls, source):
        K = source.choice(SIZES)
        return cls(simplex.draw(source, (K,)), positive.draw(source, (K,)), real.draw(source, (K,))), ()

    hard_cases = (
        case("One", "a single sigmoid is affine: the log-det is constant, and no cotangent reaches its weight",
             z=[1.0, -300.0, 1e-12], x=[1e-12, 300.0], weights=[1.0], rate=[2.0], bias=[0.0]),
        case("FarZero", "z has lost the digits of u", z=[-1e12, 3.0], x=[0.25, -1.0], weights=[0.5, 0.5], rate=[1.0, 2.0],
             bias=[1e12, 0.0]),
        case("Equal", "two components that are one", z=[0.5, -3.0], x=[0.5, 0.9], weights=[0.25, 0.75], rate=[2.0, 2.0],
             bias=[1.0, 1.0]),
        case("Tails", "either mean underflows, its logarithm does not", z=[-1000.0, 1000.0, -40.0, 40.0],
             x=[-80.0, 80.0, -40.0, 40.0], weights=[0.25, 0.75], rate=[1.0, 2.0], bias=[-1.0, 1.0]),
        case("Plateau", "between far components x is nearly the logit of a weight", z=[0.5, 3.0], x=[-0.25, 0.3],
             weights=[0.5, 0.5], rate=[1.0, 2.0], bias=[30.0, -30.0]),
        case("Zero", "x passes through 0, where the quotient of both means rounds to 1", z=[0.0, 1e-12, -1e-9],
             x=[1e-12, -1e-9], weights=[0.5, 0.5], rate=[1.0, 1.0], bias=[-1.0, 1.0]),
        case("LightWeight", "one component has nearly all the weight", z=[0.3, 30.0], x=[0.3, 30.0],
             weights=[1 - 2.0**-40, 2.0**-40], rate=[2.0, 0.5], bias=[0.25, -0.5]),
    )
