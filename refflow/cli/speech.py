r"""Speech: a folder of WAV files with a table of transcripts, and voices, Glow-TTS models, that are trained on it.

The losses are Glow-TTS's `mle`, in nats for each entry of a mel spectrogram, and `duration`; the `mle` is compared with a
Gaussian, which gives every channel a mean and a variance of its own:
    mle = 1/2 sum_c (log(2 pi v_c) + mean_j (x_cj - m_c)^2 / v_c) / C               (1)
with the means `m` and the variances `v` of the utterances to train on.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .dataset import FLAT, Start, likeliest, refuse_foreign
from .files import read_saved
from .rows import OF_IMAGES
from ..audio import MelSettings
from ..fast.speech import SpeechGradient
from ..models import GlowTTS, glow_tts
from ..models.defaults import defaults_of
from ..oracle import CannotRun
from ..report import aligned, counted
from ..speech import UNITS, indices, read_speech, symbols_of
from ..training import EMA, Adam, fit_speech, recipes
from ..training.speech import mean_losses

MODELS = ("glow_tts",)
FOR_START = 32                          # utterances on which a model is initialised
FILTERS, WAVE_LAYERS, PER_SPEAKER = 2, 2, 4     # a filter is so many times as wide as `hidden`; a speaker's part of it
LONGEST_WARM_UP = 4000
LOSSES = ("mle", "duration")


@dataclass(frozen=True)
class Speech:
    """How the utterances of a voice are made: its symbols, what a symbol stands for, its speakers, its mel spectrograms."""

    symbols: tuple
    speakers: tuple
    unit: str
    settings: MelSettings

    word = "utterance"
    measured = 64
    batch_size = 8
    loss_units = {"loss_is": " + ".join(LOSSES), "unit": ""}

    # -- what they are ------------------------------------------------------------------------------------------------

    @staticmethod
    def holds(path):
        return Path(path).is_dir()

    @classmethod
    def to_fit(cls, options, rng):
        refuse_options(options)
        unit = options.unit or UNITS[0]
        try:
            corpus = read_speech(options.data, options.table, unit=unit, multiple=2, noise=rng)
        except ValueError as error:
            raise CannotRun(of_file(error)) from None
        if len(corpus) < 2:
            raise CannotRun(f"{options.data}: it holds {len(corpus)} utterance; a voice needs at least 2")
        return cls(corpus.symbols, corpus.speakers, unit, corpus.settings), corpus

    @classmethod
    def of_flow(cls, flow, note):
        found = note.get("speech")
        if not isinstance(flow, GlowTTS) or not isinstance(found, dict):
            return None
        symbols, speakers, unit, mel = (found.get(key) for key in ("symbols", "speakers", "unit", "mel"))
        lists = all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in (symbols, speakers))
        if not lists or unit not in UNITS or not isinstance(mel, dict):
            return None
        try:
            data = cls(tuple(symbols), tuple(speakers), unit, MelSettings(**mel))
        except (TypeError, ValueError):
            return None
        return data if data.fits(flow) else None

    def fits(self, model):
        """Are these the numbers of the model's symbols, speakers and mel channels?"""
        symbols, speakers = model.encoder.layers[0].E.shape[-2], model.speakers[0].E.shape[-2] if model.speakers else 1
        mels = model.mean.output_shape(model.encoder.output_shape((1,)))[0]
        return (len(self.symbols), len(self.speakers), self.settings.mels) == (symbols, speakers, mels)

    def note(self):
        return {"speech": {"symbols": list(self.symbols), "speakers": list(self.speakers), "unit": self.unit,
                           "mel": asdict(self.settings)}}

    def summary(self, counts):
        speakers = f"{counted(len(self.speakers), 'speaker')}, " * (len(self.speakers) > 1)
        return f"{counted(len(self.symbols), 'symbol')}, {speakers}{counts}"

    def arrays(self, values):
        return [array for u in values.utterances for array in (u.tokens, u.mel, np.array(u.speaker))]

    # -- their models -------------------------------------------------------------------------------------------------

    def start(self, options, parts, rng):
        sizes, train = sizes_of(options), parts["train"]
        several = len(self.speakers) > 1
        width = sizes["hidden"]
        rates = {} if options.dropout else {"rates": (0.0, 0.0, 0.0)}
        try:
            model = glow_tts(rng, len(self.symbols), self.settings.mels, width, filters=FILTERS * width, duration_filters=width,
                             layers=sizes["layers"], blocks=sizes["depth"], hidden=width, wave_layers=WAVE_LAYERS,
                             speakers=len(self.speakers) * several, speaker_channels=max(1, width // PER_SPEAKER) * several,
                             dtype=np.float32, **rates)
            model = model.initialised(*train.batch(range(min(FOR_START, len(train)))))
        except ValueError as error:
            raise CannotRun(f"{options.data}: no voice can be made: {error}") from None
        warm_up = max(1, min(LONGEST_WARM_UP, options.steps // 5))
        settings = recipes.glow_tts(width, warm_up)
        if options.learning_rate:
            settings["optimiser"] = Adam(options.learning_rate, 0.9, 0.98, 1e-9)
        settings |= {"averaging": EMA(options.average) if options.average else None, "dropout": bool(options.dropout)}
        return Start(model, (), settings, {"sizes": sizes, "warm_up": warm_up, "dropout": bool(options.dropout)})

    def trained(self, start, parts, rng, settings):
        held_out = parts.get("validation", 0)
        return fit_speech(start.flow, parts["train"], validation=held_out, fixed=start.fixed, rng=rng, flat=FLAT,
                          progress="{:.4f}".format, **settings)

    def compared(self, before, after, parts, rng):
        found = {"before": {}, "after": {}, "gaussian": {}}
        m, v = moments(parts["train"])
        for name, corpus in parts.items():
            corpus = corpus[:self.measured] if name == "train" else corpus
            for key, model in (("before", before), ("after", after)):
                losses = mean_losses(model, corpus, np.arange(len(corpus)), self.batch_size, SpeechGradient())
                found[key][name] = losses._asdict()
            found["gaussian"][name] = {"mle": gaussian_mle(corpus, m, v)}
        return found

    def table(self, report):
        rows = [["loss", *report["after"]]]
        for loss in LOSSES:
            rows += [[f"{loss}, {key}", *(f"{one[loss]:.3f}" for one in report[key].values())] for key in ("before", "after")]
        rows.insert(3, ["mle, a Gaussian", *(f"{one['mle']:.3f}" for one in report["gaussian"].values())])
        return aligned(rows)

    def corpus_at(self, folder, table):
        """The utterances of a folder in the symbols and speakers of the voice."""
        if table is None:
            raise CannotRun(f"{folder}: --table FILE must name the table of its transcripts")
        try:
            return read_speech(folder, table, self.symbols, self.speakers, self.unit, self.settings, multiple=2,
                               noise=np.random.default_rng(0))
        except ValueError as error:
            raise CannotRun(of_file(error)) from None

    # -- texts to be spoken -------------------------------------------------------------------------------------------

    def tokens(self, text):
        """(1, I) of a text; CannotRun for symbols that the voice does not have."""
        found = symbols_of(text, self.unit)
        if not found:
            raise CannotRun("the text is empty")
        try:
            return indices("the text", "symbol", found, self.symbols)[None]
        except ValueError as error:
            raise CannotRun(of_file(error)) from None

    def speaker(self, name):
        """(1,) of a speaker's name; None: the first."""
        if name is not None and name not in self.speakers:
            raise CannotRun(f"--speaker: there is no speaker {name!r}; {likeliest(name, [s for s in self.speakers if s])}")
        return np.array([0 if name is None else self.speakers.index(name)])


def of_file(error):
    """The message of an error in a file, without the function that has found it."""
    text = str(error)
    for function in ("read_speech: ", "read_wav: "):
        text = text.removeprefix(function)
    return text


def moments(corpus):
    """(mean, variance) of each channel, (C, 1)."""
    frames = np.concatenate([u.mel for u in corpus.utterances], axis=1).astype(np.float64)
    return frames.mean(1, keepdims=True), frames.var(1, keepdims=True)


def gaussian_mle(corpus, m, v):
    x = np.concatenate([u.mel for u in corpus.utterances], axis=1)
    with np.errstate(all="ignore"):                 # a channel may be constant
        return float((np.log(2 * math.pi * v) + (x - m) ** 2 / v).mean() / 2)       # (1)


# -- options ----------------------------------------------------------------------------------------------------------

def refuse_options(options):
    """Refuse models and options that are not for speech, and speech without a table."""
    if options.header is not None:
        raise CannotRun("--header and --no-header are for tables of numbers, not for speech")
    if options.model not in MODELS:
        raise CannotRun(f"{options.data} is a folder, of speech; a voice is trained by --model glow_tts")
    foreign = [*(name for name in OF_IMAGES if name != "depth"), "couplings", "bins", "components", "dense", "context",
               "dequantise"]
    refuse_foreign(options, foreign, (), f"tables and images; {options.data} is a folder, of speech")
    if options.table is None:
        raise CannotRun(f"{options.data}: --table FILE must name the table of its transcripts")


def sizes_of(options):
    """{"hidden", "depth", "layers"} of the model."""
    if options.hidden is not None and len(options.hidden) != 1:
        raise CannotRun(f"--hidden: the networks of glow_tts have one width, not {len(options.hidden)}")
    given = {"hidden": options.hidden and options.hidden[0], "depth": options.depth, "layers": options.layers}
    return defaults_of("glow_tts") | {key: size for key, size in given.items() if size is not None}


# -- saved voices -----------------------------------------------------------------------------------------------------

def opened_voice(path):
    """(model, its `Speech`, note) of a file that `refflow fit` has written."""
    model, note = read_saved(path)
    data = Speech.of_flow(model, note if isinstance(note, dict) else {})
    if data is None:
        raise CannotRun(f"{path}: it holds no voice that `refflow fit` has trained on speech")
    return model, data, note
