"""RealNVP of images as in two ports, chrischute/real-nvp and fmu2/realNVP: their numbers, and both line by line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from refflow.core.tree import flatten, nest
from refflow.models import image_realnvp
from refflow.models.realnvp_images import PORTS, full_resolution
from refflow.training.batch_norm import of_batch, with_statistics
from validation import original
from validation.original import comparison, realnvp_names, realnvp_ports
from validation.original import realnvp as theirs_of

FILES = {"fmu2": "realnvp_fmu2_channel_affine_bn1", "chrischute": "realnvp_pt_coupling_channel_fwd"}
DIALECTS = realnvp_ports.DIALECTS
OF_MODE = ("latents", "log-det", "loss", "gradients of parameters", "gradient of data")
QUANTITIES = {f"{mode} {quantity}" for mode in ("eval", "train") for quantity in OF_MODE} | {
    "inverse", "moving statistics", "counts of batches"}


# -- their numbers ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("port", PORTS)
def test_agrees_with_the_port(port):
    found, unanswered = theirs_of.read(FILES[port])
    entries = {f"{mode} log-det of each entry" for mode in ("eval", "train")} if port == "fmu2" else set()
    assert found.keys() == QUANTITIES | entries
    for quantity, value in found.items():
        assert value.measure <= (1e-10 if "gradients" in quantity else 1e-11), quantity
        assert "ill-conditioned" not in value.reason
        assert not value.reason or "gradients" in quantity
    assert unanswered == []


WRONG = {
    "fmu2": {"eval/z": {"eval latents", "inverse"}, "train/z": {"train latents"},
             "train/logdet": {"train log-det", "train log-det of each entry"},
             "eval/nll": {"eval loss"}, "train_grad/scale_shift": {"train gradients of parameters"},
             "eval_grad/block.1.in_skip.conv.weight_v": {"eval gradients of parameters"},
             "train_gradin/x": {"train gradient of data"}, "eval/reverse_of_z": {"inverse"},
             "buffer_after_train/out_bn.running_var": {"moving statistics"},
             "buffer_after_train/in_bn.running_mean": {"moving statistics"}},
    "chrischute": {"train/z": {"train latents"}, "eval/logdet": {"eval log-det"}, "train/nll": {"train loss"},
                   "train_grad/rescale.weight_g": {"train gradients of parameters"},
                   "train_grad/st_net.blocks.0.in_conv.conv.weight_g": {"train gradients of parameters"},
                   "eval_gradin/x": {"eval gradient of data"},
                   "buffer_after_train/st_net.out_norm.running_var": {"moving statistics"}}}


@pytest.mark.parametrize("port, key", [(port, key) for port in WRONG for key in WRONG[port]])
def test_one_wrong_entry_is_found(port, key, monkeypatch):
    config, theirs = comparison.numbers(FILES[port])
    wrong = np.array(theirs[key])
    i = np.where(wrong == 0, np.inf, np.abs(wrong)).argmin()            # the smallest: no larger error hides it
    wrong.ravel()[i] *= 1 + 1e-6
    monkeypatch.setattr(theirs_of, "numbers", lambda name: (config, comparison.Numbers(theirs | {key: wrong})))
    found, _ = theirs_of.read(FILES[port])
    assert {quantity for quantity, value in found.items() if not original.passes(value)} == WRONG[port][key]


SETTINGS = [(port, key) for port in PORTS for key in PORTS[port]]
OF_CHECKERBOARDS = {("chrischute", "mask_channel"), ("chrischute", "flip"), ("fmu2", "doubled"), ("fmu2", "output_norm")}
READ_FROM_NAMES = {("chrischute", "kernel_gains")}


@pytest.mark.parametrize("port, key", sorted(set(SETTINGS) - OF_CHECKERBOARDS - READ_FROM_NAMES))
def test_every_setting_of_a_port_is_needed(port, key, monkeypatch):
    """Without it a channel coupling's numbers disagree, or names are not found; the other settings change whole models."""
    usual = {"eps": 1e-4, "order": ("shift", "scale"), "output_norm": True, "shift_first": True}
    changed = {name: dict(settings) for name, settings in PORTS.items()}
    changed[port][key] = usual.get(key, False)
    monkeypatch.setattr(realnvp_ports, "PORTS", changed)
    try:
        found, _ = theirs_of.read(FILES[port])
    except ValueError as error:
        assert "counterpart" in str(error)
    else:
        assert not all(original.passes(value) for value in found.values())


