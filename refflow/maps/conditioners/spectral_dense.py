r"""Dense layer with bounded norm, `R^N -> R^M`: a larger matrix is divided by its spectral norm.

The map.  With a bound `c = coefficient` and unit vectors `u` and `v`,
    s = u^T W v                                                                     (1)
    V = W/max(1, s/c)                                                               (2)
    h = V a + b                                                                     (3)
    dh/da = V                                                                       (4)
Among unit vectors, (1) is largest at the singular vectors of `W` for its largest singular value.  There `s` is that value, so the
norm of `V` is at most `c`.  The layer takes these vectors if `u` and `v` are not given.  Power iteration leads given ones to them,
    v <- W^T u/|W^T u|,   u <- W v/|W v|                                            (5)
and raises `s`.  As long as `s` is less than the norm of `W`, the norm of `V` may be more than `c`.

The reverse rule.  If `u` and `v` are given, they are constants.  Singular vectors may be taken for constants, because (1) is
largest there, and moving them changes `s` to second order only.  So `ds = u^T dW v`, and with `V_bar` the cotangent of `V`,
    a_bar = V^T h_bar     V_bar = h_bar a^T     b_bar = h_bar                       (6)
    W_bar = (c/s) (V_bar - <V_bar, W/s> u v^T)    for s > c,   V_bar otherwise      (7)
Tangents `A_dot` become `V A_dot`, by (4).  With the cotangent `H_bar` of these, beside (6),
    A_dot_bar = V^T H_bar     V_bar = H_bar A_dot^T                                 (8)
The unit of error is normwise: (7) projects, and if one entry of `W` outweighs all others, its own cotangent is a small difference
of large numbers.

Source: Behrmann, Grathwohl, Chen, Duvenaud and Jacobsen, Invertible Residual Networks, arXiv:1811.00995, section 2.1; power iteration
of Miyato, Kataoka, Koyama and Yoshida, Spectral Normalization for Generative Adversarial Networks, arXiv:1802.05957.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Conditioner, case, conditioner, constant, plain, real, refusal
from ...core.arrays import doubled, rounded
from ...core.products import event_sum, product
from ...core.rules import ABOVE_0
from .dense import affine, largest_singular_value
from .examples import WIDTHS, weights
from .weight_norm import outer_sum_apart

SQUARINGS = 21                                  # of the definition: singular values to the power 2^22
OF_UNIT = 2.0**-20                              # how far the length of u and v may be from 1, as in float32


class textbook:
    """(1) to (8) as they are printed, for one event."""

    def singular_vectors(W):
        """u and v for the largest singular value: powers of W^T W tend to a multiple of v v^T."""
        A = W.T @ W
        for _ in range(64):
            A = A / np.trace(A)
            A = A @ A                                                               # (5)
        v = A[np.argmax(np.diag(A))]
        v = v / np.sqrt((v**2).sum())                                               # (5)
        return W @ v / np.sqrt(((W @ v) ** 2).sum()), v                             # (5)

    def norm(W, u, v):
        """s, u and v."""
        if not W.any():
            return 0, u, v
        u, v = textbook.singular_vectors(W) if u is None else (u, v)
        return u @ W @ v, u, v                                                      # (1)

    def bounded(W, u, v, coefficient):
        s = textbook.norm(W, u, v)[0]
        return W / max(1, s / coefficient)                                          # (2)

    def forward(a, W, b, u, v, coefficient):
        return textbook.bounded(W, u, v, coefficient) @ a + b                       # (3)

    def jacobian(a, W, b, u, v, coefficient):
        return textbook.bounded(W, u, v, coefficient)                               # (4)

    def of_weights(W, u, v, coefficient, V_bar):
        s, u, v = textbook.norm(W, u, v)
        if s <= coefficient:
            return V_bar                                                            # (7)
        return coefficient / s * (V_bar - np.outer((V_bar * W / s).sum() * u, v))   # (7)

    def vjp(a, W, b, u, v, coefficient, h_bar):
        a_bar = textbook.bounded(W, u, v, coefficient).T @ h_bar                    # (6)
        return a_bar, {"W": textbook.of_weights(W, u, v, coefficient, np.outer(h_bar, a)), "b": h_bar}      # (6) (7)

    def jvp(a, A_dot, W, b, u, v, coefficient, h_bar, H_bar):
        a_bar, bars = textbook.vjp(a, W, b, u, v, coefficient, h_bar)
        of_tangents = textbook.of_weights(W, u, v, coefficient, H_bar @ A_dot.T)    # (7) (8)
        return a_bar, textbook.bounded(W, u, v, coefficient).T @ H_bar, bars | {"W": bars["W"] + of_tangents}       # (8)


r"""In floating point.

In (1) to (8), float32 loses units in the singular vectors.  Everything is computed in float64, and rounded once.              (9)

In (7), a product with `V_bar` may overflow where the cotangents do not, as in `WeightNormDense`.  With this `k`, it does not:
    V_bar = 2^k h_bar (2^-k a)^T                                                    (10)
