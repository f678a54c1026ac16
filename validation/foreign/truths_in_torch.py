"""The equations of maps of nflows and FrEIA, for `truths`: its splines of (0, 1), given unnormalised parameters, with their defaults."""

from __future__ import annotations

from dataclasses import replace

from mpmath import mp, mpf

from .truths import EQUATIONS, TANH, Equation, cauchy, log_sum, logistic, of, plain

LEAST = mpf(1e-3)                       # of widths, of heights, and of slopes
BINS = 5


def softmax(numbers):
    total = sum(mp.exp(t) for t in numbers)
    return [mp.exp(t) / total for t in numbers]


def shares(numbers):
    """Widths or heights of at least LEAST."""
    return [LEAST + (1 - LEAST * len(numbers)) * share for share in softmax(numbers)]


def bin_of(widths, z):
    """(number, left edge) of the bin of z."""
    left, k = mpf(0), 0
    while k < len(widths) - 1 and z >= left + widths[k]:
        left, k = left + widths[k], k + 1
    return k, left


def linear_spline(z, *pdf):
    heights = softmax(pdf)
    k, left = bin_of([mpf(1) / BINS] * BINS, z)
    return sum(heights[:k], mpf(0)) + (z - left) * BINS * heights[k]


def quadratic_spline(z, *parameters):
    """Slopes at the edges are the second part, normalised to a mean of 1; between the edges they are linear."""
    widths, slopes = shares(parameters[:BINS]), [log_sum(t) + LEAST for t in parameters[BINS:]]
    area = sum((a + b) / 2 * w for a, b, w in zip(slopes, slopes[1:], widths))
    slopes = [LEAST + (1 - LEAST) * slope / area for slope in slopes]
    below = [(a + b) / 2 * w for a, b, w in zip(slopes, slopes[1:], widths)]
    k, left = bin_of(widths, z)
    t = (z - left) / widths[k]
    return sum(below[:k], mpf(0)) + widths[k] * (slopes[k] * t + (slopes[k + 1] - slopes[k]) * t * t / 2)


def cubic_spline(z, *parameters):
    """Steffen's slopes at the inner edges; those at the ends are a share of three times the slope beside them."""
    widths, heights = shares(parameters[:BINS]), shares(parameters[BINS:2 * BINS])
    s = [h / w for h, w in zip(heights, widths)]
    inner = [2 * min(s[k], s[k + 1], (widths[k + 1] * s[k] + widths[k] * s[k + 1]) / (2 * (widths[k] + widths[k + 1])))
             for k in range(BINS - 1)]
    slopes = [3 * logistic(parameters[-2]) * s[0], *inner, 3 * logistic(parameters[-1]) * s[-1]]
    k, left = bin_of(widths, z)
    t, w = z - left, widths[k]
    a = (slopes[k] + slopes[k + 1] - 2 * s[k]) / w**2
    b = (3 * s[k] - 2 * slopes[k] - slopes[k + 1]) / w
    return sum(heights[:k], mpf(0)) + ((a * t + b) * t + slopes[k]) * t


def rational_quadratic_spline(z, *parameters):
    widths, heights = shares(parameters[:BINS]), shares(parameters[BINS:2 * BINS])
    slopes = [LEAST + log_sum(t) for t in parameters[2 * BINS:]]
    k, left = bin_of(widths, z)
    t, mean = (z - left) / widths[k], heights[k] / widths[k]
    below = mean + (slopes[k] + slopes[k + 1] - 2 * mean) * t * (1 - t)
    return sum(heights[:k], mpf(0)) + heights[k] * (mean * t * t + slopes[k] * t * (1 - t)) / below


def log_tanh(z):
    """tanh inside (-1, 1), and alpha log(beta z) beyond, so that values and slopes are meant to agree."""
    alpha = 1 - mp.tanh(mp.tanh(1))
    beta = mp.exp(mp.tanh(1) / alpha)
    return mp.tanh(z) if abs(z) <= 1 else mp.sign(z) * alpha * mp.log(beta * abs(z))


EQUATIONS.update({
    ("nflows", "Tanh"): TANH, ("nflows", "LogTanh"): Equation(log_tanh), ("nflows", "Sigmoid"): of(logistic, plain),
    ("nflows", "LeakyReLU"): Equation(lambda z: z if z > 0 else mpf(1e-2) * z),
    ("nflows", "CauchyCDF"): of(cauchy, plain), ("nflows", "CauchyCDFInverse"): replace(of(cauchy, plain), inverse=True),
    ("freia", "InvertibleSigmoid"): of(logistic, plain), ("freia", "LearnedElementwiseScaling"): Equation(lambda z, s: z * mp.exp(s)),
} | {("nflows", f"splines.{F.__name__}"): Equation(F) for F in (linear_spline, quadratic_spline, cubic_spline, rational_quadratic_spline)})
