"""Masked networks: what every convention lets an output see, degrees as libraries count them, and the one-pass inverse."""

from __future__ import annotations

import numpy as np
import pytest

from refflow import Chain, Flow, Inverse, StandardNormal
from refflow.core.products import boolean_product
from refflow.fast import autoregressive, tuned
from refflow.fast import unit_by_unit as fast
from refflow.fast.couplings import Workspace
from refflow.fast.likelihood import line_of
from refflow.laws.gradient_laws import both_are_the_pages, stored_is_the_pages, tuned_is_the_pages
from refflow.maps.autoregressive import Autoregressive
from refflow.maps.conditioners import MaskedDense, Sequential, masked_dense_network, masked_network
from refflow.maps.coupling import Family, additive_family, affine_family
from refflow.maps.elementwise import ExpScale, RescaledTanhExpScale, SoftplusScale
from refflow.maps.parametrisations import SPLINES
from refflow.maps.splines import RationalQuadraticSpline

EXP = affine_family(ExpScale())
DIAMOND = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]], bool)
LADDER = np.tri(4, k=-1, dtype=bool)
ORDERS = {
    "left-to-right": ("left-to-right", LADDER),
    "right-to-left": ("right-to-left", LADDER[::-1, ::-1]),
    "an array": ([2, 0, 3, 1], np.array([[0, 0, 1, 0], [1, 0, 1, 1], [0, 0, 0, 0], [1, 0, 1, 0]], bool)),
    "two places": ([[0, 2], [1, 3]], np.array([[0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0]], bool)),
    "a graph": (DIAMOND, DIAMOND),
}
FORMS = {
    "plain": {},
    "tanh": {"activation": "tanh"},
    "random degrees": {"degrees": "random"},
    "interleaved": {"layout": "interleaved"},
    "residual": {"residual": True},
    "blocks": {"residual": "pre-activation"},
    "skip": {"skip": True},
    "no hidden layer": {"hidden": ()},
}
CONTEXTS = (None, *masked_network.CONTEXTS)


def net(rng, size=4, P=2, hidden=(9, 9), **options):
    """A masked network with all its parameters drawn."""
    made = masked_dense_network(rng, size, hidden, P, **options)
    return made.unravel(0.6 * rng.standard_normal(made.ravel().size))


def drawn(order, form, context_as, seed=0, **options):
    rng, given = np.random.default_rng(seed), FORMS[form] | options
    if context_as in ("added", "gated") and given.get("hidden") == ():
        pytest.skip("there is no layer that the context could enter")
    given |= {} if context_as is None else {"context": 2, "context_as": context_as}
    made = net(rng, order=ORDERS[order][0], **given)
    return made if context_as is None else made.at(context=rng.standard_normal((6, 2)))


# -- what an output sees ----------------------------------------------------------------------------------------------

def by_entry(rows, layout):
    """Rows for the outputs as (D, P, ...)."""
    return np.swapaxes(rows.reshape(2, 4, *rows.shape[1:]), 0, 1) if layout == "halves" else rows.reshape(4, 2, *rows.shape[1:])


def outputs_see(made, sees, layout="halves"):
    """The Jacobian at drawn events is 0 where an entry must not be seen, and nowhere else."""
    J = made.jacobian(2 * np.random.default_rng(1).standard_normal((40, 6, 4)))
    return (by_entry((J != 0).any((0, 1)), layout) == sees[:, None]).all()


