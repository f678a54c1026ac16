"""How the papers trained: keyword arguments of `fit`, as in the authors' code.

    fit(flow, x, **realnvp(), epochs=100, rng=rng)
"""

from __future__ import annotations

import math

from .optimisers import EMA, Adam, AdaMax, ClipNorm, ClipValue, RMSPropMomentum
from .schedules import Exponential, MomentumRamp, Noam, WarmedCosine, WarmUp


def nice(steps_per_epoch, learning_rate=1e-3, lowest=1e-4, batch_size=200) -> dict:
    """NICE: RMSProp with a momentum of 0 up to epoch 5 and 1/2 from epoch 6; the learning rate falls by 1.0005 each step.

    The defaults are for MNIST and SVHN; TFD has batches of 128, CIFAR-10 has rates from 2e-4 down to 1e-5.
    """
    return {"optimiser": RMSPropMomentum(learning_rate, momentum=MomentumRamp(steps_per_epoch)),
            "schedule": Exponential(1 / 1.0005, lowest / learning_rate), "batch_size": batch_size}


def realnvp() -> dict:
    """RealNVP: Adam in TensorFlow's form, gradients of norm at most 100."""
    return {"optimiser": Adam(1e-3, uncorrected_eps=True), "clip": ClipNorm(100.0), "batch_size": 64}


def glow(steps_per_epoch, learning_rate=1e-3, warm_up_epochs=10, average_epochs=1) -> dict:
    """Glow: its AdaMax, beta2 and the averaging fixed by `average_epochs`, warmed up from 0 over `warm_up_epochs`.

    `steps_per_epoch`: the images of an epoch divided by the images of a step, not necessarily whole: the authors' code warms
    up by the images seen, and uses whole steps in beta2.  Its epoch has 50000 images for every data set.  It keeps the average
    separately from the parameters, and chooses the best step by the parameters: `| {"averaging": None}` does so.
    """
    beta2 = 1 - 1 / (math.ceil(steps_per_epoch) * average_epochs)
    return {"optimiser": AdaMax(learning_rate, beta2=beta2, glow=True),
            "schedule": WarmUp(steps_per_epoch * warm_up_epochs, start=0), "averaging": EMA(beta2), "batch_size": 64}


def glow_tts(width=192, warm_up=4000) -> dict:
    """Glow-TTS: Adam with Noam's schedule, gradient entries within +-5."""
    return {"optimiser": Adam(1.0, 0.9, 0.98, 1e-9), "schedule": Noam(width, warm_up), "clip": ClipValue(5.0),
            "batch_size": 32}


def tarflow(size, steps_per_epoch, epochs, learning_rate=1e-4, lowest=1e-6, batch_size=256) -> dict:
    """TarFlow: AdamW, its learning rate warmed up from `lowest` over an epoch and brought back to it by a cosine.

    `size`: the entries of an image, by which the authors divide the loss; eps of the loss that is not divided is as many times theirs.
    """
    return {"optimiser": Adam(learning_rate, 0.9, 0.95, 1e-8 * size, weight_decay=1e-4),
            "schedule": WarmedCosine(steps_per_epoch, epochs * steps_per_epoch, lowest / learning_rate), "batch_size": batch_size}


def jet(size, steps, learning_rate=3e-4, batch_size=1024) -> dict:
    """Jet: AdamW, gradients of norm at most 1, its learning rate warmed up from 0 over a tenth of the steps, then along a cosine to 0.

    `size`: the entries of an image.  The authors' loss is in bits for each of them; eps and the norm of the gradients of a loss in nats
    are as many times theirs.  Their decay of 1e-5 a step follows the schedule, but not the learning rate.
    """
    nats = size * math.log(2)
    return {"optimiser": Adam(learning_rate, 0.9, 0.95, 1e-8 * nats, weight_decay=1e-5 / learning_rate), "clip": ClipNorm(nats),
            "schedule": WarmedCosine(max(1, steps // 10), steps), "batch_size": batch_size}
