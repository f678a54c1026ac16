r"""Convolution of signals with normalised kernels, `(C, T) -> (M, T)`.

The map.  The kernel of one output, all its entries together, has a direction `v_m` and, if there is a gain, a length `g_m`;
without a gain the length is 1:
    u_m = v_m / |v_m|,   W_m = g_m u_m                                              (1)
    h = W * a + b,   the convolution of `Conv1d`, with its dilation and its mask    (2)
    dh_m(t)/da_c(t') = W_mck   where t' = t + d k - p for a k, and 0 elsewhere      (3)
where `p` is defined as in `Conv1d`.

The reverse rule.  The pullback of (2) at `W` gives `a_bar`, `W_bar` and `b_bar`.  From (1),
`dW_m = dg_m u_m + g_m (dv_m - u_m <u_m, dv_m>) / |v_m|`, hence
    g_bar_m = <W_bar_m, u_m>,   v_bar_m = g_m / |v_m| (W_bar_m - u_m <W_bar_m, u_m>)        (4)
The unit of error is normwise, as for `WeightNormDense`.

Source: Salimans & Kingma, arXiv:1602.07868.
"""

from __future__ import annotations

from ...core import Array, Conditioner, case, conditioner, plain, real, refusal, sequence_mask
from ...core.rules import count
from ...core.arrays import masked_jacobian
from ...core.declarations import Field
from ...core.sets import nonzero_matrix
from .conv1d import affine, checked, convolution, output_of, row, signal
from .conv2d import bias_bar
from .weight_norm import Directions
from .weight_norm_conv2d import as_rows, pulled_back


class textbook:
    """(1) to (4) as they are printed, for one event."""

    def kernels(v, g):
        """The lengths of v, u and W."""
        lengths = (v ** 2).sum((1, 2)) ** 0.5
        u = (v.T / lengths).T                                                       # (1)
        return lengths, u, u if g is None else (g * u.T).T                          # (1)

    def read(a, v, dilation, mask):
        """(t, k, t + d k - p) of all positions that are read, and 0 for each entry of h."""
        K, valid = v.shape[2], [t for t in range(a.shape[1]) if mask is None or mask[t]]
        p = dilation * (K - 1) // 2
        places = [(t, k, t + dilation * k - p) for t in valid for k in range(K) if t + dilation * k - p in valid]
        return places, 0 * v[:, 0, :1] * a[0]

    def valid(h, mask):
        """h, 0 at invalid positions."""
        return h if mask is None else h * mask

    def forward(a, v, g, b, dilation, mask):
        (_, _, W), (places, h) = textbook.kernels(v, g), textbook.read(a, v, dilation, mask)
        for t, k, s in places:
            h[:, t] += (W[:, :, k] * a[:, s]).sum(1)                                # (2)
        return h if b is None else textbook.valid((h.T + b).T, mask)                # (2)

    def jacobian(a, v, g, b, dilation, mask):
        (_, _, W), (places, h) = textbook.kernels(v, g), textbook.read(a, v, dilation, mask)
        J = 0 * h[:, :, None, None] * a
        for t, k, s in places:
            J[:, t, :, s] = W[:, :, k]                                              # (3)
        return J.reshape(h.size, a.size)

    def vjp(a, v, g, b, dilation, mask, h_bar):
        (lengths, u, W), (places, _) = textbook.kernels(v, g), textbook.read(a, v, dilation, mask)
        a_bar, W_bar = 0 * a, 0 * W
        for t, k, s in places:
            W_bar[:, :, k] += h_bar[:, t, None] * a[:, s]                           # (2)
            a_bar[:, s] += (W[:, :, k].T * h_bar[:, t]).sum(1)                      # (2)
        along, factor = (W_bar * u).sum((1, 2)), (1 if g is None else g) / lengths  # (4)
        bars = {"v": (factor * (W_bar.T - along * u.T)).T}                          # (4)
        bars |= {} if g is None else {"g": along}                                   # (4)
        return a_bar, bars if b is None else bars | {"b": textbook.valid(h_bar, mask).sum(1)}   # (2)


