"""The laws of conditioners: the bijectors' laws that need neither inverse nor log-det, and further ones.

A conditioner `net` is tested by the bijectors' laws as the forward half of a map, `AsMap(net)`, with log-det 0.
`run_network_laws(net, points)` runs every law on the same points and reports by name.
"""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np

from ..accuracy.drawing import event_shapes, fits
from ..accuracy.kappa import flat, with_leaf
from ..accuracy.points import Points, forward_derivatives
from ..accuracy.valid import AtValid, at_valid, is_masked
from ..core import Conditioner, RandomSource
from ..core.arrays import masked
from ..core.declarations import Field
from ..core.tree import arrays, components, flatten, walk, with_components
from ..maps.conditioners import BlockDense, weight_normalised_blocks
from .bijector_laws import wrong_dtypes
from .law import LAWS, Broken, asked, bounded, close, equal, every, expect, hold, law, refusal, same, unit
from .layers import AsMap, Tangents, connected, noting
from .strategies import SPREAD

# The bijectors' laws that apply unchanged, and among these the ones that differences across a kink would break.
SHARED = ("jacobian is the derivative", "pullback is the transposed Jacobian", "pullback is the gradient",
          "Taylor remainder falls as h^2", "cotangents sum over what broadcast", "dtype is kept", "nothing is mutated",
          "deterministic", "threads may share", "one vector")
OF_NET = ("bad plain fields are refused", "refusals are named", "hard cases are accepted")      # of the net, not of the map
TANGENTS = 2                    # of an event
PATTERNS = 3                    # connections of layers that are tried
MANY_CONTEXTS = 5               # more than positions
DIFFERENCES = {"jacobian is the derivative", "pullback is the gradient", "Taylor remainder falls as h^2"}
OWN: dict = {}


class NetworkPoints(Points):
    """Events a and cotangents h_bar of a conditioner."""

    chart = None

    def __init__(self, net, a, h_bar, f=None):
        batch = a.shape[:1]
        super().__init__(f or AsMap(net), a, h_bar, np.zeros_like(a), np.zeros(batch, a.dtype))
        self.net = net

    def at_valid(self):
        """The points of the map of valid entries, if the net has a mask."""
        f, _ = at_valid(self.f, self.event_in)
        return self if f is self.f else NetworkPoints(self.net, f.taken(self.z, 0), f.taken(self.x_bar, 1), f)

    @property
    def interior(self):
        return np.zeros(self.batch, bool)       # there is no inverse


def network_points(source, net, dtype, count=16, spread=9, shape=None):
    """Events of magnitude 2^-spread to 2^(spread+1), and cotangents.

    If neither `shape` nor the net says the size: vectors of 3 or 4 entries, or images of 2 x 2 positions with the net's channels.
    """
    shape = shape or event_shapes(net, (3, 4) if net.event_ndim[0] == 1 else (2,))[0]
    a = net.domain.draw(source, (count, *shape), dtype, spread)
    h_bar = source.signed((count, *net.output_shape(shape)), -SPREAD, SPREAD).astype(dtype)
    return NetworkPoints(net, without_padding(net, a), without_padding(net, h_bar))


def without_padding(net, sequences):
    """Sequences (*batch, C, T) with 0 at the positions that the net's mask calls invalid."""
    return masked(sequences, net.held("mask")[0]) if is_masked(net) else sequences


def run_network_laws(net, points, wanted=every) -> dict:
    """Run every law, or those wanted, on one draw; {law: (rejected, tried)} for the laws that may reject points.

    Raises AssertionError with one line for each law that is broken.
    """
    valid = points.at_valid()
    # a kink may lie anywhere; a single page has it at 0, and no event is near 0
    bent = {name for name in DIFFERENCES if not net.smooth and (list(net.components()) or name.startswith("Taylor"))}
    return asked([*((name, LAWS[name], valid.f, valid) for name in SHARED if name not in bent),
                  *((name, LAWS[name], net, points) for name in OF_NET),
                  *((name, check, net, points) for name, check in OWN.items())], wanted)


@law("fused is separate", OWN)
def fused(net, p):
    """forward is the value of vjp."""
    room = 2 * unit(p, p.forward_sensitivities[0].kappa)
    close(p, "h of vjp", flat(net.vjp(p.z)[0], p.batch), flat(net.forward(p.z), p.batch), room)


