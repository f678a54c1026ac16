"""Glow, compared with its authors' numbers and with a port's numbers.

The authors' arrays are images (N, H, W, C), kernels (I, J, C, M) and matrices that multiply rows; the port's arrays are
laid out like ours.
"""

from __future__ import annotations

import numpy as np

from refflow.maps.conditioners import BijectorLayer, Conv2d, Dense, ReLU, Sequential
from refflow.core import Chain, Flow, Inverse
from refflow.maps.densities import StandardNormal
from refflow.maps.coupling import Coupling, affine_family, masks
from refflow.maps.dequantisation import bits_per_dim, quantised
from refflow.maps.elementwise import ExpScale
from refflow.maps.linear import DenseLinear, Permutation, PLULinear, Pointwise
from refflow.models.glow import CONVENTIONS, SHIFT_FIRST, Builder, classifier, glow, labelled_vjp
from refflow.maps.normalization import GlowActNorm
from refflow.maps.shape import FactorOut, Reshape, Squeeze
from refflow.training import Adam, AdaMax, Unconstrained

from . import glow_ports
from .comparison import PRACTICE, ZERO, Pair, answered, gradients, kind_of, numbers, order_of, pair, read_as
from .glow_names import Entry, Table, walked

FILES = tuple(sorted((path.stem for path in PRACTICE.glob("glow_*.npz")),
                     key=lambda name: (not name.startswith("glow_tf"), name)))


def differences() -> dict:
    """{file: {quantity: Difference}}."""
    return {name: read(name)[0] for name in FILES}


# -- the names of the authors' variables ------------------------------------------------------------------------------

def image(x):
    """(N, H, W, C) as (N, C, H, W)."""
    return np.moveaxis(np.asarray(x), -1, -3)


def channels_last(x):
    return np.moveaxis(x, -3, -1)


