"""The unit of error: kappa of maps whose derivatives are known, what parts of a composition hand on, and points that share it."""

from __future__ import annotations

import numpy as np
import pytest

from refflow import (REGISTRY, Affine, AffineCoupling, BernsteinPolynomial, Chain, Concatenate, Coupling, DenseLinear, Exp,
                     Independent, IntrinsicVolume, Inverse, RationalQuadraticSpline, SinhArcsinh, Softmax, StickBreaking,
                     SumOfSquares, Tanh)
from refflow.accuracy.kappa import (Sensitivity, constant_of, differenced, event_of, hands_on, image_shape, kappa, kappa_inverse,
                                    normwise, per_event, spreads, value_and_log_det, with_leaf)
from refflow.accuracy.points import Points, forward_derivatives, nets_of, stays_inside
from refflow.core import bijector, positive
from refflow.maps.conditioners import Contextual, Dense, Sequential, TanhActivation
from refflow.maps.coupling import Family, affine_family
from refflow.maps.elementwise import ExpScale
from refflow.maps.parametrisations import SPLINES, Free, MatrixEntries, PerField, PerPart

Z = np.array([0.5, -2.0, 3.0])


def couplings():
    """An affine coupling of two numbers, one by splines, whose knots a network makes, and one by polynomials with a shift."""
    spline = Family(RationalQuadraticSpline, SPLINES["nflows"](2, 3.0))
    polynomial = Family(SumOfSquares, PerPart(("coefficients", "shift"), (MatrixEntries(2, 2), PerField(("shift",), (Free(),)))))
    g = np.random.default_rng(0)
    return [Coupling([True, False], Dense(g.standard_normal((family.size, 1)) / 4, g.standard_normal(family.size) / 4), family)
            for family in (affine_family(ExpScale()), spline, polynomial)]


def points(f, z, dtype=np.float64):
    z = np.asarray(z, dtype)
    x, log_det = f.forward_and_log_det(z)
    return Points(f, z, np.ones_like(x), np.ones_like(z), np.ones_like(log_det))


# -- the constant -----------------------------------------------------------------------------------------------------

def test_the_constant_grows_with_the_terms_of_a_sum():
    f = DenseLinear(np.eye(2))
    assert [constant_of(f, size) for size in (1, 2, 3, 8)] == [4, 5, 5.5, 8]
    mixture = BernsteinPolynomial([-1.0, 0.0, 1.0, 2.0])
    assert mixture.terms == 4 and constant_of(mixture, 1) == 8 + 2          # its inverse is a solver's
    assert constant_of(Chain((Affine(1.0, 2.0), Tanh(), mixture)), 1) == 4 + 4 + 10 and points(f, np.ones((1, 2))).C == 5


def test_matrices_are_measured_in_norms():
    assert normwise(DenseLinear(np.eye(2))) and normwise(Chain((Independent(Tanh(), 1), DenseLinear(np.eye(2)))))
    assert not normwise(Chain((Tanh(), Affine(1.0, 2.0))))


# -- kappa of known maps ----------------------------------------------------------------------------------------------

def test_numbers_along_tangents_and_the_room_of_what_they_are_made_of():
    q, w = np.array([[1.0, 2.0, -3.0]]), np.array([[2.0, -1.0]])
    on_plane, by_volume = points(Softmax(), [[1.0, -4.0, 3.0]]), points(IntrinsicVolume("simplex"), [[0.5, 0.125, 0.375]])
    F, C = on_plane.tangents[0], by_volume.dual_tangents[0]
    assert np.allclose(on_plane.along(q), q @ F) and np.allclose(on_plane.along(q, room=True), q @ np.abs(F))
    assert np.allclose(by_volume.entries(w), w @ C.T) and np.allclose(by_volume.entries(w, room=True), w @ np.abs(C).T)
    assert (F < 0).any() and (C < 0).any()


