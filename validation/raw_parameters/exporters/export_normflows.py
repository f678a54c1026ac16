"""Models of normflows with drawn parameters: run by `validation.raw_parameters` in an environment of its own."""

from importlib.metadata import version

import normflows as nf
from recording import SIZE, save
from with_torch import recorded

HIDDEN, BINS = 4, 4


def coupled(reverse):
    return nf.flows.CoupledRationalQuadraticSpline(SIZE, 1, HIDDEN, num_bins=BINS, reverse_mask=reverse)


def autoregressive_spline():
    return nf.flows.AutoregressiveRationalQuadraticSpline(SIZE, 1, HIDDEN, num_bins=BINS)


MODELS = {
    "spline coupling": lambda: [coupled(False), coupled(True)],
    "spline autoregressive": lambda: [autoregressive_spline(), nf.flows.LULinearPermute(SIZE)],
    "affine autoregressive": lambda: [nf.flows.MaskedAffineAutoregressive(SIZE, HIDDEN, num_blocks=1),
                                      nf.flows.LULinearPermute(SIZE)],
}


def made(name):
    flows = MODELS[name]()
    model = nf.NormalizingFlow(nf.distributions.DiagGaussian(SIZE, trainable=False), flows)
    config = {"flows": [type(flow).__name__ for flow in flows], "bins": BINS, "bound": 3.0, "hidden": HIDDEN}
    return recorded(f"normflows {name}", model, model.log_prob, model.forward, config)


save("normflows", {name: version(name) for name in ("normflows", "torch", "numpy")}, {name: made(name) for name in MODELS})
