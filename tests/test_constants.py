"""Constants of the sources (floors, offsets, clamps) may be changed: pages are certified far from the defaults too."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from refflow import (ArctanExpScale, CentredSoftplusScale, ClampedExpScale, ExpScale, FlooredExpScale, ReciprocalSigmoidScale,
                     ReLUScale, SigmoidScale, SoftclipExpScale, SoftplusScale, TanhExpScale)
from refflow.core.rules import BELOW_1
from refflow.maps.elementwise.scale import BEYOND, shifted, summed
from refflow.maps.parametrisations import GatedLocationScale, IntervalEntries, SoftmaxKnots, SoftplusSpline
from refflow.truth.measure import measure

SIGNED, DRAWN = {"offset", "low"}, object()
SCALES = (ArctanExpScale, CentredSoftplusScale, ClampedExpScale, ExpScale, FlooredExpScale, ReciprocalSigmoidScale, ReLUScale,
          SigmoidScale, SoftclipExpScale, SoftplusScale, TanhExpScale)
MAPS = {"gated": (GatedLocationScale, {}), "interval": (IntervalEntries, {"count": 2}), "softmax": (SoftmaxKnots, {"bins": 3}),
        "halved": (SoftmaxKnots, {"bins": 2, "halved": True}), "clipped": (SoftmaxKnots, {"bins": 3, "clip": DRAWN}),
        "softplus": (SoftplusSpline, {"bins": 2})}
DTYPES = st.sampled_from((np.float64, np.float32))


def powers(low, high):
    return st.floats(low, high).map(lambda exponent: float(10.0**exponent))


BELOW = powers(-4, -0.01) | powers(-4, -0.3).map(lambda distance: 1 - distance)


def drawn(data, page, fixed):
    """The page with constants at random."""
    constants = {}
    for name, plain in page.declared.items():
        if fixed.get(name, DRAWN) is DRAWN and (isinstance(plain.default, float) or name in fixed):
            size = data.draw(BELOW if plain.rule is BELOW_1 or name == "clip" else powers(-4, 2.5))
            constants[name] = -size if name in SIGNED and data.draw(st.booleans()) else size
    try:
        return page(**fixed | constants)
    except ValueError:                              # constants that the page refuses together
        assume(False)


def number(dtype):
    return st.builds(lambda sign, size: float(dtype(sign * size)), st.sampled_from((-1, 1)), powers(-5, 2) | st.just(0.0))


@pytest.mark.parametrize("page", SCALES, ids=lambda page: page.__name__)
@given(st.data())
def test_scales_are_certified_with_any_constants(page, data):
    dtype = data.draw(DTYPES)
    f, s, bars = drawn(data, page, {}), data.draw(number(dtype)), [data.draw(number(dtype)) for _ in range(2)]
    found = measure(f, s=s, sigma_bars=bars, dtype=dtype)
    assert max(C for C, _ in found.values()) <= 4, found


@pytest.mark.parametrize("name", MAPS)
@given(st.data())
def test_parametrisations_are_certified_with_any_constants(name, data):
    dtype, f = data.draw(DTYPES), drawn(data, *MAPS[name])
    h = np.array([data.draw(number(dtype)) for _ in range(f.size)], dtype)
    bars = np.array([data.draw(number(dtype)) for _ in range(sum(core[0] if core else 1 for core in f.cores))], dtype)
    found = measure(f, h=h, fields_bar=bars, dtype=dtype)
    assert max(C for C, _ in found.values()) <= 4 + len(bars) / 2, found


@pytest.mark.parametrize("f, s, dtype", [
    (ExpScale(offset=-67.1), 0.7, np.float64), (ClampedExpScale(-19.1, 19.1), 40.0, np.float32),
    (ReLUScale(1.01), 1e-9, np.float64), (TanhExpScale(87.1), 4.0, np.float64), (SigmoidScale(2.0, 0.119), 1e-10, np.float64),
    (SoftplusScale(0.3), 1e-3, np.float64), (SoftplusScale(1e-9, gain=1e-20), 1e20, np.float64),
    (CentredSoftplusScale(0.96), 1e-20, np.float64), (CentredSoftplusScale(0.96), -6.67, np.float64),
    (ReciprocalSigmoidScale(43.1), 1e-3, np.float32)], ids=repr)
def test_numbers_whose_rounding_was_many_units(f, s, dtype):
    found = measure(f, s=s, sigma_bars=[1.0, 1.0], dtype=dtype)
    assert max(C for C, _ in found.values()) <= 4, found


@pytest.mark.parametrize("f, h, dtype", [
    (GatedLocationScale(43.1), [1e-3, 2.0], np.float32),
    (SoftmaxKnots(3, -0.0148, 1.42, clip=1.8e-5), [9.0, 0.06, -1.3], np.float64),
    (SoftmaxKnots(4, low=-0.1, high=0.3), [1e-18, 0.0, 0.0, 0.0], np.float64),
    (SoftplusSpline(1, width=1000.0), [0.5, -1.0, 1.1, -1.1], np.float64)], ids=repr)
def test_vectors_whose_rounding_was_many_units(f, h, dtype):
    found = measure(f, h=h, fields_bar=np.ones(sum(core[0] if core else 1 for core in f.cores)), dtype=dtype)
    assert max(C for C, _ in found.values()) <= 4 + len(h) / 2, found


@given(DTYPES.flatmap(lambda dtype: st.tuples(number(dtype).map(dtype), powers(-4, 5))))
@example((np.float32(0.1), 43.1))
def test_a_shift_keeps_what_its_rounding_loses(given_numbers):
    s, offset = given_numbers
    v, r = shifted(np.array([s]), offset)
    exact, kept = Fraction(float(s)) + Fraction(offset), Fraction(float(v[0])) + Fraction(float(r[0]))
    assert v.dtype == r.dtype == s.dtype
    assert abs(kept - exact) <= abs(float(r[0])) * np.finfo(s.dtype).eps


def test_an_exponent_beyond_the_floats_has_lost_nothing():
    far = np.array([BEYOND * 3, -1e300, 1.7e308])
    with np.errstate(all="ignore"):
        rests = shifted(far, 0.1)[1], summed(far, np.array([0.1, 0.1, 1e308]))[1]
    np.testing.assert_array_equal(rests, 0)
