"""Monotonic alignment: all paths of small sizes, the rule for ties, the authors' paths, scores, durations, refusals."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from refflow.laws.pages import equations
from refflow.models import alignment
from refflow.models.alignment import BLOCK, best_path, durations, log_likelihoods, path_of
from validation.original import comparison

AUTHORS, NUMBERS = comparison.numbers("glowtts_mas")
DTYPES = (np.float32, np.float64)


def test_every_equation_is_cited():
    assert equations(alignment) == []


# -- the path ---------------------------------------------------------------------------------------------------------

def all_paths(I, J):
    """Every path, as the position of each frame."""
    for moves in itertools.combinations(range(1, J), I - 1):
        yield np.searchsorted(moves, np.arange(J), side="right")


def in_two_loops(v):
    """The position of each frame by the recurrence and the tie rule, entry by entry, in the dtype of v."""
    I, J = v.shape
    Q = {}
    for j in range(J):
        for i in range(min(I, j + 1)):
            before = [Q[p, j - 1] for p in (i, i - 1) if (p, j - 1) in Q]
            Q[i, j] = v[i, j] + max(before) if before else v[i, j]
    a = [I - 1]
    for j in range(J - 1, 0, -1):
        i = a[-1]
        must = (i, j - 1) not in Q
        a.append(i - 1 if must or i > 0 and Q[i, j - 1] < Q[i - 1, j - 1] else i)
    return np.array(a[::-1])


def path_through(a, I, J):
    path = np.zeros((I, J), bool)
    path[a, np.arange(len(a))] = True
    return path


@st.composite
def scores(draw, numbers, dtype=np.float64):
    J = draw(st.integers(1, 7))
    I = draw(st.integers(1, J))
    return np.array(draw(st.lists(numbers, min_size=I * J, max_size=I * J)), dtype).reshape(I, J)


integers = st.integers(-2, 2)                       # many ties, and exact sums
anything = st.floats(-1e6, 1e6, width=32)


def test_all_paths_are_counted():
    assert [len(list(all_paths(I, 5))) for I in range(1, 6)] == [1, 4, 6, 4, 1]


@given(scores(integers))
def test_no_path_is_better(v):
    I, J = v.shape
    sums = [v[a, np.arange(J)].sum() for a in all_paths(I, J)]
    path = best_path(v)
    assert any((path == path_through(a, I, J)).all() for a in all_paths(I, J))
    assert v[path].sum() == max(sums)


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.data())
def test_ties_stay(dtype, data):
    """Of equally good paths, the one that moves on earliest: each frame, seen from the last, stays if it may."""
    v = data.draw(scores(integers, dtype))
    I, J = v.shape
    best = max(v[a, np.arange(J)].sum() for a in all_paths(I, J))
    latest = max((a for a in all_paths(I, J) if v[a, np.arange(J)].sum() == best), key=lambda a: tuple(a[::-1]))
    assert (best_path(v) == path_through(latest, I, J)).all()
    assert (in_two_loops(v) == latest).all()


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.data())
def test_rounds_as_the_recurrence(dtype, data):
    v = data.draw(scores(anything, dtype))
    assert (best_path(v) == path_through(in_two_loops(v), *v.shape)).all()


@pytest.mark.parametrize("padding", [np.nan, np.inf, -np.inf, 1e308])
@given(st.data())
def test_a_ragged_batch_is_its_items(padding, data):
    items = data.draw(st.lists(scores(integers), min_size=1, max_size=5))
    texts, frames = np.array([v.shape for v in items]).T
    batch = np.full((len(items), texts.max() + 1, frames.max() + 2), padding)
    for b, v in enumerate(items):
        batch[b, :texts[b], :frames[b]] = v
    before = batch.copy()
    path = best_path(batch, texts, frames)
    assert path.shape == batch.shape and np.array_equal(before, batch, equal_nan=True)
    for b, v in enumerate(items):
        assert (path[b, :texts[b], :frames[b]] == best_path(v)).all() and path[b].sum() == frames[b]


@pytest.mark.parametrize("J", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 3])
@pytest.mark.parametrize("excess", [0, 1, 50])
def test_more_frames_than_are_copied_at_a_time(J, excess):
    v = np.random.default_rng(J).integers(-2, 3, (2, J - excess, J)).astype(float)
    for b in range(2):
        assert (best_path(v)[b] == path_through(in_two_loops(v[b]), J - excess, J)).all()


def test_more_batch_axes_and_none():
    rng = np.random.default_rng(0)
    v = rng.normal(size=(2, 3, 4, 9))
    texts, frames = rng.integers(1, 5, (2, 3)), rng.integers(5, 10, (2, 3))
    path = best_path(v, texts, frames)
    for index in np.ndindex(2, 3):
        assert (path[index] == best_path(v[index], texts[index], frames[index])).all()
    assert best_path(np.zeros((0, 3, 5))).shape == (0, 3, 5)
    assert best_path([[1, 2, 3]]).tolist() == [[True] * 3]


@pytest.mark.parametrize("number", sorted({key[:2] for key in NUMBERS}))
def test_the_authors_paths(number):
    """Their compiled loop in float32, and their NumPy function in float64."""
    f = comparison.under(f"{number}/", NUMBERS)
    texts, frames = f["x_lengths"], f["y_lengths"]
    for dtype, theirs in ((np.float32, "path_cython"), (np.float64, "path_numpy")):
        assert (best_path(f["value"].astype(dtype), texts, frames) == f[theirs]).all()
    path = best_path(f["value"], texts, frames)
    np.testing.assert_allclose((f["value"] * path).sum((1, 2)), f["score"], rtol=1e-12)
    assert (durations(path).sum(-1) == frames).all() and (path_of(durations(path)) == path[..., :frames.max()]).all()


BUGS = {"a tie moves": ("np.less(stay, move", "np.less_equal(stay, move"),
        "a position too few": ("min(texts[b], stop)", "min(texts[b], stop - 1)"),
        "too late to begin": ("max(0, start - (", "max(0, start + 1 - ("),
        "a frame too late": ("max(start, 1)", "max(start, 2)"),
        "begins anywhere": ("Q[1 + first] = [v[0, 0] for v in scores]", "Q[:] = 0"),
        "the length of a batch": ("np.searchsorted(-frames, -np.arange(J))", "np.full(J, B)"),
        "the first slack": ("start - (frames[b] - texts[b])", "start - (frames - texts).min()"),
        "the order of items": ("path[order[item],", "path[item,")}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_seen(bug):
    planted = SimpleNamespace(**with_bug(*BUGS[bug]))
    rng, differ = np.random.default_rng(0), 0
    for _ in range(20):
        v = rng.integers(-2, 3, (3, 4, 7)).astype(float)
        texts, frames = rng.integers(1, 5, 3), rng.integers(4, 8, 3)
        path = planted.best_path(v, texts, frames)
        for b, (I, J) in enumerate(zip(texts, frames)):
            differ += not (path[b, :I, :J] == path_through(in_two_loops(v[b, :I, :J]), I, J)).all()
    assert differ


def with_bug(right, wrong):
    with open(alignment.__file__, encoding="utf-8") as file:
        source = file.read()
    assert source.count(right) == 1
    module = {"__name__": "refflow.models.planted", "__package__": "refflow.models"}
    exec(compile(source.replace(right, wrong), "planted", "exec"), module)
    module["BLOCK"] = 2                             # so that small items have several blocks
    return module


# -- scores -----------------------------------------------------------------------------------------------------------

def literal(z, m, s):
    return norm.logpdf(z[:, None, :], m[:, :, None], np.exp(s)[:, :, None]).sum(0)


def drawn(rng, batch=(), C=5, I=4, J=6, dtype=np.float64):
    return tuple(rng.normal(size=(*batch, C, n)).astype(dtype) for n in (J, I, I))


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 2e-5), (np.float64, 1e-13)])
def test_scores(dtype, tolerance):
    z, m, s = drawn(np.random.default_rng(0), (3,), dtype=dtype)
    v = log_likelihoods(z, m, s)
    assert v.dtype == dtype
    for b in range(3):
        np.testing.assert_allclose(v[b], literal(*(a[b].astype(float) for a in (z, m, s))), rtol=tolerance, atol=tolerance)


def test_scores_are_the_authors_sums():
    """Their four sums, at moderate numbers."""
    z, m, s = drawn(np.random.default_rng(1))
    p = np.exp(-2 * s)
    theirs = ((-0.5 * np.log(2 * np.pi) - s).sum(0)[:, None] + p.T @ (-0.5 * z * z) + (m * p).T @ z
              + (-0.5 * m * m * p).sum(0)[:, None])
    np.testing.assert_allclose(log_likelihoods(z, m, s), theirs, rtol=1e-9, atol=1e-9)


def test_a_common_offset_does_not_cancel():
    """Far from 0, where the authors' sums have lost every digit."""
    z, m, s = drawn(np.random.default_rng(2))
    far = 2.0**40
    z, m = (np.round(a * 2**10) / 2**10 for a in (z, m))                # exact with the offset too
    np.testing.assert_allclose(log_likelihoods(z + far, m + far, s), literal(z, m, s), rtol=1e-12)


