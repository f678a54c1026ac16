"""refflow fit DATA: train a flow on rows of a table or on images, or a voice on a folder of speech, and save the best one.
refflow fit --energy NAME: train a flow on a density given by a formula.

Exit status: 0 done; 1 training failed; 2 could not run; 130 interrupted by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from . import checkpoint, kinds, rows, speech
from ..energies import ENERGIES
from ..models import BUILDERS
from ..models.defaults import DEFAULTS
from ..oracle import CannotRun
from ..oracle.points.pages import plainly
from ..report import json_text, parts_text, plain
from ..saving import save
from ..speech import UNITS
from ..training import TrainingError
from .checkpoint import Checkpoints
from .dataset import FLAT
from .interruptions import Interruptions
from .options import add_data, add_seed, add_threads, count, counts, duration, fraction, positive_count, put, rate, writes_a_file

HINTS = {True: "the last is the best: more --steps may find a better one",
         False: "training has found nothing better than its start: a smaller --learning-rate, fewer --hidden units or more rows may help"}
EVERY = 10                              # steps from one entry of the history to the next

# Models that this command does not train, and what each of them needs.
UNTRAINED = {
    "sylvester_vae": "sylvester_vae needs rows of numbers in [0, 1], and has a bound of their density in place of the density that this "
                     "command measures: train it in Python, by SylvesterVAE.loss_vjp",
    "stochastic_durations": "stochastic_durations needs the states of a text encoder and the duration of each symbol, which neither a table "
                            "nor a folder of speech holds: train it in Python, by StochasticDurations.bound_vjp",
    "all_in_one": "all_in_one is one block, of a network and a matrix that are given: flows of couplings are --model realnvp and nsf"}
PARTS = {"jet_coupling": "jet", "jet_network": "jet", "tarflow_block": "tarflow", "starflow_block": "starflow",
         "starflow_denoiser": "starflow"}
ALSO = {"sylvester": "sylvester_vae", "vits": "stochastic_durations", "vits_durations": "stochastic_durations",
        "allinoneblock": "all_in_one"}      # what other people call them


def add_command(commands):
    one = commands.add_parser("fit", help="train a flow on a table, images, speech or a formula", description=(
        "Train a model on the rows of DATA by maximum likelihood and save the best flow, densities being in the data's own "
        "units.  A folder of WAV files gives a voice, for `refflow speak`.  With --energy, a flow is trained on a density given by "
        "a formula, by reverse Kullback-Leibler divergence.  Ctrl-C, SIGTERM and SIGHUP end training and save "
        "the best flow so far; --resume continues it, also where the process was killed, with the same result as if it had "
        "not been."))
    add_data(one, "?")
    one.add_argument("--model", type=model_named, default="gaussian",
                     help=f"one of {', '.join(sorted(BUILDERS))} (gaussian), of images glow, jet, tarflow, starflow "
                          "(on pixels, where its authors train it in the latent space of an autoencoder) or image_realnvp, which "
                          "realnvp names too, of speech glow_tts")
    one.add_argument("--context", metavar="A,B,...", help=(
        "columns to condition on, by their names, or by their numbers from 1 if they have none: the flow is the density of "
        "the other columns given these; of images with jet or tarflow the array of their classes in DATA, a .npz file"))
    one.add_argument("--hidden", type=counts, metavar="N,N,...", help=(
        "widths of the hidden layers of its networks (64,64, at most an eighth of the rows), or its channels"))
    one.add_argument("--couplings", type=positive_count, metavar="N", help=(
        "how many couplings it has (4; of 2 columns 8, of 3 columns 5; of jet 8)"))
    one.add_argument("--layers", type=count, metavar="N", help=(
        "how many layers that are not couplings it has (5 of maf, 1 of bnaf and sospf, 8 of planar, radial and "
        "residual-flow, 8 steps in time of cnf and flow-matching, 4 of ffjord, else 3), or the "
        "encoder of texts, or each transformer of tarflow (2) or of jet (1), or the last transformer of starflow (4), whose "
        "others have one"))
    one.add_argument("--bins", type=positive_count, metavar="N", help="bins of its splines (8)")
    one.add_argument("--components", type=positive_count, metavar="N", help=(
        "components of each map: sigmoids of naf, units of umnn, logistics of flow++, normals of gaussianization (8), "
        "polynomials of sospf (3)"))
    one.add_argument("--dense", type=positive_count, metavar="N", help="dense layers of sigmoids in each map of naf (1: plain)")
    one.add_argument("--out", metavar="FLOW", required=True, help="the file to write, .npz or .json")
    one.add_argument("--steps", type=count, default=2000, help="gradient steps (2000)")
    one.add_argument("--batch-size", type=positive_count, metavar="N", help=(
        "rows, or samples of the flow, for each step (256, of images 64, of speech 8 utterances)"))
    one.add_argument("--learning-rate", type=rate, metavar="A",
                     help="Adam's at the start, then a cosine to 0 (0.005 for gaussian, 0.01 for planar and radial, else 0.001); of "
                          "speech a factor of Noam's schedule (1)")
    one.add_argument("--average", type=fraction, metavar="D",
                     help="decay of the moving average of the parameters; 0: none (0 for gaussian, "
                          "RealNVP of images and speech, else 0.99)")
    one.add_argument("--validation", type=fraction, default=0.1, metavar="PART",
                     help="part of the rows that is held out to choose the best step (0.1)")
    one.add_argument("--test", type=fraction, default=0.0, metavar="PART", help="part of the rows that chooses nothing (0)")
    one.add_argument("--patience", type=count, default=30, metavar="N",
                     help=(
        f"stop after N evaluations in which the loss held out has not fallen by {FLAT} nats for each number; 0: never (30)"))
    one.add_argument("--dequantise", action="store_true", help="add uniform noise on [0, 1) to the columns of integers")
    one.add_argument("--checkpoint-every", type=duration, default=10.0, metavar="SECONDS", help=(
        "how often the state of training is written beside FLOW, of flow.npz in flow.checkpoint.npz (10); 0: never"))
    one.add_argument("--resume", action="store_true", help=(
        "continue the fit whose checkpoint is there; DATA and the options must be the same"))
    add_options_of_formulas(one)
    add_options_of_images(one)
    add_options_of_speech(one)
    add_seed(one)
    add_threads(one)
    writes_a_file(one, run)


def model_named(text):
    """A model's name, which may be written in capitals, with hyphens, with underscores or without; another text as it is."""
    known = (*BUILDERS, *rows.MODELS_OF_IMAGES, *speech.MODELS)
    in_python = {plainly(builder): name for name, (builder, _) in DEFAULTS.items()}
    others = {plainly(name): name for name in (*UNTRAINED, *PARTS)} | {plainly(name): model for name, model in ALSO.items()}
    return (in_python | others | {plainly(name): name for name in known}).get(plainly(text), text)


