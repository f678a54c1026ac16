"""Sets of lower dimension in the oracle: what differs along a tangent is found, along the normal alone it is not."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

import refflow
from refflow import CholeskyOuterProduct, IntrinsicVolume
from refflow.accuracy.drawing import Point
from refflow.core.sets import TWICE_MEASURED
from refflow.oracle import adapter, check
from refflow.oracle.inputs import vectors
from refflow.oracle.points import golden
from refflow.oracle.points.measures import MEASURES, counted, ratio, ratio_in_words, refuse_measure
from refflow.oracle.points.schema import violation
from validation.golden import exact_record, record

DTYPES = ["float32", "float64"]
FACTOR = np.array([[1.0, 0.0], [0.6, 0.8]])
SIMPLEX = Point(IntrinsicVolume("simplex"), "forward", np.array([0.5, 0.25, 0.25]), np.array([1.0, -2.0, 0.5]), np.float64(3.0))
CORRELATION = Point(IntrinsicVolume("correlation_cholesky"), "forward", FACTOR, np.array([[0.0, 1.0], [2.0, -1.0]]), np.float64(1.5))
COVARIANCE = Point(CholeskyOuterProduct(), "forward", np.array([[2.0, 0.0], [1.0, 0.5]]), np.array([[1.0, 0.5], [-2.0, 3.0]]),
                   np.float64(1.0))
NORMALS = {"simplex": np.ones(3), "correlation_cholesky": FACTOR * [[0.0], [1.0]], "covariance": np.array([[0.0, 1.0], [0.0, 0.0]])}
TANGENTS = {"simplex": np.array([1.0, 0.0, -1.0]), "correlation_cholesky": np.array([[0.0, 0.0], [0.8, -0.6]]),
            "covariance": np.array([[0.0, 0.0], [1.0, 0.0]])}
POINTS = {"simplex": SIMPLEX, "correlation_cholesky": CORRELATION, "covariance": COVARIANCE}


def as_stored(point):
    """The line of a golden file, and the point that is read from it."""
    line = json.loads(json.dumps(record("id", point.dtype.name, point)))
    return line, golden.decoded(type(point.f), line, point.dtype)


# -- golden points ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", sorted(POINTS))
def test_golden_cotangents_are_claims_along_tangents(name):
    point = POINTS[name]
    z_bar = point.f.vjp(point.event)[1](point.image_bar, point.log_det_bar)[0]
    line, stored = as_stored(point)
    truth = stored.truth["vjp.z_bar"]
    assert np.max(truth.error(z_bar, "float64")) < 4
    assert np.max(truth.error(z_bar + 3 * NORMALS[name], "float64")) < 16
    assert np.max(truth.error(z_bar + 2.0**-40 * TANGENTS[name], "float64")) > 16
    assert np.isinf(truth.error(z_bar * np.nan, "float64")).all()
    del line["quantities"]["vjp.z_bar"]["tangents"]                     # whoever does not know the key compares all entries
    truth = golden.decoded(type(point.f), line, "float64").truth["vjp.z_bar"]
    assert np.max(truth.error(z_bar + 3 * NORMALS[name], "float64")) > 16


@pytest.mark.parametrize("name", sorted(POINTS))
def test_golden_jacobians_are_claims_along_tangents(name):
    point = POINTS[name]
    J, normal, tangent = point.f.jacobian(point.event), NORMALS[name].ravel(), TANGENTS[name].ravel()
    truth = as_stored(point)[1].truth["jacobian"]
    assert np.max(truth.error(J, "float64")) < 4
    assert np.max(truth.error(J + 3 * np.outer(tangent, normal), "float64")) < 16
    assert np.max(truth.error(J + 2.0**-40 * np.outer(normal, tangent), "float64")) > 16


def test_only_thin_domains_have_tangents():
    """What is compared entry by entry is recorded as it was."""
    line, _ = as_stored(SIMPLEX)
    assert [name for name, one in line["quantities"].items() if "tangents" in one] == ["jacobian", "vjp.z_bar"]
    F = np.array(line["quantities"]["vjp.z_bar"]["tangents"], float)
    assert F.tolist() == [[1, 0], [0, 1], [-1, -1]]
    softplus = Point(refflow.Softplus(), "forward", np.array(0.5), np.array(1.0), np.float64(1.0))
    assert set().union(*as_stored(softplus)[0]["quantities"].values()) == {"shape", "true", "kappa"}
    back = Point(IntrinsicVolume("simplex"), "inverse", SIMPLEX.event, SIMPLEX.image_bar, SIMPLEX.log_det_bar)
    assert not any("tangents" in one for one in as_stored(back)[0]["quantities"].values())


@pytest.mark.parametrize("name", sorted(POINTS))
def test_own_pages_are_checked_along_tangents(name, monkeypatch):
    """A pullback of refflow's own that is off along the normal passes, and along a tangent fails."""
    stored, right = as_stored(POINTS[name])[1], type(POINTS[name].f).vjp
    monkeypatch.setattr(golden, "own_points", lambda *of: [stored])

    def off_by(direction):
        def planted(self, z):
            result, pullback = right(self, z)
            return result, lambda x_bar, log_det_bar: (pullback(x_bar, log_det_bar)[0] + direction, {})
        return planted

    page = type(POINTS[name].f)
    monkeypatch.setattr(page, "vjp", off_by(NORMALS[name]))
    assert not check(page=page.__name__, dtypes=["float64"]).failed
    monkeypatch.setattr(page, "vjp", off_by(2.0**-40 * TANGENTS[name]))
    assert [found.quantity for found in check(page=page.__name__, dtypes=["float64"]).failed] == ["vjp.z_bar"]


