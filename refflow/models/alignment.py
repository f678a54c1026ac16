r"""Monotonic alignment search (Kim, Kim, Kong & Yoon, Glow-TTS, arXiv:2005.11129), as in the authors' code.

A text of `I` positions and `J >= I` frames are aligned by a path: frame `j = 0, ..., J-1` belongs to the position `a_j`, with
    a_0 = 0,   a_(J-1) = I-1,   a_j - a_(j-1) in {0, 1}                             (1)
so the positions come in order, and every position has a frame.  With `m` and `s`, of `C` channels at each position, the score of
frame `z_j` at position `i` is
    v_ij = sum_c log N(z_cj; m_ci, exp(2 s_ci))                                     (2)
and the best path maximises `sum_j v_(a_j,j)`.  `Q_ij` is the best sum of a path from (0, 0) to `(i, j)`:
    Q_00 = v_00                                                                     (3)
    Q_ij = v_ij + max(Q_(i,j-1), Q_(i-1,j-1)),   Q_ij = -inf for i < 0 or i > j     (4)
and from `a_(J-1) = I-1` back, with `i = a_j`,
    a_(j-1) = i - 1                    if Q_(i,j-1) < Q_(i-1,j-1)                   (5)
            = i                        otherwise, so equal sums stay                (6)

The scores are sums of matrix products over c.  For any numbers `b_c`, with `y = z - b` and `n = m - b`,
    v_ij = -sum_c (s_ci + log(2 pi) / 2 + exp(-2 s_ci) n_ci^2 / 2)
           - sum_c exp(-2 s_ci) y_cj^2 / 2 + sum_c exp(-2 s_ci) n_ci y_cj           (7)
The authors' code has `b = 0`.  (7) subtracts squares, `n^2 + y^2 - 2 n y` for `(y - n)^2`, and so loses the digits by which
`exp(-2 s) (n^2 + y^2)` exceeds `exp(-2 s) (z - m)^2`; what all frames and positions have in common cancels exactly with
    b_c = (min_i m_ci + max_i m_ci) / 2                                             (8)

`d_i`, the number of frames of position `i`, and the path from given durations, as in synthesis:
    d_i = sum_j [a_j = i]                                                           (9)
    a_j = i   where d_0 + ... + d_(i-1) <= j < d_0 + ... + d_i                      (10)
A path is a constant: no gradient passes through it.
"""

from __future__ import annotations

import math

import numpy as np

from ..core.arrays import as_floating, at_index

BLOCK = 64                              # frames of scores that are copied at a time


def log_likelihoods(z, m, s, text_lengths=None, frame_lengths=None) -> np.ndarray:
    """The scores v, (*batch, I, J), of frames z, (*batch, C, J), at positions with means m and log-scales s, (*batch, C, I).

    `text_lengths`, `frame_lengths`, (*batch): how many positions and frames are valid (all); scores are 0 beyond them, and what
    z, m and s hold there is not read.  ValueError for other shapes, lengths out of range, and scores that are not finite.
    """
    z, m, s = channels(z, m, s)
    shape = (*m.shape[:-2], m.shape[-1], z.shape[-1])
    texts, frames = lengths("log_likelihoods", shape, text_lengths, frame_lengths)
    valid_text, valid_frames = valid(texts, shape[-2])[..., None, :], valid(frames, shape[-1])[..., None, :]
    with np.errstate(all="ignore"):                                                 # what is not finite is refused below
        b = (np.min(m, -1, initial=np.inf, where=valid_text, keepdims=True) / 2
             + np.max(m, -1, initial=-np.inf, where=valid_text, keepdims=True) / 2)         # (8)
        y, n, s = np.where(valid_frames, z - b, 0), np.where(valid_text, m - b, 0), np.where(valid_text, s, 0)
        p = np.exp(-2 * s)
        own = (s + math.log(2 * math.pi) / 2 + p * n * n / 2).sum(-2)
        v = np.swapaxes(p * n, -1, -2) @ y                                          # (2) (7)
        v -= np.swapaxes(p, -1, -2) @ (y * y / 2)
        v -= own[..., None]
    v = np.where(np.swapaxes(valid_text, -1, -2) & valid_frames, v, v.dtype.type(0))
    refuse_not_finite("log_likelihoods", v, texts, frames)
    return v


