"""What is asked of a mutant, cheapest first, and what came of it.

    golden          the golden points that are checked in
    certificate     the points of the certificate, against what is allowed there
    laws            draws of the page, of every kind that has laws
    fresh           points of the certificate's generator from another seed, as many again
    edges           finite ends of the sets of maps of one number

A mutant is killed by the first of golden, certificate and laws that it fails, by what it raises there, or by the time or
memory that it takes.  One that passes them and is met by the certificate is equivalent, if it stays within what is allowed at
the fresh points too: it is a correct function.  If not, it shows a hole of the certificate, and has survived.  So has one
that no point of the certificate meets, which nothing measures; and one that answers otherwise than the page at a finite end
of its domain or codomain, where an event may be, but where the truth may be infinite and the certificate has no point.

Truth, points and draws are made once for a page, before a mutant is planted in a fork of the process.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import select
import signal
import time
import warnings
from collections import Counter
from dataclasses import replace
from importlib import import_module
from itertools import zip_longest

import numpy as np

from refflow.accuracy.drawing import set_of
from refflow.accuracy.points import Points
from refflow.core import RandomSource
from refflow.core.registry import has_components
from refflow.oracle import golden
from refflow.testing import strategies
from refflow.testing.conditioner_laws import NetworkPoints, run_network_laws
from refflow.testing.laws import REJECTED, run_laws, run_value_laws

from validation import certify
from validation.kinds import GENERATORS
from validation.points import Draw

from .mutations import UNREACHED

check = import_module("refflow.oracle.check")       # the package has a function of this name

STAGES = ("golden", "certificate", "laws", "fresh", "edges")
SEEDS = (1,)                                        # of fresh points
DRAWS, EVENTS = 25, 32                              # of laws, as the tests have them for a page without components
FEW, FEW_EVENTS = 6, 8                              # for others, and for networks
CERTIFIED = check.certified()
MODERATE = strategies.SPREAD                        # of a network's events and cotangents
ROUGH, AT_ENDS = 2.0**-10, 40                       # of answers at an end, and of how many values of a page they are asked
METHODS_ALONE = {"forward": ("forward", "log_det", "forward_and_log_det"), "inverse": ("inverse", "inverse_and_log_det")}
ANEW = 10                                           # values are made anew at one in so many points
UNSETTLED = 0.1                                     # the part of a quantity's points that the certificate lets be so
MEMORY = 2 << 30                                    # bytes beyond what the page itself takes
SECONDS, TIMES = 3, 6                               # a stage may take so long, and so many times what the page takes


class OutOfTime(BaseException):
    """A stage takes too long."""


class Remembered:
    """A certificate's `truth` that knows that of some points: a mutant has the definition of its page."""

    def __init__(self, truth):
        self.truth, self.known = truth, {}

    def __call__(self, point):
        return self.known[id(point)] if id(point) in self.known else self.truth(point)


class Compared:
    """A certificate's `compared` that knows what it says of the page's own answers: most mutants change few of them."""

    def __init__(self, compared):
        self.compared, self.known = compared, {}

    def learn(self, given, true, dtype):
        self.known[id(true)] = as_bytes(given), self.compared(given, true, dtype)

    def __call__(self, given, true, dtype):
        own, found = self.known.get(id(true), (None, None))
        return dict(found) if own is not None and own == as_bytes(given) else self.compared(given, true, dtype)


def as_bytes(answers):
    """Answers to compare to the bit."""
    return [(name, np.shape(a), np.asarray(a).dtype, np.asarray(a).tobytes()) for name, a in answers.items()]


