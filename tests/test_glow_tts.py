"""Glow-TTS: the authors' numbers, torch's gradients of every configuration, memory, synthesis, initialisation, training."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import sys
import tracemalloc

import numpy as np
import pytest

import refflow
from authors_files import far
from refflow.core import tree
from refflow.core.arrays import masked
from refflow.core.tree import flatten
from refflow.fast import speech
from refflow.fast.speech import SpeechGradient
from refflow.fast.wave_net import Columns, TunedConvolution, TunedLayerNorm, TunedNetwork, with_tuned_layers
from refflow.laws.pages import equations
from refflow.maps.conditioners import Conv1d, LayerNorm, Positionwise, Sequential, wave_net_coupling_network, with_dropout
from refflow.maps.linear import GroupedLinear, Pointwise
from refflow.models.alignment import best_path, log_likelihoods
from refflow.models.glow_tts import GlowTTS, Keeps, decoder_of, duration_vjp, glow_tts, mle_vjp, working
from refflow.models.glow_tts_batch import checked_durations
from refflow.training import ClipValue, Noam, TrainingError, fit_speech, recipes
from validation import original
from validation.original import comparison
from validation.original import glow_tts as theirs_of
from validation.original.glow_tts_networks import of_unit_vectors

MODULE = sys.modules["refflow.models.glow_tts"]
SMALL = {"channels": 8, "filters": 12, "duration_filters": 7, "layers": 2, "blocks": 2, "hidden": 8, "wave_layers": 2}
HOLES = np.array([[True, False, True, True, False, False], [False] * 6, [True] * 6])


def model_of(seed=0, symbols=11, mels=4, moved=0.05, **options):
    rng = np.random.default_rng(seed)
    model = glow_tts(rng, symbols, mels, **SMALL | options)
    vector = model.ravel()
    return model.unravel((vector + moved * rng.standard_normal(vector.size)).astype(vector.dtype))


def batch_of(seed=1, dtype=np.float64, mels=4, speakers=0):
    """(tokens, text lengths, mel, frame lengths, speakers), with one incomplete group of frames."""
    rng = np.random.default_rng(seed)
    voices = np.array([speakers - 1, 0, 1]) if speakers else None
    return (rng.integers(0, 11, (3, 6)), np.array([6, 5, 3]), rng.standard_normal((3, mels, 17)).astype(dtype),
            np.array([17, 14, 9]), voices)


VOICES = {"speakers": 3, "speaker_channels": 5}
OPTIONS = {"plain": {}, "speakers": VOICES, "log-scales": {"mean_only": False}, "sigmoid": {"sigmoid_scale": True},
           "blocks": {"block_length": 2, "window": 9}, "dilated": {"dilation_rate": 2},
           "bare": {"window": None, "has_prenet": False},
           "four": {"factor": 4, "split": 8}, "all": VOICES | {"mean_only": False, "sigmoid_scale": True, "dilation_rate": 2}}


def of_options(name, **named):
    model = model_of(**OPTIONS[name], **named)
    return model, batch_of(speakers=3 if model.speakers else 0)


def test_every_equation_is_cited():
    assert equations(MODULE) == []


# -- the authors' numbers ---------------------------------------------------------------------------------------------

def test_agrees_with_the_authors_code(capsys):
    assert len(theirs_of.FILES) == 15
    for file in theirs_of.FILES:
        quantities, unanswered = theirs_of.read(file)
        assert unanswered == [], file
        for quantity, value in quantities.items():
            exact = "alignment" in quantity or "path" in quantity or "compiled" in quantity or "attn" in quantity
            assert value.measure <= (0 if exact else value.allowed), (file, quantity, value)
            assert value.relative != (quantity == "reverse in float32")
    assert original.main(["glow_tts"]) == 0
    assert len(capsys.readouterr().out.splitlines()) >= 11


WRONG = {"glowtts_generator_meanonly": {
            "out/z": "latents", "out/logdet": "log-det", "out/l_mle": "likelihood loss", "out/l_length": "duration loss",
            "out/attn": "alignment", "out/logw_target": "target of durations", "gradin/y": "gradient of data",
            "grad/encoder.proj_m.bias": "gradients of parameters",
            "grad/encoder.proj_w.conv_1.weight": "gradients of parameters",
            "grad/decoder.flows.1.weight": "gradients of parameters",
            "grad/decoder.flows.3.logs": "gradients of parameters", "gen/ns0.667_ls1.0/y": "synthesis ns0.667_ls1.0: y",
            "gen/ns0.333_ls1.7/attn": "synthesis ns0.333_ls1.7: attn", "gen/ns0.0_ls0.8/z_m": "synthesis ns0.0_ls0.8: z_m"},
         "glowtts_decoder_main": {
            "out/z": "latents", "out/reverse_of_z_for_reverse": "inverse of other latents", "gradin/x": "gradient of data",
            "grad/flows.8.end.bias": "gradients of parameters"},
         "glowtts_mas": {"07/path_cython": "07: compiled", "11/path_numpy": "11: in NumPy", "19/score": "19: score"}}


@pytest.mark.parametrize("file, key, quantity", [(file, *item) for file, wrong in WRONG.items() for item in wrong.items()])
def test_a_wrong_number_is_found(file, key, quantity, monkeypatch):
    config, theirs = comparison.numbers(file)
    wrong = np.array(theirs[key])
    place = np.argmax(np.abs(wrong))
    exact, entry = "attn" in key or "path" in key, wrong.reshape(-1)[place]
    wrong.reshape(-1)[place] = 1 - entry if exact else entry * (1 + 1e-6)
    theirs[key] = wrong
    monkeypatch.setattr(theirs_of, "numbers", lambda name: (config, comparison.Numbers(theirs)))
    monkeypatch.setattr(comparison, "NUDGES", 1)
    found, _ = theirs_of.read(file)
    assert [name for name, value in found.items() if not original.passes(value)] == [quantity]


@pytest.mark.parametrize("key", ["param/decoder.flows.1.weight", "out/z", "in/y"])
def test_a_file_without_a_key_says_so(key, monkeypatch):
    config, theirs = comparison.numbers("glowtts_generator_meanonly")
    del theirs[key]
    monkeypatch.setattr(theirs_of, "numbers", lambda name: (config, comparison.Numbers(theirs)))
    found = original.answer(theirs_of, "glowtts_generator_meanonly")
    said = found.get("error") or str(found["not compared"])
    assert key.removeprefix("param/") in said and ("error" in found) != key.startswith("out/")


def test_files_of_a_folder():
    for name, module in original.MODELS.items():
        files = original.files_of(name, [comparison.PRACTICE])
        assert sorted(path.stem for path, *_ in files) == sorted(module.FILES) and {found for _, found, _ in files} == {name}


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match="hifigan"):
        theirs_of.reader({"cls": "hifigan.Generator"})


# -- a file of another configuration, made by ourselves ----------------------------------------------------------------

def their_modules(config):
    """The names that a recorder of calls gives to their dropouts, in the order of the calls."""
    found = [f"encoder.pre.relu_drop.1#{i}" for i in range(3 * config["prenet"])]
    for i in range(config["n_layers_enc"]):
        found += [f"encoder.encoder.attn_layers.{i}.drop#0", f"encoder.encoder.drop#{2 * i}",
                  f"encoder.encoder.ffn_layers.{i}.drop#0", f"encoder.encoder.drop#{2 * i + 1}"]
    found += ["encoder.proj_w.drop#0", "encoder.proj_w.drop#1"]
    return found + [f"decoder.flows.{3 * k + 2}.wn.drop#{i}" for k in range(config["n_blocks_dec"])
                    for i in range(config["n_block_layers"])]


def written(config, model, batch, keeps=None, steps=0, modules=False):
    """The numbers of a model as a file of theirs holds them; the values are ours.  `modules`: masks by their modules' names."""
    names, params = theirs_of.of_model(config), model.params()
    split = {}

    def shaped(prefix, nested):
        for name, path in names.items():
            array = tree.at_path(nested, path)
            if name.endswith(("weight_g", "logs")) or "flows" in name and name.count(".") == 3 and name.endswith(".bias"):
                array = array.reshape((-1, 1, 1) if name.endswith("weight_g") else (1, -1, 1))
            if "conv_qkv." in name:
                for kind, part in zip("qkv", np.split(array, 3)):
                    split[prefix + name.replace("conv_qkv.", f"conv_{kind}.")] = part
            else:
                split[prefix + name] = array

    terms, pullback = model.terms_vjp(*batch, keeps)
    mel_bar, bars = pullback(1.0, 1.0)
    shaped("param/", params)
    shaped("grad/", bars)
    vector, schedule, state = model.ravel(), Noam(config["hidden_channels"]), None
    for t in range(1, steps + 1):
        gradient = np.concatenate([bar.ravel() for _, bar in flatten(model.unravel(vector).loss_vjp(*batch, keeps)[1])])
        rule = recipes.glow_tts()["optimiser"]
        state = rule.start(vector) if state is None else state
        vector, state = rule.step(vector, ClipValue(5.0)(gradient), state, schedule(t))
        shaped(f"step{t}/", model.unravel_params(vector))
    path = terms.path.astype(float)
    target = np.where(terms.text_mask, np.log(1e-8 + path.sum(-1)), 0)[:, None]
    outputs = {"z": terms.z, "logdet": terms.log_det, "x_m": terms.mu, "x_logs": terms.q, "logw": terms.w[:, None],
               "z_m": terms.mu @ path, "z_logs": terms.q @ path, "attn": path[:, None], "z_mask": terms.frame_mask[:, None],
               "x_mask": terms.text_mask[:, None], "logw_target": target, "l_mle": np.float64(terms.losses.mle),
               "l_length": np.float64(terms.losses.duration), "loss": np.float64(terms.losses.total)}
    inputs = dict(zip(("x", "x_lengths", "y", "y_lengths", "speaker" if modules else "g"), batch))
    inputs = {key: value for key, value in inputs.items() if value is not None}
    kept = [] if keeps is None else [*keeps.encoder, *keeps.durations, *keeps.decoder]
    masks = {f"in/dropout_{i}": mask for i, mask in enumerate(kept)}
    if modules and kept:
        masks = {f"dropout/{name}": mask.astype(np.int8) for name, mask in zip(their_modules(config), kept, strict=True)}
    return comparison.Numbers(split | masks | {"gradin/y": mel_bar} | {f"in/{key}": value for key, value in inputs.items()}
                              | {f"out/{key}": value for key, value in outputs.items()})