@pytest.mark.parametrize("context_as", CONTEXTS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("order", ORDERS)
def test_the_jacobian_has_the_zeros_of_the_order(order, form, context_as):
    made, layout = drawn(order, form, context_as), FORMS[form].get("layout", "halves")
    assert (by_entry(made.depends((4,)), layout) <= ORDERS[order][1][:, None]).all()
    if form != "random degrees":                    # whose units may leave out what they are allowed
        assert outputs_see(made, ORDERS[order][1], layout)
    assert len(Autoregressive(made, EXP, layout).levels) >= 1


@pytest.mark.parametrize("order", ORDERS)
def test_a_mask_with_an_entry_too_many_is_noticed(monkeypatch, order):
    """Units see others that share an entry with them, instead of those whose entries they may all see."""
    monkeypatch.setattr(masked_network, "contains",
                        lambda outer, inner: boolean_product(outer, inner.T) | ~outer.any(1)[:, None])
    made = drawn(order, "plain", None)
    assert not outputs_see(made, ORDERS[order][1])
    with pytest.raises(ValueError, match="strictly triangular"):
        Autoregressive(made, EXP)


def test_the_first_entry_sees_the_context_where_libraries_let_it():
    """In nflows, and with the first layer alone in TFP, the outputs of the first entry do not depend on the context."""
    for context_as, seen in {"input": True, "every layer": True, "first layer": False, "added": False, "gated": False}.items():
        made = drawn("left-to-right", "blocks", context_as)
        h = made.forward(np.zeros((6, 4)))
        assert (np.ptp(h[:, 0]) > 0) == seen and np.ptp(h[:, 3]) > 0, context_as


# -- degrees ----------------------------------------------------------------------------------------------------------

def degrees(word, size, width, context=0):
    """The degrees of the first hidden layer: how many entries its units see."""
    made = masked_dense_network(np.random.default_rng(0), size, (width,), 1, degrees=word, context=context)
    return (made.inner if context else made).layers[0].connects[:, :size].sum(1).tolist()


def test_degrees_are_those_of_the_libraries():
    assert degrees("equal", 5, 7) == [1, 1, 2, 2, 3, 3, 4]                          # ceil(j 4/8), j = 1 .. 7
    assert degrees("equal", 2, 3) == [1, 1, 1]
    assert degrees("equal", 5, 3, context=1) == [1, 2, 3]
    assert degrees("rounded", 5, 7) == [1, 2, 2, 2, 3, 4, 4]                        # 1, 1.5, 2, 2.5, 3, 3.5, 4
    assert degrees("rounded", 5, 9, context=1) == [0, 1, 1, 1, 2, 3, 3, 3, 4]       # 1, 1.5, ..., 5, and 1 less
    assert degrees("rounded", 5, 1) == [1] and degrees("rounded", 1, 3) == [0, 0, 0]
    assert degrees("sequential", 5, 6) == [1, 2, 3, 4, 1, 2] and degrees("sequential", 5, 6, 1) == [0, 1, 2, 3, 4, 0]
    for word in masked_network.DEGREES:
        assert degrees(word, 1, 2) == [0, 0]


def test_entries_in_one_place_have_one_degree():
    made = masked_dense_network(np.random.default_rng(0), 5, (4,), 1, order=[[4, 1], [0], [2, 3]])
    assert made.layers[0].connects.sum(1).tolist() == [2, 3, 2, 3]
    assert made.depends((5,)).sum(1).tolist() == [2, 0, 3, 3, 0]


def test_units_of_a_graph_have_its_sets_in_turn():
    made = masked_dense_network(np.random.default_rng(0), 4, (3, 3), 1, order=DIAMOND)
    first, second = made.layers[0].connects, made.layers[2].connects
    assert first.tolist() == [[True, False, False, False], [True, True, True, False], [True, False, False, False]]
    assert second.tolist() == [[True, False, True], [True, True, True], [True, False, True]]


def test_a_random_order_is_drawn():
    made = [masked_dense_network(np.random.default_rng(seed), 6, (8,), 1, order="random") for seed in (0, 0, 1)]
    assert made[0].equals(made[1]) and not np.array_equal(made[0].depends((6,)), made[2].depends((6,)))
    assert sorted(made[0].depends((6,)).sum(1)) == list(range(6))


def relu(a):
    return np.maximum(a, 0)


@pytest.mark.parametrize("context_as", ["added", "gated"])
def test_blocks_are_those_of_nflows(context_as):
    """Its network, written out."""
    rng = np.random.default_rng(2)
    made = net(rng, context=2, context_as=context_as, residual="pre-activation")
    a, c = rng.standard_normal(4), rng.standard_normal(2)
    added, residual, last = made.layers
    assert added.net.layers[0].W.shape == (9, 2)

    def dense(layer, v):
        W = layer.weights() if isinstance(layer, MaskedDense) else layer.W
        return W @ v + layer.b

    h = dense(added.inner, a) + relu(dense(added.net.layers[0], c))
    block = residual.inner if context_as == "added" else residual.inner.inner
    _, first, _, second = block.layers
    if context_as == "added":
        inner = dense(second, relu(dense(first.inner, relu(h)) + dense(first.net, c)))
    else:
        inner = dense(second, relu(dense(first, relu(h)))) / (1 + np.exp(-dense(residual.inner.net, c)))
    np.testing.assert_allclose(made.at(context=c).forward(a), dense(last, h + inner), rtol=1e-13)


def test_blocks_start_near_the_identity():
    made = masked_dense_network(np.random.default_rng(0), 4, (9, 9), 2, residual="pre-activation")
    assert np.abs(made.layers[1].inner.layers[-1].W).max() <= 1e-3


def test_a_skip_is_a_masked_layer_beside_the_network():
    made = net(np.random.default_rng(3), skip=True)
    a = np.random.default_rng(4).standard_normal((5, 4))
    whole = Sequential((*made.blocks[0].layers, made.skips[1])).forward(a) + made.skips[0].forward(a)
    np.testing.assert_allclose(made.forward(a), whole, rtol=1e-13)


@pytest.mark.parametrize("options, message", [
    ({"order": [[0, 1], [1, 2]]}, "order must hold each of 0 .. 2 once"),
    ({"order": [0.0, 1.0, 2.0]}, "order must hold each of 0 .. 2 once"),
    ({"order": np.ones((3, 2), bool)}, r"a graph in place of order must have shape \(3, 3\)"),
    ({"order": np.eye(3, k=1, dtype=bool) | np.eye(3, k=-1, dtype=bool)}, "must not have a circle; entry 0 is in one"),
    ({"order": np.zeros((3, 3), bool)}, "in the graph no entry sees another"),
    ({"order": np.tri(3, k=-1, dtype=bool), "degrees": "equal"}, "degrees in a graph must be one of"),
    ({"residual": "twice"}, "residual must be one of"),
    ({"residual": "pre-activation", "hidden": (3, 4)}, "residual blocks keep the width, hidden layers have 3 and 4 units"),
    ({"context": 1, "context_as": "output"}, "context_as must be one of"),
    ({"context": 1, "context_as": "gated", "hidden": ()}, "context_as 'gated' needs a hidden layer"),
    ({"residual": True, "degrees": [[1, 2, 1], [2, 1, 1]]}, r"residual adds unit 1, which sees entries \[0 1\], to unit 1 of "
                                                            r"the next layer, which may see \[0\]"),
])
def test_bad_networks_are_refused(options, message):
    usual = {"rng": np.random.default_rng(0), "size": 3, "hidden": (3, 3), "outputs_per_entry": 2}
    with pytest.raises(ValueError, match=f"masked_dense_network: .*{message}"):
        masked_dense_network(**usual | options)


# -- the inverse in one pass ------------------------------------------------------------------------------------------

def events(f, seed=5, count=6):
    """Data of moderate latents."""
    return f.forward(0.7 * np.random.default_rng(seed).standard_normal((count, f.dims["D"])))


@pytest.mark.parametrize("context_as", CONTEXTS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("order", ORDERS)
def test_the_inverse_in_one_pass_is_the_pages(order, form, context_as):
    f = Autoregressive(drawn(order, form, context_as), EXP, FORMS[form].get("layout", "halves"))
    assert type(tuned(f)) is fast.UnitByUnit
    tuned_is_the_pages(f, events(f))


@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3)])
def test_batches_and_dtypes(shape, dtype):
    rng = np.random.default_rng(6)
    f = Autoregressive(net(rng, context=2), EXP).at(context=rng.standard_normal((3, 2)))
    f = (f if shape == (2, 3) else f.at(context=rng.standard_normal(2))).astype(dtype)
    x = f.forward(rng.standard_normal((*shape, 4)).astype(dtype))
    z, log_det = tuned(f).inverse_and_log_det(x)
    assert z.shape == x.shape and log_det.shape == x.shape[:-1] and z.dtype == log_det.dtype == dtype
    if x.size:
        tuned_is_the_pages(f, x)


