"""Conditioners: every law on every page and on networks, planted bugs, initialisers, the builder, the certificate."""

import contextlib

import mpmath
import numpy as np
import pytest

from tallies import check_question
from refflow import ActNorm, Exp, Pointwise, Softplus, Tanh
from refflow.core import Array, Conditioner, conditioner, extended_real, of_kind, real, refusal
from refflow.core.tree import flatten
from refflow.laws import conditioner_laws
from refflow.laws.conditioner_laws import OWN, SHARED, NetworkPoints, run_network_laws, without_padding
from refflow.maps import load_all
from refflow.maps.conditioners import (GELU, AddedSignal, BijectorLayer, BlendedDense, BlockDense, Contextual, Conv1d, CrossAttention,
                                       Delay, Dense, Dropout, HyperDense, LayerNorm, LipSwish, Positionwise, ReLU, Residual, Sequential, SiLU,
                                       SoftplusActivation, Swish, TanhActivation, TimeDense, TimeNetwork, Times, WeightNormDense,
                                       dense_network, initialisers, kaiming_normal, kaiming_uniform, uniform, weight_normalised_blocks,
                                       xavier_normal, xavier_uniform, zero)
from validation import certify
from validation.certify import certified, errors
from validation.questions import NETWORKS, Question
from refflow.accuracy.drawing import Point
from refflow.truth.measure import measure

DTYPES = (np.float32, np.float64)
load_all()
PAGES = of_kind("conditioner")


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", PAGES)
def test_page(name, dtype):
    check_question(Question("conditioner", name, np.dtype(dtype).name))


# -- networks ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", NETWORKS)
def test_network(name, dtype):
    check_question(Question("network", name, np.dtype(dtype).name))


# -- planted bugs -----------------------------------------------------------------------------------------------------

W, B = np.array([[1.0, 2.0], [-0.5, 0.25]]), np.array([0.5, -1.0])
EVENTS = np.linspace(-1, 2, 32).reshape(16, 2) + 0.013
H_BAR = np.cos(np.arange(32)).reshape(16, 2)


def planted(number, **methods):
    """A dense layer with some of its methods replaced."""

    class Planted(Conditioner):
        W: Array = real("M", "N")
        b: Array = real("M")
        event_shape, fixed_shape, definition = ("N",), Dense.fixed_shape, staticmethod(Dense.definition)
        output_shape = Dense.output_shape

    for name in ("forward", "jacobian", "vjp", "jvp"):
        setattr(Planted, name, getattr(Dense, name))
    for name, method in methods.items():
        setattr(Planted, name, method)
    Planted.__qualname__ = Planted.__name__ = f"Planted{number}"
    globals()[Planted.__name__] = conditioner(source="a planted bug", register=False)(Planted)      # where pickle finds it
    return globals()[Planted.__name__]


def pulled(change):
    """The vjp of Dense with its cotangents changed."""

    def vjp(self, a):
        h, pullback = Dense.vjp(self, a)
        return h, lambda h_bar: change(self, a, h_bar, *pullback(h_bar))

    return vjp


def pushed(change):
    """The jvp of Dense with its tangents and the cotangents of these changed."""

    def jvp(self, a, A_dot):
        (h, H_dot), pullback = Dense.jvp(self, a, A_dot)
        H_dot, changed = change(self, a, A_dot, H_dot)
        return (h, H_dot), lambda h_bar, H_bar: changed(H_bar, *pullback(h_bar, H_bar))

    return jvp


def unchanged(H_bar, *bars):
    return bars


def of_event_alone(self, a, A_dot, H_dot):
    """The parameters have no cotangents from the tangents."""
    return H_dot, lambda H_bar, a_bar, A_dot_bar, bars: (a_bar, A_dot_bar, bars | {"W": bars["W"] - H_bar @ A_dot.mT})


def writing(self, a):
    """It writes to its argument."""
    h = Dense.forward(self, a)
    if a.flags.writeable:
        a += 1e-9
    return h


class Counting:
    calls = 0


def drifting(self, a):
    """It depends on how often it was called."""
    Counting.calls += 1
    return Dense.forward(self, a) * (1 + 1e-12 * Counting.calls)


