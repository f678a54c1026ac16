"""Glow: its authors' numbers, a literal transcription of their model for other configurations, gradients, initialisation."""

import sys

import numpy as np
import pytest

from refflow import Chain, Flow, Independent, Inverse, Squeeze, StandardNormal, Tanh, load, save
from refflow.core.tree import flatten
from refflow.laws.pages import equations
from refflow.maps.conditioners import Dense, ReLU, Sequential, TanhActivation
from refflow.maps.coupling import Coupling, affine_family, masks
from refflow.maps.dequantisation import dequantised
from refflow.maps.elementwise import ExpScale, SigmoidScale
from refflow.maps.linear import DenseLinear, OrthogonalLinear, PLULinear, Transposed
from refflow.maps.normalization import ActNorm, GlowActNorm
from refflow.maps.shape import FactorOut
from refflow.models import glow
from refflow.models.glow import CONVENTIONS, classifier, labelled_vjp
from refflow.training import Unconstrained, fit, recipes
from validation import original
from validation.original import glow as theirs_of
from validation.original import comparison

RNG = np.random.default_rng
MODEL = "glow_tf_model_affine_invconv"


# -- the authors' numbers ---------------------------------------------------------------------------------------------

def measures(pairs):
    """{quantity: how far ours is}, of pairs without nudged inputs."""
    return {name: value.measure for name, value in comparison.judged(pairs).items()}


def test_agrees_with_the_authors_code():
    found = theirs_of.differences()
    assert found.keys() == set(theirs_of.FILES)
    assert found[MODEL].keys() >= {"bits", "initial scales", "gradients", "latents", "decoded pixels", "sampled pixels"}
    measures = {(file, name): original.as_difference(value).measure for file, quantities in found.items()
                for name, value in quantities.items()}
    nearly_cancelling = {(file, name) for file, name in measures if "_model_" in file and name in ("gradients", "samples")}
    assert max(value for key, value in measures.items() if key not in nearly_cancelling) <= 1e-12, measures
    assert max(measures[key] for key in nearly_cancelling) <= 1e-10, measures       # relative, entry by entry


