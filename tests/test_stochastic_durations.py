"""VITS' stochastic durations: torch's gradients, the density of samples, the whole range, padding, networks, refusals."""

from __future__ import annotations

import sys

import mpmath
import numpy as np
import pytest

from refflow.core import tree
from refflow.core.tree import flatten
from refflow.laws.conditioner_laws import NetworkPoints, run_network_laws, without_padding
from refflow.laws.pages import equations
from refflow.maps.conditioners import AddedSignal, Conv1d, DepthwiseConv1d, Dropout, separable_network, with_dropout
from refflow.models import stochastic_durations
from refflow.models.stochastic_durations import StochasticDurations, duration_flow, log_rest_vjp

RNG = np.random.default_rng
LENGTHS = np.array([6, 5, 1])
B, I = len(LENGTHS), 6
MASK = np.arange(I) < LENGTHS[:, None]


def model_of(seed=0, moved=0.3, channels=4, **options):
    rng = RNG(seed)
    model = stochastic_durations(rng, channels, **{"layers": 2, "couplings": 2, "bins": 4, "detached": False} | options)
    vector = model.ravel()
    return model.unravel((vector + moved * rng.standard_normal(vector.size)).astype(vector.dtype))


def batch_of(seed=1, channels=4, speaker=0, dtype=np.float64):
    """(x, lengths, d, noise, g)."""
    rng = RNG(seed)
    x, noise = (rng.standard_normal((B, size, I)).astype(dtype) for size in (channels, 2))
    d = np.minimum(rng.integers(1, 12, (B, I)), rng.integers(1, 12, (B, I)))
    d[0, 0] = 1
    return x, LENGTHS, d, noise, rng.standard_normal((B, speaker)).astype(dtype) if speaker else None


OPTIONS = {"plain": {}, "speakers": {"speaker_channels": 3}, "exchanged": {"exchanged_first": True},
           "wide": {"hidden": 5, "kernel": 5, "couplings": 1, "bound": 2.0}}


def of_options(name, **named):
    return model_of(**OPTIONS[name], **named), batch_of(speaker=OPTIONS[name].get("speaker_channels", 0))


@pytest.mark.parametrize("module", ["models.stochastic_durations", "maps.conditioners.separable_networks"])
def test_every_equation_is_cited(module):
    assert equations(sys.modules[f"refflow.{module}"]) == []


# -- torch ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", OPTIONS)
def test_torch_agrees(name):
    pytest.importorskip("torch")
    from validation.original.torch_durations import differences

    model, batch = of_options(name)
    found = differences(model, *batch)
    if name == "exchanged":         # the sampler leaves an exchange out, torch's does not
        assert found.pop("sample") > 1e-3
    assert len(found) >= 4 and max(found.values()) <= 1e-12, found


@pytest.mark.parametrize("given", ["FLOOR", "log_pi", "spline"])
def test_torch_with_another_formula_is_found(given, monkeypatch):
    pytest.importorskip("torch")
    from validation.original import torch_durations

    right = getattr(torch_durations, given)
    wrong = {"FLOOR": 1.001e-3, "log_pi": lambda z: right(z) * (1 + 1e-6),
             "spline": lambda *a: (right(*a)[0], right(*a)[1] * (1 + 1e-6))}
    monkeypatch.setattr(torch_durations, given, wrong[given])
    model, batch = of_options("plain")
    assert torch_durations.differences(model, *batch)["bound"] > 1e-9