MUTANTS = {
    "jacobian is the derivative": {"jacobian": lambda self, a: 2 * Dense.jacobian(self, a)},
    "pullback is the transposed Jacobian": {
        "vjp": pulled(lambda self, a, h_bar, a_bar, bars: (np.matvec(self.W, h_bar), bars))},
    "pullback is the gradient": {
        "vjp": pulled(lambda self, a, h_bar, a_bar, bars: (a_bar, bars | {"b": -bars["b"]}))},
    "Taylor remainder falls as h^2": {
        "vjp": pulled(lambda self, a, h_bar, a_bar, bars: (a_bar, bars | {"W": 1.01 * bars["W"]}))},
    "cotangents sum over what broadcast": {
        "vjp": pulled(lambda self, a, h_bar, a_bar, bars: (a_bar, bars | {"b": bars["b"].sum(0, keepdims=True)}))},
    "dtype is kept": {"forward": lambda self, a: Dense.forward(self, a).astype(np.float32)},
    "nothing is mutated": {"forward": writing},
    "deterministic": {"forward": drifting},
    "threads may share": {"forward": drifting},
    "fused is separate": {"vjp": lambda self, a: (Dense.forward(self, a) + 1e-12, Dense.vjp(self, a)[1])},
    "batch is the stack of singles": {"forward": lambda self, a: Dense.forward(self, a) - 1e-3 * a.sum()},
    "any layout": {"forward": lambda self, a: Dense.forward(self, a).reshape(-1, 2)},
    "bad events are refused": {"domain": extended_real},
    "nothing depends on what it says it does not": {"depends": lambda self, shape: np.eye(2, dtype=bool)},
    "jvp is the product with the Jacobian": {
        "jvp": pushed(lambda self, a, A_dot, H_dot: (np.matmul(self.W.mT, A_dot), unchanged))},
    "jvp's pullback is the gradient": {"jvp": pushed(of_event_alone)},
    "it stretches by no more than it says": {"lipschitz": lambda self: 0.99 * Dense.lipschitz(self)},
}


@pytest.mark.parametrize("name", MUTANTS)
def test_planted_bug(name):
    net = planted(list(MUTANTS).index(name), **MUTANTS[name])(W=W, b=B)
    with pytest.raises(AssertionError) as caught:
        run_network_laws(net, NetworkPoints(net, EVENTS.copy(), H_BAR.copy()))
    assert name in str(caught.value), str(caught.value)


@pytest.mark.parametrize("page, law", [(TanhActivation, "jvp's pullback is the gradient"), (SiLU, "jvp's pullback is the gradient"),
                                       (SoftplusActivation, "jvp's pullback is the gradient")])
def test_a_planted_curvature_is_found(page, law, monkeypatch):
    net, right = page(), page.curvature
    monkeypatch.setattr(page, "curvature", lambda self, a: right(self, a) * 1.001)
    with pytest.raises(AssertionError, match=law):
        run_network_laws(net, NetworkPoints(net, EVENTS[:, 0].copy(), H_BAR[:, 0].copy()), lambda name: "jvp" in name)


def test_a_planted_sum_over_events_is_found():
    """LipSwish whose jvp adds to every event's cotangent of beta the sum over all events."""
    class Summing(LipSwish):
        def jvp(self, a, A_dot):
            values, pullback = LipSwish.jvp(self, a, A_dot)

            def counted(h_bar, H_bar):
                a_bar, A_dot_bar, bars = pullback(h_bar, H_bar)
                return a_bar, A_dot_bar, {"beta": bars["beta"] * np.size(h_bar)}

            return values, counted

    net = Summing(0.9)
    with pytest.raises(AssertionError, match="jvp's pullback is the gradient"):
        run_network_laws(net, NetworkPoints(net, EVENTS[:, 0].copy(), H_BAR[:, 0].copy()), lambda name: "jvp" in name)


class Forgetting(Residual):
    """A residual connection whose tangents do not pass by."""

    def jvp(self, a, A_dot):
        return self.inner.jvp(a, A_dot)


