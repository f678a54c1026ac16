"""The lint: what it names exists, and no line is longer than it allows."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / ".ci" / "ruff.toml").read_text(encoding="utf-8"))
SCRIPT = (ROOT / ".ci" / "lint").read_text(encoding="utf-8")


def test_what_it_names_exists():
    """Files of the settings, folders and scripts of the command."""
    assert [name for name in SETTINGS["lint"]["per-file-ignores"] if not list(ROOT.glob(name))] == []
    checked = re.search(r"--config (\S+) (.*)$", SCRIPT, re.M)
    scripts = re.search(r"for script in (.*?); do", SCRIPT)[1].split()
    assert all((ROOT / name).exists() for name in (checked[1], *checked[2].split(), *scripts))
    assert sorted(scripts) == sorted(f".ci/{path.name}" for path in (ROOT / ".ci").iterdir() if path.suffix != ".toml")


def test_lines_are_as_long_as_they_may_be():
    """The one rule that needs no Ruff, and that a change breaks most often; generated types are left out."""
    folders = re.search(r"--config \S+ (.*)$", SCRIPT, re.M)[1].split()
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    long = [f"{path.relative_to(ROOT)}:{i}" for path in files for i, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
            if len(line) > SETTINGS["line-length"]]
    assert long == [] and len(files) > 100


def test_a_script_that_cannot_be_read_is_refused(tmp_path):
    """As the lint's last line reads the scripts."""
    (tmp_path / "broken").write_text("for x in a b; do\n")
    assert subprocess.run(["bash", "-n", tmp_path / "broken"], capture_output=True).returncode != 0
