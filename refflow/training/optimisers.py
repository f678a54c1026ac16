r"""Optimisers: pure functions of a parameter vector, its gradient and an explicit state.

`theta` are the parameters, `g` the gradient of the loss at `theta`, `t = 1, 2, ...` the step, and `alpha` the learning rate
of the step; products and quotients of vectors go entry by entry, and all moments start at 0.

Adam (Kingma & Ba, arXiv:1412.6980, algorithm 1):
    m_t = beta1 m + (1 - beta1) g                                                   (1)
    v_t = beta2 v + (1 - beta2) g^2                                                 (2)
    theta_t = theta - alpha m^ / (sqrt(v^) + eps),   m^ = m_t / (1 - beta1^t),   v^ = v_t / (1 - beta2^t)   (3)
or, in the other order of section 2, without correction of `eps` (TensorFlow, and therefore RealNVP's code):
    theta_t = theta - alpha_t m_t / (sqrt(v_t) + eps),   alpha_t = alpha sqrt(1 - beta2^t) / (1 - beta1^t)  (4)

AdaMax (same paper, algorithm 2):
    u_t = max(beta2 u, |g|)                                                         (5)
    theta_t = theta - alpha / (1 - beta1^t) m_t / u_t                               (6)
where `u_t = 0`, all gradients were 0, and the step is 0.  Glow's code keeps Adam's factor and adds an `eps`:
    theta_t = theta - alpha_t m_t / (u_t + eps),   alpha_t of (4)                   (7)
Its weight decay is a factor, in Adam and AdaMax:
    theta in (3), (4), (6), (7) is w theta,   w = 1 being none                      (17)
AdamW's decay follows the learning rate (Loshchilov & Hutter, arXiv:1711.05101); with `lambda`, the weight decay,
    theta in (3) and (4) is w theta,   w = 1 - alpha lambda                         (18)

RMSProp with momentum (NICE's code; the moments are Tieleman & Hinton's, Coursera 2012, lecture 6.5):
    s_t = rho s + (1 - rho) g^2                                                     (8)
    r_t = max(sqrt(s_t), eps)                                                       (9)
    w_t = mu_t w - alpha g / r_t                                                    (10)
    theta_t = theta + w_t                                                           (11)

Clipping, by the global norm (Pascanu, Mikolov & Bengio, arXiv:1211.5063, section 3.2) and by value:
    g <- g min(1, c / |g|)                                                          (12)
    g <- min(max(g, -c), c)                                                         (13)
`|g| = 2^e |2^-e g|`, so that no square overflows or vanishes.                      (14)

Averages of the parameters, exponential from `a_0 = theta_0`, or the mean of all after step `s` (Polyak & Juditsky 1992):
    a_t = delta a + (1 - delta) theta_t                                             (15)
    a_t = a + (theta_t - a) / (t - s)     for t > s,   theta_t before               (16)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..core.rules import ABOVE_0, AT_LEAST_0, count, hold, number

DECAY = number(0, 1, low_included=True)
FACTOR = number(0, 1, high_included=True)


def corrected_rate(alpha, beta1, beta2, t):
    return alpha * math.sqrt(1 - beta2**t) / (1 - beta1**t)                         # (4)


def decayed(vector, w):
    return vector if w == 1 else w * vector                                         # (17)


@dataclass(frozen=True)
class Adam:
    """Adam.  `uncorrected_eps` chooses (4) in place of (3); `weight_factor` is w of (17); with `weight_decay`, lambda of (18), AdamW.

    `start(vector)` -> state; `step(vector, gradient, state, factor)` -> (vector, state), with the learning rate times
    `factor`.  A state is a dictionary of the step `t` and arrays; arguments are not changed.
    """

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    uncorrected_eps: bool = False
    weight_factor: float = 1.0
    weight_decay: float = 0.0

    def __post_init__(self):
        hold(self, learning_rate=ABOVE_0, beta1=DECAY, beta2=DECAY, eps=AT_LEAST_0, weight_factor=FACTOR, weight_decay=AT_LEAST_0)

    def start(self, vector):
        return {"t": 0, "m": np.zeros_like(vector), "v": np.zeros_like(vector)}

    def step(self, vector, gradient, state, factor=1.0):
        t, alpha = state["t"] + 1, self.learning_rate * factor
        m = self.beta1 * state["m"] + (1 - self.beta1) * gradient                   # (1)
        v = self.beta2 * state["v"] + (1 - self.beta2) * gradient**2                # (2)
        if self.uncorrected_eps:
            change = corrected_rate(alpha, self.beta1, self.beta2, t) * m / (np.sqrt(v) + self.eps)         # (4)
        else:
            m_hat, v_hat = m / (1 - self.beta1**t), v / (1 - self.beta2**t)         # (3)
            change = alpha * m_hat / (np.sqrt(v_hat) + self.eps)                    # (3)
        w = self.weight_factor * (1 - alpha * self.weight_decay)                    # (17) (18)
        return decayed(vector, w) - change, {"t": t, "m": m, "v": v}                # (3) (4)


@dataclass(frozen=True)
class AdaMax:
    """AdaMax; with `glow` as in Glow's code; only then is eps used; `weight_factor` is w of (17)."""

    learning_rate: float = 2e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    glow: bool = False
    weight_factor: float = 1.0

    def __post_init__(self):
        hold(self, learning_rate=ABOVE_0, beta1=DECAY, beta2=DECAY, eps=AT_LEAST_0, weight_factor=FACTOR)

    def start(self, vector):
        return {"t": 0, "m": np.zeros_like(vector), "u": np.zeros_like(vector)}

    def step(self, vector, gradient, state, factor=1.0):
        t, alpha = state["t"] + 1, self.learning_rate * factor
        m = self.beta1 * state["m"] + (1 - self.beta1) * gradient                   # (1)
        u = np.maximum(self.beta2 * state["u"], np.abs(gradient))                   # (5)
        if self.glow:
            change = corrected_rate(alpha, self.beta1, self.beta2, t) * m / (u + self.eps)          # (7)
        else:
            change = np.where(u == 0, 0, alpha / (1 - self.beta1**t) * m / np.where(u == 0, 1, u))  # (6)
        return decayed(vector, self.weight_factor) - change, {"t": t, "m": m, "u": u}           # (6) (7)


