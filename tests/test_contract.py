"""The contract with users and adapters: shapes, dtypes, edges, values, context and masks, and the order of imports."""

from __future__ import annotations

import dataclasses
import pickle
import re
from pathlib import Path

import hypothesis
import mpmath
import numpy as np
import pytest

import refflow
from refflow import (ActNorm, Affine, AffineCoupling, CayleyOrthogonal, Chain, CholeskyFactor, Concatenate,
                     CorrelationCholesky, Dense, DenseLinear, Exp, Flow, Independent, Inverse, LogisticCDF,
                     NormalCDF, OrthogonalLinear, PLULinear, Permutation, Pointwise, Power, Reshape, Sigmoid,
                     Softplus, StandardNormal, StickBreaking, StrictTriangle, Tanh, WeibullCDF, stack)
from refflow.accuracy.points import Points
from refflow.core import Array, Bijector, bijector, context, over_event, sequence_mask, over_positions, positive, real
from refflow.core.tree import flatten
from refflow.core.values import Value
from refflow.laws import strategies
from refflow.laws.bijector_laws import run_laws
from refflow.oracle.points.page_points import drawn_points

F32, F64 = np.float32, np.float64
PACKAGE = Path(refflow.__file__).parent


# -- dtypes -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("event, scale, shift, expected", [
    (F64, F64, F64, F64), (F32, F32, F32, F32), (F32, F64, F64, F64), (F64, F32, F32, F64), (F32, F32, F64, F64),
    (F32, None, None, F32), (F64, None, None, F64), (F32, F32, None, F32), (F32, F64, None, F64),
    (int, None, None, F64), (int, F32, None, F64), (list, None, None, F64), (list, F32, None, F64),
    (float, None, None, F64)])
def test_result_dtype(event, scale, shift, expected):
    f = Affine(scale=2.0 if scale is None else np.array(2.0, scale), shift=1.0 if shift is None else np.array(1.0, shift))
    z = {list: [1.0, 2.0], float: 1.5}.get(event, None)
    z = np.array([1, 2], event) if z is None else z
    x, log_det = f.forward_and_log_det(z)
    (_, _), pullback = f.vjp(z)
    z_bar, params_bar = pullback(1.0, 1.0)
    back, _ = f.inverse_and_log_det(np.asarray(x))
    for array in (x, log_det, z_bar, f.jacobian(z), back, *params_bar.values()):
        assert array.dtype == expected


def test_a_scalar_array_is_strong_and_a_number_is_weak():
    assert Affine(scale=np.float64(2)).forward(np.ones(1, F32)).dtype == F64
    assert Affine(scale=2.0).forward(np.ones(1, F32)).dtype == F32
    assert Affine(scale=[2.0, 3.0]).forward(np.ones(2, F32)).dtype == F32
    assert Affine(scale=2.0, shift=np.float32(1)).scale.dtype == F32


def test_a_field_with_a_default_may_be_left_out_or_absent():
    """Omitted, the field is its default, a parameter; None removes it, here and in every value derived from this one."""
    W = np.array([[2.0, 1.0], [0.5, 1.0]])
    usual, absent = DenseLinear(W), DenseLinear(W, None)
    assert usual.shift.tolist() == [0.0, 0.0] and list(usual.params()) == ["W", "shift"] and usual.ravel().size == 6
    assert absent.shift is None and list(absent.params()) == ["W"] and absent.ravel().tolist() == [2.0, 1.0, 0.5, 1.0]
    assert all(list(vjp(np.ones(2))[1](1.0, 1.0)[1]) == ["W"] for vjp in (absent.vjp, absent.inverse_vjp))
    weak = DenseLinear(W.tolist(), None)
    masked = Chain((absent, Masked([0.5, 0.25]))).at(context=np.ones(2)).stages[0]
    for again in (absent.astype(F32), absent.unchecked(np.dtype(F32)), absent.unravel(2 * absent.ravel()), masked,
                  absent.replace(W=3 * W), weak.replace(W=W), *(pickle.loads(pickle.dumps(f)) for f in (absent, weak))):
        assert again.shift is None and again.W.shape == (2, 2)
    assert not usual.equals(absent) and "shift=None" in repr(absent)
    assert usual.replace(shift=None).equals(absent) and absent.replace(shift=np.zeros(2)).equals(usual)
    assert DenseLinear(W, shift=[1.0, 2.0]).replace(W=2 * W).shift.tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="DenseLinear: shift must have trailing shape"):
        absent.replace(shift=np.zeros(3))
    with pytest.raises(ValueError, match="no field 'b'"):
        absent.replace(b=None)
    assert Affine(None, 2.0).shift == 0                                 # None cannot remove a field that is not optional


@pytest.mark.parametrize("page", [DenseLinear, PLULinear], ids=lambda page: page.__name__)
def test_laws_draw_such_fields_and_their_absence(page):
    for absent in (False, True):
        found = hypothesis.find(strategies.bijectors(page), lambda f: (f.shift is None) == absent)      # noqa: B023
        assert (found.shift is None) == absent
    assert all(p.f.shift is not None for p in drawn_points(page, F64))


def test_astype():
    f = Chain((Affine(np.array(0.5), np.array(2.0)), Tanh()))
    g = f.astype(F32)
    assert f.dtype == F64 and g.dtype == F32 and g.stages[0].scale.dtype == F32
    assert g.forward(np.ones(2, F32)).dtype == F32
    assert g.astype(F64).equals(f)
    for bad in (np.float16, np.longdouble, complex, int):
        with pytest.raises(ValueError, match="Chain: dtype must be float32 or float64"):
            f.astype(bad)


@pytest.mark.parametrize("bad", [np.ones(2, np.float16), np.ones(2, np.longdouble), np.ones(2, complex), np.array(["1"]),
                                 np.array([1.0, None], object), np.array([True]), np.ma.array([1.0, 2.0], mask=[False, True])],
                         ids=lambda a: str(a.dtype))
