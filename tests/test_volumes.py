"""Dimensions and measures of sets: coordinates, tangents, volumes, and which maps act on which set."""

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest

from refflow import (Affine, AngularProportion, BreakProportions, CayleyOrthogonal, CentredSoftmax, Chain, CholeskyFactor,
                     CholeskyOuterProduct, Concatenate, CorrelationCholesky, FactorOut, Flow, Independent,
                     IntrinsicVolume, Inverse, L1Ball, NormalCDF, Permutation, Reshape, Sigmoid, SimplexToOrdered,
                     Softmax, Softplus, Squeeze, StandardNormal, Stereographic, StickBreaking, StrictTriangle, SumTo1, Tanh,
                     Transposed, WeibullCDF, ZeroSum)
from refflow.core import RandomSource, sets
from refflow.core.sets import tangents
from refflow.truth.measure import measure

THIN = {held.name: held for held in vars(sets).values() if isinstance(held, sets.Set) and held.thin}
THIN["orthogonal, det 1"] = sets.turned(np.eye(3))
# of 3 entries, or 3 rows
DIMENSION = {"simplex": 2, "zero_sum": 2, "sphere": 2, "cholesky_factor": 6, "positive_definite": 6, "zero_sum_matrix": 4,
             "rectangular_cholesky_factor": 6}
STICKS, VOLUME = StickBreaking(), IntrinsicVolume()


def members(where, shape=None, seed=0):
    return where.draw(RandomSource(np.random.default_rng(seed)), (4, *(shape or (3,) * where.rank)), spread=1)


@pytest.mark.parametrize("name", THIN)
def test_a_set_has_as_many_tangents_as_dimensions(name):
    where = THIN[name]
    x = members(where)
    F = where.basis(x, where.rank)
    assert F.shape == (4, x[0].size, DIMENSION.get(name, 3))
    assert np.allclose(where.dual_basis(x, where.rank).mT @ F, np.eye(F.shape[-1]))
    assert np.allclose(where.rows(F, x, where.rank), np.eye(F.shape[-1]))
    w = np.arange(F.shape[-1]) + 1.0
    entries = where.entries(np.broadcast_to(w, (4, len(w))), x, where.rank)
    assert np.allclose((entries[:, None] @ F)[:, 0], w)


@pytest.mark.parametrize("name", THIN)
def test_a_member_moved_along_a_tangent_satisfies_its_equations_to_the_second_order(name):
    where, h = THIN[name], 2.0**-9
    x = members(where)
    T = where.charted.basis(x, where.rank)
    for j in range(T.shape[-1]):
        assert off(where, x + (h * T[..., j]).reshape(x.shape)) < 2 * h**2 * np.abs(T).max() ** 2
        assert off(where, x + h * np.eye(x[0].size)[1].reshape(x[0].shape)) > h / 16 or where.free


def off(where, x):
    """How far events are from the equations of their set."""
    if where.name == "simplex":
        return np.abs(x.sum(-1) - 1).max()
    if where.name == "positive_definite":
        return np.abs(x - x.mT).max()
    if where.name == "zero_sum_matrix":
        return max(np.abs(x.sum(axis)).max() for axis in (-2, -1))
    if where.name == "correlation":
        return max(np.abs(x - x.mT).max(), np.abs(np.diagonal(x, axis1=-2, axis2=-1) - 1).max())
    if where.name == "zero_sum":
        return np.abs(x.sum(-1)).max()
    if where.name == "sphere":
        return np.abs((x * x).sum(-1) - 1).max()
    if where.name == "correlation_cholesky":
        return np.abs((x * x).sum(-1) - 1).max()
    if where.name.startswith("orthogonal"):
        return np.abs(x.mT @ x - np.eye(3)).max()
    return np.abs(x[..., ~where.free((3, 3))]).max()


