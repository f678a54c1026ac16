r"""Monotone piecewise-linear spline, `R -> R`: the distribution function of a histogram.

The map.  Given are input knots `z_0 < ... < z_K` and output knots `x_0 < ... < x_K`.  In the bin `z_k <= z < z_(k+1)`, with the
subscript 0 for its lower and 1 for its upper end,
    w = z_1 - z_0,   h = x_1 - x_0,   s = h / w                                     (1)
    x = x_0 + s (z - z_0)                                                           (2)
    dx/dz = s,   log|dx/dz| = log s                                                 (3)
An inner knot belongs to the bin above it, an end knot to its bin.  Beyond the end knots, with `e = 0` below the first and
`e = K` above the last, for `tails` "identity",
    x = z + (x_e - z_e)                                                             (4)
For "linear", the lines (2) of the first and of the last bin go on; for "none", the domain ends at the end knots.
The inverse map is the spline with its input and output knots exchanged.            (5)

The reverse rule.  From (2) and (3), with `t = (z - z_0)/w` and the cotangent `l_bar` of `log|dx/dz|`,
    z_bar = s x_bar                                                                 (6)
    z_0_bar = -x_bar s (1 - t) + l_bar / w,   z_1_bar = -x_bar s t - l_bar / w      (7)
    x_0_bar = x_bar (1 - t) - l_bar / h,   x_1_bar = x_bar t + l_bar / h            (8)
and from (4)
    z_bar = x_bar,   x_e_bar = x_bar,   z_e_bar = -x_bar                            (9)
The inverse map has the same cotangents, by (5).

Source: Mueller, McWilliams, Rousselle, Gross and Novak, Neural Importance Sampling, arXiv:1808.03856, on piecewise-linear
coupling transforms.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, increasing, plain, refusal
from ...core.rules import one_of
from .bins import TAILS, Tails, at_ends, at_knots, between_intervals, bin_of, checked, reached, what_is_left


class textbook:
    """(1) to (9) as they are printed, for one event."""

    def beyond(event, knots, tails):
        """The index of the end knot of an event in a tail of slope 1, else None."""
        return None if tails == "linear" else 0 if event < knots[0] else -1 if event > knots[-1] else None

    def bin(event, knots):
        """The index of the lower knot of an event's bin."""
        k = 0
        while k < len(knots) - 2 and event >= knots[k + 1]:
            k += 1
        return k

    def ends(z, input_knots, output_knots):
        """z_0, z_1, x_0, x_1."""
        k = textbook.bin(z, input_knots)
        return input_knots[k], input_knots[k + 1], output_knots[k], output_knots[k + 1]

    def forward(z, input_knots, output_knots, tails):
        e = textbook.beyond(z, input_knots, tails)
        if e is not None:
            z_e, x_e = input_knots[e], output_knots[e]
            return z + (x_e - z_e)                                                  # (4)
        z_0, z_1, x_0, x_1 = textbook.ends(z, input_knots, output_knots)
        w, h = z_1 - z_0, x_1 - x_0                                                 # (1)
        s = h / w                                                                   # (1)
        return x_0 + s * (z - z_0)                                                  # (2)

    def inverse(x, input_knots, output_knots, tails):
        return textbook.forward(x, output_knots, input_knots, tails)                # (5)

    def slope(z, input_knots, output_knots, tails):
        if textbook.beyond(z, input_knots, tails) is not None:
            return 1                                                                # (4)
        z_0, z_1, x_0, x_1 = textbook.ends(z, input_knots, output_knots)
        s = (x_1 - x_0) / (z_1 - z_0)                                               # (1)
        return s                                                                    # (3)

    def log_det(z, input_knots, output_knots, tails):
        s = textbook.slope(z, input_knots, output_knots, tails)
        return np.log(s)                                                            # (3)

    def inverse_log_det(x, input_knots, output_knots, tails):
        return textbook.log_det(x, output_knots, input_knots, tails)                # (5)

    def vjp(z, input_knots, output_knots, tails, x_bar, l_bar):
        z_bars, x_bars = 0 * input_knots, 0 * output_knots
        bars = {"input_knots": z_bars, "output_knots": x_bars}
        e = textbook.beyond(z, input_knots, tails)
        if e is not None:
            z_bar, x_e_bar, z_e_bar = x_bar, x_bar, -x_bar                          # (9)
            z_bars[e], x_bars[e] = z_e_bar, x_e_bar
            return z_bar, bars
        z_0, z_1, x_0, x_1 = textbook.ends(z, input_knots, output_knots)
        w, h = z_1 - z_0, x_1 - x_0                                                 # (1)
        s, t = h / w, (z - z_0) / w                                                 # (1)
        z_bar = s * x_bar                                                           # (6)
        z_0_bar, z_1_bar = -x_bar * s * (1 - t) + l_bar / w, -x_bar * s * t - l_bar / w             # (7)
        x_0_bar, x_1_bar = x_bar * (1 - t) - l_bar / h, x_bar * t + l_bar / h       # (8)
        k = textbook.bin(z, input_knots)
        z_bars[k:k + 2], x_bars[k:k + 2] = (z_0_bar, z_1_bar), (x_0_bar, x_1_bar)
        return z_bar, bars

    def inverse_vjp(x, input_knots, output_knots, tails, z_bar, l_bar):
        x_bar, bars = textbook.vjp(x, output_knots, input_knots, tails, z_bar, l_bar)       # (5)
        return x_bar, {"input_knots": bars["output_knots"], "output_knots": bars["input_knots"]}    # (5)


