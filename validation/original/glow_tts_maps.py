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

from .comparison import difference, largest, numbers, under, worst

HALF_LOG_2_PI = np.log(2 * np.pi) / 2


def mask_of(theirs):
    """(B, T) of booleans."""
    return theirs[:, 0].astype(bool)


def of_layer(f, as_theirs, theirs):
    """A masked bijector's value, log-det, loss and every gradient, and its inverse at their result."""
    (z, log_det), pullback = f.vjp(theirs["in/x"])
    count = f.mask.sum() * z.shape[1]
    x_bar, params_bar = pullback(z / count, np.full(log_det.shape, -1 / count))
    x, inverse_log_det = f.inverse_and_log_det(theirs["out/z"])
    return {"value": difference(z, theirs["out/z"]), "log-det": difference(log_det, theirs["out/logdet"]),
            "loss": difference(((z * z).sum() / 2 - log_det.sum()) / count + HALF_LOG_2_PI, theirs["out/loss"]),
            "gradient of data": difference(x_bar, theirs["gradin/x"]),
            "gradients": largest(as_theirs(params_bar["inner"]), under("grad/", theirs)),
            "inverse": difference(x, masked(theirs["in/x"], f.mask)),
            "inverse log-det": difference(-inverse_log_det, theirs["out/logdet"])}


def per_channel(params):
    """(C,) as their (1, C, 1)."""
    return {name: params[name][None, :, None] for name in ("logs", "bias")}


def of_actnorm(theirs):
    logs, bias, mask = theirs["param/logs"].ravel(), theirs["param/bias"].ravel(), mask_of(theirs["in/mask"])
    f = Pointwise(GlowTTSActNorm(logs, bias), 2, mask)
    first = Pointwise(GlowTTSActNorm(0 * logs), 2, mask).initialised(theirs["ddi/x"], np.random.default_rng(0))
    z, log_det = first.forward_and_log_det(theirs["ddi/x"])
    found = per_channel(first.inner.params()) | {"z": z, "logdet": log_det, "x": theirs["ddi/x"]}
    return of_layer(f, per_channel, theirs) | {
        "reverse": difference(f.inverse(theirs["out/z"]), theirs["out/reverse_of_z"]),
        "initialisation": largest(found, under("ddi/", theirs))}


def of_grouped(theirs):
    linear, mask = GroupedLinear(theirs["param/weight"]), mask_of(theirs["in/mask"])
    f, x = Pointwise(linear, 2, mask), theirs["in/x"]
    everywhere, log_det = f.at(mask=None).forward_and_log_det(x)
    S, C = len(linear.W), x.shape[1]
    return of_layer(f, lambda bar: {"weight": bar["W"]}, theirs) | {
        "reverse": difference(f.inverse(theirs["out/z"]), theirs["out/reverse_f64inv"]),
        "without a mask": worst((difference(everywhere, theirs["out/z_nomask"]),
                                 difference(log_det, theirs["out/logdet_nomask"]))),
        "order": difference(linear.groups(np.arange(C)).T, theirs["out/grouping"].reshape(S, C // S))}


def of_squeeze(theirs):
    found = {}
    for case in sorted({key.split("/")[0] for key in theirs if key.split("/")[0].isdigit()}):
        given = under(f"{case}/", theirs)
        n, mask = int(given["n_sqz"]), mask_of(given["mask"])
        T = mask.shape[-1] // n * n
        x, mask, squeeze = given["x"][..., :T], mask[:, :T], SqueezeTime(n)
        f = Squeezed(Pointwise(DenseLinear(np.eye(n * x.shape[1]), None), 2), n).at(mask=mask)
        found |= {f"{case}: squeezed": difference(squeeze.forward(masked(x, f.mask)), given["squeezed"]),
                  f"{case}: without a mask": difference(squeeze.forward(x), given["squeezed_nomask"]),
                  f"{case}: mask": difference(f.inner.mask[:, None], given["squeezed_mask"]),
                  f"{case}: back": worst((difference(f.forward(x), given["unsqueezed"]),
                                          difference(squeeze.inverse(given["squeezed"]), given["unsqueezed"]))),
                  f"{case}: mask back": difference(f.mask[:, None], given["unsqueezed_mask"])}
    return found


READERS = {"glowtts_actnorm": of_actnorm, "glowtts_invconvnear_a": of_grouped, "glowtts_squeeze": of_squeeze}


def differences_of(name) -> dict:
    """{quantity: the largest relative difference} of a file in validation/practice/."""
    _, theirs = numbers(name)
    return READERS[name](theirs)
