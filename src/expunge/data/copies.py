"""Copies of forget samples in the retain, validation and test set.

A model that is trained on a copy of a forget sample has not forgotten it. Exact copies in the retain and validation set
therefore join the forget set, unless the user says otherwise. Near copies are reported. `Split` calls `find_copies`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ..errors import SplitError
from ..summaries import short, summary
from .copy_hashes import SampleHashes, hashes_of
from .near_copies import near_pairs
from .samples import Data, Samples

CopyHandling = Literal["include", "report", "ignore"]

# ids that a sentence shows
SHOWN_IDS = 5
# ids that a record stores of each part
RECORDED_IDS = 100
SET_NAMES = {"retain": "retain set", "validation": "validation set", "test": "test set"}


@dataclass(frozen=True, eq=False)
class CopyPairs:
    """Copies in one set, each with a forget sample that it is a copy of.

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

    @property
    def other_label(self) -> Tensor:
        """Whether the label of a copy differs from that of the forget sample: bool (P,)."""
        return (self.copies.labels != self.of.labels).reshape(len(self), -1).any(1)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts and the first 100 pairs of ids, for a record."""
        entry = {
            "count": len(self),
            "other_label": int(self.other_label.sum()),
            "copies": self.copies.take(torch.arange(len(self))[:RECORDED_IDS]).ids,
            "of": self.of.take(torch.arange(len(self))[:RECORDED_IDS]).ids,
        }
        if self.similarity is not None:
            entry["similarity"] = [round(float(s), 3) for s in self.similarity[:RECORDED_IDS]]
        return entry


@dataclass(frozen=True, eq=False)
class Copies:
    """The copies of forget samples that were found when a split was drawn.

    Args:
        handling: "include", "report" or "ignore".
        exact: {set: exact copies} for "retain", "validation" and "test". Only sets with copies are named. With "include", the
            samples of "retain" and "validation" are now in the forget set.
        near: {set: near copies}, without the exact ones. They stay where they are.
        forget_in_test: Number of forget samples that have an exact copy in the test set.
        by_text: Whether samples of equal normalised text count as exact copies.
        limits: What could not be looked for, one sentence each.

    Example:
        >>> split = Split.by_ids(train, test, ["7"])
        >>> split.copies.exact["retain"].copies.ids
        ['912']
    """

    handling: CopyHandling
    exact: Mapping[str, CopyPairs] = field(default_factory=dict)
    near: Mapping[str, CopyPairs] = field(default_factory=dict)
    forget_in_test: int = 0
    by_text: bool = False
    limits: tuple[str, ...] = ()

    def __repr__(self) -> str:
        def lines(kind: str, found: Mapping[str, CopyPairs]) -> list[str]:
            return [
                f"{kind} in the {SET_NAMES[part]}: {len(pairs):,} ({short(', '.join(pairs.copies.ids[:SHOWN_IDS]), 60)})"
                for part, pairs in found.items()
            ]

        facts = [*lines("exact", self.exact), *lines("near", self.near)]
        nothing = "not looked for" if self.handling == "ignore" else "none found"
        return summary(f"Copies({self.handling})", *(facts or [nothing]), *self.limits)

    @property
    def included(self) -> Mapping[str, CopyPairs]:
        """The exact copies in retain and validation set that joined the forget set."""
        movable = {part: pairs for part, pairs in self.exact.items() if part != "test"}
        return movable if self.handling == "include" else {}

    @property
    def from_validation(self) -> Tensor:
        """Positions (n,) of forget samples that came from the validation set: the original was not trained on them."""
        pairs = self.included.get("validation")
        return torch.empty(0, dtype=torch.int64) if pairs is None else pairs.copies.index

    def moved(self, forget: Tensor, retain: Tensor, validation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return forget, retain and validation set, bool (N,) each, with the included copies in the forget set.

        Raises:
            SplitError: No sample would be retained.
        """
        if not self.included:
            return forget, retain, validation
        copied = torch.zeros_like(forget)
        for pairs in self.included.values():
            copied[pairs.copies.index] = True
        if not (retain & ~copied).any():
            raise SplitError(
                f"all {int(retain.sum())} samples of the retain set are exact copies of forget samples, so no sample would be "
                "retained; check the data, or report copies only (copies='report', --copies report)."
            )
        return forget | copied, retain & ~copied, validation & ~copied

    @property
    def spec(self) -> dict[str, Any]:
        """How copies changed the split, for its description. Empty if there was nothing to choose."""
        if self.handling == "ignore":
            return {"copies": "ignore"}
        if not any(part != "test" for part in self.exact):
            return {}
        count = sum(map(len, self.included.values()))
        return {"copies": self.handling, **({"copies_included": count} if count else {})}

    @property
    def warnings(self) -> list[str]:
        """One sentence for each set with exact copies, and one for copies with another label."""
        texts = []
        for part, pairs in self.exact.items():
            if part == "test":
                how = "with equal text or tokens" if self.by_text else "byte for byte"
                texts.append(
                    f"{self.forget_in_test} forget samples are also in the test set, {how}: the test set cannot show that they "
                    "are forgotten; remove the copies from the test set."
                )
                continue
            name, start = SET_NAMES[part], _counted(len(pairs), "exact")
            texts.append(
                f"{start} {_were(pairs)} in the {name} and {_are(pairs)} now part of the forget set: {_ids(pairs)}."
                if self.handling == "include"
                else f"{start} {_are(pairs)} in the {name} and stay{_s(pairs)} there: {_ids(pairs)}; include copies in the "
                "forget set (copies='include', --copies include), or the model still learns from them."
            )
            if wrong := _with_other_label(pairs):
                texts.append(
                    f"{len(wrong)} of the exact copies in the {name} {_have(wrong)} another label than the forget sample: {_ids(wrong)}."
                )
        return texts

    @property
    def notes(self) -> list[str]:
        """Everything that was found, one sentence each: `warnings`, then near copies and limits."""
        near = [
            f"{_counted(len(pairs), 'near')} {_are(pairs)} in the {SET_NAMES[part]} and stay{_s(pairs)} there: {_ids(pairs)}."
            for part, pairs in self.near.items()
        ]
        return [*self.warnings, *near, *self.limits]

    def to_dict(self) -> dict[str, Any]:
        """Return counts and the first 100 ids of each set, for a record."""
        return {
            "handling": self.handling,
            "exact": {part: pairs.to_dict() for part, pairs in self.exact.items()},
            "near": {part: pairs.to_dict() for part, pairs in self.near.items()},
            "limits": list(self.limits),
        }


