"""Conditioners: the networks that parameterise couplings and autoregressive maps.

    h = net(a; parameters)

A conditioner need not be invertible.  A page writes `textbook` or `definition`, `forward(a)`, `jacobian(a)` and `vjp(a)`; `@conditioner`
puts the boundary before them, as `@bijector` does.

What depends on a network's Jacobian `J`, such as a log-det, needs its derivative.  A page that has one writes `jvp(a, A_dot)`, which
gives `h` and
    H_dot = J A_dot                                                                 (1)
for tangents `A_dot` of `a`, one in each column, and the pullback of both.  With the cotangents `h_bar` and `H_bar`,
    a_bar = J^T h_bar + d/da <H_bar, J A_dot>,   A_dot_bar = J^T H_bar              (2)
and the parameters have cotangents in the same way.  A map of numbers without parameters writes `curvature`, its second derivative,
alone; with the slope `s = dh/da`, for its entries, (1) and (2) are
    H_dot = A_dot dh/da,   A_dot_bar = H_bar dh/da                                  (3)
    a_bar = h_bar dh/da + ds/da sum_k H_bar_k A_dot_k                               (4)
"""

from __future__ import annotations

import contextlib
import functools
import math

import numpy as np

from .arrays import as_floating, sum_to_shape
from .boundary import checked_cotangent, checked_event, of_event, own_function, published, reducing, vjp_of_event
from .method_help import OF_CONDITIONERS
from .registry import registered
from .sets import real
from .values import Value, declare


class Conditioner(Value):
    """h = net(a), from events a (*batch, *event) to events h (*batch, *event_out).

    `forward(a)` -> h
    `jacobian(a)` -> dh/da, (*batch, size_out, size_in), row-major events
    `vjp(a)` -> (h, pullback); `pullback(h_bar)` -> (a_bar, params_bar), params_bar with the keys and shapes of `params()`
    `jvp(a, A_dot)` -> ((h, dh/da A_dot), pullback); `pullback(h_bar, H_bar)` -> (a_bar, A_dot_bar, params_bar)

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

    def curvature(self, a):
        """The derivative of the slope of a map of numbers, entry by entry.  NotImplementedError for a page that does not write it."""
        raise NotImplementedError(f"{type(self).__name__} has no jvp: the derivative of its Jacobian is not written")

    def jvp(self, a, A_dot):
        """((h, dh/da A_dot), pullback), for tangents A_dot (*batch, *event, K), one in each column.

        `pullback(h_bar, H_bar)` -> (a_bar, A_dot_bar, params_bar) of L = <h_bar, h> + <H_bar, dh/da A_dot>.  `a` and the errors are as
        in `forward`; A_dot broadcasts to the shape of a with K behind it, h_bar to the shape of h, H_bar to that of dh/da A_dot, else
        ValueError.  NotImplementedError, with its name, for a page that does not write it, also inside a network.
        """
        curvature, slope, (h, of_h) = self.curvature(a), self.slope(a), self.vjp(a)

        def pullback(h_bar, H_bar):
            a_bar, params_bar = of_h(h_bar)
            return a_bar + curvature * (H_bar * A_dot).sum(-1), H_bar * slope[..., None], params_bar        # (3) (4)

        return (h, A_dot * slope[..., None]), pullback                              # (3)

    def lipschitz(self):
        """A bound of |net(a) - net(b)|/|a - b| for all events a and b, in the 2-norm of their entries; of a batch of parameters, one for
        all.  NotImplementedError, with its name, for a page that does not write it, also inside a network.
        """
        raise NotImplementedError(f"{type(self).__name__} has no lipschitz: no bound of its Jacobian is written")

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
        page.jvp = published(reducing_jvp(own_function(page, "jvp")), jvp_of_event, vars(Conditioner)["jvp"].__doc__)
        return registered(page) if register else page

    return publish


def reducing_jvp(page_jvp):
    """A page's jvp with its parameters' cotangents summed over the axes that broadcast."""

    @functools.wraps(page_jvp)
    def jvp(self, a, A_dot):
        values, pullback = page_jvp(self, a, A_dot)

        def reduced(h_bar, H_bar):
            a_bar, A_dot_bar, params_bar = pullback(h_bar, H_bar)
            return a_bar, A_dot_bar, self.reduce(params_bar)

        return values, reduced

    return jvp


def jvp_of_event(function, self, a, A_dot):
    """The public form of a jvp: it checks the tangents as it checks cotangents, and sums theirs to their own shape."""
    copy, a, original = checked_event(self, a, 0)
    A_dot, shape = checked_tangents(self, A_dot, a)
    with np.errstate(all="ignore"):
        (h, H_dot), pullback = function(copy, a, A_dot)

    def checked_pullback(h_bar, H_bar):
        bars = checked_cotangent(self, "h_bar", h_bar, h), checked_cotangent(self, "H_bar", H_bar, H_dot)
        with np.errstate(all="ignore"):
            a_bar, A_dot_bar, params_bar = pullback(*bars)
        return sum_to_shape(a_bar, original), sum_to_shape(A_dot_bar, shape), params_bar

    return (h, H_dot), checked_pullback


def checked_tangents(self, given, a):
    """(the tangents of events a, a column for each, in their dtype; the shape in which they were given)."""
    tangents, _ = as_floating(f"{type(self).__name__}: A_dot", given)
    if tangents.ndim:
        with contextlib.suppress(ValueError):
            return np.broadcast_to(tangents.astype(a.dtype, copy=False), a.shape + tangents.shape[-1:]), tangents.shape
    raise ValueError(f"{type(self).__name__}: A_dot has shape {tangents.shape}, which does not broadcast to {a.shape} and an axis of "
                     "tangents")
