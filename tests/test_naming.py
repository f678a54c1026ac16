"""What a black box's failures are called: each known mistake by its name, and others by none, whatever they look like."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

from refflow.oracle.naming import of_laws as naming
from refflow.testing import BlackBox, verdicts

DIFFERENCES, BACK, TRIP = "log-det is the determinant of differences", "inverse log-det is minus log-det", "inverse of forward"


def named(box):
    """{law: diagnosis} of what fails."""
    return {one.law: one.diagnosis for one in verdicts(box).failed}


def scaled(log_det, event=(3,)):
    """x = z exp(tanh z / 2), entry by entry, with a log-det of the terms log|dx/dz|."""
    def forward(z):
        t = np.tanh(z)
        return z * np.exp(t / 2), log_det(t / 2 + np.log1p(z * (1 - t * t) / 2))

    return BlackBox(forward, event=event)


KNOWN = {
    "negated: the log-det of the other direction": lambda terms: -terms.sum(-1),
    "doubled": lambda terms: 2 * terms.sum(-1),
    "halved": lambda terms: terms.sum(-1) / 2,
    "the mean over its entries": lambda terms: terms.mean(-1),
    "the term of one entry": lambda terms: terms[..., 1],
    "log2|det|": lambda terms: terms.sum(-1) / np.log(2),
    "a constant term: 1/2 log(2 pi) less": lambda terms: terms.sum(-1) - np.log(2 * np.pi) / 2,
    "a constant term: 3 times log 2 more": lambda terms: terms.sum(-1) + 3 * np.log(2),
    "a number rounded to float32: the term log 2": lambda terms: terms.sum(-1) + float(np.float32(np.log(2))) - np.log(2),
    "infinite": lambda terms: np.where(terms.sum(-1) > 0.5, -np.inf, terms.sum(-1)),
}


@pytest.mark.parametrize("kind", KNOWN)
def test_a_known_mistake_is_named(kind):
    found = named(scaled(KNOWN[kind]))
    assert kind in found.get(DIFFERENCES, "infinite" if "finite" in found else ""), found


def bent(a):
    return a / np.sqrt(1 + a * a)


def coupled(log_scale, back=None):
    """A coupling of pairs; `log_scale` as the log-det has it."""
    def forward(z):
        s = bent(z[..., :1])
        return np.concatenate((z[..., :1], z[..., 1:] * np.exp(s)), -1), log_scale(s, z).sum(-1)

    def inverse(x):
        s = bent(x[..., :1])
        return np.concatenate((x[..., :1], x[..., 1:] * np.exp(-s)), -1), -back(s, x).sum(-1)

    return BlackBox(forward, back and inverse, event=(2,))


def right(s, z):
    return s


def test_what_is_taken_elsewhere_is_named():
    at_image = BlackBox(lambda z: (np.sinh(z), np.log(np.cosh(np.sinh(z)))), lambda x: (np.arcsinh(x), -np.log(np.cosh(x))))
    assert named(at_image)[DIFFERENCES] == "taken at the image instead of at the latent"
    wrong_point = named(coupled(right, lambda s, x: bent(x[..., 1:])))
    assert wrong_point[BACK].startswith("taken at the wrong point: it moves with entry (1,) of the latent")
    other = named(coupled(lambda s, z: -np.logaddexp(0, -s)))
    assert other[DIFFERENCES] == "the log-det of a scale sigmoid(s), where the map has exp(s)"


def test_the_inverse_is_not_blamed_for_the_log_det_of_forward():
    """Where the log-det of forward is not the determinant, the inverse's is not held against it."""
    found = named(coupled(lambda s, z: bent(z[..., 1:]), right))
    assert BACK in found and found[BACK] == ""


def test_a_pullback_is_named():
    for factor, name in ((2, "doubled"), (-1, "negated"), (0.5, "halved")):
        box = BlackBox(lambda z: (z**3 + z, np.log(3 * z * z + 1)), pullback=lambda z, x_bar, l_bar, factor=factor: factor * (
            x_bar * (3 * z * z + 1) + l_bar * 6 * z / (3 * z * z + 1)))
        assert named(box)["pullback is the gradient"] == name


def test_a_lost_sign_is_named():
    assert named(BlackBox(np.sinh, lambda x: np.arcsinh(np.abs(x))))[TRIP] == "the sign is lost"


# -- and nothing else -------------------------------------------------------------------------------------------------

def sylvester(z):
    """x = z + u tanh(w z + b), with 1 + w u (1 - t^2)/2 for 1 + w u (1 - t^2)."""
    u, w = np.array([0.5, -0.25, 0.75]), np.array([0.3, 1.0, 0.5])
    t = np.tanh(z @ w + 0.25)
    return z + u * t[:, None], np.log1p((w @ u) * (1 - t * t) / 2)


def leaking(z):
    """An autoregressive map whose first entry reads the last one."""
    s = 0.1 * np.stack((z[..., 2], z[..., 0], z[..., 1]), -1)
    return z * 1.5 + s, np.full(len(z), 3 * np.log(1.5))


def curved_leak(z):
    s = 0.3 * np.tanh(np.stack((z[..., 2], z[..., 0], z[..., 1]), -1))
    return z * np.exp(s), s.sum(-1)


def sinh_back(inverse):
    return BlackBox(np.sinh, inverse)


