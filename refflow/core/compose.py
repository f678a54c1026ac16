r"""Composition: chains, inverses, and scalar maps applied to every entry of an event.

The map.  Chain of `f_1, ..., f_K, z_0 = z, z_i = f_i(z_(i-1))`:
    x = f_K(... f_1(z))                                                             (1)
    log|det dx/dz| = sum_i log|det df_i/dz_(i-1)|                                   (2)
    J = J_K ... J_1                                                                 (3)

Maps that lead through an interval (0, b), as a distribution function and then a quantile function, are one step of (1) to (3), a
run: between them stands the distance from 0 or the one from b, whichever is smaller.  `tracks` has its equations.

At the end of a domain, terms of (2) may be infinite with both signs.  No rule on such terms alone is right: the slope of
`(z^2)^(1/2)` at 0 is 1, of `exp(-1/z)` it is 0, and in both a stage has the slope 0 and another an infinite one.  There (2) is
its limit from inside.  With the event `e` at which the first of these terms is infinite, moved by `d` away from the end,
    lim_(d -> 0) sum_i log|det df_i|,   at d = 2^-k for k = 4, 8, 16, ...           (4)
or at `2^k` where `e` is infinite.  If the last two finite sums agree, the limit is the last one; else it is infinite with the
sign of their difference.  It stays NaN where fewer than two sums are finite.

Where an event between two stages has rounded to an end of its set, or to infinity, a term of (2) may be infinite that is not.
At an event of the open domain, an infinite sum is therefore asked again at events that are held inside the sets between,
    s = sum_(i >= n) log|det df_i/de_(i-1)|,  e_0 = z,  e_i = the float nearest to f_i(e_(i-1)) in the open set of f_(i+1)    (5)
where `n` is the last stage whose term is infinite at `f_(n-1)(e_(n-2))`.  If `s` has the sum's sign and almost the size of the
largest float, the floats end there, and not their digits: the sum stays infinite.  Else it is NaN, which means that it is not
known, and so are its gradients.  The image stays that of the rounded events.

`Independent(f, n)`, on each part `z_i` along `n` leading event axes, where `J` is block diagonal:
    x_i = f(z_i),   log|det dx/dz| = sum_i log|det df/dz_i|                         (6)
`Inverse(f)`, the same map read from the other side:
    x = f^-1(z)                                                                     (7)

The reverse rule.  The transpose of (3) has the factors in reverse order.  The pullbacks `f_i*` of a chain therefore run from the
last stage to the first, each fed the cotangent of its own output and the cotangent `l_bar` of (2):
    z_bar_(i-1) = f_i*(z_bar_i, l_bar)   for i = K, ..., 1,   z_bar_K = x_bar       (8)
Where one factor of (3) is infinite and another 0, as behind a map that has reached its limit, the product is NaN.  The
pullbacks of (8) leave a cotangent of 0 unchanged; they then give the rows of `J`.  For (6), all parts have the same `l_bar`; for
(7), the pullback is that of the inverse of `f`:
    z_bar_i = f*(x_bar_i, l_bar)                    of `Independent(f, n)`          (9)
    z_bar = (f^-1)*(x_bar, l_bar)                   of `Inverse(f)`                 (10)
The slope of a map of numbers whose (8) is NaN follows from the log-det where that is finite, at an end of the domain, or `-inf`:
    dx/dz = +-exp(log|dx/dz|),   with the sign of a step inwards                    (11)
A cotangent may overflow on its way where its product with the slopes before is a float.  As pullbacks are linear, what is not
finite at an event of the open domain then comes from smaller ones, from the last stage on whose cotangent overflows:
    f_i*(z_bar_i, l_bar) = 2^k f_i*(2^-k z_bar_i, 2^-k l_bar)                       (12)
where `2^k` is the largest float to the power 3/4.  The factor `2^k` is left for the end.  What overflows between stages even so
is NaN: not known.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from .bijector import Bijector, bijector, over_event
from .boundary import checked_domain
from .declarations import child, children, plain
from .registry import REGISTRY
from .sets import contains
from .tracks import Leaf, Run, runs_among
from .tree import along, bare, components, nest
from .words import Cases, case, refusal


DEPTHS = tuple(2**n for n in range(2, 11))      # k of (4)
SETTLED = 2.0**-10                              # sums that are nearer agree
ALMOST = 2.0**-10                               # of the largest float
MARKS: ContextVar = ContextVar("marks", default=None)


@contextmanager
def outside_marked():
    """Inside this context a chain does not raise for an event outside a stage's domain: it goes on with another event instead.

    For a density, such an event is not an error.  Gives the list of marks, (*batch) or with further event axes, False for
    the events that were outside.
    """
    marks = []
    token = MARKS.set(marks)
    try:
        yield marks
    finally:
        MARKS.reset(token)


def with_members(stage, event, side):
    """The event with everything outside the open set marked and replaced by members."""
    where, ndim = stage.codomain if side else stage.domain, stage.event_ndim[side]
    inside = where.members(event, ndim)
    MARKS.get().append(inside)
    return where.completed(event, over_event(inside, ndim))


def own_mask(f):
    """The mask of sequences that a map itself has, None without one."""
    return next((getattr(f, key) for key, field in f.own_fields().items() if field.role == "mask"), None)


def unlifted(f):
    """The map that `Independent` lifts, however often; f itself if it is not lifted."""
    return unlifted(f.inner) if isinstance(f, Independent) else f


def name_of(f):
    """What a message calls a map: its class, or for an inverse what it is the inverse of."""
    f = unlifted(f)
    return f"Inverse({name_of(f.inner)})" if isinstance(f, Inverse) else type(f).__name__


def why_not(f, where):
    """Why a map does not act on a set, in words."""
    if f.domain.thin and f.domain.name == where.name:
        step = f"IntrinsicVolume({where.name!r})"
        return (f"{name_of(f)} counts volumes on {f.domain}, and what arrives is {where}: put "
                f"{step if f.domain.measure == 'intrinsic' else f'Inverse({step})'} between")
    if f.domain.thin:
        return f"{name_of(f)} acts on {f.domain} alone, and what arrives is {where}"
    return (f"{name_of(f)} maps all entries of an event, and what arrives is of lower dimension ({where}): its log-det would "
            f"count too many; apply it before, or go back by the Inverse of a map onto {where}")


def refuse_another_dimension(stages, where):
    """Refuse stages that do not act on the set that arrives; `where` arrives at the first one."""
    for i, stage in enumerate(stages):
        image = stage.image_of(where)
        if image is None:
            raise ValueError(f"Chain: stage {i}: {why_not(stage, where)}")
        where = image


def refuse_padding_counted(name, *maps):
    """Refuse maps of sequences that mix steps with and without a mask: a step without one would count the padding."""
    steps = [unlifted(step) for f in maps for _, step, _ in along(f, 0)]
    without = [type(step).__name__ for step in steps if own_mask(step) is None]
    if without and len(without) < len(steps):
        raise ValueError(f"{name}: {without[0]} has no mask and would count the padding that other steps leave out; fill in all "
                         "masks by at(mask=...), and write a map of single positions as Pointwise(f, 2)")


@bijector(source="definition")
class Independent(Bijector):
    """The bijector `inner` on every entry of `ndim` more event axes; log_det is the sum over them.

    Raises ValueError if the event and the parameters differ in size along these axes.
    """

    inner: Bijector = child()
    ndim: int = plain(1)

    event_ndim = property(lambda self: tuple(n + self.ndim for n in self.inner.event_ndim))
    domain = property(lambda self: self.inner.domain)
    codomain = property(lambda self: self.inner.codomain)
    constant_log_det = property(lambda self: self.inner.constant_log_det)
    solver = property(lambda self: self.inner.solver)
    normwise = property(lambda self: self.inner.normwise)
    lifted_axes = property(lambda self: self.ndim)

    def image_of(self, where, side=0):
        return self.inner.image_of(where, side)

    @functools.cached_property
    def parameter_batch(self):
        inner = self.inner.parameter_batch
        return inner[:max(0, len(inner) - self.ndim)]

    def _fits(self, shape):
        lead = shape[:self.ndim]
        inner = self.inner.parameter_batch[-self.ndim:]
        try:
            fits = np.broadcast_shapes(lead, inner) == lead
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(f"the parameters of {type(self.inner).__name__} have shape {inner} along its axes")
        return lead

    def meets_first(self, side):
        return self.inner, side

    def applied_at(self, shape):
        return [(shape[self.ndim:], shape[:self.ndim])]

    def breaks(self):
        """The same for the inner map, for each of its parameters' own axes."""
        return self.inner.breaks()

    def output_shape(self, shape):
        return self._fits(shape) + tuple(self.inner.output_shape(shape[self.ndim:]))

    def input_shape(self, shape):
        return self._fits(shape) + tuple(self.inner.input_shape(shape[self.ndim:]))

    @staticmethod
    def definition(m, z, inner, ndim):
        return inner.definition(m, z) if ndim == 0 else [Independent.definition(m, part, inner, ndim - 1) for part in z]  # (6)

    def _total(self, log_det):
        return log_det.sum(axis=tuple(range(-self.ndim, 0)))                        # (6)

    def _each(self, log_det_bar, like):
        return np.broadcast_to(over_event(log_det_bar, self.ndim), like.shape)

    def forward(self, z):
        return self.inner.forward(z)

    def inverse(self, x):
        return self.inner.inverse(x)

    def forward_and_log_det(self, z):
        x, log_det = self.inner.forward_and_log_det(z)
        return x, self._total(log_det)

    def log_det(self, z):
        return self._total(self.inner.log_det(z))

    def inverse_and_log_det(self, x):
        z, log_det = self.inner.inverse_and_log_det(x)
        return z, self._total(log_det)

    def jacobian(self, z):
        blocks = self.inner.jacobian(z)
        batch = z.shape[:z.ndim - self.event_ndim[0]]
        rows, columns = blocks.shape[-2:]
        count = int(np.prod(blocks.shape[len(batch):-2]))
        blocks = blocks.reshape(*batch, count, rows, columns)
        J = np.zeros((*batch, count, rows, count, columns), blocks.dtype)
        each = np.arange(count)
        J[..., each, :, each, :] = np.moveaxis(blocks, -3, 0)
        return J.reshape(*batch, count * rows, count * columns)

    def vjp(self, z):
        return self._summed(*self.inner.vjp(z))

    def inverse_vjp(self, x):
        return self._summed(*self.inner.inverse_vjp(x))

    def _summed(self, image_and_log_det, inner_pullback):
        image, log_det = image_and_log_det

        def pullback(image_bar, log_det_bar):
            event_bar, inner_bar = inner_pullback(image_bar, self._each(log_det_bar, log_det))      # (9)
            return event_bar, {"inner": inner_bar}

        return (image, self._total(log_det)), pullback

    def initialised(self, data, rng):
        return self.replace(inner=self.inner.initialised(data, rng))

    def inverse_initialised(self, data, rng):
        return self.replace(inner=self.inner.inverse_initialised(data, rng))

    @classmethod
    def examples(cls, source):
        """A scalar map on each of several numbers, or a map of two numbers on each of several pairs."""
        size = source.count(1, 3)
        inner = source.choice((affine_of(source), affine_of(source, 2), REGISTRY["Tanh"]()))
        return cls(inner), (size, 2)[:1 + inner.event_ndim[0]]

    hard_cases = Cases(lambda: (
        case("Sum", "log-dets add up over the axis", z=[[0.5, -2.0]], x=[[0.5, -0.25]], inner=REGISTRY["Tanh"](), ndim=1),
        case("Axes", "two axes, one map", z=[[[0.5, -2.0], [1e-9, 3.0]]], inner=REGISTRY["Tanh"](), ndim=2),
    ))
    refused = Cases(lambda: (
        refusal("the parameters of Affine have shape (2,) along its axes", [1.0, 2.0, 3.0],
                inner=REGISTRY["Affine"]([0.0, 0.0], [1.0, 2.0])),
    ))