# -- gradients by differences ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", OPTIONS)
def test_gradients(name):
    model, (x, lengths, d, noise, g) = of_options(name)
    rng, b = RNG(2), np.array([1.0, -0.5, 2.0])
    _, pullback = model.bound_vjp(x, lengths, d, noise, g)
    x_bar, g_bar, bars = pullback(b)
    assert [path for path, _ in flatten(bars)] == [path for path, _ in flatten(model.params())]
    steps = {"x": rng.standard_normal(x.shape), "params": rng.standard_normal(model.ravel().size)}
    if g is not None:
        steps["g"] = rng.standard_normal(g.shape)
    found = {"x": (x_bar * steps["x"]).sum(), "g": 0 if g is None else (g_bar * steps["g"]).sum(),
             "params": np.concatenate([bar.ravel() for _, bar in flatten(bars)]) @ steps["params"]}

    def moved(key, by):
        other = model.unravel(model.ravel() + by * steps[key]) if key == "params" else model
        at = [array + by * steps[name] if name == key else array for name, array in (("x", x), ("g", g))]
        return (b * other.bound_vjp(at[0], lengths, d, noise, at[1])[0]).sum()

    for key in steps:
        h = 1e-5
        wanted = (8 * (moved(key, h) - moved(key, -h)) - (moved(key, 2 * h) - moved(key, -2 * h))) / (12 * h)
        assert np.isclose(found[key], wanted, rtol=1e-7, atol=1e-7), key


def test_detached_inputs_have_no_gradient():
    free, (x, *rest) = of_options("speakers")
    model = free.replace(detached=True)
    (bound, pullback), (free_bound, free_pullback) = model.bound_vjp(x, *rest), free.bound_vjp(x, *rest)
    (x_bar, g_bar, bars), (free_x_bar, free_g_bar, free_bars) = pullback(np.ones(B)), free_pullback(np.ones(B))
    assert np.array_equal(bound, free_bound) and free_x_bar.any() and free_g_bar.any()
    assert not x_bar.any() and not g_bar.any() and x_bar.shape == x.shape and g_bar.shape == rest[-1].shape
    for path, bar in flatten(free_bars):
        assert np.array_equal(tree.at_path(bars, path), bar)


# -- samples have the density ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("exchanged, skips, agrees", [(False, True, True), (True, False, True), (True, True, False)])
def test_samples_have_the_density(exchanged, skips, agrees):
    """exp(bound), averaged over noise, is the probability of d, and the share of d among samples.

    It is not, by many standard errors, where an exchange of channels is left out with the first coupling.
    """
    n, rng = 5000, RNG(3)
    model = model_of(7, 0.4, 2, layers=1, couplings=2, exchanged_first=exchanged)
    wide = model_of(7, 0, 2, layers=1, couplings=2).posterior.replace(stages={"0": {"inner": {"logs": np.ones(2)}}})
    affine = {"logs": np.array([0.5, -0.5]), "bias": np.array([-0.5, 1.0])}
    prior = model.prior.replace(inner={"stages": {"0": {"inner": affine}}})
    model = model.replace(posterior=wide, prior=prior)
    x, lengths = np.broadcast_to(rng.standard_normal((2, 1)), (n, 2, 1)), np.ones(n, int)
    _, d = model.sample(x, lengths, rng.standard_normal((n, 2, 1)), skips_first=skips)
    apart, total = [], 0
    for k in range(1, 5):
        weights = np.exp(model.bound_vjp(x, lengths, np.full((n, 1), k), rng.standard_normal((n, 2, 1)))[0])
        share = (d == k).mean()
        total += share
        apart.append((weights.mean() - share) / np.sqrt(weights.var() / n + share * (1 - share) / n))
    assert total > 0.3 and (np.abs(apart).max() < 4 if agrees else np.abs(apart).max() > 10), (apart, total)


def test_the_first_coupling_is_not_read():
    model, (x, lengths, _, noise, _) = of_options("plain")
    w, d = model.sample(x, lengths, noise)
    all_w, all_d = model.sample(x, lengths, noise, skips_first=False)
    assert np.array_equal(w, all_w) and np.array_equal(d, all_d)
    assert len(model.without_first().inner.stages) == len(model.prior.inner.stages) - 1
    other, _ = of_options("exchanged")
    assert not np.array_equal(other.sample(x, lengths, noise)[0], other.sample(x, lengths, noise, skips_first=False)[0])
    assert len(other.without_first().inner.stages) == len(other.prior.inner.stages) - 2


