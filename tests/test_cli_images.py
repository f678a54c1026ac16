"""refflow fit, sample, score, plot and data for images: what they write and print, and how they fail."""

from __future__ import annotations

import inspect
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from interruptions import in_call
from refflow.cli.dataset import Dataset
from refflow.cli.images import Images
from refflow.cli.kinds import KINDS
from refflow.core import Chain, Flow, arrays
from refflow.maps.densities import StandardNormal
from refflow.data import load_images, load_labelled_images, photographs
from refflow.models import realnvp
from refflow.saving import about, load, save
from refflow.training import Adam, gaussians

SMALL = {"glow": ("--levels", 1, "--depth", 1, "--hidden", 4), "realnvp": ("--levels", 1, "--depth", 0, "--hidden", 3)}


def ramps(n=60, C=1, H=4, W=4, values=8, seed=0):
    """Images of one slope each, so that neighbours predict each other well."""
    rng = np.random.default_rng(seed)
    slope = rng.random((n, C, 2, 1, 1)) * 2 - 1
    place = np.arange(H)[:, None] * slope[:, :, 0] + np.arange(W) * slope[:, :, 1]
    return np.clip(np.rint(place + values / 2), 0, values - 1).astype(np.uint8)


def saved(v, name="images.npy"):
    np.save(name, v)
    return name


def trained(run, model, *more, v=None, out="flow.npz", steps=12, values=8):
    saved(ramps() if v is None else v)
    return run("fit", "images.npy", "--model", model, *SMALL[model], "--values", values, "--steps", steps,
               "--batch-size", 16, "--learning-rate", 0.01, "--average", 0.5 * (model == "glow"), "--out", out, "--force",
               *more)


# -- the whole way ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("model", ["glow", "realnvp"])
def test_fit_sample_score_plot(run, model):
    pytest.importorskip("matplotlib")
    status, out, err = trained(run, model, "--test", 0.1, steps=80)
    assert status == 0 and not err
    assert "4 x 4 pixels, 0 .. 7, 48 images to train, 6 held out, 6 to test" in out and "shrunk covariance" in out
    bits = {line.split("  ")[0]: [float(cell) for cell in line.split()[-3:]] for line in out.splitlines()[2:5]}
    assert bits["after"][1] < bits["before"][1] - 0.2
    flow, note = load("flow.npz"), about("flow.npz")
    assert note["images"] == {"values": 8, "bins": 8, "shape": [1, 4, 4], "layout": "NCHW"} and note["model"] == model
    assert flow.event_shape == (1, 4, 4) and flow.dtype == np.float32
    assert note["history"]["validation"][0] > min(note["history"]["validation"])

    status, out, err = run("sample", "flow.npz", "--n", 5, "--temperature", 0.7, "--seed", 3, "--out", "samples.npy")
    samples = np.load("samples.npy")
    assert status == 0 and "5 images" in out and samples.shape == (5, 1, 4, 4) and samples.dtype == np.uint8
    z = np.float32(0.7) * flow.base.sample(np.random.default_rng(3), 5)
    assert np.array_equal(samples, np.clip(np.floor(flow.bijector.forward(z)), 0, 7))
    assert run("sample", "flow.npz", "--n", 9, "--out", "samples.png")[0] == 0

    status, out, err = run("score", "flow.npz", "images.npy", "--seed", 4, "--out", "-")
    rows = np.array([line.split(",") for line in out.splitlines()[1:]], float)
    assert status == 0 and out.startswith("image,log_prob,bits_per_dim\n") and "60 images" in err and len(rows) == 60
    assert np.allclose(rows[:, 2], -rows[:, 1] / (16 * math.log(2)), rtol=1e-15)
    y = Images(8, 8, (1, 4, 4), "NCHW").with_noise(ramps(), np.random.default_rng(4))
    assert np.allclose(rows[:, 1], flow.log_prob(y), rtol=1e-6)
    assert run("score", "flow.npz", "images.npy", "--seed", 4, "--out", "scores.npy")[0] == 0
    assert np.array_equal(np.load("scores.npy"), rows[:, 1])
    report = json.loads(run("score", "flow.npz", "images.npy", "--seed", 4, "--json")[1])
    assert report["log_prob"] == rows[:, 1].tolist() and report["bits_per_dim"] == pytest.approx(rows[:, 2].mean())

    for what in ("images", "interpolation", "history"):
        assert run("plot", "flow.npz", "images.npy", "--what", what, "--n", 4, "--out", f"{what}.png")[0] == 0
        assert (Path(f"{what}.png")).read_bytes().startswith(b"\x89PNG")
    assert run("plot", "flow.npz", "--what", "images", "--n", 4, "--temperature", 0.5, "--out", "cold.png")[0] == 0


