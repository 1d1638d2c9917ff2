"""Hashes of the samples of a `Data`, by which copies are found. One pass reads every sample once; later splits reuse it."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from .input_hashes import READ_TWICE, as_numbers, digest, kept_random_state, named_inputs, sample_hashes
from .near_copies import Kind, image_signatures, is_image, token_signature, word_numbers
from .samples import Data

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


# {data: (its version, the hashes)}
_KNOWN: WeakKeyDictionary[Data, tuple[object, SampleHashes]] = WeakKeyDictionary()


def hashes_of(data: Data) -> SampleHashes:
    """Return the hashes of the samples of `data`. The first call reads all samples once, later calls none until tensors change."""
    if data not in _KNOWN or _KNOWN[data][0] != data.version:
        with kept_random_state():
            _KNOWN[data] = (data.version, _hash_all(data))
    return _KNOWN[data][1]


def _hash_all(data: Data) -> SampleHashes:
    exact, blank, signatures, kinds = [], [], [], set()
    for x in data.raw_inputs():
        inputs = named_inputs(x)
        if inputs is None:
            return _not_hashed(data, type(x).__name__)
        exact.append(sample_hashes(inputs))
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
    of_texts = as_numbers([digest(text.encode()) for text in texts])
    near = np.stack([token_signature(word_numbers(text)) for text in texts])
    empty = np.array([not text for text in texts])
    return SampleHashes(np.stack([keys, of_texts], axis=1), empty, near, "MinHash", limits)


def _not_hashed(data: Data, kind: str) -> SampleHashes:
    limit = f"the inputs are {kind} and not tensors, so copies of forget samples were not looked for."
    return SampleHashes(np.zeros((len(data), 1, 2), np.uint64), np.ones(len(data), bool), limits=(limit,))


def normalised(text: str) -> str:
    """Return a text without differences of Unicode form (NFC), case and white space."""
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).split())


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
    again = [
        sample_hashes(inputs) for x in data.raw_inputs(READ_TWICE) if (inputs := named_inputs(x)) is not None
    ]
    second = np.concatenate(again)
    return bool((second == keys[: len(second)]).all())
