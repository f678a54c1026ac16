r"""TarFlow (Zhai, Zhang, Nakkiran, Berthelot, Gu, Zheng, Chen, Bautista, Jaitly & Susskind, arXiv:2412.06329), as in the authors' code.

From an image `x` of `(C, H, W)` to latents.  Its patches of `p` by `p` pixels are `T` tokens of `F` features,
    h_t,f = x_c(p i + dy, p j + dx),   t = i W/p + j,   f = c p^2 + p dy + dx       (1)
`Squeeze(p)` makes the features, and a signal of `(F, T)` is flattened in C order.  Then come `K` blocks.  In block `k = 1, ..., K`
    the tokens stand in reverse order if `k` is even, and are put back afterwards   (2)
    h_t <- (h_t - b_t) exp(-a_t),   (a, b) = net_k(h)                               (3)
    h_t <- h_t - b_t,                b = net_k(h)         without scales            (4)
where `a_t` and `b_t` depend on the tokens before `t` alone, and are 0 for the first token.  The network is a causal transformer,
    g = W_in h_t + P_t [+ sum_k c_k E_k]       the context `c`, if there are classes            (5)
    g <- transformer(g)                        layers of attention and of dense layers          (6)
    (a, b)_t = W_out g_(t-1) + b_out,   0 for t = 0                                 (7)
    log p(x) = sum_i log N(z_i; 0, 1) - sum_k sum_t,f a        of z, the last h     (8)
One pass of every network takes images to latents; the way back takes a pass for each token.  (3) is `Autoregressive` with the shift
`-b` and the logarithm `-a` of the scale, so that its network ends in a factor -1.

The context is the unit vector of a class, or, for an image without a class, the mean of all classes (`context_of_classes`).
At the start `W_out` is 0, entries of `P` and `E` are `N(0, 10^-4)`, and everything else is drawn as in PyTorch.     (9)

Training.  Images have pixels in `[-1, 1]`.  `dequantised(v, rng, low=-1, high=1)` makes them from integers, or `noised` adds noise,
    x <- x + std e,   e ~ N(0, I)                                                   (10)
The loss is in nats for each of the `D = F T` entries, without the constant of (8).  The authors' code takes means of log-dets over
tokens and features where others take sums:
    loss = (1/D) (1/2 |z|^2 - log|det dz/dx|) = -(1/D) log p(x) - 1/2 log 2 pi      (11)
Bits per dimension are `bits_per_dim(log_prob, D, low=-1, high=1)` of (8).  `training.recipes.tarflow` is the authors' optimiser.

Without scales, the blocks cannot contract images to unit variance.  The loss remains (11).  Training averages the variance `v` of
each latent entry over its steps, and samples are drawn with it:
    v <- v + rate (mean z^2 - v)            mean over a batch                       (12)
    z = v^(1/2) e,   e ~ N(0, I)                                                    (13)

Samples with guidance.  At each token, two passes see the tokens before it: (a, b) given the class, and (a', b') given no class, with
attention at a temperature (`at_temperature`).  The inverse of (3) is taken with
    a <- a + w_t (a - a'),   b <- b + w_t (b - b')      each or one of them         (14)
    w_t = w   or, annealed,   w_t = w t/(T - 1)                                     (15)
A model that has learned from images with the noise (10) makes samples with such noise.  One step along the score, by Tweedie's
formula, removes it:
    x <- x + std^2 grad log p(x)                                                    (16)
where `log p` is (8), with unit variance, in models without scales too.
"""

from __future__ import annotations

import numpy as np

from ..core import Bijector, Chain, Flow, Inverse, tree
from ..core.arrays import as_floating
from ..core.rules import AT_LEAST_0, number
from ..maps.autoregressive import Autoregressive
from ..maps.conditioners import (ClassEmbedding, Delay, Dense, LearnedPositions, Positionwise, ReshapedNetwork, Sequential, Times,
                                 at_temperature, context_of_classes, transformer)
from ..maps.conditioners.speech_networks import Drawn
from ..maps.coupling import additive_family, affine_family
from ..maps.densities import DiagonalNormal, StandardNormal
from ..maps.densities.entries import HALF_LOG_2_PI
from ..maps.elementwise import ExpScale
from ..maps.linear import Permutation
from ..maps.shape import Reshape, Squeeze
from .sizes import grid_of_patches
from .stochastic_durations import finite

START = 1e-2                            # the standard deviation of P and E at the start (9)
GUIDED = ("ab", "a", "b")
RATE = number(0, 1, low_included=True, high_included=True)


# -- building ---------------------------------------------------------------------------------------------------------

