"""Files of flows: every class comes back bit by bit, and any other file is refused."""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import refflow
from refflow import (
    REGISTRY,
    ActNorm,
    Affine,
    BatchNorm,
    Chain,
    CholeskyOuterProduct,
    Concatenate,
    CorrelationOuterProduct,
    DenseLinear,
    DiagonalNormal,
    Dirichlet,
    Exp,
    Flow,
    FullNormal,
    GlowTTSActNorm,
    GroupedLinear,
    Independent,
    IntrinsicVolume,
    Inverse,
    LKJCholesky,
    Logistic,
    NormalMixture,
    OrthogonalLinear,
    Pointwise,
    Reshape,
    Squeezed,
    StandardLogistic,
    StandardNormal,
    Tanh,
    Transposed,
    Uniform,
    WishartCholesky,
    glow,
    image_realnvp,
    nice,
    realnvp,
    saving,
)
from refflow.accuracy.drawing import plainest
from refflow.core import Array, Bijector, bijector, real
from refflow.maps.autoregressive import Autoregressive, block_autoregressive_network
from refflow.maps.conditioners import (GELU, SELU, ConcatenatedReLU, Contextual, Conv2d, Dense, Dropout, GatedActivation, LayerNorm, LipSwish,
                                       Residual, Sequential, SoftplusActivation, WeightNormDense, dense_network,
                                       masked_dense_network)
from refflow.maps.conditioners import (ELU, BlendedDense, CircleFeatures, Delay, HyperDense, Positionwise, RMSNorm, Rotary, SiLU, SpectralDense,
                                       MixedNormDense, SpectralConv2d, Square, Swish, TimeDense, TimeNetwork, separable_network)
from refflow.maps.continuous import ContinuousFlow, DiscreteFlow, ReversibleFlow
from refflow.maps.coupling import (AdditiveCoupling, AffineCoupling, Coupling, Family, VolumePreservingCoupling, affine_family,
                                   masks)
from refflow.maps.elementwise import CONVENTIONS, ExpScale, RescaledTanhExpScale, ScaledAffine, ScaledShift
from refflow.maps.parametrisations import (BATCH_NORMS, BERNSTEIN_POLYNOMIALS, LINEAR_RATIONAL_SPLINES, PLANARS, QUADRATIC_SPLINES,
                                          RADIALS, SPLINES, SUMS_OF_SQUARES, TRIANGULAR, Free, GatedLocationScale, PerField,
                                          SoftmaxWeights)
from refflow.maps.parametrisations import HouseholderProduct, IncreasingEntries, MatrixEntries, OrthonormalColumns, SylvesterFields
from refflow.maps.residual import InvertibleResidual
from refflow.maps.splines import RationalQuadraticSpline
from refflow.models import all_in_one, glow_tts, jet, naf, starflow, starflow_denoiser, tarflow
from refflow.oracle.points.pages import bijectors
from refflow.saving import EARLIER, SCHEMA, about, archive, checksum, known_classes, load, read, read_all, read_npy, save
from refflow.training.batch_norm import of_batch

FORMS = [".npz", ".json"]


