"""The networks of Glow-TTS: their authors' numbers, dilation, masks, the gate over the whole range, gradients, builders."""

import sys

import numpy as np
import pytest

from refflow.core.tree import at_path, flatten
from refflow.laws.conditioner_laws import NetworkPoints, run_network_laws, without_padding
from refflow.laws.pages import equations
from refflow.maps.conditioners import (BijectorLayer, Conv1d, Conv2d, Dense, Dropout, GatedActivation, LayerNorm, Positionwise,
                                       ReLU, Residual, Sequential, SignalContext, TanhActivation, UnitVector, WaveNet,
                                       WeightNormConv1d, WeightNormDense, duration_network, feed_forward_network, prenet,
                                       wave_net_coupling_network, with_dropout)
from refflow.maps.normalization import ActNorm
from validation.certify import certified
from validation.original import comparison, glow_tts_networks

RNG = np.random.default_rng


# -- the authors' numbers ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("file", glow_tts_networks.FILES)
def test_agrees_with_the_authors_code(file):
    found, unanswered = glow_tts_networks.read(file)
    assert not unanswered and len(found) >= 5
    assert max(value.measure for value in found.values()) <= 1e-11, found


@pytest.mark.parametrize("file, key, quantity", [
    ("glowtts_coupling_plain", "out/z", "latents"), ("glowtts_coupling_plain", "out/logdet", "log-det"),
    ("glowtts_coupling_plain", "grad/wn.in_layers.1.weight_g", "gradients of parameters"),
    ("glowtts_coupling_plain", "wn/grad/res_skip_layers.2.bias", "wave net: gradients of parameters"),
    ("glowtts_coupling_plain", "out/reverse_of_z", "inverse"),
    ("glowtts_duration_predictor", "grad/norm_2.gamma", "gradients of parameters"),
    ("glowtts_small_layers", "prenet/gradin/x", "prenet: gradient of input"),
    ("glowtts_small_layers", "ffn_gelu/grad/conv_1.bias", "ffn_gelu: gradients of parameters")])
def test_one_wrong_number_is_found(file, key, quantity, monkeypatch):
    config, theirs = comparison.numbers(file)
    theirs[key] = theirs[key] + 1e-6 * np.abs(theirs[key]).max()
    monkeypatch.setattr(glow_tts_networks, "numbers", lambda name: (config, theirs))
    found, _ = glow_tts_networks.read(file)
    assert [name for name, value in found.items() if value.measure > comparison.ALLOWED] == [quantity]


# -- convolutions -----------------------------------------------------------------------------------------------------

# C, M, K, dilation, T: even kernels, one entry, kernels that reach beyond both ends, fewer channels in and fewer out
SHAPES = [(1, 3, 3, 1, 6), (3, 2, 3, 2, 7), (2, 2, 5, 3, 4), (2, 3, 2, 1, 5), (3, 1, 2, 2, 5), (2, 3, 4, 3, 6), (3, 2, 1, 4, 3),
          (1, 1, 3, 9, 2)]


def by_the_formula(a, W, b, dilation):
    """The sum, one shifted signal after the other."""
    T, K = a.shape[-1], W.shape[-1]
    before = dilation * (K - 1) // 2
    wide = np.pad(a, ((0, 0), (0, 0), (before, dilation * (K - 1) - before)))
    return sum(np.einsum("mc,nct->nmt", W[..., k], wide[..., dilation * k:dilation * k + T]) for k in range(K)) + b[:, None]


def drawn(rng, C, M, K, dilation, mask=None, lead=()):
    return Conv1d(rng.standard_normal((*lead, M, C, K)), rng.standard_normal(M), dilation, mask)


@pytest.mark.parametrize("C, M, K, dilation, T", SHAPES)
def test_value_of_a_convolution(C, M, K, dilation, T):
    rng = RNG(0)
    net, a = drawn(rng, C, M, K, dilation), rng.standard_normal((4, C, T))
    h = net.forward(a)
    assert h.shape == (4, M, T) and np.allclose(h, by_the_formula(a, net.W, net.b, dilation), rtol=0, atol=1e-13)
    if dilation == 1:
        image = Conv2d(net.W[..., None, :], net.b).forward(a[..., None, :])
        assert np.array_equal(h, image[..., 0, :])


