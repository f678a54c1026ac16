"""Breaks and their uses; splines and solvers: the planted bugs that their tests are for."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given

from tallies import check
from refflow import (REGISTRY, Affine, Chain, DenseLinear, Exp, Independent, Inverse, LeakyReLU, LogisticMixtureCDF,
                     RationalQuadraticSpline, Softsign, Tanh)
from refflow.accuracy.differences import EventDifferences, LossDifferences
from refflow.accuracy.points import Points
from refflow.core import RandomSource, bijector, exact_product, exact_sum, real
from refflow.laws import mass, strategies
from refflow.laws.bijector_laws import LAWS, run_laws
from refflow.laws.mass import has_breaks, total_mass
from refflow.laws.rejections import DRAWS, Tally
from refflow.maps.monotone import logistic_mixture_cdf
from refflow.maps.splines import rational_quadratic_spline
from refflow.maps.splines.rational_quadratic_spline import Place
from refflow.truth.measure import measure, truth_at_x
from validation.certify import first_order, made_on, truth, with_rows
from validation.points.drawn import Draw, Point

SPLINE = RationalQuadraticSpline([-2.0, 0.5, 1.0, 3.0], [-1.0, 0.0, 2.0, 2.5], [0.5, 8.0, 0.1, 2.0])
MASS = LAWS["mass is one"]


def points(f, z):
    one = np.ones_like(z)
    return Points(f, z, one, one, np.ones(len(z)))


def mutant(page, **functions):
    facts = {"source": page.source, "domain": page.domain, "codomain": page.codomain, "increasing": page.increasing}
    fields = {"__annotations__": dict.fromkeys(page.declared, "Array"), **page.declared}
    return bijector(register=False, **facts)(type(f"Mutant{page.__name__}", (page,), fields | functions))


# -- breaks -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("f, expected", [
    (Tanh(), []), (Softsign(), [0.0]), (SPLINE, [-2.0, 0.5, 1.0, 3.0]),
    (Chain((Affine(1.0, 2.0), LeakyReLU(0.1))), [-0.5]),
    (Chain((LeakyReLU(0.5), Affine(1.0, 2.0), Softsign())), [0.0, -1.0]),
    (Chain((Exp(), LeakyReLU(0.1))), [np.nan]),
    (Inverse(SPLINE), [-1.0, 0.0, 2.0, 2.5]), (Inverse(Chain((Softsign(), Affine(1.0, 2.0)))), [1.0]),
    (Independent(Softsign(), 2), [0.0]), (Chain((Independent(LeakyReLU(0.1), 1), DenseLinear(np.eye(2)))), [0.0]),
    (Chain((DenseLinear(np.eye(2)), LeakyReLU(0.1))), []), (Inverse(DenseLinear(np.eye(2))), [])], ids=repr)
def test_breaks(f, expected):
    np.testing.assert_array_equal(f.breaks(), expected)


def test_breaks_follow_the_parameters():
    f = Chain((Affine(shift=[0.0, 1.0, 2.0], scale=1.0), LeakyReLU(0.1)))
    np.testing.assert_array_equal(f.breaks(), [[0.0], [-1.0], [-2.0]])
    knots = np.stack([SPLINE.input_knots, SPLINE.input_knots + 1])
    f = Chain((Affine(1.0, 2.0), SPLINE.replace(input_knots=knots)))
    np.testing.assert_array_equal(f.breaks(), (knots - 1) / 2)
    lifted = Chain((Independent(f, 1), DenseLinear(np.eye(2))))
    np.testing.assert_array_equal(lifted.breaks(), (knots - 1) / 2)


def test_differences_do_not_step_across_a_break():
    z = np.array([0.5 + 1e-5, 0.49, 2.9, 3.1, -2.5])
    p = points(SPLINE, z)
    distance = np.abs(z[:, None] - SPLINE.input_knots).min(1)
    assert (EventDifferences(p).h[:, 0] <= distance / 16).all()
    fd = LossDifferences(p)
    of_knots = fd.h["input_knots",]
    assert of_knots[0, 1] <= distance[0] / 16 and of_knots[2, 3] <= distance[2] / 16
    assert (fd.h["slopes",] == SPLINE.slopes / 16).all()


@pytest.mark.parametrize("page", [Softsign, LeakyReLU, RationalQuadraticSpline, LogisticMixtureCDF])
def test_mass_is_found_at_every_draw(page):
    """The plateaus of a logistic mixture may be one float of x."""
    tally, source = Tally(), RandomSource(np.random.default_rng(0))
    for _ in range(DRAWS):                                  # some have no tails, ends may differ between events: not integrated
        tally.add({"mass": MASS(*strategies.drawn_of(source, page)) or (0, 0)})
    shares = tally.shares["mass"]
    assert len(shares) >= DRAWS / 3 and not tally.excess()
    assert page is LogisticMixtureCDF or not any(shares)


COMPOSITES = [Chain((Affine(1.0, 2.0), LeakyReLU(0.1), Softsign())), Inverse(SPLINE),
              Chain((Tanh(), Inverse(Softsign()), SPLINE)), Inverse(Chain((LeakyReLU(0.5), Exp())))]


@pytest.mark.parametrize("f", COMPOSITES, ids=repr)
def test_laws_of_compositions_with_breaks(f):
    tally = Tally()

    @given(strategies.points(f))
    def every_law(p):
        tally.add(run_laws(f, p))

    every_law()
    assert tally.shares["mass is one"] and not any(tally.shares["mass is one"])
    check(tally, lambda rng, wanted: run_laws(f, strategies.points_of(RandomSource(rng), f, np.float64, strategies.POINTS, ()), wanted))


def test_mass_of_vectors_with_breaks_is_left_to_their_entries():
    f = Chain((Independent(LeakyReLU(0.1), 1), DenseLinear(np.eye(2))))
    assert has_breaks(f) and not has_breaks(Chain((Tanh(), Affine(0.0, 1.0))))
    assert MASS(f, points(f, np.ones((1, 2)))) is None


def kinked(self, x):
    z, log_det = LeakyReLU.__mro__[0].inverse(self, x), np.where(x >= 0, 0.0, -np.log(self.negative_slope * (1 + 1e-6)))
    return z, log_det


def test_mass_catches_a_millionth():
    z = np.array([0.7])
    assert MASS(SPLINE, points(SPLINE, z)) == (0, 1)
    page = mutant(RationalQuadraticSpline, inverse_and_log_det=lambda self, x: (
        RationalQuadraticSpline.inverse(self, x), RationalQuadraticSpline.inverse_and_log_det(self, x)[1] + 1e-6))
    planted = page(SPLINE.input_knots, SPLINE.output_knots, SPLINE.slopes)
    with pytest.raises(AssertionError, match="the density integrates to"):
        MASS(planted, points(planted, z))
    planted = mutant(LeakyReLU, inverse_and_log_det=kinked)(0.25)
    with pytest.raises(AssertionError, match="the density integrates to"):
        MASS(planted, points(planted, z))


def test_breaks_are_certified_on_both_sides():
    for side in ("forward", "inverse"):
        drawn = list(Draw(RationalQuadraticSpline, "float32", side).break_points())
        assert all("a break" in point.reason for point in drawn)
        exact = [p for p in drawn if p.event in (p.f if side == "forward" else Inverse(p.f)).breaks()]
        assert len(exact) >= 20 and len(drawn) >= 2.9 * len(exact)


# -- knots -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("knots, rule", [([0.0, 0.0, 1.0], "strictly increasing"), ([0.0, np.nan, 1.0], "strictly increasing"),
                                         ([0.0], "at least 2 entries")])
def test_knots_are_refused(knots, rule):
    with pytest.raises(ValueError, match=rf"RationalQuadraticSpline: input_knots must .*{rule}"):
        RationalQuadraticSpline(knots, np.arange(float(len(knots))), np.ones(len(knots)))


# -- the pages --------------------------------------------------------------------------------------------------------

def test_the_spline_is_the_identity_beyond_agreeing_end_knots():
    f = RationalQuadraticSpline([-3.0, 0.1, 3.0], [-3.0, -1.0, 3.0], [1.0, 0.25, 1.0])
    z = np.array([-1e300, -7.1, np.nextafter(-3, -4), np.nextafter(3, 4), 5e-3 + 3, 1e17])
    np.testing.assert_array_equal(f.forward(z), z)
    np.testing.assert_array_equal(f.inverse(z), z)
    np.testing.assert_array_equal(f.log_det(z), 0)


def test_knots_are_met_exactly():
    np.testing.assert_array_equal(SPLINE.forward(SPLINE.input_knots), SPLINE.output_knots)
    np.testing.assert_array_equal(SPLINE.inverse(SPLINE.output_knots), SPLINE.input_knots)
    np.testing.assert_allclose(SPLINE.jacobian(SPLINE.input_knots)[:, 0, 0], SPLINE.slopes, rtol=1e-15)


def test_fields_have_batch_axes():
    rng = np.random.default_rng(3)
    knots = [np.cumsum(np.exp(rng.normal(size=(5, 3, 4))), -1) - 3 for _ in range(2)]
    f, z = RationalQuadraticSpline(*knots, np.exp(rng.normal(size=(5, 3, 4)))), rng.normal(size=(5, 3))
    alone = RationalQuadraticSpline(f.input_knots[4, 1], f.output_knots[4, 1], f.slopes[4, 1])
    assert f.forward(z).shape == (5, 3) and f.forward(z)[4, 1] == alone.forward(z[4, 1])
    per_dimension = RationalQuadraticSpline(f.input_knots[0], f.output_knots[0], f.slopes[0])
    _, bars = per_dimension.vjp(z)[1](np.ones((5, 3)), np.ones((5, 3)))
    assert bars["slopes"].shape == (3, 4)


def single_branch(self, x):
    v = RationalQuadraticSpline.inverse_place(self, x)
    m = v.p * v.e_1 - v.q * v.e_0
    v.t = (m + np.sqrt(m * m + 4 * v.p * v.q)) / (m + np.sqrt(m * m + 4 * v.p * v.q) + 2 * v.q)
    v.f = 1 - v.t
    v.a, v.b = v.w * v.t, v.w * v.f
    return v.at(v.t, v.f)


def test_a_single_branch_of_the_root_is_caught():
    case = next(case for case in RationalQuadraticSpline.hard_cases if case.name == "RootCancels")
    healthy, planted = RationalQuadraticSpline(**case.params), mutant(RationalQuadraticSpline, inverse_place=single_branch)
    assert measure(healthy, x=1e-9)["inverse"][0] < 2
    assert measure(planted(**case.params), x=1e-9)["inverse"][0] > 1e3


def far_from_knots(self):
    near, *of_knot = Place.near_knot.fget(self)
    return np.zeros_like(near), *of_knot


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("name, event", [("NearKnot", {"z": 0.0037}), ("NearKnotBack", {"x": 0.002})])
def test_a_log_det_without_the_form_near_a_knot_is_caught(name, event, dtype, monkeypatch):
    case = next(case for case in RationalQuadraticSpline.hard_cases if case.name == name)
    f, quantity = RationalQuadraticSpline(**case.params), "log_det" if "z" in event else "inverse_log_det"
    assert measure(f, dtype=dtype, **event)[quantity][0] < 1
    planted = type("Planted", (Place,), {"near_knot": property(far_from_knots)})
    monkeypatch.setattr(rational_quadratic_spline, "Place", planted)
    assert measure(f, dtype=dtype, **event)[quantity][0] > 4


def underflowing(self, bar):
    E_0, E_1 = Place.shared(self, np.ones_like(bar))
    return bar * E_0, bar * E_1


def test_a_product_that_underflows_before_its_last_factor_is_caught(monkeypatch):
    case = next(case for case in RationalQuadraticSpline.hard_cases if case.name == "FlatKnot")
    f = RationalQuadraticSpline(**case.params)

    def error():
        return measure(f, x=-1e-30, z_bar=1e6, log_det_bar=0.0, dtype=np.float32)["inverse_vjp.output_knots_bar"][0]

    assert error() < 2
    monkeypatch.setattr(rational_quadratic_spline, "Place", type("Planted", (Place,), {"shared": underflowing}))
    assert error() > 1e3


def test_a_naive_log_det_of_softsign_is_caught():
    planted = mutant(Softsign, log_det=lambda self, z: -2 * np.log(1 + np.abs(z)))
    assert measure(Softsign(), z=1e-17)["log_det"][0] < 2 and measure(planted(), z=1e-17)["log_det"][0] > 1e10


def test_a_solver_stopped_early_is_caught(monkeypatch):
    f = LogisticMixtureCDF([0.3, 0.7], [-1.0, 2.0], [0.5, 3.0])
    assert measure(f, x=0.4)["inverse"][0] < 4
    exact = logistic_mixture_cdf.increasing_root
    monkeypatch.setattr(logistic_mixture_cdf, "increasing_root", lambda *given: exact(*given) * (1 + 1e-11))
    assert measure(f, x=0.4)["inverse"][0] > 1e3


def test_a_rounded_difference_of_weights_is_caught(monkeypatch):
    """On a plateau z is determined by digits that x W and the sum of weights do not share."""
    case = next(case for case in LogisticMixtureCDF.hard_cases if case.name == "TinyWeights")
    f, at = LogisticMixtureCDF(**case.params), {"x": case.x[0], "z_bar": -5e13, "log_det_bar": 4e11}
    assert max(C for C, _ in measure(f, **at).values()) < 1
    monkeypatch.setattr(logistic_mixture_cdf, "exact_sum", lambda terms: sum(terms[1:], terms[0]))
    assert measure(f, **at)["inverse_vjp.x_bar"][0] > 1e3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_and_products_without_rounding(dtype):
    rng, u = np.random.default_rng(4), Fraction(float(np.finfo(dtype).eps)) / 2
    a, b = (np.ldexp(rng.uniform(-1, 1, 500), rng.integers(-15, 15, 500)).astype(dtype) for _ in range(2))
    p, r = exact_product(a, b)
    assert p.dtype == r.dtype == dtype and (p == a * b).all() and r.any()
    for v, w, m, n in zip(*(map(Fraction, array.tolist()) for array in (a, b, p, r))):
        assert v * w == m + n
    terms = [np.ldexp(rng.uniform(-1, 1, 300), rng.integers(-40, 20, 300)).astype(dtype) for _ in range(6)]
    terms += [-(terms[0] + terms[1]), -terms[2], -terms[4], np.zeros(300, dtype)]
    found = exact_sum([terms[i] for i in rng.permutation(10)])
    exact = [sum(Fraction(float(t[i])) for t in terms) for i in range(300)]
    assert all(abs(Fraction(float(s)) - e) <= 2 * u * abs(e) for s, e in zip(found, exact))
    assert sum(abs(Fraction(float(s)) - e) > 8 * u * abs(e) for s, e in zip(sum(terms), exact)) > 100      # these sums cancel


def test_ends_of_the_mixture():
    f = LogisticMixtureCDF([0.3, 0.7], [-1.0, 2.0], [0.5, 3.0])
    z, log_det = f.inverse_and_log_det([0.0, 1.0])
    np.testing.assert_array_equal(z, [-np.inf, np.inf])
    np.testing.assert_array_equal(log_det, np.inf)
    assert np.isfinite(f.inverse([np.nextafter(0, 1), np.nextafter(1, 0)])).all()


def test_weights_rounded_to_float32_add_up_to_1_in_float64_again():
    f = LogisticMixtureCDF([1 / 3, 2 / 3], [-1.0, 2.0], [0.5, 3.0]).astype(np.float32)
    assert f.weights.sum(dtype=float) != 1 and abs(f.astype(float).weights.sum() - 1) < 2**-52


# -- the truth and the certificate ------------------------------------------------------------------------------------

def test_a_root_near_a_branch_point_is_not_the_branch_point():
    """The first step of Newton's method starts at the knot, which the claim equals to within rounding."""
    f = RationalQuadraticSpline([-2.4662167681637222e17, -4.1527334988975154e-16, 2.4484841439076938e17],
                                [-3.7084910786711214e-10, 7.329177200884561e-15, 675605.5607815613],
                                [14.070262264340064, 4.423748356194072e-07, 6.305533371986902e-06])
    assert measure(f, x=-1e-300)["inverse_log_det"][0] < 4
    end = RationalQuadraticSpline([-1.0, -1.2323407748703054e-11], [4.236127462585807e-09, 0.04680721941171545], [2e6, 2.5e10])
    assert float(truth_at_x(end, np.array(0.04680721941171545))["inverse"].value[0].mid()) == -1.2323407748703054e-11


