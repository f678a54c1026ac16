"""The certificate and the golden points that are checked in; and the certificate would notice a bad page."""

import copy
import json
import zlib

import numpy as np
import pytest

from refflow import REGISTRY, Affine, Squeeze
from refflow.core import (Bijector, Conditioner, Density, RandomSource, bijector, child, conditioner, density, interval, log_2, plain,
                          real)
from refflow.core.declarations import Child, Field
from refflow.core.tree import flatten
from refflow.maps.conditioners import Conv2d, Dense, ReLU, Sequential, WeightNormDense
from refflow.maps.coupling import AffineCoupling, Coupling, Family
from refflow.maps.densities import StandardLogistic
from refflow.maps.elementwise import ExpScale, Scale, ScaledAffine, TanhExpScale
from refflow.maps.elementwise.scale import scale
from refflow.maps.parametrisations import GatedLocationScale, LocationScale, Map, SoftmaxKnots
from refflow.maps.parametrisations.parametrisation import parametrisation
from refflow.oracle.points.pages import bijectors
from validation import certify
from validation.records.calls import call, pasted
from validation.certify import (CERTIFICATE, DTYPES, PAGES, SIDES, Row, TABLE, by_field, certified, errors, failures, points,
                                rows_of, table)
from validation import golden
from validation.records import reached
from validation.golden import GOLDEN, WORST, document, worst_points
from refflow.accuracy.quantities import truth_name
from validation.points.climb import climbed
from refflow.accuracy.drawing import Point, set_of
from refflow.truth.ends import is_end
from refflow.truth.measure import measure
from validation.points.drawn import LIMIT, Draw, belongs
from validation.points.recorded import decoded, encoded

QUANTITIES = {"forward", "log_det", "jacobian", "vjp.z_bar", "inverse", "inverse_log_det", "inverse_vjp.x_bar"}
OF_A_KIND = {"conditioner": {"forward", "jacobian", "vjp.a_bar"}, "density": {"log_prob", "log_prob_vjp.z_bar"},
             "scale": {"forward", "log", "vjp.s_bar"}}


@pytest.fixture(scope="module")
def certificate():
    return json.loads(CERTIFICATE.read_text())


def cotangents(page):
    """The fields of a page that have cotangents, including optional ones and components that have fields."""
    return {key for key, field in page.declared.items() if isinstance(field, Field) and not field.constant} | trained(page)


def trained(page):
    """The components that have fields in a hard case or an example: a scale without parameters has none."""
    values = [page(**case.params) for case in page.hard_cases] if page.component_fields else []
    if values and page.examples is not None:
        values += [page.examples(RandomSource(np.random.default_rng(seed)))[0] for seed in range(50)]
    return {key for value in values for key, *_ in (path for path, _ in flatten(value.params())) if key in page.component_fields}


def certified_names(drawn):
    """The fields that a parametrisation makes from numbers, as in its points."""
    return {name for point in drawn for name in point.f.names}


def handed_on(point):
    """The components of a parametrisation that are fields themselves, unchanged, and so are their cotangents."""
    with np.errstate(all="ignore"):                         # as the pages behind which it stands call it
        return set(point.f.unchecked(point.dtype).vjp(point.event)[0]) - set(point.f.names)


def test_every_page_and_quantity_is_certified(certificate):
    assert sorted(certificate["pages"]) == sorted(PAGES)
    for name, rows in certificate["pages"].items():
        page = PAGES[name]
        if page.kind == "parametrisation":
            drawn = points(page, "float64", "forward")
            own = {f"vjp.{key}_bar" for key in cotangents(page) - handed_on(drawn[-1])}
            assert {f"fields.{field}" for field in certified_names(drawn)} | {"vjp.h_bar"} | own == set(rows)
        elif page.kind in OF_A_KIND:
            method = "log_prob_vjp" if page.kind == "density" else "vjp"
            assert set(rows) == OF_A_KIND[page.kind] | {f"{method}.{key}_bar" for key in cotangents(page)}
        else:
            bars = {f"{vjp}.{key}_bar" for key in cotangents(PAGES[name]) for vjp in ("vjp", "inverse_vjp")}
            breaks = {"breaks"} if page.breaks is not Bijector.breaks and page.event_ndim == (0, 0) else set()
            assert set(rows) == QUANTITIES | breaks | bars
        assert all(set(row) == set(DTYPES) for row in rows.values())