# -- adapters, at drawn points ----------------------------------------------------------------------------------------

def complete(f, z_bar=lambda z, bar: bar, jacobian=lambda z, J: J):
    """refflow's own answers of f, with another event cotangent and another Jacobian."""
    def mine(params, z):
        (x, log_det), pullback = f.vjp(z)

        def vjp(x_bar, log_det_bar):
            return z_bar(z, pullback(x_bar, log_det_bar)[0]), {}

        return {"forward": x, "log_det": log_det, "jacobian": jacobian(z, f.jacobian(z)), "vjp": vjp}
    return mine


def normal_to(f, z):
    """Numbers that are orthogonal to the tangents at events z, flat; 0 where all entries move alone."""
    F = f.domain.basis(z.astype(np.float64), f.event_ndim[0])
    return np.linalg.svd(F)[0][..., -1] * (F.shape[-1] < F.shape[-2])


def moved_along_normal(f, z, bar):
    """A cotangent with as much along the normal, whose rounding is then that of the rest."""
    return bar + (np.abs(bar).min() * normal_to(f, z).reshape(z.shape)).astype(z.dtype)


MAPS = [IntrinsicVolume("simplex"), refflow.Inverse(IntrinsicVolume("simplex")), IntrinsicVolume("correlation_cholesky"),
        IntrinsicVolume("positive_definite"), CholeskyOuterProduct()]


@pytest.mark.parametrize("f", MAPS, ids=repr)
@pytest.mark.parametrize("dtype", DTYPES)
def test_another_extension_beyond_the_set_passes(f, dtype):
    """Cotangents that differ along the normal, and rows of a Jacobian.  These are not moved where the product of the normal and a
    tangent is 0 up to a rounding, and the tangent has an entry 0: the claim of a row of I is then 0, and has no room for it.
    """
    moved = []

    def along_normal(z, bar):
        return moved_along_normal(f, z, bar)

    def beyond(z, J):
        normal = np.rint(4 * normal_to(f, z))[..., None, :]
        F = f.domain.basis(z.astype(np.float64), f.event_ndim[0])
        has_room = F.all() or not (normal @ F).any()
        moved.append(has_room and normal.any())
        return J + normal.astype(z.dtype) * (has_room and f.domain.name != "correlation_cholesky")

    report = check(adapter(f, dtype=dtype)(complete(f, along_normal, beyond)))
    assert not report.failed and (any(moved) or f.domain.name in ("correlation_cholesky", "real")), report.table()
    assert {"jacobian", "vjp.z_bar"} <= {passed.quantity for passed in report.passed}