@pytest.mark.parametrize("name", ["simplex", "correlation_cholesky", "orthogonal"])
def test_tangents_are_the_same_in_other_numbers(name):
    where = THIN[name]
    x = members(where)[0]
    exact = tangents.frame(where, mpmath.mp, [mpmath.mpf(v) for v in x.ravel().tolist()], x.shape)
    assert np.allclose(np.array(exact, float), where.charted.basis(x, where.rank))


@pytest.mark.parametrize("name", sets.TWICE_MEASURED)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
def test_the_ratio_of_volumes_has_the_gradient_that_it_says(name, dtype):
    where, h = sets.TWICE_MEASURED[name], 2.0**-10
    x = members(where).astype(dtype)
    T, (value, pullback) = where.basis(x, where.rank), where.log_ratio(x)
    assert value.dtype == dtype and pullback(value).dtype == dtype
    for j in range(T.shape[-1]):
        step = (h * T[..., j]).reshape(x.shape).astype(np.float64)
        slope = (where.log_ratio(x + step)[0] - where.log_ratio(x - step)[0]) / (2 * h)
        given = (pullback(np.ones(4, dtype)) * T[..., j].reshape(x.shape)).sum(tuple(range(1, x.ndim)))
        assert np.allclose(slope, given, rtol=2.0**-6, atol=2.0**-8)


def test_own_volumes_where_they_are_known():
    """The triangle with corners e_1, e_2, e_3 has sqrt 3 times the area of its shadow; half a circle's arc is ds = dL_21 / L_22."""
    assert np.isclose(VOLUME.log_det([0.2, 0.3, 0.5]), np.log(3) / 2)
    assert np.isclose(IntrinsicVolume("correlation_cholesky").log_det([[1, 0], [0.6, 0.8]]), -np.log(0.8))
    assert VOLUME.constant_log_det and not IntrinsicVolume("correlation_cholesky").constant_log_det


def test_a_product_has_the_tangents_of_its_blocks():
    turn = Chain([CayleyOrthogonal(np.eye(2)), Reshape((2, 2), (4,))])
    f = Concatenate((STICKS, turn, Tanh()), (2, 1, 1))
    z = np.array([0.3, -0.2, 0.5, 0.1])
    x, log_det = f.forward_and_log_det(z)
    assert f.codomain.measure == "blockwise" and f.codomain.basis(x, 1).shape == (8, 4)
    assert np.isclose(np.linalg.slogdet(f.square(f.jacobian(z), z, x))[1], log_det)
    lifted = Independent(f, 1)
    z = np.stack((z, 2 * z))
    x, log_det = lifted.forward_and_log_det(z)
    assert np.isclose(np.linalg.slogdet(lifted.square(lifted.jacobian(z), z, x))[1], log_det)


@pytest.mark.parametrize("stages, image", [
    ([STICKS, Permutation([2, 0, 1])], sets.simplex), ([STICKS, VOLUME, Permutation([2, 0, 1])], sets.simplex.intrinsic),
    ([STICKS, Transposed(Permutation([2, 0, 1]))], sets.simplex), ([STICKS, Reshape((3,), (3, 1)), Reshape((3, 1), (3,))], sets.simplex),
    ([STICKS, VOLUME, Reshape((3,), (1, 3)), Inverse(Reshape((3,), (1, 3))), Inverse(VOLUME), Inverse(STICKS)], None),
    ([STICKS, Chain([VOLUME, Inverse(VOLUME)])], sets.simplex), ([ZeroSum(), Inverse(IntrinsicVolume("zero_sum"))], None),
    ([ZeroSum(), Permutation([2, 0, 1]), Inverse(ZeroSum()), CentredSoftmax(), Inverse(STICKS)], None),
    ([CholeskyFactor(), CholeskyOuterProduct(), IntrinsicVolume("positive_definite")], sets.positive_definite.intrinsic),
    ([CholeskyFactor(), Reshape((2, 2), (4,))], None)])