def affine_of(source, size=None):
    """A scale and a shift of one number, or of each entry of a vector."""
    page, shape = ("Affine", ()) if size is None else ("ActNorm", (size,))
    first, second = source.signed(shape, -4, 4), source.signed(shape, -4, 4)
    return REGISTRY[page](shift=first, scale=second) if size is None else REGISTRY[page](scale=first, bias=second)


@bijector(source="definition")
class Inverse(Bijector):
    """The map `inner` read from the other side: forward is its inverse."""

    inner: Bijector = child()

    event_ndim = property(lambda self: self.inner.event_ndim[::-1])
    domain = property(lambda self: self.inner.codomain)
    codomain = property(lambda self: self.inner.domain)
    increasing = property(lambda self: self.inner.increasing)
    constant_log_det = property(lambda self: self.inner.constant_log_det)
    solver = property(lambda self: self.inner.solver)
    normwise = property(lambda self: self.inner.normwise)

    def image_of(self, where, side=0):
        return self.inner.image_of(where, 1 - side)

    def in_turn(self, side):
        return [(("inner",), self.inner, 1 - side)]

    def applied_at(self, shape):
        return [(tuple(self.output_shape(shape)), ())]

    def breaks(self):
        """The images of the inner map's breaks."""
        return moved_breaks(unlifted(self.inner), self.inner.breaks())

    def output_shape(self, shape):
        return self.inner.input_shape(shape)

    def input_shape(self, shape):
        return self.inner.output_shape(shape)

    def part_shapes(self, shape, side):
        return self.inner.part_shapes(shape, 1 - side)

    def forward(self, z):
        return self.inner.inverse(z)                                                # (7)

    def inverse(self, x):
        return self.inner.forward(x)                                                # (7)

    def forward_and_log_det(self, z):
        return self.inner.inverse_and_log_det(z)

    def log_det(self, z):
        return self.inner.inverse_and_log_det(z)[1]

    def inverse_and_log_det(self, x):
        return self.inner.forward_and_log_det(x)

    def jacobian(self, z):
        return pulled_back_rows(z, *self.inner.inverse_vjp(z))

    def vjp(self, z):
        return self._named(*self.inner.inverse_vjp(z))

    def inverse_vjp(self, x):
        return self._named(*self.inner.vjp(x))

    @staticmethod
    def definition(m, z, inner):
        return inner.inverse_definition(m, z)                                       # (7)

    @staticmethod
    def inverse_definition(m, x, inner):
        return inner.definition(m, x)                                               # (7)

    def _named(self, image_and_log_det, inner_pullback):
        def pullback(image_bar, log_det_bar):
            event_bar, inner_bar = inner_pullback(image_bar, log_det_bar)           # (10)
            return event_bar, {"inner": inner_bar}

        return image_and_log_det, pullback

    def initialised(self, data, rng):
        return self.replace(inner=self.inner.inverse_initialised(data, rng))

    def inverse_initialised(self, data, rng):
        return self.replace(inner=self.inner.initialised(data, rng))

    @classmethod
    def examples(cls, source):
        """Drawn from maps whose inverse is a formula."""
        inner = source.choice((affine_of(source), REGISTRY["Exp"](), Chain((affine_of(source), REGISTRY["Exp"]()))))
        return cls(inner), ()

    hard_cases = Cases(lambda: (
        case("Small", "the log-det of a logarithm, where it is large", z=[1e-300, 1.0], x=[-700.0, 0.0],
             inner=REGISTRY["Exp"]()),
        case("Cancelling", "x - shift keeps only its last digit", z=[1.0 + 2.0**-52, -3.0], x=[2.0**-52],
             inner=REGISTRY["Affine"](shift=1.0, scale=1.0)),
    ))


