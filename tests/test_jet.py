"""Jet: its authors' numbers, torch's for other settings, couplings, projections, gradients, the loss, refusals."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from authors_files import arrays_of, changed, far, read_made, renamed
from flows import check_inverse_and_log_det, check_saved, check_single_precision, with_moved_bijector, worst_slope
from refflow.core import tree
from refflow.laws.pages import equations
from refflow.maps.conditioners import GELU, CrossAttention, Dense, LayerNorm, TanhGELU, context_of_classes
from refflow.maps.coupling import Coupling
from refflow.maps.dequantisation import dequantised, quantised
from refflow.models import jet as jet_flow
from refflow.models.jet import HIGH, PATTERNS, channel_order, halves_of, jet, loss_vjp, spatial_order
from validation.original import jet as authors

model_page = sys.modules["refflow.models.jet"]
RNG = np.random.default_rng
SMALL = {"patch": 2, "channels": 4, "couplings": 3, "layers": 1, "heads": 2, "kinds": ("channels", "channels", "spatial")}


def small(shape=(2, 4, 4), dtype=np.float64, **given):
    return with_moved_bijector(jet(RNG(0), shape, **SMALL | given, dtype=dtype), 0.2)


def images(count=3, shape=(2, 4, 4), dtype=np.float64, seed=1):
    return RNG(seed).uniform(-1, HIGH, (count, *shape)).astype(dtype)


SETTINGS = {"both kinds": {}, "channels alone": {"kinds": "channels"}, "spatial alone": {"kinds": "spatial", "couplings": 6},
            "another bound": {"bound": 1.5}, "a context": {"context": 3}, "a class": {"context": 4},
            "tokens of one pixel": {"patch": 1, "couplings": 2}}


def made(name, dtype=np.float64):
    """(a flow given its context, if it has one, and images of it)."""
    flow = small(**SETTINGS[name], dtype=dtype)
    if name == "a context":
        flow = flow.at(context=RNG(8).standard_normal((3, 3, 2)).astype(dtype))
    if name == "a class":
        flow = flow.at(context=context_of_classes([2, 0, 3], 4, dtype)[..., None])
    return flow, images(dtype=dtype)


def test_every_equation_is_cited():
    assert equations(model_page) == []


# -- the flow ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", SETTINGS)
def test_the_flow_is_inverted_and_its_log_det_is_that_of_its_jacobian(name):
    check_inverse_and_log_det(*made(name))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_float32_flow_is_the_float64_one_to_its_digits(name):
    check_single_precision(*made(name, np.float32))


def test_the_start_is_the_authors():
    """The identity; what changes it later is drawn as theirs."""
    for context in (0, 5):
        flow = jet(RNG(0), (3, 8, 8), 2, 64, 2, 2, heads=4, context=context, kinds=("channels", "spatial"))
        x = images(shape=(3, 8, 8))
        given = flow.at(context=np.ones((5, 2))) if context else flow
        z, log_det = given.bijector.inverse_and_log_det(x)
        assert np.array_equal(given.bijector.forward(z), x) and not log_det.any()
    layers = flow.bijector.inner.stages[3].net.net.layers
    assert abs(layers[1].P.std() - 1 / 8) < 0.01 and not layers[2].inner.layers[-1].layer.W.any()
    dense = [layer for _, layer in tree.walk(layers[3]) if isinstance(layer, Dense)]
    for layer, (bound, std) in zip(dense, [(math.sqrt(6 / 128), 0)] * 2 + [(math.sqrt(6 / 320), 1e-6)] * 2):
        assert 0.99 * bound < np.abs(layer.W).max() <= bound
        assert np.allclose(layer.b.std(), std, rtol=0.3)
    assert all(layer.eps == 1e-6 for _, layer in tree.walk(flow) if isinstance(layer, LayerNorm))
    assert any(isinstance(layer, TanhGELU) for _, layer in tree.walk(flow))
    assert not any(isinstance(layer, GELU) for _, layer in tree.walk(flow))
    assert jet_flow is jet


def test_biases_start_in_units_of_a_millionth(monkeypatch):
    biases = []
    for size in (model_page.NEARLY_0, 1.0):
        monkeypatch.setattr(model_page, "NEARLY_0", size)
        biases.append(np.concatenate([layer.b for _, layer in tree.walk(jet(RNG(0), (2, 4, 4), **SMALL)) if isinstance(layer, Dense)]))
    assert biases[1].any() and np.abs(biases[0] - 1e-6 * biases[1]).max() < 1e-20


def test_other_bounds_start_as_a_scale():
    flow, x = jet(RNG(0), (2, 4, 4), **SMALL | {"bound": 3.0, "kinds": "channels", "couplings": 1}), images()
    z, log_det = flow.bijector.inverse_and_log_det(x)
    assert np.allclose(log_det, 16 * math.log(1.5), rtol=1e-14)
    ratio = z / flow.bijector.inner.stages[0].forward(x).reshape(3, 32)
    assert set(np.round(ratio.ravel(), 12)) == {1.0, 1.5}


def test_a_flow_comes_back_from_a_file(tmp_path):
    for name in ("a class", "another bound"):
        check_saved(*made(name), tmp_path / "flow.npz")


# -- projections ------------------------------------------------------------------------------------------------------

def changed_by(flow, x, coupling):
    """Which entries a coupling of the flow changes, and on which each of its networks' outputs depends: images of booleans."""
    to_vectors, stages = flow.bijector.inner.stages[:2], flow.bijector.inner.stages[2 + 3 * coupling:5 + 3 * coupling]
    h = x
    for stage in to_vectors:
        h = stage.forward(h)
    moved = h
    for stage in stages:
        moved = stage.forward(moved)
    changed = moved != h
    for stage in to_vectors[::-1]:
        changed = stage.inverse(changed.astype(float))
    return changed.astype(bool)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_changes_one_half_of_the_patches(pattern):
    flow = small((2, 8, 12), kinds="spatial", patterns=(pattern,), couplings=1)
    changed = changed_by(flow, images(1, (2, 8, 12)), 0)[0]
    i, j = np.indices((8, 12)) // 2
    even = {"checkerboard": (i + j) % 2, "vstripes": j % 2, "hstripes": i % 2}[pattern.removesuffix("-inv")] == 0
    assert np.array_equal(changed, np.broadcast_to(even if pattern.endswith("-inv") else ~even, (2, 8, 12)))


