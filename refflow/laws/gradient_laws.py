"""Laws of tuned code: the gradients that training uses equal the gradients of `Flow`'s page, a tuned map equals its page.

A broken law raises AssertionError naming the parameter.  The reference is the page in float64, the unit of
error u kappa, with u the unit roundoff and
    kappa = |q| + max |q(x (1 +- e), parameters (1 +- e)) - q| / e,     e = 2^-26
over random signs, one for each entry of x and of all parameters: the sensitivity of q to the rounding of its inputs.
"""

from __future__ import annotations

import numpy as np

from ..core.tree import flatten
from ..fast import tuned
from ..fast.likelihood import ALLOWED, LikelihoodGradient

ROUNDINGS = 64              # for a result whose sums and products are taken in another order than on the page
DRAWS, STEP = 8, 2.0**-26


def by_page(flow, x, b, context):
    """{name: array}: log p, and the gradient of sum_i b_i log p(x_i) in each parameter."""
    log_prob, pullback = (flow if context is None else flow.at(context=context)).log_prob_vjp(x)
    return {("log_prob",): log_prob} | dict(flatten(pullback(b)[1]))


def with_kappa(quantities, value, x):
    """(quantities(value, x), a dictionary of arrays, {name: kappa}) in float64."""
    value, x = value.astype(np.float64), x.astype(np.float64)
    exact, rng, vector = quantities(value, x), np.random.default_rng(0), value.ravel()
    changes = {name: np.zeros_like(q) for name, q in exact.items()}
    for _ in range(DRAWS):
        near = quantities(value.unravel(disturbed(vector, rng)), disturbed(x, rng))
        for name, q in near.items():
            changes[name] = np.maximum(changes[name], np.abs(q - exact[name]) / STEP)
    return exact, {name: np.abs(q) + changes[name] for name, q in exact.items()}


def disturbed(v, rng):
    return v * (1 + STEP * rng.choice([-1, 1], v.shape))


def page_gradient(flow, x, b, context=None):
    """What the page gives, and kappa."""
    return with_kappa(lambda flow, x: by_page(flow, x, b.astype(np.float64), context), flow, x)


def gradient_is_the_pages(gradient, flow, x, b, context=None, page=None):
    """`gradient`, a `LikelihoodGradient`, gives the same log p and gradient as the page.

    A reconstructed event may have drifted as far as (4) of `likelihood` allows.  `page`: the `page_gradient`, if it is known.
    """
    exact, kappa = page or page_gradient(flow, x, b, context)
    log_prob, params_bar = gradient(flow, x, b, context)
    found = {("log_prob",): log_prob} | dict(flatten(params_bar))
    if list(found) != list(exact):
        raise AssertionError(f"params_bar has {list(found)[1:]}, the page's {list(exact)[1:]}")
    drift = ALLOWED + x[0].size if gradient.memory == "reversible" else 0
    for name, given in found.items():
        allowed = ROUNDINGS + len(x) + (0 if name == ("log_prob",) else drift)
        held(".".join(name), given, exact[name], kappa[name], allowed)


def held(name, given, exact, kappa, allowed):
    if given.shape != exact.shape:
        raise AssertionError(f"{name} has shape {given.shape}, the page's {exact.shape}")
    error, unit = np.abs(given.astype(np.float64) - exact), np.finfo(given.dtype).eps / 2 * kappa
    beyond = ~(error <= allowed * unit)
    if beyond.any():
        i = tuple(int(k) for k in np.argwhere(beyond)[0])
        raise AssertionError(f"{name}{list(i)} is {given[i]}, the page gives {exact[i]}: off by {error[i]:.3g}, "
                             f"{allowed} units of {unit[i]:.3g} are allowed")


def stored_is_the_pages(flow, x, b, context=None, page=None):
    """Chunks with stored activations, tuned couplings among them."""
    gradient_is_the_pages(LikelihoodGradient("stored", rows=max(1, len(x) // 3)), flow, x, b, context, page)


def reversible_is_the_pages(flow, x, b, context=None, page=None):
    """Activations recomputed from the latents."""
    gradient_is_the_pages(LikelihoodGradient("reversible", rows=max(1, len(x) // 3)), flow, x, b, context, page)


def both_are_the_pages(flow, x, b, context=None):
    """Activations that are stored, and ones that are recomputed."""
    page = page_gradient(flow, x, b, context)
    stored_is_the_pages(flow, x, b, context, page)
    reversible_is_the_pages(flow, x, b, context, page)


def inverse_of(f, x):
    return dict(zip((("z",), ("log_det",)), f.inverse_and_log_det(x)))


def tuned_is_the_pages(f, x, tuned=tuned):
    """A tuned map has the inverse of its page, with the log-det."""
    exact, kappa = with_kappa(inverse_of, f, x)
    for name, given in inverse_of(tuned(f), x).items():
        held(".".join(name), given, exact[name], kappa[name], ROUNDINGS + x.shape[-1])
