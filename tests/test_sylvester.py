"""The autoencoder of Sylvester flows: its authors' numbers, torch's gradients for all five flows, bases, inverses, the loss, refusals."""

from __future__ import annotations

import sys

import mpmath
import numpy as np
import pytest

from authors_files import far, read_made
from flows import worst_slope
from refflow import ELU, HouseholderProduct, OrthogonalLinear, OrthonormalColumns, Permutation, Sylvester, SylvesterFields
from refflow.core import tree
from refflow.laws.pages import equations
from refflow.maps.conditioners import MaskedDense
from refflow.models import SylvesterVAE, sylvester_vae, warmed_up
from refflow.models import sylvester as model_page
from refflow.models.sylvester import FLOWS, AmortisedFlow, connections, log_variance, surprise
from refflow.training import Adam, Unconstrained
from validation import original
from validation.original import comparison
from validation.original import sylvester as authors

RNG = np.random.default_rng
KINDS = {flow: kind for kind, flow in authors.FLOWS.items()}
SIZES = {"latent": 4, "steps": 3, "units": 2, "reflections": 2, "made": 8, "features": 5}


def model_of(flow, size=6, **given):
    return sylvester_vae(RNG(0), size, flow=flow, **SIZES | given)


def batch_of(seed=1, size=6, latent=4, count=3, dtype=np.float64):
    rng = RNG(seed)
    return (rng.random((count, size)) < 0.5).astype(dtype), rng.standard_normal((count, latent)).astype(dtype)


def unchecked(page):
    return page.unchecked(np.dtype(np.float64))


def fields_of(page, h):
    return unchecked(page).vjp(np.asarray(h, float))[0]


def test_every_equation_is_cited():
    assert equations(sys.modules["refflow.models.sylvester"]) == []


# -- bases ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (4, 2), (5, 5)])
def test_columns_are_orthonormal_and_nearest(shape):
    h = RNG(3).standard_normal((7, np.prod(shape)))
    Q = fields_of(OrthonormalColumns(*shape), h)["Q"]
    U, _, Vt = np.linalg.svd(h.reshape(7, *shape), full_matrices=False)
    assert np.abs(Q.mT @ Q - np.eye(shape[1])).max() < 1e-14 and np.abs(Q - U @ Vt).max() < 1e-12


def test_a_threshold_ends_the_steps_of_a_whole_batch_together():
    h = RNG(4).standard_normal((6, 8))
    f = OrthonormalColumns(4, 2, 1e-2)
    together = fields_of(f, h)["Q"]
    apart = np.stack([fields_of(f, one)["Q"] for one in h])
    lack = np.linalg.norm(np.eye(2) - together.mT @ together, axis=(-2, -1))
    assert lack.max() <= 1e-2 and 1e-9 < np.abs(together - apart).max() < 1e-2


def test_the_gradient_of_the_limit_is_that_of_many_steps():
    h, Q_bar = RNG(5).standard_normal((3, 8)), RNG(6).standard_normal((3, 4, 2))
    limit, steps = (unchecked(OrthonormalColumns(4, 2, threshold)).vjp(h)[1]({"Q": Q_bar})[0] for threshold in (0.0, 1e-13))
    assert np.abs(limit - steps).max() < 1e-11


def test_reflections_are_multiplied_in_their_order():
    v = RNG(7).standard_normal((3, 4))
    H = [np.eye(4) - 2 * np.outer(one, one) / (one @ one) for one in v]
    assert np.abs(fields_of(HouseholderProduct(4, 3), v.ravel())["Q"] - H[2] @ H[1] @ H[0]).max() < 1e-15


def test_a_slack_does_not_round_to_0():
    h = np.array([0.0, 30.0, -40.0, 1.0])
    slack = fields_of(SylvesterFields(1), h)["slack"][0]
    assert slack == pytest.approx(2 * np.exp(-60) * (1 + np.exp(-20)), rel=1e-14) and 1 + np.tanh(30) * np.tanh(-40) == 0


