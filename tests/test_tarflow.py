"""TarFlow: its authors' numbers, torch's for other settings, tokens, gradients, guidance, the prior, the score, refusals."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from authors_files import arrays_of, changed, far, read_made, renamed
from flows import (check_inverse_and_log_det, check_leaks_are_refused, check_saved, check_single_precision, tempered_attention,
                   with_moved_bijector, worst_slope)
from refflow import DiagonalNormal
from refflow.core import Chain
from refflow.fast import tuned
from refflow.laws.pages import equations
from refflow.maps.autoregressive import Autoregressive
from refflow.maps.conditioners import ClassEmbedding, Delay, Sequential, at_temperature
from refflow.models import tarflow as tarflow_flow
from refflow.models import tarflow_block
from refflow.models.tarflow import adapted_prior, classes_of, denoised, given_class, images_of, loss_vjp, noised, tarflow
from validation.original import tarflow as authors

model_page = sys.modules["refflow.models.tarflow"]
RNG = np.random.default_rng
SMALL = {"patch": 2, "channels": 4, "blocks": 2, "layers": 1, "head_size": 2, "expansion": 2}


def small(shape=(1, 4, 4), dtype=np.float64, **given):
    return with_moved_bijector(tarflow(RNG(0), shape, **SMALL | given, dtype=dtype), 0.15)


def images(count=3, shape=(1, 4, 4), dtype=np.float64, seed=1):
    return RNG(seed).uniform(-1, 1, (count, *shape)).astype(dtype)


SETTINGS = {"scaled": {}, "shifts alone": {"scaled": False}, "classes": {"classes": 3}, "one token": {"patch": 4},
            "tokens of one pixel": {"patch": 1, "blocks": 3}}


def made(name, dtype=np.float64):
    """(a flow given classes, if it has classes, and images of it)."""
    flow = small(**SETTINGS[name], dtype=dtype)
    return given_class(flow, [2, 0, 1] if classes_of(flow) else None), images(dtype=dtype)


def test_every_equation_is_cited():
    assert equations(model_page) == equations(sys.modules["refflow.maps.conditioners.transformer_networks"]) == []


# -- the flow ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", SETTINGS)
def test_the_flow_is_inverted_and_its_log_det_is_that_of_its_jacobian(name):
    check_inverse_and_log_det(*made(name))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_float32_flow_is_the_float64_one_to_its_digits(name):
    check_single_precision(*made(name, np.float32))


def test_a_token_depends_on_the_tokens_before_it_alone():
    """In the order of the block; and on every entry of those.  In dz/dx a token's own entries are a diagonal."""
    F, T = 2, 4
    for reverse in (False, True):
        stages = tarflow_block(RNG(0), F, T, 4, 1, reverse=reverse, head_size=2, expansion=2)
        f = next(stage for stage in stages if isinstance(stage, Autoregressive))
        f = f.replace(**f.unravel_params(RNG(1).standard_normal(f.ravel().shape)))
        f = Chain([f if isinstance(stage, Autoregressive) else stage for stage in stages])
        J = f.jacobian(RNG(2).standard_normal((5, F * T))).reshape(5, F, T, F, T)
        t = np.arange(T)[::-1] if reverse else np.arange(T)
        before, own = t[:, None] > t, t[:, None] == t
        seen = (J != 0).any(0)
        for i, j in np.ndindex(F, F):
            assert np.array_equal(seen[i, :, j], before | own if i == j else before)
        assert np.array_equal(J[:, :, t[0], :, t[0]], np.broadcast_to(np.eye(F), (5, F, F)))        # the first token stays as it is


@pytest.mark.parametrize("prepared", [lambda flow: flow, tuned])
def test_latents_of_one_image_are_for_all_classes(prepared):
    flow, z = prepared(given_class(small(classes=3), [0, 1, 2])), RNG(3).standard_normal((1, 16))
    every = images_of(flow, z, 1.5)
    assert every.shape == (3, 1, 4, 4) and np.abs(every - images_of(flow, np.repeat(z, 3, 0), 1.5)).max() < 1e-12


def test_levels_are_tokens():
    f, = tarflow_block(RNG(0), 3, 4, 2, 1, head_size=1)
    assert [level.tolist() for level in f.levels] == [[t, t + 4, t + 8] for t in range(4)]


def test_leaks_are_refused():
    f, = tarflow_block(RNG(0), 2, 3, 2, 1, head_size=1)
    *before, delay = f.net.net.net.layers
    assert isinstance(delay, Delay)
    check_leaks_are_refused(f, Sequential(before))


