"""A small corpus of synthetic speech, whose phonemes and their times are known.

    python -m validation.demos.espeak FOLDER [--sentences 300] [--seed 0]

espeak-ng (Debian: apt-get install espeak-ng) speaks sentences that a grammar builds from a list of words, in turn by one of two
voices of the same accent, so that both use the same phonemes.  The folder gets

    wavs/ID.wav     22050 samples a second, one channel of int16
    table.csv       id,speaker,text,words: `text` has the phonemes, for `read_speech(..., unit="words")`
    times.csv       id,position,symbol,sample: the sample at which each phoneme of a text begins

The text is the sequence of espeak-ng's own phoneme events, without their marks of stress, and `_` for pauses: one stands at
either end, and covers MARGIN samples of silence that are added there.  Every symbol so has a time, and an alignment can be
measured position by position; letters have none.  The times are exact: the library counts the samples that it has made when
a phoneme begins.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import ctypes.util
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from refflow.audio import write_wav
from refflow.saving import write_atomically

from ..bench.memory import in_new_process

INSTALL = "espeak-ng is not installed; install it with: apt-get install espeak-ng"
VOICES = ("en-us+m3", "en-us+f1")       # the noise of voices with breath (f2, f3, f5) differs from process to process
PAUSE, STRESS = "_", "',%="             # how the name of a pause begins, and the names of stressed phonemes
MARGIN = 1102                           # 50 ms
SYNCHRONOUS, PHONEME_EVENTS, CHARACTERS, UTF8 = 2, 1, 1, 1              # constants of espeak-ng/speak_lib.h
LAST_EVENT, PHONEME_EVENT = 0, 7

# Words enough that few phonemes stand next to the same neighbour always: nothing could tell where one of the two ends.
WORDS = {
    "determiner": ("the", "a", "every", "this", "that", "one", "our", "her", "my", "your", "no"),
    "adjective": ("small", "bright", "old", "green", "quiet", "heavy", "happy", "young", "strange", "yellow", "cold", "round",
                  "white", "dark", "loud", "noisy", "large", "thin", "good", "wild", "royal", "blue", "fair", "sharp", "long",
                  "thick", "poor", "giant"),
    "noun": ("dog", "river", "garden", "teacher", "window", "ship", "child", "mountain", "letter", "village", "bird",
             "question", "farmer", "judge", "bridge", "house", "song", "measure", "boy", "tiger", "car", "star", "light",
             "voice", "coin", "heart", "arm", "king", "fish", "book", "moon", "tree", "cloud", "boat", "cup", "brother",
             "machine", "tooth", "bear", "engine", "treasure", "chair", "wood", "uncle", "apple", "vision", "lion", "path",
             "water", "church", "city", "thought"),
    "verb": ("sees", "follows", "finds", "watches", "remembers", "loves", "paints", "carries", "changes", "leaves", "reaches",
             "hears", "likes", "buys", "joins", "marks", "takes", "brings", "enjoys", "gathers", "shares"),
    "adverb": ("today", "again", "slowly", "never", "at noon", "with joy", "by hand", "without a word", "tonight", "by car",
               "in the dark", "out loud", "far away", "with pleasure", "at dawn"),
}
FORMS = (("determiner", "noun", "verb", "determiner", "noun"),
         ("determiner", "adjective", "noun", "verb", "determiner", "noun"),
         ("determiner", "noun", "verb", "determiner", "adjective", "noun", "adverb"),
         ("determiner", "adjective", "noun", "verb", "determiner", "noun", "adverb"))


def sentences(rng, count):
    """`count` sentences, no two alike, drawn with the Generator `rng`."""
    found = {}
    while len(found) < count:
        form = FORMS[rng.integers(len(FORMS))]
        found[" ".join(WORDS[kind][rng.integers(len(WORDS[kind]))] for kind in form)] = None
    return list(found)


# -- the library ------------------------------------------------------------------------------------------------------

class Identity(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = [("type", ctypes.c_int), ("unique_identifier", ctypes.c_uint), ("text_position", ctypes.c_int),
                ("length", ctypes.c_int), ("audio_position", ctypes.c_int), ("sample", ctypes.c_int),
                ("user_data", ctypes.c_void_p), ("id", Identity)]


CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))


class Spoken(NamedTuple):
    samples: np.ndarray                 # int16
    symbols: list
    starts: list                        # of each symbol, in samples


class Espeak:
    """The library, which has one state for a whole process."""

    def __init__(self):
        self.library = ctypes.CDLL(ctypes.util.find_library("espeak-ng"))
        self.rate = self.library.espeak_Initialize(SYNCHRONOUS, 0, None, PHONEME_EVENTS)
        if self.rate < 0:
            raise RuntimeError("espeak-ng could not be initialised")
        self.callback = CALLBACK(self.received)
        self.library.espeak_SetSynthCallback(self.callback)
        self.library.espeak_Synth.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint,
                                              ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p]

    def received(self, samples, count, events):
        """The library calls it with the next samples, and the events among them."""
        if samples and count > 0:
            self.pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        n = 0
        while events[n].type != LAST_EVENT:
            if events[n].type == PHONEME_EVENT:
                self.events.append((events[n].id.string.decode("utf-8"), events[n].sample))
            n += 1
        return 0

    def speak(self, text, voice) -> Spoken:
        """The same for the same calls since the library was loaded: its random numbers, and something of a voice, stay."""
        self.pieces, self.events = [], []
        if self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}")
        given = text.encode()
        status = self.library.espeak_Synth(given, len(given) + 1, 0, CHARACTERS, 0, UTF8, None, None)
        if status != 0:
            raise RuntimeError(f"espeak-ng could not speak {text!r}: its status is {status}")
        samples = np.concatenate([np.zeros(MARGIN, np.int16), *self.pieces, np.zeros(MARGIN, np.int16)])
        return Spoken(samples, *timed_symbols([(name, start + MARGIN) for name, start in self.events]))


def timed_symbols(events):
    """(symbols, starts): neighbouring pauses are one, and there is one at either end."""
    symbols, starts = [PAUSE], [0]
    for name, start in events:
        symbol = PAUSE if name.startswith(PAUSE) else name.lstrip(STRESS)
        if symbol and not symbols[-1] == symbol == PAUSE:
            symbols.append(symbol)
            starts.append(start)
    if symbols[-1] != PAUSE:
        raise RuntimeError("espeak-ng has not said where the last phoneme ends")
    return symbols, starts


# -- the corpus -------------------------------------------------------------------------------------------------------

def spoken_by(voice, texts):
    """(samples a second, [Spoken]) of one voice; in a new process, it is the same again."""
    espeak = Espeak()
    return espeak.rate, [espeak.speak(text, voice) for text in texts]


def write_corpus(folder, count=300, seed=0, voices=VOICES, first=0):
    """Write the corpus of `count` sentences, from number `first` on; the same for the same seed and version of espeak-ng.

    The sentences of one seed are all different, so that corpora of other numbers have no sentence in common.
    """
    if ctypes.util.find_library("espeak-ng") is None:
        raise FileNotFoundError(INSTALL)
    folder, texts = Path(folder), sentences(np.random.default_rng(seed), first + count)[first:]
    made = [in_new_process(spoken_by, voice, texts[k::len(voices)]) for k, voice in enumerate(voices)]
    (folder / "wavs").mkdir(parents=True, exist_ok=True)
    table, times = [("id", "speaker", "text", "words")], [("id", "position", "symbol", "sample")]
    for n, words in enumerate(texts):
        name, voice, (rate, all_spoken) = f"{first + n:04d}", voices[n % len(voices)], made[n % len(voices)]
        spoken = all_spoken[n // len(voices)]
        write_wav(folder / "wavs" / f"{name}.wav", spoken.samples / 2**15, rate)
        table.append((name, voice, " ".join(spoken.symbols), words))
        times += [(name, i, *timed) for i, timed in enumerate(zip(spoken.symbols, spoken.starts))]
    for file, rows in (("table.csv", table), ("times.csv", times)):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        write_atomically(folder / file, text.getvalue().encode())


def read_times(path):
    """{id: the sample at which each of its symbols begins}."""
    found = {}
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["id"], []).append(int(row["sample"]))
    return {name: np.array(starts) for name, starts in found.items()}


def true_path(starts, frames, hop):
    """(I, frames) of True and False: the position in which the middle of each frame lies; short ones may have none."""
    position = np.searchsorted(starts, np.arange(frames) * hop, side="right") - 1
    return position == np.arange(len(starts))[:, None]


def boundary_errors(path, starts, hop):
    """For each position after the first, how many samples after its true start the path (I, J) begins it.

    A path changes from one frame to the next; the change is counted in the middle between their middles.
    """
    first = np.argmax(path, axis=-1)
    return (first[1:] - 0.5) * hop - starts[1:]


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m validation.demos.espeak", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sentences", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if not 1 <= options.sentences <= 10000:
        parser.error("--sentences must be in 1 .. 10000")
    try:
        write_corpus(options.folder, options.sentences, options.seed)
    except FileNotFoundError as error:
        print(error)
        return 2
    print(f"{options.sentences} sentences in {options.folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
