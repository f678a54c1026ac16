r"""Pictures of flows, with matplotlib: pip install "refflow[plot]".

    transport(flow, rng)        a density step by step, z_0 -> z_K
    density(flow, data)         a learned density over data; for more than two entries, samples next to data
    history(result)             the training curve
    images([real, samples])     images in rows
    interpolation(flow, a, b)   events between others, along straight lines between their latents
    alignment(path, mel)        which frames of speech belong to which symbol of its text

With z_i = f_i(z_(i-1)) and x = z_K, the density of an intermediate variable is the density of the flow that ends there,
    log p_i(z_i) = log p_0(z_0) - sum_{j <= i} log|det df_j/dz_(j-1)|               (1)
evaluated on a grid of z_i, not estimated from samples.  The shade of a density is the mass where it is lower,
    shade(p) = P[p(x) <= p]                                                         (2)
so that a narrow peak and a wide plain are both visible.  For a normal density in the plane it is p / max p.  An interpolation,
for t from 0 to 1, is
    x(t) = f((1 - t) f^-1(a) + t f^-1(b))                                           (3)
The training curve of data x = (v + u) / levels, u uniform on [0, 1), of D entries, is in bits for each entry of v + u:
    bits/dim = loss / (D log 2) + log levels / log 2                                (4)

Each function returns a new matplotlib Figure, which is not registered with pyplot and displays itself in a notebook;
`save(figure, path)` writes it.  matplotlib's settings are not changed.
"""

from __future__ import annotations

import io
import math
from os import PathLike
from pathlib import Path

import numpy as np

from .core import Chain, Flow, Inverse
from .core.arrays import in_parts
from .core.compose import single_steps
from .saving import write_atomically
from .training import Result

try:
    from matplotlib.colors import LinearSegmentedColormap, Normalize
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
except ImportError as error:
    raise ImportError('refflow.plot needs matplotlib: pip install "refflow[plot]"') from error

# White to dark blue in equal steps of CIELAB, light to dark throughout.
SHADES = LinearSegmentedColormap.from_list("refflow", (
    "#ffffff", "#dcf6ff", "#b5e9fc", "#8cd9f7", "#5fc4ef", "#31ace0", "#0490ca", "#0b75ad", "#1c5c8e", "#21466f", "#1e3050"))
BLUE, ORANGE, GREY, INK = "#0072b2", "#d55e00", "#8c8c8c", "#333333"        # Okabe & Ito's blue and vermilion, and greys
FORMS = (".png", ".pdf", ".svg")
PANELS_IN_A_ROW = 6
MOST_ENTRIES = 6
LONGEST = 18                            # characters of a name next to an axis
LARGEST = 2.0**1000                     # the largest number in a picture; the width of the axes must not overflow
MANY = 4000                             # samples used to choose a window
SHADES_TOLD = (0.0, 0.25, 0.5, 0.75, 1.0)               # on the bar


class Picture(Figure):
    """A Figure that a notebook shows without pyplot."""

    def _repr_png_(self):
        return rendered(self, ".png")


def rendered(figure, form) -> bytes:
    """The bytes of a figure; the same figure gives the same bytes."""
    undated = {".png": {}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    content = io.BytesIO()
    figure.savefig(content, format=form[1:], dpi=200, metadata=undated[form])
    return content.getvalue()


def save(figure: Figure, path: str | PathLike[str], replace: bool = True) -> None:
    """Write a figure to a .png, .pdf or .svg file; the file is complete or not written at all.

    An existing file is replaced, or with `replace` False left unchanged: FileExistsError.
    """
    form = Path(path).suffix.lower()
    if form not in FORMS:
        raise ValueError(f"save: the name of a picture must end in {', '.join(FORMS)}; {path}")
    write_atomically(path, rendered(figure, form), replace)


# -- axes -------------------------------------------------------------------------------------------------------------

def picture(width, height):
    return Picture(figsize=(width, height), layout="constrained", facecolor="white")


def short(name):
    """A name, shortened to fit next to the axes of one entry."""
    return name if len(name) <= LONGEST else f"{name[:LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


def quiet(axes, ticks=4):
    """Thin grey axes with a few small numbers."""
    for spine in axes.spines.values():
        spine.set(linewidth=0.6, color=GREY)
    axes.tick_params(labelsize=8, width=0.6, length=2.5, color=GREY, labelcolor=INK)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(ticks))
        axis.label.set(size=9, color=INK)


