"""Models of NumPyro with drawn parameters: run by `validation.raw_parameters` in an environment of its own."""

from importlib.metadata import version

import with_jax                                                                     # first: float64
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions.flows import InverseAutoregressiveTransform
from numpyro.nn.auto_reg_nn import AutoregressiveNN, create_mask
from recording import SIZE, save

HIDDEN = 4
ORDERS = {"inverse autoregressive": [[0, 1, 2]], "two orders": [[0, 1, 2], [2, 0, 1]]}
SHAPES = {"0/W": (SIZE, HIDDEN), "0/b": (HIDDEN,), "2/W": (HIDDEN, 2 * SIZE), "2/b": (2 * SIZE,)}


def made(name):
    nets = [AutoregressiveNN(SIZE, [HIDDEN], permutation=jnp.array(order))[1] for order in ORDERS[name]]

    def flow(raw):
        parameters = [[(raw[f"{i}/0/W"], raw[f"{i}/0/b"]), (), (raw[f"{i}/2/W"], raw[f"{i}/2/b"])] for i in range(len(nets))]
        transforms = [InverseAutoregressiveTransform(lambda x, net=net, held=held: net(held, x))
                      for net, held in zip(nets, parameters)]
        density = dist.TransformedDistribution(dist.Normal(jnp.zeros(SIZE), 1).to_event(1), transforms)

        def to_data(z):
            for transform in transforms:
                z = transform(z)
            return z

        return density.log_prob, to_data

    masks = [create_mask(SIZE, [HIDDEN], jnp.array(order), 2)[0] for order in ORDERS[name]]
    buffers = {f"{i}/{layer}/mask": np.asarray(mask) for i, both in enumerate(masks) for layer, mask in zip((0, 2), both)}
    shapes = {f"{i}/{key}": shape for i in range(len(nets)) for key, shape in SHAPES.items()}
    return with_jax.recorded(f"numpyro {name}", shapes, flow, buffers, {"transforms": len(nets)}, 0.5)


save("numpyro", {name: version(name) for name in ("numpyro", "jax")}, {name: made(name) for name in ORDERS})
