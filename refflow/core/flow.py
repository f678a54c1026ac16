r"""A flow: a bijector `x = f(z)` and a base density `pi` of `z`.

    log p(x) = log pi(z) + log|det dz/dx|,   z = f^-1(x)                            (1)
    log p(x) = -inf, all gradients 0          where x is not f of a point of the support of pi      (2)
    log p(x) = NaN: it is not known           where log|det dz/dx| is not, since a value inside f rounded to an end of its set
    x = f(z),   z ~ pi                                                              (3)
    log p(x) = log pi(z) - log|det dx/dz|     of a sample, without an inverse       (4)

Reverse rules.  (1) reads `z` twice, in `pi` and in the log-det: with `b = log_prob_bar`,
    z_bar = b grad log pi(z),   x_bar, bijector_bar = f.inverse_vjp's pullback of (z_bar, b)        (5)
A sample depends on the base's parameters through `z`, so that for (3) and (4)
    z_bar, bijector_bar = f.vjp's pullback of (x_bar, -b)                           (6)
    base_bar = (dz/dparams)* (z_bar + b grad log pi(z)) + (dlog pi/dparams)* b      (7)

Samples at a temperature `T` (Kingma & Dhariwal, arXiv:1807.03039) do not follow the density, but lie nearer its middle:
    x = f(T z),   z ~ pi                                                            (8)
"""

from __future__ import annotations

import numpy as np

from .bijector import Bijector, over_event
from .boundary import checked_domain, checked_shape
from .compose import Independent, outside_marked, why_not
from .declarations import child, plain
from .density import Density, density
from .sets import contains


