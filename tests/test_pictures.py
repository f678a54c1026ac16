"""Pictures as SVG: what they show is what the maps compute, and a map that is wrong is drawn wrong."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from refflow import AdditiveCoupling, Affine, CircularShift, Exp, Sigmoid, StandardNormal, Stereographic, StickBreaking, Tanh, pictures
from refflow.accuracy import floats
from refflow.book.pages import pages
from refflow.book.shown import MOVING, shown
from refflow.maps.conditioners import dense_network
from refflow.maps.coupling import masks
from refflow.oracle.points import golden
from refflow.pictures import drawing, graphs, planes
from refflow.pictures.drawing import TOLERANCE, WIDTH, Scale, straightened

SVG = "{http://www.w3.org/2000/svg}"
PAGES = {name: page for name, page in pages().items() if page.kind != "parametrisation"}
UNDRAWN = {"Dropout", "Embedding", "ImageContext",
           "Dirichlet", "LKJCholesky", "WishartCholesky"}
PRINTED_WRONG = 25                      # maps of numbers whose printed equation errs somewhere, at least


def paths(drawn, kind=None):
    """The steps of the paths of a class, or of none."""
    root = ElementTree.fromstring(drawn.svg())
    return [path.get("d") for path in root.iter(f"{SVG}path") if path.get("class") == kind]


def points(steps):
    return np.array(re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", steps), float)


def shear():
    return AdditiveCoupling(masks.halves(2), dense_network(np.random.default_rng(0), (1, 8, 1), "tanh", zero_last=False))


# -- all ------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", PAGES)
def test_every_picture(name):
    """It is small and legible, says what it shows, and names no colour but the page's."""
    drawn = pictures.of(*shown(PAGES[name]))
    assert (drawn is None) == (name in UNDRAWN)
    if drawn is None:
        return
    text = drawn.svg()
    root = ElementTree.fromstring(text)
    assert root.get("role") == "img" and root.get("aria-label").endswith(".") and drawn.width <= 400
    assert len(text) < (4_000 if "quantiles" in drawn.numbers else 20_000)
    assert not re.search(r"#[0-9a-f]{3,6}\b|nan|inf\b", text)
    places = np.array(re.findall(r'<text x="([-\d.]+)" y="([-\d.]+)"', text), float).reshape(-1, 2)
    assert (places >= 0).all() and (places <= [drawn.width, drawn.height]).all()


def test_words_are_legible():
    """At a width of 400, where 364 pixels are left for a picture, words have 11 pixels or more."""
    assert float(re.search(r"font:([\d.]+)px", drawing.STYLE)[1]) * min(1, 364 / drawing.WIDEST) >= 10.9
    with pytest.raises(ValueError, match="width must be at most 400"):
        pictures.Drawing((), "Too wide.", 10, 401)


def test_saved_files_have_their_own_colours(tmp_path):
    drawn = pictures.numbers(Tanh())
    drawn.save(tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    ElementTree.fromstring(text)
    assert "prefers-color-scheme:dark" in text and pictures.LIGHT["curve"] in text and pictures.DARK["curve"] in text
    with pytest.raises(FileExistsError):
        drawn.save(tmp_path / "a.svg")
    drawn.save(tmp_path / "a.svg", force=True)
    with pytest.raises(ValueError, match="path must end in .svg; it is 'a.png'"):
        drawn.save("a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.svg"]


def test_a_line_misses_no_point_by_more_than_the_tolerance():
    x = np.linspace(0, 300, 500)
    whole = np.stack([x, 90 + 80 * np.sin(x / 20)], -1)
    kept = whole[straightened(whole)]
    assert len(kept) < 200 and np.abs(np.interp(x, *kept.T) - whole[:, 1]).max() < 12 * TOLERANCE
    assert straightened(np.array([[0, 0], [1, 0], [2, 0], [2, 5]])).tolist() == [True, False, True, True]


# -- numbers --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("f", [Tanh(), Exp(), Sigmoid(), Affine(shift=1.0, scale=-3.0), shown(PAGES["RationalQuadraticSpline"])[0],
                               shown(PAGES["LinearSpline"])[0], shown(PAGES["KumaraswamyCDF"])[0]], ids=lambda f: type(f).__name__)
