"""Glow-TTS, compared with its authors' numbers: a whole model, its decoder, its alignments, and by `glow_tts_maps`,
`glow_tts_networks` and `glow_tts_text` every part of it.

Their signals are (B, C, T), their masks (B, 1, T) of 0 and 1.  A file says what it holds by the name of their class or
function.
"""

from __future__ import annotations

import itertools
import re
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from refflow.core import tree
from refflow.core.tree import flatten, nest
from refflow.models.alignment import best_path
from refflow.models.glow_tts import Keeps, decoder_of, glow_tts
from refflow.training import Adam, ClipValue, Noam

from . import glow_tts_maps, glow_tts_networks, glow_tts_text
from .comparison import ALLOWED, PRACTICE, ZERO, Lacking, Pair, answered, gradients, kind_of, numbers, pair, read_as, under
from .glow_tts_networks import convolution, filled, of_coupling, of_duration, of_unit_vectors, recorded_keeps, valid
from .glow_tts_text import below, of_encoder, stacked

FILES = tuple(sorted(path.stem for path in PRACTICE.glob("glowtts_*.npz")))
PREFIX = "glowtts"                              # of the names of files
BETAS, EPS, CLIP, WARM_UP = (0.9, 0.98), 1e-9, 5.0, 4000      # of the authors' training


# -- names ------------------------------------------------------------------------------------------------------------

def of_decoder(blocks, layers, speakers, prefix="", path=("inner", "stages")):
    found = {}
    for k in range(0, 3 * blocks, 3):
        found |= {f"{prefix}flows.{k}.{name}": (*path, str(k), "inner", name) for name in ("logs", "bias")}
        found[f"{prefix}flows.{k + 1}.weight"] = (*path, str(k + 1), "inner", "W")
        found |= of_coupling(layers, (*path, str(k + 2), "net"), f"{prefix}flows.{k + 2}.", speakers)
    return found


def of_model(config):
    encoder = config | {"n_layers": config.get("n_layers_enc", 6), "window_size": config.get("window_size"),
                        "prenet": config.get("prenet", False)}
    voices = config.get("n_speakers", 0) > 1
    predictor = ("durations", "inner") if voices else ("durations",)
    found = below("encoder.", ("encoder",), of_encoder(encoder)) | below("encoder.proj_w.", predictor, of_duration())
    found |= convolution("encoder.proj_m", ("mean",))
    if not config.get("mean_only", False):
        found |= convolution("encoder.proj_s", ("log_scale", "0"))
    if voices:
        found["emb_g.weight"] = ("speakers", "0", "E")
    return found | of_decoder(config.get("n_blocks_dec", 12), config.get("n_block_layers", 4), voices, "decoder.",
                              ("decoder", "inner", "inner", "stages"))


def by_their_names(nested, names, theirs):
    """Our arrays under their names, in their shapes."""
    return {name: tree.at_path(nested, path).reshape(theirs[name].shape) for name, path in names.items() if name in theirs}


# -- the decoder ------------------------------------------------------------------------------------------------------

