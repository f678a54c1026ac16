"""Increasing maps with a solver, and heavy tails: what their algebra is for, with the bug that each form prevents planted."""

from __future__ import annotations

import itertools

import mpmath
import numpy as np
import pytest
import scipy

import refflow
from refflow import (LOFT, BernsteinPolynomial, Chain, DeepSigmoid, DenseSigmoid, Gaussianization, Inverse, LambertWTail,
                     LogisticMixtureCDF, LogisticMixtureLogit, MonotoneNetwork, NormalMixtureCDF, Sigmoid, SinhArcsinh,
                     SumOfSquares, UnconstrainedMonotonic)
from refflow.core import pairs
from refflow.maps.elementwise import lambert_w_tail, sinh_arcsinh
from refflow.maps.elementwise.solve import increasing_root
from refflow.maps.monotone import (bernstein_polynomial, dense_sigmoid, gaussianization, mixture, monotone_network,
                                   normal_mixture_cdf, sigmoid_mixture, sum_of_squares, unconstrained_monotonic)
from refflow.truth.measure import measure

SOLVED = [DeepSigmoid([0.3, 0.7], [2.0, 0.5], [0.25, -1.0]), LogisticMixtureLogit([0.3, 0.7], [-1.0, 2.0], [0.5, 3.0]),
          Gaussianization([2.0, 0.5], [0.25, -1.0]), NormalMixtureCDF([0.3, 0.7], [-1.0, 2.0], [0.5, 3.0])]


def worst(f, **at):
    return max(C for C, _ in measure(f, **at).values())


@pytest.mark.parametrize("f", SOLVED, ids=lambda f: type(f).__name__)
def test_a_solver_stopped_early_is_caught(f, monkeypatch):
    assert measure(f, x=0.4)["inverse"][0] < 4
    exact = mixture.increasing_root
    monkeypatch.setattr(mixture, "increasing_root", lambda *given: exact(*given) * (1 + 1e-11))
    assert measure(f, x=0.4)["inverse"][0] > 1e3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_roots_may_be_subnormal_numbers(dtype):
    """Neighbours among them are apart by the smallest number, which is the narrowest bracket that there is."""
    smallest = np.finfo(dtype).smallest_subnormal
    x = np.array([-1.0, 2.0, 3.0, 12345.0], dtype) * smallest
    f = DeepSigmoid([0.5, 0.5], [1.0, 1.0], [0.0, 0.0]).astype(dtype)
    assert (np.abs(f.inverse(x) - x) <= smallest).all()
    with np.errstate(all="ignore"):
        assert np.array_equal(increasing_root(lambda z, i: z - x[i], -np.ones_like(x), np.ones_like(x)), x)


def test_the_logit_of_a_mean_keeps_its_tails():
    """Alone, and in a chain, which hands on the complement of a mean near 1; a mean that is rounded in between has no upper tail."""
    weights, loc, scale = [0.25, 0.75], [-1.0, 1.0], [1.0, 0.5]
    own = LogisticMixtureLogit(weights, loc, scale)
    composed = Chain((LogisticMixtureCDF(weights, loc, scale), Inverse(Sigmoid())))
    assert abs(own.forward(2.0) - composed.forward(2.0)) < 1e-14
    assert np.isfinite(own.forward([-1000.0, 30.0, 1000.0])).all() and measure(own, z=30.0)["forward"][0] < 2
    assert abs(own.forward(30.0) - composed.forward(30.0)) < 1e-13
    rounded = composed.stages[1].forward(composed.stages[0].forward(30.0))
    assert abs(own.forward(30.0) - rounded) > 1e-4


def test_both_parametrisations_are_one_map():
    weights, loc, scale = np.array([0.25, 0.75]), np.array([-1.0, 1.0]), np.array([1.0, 0.5])
    z = np.linspace(-50, 50, 41)
    other = DeepSigmoid(weights, 1 / scale, -loc / scale)
    for ours, theirs in zip(LogisticMixtureLogit(weights, loc, scale).forward_and_log_det(z), other.forward_and_log_det(z)):
        assert np.allclose(ours, theirs, rtol=1e-13, atol=1e-13)


