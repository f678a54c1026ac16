"""The conventions of libraries: all tables, and which libraries use a scale or a parametrisation."""

from __future__ import annotations

import inspect

from ...core import tree
from ..elementwise import CONVENTIONS
from .linear_conventions import TRIANGULAR
from .normalization_conventions import BATCH_NORMS
from .polynomial_conventions import BERNSTEIN_POLYNOMIALS, SUMS_OF_SQUARES
from .residual_conventions import PIECEWISE_PLANARS, PLANARS, RADIALS
from .spline_conventions import (CUBIC_SPLINES, LINEAR_RATIONAL_SPLINES, LINEAR_SPLINES, QUADRATIC_SPLINES, SMOOTH_SPLINES,
                                 SPLINES)

__all__ = ["TABLES", "users"]

TABLES = {"CONVENTIONS": CONVENTIONS, "SPLINES": SPLINES, "LINEAR_SPLINES": LINEAR_SPLINES,
          "QUADRATIC_SPLINES": QUADRATIC_SPLINES, "CUBIC_SPLINES": CUBIC_SPLINES, "SMOOTH_SPLINES": SMOOTH_SPLINES,
          "LINEAR_RATIONAL_SPLINES": LINEAR_RATIONAL_SPLINES, "TRIANGULAR": TRIANGULAR, "BATCH_NORMS": BATCH_NORMS,
          "SUMS_OF_SQUARES": SUMS_OF_SQUARES, "BERNSTEIN_POLYNOMIALS": BERNSTEIN_POLYNOMIALS, "PLANARS": PLANARS,
          "PIECEWISE_PLANARS": PIECEWISE_PLANARS, "RADIALS": RADIALS}
# The tables that give the fields of a map of one number, or of vectors, by its page.
OF_PAGES = {"RationalQuadraticSpline": SPLINES, "LinearSpline": LINEAR_SPLINES, "QuadraticSpline": QUADRATIC_SPLINES,
            "CubicSpline": CUBIC_SPLINES, "SmoothSpline": SMOOTH_SPLINES, "LinearRationalSpline": LINEAR_RATIONAL_SPLINES,
            "SumOfSquares": SUMS_OF_SQUARES, "BernsteinPolynomial": BERNSTEIN_POLYNOMIALS, "Affine": CONVENTIONS,
            "Planar": PLANARS, "PiecewisePlanar": PIECEWISE_PLANARS, "Radial": RADIALS}
SMALL = 5                           # bins, rows of a matrix, or a degree


def users(page) -> list[str]:
    """The conventions that hold a scale or a parametrisation, by the names of their libraries."""
    found = [name for table in TABLES.values() for name, held in table.items()
             if any(type(owner) is page for _, owner in tree.walk(held if not callable(held) else held(SMALL)))]
    return list(dict.fromkeys(found))


def described(table) -> list[tuple]:
    """(library, its convention) for each row of a table: a value, or a function's arguments and the start of its docstring."""
    return [(name, told(held) if callable(held) else repr(held)) for name, held in table.items()]


def told(function):
    text = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
    return f"{function.__name__}{inspect.signature(function)}" + (f": {text}" if text else "")
