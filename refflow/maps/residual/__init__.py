"""Maps that add to an event a function of the event."""

from .. import offered

__getattr__, __all__ = offered(__name__)
