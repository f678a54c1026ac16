"""Pictures: the content of their axes, no change to matplotlib's settings, how they are written, and refflow plot."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import matplotlib as mpl
import matplotlib.image
from matplotlib import pyplot

from refflow import Chain, Coupling, DiscreteFlow, Flow, Inverse, Sigmoid, StandardNormal, Tanh, Uniform, dense_network, plot
from refflow.maps.coupling import affine_family, masks
from refflow.maps.elementwise import Affine, RescaledTanhExpScale
from refflow.models.alignment import path_of
from refflow.saving import save
from refflow.training import fit


def curved(seed=0, couplings=3, backwards=False):
    """A flow of 2 entries that bends the plane."""
    rng = np.random.default_rng(seed)
    family = affine_family(RescaledTanhExpScale(1.0, 0.0))
    stages = [Coupling(masks.halves(2, flip=k % 2 == 1), dense_network(rng, (1, 16, 2), "tanh", zero_last=False), family)
              for k in range(couplings)]
    return Flow(Inverse(Chain(stages)) if backwards else Chain(stages), StandardNormal(2))


def cell(image):
    left, right, bottom, top = image.get_extent()
    rows, columns = image.get_array().shape[:2]
    return (right - left) / columns * (top - bottom) / rows


def centres(image):
    """(rows, columns, 2): the positions of the image's pixels."""
    left, right, bottom, top = image.get_extent()
    rows, columns = image.get_array().shape[:2]
    x = left + (np.arange(columns) + 0.5) * (right - left) / columns
    y = bottom + (np.arange(rows) + 0.5) * (top - bottom) / rows
    return np.stack(np.meshgrid(x, y), -1)


def panels(figure):
    return [axes for axes in figure.axes if axes.images]


def dots(axes):
    """The points of a panel, (n, 2)."""
    return next(line.get_xydata() for line in axes.lines if line.get_marker() == ".")


# -- transport --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("backwards", [False, True])
def test_transport_shows_the_density_of_every_step(backwards):
    flow = curved(backwards=backwards)
    figure = plot.transport(flow, np.random.default_rng(1), points=50)
    shown = panels(figure)
    stages = flow.bijector.inner.stages[::-1] if backwards else flow.bijector.stages
    assert len(shown) == len(stages) + 1
    z = dots(shown[0])
    for axes, stage in zip(shown[1:], stages):
        z = stage.inverse(z) if backwards else stage.forward(z)
        np.testing.assert_allclose(dots(axes), z, rtol=1e-12, atol=1e-12)
    for axes in shown:
        image = axes.images[0]
        assert abs(image.get_array().sum() * cell(image) - 1) < 0.02           # the window leaves out a thousandth or two
    last = shown[-1].images[0]
    np.testing.assert_allclose(last.get_array(), np.exp(flow.log_prob(centres(last))), rtol=1e-10, atol=1e-300)
    assert "z" in shown[0].get_title() and "x" in shown[-1].get_title() and "3" in shown[-1].get_title()


def test_transport_is_a_change_of_variables():
    """The middle density of a chain of two scalings is known without the chain."""
    flow = Flow(Chain([Affine(shift=1.0, scale=np.array([2.0, 0.5])), Affine(shift=-1.0, scale=np.array([0.5, 2.0]))]),
                StandardNormal(2))
    image = panels(plot.transport(flow, np.random.default_rng(0)))[1].images[0]
    x, y = np.moveaxis(centres(image), -1, 0)
    known = np.exp(-((x - 1) / 2) ** 2 / 2 - ((y - 1) / 0.5) ** 2 / 2) / (2 * math.pi * 2 * 0.5)
    np.testing.assert_allclose(image.get_array(), known, rtol=1e-11, atol=1e-300)


def test_transport_windows():
    """One window for all panels if it serves; separate windows if the scales differ."""
    def limits(*scale):
        flow = Flow(Chain([Affine(shift=0.0, scale=1.5), Affine(shift=0.0, scale=np.array(scale))]), StandardNormal(2))
        return [(axes.get_xlim(), axes.get_ylim()) for axes in panels(plot.transport(flow, np.random.default_rng(0)))]

    shared, own = limits(1.0, 0.7), limits(100.0, 0.01)
    assert len(set(shared)) == 1 and len(set(own)) == 3
    assert shared[0][0][1] - shared[0][0][0] == pytest.approx(shared[0][1][1] - shared[0][1][0])
    assert -470 > own[2][0][0] > -550 and 0.047 < own[2][1][1] < 0.055


