"""Real data: the data sets, training compared with torch, a conditional flow."""

from __future__ import annotations

import csv
import json
import sys

import numpy as np
import pytest

from refflow.cli import main
from refflow.data import hue_pairs, load_data, one_hot
from refflow.training import Adam


@pytest.fixture
def scikit_learn():
    return pytest.importorskip("sklearn")


@pytest.mark.parametrize("name, shape, classes, total", [("digits", (1797, 64), 10, 561718), ("wine", (178, 13), 3, None),
                                                         ("breast_cancer", (569, 30), 2, None), ("hues", (4231, 2), 2, None)])
def test_data_sets(scikit_learn, tmp_path, capsys, name, shape, classes, total):
    data = load_data(name)
    assert data.values.shape == shape and data.values.dtype == np.float64 and len(data.names) == shape[1]
    assert set(data.labels) == set(range(classes)) and len(data.classes) == classes
    assert total is None or data.values.sum() == total
    for suffix in ("csv", "npy"):
        path = tmp_path / f"data.{suffix}"
        assert main(["data", name, "--out", str(path)]) == 0
        assert f"{shape[0]} rows of {shape[1]} columns" in capsys.readouterr().out
        assert main(["data", name, "--out", str(path)]) == 2 and "--force" in capsys.readouterr().err
    assert np.array_equal(np.load(tmp_path / "data.npy"), data.values)
    header, *table = csv.reader((tmp_path / "data.csv").read_text().splitlines())
    assert header == data.names and np.array_equal(np.array(table, float), data.values)
    assert ("." in table[0][0]) == (name != "digits")
    assert main(["data", name]) == 0 and capsys.readouterr().out == (tmp_path / "data.csv").read_text()
    assert main(["data", name, "--json"]) == 0 and json.loads(capsys.readouterr().out)["rows"] == data.values.tolist()


def test_hues_are_angles_of_colours(scikit_learn):
    """Those of pure colours; neighbours are alike; no pair has the joint of the circle."""
    red, cyan, green = np.zeros((3, 3, 8, 16), np.uint8)
    red[0], green[1], cyan[1:] = 255, 255, 255
    assert hue_pairs(red).tolist() == [[0, 0]] and hue_pairs(cyan).shape == (0, 2)
    assert hue_pairs(green) == pytest.approx(np.full((1, 2), 2 * np.pi / 3))
    x = load_data("hues").values
    assert (np.abs(x) < np.pi).all() and np.mean(np.cos(x[:, 0] - x[:, 1])) > 0.8


def test_without_scikit_learn(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert main(["data", "wine", "--out", str(tmp_path / "w.csv")]) == 2
    out, err = capsys.readouterr()
    assert not out and err == 'refflow: scikit-learn is not installed; install it with: python -m pip install "refflow[data]"\n'
    with pytest.raises(ValueError, match="name must be one of digits, wine, breast_cancer, hues, not 'iris'"):
        load_data("iris")


def test_one_hot():
    assert one_hot(np.array([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_the_loss_curves_of_torch(scikit_learn):
    """refflow's gradients and Adam compared with torch's, from the same weights and batches."""
    pytest.importorskip("torch")
    from validation.loss_curves import run
    found = run("breast_cancer", steps=40)
    assert found["refflow"][-1] < found["refflow"][0] - 10 and found["difference"][-1] < 1e-12
    assert run("breast_cancer", steps=2, seed=1)["torch"] != found["torch"][:2]


def test_the_loss_curves_differ_where_an_optimiser_does(scikit_learn, monkeypatch):
    """Adam with an uncorrected eps ends far outside the allowance."""
    pytest.importorskip("torch")
    import validation.loss_curves as curves
    monkeypatch.setattr(curves, "Adam", lambda rate: Adam(rate, uncorrected_eps=True))
    assert curves.run("wine", steps=10)["difference"][-1] > curves.ALLOWED


def test_a_conditional_flow_on_wine(scikit_learn):
    """The cultivar makes the measurements likelier, and Bayes' rule recovers it."""
    from validation.conditional import run
    found = run("wine", seed=0, steps=300)
    assert found["conditional"] > found["unconditional"] + 0.3
    assert found["accuracy"] > 0.85 > found["most_frequent"] + 0.2
    assert 0 < found["entropy"] < np.log(3)
