"""Which parts of a flow are exchanged for their twins, and what stays as it was."""

from __future__ import annotations

import numpy as np

from refflow import (Affine, AffineCoupling, Autoregressive, Chain, Coupling, DiagonalNormal, Flow, GlowActNorm, Independent,
                     Inverse, StandardNormal)
from refflow.fast.couplings import TunedCoupling, TunedNormal, Workspace
from refflow.fast.flows import TunedFlow
from refflow.fast.images import TunedNorm
from refflow.fast.table import exchanged, tuned, tuned_base, twin
from refflow.fast.unit_by_unit import UnitByUnit
from refflow.maps.conditioners import Dense, Sequential
from refflow.maps.coupling import affine_family
from refflow.maps.elementwise import ExpScale
from refflow.models import maf

PLAIN = Chain((Independent(Affine([1.0, 2.0], 3.0), 1), AffineCoupling([True, False], Sequential((Dense([[0.5], [1.0]]),)))))


def flow():
    return maf(np.random.default_rng(0), 3, (8,), 2)


def masked(value):
    """The autoregressive maps in a value."""
    stages = value.bijector.inner.stages if isinstance(value.bijector, Inverse) else value.bijector.stages
    return [f for stage in stages for f in (getattr(stage, "inner", stage),) if isinstance(f, Autoregressive)]


def test_a_value_without_twins_is_itself():
    assert tuned(PLAIN) is PLAIN and tuned(PLAIN.stages[0]) is PLAIN.stages[0]
    f = Flow(PLAIN, StandardNormal(2))
    assert type(tuned(f)) is TunedFlow and tuned(f).bijector is PLAIN and tuned(f).base is f.base


def test_a_map_that_its_twin_does_not_take_is_itself():
    """A coupling of a family other than splines."""
    net = Sequential((Dense([[0.5], [1.0]]),))
    f = Chain((Coupling([True, False], net, affine_family(ExpScale())),))
    assert tuned(f) is f and type(tuned(f).stages[0]) is Coupling


def test_twins_stand_where_their_maps_stood_and_the_rest_is_as_it_was():
    given = flow()
    found = tuned(given)
    assert len(masked(given)) == 2 and not any(isinstance(f, UnitByUnit) for f in masked(given))
    assert len(masked(found)) == 2 and all(isinstance(f, UnitByUnit) for f in masked(found))
    assert found is not given and found.base is given.base and type(found) is TunedFlow
    assert all(new.net is old.net for new, old in zip(masked(found), masked(given)))
    x = np.random.default_rng(1).standard_normal((5, 3))
    assert np.allclose(found.log_prob(x), given.log_prob(x), rtol=1e-12)
    assert found.bijector.parameter_batch == () and len(found.params()) == len(given.params())


def test_only_the_stages_with_twins_are_new():
    """Before and after a stage that is exchanged."""
    first, last = Independent(Affine([1.0, 2.0, 3.0], 3.0), 1), Independent(Affine(0.5, 2.0), 1)
    f = Chain((first, masked(flow())[0], last))
    found = tuned(f)
    assert found.stages[0] is first and found.stages[2] is last and isinstance(found.stages[1], UnitByUnit)
    outer = tuned(Chain((Inverse(f), first)))
    assert isinstance(outer.stages[0].inner.stages[1], UnitByUnit) and outer.stages[1] is first


def test_a_component_in_two_places_stays_one():
    f = masked(flow())[0]
    found = tuned(Chain((f, Independent(Affine(0.5, 2.0), 1), f)))
    assert found.stages[0] is found.stages[2] and isinstance(found.stages[0], UnitByUnit)
    made = {}
    assert exchanged(f, made) is exchanged(f, made)


def test_twins_of_stages_and_of_bases():
    coupling, norm = PLAIN.stages[1], GlowActNorm(np.zeros(2), np.zeros(2), rank=3)
    assert twin(coupling, 0) is twin(coupling, 1) is TunedCoupling and twin(PLAIN.stages[0], 0) is None
    assert twin(norm, 0) is TunedNorm and twin(norm, 1) is None
    columns = np.ones((2, 5)).T
    base = StandardNormal(2)
    assert isinstance(tuned_base(base, columns, Workspace()), TunedNormal)
    assert tuned_base(base, np.ones((5, 2)), Workspace()) is base
    other = DiagonalNormal(np.zeros(2), np.ones(2))
    assert tuned_base(other, columns, Workspace()) is other