@pytest.mark.parametrize("f", MAPS, ids=repr)
def test_a_cotangent_that_is_wrong_along_a_tangent_is_found(f):
    def off(z, bar):
        tangent = f.domain.basis(z.astype(np.float64), f.event_ndim[0])[..., 0]
        return bar + 1e-9 * tangent.reshape(z.shape)

    report = check(adapter(f, dtype="float64")(complete(f, off)))
    assert {found.quantity for found in report.failed} == {"vjp.z_bar"}


def test_a_cotangent_of_another_sign_is_named_along_tangents():
    """Although its part along the normal is not negated."""
    f = IntrinsicVolume("simplex")
    report = check(adapter(f, dtype="float64")(complete(f, lambda z, bar: 1 - bar)))
    assert {found.diagnosis for found in report.failed} == {"negated"}


@pytest.mark.parametrize("name", ["IntrinsicVolume", "CholeskyOuterProduct"])
def test_pages_by_name_are_asked_along_tangents(name):
    """Their golden points included, where these are there; a batch of them too."""
    def mine(params, z):
        f = refflow.REGISTRY[name](**params)
        return complete(f, lambda z, bar: moved_along_normal(f, z, bar))(params, z)

    report = check(adapter(name)(mine))
    assert not report.failed and report.passed, report.table()


# -- vectors ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", sorted(POINTS))
def test_vectors_say_what_is_compared_along_tangents(name):
    point = POINTS[name]
    line = json.loads(json.dumps(record("id", "float64", point)))
    vector = vectors.as_vector(type(point.f).__name__, line)
    document = {"page": type(point.f).__name__, "normwise": bool(point.f.normwise)}
    assert violation(vector, "vectors", "point") is None
    assert vectors.wrong(type(point.f), document, vector, {"flags": vectors.FLAGS}) is None
    found = vector["quantities"]["vjp.z_bar"]
    F, true, allowance = (np.array(v, float) for v in (found["tangents"], found["true"], found["allowance"]["float64"]))
    z_bar = point.f.vjp(point.event)[1](point.image_bar, point.log_det_bar)[0].ravel()
    for added, right in ((NORMALS[name], True), (2.0**-40 * TANGENTS[name], False)):
        off = F.T @ (z_bar + added.ravel() - true)
        off = np.linalg.norm(off) if point.f.normwise else np.abs(off)
        assert np.all(off <= allowance) == right
    wrong = copy.deepcopy(vector)
    wrong["quantities"]["vjp.z_bar"]["tangents"].append(["1"])
    assert "tangents" in vectors.wrong(type(point.f), document, wrong, {"flags": vectors.FLAGS})


def test_exact_points_have_tangents_too():
    f, half = SIMPLEX.f, np.array([0.5, 0.25, 0.25])
    found = exact_record(Point(f, "forward", half, np.array([1.0, 0.5, 2.0]), np.float64(1.0)))["quantities"]
    assert "tangents" in found["jacobian"] and "tangents" not in found["forward"]


# -- by which measure a log-det counts --------------------------------------------------------------------------------

def own_volume(name, x):
    """log of own volume over that of coordinates, at members x of the image of a page, in float64."""
    L = np.asarray(x, np.float64)
    if name in ("StickBreaking", "CentredSoftmax", "ZeroSum"):
        return np.full(L.shape[:-1], np.log(L.shape[-1]) / 2)
    if name in ("CholeskyOuterProduct", "CorrelationOuterProduct"):
        return np.full(L.shape[:-2], L.shape[-1] * (L.shape[-1] - 1) / 4 * np.log(2))
    diagonal = np.diagonal(L, axis1=-2, axis2=-1)
    squares = np.square(np.tril(L, -1) / diagonal[..., None]).sum(-1)
    return np.where(squares < 1, np.log1p(squares) / 2, -np.log(diagonal)).sum(-1)


