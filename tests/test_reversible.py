"""Gradients by chunks, tuned, in threads and without stored activations equal the pages' gradients."""

from __future__ import annotations

import contextlib
import tracemalloc

import numpy as np
import pytest

import refflow
from refflow import (Affine, Chain, DenseLinear, DiagonalNormal, Flow, GlowActNorm, Independent, Inverse, Logistic, Permutation,
                     Pointwise, Reshape, StandardNormal)
from refflow.core import Conditioner
from refflow.core.tree import along, copied, flatten, nest
from refflow.fast import couplings as tuned, likelihood, products
from refflow.fast.autoregressive import TunedAutoregressive
from refflow.fast.images import Rows, TunedImageCoupling, TunedMatrix, TunedNorm, Unit
from refflow.fast.splines import TunedSplineCoupling
from refflow.fast.table import TWINS
from refflow.fast.tokens import KeptInput
from refflow.laws.gradient_laws import both_are_the_pages, gradient_is_the_pages, page_gradient, reversible_is_the_pages, stored_is_the_pages
from refflow.maps.conditioners import Conv2d, Dense, ReLU, Sequential, TanhActivation, dense_network
from refflow.maps.coupling import (AdditiveCoupling, AffineCoupling, Coupling, Family, VolumePreservingCoupling, affine_family,
                                   masks)
from refflow.maps.elementwise import ExpScale, RescaledTanhExpScale, ScaledAffine, SoftplusScale
from refflow.maps.parametrisations import GatedLocationScale
from refflow.models import image_realnvp, maf, nice, nsf, realnvp
from refflow.models.glow import glow
from refflow.models.realnvp_images import PORTS
from refflow.models.tarflow import tarflow
from refflow.training import Adam, LikelihoodGradient, fit, of_batch

N = 23


def moved(value, size=0.2, seed=3):
    """Parameters that differ from the simple ones with which a model starts; triangles remain triangles, shifts
    remain 0."""
    rng = np.random.default_rng(seed)
    return value.replace(**nest({path: (v + size * rng.standard_normal(v.shape)).astype(v.dtype)
                                 for path, v in flatten(value.params()) if path[-1] not in ("lower", "upper", "shift")}))


def net(a, b, activation="relu", hidden=(9, 8), seed=0, **options):
    return moved(dense_network(np.random.default_rng(seed), (a, *hidden, b), activation, **options), 0.1)


def couplings(kind=AffineCoupling, D=5, K=3, masked=None, family=None, **options):
    """Couplings of this kind, or of a family."""
    stages = []
    for k in range(K):
        mask = masks.halves(D, flip=k % 2 == 1) if masked is None else masked ^ (k % 2 == 1)
        a = int(mask.sum())
        outputs = (D - a) * (1 if kind is AdditiveCoupling else 2)
        if kind is VolumePreservingCoupling:
            options["scale"] = ExpScale()
        if family is not None:
            kind, options["family"] = Coupling, family
        stages.append(kind(mask, net(a, outputs, seed=k), **options))
    return stages


def normal(*stages, D=5):
    return Flow(Chain(stages), StandardNormal(D))


PERMUTATION = Permutation(np.array([3, 0, 4, 1, 2]))
ACTNORM = refflow.ActNorm(np.array([0.5, -2.0, 1.5, 1.0, 0.25]), np.array([0.1, 0.0, -0.5, 1.0, 2.0]))
FLOWS = {
    "NICE": lambda: moved(nice(np.random.default_rng(0), 5, 8, (2, 1, 3, 2))),
    "NICE, normal": lambda: moved(nice(np.random.default_rng(0), 5, 8, (2, 2), "normal", False)),
    "RealNVP": lambda: moved(realnvp(np.random.default_rng(0), 5, (9, 8), 4), 0.1),
    "RealNVP, exp": lambda: moved(realnvp(np.random.default_rng(0), 5, (9, 8), 4, scale=ExpScale()), 0.1),
    "RealNVP, exp with an offset": lambda: moved(realnvp(np.random.default_rng(0), 5, (9,), 3, scale=ExpScale(0.25))),
    "RealNVP, tanh": lambda: moved(realnvp(np.random.default_rng(0), 5, (9, 8), 3, "tanh", ExpScale())),
    "RealNVP, gelu": lambda: moved(realnvp(np.random.default_rng(0), 5, (9, 8), 3, "gelu", SoftplusScale())),
    "the other side": lambda: normal(*couplings()),
    "the other side, tanh scale": lambda: normal(*couplings(family=affine_family(RescaledTanhExpScale(0.5, 0.1)))),
    "the other side, tanh scale without a shift": lambda: normal(*couplings(family=affine_family(RescaledTanhExpScale(-1.5)))),
    "the other side, additive": lambda: normal(*couplings(AdditiveCoupling)),
    "interleaved, shift first": lambda: normal(*couplings(layout="interleaved",
                                                                 family=affine_family(ExpScale(), ("shift", "scale")))),
    "shift before scale": lambda: normal(*couplings(family=affine_family(ExpScale(), shift_first=True))),
    "alternating": lambda: normal(*couplings(masked=masks.alternating(5))),
    "any mask": lambda: normal(*couplings(masked=np.array([True, True, False, True, False]))),
    "volume preserving": lambda: normal(*couplings(VolumePreservingCoupling)),
    "any family": lambda: normal(*couplings(family=Family(ScaledAffine, GatedLocationScale()))),
    "among other stages": lambda: normal(couplings()[0], PERMUTATION, ACTNORM, couplings()[1], Inverse(ACTNORM),
                                         couplings()[2]),
    "with layer norm": lambda: normal(*(
        AffineCoupling(m, net(int(m.sum()), 2 * int((~m).sum()), layer_norm=True))
        for m in (masks.halves(5), masks.halves(5, flip=True)))),
    "on an interval": lambda: Flow(Chain((*couplings(), refflow.Sigmoid())), StandardNormal(5)),
    "through an interval": lambda: normal(couplings()[0], refflow.LogisticCDF(0.25, 1.5), Inverse(refflow.NormalCDF()), ACTNORM),
    "a base with parameters": lambda: Flow(Chain(couplings()), DiagonalNormal(np.arange(5.0), 0.5 + np.arange(5) / 5)),
    "a flow as base": lambda: Flow(Chain(couplings()), normal(*couplings(K=1), ACTNORM)),
    "no part to transform": lambda: normal(AffineCoupling(np.ones(5, bool), net(5, 0)), *couplings(K=1)),
    "no part to see": lambda: normal(couplings()[0], AffineCoupling(np.zeros(5, bool), net(0, 10))),
    "one stage": lambda: normal(couplings()[0]),
}


