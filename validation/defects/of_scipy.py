"""Defects of scipy.stats: distribution functions and quantiles are maps of a line or half a line to (0, 1), and back."""

from __future__ import annotations

from .entry import OWN, defect

ENDS = ("inverse of forward", "forward of inverse", "finite", "monotone", "log-det is the determinant of differences",
        "images differ by the integral of the slope", "the image is in the codomain")
BOX = """
from refflow.testing import BlackBox
from scipy import stats

d = stats.{distribution}
box = BlackBox(lambda q: (d.ppf(q), -d.logpdf(d.ppf(q))), d.cdf, domain=(0, 1), codomain={codomain})
"""


def quantile(distribution, name, probability, codomain, source=OWN):
    """A defect of a quantile, which is printed."""
    code = f"""
from scipy import stats
print(float(stats.{distribution}.ppf({probability})))
"""
    box = BOX.format(distribution=distribution, codomain=codomain)
    return defect("scipy", "1.17.1", name, source, ENDS, code, box)


@quantile("halfnorm()", "halfnorm's quantile is 0 below 1e-16", "1e-20", "(0, float('inf'))")
def of_halfnorm(m):
    return [m.sqrt(2) * m.erfinv(m.mpf(1e-20))]


@quantile("levy_l()", "levy_l's quantile is -inf below 1e-16", "1e-20", "(-float('inf'), 0)")
def of_levy_l(m):
    q = m.mpf(1e-20)                    # q = erf(1/sqrt(2 |x|)): 2 Phi(1/sqrt|x|) - 1
    return [-1 / (2 * m.erfinv(q) ** 2)]


@quantile("genhalflogistic(0.5)", "genhalflogistic's quantile is 0 below 1e-16", "1e-20", "(0, 2)")
def of_genhalflogistic(m):
    q = m.mpf(1e-20)
    return [2 * (1 - ((1 - q) / (1 + q)) ** m.mpf(0.5))]


@quantile("invgauss(0.14546264555347513)", "invgauss' quantile is huge for small probabilities", "1e-30", "(0, float('inf'))")
def of_invgauss(m):
    mu = m.mpf(0.14546264555347513)

    def log_cdf(x):
        a = m.sqrt(1 / x)
        return m.log(m.ncdf(a * (x / mu - 1)) + m.exp(2 / mu) * m.ncdf(-a * (x / mu + 1)))

    low, high = m.mpf("1e-4"), m.mpf("0.1")
    for _ in range(160):
        middle = (low + high) / 2
        low, high = (middle, high) if log_cdf(middle) < m.log(m.mpf(1e-30)) else (low, middle)
    return [low]


@defect("scipy", "1.17.1", "skewnorm.cdf is wrong in the short tail", "scipy/scipy#20643", ENDS, """
from scipy import stats
print(float(stats.skewnorm(4.0).cdf(-3.0)))
""", """
from refflow.testing import BlackBox
from scipy import stats

d = stats.skewnorm(4.0)
box = BlackBox(lambda x: (d.cdf(x), d.logpdf(x)), codomain=(0, 1))
""", missed="scipy takes 0.7 ms for a number, and the law of the integral asks 395,648 of them.")
def of_skewnorm(m):
    return [m.quad(lambda x: 2 * m.npdf(x) * m.ncdf(4 * x), [-m.inf, -12, -8, -5, -4, -3.5, -3])]


@defect("scipy", "1.17.1", "pearson3's quantile with negative skew is -inf below 1e-17", OWN, ENDS, """
from scipy import stats
print(float(stats.pearson3(-2.0).ppf(1e-20)))
""", """
from refflow.testing import BlackBox
from scipy import stats

d = stats.pearson3(-2.0)
box = BlackBox(lambda q: (d.ppf(q), -d.logpdf(d.ppf(q))), d.cdf, domain=(0, 1), codomain=(-float("inf"), 1))
""")
def of_pearson3(m):
    return [1 + m.log(m.mpf(1e-20))]    # of skew -2: 1 - x is exponential
