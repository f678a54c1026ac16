"""Finite differences: steps that stay in the set and on one side of breaks, answers, and what they say of their own error."""

from __future__ import annotations

import math

import numpy as np
import pytest

from refflow import (Affine, Chain, DenseLinear, Independent, IntrinsicVolume, Inverse, LeakyReLU, MonotoneNetwork, Sigmoid, Softmax,
                     Softplus, StickBreaking, Tanh)
from refflow.accuracy.differences import (EventDifferences, LossDifferences, balanced, componentwise, field_at, largest_step,
                                          log_det_extrapolated, moved_alone, ridders, to_breaks)
from refflow.accuracy.kappa import Sensitivity
from refflow.accuracy.points import Points
from refflow.core import interval, positive, real, simplex

UNIT = np.finfo(np.float64).eps / 2


def points(f, z, seed=0):
    g = np.random.default_rng(seed)
    z = np.asarray(z, float)
    x = f.forward(z)
    return Points(f, z, g.standard_normal(x.shape), g.standard_normal(z.shape), g.standard_normal(f.log_det(z).shape))


# -- Ridders' table ---------------------------------------------------------------------------------------------------

def central(q, h, rungs=10):
    """Central differences at 0 and the rounding of each, at steps that halve."""
    h = h * 2.0 ** -np.arange(rungs)
    return (q(h) - q(-h)) / (2 * h), UNIT * np.abs(q(h)) / h


@pytest.mark.parametrize("q, slope, h, known", [
    (lambda t: np.exp(1 + t), math.e, 0.5, 1e-11), (lambda t: np.sin(3 * t), 3.0, 0.5, 1e-11),
    (lambda t: np.tanh(8 * t), 8.0, 1.0, 1e-8), (lambda t: 1 / (0.55 - t), 1 / 0.55**2, 0.5, 1e-7),
    (lambda t: t, 1.0, 1.0, 1e-14)])
def test_the_error_of_an_answer_is_told(q, slope, h, known):
    """Also where the first steps are far too large, as of tanh(8 t) at 1: `known` is what can be known of the slope."""
    values, rounding = central(q, h)
    best, error = ridders(values, rounding)
    assert abs(best - slope) <= error <= known * slope
    both, errors = ridders(np.stack([values, -2 * values], -1), np.stack([rounding, 2 * rounding], -1))
    assert np.array_equal(both, [best, -2 * best]) and np.array_equal(errors, [error, 2 * error])


def test_what_is_not_a_number_is_not_an_answer():
    values, rounding = central(lambda t: np.where(np.abs(t) > 0.1, np.nan, np.exp(t)), 0.5)
    best, error = ridders(values, rounding)
    assert abs(best - 1) <= error <= 1e-8
    assert np.isinf(ridders(np.full(10, np.nan), rounding)[1])


def test_an_answer_is_not_better_than_its_rounding():
    best, error = ridders(np.ones(10), np.full(10, 0.125))
    assert best == 1 and error == 0.125


# -- steps ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("where, values, steps", [
    (real, [0.0, 0.5, -64.0], [1.0, 1.0, 64.0]), (positive, [0.5, 64.0, 2.0], [0.5, 64.0, 2.0]),
    (interval(-1, 3), [0.0, -0.75, 2.5], [1.0, 0.25, 0.5]), (simplex, [0.25, 0.5, 0.25], [0.25, 0.5, 0.25])])
def test_a_step_is_a_sixteenth_of_the_room(where, values, steps):
    """Or of the value's own size, at least 1; where an equation leaves no room, of the value."""
    assert (largest_step(where, np.array(values)) * 16 == steps).all()


def test_a_relative_step_is_a_sixteenth_of_the_value():
    assert (largest_step(real, np.array([0.5, -64.0, 0.0]), relative=True) * 16 == [0.5, 64.0, 0.0]).all()
    assert (largest_step(interval(-1, 1), np.array([0.75, 0.25]), relative=True) * 16 == [0.25, 0.25]).all()


