"""Files of the authors' numbers, and how far ours are from them."""

from __future__ import annotations

import contextlib
import json
import re
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

PRACTICE = Path(__file__).parents[1] / "practice"
ALLOWED = 1e-9
ZERO = 2.0**-40                     # of the largest gradient: the rounding left in sums that are 0 in exact arithmetic
NUDGE, NUDGES = 2.0**-30, 4         # relative changes of the inputs, which show how far rounding moves an entry
WORST_CONDITION = 2.0**20           # beyond it an entry tells nothing, and is not excused
ROUNDINGS = 4                       # of each term of a sum of a few terms
ROUNDING = 2.0**-36                 # of kappa: the error that tens of thousands of successive roundings may leave


class Lacking(KeyError):
    """What a file or its configuration lacks."""

    def __str__(self):
        return self.args[0]


class Config(dict):
    """The configuration of a file."""

    def __missing__(self, key):
        raise Lacking(f"its configuration does not say {key!r}")


class Part(dict):
    """{name: array} of what a file holds below a prefix."""

    def __init__(self, prefix, found):
        super().__init__(found)
        self.prefix = prefix

    def __missing__(self, name):
        raise Lacking(f"there is no {self.prefix + name!r} in it")


class Unread(NamedTuple):
    """An array of a file that is not compared, or one that the file lacks, and why."""

    key: str
    reason: str


LACKS = "the file lacks it"
UNKNOWN = {"in": "an input that nothing here reads", "out": "a result that nothing here computes",
           "param": "a parameter that our model lacks", "buffer": "a buffer that nothing here reads",
           "grad": "a gradient of something that has none here", "gradin": "a gradient of something that has none here"}


class Numbers(dict):
    """{key: array} of a file, or of what it holds `below` a prefix; also the keys that have been answered, compared or used to
    compute something compared, the keys that were looked for in vain, and why others are `left` out.
    """

    def __init__(self, found, whole=None, prefix=""):
        super().__init__(found)
        self.answered, self.lacking, self.left, self.whole, self.prefix = set(), set(), {}, whole, prefix

    def __getitem__(self, key):
        self.answer("", [key])
        return super().__getitem__(key)

    def __missing__(self, key):
        raise Lacking(f"there is no {self.prefix + key!r} in it")

    def below(self, prefix):
        return Numbers(under(prefix, self), self, prefix)

    def has(self, key):
        self.lacking |= set() if key in self else {key}
        return key in self

    def answer(self, prefix, names):
        keys = {f"{prefix}{name}" for name in names}
        self.answered |= keys
        if self.whole is not None:
            self.whole.answer(self.prefix, keys)

    def only(self, prefix, names):
        """Of what is below a prefix, these names alone have been read."""
        self.answered -= {key for key in self if key.startswith(prefix)} - {f"{prefix}{name}" for name in names}

    def leave(self, keys, reason):
        """Say why these are not compared."""
        self.left |= dict.fromkeys(keys, reason)

    def unanswered(self):
        """[Unread]."""
        found = [Unread(key, self.left.get(key) or unknown(key)) for key in sorted(self.keys() - self.answered)]
        return found + [Unread(key, LACKS) for key in sorted(self.lacking)]


def unknown(key):
    """Why an array of this name is not read."""
    return next((UNKNOWN[part] for part in key.split("/") if part in UNKNOWN), "a name that nothing here knows")


def numbers(name):
    """(the configuration, the numbers) of a file, given as a path or as the name of one in validation/practice/."""
    with opened(name) as file:
        return configuration(file), Numbers({key: file[key] for key in file if key != "cfg"})


def contents(name):
    """(the configuration, the names of the arrays) of a file."""
    with opened(name) as file:
        return configuration(file), set(file.files) - {"cfg"}


@contextlib.contextmanager
def opened(name):
    path = name if isinstance(name, Path) else PRACTICE / f"{name}.npz"
    with open(path, "rb") as raw:
        if not zipfile.is_zipfile(raw):
            raise ValueError("it is not an .npz file")
        raw.seek(0)
        with np.load(raw) as file:
            yield file


def configuration(file):
    if "cfg" not in file:
        raise Lacking("there is no 'cfg' in it, the configuration as JSON")
    return Config(json.loads(str(file["cfg"])))


def under(prefix, found):
    """{key without the prefix: array}; a name that is not there is said with all that stands before it."""
    return Part(getattr(found, "prefix", "") + prefix,
                {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)})


def answered(prefix, found, names=None):
    """`under`, restricted to these names if given; all of them count as answered."""
    chosen = {key: value for key, value in under(prefix, found).items() if names is None or key in names}
    found.answer(prefix, chosen)
    return Part(prefix, chosen)


