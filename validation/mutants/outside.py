"""Files whose equations stand outside pages: which there are, which tests judge each one, and which of its mutants are asked.

A file has more mutants than its tests can be asked in a day, so a sample stands for them: `SIZE` of a file, drawn with the
seed `SEED`, each function in turn giving one until there are enough.  What only shows the progress of training is left out.
"""

from __future__ import annotations

from importlib import import_module

import numpy as np

from .mutations import Source

SIZE, SEED = 40, 1
SHOWN = {"Progress", "time_text"}
DRAWN_AS = {"oracle.boxes.black_box_pieces": "testing.black_box_pieces",             # files that moved after their sample was drawn
            **{f"oracle.judging.{name}": f"oracle.{name}" for name in ("asked", "steadiness", "verdict")},
            "oracle.points.measures": "oracle.measures"}

FIT = ("train",)
COUPLINGS = ("reversible", "masked_networks")
REVERSIBLE = ("reversible", "threads")
UNIT_BY_UNIT = ("masked_networks", "fast_splines", "autoregressive")
IMAGES = ("image_realnvp", "realnvp_ports", "glow", "nice")
SPEECH = ("glow_tts", "glow_tts_text", "utterances", "cli_speech")
MODELS = ("model_starts", "autoregressive_models", "circular_models", "mixture_models", "realnvp")
JUDGES = {
    **dict.fromkeys(("training.fit", "training.optimisers", "training.schedules", "training.unconstrained", "training.diagnosis",
                     "training.penalty", "training.recipes", "training.formula"), FIT),
    "training.batch_norm": ("batch_norm",), "training.flow_matching": ("flow_matching",), "models.cnf": ("flow_matching",),
    "models.ffjord": ("ffjord",), "models.residual_flow": ("residual_flow",),
    "accuracy.floats": ("pictures",),
    "core.arrays": ("values", "contract"), "core.bijector": ("contract",), "core.boundary": ("memory", "errors_of_use", "contract"),
    "core.compose": ("chain_ends", "tracks", "contract", "memory"), "core.conditioner": ("conditioners", "residual_series"),
    "core.density": ("density",), "core.flow": ("contract", "tails", "errors_of_use"), "core.pairs": ("pairs",), "core.rules": ("rules",),
    "core.sets.membership": ("sets",), "core.tracks": ("tracks",), "core.tree": ("values", "contract", "saving"),
    "core.values": ("values", "errors_of_use", "contract"),
    "cli.check": ("cli", "report", "stranger", "time_limits"), "cli.checkpoint": ("cli_checkpoints",),
    "cli.dataset": ("cli", "strangers_files", "cli_contexts"), "cli.fit": ("cli_flows", "cli_manners", "cli_checkpoints"),
    "cli.in_time": ("cli_flows",), "cli.rows": ("cli", "strangers_files"), "cli.sample": ("cli", "cli_manners"), "cli.truth": ("truth_command",),
    "data": ("data",), "coverage.row": ("coverage",),
    "oracle.check": ("oracle", "report"), "oracle.naming.diagnosis": ("diagnosis",), "oracle.naming.shrink": ("oracle", "report"),
    "laws.law": ("laws", "rejections"),
    "saving": ("saving", "saved_files"),
    "oracle.judging.verdict": ("report",),
    "oracle.judging.asked": ("asked",), "oracle.judging.steadiness": ("steadiness",), "oracle.points.instances": ("instances",),
    "oracle.points.measures": ("measures",), "oracle.points.parametrised": ("parametrised",), "oracle.inputs.vectors": ("vectors",),
    "oracle.boxes.black_box_charts": ("black_box_thin",),
    "oracle.boxes.black_box_ends": ("black_box_ends",),
    "oracle.boxes.black_box_pieces": ("black_box_pieces",),
    "oracle.boxes.black_box_points": ("black_box", "black_box_ends"),
    **dict.fromkeys(("accuracy.kappa", "accuracy.points"), ("kappa",)),
    "accuracy.switches": ("points", "switches"),
    **{f"accuracy.{name}": (name,) for name in ("differences", "drawing", "formats", "quantities", "valid")},
    "fast.splines": ("fast_splines",),
    "fast.couplings": COUPLINGS,
    **dict.fromkeys(("fast.images", "fast.likelihood"), REVERSIBLE),
    **dict.fromkeys(("fast.flows", "fast.threads"), ("threads",)),
    "fast.products": ("products",),
    "fast.residual": ("fast_residual",),
    "fast.table": ("fast_table",),
    "fast.tokens": ("fast_tokens",),
    "fast.transformers": ("fast_transformers", "fast_tokens"),
    **dict.fromkeys(("fast.autoregressive", "fast.unit_by_unit"), UNIT_BY_UNIT),
    **dict.fromkeys(("models.realnvp_images", "models.glow", "models.nice"), IMAGES),
    **dict.fromkeys(("fast.wave_net", "fast.speech", "training.speech", "models.glow_tts", "models.glow_tts_batch",
                     "models.glow_tts_text"), SPEECH),
    "models.alignment": ("alignment",),
    "models.defaults": ("cli_flows",),
    "models.jet": ("jet",),
    "models.starflow": ("starflow",),
    "models.sizes": (*MODELS, "tarflow", "jet", "starflow"),
    "models.stochastic_durations": ("stochastic_durations",),
    "models.sylvester": ("sylvester",),
    "models.tarflow": ("tarflow",),
    "training.gaussians": ("gaussians", "cli_images", "cli_contexts"),
    **dict.fromkeys(("models.realnvp", "models.maf", "models.iaf", "models.nsf", "models.naf", "models.bnaf", "models.bpf",
                     "models.sospf", "models.umnn", "models.circular_nsf", "models.flow_plus_plus", "models.gaussian",
                     "models.gaussianization_flow", "models.autoregressive"), MODELS),
    "models.all_in_one": ("coupling",),
    "models.planar": ("model_starts", "cli_formula"),
}


def source_of(name):
    """The module refflow.NAME as text that can be changed in one place."""
    return Source(None, import_module(f"refflow.{name}"))


def sample(name, mutants):
    """SIZE of a module's mutants, stratified by function, in the order of the source."""
    by_function, rng = {}, np.random.default_rng([SEED, *DRAWN_AS.get(name, name).encode()])
    for mutant in (mutant for mutant in mutants if mutant.function.split(".")[0] not in SHOWN):
        by_function.setdefault(mutant.function, []).append(mutant)
    functions = [[mine[i] for i in rng.permutation(len(mine))] for mine in by_function.values()]
    functions = [functions[i] for i in rng.permutation(len(functions))]
    turns = [mine[turn] for turn in range(max(map(len, functions), default=0)) for mine in functions if turn < len(mine)]
    chosen = {mutant.key for mutant in turns[:SIZE]}
    return [mutant for mutant in mutants if mutant.key in chosen]
