r"""Real images: Glow or RealNVP compared with torch, with the same architecture, initial weights, batches and noise.

    python -m validation.images [--data digits|photographs] [--model glow|realnvp] [--steps N] [--seed 0] [--float32]
                                [--json]

Digits: scikit-learn's 1797 images of 8 x 8 pixels with values 0 .. 16.  Photographs: patches of 32 x 32 pixels with three
channels of 256 values, from scikit-learn's two photographs; a tenth of the images is held out.  In each step a batch of
integers k is
    y = k + u,   u uniform on (0, 1)                                                (1)
with new noise u, and bits/dim are -log2 p(y) / D.  refflow uses the gradients derived on its pages; torch's side is
written here only from the models' equations, with torch's autograd and torch.optim.Adam: from refflow it takes the initial
weights, as arrays, and the rule by which `fit` orders the events of an epoch and draws their noise.  RealNVP normalises by
the statistics of each batch, and held-out images by their moving averages.

Rounding differs between the two, in the order of sums, and training amplifies the difference: with the default steps it
ends below 2e-15 on the digits and at 5e-10 for Glow on the photographs.

The command prints the bits/dim of the held-out images, with the same noise: at the start, after training, for torch after
training, and for a Gaussian (`refflow.training.gaussians`); and the relative distance of the two loss curves.  The exit
status is 1 if they end further apart than ALLOWED, or if training does not lower the held-out bits.
"""

from __future__ import annotations

import argparse
import json
import math
import time

import numpy as np

from refflow.core import Chain, Flow
from refflow.core.arrays import in_parts
from refflow.core.tree import flatten
from refflow.data import load_images
from refflow.maps.dequantisation import dequantised
from refflow.maps.elementwise import Affine
from refflow.models import image_realnvp
from refflow.models.glow import glow
from refflow.training import Adam, fit
from refflow.training.gaussians import gaussian_of_images

ALLOWED = {np.float64: 1e-7, np.float32: 0.05}
SETTINGS = {("digits", "glow"): {"steps": 300, "batch": 64, "levels": 2, "depth": 4, "width": 32},
            ("digits", "realnvp"): {"steps": 150, "batch": 64, "levels": 2, "depth": 1, "width": 8},
            ("photographs", "glow"): {"steps": 150, "batch": 16, "levels": 3, "depth": 4, "width": 32},
            ("photographs", "realnvp"): {"steps": 200, "batch": 16, "levels": 3, "depth": 1, "width": 8}}
RATE = 1e-3
BORDER = 1.0                            # value of the channel that marks the border of an image
EPS, DECAY = 1e-4, 0.1                  # of RealNVP's batch normalisation


def images(name):
    """((N, C, H, W) integers, how many values a pixel can have)."""
    return (load_images("digit_images"), 17) if name == "digits" else (load_images("photographs"), 256)


def with_noise(bins, dtype):
    """The transform of `fit`: (1)."""
    return lambda k, rng: dequantised(k, rng, bins, None, 0.0, float(bins), dtype)             # (1)


def built(model, shape, bins, settings, start, rng, dtype):
    """A flow of y, initialised on `start`."""
    L, K, width = settings["levels"], settings["depth"], settings["width"]
    if model == "glow":
        flow, shift = glow(rng, shape, L, K, width, dtype=dtype), bins / 2
    else:
        flow, shift = image_realnvp(rng, shape, L, width, K, dtype=dtype), 0
    units = Affine(dtype(shift), dtype(bins))
    flow = flow.initialised(units.inverse(start), rng)
    return Flow(Chain([flow.bijector, units]), flow.base)


# -- torch ------------------------------------------------------------------------------------------------------------
#
# Weights are nested dictionaries of tensors, like the flow's `params()`; a model is a function from x to (latents, log-det).

def tensors(params, torch):
    """Nested dictionaries with torch's parameters in place of arrays, and the list of the trained ones."""
    trained = []

    def made(nested, key=""):
        if isinstance(nested, dict):
            return {k: made(inner, k) for k, inner in nested.items()}
        learned = key not in ("mean", "var")
        tensor = torch.tensor(np.array(nested), requires_grad=learned)
        trained.extend([tensor] if learned else [])
        return tensor

    return made(params), trained


def numbered(nested):
    """The values of a dictionary with the keys "0", "1", ..., except those without parameters."""
    return [nested[key] for key in sorted(nested, key=int) if any(flatten(nested[key]))]


def pairs(out):
    """(t, r) of channels t_1, r_1, t_2, r_2, ..."""
    return out[:, ::2], out[:, 1::2]


