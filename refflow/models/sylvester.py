r"""The variational autoencoder of Sylvester flows (van den Berg, Hasenclever, Tomczak & Welling, arXiv:1803.05649).

An encoder makes features `h` of data `x`, and from these the mean and the variance of a first latent, whose noise is `e`:
    h = encoder(x),   mu = mean(h),   v = S(variance(h)),   S(a) = log(1 + exp a)   (1)
    z_0 = mu + v^(1/2) e,   l_0 = log|det dz_0/de| = 1/2 sum_i log v_i              (2)
Steps of a flow follow.  Their fields are amortised: networks make them of `h` for each `x`,
    z_k = z_(k-1) + Q_k (f_k(Q_k^T z_(k-1)) - Q_k^T z_(k-1)),   fields of f_k and Q_k from net_k(h)         (3)
where `f_k` is a Planar flow, with `Q_k = I`, or a Sylvester flow.  Its basis `Q_k` comes from `OrthonormalColumns`, with as many
columns as units or fewer, from `HouseholderProduct`, or is the identity for even `k - 1` and the reversal for odd ones
("triangular").  The fifth flow is inverse autoregressive; its masked networks see one context `c`, and
    z_k = sigma z + (1 - sigma) m,   sigma = sigmoid(s + 1),   (s, m) = net_k(z, c)          (4)
where `z` is `z_(k-1)`, reversed for odd `k - 1` and not turned back.  With the logits `a` of the decoder,
    log p(x | z_K) = sum_i (x_i a_i - S(a_i)),   a = decoder(z_K)                   (5)
With `l_k = log|det df_k|`, which is that of (3) where the columns of `Q_k` are orthonormal, the two terms of the loss are
    reconstruction = -log p(x | z_K)                                                (6)
    divergence = log q(z_K) - log p(z_K) = 1/2 sum_i (z_K,i^2 - e_i^2) - sum_k l_k          (7)
    loss = reconstruction + beta divergence                                         (8)
whose mean over noise, for `beta = 1`, bounds `-log p(x)`.  The authors' loss is the mean of (8) over a batch, and their `beta`
grows with the epochs of training:
    beta = min(epoch/warm_up, largest)                                              (9)

The authors' encoders and decoders are networks of gated convolutions; here they are any networks, those of `sylvester_vae` dense.

Reverse rule, with `b` for the cotangent of a loss and `sigma` for the logistic sigmoid:
    a_bar_i = b ((1 - x_i) sigma(a_i) - x_i sigma(-a_i))                            (10)
    z_K_bar = decoder*(a_bar) + b beta z_K,   l_k_bar = -b beta                     (11)
For (3), with `y = Q^T z`, `d = f(y) - y` and the cotangent `x_bar` of its image,
    d_bar = Q^T x_bar,   y_bar = f*(d_bar, l_bar) - d_bar                           (12)
    z_bar = x_bar + Q y_bar,   Q_bar = x_bar d^T + z y_bar^T                        (13)
and the pullbacks of both parametrisations and of `net_k` take these to `h`.  At the start of the flow, with `r = d log v/du` for
`v = S(u)`,
    mu_bar = z_0_bar,   u_bar = (z_0_bar e v^(1/2) + l_0_bar) r/2                   (14)
    r = sigma(u)/S(u),   log v = log S(u)    or 1 and u, to which they round, for u < -40           (15)
and then the pullbacks of `mean`, `variance` and `encoder`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..core import Bijector, Conditioner, Value, child, children, plain, tree
from ..core.rules import FLAG, number
from ..core.values import declare
from ..maps.autoregressive import Autoregressive
from ..maps.conditioners import ELU, AddedContext, BijectorLayer, Dense, MaskedDense, Sequential, TanhActivation
from ..maps.conditioners.speech_networks import Drawn
from ..maps.coupling import Family
from ..maps.elementwise import ScaledAffine, SoftplusScale
from ..maps.linear import Permutation
from ..maps.parametrisations import GatedLocationScale, HouseholderProduct, HyperplaneFields, OrthonormalColumns, SylvesterFields
from ..maps.parametrisations import Map
from ..maps.residual import Planar, Sylvester
from .stochastic_durations import finite, floating, softplus

FLOWS = ("planar", "orthogonal", "householder", "triangular", "iaf")
THRESHOLDS = (1e-6, 1e-5)                       # the authors', for fewer columns than entries and for as many
BETA = number(0, low_included=True)
FAR = -40                                       # softplus u = exp u to the last digit


class Posterior(NamedTuple):
    """Latents given data: `mean`, `variance` and `start` z_0, (B, D) each; `images` z_1, ..., z_K and `log_dets` l_0, ..., l_K."""

    mean: np.ndarray
    variance: np.ndarray
    start: np.ndarray
    images: list
    log_dets: list


class Terms(NamedTuple):
    """The two terms of the loss, (B,) each."""

    reconstruction: np.ndarray
    divergence: np.ndarray


# -- steps of the flow ------------------------------------------------------------------------------------------------

@declare
class AmortisedStep(Value):
    """(3): the map `bijector`, whose fields the parametrisation `fields` makes of the first outputs of `net`, along a basis.

    `basis`: none, or a parametrisation of `Q` from the other outputs; `backwards`: does the map take the entries in reverse order?
    """

    net: Conditioner = child()
    fields: Map = child()
    basis: tuple[Map, ...] = children()
    bijector: type = plain()
    backwards: bool = plain(False, FLAG)

    def _validate(self):
        super()._validate()
        if len(self.basis) > 1:
            raise ValueError(f"AmortisedStep: basis must hold at most one parametrisation, not {len(self.basis)}")
        needed = self.fields.size + sum(basis.size for basis in self.basis)
        if self.net.fixed_shape is not None:
            given = tuple(self.net.output_shape(self.net.fixed_shape))
            if given != (needed,):
                raise ValueError(f"AmortisedStep: net must give the {needed} numbers of the fields and the basis, not {given}")

    def vjp(self, c, z):
        """((x, l), pullback) for a context c (B, C) and z (B, D); `pullback(x_bar, l_bar)` -> (c_bar, z_bar, params_bar)."""
        h, net_pullback = self.net.vjp(c)
        own, rest = np.split(h, [self.fields.size], -1)
        fields, fields_pullback = self.fields.vjp(own)
        along = Along(self.basis, rest, self.backwards)
        y = along.coordinates(z)
        (w, l), f_pullback = self.bijector(**fields).vjp(y)                         # (3)

        def pullback(x_bar, l_bar):
            d_bar = along.coordinates(x_bar)                                        # (12)
            y_bar, bars = f_pullback(d_bar, l_bar)
            rest_bar, basis_bar = along.bars(x_bar, w - y, z, y_bar - d_bar)        # (12)
            own_bar, fields_bar = fields_pullback(bars)
            c_bar, net_bar = net_pullback(np.concatenate((own_bar, rest_bar), -1))
            return c_bar, along.moved(x_bar, y_bar, y_bar - d_bar), {"net": net_bar, "fields": fields_bar, "basis": basis_bar}     # (13)

        return (along.moved(z, w, w - y), l), pullback                              # (3)

    def inverse(self, c, x):
        """z for a context c and x, where the columns of the basis are orthonormal."""
        own, rest = np.split(self.net.forward(c), [self.fields.size], -1)
        along = Along(self.basis, rest, self.backwards)
        y = along.coordinates(x)
        w = self.bijector(**self.fields.vjp(own)[0]).inverse(y)
        return along.moved(x, w, w - y)


class Along:
    """A basis: Q, the reversal, or the identity."""

    def __init__(self, basis, numbers, backwards):
        self.Q, self.numbers, self.backwards = None, numbers, backwards
        if basis:
            found, self.pullback = basis[0].vjp(numbers)
            self.Q = found["Q"]

    def coordinates(self, z):
        """Q^T z."""
        if self.Q is None:
            return z[..., ::-1] if self.backwards else z
        return (self.Q.mT @ z[..., None])[..., 0]

    def moved(self, z, w, d):
        """z + Q d, which is Q w where Q is a permutation."""
        if self.Q is None:
            return w[..., ::-1] if self.backwards else w
        return z + (self.Q @ d[..., None])[..., 0]

    def bars(self, x_bar, d, z, y_bar):
        """The cotangents of the basis' numbers and of its own parameters."""
        if self.Q is None:
            return np.zeros_like(self.numbers), {}
        Q_bar = x_bar[..., :, None] * d[..., None, :] + z[..., :, None] * y_bar[..., None, :]           # (13)
        numbers_bar, own_bar = self.pullback({"Q": Q_bar})
        return numbers_bar, {"0": own_bar}


