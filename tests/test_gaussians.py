"""The Gaussians that flows start from and are compared with."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from refflow.training import gaussians
from refflow.training.gaussians import correlated, dependent_column, gaussian_of_images, gaussian_start, log_probs, normal


def rows(count, rng=None, C=((1.0, 0.8), (0.8, 1.0)), scale=(3.0, 0.1), mean=(5.0, -2.0)):
    rng = np.random.default_rng(0) if rng is None else rng
    return rng.standard_normal((count, 2)) @ np.linalg.cholesky(C).T * scale + mean


def covariance(stages):
    """Of the columns of a Gaussian's rows."""
    f = normal(stages).bijector
    A = f.forward(np.eye(2)) - f.forward(np.zeros((2, 2)))
    return A.T @ A


def shrunk(stages, x):
    """The a of (1): by how much the correlation is less than the data's."""
    C = covariance(stages)
    return 1 - C[0, 1] / np.sqrt(C[0, 0] * C[1, 1]) / np.corrcoef(x.T)[0, 1]


# -- rows -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("a", [0.0, 0.25, 1.0])
def test_the_covariance_is_shrunk(a):
    x = rows(500)
    stages = correlated(x, a)
    assert shrunk(stages, x) == pytest.approx(a, abs=1e-12)
    np.testing.assert_allclose(np.sqrt(np.diag(covariance(stages))), x.std(0), rtol=1e-12)
    expected = scipy.stats.multivariate_normal(x.mean(0), covariance(stages)).logpdf(x)
    np.testing.assert_allclose(log_probs(normal(stages), x), expected, rtol=1e-10)


def test_the_shrinkages_that_are_tried(monkeypatch):
    x, tried = rows(500), []

    def noted(flow, held_out, context):
        tried.append(shrunk(flow.bijector.stages, x))
        return np.zeros(1)

    monkeypatch.setattr(gaussians, "log_probs", noted)
    gaussian_start(x, x)
    np.testing.assert_allclose(tried, [0, 0.003, 0.01, 0.03, 0.1, 0.3, 1], atol=1e-10)


def test_the_one_that_makes_held_out_rows_most_likely_is_taken():
    x, held_out = rows(30), rows(30, np.random.default_rng(1), C=((1.0, 0.7), (0.7, 1.0)))
    means = [log_probs(normal(correlated(x, a)), held_out).mean() for a in gaussians.SHRINKAGE]
    taken = gaussian_start(x, held_out)
    assert log_probs(normal(taken), held_out).mean() == max(means) > means[0]
    assert shrunk(gaussian_start(x, None), x) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("share", [1e-14, 1e-11, 0.7e-10])
def test_a_column_that_others_nearly_determine(share):
    rng = np.random.default_rng(0)
    a, b, noise = (scipy.stats.zscore(rng.standard_normal(200)) for _ in range(3))
    noise -= np.column_stack((a, b)) @ np.linalg.lstsq(np.column_stack((a, b)), noise, rcond=None)[0]
    sum_of_both = scipy.stats.zscore(a - 2 * b)
    x = np.column_stack((a, b, sum_of_both + math.sqrt(share) * scipy.stats.zscore(noise), rng.standard_normal(200)))
    found = dependent_column(x)
    assert (found.column, found.of, found.exact, found.equal) == (2, [0, 1], False, False)


def test_a_column_that_leaves_enough_is_its_own():
    rng = np.random.default_rng(0)
    a = rng.standard_normal(200)
    assert dependent_column(np.column_stack((a, a + 1e-4 * rng.standard_normal(200)))) is None


@pytest.mark.parametrize("far", [-1e9, 1e9])
def test_rounding_far_from_zero_is_known(far):
    """Whole numbers far away: twice a column, rounded with it."""
    a = far + np.random.default_rng(0).standard_normal(100)
    found = dependent_column(np.column_stack((a, 3 * a)))
    assert (found.column, found.of, found.exact, found.equal) == (1, [0], True, False)
    found = dependent_column(np.column_stack((a, a)))
    assert found.exact and found.equal


@pytest.mark.parametrize("columns, spread, mean", [(1, 1.0, 1e3), (10, 1e6, 0.0), (40, 1e6, 0.0), (3, 1.0, 1e9)])
def test_a_sum_of_columns_is_exact(columns, spread, mean):
    rng = np.random.default_rng(1)
    x = mean + rng.standard_normal((1000, columns)) * spread ** rng.uniform(-0.5, 0.5, columns)
    found = dependent_column(np.column_stack((x, x @ rng.standard_normal(columns))))
    assert found.column == columns and found.exact


@pytest.mark.parametrize("difference, exact", [(1.5e-6, True), (3e-6, False)])
def test_what_differs_by_more_than_roundings_is_not_exact(difference, exact):
    """Eight roundings of 10^9, of each column, are 1.8e-6."""
    rng = np.random.default_rng(0)
    a = 1e9 + rng.standard_normal(100)
    found = dependent_column(np.column_stack((a, a + difference * rng.standard_normal(100))))
    assert (found.column, found.of, found.exact) == (1, [0], exact)


# -- images -----------------------------------------------------------------------------------------------------------

def test_pixels_before_are_near_and_before():
    before = {(i, j) for i in range(-3, 1) for j in range(-3, 4) if i * i + j * j <= 5 and (i < 0 or i == 0 and j < 0)}
    one_pixel = np.zeros((1, 1, 7, 7))
    one_pixel[0, 0, 3, 3] = 1
    seen, _ = gaussians.predictors_of(one_pixel, np.zeros(1), 0)
    places = np.argwhere(seen[0])                           # (row, column, predictor) at which a predictor is the pixel
    assert {(3 - row, 3 - column) for row, column, _ in places.tolist()} == before
    assert len(places) == len(before) == seen.shape[-1] and len(set(places[:, 2].tolist())) == len(before)


@pytest.mark.parametrize("shape, said", [((2, 16, 16), "a shrunk covariance"), ((1, 27, 19), "linear prediction from neighbours")])
def test_images_of_more_than_512_entries_are_predicted_from_neighbours(shape, said):
    train = np.random.default_rng(0).random((600, *shape))
    density, words = gaussian_of_images(train, None)
    assert words == said and np.isfinite(density(train[:3])).all()