def test_a_planted_residual_of_tangents_is_found():
    net = Forgetting(Dense(W, B))
    with pytest.raises(AssertionError, match="jvp is the product"):
        run_network_laws(net, NetworkPoints(net, EVENTS.copy(), H_BAR.copy()), lambda name: "jvp" in name)


WITH_TANGENTS = {
    "Dense": Dense(W, B), "LipSwish": LipSwish(0.7), "Swish": Swish(-0.4), "gated": TimeDense(W[:, :1], B, B, B + 1, B),
    "ungated": TimeDense(W[:, :1], B), "BlendedDense": BlendedDense(W[:, :1], B, W[:, 1:], -B),
    "HyperDense": HyperDense(Dense([[1.0], [2.0], [-0.5], [0.25]], [0.5, 0.25, -1.0, 1.0]), 2), "Residual": Residual(Dense(W, B)),
    "TimeNetwork": TimeNetwork((TimeDense(W[:, :1], B, B, B + 1, B), Dense([[1.0, -2.0, 0.5]], [0.25])), Swish(0.5)),
    "Sequential": Sequential((Dense(W, B), LipSwish(0.7), Times(Dense(W, B), 0.5)))}


@pytest.mark.parametrize("name", WITH_TANGENTS)
def test_the_parameters_of_a_batch_have_the_cotangents_of_vjp_without_those_of_tangents(name):
    """They are summed over the batch once."""
    net = WITH_TANGENTS[name]
    a = EVENTS if net.event_ndim == (1, 1) else EVENTS[:, 0]
    h, of_h = net.vjp(a)
    (_, H_dot), of_both = net.jvp(a, np.ones((*a.shape, 2)))
    a_bar, params_bar = of_h(np.cos(np.arange(h.size)).reshape(h.shape))
    bar, _, more = of_both(np.cos(np.arange(h.size)).reshape(h.shape), np.zeros_like(H_dot))
    np.testing.assert_allclose(bar, a_bar, atol=2.0**-45)
    found = dict(flatten(more))
    assert found.keys() == dict(flatten(params_bar)).keys() == dict(flatten(net.params())).keys()
    for path, one in flatten(params_bar):
        np.testing.assert_allclose(found[path], one, rtol=2.0**-40, atol=2.0**-40)


def test_a_network_without_a_jvp_names_the_layer():
    net = Sequential((Dense(W, B), LayerNorm([1.0, 1.0], [0.0, 0.0])))
    with pytest.raises(NotImplementedError, match="LayerNorm has no jvp: the derivative of its Jacobian is not written"):
        net.jvp([1.0, 2.0], np.eye(2))


class Nameless(Dense):
    """A layer whose refusal does not name it."""

    def jvp(self, a, A_dot):
        raise NotImplementedError("there is no jvp")


def test_a_refusal_without_a_name_is_found():
    net = Nameless(W, B)
    with pytest.raises(AssertionError, match="does not name a layer"):
        run_network_laws(net, NetworkPoints(net, EVENTS.copy(), H_BAR.copy()), lambda name: "jvp" in name)


@pytest.mark.parametrize("page, slope, at", [
    (lambda: LipSwish(1.0), lambda a: mpmath.diff(lambda v: v / (1 + mpmath.exp(-v)) * 10 / 11, a), 2.4),
    (SiLU, lambda a: mpmath.diff(lambda v: v / (1 + mpmath.exp(-v)), a), 2.4),
    (GELU, lambda a: mpmath.ncdf(a) + a * mpmath.npdf(a), 1.4)])
def test_the_largest_slope_of_an_activation_is_what_it_says(page, slope, at):
    with mpmath.workdps(40):
        place = mpmath.findroot(lambda a: mpmath.diff(slope, a), at)
        largest, says = slope(place), mpmath.mpf(page().lipschitz())
        assert largest <= says < largest + mpmath.mpf("1e-10")
        assert all(abs(slope(a / mpmath.mpf(8))) <= largest for a in range(-80, 80))


