"""Whose an exception is: what refflow's own code raises is a defect of refflow, never a finding."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

import refflow
from refflow import Tanh
from refflow.oracle import CannotRun, adapter, check
from refflow.oracle.asking.arrays import as_numpy
from refflow.oracle.asking.whose import Defect, is_ours, theirs
from refflow.oracle.boxes.black_box_ends import EndPoints
from refflow.oracle.boxes.black_box_laws import verdict
from refflow.testing import BlackBox, verdicts

BOX = "import numpy as np\nfrom refflow.testing import BlackBox\n\nmine = BlackBox(np.sinh, np.arcsinh)\n"
ADAPTER = "import numpy as np\nfrom refflow.oracle import adapter\n\n@adapter('Tanh')\ndef mine(params, z):\n    return {'forward': np.tanh(z)}\n"


def out_of_range(*arguments):
    return [][0]


class Unreadable:
    def __array__(self, dtype=None, copy=None):
        raise IndexError("of theirs")


def unreadable():
    """A generator runs where it is read."""
    yield 1.0
    raise IndexError("of theirs")


def raised(call):
    with pytest.raises((IndexError, ValueError, TypeError)) as found:
        call()
    return found.value


@pytest.mark.parametrize("call", [
    lambda: theirs(out_of_range), lambda: theirs(np.reshape, np.ones(3), (2, 2)), lambda: as_numpy(Unreadable()), lambda: as_numpy([[1], [1, 2]]),
    lambda: theirs(Tanh().inverse, np.array(3.0)), lambda: BlackBox(np.exp, parameters=unreadable()).all_parameters(),
    lambda: BlackBox(lambda z: theirs(out_of_range)).image(np.ones(2))],
    ids=["itself", "NumPy for it", "no array", "ragged lists", "a page", "parameters", "a box"])
def test_what_their_code_raises_is_theirs(call):
    """Deep inside NumPy, and where what they returned is read; a page of refflow may be what is checked."""
    assert not is_ours(raised(call))


def test_what_refflow_raises_is_not():
    """Before their code is called, after it has returned, and where refflow stands between two calls of it."""
    box = BlackBox(lambda z: z, event=(2,))
    assert is_ours(raised(lambda: box.held([[1], [1, 2]])))
    assert is_ours(raised(lambda: theirs(lambda: box.held([[1], [1, 2]]))))
    assert not is_ours(MemoryError()) and not is_ours(CannotRun("said on purpose"))


# -- boxes ------------------------------------------------------------------------------------------------------------

def test_a_defect_of_refflow_is_no_failure_of_a_box(monkeypatch):
    """Planted in a law, and in the points that all laws share."""
    monkeypatch.setattr(EndPoints, "grid", out_of_range)
    with pytest.raises(Defect, match=r"refflow's own oracle/boxes/black_box_ends.py, line \d+, raised IndexError: .*this is a defect of refflow"):
        verdicts(BlackBox(np.sinh, np.arcsinh))


def test_a_defect_is_not_taken_for_a_refusal_of_theirs(monkeypatch):
    """Where events are left out because theirs raises at them."""
    monkeypatch.setattr(BlackBox, "held", lambda self, array: np.array(array, np.float64))
    monkeypatch.setattr("refflow.oracle.boxes.black_box_points.joined", out_of_range)
    with pytest.raises(Defect):
        verdict("inverse of forward", BlackBox(np.sinh, np.arcsinh))


def test_a_box_whose_images_have_another_shape_in_a_larger_batch():
    with pytest.raises(CannotRun, match=r"at its first events, the box raised .*the image of a batch of 13 events has shape \(\), not \(13,\)"):
        verdicts(BlackBox(lambda z: z if len(z) == 2 else z.mean()))


@pytest.mark.parametrize("forward, words", [
    (lambda z: 1 * z if len(z) < 40 else out_of_range(), "raised IndexError"),
    (lambda z: np.squeeze(1 * z), r"the image of a batch of one event, .*, has shape \(\), not \(1,\)")])
def test_what_is_wrong_with_a_box_stays_its_failure(forward, words):
    """Shapes that refflow's own code falls over are said to be wrong."""
    found = verdict("batch is the stack of singles", BlackBox(forward))
    assert found.status == "FAIL" and re.search(words, found.text), found.text


def test_shapes_of_gradients_and_of_other_answers():
    double = {"forward": lambda z: (2 * z, np.full(len(z), np.log(2))), "event": ()}
    wrong = verdicts(BlackBox(**double, pullback=lambda z, x_bar, l_bar: (x_bar[:1], [])))
    assert {one.law for one in wrong.failed} == {"pullback is the gradient", "log-det is the determinant of the gradient"}
    assert "the gradient of a batch of" in wrong.failed[0].text
    wrong = verdicts(BlackBox(**double, compiled=lambda z: z[:1]))
    assert [one.law for one in wrong.failed] == ["compiled is eager"] and "has shape (1,)" in wrong.failed[0].text
    with pytest.raises(CannotRun, match="a function returned 3 values"):
        verdicts(BlackBox(lambda z: (z, z, z)))


# -- adapters ---------------------------------------------------------------------------------------------------------

def test_a_defect_of_refflow_is_no_failure_of_an_adapter(monkeypatch):
    monkeypatch.setattr(sys.modules["refflow.oracle.asking.adapter"], "read", out_of_range)
    with pytest.raises(Defect, match=r"oracle/asking/adapter.py, line \d+, raised IndexError"):
        check(adapter("Tanh", dtype="float64")(lambda params, z: {"forward": np.tanh(z)}))


def test_their_exceptions_stay_findings():
    """In their function, in a function that they returned, and where their array is read."""
    def mine(params, z):
        return {"forward": Unreadable(), "inverse": lambda x: np.reshape(x, (7, 7, 7))}

    report = refflow.check(mine, page="Tanh", dtype="float64")
    assert {found.quantity: found.diagnosis.split(":")[0] for found in report.failed} == {
        "forward": "raised IndexError", "inverse": "raised ValueError"}


@pytest.mark.parametrize("text, where, planted", [(BOX, EndPoints, "grid"), (ADAPTER, sys.modules["refflow.oracle.asking.adapter"], "read")])
def test_the_command_says_so_with_status_2(run, tmp_path, monkeypatch, text, where, planted):
    (tmp_path / "mine.py").write_text(text)
    monkeypatch.setattr(where, planted, out_of_range)
    status, out, err = run("check", tmp_path / "mine.py")
    assert status == 2 and not out and "this is a defect of refflow" in err.splitlines()[-1] and "line" in err.splitlines()[-1]
