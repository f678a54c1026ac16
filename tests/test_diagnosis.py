"""Each kind of wrong answer is named, and an answer that is wrong in another way, however near, is not given that name."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special

import refflow
from refflow.accuracy.drawing import Point
from refflow.oracle.adapter import Answers
from refflow.oracle.check import ALLOWED, Failure
from refflow.oracle.diagnosis import diagnose, shape_diagnosis
from refflow.oracle.points import run_time_truth
from test_oracle import Sinh


def named(f, quantity, event, wrong, dtype=np.float64):
    """The diagnosis of `wrong(f, event)` as the quantity's value; "" if it is not wrong."""
    side = "inverse" if quantity.startswith("inverse") else "forward"
    f = f.astype(dtype)

    @np.errstate(all="ignore")
    def answer(point):
        found = wrong(point.f, point.event)
        return Answers(found if isinstance(found, dict) else {quantity: np.asarray(found)})

    point = Point(f, side, np.asarray(event, dtype))
    given, truth = answer(point).found[quantity], run_time_truth(point, derivatives=True)[quantity] \
        if quantity != "jacobian" else jacobian_truth(point)
    if given.shape != truth.high.shape:
        return shape_diagnosis(point, quantity, given, truth)
    C = float(np.max(truth.error(given, point.dtype), initial=0.0))
    return diagnose(Failure(point, quantity, C, ALLOWED, given, truth), (), answer) if C > ALLOWED else ""


def jacobian_truth(point):
    bars = {"image_bar": np.ones_like(point.event), "log_det_bar": np.ones((), point.dtype)}
    return run_time_truth(point.changed(**bars), derivatives=True)["jacobian"]


tanh, sigmoid, softplus, exp, simplex = (refflow.Tanh(), refflow.Sigmoid(), refflow.Softplus(), refflow.Exp(),
                                         refflow.StickBreaking())
vector = refflow.Independent(refflow.Affine(shift=0.0, scale=[0.3, 2.0, 7.0]), 1)
curved = refflow.Independent(tanh, 1)
dense = refflow.DenseLinear(W=[[2.0, 0.5], [-0.25, 1.0]], shift=[0.0, 0.0])
symmetric = refflow.DenseLinear(W=[[2.0, 0.5], [0.5, 1.0]], shift=[0.0, 0.0])
image = refflow.ActNorm(scale=[0.5, 3.0], rank=3)
positive = refflow.Independent(refflow.Affine(shift=0.0, scale=[0.3, 0.6, 0.9]), 1)
root, fourth = refflow.Power(exponent=0.5), refflow.Power(exponent=0.25)
normal = refflow.NormalCDF(loc=0.5, scale=0.25)
net = refflow.Sequential((refflow.Dense([[0.1]], [0.5]), refflow.ReLU(), refflow.Dense([[0.3], [1.0]])))
coupling = refflow.AffineCoupling([True, False], net)
z3, pixels = [0.3, -0.7, 1.1], np.linspace(-1, 1, 12).reshape(2, 2, 3)


def float32(value):
    return np.asarray(value, np.float32).astype(np.float64)


def log_cosh(z):
    return np.log(np.cosh(z))


def normal_log_det(constant):
    return lambda f, z: -((z - f.loc) / f.scale) ** 2 / 2 - np.log(f.scale) - constant


def scales(log_scale):
    """The log-det of scales, each written as sigmoid(s + 2), by another function of s."""
    def wrong(f, z):
        s = scipy.special.logit(f.inner.scale) - 2
        return log_scale(s).sum()

    return wrong


def summed_in_float32(f, z):
    terms = np.log(np.abs(f.inner.scale))
    return {"forward": f.forward(z), "log_det": float32(terms.astype(np.float32).sum(dtype=np.float32))}


def all_in_float32(f, z):
    return {"forward": float32(f.forward(z)), "log_det": float32(f.log_det(z))}


def flush(tiny):
    return lambda f, z: np.where(np.abs(f.forward(z)) < tiny, 0, f.forward(z))