@declare
class MaskedStep(Value):
    """(4): the autoregressive map `f`, which has a context; `backwards`: is z reversed before it?"""

    f: Bijector = child()
    backwards: bool = plain(False, FLAG)

    def vjp(self, c, z):
        """As that of `AmortisedStep`."""
        (x, l), f_pullback = tree.replaced(self.f, {}, c).vjp(z[..., ::-1] if self.backwards else z)            # (4)

        def pullback(x_bar, l_bar):
            z_bar, f_bar = f_pullback(x_bar, l_bar)
            c_bar = f_bar.pop("context")
            return c_bar, z_bar[..., ::-1] if self.backwards else z_bar, {"f": f_bar}

        return (x, l), pullback

    def inverse(self, c, x):
        """z for a context c and x."""
        z = tree.replaced(self.f, {}, c).inverse(x)
        return z[..., ::-1] if self.backwards else z


# -- the model --------------------------------------------------------------------------------------------------------

@declare
class SylvesterVAE(Value):
    """A variational autoencoder of vectors of numbers in [0, 1]; `sylvester_vae` builds one.

    `encoder`: from x (N,) to h (H,); `mean` and `variance`: from h to the numbers of (1), (D,); `decoder`: from z (D,) to logits (N,);
    `summary`: none, or a conditioner of h whose outputs the steps see in its place; `steps`: of `AmortisedStep` or `MaskedStep`.
    """

    encoder: Conditioner = child()
    mean: Conditioner = child()
    variance: Conditioner = child()
    decoder: Conditioner = child()
    summary: tuple[Conditioner, ...] = children()
    steps: tuple[Value, ...] = children()

    def _validate(self):
        if len(self.summary) > 1:
            raise ValueError(f"SylvesterVAE: summary must hold at most one conditioner, not {len(self.summary)}")
        for i, step in enumerate(self.steps):
            if not isinstance(step, (AmortisedStep, MaskedStep)):
                raise ValueError(f"SylvesterVAE: steps[{i}] must be an AmortisedStep or a MaskedStep, not {type(step).__name__}")
        super()._validate()

    # -- what users call ---------------------------------------------------------------------------------------------

    def posterior(self, x, noise) -> Posterior:
        """The latents of each of B data x (B, N) for drawn standard normal noise (B, D).  ValueErrors as in `loss_vjp`."""
        model, x, noise = self.checked_arguments("posterior", x, noise)
        with np.errstate(all="ignore"):
            return model.posterior_vjp(x, noise)[0]

    def loss_vjp(self, x, noise, beta=1.0):
        """(Terms, pullback): the terms (6) and (7) of the loss (8) for each of B data, for drawn noise e.

        `x` (B, N), entries in [0, 1]; `noise` (B, D).  `pullback(loss_bar)` -> (x_bar, params_bar), loss_bar (B,) or a number;
        params_bar has the keys and shapes of `params()`.  ValueError, with index and value, for what does not fit, and for fields
        that the networks leave outside their sets.
        """
        beta = BETA.checked("SylvesterVAE.loss_vjp", "beta", beta)
        model, x, noise = self.checked_arguments("loss_vjp", x, noise)
        with np.errstate(all="ignore"):
            found, posterior_pullback = model.posterior_vjp(x, noise)
            z = found.images[-1] if found.images else found.start
            a, decoder_pullback = model.decoder.vjp(z)                              # (5)
            reconstruction = surprise(x, a).sum(-1)                                 # (6)
            divergence = (z * z - noise * noise).sum(-1) / 2 - sum(found.log_dets)              # (7)

        @np.errstate(all="ignore")
        def pullback(loss_bar):
            b = np.broadcast_to(np.asarray(loss_bar, z.dtype), z.shape[:1])
            b_beta, (right, left) = b * z.dtype.type(beta), sigmoids(a)
            z_bar, decoder_bar = decoder_pullback(b[:, None] * ((1 - x) * right - x * left))    # (10)
            x_bar, bars = posterior_pullback(z_bar + b_beta[:, None] * z, -b_beta)              # (11)
            bars |= {"decoder": decoder_bar}
            return x_bar - b[:, None] * a, {key: bars[key] for key in self.params()}            # (5)

        return Terms(reconstruction, divergence), pullback

    def decode(self, z):
        """The probabilities of ones, sigma(a) of (5), of latents z (B, D)."""
        z = finite("SylvesterVAE.decode", "z", floating("SylvesterVAE.decode", "z", z, 2))
        with np.errstate(all="ignore"):
            return sigmoids(self.unchecked(np.result_type(z, self.dtype or z)).decoder.forward(z))[0]

    def sample(self, rng, n):
        """(x, probabilities) of n data: z_K ~ N(0, I), and entries of x 0 or 1."""
        D = self.mean.output_shape(self.mean.fixed_shape)[0]
        probabilities = self.decode(rng.standard_normal((n, D)).astype(self.dtype or np.float64))
        return (rng.random(probabilities.shape) < probabilities).astype(probabilities.dtype), probabilities

    # -- its parts, on copies without checks -------------------------------------------------------------------------

    def posterior_vjp(self, x, noise):
        """(Posterior, pullback); `pullback(z_bar, l_bar)` -> (x_bar, params_bar), for the cotangents of z_K and of every log-det."""
        h, encoder_pullback = self.encoder.vjp(x)                                   # (1)
        mu, mean_pullback = self.mean.vjp(h)                                        # (1)
        u, variance_pullback = self.variance.vjp(h)                                 # (1)
        c, summary_pullback = self.summary[0].vjp(h) if self.summary else (h, None)
        v, (log_v, r) = softplus(u), log_variance(u)                                # (1)
        z, log_dets, pullbacks = [mu + np.sqrt(v) * noise], [log_v.sum(-1) / 2], []         # (2)
        for step in self.steps:
            (image, l), step_pullback = step.vjp(c, z[-1])                          # (3) (4)
            z, log_dets, pullbacks = [*z, image], [*log_dets, l], [*pullbacks, step_pullback]

        def pullback(z_bar, l_bar):
            c_bar, steps_bar = np.zeros_like(c), {}
            for i in reversed(range(len(pullbacks))):
                one_bar, z_bar, steps_bar[str(i)] = pullbacks[i](z_bar, l_bar)      # (12) (13)
                c_bar = c_bar + one_bar
            h_bar, bars = c_bar, {"summary": {}, "steps": {str(i): steps_bar[str(i)] for i in range(len(pullbacks))}}
            if self.summary:
                h_bar, bars["summary"]["0"] = summary_pullback(c_bar)
            mean_bar, bars["mean"] = mean_pullback(z_bar)                           # (14)
            variance_bar, bars["variance"] = variance_pullback((z_bar * noise * np.sqrt(v) + l_bar[:, None]) * r / 2)      # (14)
            x_bar, bars["encoder"] = encoder_pullback(h_bar + mean_bar + variance_bar)
            return x_bar, bars

        return Posterior(mu, v, z[0], z[1:], log_dets), pullback

    # -- what users give ---------------------------------------------------------------------------------------------

    def checked_arguments(self, name, x, noise):
        """(an unchecked copy, x, noise) in one dtype."""
        name = f"SylvesterVAE.{name}"
        x, noise = (finite(name, key, floating(name, key, array, 2)) for key, array in (("x", x), ("noise", noise)))
        shapes = (len(x), *self.encoder.fixed_shape), (len(x), *self.mean.output_shape(self.mean.fixed_shape))
        for key, array, shape in zip(("x", "noise"), (x, noise), shapes):
            if array.shape != shape:
                raise ValueError(f"{name}: {key} must be {shape}, not of shape {array.shape}")
        wrong = np.argwhere((x < 0) | (x > 1))
        if wrong.size:
            i, j = map(int, wrong[0])
            raise ValueError(f"{name}: x must be in [0, 1]; x[{i}, {j}] = {x[i, j]}")
        dtype = np.result_type(x, noise, self.dtype or x)
        return self.unchecked(dtype), x.astype(dtype, copy=False), noise.astype(dtype, copy=False)


