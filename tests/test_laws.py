"""Every law on every page, ten draws of 32 points for each dtype, and on compositions, with a third as many draws."""

from __future__ import annotations


import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import refflow
from tallies import Tally
from refflow import Chain, Concatenate, FactorOut, Independent, Inverse, Pointwise, Reshape, Transposed, stack
from refflow.core import Plainest, of_kind
from refflow.oracle.pages import bijectors
from refflow.testing import strategies
from refflow.accuracy.differences import RUNGS, U, log_det_extrapolated
from refflow.maps.parametrisations import IncreasingEntries
from refflow.maps.elementwise import AbsScale, SoftplusScale
from refflow.testing import parametrisation_laws
from refflow.testing.laws import FD_ERROR, LAWS, REJECTED, run_laws, run_value_laws
from refflow.accuracy.points import Points, nets_of

DTYPES = (np.float32, np.float64)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", bijectors())
def test_page(name, dtype):
    """Every law; on maps whose inverse is a solver, which costs as much, with a third as many draws.

    If that few have too many rejected points, as many draws are taken as for the others.
    """
    page, whole = bijectors()[name], settings.default.max_examples
    tally = every_law(page, dtype, max(1, whole // 3) if page.solver is True else whole)
    if tally.excess() and page.solver is True:
        tally = every_law(page, dtype, whole)
    tally.check()


def every_law(page, dtype, draws):
    """How many points each law rejects in so many draws, and of how many."""
    tally = Tally()

    @settings(max_examples=draws)
    @given(strategies.drawn(page, dtype))
    def drawn_again(drawn):
        tally.add(run_laws(*drawn))

    drawn_again()
    return tally


def test_too_many_rejected_points_are_told():
    """A tenth may be rejected, of each law by itself."""
    tally = Tally()
    for found in ({"a": (1, 10), "b": (0, 99)}, {"a": (1, 10), "b": (1, 1)}):
        tally.add(found)
    tally.check()
    tally.add({"a": (1, 1)})
    with pytest.raises(AssertionError, match="a: 3 of 21 points were rejected"):
        tally.check()


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", of_kind("parametrisation"))
def test_parametrisation(name, dtype):
    @settings(max_examples=max(1, settings.default.max_examples // 3))
    @given(st.data())
    def every_law(data):
        source = strategies.DrawnSource(data.draw)
        parametrisation_laws.run_parametrisation_laws(of_kind("parametrisation")[name].examples(source)[0], dtype, source)

    every_law()


@pytest.mark.parametrize("name", of_kind("scale"))
def test_scale(name):
    page = of_kind("scale")[name]
    for case in page.hard_cases:
        run_value_laws(page(**case.params))


@pytest.mark.parametrize("bug, what", [
    ({"log_slope": lambda self, s: (s, np.zeros_like(s))}, "z d(log sigma)/ds"),
    ({"log_slope": lambda self, s: (1 / s, np.ones_like(s))}, "z d(log sigma)/ds"),
    ({"evaluate": lambda self, s: (s, np.zeros_like(s), np.log(np.abs(s)))}, "z sigma"),
])
def test_a_scale_whose_products_are_others_is_found(bug, what):
    run_value_laws(AbsScale())
    with pytest.raises(AssertionError) as raised:
        run_value_laws(type("Mutant", (AbsScale,), bug)())
    assert str(raised.value).startswith(f"products with a scale agree with its values: Mutant: {what} is ")


@pytest.mark.parametrize("bug", [lambda a, axis: np.cumsum(a, 0 if a.ndim > 1 else axis),
                                 lambda a, axis: np.cumsum(a, axis) + a.ndim])
def test_a_batch_that_is_mixed_up_is_found(bug, monkeypatch):
    f, source = IncreasingEntries(SoftplusScale(), 3), refflow.core.RandomSource(np.random.default_rng(0))
    parametrisation_laws.run_parametrisation_laws(f, np.float64, source)
    monkeypatch.setattr("refflow.maps.parametrisations.increasing_entries.np",
                        type("np", (), {**vars(np), "cumsum": staticmethod(bug)}))
    with pytest.raises(AssertionError, match="^a batch gives the fields of each: IncreasingEntries: (entries|h_bar) is "):
        parametrisation_laws.run_parametrisation_laws(f, np.float64, source)


def drawn_by_themselves():
    """The bijectors with components, registered or not, by name; maps with networks have their own tests."""
    unregistered = (Chain, Concatenate, FactorOut, Independent, Inverse, Pointwise, Reshape, Transposed)
    pages = list(of_kind("bijector", components=True).values()) + list(unregistered)
    return {page.__name__: page for page in pages if not nets_of(page.examples(Plainest())[0])}


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", drawn_by_themselves())
def test_page_with_components(name, dtype):
    """Every law on values from a page's `examples`, with a third as many draws."""
    tally = Tally()

    @settings(max_examples=max(1, settings.default.max_examples // 3))
    @given(strategies.drawn(drawn_by_themselves()[name], dtype, 12))
    def every_law(drawn):
        tally.add(run_laws(*drawn))

    every_law()
    tally.check()


def number(lower, upper):
    return st.floats(lower, upper, width=32, allow_subnormal=False)


def vector(size, lower, upper):
    return st.lists(number(lower, upper), min_size=size, max_size=size).map(np.array)


def scale(size):
    return st.tuples(vector(size, 0.25, 4), st.lists(st.sampled_from([1.0, -1.0]), min_size=size, max_size=size)).map(
        lambda both: both[0] * np.array(both[1]))


def affine(size=None):
    if size is None:
        return st.builds(refflow.Affine, shift=number(-2, 2), scale=scale(1).map(lambda s: s[0]))
    return st.builds(refflow.Affine, shift=vector(size, -2, 2), scale=scale(size))


def matrix(size):
    return st.lists(vector(size, -1, 1), min_size=size, max_size=size).map(lambda rows: np.array(rows) + 3 * np.eye(size))


def dense(size):
    return st.builds(refflow.DenseLinear, W=matrix(size), shift=vector(size, -2, 2))


def logistic(upper):
    """R -> (0, upper)."""
    return Chain((refflow.Sigmoid(), refflow.Affine(scale=upper)))


COMPOSITES = {
    "Chain of scalars": (affine().map(lambda a: Chain((a, refflow.Tanh(), refflow.Affine(0.5, 0.25)))), ()),
    "Chain of ranks": (st.tuples(dense(3), affine(3)).map(lambda m: Chain((m[0], m[1], refflow.Softplus()))), (3,)),
    "Chain with a domain": (st.builds(refflow.Power, exponent=number(0.5, 2)).map(lambda p: Chain((refflow.Exp(), p))), ()),
    "Chain to the simplex": (affine(2).map(lambda a: Chain((a, refflow.StickBreaking()))), (2,)),
    "Chain to the simplex, permuted": (
        affine(2).map(lambda a: Chain((a, refflow.StickBreaking(), refflow.Permutation([1, 2, 0])))), (2,)),
    "Chain to columns on the simplex":
        (st.just(Chain([refflow.MatrixTranspose(), refflow.StickBreaking(), refflow.MatrixTranspose()])), (2, 3)),
    "Chain from columns on the simplex": (st.just(Inverse(Chain([refflow.StickBreaking(), refflow.MatrixTranspose()]))), (3, 2)),
    "Chain from the simplex": (st.just(Chain((refflow.Permutation([1, 2, 0]), Inverse(refflow.StickBreaking())))), (3,)),
    "Inverse of a scalar": (affine().map(lambda a: Inverse(Chain((a, refflow.Sigmoid())))), ()),
    "Inverse of a matrix": (dense(2).map(Inverse), (2,)),
    "Inverse of the simplex": (st.just(Inverse(refflow.StickBreaking())), (3,)),
    "Inverse of a factor": (st.just(Inverse(refflow.CorrelationCholesky())), (3, 3)),
    "Independent": (affine(3).map(lambda a: Independent(a, 1)), (3,)),
    "Independent of vectors": (dense(2).map(lambda m: Independent(m, 1)), (3, 2)),
    "Independent on two axes": (affine().map(lambda a: Independent(a, 2)), (2, 2)),
    "Reshape": (st.just(Reshape((2, 3), (6,))), (2, 3)),
    "Chain with Reshape": (dense(4).map(lambda m: Chain((Reshape((2, 2), (4,)), m, Reshape((4,), (2, 2))))), (2, 2)),
    "Concatenate": (st.tuples(dense(2), affine(1)).map(lambda p: Concatenate((p[0], p[1], logistic(2.0)), (2, 1, 1))), (4,)),
    "stack": (st.tuples(dense(2), affine(2)).map(lambda p: stack(p)), (2, 2)),
    "Concatenate of channels": (affine().map(lambda a: Concatenate((a, refflow.Tanh()), (1, 2), -2)), (3, 2)),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", COMPOSITES)
def test_composite(name, dtype):
    bijectors, shape = COMPOSITES[name]
    tally = Tally()

    @settings(max_examples=max(1, settings.default.max_examples // 3))
    @given(st.data())
    def every_law(data):
        f = data.draw(bijectors).astype(dtype)
        tally.add(run_laws(f, data.draw(strategies.points(f, dtype, event_shape=shape))))

    every_law()
    tally.check()


@given(strategies.drawn(refflow.Homothety, np.float32))
def test_constant_slopes_are_drawn_moderate(drawn):
    """Small events and their images hide a slope that leaves the floats."""
    f, p = drawn
    assert np.isfinite(f.jacobian(p.z)).all() and np.abs(f.s).max() <= np.log(strategies.MODERATE)


@pytest.mark.parametrize("seed", range(20))
def test_differences_of_a_log_det_know_their_error(seed):
    """Slopes of steps 2^-k: diag(d) (A + 4^-k B), each entry rounded by 2^k u; d from 1e-20 to 1e3, and A small where a
    large row would be taken as the pivot of all others."""
    rng, k = np.random.default_rng(seed), np.arange(RUNGS).reshape(-1, 1, 1, 1)
    A = rng.normal(size=(100, 3, 3)) * [[1, 0, 0], [1e-7, 1, 1], [1, 1, 1]]
    B, d = rng.normal(size=A.shape) * np.abs(A), 10 ** rng.uniform(-20, 3, (100, 3, 1))
    slopes = d * (A + B / 4.0**k) * (1 + U * 2.0**k * rng.uniform(-1, 1, (RUNGS, *A.shape)))
    log_det, error = log_det_extrapolated(slopes, 2 * U * 2.0**k * np.abs(d * A))
    true = np.log(np.abs(A[:, 0, 0] * np.linalg.det(A[:, 1:, 1:]))) + np.log(d).sum((1, 2))
    assert (np.abs(log_det - true) <= 10 * error).all() and (error > FD_ERROR).mean() <= REJECTED


@pytest.mark.parametrize("s, bias", [([62.0], [1.0]), ([16.5, 42.0], [4.0, 5.5]), ([1.0, 62.0], [0.0, 1.0])])
def test_the_mass_of_a_steep_map_is_found(s, bias):
    """Latents of width exp(-s) around -bias vanish in rounding; wider ones do not."""
    f = refflow.GlowActNorm(np.array(s), np.array(bias), factor=1.0)
    one = np.ones((1, len(s)))
    assert LAWS["mass is one"](f, Points(f, one, one, one, np.ones(1))) == (0, 1)


def test_the_mass_knows_how_latents_round_near_an_end():
    """A float of z is a hundredth of a standard deviation of the law's latents at z = 1 - 1e-15."""
    f, one = refflow.KumaraswamyCDF(0.025, 0.55), np.full(1, 0.5)
    assert LAWS["mass is one"](f, Points(f, one, one, one, np.ones(1))) == (0, 1)


class Heavier(refflow.KumaraswamyCDF):
    """It has a hundredth of mass too much."""

    def inverse_and_log_det(self, x):
        z, log_det = super().inverse_and_log_det(x)
        return z, log_det + 0.01


@pytest.mark.parametrize("concentration1", [0.8, 12.0, 55.0])
def test_the_mass_is_found_where_half_of_it_is_beyond_the_last_float(concentration1):
    """x = 1/2 is the image of a z that is 1 to all digits but two; the image of z = 1/2 is near 0."""
    one = np.full(1, 0.5)
    for page in (refflow.KumaraswamyCDF, Heavier):
        f = page(concentration1, 0.02)
        asked = lambda: LAWS["mass is one"](f, Points(f, one, one, one, np.ones(1)))            # noqa: B023
        if page is Heavier:
            with pytest.raises(AssertionError, match="^mass is one: Heavier: the density integrates to 1.01"):
                asked()
        else:
            assert asked() == (0, 1)


@given(strategies.drawn(refflow.LogTanh, np.float64))
def test_events_that_are_lost_in_their_image_are_not_drawn(drawn):
    """Differences of images that agree in most digits tell nothing of a slope."""
    f, p = drawn
    assert (np.abs(p.z) * f.jacobian(p.z)[:, 0, 0] >= strategies.LOST * np.abs(p.x)).all()


def test_a_map_between_intervals_has_events_that_have_not_saturated():
    """At z = 1/2 both maps are 1 to all digits; z = 1e-17 is taken to 1/2 by the first, z = 1e-100 by the second."""
    shown, hidden = refflow.KumaraswamyCDF(0.05, 13.0), refflow.KumaraswamyCDF([0.5, 0.016], [1.0, 50.0])
    assert not strategies.hidden(shown) and strategies.hidden(hidden)
    source = refflow.core.RandomSource(np.random.default_rng(0))
    z = strategies.points_of(source, shown, np.float64, 200, ()).z
    assert strategies.saturated(shown, np.array(0.5)) and strategies.saturated(shown, z).mean() < REJECTED / 2
    for _ in range(20):
        f, _ = strategies.value_of(source, refflow.KumaraswamyCDF, np.float64)
        assert not strategies.hidden(f)


def test_another_event_s_image_may_be_taken_out_of_the_floats():
    """The image of the first event stands for that of the second, which has rounded; the inverse there is 60 + 1e52."""
    f = refflow.LeakyTanh(np.array([0.5, 60], np.float32))
    z = np.array([2.0, 15.0], np.float32)
    p = Points(f, z, z, z, z)
    assert p.interior.tolist() == [True, False]
    with np.errstate(over="ignore"):
        assert f.inverse(p.inner_x)[1] == np.inf
    LAWS["forward of inverse"](f, p)


def test_laws_have_names_and_meanings():
    assert len(LAWS) == 57
    assert all(law.__doc__ for law in LAWS.values())
