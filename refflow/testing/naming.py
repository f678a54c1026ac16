"""In what way a black box breaks a law: known kinds, recognised from all points that were compared and a few more answers.

A name is a hint for the reader.  It never decides whether a law is broken.
"""

from __future__ import annotations

import contextlib

import numpy as np

from ..oracle.diagnosis import INVERSE_SCALES, LOG_SCALES

MOST = 16                               # wrong points that are looked at, and right ones
FEW = 3                                 # wrong points at least, to say that all are off alike
FLOAT32 = 2.0**-31, 2.0**-21            # errors of a number that was rounded to float32, and of sums of a few
RIGHT = 64                              # times smaller is the error at a point that is right
ALIKE = 2                               # errors within this factor of each other are the same


class Clue:
    """What was compared, at some of the points that could be asked, (points, entries) given and expected.

    `share` is the share of wrong points among all; `near`, of the size of an answer, tells it from others.
    """

    def __init__(self, box, compared):
        wrong = compared.wrong.any(-1)
        chosen = np.concatenate([some(np.flatnonzero(compared.usable & marks)) for marks in (wrong, ~wrong)])
        self.share, self.near = wrong.sum() / compared.usable.sum(), box.unit ** 0.4
        self.box, self.z, self.size = box, compared.z[chosen], int(np.prod(box.event))
        self.given, self.expected, self.bound, self.wrong = (
            np.broadcast_to(part, compared.wrong.shape)[chosen] for part in
            (compared.given, compared.expected, compared.bound, compared.wrong))

    def same(self, other):
        """Is this what was given at every point, and clearly not what was expected at some?"""
        other = np.reshape(other, self.given.shape)
        near = self.bound + self.near * np.abs(other)
        return bool((np.abs(self.given - other) <= near).all() and (np.abs(self.expected - other) > 4 * near).any())

    def off(self):
        """The errors of the wrong entries."""
        return (self.given - self.expected)[self.wrong]

    def images(self, z=None):
        return self.box.held(self.box.image(self.z if z is None else z))

    def jacobian(self, z):
        """(points, D, D) by differences, to half of the digits."""
        flat = z.reshape(len(z), -1)
        step = np.cbrt(self.box.unit) * np.maximum(np.abs(flat), 1)
        move = np.eye(self.size) * step[:, None, :]
        both = [self.box.held((flat[:, None, :] + side * move).reshape(-1, *self.box.event)) for side in (1, -1)]
        images = [self.box.image(one).reshape(len(z), self.size, -1) for one in both]
        width = np.diagonal((both[0] - both[1]).reshape(move.shape), axis1=1, axis2=2)
        return np.swapaxes((images[0] - images[1]) / width[..., None], 1, 2)


def some(indices):
    """At most `MOST` of the indices, evenly spread: points lie in the order of their sizes."""
    return indices[np.unique(np.linspace(0, len(indices) - 1, min(len(indices), MOST)).astype(int))]


# -- any number -------------------------------------------------------------------------------------------------------

def not_a_number(clue):
    held = clue.given[clue.wrong]
    return "NaN" if np.isnan(held).any() else "infinite" if np.isinf(held).any() else ""


def negated(clue):
    return "negated" if clue.same(-clue.expected) else ""


def wrong_factor(clue):
    return next((text for factor, text in ((2.0, "doubled"), (0.5, "halved")) if clue.same(factor * clue.expected)), "")


def constant(clue):
    """The same error wherever it is wrong, and it is wrong nearly everywhere."""
    off = clue.off()
    if clue.share < 0.75 or len(off) < FEW or np.ptp(off) > clue.near * np.abs(off).min() + 4 * np.max(clue.bound[clue.wrong]):
        return ""
    size = abs(float(np.median(off)))
    if clue.box.precision == "float64" and FLOAT32[0] <= size / clue.size <= FLOAT32[1]:
        return f"a number rounded to float32: off by {size:.1e} at every point"
    return f"a constant term: off by {float(np.median(off)):.6g} at every point"


def rounded_constant(clue):
    """The same small relative error wherever it is wrong."""
    off = np.abs(clue.off() / clue.expected[clue.wrong])
    same = off.max() <= ALIKE * np.median(off) and np.median(off) <= ALIKE * off.min()
    if clue.box.precision != "float64" or len(off) < FEW or not same or not FLOAT32[0] <= np.median(off) <= FLOAT32[1]:
        return ""
    return f"a factor rounded to float32: the relative error is {np.median(off):.1e} at every point"


def digits_lost(clue):
    """Roughly right: how many digits are."""
    size = np.maximum(np.abs(clue.expected[clue.wrong]), np.max(np.abs(clue.expected)) * clue.near)
    relative = float(np.max(np.abs(clue.off()) / size))
    if not 0 < relative < 0.1:
        return ""
    return f"digits lost to cancellation, or to an approximation such as an epsilon: the relative error is up to {relative:.0e}"


# -- log-dets ---------------------------------------------------------------------------------------------------------