# -- numbers of the loss ----------------------------------------------------------------------------------------------

def surprise(x, a):
    """S(a) - x a, which does not cancel where x is 0 or 1."""
    return np.maximum(a, 0) - x * a + np.log1p(np.exp(-np.abs(a)))                  # (5)


def sigmoids(a):
    """sigma(a) and sigma(-a)."""
    t = np.exp(-np.abs(a))
    larger, smaller = 1 / (1 + t), t / (1 + t)
    return np.where(a < 0, smaller, larger), np.where(a < 0, larger, smaller)


def log_variance(u):
    """(log v, r) of (15)."""
    near = np.maximum(u, FAR)
    S = softplus(near)
    return np.where(u < FAR, u, np.log(S)), np.where(u < FAR, 1, sigmoids(near)[0] / S)         # (15)


def warmed_up(epoch, warm_up=100, largest=1.0):
    """beta of (9) in an epoch 1, 2, ...; `warm_up` epochs, the authors' 100 by default.  ValueError for numbers that are negative."""
    given = {"epoch": epoch, "warm_up": warm_up, "largest": largest}
    epoch, warm_up, largest = (BETA.checked("warmed_up", key, value) for key, value in given.items())
    return min(epoch / max(warm_up, 1), largest)                                    # (9)


# -- building ---------------------------------------------------------------------------------------------------------