def test_every_row_is_within_what_is_allowed(certificate):
    assert failures(certificate, sorted(PAGES)) == []
    for name, quantity, dtype, row in rows_of(certificate):
        composed = any(isinstance(field, Child) for field in PAGES[name].declared.values()) or PAGES[name].moderate
        fewest = 10 if quantity == "breaks" or composed and quantity.endswith("_bar") else 40 if composed else 100
        most = np.inf if hasattr(PAGES[name], "terms") else 16          # a half for each term that is counted, and no more
        assert 0 <= row["C"] <= row["allowed"] <= most, (name, quantity, dtype)
        assert row["share"] >= 0.5 and row["points"] >= fewest, (name, quantity, dtype)


def test_more_than_eight_needs_a_declaration(certificate):
    for name, quantity, dtype, row in rows_of(certificate):
        solved = quantity.startswith("inverse") and PAGES[name].solver          # 8 and a sum of the event's entries
        declared = getattr(PAGES[name], "allowed", None) or hasattr(PAGES[name], "terms") or solved
        assert row["allowed"] <= 8 or declared, (name, quantity, dtype)


def test_the_function_that_the_table_names_is_there():
    from validation.measure import measure as named
    assert "`validation.measure.measure`" in TABLE.read_text() and named is measure


def test_the_table_is_generated_from_the_certificate(certificate):
    assert TABLE.read_text() == table(certificate)


def test_golden_files_are_those_of_the_pages(certificate):
    assert sorted(path.stem for path in GOLDEN.glob("*.json")) == sorted(bijectors())
    assert sum(len(zlib.compress(path.read_bytes())) for path in GOLDEN.glob("*.json")) < 4e6       # of what is downloaded


@pytest.mark.parametrize("name", sorted(bijectors()))
def test_golden_points(name, certificate):
    """Every hard case that the dtype certifies is present, once per event, and the certificate's worst points are.

    Identifiers are unique; events are exact.
    """
    stored = json.loads((GOLDEN / f"{name}.json").read_text())
    assert stored["schema"] == "refflow/golden/1" and stored["bijector"] == name
    assert len({point["id"] for point in stored["points"]}) == len(stored["points"])
    cases = {case.name: case.reason for case in REGISTRY[name].hard_cases}
    at_ends = {point.case for dtype in DTYPES for side in SIDES for point in Draw(REGISTRY[name], dtype, side).hard_points()
               if is_end(point.f, side, point.event)}
    assert set(cases) - at_ends <= {point["case"] for point in stored["points"]} - {""} <= set(cases)
    for dtype in DTYPES:
        for side in SIDES:
            here = [point for point in stored["points"] if (point["dtype"], point["side"]) == (dtype, side)]
            assert len(here) >= 12 and all(point["reason"] for point in here)
            worst = [json.loads(json.dumps(encoded(point))) for point in worst_points(REGISTRY[name], dtype, side, certificate)]
            assert all(any(inputs.items() <= point.items() for point in here) for inputs in worst[:WORST]), \
                f"python -m validation.golden --page {name}"
    for point in stored["points"]:
        assert point["case"] == "" or point["reason"] == cases[point["case"]]
        back = decoded(REGISTRY[name], point["dtype"], point, "")
        assert belongs(set_of(back.f, point["side"]), back.event)


def test_golden_file_is_generated(certificate):
    assert (GOLDEN / "StickBreaking.json").read_text() == document("StickBreaking", certificate)


def test_golden_files_of_what_changed_are_made_anew(certificate, monkeypatch):
    """A change of a page's code, or of its rows in the certificate."""
    names, reaches = ["Softsign", "Tanh"], golden.reached.record()
    known = {name: {"of": golden.depends_on(name, certificate, reaches), "machine": golden.machine()} for name in names}
    monkeypatch.setattr(golden, "recorded", lambda: known)
    assert golden.stale(names, certificate) == []
    monkeypatch.setattr(golden.reached, "digest_of_code", lambda name, of, was=golden.reached.digest_of_code: was(name, of) + name[4:])
    assert golden.stale(names, certificate) == ["Softsign"]
    monkeypatch.undo()
    changed = copy.deepcopy(certificate)
    changed["pages"]["Tanh"]["forward"]["float64"]["C"] = "3.9"
    assert golden.depends_on("Tanh", changed, reaches) != golden.depends_on("Tanh", certificate, reaches)