def test_the_start_is_the_authors():
    """Before training, the last bias alone shifts and scales; tables are small."""
    flow = tarflow(RNG(0), (3, 8, 8), channels=64, blocks=1, layers=1, classes=50)
    f = flow.bijector.inner.stages[2]
    layers = f.net.net.net.layers
    assert not layers[-2].layer.W.any() and 0 < np.abs(layers[-2].layer.b).max() <= 1 / 8
    assert abs(layers[1].P.std() - 1e-2) < 1e-3 and abs(layers[2].E.std() - 1e-2) < 1e-3
    assert isinstance(layers[2], ClassEmbedding) and classes_of(flow) == 50 and classes_of(small()) == 0
    assert tarflow_flow is tarflow


def test_tables_start_in_units_of_a_hundredth(monkeypatch):
    tables = []
    for size in (model_page.START, 1.0):
        monkeypatch.setattr(model_page, "START", size)
        layers = tarflow(RNG(0), (1, 4, 4), channels=64, blocks=1, layers=1, classes=3).bijector.inner.stages[2].net.net.net.layers
        tables.append([layers[1].P, layers[2].E])
    for table, drawn in zip(*tables):
        assert np.array_equal(table, 0.01 * drawn)


def test_a_flow_comes_back_from_a_file(tmp_path):
    for name in ("classes", "shifts alone"):
        check_saved(*made(name), tmp_path / "flow.npz")


# -- training ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["classes", "shifts alone", "one token"])
def test_gradients_are_those_of_differences(name):
    assert worst_slope(*made(name), loss_vjp) < 1e-7


def test_a_wrong_pullback_is_found(monkeypatch):
    right = Delay.vjp

    def late(self, a):
        h, pullback = right(self, a)
        return h, lambda h_bar: (np.roll(pullback(h_bar)[0], 1, -1), pullback(h_bar)[1])

    monkeypatch.setattr(Delay, "vjp", late)
    assert worst_slope(*made("scaled"), loss_vjp) > 1e-3


@pytest.mark.parametrize("name", SETTINGS)
def test_the_loss_is_a_mean_over_entries_without_a_constant(name):
    flow, x = made(name)
    z, log_det = flow.bijector.inverse_and_log_det(x)
    loss, _ = loss_vjp(flow, x)
    assert np.allclose(loss, (z * z).mean(-1) / 2 - log_det / 16, rtol=1e-13, atol=1e-14)


def test_the_prior_follows_the_latents_and_not_the_loss():
    flow, x = made("shifts alone")
    z = flow.bijector.inverse(x)
    assert isinstance(flow.base, DiagonalNormal) and np.all(flow.base.scale == 1)
    after, same = adapted_prior(flow, z), adapted_prior(flow, z, 0)
    assert np.array_equal(same.base.scale, flow.base.scale)
    assert np.allclose(after.base.scale ** 2, 0.9 + 0.1 * (z * z).mean(0), rtol=1e-14)
    again = adapted_prior(after, z, 1.0)
    assert np.allclose(again.base.scale ** 2, (z * z).mean(0), rtol=1e-14) and after.bijector.equals(flow.bijector)
    assert np.array_equal(loss_vjp(after, x)[0], loss_vjp(flow, x)[0])
    assert not any(bar.any() for bar in loss_vjp(after, x)[1](1.0)[1]["base"].values())
    samples = after.base.sample(RNG(0), 4000)
    assert np.abs(samples.std(0) / after.base.scale - 1).max() < 0.1


def test_noise_and_the_step_along_the_score():
    flow, x = made("classes")
    noisy = noised(x, RNG(3), 0.25)
    assert np.array_equal(noisy, x + 0.25 * RNG(3).standard_normal(x.shape)) and np.array_equal(noised(x, RNG(3), 0), x)
    assert noised(x.astype(np.float32), RNG(3)).dtype == np.float32
    score, _ = flow.log_prob_vjp(noisy)[1](np.ones(3))
    assert np.allclose(denoised(flow, noisy, 0.25), noisy + 0.25**2 * score, rtol=1e-13)
    shifts, x = made("shifts alone")
    moved = adapted_prior(shifts, shifts.bijector.inverse(x))
    assert np.array_equal(denoised(moved, x), denoised(shifts, x))


# -- guidance ---------------------------------------------------------------------------------------------------------

