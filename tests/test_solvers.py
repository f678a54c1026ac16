"""Adaptive solvers held to the exact flow by their tolerances: a right one passes, planted mistakes do not, the table is what was asked."""

from __future__ import annotations

import numpy as np
import pytest

from refflow import ContinuousFlow
from refflow.maps.continuous.adaptive import on_grid_vjp
from refflow.maps.continuous.log_density import LogDensity
from validation import solvers
from validation.solvers import EVENTS, NET, ORDERS, Solver, asked, own, reversal_order

OURS = {"euler": "euler", "midpoint": "midpoint", "heun2": "heun", "rk4": "three-eighths"}          # torchdiffeq's names
TOLERANCE = 1e-6


def test_a_solver_keeps_what_its_tolerances_promise_and_an_event_alone_has_other_digits():
    row = asked(Solver(own, 6, True), TOLERANCE)
    assert row.passes
    assert row.alone[0] > 2.0**-48


def careless(z, start, end, tolerance):
    """Does not use its tolerance."""
    return own(z, start, end, 1e-2)


def early(z, start, end, tolerance):
    """Ends before the end."""
    return own(z, start, end - (end - start) / 2**10, tolerance)


def turned(z, start, end, tolerance):
    """The log-density in the place of the log-det."""
    x, log_det, evaluations = own(z, start, end, tolerance)
    return x, -log_det, evaluations


def of_the_first(z, start, end, tolerance):
    """The log-det of the first event for all of them."""
    x, log_det, evaluations = own(z, start, end, tolerance)
    return x, np.full_like(log_det, log_det[0]), evaluations


@pytest.mark.parametrize("wrong", [careless, early, turned, of_the_first], ids=lambda f: f.__name__)
def test_a_planted_mistake_is_found(wrong):
    assert not asked(Solver(wrong, 6, True), TOLERANCE).passes


def test_the_bounds_bound():
    """Of the velocity's Jacobian, along all paths: the growth of a difference, and the log-det per time."""
    span = solvers.END - solvers.START
    E_z, _, growth = solvers.allowances(Solver(own, 6, False), EVENTS, 1.0, 0, span)
    J = ContinuousFlow(NET, solvers.START, solvers.END).jacobian(EVENTS)
    x, log_det = ContinuousFlow(NET, solvers.START, solvers.END).forward_and_log_det(EVENTS)
    assert (np.linalg.norm(J, 2, axis=(1, 2)) <= growth).all()
    R = E_z / growth / 2**0.5 - 1                                                   # of (1) and (2), for one step
    assert np.abs(x).max() <= R <= np.abs(EVENTS).max() + 20 * span
    E_l = solvers.allowances(Solver(own, 6, False), EVENTS, 1.0, 0, span)[1]
    assert np.abs(log_det).max() <= E_l


@pytest.mark.parametrize("method", ORDERS)
def test_the_way_back_misses_by_the_declared_power(method):
    system = LogDensity(NET, EVENTS.shape)

    def there_and_back(z, steps):
        y = system.state(z)
        for start, end in ((solvers.START, solvers.END), (solvers.END, solvers.START)):
            y = on_grid_vjp(system, y, list(np.linspace(start, end, steps + 1)), OURS[method])[0].state
        return system.read(y)[0]

    p = ORDERS[method]
    assert reversal_order(there_and_back) == pytest.approx(p + 1 - p % 2, abs=0.1)


def test_the_table_is_of_the_libraries_that_are_asked():
    text = solvers.TABLE.read_text(encoding="utf-8")
    assert "too much" not in text
    for library, (name, _) in solvers.LIBRARIES.items():
        assert text.count(f"| `{library} {name}` |") == len(solvers.TOLERANCES)
    assert all(f"| `torchdiffeq {method}` | {p + 1 - p % 2} |" in text for method, p in ORDERS.items())