def open_corner(axes):
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def legend(where, **options):
    where.legend(frameon=False, fontsize=8, labelcolor=INK, handlelength=1.4, **options)


def number(value):
    return f"{value:.3f}".replace("-", "\N{MINUS SIGN}")


# -- events -----------------------------------------------------------------------------------------------------------

def checked_flow(name, flow):
    if not isinstance(flow, Flow):
        raise ValueError(f"{name}: flow must be a Flow, not {type(flow).__name__}")
    if flow.parameter_batch or flow.event_shape is None:
        raise ValueError(f"{name}: flow must be one flow of events of known shape")
    return flow


def drawn(name, density, rng, n):
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"{name}: rng must be a numpy.random.Generator, not {type(rng).__name__}")
    x = density.sample(rng, n)
    if not largest(x) <= LARGEST:
        raise ValueError(f"{name}: a sample of the flow is larger than {LARGEST:.3g}, the largest number that can be drawn")
    return x


def largest(x):
    return float(np.abs(x).max(initial=0))


def events(name, what, given, shape):
    """One or more finite events with the flow's event shape."""
    if isinstance(given, np.ma.MaskedArray):
        raise ValueError(f"{name}: {what} must not be a masked array, whose mask would be lost")
    x = np.asarray(given)
    if x.shape[1:] != shape or not len(x) or x.dtype.kind not in "fiu" or not np.isfinite(x).all():
        raise ValueError(f"{name}: {what} must be finite numbers of shape (n, {', '.join(map(str, shape))}), n >= 1, not "
                         f"{x.dtype} of shape {x.shape}")
    if largest(x) > LARGEST:
        raise ValueError(f"{name}: {what} must be at most {LARGEST:.3g} in magnitude; the largest is {largest(x):.3g}")
    return x.astype(np.float64) if x.dtype.kind in "iu" else x


def around(points, margin=0.15):
    """(low, high): the box of all points except the outermost thousandth, plus a margin."""
    low, high = np.quantile(points, (0.001, 0.999), axis=0).astype(np.float64)
    room = np.where(high > low, margin * (high - low), 1.0)
    return low - room, high + room


def cells(low, high, resolution):
    """The centres of resolution x resolution cells of a box, (rows, columns, 2), row 0 at the bottom."""
    x, y = (a + (np.arange(resolution) + 0.5) * (b - a) / resolution for a, b in zip(low, high))
    return np.stack(np.meshgrid(x, y), -1)


def density_on(law, low, high, resolution):
    """p at the centres of cells."""
    grid = cells(low, high, resolution)
    log_prob = in_parts(law.log_prob, grid.reshape(-1, 2))
    return np.exp(log_prob).reshape(resolution, resolution)


def shaded(axes, p, low, high):
    """Show a density; white is 0, the darkest shade is its largest value in these axes, and all shades have the same mass."""
    return axes.imshow(p, SHADES, norm=ByMass(p), origin="lower", aspect="auto", interpolation="bilinear",
                       interpolation_stage="rgba", extent=(low[0], high[0], low[1], high[1]))


class ByMass(Normalize):
    """(2), from densities to shades; `p`: the densities of cells of one size."""

    def __init__(self, p):
        super().__init__(0, max(p.max(), np.finfo(p.dtype).tiny))
        values, count = np.unique(p[p > 0], return_counts=True)
        mass = np.cumsum(count * values)
        self.densities, self.shades = np.append(0, values), np.append(0, mass / mass[-1:])              # (2)

    def __call__(self, value, clip=None):
        return np.ma.array(np.interp(value, self.densities, self.shades))

    def inverse(self, value):
        return np.interp(value, self.shades, self.densities)