def config_of(model, **further):
    return {"cls": "models.FlowGenerator", "n_vocab": 11, "hidden_channels": 8, "filter_channels": 12, "filter_channels_dp": 7,
            "out_channels": 4, "kernel_size": 3, "n_heads": 2, "n_layers_enc": 2, "p_dropout": 0.1, "p_dropout_dec": 0.05,
            "n_blocks_dec": 2, "kernel_size_dec": 5, "n_block_layers": 2, "n_split": 4, "n_sqz": 2, "window_size": 4,
            "prenet": True, "dilation_rate": 1, "mean_only": not model.log_scale} | further


THEIR_WORDS = {"plain": {}, "speakers": {"n_speakers": 3, "gin_channels": 5}, "log-scales": {},
               "sigmoid": {"sigmoid_scale": True}, "blocks": {"block_length": 2, "window_size": 9},
               "dilated": {"dilation_rate": 2},
               "bare": {"window_size": None, "prenet": False}, "four": {"n_sqz": 4, "n_split": 8},
               "all": {"n_speakers": 3, "gin_channels": 5, "sigmoid_scale": True, "dilation_rate": 2}}


@pytest.mark.parametrize("dropped", [False, True, "modules"])
@pytest.mark.parametrize("name", OPTIONS)
def test_reads_files_of_other_configurations(name, dropped, monkeypatch):
    model, batch = of_options(name)
    keeps = model.drawn_keeps(np.random.default_rng(0), batch[0], batch[2][..., :16]) if dropped else None
    config = config_of(model, **THEIR_WORDS[name])
    file = written(config, model, batch, keeps, 2 if name in ("plain", "all") else 0, dropped == "modules")
    monkeypatch.setattr(theirs_of, "numbers", lambda name: (config, file))
    found, unanswered = theirs_of.read("made")
    assert unanswered == [] and all(original.passes(value) for value in found.values()), found
    assert ("parameters after step 2" in found) == (name in ("plain", "all"))


@pytest.mark.parametrize("file", ["glowtts_generator_dropout"])
def test_masks_in_the_order_of_their_names_are_refused_or_found(file, monkeypatch):
    """Masks of equal shapes exchange their places without a word: the losses differ."""
    config, theirs = comparison.numbers(file)
    monkeypatch.setattr(theirs_of.glow_tts_networks, "drawn_as", lambda key: key)
    with pytest.raises(ValueError, match="keeps.encoder"):
        theirs_of.read(file)
    first, second = "dropout/encoder.encoder.drop#0", "dropout/encoder.encoder.drop#1"
    monkeypatch.undo()
    theirs |= {first: theirs[second], second: theirs[first]}
    monkeypatch.setattr(theirs_of, "numbers", lambda name: (config, comparison.Numbers(theirs)))
    found, _ = theirs_of.read(file)
    assert not original.passes(found["likelihood loss"]) and not original.passes(found["duration loss"])


def test_a_mask_of_an_unknown_module_is_refused(monkeypatch):
    config, theirs = comparison.numbers("glowtts_generator_dropout")
    theirs["dropout/vocoder.drop#a"] = np.ones((3, 2))
    monkeypatch.setattr(theirs_of, "numbers", lambda name: (config, comparison.Numbers(theirs)))
    with pytest.raises(ValueError, match="not known when dropout/vocoder.drop#a was drawn"):
        theirs_of.read("made")


# -- the first steps of their training ----------------------------------------------------------------------------------

