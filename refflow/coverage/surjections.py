"""Surjections and stochastic layers, as the libraries have them."""

from __future__ import annotations

from .row import row

ROWS = (
    row("Uniform dequantization", "z=x+u", outside="it is random; the functions dequantised and quantised do it",
        normflows="utils.preprocessing.Jitter", pzflow="Beta13Dequantizer, UniformDequantizer", survae="UniformDequantization"),
    row("Variational dequantization", "z=x+u, u~q(u|x)", outside="it is random; the function variational_bound_vjp does it",
        survae="VariationalDequantization"),
    row("Absolute value", "|x| + sign latent", outside="two events have one image", numpyro="AbsTransform", pymc="AbsTransform",
        survae="SimpleAbsSurjection", tfp="AbsoluteValue", torch="AbsTransform"),
    row("Sort", "sort + permutation latent", outside="many events have one image", survae="SimpleSortSurjection",
        zuko="distributions.Sort/TopK (dist.)"),
    row("Max pool", "max + residual latent", outside="it loses entries", survae="SimpleMaxPoolSurjection2d"),
    row("Slice", "drop dims", outside="it loses entries", surjectors="Slice", survae="Slice"),
    row("Funnel around an autoregressive or a linear map", "drop dims, which the map of the others is conditioned on",
        outside="it loses entries",
        surjectors=("MaskedAutoregressiveInferenceFunnel, AffineMaskedAutoregressiveInferenceFunnel, "
            "RationalQuadraticSplineMaskedAutoregressiveInferenceFunnel, MLPInferenceFunnel")),
    row("Funnel around a coupling", "drop the dims that pass", "coupling(affine_family(ExpScale()))",
        remark="the coupling alone; the funnel, which loses the entries that pass, is outside the contract",
        surjectors=("MaskedCouplingInferenceFunnel, AffineMaskedCouplingInferenceFunnel, "
            "RationalQuadraticSplineMaskedCouplingInferenceFunnel")),
    row("Augment", "append noise dims", outside="it is random", survae="Augment"),
    row("Stochastic permutation", "random permutation, ld=0", outside="it is random", survae="StochasticPermutation"),
    row("VAE layer", "q(z|x), p(x|z)", outside="it is random", normflows="NormalizingFlowVAE", survae="VAE"),
    row("MCMC layer", "MH/HMC kernel", outside="it is random", normflows="MetropolisHastings, HamiltonianMonteCarlo"),
)