@pytest.mark.parametrize("lead", [(), (2,), (1,)])
@pytest.mark.parametrize("C, M, K, dilation, T", SHAPES)
def test_gradients_of_a_convolution(C, M, K, dilation, T, lead):
    """The map is linear in a, in W and in b: a difference is its gradient."""
    rng = RNG(1)
    net, a = drawn(rng, C, M, K, dilation, lead=lead), rng.standard_normal((2, C, T))
    h, pullback = net.vjp(a)
    h_bar = rng.standard_normal(h.shape)
    a_bar, bars = pullback(h_bar)
    for key, bar in (("a", a_bar), ("W", bars["W"]), ("b", bars["b"])):
        step = rng.standard_normal(bar.shape)
        moved = net.forward(a + step) if key == "a" else net.replace(**{key: getattr(net, key) + step}).forward(a)
        assert np.isclose((bar * step).sum(), ((moved - h) * h_bar).sum(), rtol=1e-12, atol=1e-12)
    assert np.allclose(np.einsum("no,noi->ni", h_bar.reshape(2, -1), net.jacobian(a)), a_bar.reshape(2, -1), atol=1e-13)


def test_padding_is_the_authors():
    """int((k d - d) / 2) positions before."""
    for K in range(1, 8):
        for d in range(1, 5):
            W = np.zeros((1, 1, K))
            W[..., 0] = 1
            h = Conv1d(W, dilation=d).forward(np.arange(1.0, 41)[None])
            before = int((K * d - d) / 2)
            assert h[0, before] == 1 and not h[0, :before].any()


def test_weight_norm_is_a_convolution_with_normalised_kernels():
    rng = RNG(2)
    v, g, b = rng.standard_normal((4, 3, 5)), rng.standard_normal(4), rng.standard_normal(4)
    mask, a = rng.random((6, 9)) < 0.7, rng.standard_normal((6, 3, 9))
    W = g[:, None, None] * v / np.sqrt((v * v).sum((1, 2), keepdims=True))
    net, plain = WeightNormConv1d(v, g, b, 2, mask), Conv1d(W, b, 2, mask)
    h, pullback = net.vjp(a)
    h_bar = rng.standard_normal(h.shape)
    (a_bar, bars), (plain_a_bar, plain_bars) = pullback(h_bar), plain.vjp(a)[1](h_bar)
    assert np.allclose(h, plain.forward(a), atol=1e-13) and np.allclose(a_bar, plain_a_bar, atol=1e-13)
    assert np.allclose(bars["g"], (plain_bars["W"] * W).sum((1, 2)) / g) and np.allclose(bars["b"], plain_bars["b"])
    assert np.allclose((bars["v"] * v).sum((1, 2)), 0, atol=1e-12)              # a length of v changes nothing
    step = 1e-6 * rng.standard_normal(v.shape)
    up, down = (net.replace(v=v + way * step).forward(a) for way in (1, -1))
    assert np.isclose((bars["v"] * step).sum(), ((up - down) * h_bar).sum() / 2, rtol=1e-7)
    assert np.allclose(net.jacobian(a), plain.jacobian(a), atol=1e-14)


# -- masks: padding changes nothing -----------------------------------------------------------------------------------

H, T = 3, 7
MASKS = np.array([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0], [1, 0, 0, 0, 0, 0, 0], [0, 1, 1, 0, 1, 0, 1], [0] * 7]) == 1


def wave_net(rng, context=0, n=3, kernel=3, dilation_rate=2, res_kernel=1):
    in_layers = [drawn(rng, H, 2 * H, kernel, dilation_rate**i) for i in range(n)]
    res_skips = [drawn(rng, H, H if i == n - 1 else 2 * H, res_kernel, 1) for i in range(n)]
    cond = [Dense(rng.standard_normal((2 * H * n, context)), rng.standard_normal(2 * H * n))] if context else []
    return WaveNet(in_layers, res_skips, cond)


