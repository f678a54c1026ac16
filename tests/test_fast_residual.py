"""Tuned planar and radial flows are their pages: values, cotangents, roots, and where the pages take over."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pytest

from refflow import Chain, Flow, Inverse, Planar, Radial, StandardNormal
from refflow.core import tree
from refflow.fast import residual, tuned
from refflow.training import LikelihoodGradient

SLACKS = (2.0**-30, 0.05, 0.7, 1.0, 3.0, 2.0**30)


def planar(rng, slack=0.3, D=2, dtype=np.float64, batch=()):
    fields = {"w": rng.normal(size=(*batch, D)), "b": rng.normal(size=batch), "u": rng.normal(size=(*batch, D))}
    return Planar(**{key: held.astype(dtype) for key, held in (fields | {"slack": np.full(batch, slack)}).items()})


def quantities(f, event, image_bar, log_det_bar):
    """The arrays of both sides: the event serves as a latent and as an image."""
    found = [f.jacobian(event)]
    for values, method in ((f.forward_and_log_det, f.vjp), (f.inverse_and_log_det, f.inverse_vjp)):
        image, pullback = method(event)
        event_bar, bars = pullback(image_bar, log_det_bar)
        found += [*values(event), *image, event_bar, *(bars[key] for key in sorted(bars))]
    return found


def difference(f, shape=(50,), size=2.0):
    """The largest difference of `tuned(f)` from the page f, as a part of the largest number of each quantity, in roundings."""
    rng, page, found = np.random.default_rng(7), f, tuned(f)
    assert type(found) in (residual.TunedPlanar, residual.TunedRadial)
    D = f.dims["D"]
    given = size * rng.normal(size=(*shape, D)), rng.normal(size=(*shape, D)), rng.normal(size=shape)
    given = [one.astype(f.dtype) for one in given]
    pairs = list(zip(quantities(found, *given), quantities(page, *given), strict=True))
    assert all(one.dtype == f.dtype and one.shape == other.shape for one, other in pairs)
    return max((np.abs(one - other).max(initial=0) / max(np.abs(other).max(initial=0), 1e-3) for one, other in pairs)) \
        / np.finfo(f.dtype).eps


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("D", [2, 3, 8])
@pytest.mark.parametrize("slack", SLACKS)
def test_a_planar_flow_is_its_page(slack, D, dtype):
    assert difference(planar(np.random.default_rng(0), slack, D, dtype)) < 1000


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3)])
def test_batches(shape):
    for f in (planar(np.random.default_rng(0)), Radial(np.ones(2), 0.5, 2.0), Radial(np.ones((3, 2)), np.ones(3), 2.0)):
        if not f.parameter_batch or shape[-1:] == (3,):
            assert difference(f, shape) < 1000


def radial(slack=0.2, D=2, dtype=np.float64):
    return Radial(np.random.default_rng(0).normal(size=D).astype(dtype), dtype(0.7), dtype(slack))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("D", [1, 2, 5])
@pytest.mark.parametrize("slack", SLACKS)
def test_a_radial_flow_is_its_page(slack, D, dtype):
    assert difference(radial(slack, D, dtype)) < 1000


# -- in units ---------------------------------------------------------------------------------------------------------

def beyond(page, count, dtypes=("float64", "float32")):
    """{quantity: C} of tuned flows where it is more than is allowed, at every `count`-th point of the page's certificate."""
    certify, found = pytest.importorskip("validation.certify"), {}
    twin = {Planar: residual.TunedPlanar, Radial: residual.TunedRadial}[page]
    for dtype in dtypes:
        for side in ("forward", "inverse"):
            points = [point for point in certify.points(page, dtype, side) if twin.takes(point.f)]
            assert len(points) > 50
            for point in points[::count]:
                errors = certify.errors(replace(point, f=tree.copied(point.f, twin)))
                found |= {name: C for name, (C, _) in errors.items() if C is not None and not C <= certify.allowed(point, name)}
    return found


@pytest.mark.parametrize("page", [Planar, Radial])
def test_errors_stay_within_what_the_page_is_allowed(page):
    assert beyond(page, 25) == {}


@pytest.mark.parametrize("page", [Planar, Radial])
def test_errors_stay_within_what_the_page_is_allowed_at_all_its_points(page):
    assert beyond(page, 1) == {}