def test_maps_act_on_sets_of_lower_dimension(stages, image):
    f = Chain(stages)
    z = np.array([0.3, -0.2, 0.7])[:3 if isinstance(stages[0], CholeskyFactor) else 2]
    x, log_det = f.forward_and_log_det(z)
    assert image is None or f.codomain.same(image)
    assert f.codomain.first_outside(x) is None
    assert np.isclose(np.linalg.slogdet(f.square(f.jacobian(z), z, x))[1], log_det, atol=1e-12)
    assert np.allclose(f.inverse(x), z)
    back = Chain([Inverse(stage) for stage in reversed(f.stages)])
    assert np.isclose(back.log_det(x), -log_det, atol=1e-12)


ROWS, IMAGES = Independent(STICKS, 2), Independent(VOLUME, 2)
LATENTS = Reshape((1, 2, 4), (8,))
HALF = FactorOut([False, True], LATENTS)


@pytest.mark.parametrize("stages, shape, image", [
    ([ROWS, Squeeze()], (2, 2, 3), None), ([ROWS, Squeeze(order="blocks"), Inverse(Squeeze(order="blocks"))], (2, 2, 3), sets.simplex),
    ([ROWS, IMAGES, Squeeze(order="diagonal")], (2, 2, 3), None), ([ROWS, Squeeze(factor=1)], (1, 2, 2), None),
    ([ROWS, Squeeze(), Reshape((4, 1, 3), (2, 2, 3))], (1, 2, 5), None), ([ROWS, Squeeze(), Reshape((4, 1, 2), (8,))], (1, 2, 3), None),
    ([ROWS, Inverse(Squeeze())], (4, 1, 2), None), ([ROWS, Inverse(Squeeze()), Squeeze()], (4, 1, 2), sets.simplex),
    ([ROWS, Squeeze(), Squeeze(order="blocks"), Inverse(Squeeze(order="blocks")), Inverse(Squeeze())], (1, 4, 3), sets.simplex),
    ([ROWS, HALF], (2, 2, 3), None), ([ROWS, IMAGES, HALF, Inverse(HALF)], (2, 2, 3), sets.simplex.intrinsic),
    ([ROWS, FactorOut([True, True], Reshape((2, 1, 2), (4,)))], (2, 1, 1), None),
    ([ROWS, FactorOut([False, True, False], FactorOut([True], LATENTS))], (3, 2, 3), None)])
def test_images_of_lower_dimension_are_rearranged(stages, shape, image):
    """Rows of an image on the simplex, whose entries change places: the measure stays, and what is undone is the first set."""
    f = Chain(stages)
    z = np.random.default_rng(0).normal(size=(2, *shape))
    x, log_det = f.forward_and_log_det(z)
    assert image is None or f.codomain.same(image)
    assert f.codomain.first_outside(x) is None and f.codomain.first_outside(1.5 * x) is not None
    assert f.codomain.members(x, f.event_ndim[1]).all()
    assert f.codomain.measure == ("intrinsic" if IMAGES in stages else "chart")
    assert np.allclose(np.linalg.slogdet(f.square(f.jacobian(z), z, x))[1], log_det, atol=1e-12)
    assert np.allclose(f.inverse(x), z)
    assert np.allclose(Chain([Inverse(stage) for stage in reversed(f.stages)]).log_det(x), -log_det, atol=1e-12)
    source = RandomSource(np.random.default_rng(1))
    drawn = f.codomain.draw(source, x.shape)
    assert drawn.shape == x.shape and f.codomain.first_outside(drawn) is None
    assert f.codomain.first_outside(np.array(f.codomain.plainest(x.shape))) is None
    assert f.codomain.room(x).shape == x.shape and not f.codomain.room(x).any()


