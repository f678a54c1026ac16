"""Base densities and flows: against scipy.stats, quadrature, and truth in 110-digit arithmetic.

Truth: a log density written down in mpmath, its gradients by central differences of step h = 1e-35, whose error, of order
h^2, is far below any float's.  Errors are in units of u kappa, kappa = |q| + sum |dq/dinput| |input| over event, parameters
and cotangent.
"""

import pickle

import numpy as np
import pytest
import scipy
from mpmath import mp, mpf

from tallies import check_question
from refflow import (ActNorm, Affine, Chain, Concatenate, DenseLinear, DiagonalNormal, Dirichlet, Exp, Flow, FullNormal, Independent,
                     Inverse, Logistic, NormalMixture, Sigmoid, StandardLogistic, StandardNormal, StickBreaking, Tanh,
                     Uniform)
from refflow.core import Array, Bijector, bijector, context, density, of_kind, real
from refflow.laws import density_laws
from refflow.laws.density_laws import run_density_laws
from refflow.maps import load_all
from refflow.truth.measure import truth_of_kind
from validation.questions import Question

load_all()

STEP = mpf(10) ** -35
DTYPES = [np.float64, np.float32]


@pytest.fixture(autouse=True)
def precision():
    with mp.workdps(110):
        yield


# ---------------------------------------------------------------- truth

def slope(f, v, j):
    h = STEP * (abs(v[j]) or STEP)
    up, down = list(v), list(v)
    up[j], down[j] = v[j] + h, v[j] - h
    return (f(up) - f(down)) / (2 * h)


def gradient(f, v):
    return np.array([slope(f, v, j) for j in range(len(v))], object)


def unit(q, v, bars=()):
    """kappa of every entry of q(v); `bars` are the same q for each single cotangent entry; q is linear in these."""
    return abs(q(v)) + sum(abs(slope(q, v, j) * v[j]) for j in range(len(v))) + sum(abs(b) for b in bars)


def flat(*arrays):
    return [mpf(float(x)) for a in arrays for x in np.ravel(a)]


def pieces(v, shapes):
    ends = np.cumsum([int(np.prod(s)) for s in shapes])
    return [np.array(part, object).reshape(s) for part, s in zip(np.split(np.array(v, object), ends[:-1]), shapes)]


def units(given, true, kappa, dtype):
    """The largest |given - true| / (u kappa)."""
    limits = np.finfo(dtype)
    u, spacing, largest = float(limits.eps) / 2, float(limits.smallest_subnormal), float(limits.max)
    found = 0.0
    for g, t, k in zip(np.ravel(given), np.ravel(true), np.ravel(kappa)):
        if abs(t) > largest:
            assert np.isinf(g) and np.sign(g) == mp.sign(t)
        else:
            assert np.isfinite(g), (g, t)
            found = max(found, float(abs(mpf(float(g)) - t) / max(u * k, spacing)))
    return found


def normal(z, loc, scale):
    return sum(-((a - b) / s) ** 2 / 2 - mp.log(s) - mp.log(2 * mp.pi) / 2 for a, b, s in zip(z.flat, loc.flat, scale.flat))


def standard(z):
    return normal(z, np.zeros(z.shape, object), np.ones(z.shape, object))


def logistic(z, loc, scale):
    t = [abs((a - b) / s) for a, b, s in zip(z.flat, loc.flat, scale.flat)]
    return -sum(x + 2 * mp.log1p(mp.exp(-x)) for x in t) - sum(mp.log(s) for s in scale.flat)


def standard_logistic(z):
    return logistic(z, np.zeros(z.shape, object), np.ones(z.shape, object))


def uniform(z, low, high):
    return -sum(mp.log(h - a) for a, h in zip(low.flat, high.flat))


def full(z, loc, L):
    d, t = z - loc, []
    for i in range(len(d)):
        t.append((d[i] - sum(L[i, j] * t[j] for j in range(i))) / L[i, i])
    return -sum(x * x for x in t) / 2 - sum(mp.log(L[i, i]) for i in range(len(d))) - len(d) * mp.log(2 * mp.pi) / 2


def mixture(z, w, loc, scale):
    a = [mp.log(wk) + normal(z, m, s) for wk, m, s in zip(w, loc, scale)]
    return max(a) + mp.log(sum(mp.exp(x - max(a)) for x in a))


TRUTH = {StandardNormal: standard, StandardLogistic: standard_logistic, DiagonalNormal: normal, Logistic: logistic,
         Uniform: uniform, FullNormal: full, NormalMixture: mixture}


def numbers(rng, dtype, spread, *shape):
    return np.exp2(rng.uniform(-spread, spread, shape)).astype(dtype)


def drawn(rng, cls, n, dtype, spread):
    """A density of events of n entries, or of a scalar for n = 0, with parameters of magnitude 2^-spread to 2^spread."""
    shape = (n,) if n else ()
    loc = (rng.choice([-1, 1], shape) * numbers(rng, dtype, spread, *shape)).astype(dtype)
    scale = numbers(rng, dtype, spread, *shape)
    if cls in (StandardNormal, StandardLogistic):
        return cls(shape)
    if cls is Uniform:
        return Uniform(loc - scale, loc + scale)
    if cls is FullNormal:
        L = np.tril(rng.choice([-1, 1], (n, n)) * numbers(rng, dtype, 1, n, n), -1) + np.eye(n)
        return FullNormal(loc, (L * numbers(rng, dtype, min(spread, 10), n, 1)).astype(dtype))
    if cls is NormalMixture:
        w = numbers(rng, np.float64, 3, 2)
        return NormalMixture((w / w.sum()).astype(dtype), rng.choice([-1, 1], (2, n)).astype(dtype)
                             * numbers(rng, dtype, spread, 2, n), numbers(rng, dtype, spread, 2, n))
    return cls(loc, scale)


def largest_log(base):
    """The size of the logarithms that are summed in a mixture's exponents; they are rounded before exp is taken."""
    if not isinstance(base, NormalMixture):
        return 0
    return np.abs(np.log(base.weights)).max() + np.abs(np.log(base.scale)).sum(-1).max()


# ---------------------------------------------------------------- log_prob and its gradients

@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls, n", [(StandardNormal, 0), (StandardNormal, 3), (StandardLogistic, 0), (StandardLogistic, 3),
                                    (DiagonalNormal, 0), (DiagonalNormal, 3), (Logistic, 0), (Logistic, 2), (Uniform, 2),
                                    (FullNormal, 3), (NormalMixture, 1), (NormalMixture, 2)])
