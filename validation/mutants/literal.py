"""What stands for methods of a page: naive in floats, though exact in principle."""

from __future__ import annotations

import numpy as np

from refflow.core import Bijector, tree
from refflow.core.boundary import own_function

NAMES = {"power": "power", "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh", "atan": "arctan", "asin": "arcsin",
         "acos": "arccos", "fabs": "abs"}


class Literal:
    """The namespace m with NumPy's functions."""

    pi, mpf = np.pi, staticmethod(np.asarray)

    def __getattr__(self, name):
        return getattr(np, NAMES.get(name, name))


def of_definition(f, z):
    """The definition of f at every entry of z, with the fields' entries that belong to it."""
    arrays = {key: np.asarray(value, z.dtype) for key, value in tree.arrays(f).items()}
    plain = {key: getattr(f, key) for key in f.declared if key not in arrays}

    def one(event, *fields):
        return f.definition(Literal(), event, **dict(zip(arrays, fields)), **plain)

    return np.vectorize(one, otypes=[z.dtype])(z, *arrays.values())


def generic_inverse_vjp(f, x):
    """The reverse rule of the inverse map that a page without one of its own has."""
    return own_function(Bijector, "inverse_vjp")(f, x)
