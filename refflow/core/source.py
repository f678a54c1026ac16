"""Sources of drawn things: four primitives from which members of sets, values of pages, and points are made.

A source answers
    numbers(shape, low, high)       m 2^e, 1 <= m < 2, low <= e < high, integers or arrays of them; e = low if high <= low
    choices(shape, count)           whole numbers from 0 to count - 1
    booleans(shape, share)          True in a share of the cases
    orders(shape)                   permutations of 0 .. D-1 along the last axis
Everything else follows from these.  `RandomSource` asks a NumPy generator; `Plainest` gives the simplest answers, 1, 0, True
and the identity; `refflow.laws.strategies` asks Hypothesis, which shrinks towards these.
"""

from __future__ import annotations

import numpy as np


class Source:
    """What follows from the primitives."""

    def signed(self, shape, low, high):
        """Numbers of either sign."""
        return self.numbers(shape, low, high) * (1.0 - 2.0 * self.choices(shape, 2))

    def choice(self, options):
        """One of several things, the simplest first."""
        return options[int(self.choices((), len(options)))]

    def chance(self, share):
        """True in a share of the cases."""
        return bool(self.booleans((), share))

    def count(self, low, high):
        """A whole number, low to high."""
        return low + int(self.choices((), high - low + 1))


class RandomSource(Source):
    """A source of independent answers, from a NumPy generator."""

    def __init__(self, rng):
        self.rng = rng

    def numbers(self, shape, low, high):
        mantissa = 1 + self.rng.random(shape)
        return np.ldexp(mantissa, self.rng.integers(low, np.maximum(high, np.add(low, 1)), shape))

    def signed(self, shape, low, high):
        """The signs in the order that the golden points use."""
        return self.numbers(shape, low, high) * self.rng.choice([-1.0, 1.0], shape)

    def choices(self, shape, count):
        return self.rng.integers(0, count, shape)

    def booleans(self, shape, share=0.5):
        return self.rng.random(shape) < share

    def orders(self, shape):
        return self.rng.permuted(np.broadcast_to(np.arange(shape[-1]), shape), axis=-1)


class Plainest(Source):
    """A source of the simplest answers."""

    def numbers(self, shape, low, high):
        return np.ldexp(np.ones(shape), np.clip(0, low, np.maximum(np.subtract(high, 1), low)))

    def choices(self, shape, count):
        return np.zeros(shape, np.int64)

    def booleans(self, shape, share=0.5):
        return np.full(shape, share > 0)

    def orders(self, shape):
        return np.broadcast_to(np.arange(shape[-1]), shape)
