"""The tests that are named for a module, asked about its mutants.

They are collected once, in one process.  A fork asks each of them about the module as it is: whether it passes, how long it
takes, and which statements of the module it meets.  Then a fork plants a mutant and asks the tests that meet its statement,
quick ones and those that killed others first, until one fails.  It is killed by this test, by what planting it raises, or by
the time or memory that it takes; it survives if all pass, or if no test meets it.  Tests that take longer than `LONGEST` are
not asked.

Files of the checkout are only read.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import os
import resource
import signal
import sys
import time
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from ..points.code import code_of, module_constants, plain_function
from .judging import MEMORY, SECONDS, TIMES, OutOfTime, address_space, in_fork
from .mutations import Source
from .outside import JUDGES
from .records import RECORDS, Record, tell

TESTS = Path(__file__).parent.parent.parent / "tests"
OPTIONS = "-q", "-s", "-p", "no:cacheprovider", "--tb=native", "-W", "ignore::pytest.PytestAssertRewriteWarning"
LONGEST = 2.0                       # seconds of a test
EVERY = 20                          # seconds between two saves of a record, and two words about it
WAITED, TIMES_WAITED = 120, 12      # seconds, and times what its tests take, after which an answer is given up


def ask(names, deadline, directory=RECORDS):
    """Judge the mutants of modules with the same tests until the deadline, in a process of its own; what is recorded then."""
    waiting = [name for name in names if Record(name, directory).unjudged()]
    if waiting and time.time() < deadline:
        files = [str(TESTS / f"test_{test}.py") for test in JUDGES[waiting[0]]]
        judge = Judge(waiting, deadline, directory)
        ended = in_fork(lambda: int(pytest.main([*OPTIONS, *files], [judge])), 10**7)
        if ended != pytest.ExitCode.OK:
            tell(f"the tests {', '.join(JUDGES[waiting[0]])} cannot be asked: {ended}")
    return [Record(name, directory).found() for name in names]


class Judge:
    """A plugin of pytest: judges mutants where pytest would run its tests."""

    def __init__(self, names, deadline, directory):
        self.names, self.deadline, self.directory = names, deadline, directory
        self.items, self.seconds, self.met, self.kills, self.failure, self.late = {}, {}, {}, Counter(), None, False

    def pytest_sessionstart(self, session):
        """Examples are the same each time, and a failing one is not made smaller."""
        settings.register_profile("mutants", settings.get_profile("ci"), phases=(Phase.explicit, Phase.generate))
        settings.load_profile("mutants")

    def pytest_runtest_logreport(self, report):
        if report.failed or report.skipped:
            self.failure = self.failure or report.nodeid

    def pytest_runtestloop(self, session):
        self.items = {item.nodeid: item for item in session.items}
        self.measure()
        parent = os.getppid()
        gc.freeze()                     # forks need not copy what a collection would touch
        for name in self.names:
            self.judge(Record(name, self.directory), lambda: time.time() > self.deadline or os.getppid() != parent)
        return True

    def measure(self):
        """Which tests pass, how long each takes, and which statements of the modules it meets."""
        sources = {name: Record(name, self.directory).source for name in self.names}
        tell(f"{', '.join(self.names)}: {len(self.items)} tests are asked about the code as it is")
        found = in_fork(lambda: self.measured(sources), 10**5)
        if "tests" not in found:
            raise RuntimeError(f"the tests cannot be asked about the code as it is: {found}")
        for module in found["modules"]:             # what tests import as they run is imported once, before the forks
            with contextlib.suppress(ImportError):  # except their own modules
                import_module(module)
        quick = {test: entry for test, entry in found["tests"].items() if entry[0] <= LONGEST}
        self.seconds = {test: seconds for test, (seconds, _) in quick.items()}
        self.met = {test: {name: set(lines) for name, lines in met.items()} for test, (_, met) in quick.items()}
        tell(f"{len(found['tests'])} of them pass; {len(quick)} are asked, in {sum(self.seconds.values()):.0f} s")

    def measured(self, sources):
        apart()
        before, tests = set(import_names()), {}
        marks = {name: mark(source) for name, source in sources.items()}
        items = list(self.items.values())
        for item, following in zip(items, [*items[1:], None]):
            for met in marks.values():
                met.clear()
            start = time.process_time()
            if self.failed(item, following) is None:
                tests[item.nodeid] = time.process_time() - start, {name: sorted(met) for name, met in marks.items()}
            self.failure = None
        return {"tests": tests, "modules": [name for name in import_names() if name not in before]}

    def failed(self, item, following):
        """The name of a test if it fails, else None."""
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        return self.failure

    # -- mutants ------------------------------------------------------------------------------------------------------

    def judge(self, record, ended):
        """Judge a module's mutants that are not judged yet, until it has `ended`."""
        lines, told, start, waiting = statements(record.source), time.time(), time.time(), record.unjudged()
        try:
            for done, mutant in enumerate(waiting):
                if ended():
                    break
                record.add(mutant, self.verdict(record, mutant, lines))
                if time.time() - told > EVERY:
                    told = time.time()
                    record.save()
                    tell(f"{record.name}: {done + 1}/{len(waiting)} in {told - start:.0f} s")
        finally:                        # an interrupted run is gone on with, too
            record.save()

    def verdict(self, record, mutant, lines):
        tests = self.tests_of(record, mutant, lines)
        if not tests:
            return {"verdict": "survived", "by": "nothing", "why": "no named test meets it"}
        took = sum(self.seconds[item.nodeid] for item in tests)
        found = in_fork(lambda: self.judged(record.source, mutant, tests), WAITED + TIMES_WAITED * took)
        self.kills[found["why"]] += found["verdict"] == "killed"
        return found

    def tests_of(self, record, mutant, lines):
        """The tests that meet a mutant's statement, or one that mentions its constant, the most promising first."""
        if mutant.function in module_constants(record.source.tree):
            where = {lines[id(node)] for node in ast.walk(record.source.tree) if id(node) in lines
                     and isinstance(node, ast.Name) and node.id == mutant.function}
        else:
            where = {lines[id(mutant.place.node)]}
        met = [test for test, found in self.met.items() if where & found[record.name]]
        return [self.items[test] for test in sorted(met, key=lambda test: self.seconds[test] / (1 + self.kills[test]))]

    def judged(self, source, mutant, tests):
        """The verdict, in a process that is not used again."""
        apart()
        signal.signal(signal.SIGPROF, self.out_of_time)
        try:
            source.plant(mutant)
        except Exception as error:
            return {"verdict": "killed", "by": "crash", "why": f"{type(error).__name__}: {error}"[:200]}
        for item, following in zip(tests, [*tests[1:], None]):
            signal.setitimer(signal.ITIMER_PROF, SECONDS + TIMES * self.seconds[item.nodeid])
            try:
                why = self.failed(item, following)
            except OutOfTime:
                why = item.nodeid
            if why:
                return {"verdict": "killed", "by": "time" if self.late else "tests", "why": why}
        return {"verdict": "survived", "by": "tests", "why": f"{len(tests)} tests meet it"}

    def out_of_time(self, *_):
        self.late = True
        raise OutOfTime


