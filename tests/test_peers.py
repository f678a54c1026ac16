"""The peers: what is recorded, the pages made of it, the findings' true values, and what adapter files share."""

import importlib
import json
from pathlib import Path
from shutil import copytree
from types import SimpleNamespace

import mpmath
import numpy as np
import pytest

import refflow
from refflow.core.tree import flatten
from refflow.maps.coupling import affine_family
from refflow.maps.elementwise import ExpScale
from refflow.maps.parametrisations import SPLINES
from refflow.oracle import CannotRun, check
from refflow.oracle.asking.adapter import Adapter, AdapterSet, requirement
from refflow.peers.shared import Lazily, by_rows, evaluated, pinned
from refflow.peers.shared.networks import alone, autoregressive, coupling, masked_outputs, of_stage, outputs
from refflow.peers.shared.numbers import splines
from validation.peers import __main__ as command
from validation.peers import asked as ask
from validation.peers import pages
from validation.peers.asked import SCHEMA, map_of, pages_of
from validation.peers.findings import FINDINGS, KINDS
from validation.raw_parameters.environments import NotInstalled

RECORDS = pages.records()
FOUND = [finding for finding in FINDINGS if pages.is_run(finding, RECORDS)]


def mistaken(finding, given):
    """Do the lines that a reproduction printed differ from the true values by more than rounding?"""
    apart = [pages.apart(a, b) for a, b in zip(given, pages.truths(finding), strict=True)]
    return not all(text[0].isdigit() and float(text) < 1e-14 for text in apart)


def test_an_error_that_lies_between_two_digits_is_rounded_up():
    """mpmath 1.3 rounds 0.25 up by itself, mpmath 1.4 does not."""
    assert pages.apart("3", mpmath.mpf(4)) == "0.3" and pages.apart("3.1", mpmath.mpf(4)) == "0.2"


def test_the_pages_are_made_from_the_records():
    for name, text in pages.pages().items():
        assert (pages.HERE / name).read_text(encoding="utf-8") == text, f"python -m validation.peers writes {name}"


def test_the_records_are_small_and_say_what_they_are():
    assert RECORDS
    for library, record in RECORDS.items():
        assert record["schema"] == SCHEMA and record["library"] == library and record["version"]
        assert bool(record["rows"]) == ("adapters" in record)
        assert "adapters are written for" not in record["version"]
    assert sum(path.stat().st_size for path in pages.RECORDED.glob("*.json")) < 3e6


@pytest.mark.parametrize("finding", FOUND, ids=lambda finding: f"{finding.library}, {finding.name}")
def test_a_finding_is_what_it_says(finding):
    given = RECORDS[finding.library]["reproductions"][finding.name]
    assert finding.kind in KINDS and mistaken(finding, given) == (finding.kind != "right")


def test_every_finding_of_a_recorded_library_is_run():
    assert FOUND == [finding for finding in FINDINGS if finding.library in RECORDS]


def test_a_reproduction_that_prints_the_truth_is_no_finding():
    finding = next(f for f in FINDINGS if f.name == "Sigmoid is exp below -9")
    assert not mistaken(finding, [str(value) for value in pages.truths(finding)])
    assert mistaken(finding, ["raised ValueError: no", "-9.5"])


def test_every_library_can_be_installed_in_the_version_of_its_adapters():
    for library in pages.library_names():
        pinned = requirement(library)
        assert pinned in command.requirements(library) or library == "tfp", library


