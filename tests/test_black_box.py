"""A black box: each planted mistake is found under its law's name, most by that law alone, and innocent flows pass."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest
from scipy.special import expit, ndtri

import refflow
from refflow.oracle.boxes import black_box_laws, black_box_points
from refflow.oracle.boxes.black_box import BlackBox
from refflow.oracle.boxes.black_box_laws import LAWS, Found, Skipped, run_law, verdict, verdicts
from refflow.oracle.boxes.black_box_points import BoxPoints, event_text

pytest_plugins = ("pytester",)
SCALE = np.array([0.5, -1.25, 0.75])


def coupling(mistake=None, scale=np.exp, log_scale=lambda s: s, trained=False, **more):
    """An affine coupling of pairs, by hand, with at most one mistake."""
    weight = np.array(0.0 if mistake == "initialised to 0" else 0.7)

    def parts(event):
        a, b = event[..., :1], event[..., 1:]
        return a, b, np.tanh(float(weight) * a), 0.3 * a

    def forward(z):
        a, b, s, t = parts(z)
        x_b = b * scale(s) + t
        if mistake == "float32":
            x_b = x_b * float(np.float32(0.1)) * 10
        if mistake == "initialised to 0":
            return np.concatenate((a, x_b), -1), 2 * s.sum(-1)
        return np.concatenate((a, x_b), -1), log_scale(s) if mistake == "missing sum" else log_scale(s).sum(-1) + off

    def inverse(x):
        a, b, s, t = parts(x)
        z = np.concatenate((a, (b - t) / (scale(s) + (1e-8 if mistake == "epsilon" else 0))), -1)
        at = x[..., 1:] if mistake == "wrong point" else x[..., :1]
        log_det = -log_scale(np.tanh(float(weight) * at)).sum(-1) - off
        return z, -log_det if mistake == "sign" else log_det

    def pullback(z, x_bar, log_det_bar):
        a, b, s, _ = parts(z)
        s_bar = (x_bar[..., 1:] * b * scale(s) + log_det_bar[..., None]) * (1 - s * s)
        through = 0.3 * x_bar[..., 1:] * (mistake != "gradient")
        z_bar = np.concatenate((x_bar[..., :1] + float(weight) * s_bar + through, x_bar[..., 1:] * scale(s)), -1)
        return z_bar, [(s_bar * a).sum() * (2 if mistake == "gradient of a parameter" else 1)]

    off = float(mistake.removeprefix("off by ")) if str(mistake).startswith("off by ") else 0
    if mistake == "initialised to 0":
        return BlackBox(forward, event=(2,), parameters=[weight])
    more = ({"pullback": pullback} if scale is np.exp else {}) | ({"parameters": [weight]} if trained else {}) | more
    return BlackBox(forward, inverse, event=(2,), **more)


def root(mistake=None):
    """x = z + root(1 + z^2), whose inverse has two branches; with an epsilon under the root, a changed function."""
    def forward(z):
        r = np.hypot(z, 1)
        x = np.where(z < 0, 1 / (r - z), z + r)
        return x, np.log(x) - np.log(np.hypot(z, np.sqrt(1 + (1e-9 if mistake == "epsilon" else 0))))

    def inverse(x):
        z = np.abs(x - 1 / x) / 2 if mistake == "single branch" else (x - 1 / x) / 2
        return z, np.logaddexp(0, -2 * np.log(x)) - np.log(2)

    return BlackBox(forward, inverse)


def doubled(z):
    """x = 2 z of one number, with its log-det."""
    return 2 * z, np.full(len(z), np.log(2))


def halved(x):
    return x / 2, np.full(len(x), -np.log(2))


def quadratic(a):
    """x = a z |z| + z, whose inverse divides by a."""
    return BlackBox(lambda z: a * z * abs(z) + z, lambda x: np.sign(x) * (np.sqrt(1 + 4 * a * abs(x)) - 1) / (2 * a))


def fold(z):
    return np.stack((np.abs(z[..., 0]), z[..., 1]), -1), np.zeros(len(z))


def all_far(z):
    """The entries inside are selected, and nothing may be selected."""
    if len(z) > 1 and (np.abs(z) > 5).all():
        raise IndexError("no entry is inside")
    return z


def raises_when_empty(z):
    return z + 0 * z[0]


def folded_plane(z):
    """A planar flow with w^T u = -3: its slope along w is negative near the hyperplane, and its log-det right everywhere."""
    h = np.tanh(z[:, :1])
    return z - 3 * h * [1.0, 0.5], np.log(np.abs(1 - 3 * (1 - h[:, 0] ** 2)))


def overwrites(z):
    x = 2 * z
    z *= 0
    return x


def jitters(z):
    return z * (1 + 2.0**-52 * np.random.default_rng().integers(0, 2, z.shape))


def remembers():
    """Its images move with the number of inverses that were asked."""
    asked = []
    return BlackBox(lambda z: z * (1 + 2.0**-52 * len(asked)), lambda x: asked.append(x) or x)


def steep_tails(z):
    """tanh z, whose log-det is -inf where 1 - tanh^2 z rounds to 0."""
    with np.errstate(divide="ignore"):
        return np.tanh(z), np.log(1 - np.tanh(z)**2)


def sinc(z):
    return np.sin(z) / np.sin(z) * z


def two_images(mistake=False):
    """A line in the plane, whose log-det alone reads a parameter."""
    unused = np.array(0.25)
    return BlackBox(lambda z: (np.concatenate((z, z), -1), np.log(2) / 2 + unused * np.ones(len(z))), event=(1,),
                    parameters=[unused])


def channels(mistake=None):
    """x = exp(s) z + b, with a scale and a bias for each of three channels, and at most one mistake in one entry."""
    s, b = np.array([0.25, -0.5, 0.75]), np.array([0.5, 1.5, -1.0])

    def forward(z):
        used = s * [1, 0, 1] if mistake == "an entry that only the log-det reads" else s
        return z * np.exp(used) + b, np.full(len(z), s.sum())

    def pullback(z, x_bar, log_det_bar):
        b_bar = x_bar.sum(0)
        swapped = b_bar[[1, 0, 2]] if mistake == "entries of a gradient swapped" else b_bar
        return x_bar * np.exp(s), [(x_bar * z * np.exp(s)).sum(0) + log_det_bar.sum(), swapped]

    return BlackBox(forward, event=(3,), parameters=[s, b], pullback=pullback)


def counts_its_batch(mistake):
    """Its images are moved in a batch of several events; the gradient by its parameter may be right at 0 alone."""
    s = np.array(0.0)

    def pullback(z, x_bar, log_det_bar):
        return x_bar * np.exp(s), [(x_bar * z * (1 if mistake else np.exp(s)) + log_det_bar).sum()]

    return BlackBox(lambda z: (z * np.exp(s) + 1e-9 * (len(z) > 1), np.full(len(z), float(s))), parameters=[s], pullback=pullback)


def shifted_log_det(off):
    """x = tanh z + z in float16."""
    return BlackBox(lambda z: (np.tanh(z) + z, np.log1p(1 - np.tanh(z)**2) + np.float16(off)), dtype="float16")


def softplus_in_float32(cancels):
    """Beside its float64: log(1 + exp z) loses exp z beside 1."""
    def forward(z):
        if cancels and z.dtype == np.float32:
            return np.log(1 + np.exp(-np.abs(z))) + np.maximum(z, 0)
        return np.logaddexp(z.dtype.type(0), z)

    return BlackBox(forward, dtype="float32", wider=BlackBox(forward, dtype="float64"))


def sequences(reads):
    """Each position is moved by the mean of all of them, or of the valid ones alone."""
    def forward(z):
        return masked(z, np.ones((len(z), z.shape[-1]), bool))

    def masked(z, mask):
        kept = np.where(mask[:, None, :], z, 0)
        mean = (z if reads else kept).sum(-1, keepdims=True) / mask.sum(-1)[:, None, None]
        x = np.where(mask[:, None, :], z * np.exp(0.5) + 0.1 * np.tanh(mean), 0)
        return (x,)[0]

    return BlackBox(forward, event=(1, 4), masked=masked)


def model(mistake=None, direction="forward"):
    """x = 2 z as a whole model: log_prob, samples, and a file."""
    rng, state, weight = np.random.default_rng(5), {"sampled": False}, np.array(2.0)

    def log_prob(x):
        base = -x**2 / 8 - np.log(2 * np.pi) / 2 - (0 if mistake == "no log-det" else np.log(2))
        return base + (1 if mistake == "after sampling" and state["sampled"] else 0)

    def sample(n):
        state["sampled"] = True
        return {"sampled too wide": 1.2, "sampled too narrow": 0.9}.get(mistake, 1.0) * 2 * rng.standard_normal(n)

    def reload():
        loaded = 2.0 if mistake == "not saved" else float(weight)
        return BlackBox(lambda z: loaded * z, lambda x: x / loaded)

    if mistake in ("not saved", "saved"):
        return BlackBox(lambda z: float(weight) * z, reload=reload, parameters={"weight": weight})
    there, back = (doubled, halved) if direction == "forward" else (halved, doubled)
    return BlackBox(there, back, log_prob=log_prob, sample=sample, direction=direction)


BY_DIFFERENCES, BY_GRADIENT = "log-det is the determinant of differences", "log-det is the determinant of the gradient"
TAILS, BY_INTEGRAL = "a batch of tails is the stack of its events", "images differ by the integral of the slope"
ROUND_TRIPS = {"inverse of forward", "forward of inverse"}
def planar(constrained):
    """A planar flow; without its constraint it folds space where w^T u < -1, and is initialised elsewhere."""
    w, u, b = np.array([0.5, -0.75, 0.25]), np.array([0.25, 0.5, 1.0]), np.array(0.125)

    def forward(z):
        inner = w @ u
        v = u + (np.logaddexp(0, inner) - 1 - inner) / (w @ w) * w if constrained else u
        t = np.tanh(z @ w + b)
        return z + v * t[:, None], np.log(np.abs(1 + (1 - t * t) * (w @ v)))

    return BlackBox(forward, event=(3,), parameters=[w, u, b])


def many_entries(constrained):
    """z + c tanh z, each entry; its inverse by bisection finds one of three latents where c < -1."""
    c = np.full(20, 0.5)

    def forward(z):
        slope = np.exp(c) - 1 if constrained else c
        return z + slope * np.tanh(z), np.log(np.abs(1 + slope * (1 - np.tanh(z) ** 2))).sum(-1)

    def inverse(x):
        low, high = x - 1e4, x + 1e4
        for _ in range(80):
            middle = (low + high) / 2
            below = forward(middle)[0] < x
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return high

    return BlackBox(forward, inverse, event=(20,), parameters=[c])


MISTAKES = {                    # a box, and the laws that it breaks
    "exp for sigmoid(s + 2)": (lambda: coupling(scale=lambda s: expit(s + 2)), {BY_DIFFERENCES}),
    "a log-det off by 1e-12": (lambda: coupling("off by 1e-12"), {BY_DIFFERENCES, BY_GRADIENT}),
    "a log-det of one number off by 1e-12": (lambda: BlackBox(lambda z: (z, np.full(len(z), 1e-12))),
                                             {BY_DIFFERENCES, BY_INTEGRAL}),
    "a log-det off by 1/4 in float16": (lambda: coupling("off by 0.25", dtype="float16"), {BY_GRADIENT}),
    "a log-det of one number off by 1/4 in float16": (lambda: shifted_log_det(0.25), {BY_INTEGRAL}),
    "inverse log-det at the wrong point": (lambda: coupling("wrong point"), {"inverse log-det is minus log-det"}),
    "inverse log-det of the wrong sign": (lambda: coupling("sign"), {"inverse log-det is minus log-det"}),
    "missing sum": (lambda: coupling("missing sum"), {"log-det shape"}),
    "float32 constant": (lambda: coupling("float32"), ROUND_TRIPS | {BY_DIFFERENCES, "pullback is the gradient"}),
    "epsilon in a division": (lambda: coupling("epsilon"), ROUND_TRIPS),
    "epsilon under a root": (lambda: root("epsilon"), {BY_DIFFERENCES, BY_INTEGRAL,
                                                       "inverse log-det is minus log-det"}),
    "single branch": (lambda: root("single branch"), ROUND_TRIPS | {"mass is one"}),
    "no latent where a quadratic is a line": (lambda: quadratic(0.0), {"inverse of forward"}),
    "input written to": (lambda: BlackBox(overwrites), {"inputs are not written to"}),
    "statistics of the batch": (lambda: BlackBox(lambda z: z + 1e-9 * (z.mean() if len(z) else 0)),
                                {"batch is the stack of singles", TAILS}),
    "a parameter that only the log-det reads": (two_images, {"every parameter reaches the image"}),
    "a planar flow without its constraint": (lambda: planar(False), {"all laws at moved parameters"}),
    "one latent of three": (lambda: many_entries(False), {"all laws at moved parameters"}),
    "right only where it is initialised": (lambda: coupling("initialised to 0"), {"all laws at moved parameters"}),
    "an empty batch": (lambda: BlackBox(raises_when_empty, event=(2,)), {"an empty batch is empty"}),
    "a batch of tails": (lambda: BlackBox(all_far), {TAILS}),
    "an entry that only the log-det reads": (lambda: channels("an entry that only the log-det reads"),
                                             {"every parameter reaches the image", BY_DIFFERENCES,
                                              "pullback is the gradient", "pullback is the gradient by the parameters"}),
    "entries of a gradient swapped": (lambda: channels("entries of a gradient swapped"),
                                      {"pullback is the gradient by the parameters"}),
    "a gradient right only where it is initialised, behind another mistake": (
        lambda: counts_its_batch(True), {"batch is the stack of singles", TAILS, "all laws at moved parameters"}),
    "a term missing from the gradient": (lambda: coupling("gradient"), {"pullback is the gradient"}),
    "a gradient doubled": (lambda: coupling("gradient of a parameter", trained=True),
                           {"pullback is the gradient by the parameters"}),
    "a mass that is not 1": (lambda: BlackBox(lambda z: 1 * z, lambda x: (1 * x, 0 * x + 1e-4)), {"mass is one"}),
    "a slope that jumps": (lambda: BlackBox(lambda z: (np.where(z < 0.3, z, 2 * z - 0.3), np.where(z < 0.3, 0, np.log(2))),
                                            smooth=True), {"the slope does not jump"}),
    "it turns": (lambda: BlackBox(lambda z: np.where(z > 2, 4 - z, z)), {"monotone"}),
    "NaN at 0": (lambda: BlackBox(sinc), {"finite"}),
    "noise": (lambda: BlackBox(jitters), {"deterministic"}),
    "a forward that remembers inverses": (remembers, {"deterministic"}),
    "a log-det that is -inf far out": (lambda: BlackBox(steep_tails), {TAILS, "finite"}),
    "two log-dets": (lambda: BlackBox(lambda z: (2 * z, np.full(len(z), 0.7)), log_det=lambda z: np.full(len(z), np.log(2))),
                     {"fused is separate"}),
    "two latents of one image": (lambda: BlackBox(fold, lambda x: x, event=(2,)), {"inverse of forward", BY_DIFFERENCES}),
    "a map that folds space": (lambda: BlackBox(folded_plane, event=(2,)), {BY_DIFFERENCES, "finite"}),
    "an image that is not reached": (lambda: BlackBox(np.tanh, np.arctanh, codomain=(-2, 2)), {"forward of inverse"}),
    "an image outside": (lambda: BlackBox(np.exp, codomain=(0, 2)), {"the image is in the codomain"}),
    "padding that is read": (lambda: sequences(True), {"padding changes nothing"}),
    "cancellation in float32": (lambda: softplus_in_float32(True), {"float64 agrees"}),
    "another function is compiled": (lambda: BlackBox(lambda z: 2 * z, compiled=lambda z: 2.001 * z), {"compiled is eager"}),
    "log_prob without its log-det": (lambda: model("no log-det"), {"log_prob is the base and the log-det",
                                                                   "samples have the log_prob of their latents"}),
    "log_prob that remembers": (lambda: model("after sampling"), {"samples have the log_prob of their latents"}),
    "samples that are too wide": (lambda: model("sampled too wide"), {"samples have latents of the base"}),
    "samples that are too narrow": (lambda: model("sampled too narrow"), {"samples have latents of the base"}),
    "a parameter that is not saved": (lambda: model("not saved"), {"a loaded model is the saved one"}),
}
NOT_ALONE = {                   # a law: why a mistake that it finds is found by another one too
    "batch is the stack of singles": "a batch of tails is a batch",
    "log_prob is the base and the log-det": "samples are points too",
}


@functools.cache
def broken(name):
    """{law: verdict} of the failures of a planted mistake."""
    return {found.law: found for found in verdicts(MISTAKES[name][0]()) if found.status == "FAIL"}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found_by_its_laws(name):
    found = broken(name)
    assert {law: v.text for law, v in found.items()}.keys() == MISTAKES[name][1], found
    assert all(v.text and v.theorem.endswith((".", ":")) or v.theorem for v in found.values())


def test_every_law_finds_a_mistake_alone():
    alone = {next(iter(laws)) for _, laws in MISTAKES.values() if len(laws) == 1}
    assert alone | set(NOT_ALONE) == set(LAWS) and not alone & set(NOT_ALONE)


HEALTHY = {"coupling": lambda: coupling(trained=True), "planar": lambda: planar(True), "many entries": lambda: many_entries(True),
           "channels": channels, "root": root, "sequences": lambda: sequences(False),
           "float16": lambda: shifted_log_det(0), "float32 beside float64": lambda: softplus_in_float32(False), "model": model,
           "saved": lambda: model("saved"),
           "model from data": lambda: model(direction="inverse"),
           "images": lambda: BlackBox(lambda z: (np.sinh(z / 8), np.log(np.cosh(z / 8) / 8).sum((1, 2, 3))), event=(3, 4, 4),
                                      inverse=lambda x: 8 * np.arcsinh(x)),
           "an interval": lambda: BlackBox(lambda u: (ndtri(u), np.log(2 * np.pi) / 2 + ndtri(u)**2 / 2), domain=(0, 1))}


@pytest.mark.parametrize("name", HEALTHY)
def test_the_healthy_form_passes(name):
    assert [v for v in verdicts(HEALTHY[name]()) if v.status == "FAIL"] == []


@pytest.mark.parametrize("seed", range(3))
def test_one_entry_of_a_parameter_is_enough(seed):
    """Each entry is moved alone; two entries whose gradients are swapped are told apart."""
    for mistake, law in (("an entry that only the log-det reads", "every parameter reaches the image"),
                         ("entries of a gradient swapped", "pullback is the gradient by the parameters")):
        found = verdict(law, channels(mistake), seed)
        assert found.status == "FAIL" and "of shape (3,)" in found.text


def test_a_broken_law_hides_no_other_at_moved_parameters():
    """What breaks at the given parameters is told by its own law; the others are told with the parameters moved."""
    found = broken("a gradient right only where it is initialised, behind another mistake")
    assert found["all laws at moved parameters"].text.startswith("pullback is the gradient by the parameters: ")
    assert "all laws at moved parameters" not in {v.law for v in verdicts(counts_its_batch(False)) if v.status == "FAIL"}


def by_its_batch(alone):
    """The variance of one event is NaN, or no variance; the product of the slopes of 12 entries has overflowed."""
    def forward(z):
        if len(z) == 1 and alone == "raises":
            raise ValueError("expected more than one value")
        own = np.nan if len(z) == 1 else 0.0
        with np.errstate(all="ignore"):
            return z * 1e30 + own, np.log(np.prod(np.full(z.shape, 1e30), axis=-1)) + own

    return BlackBox(forward, event=(12,))


@pytest.mark.parametrize("alone", ["NaN", "raises"])
def test_what_one_event_alone_has_not_hides_nothing_else(alone):
    """It is said once; the overflow is told in a batch of two."""
    found = {v.law: v.text for v in verdicts(by_its_batch(alone)) if v.status == "FAIL"}
    assert set(found) == {"batch is the stack of singles", TAILS, "finite"}
    assert ("nan" if alone == "NaN" else "raised ValueError") in found["batch is the stack of singles"]
    assert found["finite"].endswith("is inf") and found[TAILS].endswith("is inf")


def test_a_failure_is_told_at_a_simple_event():
    """One entry of a passing half is left, and few digits."""
    text = broken("inverse log-det at the wrong point")["inverse log-det is minus log-det"].text
    assert "at [0.0, 1.0] is" in text or "at [1.0, 0.0] is" in text


PAGES = {"Tanh": refflow.Tanh(), "Softplus": refflow.Softplus(), "Affine": refflow.Affine(0.5, -2.0),
         "Softsign": refflow.Softsign(), "NormalCDF": refflow.NormalCDF(0.5, 3.0), "Exp": refflow.Exp(),
         "a shift of 28": refflow.NormalCDF(28.0, 2.75)}


@pytest.mark.parametrize("dtype", ("float64", "float32"))
@pytest.mark.parametrize("name", PAGES)
def test_no_false_alarm(name, dtype):
    f = PAGES[name].astype(np.dtype(dtype))
    box = BlackBox(f.forward_and_log_det, f.inverse_and_log_det, log_det=f.log_det, dtype=dtype,
                   pullback=lambda z, x_bar, l_bar: f.vjp(z)[1](x_bar, l_bar))
    assert [v for v in verdicts(box) if v.status == "FAIL"] == []


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


def test_parameters_that_cannot_be_written_to():
    """They are one more argument: numbers here, and JAX's arrays."""
    def forward(z, p):
        return p["scale"] * z, np.full(len(z), np.log(p["scale"]) + p["more"][0])

    def pullback(z, x_bar, log_det_bar, p):
        return p["scale"] * x_bar, {"more": [log_det_bar.sum()], "scale": (x_bar * z).sum() + (log_det_bar / p["scale"]).sum()}

    box = BlackBox(forward, lambda x, p: x / p["scale"], parameters={"scale": 1.5, "more": (0.0,)}, pullback=pullback)
    found = {v.law for v in verdicts(box) if v.status == "FAIL"}
    assert found == {"every parameter reaches the image", "all laws at moved parameters"}
    assert box.trained() == [1.5, 0.0]


