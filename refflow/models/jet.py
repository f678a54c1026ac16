r"""Jet (Kolesnikov, Pinto & Tschannen, arXiv:2412.15129), as in the authors' code.

From an image `x` of `(C, H, W)` to latents.  Its patches of `p` by `p` pixels are `T` tokens of `F` features,
    h_t,f = x_c(p i + dy, p j + dx),   t = i W/p + j,   f = (p dy + dx) C + c       (1)
`Squeeze(p, "blocks")` makes the features, and a signal of `(F, T)` is flattened in C order.  Then come `K` couplings.  Each puts the
entries in another order, changes the second half given the first, and puts them back:
    (a, b) = P h,   b <- (b + t) sigma,   h <- P^T (a, b)                           (2)
    (t, r) = net(a),   sigma = m sigmoid(r)             with the bound `m`, 2       (3)
    log p(x) = sum_i log N(z_i; 0, 1) + sum_k sum log sigma     of z, the last h    (4)
Couplings are of two kinds, which take turns in the order `kinds`.  In the kind "channels", `a` holds half of the features of
every token, in a random order that is drawn once:
    a_f,t = h_t,order(f),   f < F/2                                                 (5)
In the kind "spatial", `a` holds half of the tokens.  The coupling cuts each of them into two tokens of `F/2` features, so that the
network sees `T` tokens in both kinds:
    a_f,(2 k + s) = h_t(k),(s F/2 + f),   s = 0, 1                                  (6)
where `t(k)` is the `k`-th token that belongs to `a`.  A pattern says which tokens do, by their row `i` and column `j` in the grid:
    "checkerboard"   i + j is even                                                  (7)
    "vstripes"       j is even                                                      (8)
    "hstripes"       i is even                                                      (9)
    "...-inv"        the other half                                                 (10)
The patterns take turns too, each time a spatial coupling comes.  The authors' code takes the parity of
`t + i` for (7), and of `t` for (8).  If the grid has an odd number of columns, this gives other patterns: the halves of its
checkerboard differ in size, and `P` is singular.  Such grids are refused, and so are "hstripes" of an odd number of rows.

The network is a vision transformer,
    g = W_in a_t + P_t                                                              (11)
    g <- g + W_o attention(W_q g, W_k,v c)              with a context `c`          (12)
    g <- transformer(g)                                 layers of attention and of dense layers         (13)
    (t, r) = W_out LN(g)                                                            (14)
with GELU approximated by tanh, four times as wide inside, and LN's eps 1e-6.  The context has `E` channels and any number of positions,
`flow.at(context=c)` with `c` of `(*batch, E, S)`.  For a class, it is a unit vector at one position,
`context_of_classes(labels, E)[..., None]`, and (12) adds a vector of the class to every token.

At the start `W_out` of (14), `W_o` of (12) and their biases are 0, so that `sigma = m/2`: for `m = 2`, the flow is the identity.  Entries
of `P` are `N(0, 1/channels)`, `W_in` and `W_q, W_k,v` of (12) have variance 1/(their inputs), weights of (13) are Xavier's, and biases
are 0, except the biases of its dense layers, `N(0, 10^-12)`.                                                   (15)

Training.  A pixel `v` of 0 .. 255 becomes `x = v/127.5 - 1 + u/127.5` with `u` uniform on `[0, 1)`, so that `x` reaches `HIGH`, a little
more than 1: `dequantised(v, rng, low=-1, high=HIGH)`.  The loss is in bits for each of the `D = F T` entries,
    HIGH = 256/127.5 - 1                                                            (16)
    loss = -(log p(x) - D log 127.5)/(D log 2)                                      (17)
`training.recipes.jet` is the authors' optimiser.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from ..core import Bijector, Chain, Conditioner, Flow, Inverse, tree
from ..maps.conditioners import (CrossAttention, Dense, LayerNorm, LearnedPositions, Positionwise, ReshapedNetwork, Residual, Sequential,
                                 TanhGELU, transformer, xavier_uniform)
from ..maps.conditioners.initialisers import normal
from ..maps.conditioners.speech_networks import Drawn
from ..maps.coupling import Coupling, affine_family, masks
from ..maps.densities import StandardNormal
from ..maps.dequantisation import bits_per_dim
from ..maps.elementwise import BoundedSigmoidScale
from ..maps.linear import Permutation
from ..maps.shape import Reshape, Squeeze
from .sizes import grid_of_patches

HIGH = 256 / 127.5 - 1                                                              # (16)
EPS = 1e-6
EXPANSION = 4
NEARLY_0 = 1e-6                         # the standard deviation of biases of dense layers (15)
KINDS = ("channels", "channels", "channels", "channels", "spatial")
PATTERNS = ("checkerboard", "checkerboard-inv", "vstripes", "vstripes-inv", "hstripes", "hstripes-inv")


# -- building ---------------------------------------------------------------------------------------------------------

def jet(rng, shape, patch=4, channels=512, couplings=32, layers=2, *, heads=8, bound=2.0, kinds=KINDS, patterns=PATTERNS, context=0,
        dtype=np.float64) -> Flow:
    """A Jet of images of shape (C, H, W), with pixels in [-1, HIGH), to a vector of latents.

    `patch`: p; `channels`: of the transformers, a multiple of `heads`; `couplings`: K; `layers`: of each transformer; `bound`: m;
    `kinds`: "channels" or "spatial", in turn; `patterns`: of spatial couplings, in turn; `context`: the channels E of a context, 0
    for none.  Weights and orders are drawn from the Generator `rng`.  ValueError for sizes that are not counts, for a height or width
    that the patch does not divide, for an odd number of features, and for a pattern that does not halve the grid.
    """
    C, *grid = grid_of_patches("jet", shape, patch, couplings=couplings)
    features, turns = C * patch**2, itertools.cycle(checked("patterns", patterns, PATTERNS))
    tokens = math.prod(grid)
    D = features * tokens
    stages = [Squeeze(patch, "blocks"), Reshape((features, *grid), (D,))]           # (1)
    for _, kind in zip(range(couplings), itertools.cycle(checked("kinds", kinds, ("channels", "spatial")))):
        order = (channel_order(rng.permutation(features), tokens) if kind == "channels" else
                 spatial_order(np.concatenate(halves_of(next(turns), *grid)), features))
        net = jet_network(rng, features, tokens, channels, layers, heads=heads, context=context, dtype=dtype)
        stages += jet_coupling(order, net, bound)
    return Flow(Inverse(Chain(stages)), StandardNormal(D))                          # (4)


def checked(name, given, known):
    """A sequence of words that are known.  ValueError, with the first that is not."""
    given = (given,) if isinstance(given, str) else tuple(given)
    wrong = [word for word in given if word not in known]
    if wrong or not given:
        raise ValueError(f"jet: {name} must be of {known}, not {wrong[0] if wrong else given!r}")
    return given


def jet_coupling(order, net, bound=2.0) -> list[Bijector]:
    """[the stages of a coupling (2)], of vectors, from the order of their entries: the first half is the network's event."""
    there = Permutation(order)
    family = affine_family(BoundedSigmoidScale(bound), ("shift", "scale"), shift_first=True)       # (3)
    return [there, Coupling(masks.halves(len(there.order)), net, family), Inverse(there)]          # (2)


