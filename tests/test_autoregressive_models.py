"""MAF, IAF and neural spline flows: the papers' equations one by one, the start, gradients, contexts, and the refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy

from flows import check_free_gradient
from refflow import autoregressive_nsf, bnaf, bpf, iaf, maf, naf, nsf, sospf, umnn
from refflow.core.tree import walk
from refflow.maps.normalization import BatchNorm
from refflow.training import Unconstrained, fit

MODELS = {
    "maf": (maf, {"size": 3, "hidden": (6, 5), "layers": 3}),
    "maf, norm": (maf, {"size": 3, "hidden": (6,), "layers": 2, "batch_norm": True, "activation": "tanh"}),
    "maf, one entry": (maf, {"size": 1, "hidden": (4,), "layers": 2}),
    "naf": (naf, {"size": 3, "hidden": (6,), "layers": 2, "components": 3}),
    "naf, dense": (naf, {"size": 2, "hidden": (5,), "layers": 2, "components": 2, "dense": 3}),
    "umnn": (umnn, {"size": 3, "hidden": (6,), "layers": 2, "components": 3}),
    "sospf": (sospf, {"size": 3, "hidden": (6,), "layers": 2, "components": 2, "degree": 1}),
    "bpf": (bpf, {"size": 3, "hidden": (6,), "layers": 2, "degree": 3}),
    "iaf": (iaf, {"size": 3, "hidden": (6, 5), "layers": 3}),
    "bnaf": (bnaf, {"size": 3, "units": (3, 2), "layers": 2}),
    "nsf": (nsf, {"size": 3, "hidden": 6, "blocks": 1, "steps": 2, "bins": 3}),
    "nsf, plain": (nsf, {"size": 2, "hidden": 6, "blocks": 2, "steps": 3, "bins": 4, "bound": 2.0, "unconditional": False}),
    "nsf, autoregressive": (autoregressive_nsf, {"size": 3, "hidden": 6, "blocks": 2, "steps": 2, "bins": 4}),
    "nsf, one entry": (autoregressive_nsf, {"size": 1, "hidden": 4, "blocks": 1, "steps": 1, "bins": 3}),
}
every_model = pytest.mark.parametrize("name", MODELS)


def made(name, seed=0, **settings):
    builder, given = MODELS[name]
    return builder(np.random.default_rng(seed), **given | settings)


def moved(flow, rng, distance=0.15):
    """The flow with all its free numbers drawn."""
    space = Unconstrained(flow)
    return space.value_at(space.vector + distance * rng.standard_normal(space.vector.size).astype(space.vector.dtype))


def network(net, a):
    """A network of dense or masked layers, tanh, ReLU and residual blocks, from its arrays."""
    for layer in net.layers:
        if hasattr(layer, "inner"):
            a = a + network(layer.inner, a)
        elif hasattr(layer, "W"):
            a = (layer.W * getattr(layer, "connects", 1)) @ a + layer.b
        else:
            a = np.tanh(a) if "Tanh" in type(layer).__name__ else np.maximum(a, 0)
    return a


def normal(z):
    return -0.5 * (z @ z) - 0.5 * z.size * math.log(2 * math.pi)


# -- all of them ------------------------------------------------------------------------------------------------------

@every_model
def test_round_trip_and_log_det(name):
    rng = np.random.default_rng(1)
    flow = moved(made(name), rng)
    x, f = rng.standard_normal((6, *flow.event_shape)), flow.bijector
    z, log_det = f.inverse_and_log_det(x)
    np.testing.assert_allclose(f.forward(z), x, rtol=0, atol=1e-11)
    np.testing.assert_allclose(-log_det, np.linalg.slogdet(f.jacobian(z))[1], rtol=1e-10, atol=1e-10)
    assert flow.log_prob(x) == pytest.approx([normal(each) for each in z] + log_det, rel=1e-12)


@every_model
def test_gradients(name):
    rng = np.random.default_rng(2)
    flow = moved(made(name), rng)
    check_free_gradient(flow, rng.standard_normal((5, *flow.event_shape)), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"bnaf"}))
def test_the_start(name):
    """The identity, of neural spline flows up to the order of the entries; near it where a last layer is drawn."""
    flow = made(name)
    x = np.random.default_rng(3).standard_normal((7, *flow.event_shape))
    z, log_det = flow.bijector.inverse_and_log_det(x)
    near = {"maf, norm": 1e-4, "naf": 1e-2, "naf, dense": 1e-2, "umnn": 1e-1, "sospf": 1e-1, "bpf": 1e-1}.get(name, 1e-14)
    assert np.abs(np.sort(z) - np.sort(x)).max() < near and np.abs(log_det).max() < near
    assert made(name).equals(flow) and not made(name, seed=1).equals(flow)


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"bnaf"}))
def test_contexts(name):
    rng = np.random.default_rng(4)
    flow = moved(made(name, context=2), rng)
    c, x = rng.standard_normal((4, 2)), rng.standard_normal((4, *flow.event_shape))
    together = flow.at(context=c).log_prob(x)
    assert np.allclose(together, [flow.at(context=each).log_prob(event) for each, event in zip(c, x)], 1e-11)
    assert not np.allclose(together, flow.at(context=c[::-1]).log_prob(x))


@every_model
def test_single_precision(name):
    flow = moved(made(name, dtype=np.float32), np.random.default_rng(5))
    x = flow.sample(np.random.default_rng(6), 5)
    assert flow.dtype == x.dtype == flow.log_prob(x).dtype == np.float32 and np.isfinite(flow.log_prob(x)).all()


REFUSED = {"size": 0, "hidden": "x", "layers": 0, "steps": 0, "bins": 0, "components": 0, "degree": -1, "blocks": -1,
           "dense": 0, "context": -1, "bound": 0.0, "rng": 3, "dtype": np.float16}


@pytest.mark.parametrize("name", ["maf", "iaf", "naf", "naf, dense", "umnn", "sospf", "bpf", "nsf", "nsf, autoregressive"])
def test_what_they_refuse(name):
    builder, given = MODELS[name]
    for key in REFUSED.keys() & (given.keys() | {"context", "rng", "dtype"}):
        wrong = {"rng": np.random.default_rng(0)} | given | {key: REFUSED[key]}
        with pytest.raises(ValueError, match="float32 or float64" if key == "dtype" else key):
            builder(**wrong)
    with pytest.raises(ValueError, match="size must be an int >= 2, not 1"):
        nsf(np.random.default_rng(0), 1)
    with pytest.raises(ValueError, match="bound must be positive and finite, not inf"):
        nsf(np.random.default_rng(0), 2, bound=math.inf)


# -- MAF and IAF ------------------------------------------------------------------------------------------------------

def test_the_density_of_maf():
    """(1) to (5), one event and one layer at a time."""
    rng = np.random.default_rng(7)
    flow = moved(made("maf, norm"), rng)
    x = rng.standard_normal((4, 3))
    for event, given in zip(x, flow.log_prob(x)):
        h, total = event, 0.0
        for layer, norm in zip(*[iter(flow.bijector.inner.stages)] * 2):
            s, t = np.split(network(layer.net, h), 2)                               # (1)
            scale = norm.gain / np.sqrt(norm.var + 1e-5)
            h = scale * (h * np.exp(s) + t - norm.mean) + norm.bias               # (2) (4)
            total += s.sum() + np.log(np.abs(scale)).sum()
        assert given == pytest.approx(normal(h) + total, rel=1e-12)                 # (5)


def test_the_density_of_iaf():
    """(1) to (6), from noise."""
    rng = np.random.default_rng(8)
    flow = moved(made("iaf"), rng)
    for eps in rng.standard_normal((4, 3)):
        first, *layers = flow.bijector.stages
        s, mu = np.split(first.net.layers[0].b, 2)
        log_scale = s + 3 * math.log1p(math.exp(-2))                                # (6)
        h, total = mu + np.exp(log_scale) * eps, log_scale.sum()                    # (1)
        for layer in layers:
            s, m = np.split(network(layer.net, h), 2)                               # (2)
            gate = 1 / (1 + np.exp(-s - 2))
            h, total = gate * h + (1 - gate) * m, total + np.log(gate).sum()        # (3)
        assert np.allclose(flow.bijector.forward(eps), h, 1e-13)
        assert flow.log_prob(h) == pytest.approx(normal(eps) - total, rel=1e-12)    # (5)


def test_the_density_of_naf():
    """(1) to (4)."""
    rng = np.random.default_rng(13)
    flow = moved(made("naf"), rng)
    x = rng.standard_normal((4, 3))
    for event, given in zip(x, flow.log_prob(x)):
        h, total = event, 0.0
        for layer in flow.bijector.inner.stages:
            u, v, c = network(layer.net, h).reshape(3, 3, 3)                        # numbers of a kind, components, entries
            w = np.exp(u) / np.exp(u).sum(0)
            a = np.log1p(np.exp(v + math.log(math.exp(1 - 1e-6) - 1))) + 1e-6       # (1)
            s = 1 / (1 + np.exp(-(a * h + c)))
            mean = (w * s).sum(0)
            total += np.log((w * a * s * (1 - s)).sum(0) / mean / (1 - mean)).sum()
            h = np.log(mean / (1 - mean))                                           # (2)
        assert given == pytest.approx(normal(h) + total, rel=1e-11)                 # (4)


def softmax(v):
    return np.exp(v) / np.exp(v).sum(-1, keepdims=True)


def test_the_density_of_dense_naf():
    """(5), with the equations of the page: three dense layers of two sigmoids."""
    rng = np.random.default_rng(16)
    flow = moved(made("naf, dense"), rng)
    x = rng.standard_normal((4, 2))
    for event, given in zip(x, flow.log_prob(x)):
        h, total = event, 0.0
        for layer in flow.bijector.inner.stages:
            numbers, matrices = network(layer.net, h).reshape(-1, 2), layer.family.map.maps
            for i, own in enumerate(numbers.T):                                     # of one entry
                v, b, p, q, u = np.split(own, [6, 12, 16, 20])
                a = np.log1p(np.exp(v + math.log(math.exp(1 - 1e-6) - 1))).reshape(3, 2) + 1e-6
                W, U = (softmax(part.logits + r.reshape(2, 1, 2)) for part, r in zip(matrices[2:], (p, q)))         # (5)
                units, slopes = np.full(1, h[i]), np.ones(1)
                for l, w in enumerate((*W, softmax(u)[None])):
                    to = U[l - 1] if l else np.ones((2, 1))
                    s = 1 / (1 + np.exp(-(a[l] * (to @ units) + b.reshape(3, 2)[l])))
                    mean, rates = w @ s, a[l] * (to @ slopes) * s * (1 - s)
                    units, slopes = np.log(mean / (1 - mean)), (w @ rates) / mean / (1 - mean)
                numbers[0, i], numbers[1, i] = units[0], math.log(slopes[0])
            h, total = numbers[0].copy(), total + numbers[1].sum()
        assert given == pytest.approx(normal(h) + total, rel=1e-11)                 # (4)


def test_the_density_of_umnn():
    """(1) to (3), with the integral of (1) by quadrature between its knots."""
    rng = np.random.default_rng(17)
    flow = moved(made("umnn"), rng, 0.4)
    for event in rng.standard_normal((3, 3)):
        h, total = event, 0.0
        for layer in flow.bijector.inner.stages:
            *numbers, c, t = network(layer.net, h).reshape(11, 3)                   # numbers of a kind, entries
            image, slopes = [], []
            for i, end in enumerate(h):
                a, b, v = np.array(numbers)[:, i].reshape(3, 3)

                def g(u):
                    n = c[i] + v @ np.maximum(a * u + b, 0)
                    return 1e-3 + (n + 1 if n >= 0 else math.exp(n))

                image.append(t[i] + scipy.integrate.quad(g, 0, end, points=-b / a, epsabs=1e-13, epsrel=1e-13)[0])  # (1)
                slopes.append(g(end))
            h, total = np.array(image), total + np.log(slopes).sum()
        assert flow.log_prob(event) == pytest.approx(normal(h) + total, rel=1e-10)  # (3)


def test_the_density_of_sospf():
    """(1) to (3), with the antiderivative of (1) from its coefficients."""
    rng = np.random.default_rng(14)
    flow = moved(made("sospf"), rng)
    x = rng.standard_normal((4, 3))
    for event, given in zip(x, flow.log_prob(x)):
        h, total = event, 0.0
        for layer in flow.bijector.inner.stages:
            *a, t = network(layer.net, h).reshape(5, 3)                             # numbers of a kind, entries
            image, slope = [], []
            for i in range(3):
                square = sum(np.polynomial.Polynomial([a[2 * k][i], a[2 * k + 1][i]]) ** 2 for k in range(2)) + 1e-3
                image.append(t[i] + square.integ()(h[i]))                           # (1)
                slope.append(square(h[i]))
            h, total = np.array(image), total + np.log(slope).sum()
        assert given == pytest.approx(normal(h) + total, rel=1e-11)                 # (3)


def test_the_density_of_bpf():
    """(1) to (4), of entries inside the interval and beyond it."""
    rng = np.random.default_rng(15)
    flow, basis = moved(made("bpf"), rng), scipy.interpolate.BPoly
    x = np.array([[0.5, -1.0, 2.0], [7.0, -6.5, 0.1], [-0.2, 0.3, 9.0]])
    for event, given in zip(x, flow.log_prob(x)):
        h, total = event, 0.0
        for layer in flow.bijector.inner.stages:
            u = network(layer.net, h).reshape(4, 3)
            c = np.cumsum(np.concatenate((u[:1], np.log1p(np.exp(u[1:])))), 0)      # (1)
            curves = [basis(c_i[:, None], [-5.0, 5.0]) for c_i in c.T]
            inside = np.clip(h, -5, 5)
            slope = np.array([curve.derivative()(v) for curve, v in zip(curves, inside)])
            image = np.array([curve(v) for curve, v in zip(curves, inside)])
            h, total = image + slope * (h - inside), total + np.log(slope).sum()    # (2)
        assert given == pytest.approx(normal(h) + total, rel=1e-11)                 # (4)


@pytest.mark.parametrize("name, map_of", [("naf", lambda flow: flow.bijector.inner.stages),
                                          ("maf", lambda flow: flow.bijector.inner.stages),
                                          ("iaf", lambda flow: flow.bijector.stages[1:])])
def test_the_order_is_reversed_from_layer_to_layer(name, map_of):
    rng = np.random.default_rng(9)
    for k, layer in enumerate(map_of(moved(made(name, hidden=(9, 9), layers=4), rng))):
        J = layer.jacobian(rng.standard_normal(3))
        assert np.array_equal(J != 0, np.tri(3, dtype=bool) if k % 2 == 0 else np.tri(3, dtype=bool).T)


def test_the_start_of_the_authors():
    """(6) of maf: all weights from N(0, 1/(N + 1)), those that are masked 0."""
    flow = maf(np.random.default_rng(0), 40, (60,), 2, zero_last=False)
    for layer in (inner for _, inner in walk(flow) if hasattr(inner, "connects")):
        drawn = layer.W[layer.connects]
        assert drawn.std() == pytest.approx(1 / math.sqrt(layer.W.shape[1] + 1), rel=0.1) and not layer.W[~layer.connects].any()
        assert not layer.b.any()


def test_the_map_of_bnaf():
    """(1): tanh u + c u between layers of positive blocks on the diagonal; the second network takes the reverse order."""
    rng = np.random.default_rng(14)
    flow = moved(made("bnaf"), rng)
    first, permutation, second = flow.bijector.inner.stages
    for event in rng.standard_normal((3, 3)):
        h = event
        for net in (first, second):
            h = h[::-1] if net is second else h
            for k, layer in enumerate(net.layers):
                D, A, B = layer.blocks
                W = np.kron(np.tri(D, k=-1), np.ones((A, B))) * layer.below
                for d in range(D):
                    W[d * A:(d + 1) * A, d * B:(d + 1) * B] = layer.within[d]
                h = (np.tanh(h) + 0.01 * h if k else h)
                h = W @ h + layer.b
        assert np.allclose(flow.bijector.inverse(event), h, rtol=1e-12)
    with pytest.raises(ValueError, match="leak must be positive and finite, not 0"):
        bnaf(rng, 2, leak=0)
    with pytest.raises(ValueError, match=r"bnaf: hidden\[0\] must be an int >= 1"):
        bnaf(rng, 2, units=(0,))
    flow = made("bnaf")
    x = flow.sample(np.random.default_rng(0), 4)
    assert made("bnaf").equals(flow) and np.isfinite(flow.log_prob(x)).all()


def test_maf_trains_with_batch_norms():
    """The statistics follow the batches; a bent density becomes much more likely than the best Gaussian makes it."""
    rng = np.random.default_rng(10)
    x = rng.standard_normal(1500)
    x = np.stack([x, x**2 + rng.standard_normal(1500) / 4], 1)
    result = fit(maf(rng, 2, (16,), 3, "tanh", batch_norm=True), x, batch_size=250, steps=400, rng=rng, progress=False)
    gaussian = -math.log(2 * math.pi * math.e) - np.linalg.slogdet(np.cov(x.T))[1] / 2
    norms = [inner for _, inner in walk(result.flow) if isinstance(inner, BatchNorm)]
    assert result.flow.log_prob(x).mean() > gaussian + 0.5 and len(norms) == 3 and all((norm.mean != 0).all() for norm in norms)


# -- neural spline flows ----------------------------------------------------------------------------------------------

def spline(u, theta, bins, bound, width):
    """(g(u), log g'(u)) by section 3.1 of the paper and the settings of its code."""
    if not -bound < u < bound:
        return u, 0.0

    def knots(numbers):
        share = np.exp(numbers / math.sqrt(width))
        sizes = 1e-3 + (1 - 1e-3 * bins) * share / share.sum()
        return bound * (2 * np.concatenate([[0], np.cumsum(sizes)]) - 1)

    x, y = knots(theta[:bins]), knots(theta[bins:2 * bins])
    d = np.concatenate([[1], 1e-3 + np.log1p(np.exp(theta[2 * bins:])), [1]])
    k = np.searchsorted(x, u) - 1
    s, t = (y[k + 1] - y[k]) / (x[k + 1] - x[k]), (u - x[k]) / (x[k + 1] - x[k])
    under = s + (d[k + 1] + d[k] - 2 * s) * t * (1 - t)
    slope = s * s * (d[k + 1] * t * t + 2 * s * t * (1 - t) + d[k] * (1 - t) ** 2) / under**2
    return y[k] + (y[k + 1] - y[k]) * (s * t * t + d[k] * t * (1 - t)) / under, math.log(slope)


def splines(u, theta, *settings):
    found = [spline(each, row, *settings) for each, row in zip(u, theta.reshape(len(u), -1))]
    return np.array([value for value, _ in found]), sum(log_slope for _, log_slope in found)


def mixed(stages, h):
    """(1): L U P h + c, and its log-det."""
    permutation, plu = stages
    U = plu.upper + np.diag(plu.scale)
    return (np.eye(len(h)) + plu.lower) @ U @ h[permutation.order] + plu.shift, np.log(np.abs(plu.scale)).sum()


def test_the_density_of_couplings_of_splines():
    """(1), (2), (3), (5), (6), one event and one step at a time; the entries of even index are transformed first."""
    rng = np.random.default_rng(11)
    flow = moved(made("nsf", size=5), rng)
    x = 2 * rng.standard_normal((6, 5))
    for event, given in zip(x, flow.log_prob(x)):
        *steps, last = [flow.bijector.inner.stages[i:i + 4] for i in (0, 4, 8)]
        h, total = event, 0.0
        for k, (*linear, conditional, own) in enumerate(steps):
            u, log_det = mixed(linear, h)
            b = np.arange(5) % 2 == k % 2
            h = u.copy()
            h[b], of_b = splines(u[b], network(conditional.net, u[~b]), 3, 3.0, 6)  # (2)
            h[~b], of_a = splines(u[~b], own.net.b, 3, 3.0, 6)                      # (3)
            total += log_det + of_b + of_a
        z, log_det = mixed(last, h)
        assert given == pytest.approx(normal(z) + total + log_det, rel=1e-11)       # (5)


def test_the_density_of_autoregressive_splines():
    """(1), (4), (5), (6)."""
    rng = np.random.default_rng(12)
    flow = moved(made("nsf, autoregressive"), rng)
    x = 2 * rng.standard_normal((6, 3))
    for event, given in zip(x, flow.log_prob(x)):
        *steps, last = [flow.bijector.inner.stages[i:i + 3] for i in (0, 3, 6)]
        h, total = event, 0.0
        for *linear, layer in steps:
            u, log_det = mixed(linear, h)
            h, log_slopes = splines(u, network(layer.net, u), 4, 3.0, 6)            # (4)
            total += log_det + log_slopes
        z, log_det = mixed(last, h)
        assert given == pytest.approx(normal(z) + total + log_det, rel=1e-11)       # (5)
    J = layer.jacobian(rng.standard_normal(3))
    assert np.array_equal(J != 0, np.tri(3, dtype=bool))