def test_a_part_that_leaves_the_floats_on_its_way_is_seen():
    there_and_back = Chain((Exp(), Inverse(Exp())))
    f = Concatenate((there_and_back, there_and_back), (1, 1))
    z = np.array([[1.0, 2.0], [1.0, 90.0]])
    assert np.array_equal(stays_inside(f, z, 2.0**-20, 1e30), [True, False])


@pytest.mark.parametrize("z", [[0.25, -1.0], [3.0, 2.0]])
def test_log_dets_that_cancel_on_the_way_through_a_set_of_lower_dimension_are_terms(z):
    """There and back, the log-det is 0, and each of two stages rounds its own; the same from behind."""
    sticks = StickBreaking()
    there_and_back, z = Chain((sticks, Inverse(sticks))), np.array([z])
    own = 2 * np.abs(sticks.log_det(z))
    for method in ("vjp", "inverse_vjp"):
        _, of_log_det = value_and_log_det(there_and_back, z, method, False)
        assert np.allclose(np.abs(of_log_det.inputs["terms"]).sum(-1), own, rtol=1e-12)
        assert (of_log_det.kappa[:, 0] >= own * (1 - 1e-12)).all()


def test_the_terms_of_a_log_det_are_those_of_the_stages_in_their_order():
    sticks, z = StickBreaking(), np.array([[0.25, -1.0]])
    f, own = Chain((Independent(Affine(1.0, 2.0), 1), sticks)), [[2 * np.log(2), *sticks.log_det(2 * z + 1)]]
    for method, event, expected in (("vjp", z, own), ("inverse_vjp", f.forward(z), -np.array(own)[:, ::-1])):
        _, of_log_det = value_and_log_det(f, event, method, False)
        assert np.allclose(of_log_det.inputs["terms"], expected, rtol=1e-13)


@pytest.mark.parametrize("z", [Z, np.array(0.0)], ids=["numbers", "0"])
def test_kappa_of_an_affine_map(z):
    """Its own size, and what the event, the scale and the shift add to it; an input of 0 adds nothing."""
    found = kappa(Affine(-1.0, 2.0), z)
    assert np.allclose(found["forward"], np.abs(2 * z - 1) + 2 * np.abs(2 * z) + 1, rtol=1e-15)
    assert np.allclose(found["log_det"], np.log(2) + 1, rtol=1e-15)
    x = 2 * z - 1
    found = kappa_inverse(Affine(-1.0, 2.0), x)
    assert np.allclose(found["inverse"], 2 * np.abs(z) + np.abs(x) / 2 + 0.5, rtol=1e-15)
    assert np.allclose(found["inverse_log_det"], np.log(2) + 1, rtol=1e-15)


def test_kappa_of_shared_parameters_is_of_each_event():
    """A parameter of a batch belongs to its own events, and an event shape is that of the image."""
    f = Independent(Affine([1.0, 4.0], [2.0, 0.5]), 1)
    found = kappa(f, np.ones((3, 2)))["forward"]
    assert np.array_equal(found, [[3 + 4 + 1, 4.5 + 1 + 4]] * 3)
    squeeze, z = REGISTRY["Squeeze"](), np.ones((5, 1, 4, 4))
    assert kappa(squeeze, z)["forward"].shape == image_shape(squeeze, z, 0) == (5, 4, 2, 2)
    assert kappa_inverse(squeeze, np.ones((5, 4, 2, 2)))["inverse"].shape == (5, 1, 4, 4)


A, B = (3.0, 2.0), (-8.0, 0.5)                  # x = z 2 + 3, x/2 - 8, x/2 - 8


