"""Every law catches a planted bug of a kind that occurs in practice, and passes the healthy page."""

from __future__ import annotations

import dataclasses
import itertools
import time

import numpy as np
import pytest

from refflow import (ActNorm, Affine, AlphaSigmoid, BatchNorm, CayleyOrthogonal, Chain, DenseLinear, GlowActNorm, HalfLine,
                     Independent, IntrinsicVolume, Inverse, NormalCDF, OpenInterval, OrthogonalLinear, Permutation, Pointwise, Reshape,
                     Softplus, Squeeze, StickBreaking, Tanh)
from refflow.accuracy.points import Points
from refflow.accuracy.valid import AtValid
from refflow.core import Array, Bijector, bijector, compose, plain, positive, real, sets, tracks, tree
from refflow.core.boundary import checked_event
from refflow.core.compose import MARKS, lifts
from refflow.core.rules import number
from refflow.core.sets import simplexes
from refflow.core.tree import along
from refflow.core.values import CONTRACT, Value, rebuild
from refflow.laws import composition_laws
from refflow.laws.bijector_laws import LAWS, run_laws
from refflow.laws.rejections import REJECTED
from refflow.laws.strategies import saturated
from refflow.maps.linear.dense import solve
from refflow.maps.normalization import batch_norm
from refflow.maps.normalization.channels import scaled_values
from refflow.training import batch_norm as training

NUMBERS = itertools.count()
FACTS = ("domain", "codomain", "source", "increasing", "constant_log_det", "normwise")


@bijector(register=False, domain=real, codomain=real, source="definition")
class Bend(Bijector):
    """x = scale sinh z + shift, entry by entry."""

    scale: Array = positive("D")
    shift: Array = real("D", default=0.0)
    event_ndim = (1, 1)

    def forward(self, z):
        return self.scale * np.sinh(z) + self.shift

    def inverse(self, x):
        return np.arcsinh((x - self.shift) / self.scale)

    def log_det(self, z):
        return np.log(self.scale * np.cosh(z)).sum(-1)

    def inverse_and_log_det(self, x):
        return self.inverse(x), -np.log(self.scale * np.hypot(1, (x - self.shift) / self.scale)).sum(-1)

    def jacobian(self, z):
        return (self.scale * np.cosh(z))[..., None] * np.eye(z.shape[-1], dtype=z.dtype)

    def vjp(self, z):
        def pullback(x_bar, log_det_bar):
            l_bar = log_det_bar[..., None]
            z_bar = x_bar * self.scale * np.cosh(z) + l_bar * np.tanh(z)
            return z_bar, {"scale": x_bar * np.sinh(z) + l_bar / self.scale, "shift": x_bar}

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        s = (x - self.shift) / self.scale
        c = np.hypot(1, s)

        def pullback(z_bar, log_det_bar):
            l_bar = log_det_bar[..., None]
            x_bar = (z_bar - l_bar * s / c) / (self.scale * c)
            return x_bar, {"scale": -(z_bar * s / c + l_bar / (c * c)) / self.scale, "shift": -x_bar}

        return self.inverse_and_log_det(x), pullback


# -- mutants ----------------------------------------------------------------------------------------------------------

def mutant(page, facts=None, **functions):
    """The page with some of its functions, or declared facts, replaced; functions of every value after it is declared."""
    body = {"__annotations__": dict.fromkeys(page.declared, Array), "__module__": __name__}
    facts = {name: getattr(page, name) for name in FACTS if not isinstance(getattr(page, name), property)} | (facts or {})
    name = f"Mutant{next(NUMBERS)}"
    of_values = {key: function for key, function in functions.items() if key in vars(Value) and key not in CONTRACT}
    cls = type(name, (page,), body | page.declared | {key: functions[key] for key in functions if key not in of_values})
    globals()[name] = bijector(register=False, **facts)(cls)       # where pickle finds it
    for key, function in of_values.items():
        setattr(globals()[name], key, function)
    return globals()[name]


def with_pullback(change, name="vjp", page=Bend):
    """The page with its pullback's result passed through change(self, event, bars, event_bar, params_bar)."""
    original = page.__dict__[name]

    def vjp(self, event):
        image_and_log_det, pullback = original(self, event)
        return image_and_log_det, lambda *bars: change(self, event, bars, *pullback(*bars))

    return mutant(page, **{name: vjp})


def doubled(self, z):
    return 2 * Bend.log_det(self, z)


def of_the_inverse(self, z):
    return -Bend.log_det(self, z)


def not_summed_over_the_event(self, z):
    return np.log(self.scale * np.cosh(z)).mean(-1)


def single_precision_constant(self, z):
    return np.log(self.scale * np.cosh(z)).sum(-1) + z.shape[-1] * (float(np.float32(0.1)) - 0.1)


