"""The oracle: other people's code, and refflow's own, compared with the truth: values computed to 50 digits."""

from __future__ import annotations

from .adapter import adapter
from .check import check
from .pages import CannotRun
from .verdict import Report

__all__ = ["CannotRun", "Report", "adapter", "check"]
