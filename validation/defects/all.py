"""All defects: each module adds its own to the list."""

from __future__ import annotations

from . import (of_bijx, of_distrax, of_flowjax, of_flowtorch, of_freia, of_nflows, of_normflows, of_numpyro,  # noqa: F401
               of_ports, of_pymc, of_pyro, of_pzflow, of_scipy, of_tfp, of_torch, of_torchflows, of_zuko)
from .entry import DEFECTS

__all__ = ["DEFECTS"]
