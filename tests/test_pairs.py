"""Pairs of floats: every operation against fractions, and what a single float loses."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import numpy as np
import pytest

from refflow.core.pairs import Pair, chosen, exp, log, nearest, pair, stacked, taken

RNG = np.random.default_rng(0)
HIGH = RNG.standard_normal((2, 200)) * 2.0 ** RNG.integers(-20, 20, (2, 200))
A, B = (Pair(high, high * 2.0**-54 * RNG.standard_normal(200)) for high in HIGH)


def exact(v):
    return [Fraction(float(high)) + Fraction(float(low)) for high, low in zip(v.high, v.low)]


@pytest.mark.parametrize("operation", [lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / b],
                         ids=["+", "-", "*", "/"])
def test_operations(operation):
    for a, b, given in zip(exact(A), exact(B), exact(operation(A, B))):
        size = max(abs(a), abs(b)) if operation(1, 2) in (3, -1) else abs(operation(a, b))
        assert abs(given - operation(a, b)) <= size * Fraction(2) ** -100


def test_they_mix_with_arrays_and_numbers():
    arrays = HIGH[1]
    for left, right in ((A + arrays, A + pair(arrays)), (arrays * A, A * pair(arrays)), (1 - A, pair(1.0) - A),
                        (3 / A, pair(3.0) / A), (arrays - A, -(A - arrays))):
        assert np.array_equal(left.high, right.high) and np.array_equal(left.low, right.low)
    assert exact(pair(1.0)[None]) == [1] and pair(A) is A


def test_sums_keep_what_cancels():
    v = Pair(np.array([1.0, 2.0**-60, -1.0]))
    assert v.sum(0).high == 2.0**-60 and np.sum(v.high) == 0
    both = stacked([A, B])
    assert both.shape == (200, 2) and np.array_equal(both.sum(-1).high, (A + B).high)
    assert np.array_equal(stacked([HIGH[0], HIGH[1]]), HIGH.T)


def test_a_choice_is_entry_by_entry():
    where = HIGH[0] > 0
    assert np.array_equal(chosen(where, A, B).high, np.where(where, A.high, B.high))


def test_beyond_the_range_of_exact_products_it_is_the_rounded_number():
    huge = pair(np.array([2.0**1000, 2.0**1020]))
    with np.errstate(all="ignore"):                 # as on a page
        doubled, quotient, square = huge * 2.0, huge / 2.0**10, huge * huge
    assert np.array_equal(doubled.high, huge.high * 2) and np.isfinite(quotient.low).all()
    assert square.high.tolist() == [np.inf, np.inf]


def mp_exact(v):
    return [mpmath.mpf(float(high)) + mpmath.mpf(float(low)) for high, low in zip(v.high, v.low)]


@pytest.mark.parametrize("function, size", [(exp, 600.0), (exp, 1.0), (exp, 1e-9), (log, None)],
                         ids=lambda given: getattr(given, "__name__", str(given)))
def test_exp_and_log(function, size):
    """To 2^-94, of numbers that fill the range of float64."""
    v = A if size is None else Pair(RNG.uniform(-size, size, 200)) + HIGH[0] * 2.0**-80
    v = Pair(np.abs(v.high), np.sign(v.high) * v.low) if size is None else v
    with mpmath.workdps(60):
        true = [getattr(mpmath, function.__name__)(each) for each in mp_exact(v)]
        for given, t in zip(mp_exact(function(v)), true):
            assert abs(given - t) <= 2.0**-94 * max(abs(t), 1 if size is None else 0)
    with np.errstate(all="ignore"):                 # as on a page
        assert exp(pair(np.array([-1e9, 1e9]))).high.tolist() == [0, np.inf]
    assert np.array_equal(function(np.abs(v.high)), getattr(np, function.__name__)(np.abs(v.high)))


def test_arrays_and_pairs_share_their_words():
    where, order = HIGH[0] > 0, np.argsort(HIGH[0])
    assert np.array_equal(chosen(where, HIGH[0], 0.0), np.where(where, HIGH[0], 0)) and nearest(A) is A.high
    assert np.array_equal(chosen(where, A, 0.0).low, np.where(where, A.low, 0))
    assert np.array_equal(taken(A, order).low, A.low[order]) and np.array_equal(taken(HIGH[0], order), HIGH[0][order])
