"""Users' lines pass mypy --strict, with real types where flows, arrays and reports come back; the types are as the code is.

One run of mypy reads the package once, as a user's does: from a directory of packages, where its own errors are not told.
"""

from __future__ import annotations

import ast
import inspect
import re
import sysconfig
import venv
from pathlib import Path

import pytest

import refflow
from test_readme import blocks, examples, with_libraries
from validation import generated

api = pytest.importorskip("mypy.api")
ROOT = Path(__file__).parents[1]
USE, _ = blocks("python")
EXAMPLES = {param.id: param.values[0] for param in examples()} | {library: code for library, code, _ in with_libraries()}

SAVED = "from refflow import save\nfrom refflow.saving import about, load, read_all\n"
RIGHT = USE + SAVED + ("save(flow, 'f.npz', about={'x': 1})\nload('f.npz').sample(np.random.default_rng(0), 4)\n"
                       "read_all('f.npz')[2]['x'].shape\n")
MISTAKES = {"f.forward(0.0).shpae": "has no attribute", "Affine(0.0, 1.0, 2.0)": "Too many arguments",
            "Flow(f)": "Missing positional argument", "f.vjp(0.0)[1](1.0)": "Too few arguments",
            "refflow.fit(f, x)": "has incompatible type", "refflow.realnvp(2, 2)": "has incompatible type",
            "refflow.check(box).faild": "has no attribute", "adapter(Tanh)": "incompatible type",
            "from refflow.core.tree import walk; walk(f)": 'Call to untyped function "walk"',
            "from refflow.models.maf import Chain": "does not explicitly export"}

TYPED = f"""
import refflow
from refflow import Dense
from refflow.oracle import adapter
from refflow.testing import BlackBox, law_tests, page_tests, verdicts
{USE}
@adapter("Tanh")
def mine(params: dict[str, float], z: float) -> dict[str, float]:
    return {{"forward": z}}

rng, box = np.random.default_rng(0), BlackBox(Tanh().forward)
"""
ARRAY = "ndarray[tuple[Any, ...], dtype[floating[Any]]]"
REVEALED = {
    "z": ARRAY, "x_bar": ARRAY, "log_p": ARRAY, "flow.log_prob(x)": ARRAY, "f.stages": "tuple[core.Bijector, ...]",
    "Tanh().forward(0.5)": ARRAY, "Tanh().inverse_and_log_det(0.5)": f"tuple[{ARRAY}, {ARRAY}]",
    "Affine(0.5, 2.0).scale": ARRAY, "Dense([[1, 0], [0.5, 2]]).W": ARRAY, "Dense([[1.0]]).at(context=[1.0])": "refflow.Dense",
    "refflow.realnvp(rng, 2)": "core.Flow", "refflow.glow_tts(rng)": "models.glow_tts.GlowTTS",
    "refflow.softclip()": "core.Chain",
    "refflow.fit(flow, x)": "training.Result", "refflow.fit(flow, x).flow": "core.Flow",
    "refflow.training.fit_reverse_kl(flow, flow.log_prob, np.exp, rng=rng).state": "training.State | None",
    "refflow.load": "def (path: str | os.PathLike[str]) -> Any",
    "refflow.check()": "oracle.judging.verdict.Report", "refflow.check(mine)": "oracle.judging.verdict.Report | testing.Verdicts",
    "refflow.check(mine, page='Tanh')": "oracle.judging.verdict.Report", "refflow.check(box, page='Tanh')": "oracle.judging.verdict.Report",
    "refflow.check(box)": "testing.Verdicts", "verdicts(box)": "testing.Verdicts",
    "refflow.oracle.check(mine).failed": "list[oracle.judging.verdict.Finding]",
    "mine": "def (params: dict[str, float], z: float) -> dict[str, float]",
    "adapter('Tanh')": "def [Function <: def (*Any, **Any) -> Any] (Function) -> Function",
    "refflow.models.tarflow(rng, (3, 32, 32))": "core.Flow", "refflow.models.jet_network(rng, 4, 16, 8, 1)": "core.Conditioner",
    "refflow.models.BUILDERS['maf'](2, rng)": "core.Flow", "refflow.fast.tuned(flow)": "core.Flow",
    "refflow.training.with_statistics(flow, {})": "core.Flow", "refflow.training.recipes.realnvp()": "dict[Any, Any]",
    "refflow.training.LikelihoodGradient(rows=64)": "refflow.fast.likelihood.LikelihoodGradient",
    "refflow.data.load_data('iris').values": "ndarray[tuple[Any, ...], dtype[Any]]",
    "refflow.plot.save(refflow.plot.images([x]), 'x.png')": "None",
    "refflow.plot.density(flow, x)": "refflow.plot.Picture", "refflow.REGISTRY['Tanh']": "type[core.Value]",
    "law_tests(box)": "def (def (*Any, **Any) -> Any) -> def (*Any, **Any) -> Any",
    "page_tests('Tanh')": "def (def (*Any, **Any) -> Any) -> def (*Any, **Any) -> Any",
}
TEXTS = [RIGHT, *(f"{TYPED}{line}\n" for line in MISTAKES), TYPED + "".join(f"reveal_type({line})\n" for line in REVEALED),
         *EXAMPLES.values()]
