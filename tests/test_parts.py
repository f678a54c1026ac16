"""Pages in three parts: the map, the reverse rule, in floating point; and their textbooks, the equations as they are printed.

A page whose docstring has the headings is held to all of it.
"""

from __future__ import annotations

import ast
import builtins
import copy
import functools
import inspect
import math
import re
import sys
from fractions import Fraction
from pathlib import Path

import mpmath
import numpy as np
import pytest
from flint import arb, ctx

import refflow
from refflow.accuracy.drawing import Point
from refflow.book.leaf import leaf
from refflow.book.leaf import costs as leaf_costs
from refflow.book.pages import entries, entry_named
from refflow.book.lost import sentence
from refflow.book.parts import parts
from refflow.book.parts import moderate_text
from refflow.cli import main
from refflow.cli.show import printed as shown_parts
from refflow.cli.textbook import costs
from refflow.core.docstrings import joined_text, strings
from refflow.core.registry import of_kind
from refflow.laws.pages import CITED, DEFINED, KINDS, numbered
from refflow.maps import load_all
from refflow.maps.conditioners import weight_normalised_blocks
from refflow.maps.densities.gammas import log_gamma_variables
from refflow.maps.normalization import batch_norm
from refflow.maps.splines.bins import Tails
from refflow.truth.balls import Dual, ball, constant, seen_from
from refflow.truth.ends import is_end
from refflow.truth.engine import EVENT, Handing, Inputs, flatten, nest
from refflow.truth.measure import problem
from validation.certify import sides, truth
from validation.points.kinds import GENERATORS
from validation.points.code import plain_function
from validation.points.drawn import Draw
from validation.records.textbooks import (
    METHODS, Costs, answers, changed as changed_costs, cost, fields_of, flat, in_dtype, plain, stored, with_numbers)

load_all()
PAGES = of_kind(*KINDS)
HEADINGS = ("The map.  ", "The reverse rule.  ", "In floating point.")
OTHERWISE = ("At the ends", "Beyond the knots")                    # how a paragraph of the third part may begin without a number
SECTIONS = ["# -- the map --", "# -- the reverse rule --", "# -- in floating point --"]
CAREFUL = {"expm1", "log1p", "hypot", "logaddexp", "ldexp", "frexp", "finfo", "doubled", "log_abs_product", "product_apart",
           "exact_sum", "exact_product", "expansion", "xlogy", "apart", "scaled", "unit_scaled", "sum_products"}
CARE = CAREFUL | {"where", "clip", "maximum", "minimum", "errstate", "nan_to_num", "isfinite", "log1mexp", "logsumexp", "softmax",
                  "expit", "log_expit", "cbrt", "vecdot"}
BARS = {("bijector", False): ["x_bar", "l_bar"], ("bijector", True): ["z_bar", "l_bar"], ("conditioner", False): ["h_bar"],
        ("scale", False): ["sigma_bar", "l_bar"], ("density", False): ["b"]}
DIGITS = 240                    # so many that 50 are left where a printed formula cancels at a moderate event
AGREE, ZERO = mpmath.mpf(10) ** -45, mpmath.mpf(10) ** -120       # of kappa; of the point's largest, for a truth of 0
EACH, OF_SOLVERS = 20, 5        # moderate points of a side, besides its hard cases; where each needs a thousand bisections


class Text:
    """A page's module: its text by parts, its lines, and which of them belong to the textbook or the definition."""

    def __init__(self, source):
        self.tree, self.lines = ast.parse(source), source.splitlines()
        self.doc, self.strings = joined_text(source), [held for held in strings(source) if held]
        self.books = {given.value.id for node in self.tree.body if isinstance(node, ast.ClassDef)
                      for call in node.decorator_list if isinstance(call, ast.Call)
                      for given in call.keywords if given.arg == "textbook"}

    @property
    def headed(self):
        return [heading for heading in HEADINGS if re.search(rf"^{heading}", self.doc, re.M)]

    def parts(self):
        """The texts of the title and of the parts, up to the source."""
        body = re.split(r"^Source: ", self.doc, flags=re.M)[0]
        return re.split(rf"^(?:{'|'.join(HEADINGS)})", body, flags=re.M)

    def numbers(self):
        """The numbers of the equations in the title and in each part."""
        return [numbered(DEFINED, part) for part in self.parts()]

    def inside(self, wanted):
        """The numbers of the lines inside the nodes that are wanted."""
        return {line for node in ast.walk(self.tree) if wanted(node) for line in range(node.lineno, node.end_lineno + 1)}

    def of_textbook(self):
        return self.inside(lambda node: isinstance(node, ast.ClassDef) and node.name in self.books)

    def of_definition(self):
        return self.inside(lambda node: isinstance(node, ast.FunctionDef) and node.name == "definition")

    def cited(self, lines):
        return {n for i in lines for n in numbered(CITED, self.lines[i - 1])}

    def code(self):
        return set(range(1, len(self.lines) + 1)) - {i for held in self.strings for i in range(held.lineno, held.end_lineno + 1)}


def text_of(page):
    return Text(inspect.getsource(sys.modules[page.__module__]))


IN_PARTS = [name for name, page in PAGES.items() if text_of(page).headed]


def test_how_many_pages_have_the_form(capsys):
    with capsys.disabled():
        print(f"[{len(IN_PARTS)} of {len(PAGES)} pages in three parts]", end=" ")
    assert IN_PARTS


# -- what a text lacks --------------------------------------------------------------------------------------------------

def misplaced(text) -> list[str]:
    """Headings, numbers, openings and citations that are not where they should be."""
    if text.headed != list(HEADINGS[:max(2, len(text.headed))]):
        return ["the headings are not in order"]
    title, *parts = text.numbers()
    flat = [n for numbers in parts for n in numbers]
    found = ["an equation before the first part"] if title else []
    found += [] if flat == list(range(1, len(flat) + 1)) else ["numbers do not ascend"]
    sections = [section for line in text.lines for section in SECTIONS if line.strip().startswith(section)]
    found += [] if sections in (SECTIONS, SECTIONS[:2]) or sections == [] and not text.books else \
        ["the sections of the code are not in order"]
    printed = set(parts[0] + parts[1])
    guarded = set(parts[2]) if len(parts) > 2 else set()
    believed = text.of_textbook() | text.of_definition()
    uncited_there = printed - text.cited(believed) if text.books else ()
    found += [f"({n}) is cited by no line of the textbook or the definition" for n in uncited_there]
    found += [f"({n}) is cited inside the textbook or the definition" for n in guarded & text.cited(believed)]
    return found + openings(text, printed)


