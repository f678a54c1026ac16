r"""Monotone piecewise-quadratic spline, `R -> R`: the integral of a piecewise-linear density.

The map.  Given are input knots `z_0 < ... < z_K`, slopes `d_0, ..., d_K > 0` at the knots, and `start`, the image of the first
knot.  With the subscripts 0 and 1 for the lower and the upper end of the bin `z_k <= z < z_(k+1)`,
    w = z_1 - z_0,   h = w (d_0 + d_1)/2                                            (1)
    x_0 = start,   x_k = start + h_0 + ... + h_(k-1)                                (2)
    t = (z - z_0)/w,   f = 1 - t                                                    (3)
    x = x_0 + w (d_0 t + (d_1 - d_0) t^2 / 2)                                       (4)
    dx/dz = S = d_0 f + d_1 t,   log|dx/dz| = log S                                 (5)
An inner knot belongs to the bin above it, an end knot to its bin.  For the inverse map, (4) is a quadratic equation for `t`, whose
discriminant is `w^2 S^2`.  The slope at the root is positive, so `S` is the positive square root.  With `p = x - x_0`,
    S = sqrt(d_0^2 + 2 p (d_1 - d_0)/w),   t = 2 p/(w (d_0 + S))                    (6)
    z = z_0 + w t,   log|dz/dx| = -log S                                            (7)
Beyond the knots the spline is a line of slope `g`.  With `e = 0` below the first knot and `e = K` above the last,
    x = x_e + g (z - z_e)                                                           (8)
    z = z_e + (x - x_e)/g                                                           (9)
For `tails` "identity", `g` is 1; for "linear", it is `d_e`; for "none", the domain ends at the end knots.

The reverse rule.  From (3) to (5), with `E = d_1 - d_0` and the cotangent `l_bar` of `log|dx/dz|`,
    t_bar = x_bar w S + l_bar E/S                                                   (10)
    w_bar = x_bar (d_0 t + E t^2 / 2) - t t_bar/w                                   (11)
    z_bar = t_bar/w,   z_0_bar = -w_bar - t_bar/w,   z_1_bar = w_bar                (12)
    d_0_bar = x_bar w (t - t^2 / 2) + l_bar f/S,   d_1_bar = x_bar w t^2 / 2 + l_bar t/S            (13)
By (2), `x_bar` is also the cotangent of `start`, and of the height `h_j` of every bin below.  Such a bin adds `w_j_bar` to
`z_(j+1)_bar`, subtracts it from `z_j_bar`, and adds `u_j_bar` to both `d_j_bar` and `d_(j+1)_bar`:
    start_bar = x_bar,
    w_j_bar = x_bar (d_j + d_(j+1))/2    for j = 0, ..., k - 1,
    u_j_bar = x_bar w_j/2                for j = 0, ..., k - 1                      (14)
Beyond the knots the cotangents follow from (8) and from (14), and `d_e` receives no cotangent from (8) unless the tails are linear:
    z_bar = g x_bar,   z_e_bar = -g x_bar,   d_e_bar = x_bar (z - z_e) + l_bar/g    (15)
For the inverse map, whose log-det has the cotangent `l_bar`, let `dl/dz` be the derivative of `log|dx/dz|`, which is `z_bar` of
(12) for `x_bar = 0` and `l_bar = 1`.  Then
    x_bar = (z_bar - l_bar dl/dz)/(dx/dz)                                           (16)
and the fields have the cotangents (12) to (15) with the signs of `x_bar` and `l_bar` reversed.     (17)

Source: Mueller, McWilliams, Rousselle, Gross and Novak, Neural Importance Sampling, arXiv:1808.03856, on piecewise-quadratic
coupling transforms.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, exact_product, exact_sum, increasing, plain, positive, real, refusal
from ...core.rules import one_of
from ...core.words import join
from .bins import TAILS, Tails, at_bins, at_ends, bin_of, checked, of_bins, reached, within

NEAR = 64                       # in units of the rounding of x_k: how near a knot (24) is used


class textbook:
    """(1) to (17) as they are printed, for one event."""

    def images(input_knots, slopes, start):
        """x_0, ..., x_K."""
        z_0, z_1, d_0, d_1 = input_knots[:-1], input_knots[1:], slopes[:-1], slopes[1:]
        w = z_1 - z_0                                                               # (1)
        h = w * (d_0 + d_1) / 2                                                     # (1)
        x = [start]
        for k in range(len(h)):
            x.append(x[k] + h[k])                                                   # (2)
        return x

    def end(event, knots, slopes, tails):
        """The index of the end knot and the slope of the line of an event beyond all knots, else (None, None)."""
        e = 0 if event < knots[0] else len(knots) - 1 if event > knots[-1] else None
        return e, None if e is None else slopes[e] if tails == "linear" else 1

    def bin(event, knots):
        """The index of the lower knot of an event's bin."""
        k = 0
        while k < len(knots) - 2 and event >= knots[k + 1]:
            k += 1
        return k

    def letters(z, input_knots, slopes):
        """w, d_0, d_1, t, f, S."""
        k = textbook.bin(z, input_knots)
        z_0, z_1, d_0, d_1 = input_knots[k], input_knots[k + 1], slopes[k], slopes[k + 1]
        w = z_1 - z_0                                                               # (1)
        t = (z - z_0) / w                                                           # (3)
        f = 1 - t                                                                   # (3)
        S = d_0 * f + d_1 * t                                                       # (5)
        return w, d_0, d_1, t, f, S

    def forward(z, input_knots, slopes, start, tails):
        images = textbook.images(input_knots, slopes, start)
        e, g = textbook.end(z, input_knots, slopes, tails)
        if g is not None:
            z_e, x_e = input_knots[e], images[e]
            return x_e + g * (z - z_e)                                              # (8)
        x_0 = images[textbook.bin(z, input_knots)]
        w, d_0, d_1, t, f, S = textbook.letters(z, input_knots, slopes)
        return x_0 + w * (d_0 * t + (d_1 - d_0) * t ** 2 / 2)                       # (4)

    def inverse(x, input_knots, slopes, start, tails):
        images = textbook.images(input_knots, slopes, start)
        e, g = textbook.end(x, images, slopes, tails)
        if g is not None:
            z_e, x_e = input_knots[e], images[e]
            return z_e + (x - x_e) / g                                              # (9)
        k = textbook.bin(x, images)
        z_0, z_1, d_0, d_1 = input_knots[k], input_knots[k + 1], slopes[k], slopes[k + 1]
        w, p = z_1 - z_0, x - images[k]                                             # (1)
        S = np.sqrt(d_0 ** 2 + 2 * p * (d_1 - d_0) / w)                             # (6)
        t = 2 * p / (w * (d_0 + S))                                                 # (6)
        return z_0 + w * t                                                          # (7)

    def slope(z, input_knots, slopes, start, tails):
        _, g = textbook.end(z, input_knots, slopes, tails)
        if g is not None:
            return g                                                                # (8)
        w, d_0, d_1, t, f, S = textbook.letters(z, input_knots, slopes)
        return S                                                                    # (5)

    def log_det(z, input_knots, slopes, start, tails):
        S = textbook.slope(z, input_knots, slopes, start, tails)
        return np.log(S)                                                            # (5)

    def inverse_log_det(x, input_knots, slopes, start, tails):
        z = textbook.inverse(x, input_knots, slopes, start, tails)
        S = textbook.slope(z, input_knots, slopes, start, tails)
        return -np.log(S)                                                           # (7)

    def vjp(z, input_knots, slopes, start, tails, x_bar, l_bar):
        z_bars, d_bars = 0 * input_knots, 0 * slopes
        k, g = textbook.end(z, input_knots, slopes, tails)
        if g is not None:
            z_e = input_knots[k]
            z_bar, z_e_bar = g * x_bar, -g * x_bar                                  # (15)
            d_e_bar = x_bar * (z - z_e) + l_bar / g                                 # (15)
            z_bars[k], d_bars[k] = z_e_bar, d_e_bar if tails == "linear" else 0
        else:
            k = textbook.bin(z, input_knots)
            w, d_0, d_1, t, f, S = textbook.letters(z, input_knots, slopes)
            E = d_1 - d_0
            t_bar = x_bar * w * S + l_bar * E / S                                   # (10)
            w_bar = x_bar * (d_0 * t + E * t ** 2 / 2) - t * t_bar / w              # (11)
            z_bar, z_0_bar, z_1_bar = t_bar / w, -w_bar - t_bar / w, w_bar          # (12)
            d_0_bar = x_bar * w * (t - t ** 2 / 2) + l_bar * f / S                  # (13)
            d_1_bar = x_bar * w * t ** 2 / 2 + l_bar * t / S                        # (13)
            z_bars[k:k + 2], d_bars[k:k + 2] = (z_0_bar, z_1_bar), (d_0_bar, d_1_bar)
        w_bar, u_bar = textbook.below(input_knots, slopes, k, x_bar)
        z_bars[:k] = z_bars[:k] - w_bar
        z_bars[1:k + 1] = z_bars[1:k + 1] + w_bar
        d_bars[:k] = d_bars[:k] + u_bar
        d_bars[1:k + 1] = d_bars[1:k + 1] + u_bar
        start_bar = x_bar                                                           # (14)
        return z_bar, {"input_knots": z_bars, "slopes": d_bars, "start": start_bar}

    def below(input_knots, d, k, x_bar):
        """w_j_bar and u_j_bar of all bins j below knot k."""
        w = input_knots[1:] - input_knots[:-1]
        w_bar = np.array([x_bar * (d[j] + d[j + 1]) / 2 for j in range(k)])         # (14)
        u_bar = np.array([x_bar * w[j] / 2 for j in range(k)])                      # (14)
        return w_bar, u_bar

    def inverse_vjp(x, input_knots, slopes, start, tails, z_bar, l_bar):
        fields = input_knots, slopes, start, tails
        z = textbook.inverse(x, *fields)
        dl_dz, _ = textbook.vjp(z, *fields, 0, 1)
        x_bar = (z_bar - l_bar * dl_dz) / textbook.slope(z, *fields)                # (16)
        return x_bar, textbook.vjp(z, *fields, -x_bar, -l_bar)[1]                   # (17)


