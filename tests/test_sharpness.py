"""Every law with units finds a bug of 32 of them, and NaN; a hundred times duller, or blind to NaN, it would not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from refflow.laws import composition_laws, law, bijector_laws as laws
from refflow.laws.bijector_laws import LAWS
from validation import sharpness
from validation.sharpness import BUGS, ELSEWHERE, EXACT, ROUGH, SHARP, is_dull, main

WITH_UNITS = BUGS | ELSEWHERE
DULLER = 100
BY_UNIT = [name for name in BUGS if name != "Taylor remainder falls as h^2"]     # other terms of its bound are as large
NOT_HELD = {"monotone", "batch is the stack of singles", "cotangents sum over what broadcast"}     # they compare by themselves


def test_every_law_has_units_or_a_reason():
    named = [*WITH_UNITS, *EXACT, *ROUGH]
    assert sorted(named) == sorted(LAWS)


@pytest.mark.parametrize("name", WITH_UNITS)
def test_a_bug_of_32_units_is_found_and_none_of_0(name):
    assert 10 <= SHARP <= 50
    assert any(WITH_UNITS[name].found(name, SHARP).values())
    assert not any(WITH_UNITS[name].found(name, 0).values())


@pytest.mark.parametrize("name", BUGS)
def test_nan_is_found(name):
    assert all(BUGS[name].found(name, np.nan).values())


@pytest.mark.parametrize("name", BY_UNIT)
def test_a_law_a_hundred_times_duller_misses_its_bug(name, monkeypatch):
    """So the bug is as small as the law is sharp."""
    for module in (laws, composition_laws):
        monkeypatch.setattr(module, "unit", lambda p, kappa: DULLER * law.unit(p, kappa))
    assert not any(BUGS[name].found(name, SHARP).values())


@pytest.mark.parametrize("name", [name for name in BUGS if name not in NOT_HELD])
def test_a_law_that_is_blind_to_nan_misses_it(name, monkeypatch):
    """`error > bound` in place of `not error <= bound`."""
    def blind(p, what, error, bound, where=True):
        law_hold(p, what, np.where(np.isnan(error), 0, error), bound, where)

    law_hold = law.hold
    for module in (law, laws, composition_laws):
        monkeypatch.setattr(module, "hold", blind)
    assert not all(BUGS[name].found(name, np.nan).values())


def test_the_command(capsys, monkeypatch):
    assert main(["--law", "fused is separate", "dtype is kept", "mass is one"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["units", "law"] and shown[1].split() == ["2", "fused", "is", "separate"]
    assert shown[2].split()[-1] == "exact" and shown[3].endswith(ROUGH["mass is one"])
    monkeypatch.setattr(sharpness, "UNITS", (1,))
    assert main(["--law", "any layout", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["dull"] == ["any layout"] and set(said["laws"][0]["units"].values()) == {None}
    with pytest.raises(SystemExit):
        main(["--law", "no law"])


@pytest.mark.parametrize("units, nan, dull", [({"a": 64, "b": 2}, [], False), ({"a": 64}, [], True), ({"a": None}, [], True),
                                              ({"a": 2}, ["a"], True), ({"a": 2, "b": 2}, ["a"], False), ({}, [], False)])
def test_a_dull_law(units, nan, dull):
    assert is_dull({"units": units, "nan": nan}) is dull
