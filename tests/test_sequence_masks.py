"""Masks of sequences: the laws on masked maps and their compositions, how masks are filled in, initialisation, refusals."""

from __future__ import annotations

import inspect
import pickle

import numpy as np
import pytest

from tallies import check, points_at
from refflow import (ActNorm, Chain, DenseLinear, Exp, Flow, GlowActNorm, GlowTTSActNorm, GroupedLinear, Independent, Inverse,
                     Pointwise, Power, Sigmoid, Softplus, Squeeze, Squeezed, SqueezeTime, StandardNormal)
from refflow.accuracy.points import Points
from refflow.accuracy.valid import at_valid
from refflow.core import Bijector, Conditioner, RandomSource, compose, conditioner
from refflow.laws.bijector_laws import LAWS, run_laws
from refflow.laws.rejections import Tally
from refflow.maps.conditioners import BijectorLayer, Contextual, Dense, Sequential
from refflow.maps.coupling import (AdditiveCoupling, AffineCoupling, Coupling, Family, VolumePreservingCoupling, affine_family,
                                   masks)
from refflow.maps.coupling.examples import sequence
from refflow.maps.elementwise import CONVENTIONS, ExpScale, SoftplusScale
from refflow.maps.parametrisations import PerField
from validation.certify import errors
from validation.points.drawn import Draw

DTYPES = (np.float32, np.float64)
PREFIXES = np.array([[True, True, True, True], [True, True, False, False], [False, False, False, False]])


def rng(seed=0):
    return np.random.default_rng(seed)


def step(g, scale=ExpScale()):
    """Activation normalisation, groups of two channels and a coupling, as in Glow-TTS's decoder, on four channels."""
    norm, groups = GlowTTSActNorm(g.standard_normal(4) / 4, g.standard_normal(4)), g.standard_normal((2, 2)) + 2 * np.eye(2)
    W = g.standard_normal((2, 2)) / 4 + np.eye(2)
    net = Sequential((BijectorLayer(Pointwise(DenseLinear(W, g.standard_normal(2)), 2)), Doubled()))
    return Chain([Pointwise(norm, 2), Pointwise(GroupedLinear(groups), 2),
                  Coupling(masks.channels(masks.halves(4), 2), net, affine_family(scale))])


@conditioner(source="definition", register=False)
class Doubled(Conditioner):
    """h = (a, a/2): twice as many channels."""

    event_ndim = (2, 2)

    def output_shape(self, shape):
        return 2 * shape[0], shape[1]

    @staticmethod
    def definition(m, a):
        return a + [[v / 2 for v in row] for row in a]

    def forward(self, a):
        return np.concatenate((a, a / 2), -2)

    def jacobian(self, a):
        one = np.eye(a.shape[-2] * a.shape[-1], dtype=a.dtype)
        J = np.concatenate((one, one / 2), -2)
        return np.broadcast_to(J, (*a.shape[:-2], *J.shape))

    def vjp(self, a):
        def pullback(h_bar):
            first, second = np.split(h_bar, 2, -2)
            return first + second / 2, {}

        return self.forward(a), pullback


# -- laws -------------------------------------------------------------------------------------------------------------

def every_law(make, dtype, draws=4):
    """Every law on make(source) -> (f, the event shape of z), at events of moderate size."""
    def asked(g, *wanted):
        f, shape = make(RandomSource(g))
        f, shape = at_valid(f.astype(dtype), shape)
        return run_laws(f, points_at(f, g.standard_normal((8, *shape)) * np.exp2(g.uniform(-4, 1, (8, 1))), g, dtype), *wanted)

    tally = Tally()
    for seed in range(draws):
        tally.add(asked(rng(seed)))
    check(tally, asked)


