r"""The laws of densities: a sample is a function of noise and parameters, and `log_prob` is the logarithm of its density.

With `e` the noise of a sample, `pi` the density of the noise, `Z = dz/de`,
    log p(z) = log pi(e) - log|det Z|                                               (1)
and if a number `u`, uniform on (0, 1), first chooses one of several maps, each affine in `e`,
    p(z) = the mean over u of pi(e_u) / |det Z_u|,   where z_u(e_u) = z             (2)
A sample moves with a parameter at the velocity `v = dz/dparameter`, the noise held fixed.  Probability is neither made nor lost
on the way, so that with `div v = sum_d dv_d/dz_d`
    dlog p/dparameter + v . grad log p + div v = 0                                  (3)
Derivatives along `z` are `V Z^-1`, with `V = dv/de`.  If `v_d` also depends on `z_1 .. z_d` alone, (3) determines `v`.

Where a sample is not a differentiable function of all parameters, or lies in a set of lower dimension, means over many samples decide.
For any parameter, and with `z = g(y)` for a free vector `y`, whose density has the slopes `s_j`, and `h` with `h(y) = tanh y_i` or 1,
    E dlog p/dparameter = 0                                                         (4)
    E (s_j h + dh/dy_j) = 0                         (Stein)                         (5)
Means of n samples leave 0 by more than `ndtri(1 - level/(2 m))` deviations in a share level/m of cases, up to the normal approximation; m
is the number of means.

The laws are asked of densities with a batch (N,) of parameters, one for each sample.  `run_density_laws(p)` runs all of them
and reports by name.
"""

from __future__ import annotations

from functools import cached_property
from math import pi

import numpy as np
import scipy

from ..accuracy.differences import STEPS_INSIDE, U, field_at, log_det_extrapolated, moved_alone, ridders
from ..accuracy.drawing import drawn_fields, plain_choices
from ..accuracy.kappa import with_leaf
from ..core import Flow, Inverse
from ..core.sets import simplex
from ..core.tree import flatten
from ..maps.constrained.biject_to import biject_to
from .bijector_laws import FD_ERROR, OF_VALUES, whole_cases
from .bijector_laws import LAWS as OF_MAPS
from .law import Broken, asked, every, expect, law, refusal, same

LAWS: dict = {}
SAMPLES, SIZES = 8, (1, 2, 3)
SPREAD = 2                          # of fields: 2^-2 to 2^2, so that one component of a mixture does not hide all others
TAILS = 5                           # noise is multiplied by up to 2^5
GRID = 512                          # values of a number that chooses
ROOM = 2.0**-20                     # of a sum over the grid
LOST = 2.0**-1022                   # smaller numbers have lost digits
DRAWS, LEVEL = 4096, 2.0**-20       # of (4) and (5): a right density breaks them in one of 2^20 seeds, and the seed is fixed
LOG_NOISE = {"standard_normal": lambda e: -e * e / 2 - np.log(2 * pi) / 2,
             "logistic": lambda e: -np.abs(e) - 2 * np.log1p(np.exp(-np.abs(e))),
             "random": np.zeros_like}


def density_of(source, page, dtype, batch=SAMPLES):
    """A density of the page, every field with a batch (batch,) of its own."""
    plain = source.choice(plain_choices(page))
    shape = np.broadcast_shapes(plain.get("shape", ())) if "shape" in page.declared else ()
    fields = drawn_fields(page, source, dtype, SPREAD, lambda letter: source.choice(SIZES), plain, lambda: (batch, *shape))
    if "high" in fields:
        fields["high"] = fields["low"] + np.abs(fields["high"])
    if "df" in fields:
        fields["df"] = fields["df"] + dtype.type(fields["cholesky"].shape[-1] - 1)
    return page(**fields | ({"shape": shape} if "shape" in page.declared else {}))


class Recorder:
    """Stands in for a Generator, and keeps what it draws."""

    def __init__(self, rng):
        self.rng, self.kinds, self.drawn = rng, [], []

    def __getattr__(self, kind):
        def draw(*shapes, size):
            self.kinds.append(kind)
            self.drawn.append(getattr(self.rng, kind)(*shapes, size=size))
            return self.drawn[-1]

        return draw


class Replayed:
    """Stands in for a Generator, and gives the numbers it was made with."""

    def __init__(self, *numbers):
        self.numbers = iter(numbers)

    def __getattr__(self, kind):
        return lambda *shapes, size: np.broadcast_to(next(self.numbers), size)