@pytest.mark.parametrize("side", [0, 1])
def test_what_the_stages_of_a_chain_hand_on_is_rounded(side):
    """The event before the first stage is an input, and not once more; the events between them are."""
    f, z = Chain((Affine(*A), Affine(*B), Affine(*B))), np.array([0.25, 10.0, -1.0])
    y_1 = 2 * z + 3
    y_2 = y_1 / 2 - 8
    x = y_2 / 2 - 8
    if side == 0:
        inputs = np.abs(z) / 2 * 2 + 3 / 4 + np.abs(y_1) / 4 + 8 / 2 + np.abs(y_2) / 2 + 8      # event and scale, shift; ...
        between = np.abs(y_1) / 4 + np.abs(y_2) / 2
        found = kappa(f, z)["forward"]
        assert np.allclose(found, np.abs(x) + inputs + between, rtol=1e-8)
    else:
        inputs = 2 * np.abs(x) + 2 * np.abs(x + 8) + 2 * 8 + np.abs(y_2 + 8) + 8 + np.abs(y_1 - 3) / 2 + 3 / 2
        between = np.abs(y_2) + np.abs(y_1) / 2
        found = kappa_inverse(f, x)["inverse"]
        assert np.allclose(found, np.abs(z) + inputs + between, rtol=1e-8)


def test_only_rounded_values_are_handed_on():
    affine, spline, _ = couplings()
    assert hands_on(Chain((Tanh(),))) and hands_on(spline) and not hands_on(affine) and not hands_on(Tanh())


@pytest.mark.parametrize("which, page, vectors, others", [
    (1, RationalQuadraticSpline, ("input_knots", "output_knots", "slopes"), ()),
    (2, SumOfSquares, ("coefficients",), ("shift",))])
def test_the_vectors_that_a_network_makes_are_rounded(which, page, vectors, others):
    """What relative changes of knots or coefficients do to the image is what the page's own pullback says."""
    f, z = couplings()[which], np.array([[0.5, -1.0], [2.0, 0.25]])
    found, of_log_det = value_and_log_det(*per_event(f, z), "vjp", False)
    made = f.family.at_values(f.net.forward(z[:, :1]).reshape(2, 1, -1), 1)[0]
    fields = {name: getattr(made, name)[:, 0] for name in (*vectors, *others)}
    for s, bars in ((found, (np.ones(2), np.zeros(2))), (of_log_det, (np.zeros(2), np.ones(2)))):
        expected = page(**fields).vjp(z[:, 1])[1](*bars)[1]
        between = np.concatenate([(expected[name] * fields[name]).reshape(2, -1) for name in vectors], -1)
        assert np.allclose(np.sort(s.slopes["between"][:, -1]), np.sort(between), rtol=1e-4, atol=1e-5)
    assert not found.slopes["between"][:, 0].any() and np.array_equal(found.value, f.forward(z))


# -- sensitivities ----------------------------------------------------------------------------------------------------

SLOPES = {"event": np.array([[[3.0, -4.0], [1.0, np.inf]]]), "field": np.array([[[-2.0], [0.5]]])}
INPUTS = {"event": np.array([[1.0, 0.0]]), "field": np.array([[-5.0]])}


@pytest.mark.filterwarnings("ignore:invalid value")
def test_parts_of_a_sensitivity():
    s = Sensitivity(np.array([[-7.0, 1.0]]), SLOPES, INPUTS)
    assert np.array_equal(s.part("event"), [[3, 1]]) and np.array_equal(s.part("field"), [[10, 2.5]])
    assert np.array_equal(s.kappa, [[20, 4.5]])


@pytest.mark.filterwarnings("ignore:invalid value")
def test_how_far_a_value_moves():
    """An entry that does not move adds nothing, whatever its slope."""
    s = Sensitivity(np.array([[-7.0, 1.0]]), SLOPES, INPUTS)
    assert np.array_equal(s.moved("event", np.array([[-2.0, 0.0]])), [[6, 2]])
    assert np.array_equal(s.moved("event", np.array([[1.0, 1.0]])), [[7, np.inf]])
    norm = Sensitivity(np.array([[0.0, 0.0]]), {"event": np.array([[[3.0, 0.0], [0.0, 5.0]]])}, {"event": np.ones((1, 2))}, True)
    assert np.allclose(norm.moved("event", np.array([[3.0, -4.0]])), 25, rtol=1e-14)
    slopes = np.diag([3.0, 5.0]) * np.ones((2, 3, 1, 1))
    many = Sensitivity(np.zeros((2, 3, 2)), {"event": slopes}, {"event": np.ones((2, 3, 2))}, True)
    by = np.arange(1.0, 7.0).reshape(2, 3, 1) * [3.0, -4.0]
    assert np.allclose(many.moved("event", by), 25 * np.arange(1.0, 7.0).reshape(2, 3, 1) * np.ones(2), rtol=1e-14)