@density(register=False)
class Flow(Density):
    """The density of x = f(z) with z drawn from `base` and f = `bijector`.

    x is (*batch, *event): batch is the broadcast batch of both components' parameters, event the shape of f(z).
    A bijector of lower rank than the base's events is lifted with `Independent`.  Outside the open support log_prob is -inf,
    with zero gradient; the finite ends of f's codomain are outside.  Both are NaN, which means that they are not known, where the
    bijector's log-det is NaN.  params_bar has the keys of `params()`,
    {"bijector": ..., "base": ...} and, shared, "context".

    `base` is a `Density`, another Flow included, or the user's own object with

    `log_prob(z)` -> (*batch), -inf outside its support, for z (*batch, *event)
    `log_prob_vjp(z)` -> (log_prob, pullback) with `pullback(log_prob_bar)` -> (z_bar, params_bar)
    `sample(rng, n)` -> (n, *event)

    and, optionally, `event_shape`; `params()`, a nested dict of arrays, with `replace(**params)` -> a new object and
    `sample_vjp(rng, n)` -> (z, pullback) with `pullback(z_bar)` -> params_bar.  Without `params` it has no parameters, and
    its params_bar is {}.

    ValueError for a component that is none of these, for shapes or parameter batches that do not fit, for a base whose
    support is not inside f's domain, for a map with a mask of sequences that leaves positions out: the base would count the
    zeros there.  The density of padded sequences is the sum of log pi over the valid positions of f^-1(x), plus its log-det.
    """

    bijector: Bijector = child()
    base: Density = child()
    side = 1

    def __post_init__(self):
        if not isinstance(self.bijector, Bijector):
            raise ValueError(f"Flow: bijector must be a Bijector, not {type(self.bijector).__name__}")
        rank = self.bijector.event_ndim[0]
        if not isinstance(self.base, Density):
            self._set("base", OwnBase(self.base, rank))
        if self.base.rank > rank:
            self._set("bijector", Independent(self.bijector, self.base.rank - rank))
        super().__post_init__()

    def _validate(self):
        name, shape = type(self.bijector).__name__, self.base.event_shape
        if self.base.rank != self.bijector.event_ndim[0]:
            raise ValueError(f"Flow: {name} takes events of {self.bijector.event_ndim[0]} axes, its base's events have "
                             f"shape {shape}")
        if shape is not None:
            try:
                checked_shape(self.bijector, np.broadcast_to(0.0, shape), 0)
            except ValueError as error:
                raise ValueError(f"Flow: the base's events do not fit: {error}") from None
        if not contains(self.bijector.domain, self.base.support):
            raise ValueError(f"Flow: the base's support, {self.base.support}, is not inside the domain of {name}, "
                             f"{self.bijector.domain}")
        if self.support is None:
            raise ValueError(f"Flow: {why_not(self.bijector, self.base.support)}")
        if not all(mask.all() for mask in self.bijector.held("mask")):
            raise ValueError(f"Flow: its base would count the padding that a mask of {name} leaves out; add the log-density of "
                             "the valid positions to the log-det of bijector.inverse_and_log_det(x) instead")
        batches = self.bijector.parameter_batch, self.base.parameter_batch
        try:
            np.broadcast_shapes(*batches)
        except ValueError:
            raise ValueError(f"Flow: the parameter batches of bijector and base do not broadcast: {batches}") from None

    # -- shapes ------------------------------------------------------------------------------------------------------

    event_ndim = property(lambda self: self.bijector.event_ndim)
    support = property(lambda self: self.bijector.image_of(self.base.support))

    @property
    def event_shape(self):
        """The shape of x, or None if the base does not know the shape of z."""
        shape = self.base.event_shape
        return None if shape is None else tuple(self.bijector.output_shape(shape))

    def input_shape(self, shape):
        checked_shape(self.bijector, np.broadcast_to(0.0, shape), 1)
        inner = tuple(self.bijector.input_shape(shape))
        if self.base.event_shape not in (None, inner):
            raise ValueError(f"its events have shape {self.event_shape}")
        return inner

    def output_shape(self, shape):
        return self.bijector.output_shape(shape)

    def latent_shapes(self):
        """The shapes of the parts of z: one, unless z is the vector of a multi-scale model."""
        if self.base.event_shape is None:
            raise ValueError(f"Flow: its base, {type(self.base).__name__}, does not know the shape of its events")
        return self.bijector.part_shapes(self.base.event_shape, 0)

    def unpack(self, z):
        """The parts of z (*batch, *event), in the order in which the model factored them out.

        ValueError if z has another event shape.
        """
        z, shapes, event = np.array(z), self.latent_shapes(), self.base.event_shape
        if z.shape[max(0, z.ndim - len(event)):] != event:
            raise ValueError(f"Flow: z must have event shape {event}, not shape {z.shape}")
        batch, ends = z.shape[:z.ndim - len(event)], np.cumsum([int(np.prod(shape)) for shape in shapes])
        pieces = np.split(z.reshape(*batch, int(ends[-1])), ends[:-1], -1)
        return [piece.reshape(*batch, *shape) for piece, shape in zip(pieces, shapes)]

    def pack(self, parts):
        """z (*batch, *event) from the list of its parts: the inverse of `unpack`.

        ValueError for a wrong number of parts, for wrong shapes, and for parts whose batches differ.
        """
        parts, shapes = [np.asarray(part) for part in parts], self.latent_shapes()
        given = [part.shape for part in parts]
        batch = given[0][:len(given[0]) - len(shapes[0])] if given else ()
        if given != [(*batch, *shape) for shape in shapes]:
            raise ValueError(f"Flow: its latent parts have shapes {shapes} after one batch shape, not {given}")
        flat = [part.reshape(*batch, int(np.prod(shape))) for part, shape in zip(parts, shapes)]
        return np.concatenate(flat, -1).reshape(*batch, *self.base.event_shape)

    # -- log_prob ----------------------------------------------------------------------------------------------------

    def inside(self, x):
        return np.isfinite(x).all(axis=tuple(range(-self.rank, 0)))

    def impossible(self, x, log_prob):
        return log_prob == -np.inf

    def inverted(self, x, name):
        """(inside, lost, what the bijector's inverse method `name` returns).

        An event is marked outside if it is outside the codomain, if a stage of a chain refuses it, or if its z overflows.  It is
        lost if its log-det is not known, as where rounding alone made z infinite.  The result there may belong to another event,
        so that nothing infinite is multiplied by a cotangent of 0.
        """
        f = self.bijector
        inside = f.codomain.members(x, self.rank)
        with outside_marked() as marks:
            found = getattr(f, name)(f.codomain.completed(x, over_event(inside, self.rank)))
        z, log_det = found if name == "inverse_and_log_det" else found[0]
        for mark in marks:
            inside = inside & mark.all(axis=tuple(range(inside.ndim, mark.ndim)))
        lost, finite = inside & np.isnan(log_det), np.isfinite(z).all(axis=tuple(range(inside.ndim, z.ndim)))
        inside = inside & finite
        if not finite.all():
            with outside_marked():
                found = getattr(f, name)(f.codomain.completed(x, over_event(inside, self.rank)))
        return inside, lost, found

    def log_prob(self, x):
        inside, lost, (z, log_det) = self.inverted(x, "inverse_and_log_det")
        log_pi = self.base.log_prob(z)
        inside = inside & ~self.base.impossible(z, log_pi)
        return np.where(lost, np.nan, np.where(inside, log_pi + log_det, -np.inf))  # (1) (2)

    def log_prob_vjp(self, x):
        inside, lost, ((z, log_det), f_pullback) = self.inverted(x, "inverse_vjp")
        log_pi, base_pullback = self.base.log_prob_vjp(z)
        inside = inside & ~self.base.impossible(z, log_pi)

        def pullback(b):
            b = np.where(lost & (b != 0), np.nan, np.where(inside, b, 0))           # (2)
            z_bar, base_bar = base_pullback(b)                                      # (5)
            x_bar, f_bar = f_pullback(z_bar, b)                                     # (5)
            return np.where(over_event(inside | lost, self.rank), x_bar, 0), {"bijector": f_bar, "base": base_bar}

        return np.where(lost, np.nan, np.where(inside, log_pi + log_det, -np.inf)), pullback    # (1) (2)

    # -- sample ------------------------------------------------------------------------------------------------------

    def sample(self, rng, lead):
        return self.bijector.forward(self.of_the_domain(self.base.sample(rng, lead)))       # (3)

    def tempered_sample(self, rng, lead, temperature):
        z = self.base.sample(rng, lead) * float(temperature)                        # (8)
        return self.bijector.forward(self.of_the_domain(z))

    def of_the_domain(self, z):
        checked_domain(self.bijector, z, 0)
        return z

    def sample_vjp(self, rng, lead):
        z, base_pullback = self.base.sample_vjp(rng, lead)
        (x, log_det), f_pullback = self.bijector.vjp(self.of_the_domain(z))         # (3)

        def pullback(x_bar):
            z_bar, f_bar = f_pullback(x_bar, np.zeros_like(log_det))                # (6)
            return {"bijector": f_bar, "base": base_pullback(z_bar)}                # (7)

        return x, pullback

    def sample_and_log_prob_vjp(self, rng, lead):
        (z, log_pi), base_pullback = self.base.sample_and_log_prob_vjp(rng, lead)
        (x, log_det), f_pullback = self.bijector.vjp(self.of_the_domain(z))

        def pullback(x_bar, b):
            z_bar, f_bar = f_pullback(x_bar, -b)                                    # (6)
            return {"bijector": f_bar, "base": base_pullback(z_bar, b)}             # (7)

        return (x, log_pi - log_det), pullback                                      # (3) (4)

    def initialised(self, data, rng):
        """A new flow whose bijector is initialised on data x: where it can, each stage gives latents of mean 0, variance 1."""
        return self.replace(bijector=self.bijector.inverse_initialised(data, rng))


