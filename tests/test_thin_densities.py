"""Densities on sets of lower dimension: mass one behind every map onto the set, scipy.stats and torch, samples, measures, refusals."""

import mpmath
import numpy as np
import pytest
import scipy

from refflow import (Affine, BreakProportions, CentredSoftmax, Chain, CholeskyFactor, CholeskyOuterProduct, CholeskyToInverseCholesky,
                     CorrelationCholesky, CorrelationOuterProduct, DiagonalNormal, Dirichlet, Flow, IntrinsicVolume, Inverse, LKJCholesky,
                     NormalCDF, Permutation, RowNormalisedCorrelation, Sigmoid, SimplexToOrdered, Softmax, StandardNormal, StickBreaking, SumTo1,
                     TriangularInverse, WishartCholesky, ZeroSum)
from refflow.core import density, sets
from refflow.laws.density_laws import run_density_laws

A = [2.0, 3.0, 1.5]
L = np.array([[1.5, 0.0], [-0.5, 0.75]])


# -- mass -----------------------------------------------------------------------------------------------------------------

def trapezoid(p, axes):
    """The trapezoidal rule for y = y(u), with steps u; `axes` has (y, dy) for each entry of y.

    For a function that is analytic and falls off with all its derivatives at both ends, the error falls as exp(-c / step).
    """
    y = np.stack(np.meshgrid(*(y for y, _ in axes), indexing="ij"), -1)
    volume = np.prod(np.meshgrid(*(dy for _, dy in axes), indexing="ij"), 0)
    return (np.exp(p.log_prob(y)) * volume).sum()


def plain(low, high, step):
    y = np.arange(low, high, step)
    return y, np.full(y.shape, step)


def far(u, step):
    """y = sinh u, for densities that fall off as a power of y."""
    u = np.arange(-u, u, step)
    return np.sinh(u), step * np.cosh(u)


def mass(p, axis, count):
    """The mass by a fine rule; a coarse one, whose error is much larger, shows that it has converged."""
    (fine, rough) = (trapezoid(p, [axis(step)] * count) for step in (1, 1.25))
    assert abs(fine - rough) < 1e-5
    return fine


ONTO_SIMPLEX = {
    "StickBreaking": StickBreaking(), "CentredSoftmax": CentredSoftmax(), "Softmax": Chain([ZeroSum(), Softmax()]),
    "BreakProportions": Chain([Sigmoid(), BreakProportions()]), "ordered": Chain([StickBreaking(), Permutation([2, 0, 1])]),
    "located": Chain([Affine([0.5, -1.0], [1.5, 1.0]), Sigmoid(), BreakProportions()]),
    "NormalCDF": Chain([NormalCDF(), BreakProportions()])}


@pytest.mark.parametrize("name", ONTO_SIMPLEX)
def test_mass_behind_maps_onto_the_simplex(name):
    """On R^2, by coordinates and by own volume: sqrt 3 is neither forgotten nor counted twice."""
    f, here, own = ONTO_SIMPLEX[name], Dirichlet(A), IntrinsicVolume("simplex")
    if f.codomain.same(sets.simplex.intrinsic):
        f = Chain([f, Inverse(own)])
    volume = Flow(own, here)
    low, high, steps = (-12, 8.2, 5) if name == "NormalCDF" else (-40, 24, 3)       # log_prob is known until 1 - p is 0

    def axis(step):
        return plain(low, high, step / steps)

    assert abs(mass(Flow(Inverse(f), here), axis, 2) - 1) < 1e-10
    assert abs(mass(Flow(Inverse(Chain([f, own])), volume), axis, 2) - 1) < 1e-10
    z = here.sample(np.random.default_rng(0), 1)[0]
    assert np.isclose(volume.log_prob(z), here.log_prob(z) - np.log(3) / 2)


def test_mass_of_the_first_entries():
    """On the triangle {z > 0, z_1 + z_2 < 1}, z_1 = s and z_2 = (1 - s) t, by Gauss's rules of 20 nodes, exact for polynomials."""
    p = Flow(Inverse(SumTo1()), Dirichlet([3.0, 2.0, 4.0]))
    u, w = np.polynomial.legendre.leggauss(20)
    s, t = np.meshgrid((u + 1) / 2, (u + 1) / 2, indexing="ij")
    total = np.exp(p.log_prob(np.stack((s, (1 - s) * t), -1))) * (1 - s) * np.multiply.outer(w, w) / 4
    assert abs(total.sum() - 1) < 1e-13


