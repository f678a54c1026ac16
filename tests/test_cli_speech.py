"""refflow fit on a folder of speech, and refflow speak: what they write and print, and how they fail."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile

from interruptions import at_step
from refflow import StandardNormal
from refflow.audio import MelSettings, read_wav
from refflow.cli import checkpoint
from refflow.cli.dataset import Fitted
from refflow.cli.kinds import FITTED
from refflow.cli.speech import gaussian_mle, moments
from refflow.core import Flow
from refflow.fast.speech import SpeechGradient
from refflow.maps.elementwise import Affine
from refflow.models import GlowTTS, glow_tts
from refflow.saving import about, load, read, save
from refflow.speech import read_speech
from refflow.training import fit_speech
from refflow.training.speech import mean_losses

RATE = 22050
HERTZ = {"a": 300.0, "b": 700.0, "c": 1500.0, "d": 3100.0}
TEXTS = ("abc", "cab", "bad", "dabc", "cd", "acdb", "bdca", "dac", "ca", "abdc")
SMALL = ("--model", "glow_tts", "--hidden", 8, "--depth", 1, "--layers", 1, "--batch-size", 4)


def tones(text, rng):
    """A tone for each letter, of 50 to 90 ms."""
    counts = (rng.uniform(0.05, 0.09, len(text)) * RATE).astype(int)
    pieces = [np.sin(2 * np.pi * HERTZ[letter] * np.arange(n) / RATE) for letter, n in zip(text, counts)]
    return np.round(2**13 * np.concatenate(pieces)).astype(np.int16)


def write(name, samples, rate=RATE):
    scipy.io.wavfile.write(f"wavs/{name}.wav", rate, samples)


@pytest.fixture
def corpus(run):
    """Tones in the new directory of `run`, two speakers; corpus(table) writes another table."""
    Path("wavs").mkdir()
    rng = np.random.default_rng(0)
    for n, text in enumerate(TEXTS):
        write(n, tones(text, rng))

    def table(text=None):
        rows = [f"{n},{text},{'xy'[n % 2]}" for n, text in enumerate(TEXTS)]
        Path("table.csv").write_text("id,text,speaker\n" + "\n".join(rows) if text is None else text, encoding="utf-8")

    table()
    return table


def fitted(run, *more, steps=12, out="voice.npz"):
    return run("fit", "wavs", "--table", "table.csv", *SMALL, "--steps", steps, "--out", out, *more)


def spoken(run, text="abc", *more, out="speech.wav"):
    return run("speak", "voice.npz", text, "--out", out, *more)


def test_the_curve_of_its_training(run, corpus):
    pytest.importorskip("matplotlib")
    fitted(run, "--validation", 0.2, steps=4)
    assert run("plot", "voice.npz", "--what", "history", "--out", "curve.png")[0] == 0 and Path("curve.png").exists()
    assert "holds a voice" in run("plot", "voice.npz", "--what", "density", "--out", "density.png")[2]


# -- the whole way ----------------------------------------------------------------------------------------------------

def test_fit_and_speak(run, corpus):
    status, out, err = fitted(run, "--test", 0.2, steps=40)
    assert status == 0 and not err
    lines = [line.split() for line in out.splitlines()]
    assert out.startswith("wavs: 4 symbols, 2 speakers, 7 utterances to train, 1 held out, 2 to test\n")
    assert lines[1] == ["loss", "train", "validation", "test"] and max(map(len, out.splitlines())) <= 80
    assert float(lines[3][2]) < float(lines[2][2]) and float(lines[6][2]) < float(lines[5][2])
    assert out.splitlines()[-1].startswith("voice.npz: glow_tts after step ")
    voice, note = load("voice.npz"), about("voice.npz")
    assert isinstance(voice, GlowTTS) and voice.dtype == np.float32 and voice.rates == (0.0, 0.0, 0.0)
    assert note["speech"] == {"symbols": ["a", "b", "c", "d"], "speakers": ["x", "y"], "unit": "characters",
                              "mel": vars(MelSettings())}
    assert note["sizes"] == {"hidden": 8, "depth": 1, "layers": 1} and note["history"]["validation"][-1] > -10

    status, out, err = spoken(run, "dab", "--json")
    report, audio = json.loads(out), read_wav("speech.wav", RATE)
    assert status == 0 and report["symbols"] == ["d", "a", "b"] and report["speaker"] == "x"
    assert report["frames"] == max(sum(report["durations"]), 1) // 2 * 2 and len(audio) == (report["frames"] - 1) * 256
    assert report["samples"] == len(audio) and report["rate"] == RATE and report["out"] == "speech.wav"
    status, out, _ = spoken(run, "dab", "--force")
    assert status == 0 and out == f"speech.wav: 3 symbols, {report['frames']} frames, {len(audio) / RATE:.2f} s\n"


def test_what_is_said_is_the_model_s(run, corpus):
    """Durations and frames are `infer`'s; the seed, the speaker and both scales reach it."""
    assert fitted(run, steps=30)[0] == 0
    voice = load("voice.npz")
    tokens, texts = np.array([[3, 0, 1]]), np.array([3])
    for more, arguments in (((), (0, 0.667, 1.0, 0)), (("--seed", 5), (5, 0.667, 1.0, 0)),
                            (("--noise-scale", 0, "--length-scale", 3, "--speaker", "y"), (0, 0.0, 3.0, 1))):
        seed, noise, length, speaker = arguments
        expected = voice.infer(tokens, texts, np.random.default_rng(seed), noise, length, np.array([speaker]))
        report = json.loads(spoken(run, "dab", *more, "--json", "--force")[1])
        assert report["durations"] == expected.durations[0].tolist() and report["frames"] == expected.frame_lengths[0]
        assert report["speaker"] == "xy"[speaker] and report["seed"] == seed
    content = {}
    for name, more in (("0", ()), ("same", ()), ("seed", ("--seed", 1)), ("y", ("--speaker", "y")),
                       ("cold", ("--noise-scale", 0)), ("slow", ("--length-scale", 2))):
        assert spoken(run, "dabc", *more, out=f"{name}.wav")[0] == 0
        content[name] = Path(f"{name}.wav").read_bytes()
    assert content.pop("same") == content["0"] and len(set(content.values())) == len(content)
    assert len(content["slow"]) > 1.5 * len(content["0"])