def refuse_untrained(model):
    """Say what a model needs that this command does not train."""
    if model in PARTS:
        raise CannotRun(f"--model {model}: it is a part of {PARTS[model]}, not a whole flow")
    if model in UNTRAINED:
        raise CannotRun(f"--model {model}: {UNTRAINED[model]}")


def add_options_of_formulas(command):
    one = command.add_argument_group("densities given by a formula", "in place of DATA; nothing is held out")
    one.add_argument("--energy", metavar="NAME", help=(
        f"one of {', '.join(ENERGIES)}, or a Python file, name.py, with D, log_density(x) and gradient(x)"))
    one.add_argument("--anneal", type=count, default=0, metavar="N", help=(
        "the power of the density grows from 0.01 to 1 in N steps, so that the flow finds all of it (0: it is 1)"))


def add_options_of_images(command):
    one = command.add_argument_group("images", "DATA is a .npy file of integers, (N, channels, height, width) or "
                                               "(N, height, width), or a .npz file with these as images; --model is glow, jet, "
                                               "tarflow, starflow or image_realnvp")
    one.add_argument("--values", type=positive_count, metavar="N", help="how many values a pixel has, 0 .. N - 1 (256)")
    one.add_argument("--bits", type=positive_count, metavar="N", help="keep N bits of them: 2^N values, a divisor")
    one.add_argument("--levels", type=positive_count, metavar="N", help=(
        "levels of Glow (3), scales of RealNVP (2), or as many as height and width can be halved"))
    one.add_argument("--depth", type=count, metavar="N", help=(
        "steps of each level of Glow (4), residual blocks of each network of RealNVP (1), blocks of TarFlow and of STARFlow (4) "
        "or of the decoder of Glow-TTS (4)"))
    one.add_argument("--patch", type=positive_count, metavar="N", help=(
        "height and width of the tokens of TarFlow, STARFlow and Jet, in pixels (2)"))
    one.add_argument("--additive", action="store_true", help="couplings that add, in RealNVP the first two of three")
    one.add_argument("--permutation", metavar="NAME", help="Glow's: 1x1, lu, orthogonal, shuffle or reverse (1x1)")
    one.add_argument("--held-out", metavar="FILE", help="images that choose the best step, in place of a part of DATA")
    one.add_argument("--channels-last", action="store_true", help="DATA is (N, height, width, channels)")


def add_options_of_speech(command):
    one = command.add_argument_group("speech", "DATA is a folder of WAV files, 22050 samples a second; --model is glow_tts")
    one.add_argument("--table", metavar="FILE", help=(
        "the transcripts, id|text for the file id.wav, or with a header, columns id, text and speaker"))
    one.add_argument("--unit", choices=UNITS, help="what the symbols of a text are, or its names of phonemes (characters)")
    one.add_argument("--dropout", action="store_true", help="drop entries in training, at the authors' rates")


