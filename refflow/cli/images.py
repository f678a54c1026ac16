r"""The command line for images: refflow fit IMAGES.npy --model glow, and sample and score of the flows that it writes.

Images are integers in a .npy file, (N, C, H, W) or (N, H, W), or with --channels-last (N, H, W, C).  A pixel of
0 .. values - 1, reduced to one of `bins` values 0 .. bins - 1 (Glow's n_bits), is an integer k.  In every step it is
dequantised anew,
    y = k + u,   u uniform on (0, 1)                                                (1)
and the density of a flow is one of y, in the units of k, so that -log2 p(y) / D are bits for each of the D entries:
    y = bins (x + 1/2)      with x from Glow                                        (2)
    y = bins x              with x from RealNVP, whose first stage is the logit     (3)

The flows are held against a Gaussian.  For images of at most FULL entries: one of any covariance, shrunk as that of tables
is.  Above: one that predicts every entry from those before it, in the order of rows, columns and channels, by weights w that
are the same at all positions i, m being the mean of a channel and m the value outside of the image:
    y_ci = m_c + sum_n w_cn (y_n - m_n) + e,   e ~ N(0, s_c^2)                      (4)
n running over the pixels BEFORE i, with all channels, and at i over the channels before c.  Its Jacobian dy/de has
determinant 1.
"""

from __future__ import annotations

import io
import json
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .gaussian import gaussian_start, likelihood, normal
from .tables import INTERRUPTED, WORDS, count, history_of, positive_count, read_npy, table_text, to_be_written
from ..core import Chain, Flow
from ..maps.densities import StandardNormal
from ..data import PARTS, load_images
from ..maps.dequantisation import binned, dequantised, quantised
from ..maps.elementwise import Affine
from ..models import image_realnvp
from ..models.glow import glow
from ..models.realnvp_images import penalised
from ..oracle import CannotRun
from ..oracle.verdict import aligned, plain
from ..saving import read as read_flow_file
from ..saving import save, write_atomically
from ..training import EMA, Cosine, SquaredNorm, TrainingError, WarmUp, fit, recipes

FULL = 512
MOST_VALUES = 2**16                     # float32 then has 8 bits for the noise
BEFORE = ((0, -1), (0, -2), (-1, -2), (-1, -1), (-1, 0), (-1, 1), (-1, 2), (-2, -1), (-2, 0), (-2, 1))     # (rows, columns)
AT_ONCE = 2**18                         # numbers whose densities are computed at once
FOR_START = 256                         # images on which a flow is initialised
MEASURED = 512                          # of the images to train on, those whose bits are reported
LAYOUTS = ("NHW", "NCHW", "NHWC")
MODELS = ("glow", "realnvp")
SHORTEST = 20                           # steps of an epoch, for Glow's AdaMax: of one step, its beta2 would be 0
OPTIONS = ("levels", "depth", "values", "bits", "channels_last", "additive", "permutation", "held_out")
SIZES = {"glow": {"levels": 3, "depth": 4, "hidden": 32}, "realnvp": {"levels": 2, "depth": 1, "hidden": 16}}


def add_options(command):
    """Those of `fit` that are for images."""
    one = command.add_argument_group("images", "DATA is a .npy file of integers, (N, channels, height, width) or "
                                               "(N, height, width); --model is glow or realnvp")
    one.add_argument("--values", type=positive_count, metavar="N", help="how many values a pixel has, 0 .. N - 1 (256)")
    one.add_argument("--bits", type=positive_count, metavar="N", help="keep N bits of them: 2^N values, a divisor")
    one.add_argument("--levels", type=positive_count, metavar="N", help=(
        "levels of Glow (3), scales of RealNVP (2), or as many as height and width can be halved"))
    one.add_argument("--depth", type=count, metavar="N", help=(
        "steps of each level of Glow (4), residual blocks of each network of RealNVP (1)"))
    one.add_argument("--additive", action="store_true", help="couplings that add, in RealNVP the first two of three")
    one.add_argument("--permutation", metavar="NAME", help="Glow's: 1x1, lu, orthogonal, shuffle or reverse (1x1)")
    one.add_argument("--held-out", metavar="FILE", help="images that choose the best step, in place of a part of DATA")
    one.add_argument("--channels-last", action="store_true", help="DATA is (N, height, width, channels)")