def test_a_golden_file_that_its_code_does_not_make_is_found(monkeypatch, tmp_path, capsys):
    paths = [tmp_path / "Tanh.json", tmp_path / "missing" / "Tanh.json"]
    paths[0].write_text("as it was")
    monkeypatch.setattr(golden, "recorded", lambda: {"Tanh": {"machine": golden.machine()}})
    monkeypatch.setattr(golden, "files", lambda *of: dict(zip(paths, ("as it was", "as it is"))))
    assert golden.main(["--page", "Tanh", "--check", "--workers", "1"]) == 1
    assert "python -m validation.golden --page Tanh" in capsys.readouterr().out
    monkeypatch.setattr(golden, "files", lambda *of: {paths[0]: "as it was"})
    assert golden.main(["--page", "Tanh", "--check", "--workers", "1"]) == 0


@pytest.mark.parametrize("of, status", [("other code", 1), ("this code", 0)])
def test_a_golden_file_of_another_machine_is_not_made_anew(of, status, monkeypatch, capsys):
    monkeypatch.setattr(golden, "files", None)
    monkeypatch.setattr(golden, "depends_on", lambda *of: "this code")
    monkeypatch.setattr(golden, "recorded", lambda: {"Tanh": {"of": of, "machine": "another"}})
    assert golden.main(["--page", "Tanh", "--check", "--workers", "1"]) == status
    told = capsys.readouterr().out
    assert ("Tanh.json was made by other code, on another machine" in told) == bool(status)
    assert "another machine made those of 1, whose code is compared alone" in told


# ---------------------------------------------------------------- the certificate itself

@bijector(source="a planted bug", domain=real, codomain=interval(-1, 1), increasing=True, register=False)
class NaiveTanh(Bijector):
    """tanh with the log-det 2 (log 2 - z - softplus(-2 z)), which cancels for small z."""

    definition = staticmethod(REGISTRY["Tanh"].definition)
    forward, inverse = REGISTRY["Tanh"].forward, REGISTRY["Tanh"].inverse
    slope, vjp = REGISTRY["Tanh"].slope, REGISTRY["Tanh"].vjp

    def log_det(self, z):
        return 2 * (log_2(z) - z - np.logaddexp(0, -2 * z))


FEW, ALL = 7, 1


@pytest.fixture
def sparse(monkeypatch):
    """One in `FEW` of the points, a number that leaves both signs and narrow and wide ones in every run of binades."""
    monkeypatch.setattr(certify, "points", lambda *of: points(*of)[::FEW])


@pytest.fixture
def without_climbing(monkeypatch):
    """No search for worse points, which a bug that the points show does not need."""
    monkeypatch.setattr(certify, "climb", lambda rows, seed, longer: None)


def test_a_bad_log_det_fails_with_its_input(sparse, without_climbing):
    rows, count = certified(NaiveTanh, "float64", "forward")
    assert rows["log_det"]["C"] > 1e15 and rows["forward"]["C"] < 2 and rows["log_det"]["points"] == count
    planted = {"fingerprint": {}, "pages": {"NaiveTanh": {"log_det": {"float64": rows["log_det"]}}}}
    (reason,) = failures(planted, ["NaiveTanh"])
    assert "NaiveTanh float64 log_det: C =" in reason and "measure(NaiveTanh(), z=" in reason


def test_a_page_that_changed_is_asked_on_another_machine(without_climbing, monkeypatch, capsys):
    """A wrong one fails, and no other page is measured."""
    monkeypatch.setattr(certify, "points", lambda *of: points(*of)[::20 * FEW])
    known = {name: one | {"digest": reached.digest(name, one["reached"])} for name, one in reached.record().items()}
    monkeypatch.setattr(reached, "record", lambda: known)
    monkeypatch.setattr(certify, "fingerprint", lambda: {"machine": "another"})
    assert certify.main(["--check", "--workers", "1"]) == 0 and f"0 of {len(PAGES)}" in capsys.readouterr().err
    monkeypatch.setattr(PAGES["Tanh"], "log_det", NaiveTanh.log_det)
    monkeypatch.setattr(reached, "digest", lambda name, of, was=reached.digest: "other" if name == "Tanh" else was(name, of))
    assert certify.main(["--check", "--workers", "1"]) == 1
    told, progress = capsys.readouterr()
    assert "FAILED Tanh float64 log_det: C = " in told and f"1 of {len(PAGES)}" in progress
    assert {line.split()[1] for line in progress.splitlines() if "points in" in line} == {"Tanh"}


