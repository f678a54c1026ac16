"""A bijector given to an adapter with its parameters: right code passes, and wrong formulas are found, in every kind of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import special

import refflow
from refflow import (Affine, AffineCoupling, Chain, Coupling, Dense, DenseLinear, Exp, GlowActNorm, Independent, Inverse, Pointwise,
                     Reshape, Sigmoid, Softplus, Squeeze, Tanh)
from refflow.accuracy.drawing import Point, example
from refflow.core import RandomSource
from refflow.core.registry import of_kind
from refflow.maps import load_all
from refflow.maps.coupling import Family, affine_family
from refflow.maps.elementwise import ClampedExpScale, SigmoidScale
from refflow.maps.monotone import mixture
from refflow.maps.parametrisations import SPLINES
from refflow.oracle import CannotRun, adapter, check
from refflow.oracle.judging.steadiness import is_steady
from refflow.oracle.points import instances
from refflow.oracle.points.instances import Hard, instance_points
from refflow.oracle.points.page_points import composite_shapes, run_time_truth, run_time_truths, smallest_shape, together
from refflow.testing import BlackBox

NET = Dense(W=[[1.5], [0.5]], b=[0.25, -1.0])
THROUGH_0 = Dense(W=[[1.5], [0.5]], b=[0.0, -1.0])
EXP = AffineCoupling([True, False], NET)
SPLINE = refflow.RationalQuadraticSpline([-2.0, -0.5, 1.0, 2.0], [-2.0, 0.0, 0.5, 2.0], [1.0, 0.5, 3.0, 1.0])


def own(f):
    """A bijector's own answers, as somebody else's."""
    def mine(params, z):
        g = f.astype(z.dtype)
        (x, log_det), pullback = g.vjp(z)
        return {"forward": x, "log_det": log_det, "jacobian": g.jacobian(z), "vjp": pullback, "inverse": g.inverse,
                "inverse_log_det": lambda x: g.inverse_and_log_det(x)[1],
                "inverse_vjp": lambda x, z_bar, log_det_bar: g.inverse_vjp(x)[1](z_bar, log_det_bar)}

    return mine


def s_of(f, z):
    return (z[..., :1] @ f.net.W.T + f.net.b)[..., 0]


def coupling_inverse(scale):
    def inverse(f, x):
        s, t = np.split(x[..., :1] @ f.net.W.T + f.net.b, 2, -1)
        return np.concatenate([x[..., :1], (x[..., 1:] - t) / scale(s)], -1)

    return inverse


def of_tanh(z):
    return np.log(1 - np.tanh(z) ** 2)


def of_sigmoid(z):
    s = 1 / (1 + np.exp(-z))
    return np.log(s * (1 - s))


def clipped_spline(f, z):
    """The bound is taken for the end of the map: beyond it, the identity is forgotten."""
    return np.where(np.abs(z) > 2, 0.5, f.log_det(z))


def second_coupling(f, z):
    first, second = f.stages
    y, log_det = first.forward_and_log_det(z)
    return log_det + np.clip(s_of(second, y), -5, 5)


WRONG = {
    "tanh: log(1 - x^2)": (Tanh(), "log_det", lambda f, z: of_tanh(z)),
    "tanh: log(1 - x^2 + 1e-8)": (Tanh(), "log_det", lambda f, z: np.log(1 - np.tanh(z) ** 2 + 1e-8)),
    "tanh: artanh as one logarithm": (Tanh(), "inverse", lambda f, x: np.log((1 + x) / (1 - x)) / 2),
    "sigmoid: log(s (1 - s))": (Sigmoid(), "log_det", lambda f, z: of_sigmoid(z)),
    "sigmoid: clipped": (Sigmoid(), "forward", lambda f, z: np.clip(f.forward(z), 1e-15, 1 - 1e-15)),
    "softplus: log(1 + exp z)": (Softplus(), "forward", lambda f, z: np.log(1 + np.exp(z))),
    "softplus: the identity from 20 on": (Softplus(), "forward", lambda f, z: np.where(z > 20, z, f.forward(z))),
    "softplus: log(exp x - 1)": (Softplus(), "inverse", lambda f, x: np.log(np.exp(x) - 1)),
    "softsign: log(1 + |z|)": (refflow.Softsign(), "log_det", lambda f, z: -2 * np.log(1 + np.abs(z))),
    "normal: 1/2 (1 + erf)": (refflow.NormalCDF(0.0, 1.0), "forward", lambda f, z: (1 + special.erf(z / np.sqrt(2))) / 2),
    "affine: a guarded division": (Affine(0.5, 2.0), "inverse", lambda f, x: (x - f.shift) / (f.scale + 1e-8)),
    "tanh: nothing at 0": (Tanh(), "forward", lambda f, z: np.where(z == 0, 1, f.forward(z))),
    "tanh: nothing at -0": (Independent(Tanh(), 1), "forward", lambda f, z: np.where((z == 0) & np.signbit(z), 1, f.forward(z))),
    "leaky relu: neither slope at 0": (refflow.LeakyReLU(0.25), "log_det", lambda f, z: np.log(0.25) * (1 - np.sign(z)) / 2),
    "leaky relu: a float32 constant": (refflow.LeakyReLU(0.01), "log_det", lambda f, z: np.where(
        z < 0, np.float64(np.log(np.float32(0.01))), 0)),
    "spline: nothing beyond the bound": (SPLINE, "log_det", clipped_spline),
    "chain: tanh last": (Chain([Affine(0.5, 2.0), Tanh()]), "log_det", lambda f, z: np.log(2) + of_tanh(2 * z + 0.5)),
    "chain: tanh first": (Chain([Tanh(), Affine(0.5, 2.0)]), "log_det", lambda f, z: np.log(2) + of_tanh(z)),
    "chain: sigmoid": (Chain([Affine(0.5, -2.0), Sigmoid()]), "log_det", lambda f, z: np.log(2) + of_sigmoid(0.5 - 2 * z)),
    "chain: softplus": (Chain([Affine(0.5, 2.0), Softplus()]), "forward", lambda f, z: np.log(1 + np.exp(2 * z + 0.5))),
    "independent: tanh": (Independent(Tanh(), 1), "log_det", lambda f, z: of_tanh(z).sum(-1)),
    "inverse of sigmoid: a guard": (Inverse(Sigmoid()), "forward", lambda f, z: np.log(z) - np.log(1 - z + 1e-8)),
    "coupling: a guarded division": (EXP, "inverse", coupling_inverse(lambda s: np.exp(s) + 1e-8)),
    "coupling: the logarithm of exp s": (AffineCoupling([True, False], THROUGH_0), "log_det",
                                         lambda f, z: np.log(np.exp(s_of(f, z)))),
    "coupling: s clipped": (EXP, "log_det", lambda f, z: np.clip(s_of(f, z), -5, 5)),
    "coupling: log(sigmoid)": (Coupling([True, False], NET, affine_family(SigmoidScale())), "log_det",
                               lambda f, z: np.log(1 / (1 + np.exp(-s_of(f, z) - 2)))),
    "chain of couplings: s clipped in the second": (Chain([EXP, AffineCoupling([True, False], THROUGH_0)]), "log_det",
                                                    second_coupling),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_formula_is_found_in_an_instance(kind):
    f, key, wrong = WRONG[kind]

    def mine(params, z):
        found = {"forward": f.forward(z), "log_det": f.log_det(z)}
        return found | {key: (lambda x: wrong(f, x)) if key == "inverse" else wrong(f, z)}

    report = check(adapter(f, dtype="float64")(mine))
    assert {found.quantity for found in report.failed} == {key}, report.table()


RIGHT_MAPS = [kind for k, kind in enumerate(WRONG) if WRONG[kind][0] not in [WRONG[other][0] for other in list(WRONG)[:k]]]


@pytest.mark.parametrize("kind", RIGHT_MAPS)
def test_the_right_map_passes(kind):
    """In both dtypes, in everything that can be asked."""
    report = check(adapter(WRONG[kind][0])(own(WRONG[kind][0])))
    assert not report.failed and not report.skipped, report.table()


RIGHT = {
    "coupling": (EXP, {"inverse": coupling_inverse(np.exp), "log_det": s_of}),
    "coupling, through 0": (AffineCoupling([True, False], THROUGH_0), {"inverse": coupling_inverse(np.exp), "log_det": s_of}),
    "softplus": (Chain([Affine(0.5, 0.75), Softplus()]), {
        "forward": lambda f, z: np.logaddexp(0, f.stages[0].scale * z + f.stages[0].shift),
        "log_det": lambda f, z: np.log(f.stages[0].scale) - np.logaddexp(0, -(f.stages[0].scale * z + f.stages[0].shift))}),
}


@pytest.mark.parametrize("kind", RIGHT)
def test_plain_code_passes(kind):
    """What one would write without a thought for the ends of the range."""
    f, formulas = RIGHT[kind]

    def mine(params, z):
        g = f.astype(z.dtype)
        return {key: (lambda x, one=one: one(g, x)) if key == "inverse" else one(g, z) for key, one in formulas.items()}

    assert not check(adapter(f)(mine)).failed


# -- what is asked ----------------------------------------------------------------------------------------------------

def asked(f, side, dtype=np.float64):
    points = [p for p in instance_points(f, np.dtype(dtype), smallest_shape(f)) if p.side == side and p.image_bar is None]
    return {case: np.concatenate([p.event if p.lead else p.event[None] for p in points if p.case == case])
            for case in dict.fromkeys(p.case for p in points)}


@pytest.mark.parametrize("f", [Tanh(), Chain([Affine(0.5, 2.0), Softplus()]), Independent(Tanh(), 1)],
                         ids=lambda f: type(f).__name__)
@pytest.mark.parametrize("dtype, low, high", [(np.float64, -1074, 1000), (np.float32, -149, 126)])
def test_every_binade_of_both_signs_is_asked(f, dtype, low, high):
    """But for the last ones, where a number between two parts is near the ends of the range."""
    z = asked(f, "forward", dtype)["a binade"].ravel()
    exponents = np.frexp(z)[1] - 1
    for sign in (-1, 1):
        missing = set(range(low + 8, high - 12)) - set(exponents[np.sign(z) == sign].tolist())
        assert not missing, sorted(missing)


def test_the_hard_cases_of_a_stage_are_moved_back():
    """At a stage behind a shift, and the breaks of a spline one float beside."""
    z = asked(Chain([Affine(0.5, 2.0), Tanh()]), "forward")["a number of a hard case of stage 1"]
    assert {(19.1 - 0.5) / 2, (350.0 - 0.5) / 2, -0.25} <= set(z.tolist())
    x = asked(Chain([SPLINE, Affine(1.0, 2.0)]), "inverse")["a break of stage 1"]
    for knot in (0.5, 2.0):
        image = 2 * knot + 1
        assert {np.nextafter(image, 0), image, np.nextafter(image, 9)} & set(x.tolist()), x


def test_the_breaks_of_a_spline_are_asked():
    z = asked(SPLINE, "forward")["a break"]
    for knot in SPLINE.input_knots:
        assert {np.nextafter(knot, -9), knot, np.nextafter(knot, 9)} <= set(z.tolist())


def test_a_coupling_meets_the_hard_numbers_of_its_scale():
    f = Coupling([True, False], NET, affine_family(ClampedExpScale(-5.0, 3.0)))
    s = s_of(f, asked(f, "forward")["a hard case of its scale"])
    for end in (-5.0, 3.0):
        assert (np.abs(s - end) < 1e-12).any()


def test_where_a_rounding_leaves_the_next_set_right_code_is_not_asked():
    """tanh rounds to 1 in float32, where artanh is infinite; z is a number."""
    f = Chain([Tanh(), Inverse(Tanh())])
    assert not check(adapter(f, dtype="float32")(own(f))).failed
    for z in asked(f, "forward", np.float32).values():
        assert np.abs(z).max() < 8


def test_a_chain_whose_image_is_smaller_than_its_codomain_is_asked():
    """The last stage shifts what is positive: its codomain is the whole line, and most of it has no latent."""
    f = Chain([Softplus(), Affine(shift=2.0)])
    report = check(adapter(f)(own(f)))
    assert not report.failed and {"inverse", "inverse_vjp.x_bar"} <= {passed.quantity for passed in report.passed}
    report = check(adapter(f)(lambda params, z: own(f)(params, z) | {"inverse_log_det": lambda x: -f.log_det(z)}))
    assert {failed.quantity for failed in report.failed} == {"inverse_log_det"}


# -- switches of the parts --------------------------------------------------------------------------------------------

AFFINE = Affine(0.3, 1.7)
BETWEEN = Chain([AFFINE, Tanh(), Affine(0.5, 2.0)])
FIRST = Chain([Tanh(), Affine(0.5, 2.0)])           # its latents have no stage whose moderate binades reach the ends of tanh
CURVE = refflow.RationalQuadraticSpline([-1.7, -0.6, 0.9, 2.1], [-2.0, 0.0, 0.5, 2.0], [1.0, 0.5, 3.0, 1.0])
WEIGHTS = np.random.default_rng(3).normal(size=(2, 11))
IN_COUPLING = Coupling([True, False], Dense(W=WEIGHTS[0, :5, None], b=WEIGHTS[1, :5]),
                       Family(refflow.RationalQuadraticSpline, SPLINES["nflows"](2, 3.0)))


def clamped_tanh(params, x):
    """The inverse of FIRST by artanh of a number that is kept 1e-6 away from the ends."""
    y = np.clip((x - 0.5) / 2, -1 + 1e-6, 1 - 1e-6)
    return np.arctanh(y)


def softplus_of_threshold(params, z):
    """As torch has it: from 20 on, the identity."""
    y = 1.7 * z + 0.3
    return np.where(y > 20, y, np.logaddexp(0, y))


def halves_of_bins(params, z):
    """CURVE by one formula left of the middle of a bin and another right of it: the middle itself is in neither."""
    f = Chain([AFFINE, CURVE])
    y, knots = f.stages[0].forward(z), CURVE.input_knots
    middle = np.abs(y[..., None] - (knots[1:] + knots[:-1]) / 2) <= 1e-15
    return np.where(middle.any(-1), 0, f.forward(z))


def bins_from_the_left(params, z):
    """A bin is sought as the number of knots below an event: at the first knot it is -1, the last bin."""
    f = IN_COUPLING.unchecked(np.float64)
    spline = f.map_at(f.net.forward(z[..., :1]))[0]
    last = {key: getattr(spline, key)[..., -2:] for key in ("input_knots", "output_knots", "slopes")}
    return np.where(z == -3.0, np.concatenate([z[..., :1], beyond(last, z[..., 1:])], -1), f.forward(z))


def beyond(bin, y):
    (z_0, z_1), (x_0, x_1), (g_0, g_1) = (np.moveaxis(bin[key], -1, 0) for key in ("input_knots", "output_knots", "slopes"))
    s, t = (x_1 - x_0) / (z_1 - z_0), (y - z_0) / (z_1 - z_0)
    return x_0 + (x_1 - x_0) * (s * t * t + g_0 * t * (1 - t)) / (s + (g_0 + g_1 - 2 * s) * t * (1 - t))


PLANTED = {
    "tanh: a clamp at 1 - 1e-6": (FIRST, "inverse", clamped_tanh),
    "softplus: the identity from 20 on": (Chain([AFFINE, Softplus()]), "forward", softplus_of_threshold),
    "spline: nothing in the middle of a bin": (Chain([AFFINE, CURVE]), "forward", halves_of_bins),
    "spline in a coupling: the first knot in the last bin": (IN_COUPLING, "forward", bins_from_the_left),
}
ONLY_AT_SWITCHES = "tanh: a clamp at 1 - 1e-6", "spline: nothing in the middle of a bin"


def found_in(f, key, wrong):
    """The quantities that a check finds wrong in code that has only one of them."""
    def mine(params, event):
        return {key: (lambda x: wrong(params, x)) if key == "inverse" else wrong(params, event)}

    return {found.quantity for found in check(adapter(f, dtype="float64")(mine)).failed}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_wrong_part_is_found_in_a_composition(kind):
    f, key, wrong = PLANTED[kind]
    assert found_in(f, key, wrong) == {key}


@pytest.mark.parametrize("kind", ONLY_AT_SWITCHES)
def test_what_only_switches_and_ends_of_parts_show(kind, monkeypatch):
    """Without them it passes; the other kinds of events see the rest of what is planted."""
    for name in ("at_switches", "at_ends"):
        monkeypatch.setattr(Hard, name, lambda self, junction, k, way: self.none(junction))
    assert not found_in(*PLANTED[kind])


def test_kappa_is_known_near_the_end_of_a_stage(monkeypatch):
    """There only a smaller step than that of all other differences stays in the stage's set."""
    monkeypatch.setattr("refflow.accuracy.kappa.ROUNDINGS", np.inf)
    assert not found_in(*PLANTED["tanh: a clamp at 1 - 1e-6"])