def training_file(name, steps=3):
    """(configuration, numbers) of initialisation by data and steps, of which the last but one is not recorded.

    Gradients and Adam are torch's; the start, which the authors' own file tells, is ours.
    """
    torch = pytest.importorskip("torch")
    from validation.bench.glow_tts import Torch
    model, batch = of_options(name)
    what = "commons.Adam(noam, lr=0.5, betas=(0.8, 0.97), eps=1e-8), clip_grad_value_(0.05) elementwise"
    config = config_of(model, **THEIR_WORDS[name]) | {"what": what, "warmup_steps": 7}
    del config["cls"]
    names = theirs_of.of_model(config)
    start = model.initialised(*batch)
    file = as_theirs(names, model.params(), "before/") | as_theirs(names, start.params(), "after_ddi/")
    vector = torch.tensor(start.ravel())
    adam = torch.optim.Adam([vector], 1.0, betas=(0.8, 0.97), eps=1e-8)
    losses, lengths, rates = [], [], []
    for k in range(steps):
        now = start.unravel(vector.numpy())
        terms, bars = Torch(now).gradient(*batch[:4], speakers=batch[4])
        gradient = np.concatenate([bars[path].numpy().ravel() for path, _ in flatten(now.params())])
        losses.append([float(loss) for loss in terms])
        lengths.append(np.linalg.norm(gradient))
        rates.append(0.5 * 8**-0.5 * min((k + 1) ** -0.5, (k + 1) * 7**-1.5))
        vector.grad = torch.tensor(gradient).clamp(-0.05, 0.05)
        adam.param_groups[0]["lr"] = rates[-1]
        adam.step()
        if k != steps - 2:
            file |= as_theirs(names, start.unravel_params(vector.numpy().copy()), f"step{k}/")
    words = "x", "x_lengths", "y", "y_lengths", "speaker"
    inputs = {f"in/{key}": value for key, value in zip(words, batch) if value is not None}
    table = [0.5 * 16**-0.5 * min(s**-0.5, s * 20**-1.5) for s in range(1, 41)]
    return config, comparison.Numbers(file | inputs | {
        "out/losses": np.array(losses), "out/lr": np.array(rates), "out/grad_norm_before_clip": np.array(lengths),
        "noam/lr_16_20": np.array(table)})


def as_theirs(names, nested, prefix):
    """Our arrays as a file of theirs holds them."""
    file = {}
    for name, path in names.items():
        array = tree.at_path(nested, path)
        if "conv_qkv." in name:
            file |= {prefix + name.replace("conv_qkv.", f"conv_{kind}."): part for kind, part in zip("qkv", np.split(array, 3))}
        else:
            file[prefix + name] = array
    return file


@pytest.mark.parametrize("name", ["plain", "speakers", "bare", "all"])
def test_reads_the_first_steps_of_training(name):
    config, file = training_file(name)
    found, unanswered = comparison.read_as(theirs_of.KINDS, comparison.Config(config), file)
    assert unanswered == [] and all(original.passes(value) for value in found.values()), found
    assert found.keys() == {"initialisation", "parameters after step 0", "parameters after step 2", "losses", "learning rates",
                            "lengths of gradients", "schedule lr_16_20"}


def of_training():
    """The quantities that fail."""
    return far(theirs_of.read("glowtts_ddi_and_train_steps"))[0]


STEPS = {f"parameters after step {k}" for k in range(4)}


@pytest.mark.parametrize("bug, wrong", [
    ("a step is dropped", STEPS | {"losses", "lengths of gradients", "learning rates"}),
    ("no clipping", STEPS | {"losses", "lengths of gradients"}), ("eps is doubled", STEPS | {"losses", "lengths of gradients"})])
def test_a_bug_in_the_steps_is_found(bug, wrong, monkeypatch):
    right = theirs_of.training
    if bug == "a step is dropped":
        monkeypatch.setattr(theirs_of, "training", lambda *arguments: itertools.islice(right(*arguments), 1, None))
    elif bug == "no clipping":
        monkeypatch.setattr(theirs_of, "ClipValue", lambda most: ClipValue(most / 100))
    else:
        monkeypatch.setattr(theirs_of, "EPS", 2e-9)
        monkeypatch.setattr(theirs_of, "said", lambda config, key, said=theirs_of.said: said({}, key))
    assert of_training() >= {"parameters after step 3"} and of_training() <= wrong


@pytest.mark.parametrize("key, quantity", [
    ("step2/encoder.encoder.attn_layers.0.conv_k.bias", "parameters after step 2"),
    ("step3/encoder.emb.weight", "parameters after step 3"), ("after_ddi/decoder.flows.3.logs", "initialisation"),
    ("out/grad_norm_before_clip", "lengths of gradients"), ("noam/lr_192_4000", "schedule lr_192_4000")])
def test_a_wrong_number_of_training_is_found(key, quantity, monkeypatch):
    """A bias of keys has gradient 0 in exact arithmetic, and moves by rounding alone: its entries count, too."""
    config, theirs = comparison.numbers("glowtts_ddi_and_train_steps")
    theirs[key] = theirs[key] * (1 + 1e-6) + (1e-3 if "conv_k" in key else 0)
    monkeypatch.setattr(theirs_of, "numbers", lambda name: (config, comparison.Numbers(theirs)))
    monkeypatch.setattr(comparison, "NUDGES", 1)
    assert of_training() == {quantity}


# -- alignments ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("file", ["glowtts_mas", "glowtts_mas_60"])
def test_ties_that_move_are_found(file, monkeypatch):
    """Their files hold ties, which the authors' code lets stay."""
    module = sys.modules["refflow.models.alignment"]
    source = inspect.getsource(module).replace("np.less(stay, move", "np.less_equal(stay, move")
    planted = {"__name__": module.__name__, "__package__": module.__package__}
    exec(compile(source, module.__file__, "exec"), planted)
    monkeypatch.setattr(theirs_of, "best_path", planted["best_path"])
    wrong = {name.rpartition(": ")[2] for name in far(theirs_of.read(file))[0]}
    assert wrong >= {"compiled", "in NumPy"} and wrong <= {"compiled", "in NumPy", "score"}


@pytest.mark.parametrize("count, wrong", [("n_cases", 59), ("n_cython_numpy_differ", 1)])
def test_the_counts_of_alignments_are_compared(count, wrong, monkeypatch):
    config, theirs = comparison.numbers("glowtts_mas_60")
    theirs[count] = np.array(wrong)
    monkeypatch.setattr(theirs_of, "numbers", lambda name: (config, comparison.Numbers(theirs)))
    assert far(theirs_of.read("made")) == ({count}, [])


@pytest.mark.parametrize("counted", [False, True])
def test_alignments_of_other_sizes_are_read(counted):
    """Paths found by trying all of them, with ties that stay."""
    rng, file = np.random.default_rng(3), {}
    for case, (I, J) in enumerate(((1, 1), (2, 5), (4, 4), (3, 7))):
        texts, frames = np.array([I, max(1, I - 1)]), np.array([J, J - (J > I)])
        value = rng.integers(-2, 3, (2, I, J)).astype(float)
        mask = (np.arange(I) < texts[:, None])[:, :, None] & (np.arange(J) < frames[:, None])[:, None]
        path = np.stack([best_of_all(v, i, j) for v, i, j in zip(value, texts, frames)])
        file |= {f"{case}/{key}": array for key, array in {
            "value": value, "mask": mask * 1.0, "x_lengths": texts, "y_lengths": frames, "path_cython": path, "path_numpy": path,
            "score": (value * path).sum((1, 2))}.items()}
    file |= {"n_cases": np.array(4), "n_cython_numpy_differ": np.array(0)} if counted else {}
    config = comparison.Config({"fn": "monotonic_align.maximum_path"})
    found, unanswered = comparison.read_as(theirs_of.KINDS, config, comparison.Numbers(file))
    assert unanswered == [] and len(found) == 12 + 2 * counted
    assert all(original.passes(value) for value in found.values()), found


