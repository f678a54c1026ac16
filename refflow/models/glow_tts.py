r"""Glow-TTS (Kim, Kim, Kong & Yoon, arXiv:2005.11129), as in the authors' code.

The data are a text of tokens and a mel spectrogram `x` of `C` channels.  For each position `i` of the text, the text
side, `glow_tts_text`, gives means `mu_i` and log-scales `q_i`, `C` numbers each, and the logarithm `w_i` of a number of frames; the
decoder `f` maps latents `z` to spectrograms.  With several speakers, the networks that see speaker `k` see the vector
    g / |g|,   g = E_k                                                              (1)

The decoder, in the paper's direction: `z = f^-1(x)` squeezes `n` frames into one, then in each block
    h <- bias + exp(logs) h                      per channel                        (2)
    h_p <- W h_p                                 in groups of channels, at every position               (3)
    h_b <- exp(s) h_b + t,   (t, s) = net(h_a)                                      (4)
or with `sigmoid_scale` `1e-6 + sigma(s + 2)` for `exp(s)`, where `a` is the first half of the channels and `net` a wave net,
which also sees `g`; after the last block the squeeze is undone.  Lengths are rounded down to multiples of `n`.

Training.  The best path, which `alignment` finds, says at which position `a_j` of the text frame `j` is, and so how many frames
`d_i` position `i` has; both are constants.  Over all texts and frames of a batch, with
    m_j = mu_(a_j),   s_j = q_(a_j)                                                 (5)
    r_cj = (z_cj - m_cj) exp(-s_cj)                                                 (6)
and `N` for the number of all valid frames times `C`, `I` for the number of all positions of texts, `l` for log|det dz/dx|,
    mle = (sum s + 1/2 sum r^2 - sum l) / N + 1/2 log(2 pi)                         (7)
    y_i = log(1e-8 + d_i)                                                           (8)
    duration = sum (w_i - y_i)^2 / I                                                (9)
    total = mle + duration                                                          (10)
Reverse rule, with `e` for the cotangent of (7) and `b` for the one of (9): from (7) and (6),
    z_bar = e r exp(-s) / N,   m_bar = -z_bar                                       (11)
    s_bar = e (1 - r^2) / N,   l_bar = -e / N                                       (12)
    mu_bar_i = sum_j [a_j = i] m_bar_j,   q_bar_i = sum_j [a_j = i] s_bar_j         (13)
    w_bar_i = 2 b (w_i - y_i) / I                                                   (14)
then the pullback of the decoder's inverse at `(z_bar, l_bar)`, which also gives the mel's cotangent, and the pullback of
the text side at `(mu_bar, q_bar, w_bar)`, in which no gradient flows from `w` to the text's encoding.  With `v` the speaker's
cotangent from the decoder and `v'` from the duration predictor,
    g_bar = v + v',   E_k_bar = the sum of g_bar over the items of speaker k        (15)

Synthesis, with `lambda` = length_scale and `tau` = noise_scale, where `u` is normal noise:
    d_i = ceil(lambda exp(w_i))                                                     (16)
    J = n floor(max(sum_i d_i, 1) / n)                                              (17)
    x = f(m + tau exp(s) u)                                                         (18)
where frames come in the order of the text, `d_i` at position `i`, and frames from `J` on are cut off.

At the start (2) is the identity until `initialised` chooses bias and logs from data, `W` is a random rotation, (4) is the
identity, `E` is `U(-1/10, 1/10)`, and everything else is as `glow_tts_text` and `speech_networks` say.       (19)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from ..core import Bijector, Chain, Conditioner, Inverse, Value, child, children, plain, tree
from ..core.arrays import masked
from ..core.boundary import handed_out
from ..core.values import declare
from ..maps.conditioners import (Embedding, RelativeAttention, duration_network, uniform, wave_net_coupling_network)
from ..maps.coupling import Coupling, affine_family, masks
from ..maps.elementwise import ExpScale, SigmoidScale
from ..maps.linear import GroupedLinear, Pointwise
from ..maps.normalization import GlowTTSActNorm
from ..maps.shape import Squeezed
from ..maps.conditioners.speech_networks import Drawn
from .alignment import best_path, durations, log_likelihoods, path_of
from .glow_tts_batch import (DROPPING, Keeps, checked_batch, checked_durations, checked_masks, checked_scales, dropped_shapes,
                             padded, with_masks)
from .glow_tts_text import projection, text_encoder, text_vjp

LEAST = 1e-8                                    # of (8)
LOG_2_PI = math.log(2 * math.pi)


class Losses(NamedTuple):
    """(7), (9) and (10)."""

    mle: float
    duration: float
    total: float


class Terms(NamedTuple):
    """What a loss is made of: latents z (B, C, J), log_det (B,), mu and q (B, C, I), w (B, I), path (B, I, J), masks."""

    losses: Losses
    z: np.ndarray
    log_det: np.ndarray
    mu: np.ndarray
    q: np.ndarray
    w: np.ndarray
    path: np.ndarray
    text_mask: np.ndarray
    frame_mask: np.ndarray


class Speech(NamedTuple):
    """Synthesised mel (B, C, J), frame lengths (B,), path (B, I, J), durations (B, I), and (m, s) of the latents."""

    mel: np.ndarray
    frame_lengths: np.ndarray
    path: np.ndarray
    durations: np.ndarray
    m: np.ndarray
    s: np.ndarray


@declare
class GlowTTS(Value):
    """A text-to-speech model; `glow_tts` builds one.

    `encoder`, `mean`, `log_scale` (none: q = 0), `durations`: the text side, see `glow_tts_text`; `speakers`: none, or one
    `Embedding` of the numbers of speakers; `decoder`: from latents (C, J) to a mel (C, J), the inverse of
    `Squeezed` blocks; `rates`: of dropout in the encoder and the duration predictor, in the prenet, and in the decoder.
    """

    encoder: Conditioner = child()
    mean: Conditioner = child()
    log_scale: tuple = children()
    durations: Conditioner = child()
    speakers: tuple = children()
    decoder: Bijector = child()
    rates: tuple = plain((0.1, 0.5, 0.05))

    factor = property(lambda self: self.decoder.inner.factor)

    def _validate(self):
        squeezed = self.decoder.inner if isinstance(self.decoder, Inverse) else None
        if not isinstance(squeezed, Squeezed) or not isinstance(squeezed.inner, Chain):
            raise ValueError(f"GlowTTS: decoder must be Inverse(Squeezed(Chain(...))), not {self.decoder!r}")
        for key in ("log_scale", "speakers"):
            if len(getattr(self, key)) > 1:
                raise ValueError(f"GlowTTS: {key} must hold at most one conditioner, not {len(getattr(self, key))}")
        if len(self.rates) != 3 or not all(0 <= rate < 1 for rate in self.rates):
            raise ValueError(f"GlowTTS: rates must be three numbers in [0, 1), not {self.rates!r}")
        self._set("rates", tuple(map(float, self.rates)))
        super()._validate()

    # -- what users call ---------------------------------------------------------------------------------------------

    def loss_vjp(self, tokens, text_lengths, mel, frame_lengths, speakers=None, keeps=None):
        """((mle, duration, total), params_bar): the losses of a batch, and the gradient of the total in all parameters.

        `tokens` (B, I), valid at the first `text_lengths` positions, and `mel` (B, C, J), valid in the first `frame_lengths` frames;
        `speakers` (B,), whole numbers; `keeps`: the masks of dropout, `drawn_keeps`, None for none.  params_bar has the keys
        and shapes of `params()`.
        """
        terms, pullback = self.terms_vjp(tokens, text_lengths, mel, frame_lengths, speakers, keeps)
        return terms.losses, pullback(1.0, 1.0)[1]

    def terms_vjp(self, tokens, text_lengths, mel, frame_lengths, speakers=None, keeps=None, twin=None):
        """(`Terms`, pullback); `pullback(mle_bar, duration_bar)` -> (mel_bar, params_bar).

        `twin(model)` exchanges parts of the copy that is used here, without checks, for parts that compute the same.
        """
        batch = checked_batch(self, "loss", tokens, text_lengths, mel, frame_lengths, speakers)
        model = self.at_masks(batch).dropping(keeps, batch)
        model = model if twin is None else twin(model)
        g, speakers_pullback = model.speaker_vjp(batch.speakers)
        (mu, q, w), text_pullback = model.text_vjp(batch.tokens, g)
        decoder = tree.replaced(model.decoder, {}, g)
        with np.errstate(all="ignore"):
            (z, log_det), decoder_pullback = decoder.inverse_vjp(batch.mel)
        scores = log_likelihoods(z, mu, q, batch.texts, batch.frames)
        path = best_path(scores, batch.texts, batch.frames)
        mle, mle_pullback = mle_vjp(z, mu, q, log_det, path)
        duration, duration_pullback = duration_vjp(w, path, batch.text_mask)

        @np.errstate(all="ignore")
        def pullback(mle_bar, duration_bar):
            z_bar, log_det_bar, mu_bar, q_bar = mle_pullback(mle_bar)
            mel_bar, decoder_bar = decoder_pullback(z_bar, log_det_bar)
            bars = text_pullback(mu_bar, q_bar, duration_pullback(duration_bar)) | {"decoder": decoder_bar}
            g_bar = None if g is None else decoder_bar.pop("context") + bars["durations"].pop("context")    # (15)
            bars["speakers"] = speakers_pullback(g_bar)
            return padded(mel_bar, mel), {key: bars[key] for key in self.params()}

        losses = Losses(float(mle), float(duration), float(mle) + float(duration))          # (10)
        return Terms(losses, *handed_out((z, log_det, mu, q, w, path, batch.text_mask, batch.frame_mask))), pullback

    def infer(self, tokens, text_lengths, rng, noise_scale=0.667, length_scale=1.0, speakers=None, durations=None):
        """`Speech` of texts: its mel, frame lengths, path and durations.  `rng`: the Generator of `u`.

        `durations`, (B, I), whole numbers of frames, replaces (16).  ValueError for tokens, lengths and speakers as in
        `loss_vjp`, for scales that are not finite or below 0, and for texts that would last 2^31 frames.
        """
        batch = checked_batch(self, "infer", tokens, text_lengths, None, None, speakers)
        noise_scale, length_scale = checked_scales(noise_scale=noise_scale, length_scale=length_scale)
        model = self.at_masks(batch)
        g, _ = model.speaker_vjp(batch.speakers)
        (mu, q, w), _ = model.text_vjp(batch.tokens, g)
        with np.errstate(all="ignore"):
            d = np.ceil(length_scale * np.exp(w)) if durations is None else np.asarray(durations)   # (16)
        d = checked_durations(np.where(batch.text_mask, d, 0))
        frames = np.maximum(d.sum(-1), 1).astype(np.int64) // self.factor * self.factor     # (17)
        path = path_of(d, frames)
        m, s = spread(mu, path), spread(q, path)
        mask = np.arange(m.shape[-1]) < frames[:, None]
        decoder = tree.replaced(model.decoder, {}, g, model.decoder.masks_below(mask))
        with np.errstate(all="ignore"):
            z = masked(m + noise_scale * np.exp(s) * rng.standard_normal(m.shape).astype(m.dtype), mask)
            mel = decoder.forward(z) if m.shape[-1] else z                          # (18)
        return Speech(mel, frames, path, d.astype(np.int64), m, s)

    def initialised(self, tokens, text_lengths, mel, frame_lengths, speakers=None, rng=None):
        """The model with bias and logs of every (2) chosen so that its output on a batch has mean 0 and variance 1."""
        batch = checked_batch(self, "initialised", tokens, text_lengths, mel, frame_lengths, speakers)
        g, _ = self.unchecked(batch.mel.dtype).speaker_vjp(batch.speakers)
        filled = self.decoder.at(mask=batch.frame_mask)
        filled = filled if g is None else filled.at(context=g)
        filled = filled.inverse_initialised(batch.mel, rng).at(mask=None)
        return self.replace(decoder=filled if g is None else filled.at(context=None))

    # -- dropout -----------------------------------------------------------------------------------------------------

    def drawn_keeps(self, rng, tokens, mel) -> Keeps:
        """Masks of dropout for a batch of tokens (B, I) and mels (B, C, J), drawn from `rng`."""
        return Keeps(*([rng.random(shape) >= rate for shape, rate in of] for of in self.drops(np.shape(tokens), np.shape(mel))))

    def drops(self, tokens, mel):
        """For the encoder, the duration predictor and the decoder: [(shape of the mask, rate)] of each place, in order."""
        (B, I), J, squeezed = tokens, mel[-1], self.decoder.inner
        channels, predictor = self.encoder.output_shape((I,))[0], self.durations
        if self.speakers:
            channels, predictor = channels + self.speakers[0].E.shape[-1], predictor.inner
        decoder = [shape for f in squeezed.inner.stages if isinstance(f, Coupling)
                   for shape in dropped_shapes(f.net, (int(f.passes.sum()), J // self.factor))[0]]
        encoder, predictor = dropped_shapes(self.encoder, (I,))[0], dropped_shapes(predictor, (channels, I))[0]
        each, _, last = self.rates
        return tuple([((B, *shape), rate) for shape, rate in zip(shapes, rates)] for shapes, rates in (
            (encoder, self.encoder_rates()), (predictor, [each] * len(predictor)), (decoder, [last] * len(decoder))))

    def encoder_rates(self):
        """A rate for each place of the encoder that drops entries: the prenet's come first."""
        each, first, _ = self.rates
        kinds = [type(value) for _, value in tree.walk(self.encoder) if isinstance(value, DROPPING)]
        prenet = kinds.index(RelativeAttention) if RelativeAttention in kinds else len(kinds)
        return [first] * prenet + [each] * (len(kinds) - prenet)

    def dropping(self, keeps, batch):
        """The model, a copy without checks, with these masks of dropout."""
        if keeps is None:
            return self
        parts = {}
        for key, kept, wanted in zip(Keeps._fields, keeps, self.drops(batch.tokens.shape, batch.mel.shape)):
            parts[key] = with_masks(getattr(self, key), checked_masks(key, kept, wanted), [rate for _, rate in wanted])
        return tree.copied(self, **parts)

    # -- its parts, on copies without checks -------------------------------------------------------------------------

    def at_masks(self, batch):
        """A copy without checks, in the batch's dtype, with masks filled in."""
        dtype, text, frames = batch.mel.dtype, batch.text_mask, batch.frame_mask
        parts = {key: working(getattr(self, key), dtype, text) for key in ("encoder", "mean", "durations")}
        parts["log_scale"] = tuple(working(part, dtype, text) for part in self.log_scale)
        parts["speakers"] = tuple(part.unchecked(dtype) for part in self.speakers)
        return tree.copied(self, checked=False, dtype=dtype, decoder=working(self.decoder, dtype, frames), **parts)

    def speaker_vjp(self, speakers):
        """((B, G), pullback) of (1), or (None, a pullback of nothing) without speakers."""
        if not self.speakers:
            return None, lambda g_bar: {}
        g, speakers_pullback = self.speakers[0].vjp(speakers[:, None])              # (1) (15)
        return g[..., 0], lambda g_bar: {"0": speakers_pullback(g_bar[..., None])[1]}

    def text_vjp(self, tokens, g):
        """((mu, q, w), pullback) -> the cotangents of the text side's parameters, the speaker's in "durations"."""
        log_scale, durations = self.log_scale[0] if self.log_scale else None, tree.replaced(self.durations, {}, g)
        with np.errstate(all="ignore"):
            (mu, q, w), pullback = text_vjp(self.encoder, self.mean, log_scale, durations, tokens)

        def pulled(mu_bar, q_bar, w_bar):
            bars = pullback(mu_bar, q_bar, w_bar[..., None, :])
            return bars | {"log_scale": {"0": bars["log_scale"]} if self.log_scale else {}}

        return (mu, q, w[..., 0, :]), pulled

