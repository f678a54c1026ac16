"""A black box on a structured set is asked in its coordinates: right maps are silent, a wrong log-det of each is found."""

from __future__ import annotations

import numpy as np
import pytest

import refflow
from refflow.oracle.boxes.black_box import BlackBox
from refflow.oracle.boxes.black_box_charts import Frame
from refflow.oracle.boxes.black_box_laws import verdicts
from refflow.oracle.boxes.gradients import torch_pullback

BY_DIFFERENCES, BY_INVERSE = "log-det is the determinant of differences", "inverse log-det is minus log-det"
CAYLEY = refflow.CayleyOrthogonal(np.eye(3))
MAPS = {                        # a page, the shape of its events, and the names of its domain and codomain
    "StickBreaking": (refflow.StickBreaking(), (4,), None, "simplex"),
    "Ordered": (refflow.Ordered(), (3,), None, "ordered"),
    "PositiveOrdered": (refflow.PositiveOrdered(), (3,), None, "positive ordered"),
    "PositiveOrdered of 12": (refflow.PositiveOrdered(), (12,), None, "positive_ordered"),
    "CholeskyFactor": (refflow.CholeskyFactor(), (6,), None, "cholesky factor"),
    "CorrelationCholesky": (refflow.CorrelationCholesky(), (6,), None, "correlation cholesky"),
    "CentredSoftmax": (refflow.CentredSoftmax(), (3,), None, "simplex"),
    "Softmax": (refflow.Softmax(), (4,), "zero_sum", "simplex"),
    "Stereographic": (refflow.Stereographic(), (2,), None, "sphere"),
    "CayleyOrthogonal": (CAYLEY, (3,), None, CAYLEY.codomain),            # not all orthogonal matrices, only rotations
    "ZeroSum": (refflow.ZeroSum(), (3,), None, "zero sum"),
    "CholeskyOuterProduct": (refflow.CholeskyOuterProduct(), (2, 2), "cholesky_factor", "positive definite"),
    "the inverse of StickBreaking": (refflow.Inverse(refflow.StickBreaking()), (5,), "simplex", None),
    "the inverse of Stereographic": (refflow.Inverse(refflow.Stereographic()), (3,), "sphere", None),
    "the inverse of CorrelationCholesky": (refflow.Inverse(refflow.CorrelationCholesky()), (3, 3), "correlation_cholesky", None),
    "the inverse of Ordered": (refflow.Inverse(refflow.Ordered()), (3,), "increasing", None),
}


def box_of(name, dtype="float64", off=0.0, **more):
    f, event, domain, codomain = MAPS[name]
    f = f.astype(np.dtype(dtype))

    def forward(z):
        x, log_det = f.forward_and_log_det(z)
        return x, log_det + off

    return BlackBox(forward, f.inverse_and_log_det, event=event, dtype=dtype, backend="numpy",
                    pullback=lambda z, x_bar, l_bar: f.vjp(z)[1](x_bar, l_bar)[0], **{"domain": domain, "codomain": codomain} | more)


def broken(box, seed=0):
    return {v.law: v.text for v in verdicts(box, seed) if v.status == "FAIL"}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", MAPS)
def test_a_right_map_is_silent(name, dtype):
    for seed in range(3):
        assert broken(box_of(name, dtype), seed) == {}


@pytest.mark.parametrize("name", MAPS)
def test_a_wrong_log_det_is_found(name):
    """Off by 1e-6 at every point; differences and the inverse show it."""
    for seed in range(3):
        assert broken(box_of(name, off=1e-6), seed).keys() >= {BY_DIFFERENCES, BY_INVERSE}


@pytest.mark.parametrize("name, measured", [("StickBreaking", "simplex by its own volume"),
                                            ("CorrelationCholesky", "correlation cholesky by its own volume"),
                                            ("ZeroSum", "zero sum by coordinates")])
def test_volumes_are_counted_as_declared(name, measured):
    """By another measure, the log-det is off by the ratio of the volumes, and right if that is added."""
    f, event, _, _ = MAPS[name]
    assert broken(box_of(name, codomain=measured)).keys() == {BY_DIFFERENCES, "log-det is the determinant of the gradient"}
    where = box_of(name, codomain=measured).codomain
    sign = 1 if where.measure == "intrinsic" else -1

    def forward(z):
        x, log_det = f.forward_and_log_det(z)
        return x, log_det + sign * where.log_ratio(x)[0]

    assert broken(BlackBox(forward, event=event, codomain=measured)) == {}


def test_an_image_beside_the_set():
    def forward(z):
        x, log_det = refflow.StickBreaking().forward_and_log_det(z)
        return x * (1 + 1e-12), log_det

    assert "the image is in the codomain" in broken(BlackBox(forward, event=(3,), codomain="simplex"))


@pytest.mark.parametrize("name", ["simplex", "sphere", "correlation_cholesky", "orthogonal", "positive_definite"])
def test_moves_stay_in_the_set(name):
    shape = (3, 3) if name in ("correlation_cholesky", "orthogonal", "positive_definite") else (4,)
    where = BlackBox(np.exp, event=shape, domain=name).domain
    x = where.draw(refflow.core.source.RandomSource(np.random.default_rng(0)), (5, *shape))
    frame = Frame(where, x)
    t = np.minimum(frame.steps(np.full(x.shape, 1e-3)), 1e-3)
    assert not where.outside(frame.moved(0.01 * t)).any()
    moved = frame.coordinates((frame.moved(0.01 * t) - frame.moved(-0.01 * t)).reshape(5, -1))
    np.testing.assert_allclose(moved, 0.02 * t, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name, codomain", [("StickBreakingTransform", "simplex"), ("CorrCholeskyTransform", "correlation cholesky")])
def test_torch(name, codomain, dtype):
    torch = pytest.importorskip("torch")
    one = getattr(torch.distributions.transforms, name)()

    def box(off):
        def forward(z):
            x = one(z)
            return x, one.log_abs_det_jacobian(z, x) + off

        def inverse(x):
            z = one.inv(x)
            return z, -one.log_abs_det_jacobian(z, x)

        return BlackBox(forward, inverse, event=(3,), codomain=codomain, dtype=dtype, backend="torch", pullback=torch_pullback(forward))

    assert broken(box(0.0)) == {}
    assert broken(box(1e-2)).keys() >= {BY_INVERSE}


@pytest.mark.parametrize("given, message", [
    ("simplexes", "domain must be .low, high. or the name of a set, one of"), ("sphere by coordinates", "domain is measured by its own"),
    ("simplex by weight", "domain is measured by its own volume")])
def test_errors_of_use(given, message):
    with pytest.raises(ValueError, match=f"BlackBox: {message}"):
        BlackBox(np.exp, event=(3,), domain=given)
