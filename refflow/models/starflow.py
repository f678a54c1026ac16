r"""STARFlow (Gu, Chen, Berthelot, Zheng, Wang, Zhang, Dinh, Bautista, Susskind & Zhai, arXiv:2506.06276), as in the authors' code.

From an image `x` of `(C, H, W)` to latents.  Its patches of `p` by `p` pixels are `T` tokens of `F` features,
    h_t,f = x_c(p i + dy, p j + dx),   t = i W/p + j,   f = (p dy + dx) C + c       (1)
`Squeeze(p, "blocks")` makes the features, and a signal of `(F, T)` is flattened in C order.  A video is an image whose frames stand
one below the other, `video_as_image`, so that tokens of a frame follow the tokens of the frame before it.  Then come `K` blocks.  The
last one is deep, and all others are shallow:
    block `k = 0, 1, ...` reverses the tokens if `k` is even and the order "L2R", or odd and "R2L", and puts them back     (2)
    h_t <- (h_t - b_t) / s_t,   s = exp a   or   s = softplus(a + log(exp(1) - 1))          (3)
so that `s` is 1 at `a = 0`.  In a video, (2) may reverse the tokens within each frame, and shallow blocks may see one frame at a
time.  `a_t` and `b_t` depend on the tokens before `t` alone.  The network is a causal transformer,
    g_t = W_in h_(t-1) + b_in,   h_(-1) a learned start token                       (4)
    g <- transformer((W_y y + b_y, g))                  behind a text `y`, if the block reads one           (5)
    (a, b)_t = m tanh(o_t/m),   o_t = W_out N(g_t) + b_out                          (6)
where `N` normalises by the root mean square, and where `m`, the clip, or `N` may be left out.  Without a start token, (4) reads `h_t`,
and (6) is delayed by one token, so that the first token stays as it is.
    log p(x) = sum_i log N(z_i; 0, 1) - sum_k sum_t,f log s     of z, the last h    (7)
(3) is `Autoregressive` with the scale `1/s` at `-a` and the shift `-b`, so that its network ends in a factor -1.  `token_log_dets`
keeps `-log s` for each token and feature.

Positions turn the channels of queries and keys (`Rotary`).  In a grid of `u` by `v` tokens, and with the length `l` of the grid in
training, the token in row `i` and column `j` of frame `n`, and place `j` of a text of `S` places, have the coordinates
    (i l/(u v)^(1/2), j l/(u v)^(1/2), n)     and     (0, 0, j l/S)                 (8)
Videos, and models that read a text, use the third coordinate, which turns 8 pairs of each head; the first two share the other pairs.
Positions belong to places in the sequence, and (2) does not move them.  On a `line`, the only coordinate is the place in the sequence.

At the start `W_out` is 0, the start token `N(0, 1)`, and everything else is drawn as in PyTorch.       (9)

Training.  `noised` adds noise to the data.  The loss is `loss_vjp` of TarFlow, in nats for each entry.  A further term, with a weight
of `10^-4`, keeps the events that enter the blocks small:
    norm = (1/D) sum_k |h_k|^2          of the event h_k that enters block k        (10)
A block of no layers keeps its event, which counts in (10) like the others.

Samples with guidance.  At each token, two passes see the tokens before it: `(s, b)` given the text, and `(s', b')` given another text,
which says nothing.  Guidance combines two Gaussians, `N(b, s^2)^(1+w) N(b', s'^2)^(-w)`, with `s'` at least `s`:
    r = min(s/s', 1)^2,   d = 1 + w (1 - r)                                         (11)
    s <- s d^(-1/2),   b <- b + (w r/d) (b - b')                                    (12)
Only the deep block is guided, unless shallow blocks read the text too and `deep_only` is False.

Samples by Jacobi's iteration.  Each step finds all tokens of a part of the sequence at once,
    h_t <- s_t z_t + b_t                                with s and b at the h of the step before       (13)
from `h = z` on, until the change is small, `mean (change)^2 < threshold mean h^2`, or for a number of steps.  After as many steps as
there are tokens in the part, or once nothing changes, the result is what one token after the other gives.  Parts have `size` tokens, or
`4 size` after the first frame, where the first step reads the tokens of the frame before.  If a part stops earlier, later parts see
the tokens that its last step has read, because the keys and values of these tokens are kept.

Samples of videos may go on from known frames.  The deep block then takes the tokens of these frames from the known
frames, whatever `z` is there, and the shallow blocks return them as they were.

Denoising.  Samples move along the score (`denoised`), or as a network predicts.  The network is a transformer that is not causal.
It learns to predict
    e = -std grad log p(x)                              of noisy data x             (14)
Its prediction moves samples from noise of `std` to noise of `lower`:
    x <- x - 0.3 e (std - lower)/std                                                (15)
In a video, its token in frame `n` sees all of the text, and the tokens of frame `n'`, with `A` the frames ahead and `G` the window, where
    n + A - 1 - G <= n' <= max(n, 0) + A - 1                                        (16)
The places of the text stand before frame 0, in frames of as many tokens, so that their `n` is negative.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..core import Bijector, Chain, Conditioner, Flow, Independent, Inverse, tree
from ..core.arrays import as_floating
from ..core.rules import ABOVE_0, AT_LEAST_0, count, optional
from ..maps.autoregressive import Autoregressive
from ..maps.conditioners import (GELU, Delay, Dense, Positionwise, PrefixedNetwork, ReshapedNetwork, RMSNorm, Sequential, TanhGELU, Times,
                                 at_temperature, rotary_angles, soft_clip, transformer)
from ..maps.conditioners.speech_networks import Drawn
from ..maps.coupling import affine_family
from ..maps.densities import StandardNormal
from ..maps.elementwise import ExpScale, ReciprocalSoftplusScale
from ..maps.linear import Permutation
from ..maps.shape import Reshape, Squeeze
from .sizes import grid_of_patches
from .stochastic_durations import finite
from .tarflow import denoised, latents, loss_vjp, noised

__all__ = ["Jacobi", "denoised", "denoised_by_network", "denoiser_target", "frames_seen", "given_text", "image_as_video", "images_of",
           "loss_vjp", "noised", "norm_vjp", "regularised_loss_vjp", "starflow", "starflow_block", "starflow_denoiser",
           "starflow_transformer", "token_log_dets", "video_as_image"]

SCALES = {"exp": ExpScale(), "softplus": ReciprocalSoftplusScale()}
ORDERS = ("L2R", "R2L")
PAIRS_OF_THIRD = 8                      # the pairs of a head that the third coordinate of (8) turns
NOISE = 0.3                             # of (15)
LAYERS = (2, 2, 2, 2, 2, 24)


# -- building ---------------------------------------------------------------------------------------------------------

def starflow(rng, shape, patch=1, channels=3072, layers=LAYERS, *, frames=0, text=None, text_everywhere=False, order="L2R",
             within_frames=False, local=False, deep_channels=None, dtype=np.float64, **network) -> Flow:
    """A STARFlow of images of shape (C, H, W), or of videos of `frames` such frames, as images (C, frames H, W), to a vector of latents.

    `patch`: p; `channels`: of the transformers, and `deep_channels` of the deep one if these differ; `layers`: of the transformer of each
    block, the deep one last, 0 for a block that keeps its event; `text`: (E, S), the width and length of a text y, (*batch, E, S), which
    the deep block reads, and all blocks if `text_everywhere`: the flow then takes `given_text(flow, y)`; `order`: (2); `within_frames`: it
    reverses within frames; `local`: shallow blocks see one frame at a time; `network`: the other arguments of `starflow_block` and of
    `starflow_transformer`.
    Weights are drawn from the Generator `rng`.  ValueError for sizes that are not counts, for a height or width that the patch does
    not divide, and for another order.
    """
    C, *still = grid_of_patches("starflow", shape, patch)
    if order not in ORDERS:
        raise ValueError(f"starflow: order must be one of {ORDERS}, not {order!r}")
    frames = count(0).checked("starflow", "frames", frames)
    if (local or within_frames) and not frames:
        raise ValueError(f"starflow: {'local' if local else 'within_frames'} is of videos; frames is 0")
    if text_everywhere and text is None:
        raise ValueError("starflow: text_everywhere is of flows that read a text; text is None")
    if local and text_everywhere:
        raise ValueError("starflow: shallow blocks that see one frame at a time read no text")
    if np.ndim(layers) != 1 or not any(layers):
        raise ValueError(f"starflow: layers must hold the number of layers of each block, not all 0, and not {layers!r}")
    F, grid = C * patch**2, (frames, *still) if frames else tuple(still)
    D = F * math.prod(grid)

    def block(k, **given):
        return starflow_block(rng, F, layers=layers[k], reverse=(k % 2 == 0) == (order == "L2R"), within_frames=within_frames,
                              third=bool(frames or text), dtype=dtype, **network | given)       # (2)

    last = len(layers) - 1
    shallow = [stage for k in range(last)
               for stage in block(k, grid=(1, *still) if local else grid, channels=channels, text=text if text_everywhere else None)]
    deep = block(last, grid=grid, channels=deep_channels or channels, text=text)
    rows = frames * still[0] if frames else still[0]
    patches = [Squeeze(patch, "blocks"), Reshape((F, rows, still[1]), (D,))]        # (1)
    return Flow(Inverse(Chain([*patches, *(frame_by_frame(shallow, F, *grid) if local else shallow), *deep])), StandardNormal(D))   # (7)


def frame_by_frame(stages, F, frames, rows, columns):
    """Stages for vectors of one frame, between stages that take the vector of all frames apart and together again."""
    entries = np.arange(F * frames * rows * columns).reshape(F, frames, rows * columns)
    apart = [Permutation(entries.swapaxes(0, 1).ravel()), Reshape((entries.size,), (frames, entries.size // frames))]
    return [*apart, *stages, *(Inverse(stage) for stage in reversed(apart))]


def starflow_block(rng, features, grid, channels, layers, *, reverse=False, within_frames=False, scale="softplus", start=True, clip=4.0,
                   dtype=np.float64, **network) -> list[Bijector]:
    """[the stages of a block (3)], of vectors of features x tokens entries, tokens in a `grid` of ([frames,] rows, columns).

    `channels`, `layers`: of the transformer; without layers, the one stage keeps its event; `reverse` and `within_frames`: (2); `scale`:
    "softplus" or "exp"; `start`: is there a start token?  `clip`: m of (6), 0 for none; `network`: the other arguments of
    `starflow_transformer`.
    """
    draw, grid = Drawn("starflow", rng, dtype), tuple(grid)
    draw.counts(features=features, channels=channels, **{f"grid[{i}]": n for i, n in enumerate(grid)})
    layers, tokens = count(0).checked("starflow", "layers", layers), math.prod(grid)
    if scale not in SCALES:
        raise ValueError(f"starflow: scale must be one of {tuple(SCALES)}, not {scale!r}")
    clip = AT_LEAST_0.checked("starflow", "clip", clip)
    if not layers:
        return [Reshape((features * tokens,), (features * tokens,))]
    first = [Delay(rng.standard_normal(features).astype(dtype))] if start else []   # (4) (9)
    last = Positionwise(Dense(np.zeros((2 * features, channels), dtype), draw.weights(2 * features, channels)[1]))      # (6) (9)
    net = (*first, Positionwise(Dense(*draw.weights(channels, features))),          # (4)
           starflow_transformer(rng, grid, channels, layers, causal=True, dtype=dtype, **network),      # (5)
           soft_clip(last, clip) if clip else last, *([] if start else [Delay()]))                      # (6)
    family = affine_family(SCALES[scale], shift_first=True)
    f = Autoregressive(Times(ReshapedNetwork(Sequential(net), (features, tokens)), -1.0), family)       # (3)
    places = np.arange(tokens).reshape(grid[0] if within_frames and len(grid) == 3 else 1, -1)[:, ::-1].ravel()
    turned = Permutation((np.arange(features)[:, None] * tokens + places).ravel())
    return [turned, f, turned] if reverse else [f]                                  # (2)


def starflow_transformer(rng, grid, channels, layers, *, text=None, third=False, length=None, line=False, head_size=64, heads=None,
                         expansion=4, final_norm=True, gated=False, dtype=np.float64, **parts):
    """The transformer of (5), with N of (6) if `final_norm`, from (channels, tokens) to (channels, tokens).

    `text`: (E, S), None for no text; `third`: does the network use the third coordinate of (8)?  With a text or frames it does;
    `line`: positions on a line; `length`: l, for None the grid's own; `heads`: channels/head_size for None; `gated`: with GELU by
    tanh; `parts`: `key_heads`, `norm`, `query_key_norm`, `norm_after`, `split_pairs`, `causal` and `sees` of `transformer`.
    """
    draw, (E, S) = Drawn("starflow", rng, dtype), width_and_length(text)
    draw.counts(head_size=head_size)
    if heads is None and channels % head_size:
        raise ValueError(f"starflow: channels must be a multiple of head_size = {head_size}, not {channels}")
    angles = positions(grid, head_size, length, S, third or bool(text) or len(grid) == 3, line)
    body = transformer(rng, channels, heads or channels // head_size, layers, expansion, activation=TanhGELU() if gated else GELU(),
                       dtype=dtype, head_size=head_size, gated=gated, angles=angles, **parts)
    trunk = Sequential((body, *([Positionwise(RMSNorm(np.ones(channels, dtype)))] if final_norm else [])))          # (6)
    return PrefixedNetwork(trunk, Positionwise(Dense(*draw.weights(channels, E))), S) if text else trunk            # (5)


def width_and_length(text):
    """(E, S), both 0 without a text."""
    if text is None:
        return 0, 0
    if np.ndim(text) != 1 or len(text) != 2:
        raise ValueError(f"starflow: text must be (width, length), not {text!r}")
    return tuple(count().checked("starflow", f"text[{i}]", size) for i, size in enumerate(text))


def positions(grid, head_size, length=None, text=0, third=False, line=False):
    """The angles (head_size/2, text + tokens) of the positions (8)."""
    length = optional(ABOVE_0).checked("starflow", "length", length)
    *frames, rows, columns = grid
    tokens, own = math.prod(grid), PAIRS_OF_THIRD if third and not line else 0
    if head_size % 2 or not line and ((head_size // 2 - own) % 2 or head_size < 2 * own):
        wanted = "even" if line else "a multiple of 4" + (f" and at least {2 * own}" if own else "")
        raise ValueError(f"starflow: head_size must be {wanted}, not {head_size}")
    if line:
        return rotary_angles(np.arange(float(text + tokens))[None], (head_size // 2,))
    side = math.sqrt(rows * columns)
    n, i, j = np.indices((*(frames or (1,)), rows, columns)).reshape(3, -1)
    length = length or side
    of_text = np.arange(text) / max(text, 1) * length                               # (8)
    zeros, each = np.zeros(text), (head_size // 2 - own) // 2
    coordinates = [np.concatenate(pair) for pair in ((zeros, i / side * length), (zeros, j / side * length), (of_text, n))]        # (8)
    return rotary_angles(coordinates[:2 + bool(own)], (each, each, own)[:2 + bool(own)])


def video_as_image(x):
    """Videos (*batch, frames, C, H, W) as images (*batch, C, frames H, W).  ValueError for an array of fewer axes."""
    if np.ndim(x) < 4:
        raise ValueError(f"video_as_image: x must have shape (*batch, frames, C, H, W), not {np.shape(x)}")
    x = np.moveaxis(x, -4, -3)
    return x.reshape(*x.shape[:-3], x.shape[-3] * x.shape[-2], x.shape[-1])


def image_as_video(x, frames):
    """The reverse.  ValueError for rows that are not `frames` frames."""
    count().checked("image_as_video", "frames", frames)
    if np.ndim(x) < 3 or np.shape(x)[-2] % frames:
        raise ValueError(f"image_as_video: x must have shape (*batch, C, {frames} H, W), not {np.shape(x)}")
    *batch, C, rows, W = np.shape(x)
    return np.moveaxis(np.reshape(x, (*batch, C, frames, rows // frames, W)), -3, -4)


# -- the text ---------------------------------------------------------------------------------------------------------

def readers(flow):
    """The networks of a flow or a network that read a text."""
    return [value for _, value in tree.walk(flow) if isinstance(value, PrefixedNetwork)]


def given_text(flow, text):
    """The flow, or the denoiser, given the embeddings of a text for each image, (*batch, E, S).

    ValueError for a text of another width or length, and for a flow that reads no text.
    """
    found = readers(flow)
    if not found:
        raise ValueError("starflow: there is a text, but the flow reads none")
    wanted = found[0].net.layer.fixed_shape[0], found[0].positions
    if np.ndim(text) < 2 or np.shape(text)[-2:] != wanted:
        raise ValueError(f"starflow: text must have shape (*batch, {wanted[0]}, {wanted[1]}), its width and its length, "
                         f"not {np.shape(text)}")
    return flow.at(context=np.asarray(text))


# -- training ---------------------------------------------------------------------------------------------------------

def own_map(stage):
    """The autoregressive map of a stage, None for another stage; a stage may apply it to each frame."""
    inner = stage.inner if isinstance(stage, Independent) else stage
    return inner if isinstance(inner, Autoregressive) else None


def is_block(stage):
    """Is it the map of a block?  One without layers keeps its event."""
    inner = stage.inner if isinstance(stage, Independent) else stage
    return isinstance(inner, Autoregressive) or isinstance(inner, Reshape) and inner.input == inner.output


def token_log_dets(flow, x):
    """[-log s of each block, for each token and feature, (B, F, T), in the order of the block's sequence] of images x (B, C, H, W).

    A block that sees one frame at a time gives (B, frames, F, T).  Their sums are the log-determinants of the blocks.
    """
    found = []
    for stage in flow.bijector.inner.stages:
        f = own_map(stage)
        if f is not None:
            _, log_slopes = slopes_vjp(f, x)[0]
            found.append(log_slopes.reshape(*log_slopes.shape[:-1], *f.net.net.shape))
        x = stage.forward(x)
    return found


def slopes_vjp(f, z):
    """((x, log_slopes), pullback) of the autoregressive map f of a block, with a log-slope for each entry.

    `pullback(x_bar, log_slopes_bar)` -> (z_bar, params_bar).
    """
    h, net_pullback = f.net.vjp(z)
    g, fields_pullback = f.map_at(f.by_entry(h))
    image, g_pullback = g.vjp(z)                                                    # (3)

    def pullback(x_bar, log_slopes_bar):
        own_bar, fields_bar = g_pullback(x_bar, log_slopes_bar)
        h_bar, _ = fields_pullback(fields_bar)
        net_bar, bars = net_pullback(f.joined(h_bar))
        return own_bar + net_bar, {"net": bars}

    return image, pullback


def norm_vjp(flow, x):
    """(norm (B,), pullback): (10) of images x (B, C, H, W), for a flow given its text, if it reads one.

    `pullback(norm_bar)` -> (x_bar, params_bar), norm_bar (B,) or a number; params_bar has the keys and shapes of `flow.params()`,
    and "context" if a block in front of the deep one reads a text.
    """
    stages, D = flow.bijector.inner.stages, flow.base.event_shape[0]
    entered = [i for i, stage in enumerate(stages) if is_block(stage)]
    x, events, pullbacks = np.array(x), {}, []
    batch = x.shape[:-3]
    for i, stage in enumerate(stages[:max(entered)]):
        events |= {i: x} if i in entered else {}
        (x, log_det), pullback = stage.vjp(x)
        pullbacks.append((pullback, np.zeros_like(log_det)))
    events[max(entered)] = x
    norm = sum((h.reshape(*batch, D)**2).sum(-1) for h in events.values()) / D      # (10)

    def of_norm(norm_bar):
        def own(i):
            h = events[i]
            return 2 / D * h * np.broadcast_to(norm_bar, batch).reshape(*batch, *(1,) * (h.ndim - len(batch)))      # (10)

        bar, context = own(max(entered)), []
        bars = {str(i): zeros(stage) for i, stage in enumerate(stages)}
        for i in reversed(range(len(pullbacks))):
            pullback, no_log_det = pullbacks[i]
            bar, bars[str(i)] = pullback(bar, no_log_det)
            context += [bars[str(i)].pop("context")] if "context" in bars[str(i)] else []
            bar = bar + own(i) if i in entered else bar
        text = {"context": sum(context)} if context else {}
        return bar, {"bijector": {"inner": {"stages": bars}}, "base": {}} | text

    return norm, of_norm


def regularised_loss_vjp(flow, x, weight=1.0, norm_weight=1e-4):
    """(loss (B,), pullback): `weight` times the loss of TarFlow plus `norm_weight` times (10), of images x (B, C, H, W).

    The authors' weight is 1, or `std/0.3` where the text says what noise is in the data.  The pullback has the form of `loss_vjp`'s.
    """
    weight, norm_weight = (AT_LEAST_0.checked("regularised_loss_vjp", name, held)
                           for name, held in (("weight", weight), ("norm_weight", norm_weight)))
    (loss, of_loss), (norm, of_norm) = loss_vjp(flow, x), norm_vjp(flow, x)

    def pullback(loss_bar):
        (x_bar, bars), (norm_x_bar, norm_bars) = of_loss(weight * loss_bar), of_norm(norm_weight * loss_bar)
        return x_bar + norm_x_bar, tree.added(bars, norm_bars)

    return weight * loss + norm_weight * norm, pullback


def zeros(value):
    """Cotangents of 0 of a value's parameters, the context left out."""
    return tree.nest({path: np.zeros_like(held) for path, held in tree.flatten(value.params()) if path != ("context",)})


# -- samples ----------------------------------------------------------------------------------------------------------

class Jacobi(NamedTuple):
    """How Jacobi's iteration (13) runs: tokens of a part, its most steps, when it ends, and tokens of a frame, None for an image."""

    size: int = 32
    iterations: int = 32
    threshold: float = 1e-3
    frame: int | None = None

    def checked(self):
        """ValueError for sizes that are not counts, and for a threshold below 0."""
        rules = count(), count(), AT_LEAST_0, optional(count())
        return Jacobi(*(rule.checked("Jacobi", name, held) for rule, name, held in zip(rules, self._fields, self)))


@np.errstate(all="ignore")
def images_of(flow, z, text=None, null=None, guidance=0.0, *, deep_only=True, temperature=1.0, jacobi=None, known=None):
    """The images (B, C, H, W) of latents z (B, D), with guidance (11) of the weight `guidance`, in turn or by `jacobi`, a `Jacobi`.

    `text` and `null`: (B, E, S), or (E, S) for all images; `deep_only`: is the deep block alone guided?  `temperature`: of attention
    in both passes; `known`: the first frames of videos, (B, C, rows, W).  ValueError for guidance without both texts, for a weight below
    0, for known frames of a flow that does not keep them apart from later ones, and where `given_text` raises it.
    """
    w = AT_LEAST_0.checked("images_of", "guidance", guidance)
    if w and (text is None or null is None):
        raise ValueError("images_of: guidance needs a text, and a null text")
    if jacobi is not None and not isinstance(jacobi, Jacobi):
        raise ValueError(f"images_of: jacobi must be a Jacobi, not {jacobi!r}")
    jacobi = None if jacobi is None else jacobi.checked()
    given = at_temperature(flow if text is None else given_text(flow, text), temperature)
    free = at_temperature(given_text(flow, null), temperature) if w else given
    z = latents("images_of", given, z, free)
    tokens = None if known is None else known_tokens(given.bijector.inner, known, z)
    return sampled(given.bijector.inner, free.bijector.inner, z, w, deep_only, jacobi, tokens)


def known_tokens(f, known, z):
    """The tokens (B, F, tokens) of known frames that enter the deep block of a chain."""
    patches, deep = Chain(f.stages[:2]), max(i for i, stage in enumerate(f.stages) if own_map(stage) is not None)
    C, rows, W = patches.input_shape(z.shape[1:])
    known = finite("images_of", "known", as_floating("images_of: known", known)[0]).astype(z.dtype)
    if known.ndim != 4 or known.shape[:2] + known.shape[3:] != (len(z), C, W) or not 0 < known.shape[2] < rows:
        raise ValueError(f"images_of: known must have shape ({len(z)}, {C}, rows, {W}), with fewer than {rows} rows, not {known.shape}")
    (F, T), events = own_map(f.stages[deep]).net.net.shape, []
    for later in (0, 1):
        x = np.full((len(known), C, rows, W), later, z.dtype)
        x[..., :known.shape[2], :] = known
        events.append(Chain(f.stages[:deep]).forward(x).reshape(len(known), F, T)[..., :T * known.shape[2] // rows])
    if not np.array_equal(*events):
        raise ValueError("images_of: known must be whole frames of a flow that reverses tokens within frames alone")
    return events[0]


def sampled(f, free, z, w, deep_only, jacobi, known=None):
    """The inverse of a chain of blocks with guidance; `free` is the chain of the other pass, `known` are tokens of the deep block."""
    both, x = zip(*(chain.unchecked(z.dtype).stages for chain in (f, free))), z
    for stage, other in reversed(list(both)):
        own, theirs = own_map(stage), own_map(other)
        if own is None:
            x = stage.inverse(x)
        else:
            step = guided(own, theirs, w) if w else lambda h, own=own: scale_and_shift(own, h)
            x, known = in_turn(own, step, x, known) if jacobi is None else by_jacobi(own, step, x, jacobi, known), None
        w = 0 if deep_only and is_block(stage) else w
    return x


def scale_and_shift(f, h):
    """(s, b) of a block's map f at events h."""
    g, _ = f.map_at(f.by_entry(f.net.forward(h)))
    return g.sigma(h).quotient(np.ones_like(h)), -g.shift                           # (3)


def guided(f, free, w):
    """A function of events: (s, b) with guidance."""
    def step(h):
        (s, b), (s_free, b_free) = scale_and_shift(f, h), scale_and_shift(free, h)
        r = np.minimum(s / s_free, 1)**2                                            # (11)
        d = 1 + w * (1 - r)                                                         # (11)
        return s / np.sqrt(d), b + w * r / d * (b - b_free)                         # (12)

    return step


def in_turn(f, step, z, known=None):
    """The event whose image is z, token after token, behind known ones."""
    h, n = np.zeros_like(z), 0 if known is None else known.shape[-1]
    h.reshape(*h.shape[:-1], *f.net.net.shape)[..., :n] = 0 if known is None else known
    for level in f.levels[n:]:
        s, b = step(h)
        h[..., level] = (s * z + b)[..., level]                                     # (3)
    return h


def by_jacobi(f, step, z, how, known=None):
    """The event whose image is z, part after part, behind known tokens; `read` are the tokens that the network reads."""
    F, T = f.net.net.shape
    z = z.reshape(*z.shape[:-1], F, T)
    h, read, start, frame = z.copy(), np.zeros_like(z), 0 if known is None else known.shape[-1], how.frame or T
    h[..., :start] = read[..., :start] = 0 if known is None else known
    while start < T:
        stop = min(start + (how.size if start <= frame else 4 * how.size), T)
        for i in range(how.iterations):
            first, back = max(start - 1, 0), frame if i == 0 and start > frame else 0
            read[..., first:stop - 1] = h[..., first - back:stop - 1 - back]
            s, b = (part.reshape(z.shape)[..., start:stop] for part in step(read.reshape(*z.shape[:-2], F * T)))
            after = s * z[..., start:stop] + b                                      # (13)
            change = ((after - h[..., start:stop])**2).mean() / (after**2).mean()
            h[..., start:stop] = after
            if change < how.threshold:
                break
        start = stop
    return h.reshape(*z.shape[:-2], F * T)


# -- denoising by a network -------------------------------------------------------------------------------------------

def starflow_denoiser(rng, features, grid, channels, layers=8, *, text=None, ahead=0, window=None, dtype=np.float64,
                      **network) -> Conditioner:
    """The network of (15), of vectors of features x tokens entries; it takes a text by `given_text(net, y)`.

    `ahead`, `window`: A and G of (16) in a video, where A = 0 and None let every token see all; `network`: the other arguments of
    `starflow_transformer`.  ValueError for frames ahead and a window that leave a token nothing to see.
    """
    draw, grid = Drawn("starflow_denoiser", rng, dtype), tuple(grid)
    draw.counts(features=features, channels=channels, layers=layers, **{f"grid[{i}]": n for i, n in enumerate(grid)})
    sees = frames_seen(grid, width_and_length(text)[1], ahead, window) if ahead and len(grid) == 3 else None
    net = (Positionwise(Dense(*draw.weights(channels, features))),
           starflow_transformer(rng, grid, channels, layers, text=text, sees=sees, dtype=dtype, **network),
           Positionwise(Dense(np.zeros((features, channels), dtype), draw.weights(features, channels)[1])))
    return ReshapedNetwork(Sequential(net), (features, math.prod(grid)))


def frames_seen(grid, text=0, ahead=1, window=None):
    """(16) for a text of `text` places and a grid of (frames, rows, columns): which keys (columns) each query (row) sees."""
    A, G = count().checked("frames_seen", "ahead", ahead), optional(count(0)).checked("frames_seen", "window", window)
    count(0).checked("frames_seen", "text", text)
    if len(grid) != 3:
        raise ValueError(f"frames_seen: grid must be (frames, rows, columns), not {grid}")
    place = np.arange(text + math.prod(grid)) - text
    key = place // math.prod(grid[1:])
    query = key[:, None]
    within = key <= np.maximum(query, 0) + A - 1                                    # (16)
    if G is not None:
        within &= key >= query + A - 1 - G                                          # (16)
    return within | (place < 0)


def denoiser_target(flow, x, std, weight=1.0, norm_weight=0.0):
    """(14): what the network of a denoiser learns to predict of noisy images x (B, C, H, W).

    With the weights of the loss in training, `weight` and `norm_weight`, it is the gradient of that loss.
    """
    std = AT_LEAST_0.checked("denoiser_target", "std", std)
    x_bar, _ = regularised_loss_vjp(flow, x, weight, norm_weight)[1](flow.base.event_shape[0])
    return x_bar.dtype.type(std) * x_bar                                            # (14)


def denoised_by_network(net, flow, x, std, lower=0.0):
    """(15), of images x (B, C, H, W) of a flow, by a `starflow_denoiser` given its text, if it reads one."""
    std, lower = ABOVE_0.checked("denoised_by_network", "std", std), AT_LEAST_0.checked("denoised_by_network", "lower", lower)
    patches = Chain(flow.bijector.inner.stages[:2])
    y = patches.inverse(net.forward(patches.forward(x)))
    return x - y.dtype.type(NOISE * (std - lower) / std) * y                        # (15)
