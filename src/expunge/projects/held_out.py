"""The validation set of a project by ids: it stays the same if the data loses, gains or reorders samples."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ..data.row_ids import OwnIds
from ..data.samples import Data, Samples
from ..data.split import Split
from ..data.split_parts import draw_validation
from ..data.validation_source import ValidationFrom
from ..errors import SplitError
from ..sources.source import Source


def drawn_ids(
    train: Data, test: Data, validation: float, seed: int, validation_from: ValidationFrom = "train"
) -> list[str]:
    """Return the ids of the validation set as it is drawn from this data; empty if the data has no ids."""
    data = test if validation_from == "test" else train
    if data.ids is None or not validation:
        return []
    pool = draw_validation(train, test, validation, seed, validation_from=validation_from)
    drawn = pool.from_test if validation_from == "test" else pool.for_validation
    return [str(name) for name in data.ids[drawn.numpy()]]


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


def any_split(
    source: Source, validation: float, seed: int, validation_from: ValidationFrom = "train"
) -> Split:
    """Return a split that forgets one sample. Its training samples are those of every other one."""
    first = OwnIds(["0" if source.train.ids is None else str(source.train.ids[0])])
    options: dict[str, Any] = {"validation": validation, "validation_from": validation_from, "seed": seed}
    return Split.by_ids(source.train, source.test, first, copies="ignore", **options)


def take_from_test(split: Split, ids: frozenset[str], settings: dict[str, Any]) -> Split:
    """Return a split that was drawn without validation set with one of these test samples.

    Args:
        split: The split, drawn with `validation=0`.
        ids: Ids of test samples. Those that the data no longer has are left out.
        settings: Share, seed and source that the ids were drawn with, for records.

    Raises:
        SplitError: No test sample is left.
    """
    data = split.test.data
    if data.ids is None:
        raise SplitError(
            "the test data has no ids now, by which the validation set is known; give it with its ids."
        )
    drawn = torch.tensor([str(name) in ids for name in data.ids])
    test, forgotten = (s.take(~drawn[s.index]) for s in (split.test, split.test_forgotten))
    if not len(test):
        raise SplitError("all test samples are in the validation set; give the test data as it was.")
    validation = data.samples(drawn.nonzero()[:, 0])
    return replace(
        split, validation=validation, test=test, test_forgotten=forgotten, spec={**split.spec, **settings}
    )
