"""Forward + log-det of elementwise maps, compared with torch eager.  refflow runs its public methods, checks included."""

from __future__ import annotations

from .rounds import timed, timing_rows

SIZE = 1_000_000
REPETITIONS = 15
WHAT = f"forward + log-det, {SIZE} float64"
rows = timing_rows


def latents():
    """The same 1e6 standard normal numbers for every library."""
    import numpy as np
    return np.random.default_rng(0).standard_normal(SIZE)


def refflow_worker(threads):
    import numpy as np

    import refflow
    z = latents()
    a = np.abs(z)
    pages = {
        "sigmoid": (refflow.Sigmoid(), z), "softplus": (refflow.Softplus(), z), "tanh": (refflow.Tanh(), z),
        "exp": (refflow.Exp(), z), "affine": (refflow.Affine(shift=0.5, scale=2.0), z),
        "power": (refflow.Power(exponent=1.5), a), "normal CDF": (refflow.NormalCDF(), z),
        "Weibull CDF": (refflow.WeibullCDF(scale=1.5, concentration=2.0), a)}
    return {name: timed(lambda f=f, v=v: f.forward_and_log_det(v), REPETITIONS) for name, (f, v) in pages.items()}


def torch_worker(threads):
    import torch
    import torch.distributions as d
    from torch.distributions import transforms as t
    torch.set_num_threads(threads)
    z = torch.from_numpy(latents())
    a = z.abs()
    scalar = torch.tensor(1.5, dtype=torch.float64)
    normal, weibull = d.Normal(0 * scalar, 1.0), d.Weibull(scalar, torch.tensor(2.0, dtype=torch.float64))
    maps = {
        "sigmoid": (t.SigmoidTransform(), z), "softplus": (t.SoftplusTransform(), z), "tanh": (t.TanhTransform(), z),
        "exp": (t.ExpTransform(), z), "affine": (t.AffineTransform(0.5, 2.0), z), "power": (t.PowerTransform(scalar), a),
        "normal CDF": (t.CumulativeDistributionTransform(normal), z),
        "Weibull CDF": (t.CumulativeDistributionTransform(weibull), a)}

    def forward_and_log_det(f, v):
        x = f(v)
        return x, f.log_abs_det_jacobian(v, x)

    with torch.no_grad():
        return {name: timed(lambda f=f, v=v: forward_and_log_det(f, v), REPETITIONS) for name, (f, v) in maps.items()}


WORKERS = {"refflow": refflow_worker, "torch": torch_worker}