def test_transport_points_panels_and_supports():
    z = np.array([[0.25, 0.5], [0.75, 0.125]])
    flow = Flow(Chain([Affine(shift=0.0, scale=np.array([2.0, 4.0])), Sigmoid(), Inverse(Sigmoid())]),
                Uniform(np.zeros(2), np.ones(2)))
    figure = plot.transport(flow, z=z, panels=2, grid=False)
    assert len(panels(figure)) == 2
    np.testing.assert_array_equal(dots(panels(figure)[0]), z)
    np.testing.assert_allclose(dots(panels(figure)[1]), z * [2, 4], rtol=1e-12)
    assert all(len(axes.lines) == 1 for axes in panels(figure))
    first = panels(plot.transport(flow, np.random.default_rng(0)))[0].images[0]
    inside = ((centres(first) > 0) & (centres(first) < 1)).all(-1)
    np.testing.assert_array_equal(first.get_array(), inside.astype(float))


@pytest.mark.parametrize("arguments, match", [
    ({"flow": 3}, "must be a Flow, not int"),
    ({"flow": Flow(Tanh(), StandardNormal(3)), "rng": np.random.default_rng(0)}, r"2 entries.*\(3,\)"),
    ({"flow": curved()}, "rng must be a numpy.random.Generator, not NoneType"),
    ({"flow": curved(), "rng": np.random.default_rng(0), "panels": 1}, "panels must be an int >= 2, not 1"),
    ({"flow": curved(), "z": np.zeros((3, 3))}, r"z must be .*\(3, 3\)"),
    ({"flow": curved(), "z": [[0.0, math.nan]]}, "z must be finite")])
def test_transport_refuses(arguments, match):
    with pytest.raises(ValueError, match=match):
        plot.transport(**arguments)


# -- paths ------------------------------------------------------------------------------------------------------------

def turning(D=2, backwards=True):
    """A flow along a velocity of D entries that changes in time, with a stage behind it."""
    net = dense_network(np.random.default_rng(3), (D + 1, 8, D), "tanh", zero_last=False)
    inner = Inverse(DiscreteFlow(net, "rk4", 5, 1.0, 0.0)) if backwards else DiscreteFlow(net, "rk4", 5)
    return Flow(Chain([inner, Affine(shift=np.arange(1.0, D + 1), scale=2.0)]), StandardNormal(D))


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("D", [1, 2])
def test_paths_lead_through_the_steps_from_noise_to_samples(D, backwards):
    flow, z = turning(D, backwards), np.random.default_rng(0).normal(size=(7, D))
    axes = plot.paths(flow, z=z, names=["a", "b"][:D]).axes[0]
    lines, (noise, samples) = [line.get_xydata() for line in axes.lines[:7]], axes.lines[7:]
    first, behind = flow.bijector.stages
    for shown, point in zip(lines, z):
        two = first.inner.replace(steps=2, start=0.4, end=0.0) if backwards else first.replace(steps=2, end=0.4)
        early = two.inverse(point) if backwards else two.forward(point)         # the first two of five steps
        np.testing.assert_allclose(shown[[0, 2, 5], -D:], [behind.forward(point), behind.forward(early), flow.bijector.forward(point)],
                                   rtol=1e-9, atol=1e-9)
    if D == 1:
        np.testing.assert_allclose(lines[0][:, 0], np.linspace(0, 1, 6), atol=1e-12)
    np.testing.assert_allclose(noise.get_xydata()[:, -D:], behind.forward(z))
    np.testing.assert_allclose(samples.get_xydata()[:, -D:], flow.bijector.forward(z), rtol=1e-9, atol=1e-9)
    assert (noise.get_color(), samples.get_color()) == (plot.BLUE, plot.ORANGE)
    assert (axes.get_xlabel(), axes.get_ylabel()) == (("a", "b") if D == 2 else ("t", "a"))


