"""Whether today's data has the samples that a project knows: renamed ids would make all of them new."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from ..data.id_problems import ids_of
from ..data.samples import Data
from ..errors import ExpungeError
from ..sources.source import Source
from .fingerprints import COPIED, NAME, Fingerprints


def check_recognised(
    known: Fingerprints,
    current: Fingerprints,
    source: Source,
    named: Callable[[], Collection[str]],
    say: Callable[[str], None],
) -> None:
    """Compare the ids of today's training samples with those that a project knows.

    Args:
        known: Fingerprints of all samples that the project has known, without those of today.
        current: Those of today's data.
        source: Today's data.
        named: Returns the ids that requests named. The data may have lost these.
        say: Gets a sentence if the data has lost other samples and has new ones: perhaps ids were renamed.

    Raises:
        ExpungeError: No id is known.
    """
    old, new = known.train[:, NAME], current.train[:, NAME]
    added = int((~np.isin(new, old)).sum())
    if not added:
        return
    removed = named()
    if added == len(new) and len(old):
        example = f", '{min(removed)}' in its requests" if removed else ""
        now = next(iter(ids_of(source.train)))
        raise ExpungeError(
            f"none of the {len(new):,} training samples has an id that the project knows (ids such as '{now}' now"
            f"{example}), so neither the samples of requests nor the validation set can be recognised; give the data with its old ids."
        )
    lost = int((~np.isin(old, new) & ~known.which(removed)).sum())
    if not lost:
        return
    text = (
        f"the data lacks {lost:,} of the {len(old):,} training samples that the project knows and that no request named, and "
        f"{added:,} samples have new ids. If ids were renamed, give the old ones: under a new id, a sample counts as a new one"
    )
    if removed:
        found = current.which(removed) | _copied(known, current, removed)
        text += f". Of the {len(removed):,} samples of requests, the data has {int(found.sum()):,}, by id or contents"
    say(f"{text}.")


def _copied(known: Fingerprints, current: Fingerprints, ids: Collection[str]) -> np.ndarray:
    """Return which of today's training samples have the contents of samples with these ids, bool (N,)."""
    wanted = known.copied_of(ids)
    return np.asarray(np.isin(current.train[:, COPIED:], wanted[wanted != 0]).any(1))


def check_validation(names: Collection[str], removed: Collection[str], data: Data, part: str) -> int:
    """Return how many samples of a validation set today's data has.

    Args:
        names: Ids of the validation set.
        removed: Ids that requests named. The data may have lost these.
        data: The data that it was drawn from.
        part: "training" or "test".

    Raises:
        ExpungeError: The data has none of them, and requests have not named all of them.
    """
    here = set(names) & set(map(str, ids_of(data)))
    if not here and (left := set(names) - set(removed)):
        raise ExpungeError(
            f"the {part} data has none of the {len(names):,} samples of the validation set (such as '{min(left)}'), by which settings are "
            "chosen and runs are judged; give the data with its old ids, or begin a new project with `expunge init` and the latest model."
        )
    return len(here)
