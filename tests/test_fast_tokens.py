"""Tuned autoregressive maps of tokens are their pages: samples with a cache of keys and values, guidance, gradients that recompute."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from refflow.core import Inverse, tree
from refflow.fast import tokens, tuned
from refflow.fast.table import twin
from refflow.maps.autoregressive import Autoregressive
from refflow.maps.conditioners import (GELU, Delay, Dense, LayerNorm, Positionwise, RelativeAttention, ReshapedNetwork, Sequential,
                                       TanhActivation, Times)
from refflow.maps.coupling import affine_family
from refflow.maps.elementwise import ExpScale, SigmoidScale
from refflow.models.tarflow import classes_of, given_class, images_of, tarflow
from refflow.training import LikelihoodGradient

RNG = np.random.default_rng
ROUNDINGS = 32                          # that a twin may be from its page; at most 3 are seen
SETTINGS = {"scaled": {}, "shifts alone": {"scaled": False}, "classes": {"classes": 3}, "one token": {"patch": 4},
            "tokens of one pixel": {"patch": 1, "blocks": 3}, "two layers": {"layers": 2, "classes": 2}}
GUIDANCE = {"ab": (1.5, "ab"), "a, at a temperature": (2.0, "a", 0.5), "b, annealed": (0.75, "b", 1.5, True)}


def drawn(name, dtype=np.float64, size=0.1, **given):
    """A flow whose parameters have all been moved."""
    sizes = {"patch": 2, "channels": 8, "blocks": 2, "layers": 1, "head_size": 4, "expansion": 2} | SETTINGS[name] | given
    flow, rng = tarflow(RNG(0), (1, 4, 4), **sizes, dtype=dtype), RNG(5)
    params = flow.bijector.ravel()
    return flow.replace(bijector=flow.bijector.unravel_params(params + (size * rng.standard_normal(params.shape)).astype(dtype)))


def blocks(flow):
    return [stage for stage in flow.bijector.inner.stages if isinstance(stage, Autoregressive)]


def latents(shape=(2,), dtype=np.float64):
    return RNG(3).standard_normal((*shape, 16)).astype(dtype)


def difference(one, other):
    """In roundings of the largest number."""
    assert one.dtype == other.dtype and one.shape == other.shape
    return np.abs(one - other).max(initial=0) / max(np.abs(other).max(initial=0), 1) / np.finfo(other.dtype).eps


def given(flow, labels=(1, 0)):
    return given_class(flow, labels if classes_of(flow) else None)


def far_from_page(name, dtype=np.float64, **more):
    """How far samples and their log-dets are from the page's."""
    flow, z = given(drawn(name, dtype, **more)), latents(dtype=dtype)
    pairs = zip(tuned(flow).bijector.forward_and_log_det(z), flow.bijector.forward_and_log_det(z))
    return max(difference(*pair) for pair in pairs)


def far_with_guidance(how, name="classes"):
    flow, z = given(drawn(name)), latents()
    return difference(images_of(tuned(flow), z, *GUIDANCE[how]), images_of(flow, z, *GUIDANCE[how]))


# -- samples ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", SETTINGS)
def test_samples_are_the_page_s(name, dtype):
    assert all(type(f) is tokens.TokenByToken for f in blocks(tuned(drawn(name, dtype))))
    assert far_from_page(name, dtype) < ROUNDINGS


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3)])
def test_batches(shape):
    for flow in (drawn("scaled"), given_class(drawn("classes"))):
        z = latents(shape)
        assert difference(tuned(flow).bijector.forward(z), flow.bijector.forward(z)) < ROUNDINGS
        x, log_det = blocks(flow)[0].inverse_and_log_det(z)
        again, tuned_log_det = blocks(tuned(flow))[0].inverse_and_log_det(z)
        assert difference(again, x) < ROUNDINGS and difference(tuned_log_det, log_det) < ROUNDINGS and x.shape == z.shape


@pytest.mark.parametrize("how", GUIDANCE)
@pytest.mark.parametrize("name", ["classes", "two layers"])
def test_samples_with_guidance_are_the_page_s(how, name):
    flow, z = given(drawn(name)), latents()
    assert far_with_guidance(how, name) < ROUNDINGS
    assert difference(images_of(tuned(flow), z, *GUIDANCE[how]), flow.bijector.forward(z)) > 1e6


