"""`Copies`: the copies of forget samples that were found when a split was drawn.

A model that is trained on a copy of a forget sample has not forgotten it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..summaries import short, summary
from .near_copies import Kind
from .samples import Samples

CopyHandling = Literal["include", "report", "ignore"]


class CopyWarning(UserWarning):
    """Copies of forget samples were found, or cannot be found."""


# ids that a sentence shows
SHOWN_IDS = 5
# limits that `repr` shows; with two kinds of copies in three sets it has 12 lines at most
SHOWN_LIMITS = 3


@dataclass(frozen=True, eq=False)
class CopyPairs:
    """Hold the copies in one set, each with a forget sample that it is a copy of.

    Args:
        copies: The copies (P,), in ascending order of their positions.
        of: The forget samples (P,).
        similarity: Similarity (P,) of near copies, from 0 to 1. None for exact copies.
    """

    copies: Samples
    of: Samples
    similarity: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.copies)

    @classmethod
    def joined(cls, parts: Sequence[CopyPairs]) -> CopyPairs:
        """Return the copies of several pairs, one after the other. All are in the same data."""
        first = parts[0]
        copies, of = (
            Samples(getattr(first, name).data, torch.cat([getattr(p, name).index for p in parts]))
            for name in ("copies", "of")
        )
        similarities = [p.similarity for p in parts if p.similarity is not None]
        return cls(copies, of, np.concatenate(similarities) if similarities else None)

    def take(self, which: Tensor) -> CopyPairs:
        """Return some of the pairs, by a bool tensor (P,) or positions."""
        similarity = None if self.similarity is None else self.similarity[which.numpy()]
        return CopyPairs(self.copies.take(which), self.of.take(which), similarity)

    @property
    def other_label(self) -> Tensor:
        """Whether the label of a copy differs from that of the forget sample: bool (P,)."""
        return (self.copies.labels != self.of.labels).reshape(len(self), -1).any(1)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts, for a record, and of near copies the lowest similarity. It holds no ids."""
        entry: dict[str, Any] = {"count": len(self), "other_label": int(self.other_label.sum())}
        if self.similarity is not None and len(self):
            entry["similarity"] = round(float(min(self.similarity)), 3)
        return entry


