"""Events and cotangents of one bijector, and what several laws need at them, computed once."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ..core import Chain, Conditioner, Independent
from ..core.tree import flatten
from ..maps.shape import Concatenate
from .kappa import constant_of, differenced, flat, normwise, per_event, value_and_log_det


class Points:
    """z (n, *event), x_bar (n, *image), z_bar like z, log_det_bar (n,), for a bijector f; all of one dtype.

    Everything else is computed on first use.  The reference view g is float64 and gives every event its own parameters.
    """

    def __init__(self, f, z, x_bar, z_bar, log_det_bar):
        self.f, self.z, self.x_bar, self.z_bar, self.log_det_bar = f, z, x_bar, z_bar, log_det_bar

    # -- the unit of error -------------------------------------------------------------------------------------------

    @cached_property
    def dtype(self):
        return np.result_type(self.z.dtype, self.f.dtype or self.z.dtype)

    @cached_property
    def u(self):
        return float(np.finfo(self.dtype).eps) / 2

    @cached_property
    def C(self):
        return constant_of(self.f, max(self.size_in, self.size_out))

    @cached_property
    def spacing(self):
        """The subnormal spacing; if f holds a net, times the effect of underflow inside it.

        This effect is at most the product of everything that may multiply it: the event, the cotangents, the weights of the
        nets, the slopes of f and of its inverse, each by its sum of magnitudes, which bounds every sum over its entries.
        """
        smallest = float(np.finfo(self.dtype).smallest_subnormal)
        nets = nets_of(self.f)
        if not nets:
            return smallest
        bars = np.concatenate([flat(bar, self.batch) for bar in (*self.bars64, self.inverse_bars64[0])], -1)
        images = [self.forward_sensitivities[0]] + ([self.inverse_sensitivities[0]] if self.interior.any() else [])
        slopes = [np.where(np.isfinite(v), v, 0) for v in (image.slopes["event"] for image in images)]
        weights = [np.abs(v).sum() for net in nets for _, v in flatten(net.params())]
        events = [np.abs(v).reshape(*self.batch, -1).sum(-1).max(initial=0) for v in (self.z64, bars, *slopes)]
        return smallest * float(np.prod(np.maximum(1, weights + events)))

    @cached_property
    def normwise(self):
        return normwise(self.f)

    # -- the claims, by the public methods ---------------------------------------------------------------------------

    @cached_property
    def x_and_log_det(self):
        return self.f.forward_and_log_det(self.z)

    @property
    def x(self):
        return self.x_and_log_det[0]

    @property
    def log_det(self):
        return self.x_and_log_det[1]

    @cached_property
    def interior(self):
        """Marks of the events whose image is a member that rounding cannot push out, an ordinary number or 0, and where the
        inverse's kappa, of the first order, tells how far rounding moves z.
        """
        inside = stays_inside(self.f, self.z, 64 * self.u, float(np.finfo(self.dtype).max) / 2**10)
        return inside & self.steady() if self.f.event_ndim == (0, 0) and not self.f.constant_log_det else inside

    def steady(self):
        """Does log|dx/dz| change by less than an eighth where rounding of x moves z?  NaN counts as unchanged."""
        f, z = self.f.astype(np.float64), self.z.astype(np.float64)
        log_det = f.log_det(z)
        with np.errstate(all="ignore"):
            moved = self.C * self.u * np.abs(self.x) * np.exp(-log_det)
            beside = [z - moved, z + moved]
        within = np.logical_and.reduce([f.domain.members(v, 0) | ~np.isfinite(log_det) for v in beside])
        changes = [np.abs(f.log_det(np.where(within & np.isfinite(v), v, z)) - log_det) for v in beside]
        return within & ~np.logical_or.reduce([change >= 1 / 8 for change in changes])

    @cached_property
    def inner_x(self):
        """The images where they are interior; elsewhere another event's image, or the middle of an interval of the event's own,
        which is not compared with z.
        """
        keep, where = self.interior.reshape(self.batch + (1,) * len(self.event_out)), self.f.codomain
        other = self.x[np.argmax(self.interior)] if where.alike else np.asarray(where.middle(self.event_out), self.x.dtype)
        return np.where(keep, self.x, other)

    # -- the reference view ------------------------------------------------------------------------------------------

    @cached_property
    def reference(self):
        return per_event(self.f, self.z)

    @property
    def g(self):
        return self.reference[0]

    @property
    def z64(self):
        return self.reference[1]

    @property
    def batch(self):
        return self.z64.shape[:self.z64.ndim - self.f.event_ndim[0]]

    @cached_property
    def event_in(self):
        return self.z.shape[self.z.ndim - self.f.event_ndim[0]:]

    @cached_property
    def event_out(self):
        return tuple(self.f.output_shape(self.event_in))

    @property
    def size_in(self):
        return int(np.prod(self.event_in))

    @property
    def size_out(self):
        return int(np.prod(self.event_out))

    # -- sets of lower dimension -------------------------------------------------------------------------------------

    @cached_property
    def tangents(self):
        """F (n, D, d), tangents at the events; None if every entry of z moves alone."""
        return self.g.domain.basis(self.z64, self.g.event_ndim[0]) if self.f.domain.thin else None

    @cached_property
    def chart(self):
        """The flat indices of x that are its coordinates, or None if the image's volume is not that of these."""
        where = self.g.codomain
        return where.coordinates(self.event_out) if where.measure == "chart" else None

    @cached_property
    def dual_tangents(self):
        """C^T (n, D, d) at the images."""
        x = self.forward_sensitivities[0].value.reshape(self.batch + self.event_out)
        return self.g.codomain.dual_basis(x, self.g.event_ndim[1])

    def along(self, entries, room=False):
        """F^T q of numbers q (n, D) for the entries of z; `room`: how far they may be off if q is off by so much."""
        if self.tangents is None:
            return entries
        return ((np.abs(self.tangents) if room else self.tangents) * entries[..., None]).sum(-2)

    def columns(self, J, room=False):
        """J F of a matrix (n, D_out, D_in), or of its flat entries."""
        J = J.reshape(self.batch + (self.size_out, self.size_in))
        return J if self.tangents is None else J @ (np.abs(self.tangents) if room else self.tangents)

    def rows(self, M, room=False):
        """C M of a matrix (..., n, D_out, k): what log_det is the log|det| of, for M = J F."""
        if self.chart is not None:
            return M[..., self.chart, :]
        return np.swapaxes(np.abs(self.dual_tangents) if room else self.dual_tangents, -1, -2) @ M

    def entries(self, w, room=False):
        """C^T w of numbers (n, k) in coordinates of the codomain, for all entries of x."""
        if self.chart is None:
            return ((np.abs(self.dual_tangents) if room else self.dual_tangents) @ w[..., None])[..., 0]
        found = np.zeros(w.shape[:-1] + (self.size_out,), w.dtype)
        found[..., self.chart] = w
        return found

    @cached_property
    def forward_sensitivities(self):
        """(of x, of log_det) at z: values, derivatives, kappa."""
        return with_kappa(value_and_log_det(self.g, self.z64, "vjp", self.normwise))

    @cached_property
    def inverse_sensitivities(self):
        """(of z, of log|det dz/dx|) at the interior x."""
        return with_kappa(value_and_log_det(self.g, self.inner_x.astype(np.float64), "inverse_vjp", self.normwise))

    @cached_property
    def bars64(self):
        x_bar = np.broadcast_to(self.x_bar, self.batch + self.event_out)
        return x_bar.astype(np.float64), np.broadcast_to(self.log_det_bar, self.batch).astype(np.float64)

    @cached_property
    def forward_derivatives(self):
        """Sensitivities of the Jacobian and of the forward pullback's cotangents: {name: Sensitivity}."""
        return differenced(forward_derivatives, self.g, self.z64, self.bars64, self.normwise)

    @cached_property
    def inverse_bars64(self):
        z_bar = np.broadcast_to(self.z_bar, self.batch + self.event_in)
        return z_bar.astype(np.float64), self.bars64[1]

    @cached_property
    def inverse_derivatives(self):
        """Sensitivities of the inverse pullback's cotangents: {name: Sensitivity}."""
        x = self.inner_x.astype(np.float64)
        return differenced(inverse_derivatives, self.g, x, self.inverse_bars64, self.normwise)

    # -- the claims, every event with its own parameters -------------------------------------------------------------

    @cached_property
    def own(self):
        """(view, z) in the points' dtype, every event with its own parameters."""
        return per_event(self.f, self.z, dtype=self.dtype)

    @cached_property
    def bars(self):
        return tuple(bar.astype(self.dtype) for bar in self.bars64)

    @cached_property
    def inverse_bars(self):
        return tuple(bar.astype(self.dtype) for bar in self.inverse_bars64)

    @cached_property
    def claims(self):
        """The Jacobian and the forward pullback's cotangents, flat."""
        with np.errstate(all="ignore"):
            return forward_derivatives(*self.own, self.bars)

    @cached_property
    def inverse_claims(self):
        """The inverse pullback's cotangents, flat."""
        with np.errstate(all="ignore"):
            return inverse_derivatives(self.own[0], self.inner_x, self.inverse_bars)


