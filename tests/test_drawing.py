"""What the generator draws: values of pages, events, binades, cotangents, and the points beside a point."""

from __future__ import annotations

import numpy as np
import pytest

from refflow import (REGISTRY, ActNorm, Affine, BernsteinPolynomial, DenseLinear, Exp, GroupedLinear, PLULinear,
                     Power, RationalQuadraticSpline, Reshape, Sigmoid, Squeeze, Tanh)
from refflow.accuracy.drawing import (Point, binade, drawn_event, drawn_fields, event_shapes, example, fits, image_shape,
                                      is_scaled, moved, neighbours, opposite_numbers, plain_choices, plainest, plainest_of,
                                      set_of, shape_of, spread_of, with_cotangents, with_opposite_scales)
from refflow.core import Plainest, RandomSource, increasing, interval, positive, real
from refflow.maps.conditioners import Conv1d, Dense
from refflow.maps.coupling import MaskedInput

EPS = np.finfo(np.float64).eps


def source(seed=0):
    return RandomSource(np.random.default_rng(seed))


def never(letter):
    raise AssertionError(f"{letter} is known")


# -- points -----------------------------------------------------------------------------------------------------------

def test_the_format_of_a_point_is_its_arrays_unless_it_names_one():
    event = np.ones(3, np.float32)
    assert Point(Tanh(), "forward", event).format.bits == 24 and Point(Tanh(), "forward", event).dtype == np.float32
    assert Point(Tanh(), "forward", event, form="bfloat16").format.bits == 8


def test_a_single_question_is_one_of_those_that_lead():
    p = Point(Tanh(), "forward", np.array([1.0, 2.0]), truth={"forward": None}, lead=1)
    assert p.single(1).event == 2 and p.single(1).lead == 0 and p.single(1).truth is None
    changed = p.changed(case="other")
    assert (changed.case, changed.truth, changed.lead) == ("other", None, 1) and p.truth is not None


def test_sides():
    assert set_of(Exp(), "forward") is real and set_of(Exp(), "inverse") is positive
    assert image_shape(Squeeze(), "forward", (1, 4, 6)) == (4, 2, 3) and image_shape(Squeeze(), "inverse", (4, 2, 3)) == (1, 4, 6)


# -- values -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("page, spread, expected", [
    (Affine, 40, 40), (ActNorm, 40, 40), (Conv1d, 40, 40), (DenseLinear, 16, 8), (DenseLinear, 9, 4), (DenseLinear, 60, 10)])
def test_the_spread_of_a_square_matrix_is_half_as_wide_and_at_most_10(page, spread, expected):
    assert spread_of(page, spread) == expected


def test_the_choices_of_plain_fields_are_different_and_begin_with_the_defaults():
    for page in (REGISTRY["AlphaSigmoid"], RationalQuadraticSpline, Reshape, Affine):
        choices = plain_choices(page)
        assert all(given not in choices[:i] for i, given in enumerate(choices))
        assert (choices[:1] == [{}]) == (page is not Reshape)
        assert {key for given in choices for key in given} <= set(page.declared)
    assert len(plain_choices(RationalQuadraticSpline)) > 1 and plain_choices(Affine) == [{}]


def test_each_letter_is_asked_about_once():
    asked, dims = [], {}
    for key in ("input_knots", "output_knots", "slopes"):
        shape = shape_of(RationalQuadraticSpline.declared[key], dims, lambda letter: asked.append(letter) or 4)
        assert shape == (5,)
    assert asked == ["K"] and shape_of(DenseLinear.declared["W"], {"D": 3}, never) == (3, 3)


@pytest.mark.parametrize("given", [np.zeros(3), np.zeros((7, 3)), np.zeros((2, 7, 3))])
def test_fields_that_are_given_decide_the_letters(given):
    """Their last axes are the declared ones."""
    fields = drawn_fields(DenseLinear, source(), np.float64, 8, never, {"shift": given})
    assert fields["shift"] is given and fields["W"].shape == (3, 3)


def test_drawn_fields_are_members_with_their_batch_axes():
    fields = drawn_fields(ActNorm, source(), np.float32, 8, lambda letter: 3, lead=lambda: (2,))
    assert fields["scale"].shape == (2, 3) and fields["scale"].dtype == np.float32
    assert ActNorm(**fields).parameter_batch == (2,)
    with pytest.raises(NotImplementedError, match="how its component inner is drawn"):
        drawn_fields(REGISTRY["Pointwise"], source(), np.float64, 8, never)


