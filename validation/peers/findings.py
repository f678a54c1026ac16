"""What was found in other libraries: a reproduction of each, and its true value from the equation.

The code of a reproduction prints one value for each line; `true(m)` returns the same values, from the equation alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

KINDS = {"defect": "Defects", "range": "Right in the middle of the range only", "choice": "Choices, not defects",
         "right": "Right where others are not"}


@dataclass(frozen=True)
class Finding:
    """One finding: the library, what it is, the leaves that it is about, the equation, a reproduction, and the true values."""

    library: str
    name: str
    kind: str
    leaves: tuple
    equation: str
    text: str
    code: str
    true: Callable


FINDINGS: list[Finding] = []


def finding(library, name, kind, leaves, equation, text, code):
    """A decorator of the true values of a finding; `leaves`: names between spaces, none for a map that has no leaf."""
    def add(true):
        FINDINGS.append(Finding(library, name, kind, tuple(leaves.split()), equation, text, code, true))
        return true

    return add


def log_slope(m, f, z):
    """log|f'(z)|, by a difference with half as many digits again."""
    with m.workdps(2 * m.mp.dps):
        return m.log(abs(m.diff(f, z)))


def sigmoid(m, z):
    return 1 / (1 + m.exp(-m.mpf(z)))


# -- torch ------------------------------------------------------------------------------------------------------------

@finding("torch", "AffineTransform counts one scale for a whole event", "defect", "Affine",
         "log|det dx/dz| = sum_i log|scale| = 2 log|scale|", """
With event_dim=1 and a scale that is a tensor without axes, the log-det of an event of two entries is that of one entry. With
a Python number as scale it is right.""", """
import torch
from torch.distributions.transforms import AffineTransform
t = AffineTransform(0.0, torch.tensor(3.0, dtype=torch.float64), event_dim=1)
z = torch.zeros(2, dtype=torch.float64)
print(t.log_abs_det_jacobian(z, t(z)).item())
t = AffineTransform(0.0, 3.0, event_dim=1)
print(t.log_abs_det_jacobian(z, t(z)).item())
""")
def two_scales(m):
    return [2 * m.log(3)] * 2


@finding("torch", "the normal quantile in float32 is -inf from 1.5e-8 down", "defect", "NormalCDF",
         "z = Phi^-1(x)", """
The inverse of CumulativeDistributionTransform(Normal(0, 1)) computes erfinv(2 x - 1), in which 2 x - 1 rounds to -1. In
float64 the same happens below 2.8e-17.""", """
import torch
from torch.distributions import Normal
from torch.distributions.transforms import CumulativeDistributionTransform
t = CumulativeDistributionTransform(Normal(torch.tensor(0.0), torch.tensor(1.0)))
print(t.inv(torch.tensor(1e-8)).item())
""")
def quantile(m):
    x = m.mpf(float.fromhex("0x1.5798ee0000000p-27"))            # 1e-8 in float32
    return [m.findroot(lambda z: m.log(m.erfc(-z / m.sqrt(2)) / 2) - m.log(x), -5.6)]


@finding("torch", "StickBreakingTransform clips its log-det", "defect", "StickBreaking",
         "x = (sigmoid(z), 1 - sigmoid(z)),   log|det| = log(sigmoid(z) (1 - sigmoid(z)))", """
The sigmoid is clipped to the normal numbers, so that the log-det stays at log(2.2e-308) however far z goes, and its gradient
is lost.""", """
import torch
from torch.distributions.transforms import StickBreakingTransform
t = StickBreakingTransform()
z = torch.tensor([-1000.0], dtype=torch.float64)
print(t.log_abs_det_jacobian(z, t(z)).item())
""")
def sticks(m):
    return [m.log(sigmoid(m, -1000)) + m.log(sigmoid(m, 1000))]


@finding("torch", "StickBreakingTransform takes the last part as 1 minus the others", "defect", "StickBreaking",
         "x_2 = 1 - sigmoid(z) = 1/(1 + exp(z))", """
The last part of the simplex is 1 minus the sum of the others: at z = 30 it keeps three digits of sixteen, and the way back
does not return 30.""", """
import torch
from torch.distributions.transforms import StickBreakingTransform
t = StickBreakingTransform()
x = t(torch.tensor([30.0], dtype=torch.float64))
print(x[1].item())
print(t.inv(x).item())
""")
def last_stick(m):
    return [1 / (1 + m.exp(30)), 30]


@finding("torch", "softplus is linear above 20, as documented; SigmoidTransform's log-det inherits it", "choice", "Sigmoid Softplus",
         "x = log(1 + exp(z));   log dx/dz = -log(1 + exp(-z)) - log(1 + exp(z))", """
The documentation of softplus gives the threshold of 20. In float64, the difference from the linear part loses ten of its sixteen
digits there; the log-det of SigmoidTransform, which is a sum of two softplus, loses half of its small term.""", """
import torch
from torch.distributions.transforms import SigmoidTransform, SoftplusTransform
z = torch.tensor(20.1, dtype=torch.float64)
print(SoftplusTransform()(z).item())
s = SigmoidTransform()
print(s.log_abs_det_jacobian(z, s(z)).item())
""")
def thresholds(m):
    z = m.mpf(20.1)
    return [m.log(1 + m.exp(z)), -m.log(1 + m.exp(-z)) - m.log(1 + m.exp(z))]


@finding("torch", "TanhTransform's log-det near 0 has an absolute error of an ulp of 1", "range", "Tanh",
         "log dx/dz = log(1 - tanh(z)^2)", """
The formula 2 (log 2 - z - softplus(-2 z)) is right for large z, where log(1 - tanh^2) fails. Near 0 all its digits cancel:
the relative error is unbounded, the absolute error 2e-16, which in a sum of log-dets is nothing.""", """
import torch
from torch.distributions.transforms import TanhTransform
t = TanhTransform()
for z in (1e-8, 4e-5, 100.0):
    z = torch.tensor(z, dtype=torch.float64)
    print(t.log_abs_det_jacobian(z, t(z)).item())
""")
def tanh_near_0(m):
    return [-2 * m.log(m.cosh(m.mpf(z))) for z in (1e-8, 4e-5, 100.0)]


@finding("torch", "a scale after StickBreakingTransform counts one dimension too many", "defect", "Chain StickBreaking",
         "y = 2 x with x on the simplex of K entries has K - 1 coordinates:   log|det dy/dz| = log|det dx/dz| + (K - 1) log 2", """
StickBreakingTransform counts volumes by the K - 1 coordinates of the simplex, and AffineTransform after it counts all K entries. A
density through ComposeTransform of the two is 2 times too small, and nothing refuses it. At z = 0 all entries of x are 1/K, and
log|det dx/dz| is -K log K; here K is 5, then 2.""", """
import torch
from torch.distributions.transforms import AffineTransform, ComposeTransform, StickBreakingTransform
t = ComposeTransform([StickBreakingTransform(), AffineTransform(0.0, 2.0)])
for z in (torch.zeros(4, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)):
    print(t.log_abs_det_jacobian(z, t(z)).item())
""")
def scaled_sticks(m):
    return [-K * m.log(K) + (K - 1) * m.log(2) for K in (5, 2)]


@finding("torch", "the CDF of Cauchy is 0 in its left tail, and its log-det is infinite far out", "range", "CauchyCDF",
         "x = 1/2 + arctan(z)/pi = arctan2(1, -z)/pi;   log dx/dz = -log(pi (1 + z^2))", """
CumulativeDistributionTransform(Cauchy) adds 1/2 to an arctangent that is near -1/2: the left tail loses its digits, and x is 0 from
about -3e16 down in float64, from -1e8 down in float32. In the log-det z^2 overflows, in float32 from 2e19 on. The inverse, a
tangent of pi (x - 1/2), does not return. Each line is of another latent: -10, -1e15 and -1e17 in float64, -1e8 in float32; the
last two are log-dets, at -1e200 in float64 and -1e20 in float32.""", """
import torch
from torch.distributions import Cauchy
from torch.distributions.transforms import CumulativeDistributionTransform
def cdf(dtype):
    return CumulativeDistributionTransform(Cauchy(torch.zeros((), dtype=dtype), torch.ones((), dtype=dtype)))
def latent(z, dtype):
    return torch.tensor(z, dtype=dtype)
for z, dtype in ((-10.0, torch.float64), (-1e15, torch.float64), (-1e17, torch.float64), (-1e8, torch.float32)):
    print(cdf(dtype)(latent(z, dtype)).item())
for z, dtype in ((-1e200, torch.float64), (-1e20, torch.float32)):
    t = cdf(dtype)
    print(t.log_abs_det_jacobian(latent(z, dtype), t(latent(z, dtype))).item())
""")
def cauchy(m):
    far = [m.mpf(-1e200), m.mpf(float.fromhex("-0x1.5af1d80000000p+66"))]               # -1e20 in float32
    return [m.atan2(1, -m.mpf(z)) / m.pi for z in (-10.0, -1e15, -1e17, -1e8)] + [-m.log(m.pi * (1 + z * z)) for z in far]


@finding("torch", "the CDF of Gumbel rounds its tails away and raises there", "range", "GumbelCDF",
         "x = exp(-exp(-z));   log dx/dz = -z - exp(-z)", """
CumulativeDistributionTransform(Gumbel) asks a uniform variable from the least normal number to 1 - eps. Where x lies beyond these,
the distribution refuses a value of its own with a ValueError: in float64 from z = 36.7 on and below -6.56, in float32 from 16.6 on and
below -4.46. The uniform value then passes through (x - 1/2) + 1/2: the left tail loses its digits, and x is 0 from z = -3.7 down. The
lines are of z = -3, -4 and 40.""", """
import torch
from torch.distributions import Gumbel
from torch.distributions.transforms import CumulativeDistributionTransform
t = CumulativeDistributionTransform(Gumbel(torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)))
for z in (-3.0, -4.0, 40.0):
    print(t(torch.tensor(z, dtype=torch.float64)).item())
""")
def gumbel(m):
    return [m.exp(-m.exp(-m.mpf(z))) for z in (-3, -4, 40)]


# -- nflows -----------------------------------------------------------------------------------------------------------

@finding("nflows", "LeakyReLU's log-det is a float32 constant", "defect", "LeakyReLU",
         "log dx/dz = log(0.01) for z < 0", """
The logarithm of the slope is computed once, in float32: in float64 every log-det of a negative entry is off by 6e-8.""", """
import torch
from nflows.transforms import LeakyReLU
print(LeakyReLU(0.01).forward(torch.tensor([[-1.0]], dtype=torch.float64))[1].item())
""")
def log_of_slope(m):
    return [m.log(m.mpf(0.01))]


@finding("nflows", "PiecewiseQuadraticCDF jumps in density at the tails", "defect", "QuadraticSpline",
         "log|df/dx| = 0 at the ends of the interval", """
The heights at the end knots are to be 1 after normalisation, by a comment of the code, as the slope of the linear tails is. The
equation for them takes a quarter of the end bins where a half is right. Here: four equal bins with equal raw numbers, at the
upper end and just beyond it.""", """
import torch
from nflows.transforms import PiecewiseQuadraticCDF
t = PiecewiseQuadraticCDF([1], num_bins=4, tails="linear").double()
torch.nn.init.zeros_(t.unnormalized_widths)
torch.nn.init.zeros_(t.unnormalized_heights)
for x in (1.0, 1.000001):
    _, log_det = t(torch.tensor([[x]], dtype=torch.float64))
    print(log_det.item())
""")
def heights_of_one(m):
    return [0, 0]


@finding("nflows", "PiecewiseQuadraticCDF has no inverse where two heights are equal", "defect", "QuadraticSpline",
         "x = x_k + w (d_k t + (d_(k+1) - d_k) t^2/2)", """
The root of the quadratic is divided by 2 a, and a = 0 where the heights at both ends of a bin are equal: 0/0. With raw
numbers 0 that is every inner bin.""", """
import torch
from nflows.transforms import PiecewiseQuadraticCDF
t = PiecewiseQuadraticCDF([1], num_bins=4, tails="linear").double()
for p in t.parameters():
    p.data.zero_()
x = t.forward(torch.tensor([[0.25]], dtype=torch.float64))[0]
print(x.item())
print(t.inverse(x)[0].item())
""")
def zeros_of_the_quadratic(m):
    inner = m.log(2) + m.mpf(1e-3)
    end = inner * 5 / 7                                         # nflows: from the heights beside it
    area = (end + 3 * inner) / 4
    d, d_end = (m.mpf(1e-3) + (1 - m.mpf(1e-3)) * v / area for v in (inner, end))
    return [2 * ((d_end + d) / 8 + d / 4 + d / 8) - 1, m.mpf(1) / 4]


@finding("nflows", "PiecewiseLinearCDF's inverse uses other knots than its forward", "defect", "LinearSpline",
         "z = x, the identity;   log dz/dx = 0", """
Its equal bins are made in float32, and the search for a bin adds 1e-6 to the last knot of the array that the formula then
reads. In float64 the inverse and its log-det are right to seven digits, and to six in the last bin.""", """
import torch
from nflows.transforms import PiecewiseLinearCDF
t = PiecewiseLinearCDF([1], num_bins=3, tails="linear").double()
t.unnormalized_pdf.data.zero_()
for x in (0.1, 0.9):
    z, log_det = t.inverse(torch.tensor([[x]], dtype=torch.float64))
    print(z.item())
    print(log_det.item())
""")
def identity_with_log_dets(m):
    return [m.mpf(0.1), 0, m.mpf(0.9), 0]


@finding("nflows", "Tanh's log-det is -inf from 19.1 on", "defect", "Tanh",
         "log dx/dz = log(1 - tanh(z)^2)", """
1 - tanh^2 is computed from the rounded tanh: nothing is left at 20 (in float32 at 10), and half of the digits at 13.""", """
import torch
from nflows.transforms import Tanh
for z in (13.0, 20.0):
    print(Tanh().forward(torch.tensor([[z]], dtype=torch.float64))[1].item())
""")
def log_dets_of_tanh(m):
    return [-2 * m.log(m.cosh(m.mpf(z))) for z in (13, 20)]


@finding("nflows", "LogTanh's slope jumps at its cut point", "defect", "LogTanh",
         "log dx/dz = log(alpha/z) for z > c, with alpha/c = 1 - tanh(c)^2", """
Its docstring says that alpha and beta match the value and the first derivative of tanh at the cut point c = 1. The code has
alpha = (1 - tanh(tanh(c)))/c: the slope falls from 0.42 to 0.36 there. The map remains invertible and its log-det is that of
the map; it is the documented map that it is not.""", """
import torch
from nflows.transforms import LogTanh
print(LogTanh(1).forward(torch.tensor([[1.0 + 1e-9]], dtype=torch.float64))[1].item())
""")
def slope_after_the_cut(m):
    return [m.log((1 - m.tanh(1)**2) / m.mpf(1 + 1e-9))]


