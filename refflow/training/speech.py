r"""Training of Glow-TTS: the losses of batches of utterances.

Over a batch the loss is `mle + duration` of `GlowTTS`.  Over the utterances held out, in batches `b` with `N_b` frames and
`I_b` positions of texts, it is the same function of all of them together:
    L = sum_b N_b mle_b / sum_b N_b + sum_b I_b duration_b / sum_b I_b              (1)
"""

from __future__ import annotations

import numpy as np

from ..fast.speech import SpeechGradient
from ..models.glow_tts import GlowTTS, Losses
from .fit import Progress, Record, Result, State, checked_count, checked_rng, checked_settings, trained
from .optimisers import LBFGS
from .unconstrained import Unconstrained


class Utterances:
    """The losses over batches of rows in an order drawn from `rng`, with fresh masks of dropout for each step.

    `held_out`: (a corpus, its rows).
    """

    def __init__(self, model, space, corpus, rows, held_out, batch_size, rng, dropout, gradient):
        self.flow, self.space, self.corpus, self.rng, self.dropout, self.gradient = model, space, corpus, rng, dropout, gradient
        self.rows, self.held_out = rows, held_out
        self.size = len(rows) if batch_size is None else min(batch_size, len(rows))
        self.per_epoch = -(-len(rows) // self.size)
        self.order, self.batch, self.keeps = np.arange(len(rows)), None, None

    def next_batch(self, step):
        """Draw the utterances of step 1, 2, ..., and what is dropped."""
        k = (step - 1) % self.per_epoch
        if k == 0 and self.per_epoch > 1:
            self.order = self.rng.permutation(len(self.rows))
        self.batch = self.corpus.batch(self.rows[self.order[k * self.size:(k + 1) * self.size]])
        self.keeps = self.flow.drawn_keeps(self.rng, self.batch[0], self.batch[2]) if self.dropout else None

    def loss_and_gradient(self, vector):
        losses, params_bar = self.gradient(self.space.quick(vector), self.batch, self.keeps)
        if not np.isfinite(losses.total):
            return losses.total, None
        return losses.total, self.space.gradient(vector, params_bar)

    def explain(self, vector):
        """Which loss is not finite."""
        losses, _ = self.gradient(self.space.quick(vector), self.batch, self.keeps)
        return next((f"its part {name} is {value}" for name, value in losses._asdict().items() if not np.isfinite(value)), None)

    def explain_validation(self, model):
        return "an utterance that is held out is the cause"

    def evaluate(self, model):
        """(1), or None without utterances held out."""
        corpus, rows = self.held_out
        return mean_losses(model, corpus, rows, self.size, self.gradient).total if len(rows) else None


def mean_losses(model, corpus, rows, batch_size, gradient) -> Losses:
    """The losses (1) of these rows of a corpus."""
    mle, duration = Mean(), Mean()
    for start in range(0, len(rows), batch_size):
        terms = gradient.terms(model, corpus.batch(rows[start:start + batch_size]))
        mle.add(terms.losses.mle, int(terms.frame_mask.sum()))
        duration.add(terms.losses.duration, int(terms.text_mask.sum()))
    return Losses(mle.value(), duration.value(), mle.value() + duration.value())    # (1)


class Mean:
    """A mean with whole weights."""

    def __init__(self):
        self.total, self.weight = 0.0, 0

    def add(self, value, weight):
        self.total, self.weight = self.total + weight * value, self.weight + weight

    def value(self):
        return self.total / self.weight


def fit_speech(model, corpus, *, optimiser=None, schedule=None, steps=None, epochs=None, batch_size=32, clip=None,
               averaging=None, dropout=True, validation=0.1, patience=None, flat=0.0, every=None, fixed=(), rng,
               callback=None, progress=None, gradient=None, resume=None) -> Result:
    """The `GlowTTS` model with the smallest losses on a corpus, found by gradient steps from `model`.

    `corpus`: a `Corpus`, or anything that has `utterances` and `batch(rows)`; `validation`: the fraction of utterances that
    are held out, chosen by `rng`, or another corpus of utterances that are; `dropout`: whether entries are dropped, at the
    model's rates; `gradient`: a `SpeechGradient`, with or without stored activations.  All other arguments and the result are
    as in `fit`, with the model in place of the flow.  The authors' training, which chooses the decoder's first normalisations
    from a batch, is

        model = model.initialised(*corpus.batch(range(32)))
        fit_speech(model, corpus, **recipes.glow_tts(), rng=rng)

    ValueError for arguments that do not fit; TrainingError, with the best model so far, if a loss, gradient or parameter is not
    finite or leaves its constraint.
    """
    name = "fit_speech"
    optimiser, schedule = checked_settings(name, model, optimiser, schedule, clip, averaging, every, patience, flat, GlowTTS)
    if isinstance(optimiser, LBFGS):
        raise ValueError(f"{name}: LBFGS needs a loss without dropout and batches")
    for key, value, least in (("batch_size", batch_size, 1), ("steps", steps, 0), ("epochs", epochs, 0)):
        checked_count(key, value, least)
    fraction = not hasattr(validation, "utterances")
    if fraction and (isinstance(validation, (bool, str)) or not np.isscalar(validation) or not 0 <= validation < 1):  # type: ignore[operator]
        raise ValueError(f"{name}: validation must be a fraction in [0, 1) or a corpus, not {validation!r}")
    if steps is not None and epochs is not None:
        raise ValueError(f"{name}: give steps or epochs, not both")
    if resume is not None and not isinstance(resume, State):
        raise ValueError(f"{name}: resume must be a State, not {type(resume).__name__}")
    if gradient is not None and not isinstance(gradient, SpeechGradient):
        raise ValueError(f"{name}: gradient must be a SpeechGradient, not {gradient!r}")
    checked_rng(name, rng, True)
    rows, held_out = divided(corpus, validation if fraction else 0, rng)
    held_out = (corpus, held_out) if fraction else (validation, np.arange(len(validation.utterances)))
    if patience is not None and not len(held_out[1]):
        raise ValueError(f"{name}: patience needs validation data")
    problem = Utterances(model, Unconstrained(model, fixed), corpus, rows, held_out, batch_size, rng, dropout,
                         gradient or SpeechGradient())
    steps = steps if steps is not None else 1000 if epochs is None else epochs * problem.per_epoch
    record = Record(problem, problem.space, every or max(10, problem.per_epoch), patience, flat, callback,
                    Progress(progress, steps))
    return trained(record, optimiser, schedule, steps, clip, averaging, resume)


def divided(corpus, validation, rng):
    """(rows for training, rows held out)."""
    count = len(corpus.utterances)
    if not count:
        raise ValueError("fit_speech: corpus holds no utterance")
    held = min(round(validation * count), count - 1)
    order = rng.permutation(count) if held else np.arange(count)
    return np.sort(order[held:]), order[:held]
