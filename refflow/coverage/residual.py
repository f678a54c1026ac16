"""Residual, planar and radial maps, as the libraries have them."""

from __future__ import annotations

from .row import row

ROWS = (
    row("Planar", "x+u h(w.x+b)", "Planar(w=v, b=b, u=u, slack=a)", remark="tanh; with a leaky ReLU: PiecewisePlanar",
        bijectors_jl="PlanarLayer", flowjax="Planar(tanh/leaky_relu)", normflows="Planar(tanh/leaky_relu)",
        pyro="Planar, ConditionedPlanar", torchflows="PlanarBijection (sigmoid), Planar"),
    row("Radial (Rezende)", "x+b h(a,r)(x-x0)", "Radial(v, a, b)", bijectors_jl="RadialLayer", normflows="Radial",
        pyro="Radial, ConditionedRadial", torchflows="RadialBijection, Radial"),
    row("Generalised radial / ray", "c+f(|S(x-c)|)v", missing="no page", bijx="Radial, RadialConditional, RayTransform"),
    row("Sylvester", "x+QR h(R~Q^T x+b)", "Sylvester(upper / 4, upper / 4, d, b * np.ones(D), d + 1)",
        remark="in the basis of an OrthogonalLinear on both sides", pyro="Sylvester",
        torchflows=("Identity, Householder, PermutationSylvester, Sylvester, SylvesterBijection, HouseholderSylvester, "
            "IdentitySylvester")),
    row("i-ResNet (contractive residual)", "x+g(x), Lip<1", "InvertibleResidual(contracting)", freia="IResNetLayer",
        remark="with the exact log-det; estimates of it by series are functions of noise, in maps.residual.series",
        normflows="Residual",
        torchflows="InvertibleResNetBlock, InvertibleResNet, ConvolutionalInvertibleResNet, ConvolutionalInvertibleResNetBlock"),
    row("ResFlow (Russian roulette)", "unbiased logdet", outside="its log-det is an estimate; the map is a contractive residual",
        normflows="Residual (geometric/poisson)",
        torchflows="ResFlowBlock, ResFlow, ConvolutionalResFlow, ConvolutionalResFlowBlock"),
    row("Highway flow (volume-preserving-ish residual)", "lambda x + (1-lambda) f(x), triangular f", missing="no page",
        tfp="experimental HighwayFlow"),
    row("Proximal ResFlow", "x+gamma R(x), averaged operator", missing="no network of tied orthonormal matrices",
        torchflows="ProximalResFlowBlock, ProximalResFlow"),
)
