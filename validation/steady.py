"""The laws of all pages at many seeds: a right page fails at none.

    python -m validation.steady --runs 100              every page, composition and network at 100 random seeds
    python -m validation.steady --first 17 --runs 3     at the seeds 17, 18 and 19
    --page NAME ...                                     of some names only
    --json                                              all that was found, as one JSON object at the end
    --workers N                                         in so many processes

A run is one draw of every question that the tests ask (`validation.questions`), in both dtypes; the tests draw up to ten times.
Laws of the page alone are asked at the first seed.  Each failure is printed as it is found, with the command that asks its draw
again, and at the end the laws that reject too many points over all draws (`refflow.laws.rejections`).  The exit status is 1 if
there is any.

Interrupted, the next run goes on where the laws and what a question is about are the same: without --first, from the seed where
the other began.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import random
import shlex
import sys
import time
import traceback
import warnings
from pathlib import Path

import numpy as np

from refflow.cli import sweeps
from refflow.cli.options import count, positive_count
from refflow.core import RandomSource
from refflow.laws.law import ONCE, every
from refflow.laws.rejections import Tally
from refflow.laws.strategies import RandomBytes

from .questions import Question, questions
from .records.reached import code_of, hashed, reached_text, record
from .records.unfinished import Unfinished

SCHEMA = "refflow/steady/1"
SEEDS = 2**32                       # a random first seed is below
ASKING, ASKED = ("accuracy", "laws"), ("core", "maps", "training")           # folders of the package
LAWS = {"conditioner": "conditioner_laws", "network": "conditioner_laws", "density": "density_laws",
        "parametrisation": "parametrisation_laws"}                  # {kind: the module of the laws that it alone is asked}


def codes(asked):
    """{(kind, name): the identity of the code on which the answers to a question depend, whatever docstrings say}.

    A page depends on what its certificate reaches, and what has no certificate on all of the package's mathematics.
    """
    reaching, hash_of = record(), functools.cache(code_of)

    def files(folders, kind):
        found = sorted(path for folder in folders for path in (sweeps.PACKAGE / folder).rglob("*.py"))
        found += Path(questions.__code__.co_filename), Path(__file__)
        return [hash_of(path) for path in found if path.stem not in set(LAWS.values()) - {LAWS.get(kind)}]

    def code(kind, name):
        if name not in reaching:
            return hashed("".join(files(ASKING + ASKED, kind)))
        return hashed("".join([*files(ASKING, kind), *itertools.starmap(reached_text, sorted(reaching[name]["reached"].items()))]))

    return {(q.kind, q.name): code(q.kind, q.name) for q in asked}


def source_of(rng):
    """Numbers with all their digits at one draw, and at the next ones of few digits, many of them equal, as Hypothesis draws."""
    return RandomSource(rng) if rng.random() < 0.5 else RandomBytes(rng)


def task(kind, name, dtype, seed, what, code):
    """{"broken": what the laws say at the draw of a seed, one line for each, "counts": {law: (rejected, tried)}}.

    `what`: "value", or "page and value" for the laws of the page alone, too; `code`: of `codes`, a name of what is asked.
    """
    question, rng = Question(kind, name, dtype), np.random.default_rng([int(seed), *f"{kind}/{name}/{dtype}".encode()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            counts = question.ask(question.drawn(source_of(rng)), every if what != "value" else lambda law: law not in ONCE)
        except AssertionError as found:
            return {"broken": str(found).splitlines(), "counts": {}}
        except Exception:
            return {"broken": [f"the draw raised {traceback.format_exc(limit=-3)}"], "counts": {}}
    return {"broken": [], "counts": counts}


def command(name, seed, runs=1):
    """What asks the draws of a name again."""
    return f"python -m validation.steady --page {shlex.quote(name)} --first {seed} --runs {runs}"


def swept(tasks, each, sweep, results, keep, said):
    """Ask what is not among `results`, `each` tasks a run; `said(text)` is told each failure, and progress goes to stderr."""
    start, waiting = time.perf_counter(), [one for one in tasks if one not in results]
    for text in (text for one in tasks if one in results for text in failures(one, results[one])):
        said(text)
    for done, (one, found) in enumerate(sweep.results(task, sweeps.each_of(waiting)), 1):
        keep(one, found)
        for text in failures(one, found):
            said(text)
        if (len(tasks) - len(waiting) + done) % each == 0:
            elapsed = time.perf_counter() - start
            print(f"{(len(tasks) - len(waiting) + done) // each} of {len(tasks) // each} runs are done, "
                  f"{sweeps.time_left(elapsed, done, len(waiting))}", file=sys.stderr, flush=True)


def failures(one, found):
    """What is printed of a draw: a law that is broken, and the command that asks the draw again."""
    kind, name, dtype, seed, *_ = one
    return [f"{kind} {name} {dtype}: {line}\n    {command(name, seed)}" for line in found["broken"]]


def rejections(results, first, runs):
    """What is printed of the laws that reject too many points of a question, over all its draws."""
    tallies = {}
    for (kind, name, dtype, *_), found in results.items():
        tallies.setdefault((kind, name, dtype), Tally()).add(found["counts"])
    return [f"{kind} {name} {dtype}: {text}\n    {command(name, first, runs)}" for (kind, name, dtype), tally in tallies.items()
            for text in tally.excess().values()]


def first_seed(results, current):
    """The seed where an interrupted run of the current code began, or a random one."""
    return min((int(seed) for *_, seed, _, code in results if code in current), default=random.randrange(SEEDS))


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m validation.steady", description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=positive_count, default=1, metavar="N", help="draws of every question (1)")
    parser.add_argument("--first", type=count, metavar="SEED", help="the first seed; the others follow it (a random one)")
    parser.add_argument("--page", nargs="+", default=(), metavar="NAME", help="only pages, compositions and networks of these names")
    parser.add_argument("--json", action="store_true", help="print JSON at the end")
    sweeps.add_options(parser)
    chosen = parser.parse_args(arguments)
    asked = questions(names=chosen.page)
    if unknown := sorted(set(chosen.page) - {question.name for question in asked}):
        parser.error(f"there is no page, composition or network {unknown[0]!r}")
    with sweeps.sweep(chosen.workers, chosen.scheduler) as sweep:
        unfinished, current = (None, {}) if chosen.page else (Unfinished("steady", {}), codes(asked))
        results = unfinished.results if unfinished else {}
        first = first_seed(results, current.values()) if chosen.first is None else chosen.first
        tasks = [(q.kind, q.name, q.dtype, str(s), "page and value" if s == first else "value", current.get((q.kind, q.name)))
                 for s in range(first, first + chosen.runs) for q in asked]
        swept(tasks, len(asked), sweep, results, unfinished.add if unfinished else results.__setitem__,
              (lambda text: None) if chosen.json else lambda text: print(text, flush=True))
    results = {one: results[one] for one in tasks}
    broken = [text for one, found in results.items() for text in failures(one, found)]
    rejecting = rejections(results, first, chosen.runs)
    summary = {"schema": SCHEMA, "first": first, "runs": chosen.runs, "questions": len(asked), "broken": broken, "rejecting": rejecting}
    if chosen.json:
        print(json.dumps(summary, indent=1))
    else:
        print(*rejecting, f"{chosen.runs} runs of {len(asked)} questions from the seed {first}: {len(broken)} laws are broken, "
              f"{len(rejecting)} reject too many points", sep="\n")
    if unfinished:
        unfinished.finish()
    return 1 if broken or rejecting else 0


if __name__ == "__main__":
    sys.exit(sweeps.run("validation.steady"))