def test_the_graph_is_the_maps_and_the_density_is_carried(f):
    drawn = pictures.numbers(f)
    z, x = drawn.numbers["z"], drawn.numbers["x"]
    np.testing.assert_array_equal(x, f.forward(z))
    up = Scale(x.min(), x.max(), graphs.FLOOR, graphs.TOP)
    graph = points(next(steps for steps in paths(drawn) if steps.count("L") > 0))
    at = z[0] + (graph[:, 0] - graphs.LEFT) / (graphs.RIGHT - graphs.LEFT) * (z[-1] - z[0])
    low, high = (up.at(f.forward(np.clip(at + shift, z[0], z[-1]))) for shift in (-0.01, 0.01))
    assert (graph[:, 1] > np.minimum(low, high) - 1).all() and (graph[:, 1] < np.maximum(low, high) + 1).all()
    assert mass(drawn) == pytest.approx(graphs.SHARE, abs=0.01)


def mass(drawn):
    """The probability of the window, by the density that the picture shows."""
    x, carried = drawn.numbers["x"], drawn.numbers["carried"]
    return abs(np.trapezoid(carried, x))


class Doubled:
    """Tanh whose log-det is doubled."""

    domain, event_ndim, breaks = Tanh().domain, (0, 0), Tanh().breaks

    def forward(self, z):
        return np.tanh(z)

    def forward_and_log_det(self, z):
        x, log_det = Tanh().forward_and_log_det(z)
        return x, 2 * log_det


def test_a_wrong_log_det_is_seen():
    assert mass(pictures.numbers(Doubled())) > 1.5


def test_nine_quantiles_are_carried():
    drawn = pictures.numbers(Exp())
    assert paths(drawn, "thin")[0].count("M") == 9
    np.testing.assert_allclose(StandardNormal(()).log_prob(drawn.numbers["quantiles"][4]), -np.log(2 * np.pi) / 2)
    np.testing.assert_array_equal(drawn.numbers["images"], np.exp(drawn.numbers["quantiles"]))


def test_a_graph_is_broken_where_it_jumps():
    f = CircularShift(ends=[0.0, 1.0], turns=0.25)
    graphs = [steps for steps in paths(pictures.numbers(f)) if "L" in steps]
    assert len(graphs) == 2
    assert len([steps for steps in paths(pictures.numbers(Tanh())) if "L" in steps]) == 1
    assert [np.ptp(points(steps)[:, 1]) < 150 for steps in graphs] == [True, True]


# -- the plane ------------------------------------------------------------------------------------------------------------

def areas(cells):
    """The areas of cells (..., 4, 2)."""
    x, y = cells[..., 0], cells[..., 1]
    return np.abs((x * np.roll(y, -1, -1) - y * np.roll(x, -1, -1)).sum(-1)) / 2


def drawn_areas(drawn):
    """The areas in square pixels of the cells, as they are in the file."""
    found = re.findall(r"M([-\d.]+) ([-\d.]+)l([-\d. ]+)z", "".join(paths(drawn, "cells")))
    ways = [np.array(re.findall(r"-?[\d.]+", steps), float).reshape(-1, 2) for *_, steps in found]
    return np.array([float(areas(np.concatenate([[[0, 0]], np.cumsum(way, 0)]))) for way in ways])


def test_areas_are_kept_by_a_map_that_keeps_volume():
    drawn = pictures.plane(shear())
    cells = drawn.numbers["cells"]
    np.testing.assert_allclose(areas(cells[0]), areas(cells[1]), rtol=1e-10)
    assert drawn.numbers["scales"][0] == drawn.numbers["scales"][1]
    seen = drawn_areas(drawn)
    assert len(seen) > 1.9 * 256 and np.abs(seen / seen.mean() - 1).max() < 0.05       # pixels are rounded to a tenth


def test_a_map_that_does_not_keep_volume_is_seen():
    drawn = pictures.plane(shown(PAGES["AffineCoupling"])[0])
    seen = drawn_areas(drawn)
    assert seen.max() / seen.min() > 3
    masses = drawn.numbers["carried"] * areas(drawn.numbers["cells"][1]), drawn.numbers["density"] * areas(drawn.numbers["cells"][0])
    np.testing.assert_allclose(*masses, rtol=0.02)


@pytest.mark.parametrize("f, outline", [(StickBreaking(), 3), (Stereographic(), 61), (shear(), 0)], ids=["simplex", "sphere", "plane"])
def test_a_set_has_its_view(f, outline):
    """A simplex is a triangle, a sphere a circle whose far half is left out; the plane has no outline."""
    drawn = pictures.plane(f, (2,))
    outlines = [points(steps) for steps in paths(drawn, "axis") if steps.endswith("z")]
    assert [len(one) for one in outlines] == [outline] * bool(outline)
    inside = drawn.numbers["cells"][1].reshape(-1, 2)
    if outline == 3:
        assert (inside[:, 1] > 0).all() and (inside[:, 1] < np.sqrt(3) * np.minimum(inside[:, 0], 1 - inside[:, 0])).all()
    if outline == 61:
        assert np.hypot(*inside.T).max() < 1 + 1e-12 and len(drawn_areas(drawn)) < 1.8 * planes.CELLS**2