class Samples:
    """N samples of a density in float64, as functions of their noise.

    The numbers that a sample asks for last are its noise e (N, S); numbers before them choose.
    """

    def __init__(self, page):
        self.page, self.p, rng = page, page.unchecked(np.float64), np.random.default_rng(0)
        (self.count,), self.event = page.parameter_batch or (SAMPLES,), page.event_shape
        recorder = Recorder(rng)
        self.p.sample_vjp(recorder, (1, self.count))
        *self.choices, e = recorder.drawn
        self.log_noise, self.e = LOG_NOISE[recorder.kinds[-1]], e.reshape(self.count, -1)
        if recorder.kinds[-1] == "random":
            self.room = np.minimum(self.e, 1 - self.e)
        else:
            self.e = self.e * 2.0 ** rng.integers(0, TAILS + 1, self.e.shape)
            self.room = np.maximum(np.abs(self.e), 1)
        self.z, self.v = (found[0] for found in self.at(self.e[None], self.choices))
        self.log_prob, pullback = self.with_copies(()).log_prob_vjp(self.z.reshape(self.count, *self.event))
        z_bar, bars = pullback(np.ones(self.count))
        self.z_bar, self.bars = z_bar.reshape(self.count, -1), joined(bars, (self.count,))

    def with_copies(self, lead):
        """The density with its own copy of the parameters for every sample of (*lead, N)."""
        copy = self.p
        for path, value in flatten(self.p.params()):
            copy = with_leaf(copy, path, np.broadcast_to(value, (*lead, *value.shape)))
        return copy

    def at(self, e, choices):
        """(z (m, N, S), v (m, N, S, P)) at noise (m, N, S)."""
        lead = e.shape[:2]
        z, pullback = self.with_copies(lead[:1]).sample_vjp(Replayed(*choices, e.reshape(*lead, *self.event)), lead)
        units = np.eye(e.shape[-1]).reshape(-1, *self.event)
        v = [joined(pullback(np.broadcast_to(unit, z.shape)), lead) for unit in units]
        return z.reshape(e.shape), np.stack(v, -2)

    def z_where(self, path, values):
        """z (m, N, S) with other values (m, *shape) of one parameter."""
        lead = len(values), self.count
        p = with_leaf(self.with_copies(lead[:1]), path, values)
        return p.sample_vjp(Replayed(self.e.reshape(1, self.count, *self.event)), lead)[0].reshape(*lead, -1)

    @cached_property
    def along_noise(self):
        """Central differences (K, N, ...) and their rounding: dz/de (S, S) and dv/de (S, P, S)."""
        plus, minus = moved_alone(self.e, self.room / STEPS_INSIDE)
        width = np.diagonal(plus - minus, axis1=1, axis2=3)
        above, below = (self.at(e.reshape(-1, *self.e.shape), self.choices) for e in (plus, minus))
        return [self.quotient(up, down, width) for up, down in zip(above, below)]

    def quotient(self, up, down, width):
        """(differences, rounding): exp(q) has the relative error u |q|, so that a density has u |log p|."""
        K, N, S = width.shape
        up, down = (np.moveaxis(q.reshape(K, S, *q.shape[1:]), 1, -1) for q in (up, down))
        step, amplified = (q.reshape(-1, N, *(1,) * (up.ndim - 3), q.shape[-1])
                           for q in (width, 1 + np.abs(self.log_prob[:, None])))
        size = np.maximum(np.abs(up), np.abs(down)).max(2, keepdims=True, initial=0)
        return (up - down) / step, 16 * U * size * amplified / step

    @cached_property
    def along_events(self):
        """(V Z^-1 (N, S, P, S), its error)."""
        (Z, Z_error), (V, V_error) = (ridders(*found) for found in self.along_noise)
        inverse = np.linalg.inv(Z)
        size = np.abs(inverse)
        return np.einsum("ndpj,njk->ndpk", V, inverse), np.einsum("ndpj,njk->ndpk", V_error + np.einsum(
            "ndpj,njk->ndpk", np.abs(V), size @ Z_error), size)

    @property
    def kappa(self):
        """kappa of log p."""
        return np.abs(self.log_prob) + np.abs(self.z_bar * self.z).sum(-1) \
            + np.abs(self.bars * joined(self.p.params(), (self.count,))).sum(-1)

    def hold(self, what, error, bound, usable):
        """Refuse the first sample whose error exceeds its bound; (rejected, tried)."""
        error, bound = np.broadcast_arrays(error, bound)
        for i in np.argwhere(usable & ~(error <= bound))[:1]:
            raise Broken(f"{what}: error {error[tuple(i)]:.3g}, bound {bound[tuple(i)]:.3g} at z = {self.z[i[0]].tolist()}; "
                         f"{self.page!r}")
        return int(np.sum(~usable)), int(np.size(usable))


