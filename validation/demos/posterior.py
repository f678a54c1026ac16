"""A posterior on sets: the covariance of measurements and the probabilities of counts, sampled as free vectors.

    python -m validation.demos.posterior            samples, and what theory says of their means
    python -m validation.demos.posterior --write    NumPyro's log density and gradient at a few points, written to validation/practice

The model, with n measurements x_i and counts c,
    S ~ inverse Wishart(nu, Psi),   x_i ~ N(0, S);   p ~ Dirichlet(a),   c ~ multinomial(p)
is conjugate: its posterior is S ~ inverse Wishart(nu + n, Psi + sum x_i x_i^T), p ~ Dirichlet(a + c).  Free vectors y lead to (S, p)
through NumPyro's bijectors, and the density of y is that of (S, p) times |det d(S, p)/dy|, by the coordinates of both sets.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from refflow import Chain, CholeskyOuterProduct, CholeskyToInverseCholesky, Dirichlet, Flow, WishartCholesky
from refflow.maps.constrained.biject_to import biject_to
from refflow.report import json_text

ROOT = Path(__file__).parents[2]
PRACTICE = ROOT / "validation" / "practice" / "numpyro_posterior.json"
DEGREES, SCALE = 5.0, np.array([[2.0, 0.5], [0.5, 1.0]])             # nu, Psi
CONCENTRATION, COUNTS = np.array([1.0, 2.0, 0.5]), np.array([12.0, 3.0, 5.0])
MEASURED = np.array([[0.3, -1.2], [1.5, 0.4], [-0.7, -0.9], [2.1, 1.3], [-0.2, 0.8], [0.9, -0.1]])
SCATTER = MEASURED.T @ MEASURED
CHAINS, STEPS, LEAPS, STEP = 400, 60, 12, 0.12


# -- the posterior ----------------------------------------------------------------------------------------------------

TO_COVARIANCE = biject_to("positive_definite", np.eye(2), "numpyro")
TO_SIMPLEX = biject_to("simplex", np.full(3, 1 / 3), "numpyro")
PRIOR_OF_COVARIANCE = Flow(Chain([CholeskyToInverseCholesky(), CholeskyOuterProduct()]),
                           WishartCholesky(df=DEGREES, cholesky=np.linalg.cholesky(np.linalg.inv(SCALE))))
PRIOR_OF_PROBABILITIES = Dirichlet(CONCENTRATION)


def log_posterior_vjp(y):
    """(log density of free vectors y (*batch, 5) up to a constant, its gradient)."""
    (S, log_det_S), pull_S = TO_COVARIANCE.vjp(y[..., :3])
    (p, log_det_p), pull_p = TO_SIMPLEX.vjp(y[..., 3:])
    prior_S, pull_prior_S = PRIOR_OF_COVARIANCE.log_prob_vjp(S)
    prior_p, pull_prior_p = PRIOR_OF_PROBABILITIES.log_prob_vjp(p)
    precision, one = np.linalg.inv(S), np.ones(y.shape[:-1])
    likelihood = (-len(MEASURED) / 2 * np.linalg.slogdet(2 * np.pi * S)[1] - np.trace(precision @ SCATTER, axis1=-2, axis2=-1) / 2
                  + (COUNTS * np.log(p)).sum(-1))
    S_bar = pull_prior_S(one)[0] + (precision @ SCATTER @ precision - len(MEASURED) * precision) / 2
    p_bar = pull_prior_p(one)[0] + COUNTS / p
    gradient = np.concatenate([pull_S(S_bar, one)[0], pull_p(p_bar, one)[0]], -1)
    return prior_S + prior_p + likelihood + log_det_S + log_det_p, gradient


def members(y):
    """(S, p)."""
    return TO_COVARIANCE.forward(y[..., :3]), TO_SIMPLEX.forward(y[..., 3:])


def means():
    """The posterior means of S and p, by theory."""
    a = CONCENTRATION + COUNTS
    return (SCALE + SCATTER) / (DEGREES + len(MEASURED) - 3), a / a.sum()


# -- sampling ---------------------------------------------------------------------------------------------------------

def sampled(rng, chains=CHAINS, steps=STEPS):
    """The last states of so many Hamiltonian chains, which are independent, and the share of the proposals that were accepted."""
    start = np.concatenate([TO_COVARIANCE.inverse(SCALE), TO_SIMPLEX.inverse(np.full(3, 1 / 3))])
    y, accepted = start + rng.normal(size=(chains, 5)) / 10, 0.0
    log_p, slope = log_posterior_vjp(y)
    for _ in range(steps):
        v = rng.normal(size=y.shape)
        there, log_p_there, slope_there, v_there = leapt(y, slope, v)
        change = log_p_there - log_p - (v_there**2 - v**2).sum(-1) / 2
        taken = np.log(rng.random(chains)) < change
        y, slope = (np.where(taken[:, None], new, old) for new, old in ((there, y), (slope_there, slope)))
        log_p, accepted = np.where(taken, log_p_there, log_p), accepted + taken.mean() / steps
    return y, accepted


def leapt(y, slope, v):
    """(y, log density, gradient, velocity) after LEAPS steps of Hamilton's equations."""
    for _ in range(LEAPS):
        v = v + STEP / 2 * slope
        y = y + STEP * v
        log_p, slope = log_posterior_vjp(y)
        v = v + STEP / 2 * slope
    return y, log_p, slope, v