"""


@conditioner(source="arXiv:1811.00995", normwise=True, textbook=textbook)
class SpectralDense(Conditioner):
    """h = V a + b, V = W/max(1, s/coefficient), with the spectral norm s of W, or s = u^T W v; W (M, N), b and u (M,), v (N,).

    `iterated(steps)` gives the layer with the u and v of further steps of power iteration.
    """

    W: Array = real("M", "N")
    b: Array = real("M", default=0.0)
    u: Array = constant("M", dtype=np.float64, optional=True)
    v: Array = constant("N", dtype=np.float64, optional=True)
    coefficient: float = plain(0.98, ABOVE_0)
    event_shape = ("N",)

    fixed_shape = property(lambda self: self.W.shape[-1:])

    def _validate(self):
        if (self.u is None) != (self.v is None):
            raise ValueError("SpectralDense: u and v must be given together")
        if self.u is not None:
            check_lengths(self)
        super()._validate()

    def output_shape(self, shape):
        if shape != self.fixed_shape:
            raise ValueError(f"its events have N={self.fixed_shape[0]} entries")
        return self.W.shape[-2:-1]

    @staticmethod
    def definition(m, a, W, b, u, v, coefficient):
        s = spectral_norm(m, W) if u is None else sum(u[i] * w * v[j] for i, row in enumerate(W) for j, w in enumerate(row))    # (1)
        scale = s / coefficient if s > coefficient else 1                           # (2)
        return [sum((w / scale * a_j for w, a_j in zip(row, a)), b_i) for row, b_i in zip(W, b)]        # (2) (3)

    # -- the map ------------------------------------------------------------------------------------------------------

    def bounded(self):
        W = self.W.astype(np.float64)                                               # (9)
        u, v = singular_vectors(W) if self.u is None else (self.u, self.v)
        return Bounded(self, np.vecdot(u, np.matvec(W, v)), u[..., :, None] * v[..., None, :])      # (1)

    def forward(self, a):
        wide, b = doubled(a, self.b)                                                # (9)
        return affine(self.bounded().V, b, wide).astype(a.dtype)                    # (3)

    def jacobian(self, a):
        V = self.bounded().V.astype(a.dtype)
        return np.broadcast_to(V, a.shape[:-1] + V.shape[-2:])                      # (4)

    def iterated(self, steps=1):
        """The same layer with the u and v of further steps of power iteration.  ValueError without u and v."""
        if self.u is None:
            raise ValueError("SpectralDense: u and v must be given for a step of power iteration")
        W = self.W.astype(np.float64)
        return power_iteration(self, lambda v: np.matvec(W, v), lambda u: np.matvec(W.mT, u), steps)        # (5)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, a):
        at, (wide, b) = self.bounded(), doubled(a, self.b)                          # (9)

        def pullback(h_bar):
            h_bar = h_bar.astype(np.float64)                                        # (9)
            W_bar = at.of_weights(*outer_sum_apart(h_bar, wide, at.V))              # (6) (7) (10)
            return rounded((product(at.V.mT, h_bar), {"W": W_bar, "b": event_sum(h_bar, self.b)}), a.dtype)         # (6)

        return affine(at.V, b, wide).astype(a.dtype), pullback                      # (3)

    def jvp(self, a, A_dot):
        at, (wide, b, tangents) = self.bounded(), doubled(a, self.b, A_dot)         # (9)

        def pullback(h_bar, H_bar):
            h_bar, H_bar = doubled(h_bar, H_bar)                                    # (9)
            W_bar = at.of_weights(h_bar[..., None] * wide[..., None, :] + H_bar @ tangents.mT)      # (6) (7) (8)
            return rounded((product(at.V.mT, h_bar), at.V.mT @ H_bar, {"W": W_bar, "b": h_bar}), a.dtype)       # (6) (8)

        return rounded((affine(at.V, b, wide), at.V @ tangents), a.dtype), pullback         # (3) (4)

    def lipschitz(self):
        """The largest singular value of V: more than the coefficient where power iteration has not come to the norm of W."""
        return largest_singular_value(self.bounded().V)

    # -- in floating point --------------------------------------------------------------------------------------------

    @classmethod
    def examples(cls, source):
        """Layers with their singular vectors, or after some steps of power iteration."""
        M, N = source.choice(WIDTHS), source.choice(WIDTHS)
        net = cls(weights(source, (M, N)), weights(source, (M,)), coefficient=source.choice((0.25, 0.9)))
        if source.chance(0.5):
            u, v = (unit(weights(source, (size,)), None) for size in (M, N))
            net = net.replace(u=u, v=v).iterated(source.count(0, 3))
        return net, (N,)

    hard_cases = (
        case("Number", "N = M = 1: V is c or -c, and W_bar 0", z=[[3.0]], W=[[-3.3]], b=[0.7], u=None, v=None, coefficient=0.9),
        case("Small", "a norm below the bound: a dense layer", z=[[1.0, 2.0]], W=[[0.25, 0.5], [-0.5, 0.125]], b=[0.0, 1.0],
             u=None, v=None, coefficient=0.9),
        case("Nothing", "W = 0", z=[[1.0, 2.0]], W=[[0.0, 0.0]], b=[0.5], u=None, v=None, coefficient=0.9),
        case("Row", "M = 1: V is the direction of W", z=[[1.0, 2.0, -1.0]], W=[[0.3, -4.0, 1.0]], b=[0.5], u=None, v=None,
             coefficient=0.98),
        case("Near", "the two singular values are near one another", z=[[1.0, 2.0]], W=[[1.0, 0.0], [0.0, 0.9375]], b=[0.0, 0.0],
             u=None, v=None, coefficient=0.5),
        case("Large", "singular values far apart", z=[[1.0, 2.0]], W=[[2.0**20, 1.0], [1.0, 2.0**-20]], b=[0.0, 0.0],
             u=None, v=None, coefficient=0.5),
        case("Against", "s < 0: nothing is divided", z=[[1.0, 2.0]], W=[[3.0, 0.5], [0.25, 2.0]], b=[0.0, 0.0], u=[0.6, 0.8],
             v=[-1.0, 0.0], coefficient=0.9),
        case("Iterated", "s is less than the norm of W", z=[[1.0, 2.0]], W=[[3.0, 0.5], [0.25, 2.0]], b=[0.0, 0.0], u=[0.6, 0.8],
             v=[0.8, 0.6], coefficient=0.9),
        case("Huge", "V_bar overflows, and so do the products of (7)", z=[[2.0**100, 1.0], [2.0**1000, 1.0]], W=[[3.0, 0.5], [0.25, 2.0]],
             b=[0.0, 0.0], u=None, v=None, coefficient=0.9),
    )
    refused = (
        refusal("u and v must be given together", W=[[1.0]], b=[0.0], u=[1.0], v=None, coefficient=0.9),
        refusal("v must be a unit vector, not of length 2.0", W=[[1.0]], b=[0.0], u=[1.0], v=[2.0], coefficient=0.9),
    )


class Bounded:
    """V of a layer whose weights have the norm s, and `slopes`, ds/dW; all in float64.

    `axes`: along which weights share one s; by default all, one more than an event has.
    """

    def __init__(self, f, s, slopes, axes=None):
        self.W, self.c, self.slopes = f.W.astype(np.float64), f.coefficient, slopes         # (9)
        self.axes = axes or tuple(range(-1 - f.event_ndim[0], 0))
        self.s = np.expand_dims(s, self.axes)
        self.V = self.W / np.maximum(1, self.s / self.c)                            # (2)

    def of_weights(self, V_bar, k=0):
        """W_bar, for the cotangent 2^k V_bar."""
        over = self.s > self.c
        s = np.where(over, self.s, 1)
        along = (V_bar * (self.W / s)).sum(self.axes, keepdims=True)                # (7)
        return np.ldexp(np.where(over, (V_bar - along * self.slopes) * (self.c / s), V_bar), k)     # (7) (10)


def check_lengths(f):
    """ValueError unless u and v, of as many axes as an event, are unit vectors."""
    for name in ("u", "v"):
        lengths = length(getattr(f, name), f.event_ndim[0])
        if not (np.abs(lengths - 1) < OF_UNIT).all():
            raise ValueError(f"{type(f).__name__}: {name} must be a unit vector, not of length {lengths.squeeze()}")


def power_iteration(f, forward, adjoint, steps):
    """The layer with the u and v of further steps, by W as a linear map and its adjoint."""
    u, v, ndim = f.u, f.v, f.event_ndim[0]
    for _ in range(steps):
        v = unit(adjoint(u), v, ndim)                                               # (5)
        u = unit(forward(v), u, ndim)                                               # (5)
    return f.replace(u=u, v=v)


def length(vector, ndim):
    return np.sqrt((vector * vector).sum(tuple(range(-ndim, 0)), keepdims=True))


def unit(vector, instead, ndim=1):
    """A vector of length 1 in its direction, of `ndim` axes; another one in the place of 0."""
    size = length(vector, ndim)
    return vector / size if instead is None else np.where(size > 0, vector / np.where(size > 0, size, 1), instead)


def singular_vectors(W):
    """u and v for the largest singular value of matrices (*batch, M, N)."""
    left, _, right = np.linalg.svd(W, full_matrices=False)
    return left[..., :, 0], right[..., 0, :]


def spectral_norm(m, W):
    """The largest singular value, as a root of the trace of a power of W^T W."""
    A = [[sum(row[i] * row[j] for row in W) for j in range(len(W[0]))] for i in range(len(W[0]))]
    for _ in range(SQUARINGS):
        A = [[sum(a * b for a, b in zip(row, column)) for column in zip(*A)] for row in A]
    trace = sum(A[i][i] for i in range(len(A)))
    return m.exp(m.log(trace) / 2 ** (SQUARINGS + 1)) if trace > 0 else trace