def around_half(axes, p, low, high, norm):
    """A line around half of the mass, above the points, which cover a narrow peak."""
    grid = cells(low, high, len(p))
    if p.any():
        axes.contour(grid[..., 0], grid[..., 1], p, [norm.inverse(0.5)], colors=INK, linewidths=0.7)


def dots(count):
    """Many points are smaller, so that they do not hide what is under them."""
    return {"markersize": 1.6 if count > 500 else 2.6, "markeredgewidth": 0, "alpha": 0.5}


# -- transport --------------------------------------------------------------------------------------------------------

def steps_of(f):
    """f_1, ..., f_K with f = f_K(... f_1(z)): the stages of all nested chains."""
    return [Inverse(step) if side else step for _, step, side in single_steps(f, 0)]


def transport(flow, rng=None, *, z=None, panels=None, points=300, resolution=200, grid=True) -> Picture:
    """z_0, z_1, ..., z_K: the density of each in shades, with points and a grid of z_0 carried along.

    The flow must be of vectors of 2 entries.  `z`: the points of z_0, (n, 2), by default `points` points drawn with the
    Generator `rng`.  `panels`: how many to show, evenly spaced and including both ends, by default all.  Shades, (2), go from
    0 to the largest density of each panel.  The panels share one window if every z_i fills at least a third of it.
    """
    checked_flow("transport", flow)
    if flow.event_shape != (2,) or flow.base.event_shape != (2,):
        raise ValueError(f"transport: flow must be of vectors of 2 entries, not of events of shape {flow.event_shape}")
    many = drawn("transport", flow.base, rng, max(MANY, points)) if z is None else events("transport", "z", z, (2,))
    points = points if z is None else len(many)
    steps = list(steps_of(flow.bijector))
    states = states_along(flow, steps, many, lines_of(flow.base, many))
    states = [states[i] for i in chosen(len(states), panels)]
    windows = common_window([around(state["many"], 0.05) for state in states])
    rows = -(-len(states) // PANELS_IN_A_ROW)
    columns = -(-len(states) // rows)
    figure = picture(1.9 * columns + 0.3, 2.1 * rows + 0.2)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for one, state, (low, high) in zip(axes, states, windows):
        shaded(one, density_on(state["law"], low, high, resolution), low, high)
        carried(one, state["many"][:points], state["lines"] if grid else None)
        one.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), box_aspect=1)
        one.set_title(title_of(state["index"], len(steps)), size=10, color=INK)
        quiet(one, 3)
    for one in axes[len(states):]:
        one.set_axis_off()
    same = all(np.array_equal(windows[0], w) for w in windows)
    for i, one in enumerate(axes[:len(states)] if same else ()):
        one.tick_params(labelleft=i % columns == 0, labelbottom=i + columns >= len(states))
    return figure


def carried(axes, points, lines):
    if lines is not None:
        axes.plot(lines[..., 0], lines[..., 1], color=INK, alpha=0.3, linewidth=0.45)
    axes.plot(*points.T, ".", color=ORANGE, markersize=2.2, markeredgewidth=0, alpha=0.8)


def title_of(i, last):
    return rf"$\mathbf{{x}} = \mathbf{{z}}_{{{i}}}$" if i == last else rf"$\mathbf{{z}}_{{{i}}}$"