def tarflow(rng, shape, patch=2, channels=768, blocks=8, layers=8, *, head_size=64, expansion=4, scaled=True, classes=0,
            dtype=np.float64) -> Flow:
    """A TarFlow of images of shape (C, H, W), with pixels in [-1, 1], to a vector of latents.

    `patch`: p; `channels`: of the transformers, a multiple of `head_size`; `blocks`: K; `layers`: of each transformer, whose
    dense layers are `expansion` times as wide inside; `scaled`: (3), else (4), and then the base has the variances (12);
    `classes`: how many, 0 for none: the flow then takes `flow.at(context=context_of_classes(labels, classes))`.  Weights are drawn
    from the Generator `rng`.  ValueError for sizes that are not counts, and for a height or width that the patch does not divide.
    """
    C, rows, columns = grid_of_patches("tarflow", shape, patch, blocks=blocks)
    features, tokens = C * patch**2, rows * columns
    stages = [Squeeze(patch), Reshape((features, rows, columns), (features * tokens,))]         # (1)
    for k in range(blocks):
        stages += tarflow_block(rng, features, tokens, channels, layers, reverse=k % 2 == 1, head_size=head_size, expansion=expansion,
                                scaled=scaled, classes=classes, dtype=dtype)
    D = features * tokens
    base = StandardNormal(D) if scaled else DiagonalNormal(np.zeros(D, dtype), np.ones(D, dtype))
    return Flow(Inverse(Chain(stages)), base)                                       # (8)


