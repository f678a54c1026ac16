"""Autoregressive maps: each entry is transformed given the entries before it."""

from .. import offered

__getattr__, __all__ = offered(__name__)
