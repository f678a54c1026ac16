"""Models of FlowJAX with drawn parameters: run by `validation.raw_parameters` in an environment of its own."""

from importlib.metadata import version

import with_jax                                                                     # first: float64
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import paramax
from flowjax.bijections import RationalQuadraticSpline
from flowjax.distributions import Normal
from flowjax.flows import coupling_flow, masked_autoregressive_flow
from recording import SIZE, save

LAYERS, HIDDEN, KNOTS, BOUND = 2, 4, 3, 4.0
OPTIONS = {"base_dist": Normal(jnp.zeros(SIZE)), "flow_layers": LAYERS, "nn_width": HIDDEN, "nn_depth": 1}


def spline():
    return RationalQuadraticSpline(knots=KNOTS, interval=BOUND)


MODELS = {
    "spline coupling": lambda key: coupling_flow(key, transformer=spline(), **OPTIONS),
    "spline autoregressive": lambda key: masked_autoregressive_flow(key, transformer=spline(), **OPTIONS),
    "affine coupling": lambda key: coupling_flow(key, **OPTIONS),
    "affine autoregressive": lambda key: masked_autoregressive_flow(key, **OPTIONS),
    "affine autoregressive, not inverted": lambda key: masked_autoregressive_flow(key, invert=False, **OPTIONS),
}


def arrays(tree, kind):
    """{path: array} of the leaves of the layers, which stand on a first axis."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves
            if eqx.is_array(leaf) and (leaf.dtype.kind == "f") == (kind == "raw")}


def made(name):
    flow = MODELS[name](jr.key(len(name)))
    inverted = "not inverted" not in name
    layers = flow.bijection.bijection.bijection if inverted else flow.bijection.bijection
    raw = arrays(layers, "raw")

    def rebuilt(given):
        """The flow with the layers' raw parameters, {"i path": array}."""
        def leaf(path, held):
            key = jax.tree_util.keystr(path)
            return jnp.stack([given[f"{i}{key}"] for i in range(LAYERS)]) if key in raw else held

        changed = jax.tree_util.tree_map_with_path(leaf, layers)
        where = (lambda f: f.bijection.bijection.bijection) if inverted else (lambda f: f.bijection.bijection)
        new = paramax.unwrap(eqx.tree_at(where, flow, changed))
        return new.log_prob, new.bijection.transform

    shapes = {f"{i}{key}": array.shape[1:] for key, array in raw.items() for i in range(LAYERS)}
    buffers = {f"{i}{key}": np.asarray(array[i]) for key, array in arrays(layers, "buffers").items() for i in range(LAYERS)}
    config = {"layers": LAYERS, "knots": KNOTS, "bound": BOUND, "spline": "spline" in name, "coupling": "coupling" in name,
              "inverted": inverted}
    return with_jax.recorded(f"flowjax {name}", shapes, rebuilt, buffers, config)


RELEASE = version("flowjax").split(".")[0]
CHOSEN = [name for name in MODELS if RELEASE != "17" or "spline" in name]           # the others are the same in both
save(f"flowjax_{RELEASE}", {name: version(name) for name in ("flowjax", "jax", "equinox", "paramax")},
     {name: made(name) for name in CHOSEN})
