"""The contract: what every page offers, and how a page is declared.

    x = f(z)                      forward, z latent, x data
    z = f^-1(x)                   inverse
    log|det dx/dz|                log_det, always of forward
    log p(x) = log pi(z) - log|det dx/dz|

A page is a class with the functions of the contract, written without checks; `@bijector` puts the boundary before them.
"""

from __future__ import annotations

import functools

import numpy as np

from . import tree
from .boundary import (held_to_letters, of_event, over_positions, own_function, published, reducing, valid_positions,
                       vjp_of_event)
from .method_help import OF_BIJECTORS
from .registry import registered
from .values import Value, declare

__all__ = ["Bijector", "bijector", "over_event", "over_positions"]


class Bijector(Value):
    """The contract, with defaults for everything that follows from a page's own functions.

    A page defines `textbook` or `definition`; `forward` and `log_det` (or `forward_and_log_det`); `inverse` (or
    `inverse_and_log_det`); `slope` (scalar pages) or `jacobian`; `vjp`; and may override the rest if it has something
    better.
    """

    kind = "bijector"
    event_ndim = (0, 0)
    event_shape = None
    source = ""
    domain = codomain = None
    increasing = False
    constant_log_det = False
    solver = False
    normwise = False
    infinite_events = False         # does the inverse take infinite entries to the limits of its matrix?
    entrywise_log_det = False       # is the unit of error of log-det entrywise although that of all else is normwise?
    jumps = False                   # does it jump at a break?
    rounded_breaks = False          # are the numbers that `breaks` returns rounded?
    symmetric = False               # a map of R onto (0, b): is f(2 loc - z) = b - f(z)?
    lifted_axes = 0                 # event axes that components see as batch axes
    hard_cases = ()

    # -- shapes ------------------------------------------------------------------------------------------------------

    def output_shape(self, shape):
        """The event shape of x for an event shape of z.  Raises ValueError if z cannot have that shape."""
        return shape

    def input_shape(self, shape):
        """The event shape of z for an event shape of x.  Raises ValueError if x cannot have that shape."""
        return shape

    def image_of(self, where, side=0):
        """The set to which it takes the members of the set `where`, on side 1 its inverse; None if it does not act on that set.

        A map of all entries does not act on a set of lower dimension, where its log-det would count too many.  A map of a set
        of lower dimension acts on no other set, nor on the same one with another measure.
        """
        here, there = (self.domain, self.codomain) if side == 0 else (self.codomain, self.domain)
        return there if here.thin == where.thin and (not here.thin or here.same(where)) else None

    def part_shapes(self, shape, side):
        """The shapes of the parts of an event of `shape`, on side 0 (z) or 1 (x).

        There is one part, unless the event is a vector into which images were flattened.
        """
        return [tuple(shape)]

    def latent_shapes(self, shape):
        """The parts of the output for an event shape of z: for a map from data to latents, the parts of its latents."""
        return self.part_shapes(tuple(self.output_shape(tuple(shape))), 1)

    def applied_at(self, shape):
        """For each component: (the shape of what it maps, the sizes of the axes of positions at which it is applied).

        The event has `shape` on side 0.  (None, ...) where a component's shape is not known.
        """
        return [(None, (1,) * self.lifted_axes)] * len(self.components())

    def breaks(self):
        """The entries of z at which the map is less smooth, along a last axis; the axes before it broadcast with z.

        A piecewise page says where its pieces meet (0 of Softsign; the knots of a spline, (*parameter batch, K+1)), and
        which side's derivative it gives there.  NaN means that there is no such entry.
        """
        return np.zeros(0)

    # -- what follows from the page's own functions -------------------------------------------------------------------

    def forward(self, z):
        """x = f(z).

        `z`: (*batch, *event), with `event_ndim[0]` axes of an event; x: (*batch, *event of x), with `event_ndim[1]`.  The batch of
        z broadcasts with that of the fields.  x is of the dtype of z, float32 or float64, or of that of the fields if it is wider.
        ValueError, with class, argument, rule, and the first index and value: a shape that the fields do not allow, NaN or another
        entry outside `domain` (whose finite ends may be given), or another dtype.
        """
        return self.forward_and_log_det(z)[0]

    def log_det(self, z):
        """log|det dx/dz| at z, one number for each event: (*batch).  `z` and the errors are as in `forward`."""
        return self.forward_and_log_det(z)[1]

    def forward_and_log_det(self, z):
        """(x, log|det dx/dz|) in one pass, (*batch, *event of x) and (*batch).  `z` and the errors are as in `forward`."""
        return self.forward(z), self.log_det(z)

    def inverse(self, x):
        """z = f^-1(x).

        `x`: (*batch, *event of x), with `event_ndim[1]` axes of an event; z: (*batch, *event), with `event_ndim[0]`; the batch
        and the dtype as in `forward`.  ValueError, with class, argument, rule, and the first index and value: a shape that no z
        has, NaN or another entry outside `codomain` (whose finite ends may be given), or a dtype other than float32 and float64.
        """
        return self.inverse_and_log_det(x)[0]

    def inverse_and_log_det(self, x):
        """(z, log|det dz/dx|) in one pass, (*batch, *event) and (*batch): the log-det is that of the map being applied.

        `x` and the errors are as in `inverse`.
        """
        z = self.inverse(x)
        return z, -self.log_det(z)

    def jacobian(self, z):
        """The full dx/dz, (*batch, D_out, D_in), events row-major; of a scalar page its slope as a 1 by 1 matrix.

        `z` and the errors are as in `forward`.
        """
        return self.slope(z)[..., None, None]

    def square(self, J, z, x):
        """C(x) J F(z): the Jacobian from tangents of the domain to tangents of the codomain, whose log|det| is log_det.

        F and C are the `basis` and the `dual_basis` of these sets; if every entry is a coordinate on both sides, this is J.
        """
        columns = J if not self.domain.thin else J @ self.domain.basis(z, self.event_ndim[0])
        return self.codomain.rows(columns, x, self.event_ndim[1])

    def inverse_vjp(self, x):
        r"""((z, log|det dz/dx|), pullback) of the inverse map, from the forward map's own reverse rule.

        With l(z) = log|det J(z)|, L = <z_bar, z> + l_bar (-l(z)) and z = f^-1(x):
            u = z_bar - l_bar grad_z l,   w = J^-T u
            x_bar = w,   params_bar = the parameter part of the forward pullback at (-w, -l_bar).
        On sets of lower dimension, with the tangents F and C of `square`, w = C^T (C J F)^-T F^T u.  Entries at positions that a
        mask calls invalid take no part: u is 0 there, and J is made the identity.
        """
        z, inverse_log_det = self.inverse_and_log_det(x)
        (x_again, _), pullback = self.vjp(z)
        in_shape = self._event(z, 0)
        batch = z.shape[:z.ndim - len(in_shape)]
        J = self.square(self.jacobian(z), z, x)
        valid = valid_positions(self, 0)
        if valid is not None:
            J = J + ~np.broadcast_to(valid, z.shape).reshape(*batch, 1, J.shape[-1]) * np.eye(J.shape[-1], dtype=J.dtype)

        def inverse_pullback(z_bar, log_det_bar):
            grad_l, _ = pullback(np.zeros_like(x_again), np.ones_like(log_det_bar))
            u = z_bar - over_event(log_det_bar, len(in_shape)) * grad_l
            u = u if valid is None else np.where(valid, u, u.dtype.type(0))
            u = u.reshape(*batch, int(np.prod(in_shape)), 1)
            u = u if not self.domain.thin else self.domain.basis(z, len(in_shape)).mT @ u
            w = np.linalg.solve(np.swapaxes(J, -1, -2), u)[..., 0]
            x_bar = self.codomain.entries(w, x, self.event_ndim[1]).reshape(x.shape)
            _, params_bar = pullback(-x_bar, -log_det_bar)
            return x_bar, params_bar

        return (z, inverse_log_det), inverse_pullback

    # -- the upper end of an interval (0, b) --------------------------------------------------------------------------

    @property
    def two_sided(self):
        """Has it `complement`, which a chain needs near the upper end, and what follows below?  A map of an interval has `mirrored`."""
        return self.symmetric

    def mirrored(self):
        """(f~ = M f M, a function that takes the cotangents of the parameters of f~ to the cotangents of its own), with M in `mirror`."""
        if not self.symmetric:
            raise NotImplementedError(f"{type(self).__name__}: mirrored")
        if "loc" not in self.declared:
            return self, lambda params_bar: params_bar
        return tree.copied(self, loc=-self.loc), lambda params_bar: params_bar | {"loc": -params_bar["loc"]}

    def complement(self, z):
        """q = b - f(z), without cancellation."""
        return self.mirrored()[0].forward(mirror(self.domain, z))

    def inverse_and_log_det_of_complement(self, q):
        """(z, log|dz/dq|) of z = f^-1(b - q)."""
        z, log_det = self.mirrored()[0].inverse_and_log_det(q)
        return mirror(self.domain, z), log_det

    def inverse_vjp_of_complement(self, q):
        """((z, log|dz/dq|), pullback) of z = f^-1(b - q); the pullback gives the cotangents of q and of the parameters."""
        page, own = self.mirrored()
        (z, log_det), mirrored_pullback = page.inverse_vjp(q)

        def pullback(z_bar, log_det_bar):
            q_bar, params_bar = mirrored_pullback(-z_bar, log_det_bar)
            return q_bar, own(params_bar)

        return (mirror(self.domain, z), log_det), pullback

    # -- data ---------------------------------------------------------------------------------------------------------

    def initialised(self, data, rng):
        """Data-dependent initialisation: a new value whose output on `data` is standardised; by default, itself."""
        return self

    def inverse_initialised(self, data, rng):
        """The same from the other side: a new value whose inverse's output on `data` is standardised."""
        return self

    def _event(self, array, side):
        ndim = self.event_ndim[side]
        return array.shape[array.ndim - ndim:]