r"""In floating point.

In (2), `x_0` may be much larger than `x` where `x_1` is nearer.  With `a = z - z_0` and `b = z_1 - z`,
    x = x_0 + s a      where a <= b,   x = x_1 - s b      elsewhere                 (10)

In (7) and (8), `1 - t` cancels near `z_1`.  Far out in a linear tail, `t` may overflow where its products do not:
    x_bar t = (x_bar/w) a,   x_bar (1 - t) = (x_bar/w) b                            (11)
"""


@bijector(source="arXiv:1808.03856", increasing=True, straight_far_out=True, textbook=textbook)
class LinearSpline(Bijector):
    """A monotone piecewise-linear spline through (input_knots, output_knots), fields of shape (*batch, K+1).

    `tails`: beyond the knots the slope is 1 ("identity", the identity if end knots agree) or the slope of the end bin
    ("linear"); or there is nothing beyond them ("none").  Raises ValueError for K < 1 and for other tails.
    """

    input_knots: Array = increasing("K+1")
    output_knots: Array = increasing("K+1")
    tails: str = plain("identity", one_of(*TAILS))
    event_ndim = (0, 0)

    domain = property(lambda self: reached(self.input_knots, self.tails))
    codomain = property(lambda self: reached(self.output_knots, self.tails))
    two_sided, mirrored = property(between_intervals), what_is_left

    def _validate(self):
        checked(self)
        super()._validate()

    def breaks(self):
        """The knots at which two lines meet.  An inner knot takes its slope from the bin above it, an end knot from its own."""
        return self.input_knots[..., 1:-1] if self.tails == "linear" else self.input_knots

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return self.line(z).image

    def log_det(self, z):
        return self.line(z).log_slope

    def forward_and_log_det(self, z):
        v = self.line(z)
        return v.image, v.log_slope

    def slope(self, z):
        return self.line(z).slope

    def inverse(self, x):
        return self.inverse_line(x).image                                           # (5)

    def inverse_and_log_det(self, x):
        v = self.inverse_line(x)
        return v.image, v.log_slope                                                 # (5)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        v = self.line(z)

        def pullback(x_bar, log_det_bar):
            z_bar, input_bar, output_bar = v.bars(x_bar, log_det_bar)
            return z_bar, {"input_knots": input_bar, "output_knots": output_bar}

        return (v.image, v.log_slope), pullback

    def inverse_vjp(self, x):
        v = self.inverse_line(x)

        def pullback(z_bar, log_det_bar):
            x_bar, output_bar, input_bar = v.bars(z_bar, log_det_bar)               # (5)
            return x_bar, {"input_knots": input_bar, "output_knots": output_bar}

        return (v.image, v.log_slope), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    def line(self, z):
        """The line of each z, with tails."""
        return Line(z, self.input_knots, self.output_knots, self.tails)

    def inverse_line(self, x):
        """The same from the other side."""
        return Line(x, self.output_knots, self.input_knots, self.tails)             # (5)

    hard_cases = (
        case("OneBin", "K = 1: both ends of the bin are ends of the spline", z=[-1.0, 0.25, 1.0, 2.0, -3.0],
             x=[-2.0, 0.5, 3.0, 4.0, -5.0], input_knots=[-1.0, 1.0], output_knots=[-2.0, 3.0]),
        case("IdentityTails", "end knots agree: beyond them x is z exactly", z=[-5.0, 1e300, 3.0, np.nextafter(3, 4)],
             x=[-5.0, 3.5], input_knots=[-3.0, 0.5, 3.0], output_knots=[-3.0, -1.0, 3.0]),
        case("LinearTails", "the lines of the end bins go on: t is far from [0, 1]", z=[-1e300, np.nextafter(-1, -2), 3.0, 1e6],
             x=[-1e300, np.nextafter(-2, -3), 2.0, 1e6], input_knots=[-1.0, 0.0, 2.0], output_knots=[-2.0, 0.0, 1.0],
             tails="linear"),
        case("AllInTails", "a batch without an event between the knots", z=[-3.0, 4.0], x=[-3.0, 4.0],
             input_knots=[-1.0, 1.0], output_knots=[0.0, 0.5], tails="linear"),
        case("NoTails", "the floats beside the ends of the domain", z=[np.nextafter(0, 1), 0.5, np.nextafter(1, 0)],
             x=[np.nextafter(0, 1), 0.5, np.nextafter(1, 0)], input_knots=[0.0, 0.25, 1.0], output_knots=[0.0, 0.75, 1.0],
             tails="none"),
        case("KnotExact", "an inner knot, and the floats beside it, on both sides",
             z=[0.3, np.nextafter(0.3, 0), np.nextafter(0.3, 1)], x=[0.7, np.nextafter(0.7, 0), np.nextafter(0.7, 1)],
             input_knots=[-1.0, 0.3, 2.0], output_knots=[-4.0, 0.7, 1.0]),
        case("UnequalBins", "widths and heights over twelve orders of magnitude", z=[1e-7, 0.5e-6, 0.5, 5e5],
             x=[-1e-3, -5e5, 0.5e-6, 0.5], input_knots=[0.0, 1e-6, 1.0, 1e6], output_knots=[-1e6, 0.0, 1e-6, 1.0]),
        case("EqualNeighbours", "two bins on one line", z=[0.25, 1.0, 1.5], x=[0.25, 1.0, 1.5], input_knots=[0.0, 1.0, 2.0],
             output_knots=[0.0, 1.0, 2.0]),
        case("NearerKnot", "x_0 is much larger than x: it must be reached from x_1", z=[1 - 1e-12, np.nextafter(1, 0)],
             x=[-1e-12, -1e-300], input_knots=[-1.0, 1.0], output_knots=[-1e6, 0.0]),
    )
    refused = (
        refusal("input_knots must have at least 2 entries", input_knots=[0.0], output_knots=[0.0]),
    )


