"""What bfloat16 costs a TarFlow: the rule of the table holds for a small flow, and the table is what its command gives."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is missing: pip install -e '.[peers]'")
bfloat16 = pytest.importorskip("validation.bfloat16")
FLOW = "drawn, 8 x 8 digits, D = 64"


@pytest.fixture(scope="module")
def small():
    flow = bfloat16.drawn((1, 4, 4), 8, 2, 1, mean=(-1.0, 0.0))
    return bfloat16.measured(flow, np.random.default_rng(0).uniform(-1, 1, (64, 1, 4, 4)).astype(np.float32))


def test_a_scale_that_is_cast_back_is_one_in_bfloat16(small):
    assert small["scale"] == small["authors"]


def test_a_rounded_scale_is_another_maps(small):
    """Unrounded, the log-det belongs to the map, whatever the networks are computed in."""
    for name in ("float32", "last", "sum"):
        assert small[name]["off"] < 1e-6
    for name in ("cast", "tokens"):
        assert small[name]["off"] > 1e-4


def test_a_sum_in_bfloat16_loses_more(small):
    assert small["authors"]["off"] > 1.2 * small["cast"]["off"] and small["all"]["off"] > 1.2 * small["tokens"]["off"]


def test_the_last_layer_in_float32_makes_a_and_b_better(small):
    assert small["last"]["wrong"] < 0.9 * small["sum"]["wrong"] and small["last"]["z"] < 0.9 * small["sum"]["z"]
    assert small["float32"]["wrong"] < 1e-6 < small["last"]["wrong"]


def test_the_log_det_of_the_map_is_that_of_its_scales(monkeypatch):
    """Planted: were (2) of unrounded scales, no cast would show."""
    flow = bfloat16.drawn((1, 4, 4), 8, 2, 1)
    x = np.random.default_rng(0).uniform(-1, 1, (8, 1, 4, 4)).astype(np.float32)
    right = bfloat16.block_of

    def planted(setting):
        kind = right(setting)

        class Block(kind):
            def scale(self, a):
                s = super().scale(a)
                self.log_scales = -a.double().sum((1, 2))
                return s

        return Block

    monkeypatch.setattr(bfloat16, "block_of", planted)
    assert bfloat16.measured(flow, x, ("cast",))["cast"]["off"] < 1e-6


def test_the_table_is_the_commands():
    """Of one flow, two rows, to a factor: kernels of processors add in other orders."""
    pytest.importorskip("sklearn")
    written = bfloat16.TABLE.read_text(encoding="utf-8")
    assert written.startswith(bfloat16.text({}))
    section = written.split(f"## {FLOW[0].upper()}{FLOW[1:]}\n")[1].split("\n## ")[0]
    rows = {line.split(" | ")[0].removeprefix("| "): line.strip("| ").split(" | ")[1:] for line in section.splitlines()}
    flow, x = bfloat16.FLOWS[FLOW]()
    for name, row in bfloat16.measured(flow, x, ("authors", "sum")).items():
        numbers = [float(cell.strip(" |")) for cell in rows[bfloat16.SETTINGS[name].text]]
        for (key, value), number in zip(row.items(), numbers, strict=True):
            assert key in bfloat16.KEYS and (value < 1e-6 and number < 1e-6 or number / 3 <= value <= 3 * number), (name, key)
