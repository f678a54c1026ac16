r"""Glow-TTS learns to speak: two voices of espeak-ng, from the command line, on one core.

    python -m validation.demos.speech --out DIRECTORY [--sentences 800] [--steps 4000] [--short] [--measure] [--write]

`espeak` makes two corpora of different sentences: one to train on, of which `refflow fit` holds out a tenth to choose the best
step, and UNSEEN sentences that nothing sees before the end.  On the unseen sentences the command measures, of the trained model
and of the same model before its training, with `b_i` the time at which phoneme `i` begins, `D_i` its duration and `x` the mel
spectrogram of espeak-ng's audio,
    alignment = mean over phonemes of |a_i - b_i|, a_i where it begins in the best path     (1)
    duration = mean over phonemes of |d_i - D_i|, d_i as the model speaks                   (2)
    mel = mean over frames of (mean over channels of (y - x)^2)^(1/2), in dB                (3)
where `y` is the mel that the model makes along the true durations or along its own: a frame of `x` is then compared with the
frame of `y` at the same part of the same phoneme.  The same numbers are given for models that know less: all phonemes of a
sentence last equally long; every phoneme lasts as long as the mean phoneme; every frame is the mean mel; every frame is the
mean mel of its phoneme and speaker; and (3) is given for the mel of the model's audio.  `refflow speak` says the first of the
unseen sentences, and pictures show the alignment, the durations, the mel under the real one, and the loss.

The exit status is 1 if the trained model is not FACTOR times better in (1) than the untrained model and equal durations, not
better in (2) than the mean duration, or not better in (3) than the mean mel.  Without espeak-ng the command says how to install
it, and ends.
"""

from __future__ import annotations

import argparse
import ctypes.util
import json
import time
from pathlib import Path

import numpy as np

from refflow.audio import audio_of, mel_spectrogram
from refflow.cli.speech import opened_voice
from refflow.fast.speech import SpeechGradient
from refflow.models.alignment import durations, path_of
from refflow.saving import write_atomically
from refflow.speech import read_speech

from . import espeak
from .showing import command, pictured, written

UNSEEN, SPOKEN = 40, 4
FACTOR = 2
TEMPERATURES = (0.667, 0.0)
SIZES = ("--hidden", "64", "--depth", "6", "--layers", "2", "--batch-size", "8")
SHORT = {"sentences": 24, "steps": 12, "sizes": ("--hidden", "8", "--depth", "1", "--layers", "1", "--batch-size", "8")}
DECIBELS = 20 / np.log(10)
README = Path(__file__).with_name("README.md")
PICTURE = Path(__file__).parents[1] / "speech.png"
BEGIN, END = "<!-- begin speech -->\n", "<!-- end speech -->\n"


# -- training ---------------------------------------------------------------------------------------------------------

def trained(folder, sizes, steps):
    """Train a voice; the folder gets it, what it was before, and the seconds that training took."""
    corpus = ("fit", folder / "train" / "wavs", "--table", folder / "train" / "table.csv", "--unit", "words", "--model",
              "glow_tts", *sizes, "--force")
    command(*corpus, "--steps", 0, "--out", folder / "untrained.npz")
    clock, processor = time.monotonic(), time.process_time()
    command(*corpus, "--steps", steps, "--patience", 0, "--out", folder / "voice.npz")
    took = {"clock": time.monotonic() - clock, "processor": time.process_time() - processor}
    write_atomically(folder / "seconds.json", json.dumps(took).encode())


# -- utterances that the models have not seen ---------------------------------------------------------------------------

