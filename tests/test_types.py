"""A user's lines pass mypy --strict, with arrays where arrays come back; the types come from the declarations."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from validation import generated

api = pytest.importorskip("mypy.api")
ROOT = Path(__file__).parents[1]
USE = re.search(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)[1]


def checked(tmp_path, text):
    (tmp_path / "use.py").write_text(text)
    out, err, status = api.run(["--strict", "--no-incremental", "--cache-dir", str(tmp_path / "cache"), "--config-file", "",
                                str(tmp_path / "use.py")])
    return status, out + err


def test_generated_files_are_fresh():
    assert [path.name for path, make in generated.GENERATORS.items() if path.read_text() != make()] == []


def test_twelve_lines_pass_and_give_arrays(tmp_path, monkeypatch):
    monkeypatch.setenv("MYPYPATH", str(ROOT))
    status, out = checked(tmp_path, USE + "reveal_type(z)\nreveal_type(x_bar)\nreveal_type(log_p)\n")
    assert status == 0, out
    revealed = re.findall(r'Revealed type is "(.*)"', out)
    assert len(revealed) == 3 and all("numpy.dtype[numpy.floating" in found for found in revealed), out


@pytest.mark.parametrize("line, complaint", [
    ("f.forward(0.0).shpae", "has no attribute"), ("Affine(0.0, 1.0, 2.0)", "Too many arguments"),
    ("Flow(f)", "Missing positional argument"), ("f.vjp(0.0)[1](1.0)", "Too few arguments")])
def test_mistakes_are_seen(tmp_path, monkeypatch, line, complaint):
    monkeypatch.setenv("MYPYPATH", str(ROOT))
    status, out = checked(tmp_path, f"{USE}{line}\n")
    assert status == 1 and complaint in out, out
