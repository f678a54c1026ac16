r"""The laws of a density: its mass, its log_prob, its samples, and the file it is saved to.

The base is N(0, I).  Laws of samples are held to levels: a right model leaves (1), or (2), in one of 2^20 seeds, and the seed
is fixed.  By Massart's form of the Dvoretzky-Kiefer-Wolfowitz inequality, the empirical distribution of n numbers leaves the
true one by more than
    d = root(log(2 m / level)/(2 n))                                                (1)
in a share level/m of all cases, for any n; m is the number of distributions that are compared.  Latents that are too narrow by
a tenth stay within (1): they are found by the sum s of n squares, which leaves
    q(level/(2 m)) <= s <= q(1 - level/(2 m)),   with the quantiles q of chi^2_n    (2)
in a share level/m.  There a latent beyond +-TAIL counts as TAIL, since where a sample has saturated its latent may be infinite;
of n = 4096 normal numbers, one is beyond in 0.2 % of cases.
"""

from __future__ import annotations

import numpy as np
import scipy

from ...core import sets
from ..asking.arrays import as_numpy, seeded
from .black_box_points import ALLOWED, BoxPoints, of_inverse
from .lawbook import Found, Skipped, law

NODES = 20                  # of a Gauss-Legendre rule
STRIP = 2.0**-8             # beyond the outermost node, as a share of the interval
TAIL_FROM = 14              # the Legendre coefficients from here on bound its error
EVERY = 5                   # every fifth point ends an interval
DIFFERENCE = 1e-2           # integrals with a larger relative error of their own are rejected
DRAWS = 4096
LEVEL = 2.0**-20
DIRECTIONS = 8              # in which the distribution of latents is compared
TAIL = 5                    # deviations


def one_number(p):
    if p.size != 1 or p.x[0].size != 1:
        raise Skipped("the event is not one number")


def connected(p):
    if sets.nonzero in (p.box.domain, p.box.codomain):
        raise Skipped("the line without 0 has two parts")


def gauss(left, width):
    """(nodes (n, NODES + 2), ends first and last, a function of values there -> (integrals, bounds of their errors)).

    The values' Legendre coefficients c_k decay to rounding where they are smooth; where they are not, no rule of this order
    is right, and the c_k from TAIL_FROM on show it.  A jump beyond the outermost node shows at the end, where the polynomial
    is then not the value; it moves the integral by less than STRIP of it.
    """
    inner, weights = np.polynomial.legendre.leggauss(NODES)
    basis = np.polynomial.legendre.legvander(inner, NODES - 1) * (np.arange(NODES) + 0.5)
    ends = np.polynomial.legendre.legvander([-1.0, 1.0], NODES - 1).T

    def integrated(values):
        within = values[:, 1:-1]
        coefficients = (within * weights) @ basis
        missed = np.abs(coefficients @ ends - values[:, [0, -1]]).sum(-1)
        return width / 2 * (within @ weights), width * (np.abs(coefficients[:, TAIL_FROM:]).sum(-1) + STRIP * missed)

    at = np.concatenate(([-1.0], inner, [1.0]))
    return left[:, None] + width[:, None] * (at + 1) / 2, integrated


@law("mass is one", "latents")
def mass(box, p):
    """The density of x = f(z), z normal, between two images has the mass of the latents between them."""
    one_number(p)
    connected(p)
    x = np.sort((p.x if box.direction == "forward" else p.z)[p.finite].ravel())[::EVERY]
    nodes, integrated = gauss(x[:-1], np.diff(x))
    held = box.held(nodes.reshape(-1, *p.x.shape[1:]))
    latent, log_det = of_inverse(box.latents, held)
    if np.shape(log_det) != (len(held),):
        raise Skipped(f"the log-det of a batch of {len(held)} events has shape {np.shape(log_det)}")
    U_z, U_k, usable = units_at(box, p, held, latent)
    latent, edge = latent.reshape(nodes.shape), of_inverse(box.latents, box.held(x.reshape(-1, *p.x.shape[1:])))
    density = np.exp(-latent**2 / 2 + log_det.reshape(nodes.shape)) / np.sqrt(2 * np.pi)
    found, e = integrated(density)
    moved = integrated(density * ALLOWED * (np.abs(latent) * U_z.reshape(nodes.shape) + U_k.reshape(nodes.shape)))[0]
    expected = np.abs(np.diff(scipy.special.ndtr(edge[0].ravel())))
    at_ends = ALLOWED * p.u * (np.abs(x) * np.exp(-edge[0].ravel()**2 / 2 + edge[1]) + 1)
    bound = moved + 10 * e + at_ends[1:] + at_ends[:-1]
    usable = usable.reshape(nodes.shape).all(-1) & np.isfinite(found + bound) & (np.diff(x) > 2.0**10 * p.u * np.abs(x[1:])) \
        & (e <= DIFFERENCE * found)
    none = BoxPoints(box, p.seed, np.zeros((0, *box.event)))
    none.held_to("the mass between two images", found, expected, bound[:, None], usable, at=np.stack((x[:-1], x[1:]), -1))