def working(value, dtype, mask):
    """A copy without checks, in a dtype, with a mask of sequences filled in."""
    masks = value.masks_below(mask)

    def filled(owner, path, _):
        own = {key: masks[path] for key, field in owner.own_fields().items() if field.role == "mask"}
        return {"checked": False, "dtype": dtype} | own

    return tree.mapped(value, lambda path, field, array, _: array if field.constant else array.astype(dtype, copy=False),
                       also=filled)


def spread(of_positions, path):
    """(5): (B, C, J) from (B, C, I)."""
    return of_positions @ path.astype(of_positions.dtype)                           # (5)


def gathered(of_frames, path):
    """(13): (B, C, I) from (B, C, J)."""
    return of_frames @ path.astype(of_frames.dtype).mT                              # (13)


def mle_vjp(z, mu, q, log_det, path):
    """(mle, pullback); `pullback(mle_bar)` -> (z_bar, log_det_bar, mu_bar, q_bar)."""
    m, s = spread(mu, path), spread(q, path)
    N, valid = int(path.sum()) * z.shape[1], path.any(1)[:, None]                        # every valid frame is at one position
    with np.errstate(all="ignore"):
        r = (z - m) * np.exp(-s)                                                    # (6)
        mle = (s.sum() + np.square(r).sum() / 2 - log_det.sum()) / N + LOG_2_PI / 2         # (7)

    def pullback(mle_bar):
        z_bar = mle_bar * r * np.exp(-s) / N                                        # (11)
        s_bar = np.where(valid, mle_bar * (1 - r * r) / N, z.dtype.type(0))         # (12)
        log_det_bar = np.full_like(log_det, -mle_bar / N)                           # (12)
        return z_bar, log_det_bar, gathered(-z_bar, path), gathered(s_bar, path)

    return mle, pullback


