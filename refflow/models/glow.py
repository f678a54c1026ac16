r"""Glow (Kingma & Dhariwal, arXiv:1807.03039), as in the authors' code.

From an image `x` of `(C, H, W)` to latents; `x = (v + u) / n - 1/2` for pixels `v = 0, ..., n - 1` and `u` uniform on
`[0, 1)`, with `n` for the number of bins: `dequantised(v, rng, bins=n, low=-1/2, high=1/2)`, and likewise `quantised` and
`bits_per_dim`.  In level `i = 1, ..., L`:
    h <- squeeze(h)                               blocks of 2 x 2 pixels to channels            (1)
and `K` times a step: with `h_a` for the first half of the channels and `h_b` for the second,
    h <- (h + bias) exp(3 s)                      per channel                       (2)
    h_yx <- W h_yx                                at every position                 (3)
    h_b <- (h_b + t) sigmoid(r + 2),   (t, r) = net(h_a)        coupling "affine"               (4)
    h_b <- h_b + net(h_a)                                       coupling "additive"             (5)
and then, for `i < L`, the second half of the channels is finished and the first goes on:
    z_i = (h_b - m) exp(-q),   (m, q) = prior(h_a)                                  (6)
    h <- h_a                                                                        (7)
and after the last level, where `m` and `q` are functions of the position, and of the class `c` if there are classes:
    z_L = (h - m) exp(-q),   (m, q) = prior(0) [+ (V c + b) exp(3 s)]               (8)
    log p(x) = sum_i log N(z_i; 0, 1) + log|det dz/dx|                              (9)
In (6) and (8) `m` and `q` enter log-det and samples, so that `h_b` given `h_a` is `N(m, exp(2 q))` and the base is `N(0, I)`.
Outputs `(t, r)` and `(m, q)` of (4) and (6) are interleaved, `t_1, r_1, t_2, ...`, while the outputs of (8) are halves,
`m_1, m_2, ..., q_1, ...`

Networks, where * is a convolution whose border is marked by its own channel (`Conv2d`, "edge"):
    net(a) = Z relu(N(W_2 *_1x1 relu(N(W_1 *_3x3 a)))),   N(h) = (h + bias) exp(3 s)                (10)
    Z(h) = (W *_3x3 h + bias) exp(3 s)                                              (11)
prior is `Z` alone.  The `Z` of (8) sees zeros: its image has only the border's channel.  The weights by which the authors'
code multiplies zeros have gradient 0 and are left out.

`W` of (3) by `permutation`:
    "1x1"         any invertible matrix, at the start a random orthogonal one       (12)
    "lu"          P L (U + diag(s)), the factors of such a matrix, P fixed; `transposed` as below   (13)
    "orthogonal"  an orthogonal matrix                                              (14)
    "shuffle"     a fixed random permutation; "reverse": the channels in reverse    (15)
At the start `W_1` and `W_2` are `N(0, 0.05^2)`; everything else in (8), (10) and (11) is 0, as are bias and `s` of (2).    (16)
`flow.initialised(x, rng)` chooses bias and `s` of every (2) and `N` so that their outputs have mean 0 and variance 1.

Conventions.  "openai" is the one above.  Two ports differ in (2), (4), (6), (10), (11):                      (17)
    "chaiyujin"   exp(s) for exp(3 s) in (2) and N; no channel for the border, which is 0
    "rosinality"  (h + bias) s in (2); W_1 and W_2 with biases in place of N; Z's border is 1 in each of its channels; (r, t)
                  of (4) and (m, q) of (6) are halves
In "lu" the authors' code multiplies rows by `P L (U + diag(s))`, which means its transpose on columns; so does "openai",
but not the ports.                                                                                       (18)

Classes from images.  With classes, the authors' loss may have a second term: a class `y` is predicted from the mean over
positions of `h` before (8), by a linear layer that starts at 0,
    l = (V mean_yx h_yx + b) exp(3 s)                                               (19)
    bits_y = (log sum_k exp l_k - l_y) / log 2                                      (20)
Reverse rule, with `e_y` for the one-hot vector of `y` and `n` for the number of positions; `h` is a function of `z_L` and of
(8)'s parameters:
    l_bar = bits_y_bar (softmax l - e_y) / log 2,   h_bar_yx = (mean h)_bar / n     (21)
    z_L_bar, prior_bar = the pullback of h = m + z_L exp(q) at h_bar                (22)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import DTypeLike

from ..maps.conditioners import BijectorLayer, Conv2d, Dense, ImageContext, ReLU, Sequential
from ..core import Chain, Flow, Inverse
from ..maps.densities import StandardNormal
from ..maps.coupling import AdditiveCoupling, Coupling, affine_family, masks
from ..maps.elementwise import ExpScale, SigmoidScale
from ..maps.linear import DenseLinear, OrthogonalLinear, Permutation, PLULinear, Pointwise, Transposed
from ..maps.normalization import GlowActNorm
from ..maps.shape import FactorOut, Reshape, Squeeze

COUPLINGS = ("affine", "additive")
PERMUTATIONS = ("1x1", "lu", "orthogonal", "shuffle", "reverse")
SHIFT_FIRST = ("shift", "scale")                # the order of (t, r) and (m, q) in a network's outputs
WEIGHT_STD = 0.05                                                                   # (16)


@dataclass(frozen=True)
class Convention:
    """What the authors' code and its ports do differently, (17) and (18)."""

    factor: float = 3.0                         # of (2) and N
    direct: bool = False                        # is s of (2) the scale itself?
    padding: str = "edge"                       # of W_1 and W_2
    last_padding: str = "edge"                  # of Z
    normalised: bool = True                     # N, or biases
    order: tuple = SHIFT_FIRST                  # of (t, r)
    layout: str = "interleaved"                 # of (t, r) and (m, q)
    transposed: bool = False                    # W of "lu"


