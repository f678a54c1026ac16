"""The demonstrations: a voice whose phonemes have known times; a posterior on sets; four energies; digits given their class."""

from __future__ import annotations

import ctypes.util
import subprocess
import sys

import numpy as np
import pytest

import refflow
from refflow.audio import MelSettings
from refflow.data import load_data, load_images
from refflow.models.alignment import durations
from refflow.models.glow_tts import Speech
from refflow.speech import read_speech
from refflow.energies import ENERGIES
from refflow.models import planar
from validation.demos import classes, energies, espeak, posterior, speech


def installed():
    if ctypes.util.find_library("espeak-ng") is None:
        pytest.skip(espeak.INSTALL)


def test_the_command_says_how_to_install_it(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    assert espeak.main([str(tmp_path / "corpus")]) == 2 and capsys.readouterr().out == espeak.INSTALL + "\n"
    assert not list(tmp_path.iterdir())


def test_sentences():
    made = espeak.sentences(np.random.default_rng(0), 300)
    assert len(set(made)) == 300 and made == espeak.sentences(np.random.default_rng(0), 300)
    assert made[:200] == espeak.sentences(np.random.default_rng(0), 200) != espeak.sentences(np.random.default_rng(1), 200)


def test_symbols_and_their_times():
    events = [("_:", 100), ("'O:", 150), ("l", 300), ("_", 400), ("_:", 450), (",aU", 500), ("_:", 700), ("_", 800)]
    assert espeak.timed_symbols(events) == (["_", "O:", "l", "_", "aU", "_"], [0, 150, 300, 400, 500, 700])
    with pytest.raises(RuntimeError, match="has not said where the last phoneme ends"):
        espeak.timed_symbols(events[:3])


def test_true_paths_and_errors():
    path = espeak.true_path(np.array([0, 150, 180, 420]), 6, 100)
    assert path.any(0).all() and durations(path).tolist() == [2, 0, 3, 1]
    path = espeak.true_path(np.array([0, 150, 350]), 6, 100)
    assert espeak.boundary_errors(path, np.array([0, 150, 350]), 100).tolist() == [0, 0]
    assert espeak.boundary_errors(path, np.array([0, 50, 370]), 100).tolist() == [100, -20]


def test_the_corpus(tmp_path):
    """It is read, is the same again, and the times are right: hissing phonemes hiss where they are said to."""
    installed()
    folder = tmp_path / "corpus"
    for where in (folder, tmp_path / "again"):
        command = [sys.executable, "-m", "validation.demos.espeak", str(where), "--sentences", "12"]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"12 sentences in {where}\n"
    names = sorted(path.relative_to(folder) for path in folder.rglob("*.*"))
    assert len(names) == 14 and all((folder / n).read_bytes() == (tmp_path / "again" / n).read_bytes() for n in names)
    corpus = read_speech(folder / "wavs", folder / "table.csv", unit="words", multiple=2)
    assert corpus.speakers == tuple(sorted(espeak.VOICES)) and {"_", "s", "z", "i:"} <= set(corpus.symbols)
    times, hop, hiss = espeak.read_times(folder / "times.csv"), MelSettings().hop, {}
    for u in corpus.utterances:
        starts = times[u.name]
        assert len(starts) == len(u.tokens) and (np.diff(starts) > 0).all() and starts[-1] < u.mel.shape[1] * hop
        path = espeak.true_path(starts, u.mel.shape[1], hop)
        for i, symbol in enumerate(u.tokens):
            hiss.setdefault(corpus.symbols[symbol], []).append((u.mel[60:, path[i]] - u.mel[:20, path[i]]).mean())
    loudest = sorted(hiss, key=lambda symbol: np.mean(hiss[symbol]))[-4:]
    assert set(loudest) <= {"s", "S", "tS", "z", "Z", "dZ", "T"}


# -- the voice --------------------------------------------------------------------------------------------------------

def test_the_voice_says_how_to_install_it(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    assert speech.main(["--out", str(tmp_path / "voice")]) == 0 and capsys.readouterr().out == espeak.INSTALL + "\n"
    assert not list(tmp_path.iterdir())


def test_the_voice_runs(tmp_path, monkeypatch, capsys):
    """A tiny model, which learns nothing: everything is written, and measuring again gives the same numbers."""
    installed()
    pytest.importorskip("matplotlib")
    readme, picture = tmp_path / "README.md", tmp_path / "speech.png"
    readme.write_text(f"before\n{speech.BEGIN}old\n{speech.END}after\n")
    monkeypatch.setattr(speech, "README", readme)
    monkeypatch.setattr(speech, "PICTURE", picture)
    assert speech.main(["--out", str(tmp_path / "voice"), "--short", "--write"]) == 0
    names = {path.name for path in (tmp_path / "voice").iterdir()}
    assert {"voice.npz", "untrained.npz", "alignment.png", "mel.png", "durations.png", "loss.png", "speech.png"} <= names
    assert len([name for name in names if name.endswith(".wav")]) == speech.SPOKEN
    text = readme.read_text()
    assert text.startswith(f"before\n{speech.BEGIN}24 sentences") and text.endswith(f"{speech.END}after\n")
    assert "old" not in text
    assert text.count("\n| ") == 10 and picture.stat().st_size < 150_000
    assert "$ refflow fit" in capsys.readouterr().out
    assert speech.main(["--out", str(tmp_path / "voice"), "--short", "--measure"]) == 0
    again = capsys.readouterr().out
    assert "$ refflow fit" not in again and text[len("before\n" + speech.BEGIN):-len(speech.END + "after\n")] in again


def test_distances_of_mels():
    """The true mel is at distance 0 from itself, also where the model says every phoneme twice or half as long."""
    true = espeak.true_path(np.array([0, 150, 350, 1000]), 14, 100)
    mel = np.arange(14.0)[true.argmax(0)][None] + np.zeros((3, 1))
    assert (speech.distance(mel, mel) == 0).all() and speech.distance(mel + 1, mel) == pytest.approx(20 / np.log(10))
    for times in (1, 2, 0.5):
        d = np.maximum(np.rint(durations(true) * times), 1).astype(int)
        made = Speech(np.repeat(np.arange(4.0), d)[None, None] + np.zeros((3, 1)), None, None, d[None], None, None)
        assert (speech.distance(speech.warped(made, true), mel) == 0).all()
    made = Speech(mel[None, :, ::-1], None, None, durations(true)[None], None, None)
    assert speech.distance(speech.warped(made, true), mel).max() > 1


def test_what_has_not_learned_fails():
    rows = {"alignment, mean (ms)": {"trained": 20, "untrained": 300, "equal durations": 57},
            "duration (ms)": {"trained": 15, "mean duration": 30},
            "mel, true durations, temperature 0 (dB)": {"trained": 8, "mean mel": 17}}
    assert speech.failures(rows) == []
    for name, word in zip(rows, ("alignment", "duration", "mel")):
        worse = rows | {name: rows[name] | {"trained": 40}}
        assert len(found := speech.failures(worse)) == 1 and found[0].startswith(word)


def test_corpora_of_other_numbers_have_no_sentence_in_common(tmp_path):
    installed()
    espeak.write_corpus(tmp_path / "a", 5)
    espeak.write_corpus(tmp_path / "b", 4, first=5)
    rows = {name: (tmp_path / name / "table.csv").read_text().splitlines()[1:] for name in "ab"}
    words = {name: {row.split(",")[-1] for row in rows[name]} for name in rows}
    assert len(words["a"]) == 5 and len(words["b"]) == 4 and not words["a"] & words["b"]
    assert [row.split(",")[:2] for row in rows["b"][:2]] == [["0005", espeak.VOICES[0]], ["0006", espeak.VOICES[1]]]
    assert sorted(path.name for path in (tmp_path / "b" / "wavs").iterdir()) == [f"000{n}.wav" for n in range(5, 9)]


# -- a posterior on sets ------------------------------------------------------------------------------------------------

def test_the_posterior_has_numpyros_density_and_gradient():
    """At the free vectors that NumPyro was asked at, to 4 roundings times the condition number of the covariance that is inverted."""
    given = posterior.recorded()
    y, (values, gradients) = np.array(given["points"]), map(np.array, zip(*given["answers"]))
    found, slopes = posterior.log_posterior_vjp(y)
    room = 4 * 2.0**-53 * np.linalg.cond(posterior.members(y)[0])
    assert len(found) == 8 and (np.abs(found - values) <= room * np.abs(values)).all()
    assert (np.abs(slopes - gradients).max(-1) <= room * np.abs(gradients).max(-1)).all()



def test_a_wrong_volume_of_the_posterior_is_seen(monkeypatch):
    """TFP's bijector onto the simplex counts its own volume, and has other free numbers."""
    monkeypatch.setattr(posterior, "TO_SIMPLEX", refflow.biject_to("Dirichlet", np.full(3, 1 / 3), "tfp"))
    given = posterior.recorded()
    values, _ = zip(*given["answers"])
    assert np.abs(posterior.log_posterior_vjp(np.array(given["points"]))[0] - values).min() > 1e-3


def test_samples_of_the_posterior_have_its_means():
    """Chains are independent: their means are within 5 deviations of what theory says."""
    y, accepted = posterior.sampled(np.random.default_rng(0), 100, 40)
    assert accepted > 0.8
    for found, mean in zip(posterior.members(y), posterior.means()):
        assert (np.abs(found.mean(0) - mean) < 5 * found.std(0) / 10).all()


# -- four energies ----------------------------------------------------------------------------------------------------

def test_the_flows_of_the_four_energies_have_learned():
    """What is recorded: more flows are better, the most leave little, and no part of a density is missed."""
    recorded = energies.README.read_text(encoding="utf-8").split(energies.BEGIN)[1].split(energies.END)[0]
    found = energies.read_table(recorded)
    assert list(found) == list(ENERGIES) and all(list(row) == list(energies.LAYERS) for row in found.values())
    assert energies.failures(found) == [] and energies.table(found) == recorded and energies.PICTURE.stat().st_size < 300_000


def test_flows_that_have_not_learned_fail():
    """A gap that does not fall, one that is large, one below 0, a mode that is missed."""
    good = {"u1": {2: {"gap": 0.8, "error": 0.01, "covered": 0.9}, 8: {"gap": 0.2, "error": 0.01, "covered": 0.9},
                   32: {"gap": 0.05, "error": 0.01, "covered": 0.9}}}
    assert energies.failures(good) == []
    for layers, worse, words in ((8, {"gap": 0.78}, "the gap of 8 flows, 0.780 nats, is not below that of 2"),
                                 (32, {"gap": 0.3}, "of 32 flows, 0.300 nats, is not below that of 8"),
                                 (32, {"gap": -0.2}, "-0.200 nats, not from 0"),
                                 (32, {"covered": 0.1}, "32 flows cover 0.10")):
        assert any(words in line for line in energies.failures({"u1": good["u1"] | {layers: good["u1"][layers] | worse}}))


def test_a_gap_is_a_divergence():
    """Of a flow that is N(0, I), against quadrature; a flow that stays on one side covers nothing of the other."""
    flow = planar(np.random.default_rng(0), 2, 1)
    z = energies.grid(9.0, 600)
    log_q = -(z**2).sum(-1) / 2 - np.log(2 * np.pi)
    moved = flow.replace(bijector={"stages": {"0": {"inner": {"shift": np.array([-9.0, 0.0])}}}})
    for U in ENERGIES.values():
        found = energies.measured(flow, U)
        true = (np.exp(log_q) * (log_q - U.log_density(z) + U.log_integral)).sum() * 0.03**2
        assert abs(found["gap"] - true) < 5 * found["error"] + 0.05 and found["covered"] > 0.3
        assert energies.measured(moved, U)["covered"] == 0


def test_the_four_energies_run(tmp_path, monkeypatch, capsys):
    """Few steps, which learn nothing: everything is written, and what is trained is not trained again."""
    pytest.importorskip("matplotlib")
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{energies.BEGIN}old\n{energies.END}after\n")
    for name, value in (("README", readme), ("PICTURE", tmp_path / "energies.png"), ("LAYERS", (1, 2)), ("SAMPLES", 500),
                        ("GRID", 20), ("SHORT", 2), ("SEEDS", (0, 1))):
        monkeypatch.setattr(energies, name, value)
    assert energies.main(["--out", str(tmp_path / "flows"), "--short", "--write"]) == 0
    assert capsys.readouterr().out.count("$ refflow fit --energy") == 16 and (tmp_path / "energies.png").stat().st_size > 0
    text = readme.read_text()
    assert text.startswith(f"before\n{energies.BEGIN}| energy | gap, 1 flows") and "old" not in text and text.count("\n| u") == 4
    assert energies.main(["--out", str(tmp_path / "flows"), "--short"]) == 0 and "$" not in capsys.readouterr().out


# -- digits given their class -------------------------------------------------------------------------------------------

GOOD = {"bits": {"given": 2.04, "free": 2.2, "gaussian": 3.0}, "right": {0: 0.8, 0.5: 0.9, 1: 0.94, 2: 0.9}, "judges": 0.99}


def test_judges_see_the_class_and_what_is_not_of_it():
    """Real images, moved by one grey value, have their class; of the next class they do not."""
    pytest.importorskip("sklearn")
    images, labels = load_images("digit_images"), load_data("digits").labels
    assert (classes.judged(images, images, labels, themselves=True) == labels).mean() > 0.98
    moved = np.stack([np.clip(images[labels == c][:20, 0].astype(int) + 1, 0, 16) for c in range(10)])
    assert classes.right(moved, images, labels) > 0.98
    assert classes.right(np.roll(moved, 1, 0), images, labels) < 0.02
    assert classes.right(np.full_like(moved, 8), images, labels) == 0.1                # all the same


@pytest.mark.parametrize("wrong, words", [
    ({}, None), ({"bits": {"given": 2.6, "free": 2.7}}, "2.600 bits/dim, more than 2.5"),
    ({"bits": {"given": 2.3, "free": 2.2}}, "and without it 2.200"),
    ({"right": {0: 0.9, 1: 0.92}}, "with guidance 0.920 of the samples are right"),
])
def test_a_class_or_guidance_that_does_not_help_fails(wrong, words):
    found = classes.failures(GOOD | wrong)
    assert found == [] if words is None else len(found) == 1 and words in found[0]


def test_digits_given_their_class_run(tmp_path, monkeypatch, capsys):
    """Few steps, which learn nothing: everything is written, and what is trained is not trained again."""
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{classes.BEGIN}old\n{classes.END}after\n")
    for name, value in (("README", readme), ("PICTURE", tmp_path / "classes.png"), ("SHORT", 1), ("SAMPLES", 2), ("WEIGHTS", (0, 1))):
        monkeypatch.setattr(classes, name, value)
    assert classes.main(["--out", str(tmp_path / "flows"), "--short", "--write"]) == 0
    assert capsys.readouterr().out.count("$ refflow fit") == 2 and (tmp_path / "classes.png").stat().st_size > 0
    text = readme.read_text()
    assert text.startswith(f"before\n{classes.BEGIN}|  | bits/dim") and "old" not in text and text.endswith(f"{classes.END}after\n")
    assert classes.main(["--out", str(tmp_path / "flows"), "--short"]) == 0 and "$ refflow fit" not in capsys.readouterr().out