def test_roots_keep_the_digits_of_their_arguments():
    """Far from 0, z has lost them, and with them the log-det."""
    f = DeepSigmoid([0.5, 0.5], [1.0, 2.0], [1e12, 0.0])
    z, inverse_log_det = f.inverse_and_log_det(-2.0)
    assert measure(f, x=-2.0)["inverse_log_det"][0] < 8
    assert abs(f.log_det(z) + inverse_log_det) > 1e-7


def test_cancelling_derivatives_of_a_sigmoid_mixture_are_caught(monkeypatch):
    f, at = DeepSigmoid([0.3, 0.7], [2.0, 2.5], [0.25, 0.25]), {"z": -30.0, "x_bar": 0.0, "log_det_bar": 1.0}
    assert worst(f, **at) < 4

    def plain(self):
        omega = self.r / self.a * self.slope()[..., None]
        self.b, self.X, self.Y = omega * self.D[..., None] - self.r * np.tanh(self.u / 2), 0 * self.u, 0 * self.u
        return self

    monkeypatch.setattr(sigmoid_mixture.SigmoidMixture, "add_derivatives", plain)
    assert measure(f, **at)["vjp.bias_bar"][0] > 100


def test_the_tail_of_a_gaussianization_keeps_its_derivatives(monkeypatch):
    f, at = Gaussianization([1.0, 1.0], [0.0, -3.0]), {"z": -25.0, "x_bar": 0.0, "log_det_bar": 1.0}
    assert worst(f, **at) < 4
    monkeypatch.setattr(gaussianization, "complement_difference",
                        lambda b, t, squares: gaussianization.mills_complement(b) - gaussianization.mills_complement(t))
    assert worst(f, **at) > 100


def test_a_normal_mixture_keeps_its_density_at_a_known_image(monkeypatch):
    """x_bar in a tail, from the density at the rounded root instead."""
    f, at = NormalMixtureCDF([1.0], [0.0], [1.0]), {"x": 1e-300, "z_bar": 1.0, "log_det_bar": 0.0}
    assert worst(f, **at) < 4
    monkeypatch.setattr(normal_mixture_cdf.NormalMixture, "at_image", lambda self, x: self)
    assert worst(f, **at) > 50


def test_one_component_is_affine():
    z = np.array([-300.0, -1.0, 1e-9, 2.0, 500.0])
    for f in (DeepSigmoid([1.0], [2.0], [0.5]), Gaussianization([2.0], [0.5])):
        assert np.allclose(f.forward(z), 2 * z + 0.5, rtol=1e-14) and np.allclose(f.log_det(z), np.log(2.0), rtol=1e-15)
        (_, _), pullback = f.vjp(z)
        z_bar, bars = pullback(np.zeros(5), np.ones(5))
        assert (z_bar == 0).all() and bars["bias"].tolist() == [0.0]


def test_lambert_w_is_that_of_scipy():
    x = np.array([1e-8, 0.3, 1.0, 40.0, 1e100])
    w = scipy.special.lambertw(0.7 * x * x).real
    assert np.allclose(LambertWTail(0.7).inverse(x), np.sqrt(w / 0.7), rtol=1e-14)


def test_a_short_iteration_is_caught(monkeypatch):
    f = LambertWTail(0.7)
    assert measure(f, x=3.0)["inverse"][0] < 2
    monkeypatch.setattr(lambert_w_tail, "range", lambda count: (0,), raising=False)
    assert measure(f, x=3.0)["inverse"][0] > 100


def test_sinh_arcsinh_near_the_identity_is_caught(monkeypatch):
    f = SinhArcsinh(0.001, 1.001)
    assert measure(f, z=0.86)["log_det"][0] < 1
    monkeypatch.setattr(sinh_arcsinh.SinhArcsinh, "log_slope", lambda self, w, s, part: part - sinh_arcsinh.log_cosh(w))
    assert measure(f, z=0.86)["log_det"][0] > 5