def nets(rng):
    return {
        "Conv1d": drawn(rng, H, 4, 3, 2), "even": drawn(rng, H, 2, 4, 1), "narrow": drawn(rng, H, 1, 3, 1),
        "WeightNormConv1d": WeightNormConv1d(rng.standard_normal((2, H, 3)), b=rng.standard_normal(2)),
        "Positionwise": Positionwise(Dense(rng.standard_normal((2, H)), rng.standard_normal(2))),
        "channel norm": Positionwise(LayerNorm(rng.standard_normal(H), rng.standard_normal(H), 1e-4)),
        "unit vectors": Positionwise(UnitVector()),
        "WaveNet": wave_net(rng), "WaveNet with wide skips": wave_net(rng, res_kernel=3),
        "WaveNet with both": wave_net(rng, 2, res_kernel=3).at(context=rng.standard_normal((5, 2))),
        "WaveNet with a context": wave_net(rng, 2).at(context=rng.standard_normal((5, 2))),
        "coupling": wave_net_coupling_network(rng, H, 4, 2, 2, 3, 2),
        "duration": duration_network(rng, H, 4),
        "duration with a context": duration_network(rng, H, 4, context=2).at(context=rng.standard_normal((5, 2))),
        "prenet": prenet(rng, H, 4, 2), "feed-forward": feed_forward_network(rng, H, 4, 2),
        "activation first": Sequential((TanhActivation(), drawn(rng, H, 2, 3, 1))),
        "residual": Residual(Sequential((drawn(rng, H, H, 3, 1), ReLU()))),
    }


