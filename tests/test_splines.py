"""Splines: tails, knots, joints, the words that they share; the planted bugs that their exact comparisons are for."""

from __future__ import annotations

import numpy as np
import pytest

from refflow import (Chain, CircularShift, Coupling, CubicSpline, Family, Free, HalfLine, Inverse, LinearRationalSpline,
                     LinearSpline, PerField, QuadraticSpline, RationalQuadraticSpline, SmoothSpline, SoftplusScale)
from refflow.core import plain
from refflow.core.boundary import BLOCK, cut_into_blocks
from refflow.maps.conditioners import Dense
from refflow.maps.parametrisations.parametrisation import Map, value
from refflow.maps.splines import linear_rational_spline
from refflow.maps.splines.bins import Tails, at_ends, at_knots, bin_of
from refflow.maps.splines.cubic_spline import Place
from refflow.truth.measure import measure, problem
from validation.points.branches import NEAR, branches_at
from validation.certify import ROUNDED
from validation.points.drawn import BINADE, FAR, Draw

KNOTS = {"input_knots": [-2.0, 0.5, 1.0, 3.0], "output_knots": [-1.0, 0.0, 2.0, 2.5]}
OTHERS = {"RationalQuadraticSpline": {"slopes": [0.5, 8.0, 0.125, 2.0]}, "LinearSpline": {},
          "CubicSpline": {"end_slopes": [0.5, 2.5]}, "LinearRationalSpline": {"slopes": [0.5, 8.0, 0.125, 2.0], "middles": [0.25, 0.5, 0.75]}}
SPLINES = {page.__name__: KNOTS | OTHERS[page.__name__] for page in
           (RationalQuadraticSpline, LinearSpline, CubicSpline, LinearRationalSpline)}
SPLINES |= {"QuadraticSpline": {"input_knots": KNOTS["input_knots"], "slopes": [0.5, 8.0, 0.125, 2.0], "start": -1.0}}
PAGES = {page.__name__: page for page in (RationalQuadraticSpline, LinearSpline, CubicSpline, LinearRationalSpline,
                                          QuadraticSpline)}


def spline(name, tails="identity", **changes):
    return PAGES[name](**SPLINES[name] | changes, tails=tails)


def images(f):
    return np.asarray(f.output_knots)


# -- tails ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", PAGES)
def test_knots_are_met_exactly(name):
    for tails in ("identity", "linear", "none"):
        f = spline(name, tails)
        np.testing.assert_array_equal(f.forward(f.input_knots), images(f))
        np.testing.assert_array_equal(f.inverse(images(f)), f.input_knots)


@pytest.mark.parametrize("name", PAGES)
def test_without_tails_the_domain_is_closed_and_ends(name):
    f = spline(name, "none")
    ends = f.input_knots[[0, -1]]
    assert (f.domain.lower, f.domain.upper) == (-2.0, 3.0) and (f.codomain.lower, f.codomain.upper) == tuple(images(f)[[0, -1]])
    np.testing.assert_array_equal(f.forward(ends), images(f)[[0, -1]])
    with pytest.raises(ValueError, match=rf"{name}: z must be in \(-2, 3\); z\[1\] = 3.0000000000000004"):
        f.forward([3.0, np.nextafter(3, 4)])
    with pytest.raises(ValueError, match=f"{name}: x must be in"):
        f.inverse(np.nextafter(images(f)[0], -5))


@pytest.mark.parametrize("name", PAGES)
def test_the_identity_beyond_agreeing_end_knots(name):
    f = (QuadraticSpline([-2.0, 2.0], [1.0, 1.0], -2.0) if name == "QuadraticSpline" else
         spline(name, output_knots=[-2.0, 0.0, 2.0, 3.0]))
    z = np.array([-1e300, np.nextafter(-2, -3), np.nextafter(3, 4), 1e17])
    for found in (f.forward(z), f.inverse(z)):
        np.testing.assert_array_equal(found, z)
    np.testing.assert_array_equal(f.log_det(z), 0)