def test_the_derivative_by_a_small_tail_weight_is_caught(monkeypatch):
    f, at = SinhArcsinh(0.0, 1e-6), {"z": 0.5, "x_bar": 1.0, "log_det_bar": 0.0}
    assert worst(f, **at) < 3
    monkeypatch.setattr(sinh_arcsinh, "phi", lambda a: a / np.tanh(a) - 1)
    assert worst(f, **at) > 1e3


def test_loft_is_the_identity_up_to_its_threshold():
    f = LOFT(4.0)
    assert f.forward([3.0, -4.0]).tolist() == [3.0, -4.0] and f.log_det([3.0, -4.0]).tolist() == [0.0, 0.0]
    assert f.forward(5.0) == 4 + np.log(2.0) and f.breaks().tolist() == [-4.0, 4.0]


@pytest.mark.parametrize("z", [-4.0, -2.0, -1.0, -0.5, 0.5, 1.0, 2.0])
def test_a_root_beside_a_power_of_2_is_found(z):
    """There neighbouring floats are apart by exactly their size times eps, and no bracket is narrower."""
    f = refflow.NormalMixtureCDF([1.0], [0.0], [1.0])
    x = f.forward(z) * (1 + np.arange(-300, 300) * 2.0**-53)
    assert np.abs(f.inverse(x) - z).max() < 2.0**-38


# -- polynomials ------------------------------------------------------------------------------------------------------

POLYNOMIALS = [
    (SumOfSquares([[0.11226412, -0.3381276, 0.92474226, -0.5670065]], 0.34711076, -2.00337163),
     {"x": 9.905477000340296, "z_bar": 0.0, "log_det_bar": 0.8}),
    (BernsteinPolynomial([-1.0, 0.0, 0.001, 0.002, 1.0], 1.0), {"x": 0.01, "z_bar": 0.0, "log_det_bar": 1.0}),
    (UnconstrainedMonotonic([1.0, 4.0], [-7.75, 1.0], [256.0, -2.0]), {"x": 20.0, "z_bar": 0.0, "log_det_bar": 1.0})]


@pytest.mark.parametrize("f, at", POLYNOMIALS, ids=lambda v: type(v).__name__)
def test_the_rounding_of_a_root_is_caught(f, at, monkeypatch):
    """Pairs without their second halves: the cotangents at the rounded root."""
    assert worst(f, **at) < 2
    exact = pairs.Pair.__init__

    def halved(self, high, low=0.0):
        exact(self, high, low)
        self.low = np.zeros_like(self.high)

    monkeypatch.setattr(pairs.Pair, "__init__", halved)
    assert worst(f, **at) > 10


def test_an_antiderivative_that_cancels_is_caught(monkeypatch):
    """P_6 of [0, 1] plus a constant: its antiderivative has terms of both signs, far larger than their sum."""
    f = SumOfSquares([[2.0, -42.0, 420.0, -1680.0, 3150.0, -2772.0, 924.0]], 1e-3)
    assert measure(f, z=0.97)["forward"][0] < 3

    def by_terms(self):
        return self.d + sum((b_i * b_j).sum(-1) / (i + j + 1) for i, b_i in enumerate(self.b) for j, b_j in enumerate(self.b))

    monkeypatch.setattr(sum_of_squares.Letters, "mean_slope", by_terms)
    assert measure(f, z=0.97)["forward"][0] > 100


def test_a_polynomial_with_linear_tails_goes_on_as_its_tangents():
    f = BernsteinPolynomial([-2.0, -0.5, 0.0, 3.0])
    x, slope = f.forward([-7.0, -5.0, 5.0, 9.0]), f.jacobian([-5.0, 5.0]).ravel()
    assert x == pytest.approx([-2 - 2 * slope[0], -2, 3, 3 + 4 * slope[1]], rel=1e-15) and f.breaks().tolist() == [-5, 5]
    with pytest.raises(ValueError, match=r"x must be in \(-2, 3\)"):
        BernsteinPolynomial([-2.0, -0.5, 0.0, 3.0], tails="none").inverse(3.5)


