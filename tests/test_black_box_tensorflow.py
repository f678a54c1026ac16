"""A coupling in TensorFlow as a black box: its variables, a compiled function, and the gradients of a tape."""

from __future__ import annotations

import pytest

from refflow.testing import BlackBox, tensorflow_pullback, verdicts

tf = pytest.importorskip("tensorflow", reason="tensorflow is missing: pip install tensorflow-cpu")


def coupling(dtype, mistake=""):
    weight = tf.Variable([[0.7]], dtype=dtype)

    def forward(z):
        a, b = z[..., :1], z[..., 1:]
        s = tf.tanh(a @ weight)
        scale = tf.sigmoid(s + 2) if mistake == "exp for sigmoid" else tf.exp(s)
        return tf.concat([a, b * scale + 0.25 * a], -1), tf.reduce_sum(s, -1)

    def inverse(x):
        a, b = x[..., :1], x[..., 1:]
        s = tf.tanh(a @ weight)
        return tf.concat([a, (b - 0.25 * a) * tf.exp(-s)], -1), -tf.reduce_sum(s, -1)

    half = tf.stop_gradient if mistake == "half of a gradient" else tf.identity

    def for_gradients(z):
        x, log_det = forward(z)
        return x, (log_det + half(log_det)) / 2

    return BlackBox(forward, None if mistake else inverse, event=(2,), parameters=[weight], compiled=tf.function(forward),
                    pullback=tensorflow_pullback(for_gradients, [weight]))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_right_coupling_passes(dtype):
    box = coupling(dtype)
    assert (box.library, box.dtype) == ("tensorflow", dtype)
    found = {v.law: v for v in verdicts(box)}
    assert [v for v in found.values() if v.status == "FAIL"] == []
    asked = {"compiled is eager", "pullback is the gradient", "pullback is the gradient by the parameters", "inverse of forward",
             "all laws at moved parameters", "log-det is the determinant of the gradient"}
    assert {law for law in asked if found[law].status == "pass"} == asked


@pytest.mark.parametrize("mistake, laws", [
    ("exp for sigmoid", {"log-det is the determinant of differences", "log-det is the determinant of the gradient"}),
    ("half of a gradient", {"pullback is the gradient", "pullback is the gradient by the parameters"})])
def test_a_mistake_is_found(mistake, laws):
    assert {v.law for v in verdicts(coupling("float64", mistake)) if v.status == "FAIL"} == laws
