"""The truth engine against closed forms, against mpmath, and its refusal to guess."""

import math

import mpmath
import numpy as np
import pytest
from flint import arb, arb_mat, ctx
from mpmath import mp

from refflow.core.words import intermediate, passed_on
from refflow.truth.balls import RECORDED, Dual, gradient, inverse, log_abs_det, m, seen_from
from refflow.truth.engine import Problem, Quantity, Solver, TruthNotFound, error, forward_truth, inverse_truth


@pytest.fixture(autouse=True)
def precision():
    """Closed forms are written in balls at 1500 digits, or in mpmath numbers at 700."""
    with ctx.workdps(1500), mp.workdps(700):
        yield


def same(found, expected, digits=50):
    """Every entry agrees to `digits` digits, or both vanish below every float."""
    found = found.value if isinstance(found, Quantity) else found
    assert len(found) == len(expected)
    for q, e in zip(found, expected):
        e = e if isinstance(e, arb) else arb(mp.nstr(e, 650) if isinstance(e, mp.mpf) else e)
        close, vanishing = abs(q - e) <= abs(e) * arb(10) ** -digits, max(abs(q), abs(e)) < arb(2) ** -1200
        assert close or vanishing, (q.str(60), e.str(60))


def kappa(quantity):
    return [float(k) for k in quantity.kappa]


TANH = Problem(lambda m, z: m.tanh(z), {})
AFFINE = Problem(lambda m, z, a, b: a * z + b, {"a": 3.0, "b": 0.1})


def dense(m, z, A, b):
    return [m.fsum([a * v for a, v in zip(row, z)]) + c for row, c in zip(A, b)]


# ---------------------------------------------------------------- derivatives in both directions

def shared(x, y):
    """A result that others use again and again, early and late."""
    u = x * y
    v = m.exp(u) / (1 + u * u)
    return v * u + m.tanh(x - v) - u ** 3


def of_matrices(x, y):
    W = inverse([[x, y], [1 - y, x * x]])
    return log_abs_det([[W[0][0], x], [W[1][0] * y, W[1][1] + 1]])


@pytest.mark.parametrize("function", [shared, of_matrices, lambda x, y: 2 * x, lambda x, y: x - x + y])
def test_the_gradient_is_what_duals_carry_along(function):
    carried, recorded = (function(*(Dual(arb(v), {j: 1}, level) for j, v in enumerate((0.7, -0.4)))) for level in (1, RECORDED))
    backward = gradient(recorded)
    for j in (0, 1):
        same([arb(backward.get(j, 0))], [arb(seen_from(1, carried)[1].get(j, 0))], 400)


# ---------------------------------------------------------------- scalar maps against closed forms

@pytest.mark.parametrize("z", [1e-160, -1e-9, 1.0, 40.0, 350.0, 2.0**1000, 5e-324, -(2.0**1000)])
def test_tanh(z):
    q = forward_truth(TANH, z, x_bar=0.7, log_det_bar=-0.3)
    t, x_bar, l_bar = arb(z), arb(0.7), arb(-0.3)
    same(q["forward"], [t.tanh()])
    same(q["log_det"], [-2 * t.cosh().log()])
    same(q["jacobian"], [t.sech() ** 2])
    same(q["vjp.z_bar"], [x_bar * t.sech() ** 2 - 2 * l_bar * t.tanh()])
    assert q["jacobian"].shape == (1, 1) and q["log_det"].shape == ()


@pytest.mark.parametrize("x", [0.5, -1e-300, 1 - 2.0**-53, 0.0])
@pytest.mark.parametrize("guess", [None, math.nan, math.inf, 1e10, "close"])
def test_tanh_inverse_from_any_guess(x, guess):
    guess = float(np.arctanh(x)) if guess == "close" else guess
    q = inverse_truth(TANH, x, z_bar=0.7, log_det_bar=-0.3, guess=guess)
    t = arb(x)
    same(q["inverse"], [t.atanh()])
    same(q["inverse_log_det"], [-(1 - t * t).log()])
    same(q["inverse_vjp.x_bar"], [(arb(0.7) + 2 * t * arb(-0.3)) / (1 - t * t)])