def images_in_the_codomain():
    """How many images beside the ends of the interval lie in the codomain, and how many were asked."""
    rng = np.random.default_rng(0)
    z = np.concatenate([np.nextafter(1, 0) - np.arange(8) * 2.0**-53, 2.0**-53 * np.arange(8) - np.nextafter(1, 0)])
    polynomials = [BernsteinPolynomial(np.cumsum(rng.uniform(0.1, 3, 5)), 1.0, "none") for _ in range(40)]
    return sum(np.sum((f.forward(z) >= f.coefficients[0]) & (f.forward(z) <= f.coefficients[-1])) for f in polynomials), 40 * z.size


def test_no_rounding_takes_a_polynomial_out_of_its_codomain(monkeypatch):
    found, asked = images_in_the_codomain()
    assert found == asked
    monkeypatch.setattr(bernstein_polynomial.Letters, "image", lambda self, e: bernstein_polynomial.combined(self.c, self.s, self.t))
    found, asked = images_in_the_codomain()
    assert found < asked


def test_small_images_of_a_sum_of_squares_have_roots():
    """The root of the smallest float, and of the shift itself."""
    f = SumOfSquares([[1.0, -2.0], [0.5, 3.0]], 2.875, 0.0)
    assert f.inverse([0.0, 5e-324, 4e-323]).tolist() == [0.0, 0.0, 1e-323]


# -- dense layers of sigmoids -----------------------------------------------------------------------------------------

ROWS = [[0.5, 0.5], [0.25, 0.75]]
DENSE = DenseSigmoid([[1.0, 2.0], [0.5, 1.0]], [[-1.0, 1.0], [0.0, 2.0]], [ROWS], [ROWS], [0.25, 0.75])


def test_a_layer_that_copies_leaves_one_layer():
    weights, rate, bias = [0.25, 0.75], [2.0, 0.5], [0.25, -1.0]
    one = DeepSigmoid(weights, rate, bias)
    two = DenseSigmoid([rate, [1.0, 1.0]], [bias, [0.0, 0.0]], [[weights, weights]], [ROWS], [0.5, 0.5])
    z = np.linspace(-50, 50, 41)
    for ours, theirs in zip(two.forward_and_log_det(z), one.forward_and_log_det(z)):
        assert np.allclose(ours, theirs, rtol=1e-13, atol=1e-13)
    assert np.allclose(two.inverse(one.forward(z)), z, rtol=1e-13)


def test_arguments_that_units_have_lost_are_caught(monkeypatch):
    """The second layer's arguments need digits that the units, near -10^6, do not have; and cotangents that vanish, do."""
    f, at = DENSE.replace(bias=np.array([[0.0, 1.0], [1e6, 1e6]])), {"x": -1.0, "z_bar": 0.0, "log_det_bar": 1.0}
    assert worst(f, **at) < 8

    def in_floats(given, z):
        layers = dense_sigmoid.passed(given, z.high)
        return pairs.pair(layers[-1].image()), [layer.v.u[..., 0, :] for layer in layers]

    monkeypatch.setattr(dense_sigmoid, "in_pairs", in_floats)
    assert measure(f, **at)["inverse_log_det"][0] > 1e3
    monkeypatch.undo()
    monkeypatch.setattr(dense_sigmoid.Layer, "balanced", lambda self, c_bar, *given: c_bar)
    assert measure(f, **at)["inverse_vjp.bias_bar"][0] > 1e3


def test_what_all_units_share_is_caught(monkeypatch):
    """In a tail, from units and slopes as they are."""
    f, at = DENSE.replace(rate=np.array([[1.0, 2.0], [4.0, 8.0]])), {"z": -20.0, "x_bar": 0.0, "log_det_bar": 1.0}
    assert worst(f, **at) < 5
    monkeypatch.setattr(dense_sigmoid.Layer, "slope_differences", lambda self: mixture.gaps(self.e))
    assert measure(f, **at)["vjp.averaging_bar"][0] > 100


# -- networks with positive weights -----------------------------------------------------------------------------------