def test_jax():
    jax = pytest.importorskip("jax", reason="jax is missing: pip install jax")
    from refflow.oracle.boxes.gradients import jax_pullback

    def forward(z, p):
        return z * jax.numpy.exp(p["s"]), jax.numpy.full(z.shape[:1], p["s"])

    box = BlackBox(forward, parameters={"s": jax.numpy.array(0.5)}, pullback=jax_pullback(forward))
    assert (box.library, box.dtype) == ("jax", "float32")
    assert verdict("pullback is the gradient by the parameters", box).status == "pass"
    assert box.gradients(np.ones(2), np.ones(2), np.zeros(2))[1][0] == pytest.approx(2 * np.exp(0.5))


@pytest.mark.parametrize("share", [0.3, 2 / 3, 0.95])
def test_a_kink_within_the_smallest_step_is_not_asked(share):
    """All central differences there agree on a mean of two slopes."""
    f, smallest = refflow.LeakyReLU(1.4), 2.0**-17
    box = BlackBox(f.forward, f.inverse, log_det=f.log_det, event=(), dtype="float64", backend="numpy")
    with pytest.raises(Skipped):
        run_law(BY_DIFFERENCES, box, events=np.full(8, -share * smallest))
    run_law(BY_DIFFERENCES, box, events=np.linspace(0.1, 2, 8))


