"""Batch normalisation: the page with given statistics, the statistics of a batch, and training with them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from refflow import Affine, Chain, Flow, Inverse, StandardNormal
from refflow.core.tree import flatten, nest
from refflow.laws import strategies
from refflow.laws.bijector_laws import run_laws
from refflow.laws.pages import lacks
from refflow.maps.conditioners import BijectorLayer, Conv2d, Dense, ReLU, Sequential
from refflow.maps.coupling import Coupling, affine_family, masks
from refflow.maps.elementwise import TanhExpScale
from refflow.maps.normalization import BatchNorm
from refflow.training import LBFGS, Adam, TrainingError, Unconstrained, fit, fit_reverse_kl
from refflow.training.batch_norm import MovingStatistics, norms, of_batch, space_of, with_statistics
from refflow.truth.measure import measure

CHECKERBOARD = masks.checkerboard(1, 2, 3)
UNEVEN = np.arange(12).reshape(2, 2, 3) % 5 > 1
PASSES = {"none": (3, None, 6), "checkerboard": (3, CHECKERBOARD, 3), "another in each channel": (3, UNEVEN, None),
          "a channel": (2, np.array([[True], [False]]), None), "all": (3, np.ones((1, 1, 1), bool), 0),
          "vector": (1, np.array([False, True]), None)}        # rank, passes, positions of each channel that are normalised


def shape_of(rank):
    return (2, 2, 3)[:rank]


def norm(rng, rank=3, passes=None, gain=True, bias=True, eps=1e-4, C=2):
    return BatchNorm(rng.normal(size=C), rng.uniform(0.3, 2, C), rng.normal(size=C) + 3 if gain else None,
                     rng.normal(size=C) if bias else None, passes, eps, rank)


# -- given statistics -------------------------------------------------------------------------------------------------

def test_page_is_complete():
    assert lacks(BatchNorm) == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", PASSES)
def test_laws_where_entries_pass(name, dtype):
    rank, passes, _ = PASSES[name]
    f = norm(np.random.default_rng(0), rank, passes).astype(dtype)

    @settings(max_examples=4)
    @given(strategies.points(f, dtype, event_shape=shape_of(rank)))
    def every_law(points):
        run_laws(f, points)

    every_law()


@pytest.mark.parametrize("name", PASSES)
def test_against_the_equation(name):
    rank, passes, count = PASSES[name]
    rng = np.random.default_rng(1)
    f = norm(rng, rank, passes)
    z = rng.normal(size=(4, *shape_of(rank)))
    x, log_det = f.forward_and_log_det(z)
    kept = np.zeros(shape_of(rank), bool) if passes is None else np.broadcast_to(passes, shape_of(rank))
    expected, total = z.copy(), 0
    for index in np.argwhere(~kept):
        c, here = index[0], (slice(None), *index)
        expected[here] = f.gain[c] * (z[here] - f.mean[c]) / np.sqrt(f.var[c] + 1e-4) + f.bias[c]
        total += np.log(np.abs(f.gain[c])) - np.log(f.var[c] + 1e-4) / 2
    np.testing.assert_allclose(x, expected, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(log_det, total, rtol=1e-14, atol=1e-15)
    assert count is None or np.isclose(total, count * np.log(np.abs(f.gain) / np.sqrt(f.var + 1e-4)).sum())


def test_against_the_truth_where_entries_pass():
    f = norm(np.random.default_rng(2), 3, CHECKERBOARD)
    z, bar = np.random.default_rng(3).normal(size=(2, 2, 2, 3))
    for found in (measure(f, z=z, x_bar=bar, log_det_bar=0.7), measure(f, x=z, z_bar=bar, log_det_bar=0.7)):
        assert max(C for C, _ in found.values()) < 5, found


@pytest.mark.parametrize("gain, bias", [(True, False), (False, True), (False, False)])
def test_without_gain_or_bias(gain, bias):
    f = norm(np.random.default_rng(4), 1, None, gain, bias)
    assert set(f.params()) == {"mean", "var"} | ({"gain"} if gain else set()) | ({"bias"} if bias else set())
    full = f.replace(gain=f.gain if gain else np.ones(2), bias=f.bias if bias else np.zeros(2))
    z = np.random.default_rng(5).normal(size=(3, 2))
    assert (f.forward(z) == full.forward(z)).all() and (f.log_det(z) == full.log_det(z)).all()
    assert f.vjp(z)[1](z, np.ones(3))[1].keys() == f.params().keys()


@pytest.mark.parametrize("change, message", [
    ({"var": [-1.0, 1.0]}, "var must be finite and >= 0; var\\[0\\] = -1"),
    ({"gain": [0.0, 1.0]}, "gain must be finite and not 0"), ({"rank": 4}, "rank must be 1, 2 or 3"),
    ({"mean": [0.0]}, "trailing shape \\(C=1\\)"), ({"eps": -1e-5}, "eps must be finite and >= 0"),
    ({"var": [1.0, 0.0], "eps": 0.0}, "var must be > 0 if eps is 0; var\\[..., 1\\] = 0"),
    ({"statistics": "some"}, "statistics must be one of"),
    ({"passes": np.ones((2, 2), bool)}, "passes must have 3 axes"), ({"passes": np.ones((3, 1, 1), bool)}, "C=2"),
    ({"passes": np.ones((1, 1, 1))}, "passes must be of dtype bool")])
def test_bad_fields(change, message):
    fields = {"mean": np.zeros(2), "var": np.ones(2), "gain": np.ones(2), "rank": 3} | change
    with pytest.raises(ValueError, match=f"BatchNorm: .*{message}"):
        BatchNorm(**fields)


def test_bad_events():
    f = norm(np.random.default_rng(0), 3, CHECKERBOARD)
    for z in (np.zeros((3, 2, 3)), np.zeros((2, 2, 4)), np.zeros(2)):
        with pytest.raises(ValueError, match="BatchNorm: z"):
            f.forward(z)


# -- statistics of a batch --------------------------------------------------------------------------------------------

def test_unbiased_variances_in_training():
    rng = np.random.default_rng(22)
    z = rng.normal(1, 2, (5, 2, 2, 3))
    norm = BatchNorm(np.zeros(2), np.ones(2), bias=np.zeros(2), passes=CHECKERBOARD, rank=3, statistics="all", unbiased=True)
    trained = fit(Flow(Inverse(norm), StandardNormal((2, 2, 3))), z, steps=1, validation=0).flow.bijector.inner
    np.testing.assert_allclose(trained.var, 0.9 + 0.1 * z.var((0, 2, 3), ddof=1), rtol=1e-13)


def test_output_is_standardised():
    z = np.random.default_rng(9).normal(3, 5, (200, 2, 4))
    f = of_batch(BatchNorm(np.zeros(2), np.ones(2), eps=0.0, rank=2))
    x = f.forward(z)
    np.testing.assert_allclose(x.mean((0, 2)), 0, atol=1e-13)
    np.testing.assert_allclose(x.var((0, 2)), 1, rtol=1e-12)
    again = BatchNorm(np.zeros(2), np.ones(2), eps=0.0, rank=2).initialised(z, None)
    np.testing.assert_allclose(again.forward(z), x, rtol=1e-13, atol=1e-13)


def test_no_inverse_of_a_batch():
    f = of_batch(norm(np.random.default_rng(0), 1))
    for method in (f.inverse, f.inverse_and_log_det, f.inverse_vjp, f.jacobian):
        with pytest.raises(ValueError, match="BatchStatisticsNorm: .*(no inverse|no Jacobian)"):
            method(np.ones((3, 2)))
    for fields in ({"gain": np.ones((3, 2))}, {"mean": np.ones((3, 2))}):
        with pytest.raises(ValueError, match="no batch axes"):
            of_batch(BatchNorm(**{"mean": np.zeros(2), "var": np.ones(2)} | fields))


# -- flows and networks -----------------------------------------------------------------------------------------------

def small_flow(rng, D=4):
    """Two couplings with normalisations in their networks and after them."""
    def layers(a, b):
        normalised = BijectorLayer(BatchNorm(np.zeros(6), np.ones(6), bias=np.zeros(6)))
        return Sequential([Dense(rng.normal(size=(6, a))), normalised, ReLU(), Dense(0.3 * rng.normal(size=(2 * b, 6)))])

    stages = []
    for flip in (False, True):
        mask = masks.halves(D, flip=flip)
        stages += [Coupling(mask, layers(D // 2, D - D // 2), affine_family(TanhExpScale())),
                   BatchNorm(np.zeros(D), np.ones(D), passes=mask)]
    return Flow(Inverse(Chain(stages)), StandardNormal(D))


def test_of_batch_reaches_every_component():
    flow = small_flow(np.random.default_rng(10))
    found = [path for path, _ in norms(flow)]
    inside = ("bijector", "inner", "stages")
    assert found == [(*inside, "0", "net", "layers", "1", "f"), (*inside, "1"), (*inside, "2", "net", "layers", "1", "f"),
                     (*inside, "3")]
    record = {}
    trained = of_batch(flow, record)
    assert norms(trained) == [] and not record
    of_parameters = {path for path, _ in flatten(flow.params()) if path[-1] not in ("mean", "var")}
    assert {path for path, _ in flatten(trained.params())} == of_parameters
    x = np.random.default_rng(11).normal(size=(50, 4))
    trained.log_prob(x)
    assert set(record) == set(found)
    assert of_batch(trained) is trained and of_batch(flow.base) is flow.base


def test_moving_statistics_follow():
    flow, record = small_flow(np.random.default_rng(12)), {}
    x = np.random.default_rng(13).normal(2, 3, (50, 4))
    log_prob = of_batch(flow, record).log_prob(x)
    moved, there = with_statistics(flow, record, 0.25), with_statistics(flow, record, 1.0)
    for (path, before), (_, after), (_, at_once) in zip(norms(flow), norms(moved), norms(there)):
        for key, batch in zip(("mean", "var"), record[path]):
            expected = 0.75 * getattr(before, key) + 0.25 * batch
            np.testing.assert_allclose(getattr(after, key), expected, rtol=1e-14, atol=1e-15)
            np.testing.assert_allclose(getattr(at_once, key), batch, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(there.log_prob(x), log_prob, rtol=1e-10, atol=1e-10)
    assert (norms(flow)[0][1].var == 1).all()


def test_gradients_of_a_flow():
    rng = np.random.default_rng(14)
    flow = of_batch(small_flow(rng))
    x, w = rng.normal(size=(20, 4)), rng.normal(size=20)
    x_bar, params_bar = flow.log_prob_vjp(x)[1](w)
    params, bars = dict(flatten(flow.params())), dict(flatten(params_bar))
    assert params.keys() == bars.keys()
    step, x_step = {path: rng.normal(size=v.shape) for path, v in params.items()}, rng.normal(size=x.shape)

    def L(h):
        return (w * flow.replace(**nest({p: v + h * step[p] for p, v in params.items()})).log_prob(x + h * x_step)).sum()

    slope = sum((bars[path] * step[path]).sum() for path in params) + (x_bar * x_step).sum()
    assert slope == pytest.approx((L(1e-6) - L(-1e-6)) / 2e-6, rel=1e-6)


def test_fit_is_a_loop_of_steps():
    """Three steps by hand: gradients through the batch's statistics, Adam, and moving statistics after each step."""
    rng = np.random.default_rng(15)
    flow, x, optimiser = small_flow(rng), rng.normal(1, 2, (40, 4)), Adam(0.05)
    result = fit(flow, x, optimiser=optimiser, steps=3, validation=0)
    by_hand = flow
    space = Unconstrained(of_batch(flow))
    vector, state = space.vector, optimiser.start(space.vector)
    for loss in result.history["loss"]:
        record = {}
        trained = of_batch(by_hand, record)
        log_prob, pullback = trained.log_prob_vjp(x)
        assert -log_prob.mean() == pytest.approx(loss, rel=1e-12)
        vector, state = optimiser.step(vector, space.gradient(vector, pullback(np.full(40, -1 / 40))[1]), state)
        by_hand = with_statistics(by_hand.replace(**space.value_at(vector).params()), record)
    for (path, found), (_, expected) in zip(flatten(result.flow.params()), flatten(by_hand.params())):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12, err_msg=str(path))
    assert result.flow.bijector.inner.stages[1].gain is None


