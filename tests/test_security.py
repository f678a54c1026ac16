"""What .github/SECURITY.md says of refflow's code: nothing is unpickled or evaluated, nothing is downloaded, other code runs apart."""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from refflow import Affine, load, save
from refflow.cli.isolation import can_isolate

ROOT = Path(__file__).parents[1]
FILES = [path for path in sorted((ROOT / "refflow").rglob("*.py")) if (ROOT / "refflow" / "peers") not in path.parents]
READERS = {"load", "read_array"}        # of numpy and numpy.lib.format, which may unpickle; `open_memmap` cannot
NETWORK = {"urllib", "http", "ftplib", "smtplib", "socketserver", "ssl", "requests", "httpx", "aiohttp", "urllib3"}
WORDS = re.compile(r"np\.load|numpy\.load|read_array|import \(?[\w, ]*\b(?:pickle|dill|cloudpickle|joblib|shelve|marshal)\b|"
                   r"\b(?:eval|exec|compile|__import__)\(|urllib|http|ftplib|smtplib|socket|ssl|requests|aiohttp|fetch_|shell|"
                   r"os\.system|popen|getoutput|getstatusoutput|register_custom_ops|loads\(")
PICKLES = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


@functools.cache
def trees():
    """{file: its code}, of the files with a word of what is looked for: few have one, and parsing takes long."""
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in FILES}
    return {name: ast.parse(text) for name, text in texts.items() if WORDS.search(text)}


def calls(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def imported(tree):
    """The first names of the modules that are imported from elsewhere, by a statement or by `import_module("...")`."""
    named = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    named += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    named += [node.args[0].value for node in calls(tree) if ast.unparse(node.func).endswith("import_module")
              and node.args and isinstance(node.args[0], ast.Constant)]
    return {name.split(".")[0] for name in named}


def may_unpickle(tree):
    """The calls that read an array and do not say allow_pickle=False, and those that read a pickle."""
    return [ast.unparse(node) for node in calls(tree) if reads_array(node) and not refuses_pickles(node) or reads_pickle(node)]


def reads_array(node):
    head, _, name = ast.unparse(node.func).rpartition(".")
    return name in READERS and head.split(".")[0] in ("np", "numpy")


def refuses_pickles(node):
    return any(given.arg == "allow_pickle" and ast.unparse(given.value) == "False" for given in node.keywords)


def reads_pickle(node):
    """A pickle that was written in the same expression, as by the law that values pickle, is nobody else's."""
    called = ast.unparse(node.func)
    own = [ast.unparse(given.func) for given in node.args if isinstance(given, ast.Call)] == ["pickle.dumps"]
    return called.split(".")[0] in PICKLES and "load" in called and not own


def evaluates(tree):
    return [ast.unparse(node) for node in calls(tree) if ast.unparse(node.func) in ("eval", "exec", "compile", "__import__")]


def reaches_the_network(tree):
    sockets = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)
               and ast.unparse(node.value) == "socket" and node.attr != "gethostname"]
    fetched = [ast.unparse(node) for node in calls(tree) if ast.unparse(node.func).rpartition(".")[2].startswith("fetch_")]
    return sorted(imported(tree) & NETWORK) + sockets + fetched


def uses_a_shell(tree):
    """A process that is started through a shell, or custom operators for ONNX Runtime."""
    return [ast.unparse(node) for node in calls(tree)
            if any(given.arg == "shell" for given in node.keywords)
            or ast.unparse(node.func) in ("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput")
            or ast.unparse(node.func).endswith("register_custom_ops_library")]


@pytest.mark.parametrize("of", [may_unpickle, evaluates, reaches_the_network, uses_a_shell])
def test_the_package_does_not(of):
    """Only the book runs code, of the chapters and of the record that ship with the package."""
    found = {name: lines for name, tree in trees().items() if (lines := of(tree))}
    assert found.keys() == ({"refflow/book/running.py"} if of is evaluates else set())


def test_the_package_reads_arrays():
    """Else the test of it would say nothing."""
    assert sum(reads_array(node) for tree in trees().values() for node in calls(tree)) >= 3


@pytest.mark.parametrize("of, planted", [
    (may_unpickle, "np.load(path)"), (may_unpickle, "np.load(path, allow_pickle=True)"), (may_unpickle, "import pickle; pickle.load(file)"),
    (may_unpickle, "np.lib.format.read_array(file)"), (may_unpickle, "import pickle; pickle.loads(raw)"),
    (may_unpickle, "import joblib; joblib.load(path)"),
    (evaluates, "eval(text)"), (evaluates, "exec(text)"),
    (reaches_the_network, "import urllib.request"), (reaches_the_network, "from http import client"),
    (reaches_the_network, "socket.create_connection(address)"), (reaches_the_network, "import_module('requests')"),
    (reaches_the_network, "datasets.fetch_openml('adult')"),
    (uses_a_shell, "subprocess.run(line, shell=True)"), (uses_a_shell, "os.system(line)"),
    (uses_a_shell, "options.register_custom_ops_library(path)")])
def test_a_planted_line_is_found(of, planted):
    """And its file is read, too."""
    assert len(of(ast.parse(planted))) == 1 and WORDS.search(planted)


@pytest.mark.parametrize("name", ["object", "Popen", "subprocess.Popen", "Bijector", "Value"])
def test_a_file_builds_registered_classes_alone(tmp_path, name):
    path = tmp_path / "flow.json"
    save(Affine(0.5, 2.0), path)
    document = json.loads(path.read_text())
    document["value"]["class"] = name
    document = {key: part for key, part in document.items() if key not in ("arrays", "checksum")}
    path.write_text(json.dumps(document | {"schema": "refflow/flow/2"}))        # a schema without a checksum: anybody can write one
    with pytest.raises(ValueError, match=f"there is no class '{name}'"):
        load(path)


@pytest.mark.skipif(not can_isolate(), reason="the system cannot fork")
def test_a_file_of_adapters_runs_in_a_process_of_its_own(tmp_path):
    (tmp_path / "mine.py").write_text("import os\nimport numpy as np\nfrom refflow.oracle import adapter\n"
                                      "open('whose', 'w').write(f'{os.getpid()} {os.getppid()}')\n"
                                      "@adapter('Exp')\ndef mine(params, z):\n    return {'forward': np.exp(z)}\n")
    command = subprocess.Popen([sys.executable, "-m", "refflow", "check", "mine.py"], cwd=tmp_path, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)})
    command.wait(timeout=120)
    own, parent = map(int, (tmp_path / "whose").read_text().split())
    assert parent == command.pid != own