def with_kappa(sensitivities):
    """The same; each computes its kappa once, which may overflow."""
    with np.errstate(all="ignore"):
        _ = [one.kappa for one in sensitivities]
    return sensitivities


def nets_of(f):
    """The outermost conditioners that f holds."""
    return [net for c in f.components() for net in ([c] if isinstance(c, Conditioner) else nets_of(c))]


def stays_inside(f, z, margin, largest):
    """One mark for each event: its image, and every intermediate image, is 0 or of magnitude 1/largest to largest,
    and stays in the codomain when moved by `margin`.
    """
    x, rank = f.forward(z), f.event_ndim[1]
    size, outside = np.abs(x.astype(np.float64)), f.codomain.outside
    inside = (size <= largest) & ((size >= 1 / largest) | (size == 0))
    inside = inside.all(axis=tuple(range(-rank, 0))) if rank else inside
    inside &= f.codomain.members(x, rank)
    if f.codomain.rank == 0:
        wide = x.astype(np.float64)
        beyond = outside(wide * (1 + margin)) | outside(wide * (1 - margin))
        inside &= ~(beyond.any(axis=tuple(range(-rank, 0))) if rank else beyond)
    if isinstance(f, Chain):
        for stage in f.stages:
            inside &= stays_inside(stage, z, margin, largest)
            z = stage.forward(z)
    elif isinstance(f, Independent):
        inside &= stays_inside(f.inner, z, margin, largest).all(axis=tuple(range(-f.ndim, 0)))
    elif isinstance(f, Concatenate):
        for part, block in zip(f.parts, f._split(z, f.sizes)):
            inside &= stays_inside(part, block, margin, largest)
    return inside


def forward_derivatives(view, z, bars):
    (_, log_det), pullback = view.vjp(z)
    z_bar, params_bar = pullback(*bars)
    return cotangents(view.jacobian(z), z_bar, params_bar, log_det.shape)


def inverse_derivatives(view, x, bars):
    (_, log_det), pullback = view.inverse_vjp(x)
    return cotangents(None, *pullback(*bars), log_det.shape)


def cotangents(J, event_bar, params_bar, batch):
    found = {} if J is None else {"jacobian": flat(J, batch)}
    return found | {"event": flat(event_bar, batch)} | {p: flat(v, batch) for p, v in flatten(params_bar)}