def composites():
    rng = np.random.default_rng(0)
    net, half = dense_network(rng, [2, 5, 4], residual=True, layer_norm=True, weight_norm=True), masks.halves(4)
    yield Flow(Chain([AffineCoupling(half, net), Inverse(ActNorm(np.ones(4)))]), StandardNormal(4))
    yield Flow(Chain([Affine(0.5, 2.0), Exp()]), StandardNormal((3,)))          # all weak
    yield Chain([Affine(np.float32(0.1), 2.0), Tanh()])                         # a weak field next to a strong one
    yield Independent(Affine(np.zeros((2, 3)), 1.5), 2)
    yield Concatenate([Affine(0.0, 1.0), Chain([Exp(), Tanh()])], (1, 2))
    yield Reshape((2, 3), (6,))
    yield Flow(Affine(0.0, 1.0), Flow(Affine(1.0, -2.0), Logistic(0.0, 1.0)))
    yield AdditiveCoupling(half, dense_network(rng, [2, 3, 2], "gelu"))
    yield VolumePreservingCoupling(half, dense_network(rng, [2, 3, 4], "silu"), ExpScale())
    yield Coupling(half, dense_network(rng, [2, 3, 4], "tanh"), affine_family(ExpScale()))
    yield AffineCoupling(half, dense_network(rng, [2, 3, 4], context=2))
    yield AffineCoupling(half, dense_network(rng, [2, 3, 4], context=2)).at(context=rng.normal(size=(7, 2)))
    yield ScaledShift(0.5, ExpScale(), [1.0, 2.0])
    yield PerField(("shift", "scale"), (Free(), ExpScale(0.25)))
    yield SoftmaxWeights(2)
    yield from (SylvesterFields(2), HouseholderProduct(3, 2), OrthonormalColumns(3, 2, 1e-6))
    yield CircleFeatures()
    small = Sequential([Dense(np.full((1, 2), 0.25)), LipSwish(0.5), Dense(np.full((2, 1), 0.25))])
    yield from (InvertibleResidual(small), DiscreteFlow(Sequential([Dense(np.ones((2, 3))), SELU()]), "midpoint", 3))
    yield ContinuousFlow(Dense(np.ones((2, 3))), 1.0, 0.5)
    yield ReversibleFlow(Dense(np.ones((2, 3))), "rk4", 3, coupling=0.875)
    yield SpectralDense(np.ones((2, 3)))
    yield MixedNormDense(np.ones((2, 3)), np.zeros(2), "1", "2", True)
    yield SpectralConv2d(np.ones((1, 1, 1, 2)), [0.5], [[[0.6, 0.8]]], [[[1.0, 0.0]]])
    blended = BlendedDense(np.ones((2, 2)), np.zeros(2), np.eye(2), np.ones(2))
    yield TimeNetwork((TimeDense(np.ones((2, 2))), blended, HyperDense(Dense(np.ones((6, 1))), 2)), SiLU())
    yield from (Swish(0.5), Square())
    yield MatrixEntries(2, 3)
    yield IncreasingEntries(ExpScale(), 2)
    yield Sequential([Dense(np.ones((2, 3))), Dropout(np.array([True, False]), 0.25), GELU(), LayerNorm(np.ones(2)),
                      Residual(Dense(np.eye(2))), WeightNormDense(np.ones((3, 2)))])
    yield Contextual(Dense(np.ones((2, 3), np.float32)))
    yield DenseLinear(np.stack([np.eye(2), 2 * np.eye(2)]), [0.5, -0.5])
    yield from (DenseLinear(np.eye(2), None), DenseLinear([[2.0]], None))
    yield Coupling(half, dense_network(rng, [2, 3, 4]), affine_family(RescaledTanhExpScale(None, 0.0, [0.5, -0.5])))
    yield DiagonalNormal([0.0, 1.0], [1.0, 2.0])
    yield FullNormal(np.zeros(2), np.eye(2))
    yield NormalMixture([0.25, 0.75], [[0.0], [1.0]], [[1.0], [2.0]])
    yield Uniform(0.0, [1.0, 2.0], (5, 2))
    yield Coupling(half, dense_network(rng, [2, 3, 4], "tanh"), Family(ScaledAffine, GatedLocationScale(1.5)))
    yield all_in_one(dense_network(rng, [2, 3, 4], "softplus"), np.eye(4))
    yield Sequential([SoftplusActivation(), Dense(np.ones((2, 2))), ELU()])
    yield of_batch(BatchNorm(np.zeros(2), np.ones(2), passes=np.array([True, False])), None)
    yield from (Pointwise(f(np.eye(2))) for f in (DenseLinear, OrthogonalLinear, lambda W: Transposed(DenseLinear(W))))
    yield Sequential([ConcatenatedReLU(np.ones((2, 2), bool), 0.5), Conv2d(np.ones((2, 3, 1, 1)), padding="edge")])
    yield nice(rng, 5, 3, (1, 2, 1), reorder=False)
    yield Flow(Inverse(Affine(np.ones(3), 2.0)), StandardLogistic(3))
    for convention in ("openai", "rosinality"):
        yield glow(rng, (1, 8, 4), 2, 1, 3, classes=3, permutation="lu", convention=convention)
    yield glow(rng, (2, 4, 4), 1, 1, 3, permutation="orthogonal", coupling="additive")
    yield image_realnvp(rng, (1, 8, 8), 2, 3, 1)
    yield image_realnvp(rng, (1, 4, 4), 1, 3, 1, weight_norm=False, skip=False, bottleneck=True, norm_gain=True)
    of_sequences = Chain([Pointwise(GlowTTSActNorm(np.ones(2)), 2), Pointwise(GroupedLinear([[0.5, 2.0], [1.0, -1.0]]), 2)])
    yield from (Squeezed(of_sequences), Squeezed(of_sequences).at(mask=np.array([[True] * 4, [True, True, False, False]])))
    small = {"filters": 3, "duration_filters": 3, "layers": 1, "blocks": 1, "hidden": 3, "wave_layers": 1}
    yield glow_tts(rng, 3, 2, 4, **small, mean_only=False, sigmoid_scale=True, speakers=2, speaker_channels=2)
    yield from (tarflow(rng, (1, 4, 4), 2, 4, 2, 1, head_size=2, classes=3), tarflow(rng, (1, 2, 2), 1, 2, 1, 1, head_size=1, scaled=False))
    yield Sequential([Delay([0.5, -0.5]), Rotary([[0.5, 1.0]], 2), Positionwise(RMSNorm([1.0, 2.0]))])
    yield jet(rng, (2, 4, 4), 2, 4, 2, 1, heads=2, bound=1.5, kinds=("spatial", "channels"), context=3)
    yield starflow(rng, (1, 2, 2), 1, 4, (1, 1), frames=2, text=(3, 2), within_frames=True, local=True, head_size=16, heads=2, key_heads=1,
                   gated=True, query_key_norm=True, norm_after=True, norm="root mean square", split_pairs=True)
    yield starflow(rng, (2, 2, 2), 1, 4, (1, 0), head_size=4, scale="exp", start=False, clip=0, norm="none", order="R2L")
    yield starflow_denoiser(rng, 1, (2, 1, 2), 4, 1, text=(3, 2), ahead=1, window=0, head_size=16, heads=1)
    yield GatedActivation()
    yield from (TRIANGULAR["distrax, TFP, Pyro"](2), LINEAR_RATIONAL_SPLINES["Pyro, FlowTorch"](2), BATCH_NORMS["Pyro"](2))
    yield from (QUADRATIC_SPLINES["nflows"](3), BERNSTEIN_POLYNOMIALS["zuko BPF"](6), SUMS_OF_SQUARES["zuko"](2, 2))
    for name in ("FlowJAX 17", "zuko", "torchflows", "FrEIA"):
        family = Family(RationalQuadraticSpline, SPLINES[name](2))
        yield Coupling(masks.halves(2), dense_network(rng, [1, 2, family.size]), family)
    yield Affine(np.zeros((0, 3)), 1.0)
    yield Affine([], 1.0)
    yield Autoregressive(masked_dense_network(rng, 3, (4,), 2, context=1), affine_family(ExpScale()))
    yield from (masked_dense_network(rng, 3, (4, 4), 2, residual="pre-activation", context=1, context_as=word, skip=True)
                for word in ("added", "gated"))
    yield block_autoregressive_network(rng, 2, (3,))
    yield naf(rng, 2, (3,), 1, 2, dense=2)
    yield separable_network(rng, 2, 3, 1, layers=1, context=True)
    yield from CONVENTIONS.values()
    yield from (PLANARS[name](2) for name in PLANARS)
    yield from (RADIALS[name](2) for name in RADIALS)
    yield Flow(IntrinsicVolume("simplex"), Dirichlet([2.0, 3.0, 0.5]))
    yield Flow(CorrelationOuterProduct(), LKJCholesky(1.5, 3))
    yield Flow(CholeskyOuterProduct(), WishartCholesky(3.5, np.eye(2)))