@pytest.mark.parametrize("z", [2.0**1000, -(2.0**1000), 5e-324, -5e-324, 0.3, 0.0])
def test_softplus_and_sigmoid(z):
    t = arb(z)
    softplus = forward_truth(Problem(lambda m, z: m.log1p(m.exp(z)), {}), z)
    sigmoid = forward_truth(Problem(lambda m, z: 1 / (1 + m.exp(-z)), {}), z)
    same(softplus["forward"], [t.exp().log1p()])
    same(softplus["log_det"], [-(-t).exp().log1p()])
    same(sigmoid["forward"], [1 / (1 + (-t).exp())])
    same(sigmoid["log_det"], [-(t.exp().log1p() + (-t).exp().log1p())])


def test_affine_fields_and_cotangents():
    z, x, bar, l_bar, a = 1.7, 5.3, 0.7, -0.3, arb(3)
    q = forward_truth(AFFINE, z, bar, l_bar)
    same(q["vjp.z_bar"], [arb(bar) * a])
    same(q["vjp.a_bar"], [arb(bar) * arb(z) + arb(l_bar) / a])
    same(q["vjp.b_bar"], [arb(bar)])
    q, root = inverse_truth(AFFINE, x, bar, l_bar, guess=1.7), (arb(x) - arb(0.1)) / 3
    same(q["inverse"], [root])
    same(q["inverse_log_det"], [-a.log()])
    same(q["inverse_vjp.x_bar"], [arb(bar) / a])
    same(q["inverse_vjp.a_bar"], [-arb(bar) * root / a - arb(l_bar) / a])
    same(q["inverse_vjp.b_bar"], [-arb(bar) / a])


def test_one_cotangent_alone():
    assert set(forward_truth(AFFINE, 1.0, x_bar=1.0)) == {"forward", "log_det", "jacobian", "vjp.z_bar", "vjp.a_bar",
                                                          "vjp.b_bar"}
    same(forward_truth(AFFINE, 1.0, log_det_bar=1.0)["vjp.b_bar"], [arb(0)])


def test_cancelling_rational_function():
    # ((z + 1)^2 - 1) / z - 2 = z: at 1e-200 floats keep nothing
    q = forward_truth(Problem(lambda m, z: ((z + 1) ** 2 - 1) / z - 2, {}), 1e-200)
    same(q["forward"], [arb(1e-200)])
    same(q["jacobian"], [arb(1)])
    assert q["forward"].decimals() == ["9.99999999999999982100262399083e-201"]


@pytest.mark.parametrize("x", [1.0, 2.5, 4.0, 0.0, -3.0])
def test_inverse_at_a_knot(x):
    """f = z below 1, (z^2 + 1) / 2 above: C^1, and the root of x = 1 is the knot itself, which no ball can decide."""
    q = inverse_truth(Problem(lambda m, z: z if z < 1 else (z * z + 1) / 2, {}), x, guess=0.9)
    same(q["inverse"], [arb(x) if x < 1 else (2 * arb(x) - 1).sqrt()])


def test_inverse_on_a_half_line_and_an_interval():
    logarithm = Problem(lambda m, z: m.log(z), {})
    logit = Problem(lambda m, z: m.log(z) - m.log1p(-z), {})
    for x in (-700.0, 0.0, 3.0, 600.0):
        same(inverse_truth(logarithm, x, guess=math.nan)["inverse"], [arb(x).exp()])
        same(inverse_truth(logit, x)["inverse"], [1 / (1 + (-arb(x)).exp())])


@pytest.mark.parametrize("guess", [None, -1.5, math.nan])
def test_inverse_stays_in_the_domain(guess):
    """z^2 on z > 0: its definition also maps -2 to 4."""
    square = Problem(lambda m, z: z ** 2, {}, inside=lambda z: all(v > 0 for v in z))
    same(inverse_truth(square, 4.0, guess=guess)["inverse"], [arb(2)])
    with pytest.raises(TruthNotFound, match="inverse"):
        inverse_truth(square, -4.0, guess=guess)