def test_the_command_prints_the_largest_of_each_file(capsys):
    assert original.main(["glow"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("    ")]
    assert [line.split()[0] for line in lines[:-2]] == list(theirs_of.FILES) and "gradients" in lines[0]
    assert lines[-2].startswith(f"{len(theirs_of.FILES)} of {len(theirs_of.FILES)} files read") and lines[-1].startswith("Glow,")


@pytest.mark.parametrize("roundings, passes", [(4, True), (400, False)])
def test_a_small_gradient_may_differ_by_roundings_of_the_largest(roundings, passes):
    """An entry of 7e-8 beside 3 is the sum of numbers up to 3; four roundings of these are 2e-8 of it."""
    config, theirs = comparison.numbers(MODEL)
    grads = comparison.under("grad/", theirs)
    largest = max(np.abs(array).max() for array in grads.values())
    name, entry = "model/1/1/f1/l_last/W", 967
    changed = grads[name].copy()
    changed.flat[entry] += roundings * 2.0**-53 * largest
    held = comparison.Numbers(theirs | {f"grad/{name}": changed})
    found = comparison.read_as(theirs_of.KINDS, config, held)[0]["gradients"]
    assert found.entrywise > comparison.ALLOWED and original.passes(found) == passes


@pytest.mark.parametrize("file, key, quantity", [
    (MODEL, "out/loss", "bits"), (MODEL, "grad/model/pool0/conv/logs", "gradients"),
    (MODEL, "grad/model/prior/p/W", "gradients"),
    (MODEL, "init/model/1/1/actnorm_scale/logs", "initial scales"), (MODEL, "out/decode_uint8", "decoded pixels"),
    (MODEL, "init_out/loss", "bits after initialisation"), (MODEL, "out/encode_eps_flat", "latents"),
    (MODEL, "after_step/model/0/0/invconv/W", "optimiser step"),
    ("glow_layers", "split2d/grad/conv.bias", "split2d"),
    ("glow_layers", "actnorm_ddi/logs", "actnorm_ddi"), ("glow_squeeze_split", "split/cross_2", "cross_2"),
    ("glow_step_invconv_affine_lu", "grad/invconv.log_s", "gradients")])
def test_the_command_fails_for_one_wrong_number(file, key, quantity, monkeypatch, capsys):
    config, theirs = comparison.numbers(file)
    theirs[key] = theirs[key] + (1 if theirs[key].dtype.kind == "i" else 1e-6 * np.abs(theirs[key]).max())
    monkeypatch.setattr(theirs_of, "FILES", (file,))
    monkeypatch.setattr(theirs_of, "numbers", lambda name: (config, theirs))
    assert original.main(["glow"]) == 1
    assert quantity in [line for line in capsys.readouterr().out.splitlines() if "exceeds" in line][0]


def test_weights_that_multiply_zeros_have_gradient_0_in_theirs():
    assert not comparison.numbers(MODEL)[1]["grad/model/prior/p/W"][:, :, :-1].any()


# -- their model, line by line, for other configurations ----------------------------------------------------------------

def their_squeeze(z):
    N, H, W, C = z.shape
    return z.reshape(N, H // 2, 2, W // 2, 2, C).transpose(0, 1, 3, 5, 2, 4).reshape(N, H // 2, W // 2, 4 * C)


def their_conv(z, W):
    """add_edge_padding and a VALID convolution; without padding for kernels of one entry."""
    if W.shape[0] == 1:
        return z @ W[0, 0]
    N, H, V, _ = z.shape
    edge = np.pad(np.zeros((N, H, V, 1)), ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=1.0)
    z = np.concatenate((np.pad(z, ((0, 0), (1, 1), (1, 1), (0, 0))), edge), -1)
    return sum(z[:, i:i + H, j:j + V] @ W[i, j] for i in range(3) for j in range(3))


def their_zeros(z, name, p):
    return (their_conv(z, p[f"{name}/W"]) + p[f"{name}/b"]) * np.exp(3 * p[f"{name}/logs"])


def their_actnorm(z, name, p):
    return (z + p[f"{name}/actnorm_center/b"]) * np.exp(3 * p[f"{name}/actnorm_scale/logs"])


def log_normal(x, mean, logs):
    return -0.5 * (np.log(2 * np.pi) + 2 * logs + (x - mean) ** 2 / np.exp(2 * logs)).sum((1, 2, 3))


def their_permutation(z, name, config, p):
    """(z, log|det| at one position)."""
    if config["flow_permutation"] == 0:
        return z[..., ::-1], 0.0
    if config["flow_permutation"] == 1:
        assert np.array_equal(p[f"{name}/shuffle/indices"][p[f"{name}/shuffle/indices_inverse"]], np.arange(z.shape[-1]))
        return z[..., p[f"{name}/shuffle/indices"]], 0.0
    if not config["lu"]:
        W = p[f"{name}/invconv/W"]
        return z @ W, np.log(abs(np.linalg.det(W)))
    P, L, sign_s, log_s, u = (p[f"{name}/invconv/{key}"] for key in ("P", "L", "sign_S", "log_S", "U"))
    l_mask = np.tril(np.ones(L.shape), -1)
    W = P @ ((L * l_mask + np.eye(len(L))) @ (u * l_mask.T + np.diag(sign_s * np.exp(log_s))))
    return z @ W, log_s.sum()


def their_objective(config, p, x, onehot):
    """log p(x) of images (N, H, W, C)."""
    z, objective = their_squeeze(x), 0.0
    for level in range(config["n_levels"]):
        for step in range(config["depth"]):
            name = f"model/{level}/{step}"
            H, W = z.shape[1:3]
            z = their_actnorm(z, name, p)
            objective = objective + H * W * 3 * p[f"{name}/actnorm_scale/logs"].sum()
            z, log_det = their_permutation(z, name, config, p)
            objective = objective + H * W * log_det
            z1, z2 = np.split(z, 2, -1)
            h = np.maximum(their_actnorm(their_conv(z1, p[f"{name}/f1/l_1/W"]), f"{name}/f1/l_1", p), 0)
            h = np.maximum(their_actnorm(their_conv(h, p[f"{name}/f1/l_2/W"]), f"{name}/f1/l_2", p), 0)
            h = their_zeros(h, f"{name}/f1/l_last", p)
            if config["flow_coupling"] == 0:
                z2 = z2 + h
            else:
                scale = 1 / (1 + np.exp(-(h[..., 1::2] + 2)))
                z2 = (z2 + h[..., 0::2]) * scale
                objective = objective + np.log(scale).sum((1, 2, 3))
            z = np.concatenate((z1, z2), -1)
        if level < config["n_levels"] - 1:
            z1, z2 = np.split(z, 2, -1)
            h = their_zeros(z1, f"model/pool{level}/conv", p)
            objective = objective + log_normal(z2, h[..., 0::2], h[..., 1::2])
            z = their_squeeze(z1)
    n = z.shape[-1]
    h = np.zeros((*z.shape[:3], 2 * n))
    if config["learntop"]:
        h = their_zeros(h, "model/prior/p", p)
    if config["ycond"]:
        h = h + ((onehot @ p["model/prior/y_emb/W"] + p["model/prior/y_emb/b"]) * np.exp(3 * p["model/prior/y_emb/logs"])
                 )[:, None, None]
    return objective + log_normal(z, h[..., :n], h[..., n:]), z


BASE = {"lu": False, "flow_permutation": 2, "flow_coupling": 1, "n_levels": 2, "depth": 1, "width": 3, "image_size": 4,
        "learntop": True, "ycond": False, "n_y": 3, "n_bits_x": 8}
CONFIGS = {
    "1x1, affine": {}, "additive": {"flow_coupling": 0}, "reverse": {"flow_permutation": 0},
    "shuffle": {"flow_permutation": 1},
    "lu": {"lu": True}, "one level": {"n_levels": 1, "depth": 2}, "three levels": {"n_levels": 3, "image_size": 8},
    "no learned top": {"learntop": False}, "classes": {"ycond": True}, "classes alone": {"ycond": True, "learntop": False},
    "five bits": {"n_bits_x": 5}, "no steps": {"depth": 0}}
LABELLED = {"ycond": True, "weight_y": 0.25}


def at_random(flow, rng, size=0.2):
    """The flow with its parameters moved, except orthogonal matrices."""
    space = space_of(flow)
    return space.value_at(space.vector + size * rng.standard_normal(space.vector.size))


def space_of(flow):
    return Unconstrained(flow, fixed="*.Q" if any(path[-1] == "Q" for path, _ in flatten(flow.params())) else ())


CLASSES = [2, 0, 1]


def example(chosen):
    """(configuration, names, a model, their variables) for images of one channel."""
    config = BASE | chosen
    rng, size = RNG(0), config["image_size"]
    names = theirs_of.Names(config, 1)
    v = rng.integers(0, 256, (3, 1, size, size))
    x = dequantised(v, rng, bins=2 ** config["n_bits_x"], low=-0.5, high=0.5)
    flow = glow(rng, (1, size, size), config["n_levels"], config["depth"], config["width"],
                coupling=("additive", "affine")[config["flow_coupling"]], learn_top=config["learntop"],
                permutation=("reverse", "shuffle", "lu" if config["lu"] else "1x1")[config["flow_permutation"]],
                classes=3 * config["ycond"])
    net = at_random(classifier(2 ** (config["n_levels"] + 1), 3), rng) if theirs_of.classifies(config) else None
    flow = at_random(flow, rng)
    theirs = names.theirs(theirs_of.Model(config, flow, net, x, CLASSES))
    for key in theirs:                  # what their masks hide may be anything
        if key.endswith(("/invconv/L", "/invconv/U")):
            hidden = np.triu if key.endswith("L") else np.tril
            theirs[key] = theirs[key] + hidden(rng.standard_normal(theirs[key].shape))
    flow = flow.at(context=np.eye(3)[CLASSES]) if config["ycond"] else flow
    return config, names, theirs_of.Model(config, flow, net, x, CLASSES), theirs


@pytest.mark.parametrize("name", CONFIGS)
def test_log_prob_is_that_of_their_lines(name):
    config, _, model, theirs = example(CONFIGS[name])
    flow, x = model.flow, model.x
    again = theirs_of.model_of(config, 1, theirs, x, CLASSES).flow
    pairs = zip(flatten(flow.params()), flatten(again.params()), strict=True)
    assert all(p == q and (np.array_equal(a, b) or p[-1] == "scale") for (p, a), (q, b) in pairs)
    wanted, z = their_objective(config, theirs, np.moveaxis(x, 1, -1), np.eye(3)[CLASSES])
    assert np.allclose(flow.log_prob(x), wanted, rtol=1e-12) and np.allclose(again.log_prob(x), wanted, rtol=1e-12)
    assert np.allclose(flow.bijector.forward(flow.bijector.inverse(x)), x, atol=1e-9)
    assert flow.latent_shapes()[-1] == (z.shape[-1], *z.shape[1:3])


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_are_those_of_their_variables(name):
    """Along any direction of their trained variables, their loss has the slope given by our gradients in their form."""
    config, names, model, theirs = example(CONFIGS[name])
    flow, x = model.flow, model.x
    log_prob, pullback = flow.log_prob_vjp(x)
    gradients = names.gradients(pullback(np.ones_like(log_prob))[1], flow.params())
    rng, h = RNG(1), 1e-5
    along = {key: rng.standard_normal(v.shape) for key, v in gradients.items()}

    def loss(t):
        moved = theirs | {key: theirs[key] + t * v for key, v in along.items()}
        return their_objective(config, moved, np.moveaxis(x, 1, -1), np.eye(3)[CLASSES])[0].sum()

    difference = (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h)
    given = sum((along[key] * v).sum() for key, v in gradients.items())
    assert abs(given - difference) < 1e-8 * sum(np.abs(along[key] * v).sum() for key, v in gradients.items())


def a_file_of_theirs(chosen):
    """(configuration, numbers) with the keys of the authors' file, but from our code."""
    adam = {"beta1": 0.9, "beta2": "0.9", "eps": 1e-8, "lr": 1e-3}
    config, names, model, theirs = example(chosen)
    config |= {"optimizer": "adamax", "adam": adam, "weight_decay": 0.75}
    rng, size = RNG(2), config["image_size"]
    file = {"in/x_int": rng.integers(0, 256, (3, size, size, 1)), "in/uniform": rng.random((3, size, size, 1)),
            "in/y": np.array(CLASSES)}
    x = theirs_of.data(config, file)
    zeros = {key: 0 * v for key, v in theirs.items() if key.endswith(("/b", "/logs"))}
    start = theirs_of.model_of(config, 1, theirs | zeros, x, CLASSES)
    start = start.with_values(start.flow.initialised(x, rng), start.net)
    model = theirs_of.Model(config, model.flow, model.net, x, CLASSES)
    (bits_x, bits_y), bar = model.bits_and_gradients()
    loss, initial = model.loss(bits_x, bits_y), start.loss(*start.bits_and_gradients()[0])
    eps = theirs_of.their_latents(model.flow, model.flow.bijector.inverse(x))
    pixels = theirs_of.pixels(x, config)
    stepped = names.theirs(model.after_step(bar))
    found = {"init": names.theirs(start), "param": theirs, "after_step": stepped}
    for prefix, values in found.items():
        file |= {f"{prefix}/{key}": values[key] for key in names.entries}
    file |= {f"grad/{key}": v for key, v in names.gradients(bar, model.params()).items()}
    file |= {f"buffer/{key}": theirs[key] for key in names.constants}
    wrong = theirs_of.wrong_classes(model)
    return config, comparison.Numbers(file | {
        "out/loss": loss, "init_out/loss": initial, "out/stats_loss_bitsx_bitsy_prederr": [loss, bits_x.mean(), bits_y.mean(), wrong],
        "out/encode_eps_flat": eps, "out/decode_uint8": pixels, "sample/eps_flat": eps, "sample/x_uint8": pixels})


@pytest.mark.parametrize("name, key, wrong", [
    ("lu", "invconv/P", lambda P: P.T), ("lu", "invconv/P", lambda P: P[::-1]),
    ("lu", "invconv/sign_S", np.negative), ("shuffle", "shuffle/indices", np.argsort),
    ("shuffle", "shuffle/indices", np.flip), ("classes", "y", lambda y: (y + 1) % 3)])
def test_what_they_do_not_train_is_read_from_their_file(name, key, wrong):
    config, file = a_file_of_theirs(CONFIGS[name])
    assert max(measures(theirs_of.of_model(config, file)).values()) < 1e-12
    key = next(k for k in file if k.endswith(f"/{key}"))
    assert not np.array_equal(file[key], wrong(file[key]))
    changed = comparison.Numbers(file | {key: wrong(file[key])})
    assert measures(theirs_of.of_model(config, changed))["bits"] > 1e-6


@pytest.mark.parametrize("convention, border", [("openai", True), ("chaiyujin", False), ("rosinality", True)])
def test_a_learned_top_sees_a_border_where_theirs_does(convention, border):
    flow = at_random(glow(RNG(0), (1, 8, 8), 1, 1, 3, convention=convention), RNG(1))
    net = flow.bijector.inner.stages[-2].inner.net
    h = net.forward(np.zeros((0, 4, 4)))
    assert np.array_equal(h[:, 1:3, 1:3], np.broadcast_to(h[:, 1:2, 1:2], (8, 2, 2)))
    assert np.array_equal(h, np.broadcast_to(h[:, 1:2, 1:2], h.shape)) != border


def test_a_second_term_of_the_loss_and_its_classifier_are_read():
    config, file = a_file_of_theirs(LABELLED)
    assert max(measures(theirs_of.of_model(config, file)).values()) < 1e-12
    for key, quantity in (("param/model/classifier/W", "bits"), ("grad/model/classifier/logs", "gradients"),
                          ("after_step/model/classifier/b", "optimiser step")):
        found = measures(theirs_of.of_model(config, comparison.Numbers(file | {key: file[key] * 1.001})))
        assert found[quantity] > 1e-6, key
    assert measures(theirs_of.of_model(config | {"weight_y": 0.0}, file))["bits"] > 1e-6
    assert measures(theirs_of.of_model(config | {"weight_decay": 1.0}, file))["optimiser step"] > 1e-6


@pytest.mark.parametrize("matrix", ("plain", "factors", "shuffle", "reverse"))
@pytest.mark.parametrize("kind", ("affine", "additive"))
def test_steps_of_the_port_by_what_a_file_holds(matrix, kind):
    """Numbers with the keys of the port's file, for a step whose maps are written out here."""
    config, theirs = comparison.numbers("glow_step_invconv_affine_lu")
    C, rng = config["in_channels"], RNG(0)
    param = {k: v for k, v in comparison.under("param/", theirs).items() if not k.startswith("invconv") or matrix == "factors"}
    buffer = comparison.under("buffer/", theirs) if matrix == "factors" else {}
    order = rng.permutation(C) if matrix == "shuffle" else np.arange(C)[::-1]
    W = np.eye(C)[order]
    if matrix == "plain":
        W = param["invconv.weight"] = rng.standard_normal((C, C))
    elif matrix == "factors":
        W = theirs_of.factors(param, buffer, "invconv.").jacobian(np.zeros(C))
    elif matrix == "shuffle":
        buffer["permutation.indices"] = order
    if kind == "additive":
        param |= {f"f.4.{key}": param[f"f.4.{key}"][:C // 2] for key in ("weight", "bias", "logs")}
    x = theirs["in/x"]
    h = np.einsum("ij,njhw->nihw", W, (x + param["actnorm.bias"]) * np.exp(param["actnorm.logs"]))
    a, b = np.split(h, 2, 1)
    net = Sequential((*theirs_of.convolution(param, "f.0.").layers, ReLU(), *theirs_of.convolution(param, "f.2.").layers,
                      ReLU(), *theirs_of.zeros_convolution(param, "f.4.").layers))
    out, scale = net.forward(a), 1.0
    if kind == "affine":
        out, scale = out[:, 0::2], 1 / (1 + np.exp(-(out[:, 1::2] + 2)))
    z = np.concatenate((a, (b + out) * scale), 1)
    positions = x.shape[2] * x.shape[3]
    log_det = positions * (param["actnorm.logs"].sum() + np.linalg.slogdet(W)[1]) + (
        np.log(np.broadcast_to(scale, b.shape)).sum((1, 2, 3)))
    file = {"in/x": x, "out/z": z, "out/logdet": log_det, "out/reverse_of_z": x, "out/reverse_logdet": -log_det,
            "out/nll": np.mean(0.5 * (z**2 + np.log(2 * np.pi)).sum((1, 2, 3)) - log_det), "gradin/x": np.zeros_like(x)}
    file |= {f"param/{k}": v for k, v in param.items()} | {f"buffer/{k}": v for k, v in buffer.items()}
    file |= {f"grad/{k}": v for k, v in param.items()}
    found = measures(theirs_of.of_step(config, comparison.Numbers(file)))
    assert found.pop("gradient of data") > 1e-6 and 1e-6 < found.pop("gradients") < np.inf       # they are not computed here
    assert max(found.values()) < 1e-11, found


def test_lu_is_their_product_of_factors():
    """rows @ (P L U), the sign of the diagonal fixed."""
    flow = at_random(glow(RNG(1), (1, 4, 4), 1, 1, 2, permutation="lu"), RNG(2))
    inner = flow.bijector.inner.stages[2].inner
    f = inner.inner
    P = np.eye(4)[f.order]
    W = P @ (f.lower + np.eye(4)) @ (f.upper + np.diag(f.scale))
    row = RNG(3).standard_normal(4)
    assert np.allclose(inner.forward(row), row @ W, rtol=1e-13) and np.allclose(inner.inverse(row @ W), row, rtol=1e-12)
    port = glow(RNG(1), (1, 4, 4), 1, 1, 2, permutation="lu", convention="chaiyujin").bijector.inner.stages[2].inner
    assert isinstance(port, PLULinear)


# -- the ports' conventions ---------------------------------------------------------------------------------------------

def pad_conv(x, W, b, value):
    """Of (N, C, H, W), kernels (M, C, k, k)."""
    k, (H, V) = W.shape[-1] // 2, x.shape[2:]
    x = np.pad(x, ((0, 0), (0, 0), (k, k), (k, k)), constant_values=value)
    return sum(np.einsum("mc,nchw->nmhw", W[:, :, i, j], x[:, :, i:i + H, j:j + V])
               for i in range(2 * k + 1) for j in range(2 * k + 1)) + b[:, None, None]


def test_rosinality_line_by_line():
    rng = RNG(4)
    flow = at_random(glow(rng, (1, 4, 4), 2, 1, 3, convention="rosinality"), rng)
    x = rng.standard_normal((2, 1, 4, 4))
    squeeze, actnorm, matrix, coupling, prior, factor_out = flow.bijector.inner.stages
    h, total = squeeze.forward(x), 0.0
    scale, loc = actnorm.s[:, None, None], actnorm.bias[:, None, None]
    h, total = scale * (h + loc), total + 4 * np.log(np.abs(actnorm.s)).sum()
    h, total = np.einsum("ij,njhw->nihw", matrix.inner.W, h), total + 4 * np.linalg.slogdet(matrix.inner.W)[1]
    in_a, in_b = np.split(h, 2, 1)
    first, _, second, _, last, out = coupling.net.layers
    n = np.maximum(pad_conv(in_a, first.W, first.b, 0), 0)
    n = np.maximum(pad_conv(n, second.W, second.b, 0), 0)
    n = pad_conv(n, last.W, last.b, 1.0) * np.exp(3 * out.f.s[:, None, None])
    log_s, t = np.split(n, 2, 1)
    s = 1 / (1 + np.exp(-(log_s + 2)))
    h, total = np.concatenate((in_a, (in_b + t) * s), 1), total + np.log(s).sum((1, 2, 3))
    assert np.allclose(Chain(flow.bijector.inner.stages[:4]).forward(x), h, atol=1e-12)
    assert np.allclose(Chain(flow.bijector.inner.stages[:4]).log_det(x), total, atol=1e-12)
    out, z_new = np.split(h, 2, 1)
    last, scale = prior.inner.net.layers
    mean, log_sd = np.split(pad_conv(out, last.W, last.b, 1.0) * np.exp(3 * scale.f.s[:, None, None]), 2, 1)
    assert np.allclose(prior.forward(h)[:, 2:], (z_new - mean) * np.exp(-log_sd), atol=1e-12)
    assert isinstance(factor_out, FactorOut) and factor_out.keep.tolist() == [True, True, False, False]


def test_chaiyujin_has_no_border_and_plain_logarithms():
    flow = glow(RNG(5), (1, 4, 4), 2, 1, 3, convention="chaiyujin")
    _, actnorm, _, coupling, prior, _ = flow.bijector.inner.stages
    assert actnorm.factor == 1 and coupling.net.layers[1].f.factor == 1 and coupling.net.layers[-1].f.factor == 3
    layers = coupling.net.layers[0], coupling.net.layers[-2], prior.inner.net.layers[0]
    assert {layer.padding for layer in layers} == {"zeros"}
    assert coupling.layout == prior.inner.layout == "interleaved"


# -- the map and its gradient --------------------------------------------------------------------------------------------

OPTIONS = {
    "affine": {}, "additive": {"coupling": "additive"}, "lu": {"permutation": "lu"},
    "orthogonal": {"permutation": "orthogonal"},
    "shuffle": {"permutation": "shuffle"}, "reverse": {"permutation": "reverse"}, "no learned top": {"learn_top": False},
    "classes": {"classes": 3}, "chaiyujin": {"convention": "chaiyujin", "permutation": "lu"},
    "rosinality": {"convention": "rosinality"}}


@pytest.mark.parametrize("name", OPTIONS)
def test_round_trip_log_det_and_gradient(name):
    rng = RNG(6)
    flow = glow(rng, (2, 4, 4), 2, 1, 3, **OPTIONS[name])
    x = rng.standard_normal((3, 2, 4, 4))
    if "classes" in OPTIONS[name]:
        flow = flow.at(context=np.eye(3))
    flow = at_random(flow, rng, 0.1)
    f = flow.bijector.inner
    z, log_det = f.forward_and_log_det(x)
    assert z.shape == (3, 32) and np.allclose(f.inverse(z), x, atol=1e-10)
    sign, wanted = np.linalg.slogdet(f.jacobian(x))
    assert np.allclose(log_det, wanted, atol=1e-10)
    assert np.allclose(flow.log_prob(x), log_det - 0.5 * (z**2 + np.log(2 * np.pi)).sum(-1), rtol=1e-13)

    space, b = space_of(flow), rng.standard_normal(3)
    log_prob, pullback = flow.log_prob_vjp(x)
    x_bar, params_bar = pullback(b)
    assert {path for path, _ in flatten(params_bar)} == {path for path, _ in flatten(flow.params())}
    gradient = space.gradient(space.vector, params_bar)
    step, dx, h = rng.standard_normal(gradient.size), rng.standard_normal(x.shape), 1e-5

    def loss(t):
        return b @ space.value_at(space.vector + t * step).log_prob(x + t * dx)

    difference = (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h)
    given = gradient @ step + (x_bar * dx).sum()
    assert abs(given - difference) < 1e-6 * max(abs(given), abs(gradient) @ abs(step) * 1e-2)


def test_float32_stays():
    flow = glow(RNG(7), (1, 4, 4), 2, 1, 3, dtype=np.float32)
    assert flow.dtype == np.float32
    x = RNG(8).standard_normal((2, 1, 4, 4)).astype(np.float32)
    flow = flow.initialised(x, RNG(0))
    log_prob, pullback = flow.log_prob_vjp(x)
    x_bar, params_bar = pullback(np.ones_like(log_prob))
    assert {log_prob.dtype, x_bar.dtype, *(bar.dtype for _, bar in flatten(params_bar))} == {np.dtype(np.float32)}
    assert np.allclose(log_prob, flow.astype(np.float64).log_prob(x.astype(np.float64)), rtol=1e-4)


def test_at_the_start():
    """Networks give 0: (4) multiplies by sigmoid(2), (6) and (8) do nothing; orthogonal matrices have log-det 0."""
    x = RNG(9).standard_normal((2, 1, 4, 4))
    flow = glow(RNG(10), (1, 4, 4), 1, 3, 5)
    assert np.allclose(flow.bijector.inner.log_det(x), 3 * 8 * np.log(1 / (1 + np.exp(-2))), atol=1e-12)
    assert np.allclose(glow(RNG(10), (1, 4, 4), 2, 3, 5, coupling="additive").bijector.inner.log_det(x), 0, atol=1e-12)
    layers = glow(RNG(11), (3, 4, 4), 1, 1, 60).bijector.inner.stages[3].net.layers[:4:3]
    W = np.concatenate([layer.W.ravel() for layer in layers])
    assert abs(W.std() / 0.05 - 1) < 5 / np.sqrt(2 * W.size)
    assert flow.equals(glow(RNG(10), (1, 4, 4), 1, 3, 5))


def test_parts_of_the_latents():
    flow = glow(RNG(12), (3, 8, 8), 3, 1, 2)
    assert flow.latent_shapes() == [(6, 4, 4), (12, 2, 2), (48, 1, 1)]
    x = RNG(13).standard_normal((2, 3, 8, 8))
    z = flow.bijector.inverse(x)
    assert np.array_equal(flow.pack(flow.unpack(z)), z)
    first = flow.bijector.inner.stages[:-1]
    assert np.array_equal(flow.unpack(z)[0], Chain(first).forward(x)[:, 6:])


# -- samples --------------------------------------------------------------------------------------------------------------

def test_temperature_multiplies_the_latents():
    flow = at_random(glow(RNG(14), (1, 4, 4), 2, 1, 3), RNG(15), 0.05)
    warm, cool = flow.sample(RNG(16), 5), flow.sample(RNG(16), 5, temperature=0.7)
    assert np.allclose(flow.bijector.inverse(cool), 0.7 * flow.bijector.inverse(warm), atol=1e-10)
    assert np.allclose(flow.sample(RNG(16), 2, temperature=0), flow.bijector.forward(np.zeros(16)), atol=1e-12)
    for wrong in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="temperature"):
            flow.sample(RNG(0), 1, temperature=wrong)
    with pytest.raises(ValueError, match="StandardNormal.*temperature"):
        StandardNormal(2).sample(RNG(0), 1, temperature=0.5)


def test_classes_move_the_samples_alone_of_the_top():
    flow = glow(RNG(17), (1, 4, 4), 2, 1, 3, classes=2)
    net = flow.bijector.inner.stages[-1].rest.stages[-2].inner.net.net
    dense = net.layers[0].replace(W=np.array([[1.0, -1.0]] * 8 + [[0.5, 0.0]] * 8))
    rest = flow.bijector.inner.stages[-1].rest
    prior = rest.stages[-2].inner
    prior = prior.replace(net=prior.net.replace(net=net.replace(layers=(dense, net.layers[1]))))
    rest = rest.replace(stages=(*rest.stages[:-2], Inverse(prior), rest.stages[-1]))
    f = flow.bijector.inner
    flow = Flow(Inverse(f.replace(stages=(*f.stages[:-1], f.stages[-1].replace(rest=rest)))), flow.base)
    z = RNG(18).standard_normal(16)
    tops = [Chain(rest.at(context=c).stages[:-2]).forward(Chain(f.stages[:-1]).forward(
        flow.at(context=c).bijector.forward(z))[:2]) for c in np.eye(2)]
    assert np.allclose(tops[0].ravel(), 1 + np.exp(0.5) * z[8:], atol=1e-12)
    assert np.allclose(tops[1].ravel(), -1 + z[8:], atol=1e-12)
    assert flow.sample(RNG(19), 3, context=np.eye(2)).shape == (3, 2, 1, 4, 4)
    with pytest.raises(ValueError, match="context"):
        flow.log_prob(np.zeros((1, 4, 4)))
    with pytest.raises(ValueError, match="N=2"):
        flow.at(context=np.eye(3)).log_prob(np.zeros((3, 1, 4, 4)))


def test_a_classifier_that_is_sure():
    """exp of its outputs overflows, and bits do not."""
    dense, *rest = classifier(8, 3).layers
    net = classifier(8, 3).replace(layers=(dense.replace(b=np.array([0.0, 800.0, 1600.0])), *rest))
    flow, x = glow(RNG(21), (1, 4, 4), 2, 1, 3), RNG(22).standard_normal((3, 1, 4, 4))
    (_, bits), pullback = labelled_vjp(flow, net, x, np.array([0, 1, 2]))
    np.testing.assert_allclose(bits, np.array([1600, 800, 0]) / np.log(2), rtol=1e-12)
    assert all(np.isfinite(bar).all() for _, bar in flatten(pullback(np.ones(3), np.ones(3))[2]))


@pytest.mark.parametrize("options", [{"classes": 3}, {"classes": 3, "learn_top": False}, {"learn_top": False}, {}])
def test_classifier_and_its_gradient(options):
    rng, labels = RNG(20), np.array([0, 2, 1, 1])
    flow = glow(rng, (1, 4, 4), 2, 1, 3, **options)
    if "classes" in options:
        flow = flow.at(context=np.eye(3)[labels])
    flow, net = at_random(flow, rng, 0.1), classifier(8, 3)
    x = rng.standard_normal((4, 1, 4, 4))
    assert np.allclose(labelled_vjp(flow, net, x, labels)[0][1], np.log2(3)) and not net.ravel().any()      # it starts at 0
    net = at_random(net, rng, 0.5)
    (log_prob, bits), pullback = labelled_vjp(flow, net, x, labels)
    assert np.array_equal(log_prob, flow.log_prob(x))
    rest = flow.bijector.inner.stages[-1].rest.stages
    stages = [*flow.bijector.inner.stages[:-1]]
    top = Chain(rest[:2 + 2]).forward(Chain(stages).forward(x)[:, :2])              # squeeze and one step
    logits = net.forward(top.mean((2, 3)))
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert np.allclose(bits, -np.log2(p[np.arange(4), labels]), rtol=1e-12)
    spaces, bars = (space_of(flow), space_of(net)), rng.standard_normal((2, 4))
    x_bar, *params_bars = pullback(*bars)
    assert params_bars[0].keys() == flow.params().keys()
    steps, dx, h = [rng.standard_normal(s.vector.size) for s in spaces], rng.standard_normal(x.shape), 1e-6

    def loss(t):
        moved = [space.value_at(space.vector + t * step) for space, step in zip(spaces, steps)]
        return sum(bar @ value for bar, value in zip(bars, labelled_vjp(*moved, x + t * dx, labels)[0]))

    given = (x_bar * dx).sum() + sum(s.gradient(s.vector, bar) @ step for s, bar, step in zip(spaces, params_bars, steps))
    assert abs((loss(h) - loss(-h)) / (2 * h) - given) < 1e-6 * abs(given)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, -1, 0, 0], [0.0, 1.0, 0.0, 0.0], [0, 1]])
