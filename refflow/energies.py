r"""The four energies of Rezende and Mohamed: densities `p(z) = exp(-U(z))/Z` of `z = (z_1, z_2)` that are known up to `Z`.

The map.  A ring that is cut in two at `z_1 = 0`, with `r = sqrt(z_1^2 + z_2^2)`,
    U_1 = ((r - 2)/0.4)^2/2 - log(exp(-((z_1 - 2)/0.6)^2/2) + exp(-((z_1 + 2)/0.6)^2/2))            (1)
and bands along a wave `w_1`, of which one, or the second of two, is moved down by `w_2` or `w_3`,
    w_1 = sin(2 pi z_1/4),   w_2 = 3 exp(-((z_1 - 1)/0.6)^2/2),   w_3 = 3/(1 + exp(-(z_1 - 1)/0.3))         (2)
    U_2 = ((z_2 - w_1)/0.4)^2/2 + E                                                 (3)
    U_3 = -log(exp(-((z_2 - w_1)/0.35)^2/2) + exp(-((z_2 - w_1 + w_2)/0.35)^2/2)) + E               (4)
    U_4 = -log(exp(-((z_2 - w_1)/0.4)^2/2) + exp(-((z_2 - w_1 + w_3)/0.35)^2/2)) + E                (5)
The source prints (3) to (5) without `E` and shows them for `-4 < z_1 < 4`; but these bands have no end, and `Z` would be infinite.
An envelope of fourth power ends them about where the source's picture does; normflows has a wider one:
    E = (z_1/4)^4/2                                                                 (6)
Along `z_2`, (3) to (5) are sums of normal densities, so that
    Z = 8 2^(1/4) Gamma(5/4) (2 pi)^(1/2) W,   W = 0.4 of U_2, 0.35 + 0.35 of U_3, 0.4 + 0.35 of U_4        (7)
and `Z` of (1) is known by quadrature.

The reverse rule.  With `n = z/r`, 0 at the centre, where (1) has a cone,
    dU_1/dz = (r - 2)/0.4^2 n + ((z_1 - 2 tanh(2 z_1/0.6^2))/0.6^2, 0)              (8)
With `p` and `q` for the two quotients that are squared in (4) or (5), of widths `P` and `Q`, and `w` for `w_2` or `w_3`,
    a = exp(-p^2/2)/(exp(-p^2/2) + exp(-q^2/2)),   b = 1 - a                        (9)
    dU/dz_2 = a p/P + b q/Q                                                         (10)
    dU/dz_1 = -w_1' dU/dz_2 + w' b q/Q + z_1^3/128                                  (11)
    w_1' = (pi/2) cos(2 pi z_1/4),   w_2' = -w_2 (z_1 - 1)/0.6^2,   w_3' = w_3 (1 - w_3/3)/0.3      (12)
and for (3), `a = 1` and `P = 0.4`.

In floating point.

In (1), both exponentials underflow far from the ring; the difference of their exponents is `100 z_1/9`, so that
    -log(exp(-s^2/2) + exp(-t^2/2)) = ((|z_1| - 2)/0.6)^2/2 - log1p(exp(-100 |z_1|/9))              (13)
In (8), `(r - 2) n` is taken as `z - 2 n`, which is finite where `r` overflows.     (14)

In (2), `2 pi z_1` overflows for the largest `z_1`; the remainder of a division by 4 is exact:
    sin(2 pi z_1/4) = sin(pi r/2),   r = z_1 mod 4                                  (15)

In (12), `1 - w_3/3` loses all digits where `w_3` rounds to 3; with `e = exp(-|z_1 - 1|/0.3)`,
    w_3/3 = 1/(1 + e) or e/(1 + e),   w_3 (1 - w_3/3) = 3 e/(1 + e)^2               (16)

In (4), (5) and (9), all exponentials may underflow.  With the difference `s = (p^2 - q^2)/2` of the exponents,
    -log(exp(-p^2/2) + exp(-q^2/2)) = min(p^2, q^2)/2 - log1p(exp(-|s|))            (17)
    a = 1/(1 + exp(s))                                                              (18)
A difference of squares cancels; with `d = z_2 - w_1`, it is a product:
    s = -w_2 (d + w_2/2)/0.35^2    in (4),   s = -25 (d + 8 w_3) (15 d + 8 w_3)/392    in (5)       (19)
The widths are ratios of small integers, 2/5, 7/20, 3/5 and 3/10, whose rounding is avoided.        (20)
The 1 that is subtracted from `z_1` makes roundings of `w_2` and `w_3` that do not come from `z_1`, and (19) multiplies them:
everything is computed in float64, for float32 too, and rounded once.                                         (21)

In (11), the terms may overflow with opposite signs; a sixteenth of each leaves the floats only where `z_1^3` outweighs the others: the
sum is taken of these, and multiplied by 16.                                        (22)

Source: Rezende and Mohamed, Variational Inference with Normalizing Flows, arXiv:1505.05770, table 1 and figure 3.
"""

