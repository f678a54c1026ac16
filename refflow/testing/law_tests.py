"""Laws of a black box as pytest items.

    @law_tests(flow, require={"forward", "log_det", "inverse"}, expected={"an empty batch is empty": Known("theirs#123")})
    def test_nsf(law):          # one item for each law
        law()
"""

from __future__ import annotations

from dataclasses import dataclass

from .black_box import QUANTITIES, BlackBox
from .black_box_laws import LAWS, Found, Skipped, has, run_law


@dataclass(frozen=True)
class Known:
    """A failure that is expected, and where it is reported."""

    where: str


class Law:
    """One law, bound to a box that is made when it is called."""

    def __init__(self, name, make, require, known):
        self.name, self.make, self.require, self.known = name, make, require, known

    def __repr__(self):
        return self.name

    def __call__(self, seed=0):
        import pytest

        box = self.box(seed)
        missing = sorted(what for what in self.require if not has(box, what))
        if missing:
            pytest.fail(f"{missing[0]} is required, and the box does not give it", pytrace=False)
        try:
            run_law(self.name, box, seed)
        except Skipped as reason:
            if self.known:
                pytest.fail(f"{self.name} is expected to fail and cannot be asked: {reason}", pytrace=False)
            pytest.skip(str(reason))
        except Exception as found:
            text = str(found) if isinstance(found, Found) else f"raised {type(found).__name__}: {found}"
            if self.known:
                pytest.xfail(f"{self.known.where}: {text}")
            pytest.fail(f"{self.name}: {text}", pytrace=False)
        if self.known:
            pytest.fail(f"{self.name} holds, and is expected to fail ({self.known.where}): remove it from `expected`",
                        pytrace=False)

    def box(self, seed):
        made = self.make if isinstance(self.make, BlackBox) else self.make(seed)
        if not isinstance(made, BlackBox):
            raise TypeError(f"law_tests: a BlackBox is needed, or a function of a seed that returns one, not {made!r}")
        return made


def law_tests(box, require=(), expected=None):
    """A decorator that makes one pytest item of each law, whose id is the law's name.

    `box`: a `BlackBox`, or a function of a seed that makes one, called when the tests run; `require`: quantities whose
    absence is a failure, not a skip; `expected`: {law: Known(where)}, laws that must fail.  ValueError for an unknown law or
    quantity.
    """
    import pytest

    expected = expected or {}
    for name, given, known in (("expected", expected, LAWS), ("require", require, QUANTITIES)):
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ValueError(f"law_tests: {name} names {unknown[0]!r}, which is not one of {sorted(known)}")
    if not isinstance(box, BlackBox) and not callable(box):
        raise ValueError(f"law_tests: box must be a BlackBox or a function of a seed that makes one, not {box!r}")
    laws = [Law(name, box, require, expected.get(name)) for name in LAWS]
    return pytest.mark.parametrize("law", laws, ids=repr)
