"""Defects of TensorFlow Probability, on JAX."""

from __future__ import annotations

from .entry import SHIPPED, finding

NIGHTLY = "0.26.0.dev20261027"

for name, says, theirs in (
        ("LambertWTail's log-det is NaN beyond 26", "log_det", "LambertWTail"),
        ("IteratedSigmoidCentered's log-det is -inf far out, and its last part is 1 minus the others", ("log_det", "forward"),
         "IteratedSigmoidCentered"),
        ("Tanh's log-det loses its digits near 0", "log_det", "Tanh"),
        ("Sigmoid's gradient and Softplus's inverse log-det are 0 above 37", "inverse_log_det", "Softplus"),
        ("SinhArcsinh is NaN, and its log-det -inf, for heavy tails", ("forward", "log_det"), "SinhArcsinh"),
        ("The gradients of WeibullCDF and Softsign are 0 far out", "vjp.z_bar", "Softsign"),
        ("Softsign's inverse log-det has lost two digits near -0.41", "inverse_log_det", "Softsign")):
    finding("tfp", NIGHTLY, name, says, SHIPPED + "tfp.bijectors." + theirs)

finding("tfp", NIGHTLY, "A Dirichlet through the inverse of SoftmaxCentered has the mass sqrt 3", "log_det", """
import jax; jax.config.update("jax_enable_x64", True)
import numpy as np
from refflow.oracle import adapter
from tensorflow_probability.substrates import jax as tfp

bijector = tfp.bijectors.SoftmaxCentered()
both = jax.jit(lambda z: (bijector.forward(z), bijector.forward_log_det_jacobian(z, 1)))

@adapter("CentredSoftmax", dtype="float64")
def softmax_centred(params, z):
    x, log_det = map(np.asarray, both(z))
    return {"forward": x, "log_det": log_det}
""")
finding("tfp", NIGHTLY, "An LKJ through its own default bijector has the mass pi", "log_det", """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import numpy as np
import refflow
from refflow.oracle import adapter
from tensorflow_probability.substrates import jax as tfp

bijector = tfp.distributions.LKJ(3, jnp.float64(1.0)).experimental_default_event_space_bijector()
both = jax.jit(lambda z: (bijector.forward(z), bijector.forward_log_det_jacobian(z, 1)))

@adapter(refflow.Chain([refflow.CorrelationCholesky(), refflow.CorrelationOuterProduct()]), dtype="float64")
def lkj(params, z):
    x, log_det = map(np.asarray, both(z))
    return {"log_det": log_det}
""")
finding("tfp", NIGHTLY, "The default bijector of WishartTriL reaches no variance below 0.48",
        ("forward of inverse", "the image is in the codomain"), """
import jax
import jax.numpy as jnp
from refflow.testing import BlackBox
from tensorflow_probability.substrates import jax as tfp

wishart = tfp.distributions.WishartTriL(jnp.float32(3), jnp.eye(1, dtype="float32"))
bijector = wishart.experimental_default_event_space_bijector()
forward = jax.jit(lambda z: (bijector.forward(z[:, None])[:, 0, 0], bijector.forward_log_det_jacobian(z[:, None], 1)))
inverse = jax.jit(lambda x: bijector.inverse(x[:, None, None])[:, 0])
box = BlackBox(forward, inverse, codomain=(0, float("inf")), dtype="float32", backend="jax")
""")
