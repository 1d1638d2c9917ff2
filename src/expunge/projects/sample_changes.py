"""Which samples have other contents or another label than those that a project knows under their ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch

from ..data.samples import Data, Samples
from ..sources.source import Source
from .fingerprints import CONTENT, COPIED, NAME, SAMPLE, Fingerprints, label_hashes

# ids that a sentence shows
SHOWN_IDS = 5
# what of two samples can be compared: with another preprocessing only texts and labels, with another column of texts only labels
Compared = Literal["contents", "texts", "labels"]


def sample_problems(
    pinned: Fingerprints,
    current: Fingerprints,
    source: Source,
    requests: Mapping[str, int],
    compared: Compared = "contents",
) -> list[str]:
    """Return which samples have other contents or another label than at first, one sentence per part and kind.

    Args:
        pinned: The fingerprints of the project.
        current: Those of today's data.
        source: Today's data.
        requests: {id: number of the earlier request that removed this training sample}.
        compared: "texts" if another preprocessing gives the same texts other inputs, "labels" if it changes all contents.
    """
    parts = (
        ("train", source.train, pinned.train, current.train),
        ("test", source.test, pinned.test, current.test),
    )
    problems = []
    for part, data, old, new in parts:
        known = np.isin(new[:, NAME], old[:, NAME])
        if compared == "contents":
            same_content = np.isin(new[:, CONTENT], old[:, CONTENT])
            relabelled = known & same_content & ~np.isin(new[:, SAMPLE], old[:, SAMPLE])
        else:
            same_content = ~known | (_same_texts(old, new) if compared == "texts" else True)
            labels = label_hashes(data, part, pinned.key)
            relabelled = known & same_content & ~np.isin(labels, pinned.labels) & bool(len(pinned.labels))
        by = requests if part == "train" else {}
        problems += _sentences(data, part, known & ~same_content, "other contents", by, known)
        problems += _sentences(data, part, relabelled, "another label", by, known)
    return problems


def _same_texts(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Return which rows (N,) of a table have the id and the text of a row of another table."""
    if min(old.shape[1], new.shape[1]) <= COPIED + 1:
        return np.ones(len(new), bool)
    known = set(zip(old[:, NAME].tolist(), old[:, -1].tolist(), strict=True))
    return np.array([row in known for row in zip(new[:, NAME].tolist(), new[:, -1].tolist(), strict=True)])


def _sentences(
    data: Data, part: str, changed: np.ndarray, what: str, requests: Mapping[str, int], known: np.ndarray
) -> list[str]:
    """Describe changed samples. Those of earlier requests come first: their contents are evidence."""
    positions = np.flatnonzero(changed)
    if not len(positions):
        return []
    ids = Samples(data, torch.from_numpy(positions)).ids
    ids.sort(key=lambda name: requests.get(name, len(requests) + 1))
    texts = [f"{name!r} (request {requests[name]})" if name in requests else repr(name) for name in ids]
    shown = ", ".join(texts[:SHOWN_IDS]) + (
        f" and {len(ids) - SHOWN_IDS:,} more" if len(ids) > SHOWN_IDS else ""
    )
    kind = "training" if part == "train" else "test"
    called = "ids" if data.ids is not None else "positions, because the data has no ids"
    reason = ""
    if len(positions) > 1 and 2 * len(positions) > known.sum():
        reason = " Most samples differ, so look for a changed preprocessing, tokenizer or image library."
    return [
        f"{len(ids):,} of {int(known.sum()):,} {kind} samples have {what} than at the first request under the same {called}: "
        f"{shown}.{reason} Restore them, or give other samples new ids."
    ]