def apart():
    """In a fork: nothing of what tests print is shown, and memory is limited."""
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + MEMORY,) * 2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)


def import_names():
    """The modules that are imported and can be imported again by their names."""
    return [name for name, module in sys.modules.items() if getattr(module, "__spec__", None) and module.__spec__.name == name]


# -- statements -------------------------------------------------------------------------------------------------------

def statements(source: Source):
    """{the id of a node: the line of the innermost statement that holds it}, of all functions; of defaults, the first line."""
    found = {}

    def visit(node, line):
        line = node.lineno if isinstance(node, ast.stmt) else line
        found[id(node)] = line
        for child in ast.iter_child_nodes(node):
            of_defaults = isinstance(node, ast.FunctionDef) and isinstance(child, ast.arguments)
            visit(child, node.body[0].lineno if of_defaults else line)

    for _, function, _ in source.functions():
        visit(function, function.lineno)
    return found


class Marking(ast.NodeTransformer):
    """Each statement of a function is preceded by one that notes its line."""

    def generic_visit(self, node):
        super().generic_visit(node)
        for name in ("body", "orelse", "finalbody"):
            held = getattr(node, name, None)
            if isinstance(held, list) and not isinstance(node, (ast.Module, ast.ClassDef)):
                setattr(node, name, [part for statement in held for part in (noted(statement), statement)])
        return node


def noted(statement):
    return ast.copy_location(ast.parse(f"__met__.add({statement.lineno})").body[0], statement)


def mark(source: Source):
    """Let the functions of a module note which of their statements are met, in the set that is returned."""
    tree = ast.fix_missing_locations(Marking().visit(ast.parse(source.text)))
    code, met = compile(tree, str(source.path), "exec"), set()
    source.module.__met__ = met
    for name, _, _ in source.functions():
        function = plain_function(source.module, name)
        if function is not None:
            function.__code__ = code_of(code, name)
    return met
