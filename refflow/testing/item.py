"""What a decorated test calls: one law of a black box, or one quantity of a page, as a pytest item.

The plugin tells an item the session's options, and reads its counts; without the plugin an item has the defaults.
"""

from __future__ import annotations

import warnings

from ..oracle.pages import CannotRun
from .suites import SuiteWarning, only_warns

FAIL, SKIP, PASS, KNOWN, WARNED = "FAIL", "skip", "pass", "known", "warned"


class Item:
    """A question with a name, and the suite that it came with; `word` says what it is."""

    word = ""

    def __init__(self, name, suite, since):
        self.name, self.suite, self.since = name, suite, since
        self.bind(0, 1, [])

    def __repr__(self):
        return self.name

    def bind(self, seed, examples, properties):
        """Take the session's options, and the list of properties (name, value) that the report of the test will have."""
        self.seed, self.examples, self.properties, self.called = seed, examples, properties, False

    def __call__(self):
        import pytest

        self.called, wrong = True, None
        try:
            self.ask()
        except CannotRun as error:
            wrong = error
        if wrong:
            self.note(FAIL, "error of use")
            pytest.fail(f"error of use: {wrong}", pytrace=False)

    def ask(self):
        """Ask the question, and end in one of the verdicts below."""
        raise NotImplementedError

    # -- verdicts ------------------------------------------------------------------------------------------------------

    def note(self, status, reason="", **facts):
        self.properties += [("refflow", self.word), (self.word, self.name), ("verdict", status), ("reason", reason),
                            *((key, str(value)) for key, value in facts.items())]

    def passes(self, **facts):
        self.note(PASS, **facts)

    def fails(self, text, **facts):
        """Fail; or warn, where the file names a suite without this question."""
        import pytest

        warned = only_warns(self.since, self.suite)
        self.note(WARNED if warned else FAIL, **facts)
        if not warned:
            pytest.fail(text, pytrace=False)
        warnings.warn(f"{text}\nthis came with suite {self.since}, and will fail with the next one", SuiteWarning, stacklevel=4)

    def skips(self, reason):
        import pytest

        self.note(SKIP, reason)
        pytest.skip(reason)

    def is_known(self, reason, **facts):
        """Broken, as the user's file says."""
        import pytest

        self.note(KNOWN, reason, **facts)
        pytest.xfail(reason)


def decorated(function, argument, items, word):
    """The test function `argument(item)`, one pytest item for each of `items`, under the marker `refflow`.

    Raises ValueError if there is no item: such a test would pass without a question.
    """
    import pytest

    if not items:
        raise ValueError(f"{function.__name__}: there is no {word} to ask")
    return pytest.mark.refflow(pytest.mark.parametrize(argument, items, ids=repr)(function))
