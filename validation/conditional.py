"""A conditional flow on real data: the density of the measurements given the class, and the class by Bayes' rule.

    python -m validation.conditional [--data wine] [--seeds 5] [--json]

One RealNVP is trained with the class c as context (one entry for each class), and one without; both have the same size, rows
and settings.  A fifth of the rows is used only for the final score, and a fifth chooses the best step.  For the test rows
the command prints the mean of log p(x | c), of log p(x) without the class, the same for a Gaussian for each class, and how
often the class of the largest posterior is the true one:
    P(c | x) = p(x | c) P(c) / sum_k p(x | k) P(k)                                  (1)
where P(c) is the share of the training rows with class c.  For exact densities E log p(x | c) - E log p(x), the information
that the class holds about x, is at most the entropy of the classes, which is also printed.  The exit status is 1 if the class
does not help, or if Bayes' rule does not beat the most frequent class.

Likelihood and Bayes' rule need not agree: on breast_cancer the flow has the better likelihood of the two conditional
densities, and the Gaussian for each class is right more often.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from refflow.core import Chain, Flow
from refflow.maps.densities import FullNormal
from refflow.data import load_data, one_hot
from refflow.models import realnvp
from refflow.training import EMA, Adam, Cosine, fit
from refflow.training.gaussians import gaussian_start

STEPS, HIDDEN, COUPLINGS = 1500, (32,), 4


def parts(name, rng):
    """{"train", "validation", "test": (rows, labels)}, and the number of classes."""
    data = load_data(name)
    order, fifth = rng.permutation(len(data.values)), len(data.values) // 5
    index = {"train": order[2 * fifth:], "validation": order[fifth:2 * fifth], "test": order[:fifth]}
    return {key: (data.values[i], data.labels[i]) for key, i in index.items()}, len(data.classes)


def trained(rows, classes, rng, steps):
    """A flow in the data's units, conditional if `classes` > 0."""
    (x, labels), (held_out, held_labels) = rows["train"], rows["validation"]
    D = x.shape[1]
    units = gaussian_start(x, held_out)
    model = realnvp(rng, D, HIDDEN, COUPLINGS, "tanh", context=classes)
    flow = Flow(Chain([model.bijector, *units]), model.base)
    context = one_hot(labels, classes) if classes else None
    validation = (held_out, one_hot(held_labels, classes)) if classes else held_out
    return fit(flow, x, context=context, validation=validation, optimiser=Adam(2e-3), schedule=Cosine(max(steps, 1)),
               steps=steps, batch_size=64, averaging=EMA(0.99), patience=30, rng=rng,
               fixed=("bijector.stages.1", "bijector.stages.2")).flow


def class_log_probs(flow, x, classes):
    """(N, classes): log p(x | c)."""
    contexts = np.eye(classes)
    return np.stack([flow.at(context=np.broadcast_to(c, (len(x), classes))).log_prob(x) for c in contexts], -1)


def gaussians(x, labels, at, classes):
    """(N, classes): log N(at; mean, covariance) with the mean and covariance of each class's rows."""
    columns = []
    for c in range(classes):
        own = x[labels == c]
        columns.append(FullNormal(own.mean(0), np.linalg.cholesky(np.cov(own.T, bias=True))).log_prob(at))
    return np.stack(columns, -1)


def accuracy(log_probs, labels, prior):
    """How often the class of the largest posterior is the true one."""
    return float(np.mean((log_probs + np.log(prior)).argmax(-1) == labels))         # (1)


def run(name="wine", seed=0, steps=STEPS):
    rng = np.random.default_rng(seed)
    rows, classes = parts(name, rng)
    x, labels = rows["test"]
    prior = np.bincount(rows["train"][1], minlength=classes) / len(rows["train"][1])
    given, own = class_log_probs(trained(rows, classes, rng, steps), x, classes), np.arange(len(x))
    normal = gaussians(*rows["train"], x, classes)
    shares = prior[prior > 0]
    return {"seed": seed, "entropy": float(-(shares * np.log(shares)).sum()),
            "conditional": float(given[own, labels].mean()),
            "unconditional": float(trained(rows, 0, rng, steps).log_prob(x).mean()),
            "gaussian_per_class": float(normal[own, labels].mean()), "accuracy": accuracy(given, labels, prior),
            "gaussian_accuracy": accuracy(normal, labels, prior), "most_frequent": float(np.mean(labels == prior.argmax()))}


def main():
    parser = argparse.ArgumentParser(prog="python -m validation.conditional", description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=("wine", "breast_cancer"), default="wine")
    parser.add_argument("--seeds", type=int, default=5, help="how many divisions of the rows (5)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = [run(options.data, seed) for seed in range(options.seeds)]
    mean = {key: float(np.mean([one[key] for one in found])) for key in found[0] if key != "seed"}
    if options.json:
        print(json.dumps({"data": options.data, "runs": found, "mean": mean}, indent=1))
    else:
        print(f"{options.data}, rows to test, mean over {options.seeds} divisions of the rows\n")
        print(f"log p(x | class)       {mean['conditional']:8.2f} nats;  "
              f"a Gaussian per class {mean['gaussian_per_class']:.2f}")
        print(f"log p(x)               {mean['unconditional']:8.2f} nats;  difference "
              f"{mean['conditional'] - mean['unconditional']:.2f}, the entropy of the classes {mean['entropy']:.2f}")
        print(f"class by Bayes' rule   {mean['accuracy']:8.1%} right;  "
              f"a Gaussian per class {mean['gaussian_accuracy']:.1%}, the most frequent class {mean['most_frequent']:.1%}")
    raise SystemExit(not (mean["conditional"] > mean["unconditional"] and mean["accuracy"] > mean["most_frequent"]))


if __name__ == "__main__":
    main()