def in_another_order(f):
    """f with (z + shift/scale) scale as its first stage."""
    first, rest = f.stages[0], Chain(f.stages[1:])
    lifted = isinstance(first, Independent)
    shift, scale = (getattr(first.inner if lifted else first, key) for key in ("shift", "scale"))

    def mine(params, z):
        g, s, t = rest.astype(z.dtype), z.dtype.type(scale), z.dtype.type(shift / scale)
        of_first = (z.shape[-1] if lifted else 1) * np.log(s)
        (x, log_det), pullback = g.vjp((z + t) * s)
        return {"forward": x, "log_det": log_det + of_first, "vjp": lambda *bars: (pullback(*bars)[0] * s, {}),
                "inverse": lambda x: g.inverse(x) / s - t, "inverse_log_det": lambda x: g.inverse_and_log_det(x)[1] - of_first,
                "inverse_vjp": lambda x, z_bar, log_det_bar: (g.inverse_vjp(x)[1](z_bar / s, log_det_bar)[0], {})}

    return mine


JUMPS = Chain([AFFINE, refflow.LinearSpline([-1.7, -0.6, 0.9, 2.1], [-2.0, 0.0, 0.5, 2.0])])


@pytest.mark.parametrize("f", [BETWEEN, Chain([AFFINE, Softplus(), Affine(2.0, 0.7)]), Chain([AFFINE, CURVE]), JUMPS,
                               Chain([AFFINE, refflow.LeakyReLU(0.1)])], ids=lambda f: type(f.stages[1]).__name__)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_another_order_of_the_same_operations_passes(f, dtype):
    report = check(adapter(f, dtype=dtype)(in_another_order(f)))
    assert len(report.passed) >= 6 and not report.failed, report.table()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_chain_in_torch_passes(dtype):
    torch = pytest.importorskip("torch")
    shift, scale = (torch.tensor(number, dtype=getattr(torch, dtype)) for number in (0.3, 1.7))

    def mine(params, z):
        y = torch.addcmul(shift, scale, torch.from_numpy(z))
        return {"forward": torch.logaddexp(torch.zeros_like(y), y), "log_det": torch.log(scale) + torch.nn.functional.logsigmoid(y)}

    assert not check(adapter(Chain([AFFINE, Softplus()]), dtype=dtype)(mine)).failed


