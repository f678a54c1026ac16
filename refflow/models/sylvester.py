r"""The variational autoencoder of Sylvester flows (van den Berg, Hasenclever, Tomczak & Welling, arXiv:1803.05649).

An encoder makes features `h` of data `x`, and from these the mean and the variance of a first latent, whose noise is `e`:
    h = encoder(x),   mu = mean(h),   v = S(variance(h)),   S(a) = log(1 + exp a)   (1)
    z_0 = mu + v^(1/2) e,   l_0 = log|det dz_0/de| = 1/2 sum_i log v_i              (2)
Steps of a flow follow.  Their fields are amortised: networks make them from `h` for each `x`,
    z_k = z_(k-1) + Q_k (f_k(Q_k^T z_(k-1)) - Q_k^T z_(k-1)),   fields of f_k and Q_k from net_k(h)         (3)
where `f_k` is a planar flow, with `Q_k = I`, or a Sylvester flow.  The basis `Q_k` of a Sylvester flow comes from
`OrthonormalColumns`, with a column for each unit of `f_k`, or from `HouseholderProduct`; in the triangular flow it is the identity for
even `k - 1` and the reversal for odd ones.  The fifth flow is inverse autoregressive; its masked networks see one context `c`, and
    z_k = sigma z + (1 - sigma) m,   sigma = sigmoid(s + 1),   (s, m) = net_k(z, c)          (4)
where `z` is `z_(k-1)`, reversed for odd `k - 1` and not turned back.  With the logits `a` of the decoder,
    log p(x | z_K) = sum_i (x_i a_i - S(a_i)),   a = decoder(z_K)                   (5)
With `l_k = log|det df_k|`, by (3) if the columns of `Q_k` are orthonormal, the two terms of the loss are
    reconstruction = -log p(x | z_K)                                                (6)
    divergence = log q(z_K) - log p(z_K) = 1/2 sum_i (z_K,i^2 - e_i^2) - sum_k l_k          (7)
    loss = reconstruction + beta divergence                                         (8)
whose mean over noise, for `beta = 1`, bounds `-log p(x)`.  The authors' loss is the mean of (8) over a batch, and their `beta`
grows with the epochs of training:
    beta = min(epoch/warm_up, largest)                                              (9)

The authors' encoders and decoders are networks of gated convolutions; here they are any networks, and `sylvester_vae` makes dense ones.

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

From here on, `r` and `s` are entries of the diagonals of `R` and `S`.  The page `Sylvester` finds `r` from a rounded slack, as
`r + rho = (slack - 1)/s`, where `rho` is due to the rounding.  In the derivative by `s`, terms of the size `1/s` cancel, but only
if both cotangents are taken at `r + rho`:
    s_bar + slack_bar (r + rho) = (s_bar + slack_bar rho) + slack_bar r             (16)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..core import Bijector, Conditioner, Value, child, children, plain, tree
from ..core.rules import FLAG, count, number
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


# -- flows ------------------------------------------------------------------------------------------------------------

@declare
class AmortisedFlow(Value):
    """(3): K = `steps` maps of the class `bijector`, each along a basis.

    `net`: from h to P numbers for each step, K P in all; the parametrisation `fields` makes the fields of a step's map of the first
    of them, and `basis`, none or a parametrisation, its Q of the others; `reversals`: do the second, the fourth, ... step take the
    entries in reverse order?
    """

    net: Conditioner = child()
    fields: Map = child()
    basis: tuple[Map, ...] = children()
    bijector: type = plain()
    steps: int = plain(rule=count())
    reversals: bool = plain(False, FLAG)

    def _validate(self):
        super()._validate()
        if len(self.basis) > 1:
            raise ValueError(f"AmortisedFlow: basis must hold at most one parametrisation, not {len(self.basis)}")
        needed = self.steps * (self.fields.size + sum(basis.size for basis in self.basis))
        given = tuple(self.net.output_shape(self.net.fixed_shape))
        if given != (needed,):
            raise ValueError(f"AmortisedFlow: net must give {needed} numbers for {self.steps} steps, not {given}")

    def maps_vjp(self, h):
        """([(f_k, Q_k)], pullback); `pullback([(fields_bar, Q_bar)])` -> (h_bar, params_bar).  Q_k is None without a basis."""
        numbers, net_pullback = self.net.vjp(h)
        own, rest = np.split(numbers.reshape(len(h), self.steps, numbers.shape[-1] // self.steps), [self.fields.size], -1)
        fields, fields_pullback = self.fields.vjp(own)
        bases, basis_pullback = self.basis[0].vjp(rest) if self.basis else (None, None)         # of all steps at once
        constants = fields.keys() - set(self.fields.names)
        maps = [(self.bijector(**{key: v if key in constants else v[:, k] for key, v in fields.items()}),
                 bases and bases["Q"][:, k]) for k in range(self.steps)]

        def pullback(bars):
            given = {key: np.stack([bar[key] for bar, _ in bars], 1) for key in self.fields.names}
            if isinstance(self.fields, SylvesterFields):
                given["diagonal"] = given["diagonal"] + given["slack"] * rounding(own, fields)      # (16)
            own_bar, fields_bar = fields_pullback(given)
            rest_bar, basis_bar = np.zeros_like(rest), {}
            if self.basis:
                rest_bar, basis_bar["0"] = basis_pullback({"Q": np.stack([Q_bar for _, Q_bar in bars], 1)})
            h_bar, net_bar = net_pullback(np.concatenate((own_bar, rest_bar), -1).reshape(numbers.shape))
            return h_bar, {"net": net_bar, "fields": fields_bar, "basis": basis_bar}

        return maps, pullback

    def vjp(self, h, z):
        """((images, log-dets) of all steps, pullback) for h (B, H) and z_0 (B, D).

        `pullback(z_bar, l_bar)` -> (h_bar, z_0_bar, params_bar), for the cotangents of z_K and of every log-det.
        """
        (maps, maps_pullback), images, log_dets, pullbacks = self.maps_vjp(h), [], [], []
        for k, (f, Q) in enumerate(maps):
            along = along_basis_vjp if self.basis else along_reversal_vjp if self.turned(k) else along_nothing_vjp
            (z, l), step_pullback = along(f, Q, z)                                  # (3)
            images, log_dets, pullbacks = [*images, z], [*log_dets, l], [step_pullback, *pullbacks]

        def pullback(z_bar, l_bar):
            bars = []
            for step_pullback in pullbacks:
                z_bar, *step_bars = step_pullback(z_bar, l_bar)                     # (12) (13)
                bars = [step_bars, *bars]
            h_bar, params_bar = maps_pullback(bars)
            return h_bar, z_bar, params_bar

        return (images, log_dets), pullback

    def inverse(self, h, z):
        """z_0 of z_K, where the columns of every basis are orthonormal."""
        maps, _ = self.maps_vjp(h)
        for k, (f, Q) in reversed(list(enumerate(maps))):
            if self.basis:
                y = times(Q.mT, z)
                z = z + times(Q, f.inverse(y) - y)
            else:
                z = turned(f.inverse(turned(z))) if self.turned(k) else f.inverse(z)
        return z

    def turned(self, k):
        return self.reversals and k % 2 == 1


def rounding(h, fields):
    """rho, from the numbers h of `SylvesterFields`."""
    D = fields["slack"].shape[-1]
    return (fields["slack"] - 1) / fields["diagonal"] - np.tanh(h[..., D * D:D * D + D])            # (16)


def along_nothing_vjp(f, Q, z):
    (x, l), f_pullback = f.vjp(z)

    def pullback(x_bar, l_bar):
        z_bar, fields_bar = f_pullback(x_bar, l_bar)
        return z_bar, fields_bar, None

    return (x, l), pullback


def along_reversal_vjp(f, Q, z):
    (x, l), inner_pullback = along_nothing_vjp(f, Q, turned(z))

    def pullback(x_bar, l_bar):
        z_bar, *bars = inner_pullback(turned(x_bar), l_bar)
        return turned(z_bar), *bars

    return (turned(x), l), pullback


def along_basis_vjp(f, Q, z):
    """((x, l), pullback) of (3); `pullback(x_bar, l_bar)` -> (z_bar, fields_bar, Q_bar)."""
    y = times(Q.mT, z)
    (w, l), f_pullback = f.vjp(y)
    d = w - y

    def pullback(x_bar, l_bar):
        d_bar = times(Q.mT, x_bar)                                                  # (12)
        w_bar, fields_bar = f_pullback(d_bar, l_bar)
        y_bar = w_bar - d_bar                                                       # (12)
        Q_bar = x_bar[..., :, None] * d[..., None, :] + z[..., :, None] * y_bar[..., None, :]           # (13)
        return x_bar + times(Q, y_bar), fields_bar, Q_bar                           # (13)

    return (z + times(Q, d), l), pullback                                           # (3)


def times(Q, v):
    """Q v, event by event."""
    return (Q @ v[..., None])[..., 0]


def turned(z):
    """The entries in reverse order."""
    return z[..., ::-1]


@declare
class MaskedFlow(Value):
    """(4): autoregressive maps that see the same context, c = net(h); the second, the fourth, ... one takes z reversed."""

    net: Conditioner = child()
    maps: tuple[Bijector, ...] = children()

    def vjp(self, h, z):
        """As in `AmortisedFlow`."""
        c, net_pullback = self.net.vjp(h)
        images, log_dets, pullbacks = [], [], []
        for k, f in enumerate(self.maps):
            (z, l), f_pullback = tree.replaced(f, {}, c).vjp(turned(z) if k % 2 else z)         # (4)
            images, log_dets, pullbacks = [*images, z], [*log_dets, l], [*pullbacks, f_pullback]

        def pullback(z_bar, l_bar):
            c_bar, bars = np.zeros_like(c), {}
            for k in reversed(range(len(pullbacks))):
                z_bar, bars[str(k)] = pullbacks[k](z_bar, l_bar)
                z_bar, c_bar = turned(z_bar) if k % 2 else z_bar, c_bar + bars[str(k)].pop("context")
            h_bar, net_bar = net_pullback(c_bar)
            return h_bar, z_bar, {"net": net_bar, "maps": {key: bars[key] for key in sorted(bars, key=int)}}

        return (images, log_dets), pullback

    def inverse(self, h, z):
        """z_0 of z_K."""
        c = self.net.forward(h)
        for k, f in reversed(list(enumerate(self.maps))):
            z = tree.replaced(f, {}, c).inverse(z)
            z = turned(z) if k % 2 else z
        return z


# -- the model --------------------------------------------------------------------------------------------------------

@declare
class SylvesterVAE(Value):
    """A variational autoencoder of vectors of numbers in [0, 1]; `sylvester_vae` builds one.

    `encoder`: from x (N,) to h (H,); `mean` and `variance`: from h to the numbers of (1), (D,); `decoder`: from z (D,) to logits (N,);
    `flow`: an `AmortisedFlow` or a `MaskedFlow` of latents, given h.
    """

    encoder: Conditioner = child()
    mean: Conditioner = child()
    variance: Conditioner = child()
    decoder: Conditioner = child()
    flow: Value = child()

    def _validate(self):
        if not isinstance(self.flow, (AmortisedFlow, MaskedFlow)):
            raise ValueError(f"SylvesterVAE: flow must be an AmortisedFlow or a MaskedFlow, not {type(self.flow).__name__}")
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
            z = found.images[-1]
            a, decoder_pullback = model.decoder.vjp(z)                              # (5)
            reconstruction = surprise(x, a).sum(-1)                                 # (6)
            divergence = (z * z - noise * noise).sum(-1) / 2 - sum(found.log_dets)              # (7)

        @np.errstate(all="ignore")
        def pullback(loss_bar):
            b = np.broadcast_to(np.asarray(loss_bar, z.dtype), z.shape[:1])
            b_beta, (right, left) = b * z.dtype.type(beta), sigmoids(a)              # (8)
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
        v, (log_v, r) = softplus(u), log_variance(u)                                # (1)
        z = mu + np.sqrt(v) * noise                                                 # (2)
        (images, log_dets), flow_pullback = self.flow.vjp(h, z)                     # (3) (4)

        def pullback(z_bar, l_bar):
            h_bar, z_bar, flow_bar = flow_pullback(z_bar, l_bar)                    # (12) (13)
            mean_bar, own_bar = mean_pullback(z_bar)                                # (14)
            variance_bar, spread_bar = variance_pullback((z_bar * noise * np.sqrt(v) + l_bar[:, None]) * r / 2)         # (14)
            x_bar, encoder_bar = encoder_pullback(h_bar + mean_bar + variance_bar)
            return x_bar, {"encoder": encoder_bar, "mean": own_bar, "variance": spread_bar, "flow": flow_bar}

        return Posterior(mu, v, z, images, [log_v.sum(-1) / 2, *log_dets]), pullback            # (2)

    # -- what users give ---------------------------------------------------------------------------------------------

    def checked_arguments(self, name, x, noise):
        """(an unchecked copy, x, noise) in one dtype; the arrays are copies, which a pullback may keep."""
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
        return self.unchecked(dtype), x.astype(dtype), noise.astype(dtype)


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


def warmed_up(epoch, warm_up=100, largest=1.0) -> float:
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
    if flow == "iaf":
        made_flow = MaskedFlow(Dense(*draw.weights(made, features)), [masked_map(draw, latent, made) for _ in range(steps)])
    else:
        own = parametrised(flow, latent, units, reflections)
        made_flow = AmortisedFlow(                                                  # type: ignore[assignment]
            Dense(*draw.weights(steps * (own["fields"].size + sum(b.size for b in own["basis"])), features)), **own, steps=steps)
    return SylvesterVAE(Sequential(encoder), mean, variance, Sequential(decoder), made_flow)


def dense_layers(draw, sizes):
    """Dense layers with tanh after each."""
    return [layer for inputs, outputs in zip(sizes, sizes[1:]) for layer in (Dense(*draw.weights(outputs, inputs)), TanhActivation())]


def parametrised(flow, latent, units, reflections):
    """The fields of an `AmortisedFlow` beside its network and the number of its steps."""
    if flow == "planar":
        return {"fields": HyperplaneFields(SoftplusScale(), latent), "basis": (), "bijector": Planar}
    if flow == "orthogonal":
        if units > latent:
            raise ValueError(f"sylvester_vae: units must be at most latent = {latent}, not {units}")
        basis = OrthonormalColumns(latent, units, THRESHOLDS[units == latent])
        return {"fields": SylvesterFields(units), "basis": (basis,), "bijector": Sylvester}
    basis = (HouseholderProduct(latent, reflections),) if flow == "householder" else ()
    return {"fields": SylvesterFields(latent), "basis": basis, "bijector": Sylvester, "reversals": flow == "triangular"}


def masked_map(draw, latent, made):
    """A map (4) with one hidden layer after the context, as in the authors' code."""
    if latent % made and made % latent:
        raise ValueError(f"sylvester_vae: made must be a multiple or a divisor of latent = {latent}, not {made}")
    first, second = (MaskedDense(W, connections(*W.shape), b)
                     for W, b in (draw.weights(made, latent), draw.weights(made, made)))
    W, b = draw.weights(2 * latent, made)
    last = np.tile(connections(latent, made, strict=True), (2, 1))
    return inverse_autoregressive(first, [second], MaskedDense(W, last, b))


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
