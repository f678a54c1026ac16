"""The results of a sweep that was interrupted, from which the next run goes on.

A line of JSON for each task that is done stands under a line that says what was measured.  Where something else is to be
measured, results are dropped.  A finished sweep leaves no file.
"""

from __future__ import annotations

import json
from pathlib import Path

from ..points.recorded import written

FOLDER = Path(__file__).parents[1] / "unfinished"
SCHEMA = "refflow/unfinished/1"


class Unfinished:
    """`results`: {task: result} of what is done; a task is a tuple of strings, a result is plain data."""

    def __init__(self, name, of, folder=FOLDER):
        self.path, self.head = folder / f"{name}.jsonl", {"schema": SCHEMA, "of": of}
        self.results = self.stored()
        lines = [self.head, *([list(task), result] for task, result in self.results.items())]
        written(self.path, "".join(json.dumps(line) + "\n" for line in lines))

    def stored(self):
        """What the file says; a killed run may have cut off its last line."""
        if not self.path.exists():
            return {}
        head, *lines = [json.loads(line) for line in self.path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return {tuple(task): result for task, result in lines} if head == self.head else {}

    def add(self, task, result):
        """Keep a result, as a later run will read it."""
        line = json.dumps([task, result])
        with open(self.path, "a", encoding="ascii") as file:
            file.write(line + "\n")
        self.results[task] = json.loads(line)[1]

    def finish(self):
        self.path.unlink(missing_ok=True)