def same(value, again):
    return again.equals(value) and again.dtype == value.dtype and type(again) is type(value)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_page_comes_back(tmp_path, form, dtype):
    for name, page in bijectors().items():
        f, path = plainest(page, dtype, 3), tmp_path / f"{name}{form}"
        save(f, path)
        assert same(f, load(path)), name


@pytest.mark.parametrize("form", FORMS)
def test_compositions_densities_and_networks_come_back(tmp_path, form):
    path = tmp_path / f"flow{form}"
    for value in composites():
        save(value, path)
        assert same(value, load(path)), value
        if value.dtype is not None:
            save(value.astype(np.float32), path)
            assert same(value.astype(np.float32), load(path)), value


def test_compositions_cover_every_class():
    def classes(value):
        held = [getattr(value, k) for k in value.declared]
        parts = [p for h in held for p in (h if isinstance(h, tuple) else [h])]
        parts = [p for p in parts if hasattr(p, "declared") and not isinstance(p, type)]
        return {type(value).__name__}.union(*map(classes, parts))

    seen = set(bijectors()).union(*map(classes, composites()))
    assert seen == set(known_classes()) - {"OwnBase"}           # this one holds the user's own object
    modules = [cls.__module__ for name, cls in known_classes().items()]
    assert not [m for m in modules if m.startswith(("refflow.testing", "refflow.oracle"))]


def test_every_digit_survives(tmp_path):
    odd = np.array([5e-324, -0.0, np.nextafter(1, 2), 1.7976931348623157e308, np.pi, -2.0**-1022])
    for dtype in (np.float64, np.float32):
        with np.errstate(over="ignore"):
            shift = np.nan_to_num(odd.astype(dtype), posinf=1.0)
        for form in FORMS:
            save(Affine(shift, 1.0), tmp_path / f"a{form}")
            assert load(tmp_path / f"a{form}").shift.tobytes() == shift.tobytes()


def test_the_same_flow_gives_the_same_file(tmp_path):
    flow = next(composites())
    for form in FORMS:
        save(flow, tmp_path / f"a{form}")
        save(flow, tmp_path / f"b{form}")
        assert (tmp_path / f"a{form}").read_bytes() == (tmp_path / f"b{form}").read_bytes()


