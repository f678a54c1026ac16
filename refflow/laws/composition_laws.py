"""The laws of compositions: what `Chain`, `Inverse` and `Independent` make of a map follows from the map.

Each law composes the map that it is given with small maps of its own, and holds the composition to what it is made of.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from ..accuracy.drawing import drawn_fields, example, fits, has_examples, plain_choices
from ..accuracy.kappa import flat
from ..accuracy.points import nets_of, stays_inside
from ..core import Bijector, Chain, Independent, Inverse, RandomSource
from ..core.bijector import mirror, over_event
from ..core.compose import outside_marked, single_steps
from ..core.registry import of_kind
from ..core.tree import flatten
from ..maps import load_all
from ..maps.constrained import CholeskyFactor, HalfLine, IntrinsicVolume, OpenInterval, StickBreaking
from ..maps.elementwise import Affine, Exp, LeakyReLU, Tanh
from ..maps.normalization import ActNorm
from ..maps.shape import FactorOut, Reshape
from .law import MANY, equal, expect, hold, law, refusal, unit

VJP = {"forward": "vjp", "inverse": "inverse_vjp"}
ROUGH = 2.0**-6             # of a log-det that is right or another one altogether
STEEP, FLAT = 800.0, 0.5    # exp overflows, exp does not
LARGE = 2.0**10             # of images that a shift moves there
SHORT = 2.0**-20            # of numbers that cancel
TAILS = -10, 10             # binades of events from the middle to where images have rounded to the ends of their set


def of_full_dimension(f):
    """Are domain and codomain of the dimension of their events, so that maps of all entries may stand before and after it?"""
    return not (f.domain.thin or f.codomain.thin)


def shared(f):
    """Do all events of a batch have the same parameters?"""
    return f.parameter_batch == ()


# -- the inverse ------------------------------------------------------------------------------------------------------

@law("an inverse is the map read from the other side")
def read_from_the_other_side(f, p):
    """What Inverse(f) says of x, f says of it as an event of its inverse, bit for bit, and so the other way round."""
    if f.solver:                        # its inverse takes long, and is composed as any other
        return
    g = Inverse(f)
    expect(g.event_ndim == f.event_ndim[::-1], f"Inverse has event ranks {g.event_ndim}; {f!r}")
    sides = [(p.z, "inverse", "forward", (p.x_bar, p.log_det_bar))]
    if p.interior.any():
        sides.append((p.inner_x, "forward", "inverse", (p.z_bar, p.log_det_bar)))
        equal("log_det of Inverse", (g.log_det(p.inner_x),), (f.inverse_and_log_det(p.inner_x)[1],))
    for event, mine, its, bars in sides:
        equal(f"{mine} of Inverse", (getattr(g, mine)(event),), (getattr(f, its)(event),))
        both, known = getattr(g, f"{mine}_and_log_det")(event), getattr(f, f"{its}_and_log_det")(event)
        equal(f"{mine}_and_log_det of Inverse", both, known)
        given, known = cotangents(getattr(g, VJP[mine]), event, bars), cotangents(getattr(f, VJP[its]), event, bars)
        equal(f"{VJP[mine]} of Inverse", given, known)


def cotangents(vjp, event, bars):
    event_bar, params_bar = vjp(event)[1](*bars)
    return [event_bar, *(bar for _, bar in flatten(params_bar))]


# -- breaks -----------------------------------------------------------------------------------------------------------

@law("a composition breaks where its steps do")
def breaks_of_steps(f, p):
    """g after f breaks where f does, and where f reaches a break of g; f^-1 breaks at the images of f's breaks.

    NaN stands for a break that is not reached.  No break of g shows through a map that mixes entries.
    """
    if f.event_ndim != (0, 0):
        last = () if f.domain.thin else (bent_at(p.z),)
        own, both = f.breaks(), Chain((f, Inverse(f), *last)).breaks()
        expect(isinstance(f, Independent) or own.shape[-1] == both.shape[-1], f"{both} is shown through {f!r}")
        return
    if not p.interior.any():
        return
    own, bent = f.breaks(), Chain((f, bent_at(p.inner_x)))
    found = bent.breaks()
    lead = np.broadcast_shapes(own.shape[:-1], p.inner_x.shape)
    expect(found.shape == (*lead, own.shape[-1] + 1), f"breaks {own.shape} and one more make {found.shape}; {f!r}")
    equal("the breaks of the first step", (found[..., :-1],), (np.broadcast_to(own, found[..., :-1].shape),))
    of_z, of_x = p.inverse_sensitivities[0], p.forward_sensitivities[0]
    bound = unit(p, of_z.kappa) + of_z.moved("event", unit(p, of_x.kappa))
    hold(p, "the break of the second step", flat(np.abs(found[..., -1] - p.z64), p.batch), bound, p.interior)
    for end in beyond(f.codomain):
        never = Chain((f, bent_at(p.dtype.type(end)))).breaks()[..., -1]
        expect(np.isnan(never).all(), f"a break at {end}, which is not reached, is said to be at {never}; {f!r}")
    moved = Inverse(Independent(bent, 1)).breaks()
    for k in range(found.shape[-1]):
        inside = f.domain.members(found[..., k], 0)
        expected = np.where(inside, bent.forward(np.where(inside, found[..., k], p.z64)), np.nan)
        equal("the breaks of the inverse", (moved[..., k],), (expected,))
    lifted = Chain((Independent(bent, 1), LeakyReLU(0.25))).breaks()
    equal("the breaks of three steps", (lifted,), (found[..., [*range(found.shape[-1]), -1]],))


def bent_at(x):
    """A map of numbers that breaks at x alone, where it is 0."""
    return Chain((Affine(-x, np.ones_like(x)), LeakyReLU(0.5)))


def beyond(where):
    """Numbers beyond the finite ends of a set."""
    return [end + way for end, way in ((where.lower, -1), (where.upper, 1)) if np.isfinite(end)]


# -- events that a stage cannot take ----------------------------------------------------------------------------------

@law("a chain refuses what a stage cannot take")
def refused_by_stages(f, p):
    """A chain refuses an event on its way into a stage that cannot take it, by the name of the stage, in both directions.

    Inside `outside_marked`, as in a density, it marks the event, and maps the others as they are mapped alone.  It asks no
    stage that takes all that the stage before gives.
    """
    if f.codomain.rank or not f.codomain.entrywise or not of_full_dimension(f):
        return
    x = f.forward(p.z)
    for taker in takers_of_some(x):
        inside = taker.domain.members(x, f.event_ndim[1])
        for chain, method in both_ways(f, taker):
            message = refusal(lambda: getattr(chain, method)(p.z), "an event that a stage cannot take")     # noqa: B023
            stage = chain.stages[1 if method == "forward" else 0]
            begins = f"{type(stage).__name__}: {stage.letters[method == 'inverse']} {taker.domain.rule}"
            expect(message.startswith(begins), f"the refusal does not say {begins!r}: {message}")
            image, marks = with_marks(chain, method, p.z)
            equal("the marks of the events that a stage takes", (marks[-1],), (inside,))
            if inside.any():
                others = np.where(over_event(inside, f.event_ndim[1]), x, x[inside][0])
                equal("the images of the others", (image[inside],), (taker.forward(others)[inside],))
    for taker in takers_of_all(f, x.dtype):
        for chain, method in both_ways(f, taker):
            asked = len(with_marks(chain, method, p.z)[1]) - len(with_marks(f, "forward", p.z)[1])
            expect(asked == 0, f"a stage onto {taker.domain} is asked after one onto {f.codomain}; {f!r}")


def both_ways(f, taker):
    """Chains that hand f's images to `taker`, and the methods that do so."""
    return ((Chain((f, taker)), "forward"), (Chain((Inverse(taker), Inverse(f))), "inverse"))