def find_copies(
    train: Data, test: Data, forget: Tensor, retain: Tensor, validation: Tensor, handling: CopyHandling
) -> Copies:
    """Find the copies of forget samples. Every sample is read and hashed once.

    Args:
        train: The training data.
        test: The test data.
        forget: Bool (N,), the requested samples.
        retain: Bool (N,), the samples of the retain set.
        validation: Bool (N,), the samples of the validation set.
        handling: "include" also looks for copies of the included copies; "ignore" looks for nothing.

    Raises:
        SplitError: `handling` is none of these, or the inputs are not tensors.
    """
    if handling not in get_args(CopyHandling):
        raise SplitError(f"copies is '{handling}'; give {', '.join(get_args(CopyHandling))}.")
    if handling == "ignore":
        return Copies("ignore")
    hashes, test_hashes = hashes_of(train), hashes_of(test)
    copied, of = _exact_in_training(hashes.exact, _positions(forget), _positions(retain | validation))
    everything = torch.zeros_like(forget)
    everything[copied] = True
    everything |= forget
    in_test, of_test = _exact(hashes.exact, _positions(everything), test_hashes.exact, np.arange(len(test)))
    exact = {}
    for part, which in (("retain", retain), ("validation", validation)):
        chosen = which.numpy()[copied]
        exact[part] = _pairs(train, copied[chosen], train, of[chosen])
    exact["test"] = _pairs(test, in_test, train, of_test)
    forgotten = everything if handling == "include" else forget
    # `everything` has left the candidates, so that no exact copy is reported as a near one too
    near = _near(train, test, hashes, test_hashes, forgotten, everything, {"retain": retain, "validation": validation}, in_test)
    return Copies(
        handling,
        {part: pairs for part, pairs in exact.items() if len(pairs)},
        {part: pairs for part, pairs in near.items() if len(pairs)},
        len(_exact(test_hashes.exact, in_test, hashes.exact, _positions(forgotten))[0]),
        train.texts is not None,
        _limits(hashes, test_hashes),
    )


def _positions(which: Tensor) -> np.ndarray:
    return np.flatnonzero(which.numpy())


