"""Small helpers for torch: modes and random state of a model, memory formats, memory allocation."""
