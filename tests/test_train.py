"""Training: optimisers against their recurrences, fits against closed forms, and how training fails."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest
from flint import arb, ctx

from refflow import (
    ActNorm,
    Affine,
    BatchNorm,
    Chain,
    DenseLinear,
    DiagonalNormal,
    Exp,
    FactorOut,
    Flow,
    FullNormal,
    Independent,
    Inverse,
    NormalMixture,
    PLULinear,
    Reshape,
    Sigmoid,
    StandardNormal,
    Uniform,
    realnvp,
)
from refflow.maps.conditioners import Contextual, dense_network
from refflow.core import Array, Bijector, bijector, correlation_cholesky, interval, nonzero, positive, real, simplex
from refflow.core import tree
from refflow.core.tree import flatten
from refflow.maps.coupling import AffineCoupling, Coupling, affine_family, masks
from refflow.maps.elementwise import TanhExpScale
from refflow.training import (
    EMA,
    LBFGS,
    Adam,
    AdaMax,
    Annealing,
    ClipNorm,
    ClipValue,
    Constant,
    Cosine,
    Exponential,
    LikelihoodGradient,
    MomentumRamp,
    Noam,
    Polyak,
    RMSPropMomentum,
    SquaredNorm,
    TrainingError,
    Unconstrained,
    WarmedCosine,
    WarmUp,
    fit,
    fit_reverse_kl,
    recipes,
)
from refflow.training.diagnosis import unlikely
from refflow.training.fit import Likelihood, Progress
from refflow.training.formula import ROUNDINGS, change_without_jump, refuse_jump, refuse_other_gradient
from refflow.training.optimisers import norm

U = 2.0**-53


def run(optimiser, gradients, vector):
    """The vectors after each of the gradients."""
    state, found = optimiser.start(vector), []
    for g in gradients:
        vector, state = optimiser.step(vector, g, state)
        found.append(vector)
    return np.array(found)


def coupling_flow(rng, D=2, width=16, layers=4, context=0, zero_last=False):
    nets = [dense_network(rng, [D // 2, width, D], context=context, zero_last=zero_last) for _ in range(layers)]
    stages = [Coupling(masks.alternating(D, flip=bool(k % 2)), net, affine_family(TanhExpScale())) for k, net in enumerate(nets)]
    return Flow(Chain(stages), StandardNormal(D))


def normal_flow(D=2):
    """A normal density whose parameters are all identified: only its base has parameters."""
    return Flow(ActNorm(np.ones(D)), FullNormal(np.zeros(D), np.eye(D)))


def data(n=300, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)) @ np.array([[2.0, 0.0], [0.7, 0.3]]).T + [3.0, -1.0]


# ---------------------------------------------------------------- optimisers

GRADIENTS = np.random.default_rng(5).normal(size=(25, 4))
START = np.array([1.0, -2.0, 0.5, 3.0])


@pytest.fixture(autouse=True)
def precision():
    """The widths of balls come from the rounding of floats, not from their own arithmetic."""
    with ctx.workprec(200):
        yield


class Rounded:
    """A number with every result that rounding may give: a ball that grows by 1 +- u, for pow by 1 +- 2u, at each operation.

    `made`: the number of units u added by all operations so far.
    """

    made = 0

    def __init__(self, value, rounding=0.0):
        Rounded.made += round(rounding / U)
        self.ball = ball_of(value) * arb(1, rounding)

    def __add__(self, other):
        return Rounded(self.ball + ball_of(other), U)

    def __sub__(self, other):
        return Rounded(self.ball - ball_of(other), U)

    def __rsub__(self, other):
        return Rounded(other - self.ball, U)

    def __mul__(self, other):
        return Rounded(self.ball * ball_of(other), U)

    def __truediv__(self, other):
        return Rounded(self.ball / ball_of(other), U)

    def __pow__(self, n):
        return Rounded(self.ball**n, 2 * U)

    def sqrt(self):
        return Rounded(self.ball.sqrt(), U)

    def largest(self, other):
        return Rounded(self.ball.max(ball_of(other)))

    def __contains__(self, given):
        return arb(float(given)) in self.ball


def ball_of(value):
    return value.ball if isinstance(value, Rounded) else value


def balls(values):
    return [Rounded(arb(float(v))) for v in values]


def follows(found, recurrence):
    """Every entry of every vector lies in its ball, and no ball is wider than the roundings made so far for each entry,
    times u, times the largest entry."""
    before = Rounded.made
    for t, (vector, expected) in enumerate(zip(found, recurrence), 1):
        allowed = (Rounded.made - before) / len(vector) * U * np.abs(found[:t]).max()
        for given, x in zip(vector, expected, strict=True):
            assert given in x and x.ball.rad() <= allowed, (t, given, x.ball)
    assert t == len(found)


def adam(a, b1, b2, eps, uncorrected, gradients, start, factor=None):
    x, m, v = balls(start), [Rounded(arb(0))] * len(start), [Rounded(arb(0))] * len(start)
    a, b1, b2, eps = balls((a, b1, b2, eps))
    for t, g in enumerate(map(balls, gradients), 1):
        m = [b1 * m_i + (1 - b1) * g_i for m_i, g_i in zip(m, g)]
        v = [b2 * v_i + (1 - b2) * (g_i * g_i) for v_i, g_i in zip(v, g)]
        x = x if factor is None else [balls((factor,))[0] * x_i for x_i in x]
        if uncorrected:
            rate = a * (1 - b2**t).sqrt() / (1 - b1**t)
            x = [x_i - rate * m_i / (v_i.sqrt() + eps) for x_i, m_i, v_i in zip(x, m, v)]
        else:
            x = [x_i - a * (m_i / (1 - b1**t)) / ((v_i / (1 - b2**t)).sqrt() + eps) for x_i, m_i, v_i in zip(x, m, v)]
        yield x


def adamax(a, b1, b2, eps, glow, gradients, start, factor=None):
    x, m, u = balls(start), [Rounded(arb(0))] * len(start), [Rounded(arb(0))] * len(start)
    a, b1, b2, eps = balls((a, b1, b2, eps))
    for t, g in enumerate(map(balls, gradients), 1):
        m = [b1 * m_i + (1 - b1) * g_i for m_i, g_i in zip(m, g)]
        u = [(b2 * u_i).largest(abs(g_i.ball)) for u_i, g_i in zip(u, g)]
        x = x if factor is None else [balls((factor,))[0] * x_i for x_i in x]
        rate = a * (1 - b2**t).sqrt() / (1 - b1**t) if glow else a / (1 - b1**t)
        x = [x_i - rate * m_i / (u_i + eps if glow else u_i) for x_i, m_i, u_i in zip(x, m, u)]
        yield x


def rmsprop_momentum(a, rho, eps, momentum, gradients, start):
    x, s, w = balls(start), [Rounded(arb(0))] * len(start), [Rounded(arb(0))] * len(start)
    a, rho = balls((a, rho))
    for t, g in enumerate(map(balls, gradients), 1):
        mu, = balls([momentum(t)])
        s = [rho * s_i + (1 - rho) * (g_i * g_i) for s_i, g_i in zip(s, g)]
        w = [mu * w_i - a * g_i / s_i.sqrt().largest(arb(eps)) for w_i, g_i, s_i in zip(w, g, s)]
        x = [x_i + w_i for x_i, w_i in zip(x, w)]
        yield x


CONSTANT = [np.array([3.0, -1e-4, 1e6, 0.5])] * 40


@pytest.mark.parametrize("uncorrected", [False, True])
def test_adam_is_its_recurrence_number_by_number(uncorrected):
    for gradients, constants in ((GRADIENTS, (0.1, 0.8, 0.9, 1e-3)), (CONSTANT, (0.01, 0.9, 0.999, 1e-8))):
        follows(run(Adam(*constants, uncorrected), gradients, START), adam(*constants, uncorrected, gradients, START))


def test_adam_at_a_constant_gradient():
    """m^ = g and v^ = g^2 for every t, so the recurrence's balls hold steps of alpha g / (|g| + eps)."""
    for t, expected in enumerate(adam(0.01, 0.9, 0.999, 1e-8, False, CONSTANT, START), 1):
        for x, g, x_0 in zip(expected, CONSTANT[0], START):
            assert arb(x_0) - t * arb(0.01) * g / (abs(arb(g)) + arb(1e-8)) in x.ball


@pytest.mark.parametrize("glow", [False, True])
def test_adamax_is_its_recurrence(glow):
    constants = (0.1, 0.8, 0.9, 1e-3, glow)
    follows(run(AdaMax(*constants), GRADIENTS, START), adamax(*constants, GRADIENTS, START))
    zero = np.zeros(4)
    assert np.array_equal(run(AdaMax(), [zero], START)[0], START)
    for given, x, s in zip(run(AdaMax(0.5), [GRADIENTS[0]], START)[0], START, np.sign(GRADIENTS[0])):
        assert given in Rounded(arb(x) - arb(s) / 2, 4 * U)


@pytest.mark.parametrize("other", [False, True])
def test_a_weight_factor_multiplies_the_parameters_of_every_step(other):
    constants = (0.1, 0.8, 0.9, 1e-3, other)
    for make, recurrence in ((Adam, adam), (AdaMax, adamax)):
        follows(run(make(*constants, 0.75), GRADIENTS, START), recurrence(*constants, GRADIENTS, START, 0.75))
        assert np.array_equal(run(make(*constants, 1.0), GRADIENTS, START), run(make(*constants), GRADIENTS, START))


def test_weight_decay_follows_the_learning_rate():
    """lambda = 2 and alpha = 1/8 give the weight factor 3/4; a schedule's factor is in alpha."""
    plain, decayed = (0.125, 0.8, 0.9, 1e-3, False), Adam(0.125, 0.8, 0.9, 1e-3, weight_decay=2.0)
    assert np.array_equal(run(decayed, GRADIENTS, START), run(Adam(*plain, 0.75), GRADIENTS, START))
    halved, _ = decayed.step(START, GRADIENTS[0], decayed.start(START), 0.5)
    assert np.array_equal(halved, Adam(0.0625, 0.8, 0.9, 1e-3, False, 0.875).step(START, GRADIENTS[0], decayed.start(START))[0])


def test_adamw_is_torchs():
    torch = pytest.importorskip("torch")
    theirs = torch.tensor(np.asarray(START), requires_grad=True)
    rule = torch.optim.AdamW([theirs], lr=0.1, betas=(0.9, 0.95), weight_decay=0.5)
    found = run(Adam(0.1, 0.9, 0.95, weight_decay=0.5), GRADIENTS, START)
    for ours, g in zip(found, GRADIENTS):
        theirs.grad = torch.tensor(np.asarray(g))
        rule.step()
        assert np.allclose(ours, theirs.detach().numpy(), rtol=1e-13, atol=1e-14)