def test_words_and_one_speaker(run, corpus):
    corpus("".join(f"{n}|{' '.join(text)}\n" for n, text in enumerate(TEXTS)))
    status, out, _ = fitted(run, "--unit", "words", "--dropout")
    assert status == 0 and out.startswith("wavs: 4 symbols, 9 utterances to train, 1 held out\n")
    assert not load("voice.npz").speakers and load("voice.npz").rates == (0.1, 0.5, 0.05)
    report = json.loads(spoken(run, " d a  b", "--json")[1])
    assert report["symbols"] == ["d", "a", "b"] and report["speaker"] == ""
    status, _, err = spoken(run, "dab", "--force")
    assert status == 2 and err == "refflow: the text: unknown symbol 'dab' at position 0; known: 'a' 'b' 'c' 'd'\n"


def test_the_same_seed_gives_the_same_voice(run, corpus):
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert fitted(run, "--seed", seed, out=f"{out}.npz")[0] == 0
    a, b, c = (load(f"{out}.npz") for out in "abc")
    assert a.equals(b) and not a.equals(c) and Path("a.npz").read_bytes() == Path("b.npz").read_bytes()


def test_options_reach_training(run, corpus):
    reports = {}
    for name, more in (("plain", ()), ("rate", ("--learning-rate", 0.1)), ("average", ("--average", 0.9)),
                       ("dropout", ("--dropout",))):
        status, out, _ = fitted(run, "--json", "--validation", 0, *more, out=f"{name}.npz")
        assert status == 0
        reports[name] = json.loads(out)
    after = {name: report["after"]["train"]["total"] for name, report in reports.items()}
    assert len(set(after.values())) == 4
    report = reports["rate"]
    assert report["learning_rate"] == 0.1 and report["warm_up"] == 2 and report["parts"] == {"train": 10}
    assert report["gaussian"]["train"].keys() == {"mle"} and reports["average"]["average"] == 0.9
    for key in ("before", "after"):
        losses = report[key]["train"]
        assert losses["total"] == losses["mle"] + losses["duration"]


def test_the_gaussian(run, corpus):
    """Its mean and variances are the best ones: it is the loss of a Gaussian's density."""
    made = read_speech("wavs", "table.csv", multiple=2)
    x = np.concatenate([u.mel for u in made.utterances], 1).astype(np.float64)
    m, v = moments(made)
    expected = (np.log(2 * np.pi * x.var(1)) + 1).mean() / 2
    assert gaussian_mle(made, m, v) == pytest.approx(expected, rel=1e-6)
    assert gaussian_mle(made, m + 0.1, v) > expected and gaussian_mle(made, m, 1.1 * v) > expected