FAMILIES = {"exp": affine_family(ExpScale()), "sigmoid with a floor": affine_family(CONVENTIONS["glow-tts sigmoid_scale"]),
            "softplus, the shift first": affine_family(SoftplusScale(), ("shift", "scale"), True),
            "power": Family(Power, PerField(("exponent",), (SoftplusScale(floor=0.1),)))}


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", FAMILIES)
def test_laws_of_couplings(name, dtype):
    def make(source):
        passes, net, mask = sequence(source, FAMILIES[name].size)
        f = Coupling(passes, net, FAMILIES[name])
        return f.at(mask=mask) if source.chance(0.5) else f.replace(mask=mask), (len(passes), len(mask))

    every_law(make, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("page, outputs, fields", [(AffineCoupling, 2, {}), (AdditiveCoupling, 1, {}),
                                                   (VolumePreservingCoupling, 2, {"scale": SoftplusScale()})])
def test_laws_of_affine_couplings(page, outputs, fields, dtype):
    def make(source):
        passes, net, mask = sequence(source, outputs)
        return page(passes, net, mask=mask, **fields), (outputs + 1, len(mask))

    every_law(make, dtype, 4 if page is AffineCoupling else 2)


def unmasked_total(self, values):
    return values.sum(self.split.axes)


def unmasked_merged(self, a, b, shape):
    return self.split.merged(a, b, shape)


def unmasked_each(self, log_det_bar):
    return log_det_bar[..., None, None]


@pytest.mark.parametrize("page", [Coupling, AffineCoupling])
@pytest.mark.parametrize("bug, message", [
    ({}, None), ({"total": unmasked_total}, "log_det with a batch of masks"),
    ({"merged": unmasked_merged}, "is not 0 at invalid"), ({"each": unmasked_each}, "bar with a batch of masks"),
    ({"masked": lambda bar, mask: bar}, "inside a chain")])
def test_bugs_of_couplings_are_caught(page, bug, message, monkeypatch):
    """sigma(0) is not 1, and the net's output is not 0 at padding."""
    net = BijectorLayer(Pointwise(DenseLinear([[0.5, 0.25], [-1.0, 2.0]], [0.5, -1.0]), 2))
    family = {"family": FAMILIES["sigmoid with a floor"]} if page is Coupling else {}
    f, shape = at_valid(page([[True], [True], [False]], net, mask=[True, True, False], **family), (3, 3))
    held_to_padding(f, shape, page, bug, message, monkeypatch)


def held_to_padding(f, shape, page, bug, message, monkeypatch):
    """With the bug, functions by name, the law fails with the message; without one it holds."""
    g, law = rng(), LAWS["padding changes nothing"]
    p = Points(f, *(g.standard_normal(s) for s in ((8, *shape), (8, *shape), (8, *shape), (8,))))
    for name, function in bug.items():
        home = inspect.getmodule(page) if name == "masked" else page
        monkeypatch.setattr(home, name, function)
    if message is None:
        law(f, p)
    else:
        with pytest.raises(AssertionError, match=message):
            law(f, p)


def unmasked_mean(self, c):
    return c - c.mean(self.split.axes, keepdims=True)


@pytest.mark.parametrize("page, bug, message", [
    (AdditiveCoupling, {}, None), (AdditiveCoupling, {"merged": unmasked_merged}, "is not 0 at invalid"),
    (AdditiveCoupling, {"masked": lambda bar, mask: bar}, "inside a chain"),
    (VolumePreservingCoupling, {}, None), (VolumePreservingCoupling, {"merged": unmasked_merged}, "is not 0 at invalid"),
    (VolumePreservingCoupling, {"centred": unmasked_mean}, "with a batch of masks"),
    (VolumePreservingCoupling, {"masked": lambda bar, mask: bar}, "with a batch of masks|inside a chain")])
def test_bugs_of_couplings_that_keep_volume_are_caught(page, bug, message, monkeypatch):
    outputs, fields = (1, {}) if page is AdditiveCoupling else (2, {"scale": SoftplusScale()})
    W, b = [[0.5, 0.25], [-1.0, 2.0]], [0.5, -1.0]
    net = BijectorLayer(Pointwise(DenseLinear(np.array(W)[:outputs, :outputs], b[:outputs]), 2))
    passes = [[True]] * outputs + [[False]]
    f, shape = at_valid(page(passes, net, mask=[True, True, False], **fields), (outputs + 1, 3))
    held_to_padding(f, shape, page, bug, message, monkeypatch)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("inverse", [False, True])
def test_laws_of_a_squeezed_step(inverse, dtype):
    """The valid positions of the second draw come first, so that it is compared with the shorter sequence."""
    def make(source):
        f = Squeezed(step(source.rng), 2).at(mask=source.choice(PREFIXES[:2]))
        return Inverse(f) if inverse else f, (2, 4)

    every_law(make, dtype, 2)


class WithTheGenericInversePullback(Pointwise):
    """The map of every position, whose inverse pullback the base derives."""

    inverse_vjp = Bijector.inverse_vjp


def test_laws_of_the_generic_inverse_pullback():
    """The Jacobian is singular: its rows and columns at invalid positions are 0."""
    f = WithTheGenericInversePullback(DenseLinear([[2.0, 1.0], [-1.0, 0.5]], [0.5, 0.0]), 2, [True, False, True])
    every_law(lambda source: (f, (2, 3)), np.float64, 1)
    x, bars = rng(1).standard_normal((5, 2, 3)), (rng(2).standard_normal((5, 2, 3)), rng(3).standard_normal(5))
    x_bar, params_bar = f.inverse_vjp(x)[1](*bars)
    expected, expected_params = Pointwise(f.inner, 2, f.mask).inverse_vjp(x)[1](*bars)
    assert np.allclose(x_bar, expected, rtol=1e-12, atol=1e-13)
    for key, bar in expected_params["inner"].items():
        assert np.allclose(params_bar["inner"][key], bar, rtol=1e-12, atol=1e-13)


def test_laws_with_a_context():
    """Its cotangent is summed over the valid positions."""
    net = Contextual(Dense(rng(4).standard_normal((2, 3)) / 2, [0.25, -1.0]))
    f = Pointwise(AffineCoupling([True, False], net), 2).at(context=[0.5, -1.0], mask=[True, True, False])
    every_law(lambda source: (f, (2, 3)), np.float64, 1)


@pytest.mark.parametrize("inner", [Exp(), Softplus()], ids=lambda f: type(f).__name__)
def test_laws_where_0_is_not_in_the_domain(inner):
    """The simplest member of the domain stands at invalid positions, so that no logarithm of 0 is taken."""
    f = Pointwise(Chain([ActNorm([0.5, 2.0]), inner]), 2, [True, False, True])
    every_law(lambda source: (f, (2, 3)), np.float64, 1)
    every_law(lambda source: (Inverse(f), (2, 3)), np.float64, 1)


# -- the truth --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("page", [Pointwise, Squeezed, Coupling, AffineCoupling, AdditiveCoupling, VolumePreservingCoupling])
@pytest.mark.parametrize("side", ["forward", "inverse"])
def test_the_certificate_sees_masks(page, side):
    points = [p for p in Draw(page, np.float64, side).points() if p.f.mask is not None and not p.f.mask.all()]
    assert len(points) >= 10 and any(np.any(p.event[..., ~p.f.mask]) for p in points)
    for p in points[:4]:
        assert all(C is None or C <= 8 for C, _ in errors(p).values()), errors(p)


def test_a_log_det_of_every_position_is_far_from_the_truth(monkeypatch):
    (p,) = [p for p in Draw(Pointwise, np.float64, "forward").hard_points() if p.case == "Padding"]
    monkeypatch.setattr(Pointwise, "_count", lambda self, log_det: log_det.shape[-1])
    assert errors(p)["log_det"][0] > 1e12


def test_a_definition_that_forgets_the_mask_is_refused(monkeypatch):
    (p,) = [p for p in Draw(Pointwise, np.float64, "forward").hard_points() if p.case == "Padding"]
    forgetful = staticmethod(lambda m, z, inner, rank, mask: Pointwise.definition_of_all(m, z, inner, rank, None))
    monkeypatch.setattr(Pointwise, "definition_of_all", Pointwise.definition, raising=False)
    monkeypatch.setattr(Pointwise, "definition", forgetful)
    assert errors(p) == {"ValueError": (np.inf, 1.0)}


# -- how masks are filled in ------------------------------------------------------------------------------------------

def test_a_squeezed_map_gives_the_mask_of_its_groups():
    f = Squeezed(step(rng()), 2).at(mask=PREFIXES)
    wanted = PREFIXES[:, 1::2]
    assert all((held == wanted).all() for held in f.inner.held("mask")) and len(f.inner.held("mask")) == 4
    assert f.inner.stages[0].inner.held("mask") == [] and (f.mask == PREFIXES).all()
    again = pickle.loads(pickle.dumps(f))
    assert again.equals(f) and f.at(mask=None).equals(Squeezed(step(rng()), 2))
    x, log_det = f.forward_and_log_det(np.where(PREFIXES[:, None], 1.0, np.nan) * np.ones((3, 2, 4)))
    assert not x[2].any() and log_det[2] == 0 and np.allclose(log_det[0], 2 * log_det[1], rtol=1e-14)


def test_incomplete_groups_are_invalid():
    f = Squeezed(Pointwise(DenseLinear([[2.0, 1.0], [-1.0, 0.5]], [0.5, 0.0]), 2)).at(mask=[True, True, True, False])
    assert f.mask.tolist() == [True, True, False, False] and f.inner.mask.tolist() == [True, False]
    z = np.array([[1.0, 2.0, 3.0, np.nan]])
    assert not f.forward(z)[:, 2:].any() and np.isclose(f.log_det(z), np.log(2), rtol=1e-14)


def test_a_mask_of_vectors_does_not_reach_their_maps():
    """A coupling of vectors has a mask of its own, which is for sequences alone."""
    inner = AffineCoupling([True, False], vector_net())
    f = Pointwise(inner, 2).at(mask=PREFIXES)
    assert f.inner.mask is None and f.mask.shape == (3, 4)


def vector_net():
    return Dense([[0.5], [1.0]], [0.25, -1.0])


@pytest.mark.parametrize("lead", [(), (3,), (2, 1)])
def test_a_batch_of_masks_meets_any_batch_of_events(lead):
    f, z = step(rng()).at(mask=PREFIXES), rng(1).standard_normal((*lead, 4, 4))
    x, log_det = f.forward_and_log_det(z)
    each = np.broadcast_to(z, (*np.broadcast_shapes(lead, (3,)), 4, 4))
    assert x.shape == each.shape and log_det.shape == each.shape[:-2]
    for i in np.ndindex(log_det.shape):
        alone = step(rng()).at(mask=PREFIXES[i[-1]])
        assert np.allclose(x[i], alone.forward(each[i]), rtol=1e-13, atol=1e-14)
        assert np.allclose(log_det[i], alone.log_det(each[i]), rtol=1e-13, atol=1e-14)
    z_bar, _ = f.vjp(z)[1](np.ones_like(x), np.ones_like(log_det))
    assert z_bar.shape == z.shape


# -- initialisation ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("inner", [GlowTTSActNorm(np.zeros(2)), ActNorm(np.ones(2)), GlowActNorm(np.zeros(2))],
                         ids=lambda f: type(f).__name__)
