r"""The truth, to 50 digits, derived from one believed equation per map.

Only a page's `definition(m, z, **fields)` is believed: x = f(z; fields), for one event.  From it follow

    J = dx/dz                                    l = log|det J|                              (1)
    L = <x_bar, x> + l_bar l                     vjp = dL/d(z, fields)                       (2)
    f(z) = x  defines  z(x, fields)              inverse l = -l(z(x, fields), fields)        (3)
    L = <z_bar, z> + l_bar (inverse l)           inverse vjp = dL/d(x, fields)               (4)
    kappa(q) = |q| + sum_j |dq/d input_j| |input_j|        the unit of error of q            (5)

where the inputs are the event, every entry of every real field, and the cotangents that q depends on; also the values that one
part of a composition rounds and hands to the next: the fields that a family makes from a network's outputs.  Where an
intermediate that a definition marks as `intermediate` is subnormal, its spacing is the size of its change.

Numbers are balls (python-flint `arb`): a midpoint and a proved radius, with unbounded exponents.  A quantity is settled when
its radius is below 1e-50 of its value, when it is exactly 0, or when it is proved smaller than anything the dtype can hold.
90 digits settle most quantities of float64; where they do not, or a ball cannot decide a branch, the precision starts at 700
digits (100 for float32) and doubles.  A quantity that gains no bit in three doublings is out of reach: exp(-exp(1e300)), say,
is a ball around 0 at every precision, whose logarithm is NaN.

Derivatives are exact: dual numbers over balls, nested once per order of differentiation.  Where x lies in a set of lower
dimension, z(x, fields) is the printed `inverse_definition` as a function of all its entries.  With F the tangents at z as columns, or
I if every entry of z moves alone, l is by the coordinates of x, or by its own volume,

    l = log|det (J F)[chart]|,   l = 1/2 log det (J F)^T (J F)                               (6)

minus 1/2 log det F^T F if that of z is its own volume.  Of a product that counts both volumes, with the tangents T_b of each part b of x
that is counted by its own volume, and the tangents F_b of such parts of z,

    l = log|det M| - sum_b 1/2 log det T_b^T T_b - sum_b 1/2 log det F_b^T F_b,
    M = the rows (J F)[chart] and T_b^T (J F)_b, part by part                                (7)

since T_b = B R with orthonormal columns of B, whose rows B^T J F are coordinates of unit volume.  J and z_bar are then compared along F:
beyond its set, a definition may be extended in any way.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any, Callable

import numpy as np
from flint import arb, ctx

from .balls import RECORDED, Ambiguous, Dual, ball, constant, gradient, inverse, log_abs_det, m, mid_ball, seen_from, sign

ALONG_TANGENTS = "jacobian", "vjp.z_bar"            # their last axis is that of z
EVENT = RECORDED + 1                                # the level of the event, for its Jacobian

FEW_DIGITS = 90                                     # of float64, enough for most points
FIRST_DIGITS = {"float64": 700, "float32": 100}     # enough for z^2 + 1 to differ from 1 at the smallest z
DOUBLINGS = 6
FRUITLESS = 3                                       # doublings that gain no bit: eight times the digits, or 17 orders of z at 700
NEGLIGIBLE = {"float64": -1200, "float32": -240}    # exponents of 2 below every number of the dtype, subnormal or not
UNPROVED = 8                                        # proofs that fail at the floor of the digits
FAR = [1104 << k for k in range(1, 62)]             # also for roots that overflow or underflow in the dtype
OFF_THE_SET = 2.0**-10
LADDER = [-e for e in reversed(FAR)] + list(range(-1104, 1105, 16)) + FAR


class TruthNotFound(ArithmeticError):
    """The named quantities are not settled at any precision tried; `settled` holds the others."""

    def __init__(self, message, settled=()):
        super().__init__(message)
        self.settled = dict(settled)


# ---------------------------------------------------------------- problems and quantities

@dataclass(frozen=True)
class Problem:
    """One map at one set of fields: nested lists of exact floats, constants passed as they are."""

    definition: Callable                            # (m, z, **fields)
    fields: dict[str, Any]
    constants: frozenset[str] = frozenset()
    inverse_definition: Callable | None = None      # (m, x, **fields)
    chart: tuple[int, ...] | None = None            # flat output indices of log_det's square block; None = all
    normwise: bool = False
    inside: Callable | None = None                  # (flat z as exact balls) -> is it in the domain?  None = all of them
    has_log_det: bool = True                        # False for a map that need not be invertible
    own_volume: bool = False                        # of x, not that of its coordinates
    tangents: Callable | None = None                # (flat z) -> rows of F
    own_volume_of_z: bool = False
    parts: Callable | None = None                   # (flat x) -> [(entries, T_b, or None by coordinates)] of a product of both
    own_parts_of_z: Callable | None = None          # (flat z) -> [F_b]
    entrywise_log_det: bool = False                 # the unit of log_det is entrywise, that of all else normwise


@dataclass(frozen=True)
class Quantity:
    """Entries in row-major order, as balls, and the unit kappa (5) of each; normwise, one unit for all."""

    shape: tuple[int, ...]
    value: list[arb]
    kappa: list[arb]
    normwise: bool = False
    tangents: list | None = None                    # F; None: entries are compared one by one

    def decimals(self, digits=30) -> list[str]:
        return [decimal(q, digits) for q in self.value]

    def bits(self) -> int:
        """The relative accuracy of the worst number here."""
        return min((x.rel_accuracy_bits() for x in self.value + self.kappa), default=0)

    def settled(self, dtype) -> bool:
        return all(known(q, 170, dtype) for q in self.value) and all(known(k, 12, dtype) for k in self.kappa)


def known(x, bits, dtype):
    return x.rel_accuracy_bits() >= bits or bool(x.abs_upper() < arb(2) ** NEGLIGIBLE[np.dtype(dtype).name])


def decimal(x, digits):
    """`digits` significant digits without trailing zeros; 0 for a ball that reaches 0."""
    if x.contains(0):
        return "0"
    mantissa, e, exponent = x.mid().str(digits, radius=False).partition("e")
    return (mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa) + e + exponent


def flatten(nested):
    """(flat list, shape) of nested lists or an array."""
    if isinstance(nested, (np.ndarray, np.generic)):
        nested = nested.tolist()
    if not isinstance(nested, (list, tuple)):
        return [nested], ()
    parts = [flatten(part) for part in nested]
    if any(shape != parts[0][1] for _, shape in parts):
        raise ValueError("ragged nested lists")
    return [x for flat, _ in parts for x in flat], (len(parts), *(parts[0][1] if parts else ()))


def nest(flat, shape):
    if not shape:
        return flat[0]
    step = len(flat) // shape[0] if shape[0] else 0
    return [nest(flat[i * step:(i + 1) * step], shape[1:]) for i in range(shape[0])]


def exact_fields(problem):
    """The fields of a definition, as numbers without derivatives."""
    def exact(value):
        flat, shape = flatten(value)
        return nest([constant(v) for v in flat], shape)

    return {name: value if name in problem.constants else exact(value) for name, value in problem.fields.items()}


class Handing:
    """The namespace m of one evaluation of a definition, in which values handed on are inputs: they get a factor of 1."""

    def __init__(self, inputs):
        self.inputs, self.count, self.subnormal = inputs, 0, 0

    def __getattr__(self, name):
        return getattr(m, name)

    def passed_on(self, value):
        if self.count == len(self.inputs.factors):
            self.inputs.factors += self.inputs.add(f"factor {self.count}", 1.0)[0]
        self.count += 1
        return value * self.inputs.factors[self.count - 1]

    def intermediate(self, value, exponential=False):
        """A numbered intermediate: if it is subnormal its rounding is a spacing, held by an input of 0 with that size.

        For an exponential the input is the relative error, which its derivatives share.
        """
        limits, size = np.finfo(self.inputs.dtype), abs(mid_ball(constant(value)))
        if not 0 < size < ball(limits.tiny):
            return value
        if self.subnormal == len(self.inputs.offsets):
            self.inputs.offsets += self.inputs.add(f"subnormal {self.subnormal}", 0.0)[0]
            spacing = 2 * ball(limits.tiny)                                         # in units of rounding
            self.inputs.sizes[len(self.inputs.values) - 1] = spacing / size if exponential else spacing
        self.subnormal += 1
        offset = self.inputs.offsets[self.subnormal - 1]
        return value * (1 + offset) if exponential else value + offset


class Inputs:
    """Everything the answer depends on, as variables of dual numbers of levels 1 .. order."""

    def __init__(self, problem, order, dtype):
        self.problem, self.order, self.values, self.blocks, self.spans = problem, order, [], [], {}
        self.fields, self.factors, self.offsets, self.sizes, self.dtype = dict(problem.fields), [], [], {}, dtype

    def add(self, name, nested, order=None):
        """The variables of one block, flat, and its shape."""
        if name in self.spans:
            raise ValueError(f"a field has the name of the event, {name!r}")
        flat, shape = flatten(nested)
        first, flat = len(self.values), [ball(x) for x in flat]
        self.spans[name] = range(first, first + len(flat)), shape
        self.values += flat
        for level in range(1, (order or self.order) + 1):
            flat = [Dual(x, {j: 1}, level) for j, x in enumerate(flat, first)]
        return flat, shape

    def add_fields(self):
        for name, nested in self.problem.fields.items():
            if name not in self.problem.constants:
                self.fields[name] = nest(*self.add(name, nested))

    def quantity(self, name, numbers, shape):
        """The entries of one quantity with their kappa (5), from the partials of level 1."""
        values, slopes = zip(*(seen_from(1, x) for x in numbers)) if numbers else ((), ())
        values = [ball(v) for v in values]
        if self.problem.normwise and not (self.problem.entrywise_log_det and name in ("log_det", "inverse_log_det")):
            kappa = [norm(values) + sum((self.block_norm(slopes, span) for span, _ in self.spans.values()), arb(0))]
            return Quantity(shape, values, kappa * len(values), normwise=True)
        # an input of 0 contributes 0 even if its derivative is infinite
        return Quantity(shape, values, [
            abs(v) + sum((abs(p * self.size(j)) for j, p in dv.items() if self.size(j) != 0), arb(0))
            for v, dv in zip(values, slopes)])

    def size(self, j):
        return self.sizes.get(j, self.values[j])

    def block_norm(self, slopes, span):
        """||dq/dblock||_2 ||block||; the spectral norm in floats after scaling by the largest entry."""
        matrix = [[ball(dv.get(j, 0)) for j in span] for dv in slopes]
        largest = max((p.abs_upper() for row in matrix for p in row), default=arb(0))
        size = norm([self.size(j) for j in span])
        if not largest.is_finite() or not largest > 0:
            return largest * size
        return largest * size * float(np.linalg.norm([[float((p / largest).mid()) for p in row] for row in matrix], 2))


def norm(values):
    return sum((v * v for v in values), arb(0)).nonnegative_part().sqrt()       # balls around 0 reach below 0


def values_jacobian_log_det(inputs, z, shape):
    """f(z), its shape, J and l of (1), None if there is none; z are duals of the inputs' levels."""
    problem = inputs.problem
    event = nest([Dual(x, {i: 1}, EVENT) for i, x in enumerate(z)], shape)
    x, out_shape = flatten(problem.definition(Handing(inputs), event, **inputs.fields))
    values, partials = zip(*(seen_from(EVENT, constant(entry)) for entry in x)) if x else ((), ())
    J = [[dx.get(i, 0) for i in range(len(z))] for dx in partials]
    if not problem.has_log_det:
        return list(values), out_shape, J, None
    F = problem.tangents(z) if problem.tangents else None
    columns, count = (J, len(z)) if F is None else (product(J, F), len(F[0]))
    l = log_volume(columns) if problem.own_volume else log_of_rows(square_rows(problem, columns, count, values))
    before = [F] if problem.own_volume_of_z else problem.own_parts_of_z(z) if problem.own_parts_of_z else []
    after = [T for _, T in problem.parts(values) if T is not None] if problem.parts else []
    return list(values), out_shape, J, l - sum(map(log_volume, before + after), constant(0))        # (6) (7)


