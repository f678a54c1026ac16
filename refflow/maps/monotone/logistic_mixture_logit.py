r"""Logit of the distribution function of a mixture of logistic distributions, `R -> R` (Flow++, before its affine map).

The map.  With `w = weights > 0`, `W = sum_k w_k`, `m = loc`, `s = scale > 0`, and the logistic function `S_k = 1/(1 + exp(-u_k))`,
    x = log(F/(1 - F)),   F = sum_k w_k S_k / W,   u_k = (z - m_k)/s_k              (1)
    dx/dz = g = f/(F (1 - F)),   f = sum_k w_k f_k / W,   f_k = S_k (1 - S_k)/s_k   (2)
    log|dx/dz| = log g                                                              (3)
`W` is 1 up to rounding; after division by it, `F` is exactly a mean.  All `f_k` are positive, so `x` increases.  For the inverse
map, a bisection finds the root `z`, which lies between the roots of the single components:
    min_k (m_k + s_k x) <= z <= max_k (m_k + s_k x)                                 (4)
    log|dz/dx| = -log g                                                             (5)

The reverse rule.  With the share `r_k` of each component in `f`, and the derivative `t_k` of `log f_k` by `z`,
    r_k = w_k f_k/(W f),   t_k = (1 - 2 S_k)/s_k                                    (6)
and with the cotangent `l_bar` of (3), and `l'` for the derivative of (3) by `z`,
    z_bar = x_bar g + l_bar l',   l' = sum_k r_k t_k - (1 - 2 F) g                  (7)
    m_k_bar = -x_bar g r_k - l_bar r_k (t_k - (1 - 2 F) g)                          (8)
    s_k_bar = -x_bar g r_k u_k - l_bar r_k (1/s_k + u_k t_k - u_k (1 - 2 F) g)      (9)
    w_k_bar = (x_bar - l_bar (1 - 2 F))(S_k - F)/(W F (1 - F)) + l_bar (f_k - f)/(f W)      (10)
For the inverse map, whose log-det has the cotangent `l_bar`,
    x_bar = (z_bar - l_bar l')/g                                                    (11)
and the fields have the cotangents (8) to (10) with the signs of `x_bar` and `l_bar` reversed.      (12)

Source: Ho, Chen, Srinivas, Duan and Abbeel, Flow++, arXiv:1902.00275, on improved coupling layers.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, positive, real, simplex
from ...core.arrays import doubled, rounded
from .mixture import SIZES, RootProblem, flattened, loc_scale_bars, with_unit_weights
from .sigmoid_mixture import SigmoidMixture


class textbook:
    """(1) to (12) as they are printed, for one event."""

    def letters(z, weights, loc, scale):
        """W, u, S, F, f_k, f, g, r, t and l'."""
        W, u = np.sum(weights), (z - loc) / scale                                   # (1)
        S = 1 / (1 + np.exp(-u))                                                    # (1)
        F, f_k = np.sum(weights * S) / W, S * (1 - S) / scale                       # (1) (2)
        f = np.sum(weights * f_k) / W                                               # (2)
        g = f / (F * (1 - F))                                                       # (2)
        r, t = weights * f_k / (W * f), (1 - 2 * S) / scale                         # (6)
        return W, u, S, F, f_k, f, g, r, t, np.sum(r * t) - (1 - 2 * F) * g         # (7)

    def forward(z, weights, loc, scale):
        F = np.sum(weights / (1 + np.exp(-(z - loc) / scale))) / np.sum(weights)    # (1)
        return np.log(F / (1 - F))                                                  # (1)

    def inverse(x, weights, loc, scale):
        below, above = min(loc + scale * x), max(loc + scale * x)                   # (4)
        z = (below + above) / 2
        while below < z < above:
            below, above = (z, above) if textbook.forward(z, weights, loc, scale) < x else (below, z)       # (1)
            z = (below + above) / 2
        return z

    def slope(z, weights, loc, scale):
        return textbook.letters(z, weights, loc, scale)[6]                          # (2)

    def log_det(z, weights, loc, scale):
        return np.log(textbook.slope(z, weights, loc, scale))                       # (3)

    def inverse_log_det(x, weights, loc, scale):
        z = textbook.inverse(x, weights, loc, scale)
        return -textbook.log_det(z, weights, loc, scale)                            # (5)

    def vjp(z, weights, loc, scale, x_bar, l_bar):
        W, u, S, F, f_k, f, g, r, t, dl = textbook.letters(z, weights, loc, scale)
        loc_bar = -x_bar * g * r - l_bar * r * (t - (1 - 2 * F) * g)                # (8)
        scale_bar = -x_bar * g * r * u - l_bar * r * (1 / scale + u * t - u * (1 - 2 * F) * g)      # (9)
        weights_bar = (x_bar - l_bar * (1 - 2 * F)) * (S - F) / (W * F * (1 - F)) + l_bar * (f_k - f) / (f * W)     # (10)
        return x_bar * g + l_bar * dl, {"weights": weights_bar, "loc": loc_bar, "scale": scale_bar}         # (7)

    def inverse_vjp(x, weights, loc, scale, z_bar, l_bar):
        z = textbook.inverse(x, weights, loc, scale)
        *_, g, _, _, dl = textbook.letters(z, weights, loc, scale)
        x_bar = (z_bar - l_bar * dl) / g                                            # (11)
        return x_bar, textbook.vjp(z, weights, loc, scale, -x_bar, -l_bar)[1]       # (12)


