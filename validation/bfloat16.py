r"""What bfloat16 costs a TarFlow: its log-det, its latents and its bits per dimension, against refflow in float64.

    python -m validation.bfloat16 [--trained FLOW] [--write]

A TarFlow in torch (`validation.bench.torch_scripts.torch_tarflow`) runs on the CPU with the weights of one of refflow's, float32
numbers, and with float32 images.  `SETTINGS` say what is computed in which dtype.  In a block, `z = (h - b) s`, where `s` is `exp(-a)`
as it was computed and rounded, so that two log-dets differ:
    reported = -sum a            as torch adds it                                   (1)
    own = sum log s              of the map that was computed, in float64           (2)
A density whose log-det is not (2) is not one of that map.  The table has, for each of the `D` entries of an image, in bits,
    off = mean |(1) - (2)|                                                          (3)
    wrong = mean |(1) - truth|          with refflow's log-det for the truth        (4)
    log p = mean |log p(x) - truth|,   |mean (log p(x) - truth)|                    (5)
over images, the latter being the error of the bits per dimension that are reported; `z` has the largest error of a latent.
`torch.autocast` computes dense layers and products in bfloat16, from float32 weights, and keeps normalisations in float32.  So do the
authors (arXiv:2412.06329), on a GPU: `scale = (-a.float()).exp().type(a.dtype)`, and the mean of `a` in the dtype of `a`.

With --write, the table and the rule go into validation/tables/bfloat16.md; --trained adds a flow of images that `refflow fit` has
written, such as the one of `validation.demos.classes`, on its first class.
"""

from __future__ import annotations

import argparse
import contextlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from refflow.cli.classes import blocks_and_units
from refflow.core import Chain, tree
from refflow.data import load_data, load_images
from refflow.maps.conditioners import Dense
from refflow.maps.dequantisation import dequantised
from refflow.models.tarflow import given_class, tarflow
from refflow.saving import load, write_atomically
from validation.bench.torch_scripts import torch_tarflow

TABLE = Path(__file__).parent / "tables" / "bfloat16.md"
BFLOAT16, FLOAT32 = torch.bfloat16, torch.float32
IMAGES = 16


@dataclass(frozen=True)
class Setting:
    """`net`: None for float32, "autocast", or "all" for weights, activations and tokens in bfloat16; `outputs`: is the last layer of
    a network computed in float32?  `scale`: the dtype in which exp(-a) is computed; `cast`: is it rounded to the dtype of a?
    `added`: the dtype of the sum over tokens and features.
    """

    text: str
    net: str | None = "autocast"
    outputs: bool = False
    scale: torch.dtype = FLOAT32
    cast: bool = True
    added: torch.dtype = BFLOAT16


SETTINGS = {
    "float32": Setting("everything in float32", None, True, added=FLOAT32),
    "last": Setting("autocast; last layer, scale and sum in float32", outputs=True, cast=False, added=FLOAT32),
    "sum": Setting("autocast; scale in float32, not cast back; sum in float32", cast=False, added=FLOAT32),
    "authors": Setting("autocast; scale in float32, cast back; sum in bfloat16 (the authors)"),
    "scale": Setting("autocast; scale in bfloat16; sum in bfloat16", scale=BFLOAT16),
    "cast": Setting("autocast; scale in float32, cast back; sum in float32", added=FLOAT32),
    "tokens": Setting("all in bfloat16, tokens too; scale in float32, cast back; sum in float32", "all", added=FLOAT32),
    "all": Setting("all in bfloat16, tokens, scale and sum too", "all", scale=BFLOAT16)}


def block_of(setting):
    """The kind of block that computes as the setting says; its `log_scales` hold the log s of (2)."""
    class Block(torch_tarflow.Block):
        def outputs(self, g):
            if not setting.outputs or setting.net is None:
                return super().outputs(g)
            with torch.autocast("cpu", enabled=False):
                return super().outputs(g.float())

        def scale(self, a):
            s = torch.exp(-a.to(setting.scale))
            s = s.to(a.dtype) if setting.cast else s
            self.log_scales = s.double().log().sum((1, 2))
            return s

        def log_det(self, a):
            return -a.sum((1, 2), dtype=setting.added).double()

    return Block


def computed(flow, tokens, setting):
    """(z, reported log-det, own log-det), float64 arrays, of tokens (B, T, F) of float32."""
    dtype, autocast = (BFLOAT16 if setting.net == "all" else FLOAT32), setting.net == "autocast"
    model = torch_tarflow.of_flow(flow, block_of(setting)).to(dtype)
    with torch.no_grad(), torch.autocast("cpu", BFLOAT16) if autocast else contextlib.nullcontext():
        z, log_det = model(torch.tensor(tokens).to(dtype))
    own = sum(block.log_scales for block in model.blocks)
    return z.double().numpy(), log_det.numpy(), own.numpy()


