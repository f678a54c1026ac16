r"""Flow matching: the velocity `v(z, t)` of a flow in time is fitted to the velocities of given paths from noise to data.

A path leads from noise `x_0` at `t = 0` to data `x_1` at `t = 1`; at `t` it lies at `x_t`, drawn with normal noise `e`, and moves by `u`.
With `sigma` the deviation that it keeps, and `w = 1 - sigma`,
    x_t = t x_1 + (1 - w t) e,   u = x_1 - w e                          conditional             (1)
    x_t = (1 - t) x_0 + t x_1 + sigma e,   u = x_1 - x_0                independent             (2)
    x_t = a x_0 + b x_1 + sigma e,   u = pi/2 (a x_1 - b x_0)           variance preserving     (3)
with `a = cos(pi t/2)`, `b = sin(pi t/2)`, and for a Schroedinger bridge
    x_t = (1 - t) x_0 + t x_1 + sigma s e,   u = x_1 - x_0 + sigma (1 - 2 t)/(2 s) e,   s = (t (1 - t))^(1/2)       (4)
In (1), `u` is printed as `(x_1 - w x_t)/(1 - w t)`, and in (4) with `(1 - 2 t)/(2 s^2) (x_t - m)`, where `m` is the mean of `x_t`: with
`x_t` put in, they divide by nothing that becomes 0 before `s` does.

Over a batch of `n` events of `D` entries, the loss and its gradient are
    L = 1/(n D) sum_i |v(x_ti, t_i) - u_i|^2                                                    (5)
    v_bar_i = 2/(n D) (v(x_ti, t_i) - u_i)                                                      (6)
Its smallest value is not 0: it is reached where `v(z, t)` is the mean of `u` over the paths that meet `z` at `t`, and this velocity
carries the distribution of `x_0` to that of `x_1`.

Noise and data may be paired as drawn, or so that paths cross less, by an optimal transport of the batch:
    the order pi with the smallest sum_i |x_0i - x_1pi(i)|^2                                    (7)

Source: Lipman et al., arXiv:2210.02747, (1); Tong et al., arXiv:2302.00482, (2), (4), (7); Albergo & Vanden-Eijnden, arXiv:2209.15571, (3).
"""

from __future__ import annotations

import numpy as np
import scipy

from ..core import Chain, Inverse, tree
from ..core.tree import flatten, nest
from ..maps.continuous import DiscreteFlow
from ..maps.densities import StandardNormal
from .fit import Likelihood, Progress, Record, Result, checked_count, checked_data, checked_resume, checked_rng, checked_settings
from .fit import divided, trained
from .optimisers import LBFGS
from .unconstrained import Unconstrained, is_fixed


def conditional_path(x_0, x_1, t, noise, sigma):
    """(x_t, u) of (1): of all noise to one event of the data; x_0 is not used."""
    w = 1 - sigma
    return t * x_1 + (1 - w * t) * noise, x_1 - w * noise                                       # (1)


def independent_path(x_0, x_1, t, noise, sigma):
    """(x_t, u) of (2): straight from x_0 to x_1."""
    return (1 - t) * x_0 + t * x_1 + sigma * noise, x_1 - x_0                                   # (2)


def variance_preserving_path(x_0, x_1, t, noise, sigma):
    """(x_t, u) of (3): along a quarter of a circle, so that the variance stays that of x_0 and x_1 if they have the same."""
    a, b = np.cos(np.pi / 2 * t), np.sin(np.pi / 2 * t)
    return a * x_0 + b * x_1 + sigma * noise, np.pi / 2 * (a * x_1 - b * x_0)                   # (3)


def schroedinger_bridge_path(x_0, x_1, t, noise, sigma):
    """(x_t, u) of (4): a Brownian bridge; at t = 0 and 1 its velocity is infinite."""
    s = np.sqrt(t * (1 - t))
    return (1 - t) * x_0 + t * x_1 + sigma * s * noise, x_1 - x_0 + sigma * (1 - 2 * t) / (2 * s) * noise       # (4)


PATHS = {"conditional": conditional_path, "independent": independent_path, "variance preserving": variance_preserving_path,
         "schroedinger bridge": schroedinger_bridge_path}


def optimal_transport(x_0, x_1):
    """The order of the events x_1 (n, D) that makes the sum of squared distances to the events x_0 (n, D) smallest (7)."""
    squares = ((x_0[:, None] - x_1)**2).sum(-1)
    return scipy.optimize.linear_sum_assignment(squares)[1]                                     # (7)


def matching_vjp(velocity, x_t, t, u):
    """(L, pullback) of (5): `pullback()` gives the gradient in the velocity's parameters.

    `velocity`: a network of (z_1, ..., z_D, t).  x_t, u: (n, D); t: (n, 1).
    """
    v, pullback = velocity.vjp(np.concatenate([x_t, t], -1))
    off = v - u
    return float((off.astype(np.float64)**2).mean()), lambda: pullback(off * (2 / off.size))[1]             # (5) (6)