@pytest.mark.parametrize("share, least, most", [({}, 0.6, 0.8), ({"optional": 0.0}, 0, 0), ({"optional": 1.0}, 1, 1)])
def test_an_optional_field_is_there_in_a_share_of_cases(share, least, most):
    s = source()
    there = [drawn_fields(DenseLinear, s, np.float64, 8, lambda letter: 1, **share)["shift"] is not None for _ in range(400)]
    assert least <= np.mean(there) <= most


# -- opposite scales --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_opposite_numbers_nearly_cancel(count):
    drawn = np.array([opposite_numbers(source(seed), count, 40) for seed in range(20)])
    ordered = np.sort(drawn)
    assert (ordered[:, count // 2 + count % 2:] >= 2.0**30).all() and (ordered[:, :count // 2] <= 2.0**-30).all()
    assert ((drawn.prod(-1) >= 2.0**-(count // 2)) & (drawn.prod(-1) <= 1)).all()
    assert count % 2 == 0 or (ordered[:, count // 2] == 1).all()
    assert count == 1 or len(set(drawn.argmax(-1))) > 1             # in any order


def test_only_fields_that_may_be_scaled_are():
    assert [key for key, declared in BernsteinPolynomial.declared.items() if is_scaled(declared)] == []
    assert [key for key, declared in PLULinear.declared.items() if is_scaled(declared)] == ["scale"]
    f = PLULinear([0, 1], [[0.0, 0.0], [3.0, 0.0]], [[0.0, 5.0], [0.0, 0.0]], [1.0, -1.0], [0.5, 0.25])
    scaled = with_opposite_scales(f, source(), 40)
    assert all(np.array_equal(getattr(f, key), getattr(scaled, key)) for key in ("order", "lower", "upper", "shift"))
    assert with_opposite_scales(Affine(0.0, 2.0), source(), 40).scale == 2      # one number has no opposite


def test_a_matrix_is_scaled_by_rows():
    W = np.array([[1.0, 2.0], [-3.0, 5.0]])
    f = with_opposite_scales(DenseLinear(W.astype(np.float32)), source(), 60)
    ratios = f.W / W
    assert np.allclose(ratios, ratios[:, :1], rtol=1e-6) and f.W.dtype == np.float32
    assert (np.abs(np.log2(ratios)) >= 7).all() and (np.abs(np.log2(ratios)) <= 11).all() and 0.4 < ratios[:, 0].prod() <= 1.01


# -- the simplest values ----------------------------------------------------------------------------------------------

def test_the_plainest_value_has_defaults_and_anchors():
    f = plainest(Affine, np.float32, 2)
    assert (f.shift, f.scale, f.dtype) == (0, 1, np.float32)
    f = plainest(RationalQuadraticSpline, np.float64, 3)
    assert f.input_knots.shape == (4,) and (np.diff(f.input_knots) > 0).all() and f.tails == "identity"
    f = plainest(DenseLinear, np.float64, 3)
    assert f.W.shape == (3, 3) and not f.shift.any()
    by_itself = plainest(GroupedLinear, np.float32, 2)              # its examples say how to draw it
    assert by_itself.equals(example(GroupedLinear, Plainest(), np.float32)[0]) and by_itself.dtype == np.float32


def test_the_plainest_field_is_its_default_or_its_sets_simplest_member():
    assert (plainest_of(Affine.declared["scale"], (2, 3)) == np.ones((2, 3))).all()
    assert (plainest_of(Power.declared["exponent"], ()) == Power.declared["exponent"].set.plainest(())).all()
    assert (plainest_of(RationalQuadraticSpline.declared["input_knots"], (4,)) == increasing.plainest((4,))).all()


@pytest.mark.parametrize("page", [GroupedLinear, Reshape])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_example_has_the_dtype_unless_it_has_no_numbers(page, dtype):
    f, shape = example(page, source(), dtype)
    assert isinstance(f, page) and f.dtype == (dtype if page is GroupedLinear else None) and fits(f, shape)


# -- events -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("f, sizes, shapes", [
    (Tanh(), (1, 2), [()]), (DenseLinear(np.eye(3)), (1, 2), [(3,)]), (ActNorm(np.ones(2), np.zeros(2)), (1, 5), [(2,)]),
    (ActNorm(np.ones(2), np.zeros(2), 3), (1, 4), [(2, 1, 1), (2, 1, 4), (2, 4, 1), (2, 4, 4)]),
    (Squeeze(), (1, 2), [(1, 2, 2), (2, 2, 2)]), (GroupedLinear(np.eye(2)), (2, 3, 4), [(2,), (4,)]),
    (REGISTRY["StickBreaking"](), (3, 3, 1), [(3,), (1,)]), (MaskedInput([True, False, False], Dense(np.eye(3))), (5,), [(1,)])])
def test_shapes_of_events_fit(f, sizes, shapes):
    assert event_shapes(f, sizes) == shapes


def test_what_fits():
    assert fits(Squeeze(), [1, 2, 2]) and not fits(Squeeze(), [1, 2, 3]) and not fits(DenseLinear(np.eye(2)), (3,))


@pytest.mark.parametrize("side, where", [("forward", real), ("inverse", interval(0, 1))])
def test_events_are_members_of_their_side(side, where):
    event = drawn_event(source(), Sigmoid(), side, (), np.float32, 8, (50,))
    assert event.shape == (50,) and event.dtype == np.float32 and where.members(event, 0).all()
    assert (side == "forward") == bool((np.abs(event) > 1).any())
    assert drawn_event(source(), DenseLinear(np.eye(2)), side, (2,), np.float64, 8, (3, 1)).shape == (3, 1, 2)


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("where, ends", [(interval(-1, 3), {-1.0: 1, 3.0: -1, 0.0: 1}), (positive, {0.0: 1}), (real, {0.0: 1})])
def test_each_part_of_a_binade_has_a_number_from_each_end(where, ends, parts):
    exponent = -3
    found = binade(where, source(), np.float64, exponent, parts)
    assert len(found) == parts * len(where.ends()) and where.members(np.array(found), 0).all()
    for end, way in where.ends():
        distances = np.array([(event - end) * way for event in found]) * 2.0**-exponent
        inside = np.sort(distances[(distances >= 1) & (distances < 2)])
        assert (np.floor((inside - 1) * parts) == np.arange(parts)).all()
    assert set(ends) == {end for end, _ in where.ends()}


def test_a_binade_beyond_the_set_or_the_dtype_is_empty():
    assert binade(interval(0, 1), source(), np.float64, 3) == [] and binade(positive, source(), np.float32, 200) == []


# -- cotangents, and points beside a point ----------------------------------------------------------------------------

@pytest.mark.parametrize("f, side, event, image, batch", [
    (Affine(np.zeros(3), 2.0), "forward", (2, 1), (2, 3), (2, 3)), (DenseLinear(np.eye(2)), "inverse", (5, 2), (5, 2), (5,)),
    (Reshape((2, 2), (4,)), "forward", (7, 2, 2), (7, 4), (7,)),
    (REGISTRY["StrictTriangle"](), "forward", (4, 3), (4, 3, 3), (4,)),
    (REGISTRY["StrictTriangle"](), "inverse", (4, 3, 3), (4, 3), (4,))])
def test_cotangents_have_the_shapes_of_the_image_and_of_the_batch(f, side, event, image, batch):
    asked = Point(f, side, np.zeros(event, np.float32), reason="why")
    p = with_cotangents(asked, source(), 4)
    assert p.image_bar.shape == image and p.log_det_bar.shape == batch and p.image_bar.dtype == p.log_det_bar.dtype == np.float32
    assert ((np.abs(p.image_bar) >= 2.0**-4) & (np.abs(p.image_bar) <= 2.0**4)).all() and p.reason == "why"


def test_a_conditioner_has_no_cotangent_of_a_log_det():
    p = with_cotangents(Point(Dense(np.ones((3, 2)), np.zeros(3)), "forward", np.zeros((5, 2))), source(), 4)
    assert p.image_bar.shape == (5, 3) and p.log_det_bar is None


def test_a_point_is_moved_by_its_event_or_by_its_parameters_either_way():
    p = Point(Affine(4.0, 2.0), "forward", np.array([1.0, 8.0]), truth={})
    for given, eps in ((None, EPS), (0.25, 0.25)):
        found = list(moved(p, given))
        assert all(q.truth is None for q in found)
        events = [(q.event / p.event).tolist() for q in found if q.f is p.f]
        fields = [[q.f.shift / 4, q.f.scale / 2] for q in found if q.f is not p.f]
        assert events == fields == [[1 - eps] * 2, [1 + eps] * 2]
    assert len(list(moved(Point(Tanh(), "forward", np.ones(2))))) == 2      # it has no parameters


def test_neighbours_are_members_as_a_whole():
    """A batch of which one event leaves the set is left out; so are parameters that leave theirs."""
    p = Point(Tanh(), "inverse", np.array([0.5, 1 - EPS / 2]))
    assert [q.event[0] < 0.5 for q in neighbours(p)] == [True]
    assert len(list(neighbours(Point(Tanh(), "inverse", np.array([0.5, 0.75]))))) == 2
    spread = Point(RationalQuadraticSpline([-1.0, 1.0], [-1.0, 1.0], [0.5, 2.0]), "forward", np.array(0.5))
    assert len(list(neighbours(spread))) == 4 and len(list(neighbours(spread, 2.0))) < 4
