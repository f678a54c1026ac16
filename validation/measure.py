"""`measure` under the name by which certificate.md calls it."""

from refflow.truth.measure import measure

__all__ = ["measure"]
