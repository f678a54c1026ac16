"""A convolution with bounded norm: power iteration, the bounds that are proved, and sizes of images."""

from __future__ import annotations

import numpy as np
import pytest

from refflow import Conv2d, SpectralConv2d, SpectralDense
from refflow.laws.conditioner_laws import NetworkPoints, run_network_laws
from refflow.maps.conditioners import spectral_conv2d
from refflow.maps.conditioners.spectral_conv2d import norm_of_all_sizes
from refflow.maps.conditioners.spectral_dense import Bounded, unit

RNG = np.random.default_rng(7)


def drawn(kernel=(3, 3), image=(5, 4), outputs=3, inputs=2, coefficient=0.9, batch=()):
    rng = np.random.default_rng(7)
    u, v = (unit(rng.standard_normal((*batch, size, *image)), None, 3) for size in (outputs, inputs))
    return SpectralConv2d(rng.standard_normal((outputs, inputs, *kernel)), rng.standard_normal(outputs), u, v, coefficient)


def matrix(W, image):
    """The convolution as a matrix, from the images of unit vectors."""
    size = W.shape[1] * image[0] * image[1]
    images = Conv2d(W, None).forward(np.eye(size).reshape(size, W.shape[1], *image))
    return images.reshape(size, -1).T


def estimate(net):
    return net.u.ravel() @ matrix(net.W, net.u.shape[1:]) @ net.v.ravel()


@pytest.mark.parametrize(("kernel", "image"), [((3, 3), (5, 4)), ((2, 4), (3, 5)), ((1, 3), (1, 6)), ((1, 1), (1, 1))])
def test_power_iteration_rises_to_the_norm_from_below(kernel, image):
    net = drawn(kernel, image)
    norm, last = np.linalg.norm(matrix(net.W, image), 2), -np.inf
    for _ in range(20):
        net = net.iterated(40)
        assert last * (1 - 2.0**-48) <= estimate(net) <= norm * (1 + 2.0**-48)
        last = estimate(net)
    assert last == pytest.approx(norm, rel=2.0**-40)
    assert net.lipschitz() == pytest.approx(0.9, rel=2.0**-40)
    assert np.allclose(net.jacobian(np.zeros((2, *image))), 0.9 / norm * matrix(net.W, image), rtol=2.0**-38, atol=2.0**-45)


def test_steps_of_iteration_may_be_taken_in_parts():
    net = drawn()
    at_once, in_parts = net.iterated(5), net.iterated(2).iterated(3)
    assert np.array_equal(at_once.u, in_parts.u) and np.array_equal(at_once.v, in_parts.v)
    assert net.iterated(0).equals(net)


def test_kernels_of_one_entry_are_the_dense_layer_at_each_position():
    net, image = drawn((1, 1), (1, 1)).iterated(3), RNG.standard_normal((2, 4, 3))
    dense = SpectralDense(net.W[:, :, 0, 0], net.b, net.u[:, 0, 0], net.v[:, 0, 0], 0.9)
    assert np.allclose(net.forward(image), np.moveaxis(dense.forward(np.moveaxis(image, 0, -1)), -1, 0), rtol=2.0**-48)
    assert net.lipschitz() == pytest.approx(dense.lipschitz(), rel=2.0**-48)
    assert np.allclose(net.iterated(4).v[:, 0, 0], dense.iterated(4).v, rtol=2.0**-48)


def test_below_the_bound_it_is_a_convolution():
    net = drawn().replace(coefficient=1e6)
    conv, images, h_bar = Conv2d(net.W, net.b), RNG.standard_normal((2, 2, 5, 4)), RNG.standard_normal((2, 3, 5, 4))
    (h, pullback), (expected, of_conv) = net.vjp(images), conv.vjp(images)
    assert np.array_equal(h, expected)
    assert np.array_equal(pullback(h_bar)[0], of_conv(h_bar)[0]) and np.array_equal(pullback(h_bar)[1]["W"], of_conv(h_bar)[1]["W"])