def states_along(flow, steps, many, lines):
    """What to draw for every z_i that is a vector of 2 entries."""
    found = [{"index": 0, "law": flow.base, "many": many, "lines": lines}]
    known = np.isfinite(lines).all(-1)
    inside = lines[known]
    for i, f in enumerate(steps, 1):
        many, inside = in_parts(f.forward, many), in_parts(f.forward, inside)
        if many.shape[1:] != (2,):
            continue
        moved = np.full(lines.shape, np.nan)
        moved[known] = inside
        law = Flow(Chain(steps[:i]), flow.base)                                     # (1)
        found.append({"index": i, "law": law, "many": many, "lines": moved})
    return found


def lines_of(base, many, count=11, fineness=1000):
    """(fineness, 2 count, 2): lines of both directions in the box of the samples, NaN outside the support."""
    low, high = np.quantile(many, (0.005, 0.995), axis=0)
    at, along = np.linspace(0, 1, count), np.linspace(0, 1, fineness)
    u, v = np.meshgrid(at, along)
    lines = low + (high - low) * np.concatenate([np.stack([u, v], -1), np.stack([v, u], -1)], 1)
    outside = base.log_prob(lines) == -np.inf
    return np.where(outside[..., None], np.nan, lines)


def chosen(count, panels):
    """The indices of `panels` of 0 .. count-1, evenly spaced, including both ends."""
    if panels is None:
        return range(count)
    if not isinstance(panels, (int, np.integer)) or panels < 2:
        raise ValueError(f"transport: panels must be an int >= 2, not {panels!r}")
    return np.unique(np.round(np.linspace(0, count - 1, panels)).astype(int))


def common_window(windows):
    """One square window for all panels if each fills at least a third of it, else one each."""
    low, high = np.min([w[0] for w in windows], 0), np.max([w[1] for w in windows], 0)
    half = (high - low).max() / 2
    square = (low + high) / 2 - half, (low + high) / 2 + half
    if all(((b - a) >= 2 * half / 3).all() for a, b in windows):
        return [square] * len(windows)
    return windows


# -- density ----------------------------------------------------------------------------------------------------------

def density(flow, data=None, *, rng=None, names=None, entries=None, points=2000, resolution=300) -> Picture:
    """The density of a flow of vectors over data, (n, D).

    D = 1: its curve over a histogram.  D = 2: p(x) in shades, the data as points, and their mean log p in the title.  D > 2:
    the entries with the indices `entries`, by default the first 6, in pairs: data below the diagonal, samples above it, and
    the histograms of both on it.  `rng`, a Generator, draws the samples (for D <= 2 only if there are no data); at most
    `points` are shown.  `names`: the names of all entries.
    """
    checked_flow("density", flow)
    if len(flow.event_shape) != 1:
        raise ValueError(f"density: flow must be of vectors, not of events of shape {flow.event_shape}")
    D = flow.event_shape[0]
    x = None if data is None else events("density", "data", data, (D,))
    names = [rf"$x_{{{i + 1}}}$" for i in range(D)] if names is None else list(names)
    if len(names) != D:
        raise ValueError(f"density: names must hold {D} names, not {len(names)}")
    shown = list(range(min(D, MOST_ENTRIES)) if entries is None else entries)
    if not shown or any(not isinstance(j, (int, np.integer)) or not 0 <= j < D for j in shown):
        raise ValueError(f"density: entries must be indices 0 .. {D - 1}, one or more, not {entries!r}")
    samples = drawn("density", flow, rng, MANY) if x is None or D > 2 else None
    if D > 2:
        figure = pair_plots(None if x is None else x[:, shown], samples[:, shown], [short(names[j]) for j in shown], points)  # type: ignore[index]
        if len(shown) < D:
            figure.suptitle(f"{len(shown)} of {D} entries", size=9, color=INK)
        return figure
    low, high = around(samples if x is None else x)
    return (curve if D == 1 else plane)(flow, x, low, high, names, points, resolution)


def mean_log_prob(flow, x):
    return f"mean $\\log p(\\mathbf{{x}})$: {number(np.mean(in_parts(flow.log_prob, x)))} nats"


