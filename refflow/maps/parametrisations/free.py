"""The identity, for a field that may be any number."""

from __future__ import annotations

from ...core import Value, real
from .parametrisation import value


@value
class Free(Value):
    """A field that may be any number: h itself."""

    domain = real

    @staticmethod
    def definition(m, s):
        return s

    def vjp(self, s):
        return (s, None), lambda bar, _: (bar, {})