def square_rows(problem, columns, size, x):
    """The rows of M of (7), or of the coordinates of (6)."""
    if problem.parts:
        return [row for entries, T in problem.parts(x) for own in [[columns[i] for i in entries]]
                for row in (own if T is None else product(list(zip(*T)), own))]
    rows = range(len(columns)) if problem.chart is None else problem.chart
    count = len(columns[0]) if columns else size
    if len(rows) != count:
        raise ValueError(f"log_det needs a chart: {count} entries in, {len(rows)} out")
    return [columns[r] for r in rows]


def log_of_rows(rows):
    return log_abs_det(rows) if rows else constant(0)


def product(A, B):
    return [[sum((a * B[k][j] for k, a in enumerate(row)), constant(0)) for j in range(len(B[0]))] for row in A]


def log_volume(columns):
    """1/2 log det M^T M."""
    count = range(len(columns[0]))
    squares = [[sum((row[i] * row[j] for row in columns), constant(0)) for j in count] for i in count]
    return log_abs_det(squares) / 2 if count else constant(0)


def midpoints(F):
    return [[mid_ball(entry).mid() for entry in row] for row in F]


def settle(compute, dtype):
    """Double the precision until every quantity of compute() is settled or shown to be out of reach."""
    reached, first = [], FIRST_DIGITS[np.dtype(dtype).name]
    for digits in ([FEW_DIGITS] if first > FEW_DIGITS * 2 else []) + [first << doubling for doubling in range(DOUBLINGS + 1)]:
        with ctx.workdps(digits):
            try:
                quantities = compute()
            except Ambiguous as reason:
                unsettled, settled = [str(reason)], {}
                continue
            except TruthNotFound:
                if digits == FEW_DIGITS:        # too few to prove a root
                    continue
                raise
            settled = {name: quantity for name, quantity in quantities.items() if quantity.settled(dtype)}
            unsettled = [name for name in quantities if name not in settled]
            if not unsettled:
                return quantities
            if digits >= first:
                reached.append({name: quantities[name].bits() for name in unsettled})
            if fruitless(reached):
                break
    raise TruthNotFound(", ".join(unsettled), settled)