@finding("nflows", "CauchyCDF ignores its location and its scale", "defect", "CauchyCDF",
         "x = 1/2 + arctan((z - location)/scale)/pi;   log dx/dz = -log(pi scale (1 + ((z - location)/scale)^2))", """
The constructor takes location, scale and features, and keeps none of them: the map is the standard one. CauchyCDFInverse passes them
on, to no effect.""", """
import torch
from nflows.transforms.nonlinearities import CauchyCDF
t = CauchyCDF(location=3.0, scale=2.0)
x, log_det = t(torch.zeros(1, 1, dtype=torch.float64))
print(x.item())
print(log_det.item())
""")
def moved_cauchy(m):
    d = m.mpf(-3) / 2
    return [m.mpf(1) / 2 + m.atan(d) / m.pi, -m.log(2 * m.pi * (1 + d**2))]


@finding("nflows", "NaiveLinear has no inverse with a torch of today", "defect", "DenseLinear",
         "z = W^-1 (x - b)", """
It calls torch.solve, which torch has removed.""", """
import torch
from nflows.transforms.linear import NaiveLinear
t = NaiveLinear(1)
t._weight.data.fill_(2.0)
print(t.inverse(torch.tensor([[1.0]]))[0].item())
""")
def half(m):
    return [m.mpf(1) / 2]


@finding("nflows", "Sigmoid's inverse clamps at its eps", "choice", "Sigmoid",
         "z = log(x/(1 - x))", """
`eps=1e-6` is an argument of the constructor. Below it the inverse, its log-det and its gradient stay at their values at 1e-6.""", """
import torch
from nflows.transforms import Sigmoid
print(Sigmoid().inverse(torch.tensor([[1e-9]], dtype=torch.float64))[0].item())
""")
def logit_of_1e_9(m):
    return [m.log(m.mpf(1e-9) / (1 - m.mpf(1e-9)))]


@finding("nflows", "SqueezeTransform has no inverse but for an even factor", "defect", "Squeeze",
         "the inverse of the image of z is z, of 9 entries for the factor 3", """
The inverse asks for a multiple of 4 channels, where the square of the factor is meant: 9 channels, which the factor 3 makes of one, are
refused.""", """
import torch
from nflows.transforms import SqueezeTransform
t = SqueezeTransform(3)
x, _ = t(torch.ones(1, 1, 3, 3))
try:
    print(t.inverse(x)[0].numel())
except ValueError:
    print(0)
""")
def nine_entries(m):
    return [9]


# -- normflows --------------------------------------------------------------------------------------------------------

@finding("normflows", "transforms.Shift writes to its input", "defect", "Affine",
         "z is not changed", """
`z -= self.shift`: after the call, the caller's tensor holds the image.""", """
import torch
from normflows.transforms import Shift
z = torch.tensor([[1.0]])
Shift(-0.5).forward(z)
print(z.item())
""")
def unchanged(m):
    return [1]


@finding("normflows", "transforms.Logit is not the map of its docstring", "defect", "Sigmoid",
         "x = logit(alpha + (1 - alpha) z)", """
The docstring, and the RealNVP paper that it cites, squeeze data by 1 - alpha; the code by 1 - 2 alpha. It and its log-det are
consistent with each other.""", """
import torch
from normflows.transforms import Logit
print(Logit(alpha=0.05).inverse(torch.tensor([[0.25]], dtype=torch.float64))[0].item())
""")
def logit_of_the_paper(m):
    v = m.mpf(0.05) + (1 - m.mpf(0.05)) / 4
    return [m.log(v / (1 - v))]


@finding("normflows", "constant log-dets are one number for a batch", "choice", "Affine GlowActNorm",
         "one log-det for each of three events", """
AffineConstFlow, ActNorm and linear flows return a log-det without axes, Squeeze the Python number 0. They broadcast where a
model adds them; whoever takes a flow by itself meets another shape.""", """
import torch
from normflows.flows import AffineConstFlow
print(AffineConstFlow((2,)).forward(torch.zeros(3, 2))[1].numel())
""")
def three_log_dets(m):
    return [3]


@finding("normflows", "Composite adds log-dets in float32", "defect", "Chain",
         "log|det| = s_1 + s_2, here 1/3 + 1/3 in float64", """
The total starts as zeros of torch's default dtype, to which log-dets of float64 are added in place: they lose nine of their
sixteen digits. So does the gradient of the log-det.""", """
import torch
from normflows.flows import Composite, Flow
class Scaled(Flow):
    def forward(self, z):
        s = torch.full((1,), 1 / 3, dtype=torch.float64)
        return z * s.exp(), s
print(Composite([Scaled(), Scaled()])(torch.ones(1, 1, dtype=torch.float64))[1].item())
""")
def two_thirds(m):
    return [2 * m.mpf(1 / 3)]


# -- zuko -------------------------------------------------------------------------------------------------------------

@finding("zuko", "RotationTransform's gradient loses digits where its cotangent is large", "range", "RotationLinear",
         "x = exp(A - A^T) z;   dL/dA_12 = d/dt L(exp(A - A^T + t (E_12 - E_21)) z) at t = 0,   L = c (x_1 + x_2 + x_3)", """
A gradient is linear in the cotangent: divided by c, it is the same for every power of two c. torch.linalg.matrix_exp takes it from the
exponential of a block matrix that holds the cotangent, and chooses the number of squarings by the norm of the whole. A large cotangent
costs half of the digits.""", """
import torch
from zuko.transforms import RotationTransform
for c in (1.0, 2.0**40):
    A = torch.tensor([[0.0, -0.5, 0.25], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    x = RotationTransform(A)(torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
    print(torch.autograd.grad(c * x.sum(), A)[0][0, 1].item() / c)
""")
def turned(m):
    def total(t):
        S = m.matrix([[0, t - m.mpf(1) / 2, m.mpf(1) / 4], [m.mpf(1) / 2 - t, 0, 1], [-m.mpf(1) / 4, -1, 0]])
        return sum(m.expm(S)[i, 1] for i in range(3))

    with m.workdps(3 * m.mp.dps):
        return [m.diff(total, 0)] * 2


@finding("zuko", "GaussianizationTransform saturates at 4.89", "defect", "Gaussianization",
         "f(x) = Phi^-1(mean_i Phi(exp(a_i) x + b_i)) = x for K = 1, a = b = 0", """
The mean is multiplied by 1 - 1e-6 before erfinv, which the docstring's equation does not have. With one component, scale 0
and shift 0 the map is the identity; the image stops at 4.89, and the log-det falls without bound where it should be 0.""", """
import torch
from zuko.transforms import GaussianizationTransform
t = GaussianizationTransform(torch.zeros(1).double(), torch.zeros(1).double())
for x in (1.0, 4.0, 6.0):
    y, log_det = t.call_and_ladj(torch.tensor(x, dtype=torch.float64))
    print(y.item())
    print(log_det.item())
""")
def the_identity(m):
    return [1, 0, 4, 0, 6, 0]


@finding("zuko", "BoundedBernsteinTransform jumps at its bounds", "defect", "BernsteinPolynomial", "f(x) = x for |x| > B", """
Beyond the bounds the map is the identity, by its docstring. The code takes the ends of this line for images of points 1e-6 of the
interval inside the bounds: all values beyond are off by 2e-6 B, and the image has gaps of that size at the bounds.""", """
import torch
from zuko.transforms import BoundedBernsteinTransform
t = BoundedBernsteinTransform(torch.zeros(3, dtype=torch.float64))
for x in (-6.0, 4.99998, 5.00001, 6.0):
    print(t(torch.tensor(x, dtype=torch.float64)).item())
""")
def equal_steps(m):
    """Equal numbers give equal steps: the polynomial is the identity too."""
    return [m.mpf(x) for x in (-6.0, 4.99998, 5.00001, 6.0)]


@finding("zuko", "SoftclipTransform is right everywhere", "right", "Softsign",
         "x = z/(1 + |z|),   log dx/dz = -2 log(1 + |z|)", """
log1p, and no clip: values, inverses and log-dets within 2 units of rounding over the whole range.""", """
import torch
from zuko.transforms import SoftclipTransform
for z in (1e-12, -3e8):
    y, log_det = SoftclipTransform(1.0).call_and_ladj(torch.tensor(z, dtype=torch.float64))
    print(y.item())
    print(log_det.item())
""")
def softclip(m):
    return [v for z in (m.mpf(1e-12), m.mpf(-3e8)) for v in (z / (1 + abs(z)), -2 * m.log(1 + abs(z)))]


# -- Pyro -------------------------------------------------------------------------------------------------------------

@finding("pyro", "Spline evaluates the wrong bin within 1e-6 above a knot", "defect", "LinearRationalSpline RationalQuadraticSpline",
         "x = h (s t^2 + d_0 t (1 - t))/(s + (d_1 + d_0 - 2 s) t (1 - t)) in the bin of z", """
The search for a bin adds eps = 1e-6 to the knots. Just above a knot the formula of the bin below is continued beyond its end:
the log-det is off by up to 1e-6 times the jump of its derivative. Here: equal bins on [-1, 1], slope log 2 + 0.001
at 0.""", """
import torch
from pyro.distributions.transforms import Spline
t = Spline(1, count_bins=2, bound=1.0, order="quadratic").double()
for p in t.parameters():
    p.data.zero_()
z = torch.tensor([9e-7], dtype=torch.float64)
print(t.log_abs_det_jacobian(z, t(z)).item())
""")
def above_the_knot(m):
    d_0, d_1 = m.log(2) + m.mpf(1e-3), 1 - m.mpf(1e-3)
    return [log_slope(m, lambda t: (t**2 + d_0 * t * (1 - t)) / (1 + (d_1 + d_0 - 2) * t * (1 - t)), m.mpf(9e-7))]


@finding("pyro", "ELUTransform's inverse adds 1e-8", "defect", "ELUTransform",
         "z = log(1 + x) for x < 0", """
log1p(x + 1e-8): the inverse does not return what was mapped; at z = -15 it is off by 0.03.""", """
import torch
from pyro.distributions.transforms import ELUTransform
t = ELUTransform()
for z in (-1.0, -15.0):
    print(t.inv(torch.nn.functional.elu(torch.tensor(z, dtype=torch.float64))).item())
""")
def elu_and_back(m):
    return [-1, -15]


@finding("pyro", "Spline's slope at its end knots is 0.999", "choice", "LinearRationalSpline RationalQuadraticSpline",
         "log dx/dz = 0 at the end knot, for slope 1", """
A comment in its source asks why the slope at the ends is 1 less the floor of 1e-3: the map has a kink there. refflow's
convention of that name has it too.""", """
import torch
from pyro.distributions.transforms import Spline
t = Spline(1, count_bins=2, bound=1.0, order="quadratic").double()
z = torch.tensor([-1.0], dtype=torch.float64)
print(t.log_abs_det_jacobian(z, t(z)).item())
""")
def no_kink(m):
    return [0]


# -- distrax ----------------------------------------------------------------------------------------------------------

@finding("distrax", "Sigmoid is exp below -9", "defect", "Sigmoid",
         "x = 1/(1 + exp(-z))", """
Below -9 the sigmoid is replaced by exp(z), which is off by exp(z) relatively: a jump of 1e-4 at -9, in float64 too. The
inverse is the logit everywhere, so that inverse(forward(z)) is not z.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import distrax
b = distrax.Sigmoid()
x = b.forward(jnp.float64(-9.5))
print(float(x))
print(float(b.inverse(x)))
""")
def sigmoid_below(m):
    return [sigmoid(m, -9.5), m.mpf(-9.5)]


@finding("distrax", "the gradient of Sigmoid's log-det is NaN in the tails", "defect", "Sigmoid",
         "d log(dx/dz)/dz = 1 - 2 x, with x = 1/(1 + exp(-z))", """
The branches of `where` that are not taken overflow, and 0 times infinity is NaN: at -1000 in float64, at 90 in float32. One
such event in a batch makes the whole gradient NaN.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import distrax
b = distrax.Sigmoid()
print(float(jax.grad(b.forward_log_det_jacobian)(jnp.float64(-1000.0))))
print(float(jax.grad(b.forward_log_det_jacobian)(jnp.float32(90.0))))
""")
def tails_of_sigmoid(m):
    return [1 - 2 * sigmoid(m, -1000), 1 - 2 * sigmoid(m, 90)]


# -- distreqx ---------------------------------------------------------------------------------------------------------

@finding("distreqx", "ScalarAffine's log-det has the shape of its scale, not of the event", "defect", "Affine",
         "log|det dx/dz| = sum_i log|scale| = 3 log 2", """
A scale of shape () or (1,) maps all entries of an event, but its log-det is one number, which Block does not sum over the entries:
with shape (1,) it is that of one entry, with shape () the sum raises. distrax, where the code comes from, gives log-dets the shape
of the event.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from distreqx.bijectors import Block, ScalarAffine
print(float(Block(ScalarAffine(jnp.array([0.0]), jnp.array([2.0])), 1).forward_log_det_jacobian(jnp.zeros(3))))
print(float(Block(ScalarAffine(jnp.array(0.0), jnp.array(2.0)), 1).forward_log_det_jacobian(jnp.zeros(3))))
""")
def one_scale_of_three(m):
    return [3 * m.log(2)] * 2


@finding("distreqx", "Sigmoid is exp below -9", "defect", "Sigmoid",
         "x = 1/(1 + exp(-z))", """
As in distrax, where the code comes from: below -9 the sigmoid is replaced by exp(z), which is off by exp(z) relatively: a jump of
1e-4 at -9, in float64 too. The inverse is the logit everywhere, so that inverse(forward(z)) is not z.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from distreqx.bijectors import Sigmoid
b = Sigmoid()
x = b.forward(jnp.float64(-9.5))
print(float(x))
print(float(b.inverse(x)))
""")
def copied_sigmoid(m):
    return [sigmoid(m, -9.5), m.mpf(-9.5)]


@finding("distreqx", "the gradient of Sigmoid's log-det is NaN in the tails", "defect", "Sigmoid",
         "d log(dx/dz)/dz = 1 - 2 x, with x = 1/(1 + exp(-z))", """
As in distrax: the branches of `where` that are not taken overflow, and 0 times infinity is NaN: at -1000 in float64, at 90 in
float32. One such event in a batch makes the whole gradient NaN.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from distreqx.bijectors import Sigmoid
b = Sigmoid()
print(float(jax.grad(b.forward_log_det_jacobian)(jnp.float64(-1000.0))))
print(float(jax.grad(b.forward_log_det_jacobian)(jnp.float32(90.0))))
""")
def tails_of_copied_sigmoid(m):
    return [1 - 2 * sigmoid(m, -1000), 1 - 2 * sigmoid(m, 90)]


@finding("distreqx", "Tanh's log-det near 0 has an absolute error of an ulp of 1", "range", "Tanh", "log dx/dz = -2 log cosh z", """
2 (log 2 - z - softplus(-2 z)) cancels near 0, where the log-det is -z^2: at 1e-4 half of the digits are lost, at 1e-9 all. The same
formula is in distrax, torch and TFP. The value is right to an ulp of 1, which is enough for a density; a relative error is not.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from distreqx.bijectors import Tanh
for z in (1e-4, 1e-9):
    print(float(Tanh().forward_log_det_jacobian(jnp.float64(z))))
""")
def small_log_cosh(m):
    return [-2 * m.log(m.cosh(m.mpf(z))) for z in (1e-4, 1e-9)]


# -- surjectors -------------------------------------------------------------------------------------------------------

