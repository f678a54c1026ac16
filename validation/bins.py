"""python -m validation.bins: is a log-det found that is wrong in one bin of a spline, or on a short interval, alone?

Boxes are drawn whose log-det is wrong in a part of the line: a rational-quadratic spline whose log-det has another slope at the
last knot, and maps that are right elsewhere and off by 0.5 on an interval of a given width that lies anywhere on [-3, 3].  For
each, the right twin is asked too.  A line says how many of the wrong boxes are found, how many of the right ones are blamed, and
what a box costs.

Exit status: 0; 1 if a wrong box passes or a right one does not.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from refflow.oracle.boxes.black_box import BlackBox
from refflow.oracle.boxes.black_box_laws import verdicts

END, BINS = 3.0, 8
OFF = 0.5                               # nats
DTYPES = ("float64", "float32")


class Spline:
    """A rational-quadratic spline of drawn bins on [-3, 3], the identity beyond."""

    def __init__(self, rng, dtype, mistake=False):
        self.x, self.y = (np.append(-END, -END + 2 * END * np.cumsum(softmax(rng.standard_normal(BINS)))) for _ in range(2))
        self.x[-1] = self.y[-1] = END
        self.d = np.concatenate(([1], np.logaddexp(0, rng.standard_normal(BINS - 1)), [1]))
        self.x, self.y, self.d = (array.astype(dtype) for array in (self.x, self.y, self.d))
        self.mistake = mistake

    def bin_of(self, at, knots):
        i = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, BINS - 1)
        return i, self.x[i], self.y[i], self.x[i + 1] - self.x[i], self.y[i + 1] - self.y[i]

    def log_slope(self, i, t, s):
        d_0, d_1 = self.d[i], self.d[np.minimum(i + 1, BINS - 1) if self.mistake else i + 1]
        rest = 1 - t
        over = s + (self.d[i + 1] + self.d[i] - 2 * s) * t * rest
        return np.log(s * s * (d_1 * t * t + 2 * s * t * rest + d_0 * rest * rest)) - 2 * np.log(over)

    def forward(self, z):
        inside = np.abs(z) < END
        i, x, y, w, h = self.bin_of(np.where(inside, z, 0), self.x)
        t, s = (np.where(inside, z, x) - x) / w, h / w
        rest = 1 - t
        over = s + (self.d[i + 1] + self.d[i] - 2 * s) * t * rest
        image = y + h * (s * t * t + self.d[i] * t * rest) / over
        return np.where(inside, image, z), np.where(inside, self.log_slope(i, t, s), 0)

    def inverse(self, x):
        inside = np.abs(x) < END
        i, x_0, y_0, w, h = self.bin_of(np.where(inside, x, 0), self.y)
        s, up = h / w, np.where(inside, x, y_0) - y_0
        bend = self.d[i + 1] + self.d[i] - 2 * s
        a, b, c = h * (s - self.d[i]) + up * bend, h * self.d[i] - up * bend, -s * up
        t = 2 * c / (-b - np.sqrt(np.maximum(b * b - 4 * a * c, 0)))
        return np.where(inside, x_0 + t * w, x), np.where(inside, -self.log_slope(i, t, s), 0)


def softmax(values):
    return np.exp(values) / np.exp(values).sum()


def summed(function, event):
    """A map of numbers entry by entry, whose log-det is the sum."""
    def of_event(z):
        x, log_slope = function(z)
        return x, log_slope.sum(tuple(range(1, z.ndim)))

    return of_event if event else function


def spline(rng, dtype, event, mistake):
    """The slope at the last knot is that at the one before, in the log-det alone."""
    one = Spline(rng, dtype, mistake)
    return BlackBox(summed(one.forward, event), summed(one.inverse, event), event=event, dtype=dtype)


def off_on(width):
    """A map whose log-det is off on an interval; a spline, or a sum of the identity and tanh."""
    def make(rng, dtype, event, mistake):
        left, one = rng.uniform(-END, END - width), Spline(rng, dtype)

        def forward(z):
            x, log_slope = one.forward(z)
            return x, log_slope + OFF * (mistake & (z > left) & (z < left + width)).astype(dtype)

        return BlackBox(summed(forward, event), event=event, dtype=dtype)

    return make


KINDS = {"another slope at the last knot": (spline, 48)} | {
    f"off by {OFF} on an interval of width {width}": (off_on(width), 25) for width in (1.0, 0.3, 0.1)}


def main(arguments=None):
    options = parser().parse_args(arguments)
    complete = True
    for name, (make, draws) in KINDS.items():
        for dtype in options.dtype or DTYPES:
            for event in ((), (3,)):
                found, blamed, seconds = counted(make, options.draws or draws, dtype, event)
                complete &= found == (options.draws or draws) and not blamed
                print(f"{name}, {dtype}, event {event}: {found} of {options.draws or draws} found, {blamed} right ones blamed, "
                      f"{seconds:.2f} CPU seconds a box", flush=True)
    return 0 if complete else 1


def parser():
    one = argparse.ArgumentParser(prog="python -m validation.bins", description=__doc__.split("\n\n")[0])
    one.add_argument("--draws", type=int, metavar="N", help="of each kind; by default 48 splines and 25 of the others")
    one.add_argument("--dtype", choices=DTYPES, action="append", help="only boxes of this dtype")
    return one


def counted(make, draws, dtype, event):
    """(how many wrong boxes are found, how many right ones are blamed, CPU seconds of a box)."""
    begun = time.process_time()
    found, blamed = (sum(bool(verdicts(make(np.random.default_rng(seed), dtype, event, mistake), seed).failed)
                         for seed in range(draws)) for mistake in (True, False))
    return found, blamed, (time.process_time() - begun) / (2 * draws)


if __name__ == "__main__":
    sys.exit(main())