# -- kinds of files ---------------------------------------------------------------------------------------------------

def of_system(system, kind):
    """Does a file name this system and this kind, whatever stands behind it?  As a function of its configuration and keys."""
    return lambda config, keys: config.get("system") == system and re.match(rf"{kind}(?!\w)", str(config.get("kind"))) is not None


def kind_of(kinds, config, keys):
    """(what it is, the function that compares it) of a file among kinds, {what: (holds(config, keys), compares)}; or None."""
    return next(((what, compares) for what, (is_held, compares) in kinds.items() if is_held(config, keys)), None)


def is_empty(value):
    """Is there nothing of theirs to compare, as where a file holds no gradients?"""
    return isinstance(value, Pair) and not value.theirs


def read_as(kinds, config, theirs):
    """({quantity: Difference, or the largest relative difference} of a file, [Unread]: its arrays that are not compared)."""
    kind = kind_of(kinds, config, theirs.keys())
    if kind is None:
        raise ValueError(f"it is none of the kinds {', '.join(kinds)}")
    what, compares = kind
    try:
        found = compares(config, theirs)
        if all(isinstance(value, Pair) for value in found.values()):
            found = judged({name: value for name, value in found.items() if not is_empty(value)},
                           lambda rng: compares(config, nudged(theirs, rng)))
    except (Lacking, ValueError) as error:
        raise ValueError(f"{error} (read as {what})") from error
    found = without_dependent(found, theirs)
    if not found:
        raise ValueError(f"it holds nothing that can be compared (read as {what}): {listed(theirs.keys())}")
    return found, theirs.unanswered()


COMMON = {"in", "of", "and", "x", "y", "z", "u", "noise"}       # words of names that say too little


def words(name):
    return set(re.findall("[a-z]+", name.lower())) - COMMON


def without_dependent(found, theirs):
    """The quantities, without those that differ and share a word with an input that nothing reads: they depend on it."""
    inputs = [key for key in theirs if key.startswith("in/") and key not in theirs.answered]
    kept = {}
    for name, value in found.items():
        shared = [key for key in inputs if words(key.removeprefix("in/")) & words(name)]
        if shared and f"out/{name}" in theirs and not value_of(value) <= ALLOWED:
            theirs.answered.discard(f"out/{name}")
            theirs.leave([f"out/{name}"], f"it depends on {shared[0]}, which nothing here reads")
        else:
            kept[name] = value
    return kept


def value_of(value):
    return value.measure if isinstance(value, Difference) else value


# -- what a file does not say -----------------------------------------------------------------------------------------

NEAR = 2.0**-20                         # of another reading, results differ by much more


def nearest(readings, theirs):
    """The first of the readings ({keys that it reads}, our result) that agrees with an array of theirs, or else the nearest one.

    A file need not say which of its inputs a result belongs to.  Readings differ by far more than rounding, so that agreement
    tells them apart; where none agrees, the result differs in all of them.
    """
    tried = []
    for keys, given in readings:
        far = np.abs(np.asarray(given) - theirs) / (1 + np.abs(theirs)) if np.shape(given) == np.shape(theirs) else np.inf
        tried.append((float(np.nan_to_num(np.max(far, initial=0), nan=np.inf)), keys, given))
        if tried[-1][0] < NEAR:
            break
    if not tried:
        raise Lacking("nothing says what its results are of")
    return min(tried, key=lambda one: one[0])[1:]


# The names of a cotangent: w or wz of z, wl of the log-det, or one of these words before or behind the letter.
COTANGENT = r"(?:w|ct|cot|cotangent|weight|weights|bar)"
OF = {"z": "(?:z|y|x|out|output)", "l": "(?:l|ld|ldj|logdet|log_det|logdets)"}


def name_of_cotangent(theirs, of):
    """The key of the cotangent of z, which may lack the letter, or, for "l", of the log-det; None if there is none."""
    pattern = rf"in/(?:{COTANGENT}_?{OF[of]}|{OF[of]}_?{COTANGENT}" + (f"|{COTANGENT})" if of == "z" else ")")
    return next((key for key in sorted(theirs, key=len) if re.fullmatch(pattern, key)), None)


def cotangents(theirs):
    """The cotangents of z and of the log-det, whatever their names; (None, None) if one is not there, and then it is said what is
    left out.
    """
    keys = [name_of_cotangent(theirs, of) for of in "zl"]
    if None in keys:
        without = [key for key in theirs if re.match("grad|out/loss", key)] + [key for key in keys if key]
        theirs.leave(without, "the file lacks a cotangent, in/wz or in/wl")
        return None, None
    return tuple(theirs[key] for key in keys)