def test_what_the_rounding_of_a_slack_adds_to_r():
    """rho of (16), within four roundings of r; that of 1e-6 is 10^5 times as large."""
    p, q = np.array([0.7, -1.3]), np.array([1e-6, -3e-5])
    h = np.concatenate((RNG(3).standard_normal(4), p, q, [0.5, 2.0]))
    fields = fields_of(SylvesterFields(2), h)
    with mpmath.workdps(40):
        slack, s = ([mpmath.mpf(float(v)) for v in fields[key]] for key in ("slack", "diagonal"))
        rho = [float((slack[i] - 1) / s[i] - mpmath.tanh(p[i])) for i in range(2)]
    assert np.abs(model_page.rounding(h, fields) - rho).max() < 4 * 2.0**-53 < 2.0**-43 < np.abs(rho).min()


def test_one_matrix_feeds_both_triangles():
    h = RNG(8).standard_normal(18)
    d, r, s, b = h[:9].reshape(3, 3), np.tanh(h[9:12]), np.tanh(h[12:15]), h[15:]
    f, z = Sylvester(**fields_of(SylvesterFields(3), h)), RNG(9).standard_normal((5, 3))
    R, S = np.triu(d, 1) + np.diag(r), np.triu(d.T, 1) + np.diag(s)
    t = np.tanh(z @ S.T + b)
    x, log_det = f.forward_and_log_det(z)
    assert np.abs(x - (z + t @ R.T)).max() < 1e-14 and np.abs(log_det - np.log1p((1 - t**2) * r * s).sum(-1)).max() < 1e-14


@pytest.mark.parametrize("page, h, said", [
    (OrthonormalColumns(2, 2), [[1.0, 0, 0, 1], [1, 2, 2, 4]], r"OrthonormalColumns: Q must be orthonormal .* h\[1\] is"),
    (HouseholderProduct(2, 2), [[1.0, 0, 0, 1], [1, 2, 0, 0]], r"HouseholderProduct: v must be finite and not all 0; v\[1, 1\]")])
def test_bases_that_are_refused(page, h, said):
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=said):
        fields_of(page, h)


def test_given_bases_that_are_refused():
    Q = fields_of(OrthonormalColumns(3, 3, 1e-2), RNG(0).standard_normal(9))["Q"]
    with pytest.raises(ValueError, match=r"OrthogonalLinear: Q must be orthogonal, Q\^T Q = I to within rounding"):
        OrthogonalLinear(Q)
    with pytest.raises(ValueError, match="Permutation: order must hold each of 0 .. D-1 once"):
        Permutation([2, 1, 1])


# -- the authors' numbers, and torch ----------------------------------------------------------------------------------

@pytest.mark.parametrize("name", authors.FILES)
def test_the_authors_numbers(name):
    assert far(authors.read(name)) == (set(), [])


def test_another_order_of_their_numbers_shows(monkeypatch):
    monkeypatch.setattr(authors, "last", authors.first)
    assert "log_det_j" in far(authors.read("sylvester_triangular"))[0]


