"""WAV files, mel spectrograms, and audio from them."""

from __future__ import annotations

import io
import json
import struct
import sys
import wave

import numpy as np
import pytest
import scipy.io.wavfile
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st

from refflow import audio
from refflow.audio import (MelSettings, audio_of, hertz_of, magnitudes_of, mel_filters, mel_of, mel_spectrogram, nearest_audio,
                           read_wav, spectrogram, with_noise, write_wav)
from refflow.laws.pages import equations
from validation import mel as command

RATE = 22050
SMALL = MelSettings(rate=8000, frame=256, hop=64, window=200, mels=20, high=4000.0)


def tone(count=4000, rate=RATE, hertz=440.0):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(count) / rate)


def test_every_equation_is_cited():
    assert equations(audio) == []


# -- files ------------------------------------------------------------------------------------------------------------

@given(st.lists(st.integers(-2**15, 2**15 - 1), min_size=2, max_size=50).filter(lambda k: len(set(k)) > 1))
def test_int16_comes_back_exactly(tmp_path_factory, k):
    path = tmp_path_factory.getbasetemp() / "exact.wav"
    write_wav(path, np.array(k) / 2**15, RATE)
    assert (read_wav(path, RATE) * 2**15 == k).all()
    with wave.open(str(path)) as file:                      # another reader
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        assert np.frombuffer(file.readframes(len(k)), "<i2").tolist() == k


def test_the_ends_of_the_range(tmp_path):
    write_wav(tmp_path / "a.wav", np.array([1.0, -1.0, 0.25, 0.6 / 2**15]), RATE)
    assert read_wav(tmp_path / "a.wav").tolist() == [1 - 2.0**-15, -1.0, 0.25, 2.0**-15]


@pytest.mark.parametrize("dtype, scale, shift", [(np.uint8, 128, 128), (np.int16, 2**15, 0), (np.int32, 2**31, 0),
                                                 (np.float32, 1, 0), (np.float64, 1, 0)])
def test_formats(tmp_path, dtype, scale, shift):
    wanted = np.array([0.5, -0.25, 0.0, -1.0])
    scipy.io.wavfile.write(tmp_path / "a.wav", RATE, (wanted * scale + shift).astype(dtype))
    found = read_wav(tmp_path / "a.wav")
    assert found.dtype == np.float64 and (found == wanted).all()


def test_24_bits(tmp_path):
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1), file.setsampwidth(3), file.setframerate(RATE)
        file.writeframes(bytes([0, 0, 0x40, 0, 0, 0xC0]))
    assert read_wav(tmp_path / "a.wav").tolist() == [0.5, -0.5]


def content(samples, rate=RATE):
    file = io.BytesIO()
    scipy.io.wavfile.write(file, rate, samples)
    return file.getvalue()


INT16 = (tone() * 2**15).astype(np.int16)
GOOD = content(INT16)


def test_other_chunks_are_skipped(tmp_path):
    body = GOOD[12:36] + b"junk" + struct.pack("<I", 3) + b"abc\0" + GOOD[36:]
    (tmp_path / "a.wav").write_bytes(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body)
    assert (read_wav(tmp_path / "a.wav") * 2**15 == INT16).all()


BAD = {
    "one sample less": (GOOD[:-2], "is cut off: its part 'data' has 8000 bytes, but the file holds 7998"),
    "an odd byte less": (GOOD[:-1], "is cut off: its part 'data' has 8000 bytes, but the file holds 7999"),
    "no samples": (GOOD[:36], "is cut off: it ends before its samples begin"),
    "half a header": (GOOD[:20], "is cut off: its part 'fmt ' has 16 bytes, but the file holds 0"),
    "empty": (b"", "is not a WAV file: it does not begin with RIFF and WAVE"),
    "text": (b"id|text\n" * 9, "is not a WAV file"),
    "stereo": (content(np.stack([INT16, INT16], 1)), "must have one channel, not 2"),
    "another rate": (content(INT16, 16000), "must have 22050 samples a second, not 16000"),
    "silence": (content(0 * INT16), "is silent: every sample is 0"),
    "a constant": (content(0 * INT16 + 2**14), "is silent: every sample is 0.5"),
    "one frame": (content(INT16[:1]), "must have at least 2 samples, not 1"),
    "no frame": (content(INT16[:0]), "must have at least 2 samples, not 0"),
    "loud floats": (content(np.array([0, 0.5, 1.5], np.float32)), r"samples must be in \[-1, 1\]; sample 2 is 1.5"),
    "NaN": (content(np.array([0, np.nan], np.float32)), r"samples must be in \[-1, 1\]; sample 1 is nan"),
    "a format that SciPy cannot read": (GOOD[:20] + b"\x55\0" + GOOD[22:], "is not a WAV file of samples"),
    "64 bits": (content(np.array([1, 2], np.int64)), "must hold integers of 8, 16, 24 or 32 bits or floats, not int64"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files(tmp_path, kind):
    made, message = BAD[kind]
    (tmp_path / "bad.wav").write_bytes(made)
    with pytest.raises(ValueError, match=rf"^read_wav: {tmp_path}/bad.wav {message}"
                       if "samples must be" not in message else rf"^read_wav: {tmp_path}/bad.wav: {message}"):
        read_wav(tmp_path / "bad.wav", RATE)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0, 100))