def fruitless(reached):
    """Did no unsettled quantity gain a bit in the last FRUITLESS doublings?  `reached` has the bits of each, by precision."""
    if len(reached) <= FRUITLESS:
        return False
    before, now = reached[-1 - FRUITLESS], reached[-1]
    return all(name in before and bits <= before[name] for name, bits in now.items())


def pulled_back(inputs, prefix, event, x, l, x_bar, l_bar):
    """vjp.* of (2) or (4): the gradient of L, each partial still a dual of level 1, which gives its kappa."""
    L = constant(0)
    if x_bar is not None:
        bars, _ = inputs.add("bar of the event", x_bar, order=1)
        if len(bars) != len(x):
            raise ValueError(f"cotangent of {len(bars)} entries for an event of {len(x)}")
        L = sum((bar * entry for bar, entry in zip(bars, x)), L)
    if l_bar is not None:
        L = L + inputs.add("bar of log_det", l_bar, order=1)[0][0] * l
    partials = gradient(L)
    return {f"{prefix}.{name}_bar": ([partials.get(j, 0) for j in span], shape)
            for name, (span, shape) in inputs.spans.items() if name == event or name in inputs.problem.fields}


def assemble(inputs, quantities):
    """The quantities: what was recorded for the cotangents is dropped, level 1 gives kappa."""
    return {name: inputs.quantity(name, [seen_from(RECORDED, x)[0] for x in numbers], shape)
            for name, (numbers, shape) in quantities.items()}