def moved_breaks(f, breaks):
    """Breaks of z as entries of x, NaN where f has no such event; none where f mixes entries."""
    if f.event_ndim != (0, 0) or not breaks.shape[-1]:
        return breaks[..., :0]
    return np.stack([image_or_nan(f, breaks[..., k]) for k in range(breaks.shape[-1])], -1)


def image_or_nan(f, z):
    """The images of numbers, NaN where a number is not in the open domain."""
    inside = f.domain.members(z, 0)
    with np.errstate(all="ignore"):
        return np.where(inside, f.forward(f.domain.completed(z, inside)), np.nan)


def pulled_back_rows(event, image_and_log_det, pullback):
    """The Jacobian (*batch, D_out, D_in), row by row the pullback of a unit cotangent."""
    image, log_det = image_and_log_det
    batch = log_det.shape
    size_in, size_out = (int(np.prod(side.shape[len(batch):])) for side in (event, image))
    rows = [pullback(unit_cotangent(image, batch, i), np.zeros_like(log_det))[0] for i in range(size_out)]
    return np.stack([row.reshape(*batch, size_in) for row in rows], -2)


def unit_cotangent(like, batch, index):
    """The cotangent that picks the flat entry `index` of every event."""
    bar = np.zeros((*batch, int(np.prod(like.shape[len(batch):]))), like.dtype)
    bar[..., index] = 1
    return bar.reshape(like.shape)


