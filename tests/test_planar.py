"""Planar, radial and Sylvester flows: the constraint, exact zeros, roots near singular maps, the centre, conventions, normflows."""

from __future__ import annotations

import numpy as np
import pytest

from authors_files import far
from refflow import (PIECEWISE_PLANARS, PLANARS, RADIALS, Affine, Chain, Concatenate, Inverse, OrthogonalLinear, Permutation,
                     PiecewisePlanar, Planar, Radial, Sylvester)
from refflow.maps.residual import hyperplane, planar
from refflow.maps.residual import sylvester as sylvester_page
from refflow.truth.measure import measure
from validation.original import planar as normflows

RNG = np.random.default_rng(0)
PAPER = next(name for name in PLANARS if "paper" in name)


def fields_of(map, h):
    h = np.asarray(h)
    with np.errstate(all="ignore"):
        return map.unchecked(h.dtype).vjp(h)[0]


def drawn(page, D=3, **given):
    fields = {"w": RNG.normal(size=D), "b": RNG.normal(), "u": RNG.normal(size=D), "slack": 0.3}
    return page(**fields | ({"negative_slope": 0.2} if page is PiecewisePlanar else {}) | given)


# -- the constraint ---------------------------------------------------------------------------------------------------

def test_the_slack_holds_where_a_rounded_direction_loses_it():
    """At w^T u = -14 in float32.  On the plane the determinant is the slack; of v as libraries compute it, `1 + w^T v` is off by
    half the slack for about half of the draws."""
    w, u = (RNG.normal(size=(4000, 4)) for _ in range(2))
    u -= (np.vecdot(w, u) + 14)[:, None] * w / np.vecdot(w, w)[:, None]
    w, u = np.float32(w), np.float32(u)
    fields = fields_of(PLANARS[PAPER](4), np.concatenate((w, u, 0 * w[:, :1]), -1))
    log_det = Planar(**fields).log_det(np.zeros_like(w))
    assert np.abs(log_det - np.log(fields["slack"])).max() <= 16 * 2.0**-24 * 14
    t = np.vecdot(w, u)
    v = u + ((np.log1p(np.exp(t)) - 1 - t) / np.vecdot(w, w))[:, None] * w
    assert v.dtype == np.float32
    lost = np.abs(1 + np.vecdot(np.float64(w), v) - fields["slack"]) > fields["slack"] / 2
    assert 0.3 < lost.mean() < 0.7


@pytest.mark.parametrize("page", [Planar, PiecewisePlanar])
def test_what_is_refused(page):
    with pytest.raises(ValueError, match=f"{page.__name__}: w must be finite and not all 0"):
        drawn(page, w=np.zeros(3))
    with pytest.raises(ValueError, match=rf"{page.__name__}: w must be finite and not all 0; w\[1"):
        drawn(page, w=np.array([[1.0, 0, 0], [0, 0, 0]]))
    for slack in (0.0, -0.5, np.nan):
        with pytest.raises(ValueError, match=f"{page.__name__}: slack must be"):
            drawn(page, slack=slack)
    with pytest.raises(ValueError, match="Radial: alpha must be"):
        Radial(np.zeros(2), 0.0, 1.0)


def test_a_slope_that_folds_space_is_refused():
    drawn(PiecewisePlanar, slack=0.5, negative_slope=np.nextafter(2, 0))
    with pytest.raises(ValueError, match=r"> 0; slack = 0.5, negative_slope = 2.0"):
        drawn(PiecewisePlanar, slack=0.5, negative_slope=2.0)
    with pytest.raises(ValueError, match=r"> 0; slack\[1\] = 0.25, negative_slope\[1\] = 3.0"):
        drawn(PiecewisePlanar, slack=np.array([0.75, 0.25]), negative_slope=np.array([3.0, 3.0]))


# -- exact zeros ------------------------------------------------------------------------------------------------------

def zeros_of(page, D=3):
    """u_bar for image cotangents that are multiples of w, exactly, and of the inverse for no image cotangent."""
    w, multiples = (RNG.normal(size=shape).astype(np.float32).astype(np.float64) for shape in ((D,), (8, 1)))
    f, event, ones, along = drawn(page, D, w=w), RNG.normal(size=(8, D)), np.ones(8), multiples * w
    return f.vjp(event)[1](along, ones)[1]["u"], f.inverse_vjp(event)[1](0 * along, ones)[1]["u"]


@pytest.mark.parametrize("page", [Planar, PiecewisePlanar])
@pytest.mark.parametrize("D", [1, 3])
def test_cotangents_of_u_that_are_0(page, D):
    for u_bar in zeros_of(page, D):
        assert not u_bar.any()
    if D == 1:
        assert not drawn(page, 1).vjp(np.ones((2, 1)))[1](np.array([[0.3], [0.7]]), np.ones(2))[1]["u"].any()