def test_a_spread_that_saturates_is_not_asked():
    """Near its end, the inverse of a clipped sigmoid moves less than its slope says: nothing can be said there."""
    def forward(z):
        return np.clip(expit(z), np.finfo(np.float32).tiny, np.float32(1 - 2.0**-23))

    box = BlackBox(forward, lambda x: np.log(x) - np.log1p(-x), dtype="float32")
    with pytest.raises(Skipped):
        run_law("inverse of forward", box, events=np.array([20.0]))


def test_what_is_deduced():
    """The library from what forward accepts and returns; the unit from the coarsest of what goes in and comes out."""
    box = BlackBox(lambda z: np.float32(2) * z.astype(np.float32))
    assert (box.library, box.dtype, box.precision) == ("numpy", "float64", "float32")
    assert BlackBox(np.exp, accumulation="bfloat16").precision == "bfloat16"
    assert BlackBox(np.exp, dtype="float32", flush_to_zero=True).smallest == 2.0**-126
    assert BlackBox(np.exp, parameters=[np.zeros(2, np.float32)]).dtype == "float32"


@pytest.mark.parametrize("given, message", [
    ({"forward": 3}, "forward must be a function, not 3"), ({"inverse": "f"}, "inverse must be a function"),
    ({"dtype": "int8"}, "dtype must be one of"), ({"backend": "mxnet"}, "backend must be one of"),
    ({"direction": "back"}, "direction must be one of"), ({"domain": (1, 0)}, "domain must be .low, high. with low < high"),
    ({"codomain": "simplexes"}, "codomain must be .low, high. or the name of a set"), ({"wider": np.exp}, "wider must be a BlackBox"),
    ({"accumulation": "int8"}, "accumulation must be one of")])
