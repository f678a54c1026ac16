"""All float32 events of a scalar page: every number once, nothing lost between runs, and a planted bug is found."""

from __future__ import annotations

import json

import numpy as np
import pytest

import refflow
from refflow import REGISTRY
from refflow.cli.sweeps import Sweep
from refflow.truth.measure import measure
from validation import exhaustive
from validation.points import recorded
from validation.certify import PAGES, points, table, CERTIFICATE


@pytest.fixture
def results(tmp_path, monkeypatch):
    path = tmp_path / "exhaustive.json"
    for module in (exhaustive, recorded):
        monkeypatch.setattr(module, "EXHAUSTIVE", path)
    return path


def starts(count):
    return [int(exhaustive.events_of(REGISTRY["Tanh"](), "forward", number)[0].view(np.uint32)) for number in range(count)]


def test_the_passes_are_spread_evenly_over_all_numbers():
    first = starts(256)
    assert sorted(first) == [1024 * i for i in range(256)]          # every 1024th number after the first 256 passes
    events = exhaustive.events_of(REGISTRY["Tanh"](), "forward", 3)
    assert np.isfinite(events).all() and (np.abs(events) <= 2.0**126).all() and len(set(events.tolist())) > len(events) - 2


def test_every_scalar_page_is_measured():
    missing = sorted(set(exhaustive.scalar_pages()) - set(recorded.exhaustive()))
    assert not missing, f"python -m validation.exhaustive {' '.join(missing)}"


@pytest.mark.parametrize("name", exhaustive.scalar_pages())
def test_every_scalar_page_has_values(name):
    assert all(f.dtype in (None, np.float32) and f.event_ndim == (0, 0) for f in exhaustive.values_of(PAGES[name]))


def test_a_pass_may_miss_a_narrow_set(monkeypatch):
    monkeypatch.setattr(exhaustive, "values_of", lambda page: [refflow.OpenInterval(np.array([1, 1 + 2.0**-15], np.float32))])
    assert [exhaustive.measured("OpenInterval", 0, "inverse", number)[:2] for number in (0, 1)] == [({}, 0)] * 2


def test_a_run_goes_on_where_the_last_one_ended(results):
    def run():
        (one,) = exhaustive.run(["Softsign"], 0.2, Sweep(), lambda *state: None)["Softsign"]
        return {side: one[side] for side in exhaustive.SIDES}

    once, twice = run(), run()
    assert 0 < exhaustive.total_of(once) < exhaustive.total_of(twice)
    for side, first in once.items():
        second = twice[side]
        assert (first["events"] < second["events"]) == (first["passes"] < second["passes"])
        assert all(second["rows"][q][0]["C"] >= rows[0]["C"] for q, rows in first["rows"].items())
        assert all("true" in row and "point" in row for rows in second["rows"].values() for row in rows)
        assert json.loads(results.read_text())["pages"]["Softsign"][0][side]["passes"] == second["passes"]


def test_a_changed_page_starts_again(results, monkeypatch):
    exhaustive.run(["Softsign"], 0.2, Sweep(), lambda *state: None)
    assert exhaustive.current("Softsign", recorded.exhaustive())[0]["forward"]["passes"] > 0
    monkeypatch.setattr(exhaustive, "source", lambda name: "another")
    assert exhaustive.current("Softsign", recorded.exhaustive())[0]["forward"]["passes"] == 0


def test_the_worst_events_become_points_of_the_certificate(results):
    exhaustive.run(["Softsign"], 0.2, Sweep(), lambda *state: None)
    reasons = {point.reason for point in points(PAGES["Softsign"], "float32", "forward")}
    assert "the worst float32 event of a sweep" in reasons
    assert "%) |" in next(line for line in table(json.loads(CERTIFICATE.read_text())).splitlines()
                          if line.startswith("| Softsign | forward | float32"))


def in_float32(right, wrong):
    """A mistake only in float32: float64 is the reference, and has its own certificate."""
    return lambda self, event: wrong(event) if event.dtype == np.float32 else right(self, event)


@pytest.mark.parametrize("page, method, wrong", [
    ("Softplus", "log_det", lambda z: np.where(z < -9, z, -np.log1p(np.exp(-z)))),
    ("Tanh", "forward", lambda z: np.where(np.abs(z) > 7, np.sign(z), np.tanh(z))),
    ("Sigmoid", "inverse", lambda x: -np.log(1 / x - 1))])
