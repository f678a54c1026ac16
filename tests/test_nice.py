"""NICE: agreement with the authors' code, and the recipe itself at small sizes."""

from __future__ import annotations

import numpy as np
import pytest

from refflow.core.tree import flatten, nest
from refflow.laws.pages import lacks
from refflow.maps.conditioners import ReLU
from refflow.maps.elementwise import Homothety
from refflow.maps.linear import Permutation
from refflow.models import nice
from refflow.training import fit, recipes
from refflow.truth.measure import measure
from validation import original
from validation.original import nice as theirs_of
from validation.original import comparison

CONFIGURATIONS = [
    {"size": 6, "hidden": 4, "layers": (2, 1), "prior": "logistic", "reorder": True},
    {"size": 6, "hidden": 3, "layers": (1, 3, 1), "prior": "normal", "reorder": False},
    {"size": 5, "hidden": 4, "layers": (1, 2), "prior": "normal", "reorder": True},
    {"size": 2, "hidden": 1, "layers": (1,), "prior": "logistic", "reorder": False},
]
every_configuration = pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=lambda c: f"D{c['size']}-{c['prior']}")


def moved(flow, rng):
    """The flow with parameters far from their start."""
    flat = {path: rng.normal(0, 0.7, array.shape).astype(array.dtype) for path, array in flatten(flow.params())}
    return flow.replace(**nest(flat))


# -- the authors' numbers ---------------------------------------------------------------------------------------------

def test_agrees_with_the_authors_code():
    found = theirs_of.differences_of("nice_mnist_like_logistic")
    assert found.keys() >= {"log-likelihood", "latents", "gradients of parameters", "gradient of data", "inverse",
                            "optimiser steps"}
    assert max(value.measure for value in found.values()) <= 1e-12, found


def test_the_order_is_theirs():
    flow = nice(np.random.default_rng(0), 12, 3, (1,))
    assert (flow.bijector.inner.stages[0].order == comparison.numbers("nice_mnist_like_logistic")[1]["perm/tile"]).all()


def test_the_command_prints_and_passes(capsys):
    assert original.main(["nice"]) == 0
    assert "optimiser steps" in capsys.readouterr().out


@pytest.mark.parametrize("key, quantity", [
    ("out/loglik", "log-likelihood"), ("out/logdet", "log-det"), ("gradin/x", "gradient of data"),
    ("grad/coupling_2_h1_b", "gradients of parameters"), ("out/inverse_of_z", "inverse"), ("sample/x", "samples"),
    ("rmsprop/cost", "losses of training"), ("rmsprop_step3/coupling_4_out_W", "optimiser steps")])
@pytest.mark.parametrize("wrong", [1 + 1e-8, np.nan])
def test_the_command_fails_for_one_wrong_number(key, quantity, wrong, monkeypatch, capsys):
    config, theirs = comparison.numbers("nice_mnist_like_logistic")
    theirs[key] = theirs[key] * wrong
    monkeypatch.setattr(theirs_of, "numbers", lambda name: (config, theirs))
    assert original.main(["nice"]) == 1
    assert [line.startswith(quantity) for line in capsys.readouterr().out.splitlines() if "exceeds" in line] == [True]


def test_the_command_fails_for_wrong_latents(monkeypatch, capsys):
    config, theirs = comparison.numbers("nice_mnist_like_logistic")
    theirs["out/z"] = theirs["out/z"][:, ::-1]
    monkeypatch.setattr(theirs_of, "numbers", lambda name: (config, theirs))
    assert original.main(["nice"]) == 1
    failing = [line.split()[0] for line in capsys.readouterr().out.splitlines() if "exceeds" in line]
    assert failing == ["latents", "inverse"]                                    # the inverse is taken at their latents


def test_a_parameter_without_a_counterpart_is_refused():
    config, theirs = comparison.numbers("nice_mnist_like_logistic")
    params = theirs_of.flow_of(config, comparison.under("param/", theirs)).params()
    paths = theirs_of.paths_of(config)
    paths.pop("z_D")
    with pytest.raises(ValueError, match="no counterpart"):
        theirs_of.as_theirs(params, paths)


# -- the recipe -------------------------------------------------------------------------------------------------------

@every_configuration
def test_round_trip_and_log_det(configuration):
    rng = np.random.default_rng(1)
    flow = moved(nice(rng, **configuration), rng)
    x, f = rng.normal(size=(7, configuration["size"])), flow.bijector
    z, log_det = f.inverse_and_log_det(x)
    np.testing.assert_allclose(f.forward(z), x, rtol=0, atol=1e-12)
    sign, log_abs = np.linalg.slogdet(f.jacobian(z))
    np.testing.assert_allclose(-log_det, log_abs, rtol=1e-12, atol=1e-12)
    assert (np.abs(sign) == 1).all()
    np.testing.assert_allclose(log_det, f.inner.stages[-1].inner.s.sum(), rtol=1e-14, atol=1e-15)


