"""Exported models: what ONNX Runtime computes, against a page, against a bijector and as a black box."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import refflow
from refflow.oracle import CannotRun
from refflow.oracle.inputs.onnx_model import Model, check_onnx
from refflow.testing import BlackBox, verdicts


@pytest.fixture
def model(tmp_path):
    """model(nodes, inputs, outputs, dtype) -> a file.

    A node is "result = Operator(arguments)", an input or output (name, shape).
    """
    onnx = pytest.importorskip("onnx", reason="onnx is needed: pip install onnx")
    pytest.importorskip("onnxruntime", reason="onnxruntime is needed: pip install refflow[onnx]")

    def build(nodes, inputs, outputs, dtype="float64", constants=None, metadata=None):
        kind = getattr(onnx.TensorProto, {"float64": "DOUBLE", "float32": "FLOAT", "float16": "FLOAT16"}[dtype])
        made = []
        for node in nodes:
            result, call = node.split(" = ")
            operator, arguments = call.rstrip(")").split("(")
            made.append(onnx.helper.make_node(operator, arguments.split(", "), [result]))
        graph = onnx.helper.make_graph(
            made, "graph", *([onnx.helper.make_tensor_value_info(name, kind, shape) for name, shape in part]
                             for part in (inputs, outputs)),
            [onnx.numpy_helper.from_array(np.asarray(value, dtype), key) for key, value in (constants or {}).items()])
        document = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
        onnx.helper.set_model_props(document, metadata or {})
        path = tmp_path / "model.onnx"
        onnx.save(document, path)
        return path

    return build


AFFINE = ["scaled = Mul(z, scale)", "forward = Add(scaled, shift)", "size = Abs(scale)", "log = Log(size)", "shape = Shape(z)",
          "log_det = Expand(log, shape)", "moved = Sub(x, shift)", "inverse = Div(moved, scale)"]
FIELDS, BATCH = [("shift", []), ("scale", [])], ["N"]
Z, ZX = [("z", BATCH)], [("z", BATCH), ("x", BATCH)]
OUT = [("forward", BATCH), ("log_det", BATCH), ("inverse", BATCH)]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_model_of_a_page(model, dtype, run):
    path = model(AFFINE, ZX + FIELDS, OUT, dtype)
    status, out, _ = run("check", "--onnx", path, "--page", "Affine")
    assert status == 0 and "3 checks pass, 0 fail" in out and "with onnxruntime" in out


def test_an_inverse_without_x_belongs_to_the_image(model):
    nodes = [*AFFINE[:6], "moved = Sub(forward, shift)", "inverse = Div(moved, scale)"]
    report = check_onnx(model(nodes, Z + FIELDS, OUT), page="Affine")
    assert report.status == 0 and {p.quantity for p in report.passed} == {"forward", "log_det", "inverse"}


@pytest.mark.parametrize("old, new, quantity, words", [
    ("log = Log(size)", "log = Neg(size)", "log_det", ""),
    ("moved = Sub(x, shift)", "moved = Add(x, shift)", "inverse", ""),
    ("log_det = Expand(log, shape)", "log_det = Identity(log)", "log_det shape", "not broadcast over the batch")])
def test_mistakes_of_a_model_are_found(old, new, quantity, words, model):
    out = [*OUT[:1], ("log_det", None), *OUT[2:]]
    report = check_onnx(model([new if node == old else node for node in AFFINE], ZX + FIELDS, out), page="Affine")
    assert report.status == 1 and {f.quantity for f in report.failed} == {quantity}
    assert words in report.failed[0].diagnosis


def test_a_model_without_a_batch_runs_for_each_event(model):
    nodes = ["forward = Tanh(z)"]
    report = check_onnx(model(nodes, [("z", [])], [("forward", [])], metadata={"refflow.page": "Tanh"}))
    assert report.status == 0 and [p.quantity for p in report.passed] == ["forward"]


CONSTANTS = {"scale": [2.0, -0.5], "shift": [0.25, 3.0]}
VECTORS = [("z", ["N", 2]), ("x", ["N", 2])]


def test_a_model_with_its_weights_inside_is_checked_against_a_bijector(model):
    f = refflow.Independent(refflow.Affine(scale=CONSTANTS["scale"], shift=CONSTANTS["shift"]), 1)
    path = model(["scaled = Mul(z, scale)", "forward = Add(scaled, shift)", "moved = Sub(x, shift)",
                  "inverse = Div(moved, scale)",
                  "zeros = Sub(z, z)", "sizes = Abs(scale)", "logs = Log(sizes)", "spread = Add(zeros, logs)",
                  "log_det = MatMul(spread, ones)"],
                 VECTORS, [("forward", ["N", 2]), ("log_det", BATCH), ("inverse", ["N", 2])],
                 constants=CONSTANTS | {"ones": [1.0, 1.0]})
    report = check_onnx(path, page=f)
    assert report.status == 0 and {p.quantity for p in report.passed} == {"forward", "log_det", "inverse"}, report.table()
    box = Model(path)
    found = verdicts(BlackBox(box.forward, box.inverse, event=box.event, dtype=box.dtype))
    assert {v.status for v in found} == {"pass", "skip"} and sum(v.status == "pass" for v in found) >= 10


REFUSED = [
    (dict(inputs=[("y", BATCH)] + FIELDS, nodes=["forward = Mul(y, scale)"]), "has no input z or x; its inputs are y"),
    (dict(outputs=[("scaled", BATCH)]), "has an unknown output 'scaled'; outputs are called forward, log_det"),
    (dict(inputs=Z + FIELDS + [("slope", [])]), "has an input 'slope', which is not a field of the page"),
    (dict(inputs=Z + FIELDS[:1], constants={"scale": 2.0}), "has no input 'scale', a field of Affine"),
    (dict(inputs=[("z", [3])] + FIELDS), "its batch must be of any length (a dynamic axis)"),
    (dict(inputs=[("z", ["N", 1])] + FIELDS, outputs=[("forward", ["N", 1])]), "it must have 0 axes, or 1 with one for"),
    (dict(dtype="float16"), "z is a tensor(float16); the pages are float32 and float64"),
]


@pytest.mark.parametrize("changes, words", REFUSED, ids=[words for _, words in REFUSED])
def test_a_model_that_is_not_the_pages_is_refused(changes, words, model, run):
    usual = {"nodes": AFFINE[:2], "inputs": Z + FIELDS, "outputs": [("forward", BATCH)]}
    status, out, err = run("check", "--onnx", model(**usual | changes), "--page", "Affine")
    assert (status, out, err.count("\n")) == (2, "", 1) and words in err


def test_what_cannot_be_loaded_is_one_line(model, run, tmp_path):
    path = model(["forward = Sinh(z)"], Z, OUT[:1])                         # which ONNX Runtime has for float32 only
    for target, words in ((path, "Could not find an implementation for Sinh"), (tmp_path / "nothing.onnx", "there is no file")):
        status, out, err = run("check", "--onnx", target, "--page", "Softplus")
        assert (status, out, err.count("\n")) == (2, "", 1) and words in err
    assert "give --page NAME" in run("check", "--onnx", model(["forward = Tanh(z)"], Z, OUT[:1]))[2]


def test_without_the_runtime_one_line_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(CannotRun, match=r"onnxruntime is not installed; install it with `pip install refflow\[onnx\]`"):
        check_onnx(tmp_path / "model.onnx", page="Tanh")


def test_a_shape_that_the_model_fixes_limits_the_points(model):
    nodes = ["scaled = Mul(z, scale)", "forward = Add(scaled, bias)"]
    path = model(nodes, [("z", ["N", 2]), ("scale", [2]), ("bias", [2])], [("forward", ["N", 2])])
    report = check_onnx(path, page="ActNorm")
    assert report.status == 0 and any("outside the limits" in note for note in report.notes)


def test_a_bijector_is_asked_in_the_shape_that_the_model_fixes(model):
    path = model(["forward = Add(z, z)"], [("z", ["N", 3, 5, 4])], [("forward", ["N", 3, 5, 4])], "float32")
    report = check_onnx(path, page=refflow.Independent(refflow.Affine(shift=0.0, scale=2.0), 3))
    assert report.status == 0 and all(one.shapes == [[3, 5, 4]] for one in report.asked)
    assert not any("outside the limits" in note for note in report.notes)