def test_noise_scale_and_length_scale():
    model, (x, lengths, _, noise, _) = of_options("plain")
    w, d = model.sample(x, lengths, noise, 0.5, 1.5)
    again, _ = model.sample(x, lengths, 0.5 * noise)
    assert np.array_equal(w, again) and np.array_equal(d[MASK], np.ceil(1.5 * np.exp(w[MASK])))
    assert not w[~MASK].any() and not d[~MASK].any() and (d[MASK] >= 1).all()


# -- dequantisation over the whole range -------------------------------------------------------------------------------

A = np.concatenate([sign * np.exp2(np.arange(-1074, 1001, 7)) for sign in (1, -1)] + [
    np.linspace(-40, 40, 161), [0.0, 0.34657359, 11.6, 36.7, 37.5, 708.5, 744.5, 745.5, -708.5, -745.5]])


def truth(a, d):
    """[(value, kappa)] of w, the log-slope, the slope and the bend."""
    with mpmath.workdps(60):
        a, d, log1p = mpmath.mpf(a), int(d), mpmath.log1p
        u, s = 1 / (1 + mpmath.exp(-a)), 1 / (1 + mpmath.exp(a))
        w = log1p(d - 2 + s) if d > 1 else log1p(mpmath.exp(a)) * -1 if a < 0 else -a - log1p(mpmath.exp(-a))
        L = log1p(mpmath.exp(-abs(a)))
        log_slope = -abs(a) - 2 * L - w if d > 1 else min(a, 0) - L
        r = s / (d - 1 + s) if d > 1 else 1
        bend = -mpmath.tanh(a / 2) + u * r if d > 1 else s
        tilt = -u * r * bend                                                # the slope of the slope
        bent = -2 * u * s - tilt if d > 1 else -u * s                       # and of the bend
        found = [w, log_slope, -u * r, bend]
        return [(float(q), float(abs(q) + abs(a * dq))) for q, dq in zip(found, (-u * r, bend, tilt, bent))]


def worst(function, d, dtype):
    """The largest error of each quantity in units of rounding."""
    info = np.finfo(dtype)
    a = A[np.abs(A) < info.max].astype(dtype)
    one, zero = np.ones_like(a), np.zeros_like(a)
    with np.errstate(all="ignore"):
        (w, log_slope), pullback = function(a, np.full_like(a, d))
        given = w, log_slope, pullback(one, zero), pullback(zero, one)
    assert all(q.dtype == dtype for q in given)
    exact = np.array([truth(float(a_i), dtype(d)) for a_i in a])
    unit = float(info.eps) / 2 * exact[..., 1] + float(info.smallest_subnormal)
    return np.max(np.abs(np.stack(given, 1).astype(float) - exact[..., 0]) / unit, 0)


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=lambda d: d.__name__)
@pytest.mark.parametrize("d", [1, 2, 3, 19, 2**31 - 1])
def test_log_rest(d, dtype):
    assert (worst(log_rest_vjp, d, dtype) <= 4).all(), worst(log_rest_vjp, d, dtype)


def naive(a, d):
    """As it is written at first, with 1 - u."""
    u = 1 / (1 + np.exp(-a))
    w = np.log(d - u)
    slope = -u * (1 - u) / (d - u)
    bars = slope, 1 - 2 * u - slope
    return (w, np.log(u) + np.log(1 - u) - w), lambda w_bar, l_bar: w_bar * bars[0] + l_bar * bars[1]


def test_naive_forms_are_found():
    assert not (worst(naive, 1, np.float64) < 1e6).any() and (worst(naive, 2, np.float64)[[0, 1, 2]] > 1e6).all()


def test_the_clip_of_their_code_is_left_out():
    """For d = 1 and a large, log(max(d - u, 1e-5)) stays, (3) goes on."""
    (w, _), _ = log_rest_vjp(np.array([11.0, 12.0, 800.0]), np.ones(3))
    clipped = np.log(np.maximum(1 - 1 / (1 + np.exp(-np.array([11.0, 12.0, 800.0]))), 1e-5))
    assert np.isclose(w[0], clipped[0]) and np.allclose(w[1:], [-12.000006, -800]) and (clipped[1:] == np.log(1e-5)).all()


# -- padding changes nothing -------------------------------------------------------------------------------------------

