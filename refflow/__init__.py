"""refflow: the reference for normalizing flows, in plain NumPy, every inverse, Jacobian and gradient by hand.

    x = f(z),   log p(x) = log pi(z) - log|det dx/dz|

Maps are values with the methods of `refflow.core.Bijector`; `Chain` composes them, `Flow` joins one to a base density.
A chapter is loaded when one of its names is first used; `REGISTRY`, {name: page}, loads them all, as do `COMPOSITIONS`,
the pages with components, and `CONDITIONERS`.
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

CHAPTERS = {
    "core": ("Chain", "DiagonalNormal", "Flow", "FullNormal", "Independent", "Inverse", "Logistic", "NormalMixture",
             "StandardLogistic", "StandardNormal", "Uniform"),
    "elementwise": ("Affine", "AlphaSigmoid", "Exp", "Homothety", "NormalCDF", "Power", "Sigmoid", "Softplus", "Tanh",
                    "WeibullCDF", "alpha_logit"),
    "linear": ("DenseLinear", "OrthogonalLinear", "PLULinear", "Permutation", "Pointwise", "Transposed"),
    "shape": ("Concatenate", "FactorOut", "Reshape", "Squeeze", "stack"),
    "constrained": ("CorrelationCholesky", "StickBreaking"),
    "normalization": ("ActNorm", "BatchNorm", "GlowActNorm"),
    "conditioners": ("dense_network",),
    "coupling": ("AdditiveCoupling", "AffineCoupling", "Coupling", "VolumePreservingCoupling"),
    "models": ("glow", "image_realnvp", "nice", "realnvp"),
    "dequantisation": ("bits_per_dim", "dequantised", "quantised", "variational_bound_vjp"),
    "training": ("fit",),
    "saving": ("load", "save")}
HOME = {name: chapter for chapter, names in CHAPTERS.items() for name in names}
REGISTRIES = ("REGISTRY", "COMPOSITIONS", "CONDITIONERS")
__all__ = [*sorted(HOME), *REGISTRIES]


def __getattr__(name):
    if name in CHAPTERS:
        return import_module(f".{name}", __name__)
    if name in REGISTRIES:
        chapters = [import_module(f".{chapter}", __name__) for chapter in CHAPTERS]
        return in_reading_order(getattr(chapters[0], name))
    if name not in HOME:
        raise AttributeError(f"refflow has no {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f".{HOME[name]}", __name__), name)


def in_reading_order(pages):
    """The pages in the order of chapters and files, whichever was loaded first; those of others last."""
    chapters = {f"refflow.{chapter}": i for i, chapter in enumerate(CHAPTERS)}

    def place(name):
        module = pages[name].__module__
        return chapters.get(".".join(module.split(".")[:2]), len(chapters)), module

    order = sorted(pages, key=place)
    if order != list(pages):
        ordered = {name: pages[name] for name in order}
        pages.clear()
        pages.update(ordered)
    return pages


def __dir__():
    return [*globals(), *__all__, *CHAPTERS]
