"""Parts of speech models, as the libraries have them."""

from __future__ import annotations

from .row import row

ROWS = (
    row("Whole flows", "chains of the maps above",
        "Chain([coupling(affine_family(ExpScale())), Permutation(p), coupling(additive_family())])",
        remark="nice, realnvp, maf, iaf, nsf, naf, umnn and others build them", bayesflow="CouplingFlow",
        torchflows=("CouplingDeepDenseSF, CouplingDeepSF, CouplingDenseSF, CouplingLRS, CouplingRQNSF, "
            "DeepDenseSigmoidGlow, DeepSigmoidGlow, DenseSigmoidGlow, IAF, InverseAutoregressiveDeepDenseSF, "
            "InverseAutoregressiveDeepSF, InverseAutoregressiveDenseSF, InverseAutoregressiveLRS, "
            "InverseAutoregressiveRQNSF, InverseRealNVP, LRSGlow, MAF, MaskedAutoregressiveDeepDenseSF, "
            "MaskedAutoregressiveDeepSF, MaskedAutoregressiveDenseSF, MaskedAutoregressiveLRS, "
            "MaskedAutoregressiveRQNSF, MultiscaleAffineCoupling, MultiscaleDeepDenseSigmoid, "
            "MultiscaleDeepSigmoid, MultiscaleDenseSigmoid, MultiscaleLRSNSF, MultiscaleNICE, MultiscaleRQNSF, "
            "MultiscaleRealNVP, NICE, RQSGlow, RealNVP, ShiftGlow, UMNNMAF")),
    row("Stochastic duration predictor", "of VITS", "refflow.models.StochasticDurations", remark="a model",
        piper="StochasticDurationPredictor", transformers="VitsStochasticDurationPredictor"),
    row("Residual coupling block", "of VITS",
        "Chain([AdditiveCoupling(passes, dense_network(rng, (2, 8, 2))), Permutation(np.arange(D)[::-1])])",
        piper="ResidualCouplingBlock", transformers="VitsResidualCouplingBlock"),
)