def test_rmsprop_momentum_is_its_recurrence():
    """Above the floor eps and below it, with a momentum that is a number or a schedule."""
    a, rho, eps = 0.1, 0.95, 1e-2

    def ramp(t):
        return 0.0 if t < 3 else 0.5

    for gradients, momentum in ((GRADIENTS, 0.5), (CONSTANT, 0.5), ([np.full(4, 1e-5)] * 3, 0.5), (GRADIENTS, ramp)):
        schedule = momentum if callable(momentum) else lambda t: 0.5
        follows(run(RMSPropMomentum(a, rho, eps, momentum), gradients, START),
                rmsprop_momentum(a, rho, eps, schedule, gradients, START))


def test_rmsprop_momentum_in_closed_form():
    """At a constant gradient s_t = (1 - rho^t) g^2, above the floor; below it w is a geometric sum."""
    a, rho = 0.1, 0.95
    w = x = 0.0
    expected = list(rmsprop_momentum(a, rho, 1e-2, lambda t: 0.5, [[2.0]] * 30, [0.0]))
    for t in range(1, 31):
        w = w / 2 - arb(a) / (1 - arb(rho)**t).sqrt()
        x += w
        assert x in expected[t - 1][0].ball
    tiny = [x.ball for x, in rmsprop_momentum(a, rho, 1e-2, lambda t: 0.5, [[1e-5]] * 3, [0.0])]
    step = -arb(a) * arb(1e-5) / arb(1e-2)
    assert all(k * step in x for x, k in zip(tiny, (1, 2.5, 4.25)))


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_against_torch():
    """Two computations that round at most so much differ by at most twice the radius."""
    import torch

    given = GRADIENTS, START
    cases = [(Adam(0.1, 0.8, 0.9, 1e-3), adam(0.1, 0.8, 0.9, 1e-3, False, *given),
              lambda p: torch.optim.Adam(p, 0.1, (0.8, 0.9), 1e-3)),
             (AdaMax(0.1, 0.8, 0.9), adamax(0.1, 0.8, 0.9, 0.0, False, *given),
              lambda p: torch.optim.Adamax(p, 0.1, (0.8, 0.9), 0.0))]
    for ours, recurrence, theirs in cases:
        p = torch.nn.Parameter(torch.tensor(START))
        optimiser = theirs([p])
        for g, found, expected in zip(GRADIENTS, run(ours, GRADIENTS, START), recurrence):
            p.grad = torch.tensor(g)
            optimiser.step()
            assert np.all(np.abs(p.detach().numpy() - found) <= [float(2 * x.ball.rad()) for x in expected])


@pytest.mark.parametrize("optimiser", [Adam(), Adam(uncorrected_eps=True), AdaMax(), AdaMax(glow=True), RMSPropMomentum()])
def test_optimisers_are_pure_and_keep_the_dtype(optimiser):
    for dtype in (np.float64, np.float32):
        vector, g = START.astype(dtype), GRADIENTS[0].astype(dtype)
        state = optimiser.start(vector)
        before = {k: np.copy(v) for k, v in state.items()}
        new, after = optimiser.step(vector, g, state, 0.5)
        assert new.dtype == dtype and all(a.dtype == dtype for k, a in after.items() if k != "t")
        assert np.array_equal(vector, START.astype(dtype)) and after["t"] == 1
        assert all(np.array_equal(before[k], state[k]) for k in state)
        assert np.array_equal(new, optimiser.step(vector, g, state, 0.5)[0])


def test_clipping():
    g = np.array([3.0, -4.0])
    assert np.allclose(ClipNorm(1.0)(g), g / 5) and np.array_equal(ClipNorm(5.0)(g), g)
    assert np.array_equal(ClipValue(3.5)(g), [3.0, -3.5])
    for size in (1e200, -1e200, 1e-200, -1e-200):
        assert norm(size * np.array([3.0, 4.0])) == pytest.approx(5 * abs(size), rel=4 * U, abs=0)
    assert norm(np.array([3e30, 4e30], np.float32)) == pytest.approx(5e30) and norm(np.zeros(0)) == norm(np.zeros(3)) == 0
    assert ClipNorm(1.0)(np.array([3e38, 3e38], np.float32)).dtype == np.float32


@pytest.mark.parametrize("length", [1e-200, 1e-7, 3.0, 1e200])
def test_clipping_gives_the_limit_at_every_length(length):
    """A length is its limit to a few roundings, however short the gradient is; one that is not above the limit stays."""
    g = length * np.array([0.6, -0.8, 0.0])
    for factor in (0.5, 1e-3, 1 - 2.0**-20):
        found = ClipNorm(factor * length)(g)
        assert abs(norm(found) - factor * length) <= 8 * U * factor * length
        assert np.allclose(found, factor * g, rtol=8 * U, atol=0)
    assert ClipNorm(norm(g))(g) is g and ClipNorm(2 * length)(g) is g


def test_averages():
    found = [np.array([float(k)]) for k in (5, 1, 2, 6)]
    average = found[0]
    for t, v in enumerate(found[1:], 1):
        average = EMA(0.75).update(average, v, t)
    assert average == 0.75**3 * 5 + 0.25 * (0.75**2 * 1 + 0.75 * 2 + 6)
    average = found[0]
    for t, v in enumerate(found[1:], 1):
        average = Polyak(1).update(average, v, t)
    assert average == (2 + 6) / 2
    assert Polyak().update(found[1], found[2], 2) == (1 + 2) / 2


# ---------------------------------------------------------------- schedules

def test_schedules():
    assert Constant()(7) == 1
    assert [WarmUp(4)(t) for t in (1, 2, 4, 9)] == [0.25, 0.5, 1, 1]
    assert [WarmUp(4, start=0)(t) for t in (1, 2, 5, 9)] == [0, 0.25, 1, 1]
    assert [WarmUp(2.5, start=0)(t) for t in (1, 2, 3, 4)] == [0, 0.4, 0.8, 1]
    assert WarmUp(2, Exponential(0.5))(4) == 0.125
    assert [Annealing()(t) for t in (1, 5000, 9900, 20000)] == [0.0101, 0.51, 1, 1]
    assert [Exponential(0.5, 0.2)(t) for t in (1, 2, 3, 4)] == [1, 0.5, 0.25, 0.2]
    assert [Cosine(4, 0.5)(t) for t in (1, 3, 5, 50)] == pytest.approx([1, 0.75, 0.5, 0.5])
    assert [WarmedCosine(2, 6, 0.5)(t) for t in (1, 2, 3, 5, 7, 50)] == pytest.approx([0.5, 0.75, 1, 0.75, 0.5, 0.5])
    noam = Noam(192, 4000)
    assert noam(1) == pytest.approx(192**-0.5 * 4000**-1.5) and noam(4000) == pytest.approx((192 * 4000) ** -0.5)
    assert noam(16000) == pytest.approx(noam(4000) / 2)
    assert Exponential(1.0)(9) == Exponential(0.5, 1.0)(9) == Cosine(4, 1.0)(3) == 1


def test_the_schedules_of_nice():
    settings = recipes.nice(steps_per_epoch=3)
    schedule, momentum = settings["schedule"], settings["optimiser"].momentum
    rates = [1e-3 * schedule(t) for t in (1, 2, 101, 10**6)]
    assert rates == pytest.approx([1e-3, 1e-3 / 1.0005, 1e-3 / 1.0005**100, 1e-4])
    assert [momentum(t) for t in (1, 15, 16, 1000)] == [0, 0, 0.5, 0.5]
    assert [MomentumRamp(1, 0, 1, 1, 3)(t) for t in (1, 2, 3)] == [0, 0.5, 1]
    assert [MomentumRamp(2, 0.25, 0.75, 0, 2)(t) for t in (1, 2, 3, 5)] == [0.5, 0.5, 0.75, 0.75]
    slower = recipes.nice(3, 2e-4, 1e-5, 128)
    assert 2e-4 * slower["schedule"](10**6) == pytest.approx(1e-5) and slower["batch_size"] == 128


def test_the_settings_of_the_papers():
    assert recipes.nice(3) == {"optimiser": RMSPropMomentum(1e-3, momentum=MomentumRamp(3)), "batch_size": 200,
                               "schedule": Exponential(1 / 1.0005, 0.1)}
    assert recipes.realnvp() == {"optimiser": Adam(1e-3, uncorrected_eps=True), "clip": ClipNorm(100.0), "batch_size": 64}
    assert recipes.glow(2.5) == {"optimiser": AdaMax(1e-3, beta2=1 - 1 / 3, glow=True), "schedule": WarmUp(25, start=0),
                                 "averaging": EMA(1 - 1 / 3), "batch_size": 64}
    assert recipes.glow(4, 2e-3, 3, 2) == {"optimiser": AdaMax(2e-3, beta2=7 / 8, glow=True), "schedule": WarmUp(12, start=0),
                                           "averaging": EMA(7 / 8), "batch_size": 64}
    assert recipes.tarflow(192, 10, 3) == {"optimiser": Adam(1e-4, 0.9, 0.95, 1e-8 * 192, weight_decay=1e-4), "batch_size": 256,
                                           "schedule": WarmedCosine(10, 30, 1e-6 / 1e-4)}
    nats = 192 * math.log(2)
    assert recipes.jet(192, 30) == {"optimiser": Adam(3e-4, 0.9, 0.95, 1e-8 * nats, weight_decay=1e-5 / 3e-4), "batch_size": 1024,
                                    "clip": ClipNorm(nats), "schedule": WarmedCosine(3, 30)}
    for given, noam in (((), Noam(192, 4000)), ((16, 10), Noam(16, 10))):
        assert recipes.glow_tts(*given) == {"optimiser": Adam(1.0, 0.9, 0.98, 1e-9), "schedule": noam, "clip": ClipValue(5.0),
                                            "batch_size": 32}


def test_the_rate_of_tarflow():
    """The schedule of the authors' loop: the first step is at the lowest rate, and the rate is set anew after each step."""
    lowest, highest, warm_up, steps = 1e-6, 1e-4, 5, 15
    schedule = recipes.tarflow(12, warm_up, 3)["schedule"]
    for taken in range(steps):
        t = (taken - warm_up) / (steps - warm_up)
        share = taken / warm_up if taken <= warm_up else (1 + math.cos(math.pi * t)) / 2
        assert highest * schedule(taken + 1) == pytest.approx(lowest + share * (highest - lowest), rel=1e-14)


