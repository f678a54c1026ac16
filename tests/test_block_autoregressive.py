"""Block neural autoregressive maps: laws, a loop over entries, the image, refusals, training, planted bugs."""

from __future__ import annotations


import numpy as np
import pytest

from tallies import check_laws_by_seeds, points_at
from refflow import Flow, Inverse, StandardNormal, fit, load, save
from refflow.core import bijector
from refflow.laws.bijector_laws import run_laws
from refflow.maps.autoregressive import BlockAutoregressive, block_autoregressive_network
from refflow.maps.autoregressive.block_autoregressive import tanh_and_sech
from refflow.maps.conditioners import BlockDense
from refflow.training import Adam

DTYPES = (np.float32, np.float64)


def drawn(size, units, leak=0.25):
    def make(rng):
        f = block_autoregressive_network(rng, size, units, leak)
        layers = [layer.replace(b=0.3 * rng.standard_normal(layer.b.shape)) for layer in f.layers]
        return f.replace(layers=tuple(layers))

    return make


def by_event(rng):
    """Separate weights for each of 16 events."""
    f = drawn(2, (2,))(rng)
    within = f.layers[0].within * np.exp(0.2 * rng.standard_normal((16, 2, 2, 1)))
    return f.replace(layers=(f.layers[0].replace(within=within), f.layers[1]))


MAPS = {"one entry": drawn(1, (3,)), "one layer": drawn(2, ()), "three layers": drawn(2, (2, 2)),
        "a small leak": drawn(3, (2,), 0.01), "weights by event": by_event}


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", MAPS)
def test_laws(name, dtype):
    check_laws_by_seeds(1, lambda rng: points(MAPS[name](rng), rng, dtype))


def points(f, rng, dtype, count=16):
    return points_at(f, np.exp2(rng.uniform(-3, 0, (count, 1))) * rng.standard_normal((count, f.dims["D"])), rng, dtype)


# -- the map ----------------------------------------------------------------------------------------------------------

def test_the_network_written_out():
    rng = np.random.default_rng(0)
    f = drawn(3, (2, 2), 0.01)(rng)
    z = rng.standard_normal(3)
    h = z
    for k, layer in enumerate(f.layers):
        (D, A, B), u = layer.blocks, np.array(layer.b)
        for d in range(D):
            rows = slice(d * A, (d + 1) * A)
            u[rows] += layer.within[d] @ h[d * B:(d + 1) * B] + layer.below[rows, :d * B] @ h[:d * B]
        h = np.tanh(u) + 0.01 * u if k < 2 else u
    np.testing.assert_allclose(f.forward(z), h, rtol=1e-14)
    J = f.jacobian(z)
    assert not np.triu(J, 1).any() and (J.diagonal() > 0).all()
    assert f.log_det(z) == pytest.approx(np.log(J.diagonal()).sum(), rel=1e-13)


def test_the_part_of_below_that_is_not_read():
    rng = np.random.default_rng(1)
    f = drawn(2, (2,))(rng)
    z = rng.standard_normal((4, 2))
    other = f.replace(layers=tuple(layer.replace(below=np.where(layer.before(), layer.below, 7.0)) for layer in f.layers))
    assert np.array_equal(f.forward(z), other.forward(z))
    bars = f.vjp(z)[1](z, np.ones(4))[1]["layers"]
    assert not bars["0"]["below"][~f.layers[0].before()].any()


def test_a_saturated_unit_keeps_its_log_slope():
    """Without a leak log phi' is -2 |u| + log 4 where phi' underflows."""
    layer = BlockDense([[[1.0]]], [[0.0]], [0.0])
    f = BlockAutoregressive((layer, layer), 0.0)
    assert f.log_det([500.0]) == pytest.approx(np.log(4) - 1000, rel=1e-15)


def test_an_event_outside_the_image_is_refused():
    layer = BlockDense([[[1.0]]], [[0.0]], [0.25])
    f = BlockAutoregressive((layer, layer), 0.0)
    assert f.inverse([1.0]) == pytest.approx([np.arctanh(0.75) - 0.25], rel=1e-14)
    with pytest.raises(ValueError, match="x must be in the image, which is bounded without a leak; entry 0 of event 1 is 1.25"):
        f.inverse([[1.0], [1.25]])
    assert np.isfinite(BlockAutoregressive((layer, layer), 0.01).inverse([30.0])).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_shapes_and_dtypes(dtype):
    f = drawn(2, (3,))(np.random.default_rng(2)).astype(dtype)
    for shape in ((2,), (0, 2), (2, 3, 2)):
        x = np.random.default_rng(3).standard_normal(shape).astype(dtype)
        z, log_det = f.inverse_and_log_det(x)
        assert z.shape == shape and log_det.shape == shape[:-1] and z.dtype == log_det.dtype == dtype
        np.testing.assert_allclose(f.forward(z), x, atol=1e3 * np.finfo(dtype).eps)