def test_refused_dtypes(bad):
    f = Affine()
    rule = "must not be a masked array" if isinstance(bad, np.ma.MaskedArray) else "must be float32 or float64"
    for call in (f.forward, f.inverse, f.log_det, f.vjp, f.inverse_vjp, f.jacobian, f.forward_and_log_det):
        with pytest.raises(ValueError, match=f"Affine: . {rule}"):
            call(bad)
    with pytest.raises(ValueError, match=f"Affine: shift {rule}"):
        Affine(shift=bad)
    with pytest.raises(ValueError, match=f"Affine: x_bar {rule}"):
        f.vjp(np.ones(2))[1](bad, 0.0)


# -- shapes -----------------------------------------------------------------------------------------------------------

def test_parameter_batch_gives_batch_to_everything():
    f = Affine(scale=np.arange(1.0, 6))
    x, log_det = f.forward_and_log_det(2.0)
    assert x.shape == log_det.shape == (5,)
    np.testing.assert_array_equal(x, 2 * np.arange(1.0, 6))
    np.testing.assert_array_equal(log_det, np.log(np.arange(1.0, 6)))
    assert f.jacobian(2.0).shape == (5, 1, 1)
    (x, log_det), pullback = f.vjp(2.0)
    z_bar, params_bar = pullback(np.ones(5), np.zeros(5))
    assert z_bar.shape == () and z_bar == 15 and params_bar["scale"].shape == (5,) and params_bar["shift"].shape == ()


def test_batches_broadcast():
    f = Affine(scale=np.ones((4, 1)), shift=np.zeros(3))
    (x, log_det), pullback = f.vjp(np.ones((2, 1, 1)))
    assert x.shape == log_det.shape == (2, 4, 3)
    z_bar, params_bar = pullback(1.0, 0.0)
    assert z_bar.shape == (2, 1, 1) and (z_bar == 12).all()
    assert params_bar["scale"].shape == (4, 1) and (params_bar["scale"] == 6).all()
    assert params_bar["shift"].shape == (3,) and (params_bar["shift"] == 8).all()
    with pytest.raises(ValueError, match="Affine: z has batch shape .*does not broadcast"):
        f.forward(np.ones((2, 2, 5)))


def test_batched_matrix():
    W = np.stack([np.eye(2), 2 * np.eye(2), np.array([[0.0, 1.0], [-3.0, 0.0]])])
    f = DenseLinear(W)
    x, log_det = f.forward_and_log_det(np.ones(2))
    assert x.shape == (3, 2) and log_det.shape == (3,)
    np.testing.assert_allclose(log_det, np.log([1, 4, 3]), rtol=1e-15)
    assert f.jacobian(np.ones((5, 1, 2))).shape == (5, 3, 2, 2)


@pytest.mark.parametrize("f, z_shape, x_shape, sizes", [
    (Tanh(), (7,), (7,), (1, 1)), (StickBreaking(), (7, 3), (7, 4), (4, 3)),
    (CorrelationCholesky(), (7, 3), (7, 3, 3), (9, 3)), (Reshape((2, 3), (6,)), (7, 2, 3), (7, 6), (6, 6)),
    (Independent(Tanh(), 2), (7, 2, 3), (7, 2, 3), (6, 6))], ids=lambda v: type(v).__name__)
def test_jacobian_shape(f, z_shape, x_shape, sizes):
    z = np.full(z_shape, 0.25)
    x, log_det = f.forward_and_log_det(z)
    assert x.shape == x_shape and log_det.shape == (7,) and f.jacobian(z).shape == (7, *sizes)
    assert f.inverse(x).shape == z_shape
    np.testing.assert_allclose(np.linalg.slogdet(f.square(f.jacobian(z), z, x))[1], log_det, rtol=1e-12, atol=1e-12)


def test_chain_takes_the_smallest_rank_that_fits():
    assert Chain((Affine(), Tanh())).event_ndim == (0, 0)
    f = Chain((Affine(), DenseLinear(np.eye(3)), Tanh()))
    assert f.event_ndim == (1, 1) and f.log_det(np.ones((5, 3))).shape == (5,)
    assert Chain((Tanh(), StickBreaking())).event_ndim == (1, 1)
    assert Chain((StickBreaking(), Inverse(StickBreaking()), Sigmoid())).event_ndim == (1, 1)
    assert Chain((Exp(), CorrelationCholesky())).event_ndim == (1, 2)
    assert Chain((Inverse(CorrelationCholesky()), Affine(), StickBreaking())).event_ndim == (2, 1)
    for wrong in ((), (Tanh(), np.tanh)):
        with pytest.raises(ValueError, match="Chain: stages must be bijectors"):
            Chain(wrong)


def test_wrong_shapes_are_refused_by_name():
    f = DenseLinear(np.eye(3))
    for call, letter in ((f.forward, "z"), (f.inverse, "x"), (f.vjp, "z"), (f.inverse_vjp, "x")):
        with pytest.raises(ValueError, match=f"DenseLinear: {letter} has event shape .*: the fields of .* have D=3"):
            call(np.ones((5, 4)))
        with pytest.raises(ValueError, match=f"DenseLinear: {letter} must have at least 1 axes"):
            call(1.0)
    with pytest.raises(ValueError, match="DenseLinear: W must have trailing shape"):
        DenseLinear(np.ones((2, 3)))
    with pytest.raises(ValueError, match="DenseLinear: shift must have trailing shape"):
        DenseLinear(np.eye(3), np.ones(2))
    with pytest.raises(ValueError, match="leading axes of its fields do not broadcast"):
        Affine(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="x_bar has shape"):
        f.vjp(np.ones(3))[1](np.ones(4), 0.0)


# -- sets of lower dimension ------------------------------------------------------------------------------------------

HALVES = Concatenate((StickBreaking(), Tanh()), (2, 1))
TURN, MIRROR = np.eye(2), np.array([[0.0, 1.0], [1.0, 0.0]])
STICKS, ORDER = StickBreaking(), Permutation([1, 2, 0])