def test_the_density_is_one_of_pixels(run):
    """exp(log_prob), integrated over (0, 2)^2 x ... for two entries, is the mass that the flow gives to these pixels."""
    v = np.random.default_rng(0).integers(0, 2, (200, 1, 1, 2)).astype(np.uint8)
    v[:, 0, 0, 1] = v[:, 0, 0, 0]
    assert trained(run, "realnvp", v=v, values=2, steps=100)[0] == 0
    flow = load("flow.npz").astype(np.float64)
    edges = np.linspace(-0.1, 2.1, 221)
    middle = (edges[1:] + edges[:-1]) / 2
    grid = np.stack(np.meshgrid(middle, middle, indexing="ij"), -1).reshape(-1, 1, 1, 2)
    assert np.exp(flow.log_prob(grid)).sum() * (edges[1] - edges[0]) ** 2 == pytest.approx(1, abs=0.02)


def test_layouts(run):
    v = ramps(C=3)
    for name, given, options, layout in (("last", np.moveaxis(v, 1, -1), ["--channels-last"], "NHWC"),
                                         ("first", v, [], "NCHW")):
        assert trained(run, "glow", *options, v=given, out=f"{name}.npz")[0] == 0
        assert about(f"{name}.npz")["images"]["layout"] == layout
        assert run("sample", f"{name}.npz", "--n", 3, "--out", f"{name}.npy")[0] == 0
    assert load("last.npz").equals(load("first.npz"))
    assert np.array_equal(np.moveaxis(np.load("last.npy"), -1, 1), np.load("first.npy"))
    more = ("--out", "-")
    assert run("score", "last.npz", saved(np.moveaxis(v, 1, -1)), *more)[1] == run("score", "first.npz", saved(v), *more)[1]
    assert trained(run, "glow", v=ramps()[:, 0], out="grey.npz")[0] == 0
    assert run("sample", "grey.npz", "--n", 3, "--out", "grey.npy")[0] == 0 and np.load("grey.npy").shape == (3, 4, 4)
    _, _, err = trained(run, "glow", v=np.repeat(np.moveaxis(v, 1, -1), 2, 1))
    assert "if channels are the last axis, say --channels-last" in err


@pytest.mark.parametrize("model", ["glow", "realnvp"])
def test_two_black_images(run, model):
    status, out, err = trained(run, model, "--dequantise", v=np.zeros((2, 2, 4, 4), np.uint16), values=2**16)
    assert status == 0 and not err and "2 images to train" in out
    assert run("sample", "flow.npz", "--n", 2, "--out", "s.npy")[0] == 0 and np.load("s.npy").dtype == np.int64


def test_without_a_gaussian(run, monkeypatch):
    """The noise of two images may agree in an entry."""
    monkeypatch.setattr(Images, "with_noise", lambda self, k, rng: k + np.float32(0.5))
    status, out, err = trained(run, "glow", v=ramps(n=2) * 0)
    assert status == 0 and not err and "\na Gaussian  -\nthe Gaussian: there is none" in out


def test_bits(run):
    v = ramps(values=8) * 32 + 5
    assert trained(run, "glow", "--bits", 3, v=v, values=256)[0] == 0
    assert about("flow.npz")["images"] == {"values": 256, "bins": 8, "shape": [1, 4, 4], "layout": "NCHW"}
    reduced = load("flow.npz")
    assert run("sample", "flow.npz", "--n", 20, "--out", "samples.npy")[0] == 0
    assert set(np.unique(np.load("samples.npy"))) <= {*range(0, 256, 32), 255} and np.load("samples.npy").max() > 8
    assert trained(run, "glow", v=ramps(values=8))[0] == 0 and load("flow.npz").equals(reduced)


def test_the_same_seed_gives_the_same_flow(run):
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert trained(run, "glow", "--seed", seed, out=f"{out}.npz")[0] == 0
        assert run("sample", "a.npz", "--n", 4, "--seed", seed, "--out", f"{out}.npy")[0] == 0
    a, b, c = (load(f"{out}.npz") for out in "abc")
    assert a.equals(b) and not a.equals(c)
    assert np.array_equal(np.load("a.npy"), np.load("b.npy")) and not np.array_equal(np.load("a.npy"), np.load("c.npy"))