class Bench:
    """Everything that mutants of a page are held to, made of the page as it is, and of the other pages of its module.

    With `every`, one in so many points of the certificate and of the fresh ones, for a quick look.
    """

    def __init__(self, page, every=1):
        self.every = every
        self.pages = [p for p in certify.PAGES.values() if p.__module__ == page.__module__]
        self.truths, self.compared = Remembered(certify.truth), Compared(certify.compared)
        self.golden = [point for p in self.pages for point in golden.points(p.__name__)]
        for point in self.golden:
            point.truth.items()                 # decoded once, before the forks
        self.certificate = self.groups(certify.points)
        self.fresh = [group for seed in SEEDS for group in self.groups(lambda *of: fresh_points(*of, seed))]
        self.laws = [draw for p in self.pages for dtype in certify.DTYPES for draw in law_draws(p, dtype)]
        self.edges = [found for group in self.certificate for found in answered(edge_points(group))]
        self.aside, self.seconds, self.rejecting = {}, {}, []
        self.put_aside()

    def groups(self, generator):
        """The points of every page, dtype and side, with their truth."""
        found = [list(generator(page, dtype, side))[::self.every] for page in self.pages for dtype in certify.DTYPES
                 for side in certify.sides(page)]
        for group in found:
            for point in group:
                try:
                    true = self.truths.known[id(point)] = self.truths.truth(point)
                    self.compared.learn(certify.distinct(certify.claims(point)), true, point.event.dtype)
                except (ArithmeticError, ValueError):
                    pass                        # the page itself fails here: put aside
        return found

    def put_aside(self):
        """Leave out the points and draws at which the page itself fails, and time the rest."""
        found = in_fork(self.measured, 3600)
        if "aside" not in found:
            raise RuntimeError(f"the page itself cannot be judged: {found}")
        for stage, marks in found["aside"].items():
            held = getattr(self, stage)
            if stage in ("certificate", "fresh"):
                setattr(self, stage, [[point for i, point in enumerate(group) if [g, i] not in marks]
                                      for g, group in enumerate(held)])
            else:
                setattr(self, stage, [entry for i, entry in enumerate(held) if i not in marks])
            self.aside[stage] = len(marks)
        self.seconds, self.rejecting = found["seconds"], found["rejecting"]

    def measured(self):
        """What the page itself fails, and the seconds of each stage."""
        aside, seconds, rejected, tried = {}, {}, Counter(), Counter()
        with self.installed():
            for stage in STAGES:
                start = time.process_time()
                if stage in ("certificate", "fresh"):
                    aside[stage] = [[g, i] for g, group in enumerate(getattr(self, stage)) for i, point in enumerate(group)
                                    if failed_at(point)]
                else:
                    fails = {"golden": fails_golden, "laws": lambda draw: fails_laws(draw, rejected, tried),
                             "edges": fails_edge}[stage]
                    aside[stage] = [i for i, entry in enumerate(getattr(self, stage)) if fails(entry)]
                seconds[stage] = time.process_time() - start
        return {"aside": aside, "seconds": seconds, "rejecting": rejecting(rejected, tried)}

    def installed(self):
        return Installed(self.truths, self.compared)

    # -- one mutant ---------------------------------------------------------------------------------------------------

    def verdict(self, source, mutant):
        """{"verdict": killed, equivalent or survived, "by": the stage, "why": what was found}."""
        return in_fork(lambda: self.judged(source, mutant), 60 + 3 * TIMES * sum(self.seconds.values()))

    def judged(self, source, mutant):
        """The verdict, in a process that is not used again."""
        resource.setrlimit(resource.RLIMIT_AS, (address_space() + MEMORY,) * 2)
        warnings.simplefilter("error")
        signal.signal(signal.SIGPROF, out_of_time)
        try:
            source.plant(mutant)
            with self.installed():
                return self.asked(source, mutant)
        except Exception as error:              # of the planting, or of values that are made anew
            return {"verdict": "killed", "by": "crash", "why": f"{type(error).__name__}: {error}"[:200]}

    def asked(self, source, mutant):
        for stage in STAGES[:3]:
            why, by = self.stage(stage)
            if why:
                return {"verdict": "killed", "by": by, "why": why}
        for stage in STAGES[3:]:
            why, _ = self.stage(stage)
            if why:
                return {"verdict": "survived", "by": stage, "why": why}
        return self.met(source, mutant)

    def stage(self, stage):
        """(what the mutant fails at, by what it is killed), (None, None) if it passes."""
        signal.setitimer(signal.ITIMER_PROF, SECONDS + TIMES * self.seconds[stage])
        try:
            return getattr(self, f"of_{stage}")(), stage
        except OutOfTime:
            return f"{stage} takes too long", "time"
        except MemoryError:
            return f"{stage} takes too much memory", "memory"
        except Exception as error:
            return f"{stage} raises {type(error).__name__}: {error}"[:200], "crash"
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    def of_golden(self):
        return next(filter(None, map(fails_golden, self.golden)), None)

    def of_certificate(self, groups=None):
        """The first quantity beyond what is allowed, all groups in turn; or one that is unsettled too often."""
        groups = self.certificate if groups is None else groups
        unsettled, counts = [Counter() for _ in groups], [Counter() for _ in groups]
        for points in zip_longest(*groups):
            for g, point in enumerate(points):
                if point is None:
                    continue
                found = certify.errors(point)
                why = beyond(point, found)
                if why:
                    return why
                counts[g].update(found.keys())
                unsettled[g].update(name for name, (C, _) in found.items() if C is None)
        for mine, all_of in zip(unsettled, counts):
            for name, count in mine.items():
                if count > UNSETTLED * all_of[name]:
                    return f"{name} is unsettled at {count} of {all_of[name]} points"
        return None

    def of_fresh(self):
        return self.of_certificate(self.fresh)

    def of_edges(self):
        return next(filter(None, map(fails_edge, self.edges)), None)

    def of_laws(self):
        rejected, tried = Counter(), Counter()
        for draw in self.laws:
            why = fails_laws(draw, rejected, tried)
            if why:
                return why
        return next((f"{name}: too many points are rejected" for name in rejecting(rejected, tried)
                     if name not in self.rejecting), None)

    def met(self, source, mutant):
        """Equivalent, if a point of the certificate meets what the mutant changes, else survived.

        Where no method meets it, values are made anew at some points: it may be what makes them.  If that kills no mutant it
        still proves nothing, since what is refused there, and how, is not measured.
        """
        source.plant_probe(mutant)
        if any(meets(point) for group in self.certificate for point in group):
            return {"verdict": "equivalent", "by": "certificate", "why": ""}
        some = [group[::ANEW] for group in self.certificate]
        if not any(meets(point, self.made_anew) for group in some for point in group):
            return {"verdict": "survived", "by": "nothing", "why": "no point of the certificate meets it"}
        source.plant(mutant)
        why = self.of_certificate([[self.made_anew(point) for point in group] for group in some])
        if why:
            return {"verdict": "killed", "by": "certificate", "why": why}
        return {"verdict": "survived", "by": "nothing", "why": "only the making of values meets it"}

    def made_anew(self, point):
        again = replace(point, f=pickle.loads(pickle.dumps(point.f)))
        self.truths.known[id(again)] = self.truths(point)
        return again