def curve(flow, x, low, high, names, points, resolution):
    figure = picture(4.6, 3.0)
    axes = figure.subplots()
    edges = np.linspace(low[0], high[0], resolution + 1)
    at = (edges[1:] + edges[:-1]) / 2
    if x is not None:
        bins = histogram_edges(low[0], high[0], len(x))
        axes.hist(x[:, 0], bins=bins, density=True, color=ORANGE, alpha=0.4, label="data")
        axes.set_title(mean_log_prob(flow, x), size=9, color=INK, loc="left")
    axes.plot(at, np.exp(in_parts(flow.log_prob, at[:, None])), color=BLUE, linewidth=1.5, label="flow")
    axes.set(xlim=(low[0], high[0]), xlabel=names[0], ylabel="density")
    axes.set_ylim(0)
    quiet(axes)
    open_corner(axes)
    if x is not None:
        legend(figure, loc="outside upper right", ncols=2)
    return figure


def histogram_edges(low, high, n):
    return np.linspace(low, high, int(np.clip(2 * n ** (1 / 3), 8, 60)) + 1)


def plane(flow, x, low, high, names, points, resolution):
    figure = picture(4.9, 4.2)
    axes = figure.subplots()
    p = density_on(flow, low, high, resolution)
    image = shaded(axes, p, low, high)
    if x is not None:
        axes.plot(*x[:points].T, ".", color=ORANGE, **dots(min(points, len(x))))
        around_half(axes, p, low, high, image.norm)
        axes.set_title(mean_log_prob(flow, x), size=9, color=INK, loc="left")
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel=names[0], ylabel=names[1])
    quiet(axes, 5)
    bar = figure.colorbar(image, ax=axes, aspect=30, pad=0.02)
    bar.set_ticks(image.norm.inverse(SHADES_TOLD))
    bar.ax.yaxis.set_major_formatter("{x:.2g}")
    bar.set_label(r"density $p(\mathbf{x})$")
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, width=0.6, length=2.5, color=GREY, labelcolor=INK)
    bar.ax.yaxis.label.set(size=9, color=INK)
    return figure


def pair_plots(x, samples, names, points):
    d = samples.shape[1]
    together = samples if x is None else np.concatenate([x, samples])
    low, high = around(together)
    count = min(points, len(samples) if x is None else len(x), len(samples))
    figure = picture(1.35 * d + 0.4, 1.35 * d + 0.5)
    axes = figure.subplots(d, d, squeeze=False)
    for i in range(d):
        for j in range(d):
            one = axes[i, j]
            if i == j:
                margins(one, x, samples, j, low[j], high[j])
            else:
                rows, colour = (samples, BLUE) if j > i or x is None else (x, ORANGE)
                one.plot(rows[:count, j], rows[:count, i], ".", color=colour, **dots(count))
                one.set_ylim(low[i], high[i])
            one.set(xlim=(low[j], high[j]), box_aspect=1)
            quiet(one, 3)
            one.tick_params(labelleft=j == 0 and i > 0, labelbottom=i == d - 1, left=i != j)
            if i == d - 1:
                one.set_xlabel(names[j])
            if j == 0:
                one.set_ylabel(names[i])
    if x is not None:
        legend(figure, handles=axes[0, 0].get_legend_handles_labels()[0], loc="outside upper left", ncols=2)
    return figure


def margins(axes, x, samples, j, low, high):
    edges = histogram_edges(low, high, len(samples) if x is None else min(len(x), len(samples)))
    if x is not None:
        axes.hist(x[:, j], bins=edges, density=True, color=ORANGE, alpha=0.4, label="data")
    axes.hist(samples[:, j], bins=edges, density=True, histtype="step", color=BLUE, linewidth=1.1, label="samples")
    axes.set_yticks([])


# -- history ----------------------------------------------------------------------------------------------------------