def token_by_token(flow, free, z, w, guided, annealed):
    """(14) and (15) with one pass for each token, for blocks in the direct order; a and b as the authors call them."""
    T, F = 4, 4
    f, other = (one.bijector.inner.stages[2] for one in (flow, free))
    x = z.copy()
    for t in range(1, T):
        h, h_free = (-one.net.forward(x).reshape(len(z), -1, F, T)[..., t] for one in (f, other))
        weight = w * t / (T - 1) if annealed else w
        names = "ab"[-h.shape[1]:]
        parts = {name: h[:, i] + (weight if name in guided else 0) * (h - h_free)[:, i] for i, name in enumerate(names)}
        own = z.reshape(len(z), F, T)[..., t]
        x.reshape(len(z), F, T)[..., t] = own * np.exp(parts.get("a", 0)) + parts["b"]
    return Chain(flow.bijector.inner.stages[:2]).inverse(x)


@pytest.mark.parametrize("guided", ["ab", "a", "b"])
@pytest.mark.parametrize("annealed", [False, True])
@pytest.mark.parametrize("scaled", [True, False])
def test_guidance_is_its_equations(guided, annealed, scaled):
    flow, z = small(blocks=1, classes=3, scaled=scaled), RNG(4).standard_normal((2, 16))
    given, free = given_class(flow, [2, 0]), at_temperature(given_class(flow), 0.5)
    found = images_of(given, z, 1.5, guided, 0.5, annealed)
    assert np.abs(found - token_by_token(given, free, z, 1.5, guided, annealed)).max() < 1e-12
    if scaled or guided != "a":
        assert np.abs(found - images_of(given, z, 0.0, guided, 0.5, annealed)).max() > 1e-3


def test_guidance_of_weight_0_and_of_one_token_are_the_plain_samples():
    z = RNG(4).standard_normal((3, 16))
    for flow, w in ((given_class(small(classes=3), [0, 1, 2]), 0.0), (given_class(small(classes=3, patch=4), [0, 1, 2]), 2.0)):
        assert np.abs(images_of(flow, z, w) - flow.bijector.forward(z)).max() < 1e-12


def test_a_temperature_divides_the_scores():
    flow = small(layers=2)
    net, a = flow.bijector.inner.stages[2].net, RNG(4).standard_normal((2, 16))
    for tau in (2.0, 0.5):
        expected = tempered_attention(net, a, tau)
        assert np.abs(at_temperature(net, tau).forward(a) - expected).max() < 1e-14
        assert np.abs(net.forward(a) - expected).max() > 1e-4
    assert at_temperature(net, 1.0) is net


# -- refusals ---------------------------------------------------------------------------------------------------------

FLOW, OF_CLASSES = small(), small(classes=3)
Z = np.zeros((2, 16))