def add_patch_options(command):
    """Those of `data` that are for photographs."""
    one = command.add_argument_group("photographs", "32 x 32 pixels a patch")
    one.add_argument("--stride", type=positive_count, metavar="N", help=(
        "pixels from one patch to the next (32); patches that are nearer share pixels"))
    one.add_argument("--part", choices=PARTS, help=(
        "train: patches of the left four fifths of each photograph, test: of the rest, which shares no pixel with them "
        "(all)"))


def refuse_patch_options(options):
    for key in ("stride", "part"):
        if getattr(options, key):
            raise CannotRun(f"--{key} is for photographs, not for {options.name}")


def refuse_options(options):
    """Refuse what is for images alone where DATA are a table."""
    given = [f"--{key.replace('_', '-')}" for key in OPTIONS if getattr(options, key)]
    given += ["--model glow"] * (options.model == "glow")
    if given and Path(options.data).exists():
        raise CannotRun(f"{given[0]} is for images; {options.data} is no array (N, channels, height, width) or "
                        f"(N, height, width) in a .npy file")


# -- files of images --------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Images:
    """How the images of a flow are made of integers: `shape` is (C, H, W), `layout` that of the file."""

    values: int
    bins: int
    shape: tuple
    layout: str

    @property
    def size(self):
        return math.prod(self.shape)

    def with_noise(self, k, rng):
        """y of integers k < bins."""
        return dequantised(k, rng, self.bins, None, 0.0, float(self.bins), np.float32)             # (1)

    def pixels(self, y):
        """The images of y, as the file had them."""
        return self.laid_out(quantised(y, self.values, self.bins, 0.0, float(self.bins)))

    def laid_out(self, v):
        return v[:, 0] if self.layout == "NHW" else np.moveaxis(v, 1, -1) if self.layout == "NHWC" else v

    def note(self):
        return {"values": self.values, "bins": self.bins, "shape": list(self.shape), "layout": self.layout}

    def text(self):
        C, H, W = self.shape
        reduced = "" if self.bins == self.values else f", reduced to {self.bins} values"
        return f"{H} x {W} pixels{f', {C} channels' * (C > 1)}, 0 .. {self.values - 1}{reduced}"


def holds_images(path):
    """Is it a .npy file of more than a table?"""
    if Path(path).suffix != ".npy" or not Path(path).is_file():
        return False
    try:
        return np.lib.format.open_memmap(path, mode="r").ndim > 2
    except ValueError:
        return False                    # the reader of tables says what is wrong


def read_images(path, channels_last=False):
    """((N, C, H, W), layout) of a file."""
    if not Path(path).exists():
        raise CannotRun(f"there is no file {path}")
    try:
        v = read_npy(path)
    except ValueError as error:
        raise CannotRun(f"{path}: it is no .npy file of images: {error}") from None
    if v.ndim not in (3, 4) or not v.size:
        raise CannotRun(f"{path}: images are an array (N, channels, height, width) or (N, height, width), not of shape "
                        f"{v.shape}")
    if v.ndim == 3:
        return v[:, None], "NHW"
    if channels_last:
        return np.moveaxis(v, -1, 1), "NHWC"
    if v.shape[1] not in (1, 3) and v.shape[-1] in (1, 3):
        print(f"refflow: {path}: {v.shape[1]} channels of {v.shape[2]} x {v.shape[3]} pixels; if channels are the last "
              "axis, say --channels-last", file=sys.stderr)
    return v, "NCHW"


def hint_on_pixels(v, values):
    with np.errstate(invalid="ignore"):
        if v.dtype.kind == "f" and (v >= 0).all() and (v <= 1).all():
            return f"; pixels between 0 and 1 become integers by numpy.rint({values - 1} * pixels)"
        whole = v.dtype.kind in "iu" and v.min() >= 0
    return f"; --values {int(v.max()) + 1} allows it" if whole else ""