def test_losses_of_batches_are_losses_of_all(run, corpus):
    made = read_speech("wavs", "table.csv", multiple=2, dtype=np.float64)
    model = glow_tts(np.random.default_rng(0), 4, 80, 8, filters=8, duration_filters=8, layers=1, blocks=1, hidden=8,
                     wave_layers=1, speakers=2, speaker_channels=2)
    one = mean_losses(model, made, np.arange(10), 10, SpeechGradient())
    some = mean_losses(model, made, np.arange(10), 3, SpeechGradient())
    np.testing.assert_allclose(some, one, rtol=1e-12)
    result = fit_speech(model, made[:8], validation=made[8:], steps=0, batch_size=3, rng=np.random.default_rng(0))
    expected = mean_losses(model, made, np.array([8, 9]), 2, SpeechGradient()).total
    assert result.history["validation_loss"].tolist() == pytest.approx([expected], rel=1e-12)
    with pytest.raises(ValueError, match=r"validation must be a fraction in \[0, 1\) or a corpus, not 1"):
        fit_speech(model, made, validation=1, steps=0, rng=np.random.default_rng(0))


def test_given_durations(run, corpus):
    model = glow_tts(np.random.default_rng(0), 4, 80, 8, filters=8, duration_filters=8, layers=1, blocks=1, hidden=8,
                     wave_layers=1)
    tokens, texts, d = np.array([[0, 1, 2], [3, 0, 0]]), np.array([3, 1]), np.array([[2, 0, 3], [4, 9, 9]])
    made = model.infer(tokens, texts, np.random.default_rng(0), durations=d)
    assert made.durations.tolist() == [[2, 0, 3], [4, 0, 0]] and made.frame_lengths.tolist() == [4, 4]
    assert made.path[0].sum(-1).tolist() == [2, 0, 2] and made.path[1].sum(-1).tolist() == [4, 0, 0]
    own = model.infer(tokens, texts, np.random.default_rng(0))
    assert np.array_equal(model.infer(tokens, texts, np.random.default_rng(0), durations=own.durations).mel, own.mel)
    with pytest.raises(ValueError, match="durations must be whole numbers"):
        model.infer(tokens, texts, np.random.default_rng(0), durations=d + 0.5)


def test_slices_of_a_corpus(run, corpus):
    made = read_speech("wavs", "table.csv", multiple=2)
    names = [[u.name for u in part.utterances] for part in (made[2:4], made[np.array([3, 0])], made[[5]])]
    assert names == [["2", "3"], ["3", "0"], ["5"]] and len(made) == 10 and made[2:4].symbols == made.symbols


def test_protocol():
    asked = [name for name in (*Fitted.__annotations__, *vars(Fitted)) if not name.startswith("_")]
    assert len(asked) > 10 and [name for kind in FITTED for name in asked if not hasattr(kind, name)] == []


# -- resuming ---------------------------------------------------------------------------------------------------------

def test_interrupted_and_resumed(run, corpus, monkeypatch):
    """The best voice is kept, it speaks, and the same command with --resume ends in the same file."""
    assert fitted(run, steps=24, out="whole.npz")[0] == 0
    stepped = checkpoint.Checkpoints.stepped
    monkeypatch.setattr(checkpoint.Checkpoints, "stepped", at_step(11, stepped))
    status, _, err = fitted(run, steps=24)
    assert status == 130
    assert err == "refflow: interrupted; voice.npz holds the best flow so far; --resume continues from step 11\n"
    assert spoken(run)[0] == 0 and about("voice.npz")["stopped"] == "interrupted"
    assert run("speak", "voice.checkpoint.npz", "abc", "--out", "other.wav")[0] == 0
    monkeypatch.setattr(checkpoint.Checkpoints, "stepped", stepped)
    assert fitted(run, "--resume", steps=24)[0] == 0
    assert Path("voice.npz").read_bytes() == Path("whole.npz").read_bytes() and not Path("voice.checkpoint.npz").exists()