NUMBERS = re.compile(r"(?:numpy\._typing\._\w+\.)?_Buffer \| .*? \| typing\.Sequence\[Any\]")
FACES = ("core", "testing", "training")             # packages whose public names have their types in a file of their own


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What mypy says of each text, a file of its own, in the environment of a user."""
    directory = tmp_path_factory.mktemp("types")
    venv.create(directory / "venv", with_pip=False)
    packages = next((directory / "venv" / "lib").glob("python*/site-packages"))
    (packages / "installed.pth").write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n")
    (directory / "mypy.ini").write_text("[mypy]\n[mypy-jax.*]\nfollow_imports = skip\nignore_missing_imports = True\n")
    for n, text in enumerate(TEXTS):
        (directory / f"use{n}.py").write_text(text)
    out, err, _ = api.run(["--strict", "--cache-dir", str(directory / "cache"), "--config-file", str(directory / "mypy.ini"),
                           "--python-executable", str(directory / "venv" / "bin" / "python"),
                           *map(str, sorted(directory.glob("*.py")))])
    assert not err and not [line for line in out.splitlines() if "error:" in line and not re.search(r"use\d+.py:", line)], out
    return {text: [line for line in out.splitlines() if f"use{n}.py:" in line] for n, text in enumerate(TEXTS)}


def of_the_package(said, code):
    """Its errors except these: the example's own functions have no annotations, and a textbook's have no self."""
    own = {node.name for node in ast.walk(ast.parse(code)) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    untyped = re.compile(r'\[no-untyped-def\]$|Unsupported .*"textbook".*\[operator\]$|'
                         rf'Call to untyped function "(?:{"|".join(own)})"')
    return [line for line in said[code] if "error:" in line and not untyped.search(line)]


def test_the_package_has_no_errors(tmp_path, monkeypatch):
    """As `setup.cfg` asks, which takes other libraries for untyped, whether they are installed or not."""
    monkeypatch.chdir(ROOT)
    out, err, status = api.run(["--config-file", "setup.cfg", "--cache-dir", str(tmp_path)])
    assert (err, status) == ("", 0), out


def test_generated_files_are_fresh():
    assert [path.name for path, make in generated.GENERATORS.items() if path.read_text() != make()] == []


def named(node):
    """The public names that a statement of a file of types makes."""
    if isinstance(node, ast.ImportFrom):
        return [one.asname for one in node.names if one.asname]
    held = [node.target] if isinstance(node, ast.AnnAssign) else node.targets if isinstance(node, ast.Assign) else [node]
    names = [getattr(one, "id", getattr(one, "name", "")) for one in held]
    return [name for name in names if name and not name.startswith("_")]


def parameters(function):
    """{name: kind} of a function in a file of types."""
    given = function.args
    kinds = {"POSITIONAL_ONLY": given.posonlyargs, "POSITIONAL_OR_KEYWORD": given.args, "KEYWORD_ONLY": given.kwonlyargs,
             "VAR_POSITIONAL": [given.vararg], "VAR_KEYWORD": [given.kwarg]}
    return {one.arg: kind for kind, ones in kinds.items() for one in ones if one is not None}


def contradicted(node, owner):
    """The functions whose parameters are others than a file of types says; a published one of a page is known by name alone."""
    for function in (one for one in node.body if isinstance(one, ast.FunctionDef)):
        held = getattr(owner, function.name, None)
        if held is None:
            yield f"{owner.__name__} has no {function.name}"
        elif inspect.isfunction(held) and function.name != "__init__":
            own = {one.name: one.kind.name for one in inspect.signature(held, follow_wrapped=False).parameters.values()}
            if "VAR_KEYWORD" not in own.values() and own != parameters(function):
                yield f"{owner.__name__}.{function.name} has {own}, not {parameters(function)}"


def differences(package, text):
    """What a file of types says that its package does not have, in words: names, and parameters of functions and methods.

    The methods of a contract are looked for in a page that keeps it.
    """
    tree, pages = ast.parse(text), {"Bijector": refflow.Tanh, "Conditioner": refflow.Dense, "Density": refflow.Flow}
    stated = {name for node in tree.body for name in named(node)}
    public = set(getattr(package, "__all__", [name for name, held in vars(package).items()
                                              if not name.startswith("_") and not inspect.ismodule(held)])) - {"annotations"}
    yield from (f"{name} is on one side alone" for name in sorted(stated ^ public))
    yield from contradicted(tree, package)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name in stated & public:
            yield from contradicted(node, pages.get(node.name, getattr(package, node.name)))


@pytest.mark.parametrize("name", FACES)
def test_files_of_types_are_of_the_code(name):
    package = getattr(refflow, name)
    assert list(differences(package, Path(package.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("right, wrong, words", [
    ("from .words import join as join", "", "join is on one side alone"),
    ("def equals(", "def is_equal(", "Value has no is_equal"), ("def vjp(", "def vpj(", "Tanh has no vpj"),
    ("def unravel(self, vector: ", "def unravel(self, given: ", "Value.unravel has"),
    ("class Inverse(", "class Inverted(", "Inverse is on one side alone"),
])
def test_a_wrong_file_of_types_is_seen(right, wrong, words):
    text = Path(refflow.core.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    assert words in "\n".join(differences(refflow.core, text.replace(right, wrong)))


def test_twelve_lines_pass(said):
    assert said[RIGHT] == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_pass(said, name):
    assert of_the_package(said, EXAMPLES[name]) == []


def test_an_annotated_example_passes_without_exception(said):
    (code,) = [code for code in EXAMPLES.values() if "def mine(params: " in code]
    assert said[code] == []


def test_types_are_real(said):
    (lines,) = [lines for text, lines in said.items() if "reveal_type" in text]
    types = [re.sub(r"numpy\.|refflow\.(?=core|laws|models|oracle|testing|training)", "", NUMBERS.sub("Numbers", found))
             for found in re.findall(r'Revealed type is "(.*)"', "\n".join(lines))]
    assert dict(zip(REVEALED, types, strict=True)) == REVEALED and not any("error:" in line for line in lines)


@pytest.mark.parametrize("line", MISTAKES)
def test_mistakes_are_seen(said, line):
    (error,) = of_the_package(said, f"{TYPED}{line}\n")
    assert MISTAKES[line] in error
