r"""Deep sigmoidal flow, `R -> R`: the logit of a weighted mean of sigmoids.

The map.  With `w = weights > 0`, `W = sum_k w_k`, `a = rate > 0`, `c = bias`, and the logistic function
`S_k = 1/(1 + exp(-u_k))`,
    x = log(F/(1 - F)),   F = sum_k w_k S_k / W,   u_k = a_k z + c_k                (1)
    dx/dz = g = f/(F (1 - F)),   f = sum_k w_k f_k / W,   f_k = a_k S_k (1 - S_k)   (2)
    log|dx/dz| = log g                                                              (3)
`W` is 1 up to rounding; after division by it, `F` is exactly a mean.  All `f_k` are positive, so `x` increases.  For the inverse
map, a bisection finds the root `z`, which lies between the roots of the single components:
    min_k (x - c_k)/a_k <= z <= max_k (x - c_k)/a_k                                 (4)
    log|dz/dx| = -log g                                                             (5)

The reverse rule.  With the share `r_k` of each component in `f`, and the derivative `t_k` of `log f_k` by `z`,
    r_k = w_k f_k/(W f),   t_k = a_k (1 - 2 S_k)                                    (6)
and with the cotangent `l_bar` of (3), and `l'` for the derivative of (3) by `z`,
    z_bar = x_bar g + l_bar l',   l' = sum_k r_k t_k - (1 - 2 F) g                  (7)
    c_k_bar = (x_bar g r_k + l_bar r_k (t_k - (1 - 2 F) g))/a_k                     (8)
    a_k_bar = c_k_bar z + l_bar r_k/a_k                                             (9)
    w_k_bar = (x_bar - l_bar (1 - 2 F))(S_k - F)/(W F (1 - F)) + l_bar (f_k - f)/(f W)      (10)
For the inverse map, whose log-det has the cotangent `l_bar`,
    x_bar = (z_bar - l_bar l')/g                                                    (11)
and the fields have the cotangents (8) to (10) with the signs of `x_bar` and `l_bar` reversed.      (12)

Source: Huang, Krueger, Lacoste and Courville, Neural Autoregressive Flows, arXiv:1804.00779, deep sigmoidal flow.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, positive, real, simplex
from ...core.arrays import doubled, rounded
from .mixture import SCALE, SIZES, RootProblem, flattened, with_unit_weights
from .sigmoid_mixture import SigmoidMixture


class textbook:
    """(1) to (12) as they are printed, for one event."""

    def letters(z, weights, rate, bias):
        """W, S, F, f_k, f, g, r, t and l'."""
        W, S = np.sum(weights), 1 / (1 + np.exp(-(rate * z + bias)))                # (1)
        F, f_k = np.sum(weights * S) / W, rate * S * (1 - S)                        # (1) (2)
        f = np.sum(weights * f_k) / W                                               # (2)
        g = f / (F * (1 - F))                                                       # (2)
        r, t = weights * f_k / (W * f), rate * (1 - 2 * S)                          # (6)
        return W, S, F, f_k, f, g, r, t, np.sum(r * t) - (1 - 2 * F) * g            # (7)

    def forward(z, weights, rate, bias):
        F = np.sum(weights / (1 + np.exp(-(rate * z + bias)))) / np.sum(weights)    # (1)
        return np.log(F / (1 - F))                                                  # (1)

    def inverse(x, weights, rate, bias):
        below, above = min((x - bias) / rate), max((x - bias) / rate)               # (4)
        z = (below + above) / 2
        while below < z < above:
            below, above = (z, above) if textbook.forward(z, weights, rate, bias) < x else (below, z)       # (1)
            z = (below + above) / 2
        return z

    def slope(z, weights, rate, bias):
        return textbook.letters(z, weights, rate, bias)[5]                          # (2)

    def log_det(z, weights, rate, bias):
        return np.log(textbook.slope(z, weights, rate, bias))                       # (3)

    def inverse_log_det(x, weights, rate, bias):
        z = textbook.inverse(x, weights, rate, bias)
        return -textbook.log_det(z, weights, rate, bias)                            # (5)

    def vjp(z, weights, rate, bias, x_bar, l_bar):
        W, S, F, f_k, f, g, r, t, dl = textbook.letters(z, weights, rate, bias)
        bias_bar = (x_bar * g * r + l_bar * r * (t - (1 - 2 * F) * g)) / rate       # (8)
        rate_bar = bias_bar * z + l_bar * r / rate                                  # (9)
        weights_bar = (x_bar - l_bar * (1 - 2 * F)) * (S - F) / (W * F * (1 - F)) + l_bar * (f_k - f) / (f * W)     # (10)
        return x_bar * g + l_bar * dl, {"weights": weights_bar, "rate": rate_bar, "bias": bias_bar}         # (7)

    def inverse_vjp(x, weights, rate, bias, z_bar, l_bar):
        z = textbook.inverse(x, weights, rate, bias)
        *_, g, _, _, dl = textbook.letters(z, weights, rate, bias)
        x_bar = (z_bar - l_bar * dl) / g                                            # (11)
        return x_bar, textbook.vjp(z, weights, rate, bias, -x_bar, -l_bar)[1]       # (12)


