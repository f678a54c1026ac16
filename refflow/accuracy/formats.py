"""The binary floating-point formats that other people's code computes in: what a number of each can be.

refflow computes in float32 and float64.  bfloat16 and float16 are formats of theirs: numbers that they hold are given to NumPy
in a wider one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Format:
    """Numbers m 2^(e - bits + 1) with |m| < 2^bits and low <= e <= high."""

    bits: int
    low: int
    high: int

    @property
    def unit(self):
        """The unit roundoff u."""
        return 2.0**-self.bits

    @property
    def smallest(self):
        """The smallest subnormal number, which is also the spacing of the subnormal numbers."""
        return 2.0**(self.low - self.bits + 1)

    @property
    def normal(self):
        """The smallest normal number."""
        return 2.0**self.low

    @property
    def largest(self):
        return (2 - 2.0**(1 - self.bits)) * 2.0**self.high

    def rounded(self, values):
        """The nearest numbers of the format, ties to even, in the dtype of the values; too large ones become infinite."""
        values = np.asarray(values)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            exponents = np.maximum(np.frexp(values)[1] - 1, self.low) - self.bits + 1
            nearest = np.ldexp(np.rint(np.ldexp(values, -exponents)), exponents)
            nearest = np.where(np.abs(nearest) > self.largest, np.copysign(np.inf, values), nearest)
        return np.where(np.isfinite(values), nearest, values).astype(values.dtype)

    def holds(self, values):
        """Are all values numbers of the format?"""
        return bool(np.array_equal(self.rounded(values), np.asarray(values), equal_nan=True))



def format_of(given) -> Format:
    """The format of a dtype or of a name; a format is its own."""
    return given if isinstance(given, Format) else FORMATS[name_of(given)]


def name_of(dtype):
    """The name of a dtype, which may be the name already: NumPy has no bfloat16."""
    return dtype if isinstance(dtype, str) and dtype in FORMATS else np.dtype(dtype).name


FORMATS = {"bfloat16": Format(8, -126, 127), "float16": Format(11, -14, 15), "float32": Format(24, -126, 127),
           "float64": Format(53, -1022, 1023)}
