"""What is forgotten, what is kept, and what both are judged on: drawn once, named by a content hash.

The validation set is drawn first, from the seed alone, so that one original model, trained on everything else, serves
every forget set. The published code of SalUn draws it twice with two seeds, so that a tenth of its forget set was
never seen by the model that should forget it; here the hash of what the original was trained on travels with its
checkpoint and is asserted on load.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import SplitError
from .samples import Samples
from .split_parts import (
    Goal,
    Pool,
    begin,
    check_sets,
    class_numbers,
    digest,
    in_group,
    listed,
    positions,
    share_of,
    warn_of_copies,
)

__all__ = ["Goal", "Split"]


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
        """Forget one or several classes, by number or name; a text is a number where no class has that name.

        With `share` below 1 only that part of each class is named: under goal "unlearn" the rest is withheld from the
        method and from the reference, under "untrain" it is retained. Raises `SplitError` with every problem.
        """
        if share > 1:
            raise SplitError(f"a share of a class is above 0 and at most 1; {share} came.")
        pool = begin(train, test, validation, seed, goal)
        labels = pool.train.labels
        wanted = [forget] if isinstance(forget, str) or not isinstance(forget, Iterable) else list(forget)
        classes = class_numbers(wanted, pool.train, int(labels.max()) + 1)
        of_class = torch.isin(labels, torch.tensor(classes)) & pool.keep
        named = of_class if share == 1 else share_of(of_class, share, seed, per_class=labels)
        spec = {"forget": classes, "share": share}
        if share < 1 and goal == "untrain":
            return _finish(pool, named, "part of a class", spec)
        return _finish(pool, named, "class", spec, withheld=of_class & ~named, classes=classes)

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
        """Forget a random share of the training samples, or exactly `count` of them.

        Raises `SplitError` for a share or count that cannot be drawn, and for data that no split can be made of.
        """
        pool = begin(train, test, validation, seed, goal)
        named = share_of(pool.keep, share, seed, count=count)
        return _finish(pool, named, "random", {"share": None if count else share, "count": count})

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
        """Forget the samples with these ids (of `Data.ids`, else positions): a list, or a text file with one a line.

        Raises `SplitError` with every id that is unknown, named twice, or held out for validation.
        """
        pool = begin(train, test, validation, seed, goal)
        named = positions(ids, pool)
        return _finish(pool, named, "ids", {"count": int(named.sum())})

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
        """Forget the samples whose `Data.groups[column]` is one of `values`.

        Raises `SplitError` for a column or value that is not there, and for data that no split can be made of.
        """
        pool = begin(train, test, validation, seed, goal)
        spec = {"column": column, "values": listed(values)}
        return _finish(pool, in_group(column, values, pool), "group", spec)

    # ---- what was drawn

    @property
    def train(self) -> Samples:
        """What the original model was trained on: forget + retain (+ withheld), in data order."""
        return Samples(
            self.forget.data,
            torch.cat([self.forget.index, self.retain.index, self.withheld.index]).sort().values,
        )

    @property
    def for_original(self) -> Split:
        """This split as an original is trained on it: its retain set is all of `train`, and nothing is withheld."""
        nothing = Samples(self.withheld.data, torch.empty(0, dtype=torch.int64))
        return replace(self, retain=self.train, withheld=nothing)

    @cached_property
    def train_hash(self) -> str:
        """SHA-256 (hex) of the training samples: the same for every forget set with the same validation draw."""
        return digest(self.forget.data.fingerprint(), self.train.index)

    @property
    def preparation(self) -> str:
        """How the inputs of both data are made ready (`Data.preparation`), which the hashes do not tell."""
        return f"{self.retain.data.preparation}; test: {self.test.data.preparation}"

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of the whole split: the data's content and the positions of each set."""
        sets = [self.forget, self.retain, self.validation, self.test, self.test_forgotten, self.withheld]
        return digest(
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


def _finish(
    pool: Pool,
    named: Tensor,
    scenario: str,
    spec: dict[str, Any],
    *,
    withheld: Tensor | None = None,
    classes: Sequence[int] = (),
) -> Split:
    """The split whose forget set are the training samples `named`, bool (N,) as `withheld`."""
    train, test, keep, held, settings = pool
    apart = named & False if withheld is None else withheld
    retain = keep & ~named & ~apart
    forgotten = torch.isin(test.labels, torch.tensor(list(classes), dtype=torch.int64))
    check_sets(pool, named, retain, forgotten)
    warn_of_copies(train, test, named)
    at = lambda where, data: Samples(data, where.nonzero()[:, 0])  # noqa: E731
    return Split(
        at(named, train),
        at(retain, train),
        at(held, train),
        at(~forgotten, test),
        at(forgotten, test),
        at(apart, train),
        int(train.labels.max()) + 1,
        scenario,
        settings["goal"],
        {"scenario": scenario, **spec, **settings},
        tuple(classes),
    )