def test_scores_of_ragged_batches():
    """Padding is not read, and scores there are 0."""
    z, m, s = drawn(np.random.default_rng(3), (2,))
    texts, frames = [4, 2], [5, 6]
    for b in range(2):
        z[b, :, frames[b]:], m[b, :, texts[b]:], s[b, :, texts[b]:] = np.nan, np.inf, np.nan
    v = log_likelihoods(z, m, s, texts, frames)
    for b, (I, J) in enumerate(zip(texts, frames)):
        np.testing.assert_allclose(v[b, :I, :J], literal(z[b, :, :J], m[b, :, :I], s[b, :, :I]), rtol=1e-12)
        assert (v[b, I:] == 0).all() and (v[b, :, J:] == 0).all()


# -- durations --------------------------------------------------------------------------------------------------------

def test_a_path_from_durations():
    path = path_of([[2, 0, 1], [1, 1, 3]])
    assert path.astype(int).tolist() == [[[1, 1, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 1, 0, 0]],
                                         [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 1, 1]]]
    assert durations(path).tolist() == [[2, 0, 1], [1, 1, 3]]
    assert path_of(np.array([2.0, 1.0])).tolist() == [[True, True, False], [False, False, True]]


def test_frames_are_cut_off_or_belong_to_no_position():
    assert durations(path_of([[2, 0, 1], [1, 1, 3]], [2, 6])).tolist() == [[2, 0, 0], [1, 1, 3]]
    assert path_of([[0, 0]], [2]).tolist() == [[[False] * 2] * 2]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_durations_come_back(given):
    assert durations(path_of(given)).tolist() == given


