r"""Log soft extension (LOFT), `R -> R`: the identity up to a threshold `t > 0`, logarithmic beyond it.

The map.  With `t = threshold` and
    d = |z| - t,   a = |x| - t                                                      (1)
    x = z                            for d <= 0
      = sign(z) (t + log(1 + d))     for d >  0                                     (2)
    z = x                            for a <= 0
      = sign(x) (t + exp(a) - 1)     for a >  0                                     (3)
and on the identity or beyond it
    dx/dz = 1   for d <= 0,   r   for d > 0,   r = 1 / (1 + d)                      (4)
    log|dx/dz| = 0   for d <= 0,   -log(1 + d)   for d > 0                          (5)
    log|dz/dx| = 0   for a <= 0,   a   for a > 0                                    (6)
The second derivative jumps at `|z| = t`, which belongs to the identity.

The reverse rule.  On the identity, `z_bar = x_bar` and `t_bar = 0`.  Beyond it, from (2) and (5), with the cotangent `l_bar` of
(5),
    z_bar = (x_bar - sign(z) l_bar) r           for d > 0                           (7)
    t_bar = sign(z) x_bar (1 - r) + l_bar r     for d > 0                           (8)
For the inverse map on the identity, `x_bar = z_bar` and `t_bar = 0`.  Beyond it, from (3) and (6), with the cotangent `l_bar` of
(6),
    x_bar = z_bar exp(a) + sign(x) l_bar           for a > 0                        (9)
    t_bar = -sign(x) z_bar (exp(a) - 1) - l_bar    for a > 0                        (10)

Source: Andrade, Stable Training of Normalizing Flows for High-dimensional Variational Inference, arXiv:2402.16408.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, positive, real
from ...core.arithmetic import times


class textbook:
    """(1) to (10) as they are printed, for one event."""

    def forward(z, threshold):
        d = np.abs(z) - threshold                                                   # (1)
        return np.sign(z) * (threshold + np.log(1 + d)) if d > 0 else z             # (2)

    def inverse(x, threshold):
        a = np.abs(x) - threshold                                                   # (1)
        return np.sign(x) * (threshold + np.exp(a) - 1) if a > 0 else x             # (3)

    def slope(z, threshold):
        d = np.abs(z) - threshold                                                   # (1)
        return 1 / (1 + d) if d > 0 else 1                                          # (4)

    def log_det(z, threshold):
        d = np.abs(z) - threshold                                                   # (1)
        return -np.log(1 + d) if d > 0 else 0                                       # (5)

    def inverse_log_det(x, threshold):
        a = np.abs(x) - threshold                                                   # (1)
        return a if a > 0 else 0                                                    # (6)

    def vjp(z, threshold, x_bar, l_bar):
        if np.abs(z) <= threshold:
            return x_bar, {"threshold": 0}
        r, sign = textbook.slope(z, threshold), np.sign(z)
        z_bar = (x_bar - sign * l_bar) * r                                          # (7)
        return z_bar, {"threshold": sign * x_bar * (1 - r) + l_bar * r}             # (8)

    def inverse_vjp(x, threshold, z_bar, l_bar):
        a, sign = np.abs(x) - threshold, np.sign(x)
        if a <= 0:
            return z_bar, {"threshold": 0}
        x_bar = z_bar * np.exp(a) + sign * l_bar                                    # (9)
        return x_bar, {"threshold": -sign * z_bar * (np.exp(a) - 1) - l_bar}        # (10)


r"""In floating point.

In (2) and (5), `1 + d` rounds to 1 for a small `d`; and in (3) and (10), `exp(a) - 1` cancels for a small `a`:
    log(1 + d) = log1p(d),   exp(a) - 1 = expm1(a)                                  (11)

In (8), `1 - r` cancels for a small `d`:
    1 - r = d r                                                                     (12)

In (9) and (10), `exp(a)` may overflow where its product with a cotangent does not:
    z_bar exp(a) = (z_bar h) h,   h = exp(a/2)                                      (13)
    z_bar (exp(a) - 1) = z_bar exp(a) - z_bar    for a >= 1                         (14)
"""


@bijector(source="arXiv:2402.16408", domain=real, codomain=real, increasing=True, textbook=textbook)
class LOFT(Bijector):
    """x = sign(z) (log(max(|z| - threshold, 0) + 1) + min(|z|, threshold))."""

    threshold: Array = positive()
    event_ndim = (0, 0)

    @staticmethod
    def inverse_definition(m, x, threshold):
        if x > threshold:
            return threshold + m.expm1(x - threshold)                               # (1) (3) (11)
        if x < -threshold:
            return -(threshold + m.expm1(-x - threshold))                           # (1) (3) (11)
        return x

    # -- the map ------------------------------------------------------------------------------------------------------

    def breaks(self):
        """-threshold and threshold, where the second derivative jumps; the derivative there is the identity's."""
        return np.stack((-self.threshold, self.threshold), -1)

    def beyond(self, event):
        """d of z, or a of x; 0 on the identity."""
        return np.maximum(np.abs(event) - self.threshold, 0)                        # (1)

    def forward(self, z):
        return np.where(self.beyond(z) > 0, np.copysign(self.threshold + np.log1p(self.beyond(z)), z), z)   # (2) (11)

    def inverse(self, x):
        a = self.beyond(x)
        return np.where(a > 0, np.copysign(self.threshold + np.expm1(a), x), x)     # (3) (11)

    def log_det(self, z):
        return -np.log1p(self.beyond(z))                                            # (5) (11)

    def slope(self, z):
        return 1 / (1 + self.beyond(z))                                             # (4)

    def inverse_and_log_det(self, x):
        return self.inverse(x), self.beyond(x)                                      # (6)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        d, side = self.beyond(z), np.sign(z)
        r, side = 1 / (1 + d), np.where(d > 0, side, 0)                             # (4)

        def pullback(x_bar, log_det_bar):
            z_bar = (x_bar - side * log_det_bar) * r                                # (7)
            t_bar = side * x_bar * (d * r) + np.abs(side) * log_det_bar * r         # (8) (12)
            return z_bar, {"threshold": t_bar}

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        a = self.beyond(x)
        h, side = np.exp(a / 2), np.where(a > 0, np.sign(x), 0)                     # (13)

        def pullback(z_bar, log_det_bar):
            through = times(z_bar, h, h)                                            # (13)
            grown = np.where(a < 1, z_bar * np.expm1(np.minimum(a, 1)), through - z_bar)    # (11) (14)
            return through + side * log_det_bar, {"threshold": -side * grown - np.abs(side) * log_det_bar}  # (9) (10)

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("Breaks", "the derivative of the log-det jumps", z=[4.0, -4.0], x=[4.0, -4.0], threshold=4.0),
        case("JustBeyond", "the log-det is nearly -d", z=[np.nextafter(4, 5), -4.0 - 1e-9], x=[np.nextafter(4, 5), -4.0 - 1e-9],
             threshold=4.0),
        case("Far", "x is 40 where z is 2^1000", z=[2.0**1000, -2.0**600], x=[709.0, -720.0], threshold=4.0),
        case("Overflow", "exp(a) overflows, its product with a small cotangent does not", x=[735.0, -740.0], threshold=4.0),
        case("WideThreshold", "nearly everything is the identity", z=[2.0**59, 2.0**61], x=[2.0**60 + 512], threshold=2.0**60),
    )
