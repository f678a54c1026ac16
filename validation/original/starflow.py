"""STARFlow, compared with its authors' numbers: blocks, whole models and the learned denoiser.

Their tokens are rows, (B, [frames,] H, W, F), ours columns of (F, T), flattened; their texts are (B, S, E), ours (B, E, S).
Their log-dets are kept for each token and feature, in the order of the block's sequence.  Their root mean squares multiply by
`1 + weight`, ours by the gain.  What a block has follows from its arrays; its activations, clip and positions are in the
configuration.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import numpy as np

from refflow.core import Chain, Flow, Inverse, tree
from refflow.maps.conditioners import PrefixedNetwork, at_temperature
from refflow.maps.densities import StandardNormal
from refflow.maps.shape import Reshape, Squeeze
from refflow.models.starflow import (Jacobi, by_jacobi, denoised, denoised_by_network, denoiser_target, frame_by_frame,
                                     frames_seen, given_text, guided, image_as_video, in_turn, known_tokens, own_map, positions,
                                     readers, regularised_loss_vjp, sampled, scale_and_shift, slopes_vjp, starflow_block,
                                     starflow_denoiser, token_log_dets, video_as_image)

from .comparison import (PRACTICE, ZERO, Lacking, Pair, answered, cotangents, gradient_in, gradients, kind_of,
                         name_of_cotangent, nearest, numbers, of_system, pair, read_as, runs_of, under)
from .tarflow import compared, ours, std_of, theirs_of

FILES = tuple(sorted(path.stem for path in PRACTICE.glob("starflow_*.npz")))


# -- their arrays ----------------------------------------------------------------------------------------------------

def said(config, name, default):
    """What the configuration says of a switch, inside "switches" or beside it."""
    held = config.get("switches", {}).get(name, config.get(name))
    return default if held is None else held


class Net:
    """The network of arrays `params` of theirs: what it is made of, and where its parameters are in ours.

    `places`: of the network alone, [(their name, our path, the slice of our rows that are theirs, how theirs and ours differ)].
    """

    def __init__(self, config, params):
        def shape(name):
            return params[name].shape

        self.params, self.places, self.fixed = params, [], {}
        self.channels, self.features = shape("proj_in.weight")
        self.layers = len({match[1] for match in map(re.compile(r"attn_blocks\.(\d+)\.").match, params) if match})
        if not self.layers:
            raise Lacking("there is no layer 'attn_blocks.0' in it")
        d, first = config["head_dim"], "attn_blocks.0"
        rows, self.gated = len(params[f"{first}.attention.qkv.weight"]), f"{first}.mlp.gate_proj.weight" in params
        heads = shape(f"{first}.attention.proj.weight")[1] // d
        E, S = said(config, "txt_dim", 0), said(config, "txt_size", 0)
        inside = len(params[f"{first}.mlp.{'gate_proj' if self.gated else 'main.0'}.weight"])
        self.text, self.start, self.final_norm = (E, S) if E else None, "sos_embed" in params, "final_norm.weight" in params
        self.norm = ("layer" if f"{first}.attention.norm.bias" in params else
                     "root mean square" if f"{first}.attention.norm.weight" in params else "none")
        self.parts = {"query_key_norm": f"{first}.attention.query_norm.weight" in params,
                      "norm_after": f"{first}.attention.post_norm.weight" in params,
                      "split_pairs": bool(said(config, "hf_style_rope", False)),
                      "key_heads": (rows // d - heads) // 2, "norm": self.norm}
        self.given = dict(channels=self.channels, text=self.text, third=bool(S or said(config, "frames", 0)),
                          length=said(config, "pt_seq_len", None), line=bool(said(config, "rope_1d", False)), head_size=d,
                          heads=heads, expansion=(inside + 0.5) / self.channels, final_norm=self.final_norm, gated=self.gated,
                          **self.parts)
        self.grouped = self.parts["key_heads"] != heads

    def dense(self, name, *path, rows=slice(None), into=None):
        into = len(self.params[f"{name}.weight"]) if into is None else into
        self.places.append((f"{name}.weight", (*path, "W"), rows, 0))
        if f"{name}.bias" in self.params:
            self.places.append((f"{name}.bias", (*path, "b"), rows, 0))
        else:
            self.fixed[(*path, "b")] = np.zeros(into)

    def normed(self, name, *path):
        """[the places of a normalisation of theirs, if there is one]: whether there is."""
        if f"{name}.weight" not in self.params:
            return False
        by_root_mean_square = f"{name}.bias" not in self.params
        self.places.append((f"{name}.weight", (*path, "gain"), slice(None), int(by_root_mean_square)))
        if not by_root_mean_square:
            self.places.append((f"{name}.bias", (*path, "bias"), slice(None), 0))
        return True

    def placed(self, first, last):
        """Find everything, between the paths of the first layer and of the last one: `trunk` is the layer after `first`."""
        at, trunk = first
        self.dense("proj_in", *at, "layer")
        if self.text:
            reads = (*trunk, "net", "layer")
            trunk = (*trunk, "inner")
            if "proj_txt.weight" in self.params:
                self.dense("proj_txt", *reads)
            else:
                self.fixed |= {(*reads, "W"): np.eye(self.channels), (*reads, "b"): np.zeros(self.channels)}
        for i in range(self.layers):
            self.layer(f"attn_blocks.{i}", *((*trunk, "layers", "0", "layers", str(2 * i + k), "inner") for k in range(2)))
        self.normed("final_norm", *trunk, "layers", "1", "layer")
        self.dense("proj_out", *last, "layer")
        return self

    def layer(self, name, mixed, own):
        """A layer of attention, and one of dense layers."""
        attention, mlp, k = f"{name}.attention", f"{name}.mlp", 0

        def here(path, *inner):
            return (*path, str(k), *inner)

        mixed, own = (*mixed, "layers"), (*own, "layer", "layers")
        k += self.normed(f"{attention}.norm", *here(mixed, "layer"))
        self.dense(f"{attention}.qkv", *here(mixed, "layer"))
        k += 1
        if self.parts["query_key_norm"]:
            for theirs, part in (("query", "queries"), ("key", "keys")):
                self.normed(f"{attention}.{theirs}_norm", *here(mixed, "layer", part))
            k += 1
        k += self.parts["split_pairs"] + 1 + self.grouped + 1           # the rearrangement, the rotation, the groups, attention
        self.dense(f"{attention}.proj", *here(mixed, "layer"))
        k += 1
        self.normed(f"{attention}.post_norm", *here(mixed, "layer"))
        k = 0
        k += self.normed(f"{mlp}.norm", *here(own))
        if self.gated:
            n = len(self.params[f"{mlp}.gate_proj.weight"])
            for part, rows in (("gate_proj", slice(0, n)), ("up_proj", slice(n, 2 * n))):
                self.dense(f"{mlp}.{part}", *here(own), rows=rows, into=2 * n)
        else:
            self.dense(f"{mlp}.main.0", *here(own))
        k += 2
        self.dense(f"{mlp}.{'down_proj' if self.gated else 'main.2'}", *here(own))
        k += 1
        self.normed(f"{mlp}.post_norm", *here(own))

    def filled(self, value, *above):
        """A value of ours with their arrays, whose network is at the path `above`."""
        held = {(*above, *path): array for path, array in self.fixed.items()}
        for name, path, rows, offset in self.places:
            path = (*above, *path)
            held[path] = np.array(held.get(path, tree.at_path(value.params(), path)))
            held[path][rows] = self.params[name].reshape(held[path][rows].shape) + offset
        return value.replace(**tree.nest(held))

    def names(self, prefix=""):
        return [prefix + name for name, *_ in self.places]

    def gradients(self, bars, names, prefix=""):
        """{their name: gradient}, from the cotangents of the network."""
        return {prefix + name: tree.at_path(bars, path)[rows].reshape(self.params[name].shape)
                for name, path, rows, _ in self.places if prefix + name in names}


class Block(Net):
    """A block of theirs: our stages, and where their parameters are in the network of the map `f`, the stage number `at`."""

    def __init__(self, config, params, grid, permutation):
        super().__init__(config, params)
        clip, base, k = said(config, "soft_clip", 0), ("net", "net", "layers"), int(self.start)
        if self.start:
            self.places.append(("sos_embed", (*base, "0", "start"), slice(None), 0))
        last = (*base, str(k + 2))
        self.placed(((*base, str(k)), (*base, str(k + 1))), (*last, "net", "layers", "0", "net") if clip else last)
        reverse = permutation != "identity"
        stages = starflow_block(np.random.default_rng(0), self.features, grid, layers=self.layers, reverse=reverse,
                                within_frames=reverse and permutation != "flip", start=self.start, clip=float(clip),
                                scale="softplus" if said(config, "use_softplus", False) else "exp", **self.given)
        self.at = int(reverse)
        stages[self.at] = self.filled(stages[self.at], "net")
        self.stages, self.f = stages, stages[self.at]


# -- tokens and texts ------------------------------------------------------------------------------------------------

def vectors(x):
    """Tokens (B, [frames,] H, W, F) as vectors of ours."""
    return ours(x.reshape(len(x), -1, x.shape[-1]))


def tokens(v, shape):
    """The reverse, for tokens of the shape ([frames,] H, W, F)."""
    return theirs_of(v, (math.prod(shape[:-1]), shape[-1])).reshape(len(v), *shape)


def rows(v, shape):
    """(B, T, F) of vectors of ours, for tokens of that shape."""
    return theirs_of(v, (math.prod(shape[:-1]), shape[-1]))


def text_of(theirs, *keys):
    """Their text under the first of these keys, as ours, or None."""
    return next((np.swapaxes(theirs[key], -1, -2) for key in keys if key in theirs), None)


def given(value, text):
    """A map, network or flow of ours at a text, if it reads one and there is one."""
    return given_text(value, text) if text is not None and readers(value) else value


def texts_of_samples(theirs):
    """[(keys, text)] that samples may be given: a text of their own, as in/y_rev, or the data's; or none."""
    texts = (key for key in theirs if re.fullmatch(r"in/(y|text|txt)(_?\w+)?", key) and theirs.get(key).ndim == 3)
    keys = sorted((key for key in texts if not re.search("cfg|null|uncond|guid", key)), key=lambda key: (key in OF_DATA, key))
    return [([key], np.swapaxes(theirs.get(key), -1, -2)) for key in keys] or [([], None)]


