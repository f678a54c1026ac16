"""Parametrisations whose fields are vectors: the conventions of splines, their values by hand, and what is refused."""

import math

import numpy as np
import pytest

from refflow.maps.coupling import Family
from refflow.maps.elementwise import ExpScale, SoftplusScale
from refflow.maps.parametrisations import (BATCH_NORMS, BERNSTEIN_POLYNOMIALS, QUADRATIC_SPLINES, SPLINES, SUMS_OF_SQUARES,
                                          TRIANGULAR, DensityKnots, KnotSlopes, PerPart, Premultiplied, SoftmaxKnots)
from refflow.maps.parametrisations.conventions import TABLES
from refflow.maps.splines import RationalQuadraticSpline
from refflow.truth.measure import measure

DTYPES = (np.float32, np.float64)
ZEROS = {"FlowJAX 17": np.array([0, 1, 3, 5, 6]) / 3 - 1, "FlowJAX 19": np.linspace(-1, 1, 5), "SurVAE": [0, 1/3, 2/3, 1],
         "bijx": [0, 1/3, 2/3, 1], "Pyro, FlowTorch": [-3, -1, 1, 3], "normflows": [-3, -1, 1, 3], "zuko": [-5, -5/3, 5/3, 5],
         "VITS": [-5, -5/3, 5/3, 5], "torchflows": [-50, -50/3, 50/3, 50], "FrEIA": [-3, 3, 9, 15]}
ONE_AT_ZERO = {"distrax", "FlowJAX 17", "FlowJAX 19", "bijx", "zuko", "torchflows", "FrEIA"}


def fields(f, h):
    with np.errstate(all="ignore"):
        return f.unchecked(np.dtype(np.float64)).vjp(np.asarray(h, float))[0]


@pytest.mark.parametrize("name", SPLINES)
def test_h_of_0_is_a_spline_of_equal_bins(name):
    f = SPLINES[name](3)
    found = fields(f, np.zeros(f.size))
    knots = ZEROS.get(name, [-1, -1/3, 1/3, 1])
    assert found["input_knots"] == pytest.approx(knots, abs=1e-14)
    assert found["output_knots"] == pytest.approx(knots, abs=1e-14)
    inner = 1.0 if name in ONE_AT_ZERO else math.log(2) + 1e-3
    assert found["slopes"][1:-1] == pytest.approx(inner, rel=1e-15)


SIZES = {"BATCH_NORMS": 2, "SUMS_OF_SQUARES": 2, "BERNSTEIN_POLYNOMIALS": 7}        # bins, or what else counts; 3 elsewhere
MADE = {f"{name}, {kind}": convention(SIZES.get(kind, 3)) for kind, table in TABLES.items() if kind != "CONVENTIONS"
        for name, convention in table.items()}


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", MADE)
def test_certificate_of_conventions(name, dtype):
    """Fields and the pullback, C <= 4 + P/2, over moderate numbers and numbers that saturate."""
    rng = np.random.default_rng([*name.encode(), np.dtype(dtype).itemsize])
    f = MADE[name]
    for _ in range(6):
        h = rng.standard_normal(f.size) * np.exp2(rng.integers(-8, 8, f.size))
        bars = rng.standard_normal(sum(math.prod(core) for core in f.cores))
        for quantity, (C, _) in measure(f, h=h, fields_bar=bars, dtype=dtype).items():
            assert C <= 4 + f.size / 2, (quantity, h, bars)


def test_the_knots_are_the_printed_formula():
    h = np.array([0.3, -1.2, 2.0])
    p = np.exp(h) / np.exp(h).sum()
    (knots,) = fields(SoftmaxKnots(3, -2.0, 4.0, 0.5), h).values()
    assert knots == pytest.approx(np.concatenate([[-2], -2 + np.cumsum(0.5 + 4.5 * p)]), rel=1e-15)
    a = h / (1 + np.abs(2 * h / np.log(1e-3)))
    p = np.exp(a) / np.exp(a).sum()
    (knots,) = fields(SoftmaxKnots(3, -2.0, 4.0, clip=1e-3), h).values()
    assert knots == pytest.approx(np.concatenate([[-2], -2 + np.cumsum(6 * p)]), rel=1e-15)
    p = np.exp(h) / np.exp(h).sum()
    w = np.array([p[0] / 2, p[1], p[2], p[0] / 2])
    (knots,) = fields(SoftmaxKnots(3, -2.0, 4.0, halved=True), h).values()
    assert knots == pytest.approx(np.concatenate([[-2], -2 + np.cumsum(6 * w)]), rel=1e-15)


