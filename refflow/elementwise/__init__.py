"""Maps of one number."""

from .affine import Affine
from .alpha_sigmoid import AlphaSigmoid, alpha_logit
from .exp import Exp
from .families import Family, Free, GatedLocationScale, LocationScale, Map, PerField, affine_family
from .homothety import Homothety
from .normal_cdf import NormalCDF
from .power import Power
from .scaled_affine import ScaledAffine
from .scales import (CONVENTIONS, ArctanExpScale, CentredSoftplusScale, ClampedExpScale, DoubleExpScale, ExpScale,
                     FlooredExpScale, ReciprocalSigmoidScale, RescaledTanhExpScale, Scale, SigmoidScale, SoftclipExpScale,
                     SoftplusScale, TanhExpScale)
from .sigmoid import Sigmoid
from .softplus import Softplus
from .tanh import Tanh
from .weibull_cdf import WeibullCDF

__all__ = ["CONVENTIONS", "Affine", "AlphaSigmoid", "ArctanExpScale", "CentredSoftplusScale", "ClampedExpScale",
           "DoubleExpScale", "Exp", "ExpScale", "Family", "FlooredExpScale", "Free", "GatedLocationScale", "Homothety",
           "LocationScale", "Map", "NormalCDF", "PerField", "Power", "ReciprocalSigmoidScale", "RescaledTanhExpScale",
           "Scale", "ScaledAffine", "Sigmoid", "SigmoidScale", "SoftclipExpScale", "Softplus", "SoftplusScale", "Tanh",
           "TanhExpScale", "WeibullCDF", "affine_family", "alpha_logit"]