def test_mass_of_cut_points():
    """Of the sums of a Dirichlet vector, which ascend: 0 < x_1 < x_2 < 1."""
    p = Flow(SimplexToOrdered(), Dirichlet([3.0, 2.0, 4.0]))
    f = Chain([StickBreaking(), SimplexToOrdered()])
    assert abs(mass(Flow(Inverse(f), p), lambda step: plain(-40, 40, step / 3), 2) - 1) < 1e-10


@pytest.mark.parametrize("D, f, axis", [
    (2, CorrelationCholesky(), lambda step: plain(-20, 20, step / 16)), (2, RowNormalisedCorrelation(), lambda step: far(30, step / 16)),
    (3, CorrelationCholesky(), lambda step: plain(-11, 11, 0.27 * step))], ids=["tanh", "norms", "tanh 3"])
@pytest.mark.parametrize("concentration", [1.0, 2.5])
def test_mass_behind_maps_onto_factors_of_correlations(D, f, axis, concentration):
    """On R and on R^3, and of the matrix of correlations."""
    p, count = LKJCholesky(concentration, D), D * (D - 1) // 2
    assert abs(mass(Flow(Inverse(f), p), axis, count) - 1) < 1e-8
    if D == 2:
        own = IntrinsicVolume("correlation_cholesky")
        assert abs(mass(Flow(Inverse(Chain([f, own])), Flow(own, p)), axis, 1) - 1) < 1e-8
        matrix = Flow(CorrelationOuterProduct(), p)
        assert abs(mass(Flow(Inverse(Chain([f, CorrelationOuterProduct()])), matrix), axis, 1) - 1) < 1e-8


def test_mass_of_correlations_without_rows():
    """RowNormalisedCorrelation of D = 3, by the coordinates w_1, (w_2, w_3), with w_i = sinh u_i."""
    p = Flow(Inverse(RowNormalisedCorrelation()), LKJCholesky(2.0, 3))
    assert abs(trapezoid(p, [far(8, 0.25)] * 3) - 1) < 1e-10


def test_mass_behind_maps_onto_factors():
    """On R^3; CholeskyFactor says which entries are its diagonal."""
    p = Flow(Inverse(CholeskyFactor()), WishartCholesky(4.5, L))
    axes = [plain(-12, 12, 0.3) if moves_below(k) else plain(-6, 3.5, 0.12) for k in range(3)]
    assert abs(trapezoid(p, axes) - 1) < 1e-9


def moves_below(k):
    return CholeskyFactor().forward(np.eye(3)[k])[1, 0] != 0


# -- other libraries --------------------------------------------------------------------------------------------------------