@pytest.mark.parametrize("a", [2.0**-60, -(2.0**-60)])
def test_roots_beyond_every_float(a):
    q = inverse_truth(Problem(lambda m, z: m.power(z, a), {}, inside=lambda z: all(v > 0 for v in z)), 3.0)
    same([q["inverse"].value[0].log()], [arb(3).log() / arb(a)])
    assert error(np.inf if a > 0 else 0.0, q["inverse"], np.float64) < 1e-100


# ---------------------------------------------------------------- vectors

@pytest.mark.parametrize("D", [2, 3])
@pytest.mark.parametrize("normwise", [False, True])
def test_dense_linear_map(D, normwise):
    rng = np.random.default_rng(D)
    A, b, z, bar, l_bar = rng.normal(size=(D, D)), rng.normal(size=D), rng.normal(size=D), rng.normal(size=D), 0.6
    problem = Problem(dense, {"A": A, "b": b}, normwise=normwise)
    column = lambda v: arb_mat([[arb(e)] for e in v.tolist()])
    M = arb_mat([[arb(e) for e in row] for row in A.tolist()])
    W, l = M.inv(), abs(M.det()).log()
    q = forward_truth(problem, z, bar, l_bar)
    same(q["forward"], (M * column(z) + column(b)).entries())
    same(q["log_det"], [l])
    same(q["jacobian"], M.entries())
    same(q["vjp.z_bar"], (M.transpose() * column(bar)).entries())
    same(q["vjp.A_bar"], (column(bar) * column(z).transpose() + W.transpose() * arb(l_bar)).entries())
    x = rng.normal(size=D)
    for guess in (np.linalg.solve(A, x - b), np.full(D, np.nan), None):
        q = inverse_truth(problem, x, bar, l_bar, guess=guess)
        root, w = W * (column(x) - column(b)), W.transpose() * column(bar)
        same(q["inverse"], root.entries())
        same(q["inverse_log_det"], [-l])
        same(q["inverse_vjp.x_bar"], w.entries())
        same(q["inverse_vjp.A_bar"], (-(w * root.transpose()) - W.transpose() * arb(l_bar)).entries())
        assert q["inverse_vjp.A_bar"].shape == (D, D)
    solved = np.linalg.solve(A, x - b)
    assert error(solved, q["inverse"], np.float64) < 4 < error(solved * (1 + 1e-13), q["inverse"], np.float64)


def stick_breaking(m, z):
    left, x = m.mpf(1), []
    for v in z:
        x.append(left / (1 + m.exp(-v)))
        left = left / (1 + m.exp(v))
    return x + [left]


def unbroken(m, x):
    return [m.log(x[i]) - m.log(m.fsum(x[i + 1:])) for i in range(len(x) - 1)]


def test_simplex_in_its_chart():
    """log_det of the triangular chart block; the inverse and its gradient are ambient: x need not sum to 1."""
    problem = Problem(stick_breaking, {}, inverse_definition=unbroken, chart=(0, 1))
    s = lambda v: 1 / (1 + (-v).exp())
    q, z0, z1 = forward_truth(problem, [0.3, -2.0], [1.0, 2.0, 3.0], 0.5), arb(0.3), arb(-2)
    same(q["forward"], [s(z0), s(-z0) * s(z1), s(-z0) * s(-z1)])
    same(q["log_det"], [(s(z0) * s(-z0) * s(-z0) * s(z1) * s(-z1)).log()])
    assert q["jacobian"].shape == (3, 2) and q["jacobian"].value[1 * 2 - 1] == 0
    x = [0.25, 0.5, 0.5]
    q, (x0, x1, x2) = inverse_truth(problem, x, [1.0, 2.0], 0.5), map(arb, x)
    same(q["inverse"], [(x0 / (x1 + x2)).log(), (x1 / x2).log()])
    ambient = lambda x0, x1, x2: -(x0 * (x1 + x2) ** 2 / (x0 + x1 + x2) ** 3 * x1 * x2 / (x1 + x2) ** 2).log()
    same(q["inverse_log_det"], [ambient(x0, x1, x2)])
    gradient = [-1 / x0 + 3 / (x0 + x1 + x2), -1 / x1 + 3 / (x0 + x1 + x2), -1 / x2 + 3 / (x0 + x1 + x2)]
    pull = [1 / x0, -1 / (x1 + x2) + 2 / x1, -1 / (x1 + x2) - 2 / x2]
    same(q["inverse_vjp.x_bar"], [p + arb(0.5) * g for p, g in zip(pull, gradient)])