@pytest.mark.parametrize("method", ["initialised", "inverse_initialised"])
def test_initialisation_sees_the_valid_positions_alone(inner, method):
    data = np.where(PREFIXES[:, None], 3 + 2 * rng(2).standard_normal((3, 2, 4)), np.nan)
    f = getattr(Pointwise(inner, 2, PREFIXES), method)(data, rng())
    v = data.swapaxes(-1, -2)[PREFIXES]
    assert f.inner.equals(getattr(inner, method)(v, rng()))
    out = (f.forward if method == "initialised" else f.inverse)(data).swapaxes(-1, -2)[PREFIXES]
    assert np.allclose(out.mean(0), 0, atol=1e-12) and np.allclose(out.std(0), 1, atol=1e-5)


def test_a_squeezed_step_is_initialised_behind_its_squeeze():
    data = np.where(PREFIXES[:, None], 3 + 2 * rng(2).standard_normal((3, 2, 4)), np.nan)
    f = Squeezed(step(rng()), 2).at(mask=PREFIXES).initialised(data, rng())
    groups = SqueezeTime(2).forward(np.nan_to_num(data))
    h = f.inner.stages[0].forward(groups).swapaxes(-1, -2)[PREFIXES[:, 1::2]]
    assert np.allclose(h.mean(0), 0, atol=1e-12) and np.allclose(h.std(0), 1, atol=1e-12)
    assert f.inner.stages[2].equals(Squeezed(step(rng()), 2).at(mask=PREFIXES).inner.stages[2])