def test_triangular_factors_by_hand():
    h = np.arange(1.0, 10.0)
    LU = h.reshape(3, 3)
    found = fields(TRIANGULAR["zuko"](3), h)
    lower, upper = np.tril(LU), np.triu(LU, 1) + np.eye(3)
    A = (np.tril(found["lower"], -1) + np.eye(3)) @ (np.triu(found["upper"], 1) + np.diag(found["scale"]))
    assert A.T == pytest.approx(lower @ upper, rel=1e-15)
    found = fields(TRIANGULAR["torchflows"](3), h)
    below = np.zeros((3, 3))
    below[np.tril_indices(3, -1)] = h[3:6]
    assert np.array_equal(found["upper"], below.T) and list(found["lower"][np.tril_indices(3, -1)]) == [1, 2, 3]
    assert found["scale"] == pytest.approx(np.exp(h[6:]) + 1e-3, rel=1e-15)


def test_gains_of_batch_norms_by_hand():
    assert fields(BATCH_NORMS["Pyro"](3), [-2.0, 0.0, 3.0]) == {"gain": pytest.approx([1e-6, 1e-6, 3.000001]), "eps": 1e-5}
    assert fields(BATCH_NORMS["TFP"](2), [2.0, 3.0]) == {"gain": pytest.approx([2.0, 3.0]), "eps": 1e-3}


def test_polynomials_by_hand():
    h, z = np.random.default_rng(0).standard_normal(7), 0.7
    a = h[:6].reshape(2, 3)
    found = fields(SUMS_OF_SQUARES["zuko"](2, 2, bound=10.0), h)
    p = (found["coefficients"] * z ** np.arange(3)).sum(-1)
    assert (p**2).sum() == pytest.approx(((1 + (a * (z / 10) ** np.arange(3)).sum(-1)) ** 2).mean(), rel=1e-14)
    assert (found["shift"], found["slope_floor"]) == (h[6], 1e-3)
    soft = np.log1p(np.exp(h))
    steps = [h[0] - np.log(2) * 3.5, soft[1], *soft[1:], soft[6]]
    found = fields(BERNSTEIN_POLYNOMIALS["zuko BernsteinTransform"](8), h)
    assert found["coefficients"] == pytest.approx(np.cumsum(steps), rel=1e-14)
    d, inside = 10 / 11, np.exp(h) / np.exp(h).sum()
    steps = [-5, d, d, *(10 - 4 * d) * inside, d, d]
    found = fields(BERNSTEIN_POLYNOMIALS["zuko BPF"](11), h)
    assert found["coefficients"] == pytest.approx(np.cumsum(steps), rel=1e-14)
    assert (found["bound"], found["tails"]) == (5, "linear")


def test_the_density_of_quadratic_splines_by_hand():
    """nflows takes a quarter of the end bins for the heights of the end knots: its slopes there are not 1."""
    h = np.random.default_rng(0).standard_normal(7)
    w = 1e-3 + (1 - 4e-3) * np.exp(h[:4]) / np.exp(h[:4]).sum()
    y = np.log1p(np.exp(h[4:])) + 1e-3
    E = (w[0] * y[0] + w[3] * y[2] + 2 * w[1] * (y[0] + y[1]) + 2 * w[2] * (y[1] + y[2])) / (4 - w[0] - w[3])
    heights = np.array([E, *y, E])
    slopes = 1e-3 + (1 - 1e-3) * heights / (w * (heights[1:] + heights[:-1]) / 2).sum()
    found = fields(QUADRATIC_SPLINES["nflows"](4), h)
    assert found["slopes"] == pytest.approx(slopes, rel=1e-14) and abs(found["slopes"][0] - 1) > 0.01
    assert found["input_knots"] == pytest.approx(np.cumsum([-1, *(2 * w)]), rel=1e-14) and found["start"] == -1
    h = np.random.default_rng(1).standard_normal(9)
    found, w = fields(QUADRATIC_SPLINES["SurVAE"](4), h), 1e-3 + (1 - 4e-3) * np.exp(h[:4]) / np.exp(h[:4]).sum()
    heights = np.exp(h[4:])
    slopes = 1e-3 + (1 - 1e-3) * heights / (w * (heights[1:] + heights[:-1]) / 2).sum()
    assert found["slopes"] == pytest.approx(slopes, rel=1e-14)


