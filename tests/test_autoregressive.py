"""Autoregressive maps and masked networks: laws, loops entry by entry, orders, refusals, training, files, planted bugs."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from tallies import check_laws_by_seeds, points_at
from refflow import Affine, Chain, Flow, Inverse, Power, StandardNormal, fit, load, save
from refflow.core import Array, Conditioner, bijector, conditioner, constant, real, tree
from refflow.laws.bijector_laws import run_laws, unit
from refflow.laws.gradient_laws import reversible_is_the_pages, stored_is_the_pages
from refflow.maps.autoregressive import Autoregressive
from refflow.maps.conditioners import (MaskedDense, Residual, Sequential, TanhActivation, dense_network,
                                       masked_dense_network)
from refflow.maps.coupling import AffineCoupling, Family, additive_family, affine_family, masks
from refflow.maps.elementwise import ExpScale, RescaledTanhExpScale, ScaledAffine, SoftplusScale
from refflow.maps.parametrisations import SPLINES, Free, GatedLocationScale, PerField
from refflow.maps.splines import RationalQuadraticSpline
from refflow.training import Adam
from validation.certify import errors
from validation.points.drawn import Point

DTYPES = (np.float32, np.float64)
EXP = affine_family(ExpScale())
POWER = Family(Power, PerField(("exponent",), (SoftplusScale(floor=0.1),)))
CONSTRAINED = Family(Affine, PerField(("scale", "shift"), (ExpScale(), Free())))
SPLINE = Family(RationalQuadraticSpline, SPLINES["nflows"](2, 3.0))


def net(rng, size, P=2, hidden=(4,), **options):
    """A small masked net with all its parameters drawn."""
    made = masked_dense_network(rng, size, hidden, P, activation=options.pop("activation", "tanh"), **options)
    return made.unravel(0.7 * rng.standard_normal(made.ravel().size))


def autoregressive(size, family=EXP, layout="halves", **options):
    return lambda rng: Autoregressive(net(rng, size, family.size, layout=layout, **options), family, layout)


def by_event(rng):
    """Separate weights for each of 16 events."""
    made = net(rng, 3)
    first, tanh, last = made.layers
    W = last.W + 0.3 * rng.standard_normal((16, *last.W.shape))
    return Autoregressive(made.replace(layers=(first, tanh, last.replace(W=W))), EXP)


def in_context(by_event):
    def make(rng):
        f = Autoregressive(net(rng, 3, context=2), EXP)
        return f.at(context=rng.standard_normal((16, 2) if by_event else 2))

    return make


MAPS = {
    "one entry": autoregressive(1),
    "left to right": autoregressive(3),
    "right to left": autoregressive(3, order="right-to-left", layout="interleaved"),
    "permuted": autoregressive(4, order=[2, 0, 3, 1]),
    "random degrees": autoregressive(4, hidden=(5, 5), degrees="random"),
    "residual": autoregressive(3, hidden=(4, 4), residual=True),
    "a linear net": autoregressive(3, hidden=()),
    "with its own parameters": autoregressive(3, affine_family(RescaledTanhExpScale(0.7, 0.2))),
    "gated": autoregressive(3, Family(ScaledAffine, GatedLocationScale())),
    "additive": autoregressive(3, additive_family()),
    "power": autoregressive(3, POWER),
    "constrained": autoregressive(2, CONSTRAINED, layout="interleaved"),
    "spline": autoregressive(2, SPLINE, layout="interleaved", hidden=(2,)),
    "a context": in_context(False),
    "a context by event": in_context(True),
    "weights by event": by_event,
}


def drawn_points(f, rng, dtype, count=6, spread=1.0):
    z = spread * rng.standard_normal((count, f.dims["D"]))
    return points_at(f, z, rng, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", MAPS)
def test_laws(name, dtype):
    check_laws_by_seeds(3, lambda rng: drawn_points(MAPS[name](rng), rng, dtype, 16, np.exp2(rng.uniform(-4, 1, (16, 1)))))


# -- the map, entry by entry ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("order", ["left-to-right", "right-to-left", [2, 0, 3, 1]], ids=str)
@pytest.mark.parametrize("layout", ["halves", "interleaved"])
def test_forward_and_inverse_are_loops_over_entries(order, layout):
    """Each entry from a network that receives the entries before it, and 7 in place of all others."""
    rng = np.random.default_rng(0)
    f = autoregressive(4, order=order, layout=layout)(rng)
    sequence = {"left-to-right": [0, 1, 2, 3], "right-to-left": [3, 2, 1, 0]}.get(str(order), order)
    z = rng.standard_normal(4)
    x, log_det = f.forward_and_log_det(z)
    known, total = np.full(4, 7.0), 0.0
    for j in sequence:
        h = f.net.forward(known)
        s, t = (h[j], h[4 + j]) if layout == "halves" else (h[2 * j], h[2 * j + 1])
        assert x[j] == pytest.approx(z[j] * np.exp(s) + t, rel=1e-14)
        known[j] = (x[j] - t) * np.exp(-s)
        total += s
    assert log_det == pytest.approx(total, rel=1e-13)
    assert f.inverse(x) == pytest.approx(known, rel=1e-12)
    assert [int(level[0]) for level in f.levels] == list(sequence)


def test_the_jacobian_is_triangular_in_the_order():
    rng = np.random.default_rng(1)
    order = [2, 0, 3, 1]
    f = autoregressive(4, order=order, hidden=(7, 7))(rng)
    J = f.jacobian(rng.standard_normal((5, 4)))[:, order][:, :, order]
    assert (np.triu(J, 1) == 0).all() and (np.tril(J) != 0).sum() == 5 * 10
    assert f.forward_and_log_det(np.zeros(4))[1] == pytest.approx(np.linalg.slogdet(f.jacobian(np.zeros(4)))[1], rel=1e-13)


def test_a_coupling_is_an_autoregressive_map_of_two_levels():
    rng = np.random.default_rng(2)
    mask = masks.alternating(5)
    inner = dense_network(rng, [3, 4, 4], "tanh")
    inner = inner.unravel(rng.standard_normal(inner.ravel().size))
    first, tanh, last = inner.layers
    sees_a, rows = np.tile(mask, (4, 1)), np.tile(~mask, 2)
    spread, wide, bias = np.zeros((4, 5)), np.zeros((10, 4)), np.zeros(10)
    spread[:, mask], wide[rows], bias[rows] = first.W, last.W, last.b
    masked = Sequential((MaskedDense(spread, sees_a, first.b), tanh, MaskedDense(wide, np.tile(rows[:, None], 4), bias)))
    f, g = AffineCoupling(mask, inner), Autoregressive(masked, EXP)
    assert [level.tolist() for level in g.levels] == [[0, 2, 4], [1, 3]]
    z = rng.standard_normal((6, 5))
    for method in ("forward_and_log_det", "inverse_and_log_det"):
        for mine, theirs in zip(getattr(g, method)(z), getattr(f, method)(z)):
            assert np.allclose(mine, theirs, 1e-14, 1e-14)


@pytest.mark.parametrize("name", ["permuted", "residual", "gated", "a context by event"])
def test_float32_is_float64_rounded(name):
    rng = np.random.default_rng(3)
    f = MAPS[name](rng)
    p = drawn_points(f, rng, np.float32, 16)
    x, log_det = p.f.forward_and_log_det(p.z)
    assert x.dtype == log_det.dtype == p.f.inverse(x).dtype == np.float32
    exact = p.f.astype(np.float64).forward_and_log_det(p.z)
    for given_, true, of in zip((x, log_det[:, None]), (exact[0], exact[1][:, None]), p.forward_sensitivities):
        assert (np.abs(given_ - true) <= unit(p, of.kappa)).all()


# -- the order and its refusal ----------------------------------------------------------------------------------------

def refused(*args):
    with pytest.raises(ValueError) as caught:
        Autoregressive(*args)
    return str(caught.value)


def test_a_net_without_an_order_is_refused():
    """A dense network was once accepted, and the map was wrong."""
    rng = np.random.default_rng(4)
    message = refused(dense_network(rng, [3, 4, 6]), EXP)
    assert message.startswith("Autoregressive: net") and "strictly triangular" in message
    assert "output entry 0 depends on input entry 0" in message
    unfilled = dense_network(rng, [3, 4, 6], context=2)
    assert "depends on input entry 0" in refused(unfilled, EXP)
    cycle = np.zeros((3, 3), bool)
    cycle[1, 2] = cycle[2, 1] = cycle[0, 1] = True
    assert "output entry 1 depends on input entry 2, which depends on entry 1" in refused(
        MaskedDense(np.ones((6, 3)), np.tile(cycle, (2, 1))), EXP)
    assert "output entry 0 depends on input entry 0" in refused(Residual(net(rng, 2, 1)), POWER)
    assert "output entry 2 depends on input entry 2" in refused(
        MaskedDense(np.ones((6, 3)), np.repeat(np.tril(np.ones((3, 3), bool), -1) | np.diag([False, False, True]), 2, 0)), EXP,
        "interleaved")


def test_what_does_not_fit_is_refused():
    rng = np.random.default_rng(5)
    assert "layout must be one of" in refused(net(rng, 3), EXP, "rows")
    assert "gains of channels" in refused(net(rng, 3), affine_family(RescaledTanhExpScale(None, None, [0.7, 0.2, 0.1])))
    assert "net must give 1 outputs for each of 3 entries, not (6,)" in refused(net(rng, 3), POWER)
    assert "net must map vectors to vectors" in refused(TanhActivation(), EXP)
    f = Autoregressive(net(rng, 3), EXP)
    with pytest.raises(ValueError, match="Autoregressive: z has event shape"):
        f.forward(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="there is no context"):
        Autoregressive(net(rng, 3, context=2), EXP).forward(np.zeros(3))


def test_the_layout_decides_what_an_output_belongs_to():
    rng = np.random.default_rng(6)
    with pytest.raises(ValueError, match="strictly triangular"):
        Autoregressive(net(rng, 3, layout="interleaved"), EXP, "halves")


# -- masked networks --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("degrees", ["sequential", "random"])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_masked_network_depends_on_entries_before(size, degrees, context):
    rng = np.random.default_rng(7)
    order = rng.permutation(size)
    made = masked_dense_network(rng, size, (16, 16), 2, order, degrees, context=context)
    pattern = made.depends((size,))
    place = np.argsort(order)
    assert pattern.shape == (2 * size, size) and not (pattern & np.tile(place[:, None] <= place, (2, 1))).any()
    if degrees == "sequential":         # every degree occurs, so nothing is left out
        assert (pattern == np.tile(place[:, None] > place, (2, 1))).all()
        inner = made.inner.depends((size + context,)) if context else pattern
        assert inner[:, size:].all()    # the context reaches every output, including the first entry's


def test_degrees_are_those_of_the_conventions():
    rng = np.random.default_rng(8)

    def first_mask(**options):
        return masked_dense_network(rng, 4, (5,), 1, **options).layers[0].connects

    assert first_mask().sum(1).tolist() == [1, 2, 3, 1, 2]                          # nflows, FlowJAX, torchflows: from 1
    assert first_mask(degrees=[[1, 1, 2, 2, 3]]).sum(1).tolist() == [1, 1, 2, 2, 3]         # given, as others have them
    contextual = masked_dense_network(rng, 4, (5,), 1, context=1).inner.layers[0].connects
    assert contextual[:, :4].sum(1).tolist() == [0, 1, 2, 3, 0] and contextual[:, 4].all()
    drawn = np.concatenate([first_mask(degrees="random").sum(1) for _ in range(300)])
    assert np.bincount(drawn)[1:] / len(drawn) == pytest.approx([1 / 3] * 3, abs=5 * np.sqrt(2 / 9 / len(drawn)))
    for width in (1, 2):            # fewer units than degrees: the sequential convention then leaves entries out
        pattern = masked_dense_network(rng, 4, (width,), 1).depends((4,))
        assert pattern.sum(1).tolist() == [0, *(min(k, width) for k in (1, 2, 3))]


def test_a_masked_network_starts_as_the_identity_and_can_be_seeded():
    made = [masked_dense_network(np.random.default_rng(9), 3, (8,), 2, degrees="random") for _ in range(2)]
    assert made[0].equals(made[1])
    z = np.random.default_rng(10).standard_normal((4, 3))
    x, log_det = Autoregressive(made[0], EXP).forward_and_log_det(z)
    assert np.array_equal(x, z) and not log_det.any()
    for layer in (made[0].layers[0], made[0].layers[-1]):
        assert not layer.W[~layer.connects].any()


@pytest.mark.parametrize("options, message", [
    ({"size": 0}, "size must be an int >= 1, not 0"),
    ({"hidden": (3, 0)}, r"hidden\[1\] must be an int >= 1, not 0"),
    ({"order": "up"}, "order must be one of"),
    ({"order": [0, 1, 1]}, r"order must hold each of 0 .. 2 once"),
    ({"degrees": "up"}, "degrees must be one of"),
    ({"degrees": [[1, 2]]}, "degrees must be 2 arrays"),
    ({"degrees": [[1, 2, 1], [1, 3, 1]]}, r"degrees\[1\] must be 3 ints in 0 .. 2"),
    ({"activation": "up"}, "activation must be one of"),
    ({"layout": "up"}, "layout must be one of"),
])
def test_bad_networks_are_refused(options, message):
    usual = {"rng": np.random.default_rng(0), "size": 3, "hidden": (3, 3), "outputs_per_entry": 2}
    with pytest.raises(ValueError, match=f"masked_dense_network: {message}"):
        masked_dense_network(**usual | options)


# -- training and files -----------------------------------------------------------------------------------------------

def correlated(rng, n):
    a = rng.standard_normal((n, 3))
    return np.stack((a[:, 0], 2 * a[:, 0] ** 2 + 0.3 * a[:, 1], a[:, 1] - a[:, 0] + 0.5 * a[:, 2]), -1)


def flow_of(rng, inverted, context=0):
    stages = [Autoregressive(masked_dense_network(rng, 3, (16,), 2, order, activation="tanh", context=context), EXP)
              for order in ("left-to-right", "right-to-left")]
    return Flow(Chain([Inverse(f) if inverted else f for f in stages]), StandardNormal(3))


@pytest.mark.parametrize("inverted", [True, False], ids=["one pass to the density", "one pass to samples"])
def test_training_lowers_the_loss(inverted):
    rng = np.random.default_rng(11)
    x, held_out = correlated(rng, 400), correlated(rng, 400)
    before = flow_of(rng, inverted)
    one = fit(before, x, optimiser=Adam(1e-2), steps=1, validation=0, rng=rng).flow
    many = fit(before, x, optimiser=Adam(1e-2), steps=150, validation=0, rng=rng).flow
    assert one.log_prob(x).mean() > before.log_prob(x).mean()
    assert many.log_prob(held_out).mean() > before.log_prob(held_out).mean() + 1


@pytest.mark.parametrize("law", [stored_is_the_pages, reversible_is_the_pages])
@pytest.mark.parametrize("inverted", [True, False])
def test_likelihood_gradient(inverted, law):
    rng = np.random.default_rng(12)
    flow = flow_of(rng, inverted, context=2)
    flow = flow.unravel(0.3 * rng.standard_normal(flow.ravel().size))
    law(flow, correlated(rng, 9), rng.standard_normal(9), rng.standard_normal((9, 2)))


@pytest.mark.parametrize("form", [".npz", ".json"])
def test_files(tmp_path, form):
    f = MAPS["permuted"](np.random.default_rng(13))
    save(f, tmp_path / f"f{form}")
    again = load(tmp_path / f"f{form}")
    z = np.ones((2, 4))
    assert again.equals(f) and np.array_equal(again.inverse(z), f.inverse(z)) and copy.deepcopy(f).equals(f)


def test_context_changes_every_entry_and_has_a_cotangent():
    rng = np.random.default_rng(14)
    f = Autoregressive(net(rng, 3, context=2), EXP)
    c = rng.standard_normal((2, 5, 2))
    z = np.ones((5, 3))
    assert (f.at(context=c[0]).forward(z) != f.at(context=c[1]).forward(z)).all()
    _, params_bar = f.at(context=c[0]).vjp(z)[1](z, np.zeros(5))
    assert params_bar["context"].shape == (5, 2) and params_bar["context"].all()


# -- planted bugs -----------------------------------------------------------------------------------------------------

def mutant(functions):
    """The page with some of its functions replaced."""
    body = {"__annotations__": dict.fromkeys(Autoregressive.declared, object), "__module__": __name__}
    cls = type("Mutant", (Autoregressive,), body | Autoregressive.declared | functions)
    return bijector(source="a planted bug", register=False)(cls)


def in_one_pass(self, x):
    """Right only in the first level: the network is given x, not z."""
    z, log_slopes = self.map_at(self.by_entry(self.net.forward(x)))[0].inverse_and_log_det(x)
    return z, log_slopes.sum(-1)


def backwards(self, x):
    return Autoregressive.inverse_and_log_det(tree.copied(self, levels=self.levels[::-1]), x)


def negated(self, x):
    z, log_det = Autoregressive.inverse_and_log_det(self, x)
    return z, -log_det


def through_one_level(self, x):
    z = self.inverse(x)
    return Autoregressive.inverse_vjp(tree.copied(self, levels=self.levels[-2:], inverse=lambda x: z), x)


def without_the_net(self, z):
    """The cotangent of z directly, without the part through the network."""
    values, pullback = Autoregressive.vjp(self, z)
    f, _ = self.map_at(self.by_entry(self.net.forward(z)))
    (_, log_slopes), direct = f.vjp(z)

    def detached(x_bar, log_det_bar):
        return direct(x_bar, log_det_bar[..., None] + 0 * log_slopes)[0], pullback(x_bar, log_det_bar)[1]

    return values, detached


BUGS = {
    "one pass": ({"inverse_and_log_det": in_one_pass}, "inverse of forward"),
    "the wrong order": ({"inverse_and_log_det": backwards}, "inverse of forward"),
    "the sign of the log-det": ({"inverse_and_log_det": negated}, "inverse log-det is minus log-det"),
    "cotangents through one level": ({"inverse_vjp": through_one_level}, "inverse pullback is the generic one"),
    "no cotangent of the net": ({"vjp": without_the_net}, "pullback is the transposed Jacobian"),
}


def planted(functions, rng):
    return mutant(functions)(net(rng, 3, order=[2, 0, 1]), EXP)


@pytest.mark.parametrize("name", BUGS)
def test_planted_bug(name):
    functions, law = BUGS[name]
    rng = np.random.default_rng(15)
    p = drawn_points(planted(functions, rng), rng, np.float64)
    with pytest.raises(AssertionError, match=f"{law}: Mutant: "):
        run_laws(p.f, p)


def test_without_a_bug_the_laws_hold():
    rng = np.random.default_rng(15)
    p = drawn_points(Autoregressive(net(rng, 3, order=[2, 0, 1]), EXP), rng, np.float64)
    run_laws(p.f, p)


@conditioner(source="a planted bug", register=False)
class Denying(Conditioner):
    """A dense layer that claims to be a masked one."""

    W: Array = real("M", "N")
    connects: Array = constant("M", "N")
    b: Array = real("M")
    event_shape, fixed_shape, depends = ("N",), MaskedDense.fixed_shape, MaskedDense.depends
    output_shape = MaskedDense.output_shape

    def forward(self, a):
        return np.matvec(self.W, a) + self.b

    def jacobian(self, a):
        return np.broadcast_to(self.W, (*a.shape[:-1], *self.W.shape[-2:]))

    def vjp(self, a):
        def pullback(h_bar):
            return np.matvec(self.W.mT, h_bar), {"W": h_bar[..., :, None] * a[..., None, :], "b": h_bar}

        return self.forward(a), pullback


def test_a_forbidden_dependence_that_a_net_denies_is_caught_by_the_laws():
    """The wrapper believes `depends`; the map is then badly wrong, and every relevant law says so."""
    rng = np.random.default_rng(16)
    made = net(rng, 3)
    last = made.layers[-1]
    leaking = Denying(W=last.W + 0.3, connects=last.connects, b=last.b)
    p = drawn_points(Autoregressive(made.replace(layers=(*made.layers[:-1], leaking)), EXP), rng, np.float64)
    with pytest.raises(AssertionError) as caught:
        run_laws(p.f, p)
    for law in ("inverse of forward", "log-det is slogdet of the Jacobian", "log-det is the finite-difference determinant"):
        assert law in str(caught.value)


# -- the certificate --------------------------------------------------------------------------------------------------

def test_the_certificate_notices_a_wrong_order():
    rng = np.random.default_rng(17)
    args = planted({"inverse_and_log_det": backwards}, rng), "inverse", np.array([0.3, -0.7, 1.1]), None, None, "", ""
    assert errors(Point(*args))["inverse"][0] > 1e6
    assert errors(Point(Autoregressive(args[0].net, EXP), *args[1:]))["inverse"][0] < 6