def test_wrong_inverse_definition_is_refused():
    problem = Problem(stick_breaking, {}, inverse_definition=lambda m, x: [m.log(x[0]), m.log(x[1])], chart=(0, 1))
    with pytest.raises(ValueError, match="inverse_definition"):
        forward_truth(problem, [0.3, -2.0])


# ---------------------------------------------------------------- against mpmath

def everything(m, z, a, p):
    """Every function of m, in a triangular map of two numbers."""
    u, v = z
    first = (m.atan(u) + m.asinh(u) + m.erf(u) + m.ncdf(a * u) - m.erfc(u) + m.expm1(u) + m.sinh(u) + m.sqrt(1 + u * u)
             + abs(u) + m.log1p(u ** 2) + m.fprod([u, u, u]))
    second = (v * m.cosh(u) + m.tanh(v / a) + m.power(v, p) + m.log(v) + m.atanh(v / 4) + m.tan(v / 3) - m.cos(v) / 9
              + m.sin(v) / 9 + m.acosh(1 + v) + m.sech(a) * m.pi + m.fabs(v) ** 3 + a ** v / m.mpf(7))
    return [first, second]


def test_agrees_with_mpmath_and_its_differences():
    z, a, p, bar, l_bar = [0.7, 1.3], 1.9, 2.3, [0.4, -1.1], 0.8
    problem = Problem(everything, {"a": a, "p": p})
    h = mpmath.mpf(10) ** -150

    def difference(f, inputs, j):
        up, down = list(inputs), list(inputs)
        up[j], down[j] = up[j] + h, down[j] - h
        return (f(up) - f(down)) / (2 * h)

    inputs = [mpmath.mpf(v) for v in (*z, a, p)]
    x = lambda i: lambda t: everything(mpmath.mp, t[:2], *t[2:])[i]
    J = lambda t, i, j: difference(x(i), t, j)
    l = lambda t: mpmath.log(abs(J(t, 0, 0) * J(t, 1, 1) - J(t, 0, 1) * J(t, 1, 0)))
    L = lambda t: bar[0] * x(0)(t) + bar[1] * x(1)(t) + l_bar * l(t)
    q = forward_truth(problem, z, bar, l_bar)
    same(q["forward"], [x(0)(inputs), x(1)(inputs)])
    same(q["log_det"], [l(inputs)])
    same(q["jacobian"], [J(inputs, i, j) for i in (0, 1) for j in (0, 1)])
    same(q["vjp.z_bar"].value + q["vjp.a_bar"].value + q["vjp.p_bar"].value,
         [difference(L, inputs, j) for j in range(4)])
    # the unit of the vjp, by second differences: sum over inputs and cotangents
    slope = lambda j: lambda t: difference(L, t, j)
    expected = (abs(slope(0)(inputs)) + sum(abs(difference(slope(0), inputs, k) * inputs[k]) for k in range(4))
                + sum(abs(bar[i] * J(inputs, i, 0)) for i in (0, 1)) + abs(l_bar * difference(l, inputs, 0)))
    assert float(q["vjp.z_bar"].kappa[0]) == pytest.approx(float(expected), rel=1e-12)

    back = inverse_truth(problem, [float(v) for v in q["forward"].value], bar, l_bar, guess=[0.5, 1.0])
    assert [float(v) for v in back["inverse"].value] == pytest.approx(z, rel=1e-14)
    # implicit differentiation, by moving x: dz/dx through the solver itself
    x0, step = [float(v) for v in q["forward"].value], 2.0**-30
    moved = [inverse_truth(problem, [x0[0] + s * step, x0[1]], guess=z) for s in (1, -1)]
    gain = lambda r: arb(bar[0]) * r["inverse"].value[0] + arb(bar[1]) * r["inverse"].value[1] \
        + arb(l_bar) * r["inverse_log_det"].value[0]
    expected = float((gain(moved[0]) - gain(moved[1])) / (2 * step))
    assert float(back["inverse_vjp.x_bar"].value[0]) == pytest.approx(expected, rel=1e-12)


