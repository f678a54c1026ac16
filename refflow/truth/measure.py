"""How many units of rounding error a page's methods are from the truth, at given points.

    from refflow import Tanh
    measure(Tanh(), z=1e-9, x_bar=1.0, log_det_bar=1.0)
    from refflow.maps.conditioners import ReLU
    measure(ReLU(), a=0.5, h_bar=1.0)

Kinds without an inverse, each with an `Adapter` from its public methods to quantities:
    conditioner         forward, jacobian, vjp.a_bar, vjp.<field>_bar                   at a and h_bar
    density             log_prob, log_prob_vjp.z_bar, log_prob_vjp.<field>_bar          at z and log_prob_bar
    scale               forward, log, vjp.s_bar, vjp.<field>_bar                        at s and sigma_bars
    parametrisation     fields.<name>, vjp.h_bar, vjp.<field>_bar                       at h and fields_bar
sigma_bars are the cotangents of sigma and of log sigma, fields_bar the cotangents of the fields in the order of `names`, as one
vector.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Callable

import numpy as np
from flint import arb

from ..core import Bijector
from ..core.declarations import Child, Field
from ..core.sets.tangents import frame
from ..core.tree import flatten
from ..accuracy.valid import is_masked, valid_entries
from ..accuracy.quantities import distinct, forward_quantities, inverse_quantities, truth_name

from .along import along_tangents, error_of_claim
from .balls import ball, level_of, m, mid_ball
from .engine import Problem, TruthNotFound, forward_truth, inverse_truth, nest, norm
from .engine import flatten as flattened


class Bound:
    """A component with its fields filled in, as definitions see it."""

    def __init__(self, value, fields):
        self.value, self.fields = value, fields

    def __getattr__(self, name):
        return getattr(self.value, name)

    def definition(self, m, *event):
        return self.value.definition(m, *event, **self.fields)

    def inverse_definition(self, m, *event):
        return self.value.inverse_definition(m, *event, **self.fields)


def path_of(prefix, key):
    return key if key == "context" else f"{prefix}{key}"


def gathered(value, prefix=""):
    """({path: nested numbers}, the paths that are not parameters) of a value and its components."""
    fields, constants = {}, set()
    for key, field in value.declared.items():
        held, path = getattr(value, key), path_of(prefix, key)
        if isinstance(field, Child):
            for name, component in enumerate(held) if field.many else [("", held)]:
                inner, inner_constants = gathered(component, f"{path}.{name}." if field.many else f"{path}.")
                fields, constants = fields | inner, constants | inner_constants
        elif isinstance(field, Field) and held is not None:
            along_event = "shape" in value.declared             # the fields of such a density have the axes of its event
            core = held.shape if along_event else held.shape[held.ndim - len(field.shape):]
            fields[path] = (held if field.constant and not field.shape else held.reshape(core)).tolist()
            constants |= {path} if field.constant else set()
    return fields, constants


def bound(value, fields, prefix=""):
    """The keyword arguments of a value's definition, from fields by path."""
    found = {}
    for key, field in value.declared.items():
        held, path = getattr(value, key), path_of(prefix, key)
        if isinstance(field, Child) and field.many:
            found[key] = [Bound(c, bound(c, fields, f"{path}.{i}.")) for i, c in enumerate(held)]
        elif isinstance(field, Child):
            found[key] = Bound(held, bound(held, fields, f"{path}."))
        else:
            found[key] = fields.get(path, held) if isinstance(field, Field) else held
    return found


def problem(f) -> Problem:
    """The believed equation of a bijector or conditioner with one event's parameters, as exact numbers.

    Fields of components are named by their paths ("net.layers.0.W"); a context is one field, however many components share it.
    """
    def with_fields(definition):
        return lambda m, event, **given: definition(m, event, **bound(f, given))

    def image(m, event, **given):
        found = f.definition(m, event, **bound(f, given))
        return ADAPTERS[f.kind].image(f, m, found) if f.kind in ADAPTERS else found

    fields, constants = gathered(f)
    inverse = getattr(f, "inverse_definition", None)
    return Problem(image, fields, frozenset(constants), inverse and with_fields(inverse), None,
                   f.normwise, inside(f.domain), isinstance(f, Bijector),
                   entrywise_log_det=getattr(f, "entrywise_log_det", False))


