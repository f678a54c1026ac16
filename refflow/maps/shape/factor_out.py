r"""Factoring out: some channels are finished, the others go on (RealNVP: Dinh, Sohl-Dickstein & Bengio, arXiv:1605.08803,
section 3.6; Glow: Kingma & Dhariwal, arXiv:1807.03039, section 3).

The map.  Its direction is the papers', from data to latents.  The channels of an image `h` where `keep_c` holds go on, as `h_K`;
the others, `h_F`, become latents, unchanged:
    z = (h_F, r(h_K))          h_F flattened in C order, r = `rest`                 (1)
    h_F = the first entries of z in shape,   h_K = r^-1(the others)                 (2)
    log|det dz/dh| = log|det dr/dh_K|                                               (3)
    dz/dh = [ I  0 ; 0  dr/dh_K ]   on the columns of (h_F, h_K)                    (4)
`r` is a map to vectors: it ends in a Reshape, or in the next FactorOut, so that the latents of all scales are one vector, in
the order in which they were factored out.  `part_shapes` gives their shapes.

The reverse rule.  By (4), the cotangent of `h_F` is unchanged, and the cotangent of `h_K` comes from the pullback `r*`:
    h_F_bar = z_F_bar,   h_K_bar, r_bar = r* (z_K_bar, l_bar)                       (5)
and for the inverse map likewise, with the pullback of the inverse of `r`.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, Chain, Inverse, bijector, case, child, constant, real, refusal
from ...core.sets import product
from ...core.sets.rearranged import put_back, rearranged
from ..elementwise import Affine, Exp
from .reshape import Reshape


@bijector(source="arXiv:1605.08803", domain=real, codomain=real)
class FactorOut(Bijector):
    """Channels without `keep` become latents, `rest` maps the others to their latents: (*batch, C, H, W) to (*batch, C H W).

    `keep` (C,), True where a channel goes on; `rest` a bijector of events (kept, H, W) to vectors of as many entries.
    ValueError if nothing goes on, and for a `rest` that does not map images to vectors, or R^n onto R^n.
    """

    keep: Array = constant("C")
    rest: Bijector = child()
    event_ndim = (3, 1)
    event_shape = ("C", "H", "W")

    constant_log_det = property(lambda self: self.rest.constant_log_det)
    solver = property(lambda self: self.rest.solver)
    normwise = property(lambda self: self.rest.normwise)

    def __post_init__(self):
        if not isinstance(self.rest, Bijector) or self.rest.event_ndim != (3, 1):
            given = self.rest.event_ndim if isinstance(self.rest, Bijector) else type(self.rest).__name__
            raise ValueError(f"FactorOut: rest must be a bijector of event ranks (3, 1), not {given}")
        super().__post_init__()

    def _validate(self):
        if self.rest.domain is not real or self.rest.codomain is not real:
            raise ValueError(f"FactorOut: rest must map real events to real ones, not {self.rest.domain} to "
                             f"{self.rest.codomain}")
        if self.keep.ndim != 1 or not self.keep.any():
            raise ValueError(f"FactorOut: keep must be one mask (C,) that is somewhere True, not {self.keep.tolist()}")
        super()._validate()

    # -- shapes ------------------------------------------------------------------------------------------------------

    def image_of(self, where, side=0):
        """Channels that are members, or hold some: those that are factored out, beside the image of the others under `rest`."""
        if not where.thin:
            return super().image_of(where, side)
        if side == 1:
            return self._joined(where)
        kept = self.rest.image_of(where) if where.member_ndim < 3 else None
        if kept is None or self.keep.all():
            return kept
        factored = rearranged(where, self._how, 1, self._factored_shape, self._as_channels, self._as_vectors)
        return product((factored, kept), self._sizes)

    def _joined(self, where):
        """The set of all channels, if that of the latents is one that such channels go to."""
        if self.keep.all():
            return self.rest.image_of(where, 1)
        if len(where.parts) != 2 or where.member_ndim != 1:
            return None
        factored, kept = put_back(where.parts[0], self._how), self.rest.image_of(where.parts[1], 1)
        return kept if factored is not None and kept is not None and kept.same(factored) else None

    _how = property(lambda self: f"{int((~self.keep).sum())} channels of {len(self.keep)} as a vector")

    def _sizes(self, shape):
        factored = shape[-1] // len(self.keep) * int((~self.keep).sum())
        return factored, shape[-1] - factored

    def _factored_shape(self, shape):
        """(channels, H, W) of the first latents, a vector of this shape."""
        return self._factored(self.input_shape((shape[-1] // int((~self.keep).sum()) * len(self.keep),)))

    def _as_channels(self, vectors):
        return vectors.reshape(*vectors.shape[:-1], *self._factored_shape(vectors.shape[-1:]))

    def _as_vectors(self, channels):
        return channels.reshape(*channels.shape[:-3], int(np.prod(channels.shape[-3:])))

    def _kept(self, shape):
        return (int(self.keep.sum()), *shape[1:])

    def _factored(self, shape):
        return (int((~self.keep).sum()), *shape[1:])

    def output_shape(self, shape):
        if shape[0] != len(self.keep):
            raise ValueError(f"keep has C={len(self.keep)}")
        kept, inner = self._kept(shape), tuple(self.rest.output_shape(self._kept(shape)))
        if inner != (int(np.prod(kept)),):
            raise ValueError(f"its rest maps {kept} to {inner}, not to a vector of as many entries")
        return (int(np.prod(shape)),)

    def input_shape(self, shape):
        C, kept = len(self.keep), int(self.keep.sum())
        if shape[0] % C:
            raise ValueError(f"its entries must be a multiple of C={C}")
        return C, *self.rest.input_shape((shape[0] // C * kept,))[1:]

    def part_shapes(self, shape, side):
        if side == 0:
            return [tuple(shape)]
        C, kept = len(self.keep), int(self.keep.sum())
        rest = self.rest.part_shapes((shape[0] // C * kept,), 1)
        factored = self._factored(self.input_shape(shape))
        return [factored, *rest] if factored[0] else rest

    # -- the map -----------------------------------------------------------------------------------------------------

    @staticmethod
    def definition(m, z, keep, rest):
        factored = [v for c, image in enumerate(z) if not keep[c] for row in image for v in row]
        return factored + rest.definition(m, [image for c, image in enumerate(z) if keep[c]])       # (1)

    def _split(self, h):
        return h[..., ~self.keep, :, :], h[..., self.keep, :, :]

    def _join(self, factored, kept):
        h = np.empty((*kept.shape[:-3], len(self.keep), *kept.shape[-2:]), kept.dtype)
        h[..., ~self.keep, :, :] = factored.reshape(*kept.shape[:-3], *self._factored(h.shape[-3:]))
        h[..., self.keep, :, :] = kept
        return h

    def _split_latent(self, z):
        size = z.shape[-1] // len(self.keep) * int((~self.keep).sum())
        return z[..., :size], z[..., size:]

    def _join_latent(self, factored, latent):
        size = int(np.prod(factored.shape[-3:]))
        return np.concatenate([factored.reshape(*latent.shape[:-1], size), latent], -1)

    def forward(self, z):
        factored, kept = self._split(z)
        return self._join_latent(factored, self.rest.forward(kept))                 # (1)

    def log_det(self, z):
        return self.rest.log_det(self._split(z)[1])                                 # (3)

    def forward_and_log_det(self, z):
        factored, kept = self._split(z)
        latent, log_det = self.rest.forward_and_log_det(kept)
        return self._join_latent(factored, latent), log_det                         # (1) (3)

    def inverse(self, x):
        factored, latent = self._split_latent(x)
        return self._join(factored, self.rest.inverse(latent))                      # (2)

    def inverse_and_log_det(self, x):
        factored, latent = self._split_latent(x)
        kept, log_det = self.rest.inverse_and_log_det(latent)
        return self._join(factored, kept), log_det                                  # (2) (3)

    def jacobian(self, z):
        kept = self._split(z)[1]
        batch, size = z.shape[:-3], int(np.prod(z.shape[-3:]))
        columns = np.arange(size).reshape(z.shape[-3:])
        own, others = (part.ravel() for part in self._split(columns))
        J = np.zeros((*batch, size, size), z.dtype)
        J[..., np.arange(len(own)), own] = 1                                        # (4)
        J[..., np.arange(len(own), size)[:, None], others] = self.rest.jacobian(kept)       # (4)
        return J

    # -- the reverse rule --------------------------------------------------------------------------------------------

    def vjp(self, z):
        factored, kept = self._split(z)
        (latent, log_det), rest_pullback = self.rest.vjp(kept)

        def pullback(x_bar, log_det_bar):
            factored_bar, latent_bar = self._split_latent(x_bar)
            kept_bar, rest_bar = rest_pullback(latent_bar, log_det_bar)
            return self._join(factored_bar, kept_bar), {"rest": rest_bar}           # (5)

        return (self._join_latent(factored, latent), log_det), pullback

    def inverse_vjp(self, x):
        factored, latent = self._split_latent(x)
        (kept, log_det), rest_pullback = self.rest.inverse_vjp(latent)

        def pullback(z_bar, log_det_bar):
            factored_bar, kept_bar = self._split(z_bar)
            latent_bar, rest_bar = rest_pullback(kept_bar, log_det_bar)
            return self._join_latent(factored_bar, latent_bar), {"rest": rest_bar}  # (5)

        return (self._join(factored, kept), log_det), pullback

    # -- initialisation ----------------------------------------------------------------------------------------------

    def initialised(self, data, rng):
        return self.replace(rest=self.rest.initialised(self._split(np.asarray(data))[1], rng))

    def inverse_initialised(self, data, rng):
        return self.replace(rest=self.rest.inverse_initialised(self._split_latent(np.asarray(data))[1], rng))

    @classmethod
    def examples(cls, source):
        C, (H, W) = source.count(1, 3), source.choice(((1, 1), (1, 2), (2, 1)))
        kept = source.count(1, C)
        affine = Affine(shift=source.signed((), -4, 4), scale=source.signed((), -4, 4))
        rest = Chain((affine, Reshape((kept, H, W), (kept * H * W,))))
        if kept < C and source.chance(0.5):
            rest = cls(np.full(kept, True), rest)
        return cls(source.orders((C,)) < kept, rest), (C, H, W)

    hard_cases = (
        case("All", "nothing is factored out", z=[[[[1.0, 2.0]]]], x=[[1.0, 2.0]], keep=[True],
             rest=Reshape((1, 1, 2), (2,))),
        case("Second", "the first channel is a latent, the second goes on", z=[[[[1.0]], [[2.0]]]], x=[[1.0, 3.0]],
             keep=[False, True], rest=Chain((Affine(1.0, 2.0), Reshape((1, 1, 1), (1,))))),
    )
    refused = (
        refusal("rest must be a bijector of event ranks (3, 1), not (0, 0)", keep=[True], rest=Affine()),
        refusal("rest must be a bijector of event ranks (3, 1), not float", keep=[True], rest=1.0),
        refusal("rest must map real events to real ones", keep=[True], rest=Chain([Inverse(Exp()), Reshape((1, 1, 1), (1,))])),
        refusal("rest must map real events to real ones", keep=[True], rest=Chain([Reshape((1, 1, 1), (1,)), Exp()])),
        refusal("keep must be one mask (C,) that is somewhere True", keep=[False], rest=Reshape((1, 1, 1), (1,))),
        refusal("keep must be one mask (C,) that is somewhere True", keep=[[True]], rest=Reshape((1, 1, 1), (1,))),
        refusal("have C=1", [[[1.0]], [[2.0]]], keep=[True], rest=Reshape((1, 1, 1), (1,))),
    )