def test_errors_of_use(given, message):
    with pytest.raises(ValueError, match=f"BlackBox: {message}"):
        BlackBox(**{"forward": np.exp} | given)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_failure_is_shown_inside_the_domain(dtype):
    """Simpler numbers, 0 and 1, are outside it."""
    text = {one.law: one.text for one in verdicts(BlackBox(lambda z: (np.log(z - 2), 1e-3 - np.log(z - 2)), domain=(2, np.inf), dtype=dtype))
            if one.status == "FAIL"}
    shown = [float(number) for number in re.findall(r"log-det at ([-+.e0-9]+) is", text["log-det is the determinant of differences"])]
    assert len(shown) == 1 and shown[0] > 2


def gompertz(z):
    """1 - exp(1 - exp(z)), whose log-det is -exp(z) far out, and overflows."""
    return -np.expm1(-np.expm1(z)), z - np.expm1(z)


def test_a_log_det_that_outgrows_its_dtype_is_right():
    assert not verdict("finite", BlackBox(gompertz, domain=(0, np.inf), codomain=(0, 1))).status == "FAIL"
    lost = BlackBox(lambda z: (gompertz(z)[0], np.log(np.exp(gompertz(z)[1]))), domain=(0, np.inf), codomain=(0, 1))
    found = verdict("finite", lost)
    assert found.status == "FAIL" and "is -inf" in found.text


