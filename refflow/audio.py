r"""Audio: WAV files, the mel spectrograms of the Glow-TTS authors, and back to audio (Griffin & Lim 1984).

Samples `a` are numbers in `[-1, 1]`; a file holds them as int16,
    a = k / 2^15,   k = -2^15, ..., 2^15 - 1                                        (1)
and noise that the authors add in training, with u uniform on `[0, 1)` for each sample, is
    a <- a + u / 2^15                                                               (2)
A spectrogram has frames of `N` samples, `H` apart.  The audio is reflected at its ends by `N/2` samples, so that frame `j` is
centred at sample `j H`; `w` is the periodic Hann window of `L` samples in the middle of the `N`,
    w_n = sin^2 (pi n / L)                                                          (3)
    s_kj = sum_n w_n a_(j H + n - N/2) exp(-2 pi i k n / N),   k = 0, ..., N/2      (4)
Slaney's mel scale is linear up to 1000 Hz, then logarithmic:
    mel(f) = 3 f / 200                              for f < 1000                    (5)
           = 15 + 27 log(f / 1000) / log 6.4        for f >= 1000                   (6)
With `M + 2` frequencies `f_0, ..., f_(M+1)` at equal mels, filter `m` is a triangle of area 1 Hz, at `f = k R / N` for `R`
samples a second:
    t_mk = max(0, min((f - f_m) / (f_(m+1) - f_m), (f_(m+2) - f) / (f_(m+2) - f_(m+1))))    (7)
    B_mk = 2 t_mk / (f_(m+2) - f_m)                                                 (8)
    mel_mj = log max(sum_k B_mk |s_kj|, floor)                                      (9)

Back to audio: magnitudes `g >= 0` with `B g = y`, `y = exp(mel)`, by multiplicative steps; no step enlarges
`||B g - y||` (Lee & Seung 2001),
    g <- g (B^T y) / (B^T B g)                                                      (10)
and from random phases, steps between the nearest audio of a complex spectrogram and the magnitudes:
    a_n = sum_j w_(n - j H) x_(j,n - j H) / sum_j w_(n - j H)^2,   x_j = the frame with spectrum s_j    (11)
    s <- g s' / |s'|,   s' = the spectrogram (4) of a                               (12)
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy

from .core.arrays import as_floating
from .saving import write_atomically

HALF = 2**15                                                                        # (1)
WHOLE = {"B": (128, 128), "h": (0, HALF), "i": (0, 2**31)}       # (offset, scale) of the integer formats of a file


@dataclass(frozen=True)
class MelSettings:
    """Of a mel spectrogram: the authors', which are Tacotron 2's.

    `rate`: samples a second; `frame`: N; `hop`: H; `window`: L; `mels`: M; `low`, `high`: f_0 and f_(M+1), in Hz; `floor`.
    """

    rate: int = 22050
    frame: int = 1024
    hop: int = 256
    window: int = 1024
    mels: int = 80
    low: float = 0.0
    high: float = 8000.0
    floor: float = 1e-5

    def __post_init__(self):
        for key in ("rate", "frame", "hop", "window", "mels"):
            given = getattr(self, key)
            if isinstance(given, bool) or not isinstance(given, (int, np.integer)) or given < 1:
                raise ValueError(f"MelSettings: {key} must be an int >= 1, not {given!r}")
        if self.frame % 2:
            raise ValueError(f"MelSettings: frame must be even, not {self.frame}")
        if self.window > self.frame:
            raise ValueError(f"MelSettings: window must be at most frame = {self.frame}, not {self.window}")
        if 2 * self.hop > self.window:
            raise ValueError(f"MelSettings: hop must be at most window / 2 = {self.window / 2:g}, not {self.hop}")
        if not 0 <= self.low < self.high <= self.rate / 2:
            raise ValueError(f"MelSettings: 0 <= low < high <= rate / 2 = {self.rate / 2:g} must hold, not low = {self.low!r}, "
                             f"high = {self.high!r}")
        if not 0 < self.floor < np.inf:
            raise ValueError(f"MelSettings: floor must be positive and finite, not {self.floor!r}")


# -- files ------------------------------------------------------------------------------------------------------------

def read_wav(path, rate=None) -> np.ndarray:
    """The samples of a WAV file with one channel, float64 in [-1, 1]; of integer formats (1), or as it says in `WHOLE`.

    ValueError, naming the file, for one that is cut off or not a WAV file, for another rate than `rate` samples a second, more
    than one channel, less than two samples, silence (all samples equal), and floats that are not in [-1, 1].
    """
    content = Path(path).read_bytes()
    refuse_cut(path, content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", scipy.io.wavfile.WavFileWarning)        # of chunks that hold no samples
            own_rate, samples = scipy.io.wavfile.read(io.BytesIO(content))
    except Exception as error:                      # SciPy raises many kinds for a damaged header
        raise ValueError(f"read_wav: {path} is not a WAV file of samples: {error}") from None
    if rate is not None and own_rate != rate:
        raise ValueError(f"read_wav: {path} must have {rate} samples a second, not {own_rate}")
    if samples.ndim != 1:
        raise ValueError(f"read_wav: {path} must have one channel, not {samples.shape[1]}")
    if samples.dtype.kind == "f":
        samples = samples.astype(np.float64)
    elif samples.dtype.char in WHOLE:
        offset, scale = WHOLE[samples.dtype.char]
        samples = (samples.astype(np.float64) - offset) / scale                     # (1)
    else:
        raise ValueError(f"read_wav: {path} must hold integers of 8, 16, 24 or 32 bits or floats, not {samples.dtype}")
    if len(samples) < 2:
        raise ValueError(f"read_wav: {path} must have at least 2 samples, not {len(samples)}")
    refuse_samples(f"read_wav: {path}", samples)
    if (samples == samples[0]).all():
        raise ValueError(f"read_wav: {path} is silent: every sample is {samples[0]:g}")
    return samples


def refuse_cut(path, content):
    """A file must be as long as its header says; SciPy returns what is there of one that is cut off."""
    if content[:4] not in (b"RIFF", b"RIFX") or content[8:12] != b"WAVE":
        raise ValueError(f"read_wav: {path} is not a WAV file: it does not begin with RIFF and WAVE")
    order, at = "little" if content[:4] == b"RIFF" else "big", 12
    while at + 8 <= len(content):
        name, size = content[at:at + 4], int.from_bytes(content[at + 4:at + 8], order)
        if name == b"data" or at + 8 + size > len(content):
            if at + 8 + size > len(content):
                raise ValueError(f"read_wav: {path} is cut off: its part {name.decode('latin-1')!r} has {size} bytes, but the "
                                 f"file holds {len(content) - at - 8}")
            return
        at += 8 + size + size % 2
    raise ValueError(f"read_wav: {path} is cut off: it ends before its samples begin")


def write_wav(path, audio, rate, replace=True):
    """Write samples in [-1, 1] as a WAV file with one channel of int16, rounded (1); 1 becomes the largest, 1 - 2^-15.

    With `replace` False an existing file is left unchanged: FileExistsError.
    """
    audio = samples_of("write_wav", audio)
    whole = np.minimum(np.round(audio * HALF), HALF - 1).astype(np.int16)           # (1)
    content = io.BytesIO()
    scipy.io.wavfile.write(content, rate, whole)
    write_atomically(path, content.getvalue(), replace)


def samples_of(name, audio):
    """Checked samples, float32 or float64."""
    audio, _ = as_floating(f"{name}: audio", audio)
    if audio.ndim != 1 or not len(audio):
        raise ValueError(f"{name}: audio must be one row of samples, not of shape {audio.shape}")
    refuse_samples(f"{name}: audio", audio)
    return audio


def refuse_samples(name, audio):
    wrong = ~(np.abs(audio) <= 1)
    if wrong.any():
        n = int(np.argmax(wrong))
        raise ValueError(f"{name}: samples must be in [-1, 1]; sample {n} is {audio[n]}")


def with_noise(audio, rng) -> np.ndarray:
    """The samples with noise in the place of what their rounding to int16 left out, (2), from the Generator `rng`."""
    audio, _ = as_floating("with_noise: audio", audio)
    return audio + rng.random(audio.shape, audio.dtype) / HALF                      # (2)


# -- spectrograms -----------------------------------------------------------------------------------------------------

def window(settings):
    """w, (N,)."""
    hann = np.sin(np.pi * np.arange(settings.window) / settings.window) ** 2        # (3)
    before = (settings.frame - settings.window) // 2
    return np.pad(hann, (before, settings.frame - settings.window - before))


def spectrogram(audio, settings=MelSettings()) -> np.ndarray:
    """s, complex of (1 + N/2, frames), with 1 + len(audio) // H frames; there must be more than N/2 samples to reflect."""
    audio, half = samples_of("spectrogram", audio), settings.frame // 2
    if len(audio) <= half:
        raise ValueError(f"spectrogram: audio must have more than frame / 2 = {half} samples, not {len(audio)}")
    return spectra(audio, settings)