def test_log_prob_and_gradients(cls, n, dtype):
    rng = np.random.default_rng(n)
    for spread, far in ((1, False), (3, False), (60 if dtype is np.float64 else 20, False), (1, True)):
        base = drawn(rng, cls, n, dtype, spread)
        z = base.sample(rng, 1)[0].astype(dtype)
        if far and cls is not Uniform:
            z = np.full_like(z, 1e25)
        b = dtype(rng.choice([-1, 1]) * np.exp2(rng.uniform(-spread, spread)))
        if cls is Uniform and base.log_prob(z) == -np.inf:
            continue
        keys = list(base.params())
        arrays = [z, *base.params().values()]
        shapes, v = [a.shape for a in arrays], flat(*arrays)

        def log_p(v):
            return TRUTH[cls](*pieces(v, shapes))

        def bars(v):
            return gradient(log_p, v) * mpf(float(b))

        log_prob, pullback = base.log_prob_vjp(z)
        z_bar, params_bar = pullback(b)
        given = [z_bar] + [params_bar[k] for k in keys]
        assert log_prob.dtype == dtype and log_prob == base.log_prob(z)
        assert all(g.dtype == dtype and g.shape == s for g, s in zip(given, shapes))
        allowed = 4 + n / 2 + largest_log(base)
        assert units(log_prob, log_p(v), unit(log_p, v), dtype) <= allowed
        true, kappa = pieces(bars(v), shapes), pieces(unit(bars, v, [bars(v)]), shapes)
        for key, g, t, k in zip(["z", *keys], given, true, kappa):
            t, k = (np.tril(t), np.tril(k)) if key == "cholesky" else (t, k)
            assert units(g, t, k, dtype) <= allowed, (key, spread, far)


def test_extreme_events():
    """Where log p overflows to -inf its gradient is a number; t may overflow where a small cotangent's product does not."""
    log_prob, pullback = StandardNormal().log_prob_vjp(2.0**1000)
    assert log_prob == -np.inf and pullback(0.5)[0] == -(2.0**999)
    log_prob, pullback = StandardLogistic(2).log_prob_vjp([2.0**1023, -(2.0**1023)])
    assert log_prob == -np.inf and pullback(0.5)[0].tolist() == [-0.5, 0.5]
    log_prob, pullback = Flow(Affine(0.0, 2.0), StandardNormal()).log_prob_vjp(2.0**1000)
    assert log_prob == -np.inf and pullback(1.0)[0] == -(2.0**998)
    for cls, slope_there in ((DiagonalNormal, -(2.0**1000)), (Logistic, -(2.0**-30))):
        log_prob, pullback = cls(0.0, 2.0**-30).log_prob_vjp(2.0**1000)
        assert log_prob == -np.inf and pullback(2.0**-60)[0] == slope_there
    weights, loc = [0.5, 0.5], [[0.0, 1.0], [3.0, 2.0]]
    log_prob, pullback = NormalMixture(weights, loc, np.full((2, 2), 2.0**-40)).log_prob_vjp([2.0**1000, -(2.0**1000)])
    z_bar, params_bar = pullback(2.0**-60)
    assert log_prob == -np.inf and z_bar.tolist() == [-(2.0**1020), 2.0**1020]
    assert not any(np.isnan(bar).any() for bar in params_bar.values())
    log_prob, pullback = FullNormal([0.0, 0.0], [[2.0**-10, 0.0], [1.0, 2.0**-10]]).log_prob_vjp([2.0**1000, 2.0**1000])
    assert log_prob == -np.inf and not np.isnan(pullback(2.0**-60)[0]).any()


def agrees(given, expected, terms):
    """Agreement of two sums of numbers of magnitude `terms`, each term off by a few roundings: 16 u sum|terms|."""
    assert np.all(np.abs(given - expected) <= 16 * 2.0**-53 * terms)


def test_against_scipy_stats():
    rng = np.random.default_rng(5)
    z, loc, scale = rng.standard_normal((40, 3)) * 5, rng.standard_normal(3), np.exp(rng.standard_normal(3))
    t = np.abs(z - loc) / scale
    size = (1 + t * t + np.abs(np.log(scale)) + np.abs(loc / scale) * (1 + t)).sum(-1)
    agrees(StandardNormal(3).log_prob(z), scipy.stats.norm.logpdf(z).sum(-1), (1 + z * z).sum(-1))
    agrees(DiagonalNormal(loc, scale).log_prob(z), scipy.stats.norm.logpdf(z, loc, scale).sum(-1), size)
    agrees(Logistic(loc, scale).log_prob(z), scipy.stats.logistic.logpdf(z, loc, scale).sum(-1), size)
    agrees(StandardLogistic(3).log_prob(z), scipy.stats.logistic.logpdf(z).sum(-1), (1 + np.abs(z)).sum(-1))
    agrees(Uniform(-20.0, 30.0, 3).log_prob(z), scipy.stats.uniform.logpdf(z, -20, 50).sum(-1), 3 * np.log(50))
    covariance = np.diag(scale**2)
    agrees(FullNormal(loc, np.diag(scale)).log_prob(z), scipy.stats.multivariate_normal(loc, covariance).logpdf(z),
           size * np.linalg.cond(covariance))
    weights, locs, scales = np.array([0.2, 0.8]), np.stack([loc, -loc]), np.stack([scale, 1 / scale])
    parts = [np.log(w) + scipy.stats.norm.logpdf(z, m, s).sum(-1) for w, m, s in zip(weights, locs, scales)]
    sizes = np.max([1 + np.abs(p) + np.abs(z / s).sum(-1) ** 2 for p, s in zip(parts, scales)], 0)
    agrees(NormalMixture(weights, locs, scales).log_prob(z), np.logaddexp(*parts), sizes)


LINE = [StandardNormal(), StandardLogistic(1), DiagonalNormal(1.0, 0.5), Logistic(-1.0, 2.0), Uniform(-1.0, 2.5),
        DiagonalNormal([0.3], [2.0]), FullNormal([1.0], [[2.0]]), NormalMixture([0.3, 0.7], [[-2.0], [1.0]], [[0.5], [1.5]]),
        Flow(Tanh(), StandardNormal()), Flow(Exp(), Logistic(0.0, 0.5)),
        Flow(Chain([Affine(0.5, -2.0), Sigmoid()]), Uniform(-3.0, 3.0)),
        Flow(Chain([Exp(), Affine(1.0, 2.0)]), StandardNormal())]