class Installed:
    """The certificate with the truths and the comparisons that are known."""

    def __init__(self, truths, compared):
        self.truths, self.compared = truths, compared

    def __enter__(self):
        certify.truth, certify.compared = self.truths, self.compared

    def __exit__(self, *_):
        certify.truth, certify.compared = self.truths.truth, self.compared.compared


def out_of_time(*_):
    raise OutOfTime


def address_space():
    with open("/proc/self/statm", encoding="ascii") as pages:
        return int(pages.read().split()[0]) * resource.getpagesize()


# -- what a stage asks ------------------------------------------------------------------------------------------------

def beyond(point, found):
    """The first quantity of {quantity: (C, kappa/|q|)} beyond what is allowed, in words; None if there is none."""
    for name, (C, _) in found.items():
        if C is not None and not C <= certify.allowed(point, name):
            return f"{name} {point.dtype} C = {C:.3g}"
    return None


def failed_at(point):
    return beyond(point, certify.errors(point))


def fails_golden(point):
    """What `refflow check` finds at a golden point."""
    name, dtype = type(point.f).__name__, point.dtype.name
    subject = check.Subject(name, "refflow", dtype, check.own_answers, own=True)
    subject.compare(point, check.own_answers(point), point.truth, check.own_allowance(CERTIFIED, name, dtype))
    return next((f"{quantity} {dtype}" for quantity in subject.failures), None)


def fails_laws(draw, rejected=None, tried=None):
    """The first law that is broken at a draw; what laws reject is counted."""
    run, f, *event_and_bars = draw
    try:
        points = [(NetworkPoints if run is run_network_laws else Points)(f, *event_and_bars)] if event_and_bars else []
        tally = run(f, *points) or {}
    except AssertionError as broken:
        return str(broken).splitlines()[0][:200]
    if rejected is not None:
        for name, (out, of) in tally.items():
            rejected[name] += out
            tried[name] += of
    return None


