"""Files written by an earlier version (0.1.0, before couplings declared `passes`) load and give the same numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from refflow import AffineCoupling, Coupling, Flow, load, save, saving
from refflow.maps.elementwise import ScaledAffine, ScaledShift

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


def test_affine_couplings_that_were_not_the_papers_are_families_now():
    plain = load(SAVED / "affine_plain.npz")
    assert type(plain) is AffineCoupling and type(load(SAVED / "affine_context.npz").inner) is AffineCoupling
    for name, bijector in (("affine_scale_convention", ScaledAffine), ("affine_shift_first", ScaledShift),
                           ("affine_trained_scale", ScaledAffine), ("affine_gains", ScaledAffine)):
        f = load(SAVED / f"{name}.npz")
        assert type(f) is Coupling and f.family.bijector is bijector
    shifted = load(SAVED / "affine_shift_first.npz")
    assert shifted.layout == "interleaved" and shifted.family.map.order == ("shift", "scale")
    assert load(SAVED / "affine_gains.npz").family.channels == 2


@pytest.mark.parametrize("name", EXPECTED)
def test_an_earlier_file_is_saved_in_the_words_of_today(name, tmp_path):
    value = load(SAVED / f"{name}.npz")
    save(value, tmp_path / "a.json")
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["schema"] == saving.SCHEMA and load(tmp_path / "a.json").equals(value)


@pytest.mark.parametrize("key", ["order", "layout", "shift_first"])
def test_a_lost_option_shows(key, monkeypatch):
    """If an upgrade forgot one of the options, the numbers would differ, or the file would be refused."""
    def forgetful(given):
        return saving.of_family({**given, "fields": given["fields"] | {key: saving.AFFINE[key]}})

    monkeypatch.setitem(saving.UPGRADES, "AffineCoupling", forgetful)
    with pytest.raises(AssertionError):
        test_an_earlier_file_loads("affine_shift_first")
