"""Glow-TTS, compared with its authors' numbers: a whole model, its decoder, its alignments, and by `glow_tts_maps`,
`glow_tts_networks` and `glow_tts_text` every part of it.

Their signals are (B, C, T), their masks (B, 1, T) of 0 and 1.  A file says what it holds by the name of their class or
function.
"""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np

from refflow.core import tree
from refflow.core.tree import flatten, nest
from refflow.models.alignment import best_path
from refflow.models.glow_tts import Keeps, decoder_of, glow_tts
from refflow.training import Adam, ClipValue, Noam

from . import glow_tts_maps, glow_tts_networks, glow_tts_text
from .comparison import PRACTICE, Pair, answered, gradients, judged, nudged, numbers, pair, under
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

def model_of(config, theirs):
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
    return filled(model, of_model(config), stacked(answered("param/", theirs)))


def keeps_of(model, masks):
    """Recorded masks, in the order in which theirs are drawn, or None."""
    if not masks:
        return None
    text = len(model.encoder_rates())
    return Keeps(masks[:text], masks[text:text + 2], masks[text + 2:])


def generator(config, theirs) -> dict:
    """{quantity: Pair} of a whole model: losses and every gradient, synthesis, steps of training."""
    model = model_of(config, theirs)
    speakers = theirs["in/g"].reshape(-1).astype(int) if model.speakers else None
    batch = theirs["in/x"], theirs["in/x_lengths"], theirs["in/y"], theirs["in/y_lengths"], speakers
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
        found["initialisation"] = Pair(first, {name: theirs[f"ddi/{name}"] for name in first})
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
    names, vector, found = of_model(config), model.ravel(), {}
    rule = Adam(config.get("lr", 1.0), *config.get("betas", BETAS), config.get("eps", EPS))
    clip, schedule = ClipValue(config.get("clip", CLIP)), Noam(config["hidden_channels"], config.get("warmup_steps", WARM_UP))
    state = rule.start(vector)
    for t, prefix in enumerate(prefixes, 1):
        _, bars = model.unravel(vector).loss_vjp(*batch, keeps)
        gradient = np.concatenate([bar.ravel() for _, bar in flatten(bars)])
        vector, state = rule.step(vector, clip(gradient), state, schedule(t))
        after = stacked(answered(prefix, theirs))
        params = nest(dict(flatten(model.unravel_params(vector))))
        found[f"parameters after step {t}"] = Pair(by_their_names(params, names, after), after)
    return found


# -- alignments -------------------------------------------------------------------------------------------------------

def alignments(config, theirs) -> dict:
    """{quantity: Pair} of their alignments: compiled in float32, in NumPy in float64, and the scores of the best paths."""
    found = {}
    for case in sorted({key.split("/")[0] for key in theirs}):
        given = answered(f"{case}/", theirs)
        texts, frames, scores = given["x_lengths"], given["y_lengths"], given["value"] * given["mask"]
        compiled = best_path(scores.astype(np.float32), texts, frames)
        found |= {f"{case}: compiled": pair(compiled, given["path_cython"]),
                  f"{case}: in NumPy": pair(best_path(scores, texts, frames), given["path_numpy"]),
                  f"{case}: score": pair((given["value"] * compiled).sum((1, 2)), given["score"])}
    return found


# -- files ------------------------------------------------------------------------------------------------------------

READERS = {"models.FlowGenerator": generator, "models.FlowSpecDecoder": decoder, "monotonic_align.maximum_path": alignments,
           **glow_tts_maps.READERS, **glow_tts_networks.KINDS, **glow_tts_text.READERS}


def reader(config):
    """The function that compares what a file holds."""
    kind = config.get("cls", config.get("fn", ""))
    found = [read for name, read in READERS.items() if kind.startswith(name)]
    if not found:
        raise ValueError(f"what it holds, {kind!r}, is not a part of Glow-TTS that is compared")
    return found[0]


def read(name):
    """({quantity: Difference} of a file, its keys that were not compared)."""
    config, theirs = numbers(name)
    compared = reader(config)
    found = judged(compared(config, theirs), lambda rng: compared(config, nudged(theirs, rng)))
    return found, theirs.unanswered()
