"""Pictures of flows, trained from scratch.

    python -m validation.pictures --out DIRECTORY [--only moons] [--only digits] [--only images]
    --only moons    of these, two_moons.png is the picture of README.md: five panels of the transport, few pixels and colours

Two half-moons: a RealNVP of 2 entries, its transport, its density over unseen data, its training curve.
Digits: scikit-learn's 1797 images of 8 x 8 pixels with values 0 .. 16 (the extra `data`).  With v a pixel and u uniform on
[0, 1), x = (v + u) / 17 and, a = 1/20,
    y = log(s / (1 - s)),   s = a + (1 - 2 a) x                                     (1)
a RealNVP given the class models y, standardised; each image is used with many draws of u.  Real images of each class stand
above samples, which stand above the same samples with their latents times 0.7; this is not the trained density but
the temperature at which Glow's authors show samples.  The log-likelihood is taken over held-out images, which also
choose the best step; interpolations are between two held-out images of one class.

Images, from the command line: Glow and RealNVP on the digits as images, Glow on 32 x 32 patches of scikit-learn's two
photographs.  Data stand above samples, at temperature 1 and at 0.7, and interpolations are between images of the data, from
the half with the largest contrast.  Training patches come from the left four fifths of the photographs; the patches that are
shown and held out come from the right fifth.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from refflow import plot
from refflow.cli import main as refflow
from refflow.core import Chain, Flow
from refflow.maps.densities import StandardNormal
from refflow.data import load_data, one_hot
from refflow.maps.dequantisation import dequantised
from refflow.maps.elementwise import AlphaSigmoid, RescaledTanhExpScale
from refflow.maps.linear import Permutation
from refflow.models import realnvp
from refflow.saving import read
from refflow.maps.normalization import ActNorm
from refflow.training import EMA, Adam, ClipNorm, Cosine, WarmUp, fit

LEVELS, SIZE, CLASSES = 17, 64, 10
MARGIN = 1 / 20                         # a of (1)
TEMPERATURE = 0.7


def written(figure, directory, name):
    plot.save(figure, directory / name)
    print(f"{directory / name}")


def made_small(path, width=1500, colours=128):
    """A picture for a page: fewer pixels and colours."""
    with Image.open(path) as picture:
        smaller = picture.convert("RGB").resize((width, round(width * picture.height / picture.width)), Image.LANCZOS)
    smaller.quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)


# -- two half-moons ---------------------------------------------------------------------------------------------------

def two_moons(rng, n, noise=0.12):
    """(n, 2): points of two half circles of radius 2, with normal noise."""
    angle, second = np.pi * rng.random(n), rng.random(n) < 0.5
    moon = 2 * np.stack([np.cos(angle), np.sin(angle)], -1) - [1.0, 0.5]
    return np.where(second[:, None], -moon, moon) + noise * rng.standard_normal((n, 2))


def moons(directory, steps=4000):
    rng = np.random.default_rng(0)
    gentle = RescaledTanhExpScale(np.float32(0.6), np.float32(0.0))         # by exp(-0.6) .. exp(0.6) in each coupling
    flow = realnvp(rng, 2, hidden=(48, 48), couplings=9, activation="silu", scale=gentle, dtype=np.float32)
    train, validation, unseen = (two_moons(rng, n).astype(np.float32) for n in (20_000, 4000, 4000))
    result = fit(flow, train, validation=validation, batch_size=512, steps=steps, optimiser=Adam(4e-3),
                 schedule=WarmUp(100, Cosine(steps)), clip=ClipNorm(5.0), averaging=EMA(0.99), every=50, rng=rng,
                 fixed="*.scale.*")     # so that every z_i stays near
    print(f"moons: {result.flow.log_prob(unseen).mean():.3f} nats, on unseen points")
    written(plot.transport(result.flow, rng), directory, "moons-transport.png")
    written(plot.density(result.flow, unseen), directory, "moons-density.png")
    written(plot.history(result), directory, "moons-history.png")
    written(plot.transport(result.flow, np.random.default_rng(1), panels=5), directory, "two_moons.png")
    made_small(directory / "two_moons.png")


# -- digits -----------------------------------------------------------------------------------------------------------

def digits_flow(rng, x_like, blocks=14, width=64):
    """A RealNVP given the class, entries in a new order after every second coupling; then units and the inverse of (1)."""
    dtype, stages = np.float32, []
    for _ in range(blocks):
        stages.append(realnvp(rng, SIZE, hidden=(width,), couplings=2, activation="silu", context=CLASSES,
                              dtype=dtype).bijector)
        stages.append(Permutation(rng.permutation(SIZE)))
    units = Chain([ActNorm(np.ones(SIZE, dtype)), AlphaSigmoid(MARGIN, 1 - MARGIN)])            # (1)
    return Flow(Chain([*stages, units.inverse_initialised(x_like, rng)]), StandardNormal(SIZE))


def with_noise(rng, values, copies):
    noisy = [(values + rng.random(values.shape)) / LEVELS for _ in range(copies)]
    return np.concatenate(noisy).astype(np.float32)


def digits(directory, steps=600, held_out=197, copies=60):
    rng = np.random.default_rng(0)
    data = load_data("digits")
    order = rng.permutation(len(data.values))
    values, labels = data.values[order], data.labels[order]
    context = one_hot(labels, CLASSES).astype(np.float32)
    train = with_noise(rng, values[held_out:], copies), np.tile(context[held_out:], (copies, 1))
    validation = with_noise(rng, values[:held_out], 5), np.tile(context[:held_out], (5, 1))
    flow = digits_flow(rng, train[0])
    result = fit(flow, train[0], context=train[1], validation=validation, batch_size=256, steps=steps,
                 optimiser=Adam(1e-3), schedule=WarmUp(100, Cosine(steps)), clip=ClipNorm(100.0), averaging=EMA(0.99),
                 every=25, rng=rng)
    lowest = result.history["validation_loss"].min() / (SIZE * math.log(2)) + math.log2(LEVELS)
    print(f"digits: {lowest:.3f} bits/dim given the class, on held-out images, after {result.step} steps")
    written(plot.history(result, dimensions=SIZE, levels=LEVELS), directory, "digits-history.png")

    flow = result.flow.at(context=one_hot(np.arange(CLASSES), CLASSES).astype(np.float32))
    z = flow.base.sample(rng, 3 * CLASSES).reshape(3, CLASSES, SIZE)
    groups = {"real digits": np.concatenate([values[labels == c][:2] for c in range(CLASSES)]) / (LEVELS - 1),
              "samples, a column for each class": flow.bijector.forward(z),
              f"the same, at temperature {TEMPERATURE}": flow.bijector.forward(z * np.float32(TEMPERATURE))}
    groups["real digits"] = groups["real digits"].reshape(CLASSES, 2, SIZE).swapaxes(0, 1)
    written(plot.images([x.reshape(-1, SIZE) for x in groups.values()], groups, shape=(8, 8), limits=(0, 1)), directory,
            "digits.png")
    interpolations(result.flow, values[:held_out], labels[:held_out], rng, directory)


def interpolations(flow, values, labels, rng, directory):
    """Rows between two held-out images of one class each."""
    rows = []
    for c in (0, 2, 3, 5, 8):
        a, b = with_noise(rng, values[labels == c][:2], 1)
        given = flow.at(context=one_hot(c, CLASSES).astype(np.float32))
        rows.append(plot.between(given, a[None], b[None], 10))
    x = np.concatenate(rows).reshape(-1, SIZE)
    written(plot.images([x], ["from one held-out digit to another, through latent space"], shape=(8, 8), limits=(0, 1)),
            directory, "digits-interpolation.png")


# -- images -----------------------------------------------------------------------------------------------------------

GLOW = ("--model", "glow", "--learning-rate", 0.005)
TRAINED = {"glow-digits": ("digits.npy", *GLOW, "--values", 17, "--batch-size", 64, "--steps", 1000),
           "realnvp-digits": ("digits.npy", "--model", "realnvp", "--values", 17, "--batch-size", 64, "--steps", 600),
           "glow-photographs": ("left.npy", *GLOW, "--held-out", "right.npy", "--batch-size", 16, "--steps", 1500)}


def command(*arguments):
    print("$ refflow", *arguments)
    if refflow([str(argument) for argument in arguments]):
        raise SystemExit(1)


def images(directory):
    with tempfile.TemporaryDirectory() as work:
        at = {name: f"{work}/{name}" for name in ("digits.npy", "left.npy", "right.npy", *(f"{n}.npz" for n in TRAINED))}
        command("data", "digit_images", "--out", at["digits.npy"])
        command("data", "photographs", "--part", "train", "--stride", 16, "--out", at["left.npy"])
        command("data", "photographs", "--part", "test", "--out", at["right.npy"])
        for name, arguments in TRAINED.items():
            command("fit", *(at.get(argument, argument) for argument in arguments), "--out", at[f"{name}.npz"])
            shown = at["right.npy" if "left.npy" in arguments else arguments[0]]
            image_pictures(at[f"{name}.npz"], shown, directory, name)


def image_pictures(path, data, directory, name, columns=10, pairs=5):
    """Data above samples of the flow in a file, and interpolations between images of the data."""
    flow, note = read(path)
    bins = note["images"]["bins"]
    rng = np.random.default_rng(1)
    v = np.load(data)
    v = v[rng.permutation(len(v))]
    groups = {"data": v[:2 * columns]}
    for temperature in (1.0, TEMPERATURE):
        y = flow.sample(np.random.default_rng(2), 2 * columns, temperature=temperature)
        groups["samples" + f", temperature {temperature:g}" * (temperature != 1)] = np.floor(y)
    limits = (0, bins - 1)
    written(plot.images(list(groups.values()), groups, columns=columns, limits=limits), directory, f"{name}.png")
    contrast = v.std((2, 3)).mean(1)
    chosen = v[contrast > np.median(contrast)][:2 * pairs]
    a, b = dequantised(chosen, rng, bins, None, 0.0, float(bins), np.float32).reshape(2, pairs, *v.shape[1:])
    written(plot.interpolation(flow, a, b, steps=columns, limits=limits), directory, f"{name}-interpolation.png")


PICTURES = {"moons": moons, "digits": digits, "images": images}


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m validation.pictures", description="Draw pictures of trained flows.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIRECTORY")
    parser.add_argument("--only", choices=PICTURES, action="append", help="only these")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.only or PICTURES:
        start = time.monotonic()
        PICTURES[name](options.out)
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
