"""Kinks behind other stages of a black box: a log-det that is wrong at one float is found, and right ones are silent."""

from __future__ import annotations

import numpy as np
import pytest

import refflow
from refflow.oracle.boxes.black_box_laws import verdict
from refflow.testing import BlackBox, verdicts

MATRIX = np.array([[2.0, 1.0, 0.0], [0.5, -1.5, 0.25], [0.0, 1.0, 1.25]])
SCALE, SHIFT = np.array([2.0, -1.5, 0.75]), np.array([0.37, -0.211, 1.3])
BEFORE = {"affine": ((), 2.0, 1.0), "another affine": ((), 0.7, 0.37), "affine, several numbers": ((3,), SCALE, SHIFT),
          "linear": ((3,), MATRIX, SHIFT)}
RIGHT, BETWEEN = np.log(0.3), 0.5 * np.log(0.3)


def leaky_behind(before, dtype, at_0):
    """x = y for y > 0 and 0.3 y below, behind an affine or a linear stage; `at_0`: an entry's log-det at y = 0."""
    event, scale, shift = BEFORE[before]
    scale, shift = np.asarray(scale, dtype), np.asarray(shift, dtype)
    dense = scale.ndim == 2
    level = np.linalg.slogdet(scale)[1] if dense else np.log(np.abs(scale)).sum()

    def forward(z):
        y = (z @ scale.T if dense else z * scale) + shift
        log_det = np.where(y == 0, at_0, np.where(y > 0, 0, RIGHT))
        return np.where(y > 0, y, y * shift.dtype.type(0.3)), (log_det.sum(-1) if event else log_det + 0) + level

    def inverse(x):
        y = np.where(x > 0, x, x / shift.dtype.type(0.3)) - shift
        return y @ np.linalg.inv(scale).T if dense else y / scale

    return BlackBox(lambda z: tuple(part.astype(dtype) for part in forward(z)), lambda x: inverse(x).astype(dtype), event=event, dtype=dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("before", BEFORE)
def test_a_log_det_wrong_where_an_inner_value_is_0(before, dtype):
    """Of either side, it is right; NaN, infinite or between the two, it is not."""
    for at_0 in (RIGHT, 0.0):
        assert verdicts(leaky_behind(before, dtype, at_0)).status == 0
    for at_0 in (np.nan, -np.inf):
        found = verdict("finite", leaky_behind(before, dtype, at_0))
        assert found.status == "FAIL" and "the log-det at" in found.text
    found = verdict("log-det is the determinant of differences", leaky_behind(before, dtype, BETWEEN))
    assert found.status == "FAIL" and "at its neighbours" in found.text


@pytest.mark.parametrize("at_0", [np.nan, -np.inf])
def test_a_size_at_0_behind_an_affine_stage(at_0):
    """sign(y) |y|, the logarithm of whose slope is that of a sign: the slopes on both sides are the same."""
    def forward(z):
        y = 2.3 * z + 0.7
        return y, np.log(2.3) + np.where(y == 0, at_0, 0)

    assert verdict("finite", BlackBox(forward, lambda x: (x - 0.7) / 2.3)).status == "FAIL"


@pytest.mark.parametrize("f", [
    refflow.Chain([refflow.Affine(0.4, -1.7), refflow.LeakyReLU(0.2)]), refflow.Chain([refflow.Affine(0.4, 1.7), refflow.Softsign()]),
    refflow.Chain([refflow.Affine(0.3, 2.0), refflow.ELUTransform()])], ids=["LeakyReLU", "Softsign", "ELU"])
def test_right_kinks_are_silent(f):
    for dtype in (np.float64, np.float32):
        g = f.astype(dtype)
        found = verdicts(BlackBox(g.forward_and_log_det, g.inverse_and_log_det, dtype=np.dtype(dtype).name))
        assert not found.failed, str(found)


def test_a_singular_event_is_no_kink():
    """(z - 0.3)^3, whose log-det falls to -inf on both sides."""
    def forward(z):
        with np.errstate(all="ignore"):
            return (z - 0.3)**3, np.log(3 * (z - 0.3)**2)

    assert not verdicts(BlackBox(forward)).failed


# -- the line without 0 -----------------------------------------------------------------------------------------------

MISTAKES = {"a log-det of one sign": {"log_det": lambda z, l: np.where(z < 0, l + 0.25, l)}, "a lost sign": {"forward": lambda z, x: np.abs(x)},
            "an inverse of another sign": {"inverse": lambda x, z: -z}}


def signed_power(exponent, dtype, log_det=lambda z, l: l, forward=lambda z, x: x, inverse=lambda x, z: z):
    f = refflow.SignedPower(exponent).astype(np.dtype(dtype))
    return BlackBox(lambda z: forward(z, f.forward(z)), lambda x: inverse(x, f.inverse(x)), log_det=lambda z: log_det(z, f.log_det(z)),
                    dtype=dtype, domain="nonzero", codomain="nonzero")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("exponent", [3.0, 0.4, -1.0, -1.7])
def test_a_power_of_both_signs(exponent, dtype):
    """On the line without 0; a mistake on one of its parts is found."""
    found = verdicts(signed_power(exponent, dtype))
    assert not found.failed and sum(one.status == "pass" for one in found) > 8, str(found)
    for mistake in MISTAKES.values():
        assert verdicts(signed_power(exponent, dtype, **mistake)).failed