def test_the_floor_of_a_variance():
    """A constant channel has the source's least variance; without a floor it is refused."""
    data = np.array([[1.0, 5.0], [3.0, 5.0]])
    f = GlowTTSActNorm(np.zeros(2)).initialised(data, rng())
    assert np.allclose(f.logs, [0, np.log(1e3)], atol=1e-15) and np.allclose(f.bias, [-2, -5e3], rtol=1e-13)
    with pytest.raises(ValueError, match="GlowTTSActNorm: channel 1 of data is constant"):
        GlowTTSActNorm(np.zeros(2), floor=0.0).initialised(data, rng())
    with pytest.raises(ValueError, match="GlowTTSActNorm: initialisation needs at least one event of data, not 0"):
        Pointwise(GlowTTSActNorm(np.zeros(2)), 2, np.zeros((2, 3), bool)).initialised(np.ones((2, 2, 3)), rng())


# -- refusals ---------------------------------------------------------------------------------------------------------

VECTORS = DenseLinear(np.eye(2), None)


@pytest.mark.parametrize("make, message", [
    (lambda: Pointwise(VECTORS, 3, [True]), "Pointwise: mask is for sequences, rank 2, not for rank 3"),
    (lambda: Pointwise(VECTORS, 2, [1.0]), "Pointwise: mask must be of dtype bool"),
    (lambda: Pointwise(VECTORS, 2, [True]).forward(np.ones((2, 3))), r"Pointwise: z has event shape \(2, 3\): .*T=1"),
    (lambda: Chain([Pointwise(VECTORS, 2), Independent(Sigmoid(), 2)]).at(mask=[True, False]),
     "Chain: Sigmoid has no mask and would count the padding that other steps leave out; .* as Pointwise"),
    (lambda: Inverse(Chain([Pointwise(VECTORS, 2), Inverse(Independent(Exp(), 2))])).at(mask=[True, False]), "Chain: Exp has no"),
    (lambda: Chain([Pointwise(VECTORS, 2, [True, False]), Pointwise(VECTORS, 2)]), "Chain: Pointwise has no mask"),
    (lambda: Chain([Pointwise(VECTORS, 2), SqueezeTime(2)]).at(mask=[True, False]), "Chain: SqueezeTime has no mask"),
    (lambda: Squeezed(Independent(Exp(), 2)).at(mask=[True, True]), "Squeezed: Exp has no mask"),
    (lambda: Squeezed(Pointwise(VECTORS, 2), mask=[True, True]), "Squeezed: Pointwise has no mask"),
    (lambda: Flow(Pointwise(VECTORS, 2), StandardNormal((2, 2))).at(mask=[True, False]),
     "Flow: its base would count the padding that a mask of Pointwise leaves out"),
    (lambda: AffineCoupling([True, False], vector_net(), [True]),
     r"AffineCoupling: mask is for sequences that passes splits by channels, \(C, 1\), not \(2,\)"),
    (lambda: GroupedLinear(np.eye(3)), "GroupedLinear: W must have an even number of rows, not 3"),
    (lambda: GroupedLinear(np.eye(4)).forward(np.ones(6)), "GroupedLinear: z has event shape .*multiple of S = 4"),
    (lambda: GlowTTSActNorm([0.0], floor=-1.0), "GlowTTSActNorm: floor must be finite and >= 0, not -1.0"),
    (lambda: SqueezeTime(0), "SqueezeTime: factor must be an int >= 1, not 0"),
    (lambda: SqueezeTime(2).forward(np.ones((1, 3))), "SqueezeTime: z has event shape .*multiple of factor = 2"),
    (lambda: SqueezeTime(2).inverse(np.ones((1, 3))), "SqueezeTime: x has event shape .*channels must be a multiple"),
    (lambda: Squeezed(Squeeze()), r"Squeezed: inner must be a bijector of sequences, event ranks \(2, 2\)"),
    (lambda: Squeezed(Pointwise(VECTORS, 2), 1.5), "Squeezed: factor must be an int >= 1, not 1.5"),
    (lambda: Squeezed(Pointwise(VECTORS, 2)).at(mask=[True] * 3), "Squeezed: the length of mask must be a multiple of factor"),
    (lambda: Squeezed(Pointwise(VECTORS, 2)).at(mask=[[True, True, False, True]]),
     r"Squeezed: mask must hold at every position of a group if it holds at the last one; mask\[0, 2\] = False"),
    (lambda: Squeezed(Pointwise(VECTORS, 2)).forward(np.ones((2, 4))), "Squeezed: z has event shape .*D=2")])