def complemented(found, pullback):
    """A value, and its pullback to x as one to the complement q = b - x."""
    def pullback_to_q(image_bar, log_det_bar):
        x_bar, params_bar = pullback(image_bar, log_det_bar)
        return -x_bar, params_bar

    return found, pullback_to_q


def mirror(where, numbers):
    """M: -z on the real line, lower + upper - z on an interval."""
    lower, upper = where.each or (where.lower, where.upper)
    return -numbers if np.isinf(lower).all() else lower + (upper - numbers.astype(np.float64))      # exact for float32, too, if not tiny


def over_event(per_event, ndim) -> np.ndarray:
    """A number for each event, shaped to multiply events of `ndim` axes."""
    return per_event.reshape(per_event.shape + (1,) * ndim)


# -- declaring a page -------------------------------------------------------------------------------------------------

def lettered(page):
    """The page's shape rules with its letters held fixed, so that a composition refuses a stage's wrong size by name."""
    output_rule, input_rule = own_function(page, "output_shape"), own_function(page, "input_shape")

    @functools.wraps(output_rule)
    def output_shape(self, shape):
        return output_rule(self, held_to_letters(self, shape))

    @functools.wraps(input_rule)
    def input_shape(self, shape):
        return held_to_letters(self, tuple(input_rule(self, shape)))

    page.output_shape, page.input_shape = output_shape, input_shape