# -- kinks and roundings that are not mistakes ------------------------------------------------------------------------

def kinked_in_a_parameter(mistake=0):
    """x = z exp(|a - k|), with k a millionth from a: every step of a difference crosses the kink."""
    a, k = np.array(0.7), 0.7 + 1e-6

    def forward(z):
        return z * np.exp(np.abs(a - k)), np.broadcast_to(np.abs(a - k), np.shape(z))

    def pullback(z, x_bar, l_bar):
        scale = np.exp(np.abs(a - k))
        return x_bar * scale, [((x_bar * z * scale + l_bar) * np.sign(a - k)).sum() * (1 + mistake)]

    return BlackBox(forward, parameters=[a], pullback=pullback)


def kinked_near(d):
    """A line meets a parabola, as at a knot, at a distance from a latent: the slope of the log-det jumps; (box, latents)."""
    def forward(z):
        beyond = np.maximum(z - 1, 0)
        return z + beyond**2 / 2, np.log1p(beyond)

    def pullback(z, x_bar, l_bar):
        slope = 1 + np.maximum(z - 1, 0)
        return x_bar * slope + l_bar * (z > 1) / slope, []

    return BlackBox(forward, pullback=pullback), np.array([1 - d, 1 + d, 0.3, 1.7, -0.8])


