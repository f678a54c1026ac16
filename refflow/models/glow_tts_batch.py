"""What comes with a batch of Glow-TTS: its arguments, checked, and masks of dropout."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..core import tree
from ..core.arrays import as_floating, at_index
from ..maps.conditioners import Dropout, RelativeAttention, Residual, Sequential, WaveNet

DROPPING = (Dropout, RelativeAttention)         # conditioners that drop entries
LONGEST = 2**31                                 # frames


class Batch(NamedTuple):
    """Checked arguments: padding cut to whole groups of frames, lengths as masks too."""

    tokens: np.ndarray
    texts: np.ndarray
    mel: np.ndarray
    frames: np.ndarray
    speakers: np.ndarray

    @property
    def text_mask(self):
        return np.arange(self.tokens.shape[-1]) < self.texts[:, None]

    @property
    def frame_mask(self):
        return np.arange(self.mel.shape[-1]) < self.frames[:, None]


def checked_batch(model, name, tokens, text_lengths, mel, frame_lengths, speakers) -> Batch:
    """The arguments of a batch, in one dtype, without incomplete groups of frames, 0 beyond the lengths."""
    name = f"GlowTTS.{name}"
    tokens = np.asarray(tokens)
    if tokens.ndim != 2 or tokens.dtype.kind not in "iu" or not tokens.size:
        raise ValueError(f"{name}: tokens must be (B, I) of whole numbers, not {tokens.dtype} of shape {tokens.shape}")
    texts = checked_lengths(f"{name}: text_lengths", text_lengths, tokens.shape)
    tokens = np.where(np.arange(tokens.shape[1]) < texts[:, None], tokens, 0)
    checked_numbers(f"{name}: tokens", tokens, model.encoder.layers[0].E.shape[-2])
    if model.speakers:
        speakers = np.zeros(0, int) if speakers is None else np.array(speakers)
        if speakers.shape != texts.shape or speakers.dtype.kind not in "iu":
            raise ValueError(f"{name}: speakers must be {len(texts)} whole numbers, not {speakers.dtype} of shape "
                             f"{speakers.shape}")
        checked_numbers(f"{name}: speakers", speakers, model.speakers[0].E.shape[-2])
    if mel is None:
        return Batch(tokens, texts, np.zeros((len(texts), 0, 0), model.dtype), texts * 0, speakers)
    mel, strong = as_floating(f"{name}: mel", mel)
    C, n = model.mean.output_shape(model.encoder.output_shape((1,)))[0], model.factor
    if mel.ndim != 3 or mel.shape[:2] != (len(texts), C):
        raise ValueError(f"{name}: mel must be ({len(texts)}, {C}, J), not of shape {mel.shape}")
    frames = checked_lengths(f"{name}: frame_lengths", frame_lengths, (len(mel), mel.shape[2])) // n * n
    short = np.flatnonzero(frames < texts)
    if short.size:
        raise ValueError(f"{name}: there must be at least as many frames, in groups of {n}, as positions; of item "
                         f"{short[0]} there are {frames[short[0]]} and {texts[short[0]]}")
    mel = mel[..., :mel.shape[-1] // n * n].astype(np.result_type(mel, model.dtype) if strong else model.dtype, copy=False)
    valid = np.arange(mel.shape[-1]) < frames[:, None]
    return Batch(tokens, texts, finite(name, np.where(valid[:, None], mel, mel.dtype.type(0))), frames, speakers)


def checked_lengths(name, given, shape):
    given = np.asarray(given)
    if given.shape != shape[:1] or given.dtype.kind not in "iu":
        raise ValueError(f"{name} must be {shape[0]} whole numbers, not {given.dtype} of shape {given.shape}")
    checked_numbers(name, given - 1, shape[1], 1)
    return given.astype(np.int64)


def checked_numbers(name, given, count, first=0):
    wrong = np.argwhere((given < 0) | (given >= count))
    if wrong.size:
        index = tuple(int(i) for i in wrong[0])
        raise ValueError(f"{name} must be in {first} .. {count - 1 + first}; {at_index(name.split(': ')[-1], index)} = "
                         f"{given[index] + first}")


def finite(name, mel):
    wrong = np.argwhere(~np.isfinite(mel))
    if wrong.size:
        index = tuple(int(i) for i in wrong[0])
        raise ValueError(f"{name}: mel must be finite; {at_index('mel', index)} = {mel[index]}")
    return mel


def checked_scales(**given):
    for key, value in given.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"GlowTTS.infer: {key} must be finite and >= 0, not {value!r}")
    return map(float, given.values())


def checked_durations(d):
    """Whole numbers (B, I) whose sums are numbers of frames."""
    long = np.flatnonzero(~(d.sum(-1) < LONGEST))
    if long.size:
        raise ValueError(f"GlowTTS.infer: a text must last fewer than 2^31 frames; item {long[0]} would last "
                         f"{d[long[0]].sum():g}")
    return d


def padded(mel_bar, mel):
    """The cotangent of a mel whose last, incomplete group of frames was not read."""
    short = np.shape(mel)[-1] - mel_bar.shape[-1]
    return np.pad(mel_bar, ((0, 0), (0, 0), (0, short))) if short else mel_bar


# -- dropout ----------------------------------------------------------------------------------------------------------

class Keeps(NamedTuple):
    """The masks of dropout of one step: one for each place of the encoder, the duration predictor and the decoder, in order."""

    encoder: list
    durations: list
    decoder: list


def checked_masks(key, kept, wanted):
    """Masks of the shapes of [(shape, rate)]."""
    given, shapes = [np.shape(mask) for mask in kept], [shape for shape, _ in wanted]
    if given != shapes:
        raise ValueError(f"GlowTTS.loss: keeps.{key} must be {len(shapes)} masks of shapes {shapes}, not {given}")
    return kept


def with_masks(net, keeps, rates):
    """A copy of a network, without checks, with a mask of dropout and a rate in each place."""
    places = [path for path, value in tree.walk(net) if isinstance(value, DROPPING)]
    given = {path: {"keep": keep, "rate": rate} for path, keep, rate in zip(places, keeps, rates)}
    return tree.mapped(net, lambda path, field, array, _: array, also=lambda value, path, _: given.get(path, {}))


def dropped_shapes(net, shape):
    """([the shape of an event where entries are dropped, for each place in order], the shape of the output)."""
    if isinstance(net, Dropout):
        return [shape], shape
    if isinstance(net, RelativeAttention):
        return [(net.heads, shape[1], shape[1])], net.output_shape(shape)
    found = []
    if isinstance(net, Sequential):
        for layer in net.layers:
            here, shape = dropped_shapes(layer, shape)
            found += here
        return found, shape
    for part in (net.inner,) if isinstance(net, Residual) else net.in_layers if isinstance(net, WaveNet) else ():
        found += dropped_shapes(part, shape)[0]
    return found, shape if net.event_ndim == (0, 0) else tuple(net.output_shape(shape))