class Draws(Samples):
    """N samples of a density that is not, or not in all parameters, a differentiable function of them; all that is drawn is noise."""

    def __init__(self, page):
        self.page, self.p, self.choices = page, page.unchecked(np.float64), ()
        (self.count,), self.event = page.parameter_batch or (SAMPLES,), page.event_shape
        self.names = set(page.params()) - set(page.not_reparameterised)
        if not self.names:
            self.z = self.p.sample(np.random.default_rng(0), (1, self.count)).reshape(self.count, -1)
            return
        recorder = Recorder(np.random.default_rng(0))
        z, pullback = self.with_copies((1,)).sample_vjp(recorder, (1, self.count))
        units = np.eye(z[0, 0].size).reshape(-1, *self.event)
        self.drawn, self.z = recorder.drawn, z.reshape(self.count, -1)
        self.v = np.stack([joined(pullback(np.broadcast_to(unit, z.shape)), (1, self.count))[0] for unit in units], -2)

    def z_where(self, path, values):
        """z (m, N, S) with other values (m, *shape) of one parameter."""
        lead = len(values), self.count
        p = with_leaf(self.with_copies(lead[:1]), path, values)
        return p.sample_vjp(Replayed(*self.drawn), lead)[0].reshape(*lead, -1)


def joined(bars, lead):
    """Parameters, or their cotangents, side by side: (*lead, P)."""
    return np.concatenate([np.zeros((*lead, 0)), *(np.reshape(bar, (*lead, -1)) for _, bar in flatten(bars))], -1)


def run_density_laws(p, wanted=every) -> dict:
    """Run every law, or those wanted, on a density; {law: (rejected, tried)} for the laws that may reject samples.

    Raises AssertionError with one line for each law that is broken.
    """
    with np.errstate(all="ignore"):
        samples, laws = (Draws(p), OF_DRAWS) if p.not_reparameterised else (Samples(p), OF_NOISE)
        return asked([*((name, LAWS[name], p, samples) for name in laws),
                      *((name, OF_MAPS[name], p, None) for name in OF_VALUES)], wanted)


@law("log_prob is the density of the samples", LAWS)
def transported(p, s):
    """(1), or (2) where a number chooses: |log_prob - log p| <= 10 e + C u kappa, with e the error of the differences."""
    if s.choices:
        return chosen(s)
    log_det, e = log_det_extrapolated(*s.along_noise[0])
    expected = s.log_noise(s.e).sum(-1) - log_det                                   # (1)
    C = 4 + s.e.shape[-1] / 2
    return s.hold("log_prob", np.abs(s.log_prob - expected), 10 * e + C * U * s.kappa, e <= FD_ERROR)


def chosen(s):
    """(2), by a sum over values of u, which is off by less than the first and the last term of every map."""
    S, N = s.e.shape[-1], s.count
    u = np.repeat((np.arange(GRID) + 0.5) / GRID, 1 + S)[:, None]
    corners = np.concatenate((np.zeros((1, S)), np.eye(S)))
    z, _ = s.at(np.broadcast_to(np.tile(corners, (GRID, 1))[:, None], (GRID * (1 + S), N, S)), [u])
    z = z.reshape(GRID, 1 + S, N, S)
    start, Z = z[:, 0], np.moveaxis(z[:, 1:] - z[:, :1], 1, -1)
    e = np.linalg.solve(Z, (s.z - start)[..., None])[..., 0]
    log_q = s.log_noise(e).sum(-1) - np.linalg.slogdet(Z)[1]
    largest = log_q.max(0)
    q = np.exp(log_q - largest)
    changes = (start[1:] != start[:-1]).any(-1) | (Z[1:] != Z[:-1]).any((-2, -1))
    bound = ((q[1:] + q[:-1]) * changes).sum(0) / q.sum(0)
    error = np.abs(np.exp(s.log_prob - largest - np.log(q.mean(0))) - 1)            # (2)
    return s.hold("the density, relative to the samples'", error, bound + ROOM, np.isfinite(largest))


@law("samples carry their probability along", LAWS)
def continuity(p, s):
    """(3) for every parameter, for weights along their simplex: |sum| <= 10 e + 16 u (1 + |log p|) (sum of magnitudes)."""
    if not s.p.params():
        return None
    along, e = (np.einsum("ndpd->np", found) for found in s.along_events)
    moved = s.v * s.z_bar[..., None]
    change = s.bars + moved.sum(1) + along                                          # (3)
    size = np.abs(s.bars) + np.abs(moved).sum(1) + np.abs(s.along_events[0]).sum((1, 3))
    size = size * (1 + np.abs(s.log_prob))[:, None]
    change, e, size = along_simplexes(s.p, change, -1), along_simplexes(s.p, e, 1), along_simplexes(s.p, size, 1)
    return s.hold("change of p", np.abs(change), 10 * e + 16 * U * size + LOST, e <= FD_ERROR * size)