OF_DATA = ("in/y", "in/text", "in/txt")


def doubled(theirs, i, B):
    """(keys, text, null text) of the pair of run i, stacked or apart, or of the file's own text if it has no pair."""
    for stem in ("y", "text", "txt"):
        apart = [next((key for key in theirs if re.fullmatch(rf"in/{stem}_?({word})(_?{i})?", key)), None)
                 for word in ("cond|text", "null|uncond|empty|free")]
        apart = [apart[0] or next((key for key in OF_DATA if key in theirs), None), apart[1]]
        stacked = next((key for key in (f"in/{stem}_cfg{i}", f"in/{stem}_cfg_{i}", f"in/{stem}_cfg", f"in/{stem}_guided{i}",
                                        f"in/{stem}_guided", f"in/{stem}") if key in theirs), None)
        if all(apart):
            return apart, *(np.swapaxes(theirs.get(key), -1, -2) for key in apart)
        if stacked:
            text = np.swapaxes(theirs.get(stacked), -1, -2)
            return [stacked], text[:B], text[-B:]
    return [], None, None


# -- runs -------------------------------------------------------------------------------------------------------------

GUIDANCE = {"guidance", "attn_temp", "annealed_guidance", "guide_what", "guide_top"}
JACOBI = {"jacobi", "jacobi_block_size", "block_size", "jacobi_max_iter", "max_iter", "jacobi_th", "th", "threshold"}
BESIDE = {"name", "note", "notes", "label"}


