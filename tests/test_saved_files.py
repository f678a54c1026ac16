"""Files that an earlier version has written (0.1.0, before couplings declared `passes`) load, and give the same numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from refflow import Flow, load

SAVED = Path(__file__).parent / "saved"
EXPECTED = json.loads((SAVED / "expected.json").read_text())


def numbers(values):
    return np.array([float.fromhex(v) for v in values])


@pytest.mark.parametrize("name", EXPECTED)
def test_an_earlier_file_loads(name):
    value, expected = load(SAVED / f"{name}.npz"), EXPECTED[name]
    if isinstance(value, Flow):
        x = numbers(expected["x"]).reshape(expected["shape"])
        given, true = value.log_prob(x), numbers(expected["log_prob"])
    else:
        x, log_det = value.forward_and_log_det(numbers(expected["z"]).reshape(3, 4))
        given = np.concatenate((x.ravel(), np.broadcast_to(log_det, 3)))
        true = numbers(expected["x"] + expected["log_det"])
    assert np.abs(given - true).max() <= 64 * np.finfo(float).eps * np.abs(true).max()
