"""Forward + log-det of rational-quadratic splines in which every number has its own knots and slopes, as in a neural spline
flow, compared with nflows' formula in torch eager.  refflow runs its public methods, checks included.
"""

from __future__ import annotations

from .rounds import timed, timing_rows

SIZE, BINS = 100_000, 8
REPETITIONS = 9
WHAT = f"forward + log-det and inverse + log-det, {SIZE} float64 with {BINS} bins each"
rows = timing_rows


def problem():
    """(events, input knots, output knots, slopes), the same for every library; a few events lie in the identity tails."""
    import numpy as np
    rng = np.random.default_rng(0)

    def knots():
        weights = np.exp(rng.normal(size=(SIZE, BINS)))
        inner = 6 * np.cumsum(weights / weights.sum(-1, keepdims=True), -1)[:, :-1] - 3
        return np.concatenate((np.full((SIZE, 1), -3.0), inner, np.full((SIZE, 1), 3.0)), -1)

    slopes = np.exp(rng.normal(size=(SIZE, BINS + 1)))
    return rng.normal(size=SIZE), knots(), knots(), slopes


def refflow_worker(threads):
    import refflow
    z, *fields = problem()
    f = refflow.RationalQuadraticSpline(*fields)
    maps = {"spline": lambda: f.forward_and_log_det(z), "spline, inverse": lambda: f.inverse_and_log_det(z)}
    return {name: timed(work, REPETITIONS) for name, work in maps.items()}


def torch_worker(threads):
    import torch
    torch.set_num_threads(threads)
    z, x_knots, y_knots, slopes = map(torch.from_numpy, problem())

    def spline(inputs, inverse):
        """Identity beyond the end knots; inside, the bin by comparison with all knots, then six gathers."""
        inside = (inputs >= x_knots[:, 0]) & (inputs <= x_knots[:, -1])
        outputs, logs = torch.zeros_like(inputs), torch.zeros_like(inputs)
        outputs[~inside], logs[~inside] = inputs[~inside], 0
        outputs[inside], logs[inside] = inner(inputs[inside], x_knots[inside], y_knots[inside], slopes[inside], inverse)
        return outputs, logs

    def inner(inputs, x_knots, y_knots, slopes, inverse):
        edges = (y_knots if inverse else x_knots).clone()
        edges[..., -1] += 1e-6
        k = (torch.sum(inputs[..., None] >= edges, dim=-1) - 1)[..., None]
        widths, heights = x_knots[..., 1:] - x_knots[..., :-1], y_knots[..., 1:] - y_knots[..., :-1]
        delta = heights / widths
        x_0, w, y_0, h, s, d_0, d_1 = (v.gather(-1, k)[..., 0] for v in (
            x_knots, widths, y_knots, heights, delta, slopes, slopes[..., 1:]))
        bend = d_0 + d_1 - 2 * s
        if inverse:
            p = inputs - y_0
            a = p * bend + h * (s - d_0)
            b = h * d_0 - p * bend
            c = -s * p
            discriminant = b.pow(2) - 4 * a * c
            assert (discriminant >= 0).all()
            t = (2 * c) / (-b - torch.sqrt(discriminant))
            outputs = t * w + x_0
        else:
            t = (inputs - x_0) / w
        tf = t * (1 - t)
        denominator = s + bend * tf
        if not inverse:
            outputs = y_0 + h * (s * t.pow(2) + d_0 * tf) / denominator
        slope = s.pow(2) * (d_1 * t.pow(2) + 2 * s * tf + d_0 * (1 - t).pow(2))
        logs = torch.log(slope) - 2 * torch.log(denominator)
        return outputs, -logs if inverse else logs

    with torch.no_grad():
        maps = {"spline": lambda: spline(z, False), "spline, inverse": lambda: spline(z, True)}
        return {name: timed(work, REPETITIONS) for name, work in maps.items()}


WORKERS = {"refflow": refflow_worker, "torch": torch_worker}
