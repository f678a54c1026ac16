"""Laws of a black box as pytest items.

    @law_tests(flow, suite="2026.12", require={"log_det", "inverse"}, expected={"an empty batch is empty": Known("theirs#123")})
    def test_nsf(law):          # one item for each law
        law()
"""

from __future__ import annotations

import contextlib

import numpy as np

from ..asking.adapter import file_of
from ..asking.arrays import as_numpy
from ..asking.whose import Defect
from ..boxes.black_box import QUANTITIES, BlackBox
from ..boxes.black_box_laws import LAWS, NEEDS, SINCE, Skipped, has, run_law, told
from ..boxes.black_box_laws import failure as failed_at
from ..boxes.making import made
from ..boxes.simplest import simplest
from ..judging.suites import suite_named
from ..naming.of_laws import named
from ..points.pages import CannotRun
from .item import OF_A_LAW, Item, decorated, expectations, only_named


def law_tests(box, *, suite=None, require=(), expected=None):
    """A decorator that makes one pytest item of each law, whose id is the law's name.

    `box`: a `BlackBox`, or a function of a seed that makes one, called when the tests run; `suite`: the date of the laws that
    must hold, the newest if None; `require`: quantities that the box must give and laws that must be asked, else these fail
    in place of being skipped; `expected`: {law: Known(where, witness)}, laws that must fail.  ValueError for an unknown
    suite, law or quantity.
    """
    expected, suite = expectations("law_tests", expected, LAWS, OF_A_LAW), suite_named(suite, "law_tests")
    require = (require,) if isinstance(require, str) else tuple(require)
    only_named("law_tests", "require", require, (*QUANTITIES, *LAWS))
    if not isinstance(box, BlackBox) and not callable(box):
        raise CannotRun(f"law_tests: box must be a BlackBox or a function of a seed that makes one, not {box!r}")
    laws = [Law(name, suite, box, require, expected.get(name)) for name in LAWS]
    return lambda function: decorated(function, "law", laws, "law")


# -- boxes ------------------------------------------------------------------------------------------------------------

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
    except (Skipped, CannotRun, Defect):
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
        super().__init__(name, suite, SINCE[name], known)
        self.make, self.require, self.file = make, require, file_of(getattr(make, "forward", make))

    def question(self):
        reasons = []
        for seed in range(self.seed, self.seed + self.examples):
            try:
                box = made(self.make, seed)
                if lacking := self.lacking(box):
                    self.fails(f"{lacking} is required, and the box does not give it")
                    return
                found = failure(self.name, box, seed)
            except Skipped as reason:
                reasons.append(str(reason))
                continue
            if found:
                self.told_at_the_simplest(box, seed, found)
                return
        if len(reasons) == self.examples:
            self.is_not_asked("cannot be asked", reasons[0], self.name in self.require)
        else:
            self.holds()

    def lacking(self, box):
        """A required quantity that the box lacks, if this law needs it, or no law does."""
        needed = {what for needs in NEEDS.values() for what in needs}
        own = [what for what in self.require if what in QUANTITIES and (what in NEEDS[self.name] or what not in needed)]
        return next((what for what in sorted(own) if not has(box, what)), None)

    def told_at_the_simplest(self, box, seed, found):
        diagnosis = named(self.name, box, found)
        found = simplest(found, lambda events: failed_at(self.name, box, seed, events))
        events = getattr(found, "events", None)
        shown = {} if events is None else {"events": events.tolist()}
        witness = shown | {"seed": seed} | chance(self.make, box, seed)
        text = f"{self.name}: {told(found)}" + (f"\ndiagnosis: {diagnosis}" if diagnosis else "")
        self.is_broken(text, witness, f"at seed {seed}; ")

    def shown_by(self, witness):
        witness = {"seed": 0} | witness
        box, found = made(self.make, witness["seed"]), None
        with contextlib.suppress(Skipped):
            found = failure(self.name, box, **witness)
        return told(found) if found else None