def test_what_is_not_installed_is_told_in_a_line(monkeypatch, capsys):
    def refused(*args, **kwargs):
        raise NotInstalled("ERROR: No matching distribution found for nflows==0.14")

    monkeypatch.setattr(command, "recorded", refused)
    monkeypatch.setattr(command, "write_pages", lambda: None)
    assert command.main(["nflows"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "nflows: cannot be installed: ERROR: No matching distribution found for nflows==0.14"]


def test_an_adapter_that_raises_is_an_error(monkeypatch, capsys, tmp_path):
    """It is neither a skipped quantity nor a record that passes, in the first run and in those after it."""
    def planted(params, z):
        return {"forward": np.tanh(params["missing"] * z)}

    def right(params, z):
        return {"forward": np.tanh(z)}

    def run(python, *arguments, **options):
        if arguments[1] == "validation.peers.asked":
            Path(arguments[3]).write_text(json.dumps(ask.asked(arguments[2])), encoding="utf-8")
        return SimpleNamespace(stdout="{}")

    for function in (planted, right):
        monkeypatch.setattr(function, "__module__", "refflow.peers.zuko")
    adapters = tuple(Adapter(function, "Tanh", ("float64",), theirs=f"zuko.{function.__name__}") for function in (planted, right))
    monkeypatch.setattr(ask, "load", lambda library: AdapterSet(library, "1", adapters))
    monkeypatch.setattr(command, "RECORDED", tmp_path)
    monkeypatch.setattr(command, "interpreter", lambda library, cache: "python")
    monkeypatch.setattr(command, "run", run)
    monkeypatch.setattr(command, "write_pages", lambda: None)
    for _ in range(2):
        status, told = command.main(["zuko", "--workers", "1", "--json"]), capsys.readouterr()
        record = json.loads(told.out)
        assert status == 1 and {row["theirs"] for row in record["rows"]} == {"zuko.right"} == record["skipped"].keys()
        assert told.err.startswith("zuko.planted float64: it could not be asked: zuko.planted: the adapter itself raised KeyError: "
                                   "'missing'")
        assert told.err.count("\n") == 1


def test_only_what_has_changed_is_run_again(monkeypatch, tmp_path):
    ran = []
    monkeypatch.setattr(command, "RECORDED", tmp_path)
    monkeypatch.setattr(command, "interpreter", lambda library, cache: "python")

    def run(python, *arguments, **options):
        ran.append(arguments[1].rsplit(".")[-1])
        if "stdout" not in options:
            theirs = arguments[4:] or ("Clip", "Order")
            rows = [{"theirs": name, "quantity": "forward", "dtype": "float64", "C": len(ran)} for name in theirs]
            with open(arguments[3], "w", encoding="utf-8") as file:
                skipped = {} if arguments[4:] else {"Clip": 2, "Order": 3}
                json.dump({"schema": SCHEMA, "rows": rows, "skipped": skipped, "raised": {},
                           "asks": {"Clip": ["Softsign"], "Order": ["Permutation"]}}, file)
        return type("Done", (), {"stdout": json.dumps({name: ["1"] for name in json.loads(options.get("input", "{}"))})})

    monkeypatch.setattr(command, "run", run)
    command.recorded("zuko", None)
    command.recorded("zuko", None)
    assert ran == ["asked", "reproduced"]
    monkeypatch.setattr(command, "codes", lambda library: {"another": "print(1)"})
    command.recorded("zuko", None)
    assert ran == ["asked", "reproduced", "reproduced"]
    monkeypatch.setattr(command, "pages_digest", lambda names, of=command.pages_digest: names[0] if "Softsign" in names else of(names))
    record = command.recorded("zuko", None)                     # the code of Softsign has changed
    assert ran[3:] == ["asked"] and {row["theirs"]: row["C"] for row in record["rows"]} == {"Clip": 4, "Order": 1}
    assert record["skipped"] == {"Order": 3}
    assert command.recorded("zuko", None) == record and ran[4:] == []
    monkeypatch.setattr(command, "adapters_digest", lambda library: "others")
    assert [row["C"] for row in command.recorded("zuko", None)["rows"]] == [5, 5]


def test_what_the_rows_of_a_map_depend_on(monkeypatch):
    """The code of its pages, and their golden points."""
    before = command.pages_digest(["Softsign"])
    assert command.pages_digest(["Softsign"]) == before != command.pages_digest(["Tanh"])
    monkeypatch.setattr(command.reached, "reached_text", lambda path, names: path)
    changed = command.pages_digest(["Softsign"])
    monkeypatch.setattr(command, "GOLDEN", command.ROOT)
    assert len({before, changed, command.pages_digest(["Softsign"])}) == 3
    assert pages_of(refflow.Chain([refflow.Tanh(), refflow.Inverse(refflow.Exp())])) == ["Chain", "Exp", "Inverse", "Tanh"]


def test_all_rows_depend_on_the_code_of_adapters_and_oracle(tmp_path, monkeypatch):
    """On the code alone: words may change."""
    for folder in ("peers", "oracle", "accuracy"):
        copytree(command.ROOT / "refflow" / folder, tmp_path / "refflow" / folder)
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setattr(command, "PEERS", tmp_path / "refflow" / "peers")
    before = command.adapters_digest("zuko")
    for name, counts in (("peers/zuko", True), ("peers/shared/__init__", True), ("peers/shared/numbers", True), ("oracle/check", True),
                         ("accuracy/kappa", True), ("peers/nflows", False), ("peers/shared/jax", False)):
        path = tmp_path / "refflow" / f"{name}.py"
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace('"""', '"""Words. ', 1) + "# more words\n", encoding="utf-8")
        assert command.adapters_digest("zuko") == before, name
        path.write_text(text + "CHANGED = 1\n", encoding="utf-8")
        assert (command.adapters_digest("zuko") != before) == counts, name
        path.write_text(text, encoding="utf-8")