def theirs(flow, D=4, K=3, M=2, n=2, H=5, N=6, B=3, h_size=8, hidden=1, beta=0.7, changed=None):
    """(configuration, arrays) of a file, by torch from the equations of the authors' code, with its names."""
    torch = pytest.importorskip("torch")
    M = D if flow in ("householder", "triangular") else M
    rng = RNG([*flow.encode(), D, M, n])
    sizes = {"q_z_nn.0": (H, N), "q_z_mean": (D, H), "q_z_var.0": (D, H), "p_x_nn.1": (N, D)}
    if flow == "planar":
        sizes |= {"amor_u": (K * D, H), "amor_w": (K * D, H), "amor_b": (K, H)}
    elif flow != "iaf":
        sizes |= {"amor_d": (K * M * M, H), "amor_diag1.0": (K * M, H), "amor_diag2.0": (K * M, H), "amor_b": (K * M, H)}
        sizes |= {"amor_q": (K * D * (M if flow == "orthogonal" else n), H)} if flow != "triangular" else {}
    else:
        sizes |= {"h_context": (h_size, H)}
    p = {}
    for name, shape in sizes.items():
        p |= {f"{name}.weight": rng.standard_normal(shape) / 2, f"{name}.bias": rng.standard_normal(shape[0]) / 2}
    if flow == "iaf":
        shapes = [(D, h_size), *[(h_size, h_size)] * hidden, (h_size, D), (h_size, D)] * K
        for i, shape in enumerate(shapes):
            p |= {f"flow.param_list.{2 * i}": rng.standard_normal(shape) / 2}
            p |= {f"flow.param_list.{2 * i + 1}": rng.standard_normal(shape[1]) / 2}
    x, eps = (rng.random((B, N)) < 0.5).astype(float), rng.standard_normal((B, D))
    t = {name: torch.tensor(array, requires_grad=True) for name, array in p.items()}
    out = in_torch(torch, flow, t, torch.tensor(x), torch.tensor(eps), K, D, M, n, h_size, hidden, beta, changed)
    out["loss"].backward()
    arrays = {"in/x": x, "in/eps": eps} | {f"param/{name}": array for name, array in p.items()}
    arrays |= {f"out/{name}": value.detach().numpy() for name, value in out.items()}
    return ({"kind": KINDS[flow], "z_size": D, "num_flows": K, "beta": beta},
            arrays | {f"grad/{name}": value.grad.numpy() for name, value in t.items()})


def in_torch(torch, flow, t, x, eps, K, D, M, n, h_size, hidden, beta, changed):
    def layer(name, a):
        return a @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    B, softplus = len(x), torch.nn.functional.softplus
    h = torch.tanh(layer("q_z_nn.0", x))
    out = {"z_mu": layer("q_z_mean", h), "z_var": softplus(layer("q_z_var.0", h))}
    z = out["z_0"] = out["z_mu"] + out["z_var"].sqrt() * eps
    total = 0
    if flow == "planar":
        u, w, b = (layer(f"amor_{key}", h).reshape(B, K, -1) for key in "uwb")
    elif flow != "iaf":
        d, b = layer("amor_d", h).reshape(B, M, M, K), layer("amor_b", h).reshape(B, M, K)
        r1, r2 = (torch.tanh(layer(f"amor_diag{i}.0", h)).reshape(B, M, K) for i in (1, 2))
        Q = bases(torch, flow, layer("amor_q", h) if flow != "triangular" else None, B, K, D, M, n, changed)
    for k in range(K):
        if flow == "planar":
            wu = (w[:, k] * u[:, k]).sum(-1)
            v = u[:, k] + ((softplus(wu) - 1 - wu) / (w[:, k] ** 2).sum(-1))[:, None] * w[:, k]
            a = torch.tanh((w[:, k] * z).sum(-1) + b[:, k, 0])
            z, l = z + v * a[:, None], torch.log(torch.abs(1 + (1 - a**2) * (w[:, k] * v).sum(-1)))
        elif flow != "iaf":
            R = torch.triu(d[..., k], 1) + torch.diag_embed(r1[..., k])
            S = torch.triu(d[..., k].mT, 1) + torch.diag_embed(r2[..., k])
            a = torch.tanh((S @ Q[:, k].mT @ z[..., None])[..., 0] + b[..., k])
            z, l = z + (Q[:, k] @ R @ a[..., None])[..., 0], torch.log(torch.abs(1 + (1 - a**2) * r1[..., k] * r2[..., k])).sum(-1)
        else:
            z, l = gated(torch, t, z, layer("h_context", h), k, D, h_size, hidden)
        out |= {f"z{k + 1}": z, f"ldj{k + 1}": l}
        total = total + l
    x_mean = torch.sigmoid(layer("p_x_nn.1", z))
    bce = torch.nn.functional.binary_cross_entropy(x_mean, x, reduction="sum") / B
    log_q = -(out["z_var"].log() + (out["z_0"] - out["z_mu"]) ** 2 / out["z_var"]).sum() / 2
    kl = (log_q + (z**2).sum() / 2 - total.sum()) / B
    return out | {"z_k": z, "log_det_j": total, "x_mean": x_mean, "bce": bce, "kl": kl, "loss": bce + beta * kl}