def test_the_bound_of_a_network_is_the_product_over_its_layers():
    inner = Sequential((Dense(W, B), TanhActivation(), Dense(2 * W, B)))
    assert inner.lipschitz() == pytest.approx(2 * np.linalg.norm(W, 2) ** 2)
    assert Residual(inner).lipschitz() == 1 + inner.lipschitz() and Times(inner, -0.5).lipschitz() == inner.lipschitz() / 2
    assert Dense(np.stack([W, 3 * W]), B).lipschitz() == pytest.approx(3 * np.linalg.norm(W, 2))
    assert Dense(np.zeros((2, 0)), B).lipschitz() == 0 and Dropout([True, False], 0.5).lipschitz() == 2
    with pytest.raises(NotImplementedError, match="LayerNorm has no lipschitz: no bound of its Jacobian is written"):
        Sequential((Dense(W, B), LayerNorm([1.0, 1.0], [0.0, 0.0]))).lipschitz()


def test_tangents_of_another_shape_are_refused_by_name():
    net = Dense(W, B)
    for wrong in (np.eye(3), 1.0, np.ones((5, 2, 2))):
        with pytest.raises(ValueError, match="Dense: A_dot has shape"):
            net.jvp(EVENTS, wrong)
    (_, H_dot), pullback = net.jvp(EVENTS, np.eye(2))
    assert np.array_equal(H_dot[0], W)
    with pytest.raises(ValueError, match="Dense: H_bar has shape"):
        pullback(H_BAR, np.ones((3, 3)))
    assert pullback(H_BAR, np.ones((2, 1)))[1].shape == (2, 2)      # summed over the events that share the tangents


class Skipping(Sequential):
    """A network that initialises its last layer on what its first one meets."""

    def initialised(self, data, rng):
        return self.replace(layers=tuple(layer.initialised(data, rng) for layer in self.layers))


class Dropping(Sequential):
    """A network whose layers are initialised and left out."""

    def initialised(self, data, rng):
        super().initialised(data, rng)
        return self


class Overstating(Sequential):
    """A network in which everything seems to depend on everything."""

    def depends(self, shape):
        return np.ones_like(super().depends(shape))


@pytest.mark.parametrize("name, page", [("each layer is initialised on what it meets", Skipping),
                                        ("each layer is initialised on what it meets", Dropping),
                                        ("what it says depends does", Overstating)])
def test_planted_bug_of_a_network(name, page):
    for sound in (True, False):
        net = (Sequential if sound else page)((Dense(W, B), TanhActivation(), Dense(W)))
        p = NetworkPoints(net, EVENTS.copy(), H_BAR.copy())
        if sound:
            run_network_laws(net, p)
        else:
            with pytest.raises(AssertionError) as caught:
                run_network_laws(net, p)
            (line,) = [line for line in str(caught.value).splitlines() if line.startswith(f"{name}: {page.__name__}: ")]
            assert ": raised " not in line


def test_sound_layer_passes_where_bugs_are_planted():
    run_network_laws(Dense(W, B), NetworkPoints(Dense(W, B), EVENTS, H_BAR))


class Forgetful(Dense):
    """A dense layer that comes back from a pickle without its bias."""

    def __reduce__(self):
        return Dense, (self.W,)


class Permissive(Dense):
    """A dense layer that checks nothing and reverses its input."""

    def _validate(self):
        pass

    def changed(self, changes):
        return super().changed({key: value[::-1] for key, value in changes.items()})


class Accepting(Dense):
    """A dense layer that lists as refused what it accepts."""

    refused = (refusal("W must be something else", W=W, b=B),)


@pytest.mark.parametrize("name, page", [("pickles", Forgetful), ("bad parameters are refused", Permissive),
                                        ("refusals are named", Accepting),
                                        ("one vector", Permissive)])
def test_planted_bug_of_values(name, page):
    with pytest.raises(AssertionError) as caught:
        run_network_laws(page(W, B), NetworkPoints(page(W, B), EVENTS, H_BAR))
    assert name in str(caught.value), str(caught.value)