def test_labels_out_of_range_are_refused(labels):
    flow, x = glow(RNG(0), (1, 4, 4), 2, 1, 3), np.zeros((4, 1, 4, 4))
    with pytest.raises(ValueError, match="glow: labels"):
        labelled_vjp(flow, classifier(8, 3), x, labels)


# -- initialisation on data -----------------------------------------------------------------------------------------------

def test_initialisation_standardises_every_actnorm_and_nothing_else():
    rng = RNG(21)
    x = 2 + rng.standard_normal((40, 1, 8, 8)) * 3
    start = glow(rng, (1, 8, 8), 2, 2, 4)
    flow = start.initialised(x, rng)
    h = x
    for stage in flow.bijector.inner.stages[:-1]:
        if isinstance(stage, Coupling):
            inner = stage.net.layers[1].forward(stage.net.layers[0].forward(h[:, :2]))
            assert np.allclose(inner.mean((0, 2, 3)), 0, atol=1e-12) and np.allclose(inner.std((0, 2, 3)), 1, atol=1e-4)
            assert stage.net.layers[-1].equals(start.bijector.inner.stages[3].net.layers[-1])
        h = stage.forward(h)
        if isinstance(stage, GlowActNorm):
            assert np.allclose(h.mean((0, 2, 3)), 0, atol=1e-12) and np.allclose(h.std((0, 2, 3)), 1, atol=1e-5)
    both = zip(flatten(start.params()), flatten(flow.params()))
    changed = {path[-1] for (path, a), (_, b) in both if not np.array_equal(a, b)}
    assert changed == {"bias", "s"}