CONVENTIONS = {                                                                     # (17) (18)
    "openai": Convention(transposed=True),
    "chaiyujin": Convention(factor=1.0, padding="zeros", last_padding="zeros"),
    "rosinality": Convention(direct=True, padding="zeros", last_padding="ones", normalised=False, order=("scale", "shift"),
                             layout="halves")}


def glow(rng: np.random.Generator, shape: Sequence[int], levels: int = 3, steps: int = 32, hidden: int = 512, *,
         coupling: str = "affine", permutation: str = "1x1", learn_top: bool = True, classes: int = 0,
         convention: str = "openai", dtype: DTypeLike = np.float64) -> Flow:
    """A Glow flow of images of shape (C, H, W), from which 1/2 has been subtracted, to a vector of latents.

    `levels`: L, `steps`: K, `hidden`: the width of the networks; `coupling`: "affine" or "additive"; `permutation`: one of
    (12) to (15); `learn_top`: prior of (8), without which m = q = 0; `classes`: how many, 0 for none: the flow then takes
    `flow.at(context=c)`, c (*batch, classes) one-hot.  The authors' runs, all with learn_top:

        CIFAR-10          glow(rng, (3, 32, 32))
        ImageNet 32       glow(rng, (3, 32, 32), 3, 48)
        ImageNet 64       glow(rng, (3, 64, 64), 4, 48)
        LSUN 64           glow(rng, (3, 64, 64), 3, 48)
        LSUN 96           glow(rng, (3, 96, 96), 5, 64, coupling="additive")
        LSUN 128          glow(rng, (3, 128, 128), 5, 64, coupling="additive")
        CelebA-HQ 256     glow(rng, (3, 256, 256), 6, 32, coupling="additive")

    and of images with classes, bits_y of (20) with the weight 0.01, added to the bits per dimension of the image:

        CIFAR-10          glow(rng, (3, 32, 32), coupling="additive", classes=10)
        ImageNet 32       glow(rng, (3, 32, 32), 3, 48, coupling="additive", classes=1000)

    Weights are drawn from the Generator `rng`.  ValueError for sizes that are not counts, for a height or width that 2^L does
    not divide, and for unknown names.
    """
    check(shape, levels, steps, hidden, coupling, permutation, classes, convention)
    build = Builder(rng, int(hidden), coupling, permutation, CONVENTIONS[convention], dtype)
    top = build.top_prior(shape[0] * 2 ** (levels + 1), learn_top, int(classes))
    f = build.level(tuple(shape), levels, steps, top)
    return Flow(Inverse(f), StandardNormal(int(np.prod(shape))))                    # (9)


def check(shape, levels, steps, hidden, coupling, permutation, classes, convention):
    if np.ndim(shape) != 1 or len(shape) != 3:
        raise ValueError(f"glow: shape must be (C, H, W), not {shape!r}")
    sizes = [(f"shape[{i}]", size, 1) for i, size in enumerate(shape)]
    counts = [("levels", levels, 1), ("steps", steps, 0), ("hidden", hidden, 1), ("classes", classes, 0)]
    for name, given, least in sizes + counts:
        if isinstance(given, bool) or not isinstance(given, (int, np.integer)) or given < least:
            raise ValueError(f"glow: {name} must be an int >= {least}, not {given!r}")
    for name, size in (("height", shape[1]), ("width", shape[2])):
        if size % 2**levels:
            raise ValueError(f"glow: {name} must be a multiple of 2^levels = {2**levels}, not {size}")
    for name, given, known in (("coupling", coupling, COUPLINGS), ("permutation", permutation, PERMUTATIONS),
                               ("convention", convention, tuple(CONVENTIONS))):
        if given not in known:
            raise ValueError(f"glow: {name} must be one of {known}, not {given!r}")


