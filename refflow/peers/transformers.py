"""The VITS layers of transformers 5.24.0, as adapters: `refflow check transformers`.

Networks have a last layer of biases alone, which are the raw numbers.  VitsConvFlow has one filter channel, by whose root it
divides the numbers of widths and heights.  Inverses have no log-det: the forward's at the image is asked; VitsResidualCouplingBlock
has none at all: 0 stands there.
"""

from transformers import VitsConfig
from transformers.models.vits import modeling_vits as vits

from .shared import pinned
from .shared.numbers import raw
from .shared.torch import declaring, holding
from .shared.vits import affine, block, directions, drawn, layer, shift, vits_splines, with_biases

version = pinned("transformers", "5.24.0")
declare = declaring("transformers.models.vits.modeling_vits.")
SMALL = VitsConfig(hidden_size=2, flow_size=2, depth_separable_channels=2, prior_encoder_num_flows=1, prior_encoder_num_wavenet_layers=1,
                   speaker_embedding_size=0)
ONE = VitsConfig(hidden_size=1, depth_separable_channels=2, depth_separable_num_layers=1)


def scaled(p):
    inner = p["inner"]
    return layer(holding(vits.VitsElementwiseAffine(SMALL), translate=inner["shift"][:, None], log_scale=inner["scale"].log()[:, None]))


def coupled(p):
    return layer(with_biases(drawn(vits.VitsResidualCouplingLayer, SMALL), "conv_post", p["net"]["b"]))


def coupling_block(p):
    made = drawn(vits.VitsResidualCouplingBlock, SMALL)
    with_biases(made.flows[0], "conv_post", p["stages"]["0"]["net"]["b"])
    return layer(lambda *given, **named: (made(*given, **named), given[0].new_zeros(len(given[0]))))


def conv_flow(p):
    return layer(with_biases(drawn(vits.VitsConvFlow, ONE), "conv_proj", raw(p)))


for like, coupling in vits_splines():
    declare(coupling, f"_unconstrained_rational_quadratic_spline [{like} numbers]",
            lambda p: directions(vits._unconstrained_rational_quadratic_spline, p, "reverse"))
    declare(coupling, f"VitsConvFlow [{like} numbers]", conv_flow)
declare(affine, "VitsElementwiseAffine", scaled)
declare(shift, "VitsResidualCouplingLayer", coupled)
declare(block, "VitsResidualCouplingBlock", coupling_block, fixed=["stages.0.net.W"])
