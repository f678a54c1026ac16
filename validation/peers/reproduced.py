"""Run by `validation.peers` in a library's environment: reproductions from standard input, {name: code}, and what each prints.

Code that raises prints the exception in its place.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys


def printed(code):
    """The lines that a reproduction prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            exec(compile(code, "<reproduction>", "exec"), {"__name__": "reproduction"})
        except Exception as error:
            print(f"raised {type(error).__name__}: {error}".splitlines()[0])
    return out.getvalue().splitlines()


if __name__ == "__main__":
    print(json.dumps({name: printed(code) for name, code in json.load(sys.stdin).items()}))
