"""STARFlow on the command line: its blocks, training on pixels, samples, and how it fails."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from classed_images import slopes, write
from refflow import Flow
from refflow.cli.classes import blocks_and_units
from refflow.cli.images import Images
from refflow.core import tree
from refflow.maps.conditioners import RelativeAttention
from refflow.models.starflow import images_of, own_map
from refflow.models.tarflow import loss_vjp
from refflow.saving import about, load
from refflow.training.recipes import tarflow as recipe


def fitted(run, *more, data="data.npy", steps=6):
    """What `refflow fit` returns of a few steps."""
    if not Path(data).exists():
        np.save(data, slopes()[0])
    return run("fit", data, "--model", "starflow", "--hidden", 8, "--depth", 3, "--layers", 2, "--values", 8, "--steps", steps,
               "--batch-size", 16, "--learning-rate", 0.01, "--average", 0, "--out", "flow.npz", *more)


def test_some_steps_lower_the_loss(run):
    status, out, err = fitted(run, "--json", steps=60)
    report = json.loads(out)
    assert status == 0 and not err
    for part in ("train", "validation"):
        assert report["after"][part]["bits_per_dim"] < report["before"][part]["bits_per_dim"] - 0.3


def test_score_and_sample(run):
    assert fitted(run, steps=30)[0] == 0
    flow, note, v = load("flow.npz"), about("flow.npz"), slopes()[0]
    assert note["model"] == "starflow" and note["sizes"] == {"patch": 2, "hidden": 8, "depth": 3, "layers": 2}
    blocks, units = flow.bijector.stages
    found = json.loads(run("score", "flow.npz", "data.npy", "--seed", 4, "--json")[1])
    y = Images.of_flow(flow, note).with_noise(v.astype(np.float32), np.random.default_rng(4))
    x = units.inverse(y)
    assert np.abs(x).max() <= 1                                                     # pixels in [-1, 1]
    loss, _ = loss_vjp(Flow(blocks, flow.base), x)
    nats = 16 * (loss + np.log(2 * np.pi) / 2 + np.log(4))                          # a pixel is (x + 1) 8/2
    assert np.allclose(found["log_prob"], -nats, rtol=1e-5)

    assert run("sample", "flow.npz", "--n", 5, "--seed", 3, "--temperature", 0.5, "--out", "s.npy")[0] == 0
    z = np.float32(0.5) * flow.base.sample(np.random.default_rng(3), 5)
    expected = units.forward(images_of(Flow(blocks, flow.base), z))
    assert np.abs(np.load("s.npy") - np.clip(np.floor(expected), 0, 7)).mean() < 0.02


def test_the_last_block_is_deep(run):
    assert fitted(run, steps=0)[0] == 0
    stages = load("flow.npz").bijector.stages[0].inner.stages
    maps = [f for f in map(own_map, stages) if f is not None]
    depths = [sum(isinstance(value, RelativeAttention) for _, value in tree.walk(f)) for f in maps]
    assert depths == [1, 1, 2]


def test_the_optimiser_is_tarflows(run, monkeypatch):
    settings, right = {}, Images.trained
    monkeypatch.setattr(Images, "trained", lambda self, start, parts, rng, given: (
        settings.update(given) or right(self, start, parts, rng, given)))
    assert fitted(run)[0] == 0
    assert settings["optimiser"] == recipe(16, 1, 2, 0.01)["optimiser"]


# -- refusals ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("v, more, said", [
    (slopes(H=5)[0], (), "height must be a multiple of patch = 2, not 5"),
    (slopes()[0], ("--hidden", 6), "head_size must be a multiple of 4, not 2"),
    (slopes()[0], ("--hidden", "8,8"), "--hidden: the networks of starflow have one width, not 2"),
    (slopes()[0], ("--depth", 0), "layers must hold the number of layers of each block"),
    (slopes()[0], ("--couplings", 2), "--couplings: the model starflow of images has no such option"),
    (slopes()[0], ("--levels", 2), "--levels: the model starflow of images has no such option"),
    (slopes()[0], ("--permutation", "1x1"), "--permutation: the model starflow of images has no such option"),
    (slopes()[0], ("--additive",), "--additive: the model starflow of images has no such option")])
def test_fit_refuses(run, v, more, said):
    np.save("data.npy", v)
    status, out, err = fitted(run, *more)
    assert status == 2 and not out and said in err and err.count("\n") == 1 and not Path("flow.npz").exists()


def test_it_takes_no_classes_and_no_table(run):
    status, _, err = fitted(run, "--context", "kind", data=write())
    assert status == 2 and "--context: the model starflow of images has no such option" in err
    np.save("table.npy", np.random.default_rng(0).normal(size=(20, 2)))
    status, _, err = run("fit", "table.npy", "--model", "STARFlow", "--out", "flow.npz")
    assert status == 2 and "--model starflow is for images" in err


def test_the_guidance_of_tarflow_is_not_starflows(run):
    assert fitted(run, steps=0)[0] == 0
    assert blocks_and_units(load("flow.npz")) is None
    status, _, err = run("sample", "flow.npz", "--guidance", 1, "--attention-temperature", 2, "--n", 3, "--out", "s.npy")
    assert status == 2 and err == "refflow: --guidance: flow.npz holds no TarFlow\n" and not Path("s.npy").exists()