@pytest.mark.parametrize("call, said", [
    (lambda: tarflow(RNG(0), (4, 4)), r"tarflow: shape must be \(C, H, W\), not \(4, 4\)"),
    (lambda: tarflow(RNG(0), 4), r"tarflow: shape must be \(C, H, W\), not 4"),
    (lambda: tarflow(RNG(0), (1, 4, 0)), r"tarflow: shape\[2\] must be an int >= 1, not 0"),
    (lambda: tarflow(RNG(0), (1, 4, 6), 4, 4, head_size=2), "tarflow: width must be a multiple of patch = 4, not 6"),
    (lambda: tarflow(RNG(0), (1, 6, 4), 4, 4, head_size=2), "tarflow: height must be a multiple of patch = 4, not 6"),
    (lambda: tarflow(RNG(0), (1, 4, 4), channels=100), "tarflow: channels must be a multiple of head_size = 64, not 100"),
    (lambda: tarflow(RNG(0), (1, 4, 4), blocks=0), "tarflow: blocks must be an int >= 1, not 0"),
    (lambda: small(classes=-1), "tarflow: classes must be an int >= 0, not -1"),
    (lambda: given_class(OF_CLASSES, [0, 3]), r"labels must be in 0 .. 2; labels\[1\] = 3"),
    (lambda: given_class(OF_CLASSES, [-1, 0]), r"labels must be in 0 .. 2; labels\[0\] = -1"),
    (lambda: given_class(OF_CLASSES, [0.0, 1.0]), "labels must be integers, not float64"),
    (lambda: given_class(FLOW, [0, 1]), "there are labels, but the flow has no classes"),
    (lambda: loss_vjp(OF_CLASSES, images()), "there is no context"),
    (lambda: loss_vjp(FLOW, images(shape=(1, 4, 6))), r"\(1, 4, 4\)|\(4, 2, 2\)"),
    (lambda: loss_vjp(FLOW, images() + np.where(np.arange(3) == 1, np.nan, 0)[:, None, None, None]), r"\[1, 0, 0, 0\] = nan"),
    (lambda: noised(images(), RNG(0), -0.1), "noised: std must be"),
    (lambda: denoised(FLOW, images(), float("nan")), "denoised: std must be"),
    (lambda: adapted_prior(FLOW, Z), "adapted_prior: the flow has scales"),
    (lambda: adapted_prior(small(scaled=False), Z[:, :3]), r"adapted_prior: z must have shape \(B, 16\), not \(2, 3\)"),
    (lambda: adapted_prior(small(scaled=False), Z, 1.5), "adapted_prior: rate must be"),
    (lambda: adapted_prior(small(scaled=False), Z[:0]), "adapted_prior: z must hold the latents of at least one image; it is empty"),
    (lambda: images_of(given_class(OF_CLASSES, [0, 1, 2]), Z, 1.0),
     r"images_of: z has batch shape \(2,\), which does not broadcast with the parameters' batch \(3,\)"),
    (lambda: images_of(FLOW, Z, 1.0), "guidance needs a class, or a temperature other than 1"),
    (lambda: images_of(given_class(OF_CLASSES), Z, 1.0), "both passes are the same"),
    (lambda: images_of(FLOW, Z, -1.0, temperature=2.0), "images_of: guidance must be"),
    (lambda: images_of(FLOW, Z, 1.0, "c", 2.0), "images_of: guided must be one of"),
    (lambda: images_of(FLOW, Z, 1.0, temperature=0.0), "at_temperature: temperature must be"),
    (lambda: images_of(FLOW, Z + np.inf, 1.0, temperature=2.0), r"images_of: z must be finite; z\[0, 0\] = inf"),
    (lambda: FLOW.bijector.inner.stages[2].net.net.net.forward(np.zeros((2, 4, 5))), "it has vectors for N=4 positions"),
])
def test_bad_input_is_refused_by_name(call, said):
    with pytest.raises(ValueError, match=said):
        call()


# -- the authors' numbers, and torch's ----------------------------------------------------------------------------------

@pytest.mark.parametrize("name", authors.FILES)
def test_the_authors_numbers(name):
    assert far(authors.read(name)) == (set(), [])


def test_there_are_files():
    assert authors.FILES == ("tarflow_metablock_identity", "tarflow_metablock_vp", "tarflow_model_uncond")


class Port:
    """The authors' block, in torch from its equations: p are its tensors, by their names."""

    def __init__(self, torch, p, head_dim, flip):
        self.torch, self.p, self.head_dim, self.flip = torch, p, head_dim, flip
        self.scaled = len(p["proj_out.weight"]) == 2 * p["proj_in.weight"].shape[1]

    def layer(self, name, h):
        return h @ self.p[f"{name}.weight"].T + self.p[f"{name}.bias"]

    def norm(self, name, h):
        return self.torch.nn.functional.layer_norm(h, h.shape[-1:], self.p[f"{name}.weight"], self.p[f"{name}.bias"], 1e-5)

    def net(self, x, y, temperature=1.0):
        """(a, b) of tokens in the block's order."""
        torch, T = self.torch, x.shape[1]
        P = self.p["pos_embed"]
        h = self.layer("proj_in", x) + (P.flip(0) if self.flip else P)
        if "class_embed" in self.p:
            E = self.p["class_embed"]
            h = h + (E.mean(0) if y is None else torch.where((y < 0)[:, None, None], E.mean(0), E[y.clamp(min=0)]))
        for i in range(sum(name.endswith("qkv.weight") for name in self.p)):
            at = f"attn_blocks.{i}"
            q, k, v = (part.reshape(len(h), T, -1, self.head_dim).transpose(1, 2)
                       for part in self.layer(f"{at}.attention.qkv", self.norm(f"{at}.attention.norm", h)).chunk(3, -1))
            s = q @ k.mT / self.head_dim**0.5 / temperature
            s = s.masked_fill(torch.ones(T, T).triu(1).bool(), -np.inf)
            h = h + self.layer(f"{at}.attention.proj", (s.softmax(-1) @ v).transpose(1, 2).reshape(h.shape))
            m = torch.nn.functional.gelu(self.layer(f"{at}.mlp.main.0", self.norm(f"{at}.mlp.norm", h)))
            h = h + self.layer(f"{at}.mlp.main.2", m)
        o = self.layer("proj_out", h)
        o = torch.cat((torch.zeros_like(o[:, :1]), o[:, :-1]), 1)
        return o.chunk(2, -1) if self.scaled else (torch.zeros_like(o), o)

    def turned(self, x):
        return x.flip(1) if self.flip else x

    def forward(self, x, y):
        x = self.turned(x)
        a, b = self.net(x, y)
        return self.turned((x - b) * (-a).exp()), -a.mean((1, 2))

    def reverse(self, z, y, guidance=0, guide_what="ab", attn_temp=1.0, annealed_guidance=False):
        x = self.turned(z).clone()
        y = y if y is None or "class_embed" not in self.p else y % len(self.p["class_embed"])
        for i in range(x.shape[1] - 1):
            a, b = (part[:, i + 1] for part in self.net(x, y))
            if guidance:
                free_a, free_b = (part[:, i + 1] for part in self.net(x, None, attn_temp))
                w = guidance * (i + 1) / (x.shape[1] - 1) if annealed_guidance else guidance
                a = a + w * (a - free_a) if "a" in guide_what else a
                b = b + w * (b - free_b) if "b" in guide_what else b
            x[:, i + 1] = x[:, i + 1] * a.exp() + b
        return self.turned(x)


