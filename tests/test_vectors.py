"""Golden vectors as files: the same bytes each time, ids that stay, and a reader that refuses what it does not know."""

from __future__ import annotations

import hashlib
import json
import shutil
from decimal import Decimal

import numpy as np
import pytest

from refflow.accuracy.formats import FORMATS
from refflow.oracle import check
from refflow.oracle.inputs import vectors
from refflow.oracle.points import golden
from refflow.oracle.points.pages import bijectors
from refflow.oracle.points.schema import schema, violation
from validation.golden import exact_document

PAGES = ["Tanh", "AlphaSigmoid", "PLULinear", "Permutation"]     # a plain field, structural zeros, norms, a constant


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("vectors") / "new"
    vectors.export(path, PAGES)
    return path


def read(directory, page):
    return json.loads((directory / f"{page}.json").read_text())


def test_two_exports_are_equal(directory, tmp_path):
    vectors.export(tmp_path, PAGES)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in directory.iterdir())
    assert all(path.read_bytes() == (directory / path.name).read_bytes() for path in tmp_path.iterdir())


def test_what_was_exported_is_verified(directory):
    found = vectors.verify(directory)
    assert found.problems == [] and found.pages == len(PAGES)
    assert found.points == sum(len(read(directory, page)["points"]) for page in PAGES)


def test_an_answer_is_right_within_its_allowance(directory):
    """As code in any language would read them: refflow's own tanh passes everywhere, a naive log-det does not."""
    found, missed = 0, 0
    for point in read(directory, "Tanh")["points"]:
        if point["side"] == "forward" and "float64" in point["formats"]:
            z, one = float.fromhex(point["event"]["values"][0]), point["quantities"]["log_det"]
            if "not_first_order" in one.get("flags", {}).get("float64", ()):
                continue
            true, allowance = Decimal(one["true"][0]), Decimal(one["allowance"]["float64"][0])
            right = bijectors()["Tanh"]().log_det(z)
            naive = 2 * (np.log(2) - z - np.logaddexp(0, -2 * z))
            assert abs(Decimal(float(right)) - true) <= allowance
            found, missed = found + 1, missed + (abs(Decimal(float(naive)) - true) > allowance)
    assert found > 60 and missed > 10


def test_ids_depend_on_the_question_alone(directory):
    points = read(directory, "Tanh")["points"]
    assert len({point["id"] for point in points}) == len(points)
    for point in points:
        again = point | {"case": "another", "reason": "another", "quantities": {}}
        assert vectors.identity("Tanh", again) == point["id"] != vectors.identity("Sigmoid", again)
        moved = point | {"event": {"shape": [], "values": ["0x1.23456p+0"]}}
        assert vectors.identity("Tanh", moved) != point["id"]
    assert points[0]["id"] == "Tanh-a1f95812cdab8f3d"                # of every version of refflow


def test_zeros_of_structure_are_not_compared(directory):
    [masks] = {tuple(one["quantities"]["vjp.lower_bar"]["compared"]) for one in read(directory, "PLULinear")["points"]
               if one["quantities"].get("vjp.lower_bar", {}).get("shape") == [2, 2]}
    assert masks == (False, False, True, False) and read(directory, "PLULinear")["normwise"]


def test_a_format_selects_its_points(tmp_path, run):
    status, out, _ = run("vectors", "export", tmp_path / "b", "--page", "Tanh", "--dtype", "bfloat16", "--json")
    points = read(tmp_path / "b", "Tanh")["points"]
    assert status == 0 and json.loads(out)["points"] == len(points) == len(golden.exact_points("Tanh", "float32"))
    assert all("bfloat16" in point["formats"] for point in points)
    assert run("vectors", "verify", tmp_path / "b")[:2] == (0, f"{tmp_path / 'b'}: 1 page, {len(points)} points\n")


def test_an_export_never_writes_over_anything(directory, run):
    status, out, err = run("vectors", "export", directory)
    assert (status, out) == (2, "") and "must be a new or an empty directory" in err
    assert "did you mean Tanh" in run("vectors", "export", "new", "--page", "Tahn")[2]


