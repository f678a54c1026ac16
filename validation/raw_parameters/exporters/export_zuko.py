"""Models of zuko with drawn parameters: run by `validation.raw_parameters` in an environment of its own."""

from importlib.metadata import version

import torch
import zuko
from recording import SIZE, save
from with_torch import recorded

HIDDEN, BINS = (3, 3), 3
MODELS = {
    "NSF": lambda: zuko.flows.NSF(SIZE, bins=BINS, transforms=2, hidden_features=HIDDEN),
    "NSF, coupling": lambda: zuko.flows.NSF(SIZE, bins=BINS, transforms=2, passes=2, hidden_features=HIDDEN),
    "MAF": lambda: zuko.flows.MAF(SIZE, transforms=2, hidden_features=HIDDEN),
    "MAF, random orders": lambda: zuko.flows.MAF(SIZE, transforms=2, randperm=True, hidden_features=HIDDEN),
    "RealNVP": lambda: zuko.flows.RealNVP(SIZE, transforms=2, hidden_features=HIDDEN),
}


def made(name):
    torch.manual_seed(len(name))
    flow = MODELS[name]()
    kinds = [type(t).__name__ for t in flow.transform.transforms]
    return recorded(f"zuko {name}", flow, lambda x: flow().log_prob(x), lambda z: flow().transform.inv(z),
                    {"transforms": kinds, "spline": "NSF" in name, "bins": BINS}, 1.0)


save("zuko", {name: version(name) for name in ("zuko", "torch", "numpy")}, {name: made(name) for name in MODELS})
