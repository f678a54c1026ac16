r"""Digits given their class: a TarFlow's bits per dimension, and its samples with and without guidance, measured and drawn.

    python -m validation.demos.classes --out DIRECTORY [--short] [--write]

Two TarFlows learn scikit-learn's digits by `refflow fit`, one given the class of each image and one not.  A tenth of the images chooses
the best step.  Another tenth chooses nothing; its bits per dimension are shown.  A run that stops is resumed by the same
command, and what is trained stays.  Samples `x_i` of the class `c_i` have the same latents at every weight of guidance.  Judges know
nothing of the flow: they are the real images `v`,
    right = 1/n #{i: the nearest v to x_i is of the class c_i}                      (1)
with Euclidean distances.  For the real images themselves, each without itself, (1) says how good the judges are.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np

from .showing import command, pictured, written

ROOT = Path(__file__).parents[2]
README, PICTURE = Path(__file__).with_name("README.md"), ROOT / "validation" / "classes.png"
BEGIN, END = "<!-- begin classes -->\n", "<!-- end classes -->\n"
MODELS = {"given": ("--context", "class"), "free": ()}
STEPS, SHORT = 20000, 2                 # patience ends the training long before
WEIGHTS = (0, 0.5, 1, 2)
SAMPLES, SHOWN = 50, 2                  # of each class
LARGEST = 2.5                           # bits per dimension of the test images, given the class


# -- training and samples ---------------------------------------------------------------------------------------------

def trained(out, name, steps):
    """The report of a fit, which is made, or continued, where there is none."""
    path, report = out / f"{name}.npz", out / f"{name}.json"
    if not report.exists():
        resumed = ("--resume",) * path.with_suffix(".checkpoint.npz").exists()
        text = command("fit", out / "digits.npz", "--model", "tarflow", *MODELS[name], "--values", 17, "--test", 0.1,
                       "--learning-rate", 0.002, "--steps", steps, "--out", path, "--json", *resumed, captured=True)
        report.write_text(text, encoding="utf-8")
    return json.loads(report.read_text(encoding="utf-8"))


def sampled(out, classes, weight):
    """(classes, SAMPLES, H, W): samples of each class with the weight of guidance, 0 for none."""
    given, path = out / "classes.csv", out / f"samples_{weight:g}.npy"
    given.write_text("".join(f"{line}\n" for line in ("class", *range(classes))), encoding="utf-8")
    guidance = ("--guidance", weight) if weight else ()
    command("sample", out / "given.npz", "--given", given, "--n", SAMPLES, *guidance, "--out", path, "--force", shown=False, captured=True)
    return np.load(path)[:, 0].reshape(classes, SAMPLES, *np.load(path).shape[2:])


# -- measures ---------------------------------------------------------------------------------------------------------

def judged(images, real, labels, themselves=False):
    """The class of the nearest of the real images to each; of `themselves`, of the nearest other one."""
    x, v = (np.reshape(part, (len(part), -1)).astype(np.float64) for part in (images, real))
    squares = (x * x).sum(1)[:, None] + (v * v).sum(1) - 2 * x @ v.T                # integers: no rounding
    if themselves:
        np.fill_diagonal(squares, np.inf)
    return labels[squares.argmin(1)]


def right(samples, real, labels):
    """(1), of samples (classes, n, H, W)."""
    asked = np.repeat(np.arange(len(samples)), samples.shape[1])
    return float((judged(samples.reshape(-1, *samples.shape[2:]), real, labels) == asked).mean())


def measured(out, reports):
    """({"bits": of the test images, "right": {weight: (1)}, "judges": (1) of the real images}, {weight: samples})."""
    with np.load(out / "digits.npz") as file:
        real, labels = file["images"], file["class"]
    samples = {weight: sampled(out, int(labels.max()) + 1, weight) for weight in WEIGHTS}
    bits = {name: report["after"]["test"]["bits_per_dim"] for name, report in reports.items()}
    bits["gaussian"] = reports["free"]["gaussian"]["test"]["bits_per_dim"]
    return {"bits": bits, "right": {weight: right(samples[weight], real, labels) for weight in WEIGHTS},
            "judges": float((judged(real, real, labels, themselves=True) == labels).mean())}, samples


def table(found):
    bits, shares = found["bits"], found["right"]
    lines = [("", "bits/dim of images that chose nothing"), ("---", "---"), ("given the class", f"{bits['given']:.3f}"),
             ("without classes", f"{bits['free']:.3f}"), ("a Gaussian", f"{bits['gaussian']:.3f}"), None,
             ("samples", "of the class that was asked for"), ("---", "---"),
             *((f"guidance {weight:g}" if weight else "no guidance", f"{100 * shares[weight]:.1f} %") for weight in WEIGHTS),
             ("real images", f"{100 * found['judges']:.1f} %")]
    return "".join(f"| {' | '.join(cells)} |\n" if cells else "\n" for cells in lines)


def failures(found):
    """What says that the class does not help, or that guidance does not."""
    bits, shares, wrong = found["bits"], found["right"], []
    if not bits["given"] <= LARGEST:
        wrong.append(f"given the class, test images have {bits['given']:.3f} bits/dim, more than {LARGEST}")
    if not bits["given"] < bits["free"]:
        wrong.append(f"given the class, test images have {bits['given']:.3f} bits/dim, and without it {bits['free']:.3f}")
    error = math.sqrt(sum(shares[weight] * (1 - shares[weight]) for weight in (0, 1)) / (10 * SAMPLES))
    if not shares[1] > shares[0] + 3 * error:
        wrong.append(f"with guidance {shares[1]:.3f} of the samples are right, and without it {shares[0]:.3f}")
    return wrong


# -- the picture ------------------------------------------------------------------------------------------------------

def drawn(out, samples):
    """Real digits above samples, a column for each class, the same latents in each group."""
    from refflow import plot
    with np.load(out / "digits.npz") as file:
        real, labels = file["images"][:, 0], file["class"]
    groups = {"real digits": np.stack([real[labels == c][:SHOWN] for c in range(len(samples[0]))])}
    groups |= {f"guidance {weight:g}" if weight else "samples without guidance": found[:, :SHOWN] for weight, found in samples.items()}
    images = [np.swapaxes(group, 0, 1).reshape(-1, *group.shape[2:]) for group in groups.values()]
    plot.save(plot.images(images, list(groups), columns=len(samples[0]), limits=(0, 16)), out / "classes.png", True)
    return out / "classes.png"


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m validation.demos.classes", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIRECTORY")
    parser.add_argument("--short", action="store_true", help="few steps, which learn nothing: does it run?")
    parser.add_argument("--write", action="store_true", help="put the table and the picture where the README shows them")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if not (options.out / "digits.npz").exists():
        command("data", "digit_images", "--labels", "--out", options.out / "digits.npz", captured=True)
    reports = {name: trained(options.out, name, SHORT if options.short else STEPS) for name in MODELS}
    found, samples = measured(options.out, reports)
    picture, text = drawn(options.out, samples), table(found)
    print(f"{text}{picture}")
    if options.write:
        written(README, BEGIN, END, text)
        pictured(PICTURE, picture, 700, 32)
    wrong = [] if options.short else failures(found)
    print("".join(f"FAIL  {line}\n" for line in wrong), end="")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