def test_a_step_of_jet_is_the_authors():
    """Their loss is in bits for each entry, clipped at norm 1; their decay follows the schedule, but not the learning rate."""
    size, rng = 12, np.random.default_rng(0)
    settings, p, state = recipes.jet(size, 20), rng.standard_normal(5), None
    theirs, m, v, optimiser = p.copy(), np.zeros(5), np.zeros(5), settings["optimiser"]
    state = optimiser.start(p)
    for taken in range(6):
        bits = rng.standard_normal(5) * (0.1 if taken % 2 else 3.0)
        p, state = optimiser.step(p, settings["clip"](bits * size * math.log(2)), state, settings["schedule"](taken + 1))
        bits = bits * min(1, 1 / np.sqrt((bits * bits).sum()))
        m, v = 0.9 * m + 0.1 * bits, 0.95 * v + 0.05 * bits**2
        rise = m / (1 - 0.9**(taken + 1)) / (np.sqrt(v / (1 - 0.95**(taken + 1))) + 1e-8)
        share = min(1, taken / 2) * (1 + math.cos(math.pi * max(0, (taken - 2) / 18))) / 2
        theirs = theirs - share * (3e-4 * rise + 1e-5 * theirs)
        assert np.allclose(p, theirs, rtol=1e-13)


@pytest.mark.parametrize("images, batch", [(50000, 64), (50000, 512), (64, 16), (10, 16)])
def test_the_rate_of_glow(images, batch):
    """The schedule of the authors' loop, which counts the images seen, from 0; beta2 counts its steps in an epoch."""
    settings, seen, epochs = recipes.glow(images / batch), 0, 10
    rate, schedule = settings["optimiser"].learning_rate, settings["schedule"]
    per_epoch = math.ceil(images / batch)
    assert schedule(1) == 0
    for t in range(1, 2 + (epochs + 1) * per_epoch):
        wanted = rate * min(1.0, seen / (images * epochs))
        assert abs(rate * schedule(t) - wanted) <= 7 * U * wanted           # four roundings on our side, two on theirs
        seen += batch
    assert settings["optimiser"].beta2 == settings["averaging"].decay == 1 - 1 / per_epoch


@pytest.mark.parametrize("make", [
    lambda: Adam(0.0), lambda: Adam(beta1=1.0), lambda: Adam(eps=-1.0), lambda: Adam(float("nan")), lambda: ClipNorm(0.0),
    lambda: EMA(1.0), lambda: Cosine(0), lambda: WarmUp(0), lambda: WarmUp(math.inf), lambda: Exponential(1.5),
    lambda: Annealing(0), lambda: Annealing(3, 1.5),
    lambda: WarmUp(3, start=2), lambda: Noam(0), lambda: Polyak(-1), lambda: MomentumRamp(3, start=6), lambda: LBFGS(memory=0),
    lambda: RMSPropMomentum(momentum=1.0), lambda: AdaMax(-1.0), lambda: Adam(weight_factor=0.0),
    lambda: Adam(weight_decay=-1.0), lambda: WarmedCosine(0, 3), lambda: WarmedCosine(3, 3), lambda: WarmedCosine(1, 2, 2.0),
    lambda: AdaMax(weight_factor=1.5)])
def test_bad_settings_are_refused(make):
    with pytest.raises(ValueError, match="must be"):
        make()


# ---------------------------------------------------------------- free numbers

@bijector(domain=real, codomain=real, register=False)
class Everything(Bijector):
    """A page of one field from each set."""

    between: Array = interval(-1, 3)("D")
    below: Array = interval(-np.inf, 2)("D")
    above: Array = positive("D")
    signed: Array = nonzero("D")
    weights: Array = simplex("K")
    correlation: Array = correlation_cholesky("D", "D")

    def forward(self, z):
        return z

    def inverse(self, x):
        return x

    def vjp(self, z):
        raise NotImplementedError


def values(dtype):
    rng = np.random.default_rng(2)
    L = np.array([[1, 0, 0], [0.6, 0.8, 0], [0.0, -0.6, 0.8]], dtype)
    yield Everything(rng.uniform(-1, 3, (2, 3)).astype(dtype), np.array([1, -9, 1.5], dtype), np.array([0.1, 2, 7], dtype),
                     np.array([-3, 1e-3, 5], dtype), np.array([0.25, 0.5, 0.125, 0.125], dtype), L)
    lower, upper = np.tril(rng.normal(size=(3, 3)), -1), np.triu(rng.normal(size=(3, 3)), 1)
    yield PLULinear([2, 0, 1], lower.astype(dtype), upper.astype(dtype),
                    np.array([1, -2, 0.3], dtype), np.ones(3, dtype))
    yield FullNormal(np.zeros((2, 3), dtype), np.stack([L, 2 * L]))
    yield NormalMixture(np.array([1.0], dtype), np.zeros((1, 2), dtype), np.ones((1, 2), dtype))
    yield DenseLinear(rng.normal(size=(2, 2)).astype(dtype))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_free_numbers_and_their_cotangents(dtype):
    """Round trips to rounding, and the cotangent of c . params equal to its central differences."""
    u, rng = np.finfo(dtype).eps, np.random.default_rng(3)
    for value in values(dtype):
        space = Unconstrained(value)
        assert space.vector.dtype == dtype and space.value_at(space.vector).dtype == dtype
        again = space.value_at(space.vector)
        for (_, a), (_, b) in zip(flatten(value.params()), flatten(again.params())):
            assert np.allclose(a, b, rtol=20 * u, atol=20 * u)
        bars = {key: rng.normal(size=v.shape).astype(dtype) for key, v in value.params().items()}
        gradient = space.gradient(space.vector, bars)
        assert gradient.dtype == dtype and gradient.shape == space.vector.shape
        if dtype == np.float64:
            def objective(vector, space=space, bars=bars):
                return sum((bars[key] * v).sum() for key, v in space.value_at(vector).params().items())

            for i in range(space.vector.size):
                h = np.zeros_like(space.vector)
                h[i] = 1e-5
                slope = (objective(space.vector + h) - objective(space.vector - h)) / 2e-5
                assert gradient[i] == pytest.approx(slope, rel=1e-7, abs=1e-7)


def test_only_what_may_vary_is_free():
    sizes = [Unconstrained(v).vector.size for v in values(np.float64)]
    assert sizes == [6 + 3 + 3 + 3 + 3 + 3, 3 + 3 + 3 + 3, 6 + 2 * 6, 0 + 2 + 2, 4 + 2]
    assert Unconstrained(next(values(np.float64)), fixed=("correlation", "b*")).vector.size == 3 + 3 + 3


def test_a_context_is_not_free_beside_what_else_is_not_trained():
    """A class that names its own fields that training leaves alone need not name its context."""
    class Scaled(Contextual):
        untrained = ()

    net = Scaled(dense_network(np.random.default_rng(0), [3, 4])).at(context=np.ones(1))
    assert net.context is not None and Unconstrained(net).vector.size == 3 * 4 + 4


def test_any_vector_meets_the_constraints():
    rng = np.random.default_rng(4)
    for value in list(values(np.float64))[:3]:
        space = Unconstrained(value)
        for scale in (0.1, 3.0):
            space.value_at(space.vector + scale * rng.normal(size=space.vector.size))


def test_fixed_parameters():
    rng = np.random.default_rng(0)
    flow = Flow(Chain([Affine(np.zeros(2), np.ones(2)), ActNorm(np.ones(2))]), DiagonalNormal(np.zeros(2), np.ones(2)))
    r = fit(flow, data(), steps=3, fixed=("base", "*.shift"), rng=rng)
    assert r.flow.base.equals(flow.base) and np.array_equal(r.flow.bijector.stages[0].inner.shift, np.zeros(2))
    assert not np.array_equal(r.flow.bijector.stages[1].bias, flow.bijector.stages[1].bias)
    with pytest.raises(ValueError, match=r"'bse' names no parameter; there are bijector\.stages\.0"):
        fit(flow, data(), fixed="bse", rng=rng)
    with pytest.raises(ValueError, match="'' names no parameter"):
        fit(flow, data(), fixed="", rng=rng)
    with pytest.raises(ValueError, match="no parameter to train"):
        fit(flow, data(), fixed=("base", "bijector"), rng=rng)


def test_the_quick_copy_is_the_checked_value():
    rng = np.random.default_rng(0)
    for flow, context in ((coupling_flow(rng), None), (coupling_flow(rng, context=3), rng.normal(size=(5, 3)))):
        space = Unconstrained(flow)
        vector = space.vector + 0.1 * rng.normal(size=space.vector.size)
        x, slow = rng.normal(size=(5, 2)), space.value_at(vector)
        at = slow if context is None else slow.at(context=context)
        (a, a_pull), (b, b_pull) = space.quick(vector, context).log_prob_vjp(x), at.log_prob_vjp(x)
        assert np.array_equal(a, b)
        ga, gb = (space.gradient(vector, pull(np.ones(5))[1]) for pull in (a_pull, b_pull))
        assert np.array_equal(ga, gb) and np.isfinite(ga).all() and ga.any()


def alike(one, other):
    """Two values with the same fields, places of shared components included, and their unchecked copies too."""
    return one.equals(other) and repr(one) == repr(other) and one.unchecked(one.dtype).equals(other.unchecked(other.dtype))


def test_a_mould_makes_what_a_walk_makes():
    """Copies with other numbers, of a flow whose parts share a component and a context; what has no numbers is the flow's own."""
    rng = np.random.default_rng(0)
    shared = coupling_flow(rng, context=3).bijector
    flow = Flow(Chain([shared, Affine(np.zeros(2), np.ones(2)), shared]), StandardNormal(2))
    for fixed in ((), "bijector.stages.1"):
        space, context = Unconstrained(flow, fixed), rng.normal(size=(5, 3))
        for _ in range(2):
            vector = space.vector + 0.1 * rng.normal(size=space.vector.size)
            for given in (None, context):
                made, walked = space.quick(vector, given), tree.replaced(space.used, space.fields(vector), given)
                assert alike(made, walked) and made.bijector.stages[0] is made.bijector.stages[2]
                view = made.unchecked(made.dtype)
                assert not view.checked and view.bijector.stages[0] is view.bijector.stages[2]
                assert (made.bijector.stages[1] is flow.bijector.stages[1]) == bool(fixed)
                assert made.base is flow.base


def test_a_context_of_other_floats_is_rounded_where_the_flow_computes():
    flow, rng = coupling_flow(np.random.default_rng(0), context=3).astype(np.float32), np.random.default_rng(1)
    space, context = Unconstrained(flow), rng.normal(size=(5, 3))
    made = space.quick(space.vector, context)
    x = rng.normal(size=(5, 2)).astype(np.float32)
    assert np.array_equal(made.log_prob(x), flow.at(context=context.astype(np.float32)).log_prob(x))


# ---------------------------------------------------------------- maximum likelihood

def closed_form(x, weights=None):
    """(mean, covariance, the largest mean log-likelihood of a normal density)."""
    mean = np.average(x, 0, weights)
    S = np.atleast_2d(np.cov(x.T, bias=True, aweights=weights))
    return mean, S, -(np.linalg.slogdet(S)[1] + x.shape[1] * (1 + math.log(2 * math.pi))) / 2