@dataclass(frozen=True)
class RMSPropMomentum:
    """RMSProp with momentum, in NICE's form: the root mean square is at least eps.  `momentum` is a number or a schedule."""

    learning_rate: float = 1e-3
    decay: float = 0.95
    eps: float = 1e-2
    momentum: object = 0.0

    def __post_init__(self):
        hold(self, learning_rate=ABOVE_0, decay=DECAY, eps=ABOVE_0)
        if not callable(self.momentum):
            hold(self, momentum=DECAY)

    def start(self, vector):
        return {"t": 0, "s": np.zeros_like(vector), "w": np.zeros_like(vector)}

    def step(self, vector, gradient, state, factor=1.0):
        t, alpha = state["t"] + 1, self.learning_rate * factor
        mu = self.momentum(t) if callable(self.momentum) else self.momentum
        s = self.decay * state["s"] + (1 - self.decay) * gradient**2                # (8)
        r = np.maximum(np.sqrt(s), self.eps)                                        # (9)
        w = mu * state["w"] - alpha * gradient / r                                  # (10)
        return vector + w, {"t": t, "s": s, "w": w}                                 # (11)


@dataclass(frozen=True)
class LBFGS:
    """scipy's L-BFGS-B on the whole training set, with `memory` pairs.

    It ends where the largest gradient entry is below `gradient_tolerance`, or the loss changes by less than `tolerance`
    times max(|loss|, 1).  It chooses its own steps: no schedule, minibatch, clipping or averaging applies.
    """

    memory: int = 10
    gradient_tolerance: float = 1e-6
    tolerance: float = 1e-12

    def __post_init__(self):
        hold(self, memory=count(), gradient_tolerance=AT_LEAST_0, tolerance=AT_LEAST_0)


# -- clipping ---------------------------------------------------------------------------------------------------------

def norm(vector) -> float:
    """The Euclidean norm."""
    _, e = np.frexp(np.abs(vector).max(initial=0))
    scaled = np.ldexp(vector, -e).astype(np.float64)
    with np.errstate(over="ignore"):
        return float(np.ldexp(np.sqrt(np.dot(scaled, scaled)), e))                  # (14)


@dataclass(frozen=True)
class ClipNorm:
    """The gradient, shortened to at most `limit`."""

    limit: float

    def __post_init__(self):
        hold(self, limit=ABOVE_0)

    def __call__(self, gradient):
        length = norm(gradient)
        return gradient * (self.limit / length) if length > self.limit else gradient        # (12)


@dataclass(frozen=True)
class ClipValue:
    """The gradient with every entry in [-limit, limit]."""

    limit: float

    def __post_init__(self):
        hold(self, limit=ABOVE_0)

    def __call__(self, gradient):
        return np.minimum(np.maximum(gradient, -self.limit), self.limit)            # (13)


# -- averages of the parameters ---------------------------------------------------------------------------------------

@dataclass(frozen=True)
class EMA:
    """The exponential moving average of the parameters.  `update(average, vector, t)` -> average."""

    decay: float = 0.999

    def __post_init__(self):
        hold(self, decay=DECAY)

    def update(self, average, vector, t):
        return self.decay * average + (1 - self.decay) * vector                     # (15)


@dataclass(frozen=True)
class Polyak:
    """The mean of the parameters after step `start`."""

    start: int = 0

    def __post_init__(self):
        hold(self, start=count(0))

    def update(self, average, vector, t):
        return average + (vector - average) / (t - self.start) if t > self.start else vector        # (16)