def unturned(text) -> list[str]:
    """What does not stand where it should: the textbook before all code, the third part above the first page, below the textbook."""
    if not text.books:
        return []
    body, third = text.tree.body, text.strings[-1]
    code = next(node for node in body if isinstance(node, (ast.ClassDef, ast.FunctionDef)))
    found = [] if code.name in text.books else ["the textbook is not the first thing after imports and constants"]
    if len(text.strings) != 2 or not third.value.startswith(HEADINGS[2]):
        return [*found, "the third part is not a string of its own"]
    below = next(node for node in body if node.lineno > third.end_lineno)
    return found if below is next(node for node in body if kinds_of(node) & set(KINDS)) else [*found, "the third part is not above the first page"]


def kinds_of(node):
    """The names of the functions whose results decorate a class."""
    return {getattr(call.func, "id", "") for call in getattr(node, "decorator_list", ()) if isinstance(call, ast.Call)}


def openings(text, printed):
    """Paragraphs of the third part begin with the equation that they guard."""
    third = text.parts()[3] if len(text.headed) > 2 else ""
    found = [] if third[:2] in ("", "\n\n") else ["the third part does not open as it should"]
    for paragraph in third.strip().split("\n\n") if third else ():
        opening = re.match(r"In \((\d+)\)", paragraph)
        if not (opening and int(opening[1]) in printed) and not paragraph.startswith(OTHERWISE):
            found.append(f"a paragraph opens {paragraph[:20]!r}")
    return found


def uncited(text) -> list[str]:
    """Statements outside the textbook and the definition that take care without an equation of the third part."""
    guarded = set(text.numbers()[3]) if len(text.headed) > 2 else set()
    apart, found = text.of_textbook() | text.of_definition(), []
    for node in ast.walk(text.tree):
        lines = range(node.lineno, node.end_lineno + 1) if isinstance(node, (ast.Assign, ast.AugAssign, ast.Return)) else ()
        if lines and node.lineno not in apart and called(node) & CAREFUL and not text.cited(lines) & guarded:
            found.append(f"line {node.lineno} takes care")
    return found


def attributes(node):
    return {inner.attr for inner in ast.walk(node) if isinstance(inner, ast.Attribute)}


def called(node):
    functions = [inner.func for inner in ast.walk(node) if isinstance(inner, ast.Call)]
    return {getattr(function, "attr", None) or getattr(function, "id", None) for function in functions}


def careful(text) -> list[str]:
    """What a textbook should not use, and lines outside that use it."""
    books = [node for node in text.tree.body if isinstance(node, ast.ClassDef) and node.name in text.books]
    found = [f"the textbook uses {name}" for book in books for name in sorted(attributes(book) & CARE)]
    own = {arg.arg for book in books for node in ast.walk(book) if isinstance(node, ast.arguments)
           for arg in node.args + ([node.vararg] if node.vararg else [])}
    names = [node for book in books for node in ast.walk(book) if isinstance(node, ast.Name)]
    own |= {node.id for node in names if isinstance(node.ctx, ast.Store)}
    used = {node.id for node in names}
    found += [f"the textbook uses {name}" for name in sorted(used - own - text.books - {"np", "scipy"} - set(vars(builtins)))]
    outside = [node for node in ast.walk(text.tree) if isinstance(node, ast.Name) and node.id in text.books]
    inside = text.of_textbook() | {line for node in text.tree.body if isinstance(node, ast.ClassDef)
                                   for call in node.decorator_list for line in range(call.lineno, call.end_lineno + 1)}
    return found + [f"line {node.lineno} names the textbook" for node in outside if node.lineno not in inside]


@pytest.mark.parametrize("name", IN_PARTS)
def test_a_page_in_three_parts(name):
    text, page = text_of(PAGES[name]), PAGES[name]
    assert misplaced(text) + unturned(text) + uncited(text) + careful(text) == []
    guarded = set(text.numbers()[3]) if len(text.headed) > 2 else set()
    cited = text.cited(text.code() - text.of_textbook())
    assert bool(guarded & cited) == (page.textbook is not None)


@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if page.textbook])
def test_a_textbook_has_all_functions_with_the_names_of_the_fields(name):
    page = PAGES[name]
    assert name in IN_PARTS
    book, fields = vars(page.textbook), list(page.declared)
    for side in sides(page):
        back, methods = side == "inverse", METHODS[page.kind, side]
        for function in (*methods.values, methods.vjp):
            bars = bars_of(page, back) if function == methods.vjp else []
            function = "slope" if function == "jacobian" and page.event_ndim == (0, 0) else function
            assert list(inspect.signature(book[function]).parameters) == [page.letters[back], *fields, *bars], function


def bars_of(page, back):
    """The names of the cotangents that a vjp takes."""
    return [f"{key}_bar" for key in page.names] if page.kind == "parametrisation" else BARS[page.kind, back]


def test_no_page_calls_a_textbook():
    """Only what prints a page reads it, what makes the truth of it, what asks whether it is there, and what says what its equations cost."""
    package = Path(refflow.__file__).parent
    reading = {path.name for path in package.rglob("*.py") if re.search(r"\w\.textbook\b", path.read_text())}
    assert reading == {"pages.py", "parts.py", "printed.py", "textbook.py", "figures.py", "floats.py"}


@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if getattr(page, "hard_cases", ())])
def test_numbers_in_the_reasons_of_hard_cases_exist(name):
    defined = set(numbered(DEFINED, text_of(PAGES[name]).doc))
    assert stale(PAGES[name].hard_cases, defined) == []


def stale(cases, defined):
    return [(case.name, n) for case in cases for n in re.findall(r"(?<!\w)\((\d+)\)", case.reason) if int(n) not in defined]


# -- the textbook is right ------------------------------------------------------------------------------------------------

class Exact:
    """NumPy's functions of arrays of numbers of mpmath, and SciPy's normal distribution and gamma function."""

    pi = mpmath.pi
    special = property(lambda self: self)

    def ndtri(self, x):
        return mpmath.sqrt(2) * mpmath.erfinv(2 * x - 1)

    def __getattr__(self, name):
        names = {"arctan": "atan", "arccos": "acos", "arcsin": "asin", "arcsinh": "asinh", "arctanh": "atanh", "abs": "fabs", "ndtr": "ncdf",
                 "gammaln": "loggamma", "psi": "digamma", "erf": "erf", "erfinv": "erfinv"}
        held = getattr(mpmath, names.get(name, name), None)
        if name in ("exp", "log", "sqrt", "tanh", "sinh", "cosh", "sin", "cos", "tan", "abs", *names):
            return np.frompyfunc(held, 1, 1)
        return getattr(np, name)


