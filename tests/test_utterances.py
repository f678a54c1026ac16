"""How training on speech goes through its utterances, which it holds out, and what it says of losses."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from refflow.models.glow_tts import Losses
from refflow.training.speech import Mean, Utterances, divided


class Rows:
    """A corpus whose batches are their rows."""

    def __init__(self, count):
        self.utterances = range(count)

    def batch(self, rows):
        return rows.tolist(), None, None


def utterances(count, batch_size, rng=None, gradient=None):
    space = SimpleNamespace(quick=lambda vector: vector)
    return Utterances("a model", space, Rows(count), 10 * np.arange(count), None, batch_size, rng, False, gradient)


@pytest.mark.parametrize("batch_size, size, per_epoch", [(None, 7, 1), (3, 3, 3), (7, 7, 1), (30, 7, 1), (1, 1, 7)])
def test_batches_of_an_epoch(batch_size, size, per_epoch):
    problem = utterances(7, batch_size)
    assert problem.size == size and problem.per_epoch == per_epoch


def test_an_epoch_takes_each_utterance_once_in_a_drawn_order():
    problem, seen = utterances(7, 3, np.random.default_rng(0)), []
    for step in range(1, 7):
        problem.next_batch(step)
        seen.append(problem.batch[0])
    assert [len(batch) for batch in seen] == [3, 3, 1, 3, 3, 1]
    first, second = seen[0] + seen[1] + seen[2], seen[3] + seen[4] + seen[5]
    assert sorted(first) == sorted(second) == [0, 10, 20, 30, 40, 50, 60]
    assert first != second and first != sorted(first)


def test_one_batch_keeps_its_order_and_draws_nothing():
    problem = utterances(4, None)                           # whose rng is None: drawing would raise
    for step in (1, 2):
        problem.next_batch(step)
        assert problem.batch[0] == [0, 10, 20, 30]


@pytest.mark.parametrize("losses, said", [((np.nan, 1.0, np.nan), "its part mle is nan"), ((1.0, np.inf, np.inf), "its part duration is inf"),
                                          ((1.0, 2.0, 3.0), None)])
def test_the_loss_that_is_not_finite_is_named(losses, said):
    def gradient(model, batch, keeps):
        assert (model, batch, keeps) == ("at a vector", "a batch", "kept")
        return Losses(*losses), None

    problem = utterances(4, None, gradient=gradient)
    problem.batch, problem.keeps = "a batch", "kept"
    assert problem.explain("at a vector") == said


def test_a_mean_with_weights():
    mean = Mean()
    for value, weight in ((2.0, 3), (5.0, 1)):
        mean.add(value, weight)
    assert mean.value() == 11 / 4 and (mean.total, mean.weight) == (11.0, 4)


@pytest.mark.parametrize("count, fraction, held", [(10, 0.3, 3), (10, 0.0, 0), (4, 0.99, 3), (2, 0.75, 1), (1, 0.9, 0), (3, 0.5, 2)])
def test_what_is_held_out(count, fraction, held):
    """The nearest whole number, but one utterance at least is trained on."""
    rows, left = divided(Rows(count), fraction, np.random.default_rng(0))
    assert len(left) == held and rows.tolist() == sorted(rows) and sorted([*rows, *left]) == list(range(count))