def output_scale(outputs, rank, dtype):
    """exp(3 s), 1 at the start, whatever the data."""
    return BijectorLayer(GlowActNorm(np.zeros(outputs, dtype), eps=None, rank=rank))        # (11)


def linear_from_0(inputs, outputs, dtype):
    """(V c + b) exp(3 s), 0 at the start."""
    return Sequential([Dense(np.zeros((outputs, inputs), dtype)), output_scale(outputs, 1, dtype)])         # (8) (19)


def classifier(channels, classes, dtype=np.float64):
    """(19): from the mean of the top's channels, C 2^(L+1) for images of C channels, to a number for each class."""
    return linear_from_0(channels, classes, dtype)


def labelled_vjp(flow, net, x, labels):
    """((log p(x), bits_y), pullback) of a Glow flow and a classifier `net`, for images x (N, C, H, W) of classes (N,).

    `pullback(log_prob_bar, bits_bar)` -> (x_bar, flow_bar, net_bar), with the keys of `flow.params()` and `net.params()`.
    ValueError for labels that are not classes of `net`.
    """
    f, path = flow.bijector.inner, ["bijector", "inner", "stages"]
    (z, log_det), f_pullback = f.vjp(x)
    log_prob, base_pullback = flow.base.log_prob_vjp(z)
    top = f
    while isinstance(top.stages[-1], FactorOut):
        path += [str(len(top.stages) - 1), "rest", "stages"]
        top = top.stages[-1].rest
    *_, prior, reshape = top.stages
    size = int(np.prod(reshape.input))
    h = z_L = z[..., -size:].reshape(-1, *reshape.input)
    has_prior = isinstance(prior, Inverse)
    if has_prior:
        (h, no_log_det), prior_pullback = prior.inverse_vjp(z_L)                    # (8)
    logits, net_pullback = net.vjp(h.mean((-2, -1)))                                # (19)
    labels = checked_labels(labels, logits)
    each = np.arange(len(labels))
    shifted = logits - logits.max(-1, keepdims=True)
    total = np.exp(shifted).sum(-1)
    bits = (np.log(total) - shifted[each, labels]) / np.log(2)                      # (20)

    def pullback(log_prob_bar, bits_bar):
        logits_bar = np.exp(shifted) / total[:, None]
        logits_bar[each, labels] -= 1
        mean_bar, net_bar = net_pullback(logits_bar * (np.asarray(bits_bar) / np.log(2))[..., None])        # (21)
        h_bar = np.broadcast_to(mean_bar[..., None, None] / np.prod(h.shape[-2:]), h.shape)     # (21)
        flow_bar, z_L_bar = {}, h_bar
        if has_prior:
            z_L_bar, prior_bar = prior_pullback(h_bar, np.zeros_like(no_log_det))   # (22)
            flow_bar = at_top(prior_bar, (*path, str(len(top.stages) - 2)))
        z_bar, base_bar = base_pullback(log_prob_bar)
        z_bar = np.concatenate((z_bar[..., :-size], z_bar[..., -size:] + z_L_bar.reshape(len(z), size)), -1)
        x_bar, f_bar = f_pullback(z_bar, log_prob_bar)
        return x_bar, plus({**at_top(f_bar, ("bijector", "inner")), "base": base_bar}, flow_bar), net_bar

    return (log_prob + log_det, bits), pullback


def checked_labels(labels, logits):
    labels = np.array(labels)
    if labels.dtype.kind not in "iu" or labels.shape != logits.shape[:1]:
        raise ValueError(f"glow: labels must be {len(logits)} integers, not {labels.dtype} of shape {labels.shape}")
    wrong = np.flatnonzero((labels < 0) | (labels >= logits.shape[-1]))
    if wrong.size:
        raise ValueError(f"glow: labels must be in 0 .. {logits.shape[-1] - 1}; labels[{wrong[0]}] = {labels[wrong[0]]}")
    return labels


def at_top(bar, path):
    """A component's cotangents under its path, the context at the top."""
    bar, found = dict(bar), {}
    if "context" in bar:
        found["context"] = bar.pop("context")
    for key in reversed(path):
        bar = {key: bar}
    return {**bar, **found}


def plus(bars, others):
    """The sum of two nested dictionaries of cotangents; where the second lacks an entry, the first one's."""
    if not isinstance(bars, dict):
        return bars + others
    return {key: plus(bar, others[key]) if key in others else bar for key, bar in bars.items()}