def best_of_all(value, I, J):
    """The best path (I, J) of all, of equal ones the one whose positions are latest when read from the end."""
    starts = itertools.combinations(range(1, J), I - 1)
    paths = [np.repeat(np.arange(I), np.diff([0, *moves, J])) for moves in starts]
    best = max(paths, key=lambda a: (sum(value[i, j] for j, i in enumerate(a)), tuple(a[::-1])))
    found = np.zeros(value.shape, np.int8)
    found[best, np.arange(J)] = 1
    return found


# -- another library's gradients --------------------------------------------------------------------------------------

@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
def test_losses_and_gradients_are_torchs(name, dropped):
    pytest.importorskip("torch")
    from validation.bench.glow_tts import Torch
    model, batch = of_options(name)
    keeps = model.drawn_keeps(np.random.default_rng(0), batch[0], batch[2][..., :16]) if dropped else None
    losses, bars = model.loss_vjp(*batch, keeps)
    (mle, duration), theirs = Torch(model).gradient(*batch[:4], speakers=batch[4], keeps=keeps)
    assert abs(losses.mle - mle) < 1e-12 and abs(losses.duration - duration) < 1e-12
    assert losses.total == losses.mle + losses.duration
    bars = dict(flatten(bars))
    assert bars.keys() == theirs.keys() == dict(flatten(model.params())).keys()
    for path, bar in bars.items():
        assert np.allclose(bar, theirs[path].numpy(), rtol=1e-9, atol=1e-12), path


def test_gradients_of_one_loss_are_its_differences():
    model, batch = of_options("all")
    terms, pullback = model.terms_vjp(*batch)
    mel_bar, bars = pullback(1.0, 0.0)
    vector, rng = model.ravel(), np.random.default_rng(5)
    move, of_mel = rng.standard_normal(vector.size), rng.standard_normal(batch[2].shape)
    slope = np.concatenate([bar.ravel() for _, bar in flatten(bars)]) @ move + (mel_bar * of_mel).sum()

    def mle(step):
        return model.unravel(vector + step * move).loss_vjp(*batch[:2], batch[2] + step * of_mel, *batch[3:])[0].mle

    assert abs((mle(1e-6) - mle(-1e-6)) / 2e-6 - slope) < 1e-6 * (1 + abs(slope))


# -- planted bugs: the comparison with torch and with the authors finds them --------------------------------------------

def found_by_the_authors():
    return far(theirs_of.read("glowtts_generator_meanonly"))[0]


def test_durations_that_shape_the_encoder_are_found(monkeypatch):
    right = MODULE.text_vjp

    def attached(encoder, mean, log_scale, durations, tokens):
        (mu, q, w), pullback = right(encoder, mean, log_scale, durations, tokens)
        x, encoder_pullback = encoder.vjp(tokens)
        _, durations_pullback = durations.vjp(x)

        def pulled(mu_bar, q_bar, w_bar):
            bars = pullback(mu_bar, q_bar, w_bar)
            return bars | {"encoder": tree.added(bars["encoder"], encoder_pullback(durations_pullback(w_bar)[0])[1])}

        return (mu, q, w), pulled

    monkeypatch.setattr(MODULE, "text_vjp", attached)
    assert found_by_the_authors() == {"gradients of parameters"}


def test_a_log_det_of_all_positions_is_found(monkeypatch):
    monkeypatch.setattr(Pointwise, "_count", lambda self, log_det: log_det.shape[-1])
    assert {"log-det", "likelihood loss"} <= found_by_the_authors()


def test_lengths_rounded_up_are_found(monkeypatch):
    right = MODULE.checked_batch

    def rounded_up(*arguments):
        batch = right(*arguments)
        return batch._replace(frames=np.minimum(batch.frames + 2 * (batch.frames < batch.mel.shape[-1]), batch.mel.shape[-1]))

    monkeypatch.setattr(MODULE, "checked_batch", rounded_up)
    assert "frames" in found_by_the_authors()


def test_a_loss_per_position_instead_of_per_entry_is_found(monkeypatch):
    right = MODULE.mle_vjp

    def per_position(z, mu, q, log_det, path):
        mle, pullback = right(z, mu, q, log_det, path)
        return mle * z.shape[1], lambda bar: pullback(bar * z.shape[1])

    monkeypatch.setattr(MODULE, "mle_vjp", per_position)
    assert "likelihood loss" in found_by_the_authors()


# -- memory -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype, most", [(np.float64, 1e-11), (np.float32, 2e-3)])
@pytest.mark.parametrize("name", ["plain", "all", "four"])
def test_tuned_gradients_are_the_models(name, dtype, most):
    model, batch = of_options(name, dtype=dtype)
    batch = (*batch[:2], batch[2].astype(dtype), *batch[3:])
    keeps = model.drawn_keeps(np.random.default_rng(0), batch[0], batch[2][..., :16])
    for kept in (None, keeps):
        losses, bars = model.loss_vjp(*batch, kept)
        size = max(np.abs(bar).max(initial=0) for _, bar in flatten(bars))
        for memory in ("stored", "reversible"):
            gradient = SpeechGradient(memory)
            again, tuned = gradient(model, batch, kept)
            assert np.allclose(again, losses, rtol=most) and gradient.drifted == 0
            assert [path for path, _ in flatten(tuned)] == [path for path, _ in flatten(bars)]
            for (path, bar), (_, other) in zip(flatten(bars), flatten(tuned)):
                assert np.abs(bar - other).max(initial=0) <= most * size, path


def peak(model, batch, memory):
    gradient = SpeechGradient(memory)
    gradient(model, batch)
    tracemalloc.start()
    try:
        gradient(model, batch)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_depth():
    """Beyond one block's parameters and gradient, a further block adds what is kept of each stage: a number for each event."""
    batch = batch_of(mels=4)
    rng = np.random.default_rng(0)
    batch = (batch[0], batch[1], rng.standard_normal((3, 4, 400)), np.array([400, 350, 300]), None)
    of_block = model_of(blocks=3).ravel().nbytes - model_of(blocks=2).ravel().nbytes
    growth = {}
    for memory in ("stored", "reversible"):
        shallow, deep = (peak(model_of(blocks=blocks, moved=0.01), batch, memory) for blocks in (4, 12))
        growth[memory] = (deep - shallow) / 8
    assert growth["reversible"] < 3 * of_block + 2**14
    assert growth["stored"] > 10 * growth["reversible"]