def test_a_norm_is_of_each_block():
    s = Sensitivity(np.array([[3.0, 4.0]]), {"event": np.array([[[2.0, 0.0], [0.0, 1.0]]]), "b": np.array([[[3.0], [4.0]]])},
                    {"event": np.array([[6.0, 8.0]]), "b": np.array([[-2.0]])}, True)
    assert np.allclose(s.kappa, 5 + 2 * 10 + 5 * 2, rtol=1e-14) and s.kappa.shape == (1, 2)
    assert np.isinf(Sensitivity(s.value, {"event": np.full((1, 2, 2), np.inf)}, s.inputs, True).kappa).all()


def test_constants_are_shared():
    """A constant with batch axes before a declared core is given to each event, as a field is."""
    scale, order = Affine.declared["scale"], REGISTRY["Permutation"].declared["order"]
    assert spreads(scale, np.ones(())) and not spreads(scale, None)
    assert spreads(order, np.zeros((2, 3), int)) and not spreads(order, np.zeros(3, int))


# -- derivatives of derivatives ---------------------------------------------------------------------------------------

def kappas(f, z, x_bar, log_det_bar):
    g, z = per_event(f, np.asarray(z))
    bars = np.full(z.shape, x_bar), np.full(z.shape, log_det_bar)
    return {name: s.kappa[:, 0] for name, s in differenced(forward_derivatives, g, z, bars, False).items()}


def test_the_unit_of_a_pullback_of_tanh():
    """z_bar = x_bar (1 - t^2) - 2 t log_det_bar, with the derivative -2 (1 - t^2) (x_bar t + log_det_bar) in z."""
    z, x_bar, bar = np.array([0.5, 1.0, -2.0]), 3.0, 0.5
    t, slope = np.tanh(z), 1 - np.tanh(z) ** 2
    expected = np.abs(x_bar * slope - 2 * t * bar) + np.abs(2 * slope * (x_bar * t + bar) * z) \
        + np.abs(x_bar * slope) + np.abs(2 * t * bar)
    found = kappas(Tanh(), z, x_bar, bar)
    assert np.allclose(found["event"], expected, rtol=1e-5)
    assert np.allclose(found["jacobian"], slope + np.abs(2 * t * slope * z), rtol=1e-5)
    assert np.allclose(kappas(Tanh(), [0.0], x_bar, bar)["event"], 2 * x_bar, rtol=1e-5)         # 0 has no relative error


def test_the_unit_of_a_pullback_is_of_each_entry_of_a_vector():
    """The entries of a vector are moved one at a time: of a map of each number, kappa is that of the numbers."""
    z, x_bar, bar = np.array([[0.5, 1.0, -2.0], [3.0, 0.25, 0.75]]), 3.0, 0.5
    g, z = per_event(Independent(Tanh(), 1), z)
    found = differenced(forward_derivatives, g, z, (np.full(z.shape, x_bar), np.full(2, bar)), False)
    assert np.allclose(found["event"].kappa, kappas(Tanh(), z.ravel(), x_bar, bar)["event"].reshape(2, 3), rtol=1e-6)