def best_path(scores, text_lengths=None, frame_lengths=None) -> np.ndarray:
    """The path of the largest sum of scores, (*batch, I, J) of True and False: is frame j at position i?

    `scores`: (*batch, I, J); `text_lengths`, `frame_lengths`, (*batch): how many positions and frames are valid (all).  The
    path is False beyond them, and scores there are not read.  Sums are in the dtype of the scores, frame by frame.  ValueError
    for other shapes, lengths out of range, more positions than frames, and scores that are not finite or whose sums overflow.
    """
    scores, _ = as_floating("best_path: scores", scores)
    if scores.ndim < 2:
        raise ValueError(f"best_path: scores must be (*batch, positions, frames), not of shape {scores.shape}")
    texts, frames = lengths("best_path", scores.shape, text_lengths, frame_lengths)
    refuse_more_text("best_path", texts, frames)
    refuse_not_finite("best_path", scores, texts, frames)
    path = np.zeros(scores.shape, bool)
    if path.size:
        batch = (texts.size, *scores.shape[-2:])
        mark_paths(path.reshape(batch), scores.reshape(batch), texts.reshape(-1), frames.reshape(-1))
    return path


def mark_paths(path, scores, texts, frames):
    """Marks the best paths in `path`, (B, I, J) of False."""
    order = np.argsort(-frames, kind="stable")      # items that have ended stand behind all others
    texts, frames = texts[order], frames[order]
    moves, first = moves_of([scores[b] for b in order], texts, frames)
    places = np.empty((len(moves), len(order)), int)
    places[-1] = first + texts - 1                                                  # (1)
    for moved, place, before in zip(moves[:0:-1], places[:0:-1], places[-2::-1]):
        np.subtract(place, moved.take(place), out=before)                           # (5) (6)
    frame, item = np.nonzero(np.arange(len(moves))[:, None] < frames)
    path[order[item], (places - first)[frame, item], frame] = True


def moves_of(scores, texts, frames):
    """(moves, first): does the best path of item b to (i, j) come from (i - 1, j - 1)?  At `moves[j, first[b] + i]`.

    Items with more frames come first: at each frame, the items that have not ended are one slice.  Behind the last position of an item
    stands the score -inf, which is the `i = -1` of the next item.
    """
    B, width, J = len(scores), int(texts.max()) + 1, int(frames[0])
    first, ends = np.arange(B) * width, (np.searchsorted(-frames, -np.arange(J)) * width).tolist()
    moves, dtype = np.zeros((J, B * width), bool), scores[0].dtype
    last, Q = np.full((2, 1 + B * width), -np.inf, dtype)                           # the first place is i = -1 of the first item
    Q[1 + first] = [v[0, 0] for v in scores]                                        # (3)
    v = np.zeros((BLOCK, B, width), dtype)
    v[:, :, -1], rows = -np.inf, v.reshape(BLOCK, -1)
    for start in range(0, J, BLOCK):
        copy_frames(v, scores, texts, frames, start)
        for j in range(max(start, 1), min(start + BLOCK, J)):
            last, Q, end = Q, last, ends[j]
            stay, move, now = last[1:end + 1], last[:end], Q[1:end + 1]
            np.less(stay, move, out=moves[j, :end])
            np.maximum(stay, move, out=now)
            now += rows[j - start, :end]                                            # (4)
    return moves, first


def copy_frames(v, scores, texts, frames, start):
    """The scores of BLOCK frames from `start` on to v, (BLOCK, B, I + 1), at positions that a path passes.

    At other positions v keeps finite numbers: from there no sum reaches a position that a path passes.
    """
    for b in np.flatnonzero(frames > start):
        stop = min(start + BLOCK, frames[b])
        kept = slice(max(0, start - (frames[b] - texts[b])), min(texts[b], stop))
        v[:stop - start, b, kept] = scores[b][kept, start:stop].T


def durations(path) -> np.ndarray:
    """The number of frames of each position, (*batch, I), of a path (*batch, I, J)."""
    path = np.asarray(path)
    if path.ndim < 2 or path.dtype != bool:
        raise ValueError(f"durations: path must be (*batch, positions, frames) of booleans, not {path.dtype} of shape "
                         f"{path.shape}")
    return path.sum(-1)                                                             # (9)