# -- NumPyro ----------------------------------------------------------------------------------------------------------

def of_numpyro(points):
    """[(log density, gradient)] of the same model at free vectors; run where NumPyro is installed."""
    import jax
    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    import numpyro.distributions as d

    to_S, to_p = d.biject_to(d.constraints.positive_definite), d.biject_to(d.constraints.simplex)

    def log_posterior(y):
        S, p = to_S(y[:3]), to_p(y[3:])
        prior = d.InverseWishart(DEGREES, scale_matrix=jnp.asarray(SCALE)).log_prob(S) + d.Dirichlet(CONCENTRATION).log_prob(p)
        likelihood = d.MultivariateNormal(jnp.zeros(2), covariance_matrix=S).log_prob(MEASURED).sum() + (COUNTS * jnp.log(p)).sum()
        return prior + likelihood + to_S.log_abs_det_jacobian(y[:3], S) + to_p.log_abs_det_jacobian(y[3:], p)

    return [(float(value), np.asarray(gradient).tolist()) for value, gradient in map(jax.value_and_grad(log_posterior), points)]


def recorded():
    return json.loads(PRACTICE.read_text(encoding="utf-8"))


def write():
    """Ask NumPyro in its own environment."""
    from validation.peers.__main__ import CACHE, interpreter
    done = subprocess.run([interpreter("numpyro", CACHE), "-W", "ignore", "-m", "validation.demos.posterior", "--numpyro"], text=True,
                          cwd=ROOT, stdout=subprocess.PIPE, check=True, env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"})
    partial = PRACTICE.with_suffix(".partial")
    partial.write_text(done.stdout, encoding="utf-8")
    partial.replace(PRACTICE)


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m validation.demos.posterior", description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="ask NumPyro, and write what it says")
    parser.add_argument("--numpyro", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.write:
        write()
    elif chosen.numpyro:
        from importlib.metadata import version
        points = np.random.default_rng(1).normal(size=(8, 5))
        print(json_text({"numpyro": version("numpyro"), "points": points.tolist(), "answers": of_numpyro(points)}))
    else:
        y, accepted = sampled(np.random.default_rng(0))
        print(f"{len(y)} chains of {STEPS} steps; {accepted:.0%} of the proposals are accepted")
        for letter, found, mean in zip("Sp", members(y), means()):
            error = found.std(0) / np.sqrt(len(y))
            print(f"mean of {letter}: {found.mean(0).round(3).tolist()} +- {error.round(3).tolist()}, by theory {mean.round(3).tolist()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