class Unseen:
    """Utterances with the tokens of a voice, and the times of their phonemes."""

    def __init__(self, folder, data):
        corpus = read_speech(folder / "wavs", folder / "table.csv", unit="words", speakers=data.speakers, multiple=2)
        known = {symbol: i for i, symbol in enumerate(data.symbols)}
        times, self.hop = espeak.read_times(folder / "times.csv"), data.settings.hop
        self.utterances, self.tokens, self.starts, self.left_out = [], [], [], 0
        for u in corpus.utterances:
            symbols = [corpus.symbols[i] for i in u.tokens]
            if not known.keys() >= set(symbols):        # a small corpus may lack a phoneme
                self.left_out += 1
                continue
            self.utterances.append(u)
            self.tokens.append(np.array([known[symbol] for symbol in symbols]))
            self.starts.append(times[u.name])

    def __iter__(self):
        return zip(self.utterances, self.tokens, self.starts)

    def true_durations(self, u, starts):
        """In frames, not whole."""
        return np.diff(np.append(starts, u.mel.shape[1] * self.hop)) / self.hop

    def milliseconds(self, frames):
        return frames * self.hop / 22.05


def measured(model, unseen, seed=0):
    """{measure: a list of arrays, one for each utterance} of a model."""
    found, gradient, rng = {}, SpeechGradient(), np.random.default_rng(seed)
    for u, tokens, starts in unseen:
        texts, speaker = np.array([len(tokens)]), np.array([u.speaker])
        frames = u.mel.shape[1]
        terms = gradient.terms(model, (tokens[None], texts, u.mel[None], np.array([frames]), speaker))
        true = espeak.true_path(starts, frames, unseen.hop)
        add(found, "path", terms.path[0])
        add(found, "alignment", np.abs(espeak.boundary_errors(terms.path[0], starts, unseen.hop)) / 22.05)
        for temperature in TEMPERATURES:
            own = model.infer(tokens[None], texts, rng, temperature, 1.0, speaker)
            along = model.infer(tokens[None], texts, rng, temperature, 1.0, speaker, durations(true)[None])
            add(found, f"mel, true durations, {temperature:g}", distance(along.mel[0], u.mel))
            add(found, f"mel, own durations, {temperature:g}", distance(warped(own, true), u.mel))
            add(found, f"spoken, {temperature:g}", own)
        add(found, "durations", own.durations[0])
        add(found, "duration", unseen.milliseconds(np.abs(own.durations[0] - unseen.true_durations(u, starts))))
        add(found, "mel", own.mel[0])
        add(found, "length", np.array([own.durations[0].sum() / frames]))
    return found


def through_audio(unseen, spoken, settings, seed=0):
    """{measure: arrays}: (3) of the mel of the model's audio, and of espeak-ng's own mel made audio in the same way."""
    found, rng = {}, np.random.default_rng(seed)
    for (u, _, starts), own in zip(unseen, spoken):
        true = espeak.true_path(starts, u.mel.shape[1], unseen.hop)
        add(found, "model", distance(warped(own._replace(mel=again(own.mel[0], rng, settings)[None]), true), u.mel))
        add(found, "real", distance(again(u.mel, rng, settings), u.mel))
    return found


def again(mel, rng, settings):
    """The mel of the audio of a mel."""
    audio = audio_of(np.maximum(mel, np.log(settings.floor)).astype(mel.dtype), rng, settings)
    return mel_spectrogram(audio / max(1, np.abs(audio).max()), settings)


def add(found, key, value):
    found.setdefault(key, []).append(value)


def distance(y, x):
    """(3) of each frame."""
    return DECIBELS * np.sqrt(np.square(y.astype(np.float64) - x).mean(0))


def warped(spoken, true):
    """The frames of a synthesised mel at the same parts of the same phonemes as the frames of the true path."""
    d, mel = spoken.durations[0], spoken.mel[0]
    i = np.argmax(true, axis=0)
    first = np.argmax(true, axis=1)[i]
    part = (np.arange(len(i)) - first + 0.5) / true.sum(1)[i]
    return mel[:, np.minimum(np.cumsum(d)[i] - d[i] + np.floor(part * d[i]).astype(int), mel.shape[1] - 1)]