def inside(domain):
    """Membership of an interval for exact numbers: a definition may extend past its domain, its inverse may not."""
    if domain.lower == -np.inf and domain.upper == np.inf:
        return None
    return lambda z: all(domain.lower < v < domain.upper for v in z)


def on_sets(f, p, shape):
    """The problem with what the sets of z and of x say of their dimensions and measures, for an event z of this shape."""
    domain, codomain = f.domain, f.codomain
    given, out = {"own_volume": True} if codomain.measure == "intrinsic" else {}, tuple(f.output_shape(shape))
    if codomain.measure == "blockwise":
        given["parts"] = lambda x: parts_of(codomain, x, out)
    elif codomain.thin and not given:
        given["chart"] = tuple(int(i) for i in codomain.coordinates(out))
    if domain.measure == "blockwise":
        given["own_parts_of_z"] = lambda z: [T for _, T in parts_of(domain, z, shape) if T is not None]
    if domain.thin:
        given |= {"tangents": lambda z: frame(domain, m, z, shape), "own_volume_of_z": domain.measure == "intrinsic"}
    return replace(p, **given)


def parts_of(where, flat, shape):
    """[(entries, tangents)] of the parts of an event; the coordinates, and None, of a part that is counted by these."""
    return [(entries[leaf.coordinates_of(core)], None) if leaf.measure == "chart" else
            (entries, leaf.tangents_of(m, [flat[i] for i in entries], core)) for leaf, entries, core in where.pieces(shape)]


def truth_at_z(f, z, x_bar=None, log_det_bar=None):
    z = np.asarray(z)
    if is_masked(f):
        return Valid(f, z.shape).forward_truth(z, x_bar, log_det_bar)
    return forward_truth(on_sets(f, problem(f), z.shape), z, x_bar, log_det_bar, z.dtype)


def truth_at_x(f, x, z_bar=None, log_det_bar=None, claim=None):
    """The solver of the truth starts from `claim`, which f is asked for if it is not given."""
    x = np.asarray(x)
    claim = f.inverse(x) if claim is None else claim
    if is_masked(f):
        return Valid(f, tuple(f.input_shape(x.shape))).inverse_truth(x, z_bar, log_det_bar, claim)
    p = on_sets(f, problem(f), f.input_shape(x.shape))
    return inverse_truth(p, x, z_bar, log_det_bar, claim, x.dtype)


# -- masks of sequences -----------------------------------------------------------------------------------------------

class Valid:
    """The problem of a masked map in the entries at valid positions; all others are 0 in the truth, whatever they hold.

    ValueError if the definition gives anything but 0 there.
    """

    def __init__(self, f, shape):
        self.f, self.shapes = f, (tuple(shape), tuple(f.output_shape(shape)))
        self.where = [valid_entries(f, shape) for shape in self.shapes]
        p = problem(f)

        def definition(m, entries, **fields):
            z = [m.mpf(0)] * int(np.prod(shape))
            for i, entry in zip(self.where[0], entries):
                z[i] = entry
            x = flattened(p.definition(m, nest(z, shape), **fields))[0]
            if any(level_of(v) or mid_ball(v) != 0 for i, v in enumerate(x) if i not in self.where[1]):
                raise ValueError("the definition is not 0 at invalid positions")
            return [x[i] for i in self.where[1]]

        self.problem = replace(p, definition=definition, inverse_definition=None)

    def entries(self, event, side):
        return None if event is None else np.ravel(event)[self.where[side]]

    def forward_truth(self, z, x_bar, log_det_bar):
        bar = self.entries(x_bar, 1)
        return self.with_zeros(forward_truth, self.entries(z, 0), bar, log_det_bar, z.dtype)

    def inverse_truth(self, x, z_bar, log_det_bar, claim):
        given = self.entries(x, 1), self.entries(z_bar, 0), log_det_bar, self.entries(claim, 0)
        return self.with_zeros(inverse_truth, *given, x.dtype)

    def with_zeros(self, truth, *given):
        try:
            return self.placed(truth(self.problem, *given))
        except TruthNotFound as partly:
            raise TruthNotFound(str(partly), self.placed(partly.settled)) from None

    def placed(self, found):
        """Quantities of the valid entries as quantities of whole events."""
        sides = {"forward": (1,), "jacobian": (1, 0), "vjp.z_bar": (0,), "inverse": (0,), "inverse_vjp.x_bar": (1,)}
        return {name: self.placed_quantity(q, sides[name]) if name in sides else q for name, q in found.items()}

    def placed_quantity(self, q, sides):
        where = np.ix_(*(self.where[side] for side in sides))
        whole = {}
        for name in ("value", "kappa"):
            entries = np.full([int(np.prod(self.shapes[side])) for side in sides], arb(0), object)
            entries[where] = np.array(getattr(q, name), object).reshape(entries[where].shape)
            whole[name] = entries.ravel().tolist()
        if q.normwise:
            whole["kappa"] = q.kappa[:1] * len(whole["value"])
        shape = self.shapes[sides[0]] if len(sides) == 1 else tuple(int(np.prod(self.shapes[side])) for side in sides)
        return replace(q, shape=shape, **whole)