def fails_edge(edge):
    """The first quantity at an end of a set that is another than the page's, roughly: no truth says how far it may be off."""
    point, expected = edge
    given = answers(point)
    return next((f"{name} {point.dtype} at {float(point.event)} is {given[name]}, not {value}"[:200]
                 for name, value in expected.items() if not alike(np.asarray(given[name]), np.asarray(value))), None)


def alike(given, expected):
    """The same infinities and NaN, and finite numbers that agree to ten bits."""
    return given.shape == expected.shape and bool(np.allclose(given, expected, rtol=ROUGH, atol=0, equal_nan=True))


def rejecting(rejected, tried):
    """The laws that reject too many points."""
    return [name for name in tried if rejected[name] > REJECTED * tried[name]]


def meets(point, changed=lambda point: point):
    """Does a method, or what makes a value, raise the probe's NameError there?"""
    try:
        certify.claims(changed(point))
        certify.breaks_of(point)
    except NameError as error:
        return UNREACHED in str(error)
    except Exception:                           # a method that cannot answer here does not meet it
        return False
    return False


# -- points and draws -------------------------------------------------------------------------------------------------

def fresh_points(page, dtype, side, seed):
    """The points of the certificate's generator from another seed."""
    draw = GENERATORS.get(page.kind, Draw)(page, dtype, side)
    draw.source = RandomSource(np.random.default_rng([seed, *page.__name__.encode(), *dtype.encode(), *side.encode()]))
    return list(draw.points())


def edge_points(group):
    """Points of a group with their events moved to the finite ends of the set; of maps of one number alone."""
    for point in group[::max(1, len(group) // AT_ENDS)]:
        where = set_of(point.f, point.side)
        if point.f.kind == "bijector" and point.event.ndim == 0:
            yield from (replace(point, event=np.asarray(end, point.event.dtype)) for end in (where.lower, where.upper)
                        if np.isfinite(end))


def answered(points):
    """[(point, what the page itself says there)] where it says something."""
    for point in points:
        try:
            yield point, answers(point)
        except (ArithmeticError, ValueError):
            continue


def answers(point):
    """What the certificate reads, and what each method says by itself."""
    alone = METHODS_ALONE[point.side]
    return certify.claims(point) | {f"{name} alone": np.asarray(getattr(point.f, name)(point.event)) for name in alone}


def law_draws(page, dtype):
    """[(the laws' runner, value, event, cotangents)], always the same; of other kinds, the values alone."""
    if page.kind not in ("bijector", "conditioner"):
        return [(run_value_laws, point.f) for point in list(certify.points(page, dtype, "forward"))[:DRAWS]]
    source = RandomSource(np.random.default_rng([0, *page.__name__.encode(), *dtype.encode()]))
    network, dtype = page.kind == "conditioner", np.dtype(dtype)
    draws, events = (FEW, FEW_EVENTS) if network or has_components(page) else (DRAWS, EVENTS)
    return [drawn(source, page, dtype, events, network) for _ in range(draws)]


def drawn(source, page, dtype, events, network):
    f, shapes = strategies.value_of(source, page, dtype, events)
    if not network:
        p = strategies.points_of(source, f, dtype, events, source.choice(shapes))
        return run_laws, f, p.z, p.x_bar, p.z_bar, p.log_det_bar
    shape = f.fixed_shape or source.choice(shapes)
    a, h_bar = (source.signed((events, *s), -MODERATE, MODERATE).astype(dtype) for s in (shape, f.output_shape(shape)))
    return run_network_laws, f, a, h_bar


# -- a process of its own ---------------------------------------------------------------------------------------------

def in_fork(work, seconds):
    """The result of `work()`, plain data, from a fork of this process; what ended it, if something did."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.close(read)
            with os.fdopen(write, "w") as pipe:
                pipe.write(json.dumps(work()))
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read) as pipe:
        ended = bool(select.select([pipe], [], [], seconds)[0])
        if not ended:
            os.kill(child, signal.SIGKILL)
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if text:
        return json.loads(text)
    how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "no answer"
    return {"verdict": "killed", "by": "crash" if ended else "time", "why": how}