@pytest.mark.parametrize("stages, stage, name, where", [
    ([STICKS, Affine(scale=2.0)], 1, "Affine", "simplex"),
    ([Chain([STICKS]), Affine()], 1, "Affine", "simplex"),
    ([Affine(), STICKS, ORDER, Affine()], 3, "Affine", "simplex"),
    ([Chain([STICKS, ORDER]), Affine()], 1, "Affine", "simplex"),
    ([Inverse(Chain([ORDER, Inverse(STICKS)])), Tanh()], 1, "Tanh", "simplex"),
    ([STICKS, Chain([ORDER, Tanh()])], 1, "Chain", "simplex"),
    ([STICKS, Inverse(Sigmoid())], 1, r"Inverse\(Sigmoid\)", "simplex"),
    ([STICKS, Independent(Tanh(), 1)], 1, "Tanh", "simplex"),
    ([Independent(STICKS, 1), Reshape((2, 3), (6,)), Affine()], 2, "Affine", r"simplex of shape \(2, 3\) as \(6,\)"),
    ([STICKS, AffineCoupling([True, False, False], Dense(np.zeros((4, 1)), np.zeros(4)))], 1, "AffineCoupling", "simplex"),
    ([HALVES, Affine()], 1, "Affine", r"blocks \(simplex, interval\(-1, 1\)\)"),
    ([HALVES, Concatenate((ORDER, Affine()), (3, 1)), Tanh()], 2, "Tanh", r"blocks \(simplex, real\)"),
    ([CorrelationCholesky(), Affine()], 1, "Affine", "correlation_cholesky"),
    ([CorrelationCholesky(), Inverse(CholeskyFactor())], 1, r"Inverse\(CholeskyFactor\)", "correlation_cholesky"),
    ([CholeskyFactor(), Affine()], 1, "Affine", "cholesky_factor"),
    ([StrictTriangle(), Affine()], 1, "Affine", "strictly_lower"),
    ([StrictTriangle(), Inverse(StrictTriangle(True))], 1, r"Inverse\(StrictTriangle\)", "strictly_lower"),
    ([CayleyOrthogonal(TURN), Affine()], 1, "Affine", "orthogonal, det 1"),
    ([CayleyOrthogonal(TURN), Inverse(CayleyOrthogonal(MIRROR))], 1, r"Inverse\(CayleyOrthogonal\)", "orthogonal, det 1"),
    ([Affine(), Inverse(STICKS)], 1, r"Inverse\(StickBreaking\)", "acts on simplex alone, and what arrives is real"),
])
def test_a_set_of_lower_dimension_is_handed_to_no_map_of_all_entries(stages, stage, name, where):
    for make in (lambda: Chain(stages), lambda: Inverse(Chain(stages)), lambda: Chain([Chain(stages[:-1]), stages[-1]])):
        with pytest.raises(ValueError, match=f"Chain: stage [0-9]: {name} (.*{where}|{where})"):
            make()
    with pytest.raises(ValueError, match=f"^Chain: stage {stage}: "):
        Chain(stages)


@pytest.mark.parametrize("stages, log_det", [
    ([STICKS, ORDER], lambda z: STICKS.log_det(z)), ([STICKS, ORDER, ORDER, Inverse(STICKS), Affine(scale=2.0)], None),
    ([STICKS, Chain([ORDER])], lambda z: STICKS.log_det(z)),
    ([Chain([STICKS]), Chain([ORDER, Inverse(STICKS)])], None),
    ([HALVES, Concatenate((ORDER, Inverse(Tanh())), (3, 1))], lambda z: STICKS.log_det(z[:2])),
    ([HALVES, Inverse(Concatenate((Chain([Affine(), STICKS]), Tanh()), (2, 1)))], None),
    ([CayleyOrthogonal(TURN), Inverse(CayleyOrthogonal(-TURN.T))], None)], ids=lambda v: "")
def test_what_acts_on_a_set_of_lower_dimension_follows_it(stages, log_det):
    """The number is log|det| of the Jacobian, between tangents of unit measure."""
    f = Chain(stages)
    z = np.array([0.3, -0.2, 0.5])[:{STICKS: 2, HALVES: 3}.get(stages[0], 2 if type(stages[0]) is Chain else 1)]
    x, given = f.forward_and_log_det(z)
    J = f.square(f.jacobian(z), z, x)
    np.testing.assert_allclose(given, np.linalg.slogdet(J)[1], rtol=1e-12, atol=1e-12)
    assert log_det is None or abs(given - log_det(z)) < 1e-14
    np.testing.assert_allclose(Inverse(f).log_det(x), -given, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(Chain([Inverse(stage) for stage in reversed(stages)]).forward(x), z, rtol=1e-12)


def test_a_flow_on_a_base_of_lower_dimension():
    simplex = Flow(STICKS, StandardNormal(2))
    for f in (Affine(scale=2.0), Chain([ORDER, Tanh()])):
        with pytest.raises(ValueError, match=r"^Flow: .* of lower dimension \(simplex\): its log-det would count too many"):
            Flow(f, simplex)
    permuted = Flow(ORDER, simplex)
    assert permuted.support is simplex.support and permuted.log_prob([0.2, 0.5, 0.3]) == simplex.log_prob([0.3, 0.2, 0.5])
    with pytest.raises(ValueError, match=r"^Flow: Affine .*\(simplex\)"):
        Flow(Affine(scale=2.0), permuted)
    back = Flow(Inverse(STICKS), permuted)
    assert back.support is real and np.isfinite(back.log_prob([0.1, 0.2]))


def test_a_chain_asks_every_block_whether_what_arrives_is_a_member():
    f = Chain([Affine(), Concatenate((Inverse(Exp()), Tanh()), (1, 1))])
    with pytest.raises(ValueError, match=r"^Concatenate: block 0 of z must be finite and > 0; block 0 of z\[0\] = -1.0"):
        f.forward([-1.0, 0.0])
    assert np.isfinite(f.forward([1.0, 0.0])).all()
    with pytest.raises(ValueError, match=r"^Flow: the base's support, real, is not inside .*, blocks \(positive, real\)"):
        Flow(f.stages[1], StandardNormal(2))


# -- edges ------------------------------------------------------------------------------------------------------------

def test_codomain_endpoints():
    assert Tanh().forward(40.0) == 1
    np.testing.assert_array_equal(Tanh().inverse([-1.0, 1.0]), [-np.inf, np.inf])
    np.testing.assert_array_equal(Sigmoid().inverse([0.0, 1.0]), [-np.inf, np.inf])
    assert Exp().inverse(0.0) == -np.inf
    with pytest.raises(ValueError, match=r"Tanh: x must be in \(-1, 1\); x\[1\] = 1.5"):
        Tanh().inverse([0.5, 1.5, 2.0])
    with pytest.raises(ValueError, match=r"Exp: x must be finite and > 0; x\[0, 1\] = -1.0"):
        Exp().inverse([[1.0, -1.0]])
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match=r"Affine: z must be finite; z\[2\] = "):
            Affine().forward([0.0, 1.0, bad])


