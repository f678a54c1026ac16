"""Files of the authors' numbers: their systems, whole models of Glow's ports in other settings, training, and what is not read.

The ports' models are written out here in torch, from their equations, with the ports' names: nothing of refflow is in them.
"""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest

from validation import original
from validation.original import comparison, glow, glow_ports, glow_tts_networks

torch = pytest.importorskip("torch")

SYSTEM_OF = {"nice": "nice", "realnvp": "realnvp", "glow": "glow", "glowtts": "glow_tts", "vits": "vits",
             "radial": "planar", "sylvester": "sylvester", "tarflow": "tarflow", "jet": "jet",
             "starflow": "starflow", "cfm": "cfm", "resflow": "resflow"}


# -- which system a file is of ----------------------------------------------------------------------------------------

def test_the_system_is_known_by_what_a_file_holds(tmp_path):
    files = sorted(comparison.PRACTICE.glob("*.npz"))
    for i, file in enumerate(files):
        shutil.copy(file, tmp_path / f"{i:02}.npz")
    found = original.files_of(None, [tmp_path])
    assert [name for _, name, _ in found] == [SYSTEM_OF[file.stem.split("_")[0]] for file in files]
    assert not any(reason for _, name, reason in found if name is None)


SMALL = ("glow_squeeze_split", "glowtts_actnorm", "nice_mnist_like_logistic", "realnvp_pt_squeeze", "realnvp_tf_squeeze")


def small_files(folder):
    for i, name in enumerate(SMALL):
        shutil.copy(comparison.PRACTICE / f"{name}.npz", folder / f"{i}.npz")


