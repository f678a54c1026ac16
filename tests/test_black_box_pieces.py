"""A log-det that is wrong in one bin, or on a short interval, is found in every draw, and the right twin is silent."""

from __future__ import annotations


import numpy as np
import pytest

from refflow.oracle.boxes.black_box import BlackBox
from refflow.oracle.boxes.black_box_ends import EndPoints
from refflow.oracle.boxes.black_box_laws import run_law, verdict
from refflow.oracle.boxes.black_box_pieces import Line, suspect_pieces
from refflow.oracle.boxes.lawbook import Found
from validation.bins import KINDS, counted

BY_DIFFERENCES, BY_INTEGRAL = "log-det is the determinant of differences", "images differ by the integral of the slope"
SHORTEST = "off by 0.5 on an interval of width 0.1"
LAST_KNOT = "another slope at the last knot"


@pytest.mark.parametrize("event", [(), (3,)], ids=["one number", "three numbers"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", [SHORTEST, LAST_KNOT])
def test_a_log_det_that_is_wrong_in_a_part_is_found_in_every_draw(name, dtype, event):
    make, _ = KINDS[name]
    assert counted(make, 4, dtype, event)[:2] == (4, 0)


def rotated(mistake, dtype="float64"):
    """z + tanh(3 z)/2 of each entry, in axes that are turned: every entry moves every image."""
    Q = np.linalg.qr(np.random.default_rng(5).standard_normal((3, 3)))[0]

    def forward(z):
        y = z @ Q
        slope = 1 + 1.5 / np.cosh(np.minimum(np.abs(3 * y), 300)) ** 2
        off = 0.5 * (mistake & (y[..., 1] > 2.2) & (y[..., 1] < 2.4))
        return ((y + np.tanh(3 * y) / 2) @ Q.T).astype(z.dtype), (np.log(slope).sum(-1) + off).astype(z.dtype)

    return BlackBox(forward, event=(3,), dtype=dtype)


@pytest.mark.parametrize("seed", range(3))
def test_a_map_in_turned_axes_is_asked_at_dense_points(seed):
    assert verdict(BY_DIFFERENCES, rotated(True), seed).status == "FAIL"
    assert verdict(BY_DIFFERENCES, rotated(False), seed).status == "pass"
    assert verdict(BY_INTEGRAL, rotated(False), seed).text == "no entry moves one entry of the image alone"


def coupling(mistake, dtype="float64", writable=True):
    """The second half is stretched by what the first says, and bent; a parameter bends it."""
    bend = np.array([0.5], dtype)

    def forward(z, *passed):
        by, = passed[0] if passed else (bend,)
        a, b = z[..., :2], z[..., 2:]
        s = np.sin(a)
        y = b * np.exp(s) + by * np.tanh(b)
        off = 0.5 * (mistake & (b[..., 0] > -1.3) & (b[..., 0] < -1.2))
        log_det = np.log(np.exp(s) + by / np.cosh(np.minimum(np.abs(b), 80)) ** 2).sum(-1) + off
        return np.concatenate((a, y), -1).astype(z.dtype), log_det.astype(z.dtype)

    return BlackBox(forward, event=(4,), dtype=dtype, parameters=[bend] if writable else (tuple([0.5]),))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_coupling_is_asked_along_the_entries_that_it_moves(dtype):
    with pytest.raises(Found, match=r"along entry \(2,\) of .* by the scale of the other entries") as found:
        run_law(BY_INTEGRAL, coupling(True, dtype))
    one, other = np.array(found.value.places["latents"])
    assert (one != other).sum() == 1 and -1.3 < min(one[2], other[2]) < max(one[2], other[2]) < -1.2
    assert verdict(BY_INTEGRAL, coupling(False, dtype)).status == "pass"


def test_an_entry_that_moves_others_is_no_line():
    box, t = coupling(False), np.linspace(-2, 2, 20)
    assert [Line(box, np.full(4, 0.3), entry).moves_one(t) for entry in range(4)] == [False, False, True, True]


def steps(width):
    """Right, with a slope of 200 on an interval so short that rules miss it."""
    def forward(z):
        inside = np.clip(z - 0.7318, 0, width)
        return z + 199 * inside, np.where((z > 0.7318) & (z < 0.7318 + width), np.log(200), 0)

    return BlackBox(forward)


@pytest.mark.parametrize("width", 10.0 ** np.arange(-7, 0))
def test_what_a_rule_misses_is_no_mistake(width):
    box = steps(width)
    assert len(suspect_pieces(box, EndPoints(box, 0))) == 0
    assert verdict(BY_INTEGRAL, box).status == "pass"


def test_an_image_that_jumps_is_a_mistake():
    box = BlackBox(lambda z: (z + 0.3 * (z > 0.6), np.zeros(len(z))))
    assert verdict(BY_INTEGRAL, box).status == "FAIL"


def test_pieces_end_where_the_log_det_jumps():
    box = steps(0.2)
    left, right = EndPoints(box, 0).pieces()
    for knot in (0.7318, 0.9318):
        assert not ((left < knot - 1e-9) & (right > knot + 1e-9)).any()
    assert left.min() < -59 and right.max() > 59


def root(mistake):
    """z + z^2/4 from 0 on; by mistake the discriminant is negative at one image of 67 in one bin."""
    def inverse(x):
        square = 1 + np.maximum(x, 0)
        rare = (x > 1.3) & (x < 2.1) & (np.floor(x * 2.0**20) % 67 == 0)
        return np.where(x < 0, x, 2 * (np.sqrt(np.where(mistake & rare, -square, square)) - 1)).astype(x.dtype)

    return BlackBox(lambda z: z + np.maximum(z, 0) ** 2 / 4, inverse, dtype="float32")


@pytest.mark.parametrize("seed", range(3))
def test_an_inverse_that_is_no_number_at_rare_images_is_found(seed):
    found = verdict("inverse of forward", root(True), seed)
    assert found.status == "FAIL" and "is nan" in found.text
    assert verdict("inverse of forward", root(False), seed).status == "pass"
