"""TarFlow on the command line: images with classes, training, samples with guidance, and how they fail."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest

import classed_images
from classed_images import slopes, write
from interruptions import in_call
from refflow.cli.classes import Labelled, blocks_and_units
from refflow.cli.images import Images
from refflow.data import of_part, photographs
from refflow.fast import tuned
from refflow.models.tarflow import classes_of, images_of
from refflow.saving import about, load

fitted = functools.partial(classed_images.fitted, "tarflow")


# -- the whole way ----------------------------------------------------------------------------------------------------

def test_fit_score_and_sample_given_a_class(run):
    status, out, err = fitted(run, steps=60)
    assert status == 0 and not err
    assert out.startswith("data.npz: 4 x 4 pixels, 0 .. 7 given kind, one of 3, 81 images to train, 9 held out\n")
    flow, note = load("flow.npz"), about("flow.npz")
    assert note["images"]["context"] == {"name": "kind", "classes": 3} and note["model"] == "tarflow"
    assert note["sizes"] == {"patch": 2, "hidden": 8, "depth": 2, "layers": 1} and classes_of(flow) == 3 and flow.dtype == np.float32
    v, labels = slopes()
    np.save("images.npy", v)
    found = {name: json.loads(run("score", "flow.npz", name, "--seed", 4, "--json")[1]) for name in ("data.npz", "images.npy")}
    data = Images.of_flow(flow, note)
    y = data.with_noise(Labelled(v.astype(np.float32), labels), np.random.default_rng(4))
    c = np.eye(3, dtype=np.float32)[labels]
    assert np.allclose(found["data.npz"]["log_prob"], flow.at(context=c).log_prob(y.images), rtol=1e-5)
    unknown = flow.at(context=np.full(3, 1 / 3, np.float32)).log_prob(y.images)
    assert np.allclose(found["images.npy"]["log_prob"], unknown, rtol=1e-5)
    assert found["data.npz"]["bits_per_dim"] < found["images.npy"]["bits_per_dim"]          # a class tells something

    for given, row in ((("--given", "kind=2"), np.eye(3)[2]), ((), np.full(3, 1 / 3))):
        status, out, _ = run("sample", "flow.npz", *given, "--n", 5, "--seed", 3, "--temperature", 0.5, "--out", "s.npy", "--force")
        z = np.float32(0.5) * flow.base.sample(np.random.default_rng(3), 5)
        expected = tuned(flow).at(context=np.broadcast_to(row.astype(np.float32), (5, 3))).bijector.forward(z)
        assert status == 0 and np.array_equal(np.load("s.npy"), np.clip(np.floor(expected), 0, 7))


def test_samples_with_guidance(run):
    assert fitted(run, steps=30)[0] == 0
    flow = load("flow.npz")
    blocks, units = blocks_and_units(flow)
    z = flow.base.sample(np.random.default_rng(3), 6)
    c = np.repeat(np.eye(3, dtype=np.float32)[[1]], 6, 0)
    for more, how, T in (((), ("ab", 1.0, False), 1.0), (("--temperature", 0.5), ("ab", 1.0, False), 0.5),
                         (("--guided", "a", "--annealed", "--attention-temperature", 0.5), ("a", 0.5, True), 1.0)):
        status, out, err = run("sample", "flow.npz", "--given", "kind=1", "--guidance", 3, *more, "--n", 6, "--seed", 3, "--out",
                               "s.npy", "--json", "--force")
        report, expected = json.loads(out), units.forward(images_of(tuned(blocks).at(context=c), np.float32(T) * z, 3.0, *how))
        assert status == 0 and not err and report["guidance"] == 3 and report["annealed"] == how[2] and report["given"] == "kind=1"
        assert report["temperature"] == T
        assert np.array_equal(np.load("s.npy"), np.clip(np.floor(expected), 0, 7))
        plain = units.forward(blocks.at(context=c).bijector.forward(z))
        assert np.abs(expected - plain).max() > 0.01


def test_a_flow_without_classes_is_guided_by_a_temperature(run):
    np.save("images.npy", slopes()[0])
    assert fitted(run, data="images.npy", context=())[0] == 0
    assert "context" not in about("flow.npz")["images"] and classes_of(load("flow.npz")) == 0
    assert run("sample", "flow.npz", "--guidance", 1, "--attention-temperature", 2, "--n", 3, "--out", "s.npy")[0] == 0
    status, _, err = run("sample", "flow.npz", "--guidance", 1, "--n", 3, "--out", "t.npy")
    assert status == 2 and err == ("refflow: --guidance needs a class, or an --attention-temperature other than 1, else both passes are "
                                   "the same; flow.npz has no classes\n")


def test_other_labels_are_other_data(run, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Images, "with_noise", in_call(Images.with_noise, 8))
        assert fitted(run)[0] == 130
    write(labels=np.roll(slopes()[1], 1))
    status, _, err = fitted(run, "--resume")
    assert status == 2 and "data.npz does not hold the data of flow.checkpoint.npz" in err


def test_some_images_to_train_on_have_no_class():
    labelled = Labelled(np.zeros((4000, 1, 1, 1)), np.arange(4000) % 7)
    found = labelled.partly_unlabelled(np.random.default_rng(0)).labels
    dropped = found == -1
    assert abs(dropped.mean() - 0.1) < 0.02 and np.array_equal(found[~dropped], labelled.labels[~dropped])
    assert len(labelled[:5]) == 5 and labelled[[3]].labels == 3 and labelled.shape == (4000, 1, 1, 1)


def test_pictures(run):
    pytest.importorskip("matplotlib")
    assert fitted(run)[0] == 0
    for more in ((), ("--given", "kind=1")):
        assert run("plot", "flow.npz", "data.npz", "--what", "images", "--n", 4, *more, "--out", "picture.png", "--force")[0] == 0
    assert run("sample", "flow.npz", "--given", "kind=0", "--guidance", 1, "--n", 4, "--out", "samples.png")[0] == 0


# -- refusals ---------------------------------------------------------------------------------------------------------

def test_samples_that_overflow_are_refused(run):
    pytest.importorskip("matplotlib")
    assert fitted(run, steps=30)[0] == 0
    for command in (("sample", "flow.npz", "--n", 3, "--temperature", 1e38, "--out", "s.npy"),
                    ("sample", "flow.npz", "--given", "kind=1", "--n", 3, "--guidance", 1e38, "--out", "s.npy"),
                    ("plot", "flow.npz", "--what", "images", "--n", 3, "--temperature", 1e38, "--out", "p.png")):
        status, out, err = run(*command)
        assert status == 2 and not out and "of 3 samples overflow, sample" in err and err.count("\n") == 1
    assert not Path("s.npy").exists() and not Path("p.png").exists()


@pytest.mark.parametrize("made, more, said", [
    ({"v": slopes(H=5)[0]}, (), "height must be a multiple of patch = 2, not 5"),
    ({"v": slopes(W=6)[0]}, ("--patch", 4), "width must be a multiple of patch = 4, not 6"),
    ({}, ("--context", "class"), "--context: data.npz has no array 'class', of a .npz file, with a class for each image; it has kind"),
    ({"labels": slopes()[1] / 2}, (), "data.npz: kind must be an integer for each of 90 images, not float64 of shape (90,)"),
    ({"labels": slopes()[1][:9]}, (), "data.npz: kind must be an integer for each of 90 images, not int64 of shape (9,)"),
    ({"labels": slopes()[1] - 1}, (), "] = -1: classes are 0, 1, ..."),
    ({"labels": np.where(np.arange(90) == 5, 10**9, slopes()[1])}, (),
     "kind[5] = 1000000000: classes are 0, 1, ..., at most as many as the 90 images"),
    ({}, ("--anneal", 3), "--anneal is for a density given by a formula, --energy"),
    ({}, ("--levels", 2), "--levels: the model tarflow of images has no such option"),
    ({}, ("--additive",), "--additive: the model tarflow of images has no such option"),
    ({}, ("--couplings", 2), "--couplings: the model tarflow of images has no such option"),
    ({}, ("--hidden", "8,8"), "--hidden: the networks of tarflow have one width, not 2"),
    ({}, ("--model", "glow"), "--context: the model glow of images has no such option"),
    ({}, ("--model", "glow", "--patch", 2), "--patch: the model glow of images has no such option"),
])
def test_fit_refuses(run, made, more, said):
    write(**made)
    status, out, err = fitted(run, *more)
    assert status == 2 and not out and said in err and err.count("\n") == 1 and not Path("flow.npz").exists()


def test_a_npz_file_without_images(run):
    write()
    assert fitted(run)[0] == 0
    np.savez("other.npz", pictures=slopes()[0], kind=slopes()[1])
    for command in (("fit", "other.npz", "--model", "tarflow", "--out", "f.npz"),
                    ("score", "flow.npz", "other.npz")):
        status, out, err = run(*command)
        assert status == 2 and not out and err.count("\n") == 1
        assert "other.npz: it is not a file of images: there is no array 'images' in it; it has kind, pictures" in err


def test_a_npy_file_has_no_classes(run):
    np.save("images.npy", slopes()[0])
    status, _, err = fitted(run, data="images.npy")
    assert status == 2 and "images.npy has no array 'kind'" in err and "refflow data digit_images --labels --out digits.npz" in err


def test_tables_take_no_options_of_tarflow(run):
    np.save("table.npy", np.random.default_rng(0).normal(size=(20, 2)))
    for option in (("--patch", 2), ("--model", "tarflow")):
        status, _, err = run("fit", "table.npy", *option, "--out", "flow.npz")
        assert status == 2 and f"{option[0]} " in err and "is for images" in err


@pytest.mark.parametrize("more, said", [
    (("--given", "kind=3"), "--given: kind is 3, which is not one of the classes 0 .. 2"),
    (("--given", "kind=-1"), "--given: kind is -1, which is not one of the classes 0 .. 2"),
    (("--given", "kind=0.5"), "--given: kind is 0.5, which is not one of the classes 0 .. 2"),
    (("--given", "class=0"), "the flow has no context 'class'"),
    (("--guidance", 1), "both passes are the same; --given kind=0 gives one"),
    (("--guidance", -1, "--given", "kind=0"), "--guidance -1: its weight must be a number of at least 0"),
    (("--guidance", "nan", "--given", "kind=0"), "--guidance nan: its weight must be a number of at least 0"),
    (("--guidance", 1, "--attention-temperature", 0), "--attention-temperature 0: it must be a positive number"),
    (("--guided", "a"), "--guided needs --guidance"),
    (("--annealed",), "--annealed needs --guidance"),
])
def test_sample_refuses(run, more, said):
    assert fitted(run, steps=1)[0] == 0
    status, out, err = run("sample", "flow.npz", *more, "--out", "s.npy")
    assert status == 2 and not out and said in err and not Path("s.npy").exists()


def test_other_flows_have_no_guidance(run):
    np.save("images.npy", slopes()[0])
    assert run("fit", "images.npy", "--model", "glow", "--levels", 1, "--depth", 1, "--hidden", 4, "--values", 8, "--steps", 1, "--out",
               "g.npz")[0] == 0
    status, _, err = run("sample", "g.npz", "--guidance", 1, "--out", "s.npy")
    assert status == 2 and err == "refflow: --guidance: g.npz holds no TarFlow\n"


def test_a_class_outside_the_table_is_refused_where_images_are_scored(run):
    assert fitted(run, steps=1)[0] == 0
    write("other.npz", labels=slopes()[1] + np.where(np.arange(90) == 7, 5, 0))
    status, _, err = run("score", "flow.npz", "other.npz")
    assert status == 2 and f"other.npz: kind[7] = {slopes()[1][7] + 5} is not one of the classes 0 .. 2" in err


def test_digits_with_their_classes(run):
    pytest.importorskip("sklearn")
    assert run("data", "digit_images", "--labels", "--out", "digits.npz")[0] == 0
    with np.load("digits.npz") as file:
        assert file["images"].shape == (1797, 1, 8, 8) and file["images"].sum() == 561718
        assert file["class"].shape == (1797,) and file["class"][:11].tolist() == [*range(10), 0]
    for arguments, said in ((("digit_images", "--labels", "--out", "a.npy"), "are images with classes; --out must be a .npz file"),
                            (("digit_images", "--out", "a.npz"), "are images; --out must be a .npy file")):
        status, _, err = run("data", *arguments)
        assert status == 2 and said in err


@pytest.mark.parametrize("part", ["all", "test"])
def test_patches_with_their_photographs(run, part):
    pytest.importorskip("sklearn")
    pytest.importorskip("PIL")
    assert run("data", "photographs", "--labels", "--stride", "64", "--part", part, "--out", "patches.npz")[0] == 0
    with np.load("patches.npz") as file:
        v, kind = file["images"], file["class"]
    assert len(v) == len(kind) and kind.dtype.kind == "i" and set(kind) == {0, 1}
    whole = [of_part(photograph, part) for photograph in photographs()]
    places = [(i, row, column) for i, one in enumerate(whole)
              for row in range(0, one.shape[1] - 31, 64) for column in range(0, one.shape[2] - 31, 64)]
    assert len(places) == len(v)
    for patch, label, (i, row, column) in zip(v, kind, places):
        assert label == i and np.array_equal(patch, whole[i][:, row:row + 32, column:column + 32])
    options = ("--context", "class", "--steps", "2", "--depth", "1", "--patch", "8", "--out", "flow.npz")
    assert run("fit", "patches.npz", "--model", "tarflow", *options)[0] == 0
    assert run("sample", "flow.npz", "--given", "class=1", "--guidance", "1", "--out", "samples.npy")[0] == 0

