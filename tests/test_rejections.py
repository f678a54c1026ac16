"""How many points a law may reject: the bound holds for any shares, too many are found, and a suspicion alone fails nothing."""

from __future__ import annotations

import numpy as np
import pytest
import scipy

from refflow.laws.bijector_laws import LAWS
from refflow.laws.conditioner_laws import NetworkPoints, run_network_laws
from refflow.laws.law import hold, law
from refflow.laws.rejections import DRAWS, LEVEL, REJECTED, Tally, allowed, divergence, excess
from refflow.maps.conditioners import LayerNorm, RMSNorm
from tallies import check, check_question
from validation.questions import Question

TRIALS = 100_000
SIZES = (1, 3, 6, 7, 10, 30, DRAWS, 200, 1000)


def tally_of(**laws):
    """A tally of {law: [(rejected, tried) of a draw]}."""
    tally = Tally()
    for name, counts in laws.items():
        for count in counts:
            tally.add({name: count})
    return tally


# -- the bound --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("n", SIZES)
def test_a_law_that_rejects_all_points_or_none_fails_below_the_level(n):
    """The exact chance of a right page at the boundary, whose draws are rejected as a whole in one case of ten: a binomial tail."""
    assert scipy.stats.binom.sf(np.floor(allowed(n)), n, REJECTED) <= LEVEL


@pytest.mark.parametrize("n", SIZES)
def test_the_allowed_sum_is_the_smallest_of_the_bound(n):
    if n * np.log(1 / REJECTED) < -np.log(LEVEL):
        assert allowed(n) == n                                          # fewer draws never fail
    else:
        assert n * divergence(allowed(n) / n, REJECTED) == pytest.approx(-np.log(LEVEL), rel=1e-9)


@pytest.mark.parametrize("share", ["all or none", "half or none", "clustered", "even"])
def test_right_pages_at_the_boundary_never_fail(share):
    """Points of a draw share parameters, so that a draw's share may be anything with mean p."""
    rng, shape = np.random.default_rng(0), (TRIALS, DRAWS)
    sums = {"all or none": lambda: rng.binomial(DRAWS, REJECTED, TRIALS),
            "half or none": lambda: rng.binomial(DRAWS, 2 * REJECTED, TRIALS) / 2,
            "clustered": lambda: rng.beta(0.1, 0.9, shape).sum(-1),
            "even": lambda: rng.binomial(32, REJECTED, shape).sum(-1) / 32}[share]()
    assert sums.mean() == pytest.approx(REJECTED * DRAWS, rel=0.01)
    assert sums.max() <= allowed(DRAWS)


def test_a_law_that_rejects_six_of_ten_is_found():
    """By (3), and exactly for draws that are rejected as a whole."""
    assert np.exp(-DRAWS * divergence(allowed(DRAWS) / DRAWS, 0.6)) < 1e-8
    assert scipy.stats.binom.cdf(np.floor(allowed(DRAWS)), DRAWS, 0.6) < 1e-8


# -- the verdict ------------------------------------------------------------------------------------------------------

def test_a_draw_counts_by_its_share_whatever_its_points():
    tally = tally_of(a=[(1, 1), (0, 99), (0, 0)])
    assert tally.shares == {"a": [1.0, 0.0]} and tally.suspects() == {"a"}
    assert not tally_of(a=[(1, 10), (1, 10)]).suspects()                 # a tenth may be rejected
    assert tally_of(a=[(1, 10), (1, 1), (0, 10)], b=[(1, 10)]).suspects() == {"a"}


def test_suspects_alone_are_asked_again_and_what_raised_the_suspicion_does_not_count():
    suspicious, asked = tally_of(a=[(10, 10)] * 10, b=[(0, 10)] * 10), []

    def ask(rng, wanted):
        assert wanted("a") and not wanted("b")
        asked.append(rng.integers(2**32))
        return {"a": (1, 10)}

    assert excess(suspicious, ask) == {}
    assert len(asked) == len(set(asked)) == DRAWS
    assert excess(tally_of(a=[(1, 10)] * 10), lambda rng, wanted: pytest.fail("nothing is suspicious")) == {}


def test_a_law_that_rejects_too_many_is_told():
    with pytest.raises(AssertionError, match=f"^a: 60% of the points of {DRAWS} draws were rejected, and 29% may be"):
        check(tally_of(a=[(6, 10)] * 3), lambda rng, wanted: {"a": (6, 10)})


def test_few_draws_that_are_independent_do_not_fail():
    assert not tally_of(a=[(1, 1)] * 5).excess() and not tally_of(a=[(1, 1)] * 6).excess()
    assert set(tally_of(a=[(1, 1)] * 7, b=[(0, 1)] * 7).excess()) == {"a"}


# -- in the tests -----------------------------------------------------------------------------------------------------

def test_a_law_that_rejects_too_many_points_of_a_page_is_found(monkeypatch):
    monkeypatch.setitem(LAWS, "rejecting", lambda f, p: (2, 3))
    with pytest.raises(AssertionError, match="^rejecting: 67% of the points of 100 draws were rejected, and 29% may be"):
        check_question(Question("page", "Exp", "float32"))


def test_a_right_page_holds_although_the_first_draws_were_rejected(monkeypatch):
    seen = []
    monkeypatch.setitem(LAWS, "unlucky", lambda f, p: (1, 1) if len(seen) < 5 and not seen.append(f) else (0, 1))
    check_question(Question("page", "Exp", "float32"))
    assert len(seen) == 5


# -- bounds that say nothing ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("bound, where, expected", [
    ([1.0, 1.0, 1.0], True, (0, 3)), ([np.inf, 1.0, np.nan], True, (2, 3)), ([np.inf, 1.0, np.nan], [True, True, False], (1, 2)),
    (np.inf, True, (3, 3)), ([[1.0, np.inf]] * 3, [True, False, True], (2, 4))])
def test_entries_without_a_finite_bound_are_rejected(bound, where, expected):
    shape = np.broadcast_shapes((3, *np.shape(bound)[1:]), np.shape(bound))
    asked = law("asked", {})(lambda f, p: hold(p, "x", np.zeros(shape), bound, np.asarray(where)))
    assert asked(None, None) == expected


def test_the_larger_share_of_rejected_points_counts():
    def asked(counted):
        return law("asked", {})(lambda f, p: hold(p, "x", np.zeros(2), [np.inf, 1]) or counted)(None, None)

    assert asked((1, 10)) == (1, 2) and asked((9, 10)) == (9, 10) and asked((0, 0)) == (1, 2)
    assert law("no numbers", {})(lambda f, p: None)(None, None) is None


@pytest.mark.parametrize("net", [RMSNorm(gain=[1.0, 0.5, -2.0], eps=0.1), LayerNorm(gain=[1.0, 0.5, -2.0], bias=np.arange(3.0))],
                         ids=lambda net: type(net).__name__)
def test_laws_do_not_pass_where_kappa_is_infinite(net):
    """The norm of events beyond 1e154 overflows, and kappa with it: the laws that need it have not asked anything."""
    rng, tally = np.random.default_rng(0), {1.0: Tally(), 1e155: Tally()}
    for _ in range(7):
        for size, found in tally.items():
            with np.errstate(all="ignore"):
                a, h_bar = size * rng.standard_normal((8, 3)), rng.standard_normal((8, 3))
                found.add(run_network_laws(net, NetworkPoints(net, a, h_bar)))
    assert not tally[1.0].suspects()
    assert {"pullback is the gradient", "fused is separate", "batch is the stack of singles", "any layout",
            "cotangents sum over what broadcast", "pullback is the transposed Jacobian"} <= set(tally[1e155].excess())