@finding("surjectors", "sample_and_log_prob has the sign of a funnel's decoder wrong", "defect", "",
         "log p(y) = log p(z) + log q(y_minus | z) = 0 - log 2", """
The forward of a funnel returns + log q of the entries that it draws, and TransformedDistribution subtracts it, as it subtracts a
log-det: log p(z) - log q(y_minus | z). log_prob of the same sample adds it. Slice and all inference funnels are affected, in 0.4.0
too. The first value is that of sample_and_log_prob, the second that of log_prob.""", """
import distrax, haiku, jax, jax.numpy as jnp
from surjectors import Slice, TransformedDistribution
def log_probs():
    decoder = lambda z: distrax.Independent(distrax.Uniform(jnp.zeros_like(z), 2 * jnp.ones_like(z)), 1)
    flow = TransformedDistribution(distrax.Independent(distrax.Uniform(jnp.zeros(1), jnp.ones(1)), 1), Slice(1, decoder))
    y, log_prob = flow.sample_and_log_prob((1,))
    return log_prob[0], flow.log_prob(y)[0]
for value in haiku.transform(log_probs).apply({}, jax.random.PRNGKey(0)):
    print(float(value))
""")
def sign_of_decoder(m):
    return [-m.log(2)] * 2


@finding("surjectors", "the autoregressive funnels join their entries along the batch", "defect", "",
         "y = (y_plus, y_minus), of two entries", """
The forward of MaskedAutoregressiveInferenceFunnel calls concatenate without an axis, so that the kept entry and the drawn one of one
event become two events of one entry, where there are as many of both; otherwise it raises. Mended in 0.4.0, which needs Python
3.12.""", """
import distrax, haiku, jax, jax.numpy as jnp
from surjectors import AffineMaskedAutoregressiveInferenceFunnel
from surjectors.nn import MADE
def forward(z):
    decoder = lambda z: distrax.Independent(distrax.Normal(jnp.zeros_like(z), jnp.ones_like(z)), 1)
    return AffineMaskedAutoregressiveInferenceFunnel(1, decoder, MADE(1, [1], 2)).forward(z)
function = haiku.transform(forward)
key, z = jax.random.PRNGKey(0), jnp.zeros((1, 1))
print(function.apply(function.init(key, z), key, z).shape[-1])
""")
def entries_of_an_event(m):
    return [m.mpf(2)]


@finding("surjectors", "RationalQuadraticSplineMaskedAutoregressiveInferenceFunnel raises", "defect", "",
         "z = y_plus and the contribution log 1 + log 1 = 0, of a spline whose numbers are all 0", """
It hands its parent a function of `self`, where a function of the spline's numbers is called, and raises for every event, in 0.4.0
too. The class warns that it has not been tested.""", """
import distrax, haiku, jax, jax.numpy as jnp
from surjectors import RationalQuadraticSplineMaskedAutoregressiveInferenceFunnel as Funnel
from surjectors.nn import MADE
def contribution(y):
    decoder = lambda z: distrax.Independent(distrax.Uniform(jnp.zeros_like(z), jnp.ones_like(z)), 1)
    return Funnel(1, decoder, MADE(1, [1], 13, w_init=jnp.zeros), -3.0, 3.0).inverse_and_likelihood_contribution(y)[1]
function = haiku.transform(contribution)
key, y = jax.random.PRNGKey(0), jnp.full((1, 2), 0.5)
print(float(function.apply(function.init(key, y), key, y)[0]))
""")
def spline_of_zeros(m):
    return [m.mpf(0)]


@finding("surjectors", "MADE takes one axis of batches alone", "defect", "MaskedDense",
         "the axes of (*batch, 3, 2): 2 for one event, 4 for two axes of batches", """
MADE says that its numbers have the shape [..., input_size, n_params], but parts its last axis after the first axis alone. With one
event, or with two axes of batches, an autoregressive map raises or gives other values: of one event and a shift, the network's numbers
of the first entry for every entry. 0.4.0 has the same lines.""", """
import haiku, jax, jax.numpy as jnp
from surjectors.nn import MADE
made, key = haiku.transform(lambda y: MADE(3, [2], 2)(y)), jax.random.PRNGKey(0)
weights = made.init(key, jnp.zeros((1, 3)))
for shape in ((3,), (1, 1, 3)):
    print(made.apply(weights, key, jnp.zeros(shape)).ndim)
""")
def axes_of_made(m):
    return [m.mpf(2), m.mpf(4)]


@finding("surjectors", "the log-dets of affine layers pass through exp", "range",
         "AffineCoupling Autoregressive", "log dx/dz = log_scale", """
AffineMaskedCoupling, AffineMaskedAutoregressive and their funnels give distrax.ScalarAffine the scale exp(log_scale), of which it
takes the logarithm: a small log-scale keeps an absolute error of an ulp of 1, and one of which exp overflows or underflows becomes
infinite. The gradient of the inverse forms 1/scale^2, which overflows where its value does not. ScalarAffine takes a log-scale, too. The
values are of float32.""", """
import jax.numpy as jnp
from surjectors import AffineMaskedCoupling
for log_scale in (1e-5, 100.0, -110.0):
    layer = AffineMaskedCoupling(jnp.array([True, False]), lambda y: jnp.array([[0.0, 0.0, log_scale, log_scale]]))
    print(float(layer.forward_and_log_det(jnp.zeros((1, 2)))[1][0]))
""")
def log_of_exp(m):
    return [m.mpf(float.fromhex("0x1.4f8b580000000p-17")), m.mpf(100), m.mpf(-110)]             # 1e-5 in float32


# -- bijx -------------------------------------------------------------------------------------------------------------

@finding("bijx", "the log-dets of Sigmoid and Tanh are -inf in the tails", "defect", "Sigmoid Tanh",
         "log dx/dz = -log(1 + exp(-z)) - log(1 + exp(z)) and -2 log cosh z", """
log(y) + log(1 - y) and log(1 - y^2) are computed from the rounded image y, which is 1: -inf for the sigmoid from 37 on, for
tanh from 19.1 on, in float64; half of the digits are lost at half of that.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import bijx
for bijection, z in ((bijx.Sigmoid(), 20.0), (bijx.Sigmoid(), 40.0), (bijx.Tanh(), 20.0)):
    z = jnp.float64(z)
    print(float(bijection.log_jac(z, bijection.fwd(z))))
""")
def tails_of_both(m):
    return [m.log(sigmoid(m, z) * sigmoid(m, -z)) for z in (20, 40)] + [-2 * m.log(m.cosh(20))]


@finding("bijx", "the gradient of MonotoneRQSpline is halved at a knot and quartered at an end", "defect", "RationalQuadraticSpline",
         "dx/dz = exp(log dx/dz)", """
Positions are clipped to their bin, and inputs to [0, 1]; the derivative of a clip is 1/2 where its argument is at an end. With raw
numbers of 0 the map is the identity, whose derivative is 1 everywhere: jax.grad says 1/2 at the knot 0.5 and 1/4 at 0. The log-det,
which has a formula of its own, is right.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from bijx.bijections.splines import rational_quadratic_spline
zeros = jnp.zeros(2), jnp.zeros(2), jnp.zeros(1)
for z in (0.0, 0.25, 0.5):
    print(float(jax.grad(lambda z: rational_quadratic_spline(z, *zeros)[0])(z)))
""")
def slopes_at_knots(m):
    return [m.mpf(1)] * 3


@finding("bijx", "MonotoneRQSpline does not use its min_bin_width, min_bin_height and min_slope", "defect", "RationalQuadraticSpline",
         "h_1 = min_bin_height + (1 - 2 min_bin_height) e^30/(e^30 + e^-30)", """
The constructor keeps them, and apply calls rational_quadratic_spline without them: bins have the default floor 0.001. Of two bins of
widths 1/2, with raw heights 30 and -30 and a floor of 0.4, the knot at 0.5 has the image 0.6.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import bijx
from flax import nnx
spline = bijx.MonotoneRQSpline(2, min_bin_height=0.4, rngs=nnx.Rngs(0))
spline.widths, spline.heights = nnx.Param(jnp.zeros(2)), nnx.Param(jnp.array([30.0, -30.0]))
print(float(spline.forward(jnp.array(0.5), jnp.array(0.0))[0]))
""")
def image_of_the_middle_knot(m):
    return [m.mpf(4) / 10 + m.mpf(2) / 10 * sigmoid(m, 60)]


@finding("bijx", "FreeTheoryScaling raises if its mass is a parameter", "defect", "",
         "x = F^-1 diag(1/sqrt(m2 + k^2)) F z, of a constant z: x = z/sqrt(m2)", """
With an nnx.Variable as m2, which the docstring allows ("can be learnable nnx.Variable"), the spectrum is not computed in advance, and
the constructor hands None to that of SpectrumScaling, which reads its shape. With a number as m2 it is right.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import bijx
from flax import nnx
scaling = bijx.FreeTheoryScaling(nnx.Param(jnp.array(0.25)), (4,))
print(float(scaling.forward(jnp.ones(4), jnp.array(0.0))[0][0]))
""")
def constant_field(m):
    return [m.mpf(2)]


@finding("bijx", "CondInverse has no method invert", "defect", "Inverse", "the inverse of the inverse of exp is exp: x = exp(1)", """
Its constructor stores the flag under the name `invert`, which hides the method of that name: `.invert()`, by which Inverse says that
inverses are made, calls the flag and raises.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import bijx
twice = bijx.CondInverse(bijx.Exponential()).invert()
print(float(twice.forward(jnp.array(1.0), jnp.array(0.0))[0]))
""")
def exp_again(m):
    return [m.e]


# -- FrEIA ------------------------------------------------------------------------------------------------------------

@finding("freia", "InvertibleSigmoid sums its log-det over one axis", "defect", "Sigmoid",
         "log|det| = sum over all entries of one event: one number", """
`logJ.sum(1)` sums over channels only: one image of 1 x 2 x 2 gets four log-dets.""", """
import torch
from FrEIA.modules import InvertibleSigmoid
image = torch.zeros(1, 1, 2, 2)
print(InvertibleSigmoid([(1, 2, 2)])([image])[1].numel())
""")
def one_log_det(m):
    return [1]


@finding("freia", "InvertibleSigmoid's log-det is -inf from 89 on in float32", "defect", "Sigmoid",
         "log dx/dz = -log(1 + exp(-z)) - log(1 + exp(z))", """
The logarithm is that of 1/((1 + exp(z)) (1 + exp(-z))), whose factors overflow: beyond 88 in float32, beyond 709
in float64.""", """
import torch
from FrEIA.modules import InvertibleSigmoid
print(InvertibleSigmoid([(1,)])([torch.tensor([[100.0]])])[1].item())
""")
def far_tail(m):
    return [m.log(sigmoid(m, 100) * sigmoid(m, -100))]


@finding("freia", "Fixed1x1Conv multiplies by the transpose of its matrix", "defect", "Pointwise",
         "y = M x at each pixel, for M = [[1, 2], [0, 1]] and x = (1, 1)", """
The docstring calls M the kernel of the convolution. The code transposes it, as FixedLinearTransform must for rows; a kernel
need not be. Log-dets are the same.""", """
import torch
from FrEIA.modules import Fixed1x1Conv
M = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
(y,), _ = Fixed1x1Conv([(2, 1, 1)], M=M)([torch.ones(1, 2, 1, 1)])
for entry in y.flatten():
    print(entry.item())
""")
def product_with_ones(m):
    return [3, 1]


@finding("freia", "LearnedElementwiseScaling's inverse has the log-det of its forward", "defect", "Affine",
         "log|det dz/dx| = -sum_i s_i on the way back; here s = (1, 1)", """
The sum of the logarithms of the scales is not negated with rev=True, where the module divides by the scales. By the base class, the two
log-dets are opposite numbers.""", """
import torch
from FrEIA.modules import LearnedElementwiseScaling
scaling = LearnedElementwiseScaling([(2,)])
scaling.s.data.fill_(1.0)
for rev in (False, True):
    print(scaling([torch.ones(1, 2)], rev=rev)[1].item())
""")
def both_ways(m):
    return [2, -2]


@finding("freia", "LearnedElementwiseScaling does not start at init_scale", "defect", "Affine",
         "g(x) = x exp(s), exp(s) = init_scale: g(1) = 3 for init_scale 3", """
The logarithm of init_scale is multiplied by zeros, where ones are meant: the scale starts at 1 for every init_scale.""", """
import torch
from FrEIA.modules import LearnedElementwiseScaling
(y,), _ = LearnedElementwiseScaling([(1,)], init_scale=3.0)([torch.ones(1, 1)])
print(y.item())
""")
def initial_scale(m):
    return [3]


@finding("freia", "InvAutoAct has neither of its slopes at 0", "defect", "LeakyReLU",
         "g(x) = x exp(alpha) for x >= 0; here exp(alpha) = 2, so that log dg/dx = log 2 at x = 0", """
The sign of 0 is 0, by which alpha is multiplied: the log-det at 0 is 0, between the two slopes. InvAutoActTwoSided likewise has the mean
of the two logarithms. A layer before it that gives exact zeros makes the density wrong.""", """
import torch
from FrEIA.modules import InvAutoAct
print(InvAutoAct([(1,)])([torch.zeros(1, 1)])[1].item())
""")
def slope_at_0(m):
    return [m.log(2)]


@finding("freia", "HaarDownsampling's inverse writes to its input", "defect", "Squeeze",
         "z is not changed", """
`x_perm *= self.fac_rev` halves the caller's tensor, which x_perm is unless channels are ordered by wavelet. HaarUpsampling does so on
the way forward.""", """
import torch
from FrEIA.modules import HaarDownsampling
z = torch.ones(1, 4, 1, 1)
HaarDownsampling([(1, 2, 2)])([z], rev=True)
print(z[0, 0, 0, 0].item())
""")
def unhalved(m):
    return [1]


# -- torchflows -------------------------------------------------------------------------------------------------------

@finding("torchflows", "RationalQuadratic with raw numbers 0 is not the identity", "defect", "RationalQuadraticSpline",
         "x = z", """
Raw numbers of slopes are divided by 1000 and added to c, where softplus(c) = 1 less a floor. The slopes at the ends are
padded with c where 0 is meant, so that they are 1.0003: the end bins are bent, and the map has a kink at the ends.""", """
import torch
from torchflows.bijections.finite.autoregressive.transformers.spline.rational_quadratic import RationalQuadratic
t = RationalQuadratic((1,))
x, log_det = t.forward(torch.tensor([[-45.0]]).double(), torch.zeros(1, 1, 23).double())
print(x.item())
print(log_det.item())
""")
def untouched(m):
    return [-45, 0]


