r"""The identity, for a field that may be any number.

    field = h                                                                       (1)
    h_bar = field_bar                                                               (2)
"""

from __future__ import annotations

from ...core import Value, real
from .parametrisation import value, view


@value
class Free(Value):
    """A field that may be any number: h itself."""

    domain = real
    view = view

    @staticmethod
    def definition(m, s):
        return s                                                                    # (1)

    def vjp(self, s):
        return (s, None), lambda bar, _: (bar, {})                                 # (1) (2)
