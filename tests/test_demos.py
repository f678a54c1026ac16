"""The synthetic corpus of espeak-ng, whose phonemes have known times."""

from __future__ import annotations

import ctypes.util
import subprocess
import sys

import numpy as np
import pytest

from refflow.audio import MelSettings
from refflow.models.alignment import durations
from refflow.speech import read_speech
from validation.demos import espeak


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
    assert set(loudest) <= {"s", "S", "tS", "z", "Z", "dZ"}
