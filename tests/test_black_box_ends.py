"""A black box at the ends of its sets: each planted mistake shows there in every seed, and the right twin is silent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import erf, expit, logit

import refflow
from refflow.oracle.boxes import black_box_laws
from refflow.oracle.boxes.black_box import BlackBox
from refflow.oracle.boxes.black_box_ends import EndPoints
from refflow.oracle.boxes.black_box_laws import run_law, verdict, verdicts

UNIT, HALF_LINE = (0, 1), (0, np.inf)


def cauchy(mistake):
    """The distribution function, whose left tail is -1/(pi z)."""
    def forward(z):
        return 0.5 + np.arctan(z) / np.pi if mistake else np.arctan2(1, -z) / np.pi

    return BlackBox(forward, lambda x: np.where(x < 0.5, -1 / np.tan(np.pi * x), np.tan(np.pi * (x - 0.5))), codomain=UNIT)


def kumaraswamy(mistake):
    """x = 1 - (1 - z^2)^3, whose log-det has log(1 - z^2)."""
    def forward(z):
        rest = np.log1p(-z * z) if mistake is None else np.log(1 - z**2 + 1e-12)
        return -np.expm1(3 * np.log1p(-z * z)), np.log(6 * z) + 2 * rest

    return BlackBox(forward, domain=UNIT, codomain=UNIT)


def clamped_logit(eps, dtype):
    def forward(z):
        held = np.clip(z, eps, 1 - eps) if eps else z
        return logit(held), -np.log(held) - np.log1p(-held)

    def inverse(x):
        return expit(x), -np.logaddexp(0, x) - np.logaddexp(0, -x)

    return BlackBox(forward, inverse, domain=UNIT, dtype=dtype)


def softplus(threshold):
    def forward(z):
        return np.where(z > threshold, z, np.logaddexp(0, z)), np.where(z > threshold, 0, -np.logaddexp(0, -z))

    return BlackBox(forward, codomain=HALF_LINE)


def sigmoid(shortcut):
    """e^z stands for the sigmoid far left, in float32."""
    def forward(z):
        x = np.where(z < -9, np.exp(z), expit(z)) if shortcut else expit(z)
        return x, -np.logaddexp(0, z) - np.logaddexp(0, -z)

    return BlackBox(forward, codomain=UNIT, dtype="float32")


def parabola(mistake):
    """A line, a parabola up to 1, and a line of its slope there; the root of a discriminant that is near 0 at the knot."""
    d = np.float32(11 * 2.0**-21)

    def forward(z):
        inner = np.clip(z, 0, 1)
        x = np.where(z < 0, 2 * z, 2 * inner - (1 - d) * inner * inner + 2 * d * (z - inner))
        return x, np.log(2 - 2 * (1 - d) * inner)

    def inverse(x):
        inner = 1 - (1 - d) * (np.clip(x, 0, 1 + d) + 7 - 7)        # as where knots are counted from -7
        z = (1 - np.sqrt(inner if mistake else np.maximum(inner, 0))) / (1 - d)
        return np.where(x < 0, x / 2, np.where(x > 1 + d, 1 + (x - (1 + d)) / (2 * d), z))

    return BlackBox(forward, inverse, dtype="float32")


def kinked(at, mistake):
    """The slopes are 1/2 and 2 on either side of a number, where the log-det is 5 by mistake."""
    def forward(z):
        l = np.where(z < at, -np.log(2), np.log(2))
        return at + np.where(z < at, 0.5, 2) * (z - at), np.where(z == at, 5.0, l) if mistake else l

    return BlackBox(forward)


SIDES = {"mean": np.sign, "left": lambda z: np.where(z > 0, 1.0, -1.0), "right": lambda z: np.where(z >= 0, 1.0, -1.0),
         "own": lambda z: np.copysign(1.0, z)}


def two_slopes(mistake, entries=1):
    """z e^a for z > 0, z e^-a for z < 0; the sides that the log-det, its inverse and the gradient take at 0."""
    of_log_det, of_inverse, of_gradient = (SIDES[side] for side in mistake.split())

    def log_det(sides):
        return 0.75 * sides if entries == 1 else 0.75 * sides.sum(-1)

    return BlackBox(lambda z: (z * np.exp(0.75 * np.sign(z)), log_det(of_log_det(z))),
                    lambda x: (x * np.exp(-0.75 * np.sign(x)), -log_det(of_inverse(x))), event=() if entries == 1 else (entries,),
                    pullback=lambda z, x_bar, log_det_bar: x_bar * np.exp(0.75 * of_gradient(z)))


def softsign(mistake):
    def inverse(x):
        return x / (1 - np.minimum(np.abs(x), 1 - 1e-6 if mistake else 1))

    return BlackBox(lambda z: z / (1 + np.abs(z)), inverse, codomain=(-1, 1))


def weibull(mistake):
    def forward(z):
        return (1 - np.exp(-z**1.5)) if mistake else -np.expm1(-z**1.5)

    return BlackBox(forward, lambda x: (-np.log1p(-x)) ** (1 / 1.5), domain=HALF_LINE, codomain=UNIT)


def gap(mistake):
    return BlackBox(lambda z: np.where(mistake & (z > 1e50) & (z < 1e110), np.nan, z))


MISTAKES = {                    # a function of the mistake, with the mistake, and without
    "the left tail of the Cauchy distribution": (cauchy, True, False),
    "an epsilon in Kumaraswamy's log-det": (kumaraswamy, "epsilon", None),
    "a logit that is clamped at 1e-6": (lambda eps: clamped_logit(eps, "float64"), 1e-6, 0),
    "a logit that is clamped at 1e-6, in float32": (lambda eps: clamped_logit(eps, "float32"), 1e-6, 0),
    "a logit that is clamped at 1e-7": (lambda eps: clamped_logit(eps, "float64"), 1e-7, 0),
    "a logit that is clamped at 1e-7, in float32": (lambda eps: clamped_logit(eps, "float32"), 1e-7, 0),
    "softplus is the identity from 20 on": (softplus, 20, np.inf),
    "a shortcut of the sigmoid": (sigmoid, True, False),
    "a negative discriminant": (parabola, True, False),
    "a log-det that is wrong at 0": (lambda mistake: kinked(0.0, mistake), True, False),
    "a log-det that is wrong at 1": (lambda mistake: kinked(1.0, mistake), True, False),
    "a log-det between the two at a kink": (two_slopes, "mean right right", "left left left"),
    "a log-det of another side than the inverse's": (two_slopes, "left right left", "right right right"),
    "a log-det of another side than the gradient's": (two_slopes, "right right left", "own own own"),
    "a log-det between the two at a kink of an entry": (lambda sides: two_slopes(sides, 3), "mean mean mean", "left left left"),
    "sides of an entry that differ": (lambda sides: two_slopes(sides, 3), "left right left", "own own own"),
    "a clamped inverse of softsign": (softsign, True, False),
    "1 - exp near 0": (weibull, True, False),
    "a gap in a tail": (gap, True, False),
}


def log_tanh(jumps, entries=1):
    """tanh up to 1, and then a logarithm, whose slope there is another one by mistake."""
    steepness = 1.3 if jumps else (1 - np.tanh(1.0) ** 2)

    def log_slope(z):
        inner = np.minimum(np.abs(z), 1)
        l = np.where(np.abs(z) <= 1, np.log1p(-np.tanh(inner) ** 2), np.log(steepness) - np.log(np.maximum(np.abs(z), 1)))
        return l if entries == 1 else l.sum(-1)

    def forward(z):
        inner = np.minimum(np.abs(z), 1)
        return np.sign(z) * (np.tanh(inner) + steepness * np.log(np.maximum(np.abs(z), 1))), log_slope(z)

    return BlackBox(forward, event=() if entries == 1 else (entries,), smooth=True)


def broken(box, seed):
    with np.errstate(all="ignore"):
        return {v.law: v.text for v in verdicts(box, seed) if v.status == "FAIL"}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_at_the_ends_is_found(name, seed):
    make, mistake, _ = MISTAKES[name]
    assert broken(make(mistake), seed)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", MISTAKES)
def test_the_right_twin_is_silent(name, seed):
    make, _, right = MISTAKES[name]
    assert broken(make(right), seed) == {}


@pytest.mark.parametrize("entries", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_a_slope_that_jumps(seed, entries):
    """It breaks a law if the map is declared smooth, and no other."""
    box = log_tanh(True, entries)
    assert set(broken(box, seed)) == {"the slope does not jump"}
    assert broken(replace(box, smooth=False), seed) == {}
    assert broken(log_tanh(False, entries), seed) == {}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("f", [refflow.Tanh(), refflow.Softplus(), refflow.NormalCDF(0.5, 3.0), refflow.SinhArcsinh(0.2, 1.5)],
                         ids=lambda f: type(f).__name__)
def test_a_smooth_map_is_silent(f, dtype):
    f = f.astype(np.dtype(dtype))
    for seed in range(3):
        run_law("the slope does not jump", BlackBox(f.forward_and_log_det, dtype=dtype, smooth=True), seed)


def test_the_units_know_the_ends():
    """A number near a declared end 0 has all of its digits; on the line, it has as many as 1 has there."""
    points = (EndPoints(BlackBox(np.exp, domain=domain), events=np.array([1e-100])) for domain in (HALF_LINE, None))
    assert [float(p.sizes[0]) for p in points] == [1e-100, 1.0]


@pytest.mark.parametrize("name", sorted(set(MISTAKES) - {"an epsilon in Kumaraswamy's log-det"}))     # nodes of an integral meet it
def test_moderate_latents_do_not_show_it(name, monkeypatch):
    monkeypatch.setattr(black_box_laws, "PRECISIONS", ())
    make, mistake, _ = MISTAKES[name]
    assert broken(make(mistake), 0) == {}


def test_the_quanta_of_a_sum_are_no_jump_back():
    """(1 + erf)/2 is right to a few units at -2.66, and falls there by the spacing of 1/2: its neighbours all have the same image."""
    run_law("monotone", BlackBox(lambda z: (1 + erf(z / np.sqrt(2))) / 2, codomain=UNIT), 0, np.linspace(-2.67, -2.65, 40))


def test_a_failure_names_the_event_that_is_not_excused():
    """The log-det outgrows its dtype on both sides, and is not a number far out on one."""
    def forward(z):
        with np.errstate(all="ignore"):
            return np.tanh(z), np.where(z > 1e100, np.nan, -np.exp(np.abs(z)))

    found = verdict("finite", BlackBox(forward), 0)
    assert found.status == "FAIL" and "is nan" in found.text


def test_a_failure_of_the_reversed_box_shows_at_an_image():
    box = BlackBox(lambda z: z, lambda x: np.where(x < 1e-100, np.nan, x), domain=HALF_LINE, codomain=HALF_LINE)
    found = verdict("forward of inverse", box, 0)
    assert found.text.startswith("the latent at 1e-") and found.places["latents"] == [] and found.places["images"][0] < 1e-100