PLANTS = [
    ("products - products.T", "products"), ("self.excess / self.square * self.w", "self.c / self.square * self.w"),
    ("np.exp(-2 * np.abs(a))", "np.exp(-np.abs(a))"), ("self.t * self.t + c * self.s", "self.t + c * self.s"),
    ("self.k * u_bar - of_v", "self.k * u_bar + of_v"), ("of_v + c_bar.sum()", "of_v"), ("a_bar.sum()", "a_bar.mean()"),
    ("3 + b + b / (5", "3 + b / (5"), ("np.copysign(a, y)", "a"),
    ("return -2 * self.rise * self.t / self.p", "return 2 * self.rise * self.t / self.p"),
]


def plant(old, new, monkeypatch):
    text = inspect.getsource(residual)
    assert text.count(old) == 1
    made = dict(vars(residual))
    exec(text.replace(old, new).replace("from ..", "from refflow."), made)
    for name in ("SharedHyperplane", "Letters", "root", "lag", "SharedCentre", "RadialLetters", "log_1_plus"):
        monkeypatch.setattr(residual, name, made[name])


@pytest.mark.parametrize("old, new", PLANTS)
def test_a_planted_bug_is_found(old, new, monkeypatch):
    plant(old, new, monkeypatch)
    with np.errstate(all="ignore"):
        assert not difference(planar(np.random.default_rng(0))) < 1e6


@pytest.mark.parametrize("old, new", [
    ("(once + v.tau / v.d)", "once"), ("v.q, k, of_alpha", "v.q, -k, of_alpha"), ("self.y @ k", "self.y @ m"),
    ("(K + 1 - v.rho", "(K - v.rho"), ("T.sum() + L @ once", "T.mean() + L @ once"), ("T / g_2", "T / v.g"),
    ("2 * v.tau / v.d", "v.tau / v.d"), ("v.tau * v.gamma) / v.d", "v.tau) / v.d"), ("L * (K + bend)", "L * K"),
    ("- v.gamma * rho_2", "+ v.gamma * rho_2"), ("K * v.g + bend", "K + bend"), ("h >= 0, larger", "h < 0, larger"),
    ("-v.log_det(K)", "v.log_det(K)"), ("self.rho + self.tau * self.g", "self.rho + self.tau * self.q"),
    ("self.centre + factor", "self.centre - factor")])
def test_a_planted_bug_in_radial_flows_is_found(old, new, monkeypatch):
    plant(old, new, monkeypatch)
    assert not difference(radial()) < 1e6


def test_a_radial_sum_that_cancels_is_found(monkeypatch):
    """Near the centre of a flow that nearly collapses, z + q y is a small rest; the other event is far from it."""
    f, z = Radial([0.0, 0.0], 1.0, 2.0**-20), np.array([[2.0**-10, 2.0**-12], [8.0, 0.0]])
    assert np.allclose(tuned(f).vjp(z)[0][0], f.forward(z), rtol=2.0**-50, atol=0)
    plant("if not near.all()", "if not near.any()", monkeypatch)
    assert not np.allclose(tuned(f).vjp(z)[0][0], f.forward(z), rtol=2.0**-46, atol=0)


@pytest.mark.parametrize("old, new, quantity", [
    ("self.excess / self.square * self.w + self.across(u)", "u + self.k * self.w", "forward"),      # cancels where u is along w
    ("4 * q / ((1 + q) * (1 + q))", "1 - np.tanh(a) ** 2", "log_det"),                              # loses digits where t is near 1
    ("np.log1p(q) if near.all()", "np.log(g) if near.all()", "log_det")])
def test_a_form_that_loses_digits_is_found(old, new, quantity, monkeypatch):
    from refflow.truth.measure import measure
    z = [0.5, 0.25]
    f = Planar([4.1, 0.013], -1.0, [1000.3, 0.27], 0.6) if quantity == "forward" else Planar([8.0, 4.0], 1.0, [1.0, 2.0], 0.9)
    assert measure(tuned(f), z=z)[quantity][0] < 4.5
    plant(old, new, monkeypatch)
    assert not measure(tuned(f), z=z)[quantity][0] < 16


# -- where the page takes over ----------------------------------------------------------------------------------------