ENDS = [(Power(a), "z", 0.0, x_bar, log_det_bar) for a in (1.0, 2.0, 0.75, 0.5, 0.3, -1.0, -0.3)
        for x_bar, log_det_bar in ((2.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, -1.0), (0.0, 0.0))]
ENDS += [(WeibullCDF(2.0, k), letter, end, bar, log_det_bar) for k in (1.0, 3.0, 1.5, 0.75, 0.5, 0.3)
         for letter, end in (("z", 0.0), ("x", 0.0), ("x", 1.0))
         for bar, log_det_bar in ((2.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, -1.0), (0.0, 0.0))]


@pytest.mark.parametrize("f, letter, end, bar, log_det_bar", ENDS)
def test_gradients_at_the_ends_are_their_limits(f, letter, end, bar, log_det_bar):
    """On the way to the end, in 800 digits, every quantity tends to the value given there, a number or an infinity."""
    with mpmath.workdps(800):
        first, second = (limiting(f, letter, abs(end - mpmath.mpf(10) ** -e), bar, log_det_bar) for e in (100, 200))
    (image, log_det), pullback = (f.vjp if letter == "z" else f.inverse_vjp)(end)
    event_bar, params_bar = pullback(bar, log_det_bar)
    for given, before, after in zip((image, log_det, event_bar, *params_bar.values()), first, second):
        if np.isfinite(given):
            assert abs(after - given) <= max(abs(before - given), 1e-50) and abs(after - given) <= 1e-12
        else:
            assert abs(after) > abs(before) > 0.5 and np.sign(given) == mpmath.sign(after)


def limiting(f, letter, v, bar, log_det_bar):
    """(image, log-det, event_bar, params_bar...) near the end, from the definition by differences in mpmath."""
    params = [mpmath.mpf(float(p)) for p in f.params().values()]

    def both(v, *params):
        if isinstance(f, Power):
            a, = params
            return v**a, mpmath.log(abs(a)) + (a - 1) * mpmath.log(v)
        s, k = params
        if letter == "z":
            return -mpmath.expm1(-(v / s)**k), mpmath.log(k / s) + (k - 1) * mpmath.log(v / s) - (v / s)**k
        y = -mpmath.log1p(-v)
        return s * y**(1 / k), mpmath.log(s / k) + (1 / k - 1) * mpmath.log(y) + y

    def L(*inputs):
        image, log_det = both(*inputs)
        return bar * image + log_det_bar * log_det

    def slope(j):
        inputs = [v, *params]
        h = (min(v, 1 - v) if j == 0 else inputs[j]) * mpmath.mpf(10) ** -100
        up, down = ([p + sign * h if i == j else p for i, p in enumerate(inputs)] for sign in (1, -1))
        return (L(*up) - L(*down)) / (2 * h)

    return *both(v, *params), *map(slope, range(1 + len(params)))


def test_the_first_offender_is_named():
    with pytest.raises(ValueError, match=r"Affine: scale must be finite and not 0; scale\[1\] = 0.0"):
        Affine(scale=[1.0, 0.0, 0.0])
    with pytest.raises(ValueError, match=r"DenseLinear: W must be finite and invertible; W\[1\] = "):
        DenseLinear(np.stack([np.eye(2), np.ones((2, 2))]))
    with pytest.raises(ValueError, match=r"StickBreaking: x must have entries >= 0 that sum to 1; x\[1\] = "):
        StickBreaking().inverse([[0.5, 0.5], [0.5, 0.6]])


def test_no_warning_is_emitted():
    z = np.array([-2.0**1000, -1e3, -40, 0, 1e-310, 40, 1e3, 2.0**1000])
    for f in (Tanh(), Sigmoid(), Softplus(), Exp(), Affine(3.0, 2.0**60)):
        with np.errstate(all="raise"):
            f.vjp(z)[1](1.0, 1.0)
            f.jacobian(z)


# -- parameters -------------------------------------------------------------------------------------------------------

def nested_flow():
    inner = Concatenate((Affine(np.array([0.5, 1.0]), np.array([2.0, 3.0])), Tanh()), (2, 1))
    return Chain((DenseLinear(np.eye(3) + 0.1), inner, Inverse(Independent(Affine(1.0, np.array(0.5)), 1))))


BIJECTORS = [Affine(np.ones((2, 1)), np.full(3, 2.0)), nested_flow(), Tanh(), Independent(Affine(np.ones(3)), 1),
             stack([Affine(np.array(1.0)), Tanh()])]


@pytest.mark.parametrize("f", BIJECTORS, ids=lambda f: type(f).__name__)
def test_params_bar_has_keys_and_shapes_of_params(f):
    z = {0: np.full((2, 3), 0.1), 1: np.full((4, f.parameter_batch[-1] if f.parameter_batch else 3), 0.1)}[f.event_ndim[0]]
    z = np.full((4, 2), 0.1) if isinstance(f, Concatenate) else z
    expected = [(path, leaf.shape) for path, leaf in flatten(f.params())]
    for method, event in (("vjp", z), ("inverse_vjp", f.forward(z))):
        _, params_bar = getattr(f, method)(event)[1](1.0, 1.0)
        assert [(path, leaf.shape) for path, leaf in flatten(params_bar)] == expected


@pytest.mark.parametrize("f", BIJECTORS, ids=lambda f: type(f).__name__)
def test_vector_round_trip(f):
    vector = f.ravel()
    assert vector.size == sum(leaf.size for _, leaf in flatten(f.params()))
    assert f.unravel(vector).equals(f)
    if vector.size:
        moved = f.unravel(vector * 1.5)
        assert not moved.equals(f)
        np.testing.assert_array_equal(moved.ravel(), vector * 1.5)
    with pytest.raises(ValueError, match=f"{type(f).__name__}: a vector of {vector.size} parameters is needed"):
        f.unravel(np.ones(vector.size + 1))