def test_paths_are_drawn_in_colours_that_are_seen():
    """The pixels of the picture show noise, samples and what joins them."""
    pixels = mpl.image.imread(io.BytesIO(plot.rendered(plot.paths(turning(), np.random.default_rng(0)), ".png")))[..., :3]
    for colour in (plot.BLUE, plot.ORANGE):
        assert (np.abs(pixels - mpl.colors.to_rgb(colour)).max(-1) < 0.02).sum() > 500
    assert ((np.ptp(pixels, axis=-1) < 0.02) & (pixels.max(-1) < 0.9)).mean() > 0.01


def test_paths_of_what_has_none_are_refused():
    with pytest.raises(ValueError, match="must have a DiscreteFlow among its stages"):
        plot.paths(curved(), np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"vectors of 1 or 2 entries, not of events of shape \(3,\)"):
        plot.paths(turning(3), np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"rng must be a numpy.random.Generator"):
        plot.paths(turning())


# -- density ----------------------------------------------------------------------------------------------------------

def test_density_of_two_entries():
    flow = curved()
    x = flow.sample(np.random.default_rng(2), 500)
    figure = plot.density(flow, x, names=["height", "mass"])
    axes = panels(figure)[0]
    image = axes.images[0]
    assert abs(image.get_array().sum() * cell(image) - 1) < 0.03
    np.testing.assert_allclose(image.get_array(), np.exp(flow.log_prob(centres(image))), rtol=1e-10, atol=1e-300)
    np.testing.assert_array_equal(dots(axes), x)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("height", "mass")
    assert f"{np.mean(flow.log_prob(x)):.3f} nats".replace("-", "\N{MINUS SIGN}") in axes.get_title(loc="left")
    bare = plot.density(flow, rng=np.random.default_rng(0))
    image, = panels(bare)[0].images
    assert not panels(bare)[0].lines and abs(image.get_array().sum() * cell(image) - 1) < 0.03


def test_the_shade_of_a_normal_density_is_its_part_of_the_largest():
    """And of any density it is the mass where the density is lower: a plain around a narrow peak is seen."""
    image = panels(plot.density(Flow(Affine(np.zeros(2), np.ones(2)), StandardNormal(2)), rng=np.random.default_rng(0)))[0].images[0]
    p = np.asarray(image.get_array())
    np.testing.assert_allclose(image.norm(p), p / p.max(), atol=0.01)
    peak = np.array([[1.0, 1.0, 1.0, 97.0]])
    shade = plot.ByMass(peak)
    np.testing.assert_allclose(shade(peak), [[0.03, 0.03, 0.03, 1.0]], rtol=1e-14)
    np.testing.assert_allclose(shade.inverse([0, 0.03, 1]), [0, 1, 97], rtol=1e-14)
    assert not plot.ByMass(np.zeros((2, 2)))(np.zeros(3)).any()


def test_a_line_around_half_of_the_mass_stands_above_the_points():
    """The points cover a narrow peak, whose density would not be seen."""
    flow = Flow(Affine(np.zeros(2), np.ones(2)), StandardNormal(2))
    axes = panels(plot.density(flow, flow.sample(np.random.default_rng(0), 500)))[0]
    outline, points = axes.collections[-1], axes.lines[0]
    radius = np.hypot(*outline.get_paths()[0].vertices.T)
    np.testing.assert_allclose(radius, np.sqrt(2 * np.log(2)), rtol=0.01)
    drawn = axes.get_children()                                             # of one zorder, in this order
    assert (outline.get_zorder(), drawn.index(outline)) > (points.get_zorder(), drawn.index(points))


def test_legends_stand_beside_the_curves():
    flow = Flow(Affine(np.zeros(1), np.ones(1)), StandardNormal(1))
    x = flow.sample(np.random.default_rng(0), 100)
    history = {"step": [0, 10, 20], "train": [None, 3.0, 2.0], "validation": [4.0, 3.5, 2.5]}
    for figure in (plot.history(history), plot.density(flow, x)):
        figure.canvas.draw()
        (legend,), axes = figure.legends, figure.axes[0]
        assert not legend.get_window_extent().overlaps(axes.get_window_extent()) and not axes.get_legend()