def stepped(stage, side, event):
    """(image, log-det) of a stage, on side 1 of its inverse."""
    return stage.inverse_and_log_det(event) if side else stage.forward_and_log_det(event)


def pulled(path, step, side, event):
    """((image, log-det), [(path, pullback)]) of a step, of each leaf of a run; on side 1 of its inverse."""
    found, pullback = step.inverse_vjp(event) if side else step.vjp(event)
    return found, pullback if isinstance(step, Run) else [(path, pullback)]


def nested_bars(f, bars):
    """The cotangents {path: own} of the steps of f, nested; a component reduces what its steps give, as its own pullback does."""
    found = {}
    for here, component in components(f):
        if here in bars:
            found[here] = bars[here]
        else:
            below = {path[len(here):]: own for path, own in bars.items() if path[:len(here)] == here}
            found[here] = component.reduce(nested_bars(component, below))
    return nest(found)


def entered(step, side):
    """The set from which a map leads, on side 1 its inverse."""
    return step.codomain if side else step.domain


def limit_from_inside(turn, event):
    """The limit of the sum of the maps' log-dets as the entries of an event that are at an end go there; or NaN."""
    where = entered(*turn[0][1:])
    before = last = event.dtype.type(np.nan)
    for k in DEPTHS:
        moved, total = inside_of(where, event, k), 0
        with outside_marked():
            for _, stage, way in turn:
                moved, log_det = stepped(stage, way, moved)
                total = total + log_det                                             # (4)
        finite = np.isfinite(total)
        before, last = np.where(finite, last, before), np.where(finite, total, last)
    apart = last - before
    return np.where(np.abs(apart) > SETTLED * (1 + np.abs(last)), np.copysign(last.dtype.type(np.inf), apart), last + 0 * apart)


