"""refflow: the reference for normalizing flows, in plain NumPy, every inverse, Jacobian and gradient by hand.

    x = f(z),   log p(x) = log pi(z) - log|det dx/dz|

Maps are values with the methods of `refflow.core.Bijector`; `Chain` composes them, `Flow` joins one to a base density.
A chapter is loaded when one of its names is first used; `REGISTRY`, {name: page}, loads them all.
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

CHAPTERS = {
    "core": ("Chain", "DiagonalNormal", "Flow", "FullNormal", "Independent", "Inverse", "Logistic", "NormalMixture",
             "StandardNormal", "Uniform"),
    "elementwise": ("Affine", "Exp", "NormalCDF", "Power", "Sigmoid", "Softplus", "Tanh", "WeibullCDF"),
    "linear": ("DenseLinear", "PLULinear", "Permutation"),
    "shape": ("Concatenate", "Reshape", "stack"),
    "constrained": ("CorrelationCholesky", "StickBreaking"),
    "normalization": ("ActNorm",),
    "conditioners": ("dense_network",),
    "coupling": ("AdditiveCoupling", "AffineCoupling", "Coupling", "VolumePreservingCoupling"),
    "models": ("nice", "realnvp"),
    "training": ("fit",),
    "saving": ("load", "save")}
HOME = {name: chapter for chapter, names in CHAPTERS.items() for name in names}
__all__ = [*sorted(HOME), "REGISTRY"]


def __getattr__(name):
    if name in CHAPTERS:
        return import_module(f".{name}", __name__)
    if name == "REGISTRY":
        chapters = [import_module(f".{chapter}", __name__) for chapter in CHAPTERS]
        return chapters[0].REGISTRY
    if name not in HOME:
        raise AttributeError(f"refflow has no {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f".{HOME[name]}", __name__), name)


def __dir__():
    return [*globals(), *__all__, *CHAPTERS]
