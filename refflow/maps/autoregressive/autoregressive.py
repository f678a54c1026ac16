r"""Autoregressive map with any family of elementwise maps.

The map.  Let `h = net(z)`.  The `P` outputs `h_j` for entry `j` depend, in some order, only on entries before `j`.  With the
map `f_j` = f(.; `fields(h_j)`) of a family,
    x_j = f(z_j; fields(h_j))                                                       (1)
    z_j = f^-1(x_j; fields(h_j))                with h_j at the entries before j    (2)
    J = diag(f'_j) + dx/dh dh/dz                                                    (3)
    log|det J| = sum_j log|f'_j(z_j)|                                               (4)
`J` is triangular in that order.  (1) is one pass of the network.  (2) is one pass for each level of entries in turn,
    n_j = 1 + max_i n_i                         over the i that h_j depends on, or 1 if there are none      (5)
where `n_j` is the level of entry `j`.  (2) takes `D` passes if each entry depends on all before it, and two for a coupling.

The reverse rule.  From (1) and (4), by the pullbacks `f*` of the elementwise map, `fields*` of the family and `net*` of the
network,
    y_bar, fields_bar = f*(x_bar, l_bar),   h_bar = fields*(fields_bar)             (6)
    z_bar = y_bar + net*(h_bar)                                                     (7)
`dx/dh` in (3) is (6) for `l_bar = 0, x_bar = 1`, because each `x_j` depends only on its own `h_j`.

For the inverse map, each `z_j` of (2) also enters the `h_i` of entries after `j`.  With `g` for the whole cotangent of `z`,
    x_bar_j, fields_bar_j = (f^-1)*(g_j, l_bar),   h_bar_j = fields*(fields_bar_j)  (8)
    g = z_bar + net*(h_bar)                                                         (9)
The solution of (8) and (9) is `x_bar = J^-T (z_bar - l_bar grad log|det J|)`.  They are triangular, so substitution solves them
without a matrix.  In the last level `g = z_bar`; in each level, (9) is complete once (8) is known in all later levels.  The
network's parameters get their cotangents from `net*` at the whole `h_bar`.

Source: Kingma et al., arXiv:1606.04934, and Papamakarios, Pavlakou & Murray, arXiv:1705.07057, with affine `f`.  In the
second, the map is the inverse of this one, so that data to latents is one pass.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, Conditioner, bijector, case, child, plain, refusal
from ...core.rules import one_of
from ...core.products import boolean_product
from ..conditioners import Conv1d, MaskedDense, Sequential, UnitVector, masked_dense_network
from ..conditioners.examples import CIRCLE, SECOND_OF_TWO, activation, after, weights
from ..coupling.coupling import LAYOUTS, pieces_of
from ..coupling.examples import any_family
from ..coupling.family import Family, affine_family
from ..elementwise import ExpScale, RescaledTanhExpScale, SigmoidScale
from ..elementwise.examples import layout


@bijector(source="arXiv:1606.04934")
class Autoregressive(Bijector):
    """x_j = f(z_j) with the family's map f at the outputs h_j of net(z), which depend only on entries before j.

    `net`: from events (D,) to P outputs for each entry, in `layout` "halves" (P blocks) or "interleaved" (P neighbours), as
    `masked_dense_network` makes them; `family`: an elementwise class with a map from P unconstrained numbers to its fields.
    The order is any one that makes the net's dependence strictly triangular.  The event's domain is the family's.  ValueError
    if there is no such order, or if net, family and event do not fit.
    """

    net: Conditioner = child()
    family: Family = child()
    layout: str = plain("halves", one_of(*LAYOUTS))
    event_ndim = (1, 1)

    outputs = property(lambda self: self.family.size)
    domain = property(lambda self: self.family.domain)
    codomain = property(lambda self: self.family.codomain)
    affine_form = property(lambda self: self.family.affine_form(self.layout))       # tells tuned code what the page does

    def _validate(self):
        if self.net.event_ndim != (1, 1):
            raise ValueError(f"Autoregressive: net must map vectors to vectors, not events of {self.net.event_ndim} axes")
        if self.family.channels is not None:
            raise ValueError("Autoregressive: family must not have gains of channels; its entries have none")
        super()._validate()
        D = self.size()
        given = tuple(self.net.output_shape((D,)))
        if given != (self.outputs * D,):
            raise ValueError(f"Autoregressive: net must give {self.outputs} outputs for each of {D} entries, not {given}")
        self.dims["D"] = D
        self._set("levels", levels(self.net.depends((D,))[self.rows(D)].any(1)))

    def size(self):
        """D, from the net's events, or from its outputs if its events are not known before its context is filled in."""
        if self.net.fixed_shape is not None:
            return self.net.fixed_shape[0]
        if not self.net.needs("context"):
            raise ValueError("Autoregressive: net must be for events of one size")
        return self.net.output_shape(())[0] // self.outputs

    # -- the network's outputs by entry ------------------------------------------------------------------------------

    def rows(self, D):
        """The net's outputs for each entry, (D, P)."""
        return self.by_entry(np.arange(self.outputs * D))

    def by_entry(self, h):
        """Outputs (*batch, P D) as (*batch, D, P)."""
        P, D = self.outputs, h.shape[-1] // self.outputs
        return h.reshape(*h.shape[:-1], P, D).mT if self.layout == "halves" else h.reshape(*h.shape[:-1], D, P)

    def joined(self, h):
        """The adjoint of `by_entry`."""
        return (h.mT if self.layout == "halves" else h).reshape(*h.shape[:-2], h.shape[-2] * h.shape[-1])

    # -- the contract ------------------------------------------------------------------------------------------------

    @staticmethod
    def definition(m, z, net, family, layout):
        pieces = pieces_of(net.definition(m, z), family.size, layout)
        return [family.definition(m, z_j, h_j) for z_j, *h_j in zip(z, *pieces)]    # (1)

    def map_at(self, h):
        """(f, pullback of its fields) at outputs (*batch, D, P), of all entries or some."""
        return self.family.at_values(h, 1)

    def forward_and_log_det(self, z):
        f, _ = self.map_at(self.by_entry(self.net.forward(z)))
        x, log_slopes = f.forward_and_log_det(z)                                    # (1)
        return x, log_slopes.sum(-1)                                                # (4)

    def inverse_and_log_det(self, x):
        z, log_slopes = self.solved(x)
        return z, log_slopes.sum(-1)                                                # (4)

    def solved(self, x):
        """(z, the log-slope of each entry's inverse), level after level."""
        z, log_slopes = np.zeros_like(x), np.zeros_like(x)
        for level in self.levels:                                                   # (5)
            h = self.by_entry(self.net.forward(z))[..., level, :]
            z[..., level], log_slopes[..., level] = self.map_at(h)[0].inverse_and_log_det(x[..., level])    # (2)
        return z, log_slopes

    def jacobian(self, z):
        f, fields_pullback = self.map_at(self.by_entry(self.net.forward(z)))
        (_, log_slopes), pullback = f.vjp(z)
        h_bar, _ = fields_pullback(pullback(np.ones_like(z), np.zeros_like(log_slopes))[1])     # (6)
        slopes = self.net.jacobian(z)[..., self.rows(z.shape[-1]), :]
        J, i = (h_bar[..., None] * slopes).sum(-2), np.arange(z.shape[-1])          # (3)
        J[..., i, i] = f.slope(z)                                                   # (3)
        return J

    def vjp(self, z):
        h, net_pullback = self.net.vjp(z)
        f, fields_pullback = self.map_at(self.by_entry(h))
        (x, log_slopes), f_pullback = f.vjp(z)                                      # (1)

        def pullback(x_bar, log_det_bar):
            y_bar, fields_bar = f_pullback(x_bar, np.broadcast_to(log_det_bar[..., None], x.shape))     # (6)
            h_bar, family_bar = fields_pullback(fields_bar)                         # (6)
            net_bar, net_params_bar = net_pullback(self.joined(h_bar))
            return y_bar + net_bar, {"net": net_params_bar, "family": family_bar}   # (7)

        return (x, log_slopes.sum(-1)), pullback                                    # (4)

    def inverse_vjp(self, x):
        h, net_pullback = self.net.vjp(self.inverse(x))                             # (2)
        f, fields_pullback = self.map_at(self.by_entry(h))
        (z, log_slopes), f_pullback = f.inverse_vjp(x)                              # (2)

        def pullback(z_bar, log_det_bar):
            l_bar = np.broadcast_to(log_det_bar[..., None], z.shape)

            def at(g):
                x_bar, fields_bar = f_pullback(g, l_bar)                            # (8)
                return x_bar, *fields_pullback(fields_bar)                          # (8)

            g, h_bar = z_bar, np.zeros_like(self.by_entry(h))
            for level in reversed(self.levels[1:]):                                 # (5)
                h_bar[..., level, :] = at(g)[1][..., level, :]
                g = z_bar + net_pullback(self.joined(h_bar))[0]                     # (9)
            x_bar, h_bar, family_bar = at(g)
            return x_bar, {"net": net_pullback(self.joined(h_bar))[1], "family": family_bar}

        return (z, log_slopes.sum(-1)), pullback                                    # (4)

    @classmethod
    def examples(cls, source):
        """Any family over a masked network in any order, with every weight and bias drawn."""
        size, family, arranged = source.count(1, 3), any_family(source), layout(source)
        rng, hidden = np.random.default_rng(source.count(0, 255)), (source.count(1, 3),)
        first, _, last = masked_dense_network(rng, size, hidden, family.size, source.orders((size,)),
                                              source.choice(("sequential", "random")), **arranged).layers
        first, last = (layer.replace(W=weights(source, layer.W.shape), b=weights(source, layer.b.shape))
                       for layer in (first, last))
        return cls(Sequential((first, activation(source), last)), family, **arranged), (size,)

    hard_cases = (
        case("Line", "D = 1: the map of the biases", z=[[3.0]], x=[[-5.0]],
             net=MaskedDense([[9.0], [9.0]], [[False], [False]], [0.5, 0.7]), family=affine_family(ExpScale())),
        case("Alone", "no entry depends on another: one level", z=[[1.0, -2.0]], x=[[1.0, -2.0]],
             net=MaskedDense([[9.0, 9.0]] * 4, [[False, False]] * 4, [0.5, -0.5, 1.0, 2.0]), family=affine_family(ExpScale())),
        case("Reversed", "the last entry comes first", z=[[1.0, -2.0, 0.5]], x=[[1.0, -2.0, 0.5]], net=after([2, 1, 0]),
             family=affine_family(ExpScale())),
        case("Permuted", "an order that is not its own inverse", z=[[1.0, -2.0, 0.5]], x=[[1.0, -2.0, 0.5]],
             net=after([1, 2, 0], "interleaved"), family=affine_family(ExpScale()), layout="interleaved"),
        case("Contracted", "x_1 no longer remembers z_1, which x_2 depends on", z=[[1.0, 1.0]],
             net=MaskedDense([[9.0, 9.0], [0.5, 9.0], [9.0, 9.0], [-1.0, 9.0]], SECOND_OF_TWO, [-50.0, 0.25, 1.0, 0.0]),
             family=affine_family(ExpScale())),
        case("Saturated", "the second sigmoid rounds to 1, its slope does not round to 0", z=[[40.0, -1.0]], x=[[40.0, -1.0]],
             net=MaskedDense([[9.0, 9.0], [2.0, 9.0], [9.0, 9.0], [0.5, 9.0]], SECOND_OF_TWO, [1.0, 0.0, 0.0, -1.0]),
             family=affine_family(SigmoidScale())),
        case("Cancelling", "the shift all but cancels z_2", z=[[1e4, 1e4 + 2.0**-6]], x=[[1e4, 2.0**-6]],
             net=MaskedDense([[9.0, 9.0], [0.0, 9.0], [9.0, 9.0], [-1.0, 9.0]], SECOND_OF_TWO, [0.0, 0.0, 0.0, 0.0]),
             family=affine_family(ExpScale())),
        case("Beyond", "sigma overflows, its product with z_2 does not", z=[[1.0, 5e-324]], x=[[1.0, 2.0**1000]],
             net=MaskedDense([[9.0, 9.0], [720.0, 9.0], [9.0, 9.0], [0.0, 9.0]], SECOND_OF_TWO, [0.0, 0.0, 0.0, 0.0]),
             family=affine_family(ExpScale())),
    )
    refused = (
        refusal("net must map vectors to vectors", net=Conv1d([[[1.0]]]), family=affine_family(ExpScale())),
        refusal("family must not have gains of channels", net=after([0, 1, 2]),
                family=affine_family(RescaledTanhExpScale(None, None, [1.0, 2.0]))),
        refusal("net must give 2 outputs for each of 3 entries", net=MaskedDense([[0.0] * 3], [[False] * 3], [0.0]),
                family=affine_family(ExpScale())),
        refusal("net must be for events of one size", net=UnitVector(), family=affine_family(ExpScale())),
        refusal("output entry 0 depends on input entry 0", net=MaskedDense([[1.0], [1.0]], [[True], [False]], [0.0, 0.0]),
                family=affine_family(ExpScale())),
        refusal("output entry 1 depends on input entry 3, which depends on entry 1",
                net=MaskedDense(np.ones((10, 5)), 2 * CIRCLE), family=affine_family(ExpScale())),
    )


# -- the order --------------------------------------------------------------------------------------------------------

def levels(pattern):
    """The levels (5) of entries i that depend on entries j where pattern_ij.  ValueError where an entry is in none."""
    found, waiting, placed = [], pattern.sum(1), np.zeros(len(pattern), bool)
    while not placed.all():
        level = np.flatnonzero(~placed & (waiting == 0))
        if not level.size:
            raise ValueError(f"Autoregressive: net's dependence must be strictly triangular in some order of the entries; "
                             f"{offending(pattern & ~placed)}")
        found.append(level)
        placed[level] = True
        waiting = waiting - pattern[:, level].sum(1)
    return tuple(found)


def offending(pattern):
    """The first output i, and the first input j on which it depends although z_j comes after it."""
    reach = pattern
    for _ in range(len(pattern).bit_length()):
        reach = reach | boolean_product(reach, reach)
    i = int(np.argmax(reach.diagonal()))
    j = int(np.argmax(pattern[i] & reach[:, i]))
    return f"output entry {i} depends on input entry {j}" + (f", which depends on entry {i}" if i != j else "")
