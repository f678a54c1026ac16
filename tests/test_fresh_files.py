"""Files that a user writes from refflow/oracle/README.md: a flow in torch, one in JAX, a map in C++; each right, and each wrong."""

from __future__ import annotations

import ctypes
import shutil
import subprocess

import numpy as np
import pytest

import refflow
from refflow.oracle import adapter
from refflow.testing import BlackBox, jax_pullback, torch_pullback


def failed(box):
    return {one.law for one in refflow.check(box).failed}


# -- torch ------------------------------------------------------------------------------------------------------------

def real_nvp(torch, mistake=None):
    """The box of two affine couplings of two numbers."""
    class Coupling(torch.nn.Module):
        def __init__(self, passes):
            super().__init__()
            self.passes = passes
            self.net = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()

        def scale_and_shift(self, passed):
            s, t = self.net(passed).chunk(2, -1)
            return torch.tanh(s), t

        def joined(self, passed, moved):
            return torch.cat([passed, moved] if self.passes == 0 else [moved, passed], -1)

        def forward(self, z):
            passed, moved = z[..., self.passes, None], z[..., 1 - self.passes, None]
            s, t = self.scale_and_shift(passed)
            return self.joined(passed, moved * s.exp() + t), s.sum(-1)

        def inverse(self, x):
            passed, moved = x[..., self.passes, None], x[..., 1 - self.passes, None]
            s, t = self.scale_and_shift(passed)
            scale = s.exp() + (1e-6 if mistake == "eps" else 0)
            return self.joined(passed, (moved - t) / scale), -s.sum(-1)

    class Flow(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.couplings = torch.nn.ModuleList([Coupling(0), Coupling(1)])

        def forward(self, z):
            first, second = self.couplings
            y, of_first = first(z)
            x, of_second = second(y)
            return x, of_first if mistake == "log-det" else of_first + of_second

        def inverse(self, x):
            first, second = self.couplings if mistake == "order" else reversed(self.couplings)
            y, of_first = first.inverse(x)
            z, of_second = second.inverse(y)
            return z, of_first + of_second

    torch.manual_seed(0)
    flow = Flow()
    return BlackBox(flow.forward, flow.inverse, event=(2,), parameters=flow.parameters, pullback=torch_pullback(flow, flow.parameters))


DETERMINANT = "log-det is the determinant of differences"


def test_a_flow_in_torch_passes():
    assert not failed(real_nvp(pytest.importorskip("torch")))


@pytest.mark.parametrize("mistake, law", [("log-det", DETERMINANT), ("order", "inverse of forward"), ("eps", "inverse of forward")])
def test_a_mistake_in_torch_is_found(mistake, law):
    assert law in failed(real_nvp(pytest.importorskip("torch"), mistake))


# -- JAX --------------------------------------------------------------------------------------------------------------

def jitted(jax, mistake=None):
    """The box of a coupling whose scale and shift come from a network."""
    jnp = jax.numpy
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(0)
    parameters = {"first": jnp.asarray(rng.normal(size=(1, 4))), "second": jnp.asarray(rng.normal(size=(4, 2)))}

    def scale_and_shift(passed, parameters):
        s, t = jnp.split(jnp.tanh(passed @ parameters["first"]) @ parameters["second"], 2, -1)
        return jnp.tanh(s), t

    def forward(z, parameters):
        s, t = scale_and_shift(z[..., :1], parameters)
        of_s = s.sum() if mistake == "sum" else s.sum(-1)
        return jnp.concatenate([z[..., :1], z[..., 1:] * jnp.exp(s) + t], -1), of_s

    def inverse(x, parameters):
        s, t = scale_and_shift(x[..., :1], parameters)
        z = (x[..., 1:] - t) * jnp.exp(s if mistake == "sign" else -s)
        return jnp.concatenate([x[..., :1], z], -1), -s.sum(-1)

    return BlackBox(jax.jit(forward), jax.jit(inverse), event=(2,), parameters=parameters, pullback=jax.jit(jax_pullback(forward)))


def test_a_flow_in_jax_passes():
    assert not failed(jitted(pytest.importorskip("jax")))


@pytest.mark.parametrize("mistake, law", [("sum", "log-det shape"), ("sign", "inverse of forward")])
def test_a_mistake_in_jax_is_found(mistake, law):
    assert law in failed(jitted(pytest.importorskip("jax"), mistake))


# -- C++ --------------------------------------------------------------------------------------------------------------

SOURCE = """
#include <cmath>

template <typename Real> void softplus(const Real* z, Real* x, Real* log_det, long count) {
    for (long i = 0; i < count; i++) {
        const Real e = std::exp(-std::fabs(z[i]));
        x[i] = std::fmax(z[i], Real(0)) + LOG_OF_1_AND(e);
        log_det[i] = std::fmin(z[i], Real(0)) - std::log1p(e);
    }
}

template <typename Real> void inverse(const Real* x, Real* z, long count) {
    for (long i = 0; i < count; i++) z[i] = x[i] + std::log(-std::expm1(-x[i]));
}

extern "C" {
    void softplus_float64(const double* z, double* x, double* log_det, long count) { softplus(z, x, log_det, count); }
    void softplus_float32(const float* z, float* x, float* log_det, long count) { softplus(z, x, log_det, count); }
    void inverse_float64(const double* x, double* z, long count) { inverse(x, z, count); }
    void inverse_float32(const float* x, float* z, long count) { inverse(x, z, count); }
}
"""
FORMULAS = {"log1p(e)": "std::log1p(e)", "log(1 + e)": "std::log(Real(1) + (e))"}


@pytest.fixture(scope="module", params=FORMULAS)
def compiled(request, tmp_path_factory):
    """(the formula for log(1 + e), the shared library with it)."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("there is no compiler of C++")
    folder = tmp_path_factory.mktemp("compiled")
    (folder / "softplus.cpp").write_text(SOURCE.replace("LOG_OF_1_AND(e)", FORMULAS[request.param]), encoding="utf-8")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", folder / "softplus.so", folder / "softplus.cpp"], check=True)
    return request.param, ctypes.CDLL(str(folder / "softplus.so"))


def pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


def both_ways(library):
    """(forward, inverse) of arrays of either dtype: the library has a function for each."""
    def forward(z):
        z = np.array(z, order="C")
        x, log_det = np.empty_like(z), np.empty_like(z)
        getattr(library, f"softplus_{z.dtype}")(pointer(z), pointer(x), pointer(log_det), ctypes.c_long(z.size))
        return x, log_det

    def inverse(x):
        x = np.array(x, order="C")
        z = np.empty_like(x)
        getattr(library, f"inverse_{x.dtype}")(pointer(x), pointer(z), ctypes.c_long(x.size))
        return z

    return forward, inverse


def test_a_map_in_cpp_as_a_box(compiled):
    """The sum loses the digits of e, in float64 and in float32: the images near 0 show it where 0 is a declared end."""
    formula, library = compiled
    forward, inverse = both_ways(library)
    ends = {"codomain": (0, float("inf"))}
    wide = BlackBox(forward, inverse, dtype="float64", **ends)
    narrow = BlackBox(forward, inverse, dtype="float32", wider=wide, **ends)
    for box in (wide, narrow):
        assert bool(failed(box)) == (formula == "log(1 + e)")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_map_in_cpp_as_an_adapter(compiled, dtype):
    formula, library = compiled
    forward, inverse = both_ways(library)

    @adapter("Softplus", dtype=dtype)
    def mine(params, z):
        x, log_det = forward(z)
        return {"forward": x, "log_det": log_det, "inverse": inverse}

    report = refflow.check(mine)
    assert {one.quantity for one in report.failed} == (set() if formula == "log1p(e)" else {"forward"}), report.table()