def clipped_tail(self, x):
    return np.clip(Bend.inverse(self, x), -1.5, 1.5)


def single_precision_inverse(self, x):
    return Bend.inverse(self, x.astype(np.float32)).astype(x.dtype)


def forgets_the_shift(self, x):
    return np.arcsinh(x / self.scale)


def fused_without_scale(self, z):
    return self.forward(z), np.log(np.cosh(z)).sum(-1)


def transposed(self, z):
    return np.broadcast_to(self.W.mT, z.shape + z.shape[-1:])


def without_scale(self, z):
    return np.cosh(z)[..., None] * np.eye(z.shape[-1], dtype=z.dtype)


def not_transposed(self, z, bars, z_bar, params_bar):
    return np.matvec(self.W, bars[0]), params_bar


def no_log_det_term(self, z, bars, z_bar, params_bar):
    return bars[0] * self.scale * np.cosh(z), params_bar


def no_log_det_term_in_scale(self, z, bars, z_bar, params_bar):
    return z_bar, params_bar | {"scale": bars[0] * np.sinh(z)}


def shift_sign(self, z, bars, z_bar, params_bar):
    return z_bar, params_bar | {"shift": -bars[0]}


def first_event_only(self, z, bars, z_bar, params_bar):
    return z_bar, params_bar | {"shift": bars[0][0] if bars[0].shape[0] == 32 and self.shift.ndim == 1 else bars[0]}


def mean_over_the_batch(self, z, bars, z_bar, params_bar):
    return z_bar, params_bar | {"shift": bars[0] / len(bars[0])}


def inverse_without_log_det(self, x, bars, x_bar, params_bar):
    return bars[0] / (self.scale * np.cosh(self.inverse(x))), params_bar


def batch_statistics(self, z):
    return Bend.forward(self, z) * (1 + z.std(0, keepdims=True).mean())


def last_stage_only(self, x):
    z, log_det = Chain.inverse_and_log_det(self, x)
    return z, self.stages[0].inverse_and_log_det(self.stages[1].inverse(x))[1]


def wrong_order(self, z):
    return self.stages[0].forward(self.stages[1].forward(z))


def falls(self, z):
    return -z


def no_number_at_the_ends(self, x):
    return np.arctanh(x), np.where(np.abs(x) == 1, np.nan, -np.log1p(-x * x))


def stays_finite(self, x):
    return np.clip(Tanh.inverse(self, x), -400, 400)


def large_at_the_end(self, x):
    return np.minimum(OpenInterval.inverse(self, x), 1e300)


def sign_of_a_difference_of_0(self, x):
    def pullback(z_bar, log_det_bar):
        x_bar = (z_bar - log_det_bar) / (x - self.end)
        return x_bar, {"end": -x_bar, "scale": -z_bar / self.scale}

    return self.inverse_and_log_det(x), pullback


def overshoots(self, z):
    return np.tanh(z) * z.dtype.type(1.001)


def axis_for_one_event(self, z):
    return np.atleast_1d(Bend.log_det(self, z))


def largest_of_the_batch(self, z):
    return Bend.log_det(self, z) + 0 * z.max()


def single_precision_where_broadcast(self, z):
    return Bend.forward(self, z.astype(np.float32) if z.strides[0] == 0 else z)


def one_log_det_where_broadcast(self, z):
    x, log_det = Bend.forward_and_log_det(self, z)
    return x, log_det[:1] if z.strides[0] == 0 else log_det


def double_constant(self, z):
    return Bend.log_det(self, z) + np.float64(0.0)


def in_place(self, z):
    z *= 1 + 2.0**-10
    return Bend.forward(self, z)


STATE = {"calls": 0, "scale": None}


def counts_calls(self, z):
    STATE["calls"] += 1
    return Bend.forward(self, z) + STATE["calls"]


def keeps_its_event(self, z):
    STATE["event"] = z
    time.sleep(0.002)
    return np.resize(STATE["event"], z.shape) * self.scale


def loses_shift(self):
    return rebuild, (type(self), {"scale": self.scale})


def copied_without_shift(self, memo):
    return self.replace(shift=0 * self.shift)


def replaced_without_sizes(self, **changes):
    made = Bend.replace(self, **changes)
    made._set("dims", {})
    return made


def rebuilt_and_marked(page, fields):
    f = rebuild(page, fields)
    f._set("again", True)
    return f


def reduced_to_a_marked_one(self):
    return rebuilt_and_marked, (type(self), {"shift": self.shift, "scale": self.scale})


def larger_if_marked(self, z):
    return Bend.log_det(self, z) + getattr(self, "again", 0)


def reversed_vector(self):
    return Bend.ravel(self)[::-1]


def nothing_checked(self):
    pass