def _pairs(
    data: Data, copies: np.ndarray, train: Data, of: np.ndarray, similarity: np.ndarray | None = None
) -> CopyPairs:
    return CopyPairs(Samples(data, torch.from_numpy(copies)), Samples(train, torch.from_numpy(of)), similarity)


def _exact_in_training(keys: np.ndarray, forget: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the exact copies among `others`, ascending, and of the samples that each is a copy of.

    With two hashes per sample, a copy of a copy may share no hash with the requested sample. So the search goes on from
    the copies.
    """
    found, partners, frontier = [], [], forget
    while len(frontier) and len(others):
        copied, of = _exact(keys, frontier, keys, others)
        found.append(copied)
        partners.append(of)
        others, frontier = np.setdiff1d(others, copied, assume_unique=True), copied
        if keys.shape[1] == 1:
            break
    empty = np.empty(0, np.int64)
    copied, of = np.concatenate([empty, *found]), np.concatenate([empty, *partners])
    order = np.argsort(copied)
    return copied[order], of[order]


def _exact(
    keys: np.ndarray, forget: np.ndarray, other_keys: np.ndarray, others: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of those `others` that share a hash with a forget sample, and of the first such forget sample."""
    partner = np.full(len(others), -1)
    for k in range(min(keys.shape[1], other_keys.shape[1])):
        mine, theirs = keys[forget, k], other_keys[others, k]
        # the first half of a hash leaves few candidates; Python compares the whole hashes of those
        rows = np.flatnonzero(np.isin(theirs[:, 0], mine[:, 0]) & (partner < 0))
        first: dict[bytes, int] = {}
        for position, key in zip(forget.tolist(), mine, strict=True) if len(rows) else ():
            first.setdefault(key.tobytes(), position)
        partner[rows] = [first.get(theirs[row].tobytes(), -1) for row in rows]
    where = np.flatnonzero(partner >= 0)
    return others[where], partner[where]


def _near(
    train: Data,
    test: Data,
    hashes: SampleHashes,
    test_hashes: SampleHashes,
    forgotten: Tensor,
    left_out: Tensor,
    sets: Mapping[str, Tensor],
    exact_in_test: np.ndarray,
) -> dict[str, CopyPairs]:
    """The near copies of the forgotten samples in each set."""
    if hashes.near is None or hashes.kind is None:
        return {}
    forget, found = _positions(forgotten), {}
    candidates = {part: (train, hashes, _positions(which & ~left_out)) for part, which in sets.items()}
    if test_hashes.kind == hashes.kind:
        rest = np.setdiff1d(np.arange(len(test)), exact_in_test, assume_unique=True)
        candidates["test"] = (test, test_hashes, rest)
    for part, (data, of_data, others) in candidates.items():
        assert of_data.near is not None
        pairs = near_pairs(hashes.near[forget], of_data.near[others], hashes.kind)
        found[part] = _pairs(data, others[pairs.others], train, forget[pairs.forget], pairs.similarity)
    return found


def _limits(hashes: SampleHashes, test_hashes: SampleHashes) -> tuple[str, ...]:
    limits = []
    if not (hashes.repeatable and test_hashes.repeatable):
        limits.append(
            "the data set gives other inputs each time it is read, so copies may be missed; leave random transforms to `augment`."
        )
    if hashes.kind is None:
        limits.append(
            "near copies were not looked for: the inputs are neither images of 16 pixels or more a side, nor texts or tokens."
        )
    return tuple(limits)


def _with_other_label(pairs: CopyPairs) -> CopyPairs:
    wrong = pairs.other_label
    return CopyPairs(pairs.copies.take(wrong), pairs.of.take(wrong))


def _counted(count: int, kind: str) -> str:
    return f"{count:,} {kind} cop{'y' if count == 1 else 'ies'} of forget samples"


def _ids(pairs: CopyPairs) -> str:
    ids = pairs.copies.take(torch.arange(len(pairs))[:SHOWN_IDS]).ids
    more = f" and {len(pairs) - SHOWN_IDS:,} more" if len(pairs) > SHOWN_IDS else ""
    return f"ids {', '.join(ids)}{more}"


def _were(pairs: CopyPairs) -> str:
    return "was" if len(pairs) == 1 else "were"


def _are(pairs: CopyPairs) -> str:
    return "is" if len(pairs) == 1 else "are"


def _have(pairs: CopyPairs) -> str:
    return "has" if len(pairs) == 1 else "have"


def _s(pairs: CopyPairs) -> str:
    return "s" if len(pairs) == 1 else ""