def units_at(box, p, x, z):
    """(U_z, U_k, marks) of latents and their log-dets at data x."""
    finite = np.isfinite(z).reshape(len(z), -1).all(-1)
    events = z if box.direction == "forward" else x
    at = np.where(finite.reshape(-1, *(1,) * (events.ndim - 1)), events, box.plain(1))
    q = BoxPoints(box, p.seed, at)
    if box.direction == "forward":
        U, usable = q.of_inverse
        return U[:, :-1], U[:, -1:], usable & finite
    return q.of_x[0], q.of_log_det[0], q.of_x[1] & q.of_log_det[1] & finite


@law("log_prob is the base and the log-det", "log_prob", "latents")
def log_prob(box, p):
    """log p(x) = log N(z; 0, I) + log|det dz/dx| at z, the latent of x."""
    scored(box, p)


@law("samples have the log_prob of their latents", "log_prob", "sample", "latents")
def samples_scored(box, p):
    """log p of a sample is log N(z; 0, I) + log|det dz/dx| at the latent z that maps to it."""
    x = drawn(box, len(p.z), p.seed)
    scored(box, BoxPoints(box, p.seed, x if box.direction == "inverse" else box.held(box.latents(x)[0])))


def scored(box, p):
    if box.direction == "forward":
        (z, log_det), x = p.back, p.x
        U, usable = p.of_inverse
        U_z, U_k = U[:, :p.size], U[:, p.size:]
    else:
        z, log_det, x = p.x, p.log_det, p.z
        (U_z, usable), (U_k, both) = p.of_x, p.of_log_det
        usable = usable & both
    flat = z.reshape(len(z), -1)
    base = -(flat**2).sum(-1) / 2 - flat.shape[1] * np.log(2 * np.pi) / 2
    sums = p.u * (np.abs(base) + np.abs(log_det) + flat.shape[1])
    bound = ALLOWED * (2 * U_k + (U_z * np.abs(flat)).sum(-1, keepdims=True) + sums[:, None])
    found = p.asked_where(box.score, x, p.finite)
    p.held_to("log_prob", found, base + log_det, bound, usable, at=x)


def drawn(box, count, seed):
    with seeded(box.library, seed):
        x = as_numpy(box.called(box.sample, count))
    if x.shape[0] != count:
        raise Found(f"sample({count}) has shape {x.shape}")
    return x


@law("samples have latents of the base", "sample", "latents")
def samples(box, p):
    """The latents of samples are N(0, I): along each direction, their distribution is the normal one within (1) and (2)."""
    z = box.latents(drawn(box, DRAWS, p.seed))[0].reshape(DRAWS, -1)
    rng = np.random.default_rng(p.seed)
    across = rng.standard_normal((DIRECTIONS if z.shape[1] > 1 else 0, z.shape[1]))
    directions = np.concatenate((np.eye(z.shape[1])[:DIRECTIONS], across / np.linalg.norm(across, axis=1, keepdims=True)))
    room = np.sqrt(np.log(2 * len(directions) / LEVEL) / (2 * DRAWS)) + ALLOWED * p.u                       # (1)
    steps = np.arange(DRAWS + 1) / DRAWS
    share = LEVEL / (2 * len(directions))
    least, most = scipy.stats.chi2.ppf(share, DRAWS), scipy.stats.chi2.isf(share, DRAWS)
    for direction in directions:
        normal = scipy.special.ndtr(np.sort(z @ direction))
        distance = max(np.abs(normal - steps[1:]).max(), np.abs(normal - steps[:-1]).max())
        if not distance <= room:
            raise Found(f"along {np.round(direction, 3).tolist()}, the distribution of the latents of {DRAWS} samples is "
                        f"{distance:.3g} from the normal one, which {room:.3g} would be by chance in one of 2^20 seeds; their "
                        f"mean is {(z @ direction).mean():.3g}, their deviation {(z @ direction).std():.3g}")
        squares = np.square(np.clip(z @ direction, -TAIL, TAIL)).sum()
        if not least * (1 - ALLOWED * p.u) <= squares <= most * (1 + ALLOWED * p.u):                        # (2)
            raise Found(f"along {np.round(direction, 3).tolist()}, the latents of {DRAWS} samples have a mean square of "
                        f"{squares / DRAWS:.3g}, which leaves the range from {least / DRAWS:.3g} to {most / DRAWS:.3g} "
                        f"by chance in one of 2^20 seeds")
    p.asked = DRAWS


@law("a loaded model is the saved one", "reload")
def reloaded(box, p):
    """A model that is saved and loaded gives the same bits, also with other parameters than it began with."""
    values = [as_numpy(array).copy() for array in box.trained()]
    with box.moved([v * (1 + 2.0**-5) + 2.0**-5 for v in values]):
        other = box.called(box.reload)
        for name, give in (("image", box.image), ("log-det", box.log_slope), ("log_prob", box.score)):
            if name == "log_prob" and box.log_prob is None or name == "log-det" and not p.scored:
                continue
            at = box.image(p.z) if name == "log_prob" and box.direction == "forward" else p.z
            before, after = give(at), getattr(other, give.__name__)(at)
            if not np.array_equal(before, after, equal_nan=True):
                i = int(np.argmax((before != after).reshape(len(before), -1).any(-1)))
                raise Found(f"the {name} at {at[i].tolist()} is {before[i].tolist()}, and {after[i].tolist()} after loading")
