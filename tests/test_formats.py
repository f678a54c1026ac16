"""Binary formats: their ends against NumPy's, bfloat16's against its bits, and rounding to the nearest number."""

from __future__ import annotations

import numpy as np
import pytest

from refflow.accuracy.formats import FORMATS, Format, format_of, name_of


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_ends_are_numpys(dtype):
    form, info = format_of(dtype), np.finfo(dtype)
    assert form.unit == info.eps / 2 and form.largest == info.max
    assert form.smallest == info.smallest_subnormal and form.normal == info.smallest_normal


def bits(*patterns):
    """The numbers that bfloat16's bits stand for: the upper half of float32's."""
    return (np.array(patterns, np.uint32) << 16).view(np.float32)


def test_bfloat16_is_the_upper_half_of_float32():
    form = FORMATS["bfloat16"]
    largest, normal, subnormal, one, after = map(float, bits(0x7F7F, 0x0080, 0x0001, 0x3F80, 0x3F81))
    assert (form.largest, form.normal, form.smallest, 2 * form.unit) == (largest, normal, subnormal, after - one)
    every = bits(*range(0x7F80))
    assert form.holds(every) and form.holds(-every)
    middles = (every[1:].astype(np.float64) + every[:-1]) / 2                   # ties, to the even pattern
    assert np.array_equal(form.rounded(middles), np.where(np.arange(0x7F7F) % 2, every[1:], every[:-1]))
    assert not form.holds(middles[:4]) and not form.holds(middles[-4:])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_rounding_is_numpys(dtype):
    g, form = np.random.default_rng(0), format_of(dtype)
    values = g.standard_normal(4000) * np.exp2(g.uniform(np.log2(form.smallest) - 2, np.log2(form.largest) + 2, 4000))
    values = np.concatenate((values, form.largest * np.array([1.0, 1 + form.unit / 2, 1 + form.unit]), [0.0, -np.inf, np.nan]))
    with np.errstate(over="ignore"):
        expected = values.astype(dtype)
    found = form.rounded(values)
    assert found.dtype == np.float64 and np.array_equal(found, expected, equal_nan=True)
    assert (np.signbit(found) == np.signbit(expected))[:-1].all()


def test_what_is_held():
    form = FORMATS["float16"]
    assert form.holds([1.0, -0.0, np.inf, np.nan, 65504.0, 2.0**-24])
    assert not form.holds([1.0, 1 + 2.0**-11]) and not form.holds(65520.0) and not form.holds(2.0**-25)


@pytest.mark.parametrize("given, name", [("bfloat16", "bfloat16"), ("float16", "float16"), ("f4", "float32"), ("<f8", "float64"),
                                         (np.float32, "float32"), (np.dtype("float64"), "float64"), (float, "float64")])
def test_names(given, name):
    assert name_of(given) == name and isinstance(name_of(given), str) and format_of(given) is FORMATS[name]


def test_a_format_is_its_own():
    mine = Format(4, -6, 7)
    assert format_of(mine) is mine and mine.largest == 240 and mine.holds([240, 1.875]) and not mine.holds(1.9375)