def sylvester_vae(rng, size, latent=64, flow="orthogonal", steps=4, *, units=8, reflections=8, made=320, features=256, hidden=(),
                  dtype=np.float64) -> SylvesterVAE:
    """A variational autoencoder of vectors of `size` entries in [0, 1]; the sizes of its flow are by default the authors'.

    `latent`: D; `flow`: "planar", "orthogonal", "householder", "triangular" or "iaf", of `steps` steps; `units` of each orthogonal
    Sylvester flow, at most D; `reflections` of each Householder product; `made`: the width of the masked networks of "iaf", a
    multiple or a divisor of D; `features`: of h; `hidden`: the widths of further layers of the encoder, and in reverse order of the
    decoder, all with tanh.  Weights are drawn from the Generator `rng`.  ValueError for sizes that do not fit.
    """
    if flow not in FLOWS:
        raise ValueError(f"sylvester_vae: flow must be one of {FLOWS}, not {flow!r}")
    draw = Drawn("sylvester_vae", rng, dtype)
    draw.counts(size=size, latent=latent, steps=steps, units=units, reflections=reflections, made=made, features=features,
                **{f"hidden[{i}]": width for i, width in enumerate(hidden)})
    encoder = dense_layers(draw, (size, *hidden, features))
    decoder = dense_layers(draw, (latent, *hidden[::-1], size))[:-1]
    mean, variance = (Dense(*draw.weights(latent, features)) for _ in range(2))
    summary = [Dense(*draw.weights(made, features))] if flow == "iaf" else []
    made_steps = [masked_step(draw, latent, made, k) if flow == "iaf" else amortised_step(draw, flow, latent, features, k, units, reflections)
                  for k in range(steps)]
    return SylvesterVAE(Sequential(encoder), mean, variance, Sequential(decoder), summary, made_steps)