class Run(NamedTuple):
    """How samples were made: the number of the run, its arguments, and whether by Jacobi's iteration."""

    i: int
    how: dict
    jacobi: bool

    weight = property(lambda self: self.how.get("guidance", 0) or 0)
    temperature = property(lambda self: self.how.get("attn_temp", 1.0))


def runs(config, theirs):
    """{name of an output: its Run, or why it cannot be read}.

    "guided", "guidance" or "cfg_runs" of the configuration lists runs with guidance, "jacobi" or "jacobi_runs" runs by Jacobi's
    iteration.  Run i is of the output that it names, or of reverse_guided<i>, reverse_cfg<i>, jacobi<i>, ...; the number may be
    left out of the first.
    """
    found = {}
    for word, known in (("guided|guidance|cfg", GUIDANCE), ("jacobi", GUIDANCE | JACOBI)):
        for i, (key, how) in enumerate(runs_of(config | config.get("switches", {}), word)):
            strange = sorted(how.keys() - known - BESIDE)
            run = f"its run says {strange[0]!r}, which nothing here reads" if strange else Run(i, how, word == "jacobi")
            ending = rf"_?({key}|{i})" if i else rf"(_?({key}|{i}))?"
            named = re.compile(rf"((reverse|inverse|sample|samples)_)?(u_)?(context_)?({word})(_u)?{ending}(_context)?")
            found |= {name: run for name in (one.removeprefix("out/") for one in theirs)
                      if name in (key, how.get("name")) or f"reverse_{key}" == name or named.fullmatch(name)}
    return found


