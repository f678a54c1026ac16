"""A stochastic duration predictor of a port with drawn parameters: its loss, gradients and samples.  It needs the port alone.

torch.randn gives the recorded noise, and detach lets gradients pass, so that those by the inputs can be compared too.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

CHANNELS, SPEAKER, LENGTHS, SPREAD = 3, 2, (7, 5, 1), 0.4
SCALES = {"sample": 1.0, "cool sample": 0.3}                # of the noise


def piper(speaker):
    from piper.train.vits.models import StochasticDurationPredictor

    port = StochasticDurationPredictor(CHANNELS, CHANNELS, 3, 0.0, 4, gin_channels=speaker)
    return port, lambda x, mask, d, g: port(x, mask, d, g), lambda x, mask, g, scale: port(x, mask, g=g, reverse=True,
                                                                                           noise_scale=scale)


def transformers(speaker):
    from transformers.models.vits.configuration_vits import VitsConfig
    from transformers.models.vits.modeling_vits import VitsStochasticDurationPredictor

    port = VitsStochasticDurationPredictor(VitsConfig(hidden_size=CHANNELS, speaker_embedding_size=speaker,
                                                      duration_predictor_dropout=0.0))
    return port, lambda x, mask, d, g: port(x, mask, g, d), lambda x, mask, g, scale: port(x, mask, g, reverse=True,
                                                                                           noise_scale=scale)


def drawn(port, rng):
    with torch.no_grad():
        for name, parameter in sorted(port.named_parameters()):
            gain = name.endswith(("gamma", "weight")) and "norm" in name
            parameter.copy_(gain + SPREAD * torch.from_numpy(rng.standard_normal(tuple(parameter.shape))))
    return port


def recorded(library, speaker):
    """{key: array}, with the configuration as "cfg"."""
    rng, (B, T) = np.random.default_rng(2021 + speaker), (len(LENGTHS), max(LENGTHS))
    port, loss_of, sampled = {"piper": piper, "transformers": transformers}[library](speaker)
    port = drawn(port.double().eval(), rng)
    held = {"x": rng.standard_normal((B, CHANNELS, T)), "mask": np.arange(T) < np.array(LENGTHS)[:, None],
            "d": rng.integers(1, 20, (B, T)), "noise": rng.standard_normal((B, 2, T)), "g": rng.standard_normal((B, SPEAKER))}
    held["d"][0, 0] = 1
    x, mask, d = (torch.from_numpy(held[key].astype(float)) for key in ("x", "mask", "d"))
    drawn_g = torch.from_numpy(held.pop("g"))[..., None]
    g = drawn_g if speaker else None
    torch.randn = lambda *shape, **given: torch.from_numpy(held["noise"])
    torch.detach = lambda given: given
    inputs = {"x": x.requires_grad_()} | ({"g": g.requires_grad_()} if speaker else {})
    loss = loss_of(x, mask[:, None], d[:, None], g)
    names, parameters = zip(*sorted(port.named_parameters()))
    bars = torch.autograd.grad(loss.sum(), (*inputs.values(), *parameters), allow_unused=True)
    found = {f"in/{key}": array for key, array in held.items()} | {"out/loss": array(loss)}
    found |= {"in/g": array(g)[..., 0]} if speaker else {}
    found |= {f"param/{name}": array(parameter) for name, parameter in zip(names, parameters)}
    found |= {f"gradin/{key}": array(bar).reshape(found[f"in/{key}"].shape) for key, bar in zip(inputs, bars)}
    found |= {f"grad/{name}": array(bar) for name, bar in zip(names, bars[len(inputs):]) if bar is not None}
    with torch.no_grad():
        found |= {f"out/{key}": array(sampled(x, mask[:, None], g, scale))[:, 0] for key, scale in SCALES.items()}
    distribution = {"piper": "piper-tts"}.get(library, library)
    config = {"port": library, "channels": CHANNELS, "speaker": speaker, "scales": SCALES,
              "exchanged first": library == "transformers",
              "versions": {name: version(name) for name in (distribution, "torch", "numpy")}}
    return found | {"cfg": np.array(json.dumps(config))}


def array(tensor):
    return tensor.detach().numpy()


for size in (0, SPEAKER):
    name = f"vits_{sys.argv[1]}{'_speaker' if size else ''}.npz"
    np.savez_compressed(Path(sys.argv[2]) / name, **recorded(sys.argv[1], size))
