"""Image flows that a stranger wrote: a log-det that forgets H W is found and named, in few truths; and the units of a chain."""

from __future__ import annotations

import numpy as np
import pytest

import refflow
from refflow import (ActNorm, Affine, AffineCoupling, Chain, DenseLinear, Exp, Inverse, Permutation, Pointwise, Sigmoid,
                     StickBreaking, Tanh)
from refflow.accuracy.drawing import Point
from refflow.accuracy.kappa import kappa, kappa_inverse, normwise, per_event, value_and_log_det
from refflow.maps.conditioners import Conv2d, Sequential, TanhActivation, dense_network
from refflow.maps.coupling import masks
from refflow.oracle import adapter
from refflow.oracle.boxes.black_box_laws import verdict
from refflow.oracle.judging import steadiness
from refflow.oracle.naming import shrink
from refflow.oracle.points import rests
from refflow.oracle.points.instances import instance_points
from refflow.testing import BlackBox

BY_DIFFERENCES = "log-det is the determinant of differences"
G = np.random.default_rng(1)
FIELDS = {"scale": np.array([0.5, 1.75, -1.25]), "bias": np.array([0.25, -0.5, 0.125]),
          "W": np.linalg.qr(G.standard_normal((3, 3)))[0] * [1.5, 0.75, 1.25],
          "K": 0.4 * G.standard_normal((4, 1, 3, 3)), "k": 0.1 * G.standard_normal(4),
          "M": 0.3 * G.standard_normal((4, 4, 1, 1)), "m": 0.1 * G.standard_normal(4)}


# -- Glow's step in plain NumPy ---------------------------------------------------------------------------------------

