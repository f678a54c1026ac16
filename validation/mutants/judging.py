"""What is asked of a mutant, cheapest first, and what came of it.

    golden          the golden points that are checked in
    certificate     the points of the certificate, against what is allowed there
    laws            draws of the page, of every kind that has laws
    fresh           points of the certificate's generator from another seed, as many again
    edges           finite ends of the sets of maps of one number

A mutant is killed by the first of golden, certificate and laws that it fails, by what it raises there, or by the time or
memory that it takes.  One that passes them and is met by the certificate is equivalent, if it stays within what is allowed at
the fresh points too: it is a correct function.  If not, it shows a hole of the certificate, and has survived.  So has one
that neither a point of the certificate meets nor a law of another page that uses the function, which nothing measures; and one
that answers otherwise than the page at a finite end of its domain or codomain, where an event may be, but where the truth may
be infinite and the certificate has no point.

Points and draws are made once for a page, before a mutant is planted in a fork of the process.
"""

from __future__ import annotations

import functools
import gc
import inspect
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

import numpy as np

from refflow.accuracy.drawing import set_of
from refflow.accuracy.points import Points
from refflow.accuracy.quantities import truth_name
from refflow.accuracy.valid import at_valid
from refflow.core import RandomSource, tree
from refflow.core.registry import has_components
from refflow.laws import strategies
from refflow.laws.bijector_laws import run_laws, run_value_laws
from refflow.laws.conditioner_laws import NetworkPoints, run_network_laws, without_padding
from refflow.laws.density_laws import density_of, run_density_laws
from refflow.laws.parametrisation_laws import run_parametrisation_laws
from refflow.laws.rejections import REJECTED
from refflow.oracle.points import golden
from refflow.truth.measure import compared

from validation import certify
from validation.points.kinds import GENERATORS
from validation.points.drawn import BREAK, Draw

from .mutations import UNREACHED
from .sweep import Sweep, meets

check = import_module("refflow.oracle.check")       # the package has a function of this name

STAGES = ("golden", "certificate", "laws", "fresh", "edges")
SEEDS = (1,)                                        # of fresh points
DRAWS, EVENTS = 10, 32                              # of laws, as the tests have them for a page without components
SOLVED = 3                                          # draws of a page whose inverse is a solver, as there
FEW, FEW_EVENTS = 6, 8                              # for others, and for networks
ELSEWHERE = 3                                       # of each page that uses a function of another module
CERTIFIED = check.certified()
MODERATE = strategies.SPREAD                        # of a network's events and cotangents
ROUGH, AT_ENDS = 2.0**-10, 40                       # of answers at an end, and of how many values of a page they are asked
METHODS_ALONE = {"forward": ("forward", "log_det", "forward_and_log_det"), "inverse": ("inverse", "inverse_and_log_det")}
SPARSE = {"ContinuousFlow": 16}                     # one in so many points of a page whose truth is a differential equation
ANEW = 10                                           # values are made anew at one in so many points
TIMED = 100                                         # points that tell how long a comparison with the truth takes
MEMORY = 2 << 30                                    # bytes beyond what the page itself takes
SECONDS, TIMES = 3, 6                               # a stage may take so long, and so many times what the page takes
SLOW = 2                                            # seconds of a verdict, after which the truths are kept for the next ones


class OutOfTime(BaseException):
    """A stage takes too long."""


