"""The laws: properties that every bijector must have, as functions law(f, points) that raise AssertionError if f breaks one.

A message names the law, the class, the quantity, the smallest offending event, the error and the bound.  Bounds are derived
at run time as C u kappa: u is the unit roundoff of the dtype, kappa = |q| + sum |dq/d input| |input| for a quantity q, and C
a constant of a few units (`accuracy.kappa`).  The reference is the page in float64, where every event has its own parameters.
`run_laws(f, points)` runs all of them on the same points and reports by name.
"""

from __future__ import annotations

import copy
import math
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING
from fractions import Fraction
from types import SimpleNamespace

import numpy as np

from ..accuracy.differences import U, EventDifferences, LossDifferences
from ..accuracy.drawing import fits
from ..accuracy.kappa import DELTA, differenced, event_of, flat, value_and_log_det, with_leaf
from ..core import Bijector, Chain, Independent, Inverse, RandomSource, has_components, sets
from ..core.bijector import METHODS
from ..core.compose import stepped
from ..core.declarations import Field, Plain
from ..core.sets import contains
from ..core.tree import flatten
from ..maps.constrained.biject_to import biject_to
from ..maps.normalization.batch_norm import STATISTICS, BatchNorm
from . import composition_laws  # noqa: F401  it registers its laws
from . import scale_laws
from ..accuracy.points import Points, forward_derivatives, inverse_derivatives, nets_of, stays_inside
from ..accuracy.valid import AtValid
from ..training.batch_norm import of_batch, with_statistics
from .law import LAWS, MANY, Broken, asked, bounded, close, distance, equal, every, expect, hold, law, refusal, same, unit
from .mass import lost_mass, total_mass

FD_ERROR = 1e-6             # differences with a larger estimate of their own error are rejected
ROUGH = 2.0**-6             # of a slope that is right or another one altogether
OF_VALUES = ("bad parameters are refused", "bad plain fields are refused", "constants fit the dtype", "refusals are named",
             "hard cases are accepted", "one vector")
EXTREME = (2.0**-200, 2.0**200, -(2.0**200))        # of float32, 0 and infinite
NEAR = 2.0**-10             # of an end where the slope is infinite
ROUNDINGS = 16              # of an end that a map computes from its fields
BESIDE = 2, 256             # roundings from an end, where cotangents tell whether they grow
SHORT = 2.0**-20            # a step: half of the digits are left to slopes, half to curvature
SQUARE = (3, 3)             # the shape of the matrices that a set is asked for


def run_laws(f, points, wanted=every) -> dict:
    """Run every law, or those wanted, on one draw; {law: (rejected, tried)} for the laws that may reject points.

    Raises AssertionError with one line for each law that is broken.
    """
    return asked(((name, check, f, points) for name, check in LAWS.items()), wanted)


def tried(rejected):
    return int(np.sum(rejected)), int(np.size(rejected))


# -- the map and its inverse ------------------------------------------------------------------------------------------

@law("inverse of forward")
def inverse_of_forward(f, p):
    """f^-1(f(z)) = z: |z' - z| <= C u (kappa_inv(x) + |dz/dx| kappa_fwd(z)) at interior x; as below, if z satisfies equations."""
    if p.interior.any():
        of_z, of_x = p.inverse_sensitivities[0], p.forward_sensitivities[0]
        bound = unit(p, of_z.kappa) + of_z.moved("event", unit(p, of_x.kappa))
        if p.f.domain.thin:
            off = unit(p, of_z.kappa)
            bound = bound + off + of_z.moved("event", of_x.moved("event", off))
        close(p, "z", flat(f.inverse(p.inner_x), p.batch), flat(p.z64, p.batch), bound, p.interior)


@law("forward of inverse")
def forward_of_inverse(f, p):
    """f(f^-1(x)) = x, as above; if x satisfies equations, in the tangent plane, since x itself is rounded."""
    if p.interior.any():
        of_x, of_z = p.forward_sensitivities[0], p.inverse_sensitivities[0]
        interior = p.interior.reshape(p.batch + (1,) * len(p.event_in))
        z = np.where(interior, f.inverse(p.inner_x), p.z)       # another event's image may be taken out of the floats
        bound = unit(p, of_x.kappa) + of_x.moved("event", unit(p, of_z.kappa))
        if p.size_in != p.size_out or p.f.codomain.thin:
            off = unit(p, of_x.kappa)
            bound = bound + off + of_x.moved("event", of_z.moved("event", off))
        close(p, "x", flat(f.forward(z), p.batch), flat(p.inner_x, p.batch), bound, p.interior)


@law("composition")
def composition(f, p):
    """(f o g)^-1 = g^-1 o f^-1, log-dets add up, and det(MN) = det M det N, for the steps of f, or for f and f."""
    if f.parameter_batch != () or not p.interior.any():
        return
    keep, chain = p.interior, f
    if not hasattr(f, "stages"):
        again = twice(f, p)
        keep, chain = (again, Chain((f, f))) if again.any() else (keep, Chain((f, Inverse(f))))
    z, (turn, back) = p.z[keep], chain.steps
    with np.errstate(all="ignore"):
        event, total, J = z, 0, None
        for _, step, way in turn:
            J = None if chain.has_runs else step.jacobian(event) if J is None else step.jacobian(event) @ J
            event, log_det = stepped(step, way, event)
            total = total + log_det
        x, log_det = chain.forward_and_log_det(z)
        equal("forward", (x, log_det), (event, total))
        event, total = x, 0
        for _, step, way in back:
            event, log_det = stepped(step, way, event)
            total = total + log_det
    equal("inverse", chain.inverse_and_log_det(x), (event, total))
    given = chain.jacobian(z)
    known = np.zeros(len(z), bool) if J is None else np.isfinite(J).all((-2, -1))
    if J is not None:
        equal("jacobian", (given[known],), (J[known],))
    if f.event_ndim == (0, 0):                      # a factor overflows, and the slope may be a float
        off = off_log_det(given[..., 0, 0], chain.log_det(z))
        expect((known | ~(off > ROUGH)).all(), f"jacobian is {given}, and its log is off log_det by {off}; {chain!r}")


def off_log_det(slope, log_det):
    """How far log|slope| is from log_det, relative to 1 + |log_det|; floats end where they do."""
    largest = np.finfo(slope.dtype).max
    with np.errstate(divide="ignore"):
        given, expected = np.log(np.minimum(np.abs(slope), largest)), np.minimum(log_det, np.log(largest))
    return np.abs(given - expected) / (1 + np.abs(expected))


def twice(f, p):
    """Marks of the events to which a scalar f can be applied twice, and back, without reaching an end."""
    none = np.zeros(p.batch, bool)
    if f.event_ndim != (0, 0) or not contains(f.domain, f.codomain):
        return none
    x = np.where(p.interior, p.x, p.x[np.argmax(p.interior)])
    again = f.forward(x)
    inside = f.codomain.members(again, 0)
    back = f.inverse(np.where(inside, again, p.x[np.argmax(p.interior)]))
    return p.interior & inside & f.domain.members(back, 0) & f.codomain.members(back, 0)


@law("monotone")
def monotone(f, p):
    """A scalar map declared increasing does not fall: x(z_2) - x(z_1) >= -rounding for z_2 > z_1, and its slope is >= 0.

    Beside each event stands the next float, whose image differs by little but rounding.
    """
    if not f.increasing or f.event_ndim != (0, 0):
        return
    expect((f.jacobian(p.z) >= 0).all(), f"a negative slope; {f!r}")
    z = p.own[1]
    beside = np.nextafter(z, z.dtype.type(np.inf))
    z = np.sort(np.concatenate((z, np.where(f.domain.members(beside, 0), beside, z))))
    with np.errstate(all="ignore"):
        x = with_first_parameters(p.own[0], len(z)).forward(z).astype(np.float64)
        of_x, _ = value_and_log_det(with_first_parameters(p.g, len(z)), z.astype(np.float64), "vjp", p.normwise)
        room = unit(p, of_x.kappa[:, 0])
        bounded(room)
        rises = (x[1:] >= x[:-1]) | (np.diff(x) >= -room[1:] - room[:-1])           # infinities have no difference
        expect(rises.all(), f"x falls by {-np.diff(x).min():.3g} as z grows; {f!r}")


def with_first_parameters(view, count):
    """The view in which each of `count` events has the first event's parameters."""
    for path, value in flatten(view.params()):
        view = with_leaf(view, path, np.broadcast_to(value[:1], (count, *value.shape[1:])))
    return view


@law("ends are taken to ends")
def ends(f, p):
    """An increasing map of numbers takes a finite end of its domain to the same end of its codomain, and its inverse back.

    A few roundings of both ends may lie between them.  Where parameters move an end, their rounding may move its image, unless
    that is infinite.  Log-dets may be infinite there.
    """
    if not f.increasing or f.event_ndim != (0, 0):
        return
    fixed = f.domain.alike and f.codomain.alike
    sides = (f.forward_and_log_det, f.domain, f.codomain), (f.inverse_and_log_det, f.codomain, f.domain)
    for method, here, there in sides:
        for end, image in ((here.lower, there.lower), (here.upper, there.upper)):
            end, image = np.broadcast_arrays(end, image)
            told = np.isfinite(end) & (fixed | np.isinf(image))
            if not told.any():
                continue
            given, log_det = method(np.where(told, end, here.plainest(end.shape)).astype(p.dtype))
            wanted = np.where(told, image, given)
            with np.errstate(all="ignore"):
                size = sum(np.where(np.isfinite(side), np.abs(side), 0) for side in (there.lower, there.upper))
                room = np.fmin(ROUNDINGS * p.u * (size + np.abs(end) * np.exp(log_det)), NEAR * (1 + np.abs(wanted)))
                reached = (given == wanted) | (np.abs(given - wanted) <= room) & np.isfinite(wanted)
            expect(reached.all(), f"{method.__name__} takes {end} to {given}, not to {wanted}; {f!r}")
            expect(not np.isnan(log_det).any(), f"{method.__name__}: the log-det at {end} is {log_det}; {f!r}")


