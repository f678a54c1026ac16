"""Models of TFP on JAX with drawn parameters: run by `validation.raw_parameters` in an environment of its own."""

from importlib.metadata import version

import with_jax                                                                     # first: float64
import jax
import jax.numpy as jnp
import numpy as np
from recording import SIZE, save
from tensorflow_probability.substrates import jax as tfp

tfb, tfd = tfp.bijectors, tfp.distributions
HIDDEN, BINS, FIRST = 4, 3, 1                       # the first entry passes
REST, PERMUTATION = SIZE - FIRST, [1, 2, 0]
NUMBERS = 3 * BINS - 1


def layers(name, inputs, outputs):
    return {f"{name}/w0": (inputs, HIDDEN), f"{name}/b0": (HIDDEN,), f"{name}/w1": (HIDDEN, outputs), f"{name}/b1": (outputs,)}


def net(raw, name, x, masks=(1, 1)):
    hidden = jnp.tanh(x @ (raw[f"{name}/w0"] * masks[0]) + raw[f"{name}/b0"])
    return hidden @ (raw[f"{name}/w1"] * masks[1]) + raw[f"{name}/b1"]


def spline(raw, name):
    """The recipe of TFP's documentation on [-1, 1]."""
    def bins(u):
        return jax.nn.softmax(u) * (2 - BINS * 1e-3) + 1e-3

    def bijector(x, units):
        u = net(raw, name, x).reshape(*x.shape[:-1], units, NUMBERS)
        return tfb.RationalQuadraticSpline(bins(u[..., :BINS]), bins(u[..., BINS:2 * BINS]),
                                           jax.nn.softplus(u[..., 2 * BINS:]) + 1e-3, range_min=-1)

    return tfb.RealNVP(num_masked=FIRST, bijector_fn=bijector)


def real_nvp(raw, name):
    def shift_and_log_scale(x, units):
        return jnp.split(net(raw, name, x), 2, -1)

    return tfb.RealNVP(num_masked=FIRST, shift_and_log_scale_fn=shift_and_log_scale)


DEGREES = np.arange(HIDDEN) % (SIZE - 1) + 1
MASKS = (DEGREES >= np.arange(1, SIZE + 1)[:, None], np.repeat(np.arange(1, SIZE + 1), 2) > DEGREES[:, None])


def autoregressive(raw, name):
    """A masked network with shift and log-scale side by side for each entry."""
    def shift_and_log_scale(x):
        out = net(raw, name, x, MASKS).reshape(*x.shape, 2)
        return out[..., 0], out[..., 1]

    return tfb.MaskedAutoregressiveFlow(shift_and_log_scale_fn=shift_and_log_scale)


def both(make):
    """Two of them with a permutation between: the first that noise meets stands last."""
    return lambda raw: tfb.Chain([make(raw, "second"), tfb.Permute(PERMUTATION), make(raw, "first")])


def lu(raw):
    return tfb.Chain([tfb.Shift(raw["shift"]), tfb.ScaleMatvecLU(raw["lower_upper"], jnp.array(PERMUTATION))])


MODELS = {
    "spline coupling": (layers("first", FIRST, REST * NUMBERS) | layers("second", FIRST, REST * NUMBERS), both(spline)),
    "affine coupling": (layers("first", FIRST, REST * 2) | layers("second", FIRST, REST * 2), both(real_nvp)),
    "affine autoregressive": (layers("first", SIZE, SIZE * 2) | layers("second", SIZE, SIZE * 2), both(autoregressive)),
    "LU linear": ({"lower_upper": (SIZE, SIZE), "shift": (SIZE,)}, lu),
}


def made(name):
    shapes, bijector = MODELS[name]

    def flow(raw):
        density = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(jnp.zeros(SIZE), jnp.ones(SIZE)), bijector(raw))
        return density.log_prob, density.bijector.forward

    config = {"kind": name, "bins": BINS, "first": FIRST, "permutation": PERMUTATION}
    return with_jax.recorded(f"tfp {name}", shapes, flow, {f"mask{i}": mask for i, mask in enumerate(MASKS)}, config, 0.5)


save("tfp", {name: version(name) for name in ("tfp-nightly", "jax")}, {name: made(name) for name in MODELS})
