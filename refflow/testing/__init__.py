"""The laws that every bijector obeys, and the points on which they run; and the laws of a black box, somebody else's flow.

`laws.run_laws(f, points)` runs them; `conditioner_laws`, `density_laws` and `parametrisation_laws` have laws of networks, of
densities and of parametrisations, and a function that runs them, and `scale_laws` the law of scales; `strategies` draws bijectors
and points with Hypothesis, from a page's declarations; `rejections` bounds how many points a law may reject; `pages.lacks(page)`
names what a page lacks.

`BlackBox` is anything with a forward; `law_tests` makes a pytest item of each law, `page_tests` of each quantity of a page;
`check` gives the same verdicts without pytest.  Names are loaded when they are first used: pytest imports this package for
its plugin.
"""

from __future__ import annotations

from importlib import import_module

HOME = {"black_box": ("BlackBox",), "black_box_laws": ("Verdict", "Verdicts", "verdicts"), "item": ("Known",), "law_items": ("law_tests",),
        "page_items": ("page_tests",), "checking": ("check",), "suites": ("SUITES", "SuiteWarning"),
        "gradients": ("jax_pullback", "tensorflow_pullback", "torch_pullback")}
HOME = {name: module for module, names in HOME.items() for name in names}
__all__ = sorted(HOME)


def __getattr__(name):
    if name not in HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{HOME[name]}", __name__), name)
    return value