r"""In floating point.

In (1) to (12), `F` is 1 to within rounding if all `u_k` are above 37, and underflows if all are below -745.  `mixture` and `sigmoid_mixture`
say how `x`, its derivatives, the root and the cotangents are computed from `u_k` and the rates
    a_k = 1/s_k                                                                     (13)
with all digits in either tail, in float64, for float32 too.

In (4), a rounded `z` loses the digits of `u_k` where `m_k` is much larger than `s_k`.  So the unknown is `d`, the distance of `z`
from `m_j`, the loc of one component:
    u_k = a_k d + e_k,   e_k = (m_j - m_k)/s_k,   z = m_j + d                       (14)
The page is certified at moderate events and parameters, `2^-4` to `2^4`, and at the hard cases.
"""


@bijector(source="arXiv:1902.00275", domain=real, codomain=real, increasing=True, solver=True, moderate=True, textbook=textbook)
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
            return rounded((z_bar, {"weights": v.weights_bar(x_bar, log_det_bar)} | loc_scale_bars(v, *bars)), z.dtype)

        return rounded((v.image(), v.log_slope()), z.dtype), pullback

    def inverse_vjp(self, x):
        z, v = self.root(x)
        v.add_derivatives()

        def pullback(z_bar, log_det_bar):
            x_bar, *bars = v.inverse_pulled_back(z_bar, log_det_bar)
            return rounded((x_bar, {"weights": v.weights_bar(-x_bar, -log_det_bar)} | loc_scale_bars(v, *bars)), x.dtype)

        return rounded((z, -v.log_slope()), x.dtype), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    def mixture(self, z):
        w, loc, scale, z = doubled(self.weights, self.loc, self.scale, z)           # (13)
        return SigmoidMixture(w, 1 / scale, (z[..., None] - loc) / scale)           # (1) (13)

    def root(self, x):
        """(z, the mixture there)."""
        flat, w, loc, scale = flattened(*doubled(x, self.weights, self.loc, self.scale))    # (13)

        def offsets(j):
            return (np.take_along_axis(loc, j[:, None], -1) - loc) / scale          # (14)

        def excess(u, i):
            return SigmoidMixture(w[i], 1 / scale[i], u).image() - flat[i]

        j, d, u = RootProblem(flat, 1 / scale, loc, offsets, excess).solved()       # (4) (13) (14)
        z = np.take_along_axis(loc, j[:, None], -1)[:, 0] + d                       # (14)
        return z.reshape(x.shape), SigmoidMixture(*(v.reshape(x.shape + v.shape[-1:]) for v in (w, 1 / scale, u)))

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