def test_more_events_than_are_computed_at_a_time(monkeypatch):
    monkeypatch.setattr(fast, "EVENTS", 4)
    rng = np.random.default_rng(7)
    for context in ((2,), (13, 2)):
        f = Autoregressive(net(rng, context=2), EXP).at(context=rng.standard_normal(context))
        tuned_is_the_pages(f, events(f, count=13))


@pytest.mark.parametrize("family", [Family(RationalQuadraticSpline, SPLINES["nflows"](4, 3.0)), affine_family(SoftplusScale()),
                                    affine_family(ExpScale(), shift_first=True)],
                         ids=["vectors as fields", "another scale", "shifted first"])
def test_any_family(family):
    made = net(np.random.default_rng(8), P=family.size, layout="interleaved")
    tuned_is_the_pages(f := Autoregressive(made, family, "interleaved"), events(f))


def test_sums_that_overflow_are_left_to_the_page():
    """The sum of the first layer overflows on its way, tanh of it does not."""
    first = MaskedDense([[2.0**900, -(2.0**900), 0.0]] * 2, [[True, True, False]] * 2, [0.0, 1.0])
    last = MaskedDense([[0.5, 0.25]] * 6, np.repeat([[False], [False], [True]] * 2, 2, 1), [0.1, 0.2, 0.3, 0.0, 0.0, 0.0])
    f = Autoregressive(Sequential((first, masked_network.ACTIVATIONS["tanh"](), last)), EXP)
    x = np.array([[2.0**200, 2.0**200, 1.0], [1.0, 0.5, 2.0]])
    for mine, pages in zip(tuned(f).inverse_and_log_det(x), f.inverse_and_log_det(x)):
        assert np.isfinite(mine).all() and np.array_equal(mine, pages)