def bases(torch, flow, q, B, K, D, M, n, changed):
    one = torch.eye(D, dtype=torch.float64)
    if flow == "triangular":
        return torch.stack([one.flip(0) if k % 2 else one for k in range(K)]).expand(B, K, D, D)
    if flow == "householder":
        v = q.reshape(B, K, n, D, 1)
        H, Q = one - 2 * v @ v.mT / (v**2).sum(-2, keepdim=True), one
        for i in range(n):
            Q = H[:, :, i] @ Q
        return Q
    A = q.reshape(B * K, -1)
    A, one = (A / A.norm(dim=1, keepdim=True)).reshape(B * K, D, M), torch.eye(M, dtype=torch.float64)
    for _ in range(100):
        A = A @ (one + (one - A.mT @ A) / 2)
        if ((A.mT @ A - one) ** 2).sum((1, 2)).sqrt().max() <= (changed or (1e-5 if M == D else 1e-6)):
            break
    return A.reshape(B, K, D, M)


def gated(torch, t, z, c, k, D, h_size, hidden):
    elu, start = torch.nn.functional.elu, k * 2 * (3 + hidden)

    def masked(i, a, strict=False):
        W, b = t[f"flow.param_list.{start + 2 * i}"], t[f"flow.param_list.{start + 2 * i + 1}"]
        n_in, n_out = W.shape
        mask = np.ones(W.shape)
        for j in range(min(n_in, n_out)):
            if n_out >= n_in:
                wide = n_out // n_in
                mask[j + 1 - strict:, j * wide:(j + 1) * wide] *= np.arange(j + 1 - strict, n_in)[:, None] < j + 1 - strict
            else:
                wide = n_in // n_out
                mask[(j + 1 - strict) * wide:, j] = 0
        return a @ (torch.tensor(mask) * W) + b

    z = z.flip(-1) if k % 2 else z
    a = elu(masked(0, z)) + c
    for i in range(hidden):
        a = elu(masked(1 + i, a))
    m, gate = masked(1 + hidden, a, True), torch.sigmoid(masked(2 + hidden, a, True) + 1)
    return gate * z + (1 - gate) * m, torch.log(gate).sum(-1)


CASES = {"planar": {}, "orthogonal": {}, "all columns": {"M": 4}, "one column": {"M": 1, "K": 2}, "householder": {},
         "one reflection": {"n": 1},
         "triangular": {"K": 2, "D": 3}, "iaf": {}, "narrow": {"h_size": 2, "hidden": 2}, "as wide": {"h_size": 4, "hidden": 0}}
FLOW_OF = {"all columns": "orthogonal", "one column": "orthogonal", "one reflection": "householder", "narrow": "iaf", "as wide": "iaf"}


def read_theirs(tmp_path, name, **more):
    return read_made(authors, tmp_path, *theirs(FLOW_OF.get(name, name), **CASES[name] | more))


@pytest.mark.parametrize("name", CASES)
def test_torch_agrees(name, tmp_path):
    assert far(read_theirs(tmp_path, name)) == (set(), [])


def test_a_small_diagonal_keeps_the_digits_of_its_gradient(tmp_path, monkeypatch):
    """A rounding of the slack is magnified by 1/s^2 in the gradient of s, unless (16) takes it back."""
    _, arrays = theirs("householder", D=6, K=5, n=4, B=4, H=8)
    assert far(read_theirs(tmp_path, "householder", D=6, K=5, n=4, B=4, H=8)) == (set(), [])

    def worst():
        model, weights = authors.model_of({"kind": KINDS["householder"], "num_flows": 5},
                                          {name.removeprefix("param/"): array for name, array in arrays.items() if "param/" in name})
        path, turn = weights.back["amor_diag2.0.weight"]
        bars = model.loss_vjp(arrays["in/x"], arrays["in/eps"], 0.7)[1](1 / 4)[1]
        return np.abs(turn(tree.at_path(bars, path)) / arrays["grad/amor_diag2.0.weight"] - 1).max()

    right = worst()
    monkeypatch.setattr(model_page, "rounding", lambda h, fields: 0.0)
    assert worst() > 8 * right