UNKNOWN = {
    "a threshold": lambda: sinh_back(lambda x: np.where(np.abs(x) < 1e-2, x, np.arcsinh(x))),
    "a threshold on one side": lambda: sinh_back(lambda x: np.where(x < -50, -np.log(-2 * x), np.arcsinh(x))),
    "a clamp of the result": lambda: sinh_back(lambda x: np.clip(np.arcsinh(x), -3, 3)),
    "a clamp on one side": lambda: sinh_back(lambda x: np.maximum(np.arcsinh(x), -3)),
    "a clamp of the scale": lambda: coupled(lambda s, z: np.clip(s, -0.5, 0.5)),
    "an epsilon under a root": lambda: sinh_back(lambda x: np.sign(x) * np.arcsinh(np.sqrt(x * x + 1e-8))),
    "an epsilon beside the input": lambda: sinh_back(lambda x: np.arcsinh(x + 1e-8)),
    "an epsilon in a log-det": lambda: coupled(lambda s, z: np.log(np.exp(s) + 1e-6)),
    "an epsilon in a division": lambda: BlackBox(lambda z: z * 2.0, lambda x: x / (2 + 1e-8), event=(2,)),
    "a wrong formula": lambda: BlackBox(sylvester, event=(3,)),
    "a leak": lambda: BlackBox(leaking, event=(3,)),
    "a curved leak": lambda: BlackBox(curved_leak, event=(3,)),
    "nearly a constant": lambda: scaled(lambda terms: terms.sum(-1) + 0.25 + 1e-6 * np.sin(terms[..., 0])),
    "nearly doubled": lambda: scaled(lambda terms: 2 * terms.sum(-1) + 1e-9),
    "a forward that is not exact": lambda: BlackBox(lambda z: (stats.skewnorm.cdf(z, 3.0), stats.skewnorm.logpdf(z, 3.0))),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_nothing_is_said_of_a_mistake_that_is_not_known(what):
    found = named(UNKNOWN[what]())
    assert found and set(found.values()) == {""}, found


def test_a_constant_that_nobody_knows_is_told_as_a_number():
    assert set(named(scaled(lambda terms: terms.sum(-1) + 0.25)).values()) == {"a constant term: +0.25 everywhere"}


def test_neither_the_image_nor_the_log_det_is_blamed():
    """Differences of the image say one thing and the log-det another: either may be wrong."""
    found = {one.law: one.text for one in verdicts(UNKNOWN["a forward that is not exact"]()).failed}
    assert "and of differences of forward" in found[DIFFERENCES]


def test_an_image_and_log_det_of_sigmoid():
    """A right box has no failures to name."""
    assert named(BlackBox(lambda z: (expit(z), -np.logaddexp(0, z) - np.logaddexp(0, -z)))) == {}


def test_a_comparison_that_is_too_wide_is_seen(monkeypatch):
    """A planted bug: mistakes that agree in half of the digits are taken for the answer."""
    nearly = UNKNOWN["nearly doubled"]()
    monkeypatch.setattr(naming, "gives", lambda mistake, clue: np.allclose(clue.given, mistake.answer(clue)[0], rtol=1e-6, atol=1e-8))
    assert named(nearly)[DIFFERENCES] == "doubled"


def test_right_points_contradict_a_mistake():
    """Half of the points are negated: a mistake of all of them would show at the others."""
    found = named(scaled(lambda terms: np.where(terms[..., 0] > 0, -1, 1) * terms.sum(-1)))
    assert found[DIFFERENCES] == ""


# -- maps that find one entry after the other --------------------------------------------------------------------------

def in_turn(reads, back=None, epsilon=0.0):
    """x_i = z_i exp(s_i) with s = bent(W z), a row of W for each entry; the inverse finds the entries in order."""
    W = 0.3 * np.array(reads, float)

    def forward(z):
        s = bent(z @ W.T)
        return z * np.exp(s), s.sum(-1)

    def inverse(x):
        z = np.zeros_like(x)
        for i in back or range(x.shape[-1]):
            z[..., i] = x[..., i] * np.exp(-bent(z @ W[i])) + epsilon
        return z

    return BlackBox(forward, inverse, event=(3,))


@pytest.mark.parametrize("reads, name", [
    ([[0, 0, 0], [1, 0, 0], [1, 1, 0]], None),
    ([[0, 0, 1], [1, 0, 0], [1, 1, 0]], "entry (0,) of the image reads entry (2,) of the latent, which the inverse does not undo"),
    ([[0, 0, 0], [1, 0, 1], [1, 1, 0]], "entry (1,) of the image reads entry (2,) of the latent, which the inverse does not undo"),
])
def test_what_reads_too_much_is_named(reads, name):
    assert named(in_turn(reads)).get(TRIP) == name


def test_an_epsilon_in_a_triangular_map_has_not_that_name():
    assert "reads" not in named(in_turn([[0, 0, 0], [1, 0, 0], [1, 1, 0]], epsilon=1e-6))[TRIP]


def test_terms_that_are_left_out_are_named():
    """Of the last row of a matrix of entries; not of what is off by another number."""
    right = "the terms of the entries [1, :] are left out"
    for terms, name in ((lambda terms: terms[..., :-1, :], right), (lambda terms: terms * np.array([[1.0], [0.5]]), "")):
        box = scaled(lambda every, terms=terms: terms(every).sum((-1, -2)), (2, 3))
        assert named(box).get(DIFFERENCES) == name