# -- both ports line by line ------------------------------------------------------------------------------------------

class Literal:
    """A whole model from images to latents, exactly as in the port's code, with the port's names."""

    def __init__(self, given, train, scales):
        self.given, self.train, self.scales, self.moving = given, train, scales, {}

    def convolution(self, x, name):
        v = self.given[f"{name}.weight_v"]
        g = self.given.get(f"{name}.weight_g", np.ones(len(v)))
        w = v * (g / np.sqrt((v * v).sum((1, 2, 3))))[:, None, None, None]
        (N, _, H, W), k = x.shape, w.shape[2] // 2
        padded, h = np.pad(x, ((0, 0), (0, 0), (k, k), (k, k))), np.zeros((N, len(w), H, W))
        for i in range(w.shape[2]):
            for j in range(w.shape[3]):
                h += np.einsum("mc,nchw->nmhw", w[:, :, i, j], padded[:, :, i:i + H, j:j + W])
        return h + self.given.get(f"{name}.bias", np.zeros(len(w)))[:, None, None]

    def moments(self, x, name):
        """The mean and variance in use, (C, 1, 1); torch's running variance follows the unbiased one."""
        if not self.train:
            return (self.given[f"{name}.running_{key}"][:, None, None] for key in ("mean", "var"))
        mean = x.mean((0, 2, 3))
        var = ((x - mean[:, None, None]) ** 2).mean((0, 2, 3))
        n = x.size // len(mean)
        self.moving[name] = mean, var * n / (n - 1)
        return mean[:, None, None], var[:, None, None]

    def norm(self, x, name):
        mean, var = self.moments(x, name)
        weight, bias = (self.given[f"{name}.{key}"][:, None, None] for key in ("weight", "bias"))
        return (x - mean) / np.sqrt(var + 1e-5) * weight + bias

    def model(self, x, i=0):
        """(z, log-det of each event)."""
        last, log_det = i == self.scales - 1, 0
        for k, odd in enumerate((0, 1, 0, 1) if last else (0, 1, 0)):
            x, change = self.checkerboard(x, self.scope(i, "checkerboard", k), odd)
            log_det = log_det + change
        if last:
            return x, log_det
        N, C, H, W = x.shape
        x = x.reshape(N, C, H // 2, 2, W // 2, 2).transpose(0, 1, 3, 5, 2, 4).reshape(N, 4 * C, H // 2, W // 2)
        for k, odd in enumerate((0, 1, 0)):
            x, change = self.channels(x, self.scope(i, "channels", k), odd)
            log_det = log_det + change
        x = x.reshape(N, C, 2, 2, H // 2, W // 2).transpose(0, 1, 4, 2, 5, 3).reshape(N, C, H, W)
        corners = (0, 0), (1, 1), (0, 1), (1, 0)
        x = np.concatenate([x[:, :, dy::2, dx::2] for dy, dx in corners], 1)
        z, change = self.model(x[:, :2 * C], i + 1)
        z, y = np.concatenate([z, x[:, 2 * C:]], 1), np.empty((N, C, H, W))
        for (dy, dx), block in zip(corners, np.split(z, 4, 1)):
            y[:, :, dy::2, dx::2] = block
        return y, log_det + change


def mask_of(x, top_left):
    H, W = x.shape[2:]
    return ((top_left + np.arange(H)[:, None] + np.arange(W)) % 2) * 1.0


class LiteralChrischute(Literal):
    def scope(self, i, kind, k):
        return "flows." + "next_block." * i + {"checkerboard": "in", "channels": "out"}[kind] + f"_couplings.{k}."

    def network(self, a, scope, double):
        net = f"{scope}st_net."
        x = self.norm(a, f"{net}in_norm") * (2 if double else 1)
        x = self.convolution(np.maximum(np.concatenate([x, -x], 1), 0), f"{net}in_conv.conv")
        skip, k = self.convolution(x, f"{net}in_skip.conv"), 0
        while f"{net}skips.{k}.conv.weight_v" in self.given:
            block = f"{net}blocks.{k}."
            h = self.convolution(np.maximum(self.norm(x, f"{block}in_norm"), 0), f"{block}in_conv.conv")
            x = x + self.convolution(np.maximum(self.norm(h, f"{block}out_norm"), 0), f"{block}out_conv.conv")
            skip, k = skip + self.convolution(x, f"{net}skips.{k}.conv"), k + 1
        s, t = np.split(self.convolution(np.maximum(self.norm(skip, f"{net}out_norm"), 0), f"{net}out_conv.conv"), 2, 1)
        return self.given[f"{scope}rescale.weight_g"][:, None, None] * np.tanh(s), t

    def checkerboard(self, x, scope, reverse):
        b = mask_of(x, 1 if reverse else 0)
        s, t = self.network(x * b, scope, True)
        s, t = s * (1 - b), t * (1 - b)
        return (x + t) * np.exp(s), s.sum((1, 2, 3))

    def channels(self, x, scope, reverse):
        first, second = np.split(x, 2, 1)
        same, change = (first, second) if reverse else (second, first)
        s, t = self.network(same, scope, False)
        change = (change + t) * np.exp(s)
        return np.concatenate((same, change) if reverse else (change, same), 1), s.sum((1, 2, 3))


class LiteralFmu2(Literal):
    def scope(self, i, kind, k):
        return f"s{i + 1}_{'ckbd' if kind == 'checkerboard' else 'chan'}.{k}.coupling."

    def network(self, a, scope, last):
        r = self.norm(a, f"{scope}in_bn")
        net = f"{scope}block.1."
        x = self.convolution(np.maximum(np.concatenate([r, -r, *last], 1), 0), f"{net}in_block.conv")
        out, k = self.convolution(x, f"{net}in_skip.conv"), 0
        while f"{net}core_skips.{k}.conv.weight_v" in self.given:
            block = f"{net}core_block.{k}."
            h = self.convolution(np.maximum(self.norm(x, f"{block}in_block.0"), 0), f"{block}res_block.0.conv")
            x = x + self.convolution(np.maximum(self.norm(h, f"{block}res_block.1"), 0), f"{block}res_block.3.conv")
            out, k = out + self.convolution(x, f"{net}core_skips.{k}.conv"), k + 1
        h = self.convolution(np.maximum(self.norm(out, f"{net}out_block.0"), 0), f"{net}out_block.2.conv")
        t, s = np.split(h, 2, 1)
        return t, self.given[f"{scope}scale"] * np.tanh(s) + self.given[f"{scope}scale_shift"]

    def moved(self, x, t, s, scope, changed):
        """x exp(s) + t, normalised where `changed` is True, by the statistics of all entries."""
        y = x * np.exp(s) + t
        mean, var = self.moments(y, f"{scope}out_bn")
        y = (y - mean) / np.sqrt(var + 1e-5) * changed + y * (1 - changed)
        return y, (s - np.log(var + 1e-5) / 2 * changed).sum((1, 2, 3))

    def checkerboard(self, x, scope, odd):
        mask = mask_of(x, 0 if odd else 1)
        t, s = self.network(x * mask, scope, [np.broadcast_to(mask, (len(x), 1, *mask.shape))])
        return self.moved(x, t * (1 - mask), s * (1 - mask), scope, 1 - mask)

    def channels(self, x, scope, top):
        first, second = np.split(x, 2, 1)
        on, off = (first, second) if top else (second, first)
        t, s = self.network(off, scope, [])
        on, log_det = self.moved(on, t, s, scope, np.ones_like(on))
        return np.concatenate((on, off) if top else (off, on), 1), log_det


LITERAL = {"chrischute": LiteralChrischute, "fmu2": LiteralFmu2}


def model_of(port, scales, blocks=1, shape=(2, 4, 4), width=3):
    """(a flow with parameters far from their start, {their name: Entry})."""
    rng = np.random.default_rng(0)
    flow, flat = image_realnvp(rng, shape, scales, width, blocks, logit=None, **PORTS[port]), {}
    for path, array in flatten(flow.params()):
        flat[path] = rng.uniform(0.5, 2, array.shape) if path[-1] == "var" else rng.normal(0, 0.5, array.shape)
    flow, literal = flow.replace(**nest(flat)), LITERAL[port]({}, False, scales)
    scopes = [literal.scope(i, kind, k) for i in range(scales)
              for kind, k in [("checkerboard", k) for k in range(3)] + (
                  [("checkerboard", 3)] if i == scales - 1 else [("channels", k) for k in range(3)])]
    return flow, realnvp_names.names(flow, scopes, DIALECTS[port])


@pytest.mark.parametrize("train", [False, True], ids=["moving statistics", "of the batch"])
@pytest.mark.parametrize("scales, blocks, shape", [(1, 1, (2, 4, 4)), (2, 2, (2, 4, 6)), (3, 1, (1, 8, 8))])
@pytest.mark.parametrize("port", PORTS)
def test_the_models_of_a_port(port, scales, blocks, shape, train):
    flow, named = model_of(port, scales, blocks, shape)
    assert {entry.path for entry in named.values()} == {path for path, _ in flatten(flow.params())}
    x, record = np.random.default_rng(1).normal(size=(3, *shape)), {}
    literal = LITERAL[port](realnvp_names.by_their_names(flow.params(), named, named), train, scales)
    z, log_det = literal.model(x)
    f = (of_batch(flow, record) if train else flow).bijector.inner
    found, found_log_det = f.forward_and_log_det(x)
    np.testing.assert_allclose(full_resolution(found, shape, scales), z, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found_log_det, log_det, rtol=1e-10, atol=1e-10)
    if not train:
        np.testing.assert_allclose(f.inverse(found), x, rtol=1e-9, atol=1e-9)
        return
    moved = realnvp_names.by_their_names(with_statistics(flow, record).params(), named, named)
    for name, batch in literal.moving.items():
        for key, value in zip(("mean", "var"), batch):
            after = 0.9 * literal.given[f"{name}.running_{key}"] + 0.1 * value
            np.testing.assert_allclose(moved[f"{name}.running_{key}"], after, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("port, key", sorted(OF_CHECKERBOARDS))
def test_the_settings_of_checkerboards_are_needed(port, key):
    """Another setting is another function of the same parameters; with the mask among the channels, of more parameters."""
    flow, named = model_of(port, 1)
    changed = PORTS[port] | {key: True if key == "output_norm" else not PORTS[port][key]}
    usual = image_realnvp(np.random.default_rng(0), (2, 4, 4), 1, 3, 1, logit=None, **changed)
    x = np.random.default_rng(1).normal(size=(3, 2, 4, 4))
    z, log_det = LITERAL[port](realnvp_names.by_their_names(flow.params(), named, named), True, 1).model(x)
    params = dict(flatten(flow.params()))
    same = all(array.shape == params[path].shape for path, array in flatten(usual.params()))
    assert same == (key != "mask_channel")
    if same:
        other = of_batch(usual.replace(**nest(params))).bijector.inner.forward(x)
        assert np.abs(full_resolution(other, (2, 4, 4), 1) - z).max() > 1e-3


@pytest.mark.parametrize("port", PORTS)
def test_gradients_through_a_ports_statistics(port):
    """Gradients in parameters and data, in a random direction, compared with differences."""
    flow, _ = model_of(port, 2)
    flow = of_batch(flow)
    rng = np.random.default_rng(2)
    x, weights = rng.normal(size=(3, 2, 4, 4)), rng.normal(size=3)
    x_bar, params_bar = flow.log_prob_vjp(x)[1](weights)
    params, bars = dict(flatten(flow.params())), dict(flatten(params_bar))
    x_step, step = rng.normal(size=x.shape), {path: rng.normal(size=array.shape) for path, array in params.items()}
    slope = (x_bar * x_step).sum() + sum((bars[path] * step[path]).sum() for path in params)

    def L(h):
        return (weights * flow.replace(**nest({path: params[path] + h * step[path] for path in params})).log_prob(
            x + h * x_step)).sum()

    estimates = ((L(h) - L(-h)) / (2 * h) for h in (1e-6, 3e-7))                    # kinks of ReLU may spoil one of them
    assert any(abs(slope / e - 1) < 1e-5 for e in estimates)


@pytest.mark.parametrize("port", PORTS)
def test_a_models_file_is_read(port, tmp_path):
    """A file of numbers from the literal pass: the port, its scales and its widths are recognised from names and shapes."""
    flow, named = model_of(port, 2, 2)
    given = realnvp_names.by_their_names(flow.params(), named, named)
    x, found = np.random.default_rng(3).normal(size=(3, 2, 4, 4)), {}
    for name, array in given.items():
        found[("buffer/" if "running" in name else "param/") + name] = array[:, None, None, None] if name.endswith(
            "conv.weight_g") else array
        if name.endswith("rescale.weight_g"):
            found["param/" + name.removesuffix("g") + "v"] = -np.ones_like(array)
            found["param/" + name] = -array
    for mode in ("eval", "train"):
        z, log_det = LITERAL[port](given, mode == "train", 2).model(x)
        log_prob = -((z * z + np.log(2 * np.pi)) / 2).sum((1, 2, 3)) + log_det
        levels = 32 * np.log(256) if port == "chrischute" else 0
        found |= {f"{mode}/z": z, f"{mode}/logdet": log_det, f"{mode}/nll": levels - log_prob.mean()}
    scale = next(name for name in given if name.endswith(("scale_shift", "rescale.weight_g")))
    at = flow.log_prob_vjp(x)[1](np.full(3, -1 / 3))[1]
    sign = -1 if port == "chrischute" else 1
    found[f"eval_grad/{scale}"] = sign * realnvp_names.by_their_names(at, named, [scale])[scale]
    found[f"train_grad/{scale}"] = sign * realnvp_names.by_their_names(
        {**of_batch(flow).log_prob_vjp(x)[1](np.full(3, -1 / 3))[1]}, named, [scale])[scale]
    np.savez(tmp_path / "realnvp_some.npz", cfg=json.dumps({}), **found, **{"in/x": x, "eval/reverse_of_z": x})
    quantities, unanswered = theirs_of.read(tmp_path / "realnvp_some.npz")
    assert unanswered == [(f"{mode}_gradin/x", comparison.LACKS) for mode in ("eval", "train")]
    assert all(original.passes(value) for value in quantities.values()), quantities


# -- the measure ------------------------------------------------------------------------------------------------------

def test_what_is_0_in_exact_arithmetic_is_measured_beside_the_largest():
    theirs = {"a": np.array([1.0, -3e-17]), "b": np.array([2.0, 1e-11])}
    given = {"a": np.array([1.0, 5e-17]), "b": np.array([2.0, 1e-11])}
    found = comparison.judged({"g": comparison.gradients(given, theirs)})["g"]
    assert found.entrywise > 1 and found.measure == pytest.approx(4e-17) and "entries of a are 0" in found.reason
    for name, wrong in (("a", np.array([1.0, 5e-12])), ("b", np.array([2.0, 1.1e-11])), ("a", np.array([1 + 2e-9, 0]))):
        found = comparison.judged({"g": comparison.gradients(given | {name: wrong}, theirs)})["g"]
        assert not original.passes(found)


def test_a_small_difference_is_measured_by_how_far_rounding_moves_it():
    x = np.array([1 + 2.0**-16, 1.0, 2.0])

    def pairs(x, error=(0.0, 0.0)):
        exact = np.array([2.0**-16, -1.0])
        return {"q": comparison.pair((x[:-1] - x[1:]) * (1 + np.array(error)), exact)}

    def again(rng):
        return pairs(x * (1 - comparison.NUDGE * rng.choice((0, 1), 3)))

    found = comparison.judged(pairs(x, (2e-8, 0.0)), again)["q"]
    assert original.passes(found) and "ill-conditioned" in found.reason and found.entrywise == pytest.approx(2e-8)
    for error in ((2e-6, 0.0), (2e-3, 0.0), (0.0, 2e-9), (np.nan, 0.0)):
        assert not original.passes(comparison.judged(pairs(x, error), again)["q"])
    assert not original.passes(comparison.judged(pairs(x, (2e-8, 0.0)))["q"])


def test_other_names_and_shapes_are_infinitely_far():
    for given, theirs in (({"a": np.ones(2)}, {"a": np.ones(3)}), ({"a": np.ones(2)}, {"b": np.ones(2)}), ({}, {})):
        found = comparison.judged({"q": comparison.Pair(given, theirs)})["q"]
        assert found.measure == np.inf and found.reason


# -- the command ------------------------------------------------------------------------------------------------------

def written(path, **changes):
    """A copy of a port's file, with changes; None removes a key."""
    config, theirs = comparison.numbers(FILES["fmu2"])
    found = {key: value for key, value in (theirs | changes).items() if value is not None}
    np.savez(path, cfg=json.dumps(config), **found)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path, capsys):
    written(tmp_path / "realnvp_a.npz")
    written(tmp_path / "realnvp_b.npz", **{"param/in_bn.weight": None})
    written(tmp_path / "realnvp_c.npz", **{"eval/z": None})
    written(tmp_path / "realnvp_d.npz", **{"param/more": np.ones(2)})
    (tmp_path / "realnvp_e.npz").write_bytes(b"PK\x03\x04nothing")
    (tmp_path / "realnvp_f.npz").write_text("no archive\nat all")
    (tmp_path / "glow_g.npz").write_text("of another model")
    assert original.main(["realnvp", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    *lines, number, largest = [line for line in out.splitlines() if not line.startswith("    ")]
    assert [line.split()[0] for line in lines] == [f"realnvp_{letter}" for letter in "abcdef"] and not err
    assert ["cannot be read" in line for line in lines] == [False] + 5 * [True]
    assert number.startswith("1 of 6 files read, 5 refused") and largest.startswith("RealNVP, 1 file ")
    assert "'eval/z'" in lines[2] and "more" in lines[3]
    assert original.main(["realnvp", str(tmp_path / "realnvp_a.npz")]) == 0
    assert original.main(["realnvp", str(tmp_path / "missing.npz")]) == 2
    assert original.main(["realnvp", str(tmp_path / "realnvp_a.npz"), str(tmp_path / "glow_g.npz")]) == 2
    (tmp_path / "empty").mkdir()
    assert original.main(["realnvp", str(tmp_path / "empty")]) == 2


def test_what_is_not_compared_is_named(tmp_path, capsys):
    written(tmp_path / "realnvp_a.npz", **{"sample/eps": np.ones(3), "eval/nll": None})
    assert original.main(["realnvp", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "not compared: sample/eps: a name that nothing here knows" in out and "not compared: eval/nll: the file lacks it" in out
    assert "eval loss" not in out and "train loss" in out


def test_json(tmp_path, capsys):
    written(tmp_path / "realnvp_a.npz", **{"eval/nll": np.array(np.nan)})
    (tmp_path / "realnvp_b.npz").write_text("nothing")
    assert original.main(["realnvp", "--json", str(tmp_path)]) == 2
    document = json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(word))
    assert document["model"] == "realnvp" and document["allowed"] == 1e-9
    first, second = document["files"]
    assert first["quantities"]["eval loss"] == {"measure": "nan", "entrywise": "nan", "reason": "", "passes": False}
    assert first["quantities"]["eval latents"]["passes"] and first["not compared"] == {}
    assert second["file"] == "realnvp_b" and "error" in second
    assert original.main(["nice", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"][0]["quantities"]["latents"]["passes"]
