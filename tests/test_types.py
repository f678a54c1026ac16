"""A user's lines pass mypy --strict, with arrays where arrays come back; the types come from the declarations."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from validation import generated

api = pytest.importorskip("mypy.api")
ROOT = Path(__file__).parents[1]
USE = re.search(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)[1]


SAVED = "from refflow import save\nfrom refflow.saving import about, load, read_all\n"
RIGHT = USE + SAVED + "save(flow, 'f.npz', about={'x': 1})\nload('f.npz').sample(np.random.default_rng(0), 4)\nread_all('f.npz')[2]['x'].shape\n"
RIGHT += "reveal_type(z)\nreveal_type(x_bar)\nreveal_type(log_p)\n"
MISTAKES = {"f.forward(0.0).shpae": "has no attribute", "Affine(0.0, 1.0, 2.0)": "Too many arguments",
            "Flow(f)": "Missing positional argument", "f.vjp(0.0)[1](1.0)": "Too few arguments"}


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What mypy says of each text, a file of its own: one run reads the package once."""
    directory, texts = tmp_path_factory.mktemp("types"), [RIGHT, *(f"{USE}{line}\n" for line in MISTAKES)]
    for n, text in enumerate(texts):
        (directory / f"use{n}.py").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MYPYPATH", str(ROOT))
        out, err, _ = api.run(["--strict", "--no-incremental", "--cache-dir", str(directory / "cache"), "--config-file", "",
                               *map(str, sorted(directory.glob("*.py")))])
    assert not err and not [line for line in out.splitlines() if "error:" in line and not re.search(r"use\d.py:", line)], out
    return {text: [line for line in out.splitlines() if f"use{n}.py:" in line] for n, text in enumerate(texts)}


def test_generated_files_are_fresh():
    assert [path.name for path, make in generated.GENERATORS.items() if path.read_text() != make()] == []


def test_twelve_lines_pass_and_give_arrays(said):
    out = "\n".join(said[RIGHT])
    assert "error" not in out, out
    revealed = re.findall(r'Revealed type is "(.*)"', out)
    assert len(revealed) == 3 and all("numpy.dtype[numpy.floating" in found for found in revealed), out


@pytest.mark.parametrize("line", MISTAKES)
def test_mistakes_are_seen(said, line):
    (error,) = said[f"{USE}{line}\n"]
    assert "error:" in error and MISTAKES[line] in error