class Bench:
    """Everything that mutants of a page are held to, made of the page as it is, and of the other pages of its module.

    With `every`, one in so many points of the certificate and of the fresh ones, for a quick look, or where a truth takes seconds.
    """

    def __init__(self, page, every=None):
        self.every = every or SPARSE.get(page.__name__, 1)
        self.pages = [p for p in certify.PAGES.values() if p.__module__ == page.__module__]
        self.golden = [point for p in self.pages for point in golden.points(p.__name__)]
        for point in self.golden:
            point.truth.items()                 # decoded once, before the forks
        self.certificate = Sweep(self.groups(certify.points))
        self.fresh = Sweep([group for seed in SEEDS for group in self.groups(lambda *of: fresh_points(*of, seed))])
        self.laws = [draw for p in self.pages for dtype in certify.DTYPES for draw in law_draws(p, dtype)]
        self.edges = [found for group in self.certificate.groups for found in answered(edge_points(group))]
        self.aside, self.seconds, self.rejecting, self.planted, self.truths = {}, {}, [], None, {}
        self.breaks = {id(point): certify.said_breaks(point.f) for sweep in (self.certificate, self.fresh)
                       for group in sweep.groups for point in group if point.reason == BREAK}       # certified as right
        self.put_aside()
        self.forget()

    def groups(self, generator):
        """The points of every page, dtype and side."""
        return [list(generator(page, dtype, side))[::self.every] for page in self.pages for dtype in certify.DTYPES
                for side in certify.sides(page)]

    def forget(self):
        """Let all values compute again what they know of themselves, which a mutant may compute otherwise."""
        sweeps = self.certificate, self.fresh
        points = self.golden + [point for sweep in sweeps for point in sweep.asked()] + [point for point, _ in self.edges]
        forget(point.f for point in points)
        forget(f for _, f, *_ in self.laws)

    def put_aside(self):
        """Leave out the golden points, draws and ends at which the page itself fails, and time the rest."""
        found = in_fork(self.measured, 3600)
        if "aside" not in found:
            raise RuntimeError(f"the page itself cannot be judged: {found}")
        for stage, marks in found["aside"].items():
            setattr(self, stage, [entry for i, entry in enumerate(getattr(self, stage)) if i not in marks])
            self.aside[stage] = len(marks)
        self.seconds, self.rejecting = found["seconds"], found["rejecting"]

    def measured(self):
        """What the page itself fails, and the seconds of each stage; of points, a third of what all would take, if changed."""
        aside, seconds, rejected, tried = {}, {}, Counter(), Counter()
        for stage, fails in (("golden", fails_golden), ("laws", lambda draw: fails_laws(draw, rejected, tried)),
                             ("edges", fails_edge)):
            start = time.process_time()
            aside[stage] = [i for i, entry in enumerate(getattr(self, stage)) if fails(entry)]
            seconds[stage] = time.process_time() - start
        for stage in ("certificate", "fresh"):
            sweep, start = getattr(self, stage), time.process_time()
            some = [point for point, _ in sweep.singles[::max(1, len(sweep.singles) // TIMED)]]
            for point in some:
                failed_at(point)
            seconds[stage] = (time.process_time() - start) * len(sweep) / max(1, len(some)) / 3
        return {"aside": aside, "seconds": seconds, "rejecting": rejecting(rejected, tried)}

    # -- one mutant ---------------------------------------------------------------------------------------------------

    def verdict(self, source, mutant):
        """{"verdict": killed, equivalent or survived, "by": the stage, "why": what was found}."""
        start = time.monotonic()
        found = in_fork(lambda: self.judged(source, mutant), 60 + 3 * TIMES * sum(self.seconds.values()))
        if not self.truths and time.monotonic() - start > SLOW:
            self.keep_truths()
        if found["by"] != "nothing" or not self.elsewhere:
            return found
        return in_fork(lambda: self.judged_elsewhere(source, mutant), 600) or found

    def keep_truths(self):
        """Know the truth at every point, which is the same for all mutants."""
        for point in self.certificate.points() + self.fresh.points():
            try:
                self.truths[id(point)] = certify.truth(point)
            except (ArithmeticError, ValueError):           # there is none
                continue
        self.forget()
        gc.freeze()                                         # forks need not copy what a collection would touch

    @functools.cached_property
    def elsewhere(self):
        """Draws of other modules' pages that use functions of this module, where their laws hold."""
        draws = [draw for page in users(self.pages[0].__module__) for dtype in certify.DTYPES
                 for draw in law_draws(page, dtype)[:ELSEWHERE]]
        broken = in_fork(lambda: [i for i, draw in enumerate(draws) if fails_laws(draw)], 3600)
        forget(f for _, f, *_ in draws)
        return [draw for i, draw in enumerate(draws) if i not in broken]

    def judged_elsewhere(self, source, mutant):
        """The verdict of the pages that use what no point of this module's own pages meets; None if they find nothing."""
        try:
            source.plant(mutant)
            why = next(filter(None, map(fails_laws, self.elsewhere)), None)
        except Exception as error:
            return {"verdict": "killed", "by": "crash", "why": f"{type(error).__name__}: {error}"[:200]}
        return {"verdict": "killed", "by": "laws", "why": why} if why else None

    def judged(self, source, mutant):
        """The verdict, in a process that is not used again."""
        resource.setrlimit(resource.RLIMIT_AS, (address_space() + MEMORY,) * 2)
        warnings.simplefilter("error")
        signal.signal(signal.SIGPROF, out_of_time)
        try:
            source.plant(mutant)
            return self.asked(source, mutant)
        except Exception as error:              # of the planting, or of values that are made anew
            return {"verdict": "killed", "by": "crash", "why": f"{type(error).__name__}: {error}"[:200]}

    def asked(self, source, mutant):
        self.planted = source, mutant
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

    def of_certificate(self):
        return self.of_points(self.certificate)

    def of_fresh(self):
        return self.of_points(self.fresh)

    def of_points(self, sweep):
        """The first quantity beyond what is allowed at a point that the mutant answers otherwise than the page."""
        return next((why for point, given in sweep.changed() if not self.within(point, given) and (why := self.failed(point))
                     and not self.page_fails(point)), None)

    def within(self, point, given):
        """Are the answers of a batch known to be within what is allowed?"""
        true = self.truths.get(id(point))
        if given is None or true is None:
            return False
        settled = not any(np.isnan(answer).any() for name, answer in given.items() if truth_name(name) not in true)
        return settled and not beyond(point, certify.by_field(compared(given, true, point.event.dtype)))

    def failed(self, point):
        """What the certificate finds at a point."""
        return beyond(point, certify.errors(point, self.truths.get(id(point)), self.breaks.get(id(point))))

    def page_fails(self, point):
        """Does the page itself fail there?  Fresh points may show that."""
        source, mutant = self.planted
        source.plant(mutant, mutant.place.node)
        forget([point.f])
        try:
            return self.failed(point) is not None
        finally:
            source.plant(mutant)
            forget([point.f])

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
        self.forget()
        if self.certificate.meets():
            return {"verdict": "equivalent", "by": "certificate", "why": ""}
        some = [point for point, _ in self.certificate.singles[::ANEW]]
        if not any(meets_anew(point) for point in some):
            return {"verdict": "survived", "by": "nothing", "why": "no point of the certificate meets it"}
        source.plant(mutant)
        why = next(filter(None, (failed_at(made_anew(point)) for point in some)), None)
        if why:
            return {"verdict": "killed", "by": "certificate", "why": why}
        return {"verdict": "survived", "by": "nothing", "why": "only the making of values meets it"}


def forget(values):
    """Drop what values and their components have computed of themselves."""
    for f in values:
        for _, value in tree.walk(f):
            for name in value.computed & vars(value).keys():
                del vars(value)[name]


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
    subject = check.Subject(name, "refflow", dtype, check.own_answer, own=True)
    subject.compare([point], [check.own_answer(point)], [point.truth], check.own_allowance(CERTIFIED, name, dtype))
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


def made_anew(point):
    return replace(point, f=pickle.loads(pickle.dumps(point.f)))


def meets_anew(point):
    """Does the making of the point's value meet the probe?"""
    try:
        return meets(made_anew(point))
    except NameError as error:
        return UNREACHED in str(error)
    except Exception:
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
    source = RandomSource(np.random.default_rng([0, *page.__name__.encode(), *dtype.encode()]))
    if page.kind == "density":
        return [(run_density_laws, density_of(source, page, np.dtype(dtype))) for _ in range(DRAWS)]
    if page.kind == "parametrisation":
        run = functools.partial(run_parametrisation_laws, dtype=dtype, source=source)
        return [(run, page.examples(source)[0]) for _ in range(DRAWS)]
    if page.kind not in ("bijector", "conditioner"):
        return [(run_value_laws, point.f) for point in list(certify.points(page, dtype, "forward"))[:DRAWS]]
    network, dtype = page.kind == "conditioner", np.dtype(dtype)
    draws, events = (FEW, FEW_EVENTS) if network or has_components(page) else (SOLVED if page.solver is True else DRAWS, EVENTS)
    return [drawn(source, page, dtype, events, network) for _ in range(draws)]


def drawn(source, page, dtype, events, network):
    f, shapes = strategies.value_of(source, page, dtype, events)
    if not network:
        f, shape = at_valid(f, source.choice(shapes))
        p = strategies.points_of(source, f, dtype, events, shape)
        return run_laws, f, p.z, p.x_bar, p.z_bar, p.log_det_bar
    shape = f.fixed_shape or source.choice(shapes)
    a = f.domain.draw(source, (events, *shape), dtype, MODERATE)
    h_bar = source.signed((events, *f.output_shape(shape)), -MODERATE, MODERATE).astype(dtype)
    return run_network_laws, f, without_padding(f, a), without_padding(f, h_bar)


def users(module):
    """The pages of other modules that use a function of this one."""
    def uses(page):
        held = vars(import_module(page.__module__)).values()
        return any(inspect.isfunction(one) and one.__module__ == module for one in held)

    return [page for page in certify.PAGES.values() if page.__module__ != module and uses(page)]


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