@pytest.mark.parametrize("stages, message", [
    ([ROWS, Squeeze(), IMAGES], r"stage 2: IntrinsicVolume acts on simplex alone.*is simplex, squeezed by 2, interleaved"),
    ([ROWS, Squeeze(), Inverse(Squeeze(order="blocks")), IMAGES], r"stage 3: IntrinsicVolume acts on simplex alone"),
    ([ROWS, HALF, Tanh()], "stage 2: Tanh maps all entries"),
    ([ROWS, FactorOut([False, True], Chain([Affine(), LATENTS]))], "stage 1: FactorOut maps all entries"),
    ([ROWS, HALF, Inverse(FactorOut([True, False], Chain([Tanh(), Inverse(Tanh()), LATENTS])))], "stage 2: Inverse"),
    ([ROWS, FactorOut([False, False, True], LATENTS), Inverse(FactorOut([False, True, True], Reshape((2, 2, 4), (16,))))],
     "stage 2: Inverse")])
def test_rearranged_images_are_another_set(stages, message):
    with pytest.raises(ValueError, match=f"^Chain: {message}"):
        Chain(stages)


@pytest.mark.parametrize("stages, message", [
    ([STICKS, Affine(scale=2.0)], r"stage 1: Affine maps all entries of an event.*lower dimension \(simplex\).*apply it before, or go"),
    ([STICKS, VOLUME, Inverse(STICKS)], r"stage 2: Inverse\(StickBreaking\) counts volumes on simplex, and what arrives is simplex by "
                                        r"its own volume: put Inverse\(IntrinsicVolume\('simplex'\)\) between"),
    ([STICKS, Inverse(VOLUME)], r"stage 1: Inverse\(IntrinsicVolume\) counts volumes on simplex by its own volume, and what arrives is "
                                r"simplex: put IntrinsicVolume\('simplex'\) between"),
    ([CorrelationCholesky(), VOLUME], r"stage 1: IntrinsicVolume acts on simplex alone, and what arrives is correlation_cholesky"),
    ([STICKS, Reshape((3,), (3, 1)), VOLUME], r"stage 2: IntrinsicVolume acts on simplex alone.*is simplex of shape \(3,\) as \(3, 1\)"),
    ([StrictTriangle(), Reshape((3,), (3, 1))], r"stage 1: Reshape maps all entries"),
    ([Concatenate((STICKS, Tanh()), (2, 1)), Concatenate((Permutation([1, 0]), Tanh()), (2, 2))], r"stage 1: Concatenate"),
    ([STICKS, Transposed(Permutation([2, 0, 1])), Tanh()], r"stage 2: Tanh")])
def test_another_dimension_or_measure_is_refused(stages, message):
    with pytest.raises(ValueError, match=f"^Chain: {message}"):
        Chain(stages)


def test_a_density_is_measured_as_its_flow_says():
    """By own volume, the density on the simplex is smaller by sqrt 3."""
    charted, own = Flow(STICKS, StandardNormal(2)), Flow(Chain([STICKS, VOLUME]), StandardNormal(2))
    x = [0.2, 0.5, 0.3]
    assert np.isclose(charted.log_prob(x) - own.log_prob(x), np.log(3) / 2)
    assert own.support.same(sets.simplex.intrinsic)
    with pytest.raises(ValueError, match=r"^Flow: .*put Inverse\(IntrinsicVolume\('simplex'\)\) between"):
        Flow(Inverse(STICKS), own)


def test_only_what_a_cotangent_says_along_the_set_is_a_claim():
    """A multiple of (1, 1, 1), normal to the simplex, may be added to a cotangent of its points."""
    from refflow.accuracy.points import Points
    from refflow.laws.bijector_laws import LAWS
    f = Inverse(STICKS)
    z = members(sets.simplex)
    p = Points(f, z, np.ones((4, 2)), np.ones((4, 3)), np.ones(4))
    assert np.allclose(p.along(p.claims["event"]), p.along(p.claims["event"] + 3.0))
    LAWS["pullback is the gradient"](f, p)
    p.claims["event"] += 3.0
    LAWS["pullback is the gradient"](f, p)
    p.claims["event"][:, 0] += 3.0
    with pytest.raises(AssertionError):
        LAWS["pullback is the gradient"](f, p)


