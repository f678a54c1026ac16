r"""Words of the splines: the bin in which an event lies, the values at its ends, the tails beyond all bins, and their adjoints.

Knots and the values at knots have shape (*parameter batch, K+1); events have the full batch.

Beyond the end knots `z_0` and `z_K` a spline is a line from the nearer end knot, here `(z_e, x_e)`, with slope `g`:
    x = x_e + g (z - z_e),   log|dx/dz| = log g                                     (1)
    z = x_e' + (x - z_e') / g,   log|dz/dx| = -log g                                (2)
where (2) is (1) from the other side: its event is `x`, its knot `z_e' = x_e` and its image `x_e' = z_e`.  For `tails` "linear",
`g` is the spline's own slope at the end knot.  For "identity" and "none", `g = 1`, and
    x = z + (x_e - z_e)                                                             (3)
is exactly `z` if the end knots agree.  A spline without tails never sees such an event: its domain is `z_0 <= z <= z_K`.

Reverse rule, for (1):
    z_bar = g x_bar,   z_e_bar = -g x_bar,   x_e_bar = x_bar,   g_bar = x_bar (z - z_e) + l_bar / g         (4)
and for (2), in its own letters,
    x_bar = z_bar / g,   z_e'_bar = -z_bar / g,   x_e'_bar = z_bar,   g_bar = -z_bar (x - z_e') / g^2 - l_bar / g    (5)

The mirrored map.  Let a spline `f` lead from the interval `(0, b)` to the interval `(0, b')`.  It takes the rest `b - z` to the
rest `b' - x` by the same equations, with the fields
    z_j~ = b - z_(K-j),   x_j~ = b' - x_(K-j),   and any others in reverse order, fractions of bins as 1 minus them         (6)
A spline moves with its knots, so `b` and `b'` may be held constant:
    the cotangents of f are the ones of (6) in reverse order, with the other sign if numbers were taken from b, b' or 1     (7)
A number at an inner knot has the derivatives of the bin below it on this side.  In float64, for float32 too, the differences in (6)
are exact unless knots are many binades apart.
"""

from __future__ import annotations

import numpy as np

from ...core import real, tree
from ...core.sets import intervals

TAILS = ("identity", "linear", "none")
PLACES = ("input_knots", "output_knots", "middles")     # of (6), taken from an end


# -- bins -------------------------------------------------------------------------------------------------------------

def bin_of(knots, event):
    """The index k of the bin [knots_k, knots_(k+1)) that holds an event; the last bin includes both its ends."""
    k = np.zeros(np.broadcast_shapes(event.shape, knots.shape[:-1]), np.intp)
    for j in range(1, knots.shape[-1] - 1):                     # knot by knot: a third of the time of a sum along a short axis
        k += event >= knots[..., j]
    return k


def within(knots, event):
    """The event, or the nearer end knot of an event beyond all knots."""
    return np.clip(event, knots[..., 0], knots[..., -1])


def of_bins(values, k):
    """The entry k of values (*parameter batch, K), for each event."""
    if values.ndim == 1:
        return values[k]
    each = np.broadcast_to(values, k.shape + values.shape[-1:])
    return each.reshape(-1)[np.arange(k.size).reshape(k.shape) * values.shape[-1] + k]      # faster than along an axis


def at_ends(values, k):
    """(values_k, values_(k+1)) of each event's bin."""
    return of_bins(values, k), of_bins(values, k + 1)


def at_bins(k, bar, count):
    """Cotangents of `count` values, (*batch, count): the cotangent of the value of each event's bin, 0 elsewhere."""
    return np.where(np.arange(count) == k[..., None], bar[..., None], bar.dtype.type(0))


def at_knots(k, lower_bar, upper_bar, count):
    """Cotangents of `count` values, (*batch, count): the cotangents at the ends of each event's bin, 0 elsewhere."""
    return at_bins(k, lower_bar, count) + at_bins(k + 1, upper_bar, count)


# -- what is checked of every spline ----------------------------------------------------------------------------------

def checked(spline):
    """Refuse a spline without a bin."""
    if spline.input_knots.shape[-1] < 2:
        raise ValueError(f"{type(spline).__name__}: input_knots must have at least 2 entries along its last axis, "
                         f"not shape {spline.input_knots.shape}")