@pytest.mark.parametrize("kernel", [(1, 1), (1, 3), (2, 2), (3, 3), (5, 2)])
def test_one_bound_holds_for_images_of_all_sizes(kernel):
    """It is above the norms of small images, which rise with the image, and near the norms of large ones."""
    W = RNG.standard_normal((3, 2, *kernel))
    norms = [np.linalg.norm(matrix(W, (n, n)), 2) for n in (1, 2, 4, 8, 16)]
    assert all(a <= b * (1 + 2.0**-45) for a, b in zip(norms, norms[1:]))
    bound = norm_of_all_sizes(W)
    assert norms[-1] <= bound * (1 + 2.0**-45) and bound < 1.12 * norms[-1]


def test_a_bound_between_the_frequencies_is_a_bound(monkeypatch):
    """All frequencies that are asked miss the largest value of a kernel with a phase; the division makes up for it."""
    for steps in (1, 2, 16):
        monkeypatch.setattr(spectral_conv2d, "GRID", steps)
        f = 0.5 / (3 * steps)                   # halfway between two frequencies
        W = np.cos(2 * np.pi * f * np.arange(3) + np.linspace(0, 1, 7)[:, None])[:, None, None]
        exact = max(np.linalg.norm(np.exp(-2j * np.pi * g * np.arange(3)) @ W[:, 0, 0].T) for g in np.linspace(0, 1, 20001))
        assert exact <= norm_of_all_sizes(W) * (1 + 2.0**-45)


def test_a_large_layer_is_bounded_by_frequencies(monkeypatch):
    net = drawn(coefficient=0.5).iterated(300)
    exact = net.lipschitz()
    monkeypatch.setattr(spectral_conv2d, "MOST", 0)
    assert exact < net.lipschitz() < 1.3 * exact


def test_vectors_of_a_batch_bound_each_event():
    nets, images, h_bar = drawn(batch=(4,), coefficient=0.1), RNG.standard_normal((4, 2, 5, 4)), RNG.standard_normal((4, 3, 5, 4))
    A_dot, H_bar = RNG.standard_normal((4, 2, 5, 4, 2)), RNG.standard_normal((4, 3, 5, 4, 2))
    each = [nets.replace(u=u, v=v) for u, v in zip(nets.u, nets.v)]
    assert np.allclose(nets.forward(images), [net.forward(a) for net, a in zip(each, images)])
    W_bar = sum(net.vjp(a)[1](bar)[1]["W"] for net, a, bar in zip(each, images, h_bar))
    assert np.allclose(nets.vjp(images)[1](h_bar)[1]["W"], W_bar)
    W_bar = sum(net.jvp(a, A)[1](bar, H)[2]["W"] for net, a, A, bar, H in zip(each, images, A_dot, h_bar, H_bar))
    assert np.allclose(nets.jvp(images, A_dot)[1](h_bar, H_bar)[2]["W"], W_bar)
    assert np.allclose(nets.iterated(3).u, [net.iterated(3).u for net in each])
    assert nets.lipschitz() == pytest.approx(max(net.lipschitz() for net in each), rel=2.0**-40)


def test_larger_images_are_refused():
    net = drawn((1, 3), (2, 4))
    assert net.forward(np.ones((2, 7, 4))).shape == (3, 7, 4) and net.forward(np.ones((2, 1, 2))).shape == (3, 1, 2)
    with pytest.raises(ValueError, match="its images have at most Y=2 by X=4 positions"):
        net.forward(np.ones((2, 2, 5)))


def without_the_norm(self, V_bar, k=0):
    """The norm is taken for a constant."""
    return V_bar * np.where(self.s > self.c, self.c / self.s, 1)


PLANTED = {"pullback is the gradient": (Bounded, "of_weights", without_the_norm),
           "jvp's pullback is the gradient": (spectral_conv2d, "stacked", lambda image, columns: stacked(image, 0 * columns)),
           "it stretches by no more than it says": (SpectralConv2d, "lipschitz", lambda self: self.coefficient)}
stacked = spectral_conv2d.stacked


@pytest.mark.parametrize("law", PLANTED)
def test_a_planted_bug_is_found(law, monkeypatch):
    monkeypatch.setattr(*PLANTED[law])
    net = drawn(image=(2, 3)).iterated(2)
    points = NetworkPoints(net, RNG.standard_normal((2, 2, 2, 3)), RNG.standard_normal((2, 3, 2, 3)))
    with pytest.raises(AssertionError) as caught:
        run_network_laws(net, points, lambda name: name == law)
    assert law in str(caught.value), str(caught.value)