from __future__ import annotations

import math

import numpy as np

from .core.arrays import as_floating

BAND = math.log(8 * 2**0.25 * math.gamma(1.25) * math.sqrt(2 * math.pi))            # log(Z/W) of (7)


class U1:
    """A ring of radius 2, cut in two: p(z) = exp(-U_1(z))/Z, z (*batch, 2)."""

    D = 2
    log_integral = 1.877501626109783

    @staticmethod
    def definition(m, z):
        """U, of two numbers of the namespace m."""
        r = m.sqrt(z[0]**2 + z[1]**2)
        s, t = (z[0] - 2) / (m.mpf(3) / 5), (z[0] + 2) / (m.mpf(3) / 5)
        return ((r - 2) / (m.mpf(2) / 5))**2 / 2 - m.log(m.exp(-s**2 / 2) + m.exp(-t**2 / 2))       # (1)

    @staticmethod
    def log_density(z):
        """-U(z), (*batch).  ValueError unless z holds finite vectors of two entries."""
        z, dtype = checked("U1", z)
        with np.errstate(all="ignore"):
            size, r = abs(z[..., 0]), np.hypot(z[..., 0], z[..., 1])
            halves = (size - 2)**2 * 25 / 18 - np.log1p(np.exp(-100 * size / 9))    # (13) (20)
            return -((r - 2)**2 * 25 / 8 + halves).astype(dtype)                    # (1)

    @staticmethod
    def gradient(z):
        """The gradient of the log density, (*batch, 2).  ValueError as for `log_density`."""
        z, dtype = checked("U1", z)
        with np.errstate(all="ignore"):
            r = np.hypot(z[..., 0], z[..., 1])[..., None]
            n = np.where(r > 0, z / np.where(r > 0, r, 1), 0)
            U_bar = (z - 2 * n) * 25 / 4                                            # (8) (14)
            U_bar[..., 0] += (z[..., 0] - 2 * np.tanh(z[..., 0] * 50 / 9)) * 25 / 9         # (8)
            return -U_bar.astype(dtype)


class U2:
    """A band along a wave: p(z) = exp(-U_2(z))/Z, z (*batch, 2)."""

    D = 2
    log_integral = BAND + math.log(0.4)                             # (7)

    @staticmethod
    def definition(m, z):
        """U, of two numbers of the namespace m."""
        return ((z[1] - wave(m, z[0])) / (m.mpf(2) / 5))**2 / 2 + envelope(m, z[0])         # (3)

    @staticmethod
    def log_density(z):
        """-U(z), (*batch).  ValueError unless z holds finite vectors of two entries."""
        z, dtype = checked("U2", z)
        with np.errstate(all="ignore"):
            band = (z[..., 1] - wave_and_slope(z[..., 0])[0])**2 * 25 / 8            # (3) (15) (20)
            return -(band + ends(z[..., 0])[0]).astype(dtype)                       # (3)

    @staticmethod
    def gradient(z):
        """The gradient of the log density, (*batch, 2).  ValueError as for `log_density`."""
        z, dtype = checked("U2", z)
        with np.errstate(all="ignore"):
            w, slope = wave_and_slope(z[..., 0])
            across = (z[..., 1] - w) * (25 / 64)                                    # (10) (22)
            return -(16 * np.stack([ends(z[..., 0])[1] - slope * across, across], -1)).astype(dtype)        # (11) (22)


class U3:
    """Two bands along a wave, one with a dent: p(z) = exp(-U_3(z))/Z, z (*batch, 2)."""

    D = 2
    log_integral = BAND + math.log(0.7)                             # (7)

    @staticmethod
    def definition(m, z):
        """U, of two numbers of the namespace m."""
        d, w, width = z[1] - wave(m, z[0]), 3 * m.exp(-((z[0] - 1) / (m.mpf(3) / 5))**2 / 2), m.mpf(7) / 20         # (2)
        return -m.log(m.exp(-(d / width)**2 / 2) + m.exp(-((d + w) / width)**2 / 2)) + envelope(m, z[0])    # (4)

    @staticmethod
    def letters(z):
        """Both quotients p/P and q/Q, both squares p^2 and q^2, s, and w_1', w', all (*batch)."""
        w_1, slope = wave_and_slope(z[..., 0])
        t = (z[..., 0] - 1) * 5 / 3
        w = 3 * np.exp(-t * t / 2)                                                  # (2)
        d = z[..., 1] - w_1
        s = -w * (d + w / 2) * 400 / 49                                             # (19)
        return (d, d + w), (400 / 49, 400 / 49), s, slope, np.where(w > 0, -w * t * 5 / 3, 0)       # (12)

    @staticmethod
    def log_density(z):
        """-U(z), (*batch).  ValueError unless z holds finite vectors of two entries."""
        return log_density_of_two("U3", U3.letters, z)

    @staticmethod
    def gradient(z):
        """The gradient of the log density, (*batch, 2).  ValueError as for `log_density`."""
        return gradient_of_two("U3", U3.letters, z)


