"""Increasing maps of one number whose inverse is found by a solver."""

from .. import offered

__getattr__, __all__ = offered(__name__)