METHODS = {"forward": 0, "log_det": 0, "forward_and_log_det": 0, "jacobian": 0, "inverse": 1, "inverse_and_log_det": 1}
VJPS = {"vjp": (0, "x_bar"), "inverse_vjp": (1, "z_bar")}


def bijector(*, domain=None, codomain=None, source="", register=True, **facts):
    """Declare a page: its source, its domain and codomain (unless they depend on its fields), and facts about it.

    Facts: `increasing`, `constant_log_det`, `solver` (the inverse is a solver, not a formula), `normwise` (its unit of
    error is normwise, as for a page that solves with a matrix or factors it), `entrywise_log_det` (but not the unit of its
    log-det, the logarithm of a product of its entries), `infinite_events` (an event with an infinite entry, as after a map that
    has reached its limit, goes back to the limits of the inverse matrix), `straight_far_out` (events beyond the range of its parameters
    meet lines; fewer binades are certified there), `moderate` (certified only at moderate events; its docstring says why),
    `symmetric` (a map of R onto (0, b) with f(2 loc - z) = b - f(z), so that chains keep the digits of both tails), `two_sided` (another
    map onto (0, b) that has `complement`, for the same end).  The page is registered.
    `textbook`: the class of the page's equations as they are printed, see `maps/README.md`; conditioners, densities, scales
    and parametrisations are handed theirs in the same way.
    """

    def publish(page):
        page = declare(page)
        for fact, value in {"domain": domain, "codomain": codomain, "source": source, **facts}.items():
            if value is not None:
                setattr(page, fact, value)
        lettered(page)
        for name, side in METHODS.items():
            outside = of_event(side, entrywise=name != "jacobian")
            setattr(page, name, published(own_function(page, name), outside, vars(Bijector)[name].__doc__))
        for name, (side, bar) in VJPS.items():
            if not hasattr(page, name):
                continue
            function = own_function(page, name)
            summed = function if function is vars(Bijector).get(name) else reducing(function)
            setattr(page, name, published(summed, vjp_of_event(side, bar, "log_det_bar"), OF_BIJECTORS[name]))
        return registered(page) if register else page

    return publish