# -- refusals ---------------------------------------------------------------------------------------------------------

V = np.zeros((2, 3, 5))


def changed(index, value):
    v = V.copy()
    v[index] = value
    return v


@pytest.mark.parametrize("arguments, message", [
    ((V[0, 0],), r"best_path: scores must be \(\*batch, positions, frames\), not of shape \(5,\)"),
    ((V.astype(np.float16),), "best_path: scores must be float32 or float64"),
    ((V, [3, 3], [5, 2]), r"best_path: a text must not have more positions than frames; text_lengths\[1\] is 3, "
                          r"frame_lengths\[1\] is 2"),
    ((np.zeros((4, 3)),), "best_path: a text must not have more positions than frames; text_lengths is 4, frame_lengths is 3"),
    ((V, [3, 4]), r"best_path: text_lengths must be in 1 .. 3; text_lengths\[1\] is 4"),
    ((V, [0, 3]), r"best_path: text_lengths must be in 1 .. 3; text_lengths\[0\] is 0"),
    ((V, None, [5, 6]), r"best_path: frame_lengths must be in 1 .. 5; frame_lengths\[1\] is 6"),
    ((V, [3]), r"best_path: text_lengths must be integers of shape \(2,\), not int64 of shape \(1,\)"),
    ((V, [3.0, 3.0]), r"best_path: text_lengths must be integers of shape \(2,\), not float64 of shape \(2,\)"),
    ((np.zeros((2, 0, 5)),), r"best_path: text_lengths must be in 1 .. 0; text_lengths\[0\] is 0"),
    ((changed((1, 2, 0), np.nan),), r"best_path: the sum of 5 scores must be finite; scores\[1, 2, 0\] is nan"),
    ((changed((0, 1, 4), -np.inf),), r"best_path: the sum of 5 scores must be finite; scores\[0, 1, 4\] is -inf"),
    ((np.array([[np.finfo(float).max / 2, np.finfo(float).max]]),), r"sum of 2 scores must be finite; scores\[0, 1\] is 1.79"),
    ((changed((0, 0, 0), 1e308),), r"best_path: the sum of 5 scores must be finite; scores\[0, 0, 0\] is 1e\+308"),
])
def test_best_path_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        best_path(*arguments)


