"""RealNVP of images: agreement with the authors' numbers, with a literal forward pass for every setting, and the recipe."""

from __future__ import annotations

import numpy as np
import pytest

from refflow.core.tree import flatten, nest, walk
from refflow.laws.pages import equations
from refflow.maps.coupling import AdditiveCoupling, Coupling
from refflow.maps.shape import FactorOut
from refflow.models import image_realnvp
from refflow.models import realnvp_images
from refflow.models.realnvp_images import full_resolution, penalised
from refflow.saving import load, save
from refflow.training import SquaredNorm, TrainingError, fit, recipes
from refflow.training.batch_norm import norms, of_batch, with_statistics
from validation import original
from validation.original import realnvp as theirs_of
from validation.original import comparison
from validation.original.comparison import Numbers

# -- the authors' numbers ---------------------------------------------------------------------------------------------


def test_agrees_with_the_authors_code():
    found = theirs_of.differences()
    assert set(found) >= {"realnvp_tf_squeeze", "realnvp_tf_checker_aff_mask1_bn1_rb2_sk1_bo0",
                          "realnvp_tf_channel_aff_bottom0", "realnvp_tf_model_s2"}
    for quantities in found.values():
        for quantity, value in quantities.items():
            limit = original.ALLOWED if "gradients" in quantity or "step" in quantity else 1e-10
            assert value.measure <= limit, quantity
            assert "ill-conditioned" not in value.reason


def test_the_command_prints_and_passes(capsys):
    assert original.main(["realnvp"]) == 0
    assert "realnvp_tf_model_s2" in capsys.readouterr().out


WRONG = {
    "realnvp_tf_model_s2": {
        "train/z": "train latents", "eval/log_det_total": "eval log-det", "out/logit_cost": "cost of logit",
        "eval/l2_reg": "eval sum of squares", "eval/bits_per_dim": "eval bits/dim", "train/loss": "train loss",
        "train_grad/model/scale_1/coupling_3/resnet/skip_0/magnitude": "train gradients",
        "eval_grad/model/scale_0/coupling_5/scale": "eval gradients", "sample/logit_x": "samples",
        "after_step/model/scale_0/coupling_4/scale": "optimiser step"},
    "realnvp_tf_channel_aff_bottom0": {
        "buffer_after_train/m/c/bn_out/var": "moving statistics",
        "train_grad/m/c/bn_in/beta": "train gradients of parameters",
        "eval/reverse_of_z": "inverse", "train_grad/x": "train gradient of data", "eval/nll": "eval loss"},
    "realnvp_tf_squeeze": {"out/ordered": "ordered", "out/squeeze": "squeeze"}}


@pytest.mark.parametrize("file", WRONG)
def test_wrong_numbers_are_found(file, monkeypatch):
    right = theirs_of.numbers

    def wrong(name):
        config, theirs = right(name)
        return config, Numbers(theirs | {key: theirs[key] * (1 + 1e-5) for key in WRONG[file]})

    monkeypatch.setattr(theirs_of, "numbers", wrong)
    monkeypatch.setattr(theirs_of, "FILES", (file,))
    monkeypatch.setattr(comparison, "NUDGES", 1)
    found = theirs_of.differences()[file]
    caught = {quantity for quantity, value in found.items() if not original.passes(value)}
    assert caught >= set(WRONG[file].values())
    assert caught - set(WRONG[file].values()) <= {"unordered", "unsqueeze"}         # the inverses, at their wrong numbers


def test_names_without_a_counterpart_are_refused():
    config, theirs = theirs_of.numbers("realnvp_tf_model_s2")
    flow = theirs_of.model_flow(config, theirs, (3, 8, 8))
    named = theirs_of.names(flow, theirs_of.scopes(config))
    theirs.pop("param/model/scale_0/coupling_0/rescaling_scale")
    with pytest.raises(ValueError, match="rescaling_scale"):
        theirs_of.filled(flow, named, theirs)


@pytest.mark.parametrize("change, quantity", [
    ({"data_constraint": 0.8}, "logit"), ({"clip": 1e-8}, "optimiser step"), ({"l2_coeff": 5e-3}, "train loss"),
    ({"adam": {"lr": 2e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}}, "optimiser step")])
def test_their_settings_are_read_from_their_file(change, quantity, monkeypatch):
    config, theirs = theirs_of.numbers("realnvp_tf_model_s2")
    monkeypatch.setattr(theirs_of, "numbers", lambda name: (config | change, theirs))
    monkeypatch.setattr(comparison, "NUDGES", 1)
    assert theirs_of.read("realnvp_tf_model_s2")[0][quantity].measure > 1e-6


