"""The authors' numbers of residual flows: every array of a block is compared, and planted mistakes are seen."""

from __future__ import annotations

import numpy as np
import pytest

from refflow import SpectralDense
from refflow.maps.conditioners import mixed_norm_dense
from validation.original import passes, resflow
from validation.original.comparison import value_of

LAYERS = "resflow_lipschitz_layers"


def worst(name):
    found, _ = resflow.read(name)
    return max(value_of(value) for value in found.values())


@pytest.mark.parametrize("name", resflow.FILES)
def test_a_file_agrees(name):
    found, unread = resflow.read(name)
    assert found and all(passes(value) for value in found.values())
    assert all("not built" in one.reason for one in unread) and (not unread or name == LAYERS)


def test_what_is_compared_of_a_block():
    found, _ = resflow.read("resflow_block_spectral_training")
    assert {"v0: delta_logp", "v1: gradients of parameters", "v1: buffer_after_forward/nnet.3.u", "truth/inverse",
            "out/inverse_fixed_point_code"} <= found.keys()


def without_an_iteration(self, steps=1):
    return iterated(self, max(0, steps - 1))


iterated = SpectralDense.iterated
PLANTED = {
    "a step of power iteration is left out": (LAYERS, SpectralDense, "iterated", without_an_iteration),
    "all columns have a part in the largest norm": (LAYERS, mixed_norm_dense, "one_hot", lambda x, axis: np.ones(x.shape)),
    "terms are not weighted": ("resflow_block_roulette", resflow, "roulette_weights", lambda exact, drawn, tail: np.ones(exact + drawn)),
    "fewer terms are exact": ("resflow_block_roulette", resflow, "EVALUATED", 1),
    "Neumann's signs are all positive": ("resflow_block_power_series", resflow, "neumann_gradient",
                                         lambda net, z, noise, w, bar: neumann(net, z, noise, w * (-1.0) ** np.arange(len(w)), bar)),
    "the inverse stops later": ("resflow_block_power_series", resflow, "CLOSE", 1e-10)}
neumann = resflow.neumann_gradient


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_is_seen(mistake, monkeypatch):
    name, owner, attribute, wrong = PLANTED[mistake]
    monkeypatch.setattr(owner, attribute, wrong)
    assert worst(name) > 1e-7


def test_a_distribution_that_is_not_built_is_named():
    config, theirs = resflow.numbers("resflow_block_roulette")
    variant = {"prefix": "v0", "training": True, "n_dist": "zipf"}
    with pytest.raises(ValueError, match="of the distribution 'zipf' are not built"):
        resflow.read_as(resflow.KINDS, type(config)(config, variants=[variant]), theirs)


def test_another_activation_is_named():
    """It has no parameters, so that its place is empty."""
    config, theirs = resflow.numbers("resflow_block_roulette")
    without = type(theirs)({key: value for key, value in theirs.items() if "nnet.2" not in key})
    with pytest.raises(ValueError, match=r"its layers \[0, 1, 3\] alone, and activations other than swish are not built"):
        resflow.read_as(resflow.KINDS, config, without)
