"""Values: one class for each page, components that stand in several places, and roles."""

from __future__ import annotations

import inspect
import json
import pickle
import pydoc
import re
import sys

import numpy as np
import pytest

import refflow
from refflow import Affine, AffineCoupling, Chain, Dense, DiagonalNormal, Exp, Flow, Sequential, StandardNormal, Tanh, TanhActivation
from refflow.core import Array, Bijector, bijector, over_event, real, registry, sequence_mask, tree
from refflow.core.docstrings import joined_text
from refflow.core.tree import flatten
from refflow.training import LikelihoodGradient, Unconstrained

CONTRACT = {"bijector": ("forward", "inverse", "log_det", "forward_and_log_det", "inverse_and_log_det", "jacobian", "vjp",
                         "inverse_vjp"),
            "conditioner": ("forward", "jacobian", "vjp"), "density": ("log_prob", "log_prob_vjp", "sample"),
            "scale": ("forward", "log", "vjp")}


# -- one class for each page ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["letters", "params", "checked"])
def test_a_page_cannot_replace_a_name_that_values_use(name):
    page = type("Page", (Bijector,), {"event_ndim": (0, 0), name: lambda self: None})
    with pytest.raises(TypeError, match=f"^Page: {name} is a name that every value has and uses"):
        bijector(source="definition", domain=real, codomain=real, register=False)(page)


def test_help_shows_the_page():
    assert str(inspect.signature(Tanh.forward)) == "(self, z)" and Tanh.forward.__doc__.startswith("x = f(z).\n")
    for method in (Tanh.forward, Tanh.inverse, Tanh.vjp, DiagonalNormal.log_prob, Dense.forward):      # shapes, and errors
        assert "(*batch" in method.__doc__ + Tanh.forward.__doc__ and "rror" in method.__doc__
    assert "np.tanh(z)" in inspect.getsource(Tanh.forward)
    assert "pullback(x_bar, log_det_bar)" in Tanh.vjp.__doc__


@pytest.mark.parametrize("name", [name for name, page in refflow.REGISTRY.items() if page.textbook])
def test_help_shows_the_equations_of_the_map(name):
    page = refflow.REGISTRY[name]
    text, (own, first, *_) = pydoc.plaintext.document(page), map(str.strip, re.split(
        r"^(?=The map\.  |The reverse rule\.  )", joined_text(inspect.getsource(inspect.getmodule(page))), flags=re.M))
    lines = [line.removeprefix(" |").strip() for line in text.splitlines()]
    shown = lines[:lines.index(f"`refflow show {name}` has the rest.")]
    assert [line.strip() for line in first.splitlines()] == shown[-len(first.splitlines()) - 1:-1]
    assert not any(line.startswith(("The reverse rule.", "In floating point.")) for line in lines) and own not in text


def test_help_of_a_page_of_ones_own_has_its_equations_too(monkeypatch):
    """`refflow show` does not know such a page."""
    monkeypatch.setattr(registry, "REGISTRY", {})
    monkeypatch.setattr(sys.modules[__name__], "__doc__", "Title.\n\nThe map.  One,\n    x = z    (1)\n\nThe reverse rule.  Two.\n")
    made = bijector(source="definition", domain=real, codomain=real)(
        type("Page", (Bijector,), {"__doc__": "x = z.\n\n    Indented.\n    ", "__module__": __name__, "event_ndim": (0, 0)}))
    assert made.__doc__ == "x = z.\n\nIndented.\n\nThe map.  One,\n    x = z    (1)"


@pytest.mark.parametrize("name", refflow.REGISTRY)
def test_there_is_one_class_and_every_method_has_a_docstring(name):
    page = refflow.REGISTRY[name]
    assert [cls.__name__ for cls in page.__mro__].count(name) == 1
    for method in CONTRACT.get(page.kind, ()):
        assert getattr(page, method).__doc__, method
        assert inspect.getsource(getattr(page, method))


# -- components that stand in several places --------------------------------------------------------------------------

def tied():
    """Three couplings, the first and the third with one network."""
    rng = np.random.default_rng(0)
    net, other = (Sequential((Dense(rng.normal(size=(3, 1))), TanhActivation(), Dense(rng.normal(size=(2, 3)))))
                  for _ in range(2))
    mask = np.array([True, False])
    return Chain((AffineCoupling(mask, net), AffineCoupling(~mask, other), AffineCoupling(mask, net)))


def untied(f):
    """The same map, the third network is a separate copy."""
    third = f.stages[2]
    return Chain((*f.stages[:2], third.replace(net=tree.remade(third.net, lambda path, value: value.cast(value.dtype)))))


def test_a_component_in_two_places_is_one():
    f = tied()
    for again in (f, f.astype(np.float32), f.unchecked(np.float32), f.unravel(2 * f.ravel()), pickle.loads(pickle.dumps(f)),
                  Unconstrained(f).value_at(Unconstrained(f).vector + 1), Unconstrained(f).quick(Unconstrained(f).vector + 1)):
        assert again.stages[0].net is again.stages[2].net and again.stages[0].net is not again.stages[1].net
    assert f.params()["stages"]["2"]["net"] == {} and f.ravel().size == untied(f).ravel().size * 2 // 3