def reached(knots, tails):
    """The set of a spline's events on the side of these knots: the numbers between them, or all numbers if there are tails."""
    return intervals(knots[..., 0], knots[..., -1]) if tails == "none" else real


# -- what is left of an interval (0, b) ------------------------------------------------------------------------------

def between_intervals(spline):
    """Does a spline lead from an interval (0, b) to another?"""
    return spline.tails == "none" and not np.any(spline.input_knots[..., 0]) and not np.any(spline.output_knots[..., 0])


def what_is_left(spline):
    """(The spline that takes what is left of z to what is left of x, the function from its cotangents to the own ones.)"""
    wide = spline.unchecked(np.float64)                                             # (6)
    new = {key: from_end(key, array) if key in PLACES else array[..., ::-1] for key, array in tree.arrays(wide).items()}

    def own(bars):
        return {key: -bar[..., ::-1] if key in PLACES else bar[..., ::-1] for key, bar in bars.items()}     # (7)

    return tree.copied(wide, **new), own


def from_end(key, array):
    """What is left of places, in their reverse order."""
    return (1 if key == "middles" else array[..., -1:]) - array[..., ::-1]          # (6)


# -- tails ------------------------------------------------------------------------------------------------------------

class Tails:
    """The events beyond the end knots: `below`, `above`, and `inside`, the marks of all others.

    `knots` are on the side of the event, `images` on the other side; `slopes`, (lower, upper), are the spline's slopes dx/dz at
    the end knots, or None for tails of slope 1; `back` for the inverse map, whose slopes are 1/g; `marks`, (below, above), if
    rounded knots cannot tell where an event lies.
    """

    def __init__(self, event, knots, images, slopes=None, back=False, marks=None):
        self.event, self.back = event, back
        self.below, self.above = marks or (event < knots[..., 0], event > knots[..., -1])
        self.inside = ~(self.below | self.above)
        self.knot, self.image = (np.where(self.above, v[..., -1], v[..., 0]) for v in (knots, images))
        self.g = None if slopes is None else np.where(self.above, slopes[1], slopes[0])

    def through(self, value):
        """The value times the slope of the tail."""
        return value if self.g is None else value / self.g if self.back else value * self.g

    def joined(self, inner):
        """The image: `inner` between the end knots."""
        if self.g is None:
            beyond = self.event + (self.image - self.knot)                          # (3)
        else:
            beyond = self.image + self.through(self.event - self.knot)              # (1) (2)
        return np.where(self.inside, inner, beyond)

    def slope(self, inner):
        """The slope, likewise."""
        return np.where(self.inside, inner, self.through(np.ones_like(self.event)))     # (1) (2)

    def log_slope(self, inner):
        """The log-det, likewise."""
        zero = np.zeros_like(self.event)
        beyond = zero if self.g is None else -np.log(self.g) if self.back else np.log(self.g)   # (1) (2)
        return np.where(self.inside, inner, beyond)

    def event_bar(self, inner, image_bar):
        """The event's cotangent: `inner` between the end knots."""
        return np.where(self.inside, inner, self.through(image_bar))                # (4) (5)

    def end_bars(self, ends, at_end):
        """Cotangents at both ends of the event's bin: `ends` inside it; beyond the knots `at_end`, at the nearer end knot."""
        zero = self.event.dtype.type(0)
        return tuple(np.where(self.inside, inner, np.where(there, at_end, zero))
                     for inner, there in zip(ends, (self.below, self.above)))

    def knot_bars(self, ends, image_bar):
        """The same for the knots on the event's side."""
        return self.end_bars(ends, -self.through(image_bar))                        # (4) (5)

    def image_bars(self, ends, image_bar):
        """The same for the knots on the other side."""
        return self.end_bars(ends, image_bar)                                       # (4) (5)

    def slope_bars(self, ends, image_bar, log_det_bar):
        """The same for the slopes at the end knots."""
        return self.end_bars(ends, self.slope_bar(image_bar, log_det_bar))

    def slope_bar(self, image_bar, log_det_bar, unit=1):
        """The cotangent of a number whose change moves g by `unit` times as much; 0 if g is not the spline's."""
        if self.g is None:
            return np.zeros_like(self.event)
        step, image_bar, of_log = self.event - self.knot, image_bar * unit, log_det_bar * unit / self.g
        return -image_bar / self.g / self.g * step - of_log if self.back else image_bar * step + of_log     # (4) (5)