class Names(Table):
    """The names of one configuration of the authors' code, for images of C channels."""

    def __init__(self, config, C):
        super().__init__()
        self.config = config
        L, K, path = config["n_levels"], config["depth"], ("bijector", "inner")
        for level in range(L):
            for step in range(K):
                self.step(f"model/{level}/{step}", (*path, "stages"), 1 + 3 * step)
            prior = (*path, "stages", str(1 + 3 * K), "inner", "net")
            if level < L - 1:
                self.zeros_layer(f"model/pool{level}/conv", prior)
                path = (*path, "stages", str(2 + 3 * K), "rest")
        if config["learntop"]:
            of_position = (*prior, "layers", "0") if config["ycond"] else prior
            self.zeros_layer("model/prior/p", of_position, zeros=C * 2 ** (L + 2))
        if config["ycond"]:
            layers = (*prior, "net", "layers")
            self.entries["model/prior/y_emb/W"] = Entry((*layers, "0", "W"), np.transpose, np.transpose)
            self.vector("model/prior/y_emb/b", (*layers, "0", "b"), (1, -1))
            self.vector("model/prior/y_emb/logs", (*layers, "1", "f", "s"), (1, -1))
        if classifies(config):
            layers = ("classifier", "layers")
            self.entries["model/classifier/W"] = Entry((*layers, "0", "W"), np.transpose, np.transpose)
            self.vector("model/classifier/b", (*layers, "0", "b"), (1, -1))
            self.vector("model/classifier/logs", (*layers, "1", "f", "s"), (1, -1))

    def vector(self, name, path, shape):
        self.entries[name] = Entry(path, lambda v: v.reshape(shape), np.ravel)

    def actnorm(self, name, path):
        self.vector(f"{name}/actnorm_center/b", (*path, "bias"), (1, 1, 1, -1))
        self.vector(f"{name}/actnorm_scale/logs", (*path, "s"), (1, 1, 1, -1))

    def kernel(self, name, path, zeros=0):
        """Kernels; the first `zeros` of their channels multiply zeros and have no counterpart: 0 here."""
        def theirs(W):
            W = np.transpose(W, (2, 3, 1, 0))
            return np.concatenate((np.zeros((*W.shape[:2], zeros, W.shape[3])), W), 2)

        self.entries[name] = Entry((*path, "W"), theirs, lambda W: np.transpose(W[:, :, zeros:], (3, 2, 0, 1)))

    def zeros_layer(self, name, path, zeros=0):
        self.kernel(f"{name}/W", (*path, "layers", "0"), zeros)
        self.vector(f"{name}/b", (*path, "layers", "0", "b"), (1, 1, 1, -1))
        self.vector(f"{name}/logs", (*path, "layers", "1", "f", "s"), (1, -1))

    def step(self, name, stages, first):
        self.actnorm(name, (*stages, str(first)))
        matrix, layers = (*stages, str(first + 1), "inner"), (*stages, str(first + 2), "net", "layers")
        if self.config["flow_permutation"] == 2:
            self.matrix(f"{name}/invconv", matrix)
        elif self.config["flow_permutation"] == 1:
            self.shuffle(f"{name}/shuffle", (*matrix, "order"))
        for i in (1, 2):
            self.kernel(f"{name}/f1/l_{i}/W", (*layers, str(3 * i - 3)))
            self.actnorm(f"{name}/f1/l_{i}", (*layers, str(3 * i - 2), "f"))
        self.kernel(f"{name}/f1/l_last/W", (*layers, "6"))
        self.vector(f"{name}/f1/l_last/b", (*layers, "6", "b"), (1, 1, 1, -1))
        self.vector(f"{name}/f1/l_last/logs", (*layers, "7", "f", "s"), (1, -1))

    def matrix(self, name, path):
        if not self.config.get("lu"):
            self.entries[f"{name}/W"] = Entry((*path, "W"), np.transpose, np.transpose)
            return
        path, sign = (*path, "inner"), f"{name}/sign_S"
        self.entries[f"{name}/L"] = Entry((*path, "lower"), np.array, lambda L: np.tril(L, -1))
        self.entries[f"{name}/log_S"] = Entry((*path, "scale"), lambda s: np.log(np.abs(s)),
                                              lambda log_s, sign: sign * np.exp(log_s), lambda s_bar, s: s_bar * s, (sign,))
        self.entries[f"{name}/U"] = Entry((*path, "upper"), np.array, lambda U: np.triu(U, 1))
        self.constants[f"{name}/P"] = Entry((*path, "order"), lambda order: np.eye(len(order))[order],
                                            order_of)
        self.constants[sign] = Entry((*path, "scale"), np.sign, None)

    def shuffle(self, name, path):
        self.constants[f"{name}/indices"] = Entry(path, np.array, lambda order: np.asarray(order, np.int64))
        self.constants[f"{name}/indices_inverse"] = Entry(path, np.argsort, None)


# -- the authors' model -----------------------------------------------------------------------------------------------

def classifies(config):
    """Is the class of an image a part of their loss?"""
    return config["ycond"] and config.get("weight_y", 0) > 0


class Model:
    """A flow and, if their loss has a second term, the classifier `net`, for images x of the classes y."""

    def __init__(self, config, flow, net, x, y):
        self.config, self.flow, self.net, self.x, self.y = config, flow, net, x, y

    def params(self):
        return self.flow.params() | ({} if self.net is None else {"classifier": self.net.params()})

    def bits_and_gradients(self):
        """((bits of x, bits of y) of each image, cotangents of `params()` of their loss)."""
        N, D = len(self.x), self.x[0].size
        b = np.full(N, -1 / (N * D * np.log(2)))
        if self.net is None:
            log_prob, pullback = self.flow.log_prob_vjp(self.x)
            return (bits(log_prob, self.config, D), np.zeros(N)), pullback(b)[1]
        (log_prob, bits_y), pullback = labelled_vjp(self.flow, self.net, self.x, self.y)
        _, bars, net_bars = pullback(b, np.full(N, self.config["weight_y"] / N))
        return (bits(log_prob, self.config, D), bits_y), bars | {"classifier": net_bars}

    def loss(self, bits_x, bits_y):
        return (bits_x + self.config.get("weight_y", 0) * bits_y).mean()

    def with_values(self, flow, net):
        return Model(self.config, flow, net, self.x, self.y)

    def after_step(self, params_bar):
        """The same after one step of their optimiser."""
        stepped = [None if value is None else after_step(value, bar, self.config)
                   for value, bar in ((self.flow, params_bar), (self.net, params_bar.get("classifier")))]
        return self.with_values(*stepped)