@pytest.mark.parametrize("options, power, ddof", [
    ({}, 3, 0), ({"factor": 1.0}, 1, 0), ({"direct": True, "unbiased": True}, 0, 1)])
@pytest.mark.parametrize("rank, shape", [(1, (5, 2)), (2, (5, 2, 3)), (3, (5, 2, 3, 4))])
def test_actnorm_starts_as_in_the_sources(options, power, ddof, rank, shape):
    v = RNG(22).standard_normal(shape) * 0.1 + 4
    f = GlowActNorm(np.ones(2), np.zeros(2), rank=rank, **options).initialised(v, RNG(0))
    axes = tuple(i for i in range(rank + 1) if i != 1)[:len(shape) - 1]
    sigma = 1 / (v.std(axes, ddof=ddof) + 1e-6)
    assert np.allclose(f.bias, -v.mean(axes), rtol=1e-14)
    assert np.allclose(f.s, np.log(sigma) / power if power else sigma, rtol=1e-12)
    back = GlowActNorm(np.ones(2), np.zeros(2), rank=rank, **options).inverse_initialised(v, RNG(0)).inverse(v)
    assert np.allclose(back.mean(axes), 0, atol=1e-12) and np.allclose(back.std(axes, ddof=ddof), 1, atol=2e-5)