class Line:
    """The line of each event, in the letters of the equations for the forward map; the event is z, its image x."""

    def __init__(self, event, knots, images, tails):
        self.k, self.count = bin_of(knots, event), knots.shape[-1]
        (z_0, z_1), (x_0, x_1) = at_ends(knots, self.k), at_ends(images, self.k)
        self.w, self.h = z_1 - z_0, x_1 - x_0                                       # (1)
        self.s = self.h / self.w                                                    # (1)
        self.a, self.b = event - z_0, z_1 - event                                   # (10)
        self.beyond = Tails(event, knots, images)                                   # (4)
        if tails == "linear":
            self.beyond.inside = np.ones_like(self.beyond.inside)
        inner = np.where(self.a <= self.b, x_0 + self.s * self.a, x_1 - self.s * self.b)    # (2) (10)
        self.image = self.beyond.joined(inner)

    @property
    def slope(self):
        return self.beyond.slope(self.s)                                            # (3)

    @property
    def log_slope(self):
        return self.beyond.log_slope(np.log(self.s))                                # (3)

    def bars(self, image_bar, log_det_bar):
        """Cotangents of (the event, the knots on its side, the knots on the other side)."""
        step = image_bar / self.w
        of_w, of_h = log_det_bar / self.w, log_det_bar / self.h
        of_z = -step * self.s * self.b + of_w, -step * self.s * self.a - of_w       # (7) (11)
        of_x = step * self.b - of_h, step * self.a + of_h                           # (8) (11)
        knots = self.beyond.knot_bars(of_z, image_bar), self.beyond.image_bars(of_x, image_bar)     # (9)
        event_bar = self.beyond.event_bar(image_bar * self.s, image_bar)            # (6) (9)
        return event_bar, *(at_knots(self.k, *bars, self.count) for bars in knots)