def history(result, *, dimensions=None, levels=1, loss_is="negative log-likelihood", unit="nats") -> Picture:
    """The training loss with its running mean, and the loss of the validation data.

    `result`: a `Result` of training, its `history`, or the history stored by `refflow fit`.  In nats for each event, or
    with `dimensions`, the number D of its entries, in bits for each, (4): `levels` is 256 where pixels of 256 values were
    divided by 256.  `loss_is`: what the loss is, in the `unit`, if that is not "".  The steep fall in the first twentieth of the
    steps may lie outside the axes.
    """
    step, loss, at, validation = history_columns(result.history if isinstance(result, Result) else result)
    if dimensions is not None:
        loss, validation = ((nats / (dimensions * math.log(2)) + math.log(levels) / math.log(2))        # (4)
                            for nats in (loss, validation))
    figure = picture(5.6, 3.4)
    axes = figure.subplots()
    smooth = running_mean(loss, max(1, len(loss) // 50))
    axes.plot(step, loss, color=BLUE, linewidth=0.5, alpha=0.3)
    axes.plot(step, smooth, color=BLUE, linewidth=1.5, label="training")
    if len(at):
        axes.plot(at, validation, color=ORANGE, linewidth=1.5, label="validation")
        best = int(np.argmin(validation))
        axes.plot(at[best], validation[best], "o", color=ORANGE, markersize=5, markerfacecolor="white",
                  clip_on=False, label=f"best: {number(validation[best])} at step {at[best]}")
    axes.set_ylim(*loss_limits(step, loss, smooth, at, validation))
    unit = unit if dimensions is None else "bits/dim"
    axes.set(xlabel="step", ylabel=f"{loss_is} ({unit})" if unit else loss_is)
    axes.margins(x=0.01)
    quiet(axes, 6)
    open_corner(axes)
    legend(figure, loc="outside upper right", ncols=3)
    return figure


def history_columns(given):
    """(steps, losses, steps of the validation, its losses)."""
    try:
        if "train" in given:                                    # as `refflow fit` stores it: the first may be unknown
            known = [i for i, loss in enumerate(given["train"]) if loss is not None]
            found = [[given[key][i] for i in known] for key in ("step", "train")]
            found += [[], []] if given["validation"] is None else [given["step"], given["validation"]]
        else:
            found = [given[key] for key in ("step", "loss", "validation_step", "validation_loss")]
        found = [np.array(column, dtype) for column, dtype in zip(found, (np.int64, np.float64) * 2)]
    except (KeyError, TypeError, ValueError, IndexError):
        raise ValueError("history: a Result of training is needed, or its history: step, loss, validation_step and "
                         "validation_loss") from None
    shapes = [column.shape for column in found]
    if len(shapes[0]) != 1 or shapes[0] != shapes[1] or shapes[2] != shapes[3] or not len(found[0]):
        raise ValueError(f"history: one loss for each step is needed, at least one; the shapes are {shapes}")
    return found


def running_mean(values, width):
    """The mean of the `width` values around each; of fewer at the ends."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    i = np.arange(len(values))
    low, high = np.maximum(i - width // 2, 0), np.minimum(i - width // 2 + width, len(values))
    return (total[high] - total[low]) / (high - low)


def loss_limits(step, loss, smooth, at, validation):
    """From the lowest loss to the highest after the first twentieth of the steps, with some room."""
    late, late_at = step > step[-1] / 20, at > step[-1] / 20
    values = loss
    if late.any():
        values = np.concatenate([np.quantile(loss[late], (0.005, 0.995)), smooth[late], validation[late_at]])
    values = values[np.isfinite(values)]
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    room = 0.08 * (high - low) or 0.1
    return low - room, high + room


# -- images -----------------------------------------------------------------------------------------------------------

def images(groups, titles=None, *, shape=None, columns=10, limits=None) -> Picture:
    """Images in rows of `columns`; the groups stand one above the other, each under its title.

    A group is (n, H, W), (n, channels, H, W) with 1 or 3 channels, or with `shape` = (H, W) or (channels, H, W) an array of
    n images in any shape.  `limits`: the values that are black and white, by default the least and largest of the first
    group.
    """
    groups = [pixels(group, shape) for group in groups]
    if not groups:
        raise ValueError("images: at least one group is needed")
    titles = [None] * len(groups) if titles is None else list(titles)
    if len(titles) != len(groups):
        raise ValueError(f"images: titles must hold {len(groups)} titles, not {len(titles)}")
    black, white = (groups[0].min(), groups[0].max()) if limits is None else limits
    tiles = [mosaic(group, min(columns, max(map(len, groups))), black, white) for group in groups]
    width = max(0.52 * min(columns, max(map(len, groups))), 1.5)
    heights = [width * tile.shape[0] / tile.shape[1] + (0.25 if title else 0.05) for tile, title in zip(tiles, titles)]
    figure = picture(width + 0.1, sum(heights) + 0.1)
    axes = figure.subplots(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
    for one, tile, title in zip(axes, tiles, titles):
        one.imshow(tile, interpolation="nearest")
        one.set_axis_off()
        if title:
            one.set_title(title, size=9, color=INK, loc="left", pad=4)
    return figure


def pixels(group, shape):
    """(n, H, W, channels)."""
    group = np.asarray(group)
    if shape is not None:
        if not len(group) or group[0].size != math.prod(shape):
            raise ValueError(f"images: events of shape {group.shape[1:]} are not images of shape {tuple(shape)}")
        group = group.reshape(len(group), *shape)
    if group.ndim == 3:
        group = group[:, None]
    if group.ndim != 4 or group.shape[1] not in (1, 3) or not group.size:
        raise ValueError(f"images: a group must be images (n, H, W) or (n, channels, H, W) with 1 or 3 channels, n >= 1, "
                         f"not an array of shape {group.shape}; `shape` gives the shape of one image")
    return np.moveaxis(group, 1, -1)


def mosaic(group, columns, black, white):
    """Images side by side on white, (height, width, 3), values from 0 to 1."""
    n, H, W, _ = group.shape
    gap, rows = max(1, H // 12), -(-n // columns)
    scaled = np.clip((group.astype(np.float64) - black) / (white - black if white > black else 1.0), 0, 1)
    tile = np.ones((rows * (H + gap) - gap, columns * (W + gap) - gap, 3))
    for k, image in enumerate(scaled):
        i, j = (k // columns) * (H + gap), (k % columns) * (W + gap)
        tile[i:i + H, j:j + W] = image
    return tile


# -- interpolation ----------------------------------------------------------------------------------------------------

def between(flow, a, b, steps):
    """x(t) for `steps` values of t, (n, steps, *event)."""
    t = np.linspace(0, 1, steps).reshape(1, steps, *[1] * len(flow.base.event_shape))
    z_a, z_b = flow.bijector.inverse(a)[:, None], flow.bijector.inverse(b)[:, None]
    z = (1 - t) * z_a + t * z_b                                                     # (3)
    return flow.bijector.forward(z)                                                 # (3)


def interpolation(flow, a, b, *, steps=9, shape=None, limits=None) -> Picture:
    """From the events a to the events b, (n, *event) each, along straight lines between their latents.

    Images: one row for each pair, a at its left end and b at its right; `shape` and `limits` as for `images`.  Vectors of 2
    entries, without `shape`: the curves, with `steps` points each, over the density.
    """
    checked_flow("interpolation", flow)
    a, b = (events("interpolation", what, x, flow.event_shape) for what, x in (("a", a), ("b", b)))
    if len(a) != len(b):
        raise ValueError(f"interpolation: a holds {len(a)} events, b {len(b)}")
    if not isinstance(steps, (int, np.integer)) or steps < 2:
        raise ValueError(f"interpolation: steps must be an int >= 2, not {steps!r}")
    if shape is None and flow.event_shape == (2,):
        return curves(flow, a, b, steps)
    x = between(flow, a, b, steps)
    limits = (min(a.min(), b.min()), max(a.max(), b.max())) if limits is None else limits
    return images([x.reshape(-1, *flow.event_shape)], shape=shape, columns=steps, limits=limits)


def curves(flow, a, b, steps):
    fine, coarse = between(flow, a, b, 200), between(flow, a, b, steps)
    low, high = around(np.concatenate([fine.reshape(-1, 2), coarse.reshape(-1, 2)]), 0.3)
    figure = plane(flow, None, low, high, [r"$x_1$", r"$x_2$"], 0, 300)
    for line, dots in zip(fine, coarse):
        figure.axes[0].plot(*line.T, color=ORANGE, linewidth=1.2)
        figure.axes[0].plot(*dots.T, "o", color=ORANGE, markersize=4, markeredgecolor="white", markeredgewidth=0.6)
    return figure


# -- alignments -------------------------------------------------------------------------------------------------------

def alignment(path, mel, *, symbols=None, rate=None, title=None) -> Picture:
    """Which frames belong to which symbol: the mel spectrogram with the bounds of the symbols, and the path below it.

    `path` (I, J): 1 where frame j belongs to symbol i, as `best_path` finds it or `GlowTTS.infer` uses it; `mel` (C, J);
    `symbols`: I strings; `rate`: frames a second, for an axis in seconds.  ValueError for arrays that do not fit.
    """
    path, mel = np.asarray(path), np.asarray(mel)
    if path.ndim != 2 or mel.ndim != 2 or path.shape[1] != mel.shape[1] or not path.size:
        raise ValueError(f"alignment: path (I, J) and mel (C, J) must have the same frames, not shapes {path.shape} and {mel.shape}")
    if not ((path == 0) | (path == 1)).all() or (path.sum(0) != 1).any():
        raise ValueError("alignment: path must have a single 1 in each frame, and 0 elsewhere")
    if symbols is not None and len(symbols) != len(path):
        raise ValueError(f"alignment: symbols must hold a string for each of the {len(path)} symbols, not {len(symbols)}")
    (I, J), scale = path.shape, 1.0 if rate is None else 1 / rate
    bounds = scale * np.concatenate([[0], np.cumsum(path.sum(1))])
    figure = picture(min(max(4.0, 0.3 * I), 18.0), 5.0)
    above, below = figure.subplots(2, 1, sharex=True)
    above.imshow(mel, origin="lower", aspect="auto", cmap=SHADES, extent=(0, scale * J, 0, len(mel)), interpolation="none")
    above.vlines(bounds[1:-1], 0, len(mel), color=ORANGE, linewidth=0.8)
    below.imshow(path, origin="lower", aspect="auto", cmap=SHADES, vmax=1.3, extent=(0, scale * J, -0.5, I - 0.5), interpolation="none")
    above.set(ylabel="mel channel")
    below.set(ylabel="symbol", xlabel="frame" if rate is None else "time (s)")
    for axes in (above, below):
        quiet(axes)
    if symbols is not None:
        named(above, below, bounds, [short(str(symbol)) for symbol in symbols])
    elif title:
        above.set_title(title, size=9, color=INK, loc="left")
    if symbols is not None and title:
        figure.suptitle(title, size=9, color=INK, x=0.02, ha="left")
    return figure


def named(above, below, bounds, symbols):
    """The symbols over the middle of their frames and beside their rows; without frames, a symbol stands beside its row alone."""
    middle = (bounds[1:] + bounds[:-1]) / 2
    heard = np.diff(bounds) > 0
    top = above.secondary_xaxis("top")
    top.set_ticks(middle[heard], [symbol for symbol, one in zip(symbols, heard) if one], size=7, color=INK)
    top.tick_params(length=0)
    top.spines["top"].set_visible(False)
    below.set_yticks(range(len(symbols)), symbols, size=6 if len(symbols) < 40 else 3)
