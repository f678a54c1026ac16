r"""Speech with transcripts: a folder of WAV files and a table, as padded batches of symbols and mel spectrograms.

The table is text in UTF-8, one row for each file.  Without a header a row is `id|text`, as in the LJ Speech data set; with a
header, columns are separated by commas or by bars: "id" and "text", and for several speakers "speaker"; others are ignored.
The file of a row is `id.wav` in the folder.

    corpus = read_speech("corpus", "corpus/table.csv")
    tokens, text_lengths, mels, frame_lengths, speakers = corpus.batch(range(8))
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .audio import MelSettings, mel_spectrogram, read_wav, with_noise

UNITS = ("characters", "words")


class Batch(NamedTuple):
    """Items of unequal lengths, padded with 0 at their ends; a mask is `arange(J) < frame_lengths[:, None]`."""

    tokens: np.ndarray                  # (B, I): indices into the corpus's symbols
    text_lengths: np.ndarray            # (B,)
    mels: np.ndarray                    # (B, M, J)
    frame_lengths: np.ndarray           # (B,)
    speakers: np.ndarray                # (B,): indices into the corpus's speakers


@dataclass(frozen=True)
class Utterance:
    """`tokens`: (I,) of indices into symbols; `mel`: (M, J); `speaker`: an index into speakers."""

    name: str
    tokens: np.ndarray
    mel: np.ndarray
    speaker: int


@dataclass(frozen=True)
class Corpus:
    """Utterances in the order of the table."""

    utterances: tuple
    symbols: tuple
    speakers: tuple
    settings: MelSettings

    def __len__(self):
        return len(self.utterances)

    def __getitem__(self, rows):
        """The corpus of these rows alone, a slice or numbers."""
        chosen = np.arange(len(self))[rows]
        return replace(self, utterances=tuple(self.utterances[row] for row in np.atleast_1d(chosen)))

    def batch(self, rows) -> Batch:
        """The utterances of these rows, padded to the longest."""
        chosen = [self.utterances[row] for row in rows]
        if not chosen:
            raise ValueError("Corpus.batch: rows must name at least one utterance")
        texts = np.array([len(u.tokens) for u in chosen])
        frames = np.array([u.mel.shape[1] for u in chosen])
        tokens = np.zeros((len(chosen), texts.max()), np.int64)
        mels = np.zeros((len(chosen), len(chosen[0].mel), frames.max()), chosen[0].mel.dtype)
        for b, u in enumerate(chosen):
            tokens[b, :texts[b]] = u.tokens
            mels[b, :, :frames[b]] = u.mel
        return Batch(tokens, texts, mels, frames, np.array([u.speaker for u in chosen]))


def read_speech(folder, table, symbols=None, speakers=None, unit="characters", settings=MelSettings(), multiple=1, noise=None,
                dtype=np.float32) -> Corpus:
    """The corpus of a folder of WAV files and a table of transcripts.

    `unit`: a symbol is one of the "characters" of a text, or one of its "words", which spaces separate (names of phonemes).
    `symbols`, `speakers`: all that may occur, in the order of their indices (those that occur, sorted).  `multiple`: the
    last frames are cut off, so that the number of frames is a multiple of it.  `noise`: a Generator for `audio.with_noise`.

    ValueError, naming the file or the table's line, for a row without a file, a file without a row, a text that is empty or has
    more symbols than frames, an unknown symbol or speaker, and any file that `read_wav` and `mel_spectrogram` refuse.
    """
    if unit not in UNITS:
        raise ValueError(f"read_speech: unit must be one of {', '.join(UNITS)}, not {unit!r}")
    if isinstance(multiple, bool) or not isinstance(multiple, (int, np.integer)) or multiple < 1:
        raise ValueError(f"read_speech: multiple must be an int >= 1, not {multiple!r}")
    folder, rows = Path(folder), table_rows(Path(table))
    refuse_without_a_row(folder, table, rows)
    texts = [symbols_of(row["text"], unit) for row in rows]
    symbols = chosen("symbols", symbols, {symbol for text in texts for symbol in text})
    speakers = chosen("speakers", speakers, {row["speaker"] for row in rows})
    made = []
    for row, text in zip(rows, texts):
        path = folder / f"{row['id']}.wav"
        tokens = indices(row["where"], "symbol", text, symbols)
        (speaker,) = indices(row["where"], "speaker", [row["speaker"]], speakers)
        made.append(Utterance(row["id"], tokens, mel_of_file(path, len(text), settings, multiple, noise, dtype), int(speaker)))
    return Corpus(tuple(made), symbols, speakers, settings)


def symbols_of(text, unit):
    """The symbols of a text."""
    return text.split() if unit == "words" else list(text)


def mel_of_file(path, count, settings, multiple, noise, dtype):
    """(M, J) of a file whose text has `count` symbols."""
    if not path.exists():
        raise ValueError(f"read_speech: there is no file {path}, although the table has its transcript")
    audio = read_wav(path, settings.rate)
    if len(audio) <= settings.frame // 2:
        raise ValueError(f"read_speech: {path} must have more than {settings.frame // 2} samples, not {len(audio)}")
    mel = mel_spectrogram(audio if noise is None else with_noise(audio, noise), settings).astype(dtype)
    frames = mel.shape[1] // multiple * multiple
    if count > frames:
        raise ValueError(f"read_speech: {path} has {frames} frames, fewer than the {count} symbols of its text")
    return mel[:, :frames]


def chosen(name, given, found):
    """The table of symbols or speakers: as given, each once, or what was found."""
    if given is None:
        return tuple(sorted(found))
    given = tuple(given)
    repeated = [symbol for i, symbol in enumerate(given) if symbol in given[:i]]
    if repeated:
        raise ValueError(f"read_speech: {name} must be distinct, but {repeated[0]!r} stands twice")
    return given


def indices(where, kind, names, known):
    """The places of these names in a table."""
    places = {name: i for i, name in enumerate(known)}
    for position, name in enumerate(names):
        if name not in places:
            at = f" at position {position}" if kind == "symbol" else ""
            raise ValueError(f"read_speech: {where}: unknown {kind} {name!r}{at}; known: {' '.join(map(repr, known))}")
    return np.array([places[name] for name in names])


# -- the table --------------------------------------------------------------------------------------------------------

def table_rows(path):
    """[{"id", "text", "speaker", "where"}]; the speaker is "" if there is no such column."""
    lines = [(n, line) for n, line in enumerate(lines_of(path), 1) if line.strip()]
    if not lines:
        raise ValueError(f"read_speech: {path} has no rows")
    sign = "|" if "|" in lines[0][1] else ","
    cells = [(n, cells_of(path, n, line, sign)) for n, line in lines]
    header = [cell.strip() for cell in cells[0][1]]
    if {"id", "text"} <= set(header):
        cells = cells[1:]
    elif sign == "|":
        header = ["id", "text"]
    else:
        raise ValueError(f"read_speech: {path}, line {cells[0][0]}: rows must be id|text, or a header must name the columns id "
                         "and text")
    found, known = [], {}
    for n, row in cells:
        where = f"{path}, line {n}"
        if len(row) != len(header):
            raise ValueError(f"read_speech: {where}: there must be {len(header)} columns, {sign.join(header)}, not {len(row)}")
        row = {"speaker": ""} | dict(zip(header, row)) | {"where": where}
        row["id"] = row["id"].strip()
        if not row["id"] or not row["text"].strip():
            raise ValueError(f"read_speech: {where}: the {'text' if row['id'] else 'id'} is empty")
        if row["id"] in known:
            raise ValueError(f"read_speech: {where}: {row['id']!r} stands in line {known[row['id']]} already")
        known[row["id"]] = n
        found.append(row)
    if not found:
        raise ValueError(f"read_speech: {path} has a header but no rows")
    return found


def lines_of(path):
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"read_speech: {path} is not text in UTF-8: {error}") from None


def cells_of(path, n, line, sign):
    quoting = csv.QUOTE_NONE if sign == "|" else csv.QUOTE_MINIMAL                  # a quotation mark in a text is itself
    try:
        return next(csv.reader([line], delimiter=sign, quoting=quoting))
    except csv.Error as error:
        raise ValueError(f"read_speech: {path}, line {n}: {error}") from None


def refuse_without_a_row(folder, table, rows):
    """Every file has a transcript."""
    if not folder.is_dir():
        raise ValueError(f"read_speech: {folder} is not a folder")
    named = {f"{row['id']}.wav" for row in rows}
    missing = sorted(path.name for path in folder.glob("*.wav") if path.name not in named)
    if missing:
        raise ValueError(f"read_speech: {folder / missing[0]} has no transcript in {table} ({len(missing)} such files)")