def test_held_out_file(run):
    saved(ramps(seed=1, n=10), "other.npy")
    status, out, _ = trained(run, "glow", "--held-out", "other.npy")
    assert status == 0 and "60 images to train, 10 held out" in out
    saved(ramps(C=3), "other.npy")
    status, _, err = trained(run, "glow", "--held-out", "other.npy")
    assert status == 2 and "other.npy: its images have 3 channels of 4 x 4 pixels, not 1 of 4 x 4" in err


def test_interrupted(run, monkeypatch):
    monkeypatch.setattr(Images, "with_noise", in_call(Images.with_noise, 8))
    status, _, err = trained(run, "glow")
    assert status == 130 and "interrupted; flow.npz holds the best flow so far" in err
    assert about("flow.npz")["stopped"] == "interrupted"


def test_json_and_force(run):
    saved(ramps())
    arguments = ("fit", "images.npy", "--model", "glow", *SMALL["glow"], "--values", 8, "--steps", 2, "--out", "flow.npz")
    report = json.loads(run(*arguments, "--json")[1])
    assert report["parts"] == {"train": 54, "validation": 6} and report["gaussian"]["validation"]["bits_per_dim"] > 0
    assert run(*arguments)[0] == 2 and "--force" in run(*arguments)[2]
    assert run("sample", "flow.npz", "--out", "flow.npz")[0] == 2
    assert run("sample", "flow.npz", "--n", 2, "--out", "s.npy")[0] == 0
    status, _, err = run("sample", "flow.npz", "--n", 2, "--out", "s.npy")
    assert status == 2 and "s.npy exists; --force writes over it" in err
    assert json.loads(run("sample", "flow.npz", "--n", 2, "--out", "s.npy", "--force", "--json")[1])["temperature"] == 1


def test_training_does_not_change_the_noise_of_the_comparison(run):
    """Models that are trained for other numbers of steps are measured on the same events."""
    saved(ramps())
    reports = [json.loads(run("fit", "images.npy", "--model", "glow", *SMALL["glow"], "--values", 8, "--steps", steps, "--out", "flow.npz",
                              "--json", "--force")[1]) for steps in (1, 3)]
    for key in ("gaussian", "before"):
        assert reports[0][key] == reports[1][key]
    assert reports[0]["after"] != reports[1]["after"]


# -- refusals ---------------------------------------------------------------------------------------------------------

def wrong(where, value, dtype=None):
    v = ramps().astype(dtype or np.int64)
    v[where] = value
    return v