@pytest.mark.parametrize("shapes", [((2, 6), (3, 4), (3, 4)), ((3, 6), (3, 4), (3, 5)), ((1, 3, 6), (3, 4), (3, 4)),
                                    ((6,), (4,), (4,))])
def test_scores_refuse_shapes(shapes):
    with pytest.raises(ValueError, match=r"log_likelihoods: z must be \(\*batch, channels, frames\), m and s"):
        log_likelihoods(*(np.zeros(shape) for shape in shapes))


def test_scores_refuse_what_is_not_finite():
    z, m, s = drawn(np.random.default_rng(0))
    s[1, 2] = -1e5
    with pytest.raises(ValueError, match=r"log_likelihoods: the sum of 6 scores must be finite; scores\[2, 0\] is"):
        log_likelihoods(z, m, s)
    with pytest.raises(ValueError, match=r"scores\[0, 0\] is nan"):
        log_likelihoods(z, np.where(np.arange(4) % 2, np.inf, -np.inf) * np.ones((5, 4)), 0 * s)
    z[0, 3] = np.nan
    with pytest.raises(ValueError, match=r"scores\[0, 3\] is nan"):
        log_likelihoods(z, m, 0 * s)


@pytest.mark.parametrize("arguments, message", [
    (([[1, -1]],), r"path_of: durations must be whole numbers in 0 .. 2\^31 - 1; durations\[0, 1\] is -1"),
    (([1.5],), r"durations\[0\] is 1.5"), (([np.nan],), r"durations\[0\] is nan"), (([1e300],), r"durations\[0\] is 1e\+300"),
    ((["a"],), r"path_of: durations must be \(\*batch, positions\) of whole numbers, not <U1 of shape \(1,\)"),
    (([[1, 2]], [3, 3]), r"path_of: frame_lengths must be integers of shape \(1,\), not int64 of shape \(2,\)"),
    (([[1, 2]], [-1]), r"path_of: frame_lengths must be >= 0; frame_lengths\[0\] is -1"),
])
def test_path_of_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        path_of(*arguments)


def test_durations_refuse():
    with pytest.raises(ValueError, match=r"durations: path must be \(\*batch, positions, frames\) of booleans, not int64"):
        durations([[1, 0]])
    with pytest.raises(ValueError, match=r"durations: path must be \(\*batch, positions, frames\) of booleans, not bool of"):
        durations(np.ones(3, bool))