def test_actnorm_of_constant_channels():
    """The source's eps keeps them finite; without it they are refused, and no output scale is changed."""
    v = np.ones((4, 2, 3, 3))
    f = GlowActNorm(np.zeros(2), np.zeros(2), rank=3)
    assert np.allclose(f.initialised(v, RNG(0)).s, np.log(1e6) / 3)
    with pytest.raises(ValueError, match="channel 0"):
        f.replace(eps=0.0).initialised(v, RNG(0))
    assert f.replace(eps=None).initialised(v, RNG(0)).equals(f.replace(eps=None))


@pytest.mark.parametrize("options, part", [
    ({"s": [1.0, 0.0], "direct": True}, "s[1] = 0"), ({"s": [1.0], "rank": 4}, "rank"),
    ({"s": [1.0], "factor": 0.0}, "factor"),
    ({"s": [1.0], "eps": -1.0}, "eps"), ({"s": [1.0], "bias": [1.0, 2.0]}, "bias")])
def test_what_is_no_actnorm_is_refused(options, part):
    with pytest.raises(ValueError) as caught:
        GlowActNorm(**options)
    assert "GlowActNorm" in str(caught.value) and part in str(caught.value)


def test_actnorm_is_the_affine_map_that_it_says():
    rng = RNG(23)
    bias, s, z = rng.standard_normal(3), rng.standard_normal(3), rng.standard_normal((2, 3, 2, 2))
    for f, sigma in ((GlowActNorm(s, bias, rank=3), np.exp(3 * s)), (GlowActNorm(s, bias, 1.0, rank=3), np.exp(s)),
                     (GlowActNorm(s, bias, direct=True, rank=3), s)):
        g = ActNorm(sigma, sigma * bias, rank=3)
        assert np.allclose(f.forward(z), g.forward(z), atol=1e-13) and np.allclose(f.log_det(z), g.log_det(z), atol=1e-13)


