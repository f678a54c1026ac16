"""Every set, in both dtypes: its draws are members, and none of them has collapsed."""

import dataclasses

import numpy as np
import pytest

from refflow import Chain, Exp, Flow, Inverse, Ordered, PositiveOrdered, StandardNormal
from refflow.core import Bijector, Plainest, RandomSource, bijector, increasing, interval, real, sets
from refflow.core.boundary import checked_domain
from refflow.core.sets.blocks import product
from refflow.maps.constrained import CayleyOrthogonal
from refflow.maps.constrained.biject_to import biject_to

SETS = {held.name: held for held in vars(sets).values() if isinstance(held, sets.Set) and held.name != "constant"}
SETS |= {w.name: w for w in (interval(-1, 1), interval(0.25, 3), interval(1, np.inf), interval(-np.inf, -2),
                             interval(-np.inf, np.inf), interval(1000, 1001))}
SPREADS = [0, 4, 10, 20, 60, 2000, (-1074, 1000), (3, 9)]
SHAPES = {0: [(), (200,), (100, 2)], 1: [(50, 1), (50, 3), (20, 8)], 2: [(50, 1, 1), (50, 3, 3), (8, 8, 8)],
          3: [(20, 1, 1, 1), (20, 2, 3, 1)]}


def drawn(where, shape, dtype, spread, seed=0):
    return where.draw(RandomSource(np.random.default_rng(seed)), shape, dtype, spread)