@pytest.mark.parametrize("rows", [slice(None), slice(2, 3), slice(4, 5)], ids=["ragged", "one position", "none"])
@pytest.mark.parametrize("name", nets(RNG(0)))
def test_padding_changes_nothing(name, rows):
    """Each sequence alone, cut to its valid span, gives what it gives in a batch of padded ones, whatever the padding holds."""
    rng = RNG(3)
    net = nets(rng)[name]
    mask, a = MASKS[rows], rng.standard_normal((5, H, T))[rows]
    net = net.at(context=net.held("context")[0][rows]) if net.held("context") else net
    hidden = np.where(mask[:, None], a, 0)
    filled = net.at(mask=mask)
    h, pullback = filled.vjp(hidden)
    h_bar = rng.standard_normal(h.shape)
    a_bar, bars = pullback(h_bar)
    valid = np.broadcast_to(mask[:, None], h.shape)
    assert not h[~valid].any() and not a_bar[~np.broadcast_to(mask[:, None], a.shape)].any()
    for junk in (np.nan, np.inf, 1e300):
        again, pullback = filled.vjp(np.where(mask[:, None], a, junk))
        again_bar, again_bars = pullback(np.where(valid, h_bar, junk))
        assert np.array_equal(again, h) and np.array_equal(again_bar, a_bar)
        assert np.array_equal(filled.forward(np.where(mask[:, None], a, junk)), h)
        assert np.array_equal(filled.jacobian(np.where(mask[:, None], a, junk)), filled.jacobian(hidden))
        for path, bar in flatten(bars):
            assert np.array_equal(at_path(again_bars, path), bar), path
        if name not in ("residual", "prenet"):          # what is added to a layer's output passes every cotangent on
            with np.errstate(all="ignore"):
                inside, inside_bars = filled.unchecked(np.float64).vjp(hidden)[1](np.where(valid, h_bar, junk))
            assert np.array_equal(inside, a_bar)
            for path, bar in flatten(bars):
                assert np.array_equal(at_path(inside_bars, path), bar), path
    for i, row in enumerate(mask):
        if row.any() and row[:row.sum()].all():         # a prefix: the same signal without its padding
            own = net.at(context=net.held("context")[0][i]) if net.held("context") else net
            alone = own.forward(a[i][:, :row.sum()])
            assert np.allclose(h[i][:, :row.sum()], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", nets(RNG(0)))
def test_gradients_with_a_mask(name):
    """The pullback is the gradient, by differences; J is its transpose; parameters' cotangents ignore the padding."""
    rng = RNG(4)
    net = nets(rng)[name].at(mask=MASKS)
    a = np.where(MASKS[:, None], rng.standard_normal((5, H, T)) + 0.01, 0)
    h, pullback = net.vjp(a)
    h_bar = rng.standard_normal(h.shape)
    a_bar, bars = pullback(h_bar)
    assert {path for path, _ in flatten(bars)} == {path for path, _ in flatten(net.params())}
    step = np.where(MASKS[:, None], rng.standard_normal(a.shape), 0)
    J, seen = net.jacobian(a), np.where(MASKS[:, None], h_bar, 0).reshape(5, -1)
    assert np.allclose(np.einsum("no,noi->ni", seen, J), a_bar.reshape(5, -1), atol=1e-12)
    direction = {path: rng.standard_normal(leaf.shape) for path, leaf in flatten(net.params())}

    def moved(by):
        vector = np.concatenate([v.ravel() for v in direction.values()]) if direction else np.zeros(0)
        other = net.unravel(net.ravel() + by * vector)
        return (other.forward(a + by * step) * h_bar).sum()

    wanted = (8 * (moved(1e-5) - moved(-1e-5)) - (moved(2e-5) - moved(-2e-5))) / 12e-5
    found = (a_bar * step).sum() + sum((at_path(bars, path) * v).sum() for path, v in direction.items())
    assert np.isclose(found, wanted, rtol=1e-7, atol=1e-7)


def test_masks_of_a_wave_net_alone():
    """Its layers need not know the mask: the net itself leaves nothing at invalid positions, and reads nothing there."""
    rng = RNG(5)
    net, a = wave_net(rng, 2).at(context=rng.standard_normal(2)), rng.standard_normal((5, H, T))
    alone = WaveNet(net.in_layers, net.res_skips, net.cond, net.context, MASKS)
    h, pullback = alone.unchecked(np.float64).vjp(np.where(MASKS[:, None], a, 0))           # as inside a network
    wanted, wanted_pullback = net.at(mask=MASKS).vjp(a)
    h_bar = rng.standard_normal(h.shape)
    assert np.allclose(h, wanted, atol=1e-13)
    (a_bar, bars), (wanted_bar, wanted_bars) = pullback(h_bar), wanted_pullback(h_bar)
    assert np.array_equal(alone.forward(a), h) and np.allclose(a_bar, wanted_bar, atol=1e-12)
    for path, bar in flatten(wanted_bars):
        assert np.allclose(at_path(bars, path), bar, atol=1e-11), path


def test_statistics_come_from_valid_positions():
    rng = RNG(6)
    data, layer = 3 + 2 * rng.standard_normal((5, H, T)), BijectorLayer(ActNorm(np.ones(H), np.zeros(H)))
    net = Positionwise(layer).at(mask=MASKS).initialised(np.where(MASKS[:, None], data, np.nan), rng)
    h = net.forward(data).swapaxes(1, 2)[MASKS]
    assert np.allclose(h.mean(0), 0, atol=1e-12) and np.allclose(h.std(0), 1, atol=1e-4)


# -- the wave net -----------------------------------------------------------------------------------------------------

def their_wave_net(net, x, mask, c, dropped):
    """The recursion of their code, line by line; `dropped(i, a)` is the dropout of layer i."""
    H, n, output = x.shape[1], len(net.in_layers), np.zeros_like(x)
    for i in range(n):
        a = dropped(i, by_the_formula(x, net.in_layers[i].W, net.in_layers[i].b, net.in_layers[i].dilation))
        a = a + c[:, 2 * H * i:2 * H * (i + 1), None]
        acts = np.tanh(a[:, :H]) / (1 + np.exp(-a[:, H:]))
        r = by_the_formula(acts, net.res_skips[i].W, net.res_skips[i].b, 1)
        if i < n - 1:
            x = (x + r[:, :H]) * mask
            output = output + r[:, H:]
        else:
            output = output + r
    return output * mask


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("n", [1, 2, 4])
def test_wave_net_is_theirs(n, context, dropout):
    rng = RNG(7)
    net, x = wave_net(rng, context, n), rng.standard_normal((5, H, T)) * MASKS[:, None]
    u = rng.standard_normal((5, context))
    keeps = rng.random((n, 5, 2 * H, T)) < 0.75
    c = net.cond[0].forward(u) if context else np.zeros((5, 2 * H * n))
    wanted = their_wave_net(net, x, MASKS[:, None], c, lambda i, a: a * keeps[i] / 0.75 if dropout else a)
    if dropout:
        net = net.replace(in_layers=tuple(Sequential((layer, Dropout(True, 0.0))) for layer in net.in_layers))
        net = with_dropout(net, keeps, 0.25)
    net = net.at(mask=MASKS)
    assert np.allclose((net.at(context=u) if context else net).forward(x), wanted, rtol=0, atol=1e-13)


def test_the_cotangent_of_the_context():
    rng = RNG(8)
    a, u, h_bar = (rng.standard_normal(shape) for shape in ((5, H, T), (5, 2), (5, H, T)))
    for c in (u, u[0]):
        net = wave_net(rng, 2).at(context=c, mask=MASKS)
        bar = net.vjp(a)[1](h_bar)[1]["context"]
        step = rng.standard_normal(c.shape)
        up, down = (net.at(context=c + way * 1e-6 * step).forward(a) for way in (1, -1))
        assert bar.shape == c.shape and np.isclose((bar * step).sum(), ((up - down) * h_bar).sum() / 2e-6, rtol=1e-7)
    without = wave_net(rng).at(context=u)
    assert not without.vjp(a)[1](h_bar)[1]["context"].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", ["Conv1d", "WeightNormConv1d", "Positionwise", "channel norm", "WaveNet",
                                  "WaveNet with a context", "coupling", "duration"])
