"""The word table of the notation: the meaning of words of several letters, and of signs."""

from __future__ import annotations

GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "eps": "ε", "epsilon": "ε", "zeta": "ζ", "eta": "η",
    "theta": "θ", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π", "rho": "ρ", "sigma": "σ", "tau": "τ",
    "phi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω", "Gamma": "Γ", "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Xi": "Ξ",
    "Pi": "Π", "Sigma": "Σ", "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω",
}

# Words set upright whose argument may follow without brackets: log x, sech^2 z, log det J.
FUNCTIONS = frozenset((
    "arccos", "arcosh", "arcsin", "arctan", "arsinh", "artanh", "cos", "cosh", "cot", "det", "diag", "erf", "erfc", "erfcx",
    "exp", "expm1", "log", "log1p", "log2", "logit", "sech", "sigmoid", "sign", "sin", "sinh", "softmax", "softplus", "sqrt",
    "tan", "tanh", "tr", "tril", "triu", "trunc", "vec", "vech"))
FUNCTIONS |= {"ceil", "clip", "corr", "cumsum", "dim", "erfinv", "floor", "hypot", "lim", "logsumexp", "mean", "relu", "round",
              "squeeze", "grad", "argmax", "argmin", "max", "min", "Re", "Im"}

BIG = {"sum": "∑", "prod": "∏", "int": "∫", "union": "⋃"}           # an operator in front of the rest of its term
SYMBOLS = {"inf": "∞", "infinity": "∞", "log_det": "log det", "log_prob": "log p", "log_p": "log p", "log_q": "log q"}
LETTERS = {"l": "ℓ"}
ACCENTS = {"bar": "¯", "hat": "^", "tilde": "~", "dot": "˙"}        # z_bar, m_hat; also m^ and p~

RELATIONS = {
    "=": "=", "<": "<", ">": ">", "<=": "≤", ">=": "≥", "!=": "≠", "->": "→", "<-": "←", ":=": "≔", "=:": "≕", "~": "∼",
    "==": "≡", "in": "∈",
}
SUMS = {"+": "+", "-": "−", "+-": "±"}
PRODUCTS = {"*": "∗", "x": "×", "mod": "mod", "o": "∘"}
