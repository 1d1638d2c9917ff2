"""`SplitSets`: the sets of one run, their sizes and their hashes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Self

import torch
from torch import Tensor

from ..summaries import short, summary
from .samples import Samples

Goal = Literal["untrain", "unlearn"]


@dataclass(frozen=True, eq=False)
class SplitSets:
    """Hold the sets of one run. `Split` draws them.

    Args:
        forget: Training samples to forget. They are exactly those that were requested.
        retain: Training samples to keep.
        validation: Samples that no model is trained on. Tuning uses them.
        test: Test samples. After a class request they have no sample of the forgotten classes.
        test_forgotten: Test samples of the forgotten classes.
        withheld: Training samples of the forgotten classes that the method does not get. They exist if goal is "unlearn"
            and only a share of each class was requested.
        num_classes: Number of classes.
        scenario: "class", "part of a class", "random", "ids" or "group".
        goal: "untrain" to remove the influence of the samples, "unlearn" to remove the ability.
        spec: How the split was drawn.
        forget_classes: Numbers of the forgotten classes of a class request.
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

    def __repr__(self) -> str:
        classes = f", classes {list(self.forget_classes)}" if self.forget_classes else ""
        return summary(
            f"{type(self).__name__}({self.scenario}, goal {self.goal}{short(classes)})",
            ", ".join(f"{name} {size:,}" for name, size in self.sizes.items()),
            f"data {self.forget.data!r}",
        )

    @property
    def train(self) -> Samples:
        """The samples that the original is trained on, in data order: forget, retain and withheld."""
        return Samples(
            self.forget.data,
            torch.cat([self.forget.index, self.retain.index, self.withheld.index]).sort().values,
        )

    @property
    def for_original(self) -> Self:
        """The split to train an original with: its retain set is all of `train`, and nothing is withheld."""
        nothing = Samples(self.withheld.data, torch.empty(0, dtype=torch.int64))
        return replace(self, retain=self.train, withheld=nothing)

    @cached_property
    def train_hash(self) -> str:
        """SHA-256 (hex) of `train`. It is equal for all forget sets with the same validation set."""
        return hash_parts(self.forget.data.fingerprint(), self.train.index)

    @property
    def preparation(self) -> str:
        """How the inputs of training and test data are prepared. The hashes do not contain it."""
        return f"{self.retain.data.preparation}; test: {self.test.data.preparation}"

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of the whole split: the content of the data and the positions of each set."""
        sets = [self.forget, self.retain, self.validation, self.test, self.test_forgotten, self.withheld]
        return hash_parts(
            self.forget.data.fingerprint() + self.test.data.fingerprint() + self.goal,
            *(s.index for s in sets),
        )

    @property
    def sizes(self) -> dict[str, int]:
        """Number of samples of each set."""
        names = ("forget", "retain", "validation", "test", "test_forgotten", "withheld")
        return {name: len(getattr(self, name)) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """Return what a record stores of the split: how it was drawn, sizes and hashes, but no ids."""
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


def hash_parts(*parts: str | Tensor) -> str:
    """Return the SHA-256 (hex) of texts and positions (n,). The encoding separates the parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(
            json.dumps(part).encode()
            if isinstance(part, str)
            else f"{len(part)}:".encode() + part.to(torch.int64).numpy().tobytes()
        )
    return digest.hexdigest()