@finding("torchflows", "the log-det of an autoregressive inverse is taken at other points", "defect", "Autoregressive",
         "log|det dz/dx| + log|det dx/dz| = 0 at z = f(x)", """
The inverse goes through the entries and puts each one that it finds into the tensor that it inverts next. The log-det that it returns is
of the last round, where all entries but the last are images already: the slopes of the transformer's inverse are taken there. The values
are right, and so are the log-dets of affine transformers, whose slopes do not depend on the point. Here the network is a constant.""", """
import torch
from torchflows.bijections.finite.autoregressive.layers import RQSForwardMaskedAutoregressive
class Constant(torch.nn.Module):
    def forward(self, x, context=None):
        h = torch.zeros(2, 23, dtype=torch.float64)
        h[:, 8:16] = 300.0 * torch.arange(8)
        return h.expand(*x.shape, 23)
layer = RQSForwardMaskedAutoregressive((2,))
layer.conditioner_transform = Constant()
z, log_det = layer.forward(torch.tensor([[1.0, 2.0]], dtype=torch.float64))
print((log_det + layer.inverse(z)[1]).item())
""")
def opposite(m):
    return [0]


# -- pzflow -----------------------------------------------------------------------------------------------------------

@finding("pzflow", "InvSoftplus overflows and cancels", "defect", "Softplus",
         "x = log(1 + exp(z)),   z = log(exp(x) - 1)", """
log(1 + exp(z)) is computed as it stands: infinite from 710 on (89 in float32), 0 below -37, and its inverse -inf
below 1e-16.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from pzflow.bijectors import InvSoftplus
_, forward, inverse = InvSoftplus(0)[0](jax.random.PRNGKey(0), 1)
print(float(inverse((), jnp.array([[800.0]]))[0][0, 0]))
print(float(inverse((), jnp.array([[-40.0]]))[0][0, 0]))
print(float(forward((), jnp.array([[1e-20]]))[0][0, 0]))
""")
def softplus_thrice(m):
    return [m.log(1 + m.exp(800)), m.log1p(m.exp(-40)), m.log(m.expm1(m.mpf(1e-20)))]


@finding("pzflow", "the spline's gradient is NaN beyond twice its bound", "defect", "RationalQuadraticSpline",
         "dx/dz = 1 beyond the bound", """
Inputs beyond the bound B are replaced by |z| - B for the search, which beyond 2 B finds no bin; the value is replaced again,
but its gradient is 0 times NaN. Here B = 1.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from pzflow.utils import RationalQuadraticSpline
W = jnp.full((1, 1, 4), 0.5)
f = lambda z: RationalQuadraticSpline(z[None, None], W, W, jnp.ones((1, 1, 3)), 1.0)[0][0, 0]
print(float(jax.grad(f)(jnp.float64(1.5))))
print(float(jax.grad(f)(jnp.float64(4.0))))
""")
def slopes_of_the_identity(m):
    return [1, 1]


# -- the VITS spline --------------------------------------------------------------------------------------------------

@finding("transformers", "the VITS spline raises if no input lies inside the bound", "defect", "RationalQuadraticSpline",
         "x = z beyond the bound", """
The inputs inside the bound are selected without asking whether there are any; the minimum of none raises. A short text whose
durations all lie in the tails does it.""", """
import torch
from transformers.models.vits.modeling_vits import _unconstrained_rational_quadratic_spline as spline
z = torch.full((1, 1, 2), 6.0)
h, d = torch.zeros(1, 1, 2, 10), torch.zeros(1, 1, 2, 9)
x, log_det = spline(z, h, h, d, tail_bound=5.0)
print(x[0, 0, 0].item())
""")
def beyond(m):
    return [6]


@finding("transformers", "VITS' stochastic durations are trained in another order than they are sampled in", "defect",
         "stochastic_durations",
         "(w, v) = f^-1(z), where f exchanges the channels after the affine map and after each of 4 couplings", """
VitsStochasticDurationPredictor exchanges the channels after its affine map too when it computes the loss; VITS does not. The
reverse pass leaves out the first coupling as VITS does, and that exchange with it. So it samples from another density than the
one in the loss. Here the splines are the identity, at noise 10 and 20 beyond their bound: by the loss the logarithm of the
duration is 20. Weights trained with VITS are sampled from rightly; their loss is wrong.""", """
import torch
from transformers.models.vits.configuration_vits import VitsConfig
from transformers.models.vits.modeling_vits import VitsStochasticDurationPredictor
torch.manual_seed(0)
f = VitsStochasticDurationPredictor(VitsConfig(hidden_size=2, speaker_embedding_size=0)).double().eval()
noise = torch.tensor([[[10.0, 0.0], [20.0, 0.0]]], dtype=torch.float64)
torch.randn = lambda *shape: noise
x, mask = torch.zeros(1, 2, 2, dtype=torch.float64), torch.ones(1, 1, 2, dtype=torch.float64)
print(f(x, mask, reverse=True)[0, 0, 0].item())
""")
def exchanged_five_times(m):
    return [20]


@finding("piper", "the VITS spline passes a batch that lies in the tails", "right", "RationalQuadraticSpline",
         "x = z beyond the bound", """
The copy in piper does not ask for the minimum of the inputs inside the bound, and maps a batch without any.""", """
import torch
from piper.train.vits.transforms import unconstrained_rational_quadratic_spline as spline
z = torch.full((1, 1, 2), 6.0)
h, d = torch.zeros(1, 1, 2, 10), torch.zeros(1, 1, 2, 9)
x, log_det = spline(z, h, h, d, tails="linear", tail_bound=5.0)
print(x[0, 0, 0].item())
""")
def beyond_too(m):
    return [6]


# -- TFP --------------------------------------------------------------------------------------------------------------

@finding("tfp", "LambertWTail's log-det is NaN beyond 26", "defect", "LambertWTail",
         "log dx/dz = tailweight z^2/2 + log(1 + tailweight z^2)", """
The image is finite and right there; the log-det is found by way of the square of the image, which overflows.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from tensorflow_probability.substrates import jax as tfp
b = tfp.bijectors.LambertWTail(shift=0.0, scale=1.0, tailweight=jnp.float64(1.0))
print(float(b.forward(jnp.float64(30.0))))
print(float(b.forward_log_det_jacobian(jnp.float64(30.0), 0)))
""")
def heavy_tail(m):
    return [30 * m.exp(450), 450 + m.log(901)]


@finding("tfp", "IteratedSigmoidCentered's log-det is -inf far out, and its last part is 1 minus the others", "defect", "StickBreaking",
         "x = (sigmoid(z), 1 - sigmoid(z)),   log|det| = log(sigmoid(z) (1 - sigmoid(z)))", """
The log-det is a sum of logarithms of images, which underflow; the last part keeps three digits of sixteen at z = 30.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from tensorflow_probability.substrates import jax as tfp
b = tfp.bijectors.IteratedSigmoidCentered()
print(float(b.forward_log_det_jacobian(jnp.array([-1000.0]), 1)))
print(float(b.forward(jnp.array([30.0]))[1]))
""")
def sticks_of_tfp(m):
    return [m.log(sigmoid(m, -1000)) + m.log(sigmoid(m, 1000)), sigmoid(m, -30)]


@finding("tfp", "Sigmoid and Softplus are right in the tails, the gradient of Sigmoid's log-det too", "right", "Sigmoid Softplus",
         "x = 1/(1 + exp(-z));   x = log(1 + exp(z));   d log(dx/dz)/dz = 1 - 2/(1 + exp(-z)) of the sigmoid", """
Where other libraries replace the sigmoid by exp below -9, clip it, or replace softplus by a line above 20.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from tensorflow_probability.substrates import jax as tfp
s, p = tfp.bijectors.Sigmoid(), tfp.bijectors.Softplus()
print(float(s.forward(jnp.float64(-9.5))))
print(float(p.forward(jnp.float64(21.0))))
print(float(p.forward(jnp.float64(-40.0))))
print(float(jax.grad(lambda z: s.forward_log_det_jacobian(z, 0))(jnp.float64(-1000.0))))
""")
def tails_of_tfp(m):
    return [sigmoid(m, -9.5), m.log(1 + m.exp(21)), m.log1p(m.exp(-40)), 1 - 2 * sigmoid(m, -1000)]


@finding("tfp", "Tanh's log-det loses its digits near 0", "defect", "Tanh", "log dx/dz = -2 log cosh z", """
It is 2 (log 2 - z - softplus(-2 z)), whose terms cancel: 8e-08 of it are wrong at 4e-5, and in float32 it is not 0 at 0.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from tensorflow_probability.substrates import jax as tfp
t = tfp.bijectors.Tanh()
print(float(t.forward_log_det_jacobian(jnp.float64(4e-5), 0)))
print(float(t.forward_log_det_jacobian(jnp.float32(0.0), 0)))
""")
def near_zero_of_tfp(m):
    return [-2 * m.log(m.cosh(m.mpf(4e-5))), m.mpf(0)]


@finding("tfp", "Sigmoid's gradient and Softplus's inverse log-det are 0 above 37", "defect", "Sigmoid Softplus",
         "d sigmoid(z)/dz = sigmoid(z) sigmoid(-z);   log dz/dx = -log(1 - exp(-x)) of the inverse of softplus", """
Both are made of 1 minus a number that has been rounded to 1.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from tensorflow_probability.substrates import jax as tfp
s, p = tfp.bijectors.Sigmoid(), tfp.bijectors.Softplus()
print(float(jax.grad(s.forward)(jnp.float64(40.0))))
print(float(p.inverse_log_det_jacobian(jnp.float64(40.0), 0)))
""")
def far_out_of_tfp(m):
    return [sigmoid(m, 40) * sigmoid(m, -40), -m.log1p(-m.exp(-40))]


@finding("tfp", "SinhArcsinh is NaN, and its log-det -inf, for heavy tails", "defect", "SinhArcsinh",
         "x = sinh(t arcsinh(z))/c,   c = sinh(t arcsinh(2))/2", """
The scale c overflows, or its exponential does, although the image and the log-det are moderate.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from tensorflow_probability.substrates import jax as tfp
f = lambda t: tfp.bijectors.SinhArcsinh(jnp.float64(0.0), jnp.float64(t))
print(float(f(1000.0).forward(jnp.float64(1.0))))
print(float(f(500.0).forward_log_det_jacobian(jnp.float64(0.0), 0)))
""")
def heavy_sinh_of_tfp(m):
    return [2 * m.sinh(1000 * m.asinh(1)) / m.sinh(1000 * m.asinh(2)), m.log(2 * m.mpf(500) / m.sinh(500 * m.asinh(2)))]


@finding("tfp", "The gradients of WeibullCDF and Softsign are 0 far out", "defect", "Softsign WeibullCDF",
         "d(1 - exp(-z))/dz = exp(-z);   d(z/(1 + |z|))/dz = 1/(1 + |z|)^2", """
Autograd takes differences of numbers near 1; at 1e8 eight digits of Softsign's gradient are lost.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from tensorflow_probability.substrates import jax as tfp
w, s = tfp.bijectors.WeibullCDF(scale=jnp.float64(1.0), concentration=jnp.float64(1.0)), tfp.bijectors.Softsign()
print(float(jax.grad(w.forward)(jnp.float64(40.0))))
print(float(jax.grad(s.forward)(jnp.float64(2e16))))
print(float(jax.grad(s.forward)(jnp.float64(1e8))))
""")
def gradients_of_tfp(m):
    return [m.exp(-40), (1 + m.mpf(2e16)) ** -2, (1 + m.mpf(1e8)) ** -2]


@finding("tfp", "Softsign's inverse log-det has lost two digits near -0.41", "defect", "Softsign", "log dz/dx = -2 log(1 - |x|)", """
It is made of jax's log1p, whose relative error reaches 2.7e-14, a hundred units of rounding, between -0.4142 and -0.3987.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from tensorflow_probability.substrates import jax as tfp
print(float(tfp.bijectors.Softsign().inverse_log_det_jacobian(jnp.float64(-0.41), 0)))
print(float(jnp.log1p(jnp.float64(-0.41))))
""")
def log1p_of_jax(m):
    return [-2 * m.log(1 - m.mpf(0.41)), m.log(1 - m.mpf(0.41))]


@finding("tfp", "A Dirichlet through the inverse of SoftmaxCentered has the mass sqrt 3", "defect", "CentredSoftmax Dirichlet",
         "integral of p(z) dz = 1,   log p(z) = log Dirichlet(x) + log|det dx/dz|, both by coordinates of the simplex", """
Dirichlet is a density with respect to the coordinates of the simplex. SoftmaxCentered counts the simplex's own volume, which is
sqrt K times as large, so that all densities on R^(K-1) that are made of both are sqrt K times too large: here K is 3. Through
IteratedSigmoidCentered, whose own log-det is by coordinates, the mass is the same, since TransformedDistribution adds the ratio.
The grid has steps of 1/8, and the sum over it is the integral to 1e-12.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from tensorflow_probability.substrates import jax as tfp
d, b = tfp.distributions, tfp.bijectors
line = jnp.arange(-240, 241) / 8.0
z = jnp.stack(jnp.meshgrid(line, line), -1)
for t in (b.SoftmaxCentered(), b.IteratedSigmoidCentered()):
    p = d.TransformedDistribution(d.Dirichlet(jnp.array([2.0, 3.0, 1.5])), b.Invert(t))
    print(float(jnp.exp(p.log_prob(z)).sum() / 64))
""")
def masses(m):
    return [m.mpf(1)] * 2


@finding("tfp", "An LKJ through its own default bijector has the mass pi", "defect", "LKJCholesky RowNormalisedCorrelation",
         "integral of p(z) dz = 1,   log p(z) = log LKJ(x) + log|det dx/dz|", """
The bijector ends in CholeskyOuterProduct, which counts all entries of a factor as free. The diagonal of a correlation matrix's factor
follows from the rest, so that the log-det is D log 2 + sum_i log L_ii too large, which depends on the point. Here D = 2, where the
density of the correlation is 1/2. The integral is taken in t with z = tan(pi t / 2).""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp, numpy as np
from tensorflow_probability.substrates import jax as tfp
lkj = tfp.distributions.LKJ(2, jnp.float64(1.0))
bijector = lkj.experimental_default_event_space_bijector()
p = tfp.distributions.TransformedDistribution(lkj, tfp.bijectors.Invert(bijector))
t, w = np.polynomial.legendre.leggauss(60)
z = np.tan(np.pi * t / 2)
print(float(jnp.sum(w * np.pi / 2 * (1 + z**2) * jnp.exp(p.log_prob(z[:, None])))))
print(float(bijector.forward_log_det_jacobian(jnp.zeros(1), 1)))
""")
def mass_of_lkj(m):
    return [m.mpf(1), m.mpf(0)]


@finding("tfp", "The default bijector of WishartTriL reaches no variance below 0.48", "defect", "WishartCholesky",
         "integral of p(z) dz = 1,   log p(z) = log Wishart(x) + log|det dx/dz|", """
Its diagonal is the softplus of a softplus, which is above log 2: no variance is below the square of that, 0.48, and the density on R
lacks the probability below it. Here the density is chi-square with three degrees of freedom, and integrates to 0.92.""", """
import jax.numpy as jnp
from tensorflow_probability.substrates import jax as tfp
wishart = tfp.distributions.WishartTriL(jnp.float32(3), jnp.eye(1, dtype="float32"))
bijector = wishart.experimental_default_event_space_bijector()
p = tfp.distributions.TransformedDistribution(wishart, tfp.bijectors.Invert(bijector))
z = jnp.arange(-400, 800, dtype="float32") / 16
print(float(bijector.forward(jnp.array([-100], "float32"))[0, 0]))
print(float(jnp.exp(p.log_prob(z[:, None])).sum() / 16))
""")
def reached_variances(m):
    return [m.mpf(0), m.mpf(1)]


