"""Planar and radial flows, compared with normflows' numbers.

Its maps have no inverse but the one of the leaky planar flow.  The loss is `sum(x weight) + sum_b (b + 1) log_det_b`.
"""

from __future__ import annotations

import numpy as np

from refflow import PIECEWISE_PLANARS, PLANARS, RADIALS, PiecewisePlanar, Planar, Radial

from .comparison import PRACTICE, answered, gradients, numbers, pair, read_as

PREFIX = "radial_planar"
FILES = tuple(sorted(path.stem for path in PRACTICE.glob("radial_planar_*.npz")))
NORMFLOWS = next(name for name in PLANARS if "normflows" in name)
# The page, its parametrisation, and their names of its numbers, in our order.
MAPS = {"planar_tanh": (Planar, PLANARS[NORMFLOWS], ("w", "u", "b")),
        "planar_leaky": (PiecewisePlanar, PIECEWISE_PLANARS["normflows"], ("w", "u", "b")),
        "radial": (Radial, RADIALS["normflows"], ("z_0", "alpha", "beta"))}


def map_of(layer):
    return next(held for name, held in MAPS.items() if layer.startswith(name))


def compared(config, theirs):
    """{quantity: Pair} of all layers of a file."""
    found = {}
    with np.errstate(all="ignore"):                 # parametrisations stand behind the checks of other pages
        for layer in config["layers"]:
            of_one = of_layer(theirs.below(f"{layer}/"), *map_of(layer))
            found |= {f"{layer}: {quantity}": held for quantity, held in of_one.items()}
    return found


def of_layer(theirs, page, fields_of, names):
    """{quantity: Pair} of one layer, whose events are flattened."""
    params, grad = answered("param/", theirs, names), answered("grad/", theirs, names)
    count, z = len(theirs["in/z"]), theirs["in/z"]
    size = z[0].size
    h = np.concatenate([params[name].ravel() for name in names])
    fields, to_h = fields_of(size).unchecked(h.dtype).vjp(h)
    f = page(**fields)
    (x, log_det), pullback = f.vjp(z.reshape(count, size))
    weight, steps = theirs["in/w"].reshape(count, size), np.arange(1.0, count + 1)
    z_bar, bars = pullback(weight, steps)
    h_bar = np.split(to_h(bars)[0], np.cumsum([params[name].size for name in names])[:-1])
    found = {"images": pair(x.reshape(z.shape), theirs["out/z"]), "log-dets": pair(log_det, theirs["out/logdet"]),
             "loss": pair((x * weight).sum() + (steps * log_det).sum(), theirs["out/loss"]),
             "gradient of events": pair(z_bar.reshape(z.shape), theirs["gradin/z"]),
             "gradients of parameters": gradients({name: bar.reshape(grad[name].shape) for name, bar in zip(names, h_bar)}, grad),
             "inverse": pair(f.inverse(theirs["out/z"].reshape(count, size)).reshape(z.shape), z)}
    if "in/u" in theirs:
        back, log_det = f.inverse_and_log_det(theirs["in/u"])
        found |= {"latents": pair(back, theirs["out/inverse_u"]),
                  "inverse log-dets": pair(log_det, theirs["out/inverse_u_logdet"])}
    return found


def holds(config, keys):
    return config.get("system") == "planar/radial"


KINDS = {"normflows' planar and radial flows": (holds, compared)}


def read(name):
    """({quantity: Difference}, keys that nothing reads)."""
    return read_as(KINDS, *numbers(name))