@pytest.mark.parametrize("f", [BETWEEN, Chain([AFFINE, Softplus()]), Chain([AFFINE, refflow.NormalCDF(0.0, 1.0)]),
                               IN_COUPLING], ids=["tanh", "softplus", "normal", "spline in a coupling"])
def test_the_truth_at_switches_is_near_balls(f):
    """In units of its own kappa, where that can judge: a wrong truth would blame right code."""
    pytest.importorskip("flint")
    measure = pytest.importorskip("refflow.truth.measure")
    found, unsteady = [], 0
    for point in instance_points(f, np.dtype("float64")):
        if point.lead and ("a switch" in point.case or "an end" in point.case):
            for i in range(0, len(point.event), 16):
                one = point.single(i)
                of = measure.truth_at_z if one.side == "forward" else measure.truth_at_x
                for name, truth in run_time_truth(one).items():
                    found.append(away(truth, of(f, one.event)[name]))
                    if found[-1] > 2 and not is_steady(one, name):
                        unsteady, found = unsteady + 1, found[:-1]
    assert 0 < max(found) <= 2 and unsteady <= len(found) / 10


def away(truth, quantity):
    """How far a truth is from balls, in its units."""
    value = np.array([float(ball.mid()) for ball in quantity.value]).reshape(quantity.shape)
    return float(np.max(np.abs(truth.high - value) / np.maximum(truth.unit, np.finfo(np.float64).tiny)))