def runs_of(config, word):
    """[(its number or name, its arguments)] of the lists of a configuration whose names hold one of the words `a|b`."""
    for key, held in config.items():
        if re.search(word, key) and isinstance(held, (list, dict)) and held:
            plain = isinstance(held, dict) and not any(isinstance(value, (dict, list)) for value in held.values())
            yield from held.items() if isinstance(held, dict) and not plain else enumerate([held] if plain else held)


# -- arrays that say yes or no ----------------------------------------------------------------------------------------

def checked_mask(mask):
    """A mask of theirs as booleans.  ValueError for numbers other than 0 and 1."""
    wrong = np.asarray(mask)[(mask != 0) & (mask != 1)]
    if wrong.size:
        raise ValueError(f"a mask of theirs holds {wrong[0]}, which is neither 0 nor 1")
    return np.asarray(mask, bool)


def order_of(P):
    """The order of a matrix of theirs that permutes.  ValueError if it does not."""
    order = np.argmax(P, -1)
    if not np.array_equal(np.eye(len(P))[order], P) or len(set(order.tolist())) < len(order):
        raise ValueError(f"P must be a permutation of {len(P)} rows: {np.asarray(P).tolist()}")
    return order


# -- entry by entry ---------------------------------------------------------------------------------------------------

def relative(given, theirs):
    """|given - theirs| / |theirs| of each entry, 0 where they are equal; True counts as 1."""
    given, theirs = (array * 1 if array.dtype == bool else array for array in (given, theirs))
    with np.errstate(all="ignore"):
        return np.where(given == theirs, 0, np.abs(given - theirs) / np.abs(theirs))


def difference(given, theirs):
    """The largest relative difference of two arrays; infinite if the shapes differ."""
    given, theirs = np.asarray(given), np.asarray(theirs)
    return np.inf if given.shape != theirs.shape else float(relative(given, theirs).max(initial=0))


def largest(given, theirs):
    """The largest difference over two dictionaries of arrays; infinite if their keys differ."""
    if given.keys() != theirs.keys():
        return np.inf
    return worst(difference(given[key], theirs[key]) for key in theirs)


def worst(differences):
    """The largest of them; NaN if one is."""
    return float(np.max(list(differences), initial=0))


# -- entries that cannot be measured by themselves --------------------------------------------------------------------

class Pair(NamedTuple):
    """Ours and theirs of one quantity, {name: array} each.

    `zeros`: entries that are 0 in exact arithmetic, or what else `why` says of them, {name: array of booleans}; these are
    measured relative to `size`, and `beside` says what that is.  `terms`: the magnitudes of what each entry was added up from,
    {name: array}; an entry is right if it differs by roundings of these, however much of them cancels.  `absolute`: the absolute
    difference that is allowed where the source itself computed in float32, and `beside` says what it computed so; 0 elsewhere.
    """

    given: dict
    theirs: dict
    zeros: dict = {}
    size: float = 1.0
    beside: str = ""
    absolute: float = 0.0
    why: str = "are 0 in exact arithmetic"
    terms: dict = {}


class Difference(NamedTuple):
    """`entrywise`: the largest relative difference of an entry; `measure`: the same, in the units given by `reason`, of
    which `allowed` are allowed.
    """

    entrywise: float
    measure: float
    reason: str = ""
    allowed: float = ALLOWED

    relative = property(lambda self: self.allowed == ALLOWED)


def pair(given, theirs):
    """A quantity that is one array."""
    return Pair({"": np.asarray(given)}, {"": np.asarray(theirs)})


def gradient_in(theirs, name, value):
    """{quantity: Pair} of the gradient by an input, if the file has one: of data for x, and of the text for y."""
    if f"gradin/{name}" not in theirs:
        return {}
    return {f"gradient of {NAMED.get(name, name)}": pair(value, theirs[f"gradin/{name}"])}


NAMED = {"x": "data", "y": "the text"}


def gradients(given, theirs):
    """Gradients of a loss in parameters: some are 0 in exact arithmetic, as for a bias that a normalisation removes again, and
    others are small beside the largest gradient, of which a few roundings are left in them.
    """
    size = max((np.abs(array).max(initial=0) for array in theirs.values()), default=0.0)
    zeros = {name: (np.abs(given[name]) <= ZERO * size) & (np.abs(theirs[name]) <= ZERO * size)
             for name in theirs if name in given and given[name].shape == theirs[name].shape}
    terms = {name: np.full(zero.shape, size) for name, zero in zeros.items()}
    return Pair(given, theirs, zeros, size, "the largest gradient", terms=terms)