def along_simplexes(p, values, sign):
    """Values (N, P), at weights less their mean under the weights, since these move only together; or plus it, for bounds."""
    parts, first = [], 0
    for path, weights in flatten(p.params()):
        part = values[:, first:first + weights[0].size]
        first += weights[0].size
        if field_at(p, path).set is simplex:
            part = part + sign * (part * weights).sum(-1, keepdims=True) / weights.sum(-1, keepdims=True)
        parts.append(part)
    return np.concatenate(parts, -1)


@law("an entry of a sample moves with the entries before it", LAWS)
def triangular(p, s):
    """dv_d/dz_k = 0 for k > d."""
    if s.p.params():
        given, e = s.along_events
        later = np.triu(np.ones(given.shape[1::2]), 1)[:, None]
        size = np.abs(given).max((1, 3), keepdims=True) + e
        s.hold("dv/dz of a later entry", np.abs(given) * later, 10 * e + 16 * U * size, np.ones(given.shape, bool))


@law("a sample's pullback is its gradient", LAWS)
def gradient(p, s):
    """v against differences of z in each parameter, the noise held fixed; not where a number chooses, and z jumps."""
    if s.choices or not set(s.p.params()) - set(s.p.not_reparameterised):
        return
    first = 0
    for path, values in flatten(s.p.params()):
        if path[0] in s.p.not_reparameterised:
            first += values[0].size
            continue
        entries = values.reshape(s.count, -1)
        plus, minus = moved_alone(entries, np.maximum(np.abs(entries), LOST) / STEPS_INSIDE)
        width = np.diagonal(plus - minus, axis1=1, axis2=3)
        up, down = (s.z_where(path, moved.reshape(-1, *values.shape)).reshape(*plus.shape[:3], -1) for moved in (plus, minus))
        up, down = np.moveaxis(up, 1, -1), np.moveaxis(down, 1, -1)
        size = np.maximum(np.abs(up), np.abs(down)) + np.abs(entries).max(-1)[:, None, None]
        slopes, e = ridders((up - down) / width[..., None, :], 4 * U * size / width[..., None, :])
        given = s.v[..., first:first + entries.shape[-1]]
        first += entries.shape[-1]
        s.hold(f"{path[-1]}_bar", np.abs(given - slopes), 10 * e + 4 * U * np.abs(slopes), np.ones(given.shape, bool))


@law("samples follow log_prob", LAWS)
def followed(p, s):
    """(4) and (5), means in units of their deviations."""
    z = s.p.sample(np.random.default_rng(0), (DRAWS, s.count))
    of_each = s.with_copies((DRAWS,))
    where, like = s.p.support, z[0, 0]
    found = [joined(of_each.log_prob_vjp(z)[1](np.ones(z.shape[:2]))[1], z.shape[:2])]       # (4)
    g = Inverse(biject_to(where, like)) if where.thin else None
    y = z.reshape(*z.shape[:2], -1) if g is None else g.forward(z)
    if y.shape[-1]:
        free = of_each if g is None else Flow(g, of_each).unchecked(np.float64)
        slopes = free.log_prob_vjp(y)[1](np.ones(z.shape[:2]))[0]
        bend = np.tanh(y)
        found += [slopes, (slopes[..., None, :] * bend[..., None] + np.eye(y.shape[-1]) * (1 - bend**2)[..., None]).reshape(
            *y.shape[:2], -1)]                                                      # (5)
    terms = np.concatenate(found, -1)
    mean, deviation = terms.mean(0), terms.std(0) / np.sqrt(DRAWS)
    most = -scipy.special.ndtri(LEVEL / (2 * mean.size))
    s.hold("a mean that is 0", np.abs(mean), most * deviation + DRAWS * U * np.abs(terms).mean(0), np.ones(mean.shape, bool))


@law("samples are one function", LAWS)
def fused(p, s):
    """sample, sample_vjp and sample_and_log_prob_vjp give the same events, in the dtype of p, and their pullbacks agree."""
    for each in (p, p.replace(**{path[0]: value[0] for path, value in flatten(p.params())})):
        one_function(each, [np.random.default_rng(1) for _ in range(3)])


