"""The maps of Glow-TTS's decoder, compared with its authors' numbers: activation normalisation, InvConvNear, squeeze.

Their masks are (B, 1, T) of 0 and 1; their loss of a layer is its likelihood of standard normal latents, mle_loss(z, 0, 0,
logdet, mask).
"""

from __future__ import annotations

import numpy as np

from refflow.core.arrays import masked
from refflow.maps.linear import DenseLinear, GroupedLinear, Pointwise
from refflow.maps.normalization import GlowTTSActNorm
from refflow.maps.shape import Squeezed, SqueezeTime
from refflow.models.alignment import path_of

from .comparison import Pair, answered, checked_mask, gradients, judged, numbers, pair

HALF_LOG_2_PI = np.log(2 * np.pi) / 2


def mask_of(theirs):
    """(B, T) of booleans."""
    return checked_mask(theirs[:, 0])


def of_layer(f, as_theirs, theirs):
    """A masked bijector's value, log-det, loss and every gradient, and its inverse at their result."""
    (z, log_det), pullback = f.vjp(theirs["in/x"])
    count = f.mask.sum() * z.shape[1]
    x_bar, params_bar = pullback(z / count, np.full(log_det.shape, -1 / count))
    x, inverse_log_det = f.inverse_and_log_det(theirs["out/z"])
    if f.mask.sum(-1).tolist() != theirs["in/lengths"].tolist():
        raise ValueError("their mask has other lengths")
    return {"value": pair(z, theirs["out/z"]), "log-det": pair(log_det, theirs["out/logdet"]),
            "loss": pair(((z * z).sum() / 2 - log_det.sum()) / count + HALF_LOG_2_PI, theirs["out/loss"]),
            "gradient of data": pair(x_bar, theirs["gradin/x"]),
            "gradients": gradients(as_theirs(params_bar["inner"]), answered("grad/", theirs)),
            "inverse": pair(x, masked(theirs["in/x"], f.mask)),
            "inverse log-det": pair(-inverse_log_det, theirs["out/logdet"])}


def per_channel(params):
    """(C,) as their (1, C, 1)."""
    return {name: params[name][None, :, None] for name in ("logs", "bias")}


def of_actnorm(config, theirs):
    logs, bias, mask = theirs["param/logs"].ravel(), theirs["param/bias"].ravel(), mask_of(theirs["in/mask"])
    f = Pointwise(GlowTTSActNorm(logs, bias), 2, mask)
    found = of_layer(f, per_channel, theirs) | {"reverse": pair(f.inverse(theirs["out/z"]), theirs["out/reverse_of_z"])}
    if not theirs.has("ddi/x"):
        return found
    first = Pointwise(GlowTTSActNorm(0 * logs), 2, mask).initialised(theirs["ddi/x"], np.random.default_rng(0))
    z, log_det = first.forward_and_log_det(theirs["ddi/x"])
    given = per_channel(first.inner.params()) | {"z": z, "logdet": log_det, "x": theirs["ddi/x"]}
    return found | {"initialisation": Pair(given, answered("ddi/", theirs))}


def of_grouped(config, theirs):
    linear, mask = GroupedLinear(theirs["param/weight"]), mask_of(theirs["in/mask"])
    f, x = Pointwise(linear, 2, mask), theirs["in/x"]
    everywhere, log_det = f.at(mask=None).forward_and_log_det(x)
    S, C = len(linear.W), x.shape[1]
    one, channels = GroupedLinear(np.eye(S)), np.arange(float(C))
    return of_layer(f, lambda bar: {"weight": bar["W"]}, theirs) | {
        "reverse": pair(f.inverse(theirs["out/z"]), theirs["out/reverse_f64inv"]),
        **in_single_precision(f, linear.W, theirs),
        "without a mask": Pair({"value": everywhere, "log-det": log_det},
                               {"value": theirs["out/z_nomask"], "log-det": theirs["out/logdet_nomask"]}),
        "order": Pair({"groups": linear.groups(np.arange(C)).T, "identity": one.forward(channels)},
                      {"groups": theirs["out/grouping"].reshape(S, C // S), "identity": theirs["out/identity_probe"]})}


def in_single_precision(f, W, theirs):
    """Their code takes W^-1 in float32: it is off by at most n u kappa(W) |W^-1|, with u = 2^-24 and n rows."""
    if "out/reverse_f32inv" not in theirs:
        return {}
    z = theirs["out/z"]
    allowed = len(W) * 2.0**-24 * np.linalg.cond(W) / np.linalg.norm(W, -2) * np.linalg.norm(z, axis=1).max()
    return {"reverse in float32": Pair({"": f.inverse(z)}, {"": theirs["out/reverse_f32inv"]}, absolute=allowed,
                                       beside="W^-1 is float32 in the source")}


def of_squeeze(config, theirs):
    found = {}
    for case in sorted({key.split("/")[0] for key in theirs if key.split("/")[0].isdigit()}):
        given = theirs.below(f"{case}/")
        n, mask = int(given["n_sqz"]), mask_of(given["mask"])
        T = mask.shape[-1] // n * n
        x, mask, squeeze = given["x"][..., :T], mask[:, :T], SqueezeTime(n)
        f = Squeezed(Pointwise(DenseLinear(np.eye(n * x.shape[1]), None), 2), n).at(mask=mask)
        found |= {f"{case}: squeezed": pair(squeeze.forward(masked(x, f.mask)), given["squeezed"]),
                  f"{case}: without a mask": pair(squeeze.forward(x), given["squeezed_nomask"]),
                  f"{case}: mask": pair(f.inner.mask[:, None], given["squeezed_mask"]),
                  f"{case}: back": Pair({"ours": f.forward(x), "theirs": squeeze.inverse(given["squeezed"])},
                                        dict.fromkeys(("ours", "theirs"), given["unsqueezed"])),
                  f"{case}: mask back": pair(f.mask[:, None], given["unsqueezed_mask"])}
    return found | (of_path(theirs) if any(key.startswith("genpath/") for key in theirs) else {})


def of_path(theirs):
    """Their path from durations."""
    mask = checked_mask(theirs["genpath/mask"])
    path = path_of(theirs["genpath/duration"], mask.any(1).sum(-1))
    return {"path from durations": pair(np.pad(path, ((0, 0), (0, 0), (0, mask.shape[-1] - path.shape[-1]))) & mask,
                                        theirs["genpath/path"])}


READERS = {"modules.ActNorm": of_actnorm, "modules.InvConvNear": of_grouped, "commons.squeeze": of_squeeze}


def differences_of(name) -> dict:
    """{quantity: the largest relative difference} of a file."""
    config, theirs = numbers(name)
    read = next(read for kind, read in READERS.items() if config.get("cls", config.get("fn", "")).startswith(kind))
    return {quantity: value.measure for quantity, value in judged(read(config, theirs)).items()}