def test_scales_beyond_what_products_keep_are_left_to_the_page():
    """exp(s) overflows with s = 800, and is 0 with s = -800."""
    for s in (800.0, -800.0):
        last = MaskedDense(np.zeros((2, 1)), np.zeros((2, 1), bool), [s, 0.5])
        f = Autoregressive(Sequential((last,)), EXP)
        x = np.array([[2.0**-1000], [0.5]]) if s < 0 else np.array([[2.0**1000], [0.5]])
        for mine, pages in zip(tuned(f).inverse_and_log_det(x), f.inverse_and_log_det(x)):
            assert np.array_equal(mine, pages)


def test_a_family_with_a_batch_stays_the_pages():
    scale = RescaledTanhExpScale(np.ones((6, 1)))
    f = Autoregressive(net(np.random.default_rng(17)), affine_family(scale))
    assert type(tuned(f)) is Autoregressive and type(tuned(f.replace(family=EXP))) is fast.UnitByUnit


def test_a_network_of_other_layers_stays_the_pages():
    rng = np.random.default_rng(9)
    made = net(rng)
    by_event = made.layers[-1].replace(W=made.layers[-1].W + rng.standard_normal((6, 1, 1)))
    f = Autoregressive(made.replace(layers=(*made.layers[:-1], by_event)), EXP)
    assert type(tuned(f)) is Autoregressive


def test_what_is_missing_is_said():
    f = tuned(Autoregressive(net(np.random.default_rng(10), context=2), EXP))
    with pytest.raises(ValueError, match="there is no context"):
        f.inverse(np.zeros(4))
    with pytest.raises(ValueError, match="UnitByUnit: x has event shape"):
        f.inverse(np.zeros(3))


def test_every_unit_is_computed_once(monkeypatch):
    f = tuned(Autoregressive(net(np.random.default_rng(11), hidden=(30, 20)), EXP))
    computed, outputs, compute, at = [], [], fast.Product.compute, fast.Last.at

    def counted(self, part, k):
        computed.append(part.stop - part.start)
        compute(self, part, k)

    def read(self, units, k):
        outputs.append(units.size)
        return at(self, units, k)

    monkeypatch.setattr(fast.Product, "compute", counted)
    f.inverse(np.zeros((3, 4)))
    monkeypatch.setattr(fast.Last, "at", read)
    f.inverse(np.zeros((3, 4)))
    assert sum(computed) == 2 * (30 + 20) and outputs == [2, 2, 2, 2]


def test_samples_of_a_tuned_flow_are_the_flows():
    rng = np.random.default_rng(12)
    stages = [Inverse(Autoregressive(net(rng, order=order), EXP)) for order in masked_network.ORDERS]
    flow = Flow(Chain(stages), StandardNormal(4))
    one, other = (f.sample(np.random.default_rng(0), 50) for f in (flow, tuned(flow)))
    np.testing.assert_allclose(one, other, rtol=1e-9)
    assert [type(stage.inner) for stage in tuned(flow).bijector.stages] == [fast.UnitByUnit] * 3
    assert tuned(flow).params().keys() == flow.params().keys()


def test_a_component_in_two_places_stays_one():
    f = Autoregressive(net(np.random.default_rng(13)), EXP)
    both = tuned(Chain((f, f)))
    assert both.stages[0] is both.stages[1] and len(both.ravel()) == len(f.ravel())


# -- the gradient -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@pytest.mark.parametrize("options", [{}, {"activation": "tanh"}, {"order": [2, 0, 3, 1]}, {"order": DIAMOND},
                                     {"hidden": (60, 50)}, {"hidden": ()}, {"degrees": "random", "hidden": (100,)}], ids=str)
