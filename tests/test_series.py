"""What the series of a page leave out is as small as the page says."""

import math
from fractions import Fraction

import numpy as np

from refflow.maps.elementwise import box_cox


def test_the_series_of_a_logarithm_s_slope():
    """Equation (19) of BoxCox, at its far end p = 3, where s = 3/5: relative to psi."""
    s, p = Fraction(3, 5), 3
    exact = (math.log1p(p) - p / (1 + p)) / p**2
    left_out = sum(s**(2 * n + 1) / (2 * n + 3) for n in range(box_cox.TERMS, 400)) * 2 / (2 + p) ** 2
    assert 0 < left_out / exact < 1e-17
    assert abs(box_cox.psi(np.float64(p)) - exact) < 4 * np.finfo(float).eps * exact


def test_the_series_of_a_power_s_slope():
    """Equation (23) of BoxCox, at its ends w = 1 and -1."""
    left_out = sum(Fraction(j + 1, math.factorial(j + 2)) for j in range(len(box_cox.POWERS), 60))
    assert 0 < left_out < 1e-19
    for w in (1.0, -1.0):
        exact = w * math.exp(w) - math.expm1(w)                                     # (7) at z = exp(w), c = 1
        assert abs(box_cox.times_x_c(1.0, np.float64(w), np.float64(1)) - exact) < 8 * np.finfo(float).eps