class Component:
    """A component in numbers of mpmath: its map by its definition, its derivatives by dual numbers, and its own fields."""

    def __init__(self, f):
        self.f = f

    @functools.cached_property
    def problem(self):
        return problem(self.f)

    def __getattr__(self, name):
        return to_mpmath(getattr(self.f, name))

    def vjp(self, a):
        inputs = Inputs(self.problem, 1, np.float64)
        with ctx.workdps(mpmath.mp.dps):
            event = inputs.add("event", np.asarray(np.frompyfunc(to_ball, 1, 1)(a), object).tolist())
            inputs.add_fields()
            h, shape = flatten(self.problem.definition(Handing(inputs), nest(*event), **inputs.fields))
            h = [seen_from(1, constant(entry)) for entry in h]
        slopes = [{j: from_ball(slope) for j, slope in slopes.items()} for _, slopes in h]

        def pullback(h_bar):
            bars = {name: filled([sum(bar * of_h.get(j, 0) for bar, of_h in zip(h_bar.ravel(), slopes)) for j in span], shape)
                    for name, (span, shape) in inputs.spans.items()}
            return bars.pop("event"), bars

        return filled([from_ball(value) for value, _ in h], shape), pullback

    def jvp(self, a, A_dot):
        """The tangents are directions of dual numbers, whose parts are the dual numbers of the inputs."""
        inputs = Inputs(self.problem, 1, np.float64)
        with ctx.workdps(mpmath.mp.dps):
            event, shape = inputs.add("event", np.asarray(np.frompyfunc(to_ball, 1, 1)(a), object).tolist())
            inputs.add_fields()
            rows = [dict(enumerate(map(to_ball, row))) for row in A_dot]
            moving = nest([Dual(entry, row, EVENT) for entry, row in zip(event, rows)], shape)
            h, out = flatten(self.problem.definition(Handing(inputs), moving, **inputs.fields))
            pushed = [seen_from(EVENT, constant(entry)) for entry in h]
            both = [seen_from(1, constant(q)) for value, of in pushed for q in (value, *(of.get(k, 0) for k in range(A_dot.shape[1])))]
        slopes = [{j: from_ball(slope) for j, slope in slopes.items()} for _, slopes in both]
        values, J = np.array([from_ball(value) for value, _ in both], object).reshape(len(h), -1), self.jacobian(a)

        def pullback(h_bar, H_bar):
            bars = np.concatenate([h_bar.reshape(-1, 1), H_bar], 1).ravel()
            found = {name: filled([sum(bar * of.get(j, 0) for bar, of in zip(bars, slopes)) for j in span], shape)
                     for name, (span, shape) in inputs.spans.items()}
            return found.pop("event"), J.T @ H_bar, found

        return (filled(values[:, 0], out), values[:, 1:]), pullback

    def forward(self, a):
        return self.vjp(a)[0]

    def jacobian(self, a):
        h, pullback = self.vjp(a)
        return filled([pullback(one)[0].ravel() for one in np.eye(h.size, dtype=int)], (h.size, a.size))


class ScaleComponent(Component):
    """A scale in such numbers, at each entry of an array s."""

    def vjp(self, s):
        each = [super(ScaleComponent, self).vjp(np.array(s_j)) for s_j in s.ravel()]
        names = set(self.problem.fields) - self.problem.constants

        def pullback(*bars):
            found = [of_one(np.array(bar)) for (_, of_one), *bar in zip(each, *map(np.ravel, bars))]
            return filled([s_bar[()] for s_bar, _ in found], s.shape), {name: sum(bars[name] for _, bars in found) for name in names}

        return tuple(filled([values[i] for values, _ in each], s.shape) for i in range(2)), pullback

    def log(self, s):
        return self.vjp(s)[0][1]


def filled(entries, shape):
    return np.array(entries, object).reshape(shape)


def to_ball(number):
    sign, mantissa, exponent, _ = mpmath.mpf(number)._mpf_
    return arb((-1) ** sign * int(mantissa)) * arb(2) ** exponent


def from_ball(number):
    return mpmath.ldexp(*(int(part) for part in ball(number).mid().man_exp()))


def to_mpmath(array):
    return np.frompyfunc(lambda v: mpmath.mpf(float(v)), 1, 1)(array)


@functools.cache
def asked(page, side):
    """The hard cases, without ends, where the truth is a limit, and moderate points, as the certificate draws them."""
    draw = GENERATORS.get(page.kind, Draw)(page, np.float64, side)
    solved = side == "inverse" and page.solver
    found = [p for p in draw.hard_points() if p.image_bar is not None and not (
        page.kind == "bijector" and is_end(p.f, side, p.event))] if not solved else []
    wanted = len(found) + (OF_SOLVERS if solved else EACH)
    while len(found) < wanted:
        f, shape = draw.value(False)
        found += [p for p in draw.point(f, draw.event(f, shape, "moderate"), False, "", "") if p.image_bar is not None]
    return found


@mpmath.workdps(DIGITS)
def disagreements(point, book):
    """The quantities of which a textbook and the truth differ at a point.

    At a hard case, no textbook may have enough digits: what twice the digits change, or a division by 0, is left out there.
    What the truth says along tangents alone is compared along these.
    """
    book, true = with_numbers(book, Exact()), truth_at(point)
    if point.case and not true:                     # out of reach of the certificate
        return set()
    kappas = {name: [number(kappa) for kappa in quantity.kappa] for name, quantity in true.items()}
    floor = ZERO * max(kappa for of_entries in kappas.values() for kappa in of_entries)
    allowed = {name: [AGREE * kappa + floor for kappa in of_entries] for name, of_entries in kappas.items()}
    try:
        given = computed(point, book, DIGITS)
        found = {name for name, q in true.items()
                 if given[name].shape != q.shape or not near(given[name], map(number, q.value), allowed[name], q.tangents)}
        again = computed(point, book, 2 * DIGITS) if found and point.case else given
        return {name for name in found if near(given[name], again[name].ravel(), allowed[name], true[name].tangents)}
    except ZeroDivisionError:
        return set() if point.case else {"ZeroDivisionError"}


def computed(point, book, digits):
    with mpmath.workdps(digits):
        return answers(point, book, to_mpmath, component)


def component(held):
    if isinstance(held, tuple):
        return tuple(map(Component, held))
    return ScaleComponent(held) if held.kind == "scale" else Component(held)