def test_laws(name, dtype):
    rng = RNG(9)
    net = nets(rng)[name].at(mask=np.array([True, True, True, False]))
    net = (net.at(context=rng.standard_normal(2)) if net.held("context") else net).astype(dtype)
    a = rng.standard_normal((4, H, 4)).astype(dtype)
    h_bar = rng.standard_normal((4, *net.output_shape((H, 4)))).astype(dtype)
    run_network_laws(net, NetworkPoints(net, without_padding(net, a), without_padding(net, h_bar)))


def test_a_wave_net_is_initialised_with_its_context():
    """The last layer's output has the mean 0 and the deviation 1 for the data and the context, which fills half of the gates."""
    rng = RNG(13)
    last = Sequential((drawn(rng, H, H, 1, 1), Positionwise(BijectorLayer(ActNorm(np.ones(H), np.zeros(H))))))
    cond = [Dense(4 * rng.standard_normal((2 * H, 2)), rng.standard_normal(2 * H))]
    net = WaveNet([drawn(rng, H, 2 * H, 3, 1)], [last], cond).at(context=rng.standard_normal((50, 2)))
    a = rng.standard_normal((50, H, T))
    h = net.initialised(a, rng).forward(a)
    assert np.allclose(h.mean((0, 2)), 0, atol=1e-12) and np.allclose(h.std((0, 2)), 1, atol=1e-4)


# -- the gate and unit vectors ----------------------------------------------------------------------------------------

def test_gate():
    rng = RNG(10)
    for rank, shape in ((1, (6,)), (2, (6, 4)), (3, (6, 2, 3))):
        a = rng.standard_normal((5, *shape))
        h, pullback = GatedActivation(rank).vjp(a)
        assert h.shape == (5, 3, *shape[1:])
        assert np.allclose(h, np.tanh(a[:, :3]) / (1 + np.exp(-a[:, 3:])), rtol=1e-14)
        h_bar = rng.standard_normal(h.shape)
        J = GatedActivation(rank).jacobian(a)
        assert np.allclose(np.einsum("no,noi->ni", h_bar.reshape(5, -1), J), pullback(h_bar)[0].reshape(5, -1), atol=1e-15)


def test_unit_vector_is_torchs_normalize():
    eps = 1e-12
    u = np.array([[3.0, -4.0], [3e-13, 4e-13], [0.0, 0.0], [3e200, 4e200], [3e-200, 0.0]])
    h, pullback = UnitVector().vjp(u)
    assert np.allclose(h, [[0.6, -0.8], [0.3, 0.4], [0, 0], [0.6, 0.8], [3e-188, 0]], rtol=1e-15, atol=0)
    a_bar, _ = pullback(np.array([[1.0, 2.0]] * 5))
    assert np.allclose(a_bar, [[0.32, 0.24], [1 / eps, 2 / eps], [1 / eps, 2 / eps], [-6.4e-202, 4.8e-202],
                               [1 / eps, 2 / eps]], rtol=1e-14)