def test_damaged_files_are_read_or_refused(tmp_path_factory, changes, less):
    damaged = bytearray(GOOD[:len(GOOD) - less])
    for at, byte in changes:
        damaged[at] = byte
    path = tmp_path_factory.getbasetemp() / "damaged.wav"
    path.write_bytes(damaged)
    try:
        assert (np.abs(read_wav(path)) <= 1).all()
    except ValueError as error:
        assert str(path) in str(error)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_wav(tmp_path / "none.wav")


@pytest.mark.parametrize("given, message", [
    ([0.0, 1.5], r"write_wav: audio: samples must be in \[-1, 1\]; sample 1 is 1.5"),
    ([np.nan], "sample 0 is nan"), ([[0.0]], r"must be one row of samples, not of shape \(1, 1\)"), ([], "must be one row")])
def test_bad_audio_is_not_written(tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        write_wav(tmp_path / "a.wav", np.array(given, float), RATE)
    assert not list(tmp_path.iterdir())


def test_noise():
    a = np.round(tone() * 2**15) / 2**15
    noisy = with_noise(a, np.random.default_rng(0))
    assert (np.floor(noisy * 2**15) == a * 2**15).all() and 0.48 < ((noisy - a) * 2**15).mean() < 0.52
    assert (noisy == with_noise(a, np.random.default_rng(0))).all() and with_noise(a.astype(np.float32),
                                                                                  np.random.default_rng(0)).dtype == np.float32


# -- spectrograms -----------------------------------------------------------------------------------------------------

def test_the_scale():
    """Numbers of Slaney's scale, as librosa's documentation has them."""
    np.testing.assert_allclose(mel_of([60, 110, 220, 440]), [0.9, 1.65, 3.3, 6.6], rtol=1e-12)
    np.testing.assert_allclose(hertz_of([1, 2, 3, 4, 5]), [66.667, 133.333, 200, 266.667, 333.333], atol=5e-4)
    assert mel_of([1000, 6400]).tolist() == [15, 42] and hertz_of(42) == pytest.approx(6400)
    f = np.linspace(0, 11025, 100)
    np.testing.assert_allclose(hertz_of(mel_of(f)), f, rtol=1e-13)
    published = [0, 85.317, 170.635, 255.952, 341.269, 426.586, 511.904, 597.221, 682.538, 767.855, 853.173, 938.49]
    np.testing.assert_allclose(hertz_of(np.linspace(0, mel_of(11025), 40))[:12], published, atol=5e-4)


def test_the_filters():
    B, settings = mel_filters(), MelSettings()
    edges = hertz_of(np.linspace(0, mel_of(8000), 82))
    f = np.arange(513) * 22050 / 1024
    assert B.shape == (80, 513) and (B >= 0).all() and B.any(1).all()
    for m in range(80):
        inside = (f > edges[m]) & (f < edges[m + 2])
        assert (B[m, inside] > 0).all() and (B[m, ~inside] == 0).all()
        assert B[m].max() <= 2 / (edges[m + 2] - edges[m])
    fine = mel_filters(MelSettings(frame=2**17, window=1024))
    np.testing.assert_allclose(fine.sum(1) * settings.rate / 2**17, 1, rtol=1e-4)       # triangles of area 1 Hz
    between = (f >= edges[1]) & (f <= edges[-2])
    triangles = B * (edges[2:] - edges[:-2])[:, None] / 2
    np.testing.assert_allclose(triangles[:, between].sum(0), 1, rtol=1e-12)             # neighbours add up to 1


@pytest.mark.parametrize("settings", [MelSettings(), SMALL, MelSettings(window=512)], ids=["authors", "small", "window"])
def test_the_spectrogram_frame_by_frame(settings):
    """With SciPy's window; and one number as a sum of exponentials."""
    N, H, a = settings.frame, settings.hop, np.random.default_rng(0).uniform(-1, 1, 3000)
    w = np.pad(scipy.signal.get_window("hann", settings.window), (N - settings.window) // 2)
    padded, s = np.pad(a, N // 2, mode="reflect"), spectrogram(a, settings)
    assert s.shape == (1 + N // 2, 1 + 3000 // H)
    for j in range(s.shape[1]):
        np.testing.assert_allclose(s[:, j], np.fft.rfft(padded[j * H:j * H + N] * w), atol=1e-11)
    n = np.arange(N)
    assert s[7, 1] == pytest.approx(sum(w * padded[H:H + N] * np.exp(-2j * np.pi * 7 * n / N)), abs=1e-11)


def test_a_tone_is_where_it_belongs():
    for hertz in (300.0, 1000.0, 5000.0):
        mel = mel_spectrogram(tone(8000, hertz=hertz))
        assert mel.shape == (80, 32)
        centres = hertz_of(np.linspace(0, mel_of(8000), 82))[1:-1]
        found = centres[np.argmax(mel[:, 16])]
        assert abs(mel_of(found) - mel_of(hertz)) < mel_of(8000) / 81
    assert mel_spectrogram(tone(8000, hertz=10000.0))[:, 5:-5].max() == pytest.approx(np.log(1e-5), abs=2)


def test_the_floor_and_the_dtype():
    quiet = np.zeros(2000)
    quiet[1000] = 1e-12
    mel = mel_spectrogram(quiet)
    assert (mel == np.log(1e-5)).all()
    single = mel_spectrogram(tone().astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, mel_spectrogram(tone()), atol=2e-3)


@pytest.mark.parametrize("count", [1, 2, 512])
def test_short_audio_is_refused(count):
    with pytest.raises(ValueError, match=f"spectrogram: audio must have more than frame / 2 = 512 samples, not {count}"):
        mel_spectrogram(tone(count))
    assert mel_spectrogram(tone(513)).shape == (80, 3)


@pytest.mark.parametrize("given, message", [
    ({"rate": 0}, "rate must be an int >= 1, not 0"), ({"mels": 2.0}, "mels must be an int >= 1, not 2.0"),
    ({"frame": 1023}, "frame must be even, not 1023"), ({"window": 2048}, "window must be at most frame = 1024, not 2048"),
    ({"hop": 600}, "hop must be at most window / 2 = 512, not 600"),
    ({"high": 12000.0}, "0 <= low < high <= rate / 2 = 11025 must hold"), ({"low": np.nan}, "0 <= low < high"),
    ({"floor": 0.0}, "floor must be positive")])
def test_bad_settings(given, message):
    with pytest.raises(ValueError, match=message):
        MelSettings(**given)


# -- back to audio ----------------------------------------------------------------------------------------------------

def test_the_nearest_audio_of_a_spectrogram_is_the_audio():
    a = np.random.default_rng(0).uniform(-1, 1, 64 * 40)
    for settings in (SMALL, MelSettings(rate=8000, frame=256, hop=64, window=256, high=4000.0)):
        np.testing.assert_allclose(nearest_audio(spectrogram(a, settings), settings), a, atol=1e-13)


def test_magnitudes_have_the_mels():
    mel = mel_spectrogram(tone(8000))
    g = magnitudes_of(mel)
    y, found = np.exp(mel), mel_filters() @ g
    assert (g >= 0).all() and np.linalg.norm(found - y) < 0.02 * np.linalg.norm(y)
    errors = [np.linalg.norm(mel_filters() @ magnitudes_of(mel, steps=steps) - y) for steps in (1, 10, 100)]
    assert errors == sorted(errors, reverse=True)


def test_audio_has_the_mels():
    rng = np.random.default_rng(0)
    a = 0.3 * tone(64 * 60, 8000, 300.0) + 0.2 * scipy.signal.chirp(np.arange(64 * 60) / 8000, 500, 0.5, 2000)
    mel = mel_spectrogram(a, SMALL)

    def distance(steps):
        made = audio_of(mel, np.random.default_rng(1), SMALL, steps)
        assert made.shape == a.shape and np.isfinite(made).all()
        return np.abs(np.exp(mel_spectrogram(made / max(1, np.abs(made).max()), SMALL)) - np.exp(mel)).mean()

    assert distance(40) < 0.4 * distance(0)
    again = [audio_of(mel, np.random.default_rng(seed), SMALL, 2) for seed in (3, 3, 4)]
    assert (again[0] == again[1]).all() and not (again[0] == again[2]).all()
    assert audio_of(mel.astype(np.float32), rng, SMALL, 2).dtype == np.float32


@pytest.mark.parametrize("mel, message", [
    (np.zeros((79, 9)), r"magnitudes_of: mel must be of shape \(80, frames\), not \(79, 9\)"),
    (np.full((80, 9), np.nan), r"magnitudes_of: mel must be in \[-177.4, 177.4\]; mel\[0, 0\] is nan"),
    (np.full((80, 9), 1e3), r"mel\[0, 0\] is 1000.0"),
    (np.zeros((80, 3)), r"audio_of: mel must have more than frame / \(2 hop\) \+ 1 = 3 frames, not 3")])
def test_bad_mels(mel, message):
    with pytest.raises(ValueError, match=message):
        audio_of(mel, np.random.default_rng(0))


# -- librosa ----------------------------------------------------------------------------------------------------------

def test_the_command_says_how_to_install_librosa(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "librosa", None)
    assert command.main([]) == 0 and capsys.readouterr().out == command.INSTALL + "\n"


def test_librosa_agrees(capsys, monkeypatch):
    pytest.importorskip("librosa")
    assert command.main(["--json"]) == 0 and len(json.loads(capsys.readouterr().out)["differences"]) == 8
    monkeypatch.setattr(command, "mel_filters", lambda settings: mel_filters(settings) * (1 + 1e-6))
    assert command.main([]) == 1