def spectra(audio, settings):
    padded = np.pad(audio, settings.frame // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, settings.frame)[::settings.hop]
    return scipy.fft.rfft(frames * window(settings).astype(audio.dtype), axis=-1).T         # (4)


def mel_of(hertz):
    """Slaney's mel of frequencies in Hz."""
    f = np.asarray(hertz, np.float64)
    return np.where(f < 1000, 3 * f / 200, 15 + 27 * np.log(np.maximum(f, 1000) / 1000) / np.log(6.4))      # (5) (6)


def hertz_of(mel):
    """The frequency in Hz of Slaney's mels."""
    mel = np.asarray(mel, np.float64)
    return np.where(mel < 15, 200 * mel / 3, 1000 * np.exp((np.maximum(mel, 15) - 15) * np.log(6.4) / 27))  # (5) (6)


def mel_filters(settings=MelSettings()) -> np.ndarray:
    """B, (M, 1 + N/2)."""
    edges = hertz_of(np.linspace(mel_of(settings.low), mel_of(settings.high), settings.mels + 2))
    f = np.arange(1 + settings.frame // 2) * settings.rate / settings.frame
    f_low, f_middle, f_high = (edges[i:i + settings.mels, None] for i in range(3))
    t = np.minimum((f - f_low) / (f_middle - f_low), (f_high - f) / (f_high - f_middle))
    return 2 * np.maximum(t, 0) / (f_high - f_low)                                  # (7) (8)


def mel_spectrogram(audio, settings=MelSettings()) -> np.ndarray:
    """(M, frames), in the dtype of the audio; see `spectrogram`."""
    magnitudes = np.abs(spectrogram(audio, settings))
    mels = mel_filters(settings).astype(magnitudes.dtype) @ magnitudes
    return np.log(np.maximum(mels, mels.dtype.type(settings.floor)))                # (9)


# -- back to audio ----------------------------------------------------------------------------------------------------

def magnitudes_of(mel, settings=MelSettings(), steps=200) -> np.ndarray:
    """g, (1 + N/2, frames), of a mel spectrogram (M, frames); 0 at frequencies that no filter sees."""
    mel, _ = as_floating("magnitudes_of: mel", mel)
    if mel.ndim != 2 or len(mel) != settings.mels or not mel.size:
        raise ValueError(f"magnitudes_of: mel must be of shape ({settings.mels}, frames), not {mel.shape}")
    most = np.log(np.finfo(mel.dtype).max) / 4                                      # (10) multiplies magnitudes
    wrong = ~(np.abs(mel) <= most)
    if wrong.any():
        m, j = (int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"magnitudes_of: mel must be in [-{most:.4g}, {most:.4g}]; mel[{m}, {j}] is {mel[m, j]}")
    B = mel_filters(settings).astype(mel.dtype)
    B, seen = B[B.any(1)], B.any(0)                 # of many filters, some may fall between two frequencies
    B, y = B[:, seen], np.exp(mel[mel_filters(settings).any(1)])
    g, numerator = B.T @ y, B.T @ y
    for _ in range(steps):
        g *= numerator / (B.T @ (B @ g))                                            # (10)
    whole = np.zeros((len(seen), mel.shape[1]), mel.dtype)  # type: ignore[arg-type]
    whole[seen] = g
    return whole


def audio_of(mel, rng, settings=MelSettings(), steps=60) -> np.ndarray:
    """Audio of (frames - 1) H samples whose mel spectrogram is near `mel`, (M, frames), in its dtype.

    The phases are at the start drawn from the Generator `rng`; `steps` is the number of times (12).  The result may exceed
    [-1, 1] where no such audio has this spectrogram.
    """
    g = magnitudes_of(mel, settings)
    samples = (g.shape[1] - 1) * settings.hop
    if samples <= settings.frame // 2:
        raise ValueError(f"audio_of: mel must have more than frame / (2 hop) + 1 = {settings.frame / settings.hop / 2 + 1:g} "
                         f"frames, not {g.shape[1]}")
    s = g * np.exp(2j * np.pi * rng.random(g.shape)).astype(np.result_type(g, 1j))
    for _ in range(steps):
        s = spectra(nearest_audio(s, settings), settings)
        size = np.abs(s)
        s = g * np.where(size == 0, 1, s / np.where(size == 0, 1, size))            # (12)
    return nearest_audio(s, settings)


def nearest_audio(s, settings):
    """(11), without the N/2 samples at either end."""
    w, half = window(settings).astype(s.real.dtype), settings.frame // 2
    frames = scipy.fft.irfft(s.T, settings.frame, axis=-1) * w
    total = np.zeros((2, settings.frame + (len(frames) - 1) * settings.hop), w.dtype)
    for j, frame in enumerate(frames):
        at = slice(j * settings.hop, j * settings.hop + settings.frame)
        total[0, at] += frame
        total[1, at] += w * w
    kept = total[:, half:len(total[0]) - half]
    return kept[0] / kept[1]                                                        # (11)
