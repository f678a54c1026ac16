"""Defects of numpyro."""

from __future__ import annotations

from .entry import SHIPPED, finding

PREFIX = SHIPPED + "numpyro.distributions.transforms."
finding("numpyro", "0.22.0", "StickBreakingTransform takes the last part as 1 minus the others", "forward",
        PREFIX + "StickBreakingTransform")
finding("numpyro", "0.22.0", "StickBreakingTransform's log-det and gradient are infinite far out", "log_det",
        PREFIX + "StickBreakingTransform")
finding("numpyro", "0.22.0", "CorrCholeskyTransform of float32 raises where float64 is enabled", "forward",
        PREFIX + "CorrCholeskyTransform")