def decoder(config, theirs) -> dict:
    """{quantity: Pair} of a decoder, whose loss has given means and log-scales."""
    speakers, n = config.get("gin_channels", 0), config.get("n_sqz", 2)
    f = decoder_of(np.random.default_rng(0), config["in_channels"], config["n_blocks"], config["hidden_channels"],
                   config["n_layers"], config["kernel_size"], config["dilation_rate"], config.get("sigmoid_scale", False),
                   config.get("n_split", 4), n, speakers).inner
    names, x, grad = of_decoder(config["n_blocks"], config["n_layers"], speakers > 0), theirs["in/x"], answered("grad/", theirs)
    f, T, keeps = filled(f, names, answered("param/", theirs)), x.shape[-1] // n * n, recorded_keeps(theirs)
    f = glow_tts_networks.with_dropout(f, keeps, glow_tts_networks.rate_of(config)) if keeps else f
    f = f.at(mask=valid(theirs["in/mask"])[:, :T])
    f = of_unit_vectors(f, speakers).at(context=theirs["in/g"][..., 0]) if speakers else f
    (z, log_det), pullback = f.vjp(x[..., :T])
    m, logs, count = theirs["in/m"][..., :T], theirs["in/logs"][..., :T], f.mask.sum() * x.shape[1]
    r = (z - m) * np.exp(-logs)
    mle = (logs.sum() + (r * r).sum() / 2 - log_det.sum()) / count + glow_tts_maps.HALF_LOG_2_PI
    x_bar, bars = pullback(r * np.exp(-logs) / count, np.full(log_det.shape, -1 / count))
    if f.mask.sum(-1).tolist() != (theirs["in/lengths"] // n * n).tolist():
        raise ValueError("their mask has other lengths")
    found = {"latents": pair(z, theirs["out/z"]), "log-det": pair(log_det, theirs["out/logdet"]),
             "loss": pair(mle, theirs["out/loss"]), "inverse": pair(f.inverse(z), theirs["out/reverse_of_z"]),
             "inverse of other latents": pair(f.inverse(theirs["in/z_for_reverse"][..., :T]),
                                              theirs["out/reverse_of_z_for_reverse"]),
             "gradients of parameters": gradients(by_their_names(bars, names, grad), grad),
             "gradient of data": pair(with_end(x_bar, x), theirs["gradin/x"])}
    if speakers:
        found["gradient of speaker"] = pair(bars["context"][..., None], theirs["gradin/g"])
    return found | first_normalisations(f, names, theirs, x[..., :T])


def first_normalisations(f, names, theirs, x):
    """The scales and shifts that their first step of training chooses from data, and what they give."""
    if not any(key.startswith("ddi/") for key in theirs):
        return {}
    x = theirs["ddi/x"][..., :x.shape[-1]] if "ddi/x" in theirs else x
    first = f.initialised(x, np.random.default_rng(0))
    z, log_det = first.forward_and_log_det(x)
    ours = by_their_names(first.params(), names, under("ddi/", theirs)) | {"z": z, "logdet": log_det}
    return {f"initialisation: {name}": pair(given, theirs[f"ddi/{name}"]) for name, given in ours.items()
            if f"ddi/{name}" in theirs}


def with_end(x_bar, x):
    """The cotangent of a signal whose end was cut off."""
    return np.pad(x_bar, ((0, 0), (0, 0), (0, x.shape[-1] - x_bar.shape[-1])))


# -- the model --------------------------------------------------------------------------------------------------------

def model_of(config, given):
    """Our model with their parameters."""
    of_text = config.get("hidden_channels_enc") or config["hidden_channels"]
    speakers = config.get("n_speakers", 0)
    model = glow_tts(
        np.random.default_rng(0), config["n_vocab"], config["out_channels"], of_text, filters=config["filter_channels"],
        duration_filters=config["filter_channels_dp"], heads=config.get("n_heads", 2), layers=config.get("n_layers_enc", 6),
        kernel=config.get("kernel_size", 3), window=config.get("window_size"), block_length=config.get("block_length"),
        has_prenet=config.get("prenet", False), mean_only=config.get("mean_only", False), blocks=config.get("n_blocks_dec", 12),
        hidden=config.get("hidden_channels_dec") or config["hidden_channels"], wave_layers=config.get("n_block_layers", 4),
        wave_kernel=config.get("kernel_size_dec", 5), dilation_rate=config.get("dilation_rate", 5),
        sigmoid_scale=config.get("sigmoid_scale", False), split=config.get("n_split", 4), factor=config.get("n_sqz", 1),
        speakers=speakers if speakers > 1 else 0, speaker_channels=config.get("gin_channels", 0) if speakers > 1 else 0,
        rates=(config.get("p_dropout", 0.0), 0.5, config.get("p_dropout_dec", 0.0)))
    return filled(model, of_model(config), stacked(given))


def batch_of(model, theirs):
    """(tokens, their lengths, mel, its lengths, the numbers of speakers or None)."""
    found = [theirs[f"in/{key}"] for key in ("x", "x_lengths", "y", "y_lengths")]
    if not model.speakers:
        return *found, None
    return *found, theirs["in/speaker" if "in/speaker" in theirs else "in/g"].reshape(-1).astype(int)


def keeps_of(model, masks):
    """Recorded masks, in the order in which theirs are drawn, or None."""
    if not masks:
        return None
    text = len(model.encoder_rates())
    return Keeps(masks[:text], masks[text:text + 2], masks[text + 2:])


def generator(config, theirs) -> dict:
    """{quantity: Pair} of a whole model: losses and every gradient, synthesis, steps of training."""
    model = model_of(config, answered("param/", theirs))
    batch = *_, speakers = batch_of(model, theirs)
    keeps = keeps_of(model, recorded_keeps(theirs))
    terms, pullback = model.terms_vjp(*batch, keeps)
    y_bar, bars = pullback(1.0, 1.0)
    names, grad = of_model(config), stacked(answered("grad/", theirs))
    found = losses(terms, theirs) | {"gradients of parameters": gradients(by_their_names(bars, names, grad), grad),
                                     "gradient of data": pair(y_bar, theirs["gradin/y"])}
    for key in sorted({key.split("/")[1] for key in theirs if key.startswith("gen/")}):
        found |= synthesis(model, key, batch[0], batch[1], speakers, theirs)
    if any(key.startswith("ddi/") for key in theirs):
        first = by_their_names(model.initialised(*batch).params(), names, under("ddi/", theirs))
        found["initialisation"] = standardised(first, {name: theirs[f"ddi/{name}"] for name in first})
    return found | steps(model, batch, keeps, config, theirs)


def losses(terms, theirs):
    d, path = terms.path.sum(-1), terms.path.astype(float)
    ours = {"latents": ("z", terms.z), "log-det": ("logdet", terms.log_det), "means": ("x_m", terms.mu),
            "log-scales": ("x_logs", terms.q), "log-durations": ("logw", terms.w[:, None]),
            "means of latents": ("z_m", terms.mu @ path), "log-scales of latents": ("z_logs", terms.q @ path),
            "alignment": ("attn", terms.path[:, None]), "frames": ("z_mask", terms.frame_mask[:, None]),
            "positions": ("x_mask", terms.text_mask[:, None]),
            "target of durations": ("logw_target", np.where(terms.text_mask, np.log(1e-8 + d), 0)[:, None]),
            "likelihood loss": ("l_mle", terms.losses.mle), "duration loss": ("l_length", terms.losses.duration),
            "loss": ("loss", terms.losses.total)}
    return {name: pair(given, theirs[f"out/{key}"]) for name, (key, given) in ours.items() if theirs.has(f"out/{key}")}


def synthesis(model, key, tokens, lengths, speakers, theirs):
    """Synthesis with recorded noise; the key names the scales of noise and length, as in ns0.667_ls1.0."""
    noise_scale, length_scale = map(float, re.fullmatch(r"ns([\d.]+)_ls([\d.]+)", key).groups())
    recorded = SimpleNamespace(standard_normal=lambda shape: theirs[f"gen/{key}/noise"])
    speech = model.infer(tokens, lengths, recorded, noise_scale, length_scale, speakers)
    found = under(f"gen/{key}/", theirs)
    J, d = found["y"].shape[-1], speech.path.sum(-1)
    mask, w = np.arange(J) < speech.frame_lengths[:, None], theirs["out/logw"]
    ours = {"y": speech.mel, "z_m": speech.m, "z_logs": speech.s, "attn": speech.path[:, None], "z_mask": mask[:, None],
            "logw": w, "logw_": np.where(np.arange(d.shape[-1]) < lengths[:, None], np.log(1e-8 + d), 0)[:, None]}
    return {f"synthesis {key}: {name}": pair(given, theirs[f"gen/{key}/{name}"]) for name, given in ours.items()
            if name in found}


def steps(model, batch, keeps, config, theirs):
    """Parameters after the first steps of training on the same batch."""
    prefixes = [f"{word}/" for word in ("after_step", *(f"step{k}" for k in range(10)))
                if any(key.startswith(f"{word}/") for key in theirs)]
    found, names = {}, of_model(config)
    for t, (prefix, step) in enumerate(zip(prefixes, training(model, batch, keeps, config)), 1):
        found[f"parameters after step {t}"] = of_step(step, names, stacked(answered(prefix, theirs)))
    return found


class Step(NamedTuple):
    """The losses before a step, its learning rate, the gradient's length; parameters after it, nested; which of them had
    gradients of 0 in exact arithmetic up to now, 1 or 0, and how far rounding may have moved these; the magnitudes of what each
    parameter was added up from.
    """

    losses: tuple
    rate: float
    length: float
    params: dict
    still: dict
    moved: float
    terms: dict


def training(model, batch, keeps, config):
    """Each `Step` on the same batch.

    Rounding leaves at most ZERO of the largest gradient where a gradient is 0 in exact arithmetic; Adam divides it by eps.
    """
    vector, rule = model.ravel(), Adam(said(config, "lr"), *said(config, "betas"), said(config, "eps"))
    clip, schedule = ClipValue(said(config, "clip")), Noam(config["hidden_channels"], config.get("warmup_steps", WARM_UP))
    state, still, moved, terms = rule.start(vector), np.ones(vector.size), 0.0, np.abs(vector)
    for t in itertools.count(1):
        losses, bars = model.unravel(vector).loss_vjp(*batch, keeps)
        gradient = np.concatenate([bar.ravel() for _, bar in flatten(bars)])
        before, (vector, state) = vector, rule.step(vector, clip(gradient), state, schedule(t))
        terms = terms + np.abs(vector - before)
        rounding, rate = ZERO * np.abs(gradient).max(), rule.learning_rate * schedule(t)
        still, moved = still * (np.abs(gradient) <= rounding), moved + rate * rounding / rule.eps
        yield Step((losses.mle, losses.duration), rate, float(np.sqrt(gradient @ gradient)), model.unravel_params(vector),
                   model.unravel_params(still), moved, model.unravel_params(terms))


def of_step(step, names, after):
    """The parameters after a step; those that only rounding moves are measured by how far it may move them."""
    ours, still, terms = (by_their_names(nest(dict(flatten(nested))), names, after)
                          for nested in (step.params, step.still, step.terms))
    return Pair(ours, after, {name: where > 0.5 for name, where in still.items()}, step.moved / ALLOWED,
                "1e9 times the step that Adam makes of their rounding", terms=terms)


def standardised(ours, theirs):
    """Biases and scales chosen from data; a bias of 0 in exact arithmetic shifts signals whose deviation is 1."""
    zeros = {name: (np.abs(ours[name]) <= ZERO) & (np.abs(bias) <= ZERO) for name, bias in theirs.items()
             if name.endswith(".bias") and name in ours}
    return Pair(ours, theirs, zeros, 1.0, "the deviation of what they shift")


def said(config, key):
    """A setting of their training: in their configuration, in its description in words, or the authors'."""
    patterns = {"lr": r"\blr=([\d.e+-]+)", "betas": r"betas=\(([^)]*)\)", "eps": r"\beps=([\d.e+-]+)",
                "clip": r"clip_grad_value_\(([\d.]+)\)"}
    found = re.search(patterns[key], config.get("what", ""))
    if key in config or not found:
        return config.get(key, {"lr": 1.0, "betas": BETAS, "eps": EPS, "clip": CLIP}[key])
    numbers = [float(number) for number in found[1].split(",")]
    return numbers if key == "betas" else numbers[0]


def trainings(config, theirs) -> dict:
    """{quantity: Pair} of the first steps of their training: initialisation by data, losses, gradients' lengths, parameters."""
    before, names = model_of(config, answered("before/", theirs)), of_model(config)
    batch = batch_of(before, theirs)
    start, after = before.initialised(*batch), stacked(answered("after_ddi/", theirs))
    found = {"initialisation": standardised(by_their_names(start.params(), names, after), after)}
    made = list(itertools.islice(training(start, batch, None, config), len(theirs["out/losses"])))
    for k, step in enumerate(made):
        given = stacked(answered(f"step{k}/", theirs))
        if given:
            found[f"parameters after step {k}"] = of_step(step, names, given)
    for key, name, field in (("losses", "losses", "losses"), ("grad_norm_before_clip", "lengths of gradients", "length"),
                             ("lr", "learning rates", "rate")):
        if theirs.has(f"out/{key}"):
            found[name] = pair([getattr(step, field) for step in made], theirs[f"out/{key}"])
    for key in [key for key in theirs if key.startswith("noam/")]:
        of = re.fullmatch(r"noam/lr_(\d+)_(\d+)", key)
        if of:
            schedule = Noam(*map(int, of.groups()))
            found[f"schedule {key.removeprefix('noam/')}"] = pair(
                [said(config, "lr") * schedule(t) for t in range(1, 1 + len(theirs[key]))], theirs[key])
    return found


# -- alignments -------------------------------------------------------------------------------------------------------

def alignments(config, theirs) -> dict:
    """{quantity: Pair} of their alignments: compiled in float32, in NumPy in float64, and the scores of the best paths."""
    found, cases, differ = {}, sorted({key.split("/")[0] for key in theirs if key.endswith("/value")}), 0
    if not cases:
        raise Lacking("there is no alignment in it: no key ends in /value")
    for case in cases:
        given = theirs.below(f"{case}/")
        texts, frames, mask = given["x_lengths"], given["y_lengths"], given["mask"]
        scores = given["value"] * mask
        if not np.array_equal(mask, valid_pairs(texts, frames, mask.shape)):
            raise ValueError(f"the mask of case {case} has other lengths")
        compiled, in_numpy = best_path(scores.astype(np.float32), texts, frames), best_path(scores, texts, frames)
        differ += not np.array_equal(compiled, in_numpy)
        found |= {f"{case}: compiled": pair(compiled, given["path_cython"]),
                  f"{case}: in NumPy": pair(in_numpy, given["path_numpy"]),
                  f"{case}: score": pair((given["value"] * compiled).sum((1, 2)), given["score"])}
    for key, ours in (("n_cases", len(cases)), ("n_cython_numpy_differ", differ)):
        if key in theirs:
            found[key] = pair(ours, theirs[key])
    return found


def valid_pairs(texts, frames, shape):
    """(B, I, J): are position and frame valid?"""
    return (np.arange(shape[1]) < texts[:, None])[:, :, None] & (np.arange(shape[2]) < frames[:, None])[:, None]


# -- files ------------------------------------------------------------------------------------------------------------

READERS = {"models.FlowGenerator": generator, "models.FlowSpecDecoder": decoder, "monotonic_align.maximum_path": alignments,
           **glow_tts_maps.READERS, **glow_tts_networks.READERS, **glow_tts_text.READERS}
KINDS = {"the first steps of training": (lambda config, keys: any(key.startswith("after_ddi/") for key in keys), trainings)} | {
    name: (lambda config, keys, name=name: word_of(config).startswith(name), read) for name, read in READERS.items()}


def word_of(config):
    """The name of their class or function."""
    return config.get("cls", config.get("fn", ""))


def holds(config, keys):
    return kind_of(KINDS, config, keys) is not None


def reader(config):
    """The function that compares what a file holds."""
    found = kind_of(KINDS, config, ())
    if found is None:
        raise ValueError(f"what it holds, {word_of(config)!r}, is not a part of Glow-TTS that is compared")
    return found[1]


def read(name):
    """({quantity: Difference} of a file, its keys that were not compared)."""
    return read_as(KINDS, *numbers(name))