def block_arrays(rng, F, T, C, layers, expansion, scaled, classes, size=0.3):
    """Arrays by the authors' names."""
    sizes = {"pos_embed": (T, C)} | ({"class_embed": (classes, 1, C)} if classes else {})

    def dense(name, M, N):
        return {f"{name}.weight": (M, N), f"{name}.bias": (M,)}

    sizes |= dense("proj_in", C, F) | dense("proj_out", (1 + scaled) * F, C)
    for i in range(layers):
        at = f"attn_blocks.{i}"
        for norm in ("attention", "mlp"):
            sizes |= {f"{at}.{norm}.norm.weight": (C,), f"{at}.{norm}.norm.bias": (C,)}
        sizes |= dense(f"{at}.attention.qkv", 3 * C, C) | dense(f"{at}.attention.proj", C, C)
        sizes |= dense(f"{at}.mlp.main.0", expansion * C, C) | dense(f"{at}.mlp.main.2", C, expansion * C)
    return {name: rng.standard_normal(shape) * size for name, shape in sizes.items()}


GUIDED = [{"guidance": 1.5, "guide_what": "ab"}, {"guidance": 2.0, "guide_what": "a", "attn_temp": 0.5},
          {"guidance": 0.75, "guide_what": "b", "attn_temp": 1.5, "annealed_guidance": True}]


def block_file(torch, flip=False, scaled=True, classes=0, F=3, T=4, C=6, layers=2, head_dim=3, expansion=3, B=4):
    """(configuration, arrays) of a file of one block."""
    rng = RNG([flip, scaled, classes, layers])
    p = block_arrays(rng, F, T, C, layers, expansion, scaled, classes)
    t = {name: torch.tensor(array, requires_grad=True) for name, array in p.items()}
    own = Port(torch, t, head_dim, flip)
    x, wz, wl, u = (torch.tensor(rng.standard_normal(shape)) for shape in ((B, T, F), (B, T, F), (B,), (B, T, F)))
    y = torch.tensor([0, -1, classes - 1, 1]) if classes else None
    again = torch.tensor([1, 0, classes - 1, 0]) if classes else None
    z, log_det = own.forward(x.requires_grad_(), y)
    loss = (z * wz).sum() + (log_det * wl).sum()
    loss.backward()
    given = {"x": x, "wz": wz, "wl": wl, "u": u, "y": y, "yrev": again}
    with torch.no_grad():
        out = {"z": z, "logdet": log_det, "loss": loss, "reverse_u": own.reverse(u, again), "reverse_of_z_yrev": own.reverse(z, again)}
        out |= {"reverse_u_negative_label": own.reverse(u, -torch.ones(B, dtype=int))} if classes else {}
        out |= {f"reverse_guided{i}": own.reverse(u, again, **how) for i, how in enumerate(GUIDED)}
    config = {"system": "tarflow", "kind": "MetaBlock", "permutation": "flip" if flip else "identity", "head_dim": head_dim,
              "guided": GUIDED}
    return config, arrays_of(given, out, t)