def known_less(unseen, corpus, times):
    """{measure: arrays} of equal durations, the mean duration, the mean mel, and the mean mel of phoneme and speaker."""
    sums, lengths, hop = {}, [], unseen.hop
    for u in corpus.utterances:
        true = espeak.true_path(times[u.name], u.mel.shape[1], hop)
        lengths.append(np.diff(np.append(times[u.name], u.mel.shape[1] * hop)) / hop)
        for i, symbol in enumerate(u.tokens):
            total, count = sums.get((symbol, u.speaker), (0.0, 0))
            sums[symbol, u.speaker] = total + u.mel[:, true[i]].sum(1, dtype=np.float64), count + true[i].sum()
    mean = sum(total for total, _ in sums.values()) / sum(count for _, count in sums.values())
    length, found = np.concatenate(lengths).mean(), {}
    for u, tokens, starts in unseen:
        frames, I = u.mel.shape[1], len(tokens)
        equal = path_of(np.diff(np.round(np.linspace(0, frames, I + 1))))
        add(found, "alignment", np.abs(espeak.boundary_errors(equal, starts, hop)) / 22.05)
        add(found, "duration", unseen.milliseconds(np.abs(length - unseen.true_durations(u, starts))))
        add(found, "mean mel", distance(mean[:, None], u.mel))
        i = np.argmax(espeak.true_path(starts, frames, hop), axis=0)
        means = [sums[token, u.speaker] if (token, u.speaker) in sums else (mean, 1) for token in tokens[i]]
        add(found, "phoneme's mean mel", distance(np.stack([total / count for total, count in means], 1), u.mel))
    return found


# -- the table --------------------------------------------------------------------------------------------------------

def mean(found, key):
    return float(np.concatenate(found[key]).mean())


def median(found, key):
    return float(np.median(np.concatenate(found[key])))


def numbers(before, after, less, audio):
    """{measure: {model: number}}."""
    found = {"alignment, mean (ms)": {"trained": mean(after, "alignment"), "untrained": mean(before, "alignment"),
                                      "equal durations": mean(less, "alignment")},
             "alignment, median (ms)": {"trained": median(after, "alignment"), "untrained": median(before, "alignment"),
                                        "equal durations": median(less, "alignment")},
             "duration (ms)": {"trained": mean(after, "duration"), "untrained": mean(before, "duration"),
                               "mean duration": mean(less, "duration")}}
    for temperature in TEMPERATURES:
        for kind in ("true", "own"):
            key = f"mel, {kind} durations, {temperature:g}"
            found[f"mel, {kind} durations, temperature {temperature:g} (dB)"] = {
                "trained": mean(after, key), "untrained": mean(before, key), "mean mel": mean(less, "mean mel"),
                "phoneme's mean mel": mean(less, "phoneme's mean mel")}
    found[f"mel of the audio, own durations, temperature {TEMPERATURES[0]:g} (dB)"] = {
        "trained": mean(audio, "model"), "espeak-ng's own mel made audio": mean(audio, "real")}
    return found


def table(found):
    """Markdown."""
    lines = ["| on unseen sentences | trained | untrained | others |", "| --- | --- | --- | --- |"]
    for name, row in found.items():
        less = ", ".join(f"{key} {value:.1f}" for key, value in row.items() if key not in ("trained", "untrained"))
        untrained = f"{row['untrained']:.1f}" if "untrained" in row else ""
        lines.append(f"| {name} | {row['trained']:.1f} | {untrained} | {less} |")
    return "\n".join(lines)


def failures(found):
    """What says that the model has not learned."""
    align, duration = found["alignment, mean (ms)"], found["duration (ms)"]
    mel = found["mel, true durations, temperature 0 (dB)"]
    most = min(align["untrained"], align["equal durations"]) / FACTOR
    wanted = (("alignment", align["trained"], most, "ms"), ("duration", duration["trained"], duration["mean duration"], "ms"),
              ("mel", mel["trained"], mel["mean mel"], "dB"))
    return [f"{name} {found:.1f} {unit}, not below {most:.1f} {unit}" for name, found, most, unit in wanted if not found < most]