def test_planted_bug_of_raw_weights(monkeypatch):
    """Rows that are not normalised."""
    net = BlockDense([[[0.5, 2.0]], [[1.0, 0.25]]], np.ones((2, 4)), B)
    p = NetworkPoints(net, EVENTS.reshape(8, 4).copy(), H_BAR[:8].copy())
    run_network_laws(net, p)
    monkeypatch.setattr(conditioner_laws, "weight_normalised_blocks", lambda w, g, size, b=None, positive="exp":
                        weight_normalised_blocks(w, 1.01 * g, size, b, positive))
    with pytest.raises(AssertionError, match="raw weights are normalised: BlockDense: row 0 of W"):
        run_network_laws(net, p)


class LeavesPadding(Pointwise):
    """A shift of every position, the invalid ones too."""

    def _image(self, vectors, like):
        return vectors.swapaxes(-1, -2)


class SeesItsNeighbour(Pointwise):
    """Every position sees its right neighbour, and the last one the first."""

    def _members(self, event, side):
        vectors = self._vectors(event)
        return vectors + np.roll(vectors, -1, -2)


@pytest.mark.parametrize("page", [Pointwise, LeavesPadding, SeesItsNeighbour])
def test_planted_bug_of_padding(page):
    net = BijectorLayer(page(ActNorm([2.0, 0.25], [0.5, -1.0]), 2, [True, True, False]))
    check_padding(net, page is Pointwise, "padding changes nothing: BijectorLayer")


def check_padding(net, right, told):
    """Of two channels at three positions: the laws hold, or one is broken."""
    rng = np.random.default_rng(2024)
    p = NetworkPoints(net, *(without_padding(net, rng.standard_normal((8, 2, 3))) for _ in range(2)))
    with contextlib.nullcontext() if right else pytest.raises(AssertionError, match=told):
        run_network_laws(net, p)


class ReadsPaddedContext(AddedSignal):
    """Every position reads the context of the next one too."""

    def added(self, a):
        return super().added(a + 0.5 * np.roll(self.context, -1, -1))


@pytest.mark.parametrize("page", [AddedSignal, ReadsPaddedContext])
def test_planted_bug_of_a_context_that_is_a_signal(page):
    net = page(np.random.default_rng(2025).standard_normal((2, 3)), [True, True, False])
    check_padding(net, page is AddedSignal, "padding changes nothing.*another context")


class EveryPosition(Positionwise):
    """Every position seems to depend on every other."""

    def depends_on_positions(self, shape):
        return np.ones((shape[1], shape[1]), bool)


class FirstLayerAlone(Sequential):
    """What a position depends on seems to be settled by the first layer."""

    def depends_on_positions(self, shape):
        return self.layers[0].depends_on_positions(shape)


@pytest.mark.parametrize("page, given", [(EveryPosition, Dense(W, B)), (FirstLayerAlone, (Delay(), Delay()))])
def test_planted_bug_of_positions(page, given):
    for net in (page.__base__(given), page(given)):
        p = NetworkPoints(net, *(EVENTS[:12].reshape(4, 2, 3) + shift for shift in (0, 1)))
        if type(net) is not page:
            run_network_laws(net, p)
        else:
            with pytest.raises(AssertionError) as caught:
                run_network_laws(net, p)
            assert f"positions depend as their entries do: {page.__name__}: depends_on_positions is " in str(caught.value)


class NeedsItsContext(CrossAttention):
    """What depends is not known before the context is."""

    def depends_on_positions(self, shape):
        return np.eye(shape[1], dtype=bool) & (self.context.shape[-1] > 1)


class TakesTheBatchForPositions(CrossAttention):
    """It takes the first axis of the context for its positions."""

    def depends_on_positions(self, shape):
        return np.eye(shape[1], dtype=bool) & (self.context is None or self.context.shape[0] > 1)


class DependsOnNothing(CrossAttention):
    """Without a context, nothing depends on anything."""

    def depends_on_positions(self, shape):
        return super().depends_on_positions(shape) & (self.context is not None)


@pytest.mark.parametrize("page, said", [(NeedsItsContext, "raised AttributeError"), (DependsOnNothing, "without its context"),
                                        (TakesTheBatchForPositions, "in a batch of contexts")])
