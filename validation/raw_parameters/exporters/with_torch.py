"""What exporters of libraries on torch share."""

import torch
from recording import events, generator, record

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


def drawn(module, rng, spread):
    """Every parameter of a module drawn anew, in the order of their names."""
    with torch.no_grad():
        for _, parameter in sorted(module.named_parameters()):
            parameter.copy_(torch.from_numpy(spread * rng.standard_normal(tuple(parameter.shape))))
    return module


def recorded(name, module, log_prob, to_data, config=None, spread=0.7):
    """The record of a model with drawn parameters; `log_prob(x)`, and `to_data(z)` from noise to data.

    `to_data` is None if the library inverts up to a tolerance of its own.
    """
    rng = generator(name)
    module = drawn(module.double(), rng, spread).eval()
    x, z = (torch.from_numpy(event).requires_grad_() for event in events(rng))
    value = log_prob(x)
    names, parameters = zip(*sorted(module.named_parameters())) if list(module.parameters()) else ((), ())
    grad_x, *gradients = torch.autograd.grad(value.sum(), (x, *parameters), allow_unused=True)
    gradients = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients)]
    found = {"x": array(x), "z": array(z), "log_prob": array(value), "grad_x": array(grad_x), "grad": named(names, gradients)}
    try:
        found |= {"sample": array(to_data(z))} if to_data else {}
    except Exception as failure:                    # recorded as what it is: the library cannot sample from this model
        config = {**(config or {}), "sample failed": f"{type(failure).__name__}: {str(failure).splitlines()[0]}"[:200]}
    buffers = {key: array(buffer) for key, buffer in module.named_buffers()}
    return record(config or {}, named(names, parameters), buffers, found)


def array(tensor):
    return tensor.detach().numpy()


def named(names, tensors):
    return {name: array(tensor) for name, tensor in zip(names, tensors)}