# -- what a reader refuses --------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("vectors") / "small"
    vectors.export(path, ["Tanh"], ["bfloat16"])
    return path


@pytest.fixture
def damaged(small, tmp_path):
    """damaged(change of the page's JSON, change of the manifest's) -> a directory whose hashes are right again."""
    def build(change=lambda page: None, of_manifest=lambda manifest: None):
        copy = tmp_path / "copy"
        shutil.copytree(small, copy)
        page, manifest = read(copy, "Tanh"), json.loads((copy / "manifest.json").read_text())
        change(page)
        text = json.dumps(page).encode()
        (copy / "Tanh.json").write_bytes(text)
        manifest["files"][0]["sha256"] = hashlib.sha256(text).hexdigest()
        of_manifest(manifest)
        (copy / "manifest.json").write_text(json.dumps(manifest))
        return copy

    return build


def first(page):
    return page["points"][0]


def first_quantity(page):
    return first(page)["quantities"]["log_det"]


NOT_UNDERSTOOD = [
    (lambda page: page.update(schema="refflow/vectors/2"), "reads 'refflow/vectors/1'"),
    (lambda page: page.update(more=1), "has an unknown field 'more'"),
    (lambda page: first(page).update(more=1), "points[0] has an unknown field 'more'"),
    (lambda page: first(page).pop("formats"), "points[0] lacks the field 'formats'"),
    (lambda page: first(page).update(formats=["float8"]), "must be one of bfloat16, float16, float32, float64"),
    (lambda page: first(page)["event"].update(values=[0.5]), "must be of type string, not 0.5"),
    (lambda page: first_quantity(page).update(true=["1.5e"]), "points[0].quantities.log_det.true[0] must match"),
    (lambda page: first_quantity(page).update(flags={"float64": ["odd"]}), "does not explain the flag 'odd'"),
    (lambda page: page.update(page="Tahn"), "there is no page 'Tahn'"),
]


@pytest.mark.parametrize("change, words", NOT_UNDERSTOOD, ids=[words for _, words in NOT_UNDERSTOOD])
def test_what_is_not_understood_is_refused(change, words, damaged, run):
    status, out, err = run("vectors", "verify", damaged(change))
    assert (status, out) == (2, "") and words in err and err.count("\n") == 1


WRONG = [
    (lambda page: first(page).update(id="Tanh-0123456789abcdef"), "its id is not the id of its question"),
    (lambda page: page["points"].append(first(page)), "stands there twice"),
    (lambda page: page["points"].pop(), "the manifest says"),
    (lambda page: first_quantity(page)["allowance"].update(float64=["1"]), "an allowance is not the one that kappa gives"),
    (lambda page: first_quantity(page).update(true=[]), "it does not have an entry for each of []"),
]


@pytest.mark.parametrize("change, words", WRONG, ids=[words for _, words in WRONG])
def test_what_is_wrong_is_found(change, words, damaged, run):
    status, out, err = run("vectors", "verify", damaged(change))
    assert (status, err) == (1, "") and words in out


def test_numbers_that_a_format_does_not_hold_are_found(damaged, run):
    def change(page):
        point = next(one for one in page["points"] if "bfloat16" in one["formats"])
        point["event"]["values"] = ["0x1.01p+0"]
        point["id"] = vectors.identity("Tanh", point)

    assert "bfloat16 does not hold its numbers" in run("vectors", "verify", damaged(change))[1]


def test_files_that_are_not_the_manifests_are_found(damaged, run):
    directory = damaged(lambda page: None)
    (directory / "Tanh.json").write_text("{}")
    (directory / "more.json").write_text("{}")
    (directory / "vectors.schema.json").unlink()
    status, out, _ = run("vectors", "verify", directory)
    assert status == 1 and out.splitlines()[:3] == [
        "more.json: the manifest does not list it", "vectors.schema.json: missing",
        "Tanh.json: its sha256 is not the manifest's"]
    assert run("vectors", "verify", directory / "nowhere")[0] == 2


