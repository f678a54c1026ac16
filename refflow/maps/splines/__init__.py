"""Monotone splines of one number."""

from .. import offered

__getattr__, __all__ = offered(__name__)
