"""All defects: each module adds its own to the list."""

from __future__ import annotations

from . import of_nflows  # noqa: F401
from .entry import DEFECTS

__all__ = ["DEFECTS"]
