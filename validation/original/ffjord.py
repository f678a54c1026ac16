"""FFJORD (Grathwohl et al.), compared with the numbers of its authors' code.

A model is a chain of velocities that are followed from the time 0 to T, and of moving batch norms.  The second output starts at 0 and
falls by the integral of the divergence, so that log p(x) = log N(z) - delta_logp.

Quirks of the code: its solvers see the time as a number, without a derivative; where a model is evaluated, a fixed scheme may be given no
step, and then takes one; a divergence that is estimated is exact where a model of two entries is evaluated.  A moving batch norm with a lag
of 0 uses the statistics before the batch at hand also in training.  With a lag, they are
    (batch - (1 - lag) (batch - running))/(1 - lag^(step + 1))
and the way back uses the running ones as they are.

Its gradients of a path that dopri8 follows with small tolerances are not the exact ones: the first length of that solver has a
derivative, and the times have none, so that the gradients have a multiple of this derivative beside them.  The multiple depends on
dopri8's steps, which are not built; it is a single number for all gradients, and is fitted.
"""

from __future__ import annotations

import re

import numpy as np

from refflow import ELU, BlendedDense, Dense, Dropout, HyperDense, ReLU, Sequential, SoftplusActivation, Square, Swish
from refflow import TanhActivation, TimeDense, TimeNetwork
from refflow.core.tree import added, flatten
from refflow.maps.continuous.adaptive import Adjoint, Backwards, adaptive_vjp, first_length, on_grid_vjp
from refflow.maps.continuous.log_density import LogDensity
from refflow.maps.densities import StandardNormal

from .comparison import PRACTICE, Lacking, answered, gradients, numbers, pair, read_as, under

PREFIX = "ffjord"
FILES = tuple(sorted(path.stem for path in PRACTICE.glob("ffjord_*.npz")))
SCHEMES = {"euler": "euler", "midpoint": "midpoint", "heun2": "heun", "rk4": "three-eighths"}         # torchdiffeq's names
ACTIVATIONS = {"tanh": TanhActivation(), "relu": ReLU(), "softplus": SoftplusActivation(), "elu": ELU(), "square": Square(),
               "identity": Dropout(True, 0.0)}
EPS, DECAY = 1e-4, 0.1              # of their batch norm
TIGHT = 1e-13                       # the tolerance of what stands for the exact path
BETA = "activation_fns.0.beta"


# -- networks ---------------------------------------------------------------------------------------------------------

