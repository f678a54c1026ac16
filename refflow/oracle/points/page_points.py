r"""Questions to a bijector and their answers: points, the truth at them, and how far a claim is from it.

    C = |given - true| / max(u kappa, s)                                            (1)

u is the unit roundoff of the format, s its subnormal spacing (on hardware that flushes to zero, its smallest normal
number).  An infinity is taken for the least number that rounds to it, if the truth is within u kappa of that number: rounding
the inputs alone may make the result overflow.  C is inf for NaN, and for an infinity elsewhere.  For a normwise page both |.|
and kappa are norms over the event.  true = high + low, two floats, so that (1) is exact enough in float64.

Where events lie in a set of lower dimension, with tangents F, a Jacobian and a cotangent of the event are claims along F alone:
    C = |F^T (given - true)| / max(u |F|^T kappa, s)                                (2)
Beyond the set, a library may extend its map in any way.

At golden points the truth is recorded, to 30 digits.  At drawn points it comes from refflow's own float64 method, with kappa
from its hand-written derivatives.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass, replace

import numpy as np

from ...accuracy.drawing import SIDES, Point, binade, drawn_event, drawn_fields, event_shapes, fits, plain_choices, plainest, set_of, with_cotangents
from ...accuracy.formats import format_of
from ...accuracy.kappa import differenced, flat, normwise, per_event, value_and_log_det
from ...accuracy.points import forward_derivatives, inverse_derivatives
from ...core import Chain, RandomSource, has_components, tree
from ...core.arrays import sum_to_shape
from ...core.bijector import over_event
from ...core.declarations import Child, Field
from ...core.sets import EXPONENTS
from ...core.tree import flatten
from .measures import Counted
from .pages import CannotRun
from .parametrised import Parametrised
from .rests import of_chain

VALUE = {"forward": "forward", "inverse": "inverse"}
LOG_DET = {"forward": "log_det", "inverse": "inverse_log_det"}
VJP = {"forward": "vjp", "inverse": "inverse_vjp"}
LETTER = {"forward": "z", "inverse": "x"}
LONGEST = 256                           # entries of an event that is a vector
LONGEST_AXIS = 12                       # of an event of several axes
ROOM = 2.0**10                          # by which an ordinary number keeps away from the ends of the range
TOGETHER = 2**20                        # numbers that differences of one batch of points move
ALONG_TANGENTS = "jacobian", "vjp.z_bar"        # if events lie in a set of lower dimension


@dataclass(frozen=True)
class Truth:
    """true = high + low; unit = u kappa; `batch_ndim` leading axes are batch; `first_order`: kappa tells how far rounding
    moves it; `asked` marks entries that are compared; `tangents` is F (*batch, D, d) of (2), None where entries are compared one
    by one; where pieces meet, every number between `least` and `most` is true.
    """

    high: np.ndarray
    low: np.ndarray
    unit: np.ndarray
    conditioning: np.ndarray
    batch_ndim: int = 0
    normwise: bool = False
    first_order: bool = True
    asked: np.ndarray | bool = True
    tangents: np.ndarray | None = None
    least: np.ndarray | None = None
    most: np.ndarray | None = None

    def error(self, given, form, flush_to_zero=False):
        """C of (1) for each entry, or for each event if the page is normwise; of (2) for each row and tangent.

        It is inf where the shapes differ.
        """
        form = format_of(form)
        floor = form.normal if flush_to_zero else form.smallest
        given = np.asarray(given, np.float64)
        with np.errstate(all="ignore"):
            apart = self.apart(given, form)
            distance = np.abs(apart) if self.tangents is None else self.distance_along(apart)
            unit = np.maximum(self.unit if self.tangents is None else self.along(self.unit, np.abs), floor)
            if self.normwise:
                axes = tuple(range(self.batch_ndim, distance.ndim))
                distance, unit = norm(distance, axes), unit.max(axis=axes, initial=floor)
            return np.where(np.isinf(distance), np.inf, np.where(distance == 0, 0.0, distance / unit))

    def apart(self, given, form):
        """given - true of each entry that is compared, 0 of the others."""
        overflow = form.largest * (1 + form.unit / 2)
        short = np.maximum(overflow - np.sign(given) * self.high, 0)                # by how much the truth is finite
        near = np.isinf(given) & ((short == 0) | (short <= self.unit))              # kappa of an infinite truth may be NaN
        off = given - self.high - self.low if self.least is None else given - np.clip(given, self.least, self.most)
        finite = np.where(np.isfinite(given), off, np.inf)
        return np.where(self.asked, np.where(near, np.sign(given) * short, finite), 0)

    def distance_along(self, apart):
        """|F^T (given - true)|; inf in a row of F^T whose numbers are not finite."""
        distance = np.abs(self.along(np.where(np.isfinite(apart), apart, 0)))
        return np.where(self.in_rows(np.isfinite(apart)), distance, np.inf)

    def along(self, entries, size=np.asarray):
        """F^T q of the rows q of entries (*batch, ..., D), as (*batch, rows, d); |F|^T q with size=np.abs.

        An infinite entry adds nothing where F is 0.
        """
        F = size(self.tangents)[..., None, :, :]
        with np.errstate(all="ignore"):
            return np.where(F == 0, 0, self.by_rows(entries)[..., None] * F).sum(-2)

    def by_rows(self, entries):
        """(*batch, rows, D): of a Jacobian its rows, of a cotangent itself."""
        batch, core = entries.shape[:self.batch_ndim], entries.shape[self.batch_ndim:]
        D = self.tangents.shape[-2]
        return entries.reshape(*batch, math.prod(core) // D, D)

    def in_rows(self, marks):
        """Marks of entries as marks of what `along` makes of them: do they hold in the whole row?"""
        if self.tangents is None:
            return marks
        whole = self.by_rows(marks).all(-1, keepdims=True)
        return np.broadcast_to(whole, (*whole.shape[:-1], self.tangents.shape[-1]))

    def known(self):
        """Marks of the entries at which there is a truth, infinite or not, and a unit; along tangents, of their rows."""
        return self.in_rows(~np.isnan(self.high) & ~np.isnan(self.unit))

    def representable(self, form):
        """Marks of the entries whose truth rounds to a finite number."""
        return self.in_rows(np.abs(self.high) <= format_of(form).largest)

    def compared(self, given):
        """(given, truth) as they are compared: along tangents, F^T q, in units |F|^T kappa."""
        if self.tangents is None:
            return given, self
        given, high, low = (self.along(np.where(self.asked, entries, 0)) for entries in (given, self.high, self.low))
        return given, replace(self, high=high, low=low, unit=self.along(self.unit, np.abs), asked=True, tangents=None)

    def part(self, index):
        """The truth at one leading index."""
        arrays = {key: value[index] for key, value in vars(self).items() if isinstance(value, np.ndarray)}
        return replace(self, **arrays, batch_ndim=max(0, self.batch_ndim - 1))


def along_tangents(truth, F, u):
    """A truth that is compared along the columns of F, and kappa/|q| of its components there."""
    truth = replace(truth, tangents=F)
    return replace(truth, conditioning=conditioning_of(truth.along(truth.high), truth.along(truth.unit, np.abs) / u))


@np.errstate(all="ignore")
def conditioning_of(value, kappa):
    """kappa/|q|, 1 where q is 0."""
    return np.where(value == 0, 1.0, kappa / np.abs(value))


def norm(values, axes):
    """The Euclidean norm over axes, without overflow."""
    largest = np.max(values, axis=axes, initial=0.0)
    scale = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
    scaled = values / np.expand_dims(scale, axes) if axes else values / scale
    return scale * np.sqrt((scaled * scaled).sum(axis=axes))


def fields_of(f) -> dict:
    """What a function under test receives as parameters: arrays and plain values by name; for a composite, its params(); for a
    page at raw parameters, only these; for a page by another measure, the page's.
    """
    if isinstance(f, Parametrised):
        return {"h": writable(f.h)}
    if isinstance(f, Counted):
        return fields_of(f.page)
    if any(isinstance(d, Child) for d in f.declared.values()):
        return writable(f.params())
    return {k: writable(getattr(f, k)) for k in f.declared if getattr(f, k) is not None}


def writable(value):
    """A copy that the receiver may write to."""
    if isinstance(value, dict):
        return {k: writable(v) for k, v in value.items()}
    return np.array(value) if isinstance(value, np.ndarray) else value


# -- truth at run time ------------------------------------------------------------------------------------------------

@np.errstate(all="ignore")
def run_time_truth(point, derivatives=False) -> dict:
    """{quantity: Truth} of a point from refflow's float64 methods; with `derivatives`, Jacobian and cotangents too."""
    side, f = point.side, point.f.astype(np.float64)
    g, event = per_event(f, point.event, SIDES[side])
    u, normal = point.format.unit, normwise(f)
    whole, *rests = of_chain(f, event, side, u) if isinstance(f, Chain) else [value_and_log_det(g, event, VJP[side], normal, u)]
    image, log_det = whole
    batch = image.value.shape[:-1]
    shape = tuple((f.output_shape if side == "forward" else f.input_shape)(event.shape[len(batch):]))
    units = [sum(one.kappa for one in of) for of in zip(whole, *rests)]     # events between stages are rounded, too
    truths = {}
    for name, value, unit, full in zip((VALUE[side], LOG_DET[side]), (image.value, log_det.value), units, (batch + shape, batch)):
        truths[name] = truth_of(value.reshape(full), unit.reshape(full), u, len(batch), normal and name == VALUE[side])
    if derivatives and point.image_bar is not None:
        truths |= derivative_truths(point, g, event, batch, normal, u)
    return truths


