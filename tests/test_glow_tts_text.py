"""The text side of Glow-TTS: attention, embedding, the encoder; the authors' numbers and a plain transcription."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from refflow.accuracy.drawing import Point
from refflow.accuracy.quantities import distinct
from refflow.core.tree import flatten
from refflow.laws.conditioner_laws import NetworkPoints, run_network_laws
from refflow.maps.conditioners import (Dense, Embedding, RelativeAttention, Sequential, SignalContext,
                                       duration_network, relative_attention, with_dropout)
from refflow.models.glow_tts_text import attention, projection, text_encoder, text_vjp
from refflow.truth.measure import compared
from validation import original
from validation.certify import allowed, claims, truth
from validation.original import glow_tts_text as theirs_of

FLOATS = SimpleNamespace(exp=math.exp, sqrt=math.sqrt, mpf=float)         # a namespace for definitions


# -- the authors' numbers ---------------------------------------------------------------------------------------------

def test_agrees_with_the_authors_code():
    assert len(theirs_of.FILES) == 2
    for file in theirs_of.FILES:
        quantities, unanswered = theirs_of.read(file)
        assert unanswered == []
        for quantity, value in quantities.items():
            assert original.passes(value) and "ill-conditioned" not in value.reason, (file, quantity, value)


WRONG = {"glowtts_attention_win4_short": {
            "out/y": "output", "out/attn": "weights of keys", "gradin/x": "gradient of input",
            "grad/emb_rel_k": "gradients of parameters", "grad/emb_rel_v": "gradients of parameters",
            "grad/conv_v.bias": "gradients of parameters"},
         "glowtts_text_encoder_meanonly_prenet": {
            "out/x_m": "means", "out/logw": "log-durations", "grad/emb.weight": "gradients of parameters",
            "grad/proj_w.norm_2.beta": "gradients of parameters",
            "grad/encoder.attn_layers.1.conv_k.weight": "gradients of parameters"}}


@pytest.mark.parametrize("file, key, quantity", [(file, *item) for file, wrong in WRONG.items() for item in wrong.items()])
def test_a_wrong_number_is_found(file, key, quantity, monkeypatch):
    right = theirs_of.numbers

    def wrong(name):
        config, found = right(name)
        changed = dict(found)
        changed[key] = np.array(changed[key])
        changed[key].reshape(-1)[0] += 1e-6 * (1 + abs(changed[key].reshape(-1)[0]))
        return config, type(found)(changed)

    monkeypatch.setattr(theirs_of, "numbers", wrong)
    assert not original.passes(theirs_of.read(file)[0][quantity])


# -- attention --------------------------------------------------------------------------------------------------------

def drawn_attention(rng, heads=2, d=3, window=2, own=False, block_length=None, T=5, dropped=False, lengths=None):
    """(attention, events of two sentences)."""
    E = (None, None) if window is None else rng.standard_normal((2, heads if own else 1, 2 * window + 1, d))
    keep = rng.random((2, heads, T, T)) < 0.7 if dropped else None
    mask = None if lengths is None else np.arange(T) < np.array(lengths)[:, None]
    net = RelativeAttention(*E, heads, block_length, keep, 0.3 if dropped else 0.0, mask)
    return net, rng.standard_normal((2, 3 * heads * d, T))


SETTINGS = {
    "two heads": {}, "one head": {"heads": 1}, "no window": {"window": None}, "a window of 0": {"window": 0},
    "a window wider than the text": {"window": 9}, "embeddings of each head": {"own": True}, "one position": {"T": 1},
    "blocks": {"block_length": 1}, "blocks of one": {"block_length": 0, "window": 3}, "dropout": {"dropped": True},
    "padding": {"lengths": (5, 2)}, "everything": {"own": True, "block_length": 2, "dropped": True, "lengths": (3, 4), "T": 6},
    "an empty sentence": {"lengths": (0, 5)}, "a long text": {"T": 23, "window": 4, "d": 1}}


def of_event(net, n):
    """The fields of one event, as a definition takes them."""
    fields = {key: getattr(net, key) for key in net.declared}
    for key, rank in (("keep", 3), ("mask", 1)):
        if fields[key] is not None and fields[key].ndim > rank:
            fields[key] = fields[key][n]
    return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in fields.items()}


@pytest.mark.parametrize("setting", SETTINGS)
def test_attention_is_its_definition(setting):
    net, a = drawn_attention(np.random.default_rng(1), **SETTINGS[setting])
    loops = [RelativeAttention.definition(FLOATS, a[n].tolist(), **of_event(net, n)) for n in range(2)]
    assert np.allclose(net.forward(a), loops, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("setting", SETTINGS)
def test_attention_has_its_derivatives(setting):
    rng = np.random.default_rng(2)
    net, a = drawn_attention(rng, **SETTINGS[setting])
    h, pullback = net.vjp(a)
    h_bar = rng.standard_normal(h.shape)
    a_bar, bars = pullback(h_bar)
    J = net.jacobian(a)
    assert np.allclose(np.vecmat(h_bar.reshape(2, -1), J), a_bar.reshape(2, -1), rtol=1e-12, atol=1e-13)
    moves = {"a": rng.standard_normal(a.shape)} | {key: rng.standard_normal(np.shape(bar)) for key, bar in bars.items()}
    for key, move in moves.items():
        def value(step):
            moved = net if key == "a" else net.replace(**{key: getattr(net, key) + step * move})      # noqa: B023
            return (moved.forward(a + step * move if key == "a" else a) * h_bar).sum()         # noqa: B023
        slope = (a_bar if key == "a" else bars[key]).ravel() @ move.ravel()
        assert abs((value(1e-5) - value(-1e-5)) / 2e-5 - slope) < 1e-8 * (1 + abs(slope)), key


def test_attention_keeps_gradients_where_one_weight_is_nearly_1():
    """The weight of the other key is exp(-60): the scores' gradient is of that size, and accurate."""
    a = np.array([[60.0, 1.0], [1.0, 0.0], [3.0, -2.0]])
    q_bar = RelativeAttention().vjp(a)[1](np.array([[1.0, 0.0]]))[0][0, 0]
    assert abs(q_bar / (math.exp(-60) * (3.0 + 2.0)) - 1) < 1e-14