def measured(flow, x, settings=SETTINGS):
    """{setting: {"off", "wrong", "log p", "mean", "z"}} of a flow of images x, both float32."""
    f = flow.bijector.inner
    z, log_det = f.astype(np.float64).forward_and_log_det(x.astype(np.float64))
    tokens = Chain(f.stages[:2]).forward(x)
    T = len(torch_tarflow.autoregressive(flow)[0].levels)
    tokens, z, D = torch_tarflow.tokens_of(tokens, T), torch_tarflow.tokens_of(z, T), x[0].size
    found = {}
    for name in settings:
        z_there, reported, own = computed(flow, tokens, SETTINGS[name])
        log_p = reported - log_det + ((z * z).sum((1, 2)) - (z_there * z_there).sum((1, 2))) / 2
        errors = {"off": reported - own, "wrong": reported - log_det, "log p": log_p, "mean": log_p.mean()}     # (3) (4) (5)
        found[name] = {key: float(np.abs(error).mean() / (D * math.log(2))) for key, error in errors.items()}
        found[name]["z"] = float(np.abs(z_there - z).max())
    return found


# -- the flows --------------------------------------------------------------------------------------------------------

def drawn(shape, channels, blocks, layers, spread=(0.2, 0.02), mean=(-0.12, 0.0), seed=0):
    """A flow of images with float32 weights whose a and b are about N(mean, spread^2): like one that has learned, it expands images."""
    rng = np.random.default_rng(seed)
    flow = tarflow(rng, shape, 2, channels, blocks, layers, head_size=min(channels, 32), dtype=np.float32)

    def outputs(path, value):
        if not isinstance(value, Dense) or value.W.any():
            return {}
        std, b = (np.repeat(np.float32(pair), len(value.b) // 2) for pair in (spread, mean))
        return {"W": std[:, None] * rng.standard_normal(value.W.shape).astype(np.float32) / np.float32(math.sqrt(channels) / 2), "b": b}

    return tree.remade(flow, outputs)


def digits(count):
    return load_data("digits").values[:count].reshape(count, 1, 8, 8), 17


def photographs(count):
    return load_images("photographs")[::24][:count], 256


def of_kind(images, count=IMAGES):
    """Dequantised images in [-1, 1], float32."""
    v, bins = images(count)
    return dequantised(v, np.random.default_rng(1), bins, low=-1, high=1, dtype=np.float32)


FLOWS = {"drawn, 8 x 8 digits, D = 64": lambda: (drawn((1, 8, 8), 64, 4, 2), of_kind(digits)),
         "drawn, 32 x 32 photographs, D = 3072": lambda: (drawn((3, 32, 32), 128, 4, 2), of_kind(photographs))}


def trained(path):
    """(a flow that `refflow fit` has written, given the first class of several, and images)."""
    flow = blocks_and_units(load(path))[0]
    labels = load_data("digits").labels
    x = of_kind(digits, 200)[labels[:200] == 0][:IMAGES]
    return given_class(flow, np.zeros(1, int)) if flow.needs("context") else flow, x


# -- the table --------------------------------------------------------------------------------------------------------

KEYS = {"off": "log-det, against its own map", "wrong": "log-det, against float64", "log p": "log p(x)", "mean": "its mean", "z": "z"}
RULE = """\
Errors are in bits/dim, except in the column z, which has the largest error of a latent. A block's own map multiplies by the scales as
they were rounded. With a log-det that is not its own, a density does not integrate to 1. Weights and images are float32 numbers, and the
log-dets of blocks are added exactly. The truth is refflow's in float64, with the same weights.

The rule, in the order of the first column:

- **The sum over tokens and features: float32.** In bfloat16, a sum of several hundred nats is rounded to a multiple of 2 or 4. A mean,
  which the authors take, has the same relative error, up to 2^-9.
- **Scales: float32, and not cast back.** exp(-a) in float32 that is cast back is exp(-a) in bfloat16 to the last bit, because torch
  computes the latter in float32 and rounds it once. The two rows are equal. A rounded scale belongs to another map, whose log-det is
  not -sum a.
- With both, the log-det belongs to its map to the digits of float32, even where networks are computed in bfloat16. Such networks give
  other a and b, which the map and its log-det share. This map is not the one of the weights; the other columns say how far away it is.
- **The last layer of each network: float32.** It makes a and b, which are otherwise rounded to 2^-9 of themselves. Of the trained flow,
  the error of log p(x) becomes 2 to 3 times smaller; with drawn weights it falls by a tenth in D = 3072, and rises by half in D = 64.
- **Tokens between blocks: float32.** In bfloat16, images first of all lose the noise of their dequantisation, and the errors of z grow by
  15 to 50 %.
"""


def table(found):
    head = ["what is computed in which dtype", *KEYS.values()]
    lines = [head, ["---"] * len(head)]
    for name, row in found.items():
        lines.append([SETTINGS[name].text, *(f"{row[key]:.1e}" for key in KEYS)])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def text(flows):
    """The whole file, of {name: function that makes a flow and images}."""
    parts = ["# What bfloat16 costs a TarFlow\n\n`python -m validation.bfloat16 --trained FLOW --write` writes this file.\n\n", RULE]
    return "".join([*parts, *(f"\n## {name[0].upper()}{name[1:]}\n\n{table(measured(*make()))}" for name, make in flows.items())])


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m validation.bfloat16", description=__doc__.splitlines()[0])
    parser.add_argument("--trained", type=Path, metavar="FLOW", help="a TarFlow of digits that refflow fit has written")
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.name}")
    options = parser.parse_args(arguments)
    flows = FLOWS | ({"trained, 8 x 8 digits, D = 64": lambda: trained(options.trained)} if options.trained else {})
    made = text(flows)
    print(made, end="")
    if options.write:
        write_atomically(TABLE, made.encode())


if __name__ == "__main__":
    main()