# -- builders and refusals --------------------------------------------------------------------------------------------

def test_coupling_network_starts_as_in_their_code():
    net = wave_net_coupling_network(RNG(11), 5, 6, 10, 4, 3, 2, context=3, dtype=np.float32)
    start, wave, end = net.layers
    assert net.dtype == np.float32 and [layer.layers[0].dilation for layer in wave.in_layers] == [1, 2, 4, 8]
    assert not end.W.any() and not end.b.any() and isinstance(end, Conv1d)
    for layer, bound in ((start, 5**-0.5), (wave.in_layers[0].layers[0], 18**-0.5), (wave.res_skips[3], 6**-0.5)):
        assert np.allclose(layer.g, np.sqrt((layer.v**2).sum((1, 2)))) and 0 < np.abs(layer.v).max() <= bound
        assert 0 < np.abs(layer.b).max() <= bound
    assert isinstance(wave.cond[0].layers[1], WeightNormDense) and wave.cond[0].layers[1].v.shape == (48, 3)
    net = net.at(context=np.ones((2, 3), np.float32))
    assert not net.forward(np.ones((2, 5, 7), np.float32)).any()
    assert net.equals(wave_net_coupling_network(RNG(11), 5, 6, 10, 4, 3, 2, context=3, dtype=np.float32).at(
        context=np.ones((2, 3), np.float32)))


def test_duration_and_prenet_at_the_start():
    a = RNG(12).standard_normal((2, H, T))
    assert duration_network(RNG(0), H, 8).forward(a).shape == (2, 1, T)
    assert np.array_equal(prenet(RNG(0), H, 8).forward(a), a)


def test_a_context_is_further_channels():
    rng = RNG(14)
    net, a, u = duration_network(rng, H, 4, context=2), rng.standard_normal((5, H, T)), rng.standard_normal((5, 2))
    e = u / np.sqrt((u * u).sum(-1, keepdims=True))
    both = np.concatenate((a, np.repeat(e[..., None], T, -1)), 1)
    h, pullback = net.at(context=u, mask=MASKS).vjp(a)
    wanted, wanted_pullback = net.inner.at(mask=MASKS).vjp(both)
    assert np.allclose(h, wanted, rtol=0, atol=1e-14)
    a_bar, bars = pullback(h)
    both_bar, _ = wanted_pullback(h)
    e_bar = both_bar[:, H:].sum(-1)
    along = (e_bar * e).sum(-1, keepdims=True)
    assert np.allclose(a_bar, both_bar[:, :H], atol=1e-13)
    assert np.allclose(bars["context"], (e_bar - e * along) / np.sqrt((u * u).sum(-1, keepdims=True)), atol=1e-12)
    with pytest.raises(ValueError, match="SignalContext.*at\\(context"):
        net.forward(a)


def test_dropout_goes_in_by_order():
    rng = RNG(13)
    net, a = duration_network(rng, H, 4), rng.standard_normal((2, H, T))
    keeps = rng.random((2, 2, 4, T)) < 0.5
    dropped = with_dropout(net, keeps, 0.5)
    assert np.array_equal(dropped.layers[7].keep, keeps[1]) and dropped.layers[7].rate == 0.5
    assert not np.array_equal(dropped.forward(a), net.forward(a))
    with pytest.raises(ValueError, match="2 dropouts, not 1"):
        with_dropout(net, keeps[:1], 0.5)


def layers_of(*shapes):
    return tuple(Conv1d(np.ones(shape)) for shape in shapes)