def test_dirichlet_of_scipy():
    p = Dirichlet(A)
    z = p.sample(np.random.default_rng(0), 20)
    assert np.allclose(p.log_prob(z), scipy.stats.dirichlet.logpdf((z / z.sum(-1, keepdims=True)).T, A), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("D, df", [(1, 0.5), (2, 1.25), (3, 7.5)])
def test_wishart_of_scipy(D, df):
    """Densities of matrices by their entries on and below the diagonal; the inverse has the inverse scale."""
    own, rng = np.tril(np.cos(np.arange(D * D)).reshape(D, D), -1) + np.diag(np.arange(1, D + 1) / 2), np.random.default_rng(0)
    factors = WishartCholesky(df, own)
    wishart = Flow(CholeskyOuterProduct(), factors)
    inverse = Flow(Chain([CholeskyToInverseCholesky(), CholeskyOuterProduct()]), factors)
    scale = own @ own.T
    W = [X @ X.T for X in WishartCholesky(df + 2, own).sample(rng, 10)]
    wanted = [scipy.stats.wishart.logpdf(w, df, scale) for w in W]
    assert np.allclose([wishart.log_prob(w) for w in W], wanted, rtol=1e-9, atol=1e-9)
    V = [np.linalg.inv(w) for w in W]
    V = [(v + v.T) / 2 for v in V]
    wanted = [scipy.stats.invwishart.logpdf(v, df, np.linalg.inv(scale)) for v in V]
    assert np.allclose([inverse.log_prob(v) for v in V], wanted, rtol=1e-8, atol=1e-8)
    assert inverse.support.same(sets.positive_definite) and inverse.sample(rng, 3).shape == (3, D, D)


def test_the_transposed_inverse_is_another_chain():
    """TriangularInverse gives the upper factor of the inverse matrix, transposed: L^-T L^-1 = M M^T for another M."""
    X = WishartCholesky(3.0, L).sample(np.random.default_rng(0), 1)[0]
    inverse = np.linalg.inv(X @ X.T)
    Y, M = TriangularInverse().forward(X), CholeskyToInverseCholesky().forward(X)
    assert np.allclose(Y.T @ Y, inverse) and np.allclose(M @ M.T, inverse) and not np.allclose(Y @ Y.T, inverse)


def test_torch():
    torch = pytest.importorskip("torch")
    rng, own = np.random.default_rng(3), np.array([[1.0, 0.0, 0.0], [0.5, 0.7, 0.0], [-0.3, 0.2, 1.1]])
    p, t = Dirichlet(A), torch.distributions.Dirichlet(torch.tensor(A, dtype=torch.float64))
    z = p.sample(rng, 10)
    assert np.allclose(p.log_prob(z), t.log_prob(torch.tensor(z)))
    for D in (2, 4):
        p, t = LKJCholesky(1.7, D), torch.distributions.LKJCholesky(D, torch.tensor(1.7, dtype=torch.float64))
        z = p.sample(rng, 10)
        assert np.allclose(p.log_prob(z), t.log_prob(torch.tensor(z)))
    t = torch.distributions.Wishart(torch.tensor(4.5, dtype=torch.float64), scale_tril=torch.tensor(own))
    p = Flow(CholeskyOuterProduct(), WishartCholesky(4.5, own))
    S = p.sample(rng, 10)
    assert np.allclose(p.log_prob(S), t.log_prob(torch.tensor(S)))


def test_a_correlation_of_two_numbers_is_a_beta_variable():
    """(1 + r)/2 ~ Beta(c, c)."""
    r = np.linspace(-0.95, 0.95, 7)
    p = Flow(CorrelationOuterProduct(), LKJCholesky(1.5, 2))
    R = np.array([[[1, s], [s, 1]] for s in r])
    assert np.allclose(p.log_prob(R), scipy.stats.beta(1.5, 1.5).logpdf((1 + r) / 2) - np.log(2))


# -- samples ----------------------------------------------------------------------------------------------------------------

def test_samples_have_the_moments():
    """Means of 20000 draws, 6 deviations of them at most."""
    n, rng = 20000, np.random.default_rng(0)
    z = Dirichlet(A).sample(rng, n)
    assert near(z, np.array(A) / np.sum(A))
    R = Flow(CorrelationOuterProduct(), LKJCholesky(0.8, 3)).sample(rng, n)
    off = R[:, [1, 2, 2], [0, 0, 1]]
    assert near(off, 0) and near(off**2, 1 / (2 * 0.8 + 2))             # (1 + r)/2 ~ Beta(c + (D - 2)/2, the same)
    W = Flow(CholeskyOuterProduct(), WishartCholesky(4.5, L)).sample(rng, n)
    assert near(W, 4.5 * L @ L.T)
    V = Flow(Chain([CholeskyToInverseCholesky(), CholeskyOuterProduct()]), WishartCholesky(9.5, L)).sample(rng, n)
    assert near(V, np.linalg.inv(L @ L.T) / (9.5 - 3))


def near(draws, wanted):
    deviation = draws.std(0) / np.sqrt(len(draws))
    return bool((np.abs(draws.mean(0) - wanted) <= 6 * deviation).all())


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
def test_tiny_parameters(dtype):
    """Gamma variables underflow, their logarithms do not: samples are at corners, and in the support."""
    rng, tiny = np.random.default_rng(0), dtype(2.0**-20)
    z = Dirichlet(np.full(4, tiny)).sample(rng, 50)
    assert z.dtype == dtype and not sets.simplex.outside(z).any() and (z.max(-1) > 1 - 1e-6).all()
    assert set(z.argmax(-1)) == {0, 1, 2, 3}
    X = LKJCholesky(tiny, 3).sample(rng, 50)
    assert X.dtype == dtype and not sets.correlation_cholesky.outside(X).any() and (X[:, 2, 2] < 1e-6).all()
    Y = WishartCholesky(dtype(2 + 2.0**-20), np.eye(3, dtype=dtype)).sample(rng, 50)
    assert Y.dtype == dtype and not sets.cholesky_factor.outside(Y).any()
    for p, x in ((Dirichlet(np.full(4, tiny)), z), (LKJCholesky(tiny, 3), X)):
        assert np.isfinite(p.log_prob(x)).all()


def test_concentrations_of_the_smallest_size():
    """The logarithms of gamma variables overflow, too; each corner is as likely as its concentration says."""
    z = Dirichlet([1e-310, 3e-310]).sample(np.random.default_rng(0), 2000)
    assert set(z.max(-1)) == {1.0} and abs((z[:, 1] == 1).mean() - 0.75) < 6 * np.sqrt(0.1875 / 2000)


def test_samples_carry_gradients_of_the_scale_alone():
    p, h = WishartCholesky(3.5, L), 1e-6
    z, pullback = p.sample_vjp(np.random.default_rng(5), 3)
    z_bar = np.cos(np.arange(z.size)).reshape(z.shape)
    bars = pullback(z_bar)
    assert np.isnan(bars["df"]) and bars["df"].shape == ()

    def value(scale):
        return (WishartCholesky(3.5, scale).sample(np.random.default_rng(5), 3) * z_bar).sum()

    step = h * np.array([[0.0, 0.0], [1.0, 0.0]])
    assert np.isclose(bars["cholesky"][1, 0], (value(L + step) - value(L - step)) / (2 * h))
    with pytest.raises(ValueError, match="WishartCholesky: a sample is not a differentiable function of df; `sample` draws"):
        p.sample_and_log_prob_vjp(np.random.default_rng(0), 1)


@pytest.mark.parametrize("p", [Dirichlet(A), LKJCholesky(2.0, 3)], ids=repr)
def test_no_gradient_is_made_up(p):
    """Alone and below a flow; its samples are drawn all the same."""
    flow = Flow(IntrinsicVolume(p.support.name), p)
    for q in (p, flow):
        with pytest.raises(ValueError, match="a sample is not a differentiable function of concentration"):
            q.sample_vjp(np.random.default_rng(0), 2)
        with pytest.raises(ValueError, match="a sample is not a differentiable function of concentration"):
            q.sample_and_log_prob_vjp(np.random.default_rng(0), 2)
        assert np.isfinite(q.log_prob(q.sample(np.random.default_rng(0), 2))).all()


# -- planted samplers ---------------------------------------------------------------------------------------------------------

def lkj_rows(self, rng, lead):
    """s_i = c in all rows."""
    e, D = rng.standard_normal(lead + self.event_shape), self.dimension
    v = np.tril(e, -1) + np.sqrt(2 * rng.standard_gamma(self.concentration[..., None], lead + (D,)))[..., None] * np.eye(D)
    return v / np.sqrt((v * v).sum(-1, keepdims=True))


def wishart_rows(self, rng, lead):
    """k_i in the other order."""
    k, i = self.degrees()[..., ::-1], np.arange(self.dims["D"])
    T = np.tril(rng.standard_normal(size=lead + self.event_shape), -1)
    T[..., i, i] = np.sqrt(2 * rng.standard_gamma(k / 2, size=lead + i.shape))
    return self.cholesky @ T, lambda X_bar: {"cholesky": np.tril(X_bar @ T.mT)}


def normals(self, rng, lead):
    """A logistic normal vector with the right mean of each logarithm of a ratio."""
    a = self.concentration
    spread = np.sqrt(scipy.special.polygamma(1, a))
    g = np.exp(scipy.special.psi(a) + spread * rng.standard_normal(lead + a.shape[-1:]))
    return g / g.sum(-1, keepdims=True)


@pytest.mark.parametrize("page, name, sampler, fields", [
    (LKJCholesky, "sample", lkj_rows, (np.full(8, 2.0), 3)), (WishartCholesky, "sample_vjp", wishart_rows, (np.full(8, 4.0), np.stack([L] * 8))),
    (Dirichlet, "sample", normals, (np.full((8, 3), 0.5),))], ids=["rows", "order", "logistic normal"])
def test_a_wrong_sampler_is_caught(page, name, sampler, fields):
    """By the one law that compares many samples with log_prob."""
    run_density_laws(page(*fields))
    again = {"__doc__": page.__doc__, "__annotations__": dict.fromkeys(page.declared, "Array"), **page.declared, name: sampler}
    with pytest.raises(AssertionError, match="samples follow log_prob"):
        run_density_laws(density(register=False)(type(page.__name__, (page,), again))(*fields))


# -- members and measures -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("p, event", [
    (Dirichlet(A), [0.5, 0.5, 0.5]), (Dirichlet(A), [0.5, 0.5, 0.0]), (Dirichlet(A), [1.5, -0.25, -0.25]), (Dirichlet(A), [np.inf, 0.5, 0.5]),
    (LKJCholesky(2.0, 2), [[1.0, 0.0], [0.5, 0.5]]), (LKJCholesky(2.0, 2), [[1.0, 0.0], [1.0, 0.0]]), (LKJCholesky(2.0, 2), np.ones((2, 2))),
    (WishartCholesky(3.0, L), np.ones((2, 2))), (WishartCholesky(3.0, L), [[1.0, 0.0], [0.0, -1.0]])])
