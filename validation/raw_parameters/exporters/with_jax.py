"""What exporters of libraries on JAX share."""

import jax
import jax.numpy as jnp
import numpy as np
from recording import events, generator, record

jax.config.update("jax_enable_x64", True)


def recorded(name, shapes, flow, buffers=None, config=None, spread=0.7):
    """The record of a model whose raw parameters are drawn with these shapes, {name: shape}.

    `flow(raw)` -> (log_prob of one event, the map of one event from noise to data).
    """
    rng = generator(name)
    raw = {key: spread * rng.standard_normal(shape) for key, shape in sorted(shapes.items())}
    x, z = events(rng)

    def total(raw, x):
        return jax.vmap(flow(raw)[0])(x).sum()

    given = {key: jnp.asarray(array) for key, array in raw.items()}
    gradients, grad_x = jax.grad(total, (0, 1))(given, jnp.asarray(x))
    found = {"x": x, "z": z, "log_prob": jax.vmap(flow(given)[0])(x), "grad_x": grad_x, "sample": jax.vmap(flow(given)[1])(z)}
    found = {key: np.asarray(array) for key, array in found.items()}
    return record(config or {}, raw, buffers or {}, found | {"grad": {key: np.asarray(gradients[key]) for key in raw}})
