"""`python -m refflow`."""

from __future__ import annotations

import signal
import sys

INTERRUPTED = 128 + signal.SIGINT


def run() -> int:
    """Run one command; Ctrl-C while modules are imported ends it as quietly as Ctrl-C later."""
    try:
        from .cli import main
    except KeyboardInterrupt:
        print("refflow: interrupted", file=sys.stderr)
        return INTERRUPTED
    return main()


if __name__ == "__main__":
    raise SystemExit(run())