def test_planted_bug_of_a_dependence_by_context(page, said):
    positions = 1 if page is TakesTheBatchForPositions else 2
    for made in (CrossAttention, page):
        net = made(Conv1d(np.cos(np.arange(4.0)).reshape(4, 1, 1)), context=np.arange(1.0, 1 + positions)[None])
        p = NetworkPoints(net, EVENTS[:12].reshape(4, 2, 3), H_BAR[:12].reshape(4, 2, 3))
        if made is CrossAttention:
            run_network_laws(net, p)
        else:
            with pytest.raises(AssertionError) as caught:
                run_network_laws(net, p)
            assert f"nothing depends on what it says it does not: {page.__name__}: {said}" in str(caught.value)


def test_every_law_has_a_planted_bug():
    apart = {"pickles", "bad parameters are refused", "one vector", "padding changes nothing", "what it says depends does",
             "each layer is initialised on what it meets", "raw weights are normalised", "positions depend as their entries do"}
    assert set(SHARED) | set(OWN) == set(MUTANTS) | apart


# -- refusals and values ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make, parts", [
    (lambda: Sequential(()), ["Sequential", "at least one"]),
    (lambda: Sequential((1.0,)), ["Sequential", "1.0"]),
    (lambda: Sequential((Dense(np.ones((2, 3))), Dense(np.ones((1, 3))))), ["layers[1]", "Dense", "N=3", "(2,)"]),
    (lambda: Sequential((Dense(np.ones((2, 3))), Dropout(np.ones(3, bool), 0.5))), ["layers[1]", "Dropout", "(3,)", "(2,)"]),
    (lambda: Dense(np.ones(3)), ["Dense", "W", "(3,)"]),
    (lambda: Dense(np.ones((2, 3)), np.ones(3)), ["Dense", "b", "M=2"]),
    (lambda: WeightNormDense(v=[[1.0, 2.0], [0.0, 0.0]]), ["WeightNormDense", "v", "not all 0", "v[1]"]),
    (lambda: LayerNorm(gain=[1.0], eps=0.0), ["LayerNorm", "eps", "> 0"]),
    (lambda: Dropout(True, 1.0), ["Dropout", "rate", "[0, 1)"]),
    (lambda: Dropout([0.5], 0.5), ["Dropout", "keep", "bool"]),
    (lambda: Residual(Dense(np.ones((2, 3)))).forward(np.ones(3)), ["Residual", "Dense", "(2,)"]),
    (lambda: Contextual(Dense(np.ones((2, 3)))).forward(np.ones(2)), ["Contextual", "at(context=...)"]),
    (lambda: Contextual(Dense(np.ones((2, 3))), context=[1.0]).forward(np.ones(3)), ["Contextual", "N=3"]),
    (lambda: dense_network(np.random.default_rng(0), (3,)), ["dense_network", "sizes"]),
    (lambda: dense_network(np.random.default_rng(0), (3, 2), activation="sine"), ["dense_network", "activation", "sine"]),
    (lambda: dense_network(np.random.default_rng(0), (3, -1, 2)), ["dense_network", "sizes[1] = -1"]),
    (lambda: dense_network(np.random.default_rng(0), (3, 2.5)), ["dense_network", "sizes[1] = 2.5"]),
    (lambda: uniform(np.random.default_rng(0), (3, 2), -0.5), ["uniform", "bound", "-0.5"]),
    (lambda: dense_network(7, (3, 2)), ["rng", "numpy.random.Generator", "int"]),
    (lambda: kaiming_normal(np.random.default_rng(0), (3,)), ["shape", "(3,)"]),
    (lambda: uniform(np.random.default_rng(0), (3,), 1.0, np.int64), ["dtype", "int64"]),
])
def test_bad_input_is_refused_by_name(make, parts):
    with pytest.raises(ValueError) as caught:
        make()
    for part in parts:
        assert part in str(caught.value)


