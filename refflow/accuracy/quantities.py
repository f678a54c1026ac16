"""The quantities of a page, by name, each computed by the public method that it is named after.

    forward, log_det, jacobian, vjp.z_bar, vjp.<field>_bar                              at z, x_bar, log_det_bar
    inverse, inverse_log_det, inverse_vjp.x_bar, inverse_vjp.<field>_bar                at x, z_bar, log_det_bar

A value that a fused method also returns is compared with the same truth separately, as <method>.<value>:
    forward_and_log_det.forward, forward_and_log_det.log_det, vjp.forward, vjp.log_det
    inverse_and_log_det.inverse, inverse_vjp.inverse, inverse_vjp.inverse_log_det
Fields of components are named by their paths: vjp.net.layers.0.W_bar.
"""

from __future__ import annotations

import numpy as np

from ..core.tree import flatten

VALUES = {"forward", "log_det", "inverse", "inverse_log_det", "log_prob", "log"}


def truth_name(name) -> str:
    """The quantity whose truth a method's answer is compared with: log_det for vjp.log_det."""
    last = name.rpartition(".")[2]
    return last if last in VALUES else name


def distinct(found) -> dict:
    """The answers without those fused values that equal, bit by bit, the result of the method of that name."""
    def bits(answer):
        return np.shape(answer), np.asarray(answer).tobytes()

    return {name: answer for name, answer in found.items()
            if name == truth_name(name) or bits(answer) != bits(found[truth_name(name)])}


def forward_quantities(f, z, x_bar=None, log_det_bar=None) -> dict:
    """Everything that is a function of z, each from its own method."""
    (x, log_det), pullback = f.vjp(z)
    both = f.forward_and_log_det(z)
    found = {"forward": f.forward(z), "log_det": f.log_det(z), "jacobian": f.jacobian(z),
             "forward_and_log_det.forward": both[0], "forward_and_log_det.log_det": both[1],
             "vjp.forward": x, "vjp.log_det": log_det}
    return found | cotangents("vjp", "z_bar", pullback, x_bar, log_det_bar)


def inverse_quantities(f, x, z_bar=None, log_det_bar=None) -> dict:
    """Everything that is a function of x, each from its own method."""
    (z, inverse_log_det), pullback = f.inverse_vjp(x)
    both = f.inverse_and_log_det(x)
    found = {"inverse": f.inverse(x), "inverse_log_det": both[1], "inverse_and_log_det.inverse": both[0],
             "inverse_vjp.inverse": z, "inverse_vjp.inverse_log_det": inverse_log_det}
    return found | cotangents("inverse_vjp", "x_bar", pullback, z_bar, log_det_bar)


def cotangents(method, event_name, pullback, image_bar, log_det_bar):
    if image_bar is None:
        return {}
    event_bar, params_bar = pullback(image_bar, log_det_bar)
    by_path = {f"{method}.{'.'.join(path)}_bar": bar for path, bar in flatten(params_bar)}
    return {f"{method}.{event_name}": event_bar} | by_path