r"""In floating point.

In (3), `1 - t` cancels near `z_1`:
    a = z - z_0,   b = z_1 - z,   t = a/w,   f = b/w                                (18)

In (4), the last term is negative where the slope falls, and `x_0` may be much larger than `x` where `x_1` is nearer.
With both `t` and `f`, all terms of the factors are positive, and the nearer knot is the start:
    x = x_0 + a (d_0 (1 + f) + d_1 t)/2      where a <= b                           (19)
      = x_1 - b (d_1 (1 + t) + d_0 f)/2      elsewhere                              (20)

In (6), the terms of `S` cancel where the slope falls.  But `S^2` is linear in `x`, so with `q = x_1 - x` no term of
    S = sqrt((d_0^2 q + d_1^2 p)/h)                                                 (21)
    a = 2 p/(d_0 + S),   b = 2 q/(d_1 + S)                                          (22)
    z = z_0 + a      where p <= q,   z = z_1 - b      elsewhere                     (23)
cancels, except in `p` and `q`.  The larger of these is `h` minus the smaller one, and the larger of `t` and `f` is 1 minus the
smaller one, because the rounding of `x_k` must not reach sums of both.

In (2), the sum rounds, and the rounded `x_k` cannot tell in which bin `x` lies; the derivatives of the log-det depend on the bin.
Near a knot, `p` and `q` are the sums, rounded once, of exact products:
    2 (x - x_k) = 2 x - 2 start - z_k d_k + z_0 d_0 - sum_(j<k) (z_(j+1) d_j - z_j d_(j+1))         (24)
The terms `z_j d_j` of (2) are left out, as two of each cancel.

In (14), neighbouring bins cancel in part: `d_j` in the cotangent of `z_j`, and `z_j` in the cotangent of `d_j`.  For the knots of
the bins below the event's bin, this leaves
    dx/dd_j = (z_(j+1) - z_(j-1))/2,   dx/dz_j = (d_(j-1) - d_(j+1))/2              (25)
where for `j = 0` the terms `z_(-1)` and `d_(-1)` are `z_0` and `-d_0`.

In (12) and (13), the bin before adds (14) at the lower end, which cancels in the same way, and `1 - t` cancels too.  Let `w_b` and
`d_b` be the width of the bin before and the slope at its lower end; before the first bin, 0 and `-d_0`.  With `l = log|dx/dz|`,
    dx/dd_0 = (w_b + a (1 + f))/2,   dx/dd_1 = a t/2                                (26)
    dx/dz_0 = (d_b - d_0 f^2 - d_1 t (1 + f))/2,   dx/dz_1 = (d_0 - d_1) t^2 / 2    (27)
    dl/dz = E/(w S),   dl/dz_0 = -f E/(w S),   dl/dz_1 = -t E/(w S)                 (28)

In (17), the two parts of the log-det's cotangent cancel.  The derivatives of `z` are (26) and (27) divided by `-S`.  The log-det
`n` of the inverse map has, at the ends of the bin and without the terms that cancel, the derivatives
    dn/dd_0 = (d_1 (t^2 + w_b/w) - d_0 (1 + f^2 + w_b/w))/(2 S^2)                   (29)
    dn/dd_1 = -t (d_0 (1 + f) + d_1 t)/(2 S^2)                                      (30)
    dn/dz_0 = E (d_b + d_0 f^2 - d_1 t^2)/(2 w S^2),   d_b + d_0 f^2 = -d_0 t (1 + f)   in the first bin,           (31)
    dn/dz_1 = E t (d_0 (1 + f) + d_1 t)/(2 w S^2)                                   (32)
All other fields have the cotangents (25) times the `-x_bar` of (16).
"""


