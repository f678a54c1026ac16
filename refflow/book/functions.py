"""The functions that everybody knows, by the names of the word table."""

from __future__ import annotations

import numpy as np
import scipy.special

OF_ARRAYS = {"det": np.linalg.det, "tr": np.trace, "diag": np.diag, "tril": np.tril, "triu": np.triu, "mean": np.mean,
             "cumsum": np.cumsum, "logsumexp": scipy.special.logsumexp, "softmax": scipy.special.softmax}
OF_NUMBERS = {
    "arccos": np.arccos, "arcosh": np.arccosh, "arcsin": np.arcsin, "arctan": np.arctan, "arsinh": np.arcsinh, "artanh": np.arctanh,
    "cos": np.cos, "cosh": np.cosh, "cot": lambda v: 1 / np.tan(v), "erf": scipy.special.erf, "erfc": scipy.special.erfc,
    "erfcx": scipy.special.erfcx, "erfinv": scipy.special.erfinv, "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p,
    "log2": np.log2, "logit": scipy.special.logit, "sech": lambda v: 1 / np.cosh(v), "sigmoid": scipy.special.expit,
    "sign": np.sign, "sin": np.sin, "sinh": np.sinh, "softplus": lambda v: np.logaddexp(0, v), "sqrt": np.sqrt, "tan": np.tan,
    "tanh": np.tanh, "trunc": np.trunc, "ceil": np.ceil, "floor": np.floor, "hypot": np.hypot, "relu": lambda v: np.maximum(v, 0),
    "Phi": scipy.special.ndtr, "phi": lambda v: np.exp(-v * v / 2) / np.sqrt(2 * np.pi), "Gamma": scipy.special.gamma,
    "psi": scipy.special.digamma, "min": lambda *v: np.min(v[0]) if len(v) == 1 else np.minimum.reduce(v),
    "max": lambda *v: np.max(v[0]) if len(v) == 1 else np.maximum.reduce(v)}
LETTERS = ("Gamma", "Phi", "phi", "psi")              # a page may give these to functions of its own
INVERSES = {"Phi": "ndtri", "sigmoid": "logit", "logit": "expit"}
CONSTANTS = {"pi": np.pi, "inf": np.inf, "infinity": np.inf, "e": np.e}
