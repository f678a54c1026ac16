"""Named compositions: the equation of the whole, their sets, and how many units they lose between stages."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import scipy.signal

import refflow
from refflow import BijectorLayer, Chain, ELUTransform, Exp, GumbelCDF, Inverse, LeakyReLU
from validation import named

CODOMAINS = {name: (0.0, 1.0) for name in named.WHOLES} | {"erfc": (0.0, 2.0), "softclip": (-1.0, 1.0), "softplus_clip": (-1.0, 1.0)}


@pytest.mark.parametrize("name", named.WHOLES)
def test_codomain_is_declared(name):
    where = getattr(refflow, name)().codomain
    assert (np.max(where.lower), np.min(where.upper)) == CODOMAINS[name]


@pytest.mark.parametrize("name", named.WHOLES)
def test_few_units_are_lost(name):
    """A few points of `python -m validation.named`, which asks all."""
    for given in named.WHOLES[name].given[:2]:
        points = list(named.asked(name, given))
        for f, side, event, bars in points[::max(1, len(points) // 12)]:
            for quantity, C in named.errors(name, given, f, side, event, bars).items():
                assert C <= named.LOSES.get(name, {}).get(quantity, named.LEAST), (quantity, event, given)


def test_a_late_event_of_gompertz_has_the_limit():
    """exp(rate z) overflows there; the truth rounds to 1, and the slope to 0."""
    f, z = refflow.gompertz_cdf(1.0, 1.0), [800.0, 1e300]
    assert f.forward(z).tolist() == [1, 1]
    assert f.log_det(z).tolist() == [-np.inf, -np.inf]
    assert f.jacobian(z).ravel().tolist() == [0, 0]


@pytest.mark.parametrize("f, page", [
    (refflow.exponential_cdf(3.0), refflow.ExponentialCDF(3.0)), (refflow.rayleigh_cdf(3.0), refflow.RayleighCDF(3.0))])
def test_a_distribution_function_is_its_page(f, page):
    assert type(f) is type(page) and f.equals(page)


def test_a_heavy_tail_of_pareto_has_an_inverse():
    """(1 - x)^c is below 1e-16 there."""
    c, x = 3.0, 1 - 1e-8
    assert refflow.generalised_pareto_cdf(0.0, 1.0, c).inverse(x) == pytest.approx(np.expm1(-c * np.log1p(-x)) / c, rel=1e-14)


def test_a_composition_of_another_equation_is_found(monkeypatch):
    monkeypatch.setattr(refflow, "frechet_cdf", lambda loc, scale, concentration: Chain(
        [Inverse(Exp()), GumbelCDF(scale=1 / np.asarray(concentration) * (1 + 1e-14))]), raising=False)
    given = named.WHOLES["frechet_cdf"].given[0]
    assert any(C > named.LEAST for point in named.asked("frechet_cdf", given) for C in named.errors("frechet_cdf", given, *point).values())


# -- another alpha ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("alpha", [0.25, 3.0])
def test_elu_with_another_alpha(alpha):
    """As torch's ELU(alpha), except the slope at 0, which torch takes from the left."""
    f, z = Chain([ELUTransform(), LeakyReLU(alpha)]), np.array([-800.0, -3.0, -0.5, -1e-17, -5e-324, 0.0, 5e-324, 2.0, 1e300])
    x = np.where(z < 0, alpha * np.expm1(np.minimum(z, 0)), z)
    np.testing.assert_allclose(f.forward(z), x, rtol=1e-15)
    np.testing.assert_allclose(f.inverse(x)[1:4], z[1:4], rtol=1e-15)
    slope = np.where(z < 0, alpha * np.exp(np.minimum(z, 0)), 1)
    np.testing.assert_allclose(f.jacobian(z).ravel(), slope, rtol=1e-15, atol=1e-320)
    np.testing.assert_allclose(BijectorLayer(f).forward(z), x, rtol=1e-15)


# -- linear maps and rearrangements -----------------------------------------------------------------------------------

def test_matrices():
    z = np.random.default_rng(0).normal(size=(3, 8))
    for f, x in ((refflow.discrete_cosine(8), scipy.fft.dct(z, norm="ortho")), (refflow.cumulative_sum(8), np.cumsum(z, -1)),
                 (refflow.autoregressive_filter(8, 0.5), scipy.signal.lfilter([1], [1, -0.5], z))):
        np.testing.assert_allclose(f.forward(z), x, rtol=1e-13, atol=1e-13)
    k = np.arange(1.0, 9)
    x = refflow.circulant(k).forward(z)
    np.testing.assert_allclose(x, np.fft.ifft(np.fft.fft(z) * np.fft.fft(k)).real, rtol=1e-12, atol=1e-12)


def test_haar():
    z = np.random.default_rng(0).normal(size=4)
    a, b, c, d = z
    root = np.sqrt(2)
    np.testing.assert_allclose(refflow.haar(4).forward(z), [z.sum() / 2, (a + b - c - d) / 2, (a - b) / root, (c - d) / root], rtol=1e-13)
    with pytest.raises(ValueError, match="haar: D must be a power of 2, not 6"):
        refflow.haar(6)


def test_haar_downsampling():
    z = np.random.default_rng(0).normal(size=(2, 4, 6))
    a, b, c, d = z[:, ::2, ::2], z[:, ::2, 1::2], z[:, 1::2, ::2], z[:, 1::2, 1::2]
    whole = np.stack([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d], 1).reshape(8, 2, 3) / 2
    np.testing.assert_allclose(refflow.haar_downsampling(2).forward(z), whole, rtol=1e-13, atol=1e-14)


def test_rearrangements():
    z = np.random.default_rng(0).normal(size=(2, 3, 4))
    assert np.array_equal(refflow.permuted_axes((2, 3, 4), (2, 0, 1)).forward(z), z.transpose(2, 0, 1))
    x = refflow.on_indices(Exp(), [3, 0], 4).forward(z)
    assert np.array_equal(x[..., [0, 3]], np.exp(z[..., [0, 3]])) and np.array_equal(x[..., 1:3], z[..., 1:3])
    square = z[0, :3, :3]
    f = refflow.on_diagonal(Exp(), 3)
    assert np.allclose(f.forward(square), square + np.diag(np.exp(np.diag(square)) - np.diag(square)), rtol=1e-15)
    assert f.log_det(square) == pytest.approx(np.trace(square))
