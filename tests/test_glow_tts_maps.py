"""The maps of Glow-TTS's decoder agree with the authors' numbers."""

from __future__ import annotations

import numpy as np
import pytest

from validation.original import comparison
from validation.original import glow_tts_maps as theirs_of

QUANTITIES = {"glowtts_actnorm": {"value", "log-det", "loss", "gradient of data", "gradients", "inverse", "inverse log-det",
                                  "reverse", "initialisation"},
              "glowtts_invconvnear_a": {"value", "log-det", "loss", "gradient of data", "gradients", "inverse",
                                        "inverse log-det", "reverse", "reverse in float32", "without a mask", "order"},
              "glowtts_squeeze": {f"{case}: {what}" for case in range(4)
                                  for what in ("squeezed", "without a mask", "mask", "back", "mask back")}
              | {"path from durations"}}


@pytest.mark.parametrize("name", QUANTITIES)
def test_agrees_with_the_authors_code(name):
    found = theirs_of.differences_of(name)
    assert found.keys() == QUANTITIES[name]
    assert max(value for quantity, value in found.items() if "float32" not in quantity) <= 1e-12, found


PLANTED = [("glowtts_actnorm", key, quantity) for key, quantity in (
    ("out/z", "value"), ("out/logdet", "log-det"), ("out/loss", "loss"), ("gradin/x", "gradient of data"),
    ("grad/logs", "gradients"), ("grad/bias", "gradients"), ("out/reverse_of_z", "reverse"), ("ddi/logs", "initialisation"),
    ("ddi/bias", "initialisation"), ("ddi/z", "initialisation"), ("ddi/logdet", "initialisation"))]
PLANTED += [("glowtts_invconvnear_a", key, quantity) for key, quantity in (
    ("out/z", "value"), ("out/logdet", "log-det"), ("gradin/x", "gradient of data"), ("grad/weight", "gradients"),
    ("out/reverse_f64inv", "reverse"), ("out/z_nomask", "without a mask"), ("out/logdet_nomask", "without a mask"))]
PLANTED += [("glowtts_squeeze", f"2/{key}", f"2: {quantity}") for key, quantity in (
    ("squeezed", "squeezed"), ("unsqueezed", "back"), ("squeezed_nomask", "without a mask"), ("squeezed_mask", "mask"))]


@pytest.mark.parametrize("name, key, quantity", PLANTED)
def test_one_wrong_number_is_seen(name, key, quantity, monkeypatch):
    config, theirs = comparison.numbers(name)
    wrong = theirs[key].copy()
    wrong.flat[np.argmax(np.abs(wrong))] *= 1 + 1e-8
    theirs[key] = wrong
    monkeypatch.setattr(theirs_of, "numbers", lambda name: (config, theirs))
    assert theirs_of.differences_of(name)[quantity] > comparison.ALLOWED


def test_their_inverse_in_float32_is_not_copied(monkeypatch):
    config, theirs = comparison.numbers("glowtts_invconvnear_a")
    apart = comparison.difference(theirs["out/reverse_f32inv"], theirs["out/reverse_f64inv"])
    assert 1e-9 < apart < 1e-3
    found = theirs_of.of_grouped(config, theirs)["reverse in float32"]
    assert 1e-8 < comparison.judged({"": found})[""].measure <= found.absolute < 2e-6
    theirs["out/reverse_f32inv"] = theirs["out/reverse_f32inv"] + 2e-6
    wrong = comparison.judged({"": theirs_of.of_grouped(config, theirs)["reverse in float32"]})[""]
    assert wrong.measure > wrong.allowed


def test_the_order_of_channels_is_theirs():
    _, theirs = comparison.numbers("glowtts_invconvnear_a")
    assert theirs["out/grouping"].tolist() == [[0, 2], [1, 3], [4, 6], [5, 7]]