def test_a_wrong_truth_is_away_from_balls():
    pytest.importorskip("flint")
    measure = pytest.importorskip("refflow.truth.measure")
    point = Point(BETWEEN, "forward", np.array(0.25))
    truth, ball = run_time_truth(point)["log_det"], measure.truth_at_z(BETWEEN, point.event)["log_det"]
    assert away(truth, ball) <= 2 < away(replace(truth, high=truth.high * (1 + 2.0**-40)), ball)


def extreme_slopes(dtype):
    """How many events with cotangents have a stage whose slope is beyond the range, in exp of exp."""
    f, count = Chain([AFFINE, Exp(), Affine(0.0, -1.0), Exp()]).astype(dtype), 0
    for point in instance_points(f, np.dtype(dtype)):
        if point.image_bar is not None and point.case != "drawn" and point.side == "forward":
            event, log_dets = point.event, []
            for stage in f.stages:
                event, log_det = stage.forward_and_log_det(event)
                log_dets.append(log_det)
            count += np.abs(log_dets).max() >= np.log(np.finfo(dtype).max)
    return count


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cotangents_are_asked_where_every_slope_is_ordinary(dtype, monkeypatch):
    assert extreme_slopes(dtype) == 0
    monkeypatch.setattr(Hard, "ordinary_slopes", lambda self, events: np.full(len(events), True))
    assert extreme_slopes(dtype) > 0


