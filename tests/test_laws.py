"""Every law on every page, ten draws of 32 points for each dtype, and on compositions, with a third as many draws.

`validation.questions` says how they are drawn; `python -m validation.steady` asks the same at many seeds.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

import refflow
from tallies import check_question
from refflow.accuracy.differences import RUNGS, U, log_det_extrapolated
from refflow.accuracy.points import Points
from refflow.core import of_kind
from refflow.laws import strategies
from refflow.laws import parametrisation_laws
from refflow.laws.bijector_laws import FD_ERROR, LAWS, run_value_laws
from refflow.laws.rejections import REJECTED
from refflow.maps.elementwise import AbsScale, SoftplusScale
from refflow.maps.parametrisations import IncreasingEntries, OrthonormalColumns
from validation.questions import questions


def each(kind):
    """A test's parameters: the questions of a kind."""
    asked = questions(kind)
    return pytest.mark.parametrize("question", asked, ids=[f"{one.name}-{one.dtype}" for one in asked])


@each("page")
def test_page(question):
    """Maps whose inverse is a solver, which costs as much, are asked at a third as many draws."""
    check_question(question)


@each("parametrisation")
def test_parametrisation(question):
    check_question(question)


@each("page with components")
def test_page_with_components(question):
    """Values from a page's `examples`."""
    check_question(question)


@each("composite")
def test_composite(question):
    check_question(question)


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


def without_index(vjp, h):
    try:
        return vjp(h)
    except ValueError as found:
        raise ValueError(str(found).replace("h[1, 0]", "h[0, 0]")) from None


def of_no_batch(vjp, h):
    return vjp(h if h.ndim == 1 else np.where(np.arange(h.shape[-1]), h, h + 1))


@pytest.mark.parametrize("bug, what", [(without_index, "the batch is OrthonormalColumns: Q must be"), (of_no_batch, "the batch is accepted")])
def test_what_a_parametrisation_refuses_is_refused_in_a_batch(bug, what):
    f, law = OrthonormalColumns(2, 2), parametrisation_laws.LAWS["a batch gives the fields of each"]
    h = np.random.default_rng(0).normal(size=(*parametrisation_laws.BATCH, f.size))
    h[1, 0] = [1, 2, 2, 4]
    drawn, before = (h, {"Q": np.ones((*parametrisation_laws.BATCH, *f.cores[0]))}), h.copy()
    law(f, drawn)
    np.testing.assert_array_equal(h, before)
    law(f, (np.ones_like(h), drawn[1]))
    mutant = type("Mutant", (OrthonormalColumns,), {"vjp": lambda self, h: bug(lambda h: OrthonormalColumns.vjp(self, h), h)})(2, 2)
    with pytest.raises(AssertionError, match=rf"h\[1, 0\] is refused by itself, {what}"):
        law(mutant, drawn)


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
    assert len(LAWS) == 60
    assert all(law.__doc__ for law in LAWS.values())


def test_the_generic_pullback_is_asked_at_images_of_the_page_alone():
    """The image of the first event stands for that of the second, which has rounded; its inverse is infinite, and the slope 0."""
    f = refflow.LogTanh(np.array([1.0, 15.438224792480469], np.float32))
    z = np.array([2.4, 7.474069595336914], np.float32)
    p = Points(f, z, z, z, z)
    assert p.interior.tolist() == [True, False]
    with np.errstate(over="ignore"):
        assert f.inverse(p.inner_x)[1] == np.inf
    LAWS["inverse pullback is the generic one"](f, p)