def row(**changes):
    worst = {"side": "forward", "params": {}, "event": {"shape": [], "values": ["0x1p+0"]}, "image_bar": None,
             "log_det_bar": None}
    return {"C": 1.0, "allowed": 4.0, "points": 100, "unsettled": 0, "share": 0.7, "kappa_over_q": 1.0,
            "worst": worst} | changes


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
        assert all(p.event.dtype == np.float32 for p in first)
        assert all(belongs(set_of(p.f, side), p.event) or is_end(p.f, side, p.event) for p in first)


@pytest.fixture(scope="module")
def of_tanh():
    """The events of z, in float64."""
    return np.array([float(p.event) for p in points(REGISTRY["Tanh"], "float64", "forward")])


def test_points_cover_the_range(of_tanh):
    events = of_tanh
    assert np.min(np.abs(events[events != 0])) == 5e-324 and np.max(np.abs(events)) == 2.0**1000
    assert {0.0, 1.0, -1.0, np.nextafter(1, 0), np.nextafter(1, 2)} <= set(events)
    images = np.array([float(p.event) for p in points(REGISTRY["Tanh"], "float64", "inverse") if p.reason != LIMIT])
    assert images.max() == np.nextafter(1, 0) and images.min() == np.nextafter(-1, 0)


def test_every_binade_has_points(of_tanh):
    """At least two points, of either sign, between every power of two and the next."""
    in_float32 = np.array([float(p.event) for p in points(REGISTRY["Tanh"], "float32", "forward")])
    for dtype, events, low, high in (("float64", of_tanh, -1074, 1000), ("float32", in_float32, -149, 126)):
        for sign in (1, -1):
            exponents = np.frexp(events[np.sign(events) == sign])[1] - 1
            count = np.bincount(exponents - low)[:high - low]           # rounding moves subnormal numbers to the next binade
            assert min(count) >= 1 and min(count[np.finfo(dtype).nmant:]) >= 2
    near_one = [float(p.event) for p in points(REGISTRY["Sigmoid"], "float64", "inverse") if p.event > 0.5]
    assert set(range(-53, -1)) <= set(np.frexp(1 - np.array(near_one))[1] - 1)


def test_cotangents_come_one_by_one():
    """A third each: the image's alone, the log-det's alone, and both.  Recorded floats may have none."""
    bars = [(p.image_bar.any(), p.log_det_bar.any()) for p in points(REGISTRY["Affine"], "float32", "forward")
            if p.image_bar is not None]
    for kind in ((True, False), (False, True), (True, True)):
        assert bars.count(kind) > 0.3 * len(bars)
    scale_bars = [tuple(p.image_bar.astype(bool).ravel()) for p in points(REGISTRY["ExpScale"], "float32", "forward")]
    assert min(scale_bars.count(kind) for kind in ((True, False), (False, True), (True, True))) > 0.3 * len(scale_bars)


def softplus_with_a_threshold(self, z):
    return np.where(z > 9, z, np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))))


ALONE = [("Sigmoid", "inverse", lambda self, x: -np.log(1 / x - 1), "inverse", FEW),
         ("Sigmoid", "forward", lambda self, z: 1 / (1 + np.exp(-z)), "forward", ALL),            # wrong where exp overflows
         ("Softplus", "forward", softplus_with_a_threshold, "forward", FEW),
         ("Tanh", "log_det", lambda self, z: 2 * (np.log(2) - z - np.logaddexp(0, -2 * z)), "log_det", FEW),
         ("Exp", "slope", lambda self, z: np.expm1(z) + 1, "jacobian", FEW),
         ("Exp", "inverse_and_log_det", lambda self, x: (np.log(x), -np.log(x * (1 + 2.0**-18))), "inverse_log_det", FEW),
         ("Exp", "forward_and_log_det", lambda self, z: (np.expm1(z) + 1, z), "forward_and_log_det.forward", FEW)]


