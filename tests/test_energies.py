"""The four energies: their log densities and gradients against their definitions at 50 digits, their integrals by quadrature."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import scipy

from refflow import energies
from refflow.energies import ENERGIES

ALLOWED = {np.float32: 1, np.float64: 16}           # units u kappa; roundings of w_2 do not come from z_1, and s multiplies them
STEP = mpmath.mpf(10) ** -60


def points(dtype, n):
    """Moderate points, points near the bands and the cut, on the waves' switches, and of all sizes whose squares are floats."""
    rng = np.random.default_rng(0)
    near = np.stack([rng.uniform(-5, 5, n), rng.uniform(-4, 2, n)], -1)
    most = 18 if dtype == np.float32 else 150
    sizes = 10.0 ** rng.uniform(-most, most, (n, 2)) * rng.choice([-1, 1], (n, 2))
    mixed = np.stack([near[:, 0], sizes[:, 1]], -1)
    band = near.copy()
    band[:, 1] = np.sin(np.pi * band[:, 0] / 2) + 1e-3 * rng.standard_normal(n)
    chosen = [(0, 0), (1, 1), (1, -2), (0, 2), (2, 0), (-2, 0), (1e-9, 1), (0.5, 0.25), (-1.5, -0.5), (1, 0), (3, -1), (1, -1),
              (30, 0.5), (1234567.25, 0.5), (1e15, -0.25)]
    return np.concatenate([near, sizes, mixed, band, chosen]).astype(dtype)


def truth(U, z):
    """(log density, gradient, kappa of both) at 800 digits, the derivatives by central differences."""
    with mpmath.workdps(800):
        z = [mpmath.mpf(float(v)) for v in z]

        def f(*shifts):
            return -U.definition(mpmath, [v + s for v, s in zip(z, shifts)])

        h = STEP * min(1, mpmath.hypot(*z) or 1)
        value = f(0, 0)
        ahead = [[f(h, 0), f(0, h)], [f(-h, 0), f(0, -h)]]
        slope = [(ahead[0][i] - ahead[1][i]) / (2 * h) for i in range(2)]
        second = [(ahead[0][i] - 2 * value + ahead[1][i]) / h**2 for i in range(2)]
        mixed = (f(h, h) - f(h, -h) - f(-h, h) + f(-h, -h)) / (4 * h**2)
        bend = [[second[0], mixed], [mixed, second[1]]]
        kappa = abs(value) + sum(abs(s * v) for s, v in zip(slope, z))
        kappas = [abs(slope[i]) + sum(abs(bend[i][j] * z[j]) for j in range(2)) for i in range(2)]
        return value, slope, kappa, kappas


def units(given, true, kappa, dtype):
    """The error in units u kappa; 0 where the truth leaves the floats and what is given does so too."""
    info = np.finfo(dtype)
    u, tiny = mpmath.mpf(float(info.eps)) / 2, mpmath.mpf(float(info.smallest_subnormal))
    if abs(true) > float(info.max):
        return 0.0 if np.isinf(given) and (given > 0) == (true > 0) else math.inf
    if not np.isfinite(given):
        return math.inf
    with mpmath.workdps(60):
        return float(abs(mpmath.mpf(float(given)) - true) / max(u * kappa, tiny))


def worst(U, dtype, n=24):
    """The largest errors of the log density and of the gradient, in units; nowhere near the cone of U1 at the centre."""
    z = points(dtype, n)
    z = z[1:] if U is energies.U1 else z
    values, gradients, found = U.log_density(z), U.gradient(z), []
    assert values.dtype == gradients.dtype == dtype and values.shape == z.shape[:1] and gradients.shape == z.shape
    for row, value, gradient in zip(z, values, gradients):
        true, slope, kappa, kappas = truth(U, row)
        found.append((units(value, true, kappa, dtype), max(units(*each, dtype) for each in zip(gradient, slope, kappas))))
    return np.max(found, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ENERGIES)
def test_errors(name, dtype):
    assert (worst(ENERGIES[name], dtype) < ALLOWED[dtype]).all()