def test_beside_the_set(p, event):
    log_prob, pullback = p.log_prob_vjp(event)
    event_bar, bars = pullback(1.0)
    assert log_prob == p.log_prob(event) == -np.inf and not event_bar.any() and not any(bar.any() for bar in bars.values())


def test_what_is_refused():
    with pytest.raises(ValueError, match="df must exceed D - 1 = 1; df = 1.0"):
        WishartCholesky(1.0, L)
    with pytest.raises(ValueError, match="its events have shape"):
        LKJCholesky(1.0, 3).log_prob(np.eye(2))
    with pytest.raises(ValueError, match="must not be NaN"):
        Dirichlet(A).log_prob([np.nan, 0.5, 0.5])


@pytest.mark.parametrize("f, base, why", [
    (Affine(0.0, 2.0), Dirichlet(A), r"Flow: Affine maps all entries of an event, and what arrives is of lower dimension \(simplex\)"),
    (Inverse(IntrinsicVolume("simplex")), Dirichlet(A), r"Flow: Inverse\(IntrinsicVolume\) counts volumes on simplex by its own volume, and what "
     r"arrives is simplex: put IntrinsicVolume\('simplex'\) between"),
    (Inverse(StickBreaking()), Flow(IntrinsicVolume("simplex"), Dirichlet(A)),
     r"counts volumes on simplex, and what arrives is simplex by its own volume: put Inverse\(IntrinsicVolume\('simplex'\)\) between"),
    (Inverse(StickBreaking()), DiagonalNormal(np.zeros(3), np.ones(3)),
     "Flow: the base's support, real, is not inside the domain of Inverse, simplex"),
    (CorrelationOuterProduct(), WishartCholesky(3.0, L), "support, cholesky_factor, is not inside the domain of CorrelationOuterProduct"),
    (CholeskyOuterProduct(), LKJCholesky(3.0, 2), "support, correlation_cholesky, is not inside the domain of CholeskyOuterProduct")])