def test_differences_of_end_bins_and_others_keep_their_digits():
    """(14) of `DensityKnots` cancels for an end bin and one inside, turned the other way."""
    h = [-1e300, 0.08817033678998443, 4.788141387658182, 0.6614787721019438, -1e300]
    bars = [-95008.6344145067, -104875185765008.12, -0.11531009574282083, -2.4069413708913765e-14, 0.02883783184746255,
            -9.358362129147657e-17, -1.158014811493976e17, 0.257330598805582, 0.0]
    assert measure(DensityKnots(bins=3), h=h, fields_bar=bars)["vjp.h_bar"][0] <= 6.5


def test_distrax_reads_no_number_of_a_fixed_slope():
    f = SPLINES["distrax"](2, boundary_slopes="identity")
    assert f.size == 7
    found = fields(f, [0, 0, 0, 0, 9.0, 0.5, 9.0])["slopes"]
    assert found[0] == found[2] == 1
    circle = fields(SPLINES["distrax"](2, boundary_slopes="circular"), [0, 0, 0, 0, 0.3, 0.5, 9.0])["slopes"]
    assert circle[0] == circle[2] > 1


def test_every_convention_makes_a_family():
    rng = np.random.default_rng(0)
    for name, convention in SPLINES.items():
        family = Family(RationalQuadraticSpline, convention(4))
        f, _ = family.at_values(rng.standard_normal((5, family.size)), 0)
        ends = family.domain.lower, family.domain.upper
        z = rng.uniform(0.01, 0.99, 5) if name == "SurVAE" else 3 * rng.standard_normal(5)
        assert ends == ((0, 1) if name == "SurVAE" else (-np.inf, np.inf))
        assert f.inverse(f.forward(z)) == pytest.approx(z, rel=1e-10)


@pytest.mark.parametrize("h, told", [
    (np.zeros(5), "PerPart: h must be (..., 17), the 17 numbers that a network gives for one map, not of shape (5,); a Coupling"),
    (3.0, "PerPart: h must be (..., 17), the 17 numbers that a network gives for one map, not of shape ()"),
    (["a"] * 17, "PerPart: h must be float32 or float64"),
])
def test_a_convention_says_which_numbers_it_takes(h, told):
    with pytest.raises(ValueError) as raised:
        SPLINES["nflows"](6, 3.0).vjp(h)
    assert str(raised.value).startswith(told)


def test_a_convention_keeps_its_own_numbers():
    """The pullback gives the same after the numbers and the fields have been overwritten."""
    convention, h = SPLINES["nflows"](2, 3.0), np.linspace(-1, 1, 5)
    bars = {"input_knots": np.ones(3), "output_knots": np.arange(3.0), "slopes": np.ones(3), "tails": {}}
    expected = convention.vjp(h)[1](bars)[0]
    given = h.copy()
    fields, pullback = convention.vjp(given)
    for array in (given, *(fields[name] for name in convention.names)):
        array[...] = 7.0
    np.testing.assert_array_equal(pullback(bars)[0], expected)


@pytest.mark.parametrize("make, message", [
    (lambda: SoftmaxKnots(0), "SoftmaxKnots: bins"), (lambda: SoftmaxKnots(2, 1.0, 1.0), "SoftmaxKnots: low"),
    (lambda: SoftmaxKnots(2, 0.0, 1.0, 0.5), "SoftmaxKnots: floor"), (lambda: SoftmaxKnots(2, rate=0.0), "SoftmaxKnots: rate"),
    (lambda: SoftmaxKnots(2, clip=1.0), "SoftmaxKnots: clip"), (lambda: KnotSlopes(ExpScale(), 2, (1.0, "upper")), "ends"),
    (lambda: KnotSlopes(ExpScale(), 2, (-1.0, 1.0)), "KnotSlopes: ends"), (lambda: KnotSlopes(ExpScale(), 0), "bins"),
    (lambda: PerPart(("a", "b"), (SoftmaxKnots(2),)), "PerPart: 2 names"),
    (lambda: PerPart(("a",), (SPLINES["zuko"](2),)), r"PerPart: each map must give one field; maps\[0\]"),
    (lambda: Premultiplied(SoftmaxKnots(2), np.ones((3, 2))), "Premultiplied: matrix must have 2 rows"),
    (lambda: KnotSlopes(SoftplusScale(floor=-1.0), 2), "SoftplusScale: floor")])
def test_bad_parametrisations_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