def test_log_dets_that_their_source_rounds_are_measured_by_its_rounding():
    theirs = np.array([-6.5e-13, 0.25])
    for error, passes in ((1e-15, True), (1e-13, False)):
        found = comparison.judged({"": authors.log_dets_pair(theirs + [error, 0], theirs, 6)})[""]
        assert original.passes(found) == passes and "rounds near 1" in found.reason


def test_another_threshold_than_the_authors_shows(tmp_path):
    assert "gradients of parameters" in far(read_theirs(tmp_path, "orthogonal", changed=1e-3))[0]


# -- the model --------------------------------------------------------------------------------------------------------

def of_differences(model, weights):
    """`worst_slope` of the model's loss at beta = 0.7."""
    x, noise = batch_of()

    def loss(model, x):
        terms, pullback = model.loss_vjp(x, noise, 0.7)
        return terms.reconstruction + 0.7 * terms.divergence, pullback

    return worst_slope(model, 0.25 + x / 2, loss, weights)


@pytest.mark.parametrize("flow", FLOWS)
def test_gradients_are_those_of_differences(flow):
    assert of_differences(model_of(flow, hidden=(4,)), (1.0, -2.0, 0.5)) < 1e-7


@pytest.mark.parametrize("made", [2, 4, 12])
def test_masked_networks_of_any_width(made):
    """The latents enter a network of this width, and two numbers for each of them leave it."""
    flow = model_of("iaf", made=made).flow
    layers = [layer for _, layer in tree.walk(flow.maps[0].net) if isinstance(layer, MaskedDense)]
    assert [layer.W.shape for layer in layers] == [(made, 4), (made, made), (8, made)]
    h, z = RNG(3).standard_normal((3, 5)), RNG(4).standard_normal((3, 4))
    assert np.abs(flow.inverse(h, flow.vjp(h, z)[0][0][-1]) - z).max() < 1e-12


def test_a_lost_term_of_a_gradient_is_found(monkeypatch):
    """Without the second term of (13), and without the log-det of (2)."""
    right = model_page.along_basis_vjp

    def without(f, Q, z):
        found, pullback = right(f, Q, z)
        return found, lambda x_bar, l_bar: (*(bars := pullback(x_bar, l_bar))[:2], bars[2] * 0.5)

    monkeypatch.setattr(model_page, "along_basis_vjp", without)
    assert of_differences(model_of("orthogonal"), np.ones(3)) > 1e-4
    monkeypatch.undo()
    monkeypatch.setattr(model_page, "log_variance", lambda u: (log_variance(u)[0], 0.9 * log_variance(u)[1]))
    assert of_differences(model_of("planar"), np.ones(3)) > 1e-4


@pytest.mark.parametrize("flow", FLOWS)
def test_the_flow_is_inverted_and_its_log_det_is_that_of_differences(flow):
    model = model_of(flow)
    if flow == "orthogonal":            # the authors' threshold leaves an error of its size
        model = model.replace(flow=remade(model.flow, OrthonormalColumns(4, 2)))
    h, z = RNG(3).standard_normal((3, 5)), RNG(4).standard_normal((3, 4))
    (images, log_dets), _ = model.flow.vjp(h, z)
    assert np.abs(model.flow.inverse(h, images[-1]) - z).max() < 1e-12
    J = np.stack([(model.flow.vjp(h, z + step)[0][0][-1] - model.flow.vjp(h, z - step)[0][0][-1]) / 2e-6 for step in 1e-6 * np.eye(4)], -1)
    assert np.abs(np.linalg.slogdet(J)[1] - sum(log_dets)).max() < 1e-8


def remade(flow, *basis):
    return AmortisedFlow(flow.net, flow.fields, basis, flow.bijector, flow.steps, flow.reversals)