def model_of(config, C, theirs, x, y):
    """The model of their configuration with their variables, for images x of C channels and the classes y."""
    size = x.shape[-1]
    permutation = ("reverse", "shuffle", "lu" if config.get("lu") else "1x1")[config["flow_permutation"]]
    flow = glow(np.random.default_rng(0), (C, size, size), config["n_levels"], config["depth"], config["width"],
                coupling=("additive", "affine")[config["flow_coupling"]], permutation=permutation,
                learn_top=config["learntop"], classes=config["n_y"] if config["ycond"] else 0)
    net = classifier(C * 2 ** (config["n_levels"] + 1), config["n_y"]) if classifies(config) else None
    ours = Names(config, C).ours(theirs)
    net = net and net.replace(**ours.pop("classifier"))
    flow = flow.replace(**ours)
    return Model(config, flow.at(context=np.eye(config["n_y"])[y]) if config["ycond"] else flow, net, x, y)


def data(config, theirs):
    """x from their pixels and their noise."""
    n = 2 ** config["n_bits_x"]
    pixels = np.floor(theirs["in/x_int"] / 2 ** (8 - config["n_bits_x"]))
    return image(pixels / n - 0.5 + theirs["in/uniform"] / n)


def bits(log_prob, config, D):
    return bits_per_dim(log_prob, D, 2 ** config["n_bits_x"], low=-0.5, high=0.5)


def pixels(x, config):
    """The difference of decoded images; where latents are too large to decode, the authors' casts turn NaN into 0."""
    x = np.clip(np.nan_to_num(x, nan=-1), -1, 1)
    return channels_last(quantised(x, bins=2 ** config["n_bits_x"], low=-0.5, high=0.5))


def latents(flow, theirs):
    """Our flat latents from their list of noises, each (H, W, C), end to end."""
    shapes = flow.latent_shapes()
    pieces = np.split(theirs, np.cumsum([np.prod(shape) for shape in shapes])[:-1], -1)
    return flow.pack([image(piece.reshape(-1, *shape[1:], shape[0])) for piece, shape in zip(pieces, shapes)])


def their_latents(flow, z):
    return np.concatenate([channels_last(part).reshape(len(z), -1) for part in flow.unpack(z)], -1)


def of_model(config, theirs):
    C, x = theirs["in/x_int"].shape[-1], data(config, theirs)
    names = Names(config, C)
    model = model_of(config, C, variables(names, theirs), x, theirs["in/y"])
    flow, ((bits_x, bits_y), params_bar) = model.flow, model.bits_and_gradients()
    loss = model.loss(bits_x, bits_y)
    z, decode, stepped = flow.bijector.inverse(x), flow.bijector.forward, names.theirs(model.after_step(params_bar))
    return {
        "bits": pair(loss, theirs["out/loss"]),
        "bits among the statistics": pair([loss, bits_x.mean(), bits_y.mean(), wrong_classes(model)],
                                                theirs["out/stats_loss_bitsx_bitsy_prederr"]),
        **initial(config, C, theirs, x),
        "gradients": gradients(without_gradient(names.gradients(params_bar, model.params()), theirs), answered("grad/", theirs)),
        "latents": pair(their_latents(flow, z), theirs["out/encode_eps_flat"]),
        "decoded pixels": pair(pixels(decode(latents(flow, theirs["out/encode_eps_flat"])), config),
                                     theirs["out/decode_uint8"]),
        "sampled pixels": pair(pixels(decode(latents(flow, theirs["sample/eps_flat"])), config),
                                     theirs["sample/x_uint8"]),
        "round trip": pair(decode(z), x),
        "optimiser step": common(stepped, live(names, variables(names, theirs, "after_step/"))),
    }