@pytest.mark.parametrize("name, method, wrong, quantity, every", ALONE, ids=[f"{name}.{method}" for name, method, *_ in ALONE])
def test_every_method_is_measured_by_itself(name, method, wrong, quantity, every, monkeypatch):
    page, side = REGISTRY[name], "inverse" if method.startswith("inverse") else "forward"

    def planted(self, event):
        with np.errstate(all="ignore"):
            return wrong(self, np.asarray(event))

    monkeypatch.setattr(page, method, planted)
    monkeypatch.setattr(certify, "points", lambda *of: points(*of)[::every])
    rows, _ = certified(page, "float32", side)
    assert float(rows[quantity]["C"]) > rows[quantity]["allowed"]


def test_a_value_of_a_fused_method_has_a_row_where_it_differs():
    rows, _ = certified(REGISTRY["Softsign"], "float32", "forward")
    assert {truth_name(name) for name in rows} == {"forward", "log_det", "jacobian", "vjp.z_bar", "breaks"}
    assert all(row["C"] <= row["allowed"] for row in rows.values())


def test_the_search_climbs():
    """The climb goes from a point to a worse one, within the range, the same way every time."""
    start = Point(REGISTRY["Tanh"](), "forward", np.asarray(0.5), np.asarray(1.0), np.asarray(1.0), "", "")

    def height(point, measured):
        return -abs(float(point.event) - 0.53)

    found = [float(point.event) for point, _ in climbed(start, lambda point: None, height, "a seed")]
    assert [abs(z - 0.53) for z in [0.5, *found]] == sorted((abs(z - 0.53) for z in [0.5, *found]), reverse=True)
    assert abs(found[-1] - 0.53) < 0.03 * 0.75
    assert found == [float(point.event) for point, _ in climbed(start, lambda point: None, height, "a seed")]
    further = [float(point.event) for point, _ in climbed(start, lambda point: None, height, "a seed", longer=8)]
    assert further[:len(found)] == found and abs(further[-1] - 0.53) < abs(found[-1] - 0.53)


@pytest.mark.parametrize("others", [("--check",), ("--page", "Tanh", "--write")])
def test_a_longer_search_is_not_the_certificate(others, capsys):
    with pytest.raises(SystemExit):
        certify.main(["--climb", "2", *others])
    assert "the certificate is of one search" in capsys.readouterr().err


# ---------------------------------------------------------------- conditioners, and pages with components

@conditioner(source="a planted bug", register=False)
class NaiveReLU(Conditioner):
    """ReLU whose cotangent passes where a < 0."""

    event_ndim = (0, 0)
    definition, forward = staticmethod(ReLU.definition), ReLU.forward
    jacobian, slope, hard_cases = ReLU.jacobian, ReLU.slope, ReLU.hard_cases

    def vjp(self, a):
        return self.forward(a), lambda h_bar: (h_bar + 0, {})


def test_a_bad_conditioner_fails_with_its_input(monkeypatch):
    monkeypatch.setitem(REGISTRY, "NaiveReLU", NaiveReLU)
    rows, count = certified(NaiveReLU, "float32", "forward")
    assert rows["vjp.a_bar"]["C"] > 1e6 and rows["forward"]["C"] == 0 and rows["forward"]["points"] == count >= 100
    (reason,) = failures({"fingerprint": {}, "pages": {"NaiveReLU": {"vjp.a_bar": {"float32": rows["vjp.a_bar"]}}}}, [])
    assert "measure(NaiveReLU(), a=" in reason and "h_bar=" in reason and "log_det_bar" not in reason


@density(source="a planted bug", register=False)
class NaiveLogistic(Density):
    """The logistic density with exp taken of a positive number, which overflows."""

    shape: tuple = plain(())
    definition, hard_cases = staticmethod(StandardLogistic.definition), StandardLogistic.hard_cases[:1]

    def log_prob_vjp(self, z):
        return -z - 2 * np.log1p(np.exp(-z)), StandardLogistic.log_prob_vjp(self, z)[1]

    def sample_vjp(self, rng, lead):
        return rng.logistic(size=lead), lambda z_bar: {}


