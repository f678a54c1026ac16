"""Conditioners: the networks that parameterise couplings and autoregressive maps.

    h = net(a; parameters)

A conditioner need not be invertible.  A page writes `definition`, `forward(a)`, `jacobian(a)` and `vjp(a)`; `@conditioner`
puts the boundary before them, as `@bijector` does.
"""

from __future__ import annotations

import math

import numpy as np

from .boundary import of_event, own_function, published, reducing, vjp_of_event
from .method_help import OF_CONDITIONERS
from .registry import registered
from .sets import real
from .values import Value, declare


class Conditioner(Value):
    """h = net(a), from events a (*batch, *event) to events h (*batch, *event_out).

    `forward(a)` -> h
    `jacobian(a)` -> dh/da, (*batch, size_out, size_in), row-major events
    `vjp(a)` -> (h, pullback); `pullback(h_bar)` -> (a_bar, params_bar), params_bar with the keys and shapes of `params()`

    Randomness enters as constants (a dropout mask is a field); a context enters through `at(context=...)`.
    """

    kind = "conditioner"
    letters = "ah"
    event_ndim = (1, 1)
    event_shape = None
    fixed_shape = None              # the event shape of a, if the fields fix it
    source = ""
    domain = codomain = real
    normwise = False
    smooth = True                   # is it differentiable everywhere?
    hard_cases = ()

    def output_shape(self, shape):
        """The event shape of h for an event shape of a.  Raises ValueError if a cannot have that shape."""
        return shape

    def depends(self, shape):
        """Which entries of h may depend on which entries of a: (size_out, size_in) booleans, row-major, for an event shape
        of a.

        dh_i/da_j is exactly 0 where entry (i, j) is False.  The pattern follows from layers and masks, never from the values
        of weights.  By default everything depends on everything.
        """
        return np.ones((math.prod(self.output_shape(tuple(shape))), math.prod(shape)), bool)

    def depends_on_positions(self, shape):
        """Which positions of a signal h (M, T) may depend on which of a signal a (C, S): (T, S) booleans, for the shape of a.

        A page of signals writes it where it is cheaper than `depends`, from which it follows.
        """
        M, T = self.output_shape(tuple(shape))
        return self.depends(shape).reshape(M, T, *shape).any((0, 2))

    def forward(self, a):
        """h = net(a): (*batch, *event_out).

        `a`: (*batch, *event); its batch broadcasts with that of the fields.  h is of the dtype of a, float32 or float64, or of that
        of the fields if it is wider.  ValueError, with class, argument, rule, and the first index and value: a shape that the
        fields do not allow, an entry that is not finite, or another dtype.
        """
        return self.vjp(a)[0]

    def jacobian(self, a):
        """dh/da, (*batch, size_out, size_in), row-major events; for a scalar map, its slope as a 1 by 1 matrix."""
        return self.slope(a)[..., None, None]

    def initialised(self, data, rng):
        """Data-dependent initialisation on events a: a new value, by default itself."""
        return self


def conditioner(*, source="", register=True, **facts):
    """Declare a page: a conditioner, its source, and facts about it."""

    def publish(page):
        page = declare(page)
        for fact, value in {"source": source, **facts}.items():
            setattr(page, fact, value)
        for name in ("forward", "jacobian"):
            setattr(page, name, published(own_function(page, name), of_event(0), vars(Conditioner)[name].__doc__))
        page.vjp = published(reducing(own_function(page, "vjp")), vjp_of_event(0, "h_bar"), OF_CONDITIONERS["vjp"])
        return registered(page) if register else page

    return publish
