"""Every Python block of the README runs and prints what the README says; its generated tables are the generator's."""

import contextlib
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from validation.readme import GENERATORS, sections

README = Path(__file__).parent.parent / "README.md"
TEXT = README.read_text(encoding="utf-8")


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```$", TEXT, re.M | re.S)


def examples():
    """(code, what it prints or None) of each Python block."""
    pattern = r"^```python\n(.*?)^```\n(?:\n(?:It prints\n\n)?```text\n(.*?)^```$)?"
    return [pytest.param(code, shown or None, id=code.strip().splitlines()[0][:40])
            for code, shown in re.findall(pattern, TEXT, re.M | re.S)]


@pytest.mark.parametrize("code, shown", examples())
def test_python_blocks_run(code, shown):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    if shown is not None:
        assert printed.getvalue() == shown


def test_there_is_a_block_for_each_promise():
    assert len(blocks("sh")) == 3 and len(examples()) == 3
    assert all(len(block.strip().splitlines()) == 1 for block in blocks("sh"))


def test_the_first_sh_block_checks_refflow():
    command = blocks("sh")[0].split("&&")[1]
    done = subprocess.run([sys.executable, *shlex.split(command)[1:]], capture_output=True, text=True, cwd=README.parent)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ci_runs_the_other_sh_blocks():
    ci = (README.parent / ".ci" / "run").read_text()
    assert "$(block 1)" in ci and "$(block 2)" in ci and "validation.readme --check" in ci


def test_the_users_example_is_caught(tmp_path):
    adapters = tmp_path / "adapters.py"
    adapters.write_text(blocks("python")[1])
    done = subprocess.run([sys.executable, "-m", "refflow", "check", str(adapters)], capture_output=True, text=True,
                          cwd=README.parent)
    assert done.returncode == 1 and "log_det" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["certificate", "pages"])
def test_generated_sections(name):
    assert sections(TEXT)[name] == GENERATORS[name]()
