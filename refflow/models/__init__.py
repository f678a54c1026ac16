"""Models of the papers: one paper, one file, composition only.

`BUILDERS`: {name: builder}; `builder(D, rng)` makes a flow of vectors of D entries of moderate size, as trained by the command
line, of the sizes in the table `defaults.DEFAULTS`; circular-nsf is a flow of D angles.  A builder may take `hidden`, the widths of the
hidden layers or residual blocks, `couplings` or `layers`, their number, `bins` or `components`, `dense`, the layers of sigmoids in
each map, and `context`, the number of entries of a context.
"""

import functools
from collections.abc import Callable

from ..core import Flow
from .all_in_one import all_in_one
from .bnaf import bnaf
from .bpf import bpf
from .circular_nsf import circular_nsf
from .cnf import cnf
from .defaults import defaults_of
from .flow_plus_plus import flow_plus_plus
from .gaussian import gaussian
from .gaussianization_flow import gaussianization_flow
from .glow import glow
from .glow_tts import GlowTTS, glow_tts
from .iaf import iaf
from .jet import jet, jet_coupling, jet_network
from .maf import maf
from .naf import naf
from .nice import nice
from .nsf import autoregressive_nsf, nsf
from .planar import planar, radial
from .realnvp import realnvp
from .realnvp_images import image_realnvp
from .residual_flow import residual_flow
from .sospf import sospf
from .starflow import starflow, starflow_block, starflow_denoiser
from .stochastic_durations import StochasticDurations, stochastic_durations
from .sylvester import SylvesterVAE, sylvester_vae, warmed_up
from .tarflow import tarflow, tarflow_block
from .umnn import umnn


def small_nice(D, rng, hidden, couplings):
    return nice(rng, D, one_width("nice", hidden), (len(hidden),) * couplings)


def small_realnvp(D, rng, hidden, couplings, context=0):
    return realnvp(rng, D, hidden, couplings, "tanh", context=context)


def small_maf(D, rng, hidden, layers, context=0):
    return maf(rng, D, hidden, layers, "tanh", context=context)


def small_iaf(D, rng, hidden, layers, context=0):
    return iaf(rng, D, hidden, layers, "tanh", context=context)


def small_nsf(D, rng, hidden, couplings, bins, context=0):
    return nsf(rng, D, one_width("nsf", hidden), len(hidden), couplings, bins, context=context)


def small_autoregressive_nsf(D, rng, hidden, layers, bins, context=0):
    return autoregressive_nsf(rng, D, one_width("nsf-ar", hidden), len(hidden), layers, bins, context=context)


def small_circular_nsf(D, rng, hidden, couplings, bins):
    return circular_nsf(rng, D, hidden, couplings, bins)


def small_naf(D, rng, hidden, layers, components, dense, context=0):
    return naf(rng, D, hidden, layers, components, "tanh", context=context, dense=dense)


def small_flow_plus_plus(D, rng, hidden, couplings, components, context=0):
    return flow_plus_plus(rng, D, hidden, couplings, components, "tanh", context=context)


def small_gaussianization_flow(D, rng, layers, components):
    return gaussianization_flow(rng, D, layers, components)


def small_sospf(D, rng, hidden, layers, components, context=0):
    return sospf(rng, D, hidden, layers, components, activation="tanh", context=context)


def small_bpf(D, rng, hidden, layers, context=0):
    return bpf(rng, D, hidden, layers, 8, "tanh", context=context)


def small_umnn(D, rng, hidden, layers, components, context=0):
    return umnn(rng, D, hidden, layers, components, "tanh", context=context)


def small_bnaf(D, rng, hidden, layers):
    return bnaf(rng, D, hidden, layers)


def small_planar(D, rng, layers):
    return planar(rng, D, layers)


def small_radial(D, rng, layers):
    return radial(rng, D, layers)


def small_cnf(D, rng, hidden, layers):
    return cnf(rng, D, hidden, steps=layers)


def small_residual_flow(D, rng, hidden, layers):
    return residual_flow(rng, D, hidden, layers)


def one_width(model, hidden):
    if len(set(hidden)) != 1:
        raise ValueError(f"{model}: all hidden layers have the same width, not {hidden}")
    return hidden[0]


SMALL: dict[str, Callable[..., Flow]] = {"nice": small_nice, "realnvp": small_realnvp, "maf": small_maf, "iaf": small_iaf,
         "nsf": small_nsf, "nsf-ar": small_autoregressive_nsf, "circular-nsf": small_circular_nsf, "naf": small_naf,
         "bnaf": small_bnaf, "sospf": small_sospf, "bpf": small_bpf, "umnn": small_umnn, "flow++": small_flow_plus_plus,
         "gaussianization": small_gaussianization_flow, "planar": small_planar, "radial": small_radial, "cnf": small_cnf,
         "flow-matching": small_cnf, "residual-flow": small_residual_flow}
BUILDERS: dict[str, Callable[..., Flow]] = {"gaussian": gaussian} | {
    name: functools.partial(builder, **defaults_of(name)) for name, builder in SMALL.items()}

__all__ = ["BUILDERS", "GlowTTS", "StochasticDurations", "SylvesterVAE", "all_in_one", "autoregressive_nsf", "bnaf", "bpf",
           "circular_nsf", "cnf", "flow_plus_plus", "gaussian", "gaussianization_flow", "glow", "glow_tts", "iaf", "image_realnvp", "jet",
           "jet_coupling", "jet_network", "maf", "naf", "nice", "nsf", "planar", "radial", "realnvp", "residual_flow", "sospf", "starflow",
           "starflow_block", "starflow_denoiser", "stochastic_durations", "sylvester_vae", "tarflow", "tarflow_block", "umnn", "warmed_up"]
