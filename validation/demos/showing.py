"""How demonstrations run commands, and put what they found where the README shows it."""

from __future__ import annotations

import contextlib
import io

from refflow.cli import main as refflow
from refflow.saving import write_atomically


def command(*arguments, shown=True, captured=False):
    """Run `refflow`; what it prints, if that is captured.  SystemExit with its status if it fails."""
    arguments = [str(argument) for argument in arguments]
    if shown:
        print("$ refflow", *arguments, flush=True)
    out = io.StringIO()
    with contextlib.redirect_stdout(out) if captured else contextlib.nullcontext():
        status = refflow(arguments)
    if status:
        raise SystemExit(status)
    return out.getvalue()


def written(readme, begin, end, text):
    """Put the text between two marks of a README."""
    before, rest = readme.read_text(encoding="utf-8").split(begin)
    write_atomically(readme, f"{before}{begin}{text}{end}{rest.split(end)[1]}".encode())


def pictured(place, picture, width, colours):
    """Put a picture, made smaller, next to the others."""
    from ..pictures import made_small

    write_atomically(place, picture.read_bytes())
    made_small(place, width, colours)
