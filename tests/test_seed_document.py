r"""The chapters of the document this library starts from, "Flow based Generative Models 1: Normalizing Flow", as checks.

Each test states one of its formulas, in its order, and checks refflow against it numerically.  Bounds are the rounding
errors of the expressions compared, u = 2^-53: a sum of n products is off by at most n u sum|products| (Higham, Accuracy and
Stability of Numerical Algorithms, chapter 3); after an inverse, the error grows by the condition of the matrix.
"""

import numpy as np
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st

from refflow import (Affine, Chain, DenseLinear, Exp, Flow, Independent, Inverse, Logistic, PLULinear, Sigmoid, Softplus,
                     StandardNormal, Tanh)

u = 2.0**-53
moderate = st.floats(-8, 8, allow_subnormal=False)


@st.composite
def matrices(draw, count=1):
    """`count` well-conditioned n x n matrices, n = 1 .. 4: orthogonal factors around singular values from 1/4 to 4."""
    n, rng = draw(st.integers(1, 4)), np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    def one():
        q, r = (np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in range(2))
        return q @ np.diag(np.exp2(rng.uniform(-2, 2, n))) @ r
    found = [one() for _ in range(count)]
    return found if count > 1 else found[0]


def det(M):
    """det M with the magnitude from refflow's log-det and the sign from the LU factorisation."""
    return np.linalg.slogdet(M)[0] * np.exp(float(DenseLinear(M).log_det(np.zeros(len(M)))))


def det_error(M):
    """A bound of the error of det(M): |det| times n^2 u cond(M) for the factorisation, plus the error of exp and log."""
    n = len(M)
    magnitude = abs(np.linalg.slogdet(M)[1])
    return np.exp(np.linalg.slogdet(M)[1]) * (4 * n * n * np.linalg.cond(M) + 2 * magnitude + 2) * u


def differences(f, z):
    """(df/dz, error bound): central differences of steps h, h/2, h/4, extrapolated to an error of order h^4.

    The distance of two extrapolations, and the rounding u |f| / h of the differences, bound the error.
    """
    def central(h):
        columns = [(f(z + h * e) - f(z - h * e)) / (2 * h) for e in np.eye(len(z))]
        return np.stack(columns, -1)

    h = 2.0**-7
    coarse, fine, finer = central(h), central(h / 2), central(h / 4)
    first, second = (4 * fine - coarse) / 3, (4 * finer - fine) / 3
    return second, np.abs(second - first) + 32 * u * np.abs(f(z)).max() / h


# ---------------------------------------------------------------- Linear Algebra Basics Recap

@given(moderate, moderate.filter(lambda a: abs(a) > 2.0**-8), moderate)
def test_affine_function_and_its_inverse(x, a, b):
    """y = a x + b = f(x),   x = (y - b) / a = f^-1(y)."""
    f = Affine(b, a)
    y = f.forward(x)
    assert y == a * x + b
    # y is off by u (|ax| + |y|), y - b by u |y - b| more, and everything is divided by a
    assert abs(f.inverse(y) - x) <= 2 * u * (2 * abs(a * x) + abs(y) + abs(b)) / abs(a)


@settings(max_examples=40, deadline=None)
@given(matrices(), st.integers(0, 2**32 - 1))
def test_affine_transformation_and_its_inverse(W, seed):
    """y = W x + B = f(x),   x = W^-1 (y - B) = f^-1(y)."""
    n, rng = len(W), np.random.default_rng(seed)
    x, B = rng.standard_normal(n), rng.standard_normal(n)
    f = DenseLinear(W, B)
    y = f.forward(x)
    products = np.abs(W) @ np.abs(x) + np.abs(B)
    assert np.all(np.abs(y - (W @ x + B)) <= 2 * (n + 1) * u * products)
    for back in (f.inverse(y), np.linalg.inv(W) @ (y - B)):
        assert np.linalg.norm(back - x) <= 4 * n * u * np.linalg.cond(W) * (np.linalg.norm(x) + np.linalg.norm(B) * n)


@settings(max_examples=40, deadline=None)
@given(matrices(), st.integers(0, 2**32 - 1))
def test_affine_is_linear_if_and_only_if_the_bias_is_zero(W, seed):
    """f(x1 + x2) - f(x1) - f(x2) = -B."""
    n, rng = len(W), np.random.default_rng(seed)
    x1, x2, B = (rng.standard_normal(n) for _ in range(3))
    for bias in (np.zeros(n), B):
        f = DenseLinear(W, bias)
        defect = f.forward(x1 + x2) - f.forward(x1) - f.forward(x2)
        products = np.abs(W) @ (np.abs(x1) + np.abs(x2)) + np.abs(bias)
        assert np.all(np.abs(defect + bias) <= 4 * (n + 2) * u * products)


