"""One plus a number, for a slack that nothing keeps positive."""

from __future__ import annotations

from ...core import Value, real
from .parametrisation import value


@value
class OnePlus(Value):
    """A field that is `1 + h`; the page that gets it refuses what its declaration does not allow."""

    domain = real

    @staticmethod
    def definition(m, s):
        return 1 + s

    def vjp(self, s):
        return (1 + s, None), lambda bar, _: (bar, {})