def test_a_base_of_another_set_or_measure_is_refused(f, base, why):
    with pytest.raises(ValueError, match=why):
        Flow(f, base)


def test_a_flow_onto_the_simplex_and_its_density_agree():
    """A Dirichlet density behind StickBreaking and a normal one before it are densities of the same events by the same measure."""
    forward, back = Flow(StickBreaking(), StandardNormal(2)), Flow(Inverse(StickBreaking()), Dirichlet(A))
    y = np.array([0.3, -0.8])
    z, log_det = StickBreaking().forward_and_log_det(y)
    assert np.isclose(forward.log_prob(z) + log_det, StandardNormal(2).log_prob(y))
    assert np.isclose(back.log_prob(y), Dirichlet(A).log_prob(z) + log_det)
    assert back.support.same(sets.real) and forward.support.same(sets.simplex)


def test_many_digits():
    """A posterior of 10^12 counts, at its mean."""
    a = [1e12, 2e12, 3e12]
    z = np.array(a) / np.sum(a)
    with mpmath.workdps(60):
        right = mpmath.loggamma(sum(map(mpmath.mpf, a))) + sum((mpmath.mpf(a_i) - 1) * mpmath.log(mpmath.mpf(float(z_i))) - mpmath.loggamma(a_i)
                                                               for a_i, z_i in zip(a, z))
    assert abs(Dirichlet(a).log_prob(z) - float(right)) < 1e-3                         # u sum a = 6e-4 is what the rounding of z costs