# -- what adapter files share -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("installed, told", [
    ("0.14", "0.14"), ("0.14+local", "0.14"), ("0.15", "0.15 (the adapters are written for 0.14: pip install nflows==0.14)")])
def test_an_untried_version_is_told_with_the_pip_line(installed, told, monkeypatch):
    monkeypatch.setattr("refflow.peers.shared.version", lambda distribution: installed)
    assert pinned("nflows", "0.14") == told


@pytest.mark.parametrize("library", pages.library_names())
def test_every_library_tells_its_version(library):
    distribution, version = requirement(library).split("==")
    lines = (command.PEERS / f"{library}.py").read_text(encoding="utf-8").splitlines()
    assert f'version = pinned("{distribution}", "{version}")' in lines


def test_adapters_that_an_untried_version_breaks_are_told_with_the_pip_line(monkeypatch):
    """Another version may lack what the adapters use."""
    def breaks(name):
        raise AttributeError("module 'nflows.transforms' has no attribute 'Tanh'")

    monkeypatch.setattr(importlib, "import_module", breaks)
    with pytest.raises(CannotRun, match="^the adapters of nflows cannot be imported: AttributeError: module 'nflows.transforms' has no "
                                        "attribute 'Tanh'; .* with `pip install nflows==0.14`$"):
        check("nflows")


@pytest.mark.parametrize("name", SPLINES)
def test_splines_of_raw_numbers_keep_float32(name):
    _, coupling = next(splines(refflow.RationalQuadraticSpline, SPLINES[name](4)))
    assert map_of(coupling) == "RationalQuadraticSpline"
    f, z = coupling.astype(np.float32), np.full((3, 2), 0.25, np.float32)
    assert f.forward(z).dtype == f.log_det(z).dtype == np.float32


@pytest.mark.parametrize("tanh", [False, True])
@pytest.mark.parametrize("make", [coupling, autoregressive])
def test_the_layer_of_a_composite_is_its_network(make, tanh):
    """Its numbers are exact in float32, so that a library in float32 is asked the same question."""
    f = make(affine_family(ExpScale()), tanh=tanh)
    assert all(np.array_equal(value, value.astype(np.float32)) for _, value in flatten(f.params()["net"]))
    a = np.array([[0.5, -1.0, 2.0]])[:, :1 if make is coupling else 3]
    h = f.net.forward(a)
    a = np.tanh(a) if tanh else a
    found = [outputs(f.params(), units)(a) if make is coupling else masked_outputs(f.params(), np.tril, units)(a) for units in (None, 1)]
    assert np.array_equal(found[0], h) and np.array_equal(found[1][:, 0], h)


def test_an_adapter_of_a_stage_belongs_to_the_module_of_its_build():
    """A library's adapters are found by their module."""
    def build(fields):
        return fields["scale"]

    page = alone(refflow.Affine(scale=2.0))
    assert of_stage(build).__module__ == __name__ and of_stage(build)(page.params()) == 2.0
    composite = refflow.Inverse(refflow.Exp())
    assert alone(composite) is composite


def test_rows():
    """A library that sums over all axes but the first, asked at scalars and at batches."""
    def call(rows):
        return 2 * rows, np.log(2.0) * np.ones(rows.shape).sum(axis=tuple(range(1, rows.ndim)))

    for shape, rank in (((), 0), ((3,), 0), ((2, 3), 0), ((3,), 1), ((4, 3), 1), ((2, 4, 3), 1)):
        image, log_det = by_rows(call, np.ones(shape), rank)
        assert image.shape == shape and log_det.shape == shape[:len(shape) - rank]


def test_a_log_det_that_raises_belongs_to_itself():
    def fails():
        raise RuntimeError("no log-det")

    answers = Lazily({"forward": 1.0}, log_det=lambda: evaluated((1.0, fails))[1])
    assert answers["forward"] == 1.0 and "log_det" in answers
    with pytest.raises(RuntimeError, match="no log-det"):
        answers["log_det"]


def test_a_mistake_in_a_build_is_an_error_of_use(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed; pip install refflow[peers]")
    path = tmp_path / "adapters.py"
    path.write_text("from refflow.peers.shared.torch import declaring\n"
                    "declare = declaring('mine.')\n"
                    "declare('Tanh', 'Tanh', lambda p: p['missing'])\n", encoding="utf-8")
    with pytest.raises(CannotRun, match="the adapter itself raised KeyError: 'missing' .line 3"):
        check(str(path))