def sum_inside(turn, event):
    """The sum of the maps' log-dets at events held inside the sets between, from the last map on that would make it infinite.

    NaN where a set has no ends by which an event can be held inside.
    """
    with outside_marked():
        event, total = stepped(*turn[0][1:], event)
        for _, step, way in turn[1:]:
            where, infinite = entered(step, way), np.isinf(stepped(step, way, event)[1])
            held = held_inside(where, event)
            event, log_det = stepped(step, way, held)
            total = np.where(infinite, 0, total) + log_det                          # (5)
            total = np.where(where.members(held, step.event_ndim[way]), total, np.nan)
    return total


def held_inside(where, event):
    """The event with entries at an end of a set, or infinite ones, at the last floats inside."""
    lower, upper = (end.astype(event.dtype) for end in where.ends_of(event.shape))
    return np.clip(event, np.nextafter(lower, upper), np.nextafter(upper, lower))


def made_by_rounding(total, inside):
    """Marks of the sums (2) that are infinite, while the sums (5) are of another sign or far from the largest float."""
    return np.isinf(total) & ~(np.copysign(1, total) * inside >= ALMOST * np.nextafter(total.dtype.type(np.inf), 0))    # (5)


def unknown(bar):
    """A cotangent, or a nested dictionary of them, with NaN for infinities."""
    return {key: unknown(inner) for key, inner in bar.items()} if isinstance(bar, dict) else np.where(np.isinf(bar), np.nan, bar)


def power_of_two(dtype):
    """2^k of (12), the largest float to the power 3/4."""
    return np.exp2(np.round(0.75 * np.log2(np.nextafter(dtype.type(np.inf), 0))))


def grown(bar, scale, times):
    """A cotangent, or a nested dictionary of them, multiplied by `scale` so many times."""
    if isinstance(bar, dict):
        return {key: grown(inner, scale, times) for key, inner in bar.items()}
    return grown(bar * scale, scale, times - 1) if times else bar


def filled(bar, other):
    """A cotangent, or a nested dictionary of them, with the entries of another where it is not finite."""
    if isinstance(bar, dict):
        return {key: filled(inner, other[key]) for key, inner in bar.items()}
    return np.where(np.isfinite(bar), bar, other)


def inside_of(where, event, k):
    """The event with the entries that are at an end of a set moved by 2^-k, or to 2^k where they are infinite."""
    lower, upper, far, step = np.array([where.lower, where.upper, np.exp2(k), np.exp2(-k)]).astype(event.dtype)
    moved = np.where(event == lower, lower + step, np.where(event == upper, upper - step, event))
    return np.where(np.isinf(event), np.copysign(far, event), moved)


def walked(where, turn):
    """The sets to which maps [(path, map, side)] take a set in turn; the set first, None after one that cannot."""
    found = [where]
    for _, stage, way in turn:
        found.append(found[-1] and stage.image_of(found[-1], way))
    return found


class Lifted(Independent):
    """A leaf on every entry of more axes; its pullback names the leaf's own parameters."""

    def _summed(self, image_and_log_det, inner_pullback):
        found, pullback = super()._summed(image_and_log_det, inner_pullback)

        def own_pullback(image_bar, log_det_bar):
            event_bar, params_bar = pullback(image_bar, log_det_bar)
            return event_bar, params_bar["inner"]

        return found, own_pullback


def lifted(leaf):
    """A leaf as a step."""
    return bare(Lifted, inner=leaf.page, ndim=leaf.axes, dtype=leaf.page.dtype) if leaf.axes else leaf.page


def lifts(stages):
    """How many axes each stage must be lifted by, so that ranks fit and the event rank is smallest."""
    changes = [before.event_ndim[1] - after.event_ndim[0] for before, after in zip(stages, stages[1:])]
    extra = [sum(changes[:i]) for i in range(len(stages))]
    return [k - min(extra) for k in extra]


