"""Models of zuko with drawn parameters: run by `validation.raw_parameters` in an environment of its own."""

from importlib.metadata import version

import torch
import zuko
from recording import SIZE, save
from with_torch import recorded

HIDDEN, BINS, DEGREE, POLYNOMIALS = (3, 3), 3, 2, 2



def linear():
    """A flow of one LU transform; zuko offers none ready-made."""
    base = zuko.lazy.UnconditionalDistribution(zuko.distributions.DiagNormal, torch.zeros(SIZE), torch.ones(SIZE), buffer=True)
    return zuko.lazy.Flow([zuko.lazy.UnconditionalTransform(zuko.transforms.LULinearTransform, torch.zeros(SIZE, SIZE))], base)


MODELS = {
    "NSF": lambda: zuko.flows.NSF(SIZE, bins=BINS, transforms=2, hidden_features=HIDDEN),
    "NSF, coupling": lambda: zuko.flows.NSF(SIZE, bins=BINS, transforms=2, passes=2, hidden_features=HIDDEN),
    "MAF": lambda: zuko.flows.MAF(SIZE, transforms=2, hidden_features=HIDDEN),
    "MAF, random orders": lambda: zuko.flows.MAF(SIZE, transforms=2, randperm=True, hidden_features=HIDDEN),
    "RealNVP": lambda: zuko.flows.RealNVP(SIZE, transforms=2, hidden_features=HIDDEN),
    "SOSPF": lambda: zuko.flows.SOSPF(SIZE, transforms=2, degree=DEGREE, polynomials=POLYNOMIALS, hidden_features=HIDDEN),
    "BPF": lambda: zuko.flows.BPF(SIZE, transforms=2, degree=DEGREE, hidden_features=HIDDEN),
    "LU linear": linear,
}
BISECTED = ("SOSPF", "BPF")                             # to a tolerance of 1e-6


def made(name):
    torch.manual_seed(len(name))
    flow = MODELS[name]()
    transforms, plain = flow.transform.transforms, zuko.lazy.UnconditionalTransform
    kinds = [t.f.__name__ if isinstance(t, plain) else type(t).__name__ for t in transforms]
    to_data = None if name in BISECTED else lambda z: flow().transform.inv(z)
    config = {"transforms": kinds, "family": name.split(",")[0], "bins": BINS, "degree": DEGREE, "polynomials": POLYNOMIALS}
    return recorded(f"zuko {name}", flow, lambda x: flow().log_prob(x), to_data, config, 1.0)


save("zuko", {name: version(name) for name in ("zuko", "torch", "numpy")}, {name: made(name) for name in MODELS})
