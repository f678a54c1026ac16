"""The command line: what it prints, how it fails, its exit status."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import refflow
from refflow.cli.fit import model_named
from refflow.cli.list_pages import compositions
from refflow.cli.names import ALIASES, MODELS, plainly
from refflow.cli.textbook import compared
from refflow.core.registry import REGISTRY
from refflow.maps import CHAPTERS
from refflow.oracle.points.pages import bijectors

TOOK = re.compile(r"refflow: \d+\.\d CPU seconds\n")
TANH = """
import numpy as np
from refflow.oracle import adapter

@adapter("Tanh", dtype="float64")
def mine(params, z):
    log_det = {log_det}
    return {{"forward": np.tanh(z), "log_det": log_det, "inverse": np.arctanh}}
"""
WRONG = TANH.format(log_det="2 * (np.log(2) - z - np.logaddexp(0, -2 * z))")
RIGHT = TANH.format(log_det="np.where(np.abs(z) <= 1, -np.log1p(np.sinh(np.clip(z, -1, 1))**2), "
                            "2 * (np.log(2) - np.abs(z) - np.log1p(np.exp(-2 * np.abs(z)))))")


@pytest.fixture
def file(tmp_path):
    def write(text, name="adapters.py"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


FACTS = {"name", "kind", "chapter", "event_ndim", "inverse", "domain", "codomain", "support", "source", "certificate",
         "agrees_to", "used_by", "dimension", "measure"}


def test_list(run):
    """All pages of every kind, the named compositions, and the models."""
    status, out, _ = run("list")
    everything = {*REGISTRY, *compositions(), *MODELS}
    head, *lines = out.splitlines()
    names = [line.split()[0] for line in lines]
    assert status == 0 and "kind" in head.split() and set(names) == everything and len(names) == len(everything)
    kinds = {name: line.split()[1] for name, line in zip(names, lines)}
    assert all(page.kind == kinds[name] for name, page in REGISTRY.items())
    status, out, _ = run("list", "--json")
    pages = {p["name"]: p for p in json.loads(out)}
    assert list(pages) == names and all(set(p) == FACTS for p in pages.values()) and " object at 0x" not in out
    assert {p["kind"] for p in pages.values()} >= {"bijector", "conditioner", "density", "composition", "model"}
    assert pages["glow"]["source"] == "arXiv:1807.03039" and 0 < pages["glow"]["agrees_to"] <= 1e-9
    assert pages["Tanh"]["event_ndim"] == [0, 0] and pages["Tanh"]["inverse"] == "closed"
    assert pages["CorrelationCholesky"]["event_ndim"] == [1, 2] and pages["Tanh"]["chapter"] == "elementwise"
    assert pages["Dense"]["inverse"] is None and pages["StandardNormal"]["support"] == "real"
    assert set(pages["Tanh"]["certificate"]["forward"]["float64"]) >= {"C", "allowed"}


@pytest.mark.parametrize("name, dimension, measure", [
    ("Tanh", [None, None], [None, None]), ("StickBreaking", [None, "D - 1"], [None, "chart"]),
    ("ZeroSum", [None, "D - 1"], [None, "intrinsic"]), ("IntrinsicVolume", ["D - 1", "D - 1"], ["chart", "intrinsic"]),
    ("CorrelationCholesky", [None, "D (D - 1) / 2"], [None, "chart"]),
    ("CayleyOrthogonal", [None, "D (D - 1) / 2"], [None, "intrinsic"]),
    ("CholeskyOuterProduct", ["D (D + 1) / 2"] * 2, ["chart", "chart"]), ("Dense", [None, None], [None, None]),
    ("StandardNormal", None, None), ("glow", None, None),
])
def test_dimensions_and_measures_are_listed(name, dimension, measure, run, monkeypatch):
    page = next(p for p in json.loads(run("list", "--json")[1]) if p["name"] == name)
    assert (page["dimension"], page["measure"]) == (dimension, measure)
    monkeypatch.setenv("COLUMNS", "600")
    line = next(line for line in run("list")[1].splitlines() if line.split()[0] == name)
    assert all(size in line for size in dimension or [] if size)


def test_the_list_is_in_reading_order(run):
    """By chapters, each in one piece: the maps' in the order of their README, models last; pages before the compositions of them."""
    pages = [(p["chapter"], p["kind"] == "composition") for p in json.loads(run("list", "--json")[1])]
    chapters = [chapter for chapter, _ in itertools.groupby(chapter for chapter, _ in pages)]
    assert [chapter for chapter in chapters if chapter in CHAPTERS] == [chapter for chapter in CHAPTERS if chapter in chapters]
    assert chapters[-1] == "models"
    assert len(chapters) == len(set(chapters))
    assert all(one <= other for (chapter, one), (after, other) in itertools.pairwise(pages) if chapter == after)