def test_fit_gives_a_usable_flow():
    rng = np.random.default_rng(16)
    x = rng.normal(size=(400, 4)) @ rng.normal(size=(4, 4)) * 3 + 5
    result = fit(small_flow(rng), x, steps=300, batch_size=100, optimiser=Adam(5e-3), validation=0.25, rng=rng)
    history = result.history
    assert history["validation_loss"][0] - history["validation_loss"].min() > 1
    assert history["validation_loss"].min() - history["loss"][-50:].mean() < 1
    inside = result.flow.bijector.inverse(x)
    assert abs(inside.mean()) < 0.5 and 0.5 < inside.std() < 1.5
    assert np.isfinite(result.flow.log_prob(result.flow.sample(rng, 50))).all()
    again = fit(small_flow(np.random.default_rng(16)), x, steps=2, validation=0, fixed="*.W")
    assert again.flow.bijector.inner.stages[0].net.layers[0].W.shape == (6, 2)


def test_the_space_of_training():
    flow = small_flow(np.random.default_rng(17))
    space = space_of(flow, ())
    assert isinstance(space, MovingStatistics) and len(space.statistics) == 8
    assert not any(leaf.path[-1] in ("mean", "var") for leaf in space.leaves)
    space.stepped()                                                                 # before any pass there is nothing to follow
    assert space.value_at(space.vector).equals(flow)
    plain = Flow(Chain([Affine(np.zeros(2), np.ones(2))]), StandardNormal(2))
    assert type(space_of(plain, ())) is Unconstrained