def everything(model, x, lengths, d, noise, g):
    bound, pullback = model.bound_vjp(x, lengths, d, noise, g)
    x_bar, g_bar, bars = pullback(np.ones(len(x)))
    w, sampled = model.sample(x, lengths, noise, g=g)
    found = {"bound": bound, "x_bar": x_bar, "w": w, "d": sampled} | dict(flatten(bars))
    return found if g is None else found | {"g_bar": g_bar}


@pytest.mark.parametrize("name", OPTIONS)
def test_padding_changes_nothing(name):
    model, (x, lengths, d, noise, g) = of_options(name)
    wanted = everything(model, x, lengths, d, noise, g)
    assert not wanted["x_bar"].swapaxes(1, 2)[~MASK].any()
    for junk in (np.nan, 1e300):
        padded = (np.where(MASK[:, None], array, junk) for array in (x, noise))
        x_junk, noise_junk = padded
        found = everything(model, x_junk, lengths, np.where(MASK, d, -7), noise_junk, g)
        assert all(np.array_equal(found[key], value) for key, value in wanted.items())
    for i, n in enumerate(lengths):
        one = slice(i, i + 1)
        alone = everything(model, x[one, :, :n], lengths[one], d[one, :n], noise[one, :, :n], None if g is None else g[one])
        for key in ("bound", "x_bar", "w", "d"):
            given = wanted[key][one] if key == "bound" else wanted[key][one, ..., :n]
            assert np.allclose(alone[key], given, rtol=1e-11, atol=1e-11), key


# -- the networks ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kernel, dilation, T", [(3, 1, 6), (3, 3, 7), (3, 9, 4), (2, 1, 5), (4, 2, 5), (1, 4, 3)])
def test_depthwise_is_a_convolution_with_diagonal_kernels(kernel, dilation, T):
    rng = RNG(4)
    W, b, a = rng.standard_normal((3, kernel)), rng.standard_normal(3), rng.standard_normal((B, 3, T))
    mask, h_bar = rng.random((B, T)) < 0.8, rng.standard_normal((B, 3, T))
    net, wide = DepthwiseConv1d(W, b, dilation, mask), Conv1d(np.eye(3)[..., None] * W[:, None], b, dilation, mask)
    (h, pullback), (wanted, wide_pullback) = net.vjp(a), wide.vjp(a)
    (a_bar, bars), (wide_a_bar, wide_bars) = pullback(h_bar), wide_pullback(h_bar)
    assert np.allclose(h, wanted, atol=1e-14) and np.allclose(a_bar, wide_a_bar, atol=1e-14)
    assert np.allclose(bars["W"], wide_bars["W"][range(3), range(3)], atol=1e-14) and np.allclose(bars["b"], wide_bars["b"])
    assert np.array_equal(net.jacobian(a), wide.jacobian(a))


def test_laws_of_a_network():
    rng = RNG(5)
    net = separable_network(rng, 1, 2, 3, 3, 1, context=True)
    net = net.at(context=rng.standard_normal((2, 4)), mask=np.array([True, True, True, False]))
    a, h_bar = (rng.standard_normal((8, n, 4)) for n in (1, 3))
    run_network_laws(net, NetworkPoints(net, without_padding(net, a), without_padding(net, h_bar)))


def test_the_start():
    model = stochastic_durations(RNG(6), 5, dtype=np.float32)
    flow = duration_flow(RNG(6), 5)
    nets = [stage.net for stage in flow.stages if hasattr(stage, "net")]
    assert model.dtype == np.float32 and len(nets) == 4 and all(not net.layers[-1].W.any() for net in nets)
    assert [net.layers[i].inner.layers[0].dilation for net in nets[:1] for i in (2, 3, 4)] == [1, 3, 9]
    assert isinstance(nets[0].layers[1], AddedSignal) and model.text.layers[0].W.any()
    wide = stochastic_durations(RNG(6))
    assert wide.text.layers[0].W.shape == (192, 192, 1) and len(wide.prior.inner.stages) == 9
    x, lengths, d, noise, _ = batch_of(channels=5, dtype=np.float32)
    bound, pullback = model.bound_vjp(x, lengths, d, noise)
    assert bound.dtype == np.float32 and {bar.dtype for _, bar in flatten(pullback(1.0)[2])} == {np.dtype(np.float32)}
    assert np.allclose(bound, model.astype(np.float64).bound_vjp(*batch_of(channels=5))[0], rtol=1e-4)


