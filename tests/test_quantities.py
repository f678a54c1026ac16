"""The quantities of a page: their names, the methods that answer, and which of them say the same."""

from __future__ import annotations

import numpy as np
import pytest

from refflow import Affine, Chain, Softplus
from refflow.accuracy.quantities import distinct, forward_quantities, inverse_quantities, truth_name

Z = np.array([0.5, -2.0, 3.0])
F = Chain((Softplus(), Affine(-1.0, 2.0)))
FIELDS = {"stages.1.shift_bar", "stages.1.scale_bar"}


class Named:
    """Answers with the name of the method that is asked."""

    def __getattr__(self, method):
        def answer(event):
            pair = f"{method}, image", f"{method}, log_det"
            return (pair, None) if method.endswith("vjp") else pair if method.endswith("_and_log_det") else method

        return answer


def test_each_value_is_of_the_method_that_names_it():
    assert forward_quantities(Named(), Z) == {
        "forward": "forward", "log_det": "log_det", "jacobian": "jacobian",
        "forward_and_log_det.forward": "forward_and_log_det, image",
        "forward_and_log_det.log_det": "forward_and_log_det, log_det",
        "vjp.forward": "vjp, image", "vjp.log_det": "vjp, log_det"}
    assert inverse_quantities(Named(), Z) == {
        "inverse": "inverse", "inverse_log_det": "inverse_and_log_det, log_det",
        "inverse_and_log_det.inverse": "inverse_and_log_det, image", "inverse_vjp.inverse": "inverse_vjp, image",
        "inverse_vjp.inverse_log_det": "inverse_vjp, log_det"}


@pytest.mark.parametrize("quantities, method, event", [(forward_quantities, "vjp", "z_bar"),
                                                       (inverse_quantities, "inverse_vjp", "x_bar")])
def test_cotangents_are_the_pullbacks(quantities, method, event):
    """Named by the paths of fields, and asked for only where there is a cotangent of the image."""
    bars, given = (np.array([1.0, -1.0, 2.0]), np.array([0.5, 0.25, -3.0])), np.array([1.5, 2.0, 8.0])
    found, values = quantities(F, given, *bars), quantities(F, given)
    event_bar, params_bar = getattr(F, method)(given)[1](*bars)
    assert found.keys() - values.keys() == {f"{method}.{name}" for name in (event, *FIELDS)}
    assert np.array_equal(found[f"{method}.{event}"], event_bar)
    for name in ("shift", "scale"):
        assert np.array_equal(found[f"{method}.stages.1.{name}_bar"], params_bar["stages"]["1"][name])


@pytest.mark.parametrize("name, truth", [
    ("vjp.log_det", "log_det"), ("forward_and_log_det.forward", "forward"), ("inverse_vjp.inverse_log_det", "inverse_log_det"),
    ("forward", "forward"), ("jacobian", "jacobian"), ("vjp.z_bar", "vjp.z_bar"), ("log_prob_vjp.log_prob", "log_prob"),
    ("vjp.log", "log"), ("vjp.net.layers.0.W_bar", "vjp.net.layers.0.W_bar")])
def test_the_truth_of_a_fused_value_is_the_values(name, truth):
    assert truth_name(name) == truth


def test_only_fused_values_that_differ_are_compared():
    """In a bit, or in their shape; a value under its own name, and a cotangent, always are."""
    x = np.array([0.0, 1.0])
    found = {"forward": x, "log_det": 2 * x, "vjp.forward": x.copy(), "forward_and_log_det.forward": -x * [1, -1],
             "vjp.log_det": 2 * x[None], "forward_and_log_det.log_det": np.nextafter(2 * x, 9), "vjp.z_bar": x, "jacobian": x}
    assert distinct(found).keys() == found.keys() - {"vjp.forward"}
    assert distinct({"log_det": np.nan, "vjp.log_det": np.nan}).keys() == {"log_det"}
