"""Demonstrations: models trained on data that anyone can make again."""
