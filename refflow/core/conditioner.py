"""Conditioners: the networks that parameterise couplings and autoregressive maps.

    h = net(a; parameters)

A conditioner need not be invertible.  A page writes `definition`, `forward(a)`, `jacobian(a)` and `vjp(a)`; `@conditioner`
keeps them as the unchecked view and publishes checked ones, as `@bijector` does.
"""

from __future__ import annotations

import numpy as np

from .bijector import Bijector, checked_cotangent, checked_event, reducing
from .values import Value, declare, with_checks
from .arrays import sum_to_shape
from .registry import registered
from .sets import real


class Conditioner(Value):
    """h = net(a), from events a (*batch, *event) to events h (*batch, *event_out).

    `forward(a)` -> h
    `jacobian(a)` -> dh/da, (*batch, size_out, size_in), row-major events
    `vjp(a)` -> (h, pullback); `pullback(h_bar)` -> (a_bar, params_bar), params_bar with the keys and shapes of `params()`

    Randomness comes in as constants (a dropout mask is a field), a context through `at(context=...)`.
    """

    kind = "conditioner"
    letters = "ah"
    event_ndim = (1, 1)
    event_shape = None
    fixed_shape = None              # the event shape of a, where the fields fix it
    source = ""
    domain = codomain = real
    normwise = False
    smooth = True                   # is it differentiable everywhere?
    hard_cases = ()

    def output_shape(self, shape):
        """The event shape of h for an event shape of a.  Raises ValueError where there is none."""
        return shape

    def forward(self, a):
        """h = net(a)."""
        return self.vjp(a)[0]

    def initialised(self, data, rng):
        """Data-dependent initialisation on events a: a new value, or itself where there is none."""
        return self

    def view(self, dtype):
        """The unchecked view in `dtype`."""
        return Bijector.view(self, dtype)


def published(name):
    """The checked form of a function of an event that gives one array."""

    def method(self, a):
        view, a, _ = checked_event(self, a, 0)
        with np.errstate(all="ignore"):
            return getattr(view, name)(a)

    method.__name__ = name
    return method


def vjp(self, a):
    view, a, original = checked_event(self, a, 0)
    with np.errstate(all="ignore"):
        h, pullback = view.vjp(a)

    def checked_pullback(h_bar):
        h_bar = checked_cotangent(self, "h_bar", h_bar, h)
        with np.errstate(all="ignore"):
            a_bar, params_bar = pullback(h_bar)
        return sum_to_shape(a_bar, original), params_bar

    return h, checked_pullback


vjp.__doc__ = "(h, pullback); `pullback(h_bar)` -> (a_bar, params_bar) of L = <h_bar, h>."


def conditioner(*, source="", register=True, **facts):
    """Declare a page: a conditioner, its source, and facts that hold for it."""

    def publish(page):
        page = declare(page)
        for fact, value in {"source": source, **facts}.items():
            setattr(page, fact, value)
        page.vjp = reducing(page.__dict__["vjp"])
        public = with_checks(page, {"forward": published("forward"), "jacobian": published("jacobian"), "vjp": vjp})
        return registered(public) if register else public

    return publish
