"""Models of the papers: one paper, one file, composition only."""

from .nice import nice

__all__ = ["nice"]