def test_a_kink_near_a_parameter_is_no_mistake():
    run_law("pullback is the gradient by the parameters", kinked_in_a_parameter())


@pytest.mark.parametrize("d", (1e-9, 1e-6, 1e-5, 3e-5, 1e-4, 1e-3))
def test_a_kink_near_a_latent_is_no_mistake(d):
    box, z = kinked_near(d)
    run_law("pullback is the gradient", box, 0, z)


def test_kinks_are_mistaken_where_second_differences_are_not_looked_at(monkeypatch):
    monkeypatch.setattr(black_box_laws, "jumps", lambda second, rounding: np.zeros(np.shape(second[0]), bool))
    with pytest.raises(Found):
        run_law("pullback is the gradient by the parameters", kinked_in_a_parameter())
    box, z = kinked_near(1e-9)
    with pytest.raises(Found):
        run_law("pullback is the gradient", box, 0, z)


def of_softmax(wrong):
    """A map that knows a parameter by its softmax alone; by mistake, its log-det reads the parameter, too."""
    a = np.array([0.25, -0.875, 0.75])           # an eighth more of each is exact

    def forward(z):
        share = np.exp(a - a.max()) / np.exp(a - a.max()).sum()
        return z * (1 + share[0]), np.broadcast_to(np.log1p(share[0]) + wrong * a[1] + 1e-16 * a[2], np.shape(z))

    return BlackBox(forward, parameters=[a])


