r"""RealNVP of images (Dinh, Sohl-Dickstein & Bengio, arXiv:1605.08803), as in the authors' code.

From an image of `(C, H, W)` to latents.  Pixels `x = (v + u) / 256`, of values `v = 0, ..., 255` and `u` uniform on `[0, 1)`,
first become
    h = logit(0.05 + 0.9 x)                       `alpha_logit`                     (1)
and then go through `L` scales.  A coupling divides its event into `a`, which passes through, and `b`:
    h_b <- (h_b + t) exp(gain tanh(s) + shift),   (t, s) = net(h_a)                 (2)
    h_b <- h_b + t                                in additive couplings             (3)
    h_b <- (h_b - mu) / sqrt(v + eps)             the output's batch normalisation  (4)
where `mu` and `v` are taken over all positions of `b` with zeros in place of `a`, or of the channels of `b` unchanged.
The gain of (2) is one number, or with `channel_gains` one for each channel of `h_b`; it has a shift without batch
normalisation, or with `scale_shift`.  With `M` for the checkerboard, `M_ij` = [`i + j` even], scale `i = 1, ..., L` has the
stages
    couplings of a = M, 1 - M, M                                                    (5)
    squeeze, couplings of a = the first, the second, the first half of the channels, unsqueeze      for i < L       (6)
    squeeze with the diagonal pixels of each block first, then scale i + 1 of       for i < L       (7)
        all channels                              recursion_type 1
        the first half of them                    recursion_type 2, the paper's
        the first C of them                       recursion_type 3 and more
    a coupling of a = 1 - M                                                         for i = L       (8)
the channels that do not go on are latents.  With `additive`, the first two couplings of (5) and of (6) are (3), or with
"all" all couplings are.  With `flip`, (5) and (8) use `1 - M` instead of `M`; with `flip_channels`, (6) exchanges the second
half of the channels and the first.

Networks.  With `w` for `base_dim`, their width is `w 2^(i-1)`, twice that in (6); with recursion_type 4 and more, `w` and `2 w`;
or as given by `widths`.  Their input is
    max([r, -r, M], 0),   r = 2 n(h_a) in (5)                                       (9)
    max([r, -r], 0),      r = n(h_a)   in (6)                                       (10)
with zeros in place of `b` in (5), where `n` is a batch normalisation with a bias; without batch normalisation `r = h_a`, and
without `doubled` (9) has `r = n(h_a)`.  Then, where every `n` is followed by a ReLU, `k x k` is a convolution, and `K` =
`residual_blocks`,
    a_0 = 3x3,   a_k = a_(k-1) + (n, 3x3, n, 3x3)(a_(k-1))                          (11)
    1x1 (n (sum_k 1x1 a_k)),   with skip; else 1x1 (n (a_K))                        (12)
    3x3, n, 3x3                                   for K = 0                         (13)
where, with `bottleneck`, 3x3 in blocks and in (13) becomes 1x1, `n`, 3x3, `n`, 1x1.  Kernels are normalised, `v / |v|`, with
a gain if their output is not normalised next, except for `a_0`; with `kernel_gains` all have a gain.  At the start, with `c`
for the channels that go into a convolution of `k x k`,
    v ~ U(-q, q),   q = (2 / c)^(1/2),   the gains q (c k^2 / 12)^(1/2),   biases 0                 (14)
    gain of (2): 0 in (5) and (8), 1 in (6), or with `channel_gains` 1 in all;   shift 0            (15)
    moving statistics mu = 0, v = 1                                                 (16)
In (14), a gain is half of `q (c k^2 / 3)^(1/2)`, the root mean square length of such a `v`, as in the authors' code.

The loss adds a penalty to `-log p`, over the kernels' gains `g` and the gains of (2) that start at 0, or with
`channel_gains` all of them:
    5e-5 (sum g^2 + sum gain^2)                                                     (17)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from ..maps.conditioners import (BijectorLayer, ConcatenatedReLU, Conv2d, ReLU, Residual, Sequential, SkipSum, WeightNormConv2d,
                                 uniform)
from ..core import Bijector, Chain, Flow, Inverse
from ..core.tree import walk
from ..maps.densities import StandardNormal
from ..maps.coupling import AdditiveCoupling, Coupling, MaskedInput, affine_family, masks
from ..maps.elementwise import RescaledTanhExpScale, alpha_logit
from ..maps.normalization import BatchNorm
from ..maps.shape import FactorOut, Reshape, Squeeze


# Where other people's code differs from the authors': of two repositories, chrischute/real-nvp and fmu2/realNVP
PORTS = {
    "chrischute": {"eps": 1e-5, "order": ("scale", "shift"), "mask_channel": False, "output_norm": False, "norm_gain": True,
                   "unbiased": True, "flip": True, "flip_channels": True, "channel_gains": True, "kernel_gains": True},
    "fmu2": {"eps": 1e-5, "shift_first": False, "doubled": False, "output_norm": "all", "norm_gain": True, "unbiased": True,
             "scale_shift": True}}


def image_realnvp(rng: np.random.Generator, shape: Sequence[int], scales: int = 4, base_dim: int = 32, residual_blocks: int = 2,
                  *, batch_norm: bool = True, weight_norm: bool = True, skip: bool = True, bottleneck: bool = False,
                  additive: bool | str = False, recursion_type: int = 2, logit: Bijector | None = alpha_logit(),
                  eps: float = 1e-4, shift_first: bool = True, order: tuple[str, str] = ("shift", "scale"),
                  mask_channel: bool = True, doubled: bool = True, output_norm: bool | str = True, norm_gain: bool = False,
                  unbiased: bool = False, flip: bool = False, flip_channels: bool = False, channel_gains: bool = False,
                  kernel_gains: bool = False, scale_shift: bool = False, widths: Sequence[tuple[int, int]] | None = None,
                  dtype: DTypeLike = np.float64) -> Flow:
    """A RealNVP flow of images of shape (C, H, W), of pixels in [0, 1], or of real numbers if `logit` is None.

    `scales`: L; `residual_blocks`: K.  With `batch_norm`, `fit` normalises by the statistics of each batch and gives the
    flow moving statistics.  The other arguments default to the authors' settings; ports, whose settings are in `PORTS`,
    differ in the arguments from `eps` on, and in `additive`:

        additive        "all" if all couplings are additive
        shift_first     False for h_b exp(s) + t
        order           the order of a network's outputs, ("shift", "scale") or ("scale", "shift")
        mask_channel    False for (9) without M
        doubled         False for (9) without the factor 2
        output_norm     False for no (4), "all" for statistics of the channels of b unchanged, which normalise b
        norm_gain       gains of the networks' normalisations
        unbiased        moving variances follow unbiased estimates, as `BatchNorm` says
        flip            1 - M instead of M
        flip_channels   the second half of the channels instead of the first
        channel_gains   gains of (2) for each channel, which one port writes as normalised weights (`RescaledTanhExpScale`)
        kernel_gains    gains of all kernels
        scale_shift     a shift in (2) with batch normalisation too
        widths          a pair for each scale, the widths of networks in (5) and (8) and in (6), instead of `base_dim`'s

    The authors' training is

        fit(flow, x, **recipes.realnvp(), penalty=SquaredNorm(5e-5, penalised(flow)), rng=rng)

    Weights are drawn from the Generator `rng`.  ValueError for a shape that is not (C, H, W), counts below 1 (K below 0),
    a height or width that 2^(L-1) does not divide, and if the numbers of widths and scales differ.
    """
    shape = checked(shape, scales, base_dim, residual_blocks, recursion_type)
    checked_words(additive, output_norm, order)
    widths = widths_of(scales, base_dim, recursion_type) if widths is None else checked_widths(widths, scales)
    networks = Networks(rng, residual_blocks, batch_norm, weight_norm, skip, bottleneck, eps, norm_gain, kernel_gains,
                        unbiased, dtype)
    build = Couplings(networks, additive, shift_first, order, mask_channel, doubled, output_norm, flip, flip_channels,
                      channel_gains, scale_shift)
    stages = [] if logit is None else [logit]                                       # (1)
    stages += scale_stages(build, shape, scales, widths, recursion_type)
    return Flow(Inverse(Chain(stages)), StandardNormal(math.prod(shape)))


def checked(shape, scales, base_dim, residual_blocks, recursion_type):
    name = "image_realnvp"
    if len(shape) != 3 or not all(isinstance(n, (int, np.integer)) and n >= 1 for n in shape):
        raise ValueError(f"{name}: shape must be (C, H, W), three ints >= 1, not {shape!r}")
    counts = {"scales": (scales, 1), "base_dim": (base_dim, 1), "residual_blocks": (residual_blocks, 0),
              "recursion_type": (recursion_type, 1)}
    for key, (given, least) in counts.items():
        if isinstance(given, bool) or not isinstance(given, (int, np.integer)) or given < least:
            raise ValueError(f"{name}: {key} must be an int >= {least}, not {given!r}")
    factor = 2 ** (scales - 1)
    if shape[1] % factor or shape[2] % factor:
        raise ValueError(f"{name}: with scales = {scales} height and width must be multiples of {factor}, not {shape[1]} "
                         f"and {shape[2]}")
    return tuple(int(n) for n in shape)


def checked_words(additive, output_norm, order):
    for key, given in (("additive", additive), ("output_norm", output_norm)):
        if given not in (True, False, "all"):
            raise ValueError(f"image_realnvp: {key} must be True, False or 'all', not {given!r}")
    if sorted(order) != ["scale", "shift"]:
        raise ValueError(f"image_realnvp: order must be ('shift', 'scale') or ('scale', 'shift'), not {order!r}")


def widths_of(scales, base_dim, recursion_type):
    """The widths of networks in (5) and (8) and in (6), a pair for each scale."""
    return [(base_dim * w, 2 * base_dim * w) for w in (1 if recursion_type >= 4 else 2**i for i in range(scales))]


def checked_widths(widths, scales):
    widths = [tuple(pair) for pair in widths]
    if len(widths) != scales or not all(len(pair) == 2 and all(w >= 1 for w in pair) for pair in widths):
        raise ValueError(f"image_realnvp: widths must be {scales} pairs of ints >= 1, one for each scale, not {widths!r}")
    return [(int(of_pixels), int(of_channels)) for of_pixels, of_channels in widths]


def scale_stages(build, shape, scales, widths, recursion_type, i=0):
    """The stages of scale i + 1, and of all that follow it."""
    (C, H, W), (width, channels_width) = shape, widths[i]
    stages = []
    for flip, free in ((False, True), (True, True), (False, False)):
        stages += build.checkerboard(shape, width, flip, free)                      # (5)
    if i == scales - 1:
        stages += build.checkerboard(shape, width, True, False)                     # (8)
        return [*stages, Reshape(shape, (math.prod(shape),))]
    stages.append(Squeeze())                                                        # (6)
    for flip, free in ((False, True), (True, True), (False, False)):
        stages += build.channelwise((4 * C, H // 2, W // 2), channels_width, flip, free)    # (6)
    stages += [Inverse(Squeeze()), Squeeze(order="diagonal")]                       # (6) (7)
    kept = {1: 4 * C, 2: 2 * C}.get(recursion_type, C)                              # (7)
    rest = scale_stages(build, (kept, H // 2, W // 2), scales, widths, recursion_type, i + 1)
    if recursion_type == 1:
        return stages + rest
    return [*stages, FactorOut(np.arange(4 * C) < kept, Chain(rest))]


@dataclass(frozen=True)
class Couplings:
    """Couplings with their output's normalisation."""

    networks: Networks
    additive: object = False
    shift_first: bool = True
    order: tuple = ("shift", "scale")
    mask_channel: bool = True
    doubled: bool = True
    output_norm: object = True
    flip: bool = False
    flip_channels: bool = False
    channel_gains: bool = False
    scale_shift: bool = False

    def is_additive(self, free):
        return self.additive == "all" or bool(self.additive and free)

    def checkerboard(self, shape, width, flip, free):
        """One of (5) or (8); `free` ones follow `additive`."""
        passes, C = masks.checkerboard(*shape, flip=flip ^ self.flip), shape[0]
        outputs = C if self.is_additive(free) else 2 * C
        channel = passes[0] if self.mask_channel else None
        first = ConcatenatedReLU(channel, 2.0 if self.doubled and self.networks.batch_norm else 1.0)    # (9)
        layers = [*self.networks.norm(C), first, *self.networks.layers(2 * C + self.mask_channel, width, outputs)]
        return self.coupling(passes, MaskedInput(passes, Sequential(layers)), 0.0, passes[:1], outputs == C)

    def channelwise(self, shape, width, flip, free):
        """One of (6)."""
        passes, n = masks.channels(masks.halves(shape[0], flip=flip ^ self.flip_channels), 3), shape[0] // 2
        outputs = n if self.is_additive(free) else 2 * n
        layers = [*self.networks.norm(n), ConcatenatedReLU(), *self.networks.layers(2 * n, width, outputs)]         # (10)
        return self.coupling(passes, Sequential(layers), 1.0, passes, outputs == n)

    def coupling(self, passes, net, gain, not_normalised, additive):
        nets = self.networks
        if additive:
            stages = [AdditiveCoupling(passes, net)]                                # (3)
        else:
            family = affine_family(self.scale(passes, gain), self.order, self.shift_first)
            stages = [Coupling(passes, net, family)]                                # (2)
        if nets.batch_norm and self.output_norm:
            mean = np.zeros(len(passes), nets.dtype)
            statistics = "all" if self.output_norm == "all" else "changed"
            stages.append(BatchNorm(mean, mean + 1, None, None, not_normalised, nets.eps, 3, statistics,    # (4) (16)
                                    nets.unbiased))
        return stages

    def scale(self, passes, gain):
        """The convention of (2), with this initial gain if it is one number."""
        dtype = self.networks.dtype
        shifted = self.scale_shift or not self.networks.batch_norm
        shift = np.zeros((), dtype) if shifted else None                                # (15)
        if self.channel_gains:
            channels = (~passes).any((1, 2)).sum()
            return RescaledTanhExpScale(None, shift, np.ones(channels, dtype))      # (15)
        return RescaledTanhExpScale(np.asarray(gain, dtype), shift)                 # (15)


