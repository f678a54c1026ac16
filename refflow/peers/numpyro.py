"""NumPyro 0.22.0, as adapters: `refflow check numpyro`.

Its x, y, log_abs_det_jacobian(x, y) are z, x, log_det here.  Where x has more entries than free numbers, its inverse is a
function of the chart, as in `torch`.  LowerCholeskyTransform takes the diagonal's numbers last: they are reordered here.  The
block autoregressive network has no inverse.

Left out: the gated and residual kinds of the block autoregressive network, which have no page; maps of complex numbers.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import numpyro.distributions.constraints as constraints
import scipy
from numpyro.distributions import biject_to
from numpyro.distributions import transforms as t
from numpyro.distributions.flows import BlockNeuralAutoregressiveTransform, InverseAutoregressiveTransform
from numpyro.nn.block_neural_arn import BlockNeuralAutoregressiveNN

import refflow
from refflow.maps.coupling import affine_family
from refflow.maps.elementwise import CONVENTIONS
from refflow.models.gaussian import lower_triangular

from .shared import directions, pinned
from .shared.constraints import declare_constraints, with_ends
from .shared.jax import compiled, declaring
from .shared.networks import autoregressive, block_autoregressive, block_matrix, by_entry, masked_outputs

version = pinned("numpyro", "0.22.0")
declare = declaring("numpyro.distributions.transforms.")


def diagonal_last(size):
    """Where the page's numbers of a triangle, row by row, come from."""
    rows, columns = np.tril_indices(round((2 * size + 0.25) ** 0.5 - 0.5))
    return np.argsort(rows == columns, kind="stable")


def lower_cholesky(p):
    forward, inverse = directions(t.LowerCholeskyTransform())

    def ordered(L):
        z, log_det = inverse(L)
        return z[..., np.argsort(diagonal_last(z.shape[-1]))], log_det

    return lambda z: forward(z[..., diagonal_last(z.shape[-1])]), ordered


declare("Affine", "AffineTransform", lambda p: directions(t.AffineTransform(p["shift"], p["scale"])), broadcast=True)
declare("Exp", "ExpTransform", lambda p: directions(t.ExpTransform()))
declare("Power", "PowerTransform", lambda p: directions(t.PowerTransform(p["exponent"])), broadcast=True)
declare("Sigmoid", "SigmoidTransform", lambda p: directions(t.SigmoidTransform()))
declare("Softplus", "SoftplusTransform", lambda p: directions(t.SoftplusTransform()))
declare("Ordered", "OrderedTransform", lambda p: directions(t.OrderedTransform()))
declare("Permutation", "PermuteTransform", lambda p: directions(t.PermuteTransform(p["order"])))
declare("CholeskyFactor", "LowerCholeskyTransform", lower_cholesky, chart_gradient=True)
declare("StickBreaking", "StickBreakingTransform", compiled(lambda p: directions(t.StickBreakingTransform())), chart_gradient=True)
declare("CorrelationCholesky", "CorrCholeskyTransform", compiled(lambda p: directions(t.CorrCholeskyTransform())), chart_gradient=True)


# -- linear maps, shapes, ways to combine maps ------------------------------------------------------------------------

def first(p):
    """The parameters of a chain's first stage."""
    return p["stages"]["0"]


def affine(p):
    return t.AffineTransform(p["shift"], p["scale"])


def triangular(p):
    inner = first(p)
    return directions(t.LowerCholeskyAffine(inner["shift"], (inner["lower"] + np.eye(3, dtype=bool)) * inner["scale"]))


def recursive(p):
    """An event is one number at each of four times, of which each adds the matrix times the one before."""
    transform = t.RecursiveLinearTransform(jnp.asarray(RATE)[None, None])

    def columns(call):
        def both(event):
            image, log_det = call(event[..., None])
            return image[..., 0], log_det

        return both

    return [columns(call) for call in directions(transform)]


RATE, TIMES = 0.5, np.arange(4)
powers = np.tril(RATE ** np.abs(TIMES[:, None] - TIMES))
scalar = refflow.Affine(shift=0.5, scale=-1.5)
declare(refflow.Chain([refflow.OrthogonalLinear(scipy.fft.dct(np.eye(5), norm="ortho", axis=0))]), "DiscreteCosineTransform",
        lambda p: directions(t.DiscreteCosineTransform()), fixed=["stages.0.Q"])
