"""The house: every package imports only packages below it, imports have no circle, and nobody imports `refflow` itself."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = ["typing", "core", "maps", "models", "accuracy", "truth", "fast", "training", "counts", "report", "saving", "data", "energies", "audio",
         "speech", "plot", "pictures", "laws", "oracle", "testing", "peers", "coverage", "book", "cli"]
ROOMS = ["points", "judging", "asking", "naming", "boxes", "check", "checking", "items", "inputs"]       # of the oracle
FRAMEWORKS = {"torch", "jax", "tensorflow", "tensorflow_probability", "flowjax", "distrax", "zuko", "nflows", "normflows",
              "pyro", "numpyro", "distreqx", "surjectors", "autograd", "keras"}


def module_name(path, root=ROOT):
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules(*packages, root=ROOT):
    """{dotted name: path} of all modules of these packages."""
    return {module_name(path, root): path for package in packages for path in sorted((root / package).rglob("*.py"))}


@functools.cache
def statements(path):
    """All import statements of a file, wherever they stand."""
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, (ast.Import, ast.ImportFrom))]


def imported(name, path, known):
    """The modules among `known` that a module imports; `from package import name` means the module of that name, if any."""
    package = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
    for node in statements(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
            continue
        base = package[:len(package) - node.level + 1] if node.level else []
        base = ".".join([*base, node.module] if node.module else base)
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            yield inner if inner in known else base


def circle(known):
    """A circle of imports among modules, or None."""
    graph = {name: {found for found in imported(name, path, known) if found in known and found != name}
             for name, path in known.items()}
    for name in graph:                              # a package that imports its own modules is not a circle
        graph[name] = {found for found in graph[name] if not name.startswith(f"{found}.")}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]


def rank(name):
    """Where a module stands: the floor of its package, and inside the oracle that of its room."""
    parts = name.split(".")
    if parts[0] != "refflow" or len(parts) == 1 or parts[1] not in ORDER:
        return None
    room = 1 + ROOMS.index(parts[2]) if parts[1] == "oracle" and len(parts) > 2 else 1 + len(ROOMS)
    return ORDER.index(parts[1]), room


def upward(known):
    """["a imports b"] where b stands above a in the house."""
    return [f"{name} imports {found}" for name, path in known.items() if rank(name) is not None
            for found in imported(name, path, known) if (rank(found) or (0, 0)) > rank(name)]


def through_the_door(known):
    """The modules of refflow that import `refflow` itself; adapters and the letters of answers do, as code of users does."""
    inside = [name for name in known if name.startswith("refflow.")]
    return [name for name, path in known.items() if name in inside and not name.startswith(("refflow.peers", "refflow.coverage.letters"))
            for found in imported(name, path, known) if found == "refflow"]


PACKAGES = modules("refflow")


def test_imports_only_go_downwards():
    assert upward(PACKAGES) == []


def test_an_arrow_upwards_between_rooms_is_seen(house):
    files = {"oracle/__init__.py": "", "oracle/points/__init__.py": "", "oracle/points/a.py": "from ..boxes import b", "oracle/boxes/b.py": ""}
    assert upward(house(files)) == ["refflow.oracle.points.a imports refflow.oracle.boxes.b"]


def test_no_circle():
    assert circle(modules("refflow", "validation")) is None


def test_nobody_imports_the_door():
    assert through_the_door(PACKAGES) == []


def test_what_validation_works_with_flows_down():
    """Rooms of validation import no room above: points, then records, then mutants and peers; and no command."""
    rooms, doors = ["points", "records"], {path.stem for path in (ROOT / "validation").glob("*.py")} - {"__init__"}
    known = modules("validation")
    found = [(name, one) for name, path in known.items() for one in imported(name, path, known) if one.startswith("validation.")
             and name.split(".")[1] in rooms and (one.split(".")[1] in doors or one.split(".")[1] not in rooms[:rooms.index(name.split(".")[1]) + 1])]
    assert found == []


def test_every_package_has_a_place():
    found = {name.split(".")[1] for name in PACKAGES if "." in name} - {"__main__"}
    assert found <= set(ORDER)


@pytest.fixture
def house(tmp_path):
    """house({"core/a.py": text}) -> the modules of such a refflow."""
    def build(files):
        for name, text in {"__init__.py": "", **files}.items():
            path = tmp_path / "refflow" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return modules("refflow", root=tmp_path)

    return build


def test_an_arrow_upwards_is_seen(house):
    assert upward(house({"core/__init__.py": "", "core/a.py": "def f():\n    from ..maps import b", "maps/b.py": ""})) \
        == ["refflow.core.a imports refflow.maps.b"]


def test_a_circle_is_seen(house):
    known = house({"core/__init__.py": "", "core/a.py": "from .b import x", "core/b.py": "def f():\n    from . import a"})
    assert set(circle(known)) == {"refflow.core.a", "refflow.core.b"}


def test_the_door_is_seen(house):
    assert through_the_door(house({"core/__init__.py": "", "core/a.py": "from .. import REGISTRY"})) == ["refflow.core.a"]


def test_no_framework_outside_peers():
    found = [f"{name} imports {alias}" for name, path in PACKAGES.items() if not name.startswith("refflow.peers")
             for node in statements(path) for alias in frameworks(node)]
    assert found == []


def frameworks(node):
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    return [name for name in names if name.split(".")[0] in FRAMEWORKS and not getattr(node, "level", 0)]


def test_nobody_imports_the_peers():
    found = [name for name, path in PACKAGES.items() if not name.startswith("refflow.peers")
             for found in imported(name, path, PACKAGES) if found.startswith("refflow.peers")]
    assert found == []


def test_import_is_cheap():
    """`import refflow` loads neither a framework, nor the tests' tools, nor scipy's submodules."""
    code = "import refflow, sys; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = FRAMEWORKS | {"hypothesis", "pytest", "mpmath", "flint", "matplotlib", "scipy.special", "scipy.linalg"}
    assert heavy & set(loaded) == set()
