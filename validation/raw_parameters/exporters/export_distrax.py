"""Models of distrax with drawn parameters: run by `validation.raw_parameters` in an environment of its own."""

from importlib.metadata import version

import with_jax                                                                     # first: float64
import distrax
import jax.numpy as jnp
import numpy as np
from recording import SIZE, save

HIDDEN, BINS, BOUND = 2, 3, 3.0
NUMBERS = 3 * BINS + 1
FIRST, SECOND = np.array([True, False, False]), np.array([False, True, True])      # True: passes
MODES = ("unconstrained", "lower_identity", "upper_identity", "identity", "circular")


def net_shapes(name):
    return {f"{name}/w0": (SIZE, HIDDEN), f"{name}/b0": (HIDDEN,), f"{name}/w1": (HIDDEN, SIZE * NUMBERS),
            f"{name}/b1": (SIZE * NUMBERS,)}


def net(raw, name):
    """A network of one hidden layer with tanh, (D,) to (D, numbers)."""
    def conditioner(x):
        hidden = jnp.tanh(x @ raw[f"{name}/w0"] + raw[f"{name}/b0"])
        return (hidden @ raw[f"{name}/w1"] + raw[f"{name}/b1"]).reshape(SIZE, NUMBERS)

    return conditioner


def coupling(raw, name, mask, mode):
    return distrax.MaskedCoupling(
        mask, net(raw, name), lambda params: distrax.RationalQuadraticSpline(params, -BOUND, BOUND, boundary_slopes=mode))


def flow_of(bijector):
    base = distrax.MultivariateNormalDiag(jnp.zeros(SIZE), jnp.ones(SIZE))
    return distrax.Transformed(base, bijector).log_prob, bijector.forward


def couplings(mode):
    def flow(raw):
        return flow_of(distrax.Chain([coupling(raw, "second", SECOND, mode), coupling(raw, "first", FIRST, mode)]))

    return net_shapes("first") | net_shapes("second"), flow, {"mode": mode}


def triangular(raw):
    return flow_of(distrax.LowerUpperTriangularAffine(raw["matrix"], raw["bias"]))


MODELS = {f"spline coupling, {mode}": couplings(mode) for mode in MODES} | {
    "lower upper triangular": ({"matrix": (SIZE, SIZE), "bias": (SIZE,)}, triangular, {"mode": ""})}


def made(name):
    shapes, flow, config = MODELS[name]
    config = config | {"bins": BINS, "bound": BOUND, "masks": [FIRST.tolist(), SECOND.tolist()]}
    return with_jax.recorded(f"distrax {name}", shapes, flow, {}, config)


save("distrax", {name: version(name) for name in ("distrax", "jax")}, {name: made(name) for name in MODELS})