def test_numpy_reads_the_archive(tmp_path):
    save(Affine([1.0, 2.0], 3.0), tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert np.array_equal(file["shift"], [1.0, 2.0])
        document = json.loads(file["refflow.json"])
    assert document["schema"] == SCHEMA and document["refflow"] == refflow.__version__


def test_a_note_is_kept(tmp_path):
    for form in FORMS:
        save(Tanh(), tmp_path / f"a{form}", about={"columns": ["a", "ü"], "n": [1, 2.5, None]})
        assert about(tmp_path / f"a{form}") == {"columns": ["a", "ü"], "n": [1, 2.5, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        save(Tanh(), tmp_path / "a.npz", about=float("nan"))


def test_arrays_of_the_caller_come_back_beside_the_value(tmp_path):
    given = {"rows": np.arange(3, dtype=">f8"), "marks": np.array([[True], [False]])}
    save(Tanh(), tmp_path / "a.npz", about="note", arrays=given)
    value, note, arrays = read_all(tmp_path / "a.npz")
    assert same(Tanh(), value) and note == "note" and arrays.keys() == given.keys()
    assert all(np.array_equal(arrays[key], held) and arrays[key].dtype.isnative for key, held in given.items())
    value, note = read(tmp_path / "a.npz")
    assert same(Tanh(), value) and note == "note"
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        save(Tanh(), tmp_path / "b.npz", arrays={"rows": np.array([Own()])})
    assert not (tmp_path / "b.npz").exists()


def test_a_new_name_appears_with_its_content(tmp_path, monkeypatch):
    """By a link: where nothing may be replaced, there is never an empty file of that name."""
    monkeypatch.setattr(os, "replace", None)
    save(Tanh(), tmp_path / "a.npz", replace=False)
    assert same(Tanh(), load(tmp_path / "a.npz")) and os.listdir(tmp_path) == ["a.npz"]


def test_writing_is_atomic(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    save(Affine(0.0, 1.0), path)
    before = path.read_bytes()

    def full(*arguments):
        raise OSError(28, "no space left on device")

    for step in ("fsync", "replace"):
        monkeypatch.setattr(os, step, full)
        with pytest.raises(OSError):
            save(Affine(0.0, 2.0), path)
        assert path.read_bytes() == before and os.listdir(tmp_path) == ["a.npz"]
        monkeypatch.undo()
    (tmp_path / "link.npz").symlink_to(path)
    save(Affine(0.0, 2.0), tmp_path / "link.npz")
    assert load(path).scale == 2 and (tmp_path / "link.npz").is_symlink()


class Own:
    def log_prob(self, z):
        return -z

    log_prob_vjp = sample = log_prob


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match="must end in .npz or .json"):
        save(Tanh(), tmp_path / "a.pkl")
    with pytest.raises(ValueError, match="not dict"):
        save({}, tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"base\.given is .*Own.* cannot be saved"):
        save(Flow(Tanh(), Own()), tmp_path / "a.npz")

    @bijector(domain=real, codomain=real, register=False)
    class Mine(Bijector):
        shift: Array = real()

        def vjp(self, z):
            raise NotImplementedError

    with pytest.raises(ValueError, match=r"stages\.1 is a Mine, which is not registered"):
        save(Chain([Tanh(), Mine(0.0)]), tmp_path / "a.npz")
    assert not os.listdir(tmp_path)


def test_a_registered_class_of_the_users_own(tmp_path, monkeypatch):
    @bijector(domain=real, codomain=real, register=False)
    class Ours(Bijector):
        shift: Array = real()

        def vjp(self, z):
            raise NotImplementedError

    monkeypatch.setitem(REGISTRY, "Ours", Ours)
    save(Ours(0.5), tmp_path / "a.json")
    assert same(Ours(0.5), load(tmp_path / "a.json"))
    monkeypatch.delitem(REGISTRY, "Ours")
    with pytest.raises(ValueError, match="there is no class 'Ours'"):
        load(tmp_path / "a.json")


# ---------------------------------------------------------------- hostile files

def document(tmp_path, value=None):
    save(value or Chain([Affine([1.0, 2.0], 3.0), Tanh()]), tmp_path / "good.json")
    return json.loads((tmp_path / "good.json").read_text())


def write_sealed(path, d):
    """Write a document with its current checksum: the author of a hostile file can compute one too."""
    if "checksum" in d:
        d["checksum"] = checksum(d, {})
    path.write_text(json.dumps(d))


def first(d):
    return d["value"]["fields"]["stages"][0]


HOSTILE = {
    "schema": (lambda d: d.update(schema="refflow/flow/4"), "its schema is 'refflow/flow/4'"),
    "no schema": (lambda d: d.pop("schema"), "its schema is None"),
    "more keys": (lambda d: d.update(extra=1), "the document: an object with"),
    "unknown class": (lambda d: first(d).update({"class": "os.system"}), r"stages\.0: there is no class 'os.system'"),
    "no class at all": (lambda d: first(d).update({"class": ["Affine"]}), "there is no class"),
    "a base class": (lambda d: first(d).update({"class": "Bijector", "fields": {}}), "there is no class 'Bijector'"),
    "missing field": (lambda d: d["value"]["fields"].pop("stages"), "value: Chain needs the field 'stages'"),
    "missing array": (lambda d: d["value"]["fields"]["stages"].append({"class": "DenseLinear", "weak": True, "fields": {}}),
                      r"stages\.2: DenseLinear needs the field 'W'"),
    "unknown field": (lambda d: first(d)["fields"].update(more=1), r"stages\.0: Affine has no field 'more'"),
    "fields no object": (lambda d: first(d).update(fields=[]), r"stages\.0: fields must be an object"),
    "constraint": (lambda d: first(d)["fields"]["scale"].update(values=["0x0.0p+0"]),
                   r"stages\.0: Affine: scale must be finite"),
    "nan": (lambda d: first(d)["fields"]["shift"].update(values=["nan", "nan"]), "must be finite"),
    "size": (lambda d: first(d)["fields"]["shift"].update(shape=[3]), "do not make an array"),
    "negative shape": (lambda d: first(d)["fields"]["shift"].update(shape=[-1, -2]), "do not make an array"),
    "huge shape": (lambda d: first(d)["fields"]["shift"].update(shape=[10**12]), "do not make an array"),
    "dtype": (lambda d: first(d)["fields"]["shift"].update(dtype="object"), "do not make an array"),
    "unhashable dtype": (lambda d: first(d)["fields"]["shift"].update(dtype=[]), "do not make an array"),
    "values": (lambda d: first(d)["fields"]["shift"].update(values=[1.0, 2.0]), "hexadecimal strings"),
    "no hexadecimals": (lambda d: first(d)["fields"]["shift"].update(values=["1.0", "x"]), "hexadecimal"),
    "rounded": (lambda d: first(d)["fields"]["shift"].update(dtype="float32", values=["0x1.0p+200", "0x1.0p+0"]),
                "not a float32"),
    "weak": (lambda d: first(d).update(weak=False), "weak"),
    "weak kind": (lambda d: first(d).update(weak=1), "true or false"),
    "stages no list": (lambda d: d["value"]["fields"].update(stages={}), "a list is needed"),
    "no stages": (lambda d: d["value"]["fields"].update(stages=[]), "at least one"),
    "stage is a density": (lambda d: d["value"]["fields"].update(stages=[
        {"class": "StandardNormal", "weak": True, "fields": {"shape": {"tuple": [2]}}}]), "stages must be bijectors"),
    "field is null": (lambda d: d["value"]["fields"].update(stages=[
        {"class": "DenseLinear", "weak": True, "fields": {"W": None, "shift": None}}]), "W must be float32 or float64"),
    "integers": (lambda d: first(d)["fields"]["shift"].update(dtype="int64", values=[1, 2]), "must be float32 or float64"),
    "not an object": (lambda d: d.update(value=[1]), "an object with"),
    "a list of its keys": (lambda d: d.update(value=["class", "weak", "fields"]), "an object with"),
}


@pytest.mark.parametrize("schema", (SCHEMA, *EARLIER))
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_documents_are_refused(tmp_path, name, schema):
    change, words = HOSTILE[name]
    d = document(tmp_path) | {"schema": schema}
    if schema in EARLIER:
        del d["arrays"], d["checksum"]
    change(d)
    path = tmp_path / "bad.json"
    write_sealed(path, d)
    with pytest.raises(ValueError, match=words) as found:
        load(path)
    assert str(found.value).startswith(f"load: {path}: ")


@pytest.mark.parametrize("value, lacking", [
    (Affine([1.0, 2.0], 1.0), ["scale"]), (DenseLinear(np.eye(2)), ["shift"]), (Uniform(0.0, 1.0), ["shape"]),
    (BatchNorm(np.ones(2), np.ones(2)), ["gain", "bias", "passes", "eps", "rank"]),
    (Conv2d(np.ones((1, 1, 1, 1))), ["b", "padding"]), (Independent(Tanh()), ["ndim"])], ids=lambda v: str(v)[:20])
def test_a_field_that_the_file_lacks_takes_its_default(tmp_path, value, lacking):
    """A file written before its class had that field stays readable."""
    d = document(tmp_path, value)
    for key in lacking:
        del d["value"]["fields"][key]
    write_sealed(tmp_path / "old.json", d)
    assert same(value, load(tmp_path / "old.json"))


@pytest.mark.parametrize("shape", [{"tuple": [-1]}, {"tuple": ["a"]}, {"set": [1]}, {"float": 3}, "a", {"type": "eval"}, 1.5,
                                   [2]])
def test_hostile_plain_values_are_refused(tmp_path, shape):
    d = document(tmp_path, StandardNormal(2))
    d["value"]["fields"]["shape"] = shape
    write_sealed(tmp_path / "bad.json", d)
    with pytest.raises(ValueError, match="load: "):
        load(tmp_path / "bad.json")


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "NaN", "[" * 100000, '{"schema": NaN}', "\x00"])
def test_texts_that_are_no_document(tmp_path, text):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(ValueError, match="load: "):
        load(tmp_path / "bad.json")


def test_deep_nesting_is_refused(tmp_path):
    d = document(tmp_path, Inverse(Tanh()))
    for _ in range(300):
        d["value"] = {"class": "Inverse", "weak": True, "fields": {"inner": d["value"]}}
    write_sealed(tmp_path / "bad.json", d)
    with pytest.raises(ValueError, match="nested more than 200 deep"):
        load(tmp_path / "bad.json")
    d = document(tmp_path, Chain([Tanh()]))
    for _ in range(300):
        d["value"] = {"class": "Chain", "weak": True, "fields": {"stages": [d["value"]]}}
    write_sealed(tmp_path / "bad.json", d)
    with pytest.raises(ValueError, match="nested more than 200 deep"):
        load(tmp_path / "bad.json")


def test_an_entry_that_is_there_twice_is_refused(tmp_path):
    e = entries(tmp_path)
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as file, pytest.warns(UserWarning, match="Duplicate name"):
        for name, content in [*e.items(), ("stages.0.shift.npy", e["stages.0.shift.npy"])]:
            file.writestr(name, content)
    with pytest.raises(ValueError, match="'stages.0.shift.npy' does not belong to a flow"):
        load(tmp_path / "bad.npz")


def test_an_entry_that_is_marked_as_encrypted_is_refused(tmp_path):
    entries(tmp_path)
    raw = bytearray((tmp_path / "good.npz").read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):         # flags in the entry and in the directory
        raw[raw.index(mark) + offset] |= 1
    (tmp_path / "bad.npz").write_bytes(raw)
    with pytest.raises(ValueError, match="the entry 'refflow.json' is compressed or encrypted"):
        load(tmp_path / "bad.npz")


def test_a_note_of_training_is_dropped_from_an_old_file():
    old = {"class": "BatchStatisticsNorm", "weak": False, "fields": {"gain": 1, "record": 2, "key": 3, "rank": 4}}
    assert saving.upgraded([old]) == [old | {"fields": {"gain": 1, "rank": 4}}]


def entries(tmp_path):
    save(Chain([Affine([1.0, 2.0], 3.0), Tanh()]), tmp_path / "good.npz")
    with zipfile.ZipFile(tmp_path / "good.npz") as file:
        return {name: file.read(name) for name in file.namelist()}


def npy(array, **how):
    out = io.BytesIO()
    np.save(out, array, **how)
    return out.getvalue()


def seal(e):
    """Give entries their current checksum, if they can be read at all."""
    try:
        d = json.loads(e["refflow.json"])
        d["checksum"] = checksum(d, {n[:-4]: read_npy(raw, n) for n, raw in e.items() if n.endswith(".npy")})
        e["refflow.json"] = json.dumps(d).encode()
    except (ValueError, KeyError):
        pass


class Evil:
    def __reduce__(self):
        return os.abort, ()


HUGE = npy(np.zeros(2)).replace(b"(2,), }" + b" " * 14, b"(200000000000000,), }")
ARCHIVES = {
    "no document": (lambda e: e.pop("refflow.json"), "there is no entry refflow.json"),
    "missing array": (lambda e: e.pop("stages.0.shift.npy"), "there is no array 'stages.0.shift'"),
    "foreign array": (lambda e: e.update({"more.npy": npy(np.zeros(2))}), "the array 'more' belongs to no value"),
    "foreign entry": (lambda e: e.update({"run.py": b"print(1)"}), "'run.py' does not belong to a flow"),
    "path": (lambda e: e.update({"../../x.npy": npy(np.zeros(2))}), "belongs to no value"),
    "pickle": (lambda e: e.update({"stages.0.shift.npy": npy(np.array([Evil()], object), allow_pickle=True)}),
               "it is not a .npy array"),
    "raw pickle": (lambda e: e.update({"stages.0.shift.npy": pickle.dumps(Evil())}), "it is not a .npy array"),
    "string": (lambda e: e.update({"stages.0.shift.npy": npy(np.array(["a"]))}), "it is not a .npy array"),
    "complex": (lambda e: e.update({"stages.0.shift.npy": npy(np.zeros(2, complex))}), "it is not a .npy array"),
    "half": (lambda e: e.update({"stages.0.shift.npy": npy(np.zeros(2, np.float16))}), "it is not a .npy array"),
    "integers": (lambda e: e.update({"stages.0.shift.npy": npy(np.zeros(2, np.int64))}), "must be float32 or float64"),
    "cut": (lambda e: e.update({"stages.0.shift.npy": e["stages.0.shift.npy"][:-3]}), "its size does not match its shape"),
    "huge": (lambda e: e.update({"stages.0.shift.npy": HUGE}), "its size does not match its shape"),
    "empty": (lambda e: e.update({"stages.0.shift.npy": b""}), "load: "),
    "document no json": (lambda e: e.update({"refflow.json": b"\xff\xfe"}), "load: "),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_hostile_archives_are_refused(tmp_path, name):
    change, words = ARCHIVES[name]
    e = entries(tmp_path)
    change(e)
    seal(e)
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as file:
        for key, content in e.items():
            file.writestr(key, content)
    with pytest.raises(ValueError, match=words):
        load(tmp_path / "bad.npz")


def test_damaged_archives_are_refused(tmp_path):
    entries(tmp_path)
    good = (tmp_path / "good.npz").read_bytes()
    cases = [b"", good[:50], good[:-30], b"PK" + bytes(100), npy(np.zeros(3)), pickle.dumps(Evil())]
    middle = good.index(b"NUMPY") + 140
    cases.append(good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1:])         # one bit of an array
    for content in cases:
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(ValueError, match="load: "):
            load(tmp_path / "bad.npz")
    with zipfile.ZipFile(tmp_path / "bad.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("refflow.json", " " * 10**6)
    with pytest.raises(ValueError, match="compressed"):
        load(tmp_path / "bad.npz")
    np.savez(tmp_path / "bad.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="not the file of a flow"):
        load(tmp_path / "bad.npz")


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.npz")
    with pytest.raises(ValueError, match="must end in"):
        load(tmp_path / "none.pkl")


# ---------------------------------------------------------------- damage

def flips(raw, n=None, seed=0):
    """The bytes with one bit changed: every bit, or n drawn ones."""
    bits = range(8 * len(raw)) if n is None else np.random.default_rng(seed).integers(0, 8 * len(raw), n)
    for bit in map(int, bits):
        yield raw[:bit // 8] + bytes([raw[bit // 8] ^ 1 << bit % 8]) + raw[bit // 8 + 1:]


def loaded(path, content):
    """(value, note) of these bytes; None if `load` refuses them with its own error; any other error ends the test."""
    path.write_bytes(content)
    try:
        return read(path)
    except ValueError as error:
        assert str(error).startswith(f"load: {path}: ")
        return None


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [Affine(0.5, -3.0), Chain([Affine([1.0, 2.0], 3.0), Tanh()])], ids=["one", "chain"])
def test_a_changed_bit_is_refused_or_changes_nothing(tmp_path, value, form):
    note = {"columns": ["a", "\u00fc"], "n": [1, 2.5, None]}
    save(value, tmp_path / f"good{form}", note)
    raw, refused = (tmp_path / f"good{form}").read_bytes(), 0
    for content in flips(raw, None if len(raw) < 1000 else 1500):
        found = loaded(tmp_path / f"bad{form}", content)
        refused += found is None
        assert found is None or same(value, found[0]) and found[1] == note
    assert refused > 1000


CONTENT = {"a": np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), "b": np.array([True, False])}
OTHERS = {
    "a name": {"aa": CONTENT["a"], "b": CONTENT["b"]}, "exchanged": {"a": CONTENT["b"], "b": CONTENT["a"]},
    "a shape": CONTENT | {"a": CONTENT["a"].reshape(3, 2)}, "another shape": CONTENT | {"a": CONTENT["a"].ravel()},
    "a dtype": CONTENT | {"a": CONTENT["a"].view(np.int64)}, "bool": CONTENT | {"b": CONTENT["b"].view(np.int8)},
    "a bit": CONTENT | {"a": np.nextafter(CONTENT["a"], 9)}, "transposed": CONTENT | {"a": CONTENT["a"].T},
    "one less": {"a": CONTENT["a"]}, "one more": CONTENT | {"c": np.zeros(0)}, "none": {},
    "a boundary": {"a": CONTENT["a"][:1], "b": np.concatenate([CONTENT["a"][1:].ravel(), [0.0]])},
}


def test_the_checksum_covers_all_of_the_content():
    """Names, dtypes, shapes and entries of the arrays, and the document without its checksum; not the order of names."""
    note = {"value": {"class": "Tanh"}, "about": None}
    own = checksum(note, CONTENT)
    found = [checksum(note, arrays) for arrays in OTHERS.values()] + [checksum(note | {"about": 1}, CONTENT)]
    assert len({own, *found}) == len(found) + 1
    assert own == checksum(note | {"checksum": "x"}, dict(reversed(CONTENT.items()))) and len(own) == 64
    assert own == checksum(note, CONTENT | {"a": np.asfortranarray(CONTENT["a"])})


def test_a_renamed_array_is_refused(tmp_path):
    """By the checksum, before anything is made of it: of the value's arrays and of the caller's."""
    save(Affine([1.0, 2.0], 3.0), tmp_path / "good.npz", arrays={"rows": np.arange(3.0)})
    with zipfile.ZipFile(tmp_path / "good.npz") as file:
        e = {name: file.read(name) for name in file.namelist()}
    for name in e.keys() - {"refflow.json"}:
        with zipfile.ZipFile(tmp_path / "bad.npz", "w") as file:
            for other, content in e.items():
                file.writestr(other.replace(name, f"{name[:-4]}x.npy"), content)
        with pytest.raises(ValueError, match="its checksum does not match its content"):
            load(tmp_path / "bad.npz")


@pytest.mark.parametrize("form", FORMS)
def test_a_changed_bit_of_a_flow(tmp_path, form):
    flow = realnvp(np.random.default_rng(0), 2, hidden=(8,), couplings=2)
    save(flow, tmp_path / f"good{form}")
    for content in flips((tmp_path / f"good{form}").read_bytes(), 500):
        found = loaded(tmp_path / f"bad{form}", content)
        assert found is None or same(flow, found[0])


def corruptions(raw, n, seed=0):
    """The bytes with some of them replaced, cut out, duplicated or exchanged, at the ends more often than elsewhere."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        content = bytearray(raw)
        for _ in range(rng.integers(1, 5)):
            near = rng.integers(0, 3)
            i = int(rng.integers(0, len(content)) if near == 0 else min(len(content) - 1, rng.exponential(100)))
            i = len(content) - 1 - i if near == 2 else i
            length = int(rng.integers(1, 9))
            kind = rng.integers(0, 4)
            new = (rng.bytes(length), b"", bytes(content[i:i + length]) * 2, b"\xff" * length)[kind]
            content[i:i + length] = new
        yield bytes(content)


def test_corrupted_archives_raise_the_librarys_own_error(tmp_path):
    flow = realnvp(np.random.default_rng(0), 2, hidden=(4,), couplings=1)
    save(flow, tmp_path / "good.npz")
    for content in corruptions((tmp_path / "good.npz").read_bytes(), 3000):
        found = loaded(tmp_path / "bad.npz", content)
        assert found is None or same(flow, found[0])


def test_files_without_a_checksum_still_load(tmp_path):
    """The files of schema 2."""
    value = Chain([Affine([1.0, 2.0], 3.0), Tanh()])
    d = document(tmp_path, value)
    del d["checksum"], d["arrays"]
    (tmp_path / "old.json").write_text(json.dumps(d | {"schema": "refflow/flow/2"}))
    assert same(value, load(tmp_path / "old.json"))
    (tmp_path / "old.json").write_text(json.dumps(d))
    with pytest.raises(ValueError, match="an object with"):
        load(tmp_path / "old.json")


def test_a_document_changed_by_hand_is_refused(tmp_path):
    d = document(tmp_path)
    first(d)["fields"]["shift"]["values"][0] = (1.5).hex()
    (tmp_path / "bad.json").write_text(json.dumps(d))
    with pytest.raises(ValueError, match="its checksum does not match its content"):
        load(tmp_path / "bad.json")


def test_arrays_beside_the_value(tmp_path):
    arrays = {"order": np.arange(3), "optimiser.m": np.array([0.5, -0.0], np.float32), "b": np.array([True])}
    save(Tanh(), tmp_path / "a.npz", {"n": {2: 1}}, arrays)
    value, note, found = read_all(tmp_path / "a.npz")
    assert same(Tanh(), value) and note == {"n": {"2": 1}} and list(found) == list(arrays)
    assert all(found[key].dtype == array.dtype and np.array_equal(found[key], array) for key, array in arrays.items())
    with pytest.raises(ValueError, match="need a .npz file"):
        save(Tanh(), tmp_path / "a.json", arrays=arrays)
    for names in (["order"] * 2, ["none"], [["order"]], "order", [1]):
        text, stored = json.loads(json.dumps({"about": None})), {f"beside/{key}": array for key, array in arrays.items()}
        with zipfile.ZipFile(tmp_path / "a.npz") as file:
            text = json.loads(file.read("refflow.json")) | {"arrays": names}
        text["checksum"] = checksum(text, stored)
        (tmp_path / "b.npz").write_bytes(archive(json.dumps(text), stored))
        with pytest.raises(ValueError, match="arrays must name exactly the arrays"):
            load(tmp_path / "b.npz")


# ---------------------------------------------------------------- how files are written

def test_nothing_is_written_over_at_the_moment_of_the_write(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    path.write_text("theirs")
    for links in (True, False):
        if not links:
            monkeypatch.setattr(os, "link", without_links)
        with pytest.raises(FileExistsError):
            save(Tanh(), path, replace=False)
        assert path.read_text() == "theirs" and os.listdir(tmp_path) == ["a.npz"]
        save(Tanh(), tmp_path / "b.npz", replace=False)
        assert same(Tanh(), load(tmp_path / "b.npz"))
        (tmp_path / "b.npz").unlink()


def without_links(*arguments):
    raise PermissionError(1, "operation not permitted")


def test_a_file_that_is_replaced_keeps_its_mode(tmp_path):
    path = tmp_path / "a.npz"
    before = os.umask(0o027)
    try:
        save(Tanh(), path)
        assert path.stat().st_mode & 0o777 == 0o640
        path.chmod(0o604)
        save(Exp(), path)
        assert path.stat().st_mode & 0o777 == 0o604 and same(Exp(), load(path))
    finally:
        os.umask(before)


def test_an_error_of_writing_names_the_file_that_was_asked_for(tmp_path, monkeypatch):
    """And not the name under which it is written first."""
    def forbidden(path, *arguments):
        raise PermissionError(13, "Permission denied", str(path))

    for module, step in ((saving, "open"), (os, "replace")):
        with monkeypatch.context() as here, pytest.raises(PermissionError) as refused:
            here.setattr(module, step, forbidden, raising=False)
            save(Tanh(), tmp_path / "a.npz")
        assert refused.value.filename == str(tmp_path / "a.npz")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs")
def test_what_is_not_a_regular_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "a.npz")
    (tmp_path / "b.npz").mkdir()
    for name in ("a.npz", "b.npz"):
        with pytest.raises(FileExistsError, match="not a regular file"):
            save(Tanh(), tmp_path / name)
    assert (tmp_path / "a.npz").is_fifo() and sorted(os.listdir(tmp_path)) == ["a.npz", "b.npz"]


@pytest.mark.skipif(os.name != "posix", reason="they are only removed there")
def test_what_a_killed_save_left_is_removed_by_the_next(tmp_path):
    """Our own file of a dead process is removed; not that of a live process, of another machine, or of somebody else."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host = saving.WRITER
    names = [f".f.npz.refflow-{host}-{pid}-0123abcd.tmp" for pid in (gone.pid, os.getpid())]
    names += [f".f.npz.refflow-{host}x-{gone.pid}-0123abcd.tmp", f".f.npz.{gone.pid}.tmp", f"x{names[0][1:]}"]
    for name in names:
        (tmp_path / name).write_text("half")
    save(Tanh(), tmp_path / "a.npz")
    assert sorted(os.listdir(tmp_path)) == sorted([*names[1:], "a.npz"])


KILLED = """
import os, signal
from refflow import Tanh, save
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
save(Tanh(), "a.npz")
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_save_that_is_killed(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, timeout=60,
                          env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == -signal.SIGKILL and len(os.listdir(tmp_path)) == 1 and not (tmp_path / "a.npz").exists()
    save(Tanh(), tmp_path / "b.npz")
    assert os.listdir(tmp_path) == ["b.npz"]