@law("jvp is the product with the Jacobian", OWN)
def tangents(net, p):
    """h of jvp is forward, and dh/da A_dot is the product with the Jacobian; without a cotangent of tangents its pullback is that of vjp.

    A network with a layer that has no jvp refuses with the name of the layer.
    """
    pushed = pushed_points(net, p)
    if pushed is None:
        return
    fused(pushed.net, pushed)
    (h, H_dot), pullback = net.jvp(p.z, columns(pushed))
    a_bar, _, params_bar = pullback(p.x_bar, np.zeros_like(H_dot))
    close(p, "a_bar without a cotangent of tangents", flat(a_bar, p.batch), p.claims["event"],
          2 * unit(p, p.forward_derivatives["event"].kappa))


@law("jvp's pullback is the gradient", OWN)
def tangents_pullback(net, p):
    """a_bar, A_dot_bar and the parameters' cotangents of jvp against differences of L = <h_bar, h> + <H_bar, dh/da A_dot>.

    The cotangents of parameters without a batch are sums over events.
    """
    pushed = pushed_points(net, p)
    if pushed is not None:
        LAWS["cotangents sum over what broadcast"](pushed.f, pushed)
    if pushed is not None and (net.smooth or not net.components()):
        return LAWS["pullback is the gradient"](pushed.f, pushed)


def pushed_points(net, p):
    """The points of the network and its tangents, with tangents that are drawn; None if a layer refuses to have a jvp."""
    rng = np.random.default_rng(p.z.size)
    pushed = Tangents(net, rng.normal(size=(p.size_in, TANGENTS)).astype(p.dtype))
    try:
        pushed.vjp(p.z[:1])
    except NotImplementedError as error:
        return named_refusal(net, "jvp", error)
    H_bar = rng.normal(size=(len(p.z), p.size_out * TANGENTS))
    return NetworkPoints(pushed, p.z, np.concatenate([p.x_bar.reshape(len(p.z), -1), H_bar], -1).astype(p.dtype))


def columns(pushed):
    """The tangents of each event."""
    return pushed.net.A_dot.reshape(*pushed.event_in, TANGENTS)


@law("it stretches by no more than it says", OWN)
def stretching(net, p):
    """|net(a) - net(b)| <= bound |a - b| for pairs of events, and |J| <= bound in the 2-norm, to rounding.

    A network with a layer that has no bound refuses with the name of the layer.
    """
    try:
        bound = net.lipschitz()
    except NotImplementedError as error:
        return named_refusal(net, "lipschitz", error)
    others = NetworkPoints(net, p.z[::-1], p.x_bar)
    a, h = (flat(v, p.batch) - flat(w, p.batch) for v, w in ((p.z64, others.z64), (p.x.astype(np.float64), others.x)))
    off = sum(np.linalg.norm(unit(p, one.forward_sensitivities[0].kappa), axis=-1) for one in (p, others))
    stretched, most = np.linalg.norm(h, axis=-1), bound * np.linalg.norm(a, axis=-1)
    hold(p, "|net(a) - net(b)|", stretched - most, off + p.C * p.u * most)
    J = np.linalg.svd(net.jacobian(p.z).astype(np.float64), compute_uv=False).max(-1, initial=0)
    off = np.linalg.norm(unit(p, p.forward_derivatives["jacobian"].kappa), axis=-1)
    hold(p, "|J|", J - bound, off + p.C * p.u * bound)


def named_refusal(net, method, error):
    """The refusal of a method must name the layer that lacks it."""
    layers = [type(layer).__name__ for _, layer in walk(net)]
    expect(str(error).split(f" has no {method}")[0] in layers, f"the refusal of {method} does not name a layer: {error}")


@law("nothing depends on what it says it does not", OWN)
def dependence(net, p):
    """Where `depends` is False the Jacobian is 0, and changing that entry of a does not change that entry of h.

    A context may make entries independent, by its number of positions; each of a batch of contexts, as one alone.
    """
    pattern = net.depends(p.event_in)
    expect(pattern.dtype == bool and pattern.shape == (p.size_out, p.size_in),
           f"depends gives {pattern.dtype} of shape {pattern.shape}, not bool of {(p.size_out, p.size_in)}")
    denied(net, "dh/da is not 0", (net.jacobian(p.z) != 0) & ~pattern)
    h = flat(net.forward(p.z), p.batch)
    for j in np.flatnonzero(~pattern.all(0)):
        a = p.z.copy()
        others = net.domain.draw(RandomSource(np.random.default_rng(j)), a.shape, a.dtype) if net.domain.whole else 1 - a
        flat(a, p.z.shape[:1])[:, j] = others.reshape(len(a), -1)[:, j]
        changed = np.zeros(p.batch + pattern.shape, bool)
        changed[..., j] = flat(net.forward(a), p.batch) != h
        denied(net, "h changes", changed & ~pattern)
    for key in (key for key, field in net.own_fields().items() if field.role == "context" and getattr(net, key) is not None):
        without, many = (net.replace(**{key: given}) for given in (None, np.stack([getattr(net, key)] * MANY_CONTEXTS)))
        denied(net, "without its context, depends is False", (pattern & ~without.depends(p.event_in))[None])
        denied(net, "in a batch of contexts, depends is another", (pattern ^ many.depends(p.event_in))[None])


