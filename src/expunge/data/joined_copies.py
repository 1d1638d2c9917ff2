"""The copies of several requests that one run answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .copies import Copies, CopyPairs


def joined_copies(found: Sequence[Copies], forgotten: Tensor) -> Copies:
    """Return the copies of several requests together, for the record of their run.

    Args:
        found: The copies of each request.
        forgotten: Positions (n,) of all samples to forget. A near copy that another request asks for stays nowhere.

    Returns:
        The copies. Each sample is named once in each set. A test sample that several requests have copies of counts for each.
    """
    first = found[0]
    return replace(
        first,
        exact=_joined([c.exact for c in found]),
        near=_joined([c.near for c in found], forgotten),
        forget_in_test=sum(c.forget_in_test for c in found),
        near_by=next((c.near_by for c in found if c.near_by), None),
        limits=tuple(dict.fromkeys(text for c in found for text in c.limits)),
        seen=next((c.seen for c in found if c.seen is not None), None),
        seen_in_test=min(c.seen_in_test for c in found),
    )


def _joined(parts: Sequence[Mapping[str, CopyPairs]], left_out: Tensor | None = None) -> dict[str, CopyPairs]:
    """Return {set: copies} of several requests, ascending and without doubles, and without training samples at `left_out`."""
    joined = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        pairs = _once([part[name] for part in parts if name in part])
        of_training = pairs.copies.data is pairs.of.data
        if left_out is not None and of_training:
            pairs = pairs.take(~torch.isin(pairs.copies.index, left_out))
        if len(pairs):
            joined[name] = pairs
    return joined


def _once(pairs: Sequence[CopyPairs]) -> CopyPairs:
    every = CopyPairs.joined(pairs)
    # a stable sort keeps the first of equal positions in front
    order = every.copies.index.argsort(stable=True)
    index = every.copies.index[order]
    is_first = torch.ones(len(index), dtype=torch.bool)
    is_first[1:] = index[1:] != index[:-1]
    return every.take(order[is_first])
