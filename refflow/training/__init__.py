"""Training: optimisers, schedules, maximum likelihood, reverse Kullback-Leibler divergence and flow matching."""

from ..fast.likelihood import LikelihoodGradient
from ..fast.speech import SpeechGradient
from . import gaussians, recipes
from .batch_norm import of_batch, with_statistics
from .fit import Result, State, TrainingError, fit, fit_reverse_kl
from .flow_matching import fit_flow_matching
from .optimisers import EMA, LBFGS, Adam, AdaMax, ClipNorm, ClipValue, Polyak, RMSPropMomentum
from .penalty import SquaredNorm
from .schedules import Annealing, Constant, Cosine, Exponential, MomentumRamp, Noam, WarmedCosine, WarmUp
from .speech import fit_speech
from .unconstrained import Unconstrained

__all__ = [
           "EMA",
           "LBFGS",
           "AdaMax",
           "Adam",
           "Annealing",
           "ClipNorm",
           "ClipValue",
           "Constant",
           "Cosine",
           "Exponential",
           "LikelihoodGradient",
           "MomentumRamp",
           "Noam",
           "Polyak",
           "RMSPropMomentum",
           "Result",
           "SpeechGradient",
           "SquaredNorm",
           "State",
           "TrainingError",
           "Unconstrained",
           "WarmUp",
           "WarmedCosine",
           "fit",
           "fit_flow_matching",
           "fit_reverse_kl",
           "fit_speech",
           "gaussians",
           "of_batch",
           "recipes",
           "with_statistics",
]