def counted_otherwise(f, sign=1, factor=1.0):
    """A page whose log-det counts own volume (sign 1), or coordinates where the page counts own volume (sign -1)."""
    def more(x, dtype):
        with np.errstate(all="ignore"):
            return (sign * factor * own_volume(type(f).__name__, x)).astype(dtype) if factor else 0

    def mine(params, z):
        x, log_det = f.forward_and_log_det(z)
        wide = f.unchecked(np.float64).forward(z.astype(np.float64))            # where an L_ii underflows in float32
        return {"forward": x, "log_det": log_det + more(wide, x.dtype), "inverse": f.inverse,
                "inverse_log_det": lambda x: f.inverse_and_log_det(x)[1] - more(x, x.dtype)}
    return mine


OTHER = [("StickBreaking", "+1/2 log K = 0.346574", "intrinsic"), ("CentredSoftmax", "+1/2 log K = 0.346574", "intrinsic"),
         ("CorrelationCholesky", "-sum log L_ii = ", "intrinsic"), ("CholeskyOuterProduct", "+D(D-1)/4 log 2 = ", "intrinsic"),
         ("CorrelationOuterProduct", "+D(D-1)/4 log 2 = ", "intrinsic"), ("ZeroSum", "-1/2 log K = -0.346574", "chart")]


def test_the_ratio_of_every_set_that_is_measured_twice_has_a_name():
    assert all(where.ratio_in_words[0] in "+-" for where in TWICE_MEASURED.values())
    factors = TWICE_MEASURED["correlation_cholesky"]
    assert [ratio_in_words(factors, to_own) for to_own in (True, False)] == ["-sum log L_ii", "+sum log L_ii"]


@pytest.mark.parametrize("name, ratio, measure", OTHER, ids=[name for name, *_ in OTHER])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_log_det_by_another_measure_is_named_and_passes_as_declared(name, ratio, measure, dtype):
    f, sign = refflow.REGISTRY[name](), 1 if measure == "intrinsic" else -1
    report = check(adapter(name, dtype=dtype)(counted_otherwise(f, sign)))
    assert {found.quantity for found in report.failed} == {"log_det", "inverse_log_det"}, report.table()
    told = [found.diagnosis for found in report.failed if found.quantity == "log_det"]      # infinite too, where L_ii is 0
    assert any(text.startswith(f"another volume convention: off by {ratio}") and text.endswith(f"declare measure={measure!r}")
               for text in told), told
    assert {one.declaration for one in report.suggestions} == {f"measure={measure!r}"}
    declared = check(adapter(name, dtype=dtype, measure=measure)(counted_otherwise(f, sign)))
    assert not declared.failed and len(declared.passed) == 4, declared.table()


def test_images_are_held_to_the_record_by_every_measure():
    """An inverse that flushes a subnormal entry fails as it does without `measure`, which is not suggested for it."""
    def wrong(f):
        def flushed(x):
            return f.inverse(np.where(x < np.finfo(x.dtype).tiny, np.finfo(x.dtype).tiny, x))
        return lambda params, z: counted_otherwise(f)(params, z) | {"inverse": flushed}

    f = refflow.StickBreaking()
    assert any(0 < point.event.min() < np.finfo(np.float64).tiny for point in golden.points("StickBreaking", ("float64",))
               if point.side == "inverse")
    for measure in (None, "intrinsic"):
        report = check(adapter("StickBreaking", dtype="float64", measure=measure)(wrong(f)))
        assert "inverse" in {found.quantity for found in report.failed}
        assert "inverse" not in {one.quantity for one in report.suggestions if "measure" in one.declaration}


@pytest.mark.parametrize("factor", [1 + 1e-6, 2.0])
def test_what_is_nearly_the_ratio_is_not_named(factor):
    """The ratio must give their answer within the unit, not to a few digits."""
    theirs = counted_otherwise(refflow.StickBreaking(), factor=factor)
    for found in check(adapter("StickBreaking", dtype="float64")(theirs)).failed:
        assert "measure" not in found.diagnosis and "log K" not in found.diagnosis


