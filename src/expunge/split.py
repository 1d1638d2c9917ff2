"""What is forgotten, what is kept, and what both are judged on: drawn once, named by a content hash.

The validation set is drawn first, from the seed alone, so that one original model, trained on everything else, serves
every forget set. The published code of SalUn draws it twice with two seeds, so that a tenth of its forget set was
never seen by the model that should forget it; here the hash of what the original was trained on travels with its
checkpoint and is asserted on load.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from .data import Data, Samples, TensorData, as_data, as_text
from .errors import SplitError, raise_all
from .files import read_ids

Goal = Literal["untrain", "unlearn"]


@dataclass(frozen=True, eq=False)
class Split:
    """Forget, retain, validation and test set of one run. Draw one with `by_class`, `random`, `by_ids` or `by_group`.

    `test_forgotten` holds the test samples of the forgotten classes, which class-wise runs leave out of `test`;
    `withheld` the training samples of the concept that the method is not shown (class unlearning from a part of it).
    `goal` is "untrain" (remove the samples' influence) or "unlearn" (remove the ability); `spec` says how it was drawn.
    """

    forget: Samples
    retain: Samples
    validation: Samples
    test: Samples
    test_forgotten: Samples
    withheld: Samples
    num_classes: int
    scenario: str
    goal: Goal
    spec: dict[str, Any]
    forget_classes: tuple[int, ...] = ()

    # ---- drawing

    @classmethod
    def by_class(
        cls,
        train: Any,
        test: Any,
        forget: int | str | Sequence[int | str],
        *,
        share: float = 1.0,
        goal: Goal = "unlearn",
        validation: float = 0.1,
        seed: int = 0,
    ) -> Split:
        """Forget one or several classes, by number or name.

        With `share` below 1 only that part of each class is named: under goal "unlearn" the rest is withheld from the
        method and from the reference, under "untrain" it is retained. Raises `SplitError` with every problem.
        """
        train, test, keep, held = _begin(train, test, validation, seed)
        wanted = [forget] if isinstance(forget, int | str) else list(forget)
        classes = _class_numbers(wanted, train, int(train.labels.max()) + 1)
        of_class = torch.isin(train.labels, torch.tensor(classes)) & keep
        named = of_class if share >= 1 else _share_of(of_class, share, seed, per_class=train.labels)
        whole = share >= 1 or goal == "unlearn"
        spec = {"scenario": "class", "forget": classes, "share": share, "goal": goal}
        return _finish(
            train,
            test,
            keep,
            held,
            named,
            of_class & ~named if whole else named & False,
            classes if whole else [],
            "class" if whole else "part of a class",
            goal,
            {**spec, "validation": validation, "seed": seed},
        )

    @classmethod
    def random(
        cls,
        train: Any,
        test: Any,
        share: float = 0.1,
        *,
        count: int | None = None,
        goal: Goal = "untrain",
        validation: float = 0.1,
        seed: int = 0,
    ) -> Split:
        """Forget a random share of the training samples, or exactly `count` of them."""
        train, test, keep, held = _begin(train, test, validation, seed)
        named = _share_of(keep, share, seed, count=count)
        spec = {
            "scenario": "random",
            "share": None if count else share,
            "count": count,
            "validation": validation,
            "seed": seed,
        }
        return _finish(
            train, test, keep, held, named, named & False, [], "random", goal, {**spec, "goal": goal}
        )

    @classmethod
    def by_ids(
        cls,
        train: Any,
        test: Any,
        ids: str | Path | Iterable[str | int],
        *,
        goal: Goal = "untrain",
        validation: float = 0.1,
        seed: int = 0,
    ) -> Split:
        """Forget the samples with these ids (of `Data.ids`, else positions): a list, or a text file with one a line."""
        train, test, keep, held = _begin(train, test, validation, seed)
        named = _positions(ids, train, keep)
        spec = {
            "scenario": "ids",
            "count": int(named.sum()),
            "validation": validation,
            "seed": seed,
            "goal": goal,
        }
        return _finish(train, test, keep, held, named, named & False, [], "ids", goal, spec)

    @classmethod
    def by_group(
        cls,
        train: Any,
        test: Any,
        column: str,
        values: Any,
        *,
        goal: Goal = "untrain",
        validation: float = 0.1,
        seed: int = 0,
    ) -> Split:
        """Forget the samples whose `Data.groups[column]` is one of `values`."""
        train, test, keep, held = _begin(train, test, validation, seed)
        if column not in train.groups:
            raise SplitError(
                f"there is no group column '{column}'; the data has {sorted(train.groups) or 'none'}."
            )
        wanted = [values] if isinstance(values, str | int) else list(values)
        there = as_text(train.groups[column])
        if absent := [v for v in wanted if str(v) not in there]:
            raise SplitError(
                f"no sample has {column} = {absent}; it takes the values {np.unique(there)[:20].tolist()}."
            )
        named = torch.from_numpy(np.isin(there, [str(v) for v in wanted])) & keep
        spec = {
            "scenario": "group",
            "column": column,
            "values": [str(v) for v in wanted],
            "validation": validation,
            "seed": seed,
        }
        return _finish(
            train, test, keep, held, named, named & False, [], "group", goal, {**spec, "goal": goal}
        )

    # ---- what was drawn

    @property
    def train(self) -> Samples:
        """What the original model was trained on: forget + retain (+ withheld), in data order."""
        return Samples(
            self.forget.data,
            torch.cat([self.forget.index, self.retain.index, self.withheld.index]).sort().values,
        )

    @cached_property
    def train_hash(self) -> str:
        """SHA-256 (hex) of the training samples: the same for every forget set with the same validation draw."""
        return _digest(self.forget.data.fingerprint(), self.train.index)

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of the whole split: the data's content and the positions of each set."""
        sets = [self.forget, self.retain, self.validation, self.test, self.test_forgotten, self.withheld]
        return _digest(
            self.forget.data.fingerprint() + self.test.data.fingerprint() + self.goal,
            *(s.index for s in sets),
        )

    @property
    def sizes(self) -> dict[str, int]:
        """Number of samples of each set."""
        names = ("forget", "retain", "validation", "test", "test_forgotten", "withheld")
        return {name: len(getattr(self, name)) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """What a record keeps: how it was drawn, the sizes, the hashes. No sample ids."""
        return {
            **self.spec,
            "scenario": self.scenario,
            "goal": self.goal,
            "sizes": self.sizes,
            "classes": self.num_classes,
            "forget_classes": list(self.forget_classes),
            "hash": self.hash,
            "train_hash": self.train_hash,
        }


def _begin(train: Any, test: Any, validation: float, seed: int) -> tuple[Data, Data, Tensor, Tensor]:
    """The data, and which training samples are kept for training and held for validation: bool (N,) each."""
    if not 0 <= validation < 1:
        raise SplitError(f"validation is a share of each class, at least 0 and below 1; {validation} came.")
    data, held_out = as_data(train), as_data(test)
    problems = [
        f"the {name} set is empty; give at least one sample."
        for name, d in (("training", data), ("test", held_out))
        if not len(d)
    ]
    problems += [
        f"the {name} set has labels below 0 (lowest {int(d.labels.min())}); number classes from 0."
        for name, d in (("training", data), ("test", held_out))
        if len(d) and d.labels.min() < 0
    ]
    if data is held_out:
        problems.append(
            "the training and the test set are the same object: forget and test would overlap; give separate data."
        )
    raise_all(problems, SplitError)
    if held_out.labels.max() > data.labels.max():
        raise SplitError(
            f"the test set has labels up to {int(held_out.labels.max())}, the training set up to "
            f"{int(data.labels.max())}: labels out of range; number both alike."
        )
    held = torch.zeros(len(data), dtype=torch.bool)
    if validation:
        held = _share_of(~held, validation, seed, per_class=data.labels)
    return data, held_out, ~held, held


def _share_of(
    among: Tensor, share: float, seed: int, *, per_class: Tensor | None = None, count: int | None = None
) -> Tensor:
    """Which of the samples `among` (bool) are drawn: a share of all, of each class, or a count."""
    if not 0 < share <= 1:
        raise SplitError(f"a share is above 0 and at most 1; {share} came.")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.zeros_like(among)
    groups = [among] if per_class is None else [among & (per_class == k) for k in per_class[among].unique()]
    for group in groups:
        place = group.nonzero()[:, 0]
        size = round(share * len(place)) if count is None else count
        if not 0 <= size <= len(place):
            raise SplitError(
                f"{size} samples were asked for and {len(place)} are there; ask for 1 to {len(place) - 1}."
            )
        drawn[place[torch.randperm(len(place), generator=generator)[:size]]] = True
    return drawn


def _class_numbers(wanted: list[int | str], data: Data, num_classes: int) -> list[int]:
    names = [str(c) for c in data.classes or []]
    found, problems = [], []
    for value in wanted:
        number = (
            names.index(value) if value in names else int(value) if str(value).lstrip("-").isdigit() else None
        )
        if number is None:
            problems.append(f"there is no class named '{value}'; known: {names or 'no names, use numbers'}.")
        elif not 0 <= number < num_classes or not (data.labels == number).any():
            problems.append(f"class {number} is not there; labels run from 0 to {num_classes - 1}.")
        elif number in found:
            problems.append(f"class {number} is named twice; name each once.")
        else:
            found.append(number)
    if not wanted:
        problems.append("no class is named; name at least one to forget.")
    raise_all(problems, SplitError)
    return sorted(found)


def _positions(ids: str | Path | Iterable[str | int], data: Data, keep: Tensor) -> Tensor:
    if isinstance(ids, str | Path):
        wanted = read_ids(ids, SplitError)
    else:
        wanted = [str(i) for i in ids]
    known = data.ids if data.ids is not None else np.arange(len(data)).astype(str)
    order = np.argsort(known, kind="stable")
    asked, times = np.unique(np.asarray(wanted, dtype=str), return_counts=True)
    alike = asked.astype(known.dtype) if isinstance(known.dtype, np.dtypes.StringDType) else asked
    low, high = (np.searchsorted(known[order], alike, side=side) for side in ("left", "right"))
    position = order[np.minimum(low, len(known) - 1)]
    unseen = asked[(high - low == 1) & ~keep.numpy()[position]]
    texts = [
        ("is unknown; check it against the data's ids", asked[high == low]),
        ("is asked for twice; name each once", asked[times > 1]),
        ("belongs to several samples; give the data unique ids", asked[high - low > 1]),
        (
            "lies in the validation set, which the original model never saw; leave it out or draw without validation",
            unseen,
        ),
    ]
    problems = [
        f"{len(found)} id(s) like '{found[0]}': each {text} (first: {found[:5].tolist()})."
        for text, found in texts
        if len(found)
    ]
    raise_all(problems, SplitError)
    named = torch.zeros(len(data), dtype=torch.bool)
    named[torch.from_numpy(position)] = True
    return named


def _finish(
    train: Data,
    test: Data,
    keep: Tensor,
    held: Tensor,
    named: Tensor,
    withheld: Tensor,
    classes: list[int],
    scenario: str,
    goal: Goal,
    spec: dict[str, Any],
) -> Split:
    retain = keep & ~named & ~withheld
    forgotten = torch.isin(test.labels, torch.tensor(classes, dtype=torch.int64))
    problems = []
    if not named.any():
        problems.append("the forget set is empty; name at least one training sample.")
    if not retain.any():
        problems.append(
            "the retain set is empty: forgetting everything is training a new model; keep at least one sample."
        )
    if forgotten.all():
        problems.append("the test set has only forgotten classes; give test samples of the retained ones.")
    if train.ids is not None and test.ids is not None:
        both = np.intersect1d(train.ids[named.numpy()], test.ids)
        if len(both):
            problems.append(
                f"{len(both)} ids are in the forget and in the test set (first: {both[:5].tolist()}); remove them from one."
            )
    raise_all(problems, SplitError)
    _warn_of_copies(train, test, named)
    at = lambda where, data: Samples(data, where.nonzero()[:, 0])  # noqa: E731
    return Split(
        at(named, train),
        at(retain, train),
        at(held, train),
        at(~forgotten, test),
        at(forgotten, test),
        at(withheld, train),
        int(train.labels.max()) + 1,
        scenario,
        goal,
        spec,
        tuple(classes),
    )


def _warn_of_copies(train: Data, test: Data, named: Tensor) -> None:
    if not (
        isinstance(train, TensorData)
        and isinstance(test, TensorData)
        and isinstance(train.x, Tensor)
        and isinstance(test.x, Tensor)
    ):
        return
    copies = len(_rows(train.x[named]) & _rows(test.x)) if train.x.dtype == test.x.dtype else 0
    if copies:
        warnings.warn(
            f"{copies} forget samples also stand in the test set, byte for byte: their forgetting cannot be judged on it.",
            stacklevel=4,
        )


def _rows(x: Tensor) -> set[bytes]:
    return {hashlib.blake2b(r.tobytes(), digest_size=8).digest() for r in x.cpu().flatten(1).numpy()}


def _digest(*parts: str | Tensor) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(
            json.dumps(part).encode()
            if isinstance(part, str)
            else f"{len(part)}:".encode() + part.to(torch.int64).numpy().tobytes()
        )
    return digest.hexdigest()