def common(ours, theirs):
    """A quantity of the arrays that theirs has."""
    return Pair({name: ours[name] for name in theirs if name in ours}, theirs)


def variables(table, theirs, prefix="param/"):
    """All their variables, those that are not trained among the parameters or not.  ValueError if one is not there."""
    known = table.entries | table.constants
    found = constants(table, theirs) | answered(prefix, theirs, known)
    absent = sorted(name for name, entry in known.items() if entry.ours is not None and name not in found)
    if absent:
        raise ValueError(f"it lacks {prefix}{absent[0]}" + (f" and {len(absent) - 1} more" if absent[1:] else ""))
    return found


def constants(table, theirs):
    """Their variables that are not trained."""
    return answered("param/", theirs, table.constants) | answered("buffer/", theirs, table.constants)


def without_gradient(bars, theirs):
    """Our gradients in the variables that have one in their code; `none_grad` names the others, and ours is 0 there."""
    absent = {str(name).removesuffix(":0") for name in np.ravel(theirs["none_grad"])} if "none_grad" in theirs else set()
    return {name: bar for name, bar in bars.items() if name not in absent or bar.any()}


def wrong_classes(model):
    """The share of images whose class the classifier does not predict; 1 without a classifier, as in their code."""
    if model.net is None:
        return 1.0
    *_, (h, _, _, _) = walked(model.flow.bijector.inner, model.x)
    return np.mean(model.net.forward(h.mean((-2, -1))).argmax(-1) != model.y)


def initial(config, C, theirs, x):
    """Data-dependent initialisation, from their drawn weights: scales, and centres in units of the channel's deviation.

    A second actnorm finds channels whose mean is 0 up to rounding, so that the ratio of two centres is meaningless.
    """
    names = Names(config, C)
    wanted = variables(names, theirs, "init/")
    drawn = {name: np.zeros_like(v) if name.endswith(("/b", "/logs")) else v for name, v in wanted.items()}
    model = model_of(config, C, drawn, x, theirs["in/y"])
    model = model.with_values(model.flow.initialised(x, np.random.default_rng(0)), model.net)
    found = names.theirs(model)
    scales = {name: np.exp(3 * wanted[name]) for name in wanted if name.endswith("actnorm_scale/logs")}
    centres = {name: name.replace("center/b", "scale/logs") for name in wanted if name.endswith("actnorm_center/b")}
    others = {name: v for name, v in live(names, wanted).items() if name not in scales | centres}
    inner, wanted_centres = ({name: v[name] * scales[of] for name, of in centres.items()} for v in (found, wanted))
    zeros = {name: (np.abs(inner[name]) <= ZERO) & (np.abs(v) <= ZERO) for name, v in wanted_centres.items()}
    return {"initial scales": Pair({name: np.exp(3 * found[name]) for name in scales}, scales),
            "initial centres": Pair(inner, wanted_centres, zeros, 1.0, "the channel's deviation"),
            "other initial values": common(found, others),
            "bits after initialisation": pair(model.loss(*model.bits_and_gradients()[0]), theirs["init_out/loss"])}


def live(names, theirs):
    """Their parameters that have a counterpart: 0 in place of parameters that multiply zeros."""
    return {name: entry.theirs(names.our(name, theirs)) for name, entry in names.entries.items()}


def after_step(value, params_bar, config):
    """A value after one step of their optimiser."""
    given, factor = config["adam"], config.get("weight_decay", 1.0)
    beta2 = float(str(given["beta2"]).rpartition("=")[2])
    if config["optimizer"] == "adamax":
        optimiser = AdaMax(given["lr"], given["beta1"], beta2, given["eps"], glow=True, weight_factor=factor)
    else:
        optimiser = Adam(given["lr"], given["beta1"], beta2, given["eps"], uncorrected_eps=True, weight_factor=factor)
    space = Unconstrained(value)
    vector, _ = optimiser.step(space.vector, space.gradient(space.vector, params_bar), optimiser.start(space.vector))
    return space.value_at(vector)


# -- the port's layers ------------------------------------------------------------------------------------------------

PORT = CONVENTIONS["chaiyujin"]