# ---------------------------------------------------------------- kappa and error

def test_kappa():
    q = forward_truth(TANH, 2.0, 0.7, -0.3)
    t, s2 = math.tanh(2), 1 / math.cosh(2) ** 2
    assert kappa(q["forward"]) == pytest.approx([t + 2 * s2])
    assert kappa(q["log_det"]) == pytest.approx([2 * math.log(math.cosh(2)) + 4 * t])
    assert kappa(q["jacobian"]) == pytest.approx([s2 + 2 * 2 * t * s2])
    slope = 0.7 * -2 * t * s2 + 0.6 * s2
    assert kappa(q["vjp.z_bar"]) == pytest.approx([0.7 * s2 + 0.6 * t + abs(slope) * 2 + 0.7 * s2 + 0.6 * t])

    q = inverse_truth(TANH, 0.5, 1.0)
    assert kappa(q["inverse"]) == pytest.approx([math.atanh(0.5) + 0.5 / 0.75])
    q = inverse_truth(AFFINE, 5.0, 2.0, 0.5)    # x_bar = z_bar / a counts three times; a_bar depends on everything
    z = 4.9 / 3
    assert kappa(q["inverse_vjp.x_bar"]) == pytest.approx([2 / 3 * 3])
    assert kappa(q["inverse_vjp.a_bar"]) == pytest.approx(
        [(2 * z + 0.5) / 3 + 2 / 9 * 5.0 + 2 / 9 * 0.1 + 3 * (4 * z + 0.5) / 9 + 2 * z / 3 + 0.5 / 3])


def test_kappa_of_a_cancelling_sum():
    q = forward_truth(Problem(lambda m, z, b: z + b, {"b": -1.0}), 1 + 2.0**-52)["forward"]
    assert float(q.value[0]) == 2.0**-52 and kappa(q) == pytest.approx([2.0])


def test_normwise_kappa_is_one_number_in_spectral_norms():
    A, z = np.diag([3.0, 1.0]), np.array([1.0, 2.0])
    q = forward_truth(Problem(lambda m, z, A: dense(m, z, A, [0, 0]), {"A": A}, normwise=True), z)["forward"]
    expected = np.linalg.norm(A @ z) + 3 * np.linalg.norm(z) + np.linalg.norm(z) * np.linalg.norm(A)
    assert kappa(q) == pytest.approx([expected, expected])
    assert error([3.0, 2.0 + 2.0**-51], q, np.float64) == pytest.approx(2.0**-51 / (2.0**-53 * expected))


def quantity(*values):
    values = [v if isinstance(v, arb) else arb(v) for v in values]
    return Quantity((len(values),), values, [abs(v) for v in values])


def test_error():
    q = quantity(1.0, -3.0)
    assert error([1.0, -3.0], q, np.float64) == 0
    assert error([np.nextafter(1.0, 2), -3.0], q, np.float64) == 2
    assert error(np.float32([np.nextafter(np.float32(1), np.float32(2)), -3]), q, np.float32) == 2
    assert error([np.nan, -3.0], q, np.float64) == math.inf
    assert error([np.inf, -3.0], q, np.float64) == math.inf
    with pytest.raises(ValueError):
        error([[1.0, -3.0]], q, np.float64)
    zero = quantity(0.0)
    assert error([0.0], zero, np.float64) == error([-0.0], zero, np.float64) == 0 < error([1e-300], zero, np.float64)


