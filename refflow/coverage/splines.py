"""Splines, as the libraries have them."""

from __future__ import annotations

from .row import row

ROWS = (
    row("RQ spline", "Durkan 2019", "RationalQuadraticSpline([-3.0, 0.0, 3.0], [-3.0, 1.0, 3.0], [1.0, 2.0, 1.0])",
        bayesflow="SplineTransform", bijectors_jl="RationalQuadraticSpline", bijx="MonotoneRQSpline, rational_quadratic_spline",
        distrax="RationalQuadraticSpline", flowjax="RationalQuadraticSpline", flowtorch="Spline(quadratic)",
        freia="ElementwiseRationalQuadraticSpline (not in 0.2)", nflows="PiecewiseRationalQuadraticCDF",
        normflows="PiecewiseRationalQuadraticCDF, unconstrained_rational_quadratic_spline",
        piper="unconstrained_rational_quadratic_spline", pyro="Spline(quadratic), ConditionedSpline",
        pzflow="RationalQuadraticSpline", survae="splines.rational_quadratic_spline", tfp="RationalQuadraticSpline",
        torchflows="ElementwiseRQSpline, RationalQuadratic", transformers="_unconstrained_rational_quadratic_spline",
        zuko="MonotonicRQSTransform"),
    row("Linear rational spline", "Dolatabadi 2020",
        "LinearRationalSpline([-3.0, 0.0, 3.0], [-3.0, 1.0, 3.0], [1.0, 2.0, 1.0], [0.5, 0.5])", flowtorch="Spline(linear)",
        pyro="Spline(linear, default)", torchflows="LinearRational"),
    row("Linear spline", "Muller 2019", "LinearSpline([-3.0, 0.0, 3.0], [-3.0, 1.0, 3.0])", freia="LinearSpline (not in 0.2)",
        nflows="PiecewiseLinearCDF", survae="splines.linear_spline", torchflows="spline.Linear"),
    row("Quadratic spline", "integral of piecewise-linear pdf", "QuadraticSpline([-3.0, 0.0, 3.0], [1.0, 1.0, 1.0], -3.0)",
        nflows="PiecewiseQuadraticCDF", survae="splines.quadratic_spline"),
    row("Cubic spline", "Durkan 2019b", "CubicSpline([-3.0, 0.0, 3.0], [-3.0, 1.0, 3.0], [1.0, 1.0])", nflows="PiecewiseCubicCDF",
        survae="splines.cubic_spline", torchflows="Cubic (no inverse)"),
    row("Circular RQ spline", "tied boundary slopes + phase",
        "Chain([CircularShift([-3.0, 3.0], 0.25), RationalQuadraticSpline([-3.0, 0.0, 3.0], [-3.0, 1.0, "
        '3.0], [1.0, 2.0, 1.0], "none")])',
        distrax="RationalQuadraticSpline(boundary_slopes=circular)",
        normflows="unconstrained_rational_quadratic_spline(tails=circular)", zuko="CircularRQSTransform"),
)
