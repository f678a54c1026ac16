"""A spline flow written by hand in torch: each planted mistake is found, named, and told at a simple event."""

from __future__ import annotations

import pytest

from refflow.oracle.boxes.black_box import BlackBox
from refflow.oracle.boxes.black_box_laws import has, verdict
from refflow.testing import torch_pullback

torch = pytest.importorskip("torch", reason="torch is missing: pip install -e '.[peers]'")
flows = pytest.importorskip("validation.foreign.torch_flows")
BY_DIFFERENCES = "log-det is the determinant of differences"


class ExpForSigmoid(flows.AffineCoupling):
    """Scales by sigmoid(s + 2), as Glow's code does, and sums s as RealNVP's does."""

    def forward(self, z):
        a, b, s, shift = self.parts(z)
        return torch.cat((a, b * torch.sigmoid(s + 2) + shift), -1), s.sum(-1)


class AtTheImage(flows.AffineCoupling):
    """The log-det of the inverse with s at the entries that are scaled."""

    def inverse(self, x):
        z, _ = super().inverse(x)
        return z, -torch.tanh(self.net(x[..., -self.a:]).chunk(2, -1)[0]).sum(-1)


class MissingSum(flows.AffineCoupling):
    def forward(self, z):
        x, _ = super().forward(z)
        return x, self.parts(z)[2]


class SingleBranch(flows.SplineCoupling):
    """The root of the quadratic that divides by its first coefficient, which is near 0 where a network begins."""

    def __init__(self, D):
        super().__init__(D)
        with torch.no_grad():
            self.net[-1].weight *= 1e-9
            self.net[-1].bias *= 0
            self.net[-1].bias.unflatten(0, (self.b, -1))[:, 2 * self.bins:] = 0.5397424      # slopes near 1

    def root(self, A, B, C):
        return (-B + (B * B - 4 * A * C).clamp(min=0).sqrt()) / (2 * A)


class Float32Constant(flows.SplineCoupling):
    def forward(self, z):
        x, log_det = super().forward(z)
        return x * (torch.tensor(0.1, dtype=torch.float32).to(z.dtype) * 10), log_det


class EpsilonUnderRoot(flows.SplineCoupling):
    def root(self, A, B, C):
        return 2 * C / (-B - (B * B - 4 * A * C + 1e-6).sqrt())


class WritesInput(flows.SplineCoupling):
    def forward(self, z):
        answer = super().forward(z)
        z[..., self.a:] = answer[0][..., self.a:]
        return answer


class OnlyTheLogDet(flows.SplineCoupling):
    """A scale of the layer that was forgotten in the image."""

    def __init__(self, D):
        super().__init__(D)
        self.log_scale = torch.nn.Parameter(torch.zeros(()))

    def forward(self, z):
        x, log_det = super().forward(z)
        return x, log_det + self.log_scale


class SelectsInside(flows.SplineCoupling):
    """Asks for the smallest entry inside, as nflows does."""

    def forward(self, z):
        b = z[..., self.a:]
        b[(b > -3) & (b < 3)].min()
        return super().forward(z)


MISTAKES = {
    "exp for sigmoid(s + 2)": (ExpForSigmoid, BY_DIFFERENCES, "log-det at"),
    "the inverse's log-det at the wrong point": (AtTheImage, "inverse log-det is minus log-det", "inverse log-det at"),
    "a missing sum": (MissingSum, "log-det shape", "has shape (43, 2)"),
    "a single-branch root": (SingleBranch, "inverse of forward", "inverse(forward(z)) at"),
    "a float32 constant": (Float32Constant, "inverse of forward", "inverse(forward(z)) at"),
    "an epsilon under a root": (EpsilonUnderRoot, "inverse of forward", "inverse(forward(z)) at"),
    "an input written to": (WritesInput, "inputs are not written to", "forward changed its argument"),
    "a parameter that only the log-det reads": (OnlyTheLogDet, "every parameter reaches the image", "of shape (), moves"),
    "a batch form that crashes": (SelectsInside, "a batch of tails is the stack of its events", "raised RuntimeError"),
}


