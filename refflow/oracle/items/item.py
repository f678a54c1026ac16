"""What a decorated test calls: one law of a black box, or one quantity of a page, as a pytest item.

The plugin tells an item the session's options, and reads its counts; without the plugin an item has the defaults.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from . import replay
from ...counts import MISUSED
from ..asking.exits import no_exit
from ..judging.suites import SuiteWarning, only_warns
from ..points.pages import CannotRun

FAIL, SKIP, PASS, KNOWN, WARNED = "FAIL", "skip", "pass", "known", "warned"
OF_A_LAW, OF_A_QUANTITY = ("events", "seed", "parameters"), replay.KEYS     # the keys of witnesses


@dataclass(frozen=True)
class Known:
    """A failure that is expected, where it is reported, and a witness, the simplest question that shows it.

    A witness is what a failure prints.  A law has {"events": latents, "seed": of the box, "parameters": of the box, in order},
    and each key may be absent; a quantity has {"input", "params", "cotangents"}.  ValueError for other keys.
    """

    where: str
    witness: dict | None = None

    def __post_init__(self):
        only_known("Known", self, (*OF_A_LAW, *OF_A_QUANTITY))


def only_known(what, known, keys):
    unknown = [key for key in known.witness or {} if key not in keys]
    if unknown:
        raise CannotRun(f"{what}: witness has the key {unknown[0]!r}, which is not one of {', '.join(keys)}")


def expectations(decorator, expected, names, keys) -> dict:
    """`expected`, {} for None, checked: {one of `names`: a Known whose witness has some of `keys`}."""
    expected = expected or {}
    only_named(decorator, "expected", expected, names)
    for name, known in expected.items():
        if not isinstance(known, Known):
            raise CannotRun(f"{decorator}: expected[{name!r}] must be a Known(where, witness), not {known!r}")
        only_known(f"{decorator}: expected[{name!r}]", known, keys)
    return expected


def only_named(decorator, argument, given, known):
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise CannotRun(f"{decorator}: {argument} names {unknown[0]!r}, which is not one of {', '.join(known)}")


class Item:
    """A question with a name, and the suite that it came with; `known`: its failure is expected; `word` says what it is.

    `file` is the file of the code that is asked, if there is one.
    """

    word, file = "", None

    def __init__(self, name, suite, since, known):
        self.name, self.suite, self.since, self.known, self.told = name, suite, since, known, set()
        self.bind(0, 1, [])

    def __repr__(self):
        return self.name

    def bind(self, seed, examples, properties):
        """Take the session's options, and the list of properties (name, value) that the report of the test will have."""
        self.seed, self.examples, self.properties, self.called = seed, examples, properties, False

    def __call__(self):
        self.called, wrong = True, None
        try:
            with no_exit("the code under test", self.file):
                self.ask()
        except CannotRun as error:
            wrong = error
        if wrong:
            self.is_misused(wrong)

    def ask(self):
        """Ask the question, first the witness of a failure that is expected, and end in one of the verdicts below."""
        if self.known is None or self.known.witness is None:
            self.question()
            return
        shown = self.shown_by(self.known.witness)
        if shown is None:
            self.fails(f"the witness of {self.name} no longer fails ({self.known.where}): remove it from `expected`, and run "
                       "again")
        else:
            self.is_known(f"{self.known.where}: {shown}")

    def question(self):
        raise NotImplementedError

    def shown_by(self, witness):
        """The failure at a witness in words, None if it no longer fails."""
        raise NotImplementedError

    # -- verdicts ------------------------------------------------------------------------------------------------------

    def note(self, status, reason="", **facts):
        self.properties += [("refflow", self.word), (self.word, self.name), ("verdict", status), ("reason", reason),
                            *((key, str(value)) for key, value in facts.items())]

    def holds(self, **facts):
        """It is right: a failure, if it is expected to be wrong."""
        if self.known:
            self.fails(f"{self.name} holds, and is expected to fail ({self.known.where}): remove it from `expected`", **facts)
        else:
            self.note(PASS, **facts)

    def is_broken(self, text, witness, where="", **facts):
        """It is wrong: a failure, which says what to paste, unless it is expected."""
        shown = f", witness={witness}" if witness else ""
        line = f"expected={{{self.name!r}: Known({self.known.where if self.known else 'where it is reported'!r}{shown})}}"
        if self.known:
            self.is_known(f"{self.known.where}: {text}\n{line}", **facts)
        else:
            self.fails(f"{text}\n{where}if this is known, and reported:\n{line}", **facts)

    def is_not_asked(self, what, reason, required):
        """A skip, unless it is required or known: nobody can say that it fails."""
        if self.known:
            self.fails(f"{self.name} is expected to fail and {what}: {reason}")
        elif required:
            self.fails(f"{self.name} is required and {what}: {reason}")
        else:
            self.skips(reason)

    def fails(self, text, **facts):
        """Fail; or warn, where the file names a suite without this question."""
        import pytest

        warned = only_warns(self.since, self.suite)
        self.note(WARNED if warned else FAIL, **facts)
        if not warned:
            pytest.fail(text, pytrace=False)
        warnings.warn(f"{text}\nthis came with suite {self.since}, and will fail with the next one", SuiteWarning, stacklevel=6)

    def skips(self, reason):
        import pytest

        self.note(SKIP, reason)
        pytest.skip(reason)

    def is_known(self, reason, **facts):
        """Broken, as the user's file says."""
        import pytest

        self.note(KNOWN, reason, **facts)
        pytest.xfail(reason)

    def is_misused(self, error):
        """It could not be asked, through a mistake in the user's file.  Of the items of one function one fails."""
        import pytest

        text = f"{MISUSED}: {error}"
        self.note(MISUSED, text)
        if text in self.told:
            pytest.skip(text)
        self.told.add(text)
        pytest.fail(text, pytrace=False)


def decorated(function, argument, items, word):
    """The test function `argument(item)`, one pytest item for each of `items`, under the marker `refflow`.

    Raises CannotRun where there are no items: such a test would pass without a question.
    """
    import pytest

    if not items:
        raise CannotRun(f"{function.__name__}: there is no {word} to ask")
    for item in items:
        item.told = items[0].told
    return pytest.mark.refflow(pytest.mark.parametrize(argument, items, ids=repr)(function))