def test_bad_masked_maps_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_density_of_padded_sequences():
    """What the refusal says to do: the log-density of the shorter sequences alone."""
    f, x = step(rng()), rng(1).standard_normal((2, 4, 4))
    z, log_det = f.at(mask=PREFIXES[:2]).inverse_and_log_det(x)
    log_pi = np.where(PREFIXES[:2, None], -(z**2 + np.log(2 * np.pi)) / 2, 0).sum((-2, -1))
    for i, T in enumerate((4, 2)):
        alone = Flow(f, StandardNormal((4, T))).log_prob(x[i, :, :T])
        assert np.isclose((log_pi + log_det)[i], alone, rtol=1e-13)
    assert Flow(f, StandardNormal((4, 4))).at(mask=[True] * 4).log_prob(x).shape == (2,)


@pytest.mark.parametrize("stages", [[Pointwise(VECTORS, 2), Independent(Sigmoid(), 2)], [Pointwise(VECTORS, 2), Inverse(Softplus())]])
def test_a_chain_that_counts_padding_breaks_the_law(stages, monkeypatch):
    """Without the refusal, the law sees it."""
    monkeypatch.setattr(compose, "refuse_padding_counted", lambda *of: None)
    f, shape = at_valid(Chain(stages).at(mask=[True, True, False]), (2, 3))
    held_to_padding(f, shape, None, {}, "padding changes nothing", monkeypatch)


# -- groups of channels -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("S, C", [(2, 2), (2, 6), (4, 8), (6, 12)])
def test_groups_are_the_sources(S, C):
    """Their reshape: (2, C/S, S/2) with the two inner axes exchanged."""
    W, z = rng(S).standard_normal((S, S)), rng(C).standard_normal((3, C))
    z_sg = z.reshape(3, 2, C // S, S // 2).transpose(0, 1, 3, 2).reshape(3, S, C // S)
    x_sg = np.einsum("st,ntg->nsg", W, z_sg).reshape(3, 2, S // 2, C // S).transpose(0, 1, 3, 2).reshape(3, C)
    f = GroupedLinear(W)
    x, log_det = f.forward_and_log_det(z)
    assert np.allclose(x, x_sg, rtol=1e-13, atol=1e-13) and np.allclose(log_det, C // S * np.linalg.slogdet(W)[1], rtol=1e-13)
    assert np.allclose(f.inverse(x), z, rtol=1e-9, atol=1e-9)