def test_replace():
    f = nested_flow()
    g = f.replace(stages={"1": {"parts": {"0": {"inner": {"shift": np.array([7.0, 8.0])}}}}})
    np.testing.assert_array_equal(g.params()["stages"]["1"]["parts"]["0"]["inner"]["shift"], [7, 8])
    assert f.stages[0] is not None and g.stages[0].equals(f.stages[0]) and not g.equals(f)
    assert f.replace().equals(f) and f.replace(**f.params()).equals(f)
    with pytest.raises(ValueError, match="Affine: no field 'scales'"):
        Affine().replace(scales=1.0)
    with pytest.raises(ValueError, match="Affine: scale must be finite and not 0"):
        Affine().replace(scale=0.0)


def test_equals_is_bitwise():
    assert Affine(0.0).equals(Affine(0.0)) and not Affine(0.0).equals(Affine(-0.0))
    assert not Affine(np.float32(1)).equals(Affine(np.float64(1)))
    assert not Affine(np.ones(1)).equals(Affine(np.ones(())))
    assert not Tanh().equals(Sigmoid()) and Tanh().equals(Tanh())
    assert not Chain((Tanh(),)).equals(Chain((Tanh(), Tanh())))
    assert not Reshape((2, 3), (6,)).equals(Reshape((3, 2), (6,)))
    assert Affine() != Affine() and len({Affine(), Affine()}) == 2         # eq=False: == is identity


def test_repr_shows_shapes():
    assert repr(Affine(np.ones((4, 3)), np.float32(2))) == "Affine(shift=float64[4, 3], scale=2)"
    assert repr(Affine(np.ones(3, F32), np.array(2, F32))) == "Affine(shift=float32[3], scale=2)"
    assert repr(Chain((Tanh(), Affine()))) == "Chain(stages=[Tanh(), Affine(shift=0, scale=1)])"
    assert repr(Reshape((2, 3), (6,))) == "Reshape(input=(2, 3), output=(6,))"


def test_arrays_are_copied_and_locked():
    scale = np.array([1.0, 2.0])
    f = Affine(scale=scale)
    scale[0] = 7
    assert f.scale[0] == 1 and not np.shares_memory(f.scale, scale)
    for _, leaf in flatten(f.params()):
        with pytest.raises(ValueError, match="read-only"):
            leaf[...] = 0
    again = pickle.loads(pickle.dumps(f))
    assert again.equals(f) and not again.scale.flags.writeable