@finding("tfp", "UnitVector's log-det has a constant of float32", "defect", "UnitVector", "log|det| = n log 2 - n log(1 + |z|^2)", """
The logarithm of 2 is rounded to float32: in float64 the log-det of three entries is off by 6e-9.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from tensorflow_probability.substrates import jax as tfp
z = jnp.array([0.5, -1.0, 2.0])
print(float(tfp.bijectors.UnitVector().forward_log_det_jacobian(z, 1)))
""")
def volume_of_stereographic(m):
    return [3 * m.log(2) - 3 * m.log(1 + m.mpf("5.25"))]


# -- NumPyro ----------------------------------------------------------------------------------------------------------

@finding("numpyro", "StickBreakingTransform takes the last part as 1 minus the others", "defect", "StickBreaking",
         "x_2 = 1 - sigmoid(z) = 1/(1 + exp(z))", """
As in torch: at z = 30 the last part keeps three digits of sixteen.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from numpyro.distributions.transforms import StickBreakingTransform
print(float(StickBreakingTransform()(jnp.array([30.0]))[1]))
""")
def last_stick_again(m):
    return [sigmoid(m, -30)]


@finding("numpyro", "StickBreakingTransform's log-det and gradient are infinite far out", "defect", "StickBreaking",
         "log|det| = log s_1 + 2 log(1 - s_1) + log s_2 + log(1 - s_2),   s_1 = sigmoid(z_1 - log 2), s_2 = sigmoid(z_2)", """
The log-det is a sum of logarithms of parts that underflow: -inf for z = (0, -1000), with a gradient of NaN.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from numpyro.distributions.transforms import StickBreakingTransform
t = StickBreakingTransform()
log_det = lambda z: t.log_abs_det_jacobian(z, t(z))
print(float(log_det(jnp.array([0.0, -1000.0]))))
print(float(jax.grad(log_det)(jnp.array([0.0, -1000.0]))[1]))
""")
def sticks_far_out(m):
    s = sigmoid(m, -m.log(2))
    return [m.log(s) + 2 * m.log(1 - s) + m.log(sigmoid(m, -1000)) + m.log(sigmoid(m, 1000)), 1 - 2 * sigmoid(m, -1000)]


@finding("numpyro", "CorrCholeskyTransform of float32 raises where float64 is enabled", "defect", "CorrelationCholesky",
         "L_22 = sqrt(1 - tanh(z)^2) = 1 at z = 0", """
The triangle is scattered into zeros of the default dtype, which jax_enable_x64 makes float64; so it is by
LowerCholeskyTransform.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from numpyro.distributions.transforms import CorrCholeskyTransform
print(float(CorrCholeskyTransform()(jnp.zeros(1, jnp.float32))[1, 1]))
""")
def last_of_the_diagonal(m):
    return [1]


@finding("numpyro", "SoftplusTransform and SigmoidTransform's log-det are right above 20", "right", "Sigmoid Softplus",
         "x = log(1 + exp(z));   log dx/dz = -log(1 + exp(-z)) - log(1 + exp(z))", """
jax.nn.softplus is logaddexp and has no threshold.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from numpyro.distributions.transforms import SigmoidTransform, SoftplusTransform
z, s = jnp.float64(20.1), SigmoidTransform()
print(float(SoftplusTransform()(z)))
print(float(s.log_abs_det_jacobian(z, s(z))))
""")
def no_threshold(m):
    z = m.mpf(20.1)
    return [m.log(1 + m.exp(z)), -m.log(1 + m.exp(-z)) - m.log(1 + m.exp(z))]


@finding("numpyro", "SimplexToOrderedTransform takes the last part as 1 minus the others", "defect", "SimplexToOrdered",
         "x = log(z_1/z_2);   z_2 = 1/(1 + exp(x))", """
The value is the logit of a sum that rounds to 1: it is infinite, and so are the log-det and gradients, where the last part is 1e-17. The
inverse returns 1 - sigmoid(x), which is 0 from 37 on.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from numpyro.distributions.transforms import SimplexToOrderedTransform
t = SimplexToOrderedTransform()
print(float(t(jnp.array([1.0, 1e-17]))[0]))
print(float(t.inv(jnp.array([40.0]))[1]))
""")
def last_part_of_two(m):
    return small_last_part(m)


# -- FlowJAX ----------------------------------------------------------------------------------------------------------

@finding("flowjax", "Sigmoid and SoftPlus are right in the tails", "right", "Sigmoid Softplus",
         "x = 1/(1 + exp(-z)), log dx/dz = log x + log(1 - x);   x = log(1 + exp(z))", """
Values and log-dets by softplus, without a clip.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from flowjax.bijections import Sigmoid, SoftPlus
for value in Sigmoid().transform_and_log_det(jnp.float64(-50.0)):
    print(float(value))
print(float(SoftPlus().transform(jnp.float64(21.0))))
""")
def tails_of_flowjax(m):
    return [sigmoid(m, -50), m.log(sigmoid(m, -50)) + m.log(sigmoid(m, 50)), m.log(1 + m.exp(21))]


# -- PyMC -------------------------------------------------------------------------------------------------------------

@finding("pymc", "logodds' log-det is -inf from 37 on", "defect", "Sigmoid",
         "log dx/dz = -log(1 + exp(-z)) - log(1 + exp(z))", """
log(x) + log1p(-x) of the rounded sigmoid x, which is 1 there; in float32 from 17 on.""", """
import numpy as np
import pytensor.tensor as pt
from pymc.distributions.transforms import logodds
print(logodds.log_jac_det(pt.as_tensor(np.float64(40.0))).eval().item())
""")
def log_odds(m):
    return [m.log(sigmoid(m, 40) * sigmoid(m, -40))]


@finding("pymc", "Interval with numbers as bounds has a float32 constant in its log-det", "defect", "OpenInterval",
         "log dx/dz = log(b - a) - log(1 + exp(-z)) - log(1 + exp(z)) = log 4 - 2 log 2 at z = 0", """
pytensor takes the bounds -1.0 and 3.0 as float32, in which they are exact; log(b - a) is then rounded to float32 in a
log-det of float64.""", """
import numpy as np
import pytensor.tensor as pt
from pymc.distributions.transforms import Interval
print(Interval(-1.0, 3.0).log_jac_det(pt.as_tensor(np.float64(0.0))).eval().item())
""")
def no_log_det(m):
    return [0]


# -- planar, radial and Sylvester flows -------------------------------------------------------------------------------

def softplus(m, t):
    return m.log(1 + m.exp(t))


def planar_at(m, w, u, b, z, slack, h, slope):
    """(x, log|det dx/dz|) of x = z + v h(a), a = w^T z + b, v = u + (slack - 1 - w^T u) w/(w^T w)."""
    dot = lambda p, q: sum(m.mpf(i) * m.mpf(j) for i, j in zip(p, q))
    t, a = dot(w, u), dot(w, z) + m.mpf(b)
    k = (slack(m, t) - 1 - t) / dot(w, w)
    x = [m.mpf(z_i) + (u_i + k * w_i) * h(a) for z_i, u_i, w_i in zip(z, u, w)]
    return x, m.log(abs(1 + (slack(m, t) - 1) * slope(a)))


ROUNDED = """
The vector u_hat = u + (softplus(w^T u) - 1 - w^T u) w/(w^T w) is rounded, and with it the small number 1 + w^T u_hat. Of 4,000 drawn
layers with four entries, {share} fold space or are singular; where {minus} rounds to -1, the log-det is -inf. {who}"""
FOLDED = "w^T u_hat > -1 always: no layer folds space"

@finding("pyro", "Planar loses its constraint to rounding", "range", "Planar", FOLDED, ROUNDED.format(
    share="half at w^T u = -17 in float32 and at -36 in float64", minus="softplus(w^T u) - 1",
    who="ConditionalPlanar has the same code."), """
import torch
from pyro.distributions.transforms import Planar
torch.manual_seed(0)
for dtype, t in ((torch.float32, -17), (torch.float64, -36)):
    w, u = torch.randn(2, 4000, 4, dtype=torch.float64)
    u = (u - ((w * u).sum(-1, keepdim=True) - t) * w / (w * w).sum(-1, keepdim=True)).to(dtype)
    u_hat = Planar(4).u_hat(u, w.to(dtype))
    print(((w.to(dtype).double() * u_hat.double()).sum(-1) <= -1).double().mean().item())
flow = Planar(2).double()
for name, value in {"w": [1.0, 1.0], "u": [-20.0, -20.0], "bias": [0.0]}.items():
    getattr(flow, name).data = torch.tensor(value, dtype=torch.float64)
z = torch.zeros(2, dtype=torch.float64)
print(flow.log_abs_det_jacobian(z, flow(z)).item())
""")
def unfolded_planes(m):
    return [0, 0, m.log(softplus(m, -40))]


@finding("normflows", "Planar loses its constraint to rounding", "range", "Planar", FOLDED, ROUNDED.format(
    share="half at w^T u = -17 in float32 and at -36 in float64", minus="log(1 + exp(w^T u)) - 1",
    who="The layer with leaky_relu has the same code, whose inverse then divides by 0."), """
import torch
from normflows.flows import Planar
torch.manual_seed(0)
one = torch.ones(1)
for dtype, t in ((torch.float32, -17), (torch.float64, -36)):
    folded = 0
    for w, u in zip(*torch.randn(2, 4000, 4, dtype=torch.float64)):
        w, u = w.to(dtype), (u - ((w * u).sum() - t) * w / (w * w).sum()).to(dtype)
        layer = Planar((4,), u=u[None], w=w[None], b=1e6 * one.to(dtype))
        u_hat = layer.forward(torch.zeros(1, 4, dtype=dtype))[0]           # tanh is 1
        folded += (w.double() * u_hat.double()).sum().item() <= -1
    print(folded / 4000)
u, w, b = -20 * torch.ones(1, 2).double(), torch.ones(1, 2).double(), 0 * one.double()
print(Planar((2,), u=u, w=w, b=b).forward(torch.zeros(1, 2).double())[1].item())
""")
def unfolded_layers(m):
    return unfolded_planes(m)


@finding("flowjax", "Planar loses its constraint to rounding", "range", "Planar", FOLDED, """
The vector u_hat = u + (m - w^T u) w/(w^T w) with m = -1 + log(1 + softplus(w^T u)) is rounded, and with it the small number
1 + w^T u_hat: of 4,000 drawn layers with four entries, half fold space or are singular at w^T u = -17 in float32 and at -36 in
float64. The last line has w^T u = -40, where the log-det is the logarithm of a rounding.""", """
import jax; jax.config.update("jax_enable_x64", True)
import equinox, jax.numpy as jnp, numpy as np
from flowjax.bijections import Planar
rng = np.random.default_rng(0)
def layer(params):
    made = Planar(jax.random.key(0), dim=(len(params) - 1) // 2)
    return equinox.tree_at(lambda one: one.params, made, params)
u_hats = jax.jit(jax.vmap(lambda params: layer(params).get_planar().get_act_scale()))
for dtype, t in ((np.float32, -17), (np.float64, -36)):
    w, u = rng.standard_normal((2, 4000, 4))
    u = u - ((w * u).sum(-1, keepdims=True) - t) * w / (w * w).sum(-1, keepdims=True)
    params = np.concatenate([w, u, 0 * w[:, :1]], -1).astype(dtype)
    u_hat = np.asarray(u_hats(params))
    assert u_hat.dtype == dtype
    print(float(((params[:, :4].astype(float) * u_hat.astype(float)).sum(-1) <= -1).mean()))
print(float(layer(jnp.array([1.0, 1.0, -20.0, -20.0, 0.0])).transform_and_log_det(jnp.zeros(2))[1]))
""")
def unfolded_bijections(m):
    return [0, 0, m.log(m.log(1 + softplus(m, -40)))]


@finding("normflows", "Planar is infinite or NaN for large w^T u", "defect", "Planar",
         "x = z + u_hat tanh(w^T z + b), u_hat = u + (log(1 + exp(w^T u)) - 1 - w^T u) w/(w^T w)", """
log(1 + exp(t)) is written as it stands: exp overflows from 88.8 in float32 and from 709.8 in float64, where u_hat is nearly u.""", """
import torch
from normflows.flows import Planar
for dtype, size in ((torch.float32, 6.0), (torch.float64, 45.0)):
    u, w = size * torch.ones(1, 2, dtype=dtype), 8 * torch.ones(1, 2, dtype=dtype)
    x, log_det = Planar((2,), u=u, w=w, b=torch.zeros(1, dtype=dtype)).forward(torch.tensor([[0.25, -0.1875]], dtype=dtype))
    print(x[0, 0].item())
    print(log_det.item())
""")
def far_above(m):
    sech2 = lambda a: 1 / m.cosh(a) ** 2
    found = [planar_at(m, (8, 8), (size,) * 2, 0, (0.25, -0.1875), softplus, m.tanh, sech2) for size in (6, 45)]
    return [value for (x, log_det) in found for value in (x[0], log_det)]


@finding("normflows", "Planar with leaky_relu has a slope of float32 digits", "defect", "Planar",
         "log|det dx/dz| = log(1 + (softplus(w^T u) - 1) 0.2) for w^T z + b < 0", """
In the log-det and in the inverse, 0.2 is made from a mask of truth values, -0.8 and 1, in torch's default dtype: in float64 it is
0.19999998807907104, where the map has 0.2. The log-det and the way back are off by 1e-8.""", """
import torch
from normflows.flows import Planar
u, w, b = (torch.tensor([v], dtype=torch.float64) for v in ([1.0, 0.5], [0.5, 1.0], 0.25))
layer, z = Planar((2,), act="leaky_relu", u=u, w=w, b=b), torch.tensor([[-1.5, -0.5]], dtype=torch.float64)
x, log_det = layer.forward(z)
print(log_det.item())
print(layer.inverse(x)[0][0, 0].item())
""")
def leaky_layer(m):
    fifth = m.mpf(0.2)
    _, log_det = planar_at(m, (0.5, 1), (1, 0.5), 0.25, (-1.5, -0.5), softplus, lambda a: fifth * a, lambda a: fifth)
    return [log_det, -1.5]


@finding("normflows", "Residual's inverse stops before it has the root", "defect", "InvertibleResidual",
         "z <- x - g(z), which contracts to the z of x = z + g(z)", """
The steps end where the square of the last change is less than 1e-5 (1 + |x|), so that changes of 3e-3 pass. The tolerance that is meant
is for the change itself. Here g(z) = W tanh z. The log-det of the inverse, and all gradients, are those of the wrong point.""", """
import torch
from normflows.flows import Residual
W = torch.tensor([[0.25, -0.5], [0.375, 0.125]], dtype=torch.float64)
layer = Residual(lambda z: torch.tanh(z) @ W.T, reverse=False).eval()
z, log_det = layer.inverse(torch.tensor([[0.5, -1.0]], dtype=torch.float64))
print(z[0, 0].item())
print(log_det.item())
""")
def contraction_at_its_root(m):
    def off(z_0, z_1):
        a, b = m.tanh(z_0), m.tanh(z_1)
        return [z_0 + a / 4 - b / 2 - 0.5, z_1 + 3 * a / 8 + b / 8 + 1]

    z = m.findroot(off, (0, -1))
    s, t = (1 / m.cosh(v) ** 2 for v in z)
    return [z[0], -m.log((1 + s / 4) * (1 + t / 8) + 3 * s * t / 16)]