def test_a_temperature_alone_guides_a_flow_without_classes():
    flow, z = drawn("scaled"), latents()
    assert difference(images_of(tuned(flow), z, 1.0, temperature=0.5), images_of(flow, z, 1.0, temperature=0.5)) < ROUNDINGS


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", SETTINGS)
def test_densities_are_the_page_s(name, dtype, monkeypatch):
    """By the tuned network, which no page of a layer serves."""
    flow = given(drawn(name, dtype))
    x = flow.sample(RNG(4), 2)
    page = flow.log_prob(x)
    monkeypatch.setattr(Dense, "forward", None)
    assert difference(tuned(flow).log_prob(x), page) < ROUNDINGS


def test_each_token_passes_once(monkeypatch):
    """The page passes all tokens for each token."""
    passed, right = [], GELU.forward
    monkeypatch.setattr(GELU, "forward", lambda self, a: (passed.append(a[0].size), right(self, a))[1])
    flow, z, counts = drawn("scaled").bijector.inner.unchecked(np.float64), latents(), []
    for f in (tuned(flow), flow):
        passed.clear()
        f.inverse(z)
        counts.append(sum(passed))
    T, blocks_and_units = 4, 2 * 16
    assert counts == [(T - 1) * blocks_and_units, T * T * blocks_and_units]


def with_scores(size):
    """A map whose queries and keys are `size` times larger."""
    f = blocks(drawn("scaled"))[0]
    path = next(path for path, value in tree.walk(f) if isinstance(value, RelativeAttention))
    where = (*path[:-1], str(int(path[-1]) - 1), "layer", "W")
    queries_and_keys = np.where(np.arange(24) < 16, size, 1)[:, None]
    f = f.replace(**tree.nest({where: queries_and_keys * tree.at_path(f.params(), where)}))
    assert type(tuned(f)) is tokens.TokenByToken
    return f


def test_huge_scores_are_left_to_the_page():
    """Where the page sums differences of scores exactly."""
    f, z = with_scores(2.0**30), latents()
    assert np.array_equal(tuned(f).inverse(z), f.inverse(z))


def far_with_large_scores(monkeypatch):
    """Sums of exponentials overflow, or are 0; the page is not asked."""
    f, z = with_scores(2.0**5), latents()
    x = f.inverse(z)
    monkeypatch.setattr(Autoregressive, "solved", None)
    return difference(tuned(f).inverse(z), x)


def test_large_scores_are_reduced_by_the_largest(monkeypatch):
    assert far_with_large_scores(monkeypatch) < ROUNDINGS


def test_large_scores_that_are_not_reduced_show(monkeypatch):
    right = tokens.Events
    monkeypatch.setattr(tokens, "Events", lambda batch, count, direct: right(batch, count, True))
    with pytest.raises(TypeError):
        far_with_large_scores(monkeypatch)


@pytest.mark.parametrize(("score", "direct"), [(-740.0, False), (-42.0, False), (-40.0, True), (40.0, True), (42.0, False), (700.0, False)])
def test_sums_far_from_one_are_not_taken(score, direct):
    """exp(-740) is subnormal: it has few digits."""
    q, k, v = np.ones((3, 4, 1)) * np.reshape([1.0, score / 2, np.pi], (3, 1, 1))
    attention = tokens.Attention(RelativeAttention(heads=1, causal=True), tokens.Events((1,), 1, True))
    h = attention(0, np.concatenate((q, k, v)))
    assert attention.in_range() == direct and (not direct or difference(h, v) <= 1)


def of_two_tokens(layers, family=affine_family(ExpScale(), shift_first=True)):
    """A map of two tokens of four features."""
    return Autoregressive(ReshapedNetwork(Sequential((*layers, Delay())), (4, 2)), family)


def solved_is_the_page_s(f, x):
    assert type(tuned(f)) is tokens.TokenByToken
    for one, other in zip(tuned(f).inverse_and_log_det(x), f.inverse_and_log_det(x)):
        assert np.isfinite(other).all() and np.array_equal(one, other)