def test_a_value_is_frozen():
    f = Affine()
    for name in ("scale", "shift", "anything"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(f, name, 1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        del f.scale
    with pytest.raises(TypeError):
        Chain((Tanh(),)).stages[0] = Affine()


def test_numbers_stay_weak_through_replace_and_pickle():
    for f in (Affine(0.5, 2.0).replace(scale=3.0), pickle.loads(pickle.dumps(Affine(0.5, 2.0)))):
        assert f.dtype is None and f.forward(np.ones(2, F32)).dtype == F32


# -- context and masks ------------------------------------------------------------------------------------------------

@bijector(register=False, domain=real, codomain=real, source="a page for this test")
class Masked(Bijector):
    """x = scale exp(<weight, context>) z at valid positions of (T,) events, 0 elsewhere."""

    weight: Array = real("F")
    scale: Array = positive(default=1.0)
    context: Array = context("F")
    mask: Array = sequence_mask("T")
    event_ndim = (1, 1)
    event_shape = ("T",)

    def parts(self, z):
        a = np.broadcast_to((self.context * self.weight).sum(-1), z.shape[:-1])
        valid = np.ones(z.shape[-1:], bool) if self.mask is None else over_positions(self.mask, 1)
        return over_event(a + np.log(self.scale), 1), np.broadcast_to(valid, z.shape)

    def forward(self, z):
        log_s, valid = self.parts(z)
        return np.where(valid, z * np.exp(log_s), 0)

    def inverse(self, x):
        log_s, valid = self.parts(x)
        return np.where(valid, x * np.exp(-log_s), 0)

    def log_det(self, z):
        log_s, valid = self.parts(z)
        return log_s[..., 0] * valid.sum(-1).astype(z.dtype)

    def jacobian(self, z):
        log_s, valid = self.parts(z)
        return np.where(valid, np.exp(log_s), 0)[..., None] * np.eye(z.shape[-1], dtype=z.dtype)

    def vjp(self, z):
        log_s, valid = self.parts(z)
        x = self.forward(z)

        def pullback(x_bar, log_det_bar):
            a_bar = (x_bar * x).sum(-1) + log_det_bar * valid.sum(-1).astype(z.dtype)
            bars = {"weight": a_bar[..., None] * self.context, "context": a_bar[..., None] * self.weight,
                    "scale": a_bar / self.scale}
            return np.where(valid, x_bar * np.exp(log_s), 0), bars

        return (x, self.log_det(z)), pullback

    def inverse_vjp(self, x):
        log_s, valid = self.parts(x)
        z = self.inverse(x)

        def pullback(z_bar, log_det_bar):
            a_bar = -(z_bar * z).sum(-1) - log_det_bar * valid.sum(-1).astype(z.dtype)
            bars = {"weight": a_bar[..., None] * self.context, "context": a_bar[..., None] * self.weight,
                    "scale": a_bar / self.scale}
            return np.where(valid, z_bar * np.exp(-log_s), 0), bars

        return (z, -self.log_det(x)), pullback


MASK = np.array([[True, True, False], [True, False, False]])
CONTEXT = np.array([[0.5, -1.0], [2.0, 0.25]])
Z = np.array([[1.0, 2.0, np.nan], [3.0, np.inf, -np.inf]])


def conditioned():
    return Masked(np.array([0.3, -0.2])).at(context=CONTEXT, mask=MASK)


def both_ways(f, event):
    yield f.vjp(event)
    yield f.inverse_vjp(event)


def test_at_fills_without_changing_arity():
    f = Masked(np.array([0.3, -0.2]))
    g = f.at(context=CONTEXT)
    assert f.context is None and "context" not in f.params() and g.params()["context"].shape == (2, 2)
    assert list(conditioned().params()) == ["weight", "scale", "context"]
    assert g.replace(context=0 * CONTEXT).forward(np.ones((2, 3)))[0, 0] == 1
    with pytest.raises(ValueError, match="at\\(\\) fills context and mask, not 'weight'"):
        f.at(weight=1.0)
    with pytest.raises(ValueError, match="Tanh: neither it nor a component declares context"):
        Tanh().at(context=CONTEXT)
    with pytest.raises(ValueError, match="Masked: context must have trailing shape"):
        f.at(context=np.ones(3))
    with pytest.raises(ValueError, match="Masked: mask must be of dtype bool"):
        f.at(mask=np.ones(3))


def test_masked_positions_are_zero_and_never_read():
    f, filled = conditioned(), np.where(MASK, Z, 0)
    (x, log_det), pullback = f.vjp(Z)
    expected = np.exp(CONTEXT @ [0.3, -0.2])
    np.testing.assert_allclose(x, np.where(MASK, filled * expected[:, None], 0), rtol=1e-15)
    assert (x[~MASK] == 0).all()
    np.testing.assert_allclose(log_det, MASK.sum(-1) * np.log(expected), rtol=1e-14)
    z_bar, params_bar = pullback(np.ones((2, 3)), np.ones(2))
    assert (z_bar[~MASK] == 0).all() and all(np.isfinite(v).all() for v in params_bar.values())
    for (image, l_1), (again, l_2) in zip((v for v, _ in both_ways(f, Z)), (v for v, _ in both_ways(f, filled))):
        np.testing.assert_array_equal(image, again)
        np.testing.assert_array_equal(l_1, l_2)
    with pytest.raises(ValueError, match=r"Masked: z must be finite; z\[0, 1\] = nan"):
        f.forward([[1.0, np.nan, 0.0], [1.0, 1.0, 1.0]])


def test_masked_cotangents_are_never_read():
    f = conditioned()
    x_bar = np.where(MASK, 1.0, np.nan)
    for _, pullback in both_ways(f, Z):
        event_bar, params_bar = pullback(x_bar, np.ones(2))
        clean_bar, clean_params = pullback(np.where(MASK, 1.0, 0.0), np.ones(2))
        np.testing.assert_array_equal(event_bar, clean_bar)
        assert all(np.array_equal(params_bar[k], clean_params[k]) for k in clean_params)


def test_masks_pass_through_chains():
    inner = Masked(np.array([0.3, -0.2]))
    with pytest.raises(ValueError, match="Chain: Affine has no mask and would count the padding"):
        Chain((inner, Independent(Affine(shift=1.0, scale=2.0), 1))).at(context=CONTEXT, mask=MASK)
    g = Chain((inner, inner)).at(context=CONTEXT, mask=MASK)
    (x, log_det), pullback = g.vjp(Z)
    assert (x[~MASK] == 0).all()
    np.testing.assert_allclose(log_det, 2 * MASK.sum(-1) * (CONTEXT @ [0.3, -0.2]), rtol=1e-14)
    z_bar, _ = pullback(1.0, 1.0)
    assert (z_bar[~MASK] == 0).all()
    np.testing.assert_allclose(g.inverse(x)[MASK], Z[MASK], rtol=1e-14)
    np.testing.assert_array_equal(Inverse(g).forward(np.where(MASK, x, np.nan))[~MASK], 0)


def test_the_cotangent_of_a_shared_context_is_the_sum_over_its_users():
    rng = np.random.default_rng(1)
    stages = Masked(np.array([0.3, -0.2])), Affine(shift=0.5), Inverse(Masked(np.array([-0.4, 0.1]), scale=2.0))
    f = Chain(stages).at(context=CONTEXT)
    z, x_bar, l_bar = rng.standard_normal((2, 3)), rng.standard_normal((2, 3)), rng.standard_normal(2)
    assert [key for key in f.params()] == ["stages", "context"]
    assert not any("context" in bars for bars in f.params()["stages"].values())

    def loss(c):
        x, log_det = f.at(context=c).forward_and_log_det(z)
        return (x_bar * x).sum() + (l_bar * log_det).sum()

    _, params_bar = f.vjp(z)[1](x_bar, l_bar)
    assert params_bar["context"].shape == CONTEXT.shape
    for i in np.ndindex(CONTEXT.shape):
        e = np.zeros_like(CONTEXT)
        e[i] = 2.0**-14
        difference = (loss(CONTEXT + e) - loss(CONTEXT - e)) / 2.0**-13
        np.testing.assert_allclose(params_bar["context"][i], difference, rtol=1e-7, atol=1e-9)
    assert [(p, v.shape) for p, v in flatten(params_bar)] == [(p, v.shape) for p, v in flatten(f.params())]
    _, inverse_bar = f.inverse_vjp(f.forward(z))[1](x_bar, l_bar)
    assert inverse_bar["context"].shape == CONTEXT.shape


@pytest.mark.parametrize("dtype", (F32, F64), ids=lambda d: d.__name__)
@pytest.mark.parametrize("per_event", (True, False))
def test_the_laws_hold_for_a_shared_context(per_event, dtype):
    rng = np.random.default_rng(3)
    stages = Masked(np.array([0.3, -0.2])), Affine(np.array(0.5), np.array(-2.0)), Inverse(Masked(np.array([-0.4, 0.1])))
    f = Chain(stages).at(context=rng.standard_normal((32, 2) if per_event else 2)).astype(dtype)
    z, x_bar, z_bar = (rng.standard_normal((32, 3)).astype(dtype) for _ in range(3))
    run_laws(f, Points(f, z, x_bar, z_bar, rng.standard_normal(32).astype(dtype)))


def test_a_context_of_all_events_is_summed_over_them():
    f = Masked(np.array([0.3, -0.2])).at(context=CONTEXT[0])
    z = np.ones((5, 3))
    _, one = f.vjp(z)[1](1.0, 1.0)
    assert one["context"].shape == (2,)
    _, each = f.at(context=np.tile(CONTEXT[0], (5, 1))).vjp(z)[1](1.0, 1.0)
    np.testing.assert_allclose(one["context"], each["context"].sum(0), rtol=1e-14)


def test_the_readme_names_the_methods_of_values():
    """Each exists, and the README says of a vector what it says."""
    text = (PACKAGE / "README.md").read_text().split("## Values")[1].split("## Words")[0]
    named = re.findall(r"^\| `(\w+)\(", text, re.M)
    assert {"params", "ravel", "unravel", "replace", "at", "astype"} == set(named) and all(hasattr(Value, name) for name in named)


def test_context_vectors_round_trip():
    f = Chain((Masked(np.array([0.3, -0.2])), Masked(np.array([0.1, 0.2])))).at(context=CONTEXT)
    assert f.ravel().size == 2 + 1 + 2 + 1 + 4 and list(f.params())[-1] == "context"
    np.testing.assert_array_equal(f.ravel()[-4:], CONTEXT.ravel())
    assert f.unravel(f.ravel()).equals(f)
    moved = f.unravel(f.ravel() + 1)
    np.testing.assert_array_equal(moved.stages[0].context, CONTEXT + 1)
    np.testing.assert_array_equal(moved.stages[1].context, CONTEXT + 1)


# -- initialisation ---------------------------------------------------------------------------------------------------

def standard(x, axis=0):
    np.testing.assert_allclose(x.mean(axis), 0, atol=1e-12)
    np.testing.assert_allclose(x.std(axis), 1, rtol=1e-12)


def test_initialised_through_chains_and_inverses():
    rng = np.random.default_rng(0)
    data = rng.standard_normal((500, 3)) * [1.0, 10.0, 0.1] + [0.0, 5.0, -2.0]
    norm = ActNorm(np.ones(3))
    f = Chain((norm, DenseLinear(np.eye(3) + 0.5), norm))
    g = f.initialised(data, rng)
    assert not g.equals(f) and f.stages[0].equals(norm)
    standard(g.stages[0].forward(data))
    standard(g.forward(data))
    inverse = Inverse(f).initialised(data, rng)
    standard(inverse.forward(data))
    standard(inverse.inner.stages[2].inverse(data))
    standard(Inverse(inverse).inverse(data))
    assert Tanh().initialised(data, rng).equals(Tanh())
    standard(Chain((Inverse(norm), Inverse(norm))).initialised(data, rng).forward(data))
    parts = Concatenate((ActNorm(np.ones(2)), ActNorm(np.ones(1))), (2, 1)).initialised(data, rng)
    standard(parts.forward(data))


# -- after a map that has reached its limit --------------------------------------------------------------------------

def test_the_jacobian_of_a_chain_is_not_infinite_times_0():
    """Where a factor overflows and a later one is 0, the product is NaN; the pullback is 0."""
    f = Chain([Affine(0.0, -1.0), Exp(), Affine(0.0, -1.0), Exp()])
    z = np.array([-800.0, 0.5])
    J = f.jacobian(z)
    assert J[0, 0, 0] == 0 == f.vjp(z)[1](np.ones(2), np.zeros(2))[0][0]
    assert J[1, 0, 0] == f.jacobian(z[1])[0, 0] == pytest.approx(np.exp(-0.5) * np.exp(-np.exp(-0.5)), rel=1e-15)
    assert (f.jacobian(z[:1]) == 0).all()
    lifted = Chain([Affine(np.zeros(2), -1.0), Exp(), Affine(0.0, -1.0), Exp(), DenseLinear([[2.0, 1.0], [1.0, 1.0]])])
    expected = np.zeros((2, 2))
    expected[:, 1] = np.array([1.0, 1.0]) * f.jacobian(z[1])[0, 0]
    np.testing.assert_allclose(lifted.jacobian(z), expected, rtol=1e-15)


def matrix_pages():
    rng = np.random.default_rng(0)
    W = rng.normal(size=(3, 3))
    yield "DenseLinear", DenseLinear(W), W
    yield "DenseLinear with a shift", DenseLinear(W, rng.normal(size=3)), W
    yield "DenseLinear with zeros", DenseLinear(np.diag([2.0, -1.0, 0.5])), np.diag([2.0, -1.0, 0.5])
    Q = np.linalg.qr(W)[0]
    yield "OrthogonalLinear", OrthogonalLinear(Q), Q
    lower, upper = np.tril(rng.normal(size=(3, 3)), -1), np.triu(rng.normal(size=(3, 3)), 1)
    plu = PLULinear([1, 2, 0], lower, upper, [2.0, -0.5, 1.0])
    yield "PLULinear", plu, plu.jacobian(np.zeros(3))
    yield "Inverse", Inverse(Inverse(DenseLinear(W))), W


@pytest.mark.parametrize("f, W", [pytest.param(f, W, id=name) for name, f, W in matrix_pages()])
@pytest.mark.parametrize("ends", [(1.0, 0.5, 0.25), (0.25, -1.0, 0.5), (1.0, -1.0, 0.5), (-1.0, -1.0, 1.0)])
def test_the_inverse_of_an_infinite_event_is_the_inverse_matrix_times_it(f, W, ends):
    """For `x` at an end of tanh's range the linear map gets infinities: no warning, no error, the rest unaffected."""
    chain, x = Chain([f, Tanh()]), np.array([ends, (0.3, -0.2, 0.1)])
    with np.errstate(all="ignore"):
        expected = np.linalg.inv(W) @ np.arctanh(x[0])
    assert not np.isfinite(expected).all()
    alone = chain.inverse_and_log_det(x[1])
    for z, log_det in (chain.inverse_and_log_det(x), chain.inverse_vjp(x)[0], (chain.inverse(x), None)):
        beyond = ~np.isfinite(expected)
        assert np.array_equal(z[0][beyond], expected[beyond], equal_nan=True) and np.isfinite(z[0][~beyond]).all()
        np.testing.assert_allclose(z[1], alone[0], rtol=1e-14)
        assert log_det is None or (log_det[0] == np.inf and log_det[1] == pytest.approx(alone[1], rel=1e-14))
    with pytest.raises(ValueError, match="finite"):
        f.inverse(np.arctanh(0.5) * np.array([np.inf, 1.0, 1.0]))


def test_the_inverse_of_infinite_channels_at_a_position():
    W = np.random.default_rng(1).normal(size=(2, 2))
    chain, x = Chain([Pointwise(DenseLinear(W)), Tanh()]), np.array([[[1.0, 0.5]], [[0.25, -0.5]]])
    z = chain.inverse(x)
    with np.errstate(all="ignore"):
        assert np.array_equal(z[:, 0, 0], np.linalg.inv(W) @ np.arctanh(x[:, 0, 0]))
    np.testing.assert_allclose(z[:, 0, 1], np.linalg.inv(W) @ np.arctanh(x[:, 0, 1]), rtol=1e-13)


def test_infinite_events_of_matrices_in_a_batch():
    W = np.random.default_rng(2).normal(size=(4, 3, 3))
    lower, upper = np.tril(W, -1), np.triu(W, 1)
    plu = PLULinear([2, 0, 1], lower, upper, np.ones((4, 3)))
    x = np.array([[1.0, 0.5, 0.25], [0.5, 0.25, 0.125], [-1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    for f, matrices in ((DenseLinear(W), W), (plu, plu.jacobian(np.zeros((4, 3))))):
        z = Chain([f, Tanh()]).inverse(x)
        for k in range(4):
            with np.errstate(all="ignore"):
                expected = np.linalg.inv(matrices[k]) @ np.arctanh(x[k])
            np.testing.assert_allclose(z[k], expected, rtol=1e-12)


def test_cotangents_behind_a_saturated_map_are_zero():
    """exp(-exp(800)) is 0, and so are all its derivatives, although an event inside the chain has overflowed."""
    f = Chain([Affine(0.0, -1.0), Exp(), Affine(0.0, -1.0), Exp()])
    z_bar, bars = f.vjp(-800.0)[1](1.0, 0.0)
    assert z_bar == 0 and all(leaf == 0 for _, leaf in flatten(bars)) and f.jacobian(-800.0) == 0


# -- sums of log-dets at an end ---------------------------------------------------------------------------------------

def frechet(a):
    """x = exp(-z^(-a))."""
    return Chain([Power(-a), Affine(scale=-1.0), Exp()])


@pytest.mark.parametrize("dtype", [F32, F64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("f, z, expected", [
    *((frechet(a), 0.0, -np.inf) for a in (0.3, 1.0, 2.0, 5.0)), (Chain([frechet(2.0), Affine(2.0)]), 0.0, -np.inf),
    (Chain([Exp(), frechet(2.0)]), -800.0, -np.inf), (Chain([Exp(), Power(2.0), Affine(scale=-1.0), Exp()]), 800.0, -np.inf),
    (Chain([Power(2.0), Power(0.5)]), 0.0, 0.0), (Chain([Power(2.0), Affine(scale=9.0), Power(0.5)]), 0.0, np.log(3)),
    (Chain([Affine(scale=3.0), Power(2.0), Power(0.5)]), 0.0, np.log(3)),
    (Chain([LogisticCDF(), Inverse(NormalCDF()), NormalCDF()]), 40.0, -40.0),
    (Chain([Power(2.0), Power(0.25)]), 0.0, np.inf), (Chain([Power(2.0), Power(0.75)]), 0.0, -np.inf),
    (Chain([Affine(scale=3.0), Power(2.0), Power(0.5)]), 0.0, np.log(3)),
    (Inverse(Chain([Power(0.5), Power(2.0)])), 0.0, 0.0), (Chain([Inverse(Sigmoid()), Sigmoid()]), 0.0, 0.0),
    (Chain([Inverse(Sigmoid()), Sigmoid()]), 1.0, 0.0), (Chain([Inverse(Exp()), Tanh(), Inverse(Tanh()), Exp()]), 0.0, 0.0)])
def test_infinite_log_dets_of_both_signs_have_the_limit_from_inside(f, z, expected, dtype):
    """Alone, in a batch, in a vector, and as the value of the pullback; other events are as they are alone."""
    given, beside = f.log_det(dtype(z)), dtype(0.5)
    assert np.isclose(given, expected, rtol=0, atol=2e-4 if dtype is F32 else 1e-9) and given.dtype == dtype
    both, alone = f.log_det(np.array([z, beside], dtype)), f.log_det(beside)
    assert both[0] == given and both[1] == alone and f.vjp(dtype(z))[0][1] == given
    assert np.isclose(Independent(f, 1).log_det(np.array([z, beside], dtype)), given + alone, rtol=1e-6)


@pytest.mark.parametrize("dtype", [F32, F64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("f, z, slope", [
    (Chain([Power(2.0), Power(0.5)]), 0.0, 1.0),
    (Chain([Power(2.0), Affine(scale=9.0), Power(0.5), Affine(scale=-2.0)]), 0.0, -6.0),
    (Inverse(Chain([Power(0.5), Affine(scale=3.0), Power(2.0)])), 0.0, 1 / 9), (Chain([Inverse(Sigmoid()), Sigmoid()]), 1.0, 1.0),
    (Chain([Inverse(Sigmoid()), Affine(scale=-1.0), Sigmoid()]), 1.0, -1.0)])
def test_the_slope_at_an_end_is_that_of_the_limit(f, z, slope, dtype):
    """Of the Jacobian and of the pullback; other events are as they are alone, and the gradient of log_det is not known."""
    both = np.array([z, 0.25], dtype)
    J, (_, pullback) = f.jacobian(both), f.vjp(both)
    z_bar = pullback(np.array([3.0, 3.0]), np.zeros(2))[0]
    assert np.isclose(J[0, 0, 0], slope, rtol=1e-4) and np.isclose(z_bar[0], 3 * slope, rtol=1e-4)
    assert J[1] == f.jacobian(both[1]) and z_bar[1] == f.vjp(both[1])[1](3.0, 0.0)[0]
    assert np.isnan(pullback(np.zeros(2), np.ones(2))[0][0]) and J.dtype == z_bar.dtype == dtype


def test_a_limit_that_is_not_seen_stays_unknown():
    """An end of the simplex is not an end of one entry."""
    f = Chain([Inverse(StickBreaking()), StickBreaking()])
    assert np.isnan(f.log_det([0.0, 0.5, 0.5]))