def denied(net, what, marks):
    """Refuse the first (event, output, input) that is marked."""
    for *_, i, j in np.argwhere(marks)[:1]:
        raise Broken(f"{what} at output {i}, input {j}; {net!r}")


@law("what it says depends does", OWN)
def pattern(net, p):
    """`depends` is where dh/da is not 0, if the layers are linear, with positive weights along drawn connections, 0 elsewhere.

    No terms cancel then, nor do positions of a context that differ.  For a page without layers it is where dh/da is not 0 for some
    of the events; whole numbers have no derivative.
    """
    if type(net).depends is Conditioner.depends or net.domain.whole:
        return
    net = net.at(mask=None) if is_masked(net) else net
    rng = np.random.default_rng(p.z.size)
    if not net.components():
        a = net.domain.draw(RandomSource(rng), p.z.shape, p.dtype, 1)
        return exact_pattern(net, a, -a)
    for _ in range(PATTERNS):
        exact_pattern(with_context(connected(net, p.z, rng), rng, p.dtype), rng.uniform(0.5, 1, p.z.shape).astype(p.dtype))


def with_context(net, rng, dtype):
    """A net that reads a context, with one whose entries differ."""
    held = [getattr(net, key) for key, field in net.own_fields().items() if field.role == "context"]
    return net if not held or held[0] is None else net.at(context=rng.uniform(0.5, 1, held[0].shape).astype(dtype))


@law("positions depend as their entries do", OWN)
def positions(net, p):
    """`depends_on_positions` holds where an entry of h at a position may depend on an entry of a at the other, also in a network
    whose layers connect positions as drawn, all of their channels.
    """
    if net.event_ndim != (2, 2):
        return
    net, rng = net.at(mask=None) if is_masked(net) else net, np.random.default_rng(p.z.size)
    for made in (net, *(connected(net, p.z, rng, True) for _ in range(PATTERNS if net.components() else 0))):
        (M, T), (C, S) = made.output_shape(p.event_in), p.event_in
        says, entries = made.depends_on_positions(p.event_in), made.depends(p.event_in).reshape(M, T, C, S).any((0, 2))
        expect(says.dtype == bool and np.array_equal(says, entries),
               f"depends_on_positions is {says.tolist()}, by depends it is {entries.tolist()}; {made!r}")


def exact_pattern(net, *events):
    """Refuse a net with an entry of dh/da that is 0 for all events although it may depend, or not 0 although it may not."""
    axes = tuple(range(events[0].ndim - net.event_ndim[0]))
    says = net.depends(events[0].shape[len(axes):])
    does = np.any([(net.jacobian(a) != 0).any(axes) for a in events], 0)
    denied(net, "depends holds where dh/da is 0,", (says & ~does)[None])
    denied(net, "dh/da is not 0", (does & ~says)[None])


@law("each layer is initialised on what it meets", OWN)
def initialisation(net, p):
    """Initialised on data, a network hands to its layers, in order, what they meet when it sees the data, with the rng given.

    It hands something to every layer that the data reach.  All else stays as it is.
    """
    noted, begun, met = noting(net)
    rng = np.random.default_rng(0)
    with np.errstate(all="ignore"):
        made = noted.initialised(p.z, rng)
        made.forward(p.z[::-1])
        others = dict(met)
        made.forward(p.z)
    for path, seen in met.items():
        where = f"layer {'.'.join(path)} of {net!r}"
        reached = seen.shape == others[path].shape and not np.array_equal(seen, others[path])
        expect(path in begun or not reached, f"{where} is not initialised, although it meets the data")
        if path in begun:
            data, given = begun[path]
            expect(given is rng, f"{where} is initialised with {given!r}, not with the rng")
            equal(f"the data of {where}", (data,), (seen if data.shape == seen.shape else at_valid_positions(net, seen),))
    layers = {path: layer.initialised(*begun[path]) if path in begun else layer for path, layer in components(noted)}
    expect(with_components(noted, layers).equals(made), f"initialised, it is not the net of its initialised layers: {made!r}")