def test_the_unit_of_a_pullback_is_of_the_parameters_too():
    """scale_bar = x_bar z + log_det_bar / scale, and z_bar = x_bar scale."""
    f, z, one = Affine(-1.0, 4.0), np.array([0.5, 1.0, -2.0]), np.ones(3)
    found = kappas(f, z, 3.0, 0.5)
    assert np.allclose(found["event"], 3 * 12, rtol=1e-5) and np.allclose(found["jacobian"], 8, rtol=1e-5)
    assert np.allclose(found["scale",], np.abs(3 * z + 0.125) + 2 * np.abs(3 * z) + 2 * 0.125, rtol=1e-5)
    p = Points(f, z, 3 * one, 5 * one, 0.5 * one)
    assert all(np.allclose(s.kappa[:, 0], found[name], rtol=1e-5) for name, s in p.forward_derivatives.items())
    back = p.inverse_derivatives                            # x_bar = z_bar / scale; scale_bar = -(z_bar z + log_det_bar)/scale
    assert np.allclose(back["event"].kappa, 3 * 5 / 4, rtol=1e-5) and np.allclose(back["shift",].kappa, 3 * 5 / 4, rtol=1e-5)
    of_x_and_shift = (np.abs(5 * p.x / 16) + 5 / 16)        # z/scale is (x - shift)/scale^2
    expected = 2 * np.abs(5 * z / 4 + 0.125) - np.abs(0) + of_x_and_shift + np.abs(5 * z / 4) + 0.125 + np.abs(5 * z / 4)
    assert np.allclose(back["scale",].kappa[:, 0], expected, rtol=1e-5)


def test_a_shared_context_is_one_input():
    nets = [Contextual(Dense([[0.5, 2.0], [1.0, -1.0]], [0.25, -1.0])) for _ in range(2)]
    f = Chain([AffineCoupling([True, False], nets[0]), AffineCoupling([False, True], nets[1])]).at(context=[4.0])
    assert all(stage.net.context == 8 for stage in with_leaf(f, ("context",), np.array([8.0])).stages)
    g = with_leaf(f, ("stages", "0", "net", "inner", "b"), np.zeros(2))
    assert not g.stages[0].net.inner.b.any() and np.array_equal(g.stages[1].net.inner.b, [0.25, -1.0])


def test_the_fields_of_one_event():
    view = per_event(Affine(np.array([1.0, 2.0, 3.0]), 4.0), Z)[0]
    assert [(event_of(view, i).shift, event_of(view, i).scale) for i in range(3)] == [(1, 4), (2, 4), (3, 4)]


def test_cotangents_between_stages_are_rounded():
    """Of exp after tanh: the cotangent of tanh's image is an input of tanh's pullback, and the cotangent of z is not."""
    z, x_bar, bar = np.array([0.5, 1.0, -2.0]), 3.0, 0.5
    t, slope = np.tanh(z), 1 - np.tanh(z) ** 2
    y_bar = x_bar * np.exp(t) + bar
    z_bar = y_bar * slope - 2 * t * bar
    in_t = x_bar * np.exp(t) * slope                            # what t changes, as it is handed on to exp
    in_z = in_t * slope - 2 * slope * (y_bar * t + bar)
    expected = sum(map(np.abs, (z_bar, in_z * z, x_bar * np.exp(t) * slope, bar * (slope - 2 * t), in_t * t, y_bar * slope)))
    assert np.allclose(kappas(Chain((Tanh(), Exp())), z, x_bar, bar)["event"], expected, rtol=1e-5)


# -- points -----------------------------------------------------------------------------------------------------------

ARRAYS = Affine(np.zeros(1), np.ones(1))


@pytest.mark.parametrize("f, dtype, expected", [
    (Tanh(), np.float32, np.float32), (Tanh(), np.float64, np.float64), (ARRAYS, np.float32, np.float64),
    (ARRAYS.astype(np.float32), np.float32, np.float32), (ARRAYS.astype(np.float32), np.float64, np.float64)])
def test_the_dtype_of_points_is_the_maps_and_the_events(f, dtype, expected):
    p = points(f, [1.0], dtype)
    assert p.dtype == expected and p.u == {np.float32: 2.0**-24, np.float64: 2.0**-53}[expected]
    assert p.claims["event"].dtype == expected


@pytest.mark.parametrize("f, z, marks", [
    (Affine(0.0, 2.0**1000), [1.0, 2.0**10, 2.0**20, 2.0**-1000, 0.0], [1, 1, 0, 1, 1]),
    (Affine(0.0, 2.0**-1000), [1.0, 2.0**-10, 2.0**-20, 2.0**20], [1, 1, 0, 1]),
    (Exp(), [1.0, -700.0, -708.0], [1, 1, 0]), (Tanh(), [0.5, 17.0, 19.0], [1, 0, 0]),
    (Chain((Affine(0.0, 2.0**1015), Affine(0.0, 2.0**-1015))), [1.0, 0.25], [0, 1])])