@pytest.mark.parametrize("p", LINE, ids=repr)
def test_integral_on_the_line(p):
    """Quadrature, between the support's ends, of a density that is one number for each event; its error estimate decides."""
    event = (1,) * p.rank
    lower, upper = (p.low, p.high) if isinstance(p, Uniform) else (p.support.lower, p.support.upper)
    if isinstance(p, Flow) and p.support is real and isinstance(p.bijector.stages[0], Exp):
        lower = 1.0
    if isinstance(p, Flow) and isinstance(p.base, Uniform):
        lower, upper = sorted(float(p.bijector.forward(np.clip(e, -3, 3))) for e in (-3.0, 3.0))
    def value(x):
        return float(np.exp(p.log_prob(np.reshape(x, event))))

    total, error = scipy.integrate.quad(value, float(lower), float(upper), epsabs=1e-9, epsrel=1e-9, limit=200)
    assert error < 1e-8 and abs(total - 1) <= error


PLANE = [FullNormal([0.5, -0.5], [[1.0, 0.0], [0.8, 0.6]]),
         NormalMixture([0.4, 0.6], [[0.0, 1.0], [1.0, -1.0]], [[1.0, 0.7], [0.8, 1.0]]),
         Flow(DenseLinear([[1.0, 0.5], [-0.3, 0.8]], [0.2, 0.1]), StandardNormal(2)),
         Flow(Chain([DenseLinear([[0.5, 0.2], [0.1, 0.6]]), Affine(0.1, 1.2)]), Logistic([0.0, 0.1], [0.3, 0.4]))]


@pytest.mark.parametrize("p", PLANE, ids=repr)
def test_integral_in_the_plane(p):
    """The trapezoidal rule, whose error falls as exp(-2 pi a / h) for a density analytic in a strip of width a: two steps
    show it to be at the level of rounding.  The mass beyond the edge, 10, is below exp(-10 / 0.4), the mass of a logistic tail.
    """
    def total(step):
        x = np.arange(-10, 10 + step, step)
        grid = np.stack(np.meshgrid(x, x, indexing="ij"), -1)
        return np.exp(p.log_prob(grid)).sum() * step**2

    fine, coarse = total(2.0**-4), total(2.0**-3)
    assert abs(fine - 1) <= abs(fine - coarse) + np.exp(-25.0)
    assert abs(fine - coarse) < 1e-12


# ---------------------------------------------------------------- samples and their gradients

@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", of_kind("density"))
def test_laws(name, dtype):
    check_question(Question("density", name, np.dtype(dtype).name))


def twice_as_wide(self, rng, lead):
    z, pullback = type(self).__mro__[1].sample_vjp(self, rng, lead)
    return 2 * z - self.loc, lambda z_bar: pullback(2 * z_bar) | {"loc": z_bar}


def equal_shares(self, rng, lead):
    return NormalMixture.drawn(self.replace(weights=np.full_like(self.weights, 1 / self.weights.shape[-1])).unchecked(
        self.weights.dtype), rng, lead)


def scale_without_noise(self, rng, lead):
    z, _ = DiagonalNormal.sample_vjp(self, rng, lead)
    return z, lambda z_bar: {"loc": z_bar, "scale": z_bar}


def weights_alone(self, z):
    pullback = NormalMixture.implicit(self, z)
    return lambda z_bar: pullback(z_bar) | {"weights": 0 * pullback(z_bar)["weights"]}


def rotated(self, rng, lead):
    """A rotation of t carries the normal density into itself."""
    z, _ = DiagonalNormal.sample_vjp(self, rng, lead)
    t = (z - self.loc) / self.scale

    def pullback(z_bar):
        turn = (z_bar * self.scale * np.roll(t, 1, -1) * np.array([-1, 1])).sum(-1, keepdims=True)
        return {"loc": z_bar + turn * np.array([1, 0]), "scale": z_bar * t}

    return z, pullback


def low_of_another_noise(self, rng, lead):
    z, pullback = Uniform.sample_vjp(self, rng, lead)
    return z, lambda z_bar: pullback(z_bar) | {"low": pullback(z_bar)["low"] - z_bar}


def direct_part_forgotten(self, rng, lead):
    z, sample_pullback = self.sample_vjp(rng, lead)
    log_prob, pullback = self.log_prob_vjp(z)
    return (z, log_prob), lambda z_bar, b: sample_pullback(z_bar + pullback(b)[0])


def ends_are_drawn(self, rng, lead):
    e = rng.random(size=lead + self.shape).astype(self.low.dtype)
    return self.low + (self.high - self.low) * e, lambda z_bar: {"low": (1 - e) * z_bar, "high": e * z_bar}


def of_another_concentration(self, rng, lead):
    return Dirichlet.sample(self.replace(concentration=self.concentration + 0.25).unchecked(self.concentration.dtype), rng, lead)


PAIR, LINE_2 = np.array([0.5, -1.0]), np.ones((8, 2))
BUGGED = [
    ("log_prob is the density of the samples", DiagonalNormal, "sample_vjp", twice_as_wide, (PAIR * LINE_2, LINE_2)),
    ("log_prob is the density of the samples", NormalMixture, "drawn", equal_shares,
     (LINE_2 * [0.125, 0.875], LINE_2[..., None] * [[1.0], [-1.0]], LINE_2[..., None])),
    ("samples carry their probability along", DiagonalNormal, "sample_vjp", scale_without_noise, (PAIR * LINE_2, LINE_2)),
    ("samples carry their probability along", NormalMixture, "implicit", weights_alone,
     (LINE_2 * 0.5, LINE_2[..., None] * [[1.0], [-1.0]], LINE_2[..., None])),
    ("an entry of a sample moves with the entries before it", DiagonalNormal, "sample_vjp", rotated, (PAIR * LINE_2, LINE_2)),
    ("a sample's pullback is its gradient", Uniform, "sample_vjp", low_of_another_noise, (-LINE_2, LINE_2)),
    ("samples follow log_prob", Dirichlet, "sample", of_another_concentration, (2 * LINE_2,)),
    ("samples are one function", Logistic, "sample_and_log_prob_vjp", direct_part_forgotten, (LINE_2, LINE_2)),
    ("the density is 0 outside the support", Uniform, "sample_vjp", ends_are_drawn, (LINE_2, 2 * LINE_2)),
]


def planted(page, **functions):
    """The page again, with other functions."""
    again = {"__doc__": page.__doc__, "__annotations__": dict.fromkeys(page.declared, "Array"), **page.declared, **functions}
    return density(register=False)(type(page.__name__, (page,), again))


@pytest.mark.parametrize("law, page, method, bug, fields", BUGGED, ids=[f"{bug.__name__}" for *_, bug, _ in BUGGED])
def test_a_bug_of_sampling_is_caught(law, page, method, bug, fields):
    run_density_laws(planted(page)(*fields))
    with pytest.raises(AssertionError) as broken:
        run_density_laws(planted(page, **{method: bug})(*fields))
    assert law in [line.split(":")[0] for line in str(broken.value).splitlines() if "raised" not in line]