ONE_LAYER = MonotoneNetwork([3.0, 3.0], [[1.0, 1.0]], [2.0, 0.5])
TWO_LAYERS = MonotoneNetwork([1.0, 0.5, 2.0], [[0.25, -1.0, 0.5], [0.5, 0.125, -2.0]], [0.5, 2.0, 0.25],
                             [[[1.0, 0.5, 0.25], [0.125, 2.0, 1.0], [0.75, 0.5, 0.5]]], shift=-0.25)


def two_way(c):
    """The first half of the units, two of three, and the others."""
    half = (c.shape[-1] + 1) // 2
    elu = np.where(c > 0, c, np.expm1(np.minimum(c, 0)))
    return np.concatenate((elu[..., :half], -np.where(-c > 0, -c, np.expm1(np.minimum(-c, 0)))[..., half:]), -1)


@pytest.mark.parametrize("f", [ONE_LAYER, TWO_LAYERS], ids=["one layer", "two layers"])
def test_a_monotone_network_is_its_layers(f):
    z = np.linspace(-6, 6, 25)
    h = two_way(z[:, None] * f.rate + f.bias[0])
    for W, b in zip([] if f.hidden is None else f.hidden, f.bias[1:]):
        h = two_way(h @ W.T + b)
    assert np.allclose(f.forward(z), h @ f.weights + f.shift, rtol=1e-14, atol=1e-14)
    assert np.allclose(f.inverse(f.forward(z)), z, rtol=1e-14, atol=1e-15)


def test_zeros_of_arguments_are_its_breaks():
    """In the second layer too; there each argument is a network of one layer."""
    first, second = np.split(TWO_LAYERS.breaks(), 2)
    assert first.tolist() == [-0.25, 2.0, -0.25]
    units = two_way(second[:, None] * TWO_LAYERS.rate + TWO_LAYERS.bias[0])
    assert np.allclose((units * TWO_LAYERS.hidden[0]).sum(-1) + TWO_LAYERS.bias[1], 0, atol=1e-14)


def test_a_zero_may_lie_beyond_the_floats():
    f = MonotoneNetwork(rate=[1e-300, 1.0], bias=[[1e20, 0.5]], weights=[1.0, 0.5])
    assert f.breaks().tolist() == [-np.inf, -0.5]               # and nothing warns


def test_the_side_of_a_zero_is_exact(monkeypatch):
    """-1/3 is rounded, and 3 z + 1 is not 0 there; a product without its second half says that it is."""
    at = {"z": -1 / 3, "x_bar": 0.0, "log_det_bar": 1.0}
    for z in (-1 / 3, np.nextafter(-1 / 3, 0), np.nextafter(-1 / 3, -1)):
        assert worst(ONE_LAYER, **at | {"z": z}) < 4
    monkeypatch.setattr(pairs, "exact_product", lambda a, b: (a * b, 0 * (a * b)))
    assert worst(ONE_LAYER, **at) > 1e3


def test_a_leading_argument_known_from_x_is_caught(monkeypatch):
    """In the first, one exponential leads; in the second, lines lead in both layers, and (9) cancels."""
    one = MonotoneNetwork([1.0, 2.0], [[-30.0, 30.0]], [0.5, 1.5], shift=-1.0), 0.25
    two = MonotoneNetwork([2.75, 1.75], [[0.25, 10.75], [0.125, -12.75]], [0.0625, 6.25], [[[0.0625, 3.125], [0.5, 2.5]]], -10.25), 0.125
    for f, x in (one, two):
        assert worst(f, x=x, z_bar=0.0, log_det_bar=1.0) < 8
    monkeypatch.setattr(monotone_network.Letters, "balanced", lambda self, l, c_bar, *given: c_bar)
    for f, x in (one, two):
        assert measure(f, x=x, z_bar=0.0, log_det_bar=1.0)["inverse_vjp.bias_bar"][0] > 1e3


