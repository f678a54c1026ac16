"""Infinities of a black box: what is the truth is right, and what ends too early is found."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest

from refflow.core import sets
from refflow.oracle.boxes.black_box_laws import verdict
from refflow.testing import BlackBox, verdicts

LINE = (-np.inf, np.inf)
DTYPES = ("float64", "float32")


def quiet(function):
    """Without NumPy's warnings, as a user would write it."""
    @functools.wraps(function)
    def silent(z):
        with np.errstate(all="ignore"):
            return function(z)

    return silent


def summed(terms):
    """Log-dets of events of several numbers."""
    return terms.sum(tuple(range(1, terms.ndim)))


def power(q):
    """sign(z) |z|^q, whose slope at 0 is 0 or infinite."""
    @quiet
    def forward(z):
        return np.sign(z) * np.abs(z) ** z.dtype.type(q), summed(np.log(q) + (q - 1) * np.log(np.abs(z)))

    return forward


@quiet
def cube(z):
    return z**3, summed(np.log(3 * z * z))


@quiet
def cube_root(x):
    z = np.cbrt(x)
    return z, summed(-np.log(3 * z * z))


@quiet
def cube_at_1(z):
    return (z - 1) ** 3, np.log(3 * (z - 1) ** 2)


@quiet
def with_a_root(z):
    return np.cbrt(z) + z, np.log1p(1 / (3 * np.cbrt(z) ** 2))


@quiet
def by_a_logarithm(z):
    """z (1 - log|z|) near 0, whose slope is -log|z|."""
    a, near = np.abs(z), np.abs(z) < 0.25
    safe = np.where(near & (a > 0), a, 0.25)
    edge, slope = 0.25 * (1 - np.log(0.25)), -np.log(0.25)
    x = np.sign(z) * np.where(near, np.where(a > 0, safe * (1 - np.log(safe)), 0), edge + slope * (a - 0.25))
    return x, np.where(near, np.where(a > 0, np.log(-np.log(safe)), np.inf), np.log(slope))


@quiet
def twice(z):
    return 2 * z, summed(np.full(z.shape, np.log(2)))


@quiet
def half(x):
    return x / 2, summed(np.full(x.shape, -np.log(2)))


RIGHT = {"a cube": (cube, cube_root), "a cube root": (cube_root, cube), "a power of 3/2": (power(1.5), power(2 / 3)),
         "a power of 2/3": (power(2 / 3), power(1.5)), "a power of 1.01": (power(1.01), power(1 / 1.01)), "a power of 9": (power(9), None),
         "a product": (twice, half)}
OF_NUMBERS = {"a cube about 1": (cube_at_1, None), "a root and a line": (with_a_root, None), "a slope that is a logarithm": (by_a_logarithm, None),
              "sinh by exponentials": (quiet(lambda z: ((np.exp(z) - np.exp(-z)) / 2, np.log(np.cosh(z)))), None)}


@pytest.mark.parametrize("event", [(), (3,)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", RIGHT)
def test_right_maps_of_the_line_are_not_blamed(name, dtype, event):
    """Infinities that are the truth, of a number and in a sum."""
    found = verdicts(BlackBox(*RIGHT[name], event=event, dtype=dtype))
    assert found.status == 0, str(found)


@pytest.mark.parametrize("declared", [{"domain": LINE}, {"codomain": LINE}, {"domain": LINE, "codomain": LINE}], ids=str)
def test_the_line_is_declared(declared):
    """As a torch user writes it."""
    for name in ("a cube", "a product"):
        found = verdicts(BlackBox(*RIGHT[name], **declared))
        assert found.status == 0, str(found)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OF_NUMBERS)
def test_slopes_that_are_0_or_infinite_somewhere(name, dtype):
    forward, inverse = OF_NUMBERS[name]
    found = verdict("finite", BlackBox(forward, inverse, dtype=dtype))
    assert found.status == "pass", found.text


@pytest.mark.parametrize("dtype", ["float16", *DTYPES])
@pytest.mark.parametrize("name", ["a cube", "a power of 3/2", "a cube root"])
def test_an_infinity_is_the_truth_in_every_dtype(name, dtype):
    """float16 has few numbers between 1 and 0."""
    assert verdict("finite", BlackBox(RIGHT[name][0], dtype=dtype)).status == "pass"


@pytest.mark.parametrize("where", [sets.real, sets.extended_real, "real", LINE, sets.interval(*LINE)], ids=str)
def test_the_whole_line_is_no_declaration(where):
    """Under any of its names: all laws are asked that are asked of a box without a domain."""
    box = BlackBox(twice, half, domain=where, codomain=where)
    assert box.domain is None and box.codomain is None


def test_the_line_without_0_has_no_ends_to_fall_over():
    """1/z falls on both of its parts, and rises from one to the other."""
    @quiet
    def forward(z):
        return 1 / z, -2 * np.log(np.abs(z))

    found = verdicts(BlackBox(forward, forward, domain=sets.nonzero, codomain=sets.nonzero))
    assert found.status == 0, str(found)


# -- what ends too early ----------------------------------------------------------------------------------------------

@quiet
def infinite_once(z):
    """A log-det by the logarithm of a sign."""
    return 2 * z, np.log(2 * np.abs(np.sign(z)))


@quiet
def infinite_on_one_side(z):
    """The log-det of z for z < 0 and of z^2 + z for z > 0, one of which takes the logarithm of z there."""
    return np.where(z > 0, z * z + z, z), np.where(z > 0, np.log1p(2 * np.maximum(z, 0)), np.where(z < 0, 0, np.log(np.abs(z))))


@quiet
def rounded_away(z):
    """A sigmoid whose log-det is the logarithm of s (1 - s): 1 - s is 0 from 37 on."""
    s = 1 / (1 + np.exp(-z))
    return z + s, np.log(s) + np.log(1 - s)


@quiet
def underflows(z):
    """1 + z^3, the square of whose slope's root is 0 long before the truth is a subnormal number."""
    return z + z**3, np.where(np.abs(z) < 1e-18, np.log(z * z), np.log1p(3 * z * z))


EARLY = {"softplus by log(1 + exp z)": lambda z: (np.log(1 + np.exp(z)), -np.log1p(np.exp(-z))),
         "sinh by exp(2z)/exp(z)": lambda z: ((np.exp(2 * z) - 1) / np.exp(z) / 2, np.abs(z) + np.log1p(np.exp(-2 * np.abs(z))) - np.log(2)),
         "a log-det that is infinite at 0 alone": infinite_once, "a log-det that is infinite on one side": infinite_on_one_side,
         "a log-det that is infinite on a half line": rounded_away, "a log-det that underflows": underflows}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EARLY)
def test_an_infinity_that_comes_too_early_is_found(name, dtype):
    found = verdict("finite", BlackBox(quiet(EARLY[name]), dtype=dtype))
    assert found.status == "FAIL" and re.search("is -?(inf|nan)", found.text)


@pytest.mark.parametrize("name", list(EARLY)[:2])
def test_it_is_found_in_float16(name):
    """The largest number is 2^15 there, and its 2^16th part is not large."""
    assert verdict("finite", BlackBox(quiet(EARLY[name]), dtype="float16")).status == "FAIL"


def test_it_is_found_in_events_of_several_numbers():
    """Where one entry alone is 0, and the log-det ought to be the sum of two others."""
    @quiet
    def forward(z):
        return 2 * z, summed(np.log(2 * np.abs(np.sign(z))))

    assert verdict("finite", BlackBox(forward, event=(3,))).status == "FAIL"