load_all()
BIJECTORS = of_kind("bijector", components=True)


@pytest.mark.parametrize("name", BIJECTORS)
def test_no_composition_blames_itself(name):
    """The values of an example in float32, whose truth is refflow's float64 method."""
    f, _ = example(BIJECTORS[name], RandomSource(np.random.default_rng(0)), np.float64)

    def mine(params, z):
        g = f.astype(z.dtype)
        return {"forward": g.forward(z), "log_det": g.log_det(z), "inverse": g.inverse,
                "inverse_log_det": lambda x: g.inverse_and_log_det(x)[1]}

    report = check(adapter(f, dtype="float32")(mine))
    assert report.passed and not report.failed, report.table()


def test_no_composition_blames_itself_for_factors_that_are_subnormal():
    """tanh' is 7 subnormal spacings in the network, and is multiplied by an event of 68."""
    f, _ = example(BIJECTORS["AdditiveCoupling"], RandomSource(np.random.default_rng(3)), np.float64)
    report = check(adapter(f, dtype="float32")(own(f)))
    assert len(report.passed) >= 6 and not report.failed, report.table()


@pytest.mark.parametrize("f", [IN_COUPLING, Chain([AFFINE, CURVE]), Independent(Tanh(), 1)], ids=lambda f: type(f).__name__)
def test_points_asked_together_have_the_truths_of_points_asked_alone(f):
    several = 0
    for group in together(instance_points(f, np.dtype("float64"))):
        for point, truths in zip(group, run_time_truths(tuple(group), True) if len(group) > 1 else ()):
            alone, several = run_time_truth(point, True), several + 1
            assert truths.keys() == alone.keys()
            for name, truth in truths.items():
                for key, value in vars(truth).items():
                    np.testing.assert_array_equal(value, vars(alone[name])[key], err_msg=f"{name}, {key}")
    assert several >= 20