def test_a_rounding_of_the_log_det_moves_no_image():
    run_law("every parameter reaches the image", of_softmax(0))
    with pytest.raises(Found, match="moves the log-det and not the image"):
        run_law("every parameter reaches the image", of_softmax(1e-9))


def seen_on_a_grid():
    """The smallest noise, in roundings to a grid, that is seen at latents of which the grid takes at least a tenth of a rounding."""
    grid = 2.0**-44
    z = np.random.default_rng(0).uniform(1, 1.5, 400)
    points = BoxPoints(BlackBox(lambda z: np.round(z / grid) * grid), events=z)
    noise = points.noise(points.box.image)[:, 0]
    return (noise[np.abs(np.round(z / grid) - z / grid) > 0.1] / grid).min()


def test_noise_is_seen_where_roundings_are_symmetric(monkeypatch):
    """Equal steps to both sides of a latent near a float of the grid are rounded alike, and cancel."""
    assert seen_on_a_grid() > 0.1
    monkeypatch.setattr(black_box_points, "NEARBY", np.repeat(2.0 ** (np.arange(4) / 4), 2))
    assert seen_on_a_grid() < 0.01


# -- what is said of a log-det ------------------------------------------------------------------------------------------

def image_flow(log_det):
    """x = exp(s_c) z + sin(z)/4 e^{s_c} of channels c; `log_det`: of the sum of s, the terms at each entry, and H W."""
    s = np.array([0.3, 0.5, -0.2])[:, None, None]
    return BlackBox(lambda z: (np.exp(s) * (z + np.sin(z) / 4), log_det(s.sum(), np.log1p(np.cos(z) / 4).sum((1, 2, 3)), 16)),
                    event=(3, 4, 4))