def constants_pass(self, dtype):
    return tree.mapped(self, lambda path, field, array, _: array.astype(dtype),
                       also=lambda value, path, _: {"checked": False, "dtype": dtype})


def heavier(self, x):
    z, log_det = DenseLinear.inverse_and_log_det(self, x)
    return z, log_det + np.log(z.dtype.type(1.01))


def same_sign_both_ways(self, x):
    z = self.inverse(x)
    return z, self.log_det(z)


def single_branch(self, x):
    return np.log(np.exp(x) - 1)


def moved_by_a_cast(self, dtype):
    return {key: 1.01 * array.astype(dtype) for key, array in Bend.cast(self, dtype).items()}


def nudged_in_its_own_dtype(self, dtype):
    made = Bend.astype(self, dtype)
    return made.replace(shift=np.nextafter(made.shift, made.dtype.type(9))) if dtype == self.dtype else made


def nearly_orthogonal(self, dtype):
    return {key: (1 + 2.0**-51) * array for key, array in OrthogonalLinear.cast(self, dtype).items()}


def without_the_last_entry(shape):
    return np.arange(shape[-1] - 2)


def no_step_of_the_last_entry(m, x):
    """Tangents of the simplex that leave its plane."""
    return [*simplexes.of_simplex(m, x)[:-1], [0] * (len(x) - 1)]


def twice_the_ratio(x):
    value, pullback = sets.simplex.log_ratio(x)
    return 2 * value, pullback


def without_its_constant(self, z):
    return CayleyOrthogonal.log_det(self, z) - np.log(2.0)


def twice_the_cotangent_of_z(self, x):
    (z, log_det), pullback = CayleyOrthogonal.inverse_vjp(self, x)
    return (z, log_det), lambda z_bar, log_det_bar: pullback(2 * z_bar, log_det_bar)


def in_any_measure(self, other):
    return self.name == other.name


def onto(where, page=StickBreaking):
    """The page with another declared codomain."""
    return mutant(page, {"codomain": where})


def one_entry_more(self, shape):
    return (shape[0] + 1,)


def odd_heights_pass(self, shape):
    C, H, W = shape
    if W % self.factor:
        raise ValueError("height and width must be multiples of factor")
    return C * self.factor**2, H // self.factor, W // self.factor


def not_centred(self, data, rng):
    return ActNorm.initialised(self, data, rng).replace(bias=self.bias * 0)


def unscaled_statistics(self, data, side):
    """NaN is refused; squares overflow, and a constant channel passes."""
    _, event, _ = checked_event(self, data, side)
    return event.mean(0), event.std(0), np.zeros(2, int)


def with_the_rounding_of_the_mean(self, data, side):
    v, e = scaled_values(self, data, side)
    m = v.mean(-1)
    return m, np.sqrt(np.square(v - m[..., None]).mean(-1)), e


def without_eps(self, data, side):
    mean, deviation, e = ActNorm.statistics(self, data, side)
    return np.ldexp(mean, e), np.ldexp(deviation, e)


def refuses_reflections(self):
    ActNorm._validate(self)
    if (self.scale < 0).any():
        raise ValueError("ActNorm: scale must be > 0")


def of_the_other_side(self, shape, side):
    return [self.input if side else self.output]


def infinities_are_solved_for(self, factors, x):
    return solve(factors, x - self.shift)


def on_what_old_stages_give(self, data, rng):
    made = []
    for stage in self.stages:
        made.append(stage.initialised(data, rng))
        data = stage.forward(data)
    return self.replace(stages=tuple(made))


