"""Mel filters and mel spectrograms compared with librosa, which the Glow-TTS authors' code computes them with.

    python -m validation.mel [--json]

librosa is not among refflow's extras: python -m pip install librosa.  Without it the command says so and exits with 0.  A line
for each quantity gives the largest absolute difference in float64; the exit status is 1 if one exceeds ALLOWED.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from refflow.audio import MelSettings, hertz_of, mel_filters, mel_of, mel_spectrogram, spectrogram

ALLOWED = 1e-9
SETTINGS = {"the authors'": MelSettings(), "24000 Hz, 128 mels": MelSettings(24000, 2048, 300, 1200, 128, 20.0, 12000.0)}
INSTALL = "librosa is not installed, so nothing was compared; install it with: python -m pip install librosa"


def audio():
    """Two seconds of a rising tone in noise."""
    t = np.arange(2 * 22050) / 22050
    return 0.4 * np.sin(2 * np.pi * (100 + 2000 * t) * t) + np.random.default_rng(0).uniform(-0.1, 0.1, t.size)


def differences(librosa):
    """{quantity: the largest absolute difference}."""
    f, a, found = np.linspace(0, 11025, 1000), audio(), {}
    found["mel of frequencies"] = np.abs(mel_of(f) - librosa.hz_to_mel(f)).max()
    found["frequencies of mels"] = np.abs(hertz_of(mel_of(f)) - librosa.mel_to_hz(librosa.hz_to_mel(f))).max()
    for name, s in SETTINGS.items():
        B = librosa.filters.mel(sr=s.rate, n_fft=s.frame, n_mels=s.mels, fmin=s.low, fmax=s.high, dtype=np.float64)
        theirs = librosa.stft(a, n_fft=s.frame, hop_length=s.hop, win_length=s.window, window="hann", center=True,
                              pad_mode="reflect", dtype=np.complex128)
        found[f"filters, {name}"] = np.abs(mel_filters(s) - B).max()
        found[f"spectrogram, {name}"] = np.abs(spectrogram(a, s) - theirs).max()
        mels = np.log(np.maximum(B @ np.abs(theirs), s.floor))
        found[f"mel spectrogram, {name}"] = np.abs(mel_spectrogram(a, s) - mels).max()
    return {name: float(value) for name, value in found.items()}


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m validation.mel", description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    try:
        import librosa
    except ImportError:
        print(INSTALL)
        return 0
    found = differences(librosa)
    lines = [f"librosa {librosa.__version__}"] + [f"{name:<45} {value:.1e}" for name, value in found.items()]
    print(json.dumps({"librosa": librosa.__version__, "allowed": ALLOWED, "differences": found}, indent=1) if options.json
          else "\n".join(lines))
    return int(not all(value <= ALLOWED for value in found.values()))


if __name__ == "__main__":
    raise SystemExit(main())