def actnorm(param, prefix=""):
    return GlowActNorm(param[f"{prefix}logs"].ravel(), param[f"{prefix}bias"].ravel(), PORT.factor, rank=3)


def convolution(param, prefix=""):
    layer = Conv2d(param[f"{prefix}weight"], padding=PORT.padding)
    return Sequential((layer, BijectorLayer(actnorm(param, f"{prefix}actnorm."))))


def with_output_scale(layer, param, prefix="", rank=3):
    """layer exp(3 logs)."""
    return Sequential((layer, BijectorLayer(GlowActNorm(param[f"{prefix}logs"].ravel(), rank=rank))))


def zeros_convolution(param, prefix=""):
    layer = Conv2d(param[f"{prefix}weight"], param[f"{prefix}bias"], PORT.last_padding)
    return with_output_scale(layer, param, prefix)


def factors(param, buffer, prefix=""):
    """P L (U + S)."""
    order = order_of(buffer[f"{prefix}p"])
    scale = buffer[f"{prefix}sign_s"] * np.exp(param[f"{prefix}log_s"])
    return PLULinear(order, np.tril(param[f"{prefix}l"], -1), np.triu(param[f"{prefix}u"], 1), scale, None)


def factors_bar(bar, linear, prefix=""):
    return {f"{prefix}l": bar["lower"], f"{prefix}u": bar["upper"], f"{prefix}log_s": bar["scale"] * linear.scale}


def actnorm_bar(bar, prefix="", shape=(1, -1, 1, 1)):
    return {f"{prefix}bias": bar["bias"].reshape(shape), f"{prefix}logs": bar["s"].reshape(shape)}


def convolution_bar(bar, prefix=""):
    layers = bar["layers"]
    return {f"{prefix}weight": layers["0"]["W"], **actnorm_bar(layers["1"]["f"], f"{prefix}actnorm.")}


def output_scale_bar(bar, prefix="", logs_shape=(-1, 1, 1)):
    layers = bar["layers"]
    return {f"{prefix}weight": layers["0"]["W"], f"{prefix}bias": layers["0"]["b"],
            f"{prefix}logs": layers["1"]["f"]["s"].reshape(logs_shape)}


def of_map(f, as_theirs, name, theirs):
    """A bijector's value, log-det and gradients, and its inverse at their results."""
    given = theirs.below(f"{name}/")
    (z, log_det), pullback = f.vjp(given["in/x"])
    x_bar, bar = pullback(given["in/cotangent"], given["in/ct_logdet"])
    x, inverse_log_det = f.inverse_and_log_det(z)
    return {f"{name}: value": pair(z, given["out/z"]), f"{name}: log-det": pair(log_det, given["out/logdet"]),
            f"{name}: gradient of data": pair(x_bar, given["gradin/x"]),
            f"{name}: gradients": gradients(as_theirs(bar), answered("grad/", given)),
            f"{name}: round trip": Pair({"x": x, "log-det": -inverse_log_det},
                                        {"x": given["in/x"], "log-det": given["out/logdet"]})}


def of_net(net, as_theirs, name, theirs):
    given = theirs.below(f"{name}/")
    h, pullback = net.vjp(given["in/x"])
    a_bar, bar = pullback(given["in/cotangent"])
    return {f"{name}: value": pair(h, given["out/y"]),
            f"{name}: gradient of data": pair(a_bar, given["gradin/x"]),
            f"{name}: gradients": gradients(as_theirs(bar), answered("grad/", given))}


