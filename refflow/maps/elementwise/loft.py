r"""Log soft extension (LOFT), `R -> R`: the identity up to a threshold `t > 0`, logarithmic beyond it.

With `t = threshold` and
    d = |z| - t                                                                     (1)
    x = z                            for d <= 0
      = sign(z) (t + log(1 + d))     for d >  0                                     (2)
    dx/dz = 1   or   r = 1 / (1 + d)                                                (3)
    log|dx/dz| = 0   or   -log(1 + d)                                               (4)
The second derivative jumps at `|z| = t`, which belongs to the identity.

Inverse, with
    a = |x| - t                                                                     (5)
    z = x                            for a <= 0
      = sign(x) (t + exp(a) - 1)     for a >  0                                     (6)
    log|dz/dx| = 0   or   a                                                         (7)

Reverse rule for `d > 0`, from (2) and (4), where `1 - r = d r`:
    z_bar = (x_bar - sign(z) l_bar) r                                               (8)
    t_bar = sign(z) x_bar d r + l_bar r                                             (9)
with `l_bar = log_det_bar`; for `d <= 0`, `z_bar = x_bar` and `t_bar = 0`.  For the inverse map and `a > 0`, from (6) and (7),
    x_bar = z_bar exp(a) + sign(x) l_bar                                            (10)
    t_bar = -sign(x) z_bar (exp(a) - 1) - l_bar                                     (11)
    exp(a) = h^2,   h = exp(a/2)                                                    (12)
and the cotangent stands between the two `h`, whose square may overflow where the product does not.

Source: Andrade, Stable Training of Normalizing Flows for High-dimensional Variational Inference, arXiv:2402.16408.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, positive, real
from ...core.arithmetic import times


@bijector(source="arXiv:2402.16408", domain=real, codomain=real, increasing=True)
class LOFT(Bijector):
    """x = sign(z) (log(max(|z| - threshold, 0) + 1) + min(|z|, threshold))."""

    threshold: Array = positive()
    event_ndim = (0, 0)

    @staticmethod
    def definition(m, z, threshold):
        if z > threshold:
            return threshold + m.log1p(z - threshold)                               # (1) (2)
        if z < -threshold:
            return -(threshold + m.log1p(-z - threshold))                           # (1) (2)
        return z

    @staticmethod
    def inverse_definition(m, x, threshold):
        if x > threshold:
            return threshold + m.expm1(x - threshold)                               # (5) (6)
        if x < -threshold:
            return -(threshold + m.expm1(-x - threshold))                           # (5) (6)
        return x

    def breaks(self):
        """-threshold and threshold, where the second derivative jumps; the derivative there is the identity's."""
        return np.stack((-self.threshold, self.threshold), -1)

    def forward(self, z):
        return np.where(self.beyond(z) > 0, np.copysign(self.threshold + np.log1p(self.beyond(z)), z), z)       # (2)

    def beyond(self, event):
        """d of z, or a of x; 0 on the identity."""
        return np.maximum(np.abs(event) - self.threshold, 0)                        # (1) (5)

    def log_det(self, z):
        return -np.log1p(self.beyond(z))                                            # (4)

    def slope(self, z):
        return 1 / (1 + self.beyond(z))                                             # (3)

    def inverse(self, x):
        a = self.beyond(x)
        return np.where(a > 0, np.copysign(self.threshold + np.expm1(a), x), x)     # (6)

    def inverse_and_log_det(self, x):
        return self.inverse(x), self.beyond(x)                                      # (7)

    def vjp(self, z):
        d, side = self.beyond(z), np.sign(z)
        r, side = 1 / (1 + d), np.where(d > 0, side, 0)                             # (3)

        def pullback(x_bar, log_det_bar):
            z_bar = (x_bar - side * log_det_bar) * r                                # (8)
            t_bar = side * x_bar * (d * r) + np.abs(side) * log_det_bar * r         # (9)
            return z_bar, {"threshold": t_bar}

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        a = self.beyond(x)
        h, side = np.exp(a / 2), np.where(a > 0, np.sign(x), 0)                     # (12)

        def pullback(z_bar, log_det_bar):
            through = times(z_bar, h, h)                                            # (12)
            grown = np.where(a < 1, z_bar * np.expm1(np.minimum(a, 1)), through - z_bar)
            return through + side * log_det_bar, {"threshold": -side * grown - np.abs(side) * log_det_bar}      # (10) (11)

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("Breaks", "the derivative of the log-det jumps", z=[4.0, -4.0], x=[4.0, -4.0], threshold=4.0),
        case("JustBeyond", "the log-det is nearly -d", z=[np.nextafter(4, 5), -4.0 - 1e-9], x=[np.nextafter(4, 5), -4.0 - 1e-9],
             threshold=4.0),
        case("Far", "x is 40 where z is 2^1000", z=[2.0**1000, -2.0**600], x=[709.0, -720.0], threshold=4.0),
        case("Overflow", "exp(a) overflows, its product with a small cotangent does not", x=[735.0, -740.0], threshold=4.0),
        case("WideThreshold", "nearly everything is the identity", z=[2.0**59, 2.0**61], x=[2.0**60 + 512], threshold=2.0**60),
    )
