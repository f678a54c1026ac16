"""The certificate and the golden points that are checked in, and that the certificate would notice a bad page."""

import json

import numpy as np
import pytest

from refflow import REGISTRY
from refflow.core import Bijector, bijector, interval, log_2, real
from validation.certify import CERTIFICATE, DTYPES, SIDES, TABLE, certified, failures, rows_of, table
from validation.golden import GOLDEN, decoded, document
from validation.points import belongs, points, set_of

PAGES = sorted(REGISTRY)
QUANTITIES = {"forward", "log_det", "jacobian", "vjp.z_bar", "inverse", "inverse_log_det", "inverse_vjp.x_bar"}


@pytest.fixture(scope="module")
def certificate():
    return json.loads(CERTIFICATE.read_text())


def test_every_page_and_quantity_is_certified(certificate):
    assert sorted(certificate["pages"]) == PAGES
    for name, rows in certificate["pages"].items():
        real_fields = {key for key, field in REGISTRY[name].declared.items()
                       if hasattr(field, "constant") and not field.constant and not field.optional}
        bars = {f"{vjp}.{key}_bar" for key in real_fields for vjp in ("vjp", "inverse_vjp")}
        assert set(rows) == QUANTITIES | bars
        assert all(set(row) == set(DTYPES) for row in rows.values())


def test_every_row_is_within_what_is_allowed(certificate):
    assert failures(certificate, PAGES) == []
    for name, quantity, dtype, row in rows_of(certificate):
        assert 0 <= row["C"] <= row["allowed"] <= 16, (name, quantity, dtype)
        assert row["share"] >= 0.5 and row["points"] >= 100, (name, quantity, dtype)


def test_more_than_eight_needs_a_declaration(certificate):
    for name, quantity, dtype, row in rows_of(certificate):
        assert row["allowed"] <= 8 or getattr(REGISTRY[name], "allowed", None), (name, quantity, dtype)


def test_the_table_is_generated_from_the_certificate(certificate):
    assert TABLE.read_text() == table(certificate)


def test_golden_files_are_those_of_the_pages(certificate):
    assert sorted(path.stem for path in GOLDEN.glob("*.json")) == PAGES
    assert sum(path.stat().st_size for path in GOLDEN.glob("*.json")) < 1.5e6


@pytest.mark.parametrize("name", PAGES)
def test_golden_points(name):
    """Every hard case that the dtype certifies is there, once per event; identifiers are unique; events are exact."""
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    assert golden["schema"] == "refflow/golden/1" and golden["bijector"] == name
    assert len({point["id"] for point in golden["points"]}) == len(golden["points"])
    cases = {case.name: case.reason for case in REGISTRY[name].hard_cases}
    assert {point["case"] for point in golden["points"]} - {""} == set(cases)
    for dtype in DTYPES:
        for side in SIDES:
            here = [point for point in golden["points"] if (point["dtype"], point["side"]) == (dtype, side)]
            assert len(here) >= 12 and all(point["reason"] for point in here)
    for point in golden["points"]:
        assert point["case"] == "" or point["reason"] == cases[point["case"]]
        back = decoded(REGISTRY[name], point["dtype"], point, "")
        assert belongs(set_of(back.f, point["side"]), back.event)


def test_golden_file_is_generated(certificate):
    assert (GOLDEN / "Tanh.json").read_text() == document(REGISTRY["Tanh"], certificate)


# ---------------------------------------------------------------- the certificate itself

@bijector(source="a planted bug", domain=real, codomain=interval(-1, 1), increasing=True, register=False)
class NaiveTanh(Bijector):
    """tanh with the log-det 2 (log 2 - z - softplus(-2 z)), which cancels for small z."""

    definition = staticmethod(REGISTRY["Tanh"].definition)
    forward, inverse = REGISTRY["Tanh"].page.forward, REGISTRY["Tanh"].page.inverse
    slope, vjp = REGISTRY["Tanh"].page.slope, REGISTRY["Tanh"].page.vjp

    def log_det(self, z):
        return 2 * (log_2(z) - z - np.logaddexp(0, -2 * z))


def test_a_bad_log_det_fails_with_its_input():
    rows, count = certified(NaiveTanh, "float64", "forward")
    assert rows["log_det"]["C"] > 1e15 and rows["forward"]["C"] < 2 and rows["log_det"]["points"] == count
    planted = {"fingerprint": {}, "pages": {"NaiveTanh": {"log_det": {"float64": rows["log_det"]}}}}
    (reason,) = failures(planted, ["NaiveTanh"])
    assert "NaiveTanh float64 log_det: C =" in reason and "measure(NaiveTanh(), z=" in reason


def row(**changes):
    worst = {"side": "forward", "params": {}, "event": {"shape": [], "values": ["0x1p+0"]}, "image_bar": None,
             "log_det_bar": None}
    return {"C": 1.0, "allowed": 4.0, "points": 100, "unsettled": 0, "share": 0.7, "kappa_over_q": 1.0, "worst": worst} | changes


def made(machine="here", **changes):
    return {"fingerprint": {"machine": machine}, "pages": {"Tanh": {"log_det": {"float64": row(**changes)}}}}


@pytest.mark.parametrize("changes", [{"C": 4.1}, {"C": "inf"}, {"C": "nan"}, {"share": 0.49}, {"unsettled": 20}])
def test_what_a_certificate_may_not_contain(changes):
    assert failures(made(), ["Tanh"]) == []
    assert len(failures(made(**changes), ["Tanh"])) == 1
    assert failures(made(), ["Tanh", "Exp"]) == ["Exp: missing"]


def test_check_compares_on_the_same_machine_alone():
    assert failures(made(C=1.2), ["Tanh"], made()) and not failures(made(C=1.09), ["Tanh"], made())
    assert not failures(made("there", C=1.2), ["Tanh"], made())
    assert not failures(made(C=0.54), ["Tanh"], made(C=0.01))
    assert failures(made("there", C=4.2), ["Tanh"], made())


def test_points_are_the_same_every_time_and_inside():
    for name, side in (("Sigmoid", "inverse"), ("CorrelationCholesky", "forward")):
        first, second = (points(REGISTRY[name], "float32", side) for _ in range(2))
        assert [p.event.tobytes() for p in first] == [p.event.tobytes() for p in second]
        assert all(belongs(set_of(p.f, side), p.event) and p.event.dtype == np.float32 for p in first)


def test_points_cover_the_range():
    events = np.array([float(p.event) for p in points(REGISTRY["Tanh"], "float64", "forward")])
    assert np.min(np.abs(events[events != 0])) == 5e-324 and np.max(np.abs(events)) == 2.0**1000
    assert {0.0, 1.0, -1.0, np.nextafter(1, 0), np.nextafter(1, 2)} <= set(events)
    images = np.array([float(p.event) for p in points(REGISTRY["Tanh"], "float64", "inverse")])
    assert images.max() == np.nextafter(1, 0) and images.min() == np.nextafter(-1, 0)