def test_autoencoder_pair():
    """z = f(x), x = g(z): if g = f^-1, x = g(f(x)) needs no training."""
    g = Chain([DenseLinear([[2.0, 1.0], [0.0, 1.0]]), Tanh()])
    f, x = Inverse(g), np.array([0.3, -0.7])
    # the slopes of tanh and its inverse there multiply to 1; cond(W) < 6
    np.testing.assert_allclose(g.forward(f.forward(x)), x, rtol=0, atol=6 * 8 * u)


# ---------------------------------------------------------------- Change of Variable

@given(st.integers(-2**20, 2**20).map(lambda n: n / 64))
def test_polynomial_in_another_variable(t):
    """f(x) = x^2 - 1, x = 2 t + 1:   f(2 t + 1) = (2 t + 1)^2 - 1 = 4 t^2 + 4 t, exact for dyadic t."""
    x = Affine(1.0, 2.0).forward(t)
    assert x**2 - 1 == 4 * t**2 + 4 * t


LINE = {
    "affine": (Affine(0.5, -2.0), StandardNormal()),
    "exp": (Exp(), StandardNormal()),
    "tanh": (Tanh(), StandardNormal()),
    "softplus": (Softplus(), Logistic(0.5, 0.7)),
    "sigmoid of affine": (Chain([Affine(-0.3, 1.5), Sigmoid()]), StandardNormal()),
    "logit": (Inverse(Sigmoid()), Flow(Sigmoid(), StandardNormal()))}
line = pytest.mark.parametrize("f, pi", LINE.values(), ids=LINE)


def integral(density, lower, upper):
    """(integral, the quadrature's own bound of its error)."""
    value, error = scipy.integrate.quad(density, lower, upper, epsabs=1e-9, epsrel=1e-9, limit=200)
    assert error < 1e-8
    return value, error


@line
def test_both_densities_have_integral_one(f, pi):
    """int p(x) dx = int pi(z) dz = 1."""
    p = Flow(f, pi)
    for density in (p, pi):
        value, error = integral(lambda v: float(np.exp(density.log_prob(v))), density.support.lower, density.support.upper)
        assert abs(value - 1) <= error


@line
def test_integral_under_change_of_variable(f, pi):
    """int_A p(x) dx = int_{f^-1(A)} pi(z) dz: the substitution x = f(z) keeps the mass of every interval."""
    p, z = Flow(f, pi), np.array([-0.9, 0.4]) if pi.support.lower < 0 else np.array([0.2, 0.7])
    x = np.sort(f.forward(z))
    in_x, error_x = integral(lambda v: float(np.exp(p.log_prob(v))), *x)
    in_z, error_z = integral(lambda v: float(np.exp(pi.log_prob(v))), *z)
    assert abs(in_x - in_z) <= error_x + error_z + 8 * u * np.abs(x).max()


@line
def test_density_in_one_dimension(f, pi):
    """p(x) = pi(z) |dz/dx| = pi(f^-1(x)) |d f^-1/dx| = pi(f^-1(x)) |(f^-1)'(x)|."""
    p = Flow(f, pi)
    for z in ([-1.2, -0.1, 0.3, 1.1] if pi.support.lower < 0 else [0.1, 0.45, 0.8]):
        x = float(f.forward(z))
        scale = abs(x - float(f.forward(z + 2.0**-10)))                     # a length on which f is smooth
        slope, error = differences(lambda s: f.inverse(x + scale * s), np.zeros(1))
        slope, error = abs(slope[0]) / scale, error[0] / scale
        given_p, expected = np.exp(p.log_prob(x)), np.exp(pi.log_prob(f.inverse(x))) * slope
        assert error <= 1e-6 * slope
        assert abs(given_p - expected) <= expected * (error / slope + 32 * u * (1 + abs(p.log_prob(x))))


LOWER, UPPER = [[0, 0, 0], [0.5, 0, 0], [-0.4, 0.2, 0]], [[0, 0.3, 1], [0, 0, -0.5], [0, 0, 0]]
SEVERAL = {
    "linear": (DenseLinear([[1.0, 0.5], [-0.3, 0.8]], [0.2, 0.1]), np.array([0.4, -0.6])),
    "tanh of linear": (Chain([DenseLinear([[0.5, 0.2], [0.1, 0.6]]), Tanh()]), np.array([0.4, -0.6])),
    "exp of PLU": (Chain([PLULinear([1, 0, 2], LOWER, UPPER, [1.0, -2.0, 0.5]), Exp(), Affine(0.5, 3.0)]),
                   np.array([0.1, 0.5, -0.3]))}
