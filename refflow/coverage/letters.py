"""The letters of the answers, each with a value: `from refflow.coverage.letters import *` makes every answer's code run."""

from __future__ import annotations

import numpy as np
import scipy

import refflow
from refflow import *
from refflow.maps.coupling import masks
from refflow.models.gaussian import lower_triangular
from refflow.models.naf import transformer  # type: ignore[assignment]

D, K, B, a, b, c, low, high = 4, 5, 3.0, 1.5, 0.25, 0.5, -1.0, 2.0
rng = np.random.default_rng(0)
u, v, d, p = np.array([0.5, -1.0, 0.25, 2.0]), np.array([1.0, 0.5, -0.25, 1.5]), np.array([1.0, 2.0, 0.5, 3.0]), np.array([2, 0, 3, 1])
W = np.eye(D) + 0.25 * np.arange(16).reshape(D, D) / 16
lower, upper, L = np.tril(W, -1), np.triu(W, 1), np.tril(W)
Q = scipy.linalg.qr(W)[0]
V = np.ones((2 * D, 3))                                     # a matrix of a network that sees a context of three entries
F = np.vstack([np.ones(D) / 2, np.sqrt(0.5) * np.array([[1, 0, -1, 0], [0, 1, 0, -1]]), np.array([1, -1, 1, -1]) / 2])
H4 = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
reflected = np.stack([u, v, d])                              # vectors of three reflections
passes = masks.halves(D)
graph = np.tril(np.ones((D, D), bool), -1)
mixture_family = Family(LogisticMixtureLogit, PerPart(("weights", "loc", "scale"), (
    SoftmaxWeights(K), Entries(Free(), K), Entries(ExpScale(), K))))
sigmoid_family = Family(DeepSigmoid, transformer(K))  # type: ignore[call-arg]
positive_weights = Entries(AbsScale(), 2)
monotone_family = Family(MonotoneNetwork, PerPart(("rate", "bias", "weights", "hidden", "shift"), (
    positive_weights, MatrixEntries(2, 2), positive_weights, Reshaped(Entries(AbsScale(), 4), (1, 2, 2)), PerField(("shift",), (Free(),)))))


def coupling(family):
    """The second half of the entries, by a network of the first."""
    return Coupling(passes, dense_network(rng, (2, 8, 2 * family.size)), family)


def autoregressive(family, order="left-to-right"):
    return Autoregressive(masked_dense_network(rng, D, (8,), family.size, order), family)


velocity = Sequential((Dense(np.ones((D, D + 1))), TanhActivation(), Dense(np.eye(D))))         # of a point of D entries and the time
contracting = Sequential((SpectralDense(W, u), LipSwish(1.0), SpectralDense(W, v)))
half = AffineCoupling(np.array([True, False]), dense_network(rng, (1, 8, 2)))


def image_coupling(mask):
    """Of images of two channels, by a convolution."""
    kept = int(np.sum(np.unique(np.nonzero(mask)[0]).size))
    return AffineCoupling(mask, Conv2d(np.zeros((2 * kept, kept, 3, 3)), np.zeros(2 * kept)))