TINY = np.finfo(np.float64).tiny
KINDS = {       # kind: (an answer of that kind, an answer that is wrong in another way)
    "negated": ((softplus, "log_det", 0.7, lambda f, z: -f.log_det(z)),
                (softplus, "log_det", 0.7, lambda f, z: -f.log_det(z) * 1.01)),
    "doubled": ((softplus, "log_det", 0.7, lambda f, z: 2 * f.log_det(z)),
                (softplus, "log_det", 0.7, lambda f, z: 2 * f.log_det(z) + 0.01)),
    "halved": ((softplus, "forward", 0.7, lambda f, z: f.forward(z) / 2),
               (softplus, "forward", 0.7, lambda f, z: f.forward(z) / 2.1)),
    "the other direction's log-det": ((softplus, "log_det", 0.7, lambda f, z: f.inverse_and_log_det(z)[1]),
                                      (softplus, "log_det", 0.7, lambda f, z: f.inverse_and_log_det(z + 0.1)[1])),
    "at the image": ((tanh, "log_det", 0.7, lambda f, z: f.log_det(f.forward(z))),
                     (tanh, "log_det", 0.7, lambda f, z: f.log_det(0.9 * f.forward(z)))),
    "the mean over its entries": ((vector, "log_det", z3, lambda f, z: f.log_det(z) / 3),
                                  (vector, "log_det", z3, lambda f, z: f.log_det(z) / 2.9)),
    "the term of one entry": ((vector, "log_det", z3, lambda f, z: np.log(f.inner.scale[1])),
                              (vector, "log_det", z3, lambda f, z: np.log(f.inner.scale[1] + 0.1))),
    "the number of positions is missing: H W": ((image, "log_det", pixels, lambda f, z: np.log(f.scale).sum()),
                                                (image, "log_det", pixels, lambda f, z: 5 * np.log(f.scale).sum())),
    "transposed matrix: right for the transpose": (
        (dense, "forward", [0.3, 1.1], lambda f, z: f.W.T @ z),
        (symmetric, "forward", [0.3, 1.1], lambda f, z: f.W.T @ z * 1.1)),
    "transposed matrix": ((dense, "jacobian", [0.3, 1.1], lambda f, z: f.W.T),
                          (dense, "jacobian", [0.3, 1.1], lambda f, z: f.W.T @ f.W)),
    "wrong shape": ((curved, "log_det", z3, lambda f, z: np.zeros((1,))), (curved, "log_det", z3, lambda f, z: np.zeros(()))),
    "not summed over the event: wrong shape": (
        (curved, "log_det", z3, lambda f, z: f.inner.log_det(z)),
        (curved, "log_det", z3, lambda f, z: f.log_det(z) * np.ones(2))),
    "float32 constant": ((normal, "log_det", 0.7, normal_log_det(float32(np.log(2 * np.pi) / 2))),
                         (normal, "log_det", 0.7, normal_log_det(0.92))),
    "computed in float32": ((sigmoid, "log_det", 0.7, lambda f, z: float32(f.log_det(z))),
                            (sigmoid, "log_det", 0.7, lambda f, z: float32(f.log_det(z)) + 1e-4)),
    "float32 accumulation": ((positive, "log_det", z3, summed_in_float32), (positive, "log_det", z3, all_in_float32)),
    "saturated": ((sigmoid, "forward", 7.0, lambda f, z: np.where(z > 5, 1.0, f.forward(z))),
                  (sigmoid, "forward", 7.0, lambda f, z: f.forward(z) * (1 - 1e-4))),
    "clipped tail": ((sigmoid, "log_det", 9.0, lambda f, z: f.log_det(np.minimum(z, 8))),
                     (sigmoid, "log_det", 9.0, lambda f, z: f.log_det(0.9 * z))),
    "replaced by its asymptote": ((softplus, "forward", 21.0, lambda f, z: np.where(z > 20, z, f.forward(z))),
                                  (softplus, "forward", 21.0, lambda f, z: np.where(z > 20, z * 1.01, f.forward(z)))),
    "single-branch root": ((Sinh(), "inverse", -1e3, lambda f, x: np.log(x + np.sqrt(x * x + 1))),
                           (Sinh(), "inverse", -1e3, lambda f, x: np.arcsinh(x) * (1 + 1e-9))),
    "subnormals flushed": ((exp, "forward", -720.0, flush(TINY)), (exp, "forward", -720.0, flush(1e-200))),
    "cancelled to zero": ((softplus, "log_det", 40.0, lambda f, z: np.log(1 / (1 + np.exp(-z)))),
                          (softplus, "log_det", -40.0, lambda f, z: f.log_det(z) * 1.001)),
    "digits lost to cancellation": ((tanh, "log_det", 1e-4, lambda f, z: 2 * (np.log(2) - z - np.logaddexp(0, -2 * z))),
                                    (tanh, "log_det", 1e-4, lambda f, z: f.log_det(z) * 1.5)),
    "NaN": ((sigmoid, "forward", 800.0, lambda f, z: np.exp(z) / (1 + np.exp(z))),
            (sigmoid, "forward", 800.0, lambda f, z: np.exp(z) / np.finfo(float).max)),
    "an epsilon: right for log(d + 1e-06)": (
        (tanh, "log_det", 4.0, lambda f, z: np.log(1 - np.tanh(z) ** 2 + 1e-6)),
        (tanh, "log_det", 4.0, lambda f, z: f.log_det(z) + 1e-6)),
    "an epsilon: right for 1e-05 added to scale^2, under a root": (
        (normal, "log_det", 0.7, lambda f, z: f.replace(scale=np.sqrt(f.scale**2 + 1e-5)).log_det(z)),
        (normal, "log_det", 0.7, lambda f, z: f.replace(scale=f.scale * 1.001).log_det(z))),
    "an epsilon: right for 1e-08 added to the input's size": (
        (fourth, "forward", 3e-4, lambda f, z: (z + 1e-8) ** 0.25), (fourth, "forward", 3e-4, lambda f, z: z**0.25 + 3e-9)),
    "an epsilon: right for sqrt(q^2 + 1e-08) in place of the result q": (
        (root, "forward", 3e-4, lambda f, z: np.sqrt(z + 1e-8)), (root, "forward", 3e-4, lambda f, z: np.sqrt(z + 3e-8))),
    "the log-det of a scale exp(s), where the map has sigmoid(s + 2)": (
        (positive, "log_det", z3, scales(lambda s: s)), (positive, "log_det", z3, scales(lambda s: 1.1 * s))),
    "the log-det of a scale sigmoid(s + 2), where the map has exp(s)": (
        (coupling, "log_det", [0.3, 0.7], lambda f, z: -np.logaddexp(0, -f.net.forward(z[:1])[0] - 2)),
        (coupling, "log_det", [0.3, 0.7], lambda f, z: -np.logaddexp(0, -f.net.forward(z[:1])[0] - 1))),
    "another volume convention: log2|det|": ((curved, "log_det", z3, lambda f, z: f.log_det(z) / np.log(2)),
                                             (curved, "log_det", z3, lambda f, z: f.log_det(z) / 0.7)),
    "another volume convention: off by +1/2 log K": (
        (simplex, "log_det", z3, lambda f, z: f.log_det(z) + np.log(4) / 2),
        (simplex, "log_det", z3, lambda f, z: f.log_det(z) + np.log(4) / 2 + 1e-6)),
    "another volume convention: half": (
        (simplex, "log_det", z3, lambda f, z: f.log_det(z) + np.log(4) / 2 + 1e-6),         # in some digits only
        (refflow.CorrelationCholesky(), "log_det", [1e-9], lambda f, z: 0.0)),
    "half log det J'J": ((simplex, "log_det", z3, lambda f, z: f.log_det(z) + np.log(4) / 2 + 1e-6),
                         (simplex, "log_det", z3, lambda f, z: f.log_det(z) + np.log(3) / 2)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_named(kind):
    planted, _ = KINDS[kind]
    assert kind in named(*planted)


@pytest.mark.parametrize("kind", KINDS)
def test_another_mistake_is_not_given_the_name(kind):
    _, innocent = KINDS[kind]
    found = named(*innocent)
    assert found and kind not in found