def test_every_law_of_densities_has_a_bug():
    assert {law for law, *_ in BUGGED} == set(density_laws.LAWS)


def conditional_cdfs(z, w, loc, scale):
    c, found = list(w), []
    for d in range(len(z)):
        t = [(z[d] - loc[k, d]) / scale[k, d] for k in range(len(w))]
        found.append(sum(ck * mp.ncdf(tk) for ck, tk in zip(c, t)) / sum(c))
        c = [ck * mp.npdf(tk) / scale[k, d] for k, (ck, tk) in enumerate(zip(c, t))]
    return np.array(found, object)


def implicit_gradient(v, shapes, z_bar):
    """-z_bar (dF/dz)^-1 dF/dparams of the conditional distribution functions F."""
    D = len(z_bar)
    J = [slope(lambda v: conditional_cdfs(*pieces(v, shapes)), v, j) for j in range(len(v))]
    V = [mpf(0)] * D
    for d in reversed(range(D)):
        V[d] = (z_bar[d] - sum(V[i] * J[d][i] for i in range(d + 1, D))) / J[d][d]
    return np.array([-sum(V[i] * J[j][i] for i in range(D)) for j in range(D, len(v))], object)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("K, D, spread, tail", [(1, 2, 2, 0), (2, 1, 3, 0), (2, 2, 1, 0), (3, 2, 2, 0),
                                             (2, 1, 1, 7), (2, 1, 1, -7)])
def test_mixture_sample_gradient(K, D, spread, tail, dtype):
    """`tail` shifts the event by this multiple of the largest scale, to where Phi rounds to 0 or 1."""
    rng = np.random.default_rng(K + D)
    w = numbers(rng, np.float64, spread, K)
    loc = (rng.choice([-1, 1], (K, D)) * numbers(rng, dtype, spread, K, D)).astype(dtype)
    base = NormalMixture((w / w.sum()).astype(dtype), loc, numbers(rng, dtype, spread, K, D))
    z = base.sample(np.random.default_rng(0), 1) + dtype(tail) * base.scale.max()
    z_bar = rng.standard_normal(z.shape).astype(dtype)
    params_bar = base.unchecked(np.dtype(dtype)).implicit(z[0])(z_bar[0])
    if not tail:
        public = base.sample_vjp(np.random.default_rng(0), 1)[1](z_bar)
        assert all(np.array_equal(params_bar[k], public[k]) for k in base.params())
    arrays = [z[0], base.weights, base.loc, base.scale]
    shapes, v, bars = [a.shape for a in arrays], flat(*arrays), flat(z_bar)

    def q(v):
        return implicit_gradient(v, shapes, bars)

    alone = [implicit_gradient(v, shapes, [b * (i == j) for i, b in enumerate(bars)]) for j in range(D)]
    for key, t, k in zip(base.params(), pieces(q(v), shapes[1:]), pieces(unit(q, v, alone), shapes[1:])):
        assert params_bar[key].dtype == dtype and params_bar[key].shape == t.shape
        if K > 1 or key != "weights":
            assert units(params_bar[key], t, k, dtype) <= 4 + (K + D) / 2, key


KS = [(StandardNormal(), scipy.stats.norm()), (StandardLogistic(1), scipy.stats.logistic()),
      (DiagonalNormal([1.0], [2.0]), scipy.stats.norm(1, 2)),
      (Logistic(-1.0, 0.5), scipy.stats.logistic(-1, 0.5)), (Uniform(-1.0, 3.0), scipy.stats.uniform(-1, 4)),
      (Flow(Exp(), StandardNormal()), scipy.stats.lognorm(1)),
      (Flow(Affine(2.0, -3.0), Logistic(0.0, 1.0)), scipy.stats.logistic(2, 3))]


@pytest.mark.parametrize("p, expected", KS, ids=[repr(p) for p, _ in KS])
def test_samples_follow_the_density(p, expected):
    """Kolmogorov-Smirnov on 4000 draws of a fixed seed, refused at a level of 1e-3."""
    assert scipy.stats.kstest(p.sample(np.random.default_rng(0), 4000).ravel(), expected.cdf).pvalue > 1e-3


# ---------------------------------------------------------------- flows

def flow_truths():
    """(flow, log p in mpmath of x and the parameters in the order of ravel, an x)."""
    def tanh_flow(v):
        x, shift, scale, loc, s = v[:2], v[2], v[3], v[4:6], v[6:8]
        z = [(mp.atanh(a) - shift) / scale for a in x]
        return normal(np.array(z), np.array(loc), np.array(s)) - sum(mp.log(1 - a * a) for a in x) - 2 * mp.log(abs(scale))

    def linear_flow(v):
        x, W, shift, rest = v[:2], v[2:6], v[6:8], v[8:]
        d, det = [a - b for a, b in zip(x, shift)], W[0] * W[3] - W[1] * W[2]
        z = np.array([(W[3] * d[0] - W[1] * d[1]) / det, (W[0] * d[1] - W[2] * d[0]) / det])
        return mixture(z, *pieces(rest, [(2,), (2, 2), (2, 2)])) - mp.log(abs(det))

    return [
        (Flow(Chain([Affine(0.3, -1.2), Tanh()]), DiagonalNormal([0.5, -0.2], [1.5, 0.7])), tanh_flow, [0.4, -0.9]),
        (Flow(DenseLinear([[1.0, 0.4], [-0.3, 2.0]], [0.1, 0.2]),
              NormalMixture([0.3, 0.7], [[0.0, 1.0], [-1.0, 0.5]], [[1.0, 0.5], [0.8, 1.3]])), linear_flow, [0.7, -1.1])]


@pytest.mark.parametrize("which", [0, 1])
def test_flow_log_prob_gradient(which):
    flow, log_p, x = flow_truths()[which]
    v, b = flat(x, flow.ravel()), mpf(-0.75)
    log_prob, pullback = flow.log_prob_vjp(x)
    x_bar, params_bar = pullback(-0.75)

    def bars(v):
        return gradient(log_p, v) * b

    given = np.concatenate([x_bar, joined(params_bar)])
    assert log_prob == flow.log_prob(x)
    assert units(log_prob, log_p(v), unit(log_p, v), np.float64) <= 8           # each of two maps may add its own 4
    assert units(given, bars(v), unit(bars, v, [bars(v)]), np.float64) <= 8


def leaves(nested):
    return [leaf for v in nested.values() for leaf in (leaves(v) if isinstance(v, dict) else [v])]


