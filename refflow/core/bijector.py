"""The contract: what every page offers, how bad input is refused, and the registry.

    x = f(z)                      forward, z latent, x data
    z = f^-1(x)                   inverse
    log|det dx/dz|                log_det, always of forward
    log p(x) = log pi(z) - log|det dx/dz|

A page is a class with the functions of the contract, written without checks.  `@bijector` keeps it as the UNCHECKED view
and publishes a class whose methods check shapes, dtypes and domain once, then run the page's functions on that view.
"""

from __future__ import annotations

import functools

import numpy as np

from .registry import registered
from .values import Value, declare, with_checks
from .arrays import as_floating, at_index, sum_to_shape

BLOCK = 16384
LETTERS = {0: (), 1: ("D",), 2: ("C", "T"), 3: ("C", "H", "W")}


class Bijector(Value):
    """The contract, with everything that follows from a page's own functions.

    A page defines `definition`; `forward` and `log_det` (or `forward_and_log_det`); `inverse` (or
    `inverse_and_log_det`); `slope` (scalar pages) or `jacobian`; `vjp`; and overrides the rest where it has something
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
    marks = None
    hard_cases = ()

    # -- shapes ------------------------------------------------------------------------------------------------------

    def output_shape(self, shape):
        """The event shape of x for an event shape of z.  Raises ValueError where there is none."""
        return shape

    def input_shape(self, shape):
        """The event shape of z for an event shape of x.  Raises ValueError where there is none."""
        return shape

    def chart(self, shape):
        """Flat indices of x that form the chart of its image, for an event shape of z; all of them if dimensions agree."""
        return np.arange(int(np.prod(shape)))

    def part_shapes(self, shape, side):
        """The shapes of the parts that an event of `shape` consists of, on side 0 (z) or 1 (x); one part but for a vector
        into which images were flattened.
        """
        return [tuple(shape)]

    def latent_shapes(self, shape):
        """The parts of the output for an event shape of z: of a map from data to latents, its latents'."""
        return self.part_shapes(tuple(self.output_shape(tuple(shape))), 1)

    # -- what follows from the page's own functions -------------------------------------------------------------------

    def forward(self, z):
        """x = f(z)."""
        return self.forward_and_log_det(z)[0]

    def log_det(self, z):
        """log|det dx/dz| at z, one number for each event."""
        return self.forward_and_log_det(z)[1]

    def forward_and_log_det(self, z):
        """(x, log|det dx/dz|) in one pass."""
        return self.forward(z), self.log_det(z)

    def inverse(self, x):
        """z = f^-1(x)."""
        return self.inverse_and_log_det(x)[0]

    def inverse_and_log_det(self, x):
        """(z, log|det dz/dx|) in one pass: the log-det of the map being applied."""
        z = self.inverse(x)
        return z, -self.log_det(z)

    def jacobian(self, z):
        """The full dx/dz, (*batch, D_out, D_in); of a scalar page its slope as a 1 by 1 matrix."""
        return self.slope(z)[..., None, None]

    def inverse_vjp(self, x):
        r"""((z, log|det dz/dx|), pullback) of the inverse map, from the forward map's own reverse rule.

        With l(z) = log|det J(z)|, L = <z_bar, z> + l_bar (-l(z)) and z = f^-1(x):
            u = z_bar - l_bar grad_z l,   w = J^-T u
            x_bar = w,   params_bar = the parameter part of the forward pullback at (-w, -l_bar).
        Where D_out > D_in, J is the chart's square block and the entries of x_bar outside the chart are 0.
        """
        z, inverse_log_det = self.inverse_and_log_det(x)
        (x_again, _), pullback = self.vjp(z)
        in_shape, out_shape = self._event(z, 0), self._event(x, 1)
        batch = z.shape[:z.ndim - len(in_shape)]
        chart = self.chart(in_shape)
        J = self.jacobian(z)[..., chart, :]

        def inverse_pullback(z_bar, log_det_bar):
            grad_l, _ = pullback(np.zeros_like(x_again), np.ones_like(log_det_bar))
            u = z_bar - over_event(log_det_bar, len(in_shape)) * grad_l
            w = np.linalg.solve(np.swapaxes(J, -1, -2), u.reshape(*batch, J.shape[-1], 1))[..., 0]
            x_bar = np.zeros((*batch, int(np.prod(out_shape))), w.dtype)
            x_bar[..., chart] = w
            x_bar = x_bar.reshape(x.shape)
            _, params_bar = pullback(-x_bar, -log_det_bar)
            return x_bar, params_bar

        return (z, inverse_log_det), inverse_pullback

    def initialised(self, data, rng):
        """Data-dependent initialisation: a new value whose output on `data` is standardised; itself where there is none."""
        return self

    def inverse_initialised(self, data, rng):
        """The same from the other side: a new value whose inverse's output on `data` is standardised."""
        return self

    def _event(self, array, side):
        ndim = self.event_ndim[side]
        return array.shape[array.ndim - ndim:]

    # -- views -------------------------------------------------------------------------------------------------------

    def view(self, dtype, marks=None):
        """The unchecked view in `dtype`: the page's own functions on fields of that dtype.

        Inside a composition a stage may meet an event that it cannot take.  The view refuses it by name; or, given a list
        `marks`, goes on with another event in its place and notes there which were inside: to a density an event outside
        is no error.
        """
        view = object.__new__(type(self).page)
        for key, value in vars(self).items():
            field = self.declared.get(key)
            if isinstance(value, Bijector):
                value = value.view(dtype, marks)
            elif isinstance(value, tuple) and value and isinstance(value[0], Value):
                value = tuple(v.view(dtype, marks) if isinstance(v, Bijector) else v.view(dtype) for v in value)
            elif isinstance(value, Value):
                value = value.view(dtype)
            elif isinstance(value, np.ndarray) and field is not None and not field.constant:
                value = value.astype(dtype, copy=False)
            view.__dict__[key] = value
        view.__dict__["marks"] = marks
        return view