def test_context_is_filled_in_and_its_cotangent_summed():
    rng = np.random.default_rng(1)
    first, second = (Contextual(Dense(rng.standard_normal(shape))) for shape in ((3, 4), (2, 5)))
    shared = Sequential((first, TanhActivation(), second))
    c, a, h_bar = rng.standard_normal(2), rng.standard_normal((6, 2)), rng.standard_normal((6, 2))
    net = shared.at(context=c)
    _, pullback = net.vjp(a)
    bar = pullback(h_bar)[1]["context"]
    assert bar.shape == net.params()["context"].shape == (2,)
    for j in range(2):
        up, down = c.copy(), c.copy()
        up[j], down[j] = c[j] + 1e-6, c[j] - 1e-6
        difference = ((shared.at(context=up).forward(a) - shared.at(context=down).forward(a)) * h_bar).sum() / 2e-6
        assert abs(bar[j] - difference) < 1e-8 * (1 + abs(difference))


def test_relu_has_gradient_0_at_0():
    for zero_of in (0.0, -0.0):
        assert ReLU().jacobian(zero_of).tolist() == [[0.0]]
        assert ReLU().vjp(zero_of)[1](3.0)[0] == 0


def test_activations_take_events_of_any_rank():
    a = np.linspace(-3, 3, 24).reshape(2, 3, 4)
    for page in (ReLU, TanhActivation, GELU, SiLU, SoftplusActivation):
        h, pullback = page().vjp(a)
        assert h.shape == a.shape and page().jacobian(a).shape == (*a.shape, 1, 1)
        assert np.allclose(pullback(np.ones(a.shape))[0], page().jacobian(a)[..., 0, 0], rtol=2**-50, atol=0)


def test_dropout_keeps_the_mean_and_drops_what_it_is_told_to():
    rng = np.random.default_rng(2)
    keep = rng.random((100_000,)) >= 0.3
    h = Dropout(keep, 0.3).forward(np.ones(100_000))
    assert np.array_equal(h != 0, keep) and abs(h.mean() - 1) < 5 * np.sqrt(0.3 / 0.7 / 100_000)
    assert Dropout(keep, 0.3).params() == {}


def test_layer_without_inputs():
    net = dense_network(np.random.default_rng(0), (0, 3, 2), zero_last=False)
    h, pullback = net.vjp(np.zeros((5, 0)))
    assert h.shape == (5, 2) and pullback(np.ones(h.shape))[0].shape == (5, 0)


# -- the builder and the initialisers ---------------------------------------------------------------------------------

@pytest.mark.parametrize("size", [0.0, 400.0, -400.0])
def test_raw_weights_whose_squares_leave_the_floats(size):
    made = weight_normalised_blocks(np.full((2, 4), size), np.array([1.0, 3.0]), 1)
    np.testing.assert_allclose(made.within[0], [[0.5] * 4, [1.5] * 4], rtol=1e-15)
    assert made.b.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "silu", "softplus"])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("weight_norm", [False, True])
def test_dense_network(activation, residual, layer_norm, weight_norm):
    options = {"activation": activation, "residual": residual, "layer_norm": layer_norm, "weight_norm": weight_norm}
    a = np.random.default_rng(3).standard_normal((7, 3))
    net = dense_network(np.random.default_rng(0), (3, 8, 8, 4), dtype=np.float32, **options)
    assert net.dtype == np.float32 and net.output_shape((3,)) == (4,)
    assert not net.forward(a.astype(np.float32)).any()
    again = dense_network(np.random.default_rng(0), (3, 8, 8, 4), dtype=np.float32, **options)
    assert net.equals(again)
    started = dense_network(np.random.default_rng(0), (3, 8, 8, 4), zero_last=False, **options)
    assert started.forward(a).any() and started.forward(a).shape == (7, 4)
    assert sum(isinstance(layer, Residual) for layer in net.layers) == residual
    one = dense_network(np.random.default_rng(0), (3, 4), context=2, **options).at(context=np.ones((7, 2)))
    assert one.forward(a).shape == (7, 4)


