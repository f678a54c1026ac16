"""All pages, a package or module per chapter.  A page is loaded when its name is first used.

`index` says in which module each name stands; it is generated.  If it lacks a name, as of a page just written, the name is
looked up in all modules.
"""

from __future__ import annotations

import functools
import sys
from importlib import import_module
from pathlib import Path

from ..core.registry import REGISTRY
from .index import HOME

CHAPTERS = ("elementwise", "splines", "monotone", "linear", "shape", "constrained", "parametrisations", "normalization",
            "conditioners", "coupling", "autoregressive", "residual", "continuous", "densities", "dequantisation")


def modules() -> list[str]:
    """The modules of all pages, chapter by chapter."""
    here, found = Path(__file__).parent, []
    for chapter in CHAPTERS:
        files = sorted((here / chapter).glob("*.py")) or [here / f"{chapter}.py"]
        found += [path for path in files if path.stem != "__init__" and path.exists()]
    return [".".join((__name__, *path.relative_to(here).with_suffix("").parts)) for path in found]


@functools.cache
def load_all() -> None:
    """Load every page; the register is then in reading order."""
    order = {name: i for i, name in enumerate(modules())}
    for name in order:
        import_module(name)
    pages = sorted(REGISTRY.items(), key=lambda item: order.get(item[1].__module__, len(order)))
    REGISTRY.clear()
    REGISTRY.update(pages)


def public_names(module) -> list[str]:
    """What a module offers: its pages, and whatever else its `__all__` names."""
    pages = [name for name, held in vars(module).items()
             if isinstance(held, type) and "declared" in vars(held) and held.__module__ == module.__name__]
    return sorted({*pages, *getattr(module, "__all__", ())})


def found(name, package=__name__):
    """The object of that name in a chapter, or in any chapter; AttributeError if it does not exist."""
    home = HOME.get(name)
    if home is None or not f"{__name__}.{home}".startswith(package):
        home = next((m.removeprefix(f"{__name__}.") for m in modules()
                     if m.startswith(package) and name in public_names(import_module(m))), None)
    if home is None:
        raise AttributeError(f"{package} has no {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def offered(package):
    """(`__getattr__`, `__all__`) for a chapter's package: its names, each loaded when first used."""
    names = [name for name, home in HOME.items() if f"{__name__}.{home}".startswith(package + ".")]

    def get(name):
        if name.startswith("__") or Path(sys.modules[package].__file__).with_name(f"{name}.py").exists():
            raise AttributeError(name)
        value = found(name, package + ".")
        setattr(sys.modules[package], name, value)
        return value

    return get, names