@pytest.mark.parametrize("change, words", [
    (lambda manifest: manifest.update(more=1), "unknown field 'more'"),
    (lambda manifest: manifest["files"][0].update(name="../Tanh.json"), "files[0].name must match"),
    (lambda manifest: manifest.update(schema="refflow/vectors/9"), "reads 'refflow/vectors/1'")])
def test_a_manifest_that_is_not_understood_is_refused(change, words, damaged, run):
    status, _, err = run("vectors", "verify", damaged(of_manifest=change))
    assert status == 2 and words in err


def test_the_schema_comes_with_the_vectors(directory):
    assert json.loads((directory / "vectors.schema.json").read_text()) == schema("vectors")
    assert violation(json.loads((directory / "manifest.json").read_text()), "vectors", "manifest") is None


def test_the_files_agree_with_jsonschema(small):
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is needed: pip install jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema("vectors"))
    validator = jsonschema.Draft202012Validator(schema("vectors"))
    assert all(validator.is_valid(json.loads(path.read_text())) for path in small.glob("[A-Zm]*.json"))
    page = read(small, "Tanh")
    for change, words in NOT_UNDERSTOOD[:7]:
        wrong = json.loads(json.dumps(page))
        change(wrong)
        assert not validator.is_valid(wrong), words


# -- points that are exact in bfloat16 --------------------------------------------------------------------------------

@pytest.mark.parametrize("name", sorted(bijectors()))
def test_exact_points(name):
    """Every page has some on both sides, bfloat16 holds all their numbers, and every flag is of a format that does."""
    stored = golden.stored(name, golden.EXACT_DIRECTORY, golden.EXACT_SCHEMA)
    assert {one["side"] for one in stored} == {"forward", "inverse"}
    for one, point in zip(stored, golden.exact_points(name, "float64")):
        numbers = [point.event, point.image_bar, point.log_det_bar,
                   *(v for v in (getattr(point.f, key) for key in point.f.declared) if np.asarray(v).dtype == np.float64)]
        formats = [key for key, form in FORMATS.items() if all(form.holds(v) for v in numbers)]
        assert "bfloat16" in formats and one["exact_in"] == formats
        assert all(set(q.get("first_order", [])) < set(formats) for q in one["quantities"].values())


def test_the_exact_points_are_generated():
    assert (golden.EXACT_DIRECTORY / "Tanh.json").read_text() == exact_document("Tanh")


def test_a_wrong_exact_truth_would_be_found(monkeypatch):
    """refflow's own check compares the pages with them."""
    right = golden.exact_points

    def off(name, dtype):
        points = right(name, dtype)
        for point in points:
            if "log_det" in point.truth:
                point.truth["log_det"].high[...] *= 1 + 2.0**-10
        return points

    monkeypatch.setattr(golden, "exact_points", off)
    assert {(f.quantity, f.dtype) for f in check(page="Tanh").failed} == {("log_det", "float64")}


def test_the_formats_are_torchs():
    torch = pytest.importorskip("torch", reason="torch is needed: pip install refflow[peers]")
    numbers = np.random.default_rng(0).integers(0, 2**32, 20000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    for name in ("bfloat16", "float16"):
        theirs = torch.from_numpy(numbers.copy()).to(getattr(torch, name)).float().numpy()
        assert np.array_equal(FORMATS[name].rounded(numbers), theirs, equal_nan=True)
        limits = torch.finfo(getattr(torch, name))
        assert (FORMATS[name].largest, FORMATS[name].normal, 2 * FORMATS[name].unit) == (limits.max, limits.tiny, limits.eps)
    for name in ("float32", "float64"):
        limits, form = np.finfo(name), FORMATS[name]
        assert (form.largest, form.normal, form.smallest) == (limits.max, limits.tiny, limits.smallest_subnormal)