# -- its parts ------------------------------------------------------------------------------------------------------------

LINEAR = {"dense": lambda rng: DenseLinear(rng.standard_normal((3, 3))),
          "dense without a shift": lambda rng: DenseLinear(rng.standard_normal((3, 3)), None),
          "plu": lambda rng: PLULinear([1, 2, 0], np.tril(rng.standard_normal((3, 3)), -1),
                                       np.triu(rng.standard_normal((3, 3)), 1), rng.standard_normal(3)),
          "orthogonal": lambda rng: OrthogonalLinear(np.linalg.qr(rng.standard_normal((3, 3)))[0])}


@pytest.mark.parametrize("name", LINEAR)
def test_transposed(name):
    rng = RNG(24)
    inner = LINEAR[name](rng)
    f, A, z = Transposed(inner), inner.jacobian(np.zeros(3)), rng.standard_normal((4, 3))
    assert np.allclose(f.forward(z), z @ A, rtol=1e-12) and np.allclose(f.inverse(z @ A), z, atol=1e-12)
    assert np.allclose(f.log_det(z), np.linalg.slogdet(A)[1], atol=1e-12) and np.allclose(f.jacobian(z), A.T)
    x_bar, l_bar = rng.standard_normal((4, 3)), rng.standard_normal(4)
    for vjp in ("vjp", "inverse_vjp"):
        (_, _), pullback = getattr(f, vjp)(z)
        z_bar, bars = pullback(x_bar, l_bar)
        space = Unconstrained(f, fixed="*.shift" if "shift" in inner.params() else ())
        step, dz, h = rng.standard_normal(space.vector.size), rng.standard_normal(z.shape), 1e-6

        def loss(t, vjp=vjp, space=space, step=step, dz=dz):
            (x, log_det), _ = getattr(space.value_at(space.vector + t * step), vjp)(z + t * dz)
            return (x * x_bar).sum() + log_det @ l_bar

        given = space.gradient(space.vector, bars) @ step + (z_bar * dz).sum()
        assert abs((loss(h) - loss(-h)) / (2 * h) - given) < 1e-7 * max(1, abs(given))
        assert not np.any(bars["inner"].get("shift", 0))
    with pytest.raises(ValueError, match="Transposed: the shift"):
        Transposed(DenseLinear(np.eye(2), [1.0, 0.0]))
    for other in (Squeeze(), ActNorm([2.0], [1.0]), Independent(Tanh(), 1)):            # a bias would move x: it is not linear
        with pytest.raises(ValueError, match="Transposed: inner must be one of DenseLinear, "):
            Transposed(other)


