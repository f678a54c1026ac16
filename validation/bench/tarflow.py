"""TarFlow: the loss and its gradient in all parameters, and samples with a cache of keys and values, compared with torch eager.

Images of 3 x 16 x 16 in patches of 2 x 2, so 64 tokens of 12 features; transformers of width 128 with 2 heads and 2 layers in each
block; 16 images, float32.  The same maths and numbers in both.  torch has its own fused attention, LayerNorm and GELU, and for samples
it keeps keys and values in arrays that are allocated once.  Times are at 4 blocks, by the processor's clock.  The extra peak memory is
that of the gradient at 8 blocks; refflow recomputes the activations of each block.  The peak includes the gradient itself, which each
library returns.  "refflow page" is the gradient of the pages alone.
"""

from __future__ import annotations

import math
import statistics

from .memory import MEBIBYTE, extra_peak, in_new_process
from .rounds import timed

SHAPE, PATCH, WIDTH, HEAD, LAYERS, BLOCKS, DEEP, BATCH = (3, 16, 16), 2, 128, 64, 2, 4, 8, 16
REPETITIONS = {"loss and gradients": 10, "samples": 15}
WHAT = f"TarFlow, 64 tokens of 12, width {WIDTH}, blocks of {LAYERS} layers, batch {BATCH}, float32: CPU time, extra peak memory"


def flow_of(blocks, seed=1):
    """The flow with moved parameters: at its start it is the identity."""
    import numpy as np

    from refflow.models.tarflow import tarflow
    rng = np.random.default_rng(seed)
    flow = tarflow(rng, SHAPE, PATCH, WIDTH, blocks, LAYERS, head_size=HEAD, dtype=np.float32)
    vector = flow.ravel()
    return flow.unravel((vector + 0.01 * rng.standard_normal(vector.size)).astype(np.float32))


def images():
    import numpy as np
    return np.random.default_rng(0).uniform(-1, 1, (BATCH, *SHAPE)).astype(np.float32)


def latents():
    import numpy as np
    return np.random.default_rng(2).standard_normal((BATCH, math.prod(SHAPE))).astype(np.float32)


# -- each library: (a function that returns (loss, gradients in the order of `params()`), one from latents to images) ------

def refflow_work(blocks, memory="stored"):
    import numpy as np

    from refflow.fast import tuned
    from refflow.training import LikelihoodGradient
    flow, x, z = flow_of(blocks), images(), latents()
    gradient, b = LikelihoodGradient(memory), np.full(BATCH, -1 / x.size, np.float32)
    gradient.checked_events(flow, x)                    # prepares the flow
    sampler = tuned(flow).bijector

    def step():
        log_prob, params_bar = gradient(flow, x, b)
        return b @ log_prob, params_bar

    return step, lambda: sampler.forward(z)


def page_work(blocks):
    import numpy as np
    flow, x = flow_of(blocks), images()

    def step():
        log_prob, pullback = flow.log_prob_vjp(x)
        return -log_prob.mean() / x[0].size, pullback(np.full(BATCH, -1 / x.size, np.float32))[1]

    return step,


def torch_work(blocks):
    import torch

    from refflow.core.tree import flatten, nest
    torch.set_num_threads(1)
    flow, x, z = flow_of(blocks), torch.from_numpy(images()), torch.from_numpy(latents())
    leaves = {path: torch.tensor(array, requires_grad=True) for path, array in flatten(flow.params())}
    twin = Torch(torch, nest(leaves)["bijector"]["inner"]["stages"])

    def step():
        value = twin.loss(x)
        return value.item(), torch.autograd.grad(value, leaves.values())

    return step, lambda: twin.samples(z)