def of_layers(config, theirs):
    param = {name: theirs.below(f"{name}/param/") for name in {key.split("/")[0] for key in theirs}}
    plain = DenseLinear(param["invconv_plain"]["weight"], None)
    lu = factors(param["invconv_lu"], theirs.below("invconv_lu/buffer/"))
    with_bias = Conv2d(param["conv2d_bias"]["weight"], param["conv2d_bias"]["bias"], PORT.padding)
    dense = Dense(param["linear_zeros"]["weight"], param["linear_zeros"]["bias"])
    linear = with_output_scale(dense, param["linear_zeros"], rank=1)
    return {
        **of_map(actnorm(param["actnorm"]), actnorm_bar, "actnorm", theirs),
        **of_map(Pointwise(plain), lambda bar: {"weight": bar["inner"]["W"]}, "invconv_plain", theirs),
        **of_map(Pointwise(lu), lambda bar: factors_bar(bar["inner"], lu), "invconv_lu", theirs),
        "weights": Pair({"plain": plain.W, "lu": lu.jacobian(np.zeros(len(lu.scale)))},
                        {name: theirs[f"invconv_{name}/out/weight"] for name in ("plain", "lu")}),
        **of_initialisation(theirs),
        **of_net(convolution(param["conv2d_actnorm"]), convolution_bar, "conv2d_actnorm", theirs),
        **of_net(convolution(param["conv2d_1x1"]), convolution_bar, "conv2d_1x1", theirs),
        **of_net(with_bias, lambda bar: {"weight": bar["W"], "bias": bar["b"]}, "conv2d_bias", theirs),
        **of_net(zeros_convolution(param["conv2d_zeros"]), output_scale_bar, "conv2d_zeros", theirs),
        **of_net(linear, lambda bar: output_scale_bar(bar, logs_shape=-1), "linear_zeros", theirs),
        **of_split(param["split2d"], theirs),
    }


def of_initialisation(theirs):
    given = theirs.below("actnorm_ddi/")
    C = given["x"].shape[1]
    f = GlowActNorm(np.zeros(C), np.zeros(C), PORT.factor, rank=3).initialised(given["x"], np.random.default_rng(0))
    z, log_det = f.forward_and_log_det(given["x"])
    found = {**actnorm_bar(f.params()), "z": z, "logdet": log_det}
    return {"actnorm_ddi": Pair(found, {key: given[key] for key in found})}


