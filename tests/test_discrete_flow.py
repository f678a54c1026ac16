"""Flows in time: a scheme's steps against theorems about schemes, and what the page refuses."""

from fractions import Fraction

import numpy as np
import pytest
import scipy.linalg

from refflow import ContinuousFlow, Dense, DiscreteFlow, Inverse, ReLU, Sequential, TanhActivation
from refflow.maps.continuous.schemes import SCHEMES
from refflow.maps.continuous.step import log_abs_det_1_plus

RNG = np.random.default_rng(5)
NET = Sequential((Dense(RNG.normal(size=(6, 4)), RNG.normal(size=6)), TanhActivation(), Dense(RNG.normal(size=(3, 6)))))
Z = RNG.normal(size=(5, 3))


def products(a, u):
    return [sum((x * y for x, y in zip(row, u)), Fraction(0)) for row in a]


def trees(scheme):
    """{order: [(what the trees of this order add up to, what they must)]} up to order 5 (Hairer, Norsett & Wanner, II.2)."""
    s, b, c = len(scheme.b), scheme.b, scheme.c
    a = [[*row, *[Fraction(0)] * (s - len(row))] for row in scheme.a]

    def of(*factors):
        return [np.prod([factor[i] for factor in factors], initial=Fraction(1)) for i in range(s)]

    def total(u):
        return sum((x * y for x, y in zip(b, u)), Fraction(0))

    ac, acc, aac = products(a, c), products(a, of(c, c)), products(a, products(a, c))
    fourth = [of(c, c, c, c), products(a, aac), products(a, of(c, c, c)), of(c, c, ac), of(c, acc), of(ac, ac), products(a, acc),
              products(a, of(c, ac)), of(c, aac)]
    found = {1: [[Fraction(1)] * s], 2: [c], 3: [of(c, c), ac], 4: [of(c, c, c), of(c, ac), acc, aac], 5: fourth}
    right = {1: [1], 2: [2], 3: [3, 6], 4: [4, 8, 12, 24], 5: [5, 120, 20, 10, 15, 20, 60, 40, 30]}
    return {order: [(total(u), Fraction(1, n)) for u, n in zip(found[order], right[order])] for order in found}


@pytest.mark.parametrize("name", SCHEMES)
def test_a_scheme_has_its_order_and_not_the_next(name):
    scheme = SCHEMES[name]
    off = {order: max(abs(float(given - right)) for given, right in pairs) for order, pairs in trees(scheme).items()}
    assert all(off[order] < 2.0**-46 for order in range(1, scheme.order + 1))          # Tsitouras' coefficients have 16 digits
    assert scheme.order == 5 or off[scheme.order + 1] > 1e-3


@pytest.mark.parametrize("name", SCHEMES)
def test_steps_converge_with_their_order(name):
    x, log_det = ContinuousFlow(NET, 0.0, 0.5).forward_and_log_det(Z)

    def error(n):
        given, other = DiscreteFlow(NET, name, n, 0.0, 0.5).forward_and_log_det(Z)
        return max(np.abs(given - x).max(), np.abs(other - log_det).max())

    few = 8 if SCHEMES[name].order > 3 else 32
    assert np.log2(error(few) / error(2 * few)) > SCHEMES[name].order - 0.5


@pytest.mark.parametrize("name", SCHEMES)
def test_of_a_linear_velocity_the_log_det_is_that_of_the_stability_function(name):
    """v = M z: a step is R(h M), and R is the exponential series up to the scheme's order, as far as it has stages for it."""
    M, n = RNG.normal(size=(3, 3)), 3
    f = DiscreteFlow(Dense(np.hstack([M, np.zeros((3, 1))])), name, n)
    scheme, N = SCHEMES[name], M / n
    a = np.array([[float(one) for one in row] + [0.0] * (len(scheme.b) - len(row)) for row in scheme.a])
    stages, R = [], np.eye(3)
    for row in a:
        stages.append(N @ (np.eye(3) + sum(x * k for x, k in zip(row, stages))))
    R = np.eye(3) + sum(float(b) * k for b, k in zip(scheme.b, stages))
    np.testing.assert_allclose(f.log_det(Z), n * np.log(abs(scipy.linalg.det(R))), rtol=2.0**-44)
    np.testing.assert_allclose(f.forward(Z), Z @ np.linalg.matrix_power(R, n).T, rtol=2.0**-42)
    series = sum(np.linalg.matrix_power(N, k) / float(np.prod(np.arange(1, k + 1))) for k in range(scheme.order + 1))
    assert np.abs(R - series).max() < 2.0**-40 or len(scheme.b) > scheme.order


def test_the_sum_of_traces_is_near_the_log_det_and_not_it():
    """What libraries integrate beside x differs from the scheme's log-det by the error of the scheme: 16 times less a halving."""
    def traces(n):
        f, total = DiscreteFlow(NET, "rk4", n, 0.0, 0.5), np.zeros(len(Z))
        y = Z
        for step in f.way():
            k = []
            for i, row in enumerate(step.a):
                at = y + step.h * sum(row[j] * k_j for j, k_j in enumerate(k))
                J = NET.jacobian(step.at(at, i))[..., :3]
                k.append(NET.forward(step.at(at, i)))
                total = total + step.h * step.b[i] * np.trace(J, axis1=-2, axis2=-1)
            y = step.image(y)
        return np.abs(total - f.log_det(Z)).max()

    assert 2.0**3.5 < traces(8) / traces(16) < 2.0**4.5


@pytest.mark.parametrize("name", SCHEMES)
def test_there_and_back(name):
    f = DiscreteFlow(NET, name, 6)
    x, log_det = f.forward_and_log_det(Z)
    z, other = f.inverse_and_log_det(x)
    np.testing.assert_allclose(z, Z, rtol=2.0**-40)
    np.testing.assert_allclose(other, -log_det, rtol=2.0**-40)
    y, w = Inverse(f).forward_and_log_det(x)
    assert np.array_equal(y, z) and np.array_equal(w, other)


def test_a_small_log_det_keeps_its_digits():
    E = 2.0**-40 * RNG.normal(size=(3, 3))
    exact = np.trace(E) - np.trace(E @ E) / 2                                           # the next term is below 2^-119
    assert abs(log_abs_det_1_plus(E) - exact) < 2.0**-50 * np.abs(np.diag(E)).sum()


def test_a_large_matrix_is_eliminated_with_exchanges():
    E = np.array([[-1.0, 3.0], [2.0, 0.0]])                                             # I + E has a 0 in its corner
    assert log_abs_det_1_plus(E) == np.log(6.0)


def test_steps_that_are_too_long_have_no_inverse():
    """z - 2 max(z, 0) = -|z| is never 1."""
    f = DiscreteFlow(Sequential((Dense([[1.0, 0.0]]), ReLU(), Dense([[-2.0]]))), "euler", 1)
    assert f.forward([3.0]) == -3.0
    with pytest.raises(ArithmeticError, match=r"DiscreteFlow: no z is found for x = \[1\.\].*take more"):
        f.inverse([[-1.0], [1.0]])


@pytest.mark.parametrize("fields, message", [
    ({"scheme": "rk5"}, "scheme must be"), ({"steps": 0}, "steps must be"), ({"end": np.inf}, "end must be"),
    ({"net": TanhActivation()}, "net must be of vectors")])
def test_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        DiscreteFlow(**({"net": NET} | fields))


def test_a_network_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="its net must give 2 entries"):
        DiscreteFlow(Dense(np.ones((3, 3)))).forward([1.0, 2.0])
