"""Defects of bijx."""

from __future__ import annotations

from .entry import SHIPPED, finding

finding("bijx", "1.3.2", "the log-dets of Sigmoid and Tanh are -inf in the tails", "log_det", SHIPPED + "bijx.Sigmoid")
