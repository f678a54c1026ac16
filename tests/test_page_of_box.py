"""A map that is consistent and not the one that it is called: held against its page, at its own parameters."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

import refflow
from refflow.cli.check import Boxes
from refflow.oracle import CannotRun, adapter
from refflow.oracle import check as oracle_check
from refflow.oracle.points.parameters import page_at, parameters_in
from refflow.testing import BlackBox, verdicts

BOXES = """
import numpy as np
from refflow.testing import BlackBox

right = BlackBox(lambda z: (2 * z + 1, 0 * z + np.log(2)), lambda x: ((x - 1) / 2, 0 * x - np.log(2)))
"""
ADAPTER = """
from refflow.oracle import adapter

@adapter("Affine", dtype="float64")
def mine(params, z):
    return {"forward": params["scale"] * z + params["shift"]%s}
"""


def line(shift=1.0, scale=2.0, direction="forward", dtype="float64"):
    scale = np.dtype(dtype).type(scale)

    def forward(z):
        return z * scale + np.dtype(dtype).type(shift), 0 * z + np.log(scale)

    def inverse(x):
        return (x - np.dtype(dtype).type(shift)) / scale, 0 * x - np.log(scale)

    there, back = (forward, inverse) if direction == "forward" else (inverse, forward)
    return BlackBox(there, back, direction=direction, dtype=dtype)


# -- in Python --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_a_box_is_held_against_its_page(direction, dtype):
    for page, parameters in ((refflow.Affine(shift=1.0, scale=2.0), None), ("Affine", {"shift": 1.0, "scale": 2.0})):
        report = refflow.check(line(direction=direction, dtype=dtype), page=page, parameters=parameters)
        assert report.status == 0, report.table()
        assert {one.quantity for one in report.passed} == {"forward", "log_det", "inverse", "inverse_log_det"}
        assert {one.dtype for one in report.passed} == {dtype}


def test_a_consistent_box_of_another_map_is_found():
    """All laws hold: a slope of 2 is not the slope of 2.5 that the page has."""
    box = line()
    assert verdicts(box).status == 0
    found = refflow.check(box, page="Affine", parameters={"shift": 1.0, "scale": 2.5})
    assert {one.quantity for one in found.failed} == {"forward", "log_det", "inverse", "inverse_log_det"}
    assert all(one.params == {"shift": 1.0, "scale": 2.5} for one in found.failed)


def test_a_box_of_vectors():
    """Batches and single events; the log-det is summed over the event."""
    page = refflow.Independent(refflow.Affine(shift=[0.0, 1.0], scale=[2.0, 0.5]), 1)
    box = BlackBox(page.forward_and_log_det, page.inverse_and_log_det, event=(2,))
    assert refflow.check(box, page=page).status == 0
    wrong = BlackBox(lambda z: page.forward_and_log_det(z)[0], event=(2,), log_det=lambda z: 0 * z[..., 0])
    assert {one.quantity for one in refflow.check(wrong, page=page, seed=0).failed} == set()
    wrong = BlackBox(lambda z: page.forward_and_log_det(z)[0], event=(2,), log_det=lambda z: 0 * z[..., 0] + 0.5)
    assert {one.quantity for one in refflow.check(wrong, page=page).failed} == {"log_det"}


def test_a_function_is_asked_at_the_given_parameters_alone():
    seen = set()

    def mine(params, z):
        seen.add((float(params["shift"]), float(params["scale"])))
        return {"forward": params["scale"] * z + params["shift"]}

    report = refflow.check(mine, page="Affine", parameters={"shift": 0.5, "scale": -3.0})
    assert seen == {(0.5, -3.0)} and not report.failed and report.passed


@pytest.mark.parametrize("given, words", [
    ({"page": "Affine"}, "Affine has shift, scale: give page=Affine"),
    ({"page": "Affine", "parameters": {"shft": 1.0}}, "Affine has no parameter 'shft'; it has shift, scale"),
    ({"page": "Affine", "parameters": {"shift": 1.0, "scale": 0.0}}, "Affine at these parameters: .*scale"),
    ({"page": "Afine"}, "did you mean Affine"),
    ({"parameters": {"shift": 1.0}}, "parameters belong to a page")])
def test_errors_of_use(given, words):
    with pytest.raises(CannotRun, match=words):
        refflow.check(line(), **given)


def test_parameters_are_of_one_page():
    two = [adapter(page, dtype="float64")(lambda params, z: {"forward": z}) for page in ("Affine", "Tanh")]
    with pytest.raises(CannotRun, match="parameters belong to one page; adapters has Affine, Tanh: name one"):
        oracle_check(two, parameters={"shift": 1.0})
    with pytest.raises(CannotRun, match="somebody else's map"):
        refflow.check(page="Affine", parameters={"shift": 1.0})


# -- files ------------------------------------------------------------------------------------------------------------

def test_files_of_parameters(tmp_path):
    """Numbers, hex floats, and arrays by name; a saved value is the value that is asked."""
    (tmp_path / "p.json").write_text('{"shift": "0x1.8p-1", "scale": [1, 2.5, "0x1p-3"]}')
    found = parameters_in(tmp_path / "p.json")
    assert found == {"shift": 0.75, "scale": [1, 2.5, 0.125]}
    np.savez(tmp_path / "p.npz", **found)
    pages = [page_at("Affine", one) for one in (found, parameters_in(tmp_path / "p.npz"))]
    assert pages[0].equals(pages[1]) and pages[0].scale.tolist() == [1, 2.5, 0.125]


@pytest.mark.parametrize("name, text, words", [
    ("p.json", "{", "cannot be read"), ("p.json", "[1]", "a file of parameters is an object"), ("p.txt", "", "ends in .json or .npz"),
    ("p.npz", "no archive", "cannot be read"), ("gone.json", None, "there is no file")])
def test_files_that_are_none(tmp_path, name, text, words):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(CannotRun, match=words):
        parameters_in(tmp_path / name)


# -- on the command line ----------------------------------------------------------------------------------------------

@pytest.fixture
def files(tmp_path):
    for name, text in {"boxes.py": BOXES, "mine.py": ADAPTER % "", "wrong.py": ADAPTER % " + 0.1",
                       "p.json": '{"shift": 1, "scale": 2}', "other.json": '{"shift": 1, "scale": 2.5}'}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_boxes_of_a_file(run, files):
    status, out, err = run("check", files / "boxes.py")
    assert status == 0 and err.endswith(" CPU seconds\n") and err.count("\n") == 1 and out.startswith("right\n")
    assert out.rstrip().splitlines()[-1].startswith("consistent: these laws hold for every invertible map; to ask whether it is the map")
    status, out, _ = run("check", files / "boxes.py", "--json")
    box, = json.loads(out)["boxes"]
    assert status == 0 and box["name"] == "right" and box["hint"] and box["asked"]["latents"] > 43
    status, _, err = run("check", files / "boxes.py", "--markdown")
    assert status == 2 and "black boxes, which without --page have no --markdown" in err


@pytest.mark.parametrize("statuses, status", [((0, 0), 0), ((1, 0), 1), ((0, 2), 2), ((2, 1), 1)])
def test_a_finding_in_one_of_several_boxes_counts_more_than_a_box_that_cannot_be_asked(statuses, status):
    assert Boxes({f"box {i}": SimpleNamespace(status=one) for i, one in enumerate(statuses)}).status == status


def test_the_hint_is_for_boxes_that_pass(run, files):
    (files / "boxes.py").write_text(BOXES + "wrong = BlackBox(lambda z: (2 * z, 0 * z))\n")
    status, out, _ = run("check", files / "boxes.py")
    assert status == 1 and out.count("consistent: ") == 1 and "\nwrong\n" in out


def test_a_box_of_a_file_with_its_page(run, files):
    for parameters, status in (("p.json", 0), ("other.json", 1)):
        found, out, _ = run("check", files / "boxes.py", "--page", "Affine", "--parameters", files / parameters)
        assert found == status and ("FAIL  right  forward" in out) == bool(status)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_adapter_of_a_file_with_its_page(run, files, workers):
    for file, status in (("mine.py", 0), ("wrong.py", 1)):
        found, out, err = run("check", files / file, "--page", "Affine", "--parameters", files / "p.json", "--workers", workers)
        assert found == status and err.endswith(" CPU seconds\n") and err.count("\n") == 1
        assert ("params        {'shift': 1.0, 'scale': 2.0}" in out) == bool(status)


def test_own_pages_have_no_parameters(run, files):
    status, _, err = run("check", "--page", "Affine", "--parameters", files / "p.json")
    assert status == 2 and "parameters belong to somebody else's map" in err


@pytest.mark.parametrize("word", ["add", "bee", "face", "e"])
def test_a_word_that_spells_a_hex_number_stays_a_word(word, tmp_path):
    path = tmp_path / "parameters.json"
    path.write_text(json.dumps({"a": word, "b": ["0x1.8p+1", "-0X1p0", "inf", "1.5"]}))
    assert parameters_in(path) == {"a": word, "b": [3.0, -1.0, np.inf, 1.5]}