def near(given, wanted, allowed, tangents=None):
    apart = [g - w for g, w in zip(given.ravel(), wanted, strict=True)]
    if tangents:
        F = [[number(entry) for entry in row] for row in tangents]
        apart, allowed = along(apart, F), along(allowed, F, abs)
    return all(abs(gap) <= a for gap, a in zip(apart, allowed, strict=True))


def along(numbers, F, size=lambda f: f):
    """F^T q for each row of numbers q."""
    rows = [numbers[i:i + len(F)] for i in range(0, len(numbers), len(F))]
    return [sum(q * size(f[j]) for q, f in zip(row, F)) for row in rows for j in range(len(F[0]))]


@functools.cache
def truth_at(point):
    return truth(point)


def number(ball):
    return mpmath.mpf(ball.mid().str(60, radius=False))


@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if page.textbook])
def test_a_textbook_with_many_digits_is_the_truth(name):
    page = PAGES[name]
    for point in [point for side in sides(page) for point in asked(page, side)]:
        assert disagreements(point, page.textbook) == set(), point


@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if page.textbook])
def test_a_textbook_runs_in_floats(name):
    """As it stands, with the names of its own module; what it loses is measured by the certificate."""
    page = PAGES[name]
    for side in sides(page):
        found = {}
        for point in asked(page, side)[-3:]:
            given = cost(point, page.textbook, truth_at(point))
            assert set(given) == set(truth_at(point))           # optional fields may be at one point and not at another
            found |= given
        assert min(found.values()) < np.inf, found


@pytest.mark.parametrize("name, standard", [("DiagonalNormal", "standard_normal"), ("Logistic", "logistic")])
def test_a_density_draws_what_its_textbook_says(name, standard):
    """From the same numbers e, the sample and its cotangents."""
    p = PAGES[name](loc=[0.5, -1.0], scale=[0.25, 3.0], shape=2)
    z, pullback = p.sample_vjp(np.random.default_rng(3), 1)
    e, fields, z_bar = getattr(np.random.default_rng(3), standard)(size=(1, 2)), fields_of(p), np.array([[1.5, -0.5]])
    assert np.array_equal(z, p.textbook.sample(e, **fields))
    wanted = p.textbook.sample_vjp(e, *fields.values(), z_bar)
    assert {key: bar.tolist() for key, bar in pullback(z_bar).items()} == {key: bar[0].tolist() for key, bar in wanted.items()}


def test_a_full_normal_draws_what_its_textbook_says():
    p = PAGES["FullNormal"](loc=[0.5, -1.0], cholesky=[[0.25, 0.0], [-2.0, 3.0]])
    z, pullback = p.sample_vjp(np.random.default_rng(3), 1)
    e, fields, z_bar = np.random.default_rng(3).standard_normal(size=(1, 2)), fields_of(p), np.array([[1.5, -0.5]])
    assert np.allclose(z[0], p.textbook.sample(e[0], **fields), rtol=1e-14, atol=0)
    wanted, found = p.textbook.sample_vjp(e[0], *fields.values(), z_bar[0]), pullback(z_bar)
    assert {key: bar.tolist() for key, bar in found.items()} == {key: bar.tolist() for key, bar in wanted.items()}


def test_densities_on_sets_of_lower_dimension_draw_what_their_textbooks_say():
    """From the same gamma variables G, recovered from their logarithms."""
    rng = np.random.default_rng(3)
    p = PAGES["Dirichlet"](concentration=[0.5, 2.0])
    G = np.exp(log_gamma_variables(rng, p.concentration, (2,)))
    assert np.allclose(p.sample(np.random.default_rng(3), 1)[0], p.textbook.sample(G, p.concentration), rtol=1e-14)
    p, rng = PAGES["LKJCholesky"](concentration=1.5, dimension=3), np.random.default_rng(3)
    e, (_, s, _) = rng.standard_normal((3, 3)), p.rows()
    G = np.exp(log_gamma_variables(rng, s, (2,)))
    assert np.allclose(p.sample(np.random.default_rng(3), 1)[0], p.textbook.sample(e, G, 1.5, 3), rtol=1e-14)
    p, rng = PAGES["WishartCholesky"](df=2.5, cholesky=[[0.25, 0.0], [-2.0, 3.0]]), np.random.default_rng(3)
    e = rng.standard_normal((2, 2))
    G, X_bar = np.exp(log_gamma_variables(rng, p.degrees() / 2, (2,))), np.array([[1.0, 2.0], [-0.5, 3.0]])
    X, pullback = p.sample_vjp(np.random.default_rng(3), 1)
    assert np.allclose(X[0], p.textbook.sample(e, G, p.df, p.cholesky), rtol=1e-14)
    wanted = p.textbook.sample_vjp(e, G, p.df, p.cholesky, X_bar)["cholesky"]
    assert np.allclose(pullback(X_bar[None])["cholesky"], wanted, rtol=1e-14)


def test_samples_of_a_mixture_have_the_cotangents_of_its_textbook():
    p = PAGES["NormalMixture"](weights=[0.25, 0.5, 0.25], loc=[[0.5, -1.0], [1.0, 0.25], [-0.5, 0.0]],
                               scale=[[0.5, 2.0], [1.0, 0.75], [1.5, 1.0]])
    z, pullback = p.sample_vjp(np.random.default_rng(3), 5)
    z_bar = np.random.default_rng(4).standard_normal(z.shape)
    each = [p.textbook.sample_vjp(z_i, *fields_of(p).values(), bar) for z_i, bar in zip(z, z_bar)]
    for key, bar in pullback(z_bar).items():
        assert np.allclose(bar, sum(one[key] for one in each), rtol=1e-12, atol=1e-13), key


@pytest.mark.parametrize("name, fields, given", [
    ("ActNorm", {"scale": [1.0, 1.0]}, ()),
    ("GlowActNorm", {"s": [0.0, 0.0], "bias": None}, (3.0, False, 1e-6, False)),
    ("GlowActNorm", {"s": [1.0, 1.0], "bias": None, "direct": True, "unbiased": True, "eps": 0.5}, (1.0, True, 0.5, True)),
    ("GlowTTSActNorm", {"logs": [0.0, 0.0]}, (1e-6,)),
    ("GlowTTSActNorm", {"logs": [0.0, 0.0], "floor": 16.0}, (16.0,))])
