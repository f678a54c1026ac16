"""VITS' stochastic duration predictor, compared with the numbers of two ports of it: piper and transformers.

Both have the authors' classes, with other names.  The loss of transformers exchanges the channels after the affine maps too,
`exchanged_first`; its samples are in the authors' order.
"""

from __future__ import annotations

import numpy as np

from refflow.core import tree
from refflow.models.stochastic_durations import stochastic_durations

from .comparison import PRACTICE, answered, gradients, numbers, pair, read_as
from .glow_tts_networks import filled

FILES = tuple(sorted(path.stem for path in PRACTICE.glob("vits_*.npz")))
LAYERS, COUPLINGS = 3, 4

# Their names of the parts of a network and of an affine map.
NAMES = {"piper": {"pre": "pre", "proj": "proj", "wide": "convs.convs_sep", "point": "convs.convs_1x1",
                   "first": "convs.norms_1", "second": "convs.norms_2", "gain": "gamma", "bias": "beta", "shift": "m",
                   "logs": "logs", "step": 2},
         "transformers": {"pre": "conv_pre", "proj": "conv_proj", "wide": "conv_dds.convs_dilated",
                          "point": "conv_dds.convs_pointwise", "first": "conv_dds.norms_1", "second": "conv_dds.norms_2",
                          "gain": "weight", "bias": "bias", "shift": "translate", "logs": "log_scale", "step": 1}}


def of_layer(theirs, path):
    return {f"{theirs}.weight": (*path, "W"), f"{theirs}.bias": (*path, "b")}


def of_network(names, path, context, prefix):
    """{their name: our path} of one network, whose names start with `prefix`."""
    def below(kind):
        return f"{prefix}{names[kind]}"

    found, first = of_layer(below("pre"), (*path, "layers", "0")), 1 + context
    for i in range(LAYERS):
        here = (*path, "layers", str(first + i), "inner", "layers")
        found |= of_layer(f"{below('wide')}.{i}", (*here, "0")) | of_layer(f"{below('point')}.{i}", (*here, "3"))
        for kind, place in (("first", "1"), ("second", "4")):
            norm = (*here, place, "layer")
            found |= {f"{below(kind)}.{i}.{names[key]}": (*norm, key) for key in ("gain", "bias")}
    return found | of_layer(below("proj"), (*path, "layers", str(first + LAYERS)))


def of_flow(names, path, prefix, stages):
    """The affine map and the couplings, which stand at these numbers among our stages."""
    found = {f"{prefix}0.{names[key]}": (*path, "0", "inner", ours) for key, ours in (("shift", "bias"), ("logs", "logs"))}
    for i, stage in enumerate(stages):
        found |= of_network(names, (*path, str(stage), "net"), True, f"{prefix}{1 + names['step'] * i}.")
    return found


def of_model(config, stages):
    names, speaker = NAMES[config["port"]], config["speaker"] > 0
    found = of_network(names, ("text",), speaker, "") | of_network(names, ("durations",), False, "post_")
    found |= of_layer("cond", ("speaker", "0")) if speaker else {}
    found |= of_flow(names, ("prior", "inner", "stages"), "flows.", stages)
    return found | of_flow(names, ("posterior", "stages"), "post_flows.", stages)


def predictor(config, theirs) -> dict:
    """{quantity: Pair} of a predictor."""
    exchanged = config["exchanged first"]
    model = stochastic_durations(np.random.default_rng(0), config["channels"], speaker_channels=config["speaker"],
                                 exchanged_first=exchanged, detached=False)
    names = of_model(config, range(1 + exchanged, 1 + exchanged + 2 * COUPLINGS, 2))
    model, grad = filled(model, names, answered("param/", theirs)), answered("grad/", theirs)
    x, d, noise, lengths = theirs["in/x"], theirs["in/d"], theirs["in/noise"], theirs["in/mask"].sum(-1)
    g = theirs["in/g"] if config["speaker"] else None
    bound, pullback = model.bound_vjp(x, lengths, d, noise, g)
    x_bar, g_bar, bars = pullback(-np.ones_like(bound))
    ours = {name: tree.at_path(bars, path).reshape(grad[name].shape) for name, path in names.items() if name in grad}
    found = {"loss": pair(-bound, theirs["out/loss"]), "gradient of text": pair(x_bar, theirs["gradin/x"]),
             "gradients of parameters": gradients(ours, grad)}
    if config["speaker"]:
        found["gradient of speaker"] = pair(g_bar, theirs["gradin/g"])
    for key, scale in config["scales"].items():
        found[key] = pair(model.sample(x, lengths, noise, scale, g=g)[0], theirs[f"out/{key}"])
    return found


def holds(config, keys):
    return "exchanged first" in config


KINDS = {"a stochastic duration predictor": (holds, predictor)}


def read(file):
    """({quantity: Difference}, keys that nothing reads)."""
    return read_as(KINDS, *numbers(file))