def test_a_folder_is_summed_up(tmp_path, capsys):
    small_files(tmp_path)
    assert original.main([str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[5] == "5 of 5 files read; every array is compared or goes in"
    assert [line.split(",")[0] for line in lines[6:]] == ["NICE", "RealNVP", "Glow", "Glow-TTS"]
    assert original.main([str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["read"] == 5 and document["refused"] == 0 and document["model"] is None
    assert document["largest"].keys() == {"nice", "realnvp", "glow", "glow_tts"}
    assert {one["system"] for one in document["files"]} == document["largest"].keys()


def test_what_cannot_be_read_says_what_is_missing(tmp_path, capsys):
    small_files(tmp_path)
    given = {"param/flow.layers.1.actnorm.bias": np.zeros((1, 12, 1, 1))}
    np.savez(tmp_path / "5.npz", cfg=json.dumps({"K": 1, "L": 1}), **given)
    np.savez(tmp_path / "6.npz", cfg=json.dumps({"L": 1}), **given, **{"in/z0": np.zeros((1, 3, 4, 4))})
    np.savez(tmp_path / "7.npz", cfg=json.dumps({"K": 1, "L": 1}), **given, **{"in/z0": np.zeros((1, 3, 4, 4))})
    np.savez(tmp_path / "8.npz", cfg=json.dumps({"cls": "hifigan.Generator"}), x=np.zeros(2))
    np.savez(tmp_path / "9.npz", x=np.zeros(2))
    assert original.main([str(tmp_path)]) == 2
    said = {line[0]: line for line in capsys.readouterr().out.splitlines() if "cannot be read" in line}
    port = "(read as a whole model of chaiyujin's port)"
    assert "there is no 'in/z0' in it" in said["5"] and port in said["5"]
    assert "does not say 'K'" in said["6"] and port in said["6"]
    assert "there is no 'param/flow.layers.1." in said["7"] and port in said["7"]
    assert "hifigan.Generator" in said["8"] and "'cfg'" in said["9"] and len(said) == 5
    assert original.main([str(tmp_path / "nothing.npz")]) == 2
    assert original.main(["glow", str(tmp_path / "1.npz")]) == 2             # a file of Glow-TTS
    assert "it is a file of Glow-TTS" in capsys.readouterr().out


def test_a_damaged_file_of_a_named_system_says_what_is_wrong(tmp_path, capsys):
    held = dict(np.load(original.PRACTICE / "tarflow_model_uncond.npz"))
    config = json.loads(str(held["cfg"]))
    np.savez(tmp_path / "kind.npz", **held | {"cfg": json.dumps(config | {"kind": "Foo"})})
    np.savez(tmp_path / "array.npz", **{key: array for key, array in held.items() if key != "param/blocks.1.proj_in.bias"})
    assert original.main([str(tmp_path)]) == 2
    said = capsys.readouterr().out
    assert "it says that it is of TarFlow, of which it is none of the kinds a block, a model" in said
    assert "there is no 'param/blocks.1.proj_in.bias' in it" in said


@pytest.mark.parametrize("name", [*SMALL, "glow_layers", "glow_step_invconv_affine_lu", "glowtts_squeeze",
                                  "glowtts_attention_win4_short", "glowtts_duration_predictor", "realnvp_tf_channel_aff_bottom0",
                                  "glow_ros_model_additive_plain"])
def test_an_array_that_nothing_reads_is_named(name, tmp_path, capsys):
    config, theirs = comparison.numbers(name)
    for key in ("out/more", "param/more", "buffer/more", "1/more"):
        held = {**theirs, key: np.ones(2)}
        np.savez(tmp_path / "file.npz", cfg=json.dumps(config), **held)
        original.main([str(tmp_path / "file.npz"), comparison.PRACTICE.joinpath("glow_squeeze_split.npz").as_posix()])
        out = capsys.readouterr().out
        assert f"not compared: {key}" in out or "cannot be read" in out and "more" in out, (key, out)


def test_every_array_of_our_copies_is_read():
    """The others of the larger files are read by the tests of their systems."""
    for name in ("glow_model_additive_plain", "glow_ros_model_additive_plain", "realnvp_pt_squeeze"):
        _, module, _ = original.files_of(None, [comparison.PRACTICE / f"{name}.npz"])[0]
        assert original.MODELS[module].read(name)[1] == []


@pytest.mark.parametrize("system, source, said", [
    ("IDF", "", "integer discrete flows (IDF) are not built in refflow"),
    (None, "jornpeters/integer_discrete_flows@644a2fc models/*.py", "integer discrete flows (IDF) are not built in refflow"),
    ("FFJORD", "", "FFJORD is not built in refflow"), ("SurVAE", "", "SurVAE flows are not built in refflow")])
def test_a_system_that_is_not_built_is_said_in_a_sentence(system, source, said, tmp_path, capsys):
    """A port of Glow has the same names of arrays, and the file is not taken for Glow's."""
    config = {"kind": "Model", "K": 1, "L": 1, "source": source} | ({"system": system} if system else {})
    np.savez(tmp_path / "one.npz", cfg=json.dumps(config), **{"param/flow.layers.1.actnorm.bias": np.zeros((1, 12, 1, 1))})
    shutil.copy(comparison.PRACTICE / "glow_squeeze_split.npz", tmp_path / "two.npz")
    assert original.main([str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"one  not compared: {said}"
    assert lines[2] == "1 of 2 files read, 1 of systems that are not compared; every array is compared or goes in"


def test_a_result_that_depends_on_an_unknown_input_is_left_out(tmp_path):
    """An input that nothing reads excuses what has its name in it, and nothing else."""
    theirs = comparison.Numbers({"in/camera_pose": np.ones(2), "out/reverse_camera": np.ones(2), "out/z": np.ones(2), "out/reverse": np.ones(2)})
    theirs.answer("out/", ("reverse_camera", "z", "reverse"))
    far = comparison.Difference(1.0, 1.0)
    kept = comparison.without_dependent({"reverse_camera": far, "z": far, "reverse": comparison.Difference(0.0, 0.0)}, theirs)
    assert kept.keys() == {"z", "reverse"}
    assert [tuple(one) for one in theirs.unanswered()] == [
        ("in/camera_pose", "an input that nothing here reads"),
        ("out/reverse_camera", "it depends on in/camera_pose, which nothing here reads")]
    theirs.answer("in/", ["camera_pose"])
    assert comparison.without_dependent({"reverse_camera": far}, theirs) == {"reverse_camera": far}


def test_the_nearest_reading_is_taken_and_a_wrong_number_is_near_none():
    right, wrong = np.array([1.0, 2.0]), np.array([1.5, 2.0])
    assert comparison.nearest([(["b"], wrong), (["a"], right)], right)[0] == ["a"]
    keys, given = comparison.nearest([(["b"], wrong), (["a"], right), (["c"], np.ones(3))], right + 1e-3)
    assert keys == ["a"] and np.array_equal(given, right)
    with pytest.raises(comparison.Lacking):
        comparison.nearest([], right)


# -- a step in float32 ------------------------------------------------------------------------------------------------

def test_a_step_in_float32_is_measured_absolutely_and_says_so(capsys):
    assert original.main(["realnvp", str(comparison.PRACTICE / "realnvp_tf_model_s2.npz")]) == 0
    out = capsys.readouterr().out
    assert "Adam's constants are float32 in the source: an absolute difference, 1e-07 allowed" in out
    pair = comparison.Pair({"a": np.array([1.0, 0.0])}, {"a": np.array([1.0, 5e-8])}, absolute=1e-7, beside="it")
    found = comparison.judged({"step": pair})["step"]
    assert original.passes(found) and found.measure == 5e-8 and not found.relative
    pair.theirs["a"][1] = 2e-7
    worse = comparison.judged({"step": pair})["step"]
    assert not original.passes(worse)
    assert original.worst_of({"step": found, "relative": 1e-12}) == "relative"
    assert original.worst_of({"step": worse, "relative": 1e-12}) == "step" == original.worst_of({"step": found})


# -- masks of dropout -------------------------------------------------------------------------------------------------

CALLS = {
    "a text encoder": ["pre.relu_drop.1#0", "pre.relu_drop.1#1", "pre.relu_drop.1#2", "encoder.attn_layers.0.drop#0",
                       "encoder.drop#0", "encoder.ffn_layers.0.drop#0", "encoder.drop#1", "encoder.attn_layers.1.drop#0",
                       "encoder.drop#2", "encoder.ffn_layers.1.drop#0", "encoder.drop#3", "proj_w.drop#0", "proj_w.drop#1"],
    "a decoder": [f"flows.{k}.wn.drop#{i}" for k in (2, 5, 8, 11) for i in range(11)],
    "a coupling": [f"wn.drop#{i}" for i in range(11)], "a duration predictor": ["drop#0", "drop#1"]}


@pytest.mark.parametrize("part", CALLS)
def test_masks_are_in_the_order_of_their_modules_calls(part):
    """A mask of n entries is the n-th; a file may hold them in any order, and 10 comes after 9."""
    calls = list(enumerate(CALLS[part], 1))
    shuffled = {f"dropout/{calls[i][1]}": np.ones(calls[i][0]) for i in np.random.default_rng(0).permutation(len(calls))}
    found = glow_tts_networks.recorded_keeps(comparison.Numbers(shuffled))
    assert [len(mask) for mask in found] == [n for n, _ in calls]


# -- the ports of Glow, in torch --------------------------------------------------------------------------------------

class Port:
    """A port's model of torch's parameters p, by the port's names; with `chooses`, actnorms choose p from data."""

    def __init__(self, p, held, L, K, onehot=None, chooses=False):
        self.p, self.held, self.L, self.K, self.onehot, self.chooses = p, held, L, K, onehot, chooses

    def encode(self, x):
        """(h of each level, log-det without priors, log p, noises, the top's mean and log-scale)."""
        log_det, log_p, ends, noises = torch.zeros(len(x), dtype=x.dtype), 0.0, [], []
        for level in range(self.L):
            N, C, H, W = x.shape
            x = x.reshape(N, C, H // 2, 2, W // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(N, 4 * C, H // 2, W // 2)
            for k in range(self.K):
                x, each = self.step(x, self.place(level, k))
                log_det = log_det + each
            a, b = x.chunk(2, 1)
            last = level == self.L - 1
            z, (m, q) = (x, self.top(x)) if last else (b, self.split(level, a))
            log_p = log_p - (math.log(2 * math.pi) / 2 + q + (z - m) ** 2 * torch.exp(-2 * q) / 2).sum((1, 2, 3))
            ends.append(z)
            noises.append((z - m) * torch.exp(-q))
            x = a
        return ends, log_det, log_p, noises, (m, q)

    def step(self, x, name):
        positions = x.shape[2] * x.shape[3]
        x, each = self.actnorm(x, f"{name}actnorm.")
        W, log_det = self.matrix(name, x.shape[1])
        a, b = torch.einsum("ij,njhw->nihw", W, x).chunk(2, 1)
        out = self.net(a, name)
        if out.shape[1] == b.shape[1]:
            return torch.cat((a, b + out), 1), positions * (each + log_det)
        t, r = self.shift_and_scale(out)
        s = torch.sigmoid(r + 2)
        return torch.cat((a, (b + t) * s), 1), positions * (each + log_det) + torch.log(s).sum((1, 2, 3))

    def matrix(self, name, C):
        weight = self.p.get(f"{name}invconv.weight")
        if weight is not None:
            return weight.reshape(C, C), torch.linalg.slogdet(weight.reshape(C, C))[1]
        order = next((v for key, v in self.held.items() if key.startswith(name) and key.endswith("indices")), None)
        if order is None and f"{name}invconv.{self.factors[0]}" in self.p:
            L, U, log_s = (self.p[f"{name}invconv.{key}"] for key in self.factors[:3])
            sign, P = (torch.tensor(self.held[f"{name}invconv.{key}"]) for key in self.factors[3:])
            eye = torch.eye(C, dtype=L.dtype)
            return P @ (torch.tril(L, -1) + eye) @ (torch.triu(U, 1) + torch.diag(sign * torch.exp(log_s))), log_s.sum()
        order = np.arange(C)[::-1].copy() if order is None else order
        return torch.eye(C, dtype=torch.float64)[order], 0.0


def conv(x, W, b=None, border=0.0):
    k = W.shape[-1] // 2
    return torch.nn.functional.conv2d(torch.nn.functional.pad(x, (k, k, k, k), value=border), W, b)


class Chaiyujin(Port):
    factors = "l", "u", "log_s", "sign_s", "p"
    kind, data, noise = "chaiyujin", "z0", "sample/eps_{}"

    def place(self, level, k):
        return f"flow.layers.{level * (self.K + 2) + 1 + k}."

    def actnorm(self, x, name):
        if self.chooses:
            bias = -x.mean((0, 2, 3), keepdim=True)
            self.p[f"{name}bias"], self.p[f"{name}logs"] = bias, -torch.log(
                torch.sqrt(((x + bias) ** 2).mean((0, 2, 3), keepdim=True)) + 1e-6)
        logs = self.p[f"{name}logs"]
        return (x + self.p[f"{name}bias"]) * torch.exp(logs), logs.sum()

    def net(self, a, name):
        for i in (0, 2):
            a = torch.relu(self.actnorm(conv(a, self.p[f"{name}f.{i}.weight"]), f"{name}f.{i}.actnorm.")[0])
        return self.zeros(a, f"{name}f.4.")

    def zeros(self, a, name):
        return conv(a, self.p[f"{name}weight"], self.p[f"{name}bias"]) * torch.exp(3 * self.p[f"{name}logs"])

    def shift_and_scale(self, out):
        return out[:, 0::2], out[:, 1::2]

    def split(self, level, a):
        out = self.zeros(a, self.place(level, self.K) + "conv.")
        return out[:, 0::2], out[:, 1::2]

    def linear(self, v, name):
        return (v @ self.p[f"{name}weight"].T + self.p[f"{name}bias"]) * torch.exp(3 * self.p[f"{name}logs"])

    def top(self, x):
        h = torch.cat((x, x), 1) * 0
        h = self.zeros(h, "learn_top.") if "learn_top.weight" in self.p else h
        h = h + self.linear(self.onehot, "project_ycond.")[:, :, None, None] if self.onehot is not None else h
        return h.chunk(2, 1)


class Rosinality(Port):
    factors = "w_l", "w_u", "w_s", "s_sign", "w_p"
    kind, data, noise = "rosinality", "x", "sample/eps{}"

    def place(self, level, k):
        return f"blocks.{level}.flows.{k}."

    def actnorm(self, x, name):
        if self.chooses:
            self.p[f"{name}loc"] = -x.mean((0, 2, 3), keepdim=True)
            self.p[f"{name}scale"] = 1 / (x.transpose(0, 1).flatten(1).std(1).reshape(1, -1, 1, 1) + 1e-6)
        scale = self.p[f"{name}scale"]
        return scale * (x + self.p[f"{name}loc"]), torch.log(torch.abs(scale)).sum()

    def net(self, a, name):
        for i in (0, 2):
            a = torch.relu(conv(a, self.p[f"{name}coupling.net.{i}.weight"], self.p[f"{name}coupling.net.{i}.bias"]))
        return self.zeros(a, f"{name}coupling.net.4.")

    def zeros(self, a, name):
        return conv(a, self.p[f"{name}conv.weight"], self.p[f"{name}conv.bias"], 1.0) * torch.exp(3 * self.p[f"{name}scale"])

    def shift_and_scale(self, out):
        return out.chunk(2, 1)[::-1]

    def split(self, level, a):
        return self.zeros(a, f"blocks.{level}.prior.").chunk(2, 1)

    def top(self, x):
        return self.zeros(0 * x, f"blocks.{self.L - 1}.prior.").chunk(2, 1)


def drawn(port, rng, C, L, K, hidden, affine, matrix, learn_top=True, classes=0):
    """(parameters, other arrays) of a port's model, as far from its start as a trained one."""
    p, held = {}, {}

    def draw(name, *shape, scale=0.3):
        p[name] = scale * rng.standard_normal(shape)

    def actnorm(name, n):
        draw(f"{name}{'bias' if port is Chaiyujin else 'loc'}", 1, n, 1, 1)
        if port is Chaiyujin:
            draw(f"{name}logs", 1, n, 1, 1)
        else:
            p[f"{name}scale"] = rng.choice([-1, 1], (1, n, 1, 1)) * rng.uniform(0.5, 2, (1, n, 1, 1))

    def zeros(name, inputs, outputs):
        inner = "" if port is Chaiyujin else "conv."
        draw(f"{name}{inner}weight", outputs, inputs, 3, 3, scale=0.1)
        draw(f"{name}{inner}bias", outputs)
        draw(*((f"{name}logs", outputs, 1, 1) if port is Chaiyujin else (f"{name}scale", 1, outputs, 1, 1)), scale=0.1)

    def linear(name, inputs, outputs):
        draw(f"{name}weight", outputs, inputs)
        draw(f"{name}bias", outputs)
        draw(f"{name}logs", outputs, scale=0.1)

    place = port({}, {}, L, K).place
    for level in range(L):
        n = C * 2 ** (level + 2)
        for k in range(K):
            name = place(level, k)
            actnorm(f"{name}actnorm.", n)
            kind = "factors" if port is Rosinality and level == L - 1 else matrix
            W = np.linalg.qr(rng.standard_normal((n, n)))[0] + 0.1 * rng.standard_normal((n, n))
            if kind == "plain":
                p[f"{name}invconv.weight"] = W if port is Chaiyujin else W[:, :, None, None]
            elif kind == "factors":
                for key in port.factors[:2]:
                    draw(f"{name}invconv.{key}", n, n)
                draw(f"{name}invconv.{port.factors[2]}", n)
                held[f"{name}invconv.{port.factors[3]}"] = rng.choice([-1.0, 1.0], n)
                held[f"{name}invconv.{port.factors[4]}"] = np.eye(n)[rng.permutation(n)]
                if port is Rosinality:
                    held |= {f"{name}invconv.u_mask": np.triu(np.ones((n, n)), 1), f"{name}invconv.l_eye": np.eye(n),
                             f"{name}invconv.l_mask": np.tril(np.ones((n, n)), -1)}
            elif kind == "shuffle":
                held[f"{name}shuffle.indices"] = order = rng.permutation(n)
                held[f"{name}shuffle.indices_inverse"] = np.argsort(order)
            net = f"{name}f." if port is Chaiyujin else f"{name}coupling.net."
            for i, inputs, size in ((0, n // 2, 3), (2, hidden, 1)):
                draw(f"{net}{i}.weight", hidden, inputs, size, size)
                actnorm(f"{net}{i}.actnorm.", hidden) if port is Chaiyujin else draw(f"{net}{i}.bias", hidden)
            zeros(f"{net}4.", hidden, n if affine else n // 2)
        if level < L - 1:
            zeros(place(level, K) + "conv." if port is Chaiyujin else f"blocks.{level}.prior.", n // 2, n)
    if port is Rosinality:
        zeros(f"blocks.{L - 1}.prior.", n, 2 * n)
    elif learn_top:
        zeros("learn_top.", 2 * n, 2 * n)
    if classes:
        linear("project_ycond.", classes, 2 * n)
        linear("project_class.", n, classes)
    return p, held


def file_of(port, seed, C, size, L, K, hidden, bits=8, classes=0, weight_y=0.0, **settings):
    """(configuration, numbers) of a model as a file of the port's holds them; the values are torch's."""
    rng, N = np.random.default_rng(seed), 2
    params, held = drawn(port, rng, C, L, K, hidden, classes=classes, **settings)
    H, W = size
    v, u = rng.integers(0, 256, (N, C, H, W)).astype(float), rng.random((N, C, H, W))
    x = np.floor(v / 2 ** (8 - bits)) / 2**bits - 0.5 + u / 2**bits
    D, y = C * H * W, rng.integers(0, max(classes, 1), N)
    onehot = torch.eye(classes, dtype=torch.float64)[y] if classes else None
    p = {name: torch.tensor(array, requires_grad=True) for name, array in params.items()}
    data = torch.tensor(x, requires_grad=True)
    model = port(p, held, L, K, onehot)
    ends, log_det, log_p, _, (m, q) = model.encode(data)
    nll = (D * bits * math.log(2) - log_det - log_p) / (D * math.log(2))
    loss = nll.mean()
    if weight_y:
        logits = model.linear(ends[-1].mean((2, 3)), "project_class.")
        loss = loss + weight_y * torch.nn.functional.cross_entropy(logits, torch.tensor(y))
    loss.backward()
    file = {f"param/{name}": array for name, array in params.items()} | {f"buffer/{name}": array for name, array in held.items()}
    file |= {f"grad/{name}": one.grad.numpy() for name, one in p.items() if one.grad is not None}
    file |= {"in/x_int": v, "in/uniform": u, f"in/{port.data}": x, f"gradin/{port.data}": data.grad.numpy(), "out/loss": loss}
    with torch.no_grad():
        other = rng.standard_normal(x.shape)
        noises = model.encode(torch.tensor(other))[3]
        order = noises[::-1] if port is Chaiyujin else noises
        file |= {port.noise.format(i): z for i, z in enumerate(order)} | {"sample/x": other}
        file |= ddi_of(port, params, held, x, L, K, onehot)
        if port is Chaiyujin:
            config = {"cls": "Glow/FlowNet", "K": K, "L": L, "n_bits": bits, "weight_y": weight_y}
            noise = rng.standard_normal(x.shape) / 256
            z, log_det_2, log_p_2, *_ = model.encode(torch.tensor(x + noise))
            file |= {"param/prior_h": np.zeros((N, 2 * z[-1].shape[1], *z[-1].shape[2:])), "out/z": ends[-1],
                     "out/objective": log_det + log_p - D * bits * math.log(2), "out/bits_per_dim": nll,
                     "out/prior_mean": m.expand(ends[-1].shape), "out/prior_logs": q.expand(ends[-1].shape),
                     "port/x": x, "port/noise": noise, "port/z": z[-1],
                     "port/nll": (math.log(256) * H * W - log_det_2 - log_p_2) / (math.log(2) * H * W)}
            if classes:
                file |= {"in/y": y, "out/y_logits": model.linear(ends[-1].mean((2, 3)), "project_class.")}
        else:
            config = {"n_flow": K, "n_block": L, "n_bits": bits, "loss": f"mean(...), D={C}*{H}*{W}"}
            additive = not settings["affine"]
            file |= {"out/log_p": log_p, "out/logdet": log_det[0] if additive else log_det, "out/reconstruct": x}
            file |= {f"out/z{i}": z for i, z in enumerate(ends)}
    return config, {key: value.detach().numpy() if hasattr(value, "detach") else np.asarray(value) for key, value in file.items()}


def ddi_of(port, params, held, x, L, K, onehot):
    """What the port's actnorms choose from data, where its last layers are still 0."""
    last = (".f.4." if port is Chaiyujin else ".net.4.", ".conv.", "learn_top.", ".prior.", "project_")
    p = {name: torch.tensor(array * (not any(word in name for word in last))) for name, array in params.items()}
    port(p, held, L, K, onehot, chooses=True).encode(torch.tensor(x))
    return {f"ddi/{name}": array for name, array in p.items()}


SETTINGS = {
    "additive plain": (Chaiyujin, dict(C=1, size=(4, 8), L=1, K=1, hidden=3, affine=False, matrix="plain")),
    "affine plain": (Chaiyujin, dict(C=3, size=(8, 8), L=2, K=1, hidden=4, bits=5, affine=True, matrix="plain")),
    "affine factors": (Chaiyujin, dict(C=1, size=(8, 8), L=3, K=2, hidden=3, affine=True, matrix="factors")),
    "shuffled": (Chaiyujin, dict(C=1, size=(8, 4), L=2, K=2, hidden=2, affine=True, matrix="shuffle", learn_top=False)),
    "reversed": (Chaiyujin, dict(C=1, size=(4, 4), L=1, K=3, hidden=2, affine=False, matrix="reverse")),
    "classes": (Chaiyujin, dict(C=1, size=(4, 4), L=2, K=1, hidden=2, classes=3, affine=True, matrix="plain")),
    "classes alone": (Chaiyujin, dict(C=1, size=(4, 4), L=1, K=1, hidden=2, classes=2, affine=False, matrix="factors",
                                      learn_top=False)),
    "classes in the loss": (Chaiyujin, dict(C=1, size=(4, 4), L=1, K=1, hidden=2, classes=3, weight_y=0.5, affine=True,
                                            matrix="plain")),
    "rosinality, additive plain": (Rosinality, dict(C=3, size=(8, 8), L=3, K=1, hidden=4, bits=5, affine=False, matrix="plain")),
    "rosinality, affine factors": (Rosinality, dict(C=1, size=(8, 4), L=2, K=2, hidden=3, affine=True, matrix="factors")),
    "rosinality, one level": (Rosinality, dict(C=2, size=(4, 4), L=1, K=3, hidden=2, bits=3, affine=True, matrix="factors")),
    "rosinality, affine plain": (Rosinality, dict(C=1, size=(8, 8), L=2, K=2, hidden=5, bits=4, affine=True, matrix="plain"))}


def found_in(config, file):
    return comparison.read_as(glow.KINDS, comparison.Config(config), comparison.Numbers(file))


def failing(config, file):
    return {name for name, value in found_in(config, file)[0].items() if not original.passes(value)}


@pytest.mark.parametrize("name", SETTINGS)
def test_models_of_the_ports_in_any_setting(name):
    port, settings = SETTINGS[name]
    config, file = file_of(port, 1, **settings)
    assert glow.holds(config, file.keys())
    found, unread = found_in(config, file)
    assert unread == []
    assert {key for key, value in found.items() if not original.passes(value)} == set(), found
    assert found.keys() >= {"data", "loss", "gradients", "gradient of data", "samples", "initial scales", "initial centres"}
    assert all("ill-conditioned" not in value.reason for value in found.values())


WRONG = {"out/loss": {"loss"}, "sample/x": {"samples"}, "gradin/z0": {"gradient of data"}, "out/z": {"latents"},
         "grad/flow.layers.1.invconv.weight": {"gradients"}, "grad/learn_top.logs": {"gradients"},
         "ddi/flow.layers.1.actnorm.logs": {"initial scales"}, "port/nll": {"port's loss"},
         "port/z": {"port's latents"}, "out/prior_logs": {"log-scales of the top"}, "out/objective": {"objective"},
         "ddi/flow.layers.1.actnorm.bias": {"initial centres"}, "in/uniform": {"data"}}


@pytest.mark.parametrize("key", WRONG)
def test_a_wrong_number_of_a_port_is_found(key):
    config, file = file_of(*(SETTINGS["affine plain"][0], 2), **SETTINGS["affine plain"][1])
    assert failing(config, file | {key: file[key] * (1 + 1e-6)}) == WRONG[key]


def test_a_wrong_constant_of_a_port_is_refused():
    config, file = file_of(Rosinality, 3, **SETTINGS["rosinality, affine factors"][1])
    for key in ("buffer/blocks.0.flows.0.invconv.u_mask", "buffer/blocks.1.flows.1.invconv.w_p"):
        with pytest.raises(ValueError, match=r"read as .* rosinality's port"):
            found_in(config, file | {key: file[key] * 0.5})
    config, file = file_of(Chaiyujin, 3, **SETTINGS["reversed"][1])
    with pytest.raises(ValueError, match="prior_h"):
        found_in(config, file | {"param/prior_h": file["param/prior_h"] + 1})


@pytest.mark.parametrize("bug", ["sign of a weight", "halves and neighbours", "border of 0", "transposed matrix", "factor 3"])
def test_a_bug_of_the_reader_is_found(bug, monkeypatch):
    """Each is a mistake in a convention or in a name that leaves all shapes as they are."""
    name = "affine plain" if bug == "factor 3" else "rosinality, affine plain"
    port, settings = SETTINGS[name]
    config, file = file_of(port, 4, **settings)
    assert failing(config, file) == set()
    right = glow_ports.CONVENTIONS[port.kind]
    changes = {"halves and neighbours": {"layout": "interleaved"}, "border of 0": {"last_padding": "edge"},
               "factor 3": {"factor": 3.0}}
    if bug in ("sign of a weight", "transposed matrix"):
        whole, change = glow_ports.Names.matrix, np.negative if bug == "sign of a weight" else np.transpose

        def matrix(self, name, path):
            whole(self, name, path)
            for key, entry in self.entries.items():
                if key.startswith(name) and key.endswith("invconv.weight"):
                    self.entries[key] = entry._replace(ours=lambda W, ours=entry.ours: change(ours(W)))

        monkeypatch.setattr(glow_ports.Names, "matrix", matrix)
    else:
        monkeypatch.setitem(glow_ports.CONVENTIONS, port.kind, type(right)(**(vars(right) | changes[bug])))
    try:
        wrong = failing(config, file)
    except ValueError:
        assert bug == "border of 0"                 # the border would be a channel of its own: the kernels do not fit
        return
    assert "loss" in wrong or bug == "sign of a weight" and "latents 0" in wrong