@pytest.mark.parametrize("s", [800.0, -800.0])
def test_scales_beyond_what_products_keep_are_left_to_the_page(s):
    """exp(-s) is 0, or overflows; its product with the event is neither."""
    x = np.ones((1, 4, 2)) * [1.0, np.sign(s) * 2.0 ** (np.sign(s) * 1000)]
    solved_is_the_page_s(of_two_tokens([Positionwise(Dense(np.zeros((8, 4)), np.repeat([s, 0.0], 4)))]), x.reshape(1, 8))


@pytest.mark.parametrize("which", ["s", "t", "s, of another scale", "tanh"])
def test_sums_that_overflow_are_left_to_the_page(which):
    """A sum of 0 overflows on its way."""
    W = np.outer(np.repeat([which != "t", which == "t"], 4), [1.0, 1.0, -1.0, -1.0]) * 2.0**823
    layers = [Positionwise(Dense(W if which != "tanh" else W[:4], np.full(8 if which != "tanh" else 4, 0.5)))]
    if which == "tanh":
        layers += [TanhActivation(), Positionwise(Dense(np.ones((8, 4)) / 8))]
    family = affine_family(SigmoidScale()) if "another" in which else affine_family(ExpScale(), shift_first=True)
    solved_is_the_page_s(of_two_tokens(layers, family), np.full((1, 8), 2.0**200))


@pytest.mark.parametrize("size", [2.0**60, 2.0**600, 2.0**1020])
def test_large_events_are_left_to_the_page(size):
    """Squares of normalisations are beyond their range, or overflow, and so do sums of dense layers."""
    f, z = blocks(drawn("scaled", head_size=2))[0], size * latents()
    for one, other in zip(tuned(f).inverse_and_log_det(z), f.inverse_and_log_det(z)):
        assert np.array_equal(one, other, equal_nan=True)


def test_a_number_that_is_not_finite_is_refused():
    for number in (np.inf, -np.inf, np.nan):
        with pytest.raises(tokens.Unusual):
            tokens.finite(np.array([1.0, number]))


def test_a_class_is_missing():
    with pytest.raises(ValueError, match="there is no context"):
        tuned(drawn("classes")).bijector.forward(latents())


@pytest.mark.parametrize("change", ["start", "window", "layout"])
def test_other_maps_stay_as_they_are(change):
    f = blocks(drawn("scaled"))[0]
    if change == "layout":
        f = blocks(drawn("shifts alone"))[0].replace(layout="interleaved")
    else:
        cls, new = {"start": (Delay, {"start": np.ones(8)}), "window": (RelativeAttention, {"block_length": 1})}[change]
        f = f.replace(net=tree.remade(f.net, lambda path, value: new if isinstance(value, cls) else {}))
    assert tuned(f) is f and twin(f, 0) is None


# -- planted bugs -----------------------------------------------------------------------------------------------------

def late_keys(monkeypatch):
    """A query that does not see its own token."""
    right = tokens.Attention.__call__

    def call(self, t, a):
        q, k, v = np.split(a, 3)
        return right(self, t, np.concatenate((q, 0 * k, v)))

    monkeypatch.setattr(tokens.Attention, "__call__", call)


def stale_values(monkeypatch):
    """Only the first token is kept."""
    right = tokens.Attention.__call__

    def call(self, t, a):
        h = right(self, t, a)
        self.held[..., 2, :, t, :] = self.held[..., 2, :, 0, :]
        return h

    monkeypatch.setattr(tokens.Attention, "__call__", call)


def late_tokens(monkeypatch):
    """The outputs for a token are those at the token before the one before it."""
    right = tokens.outputs

    def outputs(net, events):
        read, held = right(net, events), []

        def late(t, before):
            held.append(read(t, before))
            return held[max(t - 2, 0)]

        return late if type(net) is ReshapedNetwork else read

    monkeypatch.setattr(tokens, "outputs", outputs)


def other_variance(monkeypatch):
    """The unbiased one."""
    right = tokens.Standardised.__call__
    monkeypatch.setattr(tokens.Standardised, "__call__", lambda self, t, a: right(self, t, a) * np.sqrt(7 / 8))


def other_bias(monkeypatch):
    """The bias of a normalisation is lost where it is folded into a dense layer."""
    right = tokens.folded
    monkeypatch.setattr(tokens, "folded", lambda layers: right(
        [tree.copied(layer, bias=0 * layer.bias) if type(layer) is LayerNorm else layer for layer in layers]))


