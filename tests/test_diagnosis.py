"""Each kind of wrong answer is named, and an answer that is wrong in another way, however near, is not given that name."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special

import refflow
from refflow.accuracy.drawing import Point
from refflow.oracle.asking.adapter import Answers
from refflow.oracle.check import ALLOWED, Failure
from refflow.oracle.naming import diagnosis
from refflow.oracle.naming.diagnosis import diagnose, shape_diagnosis
from refflow.oracle.points.page_points import run_time_truth
from test_oracle import Sinh


def named(f, quantity, event, wrong, dtype=np.float64):
    """The diagnosis of `wrong(f, event)` as the quantity's value, which must be wrong."""
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
    assert C > ALLOWED
    return diagnose(Failure(point, quantity, C, ALLOWED, given, truth), (), answer)


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
step = refflow.Chain([image, refflow.Pointwise(dense), refflow.Independent(tanh, 3)])
steps = refflow.Chain([image, refflow.Pointwise(dense), image, refflow.Pointwise(symmetric)] * 2)
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
    "the number of positions is counted once too often: this is H W = 6 times": (
        (image, "log_det", pixels, lambda f, z: 6 * f.log_det(z)), (image, "log_det", pixels, lambda f, z: 7 * f.log_det(z))),
    "the number of channels is missing: C = 2 times": (
        (image, "log_det", pixels, lambda f, z: f.log_det(z) / 2 if z.shape[0] == 2 else f.log_det(z)),
        (image, "log_det", pixels, lambda f, z: f.log_det(z) / 2.5)),
    "the number of entries is counted once too often: this is D = 3 times": (
        (vector, "log_det", z3, lambda f, z: 3 * f.log_det(z)), (vector, "log_det", z3, lambda f, z: 3.1 * f.log_det(z))),
    "missing in stage 0, ActNorm: H W = 6 times its log-det": (
        (step, "log_det", pixels, lambda f, z: f.log_det(z) - 5 * np.log(f.stages[0].scale).sum()),
        (step, "log_det", pixels, lambda f, z: f.log_det(z) - 4 * np.log(f.stages[0].scale).sum())),
    "missing in stage 0, ActNorm and stage 1, Pointwise: H W = 6 times": (
        (step, "log_det", pixels, lambda f, z: f.log_det(z) - 5 * (np.log(f.stages[0].scale).sum() + f.stages[1].log_det(z) / 6)),
        (step, "log_det", pixels, lambda f, z: f.log_det(z) - 5 * np.log(f.stages[0].scale).sum() - 4 * f.stages[1].log_det(z) / 6)),
    "missing in every ActNorm: H W = 6 times its log-det": (
        (steps, "log_det", pixels, lambda f, z: f.log_det(z) - 20 * np.log(f.stages[0].scale).sum()),
        (steps, "log_det", pixels, lambda f, z: f.log_det(z) - 19 * np.log(f.stages[0].scale).sum())),
    "a constant term: 3 log 256 more than the truth": (
        (curved, "log_det", z3, lambda f, z: f.log_det(z) + 3 * np.log(256)),
        (curved, "log_det", z3, lambda f, z: f.log_det(z) + 3 * np.log(256.01))),
    "a constant term: log 2 less": ((softplus, "log_det", 0.7, lambda f, z: f.log_det(z) - np.log(2)),
                                    (softplus, "log_det", 0.7, lambda f, z: f.log_det(z) - 0.7 * np.cos(z))),
    "a constant term: +0.3 everywhere": ((softplus, "log_det", 0.7, lambda f, z: f.log_det(z) + 0.3),
                                         (softplus, "log_det", 0.7, lambda f, z: f.log_det(z) + 0.3 * (1 + 1e-6 * z))),
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
    "the sign is lost": ((Sinh(), "inverse", -1e3, lambda f, x: np.arccosh(np.sqrt(x * x + 1))),
                         (Sinh(), "inverse", -1e3, lambda f, x: np.log(x + np.sqrt(x * x + 1)))),
    "subnormals flushed": ((exp, "forward", -720.0, flush(TINY)), (exp, "forward", -720.0, flush(1e-200))),
    "0, where the truth is about 4e-18": ((softplus, "log_det", 40.0, lambda f, z: np.log(1 / (1 + np.exp(-z)))),
                                          (softplus, "log_det", -40.0, lambda f, z: f.log_det(z) * 1.001)),
    "NaN": ((sigmoid, "forward", 800.0, lambda f, z: np.exp(z) / (1 + np.exp(z))),
            (sigmoid, "forward", 800.0, lambda f, z: np.exp(z) / np.finfo(float).max)),
    "an epsilon: right for log(d + 1e-06)": (
        (tanh, "log_det", 4.0, lambda f, z: np.log(np.cosh(z)**-2.0 + 1e-6)),
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
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_named(kind):
    planted, _ = KINDS[kind]
    assert kind in named(*planted)


@pytest.mark.parametrize("kind", KINDS)
def test_another_mistake_is_not_given_the_name(kind):
    _, innocent = KINDS[kind]
    assert kind not in named(*innocent)


def test_digits_lost_to_cancellation_are_named():
    """By a bound that a wrong formula breaks, and a threshold, whatever their relative errors are."""
    def naive(f, z):
        return 2 * (np.log(2) - z - np.logaddexp(0, -2 * z))

    assert named(tanh, "log_det", 1e-4, naive).startswith("digits lost to cancellation: the error is a rounding of terms of about 1")
    for wrong in (lambda f, z: naive(f, z) + 1e-13, lambda f, z: naive(f, z) + np.where(np.abs(z) > 1.2e-4, 1e-12, 0)):
        assert named(tanh, "log_det", 1e-4, wrong) == ""


# -- nothing is said of what is not known -----------------------------------------------------------------------------

def leaking(f, z):
    """The second entry moves with the third, which the log-det does not count."""
    return f.log_det(z) + np.log1p(0.1 * np.tanh(z[..., 0]))


UNKNOWN = {
    "a threshold": (tanh, "log_det", 0.01, lambda f, z: np.where(np.abs(z) < 0.05, -z * z * (1 - z * z / 7), f.log_det(z))),
    "a threshold of an inverse": (Sinh(), "inverse", -1e3, lambda f, x: np.where(x < -50, -np.log(-2 * x), np.arcsinh(x))),
    "a clamp inside": (vector, "log_det", z3, lambda f, z: np.log(np.clip(f.inner.scale, 0.5, 5)).sum(-1)),
    "an epsilon inside": (Sinh(), "inverse", 0.7, lambda f, x: np.arcsinh(x * (1 + 1e-7) + 3e-9)),
    "an epsilon of an odd size": (tanh, "log_det", 4.0, lambda f, z: np.log(np.cosh(z)**-2.0 + 3.7e-7)),
    "a wrong formula": (dense, "log_det", [0.3, 1.1], lambda f, z: np.log(f.W[0, 0] * f.W[1, 1])),
    "a leak": (curved, "log_det", z3, leaking),
    "a branch": (Sinh(), "inverse", -1e3, lambda f, x: np.log(x + np.sqrt(x * x + 1))),
    "another number": (softplus, "log_det", 0.7, lambda f, z: 0 * z - 0.4),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_nothing_is_said_of_a_mistake_that_is_not_known(what):
    assert named(*UNKNOWN[what]) == ""


# -- the mechanism ----------------------------------------------------------------------------------------------------

def failures_of(f, quantity, events, wrong):
    """(the failures at some events, a function that answers)."""
    @np.errstate(all="ignore")
    def answer(point):
        return Answers({quantity: np.asarray(wrong(point.f, point.event))})

    found = []
    for event in events:
        point = Point(f, "inverse" if quantity.startswith("inverse") else "forward", np.asarray(event))
        given, truth = answer(point).found[quantity], run_time_truth(point)[quantity]
        C = float(np.max(truth.error(given, point.dtype), initial=0.0))
        assert C > ALLOWED, event
        found.append(Failure(point, quantity, C, ALLOWED, given, truth))
    return found, answer


@pytest.mark.parametrize("quantity, wrong, where", [
    ("log_det", lambda f, z: np.where(np.abs(z) < 100, -f.log_det(z), f.log_det(z) + 1), "far away"),
    ("log_det", lambda f, z: -f.log_det(z) * np.where(np.abs(z) < 100, 1, 1 + 1e-14), "by a few units"),
    ("forward", lambda f, z: f.forward(z) / np.where(z > -100, 2, 2.5), "in another quantity")])
def test_a_mistake_must_hold_at_every_failing_point(quantity, wrong, where):
    """At the shown point it does; without the other one, it would be named."""
    failures, answer = failures_of(softplus, quantity, [0.7, -128.0], wrong)
    alone = diagnose(failures[0], (), None)
    assert alone.startswith(("negated", "halved")) and diagnose(failures[0], failures, answer) == ""


def test_it_must_hold_around_the_shown_point_too():
    """Where the other points were not kept; and a right answer contradicts a mistake that would change it."""
    for beyond in (lambda f, z: f.log_det(z), lambda f, z: -f.log_det(z) + 1e-9):
        failures, answer = failures_of(softplus, "log_det", [0.7], lambda f, z, beyond=beyond: np.where(
            np.abs(z) < 0.8, -f.log_det(z), beyond(f, z)))
        assert diagnose(failures[0], failures, None).startswith("negated") and diagnose(failures[0], failures, answer) == ""


def test_a_number_that_is_fitted_must_explain_other_points():
    """Any answer is the truth clipped at it."""
    failures, answer = failures_of(sigmoid, "log_det", [9.0], lambda f, z: f.log_det(np.minimum(z, 8)))
    assert diagnose(failures[0], failures, answer).startswith("clipped tail")
    assert diagnose(failures[0], failures, None) == ""


def test_a_mistake_must_give_every_entry():
    """An answer that has it in one entry alone is not given its name."""
    assert named(curved, "forward", z3, lambda f, z: -f.forward(z)).startswith("negated")
    assert named(curved, "forward", z3, lambda f, z: f.forward(z) * [-1.0, 1.3, 0.9]) == ""


def test_one_infinity_is_like_another():
    """The log-det of the other direction is infinite there too, and so is much else."""
    f = refflow.Power(exponent=3.0)
    assert named(f, "log_det", 0.7, lambda f, z: np.where(z < 1, -np.inf, f.log_det(z))) == "infinite where the truth is finite"
    failures, answer = failures_of(tanh, "log_det", [400.0], lambda f, z: np.log(1 - np.tanh(z)**2))
    assert diagnose(failures[0], failures, answer) == "infinite where the truth is finite"


def test_a_comparison_that_is_too_wide_is_seen(monkeypatch):
    """A planted bug: mistakes that agree in half of the digits are taken for the answer."""
    near = softplus, "log_det", 0.7, lambda f, z: -f.log_det(z) * (1 + 1e-9)
    assert named(*near) == ""
    monkeypatch.setattr(diagnosis, "gives", lambda mistake, clue: np.allclose(clue.given, mistake.answer(clue).high, rtol=1e-8))
    assert named(*near).startswith("negated")


def test_a_sum_that_is_nearly_right_is_not_called_right():
    for factor, told in ((1, True), (1 + 1e-9, False)):
        found = named(curved, "log_det", z3, lambda f, z, factor=factor: factor * f.inner.log_det(z))
        assert found.endswith("its sum is right") == told and found.startswith("not summed over the event")


@pytest.mark.parametrize("wrong, told", [
    (lambda l: -l, "its sum is wrong, too: negated"), (lambda l: 2 * l, "its sum is wrong, too: doubled"), (lambda l: l + 1, "its sum is wrong, too"),
    (lambda l: l, "its sum is right")])
def test_a_shape_does_not_hide_the_values(wrong, told):
    """Neither where terms are not summed nor where an axis is left behind."""
    assert named(curved, "log_det", z3, lambda f, z: wrong(f.inner.log_det(z))).endswith(told)
    kept = named(curved, "log_det", z3, lambda f, z: wrong(f.log_det(z))[..., None])
    assert kept == "wrong shape: (1,), expected ()" + "; " + told.replace("its sum is", "its values are")
