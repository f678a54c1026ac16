"""Continuous flows, as the libraries have them."""

from __future__ import annotations

from .row import row

ROWS = (
    row("CNF exact trace", "dx=f dt, dlogp=-tr(df/dx)dt", missing="continuous flows have no page",
        bijx="ContFlowDiffrax, ContFlowRK4", tfp="FFJORD(trace_jacobian_exact)", torchflows="ContinuousBijection",
        zuko="FreeFormJacobianTransform(exact=True)"),
    row("FFJORD Hutchinson", "trace = e^T (df/dx) e", missing="continuous flows have no page", tfp="FFJORD (default hutchinson)",
        torchflows="FFJORD", zuko="CNF(exact=False)"),
    row("Flow matching, diffusion and consistency models", "x = the solution of dx = v(x,t) dt at t = 1",
        outside="free-form networks, trained without a log-det", bayesflow=("FlowMatching, DiffusionModel, ConsistencyModel, "
            "StableConsistencyModel")),
    row("RNODE", "kinetic + Jacobian-norm regularised", missing="continuous flows have no page",
        torchflows="RNODE, ConvolutionalRNODE"),
    row("OT-Flow", "potential, exact trace", missing="continuous flows have no page", torchflows="OTFlowBijection"),
    row("DDNF", "deep diffeomorphic", missing="continuous flows have no page", torchflows="DDNF, ConvolutionalDDNF"),
    row("Lie-group CNF (Crouch-Grossman)", "SU(n)", missing="continuous flows have no page", bijx="ContFlowCG"),
    row("Conv lattice CNF", "conv vector field", missing="continuous flows have no page", bijx="ConvVF + ContFlow*",
        torchflows="ConvolutionalFFJORD, RNODE"),
)