def test_the_bound_is_below_the_log_likelihood():
    """By quadrature over one latent: the mean of the loss is above -log p(x)."""
    model = sylvester_vae(RNG(0), 3, 1, "triangular", 2, features=4)
    x = np.array([[1.0, 0.0, 1.0]])
    grid = np.linspace(-9, 9, 2001)[:, None]
    p = model.decode(grid)
    density, step = np.exp(-grid[:, 0] ** 2 / 2) / np.sqrt(2 * np.pi), grid[1, 0] - grid[0, 0]
    likelihood = (np.prod(np.where(x == 1, p, 1 - p), -1) * density).sum() * step
    found = model.posterior(np.repeat(x, len(grid), 0), grid)
    terms, _ = model.loss_vjp(np.repeat(x, len(grid), 0), grid)
    mean = ((terms.reconstruction + terms.divergence) * density).sum() * step
    z, log_q = found.images[-1][:, 0], np.log(density) - sum(found.log_dets)
    assert np.abs(np.trapezoid(np.exp(log_q), z) - 1) < 1e-6
    p = model.decode(z[:, None])
    posterior = np.exp(-z**2 / 2) / np.sqrt(2 * np.pi) * np.prod(np.where(x == 1, p, 1 - p), -1)
    gap = np.trapezoid(np.exp(log_q) * (log_q - np.log(posterior / likelihood)), z)
    assert mean - gap == pytest.approx(-np.log(likelihood), abs=1e-6) and gap > 0


@pytest.mark.parametrize("flow", ["planar", "iaf"])
def test_training_lowers_the_loss(flow):
    model, (x, noise) = model_of(flow), batch_of(count=16)
    space, optimiser = Unconstrained(model), Adam(0.02)
    vector, state, losses = space.vector, optimiser.start(space.vector), []
    for epoch in range(1, 16):
        held, beta = space.value_at(vector), warmed_up(epoch, 10)
        terms, pullback = held.loss_vjp(x, noise, beta)
        losses.append((terms.reconstruction + terms.divergence).mean())
        vector, state = optimiser.step(vector, space.gradient(vector, pullback(1 / len(x))[1]), state)
    assert losses[-1] < losses[0] - 0.3


def test_beta_grows_with_the_epochs():
    assert [warmed_up(epoch, 4) for epoch in (1, 2, 4, 9)] == [0.25, 0.5, 1.0, 1.0]
    assert warmed_up(1, 1) == warmed_up(1, 0) == warmed_up(3, 0) == 1.0 and warmed_up(50, largest=0.3) == 0.3


def test_terms_far_out():
    """Logits of 800 and variances of exp(-300) keep their digits."""
    assert list(surprise(np.array([1.0, 0.0, 1.0]), np.array([800.0, -800.0, -800.0]))) == [0.0, 0.0, 800.0]
    u = np.array([-300.0, -40.0, np.nextafter(-40, -41), 0.5])
    log_v, r = log_variance(u)
    assert log_v == pytest.approx([-300, -40, -40, np.log(np.log1p(np.exp(0.5)))], rel=1e-15)
    assert r == pytest.approx([1, 1, 1, 1 / (1 + np.exp(-0.5)) / np.log1p(np.exp(0.5))], rel=1e-15)


def test_samples():
    model = model_of("planar")
    x, p = model.sample(RNG(0), 4000)
    assert set(np.unique(x)) == {0.0, 1.0} and np.abs(x.mean(0) - p.mean(0)).max() < 0.05
    again, _ = model.sample(RNG(0), 4000)
    assert np.array_equal(x, again)


def test_float32_stays_float32():
    model = model_of("orthogonal").astype(np.float32)
    x, noise = batch_of(dtype=np.float32)
    terms, pullback = model.loss_vjp(x, noise)
    x_bar, bars = pullback(1.0)
    wide, _ = model_of("orthogonal").loss_vjp(x.astype(float), noise.astype(float))
    assert {a.dtype for a in (*terms, x_bar, *dict(tree.flatten(bars)).values())} == {np.dtype(np.float32)}
    assert np.abs(terms.divergence - wide.divergence).max() < 1e-5


