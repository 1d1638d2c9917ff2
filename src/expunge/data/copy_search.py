"""Find copies of forget samples in the retain, validation and test set. `Split` calls `include_copies`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from ..errors import SplitError
from .copies import Copies, CopyHandling, CopyPairs, CopyWarning
from .copy_hashes import SampleHashes, hashes_of
from .near_copies import near_pairs
from .samples import Data, Samples

_NONE = np.empty(0, np.int64)


def include_copies(
    train: Data,
    test: Data,
    forget: Tensor,
    retain: Tensor,
    validation: Tensor,
    from_test: Tensor,
    handling: CopyHandling,
) -> tuple[Tensor, Tensor, Copies]:
    """Find copies of forget samples, and warn of them. With "include", exact ones of retain and validation set join the forget set.

    Test samples cannot be forgotten: with "include", `Copies.left_out` are those that must leave the validation set.

    Args:
        train: The training data.
        test: The test data.
        forget: Bool (N,), the requested samples.
        retain: Bool (N,), the samples of the retain set.
        validation: Bool (N,), the training samples of the validation set.
        from_test: Bool (M,), the test samples of the validation set.
        handling: "include", "report" or "ignore".

    Returns:
        The forget set and the retain set, bool (N,) each, and the copies.

    Raises:
        SplitError: No sample would be retained, or none of the test samples of the validation set would be left.
    """
    copies = find_copies(train, test, forget, retain, validation, handling, from_test)
    copies = _with_seen(copies, train, test, ~(forget | validation), from_test, forget)
    copied = torch.zeros_like(forget)
    copied[copies.included] = True
    if not (retain & ~copied).any():
        raise SplitError(
            f"all {int(retain.sum())} samples of the retain set are exact copies of forget samples, so no sample would be "
            "retained; check the data, or report copies only (copies='report', --copies report)."
        )
    if len(copies.left_out) and len(copies.left_out) == from_test.sum():
        raise SplitError(
            f"all {len(copies.left_out)} test samples of the validation set are exact copies of training samples, so a model has seen "
            "them; take other samples (unseen_ids, --unseen-ids), more of them (validation, --validation), or none (validation 0)."
        )
    for text in copies.sentences:
        # The warning points at the caller of Split.random, Split.by_class, ...
        warnings.warn(text, CopyWarning, stacklevel=4)
    return forget | copied, retain & ~copied, copies


def copy_settings(scenario: str, copies: Copies) -> dict[str, Any]:
    """Return how copies were handled, for the description of a split.

    It is empty if the default draws the same sets.
    """
    if len(copies.included) or len(copies.left_out):
        counts = {"copies_included": len(copies.included), "copies_left_out": len(copies.left_out)}
        return {"copies": copies.handling, **{name: count for name, count in counts.items() if count}}
    left_in = copies.handling == "ignore" or copies.in_training
    return {"copies": copies.handling} if left_in and scenario in ("ids", "group") else {}


def find_copies(
    train: Data,
    test: Data,
    forget: Tensor,
    retain: Tensor,
    validation: Tensor,
    handling: CopyHandling,
    from_test: Tensor | None = None,
) -> Copies:
    """Find the copies of forget samples. The first search in a data set reads and hashes every sample once.

    Args:
        train: The training data.
        test: The test data.
        forget: Bool (N,), the requested samples.
        retain: Bool (N,), the samples of the retain set.
        validation: Bool (N,), the training samples of the validation set.
        handling: "include" also looks for copies of the included copies; "ignore" looks for nothing.
        from_test: Bool (M,), the test samples that are the validation set instead.

    Raises:
        SplitError: `handling` is none of these.
    """
    if handling not in get_args(CopyHandling):
        raise SplitError(f"copies is '{handling}'; give {', '.join(get_args(CopyHandling))}.")
    if handling == "ignore" or not forget.any():
        return Copies(handling)
    hashes, test_hashes = hashes_of(train), hashes_of(test)
    limits = tuple(dict.fromkeys(hashes.limits + test_hashes.limits))
    filled = torch.from_numpy(~hashes.blank)
    sets = {"retain": retain & filled, "validation": validation & filled}
    drawn = np.zeros(len(test), bool) if from_test is None else from_test.numpy()
    in_test, in_drawn = (np.flatnonzero(~test_hashes.blank & which) for which in (~drawn, drawn))
    copied, of = _exact_in_training(
        hashes.exact, _positions(forget & filled), _positions(sets["retain"] | sets["validation"])
    )
    either = forget & filled
    either[copied] = True
    exact = {part: _chosen(train, copied, of, which) for part, which in sets.items()}
    # A reported copy stays in its set. Its own copies in the test set are then no matter of the forget set.
    forgotten = either if handling == "include" else forget & filled
    test_copied, test_of = _exact(hashes.exact, _positions(forgotten), test_hashes.exact, in_test)
    exact["test"] = _pairs(test, test_copied, train, test_of)
    drawn_copied, drawn_of = _exact(hashes.exact, _positions(forgotten), test_hashes.exact, in_drawn)
    if drawn.any():
        exact["validation"] = _pairs(test, drawn_copied, train, drawn_of)
    # Exact copies have left the candidates, so that none is reported as a near one too.
    candidates = {part: (train, hashes, _positions(which & ~either)) for part, which in sets.items()}
    candidates["test"] = (test, test_hashes, np.setdiff1d(in_test, test_copied, assume_unique=True))
    if drawn.any():
        others = np.setdiff1d(in_drawn, drawn_copied, assume_unique=True)
        candidates["validation"] = (test, test_hashes, others)
    near = _near(train, hashes, _positions(forgotten), candidates)
    return Copies(
        handling,
        {part: pairs for part, pairs in exact.items() if len(pairs)},
        {part: pairs for part, pairs in near.items() if len(pairs)},
        len(_exact(test_hashes.exact, test_copied, hashes.exact, _positions(forgotten))[0]),
        hashes.kind if hashes.kind == test_hashes.kind else None,
        limits,
    )


def _with_seen(
    copies: Copies, train: Data, test: Data, trained: Tensor, from_test: Tensor, forgotten: Tensor
) -> Copies:
    """Add the test samples that are exact copies of what else the models were trained on.

    Args:
        copies: The copies of forget samples.
        train: The training data.
        test: The test data.
        trained: Bool (N,), the training samples outside of forget and validation set.
        from_test: Bool (M,), the test samples of the validation set.
        forgotten: Bool (N,), the requested samples. Without any, nothing is looked for.
    """
    if copies.handling == "ignore" or not forgotten.any():
        return copies
    hashes, test_hashes = hashes_of(train), hashes_of(test)
    known = torch.zeros(len(test), dtype=torch.bool)
    for pairs in copies.exact.values():
        known[pairs.copies.index if pairs.copies.data is test else []] = True
    found = {}
    for of_validation, which in ((True, from_test), (False, ~from_test)):
        others = _positions(which & ~known & torch.from_numpy(~test_hashes.blank))
        kept = _positions(trained & torch.from_numpy(~hashes.blank))
        found[of_validation] = _exact(hashes.exact, kept, test_hashes.exact, others)
    seen, of = found[True]
    of_seen = _pairs(test, seen, train, of) if len(seen) else None
    return replace(copies, seen=of_seen, seen_in_test=len(found[False][0]))


def _positions(which: Tensor) -> np.ndarray:
    return np.flatnonzero(which.numpy())


def _pairs(
    data: Data, copies: np.ndarray, train: Data, of: np.ndarray, similarity: np.ndarray | None = None
) -> CopyPairs:
    return CopyPairs(
        Samples(data, torch.from_numpy(copies)), Samples(train, torch.from_numpy(of)), similarity
    )


def _chosen(train: Data, copied: np.ndarray, of: np.ndarray, which: Tensor) -> CopyPairs:
    """The exact copies in one set of the training data."""
    rows = which.numpy()[copied]
    return _pairs(train, copied[rows], train, of[rows])


def _exact_in_training(
    keys: np.ndarray, forget: np.ndarray, others: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the exact copies among `others`, ascending, and of the samples that each is a copy of.

    With two hashes per sample, a copy of a copy may share no hash with the requested sample. So the search goes on from
    the copies.
    """
    parts, partners, frontier = [_NONE], [_NONE], forget
    while len(frontier) and len(others):
        copied, of = _exact(keys, frontier, keys, others)
        parts.append(copied)
        partners.append(of)
        others = np.setdiff1d(others, copied, assume_unique=True)
        frontier = copied if keys.shape[1] > 1 else _NONE
    copied, of = np.concatenate(parts), np.concatenate(partners)
    order = np.argsort(copied)
    return copied[order], of[order]