def test_dropout_goes_in_by_order():
    model, (x, lengths, d, noise, _) = of_options("plain")
    keeps = RNG(7).random((2, B, 4, I)) < 0.5
    dropped = model.replace(text=with_dropout(model.text, keeps, 0.5))
    places = [value for _, value in tree.walk(dropped.text) if isinstance(value, Dropout)]
    assert [np.array_equal(place.keep, keep) for place, keep in zip(places, keeps)] == [True, True]
    assert not np.array_equal(dropped.bound_vjp(x, lengths, d, noise)[0], model.bound_vjp(x, lengths, d, noise)[0])


# -- refusals ----------------------------------------------------------------------------------------------------------

X, _, D, E, _ = batch_of()


def changed(array, index, value):
    array = np.array(array, float)
    array[index] = value
    return array


@pytest.mark.parametrize("given, parts", [
    ({"x": X[0]}, ["bound_vjp", "x must have 3 axes", "(4, 6)"]),
    ({"x": changed(X, (1, 2, 4), np.nan)}, ["x must be finite", "x[1, 2, 4] = nan"]),
    ({"x": X.astype(np.float16)}, ["x must be float32 or float64", "float16"]),
    ({"noise": changed(E, (0, 1, 5), np.inf)}, ["noise must be finite", "noise[0, 1, 5] = inf"]),
    ({"noise": E[:, :1]}, ["noise must be (3, 2, 6)", "(3, 1, 6)"]),
    ({"lengths": np.array([6, 7, 1])}, ["lengths must be in 1 .. 6", "lengths[1] = 7"]),
    ({"lengths": np.array([6, 5])}, ["lengths must be 3 whole numbers"]),
    ({"d": changed(D, (1, 4), 0)}, ["d must be whole numbers from 1", "d[1, 4] = 0"]),
    ({"d": changed(D, (0, 2), 2.5)}, ["d must be whole numbers", "d[0, 2] = 2.5"]),
    ({"d": D[:, :5]}, ["d must be (3, 6) whole numbers", "(3, 5)"]),
    ({"g": np.ones((3, 2))}, ["g must not be given", "no speakers"])])
def test_refusals(given, parts):
    model = model_of()
    with pytest.raises(ValueError) as refused:
        model.bound_vjp(**{"x": X, "lengths": LENGTHS, "d": D, "noise": E} | given)
    assert all(part in str(refused.value) for part in parts), str(refused.value)


def test_refusals_of_models_and_speakers():
    model, (x, lengths, d, noise, g) = of_options("speakers")
    for given, part in ((None, "g must be given"), (g[:2], "g must be (3, G)"), (g * np.nan, "finite; g[0, 0] = nan"),
                        (g[0], "g must have 2 axes"), (np.array("two"), "bound_vjp: g must")):
        with pytest.raises(ValueError, match="StochasticDurations.bound_vjp") as refused:
            model.bound_vjp(x, lengths, d, noise, given)
        assert part in str(refused.value)
    with pytest.raises(ValueError, match="StochasticDurations.sample: noise_scale must be finite and >= 0, not -1"):
        model.sample(x, lengths, noise, -1, g=g)
    parts = {key: getattr(model, key) for key in ("text", "durations", "speaker", "posterior", "prior")}
    affine = tree.copied(model.prior, inner=tree.copied(model.prior.inner, stages=model.prior.inner.stages[:1]))
    for wrong, part in (({"prior": model.prior.inner}, "prior must be Inverse(Chain"),
                        ({"speaker": model.speaker * 2}, "at most one"), ({"prior": affine}, "a stage that is a Coupling")):
        with pytest.raises(ValueError, match="StochasticDurations") as refused:
            StochasticDurations(**parts | wrong)
        assert part in str(refused.value)