def test_density_of_one_entry():
    flow = Flow(Affine(shift=np.array([3.0]), scale=np.array([2.0])), StandardNormal(1))
    axes = plot.density(flow, flow.sample(np.random.default_rng(0), 400)).axes[0]
    x, p = axes.lines[0].get_data()
    np.testing.assert_allclose(p, np.exp(-((x - 3) / 2) ** 2 / 2) / math.sqrt(8 * math.pi), rtol=1e-12)
    assert sum(bar.get_width() * bar.get_height() for bar in axes.patches) == pytest.approx(1)


def test_density_of_many_entries():
    """Below the diagonal data, above it samples, equally many of both."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 8)) + np.arange(8)
    flow = Flow(Affine(shift=np.arange(8.0), scale=np.ones(8)), StandardNormal(8))
    figure = plot.density(flow, x, rng=np.random.default_rng(5))
    axes = np.array(figure.axes).reshape(6, 6)
    samples = flow.sample(np.random.default_rng(5), plot.MANY)
    np.testing.assert_array_equal(dots(axes[4, 1]), x[:, [1, 4]])
    np.testing.assert_array_equal(dots(axes[1, 4]), samples[:60, [4, 1]])
    assert axes[5, 0].get_xlabel() == "$x_{1}$" and axes[3, 0].get_ylabel() == "$x_{4}$"
    assert len(figure.legends) == 1


def test_density_of_thirty_entries():
    """The names of breast_cancer's columns, which are longer than a panel is wide, fit; a title says what is not shown."""
    rng = np.random.default_rng(0)
    flow = Flow(Affine(shift=np.zeros(30), scale=np.ones(30)), StandardNormal(30))
    names = [f"worst fractal dimension, {i + 1}" if i % 2 else f"radius {i + 1}" for i in range(30)]
    x = rng.normal(size=(40, 30))
    for entries, shown in ((None, range(6)), ([29, 3, 7], [29, 3, 7])):
        figure = plot.density(flow, x, rng=rng, names=names, entries=entries)
        n = len(shown)
        assert len(figure.axes) == n**2 and figure.get_suptitle() == f"{n} of 30 entries"
        np.testing.assert_array_equal(dots(figure.axes[n]), x[:, [shown[0], shown[1]]])
        figure.draw_without_rendering()
        bottom = figure.axes[-n:]
        boxes = [axes.xaxis.label.get_window_extent() for axes in bottom]
        assert all(a.x1 < b.x0 for a, b in zip(boxes, boxes[1:])), [axes.get_xlabel() for axes in bottom]
        assert all(axes.get_xlabel() == plot.short(names[j]) for axes, j in zip(bottom, shown))
    assert plot.short("mean radius") == "mean radius" and plot.short("worst fractal dimension") == "worst fractal dim\u2026"


@pytest.mark.parametrize("arguments, match", [
    ({"data": np.zeros((4, 2)), "entries": [2]}, "entries must be indices 0 .. 1"),
    ({"data": np.zeros((4, 2)), "entries": []}, "or more"),
    ({"data": np.zeros((4, 3))}, r"data must be .*\(4, 3\)"), ({"data": np.zeros((0, 2))}, "n >= 1"),
    ({}, "rng must be"), ({"data": np.zeros((4, 2)), "names": ["a"]}, "names must hold 2 names, not 1")])
def test_density_refuses(arguments, match):
    with pytest.raises(ValueError, match=match):
        plot.density(curved(), **arguments)


def test_shades_are_perceptually_uniform():
    """From white to dark in steps of nearly one length in CIELAB, darker at every step."""
    rgb = plot.SHADES(np.linspace(0, 1, 101))[:, :3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                             [0.0193339, 0.1191920, 0.9503041]]).T / [0.95047, 1, 1.08883]
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], -1)
    lengths = np.linalg.norm(np.diff(lab, axis=0), axis=1)
    assert (np.diff(lab[:, 0]) < 0).all() and lab[0, 0] > 99.9
    assert lengths.max() < 1.6 * lengths.mean() and lengths.min() > 0.5 * lengths.mean()


# -- history ----------------------------------------------------------------------------------------------------------