@dataclass(frozen=True)
class Networks:
    """The authors' residual networks."""

    rng: np.random.Generator
    residual_blocks: int = 2
    batch_norm: bool = True
    weight_norm: bool = True
    skip: bool = True
    bottleneck: bool = False
    eps: float = 1e-4
    norm_gain: bool = False
    kernel_gains: bool = False
    unbiased: bool = False
    dtype: object = np.float64

    def layers(self, inputs, width, outputs):
        """From `inputs` to `outputs` channels."""
        if not self.residual_blocks:
            return self.inner(inputs, width, outputs)                               # (13)
        first = self.convolution(inputs, width, 3, gain=False)                      # (11)
        blocks = [Residual(Sequential([*self.activated(width), *self.inner(width, width, width)]))
                  for _ in range(self.residual_blocks)]                             # (11)
        if self.skip:
            blocks = [SkipSum(blocks, [self.convolution(width, width, 1) for _ in range(1 + len(blocks))])]         # (12)
        return [first, *blocks, *self.activated(width), self.convolution(width, outputs, 1)]        # (12)

    def inner(self, inputs, width, outputs):
        """The convolutions of a block."""
        sizes, layers = (1, 3, 1) if self.bottleneck else (3, 3), []
        for size in sizes[:-1]:
            layers += [self.convolution(inputs, width, size, gain=False, bias=not self.batch_norm), *self.activated(width)]
            inputs = width
        return [*layers, self.convolution(width, outputs, sizes[-1])]               # (11) (13)

    def activated(self, channels):
        return [*self.norm(channels), ReLU()]

    def norm(self, channels):
        if not self.batch_norm:
            return []
        zero = np.zeros(channels, self.dtype)
        gain = zero + 1 if self.norm_gain else None
        norm = BatchNorm(zero, zero + 1, gain, zero, None, self.eps, 3, unbiased=self.unbiased)     # (16)
        return [BijectorLayer(norm)]

    def convolution(self, inputs, outputs, size, gain=True, bias=True):
        q = math.sqrt(2 / inputs)                                                   # (14)
        v = uniform(self.rng, (outputs, inputs, size, size), q, self.dtype)         # (14)
        b = np.zeros(outputs, self.dtype) if bias else None                         # (14)
        if not self.weight_norm:
            return Conv2d(v, b)
        gains = np.full(outputs, q * math.sqrt(inputs * size**2 / 12), self.dtype)      # (14)
        return WeightNormConv2d(v, gains if gain or self.kernel_gains else None, b)