@law("infinite cotangents are limits")
def infinite_cotangents(f, p):
    """At a finite end of a set of numbers, an infinite cotangent has the sign of those beside the end, if they grow towards it.

    Of a composition, infinite parts of two stages may cancel: it is not asked.
    """
    if f.event_ndim == (0, 0) and not has_components(type(f)):
        infinite_at_ends(f, p.dtype)


@law("infinite cotangents of hard cases are limits", once=True)
def infinite_cotangents_of_hard_cases(f, p):
    """So it is with the parameters of the page's hard cases, as far as the dtype holds them."""
    if f.event_ndim == (0, 0) and not has_components(type(f)):
        for case in whole_cases(type(f)):
            if holds(p.dtype, case.params.values()):
                infinite_at_ends(type(f)(**case.params), p.dtype)


def holds(dtype, values):
    """Does none of the values overflow, or become 0, in a dtype?"""
    with np.errstate(all="ignore"):
        arrays = [(array, array.astype(dtype)) for array in map(np.asarray, values) if array.dtype.kind == "f"]
    return all((np.isfinite(there) == np.isfinite(here)).all() and ((there == 0) == (here == 0)).all() for here, there in arrays)


def infinite_at_ends(f, dtype):
    """Compare the cotangents at every finite end of both sets."""
    for method, where in ((f.vjp, f.domain), (f.inverse_vjp, f.codomain)):
        for end, inwards in ((where.lower, 1), (where.upper, -1)):
            end = np.asarray(end, f.dtype or dtype)
            events = [end, *(end + inwards * steps * np.spacing(np.abs(end)) for steps in BESIDE)]
            if np.isfinite(end).all() and all(where.members(event, 0).all() for event in events[1:]):
                infinite_at_end(f, method, events)


def infinite_at_end(f, method, events):
    """Compare the cotangents at an end with two beside it, the nearer one first."""
    for bars in ((1, 0), (0, 1)):
        at, near, far = (cotangents_at(f, method, event, bars) for event in events)
        for name, bar in at.items():
            grows = np.abs(near[name]) > np.abs(far[name])
            wrong = np.isinf(bar) & grows & (np.sign(near[name]) != np.sign(bar))
            expect(not wrong.any(), f"{method.__name__}: at {events[0]}, {name} is {bar}, beside it {near[name]} and further away "
                                    f"{far[name]}; {f!r}")


def cotangents_at(f, method, event, bars):
    """{input: its cotangent} at an event or one for each of a batch of parameters."""
    shape = np.broadcast_shapes(event.shape, f.parameter_batch)
    with np.errstate(all="ignore"):
        event_bar, params_bar = method(event)[1](*(np.full(shape, bar, event.dtype) for bar in bars))
    return {"the event's cotangent": event_bar} | {f"{'.'.join(path)}_bar": bar for path, bar in flatten(params_bar)}


@law("membership")
def membership(f, p):
    """forward stays in the codomain, inverse in the domain (a finite end belongs to both: the truth may round to it)."""
    found = f.codomain.first_outside(p.x, closed=True) if finite(p.x) else None
    expect(found is None, f"forward leaves the codomain {f.codomain}: {found}; {f!r}")
    if p.interior.any():
        z = f.inverse(p.inner_x)
        found = f.domain.first_outside(z, closed=True) if finite(z) else None
        expect(found is None, f"inverse leaves the domain {f.domain}: {found}; {f!r}")


def finite(values):
    return bool(np.isfinite(values).all())


# -- log-determinants -------------------------------------------------------------------------------------------------

@law("log-det is the finite-difference determinant")
def log_det_differences(f, p):
    """|log_det - FD| <= 10 e + 4 u kappa, with Ridders' own error estimate e; e <= 1e-6 or the point is rejected.

    FD is log|det C J F|, where J F are differences along the tangents of the domain.  Events at a break, where the two one-sided
    derivatives differ, are left out.
    """
    fd = event_differences(p)
    usable = fd.log_det_error <= FD_ERROR
    with np.errstate(invalid="ignore"):
        bound = 10 * fd.log_det_error + unit(p, p.forward_sensitivities[1].kappa[:, 0])
    if any(leaf.tangents for leaf, _, _ in f.domain.pieces(p.event_in)):        # z satisfies equations to within rounding
        _, moved, nearly_linear = determinant(p)
        bound, usable = bound + moved, usable & nearly_linear
    hold(p, "log_det", distance(p.log_det, fd.log_det), bound, usable)
    return tried(~usable[~fd.at_break])


def event_differences(p):
    if "event_differences" not in vars(p):
        p.event_differences = EventDifferences(p)
    return p.event_differences


@law("log-det is slogdet of the Jacobian")
def log_det_slogdet(f, p):
    """log_det = log|det C J F|: the Jacobian between tangents of the domain and of the codomain, of unit measure."""
    reference, moved, usable = determinant(p)
    bound = unit(p, p.forward_sensitivities[1].kappa[:, 0]) + moved + 2 * U * np.abs(reference)
    hold(p, "log_det", distance(p.log_det, reference), bound, usable)


def determinant(p):
    """(log|det C J F|, how far it may be off by J's own unit and by elimination, is it then nearly linear?)."""
    J, of_J = p.rows(p.columns(p.claims["jacobian"].astype(np.float64))), p.forward_derivatives["jacobian"]
    J_room = p.rows(p.columns(unit(p, of_J.kappa), room=True), room=True) + room_of_tangents(p, of_J.value)
    sign, reference = np.linalg.slogdet(J)
    regular = (sign != 0) & np.isfinite(reference)
    inverse = np.linalg.inv(np.where(regular[:, None, None], J, np.eye(J.shape[-1])))
    entries = np.swapaxes(np.abs(inverse), -1, -2)
    if p.normwise:
        moved = np.linalg.norm(inverse, axis=(-2, -1)) * J_room.max((-2, -1), initial=0)
    else:
        moved = (entries * J_room).sum((-2, -1))
    elimination = 4 * p.size_in * U * np.linalg.norm(inverse, axis=(-2, -1)) * np.linalg.norm(J, axis=(-2, -1))
    return reference, 2 * moved + elimination, regular & (moved + elimination < 2.0**-4)


def room_of_tangents(p, J):
    """How far C J F may be off in float64 because C and F are rounded."""
    if p.tangents is None and p.chart is not None:
        return 0.0
    return 4 * p.size_out * U * p.rows(p.columns(np.abs(J), room=True), room=True)


@law("images move along the tangents of their set")
def along_the_set(f, p):
    """J F = T C J F, with the tangents T of the codomain at f(z): an image stays in its set when the event moves in its own."""
    if not f.codomain.thin:
        return
    x = p.forward_sensitivities[0].value.reshape(p.batch + p.event_out)
    moves, T = p.columns(p.forward_derivatives["jacobian"].value), p.g.codomain.basis(x, f.event_ndim[1])
    within, size = T @ p.rows(moves), np.abs(moves) + np.abs(T) @ p.rows(np.abs(moves), room=True)
    room = p.C * U * (size + p.columns(p.forward_derivatives["jacobian"].kappa, room=True)).max(-2, keepdims=True, initial=0)
    bounded(room)
    off = ~(np.abs(moves - within) <= room) & np.isfinite(room)
    expect(not off.any(), f"{f.codomain}: an image is moved by {moves[off.any((-2, -1))][:1].tolist()}; {f!r}")


@law("the ratio of two measures is 1/2 log det T^T T")
def ratio_of_measures(f, p):
    """So is that of own volume and coordinates, for sets that say it, with the tangents T = dx/du of the coordinates u."""
    x = p.forward_sensitivities[0].value.reshape(p.batch + p.event_out)
    for where, event, ndim in ((f.domain, p.z64, f.event_ndim[0]), (f.codomain, x, f.event_ndim[1])):
        if where.log_ratio and ndim == where.rank:
            T = where.charted.basis(event, ndim)
            expected, given = np.linalg.slogdet(T.mT @ T)[1] / 2, where.log_ratio(event)[0]
            room = U * (p.C * (1 + np.abs(expected)) + (np.linalg.cond(T.mT @ T) if T.size else 0))
            bounded(room)
            off = ~(np.abs(given - expected) <= room)
            expect(not off.any(), f"{where}: the ratio is {given[off][:1]}, by its tangents {expected[off][:1]}; {f!r}")


