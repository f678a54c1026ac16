"""Maps of FrEIA: modules of vectors and of images at random weights, and sequences of them.

A residual layer has a log-det by a random series, and is left out.  The weights of OrthogonalTransform are not free: steps of training
draw them to an orthogonal matrix.
"""

from __future__ import annotations

import functools

import FrEIA.framework
import FrEIA.modules as m
import torch
from torch import nn

from .entry import UNIT, normal
from .in_torch import module, one

COUPLINGS = ("NICECouplingBlock", "RNVPCouplingBlock", "GLOWCouplingBlock", "GINCouplingBlock", "AffineCouplingOneSided")
IMAGE = (4, 2, 2)


def net(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 16), nn.Tanh(), nn.Linear(16, outputs))


def convolution(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, outputs, 1))


def side(rev):
    """A direction of a module, which takes and returns lists."""
    def call(of, event):
        (image,), log_det = of([event], rev=rev)
        return image, torch.as_tensor(log_det, dtype=image.dtype).expand(len(event))

    return call


def sides(of):
    return tuple(functools.partial(side(rev), of) for rev in (False, True))


def layer(name, make, event, **more):
    return module(name, make, event, side(False), more.pop("inverse", side(True)), **more)


def block(**more):
    return m.AllInOneBlock([(4,)], subnet_constructor=net, **more)


def matrix(size):
    return torch.eye(size) + torch.randn(size, size) / 4


def scaling(s):
    """With a given logarithm of its scale, which a module does not take."""
    made = m.LearnedElementwiseScaling([(1,)])
    del made.s
    made.s = s.reshape(1, 1)
    return made


def initialised_act_norm():
    made = m.ActNorm([(3,)])
    made([torch.randn(64, 3)])
    return made


def sequence(name, count, block, **more):
    """`count` blocks in the framework's sequence, which takes and returns tensors."""
    def make():
        made = FrEIA.framework.SequenceINN(4)
        for _ in range(count):
            made.append(block, subnet_constructor=net, **more)
        return made

    return module(f"SequenceINN of {name}", make, (4,), *(lambda of, event, rev=rev: of(event, rev=rev) for rev in (False, True)))


def maps():
    for name in COUPLINGS:
        yield layer(name, lambda name=name: getattr(m, name)([(4,)], subnet_constructor=net), (4,))
    yield layer("GLOWCouplingBlock [TANH]", lambda: m.GLOWCouplingBlock([(4,)], subnet_constructor=net, clamp_activation="TANH"), (4,))
    yield layer("GLOWCouplingBlock of images", lambda: m.GLOWCouplingBlock([IMAGE], subnet_constructor=convolution), IMAGE)
    yield layer("AllInOneBlock", block, (4,))
    yield layer("AllInOneBlock [GIN]", lambda: block(gin_block=True), (4,))
    yield layer("AllInOneBlock [permute_soft]", lambda: block(permute_soft=True), (4,))
    yield layer("AllInOneBlock [Householder]", lambda: block(learned_householder_permutation=2), (4,))
    yield layer("AllInOneBlock [reverse_permutation]", lambda: block(reverse_permutation=True), (4,))
    yield layer("ActNorm", initialised_act_norm, (3,))
    yield layer("PermuteRandom", lambda: m.PermuteRandom([(4,)], seed=1), (4,))
    yield layer("FixedLinearTransform", lambda: m.FixedLinearTransform([(3,)], M=matrix(3), b=torch.randn(3)), (3,))
    yield layer("Fixed1x1Conv", lambda: m.Fixed1x1Conv([(3, 2, 2)], M=matrix(3)), (3, 2, 2))
    yield one("InvertibleSigmoid", lambda: sides(m.InvertibleSigmoid([(1,)])), event=(1,), codomain=UNIT)
    yield layer("InvAutoAct", lambda: m.InvAutoAct([(3,)]), (3,))
    yield layer("InvAutoActTwoSided", lambda: m.InvAutoActTwoSided([(3,)]), (3,))
    yield layer("OrthogonalTransform", lambda: m.OrthogonalTransform([(4,)]), (4,), shaken=0.0, parameters=None)
    yield layer("HouseholderPerm", lambda: m.HouseholderPerm([(4,)], n_reflections=2), (4,))
    yield one("LearnedElementwiseScaling", lambda s: sides(scaling(s)), normal(), event=(1,))
    yield layer("IRevNetDownsampling", lambda: m.IRevNetDownsampling([(1, 4, 4)]), (1, 4, 4))
    yield layer("IRevNetDownsampling [legacy_backend]", lambda: m.IRevNetDownsampling([(1, 4, 4)], legacy_backend=True), (1, 4, 4))
    yield layer("IRevNetUpsampling", lambda: m.IRevNetUpsampling([(4, 2, 2)]), (4, 2, 2))
    yield layer("HaarDownsampling", lambda: m.HaarDownsampling([(1, 4, 4)]), (1, 4, 4))
    yield layer("HaarDownsampling [rebalance]", lambda: m.HaarDownsampling([(1, 4, 4)], rebalance=0.5), (1, 4, 4))
    yield layer("HaarUpsampling", lambda: m.HaarUpsampling([(4, 2, 2)]), (4, 2, 2))
    yield layer("Flatten", lambda: m.Flatten([(2, 3)]), (2, 3))
    yield layer("Reshape", lambda: m.Reshape([(2, 3)], output_dims=(3, 2)), (2, 3))
    yield layer("RNVPCouplingBlock of images", lambda: m.RNVPCouplingBlock([IMAGE], subnet_constructor=convolution), IMAGE)
    yield layer("AllInOneBlock of images", lambda: m.AllInOneBlock([IMAGE], subnet_constructor=convolution), IMAGE)
    yield sequence("AllInOneBlock", 4, m.AllInOneBlock)
    yield sequence("AllInOneBlock [permute_soft]", 2, m.AllInOneBlock, permute_soft=True)
    yield sequence("RNVPCouplingBlock", 2, m.RNVPCouplingBlock)