several = pytest.mark.parametrize("f, z", SEVERAL.values(), ids=SEVERAL)


@several
def test_density_in_several_dimensions(f, z):
    """p(x) = pi(z) |det dz/dx| = pi(f^-1(x)) |det d f^-1/dx|."""
    x, pi = f.forward(z), StandardNormal(len(z))
    J, error = differences(lambda s: f.inverse(x + 2.0**-4 * s), np.zeros(len(z)))
    J, error = J * 16, error * 16
    expected = pi.log_prob(f.inverse(x)) + np.linalg.slogdet(J)[1]
    # d log|det J| = tr(J^-1 dJ)
    bound = (np.abs(np.linalg.inv(J)).T * error).sum()
    assert bound < 1e-6
    assert abs(Flow(f, pi).log_prob(x) - expected) <= bound + 64 * u * (1 + np.abs(expected) + np.linalg.cond(J))


# ---------------------------------------------------------------- Jacobian Matrix and Determinant

@several
def test_rows_of_the_jacobian_matrix(f, z):
    """J = dy/dx: row i is dy_i/dx, entry (i, j) is dy_i/dx_j."""
    J, (found, error) = f.jacobian(z), differences(f.forward, z)
    assert error.max() < 1e-6
    assert np.all(np.abs(J - found) <= error + 32 * u * np.abs(J).max())
    for i, row in enumerate(np.eye(len(z))):                        # the pullback of the i-th unit vector is row i
        _, pullback = f.vjp(z)
        np.testing.assert_allclose(pullback(row, 0.0)[0], J[i], rtol=0, atol=32 * u * np.abs(J).max())


@pytest.mark.parametrize("n", [1, 2, 5])
def test_determinant_of_the_identity(n):
    """det(1_{n x n}) = 1."""
    assert det(np.eye(n)) == 1
    assert DenseLinear(np.eye(n)).log_det(np.ones(n)) == 0


@settings(max_examples=40, deadline=None)
@given(matrices(2))
def test_determinant_of_a_product(pair):
    """det(MN) = det M det N; the log-det of a chain of linear maps equals the log-det of their product."""
    M, N = pair
    n = len(M)
    product = n * u * np.linalg.cond(M) * np.linalg.cond(N) * n            # the rounding of M N moves its determinant
    bound = abs(det(M) * det(N)) * product + det_error(M @ N) + det_error(M) * abs(det(N)) + det_error(N) * abs(det(M))
    assert abs(det(M @ N) - det(M) * det(N)) <= bound
    z, chain = np.ones(n), Chain([DenseLinear(N), DenseLinear(M)])
    assert abs(chain.log_det(z) - DenseLinear(M @ N).log_det(z)) <= 2 * bound / abs(det(M @ N))


@settings(max_examples=40, deadline=None)
@given(matrices())
def test_invertible_if_and_only_if_the_determinant_is_not_zero(M):
    """M is invertible: det M != 0.  With a repeated row det M = 0; a column of zeros refflow refuses as a bijector."""
    assert det(M) != 0
    np.testing.assert_allclose(M @ np.linalg.inv(M), np.eye(len(M)), rtol=0, atol=4 * len(M) ** 2 * u * np.linalg.cond(M))
    singular = M.copy()
    singular[0] = singular[-1] if len(M) > 1 else 0
    assert np.linalg.matrix_rank(singular) < len(M)
    hadamard = np.prod(np.linalg.norm(singular, axis=-1))           # the determinant of such rows cannot exceed it
    assert abs(np.linalg.det(singular)) <= len(M) ** 2 * u * hadamard
    singular[:, 0] = 0                              # a pivot that is 0 in floating point too
    with pytest.raises(ValueError, match="W must be finite and invertible"):
        DenseLinear(singular)


@settings(max_examples=40, deadline=None)
@given(matrices())
def test_determinant_of_the_inverse(M):
    """det M^-1 = (det M)^-1; det M det M^-1 = det(M M^-1) = det I = 1."""
    inverse = np.linalg.inv(M)
    n, condition = len(M), np.linalg.cond(M)
    bound = n * n * u * condition + (det_error(M) / abs(det(M)) + det_error(inverse) / abs(det(inverse)))
    assert abs(det(inverse) * det(M) - 1) <= 4 * bound
    assert abs(det(M @ inverse) - 1) <= 4 * n * n * u * condition + det_error(np.eye(n))
    f, x = DenseLinear(M), np.ones(n)
    assert f.inverse_and_log_det(x)[1] == -f.log_det(f.inverse(x))