def test_a_resumed_fit_knows_its_data(run, corpus, monkeypatch):
    with monkeypatch.context() as during:
        during.setattr(checkpoint.Checkpoints, "stepped", interrupt)
        assert fitted(run)[0] == 130
    table, words = Path("table.csv").read_text(), "refflow: --resume: wavs does not hold the data of voice.checkpoint.npz\n"
    good = Path("wavs/3.wav").read_bytes()
    samples = np.frombuffer(good[44:], np.int16).copy()
    samples[1000] += 300
    for file, other in (("table.csv", table.replace("abc", "abd", 1)), ("table.csv", table.replace("0,abc,x", "0,abc,y")),
                        ("wavs/3.wav", good[:44] + samples.tobytes())):
        before = Path(file).read_bytes()
        Path(file).write_bytes(other if isinstance(other, bytes) else other.encode())
        assert fitted(run, "--resume") == (2, "", words), file
        Path(file).write_bytes(before)
    status, _, err = fitted(run, "--resume", "--dropout")
    assert status == 2 and "--dropout is True, that of voice.checkpoint.npz False" in err
    assert fitted(run, "--resume")[0] == 0


def interrupt(self, info, flow):
    raise KeyboardInterrupt


# -- refusals ---------------------------------------------------------------------------------------------------------

def silent():
    write(0, np.zeros(4000, np.int16))


def stereo():
    write(0, np.random.default_rng(0).integers(-99, 99, (4000, 2)).astype(np.int16))


def cut():
    content = Path("wavs/0.wav").read_bytes()
    Path("wavs/0.wav").write_bytes(content[:-500])


