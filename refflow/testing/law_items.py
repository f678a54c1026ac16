"""Laws of a black box as pytest items.

    @law_tests(flow, suite="2026.12", require={"log_det", "inverse"}, expected={"an empty batch is empty": Known("theirs#123")})
    def test_nsf(law):          # one item for each law
        law()
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np

from ..oracle.adapter import at_line, file_of
from ..oracle.pages import CannotRun
from .arrays import as_numpy
from .black_box import QUANTITIES, BlackBox
from .black_box_laws import LAWS, NEEDS, SINCE, Skipped, has, run_law, told
from .black_box_laws import failure as failed_at
from .item import Item, decorated
from .simplest import simplest
from .suites import suite_named

WITNESS = ("events", "seed", "parameters")


@dataclass(frozen=True)
class Known:
    """A failure that is expected, where it is reported, and a witness, the simplest question that shows it.

    A witness is what a failure prints: {"events": latents, "seed": of the box, "parameters": of the box, in order}, of which
    each key may be absent.  ValueError for other keys.
    """

    where: str
    witness: dict | None = None

    def __post_init__(self):
        unknown = [key for key in self.witness or {} if key not in WITNESS]
        if unknown:
            raise ValueError(f"Known: witness has the key {unknown[0]!r}, which is not one of {', '.join(WITNESS)}")


def law_tests(box, *, suite=None, require=(), expected=None):
    """A decorator that makes one pytest item of each law, whose id is the law's name.

    `box`: a `BlackBox`, or a function of a seed that makes one, called when the tests run; `suite`: the date of the laws that
    must hold, the newest if None; `require`: quantities that the box must give and laws that must be asked, else these fail
    in place of being skipped; `expected`: {law: Known(where, witness)}, laws that must fail.  ValueError for an unknown
    suite, law or quantity.
    """
    expected, suite = expected or {}, suite_named(suite, "law_tests")
    require = (require,) if isinstance(require, str) else tuple(require)
    for name, given, known in (("expected", expected, LAWS), ("require", require, (*QUANTITIES, *LAWS))):
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ValueError(f"law_tests: {name} names {unknown[0]!r}, which is not one of {sorted(known)}")
    if not isinstance(box, BlackBox) and not callable(box):
        raise ValueError(f"law_tests: box must be a BlackBox or a function of a seed that makes one, not {box!r}")
    laws = [Law(name, suite, box, require, expected.get(name)) for name in LAWS]
    return lambda function: decorated(function, "law", laws, "law")


# -- boxes ------------------------------------------------------------------------------------------------------------

def made(make, seed):
    """The box of a seed.  CannotRun if it cannot be made, or cannot be asked at two plain events."""
    if isinstance(make, BlackBox):
        box, file = make, file_of(make.forward)
    else:
        file = file_of(make)
        with use_of(f"the function that makes the box raised, for seed {seed},", file):
            box = make(seed)
        if not isinstance(box, BlackBox):
            raise CannotRun(f"a BlackBox is needed, or a function of a seed that returns one, not {box!r}")
    z = box.plain(2)
    with use_of(f"forward of a batch of two plain events, of shape {z.shape}, raised", file), np.errstate(all="ignore"):
        x = box.image(z)
    if x.shape[:1] != (2,):
        raise CannotRun(f"forward of a batch of two events, of shape {z.shape}, has shape {x.shape}: batch axes come first")
    return box


@contextlib.contextmanager
def use_of(what, file):
    """An exception is an error of use, with its line in the user's file."""
    try:
        yield
    except Exception as error:
        raise CannotRun(f"{what} {type(error).__name__}: {error}{at_line(error, file)}") from error


@contextlib.contextmanager
def holding(box, parameters):
    """The box with other values in its parameters, which it gets back; None changes nothing."""
    if parameters is None:
        yield
        return
    shapes = [np.shape(array) for array in box.trained()]
    if [np.shape(v) for v in parameters] != shapes:
        raise CannotRun(f"the witness has parameters of shapes {[np.shape(v) for v in parameters]}, the box has {shapes}")
    with box.moved([np.asarray(values) for values in parameters]):
        yield


# -- witnesses --------------------------------------------------------------------------------------------------------

def failure(name, box, seed=0, events=None, parameters=None):
    """The exception by which a box breaks a law, or None.  Raises Skipped if the law cannot be asked."""
    try:
        with holding(box, parameters):
            run_law(name, box, seed, events)
    except (Skipped, CannotRun):
        raise
    except Exception as found:
        return found


def chance(make, box, seed) -> dict:
    """The values of the box's parameters, if another box of the same seed has others."""
    if make is box:
        return {}
    held, other = ([as_numpy(array) for array in one.trained()] for one in (box, made(make, seed)))
    return {} if all(map(np.array_equal, held, other)) else {"parameters": [values.tolist() for values in held]}


# -- items ------------------------------------------------------------------------------------------------------------

class Law(Item):
    """One law, bound to a box that is made when it is called."""

    word = "law"

    def __init__(self, name, suite, make, require, known):
        super().__init__(name, suite, SINCE[name])
        self.make, self.require, self.known = make, require, known

    def ask(self):
        if self.known and self.known.witness is not None:
            self.replay()
        reasons = []
        for seed in range(self.seed, self.seed + self.examples):
            try:
                box = made(self.make, seed)
                if lacking := self.lacking(box):
                    return self.fails(f"{lacking} is required, and the box does not give it")
                found = failure(self.name, box, seed)
            except Skipped as reason:
                reasons.append(str(reason))
                continue
            if found:
                return self.broken(box, seed, found)
        if len(reasons) == self.examples:
            return self.not_asked(reasons[0])
        if self.known:
            return self.fails(f"{self.name} holds, and is expected to fail ({self.known.where}): remove it from `expected`")
        self.passes()

    def lacking(self, box):
        """A required quantity that the box lacks, if this law needs it, or no law does."""
        needed = {what for needs in NEEDS.values() for what in needs}
        own = [what for what in self.require if what in QUANTITIES and (what in NEEDS[self.name] or what not in needed)]
        return next((what for what in sorted(own) if not has(box, what)), None)

    def broken(self, box, seed, found):
        found = simplest(found, lambda events: failed_at(self.name, box, seed, events))
        events = getattr(found, "events", None)
        shown = {} if events is None else {"events": events.tolist()}
        text, line = f"{self.name}: {told(found)}", self.line(shown | {"seed": seed} | chance(self.make, box, seed))
        if self.known:
            return self.is_known(f"{self.known.where}: {text}\n{line}")
        self.fails(f"{text}\nat seed {seed}; if this is known, and reported:\n{line}")

    def line(self, witness):
        """What to paste."""
        where = self.known.where if self.known else "where it is reported"
        return f"expected={{{self.name!r}: Known({where!r}, witness={witness})}}"

    def not_asked(self, reason):
        if self.known:
            return self.fails(f"{self.name} is expected to fail and cannot be asked: {reason}")
        if self.name in self.require:
            return self.fails(f"{self.name} is required and cannot be asked: {reason}")
        self.skips(reason)

    def replay(self):
        """The witness first: it must still fail."""
        witness = {"seed": 0} | self.known.witness
        box, found = made(self.make, witness["seed"]), None
        with contextlib.suppress(Skipped):
            found = failure(self.name, box, **witness)
        if found:
            self.is_known(f"{self.known.where}: {told(found)}")
        self.fails(f"the witness of {self.name} no longer fails ({self.known.where}): remove it from `expected`, and run again")
