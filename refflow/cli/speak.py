"""refflow speak VOICE TEXT: a text as audio, by the method of Griffin and Lim.

Exit status: 0 done; 2 could not run; 130 interrupted.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np

from .options import add_seed, number_that, put, writes_a_file
from .speech import opened_voice
from ..audio import audio_of, write_wav
from ..oracle import CannotRun
from ..report import counted, json_text

LONGEST = 100                           # times as slow as the voice

scale = number_that(float, lambda v: 0 <= v < math.inf, "number >= 0")
slowness = number_that(float, lambda v: 0 < v <= LONGEST, f"number in (0, {LONGEST}]")


def add_command(commands):
    one = commands.add_parser("speak", help="say a text with a voice", description=(
        "Synthesise TEXT with a voice that `refflow fit` has trained, and write it as a WAV file."))
    one.add_argument("flow", metavar="VOICE", help="a file that refflow fit has written")
    one.add_argument("text", metavar="TEXT", help="in the symbols of the voice: characters, or words between spaces")
    one.add_argument("--out", metavar="WAV", required=True, help="the file to write, .wav")
    one.add_argument("--speaker", metavar="NAME", help="one of the voice's speakers (the first)")
    one.add_argument("--noise-scale", type=scale, default=0.667, metavar="T", help="the temperature: noise times T (0.667)")
    one.add_argument("--length-scale", type=slowness, default=1.0, metavar="L", help="durations times L (1)")
    add_seed(one)
    writes_a_file(one, run)


def run(options):
    if Path(options.out).suffix.lower() != ".wav":
        raise CannotRun(f"--out {options.out}: the name of the audio must end in .wav")
    model, data, _ = opened_voice(options.flow)
    tokens, speaker = data.tokens(options.text), data.speaker(options.speaker)
    audio, spoken = said(model, data, tokens, speaker, np.random.default_rng(options.seed), options)
    peak = float(np.abs(audio).max())
    if peak > 1:
        print(f"refflow: {options.out}: the audio is divided by its largest sample, {peak:.3g}", file=sys.stderr)
        audio = audio / audio.dtype.type(peak)
    put(options, lambda path, replace: write_wav(path, audio, data.settings.rate, replace))
    report = {"flow": options.flow, "text": options.text, "speaker": data.speakers[speaker[0]], "seed": options.seed,
              "noise_scale": options.noise_scale, "length_scale": options.length_scale, "out": options.out,
              "symbols": [data.symbols[i] for i in tokens[0]], "durations": spoken.durations[0].tolist(),
              "frames": int(spoken.frame_lengths[0]), "samples": len(audio), "rate": data.settings.rate}
    print(json_text(report, indent=None) if options.json else
          f"{options.out}: {counted(tokens.shape[1], 'symbol')}, {counted(report['frames'], 'frame')}, "
          f"{len(audio) / data.settings.rate:.2f} s")
    return 0


def said(model, data, tokens, speaker, rng, options):
    """(audio, `Speech` of the model)."""
    try:
        spoken = model.infer(tokens, np.array([tokens.shape[1]]), rng, options.noise_scale, options.length_scale, speaker)
        mel = np.maximum(spoken.mel[0], math.log(data.settings.floor))              # no spectrogram has less
        return audio_of(mel, rng, data.settings), spoken
    except ValueError as error:
        raise CannotRun(f"{options.flow} cannot say this: {error}") from None