@pytest.mark.parametrize("name, measure", [("StickBreaking", "intrinsic"), ("CorrelationCholesky", "intrinsic"), ("ZeroSum", "chart")])
def test_a_page_does_not_count_as_it_does_not(name, measure):
    """The declaration is held too: what counts as the page does fails under it, and is told so."""
    f = refflow.REGISTRY[name]()
    report = check(adapter(name, dtype="float64", measure=measure)(counted_otherwise(f, factor=0.0)))
    other = {"chart": "intrinsic", "intrinsic": "chart"}[measure]
    assert {found.quantity for found in report.failed} == {"log_det", "inverse_log_det"}
    assert any(f"declare measure={other!r}" in found.diagnosis for found in report.failed)
    assert not check(adapter(name, dtype="float64", measure=other)(counted_otherwise(f, factor=0.0))).failed


@pytest.mark.parametrize("gradient", [False, True])
def test_gradients_by_own_volume(gradient):
    """The ratio of factors depends on the point, and so do gradients; in the coordinates of x too."""
    f = refflow.CorrelationCholesky()
    whole = refflow.Chain([f, IntrinsicVolume("correlation_cholesky")])

    def of(g):
        def by_coordinates(x, bars):
            x_bar, params_bar = g.inverse_vjp(x)[1](*bars)
            if not gradient:
                return x_bar, params_bar
            below, T = np.tril_indices(x.shape[-1], -1), f.codomain.basis(x, 2)
            found = np.zeros_like(x)
            found[..., *below] = (np.reshape(x_bar, (*x.shape[:-2], 1, -1)) @ T)[..., 0, :]
            return found, params_bar

        def mine(params, z):
            assert params == {}
            (x, log_det), pullback = g.vjp(z)
            return {"forward": x, "log_det": log_det, "jacobian": g.jacobian(z), "vjp": lambda *bars: pullback(*bars),
                    "inverse_vjp": lambda x, *bars: by_coordinates(x, bars)}
        return mine

    def stripped(g):
        theirs = of(g)

        def mine(params, z):
            found = theirs(params, z)
            pull, back = found["vjp"], found["inverse_vjp"]
            return found | {"vjp": lambda *bars: (pull(*bars)[0], {}), "inverse_vjp": lambda *given: (back(*given)[0], {})}
        return mine

    report = check(adapter("CorrelationCholesky", dtype="float64", measure="intrinsic", chart_gradient=gradient)(stripped(whole)))
    assert not report.failed and {"vjp.z_bar", "inverse_vjp.x_bar"} <= {one.quantity for one in report.passed}, report.table()
    report = check(adapter("CorrelationCholesky", dtype="float64", measure="intrinsic", chart_gradient=gradient)(stripped(f)))
    assert {"log_det", "vjp.z_bar", "inverse_vjp.x_bar"} <= {found.quantity for found in report.failed}


def test_a_chain_by_own_volume_has_its_own_parameters():
    f = refflow.Chain([refflow.Independent(refflow.Affine(shift=0.5, scale=2.0), 1), refflow.StickBreaking()])
    seen = []

    def mine(params, z):
        seen.append(params["stages"]["0"]["inner"]["scale"].item())
        (x, log_det), pullback = f.vjp(z)
        return {"forward": x, "log_det": log_det + np.log(x.shape[-1]) / 2, "vjp": pullback}

    report = check(adapter(f, dtype="float64", measure="intrinsic")(mine))
    assert not report.failed and set(seen) == {2.0}
    assert "vjp.stages.0.inner.scale_bar" in {one.quantity for one in report.passed}


def test_a_set_whose_volumes_are_counted_in_one_way_has_no_other_measure():
    for f in (refflow.Tanh(), refflow.Inverse(refflow.StickBreaking()), refflow.Stereographic()):
        assert [ratio(f, measure) for measure in MEASURES] == [None, None]
    assert ratio(refflow.StickBreaking(), "chart") is None


