"""Which samples a SISA ensemble was trained from: by id, or by position in data that must not change."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from ..data.samples import Data, Samples
from ..errors import ExpungeError
from ._sisa_states import TrainedFrom, derived_seed


def sample_keys(data: Data, seed: int) -> Tensor:
    """Return a number (N,) at least 0 for each sample, int64, whose remainder assigns it to a slice.

    With ids it is a hash of seed and id, whatever else the data holds. Without ids it is an entry of a random permutation.
    """
    if data.ids is None:
        return torch.randperm(len(data), generator=torch.Generator().manual_seed(derived_seed(seed, -1, 0)))
    return torch.tensor([_key(name, seed) for name in data.ids.tolist()], dtype=torch.int64)


def _key(name: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7], "big")


def trained_from(data: Data, keys: Tensor) -> TrainedFrom:
    """Return what an ensemble keeps of its data: the keys of samples with ids, else the fingerprint."""
    return data.fingerprint() if data.ids is None else keys.unique()


def check_samples(known: TrainedFrom | None, forget: Samples, keys: Tensor) -> None:
    """Raise `ExpungeError` unless the samples of an ensemble can be found in today's data.

    Args:
        known: What the ensemble keeps of its data.
        forget: The forget set.
        keys: `sample_keys` of today's data (N,).
    """
    data = forget.data
    if known is None:
        raise ExpungeError(
            "the ensemble was saved by an earlier version, which did not keep the samples of its shards, so a deletion might train the "
            "wrong shard; train the ensemble again on the retain set."
        )
    if isinstance(known, str):
        if data.ids is not None or data.fingerprint() != known:
            raise ExpungeError(
                "the ensemble names its samples by position, and the training data has changed since; give the data as it was, or train "
                "the ensemble again on data whose samples have ids of their own."
            )
        return
    if data.ids is None:
        raise ExpungeError(
            "the ensemble names its samples by id, and the training data has no ids now; give the data with its ids."
        )
    if len(forget) and not torch.isin(keys[forget.index], known).any():
        raise ExpungeError(
            f"the ensemble was trained from data without any of the {len(forget):,} forget samples (first: '{forget.ids[0]}'), so there is "
            "nothing to delete, or the ids have changed since; give the data with the ids of the training."
        )
