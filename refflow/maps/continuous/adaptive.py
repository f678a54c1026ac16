r"""Steps whose lengths follow from an estimate of their errors, and steps on a given grid, with their pullbacks.

A vector `y` changes in the time `t` at the rates `f(t, y)`.  A step of the length `h` from `t` has the stages
    k_i = f(t + c_i h, y + h sum_(j < i) a_ij k_j)                                  (1)
and the points between its ends, for `x` from 0 to 1, are
    y(x) = y + h sum_i B_i(x) k_i                                                   (2)
where `B_i(1) = b_i`.  On a given grid, each step goes to its end.

Dormand & Prince's scheme of order 5 has a seventh stage at the end of the step, whose `k` is the first one of the next step, an estimate
of the error, and a value in the middle with weights `m_i`, through which a polynomial of degree 4 leads:
    q = h sum_i e_i k_i                                                             (3)
    B_i(x) = w(x) b_i + u(x) m_i, and for the first and the last i also r(x) and s(x)           (4)
    w = -5 x^2 + 14 x^3 - 8 x^4,  u = 16 (x^2 - 2 x^3 + x^4),  r = x - 4 x^2 + 5 x^3 - 2 x^4,  s = x^2 - 3 x^3 + 2 x^4
A step is accepted if its error is at most 1 in the norm `N`, which is the largest root mean square of the vector's parts:
    E = N(q/(atol + rtol max(|y|, |y(1)|)))                                         (5)
and the next step, or the step that is tried again, has the length
    h min(10, max(0.9/E^(1/5), d)),   d = 1 for E < 1, else 1/5;   10 h for E = 0   (6)
No step is shortened to meet the end: the last one goes beyond it, and (2) is taken there.
The first length comes from the sizes of `y`, of `f = f(t, y)` and of how `f` changes, with `S = atol + rtol |y|`,
    d_0 = N(y/S),   d_1 = N(f/S),   h_0 = d_0/(100 d_1), or 10^-6 where one of them is below 10^-5         (7)
    d_2 = N((f(t + h_0, y + h_0 f) - f)/S)/h_0                                      (8)
    h_1 = (1/(100 max(d_1, d_2)))^(1/p),   h = min(100 h_0, h_1)                    (9)
with the scheme's order `p = 5`.

The reverse rule.  The steps are taken back from the last to the first: with the cotangent `y_bar` of (2), `k_i_bar = h B_i y_bar`, and from the
last stage to the first, with the cotangent `p_i` of the place in (1), which the rates' pullback gives for `k_i_bar`,
    y_bar + p_i,   k_j_bar + h a_ij p_i,   h_bar + <p_i, sum_j a_ij k_j>         (10)
take the places of `y_bar`, `k_j_bar` and `h_bar = <y_bar, sum_i B_i k_i>`, and `x = (end - t)/h` of the last step.  As in torchdiffeq,
which this follows, the lengths by (6) are numbers without a derivative, and so are the times at which the rates are asked; the first
length has one, through (7) to (9).                                             (11)
If the rates depend on the time, this gradient keeps an error of the size of the first length's derivative, however small the tolerances
are.  If the accepted steps are repeated on a given grid, the gradient of their result is exact.

The whole batch has one norm, so the steps of an event, and with them its digits, depend on the other events.

Source: Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, II.4 and II.5; Shampine, Some Practical Runge-Kutta Formulas,
Math. Comp. 46 (1986); Chen's torchdiffeq.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np

from ...core.tree import added, flatten, nest
from .schemes import SCHEMES

MOST = 2**14            # steps
A5, B5, C5 = SCHEMES["dopri5"].floats()
A = np.zeros((7, 7))
A[:6, :6], A[6, :6] = A5, B5
B, C = np.append(B5, 0.0), np.append(C5, 1.0)
ERROR = np.array([float(b - Fraction(low)) for b, low in zip(
    (*SCHEMES["dopri5"].b, 0), "1951/21600 0 22642/50085 451/720 -12231/42400 649/6300 1/60".split())])         # of (3)
MIDDLE = np.array([6025192743 / 30085553152, 0, 51252292925 / 65400821598, -2691868925 / 45128329728, 187940372067 / 1594534317056,
                   -1776094331 / 19743644256, 11237099 / 235043384]) / 2           # of (4)


class Solution(NamedTuple):
    """`state`: the vector at the end; `accepted`, `rejected`: (t, t + h) of the steps; `evaluations`: of the rates."""

    state: np.ndarray
    accepted: list
    rejected: list
    evaluations: int


class Taken:
    """The stages (1) of a step."""

    def __init__(self, system, a, c, t, h, y, first=None):
        self.a, self.h, self.y, self.k, self.pullbacks = a, h, y, [], []
        for i, row in enumerate(a):
            self.place = y + h * self.mean(row[:i])                                 # (1)
            k, pullback = first if i == 0 and first else system.rates_vjp(t + c[i] * h, self.place)     # (1)
            self.k.append(k), self.pullbacks.append(pullback)

    def mean(self, weights):
        return sum((w * k for w, k in zip(weights, self.k)), np.zeros_like(self.y))

    def at(self, weights):
        return self.y + self.h * self.mean(weights)                                 # (2)

    def taken_back(self, bar, weights):
        """(y_bar, h_bar, params_bar) of `at(weights)`."""
        y_bar, h_bar, params_bar = bar, bar @ self.mean(weights), {}
        k_bar = [self.h * w * bar for w in weights]
        for i in reversed(range(len(self.k))):
            _, p, of_rates = self.pullbacks[i](k_bar[i])                            # (11)
            row = self.a[i, :i]
            y_bar, h_bar, params_bar = y_bar + p, h_bar + p @ self.mean(row), added(params_bar, of_rates)       # (10)
            for j, a_ij in enumerate(row):
                k_bar[j] = k_bar[j] + self.h * a_ij * p                             # (10)
        return y_bar, h_bar, params_bar


class Backwards:
    """The rates of a system in the time -t."""

    def __init__(self, system):
        self.system, self.parts = system, system.parts

    def rates_vjp(self, t, y):
        rates, pullback = self.system.rates_vjp(-t, y)

        def backwards(bar):
            t_bar, y_bar, params_bar = pullback(-bar)
            return -t_bar, y_bar, params_bar

        return -rates, backwards


def on_grid_vjp(system, y, times, scheme):
    """(Solution, pullback) of steps of a scheme from each of the times to the next; `pullback(bar)` -> (y_bar, params_bar)."""
    a, b, c = SCHEMES[scheme].floats()
    steps = []
    for t, end in zip(times[:-1], times[1:]):
        steps.append(Taken(system, a, c, t, end - t, y))
        y = steps[-1].at(b)

    def pullback(bar):
        params_bar = {}
        for step in reversed(steps):
            bar, _, more = step.taken_back(bar, b)
            params_bar = added(params_bar, more)
        return bar, params_bar

    return Solution(y, list(zip(times[:-1], times[1:])), [], len(steps) * len(b)), pullback


def adaptive_vjp(system, y, start, end, atol, rtol):
    """(Solution, pullback) of Dormand & Prince's scheme with lengths by (6); `pullback(bar)` -> (y_bar, params_bar).

    `system`: `rates_vjp(t, y)` and the `parts` of y; ArithmeticError for a step that is lost beside t, and after 2^14 steps.
    """
    if end < start:
        return adaptive_vjp(Backwards(system), y, -start, -end, atol, rtol)
    t, rate = start, system.rates_vjp(start, y)
    h, of_first = first_length(system, t, y, rate, atol, rtol)
    steps, accepted, rejected = [], [], []
    while t < end:
        if not t + h > t or len(accepted) + len(rejected) == MOST:
            raise ArithmeticError(f"adaptive_vjp: no step is short enough at t = {t}: the rates are too stiff, or not finite")
        step = Taken(system, A, C, t, h, y, rate)
        there = step.place
        E = norm(h * step.mean(ERROR) / (atol + rtol * np.maximum(np.abs(y), np.abs(there))), system.parts)[0]       # (3) (5)
        if E <= 1:
            accepted.append((t, t + h)), steps.append((step, t))
            t, y, rate = t + h, there, (step.k[-1], step.pullbacks[-1])
        else:
            rejected.append((t, t + h))
        h = next_length(h, E)
    evaluations = 2 + 6 * (len(accepted) + len(rejected))
    if not steps:
        return Solution(y, [], [], evaluations), lambda bar: (bar, {})
    last, begun = steps[-1]
    x = (end - begun) / last.h
    first_is_kept = not rejected or rejected[0][0] != start

    def pullback(bar):
        at_x, slope = dense(x)
        x_bar = last.h * (bar @ last.mean(slope))
        h_bar_of_x, t_bar = -x * x_bar / last.h, -x_bar / last.h
        params_bar, weights = {}, at_x
        for n in reversed(range(len(steps))):
            bar, h_bar, more = steps[n][0].taken_back(bar, weights)                 # (10)
            params_bar, weights = added(params_bar, more), B
            h_bar = h_bar + (h_bar_of_x if n == len(steps) - 1 else t_bar)
        if first_is_kept:
            more_bar, more = of_first(h_bar)                                        # (11)
            bar, params_bar = bar + more_bar, added(params_bar, more)
        return bar, params_bar

    return Solution(last.at(dense(x)[0]), accepted, rejected, evaluations), pullback


def dense(x):
    """B_i(x) and their derivatives, of (4)."""
    ends = np.zeros((2, 7))
    ends[0, 0] = ends[1, -1] = 1.0
    powers, slopes = x ** np.arange(1, 5), np.arange(1, 5) * x ** np.arange(4)
    polynomials = np.array([[0, -5, 14, -8], [0, 16, -32, 16], [1, -4, 5, -2], [0, 1, -3, 2]])
    parts = np.stack([B, MIDDLE, *ends])
    return (polynomials @ powers) @ parts, (polynomials @ slopes) @ parts           # (4)


def next_length(h, E):
    """(6)."""
    return h * (10.0 if E == 0 else min(10.0, max(0.9 / E**0.2, 1.0 if E < 1 else 0.2)))       # (6)


def norm(vector, parts):
    """(N, its gradient): the largest root mean square of the parts."""
    sizes = [np.sqrt((vector[part]**2).mean()) for part in parts]
    most = int(np.argmax(sizes))
    gradient, part = np.zeros_like(vector), parts[most]
    if sizes[most] > 0:
        gradient[part] = vector[part] / (len(vector[part]) * sizes[most])
    return sizes[most], gradient


def first_length(system, t, y, rate, atol, rtol, order=5):
    """(h, pullback) of (7) to (9); `pullback(h_bar)` -> (y_bar, params_bar)."""
    f, of_f = rate
    S = atol + rtol * np.abs(y)
    (d_0, by_0), (d_1, by_1) = norm(y / S, system.parts), norm(f / S, system.parts)         # (7)
    tiny = min(d_0, d_1) < 1e-5
    h_0 = 1e-6 if tiny else 0.01 * d_0 / d_1                                        # (7)
    f_1, of_f_1 = system.rates_vjp(t + h_0, y + h_0 * f)                            # (8)
    change, by_2 = norm((f_1 - f) / S, system.parts)
    d_2 = change / h_0                                                              # (8)
    still = max(d_1, d_2) <= 1e-15
    h_1 = max(1e-6, 1e-3 * h_0) if still else (0.01 / max(d_1, d_2)) ** (1 / order)         # (9)

    def pullback(h_bar):
        d_bar, h_0_bar = np.zeros(3), 100 * h_bar if 100 * h_0 < h_1 else 0.0       # (9)
        if 100 * h_0 >= h_1 and not still:
            d_bar[2 if d_2 > d_1 else 1] = -h_1 / (order * max(d_1, d_2)) * h_bar      # (9)
        h_0_bar = h_0_bar - d_bar[2] * d_2 / h_0                                    # (8)
        change_bar = d_bar[2] / h_0 * by_2                                          # (8)
        _, place_bar, params_bar = of_f_1(change_bar / S)                           # (8) (11)
        h_0_bar = h_0_bar + place_bar @ f
        if not tiny:
            d_bar[0], d_bar[1] = 0.01 / d_1 * h_0_bar, d_bar[1] - h_0 / d_1 * h_0_bar           # (7)
        y_bar = place_bar + d_bar[0] * by_0 / S
        f_bar = h_0 * place_bar - change_bar / S + d_bar[1] * by_1 / S
        S_bar = -(change_bar * (f_1 - f) + d_bar[0] * by_0 * y + d_bar[1] * by_1 * f) / S**2
        _, more_bar, more = of_f(f_bar)
        return y_bar + more_bar + rtol * np.sign(y) * S_bar, added(params_bar, more)

    return min(100 * h_0, h_1), pullback


class Adjoint:
    """The rates of [0, y, y_bar, params_bar] along a path that is followed backwards, from the end: the continuous adjoint of (1).

    dy_bar/dt = -(df/dy)^T y_bar, and the parameters' cotangents likewise.  The 0 stands for the time's, which is not asked.
    """

    def __init__(self, system, shapes):
        """`shapes`: {path: shape} of the parameters."""
        self.system, self.shapes = system, shapes
        size = system.parts[-1].stop
        self.size, ends = size, 1 + 2 * size + np.cumsum([int(np.prod(shape)) for shape in shapes.values()], dtype=int)
        starts = [1 + 2 * size, *ends[:-1]]
        self.parts = [slice(0, 1), *(slice(part.start + 1 + k * size, part.stop + 1 + k * size) for k in (0, 1) for part in system.parts),
                      *(slice(a, b) for a, b in zip(starts, ends))]

    def rates_vjp(self, t, whole):
        y, bar = whole[1:self.size + 1], whole[self.size + 1:2 * self.size + 1]
        rates, pullback = self.system.rates_vjp(t, y)
        _, y_bar, params_bar = pullback(-bar)
        leaves = dict(flatten(params_bar))
        return np.concatenate([[0.0], rates, y_bar, *(np.ravel(leaves[path]) for path in self.shapes)]), None

    def begun(self, y, bar):
        """The vector at the end of the path."""
        return np.concatenate([[0.0], y, bar, np.zeros(self.parts[-1].stop - 1 - 2 * self.size)])

    def read(self, whole):
        """(y_bar, params_bar) of the vector at the start of the path."""
        held = {path: whole[part].reshape(shape) for (path, shape), part in zip(self.shapes.items(), self.parts[-len(self.shapes):])}
        return whole[self.size + 1:2 * self.size + 1], nest(held)
