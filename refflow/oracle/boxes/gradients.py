"""Pullbacks of a black box by its own library's autograd, in one line.

    BlackBox(forward, parameters=net.parameters, pullback=torch_pullback(forward, net.parameters))
"""

from __future__ import annotations

from importlib import import_module


def torch_pullback(forward, parameters=()):
    """The pullback of a torch function z -> x or (x, log-det); of tensors, or of a function that returns them.

    There is no gradient by a frozen one.
    """
    def pullback(z, x_bar, log_det_bar):
        torch = import_module("torch")
        held = [of for of in (parameters() if callable(parameters) else parameters) if of.requires_grad]
        z = z.detach().requires_grad_()
        answer = forward(z)
        x, *log_det = answer if isinstance(answer, tuple) else (answer,)
        outputs = [(value, bar) for value, bar in zip((x, *log_det), (x_bar, log_det_bar)) if value.requires_grad]
        values, bars = zip(*outputs)
        found = torch.autograd.grad(values, (z, *held), bars, allow_unused=True)
        z_bar, *rest = (torch.zeros_like(of) if bar is None else bar for bar, of in zip(found, (z, *held)))
        return (z_bar, rest) if held else (z_bar, [])

    return pullback


def jax_pullback(forward):
    """The pullback of a JAX function (z) or (z, parameters) -> x or (x, log-det)."""
    def pullback(z, x_bar, log_det_bar, *parameters):
        jax = import_module("jax")
        answer, back = jax.vjp(forward, z, *parameters)
        return back((x_bar, log_det_bar) if isinstance(answer, tuple) else x_bar)

    return pullback


def tensorflow_pullback(forward, variables=()):
    """The pullback of a TensorFlow function z -> x or (x, log-det); of variables, or of a function that returns them."""
    def pullback(z, x_bar, log_det_bar):
        tensorflow = import_module("tensorflow")
        held = list(variables() if callable(variables) else variables)
        with tensorflow.GradientTape() as tape:
            tape.watch(z)
            answer = forward(z)
        outputs = list(answer) if isinstance(answer, tuple) else [answer]
        bars = [tensorflow.cast(bar, of.dtype) for bar, of in zip((x_bar, log_det_bar), outputs)]
        z_bar, *rest = tape.gradient(outputs, [z, *held], bars, unconnected_gradients="zero")
        return z_bar, rest

    return pullback