def over_event(per_event, ndim):
    """A number for each event, shaped to multiply events of `ndim` axes."""
    return per_event.reshape(per_event.shape + (1,) * ndim)


# -- the public boundary ----------------------------------------------------------------------------------------------

def checked_event(self, given, side):
    """(unchecked view, event, original shape): dtype, shape, broadcasting and domain, each refused by name.

    side 0 is z for forward, 1 is x for inverse.
    """
    name, letter = type(self).__name__, self.letters[side]
    event, _ = as_floating(f"{name}: {letter}", given)
    dtype = np.result_type(event.dtype, self.dtype or event.dtype)
    event = event.astype(dtype, copy=False)
    core = checked_shape(self, event, side)
    original = event.shape
    try:
        batch = np.broadcast_shapes(original[:event.ndim - len(core)], self.parameter_batch)
    except ValueError:
        raise ValueError(f"{name}: {letter} has batch shape {original[:event.ndim - len(core)]}, which does not broadcast "
                         f"with the parameters' batch {self.parameter_batch}") from None
    full = batch + core
    event = np.broadcast_to(event, full) if full != original else event
    event = without_masked(self, event, side)
    checked_domain(self, event, side)
    return self.view(dtype), event, original


def checked_shape(self, event, side):
    """The event's core shape, held against the fields' letters and the page's own rule."""
    name, letter = type(self).__name__, self.letters[side]
    ndim = self.event_ndim[side]
    if event.ndim < ndim:
        raise ValueError(f"{name}: {letter} must have at least {ndim} axes, not shape {event.shape}")
    core = event.shape[event.ndim - ndim:]
    try:
        inner = core if side == 0 else tuple(self.input_shape(core))
        held_to_letters(self, inner)
        self.output_shape(inner)
    except ValueError as error:
        raise ValueError(f"{name}: {letter} has event shape {core}: {error}") from None
    return core


def held_to_letters(self, shape):
    """The event shape of z, refused where a letter has another size in the fields."""
    for symbol, size in zip(self.event_shape or LETTERS.get(len(shape), ()), shape):
        if self.dims.get(symbol, size) != size:
            raise ValueError(f"the fields of {type(self).__name__} have {symbol}={self.dims[symbol]}")
    return shape


def lettered(page):
    """The page's shape rules with its letters held, so that a composition refuses a stage's wrong size by name."""
    output_rule, input_rule = page.output_shape, page.input_shape

    @functools.wraps(output_rule)
    def output_shape(self, shape):
        return output_rule(self, held_to_letters(self, shape))

    @functools.wraps(input_rule)
    def input_shape(self, shape):
        return held_to_letters(self, tuple(input_rule(self, shape)))

    page.output_shape, page.input_shape = output_shape, input_shape


def checked_domain(self, event, side):
    """Refuse the first event that lies outside; a finite boundary belongs to it."""
    where = self.codomain if side else self.domain
    wrong = where.first_outside(event, closed=True)
    if wrong is not None:
        index, value = wrong
        letter = self.letters[side]
        raise ValueError(f"{type(self).__name__}: {letter} {where.rule}; {at_index(letter, index)} = {value}")


def marked(self, event, side):
    """The event with members of the open set in place of what lies outside, which is noted in the view's marks."""
    where, ndim = self.codomain if side else self.domain, self.event_ndim[side]
    inside = where.members(event, ndim)
    self.marks.append(inside)
    return where.completed(event, over_event(inside, ndim))


def valid_positions(self, side):
    """The mask of a side's events, shaped to multiply them: its own, or that of the component which meets them first."""
    if getattr(self.declared.get("mask"), "optional", False):
        return None if self.mask is None else over_positions(self.mask, self.event_ndim[side])
    end = self.at_end(side)
    return None if end is None else valid_positions(*end)


def without_masked(self, event, side):
    """Positions that a mask (*batch, T) calls invalid are never read: they become 0 here."""
    valid = valid_positions(self, side)
    return event if valid is None else np.where(valid, event, event.dtype.type(0))


