"""What the laws are asked: pages, compositions and networks, each drawn from a source.

A question is of a kind, a name and a dtype.  `drawn(source)` makes the value and its points, from Hypothesis as the tests ask
it, or from a NumPy generator; `ask(drawn)` runs the laws on them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import refflow
from refflow import Chain, Concatenate, FactorOut, Independent, Inverse, Pointwise, Reshape, Transposed, stack
from refflow.accuracy.drawing import example, has_examples
from refflow.core import of_kind
from refflow.laws import strategies
from refflow.laws.bijector_laws import run_laws
from refflow.laws.conditioner_laws import network_points, run_network_laws
from refflow.laws.density_laws import density_of, run_density_laws
from refflow.laws.law import every
from refflow.laws.parametrisation_laws import run_parametrisation_laws
from refflow.maps import load_all
from refflow.maps.conditioners import (GELU, AddedContext, Contextual, Dense, Dropout, GatedContext, LayerNorm, MaskedDense, ReLU,
                                       Residual, RMSNorm, Sequential, SiLU, SkipSum, SoftplusActivation, TanhActivation, Times,
                                       WeightNormDense)
from refflow.oracle.points.pages import bijectors

DTYPES = ("float32", "float64")
FEW, NETWORK_EVENTS = 12, 16        # events of pages with components, and of networks
load_all()


@dataclass(frozen=True)
class Question:
    """One thing, of a dtype, that the laws are asked of."""

    kind: str
    name: str
    dtype: str

    def drawn(self, source):
        """What the laws take, at one draw."""
        return KINDS[self.kind].draw(self.name, np.dtype(self.dtype), source)

    def ask(self, drawn, wanted=every) -> dict:
        """Run the laws, or those wanted, as `run_laws` does."""
        return KINDS[self.kind].run(*drawn, wanted=wanted) or {}

    @property
    def part(self):
        """Tests ask it at 1/part of the usual number of draws."""
        return KINDS[self.kind].part(self.name)


@dataclass(frozen=True)
class Kind:
    """How questions of a kind are drawn, `draw(name, dtype, source)`, and asked; `names()` are all there are."""

    names: Callable
    draw: Callable
    run: Callable
    part: Callable


def questions(kind=None, names=()):
    """All questions; of one kind or of some names, if these are given."""
    return [Question(one, name, dtype) for one in ([kind] if kind else KINDS) for name in KINDS[one].names() for dtype in DTYPES
            if not names or name in names]


# -- bijectors --------------------------------------------------------------------------------------------------------

def pages_with_components():
    """The bijectors with components, registered or not, by name."""
    unregistered = (Chain, Concatenate, FactorOut, Independent, Inverse, Pointwise, Reshape, Transposed)
    return of_kind("bijector", components=True) | {page.__name__: page for page in unregistered}


def page_drawn(name, dtype, source):
    return strategies.drawn_of(source, bijectors()[name], dtype)


def part_of_page(name):
    """Solvers take long."""
    return 3 if bijectors()[name].solver is True else 1


def page_with_components_drawn(name, dtype, source):
    return strategies.drawn_of(source, pages_with_components()[name], dtype, FEW)


def composite_drawn(name, dtype, source):
    make, shape = COMPOSITES[name]
    f = make(source).astype(dtype)
    return f, strategies.points_of(source, f, dtype, strategies.POINTS, shape)


def affine(source, *size):
    return refflow.Affine(shift=source.signed(size, -6, 1), scale=source.signed(size, -2, 2))


def dense(source, size):
    """Its matrix is diagonally dominant."""
    return refflow.DenseLinear(W=source.signed((size, size), -6, 0) + 3 * np.eye(size), shift=source.signed((size,), -6, 1))


def logistic(upper):
    """R -> (0, upper)."""
    return Chain((refflow.Sigmoid(), refflow.Affine(scale=upper)))


def logistic_of(f):
    """A map of R, then onto (0, 1)."""
    return Chain((f, refflow.Sigmoid()))


# {name: (source -> the value, the shape of its events)}
COMPOSITES = {
    "Chain of scalars": (lambda source: Chain((affine(source), refflow.Tanh(), refflow.Affine(0.5, 0.25))), ()),
    "Chain of ranks": (lambda source: Chain((dense(source, 3), affine(source, 3), refflow.Softplus())), (3,)),
    "Chain with a domain":
        (lambda source: Chain((refflow.Exp(), refflow.Power(exponent=float(source.numbers((), -1, 1))))), ()),
    "Chain through an interval":
        (lambda source: Chain((affine(source), refflow.LogisticCDF(), Inverse(logistic_of(refflow.Affine(0.5, 2.0))))), ()),
    "Chain through intervals":
        (lambda source: Chain((Independent(logistic_of(affine(source, 2)), 1), Inverse(refflow.NormalCDF()), refflow.Tanh())), (2,)),
    "Chain to the simplex": (lambda source: Chain((affine(source, 2), refflow.StickBreaking())), (2,)),
    "Chain to the simplex, permuted":
        (lambda source: Chain((affine(source, 2), refflow.StickBreaking(), refflow.Permutation([1, 2, 0]))), (2,)),
    "Chain to columns on the simplex":
        (lambda source: Chain([refflow.MatrixTranspose(), refflow.StickBreaking(), refflow.MatrixTranspose()]), (2, 3)),
    "Chain from columns on the simplex":
        (lambda source: Inverse(Chain([refflow.StickBreaking(), refflow.MatrixTranspose()])), (3, 2)),
    "Chain from the simplex":
        (lambda source: Chain((refflow.Permutation([1, 2, 0]), Inverse(refflow.StickBreaking()))), (3,)),
    "Inverse of a scalar": (lambda source: Inverse(Chain((affine(source), refflow.Sigmoid()))), ()),
    "Inverse of a matrix": (lambda source: Inverse(dense(source, 2)), (2,)),
    "Inverse of the simplex": (lambda source: Inverse(refflow.StickBreaking()), (3,)),
    "Inverse of a factor": (lambda source: Inverse(refflow.CorrelationCholesky()), (3, 3)),
    "Independent": (lambda source: Independent(affine(source, 3), 1), (3,)),
    "Independent of vectors": (lambda source: Independent(dense(source, 2), 1), (3, 2)),
    "Independent on two axes": (lambda source: Independent(affine(source), 2), (2, 2)),
    "Reshape": (lambda source: Reshape((2, 3), (6,)), (2, 3)),
    "Chain with Reshape": (lambda source: Chain((Reshape((2, 2), (4,)), dense(source, 4), Reshape((4,), (2, 2)))), (2, 2)),
    "Concatenate": (lambda source: Concatenate((dense(source, 2), affine(source, 1), logistic(2.0)), (2, 1, 1)), (4,)),
    "stack": (lambda source: stack((dense(source, 2), affine(source, 2))), (2, 2)),
    "Concatenate of channels": (lambda source: Concatenate((affine(source), refflow.Tanh()), (1, 2), -2), (3, 2)),
}


# -- parametrisations and densities -----------------------------------------------------------------------------------

def parametrisation_drawn(name, dtype, source):
    return of_kind("parametrisation")[name].examples(source)[0], dtype, source


def density_drawn(name, dtype, source):
    return (density_of(source, of_kind("density")[name], dtype),)


# -- conditioners -----------------------------------------------------------------------------------------------------

def with_points(net, dtype, source, spread=9, shape=None):
    """(net, its points): events of magnitude 2^-spread to 2^(spread + 1)."""
    net = net.astype(dtype)
    return net, network_points(source, net, dtype, NETWORK_EVENTS, spread, shape)


def conditioner_drawn(name, dtype, source):
    page = of_kind("conditioner")[name]
    if name == "LayerNorm":         # with a small eps it is nearly a step, and differences are meaningless
        return with_points(layer_norm(source, *source.choice([(1,), (2,), (3,), (16, 3), (1, 2)])), dtype, source, 3)
    if name == "RMSNorm":
        gain = matrix(source, *source.choice([(1,), (2,), (3,), (16, 3)]))
        return with_points(RMSNorm(gain=gain, eps=source.choice([0.1, 1.0])), dtype, source, 3)
    if name in KERNELS:             # kernels of all sizes have hundreds of entries, with one difference for each
        return with_points(kernels(source, name, *source.choice(SIGNAL_BANKS if name.endswith("1d") else BANKS)), dtype, source)
    if has_examples(page):
        net, shape = example(page, source, dtype)
        return with_points(net, dtype, source, 2, shape)
    return with_points(strategies.value_of(source, page, dtype, NETWORK_EVENTS)[0], dtype, source)


def part_of_conditioner(name):
    return 4 if name in KERNELS or has_examples(of_kind("conditioner")[name]) else 1


def network_drawn(name, dtype, source):
    return with_points(NETWORKS[name](source), dtype, source)


def matrix(source, *shape):
    """Entries without symmetry: with equal rows all terms of kappa may vanish together, but rounding does not."""
    return source.signed(shape, -6, 0) + np.cos(1 + np.arange(np.prod(shape))).reshape(shape)


def layer(source, rows, columns):
    return Dense(W=matrix(source, rows, columns), b=matrix(source, rows))


def masked(source, rows, columns):
    """A layer with a drawn mask; half of its entries are True."""
    connects = source.orders((rows * columns,)).reshape(rows, columns) % 2 == 0
    return MaskedDense(W=matrix(source, rows, columns), connects=connects, b=matrix(source, rows))


def weight_norm(source, rows, columns):
    return WeightNormDense(v=matrix(source, rows, columns) + 4, g=matrix(source, rows), b=matrix(source, rows))


def layer_norm(source, *shape):
    return LayerNorm(gain=matrix(source, *shape), bias=matrix(source, shape[-1]), eps=source.choice([0.1, 1.0]))


KERNELS = {"Conv2d": "W", "WeightNormConv2d": "v", "Conv1d": "W", "WeightNormConv1d": "v"}
BANKS = [((2, 1, 1, 3), {"padding": "zeros"}), ((1, 2, 3, 1), {"padding": "edge"}), ((1, 2, 2, 1), {"padding": "ones"}),
         ((2, 2, 1, 1), {"padding": "edge"}), ((16, 1, 1, 1, 2), {"padding": "zeros"}), ((1, 1, 2, 1, 1), {"padding": "zeros"})]
SIGNAL_BANKS = [((2, 1, 3), {"dilation": 1}), ((1, 2, 2), {"dilation": 2}), ((2, 2, 1), {"dilation": 1, "mask": [False, True]}),
                ((16, 1, 1, 3), {"dilation": 1}), ((1, 2, 1, 2), {"dilation": 1, "mask": [False, True]})]


def kernels(source, name, shape, given):
    """Convolutions with a bank of kernels of that shape, with a gain and without, with a bias and without."""
    page, outputs = of_kind("conditioner")[name], shape[-4 if name.endswith("2d") else -3]
    optional = {key: matrix(source, outputs) for key in ("g", "b") if key in page.declared and source.chance(0.5)}
    return page(**{KERNELS[name]: matrix(source, *shape)}, **given, **optional)


# {name: source -> the network}
NETWORKS = {
    "ReLU": lambda source: Sequential((layer(source, 4, 3), ReLU(), layer(source, 2, 4))),
    "tanh": lambda source: Sequential((layer(source, 4, 3), TanhActivation(), layer(source, 2, 4))),
    "GELU, SiLU": lambda source: Sequential((layer(source, 2, 2), GELU(), layer(source, 3, 2), SiLU())),
    "starts with an activation": lambda source: Sequential((SoftplusActivation(), layer(source, 2, 3))),
    "activations alone": lambda source: Sequential((SiLU(), TanhActivation())),
    "nested": lambda source: Sequential((Sequential((layer(source, 3, 2), TanhActivation())), layer(source, 1, 3))),
    "weight norm": lambda source: Sequential((weight_norm(source, 3, 2), TanhActivation(), weight_norm(source, 2, 3))),
    "layer norm": lambda source: Sequential((layer(source, 3, 2), layer_norm(source, 3), GELU(), layer(source, 2, 3))),
    "residual": lambda source: Sequential((Residual(Sequential((layer(source, 2, 2), TanhActivation()))), layer(source, 3, 2))),
    "residual of numbers": lambda source: Residual(TanhActivation()),
    "dropout": lambda source: Sequential((layer(source, 3, 2), Dropout(np.array([True, False, True]), 0.25), TanhActivation(),
                                          layer(source, 2, 3))),
    "dropout by event": lambda source: Sequential((layer(source, 3, 2), Dropout(np.arange(48).reshape(16, 3) % 5 > 0, 0.2),
                                                   layer(source, 2, 3))),
    "context": lambda source: Contextual(Sequential((layer(source, 3, 5), TanhActivation())), matrix(source, 3)),
    "context by event": lambda source: Contextual(Sequential((layer(source, 3, 3), SiLU())), matrix(source, 16, 1)),
    "context, added": lambda source: AddedContext(inner=Sequential((layer(source, 3, 2), TanhActivation())),
                                                  net=layer(source, 3, 2), context=matrix(source, 2)),
    "context by event, gating": lambda source: GatedContext(inner=layer(source, 2, 3), context=matrix(source, 16, 1),
                                                            net=Sequential((layer(source, 2, 1), TanhActivation()))),
    "masked": lambda source: Sequential((masked(source, 4, 3), TanhActivation(), masked(source, 2, 4))),
    "masked residual": lambda source: Sequential((masked(source, 2, 3), Residual(Sequential((masked(source, 2, 2), SiLU()))),
                                                  masked(source, 3, 2))),
    "masked, after a context": lambda source: Contextual(Sequential((masked(source, 3, 5), GELU(), masked(source, 2, 3))),
                                                         matrix(source, 3)),
    "masked, times a constant": lambda source: Times(masked(source, 3, 2), 0.5),
    "masked skips": lambda source: SkipSum(blocks=(Sequential((masked(source, 2, 3), TanhActivation())),),
                                           skips=(masked(source, 2, 3), masked(source, 2, 2))),
    "weights by event": lambda source: Sequential((Dense(W=matrix(source, 16, 2, 3), b=matrix(source, 2)), TanhActivation(),
                                                   layer(source, 1, 2))),
}

KINDS = {
    "page": Kind(bijectors, page_drawn, run_laws, part_of_page),
    "page with components": Kind(pages_with_components, page_with_components_drawn, run_laws,
                                 lambda name: 10 if name == "ContinuousFlow" else 3),           # nine CPU seconds a draw
    "composite": Kind(lambda: COMPOSITES, composite_drawn, run_laws, lambda name: 3),
    "parametrisation": Kind(lambda: of_kind("parametrisation"), parametrisation_drawn, run_parametrisation_laws, lambda name: 3),
    "density": Kind(lambda: of_kind("density"), density_drawn, run_density_laws, lambda name: 1),
    "conditioner": Kind(lambda: of_kind("conditioner"), conditioner_drawn, run_network_laws, part_of_conditioner),
    "network": Kind(lambda: NETWORKS, network_drawn, run_network_laws, lambda name: 4),
}
