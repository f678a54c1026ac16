"""The VITS layers of piper-tts 1.8.0, as adapters: `refflow check piper`.

Networks have a last layer of biases alone, which are the raw numbers.  ConvFlow has one filter channel, by whose root it divides
the numbers of widths and heights.  Inverses have no log-det: the forward's at the image is asked.  ResidualCouplingBlock
has no log-det at all: 0 stands there.

Left out: Log, which is a logarithm above 1e-5 alone.
"""

from piper.train.vits import modules
from piper.train.vits.models import ResidualCouplingBlock
from piper.train.vits.transforms import unconstrained_rational_quadratic_spline as spline

from .shared import pinned
from .shared.numbers import raw
from .shared.torch import declaring, holding
from .shared.vits import CHANNELS, affine, block, directions, drawn, flip, layer, shift, vits_splines, with_biases

version = pinned("piper-tts", "1.8.0")
declare = declaring("piper.train.vits.")


def scaled(p):
    inner = p["inner"]
    return layer(holding(modules.ElementwiseAffine(CHANNELS), m=inner["shift"][:, None], logs=inner["scale"].log()[:, None]))


def coupled(p):
    made = drawn(modules.ResidualCouplingLayer, CHANNELS, 1, 3, 1, 1, mean_only=True)
    return layer(with_biases(made, "post", p["net"]["b"]))


def coupling_block(p):
    """A layer and a flip, which has no log-det."""
    made = drawn(ResidualCouplingBlock, CHANNELS, 1, 3, 1, 1, n_flows=1)
    with_biases(made.flows[0], "post", p["stages"]["0"]["net"]["b"])
    return layer(lambda *given, **named: (made(*given, **named), given[0].new_zeros(len(given[0]))))


def conv_flow(p):
    return layer(with_biases(drawn(modules.ConvFlow, CHANNELS, 1, 3, 1), "proj", raw(p)))


for like, coupling in vits_splines():
    declare(coupling, f"transforms.unconstrained_rational_quadratic_spline [{like} numbers]",
            lambda p: directions(spline, p, "inverse", tails="linear"))
    declare(coupling, f"modules.ConvFlow [{like} numbers]", conv_flow)
declare(affine, "modules.ElementwiseAffine", scaled)
declare(flip, "modules.Flip", lambda p: layer(modules.Flip()))
declare(shift, "modules.ResidualCouplingLayer", coupled)
declare(block, "models.ResidualCouplingBlock", coupling_block, fixed=["stages.0.net.W"])
