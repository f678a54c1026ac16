r"""The contract of a density, base or flow, and how bad input is refused.

    log p(z)                                    log_prob, -inf with zero gradient outside the support
    z = z(noise, parameters)                    sample, reparameterised: sample_vjp is its gradient
    log p(z(noise, parameters), parameters)     sample_and_log_prob_vjp

A page is a class with `log_prob_vjp(z)` and `sample_vjp(rng, lead)`, written without checks, for events z of the full batch
inside the support and `lead` = (n, *batch); the rest follows.  `@density` puts the boundary before them, as
`@bijector` does.

A sample is not a differentiable function of the parameters that a page names in `not_reparameterised`: of the shape of a gamma
variable, say.  The pullback of its `sample_vjp` leaves them out; a page that names all of its parameters has `sample(rng, lead)` instead.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from operator import index

import numpy as np

from . import tree
from .bijector import over_event
from .boundary import all_apart, checked_cotangent, handed_out, of_event, own_function, published, vjp_of_event
from .method_help import OF_DENSITIES
from .registry import registered
from .sets import extended_real, real
from .tree import added
from .values import Value, declare


class Density(Value):
    """A probability density of events, with parameters.

    Events are (*batch, *event_shape), parameters broadcast with the batch.  Public methods, with p for the density:

    `log_prob(z)` -> (*batch): summed over the event, -inf outside the support
    `log_prob_vjp(z)` -> (log_prob, pullback); `pullback(log_prob_bar)` -> (z_bar, params_bar)
    `sample(rng, n)` -> (n, *batch, *event), where batch is the parameters' batch; all randomness comes from the Generator `rng`
    `sample_vjp(rng, n)` -> (z, pullback); `pullback(z_bar)` -> params_bar, of the reparameterised sample
    `sample_and_log_prob_vjp(rng, n)` -> ((z, log_prob), pullback); `pullback(z_bar, log_prob_bar)` -> params_bar

    params_bar has the keys and shapes of `params()`.  Of samples, the cotangents of the parameters in `not_reparameterised` are not known:
    `sample_vjp` gives NaN for them, or raises ValueError if they are all parameters, and so does `sample_and_log_prob_vjp` if there are
    any.  `sample` works.  ValueError, naming class and argument, for NaN, a wrong shape, a dtype
    other than float32 and float64, an `rng` that is not a Generator, an `n` that is not a count.
    """

    kind = "density"
    source = ""
    hard_cases = ()
    normwise = False
    side = 0                                # the side of a flow's map: 0 for z, 1 for x
    domain = codomain = extended_real       # where log_prob is defined; +-inf is outside every support
    support = real
    not_reparameterised: tuple = ()         # a sample is not a differentiable function of these parameters

    # -- shapes ------------------------------------------------------------------------------------------------------

    @property
    def event_shape(self):
        """The shape of one event: the field `shape` if there is one, else a vector of length D."""
        return self.shape if "shape" in self.declared else (self.dims["D"],)

    @property
    def event_ndim(self):
        return (len(self.event_shape),)

    @property
    def rank(self):
        """The number of axes of an event."""
        return self.event_ndim[self.side]

    @functools.cached_property
    def parameter_batch(self):
        if "shape" not in self.declared:
            return super().parameter_batch
        full = np.broadcast_shapes(*(array.shape for array in tree.arrays(self).values()), self.shape)
        return full[:len(full) - len(self.shape)]

    def output_shape(self, shape):
        if tuple(shape) != self.event_shape:
            raise ValueError(f"its events have shape {self.event_shape}")
        return shape

    def _validate(self):
        if "shape" in self.declared:
            self._set("shape", self._settled_shape())
        super()._validate()

    def _settled_shape(self):
        """The given event shape, or else the last axis of the fields, or () if the fields have no axis."""
        name, shapes = type(self).__name__, [array.shape for array in tree.arrays(self).values()]
        try:
            full = np.broadcast_shapes(*shapes)
        except ValueError:
            raise ValueError(f"{name}: its fields do not broadcast: {shapes}") from None
        if self.shape is None:
            return full[-1:]
        try:
            given = (index(self.shape),) if np.ndim(self.shape) == 0 else tuple(index(n) for n in self.shape)
        except TypeError:
            raise ValueError(f"{name}: shape must be an int or a tuple of ints, not {self.shape!r}") from None
        core = full[max(0, len(full) - len(given)):]
        if min(given, default=0) < 0 or any(n not in (1, m) for n, m in zip(core[::-1], given[::-1])):
            raise ValueError(f"{name}: fields of shape {full} do not fit events of shape {given}")
        return given

    # -- what follows from the page's own functions -------------------------------------------------------------------

    def inside(self, z):
        """One mark for each event: does it lie in the open support?"""
        return self.support.members(z, self.rank)

    def impossible(self, z, log_prob):
        """One mark for each event: is its density 0?  log_prob alone cannot tell, since it may overflow to -inf."""
        return ~self.inside(z)

    def log_prob(self, z):
        return self.log_prob_vjp(z)[0]

    def sample(self, rng, lead):
        return self.sample_vjp(rng, lead)[0]

    def tempered_sample(self, rng, lead, temperature):
        raise ValueError(f"{type(self).__name__}: temperature multiplies the latents of a flow, and this density has none")

    def sample_vjp(self, rng, lead):
        raise ValueError(no_gradient(self, self.not_reparameterised))

    def sample_and_log_prob_vjp(self, rng, lead):
        if self.not_reparameterised:
            raise ValueError(no_gradient(self, self.not_reparameterised))
        z, sample_pullback = self.sample_vjp(rng, lead)
        log_prob, log_prob_pullback = self.log_prob_vjp(z)

        def pullback(z_bar, log_prob_bar):
            through_z, direct = log_prob_pullback(log_prob_bar)
            return added(sample_pullback(z_bar + through_z), direct)

        return (z, log_prob), pullback


def no_gradient(p, names):
    return (f"{type(p).__name__}: a sample is not a differentiable function of {' and '.join(names)}; "
            "`sample` draws, and `log_prob_vjp` has the gradients of log_prob")


def anywhere(where):
    """A set whose members are the events with a density, while an event elsewhere is not refused: log_prob is -inf there."""
    return replace(where, rule=extended_real.rule, outside_closed=extended_real.outside_closed)


# -- the public boundary ----------------------------------------------------------------------------------------------

def reduced(self, pullback):
    """A page's pullback with the parameters' cotangents summed."""

    def summed(log_prob_bar):
        z_bar, params_bar = pullback(log_prob_bar)
        return z_bar, self.reduce(params_bar)

    return summed


def supported(page_vjp):
    """A page's log_prob_vjp on any event: -inf and zero gradient outside the support; sums the parameters' cotangents."""

    @functools.wraps(page_vjp)
    def log_prob_vjp(self, z):
        inside = self.inside(z)
        if inside.all():
            log_prob, pullback = page_vjp(self, z)
            return log_prob, reduced(self, pullback)
        where = over_event(inside, self.rank)
        log_prob, pullback = page_vjp(self, self.support.completed(z, where) if self.support.thin else np.where(where, z, 0))

        def on_the_support(log_prob_bar):
            z_bar, params_bar = pullback(np.where(inside, log_prob_bar, 0))
            return np.where(where, z_bar, 0), params_bar

        return np.where(inside, log_prob, -np.inf), reduced(self, on_the_support)

    return log_prob_vjp


def reducing_sample(page_vjp):
    """A page's vjp of its sample with the parameters' cotangents summed, and NaN for those that are not known."""

    @functools.wraps(page_vjp)
    def vjp(self, rng, lead):
        drawn, pullback = page_vjp(self, rng, lead)

        def summed(*bars):
            unknown = {name: np.full_like(getattr(self, name), np.nan) for name in self.not_reparameterised}
            params_bar = unknown | self.reduce(pullback(*bars))
            return {name: params_bar[name] for name in self.params()} if unknown else params_bar

        return drawn, summed

    return vjp


def checked_draw(self, rng, n):
    """(unchecked copy, (n, *batch))."""
    name = type(self).__name__
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"{name}: rng must be a numpy.random.Generator, not {type(rng).__name__}")
    try:
        n = index(n)
    except TypeError:
        raise ValueError(f"{name}: n must be an int, not {n!r}") from None
    if n < 0:
        raise ValueError(f"{name}: n must be >= 0, not {n}")
    return self.unchecked(self.dtype or np.dtype(np.float64)), (n, *self.parameter_batch)


def sample(function, self, rng, n, context=None, temperature=1.0):
    if context is not None:
        return self.at(context=context).sample(rng, n, temperature=temperature)
    if not 0 <= temperature < np.inf:
        raise ValueError(f"{type(self).__name__}: temperature must be finite and >= 0, not {temperature!r}")
    copy, lead = checked_draw(self, rng, n)
    with np.errstate(all="ignore"):
        return function(copy, rng, lead) if temperature == 1 else copy.tempered_sample(rng, lead, temperature)


def vjp_of_sample(*names):
    """The public form of a vjp of samples; its pullback takes cotangents with these names."""

    def outside(function, self, rng, n):
        copy, lead = checked_draw(self, rng, n)
        with np.errstate(all="ignore"):
            found, pullback = function(copy, rng, lead)
        values = found if isinstance(found, tuple) else (found,)

        def checked_pullback(*given):
            bars = [checked_cotangent(self, name.format(self.letters[self.side]), bar, value)
                    for name, bar, value in zip(names, given, values, strict=True)]
            with np.errstate(all="ignore"):
                return all_apart(pullback(*bars), *bars)

        return handed_out(values) if isinstance(found, tuple) else handed_out(values)[0], checked_pullback

    return outside


def log_prob(function, self, event):
    return of_event(self.side)(function, self, event)


def log_prob_vjp(function, self, event):
    return vjp_of_event(self.side, "log_prob_bar")(function, self, event)


PUBLISHED = {"log_prob": log_prob, "log_prob_vjp": log_prob_vjp, "sample": sample, "sample_vjp": vjp_of_sample("{}_bar"),
             "sample_and_log_prob_vjp": vjp_of_sample("{}_bar", "log_prob_bar")}


def density(*, source="", register=True, **facts):
    """Declare a page: a class of density with `log_prob_vjp(z)` and `sample_vjp(rng, lead)`, its source, and facts about it."""

    def publish(page):
        page = declare(page)
        for fact, held in {"source": source, **facts}.items():
            setattr(page, fact, held)
        if getattr(page.support, "thin", False):      # the support of some pages depends on their fields
            page.domain = page.codomain = anywhere(page.support)
        functions = {name: own_function(page, name) for name in PUBLISHED}
        functions["log_prob_vjp"] = supported(functions["log_prob_vjp"])
        for name in ("sample_vjp", "sample_and_log_prob_vjp"):
            functions[name] = reducing_sample(functions[name])
        for name, outside in PUBLISHED.items():
            setattr(page, name, published(functions[name], outside, OF_DENSITIES[name]))
        return registered(page) if register else page

    return publish