def test_error_at_the_ends_of_the_range():
    largest = float(np.finfo(np.float64).max)
    beyond = quantity(arb(2) ** 1030)
    assert error([np.inf], beyond, np.float64) == 0
    assert error([-np.inf], beyond, np.float64) == error([np.nan], beyond, np.float64) == math.inf
    assert error([largest], beyond, np.float64) > 1e15
    just = quantity(arb(2) ** 1024 * (1 - arb(2) ** -60))
    assert error([np.inf], just, np.float64) == 0 and error([largest], just, np.float64) < 1.1
    assert error([np.inf], quantity(largest), np.float64) == pytest.approx(0.5)
    assert error([-np.inf], quantity(largest), np.float64) == error([np.inf], quantity(largest / 2), np.float64) == math.inf
    assert error([-np.inf], Quantity((1,), [arb(1)], [arb(2) ** 1080]), np.float64) == pytest.approx(2.0**-3)
    assert error([np.inf], quantity(1e39), np.float32) == 0

    tiny = quantity(arb(2) ** -1074 * arb(1.4))
    assert error([5e-324], tiny, np.float64) == pytest.approx(0.4)
    assert error([0.0], tiny, np.float64) == pytest.approx(1.4)
    assert error([0.0], quantity(arb(2) ** -2000), np.float64) < 1e-100


# ---------------------------------------------------------------- refusals

def test_truth_not_found():
    # log((1 + exp(-z)) - 1) = -z, but seeing it takes 5e17 digits
    with pytest.raises(TruthNotFound, match="forward"):
        forward_truth(Problem(lambda m, z: m.log((1 + m.exp(-z)) - 1), {}), 2.0**60)
    # the same at z = 2^12 takes 1779 digits: found by doubling
    same(forward_truth(Problem(lambda m, z: m.log((1 + m.exp(-z)) - 1), {}), 4096.0)["forward"], [arb(-4096)])
    with pytest.raises(TruthNotFound, match="log_det") as found:
        forward_truth(Problem(lambda m, z: z ** 3, {}), 0.0)
    assert set(found.value.settled) == {"forward", "jacobian"}


@pytest.mark.parametrize("z, precisions", [(8192.0, 5), (2.0**60, 5), (2.0**9, 2)])
def test_doubling_ends_where_it_gains_nothing(z, precisions):
    """At z = 2^13 the fifth precision, 5600 digits, is the first to see it; at 2^60 none is."""
    tried = set()

    def definition(m, z):
        tried.add(ctx.dps)
        return m.log((1 + m.exp(-z)) - 1)

    try:
        forward_truth(Problem(definition, {}), z)
    except TruthNotFound:
        assert z == 2.0**60
    assert len(tried) == precisions


def test_undecidable_branch():
    with pytest.raises(TruthNotFound):
        forward_truth(Problem(lambda m, z: z if m.sin(m.pi) < 0 else -z, {}), 1.0)


@pytest.mark.parametrize("x", [1.5, -1.0, 1.0])
def test_outside_the_image(x):
    with pytest.raises(TruthNotFound, match="inverse"):
        inverse_truth(TANH, x, guess=1.0)


def test_constants_are_passed_as_they_are():
    def permute(m, z, order, shift):
        return [z[i] + shift for i in order]

    problem = Problem(permute, {"order": [1, 0], "shift": 2.0}, frozenset({"order"}))
    q = forward_truth(problem, [3.0, 4.0], [1.0, 2.0], 1.0)
    same(q["forward"], [arb(6), arb(5)])
    same(q["log_det"], [arb(0)])
    same(q["vjp.shift_bar"], [arb(3)])
    assert "vjp.order_bar" not in q


def test_claims_of_the_wrong_shape_or_name_are_refused():
    with pytest.raises(ValueError, match="name of the event"):
        inverse_truth(Problem(lambda m, z, x: z + x, {"x": 1.0}), 2.0)
    with pytest.raises(ValueError, match="chart"):
        forward_truth(Problem(stick_breaking, {}), [0.3, -2.0])
    with pytest.raises(ValueError, match="cotangent"):
        forward_truth(TANH, 1.0, x_bar=[1.0, 2.0])


