"""VITS' stochastic durations, compared with the numbers of two ports, piper and transformers."""

from __future__ import annotations

import numpy as np
import pytest

from validation import original
from validation.original import comparison, vits


def test_agrees_with_the_ports(capsys):
    assert set(vits.FILES) == {f"vits_{port}{end}" for port in ("piper", "transformers") for end in ("", "_speaker")}
    for file in vits.FILES:
        quantities, unanswered = vits.read(file)
        assert not unanswered and len(quantities) >= 5
        assert max(value.measure for value in quantities.values()) <= original.ALLOWED, (file, quantities)
    assert original.main(["vits"]) == 0
    assert len(capsys.readouterr().out.splitlines()) >= len(vits.FILES)


WRONG = {"out/loss": "loss", "gradin/x": "gradient of text", "out/cool sample": "cool sample",
         "gradin/g": "gradient of speaker", "grad/post_flows.0.logs": "gradients of parameters",
         "grad/convs.norms_1.1.gamma": "gradients of parameters"}


@pytest.mark.parametrize("key, quantity", WRONG.items())
def test_a_wrong_number_is_found(key, quantity, monkeypatch):
    config, theirs = comparison.numbers("vits_piper_speaker")
    wrong = np.array(theirs[key])
    wrong.reshape(-1)[np.argmax(np.abs(wrong))] *= 1 + 1e-4
    theirs[key] = wrong
    monkeypatch.setattr(vits, "numbers", lambda name: (config, comparison.Numbers(theirs)))
    found, _ = vits.read("vits_piper_speaker")
    assert [name for name, value in found.items() if not original.passes(value)] == [quantity]


def test_the_order_of_transformers_is_another_model():
    """Their loss is that of another model than their samples: each agrees with one order of the exchanges alone."""
    config, theirs = comparison.numbers("vits_transformers")
    found = vits.predictor(config | {"exchanged first": False}, theirs)
    apart = {key: comparison.difference(given.given[""], given.theirs[""]) for key, given in found.items() if "" in given.given}
    assert apart["loss"] > 1e-3 and apart["sample"] < 1e-9 and apart["cool sample"] < 1e-9
