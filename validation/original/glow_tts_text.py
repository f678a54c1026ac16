"""The text side of Glow-TTS, compared with its authors' numbers: one attention, or the whole text encoder.

Their matrices of queries, keys and values are one matrix of ours; they are compared under the name of the first, with its `q`
replaced by `qkv`.

Their attention also computes what an invalid query reads, which their encoder sets to 0 later: it attends to all positions
alike.  Here that is an attention without a mask whose queries and keys are 0.
"""

from __future__ import annotations

import numpy as np

from refflow.maps.conditioners import Dense, SignalContext, duration_network, with_dropout
from refflow.models.glow_tts_text import attention, projection, text_encoder, text_vjp

from .comparison import PRACTICE, answered, gradients, judged, nudged, numbers, pair
from .glow_tts_networks import (by_their_names, check_lengths, convolution, filled, layer, norm, of_duration, of_prenet,
                                recorded_keeps, valid)

FILES = tuple(sorted(path.stem for kind in ("attention", "text_encoder") for path in PRACTICE.glob(f"glowtts_{kind}*.npz")))


# -- names ------------------------------------------------------------------------------------------------------------

def below(prefix, path, names):
    """The names of a part of a network, from the names of the part alone."""
    return {f"{prefix}{name}": (*path, *tail) for name, tail in names.items()}


def of_attention(window):
    relative = {} if window is None else {f"emb_rel_{kind}": (*layer((), 1), f"E_{kind}") for kind in "kv"}
    return convolution("conv_qkv", layer((), 0)) | relative | convolution("conv_o", layer((), 2))


def of_feed_forward():
    return convolution("conv_1", layer((), 0)) | convolution("conv_2", layer((), 3))


def of_encoder(config):
    found = {"emb.weight": (*layer((), 0), "E")} | (below("pre.", layer((), 1), of_prenet(3)) if config["prenet"] else {})
    for i in range(config["n_layers"]):
        first = 1 + bool(config["prenet"]) + 4 * i
        found |= below(f"encoder.attn_layers.{i}.", (*layer((), first), "inner"), of_attention(config["window_size"]))
        found |= norm(f"encoder.norm_layers_1.{i}.", layer((), first + 1))
        found |= below(f"encoder.ffn_layers.{i}.", (*layer((), first + 2), "inner"), of_feed_forward())
        found |= norm(f"encoder.norm_layers_2.{i}.", layer((), first + 3))
    return found


def stacked(theirs):
    """Their arrays, with one array for queries, keys and values."""
    found = dict(theirs)
    for name in [name for name in theirs if "conv_q." in name]:
        parts = [found.pop(name.replace("conv_q.", f"conv_{kind}.")) for kind in "qkv"]
        found[name.replace("conv_q.", "conv_qkv.")] = np.concatenate(parts)
    return found


# -- files ------------------------------------------------------------------------------------------------------------

def of_one_attention(config, theirs) -> dict:
    """{quantity: Pair} of one attention."""
    C, window, x = config["channels"], config["window_size"], theirs["in/x"]
    mask = valid(theirs["in/x_mask"])
    if "in/lengths" in theirs:
        check_lengths(mask, theirs["in/lengths"])
    if "in/attn_mask" in theirs and not np.array_equal(valid(theirs["in/attn_mask"]), mask[:, :, None] & mask[:, None]):
        raise ValueError("their mask of pairs is not that of their positions")
    names, given = of_attention(window), stacked(answered("param/", theirs))
    net = attention(np.random.default_rng(0), C, len(given["conv_o.weight"]), config["n_heads"], window,
                    config.get("block_length"))
    to_heads, heads, to_output = filled(net, names, given).layers
    a, to_heads_pullback = to_heads.vjp(x)
    seeing, blind = heads.at(mask=mask), heads.replace(block_length=None)
    h, seeing_pullback = seeing.vjp(a)
    of_values = np.arange(3 * C)[:, None] >= 2 * C
    h_blind, blind_pullback = blind.vjp(np.where(of_values, a, 0))
    y, to_output_pullback = to_output.vjp(np.where(mask[:, None], h, h_blind))

    h_bar, of_output = to_output_pullback(theirs["in/cotangent"])
    a_bar, of_heads = seeing_pullback(h_bar)
    a_bar_blind, of_blind = blind_pullback(np.where(mask[:, None], 0, h_bar))
    if window is not None:
        of_heads = of_heads | {"E_v": of_heads["E_v"] + of_blind["E_v"]}
    x_bar, of_input = to_heads_pullback(a_bar + np.where(of_values, a_bar_blind, 0))
    bars = {"layers": {"0": of_input, "1": of_heads, "2": of_output}}
    P = np.where(mask[:, None, :, None], seeing.attention(*seeing.of_heads(a, 3)[:2]), 1 / x.shape[-1])
    grad = stacked(answered("grad/", theirs))
    return {"output": pair(y, theirs["out/y"]), "weights of keys": pair(P, theirs["out/attn"]),
            "gradients of parameters": gradients(by_their_names(bars, names, grad), grad),
            "gradient of input": pair(x_bar, theirs["gradin/x"])}