def convolved(a, K, b):
    size = K.shape[-1]
    a = np.pad(a, [(0, 0)] * (a.ndim - 2) + [(size // 2, size // 2)] * 2)
    windows = np.lib.stride_tricks.sliding_window_view(a, (size, size), axis=(-2, -1))
    return np.einsum("oiyx,...ihwyx->...ohw", K, windows) + b[:, None, None]


def halves(a, p):
    h = convolved(np.tanh(convolved(a, p["K"], p["k"])), p["M"], p["m"])
    return h[..., :2, :, :], h[..., 2:, :, :]


def glow(z, forgets=(), p=FIELDS):
    """(x, log-det) of Glow's step; `forgets`: the parts whose log-det is not multiplied by H W."""
    p = {key: np.asarray(value, z.dtype) for key, value in p.items()}
    count = {part: 1 if part in forgets else z.shape[-1] * z.shape[-2] for part in ("actnorm", "convolution")}
    x = z * p["scale"][:, None, None] + p["bias"][:, None, None]
    x = np.einsum("ij,...jhw->...ihw", p["W"], x)
    a, b = x[..., :1, :, :], x[..., 1:, :, :]
    s, t = halves(a, p)
    log_det = s.sum((-1, -2, -3)) / (z.shape[-1] * z.shape[-2] if "coupling" in forgets else 1)
    log_det = log_det + count["actnorm"] * np.log(np.abs(p["scale"])).sum() + count["convolution"] * np.linalg.slogdet(p["W"])[1]
    return np.concatenate([a, b * np.exp(s) + t], -3), log_det


def glow_back(x, p=FIELDS):
    p = {key: np.asarray(value, x.dtype) for key, value in p.items()}
    a, b = x[..., :1, :, :], x[..., 1:, :, :]
    s, t = halves(a, p)
    z = np.einsum("ij,...jhw->...ihw", np.linalg.inv(p["W"]), np.concatenate([a, (b - t) * np.exp(-s)], -3))
    return (z - p["bias"][:, None, None]) / p["scale"][:, None, None]


def page():
    net = Sequential((Conv2d(FIELDS["K"], FIELDS["k"]), TanhActivation(), Conv2d(FIELDS["M"], FIELDS["m"])))
    return Chain([ActNorm(FIELDS["scale"], FIELDS["bias"], 3), Pointwise(DenseLinear(FIELDS["W"])),
                  AffineCoupling(masks.channels(masks.halves(3, 1), 3), net)])


ALL = "actnorm", "convolution", "coupling"
STAGES = {ALL: "the number of positions is missing: H W = 16 times this is right",
          ALL[:1]: "the number of positions is missing in stage 0, ActNorm: H W = 16 times its log-det is right",
          ALL[1:]: "the number of positions is missing in stage 1, Pointwise and stage 2, AffineCoupling: H W = 16 times its "
                   "log-det is right"}


@pytest.mark.parametrize("forgets", [(), *STAGES], ids=" ".join)
def test_a_box_with_a_page_is_judged_in_few_truths(forgets, monkeypatch):
    asked, truth = [], rests.of_chain
    monkeypatch.setattr(refflow.oracle.points.page_points, "of_chain", lambda f, event, *given: asked.append(np.size(event) // 48) or truth(
        f, event, *given))
    report = refflow.check(BlackBox(lambda z: glow(z, forgets), glow_back, event=(3, 4, 4)), page=page())
    assert [(one.quantity, one.diagnosis) for one in report.failed] == ([("log_det", STAGES[forgets])] if forgets else [])
    assert sum(asked) <= 300 and len(asked) <= 60, (sum(asked), len(asked))


def test_an_adapter_names_the_stage_that_forgets():
    def mine(params, z):
        return dict(zip(("forward", "log_det"), glow(z, ("convolution",)))) | {"inverse": glow_back}

    found, = refflow.check(adapter(page(), dtype="float32")(mine)).failed
    assert "the number of positions is missing in stage 1, Pointwise: H W = " in found.diagnosis and found.quantity == "log_det"


# -- without a page ---------------------------------------------------------------------------------------------------

IN_OTHER_SHAPES = "is counted once, not H W = 16 times; in events of shape (3, 2, 4) it is counted once, too"
CONSTANT = ("everywhere, consistent with a log-det that is summed over channels and not multiplied by H W = 16, of 0.0896122 "
            "at each position")


@pytest.mark.parametrize("forgets, told", [
    (ALL, "the number of positions is missing: H W = 16 times this is right"),
    (("coupling",), "in the part of the log-det that moves with the event: H W = 16 times its changes are right"),
    (("actnorm",), "in a constant term of the log-det: 0.0896122 " + IN_OTHER_SHAPES),
    (("actnorm", "convolution"), IN_OTHER_SHAPES)], ids=str)
def test_a_box_alone_names_the_positions(forgets, told):
    assert told in verdict(BY_DIFFERENCES, BlackBox(lambda z: glow(z, forgets), event=(3, 4, 4))).diagnosis


def of_one_shape(forgets, p=FIELDS, **given):
    return BlackBox(lambda z: glow(z.reshape(-1, 3, 4, 4), forgets, p), event=(3, 4, 4), **given)


def test_of_one_shape_a_constant_is_a_constant():
    """One number fits any constant: it is consistent with a term at each position, and no more is said."""
    assert verdict(BY_DIFFERENCES, of_one_shape(("actnorm",))).diagnosis.endswith(CONSTANT)
    other = verdict(BY_DIFFERENCES, BlackBox(lambda z: (glow(z)[0], glow(z)[1] - 1.25), event=(3, 4, 4))).diagnosis
    assert other.startswith("a constant term: -1.25 everywhere, consistent with")


@pytest.mark.parametrize("forgets, told", [
    (("actnorm",), "parameter 0, of shape (3,)"), (("convolution",), "parameter 2, of shape (3, 3)"),
    (("actnorm", "convolution"), "parameter 0, of shape (3,) and parameter 2, of shape (3, 3)")], ids=str)
def test_of_one_shape_parameters_tell_which_term_is_counted_once(forgets, told):
    p = {key: value.copy() for key, value in FIELDS.items()}
    found = verdict(BY_DIFFERENCES, of_one_shape(forgets, p, parameters=p)).diagnosis
    assert found == f"the number of positions is missing in the term of {told}: it is counted once, not H W = 16 times"


@pytest.mark.parametrize("bend", [0.0, 0.25])
def test_a_term_of_logarithms_of_scales_is_known_from_its_parameter(bend):
    """Of a log-det that is the same everywhere, too."""
    p = {"logs": np.array([0.3, -0.1, 0.2]), "all": np.array(0.5)}

    def scaled(z):
        s = np.exp(p["logs"])[:, None, None]
        x = np.exp(p["all"]) * (z.reshape(-1, 3, 4, 4) * s + bend * np.sin(z))
        return x, p["logs"].sum() + 48 * p["all"] + np.log1p(bend * np.cos(z) / s).sum((1, 2, 3))

    found = verdict(BY_DIFFERENCES, BlackBox(scaled, event=(3, 4, 4), parameters=p))
    assert "the term of parameter 0, of shape (3,):" in found.diagnosis


def test_an_inverse_that_refuses_every_image_is_no_defect_of_refflow():
    """Of a matrix that is moved to 0, say, by numpy.linalg.inv."""
    p = {"W": np.eye(20)}
    box = BlackBox(lambda z: z @ p["W"].T, lambda x: x @ np.linalg.inv(p["W"]).T, event=(20,), parameters=p)
    assert verdict("all laws at moved parameters", box).status == "pass"


# -- the unit of error of a chain ---------------------------------------------------------------------------------------

def coupling():
    return AffineCoupling(masks.halves(4), dense_network(np.random.default_rng(0), [2, 5, 4], "tanh", zero_last=False))


CHAINS = {"glow": page, "one stage twice": lambda: Chain([coupling(), Permutation([2, 0, 1, 3])] * 2),
          "numbers": lambda: Chain([Affine(0.5, 2.0), Tanh(), Inverse(Sigmoid()), Exp()]),
          "batch": lambda: Chain([Affine(np.ones((3, 2)), 2 * np.ones((3, 2))), Tanh()]),
          "a chain within": lambda: Chain([Chain([Affine(0.5, 2.0), Tanh()]), Affine(1.0, 0.3)]),
          "thin": lambda: Chain([ActNorm([2.0, 0.5, 1.0]), StickBreaking(), Inverse(StickBreaking())])}


@pytest.mark.parametrize("name", CHAINS)
def test_one_pass_gives_the_units_of_a_chain_and_of_its_rests(name):
    f = CHAINS[name]()
    for point in [one for one in instance_points(f, np.dtype("float64")) if one.image_bar is None][:6]:
        side, event = point.side, np.asarray(point.event)
        whole, *found = rests.of_chain(f, event, side, 2.0**-53)
        g, spread = per_event(f, event, int(side == "inverse"))
        for one, right in zip(whole, value_and_log_det(g, spread, rests.METHOD[side], normwise(f), 2.0**-53)):
            assert np.array_equal(one.value, right.value) and np.allclose(one.kappa, right.kappa, rtol=1e-5, equal_nan=True)
        for k, rest in enumerate(found, 1):
            stages, unit = (f.stages[k:], kappa) if side == "forward" else (f.stages[:-k], kappa_inverse)
            event = (f.stages[k - 1].forward if side == "forward" else f.stages[-k].inverse)(event)
            for one, right in zip(rest, unit(Chain(stages), event, 2.0**-53).values()):
                assert np.allclose(one.kappa.ravel(), right.ravel(), rtol=1e-5, equal_nan=True), (k, side)


# -- wrong events of a dear map ---------------------------------------------------------------------------------------

def test_steady_entries_are_looked_for_until_one_is_found(monkeypatch):
    looked = []

    def of_the_last(points, asked):
        looked.append(int(sum(marks.sum() for marks in asked.values())))
        return {name: ~marks | (np.arange(len(marks)) == 30) for name, marks in asked.items()}

    monkeypatch.setattr(steadiness, "steady", of_the_last)
    wrong = {"log_det": np.arange(40) > 0}
    found, over = steadiness.steady_among([], wrong, {"log_det": 2})
    assert looked[0] == 2 and found["log_det"][[0, 30]].all() and found["log_det"].sum() == 2
    assert over["log_det"].sum() == 39 - sum(looked)
    found, over = steadiness.steady_among([], wrong, {"log_det": 0})
    assert np.array_equal(over["log_det"], wrong["log_det"]) and np.array_equal(found["log_det"], ~wrong["log_det"])


def test_many_entries_are_simplified_at_once():
    f, tried = Pointwise(DenseLinear(FIELDS["W"])), []

    def again(point, failure, threshold):
        tried.append(point.event)
        return Wrong(point)

    class Wrong:
        def __init__(self, point):
            self.point = point

    start = Point(f, "forward", np.random.default_rng(0).standard_normal((3, 2, 4)))
    found = shrink.shrunk([Wrong(start)], 0, again, fixed=True)
    assert not found.point.event.any() and not tried[-1].any()
