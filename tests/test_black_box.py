"""A black box: each planted mistake is found under its law's name, and innocent flows pass."""

from __future__ import annotations

import numpy as np
import pytest

import refflow
from refflow.testing.black_box import BlackBox
from refflow.testing.black_box_laws import LAWS, Skipped, run_law, verdicts

SCALE = np.array([0.5, -1.25, 0.75])


def conditioner(a, weight=0.7):
    return np.tanh(weight * a), 0.3 * a


def coupling(mistake=None, scale=np.exp, log_scale=lambda s: s, backwards=None):
    """An affine coupling of pairs, by hand, with at most one mistake."""
    weight = np.array(0.7)
    unused = np.array(0.25)

    def parts(event):
        a, b = event[..., :1], event[..., 1:]
        s, t = conditioner(a, float(weight))
        return a, b, s, t

    def forward(z):
        a, b, s, t = parts(z)
        if mistake == "writes":
            z[..., 1:] *= 1.0 + 2.0**-20
        if mistake == "no batch" and len(z) == 0:
            raise IndexError("an empty batch")
        x_b = b * scale(s) + t
        if mistake == "float32":
            x_b = x_b * float(np.float32(0.1)) * 10
        log_det = log_scale(s) if mistake == "missing sum" else log_scale(s).sum(-1)
        if mistake == "batch":
            x_b = x_b + 1e-9 * z.mean()
        if mistake == "log-det alone":
            log_det = log_det + float(unused)
        return np.concatenate((a, x_b), -1), log_det

    def inverse(x):
        a, b, s, t = parts(x)
        z = np.concatenate((a, (b - t) / (scale(s) + (1e-8 if mistake == "epsilon" else 0))), -1)
        at = x[..., 1:] if mistake == "wrong point" else x[..., :1]
        log_det = -log_scale(conditioner(at)[0]).sum(-1)
        return z, -log_det if mistake == "sign" else log_det

    def pullback(z, x_bar, log_det_bar):
        a, b, s, _ = parts(z)
        s_bar = (x_bar[..., 1:] * b * scale(s) + log_det_bar[..., None]) * (1 - s * s)
        through = 0.3 * x_bar[..., 1:] * (mistake != "gradient")
        return np.concatenate((x_bar[..., :1] + 0.7 * s_bar + through, x_bar[..., 1:] * scale(s)), -1), {}

    return BlackBox(forward, inverse, event=(2,), pullback=pullback, parameters=[weight, unused])


def sigmoid(s):
    return 1 / (1 + np.exp(-s))


def root(mistake=None):
    """x = z + root(1 + z^2), whose inverse has two branches; with an epsilon under the root, a changed function."""
    def forward(z):
        r = np.sqrt(z * z + 1)
        x = np.where(z < 0, 1 / (r - z), z + r)
        return x, np.log(x / np.sqrt(z * z + 1 + (1e-9 if mistake == "epsilon" else 0)))

    def inverse(x):
        z = np.abs(x - 1 / x) / 2 if mistake == "single branch" else (x - 1 / x) / 2
        return z, np.log1p(1 / x**2) - np.log(2)

    return BlackBox(forward, inverse)


