"""A TarFlow written in torch from the paper's equations, and the mistakes that people make in one: each is found, and told where."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from refflow.core import Chain, tree
from refflow.maps.conditioners import RelativeAttention, Rotary, Sequential, context_of_classes, rotary_angles
from refflow.models.tarflow import tarflow, tarflow_block
from refflow.oracle.boxes.black_box_laws import verdict
from refflow.testing import BlackBox

torch = pytest.importorskip("torch", reason="torch is missing: pip install -e '.[peers]'")
theirs = pytest.importorskip("validation.bench.torch_scripts.torch_tarflow")
T, F = 3, 2
BACK, BY_DIFFERENCES, EMPTY = "inverse of forward", "log-det is the determinant of differences", "an empty batch is empty"


class CausalLeak(theirs.Block):
    """Tokens see all tokens: the mask is missing."""

    def seen(self, T):
        return torch.ones(T, T, dtype=torch.bool)


class ShiftedMask(theirs.Block):
    """Tokens see the token after them, whose scale and shift they make."""

    def seen(self, T):
        return torch.ones(T, T, dtype=torch.bool).tril(1)


class NarrowMask(theirs.Block):
    """The same, to the other side: a token does not see itself, and the first one sees itself alone."""

    def seen(self, T):
        return torch.ones(T, T, dtype=torch.bool).tril(-1) | (torch.arange(T) == 0).diag()


class MeanLogDet(theirs.Block):
    """A mean over tokens and features, as in the authors' loss."""

    def log_det(self, a):
        return -a.mean((1, 2))


class LogDetWithoutTheLast(theirs.Block):
    def log_det(self, a):
        return -a[:, :-1].sum((1, 2))


class SamplesWithoutTheLast(theirs.Block):
    """A loop over T - 1 tokens: the last one stays as it is."""

    def inverse(self, z):
        return torch.cat((super().inverse(z)[:, :-1], z[:, -1:]), 1)


class Rotated(theirs.Block):
    """Queries and keys turn by their positions, in pairs of neighbours (arXiv:2104.09864)."""

    def rotated(self, q):
        w = torch.tensor(angles(q.shape[-1], q.shape[-2]).T)
        first, second = q[..., 0::2], q[..., 1::2]
        return torch.stack((first * w.cos() - second * w.sin(), first * w.sin() + second * w.cos()), -1).flatten(-2)


class WrongPair(Rotated):
    """The first half of the channels is paired with the second one, with weights that were trained for neighbours."""

    def rotated(self, q):
        d = q.shape[-1]
        halves = q[..., torch.arange(d).reshape(2, -1).T.flatten()]
        return super().rotated(halves)


