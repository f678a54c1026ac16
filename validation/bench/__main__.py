"""Speed and memory compared with other libraries.

    python -m validation.bench NAME [--rounds 5] [--threads 1] [--json]
    python -m validation.bench typed [--rounds 3] [--only realnvp] [--json]

NAME is elementwise, spline, realnvp, maf, nsf, planar, memory, glow, glow_tts, tarflow, alignment or threads; typed runs whole commands.

One process per library, on as many cores as threads, rounds interleaved (A B C A B C ...), so that a drift of the machine
affects all; each process takes the median of its repetitions, and the table the median over rounds, of times and of refflow's
time / the other library's.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

from . import alignment, elementwise, glow, glow_tts, maf, memory, nsf, planar, realnvp, spline, tarflow, threads, typed
from .rounds import machine, measured, table

BENCHMARKS = {"elementwise": elementwise, "spline": spline, "realnvp": realnvp, "maf": maf, "nsf": nsf, "planar": planar, "memory": memory,
              "glow": glow, "glow_tts": glow_tts, "tarflow": tarflow, "alignment": alignment, "threads": threads}
COMMANDS = {"typed": typed}             # of whole commands, in a default environment
DEFAULT_ROUNDS = {"memory": 1, "typed": 3}


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m validation.bench", description=__doc__.splitlines()[0])
    parser.add_argument("bench", choices=[*BENCHMARKS, *COMMANDS])
    parser.add_argument("--rounds", type=int, help="(5, of memory 1, of typed 3)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=typed.CASES, help="one case of typed")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    bench = (BENCHMARKS | COMMANDS)[options.bench]
    if options.bench in COMMANDS and options.threads != 1:
        parser.error(f"--threads: the threads of {options.bench} are those of a default environment")
    if options.only and options.bench not in COMMANDS:
        parser.error(f"--only: it is for {', '.join(COMMANDS)}")
    if options.worker:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:options.threads])
        print(json.dumps(bench.WORKERS[options.worker](options.threads)))
        return
    rounds, count = [], options.rounds or DEFAULT_ROUNDS.get(options.bench, 5)
    for i in range(count):
        print(f"round {i + 1} of {count}", file=sys.stderr, flush=True)
        rounds.append(one_round(bench, options, i))
    rows, threads = bench.rows(rounds), bench.THREADS if options.bench in COMMANDS else options.threads
    if options.json:
        made = {"benchmark": options.bench, "what": bench.WHAT, "machine": machine(), "threads": threads, "rounds": count, "rows": rows}
        print(json.dumps(made, indent=1))
        return
    print(f"{bench.WHAT}; threads: {threads}; {machine()}")
    print(table(rows))


def one_round(bench, options, number):
    if options.bench in COMMANDS:
        return bench.one_round(number, options.only)
    return {library: measured(options.bench, library, options.threads) for library in bench.WORKERS}


if __name__ == "__main__":
    main()