def test_an_initialisation_is_what_its_textbook_says(name, fields, given):
    data = np.random.default_rng(3).normal((2, -5), (3, 5), (7, 2))
    f = PAGES[name](**fields)
    for side in ("initialised", "inverse_initialised"):
        made, wanted = getattr(f, side)(data, None), getattr(f.textbook, side)(data.T, *given)
        close({key: getattr(made, key) for key in wanted}, wanted)


def test_the_statistics_of_a_batch_are_what_their_textbook_says():
    rng, book = np.random.default_rng(3), PAGES["BatchNorm"].textbook
    z, mean_bar, var_bar = rng.normal(2, 3, (7, 2)), *rng.normal(size=(2, 2))
    (mean, var), pullback = batch_norm.batch_statistics(z)
    mu, d, v = book.statistics(z.T)
    close({"mean": mean, "var": var, "z_bar": pullback(mean_bar, var_bar)},
          {"mean": mu, "var": v, "z_bar": book.statistics_vjp(z.T, mean_bar, var_bar).T})
    close({"moved": batch_norm.moved(mean, mu + 1, 0.25), "unbiased": batch_norm.unbiased(var, 7)},
          {"moved": book.moved(mean, mu + 1, 0.25), "unbiased": book.unbiased(v, 7)})


@pytest.mark.parametrize("word", ["exp", "softplus"])
def test_the_weights_of_a_library_are_what_their_textbook_says(word):
    rng, book = np.random.default_rng(3), PAGES["BlockDense"].textbook
    w, g = rng.normal(size=(6, 4)), rng.uniform(0.5, 2, 6)
    made = weight_normalised_blocks(w, g, 2, np.zeros(6), word)
    close({"W": made.weights()}, {"W": book.of_library(w, g, 2, word == "exp")})


def close(given, wanted):
    for key, value in wanted.items():
        np.testing.assert_allclose(given[key], value, rtol=1e-13, atol=0, err_msg=key)


# -- a rational page is its textbook --------------------------------------------------------------------------------------

class Root:
    """The root of a number, which need not be rational."""

    def __init__(self, square):
        self.square = square

    def __rmul__(self, number):
        return Root(number * number * self.square)


def root_of_square(v):
    found = Fraction(math.isqrt(v.numerator), math.isqrt(v.denominator))
    assert found * found == v
    return found


class Rational:
    """NumPy's functions of arrays of fractions."""

    sqrt = staticmethod(np.frompyfunc(root_of_square, 1, 1))
    hypot = staticmethod(lambda m, root: np.frompyfunc(root_of_square, 1, 1)(m * m + root.square))
    log = log1p = staticmethod(lambda v: 0 * v)                                     # logarithms are not fractions
    __getattr__ = staticmethod(lambda name: getattr(np, name))


def fractions(rng, *shape):
    drawn = np.frompyfunc(lambda n, d: Fraction(int(n), int(d)), 2, 1)(rng.integers(1, 40, shape), rng.integers(1, 40, shape))
    return np.asarray(drawn, object)


FIELDS = {"input_knots": lambda rng: np.cumsum(fractions(rng, 4)) - 2, "output_knots": lambda rng: np.cumsum(fractions(rng, 4)) - 2,
          "slopes": lambda rng: fractions(rng, 4) ** 2, "middles": lambda rng: 1 / (1 + fractions(rng, 3)), "start": fractions,
          "end_slopes": lambda rng: 3 / (1 + fractions(rng, 2))}
RATIONAL = {"RationalQuadraticSpline": ("input_knots", "output_knots", "slopes"),
            "QuadraticSpline": ("input_knots", "slopes", "start"),
            "CubicSpline": ("input_knots", "output_knots", "end_slopes"), "LinearSpline": ("input_knots", "output_knots"),
            "LinearRationalSpline": ("input_knots", "output_knots", "slopes", "middles")}
EXACT = {                       # what a page does with floats alone, done with fractions
    "root_of_product": lambda p, q: Root(p * q),
    "log_abs_product": lambda factors: 0,
    "QuadraticSpline.distances": lambda self, x: x[..., None] - self.output_knots,
    "below_middle": lambda z, z_0, z_1, middle: z - z_0 <= middle * (z_1 - z_0),
    "image_below_middle": lambda x, x_0, x_1, d_0, d_1, middle:
        ((x - x_0) * (1 - middle)) ** 2 * d_1 <= ((x_1 - x) * middle) ** 2 * d_0,
    "Place.S": property(lambda v: v.e_0 * v.f * v.f + v.e_1 * v.t * v.t - 2 * v.v * v.t * v.f),     # without roots
}


def in_fractions(page, tails, rng, count):
    """A spline of three bins whose fields are fractions, and events of its input, inside its bins and its tails."""
    f = object.__new__(page)
    for key in RATIONAL[page.__name__]:
        object.__setattr__(f, key, FIELDS[key](rng))
    object.__setattr__(f, "tails", tails)
    k, t = rng.integers(0, 3, count), fractions(rng, count)
    z = f.input_knots[k] + (f.input_knots[k + 1] - f.input_knots[k]) * (t / (1 + t))
    return f, z if tails == "none" else np.concatenate((z, f.input_knots[[0]] - t[0], f.input_knots[[-1]] + t[0]))


def give_roots(page, monkeypatch, knots, x, z):
    """No solver finds a fraction, so both solvers give what is known."""
    inner = np.clip(z, knots[0], knots[-1])
    k = (inner[:, None] >= knots[1:-1]).sum(-1)
    t, roots = (inner - knots[k]) / (knots[k + 1] - knots[k]), dict(zip(x, z))
    monkeypatch.setattr(sys.modules[page.__module__], "smaller_root", lambda *given: np.minimum(t, 1 - t))
    monkeypatch.setattr(page.textbook, "inverse", lambda x, *fields, **named: roots[x])