# -- kinds without an inverse -----------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Adapter:
    """How a kind is measured: the array of numbers that its definition gives, and its methods by quantity."""

    letters: tuple[str, str]                    # names of the event and of the image's cotangent
    claims: Callable                            # (f, event, bar or None) -> {quantity: array}
    image: Callable = lambda f, m, found: found             # the definition's result, as nested lists of numbers
    parts: Callable = lambda f: {"forward": ("forward",)}   # {the truth's quantity: one name for each of its parts}
    shapes: Callable = lambda f, shape, count: [shape] if count == 1 else [shape[1:]] * count      # of the parts
    method: str = "vjp"


def truth_of_kind(f, event, bar=None):
    """The truth of a page without an inverse; if some quantities are unsettled, TruthNotFound holds the settled ones."""
    adapter = ADAPTERS[f.kind]

    def named(found):
        parts = {new: quantity for old, names in adapter.parts(f).items() if old in found
                 for new, quantity in zip(names, parted(found[old], adapter.shapes(f, found[old].shape, len(names))))}
        method = adapter.method + "."
        bars = {name.replace("vjp.", method).replace("z_bar", f"{adapter.letters[0]}_bar"): quantity
                for name, quantity in found.items() if name.startswith("vjp.")}
        return parts | bars

    try:
        return named(forward_truth(problem(f), event, bar, None, event.dtype))
    except TruthNotFound as partly:
        raise TruthNotFound(str(partly), named(partly.settled)) from None


def parted(quantity, shapes):
    """A quantity of arrays of these shapes, one after another, split into one for each."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    return [replace(quantity, shape=shape, value=quantity.value[end - int(np.prod(shape)):end],
                    kappa=quantity.kappa[end - int(np.prod(shape)):end]) for shape, end in zip(shapes, ends)]


def claims_of_kind(f, event, bar=None):
    """The answers of the page's own methods, by the names of the truth."""
    return ADAPTERS[f.kind].claims(f, event, bar)


def cotangents(method, letter, pulled):
    """{quantity: array} of (the event's cotangent, the parameters')."""
    event_bar, params_bar = pulled
    return {f"{method}.{letter}_bar": event_bar} | {f"{method}.{'.'.join(path)}_bar": b for path, b in flatten(params_bar)}


def of_conditioner(net, a, h_bar):
    h, pullback = net.vjp(a)
    found = {"forward": net.forward(a), "jacobian": net.jacobian(a), "vjp.forward": h}
    return found if h_bar is None else found | cotangents("vjp", "a", pullback(h_bar))


def of_density(p, z, log_prob_bar):
    log_prob, pullback = p.log_prob_vjp(z)
    found = {"log_prob": p.log_prob(z), "log_prob_vjp.log_prob": log_prob}
    return found | ({} if log_prob_bar is None else cotangents("log_prob_vjp", "z", pullback(log_prob_bar)))


def of_scale(scale, s, bars):
    (sigma, log_sigma), pullback = scale.vjp(s)
    found = {"forward": scale.forward(s), "log": scale.log(s), "vjp.forward": sigma, "vjp.log": log_sigma}
    return found if bars is None else found | cotangents("vjp", "s", pullback(*bars))