# -- pictures ---------------------------------------------------------------------------------------------------------

def seconds(data):
    return data.settings.hop / data.settings.rate


def alignment_picture(axes, plot, data, path, tokens, starts):
    """The best path, and the true boundaries as lines."""
    T, I = path.shape[1] * seconds(data), len(tokens)
    axes.imshow(path, origin="lower", aspect="auto", cmap=plot.SHADES, vmax=1.3, extent=(0, T, -0.5, I - 0.5),
                interpolation="none")
    true = np.append(starts / data.settings.rate, T)
    axes.step(true, np.append(np.arange(I), I - 1), where="post", color=plot.ORANGE, linewidth=1, label="espeak-ng's own times")
    axes.set(xlabel="time (s)", ylabel="phoneme")
    plot.legend(axes, loc="upper left")


def duration_picture(axes, plot, unseen, found):
    """Durations of all phonemes, predicted over true."""
    true = np.concatenate([unseen.milliseconds(unseen.true_durations(u, starts)) for u, _, starts in unseen])
    own = unseen.milliseconds(np.concatenate(found["durations"]))
    axes.plot([0, true.max()], [0, true.max()], color=plot.GREY, linewidth=0.8)
    axes.plot(true, own, ".", color=plot.BLUE, markersize=3, alpha=0.4)
    axes.set(xlabel="espeak-ng's duration (ms)", ylabel="the model's (ms)", xlim=(0, None), ylim=(0, None))


def mel_picture(both, plot, data, real, made):
    for axes, mel, title in zip(both, (real, made), ("espeak-ng", "the model, which has not heard this sentence")):
        axes.imshow(mel, origin="lower", aspect="auto", cmap=plot.SHADES, vmin=real.min(), vmax=real.max(),
                    extent=(0, mel.shape[1] * seconds(data), 0, len(mel)), interpolation="none")
        axes.set_title(title, fontsize=9, color=plot.INK)
        axes.set(ylabel="mel channel", xlim=(0, max(real.shape[1], made.shape[1]) * seconds(data)))
    both[-1].set(xlabel="time (s)")


def loss_picture(axes, plot, note):
    step, loss, at, held_out = plot.history_columns(note["history"])
    axes.plot(step, loss, color=plot.BLUE, linewidth=1, label="training")
    axes.plot(at, held_out, color=plot.ORANGE, linewidth=1, label="held out")
    axes.set(xlabel="step", ylabel="mle + duration")
    plot.legend(axes, loc="upper right")


def pictures(out, data, note, unseen, after):
    """PNG files; the first is all of them in one."""
    from refflow import plot
    (u, tokens, starts), k = next(iter(unseen)), 0
    draw = {"alignment": (1, lambda axes: alignment_picture(axes[0], plot, data, after["path"][k], tokens, starts)),
            "mel": (2, lambda axes: mel_picture(axes, plot, data, u.mel, after["mel"][k])),
            "durations": (1, lambda axes: duration_picture(axes[0], plot, unseen, after)),
            "loss": (1, lambda axes: loss_picture(axes[0], plot, note))}
    whole = plot.picture(11, 6.4)
    grid = whole.add_gridspec(4, 2)
    places = {"alignment": (grid[0:2, 0],), "mel": (grid[2, 0], grid[3, 0]), "durations": (grid[0:2, 1],),
              "loss": (grid[2:4, 1],)}
    for name, (rows, drawn) in draw.items():
        single = plot.picture(5.6, 3.4)
        for axes in (single.subplots(rows, squeeze=False)[:, 0], [whole.add_subplot(place) for place in places[name]]):
            drawn(axes)
            for one in axes:
                plot.quiet(one)
        plot.save(single, out / f"{name}.png")
        print(out / f"{name}.png")
    plot.save(whole, out / "speech.png")
    print(out / "speech.png")
    return out / "speech.png"


# -- the command ------------------------------------------------------------------------------------------------------