SAMPLES = re.compile(r"out/(?:reverse|inverse|sample|samples|guided|cfg|jacobi|decode|decoded)(?:_|\d|$)")


def names_of_samples(theirs):
    return sorted(key.removeprefix("out/") for key in theirs if SAMPLES.match(key) and "_seq" not in key)


def put_samples(made, config, theirs, plain, by_run):
    """Add {name: Pair} of samples: `plain(text)` of the plain ones, and `by_run(run, text, null, known)` of a run, as theirs.

    `known`: the key of the known frames, or None.
    """
    held = runs(config, theirs)
    of_context = next((key for key in theirs if re.match("in/(context|known|first)_?(frame|video|image)?", key)), None)
    for name in names_of_samples(theirs):
        run, key = held.get(name), f"out/{name}"
        known = of_context if "context" in name or "known" in name else None
        if isinstance(run, str):
            theirs.leave([key], run)
        elif run is None and re.search("guided|cfg|jacobi", name) and not (known and "jacobi" not in name):
            theirs.leave([key], "its configuration does not say this run")
        elif known is None and "context" in name:
            theirs.leave([key], "the file has no known frames, in/context_frame")
        else:
            if "cfg" in name:
                run = run or next((one for one in held.values() if isinstance(one, Run) and not one.jacobi), None)
            readings = by_run(run, known) if run or known else (([*keys], plain(text)) for keys, text in texts_of_samples(theirs))
            keys, value = nearest(readings, theirs[key])
            theirs.answer("", keys)
            made[name] = sampled_pair(name, value, theirs[key])


# -- a block ---------------------------------------------------------------------------------------------------------

def block(config, theirs) -> dict:
    """{quantity: Pair} of a block."""
    x, (wz, wl) = theirs["in/x"], cotangents(theirs)
    own, shape = Block(config, answered("param/", theirs), x.shape[1:-1], config["permutation"]), x.shape[1:]
    theirs.only("param/", own.names())
    grad, y = answered("grad/", theirs, own.names()), text_of(theirs, *OF_DATA)
    f, turned = given(own.f, y), Chain(own.stages[:own.at] or [own.stages[0]]) if own.at else None

    def turn(v):
        return turned.forward(v) if turned else v

    event = turn(vectors(x))
    (image, log_slopes), pullback = slopes_vjp(f, event)
    values, made = {"z": tokens(turn(image), shape), "logdet": rows(log_slopes, shape)}, {}
    if wz is not None:
        event_bar, bars = pullback(turn(vectors(wz)), ours(wl))
        values["loss"] = (values["z"] * wz).sum() + (values["logdet"] * wl).sum()
        made["gradients of parameters"] = gradients(own.gradients(bars["net"], grad), grad)
        made |= gradient_in(theirs, "x", tokens(turn(event_bar), shape))
        if own.text:
            made |= gradient_in(theirs, "y", np.swapaxes(context_bar(bars), -1, -2))
        elif "gradin/y" in theirs:
            raise Lacking("there is a gradient of a text, and its configuration does not say 'txt_dim', the width of the text")
    made = compared(values, theirs) | made
    if "out/y" in theirs:
        made["y"] = pair(np.swapaxes(states_of_text(f, event), -1, -2), theirs["out/y"])
    if "out/freqs_cis" in theirs:
        made["freqs_cis"] = pair(angles(own, x.shape[1:-1], theirs["out/freqs_cis"]), theirs["out/freqs_cis"])
    samples_of_block(made, config, theirs, own, turn, shape)
    return made


def sampled_pair(name, value, theirs):
    """A quantity of samples.  A token that stays has the scale 1; with guidance, theirs is 1 up to rounding."""
    stays = {"": (value == 0) & (np.abs(theirs) <= ZERO)} if name.startswith("forward_guided_logdet") else {}
    return Pair({"": value}, {"": theirs}, stays, 1.0, "the scale, 1")