def at_valid_positions(net, vectors):
    """The vectors (N, C) at valid positions among (*batch, T, C)."""
    return vectors[np.broadcast_to(net.held("mask")[0], vectors.shape[:-1])]


def constants_by_event(net):
    """Does the net or a layer hold a constant with a batch axis?"""
    own = [(array.ndim, len(net.declared[key].shape)) for key, array in arrays(net).items() if net.declared[key].constant]
    return any(ndim > max(1, core) for ndim, core in own) or any(constants_by_event(layer) for layer in net.components())


@law("batch is the stack of singles", OWN)
def singles(net, p):
    """An event alone, with its own parameters, gives the same as in a batch; not tested if masks belong to events."""
    if constants_by_event(net):
        return
    view, a = p.own
    for i in sorted({0, len(a) // 2, len(a) - 1}):
        alone = view
        for path, value in flatten(view.params()):
            alone = with_leaf(alone, path, value[i])
        with np.errstate(all="ignore"):
            found = forward_derivatives(alone, a[i], (p.bars[0][i], p.bars[1][i])) | {"h": alone.forward(a[i]).ravel()}
        expected = p.claims | {"h": flat(p.x, p.batch)}
        rooms = {name: s.kappa for name, s in p.forward_derivatives.items()} | {"h": p.forward_sensitivities[0].kappa}
        for name, value in found.items():
            error, room = np.abs(value.astype(np.float64) - expected[name][i]), 2 * unit(p, rooms[name][i])
            error = np.linalg.norm(error) if p.normwise else error
            room = np.max(room, initial=0) if p.normwise else room
            bounded(room)
            expect(value.shape == expected[name][i].shape and np.all(error <= room),
                   f"{name} of event {i} alone is off by {np.max(error, initial=0):.3g}; {net!r}")


@law("padding changes nothing", OWN)
def padding(net, p):
    """Whatever stands at invalid positions of a and h_bar, all results are bitwise the same; h and a_bar are 0 there.

    The same holds for a context that is a signal and for its cotangent.  A page itself ignores cotangents there, as a further
    layer may hand it.  In a batch of masks each event gets what it gets alone, and an event without valid positions gives 0.
    If the valid positions come first, the sequence cut to them gives the same without a mask.
    """
    if not is_masked(net):
        return
    valid = p.at_valid()
    f, mask, kept = valid.f, net.held("mask")[0], np.arange(len(p.z)) % 2 == 0
    clean = results(net, p.z, p.x_bar)
    for junk in (np.nan, np.inf, -np.inf, np.finfo(p.dtype).max):
        found = results(net, f.placed(valid.z, 0, junk), f.placed(valid.x_bar, 1, junk))
        for name, value in clean.items():
            same(f"{name}, padded with {junk}", (found[name],), (value,))
    signal = context_signal(net)
    if signal is not None:
        found = results(net.at(context=np.where(mask, signal, np.finfo(p.dtype).max)), p.z, p.x_bar)
        for name, value in clean.items():
            same(f"{name}, with another context at invalid positions", (found[name],), (value,))
        expect(not clean["context_bar"][..., ~mask].any(), f"context_bar is not 0 at invalid positions; {net!r}")
    with np.errstate(all="ignore"):
        bars = [net.unchecked(p.dtype).vjp(p.z.astype(p.dtype))[1](h_bar.astype(p.dtype))
                for h_bar in (p.x_bar, f.placed(valid.x_bar, 1, np.nan))]
    given, ignored = ([a_bar, *(bar for _, bar in flatten(params_bar))] for a_bar, params_bar in bars)
    same("cotangents inside a network", ignored, given)
    batched = results(net.at(mask=kept[:, None] & mask), p.z, p.x_bar)
    rooms = {"h": (1, valid.forward_sensitivities[0]), "a_bar": (0, valid.forward_derivatives["event"])}
    for name, (side, sensitivity) in rooms.items():
        expected, room = f.taken(clean[name], side), 2 * unit(p, sensitivity.kappa)
        expect(np.array_equal(f.placed(expected, side), clean[name]), f"{name} is not 0 at invalid positions; {net!r}")
        expect(not batched[name][~kept].any(), f"{name} is not 0 without valid positions; {net!r}")
        close(valid, f"{name} with a batch of masks", f.taken(batched[name], side), expected, room, kept)
        shape = p.event_in[:-1] + (int(mask.sum()),)
        if mask[:mask.sum()].all() and fits(net.at(mask=None), shape):
            a, h_bar = (entries.reshape(len(entries), *shape[:-1], -1) for entries, shape in
                        ((valid.z, p.event_in), (valid.x_bar, p.event_out)))
            context = {} if signal is None else {"context": signal[..., mask]}
            cut = results(net.at(mask=None, **context), a, h_bar)[name]
            close(valid, f"{name} of the sequence without its padding", flat(cut, p.batch), expected, room)


def context_signal(net):
    """The context, if a page that reads it takes it as a signal, with an axis of positions; else None."""
    signals = [getattr(owner, key) for _, owner in walk(net) for key, field in owner.own_fields().items()
               if field.role == "context" and field.shape[-1] == "T"]
    return signals[0] if signals else None


def results(net, a, h_bar):
    """The results of all methods, by name."""
    h, pullback = net.vjp(a)
    a_bar, params_bar = pullback(h_bar)
    bars = {f"{'.'.join(path)}_bar": bar for path, bar in flatten(params_bar)}
    return {"h": h, "forward": net.forward(a), "jacobian": net.jacobian(a), "a_bar": a_bar} | bars


@law("any layout", OWN)
def layouts(net, p):
    """Strided, read-only, broadcast, single and empty inputs give the results of plain ones, in the right shapes."""
    strided = np.zeros((2 * len(p.z), *p.z.shape[1:]), p.z.dtype)[::2]
    strided[...] = p.z
    fixed = p.z.copy()
    fixed.flags.writeable = False
    room = 2 * unit(p, p.forward_sensitivities[0].kappa)
    for what, a in (("strided", strided), ("read-only", fixed), ("fortran", np.asfortranarray(p.z))):
        h, pullback = net.vjp(a)
        pullback(p.x_bar)
        close(p, f"h of a {what} array", flat(h, p.batch), flat(p.x, p.batch), room)
    one = p.z[:1]
    repeated = NetworkPoints(net, np.repeat(one, len(p.z), 0), p.x_bar)
    room = 2 * unit(p, repeated.forward_sensitivities[0].kappa)
    h = net.forward(np.broadcast_to(one, p.z.shape))
    close(repeated, "h of a broadcast array", flat(h, p.batch), flat(repeated.x, p.batch), room)
    h, pullback = net.vjp(one[0])
    a_bar, _ = pullback(p.x_bar[0])
    lead = net.parameter_batch
    expect(h.shape == lead + p.event_out and np.shape(a_bar) == p.event_in,
           f"one event gives shapes {h.shape} and {np.shape(a_bar)}")
    if lead in ((), (1,)):
        h, pullback = net.vjp(p.z[:0])
        a_bar, _ = pullback(np.zeros(h.shape))
        found = h.shape, a_bar.shape, net.jacobian(p.z[:0]).shape
        wanted = (0, *p.event_out), p.z[:0].shape, (0, p.size_out, p.size_in)
        expect(found == wanted, f"an empty batch gives shapes {found}, not {wanted}")


@law("pickles", OWN)
def pickles(net, p):
    """Pickled, copied, or rebuilt from itself, a net is bitwise equal and computes the same."""
    copies = {"pickled": pickle.loads(pickle.dumps(net)), "copied": copy.deepcopy(net), "replaced": net.replace()}
    for what, again in copies.items():
        expect(again.equals(net) and net.equals(again), f"{what}, it is {again!r}, not {net!r}")
        same(f"h of the net {what}", (again.forward(p.z),), (net.forward(p.z),))


@law("bad parameters are refused", OWN)
def bad_parameters(net, p):
    """NaN, infinity, a wrong dtype: ValueError with class and field."""
    for key, field in net.declared.items():
        held = getattr(net, key)
        if not isinstance(field, Field) or field.constant or held is None or not held.size:
            continue
        for value in (np.nan, np.inf):
            bad = held.copy()
            bad.reshape(-1)[-1] = value
            message = refusal(lambda: net.replace(**{key: bad}), f"{key} with {value}")         # noqa: B023
            for part in (type(net).__name__, key, field.set.rule, *((f"{key}[", "] = ") if bad.ndim else (f"{key} = ",))):
                expect(part in message, f"the refusal of {key} does not name {part!r}: {message}")
        for wrong in wrong_dtypes(held):
            message = refusal(lambda: net.replace(**{key: wrong}), f"{key} of dtype {wrong.dtype}")     # noqa: B023
            expect(type(net).__name__ in message and key in message, f"the refusal of a dtype names neither: {message}")


@law("bad events are refused", OWN)
def bad_events(net, p):
    """NaN, infinity, a wrong shape or dtype, of the event or the cotangent: ValueError with class and argument."""
    bad = [np.where(np.arange(p.z.size).reshape(p.z.shape) == last, value, p.z) for last in last_read(p) for value in (np.nan, np.inf)]
    if net.event_ndim[0]:
        bad.append(np.zeros(()))
    if net.fixed_shape:
        bad.append(np.concatenate((p.z, p.z[..., :1]), -1))
    for event in bad + wrong_dtypes(p.z):
        before = event.tobytes()
        for method in (net.forward, net.jacobian, net.vjp):
            message = refusal(lambda: method(event), f"an event of shape {event.shape}, {event.dtype}")     # noqa: B023
            expect(type(net).__name__ in message and "a " in message or "a[" in message, f"it names neither: {message}")
        expect(event.tobytes() == before, "refusing an event changed the caller's array")
    _, pullback = net.vjp(p.z)
    for h_bar in (np.zeros((len(p.z) + 1, *p.event_out)), *wrong_dtypes(p.x_bar)):
        message = refusal(lambda: pullback(h_bar), f"a cotangent of shape {h_bar.shape}, {h_bar.dtype}")    # noqa: B023
        expect(type(net).__name__ in message and "h_bar" in message, f"it names neither: {message}")


def last_read(p):
    """[the flat index of the last entry of all events that the net may read], if there is one."""
    f = p.at_valid().f
    read = f.where(0) if isinstance(f, AtValid) else range(p.size_in)
    return [p.z.size - p.size_in + i for i in read[-1:]]


@law("raw weights are normalised", OWN)
def raw_weights(net, p):
    """From raw weights and gains, row i of W is g_i P_i / |P_i|: P_ij = exp(w_ij) or log(1 + exp(w_ij)) within blocks, w_ij
    below them, 0 above, also where the squares of P leave the floats.  Biases that are not given are 0.  Shapes that the blocks
    do not divide, and other words, are refused.
    """
    if not isinstance(net, BlockDense):
        return
    (D, A, B), rng = net.blocks, np.random.default_rng(p.z.size)
    w, log_g, b = (rng.normal(size=shape).astype(p.dtype) for shape in ((D * A, D * B), D * A, D * A))
    g, within = np.exp(log_g), np.kron(np.eye(D, dtype=bool), np.ones((A, B), bool))
    reach = p.dtype.type(0.6 * math.log(np.finfo(p.dtype).max))
    huge = np.where(within, w + reach, -np.abs(w) * np.exp(reach))
    for word, positive in (("exp", math.exp), ("softplus", lambda v: math.log1p(math.exp(v)))):
        made = weight_normalised_blocks(w, g, D, b, word)
        same("the bias", (made.b, weight_normalised_blocks(w, g, D).b), (b, np.zeros_like(b)))
        for raw in (w, huge, np.where(within, w - reach, w)):
            for i, row in enumerate(weight_normalised_blocks(raw, g, D, b, word).weights()):
                wanted = g[i] * normalised(raw[i], i // A, B, positive)
                near = np.abs(row - wanted).max() <= 16 * p.u * g[i]
                expect(near, f"row {i} of W, from the raw weights {raw[i]} with {word}, is {row}, not {wanted}")
    rows, columns = np.zeros((D * A + 1, D * B)), np.zeros((D * A, D * B + 1))
    refused = [("positive must be one of", w, g, "abs"), ("w must have", w[0], g, "exp"), ("w must have", w, rows[:, 0], "exp")]
    if D > 1:
        refused += [("w must have", rows, rows[:, 0], "exp"), ("w must have", columns, g, "exp")]
    for message, *raw, word in refused:
        said = refusal(lambda: weight_normalised_blocks(*raw, D, b, word), f"raw weights for {message!r}")      # noqa: B023
        expect(message in said, f"the refusal does not say {message!r}: {said}")


def normalised(w, block, size, positive):
    """P / |P| for a row of raw weights, whose positive block of `size` entries is the given one."""
    P = np.array([positive(w_j) if j // size == block else w_j * (j // size < block) for j, w_j in enumerate(w)])
    return P / math.hypot(*P)