@bijector(source="definition")
class Chain(Bijector):
    """x = f_K(... f_1(z)): the stages in the order in which they are applied to z.

    Stages of lower event rank are lifted with `Independent`.  Raises ValueError for an empty chain, for stages that are not
    bijectors, where some stages have masks of sequences and others have none, and where a stage does not act on the set of
    lower dimension that arrives, as the simplex, on which only an inverse of a map onto it acts, and a Permutation; or only with
    another measure.
    """

    stages: tuple[Bijector, ...] = children()

    def __post_init__(self):
        stages = tuple(self.stages) if np.iterable(self.stages) else ()
        wrong = [s for s in stages if not isinstance(s, Bijector)]
        if wrong or not stages:
            raise ValueError(f"Chain: stages must be bijectors, at least one, not {wrong[0] if wrong else self.stages!r}")
        self._set("stages", tuple(Independent(s, k) if k else s for s, k in zip(stages, lifts(stages))))
        super().__post_init__()
        self._set("two_sided_leaves", sum(leaf.page.two_sided for leaf in leaves_of(self, 0)))

    def _validate(self):
        refuse_another_dimension(self.stages, self.domain)
        refuse_padding_counted("Chain", *self.stages)
        super()._validate()

    event_ndim = property(lambda self: (self.stages[0].event_ndim[0], self.stages[-1].event_ndim[1]))
    increasing = property(lambda self: all(s.increasing for s in self.stages))
    constant_log_det = property(lambda self: all(s.constant_log_det for s in self.stages))
    solver = property(lambda self: any(s.solver for s in self.stages))
    normwise = property(lambda self: any(s.normwise for s in self.stages))

    @functools.cached_property
    def domain(self):
        """That of its first stage, or what the first ones take to the lower dimension on which a later one acts."""
        thin = [i for i, stage in enumerate(self.stages) if stage.domain.thin or stage.codomain.thin]
        i = thin[0] if thin else 0
        return walked(self.stages[i].domain, self.in_turn(1)[-i:] if i else [])[-1] or self.stages[0].domain

    @functools.cached_property
    def codomain(self):
        return walked(self.domain, self.in_turn(0))[-1] or self.stages[-1].codomain

    def image_of(self, where, side=0):
        return walked(where, self.in_turn(side))[-1]

    def in_turn(self, side):
        order = range(len(self.stages))
        return [(("stages", str(i)), self.stages[i], side) for i in (reversed(order) if side else order)]

    @functools.cached_property
    def steps(self):
        """What an event meets from side 0 and from side 1, [(path, step, its side)]: the stages, in order.

        Where some leaves make a `Run`, this is one step, at the path (), and other leaves of its stages are steps of their own.
        """
        found = runs_among(list(leaves_of(self, 0)), self._within) if self.two_sided_leaves > 1 else []
        crossed = {leaf.path[:2] for step in found if isinstance(step, Run) for leaf in step.leaves}
        there = dict(self._place(step, crossed) for step in found) if crossed else {}
        there = list(there.values()) or self.in_turn(0)
        return there, [(path, step, 1 - way) for path, step, way in reversed(there)]

    def _place(self, step, crossed):
        """(key, what stands in `steps`) of a run, of a leaf of a stage that a run crosses, and of any other leaf's stage."""
        if isinstance(step, Run):
            return step, ((), step, 0)
        if step.path[:2] in crossed:
            return step.path, (step.path, lifted(step), step.side)
        return step.path[:2], (step.path[:2], self.stages[int(step.path[1])], 0)

    @property
    def has_runs(self):
        """Do some of its maps make a `Run`?"""
        return any(isinstance(step, Run) for _, step, _ in self.steps[0])

    def _within(self, key, numbers):
        """What one map of a run hands to the next, on its way."""
        return numbers

    @functools.cached_property
    def arriving(self):
        """The sets that arrive at the steps, from side 0 and from side 1."""
        return tuple(walked(where, turn)[:-1] for where, turn in zip((self.domain, self.codomain), self.steps))

    def applied_at(self, shape):
        shapes = [shape]
        for stage in self.stages[:-1]:
            shapes.append(tuple(stage.output_shape(shapes[-1])))
        return [(s, ()) for s in shapes]

    def breaks(self):
        """Every stage's breaks, pulled back through the stages before it, up to the first stage that mixes entries."""
        found = []
        for i, stage in enumerate(self.stages):
            here = stage.breaks()
            for before in reversed(self.stages[:i]):
                here = moved_breaks(Inverse(unlifted(before)), here)
            found.append(here)
        lead = np.broadcast_shapes(*(b.shape[:-1] for b in found))
        return np.concatenate([np.broadcast_to(b, lead + b.shape[-1:]) for b in found], -1)

    def output_shape(self, shape):
        for stage in self.stages:
            shape = stage.output_shape(shape)
        return shape

    def input_shape(self, shape):
        for stage in reversed(self.stages):
            shape = stage.input_shape(shape)
        return shape

    def part_shapes(self, shape, side):
        return (self.stages[0], self.stages[-1])[side].part_shapes(shape, side)

    @staticmethod
    def definition(m, z, stages):
        for stage in stages:
            z = stage.definition(m, z)                                              # (1)
        return z

    @property
    def inverse_definition(self):
        """The printed inverse if all stages have one, else None."""
        def inverse_definition(m, x, stages):
            for stage in reversed(stages):
                x = stage.inverse_definition(m, x)                                  # (1)
            return x

        return inverse_definition if all(getattr(s, "inverse_definition", None) for s in self.stages) else None

    def _entering(self, i, side, event):
        """An event on its way into step i; checked or marked unless its origin guarantees that it is in the domain."""
        _, step, way = self.steps[side][i]
        here, its = step.entered_by(way) if isinstance(step, Run) else (step, way)
        origin, goal = self.arriving[side][i], here.codomain if its else here.domain
        if i and not (origin and contains(goal, origin)):
            if MARKS.get() is not None:
                return with_members(here, event, its)
            checked_domain(here, event, its)
        return event

    def _image(self, event, side):
        for i, (_, step, way) in enumerate(self.steps[side]):
            event = self._entering(i, side, event)
            event = step.inverse(event) if way else step.forward(event)             # (1)
        return event

    def _image_and_log_det(self, event, side):
        total, given = None, event
        for i, (_, step, way) in enumerate(self.steps[side]):
            event, log_det = stepped(step, way, self._entering(i, side, event))
            total = log_det if total is None else total + log_det                   # (2)
        return event, self._with_limits(total, given, side)

    def forward(self, z):
        return self._image(z, 0)

    def inverse(self, x):
        return self._image(x, 1)

    def forward_and_log_det(self, z):
        return self._image_and_log_det(z, 0)

    def log_det(self, z):
        return self.forward_and_log_det(z)[1]

    def inverse_and_log_det(self, x):
        return self._image_and_log_det(x, 1)

    def _with_limits(self, total, event, side):
        """The sum (2): its limit from inside where it has infinite terms of both signs; NaN where rounding made it infinite."""
        if np.isfinite(total).all():
            return total
        if np.isnan(total).any():
            total = self._limit(total, event, side)
        if not np.isinf(total).any():
            return total
        lost = self._in_open_set(event, side) & made_by_rounding(total, sum_inside(self.in_turn(side), event))
        return np.where(lost, np.nan, total)

    def _in_open_set(self, event, side):
        """Marks of the events that are not at an end of the set of the stage that meets them first."""
        first = self.stages[-side]
        return (first.codomain if side else first.domain).members(event, self.event_ndim[side])

    def _limit(self, total, event, side):
        """The sum (2) with its limit from inside where the stages' terms are infinite with both signs."""
        turn, events, terms = self.in_turn(side), [event], []
        with outside_marked():
            for _, stage, way in turn:
                image, log_det = stepped(stage, way, events[-1])
                events.append(image)
                terms.append(log_det)
        terms = np.stack(np.broadcast_arrays(*terms))
        opposed = np.isnan(total) & np.isposinf(terms).any(0) & np.isneginf(terms).any(0) & ~np.isnan(terms).any(0)
        first = np.isinf(terms).argmax(0)
        for n in np.unique(first[opposed]):
            here = opposed & (first == n)
            total = np.where(here, terms[:n].sum(0) + limit_from_inside(turn[n:], events[n]), total)
        return total

    def jacobian(self, z):
        event, J = z, None
        if self.has_runs:
            return pulled_back_rows(z, *self.vjp(z))                                # (8)
        for i, stage in enumerate(self.stages):
            J_i = stage.jacobian(self._entering(i, 0, z))
            J = J_i if J is None else J_i @ J                                       # (3)
            z = stage.forward(z)
        finite = np.isfinite(J).all((-2, -1), keepdims=True)
        return J if finite.all() else np.where(finite, J, pulled_back_rows(event, *self.vjp(event)))    # (8)

    def vjp(self, z):
        return self._reversed(z, 0)

    def inverse_vjp(self, x):
        return self._reversed(x, 1)

    def _reversed(self, event, side):
        pullbacks, total, given = [], None, event
        for i, (path, step, way) in enumerate(self.steps[side]):
            (event, log_det), found = pulled(path, step, way, self._entering(i, side, event))
            total = log_det if total is None else total + log_det                   # (2)
            pullbacks += found

        log_det = self._with_limits(total, given, side)
        lost, flat = np.isnan(total) | np.isnan(log_det), np.isneginf(log_det)

        def in_turn(bar, log_det_bar, scale=None):
            bars, times, overflows = {}, 0, False
            for i, (path, step_pullback) in reversed(list(enumerate(pullbacks))):
                found, own = step_pullback(bar, log_det_bar)                        # (8)
                if scale and np.isinf(found).any():
                    bar, log_det_bar, times = bar / scale, log_det_bar / scale, times + 1
                    found, own = step_pullback(bar, log_det_bar)                    # (12)
                if np.isinf(found).any() and (not scale or i):
                    overflows = overflows | np.isinf(found).any(tuple(range(lost.ndim, found.ndim)))
                bar, bars[path] = found, grown(own, scale, times)
            return grown(bar, scale, times), nested_bars(self, bars), overflows

        def pullback(image_bar, log_det_bar):
            if lost.any():
                log_det_bar = np.where(lost & (log_det_bar != 0), np.nan, log_det_bar)
            event_bar, bars, overflows = in_turn(image_bar, log_det_bar)
            if np.any(overflows):
                small_bar, small_bars, again = in_turn(image_bar, log_det_bar, power_of_two(log_det.dtype))
                overflows, ndim = overflows & self._in_open_set(given, side), self.event_ndim[side]
                small_bar = np.where(over_event(overflows & again, ndim), unknown(small_bar), small_bar)
                event_bar = np.where(over_event(overflows, ndim), filled(event_bar, small_bar), event_bar)
                bars = filled(bars, unknown(small_bars) if np.any(again) else small_bars)
            bars = unknown(bars) if lost.any() else bars
            if flat.any() and self.event_ndim == (0, 0):
                event_bar = np.where(flat & np.isnan(event_bar) & (log_det_bar == 0), 0 * image_bar, event_bar)         # (11)
            if lost.any() and self.event_ndim == (0, 0):
                slope, known = self._slope_at_end(given, event, log_det, side), np.isfinite(log_det) & (log_det_bar == 0)
                event_bar = np.where(lost & known & ~self._in_open_set(given, side), slope * image_bar, event_bar)      # (11)
            return event_bar, bars

        return (event, log_det), pullback

    def _slope_at_end(self, event, image, log_det, side):
        """The slope of a map of numbers at an end of its domain."""
        first = self.stages[-side]
        moved = inside_of(first.codomain if side else first.domain, event, DEPTHS[1])
        with outside_marked():
            step = (self.inverse(moved) if side else self.forward(moved)) - image
        return np.copysign(np.exp(log_det), step * (moved - event))                 # (11)

    def initialised(self, data, rng):
        stages = []
        for stage in self.stages:
            stages.append(stage.initialised(data, rng))
            data = stages[-1].forward(data)
        return self.replace(stages=tuple(stages))

    def inverse_initialised(self, data, rng):
        stages = []
        for stage in reversed(self.stages):
            stages.append(stage.inverse_initialised(data, rng))
            data = stages[-1].inverse(data)
        return self.replace(stages=tuple(reversed(stages)))

    @classmethod
    def examples(cls, source):
        """An affine map and another of one number, or of each entry of a vector."""
        size = source.choice((None, 1, 2, 3))
        last = source.choice(("Tanh", "Sigmoid", "Softplus", "Exp", "Affine"))
        stages = affine_of(source, size), affine_of(source, size) if last == "Affine" else REGISTRY[last]()
        return cls(stages), () if size is None else (size,)

    hard_cases = Cases(lambda: (
        case("Alone", "one stage", z=[0.5, -2.0], x=[0.5], stages=(REGISTRY["Tanh"](),)),
        case("Ranks", "a stage of numbers on the entries of vectors", z=[[0.5, -2.0]], x=[[0.5, 0.25]],
             stages=(REGISTRY["ActNorm"]([2.0, -0.5], [1.0, 0.0]), REGISTRY["Sigmoid"]())),
        case("Saturated", "the intermediate value is large: the last stage has saturated, the log-det has not", z=[30.0, -30.0],
             stages=(REGISTRY["Affine"](scale=2.0), REGISTRY["Tanh"]())),
    ))
    refused = Cases(lambda: (
        refusal("stages must be bijectors, at least one, not ()", stages=()),
        refusal("stages must be bijectors, at least one, not 3", stages=(REGISTRY["Tanh"](), 3)),
    ))


def single_steps(f, side, path=()):
    """(path, step, side) in the order of `tree.along`, a lifted composition also taken apart: its steps, each lifted."""
    for name, step, way in along(f, side, path):
        if isinstance(step, Independent) and step.inner.in_turn(way):
            for inner_name, inner, inner_way in single_steps(step.inner, way, (*name, "inner")):
                yield inner_name, Independent(inner, step.ndim), inner_way
        else:
            yield name, step, way


def leaves_of(f, side, path=(), axes=0):
    """The same steps, each as what is lifted and by how many axes."""
    for name, step, way in along(f, side, path):
        if isinstance(step, Independent):
            yield from leaves_of(step.inner, way, (*name, "inner"), axes + step.ndim)
        else:
            yield Leaf(name, step, way, axes)