def with_marks(f, method, event):
    with outside_marked() as marks:
        return getattr(f, method)(event), marks


def takers_of_some(x):
    """Maps of the numbers above and below a number that lies between some entries of x."""
    values = np.unique(x[np.isfinite(x)])
    if len(values) < 2:
        return []
    low, high = values[len(values) // 2 - 1:][:2]
    cut = low / 2 + high / 2
    return [Inverse(HalfLine(cut, x.dtype.type(way))) for way in (-1, 1)] if low < cut < high else []


def takers_of_all(f, dtype):
    """Maps of all numbers, of the numbers of f's codomain, and of these and some more."""
    lower, upper = f.codomain.lower, f.codomain.upper
    if np.ndim(lower) or not f.codomain.alike:
        return [Tanh()]
    halves = [HalfLine(rounded_out(end + way * more, way, dtype), dtype.type(-way))
              for end, way in ((lower, -1), (upper, 1)) if np.isfinite(end) for more in (0, 1)]
    between = [OpenInterval(np.array([rounded_out(lower - more, -1, dtype), rounded_out(upper + some, 1, dtype)]))
               for more in (0, 1) for some in (0, 1) if np.isfinite([lower, upper]).all()]
    return [Tanh(), *map(Inverse, halves + between)]


def rounded_out(end, way, dtype):
    """The end of a set as a float that is not inside the set."""
    rounded = dtype.type(end)
    return rounded if way * float(rounded) >= way * end else np.nextafter(rounded, dtype.type(way * np.inf))


# -- charts -----------------------------------------------------------------------------------------------------------

@law("coordinates are independent")
def independent_coordinates(f, p):
    """A codomain measured by coordinates has as many of them as the event has entries, and log|det| of these rows of the Jacobian
    is log_det.

    So it is for maps of several parts, and for a chain with one stage that adds dimensions.
    """
    if f.domain.thin or p.chart is None or not shared(f) or len(p.z) < 6 or max(f.event_ndim) > 1:
        return
    smallest = np.argsort(np.abs(flat(p.x, p.batch)).max(-1))
    shape, adds = ((1, 2, *p.event_in), StickBreaking()) if f.event_ndim[0] else ((1, 2, 3), CholeskyFactor())
    z = p.z[smallest[:2 if f.event_ndim[0] else 6]].reshape(shape)
    g = Independent(f, len(shape) - f.event_ndim[0])
    for map_ in [g] if f.codomain.rank or not of_full_dimension(f) else [g, Chain((g, adds))]:
        J, log_det, chart = map_.jacobian(z).astype(np.float64), map_.log_det(z), map_.codomain.coordinates(map_.output_shape(z.shape))
        expect(len(set(chart)) == z.size, f"the coordinates of {z.size} entries are {chart}; {map_!r}")
        if np.isfinite(J).all() and np.linalg.cond(J) < 1 / ROUGH**2:
            given = np.linalg.slogdet(J[chart])[1]
            expect(abs(given - log_det) <= ROUGH * (1 + abs(log_det)), f"log_det is {log_det}, its coordinates' {given}; {map_!r}")


@law("lower dimensions are left to their maps")
def lower_dimension(f, p):
    """Appended to a map onto a set of lower dimension, every page is refused by name, or log_det is log|det C J F| of the chain.

    So it is for every page's inverse, and for all of them before the inverse of the map.
    """
    onto, image = (f, f.codomain) if f.codomain.thin else (Inverse(f), f.domain)
    if of_full_dimension(f) or onto.domain.thin or not shared(f) or not p.interior.any():
        return
    z = (p.z if onto is f else p.inner_x)[p.interior]
    z = z[np.argsort(np.abs(z.reshape(len(z), -1)).max(-1, initial=0))[:2]]
    shape = tuple(onto.output_shape(z.shape[1:]))
    for g in (*everything(shape[-1]), Reshape(shape, (math.prod(shape),)), Reshape(shape, (*shape, 1))):
        try:
            chain = Chain((onto, g))
        except ValueError as error:
            for message in (str(error), refusal(lambda: Chain((Inverse(g), Inverse(onto))), f"{g!r} before it")):   # noqa: B023
                named = message.startswith("Chain: stage 1: ") and str(image) in message
                expect(named, f"the refusal of {g!r} beside {image} does not name it: {message}")
            continue
        if chain.event_ndim[0] == z.ndim - 1 and fits(chain, z.shape[1:]):
            counted(chain, z)


def counted(chain, z):
    """log_det of a chain, and of its inverse read backwards, is log|det C J F|.

    Its image is a member of its codomain, whose dimension is the number of entries of its event.
    """
    x, given = chain.forward_and_log_det(z)
    found = chain.codomain.first_outside(x, closed=True)
    expect(found is None, f"the image is not in {chain.codomain}: {found}; {chain!r}")
    dimension = chain.codomain.basis(x, chain.event_ndim[1]).shape[-1]
    expect(dimension == z[0].size, f"from {z[0].size} entries onto {chain.codomain}, of dimension {dimension}; {chain!r}")
    back = Chain(tuple(Inverse(stage) for stage in reversed(chain.stages))).log_det(x)
    J = chain.square(*(values.astype(np.float64) for values in (chain.jacobian(z), z, x)))
    if np.isfinite(J).all() and (np.linalg.cond(J) < 1 / ROUGH**2).all():
        for log_det in (given, -back):
            off = np.abs(log_det - np.linalg.slogdet(J)[1])
            expect((off <= ROUGH * (1 + np.abs(given))).all(), f"log_det is off by {off} from its Jacobian's; {chain!r}")


@law("another measure is refused")
def another_measure(f, p):
    """A chain adds the ratio of two measures where `IntrinsicVolume` says so, and refuses it elsewhere by naming this map.

    So it is for a map onto a set that is measured by its coordinates and by its own volume, in both directions.
    """
    where = f.codomain
    if f.domain.thin or not where.log_ratio or not shared(f) or f.event_ndim[1] != where.rank:
        return
    change = IntrinsicVolume(where.name)
    there, back = (change, Inverse(change)) if where.measure == "chart" else (Inverse(change), change)
    x, log_det = f.forward_and_log_det(p.z)
    other = Chain((f, there))
    ratio, moved = where.log_ratio(x)[0] * (1 if where.measure == "chart" else -1), other.log_det(p.z) - log_det
    expect(other.codomain.measure != where.measure, f"measured otherwise, the codomain is {other.codomain}; {f!r}")
    room = unit(p, p.forward_sensitivities[1].kappa[:, 0]) + unit(p, np.abs(ratio))
    hold(p, "log_det by the other measure", np.abs(moved - ratio), room)
    equal("log_det there and back", (Chain((f, there, back)).log_det(p.z),), ((log_det + ratio) - ratio,))
    for stages, step in (((f, back), there), ((f, there, Inverse(f)), back), ((f, there, there), back)):
        message = refusal(lambda: Chain(stages), f"{stages[-1]!r} after another measure")       # noqa: B023
        named = f"put {'Inverse(' if step.codomain.measure == 'chart' else ''}IntrinsicVolume('{where.name}')"
        told = message.startswith(f"Chain: stage {len(stages) - 1}: ") and named in message
        expect(told, f"the refusal does not say to {named}: {message}")


@functools.cache
def everything(size):
    """A bijector of each page, of vectors of `size` entries where the page lets one choose, and its inverse."""
    load_all()
    made = [some(page, RandomSource(np.random.default_rng(size)), size) for page in of_kind("bijector").values()]
    return [*made, *map(Inverse, made)]


def some(page, source, size):
    """A value of a page with drawn fields."""
    if has_examples(page):
        return example(page, source, np.dtype(np.float64))[0]
    given = source.choice(plain_choices(page))
    return page(**given | drawn_fields(page, source, np.dtype(np.float64), 2, lambda letter: size, given))


# -- steps ------------------------------------------------------------------------------------------------------------

@law("a composition is its steps in turn")
def steps_in_turn(f, p):
    """A composition maps an event as its single steps do one after the other, each where its path says; a run is one step.

    A chain lifts no stage further than the others ask, and meets events of the shapes that `applied_at` says.
    """
    there = Chain((f, Inverse(f), f))
    shapes = [(p.event_in, ()), (p.event_out, ()), (p.event_in, ())]
    expect(there.applied_at(p.event_in) == shapes, f"{shapes} are not {there.applied_at(p.event_in)}; {f!r}")
    whole_events(f, p)
    ranks_fit(f, p)
    if f.solver or not shared(f) or not p.interior.any():
        return
    lifted = Independent(f, 1)
    alone = [("inner", *path) for path, *_ in single_steps(f, 0)] if f.in_turn(0) else [()]
    expect([path for path, *_ in single_steps(lifted, 0)] == alone, f"the steps of Independent are not {alone}; {f!r}")
    back = Chain((f, Inverse(f)))
    whole, z = Chain((lifted, Inverse(lifted), Independent(back, 1))), p.z[p.interior][:, None]
    x = whole.forward(z)
    x = x[np.isfinite(x).reshape(len(x), -1).all(1)]            # an image inside that rounded to the boundary has no latent
    for event, side, method in ((z, 0, "forward"), (x, 1, "inverse")):
        expected, singles = getattr(whole, method)(event), list(single_steps(whole, side))
        with np.errstate(all="ignore"):
            for _, step, way in whole.steps[side] if whole.has_runs else singles:
                event = step.inverse(event) if way else step.forward(event)
        equal("the event after all steps", (event,), (expected,))
        paths = [path for path, *_ in singles]
        inner = [("stages", "2", "inner", *path) for path, *_ in single_steps(back, side)]
        expect([path for path in paths if path[:2] == ("stages", "2")] == inner, f"the steps {inner} are at {paths}; {f!r}")


def whole_events(f, p):
    """One component, applied at all positions, meets all entries of an event, or of the smaller image."""
    component, *others = f.components() or [None]
    found = f.applied_at(p.event_in)[:1]
    if not isinstance(component, Bijector) or others or found[0][0] is None:
        return
    (shape, positions), = found
    fits = len(shape) == component.event_ndim[0] and math.prod(shape + positions) >= min(p.size_in, p.size_out)
    expect(fits, f"of events of shape {p.event_in}, it is applied to {shape} at {positions}; {f!r}")


def ranks_fit(f, p):
    """A map of numbers is lifted to the rank of f, and f not at all."""
    before, after = (() if side.thin else (Tanh(),) for side in (f.domain, f.codomain))
    for stages in ((*before, f), (f, *after), (*before, f, *after)):
        ranks = Chain(stages).event_ndim
        expect(ranks == f.event_ndim, f"with a map of numbers, its event ranks are {ranks}; {f!r}")
    if f.event_ndim == (1, 1) and of_full_dimension(f):
        (d,), (n,) = p.event_in, p.event_out
        chain, shapes = Chain((Reshape((1, d), (d,)), f, Reshape((n,), (1, n)))), [((1, d), ()), ((d,), ()), ((n,), ())]
        expect(chain.event_ndim == (2, 2), f"between two reshapes, its event ranks are not (2, 2); {f!r}")
        expect(chain.applied_at((1, d)) == shapes, f"{shapes} are not {chain.applied_at((1, d))}; {f!r}")


@law("a composition has the parts of its ends")
def parts_of_ends(f, p):
    """The parts of an event of a composition are the parts for which its first stage takes it, or its last one gives it."""
    if f.event_ndim != (1, 1) or not of_full_dimension(f):
        return
    (d,), (n,) = p.event_in, p.event_out
    keep = np.arange(n) > 0 if n > 1 else np.ones(1, bool)
    scales = FactorOut(keep, Reshape((int(keep.sum()), 1, 1), (int(keep.sum()),)))
    chain = Chain((f, Reshape((n,), (n, 1, 1)), scales))
    for shape, side, owner in (((d,), 0, f), ((n,), 1, scales)):
        parts, expected = chain.part_shapes(shape, side), owner.part_shapes(shape, side)
        expect(parts == expected, f"the parts of {shape} are {parts}, not {expected}; {chain!r}")
        parts = Inverse(chain).part_shapes(shape, 1 - side)
        expect(parts == expected, f"read from the other side, the parts of {shape} are {parts}, not {expected}; {chain!r}")


# -- initialisation ---------------------------------------------------------------------------------------------------

@law("each stage is initialised on what it meets")
def initialised_in_turn(f, p):
    """A chain initialises each stage on what the stages before it make of the data: its last one is standardised.

    So it is in both directions, and for the inverse of a chain.
    """
    if f.event_ndim != (1, 1) or not shared(f) or nets_of(f) or not of_full_dimension(f):
        return
    z = f.domain.draw(RandomSource(np.random.default_rng(0)), (MANY, *p.event_in), p.dtype, 1)
    z = z[stays_inside(f, z, 2.0**-18, 2.0**100)]
    if len(z) < MANY // 4:
        return
    for data, of_data in ((z, f), (f.forward(z), Inverse(f))):
        out = of_data.initialised(data, None).forward(data).astype(np.float64)
        if (out.std(0) < 2.0**-8 * np.abs(out).max(0)).any():
            continue
        one = np.ones(out.shape[-1], p.dtype)
        stages = of_data, ActNorm(one), Affine(3.0, 2.0), ActNorm(one)
        chain, turned = Chain(stages), Chain([Inverse(stage) for stage in reversed(stages)])
        for made, method in ((chain.initialised(data, None), "forward"), (turned.inverse_initialised(data, None), "inverse"),
                             (Inverse(chain).inverse_initialised(data, None), "inverse"),
                             (Inverse(turned).initialised(data, None), "forward")):
            image = getattr(made, method)(data).astype(np.float64)
            off = max(np.abs(image.mean(0)).max(), np.abs(image.var(0) - 1).max())
            expect(off < 2.0**-4, f"{method} of the data of its initialisation is off by {off:.3g}; {made!r}")


# -- limits -----------------------------------------------------------------------------------------------------------

@law("a slope of 0 stays 0")
def vanishing_slope(f, p):
    """Where the last stage of a chain has reached its limit, the Jacobian is 0, even if an infinite slope comes before it.

    The Jacobian at other events of the batch is what it is where no event has reached it.
    """
    small = (np.abs(flat(p.x, p.batch)) <= LARGE).all(-1)
    z, x = p.z[small], p.x[small]
    if not of_full_dimension(f) or not shared(f) or len(z) < 2 or not np.isfinite(f.jacobian(z)).all():
        return
    limit = np.arange(len(z)) % 2 == 0
    shift = np.where(over_event(limit, f.event_ndim[1]), STEEP, FLAT).astype(p.dtype) - x
    J, elsewhere = falling(f, shift).jacobian(z), falling(f, p.dtype.type(FLAT) - x).jacobian(z)
    expect(not J[limit].any(), f"the Jacobian is {J[limit][:1]} where the slope is 0; {f!r}")
    equal("the Jacobian at other events", (J[~limit],), (elsewhere[~limit],))


def falling(f, shift):
    """f, and then exp(-exp(y)) of y = x + shift: its first slope overflows where its last one vanishes."""
    minus = Affine(0.0, -1.0)
    return Chain((f, Affine(shift, np.ones_like(shift)), Exp(), minus, Exp()))


@law("rounding makes no infinity")
def no_infinity(f, p):
    """There and back, log_det is 0: it is not infinite, although f(z) has rounded to an end, nor are gradients where it is not known.

    A last Tanh leaves them finite.  A log-det that is not known has a gradient that is not known.  Of maps of numbers, the slope
    is infinite only where exp(log_det) is.  Maps with networks are not asked: these make numbers so large that no digit comes back.
    Of a two-sided map, the log-det is known, and 0 to within rounding, where image and complement are normal numbers in float64.
    """
    if f.solver or nets_of(f) or not shared(f) or not fits(f, p.event_in):
        return
    z = f.domain.draw(RandomSource(np.random.default_rng(0)), (MANY, *p.event_in), p.dtype, TAILS)
    z = z[f.domain.members(z, f.event_ndim[0])]
    last = () if f.domain.thin else (Tanh(),)
    there = Chain((f, Inverse(f)))
    for chain, vjp in ((there, "vjp"), (there, "inverse_vjp"), (Chain((f, Inverse(f), *last)), "vjp")):
        with np.errstate(all="ignore"):
            (image, log_det), pullback = getattr(chain, vjp)(z)
            bars = [pullback(np.full_like(image, of_image), of_log_det) for of_image, of_log_det in ((1, 0), (0, 1))]
        numbers = {"log_det": log_det} | {f"{name} of {what}": bar for what, (z_bar, params_bar) in zip(("x", "log_det"), bars)
                                          for name, bar in (("z_bar", z_bar), *flatten(params_bar))}
        lost = np.isnan(log_det)
        if chain is there and f.two_sided:
            expect((np.abs(log_det[has_digits(f, z)]) <= ROUGH).all(), f"{vjp}: log_det there and back is {log_det}; {chain!r}")
        a_float = lost | (np.abs(log_det) < np.log(np.finfo(p.dtype).max)) if f.event_ndim == (0, 0) else lost
        for name, number in numbers.items():
            held = number[{"z_bar of x": a_float, "z_bar of log_det": lost}.get(name, name == "log_det" or lost.any())]
            expect(not np.isinf(held).any(), f"{name} of {vjp} is {held}, and is not infinite; {chain!r}")
        unknown = np.isnan(flat(bars[1][0], log_det.shape)).any(-1)
        expect(unknown[lost].all(), f"log_det is NaN, and its gradient a number; {chain!r}")


def has_digits(f, z):
    """Marks of the events whose image, and its complement, are normal numbers of float64."""
    g, tiny = f.unchecked(np.float64), np.finfo(np.float64).tiny
    with np.errstate(all="ignore"):
        return np.minimum(g.forward(z.astype(np.float64)), g.complement(z.astype(np.float64))) >= tiny


# -- both ends of an interval -----------------------------------------------------------------------------------------

@law("the complement is what is left")
def what_is_left(f, p):
    """A two-sided map onto (0, b) and its complement add up to b, and the inverse of the complement gives z, in both tails.

    Its log-det and its reverse rule follow from f's.  The mirrored map of an interval makes the complement of what is left of z.
    """
    if not f.two_sided:
        return
    with np.errstate(all="ignore"):
        f, g, x, z = f.unchecked(p.dtype), p.g, p.forward_sensitivities[0], p.z64
        q, kappa = g.complement(z), sum(x.part(block)[:, 0] for block in x.slopes)          # of q without |q|
        bounded = np.isfinite(f.domain.upper) or f.domain.each
        if bounded:
            kappa = kappa + np.abs(g.jacobian(z)[..., 0, 0]) * mirror(g.domain, z)          # what is left of z may be rounded
        given, end = f.complement(p.z), (f.codomain.each or (0, f.codomain.upper))[1]
        hold(p, "q", np.abs(given - q), unit(p, kappa + q))
        hold(p, "x + q", np.abs(f.forward(p.z).astype(np.float64) + q - end), unit(p, kappa + q + end))
        back, pullback = g.inverse_vjp_of_complement(q)
        slope, bars = pullback(np.ones(p.batch), np.zeros(p.batch))
        moved = sum(np.abs(flat(bar * held, p.batch)).sum(-1) for (_, bar), (_, held) in zip(flatten(bars), flatten(g.params())))
        room = 2 * unit(p, np.abs(z) + np.abs(slope) * q + moved) + unit(p, 0) * np.abs(slope)
        kept = (q > np.finfo(p.dtype).tiny / p.u) & steady_between(g, z, room)
        kept = kept & (x.value[:, 0] > np.finfo(z.dtype).eps / SHORT)               # of a smaller x, q has few digits or none
        found = f.inverse_vjp_of_complement(given)[0]
        hold(p, "z of its complement", np.abs(found[0] - z), room, kept)
        hold(p, "log_det of the complement", np.abs(back[1] + g.log_det(z)), ROUGH * (1 + np.abs(back[1])), kept)
        equal("without the pullback", f.inverse_and_log_det_of_complement(given), found)
        for z_bar in (0, 1):
            backwards(p, g, q, np.full(p.batch, z_bar), pullback, kept)
        if bounded:
            of_mirrored(p, g, unit(p, kappa + q))


def steady_between(g, z, room):
    """Does log|dx/dz| change by less than an eighth where z moves by so much?"""
    return np.logical_and.reduce([np.abs(g.log_det(z + step) - g.log_det(z)) < 1 / 8 for step in (-room, room)])


def backwards(p, g, q, z_bar, pullback, kept):
    """With dq = -dx, the pullback of f at (q_bar, -l_bar) gives -z_bar, and the cotangents of the parameters."""
    q_bar, bars = pullback(z_bar.astype(np.float64), 1.0 - z_bar)
    terms = [g.vjp(p.z64)[1](*given) for given in ((q_bar, 0 * q_bar), (0 * q_bar, z_bar - 1.0))]
    (of_q, some), (of_l, others) = [(event_bar, flatten(params_bar)) for event_bar, params_bar in terms]
    least = SHORT * (1 + np.abs(g.jacobian(p.z64)[..., 0, 0] / np.minimum(q, g.forward(p.z64))))
    hold(p, "q_bar", np.abs(of_q + of_l + z_bar), ROUGH * (np.abs(of_q) + np.abs(of_l)) + least, kept)
    for (path, bar), (_, one), (_, other) in zip(flatten(bars), some, others):
        room = ROUGH * (np.abs(one) + np.abs(other)) + over_event(least, bar.ndim - least.ndim)
        hold(p, path[-1], np.abs(one + other - bar), room, kept)


def of_mirrored(p, g, room):
    """The mirrored map of an interval: its images, and its pullback to the parameters of f."""
    mirrored, own = g.mirrored()
    left = mirror(g.domain, p.z64)
    (q, log_det), pullback = mirrored.vjp(left)
    z = mirror(g.domain, left)                                  # of which exactly this is left
    (x, known), of_f = g.vjp(z)
    inside = g.domain.members(z, 0)
    end = (g.codomain.each or (0, g.codomain.upper))[1]
    hold(p, "x + f~", np.abs(x + q - end), room + unit(p, end), inside)
    hold(p, "log_det of f~", np.abs(log_det - known), ROUGH * (1 + np.abs(known)), inside)
    for bars in ((1.0, 0.0), (0.0, 1.0)):
        bars = [np.full(p.batch, bar) for bar in bars]
        (event_bar, params_bar), (mine, of_params) = pullback(*bars), of_f(-bars[0], bars[1])
        found = [("z_bar", -event_bar, mine)] + [(path[-1], bar, other) for (path, bar), (_, other) in
                                                 zip(flatten(own(params_bar)), flatten(of_params))]
        for name, bar, other in found:
            size = np.abs(other[inside]).max(initial=1)
            hold(p, f"{name} of f~", np.abs(bar - other), ROUGH * np.abs(other) + SHORT * size, inside)
