"""Distribution functions and quantiles, as the libraries have them."""

from __future__ import annotations

from .row import row

ROWS = (
    row("Normal CDF", "Phi((x-m)/s)", "NormalCDF()", bijx="GaussianCDF", tfp="NormalCDF",
        torch="CumulativeDistributionTransform(Normal)"),
    row("Cauchy CDF / quantile", "atan(x)/pi+1/2", "CauchyCDF(b, a)", remark="the quantile: Inverse(CauchyCDF(b, a))", bijx="Tan (quantile)",
        nflows="CauchyCDF, CauchyCDFInverse"),
    row("Half-Cauchy CDF", "2 atan(z/s)/pi", "HalfCauchyCDF(a)", torch="CumulativeDistributionTransform(HalfCauchy)"),
    row("Laplace CDF", "e^t/2, 1-e^-t/2", "LaplaceCDF(b, a)", torch="CumulativeDistributionTransform(Laplace)"),
    row("Gumbel CDF", "exp(-exp(-z))", "GumbelCDF(b, a)", distrax="GumbelCDF", tfp="GumbelCDF"),
    row("Weibull CDF", "1-exp(-(x/s)^k)", "WeibullCDF(a, b)", tfp="WeibullCDF", torch="CumulativeDistributionTransform(Weibull)"),
    row("Frechet CDF", "exp(-z^-a)", "frechet_cdf(0.0, a, 2.0)", tfp="FrechetCDF"),
    row("Gompertz CDF", "1-exp(-c(e^{bx}-1))", "gompertz_cdf(a, b)", tfp="GompertzCDF"),
    row("Shifted Gompertz CDF", "(1-e^{-bx})exp(-c e^{-bx})", missing="no page", tfp="ShiftedGompertzCDF"),
    row("GEV CDF", "exp(-(1+c z)^(-1/c))", "generalised_extreme_value_cdf(b, a, c)", tfp="GeneralizedExtremeValueCDF"),
    row("Generalized Pareto support", "softplus or shifted-sigmoid by sign(conc)", "OpenInterval([low, high])",
        remark="of a negative shape; of others, Chain([Softplus(), Affine(shift=low)])", tfp="GeneralizedPareto"),
    row("Kumaraswamy CDF", "1-(1-x^a)^b", "KumaraswamyCDF(a, b)", tfp="KumaraswamyCDF"),
    row("Moyal CDF", "erfc(exp(-z/2)/sqrt2)", "moyal_cdf(b, a)", tfp="MoyalCDF"),
    row("Rayleigh CDF", "1-exp(-x^2/2s^2)", "RayleighCDF(a)", tfp="RayleighCDF"),
    row("Generic distribution CDF", "F_D(x)",
        outside="its distribution is an argument; the distribution functions that have pages have rows of their own",
        bijectors_jl="CDFBijector, vector CDF", torch="CumulativeDistributionTransform"),
    row("Generic distribution quantile", "F_D^-1(u)", outside="likewise, through Inverse",
        bijectors_jl="QuantileBijector, vector Quantile", torch="CumulativeDistributionTransform.inv"),
    row("Gaussian-mixture CDF", "sum w Phi((x-m)/s)", "NormalMixtureCDF([0.25, 0.75], [-1.0, 2.0], [0.5, 1.0])",
        survae="GaussianMixture{Coupling,Autoregressive}Bijection"),
    row("Logistic-mixture CDF + logit", "logit(sum w sigmoid((x-m)/s))",
        "LogisticMixtureLogit([0.25, 0.75], [-1.0, 2.0], [0.5, 1.0])", survae="LogisticMixture*Bijection"),
    row("Censored logistic-mixture CDF", "discretised-logistic tails at 0/1",
        missing="LogisticMixtureCDF lacks the linear pieces at both ends", survae="CensoredLogisticMixture*Bijection"),
    row("Gaussianization (mixture-Phi)", "Phi^-1(mean Phi(e^{a_i}x+b_i))", "Gaussianization([1.0, 2.0], [0.5, -1.0])",
        zuko="GaussianizationTransform"),
)