def tarflow_block(rng, features, tokens, channels, layers, *, reverse=False, head_size=64, expansion=4, scaled=True, classes=0,
                  dtype=np.float64) -> list[Bijector]:
    """[the stages of a block (2) to (4)], of vectors of features x tokens entries; `tarflow` explains the other arguments."""
    draw = Drawn("tarflow", rng, dtype)
    draw.counts(features=features, tokens=tokens, channels=channels, layers=layers, head_size=head_size, expansion=expansion)
    if isinstance(classes, bool) or not isinstance(classes, (int, np.integer)) or classes < 0:
        raise ValueError(f"tarflow: classes must be an int >= 0, not {classes!r}")
    if channels % head_size:
        raise ValueError(f"tarflow: channels must be a multiple of head_size = {head_size}, not {channels}")

    def table(*shape):
        return (START * rng.standard_normal(shape)).astype(dtype)                   # (9)

    outputs = (1 + bool(scaled)) * features
    of_class = [ClassEmbedding(table(classes, channels))] if classes else []
    net = (Positionwise(Dense(*draw.weights(channels, features))), LearnedPositions(table(channels, tokens)), *of_class,        # (5)
           transformer(rng, channels, channels // head_size, layers, expansion, causal=True, dtype=dtype),      # (6)
           Positionwise(Dense(np.zeros((outputs, channels), dtype), draw.weights(outputs, channels)[1])), Delay())      # (7) (9)
    family = affine_family(ExpScale(), shift_first=True) if scaled else additive_family()
    f = Autoregressive(Times(ReshapedNetwork(Sequential(net), (features, tokens)), -1.0), family)       # (3) (4)
    turned = Permutation(np.arange(features * tokens).reshape(features, tokens)[:, ::-1].ravel())
    return [turned, f, turned] if reverse else [f]                                  # (2)


# -- the class --------------------------------------------------------------------------------------------------------

def classes_of(flow):
    """How many classes a flow of `tarflow` has, 0 for none."""
    return next((len(value.E) for _, value in tree.walk(flow) if isinstance(value, ClassEmbedding)), 0)


def given_class(flow, labels=None):
    """The flow given the class of each image, labels (B,), integers; given no class for None.

    ValueError for a label that is not a class, and for labels of a flow without classes.
    """
    classes = classes_of(flow)
    if not classes and labels is not None:
        raise ValueError("tarflow: there are labels, but the flow has no classes")
    return flow.at(context=context_of_classes(labels, classes, flow.dtype)) if classes else flow


# -- training ---------------------------------------------------------------------------------------------------------

def noised(x, rng, std=0.05):
    """(10).  ValueError for a standard deviation that is not a number of at least 0."""
    x, std = as_floating("noised: x", x)[0], AT_LEAST_0.checked("noised", "std", std)
    return x + x.dtype.type(std) * rng.standard_normal(x.shape).astype(x.dtype)     # (10)


def loss_vjp(flow, x):
    """(loss (B,), pullback): (11) of images x (B, C, H, W), for a flow given their classes or none (`given_class`).

    `pullback(loss_bar)` -> (x_bar, params_bar), loss_bar (B,) or a number; params_bar has the keys and shapes of
    `flow.params()`, and "context" if there are classes; the base, which (11) does not see, has cotangents of 0.  ValueError for
    images that the flow does not take.
    """
    D = flow.base.event_shape[0]
    log_prob, of_log_prob = Flow(flow.bijector, StandardNormal(D)).log_prob_vjp(x)
    untouched = {key: np.zeros_like(held) for key, held in flow.base.params().items()}

    def pullback(loss_bar):
        x_bar, bars = of_log_prob(np.broadcast_to(-np.asarray(loss_bar, log_prob.dtype) / D, log_prob.shape))        # (11)
        return x_bar, bars | {"base": untouched}

    return -log_prob / D - HALF_LOG_2_PI, pullback                                  # (11)


def adapted_prior(flow, z, rate=0.1):
    """The flow without scales, with the variances (12) of its base after a step of training, at the step's latents z (B, D).

    ValueError for a flow with scales, for latents of another shape or of no image, and for a rate outside [0, 1].
    """
    if not isinstance(flow.base, DiagonalNormal):
        raise ValueError("adapted_prior: the flow has scales, and its latents have unit variance")
    z, rate = latents("adapted_prior", flow, z), RATE.checked("adapted_prior", "rate", rate)
    if not len(z):
        raise ValueError("adapted_prior: z must hold the latents of at least one image; it is empty")
    variance = flow.base.scale**2
    variance = variance + rate * ((z * z).mean(0) - variance)                       # (12)
    return flow.replace(base={"scale": np.sqrt(variance)})                          # (13)


def denoised(flow, x, std=0.05):
    """(16), of images x (B, C, H, W) with noise of standard deviation `std`, for a flow given their classes or none."""
    std = AT_LEAST_0.checked("denoised", "std", std)
    _, pullback = loss_vjp(flow, x)
    score, _ = pullback(-flow.base.event_shape[0])                                  # (11)
    return x + score.dtype.type(std) ** 2 * score                                   # (16)


# -- samples ----------------------------------------------------------------------------------------------------------

def images_of(flow, z, guidance, guided="ab", temperature=1.0, annealed=False):
    """The images (B, C, H, W) of latents z (B, D) with guidance (14) of weight `guidance`, for a flow given their classes or none.

    Latents are drawn from `flow.base`; without guidance, the images are `flow.bijector.forward(z)`.  Both take less time with
    `fast.tuned(flow)`.  `guided`: what (14) changes, "ab", "a" or "b"; `temperature`: of attention in the pass that sees no class;
    `annealed`: (15).  ValueError for arguments outside these, and where both passes are the same, as without classes at
    temperature 1.
    """
    z, guidance = latents("images_of", flow, z), AT_LEAST_0.checked("images_of", "guidance", guidance)
    if guided not in GUIDED:
        raise ValueError(f"images_of: guided must be one of {GUIDED}, not {guided!r}")
    free = at_temperature(given_class(flow), temperature)
    if free.equals(flow):
        raise ValueError("images_of: guidance needs a class, or a temperature other than 1; both passes are the same")
    return guided_inverse(flow.bijector.inner, free.bijector.inner, z, guidance, guided, annealed)


@np.errstate(all="ignore")
def guided_inverse(f, free, x, guidance, guided, annealed):
    """The inverse of a chain of blocks with guidance; `free` is the chain of the other pass."""
    both = (reversed(chain.unchecked(x.dtype).stages) for chain in (f, free))
    for stage, other in zip(*both):
        if isinstance(stage, Autoregressive):
            stage = tree.copied(stage, net=Guided(stage, other.net, guidance, guided, annealed))
        x = stage.inverse(x)                                                        # (3) (4)
    return x


class Guided:
    """The network of a block f with guidance, by another network `free`: (14); `weights` (outputs of a token, tokens)."""

    def __init__(self, f, free, guidance, guided, annealed):
        self.net, self.free, T = f.net, free, len(f.levels)
        w = guidance * np.arange(T) / max(T - 1, 1) if annealed else np.full(T, guidance)       # (15)
        chosen = np.array([name in guided for name in "ab"[-f.outputs:]])
        self.weights = np.outer(np.repeat(chosen, f.dims["D"] // T), w).astype(f.dtype)

    def forward(self, z):
        return self.guided(self.net.forward(z), self.free.forward(z), self.weights.ravel())

    @staticmethod
    def guided(h, h_free, weights):
        return h + weights * (h - h_free)                                           # (14)


def latents(name, flow, z, *others):
    """z (B, D), finite, in the wider of its dtype and the flow's, for all contexts of the flow and of `others`."""
    z, D = as_floating(f"{name}: z", z)[0], flow.base.event_shape[0]
    if z.ndim != 2 or z.shape[1] != D:
        raise ValueError(f"{name}: z must have shape (B, {D}), not {z.shape}")
    for batch in (one.bijector.parameter_batch for one in (flow, *others)):
        try:
            z = np.broadcast_to(z, (*np.broadcast_shapes(z.shape[:1], batch), D))
        except ValueError:
            raise ValueError(f"{name}: z has batch shape {z.shape[:1]}, which does not broadcast with the parameters' batch "
                             f"{batch}") from None
    return finite(name, "z", z).astype(np.result_type(z, flow.dtype), copy=False)