def patches(torch, x, p):
    B, C, H, W = x.shape
    return x.reshape(B, C, H // p, p, W // p, p).permute(0, 2, 4, 1, 3, 5).reshape(B, -1, C * p * p)


def unpatched(torch, x, p, C, H, W):
    return x.reshape(len(x), H // p, W // p, C, p, p).permute(0, 3, 1, 4, 2, 5).reshape(len(x), C, H, W)


def model_file(torch, scaled=True, classes=0, C=2, side=4, patch=2, channels=4, blocks=3, B=3, std=0.07):
    """(configuration, arrays) of a file of a model."""
    rng = RNG([scaled, classes, 1])
    F, T = C * patch**2, (side // patch) ** 2
    t = {f"blocks.{k}.{name}": torch.tensor(array, requires_grad=True) for k in range(blocks)
         for name, array in block_arrays(rng, F, T, channels, 1, 2, scaled, classes, 0.15).items()}
    ports = [Port(torch, {name.removeprefix(f"blocks.{k}."): value for name, value in t.items() if name.startswith(f"blocks.{k}.")},
                  2, k % 2 == 1) for k in range(blocks)]
    y = torch.tensor([1, -1, 0]) if classes else None
    again = torch.tensor([0, 1, classes - 1]) if classes else None

    def encoded(x, y):
        h, total, steps = patches(torch, x, patch), 0, []
        for port in ports:
            h, log_det = port.forward(h, y)
            total, steps = total + log_det, [*steps, h]
        return h, total, steps

    def loss_of(x, y):
        z, log_dets, _ = encoded(x, y)
        return (z**2).mean() / 2 - log_dets.mean()

    x = torch.tensor(rng.uniform(-1, 1, (B, C, side, side)), requires_grad=True)
    z, log_dets, steps = encoded(x, y)
    loss = loss_of(x, y)
    loss.backward()
    noise, var = torch.tensor(rng.standard_normal((B, T, F))), torch.tensor(rng.uniform(0.5, 2, (T, F)))
    whole, uniform = torch.tensor(rng.integers(0, 256, x.shape).astype(float)), torch.tensor(rng.random(x.shape))
    scaled_noise = noise if scaled else noise * var.sqrt()
    out = {"z": z, "logdets": log_dets, "loss": loss} | {f"outputs{k}": h for k, h in enumerate(steps[:-1])}

    def reversed_through(h, **how):
        found = []
        for port in ports[::-1]:
            h = port.reverse(h, again, **how)
            found.append(unpatched(torch, h, patch, C, side, side))
        return found

    with torch.no_grad():
        sequence = [unpatched(torch, noise, patch, C, side, side), *reversed_through(scaled_noise)]
        out |= {"reverse": sequence[-1]} | {f"reverse_seq{k}": image for k, image in enumerate(sequence)}
        out |= {f"guided{i}": reversed_through(scaled_noise, **how)[-1] for i, how in enumerate(GUIDED)}
        dequantised = 2 * (whole + uniform) / 256 - 1
        code, of_code, _ = encoded(dequantised, None)
        nats = (code**2 + np.log(2 * np.pi)).mean((1, 2)) / 2 + np.log(128) - of_code
        out |= {"x_dequantised": dequantised, "bpd": nats / np.log(2)}
    start = sequence[-1].clone().requires_grad_()
    grad, = torch.autograd.grad(loss_of(start, again), start)
    out["denoised"] = start - start.numel() * std**2 * grad
    given = {"x": x, "noise": noise, "x_uint8": whole, "u": uniform, "y": y, "yrev": again}
    config = {"system": "tarflow", "kind": "Model", "in_channels": C, "img_size": side, "patch_size": patch, "head_dim": 2,
              "guided": GUIDED, "denoise_std": std}
    return config, arrays_of(given, out, t) | ({} if scaled else {"buffer/var": var.numpy()})



FILES = {"a block": (block_file, {}), "a block, reversed": (block_file, {"flip": True}),
         "a block of shifts": (block_file, {"scaled": False, "flip": True}),
         "a block with classes": (block_file, {"classes": 5, "flip": True}),
         "a block of shifts with classes": (block_file, {"classes": 3, "scaled": False, "head_dim": 6, "layers": 1}),
         "a model": (model_file, {}), "a model with classes": (model_file, {"classes": 4}),
         "a model of shifts with classes": (model_file, {"classes": 3, "scaled": False, "patch": 1, "blocks": 2, "side": 2})}


@pytest.mark.parametrize("name", FILES)
def test_torch_agrees(name, tmp_path):
    torch = pytest.importorskip("torch")
    make, given = FILES[name]
    assert far(read_made(authors, tmp_path, *make(torch, **given))) == (set(), [])


def planted(name):
    """(a bug of the port, the quantities that show it)."""
    def net(change):
        right = Port.net
        return {"net": lambda self, x, y, temperature=1.0: change(right, self, x, y, temperature)}

    return {
        "a causal leak": net(lambda right, self, x, y, tau: right(self, x + 0.1 * x.flip(1), y, tau)),
        "shifted by two": net(lambda right, self, x, y, tau: [part.roll(1, 1) for part in right(self, x, y, tau)]),
        "a sum for a mean": {"forward": lambda self, x, y: (lambda z, l: (z, 12 * l))(*FORWARD(self, x, y))},
        "guidance at the temperature in both passes": {"reverse": lambda self, z, y, guidance=0, guide_what="ab", attn_temp=1.0,
                                                       annealed_guidance=False: REVERSE(self, z, y, guidance, guide_what, 1.0)}}[name]


FORWARD, REVERSE = Port.forward, Port.reverse


@pytest.mark.parametrize("name, shown", [("a causal leak", "z"), ("shifted by two", "z"), ("a sum for a mean", "logdet"),
                                         ("guidance at the temperature in both passes", "reverse_guided1")])
def test_a_changed_block_shows(name, shown, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    for method, bug in planted(name).items():
        monkeypatch.setattr(Port, method, bug)
    assert shown in far(read_made(authors, tmp_path, *block_file(torch)))[0]


# -- names of arrays -------------------------------------------------------------------------------------------------

OTHER_NAMES = {
    "labels of samples": {"in/yrev": "in/y_rev", "out/reverse_of_z_yrev": "out/reverse_of_z_yrev"},
    "labels and cotangents": {"in/yrev": "in/y_sample", "in/y": "in/labels", "in/wz": "in/cotangent_z", "in/wl": "in/ct_logdet"},
    "cotangents": {"in/yrev": "in/y_gen", "in/wz": "in/z_bar", "in/wl": "in/logdet_bar", "in/u": "in/noise"}}


@pytest.mark.parametrize("names", OTHER_NAMES)
def test_other_names_are_read_by_rule(names, tmp_path):
    torch = pytest.importorskip("torch")
    file = renamed(block_file(torch, classes=5, flip=True), OTHER_NAMES[names])
    assert far(read_made(authors, tmp_path, *file)) == (set(), [])
    assert far(read_made(authors, tmp_path, *changed(file, "out/reverse_of_z_yrev")))[0] == {"reverse_of_z_yrev"}


def test_labels_of_samples_of_a_model_have_any_name(tmp_path):
    torch = pytest.importorskip("torch")
    file = renamed(model_file(torch, classes=4), {"in/yrev": "in/y_sample"})
    assert far(read_made(authors, tmp_path, *file)) == (set(), [])
    assert far(read_made(authors, tmp_path, *changed(file, "in/noise")))[0] >= {"reverse", "guided0"}


def test_images_without_a_class_are_compared(tmp_path):
    torch = pytest.importorskip("torch")
    config, arrays = block_file(torch, classes=3)
    p = {name.removeprefix("param/"): torch.tensor(array) for name, array in arrays.items() if name.startswith("param/")}
    z, log_det = Port(torch, p, config["head_dim"], False).forward(torch.tensor(arrays["in/x"]), None)
    file = config, arrays | {"out/forward_none_z": z.numpy(), "out/forward_none_logdet": log_det.numpy()}
    assert far(read_made(authors, tmp_path, *file)) == (set(), [])
    assert far(read_made(authors, tmp_path, *changed(file, "out/forward_none_logdet")))[0] == {"forward_none_logdet"}


@pytest.mark.parametrize("steps", [1, 3])
def test_variances_after_updates(steps, tmp_path):
    """v <- v + (mean z^2 - v)/10 for each step; samples are drawn with the last."""
    torch = pytest.importorskip("torch")
    config, arrays = model_file(torch, scaled=False)
    after = before = np.full_like(arrays["buffer/var"], 0.5)
    for _ in range(steps):
        after = after + 0.1 * ((arrays["out/z"] ** 2).mean(0) - after)
    noise = arrays["in/noise"] * np.sqrt(arrays["buffer/var"] / after)          # so that the samples stay what they are
    file = config, arrays | {"buffer/var_before": before, f"buffer/var_after_{steps}_updates": after, "in/noise": noise}
    del file[1]["buffer/var"], file[1]["out/reverse_seq0"]
    assert far(read_made(authors, tmp_path, *file)) == (set(), [])
    assert f"var_after_{steps}_updates" in far(read_made(authors, tmp_path, *changed(file, "buffer/var_before")))[0]


NOTES = "AdamW betas (.9,.95) weight_decay 1e-2 eps 1e-8, CosineLRSchedule(warmup 2, total 6, min 1e-3, max 1e-2)"


def stepped(torch, classes=0, count=4):
    """A file of a model with the steps of torch's optimiser from its parameters on."""
    config, arrays = model_file(torch, classes=classes, blocks=2)
    rates = [1e-3, 5.5e-3, 5.5e-3, 1e-3 + (1 + np.cos(np.pi / 4)) / 2 * 9e-3][:count]
    t = {name.removeprefix("param/"): torch.tensor(array, requires_grad=True) for name, array in arrays.items() if name.startswith("param/")}
    optimiser, losses = torch.optim.AdamW(t.values(), betas=(0.9, 0.95), weight_decay=1e-2), []
    for rate in rates:
        optimiser.param_groups[0]["lr"] = rate
        h, total = patches(torch, torch.tensor(arrays["in/x"]), 2), 0
        for k in range(2):
            own = {name.removeprefix(f"blocks.{k}."): value for name, value in t.items() if name.startswith(f"blocks.{k}.")}
            h, log_det = Port(torch, own, 2, k == 1).forward(h, torch.tensor(arrays["in/y"]) if classes else None)
            total = total + log_det
        loss = (h**2).mean() / 2 - total.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    out = {"out/losses": np.array(losses), "out/lrs": np.array(rates), "out/lr_schedule_3": np.array(rates[:3])}
    return config | {"notes": NOTES}, arrays | out | {f"after_steps/{name}": value.detach().numpy() for name, value in t.items()}


def test_steps_of_the_optimiser_are_compared(tmp_path):
    torch = pytest.importorskip("torch")
    file = stepped(torch, classes=3)
    assert far(read_made(authors, tmp_path, *file)) == (set(), [])
    assert far(read_made(authors, tmp_path, *changed(file, "out/losses")))[0] == {"losses"}
    assert far(read_made(authors, tmp_path, *changed(file, "after_steps/blocks.1.proj_out.weight")))[0] == {"parameters in after_steps"}
    assert far(read_made(authors, tmp_path, *changed(file, "out/lr_schedule_3")))[0] == {"lr_schedule_3"}
    other = file[0] | {"notes": NOTES.replace(".95", ".96")}, file[1]
    assert far(read_made(authors, tmp_path, *other))[0] == {"losses", "parameters in after_steps"}


def test_steps_of_an_optimiser_that_is_not_said_are_named(tmp_path):
    torch = pytest.importorskip("torch")
    config, arrays = stepped(torch, count=1)
    found, unread = far(read_made(authors, tmp_path, config | {"notes": ""}, arrays))
    assert found == set()
    assert {one.reason for one in unread} == {"the configuration names no optimiser", "the configuration does not say the schedule"}
    assert {one.key for one in unread} == {key for key in arrays if key.startswith(("after_steps/", "out/lr", "out/losses"))}


def test_what_cannot_be_compared_is_named_and_the_rest_compared(tmp_path):
    torch = pytest.importorskip("torch")
    config, arrays = renamed(block_file(torch), {"in/wl": None, "in/u": None})
    strange = {"in/mask": np.ones(3), "param/gate": np.ones(2), "grad/gate": np.ones(2), "out/masked_z": np.ones(2), "buffer/cache": np.ones(1)}
    found, unread = far(read_made(authors, tmp_path, config, arrays | strange))
    left = {one.key for one in unread}
    assert found == set() and left >= strange.keys() | {"out/reverse_u", "out/reverse_guided0", "out/loss", "in/wz"}
    assert all(one.reason for one in unread)
    read = {key for key in arrays if key not in left}
    assert read >= {"out/z", "out/logdet", "out/reverse_of_z_yrev", "in/x", "param/proj_in.weight"}