MISTAKES = {
    "exp for sigmoid(s + 2)": (coupling(scale=lambda s: sigmoid(s + 2), log_scale=lambda s: s),
                               "log-det is the determinant of differences"),
    "inverse log-det at the wrong point": (coupling("wrong point"), "inverse log-det is minus log-det"),
    "inverse log-det of the wrong sign": (coupling("sign"), "inverse log-det is minus log-det"),
    "missing sum": (coupling("missing sum"), "log-det shape"),
    "float32 constant": (coupling("float32"), "inverse of forward"),
    "epsilon in a division": (coupling("epsilon"), "inverse of forward"),
    "epsilon under a root": (root("epsilon"), "log-det is the determinant of differences"),
    "single branch": (root("single branch"), "inverse of forward"),
    "input written to": (coupling("writes"), "inputs are not written to"),
    "statistics of the batch": (coupling("batch"), "batch is the stack of singles"),
    "a parameter that only the log-det reads": (coupling("log-det alone"), "every parameter reaches the image"),
    "an empty batch": (coupling("no batch"), "an empty batch is empty"),
    "a term missing from the gradient": (coupling("gradient"), "pullback is the gradient"),
    "a mass that is not 1": (BlackBox(lambda z: (z, 0 * z), lambda x: (x, 0 * x + 1e-4)), "mass is one"),
    "it turns": (BlackBox(lambda z: np.where(z > 2, 4 - z, z)), "monotone"),
    "NaN in the tails": (BlackBox(lambda z: np.where(np.abs(z) > 5, np.nan, z)), "a batch of tails is the stack of its events"),
    "NaN": (BlackBox(lambda z: np.log(z)), "finite"),
    "noise": (BlackBox(lambda z: z + 1e-12 * np.random.default_rng().standard_normal(z.shape)), "deterministic"),
    "log_prob without its log-det": (BlackBox(lambda z: (2 * z, np.full(len(z), np.log(2))),
                                              lambda x: (x / 2, np.full(len(x), -np.log(2))),
                                              log_prob=lambda x: -x**2 / 8 - np.log(2 * np.pi) / 2),
                                     "log_prob is the base and the log-det"),
    "two log-dets": (BlackBox(lambda z: (2 * z, np.full(len(z), np.log(2))), log_det=lambda z: np.full(len(z), 0.7)),
                     "fused is separate"),
    "an image that is not reached": (BlackBox(np.exp, lambda x: np.log(x + 1e-6)), "forward of inverse"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found(name):
    box, law = MISTAKES[name]
    with pytest.raises(AssertionError), np.errstate(all="ignore"):
        try:
            run_law(law, box)
        except (IndexError, Skipped) as other:
            raise AssertionError(str(other)) from None


def test_every_law_has_a_mistake():
    assert {law for _, law in MISTAKES.values()} == set(LAWS)


def test_skipping_is_not_finding():
    """A mistake counts as found by its law's message, not because the law could not be asked."""
    for name, (box, law) in MISTAKES.items():
        with np.errstate(all="ignore"):
            found = {v.law: v for v in verdicts(box)}[law]
        assert found.status == "FAIL" and found.text, name


@pytest.mark.parametrize("make", [coupling, root], ids=["coupling", "root"])
def test_the_healthy_form_passes(make):
    assert [v for v in verdicts(make()) if v.status == "FAIL"] == []


PAGES = {"Tanh": refflow.Tanh(), "Softplus": refflow.Softplus(), "Affine": refflow.Affine(0.5, -2.0), "Sigmoid": refflow.Sigmoid(),
         "Softsign": refflow.Softsign(), "NormalCDF": refflow.NormalCDF(0.5, 3.0), "Exp": refflow.Exp()}


@pytest.mark.parametrize("dtype", ("float64", "float32"))
@pytest.mark.parametrize("name", PAGES)
def test_no_false_alarm(name, dtype):
    f = PAGES[name].astype(np.dtype(dtype))
    box = BlackBox(f.forward_and_log_det, f.inverse_and_log_det, log_det=f.log_det, dtype=dtype,
                   pullback=lambda z, x_bar, l_bar: f.vjp(z)[1](x_bar, l_bar))
    for seed in range(3):
        assert [v for v in verdicts(box, seed) if v.status == "FAIL"] == []


@pytest.mark.parametrize("dtype", ("float64", "float32", "float16", "bfloat16"))
def test_torch(dtype):
    torch = pytest.importorskip("torch")
    scale = torch.nn.Parameter(torch.tensor([0.5, 2.0, 1.25], dtype=getattr(torch, dtype)))

    def forward(z):
        return z * scale, torch.log(scale).sum().expand(z.shape[:-1])

    box = BlackBox(forward, lambda x: (x / scale, -torch.log(scale).sum().expand(x.shape[:-1])), event=(3,), backend="torch",
                   dtype=dtype, parameters=lambda: iter([scale]))
    assert [v for v in verdicts(box) if v.status == "FAIL"] == []
    assert scale.tolist() == [0.5, 2.0, 1.25]               # the box's parameters are as they were


@pytest.mark.parametrize("given, message", [
    ({"forward": 3}, "forward must be a function, not 3"), ({"inverse": "f"}, "inverse must be a function"),
    ({"dtype": "int8"}, "dtype must be one of"), ({"backend": "mxnet"}, "backend must be one of")])
def test_errors_of_use(given, message):
    with pytest.raises(ValueError, match=f"BlackBox: {message}"):
        BlackBox(**{"forward": np.exp} | given)