# -- patterns, curves, densities ------------------------------------------------------------------------------------------

def test_a_pattern_has_a_square_for_each_entry_that_is_not_zero():
    J = shear().jacobian(np.array([0.3, 0.4]))
    drawn = pictures.pattern(J, np.eye(5), titles=("J", "I"))
    assert "".join(paths(drawn, "squares")).count("M") == np.count_nonzero(J) + 5
    assert "".join(paths(pictures.pattern(np.zeros((2, 2))), "squares")) == ""
    with pytest.raises(ValueError, match=r"matrices must have two axes each; the shapes are \[\(3,\)\]"):
        pictures.pattern(np.ones(3))


def test_a_curve_is_the_functions():
    drawn = pictures.curve(np.sin, window=(0.0, 3.0))
    np.testing.assert_array_equal(drawn.numbers["values"][0], np.sin(drawn.numbers["z"]))
    graph = points(paths(drawn)[0])
    assert graph[:, 1].min() == pytest.approx(graphs.TOP, abs=0.1)                    # its top, at pi/2
    assert graph[np.argmin(graph[:, 1]), 0] == pytest.approx(graphs.SIDE + 6 + np.pi / 6 * (graphs.RIGHT - graphs.SIDE - 6), abs=6)


def test_a_curve_has_gaps_where_it_is_not_finite():
    with np.errstate(all="ignore"):
        drawn = pictures.curve(np.arctanh, lambda z: 1 / z, window=(-2.0, 2.0))
        with pytest.raises(ValueError, match="curve: functions must be finite somewhere between 2 and 3"):
            pictures.curve(np.arctanh, window=(2.0, 3.0))
    inner, outer = paths(drawn)[0], paths(drawn, "mass")[0]
    assert "nan" not in drawn.svg() and (inner.count("M"), outer.count("M")) == (1, 2)
    across = points(inner)[:, 0]
    width = graphs.RIGHT - graphs.SIDE - 6
    assert (across.min(), across.max()) == pytest.approx((graphs.SIDE + 6 + width * 0.255, graphs.SIDE + 6 + width * 0.745), abs=0.1)


def test_a_key_says_which_curve_is_whose():
    drawn = pictures.curve(np.sin, np.cos, names=("sine", "cosine"), argument="x")
    for kind, name in ((None, "sine"), ("mass", "cosine")):
        keys = [points(one) for one in paths(drawn, kind) if len(points(one)) == 2]
        words = float(re.search(rf'<text x="([\d.]+)" y="[\d.]+">{name}<', drawn.svg())[1])
        assert len(keys) == 1 and keys[0][1, 0] < words < keys[0][1, 0] + 8
    assert 'class="up">x<' in drawn.svg()


def test_densities_are_the_densities():
    p = StandardNormal(2)
    drawn = pictures.density(p)
    at = np.stack(np.meshgrid(drawn.numbers["x"], drawn.numbers["y"], indexing="ij"), -1)
    np.testing.assert_array_equal(drawn.numbers["density"], np.exp(p.log_prob(at)))
    samples = np.random.default_rng(0).standard_normal(20_000)
    bars = pictures.density(lambda x: np.exp(-x * x / 2) / np.sqrt(2 * np.pi), samples=samples).numbers
    middles = (bars["edges"][1:] + bars["edges"][:-1]) / 2
    np.testing.assert_allclose(bars["bars"], np.interp(middles, bars["x"], bars["density"]), atol=0.04)


# -- errors over the floats -----------------------------------------------------------------------------------------------

MEASURED = {name: page for name, page in PAGES.items() if page.kind == "bijector" and page.textbook and page.event_ndim == (0, 0)}


def misses(name):
    """For each float32 golden point and quantity of a page: how far the answer in float64, and the unit, are from the record."""
    found = []
    for point in golden.points(name, ["float32"]):
        if point.side == "forward":
            for quantity, (value, unit) in floats.truths(point.f, np.asarray(point.event)).items():
                truth = point.truth[quantity] if quantity in point.truth else None
                if truth and truth.first_order and np.abs(truth.high) <= np.finfo(np.float32).max:
                    recorded = truth.unit + floats.TINY
                    found.append((np.abs(value - truth.high - truth.low) / recorded, np.abs(unit / recorded - 1)))
    return np.array(found, float).reshape(-1, 2)