def differences(page, monkeypatch, seed):
    """The quantities of which the page's own code on fractions is not its textbook."""
    module, found = sys.modules[page.__module__], set()
    monkeypatch.setattr(module, "np", Rational())
    monkeypatch.setattr(Tails, "log_slope", lambda self, inner: inner)
    methods = ("vjp", "inverse_vjp", "slope", "inverse_and_log_det")
    methods = {name: plain_function(module, f"{page.__name__}.{name}") for name in methods}
    monkeypatch.setattr(page, "inverse_and_log_det", methods["inverse_and_log_det"])
    for name, exact in EXACT.items():
        owner, _, function = name.rpartition(".")
        held = vars(module).get(owner) if owner else module
        if hasattr(held, function):
            monkeypatch.setattr(held, function, exact)
    rng = np.random.default_rng(seed)
    for tails in ("identity", "linear", "none") * 2:
        f, z = in_fractions(page, tails, rng, 6)
        fields = {key: getattr(f, key) for key in (*RATIONAL[page.__name__], "tails")}
        bars = fractions(rng, 2, len(z)) - 1
        (x, _), pullback = methods["vjp"](f, z)
        if page.solver:
            give_roots(page, monkeypatch, f.input_knots, x, z)
        (back, _), inverse_pullback = methods["inverse_vjp"](f, x)
        given = [{"forward": x, "slope": methods["slope"](f, z)}, {"inverse": back}]
        pulled = [pullback(*bars), inverse_pullback(*bars)]
        for i, bar in enumerate(bars.T):
            for event, side, (event_bar, of_fields), name in zip((z, x), given, pulled, ("vjp", "inverse_vjp")):
                book = page.textbook
                found |= {key for key, held in side.items() if held[i] != getattr(book, key)(event[i], **fields)}
                its_bar, its_fields = getattr(book, name)(event[i], *fields.values(), *bar)
                found |= {name} if event_bar[i] != its_bar else set()
                found |= {f"{name}.{key}" for key, held in of_fields.items() if np.any(held[i] != its_fields[key])}
    return found


@pytest.mark.parametrize("name", RATIONAL)
@pytest.mark.parametrize("seed", [1, 2])
def test_the_code_of_a_rational_page_on_fractions_is_its_textbook(name, seed, monkeypatch):
    assert differences(PAGES[name], monkeypatch, seed) == set()


@pytest.mark.parametrize("name, owner, old, new, quantities", [
    ("RationalQuadraticSpline", "Place", "3 * (e_0 * t / Q) * e_1 * f", "2 * (e_0 * t / Q) * e_1 * f",
     {"inverse_vjp.input_knots"}),
    ("RationalQuadraticSpline", "Place", "self.u_1 * t + (t * (1 + 2", "self.u_1 * t + (t * (2 + 2", {"vjp.input_knots"}),
    ("RationalQuadraticSpline", "Place", "u_1 * f * (5 * t - f)", "u_1 * f * (5 * t + f)", {"inverse_vjp.slopes"}),
    ("RationalQuadraticSpline", "Place", "2 * (self.e_0 + self.e_1) * (self.t", "(self.e_0 + self.e_1) * (self.t",
     {"vjp.output_knots"}),
    ("QuadraticSpline", "Place", "self.t * (1 + self.f)) / 2", "self.t * (1 - self.f)) / 2",
     {"vjp.input_knots", "inverse_vjp.input_knots"}),
    ("CubicSpline", "Place", "(4 * t * f - f * f - t * t)", "(3 * t * f - f * f - t * t)", {"inverse_vjp.input_knots"}),
    ("LinearRationalSpline", "Piece", "near, self.d_0 / (1 + self.R) ** 2", "near, self.d_0 / (1 + self.R)", {"slope", "vjp"}),
    ("CubicSpline", "End", "o * ((2 + o - r)", "o * ((2 + o + r)", {"vjp.input_knots", "inverse_vjp.input_knots"}),
])
def test_a_planted_coefficient_of_a_rational_page_is_found(name, owner, old, new, quantities, monkeypatch):
    page = PAGES[name]
    module = sys.modules[page.__module__]
    source = inspect.getsource(getattr(module, owner))
    assert source.count(old) == 1
    exec(source.replace(old, new), vars(module), namespace := {})                   # noqa: S102
    for attribute, held in vars(namespace[owner]).items():
        if inspect.isfunction(held) or isinstance(held, property):
            monkeypatch.setattr(getattr(module, owner), attribute, held)
    assert differences(page, monkeypatch, 1) == quantities


# -- how they are shown -------------------------------------------------------------------------------------------------------

def test_show_prints_the_map_its_textbook_and_the_reverse_rule_first(capsys):
    given = []
    for options in ([], ["--all"]):
        assert main(["show", "WeibullCDF", *options]) == 0
        given.append(capsys.readouterr().out)
    short, full = given
    order = ["WeibullCDF: Weibull", "The map.  ", "class textbook:", "# (11)", "The reverse rule.  ", "In floating point.",
             "Source: "]
    assert [short.index(part) for part in order] == sorted(short.index(part) for part in order)
    assert "--all" in short and "(28)" not in short and "(28)" in full and "--all" not in full
    for name in PAGES:
        text = sys.modules[PAGES[name].__module__].__doc__.strip()
        assert "".join(parts(text).values()) == text


def test_the_command_says_which_printed_equation_fails_and_what_holds(capsys):
    assert set(costs()) == {name for name, page in PAGES.items() if page.textbook}
    assert main(["textbook"]) == 0 and "WeibullCDF" in capsys.readouterr().out
    assert main(["textbook", "WeibullCDF"]) == 0
    assert "\n\nforward: printed in (1); (12) (13) (14) (15) hold\n    z = " in capsys.readouterr().out
    assert main(["textbook", "LeakyReLU"]) == 2 and "LeakyReLU has no textbook" in capsys.readouterr().err


def test_a_textbook_is_measured_as_it_is_printed():
    page, point = PAGES["WeibullCDF"], Point(PAGES["WeibullCDF"](), "forward", np.array(1e-9))
    assert cost(point, page.textbook, truth(point))["forward"] > 1e6
    assert cost(point, changed("WeibullCDF", "return 1 - np.exp(-(z / scale) ** concentration)",
                               "return -np.expm1(-(z / scale) ** concentration)"), truth(point))["forward"] < 1


COPIED = {"fields.start"}                           # a plain number, handed on as it is
LIFTED = {"AlphaSigmoid", "NormalMixtureCDF", "DoubleExpScale", "NormalMixture"}       # by the logarithm of a plain number


@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if page.textbook])
def test_a_float32_textbook_has_no_digits_of_float64(name):
    page, single = PAGES[name], np.dtype(np.float32)
    for side in sides(page):
        point = next(iter(GENERATORS.get(page.kind, Draw)(page, single, side).drawn_points()))
        with np.errstate(all="ignore"):
            given, lifted = (answers(point, book, plain) for book in (in_dtype(page.textbook, single), page.textbook))
        assert given.keys() == lifted.keys()
        assert {held.dtype for key, held in given.items() if held.dtype.kind == "f" and key not in COPIED} == {single}
        if name in LIFTED:
            assert {held.dtype for held in lifted.values()} != {single}