def test_points_of_several_bijectors_or_shapes_are_asked_alone():
    of_tanh, of_chain = ([p for p in instance_points(f, np.dtype("float64")) if p.image_bar is not None][:2]
                         for f in (Tanh(), Chain([AFFINE, CURVE])))
    assert [len(group) for group in together(of_tanh + of_chain + [replace(of_chain[0], truth={})])] == [2, 2, 1]


def test_an_equation_is_not_asked_far_away():
    """There a solver may find no root, which says nothing of the code that is checked."""
    f = Chain([refflow.Gaussianization([1.0, 1.0], [0.5, -1.0])])
    report = check(adapter(f, dtype="float64")(lambda params, z: {"forward": f.forward(z), "log_det": f.log_det(z)}))
    assert len(report.passed) == 2 and not report.failed


def test_events_at_the_end_of_the_floats_are_drawn_without_a_warning():
    assert sum(point.side == "inverse" for point in instance_points(refflow.LOFT(100.0), np.dtype("float32"))) > 20


SOLVED = refflow.DeepSigmoid(weights=[1.0], rate=[9.791542499451516], bias=[-1.862023668469546])


@pytest.mark.parametrize("f", [Chain([SOLVED, AFFINE]), Chain([AFFINE, Inverse(SOLVED)])], ids=["forth", "back"])
def test_events_at_which_a_solver_gives_up_are_left_out(f, monkeypatch):
    """The other events of the same kind are asked."""
    exact = mixture.increasing_root

    def gives_up(*given):
        found = exact(*given)
        if np.any((found != 0) & (np.abs(found) < 2.0**-1000)):
            raise ArithmeticError("no root")
        return found

    monkeypatch.setattr(mixture, "increasing_root", gives_up)
    assert {point.side for point in instance_points(f, np.dtype("float64"))} == {"forward", "inverse"}
    monkeypatch.setattr(instances, "by_parts", lambda function, events, refused: function(events))
    with pytest.raises(ArithmeticError):
        list(instance_points(f, np.dtype("float64")))