def test_a_slope_may_leave_the_floats():
    """Its logarithm and its gradients do not."""
    f = MonotoneNetwork([1.0, 2.0], [[-1000.0, 900.0]], [0.5, 1.5])
    (_, log_det), pullback = f.vjp(np.float64(0.5))
    z_bar, bars = pullback(np.float64(0.0), np.float64(1.0))
    assert f.jacobian(0.5) == 0 and log_det == pytest.approx(np.log(3) - 901, rel=1e-15)
    assert z_bar == -2 and bars["bias"][0] == pytest.approx([0, -1], abs=1e-40)


def test_a_root_without_newton_steps_is_caught(monkeypatch):
    """Two steps mend a solver that stopped early."""
    at, exact = {"x": 0.4, "z_bar": 0.5, "log_det_bar": 1.0}, monotone_network.increasing_root
    monkeypatch.setattr(monotone_network, "increasing_root", lambda *given: exact(*given) * (1 + 1e-6))
    assert worst(TWO_LAYERS, **at) < 4
    monkeypatch.setattr(monotone_network, "STEPS", 0)
    assert worst(TWO_LAYERS, **at) > 1e3


def test_a_bracket_from_the_wrong_half_is_caught(monkeypatch):
    x, exact = np.linspace(-100, 100, 9), monotone_network.bracket
    assert np.allclose(TWO_LAYERS.forward(TWO_LAYERS.inverse(x)), x, rtol=1e-14)
    monkeypatch.setattr(monotone_network, "bracket", lambda layers, s, x: exact(layers, -s, x))
    with pytest.raises(ArithmeticError, match="no root between"):
        TWO_LAYERS.inverse(x)


# -- integrals of networks --------------------------------------------------------------------------------------------

NETWORK = UnconstrainedMonotonic([1.0, -2.0, 0.5, 3.0], [0.25, 1.0, -1.5, 4.0], [-2.0, 0.5, 3.0, -0.75], 1.5, 0.01, 0.25)


def literal_integrand(f, u):
    """(1) and (2) of the page."""
    n = float(f.offset) + sum(float(v) * max(float(a) * u + float(b), 0) for a, b, v in zip(f.rate, f.bias, f.weights))
    return float(f.slope_floor) + (1 + n if n >= 0 else mpmath.exp(n))


@pytest.mark.parametrize("z", [3.0, -2.5, 0.1])
def test_the_definition_is_the_integral(z):
    fields = {key: value.tolist() for key, value in NETWORK.params().items()}
    with mpmath.workdps(40):
        inner = [mpmath.mpf(p) for p in NETWORK.breaks() if 0 < p / z < 1]
        ends = [0, *sorted(inner, key=abs), mpmath.mpf(z)]
        true = mpmath.quad(lambda u: literal_integrand(NETWORK, u), ends) + float(NETWORK.shift)
        given = UnconstrainedMonotonic.definition(mpmath, mpmath.mpf(z), **fields)
        assert len(ends) > 2 or z == 0.1
        assert abs(given - true) < mpmath.mpf(2)**-52 * abs(true) and abs(NETWORK.forward(z) - true) < 4e-16 * abs(true)


def nodes_and_weights(N):
    """Clenshaw and Curtis's of [0, 1]."""
    j = np.arange(N + 1)
    moments = np.where(j % 2 == 0, 2 / (1 - j**2 + (j % 2)), 0)
    y = np.cos(np.pi * j / N)
    return (1 - y) / 2, np.linalg.solve(np.cos(np.outer(j, np.arccos(y))), moments) / 2


def summed(f, z, y, w):
    """A sum over nodes in place of the integral."""
    n = f.offset + (f.weights * np.maximum(f.rate * (z[:, None] * y)[..., None] + f.bias, 0)).sum(-1)
    return f.shift + z * ((f.slope_floor + np.where(n >= 0, 1 + n, np.exp(np.minimum(n, 0)))) @ w)