def joined(nested):
    return np.concatenate([np.ravel(leaf) for leaf in leaves(nested)])


def test_reverse_kl_gradient():
    """L = <x_bar, x> + <b, log q(x)> of samples as a function of all parameters at fixed noise."""
    flow, log_p, _ = flow_truths()[0]
    (x, log_q), pullback = flow.sample_and_log_prob_vjp(np.random.default_rng(7), 3)
    noise = StandardNormal(2).sample(np.random.default_rng(7), 3)
    rng = np.random.default_rng(8)
    x_bar, b = rng.standard_normal(x.shape), rng.standard_normal(3)
    v = flat(flow.ravel())

    def loss(v):
        total = mpf(0)
        for e, bar, c in zip(noise, x_bar, b):
            z = [v[2 + d] + v[4 + d] * mpf(float(e[d])) for d in range(2)]
            x = [mp.tanh(v[0] + v[1] * a) for a in z]
            total += sum(mpf(float(g)) * a for g, a in zip(bar, x)) + mpf(float(c)) * log_p([*x, *v])
        return total

    true = gradient(loss, v)
    given = joined(pullback(x_bar, b))
    np.testing.assert_array_equal(x, flow.sample(np.random.default_rng(7), 3))
    # log q is a sum of pieces whose direct and sampled parts cancel: the unit belongs to the pieces, 3 events of 2 entries
    z_size = 1 + np.abs(noise).max() ** 2 + np.abs(v).max() ** 2
    scale = float(sum(np.abs(x_bar).ravel()) + 2 * np.abs(b).sum()) * float(z_size) / float(min(abs(p) for p in v[1:]))
    assert np.abs(given - true.astype(float)).max() <= 8 * 2.0**-53 * scale
    assert np.abs(true).max() > 1e-3


def test_sample_log_prob_is_log_prob():
    flow = flow_truths()[1][0]
    (x, log_q), _ = flow.sample_and_log_prob_vjp(np.random.default_rng(0), 50)
    z = flow.bijector.inverse(x)
    # both sides are sums of squares of t, with t off by cond(W) u |z| / scale
    size = np.linalg.cond(flow.bijector.W) * (1 + (np.abs(z) / flow.base.scale.min() + 2).sum(-1) ** 2)
    assert np.all(np.abs(log_q - flow.log_prob(x)) <= 16 * 2.0**-53 * size)


def test_outside_is_minus_inf_with_zero_gradient():
    for base, z in [(StandardNormal(2), [np.inf, 0.0]), (StandardLogistic(2), [0.0, -np.inf]),
                    (Uniform(0.0, 1.0, 2), [0.0, 0.5]), (Uniform(0.0, 1.0, 2), [0.5, 1.0]),
                    (Uniform([0.0, 2.0], [1.0, 3.0]), [2.5, 2.5]), (NormalMixture([1.0], [[0.0]], [[1.0]]), [-np.inf]),
                    (FullNormal([0.0, 0.0], np.eye(2)), [np.inf, np.inf]), (Logistic([0.0], [1.0]), [np.inf]),
                    (Flow(Tanh(), StandardNormal(2)), [1.0, 0.5]), (Flow(Tanh(), StandardNormal(2)), [0.5, 2.0]),
                    (Flow(Exp(), DiagonalNormal([0.0], [1.0])), [0.0]), (Flow(Exp(), StandardNormal(1)), [np.inf]),
                    (Flow(Affine(1.0, 3.0), Uniform([0.0], [1.0])), [4.0]),
                    (Flow(Chain([Exp(), Affine(1.0, 2.0)]), StandardNormal()), 0.5),
                    (Flow(StickBreaking(), StandardNormal(2)), [0.5, 0.5, 0.0]),
                    (Flow(StickBreaking(), StandardNormal(2)), [0.5, 0.5, 0.5]),
                    (Flow(Affine(0.0, 2.0**-60), StandardNormal()), 2.0**1000),
                    (Flow(Tanh(), Flow(Affine(5.0, 1.0), Uniform(0.0, 1.0))), 0.0)]:
        log_prob, pullback = base.log_prob_vjp(z)
        event_bar, params_bar = pullback(1.0)
        assert log_prob == base.log_prob(z) == -np.inf
        assert event_bar.shape == np.shape(z) and not event_bar.any()
        assert same_keys(params_bar, base.params()) and not any(np.any(bar) for bar in leaves(params_bar))


def same_keys(a, b):
    def same(p, q):
        return same_keys(p, q) if isinstance(p, dict) else np.shape(p) == np.shape(q)

    return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)


def test_events_outside_do_not_touch_the_others():
    """The gradient of a batch with events outside equals that of the events inside, for shared and unshared parameters."""
    for shift in (0.5, [0.5, 2.0, 40.0]):
        flow = Flow(Chain([Exp(), Affine(shift, 2.0), Tanh()]), Logistic(0.3, 1.2))
        x = np.array([[0.9, 0.9, 0.9], [0.99, 0.99, -0.3], [1.0, np.inf, 1.0], [0.95, 0.97, 0.98], [0.1, 0.99, -5.0]])
        log_prob, pullback = flow.log_prob_vjp(x)
        x_bar, params_bar = pullback(np.ones_like(x))
        singles = [[flow.replace(**picked(flow, j)).log_prob_vjp(x[i, j]) for j in range(3)] for i in range(5)]
        np.testing.assert_array_equal(log_prob, [[s[0] for s in row] for row in singles])
        bars = [[s[1](1.0) for s in row] for row in singles]
        np.testing.assert_array_equal(x_bar, [[b[0] for b in row] for row in bars])
        total = np.array([[joined(b[1]) for b in row] for row in bars])
        for i, bar in enumerate(leaves(params_bar)):
            axes = (0,) if bar.ndim else (0, 1)
            bound = 2 * 2.0**-53 * 15 * np.abs(total[..., i]).sum(axes)
            assert np.all(np.abs(bar - total[..., i].sum(axes)) <= bound)
        assert np.isneginf(log_prob[2]).all() and np.isfinite(log_prob[1, 0])


def picked(flow, j):
    shift = np.broadcast_to(flow.bijector.stages[1].shift, (3,))[j]
    return {"bijector": {"stages": {"1": {"shift": shift}}}}


