"""Nine mistakes in flows written by hand in torch, without a page: each is found, told at a simple event, and named."""

from __future__ import annotations

import pytest

import refflow
from refflow.oracle.boxes.black_box_laws import verdict

pytest.importorskip("torch", reason="torch is missing: pip install -e '.[peers]'")
from named_mistakes import Coupling, Images, Quadratic, Sinh, box_of  # noqa: E402

BY_DIFFERENCES, ROUND_TRIP, BACK = "log-det is the determinant of differences", "inverse of forward", \
    "inverse log-det is minus log-det"
SHAPE, WRITTEN, REACHES = "log-det shape", "inputs are not written to", "every parameter reaches the image"
SINGLES, EMPTY = "batch is the stack of singles", "an empty batch is empty"
TAILS = "a batch of tails is the stack of its events"
SCALE = "the log-det of a scale exp(s), where the map has sigmoid(s + 2)"
ROUNDED, POINT, IMAGE = "rounded to float32", "taken at the wrong point: it moves with entry", "taken at the image instead of"

# the flow, the mistake, the dtypes; the law, the event in the text, the name; where there is no name, the text says it
MISTAKES = [
    (Coupling, "exp for sigmoid", "float64 float32", BY_DIFFERENCES, "at [", SCALE),
    (Images, "exp for sigmoid", "float64", BY_DIFFERENCES, "at [[[", SCALE),
    (Coupling, "the wrong point", "float64 float32", BACK, "at [", POINT + " (1,)"),
    (Images, "the wrong point", "float32", BACK, "at [[[", POINT + " (1, "),
    (Quadratic, "the wrong point", "float64 float32", BACK, "at [0.0, 0.0, 0.0, 0.0]", IMAGE),
    (Sinh, "the wrong point", "float64 float32", BACK, "at 1.0", IMAGE),
    (Images, "a missing sum", "float64", SHAPE, "(43, 3, 3): it is not summed over the event, and its sum is right", ""),
    (Quadratic, "a missing sum", "float32", SHAPE, "(43, 4): it is not summed over the event, and its sum is right", ""),
    (Coupling, "an axis is left", "float32", SHAPE, "(43, 1): an axis is left behind the batch", ""),
    (Quadratic, "a single branch", "float64 float32", ROUND_TRIP, "is [", ""),
    (Sinh, "a single branch", "float64", ROUND_TRIP, "at -10.0 is -10.0000000", ""),
    (Sinh, "a single branch", "float32", ROUND_TRIP, "the image of -10.0, is -inf", ""),
    (Sinh, "a sign is lost", "float64 float32", ROUND_TRIP, "at -1.0", "the sign is lost"),
    (Images, "a float32 constant", "float64", ROUND_TRIP, "at [[[0.0", "a factor " + ROUNDED),
    (Quadratic, "a float32 constant", "float64", BY_DIFFERENCES, "at [", "a number " + ROUNDED),
    (Quadratic, "an epsilon under the root", "float64", ROUND_TRIP, "at [0.0, 0.0, 0.0, ", ""),
    (Sinh, "an epsilon under the root", "float64", BACK, "at 0.0 is 5.000000", ""),
    (Coupling, "an epsilon", "float64 float32", ROUND_TRIP, "at [0.0, 1.0]", ""),
    (Coupling, "an input written to", "float64 float32", WRITTEN, "changed its argument [0.0, 0.0] to", ""),
    (Images, "an input written to", "float32", WRITTEN, "forward changed its argument [[[0.0", ""),
    (Coupling, "a parameter of the log-det alone", "float32", REACHES, "parameter 0, of shape (1,), moves the log-det", ""),
    (Images, "a parameter of the log-det alone", "float64", REACHES, "parameter 0, of shape (2,), moves the log-det", ""),
    (Coupling, "a batch of one", "float64", SINGLES, "of a batch of one event, [0.0, 0.0], has shape (2,), not (1, 2)", ""),
    (Images, "a batch form", "float64", EMPTY, "raised RuntimeError: cannot reshape", ""),
    (Quadratic, "a batch of tails", "float64 float32", TAILS, "of a batch of one event, [", ""),
]
CASES = [(*rest[:2], dtype, *rest[3:]) for rest in MISTAKES for dtype in rest[2].split()]


@pytest.mark.parametrize("flow, mistake, dtype, law, told, name", CASES, ids=[f"{c[0].__name__} {c[1]} {c[2]}" for c in CASES])
def test_a_mistake_is_found_told_and_named(flow, mistake, dtype, law, told, name):
    """Where the law needs no inverse, also of a flow without one, and without its parameters where it needs none."""
    found = verdict(law, box_of(flow, mistake, dtype, inverse=law in (ROUND_TRIP, BACK), parameters=law == REACHES))
    assert found.status == "FAIL" and told in found.text, found
    assert name in found.diagnosis and bool(name) == bool(found.diagnosis), found


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("flow", [Coupling, Images, Quadratic, Sinh])
def test_the_right_flow_passes(flow, dtype):
    assert refflow.check(box_of(flow, None, dtype)).failed == []


def test_the_name_is_printed():
    table = str(refflow.check(box_of(Coupling, "exp for sigmoid")))
    assert SCALE in table


def test_an_inverse_that_raises_is_one_finding():
    def raising(x):
        raise RuntimeError("removed\nin this version")

    box = refflow.testing.BlackBox(lambda z: (2 * z, 0 * z + 0.6931471805599453), raising)
    found = refflow.check(box)
    assert [v.law for v in found.failed] == [ROUND_TRIP]
    assert found.failed[0].text == "the inverse of a batch of one event, 0.0, raised RuntimeError: removed"
    assert sum("the inverse raised RuntimeError, as the law `inverse of forward` shows" in v.text for v in found) >= 3