def test_a_sum_over_nodes_is_another_map():
    """20 steps, as in the authors' code, of badly scaled networks: some sums fall; the integral never does."""
    y, w = nodes_and_weights(20)
    assert w @ y**6 == pytest.approx(1 / 7, rel=1e-14)
    rng, z, falls = np.random.default_rng(0), np.linspace(-8, 8, 4001), []
    for _ in range(20):
        a, b, v = rng.standard_normal((3, 8)) * np.exp2(rng.integers(-4, 5, (3, 8)))
        f = UnconstrainedMonotonic(a, b, v)
        steps = np.diff(summed(f, z, y, w))
        falls.append((steps < 0).mean())
        assert (np.diff(f.forward(z)) > 0).all()
    assert max(falls) > 0.1


def test_one_panel_is_exact_where_a_series_is_not_used(monkeypatch):
    """A line of n that is nearly constant: (7) without its series."""
    f = UnconstrainedMonotonic([2.0**-20], [1.0], [-1.0])
    assert measure(f, z=0.5, x_bar=1.0, log_det_bar=0.0)["vjp.rate_bar"][0] < 4

    def plain(n_p, n_q):
        y, E_p, E_q = n_q - n_p, np.exp(n_p), np.exp(n_q)
        return (E_q - E_p * (1 + y)) / (y * y), (E_p - E_q * (1 - y)) / (y * y)

    monkeypatch.setattr(unconstrained_monotonic, "trapezoid", plain)
    assert measure(f, z=0.5, x_bar=1.0, log_det_bar=0.0)["forward"][0] > 100


def test_the_side_of_a_knot_is_exact(monkeypatch):
    """Where -b/a is rounded, z on a knot's float is on one side of it; the slope's derivative is that side's."""
    for a, b in itertools.product((3.0, -3.0, 0.1), (1.0, -1.0, 0.7)):
        f = UnconstrainedMonotonic([a], [b], [2.0])
        for z in (-b / a, np.nextafter(-b / a, 9), np.nextafter(-b / a, -9)):
            assert worst(f, z=z, x_bar=0.0, log_det_bar=1.0) < 4
    f, at = UnconstrainedMonotonic([3.0], [1.0], [2.0]), {"z": -1 / 3, "x_bar": 0.0, "log_det_bar": 1.0}
    monkeypatch.setattr(pairs, "exact_product", lambda a, b: (a * b, 0 * (a * b)))
    assert measure(f, **at)["vjp.z_bar"][0] > 1e3



# -- far out ----------------------------------------------------------------------------------------------------------

FAR = [float(f"{sign}1e{e}") for e in (3, 12, 18, 19, 20, 40, 150, 300) for sign in "+-"]
LAYERS = DenseSigmoid([[1.0, 2.0], [0.5, 1.0]], [[-1.0, 1.0], [0.0, 2.0]], [[[0.5, 0.5], [0.25, 0.75]]],
                      [[[0.5, 0.5], [0.75, 0.25]]], [0.25, 0.75])
STEEP_LAYERS = DenseSigmoid([[1.1, 3.7], [0.9, 0.3]], [[0.3, -1.7], [2.1, 0.1]], [[[0.3, 0.7], [0.6, 0.4]]],
                            [[[0.2, 0.8], [0.5, 0.5]]], [0.1, 0.9])


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("f", [LAYERS, STEEP_LAYERS, TWO_LAYERS, DeepSigmoid([0.3, 0.7], [2.0, 0.5], [0.25, -1.0]), SOLVED[1]],
                         ids=lambda f: type(f).__name__)
def test_the_root_is_found_far_out(f, dtype):
    """Far out the map is nearly a line, and its log-det constant."""
    f = f.astype(dtype)
    x = np.array([v for v in FAR if abs(v) < float(np.finfo(dtype).max) / 16], dtype)
    (z, log_det), pullback = f.inverse_vjp(x)
    assert np.allclose(f.forward(z), x, rtol=8 * np.finfo(dtype).eps)
    assert np.isfinite(log_det).all() and np.allclose(log_det[2::2], log_det[2], rtol=1e-6)
    x_bar, _ = pullback(np.ones_like(x), np.zeros_like(x))
    assert np.allclose(x_bar, np.exp(log_det), rtol=1e-5)


