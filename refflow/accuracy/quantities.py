"""The quantities of a bijector, by name: what a certificate measures and what golden points hold.

    forward, log_det, jacobian, vjp.z_bar, vjp.<field>_bar              at z, x_bar, log_det_bar
    inverse, inverse_log_det, inverse_vjp.x_bar, inverse_vjp.<field>_bar    at x, z_bar, log_det_bar

Fields of components are named by their paths: vjp.net.layers.0.W_bar.
"""

from __future__ import annotations

from ..core.tree import flatten


def forward_quantities(f, z, x_bar=None, log_det_bar=None) -> dict:
    """Everything that is a function of z, from the bijector's own methods."""
    (x, log_det), pullback = f.vjp(z)
    found = {"forward": x, "log_det": log_det, "jacobian": f.jacobian(z)}
    return found | cotangents("vjp", "z_bar", pullback, x_bar, log_det_bar)


def inverse_quantities(f, x, z_bar=None, log_det_bar=None) -> dict:
    """Everything that is a function of x."""
    (z, inverse_log_det), pullback = f.inverse_vjp(x)
    found = {"inverse": z, "inverse_log_det": inverse_log_det}
    return found | cotangents("inverse_vjp", "x_bar", pullback, z_bar, log_det_bar)


def cotangents(method, event_name, pullback, image_bar, log_det_bar):
    if image_bar is None:
        return {}
    event_bar, params_bar = pullback(image_bar, log_det_bar)
    by_path = {f"{method}.{'.'.join(path)}_bar": bar for path, bar in flatten(params_bar)}
    return {f"{method}.{event_name}": event_bar} | by_path