def test_costs_are_of_the_points_that_they_are_told():
    """At a moderate point, at one that is not, and nothing for a page without a textbook."""
    costs = Costs(PAGES["WeibullCDF"])
    for z, reason in ((0.5, "moderate"), (1e-9, "wide")):
        point = Point(PAGES["WeibullCDF"](), "forward", np.array(z), reason=reason)
        costs.add(point, truth(point))
    found = costs.finished("float64")["forward"]
    assert found["moderate"]["points"] == 1 and found["moderate"]["share"] == 0 and "simplest" not in found["moderate"]
    assert found["certified"]["points"] == 2 and found["certified"]["share"] == 0.5 and "z=1e-09" in found["certified"]["simplest"]
    coupling = PAGES["AffineCoupling"]
    point, costs = asked(coupling, "forward")[0], Costs(coupling)
    costs.add(point, truth_at(point))
    assert {"forward", "log_det", "jacobian", "vjp.z_bar", "vjp.net_bar"} <= set(costs.finished("float64"))
    none = Costs(PAGES["Permutation"])
    none.add(point, {})
    assert none.finished("float64") == {}


def test_what_is_lost_is_said_behind_the_paragraph_that_cures_it(monkeypatch, run):
    """In `show --all` and in the leaf, from the record: another record says another sentence, and none says nothing."""
    text = "Printed, log_det is infinite or NaN at z = 711.0."
    shown = run("show", "Tanh", "--all")[1]
    assert shown.index("In (4), ") < shown.index(text) < shown.index("In (5), ") and text not in run("show", "Tanh")[1]
    entry = entry_named("Tanh", entries())
    assert text in leaf(entry, {})
    row = {"certified": {"C": 3e9, "simplest": "measure(Tanh(), z=5.5, dtype=np.float64)"}}
    monkeypatch.setattr("refflow.book.lost.costs", lambda: {"Tanh": {"float64": {"log_det": row}}})
    assert sentence(PAGES["Tanh"], "In (4), ...") == "Printed, log_det loses 9 of 16 digits at z = 5.5."
    assert sentence(PAGES["Tanh"], "In (2) to (4), ...") and not sentence(PAGES["Tanh"], "In (5), ...")
    assert not sentence(PAGES["Tanh"], "(9) and (10) are equal.")
    assert text not in run("show", "Tanh", "--all")[1] and "loses 9 of 16 digits" in leaf(entry, {})
    row["certified"]["C"] = 3.9
    assert "Printed, " not in run("show", "Tanh", "--all")[1]


def test_recorded_costs_that_are_not_measured_again_are_told():
    recorded = {"WeibullCDF": stored()["WeibullCDF"]}
    assert changed_costs(recorded, recorded) == []
    for key, value in (("C", 1e9), ("share", 0.9)):
        now = copy.deepcopy(recorded)
        now["WeibullCDF"]["float64"]["forward"]["moderate"][key] = value
        told, = changed_costs(now, recorded)
        assert told.startswith("WeibullCDF float64 forward: its textbook costs C = "), told
    told = changed_costs(recorded, {})
    assert len(told) == len(flat(recorded)) and all("recorded nothing" in text for text in told)


def test_costs_stand_behind_the_textbook(capsys):
    """On the screen and on the leaf, before the reverse rule; a page without a textbook has none."""
    assert main(["show", "WeibullCDF"]) == 0
    shown = capsys.readouterr().out
    places = [shown.index(words) for words in ("The map.  ", "class textbook:", "\nprinted equations", "The reverse rule.  ")]
    assert places == sorted(places)
    worst = flat({"WeibullCDF": stored()["WeibullCDF"]})["WeibullCDF", "float64", "inverse", "certified"]
    assert f"{float(worst['C']):.0e}, {100 * worst['share']:.3g}%".replace("+", "") in re.search(r"^inverse .*", shown, re.M)[0]
    assert main(["show", "ReLU"]) == 0 and "printed equations" not in capsys.readouterr().out
    made = {name: leaf(entry_named(name, entries()), {}) for name in ("WeibullCDF", "ReLU")}
    before, _, behind = made["WeibullCDF"].partition('<section class="costs">')
    assert 'id="e5"' in before and 'id="e6"' in behind and "inverse_<wbr/>vjp.<wbr/>scale_<wbr/>bar" in behind.partition("</table>")[0]
    assert '<section class="costs">' not in made["ReLU"]


def test_a_leaf_folds_the_third_part():
    made = {name: leaf(entry_named(name, entries()), {}) for name in ("WeibullCDF", "LeakyReLU")}
    before, _, folded = made["WeibullCDF"].partition("<details>")
    assert 'id="e11"' in before and 'id="e12"' in folded.partition("</details>")[0] and "<summary>In floating point" not in made["LeakyReLU"]
    assert 'id="e12"' not in before and "Journal of Applied Mechanics" in folded.partition("</details>")[2]


# -- planted mistakes -----------------------------------------------------------------------------------------------------

WEIBULL = text_of(PAGES["WeibullCDF"])
SOURCE = "\n".join(WEIBULL.lines)


@pytest.mark.parametrize("old, new, complaint", [
    ("The reverse rule.  ", "", "the headings are not in order"),
    ("+ y                                     (5)", "+ y                                     (6)", "numbers do not ascend"),
    ("# -- the reverse rule -", "# -- backwards -", "the sections of the code are not in order"),
    ("    # (10)\n", "    # (9)\n", "(10) is cited by no line of the textbook or the definition"),
    ("* np.exp(-(z / s) ** k)                   # (3)", "* np.exp(-(z / s) ** k)  # (3) (20)",
     "(20) is cited inside the textbook or the definition"),
    ('r"""In floating point.', 'r"""In floating point.  Nothing changes.', "the third part does not open as it should"),
    ("In (7) and (8), `y - 1`", "Further, `y - 1`", "a paragraph opens 'Further, `y - 1` can'"),
    ("In (7) and (8), `y - 1`", "In (17) and (8), `y - 1`", "a paragraph opens 'In (17) and (8), `y '"),
    ('r"""In floating point.', 'TEXT = r"""In floating point.', "the third part is not a string of its own"),
    ("class textbook:", "class Other:\n    pass\n\n\nclass textbook:", "the textbook is not the first thing"),
    ("@bijector(", "def helper():\n    pass\n\n\n@bijector(", "the third part is not above the first page"),
    ("np.expm1(-y)                                                        # (1) (13)", "np.expm1(-y)  # (1)", "takes care"),
    ("return 1 - np.exp(-(z", "return -np.expm1(-(z", "the textbook uses expm1"),
    ("np.log(k / s) + (k - 1)", "log_quotient(k, s) + (k - 1)", "the textbook uses log_quotient"),
    ("return self.scale * e * e ", "return textbook.inverse(x, self.scale, self.concentration) ", "names the textbook")])