@pytest.mark.parametrize("make, parts", [
    (lambda: Conv1d(np.ones((1, 1, 3)), dilation=0), ["Conv1d", "dilation", "0"]),
    (lambda: Conv1d(np.ones((1, 1, 3)), dilation=1.5), ["Conv1d", "dilation", "1.5"]),
    (lambda: Conv1d(np.ones((1, 1, 0))), ["Conv1d", "at least one entry"]),
    (lambda: Conv1d(np.ones((1, 3))), ["Conv1d", "W", "(1, 3)"]),
    (lambda: Conv1d(np.ones((2, 1, 3)), np.ones(3)), ["Conv1d", "b", "M=2"]),
    (lambda: Conv1d(np.ones((2, 3, 3))).forward(np.ones((2, 4))), ["Conv1d", "C=3", "(2, 4)"]),
    (lambda: Conv1d(np.ones((2, 3, 3)), mask=np.ones(5, bool)).forward(np.ones((3, 4))), ["Conv1d", "T=5", "(3, 4)"]),
    (lambda: Conv1d(np.ones((2, 3, 3)), mask=np.ones(5)), ["Conv1d", "mask", "bool"]),
    (lambda: Conv1d(np.ones((2, 3, 3)), mask=np.array([True, False])).forward(np.full((3, 2), np.nan)), ["a[0, 0]", "nan"]),
    (lambda: WeightNormConv1d(np.zeros((1, 1, 3))), ["WeightNormConv1d", "v", "not all 0", "v[0]"]),
    (lambda: Positionwise(ReLU()), ["Positionwise", "vectors", "(0, 0)"]),
    (lambda: Positionwise(Dense(np.ones((4, 2, 3)))), ["Positionwise", "no batch", "(4,)"]),
    (lambda: Positionwise(Dense(np.ones((2, 3)))).forward(np.ones((4, 5))), ["Positionwise", "Dense", "(3,)", "(4, 5)"]),
    (lambda: Positionwise(Dense(np.ones((2, 3))), np.ones(4, bool)).forward(np.ones((3, 5))), ["Positionwise", "T=4"]),
    (lambda: GatedActivation(4), ["GatedActivation", "rank", "4"]),
    (lambda: GatedActivation().forward(np.ones(3)), ["GatedActivation", "even", "(3,)"]),
    (lambda: UnitVector(0.0), ["UnitVector", "eps", "> 0"]),
    (lambda: WaveNet((), (), ()), ["WaveNet", "at least one", "0, 0 and 0"]),
    (lambda: WaveNet(layers_of((2, 1, 1)), (), ()), ["WaveNet", "as many", "1, 0 and 0"]),
    (lambda: WaveNet(layers_of((2, 1, 1)), layers_of((2, 1, 1)), ()).forward(np.ones((1, 3))),
     ["WaveNet", "res_skips[0]", "(2, 3)", "(1, 3) is needed"]),
    (lambda: WaveNet(layers_of((2, 1, 1)), layers_of((1, 1, 1)), (Dense(np.ones((3, 2))),)).forward(np.ones((1, 3))),
     ["WaveNet", "3 numbers", "2 H n = 2"]),
    (lambda: WaveNet(layers_of((2, 1, 1)), layers_of((1, 1, 1)), (Dense(np.ones((2, 2))),)).forward(np.ones((1, 3))),
     ["WaveNet", "at(context=...)"]),
    (lambda: duration_network(RNG(0), 0, 4), ["duration_network", "inputs", "0"]),
    (lambda: wave_net_coupling_network(RNG(0), 2, 4, 2, layers=1.5), ["wave_net_coupling_network", "layers", "1.5"]),
])
def test_bad_input_is_refused_by_name(make, parts):
    with pytest.raises(ValueError) as caught:
        make()
    for part in parts:
        assert part in str(caught.value)


# -- the pages --------------------------------------------------------------------------------------------------------

PAGES = [Conv1d, WeightNormConv1d, Positionwise, GatedActivation, SignalContext, UnitVector, WaveNet]


@pytest.mark.parametrize("page", PAGES)
def test_every_equation_is_cited(page):
    assert equations(sys.modules[page.__module__]) == []


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("page", [GatedActivation, Positionwise])
def test_certificate(page, dtype):
    rows, count = certified(page, dtype, "forward")
    assert count >= 40
    for quantity, row in rows.items():
        assert float(row["C"]) <= row["allowed"] <= 8 and row["share"] >= 0.5, (quantity, row)