def test_training_by_samples_keeps_the_statistics():
    rng = np.random.default_rng(20)
    norm = BatchNorm(np.array([1.0, 2.0]), np.array([0.5, 2.0]), bias=np.zeros(2))
    flow = Flow(Inverse(norm), StandardNormal(2))
    trained = fit_reverse_kl(flow, lambda x: -(x * x).sum(-1) / 2, lambda x: -x, steps=3, rng=rng).flow.bijector.inner
    assert (trained.mean == norm.mean).all() and (trained.var == norm.var).all() and (trained.bias != norm.bias).all()


def test_fit_refuses():
    rng = np.random.default_rng(18)
    flow, x = small_flow(rng), rng.normal(size=(20, 4))
    with pytest.raises(ValueError, match="LBFGS takes no flow with batch normalisation"):
        fit(flow, x, optimiser=LBFGS(), validation=0)
    with pytest.raises(TrainingError, match="step"):
        fit(flow, x, optimiser=Adam(1e300), steps=5, validation=0)


def test_images_in_a_network():
    """A convolution and a normalisation over batch and positions, float32 kept."""
    rng = np.random.default_rng(19)
    normalised = BijectorLayer(BatchNorm(np.zeros(3), np.ones(3), rank=3))
    net = of_batch(Sequential([Conv2d(rng.normal(size=(3, 2, 3, 3))), normalised, ReLU()]).astype(np.float32))
    a = rng.normal(size=(5, 2, 4, 4)).astype(np.float32)
    h, pullback = net.vjp(a)
    assert h.dtype == pullback(h)[0].dtype == np.float32
    before = net.layers[0].forward(a)
    expected = (before - before.mean((0, 2, 3), keepdims=True)) / np.sqrt(before.var((0, 2, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(h, np.maximum(expected, 0), rtol=1e-4, atol=1e-5)