def test_outside_in_one_block():
    """A positive block next to a real one: the replacement of an event outside must lie inside both."""
    flow = Flow(Concatenate([Affine(0.5, 2.0), Chain([Affine(0.1, 1.5), Exp()])], (1, 1)), StandardNormal(2))
    x = np.array([[0.3, 2.0], [0.1, -1.0], [-0.4, 0.0], [2.0, -3.0], [1.0, 0.7], [1.0, -0.2], [0.3, -0.1]])
    log_prob, pullback = flow.log_prob_vjp(x)
    inside = x[:, 1] > 0
    x_bar, params_bar = pullback(1.0)
    expected_bar, expected = flow.log_prob_vjp(x[inside])[1](1.0)
    assert (np.isfinite(log_prob) == inside).all() and (x_bar[inside] == expected_bar).all() and not x_bar[~inside].any()
    terms = 7 * (1 + np.abs(x).max()) ** 2
    agrees(joined(params_bar), joined(expected), terms)


@bijector(domain=real, codomain=real, register=False)
class Careless(Bijector):
    """x = scale z, whose inverse rule multiplies by z, even if z is infinite."""

    scale: Array = real()

    def forward(self, z):
        return self.scale * z

    def inverse(self, x):
        return x / self.scale

    def log_det(self, z):
        return np.broadcast_to(np.log(np.abs(self.scale)), z.shape)

    def inverse_vjp(self, x):
        z = x / self.scale
        return (z, -self.log_det(z)), lambda z_bar, b: (z_bar / self.scale, {"scale": -(z_bar * z + b) / self.scale})


def test_an_overflowing_latent_is_outside_and_alone():
    flow = Flow(Careless(2.0**-60), StandardNormal())
    log_prob, pullback = flow.log_prob_vjp([2.0**1000, 2.0**-60])
    x_bar, params_bar = pullback(1.0)
    assert log_prob[0] == -np.inf and np.isfinite(log_prob[1]) and x_bar[0] == 0
    assert params_bar["bijector"]["scale"] == flow.log_prob_vjp(2.0**-60)[1](1.0)[1]["bijector"]["scale"]


def test_nothing_inside():
    flow = Flow(Tanh(), DiagonalNormal([0.0], [1.0]))
    log_prob, pullback = flow.log_prob_vjp([[1.0], [-3.0]])
    x_bar, params_bar = pullback(1.0)
    assert np.isneginf(log_prob).all() and not x_bar.any() and not any(bar.any() for bar in leaves(params_bar))


# ---------------------------------------------------------------- the user's own base

class Laplace:
    """exp(-|z|) / 2, without parameters."""

    def log_prob(self, z):
        return -(np.abs(z) + np.log(2.0)).sum(-1)

    def log_prob_vjp(self, z):
        return self.log_prob(z), lambda b: (-b[..., None] * np.sign(z), {})

    def sample(self, rng, n):
        return rng.laplace(size=(n, 2))


class HalfLine:
    """exp(-z / scale) / scale on z > 0, a scalar event and one parameter."""

    event_shape = ()

    def __init__(self, scale):
        self.scale = np.asarray(scale)

    def params(self):
        return {"scale": self.scale}

    def replace(self, scale):
        return HalfLine(scale)

    def log_prob(self, z):
        return np.where(z > 0, -z / self.scale - np.log(self.scale), -np.inf)

    def log_prob_vjp(self, z):
        def pullback(b):
            return np.where(z > 0, -b / self.scale, 0), {"scale": np.sum(b * (z / self.scale - 1) / self.scale)}
        return self.log_prob(z), pullback

    def sample(self, rng, n):
        return self.scale * rng.standard_exponential(n)

    def sample_vjp(self, rng, n):
        z = self.sample(rng, n)
        return z, lambda z_bar: {"scale": np.sum(z_bar * z / self.scale)}


def test_own_base():
    flow = Flow(Independent(Affine([1.0, 2.0], 3.0), 1), Laplace())
    x = flow.sample(np.random.default_rng(0), 6)
    np.testing.assert_array_equal(x, 3 * np.random.default_rng(0).laplace(size=(6, 2)) + [1.0, 2.0])
    log_prob, pullback = flow.log_prob_vjp(x)
    x_bar, params_bar = pullback(1.0)
    agrees(log_prob, -(np.abs(x - [1, 2]) / 3).sum(-1) - 2 * np.log(6), 4 + np.abs(x).sum(-1))
    np.testing.assert_array_equal(x_bar, -np.sign(x - [1.0, 2.0]) / 3)
    assert params_bar["base"] == {} == flow.params()["base"]
    _, pullback = flow.sample_vjp(np.random.default_rng(0), 6)
    assert pullback(np.ones((6, 2)))["bijector"]["inner"]["shift"].tolist() == [6, 6]

    flow = Flow(Affine(1.0, -2.0), HalfLine(0.5))
    assert flow.log_prob([0.0, 1.0, 2.0]).tolist() == [-1.0 - np.log(0.5) - np.log(2), -np.inf, -np.inf]
    x_bar, params_bar = flow.log_prob_vjp([0.0, 1.0, 2.0])[1](1.0)
    assert x_bar.tolist() == [1.0, 0.0, 0.0] and params_bar["base"]["scale"] == 0
    assert flow.replace(base={"scale": 4.0}).params()["base"]["scale"] == 4
    assert flow.unravel([1.0, -2.0, 3.0]).log_prob(0.0) == flow.replace(base={"scale": 3.0}).log_prob(0.0)
    (x, log_q), pullback = flow.sample_and_log_prob_vjp(np.random.default_rng(0), 5)
    e = np.random.default_rng(0).standard_exponential(5)
    bars = pullback(np.ones(5), np.ones(5))
    agrees(bars["base"]["scale"], -2 * e.sum() - 5 / 0.5, 2 * e.sum() + 50)     # log q = -e - log scale - log 2
    assert Flow(Affine([1.0, 2.0, 3.0], 1.0), HalfLine(0.5)).sample(np.random.default_rng(0), 4).shape == (4, 3)


def test_own_base_refusals():
    class NoGradient(HalfLine):
        sample_vjp = None

    class Unsummed(Laplace):
        def log_prob(self, z):
            return -np.abs(z)

    with pytest.raises(ValueError, match="no log_prob_vjp"):
        Flow(Affine(), type("Half", (), {"log_prob": print, "sample": print})())
    with pytest.raises(ValueError, match=r"Unsummed.log_prob has shape \(2, 2\), not \(2,\)"):
        Flow(DenseLinear(np.eye(2)), Unsummed()).log_prob(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="sample has shape"):
        Flow(Affine(), type("Column", (Laplace,), {"log_prob": lambda self, z: -z})()).sample(np.random.default_rng(0), 3)
    with pytest.raises(ValueError, match="no sample_vjp"):
        Flow(Affine(), NoGradient(1.0)).sample_vjp(np.random.default_rng(0), 3)
    with pytest.raises(ValueError, match="D=3"):
        Flow(DenseLinear(np.eye(3)), Laplace()).log_prob(np.zeros(2))