def test_an_interior_image_is_ordinary_and_stays_inside(f, z, marks):
    """Within a factor 2^10 of the ends of the dtype, an image or an intermediate one is not."""
    assert points(f, z).interior.tolist() == [bool(mark) for mark in marks]


@bijector(source="definition", domain=positive, codomain=Affine.codomain, increasing=True, register=False)
class FarAway(Affine):
    """z + 2^50 of z > 0, whose log-det is not known to be constant."""

    constant_log_det = False


def test_an_inverse_is_steady_where_rounding_keeps_z_in_its_domain():
    assert points(FarAway(2.0**50, 1.0), [2.0**-4, 64.0]).interior.tolist() == [False, True]


@pytest.mark.parametrize("f, z, chart", [
    (DenseLinear(np.eye(2)), np.ones((1, 2)), [0, 1]), (REGISTRY["StickBreaking"](), np.ones((1, 2)), [0, 1]),
    (Inverse(REGISTRY["StickBreaking"]()), np.array([[0.25, 0.25, 0.5]]), [0, 1]),
    (REGISTRY["CayleyOrthogonal"](np.eye(2)), np.ones((1, 1)), None)], ids=["square", "chart", "fewer entries", "volume"])
def test_between_tangents_a_jacobian_is_square(f, z, chart):
    p = points(f, z)
    J = p.rows(p.columns(f.jacobian(z)))[0]
    assert (p.chart is None) == (chart is None) and (chart is None or p.chart.tolist() == chart)
    assert J.shape[0] == J.shape[1] and np.isclose(np.linalg.slogdet(J)[1], f.log_det(z)[0])


def test_sizes_and_shapes_of_points():
    f = REGISTRY["StrictTriangle"]()
    p = points(f, np.ones((4, 3)))
    assert (p.batch, p.event_in, p.event_out, p.size_in, p.size_out) == ((4,), (3,), f.output_shape((3,)), 3, 9)
    assert points(REGISTRY["Squeeze"](), np.ones((5, 1, 4, 4))).size_in == 16
    assert p.z64.dtype == np.float64 and p.bars64[0].shape == p.x.shape and p.bars64[1].shape == p.log_det.shape == (4,)
    assert p.inverse_bars64[0].shape == p.z.shape and p.inverse_claims["event"].shape == (4, 9)


LEAST = float(np.finfo(np.float64).smallest_subnormal)


def test_underflow_in_a_net_is_multiplied_by_what_follows_it():
    """By the net's weights and by the slopes, of which the inverse's are large where the map's own are small."""
    assert points(Tanh(), [1.0]).spacing == LEAST
    for slope in (2.0**20, 2.0**-20):
        family = affine_family(ExpScale())
        f = Coupling([True, False], Dense([[64.0], [0.0]], [np.log(slope) - 64, 0.0]), family)
        p = points(f, np.ones((1, 2)))
        assert 64 * 2.0**20 <= p.spacing / LEAST < 64 * 2.0**20 * 2.0**30


def test_kappa_may_overflow():
    """x is finite in float64, and its slope times the parameters is not; nothing warns."""
    z, one = np.full(2, -0.5, np.float32), np.ones(2, np.float32)
    p = Points(SinhArcsinh(-46.75, 15.4).astype(np.float32), z, one, one, one)
    assert np.isfinite(p.forward_sensitivities[0].value).all() and np.isinf(p.forward_sensitivities[0].kappa).all()


def test_the_nets_of_a_map_are_the_outermost():
    f = couplings()[0]
    deep = Sequential((f.net, TanhActivation()))
    g = f.replace(net=deep)
    assert nets_of(f) == [f.net] and nets_of(Chain((g, Inverse(f)))) == [deep, f.net] and nets_of(Tanh()) == []