class Glow:
    """Levels of actnorm, 1x1 convolution and affine coupling, a learned prior at every split and at the top."""

    def __init__(self, torch, weights, settings):
        self.torch, self.weights, self.steps, self.levels = torch, weights, settings["depth"], settings["levels"]

    def convolution(self, a, layer):
        """With a channel that marks the border, except for kernels of one pixel."""
        F, W = self.torch.nn.functional, layer["W"]
        if W.shape[2] > 1:
            edge = F.pad(a.new_zeros(len(a), 1, *a.shape[2:]), (1, 1, 1, 1), value=BORDER)
            a = self.torch.cat([F.pad(a, (1, 1, 1, 1)), edge], 1)
        return F.conv2d(a, W, layer.get("b"))

    def affine(self, h, norm):
        """In a network's last layer the bias belongs to the convolution."""
        h = h + norm["bias"][:, None, None] if "bias" in norm else h
        return h * self.torch.exp(3 * norm["s"])[:, None, None]

    def network(self, a, layers):
        layers = numbered(layers)
        for i in range(0, len(layers), 2):
            a = self.affine(self.convolution(a, layers[i]), layers[i + 1]["f"])
            if i + 2 < len(layers):
                a = self.torch.relu(a)
        return a

    def prior(self, h, given, layers):
        m, q = pairs(self.network(given, layers)) if given.shape[1] else self.network(given, layers).chunk(2, 1)
        return (h - m) * self.torch.exp(-q), -q.sum((1, 2, 3))

    def __call__(self, h, training):
        torch, latents, log_det = self.torch, [], 0.0
        level = self.weights["stages"]
        for i in range(self.levels):
            h = torch.nn.functional.pixel_unshuffle(h, 2)
            held = {int(key): inner for key, inner in level.items()}
            for k in range(self.steps):
                norm, linear, coupling = (held[3 * k + j] for j in (1, 2, 3))
                h = self.affine(h, norm)
                h = torch.einsum("ij,njyx->niyx", linear["inner"]["W"], h)
                pixels = h.shape[2] * h.shape[3]
                log_det = log_det + pixels * (3 * norm["s"].sum() + torch.linalg.slogdet(linear["inner"]["W"])[1])
                a, b = h.chunk(2, 1)
                t, r = pairs(self.network(a, coupling["net"]["layers"]))
                h = torch.cat([a, (b + t) * torch.sigmoid(r + 2)], 1)
                log_det = log_det + torch.nn.functional.logsigmoid(r + 2).sum((1, 2, 3))
            after = 3 * self.steps + 1
            if i == self.levels - 1:
                top, log_scale = self.prior(h, h[:, :0], held[after]["inner"]["net"]["layers"])
                return torch.cat([*latents, top.flatten(1)], 1), log_det + log_scale
            h, b = h.chunk(2, 1)
            z, log_scale = self.prior(b, h, held[after]["inner"]["net"]["layers"])
            latents.append(z.flatten(1))
            log_det, level = log_det + log_scale, held[after + 1]["rest"]["stages"]


