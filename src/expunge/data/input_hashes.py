"""Hashes of the inputs of a batch, one for each sample."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

# bytes of a hash of exact copies: two different samples never share one in practice
HASH_BYTES = 16
# samples that are read twice, to learn whether a data set gives the same inputs each time
READ_TWICE = 4


def digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=HASH_BYTES).digest()


def as_numbers(digests: list[bytes]) -> np.ndarray:
    """Digests as rows of two numbers: (n, 2) uint64."""
    return np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2)


def named_inputs(x: Any) -> dict[str, Tensor] | None:
    """The inputs of a batch by name; None if they are not tensors."""
    if isinstance(x, Tensor):
        return {"x": x}
    inputs = dict(x) if isinstance(x, Mapping) else dict(enumerate(x)) if isinstance(x, tuple | list) else {}
    if not inputs or not all(isinstance(t, Tensor) for t in inputs.values()):
        return None
    return {str(name): t for name, t in inputs.items()}


def sample_hashes(inputs: dict[str, Tensor]) -> np.ndarray:
    """Hashes (n, 2) of the samples of a batch. Padding tokens do not count, so that two lengths of padding are equal."""
    mask = inputs.get("attention_mask")
    if mask is None:
        return as_numbers([digest(row) for row in _rows(inputs)])
    kept = mask.cpu() != 0
    per_token = {k: t.cpu() for k, t in inputs.items() if t.shape[:2] == kept.shape and k != "attention_mask"}
    others = {k: t for k, t in inputs.items() if k not in per_token and k != "attention_mask"}
    digests = []
    for n, whole in enumerate(_rows(others) if others else [b""] * len(kept)):
        tokens = (t[n][kept[n]] for t in per_token.values())
        digests.append(digest(whole + b"".join(_row_bytes(k, t) for k, t in zip(per_token, tokens))))  # noqa: B905
    return as_numbers(digests)


def _rows(inputs: dict[str, Tensor]) -> Iterator[bytes]:
    """Yield the bytes of each sample, with names, dtypes and shapes."""
    tensors = {k: t.detach().cpu().contiguous() for k, t in sorted(inputs.items())}
    heads = {k: _head(k, t[0]) for k, t in tensors.items() if len(t)}
    # Bytes, because NumPy has no bfloat16.
    parts = {k: t.reshape(len(t), -1).view(torch.uint8).numpy() for k, t in tensors.items() if k in heads}
    for n in range(len(next(iter(tensors.values())))):
        yield b"".join(heads[k] + parts[k][n].tobytes() for k in parts)


def _row_bytes(name: str, t: Tensor) -> bytes:
    return _head(name, t) + t.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _head(name: str, t: Tensor) -> bytes:
    return f"{name} {t.dtype} {tuple(t.shape)}".encode()


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Restore the random states that reading a data set may change."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