def text_encoders(config, theirs) -> dict:
    """{quantity: Pair} of a whole text encoder."""
    rng, C, kernel = np.random.default_rng(0), config["hidden_channels"], config["kernel_size"]
    encoder = text_encoder(rng, config["n_vocab"], C, config["filter_channels"], config["n_heads"], config["n_layers"], kernel,
                           config["window_size"], config.get("block_length"), config["prenet"])
    durations = duration_network(rng, C + config["gin_channels"], config["filter_channels_dp"], kernel)
    mean, log_scale = (projection(rng, C, config["out_channels"]) for _ in range(2))
    nets = {"encoder": (encoder, of_encoder(config)), "mean": (mean, convolution("proj_m", ())),
            "log_scale": (log_scale, convolution("proj_s", ())), "durations": (durations, below("proj_w.", (), of_duration()))}
    if config["mean_only"]:
        del nets["log_scale"]
    given, grad = (stacked(answered(prefix, theirs)) for prefix in ("param/", "grad/"))
    if given.keys() != {name for _, names in nets.values() for name in names}:
        raise ValueError("a parameter of theirs has no counterpart")
    tokens, speakers = theirs["in/x"], config["gin_channels"]
    mask = np.arange(tokens.shape[-1]) < theirs["in/lengths"][:, None]
    built = {key: filled(net, names, {name: given[name] for name in names}).at(mask=mask) for key, (net, names) in nets.items()}
    keeps = recorded_keeps(theirs)
    if keeps:
        rates = [0.5] * 3 * bool(config["prenet"]) + [config["p_dropout"]] * 4 * config["n_layers"]
        built["encoder"] = with_dropout(built["encoder"], keeps[:len(rates)], rates)
        built["durations"] = with_dropout(built["durations"], keeps[len(rates):], config["p_dropout"])
    if speakers:                        # theirs are of length 1 already
        whole = SignalContext(Dense(np.eye(speakers)), built["durations"])
        built["durations"] = whole.at(context=theirs["in/g"][..., 0], mask=mask)
    (mu, q, w), pullback = text_vjp(**({"log_scale": None} | built), tokens=tokens)
    bars = pullback(*(theirs[f"in/ct_{name}"] for name in ("m", "logs", "logw")))
    if speakers:
        speaker_bar, bars["durations"] = bars["durations"]["context"], bars["durations"]["inner"]
    ours = {name: bar for key, (_, names) in nets.items() for name, bar in by_their_names(bars[key], names, grad).items()}
    found = {"means": pair(mu, theirs["out/x_m"]), "log-scales": pair(q, theirs["out/x_logs"]),
             "log-durations": pair(w, theirs["out/logw"]), "mask": pair(mask[:, None] * 1.0, theirs["out/x_mask"]),
             "gradients of parameters": gradients(ours, grad)}
    return found | ({"gradient of speaker": pair(speaker_bar[..., None], theirs["gradin/g"])} if speakers else {})


READERS = {"attentions.MultiHeadAttention": of_one_attention, "models.TextEncoder": text_encoders}


def read(name) -> tuple:
    """({quantity: Difference}, keys that are not compared) of a file, a path or a name."""
    config, theirs = numbers(name)
    compared = READERS[config["cls"]]
    found = judged(compared(config, theirs), lambda rng: compared(config, nudged(theirs, rng)))
    return found, theirs.unanswered()


def differences() -> dict:
    """{file: {quantity: Difference}} for the files in validation/practice/."""
    return {name: read(name)[0] for name in FILES}
