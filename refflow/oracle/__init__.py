"""The oracle: other people's code, and refflow's own, compared with the truth: values computed to 50 digits."""

from __future__ import annotations

from .asking.adapter import adapter
from .check import check
from .judging.verdict import Report
from .points.pages import CannotRun

__all__ = ["CannotRun", "Report", "adapter", "check"]