@pytest.mark.parametrize("bug", [late_keys, stale_values, late_tokens, other_variance, other_bias])
def test_a_wrong_cache_shows(bug, monkeypatch):
    bug(monkeypatch)
    assert far_from_page("scaled") > 1e6 and far_with_guidance("ab") > 1e6


def test_one_cache_for_both_passes_shows(monkeypatch):
    right, made = tokens.Attention, {}
    monkeypatch.setattr(tokens, "Attention", lambda layer, events: made.setdefault(layer.heads, right(layer, events)))
    assert far_with_guidance("ab") > 1e6


def test_guidance_in_the_wrong_pass_shows(monkeypatch):
    right = tokens.outputs

    def exchanged(net, events):
        if type(net) is tokens.Guided:
            net.net, net.free = net.free, net.net
        return right(net, events)

    monkeypatch.setattr(tokens, "outputs", exchanged)
    assert far_with_guidance("a, at a temperature") > 1e6


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("layer", [GELU(), TanhActivation()], ids=str)
def test_activations_are_their_pages(layer, dtype):
    layer, a = layer.unchecked(dtype), np.linspace(-2, 2, 12, dtype=dtype).reshape(3, 4)
    assert difference(tokens.reading(layer, tokens.Events((4,), 1, True))(0, a), layer.forward(a)) <= 2


# -- gradients --------------------------------------------------------------------------------------------------------

def gradient(flow, memory, count=6, dtype=np.float64):
    """(log_prob and all cotangents, the peak of memory)."""
    x, rng = RNG(1).uniform(-1, 1, (count, 1, 4, 4)).astype(dtype), RNG(2)
    context = np.eye(classes_of(flow), dtype=dtype)[np.arange(count) % classes_of(flow)] if classes_of(flow) else None
    given, b = LikelihoodGradient(memory), rng.standard_normal(count).astype(dtype)
    tracemalloc.start()
    log_prob, bars = given(flow, x, b, context)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert given.drifted == given.by_page == 0
    return [log_prob, *(bar for _, bar in tree.flatten(bars))], peak


@pytest.mark.parametrize("name", ["scaled", "shifts alone", "classes", "two layers"])
def test_recomputed_gradients_are_the_stored_ones(name):
    flow = drawn(name)
    (stored, _), (recomputed, _) = (gradient(flow, memory) for memory in ("stored", "reversible"))
    assert all(np.array_equal(one, other) for one, other in zip(stored, recomputed, strict=True))
    assert all(twin(f, 0) is tokens.KeptInput and twin(f, 1) is None for f in blocks(flow))


def test_recomputed_gradients_take_the_memory_of_one_block():
    flow = drawn("scaled", blocks=8, size=0.05)
    (_, stored), (_, recomputed) = (gradient(flow, memory, 256) for memory in ("stored", "reversible"))
    assert recomputed < 0.3 * stored


@pytest.mark.parametrize("memory, count", [("stored", 4), ("reversible", 1)])
def test_a_step_of_training_uses_the_arrays_of_the_last(memory, count):
    """Of each block, or of the one that recomputes."""
    flow, x, b, given, kept = drawn("scaled", blocks=4), np.full((6, 1, 4, 4), 0.25), np.ones(6), LikelihoodGradient(memory), []
    for factor in (1.0, 1.5):
        given(flow.unravel(factor * flow.ravel()), x, b)
        kept.append({id(array) for room in given.spaces[0].arrays["rooms"] for array in room.arrays})
        assert len(given.spaces[0].arrays["rooms"]) == count
    assert kept[0] == kept[1]


def test_a_wrong_kept_input_shows(monkeypatch):
    """The event after the map in place of the one before it: reconstruction is given up, as if it had drifted."""
    monkeypatch.setattr(tokens.KeptInput, "reversed", lambda self, after, memory: (after, self.at(after, after, memory)))
    with pytest.raises(AssertionError):
        gradient(drawn("scaled"), "reversible")


def test_an_inverse_keeps_nothing():
    """On its other side a map of tokens has the step of any map."""
    flow = drawn("scaled")
    f, x = blocks(flow)[0], latents()
    assert twin(f, 1) is None and difference(tuned(Inverse(f)).forward(x), f.inverse(x)) < ROUNDINGS
    assert isinstance(f.net, Times) and not tokens.is_read(Sequential((Dense(np.eye(2)),)))