def sum_to_zero(y):
    """The Stan reference manual's sum-to-zero vector of free y, whose columns are orthonormal."""
    K, x = len(y) + 1, np.zeros(len(y) + 1)
    for n in range(1, K):
        w = y[n - 1] / np.sqrt(n * (n + 1))
        x[:n] += w
        x[n] -= n * w
    return x


@pytest.mark.parametrize("K", [2, 3, 6])
def test_the_isometric_log_ratio_is_the_one_of_stan(K):
    """With z of sum 0 the manual has the log-det -K log sum exp z + 1/2 log K; its free vector is another one of the same norm."""
    ilr, y = Chain([ZeroSum(), Softmax()]), np.random.default_rng(K).normal(size=K - 1)
    z = sum_to_zero(y)
    free = ZeroSum().inverse(z)
    x, log_det = ilr.forward_and_log_det(free)
    assert np.isclose(np.linalg.norm(free), np.linalg.norm(y))
    assert np.allclose(x, np.exp(z) / np.exp(z).sum())
    assert np.isclose(log_det, np.log(K) / 2 - K * np.log(np.exp(z).sum()))
    assert np.allclose(ilr.inverse(x), free) and np.isclose(ilr.inverse_and_log_det(x)[1], -log_det)
    J = np.array([ilr.forward(free + step) - ilr.forward(free - step) for step in 1e-5 * np.eye(K - 1)]).T / 2e-5
    assert np.isclose(np.linalg.slogdet(J[:-1])[1], log_det)
    assert ilr.codomain.same(sets.simplex)


def test_cut_points_give_the_probabilities_of_ordered_categories():
    """The example of NumPyro's documentation; and a chain to cut points of sticks has as many rows as a map of the sticks alone."""
    z = [0.3, 0.1, 0.4, 0.2]
    x = SimplexToOrdered().forward(z)
    assert np.allclose(x, [-0.8472978, -0.40546507, 1.3862944]) and np.allclose(SimplexToOrdered().inverse(x), z)
    chain, free = Chain([STICKS, SimplexToOrdered()]), np.array([0.3, -0.2, 0.7])
    assert np.isclose(np.linalg.slogdet(chain.jacobian(free))[1], chain.log_det(free)) and chain.codomain is sets.increasing


def test_the_last_entry_is_what_the_others_leave():
    f = Chain([STICKS, Inverse(SumTo1())])
    z = np.array([0.3, -0.2])
    assert f.codomain is sets.subsimplex and np.isclose(f.log_det(z), STICKS.log_det(z))
    assert np.array_equal(SumTo1().forward([0.5, 0.25]), [0.5, 0.25, 0.25])
    for refused in ([0.5, 0.75], [0.5, -0.25]):
        with pytest.raises(ValueError, match="must have entries > 0 whose sum is < 1"):
            SumTo1().forward(refused)


def test_sticks_broken_by_any_map_onto_the_proportions():
    """`StickBreaking` is the one of the logistic distribution; the one of the normal is in Carpenter's study of such transforms."""
    K, z = 4, np.array([0.3, -0.2, 0.7])
    n = np.arange(K - 1, 0, -1.0)
    logistic = Chain([Independent(Affine(shift=-np.log(n), scale=1.0), 1), Independent(Sigmoid(), 1), BreakProportions()])
    for given, expected in zip(logistic.forward_and_log_det(z), STICKS.forward_and_log_det(z)):
        assert np.allclose(given, expected)
    normal = Chain([Independent(NormalCDF(loc=np.log(n) / 2), 1), BreakProportions()])
    y = z - np.log(n) / 2
    parts = np.array([(1 + math.erf(v / 2**0.5)) / 2 for v in y])
    x, log_det = normal.forward_and_log_det(z)
    assert np.allclose(x, [*parts, 1] * np.array([1, *np.cumprod(1 - parts)])) and np.allclose(normal.inverse(x), z)
    assert np.isclose(log_det, (-y * y / 2 - np.log(2 * np.pi) / 2).sum() + (np.arange(K - 2, 0, -1) * np.log1p(-parts[:-1])).sum())