def judged(pairs, again=None):
    """{quantity: Difference}.  `again(rng)`: {quantity: Pair} once more, with nudged inputs."""
    runs = []

    def nudged(quantity):
        if again and not runs:
            runs.extend(again(np.random.default_rng(i)) for i in range(NUDGES))
        return [run[quantity].given for run in runs]

    return {quantity: judgement(pair, lambda quantity=quantity: nudged(quantity)) for quantity, pair in pairs.items()}


def judgement(pair, nudged):
    if pair.given.keys() != pair.theirs.keys() or not pair.theirs:
        return Difference(np.inf, np.inf, f"not given by both: {listed(pair.given.keys() ^ pair.theirs.keys()) or 'any'}")
    wrong = [name for name in pair.theirs if np.shape(pair.given[name]) != np.shape(pair.theirs[name])]
    if wrong:
        return Difference(np.inf, np.inf, f"other shapes: {listed(wrong)}")
    entries = {name: relative(np.asarray(pair.given[name]), np.asarray(pair.theirs[name])) for name in pair.theirs}
    entrywise, reasons = worst(e.max(initial=0) for e in entries.values()), []
    if pair.absolute:
        apart = worst(np.abs(pair.given[name] - pair.theirs[name]).max(initial=0) for name in pair.theirs)
        return Difference(entrywise, apart, f"{pair.beside}: an absolute difference, {pair.absolute:.0e} allowed", pair.absolute)
    if not entrywise <= ALLOWED:
        measured_as_zeros(pair, entries, reasons)
        measured_as_sums(pair, entries, reasons)
    if any(excusable(entry).any() for entry in entries.values()):
        measured_by_condition(pair, entries, nudged(), reasons)
    return Difference(entrywise, worst(e.max(initial=0) for e in entries.values()), "; ".join(reasons))


def measured_as_sums(pair, entries, reasons):
    """Entries that differ by at most ROUNDINGS of each of their terms."""
    unit = ROUNDINGS * np.finfo(np.float64).eps / 2
    right = {name: (entries[name] > ALLOWED) & (np.abs(pair.given[name] - pair.theirs[name]) <= unit * terms)
             for name, terms in pair.terms.items()}
    for name, rounded in right.items():
        entries[name] = np.where(rounded, 0, entries[name])
    cancelled = [name for name, rounded in right.items() if rounded.any()]
    if cancelled:
        reasons.append(f"entries of {listed(cancelled)} are sums that cancel, and differ by roundings of their terms")


def measured_as_zeros(pair, entries, reasons):
    """Differences of entries that are 0 in exact arithmetic, relative to the pair's size."""
    found = {name: zero for name, zero in pair.zeros.items() if (zero & (entries[name] != 0)).any()}
    if any((zero & ~(entries[name] <= ALLOWED)).any() for name, zero in found.items()):
        for name, zero in found.items():
            entries[name] = np.where(zero, np.abs(pair.given[name] - pair.theirs[name]) / pair.size, entries[name])
        reasons.append(f"entries of {listed(found)} {pair.why}, and measured relative to {pair.beside}")


def excusable(entry):
    """The differences that rounding could explain at all."""
    return (ALLOWED < entry) & (entry <= ROUNDING * WORST_CONDITION)


def measured_by_condition(pair, entries, runs, reasons):
    """Differences relative to kappa, the change of an entry per relative change of all inputs."""
    found, most = [], 1.0
    for name, entry in entries.items():
        over = excusable(entry)
        if not over.any() or not runs:
            continue
        given, theirs = pair.given[name], pair.theirs[name]
        with np.errstate(all="ignore"):
            moved = np.max([np.abs(run[name] - given) for run in runs], 0) / NUDGE
            kappa = np.abs(theirs) + moved
            fair = np.abs(given - theirs) / kappa
            excused = over & (fair <= ROUNDING) & (kappa <= WORST_CONDITION * np.abs(theirs))
            most = max(most, (kappa / np.abs(theirs)).max(initial=1, where=excused))
        entries[name] = np.where(excused, fair, entry)
        found += [name] if excused.any() else []
    if found:
        of = f" of {listed(found)}" if any(found) else ""
        reasons.append(f"entries{of} are ill-conditioned, as differences and exponentials can be, measured relative to kappa, "
                       f"up to {most:.0e} times the entry")


def nudged(found, rng):
    """The numbers that go in, each changed by a relative NUDGE towards 0 or not; pixels, masks and permutations are not."""
    def changed(key, array):
        goes_in = key.startswith(("param/", "buffer/", "in/", "before/")) and array.dtype.kind == "f"
        whole = not goes_in or np.array_equal(array, np.rint(array))
        return array if whole else array * (1 - NUDGE * rng.choice((0, 1), array.shape))

    return Numbers({key: changed(key, array) for key, array in found.items()})


def listed(names, most=2):
    names = sorted(name for name in names if name)
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