@settings(max_examples=40, deadline=None)
@given(matrices())
def test_determinant_of_the_transpose(M):
    """det(M^T) = det M."""
    assert abs(det(M.T) - det(M)) <= det_error(M) + det_error(M.T)


# ---------------------------------------------------------------- Normalizing Flow

EVERY = SEVERAL | {repr(f): (Independent(f, 1), np.array([-0.8, 0.3])) for f in (Tanh(), Softplus(), Affine(1.0, -3.0))}


@pytest.mark.parametrize("f, x", EVERY.values(), ids=EVERY)
def test_inverse_function_theorem(f, x):
    """d f^-1(y)/dy = dx/dy = (dy/dx)^-1 = (d f(x)/dx)^-1, for y = f(x)."""
    y = f.forward(x)
    J, J_of_inverse = f.jacobian(x), Inverse(f).jacobian(y)
    condition = np.linalg.cond(J)
    # x' = f^-1(y) is off by cond u |y| |J^-1|, which J^-1 passes on, since its derivatives have its own size
    bound = 64 * u * condition * np.linalg.norm(np.linalg.inv(J), 2) * (1 + condition)
    np.testing.assert_allclose(J_of_inverse, np.linalg.inv(J), rtol=0, atol=bound)
    assert abs(f.inverse_and_log_det(y)[1] + f.log_det(x)) <= 64 * u * (1 + condition)


STAGES = [DenseLinear([[1.2, 0.3], [-0.2, 0.9]], [0.1, -0.1]), Independent(Tanh(), 1),
          DenseLinear([[0.8, -0.5], [0.4, 0.7]]), Independent(Affine(0.2, 1.5), 1)]


def test_composition():
    """x = z_K = f_K o f_{K-1} o ... o f_1 (z_0);   log p(x) = log pi_0(z_0) - sum_i log|det d f_i/d z_{i-1}|, and on the way
    log p_i(z_i) = log p_{i-1}(z_{i-1}) - log|det d f_i/d z_{i-1}| = log p_{i-1}(f_i^-1(z_i)) + log|det d f_i^-1/d z_i|.
    """
    z_0 = z = np.random.default_rng(3).standard_normal((20, 2))
    p_0 = p_before = StandardNormal(2)
    log_p = p_0.log_prob(z_0)
    for i, f in enumerate(STAGES, 1):
        z, log_det = f.forward_and_log_det(z)
        p_i, log_p = Flow(Chain(STAGES[:i]), p_0), log_p - log_det
        # kappa of log p_i in z_i: its gradient times the rounding of z_i, which the earlier stages have amplified likewise
        gradient, _ = p_i.log_prob_vjp(z)[1](np.ones(20))
        bound = 32 * u * (1 + np.abs(log_p) + (np.abs(gradient) * (1 + np.abs(z))).sum(-1))
        assert np.all(np.abs(p_i.log_prob(z) - log_p) <= bound)
        z_before, log_det_back = f.inverse_and_log_det(z)
        assert np.all(np.abs(p_before.log_prob(z_before) + log_det_back - log_p) <= bound)
        p_before = p_i
    x, log_det = Chain(STAGES).forward_and_log_det(z_0)
    np.testing.assert_array_equal(x, z)
    assert np.all(np.abs(p_0.log_prob(z_0) - log_det - log_p) <= bound)


@pytest.mark.parametrize("K", range(1, 5))
def test_every_density_on_the_way_has_integral_one(K):
    """int p_i(z_i) dz_i = 1 for i = 1 .. K, in one dimension: f_1 affine, f_2 tanh, f_3 affine, f_4 exp."""
    stages = [Affine(0.3, 1.1), Tanh(), Affine(0.5, -2.0), Exp()][:K]
    p = Flow(Chain(stages), StandardNormal())
    lower, upper = [(-np.inf, np.inf), (-1, 1), (-1.5, 2.5), (np.exp(-1.5), np.exp(2.5))][K - 1]
    value, error = integral(lambda x: float(np.exp(p.log_prob(x))), lower, upper)
    assert abs(value - 1) <= error
    if K > 1:
        assert p.log_prob(lower - 0.1) == p.log_prob(upper + 0.1) == -np.inf


def test_products_underflow_where_sums_of_logarithms_do_not():
    """prod_i |det J_i| of many small factors is 0 in floating point; sum_i log|det J_i| is a number."""
    K = 2000
    chain = Chain([Affine(0.0, 0.5)] * K)
    assert np.prod(np.full(K, 0.5)) == 0
    assert abs(chain.log_det(1.0) + K * np.log(2)) <= K * u * K * np.log(2)