def sticks_of(z):
    """Stan: x_k = z_k times what is left."""
    left = np.array([1, *np.cumprod(1 - z)])
    return np.array([*z, 1]) * left, left


FREE = [np.array([0.3, -0.2, 0.7, -1.5]), np.array([-3.0, 6.0, -5.0, 2.0]), np.array([0.25]), np.zeros(0)]


@pytest.mark.parametrize("y", FREE, ids=len)
def test_sticks_broken_by_angles(y):
    """StickbreakingAngular of Carpenter's study, its log-det term by term; the roots of x are spherical coordinates."""
    f = Chain([AngularProportion(), BreakProportions()])
    phi = np.pi / 2 / (1 + np.exp(-y))
    x, log_det = f.forward_and_log_det(y)
    s, c, N = np.sin(phi), np.cos(phi), len(y) + 1
    assert np.allclose(x, sticks_of(c**2)[0], rtol=1e-13, atol=0)
    counts = np.arange(2 * N - 3, 0, -2)
    expected = (N - 1) * np.log(2) + (np.log(phi) + np.log1p(-2 * phi / np.pi) + counts * np.log(s) + np.log(c)).sum()
    assert np.isclose(log_det, expected, rtol=1e-12) and np.allclose(f.inverse(x), y, rtol=1e-9)
    assert np.isclose(f.inverse_and_log_det(x)[1], -expected, rtol=1e-9) and f.codomain.same(sets.simplex)
    assert np.allclose(np.sqrt(x), [*c, 1] * np.array([1, *np.cumprod(s)]))
    assert np.isclose(np.linalg.slogdet(f.square(f.jacobian(y), y, x))[1], log_det, atol=1e-9)


def log_logistic(y):
    """(log F, the logarithm of the density)."""
    return -np.logaddexp(0, -y), -y - 2 * np.logaddexp(0, -y)


def log_normal(y):
    tail = np.array([math.erfc(abs(v) / 2**0.5) / 2 for v in y])
    return np.where(y < 0, np.log(tail), np.log1p(-tail)), -y * y / 2 - np.log(2 * np.pi) / 2


OF_LOGISTIC, OF_NORMAL = [Softplus()], [NormalCDF(), Inverse(WeibullCDF())]


@pytest.mark.parametrize("y", FREE, ids=len)
@pytest.mark.parametrize("minus_log, reference", [(OF_LOGISTIC, log_logistic), (OF_NORMAL, log_normal)], ids=["logistic", "normal"])
def test_sticks_broken_by_powers(minus_log, reference, y):
    """StickbreakingPowerLogistic and -PowerNormal: of -y comes -log F(y), and log-det is the density of F over Gamma(K)."""
    n = np.arange(len(y), 0, -1.0)
    f = Chain([Affine(scale=-1.0), *minus_log, Independent(WeibullCDF(scale=n, concentration=1.0), 1), BreakProportions()])
    log_F, log_density = reference(y)
    x, log_det = f.forward_and_log_det(y)
    assert np.allclose(x, sticks_of(-np.expm1(log_F / n))[0], rtol=1e-8, atol=0)
    expected = log_density.sum() - math.lgamma(len(y) + 1)
    assert np.isclose(log_det, expected, rtol=1e-8) and np.allclose(f.inverse(x), y, rtol=1e-6)
    assert np.isclose(f.inverse_and_log_det(x)[1], -expected, rtol=1e-6) and f.codomain.same(sets.simplex)
    assert np.isclose(np.linalg.slogdet(f.square(f.jacobian(y), y, x))[1], log_det, atol=1e-6)