@pytest.mark.parametrize("draw, variance, bound", [
    (kaiming_normal, 2 / 75, np.inf), (kaiming_uniform, 2 / 75, np.sqrt(6 / 75)),
    (xavier_normal, 2 / (75 + 100), np.inf), (xavier_uniform, 2 / (75 + 100), np.sqrt(6 / 175)),
])
def test_initialisers(draw, variance, bound):
    """A convolution of 25 entries from 3 to 4 channels, many times: fan_in 75, fan_out 100."""
    rng = np.random.default_rng(4)
    values = np.stack([draw(rng, (4, 3, 5, 5), np.float32) for _ in range(400)])
    assert values.dtype == np.float32 and np.abs(values).max() <= bound
    n = values.size
    assert abs(values.mean()) < 5 * np.sqrt(variance / n)
    assert abs(values.var() / variance - 1) < 5 * np.sqrt(3 / n)
    assert not zero(rng, (4, 3)).any() and np.abs(uniform(rng, (1000,), 0.01)).max() <= 0.01


def test_kaiming_keeps_the_second_moment_through_relu():
    """The purpose of the formula: after 10 layers the second moment is unchanged, up to 3 times sqrt(10 * 5 / 300)."""
    rng = np.random.default_rng(5)
    h = rng.standard_normal((2000, 300))
    for _ in range(10):
        h = np.maximum(h @ kaiming_normal(rng, (300, 300)).T, 0)
    assert 1 / 3 < np.square(h).mean() < 3
    assert initialisers.fans((4, 3, 5, 5)) == (75, 100)


# -- the certificate --------------------------------------------------------------------------------------------------

def test_measure_reads_a_few_units():
    net = Sequential((Dense([[1.0, 2.0], [3.0, -1.0]]), GELU(), Dropout(np.array([True, False]), 0.5), Dense([[0.5, 1.0]])))
    found = measure(net, a=[0.3, -0.7], h_bar=[1.5])
    assert {"forward", "jacobian", "vjp.a_bar", "vjp.layers.0.W_bar"} <= set(found)
    assert all(C < 4 for C, _ in found.values())


@conditioner(source="a planted bug", register=False)
class NaiveSiLU(Conditioner):
    """SiLU with 1 - sigma(a), which is 0 for large a, in its slope."""

    event_ndim = (0, 0)
    definition, forward, hard_cases = staticmethod(SiLU.definition), SiLU.forward, SiLU.hard_cases

    def slope(self, a):
        sigma = 1 / (1 + np.exp(-a))
        return sigma * (1 + a * (1 - sigma))

    def vjp(self, a):
        return self.forward(a), lambda h_bar: (h_bar * self.slope(a), {})


def test_the_certificate_notices_a_bad_slope():
    bad = errors(Point(NaiveSiLU(), "forward", np.array(-740.0), np.array(2.0**60), None, "", ""))
    good = errors(Point(SiLU(), "forward", np.array(-740.0), np.array(2.0**60), None, "", ""))
    assert bad["vjp.a_bar"][0] > 1e3 and good["vjp.a_bar"][0] < 4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name, every", [("ReLU", 7), ("Sequential", 1)])
def test_certificate_of_a_page(name, every, dtype, monkeypatch):
    """One in so many points: `validation.certify --check` asks all of them."""
    every_point = certify.points
    monkeypatch.setattr(certify, "points", lambda *of: every_point(*of)[::every])
    rows, count = certified(PAGES[name], dtype, "forward")
    assert count >= 40
    for quantity, row in rows.items():
        assert float(row["C"]) <= row["allowed"] <= 8 and row["share"] >= 0.5, (quantity, row)


@pytest.mark.parametrize("layer, told", [
    (Tanh(), "not the bijector Tanh(): its activation is TanhActivation()"),
    (Softplus(), "its activation is SoftplusActivation()"),
    (Exp(), "not the bijector Exp(): BijectorLayer(Exp(...)) is the network of a bijector"),
])
def test_a_bijector_among_layers_is_refused_with_its_network(layer, told):
    with pytest.raises(ValueError) as raised:
        Sequential([Dense(np.ones((2, 2)), np.zeros(2)), layer])
    assert str(raised.value).startswith("Sequential: layers must be networks, not the bijector") and told in str(raised.value)
