"""Maps with tails of their own, signed powers, the Cauchy distribution, sine and cosine: the bug that each form prevents, planted."""

from __future__ import annotations

import numpy as np
import pytest

import refflow
from refflow import Affine, CauchyCDF, Chain, Cos, LeakyTanh, LogTanh, Power, SignedPower, Sin, Sinh
from refflow.core import REGISTRY
from refflow.maps.elementwise import cauchy_cdf, leaky_tanh, log_tanh
from refflow.truth.measure import measure

TAILED = (LeakyTanh(1.5), LogTanh(1.5))


def C(f, quantity, **at):
    return measure(f, **at)[quantity][0]


@pytest.mark.parametrize("f", TAILED, ids=lambda f: type(f).__name__)
def test_tails_go_on_with_the_value_and_the_slope_of_tanh(f):
    assert f.breaks().tolist() == [-1.5, 1.5]
    inside, beyond = f.forward([1.5, 1.5 + 1e-12]), f.log_det([1.5, 1.5 + 1e-12])
    assert abs(np.diff(inside)[0]) < 1e-12 and abs(np.diff(beyond)[0]) < 1e-11
    assert f.forward(1.0) == np.tanh(1.0) and f.forward([-4.0]) == -f.forward([4.0])
    assert np.allclose(f.inverse(f.forward([-9.0, -1.0, 2.0, 30.0])), [-9.0, -1.0, 2.0, 30.0], rtol=1e-13)


def test_the_tails_are_a_line_and_a_logarithm():
    slope = 1 / np.cosh(1.5) ** 2
    assert np.isclose(LeakyTanh(1.5).forward(4.0), np.tanh(1.5) + slope * 2.5, rtol=1e-15)
    assert np.isclose(LogTanh(1.5).forward(6.0), np.tanh(1.5) + 1.5 * slope * np.log(4.0), rtol=1e-15)


@pytest.mark.parametrize("page", [LeakyTanh, LogTanh])
def test_1_is_told_from_an_end_that_rounds_to_it(page, monkeypatch):
    assert C(page(25.0), "inverse", x=1.0) < 4
    for module in (leaky_tanh, log_tanh):
        monkeypatch.setattr(module, "excess", lambda x, m, factor=1: factor * (np.abs(x) - np.tanh(m)) * np.cosh(m) ** 2)
    assert C(page(25.0), "inverse", x=1.0) > 4


def test_the_left_tail_of_the_cauchy_distribution_is_caught(monkeypatch):
    assert C(CauchyCDF(), "forward", z=-1e12) < 4
    monkeypatch.setattr(CauchyCDF, "forward", lambda self, z: 0.5 + np.arctan(z) / np.pi)
    assert C(CauchyCDF(), "forward", z=-1e12) > 1e6


def test_the_cotangent_of_the_scale_outlives_the_square_of_the_argument():
    """dx/ds = -d/(pi (s^2 + d^2)); a scale before the standard map has the cotangent 0 where ((z - loc)/s)^2 overflows."""
    at = {"z": 1e160, "x_bar": 1.0, "log_det_bar": 0.0}
    f, chain = CauchyCDF(0.0, 1e-5), Chain([Affine(scale=1e5), CauchyCDF()])
    assert C(f, "vjp.scale_bar", **at) < 4 and C(f, "vjp.loc_bar", **at) < 4
    assert C(chain, "vjp.stages.0.scale_bar", **at) > 1e6


def test_a_tangent_of_a_rounded_angle_is_caught(monkeypatch):
    exact = cauchy_cdf.circle
    assert C(CauchyCDF(), "inverse", x=1e-12) < 4

    def rounded(x):
        s, _, t = exact(x)
        return s, np.tan(np.pi * (x - 0.5)) * np.pi * t, t

    monkeypatch.setattr(cauchy_cdf, "circle", rounded)
    assert C(CauchyCDF(), "inverse", x=1e-12) > 1e2


def test_a_signed_power_is_odd_and_minus_1_is_the_reciprocal():
    f, z = SignedPower(2.5), np.array([-3.0, 0.25, 3.0])
    assert f.forward(z).tolist() == (np.sign(z) * Power(2.5).forward(np.abs(z))).tolist()
    assert np.allclose(f.inverse(f.forward(z)), z, rtol=1e-15)
    assert SignedPower(-1.0).forward([-4.0, 0.5]).tolist() == [-0.25, 2.0]
    _, pullback = f.vjp(z)
    z_bar, _ = pullback(np.ones(3), np.zeros(3))
    assert np.allclose(z_bar, f.jacobian(z)[:, 0, 0], rtol=1e-15)


def test_a_lost_sign_of_a_cotangent_is_caught(monkeypatch):
    at = {"z": -1.5, "x_bar": 1.0, "log_det_bar": 0.5}
    assert C(SignedPower(2.5), "vjp.exponent_bar", **at) < 4
    right = REGISTRY["Power"].vjp
    monkeypatch.setattr(SignedPower, "vjp", lambda self, z: (self.forward_and_log_det(z), right(Power(self.exponent), np.abs(z))[1]))
    assert C(SignedPower(2.5), "vjp.exponent_bar", **at) > 1e6


@pytest.mark.parametrize("f, z", [(Sin(), 1e-9), (Cos(), np.pi / 2 + 1e-9), (Sinh(), 1e-9)], ids=lambda v: type(v).__name__)
def test_a_logarithm_of_what_rounds_to_1_is_caught(f, z, monkeypatch):
    assert C(f, "log_det", z=z) < 4
    monkeypatch.setattr(type(f), "log_det", lambda self, z: np.log(np.abs(self.slope(z))))
    assert C(f, "log_det", z=z) > 1e6


@pytest.mark.parametrize("f, z", [(Sin(), np.pi / 2), (Cos(), np.pi)], ids=lambda v: type(v).__name__)
def test_the_end_in_float32_lies_beyond_the_end(f, z):
    """Its cosine, or its sine, is negative; the log-det is that of the size."""
    assert np.isfinite(f.log_det(np.float32(z))) and f.slope(np.float32(z)) < 0


def test_an_exponent_of_0_is_refused():
    with pytest.raises(ValueError, match="exponent"):
        refflow.SignedPower(0.0)