def of_parametrisation(f, h, fields_bar):
    """Parametrisations stand behind the checks of other pages, and have none themselves."""
    with np.errstate(all="ignore"):
        fields, pullback = f.unchecked(h.dtype).vjp(h)
        found = {f"fields.{name}": fields[name] for name in f.names}
        if fields_bar is None:
            return found
        handed_on = {key: {} for key in fields if key not in f.names}
        return found | cotangents("vjp", "h", pullback(dict(zip(f.names, cores_of(f, fields_bar))) | handed_on))


def cores_of(f, fields_bar):
    """The fields' cotangents, from one vector."""
    sizes = [int(np.prod(core)) for core in f.cores]
    return [part.reshape(core) for part, core in zip(np.split(fields_bar, np.cumsum(sizes)[:-1]), f.cores)]


def flattened_each(fields):
    """All numbers of fields that are numbers or nested lists."""
    return [number for field in fields for number in flattened(field)[0]]


def with_logarithm(f, m, sigma):
    return [sigma, [m.log(entry) for entry in sigma] if isinstance(sigma, list) else m.log(sigma)]


ADAPTERS = {
    "conditioner": Adapter(("a", "h_bar"), of_conditioner,
                           parts=lambda f: {"forward": ("forward",), "jacobian": ("jacobian",)}),
    "density": Adapter(("z", "log_prob_bar"), of_density, parts=lambda f: {"forward": ("log_prob",)}, method="log_prob_vjp"),
    "scale": Adapter(("s", "sigma_bars"), of_scale, with_logarithm, lambda f: {"forward": ("forward", "log")}),
    "parametrisation": Adapter(("h", "fields_bar"), of_parametrisation,
                               lambda f, m, fields: flattened_each(fields[name] for name in f.names),
                               lambda f: {"forward": tuple(f"fields.{name}" for name in f.names)},
                               lambda f, shape, count: f.cores)}


# -- both together ----------------------------------------------------------------------------------------------------


def compared(given, truth, dtype):
    """{answer: (C, kappa/|q|)} of the answers that have a truth.

    A fused method's value is measured only if it differs, in any bit, from the result of the method of that name.
    """
    measured = {name: (answer, truth[truth_name(name)]) for name, answer in distinct(given).items() if truth_name(name) in truth}
    return {name: (error_of_claim(answer, true, dtype), conditioning(true, dtype)) for name, (answer, true) in measured.items()}


def conditioning(quantity, dtype):
    """The largest kappa/|q| over the entries; normwise, kappa/||q||.

    Where q overflows, nothing can be hidden; below the normal numbers, where their spacing is the unit, |q| counts as twice the
    smallest normal number.
    """
    limits = np.finfo(dtype)
    value, kappa = along_tangents(quantity) if quantity.tangents else (quantity.value, quantity.kappa)
    sizes = [norm(value)] * len(value) if quantity.normwise else [abs(q) for q in value]
    least, overflow = 2 * ball(limits.tiny), arb(2) ** int(limits.maxexp)
    ratios = [float(k / (q if q > least else least)) for q, k in zip(sizes, kappa) if not q >= overflow]
    return max(1.0, *ratios) if ratios else 1.0


def measure(f, z=None, x=None, x_bar=None, z_bar=None, log_det_bar=None, dtype=np.float64, **given) -> dict:
    """{quantity: (C, kappa/|q|)} of one bijector at a z, an x, or both; for a page without an inverse, at its own letters.

    The parameters must belong to one event.
    """
    f, found = f.astype(dtype), {}     # type: ignore[var-annotated]
    if f.kind in ADAPTERS:
        event, bar = (None if value is None else np.asarray(value, dtype)
                      for value in map((given | {"z": z}).get, ADAPTERS[f.kind].letters))
        return compared(claims_of_kind(f, event, bar), truth_of_kind(f, event, bar), dtype)
    if z is not None:
        z = np.asarray(z, dtype)
        given = forward_quantities(f, z, x_bar, log_det_bar)
        found |= compared(given, truth_at_z(f, z, x_bar, log_det_bar), dtype)
    if x is not None:
        x = np.asarray(x, dtype)
        given = inverse_quantities(f, x, z_bar, log_det_bar)
        found |= compared(given, truth_at_x(f, x, z_bar, log_det_bar), dtype)
    return found