def run(options):
    if Path(options.out).suffix not in (".npz", ".json"):
        raise CannotRun(f"--out {options.out}: the name of a flow's file must end in .npz or .json")
    refuse_untrained(options.model)
    checkpoint.refuse(options)
    with Interruptions() as interruptions:
        return fitted(options, interruptions)


def fitted(options, interruptions):
    rng = np.random.default_rng(options.seed)
    (noise,) = rng.spawn(1)                 # of the comparison: models of one seed are measured on the same events
    data, values = kinds.to_fit(options, rng)
    parts = divided(options, data, values, rng)
    start = data.start(options, parts, rng)
    size = options.batch_size or data.batch_size
    settings = start.settings | {"batch_size": min(size, len(parts["train"])) if parts else size}
    with Checkpoints(options, data, parts) as checkpoints:
        result, message = trained(options, data, parts, start, settings, rng, checkpoints)
        about = about_of(options, data, values, start, settings, result)
        note = plain(about | {"history": history_of(result.history)})
        with interruptions.held():
            written(options, result, message, note, checkpoints)
    report = about | data.compared(start.flow, result.flow, parts, noise) | {
        "data": options.data, "out": options.out, "parts": {name: len(part) for name, part in parts.items()},
        "stopped_at": len(result.history["step"])}
    print(json_text(report) if options.json else fit_text(report, data))
    return {"interrupted": interruptions.status, "failed": 1}.get(result.stopped, 0)


def written(options, result, message, note, checkpoints):
    """Write the best flow; of a fit that was interrupted, the checkpoint too."""
    put(options, lambda path, replace: save(result.flow, path, note, replace=replace or checkpoints.has_left(path)))
    interrupted = result.stopped == "interrupted" and result.state is not None and options.checkpoint_every > 0
    if interrupted:
        checkpoints.write(result.state, options.out)
    else:
        checkpoints.remove()
    if message:
        print(f"refflow: {message}; {options.out} holds the best flow so far"
              + f"; --resume continues from step {result.state.step}" * interrupted, file=sys.stderr)


def divided(options, data, values, rng):
    """{"train": values, "validation": values, "test": values}, without the parts that are empty; {} if `values` is None."""
    if values is None:
        return {}
    n = len(values)
    test = min(round(options.test * n), n - 2)
    held = 0 if options.held_out else min(round(options.validation * n), n - 2 - test)
    order = rng.permutation(n) if test + held else np.arange(n)
    index = {"train": np.sort(order[test + held:]), "validation": order[test:test + held], "test": order[:test]}
    parts = {name: values[rows] for name, rows in index.items()}
    if options.held_out:
        parts["validation"] = data.read(options.held_out).values
    return {name: part for name, part in parts.items() if len(part)}


def trained(options, data, parts, start, settings, rng, checkpoints):
    """(result, message)."""
    settings = settings | {"patience": options.patience or None if "validation" in parts else None, "steps": options.steps,
                           "callback": checkpoints.stepped,
                           "resume": checkpoints.resumed(options) if options.resume else None}
    try:
        result = data.trained(start, parts, rng, settings)
    except TrainingError as error:
        return error.result, str(error)
    return result, "interrupted" if result.stopped == "interrupted" else ""


def about_of(options, data, values, start, settings, result):
    """What is kept beside the flow."""
    held_out = {key: getattr(options, key) for key in ("validation", "held_out", "test", "patience")}
    given = {} if values is None else held_out | {"rows": len(values)}
    averaging = settings["averaging"]
    return data.note() | {"model": options.model} | start.about | {
        "seed": options.seed, "steps": options.steps, "step": result.step, "batch_size": settings["batch_size"],
        "learning_rate": settings["optimiser"].learning_rate, "average": averaging.decay if averaging else 0.0,
        **given, "stopped": result.stopped}


def history_of(history):
    """{"step", "train", "validation"}: lists of one length, the training loss as its mean since the entry before."""
    ends = history["validation_step"] if len(history["validation_step"]) else np.arange(0, len(history["step"]) + 1, EVERY)
    starts = np.concatenate([[0], ends[:-1]])
    train = [history["loss"][i:max(j, 1)] for i, j in zip(starts, ends)]
    validation = history["validation_loss"] if len(history["validation_loss"]) else None
    return {"step": ends.tolist(), "train": [float(losses.mean()) if len(losses) else None for losses in train],
            "validation": None if validation is None else validation.tolist()}


def fit_text(report, data):
    chosen, last = "validation" in report["parts"], report["step"] == report["steps"]
    best = f", the best of {report['stopped_at']}" if chosen else ""
    hint = f"\n{HINTS[last]}" if chosen and (last or report["step"] == 0 and report["model"] != "gaussian") else ""
    lines = [f"{report['data'] or report['energy']}: {data.summary(parts_text(report['parts'], data.word))}",
             data.table(report),
             f"{report['out']}: {report['model']} after step {report['step']}{best} (at most {report['steps']}){hint}"]
    return "\n".join(line for line in lines if line)
