"""python -m validation.black_box: are the laws of a black box silent on correct implementations?

Right maps are wrapped as black boxes and every law is asked: refflow's own bijectors in float64 and float32, torch's
transforms and flows written by hand in torch, at random weights, in float64, float32 and bfloat16 (extra `peers`), and maps
that go through ill-conditioned numbers and back.  Every alarm is printed with its seed, and counts by law follow.

    python -m validation.black_box --kind foreign [--library NAME]      the maps of other libraries, see `validation.foreign`

    python -m validation.black_box --write      foreign/table.md, from the answers that are kept; nothing is asked

Each library is asked in an environment of its own.  Where the library is wrong and not the law, the alarm is printed apart with its
reason: `foreign.judged` holds the library's numbers at the failing place to the truth at 50 digits, and `foreign.losses` says why
they are lost; what no number shows is listed in `foreign.true_alarms`.

Exit status: 0; 1 if there is another alarm, or if a listed one is silent.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys

import numpy as np

from refflow import Affine, Chain, DenseLinear, Independent, Inverse
from refflow.accuracy.drawing import drawn_fields, event_shapes, example, has_examples, plain_choices
from refflow.core.boundary import valid_positions
from refflow.core.registry import of_kind
from refflow.core.source import RandomSource
from refflow.maps import load_all
from refflow.oracle.boxes.black_box import BlackBox
from refflow.oracle.boxes.black_box_points import ALLOWED
from validation.foreign import table as foreign_table
from validation.foreign.asking import VERSIONS, kept_answers
from validation.foreign.asking import answers as foreign_answers
from validation.foreign.judged import judged
from validation.foreign import losses_in_jax, losses_in_torch  # noqa: F401  (each adds its losses)
from validation.foreign.losses import LOSSES, loss_of
from validation.foreign.true_alarms import TRUE_ALARMS
from validation.foreign.witness import answer_of

DTYPES = ("float64", "float32")
SPREAD = 2                              # parameters from 2^-2 to 2^2
SIZES = (1, 2, 3)
LEFT_OUT = {"Squeezed": "of an odd number of positions, it drops one", "CircularShift": "it is a map of circles, not of lines"}
HERE = ("own", "torch", "flows", "ill-conditioned")


def main(arguments=None):
    options = parser().parse_args(arguments)
    if options.write:
        foreign_table.TABLE.write_text(foreign_table.text(VERSIONS, kept()), encoding="utf-8")
        return 0
    kinds = options.kind or (["foreign"] if options.library else HERE)
    found = trials(kinds, options.draws, options.budget, options.seed, options.only, options.library or VERSIONS,
                   shown=None if options.json else print, again=options.again)
    print(json.dumps(found, indent=1) if options.json else table(found))
    return 1 if found["alarms"] or found["silent"] else 0


def parser():
    one = argparse.ArgumentParser(prog="python -m validation.black_box", description=__doc__.split("\n\n")[0])
    one.add_argument("--draws", type=int, default=1, metavar="N", help="seeds, each of which makes every box once")
    one.add_argument("--budget", type=float, default=900, metavar="S", help="stop after this many seconds of CPU")
    one.add_argument("--seed", type=int, default=0, help="the first seed")
    one.add_argument("--kind", choices=(*HERE, "foreign"), action="append", help="only boxes of this kind; by default, all but foreign")
    one.add_argument("--library", choices=VERSIONS, action="append", help="only foreign boxes of this library")
    one.add_argument("--only", metavar="NAME", help="only the box of this name")
    one.add_argument("--again", action="store_true", help="ask foreign boxes whose answers are kept again")
    one.add_argument("--write", action="store_true", help="ask nothing: write foreign/table.md from the answers that are kept")
    one.add_argument("--json", action="store_true", help="counts and alarms as JSON")
    return one


def trials(kinds, draws, budget, first=0, only=None, libraries=(), shown=None, again=False):
    """{"verdicts": {law: {status: count}}, "draws": {dtype: events}, "boxes", "seeds", "alarms", "true alarms", "silent",
    "not made"}; "silent" are the entries of TRUE_ALARMS that no alarm shows."""
    total = Total(shown)
    for seed in range(first, first + draws):
        for kind in kinds:
            for library in libraries if kind == "foreign" else (None,):
                for answer in foreign_answers(library, seed, only, again) if library else answers(kind, seed, only):
                    if only in (None, answer["box"]):
                        total.add(answer, kind, library)
                    if total.seconds > budget:
                        return total.summary()
                total.finished += [(library, seed)] if only is None else []
        total.seeds += 1
    return total.summary()


def kept():
    """{library: (the summary of the answers that are kept, how many seeds, how many maps)}."""
    found = {}
    for library in VERSIONS:
        total, seeds = Total(), kept_answers(library)
        for answer in (one for of_seed in seeds.values() for one in of_seed):
            total.add(answer, "foreign", library)
        found[library] = total.summary(), len(seeds), len({name for _, name, _, _ in total.asked})
    return found


def answers(kind, seed, only):
    """The answers of the boxes of a kind that are made in this process."""
    for name, dtype, make in BOXES[kind]():
        if only in (None, name):
            yield answer_of(name, dtype, seed, make)


class Total:
    """The counts of all answers, and their alarms: of the laws, or of a library."""

    def __init__(self, shown=None):
        self.shown, self.seconds, self.boxes, self.seeds = shown or (lambda text: None), 0, 0, 0
        self.counts, self.draws, self.unmade = collections.defaultdict(collections.Counter), collections.Counter(), collections.Counter()
        self.alarms, self.true_alarms, self.finished, self.asked, self.losses = [], [], [], [], set()

    def add(self, answer, kind, library=None):
        name, dtype, seed = answer["box"], answer["dtype"], answer["seed"]
        self.seconds += answer["seconds"]
        if "unmade" in answer:
            self.unmade[f"{name}: {answer['unmade']}"] += 1
            return
        self.boxes += 1
        self.draws[answer["precision"]] += answer["draws"]
        self.asked.append((library, name, dtype, seed))
        for law, status, text, *shown in answer["verdicts"]:
            self.counts[law][status] += 1
            if status == "FAIL":
                alarm = {"kind": kind, "box": name, "dtype": dtype, "seed": seed, "law": law, "text": text,
                         "witness": next(iter(shown), None)}
                self.tell(alarm | {"library": library} if library else alarm)

    def tell(self, alarm):
        shown, reason = self.judgement(alarm), TRUE_ALARMS.get(key_of(alarm))
        told = {name: part for name, part in alarm.items() if name != "witness"}
        if shown is not None:
            told["judgement"] = str(shown)
            loss = loss_of(alarm["library"], alarm["box"], shown.quantity) if shown.C > ALLOWED else None
            self.losses |= {(loss.library, loss.text)} if loss else set()
            reason = loss or reason
        self.alarms += [] if reason else [told]
        self.true_alarms += [told | {"reason": reason.text}] if reason else []
        if not reason:
            whose = "" if shown is None else f" [{shown}{'; a loss without a reason' * (shown.C > ALLOWED)}]"
            self.shown(f"{alarm.get('library', '')} {alarm['box']} {alarm['dtype']} seed {alarm['seed']}: {alarm['law']}: "
                       f"{alarm['text']}{whose}".strip())

    @staticmethod
    def judgement(alarm):
        """What the numbers of a foreign map say at the failing place; None if there are none, or no equation."""
        return judged(alarm["library"], alarm["box"], alarm["dtype"], alarm["witness"]) if alarm.get("witness") else None

    def silent(self):
        """Entries of TRUE_ALARMS and LOSSES whose map was asked at their seed, or is missing from its library, and did not alarm."""
        shown = {key_of(alarm) for alarm in self.true_alarms}
        of_laws = [key for key, reason in TRUE_ALARMS.items() if key not in shown
                   and ((*key[:3], reason.seed) in self.asked or (key[0], reason.seed) in self.finished)]
        return of_laws + [(loss.library, loss.text) for loss in LOSSES
                          if (loss.library, loss.text) not in self.losses and (loss.library, loss.seed) in self.finished]

    def summary(self):
        return {"verdicts": {law: dict(found) for law, found in self.counts.items()}, "draws": dict(self.draws), "boxes": self.boxes,
                "seeds": self.seeds, "seconds": round(self.seconds), "alarms": self.alarms, "true alarms": self.true_alarms,
                "silent": self.silent(), "not made": dict(self.unmade)}


def key_of(alarm):
    return alarm.get("library"), alarm["box"], alarm["dtype"], alarm["law"]


def table(found):
    """The counts, for people."""
    lines = [f"{'law':<50}{'pass':>7}{'alarm':>7}{'skip':>7}"]
    for law, of in found["verdicts"].items():
        lines.append(f"{law:<50}{of.get('pass', 0):>7}{of.get('FAIL', 0):>7}{of.get('skip', 0):>7}")
    asked = sum(of.get("pass", 0) + of.get("FAIL", 0) for of in found["verdicts"].values())
    reasons, examples = collections.defaultdict(list), {}
    for alarm in found["true alarms"]:
        reasons[f"{alarm['library']}: {alarm['reason']}"].append(f"{alarm['box']} {alarm['dtype']}")
        if "judgement" in alarm:
            examples.setdefault(f"{alarm['library']}: {alarm['reason']}", f"\n    {alarm['box']}: {alarm['judgement']}")
    for reason, boxes in reasons.items():
        lines.append(f"\n{reason}\n    {len(boxes)} true alarms: {', '.join(dict.fromkeys(boxes))}{examples.get(reason, '')}")
    lines.append(f"\n{found['boxes']} boxes, {asked} verdicts, {len(found['alarms'])} alarms"
                 f"{f' and {len(reasons)} reasons for ' + str(len(found['true alarms'])) + ' true ones' if reasons else ''}; "
                 f"{found['seeds']} whole seeds, {found['seconds']} seconds")
    lines += [f"{count} drawn events in {dtype}" for dtype, count in found["draws"].items()]
    lines += [f"listed as a true alarm, and silent: {', '.join(key)}" for key in found["silent"]]
    lines += [f"not made: {reason} ({count})" for reason, count in found["not made"].items()]
    return "\n".join(lines)


# -- refflow's own ----------------------------------------------------------------------------------------------------

def own():
    load_all()
    for name in of_kind("bijector"):
        for dtype in DTYPES:
            yield name, dtype, lambda seed, dtype, name=name: own_box(name, seed, dtype)


def own_box(name, seed, dtype):
    """A box of a page with drawn fields; of its inverse, if only its codomain is an interval; else the reason why not."""
    if name in LEFT_OUT:
        return LEFT_OUT[name]
    load_all()
    page, rng = of_kind("bijector")[name], np.random.default_rng([seed, *name.encode()])
    f, shape = drawn(page, RandomSource(rng))
    if valid_positions(f, 0) is not None:
        return "it has a mask: it is a map of the valid positions alone"
    f, wide = f.astype(np.dtype(dtype)), f.astype(np.float64)
    out = tuple(f.output_shape(shape))
    if f.domain.rank and f.codomain.rank:
        return "neither domain nor codomain is an interval"
    if f.domain.rank:
        f, wide, shape = Inverse(f), Inverse(wide), out
    moved = free_to_move(f)
    try:
        wider = box_of(wide, shape, "float64", moved) if dtype != "float64" else None
        return box_of(f, shape, dtype, moved, wider=wider)
    except ValueError as error:
        return str(error)


def free_to_move(f):
    """May all parameters be moved?  Not where an equation ties them, or where they are the ends of the domain."""
    vector = f.ravel()
    try:
        g = f.unravel(vector * (1 + 2.0**-12 * (-1.0) ** np.arange(vector.size)).astype(vector.dtype))
    except ValueError:
        return False
    return vector.size > 0 and all((one.lower, one.upper) == (other.lower, other.upper)
                                   for one, other in ((f.domain, g.domain), (f.codomain, g.codomain)))


def box_of(f, shape, dtype, moved=False, **more):
    """A box of a bijector, whose parameters are one vector if they may be moved."""
    vector = f.ravel().copy()

    def now():
        return f.unravel(vector) if moved else f

    return BlackBox(lambda z: now().forward_and_log_det(z), lambda x: now().inverse_and_log_det(x), event=shape,
                    log_det=lambda z: now().log_det(z), dtype=dtype, backend="numpy", parameters=[vector] if moved else None,
                    pullback=lambda z, x_bar, l_bar: now().vjp(z)[1](x_bar, l_bar)[0], domain=declared(f.domain),
                    codomain=declared(f.codomain), **more)


def declared(where):
    """A set that is not the whole line; None for the line."""
    return None if where.name in ("real", "extended_real") else where


def drawn(page, source):
    if has_examples(page):
        return example(page, source, np.float64)
    plain = source.choice(plain_choices(page))
    f = page(**plain | drawn_fields(page, source, np.float64, SPREAD, lambda letter: source.choice(SIZES), plain))
    return f, source.choice(event_shapes(f, SIZES))


# -- ill-conditioned --------------------------------------------------------------------------------------------------

def ill_conditioned():
    for condition in (2, 4, 6, 8, 10):
        yield f"a matrix of condition 1e{condition} and its inverse", "float64", \
            lambda seed, dtype, condition=condition: there_and_back(seed, 10.0**condition, dtype)


def there_and_back(seed, condition, dtype):
    """x = A^-1 (c A z), by two matrix pages: on the way back, the digits of the condition are lost."""
    rng = np.random.default_rng([seed, int(np.log10(condition))])
    D = int(rng.integers(2, 5))
    left, right = (np.linalg.qr(rng.standard_normal((D, D)))[0] for _ in range(2))
    held = {"matrix": left @ np.diag(np.logspace(0, -np.log10(condition), D)) @ right,
            "scale": np.exp(0.25 * rng.standard_normal(1))}

    def flow():
        first = DenseLinear(held["matrix"])
        return Chain([first, Independent(Affine(0.0, held["scale"]), 1), Inverse(first)])

    return BlackBox(lambda z: flow().forward_and_log_det(z), lambda x: flow().inverse_and_log_det(x), event=(D,),
                    parameters=held)


# -- torch ------------------------------------------------------------------------------------------------------------

def with_torch(kind):
    """The boxes of a function of validation.foreign.torch_flows; none without torch."""
    def boxes():
        try:
            from validation.foreign import torch_flows
        except ImportError:
            print("validation.black_box: torch is missing: pip install -e '.[peers]'", file=sys.stderr)
            return []
        return getattr(torch_flows, kind)()

    return boxes


BOXES = {"own": own, "torch": with_torch("transforms"), "flows": with_torch("flows"), "ill-conditioned": ill_conditioned}

if __name__ == "__main__":
    sys.exit(main())
