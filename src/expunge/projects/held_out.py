"""The validation set of a project by ids: it stays the same if the data loses, gains or reorders samples."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ..data.samples import Data, Samples
from ..data.split import Split
from ..data.split_parts import draw_validation
from ..errors import SplitError


def drawn_ids(train: Data, test: Data, validation: float, seed: int) -> list[str]:
    """Return the ids of the validation set as it is drawn from this data; empty if the data has no ids."""
    if train.ids is None or not validation:
        return []
    pool = draw_validation(train, test, validation, seed)
    return [str(name) for name in train.ids[pool.for_validation.numpy()]]


def hold_out(split: Split, ids: frozenset[str], settings: dict[str, Any]) -> Split:
    """Return a split that was drawn without validation set with one of these samples.

    Args:
        split: The split, drawn with `validation=0`.
        ids: Ids of the samples that the original never saw. Those that the data no longer has are left out.
        settings: Share and seed that the ids were drawn with, for records.

    Raises:
        SplitError: No sample is left to retain.
    """
    data = split.forget.data
    assert data.ids is not None
    held = torch.tensor([str(name) in ids for name in data.ids])
    retain, forget, withheld = split.retain.index, split.forget.index, split.withheld.index
    if not (~held[retain]).any():
        raise SplitError("the retain set is empty; keep at least one sample that the model was trained on.")
    return replace(
        split,
        retain=Samples(data, retain[~held[retain]]),
        withheld=Samples(data, withheld[~held[withheld]]),
        validation=Samples(data, torch.cat([retain[held[retain]], withheld[held[withheld]]]).sort().values),
        held_out=forget[held[forget]],
        spec={**split.spec, **settings},
    )