def of_split(param, theirs):
    """The kept half, and log N of the other half given it."""
    given = theirs.below("split2d/")
    C, H, W = given["in/x"].shape[1:]
    half = C // 2 * H * W
    prior = Coupling(masks.channels(masks.halves(C), 3), zeros_convolution(param, "conv."),
                     affine_family(ExpScale(), SHIFT_FIRST), PORT.layout)
    f = Chain((Inverse(prior), FactorOut(masks.halves(C), Reshape((C // 2, H, W), (half,)))))
    (z, log_det), pullback = f.vjp(given["in/x"])
    eps, kept = np.split(z, [half], -1)
    log_prob, base_pullback = StandardNormal(half).log_prob_vjp(eps)
    eps_bar, _ = base_pullback(given["in/ct_logp"])
    kept_bar = given["in/cotangent"].reshape(kept.shape)
    x_bar, bar = pullback(np.concatenate((eps_bar, kept_bar), -1), given["in/ct_logp"])
    bars = output_scale_bar(bar["stages"]["0"]["inner"]["net"], "conv.")
    return {"split2d: value": pair(kept.reshape(given["out/z1"].shape), given["out/z1"]),
            "split2d: log p": pair(log_prob + log_det, given["out/logp"]),
            "split2d: gradient of data": pair(x_bar, given["gradin/x"]),
            "split2d: gradients": gradients(bars, answered("grad/", given))}


def of_squeeze(config, theirs):
    f, h = Squeeze(), theirs["split/h"]
    C = h.shape[1]
    net = Conv2d(np.zeros((C, C // 2, 1, 1)))
    cross = Coupling(masks.channels(masks.halves(C), 3), net, affine_family(ExpScale(), SHIFT_FIRST), "interleaved")
    found = [*cross.parts(h), *cross.pieces(h)]
    return {"squeezed": pair(f.forward(theirs["in/x"]), theirs["out/squeezed"]),
            "unsqueezed": pair(f.inverse(theirs["out/squeezed"]), theirs["out/unsqueezed"]),
            **{name: pair(part, theirs[f"split/{name}"])
               for name, part in zip(("split_1", "split_2", "cross_1", "cross_2"), found)}}


# -- the port's step --------------------------------------------------------------------------------------------------

def permutation(param, buffer, C):
    """(the linear map of a step, the port's gradients from ours), depending on the contents of the file."""
    if "invconv.weight" in param:
        return DenseLinear(param["invconv.weight"], None), lambda bar: {"invconv.weight": bar["W"]}
    if "invconv.l" in param:
        linear = factors(param, buffer, "invconv.")
        return linear, lambda bar: factors_bar(bar, linear, "invconv.")
    name = next((name for name in buffer if name.endswith("indices")), None)
    order = np.arange(C)[::-1] if name is None else np.asarray(buffer[name], np.int64)
    if f"{name}_inverse" in buffer and not np.array_equal(order[buffer[f"{name}_inverse"].astype(int)], np.arange(C)):
        raise ValueError(f"buffer/{name}_inverse does not undo buffer/{name}")
    return Permutation(order), lambda bar: {}


def of_step(config, theirs):
    C, x = config["in_channels"], theirs["in/x"]
    param, D = theirs.below("param/"), x[0].size
    kind = "affine" if len(param["f.4.weight"]) == C else "additive"
    build = Builder(np.random.default_rng(0), config["hidden"], kind, "lu", PORT, np.float64)
    linear, linear_bar = permutation(param, theirs.below("buffer/"), C)
    first, second, last = convolution(param, "f.0."), convolution(param, "f.2."), zeros_convolution(param, "f.4.")
    net = Sequential((*first.layers, ReLU(), *second.layers, ReLU(), *last.layers))
    _, _, coupling = build.step(C)
    step = Chain((actnorm(param, "actnorm."), Pointwise(linear), coupling.replace(net=net)))
    flow = Flow(Inverse(Chain((step, Reshape(x.shape[1:], (D,))))), StandardNormal(D))
    log_prob, pullback = flow.log_prob_vjp(x)
    x_bar, bar = pullback(np.full(len(x), -1 / len(x)))
    (z, log_det), stages = step.forward_and_log_det(x), bar["bijector"]["inner"]["stages"]["0"]["stages"]
    layers = stages["2"]["net"]["layers"]
    bars = {**actnorm_bar(stages["0"], "actnorm."), **linear_bar(stages["1"]["inner"])}
    for i, of_layer in ((0, convolution_bar), (2, convolution_bar), (4, output_scale_bar)):
        first = 3 * i // 2
        bars |= of_layer({"layers": {"0": layers[str(first)], "1": layers[str(first + 1)]}}, f"f.{i}.")
    back, back_log_det = step.inverse_and_log_det(theirs["out/z"])
    return {"value": pair(z, theirs["out/z"]), "log-det": pair(log_det, theirs["out/logdet"]),
            "loss": pair(-log_prob.mean(), theirs["out/nll"]),
            "gradient of data": pair(x_bar, theirs["gradin/x"]),
            "gradients": gradients(bars, answered("grad/", theirs)),
            "inverse": pair(back, theirs["out/reverse_of_z"]),
            "log-det of the inverse": pair(back_log_det, theirs["out/reverse_logdet"])}


# -- files ------------------------------------------------------------------------------------------------------------

def names_begin(start, inside=""):
    return lambda config, keys: any(key.startswith(start) and inside in key for key in keys)


KINDS = {"a whole model of the authors'": (names_begin("param/model/", "/f1/l_1/"), of_model),
         "a port's layers": (lambda config, keys: {"actnorm/in/x", "split2d/in/x"} <= set(keys), of_layers),
         "a port's squeeze": (lambda config, keys: {"in/x", "out/squeezed", "split/h"} <= set(keys), of_squeeze),
         "a port's step": (lambda config, keys: {"param/actnorm.bias", "param/f.0.weight"} <= set(keys), of_step),
         "a whole model of chaiyujin's port": (names_begin("param/flow.layers."), glow_ports.chaiyujin),
         "a whole model of rosinality's port": (names_begin("param/blocks."), glow_ports.rosinality)}


def holds(config, keys):
    return kind_of(KINDS, config, keys) is not None


def read(name):
    """({quantity: Difference}, [Unread])."""
    return read_as(KINDS, *numbers(name))