def test_a_planted_mistake_of_form_is_found(old, new, complaint):
    assert SOURCE.count(old) == 1
    planted = Text(SOURCE.replace(old, new))
    found = misplaced(planted) or unturned(planted) + uncited(planted) + careful(planted)
    assert any(complaint in one for one in found), found


def test_a_stale_number_is_found():
    assert stale([refflow.core.case("Rows", "(29) and f(30) meet (1)")], range(1, 29)) == [("Rows", "29")]


def changed(name, old, new):
    """A textbook with another formula in it."""
    module, source = sys.modules[PAGES[name].__module__], inspect.getsource(PAGES[name].textbook)
    assert source.count(old) == 1, old
    namespace = dict(vars(module))
    exec(source.replace(old, new), namespace)                                       # noqa: S102
    return namespace["textbook"]


@pytest.mark.parametrize("name, old, new, quantities", [
    ("WeibullCDF", "np.log(k / s) + (k - 1)", "np.log(k / s) + (k + 1)", {"log_det"}),
    ("WeibullCDF", "l_bar * (k - 1 - k * y)", "l_bar * (k - 1 - 2 * k * y)", {"vjp.z_bar"}),
    ("WeibullCDF", "k_bar = -P *", "k_bar = P *", {"inverse_vjp.concentration_bar"}),
    ("WeibullCDF", "+ l_bar / s ", "- l_bar / s ", {"inverse_vjp.scale_bar"}),
    ("RationalQuadraticSpline", "2 * gamma_bar * t * f + 2 * l_bar / s", "gamma_bar * t * f + 2 * l_bar / s",
     {"vjp.input_knots_bar", "vjp.output_knots_bar", "inverse_vjp.input_knots_bar", "inverse_vjp.output_knots_bar"}),
    ("RationalQuadraticSpline", "-g * x_bar, x_bar", "g * x_bar, x_bar", {"vjp.input_knots_bar", "inverse_vjp.input_knots_bar"}),
    ("RationalQuadraticSpline", "+ l_bar / g ", "- l_bar / g ", {"vjp.slopes_bar", "inverse_vjp.slopes_bar"}),
    ("RationalQuadraticSpline", "m_1 ** 2 + 4 *", "m_1 ** 2 + 3 *", {"inverse", "inverse_log_det"} | {
        f"inverse_vjp.{key}_bar" for key in ("x", "input_knots", "output_knots", "slopes")}),
    ("CubicSpline", "6 * m_bar * (t - t ** 2)", "3 * m_bar * (t - t ** 2)", {
        f"{side}.{key}_bar" for side in ("vjp", "inverse_vjp") for key in ("input_knots", "output_knots")}),
    ("LogisticMixtureCDF", "r * (1 / scale + u * t)", "r * (1 / scale - u * t)", {"vjp.scale_bar", "inverse_vjp.scale_bar"}),
    ("RelativeAttention", "s_bar[i, j] * q[i] / root", "s_bar[i, j] * q[j] / root", {"vjp.E_k_bar"}),
    ("RelativeAttention", "s_bar = P * (u - (P", "s_bar = P * (u + (P", {"vjp.a_bar", "vjp.E_k_bar"}),
    ("RelativeAttention", "np.outer(ds[i, j], q[i]) / root", "np.outer(ds[i, j], q[i])", {"jacobian"}),
    ("GatedLocationScale", "(1 - sigma) * m}", "sigma * m}", {"fields.shift"}),
    ("SoftmaxKnots", "np.sum(inner) / 2", "np.sum(inner)", {"vjp.h_bar"}),
    ("DensityKnots", "m[0] = m[-1] = 1 / 4", "m[0] = m[-1] = 1 / 2", {"vjp.h_bar"}),
    ("DensityKnots", "* y) / 2, (w[0]", "* y) / 2, 2 * (w[0]", {"fields.slopes", "vjp.h_bar"}),
    ("SoftplusSpline", "- D * H / W**2", "- D / W", {"vjp.h_bar"}),
    ("LogisticMixtureCDF", "(f - g) / (g * W)", "(f - g) / (2 * g * W)", {"vjp.weights_bar", "inverse_vjp.weights_bar"}),
    ("ActNorm", "(x_bar * z) + n * l_bar / scale", "(x_bar * z) - n * l_bar / scale", {"vjp.scale_bar"}),
    ("BatchNorm", "n * r ** 2 / 2 * l_bar)", "n * r ** 2 * l_bar)", {"vjp.var_bar"}),
    ("LayerNorm", "(n * c).sum() / len(a)", "(n * c).sum()", {"vjp.a_bar"}),
    ("AffineCoupling", "textbook.valid(s, mask).sum()", "s.sum()", {"log_det", "inverse_log_det"}),
    ("Conv2d", "bars = {\"W\": k_bar + E_bar[:, None] if", "bars = {\"W\": k_bar - E_bar[:, None] if", {"vjp.W_bar"}),
    ("Conv1d", "textbook.valid(h_bar, mask).sum(1)", "h_bar.sum(1)", {"vjp.b_bar"}),
    ("WeightNormConv1d", "along * u.T", "along * W.T", {"vjp.v_bar"}),
    ("VolumePreservingCoupling", "scale_pullback(0 * s, 0 * s + 1)", "(0 * s + 1, 0)", {"jacobian"}),
])
def test_a_planted_formula_is_found(name, old, new, quantities):
    page, planted = PAGES[name], changed(name, old, new)
    assert {q for side in sides(page) for point in asked(page, side) for q in disagreements(point, planted)} == quantities


def test_a_page_whose_printed_equations_are_good_at_moderate_inputs_says_so():
    """Exactly those whose record says so; one quantity beyond 4 units, of one dtype, is enough to say nothing."""
    good = {name for name, dtypes in costs().items() if all(
        float(row["moderate"]["C"]) <= 4 for quantities in dtypes.values() for row in quantities.values() if "moderate" in row)}
    assert 30 < len(good) < len(costs()) and {name for name in costs() if moderate_text(name)} == good
    assert "Tanh" not in good and moderate_text("Tanh") == moderate_text("no page") == ""
    name = min(good)
    assert moderate_text(name).startswith("At all moderate inputs, ") and moderate_text(name) in leaf_costs(name)
    assert moderate_text(name) in "\n\n".join(shown_parts(PAGES[name], sys.modules[PAGES[name].__module__].__doc__.strip(), False))