r"""In floating point.

In (1) to (12), the logit of a rounded `F` has no correct digits where `F` is near 1 or underflows.  `mixture` and `sigmoid_mixture`
say how `x`, its derivatives, the root and the cotangents are computed from `u_k` and their rates `a_k` with all digits in either
tail, in float64, for float32 too.                                                  (13)

In (4), a rounded `z` loses the digits of `u_k` where `c_k` is large.  So the unknown is `d`, the distance from the zero of `u_j`:
    u_k = a_k d + e_k,   e_k = c_k - a_k c_j/a_j   for k != j,   e_j = 0            (14)
    z = d - c_j/a_j                                                                 (15)
The page is certified at moderate events and parameters, `2^-4` to `2^4`, and at the hard cases.
"""


@bijector(source="arXiv:1804.00779", domain=real, codomain=real, increasing=True, solver=True, moderate=True, textbook=textbook)
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

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return self.mixture(z).image().astype(z.dtype)

    def log_det(self, z):
        return self.mixture(z).log_slope().astype(z.dtype)

    def forward_and_log_det(self, z):
        v = self.mixture(z)
        return rounded((v.image(), v.log_slope()), z.dtype)

    def slope(self, z):
        return self.mixture(z).slope().astype(z.dtype)

    def inverse(self, x):
        return self.root(x)[0].astype(x.dtype)

    def inverse_and_log_det(self, x):
        z, v = self.root(x)
        return rounded((z, -v.log_slope()), x.dtype)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

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
        return {"rate": (u_bar * z[..., None] + a_bar) / SCALE, "bias": u_bar / SCALE}  # (8) (9)

    # -- in floating point --------------------------------------------------------------------------------------------

    def mixture(self, z):
        w, a, c, z = doubled(self.weights, self.rate, self.bias, z)                 # (13)
        return SigmoidMixture(w, a, a * z[..., None] + c)                           # (1)

    def root(self, x):
        """(z, the mixture there)."""
        flat, w, a, c = flattened(*doubled(x, self.weights, self.rate, self.bias))  # (13)

        def offsets(j):
            a_j, c_j = (np.take_along_axis(v, j[:, None], -1) for v in (a, c))
            return np.where(np.arange(c.shape[-1]) == j[:, None], 0, c - a * c_j / a_j)     # (14)

        def excess(u, i):
            return SigmoidMixture(w[i], a[i], u).image() - flat[i]

        j, d, u = RootProblem(flat, a, -c / a, offsets, excess).solved()            # (4) (14)
        zero = np.take_along_axis(-c / a, j[:, None], -1)[:, 0]
        v = SigmoidMixture(*(v.reshape(x.shape + v.shape[-1:]) for v in (w, a, u)))
        return (d + zero).reshape(x.shape), v                                       # (15)

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