@pytest.mark.parametrize("name", PAGES)
def test_linear_tails_keep_the_slope(name):
    f = spline(name, "linear")
    slopes = f.jacobian(f.input_knots[[0, -1]])[:, 0, 0]
    z = f.input_knots[[0, -1]] + np.array([-8.0, 16.0])
    np.testing.assert_allclose(f.forward(z), images(f)[[0, -1]] + slopes * [-8.0, 16.0], rtol=1e-15)
    np.testing.assert_allclose(f.log_det(z), np.log(slopes), rtol=1e-15)
    np.testing.assert_allclose(f.inverse(f.forward(z)), z, rtol=1e-15)


@pytest.mark.parametrize("name", PAGES)
def test_other_tails_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}: tails must be one of .*'identity', 'linear', 'none'.*, not 'periodic'"):
        spline(name, "periodic")


def test_bins_that_are_lost_are_refused():
    QuadraticSpline([0.0, 1.0], [1.0, 1.0], 2.0**53)
    with pytest.raises(ValueError, match="QuadraticSpline: without tails .* all bins are lost beside start; first at"):
        QuadraticSpline([0.0, 0.5], [1.0, 1.0], 2.0**54, tails="none")


@pytest.mark.parametrize("name", PAGES)
def test_batches_without_an_inner_event(name):
    for tails in ("identity", "linear"):
        f = spline(name, tails)
        for z in (np.array([-9.0, 5.0, 1e5]), np.zeros((0,)), np.zeros((3, 0))):
            (x, _), pullback = f.vjp(z)
            z_bar, bars = pullback(np.ones_like(z), np.ones_like(z))
            assert x.shape == z_bar.shape == z.shape and {k: v.shape for k, v in bars.items()} == {
                k: v.shape for k, v in f.params().items()}
            np.testing.assert_allclose(f.inverse(x), z, rtol=1e-15)


# -- smoothness -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["QuadraticSpline", "CubicSpline", "RationalQuadraticSpline", "LinearRationalSpline"])
def test_slopes_are_continuous(name):
    f = spline(name, "linear")
    breaks = f.breaks()
    below, above = (f.jacobian(np.nextafter(breaks, end)) for end in (-9.0, 9.0))
    np.testing.assert_allclose(below, above, rtol=1e-13)


@pytest.mark.parametrize("name", PAGES)
def test_a_straight_spline_is_the_line(name):
    knots = np.array([-2.0, 0.5, 1.0, 3.0])
    straight = {"slopes": np.full(4, 0.25), "output_knots": knots / 4, "end_slopes": [1.0, 1.0], "start": -0.5}
    f = spline(name, **{key: value for key, value in straight.items() if key in SPLINES[name]})
    z = np.linspace(-2, 3, 41)
    np.testing.assert_allclose(f.forward(z), z / 4, rtol=1e-15, atol=1e-16)
    np.testing.assert_allclose(f.log_det(z), np.log(0.25), rtol=1e-15)


# -- families ---------------------------------------------------------------------------------------------------------

@value
class Slopes(Map):
    """The slopes of a spline on fixed knots."""

    tails: str = plain("none")
    size, names = 2, ("slopes",)

    def vjp(self, h):
        d = np.exp(h)
        fixed = {"input_knots": np.array([0.0, 1.0]), "output_knots": np.array([0.0, 3.0]), "tails": self.tails}
        return {"slopes": d} | fixed, lambda bars: (bars["slopes"] * d, {})


def test_a_family_has_the_domain_of_its_bijectors():
    closed, real = (Family(RationalQuadraticSpline, Slopes(tails)) for tails in ("none", "linear"))
    assert (closed.domain.lower, closed.domain.upper, closed.codomain.upper) == (0.0, 1.0, 3.0)
    assert np.isinf(real.domain.lower) and np.isinf(real.codomain.upper)
    f = Coupling([True, False], Dense([[0.25], [0.5]], [0.0, 0.0]), closed)
    z = np.array([[0.5, 0.25], [0.0, 1.0]])
    np.testing.assert_allclose(f.inverse(f.forward(z)), z, rtol=1e-15)
    with pytest.raises(ValueError, match=r"Coupling: z must be in \(0, 1\); z\[0, 1\] = 1.25"):
        f.forward([[0.5, 1.25]])