def test_drift_is_noticed(monkeypatch):
    """A block whose inverse is wrong gives the stored gradient."""
    model, batch = of_options("plain")
    losses, bars = model.loss_vjp(*batch)
    right = Pointwise.inverse
    monkeypatch.setattr(Pointwise, "inverse", lambda self, x: right(self, x) + 1e-6)
    gradient = SpeechGradient("reversible")
    assert gradient.drifted == 0
    _, tuned = gradient(model, batch)
    assert gradient.drifted > 0
    for (path, bar), (_, other) in zip(flatten(bars), flatten(tuned)):
        assert np.allclose(bar, other, rtol=1e-9, atol=1e-13), path


@pytest.mark.parametrize("mask", [None, HOLES], ids=["none", "holes"])
def test_tuned_groups_are_their_page(mask):
    rng = np.random.default_rng(10)
    page = Pointwise(GroupedLinear(np.eye(4) + 0.3 * rng.standard_normal((4, 4))), 2, mask).unchecked(np.float64)
    groups = speech.tuned(page)
    assert type(groups) is speech.TunedGroups
    z, x_bar, l_bar = masked(rng.standard_normal((3, 8, 6)), mask), rng.standard_normal((3, 8, 6)), rng.standard_normal(3)
    x, log_det = groups.forward_and_log_det(z)
    np.testing.assert_allclose(x, page.forward(z), atol=1e-12)
    np.testing.assert_allclose(log_det, page.log_det(z), rtol=1e-12)
    np.testing.assert_allclose(groups.inverse(x), z, atol=1e-12)
    (z_bar, bars), (page_bar, page_bars) = (f.vjp(z)[1](x_bar, l_bar) for f in (groups, page))
    np.testing.assert_allclose(masked(z_bar, mask), page_bar, atol=1e-12)
    np.testing.assert_allclose(bars["inner"]["W"], page_bars["inner"]["W"], rtol=1e-11)


# -- what is dropped, and in which dtype ------------------------------------------------------------------------------

def test_entries_are_kept_as_often_as_the_rates_say():
    model = model_of()
    keeps = model.drawn_keeps(np.random.default_rng(0), np.zeros((60, 6), int), np.zeros((60, 4, 16)))
    drops = model.drops((60, 6), (60, 4, 16))
    for masks, wanted in zip(keeps, drops):
        for mask, (shape, rate) in zip(masks, wanted, strict=True):
            assert mask.shape == shape and mask.mean() == pytest.approx(1 - rate, abs=0.05)
    assert any(rate < 0.4 for of in drops for _, rate in of)


def test_working_copies_have_the_dtype_and_keep_constants():
    found = []
    decoder = working(model_of().decoder, np.float32, np.ones((3, 8), bool))
    tree.mapped(decoder, lambda path, field, array, _: found.append((field.constant, array.dtype)) or array)
    assert {dtype for constant, dtype in found if not constant} == {np.dtype(np.float32)}
    assert np.dtype(bool) in {dtype for constant, dtype in found if constant}


# -- padding ----------------------------------------------------------------------------------------------------------

