"""Flows in torch, as people write them, for `python -m validation.bench typed`; nothing here imports refflow."""
