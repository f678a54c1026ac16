"""Parts of multiscale models, as the libraries have them."""

from __future__ import annotations

from .row import row

ROWS = (
    row("Split/factor-out", "factor half the dims to base", "FactorOut(np.array([True, False]), Reshape((1, 2, 2), (4,)))",
        invertible_networks_jl="NetworkGlow(split_scales)", nflows="MultiscaleCompositeTransform",
        normflows="MultiscaleFlow", survae="Slice", tfp="Glow Exit (not on JAX)", torchflows="MultiscaleBijection"),
    row("Glow step", "actnorm+1x1+coupling", "image_coupling(masks.channels([True, False], 3))",
        remark="after Pointwise(ActNorm) and Pointwise(OrthogonalLinear)", freia="AllInOneBlock",
        invertible_networks_jl="CouplingLayerGlow+ActNorm", normflows="GlowBlock", tfp="Glow (not on JAX)",
        torchflows="GlowCheckerboard, ChannelWiseCoupling, GlowChannelWiseCoupling, Invertible1x1ConvolutionalCoupling"),
    row("Checkerboard coupling", "coupling on checkerboard mask",
        "AffineCoupling(masks.checkerboard(1, 4, 4), dense_network(rng, (8, 8, 16)))",
        normflows="AffineCouplingBlock(split_mode=checkerboard)",
        torchflows="CheckerboardCoupling, GlowCheckerboardCoupling"),
)