declare(refflow.Chain([refflow.haar(4)]), "HaarTransform", lambda p: directions(t.HaarTransform()), fixed=["stages.0.Q"])
declare(refflow.Chain([lower_triangular(np.array([[0.5, 0, 0], [0.25, 2, 0], [-1.5, 3, 0.75]]))]), "LowerCholeskyAffine", triangular,
        fixed=["stages.0.order", "stages.0.upper"])
declare(refflow.Chain([refflow.DenseLinear(powers, None)]), "RecursiveLinearTransform", compiled(recursive), fixed=["stages.0.W"])
declare("SimplexToOrdered", "SimplexToOrderedTransform", lambda p: directions(t.SimplexToOrderedTransform()), chart_gradient=True)
declare("CholeskyOuterProduct", "CholeskyTransform", lambda p: directions(t.CholeskyTransform()), direction="inverse",
        chart_gradient=True)
declare(refflow.Chain([refflow.Affine()]), "IdentityTransform", lambda p: directions(t.IdentityTransform()),
        fixed=["stages.0.shift", "stages.0.scale"])
declare(refflow.Reshape((2, 3), (6,)), "ReshapeTransform", lambda p: directions(t.ReshapeTransform((6,), (2, 3))))
declare(refflow.Concatenate([refflow.Exp(), scalar], (2, 3)), "CatTransform [in IndependentTransform]",
        lambda p: directions(t.IndependentTransform(t.CatTransform([t.ExpTransform(), affine(p["parts"]["1"]["inner"])], -1, [2, 3]), 1)))
declare(refflow.Chain([refflow.Affine(shift=0.5, scale=0.75), refflow.Softplus()]), "ComposeTransform",
        lambda p: directions(t.ComposeTransform([affine(first(p)), t.SoftplusTransform()])))
declare(refflow.Inverse(scalar), "_InverseTransform", lambda p: directions(affine(p["inner"]).inv))
declare(refflow.Independent(refflow.Affine(shift=[1.0, 0.5, 0.25], scale=[0.5, -2.0, 3.0]), 1), "IndependentTransform",
        lambda p: directions(t.IndependentTransform(affine(p["inner"]), 1)))


# -- autoregressive maps ----------------------------------------------------------------------------------------------

def inverse_autoregressive(p):
    net = masked_outputs(p, jnp.tril)
    return directions(InverseAutoregressiveTransform(lambda z: [part[..., 0] for part in by_entry(net(z), 1, 1)]))


def block_network(p):
    """A column of its matrix is exp(gain) w/|w|, with w the exponential of its weights within blocks."""
    layers = list(p["layers"].values())
    _, network = BlockNeuralAutoregressiveNN(len(layers[0]["within"]), [of["within"].shape[1] for of in layers[:-1]])
    raw = [()] * (2 * len(layers) - 1)
    for i, of in enumerate(layers):
        matrix, on_diagonal = block_matrix(of)
        weights = jnp.where(on_diagonal, jnp.log(jnp.where(on_diagonal, matrix, 1)), matrix)
        raw[2 * i] = weights.T, jnp.log(jnp.linalg.norm(matrix, axis=-1)), of["b"]
    return directions(BlockNeuralAutoregressiveTransform(lambda z: network(raw, z)))


declare(autoregressive(affine_family(CONVENTIONS["Pyro, NumPyro"], ("shift", "scale"))), "InverseAutoregressiveTransform",
        compiled(inverse_autoregressive))
compiled_network = compiled(block_network)
declare(block_autoregressive(), "BlockNeuralAutoregressiveTransform", lambda p: (compiled_network(p)[0], None))


def constraint(name, ends):
    """The constraint of a name such as "simplex" or "zero_sum(2)", with its ends."""
    plain, _, count = name.rstrip(")").partition("(")
    return getattr(constraints, plain)(int(count)) if count else with_ends(getattr(constraints, plain), ends)


declare_constraints("numpyro", declare, lambda name, ends: directions(biject_to(constraint(name, ends))))