@scale(source="a planted bug", register=False)
class RoundedScale(Scale):
    """exp, with the logarithm taken of the rounded scale."""

    definition, hard_cases = staticmethod(ExpScale.definition), ExpScale.hard_cases
    offset: float = plain(0.0)
    log_slope = ExpScale.log_slope

    def evaluate(self, s):
        return 1, s + self.offset, np.log(np.exp(s + self.offset))


@parametrisation(source="a planted bug", register=False)
class SubtractingGate(Map):
    """The gated map with 1 - sigma, which is 0 for large s."""

    offset: float = plain(2.0)
    order: tuple = plain(("scale", "shift"))
    definition, hard_cases = staticmethod(GatedLocationScale.definition), GatedLocationScale.hard_cases[:2]
    examples = classmethod(lambda cls, source: (cls(), (2,)))
    size, names = 2, ("s", "shift")

    def vjp(self, h):
        s, m = h[..., 0], h[..., 1]
        sigma = 1 / (1 + np.exp(-(s + self.offset)))

        def pullback(bars):
            return np.stack([bars["s"] - m * bars["shift"] * sigma * (1 - sigma), bars["shift"] * (1 - sigma)], -1), {}

        return {"s": s, "shift": m * (1 - sigma)}, pullback


@parametrisation(source="a planted bug", register=False)
class SummedKnots(Map):
    """Knots as sums from the first one, which cancel in the middle of the interval."""

    bins: int = plain(2)
    definition = staticmethod(lambda m, h, bins: SoftmaxKnots.definition(m, h, bins, -1, 1, 0, 1, None, False))
    examples = classmethod(lambda cls, source: (cls(), (2,)))
    size, names, cores = 2, ("knots",), ((3,),)
    hard_cases = SoftmaxKnots.hard_cases[1:2]

    def vjp(self, h):
        _, pullback = SoftmaxKnots(2).unchecked(h.dtype).vjp(h)
        e = np.exp(h - h.max(-1, keepdims=True))
        inner = -1 + 2 * e[..., :1] / e.sum(-1, keepdims=True)
        return {"knots": np.concatenate([-np.ones_like(inner), inner, np.ones_like(inner)], -1)}, pullback


@pytest.mark.parametrize("page, wrong, letters", [
    (SummedKnots, ["fields.knots"], ("h=", "fields_bar=")),
    (NaiveLogistic, ["log_prob"], ("z=", "log_prob_bar=")), (RoundedScale, ["log"], ("s=", "sigma_bars=")),
    (SubtractingGate, ["fields.shift", "vjp.h_bar"], ("h=", "fields_bar="))], ids=lambda value: getattr(value, "__name__", ""))
def test_a_bad_page_of_another_kind_fails_with_its_input(page, wrong, letters, monkeypatch, sparse, without_climbing):
    monkeypatch.setitem(REGISTRY, page.__name__, page)
    rows, _ = certified(page, "float64", "forward")
    for quantity, row in rows.items():
        assert (float(row["C"]) > 1e6) == (quantity in wrong), quantity
        if quantity in wrong:
            (reason,) = failures({"fingerprint": {}, "pages": {page.__name__: {quantity: {"float64": row}}}}, [])
            assert f"measure({page.__name__}(" in reason and all(letter in reason for letter in letters)


@bijector(source="a planted bug", domain=real, codomain=real, register=False)
class Halving(Bijector):
    """x = f(z) with half the cotangent of f's parameters."""

    inner: Bijector = child()
    event_ndim = (0, 0)
    hard_cases = ()

    @staticmethod
    def definition(m, z, inner):
        return inner.definition(m, z)

    def forward_and_log_det(self, z):
        return self.inner.forward_and_log_det(z)

    def inverse_and_log_det(self, x):
        return self.inner.inverse_and_log_det(x)

    def slope(self, z):
        return self.inner.slope(z)

    def vjp(self, z):
        found, inner_pullback = self.inner.vjp(z)

        def pullback(x_bar, log_det_bar):
            z_bar, bars = inner_pullback(x_bar, log_det_bar)
            return z_bar, {"inner": {key: bar / 2 for key, bar in bars.items()}}

        return found, pullback


def test_a_bad_cotangent_of_a_component_is_seen():
    f = Halving(Affine(0.5, 2.0))
    found = errors(Point(f, "forward", np.array(1.5), np.array(1.0), np.array(0.5), "", ""))
    assert found["vjp.inner_bar"][0] > 1e10 and max(C for name, (C, _) in found.items() if name != "vjp.inner_bar") < 2