def test_attention_with_embeddings_far_larger_than_keys():
    """Two keys at distances with equal embeddings: their scores differ by what the keys differ, below the embeddings' digits."""
    far = RelativeAttention([[[0.0], [2.0**60], [2.0**60]]], np.zeros((1, 3, 1)))
    h = far.forward(np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]))
    assert abs(h[0, 0] * (1 + math.e) - 1) < 1e-15


HUGE = {np.float32: 2.0**126, np.float64: 2.0**1000}


def far_points(dtype):
    """Points with huge scores: keys are equal except for their distances, or cancel among channels; cotangents overflow."""
    h = HUGE[dtype]
    alike = RelativeAttention([[[1.5, -1.0], [-0.25, 2.0], [0.5, 0.75]]], [[[1.0, 2.0], [-0.5, 0.25], [3.0, 1.0]]])
    keys = [[1.0, h, -2.0], [h, 0.5, h], [h, h, h], [0.25, h, h], [1.0, -3.0, h], [h, 0.125, 4.0]]
    cancelling = RelativeAttention()
    channels = [[h, h], [1.5, h], [h, h], [-np.nextafter(dtype(h), dtype(0)), -h], [1.0, 2.0], [3.0, 0.5]]
    below = RelativeAttention(mask=[True, True, True])
    negative = [[h, 1.0, 1.0], [-h, 0.25, 0.5], [1.0, -h, h]]
    for net, a in ((alike, keys), (cancelling, channels), (below, negative)):
        a = np.array(a, dtype)
        h_bar = np.full(net.output_shape(a.shape), 2.0**20, dtype) * np.arange(1, a.shape[1] + 1, dtype=dtype)
        yield Point(net.astype(dtype), "forward", a, h_bar, None)


@pytest.fixture(scope="module")
def far_truths():
    return [(point, truth(point)) for point in far_points(np.float32)]


