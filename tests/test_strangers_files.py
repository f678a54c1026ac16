"""Files of numbers that a stranger writes from validation/original/README.md: his own NumPy, and nothing of refflow in it.

Gradients are differences along the imaginary axis, Im f(x + i h)/h, which lose no digits.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.special import erf

from validation import original
from validation.original import comparison

README = Path(original.__file__).with_name("README.md")
STEP = 1e-30


def gradients_of(loss, arrays):
    """{name: gradient} of loss(arrays), entry by entry."""
    found = {}
    for name, array in arrays.items():
        bar = np.zeros(array.shape)
        for place in np.ndindex(array.shape):
            moved = array.astype(complex)
            moved[place] += STEP * 1j
            bar[place] = np.imag(loss(arrays | {name: moved})) / STEP
        found[name] = bar
    return found


def written(path, config, arrays):
    np.savez(path, cfg=json.dumps(config), **arrays)
    return path


def read(path, capsys):
    """(exit status, quantities that differ, the number of them, what is not compared)."""
    status = original.main([str(path), "--json"])
    one, = json.loads(capsys.readouterr().out)["files"]
    assert "error" not in one, one
    return status, {name for name, value in one["quantities"].items() if not value["passes"]}, len(one["quantities"]), one["not compared"]


# -- TarFlow ----------------------------------------------------------------------------------------------------------

def norm(h, p, name):
    centred = h - h.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]


def layer(h, p, name):
    return h @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def attention(h, p, name, d):
    """Causal attention of heads of d channels."""
    B, T, M = h.shape
    q, k, v = (part.reshape(B, T, M // d, d).transpose(0, 2, 1, 3) for part in np.split(layer(norm(h, p, f"{name}.norm"), p, f"{name}.qkv"), 3, -1))
    weights = np.exp(q @ k.transpose(0, 1, 3, 2) / np.sqrt(d)) * np.tril(np.ones((T, T)))
    weights = weights / weights.sum(-1, keepdims=True)
    return layer((weights @ v).transpose(0, 2, 1, 3).reshape(B, T, M), p, f"{name}.proj")


def shift_and_scale(x, y, p, d, layers, flip):
    """(a, b) of tokens in their order."""
    P = p["pos_embed"][::-1] if flip else p["pos_embed"]
    E = p["class_embed"]
    h = layer(x, p, "proj_in") + P + np.stack([E.mean(0) if one < 0 else E[one] for one in y])
    for i in range(layers):
        h = h + attention(h, p, f"attn_blocks.{i}.attention", d)
        m = layer(norm(h, p, f"attn_blocks.{i}.mlp.norm"), p, f"attn_blocks.{i}.mlp.main.0")
        h = h + layer(m * (1 + erf(m / np.sqrt(2))) / 2, p, f"attn_blocks.{i}.mlp.main.2")
    o = layer(h, p, "proj_out")
    o = np.concatenate([0 * o[:, :1], o[:, :-1]], 1)
    return np.split(o, 2, -1)


def turned(x, flip):
    return x[:, ::-1] if flip else x


def block(x, y, p, *how):
    x = turned(x, how[-1])
    a, b = shift_and_scale(x, y, p, *how)
    return turned((x - b) * np.exp(-a), how[-1]), -a.mean((1, 2))


def samples(u, y, p, *how):
    x = turned(u, how[-1]).copy()
    for t in range(x.shape[1]):
        a, b = shift_and_scale(x, y, p, *how)
        x[:, t] = x[:, t] * np.exp(a[:, t]) + b[:, t]
    return turned(x, how[-1])


def tarflow_parameters(rng, T, F, M, E, n, layers):
    shapes = {"pos_embed": (T, M), "class_embed": (n, 1, M)}

    def dense(name, outputs, inputs):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, inputs), (outputs,)

    dense("proj_in", M, F)
    dense("proj_out", 2 * F, M)
    for i in range(layers):
        at = f"attn_blocks.{i}"
        for part in ("attention", "mlp"):
            shapes[f"{at}.{part}.norm.weight"] = shapes[f"{at}.{part}.norm.bias"] = (M,)
        dense(f"{at}.attention.qkv", 3 * M, M)
        dense(f"{at}.attention.proj", M, M)
        dense(f"{at}.mlp.main.0", E * M, M)
        dense(f"{at}.mlp.main.2", M, E * M)
    return {name: 0.4 * rng.standard_normal(shape) for name, shape in shapes.items()}


def tarflow_file(mistake=""):
    """(configuration, arrays) of a flipped block with classes."""
    rng, (B, T, F, M, n, layers, d) = np.random.default_rng(3), (2, 3, 2, 4, 3, 1, 2)
    p, how = tarflow_parameters(rng, T, F, M, 2, n, layers), (d, layers, True)
    x, wz, u, wl = (rng.standard_normal(shape) for shape in ((B, T, F), (B, T, F), (B, T, F), (B,)))
    y, of_samples = np.array([2, -1]), np.array([0, 1])

    def loss(p, x=x):
        z, log_det = block(x, y, p, *how)
        return (z * wz).sum() + (log_det * wl).sum()

    z, log_det = block(x, y, p, *how)
    log_det = log_det * (T * F if mistake == "a sum for a mean" else 1)
    out = {"z": z, "logdet": log_det, "loss": loss(p), "reverse_u": samples(u, of_samples, p, *how), "reverse_of_z": samples(z, y, p, *how)}
    arrays = {f"in/{name}": held for name, held in {"x": x, "u": u, "y": y, "y_mine": of_samples, "cotangent_z": wz, "ct_logdet": wl}.items()}
    arrays |= {f"param/{name}": held for name, held in p.items()} | {f"out/{name}": held for name, held in out.items()}
    arrays |= {f"grad/{name}": bar for name, bar in gradients_of(loss, p).items()}
    arrays["gradin/x"] = gradients_of(lambda held: loss(p, held["x"]), {"x": x})["x"]
    return {"system": "tarflow", "kind": "MetaBlock", "permutation": "flip", "head_dim": d}, arrays


# -- NICE -------------------------------------------------------------------------------------------------------------

def nice_forward(x, p, layers, reorder):
    """(latents, log-det) of rows."""
    D = x.shape[1]
    h = np.concatenate([x[:, 0::2], x[:, 1::2]], 1) if reorder else x
    for k, count in enumerate(layers, 1):
        a, b = h[:, :D // 2], h[:, D // 2:]
        m = a
        for i in range(1, count + 1):
            m = m @ p[f"coupling_{k}_h{i}_W"] + p[f"coupling_{k}_h{i}_b"]
            m = np.where(m.real > 0, m, 0)
        h = np.concatenate([a, b + m @ p[f"coupling_{k}_out_W"] + p[f"coupling_{k}_out_b"]], 1)[:, ::-1]
    return h * np.exp(p["z_D"]), p["z_D"].sum()


def nice_file(mistake=""):
    """(configuration, arrays) of a flow with a logistic prior."""
    rng, (B, D, H), layers = np.random.default_rng(4), (3, 6, 3), (1, 2)
    shapes = {"z_D": (D,)}
    for k, count in enumerate(layers, 1):
        for i in range(1, count + 1):
            shapes |= {f"coupling_{k}_h{i}_W": (D // 2 if i == 1 else H, H), f"coupling_{k}_h{i}_b": (H,)}
        shapes |= {f"coupling_{k}_out_W": (H, D // 2), f"coupling_{k}_out_b": (D // 2,)}
    p = {name: 0.6 * rng.standard_normal(shape) for name, shape in shapes.items()}
    x, order = rng.standard_normal((B, D)), mistake != "another order"

    def log_prob(p, x=x):
        z, log_det = nice_forward(x, p, layers, order)
        return (-z - 2 * np.log(1 + np.exp(-z))).sum(1) + log_det

    z, log_det = nice_forward(x, p, layers, order)
    out = {"z": z, "logdet": log_det, "loglik": log_prob(p), "loss": -log_prob(p).mean(), "inverse_of_z": x}
    arrays = {"in/x": x} | {f"param/{name}": held for name, held in p.items()} | {f"out/{name}": held for name, held in out.items()}
    arrays |= {f"grad/{name}": bar for name, bar in gradients_of(lambda p: -log_prob(p).mean(), p).items()}
    arrays["gradin/x"] = gradients_of(lambda held: -log_prob(p, held["x"]).mean(), {"x": x})["x"]
    return {"D": D, "nhid": H, "hidden_layers_per_coupling": list(layers), "prior": "StandardLogistic", "reorder_tile": True}, arrays


@pytest.mark.parametrize("file, count", [(tarflow_file, 7), (nice_file, 7)])
def test_a_strangers_file_is_read_and_compared(file, count, tmp_path, capsys):
    assert read(written(tmp_path / "mine.npz", *file()), capsys) == (0, set(), count, {})


@pytest.mark.parametrize("file, mistake, shown", [(tarflow_file, "a sum for a mean", {"logdet"}), (nice_file, "another order", {"latents"})])
def test_a_strangers_mistake_is_found(file, mistake, shown, tmp_path, capsys):
    status, wrong, *_ = read(written(tmp_path / "mine.npz", *file(mistake)), capsys)
    assert status == 1 and wrong >= shown


NEEDED = ("param/", "in/x", "in/y", "in/context", "in/channel_proj", "in/spatial_proj")
LEAST = ("tarflow_metablock_identity", "tarflow_model_uncond", "starflow_metablock_softplus_sos_text", "jet_coupling_spatial",
         "nice_mnist_like_logistic")


@pytest.mark.parametrize("name", LEAST)
def test_the_least_that_a_file_holds_is_compared(name, tmp_path, capsys):
    """One result, and nothing that it does not need."""
    config, theirs = comparison.numbers(name)
    least = {key: array for key, array in theirs.items() if key.startswith(NEEDED) and not re.search("cfg|uint8|x_int", key)}
    file = config, least | {"out/z": theirs["out/z"]}
    status, wrong, count, left = read(written(tmp_path / "least.npz", *file), capsys)
    assert (status, wrong, left) == (0, set(), {}) and 1 <= count <= 3
    file[1]["out/z"] = theirs["out/z"] * (1 + 1e-6)
    assert read(written(tmp_path / "least.npz", *file), capsys)[:2] == (1, {"latents" if "nice" in name else "z"})


# -- the page and the code --------------------------------------------------------------------------------------------

def named_in_the_page(heading):
    """Regular expressions of the names in a section's table."""
    section = README.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    names = [name for line in section.splitlines() if line.startswith("| `") for name in re.findall(r"`([^`]+)`", line.split(" | ")[0])]
    for i, name in enumerate(names):
        if name[0] in "._":                     # the end of the name before it
            names[i] = re.sub(r"(\.weight|_W)$", "", names[i - 1]) + name
    return [re.sub(r"<k>|<i>|\bi\b", r"\\d+", re.escape(name)).replace("<name>", r"\w+").replace(r"\.\.\.", r"\w*") for name in names]


@pytest.mark.parametrize("heading, system", [("TarFlow", "tarflow"), ("NICE", "nice")])
def test_the_page_names_every_array_of_the_files_here(heading, system):
    patterns = named_in_the_page(heading)
    for file in original.MODELS[system].FILES:
        for key in comparison.numbers(file)[1]:
            plain = re.sub(r"^(grad|gradin)/", lambda match: {"grad": "param/", "gradin": "in/"}[match[1]], key)
            plain = re.sub(r"^param/blocks\.\d+\.", "param/", plain).replace("mlp.norm", "attention.norm")
            rule = re.fullmatch("in/w[zl]|in/noise|perm/tile", plain)
            assert rule or any(re.fullmatch(pattern, plain) for pattern in patterns), key


def test_a_schema_prints_every_array_of_the_files_here(capsys):
    assert original.main(["--schema", "tarflow"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in original.MODELS["tarflow"].FILES:
        config, theirs = comparison.numbers(name)
        start = next(i for i, line in enumerate(lines) if line.startswith(name))
        held = lines[start + 1:start + 1 + len(config) + len(theirs)]
        assert {line.split()[0] for line in held if not line.startswith("    cfg ")} == theirs.keys()
