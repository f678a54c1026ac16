"""Ways to combine maps, as the libraries have them."""

from __future__ import annotations

from .row import row

ROWS = (
    row("Chain / compose", "", "Chain([Exp(), Affine()])", bijectors_jl="ComposedFunction", bijx="Chain, ScanChain",
        distrax="Chain", distreqx="Chain", flowjax="Chain, Scan", flowtorch="Compose", freia="SequenceINN, GraphINN",
        invertible_networks_jl="ComposedInvertibleNetwork", nflows="CompositeTransform", normflows="Composite",
        numpyro="ComposeTransform", pymc="ChainedTransform, Chain", pyro="ComposeTransformModule", pzflow="Chain",
        surjectors="Chain",
        survae="SequentialTransform", tfp="Chain, Composition", torch="ComposeTransform", torchflows="BijectiveComposition",
        zuko="ComposedTransform"),
    row("Invert", "", "Inverse(Exp())", bijectors_jl="Inverse", bijx="Inverse, CondInverse", distrax="Inverse", flowjax="Invert",
        flowtorch="Invert", freia="Inverse (not in 0.2)", invertible_networks_jl="reverse()", nflows="InverseTransform",
        normflows="Reverse", numpyro="_InverseTransform", survae="InverseFlow", tfp="Invert", torch="_InverseTransform",
        zuko="LazyInverse"),
    row("Independent / Block / Vmap", "", "Independent(Exp(), 1)", remark="over channels Pointwise, over positions Positionwise",
        bijectors_jl="elementwise", distrax="Block", distreqx="Block", flowjax="Vmap", numpyro="IndependentTransform",
        torch="IndependentTransform",
        zuko="DependentTransform"),
    row("Lambda / inline", "", outside="a page is a class: @bijector(register=False)", distrax="Lambda", tfp="Inline"),
    row("Numerical inverse wrapper", "bisection/secant", outside="an inverse belongs to its page", flowjax="NumericalInverse",
        survae="functional.iterative_inversion", tfp="experimental ScalarFunctionWithInferredInverse", torchflows="bisection()",
        zuko="MonotonicTransform"),
    row("Sandwich / conjugate", "", "Chain([OrthogonalLinear(Q), Tanh(), OrthogonalLinear(Q.T)])", flowjax="Sandwich",
        nflows="CompositeCDFTransform"),
    row("Condition embedding", "", "Contextual(Sequential([Dense(V[:D], np.zeros(D)), ReLU()]))", flowjax="EmbedCondition"),
    row("Freeze", "", outside="fit(fixed=[...]) keeps fields", bijx="Frozen"),
    row("Fixed arguments", "f(x, **kwargs)", outside="a map is called with an event alone", bijx="Partial"),
    row("Cross-library bridge", "", outside="refflow.peers checks other libraries, and does not run them",
        bijx="FlowjaxToBijx*, BijxToFlowjax*", distrax="BijectorFromTFP", flowjax="experimental.numpyro"),
    row("Classes that are no maps", "base classes, masks and networks", outside="a base class, a mask or a network",
        bayesflow=("CholeskyFactor, Distribution, FixedPermutation, InferenceNetwork, InvertibleLayer, OrderedQuantiles, PointNetwork, "
            "ScoringRuleNetwork, Transform"),
        bijx="ApplyBijection, BinaryMask, MetaLayer, ScalarBijection", distrax="Linear",
        distreqx=("AbstractForwardInverseBijector, AbstractFwdLogDetJacBijector, "
            "AbstractInvLogDetJacBijector, AbstractLinearBijector"),
        flowtorch="AffineOp, Autoregressive, Elementwise, Fixed, SplineOp, VolumePreserving",
        nflows="Linear, PiecewiseCouplingTransform", normflows="PiecewiseCoupling", numpyro="ParameterFreeTransform",
        piper=("ConvReluNorm, DDSConv, DiscriminatorP, DiscriminatorR, DiscriminatorS, DurationPredictor, Generator, LayerNorm, "
            "MultiPeriodDiscriminator, MultiResolutionDiscriminator, PosteriorEncoder, ResBlock1, ResBlock2, SynthesizerTrn, "
            "TextEncoder, WN"),
        pyro="TransformModule", pzflow="Bijector, DenseReluNetwork, ForwardFunction, InitFunction, InverseFunction",
        tfp="AutoCompositeTensorBijector",
        transformers=("GradientCheckpointingLayer, HifiGanResidualBlock, PreTrainedModel, VitsAttention, "
            "VitsDilatedDepthSeparableConv, VitsDurationPredictor, VitsEncoder, VitsEncoderLayer, VitsFeedForward, VitsHifiGan, "
            "VitsModel, VitsPosteriorEncoder, VitsPreTrainedModel, VitsTextEncoder, VitsWaveNet"),
        torchflows=("AutoregressiveArchitecture, AutoregressiveBijection, BaseSylvester, ClassicResidualBijection, "
            "Combination, ConvolutionalCouplingBijection, ElementwiseBijection, Integration, "
            "InverseMaskedAutoregressiveBijection, InvertibleMatrix, IterativeResidualBijection, MonotonicSpline, "
            "NormalizedChannelWiseCoupling, NormalizedCheckerboardCoupling, ResidualArchitecture, "
            "ScalarTransformer, TensorTransformer")),
)