def forward_truth(problem, z, x_bar=None, log_det_bar=None, dtype=np.float64) -> dict[str, Quantity]:
    """"forward", "log_det", "jacobian" and, given a cotangent, "vjp.z_bar" and "vjp.<field>_bar" of (1) and (2)."""
    def compute():
        inputs = Inputs(problem, 1 if x_bar is None and log_det_bar is None else 2, dtype)
        event, shape = inputs.add("z", z)
        inputs.add_fields()
        x, out_shape, J, l = values_jacobian_log_det(inputs, event, shape)
        found = {"forward": (x, out_shape)} | ({"log_det": ([l], ())} if problem.has_log_det else {})
        found |= {"jacobian": (sum(J, []), (len(x), len(event)))}
        if problem.inverse_definition:
            back, _ = flatten(problem.inverse_definition(m, nest([constant(mid_ball(v)) for v in x], out_shape),
                                                         **inputs.fields))
            if not all(comes_back(mid_ball(b), mid_ball(v), event, problem) for b, v in zip(back, event)):
                raise ValueError("inverse_definition(definition(z)) is not z")
        if inputs.order == 2:
            found |= pulled_back(inputs, "vjp", "z", x, l, x_bar, log_det_bar)
        found = assemble(inputs, found)
        F = midpoints(problem.tangents(event)) if problem.tangents else None
        return found | {name: replace(found[name], tangents=F) for name in ALONG_TANGENTS if F and name in found}

    return settle(compute, dtype)