@bijector(source="arXiv:1808.03856", increasing=True, straight_far_out=True, textbook=textbook)
class QuadraticSpline(Bijector):
    """A monotone piecewise-quadratic spline with given slopes at input_knots, both of shape (*batch, K+1), which takes the
    first knot to `start`.

    `tails`: beyond the knots the slope is 1 ("identity") or the slope at the end knot ("linear"); or there is nothing beyond
    them ("none").  Raises ValueError for K < 1 and for other tails.
    """

    input_knots: Array = increasing("K+1")
    slopes: Array = positive("K+1")
    start: Array = real()
    tails: str = plain("identity", one_of(*TAILS))
    event_ndim = (0, 0)
    terms = property(lambda self: self.slopes.shape[-1])            # in its sums

    domain = property(lambda self: reached(self.input_knots, self.tails))
    codomain = property(lambda self: reached(self.output_knots, self.tails))

    def _validate(self):
        checked(self)
        super()._validate()
        x = self.output_knots
        if self.tails == "none" and not (x[..., 0] < x[..., -1]).all():
            lost = np.argwhere(x[..., 0] >= x[..., -1])[0].tolist()
            raise ValueError("QuadraticSpline: without tails there must be images between the end knots' images, but all bins "
                             f"are lost beside start; first at {lost}")

    def breaks(self):
        """The input knots.  An inner knot takes its derivatives from the bin above it, an end knot from its own bin."""
        return self.input_knots

    # -- the map ------------------------------------------------------------------------------------------------------

    @property
    def widths(self):
        return np.diff(self.input_knots)                                            # (1)

    @property
    def output_knots(self):
        """x_0, ..., x_K."""
        heights = self.widths * ((self.slopes[..., 1:] + self.slopes[..., :-1]) / 2)    # (1)
        return self.start[..., None] + np.concatenate((np.zeros_like(heights[..., :1]), np.cumsum(heights, -1)), -1)    # (2)

    def forward(self, z):
        return self.image(self.place(z))

    def image(self, v):
        from_below = v.x_0 + v.a * ((v.d_0 * (1 + v.f) + v.d_1 * v.t) / 2)          # (4) (19)
        from_above = v.x_1 - v.b * ((v.d_1 * (1 + v.t) + v.d_0 * v.f) / 2)          # (4) (20)
        return v.beyond.joined(np.where(v.a <= v.b, from_below, from_above))        # (8) (9)

    def log_det(self, z):
        v = self.place(z)
        return v.beyond.log_slope(np.log(v.S))                                      # (5)

    def forward_and_log_det(self, z):
        v = self.place(z)
        return self.image(v), v.beyond.log_slope(np.log(v.S))                       # (5)

    def slope(self, z):
        v = self.place(z)
        return v.beyond.slope(v.S)                                                  # (5)

    def inverse(self, x):
        v = self.inverse_place(x)
        return v.beyond.joined(v.z)

    def inverse_and_log_det(self, x):
        v = self.inverse_place(x)
        return v.beyond.joined(v.z), v.beyond.log_slope(-np.log(v.S))               # (7)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        v = self.place(z)

        def pullback(x_bar, log_det_bar):
            l_bar, l_bent = log_det_bar / v.S, log_det_bar / v.S * v.E / v.w
            z_bar = v.beyond.event_bar(x_bar * v.S + l_bent, x_bar)                 # (12) (15) (28)
            of_z_0 = x_bar * v.to_z_0 - l_bent * v.f                                # (12) (27) (28)
            of_z_1 = -x_bar * v.E * v.t * v.t / 2 - l_bent * v.t                    # (12) (27) (28)
            of_d_0, of_d_1 = x_bar * v.to_d_0 + l_bar * v.f, x_bar * v.to_d_1 + l_bar * v.t     # (13) (26)
            knot_bar, slope_bar = -v.beyond.through(x_bar), v.beyond.slope_bar(x_bar, log_det_bar)  # (15)
            return z_bar, self.bars(v, x_bar, ((of_z_0, of_z_1), knot_bar), ((of_d_0, of_d_1), slope_bar))

        return (self.image(v), v.beyond.log_slope(np.log(v.S))), pullback

    def inverse_vjp(self, x):
        v = self.inverse_place(x)

        def pullback(z_bar, log_det_bar):
            through, n_bent = z_bar / v.S, log_det_bar / v.S * v.E / v.S / v.w      # (16) (28)
            x_bar = v.beyond.event_bar(through - n_bent, z_bar)                     # (16)
            narrow, sum_1 = v.w_before / v.w, v.d_0 * (1 + v.f) + v.d_1 * v.t
            n_d_0 = (v.d_1 * (v.t * v.t + narrow) - v.d_0 * (1 + v.f * v.f + narrow)) / 2   # (29)
            of_d_0 = log_det_bar / v.S * n_d_0 / v.S - through * v.to_d_0           # (17) (26) (29)
            of_d_1 = -log_det_bar / v.S * v.t * sum_1 / 2 / v.S - through * v.to_d_1    # (17) (26) (30)
            risen = np.where(v.k == 0, -v.d_0 * v.t * (1 + v.f), v.d_before + v.d_0 * v.f * v.f)    # (31)
            of_z_0 = n_bent * ((risen - v.d_1 * v.t * v.t) / 2) - through * v.to_z_0    # (17) (27) (31)
            of_z_1 = n_bent * v.t * sum_1 / 2 + through * v.E * v.t * v.t / 2       # (17) (27) (32)
            slope_bar = v.beyond.slope_bar(z_bar, log_det_bar)                      # (15)
            return x_bar, self.bars(v, -x_bar, ((of_z_0, of_z_1), z_bar), ((of_d_0, of_d_1), slope_bar))

        return self.inverse_and_log_det(x), pullback

    def bars(self, v, start_bar, of_knots, of_slopes):
        """Cotangents of the fields.

        `of_knots`, `of_slopes`: ((at the ends of the event's bin), at the nearer end knot of an event beyond all knots), without
        the terms (25), which multiply `start_bar`.
        """
        z, d = self.input_knots, self.slopes
        k = np.where(v.beyond.above, self.terms - 1, v.k)
        z_before, z_after = join(z[..., :1], z[..., :-1]), join(z[..., 1:], z[..., -1:])
        d_before, d_after = join(-d[..., :1], d[..., :-1]), join(d[..., 1:], d[..., -1:])
        to_knots, to_slopes = (d_before - d_after) / 2, (z_after - z_before) / 2    # (14) (25)
        return {"input_knots": self.summed(v, k, start_bar, to_knots, of_knots, (d[..., -1] + d[..., -2]) / 2),
                "slopes": self.summed(v, k, start_bar, to_slopes, of_slopes, to_slopes[..., -1]), "start": start_bar}

    def summed(self, v, k, start_bar, to_each, of_ends, to_last):
        """The cotangents of one field from the bins below k and from the event's own bin or tail."""
        (lower, upper), beyond = of_ends
        zero, knot = start_bar.dtype.type(0), np.arange(self.terms)
        below = np.where(knot < k[..., None], start_bar[..., None] * to_each, zero)     # (14) (25)
        lower = np.where(v.beyond.inside, lower, beyond + np.where(v.beyond.above, start_bar * to_last, zero))  # (14) (15) (25)
        return below + at_bins(k, lower, self.terms) + at_bins(k + 1, np.where(v.beyond.inside, upper, zero), self.terms)

    # -- in floating point --------------------------------------------------------------------------------------------

    def bin(self, k):
        """The letters of (1), (26) and (27) for each event's bin and the bin before it."""
        (z_0, z_1), (d_0, d_1), (x_0, x_1) = (at_ends(v, k) for v in (self.input_knots, self.slopes, self.output_knots))
        first, w = k == 0, z_1 - z_0                                                # (1)
        before = np.maximum(k - 1, 0)
        w_before = np.where(first, 0, z_0 - of_bins(self.input_knots, before))      # (26)
        d_before = np.where(first, -d_0, of_bins(self.slopes, before))              # (27)
        return Place(k=k, z_0=z_0, z_1=z_1, x_0=x_0, x_1=x_1, d_0=d_0, d_1=d_1, w=w, h=w * ((d_0 + d_1) / 2),   # (1)
                     w_before=w_before, d_before=d_before, E=d_1 - d_0)

    def place(self, z):
        """The bin of z, and z's place in it; for events beyond the knots, the place of the nearer end knot."""
        inner = within(self.input_knots, z)
        v = self.bin(bin_of(self.input_knots, inner))
        v.a, v.b = inner - v.z_0, v.z_1 - inner                                     # (18)
        v.t, v.f = v.a / v.w, v.b / v.w                                             # (18)
        v.S = v.d_0 * v.f + v.d_1 * v.t                                             # (5)
        v.beyond = Tails(z, self.input_knots, self.output_knots, self.end_slopes)   # (8) (9)
        return v

    def inverse_place(self, x):
        """The bin of x, and the place in it of the root."""
        distances = self.distances(x)
        below, above = distances[..., 0] < 0, distances[..., -1] > 0
        v = self.bin((distances[..., 1:-1] >= 0).sum(-1))
        p, q = at_ends(distances, v.k)
        p, q = np.where(below, 0, np.where(above, v.h, p)), np.where(below, v.h, np.where(above, 0, -q))
        lower = p <= q
        p, q = np.where(lower, p, v.h - q), np.where(lower, v.h - p, q)             # (23)
        v.S = np.sqrt((v.d_0 * v.d_0 * q + v.d_1 * v.d_1 * p) / v.h)                # (6) (21)
        v.a, v.b = 2 * p / (v.d_0 + v.S), 2 * q / (v.d_1 + v.S)                     # (6) (22)
        v.z = np.where(lower, v.z_0 + v.a, v.z_1 - v.b)                             # (7) (23)
        v.t, v.f = np.where(lower, v.a / v.w, 1 - v.b / v.w), np.where(lower, 1 - v.a / v.w, v.b / v.w)     # (6) (22)
        v.beyond = Tails(x, self.output_knots, self.input_knots, self.end_slopes, True, (below, above))     # (8) (9)
        return v

    def distances(self, x):
        """x - x_k for every knot, without rounding of the sum where it is nearly 0."""
        knots = self.output_knots
        found = x[..., None] - knots
        size = self.terms * np.finfo(x.dtype).eps * (np.abs(self.start) + knots[..., -1] - self.start)  # (24)
        near, flat = np.abs(found) <= (NEAR * size)[..., None], (-1, self.terms)
        if near.any():
            rows, k = np.nonzero(near.reshape(flat))
            z, d = (np.broadcast_to(v, found.shape).reshape(flat)[rows] for v in (self.input_knots, self.slopes))
            found[near] = exact_distance(x.reshape(-1)[rows], np.broadcast_to(self.start, x.shape).reshape(-1)[rows], z, d, k)
        return found

    @property
    def end_slopes(self):
        """The slopes of linear tails; None for tails of slope 1."""
        return (self.slopes[..., 0], self.slopes[..., -1]) if self.tails == "linear" else None

    hard_cases = (
        case("OneBin", "K = 1: there is no bin before", z=[-1.0, 0.25, 1.0, 2.0, -3.0], x=[-2.0, 0.5, 2.5, 4.0, -5.0],
             input_knots=[-1.0, 1.0], slopes=[0.5, 4.0], start=-2.0),
        case("Straight", "equal slopes: the quadratic term is 0", z=[-0.75, 0.5, 1.0], x=[-0.75, 0.5, 1.0],
             input_knots=[-1.0, 0.0, 1.0], slopes=[1.0, 1.0, 1.0], start=-1.0),
        case("KnotExact", "an inner knot, its image 0.75, and the floats beside them",
             z=[0.5, np.nextafter(0.5, 0), np.nextafter(0.5, 1)], x=[0.75, np.nextafter(0.75, 0), np.nextafter(0.75, 1)],
             input_knots=[-0.5, 0.5, 2.0], slopes=[1.0, 0.5, 4.0], start=0.0),
        case("RootCancels", "a falling slope: d_0^2 + 2 p (d_1 - d_0)/w loses the digits of S", z=[1 - 1e-9, 0.5],
             x=[0.5000005, 0.500000499, 0.25], input_knots=[0.0, 1.0], slopes=[1.0, 1e-6], start=0.0),
        case("FlatSlopes", "slopes over twelve orders of magnitude", z=[1e-7, 0.5, 1 - 1e-7, 1.5], x=[1e-13, 0.5, 5e5, 7e5],
             input_knots=[0.0, 1.0, 2.0], slopes=[1e-6, 1e6, 1e-6], start=0.0),
        case("UnequalBins", "widths over twelve orders of magnitude", z=[1e-7, 0.5e-6, 0.5, 5e5], x=[-1.0, 0.5e-6, 0.5, 1e5],
             input_knots=[0.0, 1e-6, 1.0, 1e6], slopes=[1.0, 1e-6, 1.0, 0.25], start=-1.0),
        case("OneFloat", "the images of five knots are one float: exact sums tell that x lies beside a slope of 1e-17",
             x=[1.2768605381209555e20], input_knots=[-2268840.7366597774, -2268593.2729052845, -2268065.0, -2184719.4261849653,
                                                     1.1, 1.69942119696, 1.7, 1.71],
             slopes=[1.0273270806481848e18, 1820.0, 3.6e-14, 2041.057, 524502251927.92377, 2700.0, 2.3e8, 1.2e-17],
             start=2.98e6),
        case("FarStart", "start is much larger than the bins: only exact sums tell in which of them x lies", z=[0.5, 1.5],
             x=[2.0**53, 2.0**53 + 2], input_knots=[0.0, 1.0, 2.0, 3.0], slopes=[1.0, 0.5, 2.0, 1.0], start=2.0**53),
        case("LinearTails", "the slopes at the end knots go on beyond them", z=[-1e300, np.nextafter(-1, -2), 3.0, 1e6],
             x=[-1e300, np.nextafter(-2, -3), 4.0, 1e6], input_knots=[-1.0, 0.0, 2.0], slopes=[0.25, 3.0, 1e-6], start=-2.0,
             tails="linear"),
        case("Lost", "the images of all knots round to start, the tails remain", z=[-2.0**70, 2.0**70], x=[-2.0**70, 2.0**70],
             input_knots=[0.0, 1.0], slopes=[1.0, 1.0], start=2.0**60, tails="linear"),
        case("AllInTails", "a batch without an event between the knots", z=[-3.0, 4.0], x=[-3.0, 4e6],
             input_knots=[-1.0, 1.0], slopes=[1e-6, 1e6], start=0.0, tails="linear"),
        case("NoTails", "the floats beside the ends of the domain", z=[np.nextafter(0, 1), 0.5, np.nextafter(1, 0)],
             x=[np.nextafter(0, 1), 0.5, np.nextafter(0.75, 0)], input_knots=[0.0, 0.25, 1.0], slopes=[1.0, 0.5, 1.0],
             start=0.0, tails="none"),
        case("FirstBinLost", "the first bin is lost beside start", z=[0.5, 1e19], x=[1.5e20], input_knots=[0.0, 1.0, 1e20],
             slopes=[1.0, 1.0, 1.0], start=1e20, tails="none"),
    )
    refused = (
        refusal("first at [1]", input_knots=[0.0, 0.5, 8.0], slopes=[1.0] * 3, start=[2.0**53, 2.0**60], tails="none"),
    )


class Place:
    """A place in a bin: the letters of the equations, for every event."""

    def __init__(self, **bin):
        vars(self).update(bin)

    @property
    def to_z_0(self):
        """dx/dz_0."""
        return (self.d_before - self.d_0 * self.f * self.f - self.d_1 * self.t * (1 + self.f)) / 2  # (27)

    @property
    def to_d_0(self):
        """dx/dd_0."""
        return (self.w_before + self.a * (1 + self.f)) / 2                          # (26)

    @property
    def to_d_1(self):
        """dx/dd_1."""
        return self.a * self.t / 2                                                  # (26)


def exact_distance(x, start, z, d, k):
    """x - x_k, rounded once, for the spline through z, d (n, K+1); nothing may overflow."""
    passed = np.arange(z.shape[-1] - 1) < k[..., None]
    rows = np.arange(len(k))
    products = [exact_product(z[:, 0], d[:, 0]), exact_product(-z[rows, k], d[rows, k])]    # (24)
    for j, below in enumerate(passed.T):
        products += [exact_product(-z[:, j + 1] * below, d[:, j]), exact_product(z[:, j] * below, d[:, j + 1])]     # (24)
    return exact_sum([2 * x, -2 * start, *(part for product in products for part in product)]) / 2  # (24)
