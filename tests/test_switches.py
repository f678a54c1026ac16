"""The search for switches: what code compares, and the neighbouring numbers between which a comparison changes its result."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from refflow.accuracy.switches import AT_ONCE, comparisons, some
from refflow.core import RandomSource

Z = np.array([[-2.0, 1.0], [0.5, 3.0], [4.0, -1.0]])        # three events of two numbers


class Halves(NamedTuple):
    low: np.ndarray
    high: np.ndarray


@pytest.mark.parametrize("answer, marks", [
    (lambda z: z > 0, [Z > 0]),
    (lambda z: (z < 1) | (z >= 3), [Z < 1, Z >= 3]),
    (lambda z: np.minimum(z, 1), [Z <= 1]),
    (lambda z: np.maximum(z, 1), [Z >= 1]),
    (lambda z: z.sum(-1) > 0, [Z.sum(-1, keepdims=True) > 0]),
    (lambda z: z.T > 0, [Z > 0]),
    (lambda z: np.split(z, 2, axis=-1)[1] > 0, [Z[:, 1:] > 0]),
    (lambda z: np.modf(z)[0] > 0, [Z % 1 > 0]),
    (lambda z: np.add(z, 1, where=z > 0, out=np.zeros_like(z)) > 2, [Z > 0, Z > 1]),
    (lambda z: np.where(z > 0, z, 1) > 1, [Z > 0, Z > 1]),
    (lambda z: np.sum(z, axis=-1, where=z > 0) > 2, [Z > 0, np.maximum(Z, 0).sum(-1, keepdims=True) > 2])],
    ids=["greater", "two", "minimum", "maximum", "of a sum", "transposed", "of a list", "of a tuple", "where of a ufunc",
         "where", "where of a function"])
def test_a_comparison_is_kept_for_each_event(answer, marks):
    found = comparisons(answer, Z)
    assert list(found) == list(range(len(marks)))
    for mine, expected in zip(found.values(), marks, strict=True):
        assert type(mine) is np.ndarray and np.array_equal(mine, expected)


@pytest.mark.parametrize("answer", [
    lambda z: np.exp(z + 1), lambda z: z == 1, lambda z: np.minimum.reduce(z), lambda z: np.maximum.accumulate(z),
    lambda z: np.less.outer(z, z[0])], ids=["arithmetic", "equal", "reduce", "accumulate", "outer"])
def test_what_compares_no_number_with_a_threshold_is_no_comparison(answer):
    assert comparisons(answer, Z) == {}


def test_a_comparison_of_something_else_has_no_place_among_those_of_events():
    """It takes a number all the same, so that places do not depend on how many events there are."""
    assert list(comparisons(lambda z: (z.max(0) > 2, z > 0), Z)) == [1]


def test_answers_are_what_code_gives_without_marks():
    def answer(z):
        given.append((np.split(z, 2, axis=-1), np.linalg.slogdet(z[:2]), Halves(z[:1], z[1:]), np.max(z)))

    given = []
    comparisons(answer, Z)
    answer(Z)
    marked, plain = given
    assert [type(part) for part in marked[:3]] == [type(part) for part in plain[:3]]
    assert np.array_equal(marked[0], plain[0]) and marked[1] == plain[1] and np.array_equal(marked[2][1], plain[2][1])


# -- which intervals are asked next -----------------------------------------------------------------------------------

def intervals(**counts):
    """{interval: place}, so many of each place."""
    return {(float(i), i + 0.5): place for i, place in enumerate(place for place, count in counts.items() for _ in range(count))}


def test_a_place_with_few_intervals_does_not_hide_those_of_another():
    wide = intervals(often=5, once=1)
    assert sorted(some(wide, RandomSource(np.random.default_rng(0)))) == sorted(wide)


def test_no_more_than_ten_intervals_are_asked_at_once_of_every_place_in_turn():
    wide = intervals(often=20, seldom=2, sometimes=4)
    found = some(wide, RandomSource(np.random.default_rng(0)))
    assert len(set(found)) == len(found) == AT_ONCE
    assert [[wide[interval] for interval in found].count(place) for place in ("often", "seldom", "sometimes")] == [4, 2, 4]


def test_nothing_is_left_to_ask():
    assert some({}, RandomSource(np.random.default_rng(0))) == []
