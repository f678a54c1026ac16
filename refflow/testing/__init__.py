"""The face of the laws of a black box, somebody else's flow, and of the pytest plugin.

`BlackBox` is anything with a forward; `law_tests` makes a pytest item of each law, `page_tests` of each quantity of a page;
`check` gives the same verdicts without pytest.  Names are loaded when they are first used: pytest imports this package for
its plugin.
"""

from __future__ import annotations

from importlib import import_module

HOME = {"boxes.black_box": ("BlackBox",), "boxes.black_box_laws": ("Verdict", "Verdicts", "verdicts"), "items.item": ("Known",),
        "items.law_items": ("law_tests",), "items.page_items": ("page_tests",), "checking": ("check",),
        "judging.suites": ("SUITES", "SuiteWarning"), "boxes.gradients": ("jax_pullback", "tensorflow_pullback", "torch_pullback")}
HOME = {name: module for module, names in HOME.items() for name in names}
__all__ = sorted(HOME)


def __getattr__(name):
    if name not in HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"..oracle.{HOME[name]}", __name__), name)
    return value