def test_a_family_whose_domain_moves_is_refused():
    with pytest.raises(ValueError, match="Family: the codomain of HalfLine must not depend on h"):
        Family(HalfLine, PerField(("end", "scale"), (Free(), SoftplusScale())))


# -- the words that splines share -------------------------------------------------------------------------------------

def test_bins():
    knots = np.array([0.0, 1.0, 4.0])
    np.testing.assert_array_equal(bin_of(knots, np.array([-1.0, 0.0, 0.5, 1.0, 4.0, 9.0])), [0, 0, 0, 1, 1, 1])
    per_event = np.array([[0.0, 1.0, 4.0], [0.0, 3.0, 4.0]])
    np.testing.assert_array_equal(bin_of(per_event, np.array([2.0, 2.0])), [1, 0])


def test_at_knots_is_the_adjoint_of_at_ends():
    rng = np.random.default_rng(0)
    values, k = rng.normal(size=(5, 4)), rng.integers(0, 3, 5)
    bars = rng.normal(size=(2, 5))
    forward = sum((bar * end).sum() for bar, end in zip(bars, at_ends(values, k)))
    assert np.isclose((at_knots(k, *bars, 4) * values).sum(), forward, rtol=1e-14)


def test_tails_from_both_sides():
    knots, image, slopes = np.array([0.0, 1.0]), np.array([2.0, 4.0]), (np.float64(0.5), np.float64(8.0))
    z, one = np.array([-1.0, 0.5, 3.0]), np.ones(3)
    there = Tails(z, knots, image, slopes)
    x = there.joined(np.full(3, np.nan))
    np.testing.assert_array_equal(x, [1.5, np.nan, 20.0])
    back = Tails(np.where(there.inside, 3.0, x), image, knots, slopes, back=True)
    np.testing.assert_array_equal(back.joined(np.full(3, np.nan)), [-1.0, np.nan, 3.0])
    np.testing.assert_array_equal(there.slope(one) * back.slope(one), 1)
    np.testing.assert_array_equal(there.log_slope(0 * one), -back.log_slope(0 * one))
    np.testing.assert_array_equal(there.slope_bar(one, 0 * one)[[0, 2]], [-1.0, 2.0])
    np.testing.assert_array_equal(back.slope_bar(one, 0 * one)[[0, 2]], [2.0, -0.25])


# -- blocks -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shape, batch", [((3 * BLOCK + 5,), (3 * BLOCK + 5,)), ((5, BLOCK), (5, BLOCK)), ((5, BLOCK), (5, 1)),
                                          ((5, BLOCK), ()), ((5, BLOCK), (BLOCK,))])
def test_large_batches_are_their_parts(shape, batch):
    """Blocks of events take along the fields that differ from event to event."""
    rng = np.random.default_rng(0)
    fields = [np.cumsum(rng.uniform(0.5, 2, (*batch, 4)), -1) - 3, np.cumsum(rng.uniform(0.5, 2, 4)) - 3,
              rng.uniform(0.5, 2, (*batch, 4))]
    f, z = RationalQuadraticSpline(*fields), rng.normal(size=shape) * 3
    last = RationalQuadraticSpline(*(np.broadcast_to(v, (*shape, 4))[-1:] for v in fields))
    for whole, part in zip(f.forward_and_log_det(z), last.forward_and_log_det(z[-1:])):
        np.testing.assert_allclose(whole[-1:], part, rtol=1e-14)
    assert cut_into_blocks(f.unchecked(np.float64), z) is (batch in ((), shape))


# -- planted bugs -----------------------------------------------------------------------------------------------------

def rounded_distances(self, x):
    return x[..., None] - self.output_knots