@density(register=False)
class OwnBase(Density):
    """The user's own base object, held by a Flow; `axes` counts the axes of an event."""

    given: object = plain()
    axes: int = plain()

    def _validate(self):
        missing = [m for m in ("log_prob", "log_prob_vjp", "sample") if not callable(getattr(self.given, m, None))]
        if missing:
            raise ValueError(f"Flow: base must be a density or have log_prob, log_prob_vjp and sample; "
                             f"{type(self.given).__name__} has no {missing[0]}")

    @property
    def event_shape(self):
        shape = getattr(self.given, "event_shape", None)
        return None if shape is None else tuple(shape)

    event_ndim = property(lambda self: (self.axes if self.event_shape is None else len(self.event_shape),))

    def own_params(self, met):
        return self.given.params() if hasattr(self.given, "params") else {}

    def changed(self, changes):
        return {"given": self.given.replace(**changes)} if changes else {}

    def impossible(self, z, log_prob):
        return log_prob == -np.inf

    def of_shape(self, what, array, shape, dtype):
        array = np.asarray(array)
        if array.shape != shape:
            raise ValueError(f"Flow: {type(self.given).__name__}.{what} has shape {array.shape}, not {shape}")
        return array.astype(dtype, copy=False)

    def log_prob(self, z):
        return self.of_shape("log_prob", self.given.log_prob(z), z.shape[:z.ndim - self.rank], z.dtype)

    def log_prob_vjp(self, z):
        log_prob, given_pullback = self.given.log_prob_vjp(z)

        def pullback(b):
            z_bar, params_bar = given_pullback(b)
            return self.of_shape("log_prob_vjp: z_bar", z_bar, z.shape, z.dtype), params_bar

        return self.of_shape("log_prob_vjp", log_prob, z.shape[:z.ndim - self.rank], z.dtype), pullback

    def shaped(self, z, lead):
        z, n = np.asarray(z), int(np.prod(lead))
        if z.ndim != 1 + self.rank or len(z) != n:
            raise ValueError(f"Flow: {type(self.given).__name__}.sample has shape {z.shape}, not ({n}, *event) with an "
                             f"event of {self.rank} axes")
        return z.astype(self.dtype, copy=False).reshape(*lead, *z.shape[1:])

    def sample(self, rng, lead):
        return self.shaped(self.given.sample(rng, int(np.prod(lead))), lead)

    def sample_vjp(self, rng, lead):
        if callable(getattr(self.given, "sample_vjp", None)):
            z, given_pullback = self.given.sample_vjp(rng, int(np.prod(lead)))
            return self.shaped(z, lead), lambda z_bar: given_pullback(z_bar.reshape(np.shape(z)))
        if self.params():
            raise ValueError(f"Flow: {type(self.given).__name__} has parameters, but no sample_vjp to differentiate samples")
        return self.sample(rng, lead), lambda z_bar: {}
