"""Mistakes that libraries make in planar, radial and Sylvester flows, in NumPy: each is found, by a box or by a page at raw parameters."""

from __future__ import annotations

import numpy as np
import pytest

import refflow
from refflow.maps.parametrisations import PIECEWISE_PLANARS, PLANARS, RADIALS
from refflow.oracle.points.parametrised import DRAWS, SIZES, OfVectors, family_named, parametrised
from refflow.testing import BlackBox, verdicts

PAPER = next(name for name in PLANARS if "paper" in name)
DETERMINANT = "log-det is the determinant of differences"


def failed(box):
    return {one.law for one in verdicts(box) if one.status == "FAIL"}


def softplus(t):
    return np.logaddexp(t.dtype.type(0), t)


# -- planar: formulas of the slack ------------------------------------------------------------------------------------

SLACKS = {"paper": softplus, "FlowJAX": lambda t: np.log(1 + softplus(t)), "normflows": lambda t: np.log(1 + np.exp(t))}


def planar(slack, h, z):
    """(x, log_det), as libraries write it."""
    D = z.shape[-1]
    w, u, b = h[:D], h[D:2 * D], h[-1]
    t = w @ u
    u_hat = u + (slack(t) - 1 - t) * w / (w @ w)
    act = np.tanh(z @ w + b)
    return z + act[..., None] * u_hat, np.log(np.abs(1 + (1 - act * act) * (w @ u_hat)))


def images_by(slack, convention, D=2):
    """What fails of the images, in float32."""
    def mine(params, z):
        with np.errstate(all="ignore"):
            return {"forward": planar(SLACKS[slack], params["h"], z)[0]}

    return refflow.check(mine, page="Planar", parametrisation=PLANARS[convention](D), dtypes=("float32",)).failed


@pytest.mark.parametrize("slack, convention", [("paper", PAPER), ("FlowJAX", "FlowJAX")])
def test_each_formula_is_right_by_its_own_convention(slack, convention):
    assert not images_by(slack, convention)


def test_another_slack_than_the_papers_is_found_by_its_page():
    """As a box it is consistent: no law of invertible maps fails."""
    h = np.array([0.5, 1.0, 1.0, 0.5, 0.25])
    assert not failed(BlackBox(lambda z: planar(SLACKS["FlowJAX"], h, z), event=(2,)))
    assert {one.quantity for one in images_by("FlowJAX", PAPER)} == {"forward"}


def test_an_exponential_that_overflows_is_found():
    """Of three entries, w^T u is drawn beyond 88.8."""
    assert "infinite" in {one.diagnosis.split()[0] for one in images_by("normflows", PAPER, 3) if one.diagnosis}


# -- planar: nothing keeps it invertible; a slope that is too steep ---------------------------------------------------

@pytest.mark.parametrize("u, found", [(-8.0, True), (-3.0, False)])
def test_an_unconstrained_layer_that_folds_the_line_is_found(u, found):
    """torchflows': x = z + u sigmoid(w z + b), which needs w u > -4."""
    def forward(z):
        s = 1 / (1 + np.exp(-z))
        return z + u * s, np.log(np.abs(1 + u * s * (1 - s)))[..., 0]

    assert ("monotone" in failed(BlackBox(forward, event=(1,)))) == found


@pytest.mark.parametrize("slope, found", [(4.0, True), (0.25, False)])
def test_a_slope_that_folds_space_is_found(slope, found):
    """FlowJAX's inverse finds the side by the sign of w^T x + b."""
    w, v = np.array([1.0, 1.0]), np.array([-0.375, -0.25])

    def forward(z):
        a = z @ w
        s = np.where(a < 0, slope, 1)
        return z + (s * a)[..., None] * v, np.log(np.abs(1 + s * (w @ v)))

    def inverse(x):
        y = x @ w
        s = np.where(y < 0, slope, 1)
        p = 1 + s * (w @ v)
        return x - (s * y / p)[..., None] * v, -np.log(np.abs(p))

    assert ("inverse of forward" in failed(BlackBox(forward, inverse, event=(2,)))) == found


# -- radial, Sylvester ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("count, found", [(2, True), (0, False)])
def test_a_log_det_of_another_radial_map_is_found(count, found):
    """torchflows': entry by entry, with the paper's terms of the other D - 1 entries added."""
    centre, alpha, beta = np.array([0.5, -1.0, 0.25]), 0.75, 1.5

    def forward(z):
        y = z - centre
        A = alpha + np.abs(y)
        return z + beta * y / A, (np.log1p(beta * alpha / A**2) + count * np.log1p(beta / A)).sum(-1)

    assert (DETERMINANT in failed(BlackBox(forward, event=(3,)))) == found


@pytest.mark.parametrize("columns", [False, True])
def test_the_log_det_of_transposed_triangles_is_found(columns):
    """Pyro's: rows are multiplied by S Q^T and Q R, where columns are meant, and the log-det is that of columns."""
    Q = np.array([[0.28, -0.96], [-0.96, -0.28]])
    R, S, b = np.array([[0.5, 0.75], [0, -0.25]]), np.array([[0.25, -1.5], [0, 0.5]]), np.array([0.5, -1.0])
    A, B = Q @ R, S @ Q.T

    def forward(z):
        t = np.tanh(z @ (B.T if columns else B) + b)
        return z + t @ (A.T if columns else A), np.log1p((1 - t * t) * np.diag(R) * np.diag(S)).sum(-1)

    assert (DETERMINANT in failed(BlackBox(forward, event=(2,)))) == (not columns)


# -- pages of vectors at raw parameters -------------------------------------------------------------------------------

OF_VECTORS = [(page, name) for page, table in (("Planar", PLANARS), ("PiecewisePlanar", PIECEWISE_PLANARS), ("Radial", RADIALS))
              for name in table]


@pytest.mark.parametrize("page, name", OF_VECTORS)
def test_raw_parameters_of_vectors(page, name):
    """Products of the halves have both signs, fields that the page refuses are not asked, and parameters 0 are a case of it."""
    family = family_named(page, name)
    drawn = [f for f, _ in parametrised(family, np.float64)]
    assert isinstance(family, OfVectors) and len(SIZES) < len(drawn) <= 2 * DRAWS * len(SIZES)
    signs = {np.sign(f.h[0] * f.h[-1]) for f in drawn} - {0.0}
    assert signs == {1.0, -1.0}
    for f in drawn:
        f.f._validate()


def test_unconstrained_fields_are_refused_for_half_of_the_draws():
    constrained, free = (len(list(parametrised(family_named("Planar", name), np.float64))) for name in (PAPER, "torchflows"))
    assert free < constrained
