r"""The four energies of Rezende and Mohamed (2015), figure 3: 2, 8 and 32 planar flows for each, measured and drawn.

    python -m validation.demos.energies --out DIRECTORY [--only u1] [--short] [--write]

Flows are trained by `refflow fit --energy`; a run that stops is resumed by the same command, and what is trained stays.  Each is
trained from several starts, and the one with the largest bound is taken: the bound has local maxima.  With the
integral `Z` of `exp(-U)`, the gap of the bound `-L <= log Z` is, over samples `x` of the flow `q`,
    KL(q, p) = E[log q(x) + U(x)] + log Z                                           (1)
in nats.  The plane is divided into the parts left and right of `z_1 = 0`, and these into the parts nearer to one band or to the other
where there are two.  A flow covers the part `A` by
    q(A)/p(A)                                                                       (2)
where q(A) is counted and p(A) is a sum over a grid.  The smallest one is 0 where the flow has missed a mode.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from refflow.energies import ENERGIES
from refflow.fast import tuned
from refflow.saving import load

from .showing import command, pictured, written

ROOT = Path(__file__).parents[2]
README, PICTURE = Path(__file__).with_name("README.md"), ROOT / "validation" / "energies.png"
BEGIN, END = "<!-- begin energies -->\n", "<!-- end energies -->\n"
LAYERS = (2, 8, 32)
STEPS, SHORT = {2: 2000, 8: 2000, 32: 4000}, 20             # many flows need more and smaller steps
SEEDS = (0, 1, 2)
RATES = {2: 0.02, 8: 0.02, 32: 0.01}
SAMPLES, SIDE, GRID = 20000, 5.0, 200
LARGEST, LEAST = 0.2, 0.5               # the gap of the most flows, and the smallest part (2), that a flow may have that has learned


# -- training ---------------------------------------------------------------------------------------------------------

def file_of(out, name, layers, seed):
    return out / f"{name}_{layers}_{seed}.npz"


def trained(out, name, layers, steps, seed):
    """Fit a flow, or go on with a fit that was interrupted; nothing is done where the file is there."""
    path = file_of(out, name, layers, seed)
    if path.exists():
        return
    resumed = ("--resume",) * path.with_suffix(".checkpoint.npz").exists()
    command("fit", "--energy", name, "--model", "planar", "--layers", layers, "--batch-size", 128, "--steps", steps, "--anneal",
                 steps // 2, "--learning-rate", RATES.get(layers, 0.02), "--seed", seed, "--out", path, *resumed)


# -- measures ---------------------------------------------------------------------------------------------------------

def part_of(U, z):
    """The number of the part of the plane that holds each event."""
    right = (z[..., 0] > 0).astype(int)
    return right if not hasattr(U, "letters") else right + 2 * (U.letters(z)[2] < 0)


def grid(side, count):
    """(count, count, 2): the middles of the cells of a square."""
    middles = (np.arange(count) + 0.5) / count * 2 * side - side
    return np.stack(np.meshgrid(middles, middles, indexing="ij"), -1)


def measured(flow, U):
    """{"gap": (1), "error": its standard error, "covered": the smallest (2)}."""
    (x, log_q), _ = tuned(flow).sample_and_log_prob_vjp(np.random.default_rng(0), SAMPLES)
    each = log_q - U.log_density(x) + U.log_integral                                # (1)
    z = grid(9.0, 900)
    p = np.bincount(part_of(U, z).ravel(), np.exp(U.log_density(z)).ravel())
    q = np.bincount(part_of(U, x), minlength=len(p))
    return {"gap": float(each.mean()), "error": float(each.std() / np.sqrt(SAMPLES)),
            "covered": float((q / q.sum() / (p / p.sum())).min())}                  # (2)


def best(out, name, layers):
    """The measures, and the flow, of the start with the smallest gap."""
    flows = [load(file_of(out, name, layers, seed)) for seed in SEEDS]
    return min((measured(flow, ENERGIES[name]) | {"flow": flow} for flow in flows), key=lambda one: one["gap"])


def table(found):
    """Markdown of {energy: {layers: measures}}."""
    head = ["energy", *(f"gap, {layers} flows" for layers in LAYERS), *(f"covered, {layers}" for layers in LAYERS)]
    lines = [head, ["---"] * len(head)]
    for name, row in found.items():
        gaps = [f"{row[layers]['gap']:.3f} ± {row[layers]['error']:.3f}" for layers in LAYERS]
        lines.append([name, *gaps, *(f"{row[layers]['covered']:.2f}" for layers in LAYERS)])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def read_table(text):
    """What `table` has written."""
    rows = [line.strip("| \n").split(" | ") for line in text.splitlines()[2:] if line.startswith("|")]
    found = {}
    for name, *cells in rows:
        gaps, covered = cells[:len(LAYERS)], cells[len(LAYERS):]
        found[name] = {layers: dict(zip(("gap", "error"), map(float, gap.split(" ± ")))) | {"covered": float(part)}
                       for layers, gap, part in zip(LAYERS, gaps, covered)}
    return found


def failures(found):
    """What says that flows have not learned, or that more flows are not better."""
    wrong = []
    for name, row in found.items():
        for few, many in zip(LAYERS, LAYERS[1:]):
            if not row[many]["gap"] < row[few]["gap"] - 3 * (row[many]["error"] + row[few]["error"]):
                wrong.append(f"{name}: the gap of {many} flows, {row[many]['gap']:.3f} nats, is not below that of {few}")
        most = row[LAYERS[-1]]
        if not -3 * most["error"] <= most["gap"] <= LARGEST:
            wrong.append(f"{name}: the gap of {LAYERS[-1]} flows is {most['gap']:.3f} nats, not from 0 to {LARGEST}")
        if not most["covered"] >= LEAST:
            wrong.append(f"{name}: of a part of the density, {LAYERS[-1]} flows cover {most['covered']:.2f}, not {LEAST} or more")
    return wrong


# -- the picture ------------------------------------------------------------------------------------------------------

def densities(U, flows):
    """[p, q of each flow] on a grid, its first axis z_1."""
    z = grid(SIDE, GRID)
    log_q = [tuned(flow).log_prob(z.reshape(-1, 2)).reshape(z.shape[:2]) for flow in flows]
    return [np.exp(log_density) for log_density in (U.log_density(z) - U.log_integral, *log_q)]


def drawn(out, found):
    """The true density and the flows' densities, a row for each energy."""
    from refflow import plot
    figure = plot.picture(8.4, 8.8)
    panels = figure.subplots(len(ENERGIES), 1 + len(LAYERS), sharex=True, sharey=True)
    for row, (name, U) in zip(panels, ENERGIES.items()):
        shown = densities(U, [found[name][layers]["flow"] for layers in LAYERS])
        titles = [f"{name}, true", *(f"{layers} flows: {found[name][layers]['gap']:.2f} nats" for layers in LAYERS)]
        for axes, density, title in zip(row, shown, titles):
            axes.imshow(density.T, origin="lower", cmap=plot.SHADES, vmin=0, vmax=shown[0].max(), extent=(-SIDE, SIDE) * 2)
            axes.set_title(title, fontsize=9, color=plot.INK)
            plot.quiet(axes)
    plot.save(figure, out / "energies.png")
    return out / "energies.png"


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m validation.demos.energies", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIRECTORY")
    parser.add_argument("--only", choices=ENERGIES, action="append", help="train only these")
    parser.add_argument("--short", action="store_true", help="few steps, which learn nothing: does it run?")
    parser.add_argument("--write", action="store_true", help="put the table and the picture where the README shows them")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.only or ENERGIES:
        for layers in LAYERS:
            for seed in SEEDS:
                trained(options.out, name, layers, SHORT if options.short else STEPS[layers], seed)
    if options.only:
        return 0
    found = {name: {layers: best(options.out, name, layers) for layers in LAYERS} for name in ENERGIES}
    picture, text = drawn(options.out, found), table(found)
    print(f"{text}{picture}")
    if options.write:
        written(README, BEGIN, END, text)
        pictured(PICTURE, picture, 1100, 200)
    wrong = [] if options.short else failures(found)
    print("\n".join(f"FAIL  {line}" for line in wrong), end="")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
