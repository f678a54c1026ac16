"""The loader of speech: batches, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io.wavfile

from refflow.audio import MelSettings, mel_spectrogram, read_wav, with_noise
from refflow.speech import read_speech

RATE = 22050


def sound(count, hertz=440.0):
    return (2**14 * np.sin(2 * np.pi * hertz * np.arange(count) / RATE)).astype(np.int16)


@pytest.fixture
def corpus(tmp_path):
    """Three files and their table; corpus(...) writes other tables."""
    folder = tmp_path / "wavs"
    folder.mkdir()
    for name, count in (("a", 2600), ("b", 4000), ("c", 3000)):
        scipy.io.wavfile.write(folder / f"{name}.wav", RATE, sound(count))

    def write(text="a|hello\nb|old hat\nc|to\n"):
        (tmp_path / "table.csv").write_text(text, encoding="utf-8")
        return folder, tmp_path / "table.csv"

    return write


def test_a_batch(corpus):
    folder, table = corpus()
    found = read_speech(folder, table)
    assert found.symbols == (" ", "a", "d", "e", "h", "l", "o", "t") and found.speakers == ("",)
    batch = found.batch([2, 0])
    assert batch.tokens.tolist() == [[7, 6, 0, 0, 0], [4, 3, 5, 5, 6]] and batch.text_lengths.tolist() == [2, 5]
    assert batch.frame_lengths.tolist() == [12, 11] and batch.mels.shape == (2, 80, 12) and batch.mels.dtype == np.float32
    np.testing.assert_array_equal(batch.mels[1, :, :11], mel_spectrogram(read_wav(folder / "a.wav")).astype(np.float32))
    assert (batch.mels[1, :, 11] == 0).all() and batch.speakers.tolist() == [0, 0]
    with pytest.raises(ValueError, match="Corpus.batch: rows must name at least one"):
        found.batch([])


def test_words_speakers_and_frames(corpus):
    folder, table = corpus('\ufeffspeaker,id,text,note\nx,b,"h @ , l",1\ny,a,l h,\nx,c,h,\n')
    found = read_speech(folder, table, unit="words", multiple=4, dtype=np.float64)
    assert found.symbols == (",", "@", "h", "l") and found.speakers == ("x", "y")
    batch = found.batch(range(3))
    assert batch.tokens.tolist() == [[2, 1, 0, 3], [3, 2, 0, 0], [2, 0, 0, 0]] and batch.speakers.tolist() == [0, 1, 0]
    assert batch.frame_lengths.tolist() == [16, 8, 12] and batch.mels.dtype == np.float64
    given = read_speech(folder, table, symbols=("h", "l", "@", ",", "?"), speakers=("y", "x"), unit="words")
    assert given.batch([0]).tokens.tolist() == [[0, 2, 3, 1]] and given.batch([0]).speakers.tolist() == [1]


def test_a_table_with_bars_and_a_header(corpus):
    found = read_speech(*corpus('id|speaker|text\na|x|say "no"\nb|x|"no" we say\nc|x|n\n'))
    assert ["".join(found.symbols[i] for i in u.tokens) for u in found.utterances] == ['say "no"', '"no" we say', "n"]


def test_noise_and_settings(corpus):
    folder, table = corpus()
    settings = MelSettings(mels=20)
    found = read_speech(folder, table, settings=settings, noise=np.random.default_rng(0), dtype=np.float64)
    a = with_noise(read_wav(folder / "a.wav"), np.random.default_rng(0))
    assert (found.utterances[0].mel == mel_spectrogram(a, settings)).all()


@pytest.mark.parametrize("samples, rate, message", [
    (sound(2600), 16000, "a.wav must have 22050 samples a second, not 16000"),
    (np.stack([sound(2600)] * 2, 1), RATE, "a.wav must have one channel, not 2"),
    (0 * sound(2600), RATE, "a.wav is silent: every sample is 0"),
    (sound(1), RATE, "a.wav must have at least 2 samples, not 1"),
    (sound(512), RATE, "read_speech: .*a.wav must have more than 512 samples, not 512"),
    (sound(1000), RATE, "read_speech: .*a.wav has 4 frames, fewer than the 5 symbols of its text")])
def test_bad_files(corpus, samples, rate, message):
    folder, table = corpus()
    scipy.io.wavfile.write(folder / "a.wav", rate, samples)
    with pytest.raises(ValueError, match=message):
        read_speech(folder, table)


def test_a_text_longer_than_the_frames_that_are_kept(corpus):
    folder, table = corpus("a|hello there\nb|h\nc|h\n")
    assert len(read_speech(folder, table).utterances) == 3
    with pytest.raises(ValueError, match="a.wav has 10 frames, fewer than the 11 symbols of its text"):
        read_speech(folder, table, multiple=2)


def test_a_file_that_is_cut_off(corpus):
    folder, table = corpus()
    (folder / "b.wav").write_bytes((folder / "b.wav").read_bytes()[:-100])
    with pytest.raises(ValueError, match="b.wav is cut off: its part 'data' has 8000 bytes, but the file holds 7900"):
        read_speech(folder, table)


@pytest.mark.parametrize("text, message", [
    ("a|hello\nc|to\n", r"wavs/b.wav has no transcript in .*table.csv \(1 such files\)"),
    ("a|hello\nb|h\nc|h\nd|h\n", r"there is no file .*wavs/d.wav, although the table has its transcript"),
    ("a|hello\nb|\nc|h\n", "table.csv, line 2: the text is empty"), ("a|h\n|h\n", "line 2: the id is empty"),
    ("a|hello\nb|h\nb|h\nc|h\n", "table.csv, line 3: 'b' stands in line 2 already"),
    ("a|hello\n\nb|h|h\n", r"table.csv, line 3: there must be 2 columns, id\|text, not 3"),
    ("a,hello\n", r"line 1: rows must be id\|text, or a header must name the columns id and text"),
    ("", "table.csv has no rows"), ("id,text\n", "table.csv has a header but no rows")])
def test_bad_tables(corpus, text, message):
    with pytest.raises(ValueError, match=message):
        read_speech(*corpus(text))


@pytest.mark.parametrize("options, message", [
    ({"symbols": "helo dat"}, None),
    ({"symbols": "helo da"}, r"table.csv, line 2: unknown symbol 't' at position 6; known: 'h' 'e' 'l' 'o' ' ' 'd' 'a'"),
    ({"speakers": ("x",)}, r"table.csv, line 1: unknown speaker ''; known: 'x'"),
    ({"symbols": "hello"}, "symbols must be distinct, but 'l' stands twice"),
    ({"unit": "letters"}, "unit must be one of characters, words, not 'letters'"),
    ({"multiple": 0}, "multiple must be an int >= 1, not 0")])
def test_bad_options(corpus, options, message):
    if message is None:
        assert read_speech(*corpus(), **options).symbols == tuple("helo dat")
        return
    with pytest.raises(ValueError, match=message):
        read_speech(*corpus(), **options)


def test_no_folder(corpus, tmp_path):
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        read_speech(tmp_path / "nowhere", corpus()[1])
