r"""Images: integers in a .npy file, (N, C, H, W) or (N, H, W), or with --channels-last (N, H, W, C); in a .npz file with classes.

A pixel of 0 .. values - 1, reduced to one of `bins` values 0 .. bins - 1 (Glow's n_bits), is an integer k.  In every step it
is dequantised anew,
    y = k + u,   u uniform on (0, 1)                                                (1)
and the density of a flow is one of y, in the units of k, so that -log2 p(y) / D are bits for each of the D entries:
    y = bins (x + 1/2)      with x from Glow                                        (2)
    y = bins x              with x from RealNVP, whose first stage is the logit     (3)
    y = bins (x + 1)/2      with x from TarFlow and from STARFlow                   (4)
    y = (bins - 1) (x + 1)/2            with x from Jet, to which bins - 1 is 1     (5)
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .classes import IMAGES, NONE, Classes, Labelled, classes_named, is_npz, labels_of, noted_classes, read_npz, refuse_large
from .dataset import Given, Start, by_likelihood, compared, comparison_text, in_units, likeliest, refuse_foreign, refuse_overflow
from .rows import OF_SPEECH
from .files import is_npy, read_npy, write_npy
from .options import put
from ..maps.dequantisation import binned, dequantised, quantised
from ..maps.elementwise import Affine
from ..models import BUILDERS, image_realnvp
from ..models.glow import glow
from ..models.jet import jet
from ..models.realnvp_images import penalised
from ..models.starflow import starflow
from ..models.tarflow import tarflow
from ..models.defaults import defaults_of
from ..oracle import CannotRun
from ..report import counted
from ..training import EMA, Cosine, SquaredNorm, WarmUp, recipes
from ..training.gaussians import gaussian_of_images

MOST_VALUES = 2**16                     # float32 then has 8 bits for the noise
FOR_START = 256                         # images on which a flow is initialised
LAYOUTS = ("NHW", "NCHW", "NHWC")
MODELS = ("glow", "realnvp", "tarflow", "starflow", "jet")
OF_TOKENS = ("jet", "starflow", "tarflow")
HEAD = 32                               # entries of a head of attention, or the largest power of 2 that divides the channels
NAMES = {"image_realnvp": "realnvp"}    # of refflow.models
FOREIGN = {"glow": ("patch", "context", "layers", "couplings"), "realnvp": ("patch", "context", "layers", "permutation", "couplings"),
           "tarflow": ("levels", "additive", "permutation", "couplings"),
           "starflow": ("levels", "additive", "permutation", "couplings", "context"),
           "jet": ("levels", "additive", "permutation", "depth")}      # options that are for others of these models
SHORTEST = 20                           # steps of an epoch, for Glow's AdaMax: of one step, its beta2 would be 0


@dataclass(frozen=True)
class Images:
    """How the images of a flow are made of integers: `shape` is (C, H, W), `layout` the file's, `context` their classes."""

    values: int
    bins: int
    shape: tuple
    layout: str
    context: Classes | None = None

    word = "image"
    names = None
    measures = ("bits_per_dim",)
    scores = ("log_prob", "bits_per_dim")
    measured = 512
    batch_size = 64
    size = property(lambda self: math.prod(self.shape))
    loss_units = property(lambda self: {"dimensions": self.size, "levels": 1})
    limits = property(lambda self: (0, self.bins - 1))

    # -- what they are ------------------------------------------------------------------------------------------------

    @staticmethod
    def holds(path):
        """Is it a .npz file of images, or a .npy file of more than a table?"""
        if is_npz(path):
            return True
        if not is_npy(path) or not Path(path).is_file():
            return False
        try:
            return np.lib.format.open_memmap(path, mode="r").ndim > 2
        except ValueError:
            return False                    # the reader of tables says what is wrong

    @classmethod
    def to_fit(cls, options, rng):
        options.model = NAMES.get(options.model, options.model)
        refuse_options(options)
        v, layout, others = read_images(options.data, options.channels_last)
        values = options.values or 256
        bins = values if options.bits is None else 2**options.bits
        if not 2 <= values <= MOST_VALUES:
            raise CannotRun(f"--values {values}: a pixel must have 2 .. {MOST_VALUES} values")
        if values % bins:
            raise CannotRun(f"--bits {options.bits}: {bins} values do not divide {values}")
        if len(v) < 2:
            raise CannotRun(f"{options.data}: it holds {len(v)} image; a density needs at least 2")
        data = cls(values, bins, tuple(v.shape[1:]), layout)
        k = data.integers(v, options.data, hint_on_pixels(v, values))
        if options.values is None and v.max() < values // 4:
            print(f"refflow: {options.data}: the largest pixel is {int(v.max())}; if there are no larger ones, say --values "
                  f"{int(v.max()) + 1}", file=sys.stderr)
        if options.context is None:
            return data, k
        labels = labels_of(options.data, options.context, others, len(v))
        refuse_large(options.data, options.context, labels)
        context = classes_named(options.context, int(labels.max()) + 1, options.model == "jet")
        return replace(data, context=context), Labelled(k, labels)

    @classmethod
    def of_flow(cls, flow, note):
        found = note.get("images")
        if not isinstance(found, dict):
            return None
        values, bins, shape, layout = (found.get(key) for key in ("values", "bins", "shape", "layout"))
        counts = all(type(n) is int and n >= 1 for n in (values, bins)) and values % bins == 0
        if not counts or layout not in LAYOUTS or not isinstance(shape, list) or flow.event_shape != tuple(shape):
            return None
        context = noted_classes(found.get("context"), flow) if flow.needs("context") else None
        return cls(values, bins, tuple(shape), layout, context)

    def note(self):
        context = {"context": self.context.note()} if self.context else {}
        return {"images": {"values": self.values, "bins": self.bins, "shape": list(self.shape), "layout": self.layout} | context}

    def text(self):
        C, H, W = self.shape
        reduced = "" if self.bins == self.values else f", reduced to {self.bins} values"
        return f"{H} x {W} pixels{f', {C} channels' * (C > 1)}, 0 .. {self.values - 1}{reduced}"

    def summary(self, counts):
        given = f" given {self.context.words()}, one of {self.context.count}" if self.context else ""
        return f"{self.text()}{given}, {counts}"

    # -- their events -------------------------------------------------------------------------------------------------

    def read(self, path, header=None):
        refuse_header(header)
        v, _, others = read_images(path, self.layout == "NHWC")
        if v.shape[1:] != self.shape:
            C, H, W = self.shape
            raise CannotRun(f"{path}: its images have {v.shape[1]} channels of {v.shape[2]} x {v.shape[3]} pixels, not {C} of "
                            f"{H} x {W}")
        k = self.integers(v, path)
        if self.context is not None:
            k = Labelled(k, self.labels(path, others, len(v)))
        return Given(k, ["image"], [[str(i)] for i in range(len(v))], list(range(len(v))))

    def labels(self, path, others, count):
        """The classes of the images of a file; without such an array, their class is not given."""
        name = self.context.names[0]
        return self.context.held(labels_of(path, name, others, count), path) if name in others else np.full(count, NONE)

    def integers(self, v, path, hint=""):
        """k of (1) as (N, C, H, W) of float32; wrong pixels are refused with their index in the file and their value."""
        try:
            binned(self.laid_out(v), self.values, self.bins, 0.0, 1.0)
            return binned(v, self.values, self.bins, 0.0, 1.0)[0].astype(np.float32)
        except ValueError as error:
            raise CannotRun(f"{path}: {str(error).removeprefix('dequantisation: ')}{hint}") from None

    def laid_out(self, v):
        return v[:, 0] if self.layout == "NHW" else np.moveaxis(v, 1, -1) if self.layout == "NHWC" else v

    def with_noise(self, values, rng):
        if isinstance(values, Labelled):
            return Labelled(self.with_noise(values.images, rng), values.labels)
        return dequantised(values, rng, self.bins, None, 0.0, float(self.bins), np.float32)        # (1)

    def refreshed(self, values, rng):
        return self.with_noise(values, rng)

    # -- their flows --------------------------------------------------------------------------------------------------

    def start(self, options, parts, rng):
        k, sizes = parts["train"], sizes_of(options, self.shape)
        units = units_of(options.model, self.bins)
        try:
            model = self.model(options, sizes, rng)
        except ValueError as error:
            raise CannotRun(f"no model can be made of images of {self.text()}: {error}") from None
        flow, fixed = in_units(model, [units], self.divided(self.with_noise(k[:FOR_START], rng))[0], rng, self.context)
        settings = recipe(options, flow, -(-len(k) // (options.batch_size or self.batch_size)))
        about = {"sizes": sizes, "additive": options.additive, "permutation": options.permutation}
        return Start(flow, fixed, settings, about)

    def model(self, options, sizes, rng):
        """ValueError for images that it does not take."""
        K, width = sizes.get("depth"), sizes["hidden"]
        if options.model == "glow":
            return glow(rng, self.shape, sizes["levels"], K, width, coupling="additive" if options.additive else "affine",
                        permutation=options.permutation or "1x1", dtype=np.float32)
        if options.model == "realnvp":
            return image_realnvp(rng, self.shape, sizes["levels"], width, K, additive=options.additive, dtype=np.float32)
        head, classes = math.gcd(width, HEAD), self.context.count if self.context else 0
        if options.model == "jet":
            return jet(rng, self.shape, sizes["patch"], width, sizes["couplings"], sizes["layers"], heads=width // head, context=classes,
                       dtype=np.float32)
        if options.model == "starflow":
            layers = [1 if k < K - 1 else sizes["layers"] for k in range(K)]
            return starflow(rng, self.shape, sizes["patch"], width, layers, head_size=head, dtype=np.float32)
        return tarflow(rng, self.shape, sizes["patch"], width, K, sizes["layers"], head_size=head, classes=classes, dtype=np.float32)

    def arrays(self, values):
        return [values.images, values.labels] if isinstance(values, Labelled) else [values]

    def trained(self, start, parts, rng, settings):
        if self.context is not None:
            parts = parts | {"train": parts["train"].partly_unlabelled(rng)}
        return by_likelihood(self, start, parts, rng, settings)

    def compared(self, before, after, parts, rng):
        return compared(self, before, after, parts, rng)

    def table(self, report):
        return comparison_text(self, report)

    def divided(self, y):
        return (y, None) if self.context is None else (y.images, self.context.of_labels(y.labels))

    def given(self, y, context):
        """Which of the images y have this context, a class; all if it is none."""
        return (y.labels == context[0]) | (context[0] == NONE)

    def modelled_names(self):
        return None

    def joined(self, x, contexts):
        return x

    def gaussian(self, train, held_out):
        """Without their classes."""
        density, kind = gaussian_of_images(*(y if y is None else self.divided(y)[0] for y in (train, held_out)))
        return density and (lambda y: density(self.divided(y)[0])), kind

    # -- their samples ------------------------------------------------------------------------------------------------

    def refuse_samples(self, options):
        if options.out is None or not (is_npy(options.out) or is_png(options.out)):
            raise CannotRun(f"{options.flow} is a flow of images; --out must be a .npy file, or a picture, .png")
        if is_png(options.out) and (not options.n or self.shape[0] not in (1, 3)):
            raise CannotRun(f"--out {options.out}: a picture needs at least one image of 1 or 3 channels; .npy holds any")

    def samples(self, y):
        return self.laid_out(quantised(refuse_overflow(y), self.values, self.bins, 0.0, float(self.bins)))

    def write_samples(self, options, y):
        if is_png(options.out):
            figure = picture_of(self.shown(y), self.limits)
            put(options, lambda path, replace: plotting().save(figure, path, replace))
        else:
            put(options, lambda path, replace: write_npy(path, self.samples(y), replace))
        if not options.json:
            print(f"{options.out}: {counted(len(y), self.word)} of {self.text()}, temperature {options.temperature:g}")

    def shown(self, y):
        """k of (1)."""
        return quantised(refuse_overflow(y), self.bins, None, 0.0, float(self.bins))


# -- files ------------------------------------------------------------------------------------------------------------

def is_png(path):
    return Path(path).suffix.lower() == ".png"


def read_images(path, channels_last=False):
    """((N, C, H, W), layout, the other arrays of a .npz file by their names) of a file."""
    if not Path(path).exists():
        raise CannotRun(f"there is no file {path}")
    try:
        others = read_npz(path) if is_npz(path) else {IMAGES: read_npy(path)}
    except ValueError as error:
        raise CannotRun(f"{path}: it is not a file of images: {error}") from None
    v = others.pop(IMAGES)
    if v.ndim not in (3, 4) or not v.size:
        raise CannotRun(f"{path}: images are an array (N, channels, height, width) or (N, height, width), not of shape "
                        f"{v.shape}")
    if v.ndim == 3:
        return v[:, None], "NHW", others
    if channels_last:
        return np.moveaxis(v, -1, 1), "NHWC", others
    if v.shape[1] not in (1, 3) and v.shape[-1] in (1, 3):
        print(f"refflow: {path}: {v.shape[1]} channels of {v.shape[2]} x {v.shape[3]} pixels; if channels are the last "
              "axis, say --channels-last", file=sys.stderr)
    return v, "NCHW", others


def hint_on_pixels(v, values):
    with np.errstate(invalid="ignore"):
        if v.dtype.kind == "f" and (v >= 0).all() and (v <= 1).all():
            return f"; pixels between 0 and 1 become integers by numpy.rint({values - 1} * pixels)"
        whole = v.dtype.kind in "iu" and v.min() >= 0
    return f"; --values {int(v.max()) + 1} allows it" if whole else ""


def plotting():
    try:
        from .. import plot
    except ImportError as error:
        raise CannotRun(str(error)) from None
    return plot


def picture_of(k, limits):
    return plotting().images([k], columns=min(10, math.ceil(math.sqrt(len(k)))), limits=limits)


# -- models -----------------------------------------------------------------------------------------------------------

def units_of(model, bins):
    """The map from the images of a model to y."""
    half = (bins - 1 if model == "jet" else bins) / 2
    shift, scale = {"glow": (half, bins), "realnvp": (0, bins)}.get(model, (half, half))        # (2) (3) (4) (5)
    return Affine(shift=np.float32(shift), scale=np.float32(scale))


def refuse_header(header):
    if header is not None:
        raise CannotRun("--header and --no-header are for tables, not for images")


def refuse_options(options):
    """Refuse models that are not for images, and what they have no use for."""
    refuse_header(options.header)
    refuse_foreign(options, OF_SPEECH, ("glow_tts",), f"speech; {options.data} is not a folder")
    if options.model not in MODELS:
        if options.model not in BUILDERS:
            raise CannotRun(f"there is no model {options.model!r} of images; {likeliest(options.model, MODELS)}")
        raise CannotRun(f"{options.data}: {options.model} needs a table of numbers; for images there are --model "
                        f"{' and --model '.join(MODELS)}")
    for key in ("bins", "components", "dense", *FOREIGN[options.model]):
        if getattr(options, key):
            raise CannotRun(f"--{key}: the model {options.model} of images has no such option")


def sizes_of(options, shape):
    """{option: size} of the model."""
    own = {"realnvp": "image_realnvp"}.get(options.model, options.model)
    sizes, (_, H, W) = defaults_of(own), shape
    if options.hidden is not None and len(options.hidden) != 1:
        raise CannotRun(f"--hidden: the networks of {options.model} have one width, not {len(options.hidden)}")
    given = {key: getattr(options, key) for key in sizes} | {"hidden": options.hidden and options.hidden[0]}
    given = {key: size for key, size in given.items() if size is not None}
    return sizes | given if options.model in OF_TOKENS else halved(options, sizes, H, W) | given


def halved(options, sizes, H, W):
    """The sizes of a model that halves height and width."""
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
    return sizes


def recipe(options, flow, per_epoch):
    """The authors' optimiser; its rate grows over Glow's ten epochs, or a tenth of the steps, then falls along a cosine.

    Averaged parameters do not fit the moving statistics of RealNVP's batch normalisations, which belong to the last parameters.
    """
    size, rate = math.prod(flow.event_shape), options.learning_rate or 1e-3
    if options.model == "glow":
        chosen = recipes.glow(max(per_epoch, SHORTEST), rate)
    elif options.model in ("starflow", "tarflow"):
        chosen = recipes.tarflow(size, 1, 2, rate)
    elif options.model == "jet":
        chosen = recipes.jet(size, 2, rate)
    else:
        chosen = recipes.realnvp() | {"penalty": SquaredNorm(5e-5, penalised(flow))}
        if options.learning_rate:
            chosen["optimiser"] = replace(chosen["optimiser"], learning_rate=options.learning_rate)
    average = (0.0 if options.model == "realnvp" else 0.99) if options.average is None else options.average
    schedule = WarmUp(max(1, min(10 * per_epoch, options.steps // 10)), Cosine(max(options.steps, 1)))
    return chosen | {"schedule": schedule, "averaging": EMA(average) if average else None}
