"""The README's commands after a clone: an editable install is found everywhere, also in the directory of the clone."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FILES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "refflow")


def are_there():
    """Are there pip, and a setuptools that makes wheels by itself?"""
    try:
        importlib.metadata.version("pip")
        return [int(part) for part in importlib.metadata.version("setuptools").split(".")[:2]] >= [70, 1]
    except importlib.metadata.PackageNotFoundError:
        return False


pytestmark = pytest.mark.skipif(os.name != "posix" or not are_there(), reason="pip and setuptools 70.1 or later are needed")


def call(*command, cwd):
    """Run a command that is independent of this checkout."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PIP"))}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def clone(directory):
    """A copy of the files that an install reads from this checkout."""
    directory.mkdir(exist_ok=True)
    for name in FILES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, directory / name)
    return directory


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """(directory, Python): `directory` holds a clone named refflow, which the README's command has installed for Python."""
    directory = tmp_path_factory.mktemp("newcomer")
    venv.create(directory / "venv", with_pip=False)
    python = directory / "venv" / "bin" / "python"
    packages = call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=directory).strip()
    Path(packages, "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")         # numpy, scipy, pip, setuptools
    command = re.search(r"^python (-m pip install -e \.) &&", README, re.M)[1].split()
    call(python, *command, "--no-deps", "--no-build-isolation", "--no-index", cwd=clone(directory / "refflow"))
    return directory, python


def test_an_editable_install_is_found_beside_the_clone(installed):
    directory, python = installed
    where = call(python, "-c", "from refflow import Affine; import refflow; print(refflow.__file__)", cwd=directory)
    assert Path(where.strip()) == directory / "refflow" / "refflow" / "__init__.py"
    (directory / "mine.py").write_text("from refflow import Affine, Chain, Flow\nprint(Affine(0.5, 2.0).forward(1.0))\n")
    assert call(python, "mine.py", cwd=directory) == "2.5\n"
    assert call(python, "-m", "refflow", "--version", cwd=directory).startswith("refflow ")


def test_the_readmes_first_commands_and_twelve_lines_work(installed):
    directory, python = installed
    assert "0 fail" in call(python, "-m", "refflow", "check", "--page", "Exp", cwd=directory / "refflow")
    assert "0 fail" in call(directory / "venv" / "bin" / "refflow", "check", "--page", "Exp", cwd=directory)
    code = re.search(r"^```python\n(.*?)^```$", README, re.M | re.S)[1]
    assert "True True" in call(python, "-c", code, cwd=directory)


def test_pytest_finds_the_plugin(installed):
    directory, python = installed
    assert "--refflow-examples" in call(python, "-m", "pytest", "--help", cwd=directory)


def test_a_wheel_holds_refflow_alone(tmp_path):
    """The setting that makes the editable install visible does not put other packages into a wheel."""
    clone(tmp_path)
    for other in ("tests", "validation"):
        (tmp_path / other).mkdir()
        (tmp_path / other / "__init__.py").write_text("")
    call(sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--no-index", "-w", "wheels",
         cwd=tmp_path)
    names = zipfile.ZipFile(next((tmp_path / "wheels").glob("*.whl"))).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"refflow"}
    types = [ROOT / "refflow" / "py.typed", *(ROOT / "refflow").rglob("*.pyi")]
    assert {path.relative_to(ROOT).as_posix() for path in types} <= set(names)
    assert {"refflow/oracle/certificate.json", "refflow/truth/engine.py", "refflow/CHANGES.md"} <= set(names)
