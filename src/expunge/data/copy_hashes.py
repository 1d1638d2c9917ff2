"""Hashes of the samples of a `Data`, by which copies are found. One pass reads every sample once; later splits reuse it."""

from __future__ import annotations

import hashlib
import random
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from .near_copies import Kind, image_signatures, is_image, token_signature, word_numbers
from .samples import Data

# bytes of a hash of exact copies: two different samples never share one in practice
HASH_BYTES = 16
# samples that are read twice, to learn whether a data set gives the same inputs each time
READ_TWICE = 4
CHANGING = "the data set gives other inputs each time it is read, so copies may be missed; give random transforms as `augment`."


@dataclass(frozen=True, eq=False)
class SampleHashes:
    """Hold the hashes of all samples of a `Data`.

    Args:
        exact: Hashes (N, K, 2) uint64. Two samples are exact copies if one of their K hashes is equal: of the inputs, and
            of the normalised text if the data has texts.
        blank: Bool (N,), the samples without a word or token. They hold nothing that can be copied.
        near: Signatures (N, L) of near copies, or None if there is no signature for such inputs.
        kind: What the signatures are.
        limits: Why copies may be missed, one sentence each.
    """

    exact: np.ndarray
    blank: np.ndarray
    near: np.ndarray | None = None
    kind: Kind | None = None
    limits: tuple[str, ...] = ()


_KNOWN: WeakKeyDictionary[Data, SampleHashes] = WeakKeyDictionary()


def hashes_of(data: Data) -> SampleHashes:
    """Return the hashes of the samples of `data`. The first call reads all samples once, later calls none."""
    if data not in _KNOWN:
        with _kept_random_state():
            _KNOWN[data] = _hash_all(data)
    return _KNOWN[data]


def _hash_all(data: Data) -> SampleHashes:
    exact, blank, signatures, kinds = [], [], [], set()
    for x in data.raw_inputs():
        inputs = _named(x)
        if inputs is None:
            return _not_hashed(data, type(x).__name__)
        exact.append(_input_hashes(inputs))
        blank.append(_without_tokens(inputs))
        if data.texts is None:
            kind, rows = _signatures(inputs)
            kinds.add(kind)
            signatures.append(rows)
    if not exact:
        return SampleHashes(np.empty((0, 1, 2), np.uint64), np.empty(0, bool))
    keys, empty = np.concatenate(exact), np.concatenate(blank)
    limits = () if _gives_equal_inputs(data, keys) else (CHANGING,)
    if data.texts is None:
        kind = kinds.pop() if len(kinds) == 1 else None
        return SampleHashes(keys[:, None], empty, np.concatenate(signatures) if kind else None, kind, limits)
    texts = [normalised(str(text)) for text in data.texts]
    of_texts = _as_numbers([_digest(text.encode()) for text in texts])
    near = np.stack([token_signature(word_numbers(text)) for text in texts])
    empty = np.array([not text for text in texts])
    return SampleHashes(np.stack([keys, of_texts], axis=1), empty, near, "MinHash", limits)


def _not_hashed(data: Data, kind: str) -> SampleHashes:
    limit = f"the inputs are {kind} and not tensors, so copies of forget samples were not looked for."
    return SampleHashes(np.zeros((len(data), 1, 2), np.uint64), np.ones(len(data), bool), limits=(limit,))


def normalised(text: str) -> str:
    """Return a text without differences of Unicode form (NFC), case and white space."""
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).split())


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=HASH_BYTES).digest()


def _as_numbers(digests: list[bytes]) -> np.ndarray:
    """Digests as rows of two numbers: (n, 2) uint64."""
    return np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2)


def _named(x: Any) -> dict[str, Tensor] | None:
    """The inputs of a batch by name; None if they are not tensors."""
    if isinstance(x, Tensor):
        return {"x": x}
    inputs = dict(x) if isinstance(x, Mapping) else dict(enumerate(x)) if isinstance(x, tuple | list) else {}
    if not inputs or not all(isinstance(t, Tensor) for t in inputs.values()):
        return None
    return {str(name): t for name, t in inputs.items()}


def _tokens(inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    """Tokens and mask of the kept ones, (n, T) each on the CPU; None if the inputs are no texts."""
    tokens = inputs.get("input_ids", inputs.get("x"))
    if (
        tokens is None
        or tokens.ndim != 2
        or tokens.dtype not in (torch.int64, torch.int32)
        or tokens.shape[1] < 2
    ):
        return None
    tokens, mask = tokens.cpu().long(), inputs.get("attention_mask")
    # Without a mask, 0 is the padding, as for `text_transformer`.
    return tokens, tokens != 0 if mask is None else mask.cpu() != 0


def _without_tokens(inputs: dict[str, Tensor]) -> np.ndarray:
    found = _tokens(inputs)
    if found is None:
        return np.zeros(len(next(iter(inputs.values()))), bool)
    return (~found[1].any(1)).numpy()


def _input_hashes(inputs: dict[str, Tensor]) -> np.ndarray:
    """Hashes (n, 2) of the samples of a batch. Padding tokens do not count, so that two lengths of padding are equal."""
    mask = inputs.get("attention_mask")
    if mask is None:
        return _as_numbers([_digest(row) for row in _rows(inputs)])
    kept = mask.cpu() != 0
    per_token = {k: t.cpu() for k, t in inputs.items() if t.shape[:2] == kept.shape and k != "attention_mask"}
    others = {k: t for k, t in inputs.items() if k not in per_token and k != "attention_mask"}
    digests = []
    for n, whole in enumerate(_rows(others) if others else [b""] * len(kept)):
        tokens = (t[n][kept[n]] for t in per_token.values())
        digests.append(_digest(whole + b"".join(_row_bytes(k, t) for k, t in zip(per_token, tokens))))  # noqa: B905
    return _as_numbers(digests)


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


def _signatures(inputs: dict[str, Tensor]) -> tuple[Kind | None, np.ndarray]:
    """The kind and the signatures of a batch: of the first images, else of the tokens."""
    images = [t for t in inputs.values() if is_image(t)]
    if images:
        return "perceptual hash", image_signatures(images[0])
    found = _tokens(inputs)
    if found is None:
        return None, np.empty((0, 0))
    return "MinHash", np.stack([token_signature(row[kept].numpy()) for row, kept in zip(*found, strict=True)])


def _gives_equal_inputs(data: Data, keys: np.ndarray) -> bool:
    """Whether samples that are read again have the same hashes. Random transforms in a data set change them."""
    again = [_input_hashes(inputs) for x in data.raw_inputs(READ_TWICE) if (inputs := _named(x)) is not None]
    second = np.concatenate(again)
    return bool((second == keys[: len(second)]).all())


@contextmanager
def _kept_random_state() -> Iterator[None]:
    """Restore the random states that reading a data set may change."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