ONE, TWO = BlockDense(np.ones((2, 1, 1)), np.zeros((2, 2))), BlockDense(np.ones((2, 2, 1)), np.zeros((4, 2)))


@pytest.mark.parametrize("make, message", [
    (lambda: BlockAutoregressive(()), "layers must be BlockDense, at least one"),
    (lambda: BlockAutoregressive((ONE,), -1.0), "leak must be finite and >= 0, not -1.0"),
    (lambda: BlockAutoregressive((TWO,)), "the last layer must have 1 output for each entry, not 2"),
    (lambda: BlockAutoregressive((ONE, BlockDense(np.ones((2, 1, 2)), np.zeros((2, 4))))),
     r"layers\[1\] must have 2 blocks of 1 inputs, not 2 of 2"),
    (lambda: BlockDense(np.ones((2, 1, 1)), np.zeros((2, 3))), r"below must have shape \(2, 2\) to fit 2 blocks within"),
    (lambda: BlockDense(-np.ones((1, 1, 1)), np.zeros((1, 1))), "within must be"),
    (lambda: block_autoregressive_network(np.random.default_rng(0), 2, (3, 0)), r"units\[1\] must be an int >= 1, not 0"),
])
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_training_lowers_the_loss(tmp_path):
    """From data to latents, which needs no inverse; positive weights remain positive."""
    rng = np.random.default_rng(4)
    a = rng.standard_normal((300, 2))
    x = np.stack((a[:, 0], a[:, 0] ** 2 + 0.3 * a[:, 1]), -1)
    before = Flow(Inverse(block_autoregressive_network(rng, 2, (8,))), StandardNormal(2))
    after = fit(before, x, optimiser=Adam(1e-2), steps=80, validation=0, rng=rng).flow
    assert after.log_prob(x).mean() > before.log_prob(x).mean() + 0.5
    save(after, tmp_path / "flow.npz")
    assert load(tmp_path / "flow.npz").equals(after)
    y = after.sample(rng, 20)
    np.testing.assert_allclose(after.bijector.inverse(y), after.bijector.inner.forward(y), rtol=1e-12)


# -- planted bugs -----------------------------------------------------------------------------------------------------

def mutant(**functions):
    body = {"__annotations__": dict.fromkeys(BlockAutoregressive.declared, object), "__module__": __name__}
    cls = type("Mutant", (BlockAutoregressive,), body | BlockAutoregressive.declared | functions)
    return bijector(source="a planted bug", register=False)(cls)


def unbent(self, bar, u):
    """phi''/phi' without the leak in its denominator."""
    return -2 * tanh_and_sech(u)[0] * bar


def without_leak(self, u):
    return 2 * np.log(self.slope_of(u)[0])


def forward_rules(self, x):
    """The forward cotangents, without the part through z."""
    (z, log_det), _ = BlockAutoregressive.inverse_vjp(self, x)
    _, pullback = self.vjp(z)
    return (z, log_det), lambda z_bar, log_det_bar: pullback(z_bar, -log_det_bar)


BUGS = {"the curvature": ({"of_curvature": unbent}, "pullback is the gradient"),
        "the log-slope": ({"log_slope": without_leak}, "log-det is slogdet of the Jacobian"),
        "the inverse's cotangents": ({"inverse_vjp": forward_rules}, "inverse pullback is the generic one")}


@pytest.mark.parametrize("name", BUGS)
def test_planted_bug(name):
    functions, law = BUGS[name]
    rng = np.random.default_rng(5)
    f = drawn(2, (3,))(rng)
    p = points(f, rng, np.float64)
    run_laws(p.f, p)
    p = points(mutant(**functions)(f.layers, f.leak), rng, np.float64)
    with pytest.raises(AssertionError, match=f"{law}: Mutant: "):
        run_laws(p.f, p)