@pytest.mark.parametrize("width", [30, 60, 100, None])
def test_tables_are_as_wide_as_the_terminal_and_cut_no_name(width, run, monkeypatch):
    """A column is there whole or not at all; in a pipe the width is 100."""
    monkeypatch.delenv("COLUMNS", raising=False)
    if width:
        monkeypatch.setenv("COLUMNS", str(width))
    for command in ("list", "textbook"):
        _, out, err = run(command)
        head, *lines = out.splitlines()
        assert max(map(len, out.splitlines())) <= (width or 100)
        assert {line.split()[0] for line in lines} <= {*REGISTRY, *compositions(), *MODELS}
        assert command == "textbook" or ("too narrow" in err and "used by" in err and "used by" not in head)


def test_a_wide_terminal_shows_all_columns(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    _, out, err = run("list")
    assert "used by" in out.splitlines()[0] and err == ""


SHOWN = ("Tanh", "AlphaSigmoid", "BoxCox", "Softmax", "StickBreaking", "AffineCoupling", "PLULinear", "GELU", "Dense", "SoftplusScale", "Dirichlet",
         "SoftmaxKnots")


@pytest.mark.parametrize("name", SHOWN)
def test_what_a_textbook_shows_can_be_pasted(name, run, monkeypatch):
    """The lines give the two numbers that stand above them, in both dtypes, and no line is wider than the terminal."""
    monkeypatch.setenv("COLUMNS", "100")
    text = run("textbook", name)[1]
    lines, dtypes = text.splitlines(), set()
    assert max(map(len, lines)) <= 100 and "measure(" not in text
    blocks = re.findall(r"^ {8}printed (.*(?:\n {12}.*)?)\n((?: {4}(?:>>>|\.\.\.) .*(?:\n|$))+)", text, re.M)
    assert len(blocks) == len(re.findall("^ {8}printed ", text, re.M)) > 0
    for told, code in blocks:
        *first, last = re.sub(r"\n {4}\.\.\. ", " ", code).strip().removeprefix(">>> ").split("\n    >>> ")
        known = {"np": np} | {page: getattr(refflow, page) for page in re.findall(r"\b([A-Z]\w*)\(", code)}
        with np.errstate(all="ignore"):
            exec("\n".join(first), known)
            printed, own = (np.asarray(found) for found in eval(last, known))
        dtypes |= set(re.findall("np.float(?:32|64)", code))
        said = re.match(r"(\S+), the page (\S+?)(?: at (\[.*?\]))?: ", told)
        place = tuple(json.loads(said[3] or "[]"))
        numbers = [float(np.broadcast_to(found, np.shape(own))[place]) for found in (printed, own)]
        np.testing.assert_array_equal(numbers, [float(said[1]), float(said[2])])
    assert "np.float32" in dtypes


def test_an_input_of_many_numbers_is_cut(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    lines = [line for line in run("textbook", "LowRankLinear")[1].splitlines() if "`--json` has the whole input" in line]
    assert lines and all(re.match(r"    [zx] = \[.*, \.\.\.: ", line) for line in lines)


def test_digits_that_are_lost():
    assert compared(np.array(0.0), np.array(1e-16)).endswith("16 of 16 digits lost")
    assert compared(np.array(1.0001), np.array(1.0)).endswith("12 of 16 digits lost")
    assert compared(np.array(-np.inf), np.array(-3.0)).endswith(": infinite")
    assert compared(np.array([1.0, np.nan]), np.array([1.0, 2.0])) == "printed nan, the page 2.0 at [1]: not a number"
    assert compared(np.array([1.0, 2.0]), np.array([1.0, 2.0])) == ""
    assert compared(np.array(0.0), np.array(1e-16), np.dtype("float32")).endswith("7 of 7 digits lost")


def test_every_set_of_lower_dimension_has_a_formula(run):
    pages = json.loads(run("list", "--json")[1])
    assert not any("fewer" in (page["dimension"] or ()) for page in pages)
    assert all((size is None) == (how is None) for page in pages if page["dimension"]
               for size, how in zip(page["dimension"], page["measure"]))


def test_a_page_of_a_new_kind_is_listed_and_shown(run, monkeypatch):
    """Anything registered, with no more than a name, a kind and declared fields."""
    thing = type("Thing", (), {"kind": "invention", "declared": {}, "__module__": "refflow.core.registry"})
    monkeypatch.setitem(REGISTRY, "Thing", thing)
    assert any(line.split()[:2] == ["Thing", "invention"] for line in run("list")[1].splitlines())
    assert {p["name"]: p["kind"] for p in json.loads(run("list", "--json")[1])}["Thing"] == "invention"
    status, out, _ = run("show", "Thing")
    assert status == 0 and out.startswith("Thing: The register of pages")


def test_show(run):
    status, out, _ = run("show", "Affine")
    assert status == 0
    words = ("x = scale z + shift", "scale      ()", "must be finite and not 0", "certificate", "Cancelling")
    assert all(word in out for word in words)
    for name in REGISTRY:
        status, out, _ = run("show", name)
        assert status == 0 and out.startswith(f"{name}: ")
        status, out, _ = run("show", name, "--json")
        assert status == 0 and set(json.loads(out)) == FACTS | {"text", "parameters", "hard_cases"}
    page = json.loads(run("show", "Affine", "--json")[1])
    assert page["name"] == "Affine" and "x = scale z + shift" in page["text"]
    assert {row["parameter"]: row["constraint"] for row in page["parameters"]}["scale"] == "must be finite and not 0"
    assert "Cancelling" in {case["name"] for case in page["hard_cases"]}


def test_show_a_page_with_components(run):
    status, out, _ = run("show", "AffineCoupling")
    words = ("x_b = z_b exp(s) + t", "net        ", "a Conditioner", "passes", "PassesNone")
    assert status == 0 and all(word in out for word in words)
    status, _, err = run("check", "--page", "AffineCoupling")
    assert status == 2 and "without golden points" in err


@pytest.mark.parametrize("name, words", [
    ("Chain", ("Chain: Composition", "x = f_K(... f_1(z))")),
    ("Flow", ("Flow: a class of refflow.core.flow, not a page", "Flow(bijector, base)", "The density of x = f(z)")),
    ("Glow", ("glow: a model of refflow.models.glow, not a page", "levels=3", "h <- squeeze(h)")),
    ("Conv1x1", ("`Pointwise`", "`PLULinear`")),
    ("maf", ("maf: a model of refflow.models.maf, not a page", "layers=5", "h_k,i = h_{k-1,i} exp(s_i) + t_i")),
    ("masked-autoregressive-flow", ("`Inverse` of an `Autoregressive`",)),
    ("masked-dense-network", ("masked_dense_network: a function of refflow.maps.conditioners.masked_network",)),
    ("CONVENTIONS", ("CONVENTIONS: a table", "Who uses which scale", "zuko: SoftclipExpScale(low=0.001)")),
    ("SPLINES", ("SPLINES: a table", "Who parametrises splines how", "zuko: zuko(bins=8, bound=5.0, slope=0.001): Softly")),
])
def test_show_what_is_not_a_page(run, name, words):
    status, out, err = run("show", name)
    assert status == 0 and not err and all(word in out for word in words)
    status, out, _ = run("show", name, "--json")
    assert status == 0 and {"name", "kind", "text"} <= set(json.loads(out))


def test_a_parametrisation_names_the_libraries_that_use_it(run):
    pages = {page["name"]: page["used_by"] for page in json.loads(run("list", "--json")[1])}
    assert {"nflows", "zuko", "distrax", "FlowJAX 17", "torchflows"} <= set(pages["SoftmaxKnots"])
    assert pages["Triangle"] == ["nflows, normflows, SurVAE", "distrax, TFP, Pyro", "zuko", "torchflows"]
    assert pages["Tanh"] == pages["glow"] == []
    assert "zuko" in pages["SoftclipExpScale"] and "nflows" not in pages["SoftclipExpScale"]
    status, out, _ = run("show", "Premultiplied")
    assert status == 0 and "used by" in out and "torchflows" in out


def test_everything_that_refflow_offers_is_shown(run):
    for name in set(dir(refflow)) - {*REGISTRY, "REGISTRY"}:
        assert run("show", name)[0] == 0, name


def test_aliases_name_what_is_there():
    """Every name in backticks is refflow's, and no alias hides one of refflow's."""
    named = {name for text in ALIASES.values() for name in re.findall(r"`(\w+)`", text)}
    assert named <= set(dir(refflow)) | set(MODELS)
    assert all(re.search("`", text) for text in ALIASES.values())
    aliases = [name for names in ALIASES for name in names]
    assert len({plainly(name) for name in aliases}) == len(aliases)
    assert not {plainly(name) for name in aliases} & {plainly(name) for name in (*dir(refflow), *MODELS)}


def test_an_unknown_name_gets_suggestions(run):
    status, out, err = run("show", "stickbreakng")
    assert status == 2 and not out and "did you mean StickBreaking" in err
    status, _, err = run("check", "--page", "Tahn")
    assert status == 2 and "Tanh" in err


def test_check_own_pages(run):
    status, out, err = run("check", "--page", "Exp", "--dtype", "float64")
    assert status == 0 and "0 fail" in out and TOOK.fullmatch(err)
    status, out, err = run("check", "--json", "--page", "Exp")
    report = json.loads(out)
    assert status == 0 and not err and report["target"] == "refflow" and report["version"] == refflow.__version__
    assert report["failed"] == [] and {p["dtype"] for p in report["passed"]} == {"float32", "float64"}


def test_check_says_what_it_took(run, monkeypatch):
    """Its own seconds, of the system and of its workers, beside a table that is the same every time."""
    tables = []
    for user, took in ((1.0, "10.4"), (2.0, "11.4")):
        monkeypatch.setattr(os, "times", lambda: (user, 2.0, 3.0, 4.375, 99.0))
        _, out, err = run("check", "--page", "Exp", "--dtype", "float64")
        assert err == f"refflow: {took} CPU seconds\n"
        tables.append(out)
    assert tables[0] == tables[1] and run("check", "--page", "Exp", "--dtype", "float64", "--markdown")[2] == ""


def test_bare_check_says_what_it_covers(run, monkeypatch):
    few = {name: page for name, page in bijectors().items() if name in ("Exp", "Tanh")}
    monkeypatch.setattr(sys.modules["refflow.oracle.check"], "bijectors", lambda: few)
    status, out, _ = run("check")
    assert status == 0 and f"note: 2 of {len(REGISTRY)} pages have golden points" in out
    assert "golden points" not in run("check", "--page", "Exp")[1]


def test_a_users_file(run, file):
    status, out, _ = run("check", file(WRONG))
    assert status == 1 and "FAIL  mine  log_det  float64" in out and "diagnosis     0, where the truth is about" in out
    status, out, _ = run("check", file(WRONG), "--json")
    report = json.loads(out)
    assert status == 1 and {f["quantity"] for f in report["failed"]} == {"log_det"}
    assert {p["quantity"] for p in report["passed"]} == {"forward", "inverse"}
    assert "jacobian" in {s["quantity"] for s in report["skipped"]}
    status, out, _ = run("check", file(RIGHT))
    assert status == 0 and "skipped, not returned: jacobian (mine)" in out


def test_two_functions_of_one_name_are_both_checked(run, file):
    both = WRONG + WRONG.replace('"Tanh"', '"Exp"')
    _, out, _ = run("check", file(both), "--json")
    assert {f["bijector"] for f in json.loads(out)["failed"]} == {"Tanh", "Exp"}


def test_the_version_of_a_file_is_its_own(run, file):
    _, out, _ = run("check", file(RIGHT + "\nversion = '1.2.3'\n"), "--json")
    assert json.loads(out)["version"] == "1.2.3"


@pytest.mark.parametrize("text, words", [
    ("import numpy\n", "declares no adapter"),
    ("x = 1\n\nraise RuntimeError('no device')\n", "RuntimeError: no device (line 3)"),
    ("import refflow_missing_module\n", "No module named 'refflow_missing_module'"),
    ("def broken(:\n", "SyntaxError"),
    ("from refflow.oracle import adapter\nadapter('Tahn')\n", "did you mean Tanh"),
])
def test_files_that_cannot_be_used(run, file, text, words):
    status, out, err = run("check", file(text))
    assert status == 2 and not out and words in err


@pytest.mark.parametrize("target, words", [
    ("nowhere.py", "there is no file nowhere.py"),
    ("torhc", "did you mean torch?"),
    ("Tanhh", "to check one of refflow's own pages: refflow check Tanh"),
])
def test_unknown_targets(run, target, words):
    status, _, err = run("check", target)
    assert status == 2 and words in err


def test_a_missing_library_is_named(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "refflow.peers.torch", raising=False)
    status, _, err = run("check", "torch")
    assert status == 2 and "torch is not installed" in err and "pip install torch==2.13.0" in err


WITHOUT_TORCH = """
import sys

class NoTorch:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NoTorch)
from refflow.cli import main
raise SystemExit(main(["check", "--page", "Tanh"]))
"""


def test_the_module_runs_without_torch():
    done = subprocess.run([sys.executable, "-W", "error", "-c", WITHOUT_TORCH], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run([sys.executable, "-m", "refflow", "--version"], capture_output=True, text=True, timeout=60)
    assert done.stdout == f"refflow {refflow.__version__}\n"


def test_importing_refflow_and_the_oracle_imports_no_framework():
    code = ("import sys, refflow.cli; "
            "raise SystemExit(any(m in sys.modules for m in ('torch', 'jax', 'mpmath', 'hypothesis')))")
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_check_torch(run):
    status, out, _ = run("check", "torch", "--page", "Exp", "--dtype", "float32", "--json")
    report = json.loads(out)
    assert status == 0 and report["version"].startswith(sys.modules["torch"].__version__.split("+")[0])


# -- names as they are typed ------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("text", "hint"), [("Tanhh", "did you mean Tanh?"), ("sigmoid", "did you mean Sigmoid or "),
                                            ("RealNVP", "did you mean realnvp"), ("GLOW_TTS", "did you mean glow_tts"),
                                            ("qqqq", "`dir(refflow)` lists what it has")])
def test_a_name_that_refflow_does_not_have(text, hint):
    with pytest.raises(AttributeError, match=re.escape(hint)) as refused:
        getattr(refflow, text)
    assert len(str(refused.value)) < 100


@pytest.mark.parametrize("text", ["realNVP", "RealNVP", "real-nvp", "Flow++", "nsf_ar", "GlowTTS", "ImageRealNVP", "unknown"])
def test_models_in_any_spelling(text):
    names = {"realnvp", "flow++", "nsf-ar", "glow_tts", "image_realnvp", "unknown"}
    assert model_named(text) in names