@pytest.mark.parametrize("scale", [ExpScale(), SigmoidScale()])
def test_coupling_that_shifts_first(scale):
    rng = RNG(25)
    net = Sequential((Dense(rng.standard_normal((5, 2))), TanhActivation(), Dense(rng.standard_normal((4, 5)))))
    f = Coupling(masks.halves(4), net, affine_family(scale, shift_first=True))
    z = rng.standard_normal((3, 4))
    s, t = np.split(net.forward(z[:, :2]), 2, -1)
    x, log_det = f.forward_and_log_det(z)
    assert np.allclose(x, np.concatenate((z[:, :2], (z[:, 2:] + t) * scale.forward(s)), -1), atol=1e-14)
    assert np.allclose(f.inverse(x), z, atol=1e-13)
    assert np.allclose(np.linalg.slogdet(f.jacobian(z))[1], log_det, atol=1e-12)
    assert not np.allclose(f.replace(family=affine_family(scale)).forward(z), x)
    x_bar, l_bar, dz = rng.standard_normal((3, 4)), rng.standard_normal(3), rng.standard_normal((3, 4))
    assert np.allclose(np.matvec(f.jacobian(z), dz), (f.forward(z + 1e-6 * dz) - f.forward(z - 1e-6 * dz)) / 2e-6, atol=1e-8)
    for vjp in ("vjp", "inverse_vjp"):
        _, pullback = getattr(f, vjp)(z)
        z_bar, bars = pullback(x_bar, l_bar)
        space, h = Unconstrained(f), 1e-6
        step = rng.standard_normal(space.vector.size)

        def loss(t, vjp=vjp, space=space, step=step):
            (x, log_det), _ = getattr(space.value_at(space.vector + t * step), vjp)(z + t * dz)
            return (x * x_bar).sum() + log_det @ l_bar

        given = space.gradient(space.vector, bars) @ step + (z_bar * dz).sum()
        assert abs((loss(h) - loss(-h)) / (2 * h) - given) < 1e-6 * max(1, abs(given))