@dataclass(frozen=True, eq=False)
class Copies:
    """Hold the copies of forget samples that were found when a split was drawn.

    Args:
        handling: "include", "report" or "ignore".
        exact: {set: exact copies} for "retain", "validation" and "test". Only sets with copies are named. With "include",
            those of "retain" and "validation" are now in the forget set; test samples of "validation" are left out of all sets.
        near: {set: near copies}, without the exact ones. They stay in their set.
        forget_in_test: Number of forget samples that have an exact copy in the test set.
        near_by: How near copies were found: "perceptual hash", "MinHash", or None if they were not looked for.
        limits: Why copies may have been missed, one sentence each.
        seen: Test samples of the validation set that are exact copies of training samples outside of the forget set, or None. A model
            has seen them, so they are left out of all sets.
        seen_in_test: Number of test samples that are exact copies of such training samples. They stay.

    Example:
        >>> split = Split.by_ids(train, test, ["7"])  # doctest: +SKIP
        >>> split.copies.exact["retain"].copies.ids  # doctest: +SKIP
        ['912']
    """

    handling: CopyHandling = "ignore"
    exact: Mapping[str, CopyPairs] = field(default_factory=dict)
    near: Mapping[str, CopyPairs] = field(default_factory=dict)
    forget_in_test: int = 0
    near_by: Kind | None = None
    limits: tuple[str, ...] = ()
    seen: CopyPairs | None = None
    seen_in_test: int = 0

    def __len__(self) -> int:
        return sum(map(len, (*self.exact.values(), *self.near.values())))

    def __repr__(self) -> str:
        lines = [
            f"{kind} in the {part} set: {len(pairs):,}, {_ids(pairs)}"
            for kind, found in (("exact", self.exact), ("near", self.near))
            for part, pairs in found.items()
        ]
        near_by = f"near copies by {self.near_by}" if self.near_by else "near copies not looked for"
        facts = lines or ["none found"]
        if self.handling == "ignore":
            return summary("Copies(ignore)", "not looked for")
        return summary(f"Copies({self.handling})", *facts, near_by, *self.limits[:SHOWN_LIMITS])

    @property
    def in_training(self) -> Mapping[str, CopyPairs]:
        """The exact copies in retain and validation set, as they were drawn. The validation set may be of test samples."""
        return {part: pairs for part, pairs in self.exact.items() if part != "test"}

    @property
    def included(self) -> Tensor:
        """Positions (n,) of the exact copies that joined the forget set."""
        return self._moved(of_test=False)

    @property
    def left_out(self) -> Tensor:
        """Positions (m,) in the test data of the exact copies that left the validation set: a model has seen their content."""
        seen = self.seen.copies.index if self.seen is not None else torch.empty(0, dtype=torch.int64)
        return torch.cat([self._moved(of_test=True), seen])

    def _moved(self, of_test: bool) -> Tensor:
        pairs = self.in_training.values() if self.handling == "include" else ()
        moved = [p.copies.index for p in pairs if _of_test(p) == of_test]
        return torch.cat([torch.empty(0, dtype=torch.int64), *moved])

    @property
    def sentences(self) -> list[str]:
        """One sentence for each set with exact or near copies, without exact ones in the test set, and the limits.

        Every split warns of them, and commands print them: a model may still learn from near copies.
        """
        exact = [self._about_exact(part, pairs) for part, pairs in self.in_training.items()]
        near = [
            f"{_counted(len(pairs), 'near')} in the {part} set, which stay{'s' * (len(pairs) == 1)} there: {_ids(pairs)}."
            for part, pairs in self.near.items()
        ]
        return [*exact, *near, *self._about_seen(), *self._about_test(), *self.limits]

    def _about_test(self) -> list[str]:
        if not (count := self.forget_in_test):
            return []
        samples, they = ("sample is", "it is") if count == 1 else ("samples are", "they are")
        return [
            f"{count:,} forget {samples} also in the test set, byte for byte or as equal text: the test set "
            f"cannot show that {they} forgotten; remove the copies from the test set."
        ]

    def _about_seen(self) -> list[str]:
        """One sentence each on the validation samples and the test samples that a model was trained on."""
        texts = []
        if self.seen is not None:
            several = len(self.seen) > 1
            what = f"{len(self.seen):,} test sample{'s' * several} drawn or named for validation"
            texts.append(
                f"{what} {'are exact copies' if several else 'is an exact copy'} of training samples, so a model has seen the content; "
                f"the validation set is now without: {_ids(self.seen)}."
            )
        if self.seen_in_test:
            texts.append(
                f"{self.seen_in_test:,} test sample{'s are exact copies' if self.seen_in_test > 1 else ' is an exact copy'} of training "
                "samples that are kept: TA and MIA take them for unseen samples; remove them from the test set."
            )
        return texts

    def _about_exact(self, part: str, pairs: CopyPairs) -> str:
        one, which = len(pairs) == 1, pairs.other_label
        place = f"{_counted(len(pairs), 'exact')} in the {part} set"
        if _of_test(pairs):
            end, remedy = (
                "which was taken from the test set, and is now without them",
                (
                    "leave copies out of it (copies='include', --copies include), or rules and trials take them for samples that no "
                    "model has seen."
                ),
            )
            stays = f"which was taken from the test set; {'it' if one else 'they'} stay{'s' * one} there"
        else:
            end, remedy = (
                "now in the forget set",
                (
                    "include copies in the forget set (copies='include', --copies include), or the model still learns from them."
                ),
            )
            stays = f"which stay{'s' * one} there"
        text = (
            f"{place}, {end}: {_ids(pairs)}."
            if self.handling == "include"
            else f"{place}, {stays}: {_ids(pairs)}; {remedy}"
        )
        wrong = pairs.take(which)
        if not len(wrong):
            return text
        return f"{text} Another label than the forget sample: {len(wrong):,}, {_ids(wrong)}."

    def to_dict(self) -> dict[str, Any]:
        """Return the counts of each set, for a record. It holds no ids."""
        return {
            "handling": self.handling,
            "exact": {part: pairs.to_dict() for part, pairs in self.exact.items()},
            "near": {part: pairs.to_dict() for part, pairs in self.near.items()},
            "near_by": self.near_by,
            **({"seen": self.seen.to_dict()} if self.seen is not None else {}),
            **({"seen_in_test": self.seen_in_test} if self.seen_in_test else {}),
            "limits": list(self.limits),
        }


def _of_test(pairs: CopyPairs) -> bool:
    return pairs.copies.data is not pairs.of.data


def _counted(count: int, kind: str) -> str:
    return f"{count:,} {kind} cop{'y' if count == 1 else 'ies'} of forget samples"


def _ids(pairs: CopyPairs) -> str:
    ids = pairs.copies.take(torch.arange(len(pairs))[:SHOWN_IDS]).ids
    more = f" and {len(pairs) - SHOWN_IDS:,} more" if len(pairs) > SHOWN_IDS else ""
    return f"id{'s' * (len(pairs) > 1)} {short(', '.join(ids), 60)}{more}"
