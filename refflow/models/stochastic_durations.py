r"""The stochastic duration predictor of VITS (Kim, Kong & Son, arXiv:2106.06103), as in the authors' code.

A text of `I` positions has an encoding `x` of `C` channels, and position `i` lasts `d_i` frames, a whole number.  The model is a
distribution of `d` given `x` and, with several speakers, given a vector `g` of the speaker:
    h = text(x, e(g))   with e(g) = 0 for one speaker,   k = durations(d)           (1)
where `text` and `durations` are networks of dilated depthwise convolutions; `text` adds `e(g)` after its first layer.

A whole number becomes a real one by dequantisation, which subtracts `0 < u < 1`, and gets a second channel `v`, so that
couplings have something to read.  Both are drawn by the posterior flow `f_q`, which reads `h + k`, from normal noise `e`:
    (a, v) = f_q(e; h + k),   u = sigma(a)                                          (2)
    w = log(d - u)                                                                  (3)
The prior flow `f_p`, which reads `h`, maps normal latents `z` to `w` and `v`:
    (w, v) = f_p(z; h)                                                              (4)
Both flows are an affine map for each channel, then couplings by rational-quadratic splines with the channels exchanged after
each: from `e` to `(a, v)` for `f_q`, from `(w, v)` to `z` for `f_p`.  With sums over the positions of the text, `l_q` for
log|det d(a, v)/de|, `l_p` for log|det dz/d(w, v)| and `pi` for the density of the standard normal,
    log q = sum log pi(e) - l_q - sum log|du/da|                                    (5)
    log p = sum log pi(z) + l_p + sum log|dw/du|                                    (6)
    log P(d) >= E bound,   bound = log p - log q = sum (e^2 - z^2)/2 + l_q + l_p + sum log|dw/da|       (7)
The authors' loss is `-sum bound/N`, where `N` is the number of all positions of a batch.

(3) and its log-slope never subtract `u` from 1.  With `s = 1 - u = sigma(-a)` and softplus `S(a) = log(1 + exp a)`,
    w = -S(a)                      for d = 1                                        (8)
    w = log(1 + (d - 2 + s))       for d > 1                                        (9)
    log|dw/da| = log(u s/(d - u)) = -S(-a)                  for d = 1               (10)
    log|dw/da| = -|a| - 2 S(-|a|) - w                       for d > 1               (11)
    dw/da = -u r,   r = s/(d - 1 + s),   1 for d = 1                                (12)
    d log|dw/da|/da = s - u + u r = s for d = 1,   -tanh(a/2) + u r for d > 1       (13)
The authors' code takes log(max(d - u, 1e-5)); this is (3) unless `d = 1` and `a > 11.5`, where theirs has no inverse.

Reverse rule, with `b` for the cotangent of a bound:
    z_bar = -b z,   l_p_bar = l_q_bar = b                                           (14)
    (w_bar, v_bar), h_bar = f_p^-1*(z_bar, b)                                       (15)
    a_bar = w_bar dw/da + b d log|dw/da|/da                                         (16)
    k_bar = the cotangent of h + k in f_q*((a_bar, v_bar), b),   h_bar <- h_bar + k_bar     (17)
and then the pullbacks of `text` and `durations`.  The authors let no gradient flow into `x` and `g`: with `detached` it is 0.

Samples, with `tau` = noise_scale and `lambda` = length_scale:
    (w, v) = f_p(tau e; h),   d = ceil(lambda exp w)                                (18)
The first coupling of `f_p` changes `v` alone, which no sample depends on; `skips_first` leaves it out.  If channels are
exchanged before it, as in transformers (`exchanged_first`), that exchange is left out too: then the samples do not have the
density of (6).                                                                     (19)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..core import Bijector, Chain, Conditioner, Inverse, Value, child, children, plain, tree
from ..core.arrays import as_floating, at_index, masked
from ..core.rules import FLAG
from ..core.values import declare
from ..maps.conditioners import Dense, separable_network
from ..maps.conditioners.speech_networks import Drawn
from ..maps.coupling import Coupling, Family, masks
from ..maps.linear import Permutation, Pointwise
from ..maps.normalization import GlowTTSActNorm
from ..maps.parametrisations import SPLINES
from ..maps.splines import RationalQuadraticSpline
from .glow_tts import working
from .glow_tts_batch import LONGEST, checked_lengths


class Inputs(NamedTuple):
    """Checked: x (B, C, I), the mask of positions (B, I), noise (B, 2, I), g (B, G) or None; 0 at invalid positions."""

    x: np.ndarray
    mask: np.ndarray
    noise: np.ndarray
    g: np.ndarray


@declare
class StochasticDurations(Value):
    """A distribution of the durations of a text's positions; `stochastic_durations` builds one.

    `text`, `durations`: the networks of (1), from (C, I) and (1, I) to (H, I); `speaker`: none, or e, a conditioner of vectors;
    `posterior`: f_q, from (2, I) to (2, I); `prior`: f_p, `Inverse(Chain(...))`; `detached`: no gradient flows into x and g.
    """

    text: Conditioner = child()
    durations: Conditioner = child()
    speaker: tuple = children()
    posterior: Bijector = child()
    prior: Bijector = child()
    detached: bool = plain(True, FLAG)

    def _validate(self):
        if not isinstance(self.prior, Inverse) or not isinstance(self.prior.inner, Chain):
            raise ValueError(f"StochasticDurations: prior must be Inverse(Chain(...)), not {self.prior!r}")
        if not any(isinstance(stage, Coupling) for stage in self.prior.inner.stages):
            raise ValueError("StochasticDurations: prior must have a stage that is a Coupling")
        if len(self.speaker) > 1:
            raise ValueError(f"StochasticDurations: speaker must hold at most one conditioner, not {len(self.speaker)}")
        super()._validate()

    # -- what users call ---------------------------------------------------------------------------------------------

    def bound_vjp(self, x, lengths, d, noise, g=None):
        """(bound, pullback): (7) for each of B texts, for drawn noise e.

        `x` (B, C, I); its first `lengths` (B,) positions are valid; `d` (B, I), whole numbers >= 1; `noise` (B, 2, I);
        `g` (B, G), if there are speakers.  `pullback(bound_bar)` -> (x_bar, g_bar, params_bar): g_bar is None without speakers,
        params_bar has the keys and shapes of `params()`.  ValueError, with index and value, for what does not fit.
        """
        given = self.checked_arguments("bound_vjp", x, lengths, noise, g)
        d, e, mask = checked_durations(d, given), given.noise, given.mask
        model = self.at_mask(given)
        h, text_pullback = model.text_vjp(given.x, given.g)                         # (1)
        with np.errstate(all="ignore"):
            k, durations_pullback = model.durations.vjp(masked(d[:, None], mask))   # (1)
            (y, l_q), posterior_pullback = tree.replaced(model.posterior, {}, h + k).vjp(e)         # (2)
            (w, l_w), log_rest_pullback = log_rest_vjp(y[:, 0], d)                  # (3)
            data = masked(np.stack((w, y[:, 1]), 1), mask)
            (z, l_p), prior_pullback = tree.replaced(model.prior, {}, h).inverse_vjp(data)          # (4)
            bound = ((e * e - z * z) / 2).sum((1, 2)) + l_q + l_p + np.where(mask, l_w, 0).sum(-1)      # (5) (6) (7)

        @np.errstate(all="ignore")
        def pullback(bound_bar):
            b = np.broadcast_to(np.asarray(bound_bar, bound.dtype), bound.shape)
            data_bar, prior_bar = prior_pullback(-b[:, None, None] * z, b)          # (14) (15)
            a_bar = log_rest_pullback(data_bar[:, 0], b[:, None])                   # (16)
            y_bar = masked(np.stack((a_bar, data_bar[:, 1]), 1), mask)
            _, posterior_bar = posterior_pullback(y_bar, b)                         # (17)
            k_bar = posterior_bar.pop("context")                                    # (17)
            x_bar, g_bar, bars = text_pullback(prior_bar.pop("context") + k_bar)    # (17)
            bars |= {"durations": durations_pullback(k_bar)[1], "posterior": posterior_bar, "prior": prior_bar}
            return x_bar, g_bar, {key: bars[key] for key in self.params()}

        return bound, pullback

    def sample(self, x, lengths, noise, noise_scale=1.0, length_scale=1.0, g=None, skips_first=True):
        """(w, d) of (18), each (B, I), 0 at invalid positions; arguments as in `bound_vjp`."""
        given = self.checked_arguments("sample", x, lengths, noise, g)
        for key, value in (("noise_scale", noise_scale), ("length_scale", length_scale)):
            if not 0 <= value < np.inf:
                raise ValueError(f"StochasticDurations.sample: {key} must be finite and >= 0, not {value!r}")
        model = self.at_mask(given)
        h, _ = model.text_vjp(given.x, given.g)
        prior = tree.replaced(model.without_first() if skips_first else model.prior, {}, h)
        with np.errstate(all="ignore"):
            w = prior.forward(h.dtype.type(noise_scale) * given.noise)[:, 0]        # (18)
            d = np.where(given.mask, np.ceil(length_scale * np.exp(w)), 0)          # (18)
        return w, d

    # -- its parts, on copies without checks -------------------------------------------------------------------------

    def at_mask(self, given):
        """A copy without checks, in the dtype of the inputs, with masks filled in."""
        dtype, mask = given.x.dtype, given.mask
        parts = {key: working(getattr(self, key), dtype, mask) for key in ("text", "durations", "posterior", "prior")}
        return tree.copied(self, checked=False, dtype=dtype, speaker=tuple(e.unchecked(dtype) for e in self.speaker), **parts)

    def text_vjp(self, x, g):
        """(h, pullback) of (1); `pullback(h_bar)` -> (x_bar, g_bar, {"text": ..., "speaker": ...})."""
        text = self.text
        if self.speaker:
            e, speaker_pullback = self.speaker[0].vjp(g)
            text = tree.replaced(text, {}, np.broadcast_to(e[..., None], (*e.shape, x.shape[-1])))
        with np.errstate(all="ignore"):
            h, text_pullback = text.vjp(x)

        def pullback(h_bar):
            x_bar, text_bar = text_pullback(h_bar)
            g_bar, bars = None, {"text": text_bar, "speaker": {}}
            if self.speaker:
                g_bar, speaker_bar = speaker_pullback(text_bar.pop("context").sum(-1))
                bars["speaker"] = {"0": speaker_bar}
            if self.detached:
                x_bar, g_bar = np.zeros_like(x_bar), g_bar if g_bar is None else np.zeros_like(g_bar)
            return x_bar, g_bar, bars

        return h, pullback

    def without_first(self):
        """The prior without its first coupling, and without an exchange of channels before it."""
        stages = self.prior.inner.stages
        first = next(i for i, stage in enumerate(stages) if isinstance(stage, Coupling))
        return tree.copied(self.prior, inner=tree.copied(self.prior.inner, stages=stages[:1] + stages[first + 1:]))     # (19)

    # -- what users give ---------------------------------------------------------------------------------------------

    def checked_arguments(self, name, x, lengths, noise, g):
        name = f"StochasticDurations.{name}"
        x = floating(name, "x", x, 3)
        B, _, I = x.shape
        mask = np.arange(I) < checked_lengths(f"{name}: lengths", lengths, (B, I))[:, None]
        noise = floating(name, "noise", noise, 3)
        if noise.shape != (B, 2, I):
            raise ValueError(f"{name}: noise must be ({B}, 2, {I}), not of shape {noise.shape}")
        if (g is None) == bool(self.speaker):
            raise ValueError(f"{name}: g must {'' if self.speaker else 'not '}be given, because there are "
                             f"{'several speakers' if self.speaker else 'no speakers'}")
        given = {"x": masked(x, mask), "noise": masked(noise, mask)}
        if g is not None:
            given["g"] = floating(name, "g", g, 2)
            if len(given["g"]) != B:
                raise ValueError(f"{name}: g must be ({B}, G), not of shape {given['g'].shape}")
        dtype = np.result_type(x, self.dtype or x)
        x, noise, *g = (finite(name, key, array).astype(dtype) for key, array in given.items())
        return Inputs(x, mask, noise, g[0] if g else None)


def floating(name, key, given, axes):
    array, _ = as_floating(f"{name}: {key}", given)
    if array.ndim != axes:
        raise ValueError(f"{name}: {key} must have {axes} axes, not shape {array.shape}")
    return array


def finite(name, key, array):
    wrong = np.argwhere(~np.isfinite(array))
    if wrong.size:
        index = tuple(int(i) for i in wrong[0])
        raise ValueError(f"{name}: {key} must be finite; {at_index(key, index)} = {array[index]}")
    return array


def checked_durations(d, given):
    """d in the dtype of the inputs, 1 at invalid positions."""
    name, d = "StochasticDurations.bound_vjp", np.asarray(d)
    if d.dtype.kind not in "iuf" or d.shape != given.mask.shape:
        raise ValueError(f"{name}: d must be {given.mask.shape} whole numbers, not {d.dtype} of shape {d.shape}")
    d = np.where(given.mask, d, 1)
    wrong = np.argwhere(~((d >= 1) & (d < LONGEST) & (d == np.floor(d))))
    if wrong.size:
        index = tuple(int(i) for i in wrong[0])
        raise ValueError(f"{name}: d must be whole numbers from 1 to {LONGEST - 1}; {at_index('d', index)} = {d[index]}")
    return d.astype(given.x.dtype)


# -- dequantisation ---------------------------------------------------------------------------------------------------

def softplus(a):
    return np.maximum(a, 0) + np.log1p(np.exp(-np.abs(a)))


def log_rest_vjp(a, d):
    """((w, log|dw/da|), pullback) of (3), for whole numbers d >= 1; `pullback(w_bar, log_slope_bar)` -> a_bar."""
    one, t = d == 1, np.exp(-np.abs(a))
    larger, smaller = 1 / (1 + t), t / (1 + t)
    u, s = np.where(a < 0, smaller, larger), np.where(a < 0, larger, smaller)
    w = np.where(one, -softplus(a), np.log1p(np.maximum(d - 2, 0) + s))             # (8) (9)
    log_slope = np.where(one, -softplus(-a), -np.abs(a) - 2 * np.log1p(t) - w)      # (10) (11)

    def pullback(w_bar, log_slope_bar):
        slope = -u * np.where(one, 1, s / (d - 1 + np.where(one, 1, s)))            # (12)
        bend = np.where(one, s, np.copysign(np.expm1(-np.abs(a)) / (1 + t), -a) - slope)     # (13)
        return w_bar * slope + log_slope_bar * bend                                 # (16)

    return (w, log_slope), pullback


# -- building ---------------------------------------------------------------------------------------------------------

def stochastic_durations(rng, channels=192, hidden=None, *, kernel=3, layers=3, couplings=4, bins=10, bound=5.0,
                         speaker_channels=0, exchanged_first=False, detached=True, dtype=np.float64) -> StochasticDurations:
    """A stochastic duration predictor; the defaults are the authors' run.

    `channels`: of x; `hidden`: of the networks, as many as x has if None; `kernel` and `layers` of each stack of depthwise
    convolutions; `couplings` of each flow; `bins` of the splines on [-bound, bound]; `speaker_channels`: of g, 0 for one
    speaker; `exchanged_first`: are channels exchanged after the affine map too, (19)?  `detached`: `StochasticDurations`.
    Weights are drawn from the Generator `rng`.
    """
    hidden = channels if hidden is None else hidden
    draw = Drawn("stochastic_durations", rng, dtype)
    draw.counts(channels=channels, hidden=hidden, couplings=couplings, bins=bins)
    text = separable_network(rng, channels, hidden, hidden, kernel, layers, speaker_channels > 0, dtype=dtype)      # (1)
    speaker = [Dense(*draw.weights(hidden, speaker_channels))] if speaker_channels else []      # (1)
    durations = separable_network(rng, 1, hidden, hidden, kernel, layers, dtype=dtype)          # (1)
    posterior, prior = (duration_flow(rng, hidden, kernel, layers, couplings, bins, bound, exchanged_first, dtype)
                        for _ in range(2))
    return StochasticDurations(text, durations, speaker, posterior, Inverse(prior), detached)   # (2) (4)


def duration_flow(rng, hidden, kernel=3, layers=3, couplings=4, bins=10, bound=5.0, exchanged_first=False, dtype=np.float64):
    """f_q of (2) or the inverse of f_p of (4), with the arguments of `stochastic_durations`."""
    exchange, family = Pointwise(Permutation([1, 0]), 2), Family(RationalQuadraticSpline, SPLINES["VITS"](bins, bound, hidden))
    stages = [Pointwise(GlowTTSActNorm(np.zeros(2, dtype), np.zeros(2, dtype)), 2)] + [exchange] * exchanged_first
    for _ in range(couplings):
        net = separable_network(rng, 1, hidden, family.size, kernel, layers, context=True, zero=True, dtype=dtype)
        stages += [Coupling(masks.channels(masks.halves(2), 2), net, family, "interleaved"), exchange]
    return Chain(stages)