BAD = {
    "no transcript": (lambda: write("new", tones("ab", np.random.default_rng(0))),
                      "wavs/new.wav has no transcript in table.csv (1 such files)"),
    "no file": (lambda: os.remove("wavs/2.wav"), "there is no file wavs/2.wav, although the table has its transcript"),
    "silence": (silent, "wavs/0.wav is silent: every sample is 0"),
    "rate": (lambda: write(0, tones("abc", np.random.default_rng(0)), 16000),
             "wavs/0.wav must have 22050 samples a second, not 16000"),
    "stereo": (stereo, "wavs/0.wav must have one channel, not 2"),
    "one frame": (lambda: write(0, np.arange(255, dtype=np.int16)), "wavs/0.wav must have more than 512 samples, not 255"),
    "text longer than frames": (lambda: write(4, np.arange(600, dtype=np.int16)), None),
    "longer": (lambda: Path("table.csv").write_text("id,text\n" + "\n".join(f"{n},{'ab' * 40}" for n in range(10))),
               "wavs/0.wav has 16 frames, fewer than the 80 symbols of its text"),
    "cut off": (cut, "wavs/0.wav is cut off: its part 'data' has"),
    "not a WAV file": (lambda: Path("wavs/0.wav").write_text("music"), "wavs/0.wav is not a WAV file: it does not begin with"),
    "table of nothing": (lambda: Path("table.csv").write_text(""), "table.csv has no rows"),
    "table of other columns": (lambda: Path("table.csv").write_text("name,words\n0,abc\n"),
                               "table.csv, line 1: rows must be id|text"),
    "empty text": (lambda: Path("table.csv").write_text("0|abc\n1| \n"), "table.csv, line 2: the text is empty"),
    "bytes": (lambda: Path("table.csv").write_bytes(b"0|a\xff\n"), "table.csv is not text in UTF-8"),
    "a long cell": (lambda: Path("table.csv").write_text("id,text\n0," + "a" * 200_000),
                    "table.csv, line 2: field larger than"),
    "no table": (lambda: os.remove("table.csv"), "table.csv: No such file or directory"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data(run, corpus, name):
    make, words = BAD[name]
    make()
    if words is None:                                       # two symbols fit into two frames
        assert fitted(run, steps=1)[0] == 0
        return
    status, out, err = fitted(run)
    assert status == 2 and not out and err.startswith(f"refflow: {words}") and err.count("\n") == 1, err
    assert not list(Path().glob("voice*"))


OPTIONS = {
    "--model": (("--model", "realnvp"), "wavs is a folder, of speech; a voice is trained by --model glow_tts"),
    "--hidden": (("--hidden", "8,8"), "--hidden: the networks of glow_tts have one width, not 2"),
    "--width": (("--hidden", "7"), "wavs: no voice can be made: "),
    "--levels": (("--levels", 2), "--levels is for tables and images; wavs is a folder, of speech"),
    "--couplings": (("--couplings", 2), "--couplings is for tables and images"),
    "--dequantise": (("--dequantise",), "--dequantise is for tables and images"),
    "--held-out": (("--held-out", "table.csv"), "--held-out is for tables and images"),
    "--header": (("--header",), "--header and --no-header are for tables of numbers, not for speech"),
    "--out": (("--out", "voice.wav"), "--out voice.wav: the name of a flow's file must end in .npz or .json"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_bad_options(run, corpus, name):
    more, words = OPTIONS[name]
    status, out, err = fitted(run, *more)
    assert status == 2 and not out and err.startswith(f"refflow: {words}") and err.count("\n") == 1, err
    assert not list(Path().glob("voice*"))


def test_speech_needs_a_table_and_two_utterances(run, corpus):
    status, _, err = run("fit", "wavs", "--model", "glow_tts", "--out", "voice.npz")
    assert status == 2 and err == "refflow: wavs: --table FILE must name the table of its transcripts\n"
    for n in range(1, 10):
        os.remove(f"wavs/{n}.wav")
    corpus("0|abc\n")
    assert fitted(run)[2] == "refflow: wavs: it holds 1 utterance; a voice needs at least 2\n"


def test_options_of_speech_are_refused_elsewhere(run):
    np.save("rows.npy", np.random.default_rng(0).normal(size=(20, 2)))
    np.save("images.npy", np.zeros((4, 1, 4, 4), np.uint8))
    for data in ("rows.npy", "images.npy"):
        for more in (("--table", "t.csv"), ("--unit", "words"), ("--dropout",), ("--model", "glow_tts")):
            status, _, err = run("fit", data, *more, "--out", "f.npz")
            words = " ".join(more) if more[0] == "--model" else more[0]
            assert status == 2 and err == f"refflow: {words} is for speech; {data} is not a folder\n", err
    err = run("fit", "rows.npy", "--layers", 1, "--out", "f.npz")[2]
    assert "the model gaussian has no --layers; models with it are " in err and "maf" in err
    err = run("fit", "images.npy", "--model", "glow", "--layers", 1, "--out", "f.npz")[2]
    assert "--layers: the model glow of images has no such option" in err


def test_what_cannot_be_said(run, corpus, capsys):
    assert fitted(run)[0] == 0
    for text, more, words in (
            ("", (), "the text is empty"),
            ("abe", (), "the text: unknown symbol 'e' at position 2; known: 'a' 'b' 'c' 'd'"),
            ("abc", ("--speaker", "xx"), "--speaker: there is no speaker 'xx'; did you mean x?"),
            ("abc", ("--speaker", "q"), "--speaker: there is no speaker 'q'; there are x, y"),
            ("a", ("--length-scale", 1e-9), "voice.npz cannot say this: "),
            ("abc", ("--noise-scale", 1e9), "voice.npz cannot say this: ")):
        status, out, err = spoken(run, text, *more)
        assert status == 2 and not out and err.startswith(f"refflow: {words}") and err.count("\n") == 1, err
    for more in (("--length-scale", 0), ("--length-scale", 1000), ("--noise-scale", -1), ("--noise-scale", "inf")):
        with pytest.raises(SystemExit) as ended:
            spoken(run, "abc", *more)
        assert ended.value.code == 2
    capsys.readouterr()
    status, _, err = run("speak", "voice.npz", "abc", "--out", "speech.mp3")
    assert status == 2 and err == "refflow: --out speech.mp3: the name of the audio must end in .wav\n"
    assert not list(Path().glob("*.wav"))


def test_speech_is_not_written_over(run, corpus):
    assert fitted(run)[0] == 0
    Path("speech.wav").write_text("mine")
    assert spoken(run) == (2, "", "refflow: speech.wav exists; --force writes over it\n")
    assert Path("speech.wav").read_text() == "mine"
    assert spoken(run, "abc", "--force")[0] == 0 and read_wav("speech.wav", RATE).size


def test_another_file_that_has_come_into_being(run, corpus, monkeypatch):
    assert fitted(run)[0] == 0
    link = os.link

    def late(new, path):
        if Path(path).name == "speech.wav":
            Path(path).write_text("theirs")
        link(new, path)

    monkeypatch.setattr(os, "link", late)
    status, out, err = spoken(run)
    assert status == 0 and Path("speech.wav").read_text() == "theirs" and out.startswith("speech-2.wav: ")
    assert "speech.wav has come into being meanwhile" in err


@pytest.mark.parametrize("level", [5.0, -100.0])
def test_loud_and_quiet_speech(run, corpus, monkeypatch, level):
    """Loud audio is divided by its largest sample; what is below the floor of spectrograms is silence, not an error."""
    assert fitted(run, steps=0)[0] == 0
    infer = GlowTTS.infer
    monkeypatch.setattr(GlowTTS, "infer", lambda self, *given: infer(self, *given)._replace(
        mel=np.full((1, 80, 20), level, np.float32)))
    status, _, err = spoken(run, "abcd")
    peak = np.abs(read_wav("speech.wav")).max()
    assert status == 0
    if level > 0:
        assert err.startswith("refflow: speech.wav: the audio is divided by its largest sample, ") and peak > 0.999
    else:
        assert not err and peak < 1e-3


def test_what_is_not_a_voice(run, corpus):
    assert fitted(run)[0] == 0
    voice, note = read("voice.npz")
    words = "it holds no voice that `refflow fit` has trained on speech"
    speech = note["speech"]
    for wrong in (None, {}, {"speech": 3}, {"speech": speech | {"symbols": ["a"]}}, {"speech": speech | {"speakers": ["x"]}},
                  {"speech": speech | {"unit": "bars"}}, {"speech": speech | {"mel": {"hop": -1}}},
                  {"speech": speech | {"mel": {"hops": 3}}}, {"speech": speech | {"mel": speech["mel"] | {"mels": 40}}}):
        save(voice, "other.npz", wrong)
        assert run("speak", "other.npz", "abc", "--out", "s.wav") == (2, "", f"refflow: other.npz: {words}\n"), wrong
    save(Flow(Affine(np.zeros(2), 1.0), StandardNormal(2)), "flow.npz")
    assert run("speak", "flow.npz", "abc", "--out", "s.wav") == (2, "", f"refflow: flow.npz: {words}\n")
    assert run("speak", "none.npz", "abc", "--out", "s.wav") == (2, "", "refflow: there is no file none.npz\n")
    Path("cut.npz").write_bytes(Path("voice.npz").read_bytes()[:-99])
    assert "it is not a .npz file, or a damaged one" in run("speak", "cut.npz", "abc", "--out", "s.wav")[2]
    assert not list(Path().glob("*.wav"))


def test_a_voice_is_not_a_density(run, corpus):
    assert fitted(run)[0] == 0
    np.save("rows.npy", np.zeros((3, 2)))
    commands = [("sample", "voice.npz"), ("score", "voice.npz", "rows.npy")]
    if importlib.util.find_spec("matplotlib"):
        commands.append(("plot", "voice.npz", "--what", "density", "--out", "p.png"))
    for command in commands:
        assert run(*command) == (2, "", "refflow: voice.npz: it holds a voice, with which `refflow speak` says texts\n")


def test_a_failed_training_keeps_the_best(run, corpus):
    status, out, err = fitted(run, "--learning-rate", 1e30)
    assert status == 1 and "voice.npz holds the best flow so far" in err and isinstance(load("voice.npz"), GlowTTS)


def test_an_alignment_is_drawn(run, corpus):
    """Of an utterance and of a text that is spoken; what it cannot be drawn of is refused."""
    pytest.importorskip("matplotlib")
    fitted(run, steps=4)
    status, out, err = run("plot", "voice.npz", "wavs", "--table", "table.csv", "--what", "alignment", "--row", 4, "--out", "a.png")
    assert (status, out, err) == (0, "a.png: alignment of voice.npz\n", "")
    assert run("plot", "voice.npz", "--text", "abc", "--what", "alignment", "--out", "b.svg")[0] == 0
    assert Path("a.png").stat().st_size > 10_000
    for more, words in ((("wavs",), "wavs: --table FILE must name the table of its transcripts"),
                        (("wavs", "--table", "table.csv", "--row", 11), "--row 11: table.csv has 10 utterances"),
                        ((), "an alignment needs DATA, a folder of speech with --table, or --text, and not both"),
                        (("--text", "axe"), "the text: unknown symbol 'x' at position 1")):
        status, _, err = run("plot", "voice.npz", *more, "--what", "alignment", "--out", "c.png")
        assert status == 2 and words in err and not Path("c.png").exists()
    save(Flow(Affine(np.zeros(2), 1.0), StandardNormal(2)), "flow.npz")
    assert "it holds no voice" in run("plot", "flow.npz", "--text", "a", "--what", "alignment", "--out", "c.png")[2]