def test_where_kappa_is_not_of_first_order_nothing_is_asked():
    f = LogisticMixtureCDF([0.25, 0.75], [-40.0, 41.0], [1.0, 1.0])
    for x, expected in ((0.25, False), (0.2, True)):
        point = Point(f, "inverse", np.array(x), None, None, "", "")
        assert first_order(point, "inverse", truth(point)) is expected


def test_rows_of_one_page_replace_its_own_alone():
    recorded = {"fingerprint": {"machine": "here"}, "points": {"A": 1, "C": 1}, "pages": {"A": 1, "C": 1}}
    found = {"fingerprint": {"machine": "here"}, "points": {"B": 2, "C": 2}, "pages": {"B": 2, "C": 2}}
    merged = with_rows(recorded, found)
    assert merged["pages"] == {"A": 1, "B": 2, "C": 2} and list(merged["pages"]) == ["A", "B", "C"]
    assert merged["elsewhere"] == {}


def test_rows_of_another_machine_say_so():
    recorded = {"fingerprint": {"machine": "here"}, "points": {"A": 1, "C": 1}, "pages": {"A": 1, "C": 1}}
    found = {"fingerprint": {"machine": "there"}, "points": {"B": 2, "C": 2}, "pages": {"B": 2, "C": 2}}
    merged = with_rows(recorded, found)
    assert [made_on(merged, name)["machine"] for name in "ABC"] == ["here", "there", "there"]
    again = with_rows(merged, {"fingerprint": {"machine": "here"}, "points": {"C": 3}, "pages": {"C": 3}})
    assert [made_on(again, name)["machine"] for name in "ABC"] == ["here", "there", "here"]


def test_the_pages_are_found_by_name():
    assert {"Softsign", "LeakyReLU", "RationalQuadraticSpline", "LogisticMixtureCDF"} <= set(REGISTRY)
    assert real is SPLINE.domain is SPLINE.codomain


def test_mass_inside_one_float_is_doubted(monkeypatch):
    """A plateau of x near 1/2 that is a single float.  A normal there has the mass 1e11, unless it is refused; the one
    around the image of the middle gives 1.
    """
    f = LogisticMixtureCDF(weights=[0.5, 0.5], loc=[7.44, 41.09], scale=[0.21, 0.31])
    p = points(f, np.array([7.5]))
    assert abs(total_mass(p)[0] - 1) < 1e-6 and MASS(f, p)[0] == 0
    both = mass.latent_normals
    monkeypatch.setattr(mass, "latent_normals", lambda view, p, R: iter([next(both(view, p, R))]))
    assert np.isnan(total_mass(p)[0]) and MASS(f, points(f, np.array([7.5]))) == (1, 1)
