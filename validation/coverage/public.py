"""Run by `validation.coverage` in a library's environment: the names of its public maps, as JSON.

    python -m validation.coverage.public LIBRARY

A map is a class that descends from a library's class of invertible maps, or a function that makes one; it is public if its name
begins with a capital letter, and the name of each module above it with a letter.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import sys

WHERE = {                                   # the modules that hold a library's maps, and the classes that these descend from
    "bayesflow": ("bayesflow.networks.inference bayesflow.adapters.transforms",
                  "keras.Layer bayesflow.adapters.transforms.elementwise_transform.ElementwiseTransform"),
    "bijx": ("bijx", "bijx.Bijection"),
    "distrax": ("distrax", "distrax.Bijector"),
    "distreqx": ("distreqx.bijectors", "distreqx.bijectors.AbstractBijector"),
    "flowjax": ("flowjax.bijections", "flowjax.bijections.AbstractBijection"),
    "flowtorch": ("flowtorch.bijectors", "flowtorch.bijectors.Bijector"),
    "freia": ("FrEIA.modules", "FrEIA.modules.InvertibleModule"),
    "nflows": ("nflows.transforms", "nflows.transforms.Transform"),
    "normflows": ("normflows.flows normflows.transforms", "normflows.flows.base.Flow"),
    "numpyro": ("numpyro.distributions.transforms", "numpyro.distributions.transforms.Transform"),
    "piper": ("piper.train.vits.modules piper.train.vits.models", "torch.nn.Module"),
    "pymc": ("pymc.distributions.transforms pymc.logprob.transforms", "pymc.logprob.transforms.Transform"),
    "pyro": ("pyro.distributions.transforms", "torch.distributions.Transform"),
    "pzflow": ("pzflow.bijectors", None),
    "surjectors": ("surjectors", "surjectors._src.surjectors.surjector.Surjector"),
    "tfp": ("tensorflow_probability.substrates.jax.bijectors", "tensorflow_probability.substrates.jax.bijectors.Bijector"),
    "torch": ("torch.distributions.transforms", "torch.distributions.Transform"),
    "torchflows": ("torchflows.bijections", "torchflows.bijections.base.Bijection"),
    "transformers": ("transformers.models.vits.modeling_vits", "torch.nn.Module"),
    "zuko": ("zuko.transforms", "torch.distributions.Transform"),
}


def modules(name):
    """A module, and the public modules inside it."""
    module = importlib.import_module(name)
    yield module
    for found in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{name}."):
        if not found.name.rsplit(".", 1)[1].startswith(("_", "test")):
            try:
                yield from modules(found.name)
            except ImportError:             # of an extra that the environment does not have
                print(f"{found.name} cannot be imported", file=sys.stderr)


def public(library):
    """The names, sorted."""
    holders, base = WHERE[library]
    root = holders.split()[0].split(".")[0]
    importlib.import_module(root)           # before others' bases: a library may choose the backend of Keras
    above = base and tuple(getattr(importlib.import_module(module), name)
                           for module, _, name in (one.rpartition(".") for one in base.split()))
    found = set()
    for holder in holders.split():
        for module in modules(holder):
            for name, value in vars(module).items():
                if name[0].isupper() and is_map(value, above, root):
                    found.add(name)
    return sorted(found)


def is_map(value, above, root):
    if above is None:                       # functions, with the names of classes
        return callable(value) and getattr(value, "__module__", "").startswith(root)
    return inspect.isclass(value) and issubclass(value, above) and value not in above and value.__module__.startswith(root)


if __name__ == "__main__":
    print(json.dumps(public(sys.argv[1])))