def images_to_fit(options):
    """(k as (N, C, H, W) of float32, what they are)."""
    v, layout = read_images(options.data, options.channels_last)
    values = options.values or 256
    bins = values if options.bits is None else 2**options.bits
    if not 2 <= values <= MOST_VALUES:
        raise CannotRun(f"--values {values}: a pixel must have 2 .. {MOST_VALUES} values")
    if values % bins:
        raise CannotRun(f"--bits {options.bits}: {bins} values are no divisor of {values}")
    what = Images(values, bins, tuple(v.shape[1:]), layout)
    if len(v) < 2:
        raise CannotRun(f"{options.data}: it holds {len(v)} image; a density needs at least 2")
    k = integers(v, what, options.data, hint=True)
    if options.values is None and v.max() < values // 4:
        print(f"refflow: {options.data}: the largest pixel is {int(v.max())}; if there are no larger ones, say --values "
              f"{int(v.max()) + 1}", file=sys.stderr)
    return k, what


def integers(v, what, path, hint=False):
    """k of (1) as (N, C, H, W) of float32; wrong pixels are refused with their index in the file and their value."""
    try:
        binned(what.laid_out(v), what.values, what.bins, 0.0, 1.0)
        return binned(v, what.values, what.bins, 0.0, 1.0)[0].astype(np.float32)
    except ValueError as error:
        raise CannotRun(f"{path}: {str(error).removeprefix('dequantisation: ')}"
                        f"{hint_on_pixels(v, what.values) if hint else ''}") from None


# -- models -----------------------------------------------------------------------------------------------------------

def sizes_of(options, shape):
    """{"levels", "depth", "hidden"} of the model."""
    sizes, (_, H, W) = dict(SIZES[options.model]), shape
    if H * W == 1:
        raise CannotRun(f"{options.data}: {options.model} needs more than one pixel; reshape the images to a table of their "
                        f"channels")
    halvings = 0
    while H % 2 ** (halvings + 1) == 0 and W % 2 ** (halvings + 1) == 0:
        halvings += 1
    sizes["levels"] = min(sizes["levels"], halvings + (options.model == "realnvp"))
    if not sizes["levels"] and not options.levels:
        raise CannotRun(f"{options.data}: Glow halves height and width, which must be even, not {H} x {W}; pad or crop the "
                        "images")
    if options.hidden is not None and len(options.hidden) != 1:
        raise CannotRun(f"--hidden: the networks of {options.model} have one width, not {len(options.hidden)}")
    given = {"levels": options.levels, "depth": options.depth, "hidden": options.hidden and options.hidden[0]}
    return sizes | {key: size for key, size in given.items() if size is not None}


def built(options, sizes, what, k, rng):
    """A flow of y, initialised on the integers k."""
    L, K, width = sizes["levels"], sizes["depth"], sizes["hidden"]
    shift = 0.5 if options.model == "glow" else 0.0
    units = Affine(np.float32(what.bins * shift), np.float32(what.bins))            # (2) (3)
    try:
        if options.model == "glow":
            model = glow(rng, what.shape, L, K, width, coupling="additive" if options.additive else "affine",
                         permutation=options.permutation or "1x1", dtype=np.float32)
        else:
            model = image_realnvp(rng, what.shape, L, width, K, additive=options.additive, dtype=np.float32)
    except ValueError as error:
        raise CannotRun(f"no model can be made of images of {what.text()}: {error}") from None
    model = model.initialised(units.inverse(what.with_noise(k[:FOR_START], rng)), rng)
    return Flow(Chain([model.bijector, units]), model.base)