@pytest.mark.parametrize("module", [
    "refflow.models.glow", "refflow.maps.linear.transposed", "refflow.maps.normalization.glow_actnorm"])
def test_every_equation_is_cited(module):
    assert equations(sys.modules[module]) == []


# -- refusals, training, saving ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shape, levels, options, parts", [
    ((3, 6, 8), 2, {}, ["height", "4", "6"]), ((3, 8, 6), 2, {}, ["width", "4", "6"]),
    ((3, 1, 1), 1, {}, ["height", "2", "1"]),
    ((3, 8), 1, {}, ["shape", "(3, 8)"]), ((0, 4, 4), 1, {}, ["shape[0]", ">= 1"]), ((3, 4, 4), 0, {}, ["levels", ">= 1"]),
    ((3, 4, 4), 1, {"steps": -1}, ["steps", "-1"]), ((3, 4, 4), 1, {"hidden": 0}, ["hidden", ">= 1"]),
    ((3, 4, 4), 1, {"classes": -1}, ["classes", "-1"]), ((3, 4, 4), 1, {"coupling": "spline"}, ["coupling", "'spline'"]),
    ((3, 4, 4), 1, {"permutation": "2x2"}, ["permutation", "'2x2'"]),
    ((3, 4, 4), 1, {"convention": "tf"}, ["convention", "'tf'"])])
def test_what_does_not_fit_is_refused(shape, levels, options, parts):
    with pytest.raises(ValueError) as caught:
        glow(RNG(0), shape, levels, **options)
    for part in ("glow", *parts):
        assert part in str(caught.value)


def test_images_of_another_shape_are_refused():
    flow = glow(RNG(0), (3, 4, 4), 1, 1, 2)
    for wrong in ((1, 4, 4), (3, 8, 8), (3, 4)):
        with pytest.raises(ValueError, match="Flow"):
            flow.log_prob(np.zeros(wrong))


def test_conventions_are_the_three():
    assert set(CONVENTIONS) == {"openai", "chaiyujin", "rosinality"}


@pytest.mark.parametrize("permutation", ["1x1", "lu"])
def test_training_learns(permutation):
    """Images of one grey level each: two hundred steps improve on the start by more than a nat for each of 16 pixels."""
    rng = RNG(26)
    x = np.broadcast_to(rng.standard_normal((128, 1, 1, 1)), (128, 1, 4, 4)) + 0.05 * rng.standard_normal((128, 1, 4, 4))
    flow = glow(rng, (1, 4, 4), 1, 2, 8, permutation=permutation).initialised(x, rng)
    settings = recipes.glow(8, warm_up_epochs=2) | {"batch_size": 16}
    trained = fit(flow, x, **settings, epochs=25, rng=rng).flow
    assert trained.log_prob(x).mean() > flow.log_prob(x).mean() + 16


@pytest.mark.parametrize("name", ["affine", "lu", "classes", "rosinality"])
def test_saved_and_loaded(name, tmp_path):
    flow = glow(RNG(27), (1, 4, 4), 2, 1, 3, **OPTIONS[name])
    save(flow, tmp_path / "flow.npz")
    assert load(tmp_path / "flow.npz").equals(flow)