PLANTS = {"another envelope": ("ends", lambda z: (z**4 / 500, z**3 / 2000), ("u2", "u3", "u4")),
          "its slope by the second power": ("ends", lambda z: (z**4 / 512, z**2 / 2048), ("u2", "u3", "u4")),
          "a weight that is exchanged": ("times", lambda weight, v: (1 - weight) * v, ("u3", "u4"))}


@pytest.mark.parametrize("plant", PLANTS)
def test_mistakes_are_seen(monkeypatch, plant):
    name, wrong, seen = PLANTS[plant]
    with np.errstate(all="ignore"):
        monkeypatch.setattr(energies, name, wrong)
        assert not any((worst(ENERGIES[key], np.float64, 3) < ALLOWED[np.float64]).all() for key in seen)


def test_a_textbook_sum_of_exponentials_underflows():
    """The logarithm as it is printed is infinite where the density is a number."""
    z = np.array([4.0, 30.0])
    with np.errstate(all="ignore"):
        d, w = z[1], 3 * np.exp(-((z[0] - 1) / 0.6) ** 2 / 2)
        assert np.log(np.exp(-(d / 0.35) ** 2 / 2) + np.exp(-((d + w) / 0.35) ** 2 / 2)) == -np.inf
    assert energies.U3.log_density(z) == pytest.approx(-(30 / 0.35) ** 2 / 2 - 0.5 + math.log(2), abs=0.01)


@pytest.mark.parametrize("name", ENERGIES)
def test_integrals(name):
    U, (x, h) = ENERGIES[name], np.linspace(-13, 13, 1301, retstep=True)
    total = sum(np.exp(U.log_density(np.stack(np.broadcast_arrays(a[:, None], x), -1))).sum() for a in np.split(x, 1301))
    assert math.log(total * h * h) == pytest.approx(U.log_integral, abs=1e-8)


def test_the_integral_of_the_ring():
    """In polar coordinates, where the periodic sum over the angle is exact to rounding."""
    angles = 2 * np.pi * np.arange(128) / 128

    def ring(r):
        z = r * np.stack([np.cos(angles), np.sin(angles)], -1)
        return r * np.exp(energies.U1.log_density(z)).mean() * 2 * np.pi

    integral = scipy.integrate.quad(ring, 0, 8, epsabs=0, epsrel=1e-13, points=(1, 2, 3))[0]
    assert math.log(integral) == pytest.approx(energies.U1.log_integral, abs=1e-13)


@pytest.mark.parametrize("U", ENERGIES.values())
def test_refusals(U):
    for method in (U.log_density, U.gradient):
        with pytest.raises(ValueError, match=rf"{U.__name__}: z must have shape \(\*batch, 2\), not \(3,\)"):
            method(np.zeros(3))
        with pytest.raises(ValueError, match=rf"{U.__name__}: z must be finite; z\[1, 0\] = nan"):
            method(np.array([[0.0, 1.0], [np.nan, np.inf]]))
        with pytest.raises(ValueError, match="must be float32 or float64"):
            method(np.zeros(2, complex))
        assert method([1, 2]).dtype == np.float64 and method(np.zeros((0, 2), np.float32)).dtype == np.float32


def test_the_centre_of_the_ring():
    """At the cone the part of the ring is left out of the gradient; the other part is odd and 0."""
    assert (energies.U1.gradient(np.zeros((3, 2))) == 0).all()
    assert energies.U1.log_density(np.zeros(2)) == pytest.approx(-(5**2 / 2 + (10 / 3) ** 2 / 2 - math.log(2)))


def test_far_away_is_infinitely_unlikely():
    """The largest floats: without a warning, and never NaN."""
    assert far_away()


def test_a_wave_that_overflows_is_seen(monkeypatch):
    monkeypatch.setattr(energies, "wave_and_slope", lambda z: (np.sin(np.pi * z / 2), np.pi / 2 * np.cos(np.pi * z / 2)))
    assert not far_away()


def far_away():
    z = np.array([[1.7e308, 1.7e308], [-1.7e308, 1.7e308], [1.7e308, 0], [0, -1.7e308]])
    return all((U.log_density(z) == -np.inf).all() and not np.isnan(U.gradient(z)).any() for U in ENERGIES.values())
