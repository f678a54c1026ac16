"""refflow: the reference for normalizing flows, in plain NumPy with hand-derived gradients."""

from .elementwise import Affine, Tanh