def penalised(flow):
    """Paths of the parameters whose squares (17) sums."""
    found = []
    for path, value in walk(flow):
        if isinstance(value, WeightNormConv2d) and value.g is not None:
            found.append((*path, "g"))                                              # (17)
        elif isinstance(value, Coupling) and value.family.channels is not None:
            found.append((*path, "family", "map", "scale", "gains"))                # (17)
        elif isinstance(value, Coupling) and isinstance(value.net, MaskedInput):
            found.append((*path, "family", "map", "scale", "gain"))                 # (17)
    return found


def full_resolution(z, shape, scales, recursion_type=2):
    """Latents z (*batch, D) of `image_realnvp` laid out as by the authors, as an image (*batch, C, H, W)."""
    z = np.asarray(z)
    batch, (C, H, W) = z.shape[:-1], shape
    if scales == 1:
        return z.reshape(*batch, C, H, W)
    kept = {1: 4 * C, 2: 2 * C}.get(recursion_type, C)
    size = (4 * C - kept) * (H // 2) * (W // 2)
    factored = z[..., :size].reshape(*batch, 4 * C - kept, H // 2, W // 2)
    rest = full_resolution(z[..., size:], (kept, H // 2, W // 2), scales - 1, recursion_type)
    return Squeeze(order="diagonal").inverse(np.concatenate([rest, factored], -3))