def test_a_projection_by_a_difference_is_not_0(monkeypatch):
    def plainly(w, x_bar):
        return hyperplane.pair(hyperplane.inner(w, w).high[..., None] * x_bar - hyperplane.inner(w, x_bar).high[..., None] * w)

    monkeypatch.setattr(hyperplane, "across", plainly)
    assert any(u_bar.any() for u_bar in zeros_of(Planar))


# -- roots ------------------------------------------------------------------------------------------------------------

def worst_inverse(slacks, events=1):
    """The largest error of all that the inverse gives, in units, at the same draws whatever tests ran before."""
    RNG.bit_generator.state = np.random.default_rng(7).bit_generator.state
    worst = 0.0
    for slack in slacks:
        for size in (0.5, 3.0) * events:
            f = drawn(Planar, 2, slack=slack)
            x = f.forward(size * RNG.normal(size=2))
            found = measure(f, x=x, z_bar=RNG.normal(size=2), log_det_bar=RNG.normal())
            worst = max([worst, *(C for C, _ in found.values())])
    return worst


def test_roots_near_a_singular_map_and_in_a_narrow_strip():
    assert worst_inverse([2.0**-40, 2.0**-20, 0.1, 1.0, 30.0, 2.0**20, 2.0**40]) < 1


def test_without_newtons_step_roots_lose_digits(monkeypatch):
    monkeypatch.setattr(planar, "newton_step", lambda root, step: root)
    assert worst_inverse([2.0**-40, 2.0**20], 4) > 9


# -- the centre -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_centre_of_a_radial_flow_stays(dtype):
    """There the log-det is its limit, `D log(slack/alpha)`, and its cone gives no gradient."""
    f = Radial(np.array([1.0, -2.0, 0.5], dtype), dtype(2), dtype(0.5))
    (x, log_det), pullback = f.vjp(f.centre)
    assert np.array_equal(x, f.centre) and np.array_equal(f.inverse(f.centre), f.centre)
    assert log_det == pytest.approx(3 * np.log(0.25), rel=1e-6)
    z_bar, bars = pullback(np.ones(3, dtype), dtype(1))
    assert np.allclose(z_bar, 0.25) and np.isfinite(np.concatenate([np.ravel(bar) for bar in bars.values()])).all()
    assert np.array_equal(f.jacobian(f.centre), 0.25 * np.eye(3, dtype=dtype))
    x_bar, bars = f.inverse_vjp(f.centre)[1](np.ones(3, dtype), dtype(1))
    assert np.allclose(x_bar, 4) and np.isfinite(np.concatenate([np.ravel(bar) for bar in bars.values()])).all()


def mass_around_the_centre(f, turn=lambda log_det: log_det):
    """The integral over x of N(z; 0, I) |det dz/dx| by Gauss's rule along rays from the centre, where the log-det has a cone."""
    nodes, weights = np.polynomial.legendre.leggauss(400)
    r, angles = 40 * (nodes + 1) / 2, np.linspace(0, 2 * np.pi, 200, endpoint=False)
    directions = np.stack((np.cos(angles), np.sin(angles)), -1)
    z, log_det = f.inverse_and_log_det(f.centre + r[:, None, None] * directions)
    density = np.exp(-(z**2).sum(-1) / 2 + turn(log_det)) / (2 * np.pi)
    return (density.mean(-1) * 2 * np.pi * r * weights).sum() * 20


@pytest.mark.parametrize("slack", [0.3, 2.0, 5.0])
def test_the_mass_of_a_radial_flow_of_the_plane_is_1(slack):
    """The law of the mass takes no grid over maps with breaks."""
    f = Radial(np.array([0.5, -1.0]), 1.5, slack)
    assert abs(mass_around_the_centre(f) - 1) < 1e-10
    assert abs(mass_around_the_centre(f, lambda log_det: -log_det) - 1) > 1e-2


# -- conventions ------------------------------------------------------------------------------------------------------

def test_conventions_by_hand():
    h, D = RNG.normal(size=7), 3
    w, u, b = h[:3], h[3:6], h[6]
    t = w @ u
    found = fields_of(PLANARS[PAPER](D), h)
    assert found["slack"] == pytest.approx(np.log(1 + np.exp(t))) and found["b"] == b
    assert fields_of(PLANARS["FlowJAX"](D), h)["slack"] == pytest.approx(np.log(1 + np.log(1 + np.exp(t))))
    leaky = fields_of(PIECEWISE_PLANARS["normflows"](D), h)
    assert (leaky["slack"], leaky["negative_slope"]) == (found["slack"], 0.2)
    assert fields_of(PIECEWISE_PLANARS["FlowJAX"](D, 0.01), h)["negative_slope"] == 0.01
    a, c = np.log1p(np.exp(h[3:5]))
    found = fields_of(RADIALS["Pyro, Bijectors.jl"](D), h[:5])
    assert np.array_equal(found["centre"], w) and (found["alpha"], found["slack"]) == pytest.approx((a, c))
    assert fields_of(RADIALS["normflows"](D), h[:5])["alpha"] == abs(h[3])