@finding("normflows", "Residual's log-det loses the digits of a small Jacobian", "range", "InvertibleResidual",
         "log det(I + J) = sum_k log1p(p_k), with 1 + p_k the pivots of I + J", """
In evaluation, and for pairs, the log-det is the logarithm of a determinant near 1, which has rounded. Here J is about 1e-8, and nine
digits of its log-det are left; elimination in J keeps them all.""", """
import torch
from normflows.flows import Residual
W = torch.tensor([[0.25, -0.5], [0.375, 0.125]], dtype=torch.float64)
layer = Residual(lambda z: torch.tanh(z) @ W.T, reverse=False).eval()
_, log_det = layer.forward(torch.tensor([[9.0, -9.0]], dtype=torch.float64))
print(log_det.item())
""")
def contraction_far_out(m):
    s = 1 / m.cosh(9) ** 2
    return [m.log((1 + s / 4) * (1 + s / 8) + 3 * s * s / 16)]


@finding("normflows", "Residual's log-det in training is another number", "defect", "InvertibleResidual",
         "log det(I + J) = sum_k (-1)^(k+1) tr J^k/k, for g(z) = z/2 of one entry log(3/2)", """
With reduce_memory, the default, the number that training returns is the mean of e^T J (I + J)^-1 e, which is an estimate of no log-det:
only its gradient is that of the log-det. A density that training prints is wrong. Here is the mean over 200000 draws of the noise, which
errs by 0.002, and 60 terms of the series.""", """
import torch
from normflows.flows import Residual
torch.manual_seed(0)
layer = Residual(torch.nn.Linear(1, 1, bias=False).double(), reverse=False, n_power_series=60).train()
torch.nn.init.constant_(layer.iresblock.nnet.weight, 0.5)
print(layer.forward(torch.ones(200000, 1, dtype=torch.float64))[1].mean().item())
""")
def log_of_three_halves(m):
    return [m.log(m.mpf(3) / 2)]


@finding("normflows", "Residual takes the log-det's cotangent of the first row for all rows", "defect", "InvertibleResidual",
         "d/dw of the mean of sum_n weight_n log(1 + w) is 1/(1 + w) for nearly all weights 1, w = 1/2", """
With reduce_memory, the default, the gradient of the log-dets is computed in the forward pass and multiplied by the first row's cotangent.
Here the first of 200000 rows has the weight 0 in the loss, and the others 1: the gradient is 0. It is right if all rows have one weight.""", """
import torch
from normflows.flows import Residual
torch.manual_seed(0)
layer = Residual(torch.nn.Linear(1, 1, bias=False).double(), reverse=False, n_power_series=60).train()
w = torch.nn.init.constant_(layer.iresblock.nnet.weight, 0.5)
weights = torch.ones(200000, dtype=torch.float64)
weights[0] = 0
(layer.forward(torch.ones(200000, 1, dtype=torch.float64))[1] * weights).mean().backward()
print(w.grad.item())
""")
def all_rows_but_one(m):
    return [m.mpf(199999) / 200000 / (1 + m.mpf(1) / 2)]