def channel_order(features, tokens):
    """The order of the entries (5), from the order of the features.  ValueError for an odd number of them, and for no permutation."""
    halved(len(permuted("features", features)))
    return (np.asarray(features)[:, None] * tokens + np.arange(tokens)).ravel()     # (5)


def spatial_order(tokens, features):
    """The order of the entries (6), from the order of the tokens, first the tokens of a.  ValueError for an odd number of features,
    and for no permutation."""
    (t, s), half = np.meshgrid(permuted("tokens", tokens), np.arange(2), indexing="ij"), halved(features)
    f = s * half + np.arange(half)[:, None, None]
    return np.concatenate(np.split(f * len(tokens) + t, 2, 1)).ravel()              # (6)


def permuted(name, order):
    """An order; ValueError unless it holds each of 0, 1, ... once."""
    if not np.array_equal(np.sort(order, None), np.arange(np.size(order))):
        raise ValueError(f"jet: {name} must hold each of 0 .. {np.size(order) - 1} once, not {np.ravel(order).tolist()}")
    return np.ravel(order)


def halves_of(pattern, rows, columns):
    """(the tokens of a, the tokens of b) of a pattern.  ValueError for another one, and for a grid that it does not halve as in the
    authors' code."""
    pattern, = checked("patterns", pattern, PATTERNS)
    name = pattern.removesuffix("-inv")
    count, line = (rows, "row") if name == "hstripes" else (columns, "column")
    if count % 2:
        raise ValueError(f"jet: {pattern} needs an even number of {line}s of tokens, not {count}; the grid is {rows} x {columns}")
    i, j = np.indices((rows, columns)).reshape(2, -1)
    parity = {"checkerboard": i + j, "vstripes": j, "hstripes": i}[name] % 2        # (7) (8) (9)
    parts = np.flatnonzero(parity == 0), np.flatnonzero(parity == 1)
    return parts[::-1] if pattern.endswith("-inv") else parts                       # (10)