def largest_excess(point, true):
    """The largest error, in units of what is allowed, of the answers at a point."""
    found = compared(distinct(claims(point)), true, point.dtype)
    return max(C / allowed(point, name) for name, (C, _) in found.items())


def test_attention_is_exact_where_scores_are_huge(far_truths):
    assert all(largest_excess(*one) <= 1 for one in far_truths)


@pytest.mark.parametrize("name, bug", [("far", lambda q, k, E: np.zeros((*q.shape[:-2], q.shape[-1], 1), bool)),
                                       ("power", lambda *of: 0),
                                       ("expansion", lambda terms: [sum(terms)])])
def test_rounded_scores_and_overflowing_products_are_seen(name, bug, far_truths, monkeypatch):
    monkeypatch.setattr(relative_attention, name, bug)
    assert not all(largest_excess(*one) < 1e4 for one in far_truths)


@pytest.mark.parametrize("dtype", HUGE)
def test_both_ways_of_attention_agree(dtype, monkeypatch):
    """Moderate events need neither exact scores nor exponents apart, in a batch of events and of masks."""
    rng = np.random.default_rng(8)
    net = RelativeAttention(*(rng.standard_normal((2, 1, 5, 3))), 2, 2, mask=rng.random((4, 6)) < 0.7).astype(dtype)
    a, h_bar = rng.standard_normal((4, 18, 6)).astype(dtype), rng.standard_normal((4, 6, 6)).astype(dtype)
    (h, pullback), J = net.vjp(a), net.jacobian(a)
    a_bar, bars = pullback(h_bar)
    monkeypatch.setattr(relative_attention, "power", lambda *of: None)
    monkeypatch.setattr(relative_attention, "far", lambda q, k, E: np.ones((*q.shape[:-2], q.shape[-1], 1), bool))
    (again, pullback), J_again = net.vjp(a), net.jacobian(a)
    a_bar_again, bars_again = pullback(h_bar)
    for one, other in ((h, again), (J, J_again), (a_bar, a_bar_again), *((bars[key], bars_again[key]) for key in bars)):
        assert one.dtype == other.dtype and one.shape == other.shape
        assert np.allclose(one, other, rtol=1e-4 if dtype is np.float32 else 1e-12, atol=1e-5 if dtype is np.float32 else 1e-13)


@pytest.mark.parametrize("make, parts", [
    (lambda: RelativeAttention(heads=0), ["heads", "not 0"]),
    (lambda: RelativeAttention(heads=True), ["heads"]),
    (lambda: RelativeAttention(block_length=-1), ["block_length", "-1"]),
    (lambda: RelativeAttention(rate=1.0), ["rate", "[0, 1)"]),
    (lambda: RelativeAttention(E_k=np.zeros((1, 3, 2))), ["E_k and E_v"]),
    (lambda: RelativeAttention(*np.zeros((2, 1, 2, 2))), ["2 w + 1", "(1, 2, 2)"]),
    (lambda: RelativeAttention(*np.zeros((2, 2, 3, 2)), heads=3), ["heads=3", "(2, 3, 2)"]),
    (lambda: RelativeAttention(keep=np.ones((2, 3, 3), bool)), ["keep", "heads=1"]),
    (lambda: RelativeAttention(heads=2).forward(np.ones((9, 4))), ["3 C channels", "heads=2"]),
    (lambda: RelativeAttention(*np.zeros((2, 1, 3, 2))).forward(np.ones((9, 4))), ["N=6"]),
    (lambda: RelativeAttention().forward(np.ones((3, 0))), ["at least one position"]),
    (lambda: RelativeAttention(mask=[True, False]).forward(np.ones((3, 3))), ["T=2"]),
])
def test_attention_refuses_by_name(make, parts):
    with pytest.raises(ValueError, match="RelativeAttention") as caught:
        make()
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("setting", ["no window", "padding", "blocks"])
def test_laws_of_attention_with_other_settings(setting, dtype):
    rng = np.random.default_rng(4)
    net, a = drawn_attention(rng, **{"d": 1} | SETTINGS[setting] | {"T": 2, "lengths": None})
    net = net.at(mask=[False, True]) if setting == "padding" else net
    net, a = net.astype(dtype) if net.dtype else net, rng.standard_normal((16, *a.shape[1:])).astype(dtype)
    valid = 1 if net.mask is None else net.mask
    h_bar = rng.standard_normal((16, *net.output_shape(a.shape[1:])))
    run_network_laws(net, NetworkPoints(net, (a * valid).astype(dtype), (h_bar * valid).astype(dtype)))