def test_a_planted_bug_is_found_in_one_pass(monkeypatch, page, method, wrong):
    side = "inverse" if method == "inverse" else "forward"
    f = REGISTRY[page]()
    events = exhaustive.events_of(f, side, 1)
    assert all(rows[0][0] <= 4 for rows in exhaustive.of_values(f, side, events).values())
    monkeypatch.setattr(REGISTRY[page], method, in_float32(getattr(REGISTRY[page], method), wrong))
    assert exhaustive.of_values(f, side, events)[method][0][0] > 4


def test_the_neighbours_of_the_worst_are_measured(monkeypatch):
    """A mistake that a pass sees from far is found where it is largest."""
    def wrong(self, z):
        off = np.abs(z.view(np.int32).astype(np.float64) - peak)
        return np.tanh(z) * (1 + np.float32(2.0**-18) * np.maximum(1 - off / 512, 0).astype(np.float32))

    f, right = REGISTRY["Tanh"](), REGISTRY["Tanh"].forward
    seen = exhaustive.events_of(f, "forward", 0)
    seen = seen[np.searchsorted(seen[:len(seen) // 2], 0.5)]
    peak = int(seen.view(np.int32)) + 200
    monkeypatch.setattr(REGISTRY["Tanh"], "forward", lambda self, z: (wrong if z.dtype == np.float32 else right)(self, z))
    found, _, _ = exhaustive.measured("Tanh", 0, "forward", 0)
    assert abs(int(np.float32(found["forward"][0][1]).view(np.int32)) - peak) < 20


def test_errors_beyond_what_is_allowed_fail(results, monkeypatch, capsys):
    monkeypatch.setattr(exhaustive, "allowed", lambda point, quantity: 0.1)
    assert exhaustive.main(["Softsign", "--budget", "0.2", "--workers", "1"]) == 1
    assert "FAILED Softsign" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        exhaustive.main(["Glow"])


# -- floats that it found ----------------------------------------------------------------------------------------------

ENDS = [-0.2057836353778839, 0.40767011046409607]
BINS = {"input_knots": [-4.363337993621826, -2.646275520324707, 129.708984375, 130.47789001464844],
        "output_knots": [-192.80787658691406, -1.9516218900680542, 27.519474029541016, 447875.75],
        "end_slopes": [0.7335034012794495, 2.99635648727417], "tails": "linear"}
STEEP = {"input_knots": [-0.6422322988510132, -0.029194805771112442, 0.0005212005344219506, 30.87961769104004],
         "output_knots": [-19.67698860168457, -1.3979874893266242e-05, 0.029543593525886536, 196803.1875],
         "slopes": [0.43542855978012085, 25.716581344604492, 7.747265044599771e-06, 4.20826530456543], "tails": "none"}
FOUND = [
    (refflow.LambertWTail(0.4324395954608917), {"z": 4.962966789362287e18, "x_bar": 0.0, "log_det_bar": -15.734565}, 4),
    (refflow.LambertWTail(0.32399192452430725), {"z": 0.032775089144706726}, 4),
    (refflow.SinhArcsinh(-13.017043, 5.7667065), {"x": 0.052978515625, "z_bar": 0.0, "log_det_bar": -14.240832}, 4),
    (refflow.OpenInterval(ENDS), {"z": -0.1002197265625}, 4),
    (refflow.OpenInterval([-0.2057836651802063, ENDS[1]]), {"z": 0.013763419352471828}, 4),
    (refflow.CubicSpline(**BINS), {"x": 60864.015625, "z_bar": 0.0, "log_det_bar": 0.2607474625110626}, 8),
    (refflow.RationalQuadraticSpline(**STEEP), {"x": 65.875, "z_bar": -0.00010968957940349355, "log_det_bar": 1.3767616}, 4),
    (refflow.OpenInterval([-3.011488199234009, 1.3251519203186035]), {"z": 0.0723876953125}, 4),
    (refflow.SinhArcsinh(2.8152733193564927e-06, 1.3702174425125122), {"x": -0.7801167368888855}, 4),
    (refflow.SinhArcsinh(2.8152733193564927e-06, 1.3702174425125122), {"z": -1.6637237129536527e28}, 4),
    (refflow.WeibullCDF(1.6877256631851196, 0.5429101586341858), {"z": 0.13921090960502625}, 4),
    (refflow.LambertWTail(0.4324395954608917), {"x": 1.9689080636190484e28}, 4)]


@pytest.mark.parametrize("f, at, allowed", FOUND, ids=lambda v: type(v).__name__)
def test_floats_that_were_beyond_the_allowance(f, at, allowed):
    assert max(C for C, _ in measure(f.astype(np.float32), **at, dtype=np.float32).values()) <= allowed
