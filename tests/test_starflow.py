"""STARFlow: its authors' numbers, torch's for other settings, masks, positions, gradients, guidance, Jacobi's iteration, refusals."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import starflow_port
from authors_files import changed, far, read_made, renamed
from flows import (check_inverse_and_log_det, check_leaks_are_refused, check_saved, check_single_precision, moved, tempered_attention,
                   with_moved_bijector, worst_slope)
from refflow.core import Chain, tree
from refflow.laws.pages import equations
from refflow.maps.conditioners import Delay, PrefixedNetwork, RelativeAttention, Sequential, at_temperature, soft_clip, transformer
from refflow.models import starflow as starflow_flow
from refflow.models.starflow import (Jacobi, by_jacobi, denoised_by_network, denoiser_target, frames_seen, given_text, guided,
                                     image_as_video, images_of, loss_vjp, norm_vjp, own_map, positions, readers, regularised_loss_vjp,
                                     scale_and_shift, slopes_vjp, starflow, starflow_block, starflow_denoiser, token_log_dets,
                                     video_as_image)
from validation.original import starflow as authors

model_page = sys.modules["refflow.models.starflow"]
RNG = np.random.default_rng
SMALL = {"patch": 2, "channels": 6, "layers": (1, 1), "heads": 2, "head_size": 4, "expansion": 2, "clip": 0}
TEXT = {"text": (3, 2), "head_size": 20}
SETTINGS = {"an image": {}, "exponentials": {"scale": "exp", "clip": 2.0, "final_norm": False}, "no start token": {"start": False},
            "a text": TEXT, "a text everywhere": TEXT | {"text_everywhere": True, "order": "R2L", "clip": 1.0},
            "a video": {"frames": 2, "within_frames": True, "head_size": 20},
            "nothing deep": {"layers": (1, 0)},
            "a video, frame by frame": TEXT | {"frames": 2, "within_frames": True, "local": True, "layers": (1, 0, 1)},
            "a language model's layers": {"key_heads": 1, "norm": "root mean square", "query_key_norm": True, "norm_after": True,
                                          "gated": True, "split_pairs": True, "line": True, "expansion": 1.5}}


def small(name="an image", dtype=np.float64, **given):
    return with_moved_bijector(starflow(RNG(0), (1, 4, 4), **SMALL | SETTINGS[name] | given, dtype=dtype), 0.2)


def text(count=3, width=3, length=2, seed=7, dtype=np.float64):
    return RNG(seed).standard_normal((count, width, length)).astype(dtype)


def made(name, dtype=np.float64, **given):
    """(a flow given its text, if it reads one, and images of it)."""
    flow = small(name, dtype, **given)
    x = RNG(1).standard_normal((3, 1, 4 * max(1, SETTINGS[name].get("frames", 0)), 4)).astype(dtype)
    return given_text(flow, text(dtype=dtype)) if readers(flow) else flow, x


def test_every_equation_is_cited():
    assert equations(model_page) == []


# -- the flow ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", SETTINGS)
def test_the_flow_is_inverted_and_its_log_det_is_that_of_its_jacobian(name):
    check_inverse_and_log_det(*made(name))


@pytest.mark.parametrize("name", ["a text", "a language model's layers"])
def test_a_float32_flow_is_the_float64_one_to_its_digits(name):
    check_single_precision(*made(name, np.float32))


@pytest.mark.parametrize("name", SETTINGS)
def test_log_dets_of_tokens_add_up(name):
    flow, x = made(name)
    of_tokens = token_log_dets(flow, x)
    assert len(of_tokens) == 2 - (name == "nothing deep") and all(one.shape[-2] == 4 for one in of_tokens)
    total = sum(one.reshape(3, -1).sum(-1) for one in of_tokens)
    assert np.abs(total - flow.bijector.inverse_and_log_det(x)[1]).max() < 1e-13


def test_without_a_start_token_the_first_token_stays():
    flow, x = made("no start token")
    deep = token_log_dets(flow, x)[-1]
    assert not deep[..., 0].any() and deep[..., 1:].all()
    assert token_log_dets(*made("an image"))[-1].all()


@pytest.mark.parametrize("scale", ["exp", "softplus"])
def test_the_start_is_the_authors(scale):
    """Before training, the last bias alone shifts and scales, and a bias of 0 leaves a scale of 1."""
    f, = starflow_block(RNG(0), 2, (2, 2), 16, 1, head_size=4, scale=scale, clip=0)
    layers = f.net.net.net.layers
    assert isinstance(layers[0], Delay) and layers[0].start.shape == (2,)
    assert not layers[-1].layer.W.any() and 0 < np.abs(layers[-1].layer.b).max() <= 1 / 4
    still = f.replace(net={"net": {"net": {"layers": {"3": {"layer": {"b": np.zeros(4)}}}}}})
    z = RNG(1).standard_normal((3, 8))
    assert np.array_equal(still.forward_and_log_det(z)[0], z) and not still.log_det(z).any()
    assert starflow_flow is starflow


def test_a_flow_comes_back_from_a_file(tmp_path):
    for name in ("a text everywhere", "a video, frame by frame", "a language model's layers"):
        check_saved(*made(name), tmp_path / "flow.npz")


def test_a_video_is_an_image_whose_frames_stand_one_below_the_other():
    video = RNG(0).standard_normal((2, 3, 1, 4, 2))
    image = video_as_image(video)
    assert image.shape == (2, 1, 12, 2) and np.array_equal(image[:, :, 4:8], video[:, 1])
    assert np.array_equal(image_as_video(image, 3), video)


# -- what sees what ---------------------------------------------------------------------------------------------------

def seen_by_tokens(f, tokens, size=3):
    """Which tokens depend on which, by the zeros of Jacobians of a map of vectors of 2 x tokens entries."""
    J = f.jacobian(RNG(2).standard_normal((size, 2 * tokens))).reshape(size, 2, tokens, 2, tokens)
    return (J != 0).any((0, 1, 3))


@pytest.mark.parametrize("grid, within, order", [((2, 2), False, [3, 2, 1, 0]), ((2, 1, 2), False, [3, 2, 1, 0]),
                                                 ((2, 1, 2), True, [1, 0, 3, 2])])
def test_a_token_depends_on_the_tokens_before_it_alone(grid, within, order):
    stages = starflow_block(RNG(0), 2, grid, 4, 1, head_size=20, heads=1, reverse=True, within_frames=within, clip=0)
    f = Chain([moved(stage, 1.0) if own_map(stage) else stage for stage in stages])
    place = np.argsort(order)
    assert np.array_equal(seen_by_tokens(f, 4), place[:, None] >= place)


def test_shallow_blocks_of_videos_may_see_one_frame():
    flow = small("a video, frame by frame", patch=4)
    stages = flow.bijector.inner.stages
    deep = max(i for i, stage in enumerate(stages) if own_map(stage))
    shallow = Chain(stages[1:deep])
    J = shallow.jacobian(RNG(2).standard_normal((3, 16, 2, 1))).reshape(3, 16, 2, 16, 2)
    assert not J[:, :, 0, :, 1].any() and not J[:, :, 1, :, 0].any()
    assert given_text(flow, text()).bijector.inner.jacobian(RNG(2).standard_normal((3, 1, 8, 4))).any()


@pytest.mark.parametrize("ahead, window", [(1, 0), (1, 1), (2, 1), (3, None), (2, 5)])
def test_a_denoiser_of_videos_sees_some_frames(ahead, window):
    grid, S = (4, 1, 2), 2
    net = moved(starflow_denoiser(RNG(0), 2, grid, 4, 1, text=(3, S), ahead=ahead, window=window, head_size=20, heads=1), 1.0)
    mask, frame = frames_seen(grid, S, ahead, window), np.arange(8) // 2
    low = frame[:, None] + ahead - 1 - (8 if window is None else window)
    assert np.array_equal(mask[S:, S:], (frame >= low) & (frame <= frame[:, None] + ahead - 1)) and mask[:, :S].all()
    reads = given_text(net, text(1)[0])
    found = seen_by_tokens(reads, 8)
    assert np.array_equal(found, mask[S:, S:] | np.eye(8, dtype=bool)) and np.array_equal(found, reads.net.depends_on_positions((2, 8)))


def test_the_text_conditions_all_tokens_and_depends_on_none():
    flow, x = made("a text everywhere")
    z = flow.bijector.inverse(x)
    other = given_text(flow, text(seed=8)).bijector.inverse(x)
    assert np.all(z != other)
    reader = readers(flow)[0]
    joined = RNG(3).standard_normal((6, 2 + 4))
    before = reader.inner.forward(joined)[:, :2]
    assert np.array_equal(before, reader.inner.forward(np.concatenate((joined[:, :2], 0 * joined[:, 2:]), -1))[:, :2])


def test_leaks_are_refused():
    f, = starflow_block(RNG(0), 2, (1, 3), 4, 1, head_size=4, clip=0)
    delay, *after = f.net.net.net.layers
    assert isinstance(delay, Delay)
    check_leaks_are_refused(f, Sequential(after))


# -- positions --------------------------------------------------------------------------------------------------------

def test_positions_are_rows_and_columns_and_the_place_in_the_text():
    angles = positions((2, 3), 8)
    side = np.sqrt(6)
    assert angles.shape == (4, 6) and np.allclose(angles[0], np.repeat([0, 1], 3) / side * side, rtol=1e-15)
    assert np.allclose(angles[2], np.tile([0, 1, 2], 2), rtol=1e-15) and np.allclose(angles[3], angles[2] / 100, rtol=1e-15)
    assert np.allclose(positions((2, 3), 8, 4.0), angles * 4 / side, rtol=1e-15)


def test_a_text_and_frames_turn_eight_pairs():
    """Of 12 pairs, two turn with rows, two with columns, and eight with the place in the text, or the frame."""
    angles = positions((2, 1, 2), 24, 4.0, 3, third=True)
    assert angles.shape == (12, 3 + 4)
    assert not angles[:4, :3].any() and np.allclose(angles[4, :3], [0, 4 / 3, 8 / 3], rtol=1e-15)
    assert np.array_equal(angles[4, 3:], [0, 0, 1, 1]) and np.allclose(angles[5], angles[4] * 1e4 ** (-1 / 8), rtol=1e-14)
    assert np.allclose(angles[2, 3:], np.array([0, 1, 0, 1]) * 4 / np.sqrt(2), rtol=1e-15)
    assert np.array_equal(positions((2, 2), 6, line=True, text=1)[0], np.arange(5))


# -- training ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["exponentials", "a text everywhere", "a video, frame by frame", "a language model's layers"])
def test_gradients_are_those_of_differences(name):
    assert worst_slope(*made(name), lambda flow, x: regularised_loss_vjp(flow, x, 0.5, 0.25)) < 1e-7


def test_a_wrong_pullback_is_found(monkeypatch):
    right = PrefixedNetwork.vjp

    def unread(self, a):
        h, pullback = right(self, a)
        return h, lambda h_bar: (lambda a_bar, bars: (a_bar, bars | {"context": 0 * bars["context"]}))(*pullback(h_bar))

    monkeypatch.setattr(PrefixedNetwork, "vjp", unread)
    assert worst_slope(*made("a text"), loss_vjp) > 1e-3


@pytest.mark.parametrize(("name", "times"), [("a text everywhere", [1, 1]), ("a video, frame by frame", [1, 2]), ("nothing deep", [1, 1])])
def test_the_norm_is_of_the_events_that_enter_blocks(name, times):
    """An event that a block without layers keeps enters the next block too: `times`."""
    flow, x = made(name)
    f, D = flow.bijector.inner, x[0].size
    entered = [i for i, stage in enumerate(f.stages) if own_map(stage)]
    entered += [len(f.stages)] * (name == "nothing deep")
    norm, _ = norm_vjp(flow, x)
    squares = [(Chain(f.stages[:i]).forward(x).reshape(3, -1)**2).sum(-1) for i in entered]
    assert np.allclose(norm, np.dot(times, squares) / D, rtol=1e-14)
    assert np.allclose(regularised_loss_vjp(flow, x, 0.5, 2.0)[0], loss_vjp(flow, x)[0] / 2 + 2 * norm, rtol=1e-14)


def test_a_log_slope_has_its_own_cotangent():
    f, = starflow_block(RNG(0), 2, (1, 3), 4, 1, head_size=4)
    f, z, rng = moved(f, 0.5), RNG(1).standard_normal((3, 6)), RNG(2)
    x_bar, slopes_bar, turn = rng.standard_normal((3, 3, 6))
    (x, slopes), pullback = slopes_vjp(f, z)
    z_bar, _ = pullback(x_bar, slopes_bar)

    def value(z):
        x, slopes = slopes_vjp(f, z)[0]
        return (x * x_bar + slopes * slopes_bar).sum()

    assert abs((value(z + 1e-6 * turn) - value(z - 1e-6 * turn)) / 2e-6 - (z_bar * turn).sum()) < 1e-7
    assert np.array_equal(x, f.forward(z)) and np.allclose(slopes.sum(-1), f.log_det(z), rtol=1e-14)


# -- guidance ---------------------------------------------------------------------------------------------------------

def test_a_deep_block_without_layers_is_guided_and_shallow_ones_are_not():
    flow, z, texts = small("a text everywhere", layers=(1, 0)), RNG(3).standard_normal((2, 16)), (text(2), text(2, seed=8))
    plain, deep, all_blocks = (images_of(flow, z, *texts, **how) for how in ({}, {"guidance": 2.0}, {"guidance": 2.0, "deep_only": False}))
    assert np.array_equal(deep, plain) and np.abs(all_blocks - plain).max() > 1e-3


def test_guidance_combines_two_gaussians():
    """Where the guided scale is the smaller one: precisions and their means are combined with the weights 1 + w and -w."""
    f, = (stage for stage in map(own_map, small("a text").bijector.inner.stages[-1:]))
    h, w = RNG(4).standard_normal((5, 16)), 1.5
    one, other = (given_text(f, text(5, seed=seed)) for seed in (1, 2))
    (s, b), (s_free, b_free), (s_w, b_w) = scale_and_shift(one, h), scale_and_shift(other, h), guided(one, other, w)(h)
    below = s < s_free
    assert 0 < below.mean() < 1
    precision = (1 + w) / s**2 - w / s_free**2
    assert np.allclose((1 / s_w**2)[below], precision[below], rtol=1e-12)
    assert np.allclose(b_w[below], (((1 + w) * b / s**2 - w * b_free / s_free**2) / precision)[below], rtol=1e-11, atol=1e-12)
    assert np.allclose(s_w[~below], s[~below], rtol=1e-14)
    assert np.allclose(b_w[~below], ((1 + w) * b - w * b_free)[~below], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["a text", "a text everywhere"])
def test_samples_with_guidance(name):
    flow, z = small(name), RNG(4).standard_normal((3, 16))
    y, null = text(), text(seed=9)
    plain = images_of(flow, z, y)
    assert np.abs(plain - given_text(flow, y).bijector.forward(z)).max() < 1e-12
    assert np.abs(images_of(flow, z, y, y, 2.0) - plain).max() < 1e-12
    found = images_of(flow, z, y, null, 2.0)
    assert np.abs(found - plain).max() > 1e-3
    whole = images_of(flow, z, y, null, 2.0, deep_only=False)
    assert (np.abs(whole - found).max() > 1e-3) == (name == "a text everywhere")
    cold = at_temperature(flow, 0.5)
    assert np.abs(images_of(flow, z, y, null, 2.0, temperature=0.5) - images_of(cold, z, y, null, 2.0)).max() < 1e-12


@pytest.mark.parametrize("parts", [{}, {"query_key_norm": True}, {"key_heads": 1, "angles": np.ones((2, 4))},
                                   {"query_key_norm": True, "split_pairs": True, "angles": np.ones((2, 4)), "key_heads": 2}])
def test_a_temperature_divides_the_scores(parts):
    net = moved(transformer(RNG(0), 8, 2, 2, causal=True, head_size=4, **parts))
    a, tau = RNG(4).standard_normal((2, 8, 4)), 0.5
    expected = tempered_attention(net, a, tau)
    assert np.abs(at_temperature(net, tau).forward(a) - expected).max() < 1e-13
    assert np.abs(net.forward(a) - expected).max() > 1e-4


def test_pairs_of_halves_change_the_order_of_channels_alone():
    """Rearranged weights of queries and keys make one of the other."""
    angles = RNG(1).standard_normal((2, 4))
    given = {"causal": True, "head_size": 4, "angles": angles}
    split, plain = transformer(RNG(0), 8, 2, 1, **given, split_pairs=True), transformer(RNG(0), 8, 2, 1, **given)
    order = np.array([n * 4 + i for n in range(4) for i in (0, 2, 1, 3)] + list(range(16, 24)))
    dense = plain.layers[0].inner.layers[1].layer
    moved = {"W": dense.W[order], "b": dense.b[order]}
    moved = plain.replace(layers={"0": {"inner": {"layers": {"1": {"layer": moved}}}}})
    a = RNG(2).standard_normal((3, 8, 4))
    assert np.array_equal(split.forward(a), moved.forward(a)) and np.abs(split.forward(a) - plain.forward(a)).max() > 1e-3


def test_a_soft_clip():
    net = transformer(RNG(0), 4, 2)
    a = 100 * RNG(1).standard_normal((3, 4, 2))
    assert np.allclose(soft_clip(net, 2.0).forward(a), 2 * np.tanh(net.forward(a) / 2), rtol=1e-14)


# -- Jacobi's iteration -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("size", [1, 3, 32])
def test_converged_it_is_the_sequential_one(name, size):
    """In exact arithmetic after as many steps as a part has tokens: as here, to rounding, with no threshold."""
    flow, x = made(name)
    z, frame = flow.bijector.inverse(x), 4 if SETTINGS[name].get("frames") else None
    assert np.abs(images_of(flow, z, jacobi=Jacobi(size, 4 * size, 0.0, frame)) - x).max() < 1e-11


def test_converged_it_is_the_sequential_one_with_guidance():
    flow, z = small("a text everywhere"), RNG(4).standard_normal((3, 16))
    given = {"text": text(), "null": text(seed=9), "guidance": 2.0, "deep_only": False}
    assert np.abs(images_of(flow, z, **given, jacobi=Jacobi(3, 3, 0.0)) - images_of(flow, z, **given)).max() < 1e-12


def test_one_step_fewer_is_not_enough():
    """The check above would show a token that is read too late or too early."""
    flow, x = made("an image")
    z = flow.bijector.inverse(x)
    assert np.abs(images_of(flow, z, jacobi=Jacobi(4, 3, 0.0)) - x).max() > 1e-6
    assert np.abs(images_of(flow, z, jacobi=Jacobi(4, 4, 0.0)) - x).max() < 1e-12


def test_the_layers_are_the_authors():
    flow = starflow(RNG(0), (1, 2, 2), channels=4, head_size=4)
    layers = [sum(isinstance(part, RelativeAttention) for _, part in tree.walk(f)) for f in flow.bijector.inner.stages]
    assert [count for count in layers if count] == [2, 2, 2, 2, 2, 24]


def test_the_threshold_ends_it():
    flow, x = made("an image")
    f, z, steps = own_map(flow.bijector.inner.stages[-1]), flow.bijector.inverse(x), []

    def step(h):
        steps.append(h.copy())
        return scale_and_shift(f, h)

    by_jacobi(f, step, z, Jacobi(4, 32, np.inf))
    assert len(steps) == 1 and np.array_equal(steps[0].reshape(3, 4, 4)[..., :3], z.reshape(3, 4, 4)[..., :3])
    by_jacobi(f, step, z, Jacobi(4, 32, 1e-20))
    assert 1 < len(steps) - 1 <= 5              # of 4 tokens: a further step changes nothing
    steps.clear()
    by_jacobi(f, step, z, Jacobi(4, 32, 0.0))
    assert len(steps) == 32


def test_the_step_that_ends_it_counts():
    flow, x = made("an image")
    f, z = own_map(flow.bijector.inner.stages[-1]), flow.bijector.inverse(x)
    one, other = (by_jacobi(f, lambda h: scale_and_shift(f, h), z, how) for how in (Jacobi(4, 32, np.inf), Jacobi(4, 1, 0.0)))
    assert np.array_equal(one, other) and np.abs(one - z).min() > 0


# -- known frames -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["a video", "a video, frame by frame"])
@pytest.mark.parametrize("jacobi", [None, Jacobi(3, 12, 0.0, 4)])
def test_samples_go_on_from_known_frames(name, jacobi):
    flow, x = made(name)
    z, first = flow.bijector.inverse(x), x[:, :, :4]
    assert np.abs(images_of(flow, z, known=first, jacobi=jacobi) - x).max() < 1e-11
    moved = RNG(3).standard_normal(z.shape)
    other = images_of(flow, moved, known=first, jacobi=jacobi)
    assert np.abs(other[:, :, :4] - first).max() < 1e-11
    later = flow.bijector.inverse(other)
    tokens = (slice(None), slice(None), slice(4, None))
    assert np.abs((later - moved).reshape(3, 4, 8)[tokens]).max() < 1e-11          # the later frames have the given latents
    assert np.abs(images_of(flow, moved, known=first + 1, jacobi=jacobi)[:, :, 4:] - other[:, :, 4:]).min() > 0


# -- denoising --------------------------------------------------------------------------------------------------------

def test_the_denoiser_learns_the_score_and_moves_samples():
    flow, x = made("a text")
    score, _ = flow.log_prob_vjp(x)[1](np.ones(3))
    assert np.allclose(denoiser_target(flow, x, 0.25), -0.25 * score, rtol=1e-12, atol=1e-13)
    _, of_norm = norm_vjp(flow, x)
    expected = -0.5 * score + 0.25 * 0.5 * 16 * of_norm(1.0)[0]
    assert np.allclose(denoiser_target(flow, x, 0.25, 2.0, 0.5), expected, rtol=1e-12, atol=1e-13)
    net = given_text(moved(starflow_denoiser(RNG(0), 4, (2, 2), 6, 1, text=(3, 2), head_size=20, heads=2)), text())
    patches = Chain(flow.bijector.inner.stages[:2])
    y = patches.inverse(net.forward(patches.forward(x)))
    assert np.allclose(denoised_by_network(net, flow, x, 0.5, 0.2), x - 0.3 * 0.6 * y, rtol=1e-13)
    assert np.array_equal(denoised_by_network(net, flow, x, 0.5, 0.5), x)


# -- videos -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("batch", [(), (5,), (2, 3)])
def test_frames_stand_one_below_the_other(batch):
    videos = RNG(1).standard_normal((*batch, 2, 3, 4, 5))
    images = video_as_image(videos)
    assert images.shape == (*batch, 3, 8, 5) and np.array_equal(images[..., 4:, :], videos[..., 1, :, :, :])
    assert np.array_equal(image_as_video(images, 2), videos)


# -- refusals ---------------------------------------------------------------------------------------------------------

FLOW, READER, VIDEO = small(), small("a text"), small("a video")
Z = np.zeros((2, 16))
BLOCK = (RNG(0), 2, (1, 2), 4, 1)


@pytest.mark.parametrize("call, said", [
    (lambda: starflow(RNG(0), (4, 4)), r"starflow: shape must be \(C, H, W\), not \(4, 4\)"),
    (lambda: starflow(RNG(0), (1, 4, 6), 4), "starflow: width must be a multiple of patch = 4, not 6"),
    (lambda: starflow(RNG(0), (1, 4, 4), order="up"), "starflow: order must be one of"),
    (lambda: starflow(RNG(0), (1, 4, 4), channels=100), "starflow: channels must be a multiple of head_size = 64, not 100"),
    (lambda: starflow(RNG(0), (1, 4, 4), layers=3), "starflow: layers must hold the number of layers of each block, not all 0, and not 3"),
    (lambda: starflow(RNG(0), (1, 4, 4), layers=(0, 0)), r"not all 0, and not \(0, 0\)"),
    (lambda: starflow(RNG(0), (1, 4, 4), 4, 4, layers=(-1, 1)), "starflow: layers must be an int >= 0, not -1"),
    (lambda: starflow(RNG(0), (1, 4, 4), local=True), "starflow: local is of videos; frames is 0"),
    (lambda: small("a video, frame by frame", text_everywhere=True), "shallow blocks that see one frame at a time read no text"),
    (lambda: small("a text", text=3), r"starflow: text must be \(width, length\), not 3"),
    (lambda: small("a text", text=(3, 0)), r"starflow: text\[1\] must be an int >= 1, not 0"),
    (lambda: small("a text", head_size=12), "starflow: head_size must be a multiple of 4 and at least 16, not 12"),
    (lambda: small(head_size=6), "starflow: head_size must be a multiple of 4, not 6"),
    (lambda: starflow_block(*BLOCK, scale="tanh", head_size=4), "starflow: scale must be one of"),
    (lambda: starflow_block(*BLOCK, clip=-1, head_size=4), "starflow: clip must be"),
    (lambda: starflow_block(*BLOCK, norm="batch", head_size=4), "transformer: norm must be one of"),
    (lambda: starflow_block(*BLOCK, heads=3, key_heads=2, head_size=4), "heads must be a multiple of key_heads = 2, not 3"),
    (lambda: given_text(READER, text(2, 4)), r"text must have shape \(\*batch, 3, 2\), its width and its length, not \(2, 4, 2\)"),
    (lambda: given_text(READER, text(2, 3, 5)), r"its width and its length, not \(2, 3, 5\)"),
    (lambda: given_text(FLOW, text(2)), "starflow: there is a text, but the flow reads none"),
    (lambda: READER.at(context=text(2, 4)), r"PrefixedNetwork: net does not take a context of shape \(4, 2\)"),
    (lambda: loss_vjp(READER, RNG(0).standard_normal((2, 1, 4, 4))), "there is no context"),
    (lambda: images_of(READER, Z, text(2), guidance=1.0), "images_of: guidance needs a text, and a null text"),
    (lambda: images_of(FLOW, Z, guidance=1.0), "images_of: guidance needs a text, and a null text"),
    (lambda: images_of(FLOW, Z, text(2)), "there is a text, but the flow reads none"),
    (lambda: images_of(READER, Z, text(2), text(2), -1.0), "images_of: guidance must be"),
    (lambda: images_of(READER, Z[:, :3], text(2)), r"images_of: z must have shape \(B, 16\), not \(2, 3\)"),
    (lambda: images_of(FLOW, Z + np.nan), r"images_of: z must be finite; z\[0, 0\] = nan"),
    (lambda: images_of(FLOW, Z, jacobi=Jacobi(0)), "Jacobi: size must be an int >= 1, not 0"),
    (lambda: images_of(FLOW, Z, jacobi=Jacobi(threshold=-1.0)), "Jacobi: threshold must be"),
    (lambda: images_of(FLOW, Z, known=np.zeros((2, 1, 2, 4))), "images_of: known must be whole frames of a flow that reverses"),
    (lambda: images_of(VIDEO, np.zeros((2, 32)), known=np.zeros((2, 1, 2, 4))), "images_of: known must be whole frames"),
    (lambda: images_of(VIDEO, np.zeros((2, 32)), known=np.zeros((2, 1, 8, 4))), r"known must have shape \(2, 1, rows, 4\), with fewer"),
    (lambda: images_of(VIDEO, np.zeros((2, 32)), known=np.zeros((3, 1, 4, 4))), r"images_of: known must have shape \(2, 1, rows, 4\)"),
    (lambda: images_of(VIDEO, np.zeros((2, 32)), known=np.full((2, 1, 4, 4), np.nan)),
     r"images_of: known must be finite; known\[0, 0, 0, 0\] = nan"),
    (lambda: images_of(VIDEO, np.zeros((2, 32)), known="a"), "images_of: known must be"),
    (lambda: images_of(READER, Z, text(5)),
     r"images_of: z has batch shape \(2,\), which does not broadcast with the parameters' batch \(5,\)"),
    (lambda: images_of(READER, Z, text(2), text(5), 1.0), r"images_of: z has batch shape \(2,\), which does not broadcast with .* \(5,\)"),
    (lambda: images_of(FLOW, Z, jacobi=3), "images_of: jacobi must be a Jacobi, not 3"),
    (lambda: image_as_video(np.zeros((1, 4, 4)), 0), "image_as_video: frames must be an int >= 1, not 0"),
    (lambda: image_as_video(np.zeros((1, 4, 4)), 3), r"image_as_video: x must have shape \(\*batch, C, 3 H, W\), not \(1, 4, 4\)"),
    (lambda: video_as_image(np.zeros((2, 3))), r"video_as_image: x must have shape \(\*batch, frames, C, H, W\), not \(2, 3\)"),
    (lambda: frames_seen((2, 2)), r"frames_seen: grid must be \(frames, rows, columns\), not \(2, 2\)"),
    (lambda: frames_seen((2, 2, 2), text=-3), "frames_seen: text must be an int >= 0, not -3"),
    (lambda: starflow(RNG(0), (1, 4, 4), text_everywhere=True), "starflow: text_everywhere is of flows that read a text; text is None"),
    (lambda: images_of(FLOW, Z, temperature=0.0), "at_temperature: temperature must be"),
    (lambda: starflow_denoiser(RNG(0), 2, (2, 1, 2), 4, 1, ahead=3, window=0, head_size=20, heads=1),
     r"RelativeAttention: sees must leave every query a key; sees\[0\] leaves query 0 none"),
    (lambda: denoised_by_network(None, FLOW, Z, 0.0), "denoised_by_network: std must be"),
    (lambda: denoiser_target(FLOW, Z, -1.0), "denoiser_target: std must be"),
])
def test_bad_input_is_refused_by_name(call, said):
    with pytest.raises(ValueError, match=said):
        call()


# -- the authors' numbers, and torch's ----------------------------------------------------------------------------------

@pytest.mark.parametrize("name", authors.FILES)
def test_the_authors_numbers(name):
    assert far(authors.read(name)) == (set(), [])


def test_there_are_files():
    assert authors.FILES == ("starflow_metablock_exp_rope2d", "starflow_metablock_softplus_sos_text")



READS = {"txt": 3, "txt_dim": 5, "d": 20}
BLOCKS = {
    "exponentials, reversed": {"permutation": "flip"},
    "a start token": {"use_softplus": True, "use_sos": True, "soft_clip": 1.0, "length": 5, "grid": (3, 2)},
    "a text, reversed": {**READS, "use_softplus": True, "use_sos": True, "use_final_norm": True, "soft_clip": 2.0, "permutation": "flip"},
    "a text, no start token": {**READS, "layers": 2},
    "a text that is not read": {"txt": 3, "d": 20, "use_sos": True},
    "a language model": {"txt": 3, "txt_dim": 8, "d": 20, "heads": 4, "groups": 2, "layers": 2, "line": True, "use_swiglu": True,
                         "use_qk_norm": True, "use_post_norm": True, "use_final_norm": True, "use_bias": False, "norm_type": "rms_norm",
                         "hf_style_rope": True, "use_proj_txt": False, "use_sos": True, "use_softplus": True},
    "no norm": {"heads": 4, "groups": 1, "norm_type": "none", "use_sos": True},
    "halves of heads": {"heads": 4, "groups": 2, "norm_type": "rms_norm", "use_post_norm": True, "d": 8, "hf_style_rope": True},
    "a line": {"line": True, "d": 6, "use_qk_norm": True},
    "frames": {**READS, "grid": (3, 1, 2), "permutation": "flip_in_block", "use_sos": True, "use_softplus": True},
    "frames, reversed": {**READS, "grid": (3, 2, 1), "permutation": "flip", "use_sos": True},
    "a denoiser": {**READS, "kind": "NonCausalBlock"},
    "a denoiser of frames": {**READS, "kind": "NonCausalBlock", "grid": (4, 1, 2), "ahead": 2, "window": 1, "layers": 2}}
MODELS = {
    "a model": {"use_sos": True, "use_softplus": True, "use_final_norm": True, "soft_clip": 4.0},
    "a text everywhere": {"deep_only": False, "order": "R2L", "use_sos": True, "layers": (1, 1), "regularisation": 1e-2},
    "no text": {"txt": 0, "txt_dim": 0, "d": 4, "order": "R2L", "deep_channels": 12, "layers": (1, 0, 1)},
    "a video, frame by frame": {"frames": 3, "temporal": 1, "local": True, "use_sos": True, "use_softplus": True, "denoiser": True,
                                "layers": (1, 1)},
    "a video": {"frames": 2, "temporal": 2, "use_sos": True, "denoiser": True, "layers": (1, 1)}}


@pytest.mark.parametrize("name", BLOCKS)
def test_torch_agrees_in_blocks(name, tmp_path):
    torch = pytest.importorskip("torch")
    assert far(read_made(authors, tmp_path, *starflow_port.block_file(torch, **BLOCKS[name]))) == (set(), [])


@pytest.mark.parametrize("name", MODELS)
def test_torch_agrees_in_models(name, tmp_path):
    torch = pytest.importorskip("torch")
    assert far(read_made(authors, tmp_path, *starflow_port.model_file(torch, **MODELS[name]))) == (set(), [])


RIGHT = starflow_port.Port


def leaking(self, x, y, table, temperature=1.0):
    return RIGHT_NET(self, x + 0.1 * x.flip(1), y, table, temperature)


def summed(self, x, y=None, w=0):
    z, states, log_det = RIGHT_FORWARD(self, x, y, w)
    return z, states, log_det.sum(-1, keepdim=True) + 0 * log_det


def by_old_guidance(s, b, w):
    (s, s_u), (b, b_u) = s.chunk(2), b.chunk(2)
    return (s + w * (s - s_u)).repeat(2, 1, 1), (b + w * (b - b_u)).repeat(2, 1, 1)


def wrong_pair(torch, t, table, split):
    return RIGHT_TURNED(torch, t, table.roll(1, -1), split)


RIGHT_NET, RIGHT_FORWARD, RIGHT_TURNED = RIGHT.net, RIGHT.forward, starflow_port.turned
PLANTED = {"a causal leak": (RIGHT, "net", leaking, "z"), "a sum over features": (RIGHT, "forward", summed, "logdet"),
           "TarFlow's guidance": (RIGHT, "guided", staticmethod(by_old_guidance), "reverse_guided0"),
           "a wrong rotary pair": (starflow_port, "turned", wrong_pair, "z")}


@pytest.mark.parametrize("name", PLANTED)
def test_a_changed_block_shows(name, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    owner, method, bug, shown = PLANTED[name]
    monkeypatch.setattr(owner, method, bug)
    assert shown in far(read_made(authors, tmp_path, *starflow_port.block_file(torch, **READS, use_sos=True)))[0]


# -- names of arrays and of runs ---------------------------------------------------------------------------------------

WITH_TEXT = {**READS, "use_sos": True}


def with_runs(file, **runs):
    """The file with its runs under other names, in the configuration and in the names of samples."""
    config, arrays = file
    words = {"guided": "cfg", "jacobi": "reverse_jacobi"}
    names = {f"out/{prefix}{word}{i}": f"out/{'reverse_' if word == 'guided' else ''}{other}{i}"
             for word, other in words.items() for prefix in ("", "reverse_") for i in range(3)}
    config = {key: held for key, held in config.items() if key not in ("guided", "jacobi")}
    return renamed((config | {f"{name}_runs": file[0].get(held, []) for name, held in runs.items()}, arrays), names)


def test_runs_have_other_names(tmp_path):
    torch = pytest.importorskip("torch")
    file = with_runs(starflow_port.block_file(torch, **WITH_TEXT), cfg="guided", jacobi="jacobi")
    assert far(read_made(authors, tmp_path, *file)) == (set(), [])
    for key in ("reverse_cfg1", "reverse_jacobi2"):
        assert far(read_made(authors, tmp_path, *changed(file, f"out/{key}")))[0] == {key}


def test_runs_of_a_model_have_other_names(tmp_path):
    torch = pytest.importorskip("torch")
    config, arrays = starflow_port.model_file(torch, **MODELS["a video, frame by frame"])
    file = with_runs((config, arrays), cfg="guided", jacobi="jacobi")
    file[0]["denoise_noise_std"] = file[0].pop("denoise_std")
    assert far(read_made(authors, tmp_path, *file)) == (set(), [])
    assert far(read_made(authors, tmp_path, *changed(file, "out/denoised")))[0] == {"denoised"}
    assert far(read_made(authors, tmp_path, *changed(file, "in/y_cfg1")))[0] == {"reverse_cfg1"}


def test_a_run_that_says_something_unknown_is_left_out(tmp_path):
    torch = pytest.importorskip("torch")
    config, arrays = starflow_port.block_file(torch, **WITH_TEXT)
    config["guided"] = [config["guided"][0], config["guided"][1] | {"schedule": "cosine"}]
    found, unread = far(read_made(authors, tmp_path, config, arrays))
    assert found == set() and {one.key for one in unread if "schedule" in one.reason} == {"out/reverse_guided1"}


def test_a_text_of_samples_has_any_name(tmp_path):
    torch = pytest.importorskip("torch")
    config, arrays = starflow_port.block_file(torch, **WITH_TEXT)
    own = starflow_port.Port(torch, {name.removeprefix("param/"): torch.tensor(array) for name, array in arrays.items()
                                     if name.startswith("param/")}, {"use_sos": True}, 20, 2, "identity", 3, 5, 2)
    other = RNG(8).standard_normal(arrays["in/y"].shape)
    with torch.no_grad():
        back = own.reverse(torch.tensor(arrays["in/u"]), torch.tensor(other)).numpy()
    kept = {key: held for key, held in arrays.items() if "jacobi" not in key and key != "in/y_cfg2"}
    file = config | {"jacobi": []}, kept | {"in/y_rev": other, "out/reverse_u": back}
    assert far(read_made(authors, tmp_path, *file)) == (set(), [])
    assert far(read_made(authors, tmp_path, *changed(file, "in/y_rev")))[0] == {"reverse_u"}


def test_a_loss_is_stated_in_words(tmp_path):
    """Its weight may stand in the loss, and then the loss of the file is the whole one."""
    torch = pytest.importorskip("torch")
    config, arrays = starflow_port.model_file(torch, **MODELS["a text everywhere"])
    file = renamed((config, {key: held for key, held in arrays.items() if key != "out/loss"}), {"out/loss_reg": "out/loss"})
    del config["latent_norm_regularization"]
    config["loss"] = "get_loss(z,logdets)['loss'] + 0.01*sum_i mean(outputs[i]^2) over all but the last output"
    assert far(read_made(authors, tmp_path, *file)) == (set(), [])
    config["loss"] = "get_loss(z,logdets)['loss']"
    assert far(read_made(authors, tmp_path, *file))[0] == {"loss", "gradients of parameters", "gradient of data", "gradient of the text"}


def test_a_denoisers_kind_and_loss(tmp_path):
    """Its kind may be followed by words, and its loss is a mean of squares beside a target."""
    torch = pytest.importorskip("torch")
    config, arrays = starflow_port.block_file(torch, **BLOCKS["a denoiser"])
    target = arrays["out/pred"] - arrays["in/wz"] * arrays["in/wz"].size / 2            # so that the cotangent is in/wz
    loss = ((arrays["out/pred"] - target) ** 2).mean()
    file = config | {"kind": "NonCausalBlock (learnable self-denoiser)"}, arrays | {"in/target": target, "out/loss": loss}
    del file[1]["in/wz"]
    assert far(read_made(authors, tmp_path, *file)) == (set(), [])
    assert far(read_made(authors, tmp_path, *changed(file, "out/loss")))[0] == {"loss"}


def test_known_frames(tmp_path):
    """Latents of a video give it back, whatever the latents of a frame that is known."""
    torch = pytest.importorskip("torch")
    config, arrays = starflow_port.model_file(torch, **MODELS["a video, frame by frame"])
    kept = {key: held for key, held in arrays.items() if key.startswith(("param/", "grad", "in/x", "in/y")) and "cfg" not in key
            or key in ("out/z", "out/loss")}
    u = arrays["out/z"].copy()
    u[:, 0] = 3.0
    file = config | {"guided": [], "jacobi": []}, kept | {"in/u": u, "in/context_frame": arrays["in/x"][:, :1], "out/reverse_context": arrays["in/x"]}
    found, unread = far(read_made(authors, tmp_path, *file))
    assert (found, unread) == (set(), [])
    assert far(read_made(authors, tmp_path, *changed(file, "in/context_frame")))[0] == {"reverse_context"}
    del file[1]["in/context_frame"]
    assert [one.key for one in far(read_made(authors, tmp_path, *file))[1]] == ["in/u", "out/reverse_context"]