def test_the_tuned_gradient_is_the_pages(options, dtype):
    rng = np.random.default_rng(15)
    stages = [Inverse(Autoregressive(net(rng, **options), EXP)) for _ in range(2)]
    stages.append(Inverse(Autoregressive(net(rng, P=1, order="right-to-left"), additive_family())))
    flow = Flow(Chain([stage.unravel(0.3 * stage.ravel()) for stage in stages]), StandardNormal(4)).astype(dtype)
    line = line_of(flow.unchecked(np.dtype(dtype)).bijector, Workspace())
    assert [type(step) for step in line.steps] == [autoregressive.TunedAutoregressive] * 3
    x, b = rng.standard_normal((11, 4)).astype(dtype), rng.standard_normal(11).astype(dtype)
    both_are_the_pages(flow, x, b)


def test_blocks_hold_all_that_a_mask_connects():
    rng = np.random.default_rng(16)
    for _ in range(20):
        connects = rng.random((rng.integers(1, 80), rng.integers(1, 80))) < rng.choice([0.0, 0.02, 0.5])
        covered = np.zeros_like(connects), np.zeros_like(connects)
        for start, end, first in autoregressive.staircase(connects):
            covered[0][start:end, first:] = True
        for start, end, last in autoregressive.falling(connects):
            covered[1][:last, start:end] = True
        assert (connects <= covered[0]).all() and (connects <= covered[1]).all()


@pytest.mark.parametrize("order", ["left-to-right", "right-to-left", [3, 6, 0, 7, 2, 5, 1, 4]], ids=str)
def test_products_leave_out_a_third(order):
    """In the order of the units masks are staircases, whichever order the entries have."""
    f = Autoregressive(net(np.random.default_rng(18), size=8, hidden=(240, 240), order=order), EXP)
    flow = Flow(Inverse(f), StandardNormal(8)).unchecked(np.dtype(np.float64))
    step, = line_of(flow.bijector, Workspace()).steps
    first, middle, last = step.dense
    assert max(multiplied(middle)) < 0.67
    if isinstance(order, str):                                  # else the few entries do not stand in their order
        assert multiplied(first)[0] < 0.67 and multiplied(last)[1] < 0.67


def multiplied(layer):
    """The parts of a matrix that stand in its products, forwards and backwards."""
    M, N = layer.W.shape
    return (sum((end - start) * (N - first) for start, end, first in layer.row_blocks) / (M * N),
            sum((end - start) * last for start, end, last in layer.column_blocks) / (M * N))


# -- planted bugs -----------------------------------------------------------------------------------------------------

def too_early(self, layer, before, steps, n=None):
    """A unit is computed before the last entry that it sees is known."""
    product(self, layer, tree_of(before, known=np.maximum(before.known - 1, 0)), steps, n)


product = fast.Product.__init__


def tree_of(units, **changes):
    other = object.__new__(type(units))
    other.__dict__.update(vars(units) | changes)
    return other


def without_bias(self, part, k):
    known = self.before.parts[k].stop
    np.matmul(self.bW[part, 1:known + 1], self.before.rows[:known], out=self.rows[part])


def in_the_first_order(self, units, k):
    """The outputs are read as if they stood in their first order."""
    known = self.before.parts[k].stop + 1
    return np.matmul(self.bW[units, :known], self.before.with_one[:known])


BUGS = {"too early": (fast.Product, "__init__", too_early), "without bias": (fast.Product, "compute", without_bias),
        "rows of other units": (fast.Last, "at", in_the_first_order)}


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_breaks_the_law(monkeypatch, name):
    owner, method, bug = BUGS[name]
    f = Autoregressive(drawn("an array", "plain", None), EXP)
    x = events(f)
    tuned_is_the_pages(f, x)
    monkeypatch.setattr(owner, method, bug)
    with pytest.raises(AssertionError, match="the page gives"):
        tuned_is_the_pages(f, x)


def test_a_gradient_without_the_mask_breaks_the_law(monkeypatch):
    rng = np.random.default_rng(14)
    flow = Flow(Inverse(Autoregressive(net(rng), EXP)), StandardNormal(4))
    x, b = rng.standard_normal((7, 4)), rng.standard_normal(7)
    stored_is_the_pages(flow, x, b)
    made = autoregressive.SortedDense.__init__

    def unmasked(self, layer, *given):
        made(self, layer.replace(connects=np.ones_like(layer.connects)), *given)
        self.W = self.W * layer.connects[given[-2]][:, given[-1]]

    monkeypatch.setattr(autoregressive.SortedDense, "__init__", unmasked)
    with pytest.raises(AssertionError, match="the page gives 0.0"):
        stored_is_the_pages(flow, x, b)