def test_padding_is_not_read():
    model, (tokens, texts, mel, frames, speakers) = of_options("all")
    losses, bars = model.loss_vjp(tokens, texts, mel, frames, speakers)
    other_tokens = np.where(np.arange(6) < texts[:, None], tokens, 99)
    other_mel = np.where((np.arange(17) < frames[:, None] // 2 * 2)[:, None], mel, np.nan)
    again, other_bars = model.loss_vjp(other_tokens, texts, other_mel, frames, speakers)
    assert again == losses and all(np.array_equal(a, b) for (_, a), (_, b) in zip(flatten(bars), flatten(other_bars)))


def test_a_longer_padding_changes_nothing():
    model, (tokens, texts, mel, frames, speakers) = of_options("all")
    losses, bars = model.loss_vjp(tokens, texts, mel, frames, speakers)
    longer = np.pad(tokens, ((0, 0), (0, 3))), texts, np.pad(mel, ((0, 0), (0, 0), (0, 7))), frames, speakers
    again, other = model.loss_vjp(*longer)
    assert np.allclose(again, losses, rtol=1e-13)
    assert all(np.allclose(a, b, rtol=1e-9, atol=1e-14) for (_, a), (_, b) in zip(flatten(bars), flatten(other)))


def test_a_batch_is_its_items():
    """Losses of the items, weighted by their frames and positions, and z, w of each."""
    model, (tokens, texts, mel, frames, speakers) = of_options("all")
    terms, _ = model.terms_vjp(tokens, texts, mel, frames, speakers)
    alone = [model.terms_vjp(tokens[i:i + 1, :texts[i]], texts[i:i + 1], mel[i:i + 1, :, :frames[i]], frames[i:i + 1],
                             speakers[i:i + 1])[0] for i in range(3)]
    whole = frames // 2 * 2
    for key, sizes in (("mle", whole), ("duration", texts)):
        mean = sum(n * getattr(one.losses, key) for n, one in zip(sizes, alone)) / sizes.sum()
        assert np.isclose(getattr(terms.losses, key), mean, rtol=1e-12)
    for i, one in enumerate(alone):
        assert np.allclose(terms.z[i, :, :whole[i]], one.z[0], rtol=1e-10, atol=1e-12)
        assert np.array_equal(terms.path[i, :texts[i], :whole[i]], one.path[0])


# -- losses -----------------------------------------------------------------------------------------------------------

def test_likelihood_loss_is_the_density():
    """It is -log p(x) per entry: normal latents of aligned means and scales, and the decoder's log-det."""
    model, batch = of_options("log-scales")
    terms, _ = model.terms_vjp(*batch)
    scores = log_likelihoods(terms.z, terms.mu, terms.q, batch[1], batch[3] // 2 * 2)
    log_p = (scores * terms.path).sum() + terms.log_det.sum()
    assert np.isclose(terms.losses.mle, -log_p / (terms.frame_mask.sum() * 4), rtol=1e-12)
    assert np.array_equal(terms.path, best_path(scores, batch[1], batch[3] // 2 * 2))


def test_a_duration_of_one_frame_is_not_0():
    w, path = np.zeros((1, 2)), np.array([[[True, False, False], [False, True, True]]])
    loss, pullback = duration_vjp(w, path, np.array([[True, True]]))
    assert np.isclose(loss, (np.log(1 + 1e-8)**2 + np.log(2 + 1e-8)**2) / 2)
    assert np.allclose(pullback(1.0), [[-1e-8, -np.log(2 + 1e-8)]])


def test_far_means_do_not_overflow():
    z, mu, q = np.full((1, 1, 2), 3.0), np.zeros((1, 1, 1)), np.full((1, 1, 1), -400.0)
    mle, pullback = mle_vjp(z, mu, q, np.zeros(1), np.ones((1, 1, 2), bool))
    assert mle == np.inf or mle > 1e300
    del pullback


# -- synthesis --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("total, factor, frames", [(1, 2, 0), (2, 2, 2), (3, 2, 2), (7, 2, 6), (7, 4, 4), (8, 4, 8),
                                                  (0.4, 1, 1)])
def test_lengths_are_rounded_down(total, factor, frames):
    """One position that lasts `total` frames."""
    model = model_of(factor=factor, moved=0)
    last = model.durations.layers[-1]
    last = last.replace(W=0 * last.W, b=[np.log(total) - 1e-9])
    model = dataclasses.replace(model, durations=model.durations.replace(layers=(*model.durations.layers[:-1], last)))
    speech = model.infer(np.array([[3]]), np.array([1]), np.random.default_rng(0))
    assert speech.frame_lengths.tolist() == [frames] and speech.mel.shape == (1, 4, frames)
    assert speech.durations.tolist() == [[max(1, np.ceil(total))]] and speech.path.sum() == frames


def test_synthesis_is_the_decoder_at_the_noise():
    model, (tokens, texts, *_, speakers) = of_options("all")
    speech = model.infer(tokens, texts, np.random.default_rng(3), 0.5, 1.3, speakers)
    u = np.random.default_rng(3).standard_normal(speech.mel.shape)
    mask = np.arange(u.shape[-1]) < speech.frame_lengths[:, None]
    g = model.speaker_vjp(speakers)[0]
    decoder = model.decoder.at(mask=mask, context=g)
    z = np.where(mask[:, None], speech.m + 0.5 * np.exp(speech.s) * u, 0)
    assert np.allclose(decoder.inverse(speech.mel), z, atol=1e-9)
    assert np.array_equal(speech.durations * (np.arange(6) >= texts[:, None]), np.zeros((3, 6)))
    assert (speech.mel[~np.broadcast_to(mask[:, None], speech.mel.shape)] == 0).all()


def test_without_noise_the_generator_does_not_matter():
    model, (tokens, texts, *_) = of_options("plain")
    first, second = (model.infer(tokens, texts, np.random.default_rng(seed), 0.0).mel for seed in (0, 1))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("named, word", [({"noise_scale": -1.0}, "noise_scale"), ({"length_scale": np.inf}, "length_scale"),
                                         ({"length_scale": 1e300}, "frames"), ({"tokens": np.full((3, 6), 11)}, "tokens")])
def test_synthesis_refuses(named, word):
    model, (tokens, texts, *_) = of_options("plain")
    with pytest.raises(ValueError, match=f"GlowTTS.infer.*{word}"):
        model.infer(**{"tokens": tokens, "text_lengths": texts, "rng": np.random.default_rng(0)} | named)


def test_how_long_a_text_may_last():
    half = 2**30
    assert np.array_equal(checked_durations(d := np.array([[half, half - 1], [64, 1]])), d)
    with pytest.raises(ValueError, match=r"fewer than 2\^31 frames; item 1 would last 2.14748e\+09"):
        checked_durations(np.array([[half, 1], [half, half], [1, half]]))


def test_lengths_are_whole_numbers():
    model, (tokens, texts, *_) = of_options("plain")
    with pytest.raises(ValueError, match="GlowTTS.infer: text_lengths must be 3 whole numbers, not float64"):
        model.infer(tokens, texts.astype(float), np.random.default_rng(0))


def test_one_speaker_with_one_channel():
    model = model_of(speakers=1, speaker_channels=1)
    assert model.speakers[0].E.shape == (1, 1)


def test_synthesis_keeps_the_dtype():
    model = model_of(dtype=np.float32)
    batch = batch_of(dtype=np.float32)
    speech = model.infer(*batch[:2], np.random.default_rng(0))
    losses, bars = model.loss_vjp(*batch)
    assert speech.mel.dtype == np.float32 and all(bar.dtype == np.float32 for _, bar in flatten(bars))


# -- initialisation ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["plain", "all", "four"])
def test_initialisation_standardises_every_block(name):
    """At the start couplings are the identity: after each normalisation the valid entries have mean 0 and variance 1."""
    model = model_of(moved=0, **OPTIONS[name])
    batch = batch_of(speakers=3 if model.speakers else 0)
    made = model.initialised(*batch)
    n = model.factor
    f = made.decoder.inner.at(mask=np.arange(16) < (batch[3] // n * n)[:, None])
    f = f.at(context=model.speaker_vjp(batch[4])[0]) if model.speakers else f
    h = f.squeezed(batch[2][..., :16])
    for i, stage in enumerate(f.inner.stages):
        h = stage.forward(h)
        if i % 3 == 0:
            values = np.moveaxis(h, 1, -1)[f.inner.stages[0].mask]
            assert np.allclose(values.mean(0), 0, atol=1e-12) and np.allclose(values.var(0), 1, rtol=1e-9)
    assert not made.decoder.needs("mask") or made.decoder.inner.mask is None
    assert [key for key, _ in flatten(made.params())] == [key for key, _ in flatten(model.params())]


def test_starts_as_the_authors_say():
    rng = np.random.default_rng(0)
    model = glow_tts(rng, 11, 4, **SMALL | VOICES)
    for i, stage in enumerate(model.decoder.inner.inner.stages):
        if i % 3 == 1:
            W = stage.inner.W
            assert np.allclose(W @ W.T, np.eye(4)) and np.linalg.det(W) > 0
    x = rng.standard_normal((2, 4, 6))
    assert np.isclose(np.linalg.norm(x), np.linalg.norm(model.decoder.at(context=np.ones((2, 5))).inverse(x)))
    assert np.abs(model.params()["speakers"]["0"]["E"]).max() <= 0.1


def test_the_authors_size():
    """28,623,889 parameters, 7,199,953 of the text side (systems of the LJ Speech configuration)."""
    model = glow_tts(np.random.default_rng(0), dtype=np.float32)
    sizes = {key: sum(array.size for _, array in flatten(part)) for key, part in model.params().items()}
    assert sizes["decoder"] == 21423936 and sum(sizes.values()) == 28623889


# -- refusals ---------------------------------------------------------------------------------------------------------

def changed(batch, **new):
    names = ("tokens", "texts", "mel", "frames", "speakers")
    return [new.get(name, value) for name, value in zip(names, batch)]


@pytest.mark.parametrize("new, parts", [
    ({"tokens": np.zeros((3, 6))}, ["tokens", "float64"]),
    ({"tokens": np.full((3, 6), 11)}, ["tokens", "0 .. 10", "tokens[0, 0] = 11"]),
    ({"texts": np.array([6, 5])}, ["text_lengths", "3 whole numbers"]),
    ({"texts": np.array([6, 7, 3])}, ["text_lengths", "1 .. 6", "text_lengths[1] = 7"]),
    ({"frames": np.array([17, 14, 18])}, ["frame_lengths", "1 .. 17", "= 18"]),
    ({"frames": np.array([17, 4, 8])}, ["groups of 2", "item 1", "4 and 5"]),
    ({"mel": np.zeros((3, 5, 17))}, ["mel", "(3, 4, J)"]),
    ({"mel": np.full((3, 4, 17), np.inf)}, ["mel must be finite", "mel[0, 0, 0]"]),
    ({"speakers": None}, ["speakers", "3 whole numbers"]),
    ({"speakers": np.array([0, 1, 3])}, ["speakers", "speakers[2] = 3"]),
])
def test_bad_batches_are_refused_by_name(new, parts):
    model, batch = of_options("speakers")
    before = [None if array is None else array.copy() for array in batch]
    with pytest.raises(ValueError, match="GlowTTS.loss") as caught:
        model.loss_vjp(*changed(batch, **new))
    for part in parts:
        assert part in str(caught.value)
    assert all(np.array_equal(a, b) for a, b in zip(batch, before))


def test_masks_of_dropout_of_other_shapes_are_refused():
    model, batch = of_options("plain")
    keeps = model.drawn_keeps(np.random.default_rng(0), batch[0], batch[2][..., :16])
    for wrong in (Keeps(keeps.encoder[:-1], *keeps[1:]), keeps._replace(decoder=[mask[:1] for mask in keeps.decoder])):
        with pytest.raises(ValueError, match="keeps"):
            model.loss_vjp(*batch, wrong)


@pytest.mark.parametrize("options, word", [({"split": 3}, "split"), ({"split": 16}, "split"),
                                           ({"speakers": 2}, "speaker_channels"), ({"heads": 3}, "heads"),
                                           ({"blocks": 0}, "blocks")])
def test_the_builder_refuses(options, word):
    with pytest.raises(ValueError, match=word):
        glow_tts(np.random.default_rng(0), 11, 4, **SMALL | options)


@pytest.mark.parametrize("changes, word", [
    (lambda m: {"decoder": m.decoder.inner}, "decoder"),
    (lambda m: {"decoder": refflow.Inverse(m.decoder.inner.inner)}, "decoder"),
    (lambda m: {"log_scale": (m.mean, m.mean)}, "log_scale"), (lambda m: {"rates": (0.1, 1.0, 0.1)}, "rates"),
    (lambda m: {"rates": (0.1, 0.5)}, "rates")])
def test_other_parts_are_refused(changes, word):
    model = model_of()
    with pytest.raises(ValueError, match=f"GlowTTS: {word}"):
        dataclasses.replace(model, **changes(model))


# -- training ---------------------------------------------------------------------------------------------------------

def corpus_of(count=12, seed=0, broken=False):
    """Utterances in which each symbol sounds for two or three frames."""
    rng, made = np.random.default_rng(seed), []
    for _ in range(count):
        tokens = rng.integers(0, 5, rng.integers(3, 6))
        d = rng.integers(2, 4, len(tokens))
        mel = np.repeat(2 * np.eye(4)[:, tokens % 4] - 1, d, 1) + 0.1 * rng.standard_normal((4, d.sum()))
        made.append(refflow.speech.Utterance("", tokens, 1e200 * mel if broken else mel, 0))
    return refflow.speech.Corpus(tuple(made), tuple("abcde"), ("",), None)


SETTINGS = recipes.glow_tts(8, 40) | {"batch_size": 4}


def trained(steps=30, **named):
    corpus = corpus_of()
    model = model_of(symbols=5, moved=0).initialised(*corpus.batch(range(4)))
    return model, fit_speech(model, corpus, **SETTINGS | {"steps": steps, "rng": np.random.default_rng(1)} | named)


def test_training_lowers_the_loss():
    model, result = trained(60)
    assert result.history["loss"][-5:].mean() < result.history["loss"][:5].mean() / 2 and result.stopped == "steps"
    assert result.history["validation_loss"].min() < result.history["validation_loss"][0]
    assert isinstance(result.flow, GlowTTS) and not result.flow.equals(model)


def test_training_resumes_with_the_same_bits():
    _, whole = trained()
    _, part = trained(callback=lambda info, flow: info["step"] == 11)
    _, rest = trained(resume=part.state)
    assert part.stopped == "callback" and rest.flow.equals(whole.flow)
    assert np.array_equal(rest.history["loss"], whole.history["loss"])


def test_reconstruction_trains_the_same_model():
    _, stored = trained(8)
    _, reversible = trained(8, gradient=SpeechGradient("reversible"))
    assert np.allclose(stored.flow.ravel(), reversible.flow.ravel(), rtol=1e-6, atol=1e-9)


def test_an_interruption_keeps_the_best():
    def interrupt(info, flow):
        if info["step"] == 5:
            raise KeyboardInterrupt

    _, result = trained(callback=interrupt)
    assert result.stopped == "interrupted" and isinstance(result.flow, GlowTTS)


def test_a_checkpoint_is_a_file(tmp_path):
    _, result = trained(5)
    for name in ("model.npz", "model.json"):
        refflow.save(result.flow, tmp_path / name)
        assert refflow.load(tmp_path / name).equals(result.flow)


def test_a_loss_that_is_not_finite_ends_training():
    model = model_of(symbols=5, moved=0)
    with pytest.raises((TrainingError, ValueError)):
        fit_speech(model, corpus_of(broken=True), **SETTINGS, steps=5, rng=np.random.default_rng(0), validation=0)


@pytest.mark.parametrize("named, word", [({"rng": None}, "rng"), ({"steps": 1, "epochs": 1}, "epochs"),
                                         ({"validation": 2}, "validation"), ({"gradient": 3}, "gradient"),
                                         ({"resume": 3}, "resume"), ({"batch_size": 0}, "batch_size"),
                                         ({"validation": 0, "patience": 2}, "patience")])
def test_training_refuses(named, word):
    with pytest.raises(ValueError, match=word):
        trained(**{"steps": 1} | named)


def test_training_refuses_a_flow():
    with pytest.raises(ValueError, match="GlowTTS"):
        fit_speech(refflow.Tanh(), corpus_of(), rng=np.random.default_rng(0))


# -- files of parts with speakers --------------------------------------------------------------------------------------

def as_file(names, params, prefix):
    """{their name: array in their shape}."""
    found = {}
    for name, path in names.items():
        array = tree.at_path(params, path)
        of_channels = name.endswith("logs") or name.count(".") == 2 and name.endswith(".bias")
        shape = (-1, 1, 1) if name.endswith("weight_g") else (1, -1, 1) if of_channels else array.shape
        found[prefix + name] = array.reshape(shape)
    return found


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("frames", [10, 11])
def test_reads_a_decoder_of_several_speakers(frames, dropped, monkeypatch):
    """Their networks see vectors as given, of any length; an incomplete group of frames is cut off."""
    rng = np.random.default_rng(6)
    config = {"cls": "models.FlowSpecDecoder", "in_channels": 4, "hidden_channels": 6, "kernel_size": 3, "dilation_rate": 2,
              "n_blocks": 2, "n_layers": 2, "p_dropout": 0.25, "n_split": 4, "n_sqz": 2, "sigmoid_scale": True,
              "gin_channels": 3}
    f = decoder_of(rng, 4, 2, 6, 2, 3, 2, True, speaker_channels=3).inner
    f = f.unravel(f.ravel() + 0.1 * rng.standard_normal(f.ravel().size))
    params, names, lengths = f.params(), theirs_of.of_decoder(2, 2, True), np.array([10, 8])
    x, g, m, logs = (rng.standard_normal(shape) for shape in ((2, 4, frames), (2, 3, 1), (2, 4, frames), (2, 4, frames)))
    mask = np.arange(frames) < lengths[:, None]
    m, logs = (np.where(mask[:, None], array, 0) for array in (m, logs))
    keeps = rng.random((4, 2, 12, 5)) < 0.75
    f = with_dropout(f, keeps, 0.25) if dropped else f
    f = of_unit_vectors(f, 3).at(mask=mask[:, :10], context=g[..., 0])
    (z, log_det), pullback = f.vjp(x[..., :10])
    r, count = (z - m[..., :10]) * np.exp(-logs[..., :10]), 4 * lengths.sum()
    x_bar, bars = pullback(r * np.exp(-logs[..., :10]) / count, np.full(2, -1 / count))
    loss = (logs.sum() + (r * r).sum() / 2 - log_det.sum()) / count + np.log(2 * np.pi) / 2
    file = as_file(names, params, "param/") | as_file(names, bars, "grad/")
    file |= {"in/x": x, "in/g": g, "in/m": m, "in/logs": logs, "in/mask": mask[:, None] * 1.0, "in/lengths": lengths,
             "in/z_for_reverse": x, "out/z": z, "out/logdet": log_det, "out/loss": np.float64(loss),
             "out/reverse_of_z": f.inverse(z), "out/reverse_of_z_for_reverse": f.inverse(x[..., :10]),
             "gradin/x": np.pad(x_bar, ((0, 0), (0, 0), (0, frames - 10))), "gradin/g": bars["context"][..., None]}
    started = f.initialised(x[..., :10], rng)
    file |= as_file({name: path for name, path in names.items() if name.endswith("logs")}, started.params(), "ddi/")
    file["ddi/z"] = started.forward(x[..., :10])
    file |= {f"keep/{i}": keep for i, keep in enumerate(keeps)} if dropped else {}
    monkeypatch.setattr(theirs_of, "numbers", lambda name: (config, comparison.Numbers(file)))
    found, unanswered = theirs_of.read("made")
    assert unanswered == [] and all(original.passes(value) for value in found.values()), found
    assert "gradient of speaker" in found


# -- the tuned network and its page -----------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype, most", [(np.float64, 1e-12), (np.float32, 1e-4)])
@pytest.mark.parametrize("size", [1.0, 1e-25, 1e25])
@pytest.mark.parametrize("kernel, rate, context", [(3, 2, 0), (4, 1, 2), (1, 1, 2), (5, 3, 0)])
@pytest.mark.parametrize("mask", [None, HOLES, HOLES[:, ::-1]], ids=["none", "holes", "late"])
def test_the_tuned_network_is_its_page(mask, kernel, rate, context, size, dtype, most):
    rng = np.random.default_rng(7)
    net = wave_net_coupling_network(rng, 3, 4, 6, 3, kernel, rate, context)
    net = net.unravel(net.ravel() + 0.1 * rng.standard_normal(net.ravel().size))
    first, wave, last = net.layers
    wave = wave.replace(res_skips=[layer.replace(v=size * layer.v) for layer in wave.res_skips])
    net = with_dropout(net.replace(layers=(first, wave, last)), rng.random((3, 3, 8, 6)) < 0.75, 0.25)
    net = net.at(mask=mask, **{"context": rng.standard_normal((3, context))} if context else {}).astype(dtype)
    a, h_bar = rng.standard_normal((3, 3, 6)).astype(dtype), rng.standard_normal((3, 6, 6)).astype(dtype)
    a = a if mask is None else np.where(mask[:, None], a, dtype(0))
    view = net.unchecked(dtype)
    assert TunedNetwork.takes(view)
    is_its_page(tree.copied(view, TunedNetwork), view, a, h_bar, most)


def is_its_page(tuned, view, a, h_bar, most=1e-12):
    """Images and cotangents of tuned code are the page's."""
    with np.errstate(all="ignore"):
        (h, pullback), (again, tuned_pullback) = view.vjp(a), tuned.vjp(a)
        (a_bar, bars), (tuned_bar, tuned_bars) = pullback(h_bar), tuned_pullback(h_bar)
        assert np.array_equal(tuned.forward(a), again)
    assert np.allclose(again, h, rtol=most, atol=most) and np.allclose(tuned_bar, a_bar, rtol=most, atol=most)
    bars, tuned_bars = dict(flatten(bars)), dict(flatten(tuned_bars))
    assert bars.keys() == tuned_bars.keys()
    for path, bar in bars.items():
        assert np.allclose(tuned_bars[path], bar, rtol=most, atol=most * max(np.abs(bar).max(), 1e-30)), path


def test_a_tuned_network_without_dropout_is_its_page():
    rng = np.random.default_rng(8)
    net = wave_net_coupling_network(rng, 3, 4, 6, 2, 3)
    net = net.unravel(net.ravel() + 0.1 * rng.standard_normal(net.ravel().size))
    first, wave, last = net.layers
    wave = wave.replace(in_layers=[layer.layers[0] for layer in wave.in_layers])
    view = net.replace(layers=(first, wave, last)).at(mask=HOLES).unchecked(np.float64)
    a = masked(rng.standard_normal((3, 3, 6)), HOLES)
    is_its_page(tree.copied(view, TunedNetwork), view, a, rng.standard_normal((3, 6, 6)))


@pytest.mark.parametrize("mask", [None, HOLES], ids=["none", "holes"])
@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_a_tuned_convolution_is_its_page(kernel, mask):
    rng = np.random.default_rng(9)
    layer = Conv1d(rng.standard_normal((4, 3, kernel)), rng.standard_normal(4), dilation=2).at(mask=mask)
    view = layer.unchecked(np.float64)
    tuned = with_tuned_layers(view)
    assert type(tuned) is TunedConvolution
    is_its_page(tuned, view, masked(rng.standard_normal((3, 3, 6)), mask), rng.standard_normal((3, 4, 6)))


@pytest.mark.parametrize("size, N", [(1.0, 5), (2.0**600, 5), (1.0, 2)], ids=["plain", "huge", "pairs"])
def test_a_tuned_layer_normalisation_is_its_page(size, N):
    """By the formula, and by the page where squares overflow, and for pairs, where the difference cancels."""
    rng = np.random.default_rng(10)
    layer = LayerNorm(rng.standard_normal(N), rng.standard_normal(N))
    view = Positionwise(layer).at(mask=HOLES).unchecked(np.float64)
    tuned = with_tuned_layers(view)
    assert type(tuned.layer) is TunedLayerNorm
    is_its_page(tuned, view, masked(size * rng.standard_normal((3, N, 6)), HOLES), rng.standard_normal((3, N, 6)))


def test_other_networks_are_left_alone():
    rng = np.random.default_rng(0)
    net = wave_net_coupling_network(rng, 3, 4, 6, 2, 3)
    wide = net.replace(layers=(Conv1d(np.ones((4, 3, 3))), *net.layers[1:]))
    assert not TunedNetwork.takes(wide) and not TunedNetwork.takes(Sequential((Conv1d(np.ones((6, 3, 1))),)))


def test_a_tuned_network_that_forgets_what_is_valid_is_found(monkeypatch):
    right = Columns.__init__

    def wrong(self, *arguments):
        right(self, *arguments)
        self.valid = np.ones_like(self.valid)

    model, batch = of_options("plain")
    _, bars = model.loss_vjp(*batch)
    monkeypatch.setattr(Columns, "__init__", wrong)
    _, tuned = SpeechGradient()(model, batch)
    assert not all(np.allclose(a, b, rtol=1e-6) for (_, a), (_, b) in zip(flatten(bars), flatten(tuned)))