def test_each_entry_moves_alone_by_steps_that_halve():
    values, h = np.array([[1.0, 5.0], [2.0, 7.0], [3.0, 9.0]]), np.array([[1.0, 0.5], [2.0, 0.25], [0.0, 8.0]])
    for moved, way in zip(moved_alone(values, h), (1, -1)):
        steps = way * (moved - values)
        for j in (0, 1):
            assert not steps[:, j, :, 1 - j].any() and (steps[0, j, :, j] == h[:, j]).all()
            assert (steps[1:, j] * 2 == steps[:-1, j]).all()


@pytest.mark.parametrize("distance", [2.0**-3, 2.0**-20, 2.0**-45])
def test_no_step_of_a_parameter_moves_a_break_past_an_event(distance):
    """The break is at -shift/scale; it is cleared, and by no more than is needed."""
    p = points(Chain((Affine(1.0, 2.0), LeakyReLU(0.1))), [-0.5 + distance, -0.5 - distance, 100.0])
    assert np.array_equal(to_breaks(p.g, p.z64, (3,))[:, 0], [distance, distance, 100.5])
    found = LossDifferences(p)
    moves = found.h["stages", "0", "shift"][:, 0] / 2
    assert (15 * moves[:2] < distance).all() and (15 * moves[:2] >= distance / 2).all() and moves[2] == 0.5 / 16
    assert (16 * found.h["event"][:2, 0] == distance).all()


def test_breaks_are_asked_only_of_positive_parameters(monkeypatch):
    """The whole room of a positive parameter would end at 0, where a rate has no break."""
    right = MonotoneNetwork.breaks

    def breaks(self):
        assert (self.rate > 0).all() and (self.weights > 0).all()
        return right(self)

    p = points(MonotoneNetwork(rate=[1.0, 2.0], bias=[[0.5, -0.25]], weights=[1.0, 0.5]), [0.3, -2.0])
    monkeypatch.setattr(MonotoneNetwork, "breaks", breaks)
    assert set(LossDifferences(p).h) >= {("rate",), ("weights",)}


def test_fields_are_found_through_components():
    f = Chain((Independent(Affine([1.0, 2.0], [3.0, 4.0]), 1), DenseLinear(np.eye(2))))
    assert field_at(f, ("stages", "0", "inner", "scale")) is Affine.declared["scale"]
    assert field_at(f, ("stages", "1", "W")) is DenseLinear.declared["W"]
    assert field_at(Affine(0.0, 1.0), ("shift",)) is Affine.declared["shift"]


# -- derivatives ------------------------------------------------------------------------------------------------------

VECTORS = Chain((DenseLinear([[2.0, 0.5], [-1.0, 1.0]], [0.25, -1.0]), Independent(Softplus(), 1),
                 Independent(Affine([0.5, 1.0], 2.0), 1)))
MAPS = {"entrywise": (Affine(0.5, 3.0), (5,)), "bounded": (Sigmoid(), (5,)), "vectors": (VECTORS, (5, 2))}


@pytest.mark.parametrize("name", MAPS)
def test_derivatives_of_events(name):
    f, shape = MAPS[name]
    p = points(f, np.random.default_rng(1).standard_normal(shape))
    found, size = EventDifferences(p), p.size_in
    J = f.jacobian(p.z).reshape(5, size, size)
    assert (np.abs(found.jacobian - J) <= found.error + 1e-15).all() and (found.error <= 1e-10 * found.scale).all()
    log_det = f.log_det(p.z)
    assert (np.abs(found.log_det - log_det) <= found.log_det_error + 1e-15).all() and (found.log_det_error < 1e-9).all()
    assert not found.at_break.any()


@pytest.mark.parametrize("f", [IntrinsicVolume("simplex"), Inverse(StickBreaking())], ids=["volume", "sticks"])
def test_derivatives_along_the_tangents_of_a_set(f):
    p = points(f, np.random.default_rng(1).dirichlet(np.ones(3), 5))
    found, loss = EventDifferences(p), LossDifferences(p)
    along = f.jacobian(p.z) @ p.tangents
    assert (np.abs(found.jacobian - along) <= found.error + 1e-15).all() and (found.error < 1e-9).all()
    z_bar, error, _ = loss.gradient("event")
    own = (f.vjp(p.z)[1](*p.bars64)[0][:, None] @ p.tangents)[:, 0]
    assert (np.abs(z_bar - own) <= error + 1e-13).all() and (error < 1e-8).all()