def test_its_cotangents_are_added_up():
    f, rng = tied(), np.random.default_rng(1)
    z, x_bar, l_bar = rng.normal(size=(5, 2)), rng.normal(size=(5, 2)), rng.normal(size=5)
    (_, _), pullback = f.vjp(z)
    (_, _), apart = untied(f).vjp(z)
    bars, parts = pullback(x_bar, l_bar)[1]["stages"], apart(x_bar, l_bar)[1]["stages"]
    assert [path for path, _ in flatten(bars)] == [path for path, _ in flatten(f.params()["stages"])]
    for path, bar in flatten(bars["0"]):
        both = tree.at_path(parts["0"], path) + tree.at_path(parts["2"], path)
        assert np.abs(bar - both).max() <= 1e-14 * np.abs(both).max()


@pytest.mark.parametrize("form", [".npz", ".json"])
def test_it_stays_one_in_a_file(tmp_path, form):
    refflow.save(tied(), tmp_path / f"tied{form}")
    f = refflow.load(tmp_path / f"tied{form}")
    assert f.stages[0].net is f.stages[2].net and f.equals(tied())


def test_a_file_cannot_name_what_comes_later(tmp_path):
    path = tmp_path / "tied.json"
    refflow.save(tied(), path)
    document = json.loads(path.read_text().replace('"same": "stages.0.net"', '"same": "stages.3.net"'))
    path.write_text(json.dumps(document | {"checksum": refflow.saving.checksum(document, {})}))
    with pytest.raises(ValueError, match="stages.2.net: there is no component 'stages.3.net' before it"):
        refflow.load(path)


@pytest.mark.parametrize("memory", ["stored", "reversible"])
def test_training_adds_them_up_too(memory):
    flow, rng = Flow(tied(), StandardNormal(2)), np.random.default_rng(1)
    x, b = rng.normal(size=(7, 2)), rng.normal(size=7)
    _, pullback = flow.log_prob_vjp(x)
    _, bars = LikelihoodGradient(memory)(flow, x, b)
    for (path, bar), (_, true) in zip(flatten(bars), flatten(pullback(b)[1]), strict=True):
        assert np.abs(bar - true).max() <= 1e-12 * np.abs(true).max(), path


def test_it_is_replaced_at_its_first_place():
    f = tied()
    g = f.replace(stages={"0": {"net": {"layers": {"0": {"W": np.ones((3, 1))}}}}})
    assert g.stages[2].net is g.stages[0].net and np.all(g.stages[2].net.layers[0].W == 1)
    with pytest.raises(ValueError, match=r"Chain: stages\.2\.net is stages\.0\.net, where it is to be replaced"):
        f.replace(stages={"2": {"net": {"layers": {"0": {"W": np.ones((3, 1))}}}}})


def test_what_stays_is_not_made_again():
    f = Chain((Affine(0.5, 2.0), Exp()))
    g = f.replace(stages={"0": {"scale": 3.0}})
    assert g.stages[1] is f.stages[1] and g.stages[0].scale == 3


# -- roles ------------------------------------------------------------------------------------------------------------

@bijector(domain=real, codomain=real, register=False)
class Shifted(Bijector):
    """x = z + shift at valid positions, whose mask has a name of its own."""

    shift: Array = real()
    valid: Array = sequence_mask("T")
    event_ndim = (1, 1)

    def forward_and_log_det(self, z):
        return np.where(self.valid, z + self.shift, 0), np.zeros(z.shape[:-1])

    def inverse_and_log_det(self, x):
        return np.where(self.valid, x - self.shift, 0), np.zeros(x.shape[:-1])

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            return x_bar, {"shift": np.where(self.valid, x_bar, 0).sum(-1) + 0 * over_event(log_det_bar, 0)}

        return self.forward_and_log_det(z), pullback


def test_a_role_is_filled_whatever_its_name():
    f = Shifted(1.0).at(mask=[True, False])
    assert np.array_equal(f.forward([1.0, np.nan]), [2, 0])


def test_a_split_is_not_a_sequence_mask():
    split = np.array([True, True, False, False])
    f = refflow.AdditiveCoupling(split, Dense(np.ones((2, 2))))
    with pytest.raises(ValueError, match="AdditiveCoupling: mask is for sequences"):
        f.at(mask=[True, False, True, False])


def test_the_unchecked_copy_is_made_once_and_belongs_to_one_value():
    f = Affine(np.array([1.0, 2.0]), 3.0)
    copy = f.unchecked(np.float64)
    assert copy is f.unchecked(np.float64) and copy.shift is f.shift and not copy.checked
    assert f.unchecked(np.float32).dtype == np.float32
    for other in (f.replace(shift=5.0), tree.copied(f, shift=np.array(5.0)), f.unravel(f.ravel() + 1)):
        assert other.unchecked(np.float64).shift is other.shift


def test_what_a_value_computes_of_itself_is_not_handed_to_a_copy():
    f = Affine(np.array([1.0, 2.0]), 3.0)
    assert f.parameter_batch == (2,) and "parameter_batch" in vars(f)
    other = tree.copied(f, shift=np.zeros(3))
    assert other.parameter_batch == (3,) and f.parameter_batch == (2,)