@pytest.mark.parametrize("name", MEASURED)
def test_float64_is_the_truth_of_float32(name):
    found = misses(name)
    assert len(found) and (found < 1e-6).all()


def test_a_wrong_truth_is_found(monkeypatch):
    """A log-det that is wrong by 1e-12 of itself, and a kappa that counts the answer's own size twice."""
    right = floats.kappa
    monkeypatch.setattr(floats, "kappa", lambda f, z: {key: found + np.abs(getattr(f, key)(z)) for key, found in right(f, z).items()})
    assert (misses("Tanh")[:, 1] > 0.1).any()
    monkeypatch.setattr(floats, "kappa", right)
    monkeypatch.setattr(Tanh, "log_det", lambda self, z: np.log1p(-np.tanh(z) ** 2))
    with np.errstate(all="ignore"):
        assert not (misses("Tanh") < 1e-6).all()


def test_errors_over_the_floats():
    drawn = pictures.errors(Tanh())
    events, textbook, page = (drawn.numbers[key] for key in ("events", "textbook", "page"))
    assert drawn.numbers["quantity"] == "log_det" and 200 < len(events) < 260 and events.dtype == np.float32
    assert page.max() < 4 and np.isinf(textbook[np.abs(events) > 100]).all() and (textbook[np.abs(events) < 1e-4] > 1e6).all()
    assert len(drawn.svg()) < 8_000 and {"page", "equation as printed"} <= set(re.findall(r">([^<>]+)</text>", drawn.svg()))
    assert pictures.errors(Affine(shift=0.5, scale=2.0)) is None and pictures.errors(StickBreaking()) is None
    found = [name for name, page in MEASURED.items() if (one := pictures.errors(shown(page)[0])) and len(one.svg()) < 8_000]
    assert len(found) >= PRINTED_WRONG


def test_the_unit_has_the_smallest_subnormal_number():
    """Without it, the truth of an answer that underflows seems wrong."""
    events = np.array([-100.0], np.float32)
    truth, unit = floats.truths(Exp(), events)["forward"]
    assert floats.in_units(np.exp(events), truth, unit) < 1 < floats.in_units(np.float32([0]), truth, unit - floats.TINY)


# -- moving ---------------------------------------------------------------------------------------------------------------

def test_a_slider_has_all_frames_and_shows_one():
    values = np.linspace(0.5, 2.0, pictures.FRAMES)

    def draw(scale):
        return pictures.numbers(Affine(shift=0.0, scale=scale), image=(-6, 6))

    moving = pictures.slider("scale", values, draw)
    root = ElementTree.fromstring(moving.html())
    frames = [g for g in root.iter(f"{SVG}g") if g.get("class") == "frame"]
    assert len(frames) == 21 and [i for i, g in enumerate(frames) if g.get("style") is None] == [10]
    for scale, frame in zip(values, frames):
        own = [path.get("d") for path in frame.iter(f"{SVG}path")]
        every = {step for kind in (None, "heap", "thin") for step in paths(draw(scale), kind)}
        assert own and set(own) <= every and every <= {path.get("d") for path in root.iter(f"{SVG}path")}
    assert len(moving.html()) < 20_000 and root.find(".//label").get("hidden") and root.get("data-values").split()[-1] == "2"
    assert WIDTH == moving.middle.width
    with pytest.raises(ValueError, match="drawings must be as many as values"):
        pictures.Slider("a", [1, 2], [])


@pytest.mark.parametrize("name", MOVING)
def test_leaves_that_move(name):
    """21 frames of one size and one axis, in 20 kB, each of the page itself."""
    moving = pictures.slider(*MOVING[name])
    assert len(moving.drawings) == pictures.FRAMES and len(moving.html()) < 20_000
    assert len({drawing.height for drawing in moving.drawings}) == 1
    words = [re.findall("<text.*?</text>", "".join(drawing.parts)) for drawing in moving.drawings]
    assert all(one == words[0] for one in words)
    assert all(name in drawing.label for drawing in moving.drawings)


def test_a_number_at_the_end_of_an_axis_stays_in_the_drawing():
    svg = pictures.curve(np.tanh, window=(0.2, 0.7)).svg()
    ends = [float(at) + 4 * len(word) for at, word in re.findall(r'<text[^>]*x="([\d.]+)"[^>]*class="across"[^>]*>([^<]*)<', svg)]
    assert len(ends) >= 4 and max(ends) <= WIDTH
