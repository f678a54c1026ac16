"""The sizes of models where none are given: in Python their authors', in `refflow fit` smaller ones, for a few hundred rows.

`DEFAULTS`: {model of `refflow fit`: (model in Python, {option: (argument in Python, what `refflow fit` takes)})}; the defaults in Python
are in the signatures of the models.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

WIDTHS = (64, 64)
DEFAULTS: dict[str, tuple[str, dict[str, tuple[str, Any]]]] = {
    "nice": ("nice", {"hidden": ("hidden", WIDTHS), "couplings": ("layers", 4)}),
    "realnvp": ("realnvp", {"hidden": ("hidden", WIDTHS), "couplings": ("couplings", 4)}),
    "maf": ("maf", {"hidden": ("hidden", WIDTHS), "layers": ("layers", 5)}),
    "iaf": ("iaf", {"hidden": ("hidden", WIDTHS), "layers": ("layers", 3)}),
    "nsf": ("nsf", {"hidden": ("hidden", WIDTHS), "couplings": ("steps", 4), "bins": ("bins", 8)}),
    "nsf-ar": ("autoregressive_nsf", {"hidden": ("hidden", WIDTHS), "layers": ("steps", 3), "bins": ("bins", 8)}),
    "circular-nsf": ("circular_nsf", {"hidden": ("hidden", WIDTHS), "couplings": ("couplings", 4), "bins": ("bins", 8)}),
    "naf": ("naf", {"hidden": ("hidden", WIDTHS), "layers": ("layers", 3), "components": ("components", 8), "dense": ("dense", 1)}),
    "bnaf": ("bnaf", {"hidden": ("units", (8,)), "layers": ("layers", 1)}),
    "sospf": ("sospf", {"hidden": ("hidden", WIDTHS), "layers": ("layers", 1), "components": ("components", 3)}),
    "bpf": ("bpf", {"hidden": ("hidden", WIDTHS), "layers": ("layers", 3)}),
    "umnn": ("umnn", {"hidden": ("hidden", WIDTHS), "layers": ("layers", 3), "components": ("components", 8)}),
    "flow++": ("flow_plus_plus", {"hidden": ("hidden", WIDTHS), "couplings": ("couplings", 4), "components": ("components", 8)}),
    "gaussianization": ("gaussianization_flow", {"layers": ("layers", 3), "components": ("components", 8)}),
    "planar": ("planar", {"layers": ("layers", 8)}),
    "radial": ("radial", {"layers": ("layers", 8)}),
    "cnf": ("cnf", {"hidden": ("hidden", (64, 64, 64)), "layers": ("steps", 8)}),
    "flow-matching": ("cnf", {"hidden": ("hidden", (64, 64, 64)), "layers": ("steps", 8)}),
    "residual-flow": ("residual_flow", {"hidden": ("hidden", WIDTHS), "layers": ("blocks", 8)}),
    "glow": ("glow", {"levels": ("levels", 3), "depth": ("steps", 4), "hidden": ("hidden", 32)}),
    "image_realnvp": ("image_realnvp", {"levels": ("scales", 2), "depth": ("residual_blocks", 1), "hidden": ("base_dim", 16)}),
    "tarflow": ("tarflow", {"patch": ("patch", 2), "hidden": ("channels", 64), "depth": ("blocks", 4), "layers": ("layers", 2)}),
    "starflow": ("starflow", {"patch": ("patch", 2), "hidden": ("channels", 64),
                              "depth": ("layers", 4),           # how many they are
                              "layers": ("layers", 4)}),        # the last of them
    "jet": ("jet", {"patch": ("patch", 2), "hidden": ("channels", 64), "couplings": ("couplings", 8), "layers": ("layers", 1)}),
    "glow_tts": ("glow_tts", {"hidden": ("channels", 64), "depth": ("blocks", 4), "layers": ("layers", 2)})}


def defaults_of(model) -> dict:
    """{option: what `refflow fit` takes where it is not given}."""
    return {option: small for option, (_, small) in DEFAULTS[model][1].items()}


def compared(model) -> list:
    """[(option of `refflow fit`, its default there, argument in Python, its default)] of a model, under its name in Python."""
    models = importlib.import_module("refflow.models")
    return [(option, small, argument, inspect.signature(getattr(models, model)).parameters[argument].default)
            for name, options in DEFAULTS.values() if name == model for option, (argument, small) in options.items()]
