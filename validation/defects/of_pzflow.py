"""Defects of pzflow."""

from __future__ import annotations

from .entry import SHIPPED, finding

finding("pzflow", "4.0.0", "InvSoftplus overflows and cancels", ("forward", "inverse"),
        SHIPPED + "pzflow.bijectors.InvSoftplus, inverse")
finding("pzflow", "4.0.0", "the spline's gradient is NaN beyond twice its bound", ("vjp.z_bar", "inverse_vjp.x_bar"),
        SHIPPED + "pzflow.utils.RationalQuadraticSpline")