def collapsed(where, values):
    """Is a vector or a matrix not a member, or are most of the drawn numbers, vectors or matrices the same?"""
    members = values.reshape(-1, *values.shape[values.ndim - where.rank:])
    different = len(np.unique(members, axis=0))
    signs, alone = 2 if members.shape[-1] == 1 else len(members) // 2, members.shape[-1] == 1
    few = {"orthogonal": signs, "sphere": signs, "permutation": 1, "simplex": 1, "zero_sum": 1}
    names = ("correlation_cholesky", "correlation", "zero_sum_matrix", "strictly_lower", "strictly_upper")
    few |= dict.fromkeys(names, 1) if alone else {}
    least = min(few.get(where.name, len(members) // 2), len(members))
    return bool(where.outside(values).any()) or different < least


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", SETS)
def test_members_are_members_and_do_not_collapse(name, dtype):
    where = SETS[name]
    for shape in SHAPES[where.rank]:
        for spread in SPREADS:
            values = drawn(where, shape, dtype, spread)
            assert values.shape == shape
            assert values.dtype == dtype or where.name == "permutation"
            assert not collapsed(where, values), (shape, spread)


@pytest.mark.parametrize("name", SETS)
def test_the_plainest_member_is_one(name):
    where = SETS[name]
    for shape in SHAPES[where.rank]:
        for dtype in (np.float32, np.float64):
            assert not where.outside(where.plainest(shape).astype(dtype)).any()
            assert not where.outside(where.draw(Plainest(), shape, dtype)).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
def test_steps_of_increasing_vectors_have_many_orders_of_magnitude(dtype):
    x = drawn(increasing, (400, 9), dtype, 20)
    steps = np.diff(x.astype(np.float64), axis=-1)
    ratios = np.log2(steps.max(-1) / steps.min(-1))
    assert (steps > 0).all() and np.median(ratios) > 12 and ratios.max() > 25
    assert (np.diff(steps, axis=-1) < 0).any()              # not only steps that grow
    assert (steps.min(-1) > np.spacing(np.abs(x).min(-1))).mean() > 0.9


@pytest.mark.parametrize("make", [
    lambda source, shape, dtype, low, high: np.cumsum(source.numbers(shape, low, high), -1).astype(dtype),
    lambda source, shape, dtype, low, high: np.sort(1 + source.numbers(shape, low - 40, high - 40), -1).astype(dtype)])
def test_a_draw_that_collapses_in_float32_is_noticed(make):
    bad = dataclasses.replace(increasing, make=make)
    assert any(collapsed(bad, drawn(bad, (20, 8), np.float32, spread)) for spread in SPREADS)


def test_an_interval_that_collapses_in_float32_is_noticed():
    def make(source, shape, dtype, low, high):
        return np.clip(1001 - source.numbers(shape, low, 0), 1000, np.nextafter(1001, 0)).astype(dtype)

    bad = dataclasses.replace(interval(1000, 1001), make=make)
    assert collapsed(bad, drawn(bad, (200,), np.float32, 20)) and not collapsed(bad, drawn(bad, (200,), np.float64, 20))


# ---------------------------------------------------------------- how far an entry may move alone

def moved_alone(values, rank, by):
    """(entries of a member, *values.shape): every member with one entry moved at a time."""
    core = values.shape[values.ndim - rank:]
    each = np.eye(int(np.prod(core))).reshape(-1, *(1,) * (values.ndim - rank), *core)
    return values + np.where(each, by, 0)


def room_is_right(where, values):
    """Does a member remain one if an entry moves by nearly its room, but not if it moves by all of it, or a little more?"""
    def stay(by):
        return where.members(moved_alone(values, where.rank, by), where.rank)

    room = where.room(values)
    least = np.where(np.isinf(room), 1e6, room * (1 - 2.0**-10))
    inside = stay(least) & stay(-least)
    tied = np.where(room == 0, 1, np.where(np.isinf(room), np.nan, room))       # NaN is outside every set
    beyond = [stay(by) for by in (tied, -tied, tied * (1 + 2.0**-10), -tied * (1 + 2.0**-10))]
    return bool(inside.all() and not np.logical_and.reduce(beyond).any())


@pytest.mark.parametrize("name", [name for name in SETS if name != "invertible"])
def test_an_entry_has_the_room_that_its_set_says(name):
    where = SETS[name]
    for shape in SHAPES[where.rank]:
        assert room_is_right(where, drawn(where, shape, np.float64, 4))


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_a_determinant_changes_its_sign_where_the_room_of_an_entry_ends(size):
    M = drawn(sets.invertible, (20, size, size), np.float64, 4)
    room = sets.invertible.room(M)
    signs = [np.linalg.slogdet(moved_alone(M, 2, by * room))[0] * np.linalg.slogdet(M)[0]
             for by in (-1 + 1e-6, 1 - 1e-6, -1 - 1e-6, 1 + 1e-6)]
    assert (np.array(signs[:2]) == 1).all() and (signs[2] * signs[3] == -1).all()


@pytest.mark.parametrize("name, wrong", [
    ("increasing", lambda v: np.full(v.shape, np.inf)), ("increasing", np.abs), ("positive", lambda v: 2 * v),
    ("positive", lambda v: v / 2), ("real", np.abs), ("simplex", np.abs), ("cholesky_factor", np.abs)])
def test_a_wrong_room_is_noticed(name, wrong):
    where = dataclasses.replace(SETS[name], spare=wrong)
    shape = SHAPES[where.rank][1]
    assert not room_is_right(where, drawn(where, shape, np.float64, 4))


# ---------------------------------------------------------------- maps onto them

@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", [name for name, held in SETS.items() if held.biject_to and name != "nonnegative"])
def test_the_page_that_a_set_names_maps_onto_it(name, dtype):
    where = SETS[name]
    for shape in SHAPES[where.rank][name == "sphere":]:     # no free number moves on a sphere of two points
        members = drawn(where, shape, dtype, 2)
        f = biject_to(where, members)
        assert not where.outside(f.forward(f.inverse(members))).any()
        assert np.allclose(f.forward(f.inverse(members)), members, rtol=1e3 * np.finfo(dtype).eps, atol=1e3 * np.finfo(dtype).eps)


def test_a_half_line_and_a_sign_are_those_of_the_member():
    members = np.array([[-3.0, 0.5], [2.0, -1e-3]])
    f = biject_to(sets.nonzero, members)
    assert (np.sign(f.forward(np.zeros((2, 2)))) == np.sign(members)).all()
    with pytest.raises(ValueError, match="HalfLine: x must lie between its ends"):
        f.inverse(-members)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("lower, upper, page", [
    ([-1.0, 0.0, 3.0], [1.0, 8.0, 3.5], "OpenInterval"), ([[0.0], [2.0]], 5.0, "OpenInterval"),
    (-1.0, [0.0, 1.0, 2.0], "OpenInterval"),
    ([-1.0, 0.0, 3.0], np.inf, "HalfLine"), (-np.inf, [[0.0], [2.0]], "HalfLine"),
    ([-np.inf, 0.0, -np.inf], [1.0, np.inf, 2.0], "HalfLine")])
def test_intervals_of_arrays_are_reached_with_their_own_ends(lower, upper, page, dtype):
    where = sets.intervals(np.array(lower), np.array(upper))
    members = drawn(where, (2, 3), dtype, 2)
    f = biject_to(where, members)
    assert type(f).__name__ == page
    z = np.linspace(-3, 3, 6).reshape(2, 3).astype(dtype)
    assert not where.outside(f.forward(z)).any() and np.isfinite(f.inverse(members)).all()
    ends = [f.forward(np.full_like(z, far)) for far in (-1000.0, 1000.0)]
    for end, array in zip(where.ends_of((2, 3)), (lower, upper)):
        assert np.array_equal(end, np.broadcast_to(array, (2, 3)))
        near = np.minimum(*(np.abs(given - np.where(np.isfinite(end), end, 0)) for given in ends))
        assert np.where(np.isfinite(end), near == 0, True).all()


def test_some_bounded_intervals_and_some_half_lines_are_refused():
    where = sets.intervals(np.array([0.0, 0.0, -1.0]), np.array([np.inf, 2.0, 1.0]))
    with pytest.raises(ValueError, match=r"^HalfLine: ends must be infinite on one side of every entry, .*\[1\] = \(0.0, 2.0\)"):
        biject_to(where, np.array([1.0, 1.0, 0.0]))


@pytest.mark.parametrize("D", [2, 3, 4])
def test_the_volume_of_the_cayley_map(D):
    """log_det is 1/2 log det J^T J, and x^T dx skew."""
    source = RandomSource(np.random.default_rng(D))
    f = CayleyOrthogonal(sets.orthogonal.draw(source, (D, D)))
    z = source.signed((20, D * (D - 1) // 2), -2, 1)
    J = f.jacobian(z)
    assert np.allclose(f.log_det(z), np.linalg.slogdet(J.mT @ J)[1] / 2, rtol=1e-12, atol=1e-12)
    h = 2.0**-18
    moved = [(f.forward(z + h * e) - f.forward(z - h * e)) / (2 * h) for e in np.eye(z.shape[-1])]
    assert np.allclose(np.stack(moved, -1).reshape(J.shape), J, atol=1e-8)


def positive_ordered_of_stan(z):
    x = [np.exp(z[0])]
    for v in z[1:]:
        x.append(x[-1] + np.exp(v))
    return np.array(x), sum(z)


def positive_ordered_of_numpyro(z):
    """OrderedTransform, then ExpTransform: log-det sum_(k > 1) z_k + sum_k y_k, y the ordered vector."""
    y = np.array([z[0], *(z[0] + np.cumsum(np.exp(z[1:])))])
    return np.exp(y), z[1:].sum() + y.sum()


@pytest.mark.parametrize("z", [[0.3, -0.2, 0.7], [-4.0, 1.5, -2.0, 0.1], [0.25]], ids=len)
@pytest.mark.parametrize("f, reference", [
    (PositiveOrdered(), positive_ordered_of_stan), (Chain([Ordered(), Exp()]), positive_ordered_of_numpyro)], ids=["Stan", "NumPyro"])
def test_two_maps_onto_positive_ordered_vectors(f, reference, z):
    z = np.array(z)
    (x, log_det), (expected, expected_log_det) = f.forward_and_log_det(z), reference(z)
    assert np.allclose(x, expected, rtol=1e-14) and np.isclose(log_det, expected_log_det)
    assert sets.positive_ordered.first_outside(x) is None and f.domain is sets.real
    assert np.allclose(f.inverse(x), z) and np.isclose(f.inverse_and_log_det(x)[1], -log_det)
    h = 2.0**-17
    J = np.array([f.forward(z + step) - f.forward(z - step) for step in h * np.eye(len(z))]).T / (2 * h)
    assert np.allclose(np.triu(J, 1), 0) and np.isclose(np.linalg.slogdet(J)[1], log_det, atol=1e-7)
    flow = Flow(f, StandardNormal(len(z)))
    assert np.isclose(flow.log_prob(x), -(z @ z) / 2 - len(z) * np.log(2 * np.pi) / 2 - log_det)
    assert flow.log_prob(-x) == -np.inf and (len(z) == 1 or flow.log_prob(x[::-1]) == -np.inf)
    if len(z) > 1:
        with pytest.raises(ValueError, match="must be finite(, positive)? and strictly increasing"):
            f.inverse(x[::-1])


def test_from_the_one_to_the_other():
    f = Chain([PositiveOrdered(), Inverse(Exp()), Inverse(Ordered())])
    z = np.array([0.3, -0.2, 0.7])
    other = f.forward(z)
    assert np.allclose(positive_ordered_of_numpyro(other)[0], positive_ordered_of_stan(z)[0])
    assert np.isclose(f.log_det(z), positive_ordered_of_stan(z)[1] - positive_ordered_of_numpyro(other)[1])
    assert isinstance(biject_to(sets.positive_ordered, np.ones(3)), PositiveOrdered)


@pytest.mark.parametrize("outside", [[0.0, 1.0], [-1.0, 2.0], [2.0, 1.0], [1.0, 1.0], [1.0, np.inf], [1.0, np.nan]])
def test_vectors_that_are_not_positive_and_ordered(outside):
    assert sets.positive_ordered.outside(np.array(outside))
    assert sets.positive_ordered.outside_closed(np.array(outside)) == (outside not in ([0.0, 1.0], [1.0, 1.0]))


# ---------------------------------------------------------------- how far a point is off

OFF = [(sets.simplex, [0.5, 0.5, 0.25],
        "must have entries >= 0 that sum to 1; z = [0.5  0.5  0.25], which misses it by 0.25; rounding explains 1.7e-15"),
       (sets.zero_sum, [1.0, -0.5], "must have entries that sum to 0; z = [ 1.  -0.5], which misses it by 0.5; rounding explains 1.3e-15"),
       (sets.sphere, [0.5, 0.0], "must have length 1; z = [0.5 0. ], which misses it by 0.75; rounding explains 1.1e-15"),
       (sets.positive_definite, [[1.0, 0.5], [0.25, 1.0]], "misses one of these by 0.25; rounding explains 6.7e-16"),
       (sets.correlation, [[1.0, 0.5], [0.5, 2.0]], "misses one of these by 1; rounding explains 8.9e-16"),
       (sets.correlation_cholesky, [[1.0, 0.0], [0.5, 0.5]], "misses one of these by 0.5; rounding explains 4.4e-16"),
       (sets.zero_sum_matrix, [[1.0, -1.0], [-1.0, 0.5]], "misses one of these by 0.5; rounding explains 3.1e-15"),
       (sets.orthogonal, [[1.0, 0.0], [0.0, 1.125]], "misses one of these by 0.266; rounding explains 2e-15")]


def refused(where, value):
    """What a map of this set says of an event outside it."""
    @bijector(source="", domain=where, codomain=real, register=False)
    class Kept(Bijector):
        event_ndim = (where.rank, where.rank)

    with pytest.raises(ValueError) as error:
        checked_domain(Kept(), np.array(value), 0)
    return str(error.value)


@pytest.mark.parametrize("where, value, said", OFF, ids=[where.name for where, *_ in OFF])
def test_a_point_off_its_set_is_refused_by_residual_and_bound(where, value, said):
    assert refused(where, value).endswith(said)


def test_a_product_names_the_block_that_is_off():
    where = product((real, sets.simplex, sets.positive), lambda shape: (1, 2, 1))
    assert where.refusal("z", np.array([[3.0, 0.5, 0.5, 1.0]])) is None
    assert where.refusal("z", np.array([[3.0, 0.5, 0.5, 1.0], [3.0, 0.5, 0.75, 1.0]])) == (
        "block 1 of z must have entries >= 0 that sum to 1; block 1 of z[1] = [0.5  0.75], which misses it by 0.25; rounding explains 1.1e-15")
    assert where.refusal("z", np.array([3.0, 0.5, 0.5, -1.0])) == "block 2 of z must be finite and > 0; block 2 of z[0] = -1.0"


@pytest.mark.parametrize("where, value", [(sets.simplex, [1.5, -0.5]), (sets.positive_definite, [[1.0, 2.0], [2.0, 1.0]]),
                                          (sets.increasing, [1.0, 0.0])])
def test_what_satisfies_its_equations_is_refused_by_its_rule_alone(where, value):
    assert refused(where, value).endswith("]") and "misses" not in refused(where, value)


@pytest.mark.parametrize("name", [name for name, held in SETS.items() if held.equations])
def test_members_satisfy_the_equations_and_what_is_moved_does_not(name):
    for shape in SHAPES[SETS[name].rank][1:]:
        members = drawn(SETS[name], shape, np.float64, 2)
        left, bound = SETS[name].equations(members)
        assert left.shape[:-1] == bound.shape[:-1] == shape[:1] and (left <= bound).all()
        moved = members.copy()
        moved[..., 0, *(-1,) * (SETS[name].rank == 2)] += 2.0**-20
        left, bound = SETS[name].equations(moved)
        assert (left > bound).any(-1).all()


HALF = np.finfo(np.float64).max / 2


@pytest.mark.parametrize("where, value", [
    (sets.simplex, [HALF, HALF, HALF]), (sets.zero_sum, [HALF, HALF, HALF]), (sets.zero_sum, [HALF, -HALF, 1e303]),
    (sets.correlation_cholesky, [[1.0, 0.0], [1e200, 1.0]]), (sets.sphere, [1e200, 0.0]), (sets.orthogonal, [[1e200, 0.0], [0.0, 1.0]]),
    (sets.zero_sum_matrix, [[HALF, HALF, HALF], [-HALF, -HALF, -HALF]]), (sets.positive_definite, [[1.0, 1e308], [-1e308, 1.0]])])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_what_overflows_on_the_way_to_a_residual_is_refused(where, value, dtype):
    scale = np.finfo(dtype).max / np.finfo(np.float64).max if np.max(np.abs(value)) > 1e300 else 1
    values = np.array([np.array(value) * scale], np.float64).clip(-np.finfo(dtype).max, np.finfo(dtype).max).astype(dtype)
    assert where.outside(values).all() and where.outside_closed(values).all()
    assert "misses" in where.refusal("z", values)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_large_vectors_that_sum_to_0_are_members_though_partial_sums_overflow(dtype):
    half = np.finfo(dtype).max / 2
    vector = np.array([half, half, half, -half, -half, -half], dtype)
    matrix = np.outer(np.array([1, 1, 1, -1, -1, -1], dtype), vector)
    assert not sets.zero_sum.outside(vector) and not sets.zero_sum_matrix.outside(matrix)