AFFINE_CHANNELS = {"scale": [2.0, -0.25], "bias": [0.5, -1.0]}
TURN = {"Q": [[0.0, -1.0], [1.0, 0.0]]}
TURNED = [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
AFFINE, ROTATION = {"shift": [0.5, -1.0], "scale": [2.0, 0.25]}, {"W": [[1.0, 2.0], [-0.5, 1.0]], "shift": [0.5, 0.0]}
STAGES = {"stages": (Affine(0.5, 2.0), Affine(-1.0, 0.25))}

NORMALISED = {"stages": (ActNorm(**AFFINE_CHANNELS), ActNorm([0.5, 3.0], [1.0, 2.0]))}

OFF_CENTRE = {"loc": 0.5, "scale": 2.0}

HOLDS_ALWAYS = dataclasses.replace(number(0, 0.25, True, True), holds=lambda given: True)

def loc_is_not_mirrored(self):
    return tree.copied(self, loc=-self.loc), lambda params_bar: params_bar


def one_minus(self, z):
    return 1 - self.forward(z)


def not_from_the_complement(self, q):
    return self.inverse_vjp(1 - q)


# (law, healthy page, mutant, fields, event shape)
BUGS = [
    *(("the complement is what is left", NormalCDF, mutant(NormalCDF, **{name: bug}), OFF_CENTRE, ()) for name, bug in (
        ("complement", one_minus), ("mirrored", loc_is_not_mirrored), ("mirrored", lambda self: (self, lambda bars: bars)),
        ("inverse_vjp_of_complement", not_from_the_complement))),
    ("inverse of forward", Bend, mutant(Bend, inverse=forgets_the_shift), AFFINE, (2,)),
    ("inverse of forward", Bend, mutant(Bend, inverse=single_precision_inverse), AFFINE, (2,)),
    ("inverse of forward", Softplus, mutant(Softplus, inverse=single_branch), {}, ()),
    ("forward of inverse", Bend, mutant(Bend, inverse=clipped_tail), AFFINE, (2,)),
    ("composition", Chain, mutant(Chain, inverse_and_log_det=last_stage_only), STAGES, ()),
    ("composition", Chain, mutant(Chain, forward_and_log_det=lambda self, z: (wrong_order(self, z), self.log_det(z)),
                                  log_det=lambda self, z: Chain.forward_and_log_det(self, z)[1]), STAGES, ()),
    ("monotone", Tanh, mutant(Tanh, forward=falls), {}, ()),
    ("ends are taken to ends", Tanh, mutant(Tanh, inverse=stays_finite), {}, ()),
    ("ends are taken to ends", Tanh, mutant(Tanh, inverse_and_log_det=no_number_at_the_ends), {}, ()),
    ("ends are taken to ends", OpenInterval, mutant(OpenInterval, inverse=large_at_the_end), {"ends": [-1.0, 2.0]}, ()),
    ("infinite cotangents are limits", HalfLine, mutant(HalfLine, inverse_vjp=sign_of_a_difference_of_0), {"end": 1.0, "scale": -2.0}, ()),
    ("infinite cotangents of hard cases are limits", HalfLine, mutant(HalfLine, inverse_vjp=sign_of_a_difference_of_0),
     {"end": 1.0, "scale": 2.0}, ()),
    ("membership", Tanh, mutant(Tanh, forward=overshoots), {}, ()),
    ("log-det is the finite-difference determinant", Bend, mutant(Bend, log_det=doubled), AFFINE, (2,)),
    ("log-det is the finite-difference determinant", Bend, mutant(Bend, log_det=of_the_inverse), AFFINE, (2,)),
    ("log-det is the finite-difference determinant", Bend, mutant(Bend, log_det=not_summed_over_the_event), AFFINE, (2,)),
    ("log-det is slogdet of the Jacobian", Bend, mutant(Bend, jacobian=without_scale), AFFINE, (2,)),
    ("log-det is slogdet of the Jacobian", Bend, mutant(Bend, log_det=single_precision_constant), AFFINE, (2,)),
    ("inverse log-det is minus log-det", Bend, mutant(Bend, inverse_and_log_det=same_sign_both_ways), AFFINE, (2,)),
    ("fused is separate", Bend, mutant(Bend, forward_and_log_det=fused_without_scale), AFFINE, (2,)),
    ("jacobian is the derivative", DenseLinear, mutant(DenseLinear, jacobian=transposed), ROTATION, (2,)),
    ("pullback is the transposed Jacobian", DenseLinear, with_pullback(not_transposed, page=DenseLinear), ROTATION, (2,)),
    ("pullback is the gradient", Bend, with_pullback(no_log_det_term), AFFINE, (2,)),
    ("pullback is the gradient", Bend, with_pullback(shift_sign), AFFINE, (2,)),
    ("pullback is the gradient", Bend, with_pullback(mean_over_the_batch), AFFINE, (2,)),
    ("Taylor remainder falls as h^2", Bend, with_pullback(no_log_det_term_in_scale), AFFINE, (2,)),
    ("inverse pullback is the generic one", Bend, with_pullback(inverse_without_log_det, "inverse_vjp"), AFFINE, (2,)),
    ("batch is the stack of singles", Bend, mutant(Bend, forward=batch_statistics), AFFINE, (2,)),
    ("cotangents sum over what broadcast", Bend, with_pullback(first_event_only), AFFINE, (2,)),
    ("any layout", Bend, mutant(Bend, log_det=axis_for_one_event), AFFINE, (2,)),
    ("any layout", Bend, mutant(Bend, log_det=largest_of_the_batch), AFFINE, (2,)),
    ("any layout", Bend, mutant(Bend, forward=single_precision_where_broadcast), AFFINE, (2,)),
    ("any layout", Bend, mutant(Bend, forward_and_log_det=one_log_det_where_broadcast), AFFINE, (2,)),
    ("dtype is kept", Bend, mutant(Bend, log_det=double_constant), AFFINE, (2,)),
    ("nothing is mutated", Bend, mutant(Bend, forward=in_place), AFFINE, (2,)),
    ("deterministic", Bend, mutant(Bend, forward=counts_calls), AFFINE, (2,)),
    ("threads may share", Bend, mutant(Bend, forward=keeps_its_event), AFFINE, (2,)),
    ("pickles", Bend, mutant(Bend, __reduce__=loses_shift), AFFINE, (2,)),
    ("pickles", Bend, mutant(Bend, __deepcopy__=copied_without_shift), AFFINE, (2,)),
    ("pickles", Bend, mutant(Bend, replace=replaced_without_sizes), AFFINE, (2,)),
    ("pickles", Bend, mutant(Bend, __reduce__=reduced_to_a_marked_one, log_det=larger_if_marked), AFFINE, (2,)),
    ("one vector", Bend, mutant(Bend, ravel=reversed_vector), AFFINE, (2,)),
    ("bad parameters are refused", Bend, mutant(Bend, _validate=nothing_checked), AFFINE, (2,)),
    ("bad plain fields are refused", AlphaSigmoid, mutant(AlphaSigmoid, low=plain(0.05, HOLDS_ALWAYS)), {}, ()),
    ("constants fit the dtype", AlphaSigmoid, mutant(AlphaSigmoid, unchecked_in=constants_pass), {}, ()),
    ("refusals are named", Squeeze, mutant(Squeeze, _validate=nothing_checked), {}, (1, 2, 2)),
    ("hard cases are accepted", ActNorm, mutant(ActNorm, _validate=refuses_reflections), {"scale": [2.0, 0.25]}, (2,)),
    ("bad events are refused", Bend, mutant(Bend, facts={"domain": sets.anything}), AFFINE, (2,)),
    ("the same in another precision", Bend, mutant(Bend, cast=moved_by_a_cast), AFFINE, (2,)),
    ("the same in another precision", Bend, mutant(Bend, astype=nudged_in_its_own_dtype), AFFINE, (2,)),
    ("the same in another precision", OrthogonalLinear, mutant(OrthogonalLinear, cast=nearly_orthogonal), TURN, (2,)),
    ("coordinates are independent", StickBreaking, onto(dataclasses.replace(sets.simplex, chart=without_the_last_entry)), {}, (2,)),
    ("images move along the tangents of their set", StickBreaking,
     onto(dataclasses.replace(sets.simplex, tangents=no_step_of_the_last_entry)), {}, (2,)),
    ("the ratio of two measures is 1/2 log det T^T T", StickBreaking,
     onto(dataclasses.replace(sets.simplex, log_ratio=twice_the_ratio)), {}, (2,)),
    ("log-det is slogdet of the Jacobian", StickBreaking, onto(sets.simplex.intrinsic), {}, (2,)),
    ("log-det is the finite-difference determinant", StickBreaking, onto(sets.simplex.intrinsic), {}, (2,)),
    ("log-det is slogdet of the Jacobian", CayleyOrthogonal, mutant(CayleyOrthogonal, log_det=without_its_constant),
     {"start": TURNED}, (3,)),
    ("log-det is the finite-difference determinant", CayleyOrthogonal, mutant(CayleyOrthogonal, log_det=without_its_constant),
     {"start": TURNED}, (3,)),
    ("inverse pullback is the generic one", CayleyOrthogonal, mutant(CayleyOrthogonal, inverse_vjp=twice_the_cotangent_of_z),
     {"start": TURNED}, (3,)),
    ("event shapes are those of the events", Bend, mutant(Bend, output_shape=one_entry_more), AFFINE, (2,)),
    ("event shapes are those of the events", Squeeze, mutant(Squeeze, output_shape=odd_heights_pass), {}, (1, 2, 2)),
    ("parts fill the event", Squeeze, mutant(Squeeze, part_shapes=lambda self, shape, side: [shape, shape]), {}, (1, 2, 2)),
    ("parts fill the event", Reshape, mutant(Reshape, part_shapes=of_the_other_side), {"input": (2, 3), "output": (3, 2)},
     (2, 3)),
    ("initialisation standardises", ActNorm, mutant(ActNorm, initialised=not_centred), AFFINE_CHANNELS, (2,)),
    ("initialisation standardises", ActNorm, mutant(ActNorm, inverse_initialised=ActNorm.initialised), AFFINE_CHANNELS, (2,)),
    ("initialisation standardises", ActNorm, mutant(ActNorm, statistics=unscaled_statistics), AFFINE_CHANNELS, (2,)),
    ("initialisation is exact", ActNorm, mutant(ActNorm, statistics=with_the_rounding_of_the_mean), AFFINE_CHANNELS, (2,)),
    ("initialisation is exact", GlowActNorm, mutant(GlowActNorm, statistics=without_eps), {"s": [0.5, -1.0]}, (2,)),
    ("initialisation refuses what it cannot standardise", ActNorm, mutant(ActNorm, statistics=unscaled_statistics),
     AFFINE_CHANNELS, (2,)),
    ("initialisation is settled", Chain, mutant(Chain, initialised=on_what_old_stages_give), NORMALISED, (2,)),
    ("infinite events have the limits of the inverse matrix", DenseLinear,
     mutant(DenseLinear, scaled_inverse=infinities_are_solved_for), ROTATION, (2,)),
    ("mass is one", DenseLinear, mutant(DenseLinear, inverse_and_log_det=heavier), ROTATION, (2,)),
    ("mass is one", Softplus, mutant(Softplus, inverse_and_log_det=same_sign_both_ways), {}, ()),
]


WITHOUT_RAISING = ("pickles", "the same in another precision")


def points(g, f, shape, dtype):
    """Points for f that suit the healthy bijector g."""
    rng = np.random.default_rng(2024)

    def draw(size):
        return (rng.choice([-1, 1], size) * np.exp2(rng.uniform(-6, 6, size))).astype(dtype)

    z = draw((32, *shape))
    while saturated(g, z).any():
        z = np.where(saturated(g, z).reshape(-1, *(1,) * len(shape)), z / 2, z)
    return Points(f, z, draw((32, *g.output_shape(shape))), draw((32, *shape)), draw(32))


def build(page, fields, dtype):
    return page(**{k: v if k == "stages" else np.array(v, dtype) for k, v in fields.items()}).astype(dtype)


@pytest.mark.parametrize("law, healthy, bug, fields, shape", BUGS, ids=lambda x: x if isinstance(x, str) else "")
def test_bug_is_caught(law, healthy, bug, fields, shape):
    dtype = np.float32 if law in ("dtype is kept", "the same in another precision") else np.float64
    g, f = build(healthy, fields, dtype), build(bug, fields, dtype)
    LAWS[law](g, points(g, g, shape, dtype))
    with pytest.raises(AssertionError) as raised:
        LAWS[law](f, points(g, f, shape, dtype))
    assert str(raised.value).startswith(f"{law}: {bug.__name__}: ")
    assert law not in WITHOUT_RAISING or ": raised " not in str(raised.value)


# -- compositions -----------------------------------------------------------------------------------------------------

def sign_of_the_map(self, z):
    return -self.inner.inverse_and_log_det(z)[1]


def left_where_they_are(f, breaks):
    return breaks


def nothing_is_asked(self, i, side, event):
    return event


def everything_is_marked(stage, event, side):
    MARKS.get().append(np.zeros(event.shape[:event.ndim - stage.event_ndim[side]], bool))
    return event


def nothing_refused(stages, where):
    pass


def all_of_the_codomain(self, where, side=0):
    return self.codomain


def once_more(stages):
    return [k + 1 for k in lifts(stages)]


def parts_of_the_first_stage(self, shape, side):
    return self.stages[0].part_shapes(shape, side)


def steps_of_the_first_map(f, side, path=()):
    yield from along(f.stages[0] if isinstance(f, Chain) else f, side, path)


@np.errstate(all="ignore")
def product_of_slopes(self, z):
    J = None
    for stage in self.unchecked(z.dtype).stages:
        J = stage.jacobian(z) if J is None else stage.jacobian(z) @ J
        z = stage.forward(z)
    return J


def nothing_is_lost(total, inside):
    return np.zeros(total.shape, bool)


def infinities_are_known(bar):
    return bar


def always_below(z, v, first, others):
    return np.zeros(np.shape(v), bool)


# (law, what holds the bug, its name, the bug)
COMPOSED = [
    ("an inverse is the map read from the other side", Inverse, "log_det", sign_of_the_map),
    ("a composition breaks where its steps do", compose, "moved_breaks", left_where_they_are),
    ("a chain refuses what a stage cannot take", Chain, "_entering", nothing_is_asked),
    ("a chain refuses what a stage cannot take", compose, "with_members", everything_is_marked),
    ("coordinates are independent", Chain, "codomain", property(lambda self: self.stages[0].codomain)),
    ("another measure is refused", sets.Set, "same", in_any_measure),
    ("another measure is refused", compose, "why_not", lambda f, where: "it does not fit"),
    ("another measure is refused", IntrinsicVolume, "log_det", lambda self, z: 0 * self.domain.log_ratio(z)[0]),
    ("lower dimensions are left to their maps", Reshape, "image_of", lambda self, where, side=0: where),
    ("lower dimensions are left to their maps", compose, "refuse_another_dimension", nothing_refused),
    ("lower dimensions are left to their maps", Permutation, "image_of", all_of_the_codomain),
    ("lower dimensions are left to their maps", compose, "why_not", lambda f, where: "it does not fit"),
    ("a composition is its steps in turn", compose, "lifts", once_more),
    ("a composition is its steps in turn", composition_laws, "single_steps", steps_of_the_first_map),
    ("a composition has the parts of its ends", Chain, "part_shapes", parts_of_the_first_stage),
    ("each stage is initialised on what it meets", Chain, "initialised", on_what_old_stages_give),
    ("a slope of 0 stays 0", Chain, "jacobian", product_of_slopes),
    ("rounding makes no infinity", compose, "made_by_rounding", nothing_is_lost),
    ("rounding makes no infinity", compose, "unknown", infinities_are_known),
    ("rounding makes no infinity", tracks, "nearer_an_upper_end", always_below),
]


@pytest.mark.parametrize("law, owner, name, bug", COMPOSED, ids=lambda x: x if isinstance(x, str) else "")
def test_bug_of_a_composition_is_caught(law, owner, name, bug, monkeypatch):
    """These laws compose a map by themselves: of numbers, of vectors, onto a set of lower dimension, and onto an interval."""
    maps = ((build(Chain, STAGES, np.float64), ()), (build(Bend, AFFINE, np.float64), (2,)), (StickBreaking(), (2,)),
            (NormalCDF(), ()))
    asked = [(f, points(f, f, shape, np.float64)) for f, shape in maps]
    for f, p in asked:
        LAWS[law](f, p)
    monkeypatch.setattr(owner, name, bug)
    with pytest.raises(AssertionError, match=f"^{law}: ") as caught:
        for f, p in asked:
            LAWS[law](f, p)
    assert ": raised " not in str(caught.value)


# -- masks of sequences -----------------------------------------------------------------------------------------------

PADDING = "padding changes nothing"


def every_position(self, log_det):
    return log_det.shape[-1]


def the_first_mask_for_all(self, log_det):
    return self.mask.reshape(-1, self.mask.shape[-1])[0].sum().astype(log_det.dtype)


def padding_is_left(self, vectors, like):
    return vectors.swapaxes(-1, -2)


def log_dets_everywhere(self, per_position):
    return per_position


def sees_its_right_neighbour(self, event, side):
    vectors = self._vectors(event)
    return vectors + np.roll(vectors, -1, -2)


# (healthy page, mutant, inner, what the law says of the mutant)
PADDED = [
    (Pointwise, mutant(Pointwise, _count=every_position), ActNorm, "log_det with a batch of masks"),
    (Pointwise, mutant(Pointwise, _count=the_first_mask_for_all), ActNorm, "log_det with a batch of masks"),
    (Pointwise, mutant(Pointwise, _image=padding_is_left), ActNorm, "is not 0 at invalid positions"),
    (Pointwise, mutant(Pointwise, _at_valid=log_dets_everywhere), Bend, "log_det with a batch of masks"),
    (Pointwise, mutant(Pointwise, _members=sees_its_right_neighbour), ActNorm, "of the sequence without its padding"),
]


def masked(page, inner, dtype=np.float64):
    return AtValid(page(build(inner, AFFINE_OF[inner], dtype), 2, [True, True, False]), (2, 3))


AFFINE_OF = {Bend: AFFINE, ActNorm: {"bias": [0.5, -1.0], "scale": [2.0, 0.25]}}


@pytest.mark.parametrize("healthy, bug, inner, message", PADDED)
def test_bug_of_a_mask_is_caught(healthy, bug, inner, message):
    g, f = masked(healthy, inner), masked(bug, inner)
    LAWS[PADDING](g, points(g, g, (4,), np.float64))
    with pytest.raises(AssertionError, match=f"^{PADDING}: AtValid: .*{message}"):
        LAWS[PADDING](f, points(g, f, (4,), np.float64))


def test_padding_that_is_not_cleared_is_caught():
    """A composition that does not say which component meets its events first."""
    f = masked(Pointwise, ActNorm).inner
    g, broken = (AtValid(page(f), (2, 3)) for page in (Inverse, mutant(Inverse, in_turn=lambda self, side: [])))
    LAWS[PADDING](g, points(g, g, (4,), np.float64))
    with pytest.raises(AssertionError, match=f"^{PADDING}: AtValid: raised ValueError: Mutant.*must be finite"):
        LAWS[PADDING](broken, points(g, broken, (4,), np.float64))


@pytest.mark.parametrize("dtype", (np.float32, np.float64), ids=lambda d: d.__name__)
@pytest.mark.parametrize("healthy, fields, shape", [(Bend, AFFINE, (2,)), (Chain, STAGES, ()), (Tanh, {}, ()),
                                                    (Softplus, {}, ()), (DenseLinear, ROTATION, (2,))])
def test_healthy_page_passes(healthy, fields, shape, dtype):
    f = build(healthy, fields, dtype)
    tally = run_laws(f, points(f, f, shape, dtype))
    assert all(rejected <= REJECTED * tried for rejected, tried in tally.values())
    assert tally["mass is one"] == (0, 1)


# -- statistics of a batch --------------------------------------------------------------------------------------------

def in_one_pass(z, rank=1, passes=None):
    """The mean of squares minus the square of the mean, which loses digits."""
    (mean, _), pullback = batch_norm.batch_statistics(z, rank, passes)
    y, axes = z if passes is None else np.where(passes, 0, z), (0, *range(2, z.ndim))
    return (mean, (y * y).mean(axes) - mean**2), pullback


def detached(z, rank=1, passes=None):
    """No gradient passes through the statistics."""
    return STATISTICS_OF_A_BATCH(z, rank, passes)[0], lambda mean_bar, var_bar: np.zeros_like(z)


STATISTICS_OF_A_BATCH = batch_norm.batch_statistics
# (law, module, function, planted bug)
OF_BATCHES = [
    ("the statistics of a batch are exact", training, "batch_statistics", in_one_pass),
    ("gradients pass through the statistics of a batch", batch_norm, "batch_statistics", detached),
    ("moving statistics follow", training, "unbiased", lambda var, N: var * (N / max(N - 1, 1))),
]


@pytest.mark.parametrize("law, module, name, bug", OF_BATCHES, ids=[law for law, *_ in OF_BATCHES])
def test_bug_of_statistics_is_caught(monkeypatch, law, module, name, bug):
    f = BatchNorm([0.5, -1.0], [2.0, 0.25], gain=[1.0, -2.0])
    p = points(f, f, (2,), np.float64)
    LAWS[law](f, p)
    monkeypatch.setattr(module, name, bug)
    with pytest.raises(AssertionError, match=f"^{law}: BatchNorm: "):
        LAWS[law](f, p)


def test_mutation_alone_breaks_nothing():
    f = build(mutant(Bend), AFFINE, np.float64)
    run_laws(f, points(f, f, (2,), np.float64))


def test_every_law_has_a_bug():
    assert {law for law, *_ in BUGS + COMPOSED + OF_BATCHES} | {"sets are reached", PADDING} == set(LAWS)


def test_a_map_onto_another_half_line_is_caught(monkeypatch):
    """The law asks the registered page, which a set names."""
    f = HalfLine()
    p = points(f, f, (), np.float64)
    LAWS["sets are reached"](f, p)
    upwards = classmethod(lambda cls, where, like: cls(np.zeros(like.shape), np.ones(like.shape)))
    monkeypatch.setattr(HalfLine, "reaching", upwards)
    with pytest.raises(AssertionError, match="^sets are reached: HalfLine"):
        LAWS["sets are reached"](f, p)


def test_a_map_that_takes_0_elsewhere_is_caught(monkeypatch):
    f = HalfLine()
    p, forward, inverse = points(f, f, (), np.float64), HalfLine.forward, HalfLine.inverse
    monkeypatch.setattr(HalfLine, "forward", lambda self, z: forward(self, z + 1))
    monkeypatch.setattr(HalfLine, "inverse", lambda self, x: inverse(self, x) - 1)
    with pytest.raises(AssertionError, match="^sets are reached: HalfLine: .*: 0 is taken to "):
        LAWS["sets are reached"](f, p)


def test_all_broken_laws_are_reported_by_name():
    g, f = (build(page, AFFINE, np.float64) for page in (Bend, mutant(Bend, log_det=doubled)))
    with pytest.raises(AssertionError) as raised:
        run_laws(f, points(g, f, (2,), np.float64))
    found = {line.split(":")[0] for line in str(raised.value).splitlines()}
    assert {"log-det is the finite-difference determinant", "log-det is slogdet of the Jacobian"} <= found


def test_a_message_names_the_smallest_event():
    f = mutant(Tanh, log_det=lambda self, z: np.ones_like(z))()
    p = points(Tanh(), f, (), np.float64)
    with pytest.raises(AssertionError) as raised:
        LAWS["log-det is the finite-difference determinant"](f, p)
    assert f"z[{int(np.argmin(np.abs(p.z)))}]" in str(raised.value)
    assert all(word in str(raised.value) for word in ("error", "bound", "float64", "Mutant"))


def test_a_bug_inside_a_composition_is_caught():
    f = Independent(mutant(Tanh, slope=lambda self, z: -Tanh.slope(self, z))(), 1)
    with pytest.raises(AssertionError, match="^jacobian is the derivative: Independent"):
        LAWS["jacobian is the derivative"](f, points(Independent(Tanh(), 1), f, (2,), np.float64))
