"""Images with classes, and samples with guidance.

A .npz file holds the array `images` and, for each image, its class 0, 1, ..., in an array of a name of its own.  A flow of images
given their class also has the density of images whose class is not given: the null class of `ClassEmbedding`.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .contexts import Context
from .dataset import refuse_overflow
from ..core import Flow, Inverse, tree
from ..fast.flows import FEWEST_SAMPLES, in_parts
from ..maps.autoregressive import Autoregressive
from ..maps.conditioners import CrossAttention, LearnedPositions, context_of_classes
from ..models.tarflow import GUIDED, images_of
from ..oracle import CannotRun

NONE = -1                               # the class of an image whose class is not given
DROPPED = 0.1                           # part of the images to train on whose class is not given
IMAGES = "images"                       # the array of a .npz file
OF_GUIDANCE = ("guided", "annealed", "attention_temperature")


@dataclass(frozen=True)
class Labelled:
    """Images (N, C, H, W), and the class (N,) of each, or NONE."""

    images: np.ndarray
    labels: np.ndarray

    shape = property(lambda self: self.images.shape)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, rows):
        return Labelled(self.images[rows], self.labels[rows])

    def partly_unlabelled(self, rng):
        """The same without the class of DROPPED of them, from which a flow learns the density of images of no class."""
        return Labelled(self.images, np.where(rng.random(len(self)) < DROPPED, NONE, self.labels))


@dataclass(frozen=True)
class Classes(Context):
    """The context of images given their classes, 0 .. count - 1, or given that they have none.

    `attended`: a flow attends to it, as a signal of one position.
    """

    count: int = 0
    attended: bool = False

    absent = (float(NONE),)

    def note(self):
        return {"name": self.names[0], "classes": self.count}

    def standardised(self, values):
        return self.of_labels(np.asarray(values)[:, 0].astype(int))

    def of_labels(self, labels):
        """The context (N, count), or (N, count, 1), of classes (N,), where NONE stands for no class."""
        given = labels != NONE
        found = context_of_classes(np.where(given, labels, 0), self.count, np.float32)
        found = np.where(given[:, None], found, context_of_classes(None, self.count, np.float32))
        return found[..., None] if self.attended else found

    def refuse(self, found):
        labels = found[:, 0]
        bad = np.flatnonzero(~((labels >= 0) & (labels < self.count) & (labels == np.floor(labels))))
        if len(bad):
            which = f"{self.names[0]}[{bad[0]}] = " if len(labels) > 1 else f"{self.names[0]} is "
            raise CannotRun(f"--given: {which}{labels[bad[0]]:g}, which is not one of the classes 0 .. {self.count - 1}")

    def held(self, labels, path):
        """Classes of a file, which must be among these."""
        bad = np.flatnonzero((labels < 0) | (labels >= self.count))
        if len(bad):
            raise CannotRun(f"{path}: {self.names[0]}[{bad[0]}] = {labels[bad[0]]} is not one of the classes 0 .. {self.count - 1}")
        return labels


def classes_named(name, count, attended=False):
    return Classes((0,), (name,), (0.0,), (1.0,), count, attended)


def noted_classes(found, flow):
    """The classes that a note describes, None if it describes none, or not the context of the flow."""
    if not isinstance(found, dict) or found.keys() != {"name", "classes"}:
        return None
    name, count = found["name"], found["classes"]
    if not isinstance(name, str) or type(count) is not int or count < 1:
        return None
    classes = classes_named(name, count, any(isinstance(value, CrossAttention) for _, value in tree.walk(flow)))
    try:
        flow.at(context=classes.of_labels(np.array([NONE])))
    except ValueError:
        return None
    return classes


# -- files ------------------------------------------------------------------------------------------------------------

def is_npz(path):
    """Is it a .npz file, of images and other arrays?"""
    return Path(path).suffix == ".npz" and Path(path).is_file() and zipfile.is_zipfile(path)


def read_npz(path):
    """{name: array} of a .npz file of images.  ValueError for what is not one."""
    with np.load(path, allow_pickle=False) as file:
        if IMAGES not in file.files:
            raise ValueError(f"there is no array {IMAGES!r} in it; it has {', '.join(sorted(file.files)) or 'none'}")
        return {name: file[name] for name in file.files}


def labels_of(path, name, others, count):
    """The array of that name in a file of `count` images, classes."""
    if name not in others:
        there = f"it has {', '.join(sorted(others))}" if others else "`refflow data digit_images --labels --out digits.npz` has one"
        raise CannotRun(f"--context: {path} has no array {name!r}, of a .npz file, with a class for each image; {there}")
    labels = others[name]
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        raise CannotRun(f"{path}: {name} must be an integer for each of {count} images, not {labels.dtype} of shape {labels.shape}")
    if len(labels) and labels.min() < 0:
        i = int(np.argmin(labels))
        raise CannotRun(f"{path}: {name}[{i}] = {labels[i]}: classes are 0, 1, ...")
    return labels.astype(int)


# -- guidance ---------------------------------------------------------------------------------------------------------

def add_guidance(command):
    one = command.add_argument_group("guidance", "of samples of a TarFlow given a class, or at a temperature of its attention")
    one.add_argument("--guidance", type=float, metavar="W", help="its weight, at least 0 (none)")
    one.add_argument("--guided", choices=GUIDED, help="what is guided: the logarithms a of the scales, the shifts b, or both (ab)")
    one.add_argument("--attention-temperature", type=float, metavar="T", help="of attention in the pass that sees no class (1)")
    one.add_argument("--annealed", action="store_true", help="the weight grows from 0 to W along the tokens")


def blocks_and_units(flow):
    """(the flow of images in [-1, 1], the map to their units) of a TarFlow that `fit` has saved, or None."""
    stages = getattr(flow.bijector, "stages", ())
    blocks = getattr(stages[0].inner, "stages", ()) if len(stages) == 2 and isinstance(stages[0], Inverse) else ()
    maps = [f for f in blocks if isinstance(f, Autoregressive)]
    learned = any(isinstance(value, LearnedPositions) for f in maps for _, value in tree.walk(f))       # not so in STARFlow
    return (Flow(stages[0], flow.base), stages[1]) if learned else None


def refuse_guidance(options, flow, context):
    """CannotRun for guidance that means nothing."""
    given = [f"--{key.replace('_', '-')}" for key in OF_GUIDANCE if getattr(options, key)]
    if options.guidance is None:
        if given:
            raise CannotRun(f"{given[0]} needs --guidance")
        return
    if not 0 <= options.guidance < np.inf:
        raise CannotRun(f"--guidance {options.guidance:g}: its weight must be a number of at least 0")
    tau = options.attention_temperature
    if tau is not None and not 0 < tau < np.inf:
        raise CannotRun(f"--attention-temperature {tau:g}: it must be a positive number")
    if blocks_and_units(flow) is None:
        raise CannotRun(f"--guidance: {options.flow} holds no TarFlow")
    if tau in (None, 1) and (context is None or options.given is None):
        why = f"{options.flow} has no classes" if context is None else f"--given {context.names[0]}=0 gives one"
        raise CannotRun(f"--guidance needs a class, or an --attention-temperature other than 1, else both passes are the same; {why}")


def drawn_with_guidance(flow, z, contexts, options):
    """The image of each latent in z, given the context of each, if there are contexts."""
    blocks, units = blocks_and_units(flow)
    how = options.guidance, options.guided or "ab", options.attention_temperature or 1.0, options.annealed

    def drawn(z, *context):
        return units.forward(refuse_overflow(images_of(blocks.at(context=context[0]) if context else blocks, z, *how)))

    return in_parts(drawn, flow, z, *(() if contexts is None else (contexts,)), fewest=FEWEST_SAMPLES)


def refuse_large(path, name, labels):
    """CannotRun for a label from which more classes would follow than there are images."""
    i = int(np.argmax(labels))
    if labels[i] >= len(labels):
        raise CannotRun(f"{path}: {name}[{i}] = {labels[i]}: classes are 0, 1, ..., at most as many as the {len(labels)} images")
