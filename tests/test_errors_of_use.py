"""Errors of use are told in one line that says what to write instead, and are not findings."""

from __future__ import annotations

import numpy as np
import pytest

import refflow
from refflow.oracle import CannotRun, adapter, check
from refflow.oracle.boxes.making import made
from refflow.testing import BlackBox, verdicts


# -- single events ----------------------------------------------------------------------------------------------------

def coupled(z):
    """A coupling of one pair."""
    s = np.tanh(z[:1])
    return np.concatenate([z[:1], z[1:] * np.exp(s)]), s.sum()


def coupled_back(x):
    s = np.tanh(x[:1])
    return np.concatenate([x[:1], x[1:] * np.exp(-s)]), -s.sum()


def indexed(z, p):
    return np.array([z[0], z[1] * np.exp(p["scale"] * z[0]), z[2]])


def number(z):
    """A function of a number, by branches."""
    return (z, 0.0) if z > 0 else (2 * z, np.log(2.0))


SINGLE = {"a pair": (coupled, {"event": (2,)}, r"of 3 events, \(3, 2\), it returned an image of shape \(3, 2\)"),
          "an image alone": (lambda z: coupled(z)[0], {"event": (2,)}, r"signature='\(n\)->\(n\)'"),
          "parameters": (indexed, {"event": (3,), "parameters": {"scale": 0.5}}, r"it raised IndexError.* excluded=\{1\}"),
          "a number": (number, {}, "it raised ValueError")}


@pytest.mark.parametrize("name", SINGLE)
def test_a_function_of_single_events_is_told_how_to_take_batches(name):
    function, declared, words = SINGLE[name]
    with pytest.raises(CannotRun, match=f"forward takes one event, and a box is asked batches.*{words}"):
        verdicts(BlackBox(function, **declared))
    with pytest.raises(CannotRun, match="inverse takes one event"):
        verdicts(BlackBox(lambda z, *of: 1 * z, function, **declared))


@pytest.mark.parametrize("name", SINGLE)
def test_what_it_is_told_works(name):
    function, declared, _ = SINGLE[name]
    with pytest.raises(CannotRun) as refused:
        made(BlackBox(function, **declared))
    wrapped = str(refused.value).partition("BlackBox(forward=")[2].removesuffix(", ...)")
    found = verdicts(BlackBox(eval(wrapped, {"numpy": np, "forward": function}), **declared))
    assert found.status == 0 and not found.failed, str(found)


@pytest.mark.parametrize("name, words", [("torch", r"torch.vmap\(forward\)"), ("jax", r"jax.vmap\(forward\)")])
def test_libraries_are_told_their_own(name, words):
    library = pytest.importorskip(name)
    arrays = library.numpy if name == "jax" else library
    with pytest.raises(CannotRun, match=words):
        made(BlackBox(lambda z: arrays.stack([z[0], z[1] * arrays.exp(z[0])]), event=(2,), backend=name, dtype="float32"))


@pytest.mark.parametrize("forward", [
    lambda z: (2 * z, np.full(z.shape[:1], 2 * np.log(2))), lambda z: z + 1e-9 * z.mean(), lambda z: 2 * z,
    lambda z: (2 * z, np.log(2.0)), lambda z: (z * np.exp(z.sum(-1, keepdims=True)), z.sum(-1))])
def test_a_function_of_batches_is_asked(forward):
    """Right or wrong: what a batch does is the laws' to say."""
    made(BlackBox(forward, event=(2,)))


# -- shapes of log-dets -----------------------------------------------------------------------------------------------

def test_a_log_det_of_one_number_is_one_finding():
    """In either direction, and no other law stumbles over it."""
    def two(x):
        return np.array([np.log(x)])

    back = lambda x: (x / 2, -two(2.0))                                     # noqa: E731
    for box in (BlackBox(lambda z: (2 * z, two(2.0))), BlackBox(lambda z: 2 * z, back), BlackBox(lambda z: (2 * z, two(2.0)), back)):
        assert [one.law for one in verdicts(box).failed] == ["log-det shape"]