def angles(size, tokens):
    return rotary_angles(np.arange(tokens)[None], [size // 2])


def with_rotary(f, size):
    """The block with rotary positions before its attention."""
    def turned(path, value):
        if not isinstance(value, Sequential) or not any(isinstance(layer, RelativeAttention) for layer in value.layers):
            return {}
        norm, qkv, *rest = value.layers
        return {"layers": (norm, qkv, Rotary(angles(size, T), 2 * len(qkv.layer.b) // 3), *rest)}

    return tree.remade(f, turned)


def weights(channels=4, size=4, rotary=False, reverse=False, seed=0):
    """A block of ours, as a chain of its stages; its weights are moved, as it is built it does not read its tokens."""
    rng = np.random.default_rng(seed)
    stages = tarflow_block(rng, F, T, channels, 1, reverse=reverse, head_size=size)
    f = Chain([with_rotary(stage, size) if rotary and hasattr(stage, "net") else stage for stage in stages])
    return f.unravel(f.ravel() + 0.3 * rng.standard_normal(f.ravel().shape))


def box_of(kind, ours=None, reverse=False):
    """Their block with the weights of ours.  With `ours`, the inverse is ours too: then the two are held to each other."""
    f = ours or weights(reverse=reverse)
    block = theirs.with_weights(theirs.autoregressive(f)[0], kind, reverse)
    back = block.inverse if ours is None else lambda z: torch.tensor(theirs.tokens_of(f.inverse(theirs.vectors_of(z.numpy())), T))
    return BlackBox(block, back, event=(T, F), parameters=block.parameters)


def holds(law, box):
    found = verdict(law, box)
    assert found.status == "pass", found


# -- the right one ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("reverse", [False, True])
def test_the_laws_hold(reverse):
    """`refflow.check(box)` asks the other laws too."""
    for law in (BACK, BY_DIFFERENCES, "log-det shape", "batch is the stack of singles", EMPTY):
        holds(law, box_of(theirs.Block, reverse=reverse))


@pytest.mark.parametrize("kind", [theirs.Block, Rotated])
def test_our_inverse_is_the_inverse_of_their_forward(kind):
    holds(BACK, box_of(kind, weights(rotary=kind is Rotated)))


@pytest.mark.parametrize("classes", [0, 3])
def test_a_whole_flow_has_our_numbers(classes):
    """Given one class, too."""
    f = tarflow(np.random.default_rng(0), (3, 4, 4), 2, 8, 3, 2, head_size=4, classes=classes).bijector.inner
    f = f.unravel(f.ravel() + 0.1 * np.random.default_rng(1).standard_normal(f.ravel().shape))
    f = f.at(context=context_of_classes([2], classes)) if classes else f
    x = np.random.default_rng(2).uniform(-1, 1, (5, 3, 4, 4))
    model = theirs.of_flow(f)
    tokens = torch.tensor(theirs.tokens_of(Chain(f.stages[:2]).forward(x), 4))
    with torch.no_grad():
        z, log_det = model(tokens)
        assert (model.inverse(z) - tokens).abs().max() < 1e-13
    ours, expected = f.forward_and_log_det(x)
    assert np.abs(theirs.vectors_of(z.numpy()) - ours).max() < 1e-13 and np.abs(log_det.numpy() - expected).max() < 1e-13


# -- mistakes ---------------------------------------------------------------------------------------------------------

# the mistake: the law that finds it, words of the text, the name
MISTAKES = {
    CausalLeak: (BACK, "of inverse(forward(z)) at",
                 "entry (1, 0) of the image reads entry (2, 1) of the latent, which the inverse does not undo"),
    ShiftedMask: (BACK, "of inverse(forward(z)) at",
                  "entry (1, 0) of the image reads entry (1, 1) of the latent, which the inverse does not undo"),
    MeanLogDet: (BY_DIFFERENCES, "and of differences of forward", "not summed over the event: the mean over its entries"),
    LogDetWithoutTheLast: (BY_DIFFERENCES, "and of differences of forward", "the terms of the entries [2, :] are left out"),
    SamplesWithoutTheLast: (BACK, f"entry ({T - 1}, 0) of inverse(forward(z)) at",
                            "entry (2, 1) of the image reads entry (0, 0) of the latent, which the inverse does not undo"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_found(kind):
    law, told, name = MISTAKES[kind]
    found = verdict(law, box_of(kind))
    assert found.status == "FAIL" and told in found.text and found.diagnosis == name, found


@pytest.mark.parametrize("kind", [CausalLeak, ShiftedMask])
def test_the_event_tells_which_entry_reads_which_token(kind):
    """All tokens of the simplest event are 0 but one.  The entry that does not come back has read it, though it is not before the entry."""
    text = verdict(BACK, box_of(kind)).text
    entry, event = re.match(r"entry \((\d+), \d+\) of inverse\(forward\(z\)\) at (\[\[.*?\]\]) ", text).groups()
    read, = np.flatnonzero(np.any(json.loads(event), 1))
    assert read >= int(entry), text


@pytest.mark.parametrize("kind", [NarrowMask, WrongPair])
def test_a_flow_with_a_mistake_is_another_flow(kind):
    """It has an inverse and the right log-det: no law is broken.  Our map of the same weights is another one."""
    ours = weights(rotary=kind is WrongPair)
    for law in (BACK, BY_DIFFERENCES):
        holds(law, box_of(kind))
    found = verdict(BACK, box_of(kind, ours))
    assert found.status == "FAIL" and re.match(r"entry \([12], \d\) of inverse\(forward\(z\)\) at", found.text), found


def test_a_reshape_that_does_not_know_the_heads_is_found(monkeypatch):
    """-1 of nothing is ambiguous: an empty batch raises."""
    monkeypatch.setattr(theirs.Layer, "size", lambda self, C: -1)
    found = verdict(EMPTY, box_of(theirs.Block))
    assert found.status == "FAIL" and "raised RuntimeError: cannot reshape" in found.text


# -- from the command line --------------------------------------------------------------------------------------------

FILE = """
import torch
from refflow.testing import BlackBox
from validation.bench.torch_scripts.torch_tarflow import Block, TarFlow

class Mine(Block):
    def log_det(self, a):
        return -a.{added}((1, 2))

torch.manual_seed(0)
flow = TarFlow([Mine(features=2, tokens=3, channels=4, heads=1, layers=1)]).double()
mine = BlackBox(flow, flow.inverse, event=(3, 2), parameters=flow.parameters)
"""


@pytest.mark.parametrize("added, status", [("sum", 0), ("mean", 1)])
def test_a_file_of_less_than_twenty_lines(run, added, status):
    assert len(FILE.strip().splitlines()) < 20
    Path("mine.py").write_text(FILE.format(added=added))
    found, out, err = run("check", "mine.py")
    assert found == status and err.endswith(" CPU seconds\n") and err.count("\n") == 1, out
    assert ("not summed over the event: the mean over its entries" in out) == bool(status)