@law("inverse log-det is minus log-det")
def inverse_log_det(f, p):
    """log|det dz/dx| at f(z) = -log|det dx/dz| at z."""
    if p.interior.any():
        of_l, of_x = p.inverse_sensitivities[1], p.forward_sensitivities[0]
        bound = unit(p, of_l.kappa) + of_l.moved("event", unit(p, of_x.kappa)) + unit(p, p.forward_sensitivities[1].kappa)
        given = f.inverse_and_log_det(p.inner_x)[1]
        hold(p, "log|det dz/dx|", distance(given, -p.log_det)[:, None], bound, p.interior)


@law("fused is separate")
def fused(f, p):
    """Fused methods give the same as separate ones: forward, log_det, inverse, and the values of both vjps."""
    of_x, of_log_det = p.forward_sensitivities
    x, (x_vjp, log_det_vjp) = unit(p, of_x.kappa), f.vjp(p.z)[0]
    for what, given in (("forward", f.forward(p.z)), ("vjp", x_vjp)):
        close(p, f"x of {what}", flat(given, p.batch), flat(p.x, p.batch), 2 * x)
    for what, given in (("log_det", f.log_det(p.z)), ("vjp", log_det_vjp)):
        hold(p, f"log_det of {what}", distance(given, p.log_det), 2 * unit(p, of_log_det.kappa[:, 0]))
    if p.interior.any():
        of_z, of_inverse = p.inverse_sensitivities
        z, log_det = f.inverse_and_log_det(p.inner_x)
        z_vjp, log_det_vjp = f.inverse_vjp(p.inner_x)[0]
        for what, given in (("inverse", f.inverse(p.inner_x)), ("inverse_vjp", z_vjp)):
            close(p, f"z of {what}", flat(given, p.batch), flat(z, p.batch), 2 * unit(p, of_z.kappa), p.interior)
        hold(p, "log_det of inverse_vjp", distance(log_det_vjp, log_det), 2 * unit(p, of_inverse.kappa[:, 0]), p.interior)


# -- derivatives ------------------------------------------------------------------------------------------------------

@law("jacobian is the derivative")
def jacobian(f, p):
    """Every entry of the Jacobian against its finite difference; along the tangents, if the domain is of lower dimension."""
    fd, given = event_differences(p), p.columns(p.claims["jacobian"])
    bound = p.columns(unit(p, p.forward_derivatives["jacobian"].kappa), room=True)
    usable = (fd.error <= FD_ERROR * fd.scale) & (fd.h > 0)[:, None, :]         # whole numbers do not move
    error = np.where(usable, distance(given, fd.jacobian), 0)
    hold(p, "jacobian", error, 10 * np.where(usable, fd.error, 0) + bound)
    return tried(~usable & (fd.h > 0)[:, None, :])


@law("pullback is the transposed Jacobian")
def pullback_transposed(f, p):
    """z_bar = J^T x_bar if log_det_bar is 0, along the tangents."""
    view, z = p.own
    with np.errstate(all="ignore"):
        z_bar, _ = view.vjp(z)[1](p.bars[0], np.zeros_like(p.bars[1]))
    of_J = p.forward_derivatives["jacobian"]
    J, kappa = (a.reshape(p.batch + (p.size_out, p.size_in)) for a in (of_J.value, of_J.kappa))
    x_bar = flat(p.bars64[0], p.batch)[..., None]
    # J, J's own unit and the cotangent's each weigh |J| |x_bar|
    bound = (2 * unit(p, kappa) * np.abs(x_bar)).sum(-2) + p.C * p.spacing
    close(p, "z_bar", p.along(flat(z_bar, p.batch)), p.along((J * x_bar).sum(-2)), p.along(bound, room=True))


def loss_differences(p):
    if "loss_differences" not in vars(p):
        p.loss_differences = LossDifferences(p)
    return p.loss_differences


@law("pullback is the gradient")
def pullback_gradient(f, p):
    """z_bar, along the tangents, and every parameter's cotangent against finite differences of L = <x_bar, x> + l_bar l."""
    fd, rejected, count = loss_differences(p), 0, 0
    for name in fd.inputs:
        if fd.inputs[name].shape[-1]:
            reference, e, scale = fd.gradient(name)
            usable = (e <= FD_ERROR * scale) & (fd.h[name] > 0)         # a 0 of a triangle does not move
            given, room = p.claims[name], unit(p, p.forward_derivatives[name].kappa)
            given, room = (p.along(given), p.along(room, room=True)) if name == "event" else (given, room)
            bound = 10 * np.where(usable, e, 0) + room
            error = np.where(usable, distance(given, reference), 0)
            hold(p, label("z", name), error, bound)
            rejected, count = rejected + np.sum(~usable & (fd.h[name] > 0)), count + usable.size
    return int(rejected), int(count)


def label(letter, name):
    return f"{letter}_bar" if name == "event" else f"{'.'.join(name)}_bar"


@law("Taylor remainder falls as h^2")
def taylor(f, p):
    """|L(w + h v) - L(w) - h <grad, v>| <= h^2 sup|L''| for shrinking h, where w is all inputs and sup is taken from second
    differences.

    A shorter h looks closer: its second differences see features near w, such as the bend of a saturated tanh, that a longer
    h misses.  An h that is long enough to reach a hyperplane of breaks would judge the jump there, not the gradient.
    """
    fd = loss_differences(p)
    direction = fd.direction()
    slope = sum((p.claims[b].astype(np.float64) * v).sum(-1) for b, v in direction.items())
    # the rounding of the claim, in its own dtype
    rounding = sum(gradient_unit(p, b, np.abs(v)) for b, v in direction.items())
    for steps in ((SHORT,), (2.0**-18, 2.0**-14, 2.0**-10)):
        curvature = 0.0             # of the shortest h, it is mostly rounding, which a longer one would magnify
        for h in steps:
            L = fd.along(direction, np.arange(5) * h / 4)
            curvature = np.fmax(curvature, np.abs(L[2:] - 2 * L[1:-1] + L[:-2]).max(0) * (4 / h) ** 2)
            bound = h**2 * curvature + 16 * p.C * U * np.maximum(fd.kappa, np.abs(L).max(0)) + h * rounding
            hold(p, f"remainder at h = {h}", np.abs(L[-1] - L[0] - h * slope), bound, np.isfinite(L).all(0))


def gradient_unit(p, block, weights):
    return (unit(p, p.forward_derivatives[block].kappa) * weights).sum(-1)


@law("inverse pullback is the generic one")
def inverse_pullback(f, p):
    """A page's inverse_vjp against the gradient that follows from its forward pullback and Jacobian.

    The generic one is not backward stable.  Its error is followed through its steps: z, u = z_bar - l_bar grad l,
    w = J^-T u, and the forward pullback at (-w, -l_bar).
    """
    if not p.interior.any() or type(p.g).inverse_vjp is Bijector.inverse_vjp:
        return
    # an interior event stands for each of the others, with its parameters: to these, its image may be out of reach
    rows = np.where(p.interior, np.arange(len(p.interior)), np.argmax(p.interior))
    g, x, l_bar = event_of(p.g, rows), p.inner_x[rows].astype(np.float64), p.inverse_bars64[1]
    with np.errstate(all="ignore"):
        (z, _), pullback = Bijector.inverse_vjp(g, x)
        x_bar, params_bar = pullback(*p.inverse_bars64)
        generic = {"event": flat(x_bar, p.batch)} | {path: flat(v, p.batch) for path, v in flatten(params_bar)}
        room = generic_room(p, g, z, x_bar, l_bar)
        for name, override in p.inverse_derivatives.items():
            given, reference, bound = p.inverse_claims[name], generic[name], unit(p, override.kappa) + room[name]
            if name == "event" and p.f.codomain.thin:               # they agree in the tangent plane
                J = p.columns(jacobian_at(p, g, z))
                given, reference = ((bar[..., None] * J).sum(-2) for bar in (given, reference))
                bound = carried(bound, J, p.normwise)
            close(p, label("x", name), given, reference, bound, p.interior & moves_inside(p, z))


def carried(bound, J, normal):
    """How far J^T w moves when each entry of w moves by its bound, or, for normwise pages, w in norm by the largest bound."""
    if normal:
        return bound.max(-1, keepdims=True) * np.linalg.norm(J, 2, (-2, -1))[..., None]
    return (bound[..., None] * np.abs(J)).sum(-2)


def moves_inside(p, z):
    """Marks of the z that the steps of differences do not take out of the domain; on a thin set, the steps are others."""
    return p.f.domain.thin or p.f.domain.members(z * (1 + DELTA), p.f.event_ndim[0])


def jacobian_at(p, g, z):
    return g.jacobian(z).reshape(p.batch + (p.size_out, p.size_in))


