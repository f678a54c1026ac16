"""A masked map on the entries at valid positions: it says of them what the map says of the event in which they stand."""

from __future__ import annotations

import numpy as np
import pytest

from refflow import DenseLinear, GlowTTSActNorm, Pointwise
from refflow.accuracy.valid import at_valid, is_masked, placed, taken
from refflow.core import Array, Bijector, bijector, real, sequence_mask

MASK = np.array([True, False, True])
VALID = [0, 2, 3, 5]                    # of two channels; with a third one 6 and 8, too


@bijector(source="definition", domain=real, codomain=real, register=False)
class WithTheirSum(Bijector):
    """x = (2 z, the sum of the channels) at valid positions: an event of x has more entries than one of z."""

    mask: Array = sequence_mask("T")
    event_ndim = (2, 2)

    @staticmethod
    def definition(m, z, mask):
        raise NotImplementedError

    def output_shape(self, shape):
        return shape[0] + 1, shape[1]

    def input_shape(self, shape):
        return shape[0] - 1, shape[1]

    def forward(self, z):
        z = np.where(self.mask, z, 0)
        return np.concatenate((2 * z, z.sum(-2, keepdims=True)), -2)

    def inverse(self, x):
        return np.where(self.mask, x[..., :-1, :] / 2, 0)

    def log_det(self, z):
        return np.where(self.mask, z, 0).sum((-2, -1))          # of no chart: only which entries it sees is asked

    def forward_and_log_det(self, z):
        return self.forward(z), self.log_det(z)

    def inverse_and_log_det(self, x):
        z = self.inverse(x)
        return z, -self.log_det(z)

    def jacobian(self, z):
        C, T = z.shape[-2:]
        unit = np.eye(C * T).reshape(C * T, C, T)
        return np.broadcast_to(self.forward(unit).reshape(C * T, -1).T, (*z.shape[:-2], (C + 1) * T, C * T))

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            return np.where(self.mask, 2 * x_bar[..., :-1, :] + x_bar[..., -1:, :] + log_det_bar[..., None, None], 0), {}

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        def pullback(z_bar, log_det_bar):
            z_bar = np.where(self.mask, (z_bar - log_det_bar[..., None, None]) / 2, 0)
            return np.concatenate((z_bar, np.zeros_like(z_bar[..., :1, :])), -2), {}

        return self.inverse_and_log_det(x), pullback


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape)


def wide():
    f = WithTheirSum(MASK)
    return f, at_valid(f, (2, 3))[0]


@pytest.mark.parametrize("batch", [(), (5,), (2, 3)])
def test_entries_and_their_places(batch):
    events = normal(*batch, 2, 3)
    entries = taken(events, VALID, 2)
    assert (entries == events.reshape(*batch, 6)[..., VALID]).all() and entries.shape == (*batch, 4)
    assert np.array_equal(placed(entries, VALID, (2, 3), np.nan), np.where(MASK, events, np.nan), equal_nan=True)
    assert not placed(entries, VALID, (2, 3))[..., ~MASK].any()


def test_shapes_are_the_numbers_of_valid_entries():
    f, g = wide()
    assert is_masked(f) and not is_masked(f.replace(mask=None))
    assert at_valid(f, (2, 3))[1] == g.input_shape((6,)) == (4,) and g.output_shape((4,)) == (6,)
    assert g.applied_at((4,)) == [((2, 3), ())]
    for wrong, side in (((6,), g.output_shape), ((4,), g.input_shape), ((2, 3), g.output_shape)):
        with pytest.raises(ValueError, match=f"it has {len(g.where(side == g.input_shape))} valid entries"):
            side(wrong)
    unmasked = Pointwise(DenseLinear(np.eye(2)), 2)
    assert at_valid(unmasked, [2, 3]) == (unmasked, (2, 3))


def test_values_are_the_maps_at_valid_positions():
    f, g = wide()
    z = normal(5, 4)
    event = placed(z, VALID, (2, 3))
    x = f.forward(event).reshape(5, 9)[:, [*VALID, 6, 8]]
    assert (g.forward(z) == x).all() and (g.inverse(x) == z).all() and (g.log_det(z) == f.log_det(event)).all()
    for found, expected in ((g.forward_and_log_det(z), (x, f.log_det(event))), (g.inverse_and_log_det(x), (z, -f.log_det(event)))):
        assert (found[0] == expected[0]).all() and (found[1] == expected[1]).all()


def test_derivatives_are_of_the_valid_entries():
    """The map is linear, so that its Jacobian takes z to x, and its transpose a cotangent back."""
    g, z, one = wide()[1], normal(5, 4), np.ones(5)
    x, x_bar = g.forward(z), normal(5, 6)
    J = g.jacobian(z)
    assert J.shape == (5, 6, 4) and np.allclose(J @ z[..., None], x[..., None], rtol=1e-14, atol=1e-14)
    (image, log_det), pullback = g.vjp(z)
    z_bar, _ = pullback(x_bar, one)
    assert (image == x).all() and (log_det == g.log_det(z)).all()
    assert np.allclose(z_bar, np.einsum("nij,ni->nj", J, x_bar) + 1, rtol=1e-14, atol=1e-14)
    (image, log_det), pullback = g.inverse_vjp(x)
    found, _ = pullback(z_bar, one)
    assert (image == z).all() and (log_det == -g.log_det(z)).all()
    assert np.allclose(found, np.concatenate(((z_bar - 1) / 2, np.zeros((5, 2))), -1), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("method", ["initialised", "inverse_initialised"])
def test_initialisation_is_the_maps(method):
    f = Pointwise(GlowTTSActNorm(np.zeros(2)), 2, MASK)
    g, data = at_valid(f, (2, 3))[0], 3 + normal(20, 4)
    event = placed(data, VALID, (2, 3))
    found = getattr(g, method)(data, np.random.default_rng(1))
    assert found.inner.equals(getattr(f, method)(event, np.random.default_rng(1)))
    out = (found.forward if method == "initialised" else found.inverse)(data).reshape(20, 2, 2).swapaxes(1, 2).reshape(40, 2)
    assert np.allclose(out.mean(0), 0, atol=1e-12) and np.allclose(out.std(0), 1, atol=1e-5)


@pytest.mark.parametrize("method, entries, shape", [("initialised", 4, (5, 2, 3)), ("inverse_initialised", 6, (5, 3, 3))])
def test_each_initialisation_is_given_events_of_its_side(method, entries, shape, monkeypatch):
    g, seen = wide()[1], []
    monkeypatch.setattr(WithTheirSum, method, lambda self, data, rng: seen.append(data.shape) or self)
    assert getattr(g, method)(normal(5, entries), None).equals(g) and seen == [shape]