class U4:
    """Two bands along a wave, one with a step: p(z) = exp(-U_4(z))/Z, z (*batch, 2)."""

    D = 2
    log_integral = BAND + math.log(0.75)                            # (7)

    @staticmethod
    def definition(m, z):
        """U, of two numbers of the namespace m."""
        d, w = z[1] - wave(m, z[0]), 3 / (1 + m.exp(-(z[0] - 1) / (m.mpf(3) / 10)))         # (2)
        p, q = d / (m.mpf(2) / 5), (d + w) / (m.mpf(7) / 20)
        return -m.log(m.exp(-p**2 / 2) + m.exp(-q**2 / 2)) + envelope(m, z[0])      # (5)

    @staticmethod
    def letters(z):
        """As for U3."""
        w_1, slope = wave_and_slope(z[..., 0])
        t = (z[..., 0] - 1) * 10 / 3
        e = np.exp(-abs(t))                                                         # (16)
        w = 3 * np.where(t > 0, 1, e) / (1 + e)                                     # (2) (16)
        d = z[..., 1] - w_1
        s = -(d + 8 * w) * (15 * d + 8 * w) * 25 / 392                              # (19)
        return (d, d + w), (25 / 4, 400 / 49), s, slope, 10 * e / (1 + e)**2        # (12) (16)

    @staticmethod
    def log_density(z):
        """-U(z), (*batch).  ValueError unless z holds finite vectors of two entries."""
        return log_density_of_two("U4", U4.letters, z)

    @staticmethod
    def gradient(z):
        """The gradient of the log density, (*batch, 2).  ValueError as for `log_density`."""
        return gradient_of_two("U4", U4.letters, z)


ENERGIES = {"u1": U1, "u2": U2, "u3": U3, "u4": U4}


# -- words of the definitions -----------------------------------------------------------------------------------------

def wave(m, z):
    return m.sin(2 * m.pi * z / 4)                                                  # (2)


def envelope(m, z):
    return (z / 4)**4 / 2                                                           # (6)


# -- in floating point ------------------------------------------------------------------------------------------------

def checked(name, z):
    """(z in float64, its dtype)."""
    z, _ = as_floating(f"{name}: z", z)
    if z.shape[-1:] != (2,):
        raise ValueError(f"{name}: z must have shape (*batch, 2), not {z.shape}")
    if not np.isfinite(z).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(z))[0])
        raise ValueError(f"{name}: z must be finite; z[{', '.join(map(str, index))}] = {z[index]}")
    return z.astype(np.float64), z.dtype                                            # (21)


def wave_and_slope(z):
    """w_1 and w_1'."""
    turn = np.fmod(z, 4) * (math.pi / 2)                                            # (15)
    return np.sin(turn), np.cos(turn) * (math.pi / 2)                               # (2) (12)


def ends(z):
    """E and a sixteenth of its derivative."""
    square = (z / 4) * (z / 4)
    return square * square / 2, square * (z / 128)                                      # (6) (11)


def log_density_of_two(name, letters, z):
    z, dtype = checked(name, z)
    with np.errstate(all="ignore"):
        (d, moved), (P, Q), s, *_ = letters(z)
        least = np.minimum(d * d * P, moved * moved * Q) / 2
        return -(least - np.log1p(np.exp(-abs(s))) + ends(z[..., 0])[0]).astype(dtype)      # (17)


def gradient_of_two(name, letters, z):
    z, dtype = checked(name, z)
    with np.errstate(all="ignore"):
        (d, moved), (P, Q), s, slope, change = letters(z)
        e = np.exp(-abs(s))
        a, b = np.where(s > 0, e, 1) / (1 + e), np.where(s > 0, 1, e) / (1 + e)     # (9) (18)
        second = times(b, moved * (Q / 16))
        across = times(a, d * (P / 16)) + second                                    # (10) (22)
        along = ends(z[..., 0])[1] - times(slope, across) + times(change, second)   # (11)
        return -(16 * np.stack([along, across], -1)).astype(dtype)                  # (22)


def times(weight, v):
    """A product, 0 where the weight is 0 and v has left the floats."""
    return np.where(weight == 0, 0, weight * v)
