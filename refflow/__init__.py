"""refflow: the reference for normalizing flows, in plain NumPy, every inverse, Jacobian and gradient by hand.

    x = f(z),   log p(x) = log pi(z) - log|det dx/dz|

Maps are values with the methods of `refflow.core.Bijector`; `Chain` composes them, and `Flow` joins one to a base density.

Words that recur: a page is one class in a file of its own, a map or density whose docstring states its equations with numbers
that its code lines cite.  `REGISTRY`, {name: page}, loads all pages; a page is otherwise loaded when its name is first used.  A
law is a property that a page must have, such as f^-1(f(z)) = z, tested in `refflow.laws.bijector_laws`.  The truth of a quantity is
its value to 50 digits, computed from the page's `definition`.  Errors are measured in units of u kappa: u is the unit roundoff
of the dtype, and kappa is how far the quantity moves under relative changes of its inputs.
"""

from __future__ import annotations

from importlib import import_module

PACKAGES = ("typing", "core", "maps", "models", "accuracy", "fast", "training", "report", "saving", "data", "audio", "speech",
            "plot", "pictures", "laws", "oracle", "testing", "cli")
HOME = {"core": ("Chain", "Flow", "Independent", "Inverse"),
        "models": ("all_in_one", "autoregressive_nsf", "bnaf", "bpf", "circular_nsf", "flow_plus_plus", "gaussianization_flow",
                   "glow", "glow_tts", "iaf", "image_realnvp", "maf", "naf", "nice", "nsf", "realnvp", "sospf", "umnn"),
        "testing": ("check",), "training": ("fit",), "saving": ("load", "save")}
HOME = {name: package for package, names in HOME.items() for name in names}


def __getattr__(name):
    if name == "__version__":
        return import_module(".core.version", __name__).VERSION
    if name in PACKAGES:
        return import_module(f".{name}", __name__)
    if name in HOME:
        return getattr(import_module(f".{HOME[name]}", __name__), name)
    if name == "__all__":
        return __dir__()
    if name.startswith("__"):
        raise AttributeError(name)
    maps = import_module(".maps", __name__)
    if name == "REGISTRY":
        maps.load_all()
        return maps.REGISTRY
    try:
        return maps.found(name)
    except AttributeError:
        plainly = import_module(".oracle.points.pages", __name__).plainly
        named = {plainly(one): one for one in __dir__()}
        near = [named[one] for one in import_module("difflib").get_close_matches(plainly(name), named, 3, 0.7)]
        hint = f"did you mean {' or '.join(near)}?" if near else "`dir(refflow)` lists what it has"
        raise AttributeError(f"refflow has no {name!r}; {hint}") from None


def __dir__():
    maps = import_module(".maps", __name__)
    return sorted([*HOME, *maps.HOME, "REGISTRY"])