def test_history():
    rng = np.random.default_rng(0)
    flow = Flow(Affine(shift=np.zeros(2), scale=np.ones(2)), StandardNormal(2))
    result = fit(flow, rng.normal(size=(300, 2)) + 3, validation=0.2, steps=100, rng=rng)
    axes = plot.history(result).axes[0]
    raw, smooth, validation, best = axes.lines
    np.testing.assert_array_equal(raw.get_data(), (result.history["step"], result.history["loss"]))
    i = 40
    assert smooth.get_ydata()[i] == pytest.approx(result.history["loss"][i - 1:i + 1].mean())
    wanted = result.history["validation_step"], result.history["validation_loss"]
    np.testing.assert_array_equal(validation.get_data(), wanted)
    assert best.get_xdata()[0] == result.step and best.get_ydata()[0] == result.history["validation_loss"].min()
    assert "nats" in axes.get_ylabel() and axes.get_xlabel() == "step"

    bits = plot.history(result.history, dimensions=2, levels=256).axes[0]
    np.testing.assert_allclose(bits.lines[2].get_ydata(), validation.get_ydata() / (2 * math.log(2)) + 8, rtol=1e-14)
    assert "bits/dim" in bits.get_ylabel()


def test_history_of_a_file_and_what_is_none():
    kept = {"step": [0, 10, 20], "train": [None, 3.0, 2.0], "validation": [4.0, 3.5, 2.5]}
    lines = plot.history(kept).axes[0].lines
    np.testing.assert_array_equal(lines[0].get_data(), ([10, 20], [3, 2]))
    np.testing.assert_array_equal(lines[2].get_data(), ([0, 10, 20], [4, 3.5, 2.5]))
    assert len(plot.history(kept | {"validation": None}).axes[0].lines) == 2
    for wrong in ({}, None, 3, kept | {"train": [None, None, None]}, {"step": [1], "loss": [1.0]},
                  {"step": [1, 2], "loss": [1.0], "validation_step": [], "validation_loss": []}):
        with pytest.raises(ValueError, match="history: "):
            plot.history(wrong)


# -- images and interpolation ------------------------------------------------------------------------------------------