class Torch:
    """The flow in torch; tokens are rows (B, T, F)."""

    def __init__(self, torch, stages):
        self.torch, self.F = torch, torch.nn.functional
        nets = [stage["net"]["net"]["net"]["layers"] for stage in stages.values() if "net" in stage]
        self.blocks = [(k % 2 == 1, net) for k, net in enumerate(nets)]

    def dense(self, p, h):
        return self.F.linear(h, p["W"], p["b"])

    def norm(self, p, h):
        return self.F.layer_norm(h, h.shape[-1:], p["gain"], p["bias"], 1e-5)

    def transformed(self, net, h, attention):
        """The network of a block, `attention(layer, q, k, v)` on heads (B, H, T, d)."""
        for i in range(LAYERS):
            p, q = (net["2"]["layers"][str(2 * i + j)]["inner"] for j in range(2))
            p, q = p["layers"], q["layer"]["layers"]
            parts = self.dense(p["1"]["layer"], self.norm(p["0"]["layer"], h)).chunk(3, -1)
            parts = (part.unflatten(-1, (-1, HEAD)).transpose(1, 2) for part in parts)
            h = h + self.dense(p["3"]["layer"], attention(i, *parts).transpose(1, 2).flatten(2))
            h = h + self.dense(q["3"], self.F.gelu(self.dense(q["1"], self.norm(q["0"], h))))
        return self.dense(net["3"]["layer"], h)

    def loss(self, x):
        torch, size = self.torch, x[0].numel()
        B, C, H, W = x.shape
        h = x.reshape(B, C, H // PATCH, PATCH, W // PATCH, PATCH).permute(0, 2, 4, 1, 3, 5).reshape(B, -1, C * PATCH**2)
        log_det = 0
        for turned, net in self.blocks:
            h = h.flip(1) if turned else h
            inner = self.dense(net["0"]["layer"], h) + net["1"]["P"].T
            out = self.transformed(net, inner, lambda i, q, k, v: self.F.scaled_dot_product_attention(q, k, v, is_causal=True))
            log_scale, shift = self.F.pad(out[:, :-1], (0, 0, 1, 0)).chunk(2, -1)
            h, log_det = (h - shift) * torch.exp(-log_scale), log_det - log_scale.sum((1, 2))
            h = h.flip(1) if turned else h
        return ((h * h).sum((1, 2)) / 2 - log_det).mean() / size + math.log(2 * math.pi) / 2

    def samples(self, z):
        torch, (B, D) = self.torch, z.shape
        features = SHAPE[0] * PATCH**2
        T, side = D // features, SHAPE[1] // PATCH
        x = z.reshape(B, features, T).transpose(1, 2)
        with torch.inference_mode():
            for turned, net in reversed(self.blocks):
                x = self.solved(net, x.flip(1) if turned else x)
                x = x.flip(1) if turned else x
        x = x.reshape(B, side, side, SHAPE[0], PATCH, PATCH)
        return x.permute(0, 3, 1, 4, 2, 5).reshape(B, *SHAPE)

    def solved(self, net, x):
        """The inverse of a block, one token after the other."""
        torch, (B, T, _), x = self.torch, x.shape, x.clone()
        keys, values = torch.empty(2, LAYERS, B, WIDTH // HEAD, T, HEAD)
        for t in range(T - 1):
            def attention(i, q, k, v, t=t):
                keys[i][:, :, t:t + 1], values[i][:, :, t:t + 1] = k, v
                return self.F.scaled_dot_product_attention(q, keys[i][:, :, :t + 1], values[i][:, :, :t + 1])

            inner = self.dense(net["0"]["layer"], x[:, t:t + 1]) + net["1"]["P"].T[t]
            log_scale, shift = self.transformed(net, inner, attention).chunk(2, -1)
            x[:, t + 1] = x[:, t + 1] * torch.exp(log_scale[:, 0]) + shift[:, 0]
        return x


WORK = {"refflow": refflow_work, "torch": torch_work, "refflow page": page_work}


def peak(library):
    """Of a gradient at DEEP blocks, after one of a flow of a single block."""
    saving = {"memory": "reversible"} if library == "refflow" else {}
    WORK[library](1, **saving)[0]()
    return extra_peak(WORK[library](DEEP, **saving)[0])[0]


def worker(library):
    def measure(threads):
        if threads != 1:
            raise SystemExit("tarflow is timed in one thread")
        works = zip(REPETITIONS.items(), WORK[library](BLOCKS))
        return {case: timed(work, count, 1) for (case, count), work in works} | {"peak": in_new_process(peak, library)}

    return measure


WORKERS = {library: worker(library) for library in WORK}


def rows(rounds):
    """For each library its times, its memory, and refflow's ratios to them, medians over the rounds."""
    median, made = statistics.median, []
    for library in rounds[0]:
        row = {"library": library}
        for case in REPETITIONS:
            timed_case = case in rounds[0][library]
            row[f"{case}, CPU ms"] = 1e3 * median(r[library][case]["cpu"] for r in rounds) if timed_case else None
            row[f"refflow's / its ({case})"] = (
                median(r["refflow"][case]["cpu"] / r[library][case]["cpu"] for r in rounds) if timed_case else None)
        row[f"MiB, {DEEP} blocks"] = median(r[library]["peak"] for r in rounds) / MEBIBYTE
        row["refflow's MiB / its"] = median(r["refflow"]["peak"] / r[library]["peak"] for r in rounds)
        made.append(row)
    return made
