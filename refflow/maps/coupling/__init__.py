"""Couplings: one part of the event transformed given the other."""

from .. import offered

__getattr__, __all__ = offered(__name__)