@pytest.mark.parametrize("channels", (1, 3))
@pytest.mark.parametrize("change", ({}, {"batch_norm": False}, {"weight_norm": False}, {"skip": False}, {"bottleneck": True},
                                    {"additive": True}, {"batch_norm": False, "additive": True, "skip": False}))
def test_their_switches_are_read_from_their_names(change, channels):
    chosen = {"batch_norm": True, "weight_norm": True, "skip": True, "bottleneck": False, "additive": False} | change
    config = {"n_scale": 2, "base_dim": 2, "residual_blocks": 1, "recursion_type": 2, "data_constraint": 0.9}
    flow = image_realnvp(np.random.default_rng(0), (channels, 4, 6), 2, 2, 1, **chosen)
    named = theirs_of.names(flow, theirs_of.scopes(config))
    theirs = Numbers({f"param/{name}": v for name, v in theirs_of.by_their_names(flow.params(), named, named).items()})
    assert theirs_of.switches(theirs, "model/scale_0/coupling_0") == chosen
    again = theirs_of.filled(theirs_of.model_flow(config, theirs, (channels, 4, 6)), named, theirs)
    assert np.array_equal(again.ravel(), flow.ravel())


# -- a literal forward pass, in the authors' layout ---------------------------------------------------------------------

class Literal:
    """The map from images (N, H, W, C) to latents, exactly as described, with parameters under the authors' names."""

    def __init__(self, given, scales, residual_blocks, *, train, batch_norm=True, weight_norm=True, skip=True,
                 bottleneck=False, additive=False, recursion_type=2):
        self.given, self.scales, self.K, self.train, self.batch_norm = given, scales, residual_blocks, train, batch_norm
        self.weight_norm, self.skip, self.bottleneck, self.additive = weight_norm, skip, bottleneck, additive
        self.recursion_type, self.statistics = recursion_type, {}

    def convolution(self, x, scope):
        w = self.given[f"{scope}/weights"]
        if self.weight_norm:
            w = w / np.sqrt((w * w).sum((0, 1, 2))) * self.given.get(f"{scope}/magnitude", 1)
        (N, H, W, _), k = x.shape, w.shape[0] // 2
        padded = np.pad(x, ((0, 0), (k, k), (k, k), (0, 0)))
        h = np.zeros((N, H, W, w.shape[-1]))
        for i in range(w.shape[0]):
            for j in range(w.shape[1]):
                h += padded[:, i:i + H, j:j + W] @ w[i, j]
        return h + self.given.get(f"{scope}/biases", 0)

    def moments(self, x, scope):
        if not self.train:
            return self.given[f"{scope}/mean"], self.given[f"{scope}/var"]
        mean = x.mean((0, 1, 2))
        self.statistics[scope] = mean, ((x - mean) ** 2).mean((0, 1, 2))
        return self.statistics[scope]

    def norm(self, x, scope):
        if not self.batch_norm:
            return x
        mean, var = self.moments(x, scope)
        return (x - mean) / np.sqrt(var + 1e-4) + self.given[f"{scope}/beta"]

    def convolutions(self, x, scope, first):
        """h_0, ... and out, with the layers between them; `first`: with a normalisation and ReLU before them."""
        x = np.maximum(self.norm(x, f"{scope}/bn_in"), 0) if first else x
        for i in range(2 if self.bottleneck else 1):
            x = np.maximum(self.norm(self.convolution(x, f"{scope}/h_{i}"), f"{scope}/bn_{i}"), 0)
        return self.convolution(x, f"{scope}/out")

    def resnet(self, x, scope):
        if not self.K:
            return self.convolutions(x, scope, False)
        x = self.convolution(x, f"{scope}/h_in")
        total = self.convolution(x, f"{scope}/skip_in") if self.skip else 0
        for k in range(self.K):
            x = x + self.convolutions(x, f"{scope}/block_{k}", True)
            total = total + self.convolution(x, f"{scope}/skip_{k}") if self.skip else x
        return self.convolution(np.maximum(self.norm(total, f"{scope}/bn_pre_out"), 0), f"{scope}/out")

    def shift_and_log_scale(self, h, scope, additive, scale):
        if additive:
            return h, 0 * h
        t, s = np.split(h, 2, -1)
        return t, self.given[f"{scope}/{scale}"] * np.tanh(s) + self.given.get(f"{scope}/scale_shift", 0)

    def checkerboard(self, x, scope, mask_in, additive):
        H, W = x.shape[1:3]
        M = ((mask_in + np.arange(W) + np.arange(H)[:, None]) % 2)[None, :, :, None] * np.ones((len(x), 1, 1, 1))
        r = self.norm(x * M, f"{scope}/bn_in") * (2 if self.batch_norm else 1)
        h = self.resnet(np.maximum(np.concatenate([r, -r, M], -1), 0), f"{scope}/resnet")
        t, log_scale = (v * (1 - M) for v in self.shift_and_log_scale(h, scope, additive, "rescaling_scale"))
        y, log_diff = (x + t) * np.exp(log_scale), log_scale
        if self.batch_norm:
            mean, var = self.moments(y * (1 - M), f"{scope}/bn_out")
            log_var = np.log(var + 1e-4) * (1 - M)
            y, log_diff = (y - mean * (1 - M)) * np.exp(-log_var / 2), log_diff - log_var / 2
        return y, log_diff

    def channels(self, x, scope, bottom, additive):
        halves = np.split(x, 2, -1)
        a, b = halves if bottom else halves[::-1]
        r = self.norm(a, f"{scope}/bn_in")
        h = self.resnet(np.maximum(np.concatenate([r, -r], -1), 0), f"{scope}/resnet")
        t, log_scale = self.shift_and_log_scale(h, scope, additive, "scale")
        y, log_diff = (b + t) * np.exp(log_scale), log_scale
        if self.batch_norm:
            mean, var = self.moments(y, f"{scope}/bn_out")
            log_var = np.log(var + 1e-4)
            y, log_diff = (y - mean) * np.exp(-log_var / 2), log_diff - log_var / 2
        pairs = ((a, 0 * a), (y, log_diff)) if bottom else ((y, log_diff), (a, 0 * a))
        return tuple(np.concatenate(parts, -1) for parts in zip(*pairs))

    def squeeze(self, x):
        return np.concatenate([x[:, dy::2, dx::2, c:c + 1] for c in range(x.shape[-1])
                               for dy in (0, 1) for dx in (0, 1)], -1)

    def unsqueeze(self, x):
        N, H, W, C = x.shape
        y = np.zeros((N, 2 * H, 2 * W, C // 4))
        for k in range(C):
            y[:, k % 4 // 2::2, k % 2::2, k // 4] = x[..., k]
        return y

    DIAGONAL = ((0, 0), (1, 1), (0, 1), (1, 0))

    def ordered(self, x):
        return np.concatenate([x[:, dy::2, dx::2] for dy, dx in self.DIAGONAL], -1)

    def unordered(self, x):
        N, H, W, C = x.shape
        y = np.zeros((N, 2 * H, 2 * W, C // 4))
        for (dy, dx), block in zip(self.DIAGONAL, np.split(x, 4, -1)):
            y[:, dy::2, dx::2] = block
        return y

    def scale(self, x, i=0):
        """(z, log_diff), both of the shape of x."""
        C, scope, log_diff = x.shape[-1], f"model/scale_{i}/coupling", 0
        for k, mask_in, free in ((0, 1, True), (1, 0, True), (2, 1, False)):
            x, change = self.checkerboard(x, f"{scope}_{k}", mask_in, self.additive and free)
            log_diff = log_diff + change
        if i == self.scales - 1:
            x, change = self.checkerboard(x, f"{scope}_3", 0, False)
            return x, log_diff + change
        x, log_diff = self.squeeze(x), self.squeeze(log_diff)
        for k, bottom, free in ((4, True, True), (5, False, True), (6, True, False)):
            x, change = self.channels(x, f"{scope}_{k}", bottom, self.additive and free)
            log_diff = log_diff + change
        x, log_diff = (self.ordered(self.unsqueeze(v)) for v in (x, log_diff))
        kept = {1: 4 * C, 2: 2 * C}.get(self.recursion_type, C)
        z, change = self.scale(x[..., :kept], i + 1)
        z = np.concatenate([z, x[..., kept:]], -1)
        log_diff = np.concatenate([log_diff[..., :kept] + change, log_diff[..., kept:]], -1)
        return self.unordered(z), self.unordered(log_diff)


SETTINGS = {
    "the authors'": {"residual_blocks": 2},
    "recursion 1": {"residual_blocks": 1, "recursion_type": 1},
    "recursion 3": {"residual_blocks": 1, "recursion_type": 3},
    "recursion 4": {"residual_blocks": 1, "recursion_type": 4},
    "one scale": {"residual_blocks": 1, "scales": 1},
    "three scales": {"residual_blocks": 1, "scales": 3, "shape": (1, 4, 8)},
    "no blocks": {"residual_blocks": 0},
    "no blocks, bottleneck": {"residual_blocks": 0, "bottleneck": True},
    "four blocks": {"residual_blocks": 4},
    "no skip": {"residual_blocks": 2, "skip": False},
    "bottleneck": {"residual_blocks": 2, "bottleneck": True},
    "no batch norm": {"residual_blocks": 2, "batch_norm": False},
    "no batch norm, no blocks": {"residual_blocks": 0, "batch_norm": False},
    "no batch norm, bottleneck, no skip": {"residual_blocks": 1, "batch_norm": False, "bottleneck": True, "skip": False},
    "no weight norm": {"residual_blocks": 1, "weight_norm": False},
    "additive": {"residual_blocks": 1, "additive": True},
    "additive, no batch norm": {"residual_blocks": 1, "additive": True, "batch_norm": False},
}
PORTS = {
    "scale first": {"residual_blocks": 1, "shift_first": False, "batch_norm": False},
    "chrischute": {"residual_blocks": 1, **realnvp_images.PORTS["chrischute"]},
    "gains of channels, with a shift": {"residual_blocks": 1, "batch_norm": False, "channel_gains": True},
    "fmu2": {"residual_blocks": 1, **realnvp_images.PORTS["fmu2"]},
    "flipped": {"residual_blocks": 1, "flip": True},
    "halves exchanged": {"residual_blocks": 1, "flip_channels": True},
    "statistics of all": {"residual_blocks": 1, "output_norm": "all", "unbiased": True},
    "additive in all": {"residual_blocks": 1, "additive": "all"},
    "widths": {"residual_blocks": 1, "widths": [(3, 2), (1, 4)], "doubled": False},
}


def built(rng, shape=(2, 4, 4), scales=2, base_dim=3, **settings):
    """A flow of real numbers with parameters far from their start."""
    flow = image_realnvp(rng, shape, scales, base_dim, logit=None, **settings)
    flat = {}
    for path, array in flatten(flow.params()):
        spread = 0.2 if path[-1] in ("W", "b") else 0.5
        flat[path] = rng.uniform(0.5, 2, array.shape) if path[-1] == "var" else rng.normal(0, spread, array.shape)
    return flow.replace(**nest(flat))


def images(rng, flow, count=3):
    return rng.normal(size=(count, *flow.event_shape))


@pytest.mark.parametrize("train", [False, True], ids=["moving statistics", "of the batch"])
@pytest.mark.parametrize("name", SETTINGS)
def test_against_the_literal_forward_pass(name, train):
    settings = dict(SETTINGS[name])
    rng = np.random.default_rng(0)
    flow = built(rng, **settings)
    scales, shape = settings.pop("scales", 2), settings.pop("shape", (2, 4, 4))
    named = theirs_of.names(flow, theirs_of.scopes({"n_scale": scales}))
    assert {entry.path for entry in named.values()} == {path for path, _ in flatten(flow.params())}
    literal = Literal(theirs_of.by_their_names(flow.params(), named, named), scales, train=train, **settings)
    x, record = images(rng, flow), {}
    z, log_diff = literal.scale(np.moveaxis(x, 1, -1))
    f = of_batch(flow, record).bijector.inner if train else flow.bijector.inner
    found, log_det = f.forward_and_log_det(x)
    layout = shape, scales, settings.get("recursion_type", 2)
    np.testing.assert_allclose(np.moveaxis(full_resolution(found, *layout), 1, -1), z, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(log_det, log_diff.sum((1, 2, 3)), rtol=1e-11, atol=1e-11)
    if train:
        moved = with_statistics(flow, record).params()
        for scope, (mean, var) in literal.statistics.items():
            for key, batch in (("mean", mean), ("var", var)):
                before = literal.given[f"{scope}/{key}"]
                after = theirs_of.by_their_names(moved, named, [f"{scope}/{key}"])[f"{scope}/{key}"]
                np.testing.assert_allclose(after, before - 0.1 * (before - batch), rtol=1e-11, atol=1e-12)


# -- the recipe -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", SETTINGS | PORTS)
def test_inverse_and_jacobian(name):
    rng = np.random.default_rng(1)
    flow = built(rng, **(SETTINGS | PORTS)[name])
    x, f = images(rng, flow, 2), flow.bijector
    z, log_det = f.inverse_and_log_det(x)
    assert z.shape == (2, x[0].size)
    back, log_det_back = f.forward_and_log_det(z)
    np.testing.assert_allclose(back, x, rtol=0, atol=1e-9)
    np.testing.assert_allclose(log_det_back, -log_det, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(np.linalg.slogdet(f.inner.jacobian(x))[1], log_det, rtol=1e-9, atol=1e-9)
    h, i = 1e-6, 5
    step = np.zeros_like(x)
    step.reshape(2, -1)[:, i] = h
    column = (f.inverse(x + step) - f.inverse(x - step)) / (2 * h)
    np.testing.assert_allclose(f.inner.jacobian(x)[..., i], column, rtol=1e-5, atol=1e-6)


def test_what_ports_add_is_there():
    def keys(**settings):
        flow = image_realnvp(np.random.default_rng(0), (2, 4, 4), 2, 3, 1, **settings)
        return [path[-2:] for path, _ in flatten(flow.params())]

    plain, kernels, shifts = keys(), keys(kernel_gains=True), keys(scale_shift=True)
    count = [key[-1] for key in kernels].count("g"), [key[-1] for key in kernels].count("v")
    assert count[0] == count[1] > [key[-1] for key in plain].count("g")
    assert shifts.count(("scale", "shift")) == shifts.count(("scale", "gain")) == 10 > plain.count(("scale", "shift")) == 0


@pytest.mark.parametrize("train", [False, True], ids=["moving statistics", "of the batch"])
@pytest.mark.parametrize("name", SETTINGS | PORTS)
def test_gradients(name, train):
    """In a random direction of all parameters and data, against differences."""
    rng = np.random.default_rng(2)
    flow = built(rng, **(SETTINGS | PORTS)[name])
    flow = of_batch(flow) if train else flow
    x, weights = images(rng, flow, 3), rng.normal(size=3)
    _, pullback = flow.log_prob_vjp(x)
    x_bar, params_bar = pullback(weights)
    params, bars = dict(flatten(flow.params())), dict(flatten(params_bar))
    assert params.keys() == bars.keys()
    x_step, step = rng.normal(size=x.shape), {path: rng.normal(size=array.shape) for path, array in params.items()}
    slope = (x_bar * x_step).sum() + sum((bars[path] * step[path]).sum() for path in params)

    def L(h):
        moved = flow.replace(**nest({path: params[path] + h * step[path] for path in params}))
        return (weights * moved.log_prob(x + h * x_step)).sum()

    estimates = ((L(h) - L(-h)) / (2 * h) for h in (1e-6, 3e-7))                    # kinks of ReLU may spoil one of them
    assert any(abs(slope / e - 1) < 1e-5 for e in estimates)


def couplings_of(chain):
    """Its couplings, in the order that images pass them."""
    for stage in chain.stages:
        if isinstance(stage, FactorOut):
            yield from couplings_of(stage.rest)
        elif isinstance(stage, Coupling):
            yield stage


def of_port(coupling, x, g, v):
    """The port's coupling, line by line, given its network's output: (y, sum of s), w = g v / |v| for each channel."""
    w = (g * v / np.sqrt(v * v))[:, None, None]
    if coupling.passes.shape[-1] > 1:
        b = 1.0 * coupling.passes
        s, t = np.split(coupling.net.net.forward(x * b), 2, 1)
        s, t = w * np.tanh(s) * (1 - b), t * (1 - b)
        return (x + t) * np.exp(s), s.reshape(len(s), -1).sum(-1)
    halves = np.split(x, 2, 1)
    first = bool(coupling.passes[0, 0, 0])
    x_id, x_change = halves if first else halves[::-1]
    s, t = np.split(coupling.net.forward(x_id), 2, 1)
    s = w * np.tanh(s)
    x_change = (x_change + t) * np.exp(s)
    return np.concatenate((x_id, x_change) if first else (x_change, x_id), 1), s.reshape(len(s), -1).sum(-1)


def ports_couplings(rng):
    """(coupling, is it a checkerboard, its input images)."""
    for coupling in couplings_of(built(rng, **PORTS["chrischute"]).bijector.inner):
        shape = coupling.passes.shape
        checkerboard = shape[-1] > 1
        yield coupling, checkerboard, rng.normal(size=(3, *(shape if checkerboard else (len(coupling.passes), 2, 2))))


def with_gains(coupling, gains):
    return coupling.replace(family={"map": {"scale": {"gains": gains}}})


def test_gains_of_channels_are_the_ports():
    rng = np.random.default_rng(12)
    kinds = set()
    for coupling, checkerboard, x in ports_couplings(rng):
        C = len(coupling.passes) if checkerboard else len(coupling.passes) // 2
        g, v = rng.normal(size=(2, C))
        scale = coupling.affine_form.scale
        assert scale.gains.shape == (C,) and scale.gain is None and scale.shift is None
        coupling = with_gains(coupling, g * np.sign(v))
        y, log_det = coupling.forward_and_log_det(x)
        wanted, sldj = of_port(coupling, x, g, v)
        np.testing.assert_allclose(y, wanted, rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(log_det, sldj, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(coupling.inverse(y), x, rtol=1e-12, atol=1e-13)
        kinds.add((checkerboard, bool(coupling.passes.ravel()[0])))
    assert len(kinds) == 4


def test_the_ports_normalised_weight_has_the_gains_gradient():
    """torch's own weight_norm: g's gradient is the gain's up to the sign of v, v's gradient is 0."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(13)

    class Rescale(torch.nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor(rng.normal(size=(channels, 1, 1))))

        def forward(self, x):
            return self.weight * x

    for coupling, checkerboard, x in ports_couplings(rng):
        module = torch.nn.utils.parametrizations.weight_norm(Rescale(coupling.family.channels), dim=0)
        inside = module.parametrizations.weight
        g, v = inside.original0, inside.original1
        coupling = with_gains(coupling, module.weight.detach().numpy().ravel())
        y_bar, l_bar = rng.normal(size=x.shape), rng.normal(size=3)
        if checkerboard:
            h, changed, moved, bar = coupling.net.net.forward(x * coupling.passes), 1.0 * ~coupling.passes, x, y_bar
        else:
            (a, moved), bar, changed = coupling.parts(x), coupling.parts(y_bar)[1], 1.0
            h = coupling.net.forward(a)
        s, t = (torch.tensor(part) for part in np.split(h, 2, 1))
        s = module(torch.tanh(s))
        loss = (torch.tensor(changed * bar) * (torch.tensor(moved) + t) * torch.exp(s)).sum()
        loss = loss + (torch.tensor(changed * l_bar[:, None, None, None]) * s).sum()
        loss.backward()
        ours = coupling.vjp(x)[1](y_bar, l_bar)[1]["family"]["map"]["scale"]["gains"]
        np.testing.assert_allclose((g.grad * torch.sign(v.detach())).numpy().ravel(), ours, rtol=1e-11, atol=1e-13)
        assert np.abs(v.grad.numpy()).max() <= 1e-14 * np.abs(g.grad.numpy()).max()


def test_batch_statistics_tell_events_apart_from_their_batch():
    """The gradient goes through the statistics: moving one event moves the density of the others."""
    rng = np.random.default_rng(3)
    flow = of_batch(built(rng, residual_blocks=1))
    x = images(rng, flow, 3)
    x_bar, _ = flow.log_prob_vjp(x)[1](np.array([1.0, 0.0, 0.0]))
    assert (np.abs(x_bar).max((1, 2, 3)) > 1e-6).all()


def test_the_start():
    """The first checkerboard couplings do not scale b, and everything is drawn as (14) to (16) say."""
    flow = image_realnvp(np.random.default_rng(4), (3, 8, 8), 2, 8, dtype=np.float32)
    named = theirs_of.names(flow, theirs_of.scopes({"n_scale": 2}))
    given = theirs_of.by_their_names(flow.params(), named, named)
    for name, array in given.items():
        key = name.split("/")[-1]
        assert array.dtype == np.float32
        if key in ("rescaling_scale", "beta", "biases", "mean"):
            assert (array == 0).all()
        elif key in ("scale", "var"):
            assert (array == 1).all()
        elif key == "weights":
            q = np.sqrt(2 / array.shape[2])
            assert np.abs(array).max() <= q * (1 + 1e-6) and np.abs(array).max() > 0.8 * q
            gain = given.get(name.replace("weights", "magnitude"))
            if gain is not None:
                np.testing.assert_allclose(gain, q * np.sqrt(array.shape[2] * array.shape[0] ** 2 / 12), rtol=1e-6)
        else:
            assert key == "magnitude"
    x = flow.sample(np.random.default_rng(5), 4)
    assert x.shape == (4, 3, 8, 8) and x.dtype == np.float32 and (x > -0.06).all() and (x < 1.06).all()
    assert flow.log_prob(x).dtype == np.float32


def test_gains_of_channels_at_the_start():
    """1 for each channel in which b has entries, all of them penalised; in an image of 1 x 1 some couplings have no b."""
    flow = image_realnvp(np.random.default_rng(4), (3, 2, 2), 2, 2, channel_gains=True, dtype=np.float32)
    gains = {path: array for path, array in flatten(flow.params()) if path[-1] == "gains"}
    assert [len(array) for array in gains.values()] == [3, 3, 3, 6, 6, 6, 0, 6, 0, 6]
    assert all((array == 1).all() and array.dtype == np.float32 for array in gains.values())
    assert gains.keys() == {path for path in penalised(flow) if path[-2] == "scale"}
    assert not any(path[-1] == "gain" and path[-2] == "scale" for path, _ in flatten(flow.params()))
    x = np.random.default_rng(5).uniform(0.1, 0.9, (4, 3, 2, 2)).astype(np.float32)
    np.testing.assert_allclose(flow.bijector.forward(flow.bijector.inverse(x)), x, atol=1e-4)


def test_the_logit_and_the_authors_layout():
    rng = np.random.default_rng(6)
    flow = image_realnvp(rng, (1, 4, 4), 2, 2, 0)
    x = rng.random((3, 1, 4, 4))
    p = ((2 * x - 1) * 0.9 + 1) / 2
    real = flow.replace(bijector={"inner": flow.bijector.inner.replace(stages=flow.bijector.inner.stages[1:])})
    y = np.log(p) - np.log(1 - p)
    cost = (np.logaddexp(0, y) + np.logaddexp(0, -y) + np.log(0.9)).sum((1, 2, 3))
    np.testing.assert_allclose(flow.log_prob(x), real.log_prob(y) + cost, rtol=1e-12)
    assert (flow.log_prob(np.full((1, 4, 4), 2.0)) == -np.inf).all()
    z = np.arange(16.0)
    assert [part.shape for part in flow.unpack(z)] == [(2, 2, 2), (2, 2, 2)]
    # the factored half, pixels off the diagonals of the blocks, comes first in z
    np.testing.assert_array_equal(full_resolution(z, (1, 4, 4), 2)[0], [[8, 0, 9, 1], [4, 12, 5, 13], [10, 2, 11, 3],
                                                                        [6, 14, 7, 15]])


def test_penalty():
    """(17) over only the kernels' gains and the checkerboards' scales, and its gradient in training."""
    rng = np.random.default_rng(7)
    flow = built(rng, (1, 4, 4), 2, 2, residual_blocks=1)
    names = penalised(flow)
    params = dict(flatten(flow.params()))
    named = theirs_of.names(flow, theirs_of.scopes({"n_scale": 2}))
    expected = {entry.path for name, entry in named.items() if "magnitude" in name or "rescaling_scale" in name}
    assert set(names) == expected and len(names) == len(expected) > 10
    value, bars = SquaredNorm(5e-5, names)(flow.params())
    assert value == pytest.approx(5e-5 * sum((params[path] ** 2).sum() for path in expected), rel=1e-13)
    assert all((bars[path] == 1e-4 * params[path]).all() for path in expected) and bars.keys() == expected
    x = images(rng, flow, 8)
    plain, with_it = (fit(flow, x, steps=1, validation=0, penalty=penalty)
                      for penalty in (None, SquaredNorm(5e-5, names)))
    assert with_it.history["loss"][0] - plain.history["loss"][0] == pytest.approx(value, rel=1e-9)
    with pytest.raises(ValueError, match="names no parameter"):
        SquaredNorm(1.0, [("bijector", "nowhere")])(flow.params())
    with pytest.raises(ValueError, match="coefficient must be finite and >= 0"):
        SquaredNorm(-1.0)
    assert SquaredNorm(2.0, "*.scale.gain")(flow.params())[1].keys() == {p for p in params if p[-2:] == ("scale", "gain")}


def test_initialised_by_data():
    """Every normalisation, in networks too, gets the statistics of the data that reaches it."""
    rng = np.random.default_rng(11)
    flow = built(rng, residual_blocks=1)
    x, record = images(rng, flow, 6), {}
    log_prob = of_batch(flow, record).log_prob(x)
    ready = flow.initialised(x, rng)
    assert len(record) == len(norms(ready)) == 50
    for path, norm in norms(ready):
        for given, batch in zip((norm.mean, norm.var), record[path]):
            np.testing.assert_allclose(given, batch, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(ready.log_prob(x), log_prob, rtol=1e-9)


def blobs(rng, count):
    """Images of a bright or a dark square on grey."""
    x = 0.5 + 0.05 * rng.normal(size=(count, 1, 4, 4))
    x[:, :, 1:3, 1:3] += 0.3 * rng.choice([-1, 1], (count, 1, 1, 1))
    return np.clip(x, 0.001, 0.999)


@pytest.mark.parametrize("options", [{}, {"channel_gains": True}], ids=["one gain", "gains of channels"])
def test_training(options):
    """The loss falls, and the flow with moving statistics is as good as with its batches' statistics."""
    rng = np.random.default_rng(8)
    x = blobs(rng, 256)
    flow = image_realnvp(rng, (1, 4, 4), 2, 4, 1, **options)
    settings = recipes.realnvp() | {"batch_size": 64, "penalty": SquaredNorm(5e-5, penalised(flow))}
    result = fit(flow, x, **settings, epochs=10, validation=blobs(rng, 64), rng=rng)
    start, end = result.history["loss"][0], result.history["loss"][-4:].mean()
    assert end < start - 3
    assert abs(-result.flow.log_prob(x).mean() - end) < 3
    assert result.history["validation_loss"].min() < result.history["validation_loss"][0] - 5
    assert all((norm.var != 1).any() and np.isfinite(norm.var).all() for _, norm in norms(result.flow))
    samples = result.flow.sample(rng, 100)
    assert np.isfinite(result.flow.log_prob(samples)).all()


def test_saved_and_loaded(tmp_path):
    flow = image_realnvp(np.random.default_rng(9), (1, 4, 4), 2, 2, 1, bottleneck=True, channel_gains=True)
    for suffix in ("npz", "json"):
        save(flow, tmp_path / f"flow.{suffix}")
        assert load(tmp_path / f"flow.{suffix}").equals(flow)


def test_small_images_just_work():
    """Maps smaller than a kernel, where the authors' code fails."""
    rng = np.random.default_rng(10)
    flow = built(rng, (1, 2, 2), 2, 2, residual_blocks=1)
    x = images(rng, flow, 3)
    np.testing.assert_allclose(flow.bijector.forward(flow.bijector.inverse(x)), x, atol=1e-10)


@pytest.mark.parametrize("change, message", [
    ({"shape": (3, 6, 8)}, "multiples of 4, not 6 and 8"), ({"shape": (3, 8)}, "three ints"),
    ({"shape": (3, 8, 8.0)}, "three ints"), ({"shape": (0, 8, 8)}, "three ints >= 1"), ({"scales": 0}, "scales must be"),
    ({"base_dim": 0}, "base_dim must be"), ({"residual_blocks": -1}, "residual_blocks must be"),
    ({"recursion_type": 0}, "recursion_type must be"), ({"output_norm": "some"}, "output_norm must be"),
    ({"additive": "some"}, "additive must be"), ({"order": ("shift", "shift")}, "order must be"),
    ({"widths": [(2, 2)]}, "widths must be 3 pairs"), ({"widths": [(2, 2), (2, 0), (2, 2)]}, "widths must be 3 pairs"),
    ({"widths": [(2, 2), (2, 2), (2, 2, 2)]}, "widths must be 3 pairs"),
    ({"residual_blocks": 1.5}, "residual_blocks must be"), ({"rng": 0}, "rng must be")])
def test_settings_are_refused(change, message):
    settings = {"rng": np.random.default_rng(0), "shape": (3, 8, 8), "scales": 3, "base_dim": 2} | change
    with pytest.raises(ValueError, match=message):
        image_realnvp(**settings)


def test_one_channel_in_networks_is_enough():
    flow, x = image_realnvp(np.random.default_rng(0), (1, 2, 2), 1, 1, 0, logit=None), np.ones((1, 1, 2, 2))
    np.testing.assert_allclose(flow.bijector.forward(flow.bijector.inverse(x)), x, rtol=1e-12)


@pytest.mark.parametrize("additive, few", [("all", False), (True, True), (False, False)])
def test_which_couplings_are_additive(additive, few):
    flow = image_realnvp(np.random.default_rng(0), (2, 4, 4), 2, 2, 0, logit=None, additive=additive)
    found = [type(f) is AdditiveCoupling for _, f in walk(flow) if isinstance(f, (AdditiveCoupling, Coupling))]
    assert all(found) if additive == "all" else any(found) == few and not all(found)


def test_events_are_refused():
    flow = image_realnvp(np.random.default_rng(0), (3, 4, 4), 2, 2, 0)
    for shape in ((2, 1, 4, 4), (2, 3, 8, 8), (3, 4)):
        with pytest.raises(ValueError, match="Flow: x"):
            flow.log_prob(np.full(shape, 0.5))
    with pytest.raises(ValueError, match="Flow: z must"):
        flow.unpack(np.zeros(47))


def test_training_without_variance_names_the_step():
    """Constant images: statistics without variance, and events that overflow in the end, are reported, not hidden."""
    flow = image_realnvp(np.random.default_rng(0), (1, 4, 4), 1, 2, 0)
    x = np.full((8, 1, 4, 4), 0.25)
    try:
        result = fit(flow, x, steps=5, validation=0)
    except TrainingError as error:
        assert "step" in str(error)
    else:
        assert np.isfinite(result.flow.log_prob(x)).all()


def test_equations_are_cited():
    import refflow.models.realnvp_images as page
    assert equations(page) == []