def dense_layers(draw, sizes):
    """Dense layers with tanh after each."""
    return [layer for inputs, outputs in zip(sizes, sizes[1:]) for layer in (Dense(*draw.weights(outputs, inputs)), TanhActivation())]


def amortised_step(draw, flow, latent, features, k, units, reflections):
    """Step k + 1 of an amortised flow."""
    if flow == "orthogonal" and units > latent:
        raise ValueError(f"sylvester_vae: units must be at most latent = {latent}, not {units}")
    step = parametrised(flow, latent, k, units, reflections)
    return AmortisedStep(Dense(*draw.weights(step["fields"].size + sum(b.size for b in step["basis"]), features)), **step)


def parametrised(flow, latent, k, units, reflections):
    """The fields of an `AmortisedStep` beside its network."""
    if flow == "planar":
        return {"fields": HyperplaneFields(SoftplusScale(), latent), "basis": (), "bijector": Planar}
    basis = {"orthogonal": (OrthonormalColumns(latent, units, THRESHOLDS[units == latent]),) if flow == "orthogonal" else (),
             "householder": (HouseholderProduct(latent, reflections),)}.get(flow, ())
    return {"fields": SylvesterFields(units if flow == "orthogonal" else latent), "basis": basis, "bijector": Sylvester,
            "backwards": flow == "triangular" and k % 2 == 1}


def masked_step(draw, latent, made, k):
    """Step k + 1 of an inverse autoregressive flow, with one hidden layer after the context, as in the authors' code."""
    if latent % made and made % latent:
        raise ValueError(f"sylvester_vae: made must be a multiple or a divisor of latent = {latent}, not {made}")
    first, second = (MaskedDense(W, connections(*W.shape), b)
                     for W, b in (draw.weights(made, latent), draw.weights(made, made)))
    last = np.tile(connections(latent, made, strict=True), (2, 1))
    W, b = draw.weights(2 * latent, made)
    return MaskedStep(inverse_autoregressive(first, [second], MaskedDense(W, last, b)), k % 2 == 1)


def inverse_autoregressive(first, hidden, last):
    """(4) with masked layers: the first one, to whose activations the context is added, further ones, and the last, which gives s
    and then m.
    """
    width = first.W.shape[0]
    layers = [AddedContext(Sequential((first, ELU())), BijectorLayer(Permutation(np.arange(width))))]
    layers += [layer for masked in hidden for layer in (masked, ELU())]
    return Autoregressive(Sequential((*layers, last)), Family(ScaledAffine, GatedLocationScale(1.0)))           # (4)


def connections(outputs, inputs, strict=False):
    """Which inputs an output sees: with both in as many groups as the smaller number, the groups before its own and, unless `strict`,
    its own.
    """
    groups = math.gcd(outputs, inputs)
    of_output, of_input = (np.arange(n) // (n // groups) for n in (outputs, inputs))
    return of_input < of_output[:, None] if strict else of_input <= of_output[:, None]