def bound(flow, x, weights=None):
    """The distance |g| / mu from the optimum, where g is the gradient reached and mu the least Hessian eigenvalue."""
    space = Unconstrained(flow, "bijector")
    weights = np.ones(len(x)) if weights is None else weights

    def gradient(vector):
        return space.gradient(vector, space.value_at(vector).log_prob_vjp(x)[1](-weights / weights.sum())[1])

    n, h = space.vector.size, 1e-5
    H = np.array([(gradient(space.vector + h * e) - gradient(space.vector - h * e)) / (2 * h) for e in np.eye(n)])
    g, mu = np.linalg.norm(gradient(space.vector)), np.linalg.eigvalsh((H + H.T) / 2)[0]
    assert mu > 0
    return g / mu, g * g / (2 * mu)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("settings", [{"optimiser": LBFGS(), "steps": 200},
                                      {"optimiser": Adam(0.1), "schedule": Cosine(600), "steps": 600}],
                         ids=["L-BFGS", "Adam"])
def test_a_normal_density_is_fitted_to_its_closed_form(settings, weighted):
    x = data()
    weights = np.random.default_rng(0).uniform(0, 2, len(x)) if weighted else None
    r = fit(normal_flow(), x, weights=weights, validation=0, fixed="bijector", **settings)
    mean, S, best = closed_form(x, weights)
    distance, excess = bound(r.flow, x, weights)
    assert distance < 1e-3
    L = np.linalg.cholesky(S)
    slack = 2 * distance * max(1, np.abs(L).max()) + 1e-13 * np.abs(mean).max()
    assert np.abs(r.flow.base.loc - mean).max() <= slack and np.abs(r.flow.base.cholesky - L).max() <= slack
    reached = np.average(r.flow.log_prob(x), weights=weights)
    assert -1e-13 <= best - reached <= 2 * excess + 1e-13


def test_weights_count_like_repetition():
    x = data(40)
    weights = np.random.default_rng(0).integers(0, 4, 40)
    one = fit(normal_flow(), x, weights=weights, validation=0, steps=30)
    two = fit(normal_flow(), np.repeat(x, weights, 0), validation=0, steps=30)
    assert np.allclose(one.flow.ravel(), two.flow.ravel(), rtol=1e-11, atol=1e-11)
    assert np.allclose(one.history["loss"], two.history["loss"], rtol=1e-12)
    other = fit(normal_flow(), x, validation=0, steps=30)
    assert not np.allclose(one.flow.ravel(), other.flow.ravel(), rtol=1e-6)


def test_an_event_of_weight_0_may_be_impossible():
    x = np.array([1.0, 2.0, -3.0])
    r = fit(Flow(Chain([Affine(0.0, 1.0), Exp()]), StandardNormal(())), x, weights=[1, 1, 0], validation=0, steps=5)
    assert r.stopped == "steps" and np.isfinite(r.history["loss"]).all()


def test_the_loss_and_what_history_holds():
    x, flow = data(100), normal_flow()
    r = fit(flow, x, validation=0, steps=7, optimiser=Adam(0.1), schedule=Exponential(0.5))
    assert r.history["loss"][0] == pytest.approx(-flow.log_prob(x).mean(), rel=1e-14)
    assert list(r.history["step"]) == list(range(1, 8)) and r.step == 7 and r.history["validation_loss"].size == 0
    assert np.allclose(r.history["learning_rate"], 0.1 * 0.5 ** np.arange(7))
    _, pull = flow.log_prob_vjp(x)
    space = Unconstrained(flow)
    gradient = space.gradient(space.vector, pull(np.full(100, -0.01))[1])
    assert r.history["gradient_norm"][0] == pytest.approx(np.linalg.norm(gradient))


def test_the_same_seed_gives_the_same_bits():
    x = np.random.default_rng(0).normal(size=(200, 2))
    flow = coupling_flow(np.random.default_rng(1))

    def once(seed):
        return fit(flow, x, steps=25, batch_size=32, averaging=EMA(0.9), clip=ClipNorm(1.0), rng=np.random.default_rng(seed))

    a, b, c = once(3), once(3), once(4)
    assert a.flow.equals(b.flow) and not a.flow.equals(c.flow)
    assert all(np.array_equal(a.history[k], b.history[k]) for k in a.history)
    assert flow.equals(coupling_flow(np.random.default_rng(1)))


def test_every_event_is_used_once_in_an_epoch():
    seen = []

    @bijector(domain=real, codomain=real, register=False)
    class Watched(Bijector):
        shift: Array = real()

        def vjp(self, z):
            raise NotImplementedError

        def inverse_vjp(self, x):
            seen.append(x.copy())
            return (x - self.shift, np.zeros_like(x)), lambda z_bar, l_bar: (z_bar, {"shift": -z_bar})

        def inverse_and_log_det(self, x):
            return x - self.shift, np.zeros_like(x)

    x = np.arange(10.0)
    r = fit(Flow(Watched(0.0), StandardNormal(())), x, epochs=2, batch_size=4, validation=0, rng=np.random.default_rng(0))
    assert [len(b) for b in seen] == [4, 4, 2] * 2 and len(r.history["step"]) == 6
    assert sorted(np.concatenate(seen[:3])) == sorted(np.concatenate(seen[3:])) == list(x)
    assert not np.array_equal(np.concatenate(seen[:3]), np.concatenate(seen[3:]))


class Still:
    """An optimiser that stays where it is, and keeps the gradients that it is given."""

    learning_rate = 1.0

    def __init__(self):
        self.gradients = []

    def start(self, vector):
        return {"t": 0}

    def step(self, vector, gradient, state, factor):
        self.gradients.append(gradient)
        return vector, {"t": state["t"] + 1}


