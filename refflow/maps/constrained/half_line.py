r"""Half line, `R` -> the numbers on one side of a: above it for `s > 0`, below it for `s < 0`.

The map.  With `a = end` and `s = scale`,
    x = a + s exp z                                                                 (1)
    z = log((x - a) / s)                                                            (2)
    dx/dz = s exp z                                                                 (3)
    log|dx/dz| = z + log|s|                                                         (4)
    log|dz/dx| = -log|x - a|                                                        (5)

The reverse rule.  From (1) and (4), with the cotangent `l_bar` of (4),
    z_bar = x_bar s exp z + l_bar                                                   (6)
    a_bar = x_bar,   s_bar = x_bar exp z + l_bar / s                                (7)
For the inverse map, from (2) and (5), with the cotangent `l_bar` of (5),
    x_bar = (z_bar - l_bar) / (x - a)                                               (8)
    a_bar = -x_bar,   s_bar = -z_bar / s                                            (9)

Source: the definition; with `a = 0, s = 1` it is the exponential, NIST DLMF 4.2.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, nonzero, real
from ...core.arrays import at_index
from ...core.sets import intervals


class textbook:
    """(1) to (9) as they are printed, for one event."""

    def forward(z, end, scale):
        return end + scale * np.exp(z)                                              # (1)

    def inverse(x, end, scale):
        return np.log((x - end) / scale)                                            # (2)

    def slope(z, end, scale):
        return scale * np.exp(z)                                                    # (3)

    def log_det(z, end, scale):
        return z + np.log(np.abs(scale))                                            # (4)

    def inverse_log_det(x, end, scale):
        return -np.log(np.abs(x - end))                                             # (5)

    def vjp(z, end, scale, x_bar, l_bar):
        z_bar = x_bar * scale * np.exp(z) + l_bar                                   # (6)
        return z_bar, {"end": x_bar, "scale": x_bar * np.exp(z) + l_bar / scale}    # (7)

    def inverse_vjp(x, end, scale, z_bar, l_bar):
        x_bar = (z_bar - l_bar) / (x - end)                                         # (8)
        return x_bar, {"end": -x_bar, "scale": -z_bar / scale}                      # (9)


r"""In floating point.

In (2), the quotient may leave the floats where its logarithm does not.  A quotient of roots does not leave them, and it gives
`z = 0` exactly at `x = a + s`:
    z = 2 log(sqrt|x - a| / sqrt|s|)                                                (10)

In (1), (3), (6) and (7), `exp z` itself may overflow, or lose digits below the smallest normal number, where its product does
neither:
    v exp z = (v h) h,   h = exp(z/2)                                               (11)
A cotangent of 0 stays 0, whatever `h` is.

In (8), the difference is 0 at `x = a`.  The quotient becomes infinite and takes the sign of its neighbours:
    x - a = |x - a| sign s                                                          (12)
"""


@bijector(source="DLMF 4.2", domain=real, textbook=textbook)
class HalfLine(Bijector):
    """x = end + scale exp z, from R to the half line that begins at `end` and extends in the direction of `scale`."""

    end: Array = real(default=0.0)
    scale: Array = nonzero(default=1.0)
    event_ndim = (0, 0)

    @property
    def codomain(self):
        up = self.scale > 0
        return intervals(np.where(up, self.end, -np.inf), np.where(up, np.inf, self.end))

    @classmethod
    def reaching(cls, where, like):
        """The map onto the numbers of a set on the same side as `like`: of its one finite end, or of 0 if it has no finite end.

        ValueError if an entry has two finite ends.
        """
        lower, upper = where.ends_of(like.shape)
        both = np.argwhere(np.isfinite(lower) & np.isfinite(upper))
        if len(both):
            index = tuple(both[0].tolist())
            raise ValueError(f"HalfLine: ends must be infinite on one side of every entry, or finite on both sides of every "
                             f"entry for an OpenInterval; {at_index('ends', index)} = ({lower[index]}, {upper[index]})")
        end = np.where(np.isfinite(lower), lower, np.where(np.isfinite(upper), upper, 0)).astype(like.dtype)
        return cls(end, np.where(like < end, -1, 1).astype(like.dtype))

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return self.end + times_exp(self.scale, z)                                  # (1) (11)

    def inverse(self, x):
        return 2 * np.log(np.sqrt(np.abs(x - self.end)) / np.sqrt(np.abs(self.scale)))      # (2) (10)

    def log_det(self, z):
        return z + np.log(np.abs(self.scale))                                       # (4)

    def slope(self, z):
        return times_exp(self.scale, z)                                             # (3) (11)

    def inverse_and_log_det(self, x):
        return self.inverse(x), -np.log(np.abs(x - self.end))                       # (5)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            bars = {"end": x_bar, "scale": times_exp(x_bar, z) + log_det_bar / self.scale}  # (7) (11)
            return times_exp(x_bar * self.scale, z) + log_det_bar, bars             # (6) (11)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        def pullback(z_bar, log_det_bar):
            x_bar = (z_bar - log_det_bar) / np.copysign(x - self.end, self.scale)   # (8) (12)
            return x_bar, {"end": -x_bar, "scale": -z_bar / self.scale}             # (9)

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("Beyond", "exp z overflows, its product with s does not", z=[720.0], end=1.0, scale=2.0**-60),
        case("Vanishing", "exp z is subnormal, its product with s is not", z=[-740.0], end=0.0, scale=2.0**60),
        case("Below", "x lies below a", z=[0.5], x=[-4.0], end=-3.0, scale=-1.0),
        case("UnitDeterminant", "z and log s cancel", z=[-np.log(3.0)], end=0.0, scale=3.0),
        case("NearEnd", "x and a agree in all digits but the last", x=[1.0 + 2.0**-20], end=1.0, scale=2.0),
        case("Quotient", "(x - a)/s overflows, its logarithm does not", x=[2.0**1000], end=0.0, scale=2.0**-60),
    )


def times_exp(v, z):
    """v exp z; 0 if v is 0, even where exp z overflows."""
    h = np.exp(z / 2)
    return np.where(v == 0, 0, v * h * h)                                           # (11)