def same_bits(f, event):
    given = event, np.ones_like(event), np.ones(event.shape[:-1])
    return all(np.array_equal(*pair, equal_nan=True) for pair in zip(quantities(tuned(f), *given), quantities(f, *given)))


def test_squares_that_leave_the_floats_are_left_to_the_page():
    rng = np.random.default_rng(0)
    for size in (2.0**-300, 2.0**300):
        f = planar(rng)
        assert same_bits(f.replace(w=size * f.w), rng.normal(size=(4, 2)))
    assert not same_bits(f, rng.normal(size=(400, 2)))


def test_radial_events_whose_squares_leave_the_floats_or_lie_at_the_centre_are_left_to_the_page():
    given = np.random.default_rng(1).normal(size=(40, 2))
    for f, event in ((radial(), 2.0**300 * given), (radial(), np.concatenate((given, radial().centre[None]))),
                     (radial().replace(alpha=2.0**300), given), (radial().replace(slack=2.0**-300), given), (radial(D=1), given[:, :1])):
        assert same_bits(f, event)
    assert not same_bits(radial(), given)


def test_steps_that_do_not_settle_are_left_to_the_page(monkeypatch):
    f, x = planar(np.random.default_rng(0)), np.random.default_rng(1).normal(size=(400, 2))
    monkeypatch.setattr(residual, "STEPS", 1)
    assert np.array_equal(tuned(f).inverse(x), f.inverse(x))
    monkeypatch.undo()
    assert not np.array_equal(tuned(f).inverse(x), f.inverse(x))


@pytest.mark.parametrize("slack", SLACKS)
def test_roots_from_the_smallest_to_the_largest_numbers(slack):
    y = np.concatenate([sign * 2.0**np.arange(-1000, 1000, 7) for sign in (-1, 1)] + [[0.0]])
    with np.errstate(all="ignore"):
        a = residual.root(y, np.float64(slack))
        at = residual.Letters(slack, np.abs(a))
        again = np.copysign(residual.lag(np.abs(a), at.t) + slack * at.t, a)
    assert (np.abs(again - y) <= 2.0**-49 * np.abs(y)).all()


def test_which_flows_are_exchanged():
    rng = np.random.default_rng(0)
    stages = planar(rng), planar(rng, D=1), planar(rng, batch=(3,)), Radial(np.zeros(2), 1.0, 2.0)
    assert [type(tuned(f)) for f in stages] == [residual.TunedPlanar, Planar, Planar, residual.TunedRadial]
    assert tuned(stages[1]) is stages[1] and tuned(stages[2]) is stages[2]


@pytest.mark.parametrize("f", [planar(np.random.default_rng(0)), radial()])
def test_bad_events_are_refused_as_by_the_page(f):
    for method, letter in ((tuned(f).vjp, "z"), (tuned(f).inverse_vjp, "x")):
        for given, said in ((np.ones((4, 3)), type(f).__name__), (np.full((4, 2), np.nan), f"{letter} must be"),
                            (np.ones((4, 2), np.float16), "float")):
            with pytest.raises(ValueError, match=said):
                method(given)


# -- flows ------------------------------------------------------------------------------------------------------------

def test_flows_of_both():
    """Samples with their log q, and densities, with all gradients; each stage gives the next one its own order in memory."""
    rng = np.random.default_rng(0)
    flow = Flow(Chain([planar(rng), Radial(rng.normal(size=2), 0.5, 1.5), planar(rng, 2.0), Inverse(planar(rng))]), StandardNormal(2))
    (x, log_q), pullback = flow.sample_and_log_prob_vjp(np.random.default_rng(1), 40)
    (found, log_prob), tuned_pullback = tuned(flow).sample_and_log_prob_vjp(np.random.default_rng(1), 40)
    assert np.allclose(found, x, rtol=1e-12) and np.allclose(log_prob, log_q, rtol=1e-12)
    for own, other in ((pullback(x, log_q), tuned_pullback(x, log_q)),
                       (flow.log_prob_vjp(x)[1](log_q)[1], LikelihoodGradient()(flow, x, log_q)[1])):
        for (path, one), (_, two) in zip(tree.flatten(own), tree.flatten(other), strict=True):
            assert np.allclose(one, two, rtol=0, atol=1e-11 * max(np.abs(one).max(), 1)), path