@pytest.mark.parametrize("f", [LAYERS, SOLVED[0], SOLVED[1]], ids=lambda f: type(f).__name__)
def test_a_root_beyond_the_floats_is_infinite(f):
    """At the largest numbers, where a slope below 1 leads out of the floats."""
    most = np.finfo(np.float64).max
    assert f.inverse([-most, most]).tolist() == [-np.inf, np.inf]


def test_the_leading_pair_is_subtracted_whole(monkeypatch):
    """Of pairs near 1e19 the second term may be hundreds: exp of it alone would overflow."""
    arguments = [pairs.Pair(np.array([way * 1e19, way * 2e19]), np.array([-800.0, 800.0])) for way in (-1, 1)]

    def units():
        with np.errstate(all="ignore"):
            return [dense_sigmoid.units_in_pairs(np.array([[0.25, 0.75]]), c) for c in arguments]

    for unit, expected in zip(units(), (-1e19, 1e19)):
        assert unit.high == expected and 798 < abs(unit.low) < 802
    monkeypatch.setattr(dense_sigmoid, "largest", lambda v: pairs.pair(v.high.max(-1)))
    assert not all(np.isfinite(unit.high).all() for unit in units())


DECAY = {"rate": [1.0], "bias": [0.0], "weights": [-1.0]}


@pytest.mark.parametrize("floor", [1e-3, 1e-100, 1e-300, 5e-324])
def test_the_root_is_found_whatever_the_least_slope(floor):
    """x = 1 - exp(-z) + d z for z > 0, and z (1 + d) elsewhere; a polynomial of any slope."""
    f, g = UnconstrainedMonotonic(**DECAY, slope_floor=floor), SumOfSquares([[1.0, 2.0], [0.5, 0.1]], slope_floor=floor)
    z = f.inverse([0.5, -0.5])
    assert np.allclose(z, [-np.log(0.5), -0.5], rtol=0.01 if floor == 1e-3 else 1e-15)
    assert np.allclose(f.forward(z), [0.5, -0.5], rtol=1e-15)
    for x in (0.5, -0.5, 1e-8, 1e300):
        assert np.isclose(g.forward(g.inverse(x)), x, rtol=1e-14, atol=0)


def test_a_line_of_tiny_slope_is_reached_far_out_or_not_at_all():
    f = UnconstrainedMonotonic(**DECAY, slope_floor=1e-300)
    assert np.isclose(f.forward(5e299), 1.5, rtol=1e-15) and np.isclose(f.inverse(1.5), 5e299, rtol=1e-14)
    assert UnconstrainedMonotonic(**DECAY, slope_floor=5e-324).inverse([1.5, 1e10]).tolist() == [np.inf, np.inf]


def test_the_square_of_a_far_argument_would_overflow(monkeypatch):
    monkeypatch.setattr(unconstrained_monotonic, "over_square", lambda v, y: v / (y * y))
    assert UnconstrainedMonotonic(**DECAY, slope_floor=1e-300).inverse(0.5) > 1e299


FAR_OUT = [1e100, 1e154, -1e160, 1e300, -1e300]


@pytest.mark.parametrize("bias, shares", [([0.5, -1.0], [1.0, 0.0]), ([0.5, 0.5], [0.5, 0.5])])
def test_a_gaussianization_is_affine_where_its_squares_overflow(bias, shares):
    """Beyond 2^512, one component takes all, or equal ones share."""
    f = Gaussianization([1.0, 2.0 if bias[1] < 0 else 1.0], bias)
    assert f.forward(FAR_OUT).tolist() == f.inverse(FAR_OUT).tolist() == FAR_OUT
    assert (f.log_det(FAR_OUT) == 0).all()
    _, pullback = f.vjp(1e160)
    z_bar, bars = pullback(1.0, 1.0)
    assert z_bar == 1 and bars["bias"].tolist() == shares


def test_an_exponent_of_a_gaussianization_that_overflows_is_caught(monkeypatch):
    monkeypatch.setattr(gaussianization, "FAR", np.inf)
    with np.errstate(all="ignore"):
        assert np.isnan(Gaussianization([1.0, 2.0], [0.5, -1.0]).forward(1e160))