def duration_vjp(w, path, text_mask):
    """(duration, pullback); `pullback(duration_bar)` -> w_bar."""
    y = np.log(w.dtype.type(LEAST) + durations(path).astype(w.dtype))               # (8)
    apart, I = np.where(text_mask, w - y, w.dtype.type(0)), int(text_mask.sum())
    return np.square(apart).sum() / I, lambda duration_bar: 2 * duration_bar * apart / I    # (9) (14)


# -- building ---------------------------------------------------------------------------------------------------------

def glow_tts(rng: np.random.Generator, symbols: int = 148, mels: int = 80, channels: int = 192, *, filters: int = 768,
             duration_filters: int = 256, heads: int = 2, layers: int = 6, kernel: int = 3, window: int | None = 4,
             block_length: int | None = None, has_prenet: bool = True, mean_only: bool = True, blocks: int = 12,
             hidden: int = 192, wave_layers: int = 4, wave_kernel: int = 5, dilation_rate: int = 1, sigmoid_scale: bool = False,
             split: int = 4, factor: int = 2, speakers: int = 0, speaker_channels: int = 0,
             rates: Sequence[float] = (0.1, 0.5, 0.05), dtype: DTypeLike = np.float64) -> GlowTTS:
    """A Glow-TTS model; the defaults are the authors' run on LJ Speech, with 28.6 million parameters.

    The text side: `symbols`, `channels`, `filters` of feed-forward networks, `heads`, `layers`, `kernel`, `window` of relative
    positions and `block_length`, None for none, `has_prenet`, `mean_only`: q = 0, `duration_filters`.  The decoder: `mels`,
    `blocks`, `hidden`, `wave_layers`, `wave_kernel` and `dilation_rate` of wave nets, `sigmoid_scale`, `split`: channels in a
    group of (3), `factor`: n.  `speakers` and `speaker_channels`: how many, 0 for one voice, and the size of `g`.  `rates` of
    dropout: `GlowTTS`.  Weights are drawn from the Generator `rng`.  ValueError for sizes that do not fit.
    """
    if (speakers > 0) != (speaker_channels > 0):
        raise ValueError(f"glow_tts: speakers and speaker_channels must both be 0, or neither, not {speakers} and "
                         f"{speaker_channels}")
    text = text_encoder(rng, symbols, channels, filters, heads, layers, kernel, window, block_length, has_prenet, dtype)
    mean = projection(rng, channels, mels, dtype)
    log_scale = () if mean_only else (projection(rng, channels, mels, dtype),)
    predictor = duration_network(rng, channels, duration_filters, kernel, context=speaker_channels, dtype=dtype)
    voices = (Embedding(uniform(rng, (speakers, speaker_channels), 0.1, dtype)),) if speakers else ()         # (1) (19)
    decoder = decoder_of(rng, mels, blocks, hidden, wave_layers, wave_kernel, dilation_rate, sigmoid_scale, split, factor,
                         speaker_channels, dtype)
    return GlowTTS(text, mean, log_scale, predictor, voices, decoder, rates)


