"""Parts of speech models, as the libraries have them."""

from __future__ import annotations

from .row import row

ROWS = (
    row("Stochastic duration predictor", "of VITS", "refflow.models.StochasticDurations", remark="a model",
        piper="StochasticDurationPredictor", transformers="VitsStochasticDurationPredictor"),
    row("Residual coupling block", "of VITS",
        "Chain([AdditiveCoupling(passes, dense_network(rng, (2, 8, 2))), Permutation(np.arange(D)[::-1])])",
        piper="ResidualCouplingBlock", transformers="VitsResidualCouplingBlock"),
)
