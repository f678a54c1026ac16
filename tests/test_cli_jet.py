"""Jet on the command line: its units and options, images with classes, training, and how it fails."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest

import classed_images
from classed_images import slopes, write
from refflow.cli.classes import Labelled
from refflow.cli.images import Images
from refflow.maps.conditioners import CrossAttention
from refflow.maps.coupling import Coupling
from refflow.core import tree
from refflow.models.jet import HIGH
from refflow.saving import about, load
from refflow.training import ClipNorm
from refflow.training.recipes import jet as recipe

fitted = functools.partial(classed_images.fitted, "jet")


def found(flow, kind):
    return [value for _, value in tree.walk(flow) if isinstance(value, kind)]


# -- the whole way ----------------------------------------------------------------------------------------------------

def test_fit_score_and_sample_given_a_class(run):
    status, out, err = fitted(run, steps=60)
    assert status == 0 and not err
    assert out.startswith("data.npz: 4 x 4 pixels, 0 .. 7 given kind, one of 3, 81 images to train, 9 held out\n")
    flow, note = load("flow.npz"), about("flow.npz")
    assert note["images"]["context"] == {"name": "kind", "classes": 3} and note["model"] == "jet"
    assert note["sizes"] == {"patch": 2, "hidden": 8, "couplings": 5, "layers": 1} and flow.dtype == np.float32
    assert len(found(flow, Coupling)) == len(found(flow, CrossAttention)) == 5
    v, labels = slopes()
    np.save("images.npy", v)
    scores = {name: json.loads(run("score", "flow.npz", name, "--seed", 4, "--json")[1]) for name in ("data.npz", "images.npy")}
    data = Images.of_flow(flow, note)
    y = data.with_noise(Labelled(v.astype(np.float32), labels), np.random.default_rng(4))
    given = flow.at(context=np.eye(3, dtype=np.float32)[labels][..., None]).log_prob(y.images)
    assert np.allclose(scores["data.npz"]["log_prob"], given, rtol=1e-5)
    unknown = flow.at(context=np.full((3, 1), 1 / 3, np.float32)).log_prob(y.images)
    assert np.allclose(scores["images.npy"]["log_prob"], unknown, rtol=1e-5)
    assert scores["data.npz"]["bits_per_dim"] < scores["images.npy"]["bits_per_dim"]        # a class tells something

    for more, row in ((("--given", "kind=2"), np.eye(3)[2]), ((), np.full(3, 1 / 3))):
        status, _, _ = run("sample", "flow.npz", *more, "--n", 5, "--seed", 3, "--temperature", 0.5, "--out", "s.npy", "--force")
        z = np.float32(0.5) * flow.base.sample(np.random.default_rng(3), 5)
        expected = flow.at(context=row.astype(np.float32)[:, None]).bijector.forward(z)
        assert status == 0 and np.abs(np.load("s.npy") - np.clip(np.floor(expected), 0, 7)).mean() < 0.02


def test_the_pixels_of_jet_are_the_authors(run):
    """x = v/127.5 - 1 + u/127.5, for 256 values."""
    v = np.random.default_rng(0).integers(0, 256, (12, 3, 4, 4))
    np.save("images.npy", v)
    assert run("fit", "images.npy", "--model", "jet", *classed_images.SIZES["jet"], "--steps", 0, "--out", "flow.npz")[0] == 0
    flow, u = load("flow.npz"), np.random.default_rng(1).random(v.shape)
    units = flow.bijector.stages[-1]
    assert np.allclose(units.inverse((v + u).astype(np.float32)), v / 127.5 - 1 + u / 127.5, atol=1e-6)
    assert np.allclose(units.inverse(np.full((3, 4, 4), 256, np.float32)), HIGH, rtol=1e-6)


def test_it_learns_without_classes(run):
    status, out, _ = fitted(run, "--json", steps=150, context=())
    report = json.loads(out)
    assert status == 0 and not load("flow.npz").needs("context")
    assert report["after"]["validation"]["bits_per_dim"] < report["before"]["validation"]["bits_per_dim"] - 0.3


def test_the_optimiser_is_the_authors(run, monkeypatch):
    settings, right = {}, Images.trained
    monkeypatch.setattr(Images, "trained", lambda self, start, parts, rng, given: (
        settings.update(given) or right(self, start, parts, rng, given)))
    assert fitted(run)[0] == 0
    expected = recipe(16, 6, 0.01)
    assert settings["optimiser"] == expected["optimiser"] and settings["clip"] == expected["clip"]
    assert isinstance(settings["clip"], ClipNorm) and settings["averaging"] is None


def test_pictures(run):
    pytest.importorskip("matplotlib")
    assert fitted(run)[0] == 0
    assert run("plot", "flow.npz", "data.npz", "--what", "images", "--n", 4, "--given", "kind=1", "--out", "picture.png")[0] == 0
    assert run("sample", "flow.npz", "--given", "kind=0", "--n", 4, "--out", "samples.png")[0] == 0


# -- refusals ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("made, more, said", [
    ({"v": slopes(H=5)[0]}, (), "height must be a multiple of patch = 2, not 5"),
    ({"v": slopes(W=6)[0]}, ("--patch", 4), "width must be a multiple of patch = 4, not 6"),
    ({"v": slopes(W=6)[0]}, (), "checkerboard needs an even number of columns of tokens, not 3; the grid is 2 x 3"),
    ({}, ("--patch", 1), "the features of a token must be even in number, not 1"),
    ({}, ("--context", "class"), "--context: data.npz has no array 'class', of a .npz file, with a class for each image; it has kind"),
    ({}, ("--depth", 2), "--depth: the model jet of images has no such option"),
    ({}, ("--levels", 2), "--levels: the model jet of images has no such option"),
    ({}, ("--additive",), "--additive: the model jet of images has no such option"),
    ({}, ("--permutation", "1x1"), "--permutation: the model jet of images has no such option"),
    ({}, ("--hidden", "8,8"), "--hidden: the networks of jet have one width, not 2"),
    ({}, ("--model", "glow"), "the model glow of images has no such option"),
    ({}, ("--model", "tarflow"), "--couplings: the model tarflow of images has no such option"),
])
def test_fit_refuses(run, made, more, said):
    write(**made)
    status, out, err = fitted(run, *more)
    assert status == 2 and not out and said in err and err.count("\n") == 1 and not Path("flow.npz").exists()


def test_a_table_is_refused(run):
    np.save("table.npy", np.random.default_rng(0).normal(size=(20, 2)))
    status, _, err = run("fit", "table.npy", "--model", "jet", "--out", "flow.npz")
    assert status == 2 and "--model jet is for images" in err


@pytest.mark.parametrize("more, said", [
    (("--given", "kind=3"), "--given: kind is 3, which is not one of the classes 0 .. 2"),
    (("--given", "kind=0", "--guidance", 1), "--guidance: flow.npz holds no TarFlow"),
])
def test_sample_refuses(run, more, said):
    assert fitted(run, steps=1)[0] == 0
    status, out, err = run("sample", "flow.npz", *more, "--out", "s.npy")
    assert status == 2 and not out and said in err and not Path("s.npy").exists()