REFUSED = {
    "too large": (wrong((3, 0, 1, 2), 9), (), "pixels must be integers in 0 .. 7; v[3, 0, 1, 2] = 9; --values 10 allows it"),
    "negative": (wrong((3, 0, 1, 2), -1), (), "pixels must be integers in 0 .. 7; v[3, 0, 1, 2] = -1\n"),
    "nan": (wrong((0, 0, 3, 3), np.nan, float), (), "pixels must be integers in 0 .. 7; v[0, 0, 3, 3] = nan\n"),
    "half": (wrong((0, 0, 3, 3), 2.5, float), (), "pixels must be integers in 0 .. 7; v[0, 0, 3, 3] = 2.5\n"),
    "unit": (ramps() / 7, (), "pixels between 0 and 1 become integers by numpy.rint(7 * pixels)"),
    "channels last": (wrong((3, 0, 1, 2), 9).transpose(0, 2, 3, 1), ("--channels-last",), "v[3, 1, 2, 0] = 9"),
    "text": (np.full((4, 4, 4), "x"), (), "pixels must be numbers"),
    "odd": (ramps(H=5), (), "height must be a multiple of 2^levels = 2, not 5"),
    "levels": (ramps(H=6), ("--levels", 2), "height must be a multiple of 2^levels = 4, not 6"),
    "one pixel": (ramps(H=1, W=1), (), "glow needs more than one pixel"),
    "one image": (ramps(n=1), (), "it holds 1 image; a density needs at least 2"),
    "no image": (np.zeros((0, 1, 4, 4), np.uint8), (), "not of shape (0, 1, 4, 4)"),
    "five axes": (np.zeros((2, 1, 1, 4, 4), np.uint8), (), "not of shape (2, 1, 1, 4, 4)"),
    "bits": (ramps(), ("--bits", 4), "--bits 4: 16 values do not divide 8"),
    "values": (ramps(), ("--values", 2**16 + 1), "--values 65537: a pixel must have 2 .. 65536 values"),
    "one value": (ramps() * 0, ("--values", 1), "--values 1: a pixel must have 2 .. 65536 values"),
    "widths": (ramps(), ("--hidden", "4,4"), "--hidden: the networks of glow have one width, not 2"),
    "permutation": (ramps(), ("--permutation", "lo"), "permutation must be one of"),
    "couplings": (ramps(), ("--couplings", 3), "--couplings: the model glow of images has no such option"),
    "model": (ramps(), ("--model", "nice"),
              "nice needs a table of numbers; for images there are --model glow and --model realnvp"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_fit_refuses(run, name):
    v, options, message = REFUSED[name]
    status, out, err = trained(run, "glow", *options, v=v)
    assert status == 2 and not out and message in err and err.startswith("refflow: ") and err.count("\n") == 1
    assert not Path("flow.npz").exists()


def test_realnvp_refuses(run):
    for v, options, message in ((ramps(H=1, W=1), (), "realnvp needs more than one pixel"),
                                (ramps(H=6), ("--levels", 3), "height and width must be multiples of 4, not 6"),
                                (ramps(), ("--permutation", "lu"),
                                 "--permutation: the model realnvp of images has no such")):
        status, _, err = trained(run, "realnvp", *options, v=v)
        assert status == 2 and message in err, message


def test_odd_images_without_levels(run):
    saved(ramps(H=5, W=6))
    common = ("--hidden", 2, "--values", 8, "--steps", 1, "--out")
    status, _, err = run("fit", "images.npy", "--model", "glow", *common, "glow.npz")
    assert status == 2 and "Glow halves height and width, which must be even, not 5 x 6" in err
    assert run("fit", "images.npy", "--model", "realnvp", *common, "realnvp.npz")[0] == 0
    assert about("realnvp.npz")["sizes"]["levels"] == 1


def test_tables_take_no_options_of_images(run):
    np.save("table.npy", np.random.default_rng(0).normal(size=(20, 2)))
    for option in (("--levels", 2), ("--values", 8), ("--channels-last",), ("--held-out", "x.npy"),
                   ("--model", "glow")):
        status, _, err = run("fit", "table.npy", *option, "--out", "flow.npz")
        assert status == 2 and f"{option[0]} " in err and "is for images; table.npy is not an array (N, channels, height" in err
    status, _, err = run("fit", "none.npy", "--model", "glow", "--out", "flow.npz")
    assert status == 2 and "there is no file none.npy" in err


def test_a_note_on_few_values(run):
    saved(ramps())
    status, _, err = run("fit", "images.npy", "--model", "glow", *SMALL["glow"], "--steps", 1, "--out", "flow.npz")
    note = "refflow: images.npy: the largest pixel is 7; if there are no larger ones, say --values 8\n"
    assert status == 0 and err == note


@pytest.mark.parametrize("command", ["score", "plot"])
def test_other_images_are_refused(run, command):
    if command == "plot":
        pytest.importorskip("matplotlib")
    more = {"score": (), "plot": ("--what", "images", "--out", "picture.png")}[command]
    assert trained(run, "glow")[0] == 0
    for v, message in ((ramps(C=3), "its images have 3 channels of 4 x 4 pixels, not 1 of 4 x 4"),
                       (ramps(H=8), "1 channels of 8 x 4 pixels, not 1 of 4 x 4"),
                       (wrong((3, 0, 1, 2), 9), "pixels must be integers in 0 .. 7; v[3, 0, 1, 2] = 9\n"),
                       (wrong((0, 0, 3, 3), np.nan, float), "v[0, 0, 3, 3] = nan\n"),
                       (np.zeros((4, 16)),
                        "images are an array (N, channels, height, width) or (N, height, width), not of")):
        saved(v, "wrong.npy")
        status, out, err = run(command, "flow.npz", "wrong.npy", *more)
        assert status == 2 and not out and message in err


def test_score_refuses_what_is_no_file_of_images(run):
    assert trained(run, "glow")[0] == 0
    Path("text.npy").write_text("no")
    assert run("score", "flow.npz", "text.npy")[0] == 2 and run("score", "flow.npz", "none.npy")[0] == 2


def test_sample_refuses(run):
    assert trained(run, "glow", v=ramps(C=2))[0] == 0
    for arguments, message in (((), "--out must be a .npy file, or a picture, .png"),
                               (("--out", "s.csv"), "a flow of images"), (("--out", "s.png"), "1 or 3 channels"),
                               (("--n", 0, "--out", "s.png"), "at least one image")):
        status, _, err = run("sample", "flow.npz", *arguments)
        assert status == 2 and message in err
    assert run("sample", "flow.npz", "--n", 0, "--out", "s.npy")[0] == 0 and np.load("s.npy").shape == (0, 2, 4, 4)
    with pytest.raises(SystemExit):
        run("sample", "flow.npz", "--temperature", 0, "--out", "s.npy")


def test_temperature_of_tables(run):
    save(realnvp(np.random.default_rng(0), 2, hidden=(4,), couplings=2), "table.npz")
    hot, cold = (np.array([line.split(",") for line in run("sample", "table.npz", "--n", 50, *more)[1].splitlines()], float)
                 for more in ((), ("--temperature", 0.5)))
    flow = load("table.npz")
    assert np.allclose(flow.bijector.inverse(cold), flow.bijector.inverse(hot) / 2, rtol=1e-9, atol=1e-12)
    save(Flow(Chain([realnvp(np.random.default_rng(0), 2, hidden=(4,), couplings=2).bijector]),
              Flow(Chain([load("table.npz").bijector]), StandardNormal(2))), "deep.npz")
    status, _, err = run("sample", "deep.npz", "--temperature", 0.5)
    assert status == 2 and "--temperature: the base of the flow must be StandardNormal, not Flow" in err


# -- the protocol -----------------------------------------------------------------------------------------------------

def lacking(kind):
    """The parts of the protocol that a kind of data set lacks, or has with other arguments."""
    for name in Dataset.__annotations__:
        if name not in vars(kind) and name not in kind.__dataclass_fields__:
            yield name
    for name, asked in vars(Dataset).items():
        function = getattr(asked, "__func__", asked)
        if name.startswith("_") or not inspect.isfunction(function):
            continue
        own = vars(kind).get(name)
        own = getattr(own, "__func__", own)
        if type(vars(kind).get(name)) is not type(asked) or list(inspect.signature(own).parameters) != list(
                inspect.signature(function).parameters):
            yield name


def test_rows_and_images_keep_the_protocol():
    assert [list(lacking(kind)) for kind in KINDS] == [[], []]


def test_a_kind_that_does_not_keep_it_is_named(monkeypatch):
    monkeypatch.delattr(Images, "shown")
    monkeypatch.setattr(Images, "read", lambda self, path, rng: None)
    monkeypatch.delattr(Images, "limits")
    assert sorted(lacking(Images)) == ["limits", "read", "shown"]


# -- parts ------------------------------------------------------------------------------------------------------------

def test_the_gaussian_of_neighbours():
    """Its density equals the normal density built from the matrix of its predictions, entry by entry."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(40, 2, 3, 4)).cumsum(-1).cumsum(-2) + [[[1.0]], [[-3.0]]]
    density = gaussians.neighbours(y)
    A, mean = np.zeros((24, 24)), np.repeat(density.means, 12)
    index = np.arange(24).reshape(2, 3, 4)
    for c in range(2):
        for i in range(3):
            for j in range(4):
                entries = [(k, i + di, j + dj) for k in range(2) for di, dj in gaussians.BEFORE] + [(k, i, j) for k in range(c)]
                for w, (k, a, b) in zip(density.weights[c], entries, strict=True):
                    if 0 <= a < 3 and 0 <= b < 4:
                        A[index[c, i, j], index[k, a, b]] += w
    L = np.eye(24) - A
    order = np.argsort([(i * 4 + j) * 2 + c for c in range(2) for i in range(3) for j in range(4)])
    assert np.array_equal(np.triu(L[np.ix_(order, order)], 1), np.zeros((24, 24)))
    e = (y.reshape(40, -1) - mean) @ L.T
    s2 = np.repeat(density.variances, 12)
    expected = -(e * e / s2 + np.log(2 * np.pi * s2)).sum(-1) / 2
    assert np.allclose(density.log_prob(y), expected, rtol=1e-12)
    assert np.allclose((e * e).reshape(40, 2, 12).mean((0, 2)), density.variances, rtol=1e-12)
    F = np.concatenate([gaussians.predictors_of(y, density.means, 1)[0].reshape(480, -1)])
    assert np.abs(F.T @ e[:, 12:].ravel()).max() < 1e-9 * np.abs(F).max() * np.abs(e).max() * 480


def test_few_images_at_once(monkeypatch):
    y = np.random.default_rng(0).normal(size=(7, 1, 4, 4))
    whole = gaussians.neighbours(y)
    monkeypatch.setattr(arrays, "AT_ONCE", 33)
    parts = gaussians.neighbours(y)
    assert [len(part) for part in arrays.parts(y)] == [2, 2, 2, 1]
    assert np.allclose(parts.variances, whole.variances, rtol=1e-12)


# -- data sets --------------------------------------------------------------------------------------------------------

def test_data_sets_of_images(run):
    pytest.importorskip("sklearn")
    pytest.importorskip("PIL")
    assert run("data", "digit_images", "--out", "digits.npy")[0] == 0
    digits = np.load("digits.npy")
    assert digits.shape == (1797, 1, 8, 8) and digits.dtype == np.uint8 and digits.max() == 16 and digits.sum() == 561718
    assert "520 images of 32 x 32 pixels, 3 channels" in run("data", "photographs", "--out", "all.npy")[1]
    v, (temple, flower) = np.load("all.npy"), photographs()
    assert v.shape == (520, 3, 32, 32) and v.dtype == np.uint8
    assert np.array_equal(v[21], temple[:, 32:64, 32:64]) and np.array_equal(v[260], flower[:, :32, :32])
    report = json.loads(run("data", "photographs", "--stride", 16, "--part", "train", "--out", "train.npy", "--json")[1])
    assert report["shape"] == [1550, 3, 32, 32]
    test = load_images("photographs", part="test")
    assert len(test) == 104 and np.array_equal(test[0], temple[:, :32, 512:544])
    assert np.array_equal(np.load("train.npy")[30], temple[:, :32, 480:512])


def test_data_refuses(run, monkeypatch):
    for arguments, message in ((("digit_images",), "are images; --out must be a .npy file"),
                               (("digit_images", "--stride", 3, "--out", "a.npy"),
                                "--stride is for photographs, not for digit_images"),
                               (("wine", "--part", "test", "--out", "a.npy"), "--part is for photographs, not for wine"),
                               (("photographs", "--out", "a.csv"), "--out must be a .npy file")):
        status, _, err = run("data", *arguments)
        assert status == 2 and message in err
    for given, message in (({"name": "cats"}, "name must be one of digit_images, photographs, not 'cats'"),
                           ({"stride": 0}, "stride must be an int >= 1, not 0"), ({"part": "left"}, "part must be one of"),
                           ({"size": 428}, "size must be at most 427, not 428")):
        if given.get("size"):
            pytest.importorskip("PIL")
        for function in (load_images, load_labelled_images):
            with pytest.raises(ValueError, match=f"{function.__name__}: {message}"):
                function(**({"name": "photographs"} | given))
    monkeypatch.setitem(sys.modules, "sklearn", None)
    status, _, err = run("data", "photographs", "--out", "a.npy")
    assert status == 2 and "scikit-learn is not installed" in err


@pytest.mark.parametrize("model", ["glow", "realnvp"])
def test_the_loss_curves_of_torch(model):
    """refflow compared with torch: the same architecture, weights, batches and noise."""
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    from validation.images import run as beside_torch
    found = beside_torch("digits", model, steps=6, settings={"batch": 8, "width": 4, "depth": 1})
    assert found["difference"][-1] < 1e-12 and len(found["torch"]) == 6
    assert abs(found["before"] - found["torch_before"]) < 1e-12
    assert abs(found["after"] - found["torch_after"]) < 1e-9        # Adam steps along gradients that are 0 up to rounding


def test_a_wrong_step_is_seen_beside_torch(monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    from validation import images as validation
    monkeypatch.setattr(validation, "Adam", lambda rate: Adam(rate * (1 + 1e-6)))
    found = validation.run("digits", "glow", steps=6, settings={"batch": 8, "width": 4, "depth": 1})
    assert found["difference"][-1] > 1e-9