def over_positions(mask, ndim):
    """A mask (*batch, T) shaped to multiply events (*batch, ..., T) of `ndim` axes."""
    return mask.reshape(mask.shape[:-1] + (1,) * (ndim - 1) + mask.shape[-1:])


def checked_cotangent(self, name, given, like):
    bar, _ = as_floating(f"{type(self).__name__}: {name}", given)
    try:
        return np.broadcast_to(bar.astype(like.dtype, copy=False), like.shape)
    except ValueError:
        raise ValueError(f"{type(self).__name__}: {name} has shape {bar.shape}, which does not broadcast to "
                         f"{like.shape}") from None


def in_blocks(function, event):
    """An elementwise function of a large array, block by block, so that its temporaries stay in the cache."""
    flat = event.reshape(-1)
    pieces = function(flat[:BLOCK])
    several = isinstance(pieces, tuple)
    outputs = [np.empty(flat.shape, piece.dtype) for piece in (pieces if several else (pieces,))]
    for start in range(0, flat.size, BLOCK):
        block = slice(start, start + BLOCK)
        pieces = function(flat[block])
        for output, piece in zip(outputs, pieces if several else (pieces,)):
            output[block] = piece
    outputs = tuple(output.reshape(event.shape) for output in outputs)
    return outputs if several else outputs[0]


def published(name, side):
    """The checked form of one of the page's functions."""

    def method(self, event):
        view, event, _ = checked_event(self, event, side)
        elementwise = name != "jacobian" and self.event_ndim == (0, 0) and self.parameter_batch == ()
        with np.errstate(all="ignore"):
            if elementwise and event.size > 2 * BLOCK:
                return in_blocks(getattr(view, name), event)
            return getattr(view, name)(event)

    method.__name__ = name
    method.__doc__ = getattr(Bijector, name).__doc__
    return method


def published_vjp(name, side):
    """The checked form of a vjp: cotangents are checked when they come, and the event's is summed to its own shape."""
    bars = ("x_bar", "log_det_bar") if side == 0 else ("z_bar", "log_det_bar")

    def method(self, event):
        view, event, original = checked_event(self, event, side)
        with np.errstate(all="ignore"):
            (image, log_det), pullback = getattr(view, name)(event)

        def checked_pullback(image_bar, log_det_bar):
            image_bar = checked_cotangent(self, bars[0], image_bar, image)
            log_det_bar = checked_cotangent(self, bars[1], log_det_bar, log_det)
            with np.errstate(all="ignore"):
                event_bar, params_bar = pullback(without_masked(self, image_bar, 1 - side), log_det_bar)
            return sum_to_shape(event_bar, original), params_bar

        return (image, log_det), checked_pullback

    method.__name__ = name
    method.__doc__ = VJP_DOC[side]
    return method


def reducing(page_vjp):
    """A page's vjp with its parameters' cotangents summed over the axes that broadcast."""

    def vjp(self, event):
        values, pullback = page_vjp(self, event)

        def reduced(*bars):
            event_bar, params_bar = pullback(*bars)
            return event_bar, self.reduce(params_bar)

        return values, reduced

    vjp.__doc__ = page_vjp.__doc__
    return vjp


VJP_DOC = (
    """((x, log_det), pullback), as `jax.vjp`.

    `pullback(x_bar, log_det_bar)` -> (z_bar, params_bar) of L = <x_bar, x> + <log_det_bar, log_det>; params_bar has the
    keys and shapes of `params()`.
    """,
    """((z, log|det dz/dx|), pullback) of the inverse map and its log-det.

    `pullback(z_bar, log_det_bar)` -> (x_bar, params_bar) of L = <z_bar, z> + <log_det_bar, log|det dz/dx|>.
    """)
METHODS = {"forward": 0, "log_det": 0, "forward_and_log_det": 0, "jacobian": 0, "inverse": 1, "inverse_and_log_det": 1}


def bijector(*, domain=None, codomain=None, source="", register=True, **facts):
    """Declare a page: its source, its domain and codomain (unless they depend on its fields), and facts that hold for it.

    Facts: `increasing`, `constant_log_det`, `solver` (the inverse is a solver, not a formula), `normwise` (its unit of
    error is that of a matrix that solves or factors).  It is entered in the register.
    """

    def publish(page):
        page = declare(page)
        for fact, value in {"domain": domain, "codomain": codomain, "source": source, **facts}.items():
            if value is not None:
                setattr(page, fact, value)
        for name in ("vjp", "inverse_vjp"):
            if name in page.__dict__:
                setattr(page, name, reducing(page.__dict__[name]))
        lettered(page)
        methods = {name: published(name, side) for name, side in METHODS.items()}
        methods |= {"vjp": published_vjp("vjp", 0), "inverse_vjp": published_vjp("inverse_vjp", 1)}
        public = with_checks(page, methods)
        return registered(public) if register else public

    return publish