# -- compositions whose sets are larger than what every stage takes ---------------------------------------------------

NARROW = {
    "SoftClip of TFP": Chain([Affine(shift=1.0), Softplus(), Affine(scale=-1.0, shift=3.0), Softplus(), Affine(scale=-0.98, shift=2.0)]),
    "Moyal": refflow.moyal_cdf(0.5, 1.5),
    "Gompertz": refflow.gompertz_cdf(0.5, 1.5),
    "generalised extreme values": refflow.generalised_extreme_value_cdf(0.5, 1.5, -2.0),
}


def answers_of(f, wrong=0.0):
    @adapter(f, dtype="float64")
    def theirs(params, z):
        return {"forward": f.forward(z), "log_det": f.log_det(z) + wrong, "inverse": f.inverse}

    return theirs


@pytest.mark.parametrize("name", NARROW)
def test_an_event_that_leaves_the_set_of_a_stage_is_left_out_alone(name):
    """Its truth moves it; the others of its batch are asked, and the report says so."""
    report = check(answers_of(NARROW[name]))
    left_out = sum(one.left_out.get("moved for its truth, it leaves the set of a stage", 0) for one in report.asked)
    assert left_out < sum(one.events for one in report.asked) / 4 and (left_out > 0) == (name in ("Moyal", "SoftClip of TFP"))
    assert {found.quantity for found in report.passed} >= {"forward", "log_det"} and not report.failed
    assert {found.quantity for found in check(answers_of(NARROW[name], 1e-3)).failed} == {"log_det"}


def test_the_plainest_event_may_be_outside_the_set_of_a_stage():
    """Half a turn takes 0 to an end of the circle, which the spline after it refuses."""
    ends = np.array([-np.pi, np.pi], np.float32)
    spline = refflow.Inverse(refflow.OpenInterval(ends))
    f = Chain([refflow.CircularShift(ends=ends, turns=0.5), spline])
    assert {point.side for point in instance_points(f, np.dtype("float32"))} == {"forward", "inverse"}


def test_an_adapter_of_a_library_that_raises_ends_its_own_part(monkeypatch):
    """One of a user's is an error of use."""
    def theirs(params, z):
        raise KeyError("missing")

    with pytest.raises(CannotRun, match="the adapter itself raised"):
        check(adapter("Tanh", dtype="float64")(theirs))
    monkeypatch.setattr(theirs, "__module__", "refflow.peers.mine")
    report = check(adapter("Tanh", dtype="float64")(theirs))
    assert {(one.quantity, one.reason.split(":")[0]) for one in report.skipped} == {("all", "it could not be asked")}
    assert not report.passed and not report.failed


# -- images -----------------------------------------------------------------------------------------------------------

MATRIX = np.array([[2.0, 0.5, 0.0], [-0.25, 1.0, 0.5], [0.0, 0.75, 1.5]])
IMAGE_MAPS = {"pointwise": Pointwise(DenseLinear(MATRIX)), "actnorm": GlowActNorm([0.1, 0.2, -0.1], rank=3),
              "lifted": Independent(Affine(0.0, np.array([0.5, 2.0, 3.0])[:, None, None]), 3)}