def decoder_of(rng, mels=80, blocks=12, hidden=192, layers=4, kernel=5, dilation_rate=1, sigmoid_scale=False, split=4, factor=2,
               speaker_channels=0, dtype=np.float64):
    """The decoder: a bijector from latents (mels, J) to a mel (mels, J), with the arguments of `glow_tts`."""
    C = mels * factor
    Drawn("glow_tts", rng, dtype).counts(mels=mels, blocks=blocks, factor=factor, split=split)
    if split % 2 or C % split:
        raise ValueError(f"glow_tts: split must be even and divide mels * factor = {C}, not {split}")
    family = affine_family(SigmoidScale(offset=2.0, floor=1e-6) if sigmoid_scale else ExpScale(), ("shift", "scale"))
    stages = []
    for _ in range(blocks):
        net = wave_net_coupling_network(rng, C // 2, hidden, C, layers, kernel, dilation_rate, speaker_channels, dtype)
        stages += [Pointwise(GlowTTSActNorm(np.zeros(C, dtype)), 2),                # (2)
                   Pointwise(GroupedLinear(rotation(rng, split, dtype)), 2),        # (3)
                   Coupling(masks.channels(masks.halves(C), 2), net, family)]       # (4)
    return Inverse(Squeezed(Chain(stages), factor))


def rotation(rng, size, dtype):
    Q = np.linalg.qr(rng.standard_normal((size, size)))[0]                          # (19)
    Q[:, 0] *= np.sign(np.linalg.det(Q))
    return Q.astype(dtype)