def test_torchflows_sigmoid_is_a_planar_flow_and_a_shift():
    h, z = RNG.normal(size=7), RNG.normal(size=(4, 3))
    w, u, b = h[:3], h[3:6], h[6]
    fields = fields_of(PLANARS["torchflows"](3), h)
    theirs = z + u / (1 + np.exp(-(z @ w + b)))[:, None]
    assert np.abs(Planar(**fields).forward(z) + u / 2 - theirs).max() < 1e-15 * 8
    assert fields["slack"] == pytest.approx(1 + w @ u / 4)
    with pytest.raises(ValueError, match="Planar: slack must be"):              # w^T u <= -4: nothing prevents it
        Planar(**fields_of(PLANARS["torchflows"](3), np.concatenate((w, -5 * w / (w @ w), [b]))))


# -- normflows' numbers -----------------------------------------------------------------------------------------------

def far_from_normflows():
    """The quantities that differ from normflows' by more than is allowed, and the arrays that nothing reads."""
    found, unread = normflows.read("radial_planar_normflows")
    return *far((found, unread)), len(found)


def test_normflows_numbers():
    assert far_from_normflows() == (set(), [], 32)


def test_another_convention_than_normflows_shows(monkeypatch):
    monkeypatch.setitem(normflows.MAPS, "radial", (Radial, RADIALS["Pyro, Bijectors.jl"], ("z_0", "alpha", "beta")))
    monkeypatch.setitem(normflows.MAPS, "planar_tanh", (Planar, PLANARS["FlowJAX"], ("w", "u", "b")))
    far, _, _ = far_from_normflows()
    assert {name.split(":")[0] for name in far} == {"radial0", "radial1", "radial_2d", "planar_tanh"}


# -- Sylvester flows --------------------------------------------------------------------------------------------------

def sylvester(D=4, **given):
    fields = {"R": np.triu(RNG.normal(size=(D, D)), 1), "S": np.triu(RNG.normal(size=(D, D)), 1), "diagonal": RNG.normal(size=D),
              "b": RNG.normal(size=D), "slack": RNG.uniform(0.1, 2, D)}
    return Sylvester(**fields | given)


@pytest.mark.parametrize("basis", ["orthogonal", "reversal"])
def test_a_sylvester_flow_in_a_basis_is_the_sources_formula(basis):
    Q = np.linalg.qr(RNG.normal(size=(4, 4)))[0] if basis == "orthogonal" else np.eye(4)[::-1]
    inner, outer = sylvester(), OrthogonalLinear(Q) if basis == "orthogonal" else Permutation([3, 2, 1, 0])
    f = Chain([Inverse(outer), inner, outer])
    R = inner.R + np.diag((inner.slack - 1) / inner.diagonal)
    S = inner.S + np.diag(inner.diagonal)
    z = RNG.normal(size=(6, 4))
    t = np.tanh(z @ Q @ S.T + inner.b)
    x, log_det = f.forward_and_log_det(z)
    assert np.abs(x - (z + t @ R.T @ Q.T)).max() < 1e-14
    assert np.abs(log_det - np.log1p((1 - t**2) * np.diag(R) * np.diag(S)).sum(-1)).max() < 1e-14
    assert np.abs(f.inverse(x) - z).max() < 1e-13


def test_fewer_units_than_entries():
    f = Concatenate([sylvester(2), Affine()], (2, 3))
    z = RNG.normal(size=(3, 5))
    x, log_det = f.forward_and_log_det(z)
    assert np.array_equal(x[:, 2:], z[:, 2:]) and np.array_equal(log_det, f.parts[0].log_det(z[:, :2]))


def test_one_unit_is_a_planar_flow_of_one_number():
    f, z = sylvester(1), RNG.normal(size=(5, 1))
    other = Planar(f.diagonal, f.b[0], np.zeros(1), f.slack[0])
    for ours, theirs in zip((*f.forward_and_log_det(z), *f.inverse_and_log_det(z)),
                            (*other.forward_and_log_det(z), *other.inverse_and_log_det(z))):
        assert np.abs(ours - theirs).max() < 1e-15


def test_what_a_sylvester_flow_refuses():
    for given, said in (({"diagonal": [1.0, 0, 1, 1]}, r"diagonal must be finite and not 0; diagonal\[1\]"),
                        ({"slack": [1.0, 1, 1, -0.5]}, r"slack must be .*; slack\[3\]"),
                        ({"R": np.ones((4, 4))}, "R must be finite and 0 on and below the diagonal")):
        with pytest.raises(ValueError, match=f"Sylvester: {said}"):
            sylvester(**given)


def test_roots_in_another_order_are_no_inverse(monkeypatch):
    """Rows are solved from the last to the first: without what later rows hand on, the inverse is wrong."""
    f, z = sylvester(), RNG.normal(size=(5, 4))
    x = f.forward(z)
    assert np.abs(f.inverse(x) - z).max() < 1e-12
    nothing = property(lambda self: np.zeros(self.S.shape), lambda self, value: None)
    monkeypatch.setattr(sylvester_page.Matrices, "G", nothing, raising=False)
    assert np.abs(f.inverse(x) - z).max() > 1e-3