@pytest.mark.parametrize("f, shapes", [
    (IMAGE_MAPS["pointwise"], [(3, 2, 4), (3, 4, 5)]), (Chain([Squeeze(2)]), [(3, 2, 4), (3, 4, 6)]),
    (Inverse(Squeeze(2)), [(8, 2, 3), (8, 3, 4)]), (Independent(Tanh(), 2), [(2, 3), (3, 4)]), (Independent(Tanh(), 1), [(2,), (3,)]),
    (Reshape((1, 2, 2), (4,)), [(1, 2, 2)]), (Tanh(), [()])], ids=str)
def test_shapes_of_images_differ_in_what_a_pixel_hides(f, shapes):
    """Axes that are free have 2 or more entries, no two as many; and the second shape has another number of positions."""
    assert composite_shapes(f) == shapes
    asked = {p.event.shape[p.lead:] for p in instance_points(f, np.dtype("float64")) if p.side == "forward"}
    assert asked == {*shapes, smallest_shape(f)}


def checked_with(f, log_det):
    def mine(params, z):
        g = f.astype(z.dtype)
        return {"forward": g.forward(z), "log_det": log_det(g, z), "inverse": g.inverse}

    return check(adapter(f, dtype="float64")(mine))


def at_one_position(f, z):
    return f.log_det(z) / np.prod(z.shape[-2:])


@pytest.mark.parametrize("kind", ["pointwise", "actnorm"])
def test_a_log_det_of_one_position_is_found(kind):
    f = IMAGE_MAPS[kind]
    report = checked_with(f, at_one_position)
    assert {one.quantity for one in report.failed} == {"log_det"}
    assert all("the number of positions is missing: H W" in one.diagnosis for one in report.failed), report.table()
    assert "in events of shape (3, 1, 1), (3, 2, 4), (3, 4, 5)" in report.table()
    assert not checked_with(f, lambda g, z: g.log_det(z)).failed


@pytest.mark.parametrize("wrong", [lambda f, z: f.log_det(z) * (8 / np.prod(z.shape[-2:]) if z.shape[-2:] != (1, 1) else 1),
                                   lambda f, z: f.log_det(z) * (z.shape[-1] / z.shape[-2])], ids=["8 positions", "W W"])
def test_a_number_of_positions_that_is_right_at_one_shape_alone_is_found(wrong):
    assert {one.quantity for one in checked_with(IMAGE_MAPS["pointwise"], wrong).failed} == {"log_det"}


def test_the_order_of_the_channels_of_a_squeeze_is_asked():
    f = Chain([Squeeze(2)])

    def other_order(params, z):
        x = f.forward(z)
        blocks = x.reshape(*x.shape[:-3], 4, -1, *x.shape[-2:])
        return {"forward": blocks.swapaxes(-4, -3).reshape(x.shape)}

    assert [one.quantity for one in check(adapter(f, dtype="float64")(other_order)).failed] == ["forward"]


def test_a_box_is_asked_at_its_own_event():
    """And nowhere else, so that one whose shape is fixed is right."""
    f = IMAGE_MAPS["pointwise"]
    for direction in ("forward", "inverse"):
        there, back = (f, Inverse(f)) if direction == "forward" else (Inverse(f), f)
        box = BlackBox(lambda z, there=there: there.forward_and_log_det(z.reshape(-1, 3, 2, 4)), back.forward, event=(3, 2, 4),
                       direction=direction)
        report = refflow.check(box, page=f)
        assert not report.failed and {tuple(map(tuple, one.shapes)) for one in report.asked} == {((3, 2, 4),)}, report.table()
    forgets = BlackBox(lambda z: (f.forward(z), f.log_det(z) / 16), event=(3, 4, 4))
    found, = refflow.check(forgets, page=f).failed
    assert found.diagnosis == "the number of positions is missing: H W = 16 times this is right"


@pytest.mark.parametrize("event, page, words", [
    ((3,), Tanh(), r"have shape \(3,\); events of Tanh have 0 axes: lift it"), ((), Independent(Tanh(), 1), "have 1 axes"),
    ((2, 4, 4), IMAGE_MAPS["pointwise"], r"have shape \(2, 4, 4\)"), ((3, 32, 32), IMAGE_MAPS["pointwise"], "up to 256 numbers")])
def test_a_box_of_other_events_is_refused(event, page, words):
    with pytest.raises(CannotRun, match=words):
        refflow.check(BlackBox(lambda z: z, event=event), page=page)