@dataclass(frozen=True)
class Builder:
    """The parts of a flow, in the direction of the paper."""

    rng: np.random.Generator
    hidden: int
    coupling: str
    permutation: str
    convention: Convention
    dtype: DTypeLike

    def level(self, shape, levels, steps, top):
        """The map of images of `shape` to a vector, `levels` levels deep."""
        C, H, W = 4 * shape[0], shape[1] // 2, shape[2] // 2
        stages = [Squeeze()]                                                        # (1)
        for _ in range(steps):
            stages += self.step(C)
        if levels == 1:
            return Chain([*stages, *top, Reshape((C, H, W), (C * H * W,))])         # (8)
        keep = masks.halves(C)
        net, layout = self.last(C // 2, C), self.convention.layout
        prior = Coupling(masks.channels(keep, 3), net, affine_family(ExpScale(), SHIFT_FIRST), layout)
        rest = self.level((C // 2, H, W), levels - 1, steps, top)
        return Chain([*stages, Inverse(prior), FactorOut(keep, rest)])              # (6) (7)

    def step(self, C):
        return self.actnorm(C), Pointwise(self.matrix(C)), self.affine_or_additive(C)       # (2) (3) (4)

    def zeros(self, *shape):
        return np.zeros(shape, self.dtype)                                          # (16)

    def actnorm(self, C):
        c = self.convention
        s = self.zeros(C) + c.direct
        return GlowActNorm(s, self.zeros(C), c.factor, c.direct, unbiased=c.direct, rank=3)         # (2) (16)

    def matrix(self, C):
        if self.permutation == "reverse":
            return Permutation(np.arange(C)[::-1])                                  # (15)
        if self.permutation == "shuffle":
            return Permutation(self.rng.permutation(C))                             # (15)
        Q = np.linalg.qr(self.rng.standard_normal((C, C)))[0]                       # (12)
        if self.permutation == "1x1":
            return DenseLinear(Q.astype(self.dtype), None)                          # (12)
        if self.permutation == "orthogonal":
            return OrthogonalLinear(Q.astype(self.dtype))                           # (14)
        order, L, U = scipy.linalg.lu(Q, p_indices=True)                            # (13)
        lower, upper, scale = (part.astype(self.dtype) for part in (np.tril(L, -1), np.triu(U, 1), np.diag(U)))
        factors = PLULinear(order, lower, upper, scale, None)                       # (13)
        return Transposed(factors) if self.convention.transposed else factors       # (18)

    def affine_or_additive(self, C):
        passes, c = masks.channels(masks.halves(C), 3), self.convention
        if self.coupling == "additive":
            return AdditiveCoupling(passes, self.network(C // 2, C // 2))           # (5)
        net = self.network(C // 2, C)
        return Coupling(passes, net, affine_family(SigmoidScale(2.0), c.order, shift_first=True), c.layout)         # (4)

    # -- networks ----------------------------------------------------------------------------------------------------

    def network(self, inputs, outputs):
        first, second = self.hidden_layer(inputs, 3), self.hidden_layer(self.hidden, 1)
        return Sequential([*first, *second, *self.last(self.hidden, outputs).layers])       # (10)

    def hidden_layer(self, inputs, size):
        """A convolution, N or biases, ReLU: (10)."""
        c = self.convention
        channels = inputs + (c.padding == "edge" and size > 1)
        W = (WEIGHT_STD * self.rng.standard_normal((self.hidden, channels, size, size))).astype(self.dtype)      # (16)
        if not c.normalised:
            return Conv2d(W, self.zeros(self.hidden), c.padding), ReLU()            # (17)
        N = GlowActNorm(self.zeros(self.hidden), self.zeros(self.hidden), c.factor, rank=3)         # (10) (16)
        return Conv2d(W, padding=c.padding), BijectorLayer(N), ReLU()               # (10)

    def last(self, inputs, outputs, padding=None):
        """Z."""
        padding = padding or self.convention.last_padding
        W = self.zeros(outputs, inputs + (padding == "edge"), 3, 3)
        return Sequential([Conv2d(W, self.zeros(outputs), padding), output_scale(outputs, 3, self.dtype)])      # (11)

    def top_prior(self, C, learned, classes):
        """[the map of (8)], or [] if m = q = 0."""
        if not learned and not classes:
            return []
        border = "zeros" if self.convention.last_padding == "zeros" else "edge"      # ones around zeros act as one channel
        of_position = [self.last(0, 2 * C, border)] if learned else []
        if classes:
            net = ImageContext(linear_from_0(classes, 2 * C, self.dtype), of_position)      # (8)
        else:
            net, = of_position
        return [Inverse(Coupling(np.zeros((C, 1, 1), bool), net, affine_family(ExpScale(), SHIFT_FIRST)))]  # (8)