@every_configuration
def test_density_and_gradient(configuration):
    """log p against the Jacobian of differences of z, the gradient in a random direction against differences of log p."""
    rng = np.random.default_rng(2)
    flow = moved(nice(rng, **configuration), rng)
    size, h = configuration["size"], 1e-6
    x = rng.normal(size=size)
    z = flow.bijector.inverse(x)
    columns = [(flow.bijector.inverse(x + h * e) - flow.bijector.inverse(x - h * e)) / (2 * h) for e in np.eye(size)]
    log_pi = -np.sum(np.abs(z) + 2 * np.log1p(np.exp(-np.abs(z)))) if configuration["prior"] == "logistic" else \
        -np.sum(z * z + np.log(2 * np.pi)) / 2
    log_prob, pullback = flow.log_prob_vjp(x)
    assert log_prob == pytest.approx(log_pi + np.linalg.slogdet(np.stack(columns, -1))[1], rel=1e-6)
    params, bars = dict(flatten(flow.params())), dict(flatten(pullback(np.ones(()))[1]))
    assert params.keys() == bars.keys()
    step = {path: rng.normal(size=array.shape) for path, array in params.items()}
    up, down = (flow.replace(**nest({path: params[path] + sign * h * step[path] for path in params}))
                for sign in (1, -1))
    slope = sum((bars[path] * step[path]).sum() for path in params)
    assert slope == pytest.approx(float(up.log_prob(x) - down.log_prob(x)) / (2 * h), rel=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_configuration
def test_start_and_samples(configuration, dtype):
    flow = nice(np.random.default_rng(3), **configuration, dtype=dtype)
    x = flow.sample(np.random.default_rng(4), 11)
    assert x.shape == (11, configuration["size"]) and x.dtype == dtype
    assert flow.log_prob(x).shape == (11,) and flow.log_prob(x).dtype == dtype
    assert (x == nice(np.random.default_rng(3), **configuration, dtype=dtype).sample(np.random.default_rng(4), 11)).all()
    for path, array in flatten(flow.params()["bijector"]):
        assert array.dtype == dtype
        assert (0 < np.abs(array)).all() and (np.abs(array) <= 0.01).all() if path[-1] == "W" else (array == 0).all()


def test_weights_start_anywhere_up_to_a_hundredth():
    flow = nice(np.random.default_rng(3), 6, 40, (2, 2))
    weights = np.concatenate([array.ravel() for path, array in flatten(flow.params()["bijector"]) if path[-1] == "W"])
    assert 0.0099 < np.abs(weights).max() <= 0.01 and abs(weights.mean()) < 0.001


def test_networks_and_masks():
    stages = nice(np.random.default_rng(5), 7, 6, (1, 3), reorder=False).bijector.inner.stages
    shapes = [[layer.W.shape for layer in stage.net.layers[::2]] for stage in stages[0:4:2]]
    assert shapes == [[(6, 3), (4, 6)], [(6, 3), (6, 6), (6, 6), (4, 6)]]
    assert all(isinstance(layer, ReLU) for stage in stages[0:4:2] for layer in stage.net.layers[1::2])
    assert all((stage.passes == [True] * 3 + [False] * 4).all() for stage in stages[0:4:2])
    assert all(isinstance(stage, Permutation) and (stage.order == np.arange(7)[::-1]).all() for stage in stages[1:4:2])
    assert len(stages) == 5


def test_training_as_the_authors_did():
    rng = np.random.default_rng(6)
    x = rng.random((64, 4)) * [1, 2, 1, 2]
    flow = nice(rng, 4, 8, (1, 1))
    settings = {**recipes.nice(4), "batch_size": 16}
    result = fit(flow, x, **settings, epochs=20, rng=rng, progress=False)
    assert result.flow.log_prob(x).mean() > flow.log_prob(x).mean() + 0.1
    assert flow.base.params() == {}                                             # the authors train no prior


@pytest.mark.parametrize("changes, message", [
    ({"size": 1}, "size must be an int >= 2, not 1"), ({"size": 4.0}, "size must be"), ({"hidden": 0}, "hidden must be"),
    ({"size": True}, "size must be"), ({"layers": 4}, "layers must be the depths"),
    ({"layers": (2, 0)}, r"layers\[1\] must be"), ({"layers": ()}, "at least one coupling"),
    ({"prior": "cauchy"}, "prior must be one of"), ({"dtype": np.float16}, "float32 or float64"),
    ({"rng": 0}, "rng must be")])
def test_what_it_refuses(changes, message):
    given = {"rng": np.random.default_rng(7), "size": 4, "hidden": 3, "layers": (1, 2)} | changes
    with pytest.raises(ValueError, match=message):
        nice(**given)


# -- the scaling page -------------------------------------------------------------------------------------------------

def test_the_scaling_page_is_complete():
    assert lacks(Homothety) == []


@pytest.mark.parametrize("case", Homothety.hard_cases, ids=lambda c: c.name)
def test_hard_cases_of_the_scaling_page(case):
    f = Homothety(**case.params)
    for event in case.z:
        within(measure(f, z=event, x_bar=0.75, log_det_bar=-1.5))
    for event in case.x:
        within(measure(f, x=event, z_bar=0.75, log_det_bar=-1.5))


@pytest.mark.parametrize("dtype, spread, largest", [(np.float64, 60, 600.0), (np.float32, 20, 60.0)],
                         ids=["float64", "float32"])
def test_error_of_the_scaling_page(dtype, spread, largest):
    rng = np.random.default_rng(8)
    for _ in range(25):
        z, x, z_bar, x_bar, log_det_bar = rng.choice([-1, 1], 5) * np.exp2(rng.uniform(-spread, spread, 5))
        s = dtype(rng.choice([-1, 1]) * min(largest, np.exp2(rng.uniform(-spread, 10))))
        bars = {"x_bar": dtype(x_bar), "z_bar": dtype(z_bar), "log_det_bar": dtype(log_det_bar)}
        within(measure(Homothety(s), z=z, x=x, **bars, dtype=dtype))


def within(found):
    assert max(C for C, _ in found.values()) <= 4, found