def path_of(durations, frame_lengths=None) -> np.ndarray:
    """The path, (*batch, I, J) of True and False, of durations (*batch, I), whole numbers >= 0, one after the other.

    `frame_lengths`, (*batch): at which frame each path ends (the sum of its durations), J is the largest.  Later frames are cut
    off; frames beyond the sum belong to no position.  ValueError for other shapes and numbers.
    """
    given = np.asarray(durations)
    if given.ndim < 1 or given.dtype.kind not in "iuf":
        raise ValueError(f"path_of: durations must be (*batch, positions) of whole numbers, not {given.dtype} of shape "
                         f"{given.shape}")
    with np.errstate(invalid="ignore"):
        refuse_first("path_of: durations", given, ~((given >= 0) & (given == np.floor(given)) & (given < 2.0**31)),
                     "must be whole numbers in 0 .. 2^31 - 1")
    ends = np.cumsum(given.astype(np.int64), -1)
    total = ends[..., -1] if given.shape[-1] else np.zeros(given.shape[:-1], np.int64)
    frames = total if frame_lengths is None else whole_numbers("path_of: frame_lengths", frame_lengths, total.shape)
    refuse_first("path_of: frame_lengths", frames, frames < 0, "must be >= 0")
    j = np.arange(frames.max(initial=0))
    starts = ends - given.astype(np.int64)
    return (starts[..., None] <= j) & (j < np.minimum(ends, frames[..., None])[..., None])     # (10)


# -- what is refused --------------------------------------------------------------------------------------------------

def channels(z, m, s):
    """z, m, s as arrays of one dtype."""
    arrays = [as_floating(f"log_likelihoods: {name}", given) for name, given in (("z", z), ("m", m), ("s", s))]
    strong = [array.dtype for array, fixed in arrays if fixed]
    z, m, s = (array.astype(np.result_type(*strong) if strong else np.float64, copy=False) for array, _ in arrays)
    if m.ndim < 2 or s.shape != m.shape or z.ndim != m.ndim or z.shape[:-1] != m.shape[:-1]:
        raise ValueError("log_likelihoods: z must be (*batch, channels, frames), m and s (*batch, channels, positions), not of "
                         f"shapes {z.shape}, {m.shape}, {s.shape}")
    return z, m, s


def lengths(name, shape, text_lengths, frame_lengths):
    """The two lengths as integers of shape `batch`, for scores of `shape` (*batch, I, J)."""
    found = []
    for key, given, most in (("text_lengths", text_lengths, shape[-2]), ("frame_lengths", frame_lengths, shape[-1])):
        array = np.full(shape[:-2], most) if given is None else whole_numbers(f"{name}: {key}", given, shape[:-2])
        refuse_first(f"{name}: {key}", array, (array < 1) | (array > most), f"must be in 1 .. {most}")
        found.append(array)
    return found


def whole_numbers(name, given, shape):
    array = np.asarray(given)
    if array.shape != shape or array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers of shape {shape}, not {array.dtype} of shape {array.shape}")
    return array.astype(np.int64)


def valid(lengths, most):
    """(*batch, most) of True and False."""
    return np.arange(most) < lengths[..., None]


def refuse_first(name, values, wrong, rule):
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"{name} {rule}; {at_index(name.split(': ')[-1], index)} is {values[index]}")


def refuse_more_text(name, texts, frames):
    wrong = texts > frames
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"{name}: a text must not have more positions than frames; {at_index('text_lengths', index)} is "
                         f"{texts[index]}, {at_index('frame_lengths', index)} is {frames[index]}")


def refuse_not_finite(name, scores, texts, frames):
    """Valid scores must be finite, and sums along a path must not overflow."""
    for index in np.ndindex(texts.shape):
        part = scores[index][:texts[index], :frames[index]]
        most = max(-float(part.min()), float(part.max()))           # NaN if an entry is
        if not most <= np.finfo(scores.dtype).max / frames[index]:
            refuse(name, part, index, frames[index])


def refuse(name, part, index, frames):
    """One of these scores is too large or not a number."""
    most = np.finfo(part.dtype).max / frames
    inner = tuple(int(i) for i in np.argwhere(~(np.abs(part) <= most))[0])
    raise ValueError(f"{name}: the sum of {frames} scores must be finite; {at_index('scores', (*index, *inner))} is "
                     f"{part[inner]}")