# -- arguments --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("given, words", [
    ({"event": 3}, r"event must be the shape of an event, event=\(3,\), not 3"),
    ({"event": (3, "a")}, "event must be the shape of an event"),
    ({"inv": np.exp}, "there is no argument 'inv'; did you mean 'inverse'.; it has forward, inverse, event"),
    ({"logdet": np.exp}, "there is no argument 'logdet'; did you mean 'log_det'"),
    ({"dtype": "double"}, "not 'double'; did you mean 'float64'"),
    ({"dtype": np.float32}, "did you mean 'float32'")])
def test_arguments_of_a_box(given, words):
    with pytest.raises(CannotRun, match=words):
        BlackBox(np.exp, **given)


def test_a_dtype_of_torch_is_spelled():
    torch = pytest.importorskip("torch", reason="torch is missing")
    with pytest.raises(CannotRun, match="did you mean 'float64'"):
        BlackBox(np.exp, dtype=torch.float64)
    with pytest.raises(CannotRun, match="did you mean 'float64'"):
        adapter("Tanh", dtype=torch.float64)


def test_a_parameter_under_another_name():
    """Of a box, where it is read and where its gradient is returned; of an adapter in the same way."""
    with pytest.raises(CannotRun, match="raised KeyError: 'scal'; the parameters are named 'scale'"):
        verdicts(BlackBox(lambda z, p: p["scal"] * z, parameters={"scale": 2.0}))
    box = BlackBox(lambda z, p: (p["scale"] * z, 0 * z + np.log(p["scale"])), parameters={"scale": 2.0},
                   pullback=lambda z, x_bar, l_bar, p: (p["scale"] * x_bar, {"scal": (z * x_bar).sum()}))
    with pytest.raises(CannotRun, match="'scale' of the parameters is missing among .'scal'., which were returned"):
        verdicts(box)
    with pytest.raises(CannotRun, match="raised KeyError: 'shft' .line [0-9]+.; params has shift, scale"):
        refflow.check(lambda params, z: {"forward": params["scale"] * z + params["shft"]}, page="Affine")
    with pytest.raises(CannotRun, match="vjp returned a cotangent of 'scal'; the fields are shift, scale"):
        refflow.check(lambda params, z: {"forward": z, "vjp": lambda x_bar, l_bar: (x_bar, {"scal": 0 * x_bar})}, page="Affine")


def test_verdicts_explains_what_check_does():
    """One that raises, one that is not a box, and a function that makes none."""
    for wrong in (BlackBox(lambda z: [][0]), lambda seed: BlackBox(lambda z: [][0]), lambda seed: 3, 3):
        told = []
        for ask in (verdicts, refflow.check) if wrong != 3 else (verdicts,):
            with pytest.raises(CannotRun) as refused:
                ask(wrong)
            told.append(str(refused.value))
        assert len(set(told)) == 1
    assert verdicts(lambda seed: BlackBox(lambda z: 2 * z)).status == 0


# -- adapters ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("key", ["forward", "inverse", "vjp"])
def test_none_is_not_an_answer(key):
    with pytest.raises(CannotRun, match=f"returned None for '{key}': what you do not have is left out"):
        refflow.check(lambda params, z: {"log_det": z, key: None}, page="Exp")


def test_options_of_an_adapter():
    def mine(params, z):
        return {"forward": np.exp(z)}

    assert {one.dtype for one in refflow.check(mine, page="Exp", dtype="float32").passed} == {"float32"}
    with pytest.raises(CannotRun, match="no option 'dir'; did you mean 'direction'.; the options are dtype, direction"):
        refflow.check(mine, page="Exp", dir="inverse")


# -- digits that were not asked for -----------------------------------------------------------------------------------

def test_a_float64_answer_to_float32_is_told():
    box = BlackBox(lambda z: (2 * z.astype(np.float64), np.full(len(z), np.log(np.float32(2)))), dtype="float32")
    found = verdicts(box)
    note = "an image of float64 is returned where float32 is given; it is held to the unit of float32"
    assert found.notes == [note] and f"note: {note}" in str(found) and found.status == 0
    assert verdicts(BlackBox(lambda z: 2 * z, dtype="float32")).notes == []

    def mine(params, z):
        return {"forward": np.exp(z.astype(np.float64)), "log_det": z}

    report = check(adapter("Exp")(mine))
    assert any("float32: forward of float64 came where float32 was given" in note for note in report.notes)
    assert not any("float64: forward" in note for note in report.notes)