def other_direction(clue):
    return "negated: the log-det of the other direction" if clue.same(-clue.expected) else ""


def one_entry(clue):
    """The mean, or one term, of a sum over the event."""
    if clue.size > 1 and clue.same(clue.expected / clue.size):
        return "not summed over the event: the mean over its entries"
    terms = log_diagonal(clue) if clue.size > 1 else np.zeros((len(clue.z), 0))
    return next(("not summed over the event: the term of one entry" for term in terms.T if clue.same(term)), "")


def log_diagonal(clue):
    return np.log(np.abs(np.diagonal(clue.jacobian(clue.z), axis1=1, axis2=2)))


def in_bits(clue):
    return "log2|det|, which is right when it is multiplied by log 2" if clue.same(clue.expected / np.log(2)) else ""


def other_scale(clue):
    """A coupling or an elementwise map: the scale has one form in the image, and another one in the log-det."""
    scales = np.diagonal(clue.jacobian(clue.z), axis1=1, axis2=2)
    scales = scales[:, (np.abs(scales - 1) > clue.near).any(0)]
    for scale, inverse in INVERSE_SCALES.items():
        for other, log_scale in LOG_SCALES.items():
            if scales.size and scale != other and clue.same(log_scale(inverse(scales)).sum(-1)):
                return f"the log-det of a scale {other}, where the map has {scale}"
    return ""


def at_the_image(clue):
    log_det = np.linalg.slogdet(clue.jacobian(clue.images()))[1]
    return "taken at the image instead of at the latent" if clue.same(log_det) else ""


def other_entries(clue):
    """The inverse's log-det, as a function of z, moves with entries with which the log-det of forward does not."""
    def moves(function):
        """Marks of the entries with which a value moves at some point."""
        here = function(clue.z)
        return np.array([np.any(function(clue.box.held(clue.z + step.reshape(clue.box.event))) != here)
                         for step in np.eye(clue.size) * 0.25])

    wrongly = moves(lambda z: clue.box.answer_back(clue.images(z))[1]) & ~moves(clue.box.log_slope)
    if not wrongly.any() or clue.size == 1:
        return ""
    at = tuple(int(k) for k in np.unravel_index(int(np.argmax(wrongly)), clue.box.event))
    return f"taken at the wrong point: it moves with entry {at} of the latent, on which the log-det of forward does not depend"


def with_the_image(clue):
    """The forward log-det as a function of x."""
    return "taken at the image instead of at the latent" if clue.same(clue.box.log_slope(clue.images())) else ""


# -- round trips ------------------------------------------------------------------------------------------------------

def one_branch(clue):
    """The size without the sign; or wrong on one side of 0, and right at the mirrored latents."""
    turned = clue.wrong & (clue.given * clue.expected < 0)
    large = turned & (np.abs(clue.expected) > np.max(np.abs(clue.expected), where=turned, initial=0) / 8)
    if large.any() and np.allclose(clue.given[large], -clue.expected[large], clue.near):
        return "the sign is lost: a root of a single branch"
    wrong = clue.wrong.any(-1)
    z = -clue.z[wrong]
    mirrored = np.abs(clue.box.origin(clue.images(z)) - z).reshape(len(z), -1).max(-1)
    if (mirrored <= np.abs(clue.given - clue.expected)[wrong].max(-1) / RIGHT).all():
        return "right at the mirrored latent: a root or a logarithm of a single branch"
    return ""


def clipped(clue):
    held = clue.given[clue.wrong]
    if len(held) > 2 and np.ptp(held) == 0 and np.ptp(clue.expected[clue.wrong]) > 0:
        return f"clipped: {held[0]:.6g} wherever it is wrong"
    return ""


ANY = (not_a_number, rounded_constant, constant, digits_lost)
LOG_DET = (not_a_number, other_direction, wrong_factor, one_entry, in_bits, other_scale, at_the_image, constant,
           rounded_constant, digits_lost)
ROUND_TRIP = (not_a_number, one_branch, clipped, rounded_constant, constant, digits_lost)
GRADIENT = (not_a_number, negated, wrong_factor, digits_lost)
RULES = {"log-det is the determinant of differences": LOG_DET, "log-det is the determinant of the gradient": LOG_DET,
         "inverse log-det is minus log-det": (not_a_number, other_direction, wrong_factor, with_the_image, other_entries,
                                              constant, digits_lost),
         "inverse of forward": ROUND_TRIP, "forward of inverse": ROUND_TRIP, "pullback is the gradient": GRADIENT}


@np.errstate(all="ignore")
def named(law, box, found) -> str:
    """The kind of a failure in a few words, "" if it is none of the known ones."""
    compared = getattr(found, "compared", None)
    if compared is None:
        return ""
    clue = Clue(box, compared)
    return next(filter(None, (fit(rule, clue) for rule in RULES.get(law, ANY))), "")


def fit(rule, clue):
    """The text of a rule; "" too where the box refuses what it asks."""
    with contextlib.suppress(Exception):
        return rule(clue)
    return ""