def context_bar(bars):
    """The cotangent of a text among a block's cotangents."""
    return bars["net"]["context"]


def states_of_text(f, event):
    """What the transformer makes of the text, (B, C, S)."""
    layers = f.net.net.net.layers
    a = event.reshape(*event.shape[:-1], *f.net.net.shape)
    for layer in layers:
        if isinstance(layer, PrefixedNetwork):
            return layer.inner.forward(layer.joined(layer.net.forward(layer.context), a))[..., :layer.positions]
        a = layer.forward(a)
    raise Lacking("there is a text, but the block reads none")


def angles(own, grid, theirs):
    """Their table of angles, (S + T, head_dim): each angle stands twice."""
    held = own.given
    text = len(theirs) - math.prod(grid) if held["line"] else own.text[1] if own.text else 0
    return np.repeat(positions(grid, held["head_size"], held["length"], text, held["third"], held["line"]).T, 2, -1)


def samples_of_block(made, config, theirs, own, turn, shape):
    """Add {name: Pair} of the samples of a block, and of its images of data with guidance."""
    key = next((key for key in ("in/u", "in/z", "in/noise") if key in theirs), None)
    if key is None:
        theirs.leave([f"out/{name}" for name in names_of_samples(theirs)], "the file has no latents of samples, in/u")
    else:
        u, before = turn(vectors(theirs.get(key))), len(made)
        put_samples(made, config, theirs, lambda text: tokens(turn(given(own.f, text).inverse(u)), shape),
                    lambda run, known: of_run_in_block(theirs, own, turn, u, shape, run))
        theirs.answer("", [key] if len(made) > before else [])
    for i, run in {run.i: run for run in runs(config, theirs).values() if isinstance(run, Run) and not run.jacobi}.items():
        names = [f"forward_guided_{part}{i}" for part in ("z", "logdet")]
        if f"out/{names[0]}" in theirs:
            keys, text, null = doubled(theirs, i, len(theirs["in/x"]))
            theirs.answer("", keys)
            event = turn(vectors(theirs["in/x"]))
            s, b = guided(given(own.f, text), given(own.f, null), run.weight)(event)
            twice = tokens(turn((event - b) / s), shape), rows(-np.log(s), shape)
            made |= {name: sampled_pair(name, np.tile(value, (2, *[1] * (value.ndim - 1))), theirs[f"out/{name}"])
                     for name, value in zip(names, twice) if f"out/{name}" in theirs}


def of_run_in_block(theirs, own, turn, u, shape, run):
    """Yield (keys, samples) of a run."""
    pairs = [doubled(theirs, run.i, len(u))] if run.weight else [(keys, text, None) for keys, text in texts_of_samples(theirs)]
    for keys, text, null in pairs:
        both = [at_temperature(given(own.f, one), 1.0 if run.jacobi else run.temperature) for one in (text, null)]
        step = guided(*both, run.weight) if run.weight else step_of(both[0])
        found = by_jacobi(own.f, step, u, jacobi_of(run.how, shape)) if run.jacobi else in_turn(own.f, step, u)
        yield keys, tokens(turn(found), shape)


def step_of(f):
    return lambda h: scale_and_shift(f, h)


def jacobi_of(how, shape):
    """The `Jacobi` of their arguments, of which the block is cut into frames."""
    return Jacobi(how.get("jacobi_block_size", how.get("block_size", 32)), how.get("jacobi_max_iter", how.get("max_iter", 32)),
                  how.get("jacobi_th", how.get("th", how.get("threshold", 0.001))), shape[-3] * shape[-2])


# -- a model ---------------------------------------------------------------------------------------------------------

TOTALS = ("loss_reg", "loss_regularised", "loss_total")     # names of a loss with (10) in it, beside the loss without



