"""Masks: which parameters of a model may move, how to choose them, and how to keep all others unchanged."""