@pytest.mark.parametrize("axes", [0, 1, 2])
def test_every_vector_of_an_event_is_counted_otherwise(axes):
    """Each of the simplexes of an event adds the logarithm of its ratio."""
    one, z = refflow.StickBreaking(), np.random.default_rng(0).normal(size=(3, 5, 4, 2))
    f = refflow.Independent(one, axes) if axes else one
    step = ratio(f, "intrinsic")
    assert step.event_ndim == (1 + axes, 1 + axes)
    each = own_volume("StickBreaking", one.forward(z)).sum(tuple(range(-axes, 0)))
    assert np.allclose(counted(f, "intrinsic").log_det(z), f.log_det(z) + each, rtol=1e-14)


def test_a_page_whose_set_depends_on_its_fields_is_not_refused_by_name():
    """Which set it is, only a value knows."""
    assert isinstance(refflow.IntrinsicVolume.codomain, property)
    refuse_measure("IntrinsicVolume", "chart")


def test_a_measure_is_for_pages_without_parameters_and_for_chains():
    """Elsewhere the parameters would change their names."""
    chain = refflow.Chain([refflow.Independent(refflow.Affine(scale=2.0), 1), refflow.StickBreaking()])
    for page in (chain, refflow.StickBreaking(), refflow.Independent(refflow.StickBreaking(), 1), "StickBreaking"):
        refuse_measure(page, "intrinsic")
    for page in (refflow.Independent(chain, 1), "BoxCox"):
        with pytest.raises(ValueError, match="measure is for a page without parameters, or for a Chain"):
            refuse_measure(page, "intrinsic")


@pytest.mark.parametrize("declare, words", [
    (lambda: adapter("StickBreaking", measure="own"), "must be one of chart, intrinsic"),
    (lambda: adapter("Tanh", measure="intrinsic"), "volumes on .* are counted in one way"),
    (lambda: adapter("CholeskyFactor", measure="intrinsic"), "counted in one way"),
    (lambda: adapter("Affine", parametrisation="zuko", measure="chart"), "counted in one way"),
    (lambda: adapter(refflow.Inverse(refflow.StickBreaking()), measure="intrinsic"), "counted in one way"),
])
def test_a_measure_where_there_is_one_is_refused(declare, words):
    with pytest.raises(ValueError, match=words):
        declare()


@pytest.mark.parametrize("wrong", [0.0, 1e-9])
def test_a_gradient_of_another_extension_is_compared_along_the_set(wrong):
    """Of the factor L of S from (S + S^T)/2: its cotangents are symmetric, the page's are of all entries."""
    f = refflow.CholeskyOuterProduct()

    def mine(params, z):
        def inverse_vjp(S, L_bar, log_det_bar):
            S_bar, _ = f.inverse_vjp(S)[1](L_bar, log_det_bar)
            return (S_bar + S_bar.mT) / 2 * (1 + wrong), {}

        return {"forward": f.forward(z), "inverse_vjp": inverse_vjp}

    def failed(chart_gradient):
        report = check(adapter("CholeskyOuterProduct", dtype="float64", chart_gradient=chart_gradient)(mine))
        return {found.quantity for found in report.failed}

    assert failed(True) == ({"inverse_vjp.x_bar"} if wrong else set()) and failed(False) == {"inverse_vjp.x_bar"}


@pytest.mark.parametrize("wrong", [0, 1e-3])
def test_a_cotangent_on_a_set_without_coordinates_is_compared_along_it(wrong):
    """z = y/(1 - h) has other values off the sphere than the page."""
    f = refflow.Stereographic()

    def mine(params, z):
        def inverse_vjp(x, z_bar, log_det_bar):
            x_bar, _ = f.inverse_vjp(x)[1](z_bar, log_det_bar)
            return x_bar * (1 + wrong) + 3 * x, {}

        return {"forward": f.forward(z), "inverse_vjp": inverse_vjp}

    failed = check(adapter("Stereographic", dtype="float64", chart_gradient=True)(mine)).failed
    assert {found.quantity for found in failed} == ({"inverse_vjp.x_bar"} if wrong else set())
