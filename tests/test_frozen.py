"""Frozen parameters stay where they are, however a library says which they are; trained ones are moved."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from refflow.oracle.asking.arrays import trained_marks
from refflow.oracle.boxes.black_box_laws import verdict
from refflow.testing import BlackBox

MOVED = "all laws at moved parameters"


def flips(z, sign, scale):
    """x = sign scale z, where sign is 1 or -1: another sign is another volume, which the log-det does not count."""
    return z * sign * scale, 0 * z + np.log(abs(float(scale)))


def test_what_is_declared_is_frozen():
    """By a structure, by a function of an array, and not at all."""
    held = {"sign": np.array(-1.0), "scale": np.array(2.0)}
    for trainable, status in (({"sign": False, "scale": True}, "pass"), (lambda array: array > 0, "pass"), (True, "FAIL")):
        box = BlackBox(lambda z: flips(z, held["sign"], held["scale"]), parameters=held, trainable=trainable)
        assert verdict(MOVED, box).status == status
    assert held["sign"] == -1 and held["scale"] == 2


def test_integers_are_not_trained():
    held = [np.array([1, 0]), np.array(2.0)]
    box = BlackBox(lambda z: (z[..., held[0]] * held[1], 0 * z[..., 0] + 2 * np.log(held[1])), event=(2,), parameters=held)
    assert box.trained() == [held[1]] and verdict(MOVED, box).status == "pass"


def test_a_structure_that_is_not_the_parameters_is_refused():
    for trainable, told in (({"scal": True}, r"trainable has the names \['scal'\], the parameters \['scale'\]"),
                            ([True, False], "trainable has 2 parts where the parameters have 1")):
        with pytest.raises(ValueError, match=told):
            BlackBox(lambda z: z, parameters={"scale": np.ones(2)}, trainable=trainable).trained()


def test_a_variable_says_so():
    """As TensorFlow's and Keras's do."""
    variables = [SimpleNamespace(trainable=mark, dtype=np.dtype("float64")) for mark in (True, False)]
    assert trained_marks(variables) == [True, False]


def test_functions_and_none_are_not_parameters():
    box = BlackBox(lambda z, p: z * p["scale"], parameters={"activation": np.tanh, "scale": 2.0, "static": None})
    assert box.trained() == [2.0] and verdict(MOVED, box).status == "pass"


# -- libraries --------------------------------------------------------------------------------------------------------

def test_tensorflow():
    tf = pytest.importorskip("tensorflow", reason="tensorflow is missing: pip install tensorflow-cpu")
    from refflow.testing import tensorflow_pullback
    for trainable, status in ((False, "pass"), (True, "FAIL")):
        sign, log_scale = tf.Variable(-1.0, trainable=trainable), tf.Variable(0.5)

        def forward(z, sign=sign, log_scale=log_scale):
            return z * sign * tf.exp(log_scale), 0 * z + log_scale

        box = BlackBox(forward, parameters=[sign, log_scale], pullback=tensorflow_pullback(forward, [sign, log_scale]))
        assert len(box.trained()) == 1 + trainable and verdict(MOVED, box).status == status
        assert verdict("pullback is the gradient by the parameters", box).status == "pass"
        assert sign.numpy() == -1


def log_scaled(jax, z, sign, log_scale):
    return z * sign * jax.numpy.exp(log_scale), 0 * z + log_scale


def test_flax_collections():
    """What linen keeps outside "params", such as statistics, is not trained."""
    jax = pytest.importorskip("jax", reason="jax is missing: pip install jax")
    flax = pytest.importorskip("flax", reason="flax is missing: pip install flax")
    from refflow.testing import jax_pullback

    class Layer(flax.linen.Module):
        @flax.linen.compact
        def __call__(self, z):
            sign = self.variable("constants", "sign", lambda: -jax.numpy.ones(()))
            return log_scaled(jax, z, sign.value, self.param("log_scale", lambda key: 0.5 * jax.numpy.ones(())))

    def forward(z, variables):
        return Layer().apply(variables, z)

    variables = Layer().init(jax.random.key(0), jax.numpy.ones(2))
    for held in (variables, flax.core.freeze(variables)):
        box = BlackBox(forward, parameters=held, pullback=jax_pullback(forward))
        assert len(box.all_parameters()) == 2 and box.trained() == [0.5]
        assert verdict(MOVED, box).status == verdict("pullback is the gradient by the parameters", box).status == "pass"


def test_flax_nnx():
    jax = pytest.importorskip("jax", reason="jax is missing: pip install jax")
    nnx = pytest.importorskip("flax.nnx", reason="flax is missing: pip install flax")

    class Layer(nnx.Module):
        def __init__(self, kind):
            self.sign, self.log_scale = kind(-jax.numpy.ones(())), nnx.Param(0.5 * jax.numpy.ones(()))

        def __call__(self, z):
            return log_scaled(jax, z, self.sign[...], self.log_scale[...])

    for kind, status in ((nnx.BatchStat, "pass"), (nnx.Param, "FAIL")):
        graph, state = nnx.split(Layer(kind))
        box = BlackBox(lambda z, state, graph=graph: nnx.merge(graph, state)(z), parameters=state)
        assert len(box.trained()) == 1 + (kind is nnx.Param) and verdict(MOVED, box).status == status


def test_equinox():
    """A whole module, arrays outside the filter, and a filter of the user's."""
    jax = pytest.importorskip("jax", reason="jax is missing: pip install jax")
    eqx = pytest.importorskip("equinox", reason="equinox is missing: pip install equinox")

    class Layer(eqx.Module):
        sign: jax.Array
        log_scale: jax.Array
        activation: object = jax.nn.relu

        def __call__(self, z):
            return log_scaled(jax, z, self.sign, self.log_scale)

    layer = Layer(-jax.numpy.ones(()), 0.5 * jax.numpy.ones(()))
    nothing = jax.tree_util.tree_map(lambda _: False, layer)
    spec = eqx.tree_at(lambda one: one.log_scale, nothing, True)
    box = BlackBox(lambda z, one: one(z), parameters=layer, trainable=spec)
    assert box.trained() == [0.5] and verdict(MOVED, box).status == "pass"
    assert verdict(MOVED, BlackBox(lambda z, one: one(z), parameters=layer)).status == "FAIL"
    trained, static = eqx.partition(layer, spec)
    box = BlackBox(lambda z, one: eqx.combine(one, static)(z), parameters=trained)
    assert box.trained() == [0.5] and verdict(MOVED, box).status == "pass"
    whole = Layer(jax.numpy.array(-1), 0.5 * jax.numpy.ones(()))            # an integer, which `eqx.is_inexact_array` leaves out
    assert BlackBox(lambda z, one: one(z), parameters=whole, trainable=eqx.is_inexact_array).trained() == [0.5]
    assert BlackBox(lambda z, one: one(z), parameters=whole).trained() == [0.5]


def test_paramax():
    """`NonTrainable` of FlowJAX's parameters."""
    jax = pytest.importorskip("jax", reason="jax is missing: pip install jax")
    paramax = pytest.importorskip("paramax", reason="paramax is missing: pip install paramax")
    held = {"sign": paramax.non_trainable(-jax.numpy.ones(())), "log_scale": 0.5 * jax.numpy.ones(())}

    def forward(z, held):
        own = paramax.unwrap(held)
        return log_scaled(jax, z, own["sign"], own["log_scale"])

    box = BlackBox(forward, parameters=held)
    assert box.trained() == [0.5] and verdict(MOVED, box).status == "pass"