class Network:
    """Their network of velocities `layers.0`, `layers.1`, ... as ours, and the names of its parameters.

    `names`: {our path: (their name, how our cotangent is written in their form)}.
    """

    def __init__(self, params, nonlinearity, D):
        self.params, self.names, width = params, {}, D
        places = sorted({int(name.split(".")[1]) for name in params if name.startswith("layers.")})
        layers = []
        for i in places:
            layers.append(self.layer(f"layers.{i}.", ("layers", str(i)), width))
            width = layers[-1].output_shape((width + 1,))[0]
        self.net = TimeNetwork(layers, self.activation(nonlinearity))

    def layer(self, prefix, path, width):
        held = under(prefix, self.params)
        if any(array.ndim > 2 for array in held.values()):
            raise Lacking(f"the layer {prefix.rstrip('.')!r} is a convolution in time, which is not built")
        if "_hypernet.0.weight" in held:
            net = Sequential((self.dense(prefix + "_hypernet.0.", (*path, "net", "layers", "0")), TanhActivation(),
                              self.dense(prefix + "_hypernet.2.", (*path, "net", "layers", "2"))))
            return HyperDense(net, len(held["_hypernet.2.weight"]) // (width + 1))
        if "_layer0.weight" in held:
            names = {"W": "_layer0.weight", "b": "_layer0.bias", "W_end": "_layer1.weight", "b_end": "_layer1.bias"}
            return BlendedDense(**{ours: self.name(prefix + name, (*path, ours)) for ours, name in names.items()})
        if "_layer.weight" not in held:
            raise Lacking(f"the layer {prefix.rstrip('.')!r} is of a kind that is not built: {', '.join(held)}")
        if held["_layer.weight"].shape[1] == width + 1:             # the time is the first input
            self.name(prefix + "_layer.weight", (*path, "W"), lambda bar: np.roll(bar, 1, -1))
            return Dense(np.roll(held["_layer.weight"], -1, -1), self.name(prefix + "_layer.bias", (*path, "b")))
        gate = next((name for name in ("_hyper_gate.", "_hyper.") if f"{name}weight" in held), None)
        of_time = {"gate": gate and gate + "weight", "gate_bias": gate and gate + "bias",
                   "shift": "_hyper_bias.weight" if "_hyper_bias.weight" in held else None}
        fields = {ours: self.column(prefix + name, (*path, ours)) for ours, name in of_time.items() if name}
        return TimeDense(self.name(prefix + "_layer.weight", (*path, "W")), self.name(prefix + "_layer.bias", (*path, "b")), **fields)

    def name(self, theirs, ours, written=lambda bar: bar):
        self.names[ours] = theirs, written
        return self.params[theirs]

    def column(self, theirs, ours):
        """A matrix of one column, which we have as a vector."""
        shape = self.params[theirs].shape
        return self.name(theirs, ours, lambda bar: bar.reshape(shape)).reshape(-1)

    def dense(self, prefix, path):
        return Dense(self.name(prefix + "weight", (*path, "W")), self.name(prefix + "bias", (*path, "b")))

    def activation(self, nonlinearity):
        if nonlinearity == "swish":
            return Swish(self.name(BETA, ("activation", "beta")))
        if nonlinearity not in ACTIVATIONS:
            raise Lacking(f"the nonlinearity {nonlinearity!r} is not built")
        return ACTIVATIONS[nonlinearity]

    def written(self, params_bar):
        """Our cotangents under their names."""
        held = dict(flatten(params_bar))
        return {theirs: written(held[ours]) for ours, (theirs, written) in self.names.items() if ours in held}


def layers_compared(config, theirs):
    """{quantity: Pair} of networks of velocities, each with its divergence, exact and estimated."""
    found = {}
    for layer in config["layers"]:
        of_one = network_compared(layer["nonlinearity"], theirs.below(f"{layer['prefix']}/"))
        found |= {f"{layer['prefix']}: {quantity}": held for quantity, held in of_one.items()}
    return found


def network_compared(nonlinearity, theirs):
    network = Network(answered("param/", theirs), nonlinearity, theirs["in/x"].shape[1])
    x, t, e, w = (theirs[f"in/{name}"] for name in ("x", "t", "e", "w"))
    n, D = x.shape
    tangents = np.zeros((n, D + 1, D + 1))
    tangents[:, :D, :D], tangents[:, :D, D] = np.eye(D), e
    (y, Y), of_net = network.net.jvp(np.concatenate([x, np.full((n, 1), t)], 1), tangents)
    exact, estimate = np.trace(Y[:, :, :D], axis1=1, axis2=2), (e * Y[:, :, D]).sum(1)
    Y_bar = np.concatenate([np.broadcast_to(np.eye(D), (n, D, D)), (estimate[:, None] * e)[..., None]], -1)
    bar, _, params_bar = of_net(w, Y_bar)
    found = {"y": pair(y, theirs["out/y"]), "div_exact": pair(exact, theirs["out/div_exact"]),
             "div_hutchinson": pair(estimate, theirs["out/div_hutchinson"]),
             "loss": pair((y * w).sum() + exact.sum() + 0.5 * (estimate**2).sum(), theirs["out/loss"]),
             "gradient of x": pair(bar[:, :D], theirs["gradin/x"]), "gradient of t": pair(bar[:, D].sum(), theirs["gradin/t"])}
    grad = answered("grad/", theirs)
    return found | {"gradients": gradients(network.written(params_bar), grad)}


# -- models -----------------------------------------------------------------------------------------------------------

class Pulled:
    """A velocity minus the point, `residual` in their code."""

    def __init__(self, net):
        self.net = net

    def unchecked(self, dtype):
        return Pulled(self.net.unchecked(dtype))

    def jvp(self, a, A_dot):
        (h, H), of_net = self.net.jvp(a, A_dot)

        def pullback(h_bar, H_bar):
            bar, BAR, params_bar = of_net(h_bar, H_bar)
            bar, BAR = bar.copy(), BAR.copy()
            bar[..., :-1] -= h_bar
            BAR[..., :-1, :] -= H_bar
            return bar, BAR, params_bar

        return (h - a[..., :-1], H - A_dot[..., :-1, :]), pullback


class Velocity:
    """One of their CNFs."""

    def __init__(self, prefix, config, theirs, params, noise):
        self.prefix, self.config, self.noise = prefix, config, noise
        diffeq = f"{prefix}odefunc.diffeq."
        self.network = Network(under(diffeq, params), config["nonlinearity"], int(config["D"]))
        self.net = Pulled(self.network.net) if config.get("residual") else self.network.net
        root = next((theirs[key] for kind in ("buffer", "param") for key in [f"{kind}/{prefix}sqrt_end_time"] if key in theirs), None)
        self.T = float(config["T"]) if root is None else float(np.squeeze(root))**2
        theirs.leave([f"buffer/{prefix}odefunc._num_evals"], "a counter of evaluations")

    def followed(self, z, l, how, backwards=False):
        """(z, l, Solution, pullback, the system) in "training", in "evaluation", in "evaluation by one step", or by a "tight" tolerance."""
        exact = self.noise is None or how.startswith("evaluation") and z.shape[1] == 2
        system = LogDensity(self.net, z.shape, None if exact else self.noise)
        start, end = (self.T, 0.0) if backwards else (0.0, self.T)
        solution, pullback = self.solved(system, system.state(z, l), start, end, how)
        z, l, _ = system.read(solution.state)
        return z, l, solution, pullback, system

    def solved(self, system, state, start, end, how):
        config = self.config
        if how == "tight":
            times = [t for t, _ in adaptive_vjp(system, state, start, end, TIGHT, TIGHT)[0].accepted]
            return on_grid_vjp(system, state, [*times, end], "dopri5")
        if config["solver"] == "dopri5":
            return adaptive_vjp(system, state, start, end, float(config["atol"]), float(config["rtol"]))
        if config["solver"] not in SCHEMES:
            raise Lacking(f"the solver {config['solver']!r} is not built")
        if end < start:
            system, start, end = Backwards(system), -start, -end
        step = None if how == "evaluation by one step" else config.get("step_size")
        return on_grid_vjp(system, state, grid(start, end, step), SCHEMES[config["solver"]])

    def forward_vjp(self, z, l, how):
        """(z, l, pullback); `pullback(z_bar, l_bar, adjoint)` -> (z_bar, l_bar, {their name: cotangent})."""
        shape = z.shape
        z, l, self.solution, direct, system = self.followed(z, l, how)

        def pullback(z_bar, l_bar, adjoint=False):
            bar = np.concatenate([z_bar.reshape(-1), l_bar])
            state_bar, params_bar = self.adjoint(system, bar) if adjoint else direct(bar)
            bars = {f"{self.prefix}odefunc.diffeq.{name}": one for name, one in self.network.written(params_bar).items()}
            return state_bar[:z_bar.size].reshape(shape), state_bar[z_bar.size:], bars

        return z, l, pullback

    def adjoint(self, system, bar):
        shapes = {path: value.shape for path, value in flatten(self.network.net.params())}
        adjoint = Adjoint(system, shapes)
        solution, _ = self.solved(adjoint, adjoint.begun(self.solution.state, bar), self.T, 0.0, "training")
        return adjoint.read(solution.state)

    def back(self, z, l, how):
        return self.followed(z, l, how, backwards=True)[:2]


def grid(start, end, step):
    """torchdiffeq's times from start to end, the last one `end` itself; one step without a length."""
    if step is None:
        return [start, end]
    times = start + float(step) * np.arange(int(np.ceil((end - start) / float(step) + 1)))
    return [*times[:-1], end]


class MovingBatchNorm:
    """y = (x - m) exp(weight)/(v + eps)^(1/2) + bias."""

    def __init__(self, prefix, config, theirs, params):
        self.prefix, self.lag = prefix, float(config["bn_lag"])
        self.weight, self.bias = params[f"{prefix}weight"], params[f"{prefix}bias"]
        held = {name: theirs[f"buffer/{prefix}{name}"] for name in ("running_mean", "running_var")}
        self.running = held["running_mean"], held["running_var"]
        self.step = theirs[f"buffer/{prefix}step"] if f"buffer/{prefix}step" in theirs else np.zeros(1)

    def used(self, x, how):
        """(mean, var, how much of them is the batch's)."""
        self.batch = x.mean(0), x.var(0, ddof=1)
        if how.startswith("evaluation") or not self.lag:
            return (*self.running, 0.0)
        whole = 1 - self.lag ** (float(np.squeeze(self.step)) + 1)
        parts = [(batch - (1 - self.lag) * (batch - running)) / whole for batch, running in zip(self.batch, self.running)]
        return (*parts, self.lag / whole)

    def forward_vjp(self, x, l, how):
        mean, var, share = self.used(x, how)
        n, root, gain = len(x), np.sqrt(var + EPS), np.exp(self.weight)
        y = (x - mean) / root
        log_det = (self.weight - np.log(var + EPS) / 2).sum()

        def pullback(z_bar, l_bar, adjoint=False):
            y_bar, of_log_det = z_bar * gain, -l_bar.sum()
            x_bar = y_bar / root
            mean_bar = -x_bar.sum(0)
            var_bar = -((y_bar * y).sum(0) + of_log_det) / (2 * (var + EPS))
            x_bar = x_bar + share * (mean_bar / n + 2 * (x - x.mean(0)) * var_bar / (n - 1))
            bars = {"weight": (z_bar * y).sum(0) * gain + of_log_det, "bias": z_bar.sum(0)}
            return x_bar, l_bar, {self.prefix + name: bar for name, bar in bars.items()}

        return y * gain + self.bias, l - log_det, pullback

    def back(self, z, l, how):
        mean, var = self.running
        log_det = (self.weight - np.log(var + EPS) / 2).sum()
        return (z - self.bias) / np.exp(self.weight) * np.sqrt(var + EPS) + mean, l + log_det

    def moved(self):
        """{name: its buffers after the batch}."""
        return {"step": self.step + 1} | {
            name: running - DECAY * (running - batch)
            for name, running, batch in zip(("running_mean", "running_var"), self.running, self.batch)}


def chain_of(config, theirs, params):
    """Their chain: velocities, and moving batch norms."""
    places = sorted({int(re.match(r"chain\.(\d+)\.", name)[1]) for name in params})
    noises = [theirs[key] for key in sorted(theirs) if re.fullmatch(r"in/(e|noise)[._]?\d*", key)]
    velocities = [i for i in places if any(name.startswith(f"chain.{i}.odefunc.") for name in params)]
    estimated = config.get("divergence", "brute_force") != "brute_force"
    if estimated and len(noises) not in (1, len(velocities)):
        raise Lacking(f"there is no noise in/e for each of {len(velocities)} velocities")
    if config.get("regularization"):
        raise Lacking(f"the penalties {config['regularization']} have states of their own, whose names in a file are not known")
    chain = []
    for i in places:
        prefix = f"chain.{i}."
        if i in velocities:
            noise = noises[velocities.index(i) % len(noises)] if estimated else None
            chain.append(Velocity(prefix, config, theirs, params, noise))
        else:
            chain.append(MovingBatchNorm(prefix, config, theirs, params))
    return chain


def through(chain, x, how):
    """(z, delta_logp, pullback) of a chain."""
    l, pullbacks = np.zeros(len(x)), []
    for one in chain:
        x, l, pullback = one.forward_vjp(x, l, how)
        pullbacks.append(pullback)

    def pullback_of_all(z_bar, l_bar, adjoint=False):
        bars = {}
        for pullback in reversed(pullbacks):
            z_bar, l_bar, more = pullback(z_bar, l_bar, adjoint)
            bars = added(bars, more)
        return z_bar, bars

    return x, l, pullback_of_all


def compared(config, theirs):
    """{quantity: Pair} of a model: its training, the gradients by both ways, the exact path, the way back and the evaluation."""
    params = answered("param/", theirs)
    chain = chain_of(config, theirs, params)
    x = theirs["in/x"]
    if x.ndim != 2:
        raise Lacking(f"events of shape {x.shape[1:]} are images, whose layers are not built")
    found = trained(config, theirs, chain, x, "training", {"out": "", "grad": "grad/", "gradin": "gradin/x"})
    found |= buffers_after(theirs, chain)
    velocities = [one for one in chain if isinstance(one, Velocity)]
    found |= steps_taken(theirs, velocities)
    if any(key.startswith("grad_adjoint/") for key in theirs):
        found |= adjoints(theirs, chain, x)
    if any(key.startswith("truth/") for key in theirs):
        found |= trained(config, theirs, chain, x, "tight", {"out": "truth", "grad": "truth_grad/", "gradin": "truth_gradin/x"})
    return found | ways_back(theirs, chain) | evaluated(theirs, chain, x)


def trained(config, theirs, chain, x, how, at):
    """{quantity: Pair} of what the chain gives, and of the gradients of -mean(logpx)."""
    z, l, pullback = through(chain, x, how)
    prefix = at["out"] or "out"
    log_density = StandardNormal(x.shape[1]).log_prob(z) - l
    ours = {"z": z, "delta_logp": l[:, None], "logpx": log_density[:, None], "loss": -log_density.mean()}
    found = {f"{at['out']} {name}".strip(): pair(value, theirs[f"{prefix}/{name}"]) for name, value in ours.items()
             if theirs.has(f"{prefix}/{name}")}
    grad = under(at["grad"], theirs)
    if grad and config["loss"] != "-mean(logpx)":
        theirs.leave([at["grad"] + name for name in grad] + [at["gradin"]], f"of the loss {config['loss']!r}, which is not built")
    elif grad and how == "tight" and len(chain) > 1:
        theirs.leave([at["grad"] + name for name in grad] + [at["gradin"]],
                     "beside them are derivatives of the first lengths of several solvers, whose multiples are not known")
    elif grad:
        theirs.answer(at["grad"], grad)
        x_bar, bars = pullback(z / len(x), np.full(len(x), 1 / len(x)))
        if how == "tight":
            x_bar, bars = beside_first_length(chain[0], x, x_bar, bars, theirs[at["gradin"]], grad)
        name = f"{at['out']} gradients".strip()
        found |= {name: gradients(bars, grad), f"{name} of x": pair(x_bar, theirs[at["gradin"]])}
    return found


def beside_first_length(velocity, x, x_bar, bars, their_x_bar, grad):
    """Exact gradients, and the multiple of the derivative of dopri8's first length that is nearest to theirs."""
    system = LogDensity(velocity.net, x.shape, velocity.noise)
    state = system.state(x)
    _, pullback = first_length(system, 0.0, state, system.rates_vjp(0.0, state), TIGHT, TIGHT, order=8)
    state_bar, params_bar = pullback(1.0)
    more_x_bar = state_bar[:x.size].reshape(x.shape)
    more = {f"{velocity.prefix}odefunc.diffeq.{name}": bar for name, bar in velocity.network.written(params_bar).items()}
    off = np.concatenate([(their_x_bar - x_bar).ravel(), *((grad[name] - bars[name]).ravel() for name in grad)])
    along = np.concatenate([more_x_bar.ravel(), *(more[name].ravel() for name in grad)])
    multiple = (off @ along) / (along @ along)
    return x_bar + multiple * more_x_bar, {name: bar + multiple * more[name] for name, bar in bars.items()}


def adjoints(theirs, chain, x):
    """{quantity: Pair} of the gradients by the continuous adjoint, followed by the same solver."""
    z, _, pullback = through(chain, x, "training")
    x_bar, bars = pullback(z / len(x), np.full(len(x), 1 / len(x)), adjoint=True)
    return {"adjoint gradients": gradients(bars, answered("grad_adjoint/", theirs)),
            "adjoint gradient of x": pair(x_bar, theirs["gradin_adjoint/x"])}


def buffers_after(theirs, chain):
    """{quantity: Pair} of the statistics after the batch."""
    after = {one.prefix + name: value for one in chain if isinstance(one, MovingBatchNorm) for name, value in one.moved().items()}
    return {f"{name} after training": pair(value, theirs[f"buffer_after_train/{name}"]) for name, value in after.items()
            if f"buffer_after_train/{name}" in theirs}


def steps_taken(theirs, velocities):
    """{quantity: Pair} of the steps of the only velocity."""
    if len(velocities) != 1 or "out/accepted_steps" not in theirs:
        return {}
    solution = velocities[0].solution
    ours = {"accepted_steps": np.reshape(solution.accepted, (-1, 2)), "rejected_steps": np.reshape(solution.rejected, (-1, 2)),
            "nfe": np.reshape(solution.evaluations, 1)}
    return {name: pair(value, theirs[f"out/{name}"]) for name, value in ours.items() if theirs.has(f"out/{name}")}


def ways_back(theirs, chain):
    """{quantity: Pair} of points in/u on the way back."""
    if "out/reverse_u" not in theirs:
        return {}
    z, l = theirs["in/u"], np.zeros(len(theirs["in/u"]))
    for one in reversed(chain):
        z, l = one.back(z, l, "training")
    return {"reverse_u": pair(z, theirs["out/reverse_u"]), "reverse_u_delta_logp": pair(l[:, None], theirs["out/reverse_u_delta_logp"])}


def evaluated(theirs, chain, x):
    """{quantity: Pair} of the model in evaluation, by its steps or by one step: a file does not say which."""
    if "eval/out/z" not in theirs:
        return {}
    readings = [through(chain, x, how)[:2] for how in ("evaluation", "evaluation by one step")]
    z, l = min(readings, key=lambda reading: np.abs(reading[0] - theirs["eval/out/z"]).max())
    return {"evaluated z": pair(z, theirs["eval/out/z"]), "evaluated delta_logp": pair(l[:, None], theirs["eval/out/delta_logp"])}


def of_kind(kind):
    return lambda config, keys: config.get("system") == "ffjord" and str(config.get("kind")).startswith(kind)


KINDS = {"a model of FFJORD": (of_kind("CNF"), compared), "velocities of FFJORD": (of_kind("ODEnet"), layers_compared)}


def holds(config, keys):
    return config.get("system") == "ffjord"


def read(name):
    """({quantity: Difference}, keys that nothing reads)."""
    return read_as(KINDS, *numbers(name))
