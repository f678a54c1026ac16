"""The value of printed formulas: each kind of node, and where the answer is "unknown"."""

from __future__ import annotations

import numpy as np
import pytest

from refflow.book.algebra import Row, Unknown
from refflow.book.evaluate import Scope, value
from refflow.book.notation import parse

V, A = np.array([2.0, 3.0, 5.0]), np.array([[2.0, 1.0], [0.0, 4.0]])
NAMES = {"x": V, "a": 2.0, "b": 3.0, "u": np.array([1.0, 2.0]), "v": np.array([3.0, 4.0]), "A": A, "z_bar": 7.0, "K": 3}


def of(text, **bound):
    [node] = parse(text, ())
    return value(node, Scope((NAMES,), bound=bound))


@pytest.mark.parametrize("text, wanted", [
    ("a + b - 1", 4), ("2 a b", 12), ("a/b", 2 / 3), ("b^a", 9), ("|a - b|", 1), ("z_bar", 7), ("log a", np.log(2)), ("exp(a)", np.exp(2)),
    ("tanh^2 a", np.tanh(2) ** 2), ("x_2", 3), ("sum_i x_i", 10), ("prod_i x_i", 30), ("sum_(i > 1) x_i", 8), ("sum_(k=1)^2 x_k", 5),
    ("x_1 + ... + x_K", 10), ("x_1 ... x_K", 30), ("max(a, b)", 3), ("min_i x_i", 2), ("[a = b]", 0), ("<u, v>", 11), ("u^T v", 11),
    ("|v|", 5), ("det A", 8), ("tr A", 6), ("Phi^-1(1/2)", 0), ("u v", [3, 8]), ("A u", [4, 8]), ("u v^T", [[3, 4], [6, 8]]),
    ("A^2", A @ A), ("A^-1", np.linalg.inv(A)), ("A + I", A + np.eye(2)), ("tril(A, -1)", np.tril(A, -1)), ("v^2", [9, 16])])
def test_a_value(text, wanted):
    assert np.allclose(of(text), wanted, rtol=1e-14)


def test_a_product_sign_is_no_sum_and_a_column_beside_a_row_is_a_matrix():
    assert of("prod_i x_i") != of("sum_i x_i")
    assert of("u v^T").shape == (2, 2)
    assert isinstance(of("v^T"), Row)


@pytest.mark.parametrize("text, reason", [
    ("q", "letter"), ("f(a)", "letter"), ("tanh^-1(a)", "letter"), ("int_0^1 a", "integral"), ("x_4", "index"), ("sum_i a", "index"),
    ("A + a", "shape"), ("A x", "shape"), ("a^T", "shape"), ("tanh(A)", "shape"), ("dx/da", "derivative"), ("x_1 + ...", "dots"),
    ("A * u", "notation")])
def test_unknown(text, reason):
    with pytest.raises(Unknown) as unknown:
        of(text)
    assert unknown.value.reason == reason


def test_dots_without_members_are_nothing():
    assert of("x_1 + ... + x_(k-1)", k=1) == 0
    assert of("x_1 + ... + x_(k-1)", k=3) == 5
