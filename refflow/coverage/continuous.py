"""Continuous flows, as the libraries have them."""

from __future__ import annotations

from .row import row

ROWS = (
    row("CNF exact trace", "dx=f dt, dlogp=-tr(df/dx)dt", "ContinuousFlow(velocity)",
        remark="exact; one scheme in equal steps is DiscreteFlow, with the log-det of the scheme",
        bijx="ContFlowDiffrax, ContFlowRK4", tfp="FFJORD(trace_jacobian_exact)", torchflows="ContinuousBijection",
        zuko="FreeFormJacobianTransform(exact=True)"),
    row("FFJORD Hutchinson", "trace = e^T (df/dx) e", "ContinuousFlow(velocity)",
        remark="with the exact log-det; the estimate is a function of its noise, in maps.continuous.log_density", tfp="FFJORD (default hutchinson)",
        torchflows="FFJORD", zuko="CNF(exact=False)"),
    row("Flow matching, diffusion and consistency models", "x = the solution of dx = v(x,t) dt at t = 1",
        outside="free-form networks, trained without a log-det", bayesflow=("FlowMatching, DiffusionModel, ConsistencyModel, "
            "StableConsistencyModel")),
    row("RNODE", "kinetic + Jacobian-norm regularised", "ContinuousFlow(velocity)",
        remark="the penalties of training are in maps.continuous.log_density",
        torchflows="RNODE, ConvolutionalRNODE"),
    row("OT-Flow", "potential, exact trace", missing="no network is the gradient of a potential", torchflows="OTFlowBijection"),
    row("DDNF", "deep diffeomorphic", 'DiscreteFlow(velocity, "euler")', torchflows="DDNF, ConvolutionalDDNF"),
    row("Lie-group CNF (Crouch-Grossman)", "SU(n)", missing="flows on groups have no page", bijx="ContFlowCG"),
    row("Conv lattice CNF", "conv vector field", missing="no network of a lattice and a time", bijx="ConvVF + ContFlow*",
        torchflows="ConvolutionalFFJORD, RNODE"),
)