r"""In floating point.

In (1) and (4), squares of the entries of `v_m` may overflow or vanish where `|v_m|` does not.  With the largest entry of
`2^-e v_m` in `[1/2, 1)`, none does:
    |v_m| = 2^e s_m,   s_m = |2^-e v_m|,   u_m = 2^-e v_m / s_m                     (5)

In (2), a partial sum may overflow where the sum does not, and likewise in the pullback.  For `2^-e a`, whose largest entry is in
`[1/2, 1)`, it does not, as in `Conv1d`:
    W * a = 2^e (W * 2^-e a),   W_bar(a) = 2^e W_bar(2^-e a)                        (6)

In (4), a product with `W_bar` may overflow where the cotangents do not.  With `k` the sum of the exponents of the largest entries
of `h_bar` and of `a`, it does not:
    W_bar(h_bar) = 2^k W_bar(2^-k h_bar)                                            (7)
"""


@conditioner(source="arXiv:1602.07868", normwise=True, textbook=textbook)
class WeightNormConv1d(Conditioner):
    """h = W * a + b with kernels W_m = g_m v_m / |v_m|, or v_m / |v_m| if g is None.

    v (M, C, K); g (M,) or None; b (M,) or None; `dilation` and `mask` as for `Conv1d`.
    """

    v: Array = nonzero_matrix("M", "C", "K")
    g: Array = Field(real, ("M",), optional=True)  # type: ignore[assignment]
    b: Array = Field(real, ("M",), optional=True)  # type: ignore[assignment]
    dilation: int = plain(1, count())
    mask: Array = sequence_mask("T")
    event_ndim = (2, 2)
    event_shape = ("C", "T")

    def _validate(self):
        checked(self, self.v.shape[-3:])
        super()._validate()

    def output_shape(self, shape):
        return output_of(self, self.v.shape[-3:], shape)

    # -- the map ------------------------------------------------------------------------------------------------------

    def directions(self):
        return Directions(as_rows(row(self.v)), self.g)                             # (1) (5)

    def convolution(self, directions, a):
        rows = directions.weights()                                                 # (1)
        return convolution(rows.reshape(*rows.shape[:-1], *self.v.shape[-2:]), self.dilation, a)

    def forward(self, a):
        return affine(self.convolution(self.directions(), a), row(a), self.b, self.mask)    # (2) (6)

    def jacobian(self, a):
        return masked_jacobian(self.convolution(self.directions(), a).jacobian(row(a)), self.mask)      # (3)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, a):
        directions = self.directions()
        correlation, a = self.convolution(directions, a), row(a)

        def pullback(h_bar):
            h_bar = row(h_bar, self.mask)
            a_bar, bars = pulled_back(directions, correlation, a, h_bar)            # (4) (6) (7)
            return signal(a_bar, self.mask), {**bars, "v": signal(bars["v"]), **bias_bar(h_bar, self.b)}

        return affine(correlation, a, self.b, self.mask), pullback                  # (2) (6)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Number", "a single weight: v_bar is 0", z=[[[3.0]]], v=[[[-0.3]]], g=[2.0], b=[0.7]),
        case("NoGain", "kernels of length 1", z=[[[1.0, 2.0, -1.0, 0.5]]], v=[[[3.0, -4.0, 1.0]], [[1.0, 1.0, 2.0]]], g=None,
             b=None),
        case("NoLength", "a gain of 0: v has no gradient, g has", z=[[[1.0, -2.0]]], v=[[[3.0, 4.0, 1.0]]], g=[0.0], b=[1.0]),
        case("Dilated", "a kernel with gaps", z=[[[1.0, 2.0, -0.5]]], v=[[[3.0, -4.0, 1.0]]], g=[0.5], b=None, dilation=2),
        case("Masked", "an invalid position is not read, and h is 0 there", z=[[[1.0, 2.0**100, 4.0], [2.0, -1.0, 0.5]]],
             v=[[[3.0], [-4.0]]], g=[0.5], b=[1.0], mask=[True, False, True]),
        case("Long", "the squares of v overflow", z=[[[1.0, -2.0, 0.5]]], v=[[[3 * 2.0**600, 2.0**600, 2.0**599]]], g=[2.0], b=None),
        case("Outweighed", "one entry of v outweighs the others", z=[[[1.0, 1.0]]], v=[[[2.0**20, 1.0, 1.0]]], g=[1.0],
             b=None),
    )
    refused = (
        refusal("have C=1", [[1.0], [2.0]], v=[[[1.0]]], g=None, b=None),
    )
