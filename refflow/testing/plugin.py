"""The pytest plugin: options, counts, and what would pass without a question.

A mistake in the user's file, an error of use, is not a finding: it is told in one line, reported as an error and not as a
failure, and the exit status is 2, as it is where pytest cannot collect a file.

pytest loads the plugin in every project of an environment that has refflow, so it imports nothing of refflow until a decorated
test is there, by the marker `refflow`.
"""

from __future__ import annotations

import inspect
import sys

import pytest

from ..counts import MISUSED, counts_text



def pytest_addoption(parser):
    group = parser.getgroup("refflow", "laws of black boxes, and quantities of pages (refflow)")
    group.addoption("--refflow-seed", type=int, default=0, metavar="SEED", help="of the first box and its latents (default: 0)")
    group.addoption("--refflow-examples", type=int, default=1, metavar="N",
                    help="boxes, and batches of latents, for each law, of the seeds from SEED on (default: 1)")


def pytest_configure(config):
    config.addinivalue_line("markers", "refflow: a law of a black box, or a quantity of a page")
    if config.getoption("refflow_examples") < 1:
        raise pytest.UsageError("--refflow-examples must be at least 1")
    if config.getoption("refflow_seed") < 0:
        raise pytest.UsageError("--refflow-seed must be at least 0")
    config.pluginmanager.register(Misuses())


def pytest_pycollect_makeitem(collector, name, obj):
    """A decorated function that pytest does not collect would never be run."""
    if inspect.isfunction(obj) and any(mark.name == "refflow" for mark in getattr(obj, "pytestmark", ())) \
            and not (collector.funcnamefilter(name) and getattr(obj, "__test__", True)):
        raise collector.CollectError(f"{name} is decorated with law_tests or page_tests, and pytest collects nothing of that "
                                     f"name: call it test_{name}")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """An error of use in the lines that decorate is one line, without the way to it."""
    report = yield
    error = report.call.excinfo.value if report.failed and report.call.excinfo else None
    if is_of_use(error):
        from ..oracle.asking.exits import at_line

        report.longrepr = f"{MISUSED}: {error}{at_line(error, collector.path)}"
    return report


def is_of_use(error):
    """Is it refflow's CannotRun?  Where refflow was not imported, nothing is."""
    pages = sys.modules.get("refflow.oracle.points.pages")
    return pages is not None and isinstance(error, pages.CannotRun)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """Give an item the options; a test that does not call its item has asked nothing."""
    item = item_of(pyfuncitem)
    if item is None:
        return (yield)
    option = pyfuncitem.config.getoption
    item.bind(option("refflow_seed"), option("refflow_examples"), pyfuncitem.user_properties)
    result = yield
    if not item.called:
        item.is_misused(f"{pyfuncitem.originalname} never calls its argument: nothing was asked")
    return result


def item_of(pyfuncitem):
    """The law or quantity among the parameters of a test, None for a test of another kind."""
    if pyfuncitem.get_closest_marker("refflow") is None or not hasattr(pyfuncitem, "callspec"):
        return None
    return next((value for value in pyfuncitem.callspec.params.values() if hasattr(value, "bind")), None)


# -- errors of use ----------------------------------------------------------------------------------------------------

def is_misused(report):
    return ("verdict", MISUSED) in map(tuple, getattr(report, "user_properties", ()))


def pytest_report_teststatus(report):
    """An error and not a failure, which is a finding."""
    return ("error", "E", ("ERROR", {"red": True})) if report.when == "call" and report.failed and is_misused(report) else None


class Misuses:
    """The exit status of a session that has met one."""

    met = False

    def pytest_runtest_logreport(self, report):
        self.met = self.met or is_misused(report)

    def pytest_sessionfinish(self, session):
        if self.met and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            session.exitstatus = pytest.ExitCode.INTERRUPTED


# -- the summary ------------------------------------------------------------------------------------------------------

def pytest_terminal_summary(terminalreporter):
    """One line for each decorated function: how much was asked, what was skipped and why."""
    groups, reports = {}, (report for reports in terminalreporter.stats.values() for report in reports)
    called = {report.nodeid: report for report in reports if getattr(report, "when", None) == "call"}
    for nodeid, report in sorted(called.items()):           # the order of processes is chance
        facts = dict(report.user_properties)
        if "refflow" in facts:
            groups.setdefault((nodeid.partition("[")[0], facts["refflow"]), []).append(facts)
    if not groups:
        return
    terminalreporter.section("refflow")
    for (name, word), found in groups.items():
        verdicts = [(facts[word], facts["verdict"], facts["reason"]) for facts in found]
        terminalreporter.line(f"{name}: {counts_text(word, verdicts)}")
        for facts in found:
            if "hint" in facts:
                terminalreporter.line(f"  {facts[word]}: {facts['hint']}")
