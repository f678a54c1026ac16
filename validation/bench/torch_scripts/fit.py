"""Train a flow on two columns of numbers, or on images.

    python -m validation.bench.torch_scripts.fit MODEL TRAIN HELD_OUT --out FILE [--steps 300] [--batch-size 256]

It trains as `refflow fit` does: the same optimiser, a cosine to 0, an average of the parameters, whose loss on the held-out events, in
nats, it prints at the same steps.  Everything else is torch's default: float32 and its number of threads.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def table(path):
    return torch.tensor(np.loadtxt(path, delimiter=",", skiprows=1), dtype=torch.float32)


def vectors(name, train, held_out):
    """(model, training events, held-out events, the function that gives the negative log-likelihood)."""
    from . import vectors
    train, held_out = table(train), table(held_out)
    mean, L = train.mean(0), torch.linalg.cholesky(torch.cov(train.T, correction=0))
    constant = torch.log(torch.diag(L)).sum() + train.shape[1] / 2 * math.log(2 * math.pi)

    def nll(model, x):
        z, log_det = model(torch.linalg.solve_triangular(L, (x - mean).T, upper=False).T)
        return (z * z).sum(-1) / 2 - log_det + constant

    return getattr(vectors, name)(train.shape[1]), train, held_out, nll


def images(name, train, held_out, values):
    """The same, of integers from 0 to values - 1, with uniform noise that is new in each step."""
    from . import images
    train, held_out = (torch.tensor(np.load(path), dtype=torch.float32) for path in (train, held_out))
    shift, scale = (0.5, values) if name == "glow" else (1.0, values / 2)
    D = train[0].numel()
    constant = D * (math.log(scale) + math.log(2 * math.pi) / 2)

    def nll(model, y):
        z, log_det = model(y / scale - shift)
        return (z * z).sum(-1) / 2 - log_det + constant

    return getattr(images, name)(tuple(train.shape[1:])), train, held_out + torch.rand_like(held_out), nll


def optimiser_of(name, parameters, rate, per_epoch, size):
    if name == "glow":
        return torch.optim.Adamax(parameters, rate, (0.9, 1 - 1 / max(per_epoch, 20)))
    if name == "tarflow":
        return torch.optim.AdamW(parameters, rate, (0.9, 0.95), 1e-8 * size, weight_decay=1e-4)
    return torch.optim.Adam(parameters, rate)


def main():
    parser = argparse.ArgumentParser()
    for name in ("model", "train", "held_out"):
        parser.add_argument(name)
    parser.add_argument("--out", required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--average", type=float, default=0.99)
    parser.add_argument("--values", type=int, help="of images: how many values a pixel has")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    steps, batch = options.steps, options.batch_size
    files = options.train, options.held_out
    if options.values:
        model, train, held_out, nll = images(options.model, *files, options.values)
    else:
        model, train, held_out, nll = vectors(options.model, *files)

    def noisy(x):
        return x + torch.rand_like(x) if options.values else x

    per_epoch = math.ceil(len(train) / batch)
    every, warm_up = max(10, per_epoch), max(1, min(10 * per_epoch, steps // 10)) if options.values else 1
    optimiser = optimiser_of(options.model, model.parameters(), options.learning_rate, per_epoch, train[0].numel())
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda i: min(1.0, (i + 1) / warm_up) * (1 + math.cos(math.pi * i / steps)) / 2)
    with torch.no_grad():
        nll(model, noisy(train[:256]))                  # Glow chooses its normalisations
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(options.average))

    def show(step):
        with torch.no_grad():
            print(f"{step}/{steps}  validation {nll(averaged, held_out).mean().item():.6f}", flush=True)

    show(0)
    for step in range(1, steps + 1):
        k = (step - 1) % per_epoch
        if k == 0:
            order = torch.randperm(len(train))
        x = noisy(train[order[k * batch:(k + 1) * batch]])
        optimiser.zero_grad()
        nll(model, x).mean().backward()
        optimiser.step()
        schedule.step()
        averaged.update_parameters(model)
        if step % every == 0 or step == steps:
            show(step)
    torch.save(averaged.module.state_dict(), options.out)


if __name__ == "__main__":
    main()