def one_function(p, rngs, n=2):
    dtype = p.dtype or np.dtype(np.float64)
    if p.not_reparameterised:
        return one_draw(p, rngs, n, dtype)
    z, (again, pullback) = p.sample(rngs[0], n), p.sample_vjp(rngs[1], n)
    (third, log_prob), both = p.sample_and_log_prob_vjp(rngs[2], n)
    same("events of the three", (again, third), (z, z))
    expect(z.shape == (n, *p.parameter_batch, *p.event_shape), f"{n} samples have shape {z.shape}; {p!r}")
    expect(p.sample(rngs[0], 0).shape == (0, *z.shape[1:]), f"no samples have another shape than {(0, *z.shape[1:])}; {p!r}")
    direct, of_log_prob = p.log_prob_vjp(z)
    same("log_prob", (log_prob,), (direct,))
    z_bar, b = (np.cos(np.arange(q.size)).reshape(q.shape).astype(dtype) for q in (z, log_prob))
    through, own = of_log_prob(b)
    bars, parts, own = (dict(flatten(found)) for found in (both(z_bar, b), pullback(z_bar + through), own))
    for path, bar in bars.items():
        expect(bar.dtype == parts[path].dtype == dtype, f"{path[-1]}_bar is {bar.dtype}, not {dtype}; {p!r}")
        same(f"{path[-1]}_bar", (bar,), (parts[path] + own[path],))


def one_draw(p, rngs, n, dtype):
    """Of a density that names parameters in `not_reparameterised`: their cotangents are NaN, or refused with their names."""
    z, names = p.sample(rngs[0], n), p.not_reparameterised
    expect(z.dtype == dtype and z.shape == (n, *p.parameter_batch, *p.event_shape), f"{n} samples have shape {z.shape}; {p!r}")
    expect(p.sample(rngs[0], 0).shape == (0, *z.shape[1:]), f"no samples have another shape than {(0, *z.shape[1:])}; {p!r}")
    for ask in (p.sample_and_log_prob_vjp, *((p.sample_vjp,) if set(p.params()) == set(names) else ())):
        said = refusal(lambda: ask(rngs[1], n), f"the gradient of {names}")
        expect(all(name in said for name in names), f"{said!r} does not name {names}; {p!r}")
    if set(p.params()) != set(names):
        again, pullback = p.sample_vjp(rngs[2], n)
        same("events of the two", (again,), (z,))
        for name, bar in pullback(np.ones_like(z)).items():
            expect(bar.shape == getattr(p, name).shape and np.isnan(bar).all() == (name in names), f"{name}_bar is {bar}; {p!r}")


@law("the density is 0 outside the support", LAWS)
def outside(p, s):
    """Samples lie inside, also where a uniform number is 0 or the last one below 1, and on the hard cases.

    At an end of the support, or at the negative of a sample in a set of lower dimension, log_prob is -inf, and all gradients are 0.
    """
    page = type(p)
    for q in (p, *(page(**case.params) for case in whole_cases(page))):
        for z in samples_at_ends(q):
            expect(np.isfinite(q.log_prob(z)).all() and q.support.members(z, 0).all(), f"{z.tolist()} is not inside; {q!r}")
        shape, dtype = (*q.parameter_batch, *q.event_shape), q.dtype or np.float64
        for end in [-z[0]] if q.support.thin else [np.full(shape, end, dtype) for end in (q.support.lower, q.support.upper)]:
            log_prob, pullback = q.log_prob_vjp(end)
            z_bar, bars = pullback(np.ones_like(log_prob))
            expect((log_prob == -np.inf).all(), f"log_prob at {end} is {log_prob.tolist()}; {q!r}")
            expect(not any(np.any(bar) for bar in (z_bar, *dict(flatten(bars)).values())), f"a gradient at {end}; {q!r}")


def samples_at_ends(p):
    """One sample of each element of the batch, for either end of the uniform numbers."""
    if p.not_reparameterised:
        yield p.sample(np.random.default_rng(0), 1)
        return
    recorder, lead = Recorder(np.random.default_rng(0)), (1, *p.parameter_batch)
    view = p.unchecked(p.dtype or np.dtype(np.float64))
    view.sample_vjp(recorder, lead)
    for end in (0.0, 1 - U):
        numbers = [np.full_like(drawn, end) if kind == "random" else drawn
                   for kind, drawn in zip(recorder.kinds, recorder.drawn)]
        yield view.sample_vjp(Replayed(*numbers), lead)[0]


OF_NOISE = [name for name in LAWS if name != "samples follow log_prob"]
OF_DRAWS = ("a sample's pullback is its gradient", "samples follow log_prob", "samples are one function",
            "the density is 0 outside the support")