class Matching(Likelihood):
    """(5) and (6) over batches of data, each with noise and times of its own; what is held out is measured by its likelihood."""

    def __init__(self, flow, space, data, held_out, batch_size, rng, transform, at, rest, path, sigma, transport):
        super().__init__(flow, space, data, held_out, batch_size, rng, None, None, transform)
        self.at, self.rest, self.path, self.sigma, self.transport = at, rest, PATHS[path], sigma, transport
        self.met = None

    def next_batch(self, step):
        super().next_batch(step)
        x_1 = Chain(self.rest).inverse(self.events) if self.rest else self.events
        x_0 = self.rng.standard_normal(x_1.shape).astype(x_1.dtype)
        x_1 = x_1[optimal_transport(x_0, x_1)] if self.transport else x_1                           # (7)
        t = self.rng.random((len(x_1), 1), x_1.dtype)
        noise = x_0 if self.path is conditional_path else self.rng.standard_normal(x_1.shape).astype(x_1.dtype)
        self.met = (*self.path(x_0, x_1, t, noise, self.sigma), t)

    def loss_and_gradient(self, vector):
        x_t, u, t = self.met
        with np.errstate(all="ignore"):
            loss, pullback = matching_vjp(tree.at_path(self.space.quick(vector), self.at), x_t, t, u)
        return loss, None if not np.isfinite(loss) else self.space.gradient(vector, below(self.at, pullback()))

    def threads(self):
        return ""

    def explain(self, vector):
        return "a velocity on the way is too large"


def below(path, params_bar):
    """The cotangents of the component at this path."""
    return nest({(*path, *inner): bar for inner, bar in flatten(params_bar)})


def fit_flow_matching(flow, x, *, path="independent", sigma=0.0, transport=False, optimiser=None, schedule=None, steps=None,
                      batch_size=256, clip=None, averaging=None, validation=0.1, patience=None, flat=0.0, every=None, rng=None,
                      callback=None, progress=None, transform=None, resume=None) -> Result:
    """The flow in time whose velocity follows given paths from noise to data x, found by gradient steps from `flow`.

    `flow`: of a `StandardNormal` through a `DiscreteFlow` from 0 to 1, or through the `Inverse` of one from 1 to 0, and perhaps, in a
    `Chain`, through other stages behind it, which keep their parameters.  `x`: (N, D).

    `path`: "conditional" (1), "independent" (2), "variance preserving" (3) or "schroedinger bridge" (4); `sigma`: the deviation
    around it; `transport`: are noise and data of a batch paired by (7)?  The loss in `history` is (5), whose least value is not 0;
    what is held out is measured by its likelihood, as in `fit`, and so is the best flow chosen.  `rng` draws noise and times.
    Everything else is as in `fit`.

    ValueError for arguments that do not fit; TrainingError, with the best flow so far, if a loss, gradient or parameter is not finite.
    """
    optimiser, schedule = checked_settings("fit_flow_matching", flow, optimiser, schedule, clip, averaging, every, patience, flat)
    at, rest = velocity_of(flow)
    if isinstance(optimiser, LBFGS):
        raise ValueError("fit_flow_matching: LBFGS needs a loss without noise")
    if path not in PATHS:
        raise ValueError(f"fit_flow_matching: path must be one of {', '.join(PATHS)}, not {path!r}")
    if not isinstance(sigma, (int, float)) or isinstance(sigma, bool) or not 0 <= sigma < np.inf:
        raise ValueError(f"fit_flow_matching: sigma must be a number >= 0, not {sigma!r}")
    checked_rng("fit_flow_matching", rng, True)
    x, weights, _ = checked_data(flow, x, None, None)
    for name, value, least in (("batch_size", batch_size, 1), ("steps", steps, 0)):
        checked_count(name, value, least)
    data, held_out = divided(flow, (x, weights, None, np.arange(len(x))), validation, rng)
    if patience is not None and held_out is None:
        raise ValueError("fit_flow_matching: patience needs validation data")
    checked_resume("fit_flow_matching", resume)
    kept = [".".join(name) for name, _ in flatten(flow.params()) if not is_fixed(name, [".".join(at)])]
    space = Unconstrained(flow, kept)
    problem = Matching(flow, space, data, held_out, batch_size, rng, transform, at, rest, path, sigma, transport)
    steps = 1000 if steps is None else steps
    record = Record(problem, space, every or max(10, problem.per_epoch), patience, flat, callback, Progress(progress, steps))
    return trained(record, optimiser, schedule, steps, clip, averaging, resume)


def velocity_of(flow):
    """(the path of the network of velocities, the stages from t = 1 to the data)."""
    whole = flow.bijector
    first, *rest = whole.stages if isinstance(whole, Chain) else (whole,)
    there = ("bijector", "stages", "0") if isinstance(whole, Chain) else ("bijector",)
    backwards = isinstance(first, Inverse)
    in_time = first.inner if backwards else first
    if not isinstance(in_time, DiscreteFlow) or not isinstance(flow.base, StandardNormal):
        raise ValueError("fit_flow_matching: flow must be of a StandardNormal through a DiscreteFlow, or the Inverse of one, first; it "
                         f"is of a {type(flow.base).__name__} through {type(in_time).__name__}")
    times = (in_time.end, in_time.start) if backwards else (in_time.start, in_time.end)
    if times != (0, 1):
        raise ValueError(f"fit_flow_matching: noise must be at time 0 and data at time 1, not at {times[0]} and {times[1]}")
    return (*there, *(("inner",) if backwards else ()), "net"), rest