def test_a_bin_found_by_rounded_knots_is_caught(monkeypatch):
    """Derivatives of the log-det jump at a knot; x lies between its image and the rounded one."""
    f = QuadraticSpline([0.5466189793071411, 1.0389452383131919, 1.680560482385998, 2.5455858662154087],
                        [0.9098621552710119, 1.0739983236712742, 0.31289947510215577, 1.3126291848626368], -0.5331059241023814)
    event = {"x": -0.04475262010857751, "z_bar": 0.0, "log_det_bar": 1.0}
    assert measure(f, **event)["inverse_vjp.x_bar"][0] < 2
    monkeypatch.setattr(QuadraticSpline, "distances", rounded_distances)
    assert measure(f, **event)["inverse_vjp.x_bar"][0] > 1e6


def rounded_side(x, x_0, x_1, d_0, d_1, middle):
    return (x - x_0) * ((1 - middle) * np.sqrt(d_1)) - (x_1 - x) * (middle * np.sqrt(d_0)) <= 0


def test_a_piece_found_by_a_rounded_middle_is_caught(monkeypatch):
    f = LinearRationalSpline([0.0, 1.0], [-1.093335909657314, 1.865383649324082], [1.681761457892702, 0.6209038496247647],
                             [0.2553038183126349])
    events = [{"x": -0.026115134601163 + k * 2.0**-58, "z_bar": 0.0, "log_det_bar": 1.0} for k in range(-3, 4)]
    assert all(measure(f, **event)["inverse_vjp.x_bar"][0] < 2 for event in events)
    monkeypatch.setattr(linear_rational_spline, "image_below_middle", rounded_side)
    assert any(measure(f, **event)["inverse_vjp.x_bar"][0] > 1e6 for event in events)


def plain_S(self):
    return self.e_0 * self.S_0 + self.e_1 * self.S_1 + 6 * self.t * self.f


def test_a_slope_of_terms_that_cancel_is_caught(monkeypatch):
    f = CubicSpline([0.0, 1.0], [-1.0, 0.0], [2.9999999999999973, 1.7967566323148765e-16])
    x = -1e-17
    assert measure(f, x=x)["inverse_log_det"][0] < 4
    monkeypatch.setattr(Place, "S", property(plain_S))
    assert measure(f, x=x)["inverse_log_det"][0] > 1e3


def test_rounded_breaks_are_told_from_wrong_ones():
    f = spline("LinearRationalSpline")
    right, near = np.array(f.breaks()), ROUNDED * 2.0**-52
    assert len(right) == 7 and branches_at(problem(f), right.tolist(), near)
    third = LinearRationalSpline([0.0, 1.0], [0.0, 1.0], [1.0, 1.0], [1 / 3])
    assert branches_at(problem(third), third.breaks().tolist(), near)
    wrong = right + np.where(np.arange(7) == 1, 1e-12, 0)
    assert not branches_at(problem(f), wrong.tolist(), near)
    assert not branches_at(problem(f), right[[0, 2, 4, 6]].tolist(), near) and near > NEAR


def test_a_far_line_is_certified_at_fewer_binades():
    draw = Draw(LinearSpline, "float64", "forward")
    exponents = draw.binades()
    assert set(range(-64, 65)) < set(exponents) and {e for e in exponents if abs(e) > 64} == {
        e for e in range(-1074, 1000) if abs(e) > 64 and e % FAR in (0, 1)}
    far = [p for p in draw.binade_points() if p.event != 0 and abs(np.log2(abs(p.event))) > 65]
    assert {p.reason == BINADE for p in far} == {True, False}


def test_breaks_of_a_chain_with_middles():
    f = Chain((spline("LinearRationalSpline"), Inverse(spline("LinearRationalSpline"))))
    assert len(f.breaks()) == 14


# -- the circle -------------------------------------------------------------------------------------------------------

def test_rotations_of_a_circle():
    f = CircularShift([-np.pi, np.pi], 0.25)
    z = np.array([-np.pi, -1.0, 0.0, 3.0, np.pi])
    np.testing.assert_allclose(f.forward(z), [-np.pi / 2, np.pi / 2 - 1, np.pi / 2, 3 - 1.5 * np.pi, -np.pi / 2], rtol=1e-15)
    np.testing.assert_allclose(f.inverse(f.forward(z[:-1])), z[:-1], rtol=1e-15, atol=1e-15)
    quarter = Chain((f, f, f, f))
    np.testing.assert_allclose(quarter.forward(z[1:-1]), z[1:-1], rtol=1e-14, atol=1e-14)
    with pytest.raises(ValueError, match="CircularShift: turns must be in"):
        CircularShift([0.0, 1.0], 1.0)


