"""Normalisation layers, as the libraries have them."""

from __future__ import annotations

from .row import row

ROWS = (
    row("BatchNorm", "y=g(x-m)/sqrt(v+eps)+b, ld=sum log g-.5log(v+eps)", "BatchNorm(v, d, a * np.ones(D), b * np.ones(D))",
        bijectors_jl="InvertibleBatchNorm", nflows="BatchNorm", pyro="BatchNorm",
        survae="BatchNormBijection(1d,2d)", tfp="BatchNormalization (not on JAX)"),
    row("ActNorm", "data-dependent init", "ActNorm(b * np.ones(D), a * np.ones(D))",
        remark="GlowActNorm and GlowTTSActNorm are of these models", bayesflow="ActNorm", freia="ActNorm, AllInOneBlock global scale",
        invertible_networks_jl="ActNorm", nflows="ActNorm", normflows="ActNorm", survae="ActNormBijection(1d,2d)",
        tfp="ActivationNormalization (not on JAX)", torchflows="ActNorm"),
    row("Normalisation of a batch by itself", "y=(x-mean x)/sqrt(var x+eps)", outside="its map is of a batch, not of an event",
        normflows="BatchNorm"),
    row("Lp-normalize (projection)", "x/|x|_p", outside="it loses a dimension", pyro="Normalize"),
)