def run_time_truths(points, derivatives=False) -> list:
    """`run_time_truth` of each of several points, in one batch if they are `alike`."""
    if len(points) < 2 or not all(alike(points[0], point) for point in points):
        return [run_time_truth(point, derivatives) for point in points]
    found = run_time_truth(stacked(points), derivatives)
    return [{name: truth.part(i) for name, truth in found.items()} for i in range(len(points))]


def stacked(points):
    """One question with a leading axis, for several points that are alike."""
    event, image_bar, log_det_bar = (np.stack([getattr(point, key) for point in points])
                                     for key in ("event", "image_bar", "log_det_bar"))
    return points[0].changed(event=event, image_bar=image_bar, log_det_bar=log_det_bar, lead=1)


def alike(one, other):
    """Are both of one bijector's events of the same shape, with cotangents, whose truth is not recorded?"""
    return (one.f is other.f and (one.side, one.form, one.event.shape, one.dtype) == (other.side, other.form, other.event.shape, other.dtype)
            and all(point.image_bar is not None and point.truth is None and not point.lead for point in (one, other)))


def together(points):
    """Lists of neighbouring points that are alike, as many as fit into one batch; lists of one of the others."""
    group = []
    for point in points:
        if group and not (alike(group[0], point) and len(group) < batch_of(point)):
            yield group
            group = []
        group.append(point)
    if group:
        yield group