def test_images_are_in_the_axes():
    rng = np.random.default_rng(0)
    real, drawn = rng.random((7, 64)), rng.random((3, 8, 8)) * 3 - 1
    figure = plot.images([real, drawn.reshape(3, 64)], ["real", "samples"], shape=(8, 8), columns=5, limits=(0, 1))
    tiles = [axes.images[0].get_array() for axes in figure.axes]
    assert [tile.shape for tile in tiles] == [(17, 44, 3), (8, 44, 3)]
    for k, image in enumerate(real.reshape(7, 8, 8)):
        i, j = 9 * (k // 5), 9 * (k % 5)
        np.testing.assert_array_equal(tiles[0][i:i + 8, j:j + 8], np.repeat(image[..., None], 3, -1))
    np.testing.assert_array_equal(tiles[1][:, 9:17, 0], np.clip(drawn[1], 0, 1))
    assert (tiles[1][:, 27:] == 1).all() and (tiles[0][8] == 1).all()
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["real", "samples"]


def test_images_in_colour_and_their_limits():
    x = np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    tile = plot.images([x]).axes[0].images[0].get_array()
    np.testing.assert_allclose(tile[:4, :5], np.moveaxis(x[0], 0, -1) / 119, rtol=1e-15)
    np.testing.assert_allclose(tile[:4, 6:], np.moveaxis(x[1], 0, -1) / 119, rtol=1e-15)
    assert (plot.images([np.full((1, 2, 2), 7.0)]).axes[0].images[0].get_array() == 0).all()


@pytest.mark.parametrize("groups, options, match", [
    ([], {}, "at least one group"), ([np.zeros((2, 5))], {}, r"shape \(2, 5\)"),
    ([np.zeros((2, 5))], {"shape": (2, 3)}, r"not images of shape \(2, 3\)"),
    ([np.zeros((2, 2, 3, 3))], {}, "1 or 3 channels"), ([np.zeros((2, 3, 3))], {"titles": ["a", "b"]}, "1 titles, not 2")])
def test_images_refuse(groups, options, match):
    with pytest.raises(ValueError, match=match):
        plot.images(groups, **options)


def test_interpolation_is_straight_in_latents():
    flow = Flow(Sigmoid(), StandardNormal(4))
    a, b = np.array([[0.1, 0.5, 0.9, 0.2]]), np.array([[0.6, 0.5, 0.3, 0.7]])
    tile = plot.interpolation(flow, a, b, steps=5, shape=(2, 2), limits=(0, 1)).axes[0].images[0].get_array()
    z = [np.log(x / (1 - x)) for x in (a[0], b[0])]
    for k in range(5):
        x = 1 / (1 + np.exp(-((1 - k / 4) * z[0] + k / 4 * z[1])))
        np.testing.assert_allclose(tile[:, 3 * k:3 * k + 2, 0], x.reshape(2, 2), rtol=1e-14)

    flow = curved()
    a, b = flow.sample(np.random.default_rng(0), 2)[:, None]
    line = plot.interpolation(flow, a, b, steps=3).axes[0].lines[1].get_xydata()
    middle = (flow.bijector.inverse(a) + flow.bijector.inverse(b)) / 2
    np.testing.assert_allclose(line, [a[0], flow.bijector.forward(middle)[0], b[0]], rtol=1e-12)
    for wrong, match in (({"a": a, "b": [[0, 0], [1, 1]]}, "holds 1 events, b 2"), ({"a": a, "b": b, "steps": 1}, "steps")):
        with pytest.raises(ValueError, match=match):
            plot.interpolation(flow, **wrong)


# -- matplotlib's settings, and files ---------------------------------------------------------------------------------

def test_nothing_of_matplotlib_is_changed(tmp_path):
    before, figures = dict(mpl.rcParams), pyplot.get_fignums()
    flow, rng = curved(), np.random.default_rng(0)
    for figure in (plot.transport(flow, rng), plot.density(flow, rng=rng), plot.images([np.zeros((1, 2, 2))])):
        plot.save(figure, tmp_path / "a.png")
    assert dict(mpl.rcParams) == before and pyplot.get_fignums() == figures


def test_save(tmp_path, monkeypatch):
    figure = plot.images([np.zeros((1, 2, 2))])
    for form, start in ((".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")):
        plot.save(figure, tmp_path / f"a{form}")
        first = (tmp_path / f"a{form}").read_bytes()
        assert first.startswith(start)
    assert figure._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="must end in .png, .pdf, .svg; .*a.jpg"):
        plot.save(figure, tmp_path / "a.jpg")

    def fails(*_, **__):
        raise RuntimeError("the disk is full")
    before = (tmp_path / "a.png").read_bytes()
    monkeypatch.setattr("refflow.saving.os.replace", fails)
    with pytest.raises(RuntimeError):
        plot.save(plot.images([np.ones((1, 3, 3))]), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pdf", "a.png", "a.svg"]


WITHOUT = "import sys; sys.modules['matplotlib'] = sys.modules['matplotlib.colors'] = None\n"


def test_without_matplotlib():
    code = WITHOUT + "import refflow, refflow.cli\ntry:\n from refflow import plot\nexcept ImportError as e: print(e)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 'pip install "refflow[plot]"' in said
    code = WITHOUT + ("import refflow.cli\n"
                      "sys.exit(refflow.cli.main(['plot', 'x.npz', '--what', 'density', '--out', 'x.png']))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and 'pip install "refflow[plot]"' in done.stderr and "Traceback" not in done.stderr


# -- refflow plot -----------------------------------------------------------------------------------------------------

@pytest.fixture
def run(run, tmp_path):
    save(curved(), "flow.npz", {"columns": ["a", "b"], "history": {"step": [0, 5], "train": [2.0, 1.0], "validation": None}})
    save(Flow(Sigmoid(), StandardNormal(4)), "four.npz")
    save(turning(), "turning.npz")
    np.save("two.npy", np.array([[0.5, 0.25], [-0.5, 1.0], [0.0, 0.0]]))
    Path("ac.csv").write_text("a,c\n0.5,0.25\n")
    np.save("four.npy", np.array([[0.5, 0.25, 0.125, 0.75], [0.1, 0.2, 0.3, 0.4]]))

    def call(*arguments):
        return run("plot", *arguments)

    call.path = tmp_path
    return call


@pytest.mark.parametrize("arguments", [
    ("turning.npz", "--what", "paths"), ("flow.npz", "--what", "transport", "--panels", 3), ("flow.npz", "two.npy", "--what", "density"),
    ("flow.npz", "--what", "density"), ("flow.npz", "--what", "history"), ("four.npz", "four.npy", "--what", "density"),
    ("four.npz", "four.npy", "--what", "density", "--columns", "4,1"),
    ("four.npz", "four.npy", "--what", "images", "--shape", "2x2"), ("four.npz", "--what", "images", "--shape", "1x2x2"),
    ("four.npz", "four.npy", "--what", "interpolation", "--shape", "2x2"),
    ("flow.npz", "two.npy", "--what", "interpolation")])
def test_plot_writes_a_picture(run, arguments):
    status, out, err = run(*arguments, "--out", "a.png", "--json")
    assert status == 0 and not err and json.loads(out)["out"] == "a.png"
    first = (run.path / "a.png").read_bytes()
    pixels = pyplot.imread(run.path / "a.png")
    assert min(pixels.shape[:2]) > 50 and np.ptp(pixels[..., :3]) > 0.5
    assert run(*arguments, "--out", "a.png")[0] == 2 and (run.path / "a.png").read_bytes() == first
    assert run(*arguments, "--out", "a.png", "--force")[0] == 0 and (run.path / "a.png").read_bytes() == first


@pytest.mark.parametrize("arguments, match", [
    (("none.npz", "--what", "density"), "there is no file none.npz"),
    (("two.npy", "--what", "density"), "must end in .npz or .json"),
    (("four.npz", "--what", "transport"), "vectors of 2 entries"),
    (("flow.npz", "--what", "paths"), "must have a DiscreteFlow among its stages"),
    (("four.npz", "--what", "history"), "history of its training is not in the file"),
    (("four.npz", "--what", "images"), "--shape HxW"),
    (("four.npz", "--what", "images", "--shape", "3x3"), "9 numbers, the flow's events are of 4"),
    (("four.npz", "four.npy", "--what", "density", "--columns", "1,5"), "--columns: the flow has 4 columns, not 5"),
    (("four.npz", "two.npy", "--what", "density"), "its number of columns is 2, that of the flow 4"),
    (("flow.npz", "ac.csv", "--what", "density"), "ac.csv: column 2 is 'c', that of the flow 'b'"),
    (("flow.npz", "none.csv", "--what", "density"), "there is no file none.csv"),
    (("flow.npz", "--what", "interpolation"), "needs DATA")])
def test_plot_could_not_run(run, arguments, match):
    status, out, err = run(*arguments, "--out", "a.png")
    assert status == 2 and match in err and not out and not (run.path / "a.png").exists()


def test_plot_adds_the_noise_that_fit_has_added(run, monkeypatch):
    shown = []
    monkeypatch.setattr(plot, "density",
                        lambda flow, data, **kept: shown.append((data, kept["names"])) or plot.picture(1, 1))
    np.save("whole.npy", np.array([[1.5, 3.0], [2.5, 4.0]]))
    save(curved(), "noisy.npz", {"columns": ["a", 7], "dequantised": [1]})
    for flow in ("noisy.npz", "flow.npz"):
        assert run(flow, "whole.npy", "--what", "density", "--out", "a.png", "--force")[0] == 0
    (with_noise, no_names), (without, names) = shown
    assert (with_noise[:, 0] == [1.5, 2.5]).all() and (np.floor(with_noise[:, 1]) == [3, 4]).all()
    assert (with_noise[:, 1] != [3, 4]).all() and (without == [[1.5, 3.0], [2.5, 4.0]]).all()
    assert no_names is None and names == ["a", "b"]


def test_plot_writes_the_picture_of_a_page(run):
    status, out, err = run("tanh", "--out", "a.svg", "--json")
    assert status == 0 and not err and json.loads(out) | {"label": ""} == {"page": "Tanh", "out": "a.svg", "label": ""}
    assert 'aria-label="The graph of Tanh' in (run.path / "a.svg").read_text()
    assert run("Tanh", "--out", "a.svg")[0] == 2 and run("Tanh", "--out", "a.svg", "--force")[0] == 0
    for arguments, match in ((("Tahn", "--out", "b.svg"), "did you mean Tanh"), (("Tanh", "--out", "b.png"), "must end in .svg"),
                             (("Dropout", "--out", "b.svg"), "Dropout has no picture"),
                             (("flow.npz", "--out", "b.svg"), "say which picture of flow.npz: transport")):
        status, _, err = run(*arguments)
        assert status == 2 and match in err and not (run.path / arguments[-1]).exists()


def test_plot_refuses_names(run):
    assert "must end in .png, .pdf, .svg" in run("flow.npz", "--what", "density", "--out", "a.jpg")[2]
    assert "no directory" in run("flow.npz", "--what", "density", "--out", "none/a.png")[2]
    for wrong in (("--what", "pie"), ("--what", "images", "--shape", "8"), ("--what", "transport", "--panels", "1")):
        with pytest.raises(SystemExit) as stopped:
            run("flow.npz", *wrong, "--out", "a.png")
        assert stopped.value.code == 2


# -- the pictures of validation ---------------------------------------------------------------------------------------

def test_two_moons():
    from validation.pictures import two_moons
    x = two_moons(np.random.default_rng(0), 4000, noise=0.0)
    up, down = x + [1.0, 0.5], -x + [1.0, 0.5]
    on = [np.abs(np.hypot(*half.T) - 2) + np.maximum(-half[:, 1], 0) < 1e-12 for half in (up, down)]
    assert (on[0] | on[1]).all() and abs(on[0].mean() - 0.5) < 0.04


def test_digits_flow():
    """(1) of validation.pictures: the units of the digits' flow end in (0, 1) and its density is one of x."""
    from validation.pictures import digits_flow, one_hot
    rng = np.random.default_rng(0)
    x = rng.random((200, 64)).astype(np.float32)
    flow = digits_flow(rng, x, blocks=1, width=4).at(context=one_hot(3, 10).astype(np.float32))
    assert flow.event_shape == (64,)
    assert ((s := flow.sample(rng, 50)) > -1 / 18).all() and (s < 19 / 18).all()

    def logit(x):
        s = x.astype(np.float64) * 0.9 + 0.05
        return np.log(s / (1 - s)), np.log(0.9 / (s * (1 - s))).sum(-1)

    y, spread = logit(x)
    mean, scale = y.mean(0), y.std(0)
    z, log_det = flow.bijector.inverse_and_log_det(x[:5])
    np.testing.assert_allclose(np.sort(z, -1), np.sort((y[:5] - mean) / scale, -1), rtol=2e-3, atol=2e-4)
    np.testing.assert_allclose(log_det, spread[:5] - np.log(scale).sum(), rtol=1e-4)


# -- alignments -------------------------------------------------------------------------------------------------------

def test_alignment():
    """The bounds of the symbols are where the path moves on; a symbol stands over the middle of its frames."""
    path = path_of(np.array([[2, 0, 3, 1]]))[0]
    mel = np.arange(18.0).reshape(3, 6)
    figure = plot.alignment(path, mel, symbols=list("abcd"), rate=2.0, title="t")
    above, below = panels(figure)[:2]
    bounds = [segment[0, 0] for segment in above.collections[0].get_segments()]
    np.testing.assert_array_equal(bounds, [1.0, 1.0, 2.5])
    np.testing.assert_array_equal(above.images[0].get_array(), mel)
    np.testing.assert_array_equal(below.images[0].get_array(), path)
    top = above.child_axes[0]
    assert dict(zip([text.get_text() for text in top.get_xticklabels()], top.get_xticks())) == {"a": 0.5, "c": 1.75, "d": 2.75}
    assert [text.get_text() for text in below.get_yticklabels()] == list("abcd") and below.get_xlabel() == "time (s)"
    assert panels(plot.alignment(path, mel))[1].get_xlabel() == "frame"


@pytest.mark.parametrize("arguments, match", [
    ({"path": np.eye(3), "mel": np.zeros((2, 4))}, r"the same frames, not shapes \(3, 3\) and \(2, 4\)"),
    ({"path": np.ones((2, 2)), "mel": np.zeros((2, 2))}, "a single 1 in each frame"),
    ({"path": np.eye(2), "mel": np.zeros((2, 2)), "symbols": ["a"]}, "each of the 2 symbols, not 1")])
def test_alignment_refuses(arguments, match):
    with pytest.raises(ValueError, match=match):
        plot.alignment(**arguments)