def generic_room(p, g, z, x_bar, l_bar):
    """{name: error bound} of the generic inverse pullback in float64, step by step."""
    z_room = p.C * U * p.inverse_sensitivities[0].kappa
    step = differenced(forward_derivatives, g, z, (np.zeros_like(x_bar), l_bar), p.normwise)
    J_room = p.rows(p.columns(rooms(p, step["jacobian"], z_room), room=True), room=True)
    J_room = J_room + room_of_tangents(p, step["jacobian"].value)
    u_room = p.along(rooms(p, step["event"], z_room) + U * np.abs(flat(p.inverse_bars64[0], p.batch)), room=True)
    w = p.rows(flat(x_bar, p.batch)[..., None])[..., 0]
    J = p.rows(p.columns(jacobian_at(p, g, z)))
    regular = np.isfinite(J).all((-2, -1)) & (np.linalg.slogdet(np.where(np.isfinite(J), J, 0))[0] != 0)
    inverse = np.linalg.inv(np.where(regular[:, None, None], J, np.eye(J.shape[-1])))
    condition = np.linalg.norm(inverse, axis=(-2, -1)) * np.linalg.norm(J, axis=(-2, -1))
    moved = u_room + (J_room * np.abs(w)[..., None]).sum(-2)
    if p.normwise:
        w_square = np.linalg.norm(inverse, axis=(-2, -1))[:, None] * np.linalg.norm(moved, axis=-1, keepdims=True)
        w_square = np.broadcast_to(w_square, moved.shape)
    else:
        w_square = (np.abs(inverse) * moved[..., None]).sum(-2)
    w_square = w_square + (4 * p.size_in * U * condition * np.linalg.norm(w, axis=-1))[:, None]
    w_room = p.entries(w_square, room=True)
    last = differenced(forward_derivatives, g, z, (-x_bar, -l_bar), p.normwise)
    return {"event": w_room} | {path: rooms(p, last[path], z_room) + last[path].moved("image_bar", w_room)
                                for path, _ in flatten(p.g.params())}


def rooms(p, s, z_room):
    return p.C * U * s.kappa + s.moved("event", z_room)


# -- batches ----------------------------------------------------------------------------------------------------------