def halved(features):
    if features % 2:
        raise ValueError(f"jet: the features of a token must be even in number, not {features}; they are patch^2 times the channels")
    return features // 2


# -- the network ------------------------------------------------------------------------------------------------------

def jet_network(rng, features, tokens, channels, layers, *, heads=8, context=0, dtype=np.float64) -> Conditioner:
    """The network of (2), of vectors of features/2 x tokens entries; other arguments as in `jet`."""
    draw = Drawn("jet", rng, dtype)
    draw.counts(features=features, tokens=tokens, channels=channels, layers=layers, heads=heads)
    if isinstance(context, bool) or not isinstance(context, (int, np.integer)) or context < 0:
        raise ValueError(f"jet: context must be an int >= 0, not {context!r}")
    half = halved(features)

    def dense(outputs, inputs, std):
        return Positionwise(Dense(normal(rng, (outputs, inputs), std, dtype), np.zeros(outputs, dtype)))

    def drawn(outputs, inputs):
        return dense(outputs, inputs, 1 / math.sqrt(inputs))                        # (15)

    def zeros(outputs, inputs):
        return dense(outputs, inputs, 0)                                            # (15)

    P = normal(rng, (channels, tokens), 1 / math.sqrt(channels), dtype)             # (15)
    across = [Residual(Sequential((drawn(channels, channels), CrossAttention(drawn(2 * channels, context), heads),
                                   zeros(channels, channels))))] if context else []         # (12)
    body = transformer(rng, channels, heads, layers, EXPANSION, eps=EPS, activation=TanhGELU(), dtype=dtype)        # (13)
    net = (drawn(channels, half), LearnedPositions(P), *across, redrawn(rng, body),         # (11) (12) (13)
           Positionwise(LayerNorm(np.ones(channels, dtype), eps=EPS)), zeros(features, channels))       # (14)
    return ReshapedNetwork(Sequential(net), (half, tokens))


def redrawn(rng, body):
    """The transformer with the authors' start: queries, keys and values are layers of their own."""
    def started(path, value):
        if not isinstance(value, Dense):
            return {}
        outputs, inputs = value.W.shape
        parts = 3 if outputs == 3 * inputs else 1
        W = np.concatenate([xavier_uniform(rng, (outputs // parts, inputs), value.dtype) for _ in range(parts)])        # (15)
        std = 0 if outputs in (inputs, 3 * inputs) else NEARLY_0
        return {"W": W, "b": normal(rng, (outputs,), std, value.dtype)}             # (15)

    return tree.remade(body, started)


# -- training ---------------------------------------------------------------------------------------------------------

def loss_vjp(flow, x):
    """(loss (B,), pullback): (17) of images x (B, C, H, W), for a flow given its context, if it has one.

    `pullback(loss_bar)` -> (x_bar, params_bar), loss_bar (B,) or a number; params_bar has the keys and shapes of
    `flow.params()`, and "context" if there is one.  ValueError for images that the flow does not take.
    """
    D = flow.base.event_shape[0]
    log_prob, of_log_prob = flow.log_prob_vjp(x)

    def pullback(loss_bar):
        return of_log_prob(np.broadcast_to(-np.asarray(loss_bar, log_prob.dtype) / (D * math.log(2)), log_prob.shape))      # (17)

    return bits_per_dim(log_prob, D, low=-1, high=HIGH).astype(log_prob.dtype), pullback     # (17)