class RealNVP:
    """Checkerboard and channel couplings whose networks are residual, with batch normalisation everywhere."""

    def __init__(self, torch, weights, settings):
        self.torch, self.weights, self.levels = torch, weights, settings["levels"]
        self.statistics = []            # (weights of a normalisation, batch mean, batch variance) of the last training pass

    def normalised(self, h, norm, training, counts=None):
        """(the normalised image, the variance); `counts`: 1 where an entry is normalised."""
        mean, var = norm["mean"], norm["var"]
        if training:
            seen = h if counts is None else h * counts
            mean, var = seen.mean((0, 2, 3)), seen.var((0, 2, 3), correction=0)
            self.statistics.append((norm, mean.detach(), var.detach()))
        out = (h - mean[:, None, None]) / self.torch.sqrt(var + EPS)[:, None, None]
        if "bias" in norm:
            out = out + norm["bias"][:, None, None]
        return out if counts is None else self.torch.where(counts > 0, out, h), var

    def convolution(self, a, layer):
        v = layer["v"]
        W = v / self.torch.sqrt((v * v).sum((1, 2, 3), keepdim=True))
        if "g" in layer:
            W = W * layer["g"][:, None, None, None]
        return self.torch.nn.functional.conv2d(a, W, layer.get("b"), padding=(v.shape[2] - 1) // 2)

    def activated(self, a, norm, training):
        return self.torch.relu(self.normalised(a, norm["f"], training)[0])

    def network(self, a, layers, channel, training):
        norm, first, body, before, last = numbered(layers)
        a = self.normalised(a, norm["f"], training)[0]
        if channel is not None:
            a = 2 * a
        pieces = [a, -a] + ([] if channel is None else [channel.expand(len(a), 1, *a.shape[2:])])
        a = self.convolution(self.torch.relu(self.torch.cat(pieces, 1)), first)
        skips = numbered(body["skips"])
        total = self.convolution(a, skips[0])
        for block, skip in zip(numbered(body["blocks"]), skips[1:]):
            norm_in, first, norm_0, out = numbered(block["inner"]["layers"])
            inner = self.convolution(self.activated(a, norm_in, training), first)
            a = a + self.convolution(self.activated(inner, norm_0, training), out)
            total = total + self.convolution(a, skip)
        return self.convolution(self.activated(total, before, training), last)

    def coupling(self, h, held, norm, passes, training):
        """`passes` is 1 where an entry stays, (C or 1, H or 1, W or 1)."""
        torch, changed = self.torch, 1 - passes
        if passes.shape[0] == 1:        # a checkerboard
            out = self.network(h * passes, held["net"]["net"]["layers"], passes, training)
            t, s = out.chunk(2, 1)
        else:
            half = h.shape[1] // 2
            first = bool(passes[0, 0, 0])
            out = self.network(h[:, :half] if first else h[:, half:], held["net"]["layers"], None, training)
            t, s = (torch.cat([torch.zeros_like(part), part] if first else [part, torch.zeros_like(part)], 1)
                    for part in out.chunk(2, 1))
        log_scale = held["family"]["map"]["scale"]["gain"] * torch.tanh(s) * changed
        h = (h + t * changed) * torch.exp(log_scale)
        counts = changed.expand(*h.shape[1:])
        h, var = self.normalised(h, norm, training, counts)
        return h, log_scale.sum((1, 2, 3)) - (counts.sum((1, 2)) * torch.log(var + EPS)).sum() / 2

    def __call__(self, x, training):
        torch, self.statistics, latents = self.torch, [], []
        p = 0.05 + 0.9 * x
        h = torch.log(p) - torch.log1p(-p)
        log_det = (math.log(0.9) - torch.log(p) - torch.log1p(-p)).sum((1, 2, 3))
        level, F = numbered(self.weights["stages"]), torch.nn.functional
        for i in range(self.levels):
            C, H, W = h.shape[1:]
            board = (torch.arange(H)[:, None] + torch.arange(W) + 1).remainder(2)[None].to(h.dtype)
            checkers = [board, 1 - board, board] + [1 - board] * (i == self.levels - 1)
            for passes in checkers:
                h, more = self.coupling(h, level.pop(0), level.pop(0), passes, training)
                log_det = log_det + more
            if i == self.levels - 1:
                return torch.cat([*latents, h.flatten(1)], 1), log_det
            h = F.pixel_unshuffle(h, 2)
            first = (torch.arange(4 * C) < 2 * C).to(h.dtype)[:, None, None]
            for passes in (first, 1 - first, first):
                h, more = self.coupling(h, level.pop(0), level.pop(0), passes, training)
                log_det = log_det + more
            h = F.pixel_shuffle(h, 2)
            h = torch.cat([h[:, :, dy::2, dx::2] for dy, dx in ((0, 0), (1, 1), (0, 1), (1, 0))], 1)
            latents.append(h[:, 2 * C:].flatten(1))
            h, level = h[:, :2 * C], numbered(level[-1]["rest"]["stages"])

    def stepped(self):
        """The moving statistics follow the last training pass."""
        for norm, mean, var in self.statistics:
            norm["mean"] -= DECAY * (norm["mean"] - mean)
            norm["var"] -= DECAY * (norm["var"] - var)


TORCH = {"glow": Glow, "realnvp": RealNVP}


def torch_run(model, params, k, held_out, bins, settings, steps, rng, dtype):
    """(losses, bits/dim of the held-out y before, after)."""
    import torch
    weights, trained = tensors(params["bijector"]["stages"]["0"]["inner"], torch)
    network, D = TORCH[model](torch, weights, settings), k[0].size
    shift = 0.5 if model == "glow" else 0.0

    def log_prob(y, training):
        z, log_det = network(torch.tensor(y) / bins - shift, training)
        return -(z * z).sum(1) / 2 - D * math.log(2 * math.pi) / 2 + log_det - D * math.log(bins)

    def bits():
        with torch.no_grad():
            return -float(log_prob(held_out, False).mean()) / (D * math.log(2))

    optimiser, losses, before = torch.optim.Adam(trained, RATE), [], bits()
    for y in batches(k, bins, settings["batch"], steps, rng, dtype):
        loss = -log_prob(y, True).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if model == "realnvp":
            network.stepped()
        losses.append(loss.item())
    return np.array(losses), before, bits()


def batches(k, bins, size, steps, rng, dtype):
    """y of each step: a new order for each epoch, cut into pieces, each with its own noise."""
    per_epoch = math.ceil(len(k) / size)
    for step in range(steps):
        j = step % per_epoch
        if j == 0:
            order = rng.permutation(len(k))
        yield with_noise(bins, dtype)(k[order[j * size:(j + 1) * size]], rng)               # (1)


# -- both -------------------------------------------------------------------------------------------------------------

def run(data="digits", model="glow", steps=None, seed=0, dtype=np.float64, settings=None):
    """The printed results, as a dictionary."""
    settings = SETTINGS[data, model] | (settings or {})
    steps = settings["steps"] if steps is None else steps
    rng = np.random.default_rng(seed)
    v, bins = images(data)
    k = v[rng.permutation(len(v))].astype(dtype)
    held, k = k[:len(k) // 10], k[len(k) // 10:]
    held_out, start = (with_noise(bins, dtype)(part, rng) for part in (held, k[:256]))
    flow = built(model, k.shape[1:], bins, settings, start, rng, dtype)
    D = k[0].size

    def bits(density):
        return -float(in_parts(density, held_out).mean(dtype=np.float64)) / (D * math.log(2))

    import torch
    torch.set_num_threads(1)
    seconds = [time.perf_counter()]
    result = fit(flow, k, optimiser=Adam(RATE), steps=steps, batch_size=settings["batch"], validation=0,
                 transform=with_noise(bins, dtype), fixed="bijector.stages.1", rng=np.random.default_rng(seed))
    seconds.append(time.perf_counter())
    losses, torch_before, torch_after = torch_run(model, flow.params(), k, held_out, bins, settings, steps,
                                                  np.random.default_rng(seed), dtype)
    seconds.append(time.perf_counter())
    ours = result.history["loss"]
    gaussian, kind = gaussian_of_images(with_noise(bins, dtype)(k, rng), held_out)
    return {"data": data, "model": model, "steps": steps, "seed": seed, "dtype": np.dtype(dtype).name, "settings": settings,
            "parameters": sum(array.size for path, array in flatten(flow.params()["bijector"]["stages"]["0"])
                              if path[-1] not in ("mean", "var")),
            "images": [len(k), len(held)], "before": bits(flow.log_prob), "after": bits(result.flow.log_prob),
            "torch_before": torch_before, "torch_after": torch_after, "gaussian": bits(gaussian), "gaussian_is": kind,
            "refflow": (ours / (D * math.log(2))).tolist(), "torch": (losses / (D * math.log(2))).tolist(),
            "difference": np.maximum.accumulate(np.abs(ours - losses) / np.abs(losses)).tolist(),
            "allowed": ALLOWED[dtype], "seconds": {"refflow": seconds[1] - seconds[0], "torch": seconds[2] - seconds[1]}}


def text(found):
    shown = sorted({0, 1, 2, 4, 9, 19, 49, 99, 199, found["steps"] - 1} & set(range(found["steps"])))
    n, held = found["images"]
    what = f"{found['model']} of {found['parameters']} parameters on {n} {found['data']}, Adam {RATE:g}, {found['dtype']}"
    lines = [f"{what}: bits/dim of a batch\n", f"{'step':>5}  {'refflow':>18}  {'torch':>18}  difference so far"]
    lines += [f"{k + 1:>5}  {found['refflow'][k]:>18.13g}  {found['torch'][k]:>18.13g}  {found['difference'][k]:.1e}"
              for k in shown]
    lines += [f"\nbits/dim of {held} held-out images",
              f"  start       {found['before']:.4f}    (torch {found['torch_before']:.4f})",
              f"  refflow     {found['after']:.4f}", f"  torch       {found['torch_after']:.4f}",
              f"  a Gaussian  {found['gaussian']:.4f}    ({found['gaussian_is']})",
              f"seconds: refflow {found['seconds']['refflow']:.0f}, torch {found['seconds']['torch']:.0f}"]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(prog="python -m validation.images", description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=("digits", "photographs"), default="digits")
    parser.add_argument("--model", choices=("glow", "realnvp"), default="glow")
    parser.add_argument("--steps", type=int, help="gradient steps (of the model and the data)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--float32", action="store_true", help="instead of float64")
    parser.add_argument("--json", action="store_true", help="the curves as JSON")
    options = parser.parse_args()
    if options.steps is not None and options.steps < 1:
        parser.error("--steps must be >= 1")
    found = run(options.data, options.model, options.steps, options.seed, np.float32 if options.float32 else np.float64)
    print(json.dumps(found, indent=1) if options.json else text(found))
    raise SystemExit(not (found["difference"][-1] <= found["allowed"] and found["after"] < found["before"]))


if __name__ == "__main__":
    main()