@law("batch is the stack of singles")
def singles(f, p):
    """An event alone gives the same as in a batch."""
    view, z = p.own
    for i in sorted({0, len(z) // 2, len(z) - 1}):
        alone = event_of(view, i)
        with np.errstate(all="ignore"):
            x, log_det = alone.forward_and_log_det(z[i])
            found = forward_derivatives(alone, z[i], (p.bars[0][i], p.bars[1][i]))
            back = inverse_derivatives(alone, p.inner_x[i], (p.inverse_bars[0][i], p.inverse_bars[1][i]))
        close_at(p, i, "x", x.ravel(), flat(p.x, p.batch)[i], p.forward_sensitivities[0].kappa[i])
        close_at(p, i, "log_det", log_det.ravel(), p.log_det[i:i + 1], p.forward_sensitivities[1].kappa[i])
        for name, value in found.items():
            close_at(p, i, f"forward {name}", value, p.claims[name][i], p.forward_derivatives[name].kappa[i])
        for name, value in back.items():
            if p.interior.any():
                close_at(p, i, f"inverse {name}", value, p.inverse_claims[name][i], p.inverse_derivatives[name].kappa[i])


def close_at(p, i, what, given, reference, kappa):
    expect(given.shape == reference.shape, f"{what} of event {i} alone has shape {given.shape}, not {reference.shape}")
    error, room = distance(given, reference, p.normwise), 2 * unit(p, kappa)
    bounded(room)
    if not (error <= room).all():
        raise Broken(f"{what} of event {i} alone is off by {error.max(initial=0):.3g}; {p.f!r}")


@law("cotangents sum over what broadcast")
def broadcasting(f, p):
    """params_bar is the sum of the events' own cotangents over exactly the axes that broadcast; so is an event's cotangent."""
    checks = [("vjp", p.z, (p.x_bar, p.log_det_bar), p.claims, p.forward_derivatives)]
    if p.interior.any():
        checks.append(("inverse_vjp", p.inner_x, (p.z_bar, p.log_det_bar), p.inverse_claims, p.inverse_derivatives))
    expected = flatten(f.params())
    for method, event, bars, own, derivatives in checks:
        event_bar, params_bar = getattr(f, method)(event)[1](*bars)
        expect(np.shape(event_bar) == np.shape(event), f"{method}: event cotangent of shape {np.shape(event_bar)}")
        given = flatten(params_bar)
        found, wanted = ([(path, np.shape(v)) for path, v in leaves] for leaves in (given, expected))
        expect(found == wanted, f"{method}: params_bar has {found}, params {wanted}")
        for path, bar in given:
            if not bar.size:
                continue
            each = own[path].reshape(np.shape(dict(flatten(p.own[0].params()))[path])).astype(np.float64)
            kappa = derivatives[path].kappa.reshape(each.shape)
            total, room, size = (summed(a, bar.shape) for a in (each, unit(p, kappa), np.abs(each)))
            room = room + (len(p.z64) + each.size / max(1, bar.size)) * p.u * size
            error = distance(bar, total)
            if p.normwise:
                error, room = np.linalg.norm(error), np.linalg.norm(room)
            bounded(room)
            expect(np.all(error <= room), f"{method}: {'.'.join(path)}_bar is not the sum of the events' own "
                                          f"(off by {np.max(error):.3g}, bound {np.min(room):.3g}); {f!r}")
    one = event_for_all(f, p)
    if one is not None:
        image_bar, _ = f.vjp(one)[1](p.x_bar[:1], p.log_det_bar[:1])
        expect(image_bar.shape == one.shape, f"z_bar of one event has shape {image_bar.shape}, not {one.shape}")


def event_for_all(f, p):
    """One event, (1, *event), inside the domain of all parameters, where they move its ends; None if there is none."""
    if f.domain.alike:
        return p.z[:1]
    return next((p.z[i:i + 1] for i in range(len(p.z)) if not np.any(f.domain.outside(p.z[i:i + 1]))), None)


def summed(each, shape):
    """Sum over the leading axes that `shape` lacks and over its axes of size 1."""
    while each.ndim > len(shape):
        each = each.sum(0)
    axes = tuple(i for i, n in enumerate(shape) if n != each.shape[i])
    return each.sum(axes, keepdims=True)


@law("any layout")
def layouts(f, p):
    """0-d, empty, strided, read-only and broadcast inputs give the results of plain ones, in the right shapes."""
    n, lead = len(p.z), f.parameter_batch
    strided = np.zeros((2 * n, *p.z.shape[1:]), p.z.dtype)
    strided[::2] = p.z
    strided = strided[::2]
    fixed = p.z.copy()
    fixed.flags.writeable = False
    kappa_x, kappa_l = (2 * unit(p, s.kappa) for s in p.forward_sensitivities)
    for what, z in (("strided", strided), ("read-only", fixed), ("fortran", np.asfortranarray(p.z))):
        (x, log_det), pullback = f.vjp(z)
        pullback(p.x_bar, p.log_det_bar)
        close(p, f"x of a {what} array", flat(x, p.batch), flat(p.x, p.batch), kappa_x)
        hold(p, f"log_det of a {what} array", distance(log_det, p.log_det)[:, None], kappa_l)
    one = event_for_all(f, p)
    if one is not None:
        plain = Points(f, np.repeat(one, n, 0), p.x_bar, p.z_bar, p.log_det_bar)
        x, log_det = f.forward_and_log_det(np.broadcast_to(one, p.z.shape))
        shapes = np.shape(x), np.shape(log_det)
        expect(shapes == (plain.x.shape, plain.log_det.shape), f"a broadcast array gives shapes {shapes}; {f!r}")
        kappa_x, kappa_l = (2 * unit(plain, s.kappa) for s in plain.forward_sensitivities)
        close(plain, "x of a broadcast array", flat(x, p.batch), flat(plain.x, p.batch), kappa_x)
        hold(plain, "log_det of a broadcast array", distance(log_det, plain.log_det)[:, None], kappa_l)
    for method in ("forward_and_log_det", "vjp") if one is not None else ():
        x, log_det = f.forward_and_log_det(one[0]) if method != "vjp" else f.vjp(one[0])[0]
        expect(np.shape(x) == lead + p.event_out and np.shape(log_det) == lead,
               f"one event gives shapes {np.shape(x)} and {np.shape(log_det)}, not {lead + p.event_out} and {lead}")
    if lead in ((), (1,)):
        empty = p.z[:0]
        (x, log_det), pullback = f.vjp(empty)
        z_bar, _ = pullback(np.zeros(x.shape), np.zeros(log_det.shape))
        J = f.jacobian(empty)
        shapes = x.shape, log_det.shape, z_bar.shape, J.shape, f.inverse(p.inner_x[:0]).shape
        wanted = (0, *p.event_out), (0,), empty.shape, (0, p.size_out, p.size_in), empty.shape
        expect(shapes == wanted, f"an empty batch gives shapes {shapes}, not {wanted}")


@law("dtype is kept")
def dtype_kept(f, p):
    """Every result and cotangent has the dtype of the event and the fields."""
    wrong = {name: value.dtype for name, value in first_outputs(f, p).items() if value.dtype != p.dtype}
    expect(not wrong, f"{p.dtype} in, {wrong} out; {f!r}")


def first_outputs(f, p):
    """What the first law that asked was given."""
    if vars(p).get("first_asked") is not f:
        p.first_asked, p.first_outputs = f, outputs(f, p)
    return p.first_outputs


def outputs(f, p):
    """The results of all methods of the contract, by name."""
    (x, log_det), pullback = f.vjp(p.z)
    z_bar, params_bar = pullback(p.x_bar, p.log_det_bar)
    found = {"forward": f.forward(p.z), "log_det": f.log_det(p.z), "jacobian": f.jacobian(p.z)}
    found |= {"x of vjp": x, "log_det of vjp": log_det, "z_bar": z_bar}
    found |= dict(zip(("fused x", "fused log_det"), f.forward_and_log_det(p.z)))
    found |= {f"{'.'.join(path)}_bar": bar for path, bar in flatten(params_bar)}
    if p.interior.any():
        (z, log_det), pullback = f.inverse_vjp(p.inner_x)
        x_bar, params_bar = pullback(p.z_bar, p.log_det_bar)
        found |= {"inverse": f.inverse(p.inner_x), "inverse z": z, "inverse log_det": log_det, "x_bar": x_bar}
        found |= dict(zip(("inverse fused z", "inverse fused log_det"), f.inverse_and_log_det(p.inner_x)))
        found |= {f"inverse {'.'.join(path)}_bar": bar for path, bar in flatten(params_bar)}
    return found


# -- sequences with a mask --------------------------------------------------------------------------------------------

EVENTS_OF_X = ("forward", "x of vjp", "fused x", "x_bar")
EVENTS_OF_Z = ("z_bar", "inverse", "inverse z", "inverse fused z")


@law("padding changes nothing")
def padding(f, p):
    """Whatever stands at invalid positions, NaN or the largest number, all results are bitwise the same, and 0 there.

    A page itself ignores cotangents there, as a further stage of a chain may hand it.  In a batch of masks each event gets
    what it gets alone, and an event without valid positions gives 0.  If the valid positions come first, the sequence cut to
    them gives the same without a mask.
    """
    if not isinstance(f, AtValid):
        return
    clean = outputs(f.inner, padded(f, p, 0))
    for junk in (np.nan, np.inf, -np.inf, np.finfo(p.dtype).max):
        found = outputs(f.inner, padded(f, p, junk))
        for name, value in clean.items():
            same(f"{name}, padded with {junk}", (found[name],), (value,))
    for side, names in ((1, EVENTS_OF_X), (0, EVENTS_OF_Z)):
        outside = np.ones(int(np.prod(f.event_shape_of(side))), bool)
        outside[f.where(side)] = False
        for name in set(names) & set(clean):
            expect(not flat(clean[name], p.batch)[:, outside].any(), f"{name} is not 0 at invalid positions; {f.inner!r}")
    for name, given, ignored in zip(("vjp", "inverse_vjp"), inside(f, p, 0), inside(f, p, np.nan)):
        same(f"cotangents of {name} inside a chain", ignored, given)
    same("the map of valid entries", (f.taken(clean["fused x"], 1), clean["fused log_det"]), (p.x, p.log_det))
    every_other = np.arange(len(p.z)) % 2 == 0
    mask = f.inner.held("mask")[0]
    batched = outputs(f.inner.at(mask=every_other[:, None] & mask), padded(f, p, np.nan))
    as_alone(f, p, "with a batch of masks", at_valid_entries(f, batched), every_other)
    cut, shape = f.inner.at(mask=None), f.event_shape_of(0)
    if mask[:mask.sum()].all() and fits(cut, (*shape[:-1], int(mask.sum()))):
        as_alone(f, p, "of the sequence without its padding", outputs(cut, padded(f, p, None)), np.ones(len(p.z), bool))


def inside(f, p, junk):
    """[the cotangents that f's own pullback and its inverse's give, with something at invalid positions of the image's]."""
    view, clean, dirty = f.inner.unchecked(p.dtype), padded(f, p, 0), padded(f, p, junk)
    asked = [(view.vjp, clean.z, dirty.x_bar)] + ([(view.inverse_vjp, clean.inner_x, dirty.z_bar)] if p.interior.any() else [])
    with np.errstate(all="ignore"):
        found = [method(event)[1](bar.astype(p.dtype), p.log_det_bar.astype(p.dtype)) for method, event, bar in asked]
    return [[event_bar, *(bar for _, bar in flatten(params_bar))] for event_bar, params_bar in found]


def padded(f, p, junk):
    """The points as sequences with something at invalid positions; if this is None, as sequences without these positions."""
    def sequences(entries, side):
        shape = f.event_shape_of(side)
        return entries.reshape(*entries.shape[:-1], *shape[:-1], -1) if junk is None else f.placed(entries, side, junk)

    x = sequences(p.inner_x, 1) if p.interior.any() else None
    return SimpleNamespace(z=sequences(p.z, 0), x_bar=sequences(p.x_bar, 1), z_bar=sequences(p.z_bar, 0), inner_x=x,
                           log_det_bar=p.log_det_bar, interior=p.interior)


def at_valid_entries(f, found):
    sides = dict.fromkeys(EVENTS_OF_X, 1) | dict.fromkeys(EVENTS_OF_Z, 0)
    return {name: f.taken(value, sides[name]) if name in sides else value for name, value in found.items()}


def as_alone(f, p, what, found, kept):
    """The map of valid entries gives the results of the events that are kept; the others give 0."""
    of_x, of_log_det = p.forward_sensitivities
    claims = [("forward", p.x, of_x.kappa), ("log_det", p.log_det, of_log_det.kappa),
              ("z_bar", p.claims["event"], p.forward_derivatives["event"].kappa)]
    bars = [("", p.claims, p.forward_derivatives)]
    if p.interior.any():
        (z, log_det), (of_z, of_inverse) = f.inverse_and_log_det(p.inner_x), p.inverse_sensitivities
        claims += [("inverse", z, of_z.kappa), ("inverse log_det", log_det, of_inverse.kappa),
                   ("x_bar", p.inverse_claims["event"], p.inverse_derivatives["event"].kappa)]
        bars += [("inverse ", p.inverse_claims, p.inverse_derivatives)]
    for name, expected, kappa in claims:
        given = flat(found[name], p.batch)
        expect(not given[~kept].any(), f"{name} {what} is not 0 without valid positions; {f.inner!r}")
        close(p, f"{name} {what}", given, flat(expected, p.batch), 2 * unit(p, kappa), kept)
    for prefix, own, derivatives in bars:
        for path, given in flatten(f.params()):
            name = f"{prefix}{'.'.join(path if path == ('context',) else path[1:])}_bar"
            shape = np.shape(dict(flatten(p.own[0].params()))[path])
            each, kappa = (np.where(kept.reshape(-1, *(1,) * (len(shape) - 1)), a.reshape(shape).astype(np.float64), 0)
                           for a in (own[path], derivatives[path].kappa))
            total, room, size = (summed(a, given.shape) for a in (each, 2 * unit(p, kappa), np.abs(each)))
            error, room = distance(found[name], total), room + (len(p.z) + each.size / max(1, given.size)) * p.u * size
            error, room = (np.linalg.norm(error), np.linalg.norm(room)) if p.normwise else (error, room)
            bounded(room)
            expect(np.all(error <= room), f"{name} {what} is off by {np.max(error, initial=0):.3g}; {f.inner!r}")


# -- a value ----------------------------------------------------------------------------------------------------------

@law("nothing is mutated")
def nothing_mutated(f, p):
    """No method and no pullback writes to its arguments or to the bijector's fields; the caller owns the results."""
    held = [p.z, p.x_bar, p.z_bar, p.log_det_bar, p.inner_x] if p.interior.any() else [p.z, p.x_bar, p.log_det_bar]
    before = [a.tobytes() for a in held] + [v.tobytes() for _, v in flatten(f.params())]
    outputs(f, p)
    after = [a.tobytes() for a in held] + [v.tobytes() for _, v in flatten(f.params())]
    expect(before == after, f"an argument or a field was changed; {f!r}")
    expect(not any(v.flags.writeable for _, v in flatten(f.params())), "a field can be written to")


@law("deterministic")
def deterministic(f, p):
    """The same call gives the same bits."""
    for name, again in outputs(f, p).items():
        same(name, (again,), (first_outputs(f, p)[name],))


@law("threads may share")
def threads(f, p):
    """Four threads on different parts of the batch get the same as they would alone."""
    if f.parameter_batch not in ((), (1,)):
        return
    parts = np.array_split(p.z, 4)
    alone = [f.forward_and_log_det(part) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        shared = list(pool.map(f.forward_and_log_det, parts))
    for part, expected in zip(shared, alone):
        same("a result", part, expected)


@law("pickles")
def pickles(f, p):
    """Pickled, copied, or rebuilt from itself, f is bitwise equal, knows the same sizes, and computes the same."""
    for what, again in (("pickled", pickle.loads(pickle.dumps(f))), ("copied", copy.deepcopy(f)), ("replaced", f.replace())):
        expect(again.equals(f) and f.equals(again), f"{what}, it is {again!r}, not {f!r}")
        expect(again.dims == f.dims, f"{what}, it has the sizes {again.dims}, not {f.dims}; {f!r}")
        same(f"log_det of f {what}", (again.log_det(p.z),), (f.log_det(p.z),))


@law("one vector")
def one_vector(f, p):
    """ravel, unravel: all parameters as one vector and back, in the order of params()."""
    vector = f.ravel()
    leaves = flatten(f.params())
    expect(vector.shape == (sum(v.size for _, v in leaves),), f"ravel has shape {vector.shape}")
    same("ravel", (vector,), (np.concatenate([v.ravel() for _, v in leaves]) if leaves else np.zeros(0),))
    expect(f.unravel(vector).equals(f), f"unravel(ravel()) is {f.unravel(vector)!r}")
    again = flatten(f.unravel_params(vector))
    expect([path for path, _ in again] == [path for path, _ in leaves], f"unravel_params has {[path for path, _ in again]}")


# -- refusals ---------------------------------------------------------------------------------------------------------

@law("bad parameters are refused")
def bad_parameters(f, p):
    """Each field's rule, broken at its last entry: ValueError with class, field, rule, index and value; arrays unchanged."""
    for key, field in f.declared.items():
        held = getattr(f, key)
        if not isinstance(field, Field) or held is None or not held.size:
            continue
        for bad, index in broken_members(field, held):
            before = bad.tobytes()
            message = refusal(lambda: f.replace(**{key: bad}), f"{key} = {bad.tolist()!r}")    # noqa: B023
            place = f"{key}[{', '.join(map(str, index))}] = " if index else f"{key} = "
            for part in (type(f).__name__, key, field.set.rule, place):
                expect(part in message, f"the refusal of {key} = {bad.tolist()!r} does not name {part!r}: {message}")
            expect(bad.tobytes() == before, f"refusing {key} changed the caller's array")
        if not field.constant:
            for wrong in wrong_dtypes(held):
                message = refusal(lambda: f.replace(**{key: wrong}), f"{key} of dtype {wrong.dtype}")      # noqa: B023
                expect(type(f).__name__ in message and key in message, f"the refusal of a dtype names neither: {message}")


def broken_members(field, held):
    """[(array that breaks the rule of the set, index of the violation)]: NaN, ends, and structure."""
    rank = 0 if field.set.entrywise else field.set.rank
    index = tuple(n - 1 for n in held.shape[:held.ndim - rank])
    candidates = [] if field.constant else [held * 0 + np.nan, held * 0 + np.inf]
    candidates += [0 - held, held * 0, held * 0 + 1, held * 2] + ([held.swapaxes(-1, -2)] if field.set.rank == 2 else [])
    candidates += [np.full_like(held, end) for end in (field.set.lower, field.set.upper) if np.isfinite(end)]
    found = []
    for candidate in candidates:
        bad = held.copy()
        bad[index] = candidate[index]
        if rank == 0 and field.set.rank and not field.constant and np.isfinite(bad).all():
            bad = held * 0 + 1          # a triangle: every entry is wrong, the first is named
        wrong = field.set.first_outside(bad)
        if wrong is not None:
            found.append((bad, wrong[0]))
    return found


@law("bad plain fields are refused")
def bad_plain_fields(f, p):
    """A plain field that has a rule refuses what breaks it: ValueError with class, field and rule."""
    for key, declared in f.declared.items():
        if isinstance(declared, Plain) and declared.rule is not None:
            for bad in declared.rule.broken:
                message = refusal(lambda: f.replace(**{key: bad}), f"{key} = {bad!r}")          # noqa: B023
                wanted = f"{type(f).__name__}: {key} must {declared.rule.text}"
                expect(wanted in message, f"the refusal of {key} = {bad!r} does not say {wanted!r}: {message}")


@law("constants fit the dtype")
def constants_fit(f, p):
    """A plain constant that is infinite or 0 in float32 is refused where f is used in float32, by class, field and value."""
    for key, declared in f.declared.items():
        for bad in EXTREME if isinstance(declared, Plain) and declared.rule is not None else ():
            if not declared.rule.holds(bad):
                continue
            try:
                made = f.replace(**{key: bad})
            except ValueError:                      # its fields do not fit together
                continue
            made.unchecked(np.float64)
            message = refusal(lambda: used(made.astype(np.float32), p), f"{key} = {bad!r} in float32")      # noqa: B023
            wanted = f"{type(f).__name__}: {key} must be a number that float32 holds, not {bad!r}"
            expect(message.startswith(wanted), f"the refusal of {key} = {bad!r} is not {wanted!r}: {message}")


def used(f, p):
    """What f is in float32, or its images, if there are events; of a domain that is too narrow for them, the simplest event's."""
    if p is None:
        return f.unchecked(np.dtype(np.float32))
    z = p.z.astype(np.float32)
    with np.errstate(over="ignore"):                # the ends of the domain may be infinite in float32
        inside = f.domain.members(z, f.event_ndim[0]).all()
        return f.forward(z if inside else f.domain.plainest(z.shape).astype(np.float32))


@law("refusals are named", once=True)
def named_refusals(f, p):
    """What a page lists as refused raises a ValueError that names the class and says why, whether it is made or called."""
    page = type(f)
    for case in page.refused:
        if case.event is None:
            message = refusal(lambda: page(**case.params), f"{page.__name__}(**{case.params})")         # noqa: B023
        else:
            made, event = page(**case.params), np.asarray(case.event, float)
            message = refusal(lambda: made.forward(event), f"an event of shape {event.shape} of {made!r}")     # noqa: B023
        for part in (f"{page.__name__}: ", case.message):
            expect(part in message, f"the refusal does not say {part!r}: {message}")


@law("hard cases are accepted", once=True)
def accepted(f, p):
    """A page takes its own hard cases, if they give all fields that have no default: it makes the value, and maps the events."""
    page = type(f)
    for case in whole_cases(page):
        made = page(**case.params)
        for event in case.z if page.kind in ("bijector", "conditioner") else ():
            made.forward(np.asarray(event, float))


def whole_cases(page):
    """The hard cases that give all fields that have no default."""
    needed = {key for key, declared in page.declared.items() if has_no_default(declared)}
    return [case for case in page.hard_cases if needed <= case.params.keys()]


def has_no_default(declared):
    """Must a field be given?"""
    if isinstance(declared, Field):
        return declared.default is None and not declared.optional
    return getattr(declared, "default", MISSING) is MISSING


def run_value_laws(value, wanted=every) -> None:
    """The laws that ask only what a value of any kind holds, and the law of scales, or those wanted; AssertionError with one line
    for each that is broken.
    """
    laws = {name: LAWS[name] for name in OF_VALUES} | (scale_laws.LAWS if value.kind == "scale" else {})
    asked(((name, check, value, None) for name, check in laws.items()), wanted)


def wrong_dtypes(array):
    with np.errstate(over="ignore"):
        return [array.astype(t) for t in (np.float16, np.longdouble, complex, object, str)]


@law("bad events are refused")
def bad_events(f, p):
    """NaN, an event outside, a wrong shape or dtype: ValueError with class, argument and rule; no array is changed."""
    if not p.interior.any():
        return
    for side, good in ((0, p.z), (1, p.inner_x)):
        where, letter = (f.domain, f.codomain)[side], "zx"[side]
        methods = [m for m, s in METHODS.items() if s == side] + [("vjp", "inverse_vjp")[side]]
        for bad in bad_values(where, good):
            before = bad.tobytes()
            for method in methods:
                message = refusal(lambda: getattr(f, method)(bad), f"{method} of {bad.ravel()[-1]!r}")     # noqa: B023
                for part in (type(f).__name__, f"{letter} ", f"{letter}[", "] = "):
                    expect(part in message, f"{method}: the refusal does not name {part!r}: {message}")
                rules = where.rule.split(" / ")
                expect(any(rule in message for rule in rules), f"{method}: the refusal names none of {rules}: {message}")
            expect(bad.tobytes() == before, "refusing an event changed the caller's array")
        for bad in wrong_shapes(f, good, side) + wrong_dtypes(good):
            for method in methods:
                message = refusal(lambda: getattr(f, method)(bad), f"{method} of shape {bad.shape}, dtype {bad.dtype}")    # noqa: B023
                expect(type(f).__name__ in message and letter in message, f"{method}: the refusal names neither: {message}")


def bad_values(where, good):
    """Arrays whose last entry is NaN, or infinite (if that is outside), or beyond an end."""
    values = [np.nan, np.inf, -np.inf] + [end + d for end, d in ((where.lower, -1), (where.upper, 1)) if np.isfinite(end)]
    found = []
    for value in values:
        bad = good.copy()
        bad.reshape(-1)[-1] = value
        if bad.size and (not np.isfinite(value) or where.rank == 0):
            found.append(bad)
    return found


def wrong_shapes(f, good, side):
    """Too few axes; one entry too many if the size is known; a parameter batch that does not fit."""
    ndim = f.event_ndim[side]
    found = [np.ones(np.shape(good)[:ndim - 1], good.dtype)] if ndim else []
    if ndim and known_size(f):
        found.append(np.concatenate((good, good[..., :1]), -1))
    if f.parameter_batch not in ((), (1,)):
        found.append(np.repeat(good, 2, 0))
    return found


def known_size(f):
    return bool(set(f.dims) & {"D"}) and f.event_ndim == (1, 1)


# -- how values are made ----------------------------------------------------------------------------------------------

@law("the same in another precision")
def precisions(f, p):
    """A float32 value as float64 keeps the rules of its fields, moves none by more than rounding, and comes back.

    As its own dtype, a value stays as it is.  An orthogonal matrix Q of D columns is one in float64 to (D + 2) u in each entry
    of Q^T Q.
    """
    same("as its own dtype", *([array for _, array in flatten(g.params())] for g in (f.astype(f.dtype), f)))
    if f.dtype != np.float32:
        return
    wide = f.astype(np.float64)
    wide.replace()                                  # holds the fields to their rules
    for key, field in wide.own_fields().items():
        if field.set is sets.orthogonal:
            Q = getattr(wide, key)
            off = np.abs(Q.mT @ Q - np.eye(Q.shape[-1])).max()
            expect(off <= (Q.shape[-1] + 2) * U, f"as float64, {key}^T {key} is off by {off / U:.3g} u; {f!r}")
    for what, other in (("float64", wide), ("float32 again", wide.astype(np.float32))):
        for (path, mine), (_, theirs) in zip(flatten(f.params()), flatten(other.params()), strict=True):
            off = np.abs(theirs.astype(np.float64) - mine).max(initial=0)
            bound = 4 * len(mine.shape) * max(1, *mine.shape, 1) * 2.0**-24 * np.abs(mine).max(initial=0)
            expect(off <= bound, f"as {what}, {'.'.join(path)} moves by {off:.3g}; {f!r}")


@law("event shapes are those of the events")
def shapes(f, p):
    """output_shape and input_shape say what forward and inverse give; another shape is refused or obeyed, both ways."""
    expect(tuple(f.output_shape(p.event_in)) == p.event_out, f"output_shape of {p.event_in} is not {p.event_out}; {f!r}")
    expect(tuple(f.input_shape(p.event_out)) == p.event_in, f"input_shape of {p.event_out} is not {p.event_in}; {f!r}")
    for side, shape, rule, method in ((0, p.event_in, f.output_shape, f.forward), (1, p.event_out, f.input_shape, f.inverse)):
        where, letter = (f.domain, f.codomain)[side], f.letters[side]
        for other in beside(shape):
            try:
                image = tuple(rule(other))
                event = where.draw(RandomSource(np.random.default_rng(0)), (1, *other), p.dtype, 1)
            except ValueError:
                event = np.ones((1, *other), p.dtype)
                message = refusal(lambda: method(event), f"an event of shape {other}")          # noqa: B023
                expect(f"{type(f).__name__}: {letter} " in message, f"the refusal of shape {other} names neither: {message}")
                continue
            expect(method(event).shape[1:] == image, f"an event of shape {other} has an image not of shape {image}; {f!r}")


@law("parts fill the event")
def parts(f, p):
    """part_shapes says of what an event is made: as many entries as it has, and images where a page flattens them."""
    for side, shape in enumerate((p.event_in, p.event_out)):
        found = f.part_shapes(shape, side)
        filled = sum(map(math.prod, found)) == math.prod(shape)
        expect(filled, f"the parts {found} do not fill an event of shape {shape}; {f!r}")
        expect(f.event_ndim[side] == 1 or found == [tuple(shape)], f"{found} are not the event of shape {shape}; {f!r}")
        expect(len(found) == 1 or all(map(math.prod, found)), f"of {found}, one part is empty; {f!r}")
        rank = f.event_ndim[1 - side] if f.event_ndim[side] == 1 else f.event_ndim[side]
        own = type(f).part_shapes is not Bijector.part_shapes and not isinstance(f, (Chain, Inverse, Independent))
        expect(not own or all(len(part) == rank for part in found), f"the parts {found} do not have rank {rank}; {f!r}")


def beside(shape):
    """The shape with one axis longer or shorter by one."""
    return [(*shape[:i], n + d, *shape[i + 1:]) for i, n in enumerate(shape) for d in (1, -1) if n + d > 0]


@law("initialisation standardises")
def initialisation(f, p):
    """A page that initialises itself from data maps these to mean 0 and variance 1 in every channel, whatever the direction.

    So it does for data near the largest number, and in each member of a batch of values.
    """
    if not initialises(f):
        return
    rng = np.random.default_rng(0)
    for lead in ((), (2,)):
        g = in_batch(f, lead)
        data = rng.normal(3, 5, (MANY, *lead, *p.event_in)).astype(p.dtype)
        for values in (data, one_sided(data)):
            standardised(g, values, 1 + len(lead))


@law("initialisation is settled")
def settled(f, p):
    """Initialised again on the same data, a composition stays as it is: each part was initialised on what it meets."""
    if not f.components() or f.parameter_batch != () or nets_of(f):
        return
    z = f.domain.draw(RandomSource(np.random.default_rng(0)), (MANY, *p.event_in), p.dtype, 1)
    z = z[stays_inside(f, z, 2.0**-18, 2.0**100)]
    if len(z) < MANY // 4:
        return
    for data, method in ((z, "initialised"), (f.forward(z), "inverse_initialised")):
        made = getattr(f, method)(data, None)
        again = getattr(made, method)(data, None)
        for (path, one), (_, other) in zip(flatten(made.params()), flatten(again.params()), strict=True):
            off = np.abs(one - other).max(initial=0) if one.shape == other.shape else np.inf
            room = 2.0**-8 * (1 + np.abs(one).max(initial=0))
            expect(off <= room, f"{method} again moves {'.'.join(path)} by {off:.3g}; {f!r}")


def initialises(f):
    return callable(getattr(f, "statistics", None)) and f.parameter_batch == () and getattr(f, "eps", 0) is not None


def one_sided(data):
    """Negative numbers near the largest one, and in each channel a positive one near the smallest."""
    most = np.finfo(data.dtype).maxexp - 8
    huge = -np.abs(np.ldexp(data, most))
    huge[0] = 2.0**-most
    return huge


def standardised(f, data, channels):
    for made, method in ((f.initialised(data, None), "forward"), (f.inverse_initialised(data, None), "inverse")):
        out = getattr(made, method)(data).astype(np.float64)
        rest = (0, *range(channels + 1, out.ndim))
        mean, variance = out.mean(rest), out.var(rest)
        close_to = np.abs(mean).max() < 2.0**-8 and np.abs(variance - 1).max() < 2.0**-4
        expect(close_to, f"{method} of the data it was initialised on has mean {mean}, variance {variance}; {made!r}")


@law("initialisation is exact")
def exact_initialisation(f, p):
    """The mean and the deviation that a page is initialised with are within a few roundings of the exact ones.

    So they are for two events, where n and n - 1 are far apart; for deviations as small as an eps or a floor; and for data
    that agree in all digits but the last.
    """
    if not initialises(f):
        return
    rng = np.random.default_rng(0)
    near = (1 << np.finfo(p.dtype).nmant) + rng.integers(0, 4, (MANY, *p.event_in))
    for values in (rng.normal(3, 5, (2, *p.event_in)), 2.0**-14 * rng.normal(3, 5, (MANY, *p.event_in)), near):
        data = values.astype(p.dtype)
        made = f.inverse_initialised(data, None)
        means, deviations = exact_statistics(f, data)
        least = np.zeros((1, *p.event_out), p.dtype)
        given = made.forward(least)[0].reshape(len(means), -1)
        slopes = np.diagonal(made.jacobian(least)[0]).reshape(len(means), -1)
        size = np.abs(np.moveaxis(data, 1, 0).reshape(len(means), -1).astype(np.float64)).max(-1)
        off = np.abs(given - means[:, None]) / size[:, None]
        rounding = 16 * p.u * (1 + np.abs(np.log(deviations)))          # some pages hold the logarithm
        expect(off.max() <= rounding.max(), f"the mean {given[:, 0]} is not {means}; {made!r}")
        off = np.abs(slopes / deviations[:, None] - 1).max(-1)
        expect((off <= rounding).all(), f"the deviation {slopes[:, 0]} is not {deviations}; {made!r}")


def exact_statistics(f, data):
    """Mean and deviation of each channel by exact arithmetic, and then the deviation with the page's eps or floor."""
    means, variances = exact_moments(data, getattr(f, "unbiased", False))
    return means, np.maximum(np.sqrt(variances), math.sqrt(getattr(f, "floor", 0))) + getattr(f, "eps", 0)


@law("initialisation refuses what it cannot standardise")
def initialisation_refuses(f, p):
    """No data, data that are not finite, and a constant channel unless a floor or eps is added: ValueError that says where."""
    if not initialises(f):
        return
    C, floor = p.event_in[0], getattr(f, "floor", getattr(f, "eps", 0))
    for lead in ((), (2,)):
        g = in_batch(f, lead)
        data = np.random.default_rng(0).normal(3, 5, (MANY, *lead, *p.event_in)).astype(p.dtype)
        nan, constant = data.copy(), data.copy()
        nan.flat[-1] = np.nan
        constant[(slice(None), *(0 for _ in lead), C - 1)] = 3
        for side, method in enumerate((g.initialised, g.inverse_initialised)):
            message = refusal(lambda: method(nan, None), "NaN in data")                         # noqa: B023
            begins = message.startswith(f"{type(f).__name__}: {f.letters[side]} ")
            expect(begins, f"the refusal of NaN does not name it: {message}")
            message = refusal(lambda: method(data[:0], None), "an empty batch of data")         # noqa: B023
            expect("at least one" in message, f"the refusal does not say that there are no data: {message}")
            if floor:
                method(constant, None)
                continue
            message = refusal(lambda: method(constant, None), "a constant channel")             # noqa: B023
            named = f"channel {C - 1} of data is constant ({data.size // (C * math.prod(lead))} values)"
            expect(named in message, f"the refusal does not say {named!r}: {message}")


def in_batch(f, lead):
    """The page with a batch axis for each parameter."""
    return f.replace(**{key: np.broadcast_to(value, lead + value.shape) for key, value in f.params().items()})


# -- statistics of a batch --------------------------------------------------------------------------------------------

@law("the statistics of a batch are exact")
def batch_statistics_exact(f, p):
    """Normalised by its batch, data get the map of their mean and variance, which are exact to a few roundings.

    Entries that pass count as 0, or as they are.  Initialisation takes the same statistics.  No data, and NaN, are refused.
    """
    for norm, data in batches(f, p.dtype):
        record = {}
        used = of_batch(norm, record)
        found = used.forward_and_log_det(data)
        mean, var = record[()]
        counted = data if norm.passes is None or norm.statistics == "all" else np.where(norm.passes, 0, data)
        exact_mean, exact_var = exact_moments(counted)
        room = 16 * p.u * np.abs(data).max()
        expect((np.abs(mean - exact_mean) <= room).all(), f"the mean {mean} of a batch is not {exact_mean}; {norm!r}")
        close_to = np.abs(var - exact_var) <= 16 * p.u * exact_var + room**2
        expect(close_to.all(), f"the variance {var} of a batch is not {exact_var}; {norm!r}")
        given = norm.replace(mean=mean, var=var)
        same("data normalised by their batch", found, given.forward_and_log_det(data))
        expect(norm.initialised(data, None).equals(given), f"initialised, it has not the statistics of its data; {norm!r}")
        refusal(lambda: used.forward(data[:0]), "an empty batch")                               # noqa: B023
        message = refusal(lambda: norm.initialised(data * np.nan, None), "NaN in data")         # noqa: B023
        expect(message.startswith(f"{type(f).__name__}: z "), f"the refusal of NaN does not name it: {message}")


@law("gradients pass through the statistics of a batch")
def batch_statistics_gradient(f, p):
    """The pullback of data normalised by their batch is the gradient of L = <x_bar, x> + <l_bar, l>, by differences."""
    for norm, data in batches(f, np.float64):
        used, rng = of_batch(norm), np.random.default_rng(1)
        x_bar, l_bar, direction = rng.normal(size=data.shape), rng.normal(size=len(data)), rng.normal(size=data.shape)

        def L(h):
            x, log_det = used.forward_and_log_det(data + h * direction)                         # noqa: B023
            return (x_bar * x).sum() + (l_bar * log_det).sum()                                  # noqa: B023

        terms = used.vjp(data)[1](x_bar, l_bar)[0] * direction
        h = 2.0**-12
        differences = (8 * (L(h) - L(-h)) - (L(2 * h) - L(-2 * h))) / (12 * h)
        off, room = abs(terms.sum() - differences), FD_ERROR * np.abs(terms).sum()
        expect(off <= room, f"z_bar is off by {off:.3g}, bound {room:.3g}; {norm!r}")


@law("moving statistics follow")
def moving_statistics(f, p):
    """Moving statistics m become (1 - decay) m + decay s for the statistics s of a batch, with N/(N - 1) times the variance of
    its N values if it is to be unbiased, which is refused for N = 1.
    """
    for norm, data in batches(f, p.dtype):
        data, biased, unbiased = data[:2], {}, {}
        of_batch(norm, biased).forward(data)
        of_batch(norm.replace(unbiased=True), unbiased).forward(data)
        (mean, var), N = biased[()], data[:, 0].size
        moved = with_statistics(norm, unbiased, 0.25)
        for name, old, batch in (("mean", norm.mean, mean), ("var", norm.var, var * (N / (N - 1)))):
            off = np.abs(getattr(moved, name) - (0.75 * old + 0.25 * batch))
            expect((off <= 8 * p.u * (np.abs(old) + np.abs(batch))).all(), f"{name} moves to {getattr(moved, name)}; {norm!r}")
        expect(moved.replace(mean=norm.mean, var=norm.var).equals(norm), f"more than the statistics moves; {norm!r}")
        one = data[(slice(1), slice(None), *(slice(1),) * (norm.rank - 1))]
        alone = of_batch(norm.replace(passes=None, unbiased=True), {})
        message = refusal(lambda: alone.forward(one), "the variance of a single value")         # noqa: B023
        expect("at least two values" in message, f"the refusal does not say how many values there must be: {message}")


def batches(f, dtype):
    """[(BatchNorm, data)]: f, if it is one, without a batch, without and with entries that pass, with both statistics."""
    if not isinstance(f, BatchNorm):
        return []
    rng, shape = np.random.default_rng(0), (f.mean.shape[-1], 2, 3)[:f.rank]
    first = f.replace(**{key: value.reshape(-1, shape[0])[0] for key, value in f.params().items()}).astype(dtype)
    asked = [(None, "changed"), *((rng.random(shape) < 0.5, statistics) for statistics in STATISTICS)]
    # a channel that passes everywhere has variance 0
    plain = first.replace(eps=f.eps or 2.0**-10, unbiased=False)
    return [(plain.replace(passes=passes, statistics=statistics), data.astype(dtype)) for passes, statistics in asked
            for data in (rng.normal(3, 5, (5, *shape)), 64 + 2.0**-4 * rng.normal(3, 5, (4, *shape)))]


def exact_moments(data, unbiased=False):
    """Mean and variance of each channel, by exact arithmetic."""
    means, variances = [], []
    for channel in np.moveaxis(data, 1, 0):
        values = [Fraction(float(value)) for value in channel.flat]
        mean = sum(values) / len(values)
        means.append(float(mean))
        variances.append(float(sum((value - mean)**2 for value in values) / (len(values) - unbiased)))
    return np.array(means), np.array(variances)


# -- limits -----------------------------------------------------------------------------------------------------------

@law("infinite events have the limits of the inverse matrix")
def infinite_events(f, p):
    """For a page that declares `infinite_events`, z = W^-1 (x - shift) by the rules of floats where x has an infinite entry.

    Other events of the batch stay.  After a map that reaches its limits, an event may be so.
    """
    if not f.infinite_events or len(p.z) < 2:
        return
    inverse_of = f.unchecked(p.dtype).inverse
    W = f.jacobian(p.z).astype(np.float64)
    inverse, plain = np.linalg.inv(W), np.arange(len(p.z)) % 2 == 0
    room = 2.0**-8 + 16 * p.u * np.linalg.norm(W, axis=(-2, -1)) * np.linalg.norm(inverse, axis=(-2, -1))
    clear = np.abs(inverse) > room[:, None, None] * np.abs(inverse).max((-2, -1), keepdims=True)            # its sign is beyond doubt
    for k in range(p.size_out):
        x = p.x.copy()
        x[~plain, k] = np.inf
        with np.errstate(all="ignore"):
            z = inverse_of(x)
            moved = np.linalg.norm(z - f.inverse(p.x), axis=-1) > room * np.linalg.norm(z, axis=-1)
        expect(not (moved & plain).any(), f"an infinite event moves others; {f!r}")
        wrong = (z != np.copysign(np.inf, inverse[..., k])) & clear[..., k] & ~plain[:, None]
        expect(not wrong.any(), f"z of x with x_{k} = inf is {z[wrong.any(-1)][:1]}, W^-1 {inverse[wrong.any(-1)][:1]}; {f!r}")


def named_by(page):
    """The sets onto which a page maps free vectors."""
    intervals = [sets.interval(*ends) for ends in ((0, np.inf), (-np.inf, -2), (0.5, 2), (-3, 1))]
    each = np.array([-2.0, 0.0, 1.0])
    intervals += [sets.intervals(each, ends) for ends in (np.inf, each + [1.0, 0.5, 8.0])]
    intervals += [sets.intervals(-np.inf, each), sets.intervals(np.array([-np.inf, 0, 1]), np.array([2, np.inf, np.inf]))]
    known = [held for held in vars(sets).values() if isinstance(held, sets.Set)]
    return [where for where in [*known, *intervals] if where.biject_to == page.__name__]


@law("sets are reached", once=True)
def reached(f, p):
    """The map that a page offers onto a set reaches a member of it and comes back from there; it gives members alone.

    Onto a set of numbers, it takes 0 to the simplest member, or to its negative.
    """
    for where in named_by(type(f)):
        source = RandomSource(np.random.default_rng(len(p.z)))
        for _ in range(2):
            like = where.draw(source, SQUARE if where.rank == 2 else (3,), p.dtype, 2)
            g = biject_to(where, like)
            z = g.inverse(like)
            close_to = np.abs(g.forward(z) - like).max() <= 2.0**-16 * (1 + np.abs(like).max())
            expect(close_to and np.isfinite(z).all(), f"{where}: {like.tolist()} comes back as {g.forward(z).tolist()}")
            simplest, origin = where.plainest(like.shape), g.forward(np.zeros_like(z))
            at_origin = where.rank > 0 or np.array_equal(np.abs(origin), np.abs(simplest))
            expect(at_origin, f"{where}: 0 is taken to {origin.tolist()}, not to {simplest.tolist()}")
            image = g.forward(g.domain.draw(source, z.shape, p.dtype, 2))
            expect(where.first_outside(image) is None, f"{where}: {image.tolist()} is not a member")
            if where.entrywise:
                beyond = where.outside(np.zeros_like(like)) & (np.sign(image) != np.sign(like))
                expect(not beyond.any(), f"{where}: {image.tolist()} is beyond 0 from {like.tolist()}")


# -- mass -------------------------------------------------------------------------------------------------------------

@law("mass is one")
def mass(f, p):
    """The density of x = f(z), with z normal on the domain, integrates to 1 over the codomain, for at most two dimensions."""
    found = None if p.f.domain.thin or p.size_in > 2 else total_mass(p)
    if found is None:
        return None
    total, e = found
    if np.isinf(e):
        return 1, 1
    expect(abs(total - 1) <= 10 * e + lost_mass(p), f"the density integrates to {total!r} (error {e:.1e}); {f!r}")
    return 0, 1
