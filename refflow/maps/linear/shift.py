"""An optional shift."""

from __future__ import annotations


def plus(x, shift):
    """x + shift, or x if the shift is None."""
    return x if shift is None else x + shift


def minus(x, shift):
    """x - shift, or x if the shift is None."""
    return x if shift is None else x - shift


def shift_bar(f, bar):
    """The cotangent `bar` of a map's shift, by its name; nothing if the shift is None."""
    return {} if f.shift is None else {"shift": bar}