# ---------------------------------------------------------------- shapes, dtypes, batches

def test_event_shapes_and_parameter_batches():
    rng = np.random.default_rng(0)
    image = (2, 3, 4)
    for p, shape, batch in [(StandardNormal(image), image, ()), (StandardLogistic(image), image, ()),
                            (Uniform(0.0, 1.0, image), image, ()), (Logistic(0.0, 1.0, image), image, ()),
                            (Logistic(np.zeros(5), 1.0, ()), (), (5,)),
                            (DiagonalNormal(np.zeros((5, 1, 3)), np.ones(3)), (3,), (5, 1)),
                            (FullNormal(np.zeros((5, 2)), np.eye(2)), (2,), (5,)), (StandardNormal(3), (3,), ()),
                            (NormalMixture(np.full((5, 1, 2), 0.5), np.zeros((2, 3)), np.ones((4, 2, 3))), (3,), (5, 4)),
                            (Flow(Affine(np.zeros(5), 1.0), Logistic(np.zeros((4, 1)), 1.0, ())), (), (4, 5)),
                            (Flow(ActNorm(np.ones(2), rank=3), StandardNormal(image)), image, ()),
                            (Flow(StickBreaking(), StandardNormal(2)), (3,), ())]:
        assert p.event_shape == shape and p.parameter_batch == batch
        x = p.sample(rng, 7)
        assert x.shape == (7, *batch, *shape) and p.log_prob(x).shape == (7, *batch)
        (x, log_prob), pullback = p.sample_and_log_prob_vjp(rng, 2)
        assert log_prob.shape == (2, *batch) and same_keys(pullback(x, log_prob), p.params())
        assert p.sample(rng, 0).shape == (0, *batch, *shape) and p.log_prob(x[:0]).shape == (0, *batch)
        single = np.ones(shape) / np.prod(shape)                   # one event meets all parameters; its cotangent is summed
        log_prob, pullback = p.log_prob_vjp(single)
        assert log_prob.shape == batch and pullback(1.0)[0].shape == shape


def test_batch_is_a_stack_of_singles():
    rng = np.random.default_rng(2)
    loc, scale, z = rng.standard_normal((4, 3)), np.exp(rng.standard_normal((4, 3))), rng.standard_normal((4, 3))
    for cls in (DiagonalNormal, Logistic, lambda a, b: Uniform(a - 9 * b, a + 9 * b)):
        log_prob, pullback = cls(loc, scale).log_prob_vjp(z)
        z_bar, params_bar = pullback(np.arange(1.0, 5.0))
        for i in range(4):
            one, one_pullback = cls(loc[i], scale[i]).log_prob_vjp(z[i])
            one_bar, one_params = one_pullback(i + 1.0)
            assert one == log_prob[i] and (one_bar == z_bar[i]).all()
            assert all((one_params[k] == params_bar[k][i]).all() for k in params_bar)
    shared = DiagonalNormal(loc[0], scale[0]).log_prob_vjp(z)[1](np.ones(4))[1]
    each = [DiagonalNormal(loc[0], scale[0]).log_prob_vjp(row)[1](1.0)[1]["scale"] for row in z]
    agrees(shared["scale"], np.sum(each, 0), np.abs(each).sum(0))