def test_channels_change_half_of_the_features_of_every_patch_in_a_drawn_order():
    flow, found = small((2, 8, 12), kinds="channels", couplings=2), []
    for k in range(2):
        changed = changed_by(flow, images(1, (2, 8, 12)), k)[0]
        patches = changed.reshape(2, 4, 2, 6, 2).transpose(1, 3, 0, 2, 4).reshape(24, 8)
        assert np.all(patches == patches[0]) and patches[0].sum() == 4
        found.append(patches[0])
    assert not np.array_equal(*found)


def test_kinds_and_patterns_take_turns():
    flow = jet(RNG(0), (2, 8, 8), 2, 2, 7, 1, heads=1, kinds=("spatial", "channels"), patterns=("hstripes", "vstripes-inv"))
    orders = [flow.bijector.inner.stages[2 + 3 * k].order for k in range(7)]
    spatial = [spatial_order(np.concatenate(halves_of(pattern, 4, 4)), 8) for pattern in ("hstripes", "vstripes-inv")]
    for k in (0, 2, 4, 6):
        assert np.array_equal(orders[k], spatial[k // 2 % 2])
    for k in (1, 3, 5):
        features = orders[k].reshape(8, 16)[:, 0] // 16
        assert np.array_equal(orders[k], channel_order(features, 16)) and sorted(features) == list(range(8))


def test_a_token_is_cut_in_two():
    """(6), entry by entry."""
    order, tokens = spatial_order(np.array([2, 0, 3, 1]), 6).reshape(2, 3, 4), [2, 0, 3, 1]
    for part, f, k, s in np.ndindex(2, 3, 2, 2):
        assert order[part, f, 2 * k + s] == (3 * s + f) * 4 + tokens[2 * part + k]


def test_the_second_half_depends_on_the_first_alone():
    flow, x = made("both kinds")
    for stage in flow.bijector.inner.stages:
        if isinstance(stage, Coupling):
            v = RNG(3).standard_normal((4, 32))
            J, half = stage.jacobian(v), np.arange(32) < 16
            assert np.array_equal(J[:, half], np.broadcast_to(np.eye(32)[half], (4, 16, 32)))
            below = J[:, ~half][:, :, ~half]
            assert not (below - np.einsum("bii->bi", below)[:, None] * np.eye(16)).any()
            assert (J[:, ~half][:, :, half] != 0).all()


# -- training ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["both kinds", "a context", "a class"])
def test_gradients_are_those_of_differences(name):
    assert worst_slope(*made(name), loss_vjp) < 1e-7


@pytest.mark.parametrize("page", [TanhGELU, CrossAttention])
def test_a_wrong_pullback_is_found(page, monkeypatch):
    right = page.vjp

    def wrong(self, a):
        h, pullback = right(self, a)
        return h, lambda h_bar: (0.5 * pullback(h_bar)[0], pullback(h_bar)[1])

    monkeypatch.setattr(page, "vjp", wrong)
    assert worst_slope(*made("a context"), loss_vjp) > 1e-5


def test_the_loss_is_in_bits_of_the_pixels():
    """A pixel is as wide as 1/127.5: neither 2/256 nor 1."""
    flow, x = made("both kinds")
    z, log_det = flow.bijector.inverse_and_log_det(x)
    nats = (z * z / 2 + math.log(2 * math.pi) / 2 + math.log(127.5)).sum(-1) - log_det
    assert np.allclose(loss_vjp(flow, x)[0], nats / 32 / math.log(2), rtol=1e-14)
    v = RNG(3).integers(0, 256, (3, 2, 4, 4))
    x = dequantised(v, RNG(4), low=-1, high=HIGH)
    u = 127.5 * (x + 1) - v
    assert np.all((u > 0) & (u < 1)) and np.array_equal(quantised(x, low=-1, high=HIGH), v)


def test_a_context_of_one_position_adds_a_vector_to_every_token():
    net = small(context=4).bijector.inner.stages[3].net.net
    c = context_of_classes(2, 4)[:, None]
    a, across = RNG(0).standard_normal((5, 4, 4)), net.at(context=c).layers[2]
    added = across.forward(a) - a
    assert np.allclose(added, np.broadcast_to(added[:1, :, :1], added.shape), rtol=1e-13, atol=1e-14) and np.abs(added).min() > 0


# -- refusals ---------------------------------------------------------------------------------------------------------

FLOW, WITH_CONTEXT = small(), small(context=3)


@pytest.mark.parametrize("call, said", [
    (lambda: jet(RNG(0), (4, 4)), r"jet: shape must be \(C, H, W\), not \(4, 4\)"),
    (lambda: jet(RNG(0), (1, 4, 6), 4), "jet: width must be a multiple of patch = 4, not 6"),
    (lambda: jet(RNG(0), (1, 6, 4), 4), "jet: height must be a multiple of patch = 4, not 6"),
    (lambda: jet(RNG(0), (1, 4, 4), 0), "jet: patch must be an int >= 1, not 0"),
    (lambda: jet(RNG(0), (1, 4, 4), 1, 4), "features of a token must be even in number, not 1"),
    (lambda: small((2, 4, 6), kinds="spatial"), "jet: checkerboard needs an even number of columns of tokens, not 3; the grid is 2 x 3"),
    (lambda: small((2, 4, 6), kinds="spatial", patterns="vstripes-inv"), "jet: vstripes-inv needs an even number of columns"),
    (lambda: small((2, 6, 4), kinds="spatial", patterns="hstripes"), "jet: hstripes needs an even number of rows of tokens, not 3"),
    (lambda: small(kinds=("channels", "both")), "jet: kinds must be of .*, not 'both'"),
    (lambda: small(kinds=()), r"jet: kinds must be of .*, not \(\)"),
    (lambda: small(patterns="stripes"), "jet: patterns must be of .*, not 'stripes'"),
    (lambda: small(couplings=0), "jet: couplings must be an int >= 1, not 0"),
    (lambda: small(heads=3), "channels must be a multiple of heads = 3, not 4"),
    (lambda: small(context=-1), "jet: context must be an int >= 0, not -1"),
    (lambda: small(bound=0.0), "bound must be"),
    (lambda: WITH_CONTEXT.at(context=np.ones((4, 2))), r"CrossAttention: net does not take a context of shape \(4, 2\)"),
    (lambda: WITH_CONTEXT.at(context=np.ones(3)), "context"),
    (lambda: FLOW.at(context=np.ones((3, 2))), "declares context"),
    (lambda: loss_vjp(WITH_CONTEXT, images()), "there is no context"),
    (lambda: loss_vjp(FLOW, images(shape=(2, 4, 6))), r"\(8, 2, 2\)"),
    (lambda: loss_vjp(FLOW, images() + np.where(np.arange(3) == 1, np.nan, 0)[:, None, None, None]), r"\[1, 0, 0, 0\] = nan"),
    (lambda: spatial_order(np.arange(4), 3), "features of a token must be even in number, not 3"),
    (lambda: spatial_order([0, 0, 1], 4), r"jet: tokens must hold each of 0 .. 2 once, not \[0, 0, 1\]"),
    (lambda: channel_order([0, 0], 3), r"jet: features must hold each of 0 .. 1 once, not \[0, 0\]"),
    (lambda: halves_of("x", 2, 2), "jet: patterns must be of .*, not 'x'"),
])
def test_bad_input_is_refused_by_name(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_grids_that_are_odd_where_no_pattern_asks_are_taken():
    """Channels on any grid; a checkerboard of an odd number of rows; stripes across an even one."""
    for shape, kinds, patterns in (((2, 6, 6), "channels", PATTERNS), ((2, 6, 4), "spatial", ("checkerboard", "vstripes")),
                                   ((2, 4, 6), "spatial", ("hstripes",))):
        flow, x = small(shape, kinds=kinds, patterns=patterns), images(2, shape)
        assert np.abs(flow.bijector.forward(flow.bijector.inverse(x)) - x).max() < 1e-12


# -- the authors' numbers, and torch's ----------------------------------------------------------------------------------

@pytest.mark.parametrize("name", authors.FILES)
def test_the_authors_numbers(name):
    assert far(authors.read(name)) == (set(), [])


def test_there_are_files():
    assert authors.FILES == ("jet_coupling_channels", "jet_coupling_spatial", "jet_spatial_projections")


ATTENTION = "MultiHeadDotProductAttention_0"


class Port:
    """The authors' coupling, in torch from its equations: p are its tensors, by their names."""

    def __init__(self, torch, p, channels, P, factor):
        self.torch, self.p, self.channels, self.P, self.factor = torch, p, channels, P, factor

    def dense(self, name, h):
        return h @ self.p[f"{name}/kernel"] + self.p[f"{name}/bias"]

    def norm(self, name, h):
        return self.torch.nn.functional.layer_norm(h, h.shape[-1:], self.p[f"{name}/scale"], self.p[f"{name}/bias"], 1e-6)

    def attention(self, name, h, c):
        q, k, v = (self.torch.einsum("bte,ehd->bthd", e, self.p[f"{name}/{part}/kernel"]) + self.p[f"{name}/{part}/bias"]
                   for part, e in (("query", h), ("key", c), ("value", c)))
        P = (self.torch.einsum("bthd,bshd->bhts", q, k) / q.shape[-1]**0.5).softmax(-1)
        h = self.torch.einsum("bhts,bshd->bthd", P, v)
        return self.torch.einsum("bthd,hde->bte", h, self.p[f"{name}/out/kernel"]) + self.p[f"{name}/out/bias"]

    def gelu(self, h):
        return self.torch.nn.functional.gelu(h, approximate="tanh")

    def net(self, x, c):
        h = self.dense("init_proj", x) + self.p["posemb"]
        if c is not None:
            h = h + self.attention(ATTENTION, h, c)
        for i in range(sum(name.endswith("LayerNorm_0/scale") for name in self.p)):
            at = f"vit/encoderblock_{i}"
            g = self.norm(f"{at}/LayerNorm_0", h)
            h = h + self.attention(f"{at}/{ATTENTION}", g, g)
            g = self.gelu(self.dense(f"{at}/MlpBlock_0/Dense_0", self.norm(f"{at}/LayerNorm_1", h)))
            h = h + self.dense(f"{at}/MlpBlock_0/Dense_1", g)
        return self.dense("final_proj", self.norm("vit/encoder_norm", h)).chunk(2, -1)

    def split(self, x):
        if self.channels:
            return (x @ self.P).chunk(2, -1)
        return [self.cut(part) for part in self.torch.einsum("btf,tm->bmf", x, self.P).chunk(2, 1)]

    def cut(self, part):
        return part.reshape(len(part), -1, part.shape[-1] // 2)

    def merged(self, a, b):
        if self.channels:
            return self.torch.cat((a, b), -1) @ self.P.T
        x = self.torch.cat([part.reshape(len(part), -1, 2 * part.shape[-1]) for part in (a, b)], 1)
        return self.torch.einsum("bmf,tm->btf", x, self.P)

    def scale(self, raw):
        return raw.sigmoid() * self.factor

    def forward(self, x, c):
        a, b = self.split(x)
        bias, raw = self.net(a, c)
        log_det = (self.torch.nn.functional.logsigmoid(raw) + math.log(self.factor)).sum((1, 2))
        return self.merged(a, (b + bias) * self.scale(raw)), log_det

    def inverse(self, z, c):
        a, b = self.split(z)
        bias, raw = self.net(a, c)
        log_det = (self.torch.nn.functional.logsigmoid(raw) + math.log(self.factor)).sum((1, 2))
        return self.merged(a, b / self.scale(raw) - bias), -log_det


def coupling_arrays(rng, features, tokens, emb, heads, layers, context, size=0.3):
    """Arrays of a network by the authors' names."""
    sizes = {"posemb": (1, tokens, emb), "init_proj/kernel": (features // 2, emb), "init_proj/bias": (emb,),
             "final_proj/kernel": (emb, features), "final_proj/bias": (features,), "vit/encoder_norm/scale": (emb,),
             "vit/encoder_norm/bias": (emb,)}

    def attention(name, inputs):
        for part in ("query", "key", "value"):
            sizes[f"{name}/{part}/kernel"] = (emb if part == "query" else inputs, heads, emb // heads)
            sizes[f"{name}/{part}/bias"] = (heads, emb // heads)
        sizes.update({f"{name}/out/kernel": (heads, emb // heads, emb), f"{name}/out/bias": (emb,)})

    if context:
        attention(ATTENTION, context)
    for i in range(layers):
        at = f"vit/encoderblock_{i}"
        attention(f"{at}/{ATTENTION}", emb)
        for k, (inputs, outputs) in enumerate(((emb, 4 * emb), (4 * emb, emb))):
            sizes[f"{at}/LayerNorm_{k}/scale"] = sizes[f"{at}/LayerNorm_{k}/bias"] = (emb,)
            sizes[f"{at}/MlpBlock_0/Dense_{k}/kernel"], sizes[f"{at}/MlpBlock_0/Dense_{k}/bias"] = (inputs, outputs), (outputs,)
    return {name: rng.standard_normal(shape) * size for name, shape in sizes.items()}


def matrices(rng, channels, features, pattern, rows, columns):
    """(the matrix of channels, the matrix of tokens): one of them is 0."""
    P, Q = np.zeros((features, features)), np.zeros((rows * columns, rows * columns))
    if channels:
        P[rng.permutation(features), np.arange(features)] = 1
    else:
        Q[np.concatenate(halves_of(pattern, rows, columns)), np.arange(rows * columns)] = 1
    return P, Q


def coupling_file(torch, channels=True, pattern="vstripes", rows=4, columns=2, features=6, emb=6, heads=3, layers=2, factor=2.0, context=0,
                  B=2):
    """(configuration, arrays) of a file of one coupling."""
    rng, tokens = RNG([channels, layers, context]), rows * columns
    t = {name: torch.tensor(array, requires_grad=True)
         for name, array in coupling_arrays(rng, features, tokens, emb, heads, layers, context).items()}
    P, Q = matrices(rng, channels, features, pattern, rows, columns)
    own = Port(torch, t, channels, torch.tensor(P if channels else Q), factor)
    x, wz, wl, u = (torch.tensor(rng.standard_normal(shape)) for shape in (*((B, tokens, features),) * 2, (B,), (B, tokens, features)))
    c = torch.tensor(rng.standard_normal((B, 3, context)), requires_grad=True) if context else None
    z, log_det = own.forward(x.requires_grad_(), c)
    loss = (z * wz).sum() + (log_det * wl).sum()
    loss.backward()
    back, back_log_det = own.inverse(u, c)
    given = {"x": x, "wz": wz, "wl": wl, "u": u, "context": c, "channel_proj": torch.tensor(P), "spatial_proj": torch.tensor(Q)}
    out = {"z": z, "logdet": log_det, "loss": loss, "inverse_u": back, "inverse_u_logdet": back_log_det}
    config = {"system": "jet", "kind": "Coupling", "coupling": "channels" if channels else "spatial", "spatial_kind": pattern,
              "h": rows, "w": columns, "scale_factor": factor}
    return config, arrays_of(given, out, t, "dnn/")


def patched(x, p):
    B, H, W, C = x.shape
    return x.reshape(B, H // p, p, W // p, p, C).permute(0, 1, 3, 2, 4, 5).reshape(B, -1, p * p * C)


def unpatched(x, p, H, W):
    return x.reshape(len(x), H // p, W // p, p, p, -1).permute(0, 1, 3, 2, 4, 5).reshape(len(x), H, W, -1)


def model_file(torch, kinds=("channels", "spatial", "channels"), side=4, C=3, p=2, emb=4, heads=2, factor=2.0, context=0, bits=True, B=2):
    """(configuration, arrays) of a file of a model, with the parameters of its couplings stacked."""
    rng, features, rows = RNG([len(kinds), context]), C * p * p, side // p
    each = [coupling_arrays(rng, features, rows**2, emb, heads, 1, context, 0.2) for _ in kinds]
    t = {name: torch.tensor(np.stack([one[name] for one in each]), requires_grad=True) for name in each[0]}
    projections = [matrices(rng, kind == "channels", features, PATTERNS[k], rows, rows) for k, kind in enumerate(kinds)]
    ports = [Port(torch, {name: value[k] for name, value in t.items()}, kind == "channels",
                  torch.tensor(projections[k][kind != "channels"]), factor) for k, kind in enumerate(kinds)]
    shape = (B, side, side, C)
    x, wz, u = (torch.tensor(rng.standard_normal(shape)) for _ in range(3))
    wl, c = torch.tensor(rng.standard_normal(B)), torch.tensor(rng.standard_normal((B, 2, context))) if context else None
    h, total = patched(x.requires_grad_(), p), 0
    for port in ports:
        h, log_det = port.forward(h, c)
        total = total + log_det
    z, D = unpatched(h, p, side, side), side * side * C
    bpd = ((z**2 / 2 + math.log(2 * math.pi) / 2 + math.log(127.5)).sum((1, 2, 3)) - total) / (D * math.log(2))
    loss = bpd.mean() if bits else (z * wz).sum() + (total * wl).sum()
    loss.backward()
    with torch.no_grad():
        back = patched(u, p)
        for port in ports[::-1]:
            back, _ = port.inverse(back, c)
    given = {"x": x, "u": u, "context": c} | ({} if bits else {"wz": wz, "wl": wl})
    out = {"z": z, "logdet": total, "loss": loss, "inverse_u": unpatched(back, p, side, side)} | ({"bpd": bpd} if bits else {})
    masks = {f"param/{kind}_coupling_masks-FREEZE_ME": np.stack([pair[i] for pair in projections])
             for i, kind in enumerate(("channel", "spatial"))}
    return {"system": "jet", "kind": "Model", "scale_factor": factor}, arrays_of(given, out, t, "couplings/dnn/") | masks


FILES = {"channels": (coupling_file, {}), "tokens": (coupling_file, {"channels": False}),
         "channels with a context": (coupling_file, {"context": 4, "layers": 1, "factor": 1.25}),
         "tokens with a context": (coupling_file, {"channels": False, "pattern": "hstripes-inv", "context": 2}),
         "a model": (model_file, {}), "a model with a context": (model_file, {"context": 3, "factor": 1.5}),
         "a model and cotangents": (model_file, {"kinds": ("spatial", "channels"), "bits": False, "p": 1, "C": 2})}


@pytest.mark.parametrize("name", FILES)
def test_torch_agrees(name, tmp_path):
    torch = pytest.importorskip("torch")
    make, given = FILES[name]
    assert far(read_made(authors, tmp_path, *make(torch, **given))) == (set(), [])


BUGS = {"exact GELU": ("gelu", lambda self, h: self.torch.nn.functional.gelu(h), "z"),
        "tokens cut in the other order": ("cut", lambda self, part: self.torch.cat(part.chunk(2, -1), 1), "z"),
        "the shift after the scale": ("forward", lambda self, x, c: shifted_last(self, x, c), "z"),
        "a scale without its bound": ("scale", lambda self, raw: raw.sigmoid(), "z"),
        "a context back to front": ("attention", lambda self, name, h, c: ATTEND(self, name, h, c if c is h else c.flip(-1)), "z"),
        "a mean for a sum": ("forward", lambda self, x, c: (lambda z, l: (z, l / 24))(*FORWARD(self, x, c)), "logdet")}
ATTEND, FORWARD = Port.attention, Port.forward


def shifted_last(port, x, c):
    a, b = port.split(x)
    bias, raw = port.net(a, c)
    return port.merged(a, b * port.scale(raw) + bias), FORWARD(port, x, c)[1]


@pytest.mark.parametrize("bug", BUGS)
def test_a_changed_coupling_shows(bug, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    method, planted, shown = BUGS[bug]
    monkeypatch.setattr(Port, method, planted)
    assert shown in far(read_made(authors, tmp_path, *coupling_file(torch, channels=False, context=6)))[0]


def test_a_pattern_that_its_name_does_not_say_shows(tmp_path):
    matrix = authors.matrix_of("checkerboard", 4, 4)
    config = {"system": "jet", "kind": "spatial projections"}
    for key, array, wrong in (("4x4_ps1/checkerboard", matrix, False), ("4x4_ps1/checkerboard-inv", matrix, True),
                              ("8x8_ps2/vstripes", matrix, True), ("4x4_ps1/zero", matrix, True)):
        assert far(read_made(authors, tmp_path, config, {f"out/{key}": array})) == ({key} if wrong else set(), [])
    true = np.zeros((12, 12), np.int8)
    true[[0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11], np.arange(12)] = 1
    read = read_made(authors, tmp_path, config, {"out/4x3_ps1/vstripes": true, "out/4x3_ps1/checkerboard": true})
    assert far(read)[0] == {"4x3_ps1/checkerboard, refused"}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_is_a_pattern_of_theirs(pattern):
    """One column holds no stripes; two matrices that permute within their halves are alike."""
    P = authors.matrix_of(pattern, 2, 2)
    assert authors.is_pattern(P, pattern, 2, 2) and authors.is_pattern(P[:, [1, 0, 2, 3]], pattern, 2, 2)
    assert not authors.is_pattern(P[:, [0, 2, 1, 3]], pattern, 2, 2) and not authors.is_pattern(P[:, [2, 3, 0, 1]], pattern, 2, 2)
    assert not authors.is_pattern(np.eye(2), "vstripes", 2, 1) and not authors.is_pattern(np.ones((4, 4)), pattern, 2, 2)


# -- names of arrays, and steps ---------------------------------------------------------------------------------------

def test_other_names_are_read_by_rule(tmp_path):
    torch = pytest.importorskip("torch")
    file = renamed(coupling_file(torch), {"in/wz": "in/ct_z", "in/wl": "in/ct_logdet", "in/u": "in/noise", "out/inverse_u": "out/inverse_noise",
                                          "out/inverse_u_logdet": "out/inverse_noise_logdet"})
    assert far(read_made(authors, tmp_path, *file)) == (set(), [])
    assert far(read_made(authors, tmp_path, *changed(file, "out/inverse_noise")))[0] == {"inverse_noise"}


NOTES = "after_steps: 3 updates of clip_by_global_norm(0.05)->adam(.9,.95,1e-8)->*-0.01, masks frozen, no weight decay"


def test_a_model_with_pixels_bits_and_steps(tmp_path):
    """Noise in [0, 1/127.5) beside latents of the same shape, both parts of the bits, and steps of Adam with a clipped gradient."""
    torch = pytest.importorskip("torch")
    config, arrays = model_file(torch, kinds=("channels", "spatial"))
    rng, kept = RNG(5), {key: held for key, held in arrays.items() if key.startswith(("param/", "in/u"))}
    whole, noise = rng.integers(0, 256, arrays["in/x"].shape), rng.uniform(0, 1 / 127.5, arrays["in/x"].shape)
    x = torch.tensor(whole / 127.5 - 1 + noise)
    t = {name.removeprefix("param/"): torch.tensor(array, requires_grad="FREEZE" not in name) for name, array in kept.items() if "param" in name}
    trained, D = [value for value in t.values() if value.requires_grad], x[0].numel()
    optimiser, losses, out = torch.optim.Adam(trained, 0.01, (0.9, 0.95)), [], {}
    for _ in range(3):
        h, total = patched(x, 2), 0
        for k in range(2):
            own = {name.removeprefix("couplings/dnn/"): value[k] for name, value in t.items() if name.startswith("couplings/")}
            P = t[("channel", "spatial")[k] + "_coupling_masks-FREEZE_ME"][k]
            h, log_det = Port(torch, own, k == 0, P, 2.0).forward(h, None)
            total = total + log_det
        bits = [((h**2 / 2 + math.log(2 * math.pi) / 2 + math.log(127.5)).sum((1, 2))).mean() / (D * math.log(2)), total.mean() / (D * math.log(2))]
        loss = bits[0] - bits[1]
        optimiser.zero_grad()
        loss.backward()
        out = out or {"out/loss": loss.item(), "out/nll_bits": bits[0].item(), "out/logdet_bits": bits[1].item()}
        norm = sum((value.grad**2).sum() for value in trained).sqrt()
        assert norm > 0.05
        for value in trained:
            value.grad *= 0.05 / norm
        optimiser.step()
        losses.append(loss.item())
    after = {f"after_steps/{name}": value.detach().numpy() for name, value in t.items() if value.requires_grad}
    given = {"in/x_uint8": whole.astype(float), "in/noise": noise, "in/x": x.numpy(), "out/losses": np.array(losses)}
    inverses = {key: arrays[key] for key in ("out/inverse_u",)}
    file = config | {"notes": NOTES}, kept | given | inverses | {key: np.array(held) for key, held in out.items()} | after
    assert far(read_made(authors, tmp_path, *file)) == (set(), [])
    for key, shown in (("out/nll_bits", "nll_bits"), ("out/logdet_bits", "logdet_bits"), ("out/inverse_u", "inverse_u"), ("in/noise", "data"),
                       ("after_steps/couplings/dnn/posemb", "parameters in after_steps")):
        assert far(read_made(authors, tmp_path, *changed(file, key)))[0] == {shown}
    assert far(read_made(authors, tmp_path, config | {"notes": NOTES.replace("0.05", "0.5")}, file[1]))[0] == {"losses", "parameters in after_steps"}