def comes_back(again, v, event, problem):
    """Is an entry of z what the printed inverse gives?  A rounded z satisfies its equations to within rounding only."""
    if again.overlaps(v) or not problem.tangents:
        return again.overlaps(v)
    return bool(abs(again - v) < OFF_THE_SET * largest([mid_ball(entry) for entry in event]))


def inverse_truth(problem, x, z_bar=None, log_det_bar=None, guess=None, dtype=np.float64) -> dict[str, Quantity]:
    """"inverse", "inverse_log_det"; given a cotangent, "inverse_vjp.x_bar", "inverse_vjp.<field>_bar": (3) and (4).

    The latent event has the shape of `guess` if given, else of `z_bar`, else of x.
    """
    like = next(a for a in (guess, z_bar, x) if a is not None)
    claim = [] if guess is None else flatten(guess)[0]

    def compute():
        inputs = Inputs(problem, 1 if z_bar is None and log_det_bar is None else 2, dtype)
        event, shape = inputs.add("x", x)
        inputs.add_fields()
        if problem.inverse_definition:
            z, z_shape = flatten(problem.inverse_definition(m, nest(event, shape), **inputs.fields))
        else:
            z_shape = flatten(like)[1]
            root = Solver(problem, [mid_ball(v) for v in event], z_shape).solve(claim)
            claim[:] = [v.mid() for v in root]      # the next precision starts where this one ended
            z = implicit(inputs, root, event, z_shape)
        l = -values_jacobian_log_det(inputs, z, z_shape)[3]
        found = {"inverse": (z, z_shape), "inverse_log_det": ([l], ())}
        if inputs.order == 2:
            found |= pulled_back(inputs, "inverse_vjp", "x", z, l, z_bar, log_det_bar)
        return assemble(inputs, found)

    return settle(compute, dtype)


# ---------------------------------------------------------------- the inverse of a square map

def implicit(inputs, root, x, shape):
    """z(x, fields) of (3) with all its derivatives, around the root z0.

    z <- z - J(z0)^-1 (f(z, fields) - x) in dual numbers: with J frozen, each step makes one more order of derivatives
    exact, since the error e becomes J^-1 (J - J(z)) e.  The value stays the proved ball.
    """
    W = inverse(Solver(inputs.problem, [], shape).step(root)[1])
    z = root
    for _ in range(inputs.order):
        event = nest([constant(v) for v in z], shape)
        out = flatten(inputs.problem.definition(Handing(inputs), event, **inputs.fields))[0]
        residual = [v - t for v, t in zip(out, x)]
        z = [with_ball(v - sum(w * r for w, r in zip(row, residual)), v0) for v, row, v0 in zip(z, W, root)]
    return z


def with_ball(x, root):
    return Dual(with_ball(x.value, root), x.partials, x.level) if type(x) is Dual else root