def recipe(options, flow, per_epoch):
    """The authors' optimiser; its rate grows over Glow's ten epochs, or a tenth of the steps, then falls along a cosine.

    Averaged parameters do not fit the moving statistics of RealNVP's batch normalisations, which are those of the last ones.
    """
    if options.model == "glow":
        chosen = recipes.glow(max(per_epoch, SHORTEST), options.learning_rate or 1e-3)
    else:
        chosen = recipes.realnvp() | {"penalty": SquaredNorm(5e-5, penalised(flow))}
        if options.learning_rate:
            chosen["optimiser"] = replace(chosen["optimiser"], learning_rate=options.learning_rate)
    average = (0.99 if options.model == "glow" else 0.0) if options.average is None else options.average
    schedule = WarmUp(max(1, min(10 * per_epoch, options.steps // 10)), Cosine(max(options.steps, 1)))
    return chosen | {"schedule": schedule, "averaging": EMA(average) if average else None}


# -- a Gaussian to compare with ---------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Neighbours:
    """(4): `means` and `variances` of the channels, `weights` a list of vectors."""

    means: np.ndarray
    weights: list
    variances: np.ndarray

    def log_prob(self, y):
        total = 0.0
        for c, (w, variance) in enumerate(zip(self.weights, self.variances)):
            predictors, entry = predictors_of(y, self.means, c)
            e = entry - predictors @ w                                              # (4)
            total = total - (e * e / variance + math.log(2 * math.pi * variance)).sum((1, 2)) / 2      # (4)
        return total


def predictors_of(y, means, c):
    """((N, H, W, n), (N, H, W)): y_n - m of (4), and y_c - m_c."""
    d = y - means[:, None, None]
    _, C, H, W = d.shape
    padded = np.pad(d, ((0, 0), (0, 0), (2, 0), (2, 2)))
    shifted = [padded[:, k, 2 + i:2 + i + H, 2 + j:2 + j + W] for k in range(C) for i, j in BEFORE]
    return np.stack(shifted + [d[:, k] for k in range(c)], -1), d[:, c]


def neighbours(y):
    """The Gaussian of (4) that makes images y most likely."""
    means, weights, variances = y.mean((0, 2, 3)), [], []
    for c in range(y.shape[1]):
        gram, products, squares = 0.0, 0.0, 0.0
        for part in chunks(y):
            predictors, entry = predictors_of(part, means, c)
            F, t = predictors.reshape(-1, predictors.shape[-1]), entry.ravel()
            gram, products, squares = gram + F.T @ F, products + F.T @ t, squares + t @ t
        w = np.linalg.lstsq(gram, products, rcond=None)[0]
        weights.append(w)
        variances.append((squares - 2 * w @ products + w @ gram @ w) / (y.size // y.shape[1]))
    return Neighbours(means, weights, np.array(variances))


def gaussian_of(train, held_out):
    """(what it is, function of images that gives log densities, None where entries are constant)."""
    if train[0].size <= FULL and not np.ptp(train, 0).all():
        return "there is none, an entry being constant", None
    if train[0].size <= FULL:
        def rows(y):
            return None if y is None else y.reshape(len(y), -1).astype(np.float64)

        density = normal(gaussian_start(rows(train), rows(held_out)))
        return "a shrunk covariance", lambda y: density.log_prob(rows(y))
    density = neighbours(train.astype(np.float64))
    return "linear prediction from neighbours", lambda y: density.log_prob(y.astype(np.float64))


def chunks(y):
    """Parts of an array of images that are not too large."""
    rows = max(1, AT_ONCE // y[0].size)
    return [y[i:i + rows] for i in range(0, len(y), rows)]


def log_probs(density, y):
    return np.concatenate([density(part) for part in chunks(y)]).astype(np.float64)


# -- fit --------------------------------------------------------------------------------------------------------------

def split(options, k, what, rng):
    """{"train": images, "validation": images, "test": images}, without the parts that are empty."""
    n = len(k)
    test = min(round(options.test * n), n - 2)
    held = 0 if options.held_out else min(round(options.validation * n), n - 2 - test)
    order = rng.permutation(n)
    rows = {"train": np.sort(order[test + held:]), "validation": order[test:test + held], "test": order[:test]}
    parts = {name: k[index] for name, index in rows.items()}
    if options.held_out:
        parts["validation"] = images_to_score(options.held_out, what)
    return {name: part for name, part in parts.items() if len(part)}


def compared(flow, best, what, parts, rng):
    """{"before", "after", "gaussian": {part: likelihood}}, and what the Gaussian is."""
    noisy = {name: what.with_noise(k, rng) for name, k in parts.items()}
    kind, gaussian = gaussian_of(noisy["train"], noisy.get("validation"))
    densities = {"before": flow.log_prob, "after": best.log_prob, "gaussian": gaussian}
    shown = {name: y[:MEASURED] if name == "train" else y for name, y in noisy.items()}
    found = {key: {name: likelihood(log_probs(density, y), what.size) for name, y in shown.items()}
             for key, density in densities.items() if density is not None}
    return {"gaussian": None} | found | {"gaussian_is": kind}


def fit_images(options):
    if Path(options.out).suffix not in (".npz", ".json"):
        raise CannotRun(f"--out {options.out}: the name of a flow's file must end in .npz or .json")
    to_be_written(options.out, options.force)
    if options.model not in MODELS:
        raise CannotRun(f"{options.data}: {options.model} needs a table of numbers; for images there are --model "
                        f"{' and --model '.join(MODELS)}")
    for key in ("couplings", *("permutation",) * (options.model != "glow")):
        if getattr(options, key):
            raise CannotRun(f"--{key}: the model {options.model} of images has no such option")
    k, what = images_to_fit(options)
    rng = np.random.default_rng(options.seed)
    parts = split(options, k, what, rng)
    sizes = sizes_of(options, what.shape)
    flow = built(options, sizes, what, parts["train"], rng)
    batch_size = min(options.batch_size or 64, len(parts["train"]))
    settings = recipe(options, flow, -(-len(parts["train"]) // batch_size)) | {"batch_size": batch_size}
    held_out = what.with_noise(parts["validation"], rng) if "validation" in parts else None
    message, status = "", 0
    try:
        result = fit(flow, parts["train"], transform=what.with_noise, validation=held_out, fixed="bijector.stages.1",
                     patience=options.patience or None if held_out is not None else None, steps=options.steps, rng=rng,
                     **settings)
    except TrainingError as error:
        result, message, status = error.result, str(error), 1
    if result.stopped == "interrupted":
        message, status = "interrupted", INTERRUPTED
    about = {"images": what.note(), "model": options.model, "sizes": sizes, "additive": options.additive,
             "permutation": options.permutation, "seed": options.seed, "steps": options.steps, "step": result.step,
             "batch_size": batch_size, "learning_rate": settings["optimiser"].learning_rate,
             "validation": options.validation, "held_out": options.held_out, "test": options.test,
             "patience": options.patience, "rows": len(k), "stopped": result.stopped}
    save(result.flow, options.out, plain(about | {"history": history_of(result.history, 10)}))
    options.written = True
    if message:
        print(f"refflow: {message}; {options.out} holds the best flow so far", file=sys.stderr)
    report = about | compared(flow, result.flow, what, parts, rng) | {"data": options.data, "out": options.out}
    report["parts"], report["stopped_at"] = {name: len(part) for name, part in parts.items()}, len(result.history["step"])
    print(json.dumps(plain(report), indent=1, allow_nan=False) if options.json else fit_text(report, what))
    return status


def fit_text(report, what):
    parts = report["parts"]
    counts = ", ".join(f"{n} {'images ' * (name == 'train')}{WORDS[name]}" for name, n in parts.items())
    rows = [("bits/dim", *(WORDS[name] for name in parts))]
    for key, name in (("before", "before"), ("after", "after"), ("gaussian", "a Gaussian")):
        found = report[key] or {}
        rows.append((name, *(f"{found[part]['bits_per_dim']:.3f}" if part in found else "-" for part in parts)))
    best = f", the best of {report['stopped_at']}" if "validation" in parts else ""
    last = f"{report['out']}: {report['model']} after step {report['step']}{best} (at most {report['steps']})"
    return (f"{report['data']}: {what.text()}, {counts}\n{aligned(rows)}\nthe Gaussian: {report['gaussian_is']}\n{last}")


# -- data -------------------------------------------------------------------------------------------------------------

def image_set(options):
    if options.name != "photographs":
        refuse_patch_options(options)
    if options.out is None or Path(options.out).suffix != ".npy":
        raise CannotRun(f"{options.name} are images; --out must be a .npy file")
    try:
        v = load_images(options.name, stride=options.stride, part=options.part or "all")
    except ImportError as error:
        raise CannotRun(str(error)) from None
    write_array(options.out, v)
    report = {"name": options.name, "shape": v.shape, "largest": int(v.max()), "out": options.out}
    N, C, H, W = v.shape
    channels = f", {C} channels" if C > 1 else ""
    text = f"{options.out}: {options.name}, {N} images of {H} x {W} pixels{channels}, 0 .. {v.max()}"
    print(json.dumps(plain(report)) if options.json else text)
    return 0


def write_array(path, array):
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    write_atomically(path, content.getvalue())


# -- sample and score ------------------------------------------------------------------------------------------

def images_of(flow, note):
    """What the images of a flow are, None where it is none of images."""
    found = note.get("images") if isinstance(note, dict) else None
    if not isinstance(found, dict) or not isinstance(flow, Flow) or flow.parameter_batch:
        return None
    values, bins, shape, layout = (found.get(key) for key in ("values", "bins", "shape", "layout"))
    counts = all(type(n) is int and n >= 1 for n in (values, bins)) and values % bins == 0
    if not counts or layout not in LAYOUTS or not isinstance(shape, list) or flow.event_shape != tuple(shape):
        return None
    return Images(values, bins, tuple(shape), layout)


def read_image_flow(path):
    """(flow, what its images are), or None where the file holds another thing."""
    if not Path(path).is_file():
        return None
    try:
        flow, note = read_flow_file(path)
    except ValueError as error:
        raise CannotRun(str(error)) from None
    what = images_of(flow, note)
    return None if what is None else (flow, what)


def drawn(flow, rng, n, temperature=1.0):
    """n samples, their latents, which must be standard normal, times the temperature."""
    if temperature == 1 and n == 0:
        return flow.sample(rng, n)
    if temperature != 1 and not isinstance(flow.base, StandardNormal):
        raise CannotRun(f"--temperature: the base of the flow must be StandardNormal, not {type(flow.base).__name__}")
    z = flow.base.sample(rng, n)
    z *= z.dtype.type(temperature)
    return np.concatenate([flow.bijector.forward(part) for part in chunks(z)])


def sample_images(options, flow, what):
    form = "" if options.out is None else Path(options.out).suffix.lower()
    if form not in (".npy", ".png"):
        raise CannotRun(f"{options.flow} is a flow of images; --out must be a .npy file, or a picture, .png")
    if form == ".png" and (not options.n or what.shape[0] not in (1, 3)):
        raise CannotRun(f"--out {options.out}: a picture needs at least one image of 1 or 3 channels; .npy holds any")
    y = drawn(flow, np.random.default_rng(options.seed), options.n, options.temperature)
    if form == ".png":
        write_picture(options.out, quantised(y, what.bins, None, 0.0, float(what.bins)), what)
    else:
        write_array(options.out, what.pixels(y))
    report = {"flow": options.flow, "seed": options.seed, "n": options.n, "temperature": options.temperature,
              "images": what.note(), "out": options.out}
    text = f"{options.out}: {options.n} images of {what.text()}, temperature {options.temperature:g}"
    print(json.dumps(plain(report)) if options.json else text)
    return 0


def write_picture(path, k, what):
    try:
        from .. import plot
    except ImportError as error:
        raise CannotRun(str(error)) from None
    columns = min(10, math.ceil(math.sqrt(len(k))))
    plot.save(plot.images([k], columns=columns, limits=(0, what.bins - 1)), path)


def images_to_score(path, what):
    """k of a file, (N, C, H, W), which must be images like those of the flow."""
    v, _ = read_images(path, what.layout == "NHWC")
    if v.shape[1:] != what.shape:
        C, H, W = what.shape
        raise CannotRun(f"{path}: its images have {v.shape[1]} channels of {v.shape[2]} x {v.shape[3]} pixels, not {C} of "
                        f"{H} x {W}")
    return integers(v, what, path)


def score_images(options, flow, what):
    y = what.with_noise(images_to_score(options.data, what), np.random.default_rng(options.seed))
    log_prob = log_probs(flow.log_prob, y)
    each = -log_prob / (what.size * math.log(2))
    rows = [[str(i), repr(p), repr(b)] for i, (p, b) in enumerate(zip(log_prob.tolist(), each.tolist()))]
    text = table_text(["image", "log_prob", "bits_per_dim"], rows)
    if options.out and Path(options.out).suffix == ".npy":
        write_array(options.out, log_prob)
    elif options.out:
        write_atomically(options.out, text.encode())
    elif not options.json:
        print(text, end="")
    report = {"flow": options.flow, "data": options.data, "rows": len(y), "out": options.out, "images": what.note()}
    report |= likelihood(log_prob, what.size)
    if options.json:
        report |= {"log_prob": log_prob.tolist(), "bits_per_dim_each": each.tolist()}
        print(json.dumps(plain(report), allow_nan=False))
    else:
        summary = f"{len(y)} images: {report['nats']:.4f} nats, {report['bits_per_dim']:.4f} bits/dim"
        print(summary, file=sys.stdout if options.out else sys.stderr)
    return 0