def test_a_spline_on_a_circle_is_smooth_at_the_joint():
    """A spline without tails whose end slopes are equal, between two rotations."""
    spline_on_circle = RationalQuadraticSpline([0.0, 0.25, 1.0], [0.0, 0.75, 1.0], [0.5, 2.0, 0.5], tails="none")
    f = Chain((CircularShift([0.0, 1.0], 0.3), spline_on_circle, CircularShift([0.0, 1.0], -0.6)))
    z = np.linspace(0, 1, 101)[1:-1]
    x, log_det = f.forward_and_log_det(z)
    np.testing.assert_allclose(f.inverse(x), z, rtol=1e-13, atol=1e-14)
    step = 2.0**-30
    beside = f.forward([1 - step, step])
    assert abs((beside[1] - beside[0]) % 1 / (2 * step) - np.exp(f.log_det([step])[0])) < 1e-6
    assert np.ptp(log_det) > 1


@pytest.mark.parametrize("end_slopes, joints", [([0.5, 3.0], 1), (None, 2)])
def test_a_smooth_spline_has_a_continuous_second_derivative(end_slopes, joints):
    """At the inner knot, and on a circle where its ends meet; with another inner slope it has not."""
    knots, tails = {"input_knots": [0.0, 0.3, 1.0], "output_knots": [0.0, 0.6, 1.0]}, "linear" if end_slopes else "none"
    f, h = SmoothSpline(**knots, end_slopes=end_slopes, tails=tails), 1e-6
    slopes = f.jacobian([0.0, 0.3, 1.0])[:, 0, 0]
    bent = RationalQuadraticSpline(**knots, slopes=slopes * [1, 1.01, 1], tails=tails)
    for page, smooth in ((f, True), (bent, False)):
        d = page.jacobian([0.3 - h, 0.3, 0.3 + h, 1.0 - h, 1.0, 0.0, h])[:, 0, 0]
        jumps = [(d[2] - d[1]) - (d[1] - d[0]), (d[6] - d[5]) - (d[4] - d[3])][:joints]
        assert (np.abs(jumps) < 1e-3 * h).all() == smooth


def test_the_inner_slope_of_a_smooth_spline():
    """The root of x^2 - 2 (-p/2) x + q as jammy_flows has it, from parts of the heights and of the raw slopes."""
    (w_0, w_1), (h_0, h_1), (a, b) = (0.3, 0.7), (0.6, 0.4), (0.5, 3.0)
    parts = h_0 / (h_0 + h_1), h_1 / (h_0 + h_1)
    middle = 0.5 * (parts[0] * (h_1 / w_1 - b) + parts[1] * (h_0 / w_0 - a))
    q = -h_0 * h_1 * (parts[0] / w_0 ** 2 + parts[1] / w_1 ** 2)
    f = SmoothSpline([0.0, 0.3, 1.0], [0.0, 0.6, 1.0], [a, b])
    assert f.jacobian(0.3)[0, 0] == pytest.approx(middle + np.sqrt(middle ** 2 - q), rel=1e-14)


def test_a_jump_found_by_rounding_is_caught(monkeypatch):
    f = CircularShift([0.1, 0.7], 0.3)
    z = f.breaks()[0] + 2.0**-53 * np.arange(-4, 5)
    assert all(measure(f, z=v)["forward"][0] < 4 for v in z)

    def rounded(self, event, turns):
        a, b = self.ends
        part = turns - (event + turns * (b - a) * (1 + 2.0**-51) >= b)
        return np.clip(event + part * (b - a), a, b), part

    monkeypatch.setattr(CircularShift, "turned", rounded)
    assert any(measure(f, z=v)["forward"][0] > 1e6 for v in z)
