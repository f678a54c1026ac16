"""Maps that follow a velocity in time."""

from .. import offered

__getattr__, __all__ = offered(__name__)