def test_root_of_a_vector_map_from_bad_guesses():
    def planar(m, z, u, w):
        a = m.tanh(m.fsum([p * q for p, q in zip(w, z)]))
        return [v + c * a for v, c in zip(z, u)]

    z, problem = [1.5, -0.25, 3.0], Problem(planar, {"u": [1.0, -0.5, 0.25], "w": [0.5, 0.25, -0.75]})
    x = [float(v) for v in forward_truth(problem, z)["forward"].value]
    roots = [inverse_truth(problem, x, guess=guess)["inverse"] for guess in (z, [math.nan] * 3, [1e5] * 3)]
    assert [float(v) for v in roots[0].value] == pytest.approx(z, rel=1e-15)
    same(roots[1], roots[0].value)
    same(roots[2], roots[0].value)


def test_roots_of_very_different_sizes():
    """exp(s_i) z_i = x_i has one root that overflows and one that does not."""
    scales = Problem(lambda m, z, s: [m.exp(s_i) * z_i for s_i, z_i in zip(s, z)], {"s": [-1e11, 0.5]})
    found = inverse_truth(scales, [1.5, 2.0], [1.0, 0.0], guess=[np.inf, 1.2])
    same(found["inverse"], [arb(1.5) * arb(1e11).exp(), arb(2) / arb(0.5).exp()])
    same(found["inverse_vjp.x_bar"], [arb(1e11).exp(), arb(0)])


def test_too_few_digits_at_a_good_claim_are_not_searched(monkeypatch):
    """log(1 + exp z) = 1e93 at z = 1e93: it is more digits that are needed, not another start."""
    monkeypatch.setattr(Solver, "bracketed", lambda self: pytest.fail("a bracket was sought"))
    softplus = Problem(lambda m, z: m.log(1 + m.exp(z)), {})
    same(inverse_truth(softplus, 1e93, guess=1e93)["inverse"], [arb(1e93)])


def test_float32():
    q = forward_truth(TANH, float(np.float32(1e-40)), 1.0, 1.0, dtype=np.float32)
    same(q["log_det"], [-2 * arb(float(np.float32(1e-40))).cosh().log()], digits=15)
    assert error(np.float32(np.float32(1e-40)), q["forward"], np.float32) < 1


def test_what_is_handed_on_counts_as_an_input():
    """log of a rounded exp(s): its kappa is 1, not 2|s|."""
    def definition(m, z, s):
        return z + m.log(passed_on(m, m.exp(s)))

    s = 2.0**-30
    q = forward_truth(Problem(definition, {"s": s}), 0.0)["forward"]
    assert abs(float(q.kappa[0].mid()) - (1 + 2 * s)) < 1e-12


def test_a_subnormal_intermediate_counts_with_its_spacing():
    """x = 2^100 t with t = z/2^52 subnormal: a spacing of t moves x by 2^100 spacings, which is just rounding."""
    def definition(m, z, **fields):
        return 2.0**100 * intermediate(m, z * 2.0**-52)

    def kappa(z, marked=True):
        plain = definition if marked else lambda m, z, **fields: 2.0**100 * (z * 2.0**-52)
        return float(forward_truth(Problem(plain, {}), z)["forward"].kappa[0])

    z = 2.0**-1000
    assert kappa(1.0) == kappa(1.0, False) == 2 * 2.0**48
    assert kappa(z) / kappa(z, False) > 2.0**28 and kappa(z) == pytest.approx(2.0**100 * 2.0**-1021, rel=1e-6)


def test_derivatives_of_a_subnormal_exponential_share_its_relative_error():
    """d/dz of 2^100 exp(z) is computed from the rounded exp(z): a spacing of it moves both by 2^100 spacings."""
    def definition(m, z, **fields):
        return 2.0**100 * intermediate(m, m.exp(z), exponential=True)

    found = forward_truth(Problem(definition, {}), -740.0)
    for name in ("forward", "jacobian"):
        assert float(found[name].kappa[0]) == pytest.approx(2.0**100 * 2.0**-1021, rel=1e-6)