def test_the_scale_of_a_derivative_is_of_the_entry_or_of_its_room():
    """An entry of 0 has a derivative, and a scale."""
    p = points(Affine(0.5, 3.0), [0.0, 0.25, 64.0])
    size = componentwise(p.forward_sensitivities[0])[:, 0]
    assert np.array_equal(EventDifferences(p).scale[:, 0, 0], size / [1.0, 1.0, 64.0])
    p = points(LeakyReLU(0.1), [0.0, 0.25])
    assert EventDifferences(p).at_break.tolist() == [True, False]


def test_componentwise_is_the_sum_of_what_all_inputs_do():
    """Also of a map whose unit of error is a norm."""
    parts = {"event": np.array([[[2.0, -3.0]]]), "W": np.array([[[-5.0]]])}
    inputs = {"event": np.array([[-1.0, 0.5]]), "W": np.array([[0.25]])}
    for normwise in (False, True):
        assert componentwise(Sensitivity(np.array([[-7.0]]), parts, inputs, normwise)) == 7 + 2 + 1.5 + 1.25


def test_derivatives_where_a_map_bends_within_its_first_steps():
    """tanh(256 z): its nearest pole in the complex plane is at 1/163, ten times as near as the first step is wide."""
    p = points(Chain((Affine(0.0, 256.0), Tanh())), [0.0, 1e-3, -2e-3])
    found = EventDifferences(p)
    assert (found.error[:, 0, 0] <= 1e-6 * p.f.jacobian(p.z)).all()


@pytest.mark.parametrize("f, z, size", [(Affine(-3e6, 3.0), 1e6, 3e6), (Affine(0.0, 3.0), 0.0, 3 / 16)])
def test_rounding_is_of_the_largest_number(f, z, size):
    """Of the inputs, which may cancel in the loss; or of the loss beside the event, where it is 0 at the event."""
    p = Points(f, np.array([z]), np.ones(1), np.ones(1), np.zeros(1))
    found = LossDifferences(p)
    slope, error, _ = found.gradient("event")
    assert abs(slope - 3) <= error and error >= UNIT * size / found.h["event"]


@pytest.mark.parametrize("name", MAPS)
def test_gradients_of_a_loss(name):
    """Of every input, against the pullback; the change along a line is theirs together."""
    f, shape = MAPS[name]
    p = points(f, np.random.default_rng(1).standard_normal(shape))
    found, g = LossDifferences(p), np.random.default_rng(2)
    pulled = p.g.vjp(p.z64)[1](*p.bars64)
    bars = {"event": pulled[0].reshape(5, -1)} | {path: bar.reshape(5, -1) for path, bar in leaves(pulled[1])}
    assert bars.keys() == found.inputs.keys()
    for block, bar in bars.items():
        best, error, scale = found.gradient(block)
        assert (np.abs(best - bar) <= error + 1e-14).all() and (error <= 1e-9 * scale).all(), block
    direction = {block: g.standard_normal(values.shape) for block, values in found.inputs.items()}
    there, back = found.along(direction, [2.0**-12, -2.0**-12])
    expected = sum((bars[block] * direction[block]).sum(-1) for block in bars)
    assert np.allclose((there - back) * 2**11, expected, rtol=1e-5, atol=1e-5)


def leaves(bars, path=()):
    for key, value in bars.items():
        yield from leaves(value, (*path, key)) if isinstance(value, dict) else [((*path, key), value)]


def test_the_unit_of_a_loss_adds_up_over_entries():
    p = points(Independent(Softplus(), 1), [[1.0, -2.0], [0.5, 3.0], [4.0, -1.0]])
    of_x, of_log_det = p.forward_sensitivities
    each = np.abs(p.x_bar) * of_x.kappa
    expected = each[:, 0] + each[:, 1] + np.abs(p.log_det_bar) * of_log_det.kappa[:, 0]
    assert np.allclose(LossDifferences(p).kappa, expected, rtol=1e-14)


