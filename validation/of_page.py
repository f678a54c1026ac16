"""For pytest (`-p validation.of_page`): only the tests of the page that the environment's REFFLOW_PAGE names, and what they say.

They have the page, or its module, in their id, as in test_page[Tanh-float64] or test_every_numbered_line_parses[maps.elementwise.tanh].
"""

import os

from refflow.maps import load_all
from refflow.core.registry import REGISTRY


HEAD = "what fails"


def pytest_terminal_summary(terminalreporter):
    """Each failure with the whole of its message, at the end."""
    failed = [report for outcome in ("error", "failed") for report in terminalreporter.stats.get(outcome, [])]
    if failed:
        terminalreporter.write_line(HEAD)
    for report in failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        terminalreporter.write_line(f"{report.nodeid}\n{crash.message if crash else report.longreprtext}")


def pytest_collection_modifyitems(items):
    names = names_of(os.environ["REFFLOW_PAGE"])
    items[:] = [item for item in items if names & set(item.name.partition("[")[2].rstrip("]").split("-"))]


def names_of(page):
    """A page's name, its module's, and its file's."""
    load_all()
    module = REGISTRY[page].__module__ if page in REGISTRY else page
    return {page, module.removeprefix("refflow."), module.replace(".", "/") + ".py"}