def batch_of(point):
    """How many points like this one are asked at once: differences move every input entry in a copy of all of them."""
    return max(1, TOGETHER // (1 + inputs_of(point) + point.image_bar.size) ** 2)


def inputs_of(point):
    """How many numbers a question is made of, without its cotangents."""
    return point.event.size + parameters_of(point)


def parameters_of(point):
    return sum(leaf.size for _, leaf in flatten(point.f.params()))


def members(point):
    """Marks of the events that lie in the open set of their side."""
    return set_of(point.f, point.side).members(point.event, point.f.event_ndim[SIDES[point.side]])


def is_derivative(name):
    """Is a quantity the Jacobian or a cotangent?"""
    return name == "jacobian" or name.startswith(tuple(f"{method}." for method in VJP.values()))


def names_of_derivatives(point) -> set:
    """The names that `run_time_truth` gives only with `derivatives`."""
    if point.image_bar is None:
        return set()
    fields = (".".join(path) for path, _ in flatten(point.f.params()))
    bars = {f"{VJP[point.side]}.{name}_bar" for name in (LETTER[point.side], *fields)}
    return bars | {"jacobian"} if point.side == "forward" else bars


def truth_of(value, unit, u, batch_ndim, normal):
    return Truth(value, np.zeros_like(value), u * unit, conditioning_of(value, unit), batch_ndim, normal)


def derivative_truths(point, g, event, batch, normal, u):
    """{quantity: Truth} of the Jacobian and of all cotangents, summed over broadcast axes like the claims.

    Leading axes, each of whose entries is a question of its own, are not summed over.  Between the parts of a composition a
    factor may be subnormal, so that its digits are lost, and be multiplied by ordinary numbers.
    """
    side, f = point.side, point.f
    of = forward_derivatives if side == "forward" else inverse_derivatives
    bars = (np.asarray(point.image_bar, np.float64), np.broadcast_to(np.asarray(point.log_det_bar, np.float64), batch))
    found = differenced(of, g, event, bars, normal)
    lost = ROOM * point.format.smallest / u if has_components(type(f)) else 0
    shapes, own_of_each = ({path: np.shape(leaf) for path, leaf in flatten(view.params())} for view in (f, g))
    truths = {}
    for path, sensitivity in found.items():
        value, unit = sensitivity.value, sensitivity.kappa + lost
        if path == "jacobian":
            size = int(np.prod(event.shape[len(batch):]))
            full = (*batch, value.shape[-1] // size if size else 0, size)
            truths[path] = truth_of(value.reshape(full), unit.reshape(full), u, len(batch), normal)
        elif path == "event":
            full, own = event.shape, point.event.shape
            value, unit = (sum_to_shape(a.reshape(full), own) for a in (value, unit))
            truths[f"{VJP[side]}.{LETTER[side]}_bar"] = truth_of(value, unit, u, len(own) - f.event_ndim[SIDES[side]], normal)
        else:
            value, unit = (summed(a.reshape(own_of_each[path]), shapes[path], point.lead) for a in (value, unit))
            truths[f"{VJP[side]}.{'.'.join(path)}_bar"] = truth_of(value, unit, u, point.lead, normal)
    if side == "forward" and f.domain.thin:
        F = f.domain.basis(np.asarray(point.event, np.float64), f.event_ndim[0])
        truths |= {name: along_tangents(truths[name], F, u) for name in ALONG_TANGENTS}
    return truths


def summed(bar, shape, lead):
    """The sum over broadcast axes, of each entry of a leading axis by itself if there is one."""
    return np.stack([sum_to_shape(one, shape) for one in bar]) if lead else sum_to_shape(bar, shape)


@np.errstate(all="ignore")
def chart_truth(point) -> dict:
    """The inverse's event cotangent as a function of only the coordinates of x; nothing where J rounds to a singular matrix.

    As a function of z it is w(z) = (C J F)^-T F^T (z_bar - l_bar grad log_det), with tangents F of the domain, where C takes the
    coordinates of x; its derivative with respect to these is dw/dz F (C J F)^-1, and so is its kappa.
    """
    f = point.f.astype(np.float64)
    g, x = per_event(f, point.event, 1)
    bars = (np.asarray(point.image_bar, np.float64), np.asarray(point.log_det_bar, np.float64))
    z, chart, ndim = g.inverse(x), f.codomain.coordinates(x.shape), f.event_ndim[0]

    def square(view, z):
        J = view.jacobian(z)[..., chart, :]
        return J @ view.domain.basis(z, ndim) if f.domain.thin else J

    def of_latent(view, z, bars):
        image, (_, pullback) = np.zeros(bars[1].shape + x.shape), view.vjp(z)
        grad_l, _ = pullback(image, np.ones_like(bars[1]))
        u = flat(bars[0] - over_event(bars[1], ndim) * grad_l, bars[1].shape)[..., None]
        u = view.domain.basis(z, ndim).mT @ u if f.domain.thin else u
        return {"event": np.linalg.solve(square(view, z).mT, u)[..., 0]}

    try:
        found, W = differenced(of_latent, g, z, bars, False)["event"], np.linalg.inv(square(g, z))
    except np.linalg.LinAlgError:
        return {}
    W = f.domain.basis(z, ndim) @ W if f.domain.thin else W
    slopes = found.slopes | {"event": found.slopes["event"] @ W}
    found = replace(found, slopes=slopes, inputs=found.inputs | {"event": x.ravel()[chart]})
    value, unit = np.zeros(x.size), np.zeros(x.size)
    value[chart], unit[chart] = found.value, found.kappa
    u = point.format.unit
    return {"inverse_vjp.x_bar": truth_of(value.reshape(x.shape), unit.reshape(x.shape), u, 0, False)}


@np.errstate(all="ignore")
def with_accumulation(point, truths, u) -> dict:
    """The truths with a unit that allows sums in a dtype of unit roundoff `u`: u (kappa + sum_i |t_i|), of the terms t_i.

    Log-dets of more than one entry and cotangents of fields are sums; a log-det's terms are log|J_ii|, as if J were triangular.
    """
    wider = u / point.format.unit
    if wider <= 1:
        return truths
    rank, log_det, prefix = point.f.event_ndim[SIDES[point.side]], LOG_DET[point.side], f"{VJP[point.side]}."
    changed = {name: replace(truth, unit=truth.unit * wider) for name, truth in truths.items()
               if name.startswith(prefix) and name != f"{prefix}{LETTER[point.side]}_bar"}
    entries = int(np.prod(point.event.shape[point.event.ndim - rank:]))
    if log_det in truths and entries > 1:
        truth = truths[log_det]
        changed[log_det] = replace(truth, unit=truth.unit * wider + u * size_of_terms(point, truth.high.shape))
    return truths | changed


def size_of_terms(point, batch):
    """sum_i |log|J_ii|| of each event, 0 if the Jacobian is not square."""
    f, event = point.f.astype(np.float64), np.asarray(point.event, np.float64)
    J = f.jacobian(event if point.side == "forward" else f.inverse(event))
    if J.shape[-1] != J.shape[-2]:
        return 0.0
    size = np.abs(np.log(np.abs(np.diagonal(J, axis1=-2, axis2=-1))))
    return np.where(np.isfinite(size), size, 0).sum(-1).reshape(batch)


# -- quantities that are left out -------------------------------------------------------------------------------------

def without_structural_zeros(point, truths) -> dict:
    """The truths without the cotangents of entries that are 0 in every member of their set, as above a diagonal.

    Such an entry is not an input, and a library may return anything for it.
    """
    letter, where = f"{VJP[point.side]}.{LETTER[point.side]}_bar", set_of(point.f, point.side)
    sets = {letter: where} | {f"{VJP[point.side]}.{'.'.join((*path, key))}_bar": field.set
                              for path, owner in tree.walk(point.f) for key, field in owner.declared.items()
                              if isinstance(field, Field)}
    masked = {name: replace(truth, asked=sets[name].free(truth.high.shape))
              for name, truth in truths.items() if name in sets and sets[name].free}
    return truths | masked


# -- drawn points -----------------------------------------------------------------------------------------------------

SPREADS = {"float64": (4, 60), "float32": (4, 20)}
COUNT = 24
COTANGENTS = 2                                  # spread
PARTS = 4                                       # of a moderate binade, with a point in each
MODERATE = range(-6, 7)                         # binades in which gradients are measured
ZEROS = np.array([0.0, -0.0])


def source_of(name):
    return RandomSource(np.random.default_rng([ord(c) for c in name]))


def drawn_bijector(page, dtype, source, size, spread, plain=None, lead=tuple):
    """A bijector of a page with drawn parameters, whose batch axes `lead()` gives; optional fields are absent."""
    fields = drawn_fields(page, source, dtype, spread, lambda letter: size, plain, lead, optional=0)
    return page(**{key: value for key, value in fields.items() if value is not None})


def event_shape(f, size):
    """An event shape of z that fits the fields: letters that the fields leave free get `size` entries, or a few more.

    Of several free letters no two have as many, where that fits: a number of positions is then none of another product.  A
    `size` of 1 is for all of them.
    """
    several = f.event_ndim[0] if size > 1 else 1
    for free in range(size, size + 8):
        for shape in sorted(event_shapes(f, range(free, free + several)), key=lambda shape: -len(set(shape))):
            return shape
    raise ValueError(f"{type(f).__name__}: no event shape of {size} entries or a few more")


@functools.lru_cache(16)
def drawn_points(page, dtype, broadcast=False) -> tuple:
    """Points of one page, the simple ones first; the same points each time, which are therefore drawn once."""
    return tuple(drawing(page, dtype, broadcast))


def drawing(page, dtype, broadcast):
    name = np.dtype(dtype).name
    source = source_of(page.__name__ + name)
    for plain in plain_choices(page):
        if not plain:
            f = plainest(page, dtype, 2)
            z = simple_event(f, dtype, 2)
            yield from both_sides(f, z, 0)
            yield from both_sides(f, np.stack([z, z, z]), 1)
        for size in (1, 3):
            for spread in SPREADS[name]:
                f = drawn_bijector(page, dtype, source, size, spread, plain)
                z = drawn_event(source, f, "forward", event_shape(f, size), dtype, spread, (COUNT,))
                yield from with_gradients(both_sides(f, z, 1), source, 4 if spread == SPREADS[name][0] else 0)
        yield from binade_points(page, dtype, source, plain)
        if broadcast:
            yield from broadcast_points(page, dtype, source, plain)


def broadcast_points(page, dtype, source, plain):
    """Parameters with batch axes: all of three rows; and each in turn of three rows, of one, and without, against the others."""
    fields = [key for key, declared in page.declared.items() if isinstance(declared, Field) and not declared.constant]
    batches = [(3,)], *([(3,), (1,), ()][k:] + [(3,), (1,), ()][:k] for k in range(3 if len(fields) > 1 else 0))
    for batch in batches if fields else ():
        each = itertools.cycle(batch)
        f = drawn_bijector(page, dtype, source, 2, 1, plain, lambda each=each: next(each))
        shape = event_shape(f, 2)
        words = "(3,)" if len(batch) == 1 else " and ".join(map(str, batch[:len(fields)]))
        for lead in ((2, 3), (2, 1), ()):
            # a set with ends of its own for each row takes no events of fewer rows
            lead = lead if f.domain.alike else np.broadcast_shapes(lead, f.parameter_batch)
            z = drawn_event(source, f, "forward", lead + shape, dtype, 1)
            yield Point(f, "forward", z, case="broadcast", reason=f"parameters {words} broadcast with the events")


def binade_points(page, dtype, source, plain):
    """For a scalar page, a point in every binade of the dtype from every end, both zeros, and gradients at moderate points."""
    dtype = np.dtype(dtype)
    f = drawn_bijector(page, dtype, source, 1, SPREADS[dtype.name][0], plain)
    for side in SIDES:
        where = set_of(f, side)
        if f.event_ndim != (0, 0) or where.rank:
            return
        low, high = EXPONENTS[dtype]
        events = {e: binade(where, source, dtype, e, PARTS if e in MODERATE else 1) for e in range(low, high)}
        yield Point(f, side, np.array([*(z for found in events.values() for z in found), *zeros_of(where)], dtype), lead=1)
        for e in MODERATE:
            for z in events[e]:
                yield with_cotangents(Point(f, side, np.asarray(z, dtype)), source, COTANGENTS)


def zeros_of(where):
    """0 and -0, if a set of numbers holds them."""
    return ZEROS[where.members(ZEROS, 0)]


def simple_event(f, dtype, size):
    """Small round numbers inside the domain."""
    shape = event_shape(f, size)
    if f.domain.rank:
        return f.domain.plainest(shape).astype(dtype)
    steps = (np.arange(int(np.prod(shape))) + 1).reshape(shape) / 4
    return (f.domain.anchor + (steps if np.isinf(f.domain.upper) else 0 * steps)).astype(dtype)


def both_sides(f, z, lead):
    """The question at z, and the question at each of its images that lies inside the codomain and in range."""
    dtype = z.dtype
    f = f.astype(dtype)
    z = stage_members(f, z, lead)
    if z is None:
        return
    yield Point(f, "forward", z, lead=lead)
    x = f.forward(z)
    if f.event_ndim == (0, 0) and lead and f.codomain.rank == 0:
        source = RandomSource(np.random.default_rng(x.size))
        more = drawn_event(source, f, "inverse", (), dtype, SPREADS[dtype.name][0], x.shape)
        x = np.concatenate([x, more]) if is_taken(f, more) else x
    rank = f.event_ndim[1]
    inside = f.codomain.members(x, rank) & finite(x, rank)
    inside = inside.reshape(*inside.shape[:lead], -1).all(-1)           # of all rows of the parameters
    if lead and inside.any():
        yield Point(f, "inverse", x[inside], lead=1)
    elif not lead and inside:
        yield Point(f, "inverse", x)


def is_taken(f, events, side="inverse"):
    """Are these events members at every stage too?  A chain's own sets may be larger than its domain and its image."""
    try:
        (f.inverse if side == "inverse" else f.forward)(events)
    except ValueError:
        return False
    return True


def stage_members(f, z, lead):
    """The events z that are members at every stage; None if there are none."""
    if is_taken(f, z, "forward"):
        return z
    kept = [event for event in z if is_taken(f, event, "forward")] if lead else []
    return np.stack(kept) if kept else None


def finite(x, rank):
    axes = tuple(range(-rank, 0))
    return np.isfinite(x).all(axis=axes) if axes else np.isfinite(x)


def points_at(f, z):
    """The points of one scalar bijector at given latents: the first alone, all of them, and cotangents."""
    source = RandomSource(np.random.default_rng(7))
    yield from both_sides(f, z[0], 0)
    yield from with_gradients(both_sides(f, z, 1), source, 4)


def with_gradients(points, source, count):
    """The points, and the first `count` events of each batch once more with cotangents."""
    for point in points:
        yield point
        for i in range(min(count, len(point.event)) if point.lead else 0):
            yield with_cotangents(point.single(i), source, COTANGENTS)


@functools.cache
def shapes_of_rank(rank, longest):
    """All shapes of `rank` axes up to `longest`: those without an axis of 1, then with axes that differ, then the smaller ones first."""
    every = (tuple(n + 1 for n in shape) for shape in np.ndindex(*(longest,) * rank))
    return sorted(every, key=lambda shape: (shape.count(1), rank - len(set(shape)), math.prod(shape), shape))


def shapes_that_fit(f):
    """The event shapes of z for a composite, in this order."""
    rank = f.event_ndim[0]
    longest = LONGEST if rank == 1 else LONGEST_AXIS
    found = [shape for shape in shapes_of_rank(rank, longest) if fits(f, shape)]
    if not found:
        raise CannotRun(f"{type(f).__name__}: no event shape up to {longest} entries along each axis")
    return found


def smallest_shape(f):
    """The shape of the fewest entries, but not of one number if there may be several; it may be one pixel."""
    return min(shapes_that_fit(f), key=lambda shape: (math.prod(shape) == 1, math.prod(shape)))


def composite_shapes(f):
    """One or two event shapes of z for a composite, at which mistakes show that one pixel hides.

    There, or where all axes are alike, a log-det without the number of positions, or axes in another order, may be right.  So the
    axes that f leaves free have 2 or more entries, no two of them as many if f allows it, and the image has several channels.  The
    second shape has another number of positions: what is right for the first number alone is wrong.
    """
    found = shapes_that_fit(f)
    first = min(found, key=lambda shape: f.output_shape(shape)[:1] == (1,))             # the first of those that are alike
    longer = [shape for shape in found if shape != first and all(n >= m for n, m in zip(shape, first))]
    return [first, *sorted(longer, key=lambda shape: -sum(n > m for n, m in zip(shape[-2:], first[-2:])))[:1]]