@pytest.mark.parametrize("log_det, told", [
    (lambda s, terms, n: n * s + terms, ""),
    (lambda s, terms, n: s + terms / n, "the number of positions is missing: H W = 16 times this is right"),
    (lambda s, terms, n: 3 * (n * s + terms), "the number of channels is counted once too often: this is C = 3 times the right one"),
    (lambda s, terms, n: s + terms, "the number of positions is missing in a constant term of the log-det: 0.6 is counted once, "
                                    "not H W = 16 times; in events of shape (3, 2, 4) it is counted once, too"),
    (lambda s, terms, n: n * s + terms - 48 * np.log(256), "a constant term: 48 log 256 less")])
def test_what_is_wrong_with_the_log_det_of_an_image(log_det, told):
    found = verdict(BY_DIFFERENCES, image_flow(log_det))
    assert (found.status == "FAIL", found.diagnosis) == (bool(told), told), found
    assert not told or "log-det at an event of shape (3, 4, 4) filled with 0.0 is " in found.text


def test_a_long_event_is_told_by_its_other_entries():
    event = np.zeros((3, 4, 4))
    event[1, 2, 3] = 0.5
    assert event_text(event) == "an event of shape (3, 4, 4) filled with 0.0 but for 0.5 at (1, 2, 3),"
    assert event_text(event[1]) == str(event[1].tolist())
    assert "(48 numbers)" in event_text(np.arange(48.0).reshape(3, 4, 4))


def test_a_log_det_that_is_nan_is_said_to_be_nan():
    """And not that the points are too ill-conditioned."""
    found = verdicts(BlackBox(lambda z: (np.sinh(z), np.nan * z), np.arcsinh))
    told = {one.law: one.text for one in found}
    assert told["finite"] == "the log-det at 0.0 is nan" and not any("ill-conditioned" in text for text in told.values())
    assert [told[law] for law in (BY_DIFFERENCES, BY_INTEGRAL)] == ["the log-det is NaN, as the law `finite` shows"] * 2


@pytest.mark.parametrize("wrong, told", [
    (lambda l: l, "it is not summed over the event, and its sum is right"),
    (lambda l: -l, "it is not summed over the event, and its sum is wrong, too: negated: the log-det of the other direction"),
    (lambda l: l.sum(-1, keepdims=True), "an axis is left behind the batch"),
    (lambda l: -l.sum(-1, keepdims=True), "an axis is left behind the batch, and its value is wrong, too: negated: the log-det of the "
                                          "other direction")])
def test_a_shape_does_not_hide_the_values(wrong, told):
    found = verdict("log-det shape", BlackBox(lambda z: (np.sinh(z), wrong(np.log(np.cosh(z)))), event=(2,)))
    assert found.status == "FAIL" and found.text.endswith(": " + told), found
