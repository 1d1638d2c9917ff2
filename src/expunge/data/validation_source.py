"""Where the validation set comes from, as plain values, and what to do where there is none. It imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypeAlias, get_args

ValidationFrom: TypeAlias = Literal["train", "test"]
Ids: TypeAlias = str | Path | Iterable[str | int]

NO_UNSEEN = "the split has no samples that the original never saw"
# share that is drawn where nobody says otherwise
DEFAULT_SHARE = 0.1
REMEDY = "draw them from the test set (validation_from='test', --validation-from test), or name them (unseen_ids, --unseen-ids)"


def source_problems(
    validation: float, validation_from: str, named: bool, names: tuple[str, str, str] | None = None
) -> list[str]:
    """Return what is wrong with the source of the validation set, one sentence each.

    Args:
        validation: Share to draw.
        validation_from: "train" or "test".
        named: Whether ids are given instead of a draw.
        names: How messages call the share, the source and the ids.
    """
    share, source, ids = names or ("validation", "validation_from", "unseen_ids")
    if validation_from not in get_args(ValidationFrom):
        return [f"{source} is {validation_from!r}; give {' or '.join(get_args(ValidationFrom))}."]
    if named and validation not in (0, DEFAULT_SHARE):
        return [
            f"{share} {validation:g} and {ids} are given, which both say what the validation set is; give one of them."
        ]
    if validation_from == "train":
        return []
    if named:
        return [f"{source} and {ids} are given, which both say what the validation set is; give one of them."]
    if not validation:
        return [f"{source} is test and {share} is 0; give a share of the test set, such as 0.1."]
    return []