def test_the_stereographic_projection_keeps_angles_and_covers_the_sphere():
    """The area of the sphere in R^3 is 4 pi: of the densities of z by area, 2/(1 + q) squared, over the plane."""
    f, z = Stereographic(), np.array([0.3, -1.7])
    x, log_det = f.forward_and_log_det(z)
    q = (z * z).sum()
    assert np.allclose(x, [*(2 * z / (1 + q)), (q - 1) / (q + 1)]) and np.isclose(log_det, 2 * np.log(2 / (1 + q)))
    J = f.jacobian(z)
    assert np.allclose(J.T @ J, (2 / (1 + q))**2 * np.eye(2)) and np.allclose(x @ J, 0) and np.allclose(f.inverse(x), z)
    radius, weight = np.polynomial.legendre.leggauss(60)
    s = (radius + 1) / 2
    p = s / (1 - s)
    area = (np.exp(f.log_det(np.stack((p, 0 * p), -1))) * 2 * np.pi * p / (1 - s)**2 * weight / 2).sum()
    assert np.isclose(area, 4 * np.pi)
    assert f.codomain.same(Chain([f, Permutation([2, 0, 1])]).codomain)
    far = np.array([2.0**900, -(2.0**899)])
    assert np.allclose(f.inverse(f.forward(far)), far, rtol=1e-15)


def test_the_ball_of_magnitudes_is_the_one_of_numpyro():
    z = np.array([0.3, -0.7, 1.5, -0.1])
    t, (x, log_det) = np.tanh(z), L1Ball().forward_and_log_det(z)
    left = np.array([1, *np.cumprod(1 - np.abs(t[:-1]))])
    assert np.allclose(x, t * left) and np.isclose(log_det, np.log(left).sum() - 2 * np.log(np.cosh(z)).sum())
    assert np.allclose(L1Ball().inverse(x), z) and np.abs(L1Ball().forward(20 * z)).sum() <= 1


def test_what_is_left_of_1_keeps_what_rounding_takes():
    x = np.array([0.1, 0.2, 0.3, 0.4 - 2.0**-54, 2.0**-60])
    exact = [1 - sum(map(Fraction, x[:k].tolist())) for k in range(6)]
    assert sets.what_is_left(x).tolist() == [float(v) for v in exact]


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
def test_the_centred_log_ratio_is_in_its_plane(dtype):
    """Even of an image that is rounded to the centre, where all digits of the logarithms cancel."""
    images = [np.full(K, 1 / K, dtype) for K in (1, 3, 5, 7, 12)]
    drawn = members(sets.simplex, (3,)).astype(dtype)
    for x in [*images, *drawn, *(np.nextafter(x, dtype(1)) for x in images[1:])]:
        assert sets.zero_sum.first_outside(Softmax().inverse(x)) is None
        assert np.allclose(Softmax().forward(Softmax().inverse(x)), x, rtol=8 * np.finfo(dtype).eps)


PRODUCTS = [Concatenate((STICKS, ZeroSum()), (2, 2)), Concatenate((Stereographic(), STICKS), (2, 2))]


@pytest.mark.parametrize("f", PRODUCTS, ids=repr)
@pytest.mark.parametrize("off", [0, 2.0**-40])
def test_the_truth_knows_products_of_both_measures(f, off, monkeypatch):
    z = np.array([0.3, -0.2, 0.5, 0.1])
    assert "blockwise" in (f.domain.measure, f.codomain.measure)
    right = type(f).log_det
    monkeypatch.setattr(type(f), "log_det", lambda self, z: right(self, z) + off)
    found = measure(f, z=z, x_bar=np.arange(6.0), log_det_bar=0.5)
    assert (found["log_det"][0] > 16) == bool(off) and max(found[name][0] for name in ("forward", "jacobian", "vjp.z_bar")) < 4


def test_the_truth_knows_domains_of_both_measures():
    """An event of two parts is moved onto free vectors; l counts the area of one and the coordinates of the other."""
    f = Concatenate((Inverse(Stereographic()), Inverse(STICKS)), (3, 3))
    z = Concatenate((Stereographic(), STICKS), (2, 2)).forward(np.array([0.3, -0.2, 0.5, 0.1]))
    assert f.domain.measure == "blockwise"
    found = measure(f, z=z, x_bar=np.arange(4.0), log_det_bar=0.5)
    assert max(C for C, _ in found.values()) < 4