def box_of(layer):
    """Seven lines of a stranger's file."""
    torch.manual_seed(0)
    flow = layer(3).double()
    return BlackBox(flow.forward, flow.inverse, event=(3,), parameters=flow.parameters)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found(name):
    layer, law, told = MISTAKES[name]
    found = verdict(law, box_of(layer))
    assert found.status == "FAIL" and told in found.text, found


@pytest.mark.parametrize("layer", [flows.AffineCoupling, flows.SplineCoupling])
def test_the_right_layer_passes(layer):
    box = box_of(layer)
    assert box.library == "torch" and box.dtype == "float64" and has(box, "parameters")
    found = [verdict(law, box) for law in dict.fromkeys(law for _, law, _ in MISTAKES.values())]
    assert [v for v in found if v.status == "FAIL"] == []


def test_a_defect_of_torch_is_found():
    """SoftplusTransform is the identity from 20 on, which loses exp(-20)."""
    one = torch.distributions.transforms.SoftplusTransform()
    found = verdict("forward of inverse", BlackBox(one, one.inv, backend="torch", codomain=(0, float("inf"))))
    assert found.status == "FAIL" and "forward(inverse(x)) at" in found.text


class FrozenPermutation(torch.nn.Module):
    """A coupling behind a permutation that stands among the parameters, frozen, and with its inverse, as in FrEIA's block."""

    def __init__(self, size):
        super().__init__()
        self.coupling = flows.AffineCoupling(size)
        matrix = torch.eye(size)[torch.randperm(size)]
        self.permutation = torch.nn.Parameter(matrix, requires_grad=False)
        self.back = torch.nn.Parameter(matrix.T.clone(), requires_grad=False)

    def forward(self, z):
        x, log_det = self.coupling.forward(z)
        return x @ self.permutation.T, log_det

    def inverse(self, x):
        return self.coupling.inverse(x @ self.back.T)


def test_frozen_parameters_stay_where_they_are():
    flow = FrozenPermutation(3).double()
    box = BlackBox(flow.forward, flow.inverse, event=(3,), parameters=flow.parameters,
                   pullback=torch_pullback(flow.forward, flow.parameters))
    before = flow.permutation.clone()
    assert len(box.trained()) == len(list(flow.coupling.parameters())) < len(box.all_parameters())
    for law in ("all laws at moved parameters", "pullback is the gradient", "pullback is the gradient by the parameters"):
        assert verdict(law, box).status == "pass", verdict(law, box)
    assert torch.equal(flow.permutation, before)


def test_what_is_trained_is_still_moved():
    """A law that holds at the first parameters alone; and plain tensors, which are not marked, are parameters."""
    flow = FrozenPermutation(3).double()
    flow.back.requires_grad_()                      # not the inverse of the other once it is trained
    assert verdict("all laws at moved parameters", BlackBox(flow.forward, flow.inverse, event=(3,),
                                                            parameters=flow.parameters)).status == "FAIL"
    scale = torch.tensor(1.0, dtype=torch.float64)
    found = verdict("all laws at moved parameters", BlackBox(lambda z: (z * scale, torch.zeros_like(z)), backend="torch",
                                                             parameters=[scale]))
    assert found.status == "FAIL"


def test_gradients_by_frozen_parameters_may_be_returned():
    """A pullback of theirs may have an entry for every parameter."""
    flow = FrozenPermutation(3).double()
    inner = torch_pullback(flow.forward, flow.coupling.parameters)

    def pullback(z, x_bar, log_det_bar):
        z_bar, bars = inner(z, x_bar, log_det_bar)
        given = iter(bars)
        return z_bar, [next(given) if of.requires_grad else torch.zeros_like(of) for of in flow.parameters()]

    box = BlackBox(flow.forward, flow.inverse, event=(3,), parameters=flow.parameters, pullback=pullback)
    assert verdict("pullback is the gradient by the parameters", box).status == "pass"