@pytest.mark.parametrize("p", [*LINE, *PLANE], ids=repr)
def test_dtype_determinism_and_values(p):
    again, half = pickle.loads(pickle.dumps(p)), p.astype(np.float32)
    assert again.equals(p) and p.unravel(p.ravel()).ravel().tolist() == p.ravel().tolist()
    first, second = (again.sample(np.random.default_rng(3), 5) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.dtype == np.float64 and not np.array_equal(first, p.sample(np.random.default_rng(4), 5))
    if half.dtype is None:
        return
    rng = np.random.default_rng(3)
    (x, log_prob), pullback = half.sample_and_log_prob_vjp(rng, 5)
    bars = leaves(pullback(np.ones_like(x), np.ones_like(log_prob)))
    log_prob_again, log_pullback = half.log_prob_vjp(x)
    event_bar, params_bar = log_pullback(1.0)
    found = x, log_prob, log_prob_again, half.log_prob(x), half.sample(rng, 2), event_bar, *bars, *leaves(params_bar)
    assert {a.dtype for a in found} == {np.dtype(np.float32)}


def test_float32_bijector_over_standard_normal():
    flow = Flow(Affine(np.float32(0.5) * np.ones(3, np.float32), np.float32(2.0)), StandardNormal())
    assert flow.sample(np.random.default_rng(0), 4).dtype == np.float32
    assert flow.log_prob(np.zeros(3, np.float32)).dtype == np.float32


def test_uniform_samples_are_inside():
    narrow = Uniform(np.float32(1), np.float32(1 + 2.0**-22), ())
    assert np.isfinite(narrow.log_prob(narrow.sample(np.random.default_rng(0), 100))).all()


# ---------------------------------------------------------------- context, initialisation

@bijector(domain=real, codomain=real, register=False)
class Shifted(Bijector):
    """x = z + context."""

    context: Array = context("D")
    event_ndim = (1, 1)

    def forward(self, z):
        return z + self.context

    def inverse(self, x):
        return x - self.context

    def log_det(self, z):
        return np.zeros_like(z[..., 0])

    def vjp(self, z):
        return self.forward_and_log_det(z), lambda x_bar, log_det_bar: (x_bar, {"context": x_bar})

    def inverse_vjp(self, x):
        return self.inverse_and_log_det(x), lambda z_bar, log_det_bar: (z_bar, {"context": -z_bar})


def test_context():
    flow, c = Flow(Chain([Shifted(), Affine(0.0, 2.0)]), StandardNormal(2)), np.arange(6.0).reshape(3, 2)
    x = flow.sample(np.random.default_rng(0), 4, context=c)
    assert x.shape == (4, 3, 2)
    np.testing.assert_array_equal(x, 2 * (np.random.default_rng(0).standard_normal((4, 3, 2)) + c))
    log_prob, pullback = flow.at(context=c).log_prob_vjp(x)
    bars = pullback(1.0)[1]
    assert bars["context"].shape == (3, 2) and same_keys(bars, flow.at(context=c).params())
    agrees(bars["context"], (x / 2 - c).sum(0), np.abs(x / 2).sum(0) + np.abs(c) * 4)
    with pytest.raises(ValueError, match="declares context"):
        Flow(Affine(), StandardNormal()).sample(np.random.default_rng(0), 3, context=c)


def test_initialised():
    """log_prob's latents have mean 0 and variance 1 on the data; the sums behind them are off by N u at most."""
    data = np.random.default_rng(0).standard_normal((500, 2)) * [3.0, 0.1] + [10.0, -2.0]
    flow = Flow(ActNorm(np.ones(2)), StandardNormal(2)).initialised(data, np.random.default_rng(1))
    z = flow.bijector.inverse(data)
    bound = 500 * 2.0**-53 * np.abs(data / flow.bijector.scale).max()
    assert np.abs(z.mean(0)).max() <= bound and np.abs(z.std(0) - 1).max() <= bound
    assert flow.log_prob(data).mean() > Flow(ActNorm(np.ones(2)), StandardNormal(2)).log_prob(data).mean()


# ---------------------------------------------------------------- refusals

RNG = np.random.default_rng(0)
REFUSED = [
    (lambda: StandardNormal(2).log_prob([1.0, np.nan]), r"StandardNormal: z must not be NaN; z\[1\] = nan"),
    (lambda: StandardNormal(2).log_prob([1.0, 2.0, 3.0]), r"z has event shape \(3,\): its events have shape \(2,\)"),
    (lambda: StandardNormal((2, 2)).log_prob([1.0, 2.0]), "at least 2 axes"),
    (lambda: StandardNormal(2).log_prob(np.zeros(2, np.float16)), "float16"),
    (lambda: StandardNormal(2).log_prob(np.zeros(2, complex)), "complex"),
    (lambda: StandardNormal("2"), "shape must be an int"),
    (lambda: StandardNormal(-1), "do not fit"),
    (lambda: DiagonalNormal([0.0, np.nan], [1.0, 1.0]), r"DiagonalNormal: loc must be finite; loc\[1\] = nan"),
    (lambda: DiagonalNormal([0.0, 0.0], [1.0, 0.0]), r"scale must be finite and > 0; scale\[1\] = 0"),
    (lambda: DiagonalNormal([0.0, 0.0], [1.0, 1.0, 1.0]), "do not broadcast"),
    (lambda: Logistic([0.0, 0.0], 1.0, 3), r"do not fit events of shape \(3,\)"),
    (lambda: Logistic(np.zeros((4, 2)), 1.0).log_prob(np.zeros((3, 2))), "does not broadcast"),
    (lambda: Uniform(1.0, 1.0), "high must exceed low"),
    (lambda: Uniform(1.0, 1 + 2.0**-52), "with a float between"),
    (lambda: Uniform(-1.7e308, 1.7e308), "finite difference"),
    (lambda: FullNormal([0.0, 0.0], [[1.0, 1.0], [0.0, 1.0]]), "cholesky must be finite and lower triangular"),
    (lambda: FullNormal([0.0, 0.0], [[1.0, 0.0], [0.0, -1.0]]), "positive diagonal"),
    (lambda: FullNormal([0.0, 0.0, 0.0], np.eye(2)), "cholesky must have trailing shape"),
    (lambda: NormalMixture([0.5, 0.6], np.zeros((2, 1)), np.ones((2, 1))), "weights must have entries"),
    (lambda: NormalMixture([0.5, 0.5], np.zeros((3, 1)), np.ones((3, 1))), "loc must have trailing shape"),
    (lambda: StandardNormal().sample(3, 3), "rng must be a numpy.random.Generator, not int"),
    (lambda: StandardNormal().sample(np.random.RandomState(0), 3), "not RandomState"),
    (lambda: StandardNormal().sample(RNG, -1), "n must be >= 0"),
    (lambda: StandardNormal().sample(RNG, 2.5), "n must be an int"),
    (lambda: StandardNormal().sample_vjp(RNG, 3)[1](np.zeros(2)), r"z_bar has shape \(2,\)"),
    (lambda: StandardNormal().log_prob_vjp([1.0, 2.0])[1](np.zeros(3)), r"log_prob_bar has shape \(3,\)"),
    (lambda: Flow(Tanh(), StandardNormal()).sample_vjp(RNG, 2)[1](np.zeros(3)), r"Flow: x_bar has shape \(3,\)"),
    (lambda: Flow(StandardNormal(), StandardNormal()), "bijector must be a Bijector, not StandardNormal"),
    (lambda: Flow(Tanh(), 3), "int has no log_prob"),
    (lambda: Flow(DenseLinear(np.eye(3)), StandardNormal(2)), "D=3"),
    (lambda: Flow(DenseLinear(np.eye(2)), StandardNormal()), "takes events of 1 axes"),
    (lambda: Flow(Inverse(Exp()), StandardNormal()), "support, real, is not inside the domain of Inverse, positive"),
    (lambda: Flow(Affine(np.zeros(2), 1.0), Logistic(np.zeros(3), 1.0, ())), "do not broadcast"),
    (lambda: Flow(Tanh(), StandardNormal(2)).log_prob([[0.5, np.nan]]), r"Flow: x must not be NaN; x\[0, 1\] = nan"),
    (lambda: Flow(Tanh(), StandardNormal(2)).log_prob([0.5]), r"Flow: x has event shape \(1,\)"),
    (lambda: Flow(StickBreaking(), StandardNormal(2)).log_prob([0.5, 0.5]), r"\(2,\): its events have shape \(3,\)"),
    (lambda: Flow(Chain([Affine(), Inverse(Exp())]), StandardNormal()).sample(RNG, 100), "must be finite and > 0")]


@pytest.mark.parametrize("bad, message", REFUSED, ids=[message for _, message in REFUSED])
def test_refused_by_name(bad, message):
    with pytest.raises(ValueError, match=message):
        bad()


def test_inputs_are_not_modified():
    z, b = np.array([[0.3, -0.2], [1.0, 5.0]]), np.ones(2)
    for p in (*PLANE, Flow(Tanh(), StandardNormal(2))):
        before = z.copy()
        p.log_prob_vjp(z)[1](b)
        np.testing.assert_array_equal(z, before)
    assert (b == 1).all()


@pytest.mark.parametrize("loc, scale, b", [(2.0, 0.25, 1.6), (-3.0, 2.0, 0.5)])
def test_at_the_centre_of_a_logistic_density_the_cotangent_of_the_event_has_a_unit(loc, scale, b):
    """It is -b tanh(t/2)/scale, which is 0 there; its slopes by z and by loc are -+ b/(2 scale^2), which abs(t) had lost."""
    found = truth_of_kind(Logistic(loc=loc, scale=scale, shape=()), np.float64(loc), np.float64(b))["log_prob_vjp.z_bar"]
    assert found.value == [0]
    assert [float(kappa) for kappa in found.kappa] == [pytest.approx(2 * abs(loc) * b / (2 * scale**2))]
