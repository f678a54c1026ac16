"""Convolutions: values against SciPy's, gradients against differences, paddings, sizes and blocks, refusals."""

import sys
import tracemalloc

import mpmath
import numpy as np
import pytest
from scipy.signal import correlate2d

from refflow.core.tree import flatten
from refflow.laws.pages import equations
from refflow.maps.conditioners import (BijectorLayer, Conv2d, Dense, ImageContext, ReLU, Residual, Sequential, TanhActivation,
                                       WeightNormConv2d)
from refflow.maps.conditioners.correlation import COLUMNS, Correlation
from refflow.maps.coupling import AdditiveCoupling, AffineCoupling, masks
from refflow.maps.normalization import GlowActNorm
from validation.certify import certified

PADDINGS = ("zeros", "edge", "ones")
# C, M, I, J: fewer channels in, fewer out, equally many; even kernels, kernels of one row, one entry, larger than the image
SHAPES = [(1, 3, 3, 3), (3, 2, 3, 3), (2, 2, 5, 3), (2, 3, 2, 4), (3, 1, 1, 3), (2, 3, 1, 1), (3, 2, 1, 1), (1, 1, 9, 9)]


def padded(a, size, padding):
    """The image with its border, and with the border's channel for "edge"."""
    before = [((n - 1) // 2, n // 2) for n in size]
    image = np.pad(a, ((0, 0), *before), constant_values=float(padding == "ones"))
    if padding == "edge" and size != (1, 1):
        image = np.concatenate((image, np.pad(np.zeros((1, *a.shape[1:])), ((0, 0), *before), constant_values=1.0)))
    return image


def by_scipy(a, W, b, padding):
    image = padded(a, W.shape[-2:], padding)
    return np.stack([sum(correlate2d(channel, k, "valid") for channel, k in zip(image, kernels)) for kernels in W]) + \
        b[:, None, None]


def drawn(rng, C, M, I, J, padding, lead=()):
    channels = C + (padding == "edge" and (I, J) != (1, 1))
    return Conv2d(rng.standard_normal((*lead, M, channels, I, J)), rng.standard_normal(M), padding)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_value_is_scipys(shape, padding):
    rng = np.random.default_rng(0)
    net, a = drawn(rng, *shape, padding), rng.standard_normal((2, 3, shape[0], 4, 5))
    h = net.forward(a)
    assert h.shape == (2, 3, shape[1], 4, 5)
    for index in np.ndindex(2, 3):
        wanted = by_scipy(a[index], net.W, net.b, padding)
        assert np.allclose(h[index], wanted, rtol=0, atol=1e-13 * np.abs(wanted).max())


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_definition_is_the_value(shape, padding):
    rng = np.random.default_rng(1)
    net, a = drawn(rng, *shape, padding), rng.standard_normal((shape[0], 3, 2))
    defined = Conv2d.definition(mpmath.mp, a.tolist(), net.W.tolist(), net.b.tolist(), padding)
    assert np.allclose(np.float64(defined), net.forward(a), rtol=0, atol=1e-13)


def differences_of(net, a, h_bar):
    """(a_bar, params_bar) by central differences, exact up to rounding where the map is linear."""
    def loss(net, a):
        return (net.forward(a) * h_bar).sum()

    def along(change, array):
        found = np.zeros(array.shape)
        for index in np.ndindex(array.shape):
            up, down = array.copy(), array.copy()
            up[index], down[index] = array[index] + 1e-5, array[index] - 1e-5
            found[index] = (loss(*change(up)) - loss(*change(down))) / 2e-5
        return found

    return along(lambda value: (net, value), a), {
        path: along(lambda value: (net.replace(**{path[0]: value}), a), array)          # noqa: B023
        for path, array in flatten(net.params())}


@pytest.mark.parametrize("lead", [(), (2,), (1,)])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_those_of_differences(shape, padding, lead):
    rng = np.random.default_rng(2)
    net, a = drawn(rng, *shape, padding, lead), rng.standard_normal((2, shape[0], 2, 3))
    h, pullback = net.vjp(a)
    h_bar = rng.standard_normal(h.shape)
    a_bar, bars = pullback(h_bar)
    wanted, wanted_bars = differences_of(net, a, h_bar)
    assert np.allclose(a_bar, wanted, atol=1e-8)
    assert {("W",), ("b",)} == wanted_bars.keys()
    for (key,), bar in wanted_bars.items():
        assert bars[key].shape == bar.shape and np.allclose(bars[key], bar, atol=1e-8)
    J = net.jacobian(a)
    assert np.allclose(np.einsum("no,noi->ni", h_bar.reshape(2, -1), J), a_bar.reshape(2, -1), atol=1e-13)


@pytest.mark.parametrize("channels", [(2, 5), (5, 2)])
@pytest.mark.parametrize("size", [1, 3])
def test_blocks_of_images_are_all_of_them(channels, size):
    """More images than fit in a block, and not a multiple of that."""
    rng = np.random.default_rng(3)
    C, M = channels
    count = 2 * (COLUMNS // 16) + 3
    kernels, a, h_bar = (rng.standard_normal(s) for s in ((M, C, size, size), (count, C, 4, 4), (count, M, 4, 4)))
    correlation = Correlation(kernels)
    h, (a_bar, kernels_bar) = correlation.forward(a), correlation.pullback(a, h_bar)
    each = [Correlation(kernels) for _ in a]
    assert np.allclose(h, [f.forward(image) for f, image in zip(each, a)], atol=1e-13)
    pulled = [f.pullback(image, bar) for f, image, bar in zip(each, a, h_bar)]
    assert np.allclose(a_bar, [bar for bar, _ in pulled], atol=1e-13)
    assert np.allclose(kernels_bar, sum(bar for _, bar in pulled), atol=1e-11)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("channels", [(2, 3), (3, 2)])
def test_float32_stays(channels, padding):
    rng = np.random.default_rng(4)
    wide = drawn(rng, *channels, 3, 3, padding)
    net, a = wide.astype(np.float32), rng.standard_normal((2, channels[0], 5, 5)).astype(np.float32)
    h, pullback = net.vjp(a)
    a_bar, bars = pullback(np.ones_like(h))
    assert {h.dtype, a_bar.dtype, net.jacobian(a).dtype, *(bar.dtype for bar in bars.values())} == {np.dtype(np.float32)}
    assert np.allclose(h, wide.forward(a.astype(np.float64)), atol=2e-5)


@pytest.mark.parametrize("channels", [(64, 2), (2, 64)])
def test_copies_are_made_in_blocks_on_the_narrow_side(channels):
    """Peak memory beyond the results is less than one copy of the wide side, let alone nine."""
    C, M = channels
    rng = np.random.default_rng(5)
    kernels, a, h_bar = (rng.standard_normal(s) for s in ((M, C, 3, 3), (40, C, 16, 16), (40, M, 16, 16)))
    correlation = Correlation(kernels)
    tracemalloc.start()
    h = correlation.forward(a)
    forward = tracemalloc.get_traced_memory()[1] - h.nbytes
    tracemalloc.reset_peak()
    a_bar, _ = correlation.pullback(a, h_bar)
    pullback = tracemalloc.get_traced_memory()[1] - h.nbytes - a_bar.nbytes
    tracemalloc.stop()
    assert max(forward, pullback) < max(a.nbytes, h_bar.nbytes) / 4


def test_an_image_without_channels_sees_the_border_alone():
    rng = np.random.default_rng(6)
    net, a = Conv2d(rng.standard_normal((3, 1, 3, 3)), padding="edge"), np.zeros((2, 0, 4, 3))
    h, pullback = net.vjp(a)
    wanted = np.stack([by_scipy(np.zeros((0, 4, 3)), net.W, np.zeros(3), "edge")] * 2)
    assert np.allclose(h, wanted, atol=1e-14) and np.ptp(h[:, :, 1:-1, 1:-1]) == 0
    a_bar, bars = pullback(np.ones_like(h))
    assert a_bar.shape == a.shape and bars["W"].shape == net.W.shape
    assert np.allclose(bars["W"][0, 0], 2 * np.array([[6, 3, 6], [4, 0, 4], [6, 3, 6]]))     # how often each entry is used


def test_a_pixel_and_an_empty_batch():
    net = drawn(np.random.default_rng(7), 2, 3, 3, 3, "edge")
    a = np.array([[[1.0]], [[-2.0]]])
    wanted = net.W[:, 0, 1, 1] - 2 * net.W[:, 1, 1, 1] + net.W[:, 2].sum((-2, -1)) - net.W[:, 2, 1, 1] + net.b
    assert np.allclose(net.forward(a)[:, 0, 0], wanted, atol=1e-14)
    h, pullback = net.vjp(np.zeros((0, 2, 4, 4)))
    a_bar, bars = pullback(h)
    assert h.shape == (0, 3, 4, 4) and a_bar.shape == (0, 2, 4, 4) and not bars["W"].any()


def test_no_bias_is_no_parameter():
    net = Conv2d(np.ones((1, 1, 3, 3)))
    assert list(net.params()) == ["W"] and list(net.vjp(np.ones((1, 2, 2)))[1](np.ones((1, 2, 2)))[1]) == ["W"]


@pytest.mark.parametrize("make, parts", [
    (lambda: Conv2d(np.ones((1, 1, 3, 3)), padding="same"), ["Conv2d", "padding", "'same'"]),
    (lambda: Conv2d(np.ones((1, 0, 3, 3)), padding="edge"), ["Conv2d", "border", "(1, 0, 3, 3)"]),
    (lambda: Conv2d(np.ones((1, 1, 0, 3))), ["Conv2d", "at least one entry"]),
    (lambda: Conv2d(np.ones((1, 3, 3))), ["Conv2d", "W", "(1, 3, 3)"]),
    (lambda: Conv2d(np.ones((2, 1, 3, 3)), np.ones(3)), ["Conv2d", "b", "M=2"]),
    (lambda: Conv2d(np.ones((2, 3, 3, 3))).forward(np.ones((2, 4, 4))), ["Conv2d", "C=3", "(2, 4, 4)"]),
    (lambda: Conv2d(np.ones((2, 3, 3, 3)), padding="edge").forward(np.ones((3, 4, 4))), ["Conv2d", "C=2"]),
    (lambda: Conv2d(np.ones((2, 3, 3, 3))).forward(np.ones((4, 4))), ["Conv2d", "3 axes"]),
    (lambda: WeightNormConv2d(np.zeros((1, 1, 3, 3))), ["WeightNormConv2d", "v", "not all 0"]),
    (lambda: WeightNormConv2d(np.ones((1, 1, 3, 3)), padding="valid"), ["WeightNormConv2d", "padding"]),
    (lambda: ImageContext(Dense(np.ones((2, 3))), ()).forward(np.ones((1, 2, 2))), ["ImageContext", "at(context=...)"]),
    (lambda: ImageContext(Dense(np.ones((2, 3))), [Conv2d(np.ones((1, 1, 3, 3)))], np.ones(3)).forward(np.ones((1, 2, 2))),
     ["ImageContext", "Conv2d", "(1, 2, 2)"]),
])
def test_bad_input_is_refused_by_name(make, parts):
    with pytest.raises(ValueError) as caught:
        make()
    for part in parts:
        assert part in str(caught.value)


# -- weight normalisation ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("gain", [True, False])
def test_weight_norm(gain, padding):
    rng = np.random.default_rng(8)
    v, b = rng.standard_normal((2, 2, 3, 3)), rng.standard_normal(2)
    a = rng.standard_normal((2, 2 - (padding == "edge"), 3, 2))
    g = rng.standard_normal(2) if gain else None
    net = WeightNormConv2d(v, g, b, padding)
    W = v / np.sqrt((v**2).sum((1, 2, 3), keepdims=True)) * (1 if g is None else g[:, None, None, None])
    assert np.allclose(net.forward(a), Conv2d(W, b, padding).forward(a), atol=1e-14)
    h, pullback = net.vjp(a)
    h_bar = rng.standard_normal(h.shape)
    a_bar, bars = pullback(h_bar)
    wanted, wanted_bars = differences_of(net, a, h_bar)
    assert np.allclose(a_bar, wanted, atol=1e-8) and bars.keys() == net.params().keys()
    for (key,), bar in wanted_bars.items():
        assert np.allclose(bars[key], bar, atol=1e-8)
    assert np.allclose((bars["v"] * v).sum((1, 2, 3)), 0, atol=1e-13)          # the length of v does not matter


def test_weight_norm_of_huge_cotangents():
    """If the cotangent of W nearly overflows, v's cotangent is still its multiple."""
    rng = np.random.default_rng(9)
    net = WeightNormConv2d(rng.standard_normal((1, 2, 3, 3)))
    a, h_bar = rng.standard_normal((2, 3, 3)), rng.standard_normal((1, 3, 3))
    small, huge = (net.vjp(a)[1](np.ldexp(h_bar, k))[1]["v"] for k in (0, 1015))
    assert np.isfinite(huge).all() and np.allclose(np.ldexp(huge, -1015), small, rtol=1e-12)


# -- networks of layers -----------------------------------------------------------------------------------------------

def actnorm(C, rank=3):
    return GlowActNorm(np.zeros(C), np.zeros(C), rank=rank)


def network(rng, C=2, M=3, out=2):
    return Sequential((Conv2d(rng.standard_normal((M, C + 1, 3, 3)), padding="edge"), BijectorLayer(actnorm(M)), ReLU(),
                       Conv2d(rng.standard_normal((out, M, 1, 1))), BijectorLayer(actnorm(out))))


def standardised(h):
    assert np.allclose(h.mean((0, 2, 3)), 0, atol=1e-12) and np.allclose(h.std((0, 2, 3)), 1, atol=1e-4)


def test_initialisation_goes_through_networks():
    rng = np.random.default_rng(10)
    a = 3 + 2 * rng.standard_normal((6, 2, 4, 4))
    net = network(rng).initialised(a, rng)
    standardised(net.forward(a))
    first = net.layers[1].forward(net.layers[0].forward(a))
    standardised(first)
    residual = Residual(network(rng)).initialised(a, rng)
    standardised(residual.forward(a) - a)
    context = rng.standard_normal((6, 3))
    both = ImageContext(Dense(rng.standard_normal((2, 3))), [network(rng)], context).initialised(a, rng)
    standardised(both.layers[0].forward(a))
    assert Sequential((ReLU(),)).initialised(a, rng).equals(Sequential((ReLU(),)))


@pytest.mark.parametrize("side", ["initialised", "inverse_initialised"])
def test_initialisation_reaches_a_couplings_network(side):
    rng = np.random.default_rng(11)
    mask = masks.channels(masks.halves(4), 3)
    a = 1 + rng.standard_normal((6, 4, 4, 4))
    for coupling in (AdditiveCoupling(mask, network(rng)), AffineCoupling(mask, network(rng, out=4))):
        standardised(getattr(coupling, side)(a, rng).net.forward(a[:, :2]))


def test_image_context():
    rng = np.random.default_rng(12)
    layers = [Conv2d(rng.standard_normal((2, 2, 3, 3))), Conv2d(rng.standard_normal((2, 2, 1, 1)))]
    net = Sequential((Dense(rng.standard_normal((2, 3))), TanhActivation()))
    a, c = rng.standard_normal((4, 2, 3, 3)), rng.standard_normal((4, 3))
    for context in (c, c[0]):
        f = ImageContext(net, layers).at(context=context)
        h, pullback = f.vjp(a)
        assert np.allclose(h, layers[0].forward(a) + layers[1].forward(a) + net.forward(context)[..., None, None])
        assert np.allclose(h, f.forward(a))
        h_bar = rng.standard_normal(h.shape)
        a_bar, bars = pullback(h_bar)
        assert bars["context"].shape == context.shape and bars.keys() == f.params().keys()
        step, da = rng.standard_normal(context.shape), rng.standard_normal(a.shape)
        up, down = (f.at(context=context + t * step).forward(a + t * da) for t in (1e-6, -1e-6))
        wanted = ((up - down) * h_bar).sum() / 2e-6
        assert abs((bars["context"] * step).sum() + (a_bar * da).sum() - wanted) < 1e-7 * abs(wanted)
        assert np.allclose(np.einsum("noi,ni->no", f.jacobian(a), da.reshape(4, -1)),
                           (layers[0].forward(da) + layers[1].forward(da)).reshape(4, -1))
    alone = ImageContext(net, (), c)
    assert np.ptp(alone.forward(a), axis=(2, 3)).max() == 0 and not alone.vjp(a)[1](alone.forward(a))[0].any()


def test_the_definition_of_an_image_context():
    net, layer = Dense([[1.0], [2.0]], [0.5, 0.25]), Conv2d([[[[3.0]]], [[[-1.0]]]])

    class Given:
        def __init__(self, page, **fields):
            self.page, self.fields = page, fields

        def definition(self, m, a):
            return self.page.definition(m, a, **self.fields)

    parts = (Given(Dense, W=net.W.tolist(), b=net.b.tolist()),
             [Given(Conv2d, W=layer.W.tolist(), b=None, padding="zeros")])
    a = [[[1.0, 2.0], [4.0, 8.0]]]
    assert np.allclose(ImageContext.definition(mpmath.mp, a, *parts, [0.5]),
                       ImageContext(net, [layer], [0.5]).forward(np.array(a)), rtol=1e-15)


# -- the pages --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("page", [Conv2d, WeightNormConv2d, ImageContext, Correlation])
def test_every_equation_is_cited(page):
    assert equations(sys.modules[page.__module__]) == []


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_certificate(dtype):
    rows, count = certified(Conv2d, dtype, "forward")
    assert count >= 100
    for quantity, row in rows.items():
        assert float(row["C"]) <= row["allowed"] <= 8 and row["share"] >= 0.5, (quantity, row)
