r"""Networks that see the whole event with zeros in place of the part `b`, like RealNVP's masked convolutions.

The map.  A mask splits the event's entries into two parts, `a` where the mask holds and `b` where it does not.  `S` is the
matrix that puts the entries of `a` in their places, with zeros elsewhere.  The network gives `P` images of the event's shape,
one after the other along their first axis; `B_p` is the matrix that takes the entries of `b` out of image `p`:
    h = (B_1, ..., B_P) net(S a)                                                    (1)
    dh/da = B J S,   J = dnet at S a                                                (2)

The reverse rule.  From (2), with the pullback `net*` at `S a`,
    a_bar = S* net*(B* h_bar)                                                       (3)
where `B*` puts the entries of `h_bar` in their places, with zeros elsewhere, and `S*` takes the entries of `a`.

Source: Dinh, Sohl-Dickstein & Bengio, arXiv:1605.08803, section 3.4.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Array, Conditioner, case, child, conditioner, constant
from ..conditioners import Conv2d, Dense
from ..conditioners.examples import split
from ..conditioners.network import network
from .coupling import flat_list, like
from .masks import Split


@conditioner(source="arXiv:1605.08803")
class MaskedInput(Conditioner):
    """h = the entries of b in net(the event with only a), from a (|a|,) to (P |b|,).

    `passes`: the coupling's mask, of the event's shape; `net`: from events to P events, joined along their first axis.  For
    events (C, 1, 1), which a coupling splits by channels, the parts are (n, 1, 1).  ValueError if they do not fit.
    """

    passes: Array = constant()
    net: Conditioner = child()

    parameter_batch = property(lambda self: self.net.parameter_batch)
    normwise = property(lambda self: self.net.normwise)
    smooth = property(lambda self: self.net.smooth)
    event_ndim = property(lambda self: (len(self.fixed_shape),) * 2)
    fixed_shape = property(lambda self: Split(self.passes).part_shapes(self.passes.shape)[0])

    def _validate(self):
        if self.net.event_ndim != (self.passes.ndim, self.passes.ndim):
            raise ValueError(f"MaskedInput: net must map events of {self.passes.ndim} axes to such events, not events of "
                             f"{self.net.event_ndim}")
        super()._validate()
        self._set("a", np.flatnonzero(self.passes))
        self._set("b", np.flatnonzero(~self.passes))
        self._set("tail", self.fixed_shape[1:])
        self.output_shape(self.fixed_shape)

    def output_shape(self, shape):
        if shape != self.fixed_shape:
            raise ValueError(f"its split has {self.fixed_shape[0]} entries of a")
        out = tuple(self.net.output_shape(self.passes.shape))
        if out[0] % self.passes.shape[0] or out[1:] != self.passes.shape[1:]:
            raise ValueError(f"its net maps events of shape {self.passes.shape} to {out}, not to a multiple of that shape")
        return (out[0] // self.passes.shape[0] * len(self.b), *self.tail)

    @staticmethod
    def definition(m, a, passes, net):
        through, given = flat_list(passes), iter(flat_list(a))
        event = like(passes, iter([next(given) if stays else m.mpf(0) for stays in through]))
        h = flat_list(net.definition(m, event))
        taken = [v for i, v in enumerate(h) if not through[i % len(through)]]       # (1)
        return [wrapped(v, passes[0]) for v in taken] if len(passes) == len(through) else taken

    def placed(self, a):
        """S a."""
        batch = self.batch(a)
        event = np.zeros((*batch, self.passes.size), a.dtype)
        event[..., self.a] = a.reshape(*batch, len(self.a))                         # (1)
        return event.reshape(*batch, *self.passes.shape)

    def batch(self, a):
        return a.shape[:a.ndim - 1 - len(self.tail)]

    def taken(self, h):
        """B h."""
        batch = h.shape[:h.ndim - self.passes.ndim]
        P = math.prod(h.shape[len(batch):]) // self.passes.size
        return h.reshape(*batch, P, self.passes.size)[..., self.b].reshape(*batch, P * len(self.b), *self.tail)     # (1)

    def forward(self, a):
        return self.taken(self.net.forward(self.placed(a)))                         # (1)

    def jacobian(self, a):
        J = self.net.jacobian(self.placed(a))
        P = J.shape[-2] // self.passes.size
        rows = (np.arange(P)[:, None] * self.passes.size + self.b).ravel()
        return J[..., rows[:, None], self.a]                                        # (2)

    def vjp(self, a):
        h, net_pullback = self.net.vjp(self.placed(a))                              # (1)

        def pullback(h_bar):
            batch = self.batch(a)
            P = math.prod(h.shape[len(batch):]) // self.passes.size
            whole = np.zeros((*batch, P, self.passes.size), h.dtype)
            whole[..., self.b] = h_bar.reshape(*batch, P, len(self.b))              # (3)
            event_bar, net_bar = net_pullback(whole.reshape(h.shape))
            return event_bar.reshape(*batch, self.passes.size)[..., self.a].reshape(a.shape), {"net": net_bar}      # (3)

        return self.taken(h), pullback

    def initialised(self, data, rng):
        """Its network, initialised on events with zeros in place of b."""
        return self.replace(net=self.net.initialised(self.placed(np.asarray(data)), rng))

    @classmethod
    def examples(cls, source):
        passes, a, b = split(source)
        return cls(passes, network(source, a + b, source.count(1, 2) * (a + b))), (a,)

    hard_cases = (
        case("Hidden", "the network multiplies the entry of b, which is 0", z=[[1.0]], passes=[True, False],
             net=Dense([[1.0, 5.0], [2.0, 7.0]], [0.5, -0.5])),
        case("Channels", "a split by channels keeps the other axes", z=[[[[1.0]], [[3.0]]]],
             passes=[[[True]], [[False]], [[True]]], net=Conv2d([[[[1.0]], [[5.0]], [[2.0]]]] * 3, [0.5, -0.5, 0.25])),
    )


def wrapped(v, depth):
    """A number in as many lists as `depth` has."""
    return [wrapped(v, depth[0])] if isinstance(depth, list) else v