def test_weights_are_of_all_data_in_a_minibatch_too():
    """Each batch, times its events, is its part of the weighted sum over all data, for the loss and for the gradient."""
    x = data(10)
    weights = np.array([0, 1, 5, 0.25, 3, 0, 8, 2, 0.5, 1])
    still, whole = Still(), Still()
    given = {"weights": weights, "validation": 0, "rng": np.random.default_rng(0)}
    r = fit(normal_flow(), x, epochs=1, batch_size=4, optimiser=still, **given)
    one = fit(normal_flow(), x, steps=1, optimiser=whole, **given)
    sizes = np.array([4, 4, 2]) / 10
    assert one.history["loss"][0] == pytest.approx(-np.average(normal_flow().log_prob(x), weights=weights), rel=1e-13)
    assert sizes @ r.history["loss"] == pytest.approx(one.history["loss"][0], rel=1e-13)
    assert np.allclose(sizes @ np.array(still.gradients), whole.gradients[0], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("context", [0, 1])
@pytest.mark.parametrize("rows", [1, 4095, 4096, 4097, 8193])
def test_the_validation_loss_is_of_every_row(rows, context, weighted):
    """They pass the flow in parts of 4096; the last part, however short, has the largest of their losses."""
    rng = np.random.default_rng(0)
    flow = coupling_flow(rng, layers=1, width=2, context=context)
    x, c = rng.normal(size=(2 * rows, 2)), rng.normal(size=(2 * rows, 1)) if context else None
    weights = rng.uniform(0, 2, 2 * rows) if weighted else np.ones(2 * rows)
    if weighted:
        fraction, held = {"validation": 0.5, "weights": weights}, np.random.default_rng(1).permutation(2 * rows)[:rows]
    else:
        held = np.arange(rows)
        x[rows - 1] = 50.0
        fraction = {"validation": (x[held], c[held]) if context else x[held]}
    at = flow if c is None else flow.at(context=c[held])
    r = fit(flow, x, context=c, steps=0, rng=np.random.default_rng(1), **fraction)
    expected = -np.average(at.log_prob(x[held]), weights=weights[held])
    assert r.history["validation_loss"] == pytest.approx([expected], rel=1e-12)


def test_images_are_validated_in_smaller_parts():
    """2^18 numbers at a time: three rows of 100000 numbers are two parts."""
    x = np.random.default_rng(0).normal(size=(3, 100_000))
    flow = Flow(Affine(0.5, 2.0), StandardNormal(100_000))
    r = fit(flow, x, steps=0, validation=x * [[1], [1], [3]])
    assert r.history["validation_loss"][0] == pytest.approx(-flow.log_prob(x * [[1], [1], [3]]).mean(), rel=1e-13)


def test_a_fraction_leaves_an_event_for_training():
    x = data(3)
    r = fit(normal_flow(), x, steps=1, validation=0.99, optimiser=Still(), rng=np.random.default_rng(0))
    held = np.random.default_rng(0).permutation(3)[:2]
    assert r.history["validation_loss"][0] == pytest.approx(-normal_flow().log_prob(x[held]).mean(), rel=1e-13)
    assert r.history["loss"][0] == pytest.approx(-normal_flow().log_prob(np.delete(x, held, 0)).mean(), rel=1e-13)


# ---------------------------------------------------------------- fresh noise

def test_transform():
    """Each step sees the events of its batch after `transform`, with fit's generator."""
    seen = []

    def noisy(x, rng):
        seen.append(x + rng.random(x.shape))
        return seen[-1]

    rng = np.random.default_rng(0)
    x = np.arange(12.0).reshape(6, 2)
    flow = realnvp(rng, 2, hidden=(3,), couplings=2)
    result = fit(flow, x, steps=4, batch_size=3, validation=0, transform=noisy, rng=np.random.default_rng(1))
    again, at = np.random.default_rng(1), []
    for _ in range(2):
        order = again.permutation(6)
        at += [x[part] + again.random((3, 2)) for part in (order[:3], order[3:])]
    assert len(seen) == 4 and all(np.array_equal(a, b) for a, b in zip(seen, at))
    assert result.history["loss"][0] == pytest.approx(-flow.log_prob(seen[0]).mean(), rel=1e-13)
    plain = fit(flow, seen[0], steps=1, validation=0)
    one = fit(flow, x[:3], steps=1, validation=0, transform=lambda x, rng: seen[0], rng=rng)
    assert one.flow.equals(plain.flow)


def test_transform_is_checked():
    flow, x, rng = realnvp(np.random.default_rng(0), 2, hidden=(3,), couplings=2), np.zeros((4, 2)), np.random.default_rng(0)
    for transform, given, message in (
            (3, rng, "transform must be callable, not 3"), (lambda x, rng: x, None, "rng must be"),
            (lambda x, rng: x[:1], rng, r"transform must return an array of shape \(4, 2\) and float64"),
            (lambda x, rng: x.astype(np.float32), rng, "not of shape .4, 2. and float32")):
        with pytest.raises(ValueError, match=message):
            fit(flow, x, steps=1, validation=0, transform=transform, rng=given)


# ---------------------------------------------------------------- penalties

PENALISED = {"a": {"g": np.array([1.0, -3.0], np.float32)}, "b": {"g": np.array([[2.0]]), "h": np.array([0.5])}}


@pytest.mark.parametrize("names, chosen", [
    ("*", ("a.g", "b.g", "b.h")), ("*.g", ("a.g", "b.g")), ("b", ("b.g", "b.h")), ((("b", "g"), "a"), ("a.g", "b.g")),
    ([("b", "h")], ("b.h",))])
def test_a_penalty_and_its_cotangents(names, chosen):
    value, bars = SquaredNorm(0.75, names)(PENALISED)
    arrays = {path: v for path, v in flatten(PENALISED) if ".".join(path) in chosen}
    assert value == 0.75 * sum((v**2).sum() for v in arrays.values()) and bars.keys() == arrays.keys()
    assert all(np.array_equal(bars[path], 1.5 * v) and bars[path].dtype == v.dtype for path, v in arrays.items())
    assert SquaredNorm(0, names)(PENALISED)[0] == 0


@pytest.mark.parametrize("make, words", [
    (lambda: SquaredNorm(-1.0), "coefficient must be finite and >= 0; coefficient = -1"), (lambda: SquaredNorm(np.inf), "finite"),
    (lambda: SquaredNorm(np.nan), "finite"), (lambda: SquaredNorm(1.0, "c")(PENALISED), "'c' names no parameter"),
    (lambda: SquaredNorm(1.0, ("a", ("c", "g")))(PENALISED), r"\('c', 'g'\) names no parameter")])
def test_bad_penalties_are_refused(make, words):
    with pytest.raises(ValueError, match=f"SquaredNorm: {words}|SquaredNorm: .*{words}"):
        make()


def test_a_penalty_is_added_to_the_loss_and_to_its_own_gradients():
    x, penalty = data(20), SquaredNorm(0.5, "base.loc")
    flow = normal_flow().replace(base={"loc": np.array([1.0, -2.0])})
    plain, penalised = Still(), Still()
    losses = [fit(flow, x, validation=x, steps=1, optimiser=optimiser, penalty=p).history
              for optimiser, p in ((plain, None), (penalised, penalty))]
    assert losses[1]["loss"] == pytest.approx(losses[0]["loss"] + 2.5, rel=1e-13)
    assert np.array_equal(*(history["validation_loss"] for history in losses))
    leaf = next(leaf for leaf in Unconstrained(flow).leaves if leaf.path == ("base", "loc"))
    expected = plain.gradients[0].copy()
    expected[leaf.part] += [1.0, -2.0]
    assert np.allclose(penalised.gradients[0], expected, rtol=1e-13, atol=1e-13)


# ---------------------------------------------------------------- further kinds of flows

def test_a_flow_in_float32_stays_so():
    flow = coupling_flow(np.random.default_rng(0)).astype(np.float32)
    x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    r = fit(flow, x, steps=5, rng=np.random.default_rng(0))
    assert r.flow.dtype == np.float32 and r.flow.log_prob(x).dtype == np.float32
    assert fit(flow, x, steps=5, optimiser=LBFGS(), validation=0).flow.dtype == np.float32


def test_a_conditional_flow():
    """x given c is N(2 c, 1): the fit approaches its entropy and uses the context."""
    rng = np.random.default_rng(0)
    c = rng.normal(size=(400, 1))
    x = 2 * c + rng.normal(size=(400, 2))
    flow = coupling_flow(rng, layers=2, context=1, zero_last=True)
    r = fit(flow, x, context=c, steps=300, batch_size=100, optimiser=Adam(0.02), schedule=Cosine(300), rng=rng)
    reached = r.flow.at(context=c).log_prob(x).mean()
    blind, possible = closed_form(x)[2], closed_form(x - 2 * c)[2]
    assert reached > blind + 0.8 * (possible - blind) and "context" not in r.flow.params()
    held = (x[:50], c[:50])
    r = fit(flow, x, context=c, validation=held, steps=10, rng=rng)
    assert r.history["validation_loss"][0] == pytest.approx(-flow.at(context=c[:50]).log_prob(x[:50]).mean())


def test_a_batch_of_flows():
    x = np.stack([data(60, 1), data(60, 2)], 1)
    flow = Flow(ActNorm(np.ones((2, 2)), np.zeros((2, 2))), StandardNormal(2))
    with pytest.raises(ValueError, match=r"shape \(N, \*batch, \*event\), with events of 1 axes, not \(60, 2\)"):
        fit(flow, x[:, 0], validation=0)
    both = fit(flow, x, validation=0, steps=20, optimiser=Adam(0.05))
    for k in range(2):
        one = fit(Flow(ActNorm(np.ones(2)), StandardNormal(2)), x[:, k], validation=0, steps=20, optimiser=Adam(0.05))
        assert np.allclose(both.flow.bijector.bias[k], one.flow.bijector.bias, rtol=1e-12)


class OwnNormal:
    """The user's own base, with a parameter."""

    event_shape = (2,)

    def __init__(self, mean):
        self.mean = np.asarray(mean, np.float64)

    def params(self):
        return {"mean": self.mean}

    def replace(self, mean):
        return OwnNormal(mean)

    def log_prob(self, z):
        return -((z - self.mean) ** 2).sum(-1) / 2

    def log_prob_vjp(self, z):
        d = z - self.mean
        return self.log_prob(z), lambda b: (-b[..., None] * d, {"mean": (b[..., None] * d).sum(0)})

    def sample(self, rng, n):
        return self.mean + rng.standard_normal((n, 2))


def test_the_users_own_base_is_trained():
    x = data()
    r = fit(Flow(ActNorm(np.ones(2)), OwnNormal([0.0, 0.0])), x, validation=0, steps=300, optimiser=Adam(0.1),
            fixed="bijector", schedule=Cosine(300))
    assert np.allclose(r.flow.base.given.mean, x.mean(0), atol=1e-3)


# ---------------------------------------------------------------- how training ends

def test_patience_and_the_best_flow():
    """30 events and a large network: the validation loss turns, training stops, and its lowest point is the result."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 2))
    r = fit(coupling_flow(rng, width=64), x, validation=0.25, patience=5, every=5, steps=3000, optimiser=Adam(5e-3), rng=rng)
    steps, losses = r.history["validation_step"], r.history["validation_loss"]
    assert r.stopped == "patience" and r.history["step"][-1] < 3000 and r.history["loss"][-1] < r.history["loss"][0]
    assert r.step == steps[losses.argmin()] and len(losses) - 1 - losses.argmin() == 5
    held = np.random.default_rng(1).normal(size=(64, 2))
    r = fit(normal_flow(), x, validation=held, steps=30)
    assert r.history["validation_loss"].min() == pytest.approx(-r.flow.log_prob(held).mean(), rel=1e-13)


class Along:
    """An optimiser that goes to start + 0.2 d, for each d of a path in turn."""

    learning_rate = 1.0

    def __init__(self, path):
        self.path = path

    def start(self, vector):
        return {"t": 0, "start": vector}

    def step(self, vector, gradient, state, factor):
        return state["start"] + 0.2 * self.path[state["t"] + 1], state | {"t": state["t"] + 1}


def patience_of_two(losses):
    """The index at which two losses in a row are not below the lowest one before, or None."""
    worse = [i for i in range(1, len(losses)) if not losses[i] < min(losses[:i])]
    return next((i for i in worse if i - 1 in worse), None)


@pytest.mark.parametrize("averaging, path", [(EMA(0.5), (0, 3, -1, 3, 0, 3, -2)), (Polyak(1), (0, 1, -1, 2, -1, 1.5, -1))],
                         ids=["EMA", "Polyak"])
def test_what_is_measured_is_the_average(averaging, path):
    """The validation loss, patience, the callback's flow, the best flow, and what is kept without validation."""
    held, space, last = data(50, 2), Unconstrained(normal_flow()), len(path) - 1
    raw = [space.vector + 0.2 * d for d in path]
    average = raw[:1]
    for t in range(1, len(path)):
        average.append(averaging.update(average[-1], raw[t], t))
    flows = [[space.value_at(v) for v in vectors] for vectors in (average, raw)]
    expected, other = [[-flow.log_prob(held).mean() for flow in mine] for mine in flows]
    assert np.argmin(expected) != np.argmin(other) and patience_of_two(expected) != patience_of_two(other)

    def go(**arguments):
        return fit(normal_flow(), data(), steps=last, optimiser=Along(path), averaging=averaging, every=1, **arguments)

    seen = []
    r = go(validation=held, callback=lambda info, flow: seen.append(flow()))
    assert np.allclose(r.history["validation_loss"], expected, rtol=1e-12) and r.step == np.argmin(expected)
    assert all(np.allclose(flow.ravel(), own.ravel()) for flow, own in zip(seen, flows[0][1:], strict=True))
    r = go(validation=held, patience=2)
    end = patience_of_two(expected)
    assert (r.stopped, len(r.history["validation_loss"]) - 1) == (("steps", last) if end is None else ("patience", end))
    r = go(validation=0, callback=lambda info, flow: info["step"] == 3)
    assert r.stopped == "callback" and r.step == 3 and np.allclose(r.flow.ravel(), flows[0][3].ravel())

    def interrupt(info, flow):
        if info["step"] == 5:
            raise KeyboardInterrupt

    r = go(validation=0, callback=interrupt)
    assert r.step == 4 and np.allclose(r.flow.ravel(), flows[0][4].ravel())


def test_interruption_keeps_the_best_flow():
    def callback(info, flow):
        if info["step"] == 12:
            raise KeyboardInterrupt

    for settings in ({"validation": 0}, {"validation": 0.2, "rng": np.random.default_rng(0)},
                     {"validation": 0, "optimiser": LBFGS(), "fixed": "bijector"}):
        r = fit(normal_flow(), data(), steps=100, callback=callback, **settings)
        assert r.stopped == "interrupted" and len(r.history["step"]) == 12
        assert r.flow.log_prob(data()).mean() > normal_flow().log_prob(data()).mean()


def norm_flow(rng):
    """With batch normalisation, whose moving statistics are not parameters."""
    net = dense_network(rng, [1, 8, 2])
    stages = [AffineCoupling(masks.alternating(2), net), BatchNorm(np.zeros(2), np.ones(2)), ActNorm(np.ones(2))]
    return Flow(Inverse(Chain(stages)), StandardNormal(2))


RESUMED = {
    "adam": {}, "adam, batches": {"batch_size": 32, "averaging": EMA(0.9), "clip": ClipNorm(1.0)},
    "adamax": {"optimiser": AdaMax(), "averaging": Polyak(5), "schedule": Cosine(40), "batch_size": 100},
    "rmsprop": {"optimiser": RMSPropMomentum(momentum=MomentumRamp(3)), "batch_size": 70},
    "noise": {"transform": lambda x, rng: x + rng.random(x.shape), "batch_size": 32},
    "patience": {"patience": 1, "optimiser": Adam(0.2)}, "no validation": {"validation": 0, "batch_size": 64},
}


@pytest.mark.parametrize("name", RESUMED)
@pytest.mark.parametrize("make", [lambda rng: coupling_flow(rng, layers=2), norm_flow], ids=["couplings", "batch norm"])
@pytest.mark.parametrize("last", [3, 10, 17])
def test_a_fit_goes_on_from_a_state_with_the_same_bits(name, make, last):
    states = []

    def callback(info, flow):
        states.extend([info["state"]()] * (info["step"] == last))
        return False

    def go(**more):
        rng = np.random.default_rng(2)
        return fit(make(rng), data(200), steps=23, rng=rng, **RESUMED[name], **more)

    whole = go()
    assert go(callback=callback).flow.equals(whole.flow)        # making a state does not change what follows
    again = go(resume=states[0])
    assert again.flow.equals(whole.flow) and (again.step, again.stopped) == (whole.step, whole.stopped)
    assert all(np.array_equal(column, again.history[key]) for key, column in whole.history.items())


@pytest.mark.parametrize("losses, steps", [([5.0] * 9, 3), ([5.0, 4.6, 4.2, 3.8, 3.4, 3.0, 3.0, 3.0], 6)], ids=["level", "slow fall"])
def test_a_fit_goes_on_with_the_patience_that_is_left(losses, steps, monkeypatch):
    """Three evaluations without a fall by more than 1 below the mark; the lowest loss may lie between."""
    def stopped(losses, **more):
        measured = iter(losses)
        monkeypatch.setattr(Likelihood, "evaluate", lambda self, flow: next(measured))
        result = fit(normal_flow(), data(), steps=7, patience=3, flat=1.0, every=1, rng=np.random.default_rng(0), **more)
        return result.stopped, len(result.history["step"])

    states = []
    assert stopped(losses, callback=lambda info, flow: states.append(info["state"]())) == ("patience", steps)
    for state in states:
        assert stopped(losses[state.step + 1:], resume=state) == ("patience", steps), state.step


def test_the_state_of_an_interruption_is_that_of_the_last_whole_step():
    def noisy(x, rng):
        noisy.calls += 1
        x = x + rng.random(x.shape)
        if noisy.calls == 8:
            raise KeyboardInterrupt
        return x

    def go(**more):
        rng = np.random.default_rng(2)
        return fit(coupling_flow(rng), data(200), steps=23, batch_size=50, transform=noisy, rng=rng, **more)

    noisy.calls = 0
    stopped = go()
    assert stopped.stopped == "interrupted" and stopped.state.step == 7 == len(stopped.state.arrays["history.step"])
    assert go(resume=stopped.state).flow.equals(go().flow)


def test_states_that_do_not_fit():
    state = fit(normal_flow(), data(), steps=3, validation=0).state
    assert state.step == 3 and fit(normal_flow(), data(), steps=0, validation=0).state is None
    assert fit(normal_flow(), data(), steps=3, validation=0, optimiser=LBFGS(), fixed="bijector").state is None
    for given, settings in ((3, {}), (state, {"optimiser": LBFGS(), "fixed": "bijector"}), (state, {"optimiser": AdaMax()}),
                            (state, {"fixed": "bijector"})):
        with pytest.raises(ValueError, match="fit: resume must be "):
            fit(normal_flow(), data(), steps=5, validation=0, resume=given, **settings)
    with pytest.raises(ValueError, match="fit: resume must be the state of a fit with the same arguments"):
        fit(normal_flow(), data(10), steps=5, validation=0, resume=state)
    state = fit(linear_flow(), data(1), steps=3, validation=0).state
    with pytest.raises(ValueError, match="fit: resume must be the state of a fit with the same arguments"):
        fit_reverse_kl(linear_flow(), target, target_gradient, steps=5, rng=np.random.default_rng(0), resume=state)


def test_the_callback_stops_and_sees_the_flow():
    seen = []

    def callback(info, flow):
        seen.append((info["step"], info["loss"], flow()))
        return info["step"] == 4

    r = fit(normal_flow(), data(), validation=0, steps=100, callback=callback)
    assert r.stopped == "callback" and [s for s, _, _ in seen] == [1, 2, 3, 4] and r.flow.equals(seen[-1][2])
    assert seen[2][1] == pytest.approx(-seen[1][2].log_prob(data()).mean(), rel=1e-13)
    r = fit(normal_flow(), data(), validation=0, steps=100, callback=callback, optimiser=LBFGS(), fixed="bijector")
    assert r.stopped == "callback" and len(r.history["step"]) == 4


def test_masked_arrays_are_refused():
    x = np.ma.array(data(), mask=data() > 4)
    for given in ((x, {}), (data(), {"validation": x}), (data(), {"weights": np.ma.ones(300)})):
        with pytest.raises(ValueError, match="fit: [a-z]+ must not be a masked array"):
            fit(normal_flow(), given[0], steps=1, **{"validation": 0} | given[1])


def test_no_steps():
    flow = normal_flow()
    assert fit(flow, data(), steps=0, validation=0).flow is flow
    assert fit(flow, data(), steps=0, validation=0, optimiser=LBFGS()).flow is flow
    assert fit_reverse_kl(flow, target, target_gradient, steps=0, rng=np.random.default_rng(0)).flow is flow


def broken(log_det=None, slope=None):
    """An identity whose log-det, or gradient, is NaN where marked."""
    @bijector(domain=real, codomain=real, register=False)
    class Broken(Bijector):
        shift: Array = real()

        def inverse_and_log_det(self, x):
            return x - self.shift, np.where(log_det(self, x), np.nan, 0) if log_det else np.zeros_like(x)

        def inverse_vjp(self, x):
            def pullback(z_bar, l_bar):
                bar = np.where(slope(self, x), np.nan, z_bar) if slope else z_bar
                return bar, {"shift": -bar}

            return self.inverse_and_log_det(x), pullback

        def vjp(self, z):
            raise NotImplementedError

    return Broken(0.0)


def chain_with(page):
    return Flow(Chain([Affine(0.0, 1.0), page, Affine(0.0, 1.0)]), StandardNormal(()))


def test_a_nan_names_step_stage_and_event():
    x = np.array([0.0, 1.0, 7.0, 2.0])
    with pytest.raises(TrainingError) as found:
        fit(chain_with(broken(log_det=lambda f, x: x > 5)), x, validation=0)
    assert "step 1: the loss is nan; bijector.stages.1 (Broken): its log-det is nan for x[2]" in str(found.value)
    assert found.value.result.stopped == "failed" and found.value.result.step == 0
    with pytest.raises(TrainingError, match=r"gradient is not finite; bijector\.stages\.1 \(Broken\): its cotangent is nan"
                                            r" for x\[3\]"):
        fit(chain_with(broken(slope=lambda f, x: x == 2)), x, validation=0)
    with pytest.raises(TrainingError, match=r"bijector\.inner\.stages\.1\.stages\.0 \(Exp\): its value is inf for x\[1\]"):
        fit(Flow(Inverse(Chain([Affine(0.0, 1.0), Chain([Exp(), Affine(0.0, 1.0)])])), Uniform(0.0, 1e300)),
            np.array([1.0, 800.0]), validation=0)
    with pytest.raises(TrainingError, match=r"before the first step: the validation loss is nan; bijector\.stages\.1 \("):
        fit(chain_with(broken(log_det=lambda f, x: x > 5)), x[:2], validation=x[1:])


@pytest.mark.parametrize("optimiser", [Adam(), LBFGS()])
def test_a_failure_before_the_first_step_has_made_no_step(optimiser):
    flow = chain_with(broken(log_det=lambda f, x: x > 5))
    with pytest.raises(TrainingError, match="before the first step: ") as found:
        fit(flow, np.array([0.0, 1.0]), validation=np.array([7.0]), optimiser=optimiser)
    result = found.value.result
    assert result.step == 0 and result.stopped == "failed" and not len(result.history["step"])


@bijector(domain=real, codomain=real, register=False)
class Steep(Bijector):
    """An identity whose cotangents are not an identity's: the event's are multiplied, and the gradient of `factor` is `shift`."""

    factor: Array = real("D")
    shift: Array = real("D")

    def inverse_and_log_det(self, x):
        return x, np.zeros_like(x)

    def inverse_vjp(self, x):
        return self.inverse_and_log_det(x), lambda z_bar, l_bar: (self.factor * z_bar, {"factor": self.shift, "shift": 0 * x})

    def vjp(self, z):
        raise NotImplementedError


def test_what_makes_a_gradient_not_finite_is_looked_for_at_the_gradient_of_log_p():
    """That of one event's log p: what its cotangents overflow to, and the gradients of the fields, entry by entry."""
    def said(x, factor, shift=0.0):
        f = Steep(np.array([factor, 1.0]), np.array([0.0, 0.0]))
        object.__setattr__(f, "shift", np.array([1.0, shift]))
        return unlikely(Flow(f, StandardNormal(2)), np.array([[x, 2.0]]), np.array([4]))

    largest = np.finfo(np.float64).max
    assert said(1.0, largest) is None and said(2.0, largest) == "bijector (Steep): its cotangent is -inf for x[4]"
    assert said(1.0, 1.0, np.nan) == "bijector (Steep): the gradient of its inner.factor is not finite"


def test_a_nan_in_a_later_step_keeps_the_flow_before():
    flow = chain_with(broken(log_det=lambda f, x: (f.shift > 0.35) & np.isfinite(x)))
    x = np.full(8, 5.0) + np.arange(8) % 2
    with pytest.raises(TrainingError, match=r"step 5: the loss is nan; bijector\.stages\.1 \(Broken\)") as found:
        fit(flow, x, validation=0, optimiser=Adam(0.1))
    result = found.value.result
    assert result.step == 3 and np.isfinite(result.flow.log_prob(x)).all() and len(result.history["step"]) == 4
    assert result.flow.log_prob(x).mean() > flow.log_prob(x).mean()


def test_a_nan_inside_lifted_chains_and_factored_images_names_its_stage():
    lifted = Independent(Chain([Affine(0.0, 1.0), Inverse(Chain([Affine(0.0, 1.0), Exp()])), Affine(np.ones(2), 1.0)]))
    where = r"bijector\.inner\.stages\.1\.inner\.stages\.1 \(Exp\): its value is inf for x\[1\]"
    with pytest.raises(TrainingError, match=where):
        fit(Flow(lifted, Uniform(0.0, 1e300, (2,))), np.array([[2.0, 2.0], [2.0, 801.0]]), validation=0)

    rest = Chain([Affine(0.0, 1.0), Inverse(broken(log_det=lambda f, x: x > 5)), Reshape((1, 2, 2), (4,))])
    x = np.zeros((3, 2, 2, 2))
    x[2, 1, 0, 1] = 7.0
    where = r"inner\.rest\.stages\.1\.inner\.inner \(Broken\): its log-det is nan for x\[2\]"
    with pytest.raises(TrainingError, match=where):
        fit(Flow(Inverse(FactorOut(np.array([False, True]), rest)), StandardNormal(8)), x, validation=0)


def test_without_validation_a_failure_keeps_the_flow_of_the_lowest_loss():
    flow = realnvp(np.random.default_rng(0), 2, (6,), 2, "tanh")
    with pytest.raises(TrainingError, match="the loss is inf") as found:
        fit(flow, data(), validation=0, optimiser=Adam(1e6))
    result = found.value.result
    losses = result.history["loss"]
    assert result.step == losses.argmin() < len(losses) - 1
    assert -result.flow.log_prob(data()).mean() == pytest.approx(losses.min(), rel=1e-12)


def test_parameters_that_lbfgs_makes_infinite_are_a_failure():
    with pytest.raises(TrainingError, match="step 1: the parameters that LBFGS tries are not finite") as found:
        fit(realnvp(np.random.default_rng(0), 2, (6,), 2, "tanh"), data() * 1e100, validation=0, optimiser=LBFGS())
    assert found.value.result.step == 0


def test_an_event_outside_the_support_is_named():
    with pytest.raises(TrainingError, match=r"bijector\.stages\.1 \(Exp\): x\[2\]: .*must be finite and > 0"):
        fit(Flow(Chain([Affine(0.0, 1.0), Exp()]), StandardNormal(())), np.array([1.0, 2.0, -3.0]), validation=0)
    with pytest.raises(TrainingError, match=r"base \(Uniform\): its log density is -inf for x\[1\]"):
        fit(Flow(Affine(0.0, 1.0), Uniform(-1.0, 1.0)), np.array([0.5, 3.0]), validation=0)


class Jump:
    """An optimiser that moves everything to one number."""

    learning_rate = 1.0

    def __init__(self, to):
        self.to = to

    def start(self, vector):
        return {"t": 0}

    def step(self, vector, gradient, state, factor):
        return np.full_like(vector, self.to), {"t": state["t"] + 1}


def test_a_step_out_of_the_constraints_is_refused():
    flow = Flow(DenseLinear(np.eye(2)), StandardNormal(2))
    with pytest.raises(TrainingError, match=r"step 2: bijector: DenseLinear: W must be finite and invertible") as found:
        fit(flow, data(), validation=0, optimiser=Jump(0.0))
    assert found.value.result.step == 0
    with pytest.raises(TrainingError, match=r"step 2: base: Uniform: high must exceed low"):
        fit(Flow(Affine(0.0, 1.0), Uniform(-9.0, 9.0)), np.array([0.5, 3.0]), validation=0, optimiser=Jump(0.0),
            fixed="bijector")
    with pytest.raises(TrainingError, match=r"step 2: bijector: Affine: scale must be finite and not 0"):
        fit(Flow(Affine(0.0, 1.0), StandardNormal(())), np.array([0.5, 3.0]), validation=0, optimiser=Jump(-1e4))
    with pytest.raises(TrainingError, match=r"step 1: Jump gives parameters that are not finite"):
        fit(flow, data(), validation=0, optimiser=Jump(np.inf))


def test_scales_stay_positive_at_any_learning_rate():
    r = fit(normal_flow(), data(), validation=0, steps=20, optimiser=Adam(3.0), fixed="bijector")
    assert (np.diagonal(r.flow.base.cholesky) > 0).all()


def test_progress(capsys):
    fit(normal_flow(), data(), validation=0, steps=3)
    assert capsys.readouterr() == ("", "")
    fit(normal_flow(), data(), validation=0, steps=3, progress=True)
    out, err = capsys.readouterr()
    assert not out and "1/3  loss" in err and err.endswith("\r\033[K")
    fit(normal_flow(), data(), validation=0, steps=3, progress=True, gradient=LikelihoodGradient(threads=1))
    assert "  (1 thread)" in capsys.readouterr().err


def test_progress_shows_the_loss_of_each_step(monkeypatch, capsys):
    monkeypatch.setattr(Progress, "ELSEWHERE", 0.0)
    shown = []
    r = fit(normal_flow(), data(), validation=data(20, 2), steps=3, every=2, progress=lambda loss: shown.append(loss) or "word")
    losses, measured = r.history["loss"], r.history["validation_loss"]
    assert shown == [measured[0], losses[0], measured[1], losses[1], measured[2], losses[2]]
    assert [line.split("  ")[:3] for line in capsys.readouterr().err.splitlines()] == [
        ["1/3", "train word", "validation word (step 0)"], ["2/3", "train word", "validation word"],
        ["3/3", "train word", "validation word"]]


@pytest.mark.parametrize("change, words", [
    ({"x": np.array([[1.0, np.nan]])}, r"x must not be NaN; x\[0, 1\]"),
    ({"x": np.zeros(3)}, r"shape \(N, \*event\), with events of 1 axes, not \(3,\)"),
    ({"x": np.zeros((0, 2))}, "no event"), ({"x": np.zeros((3, 3))}, "C=2"),
    ({"weights": [1.0]}, "weights must have shape"), ({"weights": np.r_[-1.0, np.ones(299)]}, r"weights\[0\] = -1"),
    ({"weights": np.zeros(300)}, "are 0"), ({"rng": 3}, "rng must be"), ({"steps": 3, "epochs": 4}, "not both"),
    ({"steps": -1}, "steps must be"), ({"batch_size": 0}, "batch_size must be"), ({"validation": 1.5}, "validation must be"),
    ({"validation": 0, "patience": 3}, "patience needs"), ({"optimiser": "adam"}, "optimiser must be"),
    ({"optimiser": LBFGS(), "batch_size": 10}, "LBFGS takes no"), ({"clip": 5.0}, "clip must be"),
    ({"averaging": 0.9}, "averaging must be"), ({"context": np.zeros((300, 1))}, "declares context"),
    ({"schedule": 0.1}, "schedule must be"), ({"flow": ActNorm(np.ones(2))}, "flow must be a Flow"),
    ({"validation": (data(), data())}, "tuple"),
    ({"validation": data(), "context": np.zeros((300, 1)), "flow": None}, "tuple"),
    ({"validation": True}, "validation must be a fraction"), ({"validation": "a"}, "validation must be a fraction"),
    ({"validation": np.zeros(3)}, "validation must have shape"), ({"validation": np.zeros((0, 2))}, "validation holds no"),
    ({"context": 2.0, "flow": None}, r"a row for each of the 300 events of x, not have shape \(\)"),
    ({"optimiser": Adam}, "optimiser must be"), ({"schedule": Cosine}, "schedule must be"),
    ({"steps": True}, "steps must be"), ({"averaging": EMA}, "averaging must be")])
def test_bad_arguments_are_refused(change, words):
    arguments = {"flow": normal_flow(), "x": data(), "rng": np.random.default_rng(0)} | change
    if arguments["flow"] is None:
        arguments["flow"] = coupling_flow(np.random.default_rng(0), layers=1, context=1)
    with pytest.raises(ValueError, match=words):
        fit(arguments.pop("flow"), arguments.pop("x"), **arguments)


# ---------------------------------------------------------------- reverse KL

MEAN, COVARIANCE = np.array([1.0, -2.0]), np.array([[2.0, 0.8], [0.8, 1.0]])
PRECISION = np.linalg.inv(COVARIANCE)


def target(x):
    d = x - MEAN
    return -np.einsum("...i,ij,...j", d, PRECISION, d) / 2


def target_gradient(x):
    return -(x - MEAN) @ PRECISION


def kl_to_target(flow):
    A = flow.bijector.jacobian(np.zeros(2))
    d, S = flow.bijector.forward(np.zeros(2)) - MEAN, A @ A.T
    return (np.trace(PRECISION @ S) + d @ PRECISION @ d - 2 - np.linalg.slogdet(PRECISION @ S)[1]) / 2


def linear_flow():
    return Flow(PLULinear([0, 1], np.zeros((2, 2)), np.zeros((2, 2)), np.ones(2), np.zeros(2)), StandardNormal(2))


def test_reverse_kl_to_a_normal_density():
    rng = np.random.default_rng(0)
    r = fit_reverse_kl(linear_flow(), target, target_gradient, samples=64, steps=700, optimiser=Adam(0.05),
                       schedule=Cosine(700, 1e-3), rng=rng)
    assert kl_to_target(linear_flow()) > 1 and kl_to_target(r.flow) < 1e-3
    log_c = math.log(2 * math.pi) + np.linalg.slogdet(COVARIANCE)[1] / 2        # the integral of the target
    assert r.history["loss"][-50:].mean() == pytest.approx(-log_c, abs=0.02)
    again = fit_reverse_kl(linear_flow(), target, target_gradient, samples=64, steps=20, rng=np.random.default_rng(5))
    twice = fit_reverse_kl(linear_flow(), target, target_gradient, samples=64, steps=20, rng=np.random.default_rng(5))
    assert again.flow.equals(twice.flow) and again.step == 20


def test_reverse_kl_gradient():
    """(4) against central differences of (3) with the noise held fixed."""
    flow = Flow(Chain([linear_flow().bijector, Sigmoid()]), StandardNormal(2))
    space = Unconstrained(flow)

    def loss(vector):
        q = space.value_at(vector)
        x = q.sample(np.random.default_rng(1), 16)
        return (q.log_prob(x) - target(x)).mean()

    (x, log_q), pull = flow.sample_and_log_prob_vjp(np.random.default_rng(1), 16)
    gradient = space.gradient(space.vector, pull(-target_gradient(x) / 16, np.full(16, 1 / 16)))
    r = fit_reverse_kl(flow, target, target_gradient, samples=16, steps=1, rng=np.random.default_rng(1))
    assert r.history["loss"][0] == pytest.approx(loss(space.vector)) and log_q.shape == (16,)
    assert r.history["gradient_norm"][0] == pytest.approx(np.linalg.norm(gradient))
    for i, e in enumerate(np.eye(space.vector.size)):
        slope = (loss(space.vector + 1e-5 * e) - loss(space.vector - 1e-5 * e)) / 2e-5
        assert gradient[i] == pytest.approx(slope, rel=1e-6, abs=1e-7)


def test_reverse_kl_failures():
    rng = np.random.default_rng(0)
    with pytest.raises(TrainingError, match="step 1: the loss is nan; log_density is not finite at the sample"):
        fit_reverse_kl(linear_flow(), lambda x: np.where(x[:, 0] > 1, np.nan, 0.0), target_gradient, rng=rng)
    with pytest.raises(TrainingError, match="gradient is not finite at the sample"):
        fit_reverse_kl(linear_flow(), target, lambda x: np.where(x > 1, np.inf, 0.0), rng=rng)
    with pytest.raises(ValueError, match=r"log_density returned shape \(256, 2\), not \(256,\)"):
        fit_reverse_kl(linear_flow(), lambda x: x, target_gradient, rng=rng)
    with pytest.raises(ValueError, match="gradient must be that of log_density"):
        fit_reverse_kl(linear_flow(), target, lambda x: -target_gradient(x), rng=rng)
    for dtype in (np.float32, np.float64):
        with pytest.raises(ValueError, match="gradient must be that of log_density"):
            fit_reverse_kl(linear_flow().astype(dtype), target, lambda x: 1.05 * target_gradient(x), rng=rng)
        fit_reverse_kl(linear_flow().astype(dtype), target, target_gradient, steps=1, rng=rng)
    with pytest.raises(ValueError, match="LBFGS"):
        fit_reverse_kl(linear_flow(), target, target_gradient, optimiser=LBFGS(), rng=rng)
    with pytest.raises(ValueError, match="annealing must be callable, not 0.5"):
        fit_reverse_kl(linear_flow(), target, target_gradient, annealing=0.5, rng=rng)
    with pytest.raises(ValueError, match="fit_reverse_kl: resume must be a State"):
        fit_reverse_kl(linear_flow(), target, target_gradient, resume=3, rng=rng)


def wrong_entry(x):
    return target_gradient(x) * [1.0, 1.01]


def test_a_wrong_gradient_says_which_entry_is_wrong():
    with pytest.raises(ValueError, match=r"its entry \[1\] is (-?[\d.e-]+) at x = \[.*\], where differences of log_density give"):
        fit_reverse_kl(linear_flow(), target, wrong_entry, steps=1, rng=np.random.default_rng(0))
    for scale in (1e-6, 1e6):                               # steep and flat densities
        def log_density(x):
            return target(x / scale)
        refuse_other_gradient("f", log_density, lambda x: target_gradient(x / scale) / scale, np.eye(2) * scale)
        with pytest.raises(ValueError, match=r"entry \[1\]"):
            refuse_other_gradient("f", log_density, lambda x: wrong_entry(x / scale) / scale, np.eye(2) * scale)
    refuse_other_gradient("f", lambda x: np.zeros((len(x), 3)), np.zeros_like, np.ones((1, 3, 2)))


def test_a_density_that_jumps_is_refused():
    """A step of 0.01 inside the support; a wall to -inf, a corner and a steep slope are not jumps."""
    x = np.random.default_rng(0).standard_normal((16, 2))
    with pytest.raises(ValueError, match=r"log_density must be differentiable; it jumps by 0.01 at x = \["):
        refuse_other_gradient("f", lambda x: target(x) + 0.01 * (x[:, 0] > 0), target_gradient, x)
    with pytest.raises(ValueError, match="it jumps by 1e"):
        refuse_other_gradient("f", lambda x: target(x) - 1e7 * (x[:, 1] > 0.5), target_gradient, x)
    refuse_other_gradient("f", lambda x: target(x) - np.abs(x[:, 0]), lambda x: target_gradient(x) - np.sign(x) * [1, 0], x)
    refuse_other_gradient("f", lambda x: target(x) + np.tanh(1e4 * x[:, 0]),
                          lambda x: target_gradient(x) + 1e4 / np.cosh(np.minimum(1e4 * np.abs(x), 300)) ** 2 * [1, 0], x)
    refuse_other_gradient("f", lambda x: np.where(x[:, 0] > -5, target(x), -np.inf), target_gradient, x)


@pytest.mark.parametrize("dtype, steepness, mean", [(np.float32, 1.0, 1e4), (np.float32, 1e6, 100.0), (np.float64, 1e12, 0.0),
                                                    (np.float64, 1e15, 100.0)])
def test_slope_and_rounding_are_not_a_jump(dtype, steepness, mean):
    """Of normals that are narrow, or far away; a step that is larger than both is one."""
    x = mean + np.random.default_rng(0).standard_normal((8, 2))
    a, m = dtype(steepness), dtype(mean)

    def log_density(x, step=0.0):
        x = x.astype(dtype)
        return -(a * (x - m) ** 2 / 2).sum(1) + dtype(step) * (x[:, 0] > m)

    def gradient(x):
        return -a * (x - m)

    refuse_jump("f", log_density, gradient, x)
    with pytest.raises(ValueError, match="it jumps by"):
        refuse_jump("f", lambda x: log_density(x, steepness / 1000 + 0.1), gradient, x)


def test_a_small_jump_in_single_precision_is_refused():
    """A step of 0.05 where the log density is -1000: 400 times the spacing of float32 there."""
    x = np.random.default_rng(0).standard_normal((8, 2))
    for step in (0.05, 0.5):
        with pytest.raises(ValueError, match="it jumps by"):
            refuse_other_gradient("f", lambda x: (target(x) - 1000 + step * (x[:, 0] > 0)).astype(np.float32), target_gradient, x)


def test_a_second_sample_is_compared_however_large_it_is():
    """At the first one, where the slope is 0, a wrong factor is not seen."""
    x = np.repeat([0.0, 1.0], 600).reshape(2, 30, 20)
    with pytest.raises(ValueError, match=r"its entry \[0, 0\] is -2 at x"):
        refuse_other_gradient("f", lambda x: -(x ** 2).sum((1, 2)) / 2, lambda x: -2 * x, x)


def test_differences_are_taken_near_the_samples():
    """Not farther than a sixteenth of an entry, or of 1: elsewhere a density may be anything."""
    x, asked = np.array([[0.0, -0.5], [8.0, 100.0]]), []

    def log_density(x):
        asked.append(x)
        return -(x ** 2).sum(-1) / 2

    refuse_other_gradient("f", log_density, lambda x: -x, x)
    moved = np.abs(np.concatenate(asked[:2]).reshape(2, -1, *x.shape) - x).max(1)       # the first two are of the two entries
    assert np.array_equal(moved, np.stack([np.maximum(np.abs(x[:, j]), 1)[:, None] / 16 * (np.arange(2) == j) for j in (0, 1)]))


def test_the_densities_of_several_flows_are_added():
    """Each flow's density has the gradient of its own events."""
    x, scales = np.random.default_rng(0).standard_normal((4, 3, 2)), np.array([[1.0], [0.5], [3.0]])
    refuse_other_gradient("f", lambda x: -(scales * x ** 2).sum(-1) / 2, lambda x: -scales * x, x)
    with pytest.raises(ValueError, match=r"its entry \[0, 0\] is"):
        refuse_other_gradient("f", lambda x: -(scales * x ** 2).sum(-1) / 2, lambda x: -scales * x / 3, x)


@pytest.mark.parametrize("where, x", [
    (lambda x: (x[:, 1] > 2) & (x[:, 0] < 5), [[0.0, 0.0], [4.0, 0.0], [4.0, 4.0]]),
    (lambda x: x[:, 0] > 0.999, [[0.0, 0.0], [1.0, 0.0]]), (lambda x: x[:, 0] > 0.001, [[0.0, 0.0], [1.0, 0.0]])],
    ids=["second line", "last cell", "first cell"])
def test_a_jump_is_found_all_the_way_from_one_sample_to_the_next(where, x):
    with pytest.raises(ValueError, match="it jumps by 0.25 at x"):
        refuse_jump("f", lambda x: 0.25 * where(x), np.zeros_like, np.array(x))


@pytest.mark.parametrize("dtype, size, least", [(np.float64, 0.0, 1e-3), (np.float32, 2.0**20, 1e-3 + 4 * 2.0**-23 * 2.0**20)])
def test_how_large_a_jump_must_be(dtype, size, least):
    """A thousandth, and four roundings of a large log density."""
    def log_density(x, jump):
        return (jump * (x[:, 0] > 0) - size).astype(dtype)

    x = np.array([[-1.0], [1.0]])
    refuse_jump("f", lambda x: log_density(x, 0.9 * least), np.zeros_like, x)
    with pytest.raises(ValueError, match="it jumps by"):
        refuse_jump("f", lambda x: log_density(x, 1.15 * least), np.zeros_like, x)


def test_what_slope_and_rounding_explain_is_its_equation():
    """(1) of two cells whose ends have different slopes."""
    low, high, size = np.array([[1.0, -2.0], [0.5, 4.0]]), np.array([[3.0, 5.0], [0.5, 2.0]]), np.array([7.0, 0.25])
    d, slopes = high - low, [low**2, high**2]
    by_slope = np.abs((d * slopes[0]).sum(1)) + np.abs((d * slopes[1]).sum(1))
    by_rounding = size + np.abs(low * slopes[0]).sum(1)
    for eps in (0.0, 0.5):
        found = change_without_jump(np.square, eps, low, high, size)
        assert np.allclose(found, by_slope + ROUNDINGS * eps * by_rounding, rtol=1e-15)


def test_reverse_kl_is_annealed():
    """(3) and (4) with the power 1/4 in the first step."""
    arguments = {"samples": 16, "steps": 1, "annealing": Annealing(8, 0.125)}
    r = fit_reverse_kl(linear_flow(), target, target_gradient, rng=np.random.default_rng(1), **arguments)
    (x, log_q), pull = linear_flow().sample_and_log_prob_vjp(np.random.default_rng(1), 16)
    space = Unconstrained(linear_flow())
    gradient = space.gradient(space.vector, pull(-target_gradient(x) / 64, np.full(16, 1 / 16)))
    assert r.history["loss"][0] == pytest.approx((log_q - target(x) / 4).mean())
    assert r.history["gradient_norm"][0] == pytest.approx(np.linalg.norm(gradient))


def test_reverse_kl_is_resumed():
    """The same bits, with a state from the callback, and a best flow that follows."""
    def trained(**more):
        return fit_reverse_kl(linear_flow(), target, target_gradient, samples=8, steps=250, optimiser=Adam(0.05),
                              averaging=EMA(0.9), annealing=Annealing(100), rng=np.random.default_rng(1), **more)

    states = []
    whole = trained(callback=lambda info, flow: states.append(info["state"]()) if info["step"] == 160 else None)
    again = trained(resume=states[0])
    assert states[0].best.equals(trained(callback=lambda info, flow: info["step"] == 100).flow)
    assert again.flow.equals(whole.flow) and all(np.array_equal(again.history[k], whole.history[k]) for k in whole.history)


# ---------------------------------------------------------------- recipes

@pytest.mark.parametrize("settings", [recipes.nice(2), recipes.realnvp(), recipes.glow(2), recipes.glow_tts(16, 10)],
                         ids=["NICE", "RealNVP", "Glow", "Glow-TTS"])
def test_the_papers_settings_run(settings):
    rng = np.random.default_rng(0)
    stage = AffineCoupling(masks.alternating(2), dense_network(rng, [1, 8, 2]))
    r = fit(Flow(stage, StandardNormal(2)), data(150), **settings, epochs=4, validation=0, rng=rng)
    assert r.stopped == "steps" and np.isfinite(r.history["loss"]).all()