class Solver:
    """The root of f(z) = x: Newton's method on midpoints, then Krawczyk's proof that a ball holds a root."""

    def __init__(self, problem, x, shape):
        self.problem, self.x, self.shape = problem, x, shape
        self.fields = exact_fields(problem)

    def inside(self, z):
        return self.problem.inside is None or self.problem.inside(z)

    def step(self, z):
        """f(z), J(z)."""
        event = nest([Dual(v, {i: 1}, 1) for i, v in enumerate(z)], self.shape)
        out = flatten(self.problem.definition(m, event, **self.fields))[0]
        value, partials = zip(*(seen_from(1, constant(entry)) for entry in out))
        if len(value) != len(z):
            raise ValueError(f"{len(z)} entries in, {len(value)} out: an inverse_definition is needed")
        return value, [[ball(dv.get(i, 0)) for i in range(len(z))] for dv in partials]

    def correction(self, z):
        """d = J^-1 (f(z) - x), J^-1 and |f(z) - x| at exact z; None outside the domain and if J is not invertible."""
        if not self.inside(z):
            return None
        try:
            value, J = self.step(z)
            W = inverse(J)
        except (ArithmeticError, ValueError):
            return None
        residual = [v - t for v, t in zip(value, self.x)]
        d = [sum(w * r for w, r in zip(row, residual)) for row in W]
        return (d, W, largest(residual)) if all(v.is_finite() for v in d) else None

    def newton(self, z):
        here, previous, unproved = self.correction(z), arb("inf"), 0
        for _ in range(100):
            if here is None or unproved == UNPROVED:
                return None
            d, W, residual = here
            size = largest(d)
            if size == 0:
                return z
            near = size < largest(z) * arb(2) ** -20
            if size < arb(2) ** (-2 * ctx.prec) or near and size * 256 > previous:      # no longer decreases: the floor
                root = self.proved(z, d, W, size)
                if root:
                    return root
                unproved += 1
            previous = size
            for halvings in range(40):
                trial = [(v - dv / 2 ** halvings).mid() for v, dv in zip(z, d)]
                here = self.correction(trial)
                if here and (near or here[2] < residual):
                    break
            else:
                return None
            z = trial
        return None

    def proved(self, z, d, W, size):
        """Krawczyk: K = z - d + (1 - J(z)^-1 J(Z)) (Z - z) inside the box Z about z proves a root, and it lies in K."""
        # besides 2|d|: the rounding of z - d, and if that fails, room for entries with d = 0 whose neighbours are larger
        rounding, floors = arb(2) ** (8 - ctx.prec), [arb(0), size * arb(2) ** (-ctx.prec // 2)]
        for floor in floors if len(z) > 1 else floors[:1]:
            root = self.proved_in([arb(v, 2 * dv.abs_upper() + abs(v) * rounding + floor) for v, dv in zip(z, d)], z, d, W)
            if root:
                return root
        return None

    def proved_in(self, Z, z, d, W):
        """The proof inside one box Z; None if it fails."""
        try:
            J = self.step(Z)[1]
        except Ambiguous:
            # A branch point inside the box.  If the box also holds a number of half its length, that is the branch
            # point and the root: a knot is a short number, and an unrelated one occurs with probability 2^(-prec/2).
            # It is the root only if f says so: far from the root the box of a long step may hold a branch point too.
            away = [v + v * arb(2) ** (-ctx.prec // 2 - 4) for v in z]      # numbers are rounded towards 0
            with ctx.workprec(ctx.prec // 2):
                short = [(+v).mid() for v in away]
            found = [s if V.contains(s) else V for s, V in zip(short, Z)]
            return found if self.may_solve(found) else None
        n = range(len(z))
        K = [z[i] - d[i] + sum(((i == k) - sum(W[i][j] * J[j][k] for j in n)) * (Z[k] - z[k]) for k in n) for i in n]
        return K if all(V.contains(k) for V, k in zip(Z, K)) else None

    def may_solve(self, z):
        """May the box z hold a root?  Yes if a branch inside it hides f."""
        try:
            return all((v - t).contains(0) for v, t in zip(self.step(z)[0], self.x))
        except Ambiguous:
            return True

    def side(self, z):
        """The sign of f(z) - x for a scalar event; None outside the domain."""
        if not self.inside([z]):
            return None
        try:
            (value,), _ = flatten(self.problem.definition(m, nest([constant(z)], self.shape), **self.fields))
            return sign(value - self.x[0])
        except (ArithmeticError, ValueError):
            return None

    def bracketed(self):
        """The root of a scalar map, monotone on an unknown interval: sides on a LADDER of powers of 2, then bisection.

        A pair with opposite sides holds the root; a pair with one end outside the domain may.  With few digits, which may not
        prove a root, one attempt is enough.
        """
        few = ctx.dps <= FEW_DIGITS
        brackets = []
        for direction in (1, -1):
            line = [arb(0)] + [direction * arb(2) ** e for e in LADDER]
            side = functools.cache(lambda i, line=line: self.side(line[i]))
            for i in changes(side, 0, len(line) - 1):
                a, b, s, t = line[i], line[i + 1], side(i), side(i + 1)
                if 0 in (s, t):
                    return [a if s == 0 else b]
                brackets.append((None in (s, t), a, b, s) if s else (True, b, a, t))
            if any(not beyond for beyond, *_ in brackets):
                break
        for _, known, other, s in sorted(brackets, key=lambda bracket: bracket[0])[:1 if few else None]:
            for bits in (100,) if few else (100, ctx.prec // 2):    # Newton's method usually takes over early
                known, other = self.bisected(known, other, s, bits)
                root = self.newton([known]) or self.newton([other])
                if root:
                    return root
        return None

    def bisected(self, known, other, s, bits):
        """The bracket halved, by exponents first, to a relative width of 2^-bits."""
        for _ in range(2 * ctx.prec):
            if abs(other - known) < abs(known) * arb(2) ** -bits:
                break
            product = known * other
            middle = (product.sqrt() * sign(known) if product > 0 else (known + other) / 2).mid()
            if self.side(middle) == s:
                known = middle
            else:
                other = middle
        return known, other

    def solve(self, claim):
        """Balls that hold z: from the claim, if it converges, else from the starts that suit every map."""
        n = len(self.x)
        starts = [[ball(v) for v in claim]] if len(claim) == n else []
        if n > 1:
            starts += [[v.mid() for v in self.x], [arb(0)] * n, [arb(1)] * n]
        for start in starts:
            root = self.newton(start) if all(v.is_finite() for v in start) else None
            if root:
                return root
        too_few = n == 1 and ctx.dps <= FEW_DIGITS and bool(starts) and self.may_solve(starts[0])       # digits, at a good claim
        root = self.bracketed() if n == 1 and not too_few else None
        if not root:
            raise TruthNotFound("inverse: no root of definition(z) = x")
        return root


def changes(side, low, high):
    """The i in low .. high - 1 where side(i) and side(i + 1) differ.  Between equal signs are none, since f is monotone."""
    here, there = side(low), side(high)
    if here == there and here is not None:
        return []
    if high - low == 1:
        return [low] if here != there else []
    middle = (low + high) // 2
    return changes(side, low, middle) + changes(side, middle, high)


def largest(values):
    return max(v.abs_upper() for v in values)


# ---------------------------------------------------------------- the error of a claim

def error(given, quantity, dtype) -> float:
    """The largest over the entries of

        C = |given - true| / max(u kappa, s)                                                 (7)

    where u is the unit roundoff and s the subnormal spacing of dtype, which matters only below twice the smallest normal
    number.  An infinity is taken for the least number that rounds to it, if the truth is within u kappa of that
    number.  C is inf for NaN, and for an infinity elsewhere.  Normwise, |.| is the norm over all entries.
    """
    given = np.asarray(given)
    if given.shape != quantity.shape:
        raise ValueError(f"shape {given.shape}, expected {quantity.shape}")
    limits = np.finfo(dtype)
    with ctx.workdps(100):
        u, s = ball(limits.eps) / 2, ball(limits.smallest_subnormal)
        overflow = arb(2) ** int(limits.maxexp) * (1 - u / 2)       # numbers beyond it round to infinity
        distance = []
        for g, true, k in zip(given.ravel().tolist(), quantity.value, quantity.kappa):
            if np.isfinite(g):
                distance.append(abs(ball(g) - true).mid())
                continue
            short = short_of(g, true, (u * k).mid(), overflow)
            if short is None:
                return np.inf
            distance.append(short)
        if quantity.normwise and distance:
            distance = [norm(distance)]
        return max((float(d / max((u * k).mid(), s)) for d, k in zip(distance, quantity.kappa)), default=0.0)


def short_of(g, true, room, overflow):
    """How far the truth of an infinity is from what rounds to it; None if that is more than the room, and for NaN."""
    short = overflow - (true if g > 0 else -true)                   # by how much the truth is finite
    return None if np.isnan(g) or not (short <= 0 or short <= room) else max(short, arb(0)).mid()