def model_of(config, params, shape):
    """(the flow, the stages of each block, [Block], one None for no layers), for images (C, H, W) or videos (frames, C, H, W)."""
    *frames, C, H, W = shape
    p, R2L = config["patch_size"], said(config, "seq_order", "R2L") == "R2L"
    still, turn = (H // p, W // p), "flip in frames" if said(config, "temporal_causal", 0) else "flip"
    F, top_only = C * p**2, said(config, "cond_top_only", False)
    local = bool(frames) and said(config, "shallow_block_local", False)
    K, made, stages = config["num_blocks"], [], []
    for k in range(K):
        own = under(f"blocks.{k}.", params)
        shallow = k < K - 1
        says = config | {"frames": frames[0] if frames else 0, "switches": switches(config),
                         "txt_dim": 0 if top_only and shallow else said(config, "txt_dim", 0),
                         "pt_seq_len": said(config, "pt_seq_len", None) or config.get("img_size", H) // p}
        apart = local and shallow
        grid = (1, *still) if apart else (*frames, *still)
        made.append(Block(says, own, grid, "identity" if (k % 2 == 0) == R2L else turn) if own else None)
        here = made[-1].stages if own else starflow_block(None, F, grid, 1, 0)      # which keeps its event
        stages.append(frame_by_frame(here, F, *frames, *still) if apart else here)
    D, tall = math.prod(shape), H * (frames or [1])[0]
    first = [Squeeze(p, "blocks"), Reshape((F, tall // p, W // p), (D,))]
    return Flow(Inverse(Chain([*first, *(stage for part in stages for stage in part)])), StandardNormal(D)), stages, made


def switches(config):
    """What the configuration says of single blocks, without the text and the frames, which differ from block to block."""
    return {key: held for key, held in config.get("switches", {}).items() if key not in ("txt_dim", "frames", "pt_seq_len")}


def model(config, theirs) -> dict:
    """{quantity: Pair} of a whole model."""
    params, x = answered("param/", theirs), theirs["in/x"]
    flow, parts, blocks = model_of(config, params, x.shape[1:])
    names = [name for k, one in enumerate(blocks) if one is not None for name in one.names(f"blocks.{k}.")]
    theirs.only("param/", names)
    grad = answered("grad/", theirs, names)
    trained, ends = given(flow, text_of(theirs, *OF_DATA)), np.cumsum([2, *map(len, parts)])
    weight, norm_weight = said(config, "loss_weight", 1.0), norm_weight_of(config)
    losses, pullback = regularised_loss_vjp(trained, as_image(x), weight, norm_weight)
    x_bar, bars = pullback(1 / len(x))
    made = values_of(trained, ends, blocks, x, token_shape(config, x.shape[1:]))
    named = next((name for name in TOTALS if f"out/{name}" in theirs), "loss")
    made |= {named: losses.mean()}
    made = {name: pair(value, theirs[f"out/{name}"]) for name, value in made.items() if f"out/{name}" in theirs}
    gradient, stages = {}, bars["bijector"]["inner"]["stages"]
    for one, start, part in zip(blocks, ends, parts):
        for i in (i for i, stage in enumerate(part, start) if own_map(stage) is not None):
            gradient |= one.gradients(stages[str(i)].get("inner", stages[str(i)])["net"], grad, f"blocks.{blocks.index(one)}.")
    made["gradients of parameters"] = gradients(gradient, grad)
    made |= gradient_in(theirs, "x", as_theirs(x_bar, x.shape))
    if "context" in bars:
        made |= gradient_in(theirs, "y", np.swapaxes(bars["context"], -1, -2))
    return made | model_samples(config, theirs, flow, ends) | denoising(config, theirs, flow, params)


def norm_weight_of(config):
    """The weight of (10), as a switch or in the words of the loss, "... + 0.0001*sum_i mean(outputs[i]^2)"."""
    match = re.search(r"\+ *([0-9.]+(?:e-?[0-9]+)?) *\* *(?:sum|mean|norm|latent)", str(config.get("loss", "")))
    return said(config, "latent_norm_regularization", float(match[1]) if match else 0.0)


def values_of(flow, ends, blocks, x, shape):
    """{name: what a model gives} at images or videos x of theirs, whose block k is made of the stages ends[k] to ends[k + 1]."""
    stages, image = flow.bijector.inner.stages, as_image(x)
    events = [Chain(stages[:2]).forward(image)]
    for start, end in zip(ends, ends[1:]):
        events.append(Chain(stages[start:end]).forward(events[-1]) if end > start else events[-1])
    found = iter(token_log_dets(flow, image))
    log_dets = [np.zeros(len(x)) if one is None else np.swapaxes(next(found), -1, -2) for one in blocks]
    made = {f"outputs{k}": tokens(event, shape) for k, event in enumerate(events)}
    made |= {f"{name}{k}": one for k, one in enumerate(log_dets) for name in ("logdet", "logdets")}
    made |= {"loss_z": (events[-1]**2).mean() / 2, "loss_logdet": -sum(one.mean() for one in log_dets)}
    deep = blocks[-1]
    if deep is not None and deep.text:
        event = Chain([*stages[:2], *stages[2:ends[-2] + deep.at]]).forward(image)
        made["y"] = np.swapaxes(states_of_text(own_map(stages[ends[-2] + deep.at]), event), -1, -2)
    return made | {"z": as_theirs(Chain(stages[:2]).inverse(events[-1]), x.shape), "loss": made["loss_z"] + made["loss_logdet"]}


def as_image(x):
    return video_as_image(x) if x.ndim == 5 else x


def as_theirs(image, shape):
    return image_as_video(image, shape[1]) if len(shape) == 5 else image


def token_shape(config, shape):
    *frames, C, H, W = shape
    p = config["patch_size"]
    return *frames, H // p, W // p, C * p**2


def model_samples(config, theirs, flow, ends):
    """{quantity: Pair} of samples, and of what stands after each block."""
    key = next((key for key in ("in/noise", "in/u") if key in theirs), None)
    if key is None:
        return {}
    u, f, made = theirs.get(key), flow.bijector.inner, {}
    patches = Chain(f.stages[:2])
    z = patches.forward(as_image(u))

    def image(v):
        return as_theirs(patches.inverse(v), u.shape)

    for k in range(len(ends)):
        name, start = f"reverse_seq{k}", ends[len(ends) - 1 - k]
        if f"out/{name}" in theirs:
            keys, value = nearest(((keys, image(Chain(given(f, text).stages[start:]).inverse(z) if k else z))
                                   for keys, text in texts_of_samples(theirs)), theirs[f"out/{name}"])
            theirs.answer("", keys)
            made[name] = pair(value, theirs[f"out/{name}"])
    put_samples(made, config, theirs, lambda text: as_theirs(given(flow, text).bijector.forward(z), u.shape),
                lambda run, known: of_run(config, theirs, flow, z, u.shape, run, known))
    theirs.answer("", [key] if made else [])
    return made


def of_run(config, theirs, flow, z, shape, run, known):
    """Yield (keys, samples) of a run, or of known frames alone."""
    run = run or Run(0, {}, False)
    f, w = flow.bijector.inner, run.weight
    deep_only = said(config, "cond_top_only", False) or run.how.get("guide_top") is not None
    tokens = None if known is None else known_tokens(f, as_image(theirs.get(known)), z)
    pairs = [doubled(theirs, run.i, len(z))] if w else [(keys, text, text) for keys, text in texts_of_samples(theirs)]
    for keys, text, null in pairs:
        both = [at_temperature(given(f, one), 1.0 if run.jacobi else run.temperature) for one in (text, null)]
        how = jacobi_of(run.how, token_shape(config, shape[1:])) if run.jacobi else None
        yield [*keys, *([known] if known else [])], as_theirs(sampled(*both, z, w, deep_only, how, tokens), shape)


def denoising(config, theirs, flow, params):
    """{quantity: Pair} of the step along the score, and of the learned denoiser."""
    made, std = {}, std_of(config | config.get("switches", {}), theirs)
    for key in [key for key in theirs if re.fullmatch(r"out/(reverse_|self_)?denoised?(_x|_reverse)?", key)]:
        if std is None:
            theirs.leave([key], "the configuration does not say the noise that is removed, 'denoise_std'")
        else:
            keys, image = nearest(denoised_from(theirs, flow, theirs.get(key).shape, std), theirs[key])
            theirs.answer("", keys)
            made[key.removeprefix("out/")] = pair(image, theirs[key])
    prefix = "learnable_self_denoiser."
    own = under(prefix, params)
    if own:
        x = theirs["in/x"]
        length = said(config, "pt_seq_len", None) or config.get("img_size", x.shape[-2]) // config["patch_size"]
        says = config | {"txt_dim": own["proj_txt.weight"].shape[1] if "proj_txt.weight" in own else 0, "pt_seq_len": length,
                         "frames": x.shape[1] if x.ndim == 5 else 0, "switches": switches(config)}
        net, shape = denoiser_of(says, own, token_shape(config, x.shape[1:])[:-1]), x.shape
        theirs.answer("param/", net.names(prefix))
        patches = Chain(flow.bijector.inner.stages[:2])
        net = given(net.net, text_of(theirs, *OF_DATA))
        prediction = patches.inverse(net.forward(patches.forward(as_image(x))))
        target = denoiser_target(given(flow, text_of(theirs, *OF_DATA)), as_image(x), std or 1.0)
        for name, image in (("pred", prediction), ("denoiser", prediction), ("denoiser_target", target), ("target", target)):
            if f"out/{name}" in theirs:
                made[name] = pair(as_theirs(image, shape), theirs[f"out/{name}"])
        if "out/denoised_learned" in theirs:
            moved = denoised_by_network(net, flow, as_image(x), std, said(config, "sigma_next", 0.0))
            made["denoised_learned"] = pair(as_theirs(moved, shape), theirs["out/denoised_learned"])
    return made


def denoised_from(theirs, flow, shape, std):
    """Yield (keys, denoised images) of the images that may have been denoised: noisy ones, samples, and data."""
    def place(key):
        return "nois" not in key or key == "in/noise", key == "in/noise", key != "out/reverse", key

    found = [key for key in theirs if re.match("in/|out/(reverse|guided|cfg|jacobi|sample)", key)]
    starts = [key for key in found if theirs.get(key).shape == shape]
    for start in sorted(starts, key=place):
        for keys, text in texts_of_samples(theirs):
            yield [*keys, start], as_theirs(denoised(given(flow, text), as_image(theirs.get(start)), std), shape)


# -- the denoiser ----------------------------------------------------------------------------------------------------

def denoiser_of(config, params, grid):
    """A Net whose `net` is the filled network of vectors."""
    made, base = Net(config, params), ("net", "layers")
    made.placed(((*base, "0"), (*base, "1")), (*base, "2"))
    ahead = said(config, "block_causal", said(config, "temporal_causal", 0))
    window = said(config, "window", said(config, "denoiser_window", None))
    net = starflow_denoiser(np.random.default_rng(0), made.features, grid, layers=made.layers, ahead=ahead, window=window,
                            **made.given)
    made.net = made.filled(net)
    return made


def denoiser_loss(theirs, h):
    """(loss, its cotangent of h) of predictions h: a mean of squares beside in/target, a sum with a cotangent, or None twice."""
    key = name_of_cotangent(theirs, "z")
    if "in/target" in theirs:
        error = h - theirs["in/target"]
        return (error**2).mean(), 2 * error / error.size
    return (None, None) if key is None else ((h * theirs[key]).sum(), theirs[key])


def denoiser(config, theirs) -> dict:
    """{quantity: Pair} of the learned denoiser alone, of tokens (B, [frames,] H, W, F)."""
    x = theirs["in/x"]
    own, y = denoiser_of(config, answered("param/", theirs), x.shape[1:-1]), text_of(theirs, *OF_DATA)
    theirs.only("param/", own.names())
    grad = answered("grad/", theirs, own.names())
    h, pullback = given(own.net, y).vjp(vectors(x))
    out = next((name for name in ("pred", "z", "x", "out") if f"out/{name}" in theirs), "pred")
    made = {out: pair(tokens(h, x.shape[1:]), theirs[f"out/{out}"])}
    loss, h_bar = denoiser_loss(theirs, tokens(h, x.shape[1:]))
    if loss is None:
        theirs.leave(["out/loss"], "the file has neither in/target nor a cotangent in/wz")
    else:
        x_bar, bars = pullback(vectors(h_bar))
        made["gradients of parameters"] = gradients(own.gradients(bars, grad), grad)
        made |= gradient_in(theirs, "x", tokens(x_bar, x.shape[1:])) | compared({"loss": loss}, theirs)
        if "context" in bars:
            made |= gradient_in(theirs, "y", np.swapaxes(bars["context"], -1, -2))
    if "out/mask" in theirs:
        text = y.shape[-1] if y is not None and own.text else 0
        mask = frames_seen(x.shape[1:-1], text, said(config, "block_causal", 1), said(config, "window", None))
        made["mask"] = pair(mask, theirs["out/mask"])
    return made


KINDS = {"a block": (of_system("starflow", "MetaBlock"), block), "a model": (of_system("starflow", "Model"), model),
         "a denoiser": (of_system("starflow", "NonCausalBlock"), denoiser)}


def holds(config, keys):
    return kind_of(KINDS, config, keys) is not None


def read(name):
    """({quantity: Difference}, keys that nothing reads)."""
    return read_as(KINDS, *numbers(name))