def events(flow, n=N, seed=1):
    return flow.sample(np.random.default_rng(seed), n)


def weights(n=N, seed=2):
    return np.random.default_rng(seed).standard_normal(n)


@pytest.mark.parametrize("dtype", (np.float32, np.float64), ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", FLOWS)
def test_both_are_the_pages(name, dtype):
    flow = FLOWS[name]().astype(dtype)
    x, b = events(flow), weights().astype(dtype)
    both_are_the_pages(flow, x, b)


def tuned_steps(flow):
    line = likelihood.line_of(flow.unchecked(np.dtype(float)).bijector, likelihood.Workspace())
    return [isinstance(step, tuned.TunedCoupling) for step in line.steps]


@pytest.mark.parametrize("in_place", (True, False))
@pytest.mark.parametrize("n", (1, 31, 100, 512))
def test_products_in_blocks(monkeypatch, in_place, n):
    """With events that do and do not fill their blocks, and layers whose sizes do and do not divide into blocks."""
    monkeypatch.setattr(products, "in_place", lambda: in_place)
    rng = np.random.default_rng(4)
    for dtype in (np.float32, np.float64):
        for activation, hidden in (("relu", (96, 37, 64)), ("relu", (260, 130)), ("tanh", (40, 64))):
            flow = moved(realnvp(np.random.default_rng(0), 70, hidden, 2, activation, ExpScale()), 0.01).astype(dtype)
            x, b = rng.standard_normal((n, 70)).astype(dtype), rng.standard_normal(n).astype(dtype)
            page = page_gradient(flow, x, b)
            for memory in ("stored", "reversible"):
                gradient = LikelihoodGradient(memory)
                gradient_is_the_pages(gradient, flow, x, b, page=page)
                assert not gradient.by_page and not gradient.drifted


@pytest.mark.parametrize("memory", ("stored", "reversible"))
def test_chunks_that_multiply_in_other_blocks(monkeypatch, memory):
    """Two chunks of one call, and two calls of one object, on both sides of the size above which a product is split."""
    monkeypatch.setattr(products, "in_place", lambda: True)
    flow, rng = moved(realnvp(np.random.default_rng(0), 6, (64, 32), 2), 0.1), np.random.default_rng(4)
    size = products.SMALL // 32**2
    assert products.row_blocks(32, 64, size) != products.row_blocks(32, 64, size + 1)
    for threads in (1, 2):
        gradient = LikelihoodGradient(memory, rows=size + 1, threads=threads, parts=threads)
        for n in (2 * size + 1, threads * size, threads * (size + 1), threads * size):
            x = rng.standard_normal((n, 6))
            gradient_is_the_pages(gradient, flow, x, rng.standard_normal(n))


def test_couplings_with_dense_networks_are_tuned():
    for name in ("RealNVP", "the other side", "interleaved, shift first", "any mask", "RealNVP, gelu"):
        assert all(tuned_steps(FLOWS[name]())), name
    assert sum(tuned_steps(FLOWS["NICE"]())) == 4
    assert not any(tuned_steps(FLOWS["with layer norm"]())) and not any(tuned_steps(FLOWS["volume preserving"]()))


@pytest.mark.parametrize("memory", ("stored", "reversible"))
@pytest.mark.parametrize("rows, threads", [(1, 1), (7, 1), (100, 1), (7, 2), (100, 3), (1, 40)])
def test_chunks_and_threads(memory, rows, threads):
    flow = FLOWS["among other stages"]()
    x, b = events(flow), weights()
    gradient = LikelihoodGradient(memory, rows, threads, threads)
    gradient_is_the_pages(gradient, flow, x, b)
    first, second = gradient(flow, x, b), LikelihoodGradient(memory, rows, threads, threads)(flow, x, b)
    assert np.array_equal(first[0], second[0])
    for (path, one), (_, other) in zip(flatten(first[1]), flatten(second[1])):
        assert np.array_equal(one, other), path


def bits(found):
    """log p and the gradient of a call, as bytes."""
    return [found[0].tobytes(), *(bar.tobytes() for _, bar in flatten(found[1]))]


@pytest.mark.parametrize("memory", ("stored", "reversible"))
@pytest.mark.parametrize("name", ["among other stages", "RealNVP"])
def test_the_bits_do_not_depend_on_the_number_of_threads(memory, name):
    flow = FLOWS[name]()
    x, b = events(flow), weights()
    one, *others = [bits(LikelihoodGradient(memory, 7, threads, 5)(flow, x, b)) for threads in (1, 2, 3, 8)]
    assert all(other == one for other in others)
    assert bits(LikelihoodGradient(memory, 7, 1, 4)(flow, x, b)) != one              # parts do change roundings


def each_part_alone(self, x, b, context, log_prob):
    """A division that loses the events of all parts but the first."""
    count = self.parts_of(x)
    return RIGHT(self, x[:len(x) // count], b[:len(x) // count], context, log_prob[:len(x) // count])


def in_the_order_of_their_ends(self, work, count):
    """Threads whose results come in the order in which they end, which need not be their own."""
    return RUN(self, work, count)[::-1]


RIGHT, RUN = LikelihoodGradient.gradient, likelihood.Threads.run


@pytest.mark.parametrize("bug", ["rows are lost", "sums in another order", "one space for two threads"])
def test_a_wrong_division_among_threads_is_found(monkeypatch, bug):
    """Each bug changes a gradient, or its bits, as the tests above ask them."""
    flow = moved(realnvp(np.random.default_rng(0), 6, (64, 64), 4))
    x, b = np.random.default_rng(1).standard_normal((999, 6)), weights(999)
    right, gradient = bits(LikelihoodGradient(threads=1, parts=3)(flow, x, b)), LikelihoodGradient(threads=3, parts=3)
    assert bits(gradient(flow, x, b)) == right
    if bug == "rows are lost":
        monkeypatch.setattr(LikelihoodGradient, "gradient", each_part_alone)
    elif bug == "sums in another order":
        monkeypatch.setattr(likelihood.Threads, "run", in_the_order_of_their_ends)
    else:
        gradient.spaces, gradient.prepared = gradient.spaces[:1] * 3, None
    assert any(bits(gradient(flow, x, b)) != right for _ in range(20))


def test_a_result_is_not_overwritten_by_the_next():
    flow = FLOWS["RealNVP"]()
    x, b, gradient = events(flow), weights(), LikelihoodGradient()
    first = gradient(flow, x, b)
    kept = [bar.copy() for _, bar in flatten(first[1])]
    gradient(moved(flow), x + 1, b)
    assert all(np.array_equal(bar, old) for (_, bar), old in zip(flatten(first[1]), kept))


def test_arrays_serve_other_flows_sizes_and_dtypes():
    gradient = LikelihoodGradient("reversible", rows=9)
    for name, dtype, n in (("RealNVP", np.float64, 30), ("NICE", np.float64, 4), ("RealNVP, gelu", np.float32, 23),
                           ("RealNVP", np.float64, 40), ("any family", np.float64, 3)):
        flow = FLOWS[name]().astype(dtype)
        gradient_is_the_pages(gradient, flow, events(flow, n), weights(n).astype(dtype))


def test_what_is_prepared_serves_flows_of_the_same_form_alone():
    """The numbers that training changes may be exchanged; a mask of the same shape, an option or a shape may not."""
    gradient, first = LikelihoodGradient(), FLOWS["the other side"]()
    flows = (first, moved(first, 0.05), normal(*couplings(masked=np.array([True, True, False, True, False]))),
             normal(*couplings(family=affine_family(ExpScale()))), normal(*couplings(K=2)),
             first.replace(base=DiagonalNormal(0.0, 1.0, 5)))
    assert [first.same_form(other) for other in flows] == [True, True, False, False, False, False]
    assert not first.same_form(first.astype(np.float32)) and not first.same_form(first.bijector)
    x = events(first)
    for flow in flows:
        gradient_is_the_pages(gradient, flow, x, weights())


def test_flows_that_are_given_with_one_form_differ_in_numbers_alone():
    """Another form is prepared anew; what is asked again of the same form has the new numbers."""
    first, second, gradient = object(), object(), LikelihoodGradient()
    one, other = FLOWS["the other side"](), normal(*couplings(K=2))
    x, b = events(one), weights()
    for flow, form in ((one, first), (moved(one, 0.05), first), (other, second), (moved(other, 0.05), second), (one, first)):
        found, page = gradient.filled(flow, x, b, None, form), flow.log_prob_vjp(x)
        np.testing.assert_allclose(found[0], page[0], rtol=1e-12)
        for (_, bar), (_, wanted) in zip(flatten(found[1]), flatten(page[1](b)[1]), strict=True):
            np.testing.assert_allclose(bar, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("gain, shift, usual", [(2.0, None, True), (599.0, 0.5, True), (-599.0, -0.5, True), (600.0, 0.5, False),
                                               (-1.0, 601.0, False), (np.nan, 0.0, False)])
def test_a_scale_that_may_leave_the_floats_is_left_to_the_page(gain, shift, usual):
    numbers = {"gain": np.array(gain), "shift": None if shift is None else np.array(shift)}
    scale, found = copied(RescaledTanhExpScale(), **numbers), tuned.ExponentialOfTanh(np.array([[0.5, 40.0]]), None)
    if usual:
        found.take(scale, True)
        assert np.allclose(found.total, gain * np.tanh([0.5, 40.0]) + (shift or 0))
    else:
        with pytest.raises(tuned.Unusual):
            found.take(scale, True)


@pytest.mark.parametrize("memory", ("stored", "reversible"))
def test_context(memory):
    flow = moved(realnvp(np.random.default_rng(0), 5, (9, 8), 4, scale=ExpScale(), context=2))
    x, context = np.random.default_rng(1).standard_normal((N, 5)), np.random.default_rng(4).standard_normal((N, 2))
    for rows, threads in ((7, 1), (100, 2)):
        gradient_is_the_pages(LikelihoodGradient(memory, rows, threads, threads), flow, x, weights(), context)


@pytest.mark.parametrize("memory", ("stored", "reversible"))
def test_one_context_for_all_events(memory):
    flow = moved(realnvp(np.random.default_rng(0), 5, (9, 8), 4, context=2)).at(context=np.array([0.5, -1.0]))
    x = np.random.default_rng(1).standard_normal((N, 5))
    gradient_is_the_pages(LikelihoodGradient(memory, 7, 2, 2), flow, x, weights())


@pytest.mark.parametrize("memory", ("stored", "reversible"))
def test_what_is_prepared_is_kept_from_call_to_call(memory):
    """With the events' shape, and for the next flow of the same form."""
    first, gradient = FLOWS["among other stages"](), LikelihoodGradient(memory)
    x = events(first)
    gradient(first, x, weights())
    known = gradient.prepared
    gradient(first, x[:5], weights(5))
    assert gradient.prepared is known and known.shape == (5,) and known.takes(x)
    assert not known.takes(x[0]) and not known.takes(x[:, :4]) and not known.takes(x.astype(np.float32))
    second = moved(first)
    gradient(second, x, weights())
    renewed = gradient.prepared
    assert renewed is not known and renewed.places is known.places
    gradient(second, x, weights())
    assert gradient.prepared is renewed


@pytest.mark.parametrize("memory", ("stored", "reversible"))
def test_one_context_after_another(memory):
    flow, gradient = moved(realnvp(np.random.default_rng(0), 5, (9, 8), 2, context=2)), LikelihoodGradient(memory)
    x = np.random.default_rng(1).standard_normal((N, 5))
    for context in ([0.5, -1.0], [2.0, 0.25]):
        gradient_is_the_pages(gradient, flow.at(context=np.array(context)), x, weights())


@pytest.mark.parametrize("memory", ("stored", "reversible"))
def test_no_event(memory):
    flow = FLOWS["RealNVP"]()
    log_prob, params_bar = LikelihoodGradient(memory, 7, 2, 2)(flow, np.zeros((0, 5)), np.zeros(0))
    assert log_prob.shape == (0,)
    for (path, bar), (_, v) in zip(flatten(params_bar), flatten(flow.params())):
        assert bar.shape == v.shape and not bar.any(), path


@pytest.mark.parametrize("memory", ("stored", "reversible"))
def test_outside_the_support(memory):
    flow = FLOWS["on an interval"]()
    x, b = events(flow), weights()
    x[3, 2], x[17, 0] = 1.0, 0.0
    gradient = LikelihoodGradient(memory, rows=6)
    log_prob, params_bar = gradient(flow, x, b)
    wanted, pullback = flow.log_prob_vjp(x)
    assert gradient.by_page == 2
    assert (log_prob == -np.inf).tolist() == [i in (3, 17) for i in range(N)]
    np.testing.assert_allclose(log_prob, wanted, rtol=1e-13)
    for (path, bar), (_, page) in zip(flatten(params_bar), flatten(pullback(b)[1])):
        np.testing.assert_allclose(bar, page, rtol=0, atol=1e-12 * max(1, np.abs(page).max()), err_msg=path)


KNOTS, IMAGES, LOGISTIC = [0.0, 0.25, 1.0], [0.0, 0.75, 1.0], refflow.LogisticCDF(0.25, 1.5)
SPLINE = refflow.LinearSpline(KNOTS, IMAGES, "none")
THROUGH_AN_INTERVAL = [
    (LOGISTIC, SPLINE, Inverse(refflow.NormalCDF())), (LOGISTIC, Inverse(Chain([refflow.NormalCDF(), SPLINE]))),
    (Chain([Affine(0.5, 1.25), LOGISTIC]), Chain([Inverse(SPLINE), Inverse(refflow.NormalCDF())]), Affine(0.25, 0.5))]


def tails(stages):
    """A flow in float32 whose chain has a run, and events in both tails, of which the run makes finite numbers."""
    flow = normal(*stages, ACTNORM).astype(np.float32)
    latents = np.random.default_rng(3).choice(np.float32([-22, -9, -0.5, 2, 8, 20]), (N, 5))
    return flow, flow.bijector.forward(latents)


def differences(memory, flow, x):
    """(How far log p and gradients are from the page's, over the largest number of each; chunks that were left to it)."""
    gradient, b = LikelihoodGradient(memory, rows=7), weights().astype(np.float32)
    (log_prob, params_bar), (wanted, pullback) = gradient(flow, x, b), flow.log_prob_vjp(x)
    pairs = [(log_prob, wanted)] + [(one, other) for (_, one), (_, other) in zip(flatten(params_bar), flatten(pullback(b)[1]))]
    assert np.isfinite(wanted).all()
    return max(np.abs(one - other).max() / np.abs(other).max() for one, other in pairs), gradient.by_page


@pytest.mark.parametrize("memory", ("stored", "reversible"))
@pytest.mark.parametrize("stages", THROUGH_AN_INTERVAL, ids=len)
def test_tails_through_an_interval(stages, memory, monkeypatch):
    """The steps of a chain stand here too, and stages one by one have no digits there."""
    flow, x = tails(stages)
    difference, by_page = differences(memory, flow, x)
    assert difference < 1e-5 and by_page == 0
    monkeypatch.setattr(likelihood, "steps_along", lambda f, path, side: (
        (".".join((path, *here)), stage, way) for here, stage, way in along(f, side)))
    difference, by_page = differences(memory, flow, x)
    assert difference > 1e-4 or by_page


@pytest.mark.parametrize("memory", ("stored", "reversible"))
def test_numbers_beyond_the_plain_formulas_are_left_to_the_pages(memory):
    """A layer whose products overflow although their sum does not; a scale that overflows although its product does not."""
    huge = Sequential((Dense([[2.0**1000, -2.0**1000], [1.0, 0.0]]), ReLU(), Dense([[2.0**-1000, 0.0], [0.0, 1.0]])))
    mask = np.array([True, True, False])
    steep = AffineCoupling(mask, Sequential((Dense([[720.0, 0.0], [0.0, 0.0]]),)))
    for coupling, x in ((AffineCoupling(mask, huge), np.array([[2.0**30, 2.0**30 - 1, 0.5]])),
                        (steep, np.array([[1.0, 0.5, 2.0**900]]))):
        flow = Flow(Chain((coupling,)), Logistic(np.zeros(3), np.ones(3)))
        gradient = LikelihoodGradient(memory)
        log_prob, params_bar = gradient(flow, x, np.ones(1))
        wanted, pullback = flow.log_prob_vjp(x)
        assert gradient.by_page == 1 and np.isfinite(log_prob).all() and np.array_equal(log_prob, wanted)
        for (_, bar), (_, page) in zip(flatten(params_bar), flatten(pullback(np.ones(1))[1])):
            assert np.array_equal(bar, page)


@pytest.mark.parametrize("layers, size, usual", [
    ((300, ReLU(), 300), 420, True), ((300, ReLU(), 300), 424, False), ((300, TanhActivation(), 300), 424, True),
    ((800, TanhActivation(), 0), 0, False), ((0, TanhActivation(), 511.5, ReLU(), 511.5), 0, False)], ids=str)
def test_a_network_whose_bound_may_overflow_is_left_to_the_page(layers, size, usual):
    """Powers of two: of the one weight of each layer, and of the entry, which that weight does not see."""
    net = Sequential(tuple(layer if isinstance(layer, Conditioner) else Dense([[2.0**layer, 0.0], [0.0, 0.0]]) for layer in layers))
    flow = normal(AdditiveCoupling(np.array([True, True, False, False]), net), D=4)
    step, = likelihood.line_of(flow.unchecked(np.dtype(float)).bijector, likelihood.Workspace()).steps
    x = np.array([[0.0, 2.0**size, 1.0, 2.0]])
    with np.errstate(over="ignore"), contextlib.nullcontext() if usual else pytest.raises(tuned.Unusual):
        assert np.array_equal(step.forward(x)[0], x)


# -- images -----------------------------------------------------------------------------------------------------------

SHAPE = (3, 8, 8)
WITH_SHIFTS = "1x1 with shifts"
GLOWS = {
    WITH_SHIFTS: {},
    "openai": {}, "chaiyujin": {"convention": "chaiyujin"}, "rosinality": {"convention": "rosinality"},
    "additive": {"coupling": "additive"}, "lu": {"permutation": "lu"},
    "reverse": {"permutation": "reverse", "learn_top": False},
}


def small_glow(size=0.05, **options):
    return moved(glow(np.random.default_rng(0), SHAPE, 2, 2, 5, **options), size)


def with_shifts(f):
    """The same with shifts in its matrices, as in files of older flows."""
    if isinstance(f, DenseLinear):
        return f.replace(shift=0.1 * np.arange(len(f.W)))
    held = {key: getattr(f, key) for key in ("bijector", "inner", "rest") if hasattr(f, key)}
    new = {key: with_shifts(value) for key, value in held.items()}
    new |= {"stages": tuple(map(with_shifts, f.stages))} if hasattr(f, "stages") else {}
    return f.replace(**new) if new else f


def images(n=6):
    return np.random.default_rng(1).uniform(-0.5, 0.5, (n, *SHAPE))


@pytest.mark.parametrize("dtype", (np.float32, np.float64), ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", GLOWS)
def test_images(name, dtype):
    flow, x, b = small_glow(**GLOWS[name]).astype(dtype), images().astype(dtype), weights(6).astype(dtype)
    flow = with_shifts(flow).astype(dtype) if name == WITH_SHIFTS else flow
    assert sum(path[-1] == "shift" for path, _ in flatten(flow.params())) == (4 if name == WITH_SHIFTS else 0)
    both_are_the_pages(flow, x, b)


def test_couplings_of_the_latents_of_images():
    """Both kinds of tuned couplings write cotangents into the same array, which the parts of the latents share."""
    flow = small_glow()
    latents = couplings(D=192, K=2)
    flow = flow.replace(bijector=Inverse(Chain((*flow.bijector.inner.stages, *latents))))
    found = kinds(likelihood.line_of(flow.unchecked(np.dtype(float)).bijector, likelihood.Workspace()))
    assert found.count("TunedCoupling") == 2 and found.count("TunedImageCoupling") == 5
    x, b = images(), weights(6)
    both_are_the_pages(flow, x, b)


@pytest.mark.parametrize("memory", ("stored", "reversible"))
def test_images_in_chunks_and_threads(memory):
    flow, x, b = small_glow(), images(), weights(6)
    page = page_gradient(flow, x, b)
    for rows, threads in ((1, 1), (4, 1), (6, 1), (2, 2)):
        gradient = LikelihoodGradient(memory, rows, threads, threads)
        gradient_is_the_pages(gradient, flow, x, b, page=page)
        assert gradient.by_page == 0 and gradient.drifted == 0


def kinds(line):
    """The classes of the steps of a line, and of the steps inside its steps."""
    return [kind for step in line.steps
            for kind in (kinds(step.line) if isinstance(step, likelihood.FactorStep) else [type(step).__name__])]


def test_stages_of_images_are_tuned():
    flow = small_glow()
    found = kinds(likelihood.line_of(flow.unchecked(np.dtype(float)).bijector, likelihood.Workspace()))
    assert found.count("TunedImageCoupling") == 5 and found.count("TunedNorm") == found.count("TunedMatrix") == 4
    assert sorted(set(found)) == ["Step", "TunedImageCoupling", "TunedMatrix", "TunedNorm"] and found.count("Step") == 4


def flow_of_image_couplings(padding, side, shape):
    """Convolutions with more channels in than out, biases, no normalisation."""
    rng, extra = np.random.default_rng(0), int(padding == "edge")
    net = Sequential((Conv2d(0.3 * rng.standard_normal((3, 2 + extra, 3, 3)), 0.1 * rng.standard_normal(3), padding), ReLU(),
                      Conv2d(0.3 * rng.standard_normal((7, 3, 1, 1))), ReLU(),
                      Conv2d(0.3 * rng.standard_normal((4, 7 + extra, 3, 3)), None, padding)))
    mask = masks.channels(np.array([True, False, False, True]), 3)
    stages = [Coupling(mask, net, affine_family(RescaledTanhExpScale(shift=0.25), order, first), layout)
              for layout, first, order in (("halves", False, ("scale", "shift")), ("interleaved", True, ("shift", "scale")),
                                           ("halves", True, ("shift", "scale")))]
    chain = Chain((*stages, Reshape(shape, (4 * shape[1] * shape[2],))))
    f = Inverse(chain) if side == 0 else Chain((Reshape((4 * shape[1] * shape[2],), shape), *stages))
    return Flow(f, StandardNormal(4 * shape[1] * shape[2]))


@pytest.mark.parametrize("padding", ("zeros", "ones", "edge"))
@pytest.mark.parametrize("side", (0, 1))
@pytest.mark.parametrize("shape", ((4, 1, 1), (4, 1, 5), (4, 3, 2)))
def test_couplings_of_images(padding, side, shape):
    """Both sides, images of one line or pixel."""
    flow = flow_of_image_couplings(padding, side, shape)
    line = likelihood.line_of(flow.unchecked(np.dtype(float)).bijector, likelihood.Workspace())
    assert kinds(line).count("TunedImageCoupling") == 3
    both_are_the_pages(flow, np.random.default_rng(6).standard_normal((7, *shape)), weights(7))


def test_normalisations_and_matrices_of_images_that_are_not_square():
    norm, matrix = GlowActNorm([0.25, -0.5], [1.0, 2.0], rank=3), Pointwise(DenseLinear([[2.0, 0.5], [-1.0, 1.0]], [0.5, 0.0]))
    for shape in ((2, 3, 5), (2, 4, 1)):
        size = int(np.prod(shape))
        flow = Flow(Inverse(Chain((norm, matrix, norm, Reshape(shape, (size,))))), StandardNormal(size))
        line = likelihood.line_of(flow.unchecked(np.dtype(float)).bijector, likelihood.Workspace())
        assert kinds(line)[:3] == ["TunedNorm", "TunedMatrix", "TunedNorm"]
        both_are_the_pages(flow, np.random.default_rng(1).standard_normal((7, *shape)), weights(7))


@pytest.mark.parametrize("channels, size", [((3, 2), 3), ((2, 5), 3), ((4, 4), 1)])
@pytest.mark.parametrize("padding", ("zeros", "ones"))
@pytest.mark.parametrize("scale", (1e-6, 1.0, 1e6))
def test_a_bound_of_a_convolution_holds(channels, size, padding, scale):
    """For small and for large images; of one kernel and one image of equal numbers it is near."""
    g = np.random.default_rng(0)
    conv = Conv2d(g.standard_normal((*channels, size, size)), g.standard_normal(channels[0]), padding)
    unit = Unit((conv,), (0, None, False), "net", tuned.Workspace(), 0)
    rows, a = Rows(2, 5, 4), np.zeros((channels[1], 2, 5, 4))
    a[...] = scale * g.standard_normal(a.shape)
    given = np.zeros((channels[1], rows.length))
    rows.images(given)[...] = a
    scaled = unit.scaled(0)
    found = unit.forward(given, rows, scaled, False)
    expected = conv.forward(a.swapaxes(0, 1)).swapaxes(0, 1)
    assert np.allclose(rows.images(found), expected, rtol=1e-12, atol=1e-12 * scale)
    assert np.linalg.norm(expected) <= tuned.norm(found) <= unit.bound(tuned.norm(given), rows, scaled)


def test_couplings_with_gains_of_channels_are_left_to_the_pages():
    mask = masks.channels(np.array([True, False, False, True]), 3)
    scale = RescaledTanhExpScale(None, 0.1, [0.5, -0.7])
    net = Sequential((Conv2d(0.3 * np.random.default_rng(0).standard_normal((4, 2, 3, 3)), np.ones(4)),))
    flow = Flow(Inverse(Chain((Coupling(mask, net, affine_family(scale)), Reshape((4, 3, 2), (24,))))), StandardNormal(24))
    line = likelihood.line_of(flow.unchecked(np.dtype(float)).bijector, likelihood.Workspace())
    assert "TunedImageCoupling" not in kinds(line)
    x, b = np.random.default_rng(1).standard_normal((7, 4, 3, 2)), weights(7)
    both_are_the_pages(flow, x, b)


@pytest.mark.parametrize("train", (False, True))
@pytest.mark.parametrize("port", PORTS)
def test_what_ports_of_realnvp_add_is_left_to_the_pages(port, train):
    """Normalised kernels, statistics of a batch, checkerboards: no twin mistakes them for its own page."""
    flow = image_realnvp(np.random.default_rng(0), (2, 4, 4), 2, 3, 1, logit=None, **PORTS[port])
    flow = of_batch(flow) if train else flow
    line = likelihood.line_of(flow.unchecked(np.dtype(float)).bijector, likelihood.Workspace())
    assert not any(name.startswith("Tuned") for name in kinds(line))
    stored_is_the_pages(flow, np.random.default_rng(1).standard_normal((5, 2, 4, 4)), weights(5))


def test_drift_of_images_is_healed():
    flow, x, b = small_glow(0.05), images(), weights(6)
    W = np.eye(12)
    W[11] = W[10] + 1e-10 * W[11]                       # nearly singular: its inverse loses ten digits
    flow = flow.replace(**nest({("bijector", "inner", "stages", "5", "inner", "W"): W}))
    gradient = LikelihoodGradient("reversible", rows=4)
    log_prob, params_bar = gradient(flow, x, b)
    assert gradient.drifted == 2 and gradient.by_page == 0
    stored_log_prob, stored_bar = LikelihoodGradient("stored", rows=4)(flow, x, b)
    assert np.array_equal(log_prob, stored_log_prob)
    for (path, bar), (_, stored) in zip(flatten(params_bar), flatten(stored_bar)):
        np.testing.assert_allclose(bar, stored, rtol=0, atol=1e-9 * max(1, np.abs(stored).max()), err_msg=path)


# -- steps that are renewed -------------------------------------------------------------------------------------------

NUMBERS = {                             # of each class of steps: a flow that has it, what holds its numbers
    likelihood.Step: (FLOWS["among other stages"], "stage"),
    likelihood.FactorStep: (small_glow, "line"),
    tuned.TunedCoupling: (FLOWS["the other side, tanh scale"], "scale", "dense"),
    TunedImageCoupling: (lambda: flow_of_image_couplings("ones", 0, (4, 3, 2)), "affine", "units"),
    TunedNorm: (small_glow, "stage"),
    TunedMatrix: (lambda: with_shifts(small_glow()), "W", "shift"),
    TunedSplineCoupling: (lambda: moved(nsf(np.random.default_rng(0), 3, 6, 1, 2, 4)), "page", "operations"),
    TunedAutoregressive: (lambda: moved(maf(np.random.default_rng(0), 4, (9, 8), 2)), "dense", "inverse"),
    KeptInput: (lambda: moved(tarflow(np.random.default_rng(0), (1, 4, 4), 2, 8, 2, 1, head_size=4), 0.1), "stage"),
}


def renewed_is_made_anew(flow, memory):
    """A gradient with the steps of another flow has the bits of one with its own, and no event is left to a page or drifts."""
    gradient, x, b, other = LikelihoodGradient(memory), events(flow, 6), weights(6), flow.unravel(1.01 * flow.ravel())
    gradient(flow, x, b)
    places = gradient.prepared.places
    found = gradient(other, x, b)
    assert gradient.prepared.places is places
    return bits(found) == bits(LikelihoodGradient(memory)(other, x, b)) and gradient.drifted == gradient.by_page == 0


def test_every_class_of_steps_is_renewed():
    assert set(NUMBERS) == {likelihood.Step, likelihood.FactorStep, *(found for twins in TWINS.values() for found in twins)}


@pytest.mark.parametrize("memory", ("stored", "reversible"))
@pytest.mark.parametrize("kind", NUMBERS, ids=lambda kind: kind.__name__)
def test_a_renewed_step_is_one_that_is_made_anew(kind, memory):
    assert renewed_is_made_anew(NUMBERS[kind][0](), memory)


@pytest.mark.parametrize("kind, name", [(kind, name) for kind, (_, *names) in NUMBERS.items() for name in names],
                         ids=lambda given: getattr(given, "__name__", given))
def test_a_renewed_step_with_old_numbers_is_found(kind, name, monkeypatch):
    right = kind.renewed

    def stale(self, stage):
        new = right(self, stage)
        setattr(new, name, getattr(self, name))
        return new

    monkeypatch.setattr(kind, "renewed", stale)
    assert not renewed_is_made_anew(NUMBERS[kind][0](), "reversible")


# -- drift ------------------------------------------------------------------------------------------------------------

def ill_conditioned(kind=AffineCoupling, K=6, size=0.4):
    """Couplings whose scales, near exp(-12), lose a part of the event in a shift, where no inverse recovers it; after
    the affine couplings come two that lose nothing.
    """
    stages = []
    for k in range(K):
        mask = masks.halves(4, flip=k % 2 == 1)
        rng = np.random.default_rng(k)
        layers = [Dense(size * rng.standard_normal((8, 2)), rng.standard_normal(8)), ReLU()]
        if kind is AdditiveCoupling:
            stages.append(kind(mask, Sequential((*layers, Dense(size * rng.standard_normal((2, 8)))))))
        else:
            last = Dense(size * rng.standard_normal((4, 8)), np.array([-12.0, -12.0, 1.0, -1.0]))
            stages.append(kind(mask, Sequential((*layers, last))))
    benign = () if kind is AdditiveCoupling else couplings(D=4, K=2)
    return Flow(Inverse(Chain((*stages, *benign))), StandardNormal(4))


def drifting_events():
    return 0.3 * np.random.default_rng(5).standard_normal((N, 4))


def reconstruction_error(flow, x):
    """The largest relative error of an event recomputed from its latents."""
    z = flow.bijector.inverse(x)
    return np.abs(flow.bijector.forward(z) - x).max() / np.abs(x).max()


@pytest.mark.parametrize("layer_norm", (False, True), ids=("tuned", "by pages"))
def test_drift_is_detected_and_healed(layer_norm, monkeypatch):
    if layer_norm:
        monkeypatch.setattr(likelihood, "twin", lambda stage, side: None)
    flow, x, b = ill_conditioned(), drifting_events(), weights()
    assert not reconstruction_error(flow, x) < 1e-3
    gradient = LikelihoodGradient("reversible", rows=6)
    log_prob, params_bar = gradient(flow, x, b)
    assert gradient.drifted > 0 and gradient.by_page == 0
    stored_log_prob, stored_bar = LikelihoodGradient("stored", rows=6)(flow, x, b)
    assert np.array_equal(log_prob, stored_log_prob)
    largest = 0
    for (path, bar), (_, stored) in zip(flatten(params_bar), flatten(stored_bar)):
        np.testing.assert_allclose(bar, stored, rtol=0, atol=1e-9 * np.abs(stored).max(), err_msg=path)
        largest = max(largest, np.abs(stored).max())
    assert largest > 0


@pytest.mark.parametrize("make, x", ((small_glow, images()), (FLOWS["among other stages"], None)), ids=("images", "vectors"))
def test_drift_is_healed_wherever_it_is_found(make, x, monkeypatch):
    """Stages applied again overwrite arrays of the way back, which no pullback may then read."""
    flow = make()
    x = events(flow) if x is None else x
    b, calls = weights(len(x)), []
    _, stored_bar = LikelihoodGradient("stored")(flow, x, b)
    monkeypatch.setattr(likelihood, "drifted", lambda event, known: calls.append(1) is None and False)
    LikelihoodGradient("reversible")(flow, x, b)
    for k in range(1, len(calls) + 1):
        found, gradient = iter(range(1, k + 1)), LikelihoodGradient("reversible")
        monkeypatch.setattr(likelihood, "drifted", lambda event, known: next(found, 0) == k)
        _, params_bar = gradient(flow, x, b)
        assert gradient.drifted == 1
        for (path, bar), (_, stored) in zip(flatten(params_bar), flatten(stored_bar)):
            np.testing.assert_allclose(bar, stored, rtol=0, atol=1e-9 * np.abs(stored).max(), err_msg=path)
    assert len(calls) >= 5


def test_without_detection_drift_is_felt(monkeypatch):
    monkeypatch.setattr(likelihood, "drifted", lambda event, known: False)
    flow, x, b = ill_conditioned(), drifting_events(), weights()
    _, params_bar = LikelihoodGradient("reversible", rows=6)(flow, x, b)
    _, stored_bar = LikelihoodGradient("stored", rows=6)(flow, x, b)
    errors = [np.abs(bar - stored).max() / np.abs(stored).max() for (_, bar), (_, stored)
              in zip(flatten(params_bar), flatten(stored_bar)) if stored.any()]
    assert not max(errors) < 1e-3


def test_additive_drift():
    """Log-dets are all 0 and tell nothing; the sums of entries do."""
    flow, x, b = ill_conditioned(AdditiveCoupling, K=12, size=4.0), drifting_events(), weights()
    gradient = LikelihoodGradient("reversible")
    _, params_bar = gradient(flow, x, b)
    assert gradient.drifted == 1
    _, stored_bar = LikelihoodGradient("stored")(flow, x, b)
    for (path, bar), (_, stored) in zip(flatten(params_bar), flatten(stored_bar)):
        np.testing.assert_allclose(bar, stored, rtol=0, atol=1e-9 * np.abs(stored).max(), err_msg=path)


def test_no_drift_is_found_where_there_is_none():
    for dtype in (np.float32, np.float64):
        flow = FLOWS["RealNVP"]().astype(dtype)
        gradient = LikelihoodGradient("reversible")
        gradient(flow, events(flow), weights().astype(dtype))
        assert gradient.drifted == 0 and gradient.by_page == 0


def test_drift_beyond_what_is_allowed():
    """Errors that cancel in a plain sum, and numbers that are not finite, are drift; a few roundings are not."""
    event = np.random.default_rng(0).standard_normal((3, 8))
    known, u = likelihood.weighted(event), np.finfo(float).eps / 2
    assert not likelihood.drifted(event * (1 + 16 * u), known)
    assert likelihood.drifted(event * (1 + 2 * (likelihood.ALLOWED + 8) * u), known)
    moved = event.copy()
    moved[1, 2], moved[1, 5] = event[1, 2] + 1e-6, event[1, 5] - 1e-6
    assert likelihood.drifted(moved, known)
    moved[1, 2] = np.nan
    assert likelihood.drifted(moved, known)


# -- planted bugs -----------------------------------------------------------------------------------------------------

class WithoutMask:
    """NumPy, in which every number is greater than every other."""

    def __getattr__(self, name):
        return getattr(np, name)

    def greater(self, h, zero, out):
        out[...] = True
        return out


def wrong_cotangent(self, z, product_bar, b, s_bar):
    product_bar *= self.factor
    np.multiply(product_bar, z, out=s_bar)
    s_bar -= b


def wrong_sum(self, path, g, a, add_product=likelihood.Sums.add_product):
    self.begun.discard(path)
    add_product(self, path, g, a)


BUGS = {"a mask that lets all pass": (tuned, "np", WithoutMask()),
        "the log-det's cotangent negated": (tuned.Exponential, "cotangents", wrong_cotangent),
        "only the last chunk": (likelihood.Sums, "add_product", wrong_sum)}


@pytest.mark.parametrize("bug", BUGS)
@pytest.mark.parametrize("law", (stored_is_the_pages, reversible_is_the_pages))
def test_the_laws_catch_planted_bugs(law, bug, monkeypatch):
    flow = FLOWS["RealNVP, exp"]()
    x, b = events(flow), weights()
    law(flow, x, b)
    monkeypatch.setattr(*BUGS[bug])
    with pytest.raises(AssertionError, match="the page gives"):
        law(flow, x, b)


# -- sums, weights ----------------------------------------------------------------------------------------------------

def test_the_first_term_of_a_sum_overwrites_and_the_next_are_added():
    """Of a parameter at two places, too; a parameter without a term has the sum 0."""
    sums = likelihood.Sums({"W": (slice(0, 4), (2, 2)), "b": (slice(4, 6), (2,)), "c": (slice(6, 7), ())}, {"again.W": "W"}, 7,
                           np.dtype(float))
    sums.vector[...] = np.nan
    flat, index, W = np.array([1.0, 2.0, 3.0]), np.array([[2, 0], [1, 1]]), np.array([[3.0, 1.0], [2.0, 2.0]])
    for count, path in enumerate(("W", "again.W", "W"), 1):
        sums.add_taken(path, flat, index)
        assert np.array_equal(sums.views["W"], count * W)
    g, a = np.array([[1.0], [2.0]]), np.array([[3.0, 5.0]])
    sums.add_product("again.W", g, a)
    sums.add_all("", {"b": np.array([1.0, 7.0]), "again": {"W": W}})
    sums.finish()
    assert np.array_equal(sums.views["W"], 4 * W + g @ a) and sums.views["b"].tolist() == [1, 7] and sums.views["c"] == 0


def test_weights_are_the_golden_sections():
    """From 1 to 2, no two of them near each other: n of them keep a distance of more than 1/(3 n)."""
    w = likelihood.weights(1000)
    golden = w[1] - 1
    assert w[0] == 1 and abs(golden**2 + golden - 1) < 1e-15 and (w < 2).all()
    assert np.diff(np.sort(w)).min() > 1 / 3000


def test_norms():
    assert tuned.norm(np.array([[3.0, 0.0], [0.0, -4.0]])) == 5
    assert np.isclose(tuned.norm(np.full((2, 8), 1e18, np.float32)), 4e18, rtol=1e-6)


# -- memory -----------------------------------------------------------------------------------------------------------

def peak(flow, memory, x):
    """The most bytes that NumPy holds during a gradient."""
    gradient, b = LikelihoodGradient(memory, rows=64), np.ones(len(x))
    flow.log_prob(x[:1])
    tracemalloc.start()
    gradient(flow, x, b)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


@pytest.mark.parametrize("tune", (True, False), ids=("tuned", "by pages"))
def test_memory_grows_by_the_gradient_alone(tune, monkeypatch):
    if not tune:
        monkeypatch.setattr(likelihood, "twin", lambda stage, side: None)
    x = np.random.default_rng(1).standard_normal((256, 8))
    flows = {K: moved(realnvp(np.random.default_rng(0), 8, (64, 64), K), 0.02) for K in (4, 36)}
    growth = {memory: (peak(flows[36], memory, x) - peak(flows[4], memory, x)) / 32 for memory in ("reversible", "stored")}
    own = (flows[36].ravel().nbytes - flows[4].ravel().nbytes) / 32
    assert growth["reversible"] <= 2 * own < growth["stored"]


# -- bad input, training ----------------------------------------------------------------------------------------------

def test_bad_input_is_refused_by_name():
    flow = FLOWS["RealNVP"]()
    for given, message in ((("half",), "LikelihoodGradient: memory must be one of .*, not 'half'"),
                           (("stored", 0), "LikelihoodGradient: rows must be an int >= 1, not 0"),
                           (("stored", 8, 0.5), "LikelihoodGradient: threads must be an int >= 1, not 0.5"),
                           (("stored", 8, 1, 0), "LikelihoodGradient: parts must be an int >= 1, not 0")):
        with pytest.raises(ValueError, match=message):
            LikelihoodGradient(*given)
    gradient = LikelihoodGradient()
    x = events(flow)
    gradient(flow, x, weights())
    for call, message in ((lambda: gradient(flow.bijector, x, weights()), "flow must be a Flow, not Inverse"),
                          (lambda: gradient(flow, x[:, :4], weights()), "Flow: x has event shape"),
                          (lambda: gradient(flow, np.where(x == x[2, 1], np.nan, x), weights()), r"x\[2, 1\] = nan"),
                          (lambda: gradient(flow, x, weights(5)), "b has shape"),
                          (lambda: gradient(flow, x.astype(np.float16), weights()), "must be float32 or float64")):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_parameter_batch_is_left_to_the_page():
    flow = Flow(Independent(Affine(np.zeros((3, 4)), np.ones((3, 4)) + np.arange(4)), 1), StandardNormal(4))
    gradient, x = LikelihoodGradient("reversible"), np.random.default_rng(0).standard_normal((N, 3, 4))
    log_prob, params_bar = gradient(flow, x, np.ones((N, 3)))
    wanted, pullback = flow.log_prob_vjp(x)
    assert gradient.by_page == 1 and np.array_equal(log_prob, wanted)
    for (_, bar), (_, page) in zip(flatten(params_bar), flatten(pullback(np.ones((N, 3)))[1])):
        assert np.array_equal(bar, page)


@pytest.mark.parametrize("memory, threads", [("stored", 1), ("stored", 2), ("reversible", 1)])
def test_fit(memory, threads):
    data = np.random.default_rng(0).standard_normal((300, 4)) @ np.random.default_rng(1).standard_normal((4, 4))
    start = realnvp(np.random.default_rng(2), 4, (16,), 4)

    def trained():
        return fit(start, data, optimiser=Adam(0.01), steps=40, batch_size=100, rng=np.random.default_rng(3),
                   gradient=LikelihoodGradient(memory, 32, threads, threads))

    first, second = trained(), trained()
    assert first.flow.equals(second.flow) and np.array_equal(first.history["loss"], second.history["loss"])
    plain = fit(start, data, optimiser=Adam(0.01), steps=40, batch_size=100, rng=np.random.default_rng(3))
    np.testing.assert_allclose(first.history["loss"], plain.history["loss"], rtol=1e-6)
    assert first.history["loss"][-1] < first.history["loss"][0] - 0.5


def test_arrays_of_a_workspace_are_contiguous():
    space, E = likelihood.Workspace(), np.arange(12.0).reshape(3, 4)
    copy = space.contiguous("E", E.T)
    assert space.contiguous("E", E) is E and copy.flags.c_contiguous and np.array_equal(copy, E.T)
    assert space.contiguous("E", E[::-1].T) is copy and np.array_equal(copy, E[::-1].T)


def test_fit_refuses_a_gradient_that_is_none():
    with pytest.raises(ValueError, match="fit: gradient must be a LikelihoodGradient, not 'reversible'"):
        fit(FLOWS["RealNVP"](), np.zeros((8, 5)), rng=np.random.default_rng(0), gradient="reversible")