def test_steps_and_a_direction_stay_in_a_plane():
    """Where no entry may move alone, each moves as far as the largest one may, by a sixteenth of it; from 0, by a sixteenth."""
    p = points(Softmax(), [[0.0, 0.0, 0.0], [1.0, -4.0, 3.0]])
    moved = EventDifferences(p).h[:, None, :] * np.abs(p.tangents)
    assert np.allclose(moved.max(1), [[1 / 16] * 2, [4 / 16] * 2], rtol=1e-15)
    found = LossDifferences(p)
    along = found.direction()["event"]
    h = found.h["event"] * np.cos([1, 3])
    assert np.allclose(along, [F @ steps for F, steps in zip(p.tangents, h)], rtol=1e-15) and np.abs(along.sum(-1)).max() < 1e-15


# -- log-determinants of differences ----------------------------------------------------------------------------------

@pytest.mark.parametrize("scale", [2.0**-300, 0.75, 2.0**300])
@pytest.mark.parametrize("axis", [-1, -2])
def test_balanced_matrices(scale, axis):
    given = scale * np.array([[[3.0, -0.25], [1e-3, 1e5]], [[0.0, 1.0], [0.0, 1.0]]])
    found, exponents = balanced(given, axis)
    largest = np.abs(found).max(axis)
    assert np.array_equal(np.ldexp(found, exponents), given)
    assert (((largest >= 0.5) & (largest < 1)) | (np.abs(given).max(axis) == 0)).all()


def at_steps(matrix, curvature=0.0):
    return matrix + curvature * np.ldexp(1.0, -2 * np.arange(10))[:, None, None] * np.ones((2, 2))


@pytest.mark.parametrize("rows, columns", [((0, 0), (0, 0)), ((300, -300), (0, 0)), ((-200, -300), (400, 350))])
def test_the_log_det_of_differences(rows, columns):
    """A large row does not round a small one away, and no product of scales overflows."""
    S = np.array([[0.75, 0.5], [-0.5, 0.625]])
    M = np.ldexp(np.ldexp(at_steps(S, 0.125), np.array(rows)[:, None]), np.array(columns))
    best, error = log_det_extrapolated(M, np.zeros_like(M))
    expected = math.log(0.75 * 0.625 + 0.25) + (sum(rows) + sum(columns)) * math.log(2)
    assert abs(best - expected) <= error + 1e-16 * abs(expected) and error < 1e-12


@pytest.mark.parametrize("near", [0.25, 2.0**-20])
def test_elimination_loses_what_the_condition_says(near):
    S = np.array([[0.5, 0.5], [0.5, 0.5 + near]])
    _, error = log_det_extrapolated(at_steps(S), np.zeros((10, 2, 2)))
    condition = (S**2).sum() / np.linalg.det(S)                 # of a matrix of two rows, |S^-1| is |S| / |det S|
    assert np.isclose(error, 4 * 2 * UNIT * condition, rtol=1e-6, atol=0)


@pytest.mark.parametrize("i, j, reaches", [(0, 0, 1), (0, 1, 1), (1, 0, 0), (1, 1, 1)])
def test_rounding_of_an_entry_reaches_the_log_det_by_its_cofactor(i, j, reaches):
    """The determinant of (1 0; 1 1)/2 does not depend on its lower left entry."""
    rounding = np.zeros((10, 2, 2))
    rounding[:, i, j] = 2.0**-20
    _, error = log_det_extrapolated(at_steps(np.array([[0.5, 0.0], [0.5, 0.5]])), rounding)
    assert np.isclose(error, reaches * 2.0**-19, rtol=1e-6, atol=1e-13)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_singular_matrix_has_no_log_det(value):
    assert np.isinf(log_det_extrapolated(at_steps(np.full((2, 2), value)), np.zeros((10, 2, 2)))[1])