# -- embedding --------------------------------------------------------------------------------------------------------

def test_embedding_scatters_its_gradient():
    E, tokens = np.arange(12.0).reshape(4, 3), np.array([[1, 3, 1], [0, 1, 2]])
    net = Embedding(E, 2.0, mask=[[True, True, True], [True, True, False]])
    h, pullback = net.vjp(tokens)
    assert np.array_equal(h[0], 2 * E[[1, 3, 1]].T) and np.array_equal(h[1], [[0, 6, 0], [2, 8, 0], [4, 10, 0]])
    h_bar = np.random.default_rng(0).standard_normal(h.shape)
    a_bar, bars = pullback(h_bar)
    wanted = np.zeros((4, 3))
    for n, t in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1)):
        wanted[tokens[n, t]] += 2 * h_bar[n, :, t]
    assert np.allclose(bars["E"], wanted, rtol=1e-15) and not a_bar.any() and a_bar.shape == tokens.shape


def test_a_table_for_each_text():
    rng = np.random.default_rng(0)
    E, tokens, h_bar = rng.standard_normal((2, 4, 3)), np.array([[1, 3], [0, 0]]), rng.standard_normal((2, 3, 2))
    h, pullback = Embedding(E).vjp(tokens)
    for n in range(2):
        alone, alone_pullback = Embedding(E[n]).vjp(tokens[n])
        assert np.array_equal(h[n], alone)
        assert np.array_equal(pullback(h_bar)[1]["E"][n], alone_pullback(h_bar[n])[1]["E"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_laws_of_an_embedding_with_a_mask(dtype):
    rng, mask = np.random.default_rng(7), np.array([True, True, False])
    net, a = Embedding(rng.standard_normal((4, 2)), 0.5, mask).astype(dtype), rng.integers(0, 4, (16, 3)) * mask
    run_network_laws(net, NetworkPoints(net, a.astype(dtype), (rng.standard_normal((16, 2, 3)) * mask).astype(dtype)))


@pytest.mark.parametrize("tokens, found", [
    ([[0, 1], [2, 3]], "a[1, 1] = 3.0"), ([[0, -1], [2, 3]], "a[0, 1] = -1.0"), ([0.0, 0.5], "a[1] = 0.5"),
    ([0.0, np.nan], "a[1] = nan"), ([np.inf, 1.0], "a[0] = inf"),
])
def test_bad_tokens_are_refused(tokens, found):
    embedding = Embedding(np.ones((3, 2)))
    for net in (embedding, Sequential((embedding, projection(np.random.default_rng(0), 2, 1)))):
        for method in (net.forward, net.vjp, net.jacobian):
            with pytest.raises(ValueError, match="must be a whole number from 0 to 2") as caught:
                method(tokens)
            assert found in str(caught.value) and type(net).__name__ in str(caught.value)


def test_a_table_decides_the_dtype():
    """Tokens are exact in every dtype: an integer array must not make a float32 network compute in float64."""
    net = text_encoder(np.random.default_rng(0), 9, 4, 6, 2, 1, dtype=np.float32)
    for tokens in (np.array([1, 2, 8]), [1, 2, 8], np.float32([1, 2, 8]), np.float64([1, 2, 8])):
        h, pullback = net.vjp(tokens)
        assert h.dtype == np.float32 and {bar.dtype for _, bar in flatten(pullback(h)[1])} == {np.dtype(np.float32)}


# -- the encoder ------------------------------------------------------------------------------------------------------

SIZES = {"tokens": 11, "channels": 6, "filters": 7, "layers": 2, "kernel": 3}
ENCODERS = {
    "the authors' settings": {"heads": 2, "window": 4}, "one head": {"heads": 1, "window": 2},
    "no window": {"heads": 2, "window": None},
    "blocks": {"heads": 2, "window": 1, "block_length": 2},
    "no prenet": {"heads": 3, "window": 4, "has_prenet": False},
    "kernels of five": {"heads": 2, "window": 3, "kernel": 5}, "dropout": {"heads": 2, "window": 2, "dropped": True},
    "dropout, blocks, no window": {"heads": 1, "window": None, "block_length": 1, "dropped": True},
    "speakers": {"heads": 2, "window": 1, "speaker": 3, "mean_only": False}}


def settings_of(name):
    given = {"dropped": False, "speaker": 0, "mean_only": True} | ENCODERS[name]
    return given, {key: value for key, value in (SIZES | given).items() if key not in ("dropped", "speaker", "mean_only")}


def drawn_networks(rng, name):
    """({name: network}, tokens, mask, speaker), with every parameter drawn, those that start at 0 or 1 too."""
    given, sizes = settings_of(name)
    C, speakers = sizes["channels"], given["speaker"]
    nets = {"encoder": text_encoder(rng, **sizes), "mean": projection(rng, C, 4),
            "log_scale": None if given["mean_only"] else projection(rng, C, 4),
            "durations": duration_network(rng, C + speakers, 5, sizes["kernel"])}
    nets = {key: net and net.unravel(net.ravel() + 0.3 * rng.standard_normal(net.ravel().size)) for key, net in nets.items()}
    tokens, mask = rng.integers(0, 11, (3, 9)), np.arange(9) < np.array([9, 4, 1])[:, None]
    nets = {key: net and net.at(mask=mask) for key, net in nets.items()}
    speaker = rng.standard_normal((3, speakers)) if speakers else None
    if speakers:
        nets["durations"] = SignalContext(Dense(np.eye(speakers)), nets["durations"], speaker, mask)
    return nets, tokens, mask, speaker


def keeps_of(rng, name, T=9):
    """Masks of the encoder's dropout in its order, and their rates."""
    given, sizes = settings_of(name)
    C, prenet = sizes["channels"], given.get("has_prenet", True)
    shapes = [(3, C, T)] * (3 if prenet else 0)
    for _ in range(sizes["layers"]):
        shapes += [(3, given["heads"], T, T), (3, C, T), (3, sizes["filters"], T), (3, C, T)]
    rates = [0.5] * (3 if prenet else 0) + [0.1] * 4 * sizes["layers"]
    return [rng.random(shape) >= rate for shape, rate in zip(shapes, rates)], rates


class Transcription:
    """The authors' forward pass, written out in another library, which differentiates it."""

    def __init__(self, torch, params, settings, keeps, rates):
        self.torch, self.p, self.settings = torch, params, settings
        self.drops = iter(list(zip(keeps, rates)))

    def drop(self, x):
        keep, rate = next(self.drops, (None, 0))
        return x if keep is None else x * self.torch.tensor(keep) / (1 - rate)

    def conv(self, name, x):
        W = self.p[f"{name}.weight"]
        return self.torch.nn.functional.conv1d(x, W, self.p[f"{name}.bias"], padding=W.shape[-1] // 2)

    def norm(self, name, x):
        mean = x.mean(1, keepdim=True)
        return (x - mean) * ((x - mean) ** 2).mean(1, keepdim=True).add(1e-4).rsqrt() * self.p[f"{name}gamma"][:, None] \
            + self.p[f"{name}beta"][:, None]

    def relative(self, E, T):
        """E[j - i + w], (1, T, T, d), 0 beyond the window."""
        w, r = E.shape[1] // 2, self.torch.arange(T) - self.torch.arange(T)[:, None]
        return E[:, (r + w).clamp(0, 2 * w)] * (r.abs() <= w)[..., None]

    def attend(self, name, x, mask):
        qkv, (B, C, T), heads = self.conv(f"{name}conv_qkv", x), x.shape, self.settings["heads"]
        q, k, v = (part.reshape(B, heads, C // heads, T).transpose(2, 3) for part in qkv.split(C, 1))
        scores, window, block = q @ k.transpose(2, 3), self.settings["window"], self.settings.get("block_length")
        if window is not None:
            scores = scores + self.torch.einsum("bhid,gijd->bhij", q, self.relative(self.p[f"{name}emb_rel_k"], T))
        scores = scores / math.sqrt(C // heads)
        scores = scores.masked_fill(mask[:, :, None] * mask[..., None] == 0, -1e4)
        if block is not None:
            near = self.torch.ones_like(scores).triu(-block).tril(block)
            scores = scores * near - 1e4 * (1 - near)
        P = self.drop(scores.softmax(-1))
        h = P @ v
        if window is not None:
            h = h + self.torch.einsum("bhij,gijd->bhid", P, self.relative(self.p[f"{name}emb_rel_v"], T))
        return self.conv(f"{name}conv_o", h.transpose(2, 3).reshape(B, C, T))

    def encode(self, tokens, mask):
        C = self.settings["channels"]
        x = (self.p["emb.weight"][tokens] * math.sqrt(C)).transpose(1, 2)
        if self.settings.get("has_prenet", True):
            first = x
            for i in range(3):
                x = self.norm(f"pre.norm_layers.{i}.", self.conv(f"pre.conv_layers.{i}", x * mask))
                x = self.drop(x.relu())
            x = (first + self.conv("pre.proj", x)) * mask
        for i in range(self.settings["layers"]):
            x = x * mask
            x = x + self.drop(self.attend(f"encoder.attn_layers.{i}.", x, mask))
            x = self.norm(f"encoder.norm_layers_1.{i}.", x)
            y = self.drop(self.conv(f"encoder.ffn_layers.{i}.conv_1", x * mask).relu())
            y = self.conv(f"encoder.ffn_layers.{i}.conv_2", y * mask) * mask
            x = self.norm(f"encoder.norm_layers_2.{i}.", x + self.drop(y))
        return x * mask

    def durations(self, x, mask):
        for i in (1, 2):
            x = self.norm(f"proj_w.norm_{i}.", self.conv(f"proj_w.conv_{i}", x * mask).relu())
        return self.conv("proj_w.proj", x * mask) * mask


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder_agrees_with_a_transcription(name):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    nets, tokens, mask, speaker = drawn_networks(rng, name)
    given, sizes = settings_of(name)
    keeps, rates = keeps_of(rng, name) if given["dropped"] else ([], [])
    if keeps:
        nets["encoder"] = with_dropout(nets["encoder"], keeps, rates)
    config = {"prenet": given.get("has_prenet", True), "n_layers": sizes["layers"], "window_size": given["window"]}
    names = {"encoder": theirs_of.of_encoder(config), "mean": theirs_of.convolution("proj_m", ()),
             "log_scale": theirs_of.convolution("proj_s", ()),
             "durations": theirs_of.below("proj_w.", () if speaker is None else ("inner",), theirs_of.of_duration())}
    params = {their: array for key, net in nets.items() if net
              for their, array in with_their_shapes(net.params(), names[key]).items()}
    tensors = {key: torch.tensor(array, requires_grad=True) for key, array in params.items()}
    theirs, valid = Transcription(torch, tensors, sizes, keeps, rates), torch.tensor(mask[:, None] * 1.0)
    x = theirs.encode(torch.tensor(tokens), valid)
    g = None if speaker is None else torch.tensor(speaker, requires_grad=True)
    theirs.drops = iter(())
    seen = x.detach() if g is None else torch.cat((x.detach(), g[..., None].expand(-1, -1, 9)), 1)
    values = [theirs.conv("proj_m", x) * valid, theirs.conv("proj_s", x) * valid if nets["log_scale"] else torch.zeros(3, 4, 9),
              theirs.durations(seen, valid)]
    bars = [rng.standard_normal(value.shape) for value in values]
    sum((value * torch.tensor(bar)).sum() for value, bar in zip(values, bars)).backward()

    ours, pullback = text_vjp(**nets, tokens=tokens)
    params_bar = pullback(*bars)
    for value, wanted in zip(ours, values):
        close(value, wanted.detach().numpy())
    for key, net in nets.items():
        for their, bar in (with_their_shapes(params_bar[key], names[key]).items() if net else ()):
            close(bar, tensors[their].grad.numpy())
    if speaker is not None:
        close(params_bar["durations"]["context"], g.grad.numpy())


def with_their_shapes(params, names):
    return {name: dict(flatten(params))[path] for name, path in names.items()}


def close(given, wanted):
    """To 1e-9 of the largest entry."""
    assert given.shape == wanted.shape and np.abs(given - wanted).max() <= 1e-9 * max(1, np.abs(wanted).max())


# -- padding ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["the authors' settings", "blocks", "no prenet", "speakers"])
def test_padding_changes_nothing(name):
    """Tokens and cotangents at invalid positions are not read, NaN included; a batch equals its sentences."""
    rng = np.random.default_rng(6)
    nets, tokens, mask, speaker = drawn_networks(rng, name)
    values, pullback = text_vjp(**nets, tokens=tokens)
    bars = [rng.standard_normal(value.shape) for value in values]
    found = pullback(*bars)
    spoilt = [np.where(mask[:, None], bar, np.nan) for bar in bars]
    again, pullback = text_vjp(**nets, tokens=np.where(mask, tokens, np.nan))
    for a, b in zip(values, again):
        assert np.array_equal(a, b) and not a[np.broadcast_to(~mask[:, None], a.shape)].any()
    for (_, a), (_, b) in zip(flatten(found), flatten(pullback(*spoilt))):
        assert np.array_equal(a, b)

    total = {}
    for n, T in enumerate(mask.sum(-1)):
        filling = {"mask": np.ones(T, bool)}
        alone = {key: net and net.at(**filling) for key, net in nets.items()}
        if speaker is not None:
            alone["durations"] = nets["durations"].at(**filling, context=speaker[n])
        own, own_pullback = text_vjp(**alone, tokens=tokens[n, :T])
        for a, b in zip(values, own):
            close(b, a[n, :, :T])
        for path, bar in flatten(own_pullback(*(bar[n, :, :T] for bar in bars))):
            total[path] = total.get(path, 0) + bar
    for path, bar in flatten(found):
        if path[-1] != "context":               # each speaker has its own
            close(total[path], bar)


def test_encoder_starts_as_the_authors():
    net = text_encoder(np.random.default_rng(0), layers=2)
    E, scale = net.layers[0].E, net.layers[0].scale
    assert E.shape == (148, 192) and abs(E.std() * math.sqrt(192) - 1) < 0.01 and scale == math.sqrt(192)
    params = dict(flatten(net.params()))
    relative = params["layers", "2", "inner", "layers", "1", "E_k"]
    assert relative.shape == (1, 9, 96) and abs(relative.std() * math.sqrt(96) - 1) < 0.1
    W = params["layers", "2", "inner", "layers", "0", "W"]
    assert W.shape == (576, 192, 1) and 0.99 < np.abs(W).max() / math.sqrt(6 / 384) <= 1


def test_encoder_of_the_authors_has_their_number_of_parameters():
    """7,199,953 with the projection of means and the durations; dropout and masks have none."""
    rng = np.random.default_rng(0)
    nets = text_encoder(rng, dtype=np.float32), projection(rng, dtype=np.float32), duration_network(rng, 192, 256)
    assert sum(net.ravel().size for net in nets) == 7_199_953


@pytest.mark.parametrize("make, parts", [
    (lambda rng: attention(rng, 5, 5, 2), ["attention", "heads", "inputs=5"]),
    (lambda rng: text_encoder(rng, tokens=0), ["text_encoder", "tokens"]),
    (lambda rng: with_dropout(text_encoder(rng, 5, 4, 4, layers=1), [], 0.1), ["with_dropout", "7 dropouts", "not 0"]),
])
def test_builders_refuse_by_name(make, parts):
    with pytest.raises(ValueError) as caught:
        make(np.random.default_rng(0))
    for part in parts:
        assert part in str(caught.value)
