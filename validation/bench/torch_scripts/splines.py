"""Rational-quadratic splines in torch, in the convention of nflows."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

FLOOR = 1e-3                            # of widths and heights, as a part of the interval, and of slopes


def knots(numbers, bound, hidden):
    share = FLOOR + (1 - FLOOR * numbers.shape[-1]) * torch.softmax(numbers / math.sqrt(hidden), -1)
    inner = F.pad(torch.cumsum(share, -1), (1, 0))
    at = 2 * bound * inner - bound
    return torch.cat((at[..., :1] * 0 - bound, at[..., 1:-1], at[..., -1:] * 0 + bound), -1)


def spline(u, theta, bins, bound, hidden):
    """(g(u), log g'(u)); theta (*u.shape, 3 bins - 1); `hidden`: the width of the network that made it."""
    inside = (u >= -bound) & (u <= bound)
    v = torch.where(inside, u, torch.zeros_like(u))
    x_k, y_k = knots(theta[..., :bins], bound, hidden), knots(theta[..., bins:2 * bins], bound, hidden)
    slopes = F.pad(F.softplus(theta[..., 2 * bins:]) + FLOOR, (1, 1), value=1.0)
    k = torch.sum(v[..., None] >= x_k[..., 1:-1], -1, keepdim=True)
    (x_0, x_1), (y_0, y_1), (d_0, d_1) = ((a.gather(-1, k)[..., 0], a.gather(-1, k + 1)[..., 0]) for a in (x_k, y_k, slopes))
    w, h = x_1 - x_0, y_1 - y_0
    s, t = h / w, (v - x_0) / w
    q = t * (1 - t)
    under = s + (d_0 + d_1 - 2 * s) * q
    y = y_0 + h * (s * t * t + d_0 * q) / under
    log_slope = 2 * torch.log(s) + torch.log(d_1 * t * t + 2 * s * q + d_0 * (1 - t) ** 2) - 2 * torch.log(under)
    return torch.where(inside, y, u), torch.where(inside, log_slope, torch.zeros_like(u))