def test_numbers_given_as_lists_take_the_dtype_of_the_data():
    model = model_of("planar")
    model = model.replace(**tree.nest({path: array.tolist() for path, array in tree.flatten(model.params())}))
    assert model.dtype is None
    for dtype in (np.float32, np.float64):
        x, noise = batch_of(dtype=dtype)
        assert model.decode(noise).dtype == model.loss_vjp(x, noise)[0].divergence.dtype == dtype


def test_an_empty_batch():
    for flow in FLOWS:
        terms, pullback = model_of(flow).loss_vjp(np.zeros((0, 6)), np.zeros((0, 4)))
        assert terms.divergence.shape == (0,) and not any(bar.any() for bar in dict(tree.flatten(pullback(1.0)[1])).values())


def test_connections_are_those_of_groups():
    assert connections(4, 2).tolist() == [[True, False], [True, False], [True, True], [True, True]]
    assert connections(2, 4, strict=True).tolist() == [[False] * 4, [True, True, False, False]]
    assert list(fields_of_elu([-1.0, 0.0, 2.0])) == [np.expm1(-1), 0.0, 2.0]


def fields_of_elu(a):
    return ELU().forward(np.array(a))


# -- what is refused --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("given, said", [
    ({"flow": "radial"}, "sylvester_vae: flow must be one of"),
    ({"flow": "orthogonal", "units": 5}, "units must be at most latent = 4, not 5"),
    ({"flow": "iaf", "made": 6}, "made must be a multiple or a divisor of latent = 4, not 6"),
    ({"flow": "planar", "steps": 0}, "steps must be an int >= 1"),
    ({"flow": "planar", "hidden": (0,)}, r"hidden\[0\] must be an int >= 1")])
def test_sizes_that_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        model_of(**given)


def test_data_that_are_refused():
    model, (x, noise) = model_of("planar"), batch_of()
    for given, said in ((({"x": x + 0.5}), r"loss_vjp: x must be in \[0, 1\]; x\["),
                        ({"x": 0.5 - np.eye(3, 6, 2)}, r"loss_vjp: x must be in \[0, 1\]; x\[0, 2\] = -0.5"),
                        ({"x": x[:, 1:]}, r"x must be \(3, 6\)"),
                        ({"noise": noise[:2]}, r"noise must be \(3, 4\)"),
                        ({"noise": noise * np.nan}, r"noise must be finite; noise\[0, 0\]"),
                        ({"beta": -1.0}, "beta must be finite and >= 0")):
        with pytest.raises(ValueError, match=f"SylvesterVAE.*{said}"):
            model.loss_vjp(**{"x": x, "noise": noise} | given)


def with_last_layer(flow, bias):
    model = model_of(flow)
    return model.replace(flow={"net": {"W": 0 * model.flow.net.W, "b": bias(model.flow.net.b)}})


@pytest.mark.parametrize("flow, bias, said", [
    ("planar", lambda b: 0 * b, "Planar: w must be finite and not all 0"),
    ("triangular", lambda b: 0 * b, "Sylvester: diagonal must be finite and not 0"),
    ("householder", lambda b: np.where(np.arange(len(b)) % 36 < 28, b, 0), "HouseholderProduct: v must be finite and not all 0"),
    ("orthogonal", lambda b: np.where(np.arange(len(b)) % 18 < 10, b, 1), "OrthonormalColumns: Q must be orthonormal")])
def test_fields_that_networks_leave_outside_their_sets(flow, bias, said):
    with pytest.raises(ValueError, match=said):
        with_last_layer(flow, bias).loss_vjp(*batch_of())


def test_parts_that_do_not_fit():
    model = model_of("orthogonal")
    flow = model.flow
    with pytest.raises(ValueError, match="AmortisedFlow: net must give 30 numbers for 3 steps"):
        remade(flow)
    with pytest.raises(ValueError, match="AmortisedFlow: basis must hold at most one parametrisation, not 2"):
        remade(flow, *flow.basis, *flow.basis)
    with pytest.raises(ValueError, match="SylvesterVAE: flow must be an AmortisedFlow or a MaskedFlow, not Dense"):
        SylvesterVAE(model.encoder, model.mean, model.variance, model.decoder, model.mean)
