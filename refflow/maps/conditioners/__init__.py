"""Conditioners: the networks that parameterise couplings and autoregressive maps."""

from .. import offered

__getattr__, __all__ = offered(__name__)
