"""Defects of distrax."""

from __future__ import annotations

from .entry import SHIPPED, finding

finding("distrax", "0.1.9", "Sigmoid is exp below -9", "forward", SHIPPED + "distrax.Sigmoid")
finding("distrax", "0.1.9", "the gradient of Sigmoid's log-det is NaN in the tails", "vjp.z_bar", SHIPPED + "distrax.Sigmoid")