@finding("flowjax", "LeakyTanh's inverse loses two digits near 0.414", "range", "LeakyTanh",
         "z = artanh x = (log(1 + x) - log(1 - x))/2 for |x| <= tanh max_val", """
jax.numpy.log1p of JAX 0.10.2, in float64 on a CPU, has errors of up to 128 ulps for x between -0.4143 and -0.369. So has its arctanh,
which this inverse calls, where |x| is in that range; numpy.arctanh is right to 1 ulp there. The first line printed is the inverse, the
second is log1p.""", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from flowjax.bijections import LeakyTanh
x = jnp.float64(-0.41421)
print(float(LeakyTanh(3.0).inverse(x)))
print(float(jnp.log1p(x)))
""")
def near_the_square_root_of_two(m):
    x = m.mpf(-0.41421)
    return [m.atanh(x), m.log1p(x)]


@finding("flowjax", "Planar is not the map of the appendix that it cites", "defect", "Planar",
         "log|det dx/dz| = log(1 + (slack - 1) sech^2 a), slack = softplus(w^T u), a = w^T z + b", """
The appendix of Rezende and Mohamed has m(t) = -1 + log(1 + exp(t)); the code cites it and has -1 + log(1 + softplus(t)), a
softplus inside a softplus. Its map and its log-det are consistent, w^T u_hat > -1 holds, and the same maps can be reached with
other numbers; the same numbers give another map than in the paper, in Pyro and in normflows. refflow's convention of that name
has it too.""", """
import jax; jax.config.update("jax_enable_x64", True)
import equinox, jax.numpy as jnp
from flowjax.bijections import Planar
params = jnp.array([0.5, 1.0, 1.0, 0.5, 0.25])
layer = equinox.tree_at(lambda one: one.params, Planar(jax.random.key(0), dim=2), params)
x, log_det = layer.transform_and_log_det(jnp.array([0.5, -0.25]))
print(float(x[0]))
print(float(log_det))
""")
def of_the_appendix(m):
    x, log_det = planar_at(m, (0.5, 1), (1, 0.5), 0.25, (0.5, -0.25), softplus, m.tanh, lambda a: 1 / m.cosh(a) ** 2)
    return [x[0], log_det]


@finding("flowjax", "Planar takes negative slopes at which it folds space", "defect", "Planar",
         "z = f^-1(f(z))", """
The documentation asks for a positive slope. A slope s needs 1 + s w^T u_hat > 0, which w^T u_hat > -1 gives for s <= 1 alone: with a
slack c = 1 + w^T u_hat below 1, slopes from 1/(1 - c) on fold space at the hyperplane, and inverse returns another event.""", """
import jax; jax.config.update("jax_enable_x64", True)
import equinox, jax.numpy as jnp
from flowjax.bijections import Planar
made = Planar(jax.random.key(0), dim=2, negative_slope=4.0)
layer = equinox.tree_at(lambda one: one.params, made, jnp.array([1.0, 1.0, -1.0, -1.0, 0.0]))
x, _ = layer.transform_and_log_det(jnp.array([-1.0, -0.5]))
print(float(layer.inverse_and_log_det(x)[0][0]))
""")
def other_side(m):
    return [-1]


@finding("flowjax", "Planar with a negative slope up to 1 is right, and its inverse", "right", "Planar",
         "x = z + u_hat h(w^T z + b), h(a) = a for a >= 0, a/4 for a < 0;   z = f^-1(f(z))", """
At moderate numbers, by its own formula for w^T u_hat.""", """
import jax; jax.config.update("jax_enable_x64", True)
import equinox, jax.numpy as jnp
from flowjax.bijections import Planar
made = Planar(jax.random.key(0), dim=2, negative_slope=0.25)
layer = equinox.tree_at(lambda one: one.params, made, jnp.array([0.5, 1.0, 1.0, 0.5, 0.25]))
x, log_det = layer.transform_and_log_det(jnp.array([-1.5, -0.5]))
print(float(x[0]))
print(float(log_det))
print(float(layer.inverse_and_log_det(x)[0][0]))
""")
def quarter_slope(m):
    slack = lambda m, t: m.log(1 + softplus(m, t))
    x, log_det = planar_at(m, (0.5, 1), (1, 0.5), 0.25, (-1.5, -0.5), slack, lambda a: a / 4, lambda a: m.mpf(1) / 4)
    return [x[0], log_det, -1.5]


def radial_at(m, centre, alpha, slack, z):
    """(x, log|det dx/dz|) of x = z + beta (z - centre)/(alpha + r), beta = slack - alpha."""
    y = [m.mpf(a) - m.mpf(b) for a, b in zip(z, centre)]
    r, beta = m.sqrt(sum(v * v for v in y)), slack - alpha
    g = 1 + beta / (alpha + r)
    d = 1 + beta * alpha / (alpha + r) ** 2
    return [m.mpf(c) + g * v for c, v in zip(centre, y)], (len(y) - 1) * m.log(g) + m.log(d)


@finding("pyro", "Radial is right", "right", "Radial",
         "x = z + beta (z - x0)/(alpha + r);   log|det dx/dz| = (D - 1) log(1 + beta/(alpha + r)) + log(1 + beta alpha/(alpha + r)^2)", """
At moderate numbers, with alpha and alpha + beta the softplus of theirs; ConditionalRadial has the same code.""", """
import torch
from pyro.distributions.transforms import Radial
t = Radial(3).double()
for name, value in {"x0": [0.5, -1.0, 0.25], "alpha_prime": [0.5], "beta_prime": [-1.5]}.items():
    getattr(t, name).data = torch.tensor(value, dtype=torch.float64)
z = torch.tensor([1.0, 0.5, -2.0], dtype=torch.float64)
x = t(z)
print(x[0].item())
print(t.log_abs_det_jacobian(z, x).item())
""")
def three_entries(m):
    half = m.mpf(1) / 2
    x, log_det = radial_at(m, (0.5, -1, 0.25), softplus(m, half), softplus(m, -3 * half), (1, 0.5, -2))
    return [x[0], log_det]


AT_CENTRE = """
beta is stored as -alpha + softplus(beta'), which rounds to -alpha where softplus(beta') is below an ulp of alpha: at the centre the
log-det is -inf, and the layer shrinks a ball to a point in the floats around it."""

@finding("pyro", "Radial loses its constraint to rounding", "range", "Radial",
         "log|det dx/dz| = D log((alpha + beta)/alpha) at z = x0, alpha + beta = softplus(beta')", AT_CENTRE, """
import torch
from pyro.distributions.transforms import Radial
t = Radial(2).double()
for name, value in {"x0": [0.5, -1.0], "alpha_prime": [0.0], "beta_prime": [-40.0]}.items():
    getattr(t, name).data = torch.tensor(value, dtype=torch.float64)
z = t.x0.detach().clone()
print(t.log_abs_det_jacobian(z, t(z)).item())
""")
def centre_of_pyro(m):
    return [2 * (m.log(softplus(m, -40)) - m.log(m.log(2)))]


@finding("normflows", "Radial loses its constraint to rounding", "range", "Radial",
         "log|det dx/dz| = D log((|alpha| + beta)/|alpha|) at z = z_0, |alpha| + beta = softplus(beta')", AT_CENTRE + """
log(1 + exp(beta')) rounds to 0 already below -36.7 in float64, and overflows above 709.8 (88.8 in float32).""", """
import torch
from normflows.flows import Radial
t = Radial((2,)).double()
for name, value in {"z_0": [[0.5, -1.0]], "alpha": [1.0], "beta": [-40.0]}.items():
    getattr(t, name).data = torch.tensor(value, dtype=torch.float64)
print(t.forward(t.z_0.detach().clone())[1].item())
""")
def centre_of_normflows(m):
    return [2 * m.log(softplus(m, -40))]


@finding("normflows", "Radial lets alpha be 0", "range", "Radial",
         "x = z_0 at z = z_0, for every alpha > 0", """
alpha is the magnitude of its number. For 0 the layer does not map the space onto itself: it moves all events away from the centre
by beta, leaves out a ball, and is NaN at the centre. The number starts at random, and nothing keeps it from 0.""", """
import torch
from normflows.flows import Radial
t = Radial((2,)).double()
for name, value in {"z_0": [[0.5, -1.0]], "alpha": [0.0], "beta": [0.5]}.items():
    getattr(t, name).data = torch.tensor(value, dtype=torch.float64)
print(t.forward(t.z_0.detach().clone())[0][0, 0].item())
""")
def the_centre(m):
    return [m.mpf(1) / 2]


@finding("pyro", "Sylvester's log-det is not the determinant of its map", "defect", "Sylvester",
         "y = x + (Q R)^T tanh((S Q^T)^T x + b);   log|det dy/dx| by its Jacobian", """
The documentation has y = x + Q R tanh(S Q^T x + b), whose determinant is the product of 1 + h'(a_i) r_ii s_ii. The code multiplies rows by
Q R and by S Q^T, so that both are transposed: R^T Q^T diag(h') Q S^T is not triangular, and its determinant is not that product, which
log_abs_det_jacobian returns, with 1e-8 added to each 1. The equation here is the code's map. For a Q that is diagonal, they agree.""", """
import torch
from pyro.distributions.transforms import Sylvester
t = Sylvester(2, 1).double()
for name, value in {"u_unnormed": [[0.6, 0.8]], "R_dense": [[0.0, 0.5], [0.0, 0.0]], "S_dense": [[0.0, -1.5], [0.0, 0.0]],
                    "R_diag": [0.5, 0.75], "S_diag": [0.25, -0.5], "b": [0.5, -1.0]}.items():
    getattr(t, name).data = torch.tensor(value, dtype=torch.float64)
x = torch.tensor([0.5, -0.25], dtype=torch.float64)
y = t(x)
print(y[0].item())
print(t.log_abs_det_jacobian(x, y).item())
""")
def of_transposes(m):
    u = [m.mpf(0.6), m.mpf(0.8)]
    Q = m.eye(2) - 2 * m.matrix(u) * m.matrix(u).T / (u[0]**2 + u[1]**2)
    R, S = m.matrix([[m.tanh(0.5), 0.5], [0, m.tanh(0.75)]]), m.matrix([[m.tanh(0.25), -1.5], [0, m.tanh(-0.5)]])
    A, B, x = (Q * R).T, (S * Q.T).T, m.matrix([0.5, -0.25])
    a = B * x + m.matrix([0.5, -1])
    J = m.eye(2) + A * m.diag([1 / m.cosh(v)**2 for v in a]) * B
    return [(x + A * a.apply(m.tanh))[0], m.log(abs(m.det(J)))]


@finding("pyro", "AffineAutoregressive has no inverse in float64", "defect", "Autoregressive",
         "z = x where mean and log-scale are 0", """
The inverse starts from zeros of the default dtype, whatever that of its input and of its network is: a network in float64 refuses
them. torch.zeros_like would not. SplineAutoregressive has it.""", """
import torch
from pyro.distributions.transforms import AffineAutoregressive
from pyro.nn import AutoRegressiveNN
net = AutoRegressiveNN(2, [2]).double()
for p in net.parameters():
    p.data.zero_()
print(AffineAutoregressive(net).inv(torch.tensor([0.5, 1.0], dtype=torch.float64))[0].item())
""")
def the_same(m):
    return [m.mpf(1) / 2]


@finding("pyro", "A log-scale far beyond its clamp is not clamped", "range", "Autoregressive ClampedExpScale",
         "log dx/dz = min(max(a, -5), 3)", """
The clamp is x + (clamp(x) - x), whose gradient is 1: it rounds at the size of x. The answer is right up to |x| = 2^24 in float32 and
2^53 in float64. Beyond that it is a multiple of the spacing of x, such as 4 in place of 3 at 2e16, and it is 0 from 2^27 and 2^56 on.
AffineCoupling and AffineAutoregressive meet this only where a network has diverged, against which a clamp is there. Here: a
network whose last bias alone is not 0.""", """
import torch
from pyro.distributions.transforms import AffineAutoregressive
from pyro.nn import AutoRegressiveNN
for dtype, a in ((torch.float32, 1e9), (torch.float64, 2e16)):
    net = AutoRegressiveNN(1, [4]).to(dtype)
    for p in net.parameters():
        p.data.zero_()
    net.layers[-1].bias.data = torch.tensor([0.0, a], dtype=dtype)
    f, z = AffineAutoregressive(net), torch.zeros(1, dtype=dtype)
    print(f.log_abs_det_jacobian(z, f(z)).item())
""")
def clamped(m):
    return [3, 3]


@finding("pyro", "The log-dets of Polynomial and NeuralAutoregressive add 1e-8", "defect", "DeepSigmoid SumOfSquares",
         "log dx/dz = log a^2 of x = a^2 z, a = 1e-3;   log dx/dz = log r of x = r z, r = log(1 + exp(-18))", """
Polynomial has log(slope + 1e-8), and NeuralAutoregressive log(rate + 1e-8) for each unit, whereas their values have no such term: the
log-det is not that of the map. In float64 half of the digits are wrong at a slope of 1, and all of them at one of 1e-8.""", """
import torch
from pyro.distributions.transforms import NeuralAutoregressive, Polynomial
z = torch.tensor([[0.5]], dtype=torch.float64)
t = Polynomial(lambda z: torch.tensor([[1e-3, 0.0]], dtype=torch.float64), 1, 1, 1).double()
print(t.log_abs_det_jacobian(z, t(z)).item())
t = NeuralAutoregressive(lambda z: torch.tensor([[[[-18.0]]], [[[0.0]]], [[[0.0]]]], dtype=torch.float64), 1)
print(t.log_abs_det_jacobian(z, t(z)).item())
""")
def without_1e_8(m):
    return [2 * m.log(m.mpf(1e-3)), m.log(m.log(1 + m.exp(-18)))]


@finding("pyro", "Polynomial moved to float64 integrates with thirds of float32", "defect", "SumOfSquares",
         "x = z + z^2 + z^3/3, the integral of (1 + u)^2", """
1/(l + m + 1) is computed in the default dtype and kept as a buffer, which .double() makes float64 with the digits of float32. A default
dtype of float64 avoids it.""", """
import torch
from pyro.distributions.transforms import Polynomial
t = Polynomial(lambda z: torch.ones(1, 2, dtype=torch.float64), 1, 1, 1).double()
t.c.data.zero_()
print(t(torch.tensor([[3.0]], dtype=torch.float64)).item())
""")
def a_third_of_a_cube(m):
    return [m.mpf(3) + 9 + 9]


@finding("pyro", "BlockAutoregressive's log-det divides by another norm than its map", "defect", "BlockAutoregressive",
         "x = w2 tanh(w1 z), w = w/|w| = 1;   log dx/dz = log(1 - tanh(z)^2)", """
Rows are divided by |w| + 1e-8; in the log-det by the root of |w|^2 + 1e-8, which is 1e-4 where the weights are small. With weights
exp(-12) in the first layer, the log-det is off by 2.8, and the value by 0.1 %.""", """
import torch
from pyro.distributions.transforms import BlockAutoregressive
t = BlockAutoregressive(1, [1]).double()
for p in t.parameters():
    p.data.zero_()
t.layers[0]._weight.data.fill_(-12.0)
z = torch.tensor([0.5], dtype=torch.float64)
print(t(z).item())
print(t.log_abs_det_jacobian(z, t(z)).item())
""")
def with_unit_weights(m):
    return [m.tanh(m.mpf(1) / 2), m.log(1 - m.tanh(m.mpf(1) / 2)**2)]


@finding("pyro", "SimplexToOrderedTransform takes the last part as 1 minus the others", "defect", "SimplexToOrdered",
         "x = log(z_1/z_2);   z_2 = 1/(1 + exp(x))", """
The value is the logit of a sum that rounds to 1: it is infinite, and so are the log-det and gradients, where the last part is 1e-17. The
inverse returns 1 - sigmoid(x), which is 0 from 37 on.""", """
import torch
from pyro.distributions.transforms import SimplexToOrderedTransform
t = SimplexToOrderedTransform(torch.tensor(0.0, dtype=torch.float64))
print(t(torch.tensor([1.0, 1e-17], dtype=torch.float64)).item())
print(t.inv(torch.tensor([40.0], dtype=torch.float64))[1].item())
""")
def small_last_part(m):
    return [-m.log(m.mpf(1e-17)), 1 / (1 + m.exp(40))]


@finding("torchflows", "Planar folds space where w^T u < -4", "defect", "Planar",
         "x(1/4) - x(-1/4) has the sign of the slope at infinity, 1", """
x = z + u sigmoid(w^T z + b) is invertible where w^T u > -4; nothing in the layer sees to it, and u and w start as independent normal
numbers. Here w = 1, u = -8: x falls at 0. The log-det takes a magnitude and tells nothing.""", """
import torch
from torchflows.bijections.finite.residual.planar import Planar
layer = Planar((1,)).double()
for name, value in {"w": [1.0], "u": [-8.0], "b": 0.0}.items():
    getattr(layer, name).data = torch.tensor(value, dtype=torch.float64)
x, _ = layer.inverse(torch.tensor([[0.25], [-0.25]], dtype=torch.float64))
print(torch.sign(x[0] - x[1]).item())
""")
def increasing_line(m):
    return [1]


@finding("torchflows", "Radial has the log-det of neither map", "defect", "Radial",
         "x_i = z_i + beta y_i/(alpha + |y_i|), y = z - z0;   log|det dx/dz| = sum_i log(1 + beta alpha/(alpha + |y_i|)^2)", """
r is the magnitude of each entry, not the length of z - z0: the layer acts on entries one by one and is not the radial flow that it
cites. To the logarithm of each entry's slope it adds the D - 1 further terms of the paper's log-det, once for each entry. With one
entry it is right up to an eps of 1e-8. The equation here is the code's map.""", """
import torch
from torchflows.bijections.finite.residual.radial import Radial
layer = Radial((3,)).double()
for name, value in {"z0": [0.5, -1.0, 0.25], "unconstrained_alpha": 0.5, "beta": 1.5}.items():
    getattr(layer, name).data = torch.tensor(value, dtype=torch.float64)
print(layer.inverse(torch.tensor([[1.0, 0.5, -2.0]], dtype=torch.float64))[1].item())
""")
def one_by_one(m):
    alpha, beta = softplus(m, m.mpf(1) / 2), m.mpf(3) / 2
    return [sum(m.log(1 + beta * alpha / (alpha + abs(m.mpf(y))) ** 2) for y in (0.5, 1.5, -2.25))]


@finding("torchflows", "Sylvester layers with the number of units that they choose raise", "defect", "Sylvester",
         "x = z + Q R sigmoid(S Q^T z + b); here R = 1.001, z = 0 and b = 0", """
The number of units is half the number of entries, if none is given. IdentitySylvester, called Sylvester, then raises for 3
entries; HouseholderSylvester raises for 2 to 4 entries, PermutationSylvester for 4. All raise for an event without batch
axes. With as many units as entries, HouseholderSylvester and PermutationSylvester do not raise.""", """
import torch
from torchflows.bijections.finite.residual.sylvester import Sylvester
for entries in (2, 3):
    layer = Sylvester((entries,)).double()
    for p in layer.parameters():
        p.data.zero_()
    print(layer.inverse(torch.zeros(5, entries, dtype=torch.float64))[0][0, 0].item())
""")
def half_a_unit(m):
    return [m.mpf(1.001) / 2] * 2


@finding("torchflows", "the 1x1 convolution counts one pixel", "defect", "Pointwise",
         "log|det dx/dz| = H W sum_i log U_ii; here H = W = 2 and U_ii = 1.1 for both channels", """
The log-det of Invertible1x1ConvolutionTransformer is the log-det of the matrix, which acts on each pixel: it lacks a factor of the number
of pixels. So the log-dets of Invertible1x1ConvolutionalCoupling and of the Glow layers made of it are wrong.""", """
import torch
from torchflows.bijections.finite.autoregressive.transformers.linear.convolution import Invertible1x1ConvolutionTransformer
layer = Invertible1x1ConvolutionTransformer((2, 2, 2))
h = torch.zeros(1, 4, dtype=torch.float64)
print(layer.forward(torch.ones(1, 2, 2, 2, dtype=torch.float64), h)[1].item())
""")
def of_four_pixels(m):
    return [8 * m.log(1 + 1 / m.mpf(10))]


@finding("torchflows", "the sigmoidal transformers have the log-det of no map", "defect", "DeepSigmoid",
         "x = logit(sum_k w_k sigmoid(a_k z + b_k));   here b = 0 and all a_k = a = log(exp(1) - 1/1000) + 1/1000, so that x = a z and "
         "log dx/dz = log a", """
The slope of the logit, 1/(d (1 - d)), enters with one wrong sign, as log d - log(1 - d), and the logarithms of the terms of the sum over
k are added, where the logarithm of the sum is meant. The same first line stands in DenseSigmoid. The maps themselves are right between
their clips at 1e-6.""", """
import torch
from torchflows.bijections.finite.autoregressive.transformers.combination.sigmoid import Sigmoid
t = Sigmoid((1,), hidden_dim=4)
h = torch.zeros(1, 1, 12, dtype=torch.float64)
for z in (0.0, 1.0):
    x, log_det = t.forward(torch.tensor([[z]], dtype=torch.float64), h)
    print(x.item())
    print(log_det.item())
""")
def one_sigmoid(m):
    a = m.log(m.e - m.mpf(1) / 1000) + m.mpf(1) / 1000
    return [0, m.log(a), a, m.log(a)]


@finding("torchflows", "LUMatrix raises in float64", "defect", "PLULinear",
         "x = L U z; here L is the identity and U = 1.001 times it, z = (1, 1)", """
The unit triangle is made of torch.eye in the default dtype, and then takes the entries of a parameter of another dtype. All matrices with
`unitriangular=True` raise so after `.double()`.""", """
import torch
from torchflows.bijections.finite.matrix.decomposition import LUMatrix
layer = LUMatrix((2,)).double()
for p in layer.parameters():
    p.data.zero_()
x, log_det = layer(torch.ones(1, 2, dtype=torch.float64))
print(x[0, 0].item())
""")
def scaled_identity(m):
    return [1 + m.mpf(1) / 1000]


@finding("torchflows", "LinearRational's log-det has an eps that its map has not", "defect", "LinearRationalSpline",
         "log dx/dz = 0: equal bins and slopes 1 are the identity", """
An eps of 5e-10 is added to a square before its logarithm, and not to the map: the log-det is wrong from the tenth digit on, and by more
where the raw number of the first weight is negative, which scales all weights and does not matter to the map.""", """
import torch
from torchflows.bijections.finite.autoregressive.transformers.spline.linear_rational import LinearRational
t = LinearRational((1,), boundary=3.0, n_bins=3)
h = torch.zeros(1, 1, 12, dtype=torch.float64)
for first in (0.0, -10.0):
    h[..., -1] = first
    x, log_det = t.forward(torch.tensor([[0.25]], dtype=torch.float64), h)
    print(x.item())
    print(log_det.item())
""")
def identity_spline(m):
    return [m.mpf(1) / 4, 0] * 2


@finding("torchflows", "a continuous flow's log-det has no gradient", "defect", "ContinuousFlow",
         "log|det dx/dz| = the integral of tr dv/dx dt, which is a for v = a x of one entry from 0 to 1: its slope in a is 1", """
The product of the noise and the Jacobian is computed with torch.no_grad() and create_graph=False, in FFJORD, RNODE, DDNF and their
convolutional forms. Training by maximum likelihood sees the log-det as a constant. Here the noise is 1, with which the estimate of the
trace is exact.""", """
import torch
from torchflows.bijections.continuous.base import ContinuousBijection, HutchinsonTimeDerivative
from torchflows.bijections.continuous.time_derivative import TimeDerivativeModule
class Velocity(TimeDerivativeModule):
    def forward(self, t, x):
        return a * x
a = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
flow = ContinuousBijection((1,), HutchinsonTimeDerivative(Velocity(), reuse_noise=True))
flow.f._reusable_noise = torch.ones(1, 1, 1, dtype=torch.float64)
_, log_det = flow.inverse(torch.tensor([[1.0]], dtype=torch.float64))
print(log_det.item())
print(torch.autograd.grad(log_det.sum(), a)[0].item())
""")
def integral_of_the_trace(m):
    return [m.mpf(1) / 2, m.mpf(1)]


@finding("torchflows", "a continuous flow's penalty of the Jacobian adds itself", "defect", "ContinuousFlow",
         "the integral of |e^T dv/dx|^2 dt from 0 to 1 is 1/4 for v = x/2 and e = 1", """
In training, the rate of the penalty is the penalty so far plus the squared norm: it grows like exp(t) in FFJORD and RNODE.""", """
import torch
from torchflows.bijections.continuous.base import ContinuousBijection, HutchinsonTimeDerivative
from torchflows.bijections.continuous.time_derivative import TimeDerivativeModule
class Velocity(TimeDerivativeModule):
    def forward(self, t, x):
        return a * x
a = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
flow = ContinuousBijection((1,), HutchinsonTimeDerivative(Velocity(), reg_jac=True, reuse_noise=True)).train()
flow.f._reusable_noise = torch.ones(1, 1, 1, dtype=torch.float64)
print(flow.inverse(torch.tensor([[1.0]], dtype=torch.float64), return_aux=True)[2].item())
""")
def quarter(m):
    return [m.mpf(1) / 4]


@finding("torchflows", "a continuous flow takes one step, whatever its tolerances", "defect", "ContinuousFlow",
         "x = exp(2) z for v = 2 x from 0 to 1", """
The default solver, rk4 of torchdiffeq, takes one step for each interval of times unless it is given a step_size, and does not use atol
and rtol, which the constructor takes. The way back is one step, too: it does not return z = 1.""", """
import torch
from torchflows.bijections.continuous.base import ContinuousBijection, HutchinsonTimeDerivative
from torchflows.bijections.continuous.time_derivative import TimeDerivativeModule
class Velocity(TimeDerivativeModule):
    def forward(self, t, x):
        return a * x
a = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
a = torch.tensor(2.0, dtype=torch.float64)
flow = ContinuousBijection((1,), HutchinsonTimeDerivative(Velocity()), atol=1e-9, rtol=1e-9)
x, _ = flow.inverse(torch.tensor([[1.0]], dtype=torch.float64))
print(x.item())
print(flow.forward(x)[0].item())
""")
def doubling(m):
    return [m.exp(2), 1]


@finding("torchflows", "a continuous flow ends at a time of float32 digits", "defect", "ContinuousFlow",
         "end_time", """
The buffer is the square root of end_time in float32, also for a module that becomes float64, and is squared for every integration.""", """
import torch
from torchflows.bijections.continuous.base import ContinuousBijection
flow = ContinuousBijection((1,), None, end_time=0.1).double()
print(flow.make_integrations_times(torch.zeros(1, dtype=torch.float64))[1].item())
""")
def tenth(m):
    return [m.mpf(0.1)]


@finding("torchflows", "SpectralMatrix does not use its coefficient", "defect", "InvertibleResidual SpectralDense",
         "|W/max(1, s/c)|_2 = c for a spectral norm s above c", """
The matrix is divided by its spectral norm, and never multiplied by c, which is 0.7 by default. Layers of InvertibleResNet and ResFlow
have the Lipschitz bound 1, not c, with which x + g(x) need not be invertible, and its inverse by iteration need not converge.""", """
import torch
from torchflows.bijections.finite.residual.iterative import SpectralMatrix
torch.manual_seed(0)
layer = SpectralMatrix((3, 3), c=0.5, n_iterations=1000)
print(torch.linalg.matrix_norm(layer.normalized(), 2).item())
""")
def coefficient(m):
    return [m.mpf(1) / 2]


@finding("torchflows", "Cubic raises in the first and in the last bin", "defect", "CubicSpline",
         "x = z: raw numbers 0 make equal bins and slopes 1", """
The slopes at the two knots of a bin are made of the bins beside it. The first bin has none on its left, and the last one none on its
right: the knots there are looked up beyond the array. Two events of a batch raise in every bin, since the differences between events and
knots are a matrix of all pairs.""", """
import torch
from torchflows.bijections.finite.autoregressive.transformers.spline.cubic import Cubic
t = Cubic((1,), n_bins=4)
h = torch.zeros(1, 1, 10, dtype=torch.float64)
for z in (0.25, 0.75):
    print(t.forward(torch.tensor([[z]], dtype=torch.float64), h)[0].item())
""")
def two_bins(m):
    return [m.mpf(1) / 4, m.mpf(3) / 4]


# -- Pyro -------------------------------------------------------------------------------------------------------------

@finding("pyro", "BlockAutoregressive's log-det is of other weights than its map", "defect", "BlockAutoregressive",
         "x = W2 tanh(W1 z);  log dx/dz at 0 = log(W2 W1), with the weights of the map", """
The map divides the rows of its weights by |w| + eps, the log-det by sqrt(|w|^2 + eps), with eps = 1e-8. They agree to eight digits where
|w| is about 1, and to fewer where it is small: here w = (exp(-7), exp(-7)) and a gain of 1, with W1 = (1, 1).""", """
import torch
from pyro.distributions.transforms import BlockAutoregressive
t = BlockAutoregressive(1, hidden_factors=[2]).double()
first, second = t.layers
for layer, weight in ((first, 10.0), (second, -7.0)):
    layer._weight.data = torch.full_like(layer._weight, weight)
    layer._diag_weight.data = torch.zeros_like(layer._diag_weight)
    layer.bias.data = torch.zeros_like(layer.bias)
z = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
x = t(z)
print(torch.autograd.grad(x, z)[0].log().item())
print(t.log_abs_det_jacobian(z, x).item())
""")
def one_set_of_weights(m):
    eps = m.mpf(1e-8)
    w = m.exp(-7)
    W2 = w / (m.sqrt(2) * w + eps)
    W1 = m.exp(10) / (m.exp(10) + eps)
    return [m.log(2 * W1 * W2)] * 2


# -- TFP --------------------------------------------------------------------------------------------------------------

@finding("tfp", "RayleighCDF's inverse log-det has a float32 constant", "defect", "RayleighCDF",
         "log dz/dx = -log(1 - x) - 1/2 log(-2 log(1 - x)), x = 1/2, for scale 1", """
The root of 2 is computed in float32, whatever the dtype of the event is: in float64 half of the digits are lost at every event, and
the log-det is not minus that of forward.""", """
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from tensorflow_probability.substrates import jax as tfp
f = tfp.bijectors.RayleighCDF(scale=jnp.asarray(1.0, jnp.float64))
print(float(f.inverse_log_det_jacobian(jnp.asarray(0.5, jnp.float64), 0)))
""")
def half_of_rayleigh(m):
    return [m.log(2) - m.log(2 * m.log(2)) / 2]


# -- FlowTorch --------------------------------------------------------------------------------------------------------

@finding("flowtorch", "Invert has the log-det of the map that it inverts", "defect", "Inverse",
         "y = x/3,   log|dy/dx| = -log 3", """
`Invert.log_abs_det_jacobian(x, y)` returns log|dx/dy|, the log-det of the bijector inside, without a minus: a density through Invert
is wrong.""", """
import torch
from flowtorch.bijectors import AffineFixed, Invert
t = Invert(AffineFixed(scale=3.0), shape=torch.Size([1]))
x = torch.ones(1, 1, dtype=torch.float64)
y = t.forward(x)
print(y.item())
print(t.log_abs_det_jacobian(x, y).item())
""")
def one_third(m):
    return [m.mpf(1) / 3, -m.log(3)]


@finding("flowtorch", "Compose raises with an Invert among its bijectors", "defect", "Chain Inverse",
         "y = x/3 = 1/3 at x = 1", """
Compose looks for the log-det in an image that remembers a forward pass. The image of an Invert remembers the inverse pass of the
bijector inside.""", """
import torch
from flowtorch.bijectors import AffineFixed, Compose, Invert
t = Compose([Invert(AffineFixed(scale=3.0))], shape=torch.Size([1]))
print(t.forward(torch.ones(1, 1, dtype=torch.float64)).item())
""")
def a_third_of_one(m):
    return [m.mpf(1) / 3]


@finding("flowtorch", "Compose adds log-dets of entries to log-dets of vectors", "defect", "Chain",
         "y = 2 (x_2, x_1),   log|det| = 2 log 2", """
Log-dets of an elementwise bijector stand for each entry, those of Permute and of autoregressive bijectors for each vector. They are
added without a sum over entries, which raises, or broadcasts where the number of events is that of entries. The first bijector alone
says how many axes an event has. Reported as facebookincubator/flowtorch#115, of log_prob.""", """
import torch
from flowtorch.bijectors import AffineFixed, Compose, Permute
t = Compose([Permute(permutation=torch.tensor([1, 0])), AffineFixed(scale=2.0)], shape=torch.Size([2]))
x = torch.ones(3, 2, dtype=torch.float64)
y = t.forward(x)
print(t.log_abs_det_jacobian(x, y)[0].item())
""")
def two_twos(m):
    return [2 * m.log(2)]


@finding("flowtorch", "DenseAutoregressive takes the sum of a shape for the number of entries", "defect", "Autoregressive",
         "a matrix of 2 x 3 has 6 entries", """
The network for an event of shape (2, 3) is made for 2 + 3 entries, and raises. For (2, 2), where the sum is the product, forward is
right.""", """
import torch
from flowtorch.bijectors import AffineAutoregressive
t = AffineAutoregressive(shape=torch.Size([2, 3]))
print(t.forward(torch.zeros(1, 2, 3)).numel())
""")
def six(m):
    return [6]


@finding("flowtorch", "ELU's inverse adds 1e-8", "defect", "ELUTransform",
         "z = log(1 + x) for x < 0", """
log1p(x + 1e-8), as in Pyro, from which the code comes: at z = -15 the inverse is off by 0.03.""", """
import torch
from flowtorch.bijectors import ELU
t = ELU(shape=torch.Size([]))
for z in (-1.0, -15.0):
    print(t.inverse(torch.nn.functional.elu(torch.tensor(z, dtype=torch.float64))).item())
""")
def elu_back(m):
    return [-1, -15]


@finding("flowtorch", "Spline evaluates the wrong bin within 1e-6 above a knot", "defect", "LinearRationalSpline RationalQuadraticSpline",
         "x = h (s t^2 + d_0 t (1 - t))/(s + (d_1 + d_0 - 2 s) t (1 - t)) in the bin of z", """
The search for a bin adds eps = 1e-6 to the knots, as in Pyro, from which the code comes. Here: equal bins on [-1, 1], slope
log 2 + 0.001 at 0.""", """
import torch
from flowtorch.bijectors import Spline
t = Spline(shape=torch.Size([1]), count_bins=2, bound=1.0, order="quadratic").double()
for p in t.parameters():
    p.data.zero_()
z = torch.tensor([9e-7], dtype=torch.float64)
print(t.log_abs_det_jacobian(z, t.forward(z)).item())
""")
def right_of_the_knot(m):
    return above_the_knot(m)


@finding("flowtorch", "The inverse of a quadratic Spline raises for inputs beyond its bound", "defect", "RationalQuadraticSpline",
         "z = x beyond the bound", """
The discriminant of the quadratic is asserted not to be negative before the inputs beyond the bound, which are not to be used in it, are
replaced by the identity. So one input in the tails stops a whole batch; Pyro asserts inside the bound alone. Here: two equal widths, and
heights of 0.73 and 0.27 of the whole.""", """
import torch
from flowtorch.bijectors import Spline
t = Spline(shape=torch.Size([1]), count_bins=2, bound=1.0, order="quadratic").double()
for p in t.parameters():
    p.data.zero_()
t._params_fn.params[1].data[0, 0] = 1.0
print(t.inverse(torch.tensor([[-50.0]], dtype=torch.float64)).item())
""")
def tail(m):
    return [-50]


@finding("flowtorch", "Spline's slope at its end knots is 0.999", "choice", "LinearRationalSpline RationalQuadraticSpline",
         "log dx/dz = 0 at the end knot, for slope 1", """
A comment in its source asks why the slope at the ends is 1 less the floor of 1e-3, as in Pyro: the map has a kink there. refflow's
convention of that name has it too.""", """
import torch
from flowtorch.bijectors import Spline
t = Spline(shape=torch.Size([1]), count_bins=2, bound=1.0, order="quadratic").double()
for p in t.parameters():
    p.data.zero_()
z = torch.tensor([-1.0], dtype=torch.float64)
print(t.log_abs_det_jacobian(z, t.forward(z)).item())
""")
def slope_one(m):
    return [0]


@finding("flowtorch", "A log-scale far beyond its clamp is not clamped", "range", "ClampedExpScale",
         "log dx/dz = min(max(a, -5), 3)", """
The clamp is x + (clamp(x) - x), as in Pyro, from which the code comes: it rounds at the size of x. The answer is right up to
|x| = 2^24 in float32 and 2^53 in float64, and 0 from 2^27 and 2^56 on. Affine and AffineAutoregressive meet this only where numbers
have diverged, against which a clamp is there.""", """
import torch
from flowtorch.bijectors import Affine
for dtype, a in ((torch.float32, 1e9), (torch.float64, 2e16)):
    t = Affine(shape=torch.Size([1])).to(dtype)
    t._params_fn.params[1].data.fill_(a)
    z = torch.zeros(1, dtype=dtype)
    print(t.log_abs_det_jacobian(z, t.forward(z)).item())
""")
def three(m):
    return [3, 3]


# -- BayesFlow --------------------------------------------------------------------------------------------------------

@finding("bayesflow", "CouplingFlow does not pass transform_kwargs to an affine transform", "defect", "AffineCoupling",
         "scale = log(1 + exp(s + log(e - 1))) at s = 10, without the clamp", """
The documentation of CouplingFlow says that transform_kwargs are forwarded to the affine or spline transforms. `find_transform` makes
AffineTransform() without them, so that clamp=False does nothing.""", """
import os
os.environ["KERAS_BACKEND"] = "torch"
import torch
from bayesflow.networks import CouplingFlow
flow = CouplingFlow(depth=1, transform_kwargs={"clamp": False})
transform = flow.invertible_layers[-1].coupling1.transform
print(transform.constrain_parameters({"scale": torch.tensor(10.0)})["scale"].item())
""")
def unclamped(m):
    return [m.log1p(m.exp(10 + m.log(m.e - 1)))]


@finding("bayesflow", "OrthogonalPermutation counts all positions in the log-det of each", "defect", "OrthogonalLinear",
         "log p(x) = log N(2 x; 0, I) + 2 log 2 = -log(2 pi) + 2 log 2 at x = 0", """
For events at several positions, the layers of a CouplingFlow have a log-det for each position, and its log_prob a density for each.
OrthogonalPermutation multiplies its log-det by the number of positions, as a log-det for all of them together, and this is added at
each position. Here: two positions of two entries, and a matrix of 2 times the identity. With one position it is right.""", """
import os
os.environ["KERAS_BACKEND"] = "torch"
import torch
from bayesflow.networks import CouplingFlow
flow = CouplingFlow(depth=1, permutation="orthogonal", use_actnorm=False)
flow.build((None, 2, 2))
flow.invertible_layers[0].weight.assign(2 * torch.eye(2))
print(flow(torch.zeros(1, 2, 2), density=True)[1][0, 0].item())
""")
def of_one_position(m):
    return [2 * m.log(2) - m.log(2 * m.pi)]


@finding("bayesflow", "SplineTransform does not start at its default domain", "defect", "RationalQuadraticSpline",
         "arcsinh(log(1 + exp(c))) = 1 for c = log(exp(sinh 1) - 1): the last knot is -3 + 6 = 3", """
A comment in its source says that the total width is 1 times the default width when the network gives 0. The constant that it adds,
sinh(1) log(e - 1), gives 0.92 times: with 16 bins and the default domain from -3 to 3 the last knot is 2.66.""", """
import os
os.environ["KERAS_BACKEND"] = "torch"
import torch
from bayesflow.networks.inference.coupling.transforms import SplineTransform
t = SplineTransform()
knots = t.constrain_parameters(t.split_parameters(torch.zeros(1, t.params_per_dim)))["horizontal_edges"]
print(knots[..., -1].item())
""")
def last_default_knot(m):
    return [3]


@finding("bayesflow", "The log-det of Constrain with one bound is -inf from 710 on", "defect", "Softplus",
         "z = log(exp(x) - 1),   log dz/dx = -log(1 - exp(-x))", """
x - log(exp(x) - 1) overflows above 709, and cancels near 0: at 1e-9 eight digits are left, and from 1e-16 down it is infinite. In
float32 it is -inf from 89 on.""", """
import os
os.environ["KERAS_BACKEND"] = "torch"
import numpy as np
from bayesflow.adapters.transforms import Constrain
for x in (800.0, 1e-9):
    print(Constrain(lower=0.0, inclusive="none").log_det_jac(np.array(x)).item())
""")
def of_one_bound(m):
    return [-m.log1p(-m.exp(-800)), -m.log(-m.expm1(-m.mpf(1e-9)))]


@finding("bayesflow", "Log-dets of transforms of data are functions of the data, which saturates", "choice", "Sigmoid",
         "log dx/dz = -log(1 + exp(-z)) - log(1 + exp(z)) of x = 1/(1 + exp(-z)), at z = 40", """
Adapter.inverse maps numbers to data, and then asks for the log-det at the data. Where these have rounded to a bound, as with
Constrain from z = 37 on, or where they underflow, as with Sqrt below 1e-162, it is infinite. With bounds that are inclusive, as they
are by default, Constrain's is finite and constant there.""", """
import os
os.environ["KERAS_BACKEND"] = "torch"
import numpy as np
from bayesflow.adapters.transforms import Constrain
t = Constrain(lower=0, upper=1, inclusive="none")
x = t(np.array(40.0), inverse=True)
print(t.log_det_jac(x, inverse=True).item())
""")
def at_the_bound(m):
    return [-m.log1p(m.exp(-40)) - m.log1p(m.exp(40))]