def said(out, data, unseen):
    """The first unseen sentences as audio."""
    for k, (u, tokens, _) in enumerate(unseen):
        if k == SPOKEN:
            break
        command("speak", out / "voice.npz", " ".join(data.symbols[i] for i in tokens), "--speaker", data.speakers[u.speaker],
                "--out", out / f"{u.name}.wav", "--force")


def run(out, sentences, steps, sizes, measure=False):
    """(text of the report, what failed, the picture of all); `measure`: of the voice that is there."""
    out.mkdir(parents=True, exist_ok=True)
    if not measure:
        espeak.write_corpus(out / "train", sentences)
        espeak.write_corpus(out / "unseen", UNSEEN, first=sentences)
        trained(out, sizes, steps)
    untrained, data, _ = opened_voice(out / "untrained.npz")
    voice, _, note = opened_voice(out / "voice.npz")
    unseen = Unseen(out / "unseen", data)
    corpus = read_speech(out / "train" / "wavs", out / "train" / "table.csv", data.symbols, data.speakers, "words", multiple=2)
    before, after = measured(untrained, unseen), measured(voice, unseen)
    less = known_less(unseen, corpus, espeak.read_times(out / "train" / "times.csv"))
    found = numbers(before, after, less, through_audio(unseen, after[f"spoken, {TEMPERATURES[0]:g}"], data.settings))
    said(out, data, unseen)
    picture = pictures(out, data, note, unseen, after)
    seconds = json.loads((out / "seconds.json").read_text())
    length = f"Unseen sentences become {mean(after, 'length'):.3f} times as long as they are in truth."
    lines = [training_text(corpus, voice, note, seconds), length, "", table(found)]
    if unseen.left_out:
        lines += ["", f"{unseen.left_out} of {UNSEEN} unseen sentences are left out: the training corpus lacks a phoneme."]
    return "\n".join(lines) + "\n", failures(found), picture


def training_text(corpus, voice, note, seconds):
    """What was needed, and how long it took."""
    spoken = sum(u.mel.shape[1] for u in corpus.utterances) * corpus.settings.hop / corpus.settings.rate
    size = sum(array.size for array in leaves(voice.params()))
    held_out = note["history"]["validation"]
    return (f"{len(corpus)} sentences, {spoken / 60:.0f} minutes of two voices; a model of {size} parameters, float32.\n"
            f"{note['steps']} steps took {seconds['clock'] / 60:.0f} minutes by the clock, {seconds['processor'] / 60:.0f} "
            f"minutes of one core; the best step is {note['step']}.\n"
            f"The loss of the utterances held out fell from {held_out[0]:.2f} to {min(held_out):.2f}.")


def leaves(params):
    for value in params.values():
        yield from leaves(value) if isinstance(value, dict) else [value]


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m validation.demos.speech", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIRECTORY")
    parser.add_argument("--sentences", type=int, default=800, help="how many to train on (800)")
    parser.add_argument("--steps", type=int, default=4000, help="of training (4000)")
    parser.add_argument("--short", action="store_true", help="few steps of a tiny model, which learns nothing: does it run?")
    parser.add_argument("--measure", action="store_true", help="do not train: measure the voice that is in DIRECTORY")
    parser.add_argument("--write", action="store_true", help="put the numbers and the picture where the README shows them")
    options = parser.parse_args(arguments)
    if ctypes.util.find_library("espeak-ng") is None:
        print(espeak.INSTALL)
        return 0
    given = SHORT if options.short else {"sentences": options.sentences, "steps": options.steps, "sizes": SIZES}
    text, failed, picture = run(options.out, **given, measure=options.measure)
    print(text)
    if options.write:
        written(README, BEGIN, END, text)
        pictured(PICTURE, picture, 1100, 64)
    if not options.short:
        print("\n".join(f"FAIL  {line}" for line in failed) or "it has learned to speak")
    return int(bool(failed) and not options.short)


if __name__ == "__main__":
    raise SystemExit(main())