def _exact(
    keys: np.ndarray, forget: np.ndarray, other_keys: np.ndarray, others: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of those `others` that share a hash with a forget sample, and of the first such forget sample."""
    partner = np.full(len(others), -1)
    for k in range(min(keys.shape[1], other_keys.shape[1])):
        mine, theirs = keys[forget, k], other_keys[others, k]
        # The first half of a hash leaves few candidates. Python compares their whole hashes.
        rows = np.flatnonzero(np.isin(theirs[:, 0], mine[:, 0]) & (partner < 0))
        first: dict[bytes, int] = {}
        for position, key in zip(forget.tolist(), mine, strict=True) if len(rows) else ():
            first.setdefault(key.tobytes(), position)
        partner[rows] = [first.get(theirs[row].tobytes(), -1) for row in rows]
    where = np.flatnonzero(partner >= 0)
    return others[where], partner[where]


def _near(
    train: Data,
    hashes: SampleHashes,
    forget: np.ndarray,
    candidates: Mapping[str, tuple[Data, SampleHashes, np.ndarray]],
) -> dict[str, CopyPairs]:
    """The near copies of forget samples in each set."""
    found: dict[str, CopyPairs] = {}
    for part, (data, of_data, others) in candidates.items():
        if hashes.near is None or of_data.near is None or hashes.kind is None or of_data.kind != hashes.kind:
            continue
        pairs = near_pairs(hashes.near[forget], of_data.near[others], hashes.kind)
        found[part] = _pairs(data, others[pairs.others], train, forget[pairs.forget], pairs.similarity)
    return found