def test_the_largest_error_of_a_component_counts():
    found = {"forward": (1.0, 2.0), "vjp.net.layers.0.W_bar": (3.0, 1.0), "vjp.net.layers.0.b_bar": (2.0, 8.0)}
    assert by_field(found) == {"forward": (1.0, 2.0), "vjp.net_bar": (3.0, 8.0)}
    unsettled, failed = {"vjp.net.b_bar": (None, None)}, {"vjp.net.c_bar": (np.inf, None)}
    assert by_field(found | unsettled)["vjp.net_bar"] == (None, None)
    assert by_field(found | unsettled | failed)["vjp.net_bar"][0] == np.inf


def test_pages_with_components_need_examples():
    with pytest.raises(NotImplementedError, match="Halving: say in `examples` how its component inner is drawn"):
        certified(Halving, "float64", "forward")


VALUES = [AffineCoupling([True, False], Sequential((Dense([[0.1]], [0.5]), ReLU(), Dense([[0.3], [1.0]])))),
          Coupling([False, True], Dense([[1.0], [2.0]]),
                   Family(ScaledAffine, LocationScale(TanhExpScale(2.5), ("shift", "scale"))), "interleaved"),
          WeightNormDense([[3.0, 0.1]], g=None)]


@pytest.mark.parametrize("f", VALUES, ids=lambda f: type(f).__name__)
def test_the_call_that_is_printed_makes_the_value_again(f):
    from refflow.maps import conditioners, coupling, elementwise, parametrisations
    worst = encoded(Point(f, "forward", np.array([0.1, -3.0]), None, None, "", ""))
    names = {name: held for chapter in (conditioners, coupling, elementwise, parametrisations)
             for name, held in vars(chapter).items()}
    text = json.dumps(worst)
    assert eval(call(type(f).__name__, json.loads(text)["params"]), names).equals(f)
    found = eval(pasted(type(f).__name__, "float64", json.loads(text)), names | {"measure": measure, "np": np})
    assert found["forward"][0] < 4


@pytest.mark.parametrize("page", [Squeeze, Conv2d])
def test_images_are_drawn_small_and_of_every_size(page):
    drawn = points(page, "float32", "forward")
    shapes = {point.event.shape for point in drawn}
    assert len(drawn) >= 100 and len(shapes) >= 8 and all(len(shape) == 3 for shape in shapes)
    assert max(np.prod(shape) for shape in shapes) <= 96 and sum(point.image_bar is not None for point in drawn) >= 50


@pytest.mark.parametrize("factor, expected", [(1e4, None), (np.inf, np.inf), (np.nan, np.inf)])
def test_an_infinite_error_is_excused_nowhere(factor, expected, monkeypatch):
    """On a plateau kappa is not first-order: a large error is excused there, an infinite one is not."""
    fields = {"weights": np.float32([0.9907481670379639, 1.1884681953233667e-05, 0.009239984676241875]),
              "loc": np.float32([0.0009682552772574127, 0.27990955114364624, -54977.7890625]),
              "scale": np.float32([0.0024490158539265394, 0.062841035425663, 0.0004883534274995327])}
    point = Point(REGISTRY["LogisticMixtureCDF"](**fields), "inverse", np.float32(0.009239984676241875),
                  np.float32(-125810.609375), np.float32(-11.535761833190918))
    name, given = "inverse_vjp.x_bar", certify.claims(point)
    assert errors(point)[name][0] < 1
    monkeypatch.setattr(certify, "claims", lambda point: given | {name: given[name] * np.float32(factor)})
    assert errors(point)[name][0] == expected


def test_a_quantity_without_any_truth_is_not_left_out():
    """A row of unsettled points alone fails; a quantity must not vanish from the certificate."""
    row = Row()
    row.add(Point(REGISTRY["Tanh"](), "forward", np.asarray(0.5), None, None, "", ""), "log_det", None, None)
    found = failures({"fingerprint": {}, "pages": {"Tanh": {"log_det": {"float64": row.finished("log_det")}}}}, [])
    assert any("C = inf" in reason for reason in found) and any("no truth at 1 points" in reason for reason in found)
