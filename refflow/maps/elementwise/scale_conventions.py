"""Who uses which scale."""

from __future__ import annotations

from .arctan_exp_scale import ArctanExpScale
from .centred_softplus_scale import CentredSoftplusScale
from .clamped_exp_scale import ClampedExpScale
from .double_exp_scale import DoubleExpScale
from .exp_scale import ExpScale
from .floored_exp_scale import FlooredExpScale
from .reciprocal_sigmoid_scale import ReciprocalSigmoidScale
from .rescaled_tanh_exp_scale import RescaledTanhExpScale
from .sigmoid_scale import SigmoidScale
from .softclip_exp_scale import SoftclipExpScale
from .softplus_scale import SoftplusScale
from .tanh_exp_scale import TanhExpScale

__all__ = ["CONVENTIONS"]

CONVENTIONS = {
    "exp": ExpScale(),                                          # TFP RealNVP and MAF, normflows, bijx, SurVAE, glow-tts
    "TFP Glow exit": ExpScale(offset=2.0),
    "TFP MADE": ClampedExpScale(straight_through=True),
    "Pyro, NumPyro": ClampedExpScale(straight_through=True),
    "TFP MADE, gradient clamped": ClampedExpScale(),
    "FrEIA TANH": TanhExpScale(),
    "FrEIA SIGMOID": TanhExpScale(rate=0.5),                    # 2 (sigmoid(s) - 1/2) = tanh(s/2)
    "FrEIA ATAN": ArctanExpScale(),
    "FrEIA AllInOne": TanhExpScale(),                           # its net is scaled by 1/10 as a whole
    "FrEIA AllInOne, older": TanhExpScale(rate=0.5),            # 2 tanh(s/2)
    "FrEIA AllInOne global": SoftplusScale(gain=0.2, rate=0.5),     # 0.1 softplus of beta 1/2
    "RealNVP": RescaledTanhExpScale(1.0, 0.0),
    "zuko": SoftclipExpScale(),
    "TFP Glow, openai/glow": SigmoidScale(),
    "Pyro stable": SigmoidScale(),                              # and a gated shift: `GatedLocationScale`
    "FlowTorch sigmoid": SigmoidScale(offset=0.0),
    "InvertibleNetworks": SigmoidScale(offset=0.0),
    "nflows coupling, normflows AR": SigmoidScale(floor=1e-3),
    "glow-tts sigmoid_scale": SigmoidScale(floor=1e-6),
    "normflows sigmoid": ReciprocalSigmoidScale(),
    "FlowTorch": SoftplusScale(),
    "nflows AR": SoftplusScale(floor=1e-3),
    "nflows general": SoftplusScale(floor=1e-3, ceiling=3.0),
    "FlowJAX": CentredSoftplusScale(),
    "torchflows": FlooredExpScale(),
    "torchflows SafeAffine": FlooredExpScale(floor=0.1),
    "torchflows Affine2": DoubleExpScale(),
}
